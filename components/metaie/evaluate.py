"""Evaluation of a pipeline on annotated docs, whatever their labels.

`spacy evaluate` asks every doc the pipeline's own `labels`; here each doc is asked
what it is annotated for.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch
from tqdm import tqdm
from wasabi import Printer, table

from .corpus import create_corpus
from .loading import get_metaie, load_pipeline
from .pipe import Prediction
from .scoring import Scores, get_offsets
from .spans import get_queries, has_queries

SWEEP = tuple(round(0.05 * i, 2) for i in range(1, 20))
BATCH_SIZE = 64


def load_examples(
    model: str,
    data: Path,
    *,
    threshold: float | None = None,
    limit: int = 0,
    gpu_id: int = -1,
) -> tuple[Language, list[Example]]:
    """Load a pipeline, and annotated docs for it.

    data: a .spacy file, or a folder of them. limit: only the first docs; 0 is all.
    Raises ValueError if either cannot be loaded.
    """
    nlp = load_pipeline(model, threshold=threshold, gpu_id=gpu_id)
    corpus = create_corpus(data, spans_key=get_metaie(nlp).key, limit=limit)
    return nlp, list(corpus(nlp))


def evaluate(
    nlp: Language,
    examples: Iterable[Example],
    *,
    thresholds: Sequence[float] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Score exact spans over all queries of the examples, absences included.

    examples: their predicted docs bring the queries, as `metaie.Corpus.v1` makes them.
    thresholds: further thresholds at which to score, for `results["sweep"]`.

    Returns {"f", "p", "r", "macro_f", "false_answers", "threshold", "docs", "queries",
    "absences", "per_label", "per_genre", "sweep"}; shares lie in [0, 1]. Genres are
    those of `doc.user_data["genre"]`. Raises ValueError if there are no examples.
    """
    examples = list(examples)
    if not examples:
        raise ValueError("There are no docs to evaluate on.")
    pipe = get_metaie(nlp)
    overall = [Scores() for _ in (pipe.threshold, *thresholds)]
    genres: dict[str, Scores] = defaultdict(Scores)
    with nlp.select_pipes(disable=[name for name, p in nlp.pipeline if p is pipe]):
        bar = tqdm(total=len(examples), unit="doc", desc="Evaluate", disable=not progress)
        for batch in minibatch(examples, BATCH_SIZE):
            docs = list(nlp.pipe(eg.predicted for eg in batch))
            for i, predictions in enumerate(pipe.predict_at(docs, [pipe.threshold, *thresholds])):
                for eg, doc, prediction in zip(batch, docs, predictions, strict=True):
                    counts = [overall[i]]
                    if i == 0 and "genre" in eg.reference.user_data:
                        counts.append(genres[eg.reference.user_data["genre"]])
                    count_doc(counts, eg.reference, doc, prediction, pipe.key)
            bar.update(len(batch))
        bar.close()
    scores = overall[0]
    return {
        **scores.to_dict(),
        "threshold": pipe.threshold,
        "docs": len(examples),
        "queries": scores.queries,
        "absences": scores.absences,
        "per_label": {
            label: {**prf.to_dict(), "gold": prf.tp + prf.fn} for label, prf in by_gold(scores)
        },
        "per_genre": {
            genre: {**own.to_dict(), "queries": own.queries}
            for genre, own in sorted(genres.items(), key=lambda item: -item[1].queries)
        },
        "sweep": [
            {"threshold": threshold, **own.to_dict()}
            for threshold, own in zip(thresholds, overall[1:], strict=True)
        ],
    }


def count_doc(
    counts: Iterable[Scores], reference: Doc, doc: Doc, prediction: Prediction, key: str
) -> None:
    """Add one doc's queries to every one of the counts."""
    if not has_queries(reference, key):
        return
    gold = get_offsets(reference, key)
    guess: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for start, end, label, _ in prediction.answers:
        guess[label].add((doc[start].idx, doc[end - 1].idx + len(doc[end - 1])))
    for label in get_queries(reference, key):
        for scores in counts:
            scores.add(label, gold.get(label, set()), guess.get(label, set()))


def by_gold(scores: Scores) -> list[tuple[str, Any]]:
    """The labels' scores, those with the most gold spans first."""
    return sorted(scores.per_label.items(), key=lambda item: -(item[1].tp + item[1].fn))


def format_results(results: dict[str, Any], n_rows: int = 15) -> str:
    """Tables for the terminal: overall, most frequent labels, genres, thresholds."""

    def percent(value: float) -> str:
        return f"{100 * value:.1f}"

    def figures(own: dict[str, Any], *names: str) -> list[str]:
        return [percent(own[name]) for name in names]

    def make(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
        aligns: list[Literal["l", "r", "c"]] = ["l"]
        aligns += ["r" for _ in header[1:]]
        divider = Printer(no_print=True).divider(title)
        return f"{divider}\n{table(rows, header=header, divider=True, aligns=aligns)}"

    names = ("f", "p", "r", "macro_f", "false_answers")
    parts = [
        make(
            f"{results['docs']} docs, {results['queries']} queries, "
            f"{results['absences']} of them without an answer",
            ("threshold", "F1", "P", "R", "macro F1", "false answers"),
            [[results["threshold"], *figures(results, *names)]],
        ),
        make(
            "Most frequent labels",
            ("label", "F1", "P", "R", "gold spans"),
            [
                [label[:40], *figures(own, "f", "p", "r"), own["gold"]]
                for label, own in list(results["per_label"].items())[:n_rows]
            ],
        ),
    ]
    if results["per_genre"]:
        parts.append(
            make(
                "Largest genres",
                ("genre", "F1", "P", "R", "false answers", "queries"),
                [
                    [genre[:40], *figures(own, "f", "p", "r", "false_answers"), own["queries"]]
                    for genre, own in list(results["per_genre"].items())[:n_rows]
                ],
            )
        )
    if results["sweep"]:
        parts.append(
            make(
                "Thresholds",
                ("threshold", "F1", "P", "R", "macro F1", "false answers"),
                [[own["threshold"], *figures(own, *names)] for own in results["sweep"]],
            )
        )
    return "\n".join(parts)


def plot_sweep(results: dict[str, Any], path: Path) -> None:
    """Draw precision against recall over the thresholds; the suffix sets the format.

    Needs matplotlib (`pip install "metaie[plot]"`). Raises ValueError without it, or
    if the results hold no sweep.
    """
    if not results["sweep"]:
        raise ValueError("There is nothing to plot: evaluate with `--sweep`.")
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise ValueError('The plot needs matplotlib: pip install "metaie[plot]"') from error
    recall = [100 * own["r"] for own in results["sweep"]]
    precision = [100 * own["p"] for own in results["sweep"]]
    figure, axes = pyplot.subplots(figsize=(6, 5), layout="constrained")
    axes.plot(recall, precision, marker="o", markersize=3)
    for x, y, own in list(zip(recall, precision, results["sweep"], strict=True))[1::2]:
        axes.annotate(f"{own['threshold']:g}", (x, y), (5, 3), textcoords="offset points", size=8)
    best = max(results["sweep"], key=lambda own: own["f"])
    axes.set_title(f"Best F1 {100 * best['f']:.1f} at threshold {best['threshold']:g}")
    axes.set_xlabel("Recall (%)")
    axes.set_ylabel("Precision (%)")
    axes.grid(alpha=0.3)
    figure.savefig(path)
    pyplot.close(figure)
