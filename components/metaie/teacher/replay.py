"""One pass over docs' prompts: what is recorded is replayed, the rest goes through a model.

The model takes its prompts from a generator, so that one which keeps many requests in
flight is never out of work, while the docs leave in order.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .answer import Answer
from .record import hash_prompt

END = object()


class Replay:
    """Yields the answers of each doc, in order, lazily.

    docs: the prompts of each.
    find: gives the recorded answer of a prompt, or None. It takes the prompt's key, and the
        prompt for an error.
    record: keeps an answer under a key.
    model: is asked what is not recorded: any model of spacy-llm, by name in errors.
    batch_size: how many docs are taken ahead of the one whose answers are due. A model that
        asks for more is told that this was all, and called anew when there is room.

    Raises ValueError if the model's answers do not fit its prompts.
    """

    def __init__(
        self,
        docs: Iterable[Iterable[str]],
        *,
        find: Callable[[str, str], Answer | None],
        record: Callable[[str, Answer], Answer],
        model: Callable[[Iterator[list[str]]], Iterable[Iterable[str]]] | None,
        name: str,
        batch_size: int,
    ) -> None:
        self._docs = iter(docs)
        self._find, self._record = find, record
        self._model, self._name = model, name
        self._batch_size = batch_size
        # Docs that were taken and not yielded, as the keys of their prompts.
        self._waiting: deque[list[str]] = deque()
        # How many of their prompts have a key, and the answers that are known.
        self._uses: Counter[str] = Counter()
        self._answers: dict[str, Answer] = {}
        # What the model is to be asked, and what it was asked and has not answered.
        self._to_ask: deque[tuple[str, str]] = deque()
        self._asked: deque[str] = deque()
        # The answers to come of the model's present call, and counts of that call.
        self._responses: Iterator[Any] | None = None
        self._n_taken = self._n_given = 0

    def __iter__(self) -> Iterator[list[str]]:
        try:
            while self._waiting or self._take():
                keys = self._waiting[0]
                while not all(key in self._answers for key in keys):
                    self._receive()
                answers: list[str] = [self._answers[key] for key in keys]
                self._waiting.popleft()
                self._forget(keys)
                yield answers
            if self._responses is not None:
                self._receive()  # so that the model comes to its end
        finally:
            # Whoever stops early leaves nothing in flight.
            close = getattr(self._responses, "close", None)
            if close is not None:
                close()

    def _take(self) -> bool:
        """Take a doc; whether there was another."""
        doc = next(self._docs, None)
        if doc is None:
            return False
        keys = []
        for prompt in doc:
            key = hash_prompt(prompt)
            if key not in self._uses:
                answer = self._find(key, prompt)
                if answer is None:
                    self._to_ask.append((key, prompt))
                else:
                    self._answers[key] = answer
            self._uses[key] += 1
            keys.append(key)
        self._waiting.append(keys)
        return True

    def _forget(self, keys: list[str]) -> None:
        for key in keys:
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key], self._answers[key]

    def _feed(self) -> Iterator[list[str]]:
        """The prompts for the model, which takes docs by taking them."""
        while self._to_ask or (len(self._waiting) < self._batch_size and self._take()):
            while self._to_ask:
                key, prompt = self._to_ask.popleft()
                self._asked.append(key)
                self._n_taken += 1
                yield [prompt]

    def _receive(self) -> None:
        """Take one answer of the model and record it, or the end of its call."""
        if self._responses is None:
            assert self._model is not None
            self._n_taken = self._n_given = 0
            given = self._model(self._feed())
            if isinstance(given, str | Mapping):
                raise ValueError(f"The model {self._name!r} gave no answers, but {given!r:.80}")
            self._responses = iter(given)
        response = next(self._responses, END)
        if response is END:
            self._responses = None
            if self._asked or not self._n_given:
                raise self._make_error()
            return
        self._n_given += 1
        if not self._asked:
            raise self._make_error()
        # A string alone is no answer: iterated over, an error in a dict gives its keys.
        text = response[0] if isinstance(response, list | tuple) and response else None
        if not isinstance(text, str):
            raise ValueError(
                f"The model {self._name!r} gave no list with a string, but {response!r:.80}"
            )
        answer = text if isinstance(text, Answer) else Answer(text)
        # It stays among what was asked until it is recorded.
        key = self._asked[0]
        self._answers[key] = self._record(key, answer)
        self._asked.popleft()

    def _make_error(self) -> ValueError:
        return ValueError(
            f"The model {self._name!r} gave {self._n_given} answers to {self._n_taken} prompts"
        )
