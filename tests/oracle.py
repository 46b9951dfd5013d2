"""A large model that knows the text of `annotated.ROW`, and a config that asks it."""

from typing import Any, Iterable  # noqa: UP035  spacy-llm compares hints with typing's own

from spacy_llm.registry import registry

# What the model knows about the text of `ROW`, first and second queries.
KNOWN = {
    "person": ["Ada", "Bob"],
    "company": ["IBM"],
    "Ada works for": ["IBM"],
    "positive aspect": ["lab"],
}
ORACLE_CONFIG = """
[nlp]
lang = "en"
pipeline = ["asker"]

[components]

[components.asker]
factory = "llm"

[components.asker.task]
@llm_tasks = "metaie.QueriedLabels.v1"
max_labels = 2

[components.asker.model]
@llm_models = "test.Oracle.v1"
"""


@registry.llm_models("test.Oracle.v1")
def make_oracle() -> Any:
    def answer(prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        for group in prompts:
            answers = []
            for prompt in group:
                labels = prompt.split("The labels:\n\n")[1].split("\n\n")[0].split("\n")
                known = [(label[2:], KNOWN.get(label[2:], ["none"])) for label in labels]
                answers.append("\n".join(f"- {label}: {x}" for label, xs in known for x in xs))
            yield answers

    return answer
