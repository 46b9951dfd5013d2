"""Large files cut into runs of rows, each read on its own, wherever there is room to."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from .extract import read_text
from .rows import COMPRESSED, BadRow, get_format, parse_row, read_lines, shorten
from .texts import LINES, PARQUET_ROWS, stem

BOM = b"\xef\xbb\xbf"
FORMATS = (*LINES, ".parquet")


@dataclass(frozen=True)
class Partition:
    """A run of rows of a file.

    source: the file, an absolute path.
    size, changed: of the file, in bytes and in nanoseconds since 1970, when it was cut.
    number: of the partition, from 0.
    start: where it begins: the byte of a file of lines, the row of a Parquet file.
    first: the number of its first line or row, from 1.
    rows: how many lines or rows there are, empty ones among them; 0 is all that follow.
    """

    source: str
    size: int
    changed: int
    number: int
    start: int
    first: int
    rows: int

    @property
    def name(self) -> str:
        """What files that are made of it are called: no two sources have a name in common."""
        digest = hashlib.sha256(self.source.encode("utf-8")).hexdigest()[:8]
        return f"{stem(Path(self.source))}-{digest}-{self.number:05}"

    @property
    def unit(self) -> str:
        """What its rows are called in messages."""
        return "row" if get_format(Path(self.source)) == ".parquet" else "line"


def cut_file(path: Path, rows: int) -> Iterator[Partition]:
    """Yield the partitions of a .txt, .jsonl or .parquet file, of so many rows each.

    Lines are counted, not read further. A compressed file is one partition, since its lines
    can't be reached but from its beginning.

    Raises ValueError for other files, and for one that is no Parquet.
    """
    path = path.resolve()
    state = path.stat()
    source = (str(path), state.st_size, state.st_mtime_ns)
    if get_format(path) not in FORMATS:
        raise ValueError(f"Partitions are made of {', '.join(FORMATS)} files, not of {path}.")
    if get_format(path) == ".parquet":
        total = _open_parquet(path).metadata.num_rows
        for number, start in enumerate(range(0, total, rows)):
            yield Partition(*source, number, start, start + 1, min(rows, total - start))
    elif path.suffix.lower() in COMPRESSED:
        yield Partition(*source, number=0, start=0, first=1, rows=0)
    else:
        with path.open("rb") as file:
            number = start = 0
            while lengths := [len(line) for line in islice(file, rows)]:
                yield Partition(*source, number, start, number * rows + 1, len(lengths))
                start += sum(lengths)
                number += 1


def read_partition(partition: Partition) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, row) of the rows that are not empty.

    Raises ValueError that names file and row, or if the file is not the one that was cut.
    """
    path = Path(partition.source)
    state = path.stat()
    if (state.st_size, state.st_mtime_ns) != (partition.size, partition.changed):
        raise ValueError(
            f"{path} has changed since the run began, or differs between machines: it must be "
            "one file, on storage that all of them share."
        )
    if get_format(path) == ".parquet":
        yield from _read_parquet(path, partition)
        return
    parse = parse_row if get_format(path) == ".jsonl" else read_text
    for number, line in _read_lines(path, partition):
        if line.strip():
            try:
                row = parse(line)
            except BadRow as err:
                raise err.at(path, number) from None
            yield number, row


def _read_lines(path: Path, partition: Partition) -> Iterator[tuple[int, bytes]]:
    if not partition.rows:
        yield from read_lines(path)
        return
    with path.open("rb") as file:
        file.seek(partition.start)
        for number, line in enumerate(islice(file, partition.rows), start=partition.first):
            if number == 1:
                line = line.removeprefix(BOM)
            yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def _read_parquet(path: Path, partition: Partition) -> Iterator[tuple[int, dict[str, Any]]]:
    parquet = _open_parquet(path)
    end = partition.start + partition.rows
    begin = 0
    for group in range(parquet.num_row_groups):
        number = begin
        begin += parquet.metadata.row_group(group).num_rows
        if begin <= partition.start or number >= end:
            continue
        for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, row_groups=[group]):
            skipped = min(max(partition.start - number, 0), len(batch))
            wanted = batch.slice(skipped, max(end - number - skipped, 0)).to_pylist()
            for place, row in enumerate(wanted, start=number + skipped + 1):
                try:
                    clean = {name: make_json(value, name) for name, value in row.items()}
                except BadRow as err:
                    raise err.at(path, place, "row") from None
                if clean.get("queries", ()) is None:
                    del clean["queries"]
                yield place, clean
            number += len(batch)


def _open_parquet(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as err:
        raise ValueError(f'To read {path}: pip install "metaie[ray]"') from err
    try:
        return ParquetFile(path)
    except (ValueError, OSError) as err:
        raise ValueError(f"{path} can't be read as Parquet: {err}") from err


def make_json(value: Any, name: str) -> Any:
    """A value of a Parquet column as JSON has it: dates and decimals as text, NaN as null.

    Raises BadRow for what JSON does not have, such as bytes.
    """
    if isinstance(value, dict):
        return {str(key): make_json(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [make_json(inner, name) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (date, time, Decimal)):
        return str(value)
    raise BadRow(
        "not JSON",
        f"JSON can't hold the column {name!r}, {type(value).__name__}: {shorten(value)}. Leave "
        "the column out.",
    )
