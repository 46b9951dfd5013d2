"""A large model's answer, with what became of the request: a string to all who want no more."""

from typing import Self

OUTCOMES = ("ok", "empty", "refused", "cut_off", "filtered", "failed")


class Answer(str):
    """The text of an answer, and how it came about.

    outcome: "ok"; "empty": nothing but white space; "refused": the model declined;
        "cut_off": it reached its limit of tokens; "filtered": a content filter stepped in;
        "failed": there is no answer, and asking again may bring one.
    prompt_tokens, completion_tokens: as the server counts them, None where it does not say.
    error: what was said in place of an answer, as the words of a refusal.

    Raises ValueError for an outcome that is none of these.
    """

    __slots__ = ("completion_tokens", "error", "outcome", "prompt_tokens")

    outcome: str
    prompt_tokens: int | None
    completion_tokens: int | None
    error: str | None

    def __new__(
        cls,
        text: str,
        outcome: str = "ok",
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        error: str | None = None,
    ) -> Self:
        """Make an answer, with the attributes that the class describes."""
        if outcome not in OUTCOMES:
            raise ValueError(f"An outcome is one of {', '.join(OUTCOMES)}, not {outcome!r}.")
        answer = super().__new__(cls, text)
        answer.outcome = outcome
        answer.prompt_tokens = prompt_tokens
        answer.completion_tokens = completion_tokens
        answer.error = error
        return answer
