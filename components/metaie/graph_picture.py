"""A picture of a graph of relations."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .docbin import write_bytes
from .graph_building import check_found, clean_text, collapse, import_library
from .render import choose_colors, show_controls

if TYPE_CHECKING:
    from networkx import MultiDiGraph

# From this many nodes on, networkx needs scipy for a layout, and nobody could read the picture.
NODE_LIMIT = 500
LABEL_WIDTH = 25


# The formats of pictures, and the metadata that would make each differ from the last.
FORMATS: dict[str, dict[str, None]] = {
    ".svg": {"Date": None},
    ".png": {},
    ".pdf": {"CreationDate": None},
}
STYLE = {
    "svg.hashsalt": "metaie",
    # Text stays text, so that whoever shows it finds a font for every script.
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.usetex": False,
    "font.size": 8,
}


def draw_graph(graph: "MultiDiGraph", path: Path, max_nodes: int = 40) -> None:
    """Draw the entities that have the most relations, coloured by type; equal graphs give
    equal pictures.

    path: ends with .svg, .png or .pdf.
    max_nodes: how many entities are drawn; the title says of how many.

    Raises ValueError for another ending, or a graph without nodes.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"The picture {str(path)!r} must end with {', '.join(FORMATS)}.")
    if not 1 <= max_nodes < NODE_LIMIT:
        raise ValueError(f"max_nodes must be from 1 to {NODE_LIMIT - 1}, not {max_nodes}.")
    check_found(graph)
    matplotlib = import_library("matplotlib")
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Not every script's characters are in matplotlib's own font.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        suffix = path.suffix.lower()
        _draw(graph, max_nodes).savefig(
            file, format=suffix[1:], dpi=150, bbox_inches="tight", metadata=FORMATS[suffix]
        )
    write_bytes(path, file.getvalue())


def _draw(graph: "MultiDiGraph", max_nodes: int) -> Any:
    """The figure of the graph."""
    figure = import_library("matplotlib.figure").Figure()
    axes = figure.add_axes((0, 0, 1, 1))
    shown = _choose_nodes(graph, max_nodes)
    width = 6 + len(shown) ** 0.5
    figure.set_size_inches(width, 0.75 * width)
    axes.set_axis_off()
    axes.margins(0.05)
    # The middle of an arc is where it is expected only if both axes have one scale.
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(
        f"{len(shown):,} of {len(graph):,} entities"
        + (", those with the most relations" if len(shown) < len(graph) else "")
    )
    places = _place_nodes(shown)
    for x, y in places.values():
        axes.update_datalim([(x - 0.3, y - 0.3), (x + 0.3, y + 0.3)])
    _draw_nodes(axes, shown, places)
    _draw_edges(axes, shown, places)
    return figure


def _choose_nodes(graph: "MultiDiGraph", max_nodes: int) -> "MultiDiGraph":
    """The part of the graph between the nodes of the highest degrees, in the graph's order."""
    ranked = sorted(graph.degree(), key=lambda pair: -pair[1])
    kept = {name for name, _ in ranked[:max_nodes]}
    names = [name for name in graph if name in kept]
    shown = import_library("networkx").MultiDiGraph()
    shown.add_nodes_from((name, graph.nodes[name]) for name in names)
    shown.add_edges_from(edge for edge in graph.edges(names, data=True) if edge[1] in kept)
    return shown


def _place_nodes(graph: "MultiDiGraph") -> dict[str, tuple[float, float]]:
    """Where nodes are drawn: each connected part by itself, in rows, the largest first."""
    networkx = import_library("networkx")
    pulls = networkx.Graph()
    pulls.add_nodes_from(graph)
    for head, tail in graph.edges():
        # Else those with many relations would be drawn onto each other.
        pull = (graph.degree(head) * graph.degree(tail)) ** -0.5
        pulls.add_edge(head, tail, weight=pull)
    order = {name: i for i, name in enumerate(graph)}
    parts = [sorted(part, key=order.__getitem__) for part in networkx.connected_components(pulls)]
    parts.sort(key=lambda part: (-len(part), order[part[0]]))
    sides = [len(part) ** 0.7 for part in parts]
    row_width = max(*sides, 1.4 * sum(side**2 for side in sides) ** 0.5)
    places: dict[str, tuple[float, float]] = {}
    left = top = height = 0.0
    for part, side in zip(parts, sides, strict=True):
        if left + side > row_width:
            left, top, height = 0.0, top - height, 0.0
        own = networkx.Graph()
        own.add_nodes_from(part)
        own.add_edges_from(pulls.edges(part, data=True))
        spread = networkx.spring_layout(own, seed=0, scale=0.4 * side, iterations=200)
        for name, (x, y) in spread.items():
            places[name] = (left + side / 2 + float(x), top - side / 2 + float(y))
        left, height = left + side, max(height, side)
    return places


def _draw_nodes(axes: Any, graph: "MultiDiGraph", places: dict[str, tuple[float, float]]) -> None:
    names_by_type: dict[str, list[str]] = {}
    for name, data in graph.nodes(data=True):
        names_by_type.setdefault(data["type"], []).append(name)
        axes.annotate(
            show_label(data["label"]),
            places[name],
            (0, -7),
            textcoords="offset points",
            ha="center",
            va="top",
            zorder=4,
        )
    colors = choose_colors(names_by_type)
    handles = [
        axes.scatter(
            *zip(*(places[name] for name in names), strict=True),
            s=80,
            color=colors[kind][0],
            edgecolors="#444",
            linewidths=0.5,
            zorder=3,
        )
        for kind, names in names_by_type.items()
    ]
    # Labels that start with "_" would be left out.
    legend = axes.legend(handles, ["type"] * len(handles), loc="best", framealpha=0.7)
    for text, kind in zip(legend.get_texts(), names_by_type, strict=True):
        text.set_text(show_label(kind) or "no type")


def _draw_edges(axes: Any, graph: "MultiDiGraph", places: dict[str, tuple[float, float]]) -> None:
    """One arrow from a node to another, with the labels of all its relations."""
    labels: dict[tuple[str, str], list[str]] = {}
    for head, tail, label in graph.edges(data="label"):
        labels.setdefault((head, tail), []).append(show_label(label))
    for (head, tail), own in labels.items():
        (x, y), (to_x, to_y) = places[head], places[tail]
        # There and back are two arcs.
        bend, gap = (0.2 if (tail, head) in labels else 0.0), 5
        if head == tail:
            x, to_x, bend, gap = x - 0.05, x + 0.05, -4.0, 0
        axes.annotate(
            "",
            (to_x, to_y),
            (x, y),
            arrowprops={
                "arrowstyle": "-|>",
                "connectionstyle": f"arc3,rad={bend}",
                "color": "#999",
                "linewidth": 0.8,
                "shrinkA": gap,
                "shrinkB": gap,
            },
            zorder=1,
        )
        axes.text(
            (x + to_x) / 2 + bend / 2 * (to_y - y),
            (y + to_y) / 2 - bend / 2 * (to_x - x),
            "\n".join(own),
            ha="center",
            va="center",
            fontsize=6,
            color="#555",
            bbox={"boxstyle": "round,pad=0.1", "color": "white", "alpha": 0.7},
            zorder=2,
        )


def show_label(text: str, width: int = LABEL_WIDTH) -> str:
    """The text as a picture shows it: in one line, cut to the width, controls as escapes."""
    shown = clean_text(show_controls(collapse(text)))
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"
