import copy
import json
import pickle

import pytest
from metaie.teacher.answer import OUTCOMES, Answer


def test_an_answer_is_a_string() -> None:
    answer = Answer("- City: Rom", "cut_off", 12, 3, "said so")
    assert answer == "- City: Rom" and isinstance(answer, str)
    assert json.dumps([answer]) == '["- City: Rom"]'
    assert hash(answer) == hash("- City: Rom") and answer.splitlines() == ["- City: Rom"]


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_nothing_is_lost_in_a_copy(again: object) -> None:
    answer = again(Answer("x", "refused", 12, 3, "said so"))  # type: ignore[operator]
    assert answer == "x"
    shown = (answer.outcome, answer.prompt_tokens, answer.completion_tokens, answer.error)
    assert shown == ("refused", 12, 3, "said so")


def test_outcomes() -> None:
    assert Answer("x").outcome == "ok"
    assert [Answer("", outcome).outcome for outcome in OUTCOMES] == list(OUTCOMES)
    with pytest.raises(ValueError, match="'odd'"):
        Answer("", "odd")
