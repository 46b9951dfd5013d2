"""A chat-completions server on 127.0.0.1, for tests and measurements, that misbehaves on demand.

In a test, in a thread of its own:

    with ChatServer({"prompt": ["server_error", "ok"]}) as server:
        server.base_url

By itself, with its counts at /counts:

    python tests/chat_server.py --latency 0.2 --fault server_error=0.1
"""

import argparse
import asyncio
import gzip
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

REASONS = {
    200: "OK",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    409: "Conflict",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}
HTML = b"<!DOCTYPE html><html><body><h1>Please sign in</h1></body></html>"


def default_answer(prompt: str) -> str:
    """What is answered to a prompt: the same always, and another for another."""
    return f"- Answer: {hashlib.sha256(prompt.encode()).hexdigest()[:12]}"


def hash_prompt(prompt: str) -> str:
    """What a prompt goes by in the counts: the key that a journal has for it, too."""
    return hashlib.sha256(prompt.encode()).hexdigest()


def count_tokens(text: str) -> int:
    """Here a token is a word."""
    return len(text.split())


class ChatServer:
    """Answers POST /v1/chat/completions.

    script: what happens to the successive requests of a prompt, by the names of the methods
        below that begin with `do_`. After the last, and where there is none: `ok`.
    faults: the shares of requests to which something else than `ok` happens. What happens to
        a prompt's n-th request is settled by `seed`, whatever the order that they come in.
    answers: by prompt; `default_answer` has the others.
    latency: seconds before an answer; `jitter` adds up to so many, by chance.
    key: what must be sent as `Authorization: Bearer`; None asks for nothing.
    """

    def __init__(
        self,
        script: Mapping[str, Sequence[str]] | None = None,
        faults: Mapping[str, float] | None = None,
        answers: Mapping[str, str] | None = None,
        latency: float = 0.0,
        jitter: float = 0.0,
        key: str | None = None,
        seed: int = 0,
        retry_after: str = "0",
        port: int = 0,
    ) -> None:
        self.script, self.faults = script or {}, faults or {}
        for name in [*self.faults, *(name for names in self.script.values() for name in names)]:
            if not hasattr(self, f"do_{name}"):
                raise ValueError(f"There is no fault {name!r}")
        self.answers = answers or {}
        self.latency, self.jitter, self.key, self.seed = latency, jitter, key, seed
        self.retry_after = retry_after
        self.port = port
        # What was done, by name; how often each prompt was answered, and asked; in which order;
        # the last request.
        self.done: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.order: list[str] = []
        self.last_body: dict[str, Any] = {}
        self.last_headers: dict[str, str] = {}
        self.open = self.most_open = self.left = self.connections = 0
        self.prompt_tokens = self.completion_tokens = 0
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """Where the client finds it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.serve(ready.set)), daemon=True
        )
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        assert self._thread is not None
        self._thread.join(10)

    async def serve(self, ready: Callable[[], object]) -> None:
        """Serve until stopped."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(
            self._connect, "127.0.0.1", self.port, backlog=1024, limit=1 << 20
        )
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await self._stop.wait()
        server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._respond(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:  # the server is stopped
            pass
        finally:
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if path == "/counts":
            await self.send(writer, 200, self.counts())
            return True
        if path != "/v1/chat/completions":
            await self.send_error(writer, 404, "There is nothing here")
            return True
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            self.done["refused_key"] += 1
            # As hosted services do: the message repeats the key.
            sent = headers.get("authorization", "none")
            await self.send_error(writer, 401, f"Incorrect API key provided: {sent}", "invalid_key")
            return True
        self.last_headers, self.last_body = headers, json.loads(body)
        prompt = self.last_body["messages"][-1]["content"]
        what = self.choose(prompt, self.asked[prompt])
        self.asked[prompt] += 1
        self.order.append(prompt)
        self.done[what] += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        act: Callable[[asyncio.StreamWriter, str], Awaitable[bool | None]]
        act = getattr(self, f"do_{what}")
        wait = self.latency + self.jitter * random.random()
        # Whether the client leaves while it waits, as one does that gave up.
        watch = asyncio.create_task(reader.read(1))
        answer = asyncio.create_task(self._act(act, writer, prompt, wait))
        try:
            await asyncio.wait({watch, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                self.left += 1
                return False
            return answer.result() is not False
        finally:
            self.open -= 1
            answer.cancel()
            watch.cancel()
            await asyncio.gather(watch, answer, return_exceptions=True)

    async def _act(
        self,
        act: Callable[[asyncio.StreamWriter, str], Awaitable[bool | None]],
        writer: asyncio.StreamWriter,
        prompt: str,
        wait: float,
    ) -> bool | None:
        if wait:
            await asyncio.sleep(wait)
        return await act(writer, prompt)

    def choose(self, prompt: str, number: int) -> str:
        """What happens to the request of a prompt with this number, from 0."""
        if prompt in self.script:
            names = self.script[prompt]
            return names[number] if number < len(names) else "ok"
        draw = random.Random(f"{self.seed} {number} {prompt}").random() if self.faults else 1.0
        for name, share in self.faults.items():
            if draw < share:
                return name
            draw -= share
        return "ok"

    def counts(self) -> bytes:
        """What was done so far, as JSON."""
        counts = {
            "done": dict(self.done),
            "answered": {hash_prompt(prompt): n for prompt, n in self.answered.items()},
            "prompts": len(self.asked),
            "most_open": self.most_open,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        return json.dumps(counts).encode()

    async def send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        body: bytes,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write a whole response."""
        writer.write(self.head(status, len(body), kind, headers) + body)
        await writer.drain()

    def head(
        self,
        status: int,
        length: int,
        kind: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The first lines of a response."""
        lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"Content-Type: {kind}"]
        lines += [f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def send_error(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write an error as OpenAI's API does."""
        error = {"error": {"message": message, "type": "error", "param": None, "code": code}}
        await self.send(writer, status, json.dumps(error).encode(), headers=headers)

    def completion(
        self,
        prompt: str,
        content: object = ...,
        finish_reason: str = "stop",
        refusal: str | None = None,
        usage: bool = True,
    ) -> bytes:
        """A chat completion."""
        if content is ...:
            content = self.answers.get(prompt) or default_answer(prompt)
        message = {"role": "assistant", "content": content, "refusal": refusal}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        completion: dict[str, Any] = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "test",
            "choices": [choice],
        }
        if usage:
            sent, made = count_tokens(prompt), count_tokens(str(content or refusal or ""))
            self.prompt_tokens += sent
            self.completion_tokens += made
            completion["usage"] = {
                "prompt_tokens": sent,
                "completion_tokens": made,
                "total_tokens": sent + made,
            }
        return json.dumps(completion).encode()

    async def do_ok(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        self.answered[prompt] += 1
        await self.send(writer, 200, self.completion(prompt))

    async def do_parts(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        parts = [{"type": "text", "text": "- A: "}, {"type": "text", "text": "b"}]
        await self.send(writer, 200, self.completion(prompt, parts))

    async def do_no_usage(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, self.completion(prompt, usage=False))

    async def do_odd_usage(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        completion = json.loads(self.completion(prompt, usage=False))
        completion["usage"] = {"prompt_tokens": -3, "completion_tokens": 10**30}
        await self.send(writer, 200, json.dumps(completion).encode())

    async def do_cut_off(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, self.completion(prompt, "- City: Lon", "length"))

    async def do_filtered(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, self.completion(prompt, None, "content_filter"))

    async def do_refused(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, self.completion(prompt, None, refusal="I would rather not."))

    async def do_empty(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, self.completion(prompt, " \n"))

    async def do_filtered_prompt(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send_error(writer, 400, "The prompt was filtered", "content_filter")

    async def do_too_long(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        message = "This model's maximum context length is 8192 tokens"
        await self.send_error(writer, 400, message, "context_length_exceeded")

    async def do_bad_request(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send_error(writer, 422, "Unsupported parameter: 'temperature'")

    async def do_no_credit(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send_error(writer, 402, "Insufficient balance")

    async def do_no_quota(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send_error(writer, 429, "You exceeded your quota", "insufficient_quota")

    async def do_no_model(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send_error(writer, 404, "The model does not exist", "model_not_found")

    async def do_redirect(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 307, b"", headers={"Location": "http://127.0.0.1:9/v1"})

    async def do_refused_key(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        sent = self.last_headers.get("authorization", "none")
        await self.send_error(writer, 401, f"Incorrect API key provided: {sent}", "invalid_key")

    async def do_forbidden(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send_error(writer, 403, "Your country is not supported")

    async def do_request_timeout(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send_error(writer, 408, "Too slow")

    async def do_conflict(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send_error(writer, 409, "Conflict")

    async def do_rate_limit(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        headers = {"Retry-After": self.retry_after}
        await self.send_error(writer, 429, "Too many requests", "rate_limit", headers)

    async def do_rate_limit_date(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
        await self.send_error(writer, 429, "Too many requests", headers={"Retry-After": date})

    async def do_server_error(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        sent = self.last_headers.get("authorization", "")
        await self.send_error(writer, 500, f"The server had an error. You sent {sent}")

    async def do_bad_gateway(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 502, HTML, "text/html")

    async def do_cut(self, writer: asyncio.StreamWriter, prompt: str) -> bool:
        body = self.completion(prompt, usage=False)
        writer.write(self.head(200, len(body)) + body[: len(body) // 2])
        await writer.drain()
        return False

    async def do_hang_up(self, writer: asyncio.StreamWriter, prompt: str) -> bool:
        return False

    async def do_not_json(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, b'{"choices": [')

    async def do_deep_json(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, b"[" * 500_000)

    async def do_other_json(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, b'["choices", 3, null]')

    async def do_html(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, HTML, "text/html; charset=utf-8")

    async def do_no_choices(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, b'{"object": "chat.completion", "choices": []}')

    async def do_error_in_200(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, b'{"error": {"message": "The upstream is down"}}')

    async def do_odd_headers(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        headers = {"X-Served-By": "Köln", "Set-Cookie": "a=\x01b"}
        await self.send(writer, 200, self.completion(prompt), headers=headers)

    async def do_odd_date(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        headers = {"Retry-After": "Mon, 1 Jan 99999999999 00:00:00 GMT"}
        await self.send_error(writer, 429, "Too many requests", "rate_limit", headers)

    async def do_filtered_403(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send_error(writer, 403, "The prompt was filtered", "content_filter")

    async def do_says_key(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        body = self.completion(prompt, self.last_headers.get("authorization", "no key"))
        await self.send(writer, 200, body.replace(b"/", b"\\/"))

    async def do_echo(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        sent = self.last_headers.get("authorization", "")
        await self.send(writer, 200, b"x" * 180 + sent.encode())

    async def do_no_http(self, writer: asyncio.StreamWriter, prompt: str) -> bool:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()
        return False

    async def do_bad_gzip(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, b"no gzip", headers={"Content-Encoding": "gzip"})

    async def do_gzip(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        body = gzip.compress(self.completion(prompt))
        await self.send(writer, 200, body, headers={"Content-Encoding": "gzip"})

    async def do_huge_gzip(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        body = gzip.compress(self.completion(prompt, "x" * 10_000_000, usage=False))
        await self.send(writer, 200, body, headers={"Content-Encoding": "gzip"})

    async def do_huge(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 200, self.completion(prompt, "x" * 10_000_000, usage=False))

    async def do_huge_error(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await self.send(writer, 500, b"x" * 10_000_000, "text/plain")

    async def do_drip(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        body = self.completion(prompt, usage=False)
        writer.write(self.head(200, len(body)))
        for byte in body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async def do_hang(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        await asyncio.sleep(3600)


def main() -> None:
    """Serve until killed, after saying where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--jitter", type=float, default=0.0, help="seconds")
    parser.add_argument("--fault", action="append", default=[], help="NAME=SHARE")
    parser.add_argument("--answers", type=Path, help="JSON: the answers by prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    faults = {name: float(share) for name, _, share in (f.partition("=") for f in args.fault)}
    server = ChatServer(
        faults=faults,
        answers=json.loads(args.answers.read_text()) if args.answers else None,
        latency=args.latency,
        jitter=args.jitter,
        seed=args.seed,
        port=args.port,
    )
    asyncio.run(server.serve(lambda: print(server.base_url, flush=True)))


if __name__ == "__main__":
    main()
