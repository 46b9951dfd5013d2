"""A knowledge graph of what many texts say: their relations merged, written for other tools.

Texts and labels may come from anywhere. Names of nodes and IRIs are percent-encoded, and what
XML cannot hold is replaced, so that every file can be read back.
"""

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from spacy.tokens import Doc
from tqdm import tqdm

from .docbin import write_bytes
from .extract import InputFormat, check_paths, read_texts
from .graph_building import build_graph, check_found, clean_text, import_library, quote_name
from .graph_picture import draw_graph
from .loading import get_metaie, load_pipeline
from .rows import shorten
from .tasks.families import read_schema
from .tasks.relations import RelationSchema
from .tasks.structure import add_structure

if TYPE_CHECKING:
    from networkx import MultiDiGraph

NAMESPACE = "http://example.org/"

NOT_IRI = re.compile(
    r"[\x00-\x20\x7f-\xa0\ud800-\udfff\ufffe\uffff<>\"{}|\\^`]|\s|%(?![0-9A-Fa-f]{2})"
)
URN = re.compile(r"urn:[a-z0-9][a-z0-9-]{0,31}:.+", re.IGNORECASE)


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
        import_library(library)
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


def write_graphml(graph: "MultiDiGraph", path: Path) -> None:
    """Write GraphML, which Gephi, yEd, Cytoscape and networkx read.

    Edges have numbers as ids, as these must be unique there; the relation is their `label`.
    What XML cannot hold is replaced by U+FFFD.
    """
    networkx = import_library("networkx")
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
    rdflib = import_library("rdflib")
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
            kind = define("type", quote_name(data["type"]), data["type"])
            triples.add((entities[name], rdf.type, kind))
    for head, tail, label in graph.edges(data="label"):
        predicate = define("relation", quote_name(label), label)
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
