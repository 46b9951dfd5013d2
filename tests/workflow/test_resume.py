"""Annotation that is killed again and again, and resumed, loses nothing and pays nothing twice."""

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Iterable  # noqa: UP035

import pytest
from metaie.annotate import annotate
from metaie.cli import app
from metaie.inputs import Inputs
from metaie.teacher.pipeline import Teacher
from metaie.teacher.record import hash_prompt
from spacy.util import load_config
from spacy_llm.registry import registry
from typer.testing import CliRunner

CONFIG = Path(__file__).parents[2] / "configs" / "teacher.cfg"
N_TEXTS = 400
KILLS = 10
# What a child has from its parent need not be loaded again.
FORK = multiprocessing.get_context("fork")


@registry.llm_models("test.Slow.v1")
def make_slow(log: str, ahead: int) -> Any:
    """A model that takes prompts ahead, answers in order after a while, and logs what it is asked.

    An answer's key is logged when the answer leaves: from then on it was paid for.
    """

    def answer(prompts: Iterable[Iterable[str]]) -> Iterator[list[str]]:
        window: list[str] = []
        docs = iter(prompts)
        while True:
            while len(window) < ahead and (doc := next(docs, None)):
                window.extend(doc)
            if not window:
                return
            time.sleep(0.002)
            prompt = window.pop(0)
            with Path(log).open("a") as file:
                file.write(hash_prompt(prompt) + "\n")
            yield [f"- Person: Ada\n- Number: {len(prompt)}\n- City: London\n" * 20]

    return answer


def run(folder: Path, journal: str, output: str) -> None:
    teacher = Teacher(folder / "teacher.cfg", {"paths.journal": str(folder / journal)})
    annotate(teacher, Inputs([folder / "texts.txt"]), folder / output)


def read_keys(path: Path) -> list[str]:
    """The keys of the whole lines of a journal."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line)["prompt_sha256"] for line in lines]


def read_log(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = [f"Ada met person {i} in London." for i in range(N_TEXTS)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    config = load_config(CONFIG, interpolate=False)
    config["components"]["llm"]["model"]["model"] = {
        "@llm_models": "test.Slow.v1",
        "log": str(tmp_path / "asked.txt"),
        "ahead": 8,
    }
    config.to_disk(tmp_path / "teacher.cfg")
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*cut off")
def test_a_run_that_is_killed_goes_on_where_it_was(folder: Path) -> None:
    journal, log = folder / "journal.jsonl", folder / "asked.txt"
    moments = random.Random(0)
    recorded: list[str] = []
    for _ in range(KILLS):
        child = FORK.Process(target=run, args=(folder, journal.name, "killed"))
        child.start()
        # The moment is one of the model's, not of a clock: a slow machine gets as far.
        n_before = len(read_log(log))
        aim = n_before + moments.randrange(1, N_TEXTS // KILLS - 1)
        while child.is_alive() and len(read_log(log)) < aim:
            time.sleep(0.001)
        time.sleep(moments.random() * 0.005)
        assert child.is_alive() and child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        keys = read_keys(journal)
        assert keys[: len(recorded)] == recorded
        assert not set(read_log(log)[n_before:]) & set(recorded)
        recorded = keys
    assert 0 < len(recorded) < N_TEXTS
    run(folder, journal.name, "killed")
    asked = read_log(log)
    keys = read_keys(journal)
    assert keys[: len(recorded)] == recorded
    assert len(keys) == len(set(keys)) == N_TEXTS
    assert set(asked) == set(keys)
    # An answer that was on its way into the journal is asked again, it alone.
    assert len(asked) <= N_TEXTS + KILLS

    run(folder, "undisturbed.jsonl", "undisturbed")
    for name in ("train.spacy", "dev.spacy", "test.spacy"):
        killed, undisturbed = (folder / run / name for run in ("killed", "undisturbed"))
        assert killed.read_bytes() == undisturbed.read_bytes()
    assert CliRunner().invoke(app, ["journal", "check", str(journal)]).exit_code == 0
