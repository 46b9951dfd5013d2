"""On a real Ray of this machine. It takes the better part of a minute to start."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from metaie.distributed import check_settings, extract_on_ray, open_whole, read_finished
from metaie.extract import extract

PARAGRAPH = "Ada Lovelace met Charles Babbage in London in 1833."


@pytest.fixture(scope="module")
def ray_of_two_cpus() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason='needs Ray: pip install "metaie[ray]"')
    pytest.importorskip("ray.data", reason='needs Ray Data: pip install "metaie[ray]"')
    with pytest.MonkeyPatch.context() as patch:
        # Its agents are given half a minute to start, which a busy machine exceeds.
        patch.setenv("RAY_agent_register_timeout_ms", "180000")
        patch.setenv("RAY_raylet_start_wait_time_s", "180")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 * 2**20,
            _node_ip_address="127.0.0.1",
        )
        yield
        ray.shutdown()


def write_rows(path: Path, start: int, stop: int) -> None:
    rows = [{"id": i, "text": f"{PARAGRAPH} {i}", "queries": ["City"]} for i in range(start, stop)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def read_answers(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(folder.glob("*-*.jsonl"))
        for line in file.read_text().splitlines()
    ]


def kill_an_actor(output: Path, killed: list[int]) -> None:
    """Kill the first process that is seen writing, once something is finished."""
    deadline = time.monotonic() + 400
    while not killed and time.monotonic() < deadline:
        parts = list(output.glob(".*.part")) if list(output.glob("*-*.jsonl")) else []
        if parts:
            pid = int(parts[0].suffixes[-2].removeprefix("."))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        time.sleep(0.002)


@pytest.mark.slow
def test_an_actor_that_dies_loses_nothing(
    ray_of_two_cpus: None, tiny_model_dir: Path, tmp_path: Path
) -> None:
    texts, output = tmp_path / "texts", tmp_path / "out"
    texts.mkdir()
    write_rows(texts / "a.jsonl", 0, 1500)
    write_rows(texts / "b.jsonl", 1500, 3050)
    killed: list[int] = []
    killer = threading.Thread(target=kill_an_actor, args=(output, killed))
    killer.start()
    settings: dict[str, Any] = {"actors": 2, "partition_rows": 200}
    result = extract_on_ray(str(tiny_model_dir), [texts], output, **settings)
    killer.join()
    assert killed, "no actor was seen at work"
    with pytest.raises(ProcessLookupError):
        os.kill(killed[0], 0)
    assert (result.texts, result.partitions, result.skipped) == (3050, 16, 0)
    assert sorted(row["id"] for row in read_answers(output)) == list(range(3050))
    assert not list(output.glob(".*"))

    alone = tmp_path / "alone.jsonl"
    extract(str(tiny_model_dir), [texts / "a.jsonl"], output=alone)
    expected = [json.loads(line) for line in alone.read_text().splitlines()]
    # The last digits of a sum may differ with the threads that add it up.
    assert [[(s["start"], s["end"]) for s in row["spans"]] for row in expected] == [
        [(s["start"], s["end"]) for s in row["spans"]] for row in read_answers(output)[:1500]
    ]

    before = {file: file.stat().st_mtime_ns for file in output.iterdir()}
    again = extract_on_ray(str(tiny_model_dir), [texts], output, **settings)
    assert (again.texts, again.partitions, again.skipped) == (0, 0, 16)
    assert {file: file.stat().st_mtime_ns for file in output.iterdir()} == before

    missing = sorted(output.glob("*-*.jsonl"))[3]
    content = missing.read_bytes()
    missing.unlink()
    third = extract_on_ray(str(tiny_model_dir), [texts], output, **settings)
    assert (third.texts, third.partitions, third.skipped) == (200, 1, 15)
    assert missing.read_bytes() == content


@pytest.mark.slow
def test_a_bad_row_costs_its_partition_only(
    ray_of_two_cpus: None, tiny_model_dir: Path, tmp_path: Path
) -> None:
    path, output = tmp_path / "a.jsonl", tmp_path / "out"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\noops\n{"text": "c"}\n')
    with pytest.raises(ValueError, match=r"1 of 3 partitions .*\n.*a\.jsonl, line 4: .*not JSON"):
        extract_on_ray(str(tiny_model_dir), [path], output, actors=1, partition_rows=2)
    assert [row["text"] for row in read_answers(output)] == ["a", "c"]
    assert len(read_finished(output)) == 2


def test_a_folder_holds_answers_to_one_question(tmp_path: Path) -> None:
    check_settings(tmp_path, {"labels": ["City"], "threshold": None})
    check_settings(tmp_path, {"labels": ["City"], "threshold": None})
    with pytest.raises(ValueError, match="begun with another labels: choose another folder"):
        check_settings(tmp_path, {"labels": ["Person"], "threshold": None})


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(TypeError), open_whole(tmp_path / "a.jsonl") as file:
        file.writelines(["half", None])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []
    with open_whole(tmp_path / "a.jsonl") as file:
        file.write("whole")
        assert not (tmp_path / "a.jsonl").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_record_that_is_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "partitions.jsonl").write_text('{"file": "a-0.jsonl"}\n{"file": "a-1.js')
    assert list(read_finished(tmp_path)) == ["a-0.jsonl"]
    assert (tmp_path / "partitions.jsonl").read_text() == '{"file": "a-0.jsonl"}\n'
