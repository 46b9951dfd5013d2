"""The teacher's pipeline: made from a config, streamed through, and what it knows of itself."""

import hashlib
import json
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import tee
from pathlib import Path
from typing import Any

from spacy.tokens import Doc
from spacy.util import load_config
from spacy_llm.pipeline import LLMWrapper
from spacy_llm.ty import supports_sharding
from spacy_llm.util import assemble_from_config
from thinc.api import Config

from ..spans import SPANS_KEY, set_queries
from ..texts import Passage
from .journal import Journal

# Settings of models that say how fast and how long to ask, and not what is answered.
PACE = (
    "backoff",
    "batch_size",
    "budget",
    "concurrency",
    "max_failures_in_row",
    "max_tries",
    "prices",
    "requests_per_minute",
    "timeout",
    "tokens_per_minute",
)


class Teacher:
    """A pipeline with an `llm` component.

    config: a spaCy config, or the path of one. overrides: settings that replace those of the
        file, by dotted names.

    Raises FileNotFoundError without a config, ValueError if its pipeline has no teacher.
    """

    def __init__(self, config: Path | Config, overrides: dict[str, Any] | None = None) -> None:
        name = "the config"
        if isinstance(config, Path):
            if not config.exists():
                raise FileNotFoundError(
                    f"There is no config {str(config)!r}. configs/teacher.cfg is ours."
                )
            name = repr(str(config))
            config = load_config(config, overrides=overrides or {}, interpolate=False)
        with warnings.catch_warnings():
            # Of many labels, a text is asked some a prompt, and so is "sharded"; it is never cut.
            warnings.filterwarnings("ignore", message="Task supports sharding")
            self.nlp = assemble_from_config(config)
        self.config = config.interpolate()
        components = [pipe for _, pipe in self.nlp.pipeline if isinstance(pipe, LLMWrapper)]
        if not components:
            raise ValueError(
                f"The pipeline of {name} has no `llm` component, but "
                f"{self.nlp.pipe_names}: no teacher, no annotation. See configs/teacher.cfg."
            )
        self.llm = components[0]
        # The limit protects parsers. A text that is too long for the model is its affair.
        self.nlp.max_length = sys.maxsize
        self._check_cache(name)

    def _check_cache(self, name: str) -> None:
        """Raise ValueError for settings of spacy-llm's component that would have no effect here."""
        for block in self.config["components"].values():
            if block.get("factory") == "llm" and block.get("cache", {}).get("path"):
                raise ValueError(
                    f"Leave out the `cache` in {name}: it saves answers batch by batch, and loses "
                    "those of the last one. Put metaie.Journal.v1 before the model instead; see "
                    "configs/teacher.cfg."
                )

    def make_doc(self, passage: Passage) -> Doc:
        """The doc of a passage, with the queries that it brings."""
        doc = self.nlp.make_doc(passage.text)
        if passage.queries:
            set_queries(doc, passage.queries, self.spans_key)
        return doc

    def annotate(self, texts: Iterable[str | Doc]) -> Generator[Doc, None, None]:
        """Yield a doc for each text, in order, lazily. A doc may bring queries of its own.

        spaCy's `nlp.pipe` hands a component its docs batch by batch, and a model that keeps
        many requests in flight would run dry at the end of each. So it gets the stream.
        """
        docs: Iterator[Doc] = map(self.nlp._ensure_doc, texts)
        for _, pipe in self.nlp.pipeline:
            if isinstance(pipe, LLMWrapper):
                docs = ask(pipe, docs)
            else:
                docs = pipe.pipe(docs) if hasattr(pipe, "pipe") else map(pipe, docs)
        yield from docs

    def make_prompts(self, texts: Iterable[str | Doc]) -> Iterator[list[str]]:
        """Yield the prompts of each text, without asking them."""
        return make_prompts(self.llm, map(self.nlp._ensure_doc, texts))[0]

    @property
    def spans_key(self) -> str:
        """The span group that the task writes."""
        return getattr(self.llm.task, "spans_key", SPANS_KEY)

    @property
    def journal(self) -> Journal | None:
        """What records the answers, if anything does."""
        return self.llm._model if isinstance(self.llm._model, Journal) else None

    @contextmanager
    def recording_in(self, path: Path) -> Iterator[None]:
        """Record answers in another journal; what the config's journal has is not asked either."""
        before: Any = self.llm._model
        model, others = before, []
        if isinstance(before, Journal):
            model, others = before.model, [before.path, *before.others]
        with Journal(path, model, before.teacher if self.journal else None, others=others) as own:
            self.llm._model = own
            try:
                yield
            finally:
                self.llm._model = before

    @property
    def stats(self) -> Any:
        """What the model counts (tokens, cost), or that behind the journal; None if it does not."""
        model: Any = self.llm._model
        while model is not None:
            if (stats := getattr(model, "stats", None)) is not None:
                return stats
            model = getattr(model, "model", None)
        return None

    @property
    def prices(self) -> tuple[float, float] | None:
        """What a million tokens cost by the config, of prompts and of answers."""
        for block in self._find_blocks("prices"):
            if isinstance(block, dict):
                return float(block.get("prompt", 0.0)), float(block.get("completion", 0.0))
        return None

    def _find_blocks(self, name: str) -> Iterator[Any]:
        blocks = list(self.config["components"].values())
        while blocks:
            block = blocks.pop()
            if isinstance(block, dict):
                if name in block:
                    yield block[name]
                blocks.extend(block.values())

    @property
    def settings(self) -> dict[str, str]:
        """Digests (SHA-256) of the prompts' template and of all settings that answers depend on.

        How fast the model is asked, and what may be spent, is not among them.
        """
        template = str(getattr(self.llm.task, "prompt_template", ""))
        config = {"nlp": self.config["nlp"], "components": self.config["components"]}
        return {
            "config_sha256": hash_text(json.dumps(drop_pace(config), sort_keys=True, default=str)),
            "template_sha256": hash_text(template),
        }


def ask(llm: LLMWrapper, docs: Iterable[Doc]) -> Iterator[Doc]:
    """Ask a component's model about a stream of docs; yield them with what was answered.

    No more is held than the model looks ahead.
    """
    prompts, docs = make_prompts(llm, docs)
    # The model of metaie.Chat.v1 has a progress bar of its own, where nobody else has.
    answers = getattr(llm._model, "stream_answers", llm._model)(prompts)
    try:
        yield from llm.task.parse_responses(docs, map(list, answers))
    finally:
        # Whoever stops early leaves no request in flight.
        if hasattr(answers, "close"):
            answers.close()


def make_prompts(llm: LLMWrapper, docs: Iterable[Doc]) -> tuple[Iterator[list[str]], Iterator[Any]]:
    """The prompts of each doc, and what the task's parser wants beside the answers to them."""
    if supports_sharding(llm.task):
        length = getattr(llm._model, "context_length", None)
        pairs, others = tee(llm.task.generate_prompts(docs, length))
        return (list(prompts) for prompts, _ in pairs), (shards for _, shards in others)
    docs, others = tee(docs)
    return ([prompt] for prompt in llm.task.generate_prompts(docs)), others


def drop_pace(config: Any) -> Any:
    """A copy of a config without the settings that say how fast to go and what to spend."""
    if not isinstance(config, dict):
        return config
    return {key: drop_pace(value) for key, value in config.items() if key not in PACE}


def hash_text(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
