"""Soft tags: what a trained pipeline thinks of each token, for a smaller one to learn from.

Distillation after Hinton et al. (2015), arXiv 1503.02531: how sure the teacher is tells more
than its decision. It is also asked labels that nobody has annotated in a text, borrowed from
other texts, so that the student learns many more queries than there are annotations.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy
from spacy.tokens import Doc, Span
from spacy.util import minibatch
from tqdm import tqdm

from .decoding import TAGS, decode_spans, make_tags
from .docbin import read_docbin, write_docbin
from .loading import get_metaie, load_pipeline
from .queries import Query
from .spans import get_answers, get_queries, set_answers

BATCH_SIZE = 64


def soften(
    model: str,
    source: Path,
    target: Path,
    *,
    borrowed: int = 8,
    share: float = 0.5,
    limit: int = 0,
    max_length: int = 0,
    seed: int = 0,
    gpu_id: int = -1,
) -> int:
    """Add a trained pipeline's tag probabilities to annotated docs.

    model: the teacher, an installed pipeline or its folder.
    source, target: .spacy files.
    borrowed: how many labels of other docs to ask of each doc besides its own, the frequent
        ones more often. Their answers are the teacher's.
    share: what the teacher's opinion counts against the annotation, where there is one.
    limit: only the first docs; 0 is all. max_length: only docs of so many tokens; 0 is all.

    Returns the number of docs.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"The teacher's share must lie between 0 and 1, not be {share!r}.")
    nlp = load_pipeline(model, gpu_id=gpu_id)
    pipe = get_metaie(nlp)
    docs = [
        doc
        for doc in read_docbin(source, nlp.vocab, pipe.key)
        if 0 < len(doc) <= (max_length or len(doc))
    ][: limit or None]
    pool = [label for doc in docs for label in get_queries(doc, pipe.key)]
    rng = random.Random(seed)

    def add_tags() -> Iterator[Doc]:
        bar = tqdm(total=len(docs), unit="doc", desc="Soften")
        for batch in minibatch(docs, BATCH_SIZE):
            asked = [
                [*(own := get_queries(doc, pipe.key)), *borrow(own, pool, borrowed, rng)]
                for doc in batch
            ]
            tags = [
                numpy.zeros((len(labels), len(doc), len(TAGS)), dtype="float16")
                for labels, doc in zip(asked, batch, strict=True)
            ]
            order = [{label: i for i, label in enumerate(labels)} for labels in asked]
            answers = [get_answers(doc, pipe.key) for doc in batch]
            for i, label, probs in pipe.predict_tags(batch, asked):
                if label in answers[i]:
                    spans = [(span.start, span.end) for span in answers[i][label]]
                    gold = make_tags(Query(batch[i], 0, len(batch[i]), label), spans)
                    probs = share * probs + (1.0 - share) * gold
                else:
                    answers[i][label] = [
                        Span(batch[i], start, end, label=label)
                        for start, end, score in decode_spans(probs)
                        if score >= pipe.threshold
                    ]
                tags[i][order[i][label]] = probs
            for doc, labels, own_answers, own_tags in zip(batch, asked, answers, tags, strict=True):
                answered = [span for label in labels for span in own_answers[label]]
                set_answers(doc, answered, labels, key=pipe.key)
                doc.spans[pipe.key].attrs["tags"] = own_tags
                yield doc
            bar.update(len(batch))
        bar.close()

    return write_docbin(target, add_tags())


def borrow(own: list[str], pool: list[str], n_labels: int, rng: random.Random) -> list[str]:
    """Draw labels from a pool of all docs' labels, none that the doc has itself."""
    known = {label.lower() for label in own}
    drawn: dict[str, str] = {}
    for label in rng.choices(pool, k=4 * n_labels):
        if label.lower() not in known and len(drawn) < n_labels:
            drawn.setdefault(label.lower(), label)
    return list(drawn.values())
