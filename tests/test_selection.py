import gzip
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from annotated import NLP
from conftest import ANSWERS, SENTENCES
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.cli import app
from metaie.convert import convert
from metaie.diversity import get_words, make_vectors
from metaie.loading import get_metaie
from metaie.selection import Candidate, choose, draw, keep_best, read_pool, select
from metaie.spans import set_queries
from metaie.uncertainty import MEASURES
from spacy.language import Language
from spacy.tokens import Doc
from typer.testing import CliRunner

TEXTS = [*SENTENCES, "Eve met Bob.", "Bob met Eve in Paris and in Rome.", "No, never.", "Ada left."]


def read(nlp: Language, texts: list[str]) -> Iterator[tuple[Doc, dict[str, Any]]]:
    for i, text in enumerate(texts):
        yield nlp.make_doc(text), {"at": i}


def measure(nlp: Language, text: str, labels: list[str], name: str = "entropy") -> float:
    """What the pipeline's own probabilities say, one text at a time."""
    tags = get_metaie(nlp).predict_tags([nlp.make_doc(text)], [labels])
    return float(numpy.mean([MEASURES[name](probs) for *_, probs in tags]))  # type: ignore[index]


def test_the_least_sure_are_chosen(tiny_pipeline: Language) -> None:
    for name in MEASURES:
        chosen = choose(
            tiny_pipeline, read(tiny_pipeline, TEXTS), budget=3, strategy="uncertain", measure=name
        )
        expected = {text: measure(tiny_pipeline, text, ["Person", "City"], name) for text in TEXTS}
        best = sorted(expected, key=lambda text: -expected[text])[:3]
        assert [one.doc.text for one in chosen] == best
        assert [one.uncertainty for one in chosen] == pytest.approx([expected[t] for t in best])
        assert all(set(one.doubts) == {"Person", "City"} for one in chosen)


def test_docs_are_measured_by_their_own_queries_and_not_changed(tiny_pipeline: Language) -> None:
    doc = tiny_pipeline.make_doc("Ada left.")
    set_queries(doc, ["Date"])
    unasked = tiny_pipeline.make_doc("Bob left.")
    set_queries(unasked, [])
    [one] = choose(tiny_pipeline, [(doc, {}), (unasked, {})], budget=5, strategy="uncertain")
    assert list(one.doubts) == ["Date"]
    assert one.uncertainty == pytest.approx(measure(tiny_pipeline, "Ada left.", ["Date"]))
    assert doc._.queries == ["Date"] and not doc.spans["metaie"]


def test_diverse_texts_are_not_alike(tiny_pipeline: Language) -> None:
    texts = ["Ada met Bob.", "Ada met Bob!", "ada met Bob.", "Rain fell on Rome."]
    chosen = choose(tiny_pipeline, read(tiny_pipeline, texts), budget=2, strategy="diverse")
    assert "Rain fell on Rome." in [one.doc.text for one in chosen]


def test_both_is_the_least_sure_of_those_that_differ(tiny_pipeline: Language) -> None:
    texts = [*TEXTS, *(f"{text} Indeed." for text in TEXTS)]
    chosen = choose(
        tiny_pipeline, read(tiny_pipeline, texts), budget=4, strategy="both", candidates=3
    )
    expected = {text: measure(tiny_pipeline, text, ["Person", "City"]) for text in texts}
    ranked = sorted(expected, key=lambda text: -expected[text])
    found = [one.doc.text for one in chosen]
    assert found[0] == ranked[0]
    assert set(found) <= set(ranked[:12])
    vectors = make_vectors([get_words(tiny_pipeline.make_doc(text)) for text in found])
    assert (vectors @ vectors.T - numpy.eye(4)).max() < 0.999


def test_random_texts_depend_on_the_seed_alone(tiny_pipeline: Language) -> None:
    def drawn(texts: list[str], seed: int) -> list[str]:
        pool = read(tiny_pipeline, texts)
        chosen = choose(tiny_pipeline, pool, budget=4, strategy="random", seed=seed)
        assert all(one.doubts for one in chosen)
        return [one.doc.text for one in chosen]

    assert drawn(TEXTS, 0) == drawn(TEXTS[::-1], 0)
    assert len({tuple(drawn(TEXTS, seed)) for seed in range(5)}) > 1
    # A text that comes twice is chosen once.
    assert sorted(drawn(["a", "b", "a", "b", "a"], 0)) == ["a", "b"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 8))
def test_no_more_are_held_than_wanted(priorities: list[int], n: int) -> None:
    made: list[weakref.ref[Candidate]] = []

    def find() -> Iterator[Candidate]:
        for i, priority in enumerate(priorities):
            one = Candidate(NLP.make_doc(str(i)), {}, priority)
            made.append(weakref.ref(one))
            yield one
            del one
            # Beside those that are kept: the one at hand, and the last that was taken in.
            assert sum(ref() is not None for ref in made) <= n + 2

    kept = [(int(one.doc.text), one.priority) for one in keep_best(find(), n)]
    assert kept == sorted(enumerate(priorities), key=lambda pair: -pair[1])[:n]


def test_draws_are_even() -> None:
    priorities = [one.priority for one in draw(read(NLP, [str(i) for i in range(500)]), 1)]
    assert 0.45 < numpy.mean(priorities) < 0.55
    assert 0.0 <= min(priorities) < 0.02 < 0.98 < max(priorities) < 1.0


def write_pool(path: Path) -> Path:
    rows = [
        {"id": "a", "text": SENTENCES[0], "queries": ["Person", "City", "Date"], "genre": "news"},
        {"text": SENTENCES[1], "meta": {"page": 1}},
        {"text": " "},
        {"text": SENTENCES[2]},
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_rows_are_written_for_annotation(tiny_model_dir: Path, tmp_path: Path) -> None:
    pool, output = write_pool(tmp_path / "pool.jsonl"), tmp_path / "out" / "chosen.jsonl"
    count = select(str(tiny_model_dir), [pool], output, budget=5, strategy="uncertain")
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert count == len(rows) == 3
    by_id = {row["id"]: row for row in rows}
    assert set(by_id) == {"a", "pool-2", "pool-4"}
    assert (by_id["a"]["genre"], by_id["pool-2"]["meta"]) == ("news", {"page": 1})
    assert sorted(by_id["a"]["queries"]) == ["City", "Date", "Person"]
    assert sorted(by_id["pool-4"]["queries"]) == ["City", "Person"]
    assert [row["uncertainty"] for row in rows] == sorted(
        (row["uncertainty"] for row in rows), reverse=True
    )
    # Nothing is passed off as annotated, and what people add is read.
    with pytest.raises(ValueError, match="'spans' is missing"):
        convert(output, tmp_path / "chosen.spacy")
    annotated = tmp_path / "annotated.jsonl"
    annotated.write_text("".join(json.dumps({**row, "spans": []}) + "\n" for row in rows))
    assert convert(annotated, tmp_path / "chosen.spacy").docs == 3


def test_ids_of_a_pool_of_many_files_differ(tiny_pipeline: Language, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("pool.jsonl.gz", "x/part.txt", "y/part.txt")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        data = b'{"text": "Ada left."}' if "jsonl" in file.name else b"Ada left."
        file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    ids = [extra["id"] for _, extra in read_pool(tiny_pipeline, files)]
    assert ids == ["pool-1", "x/part.txt-1", "y/part.txt-1"]


def test_labels_are_sorted_by_doubt_and_cut(
    tiny_pipeline: Language, tiny_model_dir: Path, tmp_path: Path
) -> None:
    pool, output = tmp_path / "pool.txt", tmp_path / "chosen.jsonl"
    pool.write_text(SENTENCES[0] + "\n")
    labels = list(ANSWERS[0])
    select(str(tiny_model_dir), [pool], output, budget=1, labels=labels, max_queries=2)
    row = json.loads(output.read_text())
    doubts = {label: measure(tiny_pipeline, SENTENCES[0], [label]) for label in labels}
    assert row["queries"] == sorted(labels, key=lambda label: -doubts[label])[:2]
    assert row["uncertainty"] == pytest.approx(numpy.mean(list(doubts.values())), abs=1e-3)


def test_on_the_command_line(tiny_model_dir: Path, tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool.jsonl")
    schema = tmp_path / "schema.json"
    schema.write_text('{"family": "aspects"}')

    def run(name: str, *options: str) -> str:
        arguments = ["select", str(tiny_model_dir), str(pool), "-o", str(tmp_path / name)]
        result = CliRunner().invoke(app, [*arguments, "--budget", "2", *options])
        assert result.exit_code == 0, result.stderr
        assert "Wrote 2 texts" in result.stdout
        return (tmp_path / name).read_text()

    assert run("a.jsonl") == run("b.jsonl", "--seed", "0")
    for strategy in ("diverse", "random", "uncertain"):
        assert run("c.jsonl", "--strategy", strategy, "--schema", str(schema))
    asked = {label for line in run("d.jsonl", "--schema", str(schema)).splitlines()
             for label in json.loads(line)["queries"]}  # fmt: skip
    assert asked & {"positive aspect", "negative aspect", "neutral aspect"}


def test_what_cannot_be_used_is_named(
    tiny_pipeline: Language, tiny_model_dir: Path, tmp_path: Path
) -> None:
    pool = write_pool(tmp_path / "pool.jsonl")
    before = pool.read_text()
    with pytest.raises(ValueError, match="also an input"):
        select(str(tiny_model_dir), [pool], pool, budget=1)
    assert pool.read_text() == before
    with pytest.raises(ValueError, match="The budget must be 1 or more, not 0"):
        choose(tiny_pipeline, [], budget=0)
    with pytest.raises(ValueError, match="no texts to choose from"):
        choose(tiny_pipeline, [], budget=1)
    with pytest.raises(ValueError, match=r"strategy must be one of both, .*, not 'best'"):
        choose(tiny_pipeline, [], budget=1, strategy="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"measure must be one of entropy, .*, not 'x'"):
        choose(tiny_pipeline, [], budget=1, measure="x")  # type: ignore[arg-type]
    (tmp_path / "bad.jsonl").write_text('{"text": 1}')
    with pytest.raises(ValueError, match=r"bad\.jsonl, line 1: text is not a string"):
        select(str(tiny_model_dir), [tmp_path / "bad.jsonl"], tmp_path / "o.jsonl", budget=1)
