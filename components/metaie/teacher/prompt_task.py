"""What the tasks for spacy-llm share: a template, fenced texts, and answers written to docs."""

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Iterable, Self  # noqa: UP035  spacy-llm compares hints with typing's own

import jinja2
from spacy import util
from spacy.tokens import Doc

from ..spans import SPANS_KEY, set_answers
from .parsing import Parsed

OUTCOME = "metaie_outcome"
FAILED = "failed"
UNPLACED = "metaie_unplaced"
LINES = "metaie_lines"
OVERLAPS = "metaie_overlaps"


class PromptTask:
    """A task whose prompts a Jinja template makes, and whose answers are lines `- label: span`.

    template: is given `text`, and a `mark` that the text cannot contain by intent, to fence
        it with: the text is data, and must not pass as instructions.
    spans_key: the span group to write.
    sample: what else the template is given, in a form to try it with.
    """

    sample: ClassVar[dict[str, Any]] = {}

    def __init__(self, template: str, spans_key: str = SPANS_KEY) -> None:
        self.spans_key = spans_key
        self._set_template(template)

    def _set_template(self, template: str) -> None:
        # What is filled in is never compiled, so that braces in a text are only braces.
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        try:
            self._compiled = environment.from_string(template)
            self._compiled.render(text="text", mark="mark", **self.sample)
        except jinja2.TemplateError as err:
            names = [f"`{name}`" for name in ("text", "mark", *self.sample)]
            raise ValueError(
                f"The teacher's template is not usable ({err}). It is Jinja, given "
                f"{', '.join(names[:-1])} and {names[-1]}."
            ) from err
        self._template = template

    @property
    def prompt_template(self) -> str:
        """The template's source; spacy-llm's cache checks that it stays the same."""
        return self._template

    def fill_template(self, text: str, **values: Any) -> str:
        """The prompt for a text. Equal texts and values have equal prompts, always."""
        return self._compiled.render(text=text, mark=make_mark(text), **values)

    def write(self, doc: Doc, parsed: Parsed, answers: Iterable[Any]) -> None:
        """Write to the doc what its answers say, and to its `user_data` what was in them.

        There, "metaie_lines" is the number of lines, "metaie_unplaced" how many of them could
        not be used, by reason, and "metaie_overlaps" how many spans gave way to longer ones of
        the same label. "metaie_outcome" is there where an answer is not whole: "empty",
        "refused", "cut_off", "filtered" or "failed".
        """
        set_answers(doc, parsed.spans, parsed.queries, key=self.spans_key)
        outcomes = {getattr(answer, "outcome", "ok") for answer in answers} - {"ok"}
        if outcomes:
            doc.user_data[OUTCOME] = FAILED if FAILED in outcomes else min(outcomes)
        doc.user_data[LINES] = parsed.lines
        doc.user_data[UNPLACED] = dict(sorted(parsed.unplaced.items()))
        doc.user_data[OVERLAPS] = parsed.overlaps

    def get_cfg(self) -> dict[str, Any]:
        """The settings, for JSON."""
        return {"spans_key": self.spans_key, "template": self._template}

    def set_cfg(self, cfg: dict[str, Any]) -> None:
        """Take over the settings that `get_cfg` gave."""
        self.spans_key = cfg["spans_key"]
        self._set_template(cfg["template"])

    def _dump(self) -> str:
        return json.dumps(self.get_cfg())

    def _load(self, data: str) -> None:
        self.set_cfg(json.loads(data))

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The settings, as bytes."""
        return util.to_bytes({"cfg": lambda: self._dump().encode()}, exclude)

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> Self:
        """Take over the settings that `to_bytes` gave."""
        util.from_bytes(data, {"cfg": lambda b: self._load(b.decode())}, exclude)
        return self

    def to_disk(self, path: Path, *, exclude: Iterable[str] = ()) -> None:
        """Write the settings into the folder."""
        write = {"cfg": lambda p: p.write_text(self._dump(), encoding="utf-8")}
        util.to_disk(path, write, exclude)

    def from_disk(self, path: Path, *, exclude: Iterable[str] = ()) -> Self:
        """Take over the settings that `to_disk` wrote."""
        read = {"cfg": lambda p: self._load(p.read_text(encoding="utf-8"))}
        util.from_disk(path, read, exclude)
        return self


def make_mark(text: str) -> str:
    """Eight hexadecimal digits that a text does not contain unless by a hash's accident."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def read_template(name: str) -> str:
    """A template that comes with the package."""
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")
