import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest
import spacy
import srsly
import torch
from conftest import SENTENCES, annotate, make_examples
from metaie.decoding import make_tags
from metaie.pipe import MetaIE
from metaie.queries import Query
from metaie.spans import get_queries, get_scores, set_answers, set_queries
from spacy.cli.apply import apply
from spacy.cli.debug_config import debug_config
from spacy.cli.find_threshold import find_threshold
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from thinc.api import Config

MakeNlp = Callable[..., Language]


@pytest.fixture
def warnings_logged() -> Iterator[list[str]]:
    """What spaCy's logger warns of: it does not propagate to pytest's handler."""
    import logging

    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Handler(logging.WARNING)
    logging.getLogger("spacy").addHandler(handler)
    yield messages
    logging.getLogger("spacy").removeHandler(handler)


def answers(doc: Doc) -> list[tuple[str, int, int]]:
    return [(span.label_, span.start, span.end) for span in doc.spans["metaie"]]


def train(nlp: Language, examples: list[Example], steps: int = 100, rate: float = 0.01) -> None:
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = rate  # type: ignore[assignment]
    for _ in range(steps):
        nlp.update(examples, sgd=optimizer)


def test_learns_open_labels_and_absences(make_nlp: MakeNlp) -> None:
    nlp = make_nlp()
    examples = make_examples(nlp)
    losses: list[float] = []
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = 0.01  # type: ignore[assignment]
    for _ in range(100):
        losses.append(nlp.update(examples, sgd=optimizer)["metaie"])
    assert losses[-1] < losses[0] / 10
    for eg in examples:
        set_queries(eg.predicted, get_queries(eg.reference))
    scores = nlp.evaluate(examples)
    assert scores["spans_metaie_f"] == 1.0
    assert scores["spans_metaie_false_answers"] == 0.0


def test_open_labels_do_not_become_the_components(make_nlp: MakeNlp) -> None:
    assert make_nlp().get_pipe("metaie").labels == ()
    assert make_nlp(labels=["Person"]).get_pipe("metaie").labels == ("Person",)


def test_closed_labels_become_the_components(make_nlp: MakeNlp) -> None:
    nlp = spacy.blank("en")
    examples = [
        Example(nlp.make_doc(text), annotate(nlp.make_doc(text), {"Person": [], "City": []}))
        for text in SENTENCES
    ]
    assert make_nlp(examples).get_pipe("metaie").labels == ("Person", "City")


def test_a_docs_queries_win_over_labels(tiny_pipeline: Language) -> None:
    own = tiny_pipeline.make_doc(SENTENCES[0])
    own._.queries = ["Date"]
    none = tiny_pipeline.make_doc(SENTENCES[0])
    none._.queries = []
    docs = list(tiny_pipeline.pipe([own, none, tiny_pipeline.make_doc(SENTENCES[0])]))
    assert [doc._.queries for doc in docs] == [["Date"], [], ["Person", "City"]]
    assert not docs[1].spans["metaie"]


def test_labels_and_threshold_change_at_run_time(tiny_pipeline: Language) -> None:
    pipe = tiny_pipeline.get_pipe("metaie")
    pipe.threshold = 0.01
    pipe.labels = ["Drug"]
    assert pipe.add_label("Price") == 1 and pipe.add_label("Price") == 0
    doc = tiny_pipeline(SENTENCES[0])
    assert doc._.queries == ["Drug", "Price"]
    assert {span.label_ for span in doc.spans["metaie"]} == {"Drug", "Price"}
    scores = get_scores(doc)
    assert scores is not None and len(scores) == len(doc.spans["metaie"])
    assert scores.min() >= 0.01
    pipe.threshold = 1.0
    assert not tiny_pipeline(SENTENCES[0]).spans["metaie"]


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_thresholds_out_of_range_are_refused(tiny_pipeline: Language, threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        tiny_pipeline.get_pipe("metaie").threshold = threshold


def test_to_disk_and_bytes_keep_answers(tiny_pipeline: Language, tmp_path: Path) -> None:
    pipe = tiny_pipeline.get_pipe("metaie")
    pipe.threshold = 0.3
    pipe.labels = ["Person", "Reason for the delay"]
    expected = tiny_pipeline(SENTENCES[1])
    assert expected.spans["metaie"]
    tiny_pipeline.to_disk(tmp_path / "model")
    loaded = spacy.load(tmp_path / "model")
    copied = (
        spacy.blank("en").from_config(tiny_pipeline.config).from_bytes(tiny_pipeline.to_bytes())
    )
    for nlp in (loaded, copied):
        doc = nlp(SENTENCES[1])
        assert answers(doc) == answers(expected)
        numpy.testing.assert_array_equal(get_scores(doc), get_scores(expected))
        assert nlp.get_pipe("metaie").threshold == pytest.approx(0.3)


def test_batches_and_processes_give_the_same_answers(tiny_model_dir: Path) -> None:
    nlp = spacy.load(tiny_model_dir)
    texts = [*SENTENCES, "", " \n ", SENTENCES[0] * 3]
    one_by_one = [answers(nlp(text)) for text in texts]
    assert any(one_by_one)
    assert [answers(doc) for doc in nlp.pipe(texts, batch_size=4)] == one_by_one
    assert [answers(doc) for doc in nlp.pipe(texts, batch_size=3, n_process=2)] == one_by_one


def test_small_batches_of_wordpieces_change_nothing(make_nlp: MakeNlp) -> None:
    large, small = (
        make_nlp(labels=["Person"], threshold=0.2, max_batch_wordpieces=n) for n in (4096, 1)
    )
    small.get_pipe("metaie").model.from_bytes(large.get_pipe("metaie").model.to_bytes())
    small.get_pipe("metaie").model.attrs["max_batch_wordpieces"] = 1
    for one, two in zip(large.pipe(SENTENCES), small.pipe(SENTENCES), strict=True):
        assert answers(one) == answers(two)
        numpy.testing.assert_allclose(get_scores(one), get_scores(two), atol=1e-5)


def test_training_in_small_batches_of_wordpieces_gives_the_same_step(make_nlp: MakeNlp) -> None:
    losses = []
    start = None
    for n in (4096, 1):
        nlp = make_nlp(max_batch_wordpieces=n)
        pipe = nlp.get_pipe("metaie")
        start = start or pipe.model.to_bytes()
        pipe.model.from_bytes(start)
        pipe.model.attrs["max_batch_wordpieces"] = n
        train(nlp, make_examples(nlp), steps=3, rate=0.001)
        losses.append(nlp.update(make_examples(nlp))["metaie"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_long_docs_are_answered_whole(make_nlp: MakeNlp) -> None:
    nlp = make_nlp(labels=["Person"], window=16, stride=8)
    rng = random.Random(0)
    words = ["storms", "delayed", "the", "flight", "from", "Lisbon", "by", "nine", "hours"]
    texts = [rng.choices([*words, "Ada", "Ada"], k=16) for _ in range(12)]

    def gold(tokens: list[str]) -> Doc:
        doc = Doc(nlp.vocab, tokens)
        people = [Span(doc, t.i, t.i + 1, "Person") for t in doc if t.text == "Ada"]
        set_answers(doc, people, ["Person"])
        return doc

    train(nlp, [Example(Doc(nlp.vocab, tokens), gold(tokens)) for tokens in texts])
    long = gold([token for tokens in texts for token in tokens] * 20)
    doc = nlp(Doc(nlp.vocab, [token.text for token in long]))
    found = [span.start for span in doc.spans["metaie"]]
    assert found == sorted(set(found))
    expected = {span.start for span in long.spans["metaie"]}
    assert len(expected & set(found)) > 0.98 * len(expected)


@pytest.mark.slow
def test_100_000_tokens_in_bounded_memory(make_nlp: MakeNlp) -> None:
    import tracemalloc

    nlp = make_nlp(labels=["Person"])
    doc = Doc(nlp.vocab, ["Ada", "met", "Charles", "."] * 25_000)
    tracemalloc.start()
    nlp.get_pipe("metaie").predict([doc])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


def test_set_ents_writes_the_best_spans(make_nlp: MakeNlp) -> None:
    nlp = make_nlp(labels=["Person", "City"], threshold=0.1, set_ents=True)
    doc = nlp(SENTENCES[0])
    spans = {(span.start, span.end, span.label_) for span in doc.spans["metaie"]}
    assert doc.ents
    assert {(ent.start, ent.end, ent.label_) for ent in doc.ents} <= spans


def test_overlaps_of_one_label_are_counted_and_the_longer_is_learnt(
    make_nlp: MakeNlp, warnings_logged: list[str]
) -> None:
    nlp = spacy.blank("en")
    reference = nlp.make_doc("Ada Lovelace met Charles Babbage")
    spans = [
        Span(reference, 0, 1, "Person"),
        Span(reference, 0, 2, "Person"),
        Span(reference, 3, 4, "Person"),
    ]
    set_answers(reference, spans, ["Person"])
    eg = Example(nlp.make_doc(reference.text), reference)
    pipe = make_nlp([eg]).get_pipe("metaie")
    assert any("1 of 3 spans overlap" in message for message in warnings_logged)
    assert pipe._get_aligned_answers(eg) == {"Person": [(0, 2), (3, 4)]}


def test_examples_without_queries_are_refused(make_nlp: MakeNlp) -> None:
    nlp = spacy.blank("en")
    plain = Example(nlp.make_doc("Ada"), nlp.make_doc("Ada"))
    with pytest.raises(ValueError, match="metaie convert"):
        make_nlp([plain])


def test_updates_without_anything_to_learn_change_nothing(tiny_pipeline: Language) -> None:
    nlp = tiny_pipeline
    assert nlp.update([Example(nlp.make_doc(""), nlp.make_doc(""))]) == {"metaie": 0.0}
    assert nlp.update([Example(nlp.make_doc("Ada"), nlp.make_doc("Ada"))]) == {"metaie": 0.0}


def test_gold_spans_are_cut_at_the_window() -> None:
    doc = Doc(spacy.blank("en").vocab, ["x"] * 10)
    spans = [(1, 4), (6, 9)]
    assert (
        "".join("BIO"[t] for t in make_tags(Query(doc, 0, 10, "A"), spans).argmax(axis=1))
        == "OBIIOOBIIO"
    )
    assert (
        "".join("BIO"[t] for t in make_tags(Query(doc, 2, 7, "A"), spans).argmax(axis=1)) == "IIOOB"
    )
    assert "".join("BIO"[t] for t in make_tags(Query(doc, 4, 6, "A"), spans).argmax(axis=1)) == "OO"


def test_weights_start_from_another_pipeline(tiny_model_dir: Path, make_nlp: MakeNlp) -> None:
    source = spacy.load(tiny_model_dir)
    nlp = spacy.blank("en")
    # The base does not exist: it is not needed where a pipeline gives the weights.
    model = {"@architectures": "metaie.CrossEncoder.v1", "name": "nowhere/at/all"}
    pipe = nlp.add_pipe(
        "metaie", config={"labels": ["Person", "City"], "model": model, "threshold": 0.3}
    )
    pipe.initialize(lambda: make_examples(nlp), nlp=nlp, init_model=str(tiny_model_dir))
    assert answers(nlp(SENTENCES[0])) == answers(source(SENTENCES[0]))


def test_pipelines_without_metaie_are_no_start(tmp_path: Path, make_nlp: MakeNlp) -> None:
    spacy.blank("en").to_disk(tmp_path)
    nlp = make_nlp()
    with pytest.raises(ValueError, match="no metaie component"):
        nlp.get_pipe("metaie").initialize(lambda: make_examples(nlp), init_model=str(tmp_path))


def test_starts_from_the_transformer_of_another_architecture(
    tiny_model_dir: Path, tmp_path: Path, warnings_logged: list[str]
) -> None:
    nlp = spacy.blank("en")
    model = {"@architectures": "metaie.LateFusion.v1", "name": "no/such", "joint_layers": 1}
    pipe = nlp.add_pipe("metaie", config={"model": model, "threshold": 0.3})
    pipe.initialize(lambda: make_examples(nlp), nlp=nlp, init_model=str(tiny_model_dir))
    source = spacy.load(tiny_model_dir).get_pipe("metaie").model.shims[0]._model
    ours = pipe.model.shims[0]._model
    for name, weights in source.transformer.state_dict().items():
        assert torch.equal(weights, ours.transformer.state_dict()[name]), name
    assert any("only the transformer is taken over" in message for message in warnings_logged)
    pipe.labels = ["Person", "City"]
    nlp.to_disk(tmp_path)
    expected = answers(nlp(SENTENCES[0]))
    assert expected
    assert answers(spacy.load(tmp_path)(SENTENCES[0])) == expected


def test_a_missing_base_says_how_to_get_it() -> None:
    nlp = spacy.blank("en")
    model = {"@architectures": "metaie.CrossEncoder.v1", "name": "assets/no/base"}
    nlp.add_pipe("metaie", config={"model": model})
    with pytest.raises(ValueError, match="weasel run base"):
        nlp.initialize(lambda: make_examples(nlp))
    doc = nlp.make_doc("Ada")
    doc._.queries = ["Person"]
    with pytest.raises(ValueError, match="no transformer yet"):
        nlp.get_pipe("metaie")(doc)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "\u200b\u200d",
        "👩‍👩‍👧‍👦 🙂" * 30,
        "مرحبا بالعالم من القدس",
        "a" * 5000,
        "x\u200by \u2066z\u2069",
    ],
)
def test_odd_texts_are_answered(tiny_pipeline: Language, text: str) -> None:
    tiny_pipeline.get_pipe("metaie").threshold = 0.05
    doc = tiny_pipeline(text)
    assert doc._.queries == ["Person", "City"]
    assert all(not span[0].is_space and not span[-1].is_space for span in doc.spans["metaie"])


def test_a_label_beyond_the_transformer_is_refused(tiny_pipeline: Language) -> None:
    doc = tiny_pipeline.make_doc("Ada")
    doc._.queries = ["very " * 200]
    with pytest.raises(ValueError, match="wordpieces"):
        tiny_pipeline(doc)
    doc._.queries = ["\u0301"]  # an accent without a letter, which the tokenizer drops
    with pytest.raises(ValueError, match="no wordpieces"):
        tiny_pipeline(doc)


def test_labels_of_different_case_are_both_answered(tiny_pipeline: Language) -> None:
    doc = tiny_pipeline.make_doc(SENTENCES[0])
    doc._.queries = ["Person", "PERSON", "Person"]
    assert tiny_pipeline(doc)._.queries == ["Person", "PERSON"]


def test_spacys_commands_work(tiny_model_dir: Path, tmp_path: Path) -> None:
    nlp = spacy.load(tiny_model_dir)
    docs = [annotate(nlp.make_doc(SENTENCES[0]), {"Person": ["Ada Lovelace"], "City": ["London"]})]
    DocBin(docs=docs).to_disk(tmp_path / "gold.spacy")
    srsly.write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in SENTENCES])
    apply(tmp_path / "texts.jsonl", tmp_path / "out.spacy", str(tiny_model_dir), "text", 4, 1)
    assert len(list(DocBin().from_disk(tmp_path / "out.spacy").get_docs(nlp.vocab))) == len(
        SENTENCES
    )
    best, _, scores = find_threshold(
        str(tiny_model_dir),
        tmp_path / "gold.spacy",
        "metaie",
        "threshold",
        "spans_metaie_r",
        n_trials=3,
    )
    assert set(scores) == {0.0, 0.5, 1.0} and best in scores
    assert (
        nlp.evaluate([Example(nlp.make_doc(d.text), d) for d in docs])["spans_metaie_f"] is not None
    )


@pytest.mark.parametrize("name", ["distill", "fewshot"])
def test_configs_are_complete(name: str, tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "configs" / f"{name}.cfg"
    DocBin().to_disk(tmp_path / "x.spacy")
    overrides = {"paths.train": str(tmp_path / "x.spacy"), "paths.dev": str(tmp_path / "x.spacy")}
    debug_config(path, overrides=overrides)
    config = Config().from_disk(path)
    assert config["components"]["metaie"]["factory"] == "metaie"


def test_displacy_shows_the_spans(tiny_pipeline: Language) -> None:
    tiny_pipeline.get_pipe("metaie").threshold = 0.1
    html = spacy.displacy.render(
        tiny_pipeline(SENTENCES[0]), style="span", options={"spans_key": "metaie"}, jupyter=False
    )
    assert "Person" in html and "Lovelace" in html


def test_the_component_is_not_made_with_a_stride_beyond_its_window(make_nlp: MakeNlp) -> None:
    with pytest.raises(ValueError, match="stride"):
        make_nlp(window=10, stride=20)


def test_pipe_class_is_exported(tiny_pipeline: Language) -> None:
    assert isinstance(tiny_pipeline.get_pipe("metaie"), MetaIE)
    assert tiny_pipeline.analyze_pipes()["summary"]["metaie"]["assigns"] == ["doc.spans"]


@pytest.mark.parametrize("architecture", ["CrossEncoder", "LateFusion"])
def test_blocks_and_buffers_of_any_size_give_the_same(
    make_nlp: MakeNlp, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    labels = ["Person", "City", "Drug", "Price", "Date"]
    nlp = make_nlp(architecture=architecture, labels=labels, threshold=0.0, window=6, stride=4)
    texts = [*SENTENCES, " ".join(SENTENCES), ""]

    def answer() -> list[list[tuple[str, int, int]]]:
        docs = nlp.pipe(texts)
        return [[(s.label_, s.start, s.end) for s in doc.spans["metaie"]] for doc in docs]

    whole = answer()
    assert any(whole)
    for own in whole:
        order = [(labels.index(label), start) for label, start, _ in own]
        assert order == sorted(order)
    monkeypatch.setattr("metaie.pipe.BUFFER_TOKENS", 17)
    monkeypatch.setattr("metaie.pipe.LABEL_BLOCK", 2)
    assert answer() == whole
