"""The pictures of a corpus's report, as SVG to be put into a page."""

import io
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from .corpus_statistics import CorpusStatistics, find_quantile, sort_counts
from .render import show_controls

TOP_LABELS = 25
LABEL_WIDTH = 40  # characters
BINS = 40

# Told apart also by those who do not see colours as most do (after Okabe and Ito).
BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#888888"
NUMBER = "{x:,.0f}"

STYLE: dict[str, Any] = {
    # Text stays text, so that whoever shows it finds a font for every script.
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def check_matplotlib() -> Any:
    """The module pyplot. Raises ValueError if it is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as err:
        raise ValueError('The plots need matplotlib: pip install "metaie[plot]"') from err
    return pyplot


def draw(title: str, plot: Callable[[Any], None], width: float = 5.4, height: float = 3.2) -> str:
    """Draw with a function that is given the axes; returns an <svg> element.

    title: what the picture shows, for those who do not see it.
    width, height: in inches; a page shows it as wide as there is room.
    """
    pyplot = check_matplotlib()
    import matplotlib

    file = io.StringIO()
    # Ids within an SVG are made of this, and must not be those of another in the page.
    style: Any = {**STYLE, "svg.hashsalt": title}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # Not every script's characters are in matplotlib's own font.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
        plot(axes)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    svg = file.getvalue()
    described = f'<svg role="img" aria-label="{escape(title)}"'
    return svg[svg.index("<svg") :].replace("<svg", described, 1)


def draw_labels(statistics: CorpusStatistics) -> str:
    """The most frequent labels, answered and not."""
    top = sort_counts(statistics.queries)[:TOP_LABELS]
    names = [shorten_label(label) for label, _ in top]
    absent = [statistics.absences[label] for label, _ in top]
    answered = [count - none for (_, count), none in zip(top, absent, strict=True)]

    def plot(axes: Any) -> None:
        places = range(len(top))
        axes.barh(places, answered, color=BLUE, label="answered")
        axes.barh(places, absent, left=answered, color=ORANGE, label="known absence")
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.grid(axis="x")
        axes.xaxis.set_major_formatter(NUMBER)
        axes.set_xlabel("passages that are asked the label")
        axes.legend(loc="lower right")

    # With less, there would be no room for the axes of a corpus without labels.
    height = max(1.2, 0.7 + 0.25 * len(top))
    return draw("The most frequent labels", plot, width=9.0, height=height)


def draw_ranks(statistics: CorpusStatistics) -> str:
    """How frequent the labels are, from the most to the least."""
    counts = sorted(statistics.queries.values(), reverse=True)
    # In a long tail, a point for each change of the count draws the same line.
    last = len(counts) - 1
    steps = [
        i
        for i, count in enumerate(counts)
        if i in (0, last) or count != counts[i - 1] or count != counts[i + 1]
    ]

    def plot(axes: Any) -> None:
        axes.loglog([i + 1 for i in steps], [counts[i] for i in steps], color=BLUE, linewidth=2)
        axes.minorticks_off()
        # The usual "10³" would need the mathematics that is off here.
        axes.xaxis.set_major_formatter(NUMBER)
        axes.yaxis.set_major_formatter(NUMBER)
        axes.grid(True)
        axes.set_xlabel("rank of the label")
        axes.set_ylabel("passages that are asked it")

    return draw("Frequency of labels by rank", plot)


def draw_kinds(statistics: CorpusStatistics) -> str:
    """The shares of labels by their number of words: of distinct labels, and of queries."""
    kinds = list(statistics.kinds())
    labels, queries = len(statistics.queries) or 1, statistics.queries.total() or 1

    def plot(axes: Any) -> None:
        places = range(len(kinds))
        for shift, name, color, shares in (
            (-0.2, "distinct labels", BLUE, [100 * kind.labels / labels for kind in kinds]),
            (0.2, "queries", ORANGE, [100 * kind.queries / queries for kind in kinds]),
        ):
            axes.bar([place + shift for place in places], shares, 0.4, color=color, label=name)
        axes.set_xticks(places, [kind.words for kind in kinds])
        axes.grid(axis="y")
        axes.set_xlabel("words in the label")
        axes.set_ylabel("%")
        axes.legend()

    return draw("Labels by their number of words", plot)


def draw_histogram(title: str, counts: Counter[int], unit: str, items: str = "passages") -> str:
    """How often each number occurs, with the median; what exceeds 99.5 % is left out, and said."""
    limit = find_quantile(counts, 0.995)
    width = max(1, -(-(limit + 1) // BINS))
    bins: Counter[int] = Counter()
    for number, count in counts.items():
        if number <= limit:
            bins[number // width] += count
    beyond = sum(count for number, count in counts.items() if number > limit)
    median = find_quantile(counts, 0.5)

    def plot(axes: Any) -> None:
        edges = [place * width + (width - 1) / 2 for place in sorted(bins)]
        axes.bar(edges, [bins[place] for place in sorted(bins)], 0.9 * width, color=BLUE)
        axes.axvline(median, color=ORANGE, linewidth=2, label=f"median {median:,}")
        if beyond:
            axes.plot([], [], " ", label=f"{beyond:,} above {limit:,}, at most {max(counts):,}")
        axes.grid(axis="y")
        axes.set_xlabel(unit)
        axes.set_ylabel(items)
        axes.yaxis.set_major_formatter(NUMBER)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(loc="upper right")

    return draw(title, plot)


def draw_answers(counts: Counter[int]) -> str:
    """The shares of queries by their number of spans; those without one are known absences."""
    most = 5
    total = counts.total() or 1
    folded: Counter[int] = Counter()
    for number, count in counts.items():
        folded[min(number, most)] += count
    names = ["none", *map(str, range(1, most)), f"{most} or more"]

    def plot(axes: Any) -> None:
        shares = [100 * folded[number] / total for number in range(most + 1)]
        bars = axes.bar(names, shares, color=[ORANGE, *[BLUE] * most])
        axes.bar_label(bars, [f"{share:.1f}" for share in shares], fontsize=9)
        axes.grid(axis="y")
        axes.margins(y=0.1)
        axes.set_xlabel("spans of the query")
        axes.set_ylabel("% of the queries")

    return draw("Spans a query", plot)


def draw_reasons(counts: Counter[str]) -> str:
    """How many lines of answers could not be used, by reason."""
    reasons = sort_counts(counts)

    def plot(axes: Any) -> None:
        names: Sequence[str] = [name.replace("_", " ") for name, _ in reasons]
        bars = axes.barh(range(len(names)), [count for _, count in reasons], color=GREY)
        axes.bar_label(bars, [f"{count:,}" for _, count in reasons], padding=3)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.grid(axis="x")
        axes.set_xlabel("lines")
        axes.xaxis.get_major_locator().set_params(integer=True)

    return draw("Lines not placed, by reason", plot, height=0.9 + 0.35 * len(reasons))


def shorten_label(label: str) -> str:
    """A label as a picture shows it: control characters as escapes, cut at 40 characters."""
    label = show_controls(label).replace("\n", " ").replace("\t", " ")
    return label if len(label) <= LABEL_WIDTH else f"{label[: LABEL_WIDTH - 1]}…"
