"""What a large model answered, kept for good: record and replay.

A journal is JSONL. Each record has "prompt_sha256" and "response", and may have "teacher"
(who answered), "time" (UTC), "outcome" (where it is not "ok"), "prompt_tokens",
"completion_tokens", "error" and "id". Records are only ever appended; the first record of
a prompt counts.
"""

import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Iterable, Self  # noqa: UP035  spacy-llm compares hints with typing's own

from spacy_llm.registry import registry

from .answer import Answer
from .index import JournalIndex
from .record import format_record, hash_prompt, make_answer
from .replay import Replay
from .writer import JournalWriter

LLM = Callable[[Iterable[Iterable[str]]], Iterable[Iterable[str]]]
BATCH_SIZE = 64
# A model takes some prompts ahead for each that is in flight, and recorded ones lie between.
BATCH_PER_REQUEST = 16


class Journal:
    """A model of spacy-llm that answers what is recorded, and asks another for the rest.

    path: the journal. It is made when the first answer is recorded.
    model: any model of spacy-llm, or None to replay only.
    teacher: the name to record; by default the model says it.
    batch_size: how many docs are taken ahead of the one whose answers are due. By default
        64, or 16 times the model's `concurrency` if it has one and that is more.
    others: journals to look in as well, which are not written to.

    Any number of processes may read a journal while one writes to it: the first that has a
    prompt to ask, until its journal is closed or no more used.

    Raises FileNotFoundError if there is neither a journal nor a model, ValueError if
    a record cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        model: LLM | None = None,
        teacher: str | None = None,
        batch_size: int | None = None,
        others: Sequence[str | Path] = (),
    ) -> None:
        if batch_size is None:
            batch_size = max(BATCH_SIZE, BATCH_PER_REQUEST * get_concurrency(model))
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.path = Path(path)
        self.model = model
        self.teacher = teacher or name_model(model)
        self.batch_size = batch_size
        self.others = [Path(other) for other in others]
        if model is None and not any(p.exists() for p in [self.path, *self.others]):
            raise FileNotFoundError(
                f"There is no journal at {str(self.path)!r}, and no model to ask. Set "
                "`paths.journal` to a journal, or configure a model behind it."
            )
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        # A model may hand over answers in a thread of its own.
        self._lock = threading.RLock()
        self._index = JournalIndex(self.path)
        self._others = [JournalIndex(other) for other in self.others]
        self._writer: JournalWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process write. The journal is of no use afterwards."""
        if self._writer is not None:
            self._writer.close()
        for index in (self._index, *self._others):
            index.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # To another process goes what it takes to open the journal there.
        settings = self.path, self.model, self.teacher, self.batch_size, self.others
        return type(self), settings

    @property
    def context_length(self) -> int | None:
        """That of the model, which spacy-llm's tasks cut long docs by."""
        return getattr(self.model, "context_length", None)

    def find(self, prompt: str) -> Answer | None:
        """What is recorded for a prompt, or None. Nobody is asked.

        What another process has recorded since the journal was opened may be missing.
        """
        return self._find_recorded(hash_prompt(prompt))

    def __call__(self, prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        """Yield the responses of each doc's prompts, in order, lazily.

        Responses are `Answer`s. A new one is in the journal before it is yielded, and one of
        `metaie.Chat.v1` as soon as it is there; one that failed is not recorded, and so asked
        again another time. Equal prompts are asked once.

        Raises ValueError for a prompt that is not recorded when there is no model,
        JournalLocked for one when another process is writing.
        """
        try:
            yield from Replay(
                prompts,
                find=self._look_up,
                record=self._record,
                model=self._ask,
                name=self.teacher,
                batch_size=self.batch_size,
            )
        finally:
            if self._writer is not None:
                self._writer.sync()

    @property
    def _ask(self) -> LLM | None:
        """The model, or what has it hand over each answer to be recorded at once."""
        stream = getattr(self.model, "stream_answers", None)
        return partial(stream, on_answer=self._record_early) if stream else self.model

    def _find_recorded(self, key: str) -> Answer | None:
        if self._pid != os.getpid():
            self._open()  # after a fork, database and lock are the parent's
        with self._lock:
            for index in (self._index, *self._others):
                if (row := index.find(key)) is not None:
                    return make_answer(row)
        return None

    def _look_up(self, key: str, prompt: str) -> Answer | None:
        answer = self._find_recorded(key)
        if answer is None:
            if self.model is not None:
                self._start_writing()  # before anything is paid for
            # Another process may have recorded it.
            with self._lock:
                answer = self._find_recorded(key) if self._index.catch_up() else None
        if answer is None and self.model is None:
            names = " and ".join(repr(str(path)) for path in (self.path, *self.others))
            total = sum(index.records for index in (self._index, *self._others))
            raise ValueError(
                f"No answer is recorded for the prompt with SHA-256 {key}, which ends "
                f"{prompt[-60:]!r}; {names} has {total:,} records. "
                "The text or the template differs from what was recorded: restore it, or "
                "configure a model in [components.llm.model.model] to ask."
            )
        return answer

    def _start_writing(self) -> JournalWriter:
        assert self._pid == os.getpid(), "a forked process writes with its parent's lock"
        if self._writer is None:
            self._writer = JournalWriter(self._index)
        return self._writer

    def _record_early(self, prompt: str, answer: Answer) -> Answer:
        return self._record(hash_prompt(prompt), answer)

    def _record(self, key: str, answer: Answer) -> Answer:
        """Append an answer to the journal, unless it failed. Returns it as it is replayed."""
        answer = make_storable(answer)
        if answer.outcome == "failed":
            return answer
        with self._lock:
            if self._index.find(key) is None:  # it may have been recorded as soon as it was there
                time = datetime.now(UTC).isoformat(timespec="seconds")
                self._start_writing().append(format_record(key, answer, self.teacher, time))
        return answer


def make_storable(answer: Answer) -> Answer:
    """The answer without lone surrogates: they are no text, and could not be written."""

    def clean(text: str) -> str:
        return text.encode("utf-8", "replace").decode("utf-8")

    error = None if answer.error is None else clean(answer.error)
    tokens = answer.prompt_tokens, answer.completion_tokens
    return Answer(clean(answer), answer.outcome, *tokens, error)


def name_model(model: object) -> str:
    """What to call a model in the journal."""
    if model is None:
        return "none"
    for attribute in ("name", "_name"):
        if isinstance(name := getattr(model, attribute, None), str) and name:
            return name
    return getattr(model, "__name__", type(model).__name__)


def get_concurrency(model: object) -> int:
    """How many requests a model keeps in flight, as far as it says so."""
    concurrency = getattr(model, "concurrency", 1)
    return concurrency if isinstance(concurrency, int) else 1


@registry.llm_models("metaie.Journal.v1")
def make_journal(
    path: Path,
    model: Any = None,
    teacher: str | None = None,
    batch_size: int | None = None,
    others: list[Path] | None = None,
) -> Journal:
    """Build `metaie.Journal.v1`.

    path: the journal, JSONL.
    model: a model of spacy-llm that is asked what is not recorded; null replays only.
    teacher: who answers, for the record; null takes the model's name.
    batch_size: docs taken ahead of the one whose answers are due; null takes 64, or 16 times
        the model's `concurrency` if that is more. A model that returns its answers all at
        once gets so many docs at a time, and loses as many when it fails: give such a one a
        small batch. One that is lazy is out of work when the batch is full of docs that wait
        for its slowest answer: give that one a large batch.
    others: journals to look in as well; nothing is written to them.
    """
    return Journal(path, model, teacher, batch_size, others or ())
