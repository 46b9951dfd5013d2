import random
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from conftest import make_examples
from metaie.corpus import create_corpus
from metaie.docbin import read_docbin, write_docbin
from metaie.pipe import get_soft_tags
from metaie.soften import borrow, soften
from metaie.spans import get_queries, get_tags
from spacy.language import Language
from spacy.training import Example

MakeNlp = Callable[..., Language]


@pytest.fixture
def source(tmp_path: Path, tiny_pipeline: Language) -> Path:
    path = tmp_path / "train.spacy"
    write_docbin(path, [eg.reference for eg in make_examples(tiny_pipeline)])
    return path


def test_every_query_gets_the_teachers_tags(
    tiny_model_dir: Path, tiny_pipeline: Language, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "soft.spacy"
    assert soften(str(tiny_model_dir), source, target, borrowed=2, share=0.5) == 4
    before = list(read_docbin(source, tiny_pipeline.vocab))
    for hard, doc in zip(before, read_docbin(target, tiny_pipeline.vocab), strict=True):
        own, queries = get_queries(hard), get_queries(doc)
        assert queries[: len(own)] == own
        assert len(queries) == len(own) + 2
        tags = get_tags(doc)
        assert tags is not None
        assert tags.shape == (len(queries), len(doc), 3)
        assert numpy.allclose(tags.sum(axis=-1), 1.0, atol=1e-2)
        kept = {(s.start, s.end, s.label_) for s in doc.spans["metaie"] if s.label_ in own}
        assert kept == {(s.start, s.end, s.label_) for s in hard.spans["metaie"]}
        for span in hard.spans["metaie"]:
            assert tags[own.index(span.label_), span.start, 0] >= 0.5


def train(nlp: Language, examples: list[Example]) -> list[float]:
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = 0.005  # type: ignore[assignment]
    return [nlp.update(examples, sgd=optimizer)["metaie"] for _ in range(80)]


def test_a_student_learns_from_them(make_nlp: MakeNlp, source: Path, tmp_path: Path) -> None:
    teacher = make_nlp()
    train(teacher, make_examples(teacher))
    teacher.to_disk(tmp_path / "teacher")
    target = tmp_path / "soft.spacy"
    soften(str(tmp_path / "teacher"), source, target, borrowed=2, share=1.0)
    nlp = make_nlp()
    examples = list(create_corpus(target)(nlp))
    losses = train(nlp, examples)
    tags = [get_soft_tags(eg, "metaie") for eg in examples]
    flat = numpy.concatenate([own for by_label in tags for own in by_label.values()])
    # The lowest loss there is: the teacher's own doubt.
    entropy = -(flat * numpy.log(flat + 1e-9)).sum(axis=1).mean()
    assert losses[0] > entropy + 0.5
    assert losses[-1] == pytest.approx(entropy, abs=0.05)


def test_labels_are_borrowed_that_the_doc_has_not() -> None:
    pool = ["Person", "City", "person", "Price", "Drug", "City"]
    for seed in range(20):
        drawn = borrow(["Person"], pool, 2, random.Random(seed))
        assert len(drawn) == len(set(drawn)) <= 2
        assert not {"Person", "person"} & set(drawn)


def test_a_share_beyond_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share"):
        soften("none", tmp_path, tmp_path / "out.spacy", share=1.5)
