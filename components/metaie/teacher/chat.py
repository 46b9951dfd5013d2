"""A model of spacy-llm for any OpenAI-compatible chat endpoint, many requests at a time."""

import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sized
from concurrent.futures import Future
from contextlib import closing
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any, Iterable  # noqa: UP035  spacy-llm compares typing's own
from urllib.parse import urlsplit

from spacy.util import logger
from spacy_llm.registry import registry
from tqdm import tqdm

from .answer import Answer
from .budget import Budget, Prices, check_amount
from .ledger import Ledger, Stats

if TYPE_CHECKING:
    from .stream import Stream

# Prompts taken from the stream, for each that is in flight: so many may overtake a slow one.
LOOK_AHEAD = 4
# Tokens.
ROOM = 256
OWN = ("messages", "model", "n", "stream")


class Chat:
    """Asks a chat model, and hands over its answers in order, as they come.

    Each is an `Answer`: a string with its outcome and its tokens. A prompt that cannot be
    answered is an empty one with the outcome "failed", and no error. See `make_chat` for the
    settings. `stats` counts what was done since the model was made.

    Raises ValueError for a setting that makes no sense.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        api_key_env: str | None = None,
        concurrency: int = 16,
        timeout: float = 120.0,
        max_tries: int = 6,
        backoff: float = 1.0,
        max_failures_in_row: int | None = 100,
        temperature: float | None = 0.0,
        max_tokens: int | None = None,
        extra_body: dict[str, Any] | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        prices: Prices | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.name, self.base_url, self.api_key_env = name, check_url(base_url), api_key_env
        extra_body, prices, budget = extra_body or {}, prices or Prices(), budget or Budget()
        for setting, number, least in (
            ("concurrency", concurrency, 1),
            ("timeout", timeout, 0.001),
            ("max_tries", max_tries, 1),
            ("backoff", backoff, 0),
            ("max_failures_in_row", max_failures_in_row, 1),
            ("temperature", temperature, 0),
            ("max_tokens", max_tokens, 1),
            ("requests_per_minute", requests_per_minute, 0.001),
            ("tokens_per_minute", tokens_per_minute, 1),
        ):
            if number is not None:
                check_amount(setting, number, least)
        if taken := sorted(set(extra_body) & set(OWN)):
            raise ValueError(f"extra_body must not set {', '.join(taken)}: this model does.")
        self.concurrency, self.timeout, self.max_tries = concurrency, timeout, max_tries
        self.backoff, self.max_failures_in_row = backoff, max_failures_in_row
        self.settings: dict[str, Any] = {"model": name}
        if temperature is not None:
            self.settings["temperature"] = temperature
        if max_tokens is not None:
            self.settings["max_tokens"] = max_tokens
        self.settings.update(extra_body)
        self._extra_bytes = len(json.dumps(extra_body).encode("utf-8")) if extra_body else 0
        limits = [self.settings.get(key) for key in ("max_tokens", "max_completion_tokens")]
        self._max_completion = max((n for n in limits if type(n) is int), default=0)
        if budget and not self._max_completion:
            raise ValueError(
                "A budget needs max_tokens: without it, nobody knows what the next answer costs."
            )
        if budget.cost is not None and prices == Prices():
            raise ValueError(
                f"A budget of {budget.cost:,} in money needs `prices`: those of a million tokens, "
                "as {prompt = 0.15, completion = 0.6}."
            )
        self._ledger = Ledger(prices, budget, requests_per_minute, tokens_per_minute)

    @property
    def stats(self) -> Stats:
        """What was done since the model was made."""
        return self._ledger.stats

    def __call__(self, prompts: Iterable[Iterable[str]]) -> Iterable[Iterable[str]]:
        """Yield the answers to each doc's prompts, in order, lazily.

        Prompts are taken ahead of the answers, up to four times `concurrency`. Whoever stops
        reading early should close what is returned, or drop it: both cancel what is in flight.

        Raises BudgetReached before a request that might pass the budget, and ValueError if the
        key is missing or refused, there is no such model, or everything fails; in each case
        after all answers that came have been handed over.
        """
        return self._answer(prompts)

    def _answer(self, prompts: Iterable[Iterable[str]]) -> Iterator[list[str]]:
        # How many come is known to whoever brings a list, and has a progress bar of his own.
        disable = True if isinstance(prompts, Sized) else None
        with (
            closing(self.stream_answers(prompts)) as stream,
            tqdm(unit=" prompts", disable=disable, delay=1, leave=False) as progress,
        ):
            for answers in stream:
                progress.set_postfix_str(self._describe_progress(), refresh=False)
                progress.update(len(answers))
                yield answers

    def stream_answers(
        self,
        prompts: Iterable[Iterable[str]],
        on_answer: Callable[[str, Answer], Answer] | None = None,
    ) -> Generator[list[str], None, None]:
        """As a call, without a progress bar.

        on_answer: is given each prompt and its answer, in another thread, as soon as there is
            one, which may be long before its turn; what it returns is handed over.
        """
        docs = iter(prompts)
        first = next(docs, None)
        if first is None:
            return
        began = monotonic()
        stream = self._open(on_answer)
        try:
            yield from self._hand_over(stream, first, docs)
        finally:
            stream.close()
            self._ledger.add_seconds(monotonic() - began)
            logger.info("%s: %s", self.name, self.stats.describe())
        if stream.stopped:
            raise stream.stopped

    def _hand_over(
        self, stream: "Stream", first: Iterable[str], docs: Iterator[Iterable[str]]
    ) -> Iterator[list[str]]:
        docs = chain([first], docs)
        window: deque[list[Future[Answer | None]]] = deque()
        size, ahead, ended = 0, LOOK_AHEAD * self.concurrency, False
        # Docs of which nothing was asked, since the run stopped. They are left out, unless an
        # answer follows, whose place they must keep.
        unasked: list[list[str]] = []
        while window or not ended:
            # One is taken for one that is handed over, so that a slow source does not hold up
            # answers, nor a slow reader the requests.
            if not ended and size < ahead:
                doc = None if stream.stopped else next(docs, None)
                ended = doc is None
                if doc is not None:
                    window.append([stream.submit(prompt) for prompt in doc])
                    size += len(window[-1])
            if not window or not (ended or size >= ahead or all(f.done() for f in window[0])):
                continue
            answers = [future.result() for future in window.popleft()]
            size -= len(answers)
            reason = f"the run stopped before: {stream.stopped}"
            unasked.append(
                [Answer("", "failed", error=reason) if a is None else a for a in answers]
            )
            if not answers or any(answer is not None for answer in answers):
                yield from unasked
                unasked.clear()

    def _open(self, on_answer: Callable[[str, Answer], Answer] | None) -> "Stream":
        try:
            from .client import ChatClient
            from .stream import Stream
        except ImportError as err:
            raise ValueError(
                f'metaie.Chat.v1 needs more packages ({err.name}): pip install "metaie[chat]"'
            ) from err
        client = ChatClient(
            self.base_url,
            self.settings,
            self._read_key(),
            self.api_key_env,
            self.timeout,
            self.concurrency,
        )
        return Stream(
            client,
            self._ledger,
            concurrency=self.concurrency,
            max_tries=self.max_tries,
            backoff=self.backoff,
            max_completion=self._max_completion,
            # Tools and schemas count as well, and some for what the server puts around it all.
            overhead=ROOM + self._extra_bytes,
            max_failures_in_row=self.max_failures_in_row,
            on_answer=on_answer,
        )

    def _read_key(self) -> str | None:
        """The key, which is read for each stream, and kept by nothing that could be saved."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise ValueError(
                f"The environment variable {self.api_key_env!r} is not set: it should hold the "
                f"key for {self.base_url!r}. For a server that needs none, leave out api_key_env."
            )
        if not key.isascii() or not key.isprintable():
            raise ValueError(
                f"What the environment variable {self.api_key_env!r} holds is no key: it has "
                "characters that a header cannot have."
            )
        return key

    def _describe_progress(self) -> str:
        stats = self.stats
        cost = f", {stats.cost:,.2f} spent" if stats.cost else ""
        return f"{stats.tokens.total:,} tokens{cost}, {stats.outcomes['failed']:,} failed"


def check_url(url: str) -> str:
    """Raise ValueError unless it is a URL of a web server, without a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        raise ValueError("base_url is not a URL such as http://127.0.0.1:11434/v1") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "base_url must not hold a user or a password: name an environment variable in "
            "api_key_env instead."
        )
    if not usable:
        raise ValueError(f"base_url must be a URL such as http://127.0.0.1:11434/v1, not {url!r}")
    return url


@registry.llm_models("metaie.Chat.v1")
def make_chat(
    name: str,
    base_url: str,
    api_key_env: str | None = None,
    concurrency: int = 16,
    timeout: float = 120.0,
    max_tries: int = 6,
    backoff: float = 1.0,
    max_failures_in_row: int | None = 100,
    temperature: float | None = 0.0,
    max_tokens: int | None = None,
    extra_body: dict[str, Any] | None = None,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    prices: dict[str, float] | None = None,
    budget: dict[str, float | None] | None = None,
) -> Chat:
    """Build `metaie.Chat.v1`.

    name: the model, as the server calls it.
    base_url: the endpoint, up to and without `/chat/completions`.
    api_key_env: the environment variable that holds the key; None sends none.
    concurrency: requests in flight, at most.
    timeout: seconds for a request, from its start to the last byte of its answer.
    max_tries: of a prompt, when a server is busy, fails, or sends what is no answer.
    backoff: seconds to wait after the first try, at most, then twice as long each time, up to
        30. What the server asks for by `Retry-After`, up to 120 seconds, comes on top.
    max_failures_in_row: the run stops when so many prompts fail one after the other; None
        goes on.
    temperature: None leaves it to the server.
    max_tokens: of an answer; None leaves it to the server. Some models take
        `max_completion_tokens` instead, which goes into `extra_body`.
    extra_body: anything else of the request, as the server knows it.
    requests_per_minute, tokens_per_minute: rates to stay below, evenly.
    prices: of a million tokens, "prompt" and "completion", in any currency.
    budget: "tokens" (prompts and completions together) and "cost" (in the currency of the
        prices), for all that the model is asked in this process. It needs max_tokens.
    """
    return Chat(
        name,
        base_url,
        api_key_env=api_key_env,
        concurrency=concurrency,
        timeout=timeout,
        max_tries=max_tries,
        backoff=backoff,
        max_failures_in_row=max_failures_in_row,
        temperature=temperature,
        max_tokens=max_tokens,
        extra_body=extra_body,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        prices=make_setting(Prices, "prices", prices),
        budget=make_setting(Budget, "budget", budget),
    )


def make_setting(kind: Any, name: str, values: dict[str, Any] | None) -> Any:
    """A setting with parts, of a class. Raises ValueError for a part that it does not have."""
    known = [*kind.__dataclass_fields__]
    if unknown := sorted(set(values or {}) - set(known)):
        raise ValueError(f"{name} has {' and '.join(known)}, but no {', '.join(unknown)}.")
    return kind(**(values or {}))
