"""Annotation that is killed again and again, and resumed, loses nothing and pays nothing twice.

The whole of it: the chat model behind a journal, a server that answers from the shipped corpus
and fails in many ways, and SIGKILL at random moments.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from metaie.annotate import annotate
from metaie.cli import app
from metaie.inputs import Inputs
from metaie.teacher.journal import Journal
from metaie.teacher.pipeline import Teacher
from metaie.teacher.task import make_important_information_task
from metaie.texts import read_passages
from spacy.util import load_config
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
N_TEXTS = 400
KILLS = 10
CONCURRENCY = 8
# 30 % of requests.
FAULTS = {
    **dict.fromkeys(["rate_limit", "server_error", "bad_gateway", "conflict", "not_json"], 0.03),
    **dict.fromkeys(["cut", "hang_up", "no_http", "html", "no_choices", "error_in_200"], 0.02),
    **dict.fromkeys(["huge", "hang", "drip"], 0.01),
}
# What a child has from its parent need not be loaded again.
FORK = multiprocessing.get_context("fork")


class Server:
    """The chat server, in a process of its own, so that this one can fork in peace."""

    def __init__(self, url: str) -> None:
        self.url = url

    def read_counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/counts") as answer:
            return json.loads(answer.read())

    def count_requests(self) -> int:
        return sum(self.read_counts()["done"].values())


@contextmanager
def serve(answers: Path, faults: dict[str, float]) -> Iterator[Server]:
    options = ["--answers", str(answers), "--latency=0.04", "--jitter=0.04"]
    options += [f"--fault={name}={share}" for name, share in faults.items()]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "chat_server.py"), *options],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        try:
            yield Server(process.stdout.readline().strip())
        finally:
            process.terminate()


def run(folder: Path, name: str, url: str, shard_size: int) -> None:
    """Annotate, with the journal NAME.jsonl, into the folder NAME."""
    settings = {
        "paths.journal": str(folder / f"{name}.jsonl"),
        "components.llm.model.model.base_url": url,
    }
    teacher = Teacher(folder / "teacher.cfg", settings)
    annotate(teacher, Inputs([folder / "texts.jsonl"]), folder / name, shard_size=shard_size)


def read_keys(path: Path) -> list[str]:
    """The keys of the whole lines of a journal."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["prompt_sha256"] for line in lines]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts of the shipped corpus, their answers by prompt, and a config."""
    render = make_important_information_task().render
    passages = list(islice(read_passages([ROOT / "corpus" / "texts"]), N_TEXTS))
    rows = [json.dumps({"text": passage.text, "genre": passage.genre}) for passage in passages]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows))
    with Journal(ROOT / "corpus" / "teacher" / "journal.jsonl") as journal:
        prompts = [render(passage.text) for passage in passages]
        answers = {prompt: journal.find(prompt) for prompt in prompts}
    assert len(answers) == N_TEXTS and all(answers.values())
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    config = load_config(ROOT / "configs" / "teacher.cfg", interpolate=False)
    config["components"]["llm"]["model"]["model"] = {
        "@llm_models": "metaie.Chat.v1",
        "name": "test",
        "base_url": "",
        "concurrency": CONCURRENCY,
        "max_tries": 20,
        "backoff": 0.01,
        "timeout": 1.0,
    }
    config.to_disk(tmp_path / "teacher.cfg")
    return tmp_path


def read_contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.spacy")
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*cut off")
@pytest.mark.parametrize("shard_size", [0, 30])
def test_a_run_that_is_killed_goes_on_where_it_was(folder: Path, shard_size: int) -> None:
    journal = folder / "killed.jsonl"
    moments = random.Random(shard_size)
    recorded: list[str] = []
    with serve(folder / "answers.json", FAULTS) as server:
        for _ in range(KILLS):
            before = server.read_counts()
            child = FORK.Process(target=run, args=(folder, "killed", server.url, shard_size))
            child.start()
            # The moment is one of the server's, not of a clock: a slow machine gets as far.
            aim = sum(before["done"].values()) + moments.randrange(1, N_TEXTS // KILLS)
            while child.is_alive() and server.count_requests() < aim:
                time.sleep(0.001)
            time.sleep(moments.random() * 0.05)
            assert child.is_alive() and child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            after, keys = server.read_counts(), read_keys(journal)
            assert keys[: len(recorded)] == recorded
            for key in recorded:
                assert after["answered"][key] == before["answered"][key]
            recorded = keys
        assert 0 < len(recorded) < N_TEXTS
        run(folder, "killed", server.url, shard_size)
        keys = read_keys(journal)
        assert keys[: len(recorded)] == recorded
        assert len(keys) == len(set(keys)) == N_TEXTS
        answered = server.read_counts()["answered"]
    assert answered.keys() == set(keys)
    # What was on its way when the process was killed is asked again, and no more than that.
    assert sum(answered.values()) <= N_TEXTS + KILLS * CONCURRENCY

    with serve(folder / "answers.json", {}) as server:
        run(folder, "undisturbed", server.url, shard_size)
    contents = read_contents(folder / "killed")
    if shard_size:
        manifest = json.loads((folder / "killed" / "manifest.json").read_text())
        assert manifest["complete"]
        assert [shard["file"] for shard in manifest["shards"]] == sorted(contents)
    assert contents and contents == read_contents(folder / "undisturbed")
    assert CliRunner().invoke(app, ["journal", "check", str(journal)]).exit_code == 0
