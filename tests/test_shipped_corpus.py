from pathlib import Path

import pytest
import spacy
import srsly
from metaie.annotate import SPLITS, Passage, parse_split, read_passages, split_passages
from metaie.teacher.parsing import parse_answer
from metaie.teacher.record import hash_prompt, read_records
from metaie.teacher.task import make_important_information_task

CORPUS = Path(__file__).parent.parent / "corpus"


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    return list(read_passages([CORPUS / "texts"]))


@pytest.fixture(scope="module")
def responses() -> dict[str, str]:
    records = [record for _, record in read_records(CORPUS / "teacher" / "journal.jsonl")]
    return {record["prompt_sha256"]: record["response"] for record in records}


def test_texts_and_ids_are_unique(passages: list[Passage]) -> None:
    assert len(passages) == 8738
    assert len({passage.text for passage in passages}) == len(passages)
    assert len({passage.id for passage in passages}) == len(passages)


def test_the_journal_answers_every_text_and_nothing_else(
    passages: list[Passage], responses: dict[str, str]
) -> None:
    """Fails if the template was changed: then run `python corpus/make_journal.py`."""
    task = make_important_information_task()
    assert {hash_prompt(task.render(passage.text)) for passage in passages} == set(responses)


def test_records_belong_to_the_texts_of_their_ids(passages: list[Passage]) -> None:
    task = make_important_information_task()
    keys = {passage.id: hash_prompt(task.render(passage.text)) for passage in passages}
    records = srsly.read_jsonl(CORPUS / "teacher" / "journal.jsonl")
    assert all(keys[record["id"]] == record["prompt_sha256"] for record in records)


def test_the_split_is_by_genre(passages: list[Passage]) -> None:
    names = split_passages(passages, parse_split("88/6/6"))
    assert [names.count(name) for name in SPLITS] == [7690, 524, 524]
    genres = [passage.genre for passage in passages]
    large = {genre for genre in genres if genres.count(genre) >= 35}
    for name in SPLITS:
        assert large <= {g for g, n in zip(genres, names, strict=True) if n == name}


def test_answers_can_be_placed(passages: list[Passage], responses: dict[str, str]) -> None:
    nlp = spacy.blank("en")
    task = make_important_information_task()
    lines = unplaced = 0
    for passage in passages[::10]:
        parsed = parse_answer(nlp(passage.text), responses[hash_prompt(task.render(passage.text))])
        lines += parsed.lines
        unplaced += parsed.unplaced.total()
    assert lines > 5000
    assert unplaced / lines < 0.005
