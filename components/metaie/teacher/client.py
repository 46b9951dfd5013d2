"""One request to an OpenAI-compatible chat endpoint, through the client of `openai`.

Imported when a request is about to be sent: it needs the extra `metaie[chat]`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import httpx2
import openai

from .answer import Answer
from .completion import MAX_QUOTED, RequestFailed, RunStopped, read_completion
from .retry import read_retry_after

# Bytes of a response. The longest answers of today's models are a tenth of it.
MAX_BODY = 4 * 1024 * 1024

FILTERED = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
TOO_LONG = ("context_length_exceeded", "exceed_context_size_error", "context length")
NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")


# Characters of a key that has to be kept out of answers.
MIN_SECRET = 16


class TooLarge(Exception):
    """A body that is longer than `MAX_BODY`."""


class BoundedClient(openai.DefaultAioHttpClient):
    """An HTTP client that reads no more than `MAX_BODY` of a body, unpacked."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request, and read its response. Raises TooLarge."""
        response = await super().send(request, **{**options, "stream": True})
        # Nobody here has a session, and what one answer sets must not spoil other requests.
        self.cookies.clear()
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY:
                    raise TooLarge
        finally:
            await response.aclose()
        # The body is unpacked already. Bytes, since a server may write any into its headers.
        headers = [
            (name, value)
            for name, value in response.headers.raw
            if name.lower() not in (b"content-encoding", b"content-length", b"transfer-encoding")
        ]
        return httpx2.Response(
            response.status_code, headers=headers, content=bytes(body), request=request
        )


class ChatClient:
    """Sends prompts, one a request, and reads what comes back.

    base_url: the endpoint, without `/chat/completions`.
    settings: of the request's body, beside the messages.
    key: sent as a bearer token; None sends nothing.
    api_key_env: where the key is from, for messages.
    timeout: seconds for a whole request, however steadily the answer drips in.
    concurrency: connections at most.
    """

    def __init__(
        self,
        base_url: str,
        settings: Mapping[str, Any],
        key: str | None,
        api_key_env: str | None,
        timeout: float,
        concurrency: int,
    ) -> None:
        self.base_url, self.settings, self.timeout = base_url, dict(settings), timeout
        self._key, self._api_key_env = key, api_key_env
        # The account that the environment names is OpenAI's, and no business of another server.
        self._headers: dict[str, Any] = {
            "OpenAI-Organization": openai.Omit(),
            "OpenAI-Project": openai.Omit(),
        }
        if key is None:
            self._headers["Authorization"] = openai.Omit()
        limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=key or "none",
            admin_api_key="",
            max_retries=0,
            timeout=None,
            # Prompts go where the config says, and nowhere else.
            http_client=BoundedClient(limits=limits, timeout=None, follow_redirects=False),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def ask(self, prompt: str) -> Answer:
        """Send a prompt once.

        Raises RequestFailed if no answer came, RunStopped if none will come to any request.
        """
        body = {**self.settings, "messages": [{"role": "user", "content": prompt}]}
        try:
            async with asyncio.timeout(self.timeout):
                # `client.chat.completions.create` spends more time on the types of what is
                # sent and received than on all the rest.
                response = await self._client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    body=body,
                    options={"headers": self._headers},
                )
        except TimeoutError:
            message = f"no answer within {self.timeout:g} seconds"
            raise RequestFailed("timeout", message, billed=True) from None
        except openai.APIStatusError as err:
            refused = err
        except TooLarge:
            message = f"the answer is larger than {MAX_BODY:,} bytes"
            raise RequestFailed("too_large", message, billed=True) from None
        except Exception as err:
            # Whatever a server makes the client's parts raise, one request must not end all.
            # What the client itself says is "Connection error", or a timeout where there is none.
            causes = list_causes(err)
            said = self._redact(str(causes[-1]) or type(causes[-1]).__name__)
            unsent = any(isinstance(cause, aiohttp.ClientConnectorError) for cause in causes)
            message = f"the connection failed: {said}"
            raise RequestFailed("connection", message, billed=not unsent) from None
        else:
            content_type = response.headers.get("content-type", "")
            with suppress(RequestFailed):
                return self._clean(read_completion(response.content, content_type))
            # Again, since the error quotes a part of what the server sent: it may be the key's.
            return read_completion(self._hide_key(response.text).encode("utf-8"), content_type)
        # Here, so that no traceback shows the server's error, which may repeat the key.
        return self._read_error(refused)

    def _read_error(self, err: openai.APIStatusError) -> Answer:
        """What an error of the server means: nothing in this gives away the key."""
        status = err.status_code
        body = err.body if isinstance(err.body, dict) else {}
        codes = f"{err.code} {err.type} {body.get('innererror')}"
        said = self._redact(err.message)
        message = f"the server answered {status}: {said}"
        # Some servers turn away what a filter catches with 403, as they do a key.
        if 400 <= status < 500 and any(code in codes for code in FILTERED):
            return Answer("", "filtered", 0, 0, said)  # turned away before it cost anything
        if status in (401, 403):
            # The server's words are left out: they may repeat a part of the key.
            advice = (
                f"check the key in the environment variable {self._api_key_env!r}"
                if self._api_key_env
                else "name the environment variable that holds a key in `api_key_env`"
            )
            raise RunStopped(f"{self.base_url!r} refused access ({status}): {advice}.")
        if status == 402 or (status == 429 and any(code in codes for code in NO_CREDIT)):
            raise RunStopped(f"The account at {self.base_url!r} has no credit left: {message}")
        if status == 404:
            raise RunStopped(
                f"There is no model {self.settings['model']!r} at {self.base_url!r}, or no chat "
                f"endpoint ({message}). Check `name`, and `base_url`: it often ends with /v1."
            )
        if 300 <= status < 400:
            target = self._redact(err.response.headers.get("location", "elsewhere"))
            raise RunStopped(
                f"{self.base_url!r} redirects to {target!r}, and redirects are not followed: if "
                "you trust it, make it the `base_url`."
            )
        if status in (408, 409, 429) or status >= 500:
            reason = {408: "timeout", 409: "conflict", 429: "rate_limit"}.get(status)
            raise RequestFailed(
                reason or "server_error",
                message,
                retry_after=read_retry_after(err.response.headers),
            )
        too_long = any(code in f"{codes} {said}" for code in TOO_LONG)
        raise RequestFailed("too_long" if too_long else "bad_request", message, retry=False)

    def _clean(self, answer: Answer) -> Answer:
        """The answer without the key, should a server or a model repeat it."""
        # What is as short as "none" or "ollama" is no secret, and may well be in an answer.
        if self._key is None or len(self._key) < MIN_SECRET:
            return answer
        error = None if answer.error is None else self._hide_key(answer.error)
        tokens = answer.prompt_tokens, answer.completion_tokens
        return Answer(self._hide_key(answer), answer.outcome, *tokens, error)

    def _hide_key(self, text: str) -> str:
        if self._key is None:
            return text
        # As it is, and as JSON may write it.
        for key in (self._key, self._key.replace("/", "\\/")):
            text = text.replace(key, "***")
        return text

    def _redact(self, text: str) -> str:
        text = self._hide_key(text)
        return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def list_causes(err: BaseException) -> list[BaseException]:
    """An error, then what it came from, down to what it began with."""
    causes = [err]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return causes
