"""Extraction from files: texts in, one JSON object a text out, as they come."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, TextIO

import srsly
from spacy.language import Language
from spacy.tokens import Doc
from tqdm import tqdm

from .convert import KEPT
from .docbin import read_docbin
from .loading import get_metaie, load_pipeline
from .rows import (
    STDIN,
    BadRow,
    decode_line,
    get_format,
    get_row_queries,
    get_text,
    parse_row,
    read_lines,
)
from .spans import get_scores, set_queries
from .tasks.schema import Schema
from .tasks.structure import MetaIEStructure, add_structure
from .tasks.structures import STRUCTURES, get_rows

# How inputs are read; "auto" goes by the ends of their names.
InputFormat = Literal["auto", "text", "jsonl", "spacy"]


def extract(
    model: str,
    paths: Iterable[Path],
    *,
    labels: Iterable[str] = (),
    schema: Schema | None = None,
    threshold: float | None = None,
    input_format: InputFormat = "auto",
    whole_files: bool = False,
    batch_size: int | None = None,
    n_process: int = 1,
    gpu_id: int = -1,
    output: Path | None = None,
) -> int:
    """Extract from files, and write a line of JSON a text to `output` or to stdout.

    paths: text (one text a line; empty lines are skipped), JSONL with "text", and
        perhaps "queries", in each row, either also as .gz or .zst; DocBins; `-` is
        standard input.
    labels: asked of texts that bring no queries; by default the model's own.
    schema: what to find instead, beyond single spans.
    whole_files: each text file is one text.
    batch_size, n_process: as of `nlp.pipe`.
    gpu_id: the GPU to run on; -1 is the CPU.

    Raises FileNotFoundError, or ValueError naming file and line of a bad row.
    Returns the number of texts.
    """
    if n_process > 1 and gpu_id >= 0:
        raise ValueError(f"{n_process} processes can't share a GPU: give one of them, not both.")
    paths, labels = list(paths), list(labels)
    check_question(labels, schema)
    check_paths(paths, output)
    nlp = load_extractor(model, labels, schema, threshold, gpu_id)
    key = get_metaie(nlp).key
    if n_process > 1:
        # Each process would else start as many threads as there are cores.
        import torch

        torch.set_num_threads(1)
    texts = (
        text for path in paths for text in read_texts(path, nlp, key, input_format, whole_files)
    )
    docs = nlp.pipe(texts, as_tuples=True, batch_size=batch_size, n_process=n_process)
    count = 0
    # A bar would break lines that are printed to the same terminal.
    hide = True if output is None and sys.stdout.isatty() else None
    with _open_output(output) as file, tqdm(unit=" texts", disable=hide) as progress:
        for doc, extra in docs:
            # Flushed, so that a reader at the other end sees every answer when it is there.
            print(srsly.json_dumps(make_record(doc, key, extra)), file=file, flush=True)
            progress.update()
            count += 1
    return count


def check_question(labels: list[str], schema: Schema | None) -> None:
    """Raise ValueError where both labels and a schema are given."""
    if labels and schema:
        raise ValueError("Give labels or a schema, not both: the schema says what is asked.")


def load_extractor(
    model: str,
    labels: Iterable[str] = (),
    schema: Schema | None = None,
    threshold: float | None = None,
    gpu_id: int = -1,
) -> Language:
    """Load a pipeline that asks the labels, or what the schema asks. See `load_pipeline`."""
    nlp = load_pipeline(model, labels=labels, threshold=threshold, gpu_id=gpu_id)
    if schema:
        add_structure(nlp, schema)
    return nlp


def read_texts(
    path: Path,
    nlp: Language,
    key: str,
    input_format: InputFormat = "auto",
    whole_files: bool = False,
) -> Iterator[tuple[Doc, dict[str, Any]]]:
    """Yield (doc, keys to pass through) of an input.

    Docs bring queries where their rows do. Raises ValueError naming file and line of a
    row that cannot be read, or that brings no queries if the pipeline has no labels.
    """
    if input_format == "auto":
        input_format = _guess_format(path)
    if input_format == "spacy":
        if path == STDIN:
            raise ValueError("A DocBin can't be read from standard input: give its path.")
        for doc in read_docbin(path, nlp.vocab, key, require_queries=not knows_labels(nlp)):
            for attr in STRUCTURES:
                # Those of its annotation: what is written are those that are found.
                doc.user_data.pop(f"metaie.{attr}", None)
            yield doc, {name: doc.user_data[name] for name in KEPT if name in doc.user_data}
        return
    lines = read_lines(path)
    if input_format == "text" and whole_files:
        lines = iter([(1, b"\n".join(line for _, line in lines))])
    make = parse_row if input_format == "jsonl" else read_text
    for number, line in lines:
        if not line.strip():
            continue
        try:
            text = make_text(make(line), nlp, key)
        except BadRow as err:
            raise err.at(path, number) from None
        yield text


def knows_labels(nlp: Language) -> bool:
    """Whether the pipeline has something to ask of texts that bring no queries."""
    return bool(get_metaie(nlp).labels) or any(
        isinstance(pipe, MetaIEStructure) for _, pipe in nlp.pipeline
    )


def make_text(row: dict[str, Any], nlp: Language, key: str) -> tuple[Doc, dict[str, Any]]:
    """(doc, keys to pass through) of a row with "text", and perhaps "queries". Raises BadRow."""
    doc = nlp.make_doc(get_text(row))
    if "queries" in row:
        set_queries(doc, get_row_queries(row), key)
    elif not knows_labels(nlp):
        raise BadRow(
            "no labels",
            "it is not known what to look for: the pipeline has no labels of its own. "
            "Give some with `--label Person --label City`, or `--labels FILE`.",
        )
    return doc, {
        name: value for name, value in row.items() if name not in ("text", "spans", *STRUCTURES)
    }


def _guess_format(path: Path) -> InputFormat:
    if path.suffix == ".spacy" or path.is_dir():
        return "spacy"
    return "jsonl" if get_format(path) == ".jsonl" else "text"


def read_text(line: bytes) -> dict[str, Any]:
    """The row of a line of text. Raises BadRow."""
    return {"text": decode_line(line)}


def make_record(doc: Doc, key: str, extra: dict[str, Any]) -> dict[str, Any]:
    """What is written of a doc: its text, its spans from left to right, what was passed through,
    and the relations, events and so on that were looked for.

    Offsets are in characters, `end` exclusive; scores are rounded to four digits.
    """
    group = list(doc.spans.get(key, []))
    scores = get_scores(doc, key)
    spans = [
        {
            "label": span.label_,
            "start": span.start_char,
            "end": span.end_char,
            "score": None if scores is None else round(float(scores[i]), 4),
            "text": span.text,
        }
        for i, span in sorted(enumerate(group), key=lambda pair: (pair[1].start, pair[1].end))
    ]
    found = {attr: get_rows(doc, attr) for attr in STRUCTURES}
    structures = {attr: round_scores(rows) for attr, rows in found.items() if rows is not None}
    return {"text": doc.text, "spans": spans, **extra, **structures}


def round_scores(value: Any) -> Any:
    """A copy of JSON in which scores are rounded to four digits."""
    if isinstance(value, dict):
        return {key: round_scores(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [round_scores(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def check_paths(paths: list[Path], output: Path | None = None) -> None:
    """Find what is missing before a model is loaded."""
    for path in paths:
        if path == STDIN:
            continue
        if not path.exists():
            raise FileNotFoundError(f"There is no file {str(path)!r} to extract from.")
        if output is not None and output.exists() and output.samefile(path):
            raise ValueError(f"The output {str(output)!r} is also an input: choose another.")


def _open_output(path: Path | None) -> AbstractContextManager[TextIO]:
    if path is None:
        return nullcontext(sys.stdout)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8")
