"""Annotated data from other formats, and back.

Read are JSONL in two shapes, token files, and DocBins:

    {"text": "Ada met Bob.", "spans": [{"start": 0, "end": 3, "label": "Person"}]}
    {"tokens": ["Ada", "met", "Bob", "."], "spans": [{"start": 0, "end": 1, "label": "Person"}]}
    Ada B-Person

Offsets count characters in the first and tokens in the second; `end` is exclusive.
Tokens are joined with single spaces. A row with both keys is of the first shape.
`id` and `genre` are kept in `doc.user_data`, other keys are ignored.

Every doc is asked all labels of the set, so that a label without a span in it is a
known absence; a row with "queries" of its own is asked these instead.

With a schema (see `metaie.tasks`), rows also hold relations, events, frames or triplets of
their spans, and a doc is asked what the schema asks about them. Written to JSONL, such docs
list what was asked about answers as "second_queries", and labels of spans that were not
asked as "unasked_labels".
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import spacy
import srsly
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training.iob_utils import biluo_tags_to_spans, iob_to_biluo

from .docbin import check_queries, read_docbin, write_bytes, write_docbin
from .rows import (
    BadRow,
    check_label,
    check_list,
    check_unicode,
    decode_line,
    get_row_queries,
    get_text,
    parse_row,
    read_lines,
    shorten,
)
from .spans import (
    SPANS_KEY,
    clean_labels,
    get_queries,
    get_scores,
    has_queries,
    set_answers,
)
from .tasks.annotated_rows import read_structures, write_structures
from .tasks.schema import Schema
from .tasks.training import SECOND, ask_schema, drop_second, get_second, list_unknown

KEPT = ("id", "genre")
# The labels of spans that are there for relations and the like alone.
UNASKED = "unasked_labels"
TAG = re.compile(r"O|[BILUES]-\S.*")
# The other common name of BILUO's last and unit.
BIOES = str.maketrans("ES", "LU")


@dataclass
class Report:
    """What was converted.

    labels: all labels asked, in order of first appearance.
    skipped: rows that were left out, by reason.
    unknown: labels and roles in the data that the schema does not name, and so were not used.
    """

    docs: int = 0
    spans: int = 0
    labels: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


def convert(
    source: Path,
    target: Path,
    *,
    lang: str = "en",
    key: str = SPANS_KEY,
    labels: Iterable[str] = (),
    schema: Schema | None = None,
    skip_bad: bool = False,
    tokens: bool = False,
) -> Report:
    """Convert annotated data; the files' names tell the formats.

    source: .jsonl, .spacy (or a folder of them), or else a token file: a token and its
        IOB, BIO, BILUO or BIOES tag in the first and last column, a blank line after
        each sentence.
    target: .spacy or .jsonl.
    lang: whose rules cut texts into tokens.
    key: the span group in DocBins.
    labels: asked of every doc that brings no queries; by default all that occur.
    schema: what to ask, instead of labels.
    skip_bad: leave out rows that cannot be used, and count them. A whole row is left
        out even if one span is bad: without it, the text would teach an absence.
    tokens: write JSONL in the shape of tokens.

    Raises ValueError for the first bad row, and if nothing is left to write.
    """
    if target.suffix not in (".spacy", ".jsonl"):
        raise ValueError(f"The output {str(target)!r} must end with .spacy or .jsonl.")
    if not source.exists():
        raise FileNotFoundError(f"There is no file {str(source)!r} to convert.")
    nlp = make_tokenizer(lang)
    fixed = clean_labels(labels)
    if fixed and schema:
        raise ValueError("Give labels or a schema, not both: the schema says what is asked.")
    report = Report()
    docs: list[Doc] = []
    for number, make_doc in _read(source, nlp, key, structures=schema is not None):
        try:
            doc = make_doc()
            if schema:
                report.unknown.update(list_unknown(schema, doc, key))
                ask_schema(schema, doc, key)
            docs.append(_check_labels(doc, fixed, key))
        except BadRow as err:
            if not skip_bad:
                unit = "doc" if is_docbin(source) else "line"
                raise err.at(source, number, unit) from None
            report.skipped[err.reason] += 1
    if not docs:
        raise ValueError(f"There is nothing to convert in {str(source)!r}: no row can be used.")
    if not schema:
        _ask_all(docs, fixed, key)
    report.docs = len(docs)
    report.spans = sum(len(doc.spans[key]) for doc in docs)
    report.labels = list(dict.fromkeys(label for doc in docs for label in get_queries(doc, key)))
    if target.suffix == ".spacy":
        write_docbin(target, docs)
    else:
        rows = (srsly.json_dumps(make_row(doc, key, tokens)) + "\n" for doc in docs)
        write_bytes(target, "".join(rows).encode("utf-8"))
    return report


def make_tokenizer(lang: str) -> Language:
    """A blank pipeline of the language. Raises ValueError where spaCy has none."""
    try:
        nlp = spacy.blank(lang)
    except ImportError as err:
        raise ValueError(
            f"There are no tokenization rules for the language {lang!r}: {err} Give a code such "
            "as 'en' or 'de', or 'xx' for any other language."
        ) from err
    # The limit protects parsers, which need memory by the square of a text's length.
    nlp.max_length = sys.maxsize
    return nlp


def is_docbin(path: Path) -> bool:
    """Whether the path is to be read as DocBins."""
    return path.suffix == ".spacy" or path.is_dir()


def read_annotated(
    source: Path, lang: str = "en", key: str = SPANS_KEY, skip_bad: bool = False
) -> Iterator[Doc]:
    """Yield annotated docs, with the relations, events and so on that rows hold.

    skip_bad: leave out rows that cannot be used. Raises ValueError for the first one otherwise.
    """
    if not source.exists():
        raise FileNotFoundError(f"There is no file {str(source)!r} of annotated data.")
    for number, make_doc in _read(source, make_tokenizer(lang), key, structures=True):
        try:
            yield make_doc()
        except BadRow as err:
            if not skip_bad:
                raise err.at(source, number, "doc" if is_docbin(source) else "line") from None


def _read(
    source: Path, nlp: Language, key: str, structures: bool = False
) -> Iterator[tuple[int, Callable[[], Doc]]]:
    """Yield (line or doc number, a function that makes the doc or raises BadRow)."""
    if is_docbin(source):
        for number, doc in enumerate(read_docbin(source, nlp.vocab, key, False), start=1):
            if key not in doc.spans:
                check_queries(doc, key, source)
            if structures:
                drop_second(doc, key)
            yield number, partial(_keep, doc)
    elif source.suffix == ".jsonl":
        for number, line in read_lines(source):
            if line.strip():
                yield number, partial(_make_doc_from_line, line, nlp, key, structures)
    else:
        for number, lines in _group_sentences(source):
            yield number, partial(make_tagged_doc, lines, nlp, key)


def _keep(doc: Doc) -> Doc:
    return doc


def _group_sentences(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield (number of the first line, lines) of each sentence in a token file."""
    lines: list[bytes] = []
    number = 0
    for number, line in read_lines(path):
        if line.strip() and not line.startswith(b"-DOCSTART-"):
            lines.append(line)
        elif lines:
            yield number - len(lines), lines
            lines = []
    if lines:
        yield number - len(lines) + 1, lines


def _make_doc_from_line(line: bytes, nlp: Language, key: str, structures: bool) -> Doc:
    return make_doc(parse_row(line), nlp, key, structures)


def make_doc(
    row: dict[str, Any], nlp: Language, key: str = SPANS_KEY, structures: bool = False
) -> Doc:
    """Make an annotated doc of a row in either shape.

    structures: also read relations, events, frames and triplets.
    The doc has queries only if the row has. Raises BadRow.
    """
    if "text" in row:
        doc = nlp.make_doc(get_text(row))
        find_span = partial(_find_chars, doc)
    elif "tokens" in row:
        doc = _make_doc_from_tokens(check_list(row["tokens"], "tokens"), nlp)
        find_span = partial(_find_tokens, doc)
    else:
        raise BadRow(
            "neither text nor tokens",
            f"the row has neither 'text' nor 'tokens', but {shorten(sorted(row))}.",
        )
    if "spans" not in row:
        raise BadRow(
            "no spans",
            "the key 'spans' is missing. Write \"spans\": [] where the text holds no answer.",
        )
    spans = [_make_span(value, find_span) for value in check_list(row["spans"], "spans")]
    second = get_row_queries(row, SECOND)
    # Structures say what the answers to second queries are, and only they need the unasked.
    left_out = second if structures else get_row_queries(row, UNASKED)
    group = [span for span in spans if span.label_ not in left_out]
    doc.spans[key] = SpanGroup(doc, name=key, spans=group)
    if structures:
        read_structures(row, spans, doc)
    elif "queries" in row:
        _set_queries(doc, [*get_row_queries(row), *second], key)
        doc.spans[key].attrs[SECOND] = second
    doc.user_data.update(
        {name: row[name] for name in KEPT if isinstance(row.get(name), str | int | float)}
    )
    return doc


def _make_doc_from_tokens(tokens: list[Any], nlp: Language) -> Doc:
    for i, token in enumerate(tokens):
        if not check_unicode(token, f"token {i}" if isinstance(token, str) else "a token"):
            raise BadRow("empty token", f"token {i} is an empty string.")
    spaces = [i + 1 < len(tokens) for i in range(len(tokens))]
    return Doc(nlp.vocab, words=tokens, spaces=spaces)


def _make_span(value: object, find_span: Callable[[int, int, str], Span]) -> Span:
    """Make a span of {"start", "end", "label"}. Raises BadRow."""
    if not isinstance(value, dict):
        raise BadRow("span is not an object", f"a span is not a JSON object: {shorten(value)}")
    missing = [name for name in ("start", "end", "label") if name not in value]
    if missing:
        raise BadRow("span lacks a key", f"{missing} missing in the span {shorten(value)}")
    start, end = value["start"], value["end"]
    # JSON's true and false are ints to Python.
    if type(start) is not int or type(end) is not int:
        raise BadRow("span has no whole offsets", f"offsets must be integers: {shorten(value)}")
    if start >= end:
        raise BadRow("empty span", f"the span {shorten(value)} is empty: `end` is exclusive.")
    return find_span(start, end, check_label(value["label"]))


def _find_chars(doc: Doc, start: int, end: int, label: str) -> Span:
    text = doc.text
    _check_range(start, end, len(text), "characters")
    covered = f"{shorten(text[start:end])} ({start} to {end}, {label!r})"
    if text[start:end].isspace():
        raise BadRow("empty span", f"the span {covered} is nothing but white space.")
    span = doc.char_span(start, end, label=label)
    if span is None:
        wider = doc.char_span(start, end, alignment_mode="expand")
        assert wider is not None  # the range lies within the text
        raise BadRow(
            "span cuts a token",
            f"the span {covered} cuts a token: whole tokens there are {shorten(wider.text)} "
            f"({wider.start_char} to {wider.end_char}). Move its ends, choose another `--lang`, "
            "or leave such rows out with `--skip-bad`.",
        )
    return span


def _find_tokens(doc: Doc, start: int, end: int, label: str) -> Span:
    _check_range(start, end, len(doc), "tokens")
    return Span(doc, start, end, label=label)


def _check_range(start: int, end: int, length: int, unit: str) -> None:
    if start < 0 or end > length:
        raise BadRow(
            "span out of range", f"the span {start} to {end} lies outside of the {length} {unit}."
        )


def make_tagged_doc(lines: list[bytes], nlp: Language, key: str = SPANS_KEY) -> Doc:
    """Make an annotated doc of a sentence in a token file. Raises BadRow."""
    words: list[str] = []
    tags: list[str] = []
    for i, line in enumerate(lines):
        try:
            word, tag = _split_columns(decode_line(line))
        except BadRow as err:
            raise BadRow(err.reason, str(err), offset=i) from None
        words.append(word)
        tags.append(tag[0].translate(BIOES) + tag[1:])
    doc = _make_doc_from_tokens(words, nlp)
    spans = biluo_tags_to_spans(doc, iob_to_biluo(tags))
    doc.spans[key] = SpanGroup(doc, name=key, spans=spans)
    return doc


def _split_columns(line: str) -> tuple[str, str]:
    """The first and the last column. Only ASCII spaces and tabs part them: a token may
    hold others, such as the no-break space in a number.
    """
    columns = re.split("\t" if "\t" in line else " +", line.strip(" "))
    word, tag = columns[0], columns[-1].strip()
    if len(columns) < 2 or not word:
        raise BadRow(
            "no token or no tag",
            f"a token and a tag were expected, parted by white space: {shorten(line)}",
        )
    if not TAG.fullmatch(tag):
        raise BadRow(
            "not a tag",
            f"the last column of {shorten(line)} is {tag!r}, but tags look like 'O', 'B-Person' "
            "and 'I-Person' (or L-, U-, E-, S-).",
        )
    return word, tag


def _check_labels(doc: Doc, fixed: list[str], key: str) -> Doc:
    """Raise BadRow if the doc has no queries and a span's label is none of those given."""
    if fixed and not has_queries(doc, key):
        for span in doc.spans[key]:
            if span.label_ not in fixed:
                raise BadRow(
                    "label not among those given",
                    f"the span {shorten(span.text)} has the label {span.label_!r}, which is none "
                    f"of those given: {shorten(fixed)}",
                )
    return doc


def _ask_all(docs: Iterable[Doc], fixed: list[str], key: str) -> None:
    """Ask the docs that bring no queries all labels given, or else all that occur in them."""
    docs = [doc for doc in docs if not has_queries(doc, key)]
    occurring = (span.label_ for doc in docs for span in doc.spans[key])
    labels = fixed or list(dict.fromkeys(occurring))
    if docs and not labels:
        raise ValueError(
            "No row has a span, so it is not known which labels to ask: give them with "
            "`--label Person --label City` or `--labels FILE`."
        )
    for doc in docs:
        _set_queries(doc, labels, key)


def _set_queries(doc: Doc, queries: Iterable[str], key: str) -> None:
    """Ask the doc these labels. Raises BadRow if a span has another one."""
    try:
        set_answers(doc, list(doc.spans[key]), queries, get_scores(doc, key), key)
    except ValueError as err:
        raise BadRow("label not among the queries", f"{err}.") from None


def make_row(doc: Doc, key: str = SPANS_KEY, tokens: bool = False) -> dict[str, Any]:
    """The doc as a row, with its queries, its relations, events and so on, and, where a model
    predicted them, the scores of its spans.

    tokens: in the shape of tokens instead of characters.
    """
    row: dict[str, Any] = {name: doc.user_data[name] for name in KEPT if name in doc.user_data}
    row.update({"tokens": [token.text for token in doc]} if tokens else {"text": doc.text})
    spans = list(doc.spans[key])
    structures = write_structures(doc, spans)
    row["spans"] = [
        {
            "start": span.start if tokens else span.start_char,
            "end": span.end if tokens else span.end_char,
            "label": span.label_,
        }
        for span in spans
    ]
    scores = get_scores(doc, key)
    if scores is not None:
        # Those that only structures need come last, and have none.
        for span, score in zip(row["spans"], scores, strict=False):
            span["score"] = round(float(score), 4)
    queries, second = get_queries(doc, key), get_second(doc, key)
    row["queries"] = [label for label in queries if label not in second]
    unasked = dict.fromkeys(span.label_ for span in spans if span.label_ not in queries)
    row.update({name: list(own) for name, own in ((SECOND, second), (UNASKED, unasked)) if own})
    row.update(structures)
    return row
