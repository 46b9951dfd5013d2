"""Texts to annotate: read from files of several formats, one after the other, as a stream."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from spacy.vocab import Vocab

from .docbin import read_docbin
from .rows import (
    COMPRESSED,
    BadRow,
    check_unicode,
    decode_line,
    get_format,
    get_row_queries,
    get_text,
    parse_row,
    read_lines,
)
from .spans import get_queries

PARQUET_ROWS = 1024  # in memory at a time
# What a row may have beside its text.
OTHER_FIELDS = ("genre", "id", "queries")


@dataclass(frozen=True)
class Passage:
    """A text with what is known about it. Its hash decides its place, whatever its file.

    document: the hash of the document that it was cut from; empty if it is whole.
    queries: the labels that it brings to be asked; empty if it brings none.
    """

    text: str
    genre: str
    id: str
    document: str = ""
    queries: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    @property
    def source(self) -> str:
        """SHA-256 of the whole document. What is cut from one stays together in a split."""
        return self.document or self.key


class Source(NamedTuple):
    """A file of texts. name: what the ids of those begin with that have none of their own."""

    file: Path
    name: str


def read_passages(
    paths: Iterable[Path], *, text_field: str = "text", output: Path | None = None
) -> Iterator[Passage]:
    """Yield the passages of files and folders, in the order of their names.

    text_field: what the text is called in JSONL and Parquet. "genre", "id" and "queries" may be
        there as well; otherwise the genre is the file's name, and the id begins with its path:
        see `name_files`.
    output: where DocBins are written: those there are not read.

    Raises FileNotFoundError, or ValueError that names file and line, row or doc.
    """
    yield from read_sources(find_sources(paths, output), text_field)


def read_sources(sources: Iterable[Source], text_field: str = "text") -> Iterator[Passage]:
    """Yield the passages of files; see `read_passages`."""
    for source in sources:
        yield from READERS[get_format(source.file)](source, text_field)


def find_sources(paths: Iterable[Path], output: Path | None = None) -> list[Source]:
    """All files of texts among files and folders, named. Raises like `find_texts`."""
    found = [
        (file, path if path.is_dir() else file.parent)
        for path in paths
        for file in find_texts(path, output)
    ]
    names = name_files(found)
    return [Source(file, name) for (file, _), name in zip(found, names, strict=True)]


def name_files(files: Iterable[tuple[Path, Path]]) -> list[str]:
    """The names of files for ids: the path from a folder on, without endings, as "mails/2024".

    Files that would have one name in common are named from the folder that all files are in,
    with their endings, so that ids differ.

    files: each with the folder.
    """
    files = list(files)
    below = [file.relative_to(folder) for file, folder in files]
    names = [(path.parent / stem(path)).as_posix() for path in below]
    uses = Counter(names)
    whole = [file.absolute() for file, _ in files]
    root = os.path.commonpath([file.parent for file in whole]) if whole else ""
    return [
        name if uses[name] == 1 else file.relative_to(root).as_posix()
        for name, file in zip(names, whole, strict=True)
    ]


def find_files(paths: Iterable[Path], output: Path | None = None) -> list[Path]:
    """All files of texts among files and folders. Raises like `find_texts`."""
    return [file for path in paths for file in find_texts(path, output)]


def find_texts(path: Path, output: Path | None = None) -> list[Path]:
    """The file itself, or all files of texts below a folder, sorted.

    output: DocBins below this folder are left out, when they are not named themselves.

    Raises FileNotFoundError, or ValueError for other files, and a folder without any.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder of texts {str(path)!r}.")
    if path.is_dir():
        made = output.resolve() if output else None
        files = sorted(
            file
            for file in path.rglob("*")
            # A folder may be called like a file: Spark's "dump.parquet" holds many.
            if is_readable(file)
            and file.is_file()
            and not (made and file.suffix == ".spacy" and file.resolve().is_relative_to(made))
        )
        if not files:
            raise ValueError(f"The folder {str(path)!r} has no files that end with {ENDINGS}.")
        return files
    if not is_readable(path):
        raise ValueError(f"Texts are read from files that end with {ENDINGS}, not {path}.")
    return [path]


def is_readable(path: Path) -> bool:
    """Whether the file's name ends as one that can be read here."""
    if path.suffix.lower() in COMPRESSED and get_format(path) not in LINES:
        return False
    return get_format(path) in READERS


def _read_text(source: Source, text_field: str) -> Iterator[Passage]:
    file, name = source
    for number, line in read_lines(file):
        if line.strip():
            with _naming(file, number):
                passage = Passage(decode_line(line), stem(file), f"{name}-{number}")
            yield passage


def _read_jsonl(source: Source, text_field: str) -> Iterator[Passage]:
    file, name = source
    for number, line in read_lines(file):
        if line.strip():
            with _naming(file, number):
                passage = make_passage(parse_row(line), text_field, file, number, name)
            yield passage


def _read_parquet(source: Source, text_field: str) -> Iterator[Passage]:
    file, name = source
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as err:
        raise ValueError(f'To read {file}: pip install "metaie[annotate]"') from err
    number = 0
    try:
        parquet = ParquetFile(file)
        names = parquet.schema_arrow.names
        if text_field not in names:
            raise BadRow(
                "no text",
                f"there is no column {text_field!r}, but {', '.join(names)}. Name the one that "
                "holds the texts with `--text-field`.",
                offset=1,
            )
        columns = [column for column in (text_field, *OTHER_FIELDS) if column in names]
        for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield make_passage(row, text_field, file, number, name)
    except BadRow as err:
        raise err.at(file, number, "row") from None
    except (ValueError, OSError) as err:
        raise ValueError(f"{file} can't be read as Parquet after row {number}: {err}") from err


def _read_docbin(source: Source, text_field: str) -> Iterator[Passage]:
    file, name = source
    for number, doc in enumerate(read_docbin(file, Vocab(), require_queries=False), start=1):
        row = {**doc.user_data, "text": doc.text, "queries": get_queries(doc)}
        with _naming(file, number, "doc"):
            passage = make_passage(row, "text", file, number, name)
        yield passage


def make_passage(
    row: dict[str, Any], text_field: str, file: Path, number: int, name: str = ""
) -> Passage:
    """The passage of a row. Raises BadRow.

    name: what an id begins with if the row has none; by default the file's name.
    """
    genre, own = row.get("genre"), row.get("id")
    if isinstance(own, int) and not isinstance(own, bool):
        own = str(own)
    return Passage(
        get_text(row, text_field),
        stem(file) if genre is None else check_unicode(genre, "genre"),
        f"{name or stem(file)}-{number}" if own is None else check_unicode(own, "id"),
        queries=() if row.get("queries") is None else tuple(get_row_queries(row)),
    )


def stem(file: Path) -> str:
    """The file's name without its endings."""
    return file.with_suffix("").stem if file.suffix.lower() in COMPRESSED else file.stem


@contextmanager
def _naming(file: Path, number: int, unit: str = "line") -> Iterator[None]:
    """Add the place in a file to a BadRow that is raised within."""
    try:
        yield
    except BadRow as err:
        raise err.at(file, number, unit) from None


READERS: dict[str, Callable[[Source, str], Iterator[Passage]]] = {
    ".txt": _read_text,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".spacy": _read_docbin,
}
LINES = (".txt", ".jsonl")
ENDINGS = f"{', '.join(READERS)} ({', '.join(LINES)} also compressed: {', '.join(COMPRESSED)})"
