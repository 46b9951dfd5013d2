"""From the body of a response to an answer. Nothing that a server writes goes unforeseen."""

import json
from typing import Any

from .answer import Answer

MAX_QUOTED = 200  # characters
# Of one answer. JSON has numbers that no journal could hold.
MAX_TOKENS = 2**53


class RunStopped(ValueError):
    """No request can be answered, or none seems to be, and why."""


class RequestFailed(Exception):
    """A request brought no answer.

    reason: what went wrong, in a word, to be counted by.
    retry: whether another try may bring one.
    retry_after: the seconds that the server asks to wait, None if it does not.
    billed: whether the server may have made an answer, and charge for it.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        retry: bool = True,
        retry_after: float | None = None,
        billed: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason, self.retry, self.retry_after = reason, retry, retry_after
        self.billed = billed


def read_completion(body: bytes, content_type: str = "application/json") -> Answer:
    """Read a chat completion.

    Raises RequestFailed, to be tried again and with the tokens unknown, if it is none.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as err:
        if "html" in content_type.lower() or body.lstrip()[:1] == b"<":
            problem = "the server sent HTML instead of JSON; is `base_url` right?"
            raise RequestFailed("html", problem, billed=True) from None
        problem = f"the server sent what is not JSON: {quote(body)}"
        raise RequestFailed("not_json", problem, billed=True) from err
    data = as_dict(data)
    choices = data.get("choices")
    choice = as_dict(choices[0] if isinstance(choices, list) and choices else None)
    message = as_dict(choice.get("message"))
    if not message:
        raise RequestFailed("no_choices", f"there is no choice in {quote(body)}", billed=True)
    text = read_content(message.get("content"))
    refusal, finish_reason = message.get("refusal"), choice.get("finish_reason")
    usage = as_dict(data.get("usage"))
    outcome, error = "ok", None
    if isinstance(refusal, str) and refusal:
        outcome, error = "refused", clean(refusal)
    elif finish_reason == "content_filter":
        outcome, error = "filtered", "the answer was stopped by a content filter"
    elif finish_reason == "length":
        outcome = "cut_off"
    elif not text.strip():
        outcome = "empty"
    return Answer(
        text,
        outcome,
        read_count(usage.get("prompt_tokens")),
        read_count(usage.get("completion_tokens")),
        error,
    )


def as_dict(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def read_content(content: object) -> str:
    """The text of a message: a string, or parts of which some are text."""
    if isinstance(content, str):
        return clean(content)
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return clean("".join(text for text in texts if isinstance(text, str)))


def clean(text: str) -> str:
    """The text with a question mark for each lone surrogate, which is no character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def read_count(value: object) -> int | None:
    """A number of tokens; None for anything else."""
    return value if type(value) is int and 0 <= value < MAX_TOKENS else None


def quote(body: bytes) -> str:
    """The beginning of a body, for a message."""
    return repr(body[:MAX_QUOTED].decode("utf-8", "replace"))
