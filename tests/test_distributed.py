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
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import spacy
from chat_server import ChatServer
from metaie.cli import app
from metaie.distributed import FINISHED, Actor, check_settings, is_finished
from metaie.distributed_annotate import annotate_on_ray, share_out
from metaie.distributed_extract import extract_on_ray, open_whole
from metaie.docbin import read_docbin
from metaie.extract import extract
from metaie.inputs import Inputs
from metaie.partitions import Partition, cut_file
from metaie.spans import get_answers
from metaie.teacher.budget import BudgetReached
from metaie.teacher.pipeline import Teacher
from metaie.teacher.task import make_important_information_task
from thinc.api import Config
from typer.testing import CliRunner

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

    before = {file: file.stat().st_mtime_ns for file in output.rglob("*")}
    again = extract_on_ray(str(tiny_model_dir), [texts], output, **settings)
    assert (again.texts, again.partitions, again.skipped) == (0, 0, 16)
    assert {file: file.stat().st_mtime_ns for file in output.rglob("*")} == before

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
    assert len(list((output / FINISHED).iterdir())) == 2


def test_a_folder_holds_answers_to_one_question(tmp_path: Path) -> None:
    check_settings(tmp_path, {"labels": ["City"], "threshold": None}, ["spacy"])
    check_settings(tmp_path, {"labels": ["City"], "threshold": None}, ["spacy"])
    with pytest.raises(ValueError, match="begun with another labels: choose another folder"):
        check_settings(tmp_path, {"labels": ["Person"], "threshold": None}, ["spacy"])


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(TypeError), open_whole(tmp_path / "a.jsonl") as file:
        file.writelines(["half", None])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []
    with open_whole(tmp_path / "a.jsonl") as file:
        file.write("whole")
        assert not (tmp_path / "a.jsonl").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


CONFIG = """
[nlp]
lang = "en"
pipeline = ["llm"]
[components]
[components.llm]
factory = "llm"
[components.llm.task]
@llm_tasks = "metaie.ImportantInformation.v1"
[components.llm.model]
@llm_models = "metaie.Journal.v1"
path = "{folder}/journal.jsonl"
[components.llm.model.model]
@llm_models = "metaie.Chat.v1"
name = "test"
base_url = "{url}"
concurrency = 4
backoff = 0.01
max_tokens = 100
budget = {{"tokens": {budget}}}
"""


def write_config(folder: Path, url: str, budget: int = 10_000_000) -> Path:
    path = folder / "teacher.cfg"
    path.write_text(CONFIG.format(folder=folder, url=url, budget=budget))
    return path


def kill_an_annotator(journals: Path, killed: list[int]) -> None:
    """Kill the first process that has recorded ten answers of a partition, and not all."""
    deadline = time.monotonic() + 400
    while not killed and time.monotonic() < deadline:
        for path in journals.glob("*.jsonl"):
            if 10 <= path.read_bytes().count(b"\n") < 40:
                for pid in find_holders(Path(f"{path}.lock")):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                    return
        time.sleep(0.002)


def find_holders(path: Path) -> list[int]:
    """The processes that have a file open."""
    pids = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink() == path:
                pids.append(int(link.parts[2]))
    return pids


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*cut off")
def test_annotation_survives_an_actor(cluster: str, tmp_path: Path) -> None:
    texts = [f"{PARAGRAPH} {i}" for i in range(300)]
    render = make_important_information_task().render
    answers = {
        render(text): f"- Person: Ada Lovelace\n- Number: {text.split()[-1]}" for text in texts
    }
    (tmp_path / "texts").mkdir()
    rows = [{"text": text, "id": i, "genre": "lives"} for i, text in enumerate(texts)]
    lines = [f"{json.dumps(row)}\n" for row in rows]
    (tmp_path / "texts" / "a.jsonl").write_text("".join(lines[:130]))
    pq.write_table(pa.Table.from_pylist(rows[130:]), tmp_path / "texts" / "b.parquet")
    output = tmp_path / "out"
    killed: list[int] = []
    killer = threading.Thread(target=kill_an_annotator, args=(output / "journals", killed))
    killer.start()
    with ChatServer(answers=answers, latency=0.05, faults={"server_error": 0.1}) as server:
        config = write_config(tmp_path, server.base_url)
        settings: dict[str, Any] = {"address": cluster, "actors": 2, "partition_rows": 50}
        inputs = Inputs([tmp_path / "texts"])
        result, done = annotate_on_ray(Teacher(config), inputs, output, **settings)
        killer.join()
        assert killed, "no actor was seen at work"
        assert (result.texts, result.partitions, result.skipped) == (300, 7, 0)
        docs = list(read_docbin(output, spacy.blank("en").vocab))
        assert sorted(doc.user_data["id"] for doc in docs) == sorted(map(str, range(300)))
        for doc in docs:
            found = {label: [str(s) for s in spans] for label, spans in get_answers(doc).items()}
            assert found == {"Person": ["Ada Lovelace"], "Number": [doc.text.split()[-1]]}
        manifest = json.loads((output / "manifest.json").read_text())
        assert manifest["complete"]
        assert sum(shard["docs"] for shard in manifest["shards"]) == 300
        assert sum(count.passages for count in done.splits.values()) == 300
        # Those that were on their way when the actor was killed.
        assert server.done["ok"] <= 300 + 4

        asked = server.asked.total()
        again, _ = annotate_on_ray(Teacher(config), inputs, output, **settings)
        assert (again.partitions, again.skipped, server.asked.total()) == (0, 7, asked)

        # What another run has paid for is in the journals of its partitions.
        merged = tmp_path / "journal.jsonl"
        journals = sorted((output / "journals").glob("*.jsonl"))
        arguments = ["journal", "merge", *map(str, journals), str(merged)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        annotate_on_ray(Teacher(config), inputs, tmp_path / "other", **settings)
        assert server.asked.total() == asked


@pytest.mark.slow
def test_a_teacher_that_stops_ends_the_run(cluster: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{PARAGRAPH} {i}\n" for i in range(100)))
    with ChatServer() as server:
        teacher = Teacher(write_config(tmp_path, server.base_url, budget=16_000))
        settings: dict[str, Any] = {"address": cluster, "actors": 2, "partition_rows": 10}
        with pytest.raises(ValueError, match=r"(?s)budget of 8,000.*partitions are finished"):
            annotate_on_ray(teacher, Inputs([tmp_path / "a.txt"]), tmp_path / "out", **settings)
        assert 0 < server.prompt_tokens + server.completion_tokens <= 16_000
        recorded = sum(
            path.read_bytes().count(b"\n") for path in (tmp_path / "out/journals").glob("*.jsonl")
        )
        assert recorded == server.done["ok"]


def test_limits_are_shared_out() -> None:
    config = Config().from_str(CONFIG.format(folder="x", url="y", budget=30))
    model = config["components"]["llm"]["model"]["model"]
    model["requests_per_minute"], model["tokens_per_minute"] = 10, None
    shared = share_out(config, 4)["components"]["llm"]["model"]["model"]
    assert shared["budget"] == {"tokens": 7.5}
    assert (shared["requests_per_minute"], shared["tokens_per_minute"]) == (2.5, None)
    assert (shared["concurrency"], shared["max_tokens"]) == (4, 100)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which an actor changes, put back at the end."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Counter:
    """A worker that counts, and writes nothing."""

    stops = (BudgetReached,)

    def __init__(self, output: Path, actors: int) -> None:
        self.worked: list[int] = []

    def work(self, partition: Partition) -> dict[str, Any]:
        self.worked.append(partition.number)
        if partition.number == 1:
            raise ValueError("a bad row")
        if partition.number == 2:
            raise BudgetReached("no money")
        return {"files": [], "texts": 3, "failed": partition.number == 3}


def test_what_an_actor_has_recorded_is_not_done_again(folder: Path) -> None:
    (folder / "a.txt").write_text("a\nb\nc\nd\n")
    actor = Actor(Counter, folder, folder, {"actors": 1})
    cuts = list(cut_file(folder / "a.txt", 1))
    records = [actor.work(cut) for cut in cuts]
    assert [record.get("texts") for record in records] == [3, None, None, 3]
    assert (records[1], records[2]) == ({"error": "a bad row"}, {"stop": "no money"})
    assert [is_finished(cut, folder) for cut in cuts] == [True, False, False, False]
    assert actor.work(cuts[0]) == records[0]
    assert actor.worker.worked == [0, 1, 2, 3]  # type: ignore[attr-defined]
    (folder / "finished" / f"{cuts[0].name}.json").write_text('{"texts": 3, "fi')
    assert not is_finished(cuts[0], folder)


def test_a_source_that_has_changed_is_named(folder: Path) -> None:
    (folder / "a.txt").write_text("a\n")
    Actor(Counter, folder, folder, {"actors": 1}).work(*cut_file(folder / "a.txt", 1))
    (folder / "a.txt").write_text("b\nc\n")
    with pytest.raises(ValueError, match=r"a\.txt has changed since"):
        is_finished(next(cut_file(folder / "a.txt", 1)), folder)
