"""A large model as a tagger: it is asked like any other, and certain of what it answers.

So whatever asks a `metaie` component can ask a large model: extraction, schemas, evaluation.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from ..decoding import TAGS, make_tags
from ..queries import Query
from ..spans import get_answers, set_queries
from ..teacher.prompt_task import OUTCOME
from .forward import Tagger


def build_llm_tagger(task: Any, model: Callable[[Iterable[Any]], Iterable[Any]]) -> Tagger:
    """Build `metaie.LLM.v1`: a tagger that asks a large model. It cannot be trained.

    task: `metaie.QueriedLabels.v1`. What is asked are the queries; its `labels` are not used.
    model: a model of spacy-llm, or a journal.
    """

    def forward(
        tagger: Tagger, queries: Sequence[Query], is_train: bool
    ) -> tuple[list[Floats2d], Callable[[Any], list]]:
        if is_train:
            raise ValueError(
                "A large model can't be trained here: train a pipeline with another architecture "
                "on what it answers."
            )
        return tag_queries(task, model, queries), lambda gradients: []

    return Model("metaie_llm", forward, dims={"nO": len(TAGS)}, attrs={"asks_together": True})


def tag_queries(
    task: Any, model: Callable[[Iterable[Any]], Iterable[Any]], queries: Sequence[Query]
) -> list[Floats2d]:
    """The tags of each query, with a probability of 1; what the model leaves open is O.

    Each window is asked all its labels together. Warns of prompts that brought no whole answer.
    """
    by_window: dict[tuple[int, int, int], list[int]] = {}
    for i, query in enumerate(queries):
        by_window.setdefault((id(query.doc), query.start, query.end), []).append(i)
    docs = []
    for numbers in by_window.values():
        doc = queries[numbers[0]].span.as_doc()
        set_queries(doc, [queries[i].label for i in numbers], task.spans_key)
        docs.append(doc)
    prompts = list(task.generate_prompts(docs))
    responses = model(of_doc for of_doc, _ in prompts)
    answered: Iterable[Doc] = task.parse_responses((docs for _, docs in prompts), responses)
    tags: dict[int, Floats2d] = {}
    outcomes: set[str] = set()
    for doc, numbers in zip(answered, by_window.values(), strict=True):
        answers = get_answers(doc, task.spans_key)
        if outcome := doc.user_data.get(OUTCOME):
            outcomes.add(outcome)
        for i in numbers:
            spans = [(span.start, span.end) for span in answers.get(queries[i].label, [])]
            tags[i] = make_tags(Query(doc, 0, len(doc), queries[i].label), spans)
    if outcomes:
        warnings.warn(
            f"Some prompts brought no whole answer ({', '.join(sorted(outcomes))}): what they "
            "asked counts as not found. With a journal before the model, the same command asks "
            "those that failed again, and no others.",
            stacklevel=2,
        )
    return [tags[i] for i in range(len(queries))]
