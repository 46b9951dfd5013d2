"""Relations of many docs merged into a graph, whose names any file format can hold."""

import importlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from spacy.tokens import Doc, Span

if TYPE_CHECKING:
    from networkx import MultiDiGraph

# Docs that an edge names; its weight says how often it was found.
MAX_DOCS = 20

# What is no character of XML 1.0.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
    networkx = import_library("networkx")
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
                    built.add_node(name, type=collapse(span.label_))
                    forms.setdefault(name, Counter())[collapse(span.text)] += 1
            label, score = collapse(relation.label), float(relation.score)
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


def collapse(text: str) -> str:
    """The text with plain single spaces."""
    return " ".join(text.split())


def normalize(text: str) -> str:
    """What the texts of one entity's mentions share: NFKC, plain spaces, no upper case."""
    # Folding can leave a text that is not composed any more.
    folded = unicodedata.normalize("NFKC", text).casefold()
    return collapse(unicodedata.normalize("NFKC", folded))


def name_entity(span: Span) -> str:
    """The name of the node that a mention belongs to, as an IRI's path can hold it."""
    return f"{quote_name(collapse(span.label_))}/{quote_name(normalize(span.text))}"


def quote_name(text: str) -> str:
    """The text percent-encoded, as one part of an IRI's path."""
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


def import_library(name: str) -> Any:
    """Import a library that only graphs need. Raises ValueError if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as err:
        raise ValueError(
            'The graph needs networkx, rdflib and matplotlib: pip install "metaie[graph]"'
        ) from err
