from pathlib import Path

import pytest
from local_model import read_asked, write_config
from metaie.spans import get_answers
from metaie.teacher.journal import Journal
from metaie.teacher.pipeline import Teacher
from metaie.teacher.prompt_task import OUTCOME

SHIPPED = Path(__file__).parents[2] / "configs" / "teacher.cfg"


def test_configs_are_checked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no config"):
        Teacher(tmp_path / "missing.cfg")
    (tmp_path / "a.cfg").write_text('[nlp]\nlang = "en"\npipeline = []\n')
    with pytest.raises(ValueError, match="no `llm` component"):
        Teacher(tmp_path / "a.cfg")


def test_docs_come_as_they_are_answered(tmp_path: Path) -> None:
    teacher = Teacher(write_config(tmp_path, journal=False))
    docs = teacher.annotate(f"Ada met person {i} in London." for i in range(10_000))
    for _ in range(3):
        doc = next(docs)
        assert list(get_answers(doc)) == ["Person", "City", "Date"]
        assert OUTCOME not in doc.user_data
    # spacy-llm would have asked a whole batch first.
    assert len(read_asked(tmp_path)) == 3
    docs.close()


def test_outcomes_are_on_the_doc(tmp_path: Path) -> None:
    teacher = Teacher(write_config(tmp_path, journal=False))
    docs = list(teacher.annotate(["Ada.", "FAIL", "CUT Ada."]))
    assert [doc.user_data.get(OUTCOME) for doc in docs] == [None, "failed", "cut_off"]
    assert [doc.text for doc in docs] == ["Ada.", "FAIL", "CUT Ada."]
    # The last line of what was cut off is not used.
    assert [*get_answers(docs[0])] == ["Person", "Date"]
    assert [*get_answers(docs[2])] == ["Person"]
    assert teacher.nlp("FAIL").user_data[OUTCOME] == "failed"


def test_a_text_of_any_length_is_asked(tmp_path: Path) -> None:
    teacher = Teacher(write_config(tmp_path, journal=False))
    (doc,) = teacher.annotate(["Ada " * 300_000])
    assert len(doc) == 300_000


def test_a_cache_of_spacy_llm_is_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    path.write_text(
        path.read_text()
        + '[components.llm.cache]\n@llm_misc = "spacy.BatchCache.v1"\n'
        + f'path = "{tmp_path / "cache"}"\n'
    )
    with pytest.raises(ValueError, match=r"Leave out the `cache`.*metaie\.Journal\.v1"):
        Teacher(path)


def test_another_journal_takes_the_answers(tmp_path: Path) -> None:
    teacher = Teacher(write_config(tmp_path))
    assert teacher.journal
    list(teacher.annotate(["Ada."]))
    before = teacher.journal.path.read_bytes()
    with teacher.recording_in(tmp_path / "part.jsonl"):
        list(teacher.annotate(["Ada.", "Bob."]))
    assert len(read_asked(tmp_path)) == 2
    assert teacher.journal.path.read_bytes() == before
    assert (tmp_path / "part.jsonl").read_bytes().count(b"\n") == 1
    # The lock is free, and what is there is looked into.
    with Journal(tmp_path / "part.jsonl", others=[teacher.journal.path]) as journal:
        ada, bob, cleo = (next(teacher.make_prompts([text]))[0] for text in ("Ada.", "Bob.", "C."))
        assert journal.find(ada) and journal.find(bob) and journal.find(cleo) is None


def test_components_besides_the_teacher_do_their_work(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    config = path.read_text().replace('["llm"]', '["sentencizer", "llm"]')
    path.write_text(f'{config}\n[components.sentencizer]\nfactory = "sentencizer"\n')
    (doc,) = Teacher(path).annotate(["Ada left. Bob came."])
    assert len(list(doc.sents)) == 2
    assert get_answers(doc)["Person"][0].text == "Ada"


def test_spacy_llms_pipe_gives_the_same(tmp_path: Path) -> None:
    teacher = Teacher(write_config(tmp_path))
    texts = [f"Ada met person {i} in London." for i in range(20)]
    streamed = [doc.to_bytes() for doc in teacher.annotate(texts)]
    assert streamed == [doc.to_bytes() for doc in teacher.nlp.pipe(texts)]
    assert len(read_asked(tmp_path)) == 20


def test_what_the_model_counts_is_found_behind_the_journal(tmp_path: Path) -> None:
    for journal in (True, False):
        teacher = Teacher(write_config(tmp_path, journal=journal))
        assert (teacher.journal is not None) == journal
        list(teacher.annotate([f"Ada {journal}."]))
        assert teacher.stats.prompt_tokens == 100
    assert Teacher(SHIPPED).stats is None


def test_pace_and_prices_do_not_change_what_is_answered(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    teacher = Teacher(path)
    assert teacher.prices is None
    path.write_text(
        path.read_text()
        + "[components.llm.model.model.budget]\ntokens = 100\n"
        + "[components.llm.model.model.prices]\nprompt = 0.5\ncompletion = 2\n"
    )
    priced = Teacher(path)
    assert priced.prices == (0.5, 2.0)
    assert priced.settings == teacher.settings
    other = Teacher(path, {"components.llm.model.model.log": str(tmp_path / "other.txt")})
    assert other.settings != teacher.settings


def test_prompts_are_made_without_asking(tmp_path: Path) -> None:
    teacher = Teacher(write_config(tmp_path))
    ((prompt,),) = teacher.make_prompts(["Ada met Bob."])
    assert "Ada met Bob." in prompt
    assert not read_asked(tmp_path)
