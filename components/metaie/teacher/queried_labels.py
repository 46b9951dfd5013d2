"""spacy-llm's task: ask for the spans that answer labels which the user gives."""

import warnings
from typing import Any, Iterable, Tuple  # noqa: UP035  spacy-llm compares hints with typing's own

from pydantic import BaseModel, ConfigDict, ValidationError
from spacy.tokens import Doc
from spacy_llm.registry import registry
from spacy_llm.ty import ExamplesConfigType
from spacy_llm.util import split_labels

from ..spans import SPANS_KEY, clean_label, clean_labels, get_queries, has_queries
from .asked_labels import parse_asked
from .parsing import Parsed
from .prompt_task import PromptTask, make_mark, read_template

TEMPLATE = "queried_labels.v1.jinja"
UNKNOWN = "metaie_unknown"
# spacy-llm warns that a text is not cut where the model does not say what it can take. Here
# nothing but the labels is cut, and that always.
warnings.filterwarnings("ignore", message="Task supports sharding, but model does not provide")


class PromptExample(BaseModel):
    """An example for the prompt: a text, and the spans that answer each label, or an empty list."""

    model_config = ConfigDict(extra="forbid")

    text: str
    answers: dict[str, list[str]]

    def to_prompt(self) -> dict[str, Any]:
        """The example as a template takes it."""
        lines = [
            (label, span) for label, spans in self.answers.items() for span in spans or ["none"]
        ]
        return {"text": self.text, "mark": make_mark(self.text), "lines": lines}


class QueriedLabels(PromptTask):
    """Asks for lines `- label: span` of given labels and writes them to the doc.

    A doc's own queries win over `labels`. More than `max_labels` are asked in several prompts.

    labels: asked of docs that bring no queries.
    label_definitions: what labels mean, for the prompts that ask them.
    examples: for every prompt.

    The doc's queries become those whose answers are known; see `parse_asked`. The others are
    listed in `doc.user_data["metaie_unknown"]`. spacy-llm's own cache knows a doc by its words
    alone, whatever is asked: keep answers in a journal.
    """

    sample = {  # noqa: RUF012  never changed
        "labels": ["label"],
        "label_definitions": {"label": "definition"},
        "prompt_examples": [{"text": "text", "mark": "mark", "lines": [("label", "span")]}],
    }

    def __init__(
        self,
        template: str,
        labels: Iterable[str] = (),
        label_definitions: dict[str, str] | None = None,
        examples: Iterable[PromptExample] = (),
        max_labels: int = 30,
        spans_key: str = SPANS_KEY,
    ) -> None:
        super().__init__(template, spans_key)
        if max_labels < 1:
            raise ValueError(f"max_labels must be 1 or more, not {max_labels}.")
        self.max_labels = max_labels
        self.examples = list(examples)
        self._labels = clean_labels(labels)
        self.label_definitions = {
            clean_label(label): definition
            for label, definition in (label_definitions or {}).items()
        }

    @property
    def labels(self) -> Tuple[str, ...]:  # noqa: UP006  as spacy-llm has it
        """What is asked of docs that bring no queries."""
        return tuple(self._labels)

    def add_label(self, label: str, label_definition: str | None = None) -> int:
        """Add a label to those asked. Returns 1, or 0 if it was there."""
        label, before = clean_label(label), len(self._labels)
        self._labels = clean_labels([*self._labels, label])
        if label_definition is not None:
            self.label_definitions[label] = label_definition
        return len(self._labels) - before

    def clear(self) -> None:
        """Forget the labels and what they mean."""
        self._labels = []
        self.label_definitions = {}

    def get_groups(self, doc: Doc) -> list[list[str]]:
        """The labels that are asked of a doc, those of a prompt together.

        Raises ValueError if neither the doc nor the task says what to ask.
        """
        if not has_queries(doc, self.spans_key) and not self._labels:
            raise ValueError(
                f"It is not known what to ask of the text {doc.text[:60]!r}: set `labels` in the "
                "config of the task, or `doc._.queries`."
            )
        own = has_queries(doc, self.spans_key)
        asked = get_queries(doc, self.spans_key) if own else self._labels
        return [asked[i : i + self.max_labels] for i in range(0, len(asked), self.max_labels)]

    # The hints are spacy-llm's convention for a task that has several prompts a doc. There, each
    # prompt has a shard of the doc; here, the labels are cut, and each has the doc itself.
    def generate_prompts(
        self, docs: Iterable[Doc], context_length: int | None = None
    ) -> Iterable[Tuple[Iterable[Any], Iterable[Doc]]]:  # noqa: UP006
        """Yield the prompts of each doc, and the doc as often; a doc asked nothing has no prompt.

        context_length: not used, since texts are never cut.
        """
        for doc in docs:
            prompts = [self.render(doc.text, labels) for labels in self.get_groups(doc)]
            yield prompts, [doc] * max(len(prompts), 1)

    def render(self, text: str, labels: list[str]) -> str:
        """The prompt for a text and labels. Equal ones have equal prompts, always."""
        known = self.label_definitions
        return self.fill_template(
            text,
            labels=labels,
            label_definitions={label: known[label] for label in labels if label in known},
            prompt_examples=[example.to_prompt() for example in self.examples],
        )

    def parse_responses(
        self, shards: Iterable[Iterable[Doc]], responses: Iterable[Iterable[Any]]
    ) -> Iterable[Doc]:
        """Yield every doc, annotated; see `write`. Whatever a response is, nothing is raised."""
        for of_doc, answers in zip(shards, responses, strict=True):
            doc = next(iter(of_doc))
            groups = self.get_groups(doc)
            is_one = isinstance(answers, str) or not isinstance(answers, Iterable)
            given = [answers] if is_one else list(answers)
            # An answer too few or too many: whose is whose is not known.
            given = given if len(given) == len(groups) else [None] * len(groups)
            total = Parsed()
            for labels, answer in zip(groups, given, strict=True):
                parsed = parse_asked(doc, answer, labels)
                total.spans.extend(parsed.spans)
                total.queries.extend(parsed.queries)
                total.unplaced.update(parsed.unplaced)
                total.lines += parsed.lines
                total.overlaps += parsed.overlaps
            known = set(total.queries)
            doc.user_data[UNKNOWN] = [
                label for labels in groups for label in labels if label not in known
            ]
            total.spans.sort(key=lambda span: (span.start, span.end))
            self.write(doc, total, given)
            yield doc

    def get_cfg(self) -> dict[str, Any]:
        """The settings, for JSON."""
        return {
            **super().get_cfg(),
            "labels": self._labels,
            "label_definitions": self.label_definitions,
            "examples": [example.model_dump() for example in self.examples],
            "max_labels": self.max_labels,
        }

    def set_cfg(self, cfg: dict[str, Any]) -> None:
        """Take over the settings that `get_cfg` gave."""
        super().set_cfg(cfg)
        self._labels = cfg["labels"]
        self.label_definitions = cfg["label_definitions"]
        self.examples = [PromptExample.model_validate(example) for example in cfg["examples"]]
        self.max_labels = cfg["max_labels"]


@registry.llm_tasks("metaie.QueriedLabels.v1")
def make_queried_labels_task(
    labels: list[str] | str = [],
    label_definitions: dict[str, str] | None = None,
    examples: ExamplesConfigType = None,
    template: str | None = None,
    max_labels: int = 30,
    spans_key: str = SPANS_KEY,
) -> QueriedLabels:
    """Build `metaie.QueriedLabels.v1`.

    labels: asked of docs that bring no queries of their own; a list, or a string with commas.
    label_definitions: what labels mean, by label.
    examples: as `spacy.FewShotReader.v1` of spacy-llm reads them, each with a "text" and its
        "answers", the spans by label; an empty list says that there is none.
    template: the text of a Jinja template, as `spacy.FileReader.v1` reads it; None takes the one
        that comes with the package.
    max_labels: labels a prompt.
    spans_key: the span group that holds queries and annotation.

    Raises ValueError for an example that is none, or a bad setting.
    """
    return QueriedLabels(
        read_template(TEMPLATE) if template is None else template,
        split_labels(labels),
        label_definitions,
        [
            check_example(example)
            for example in (examples() if callable(examples) else examples or [])
        ],
        max_labels,
        spans_key,
    )


def check_example(example: object) -> PromptExample:
    """Raise ValueError unless the example has a text and its answers, and these are in it."""
    try:
        checked = PromptExample.model_validate(example)
    except ValidationError as err:
        raise ValueError(
            f'A prompt example needs a "text" and "answers", a list of spans for each label; '
            f"this does not do: {example!r:.200} ({err.error_count()} errors, the first at "
            f"{err.errors()[0]['loc']}: {err.errors()[0]['msg']})"
        ) from None
    clean_labels(checked.answers)
    for label, spans in checked.answers.items():
        for span in spans:
            if not span or span not in checked.text:
                raise ValueError(
                    f"The span {span!r} of {label!r} is not in the text of its prompt example, "
                    f"{checked.text[:80]!r}: copy it as it is there."
                )
    return checked
