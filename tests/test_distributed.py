"""On a real Ray of this machine. It takes the better part of a minute to start."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from metaie.distributed import check_settings, extract_on_ray, open_whole, read_finished
from metaie.extract import extract

PARAGRAPH = "Ada Lovelace met Charles Babbage in London in 1833."


def find_free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray of two CPUs, which a token of its own protects."""
    with pytest.MonkeyPatch.context() as patch:
        # Ray reads them when it is imported.
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_agent_register_timeout_ms", "180000")
        patch.setenv("RAY_raylet_start_wait_time_s", "180")
        pytest.importorskip("ray.data", reason='needs Ray Data: pip install "metaie[ray]"')
        yield from start_cluster()


def start_cluster() -> Iterator[str]:
    names = ["port", "dashboard-agent-grpc-port", "dashboard-agent-listen-port"]
    names += ["metrics-export-port", "runtime-env-agent-port"]
    # Where it has to choose ports, its parts wait for one another for 15 seconds only, which a
    # busy machine exceeds.
    ports = find_free_ports(len(names))
    options = [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    options += ["--num-cpus=2", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1"]
    code = "from ray.scripts.scripts import main; main()"
    command = [sys.executable, "-c", code, "start", "--head", "--block", *options]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as head:
        assert head.stdout
        shown = []
        for line in head.stdout:
            shown.append(line)
            if "Ray runtime started" in line:
                break
        else:
            pytest.fail(f"Ray did not start:\n{''.join(shown)}")
        yield f"127.0.0.1:{ports[0]}"
        head.terminate()


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
    cluster: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    texts, output = tmp_path / "texts", tmp_path / "out"
    texts.mkdir()
    write_rows(texts / "a.jsonl", 0, 1500)
    write_rows(texts / "b.jsonl", 1500, 3050)
    killed: list[int] = []
    killer = threading.Thread(target=kill_an_actor, args=(output, killed), daemon=True)
    killer.start()
    settings: dict[str, Any] = {"address": cluster, "actors": 2, "partition_rows": 200}
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
    cluster: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    path, output = tmp_path / "a.jsonl", tmp_path / "out"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\noops\n{"text": "c"}\n')
    with pytest.raises(ValueError, match=r"1 of 3 partitions .*\n.*a\.jsonl, line 4: .*not JSON"):
        extract_on_ray(
            str(tiny_model_dir), [path], output, address=cluster, actors=1, partition_rows=2
        )
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
