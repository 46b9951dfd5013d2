"""spacy-llm's task: ask for the important information of a text, read the answer."""

from typing import Any, Iterable  # noqa: UP035  spacy-llm compares hints with typing's own

from spacy.tokens import Doc
from spacy_llm.registry import registry

from ..spans import SPANS_KEY
from .parsing import parse_answer
from .prompt_task import PromptTask, read_template

TEMPLATE = "important_information.v1.jinja"


class ImportantInformation(PromptTask):
    """Asks for lines `- label: span` and writes them to the doc as its annotation."""

    def generate_prompts(self, docs: Iterable[Doc]) -> Iterable[str]:
        """Yield one prompt a doc."""
        for doc in docs:
            yield self.render(doc.text)

    def render(self, text: str) -> str:
        """The prompt for a text. Equal texts have equal prompts, always."""
        return self.fill_template(text)

    # The hint is spacy-llm's convention for a task that does not cut docs into shards; what
    # arrives for a doc is a list of one response.
    def parse_responses(self, docs: Iterable[Doc], responses: Iterable[Any]) -> Iterable[Doc]:
        """Yield every doc, annotated; see `write`. Whatever a response is, nothing is raised."""
        for doc, response in zip(docs, responses, strict=True):
            if isinstance(response, list | tuple):
                response = response[0] if len(response) == 1 else None
            self.write(doc, parse_answer(doc, response), [response])
            yield doc


@registry.llm_tasks("metaie.ImportantInformation.v1")
def make_important_information_task(
    template: str | None = None, spans_key: str = SPANS_KEY
) -> ImportantInformation:
    """Build `metaie.ImportantInformation.v1`.

    template: the text of a Jinja template, as `spacy.FileReader.v1` of spacy-llm reads it;
        None takes the one that comes with the package.
    spans_key: the span group that holds the annotation.
    """
    return ImportantInformation(
        read_template(TEMPLATE) if template is None else template, spans_key
    )
