"""A model of spacy-llm that answers by itself, the same each time, and notes what it is asked."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterable  # noqa: UP035

from spacy_llm.registry import registry

ANSWER = "- Person: Ada\n- City: London\n- City: Paris\n- Date: none"

# What follows `[nlp]`… in a config: the model with a journal before it, and without.
CONFIG = """
[nlp]
lang = "en"
pipeline = ["llm"]
[components]
[components.llm]
factory = "llm"
[components.llm.task]
@llm_tasks = "metaie.ImportantInformation.v1"
"""
MODEL = """
@llm_models = "tests.Local.v1"
log = "{log}"
stop_at = {stop_at}
delay = {delay}
"""


class Outcome(str):
    """An answer that says what became of it."""

    outcome = "failed"


class LocalModel:
    """Answers each prompt as it comes.

    log: a file that gets a line a prompt. stop_at: the number of the prompt at which it raises,
    0 for none. A prompt with "FAIL" fails, one with "CUT" is cut off, one with "CTRL-C"
    interrupts.
    """

    def __init__(self, log: str, stop_at: int, delay: float) -> None:
        self.name = "local"
        self.log, self.stop_at, self.delay = Path(log), stop_at, delay
        self.asked = 0
        self.stats = SimpleNamespace(prompt_tokens=0, completion_tokens=0, cost=0.0)

    def __call__(self, prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        for group in prompts:
            yield list(self.answer(group))

    def answer(self, prompts: Iterable[str]) -> Iterator[str]:
        for prompt in prompts:
            self.asked += 1
            if self.asked == self.stop_at:
                raise ValueError("The budget is reached.")
            if "CTRL-C" in prompt:
                raise KeyboardInterrupt
            time.sleep(self.delay)
            with self.log.open("a") as file:
                file.write(f"{prompt.splitlines()[-2]}\n")
            self.stats.prompt_tokens += 100
            self.stats.completion_tokens += 10
            self.stats.cost += 0.5
            answer = Outcome("" if "FAIL" in prompt else ANSWER)
            answer.outcome = (
                "failed" if "FAIL" in prompt else "cut_off" if "CUT" in prompt else "ok"
            )
            yield answer


@registry.llm_models("tests.Local.v1")
def make_local_model(
    log: str, stop_at: int = 0, delay: float = 0.0, budget: Any = None, prices: Any = None
) -> LocalModel:
    return LocalModel(log, stop_at, delay)


def write_config(folder: Path, *, journal: bool = True, stop_at: int = 0, delay: float = 0) -> Path:
    """Write a config whose model notes its prompts in asked.txt; the journal is answers.jsonl."""
    model = MODEL.format(log=folder / "asked.txt", stop_at=stop_at, delay=delay)
    if journal:
        first = f'@llm_models = "metaie.Journal.v1"\npath = "{folder / "answers.jsonl"}"\n'
        model = f"{first}[components.llm.model.model]{model}"
    path = folder / "teacher.cfg"
    path.write_text(f"{CONFIG}[components.llm.model]\n{model}")
    return path


def read_asked(folder: Path) -> list[str]:
    path = folder / "asked.txt"
    return path.read_text().splitlines() if path.exists() else []
