import shutil
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import spacy
import torch
from conftest import make_examples
from metaie.queries import Query
from metaie.tagger.fusion_classifier import attend
from metaie.tagger.shim import get_shim
from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Adam
from transformers import DistilBertConfig, DistilBertModel

MakeNlp = Callable[..., Language]
TEXT = "Ada Lovelace met Charles Babbage in London."


@pytest.fixture
def nlp(make_nlp: MakeNlp) -> Language:
    return make_nlp(architecture="LateFusion")


def ask(nlp: Language, text: str, *labels: str) -> list[numpy.ndarray]:
    doc = nlp.make_doc(text)
    return nlp.get_pipe("metaie").model.predict([Query(doc, 0, len(doc), x) for x in labels])


@pytest.mark.parametrize("joint_layers", [0, 1, 2])
def test_answers_to_a_label_do_not_depend_on_what_else_is_asked(
    make_nlp: MakeNlp, joint_layers: int
) -> None:
    nlp = make_nlp(architecture="LateFusion", joint_layers=joint_layers)
    alone = ask(nlp, TEXT, "Person")[0]
    among = ask(nlp, TEXT, "City", "Reason for the delay", "Person")
    assert numpy.allclose(alone, among[2], atol=1e-4)
    assert not numpy.allclose(among[0], among[2], atol=1e-3)
    assert numpy.allclose(alone.sum(axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize("architecture", ["LateFusion", "CrossEncoder"])
def test_learns_open_labels_and_absences(make_nlp: MakeNlp, architecture: str) -> None:
    nlp = make_nlp(architecture=architecture)
    examples = make_examples(nlp)
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = 0.005  # type: ignore[assignment]
    for _ in range(100):
        nlp.update(examples, sgd=optimizer)
    for eg in examples:
        eg.predicted._.queries = eg.reference._.queries
    assert nlp.evaluate(examples)["spans_metaie_f"] > 0.9


def test_vectors_of_labels_do_not_outlive_the_weights(nlp: Language) -> None:
    before = ask(nlp, TEXT, "Person")[0]
    assert list(get_shim(nlp.get_pipe("metaie").model).label_vectors) == ["Person"]
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = 0.01  # type: ignore[assignment]
    weights = nlp.to_bytes()
    for _ in range(5):
        nlp.update(make_examples(nlp), sgd=optimizer)
        after = ask(nlp, TEXT, "Person")[0]
    assert not numpy.allclose(before, after, atol=1e-3)
    nlp.from_bytes(weights)
    assert numpy.allclose(before, ask(nlp, TEXT, "Person")[0], atol=1e-5)


def test_vectors_of_labels_are_those_of_averaged_weights(nlp: Language) -> None:
    model = nlp.get_pipe("metaie").model
    before = ask(nlp, TEXT, "Person")[0]
    optimizer = Adam(0.01, use_averages=True)
    for _ in range(5):
        nlp.update(make_examples(nlp), sgd=optimizer)
    last = ask(nlp, TEXT, "Person")[0]
    with model.use_params(optimizer.averages):
        average = ask(nlp, TEXT, "Person")[0]
        assert list(get_shim(model).label_vectors) == ["Person"]
        get_shim(model).label_vectors.clear()
        assert numpy.allclose(average, ask(nlp, TEXT, "Person")[0], atol=1e-6)
    assert numpy.allclose(last, ask(nlp, TEXT, "Person")[0], atol=1e-5)
    assert not numpy.allclose(before, last, atol=1e-3)


def test_passes_of_any_size_give_the_same(make_nlp: MakeNlp, monkeypatch: object) -> None:
    nlp = make_nlp(architecture="LateFusion", labels=["Person", "City", "Drug"])
    texts = [TEXT, "In London.", "Ibuprofen gave two patients a rash, and aspirin none."] * 3
    queries = [
        Query(doc, 0, len(doc), label)
        for doc in map(nlp.make_doc, texts)
        for label in ("Person", "City", "Drug")
    ]
    model = nlp.get_pipe("metaie").model
    whole = model.predict(queries)
    model.attrs["max_batch_wordpieces"] = 16
    monkeypatch.setattr("metaie.tagger.late_fusion.MAX_GRID_TOKENS", 20)  # type: ignore[attr-defined]
    for a, b in zip(whole, model.predict(queries), strict=True):
        assert numpy.allclose(a, b, atol=1e-4)


def test_tokens_without_wordpieces_and_windows_longer_than_the_transformer(nlp: Language) -> None:
    doc = Doc(nlp.vocab, ["Ada", " ", "\u200b", *["London"] * 400])
    probs = nlp.get_pipe("metaie").model.predict([Query(doc, 0, len(doc), "City")])[0]
    assert probs.shape == (403, 3)
    assert numpy.allclose(probs.sum(axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize("joint_layers", [-1, 3])
def test_there_are_no_more_joint_layers_than_layers(make_nlp: MakeNlp, joint_layers: int) -> None:
    with pytest.raises(ValueError, match=f"transformer's 2 layers, not be {joint_layers}"):
        make_nlp(architecture="LateFusion", joint_layers=joint_layers)


def test_a_label_passes_the_joint_layers_as_if_it_stood_in_the_text(nlp: Language) -> None:
    """The layer's own attention, over the text and one more vector, gives the same."""
    classifier = get_shim(nlp.get_pipe("metaie").model)._model.eval()
    layer = classifier.transformer.encoder.layer[-1]
    text, queries = torch.randn(2, 7, 32), torch.randn(2, 3, 32)
    bias = torch.zeros(2, 1, 1, 7)
    bias[1, ..., 5:] = -1e4
    with torch.inference_mode():
        ours = attend(layer, queries, text, bias)
        for i in range(3):
            joined = torch.cat((text, queries[:, i : i + 1]), dim=1)
            mask = torch.cat((bias, torch.zeros(2, 1, 1, 1)), dim=-1)
            theirs = layer(joined, attention_mask=mask)[0][:, -1]
            assert torch.allclose(ours[:, i], theirs, atol=1e-5)


def test_other_kinds_of_transformers_are_refused(tmp_path: Path, tiny_base: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    config = DistilBertConfig(vocab_size=300, dim=32, hidden_dim=64, n_layers=1, n_heads=2)
    DistilBertModel(config).save_pretrained(tmp_path / "base")
    nlp = spacy.blank("en")
    model = {"@architectures": "metaie.LateFusion.v1", "name": str(tmp_path / "base")}
    nlp.add_pipe("metaie", config={"model": model})
    with pytest.raises(ValueError, match=r"like BERT or RoBERTa.*'distilbert'"):
        nlp.initialize(lambda: make_examples(nlp))
