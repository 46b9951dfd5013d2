"""What a large model answered, kept for good: record and replay.

A journal is JSONL. Each record has "prompt_sha256" and "response", and may have
"teacher" (who answered), "time" (UTC), "id" and counts of tokens. Records are only ever
appended; the first record of a prompt counts.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from os import SEEK_END
from pathlib import Path
from typing import Any, Iterable  # noqa: UP035  spacy-llm compares hints with typing's own

from spacy_llm.registry import registry

LLM = Callable[[Iterable[Iterable[str]]], Iterable[Iterable[str]]]


class Journal:
    """A model of spacy-llm that answers what is recorded, and asks another for the rest.

    path: the journal. It is made when the first answer is recorded.
    model: any model of spacy-llm, or None to replay only.
    teacher: the name to record; by default the model says it.
    batch_size: how many docs' prompts are looked up, and asked of the model, at a time.

    Raises FileNotFoundError if there is neither a journal nor a model, ValueError if
    a record cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        model: LLM | None = None,
        teacher: str | None = None,
        batch_size: int = 64,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self.path = Path(path)
        self.model = model
        self.teacher = teacher or name_model(model)
        self.batch_size = batch_size
        if model is None and not self.path.exists():
            raise FileNotFoundError(
                f"There is no journal at {str(self.path)!r}, and no model to ask. Set "
                "`paths.journal` to a journal, or configure a model behind it."
            )
        self.responses, self._end = read_journal(self.path)
        # What follows is a record that was cut off; it goes when the next is written.
        self._cut_off = self.path.exists() and self.path.stat().st_size > self._end

    def __call__(self, prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        """Yield the responses of each doc's prompts, in order, lazily.

        A new answer is in the journal before it is yielded. Raises ValueError for a
        prompt that is not recorded when there is no model.
        """
        docs = iter(prompts)
        while batch := [list(doc) for doc in islice(docs, self.batch_size)]:
            keys = [[hash_prompt(prompt) for prompt in doc] for doc in batch]
            missing = {
                key: prompt
                for doc_keys, doc in zip(keys, batch, strict=True)
                for key, prompt in zip(doc_keys, doc, strict=True)
                if key not in self.responses
            }
            if missing:
                self._ask(missing)
            for doc_keys in keys:
                yield [self.responses[key] for key in doc_keys]

    def _ask(self, missing: dict[str, str]) -> None:
        if self.model is None:
            key, prompt = next(iter(missing.items()))
            raise ValueError(
                f"No answer is recorded for the prompt with SHA-256 {key}, which ends "
                f"{prompt[-60:]!r}; {str(self.path)!r} has {len(self.responses):,} answers. "
                "The text or the template differs from what was recorded: restore it, or "
                "configure a model in [components.llm.model.model] to ask."
            )
        count = 0
        answers = self.model([[prompt] for prompt in missing.values()])
        # The model may be lazy: each answer is kept as it comes, so that none is lost if
        # a later one fails. The keys lead, so that no answer is taken without one.
        for key, answer in zip(missing, answers, strict=False):
            response = answer[0] if isinstance(answer, list | tuple) and answer else answer
            if not isinstance(response, str):
                raise ValueError(
                    f"The model {self.teacher!r} gave {type(response).__name__} instead of a "
                    f"string: {response!r:.80}"
                )
            self.record(key, response)
            count += 1
        if count < len(missing):
            raise ValueError(
                f"The model {self.teacher!r} gave {count} answers to {len(missing)} prompts"
            )

    def record(self, key: str, response: str) -> None:
        """Append an answer to the journal, flushed, then hold it for replay."""
        # A lone surrogate is no text, and could not be written.
        response = response.encode("utf-8", "replace").decode("utf-8")
        row = {
            "prompt_sha256": key,
            "response": response,
            "teacher": self.teacher,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._append(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
        self.responses[key] = response

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        with self.path.open("r+b") as file:
            if self._cut_off:
                file.truncate(self._end)
                self._cut_off = False
            file.seek(0, SEEK_END)
            file.write(line)


def hash_prompt(prompt: str) -> str:
    """The key of a prompt: SHA-256, in hexadecimal."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def name_model(model: object) -> str:
    """What to call a model in the journal."""
    if model is None:
        return "none"
    for attribute in ("name", "_name"):
        if isinstance(name := getattr(model, attribute, None), str) and name:
            return name
    return getattr(model, "__name__", type(model).__name__)


def read_journal(path: Path) -> tuple[dict[str, str], int]:
    """Read a journal: the responses by key, and how many of its bytes are whole records.

    A last line that was cut off, as by a crash, is left out with a warning; recording
    goes on in its place. Raises ValueError, with the line's number, for any other line
    that is not a record.
    """
    responses: dict[str, str] = {}
    end = 0
    if not path.exists():
        return responses, end
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                warnings.warn(
                    f"{path}, line {number}: the last record was cut off after {len(line):,} "
                    "bytes, and is left out. Its prompt counts as not answered.",
                    stacklevel=2,
                )
                break
            if line.strip():
                key, response = parse_record(line, path, number)
                responses.setdefault(key, response)
            end += len(line)
    return responses, end


def parse_record(line: bytes, path: Path, number: int) -> tuple[str, str]:
    """The key and the response of a record. Raises ValueError if there is none."""
    problem = ""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as err:
        problem = str(err) or type(err).__name__
    else:
        if isinstance(row, dict):
            key, response = row.get("prompt_sha256"), row.get("response")
            if isinstance(key, str) and isinstance(response, str):
                return key, response
        problem = "it needs the strings 'prompt_sha256' and 'response'"
    raise ValueError(
        f"{path}, line {number} is not a record of a journal ({problem}): {line[:80]!r}. Restore "
        "the file, or delete the line: its prompt is then asked again."
    )


@registry.llm_models("metaie.Journal.v1")
def make_journal(
    path: Path,
    model: Any = None,
    teacher: str | None = None,
    batch_size: int = 64,
) -> Journal:
    """Build `metaie.Journal.v1`.

    path: the journal, JSONL.
    model: a model of spacy-llm that is asked what is not recorded; null replays only.
    teacher: who answers, for the record; null takes the model's name.
    batch_size: docs a time. A model that returns its answers all at once loses as many
        when it fails: give such a one a small batch.
    """
    return Journal(path, model, teacher, batch_size)
