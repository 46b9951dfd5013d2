"""Prompts in, answers out: many at a time, in order, by a loop in a thread of its own."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from .answer import Answer
from .budget import Tokens
from .client import ChatClient
from .completion import RequestFailed, RunStopped
from .ledger import Ledger
from .retry import get_backoff

OnAnswer = Callable[[str, Answer], Answer]


class Stream:
    """Sends prompts by a `ChatClient`, some at a time, and again where that may help.

    concurrency: requests in flight, at most; one that waits for its next try counts.
    max_tries: of a prompt.
    backoff: seconds to wait after the first try, at most; then twice as long each time.
    max_completion: the most tokens of an answer, as far as known.
    overhead: the most tokens that each request has beside its prompt.
    max_failures_in_row: prompts that fail one after the other until the run stops; None
        never stops.
    on_answer: is given each prompt and its answer, in the loop's thread, as soon as there is
        one; what it returns is handed over.

    The loop runs in a thread, so that a stream can be read where another loop runs, as in
    Jupyter, and goes on while its reader does something else. It must be closed.
    """

    def __init__(
        self,
        client: ChatClient,
        ledger: Ledger,
        *,
        concurrency: int,
        max_tries: int,
        backoff: float,
        max_completion: int,
        overhead: int,
        max_failures_in_row: int | None,
        on_answer: OnAnswer | None,
    ) -> None:
        self._client, self._ledger = client, ledger
        self._max_tries, self._backoff = max_tries, backoff
        self._max_completion, self._overhead = max_completion, overhead
        self._max_failures_in_row, self._on_answer = max_failures_in_row, on_answer
        self.stopped: Exception | None = None
        self._in_flight = 0
        self._slots = asyncio.Semaphore(concurrency)
        self._gate, self._settled = asyncio.Lock(), asyncio.Event()
        self._stopping, self._closing = asyncio.Event(), asyncio.Event()
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="metaie-chat", daemon=True)
        self._thread.start()

    def submit(self, prompt: str) -> "Future[Answer | None]":
        """Have a prompt asked. None in place of an answer: the run stopped before."""
        return asyncio.run_coroutine_threadsafe(self._ask(prompt), self._loop)

    def close(self) -> None:
        """Cancel what is in flight, close the connections, and end the thread."""
        # In a forked process there is no thread, and the sockets are the parent's.
        if os.getpid() != self._pid or not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._closing.set)
        # A stream that was abandoned may be collected in any thread, its own too.
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._wait())

    async def _wait(self) -> None:
        await self._closing.wait()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _ask(self, prompt: str) -> Answer | None:
        answer = await self._try(prompt)
        if answer is not None and self._on_answer is not None:
            answer = self._on_answer(prompt, answer)
        return answer

    async def _try(self, prompt: str) -> Answer | None:
        # A lone surrogate is no character, and could not be sent.
        prompt = prompt.encode("utf-8", "replace").decode("utf-8")
        most = Tokens(bound_tokens(prompt) + self._overhead, self._max_completion)
        async with self._slots:
            for tries in range(1, self._max_tries + 1):
                if not await self._enter(most):
                    return None
                try:
                    answer = await self._send(prompt, most)
                except RunStopped as err:
                    self._stop(err)
                    return None
                except RequestFailed as err:
                    if err.retry and tries < self._max_tries:
                        self._ledger.count_retry(err.reason)
                        await self._pause(get_backoff(tries, self._backoff, err.retry_after))
                        continue
                    return self._fail(err, tries)
                self._ledger.count_answer(answer.outcome)
                return answer
        raise AssertionError("a prompt is tried at least once")

    async def _enter(self, most: Tokens) -> bool:
        """Wait until a request may be sent; False if that will not be."""
        # One at a time, so that requests are sent in the order of their prompts, and none
        # takes from the budget what one before it waits for.
        async with self._gate:
            if not self.stopped and (wait := self._ledger.wait(most)):
                await self._pause(wait)
            while not self.stopped and not self._ledger.reserve(most):
                if not self._in_flight:
                    self._stop(self._ledger.refuse(most))
                    break
                # Most requests use less than was set aside for them.
                self._settled.clear()
                await self._settled.wait()
            if self.stopped:
                return False
            self._in_flight += 1
            return True

    async def _send(self, prompt: str, most: Tokens) -> Answer:
        used: Tokens | None = None
        try:
            answer = await self._client.ask(prompt)
            if answer.prompt_tokens is not None and answer.completion_tokens is not None:
                used = Tokens(answer.prompt_tokens, answer.completion_tokens)
            return answer
        except RequestFailed as err:
            used = None if err.billed else Tokens()
            raise
        except RunStopped:
            used = Tokens()
            raise
        finally:
            self._ledger.settle(most, used)
            self._in_flight -= 1
            self._settled.set()

    def _fail(self, err: RequestFailed, tries: int) -> Answer:
        in_row = self._ledger.count_answer("failed", err.reason)
        if err.reason == "connection" and not err.billed and not self._ledger.has_answers:
            self._ledger.forgive()
            self._stop(
                RunStopped(
                    f"The server at {self._client.base_url!r} can't be reached, and never was: "
                    f"{err}. Is it running, and is `base_url` right?"
                )
            )
        elif self._max_failures_in_row is not None and in_row >= self._max_failures_in_row:
            self._ledger.forgive()
            self._stop(
                RunStopped(
                    f"{in_row:,} prompts failed one after the other at {self._client.base_url!r}, "
                    f"the last since {err}. Run again when the server is well: with a journal "
                    "before the model, what is answered is not asked again."
                )
            )
        times = "once" if tries == 1 else f"{tries} times"
        return Answer("", "failed", error=f"asked {times}: {err}")

    def _stop(self, err: Exception) -> None:
        """Send nothing more."""
        self.stopped = self.stopped or err
        self._stopping.set()

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when the run stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def bound_tokens(prompt: str) -> int:
    """More tokens than a text can have: a token is a byte or more."""
    return len(prompt.encode("utf-8"))
