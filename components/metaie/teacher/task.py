"""spacy-llm's task: ask for the important information of a text, read the answer."""

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Iterable  # noqa: UP035  spacy-llm compares hints with typing's own

import jinja2
from spacy import util
from spacy.tokens import Doc
from spacy_llm.registry import registry

from ..spans import SPANS_KEY, set_answers
from .parsing import parse_answer

TEMPLATE = "important_information.v1.jinja"
UNPLACED = "metaie_unplaced"
LINES = "metaie_lines"
OVERLAPS = "metaie_overlaps"


class ImportantInformation:
    """Asks for lines `- label: span` and writes them to the doc as its annotation.

    template: Jinja; it is given `text`, and a `mark` that the text cannot contain by
        intent, to fence it with: the text is data, and must not pass as instructions.
    spans_key: the span group to write.
    """

    def __init__(self, template: str, spans_key: str = SPANS_KEY) -> None:
        self.spans_key = spans_key
        self._set_template(template)

    def _set_template(self, template: str) -> None:
        # What is filled in is never compiled, so that braces in a text are only braces.
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        try:
            self._compiled = environment.from_string(template)
            self._compiled.render(text="text", mark="mark")
        except jinja2.TemplateError as err:
            raise ValueError(
                f"The teacher's template is not usable ({err}). It is Jinja, given `text` "
                "and `mark`."
            ) from err
        self._template = template

    @property
    def prompt_template(self) -> str:
        """The template's source; spacy-llm's cache checks that it stays the same."""
        return self._template

    def generate_prompts(self, docs: Iterable[Doc]) -> Iterable[str]:
        """Yield one prompt a doc."""
        for doc in docs:
            yield self.render(doc.text)

    def render(self, text: str) -> str:
        """The prompt for a text. Equal texts have equal prompts, always."""
        mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return self._compiled.render(text=text, mark=mark)

    # The hint is spacy-llm's convention for a task that does not cut docs into shards; what
    # arrives for a doc is a list of one response.
    def parse_responses(self, docs: Iterable[Doc], responses: Iterable[Any]) -> Iterable[Doc]:
        """Yield every doc, annotated. Whatever a response is, nothing is raised.

        `doc.user_data` gets the number of lines of the answer ("metaie_lines"), how many
        of them could not be used, by reason ("metaie_unplaced"), and how many spans gave
        way to longer ones of the same label ("metaie_overlaps").
        """
        for doc, response in zip(docs, responses, strict=True):
            if isinstance(response, list | tuple):
                response = response[0] if len(response) == 1 else None
            parsed = parse_answer(doc, response)
            set_answers(doc, parsed.spans, parsed.queries, key=self.spans_key)
            doc.user_data[LINES] = parsed.lines
            doc.user_data[UNPLACED] = dict(sorted(parsed.unplaced.items()))
            doc.user_data[OVERLAPS] = parsed.overlaps
            yield doc

    def _load(self, data: str) -> None:
        config = json.loads(data)
        self.spans_key = config["spans_key"]
        self._set_template(config["template"])

    def _dump(self) -> str:
        return json.dumps({"spans_key": self.spans_key, "template": self._template})

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The settings, as bytes."""
        return util.to_bytes({"cfg": lambda: self._dump().encode()}, exclude)

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> "ImportantInformation":
        """Take over the settings that `to_bytes` gave."""
        util.from_bytes(data, {"cfg": lambda b: self._load(b.decode())}, exclude)
        return self

    def to_disk(self, path: Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the settings into the folder."""
        write = {"cfg": lambda p: p.write_text(self._dump(), encoding="utf-8")}
        util.to_disk(path, write, exclude)

    def from_disk(self, path: Path, *, exclude: Iterable[str] = ()) -> "ImportantInformation":
        """Take over the settings that `to_disk` wrote."""
        read = {"cfg": lambda p: self._load(p.read_text(encoding="utf-8"))}
        util.from_disk(path, read, exclude)
        return self


def read_template() -> str:
    """The template that comes with the package."""
    return (files(__package__) / "templates" / TEMPLATE).read_text(encoding="utf-8")


@registry.llm_tasks("metaie.ImportantInformation.v1")
def make_important_information_task(
    template: str | None = None, spans_key: str = SPANS_KEY
) -> ImportantInformation:
    """Build `metaie.ImportantInformation.v1`.

    template: the text of a Jinja template, as `spacy.FileReader.v1` of spacy-llm reads it;
        None takes the one that comes with the package.
    spans_key: the span group that holds the annotation.
    """
    return ImportantInformation(read_template() if template is None else template, spans_key)
