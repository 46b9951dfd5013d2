import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metaie.teacher.answer import Answer
from metaie.teacher.completion import RequestFailed, read_completion


def completion(finish_reason: object = "stop", usage: object = None, **message: object) -> bytes:
    choice = {"message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize(
    ("body", "text", "outcome"),
    [
        (completion(content="- A: b"), "- A: b", "ok"),
        (completion(content="- A: b", refusal=None), "- A: b", "ok"),
        (completion(content="- A: b", finish_reason=None), "- A: b", "ok"),
        (completion(content=[{"type": "text", "text": "- A"}, {"x": 1}, 3]), "- A", "ok"),
        (completion(content="\ud800"), "?", "ok"),
        (completion(content=" \n"), " \n", "empty"),
        (completion(content=None), "", "empty"),
        (completion(content=3), "", "empty"),
        (completion(content="- A", finish_reason="length"), "- A", "cut_off"),
        (completion(content=None, finish_reason="length"), "", "cut_off"),
        (completion(content="- A", finish_reason="content_filter"), "- A", "filtered"),
        (completion(content=None, refusal="no"), "", "refused"),
    ],
)
def test_outcomes(body: bytes, text: str, outcome: str) -> None:
    answer = read_completion(body)
    assert (answer, answer.outcome) == (text, outcome)


def test_a_refusal_is_quoted() -> None:
    assert read_completion(completion(content=None, refusal="I can't")).error == "I can't"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 0}, (3, 0)),
        ({"prompt_tokens": -3, "completion_tokens": "4"}, (None, None)),
        ({"prompt_tokens": True, "completion_tokens": 2.5}, (None, None)),
        (None, (None, None)),
        ([], (None, None)),
    ],
)
def test_tokens(usage: object, tokens: tuple[int | None, int | None]) -> None:
    answer = read_completion(completion(content="x", usage=usage))
    assert (answer.prompt_tokens, answer.completion_tokens) == tokens


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"", "application/json", "not_json"),
        (b'{"choices": [', "application/json", "not_json"),
        (b"\xff\xfe\xfa", "application/json", "not_json"),
        (b"[" * 100_000, "application/json", "not_json"),
        (b"1" * 10_000, "application/json", "not_json"),
        (b"<html>", "application/json", "html"),
        (b"sign in", "text/html; charset=utf-8", "html"),
        (b"[]", "application/json", "no_choices"),
        (b'{"choices": {}}', "application/json", "no_choices"),
        (b'{"choices": [null]}', "application/json", "no_choices"),
        (b'{"choices": [{"message": []}]}', "application/json", "no_choices"),
        (b'{"error": {"message": "upstream"}}', "application/json", "no_choices"),
    ],
)
def test_what_is_no_completion(body: bytes, kind: str, reason: str) -> None:
    with pytest.raises(RequestFailed) as caught:
        read_completion(body, kind)
    assert (caught.value.reason, caught.value.retry, caught.value.billed) == (reason, True, True)
    assert len(str(caught.value)) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "refusal", "usage", "text"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON.map(lambda data: json.dumps(data).encode()) | st.binary(max_size=60))
def test_no_body_is_unforeseen(body: Any) -> None:
    with suppress(RequestFailed):
        assert isinstance(read_completion(body), Answer)


@given(JSON, JSON, JSON, JSON)
def test_no_message_is_unforeseen(content: Any, refusal: Any, finish: Any, usage: Any) -> None:
    answer = read_completion(completion(finish, usage, content=content, refusal=refusal))
    answer.encode("utf-8")
