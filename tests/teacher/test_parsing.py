import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.teacher.answer import Answer
from metaie.teacher.asked_labels import parse_asked
from metaie.teacher.parsing import (
    MAX_LABEL,
    MAX_LINES,
    MAX_SPANS,
    Parsed,
    parse_answer,
    parse_line,
)
from spacy.tokens import Doc

NLP = spacy.blank("en")
ReadAnswer = Callable[[Doc, str], Parsed]


def answers(text: str, answer: object) -> dict[str, list[str]]:
    """The texts of the spans by label, known absences with an empty list."""
    parsed = parse_answer(NLP(text), answer)
    found: dict[str, list[str]] = {label: [] for label in parsed.queries}
    for span in parsed.spans:
        found[span.label_].append(span.text)
    return found


def reasons(text: str, answer: object) -> dict[str, int]:
    return dict(parse_answer(NLP(text), answer).unplaced)


def parse_asked_city(doc: Doc, answer: str) -> Parsed:
    return parse_asked(doc, answer, ["City", "a: a"])


def parse_asked_a(doc: Doc, answer: str) -> Parsed:
    return parse_asked(doc, answer, [f"L{i}" for i in range(600)])


def count_lines_run(call: Callable[[], object]) -> int:
    """How many lines of Python a call runs: what it takes, whatever the machine does besides."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def test_spans_and_absences_are_read() -> None:
    text = "Ada Lovelace met Charles Babbage in London."
    answer = "- Person: Ada Lovelace\n- Person: Charles Babbage\n- City: London\n- Date: none"
    assert answers(text, answer) == {
        "Person": ["Ada Lovelace", "Charles Babbage"],
        "City": ["London"],
        "Date": [],
    }
    assert parse_answer(NLP(text), answer).lines == 4


@pytest.mark.parametrize(
    "line",
    [
        "- City: London",
        "* City: London",
        "• City: London",
        "  -City:  London  \r",
        "1. City: London",
        "12) City: London",
        "- **City:** London",
        "- **City**: London",
        "**City**: London",
        "- City:\tLondon",
        "- City:\u00a0London",
        '- City: "London"',
        "- City: “London”",
    ],
)
def test_usual_ways_to_write_a_line(line: str) -> None:
    assert answers("She lives in London.", line) == {"City": ["London"]}


@pytest.mark.parametrize("none", ["none", "None", "NONE", "none.", "(none)", "`none`"])
def test_none_is_a_known_absence(none: str) -> None:
    assert answers("Aspirin gave none.", f"- Date: {none}") == {"Date": []}


def test_label_ends_at_the_first_colon_before_white_space() -> None:
    text = "At 12:30 she played Zelda: Ocarina of Time."
    assert answers(text, "- Game: Zelda: Ocarina of Time") == {"Game": ["Zelda: Ocarina of Time"]}
    assert answers(text, "- what she played at 12:30: Zelda") == {
        "what she played at 12:30": ["Zelda"]
    }


def test_every_occurrence_is_marked_at_token_boundaries_only() -> None:
    text = "Art is long. The party liked Art."
    parsed = parse_answer(NLP(text), "- Topic: Art")
    assert [(span.start_char, span.end_char) for span in parsed.spans] == [(0, 3), (29, 32)]


def test_an_occurrence_within_a_word_does_not_hide_one_in_another_case() -> None:
    assert answers("Many a party has Art.", "- Topic: art") == {"Topic": ["Art"]}


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("LONDON calling", "London", "LONDON"),
        ("İstanbul'da İzmir KALESİ gezdik", "i̇zmir kalesi", "İzmir KALESİ"),
        ("She said “it’s fine” twice", 'said "it\'s fine"', "said “it’s fine”"),
        ("He is 37\u00a0years \n old now", "37 years old", "37\u00a0years \n old"),
        ("from 1914–1918 on", "1914-1918", "1914–1918"),
        ("a zero\u200bwidth space", "zerowidth", "zero\u200bwidth"),
        ("שלום עולם יפה", "עולם", "עולם"),
        ("I 💖 New York 🗽 so much", "New York 🗽", "New York 🗽"),
        ("<b> Ada </b> &amp; Eve", "</b> &amp; Eve", "</b> &amp; Eve"),
        ("It used 10 W. Then 12.", "10 W", "10 W."),
    ],
)
def test_spans_are_aligned_to_the_original(text: str, span: str, expected: str) -> None:
    parsed = parse_answer(NLP(text), f"- x: {span}")
    assert [found.text for found in parsed.spans] == [expected]


def test_exact_case_is_preferred() -> None:
    assert answers("US envoys told us.", "- Country: US") == {"Country": ["US"]}


def test_a_span_wins_over_none_in_any_order() -> None:
    assert answers("London", "- City: none\n- City: London") == {"City": ["London"]}
    assert answers("London", "- City: London\n- City: none") == {"City": ["London"]}


def test_a_label_that_cannot_be_placed_is_not_asked() -> None:
    assert answers("London", "- City: Paris") == {}
    assert answers("London", "- City: Paris\n- City: London") == {"City": ["London"]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Here is what I found:", "no_bullet"),
        ("```", "no_bullet"),
        ("- London", "no_separator"),
        ("- : London", "empty_label"),
        ("- City:", "empty_span"),
        ("- City:   ", "empty_span"),
        (f"- {'x' * (MAX_LABEL + 1)}: London", "label_too_long"),
        ("- City: Paris", "not_in_text"),
        ("- City: " + "London" * 1000, "not_in_text"),
        ("- City: ondo", "not_at_token_boundary"),
        ("- City\ud800: London", "bad_characters"),
    ],
)
def test_lines_that_cannot_be_used_are_counted(line: str, reason: str) -> None:
    parsed = parse_answer(NLP("London"), line)
    assert (parsed.lines, dict(parsed.unplaced), parsed.queries) == (1, {reason: 1}, [])


def test_repeated_lines_are_counted() -> None:
    answer = "- City: London\n- City: London\n- City: LONDON\n- Date: none\n- Date: None"
    assert reasons("London", answer) == {"duplicate": 3}


def test_of_overlapping_spans_the_longer_stays() -> None:
    parsed = parse_answer(NLP("Watch the Galaxy Watch now."), "- x: the Galaxy Watch\n- x: Galaxy")
    assert [span.text for span in parsed.spans] == ["the Galaxy Watch"]
    assert (dict(parsed.unplaced), parsed.overlaps) == ({"overlap": 1}, 1)
    different = "- x: the Galaxy Watch\n- y: Galaxy"
    assert answers("the Galaxy Watch", different) == {"x": ["the Galaxy Watch"], "y": ["Galaxy"]}


@pytest.mark.parametrize("answer", [None, 7, {"a": 1}, b"- City: London"])
def test_answers_that_are_no_strings_are_counted(answer: object) -> None:
    assert reasons("London", answer) == {"not_a_string": 1}


@pytest.mark.parametrize("text", ["", "   ", "\n\n"])
def test_texts_without_words(text: str) -> None:
    assert answers(text, "- City: London\n- Date: none") == {"Date": []}
    assert reasons(text, "") == {}


def test_a_chatty_answer_does_not_pass_for_lines() -> None:
    answer = "Sure: here is London!\n\n- City: London\n\nIgnore the above: London"
    assert answers("London", answer) == {"City": ["London"]}
    assert reasons("London", answer) == {"no_bullet": 2}


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        ("", "- City: London\n"),
        ("", "- City{i}: London\n"),
        ("- ", "City "),
        ("", "-"),
        ("- ", "a:"),
        ("- ", "a: "),
        ("- City: ", "London "),
        ("", "*"),
        ("", "\n"),
    ],
)
@pytest.mark.parametrize("read", [parse_answer, parse_asked_city])
def test_work_grows_with_the_answers_length(read: ReadAnswer, start: str, piece: str) -> None:
    doc = NLP("She lives in London, London.")

    def work(n: int) -> int:
        answer = start + "".join(piece.replace("{i}", str(i)) for i in range(n))
        return count_lines_run(lambda: read(doc, answer))

    # The constant part makes ten times the answer less than ten times the work.
    assert work(2000) <= 10.5 * work(200)


@pytest.mark.parametrize("read", [parse_answer, parse_asked_a])
def test_what_is_placed_is_bounded(read: ReadAnswer) -> None:
    """Each line places all the text's words, so that both together would count as a product."""
    n_words = 600
    doc = NLP(" ".join(["a"] * n_words))
    labels = [f"L{i}" for i in range(n_words)]
    parsed = read(doc, "\n".join(f"- {label}: a" for label in labels))
    n_lines = -(-MAX_SPANS // n_words)
    assert len(parsed.spans) == n_lines * n_words
    assert parsed.queries == labels[:n_lines]
    assert parsed.unplaced == {"too_many_spans": n_words - n_lines}


@pytest.mark.parametrize(
    ("answer", "outcome", "expected", "unplaced"),
    [
        ("- City: Lima\n- City: New", "cut_off", {"City": ["Lima"]}, {"cut_off": 1}),
        ("- City: Lima\n- Date: no", "filtered", {"City": ["Lima"]}, {"cut_off": 1}),
        ("- City: Lima\n", "cut_off", {"City": ["Lima"]}, {}),
        ("- City: Lima", "ok", {"City": ["Lima"]}, {}),
        ("", "cut_off", {}, {}),
    ],
)
def test_the_last_line_of_an_answer_that_was_cut_off(
    answer: str, outcome: str, expected: dict[str, list[str]], unplaced: dict[str, int]
) -> None:
    text = "She left Lima for New York. He said no."
    given = Answer(answer, outcome)
    assert answers(text, given) == expected
    assert reasons(text, given) == unplaced
    asked = parse_asked(NLP(text), given, ["City", "Date"])
    assert (asked.queries, asked.unplaced) == ([*expected], unplaced)


def test_ten_megabytes_are_read_and_counted() -> None:
    parsed = parse_answer(NLP("She lives in London."), "- City: London\n" * 700_000)
    assert parsed.lines == 700_000
    assert parsed.unplaced == {"duplicate": MAX_LINES - 1, "too_many_lines": 700_000 - MAX_LINES}


PIECES = st.sampled_from(
    ["- ", "* ", "1. ", ": ", ":", "none", "None.", "\n", "\r", " ", "**", "`", '"', "İ", "ß", "’"]
)
MESS = st.lists(PIECES | st.text(max_size=6), max_size=30).map("".join)


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60), answer=MESS)
def test_nothing_raises_and_every_line_is_accounted_for(text: str, answer: str) -> None:
    doc = NLP(text)
    parsed = parse_answer(doc, answer + f"\n- copied: {text}")
    assert parsed.unplaced.total() <= parsed.lines
    assert {span.label_ for span in parsed.spans} <= set(parsed.queries)
    for label in parsed.queries:
        tokens = [
            i for span in parsed.spans if span.label_ == label for i in range(span.start, span.end)
        ]
        assert len(tokens) == len(set(tokens))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_copied_span_is_found_where_it_was_copied(data: st.DataObject) -> None:
    words = st.lists(
        st.sampled_from(["Ada", "İzmir", "ΣΑΣ", "co-op", "“x”", "12:30", "ß"]), min_size=1
    )
    doc = NLP(" ".join(data.draw(words)))
    start = data.draw(st.integers(0, len(doc) - 1))
    end = data.draw(st.integers(start + 1, len(doc)))
    change = data.draw(st.sampled_from([str, lambda s: "".join(c.lower() for c in s)]))
    parsed = parse_answer(doc, f"- x: {change(doc[start:end].text)}")
    covered = {i for span in parsed.spans for i in range(span.start, span.end)}
    if any(char.isalnum() for char in doc[start:end].text):
        # Where occurrences overlap each other, as in "co-op co-op co-op", the first one counts.
        assert covered & set(range(start, end))
        assert any(len(span.text) == len(doc[start:end].text) for span in parsed.spans)


def test_parse_line_keeps_what_a_span_contains() -> None:
    line = parse_line("- Formula: a: b - c * d")
    assert not isinstance(line, str)
    assert (line.label, line.span) == ("Formula", "a: b - c * d")
