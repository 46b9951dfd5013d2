"""A page about a corpus: what a teacher wrote, to be judged before a model learns from it."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup
from spacy.vocab import Vocab

from .corpus_statistics import CorpusStatistics, find_quantile, sort_counts
from .docbin import find_docbins, read_docbin, write_bytes
from .render import show_controls
from .report_plots import (
    check_matplotlib,
    draw_answers,
    draw_histogram,
    draw_kinds,
    draw_labels,
    draw_ranks,
    draw_reasons,
)
from .spans import SPANS_KEY

TEMPLATE = "report.html.jinja"
TOP_GENRES = 15


def write_report(
    paths: Iterable[Path], output: Path, *, key: str = SPANS_KEY, title: str = "Corpus report"
) -> CorpusStatistics:
    """Write a page about annotated docs, which needs nothing from elsewhere.

    paths: .spacy files, or folders of them; each file is a set of the name it has, and shards
        are one of their folder's name.
    key: the span group that holds the annotation.

    Needs matplotlib (`pip install "metaie[plot]"`). Raises ValueError without it, without any
    docs, and like `read_docbin`.
    """
    check_matplotlib()
    paths = list(paths)
    statistics = CorpusStatistics()
    for file in (file for path in paths for file in find_docbins(path)):
        name = file.parent.name if file.stem.isdecimal() else file.stem
        statistics.add(read_docbin(file, Vocab(), key), name, key)
    if not statistics.total.passages:
        raise ValueError(f"There are no docs in {', '.join(map(str, paths)) or 'no files'}.")
    write_bytes(output, render_report(statistics, title).encode("utf-8"))
    return statistics


def render_report(statistics: CorpusStatistics, title: str = "Corpus report") -> str:
    """The page, as HTML. Nothing in texts and labels becomes markup."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = show_controls
    environment.filters["share"] = lambda part, whole: f"{part / whole if whole else 0:.2%}"
    source = (files(__package__) / "templates" / TEMPLATE).read_text(encoding="utf-8")
    unplaced = statistics.total.unplaced
    plots = {
        "labels": draw_labels(statistics),
        "ranks": draw_ranks(statistics),
        "kinds": draw_kinds(statistics),
        "answers": draw_answers(statistics.spans_a_query),
        "spans": draw_histogram("Spans a passage", statistics.spans_a_passage, "spans"),
        "lengths": draw_histogram("Lengths of passages", statistics.tokens_a_passage, "tokens"),
        "span_lengths": draw_histogram(
            "Lengths of spans", statistics.tokens_a_span, "tokens", "spans"
        ),
        "reasons": draw_reasons(unplaced) if unplaced else "",
    }
    return environment.from_string(source).render(
        title=title,
        statistics=statistics,
        total=statistics.total,
        tokens=sum(n * count for n, count in statistics.tokens_a_passage.items()),
        once=sum(count == 1 for count in statistics.queries.values()),
        kinds=list(statistics.kinds()),
        unplaced=sort_counts(unplaced),
        outcomes=sort_counts(statistics.total.outcomes),
        genres=sort_counts(statistics.genres)[:TOP_GENRES],
        median=find_quantile(statistics.tokens_a_passage, 0.5),
        plots={name: Markup(svg) for name, svg in plots.items()},
    )
