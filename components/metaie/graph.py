"""A knowledge graph of what many texts say: their relations merged, written for other tools.

Texts and labels may come from anywhere. Names of nodes and IRIs are percent-encoded, and what
XML cannot hold is replaced, so that every file can be read back.
"""

import importlib
import io
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from spacy.tokens import Doc, Span
from tqdm import tqdm

from .docbin import write_bytes
from .extract import InputFormat, check_paths, read_texts
from .loading import get_metaie, load_pipeline
from .render import choose_colors, show_controls
from .rows import shorten
from .tasks.families import read_schema
from .tasks.relations import RelationSchema
from .tasks.structure import add_structure

if TYPE_CHECKING:
    from networkx import MultiDiGraph

NAMESPACE = "http://example.org/"

# Docs that an edge names; its weight says how often it was found.
MAX_DOCS = 20
# From this many nodes on, networkx needs scipy for a layout, and nobody could read the picture.
NODE_LIMIT = 500
LABEL_WIDTH = 25

# What is no character of XML 1.0.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
NOT_IRI = re.compile(
    r"[\x00-\x20\x7f-\xa0\ud800-\udfff\ufffe\uffff<>\"{}|\\^`]|\s|%(?![0-9A-Fa-f]{2})"
)
URN = re.compile(r"urn:[a-z0-9][a-z0-9-]{0,31}:.+", re.IGNORECASE)

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


def graph(
    model: str,
    schema: Path,
    paths: Iterable[Path],
    *,
    output: Path,
    threshold: float | None = None,
    namespace: str = NAMESPACE,
    whole_files: bool = False,
    input_format: InputFormat = "auto",
    batch_size: int | None = None,
    gpu_id: int = -1,
) -> "MultiDiGraph":
    """Find a schema's relations in files, and write their graph into the folder `output`.

    schema: a file with a schema of relations.
    paths, whole_files, input_format, batch_size, gpu_id: as of `extract`.
    output: gets `graph.graphml`, `graph.ttl` and `graph.svg`.

    Raises FileNotFoundError, or ValueError for bad settings, for a bad row, and where no
    relation is found.
    """
    asked = read_schema(schema)
    if not isinstance(asked, RelationSchema):
        raise ValueError(
            f"A graph is made of relations, but the schema {str(schema)!r} is of the family "
            f"{asked.family!r}. Give one of 'relations'."
        )
    check_namespace(namespace)
    for library in ("networkx", "rdflib", "matplotlib"):
        _import(library)
    paths = list(paths)
    check_paths(paths)
    if output.exists() and not output.is_dir():
        raise ValueError(f"The output {str(output)!r} is a file: name a folder.")
    nlp = load_pipeline(model, threshold=threshold, gpu_id=gpu_id)
    add_structure(nlp, asked)
    key = get_metaie(nlp).key
    texts = (
        text for path in paths for text in read_texts(path, nlp, key, input_format, whole_files)
    )
    docs = nlp.pipe(texts, as_tuples=True, batch_size=batch_size)
    with tqdm(docs, unit=" texts", disable=None) as progress:
        built = build_graph(_set_ids(progress))
    check_found(built)
    write_graphml(built, output / "graph.graphml")
    write_turtle(built, output / "graph.ttl", namespace)
    draw_graph(built, output / "graph.svg")
    return built


def _set_ids(docs: Iterable[tuple[Doc, dict[str, Any]]]) -> Iterator[Doc]:
    """The docs, which take the ids of their rows."""
    for doc, extra in docs:
        if extra.get("id") is not None:
            doc.user_data["id"] = extra["id"]
        yield doc


def build_graph(docs: Iterable[Doc]) -> "MultiDiGraph":
    """Merge the relations of docs into a graph; docs are not held.

    A node is an entity: all mentions of one type whose texts are equal once `normalize`d. Its
    name is the type and that text, percent-encoded; its attributes are `label` (the most
    frequent form, with plain spaces), `type` and `mentions` (how many there are).

    An edge is a relation of two nodes, found once or more. Its key is the relation's label; its
    attributes are `label`, `weight` (how often it was found), `score` (the best one) and
    `docs`: the first docs that say so, by `doc.user_data["id"]` or by number from 0, in one
    string with spaces between them. White space within an id becomes "_".

    Mentions of nothing but white space are left out, with their relations.
    """
    networkx = _import("networkx")
    built = networkx.MultiDiGraph()
    forms: dict[str, Counter[str]] = {}
    sources: dict[tuple[str, str, str], list[str]] = {}
    for number, doc in enumerate(docs):
        source = _get_id(doc, number)
        mentions = set()
        for relation in doc._.relations:
            ends = (relation.head, relation.tail)
            if not all(normalize(span.text) for span in ends):
                continue
            head, tail = map(name_entity, ends)
            for span, name in zip(ends, (head, tail), strict=True):
                mention = (name, span.start, span.end)
                if mention not in mentions:
                    mentions.add(mention)
                    built.add_node(name, type=_collapse(span.label_))
                    forms.setdefault(name, Counter())[_collapse(span.text)] += 1
            label, score = _collapse(relation.label), float(relation.score)
            seen = sources.setdefault((head, label, tail), [])
            if source not in seen and len(seen) < MAX_DOCS:
                seen.append(source)
            old = built.get_edge_data(head, tail, label, {"weight": 0, "score": score})
            built.add_edge(
                head,
                tail,
                label,
                label=label,
                weight=old["weight"] + 1,
                score=max(old["score"], score),
                docs=" ".join(seen),
            )
    for name, data in built.nodes(data=True):
        # Of forms that are as frequent, a Counter names the first one first.
        [(form, _)] = forms[name].most_common(1)
        data.update(label=form, mentions=forms[name].total())
    return built


def _get_id(doc: Doc, number: int) -> str:
    """The doc's id without white space, or else its number."""
    own = doc.user_data.get("id")
    return "_".join(str(own).split()) if own is not None and str(own).strip() else str(number)


def _collapse(text: str) -> str:
    return " ".join(text.split())


def normalize(text: str) -> str:
    """What the texts of one entity's mentions share: NFKC, plain spaces, no upper case."""
    # Folding can leave a text that is not composed any more.
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _collapse(unicodedata.normalize("NFKC", folded))


def name_entity(span: Span) -> str:
    """The name of the node that a mention belongs to, as an IRI's path can hold it."""
    return f"{_quote(_collapse(span.label_))}/{_quote(normalize(span.text))}"


def _quote(text: str) -> str:
    quoted = quote(text, safe="", errors="replace")
    # As parts of a path, these two would lead elsewhere.
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


def clean_text(text: str) -> str:
    """Replace what XML 1.0 cannot hold, such as control characters, by U+FFFD."""
    return NOT_XML.sub("\ufffd", text)


def check_found(graph: "MultiDiGraph") -> None:
    """Raise ValueError for a graph without nodes."""
    if not len(graph):
        raise ValueError(
            "No relation was found, so the graph is empty. Lower the threshold, for instance with "
            "`--threshold 0.2`, or look whether the schema fits the texts."
        )


def write_graphml(graph: "MultiDiGraph", path: Path) -> None:
    """Write GraphML, which Gephi, yEd, Cytoscape and networkx read.

    Edges have numbers as ids, as these must be unique there; the relation is their `label`.
    What XML cannot hold is replaced by U+FFFD.
    """
    networkx = _import("networkx")
    clean = networkx.MultiDiGraph()
    clean.add_nodes_from((clean_text(name), _clean(data)) for name, data in graph.nodes(data=True))
    for i, (head, tail, data) in enumerate(graph.edges(data=True)):
        clean.add_edge(clean_text(head), clean_text(tail), f"e{i}", **_clean(data))
    file = io.BytesIO()
    networkx.write_graphml(clean, file)
    write_bytes(path, file.getvalue())


def _clean(data: dict[str, Any]) -> dict[str, Any]:
    return {
        name: clean_text(value) if isinstance(value, str) else value for name, value in data.items()
    }


def write_turtle(graph: "MultiDiGraph", path: Path, namespace: str = NAMESPACE) -> None:
    """Write RDF as Turtle: a triple a relation, and the entities with their types and labels.

    namespace: what all IRIs start with; `entity/`, `type/` or `relation/` follow, and then a
        percent-encoded name. Raises ValueError unless it ends in / or #.
    """
    check_namespace(namespace)
    rdflib = _import("rdflib")
    rdf, rdfs = rdflib.RDF, rdflib.RDFS
    triples = rdflib.Graph()
    triples.bind("relation", f"{namespace}relation/")

    def define(kind: str, name: str, label: str) -> Any:
        iri = rdflib.URIRef(f"{namespace}{kind}/{name}")
        triples.add((iri, rdfs.label, rdflib.Literal(clean_text(label))))
        return iri

    entities = {}
    for name, data in graph.nodes(data=True):
        # The names are encoded already, unless the graph was made elsewhere.
        entities[name] = define("entity", quote(name, safe="/%", errors="replace"), data["label"])
        if data["type"]:
            kind = define("type", _quote(data["type"]), data["type"])
            triples.add((entities[name], rdf.type, kind))
    for head, tail, label in graph.edges(data="label"):
        predicate = define("relation", _quote(label), label)
        triples.add((entities[head], predicate, entities[tail]))
    write_bytes(path, triples.serialize(format="turtle", encoding="utf-8"))


def check_namespace(namespace: str) -> None:
    """Raise ValueError unless IRIs can start with the namespace."""
    problem = None
    try:
        parts = urlsplit(namespace)
        absolute = bool(URN.fullmatch(namespace)) or (
            parts.scheme in ("http", "https") and bool(parts.hostname)
        )
    except ValueError:
        absolute = False
    if not absolute:
        problem = "is not an absolute IRI that starts with http://, https:// or urn:"
    elif bad := NOT_IRI.search(namespace):
        problem = f"holds {bad[0]!r}, which an IRI cannot"
    elif not namespace.endswith(("/", "#")):
        problem = "does not end with / or #"
    elif "#" in namespace[:-1]:
        problem = "has a # before its end"
    if problem:
        raise ValueError(
            f"The namespace {shorten(namespace)} {problem}. Give one such as '{NAMESPACE}'."
        )


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
    matplotlib = _import("matplotlib")
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
    figure = _import("matplotlib.figure").Figure()
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
    shown = _import("networkx").MultiDiGraph()
    shown.add_nodes_from((name, graph.nodes[name]) for name in names)
    shown.add_edges_from(edge for edge in graph.edges(names, data=True) if edge[1] in kept)
    return shown


def _place_nodes(graph: "MultiDiGraph") -> dict[str, tuple[float, float]]:
    """Where nodes are drawn: each connected part by itself, in rows, the largest first."""
    networkx = _import("networkx")
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
    shown = clean_text(show_controls(_collapse(text)))
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def _import(name: str) -> Any:
    """Import a library that only graphs need. Raises ValueError if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as err:
        raise ValueError(
            'The graph needs networkx, rdflib and matplotlib: pip install "metaie[graph]"'
        ) from err
