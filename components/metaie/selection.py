"""Active learning: the texts of a pool that are worth annotating next.

They are those that a trained pipeline is least sure of, and that differ from each other.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

import numpy
import srsly
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import minibatch
from tqdm import tqdm

from .diversity import choose_diverse, get_words, make_vectors
from .docbin import write_bytes
from .extract import InputFormat, check_paths, read_texts
from .loading import get_metaie, load_pipeline
from .rows import STDIN
from .spans import get_queries, has_queries
from .tasks.schema import Schema
from .texts import name_files
from .uncertainty import MEASURES, Measure

# both: the least sure texts, those among them that differ.
# diverse and random do not ask the pipeline before they have chosen.
Strategy = Literal["both", "uncertain", "diverse", "random"]

BATCH_SIZE = 64


@dataclass(frozen=True)
class Candidate:
    """A text that may be chosen.

    extra: other keys of its row.
    priority: those with the most are kept: the uncertainty, or a random number.
    doubts: the uncertainty of each label asked; none if the pipeline was not asked.
    """

    doc: Doc
    extra: dict[str, Any]
    priority: float
    doubts: dict[str, float] = field(default_factory=dict)

    @property
    def uncertainty(self) -> float:
        """The mean uncertainty of the labels, from 0 to 1."""
        return fmean(self.doubts.values())


def select(
    model: str,
    paths: Iterable[Path],
    output: Path,
    *,
    budget: int,
    labels: Iterable[str] = (),
    schema: Schema | None = None,
    strategy: Strategy = "both",
    measure: Measure = "entropy",
    max_queries: int = 0,
    candidates: int = 10,
    seed: int = 0,
    input_format: InputFormat = "auto",
    whole_files: bool = False,
    gpu_id: int = -1,
) -> int:
    """Choose texts of a pool, and write them to `output` as JSONL, the first chosen first.

    paths: the pool, as `extract` reads it.
    labels, schema: asked of texts that bring no queries; by default the model's own labels. Of
        a schema the first queries are asked.

    A row has "text", "id" (its own, or the file's name and the text's number), "queries" (the
    labels, the least sure first), "uncertainty", and what else its row in the pool had. The
    other settings are those of `choose`. Returns the number of texts.
    """
    paths, labels = list(paths), list(labels)
    if labels and schema:
        raise ValueError("Give labels or a schema, not both: the schema says what is asked.")
    check_paths(paths, output)
    nlp = load_pipeline(model, labels=schema.labels() if schema else labels, gpu_id=gpu_id)
    chosen = choose(
        nlp,
        read_pool(nlp, paths, input_format, whole_files),
        budget=budget,
        strategy=strategy,
        measure=measure,
        candidates=candidates,
        seed=seed,
    )
    rows = [make_row(candidate, max_queries) for candidate in chosen]
    write_bytes(output, "".join(f"{srsly.json_dumps(row)}\n" for row in rows).encode("utf-8"))
    return len(rows)


def read_pool(
    nlp: Language,
    paths: Iterable[Path],
    input_format: InputFormat = "auto",
    whole_files: bool = False,
) -> Iterator[tuple[Doc, dict[str, Any]]]:
    """Yield (doc, keys to pass through) of the texts that have words; all have an "id"."""
    key = get_metaie(nlp).key
    paths = list(paths)
    for path, name in zip(paths, name_files((path, path.parent) for path in paths), strict=True):
        name = "stdin" if path == STDIN else name
        texts = read_texts(path, nlp, key, input_format, whole_files)
        for number, (doc, extra) in enumerate(texts, start=1):
            if doc.text.strip():
                yield doc, {"id": f"{name}-{number}", **extra}


def choose(
    nlp: Language,
    texts: Iterable[tuple[Doc, dict[str, Any]]],
    *,
    budget: int,
    strategy: Strategy = "both",
    measure: Measure = "entropy",
    candidates: int = 10,
    seed: int = 0,
) -> list[Candidate]:
    """Choose texts, and say how unsure the pipeline is of each; equal texts count once.

    budget: how many to choose, at most.
    strategy: "uncertain" takes those that the pipeline is least sure of, "diverse" those that
        differ most, "both" weighs the two, "random" is what these are to be compared with.
    measure: of uncertainty; see `metaie.uncertainty`. A text's is the mean of its labels'.
    candidates: for "both" and "diverse", how many texts to choose among, a text of the budget;
        the least sure, or drawn at random. No others are held in memory; the pipeline's
        vocabulary grows by every word.
    seed: of what is drawn at random.

    Texts are read once, as they come. Texts that are asked nothing are left out. Raises
    ValueError for a bad setting, or if nothing is left.
    """
    check_settings(budget, candidates, strategy, measure)
    pipe = get_metaie(nlp)
    asked = (
        (doc, extra)
        for doc, extra in tqdm(texts, "Select", unit=" texts", disable=None)
        if (get_queries(doc, pipe.key) if has_queries(doc, pipe.key) else pipe.labels)
    )
    by_doubt = strategy in ("both", "uncertain")
    found = ask(nlp, asked, measure) if by_doubt else draw(asked, seed)
    kept = keep_best(found, budget if strategy in ("uncertain", "random") else budget * candidates)
    if not kept:
        raise ValueError("There are no texts to choose from, or none that is asked anything.")
    if strategy in ("both", "diverse"):
        weights = [one.priority if strategy == "both" else 1.0 for one in kept]
        vectors = make_vectors([get_words(one.doc) for one in kept])
        kept = [kept[i] for i in choose_diverse(vectors, numpy.array(weights), budget)]
    return kept if by_doubt else list(ask(nlp, ((one.doc, one.extra) for one in kept), measure))


def check_settings(budget: int, candidates: int, strategy: str, measure: str) -> None:
    """Raise ValueError for a setting that is out of range or unknown."""
    for name, number in (("budget", budget), ("number of candidates", candidates)):
        if number < 1:
            raise ValueError(f"The {name} must be 1 or more, not {number}.")
    for name, value, known in (
        ("strategy", strategy, get_args(Strategy)),
        ("measure", measure, tuple(MEASURES)),
    ):
        if value not in known:
            raise ValueError(f"The {name} must be one of {', '.join(known)}, not {value!r}.")


def ask(
    nlp: Language, texts: Iterable[tuple[Doc, dict[str, Any]]], measure: Measure
) -> Iterator[Candidate]:
    """Yield the texts with the pipeline's uncertainty, which is their priority."""
    pipe = get_metaie(nlp)
    for batch in minibatch(texts, BATCH_SIZE):
        docs = [doc for doc, _ in batch]
        asked = [
            get_queries(doc, pipe.key) if has_queries(doc, pipe.key) else list(pipe.labels)
            for doc in docs
        ]
        doubts: list[dict[str, float]] = [{} for _ in docs]
        for i, label, probs in pipe.predict_tags(docs, asked):
            doubts[i][label] = MEASURES[measure](probs)
        for (doc, extra), own in zip(batch, doubts, strict=True):
            yield Candidate(doc, extra, fmean(own.values()), own)


def draw(texts: Iterable[tuple[Doc, dict[str, Any]]], seed: int) -> Iterator[Candidate]:
    """Yield the texts with a random priority, which their words and the seed decide.

    So the order of a pool does not matter, and a text that comes twice is not drawn likelier.
    """
    key = str(seed).encode()[-64:]
    for doc, extra in texts:
        digest = blake2b(doc.text.encode("utf-8"), digest_size=8, key=key).digest()
        yield Candidate(doc, extra, int.from_bytes(digest, "big") / 2**64)


def keep_best(found: Iterable[Candidate], n: int) -> list[Candidate]:
    """The `n` candidates of most priority, in its order; of equal ones, and equal texts, the first.

    No more than `n` are held at a time.
    """
    heap: list[tuple[float, int, Candidate]] = []
    held: set[str] = set()
    for number, one in enumerate(found):
        if one.doc.text in held or (len(heap) == n and one.priority <= heap[0][0]):
            continue
        item = (one.priority, -number, one)
        if len(heap) < n:
            heapq.heappush(heap, item)
        else:
            held.remove(heapq.heapreplace(heap, item)[-1].doc.text)
        held.add(one.doc.text)
    return [one for *_, one in sorted(heap, key=lambda item: item[:2], reverse=True)]


def make_row(candidate: Candidate, max_queries: int = 0) -> dict[str, Any]:
    """What is written of a chosen text.

    max_queries: only so many labels, the least sure; 0 is all.
    """
    doubts = candidate.doubts
    labels = sorted(doubts, key=lambda label: -doubts[label])
    return {
        **candidate.extra,
        "text": candidate.doc.text,
        "queries": labels[: max_queries or None],
        "uncertainty": round(candidate.uncertainty, 4),
    }
