import gzip
import json
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metaie.extract import read_texts
from metaie.partitions import cut_file, make_json, read_partition
from metaie.rows import BadRow
from spacy.language import Language


def read_all(path: Path, rows: int) -> list[tuple[int, str]]:
    return [
        (number, row["text"])
        for partition in cut_file(path, rows)
        for number, row in read_partition(partition)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lines=st.lists(st.sampled_from(["", "a", "é😀", " ", "long " * 30])),
    rows=st.integers(1, 5),
    end=st.sampled_from(["\n", "\r\n"]),
    open_end=st.booleans(),
    bom=st.sampled_from(["", "\ufeff"]),
)
def test_partitions_hold_each_line_once(
    tmp_path: Path, lines: list[str], rows: int, end: str, open_end: bool, bom: str
) -> None:
    path = tmp_path / "a.txt"
    content = end.join(lines) if open_end else "".join(line + end for line in lines)
    path.write_bytes((bom + content).encode())
    expected = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    assert read_all(path, rows) == expected


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(n_rows=st.integers(0, 40), rows=st.integers(1, 13), group=st.integers(1, 11))
def test_partitions_hold_each_row_of_parquet_once(
    tmp_path: Path, n_rows: int, rows: int, group: int
) -> None:
    path = tmp_path / "a.parquet"
    texts = [str(i) for i in range(n_rows)]
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path, row_group_size=group)
    assert read_all(path, rows) == list(enumerate(texts, start=1))


def test_rows_are_read_as_extract_reads_them(tiny_pipeline: Language, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps({'text': str(i), 'id': i})}\n\n" for i in range(7)))
    expected = [doc.text for doc, _ in read_texts(path, tiny_pipeline, "metaie")]
    assert [text for _, text in read_all(path, 3)] == expected


def test_a_compressed_file_is_one_partition(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n{"text": "b"}\n'))
    assert len(list(cut_file(path, 1))) == 1
    assert read_all(path, 1) == [(1, "a"), (2, "b")]


def test_columns_of_parquet_become_json(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [
        {"text": "a", "queries": ["City"], "day": date(2024, 5, 6), "score": float("nan")},
        {"text": "b", "queries": None, "day": None, "score": 0.5},
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    [partition] = cut_file(path, 10)
    assert list(read_partition(partition)) == [
        (1, {"text": "a", "queries": ["City"], "day": "2024-05-06", "score": None}),
        (2, {"text": "b", "day": None, "score": 0.5}),
    ]
    with pytest.raises(BadRow, match="can't hold the column 'raw', bytes"):
        make_json([b"\xff"], "raw")


def test_a_name_is_that_of_one_file(tmp_path: Path) -> None:
    names = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("x\ny\n")
        names |= {partition.name for partition in cut_file(tmp_path / folder / "a.txt", 1)}
    assert len(names) == 4


def test_files_that_cannot_be_cut(tmp_path: Path) -> None:
    for name, message in [("a.spacy", "Partitions are made of"), ("a.parquet", "as Parquet")]:
        (tmp_path / name).write_bytes(b"no")
        with pytest.raises(ValueError, match=message):
            list(cut_file(tmp_path / name, 1))


def test_a_file_that_changes_meanwhile_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\n")
    [partition] = cut_file(path, 1)
    path.write_text("a\nb\n")
    with pytest.raises(ValueError, match="has changed since the run began"):
        list(read_partition(partition))
