"""A large model that knows the text of `annotated.ROW`, and a config that asks it."""

from typing import Any, Iterable  # noqa: UP035  spacy-llm compares hints with typing's own

from metaie.teacher.answer import Answer
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


# The prompts of each call of the model below.
NOTED: list[list[str]] = []


@registry.llm_models("test.Noted.v1")
def make_noted() -> Any:
    oracle = make_oracle()

    def answer(prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        groups = [list(group) for group in prompts]
        NOTED.append([prompt for group in groups for prompt in group])
        return oracle(groups)

    return answer


@registry.llm_models("test.Broken.v1")
def make_broken() -> Any:
    """Fails at a text with FAIL, and is cut off at "Bob"."""

    def answer(prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        for group in prompts:
            yield [
                Answer("", "failed")
                if "FAIL" in prompt
                else Answer("- person: Ada\n- person: Bo", "cut_off")
                if "Bob" in prompt
                else Answer("- person: Ada\nEND")
                for prompt in group
            ]

    return answer
