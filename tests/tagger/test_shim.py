from collections.abc import Callable

import spacy
from conftest import SENTENCES, make_examples
from metaie.tagger.shim import get_shim
from spacy.language import Language

MakeNlp = Callable[..., Language]


def test_half_precision_on_disk_is_half_the_size_and_loads_as_float32(make_nlp: MakeNlp) -> None:
    nlp = make_nlp(labels=["Person"], threshold=0.2)
    model = nlp.get_pipe("metaie").model
    full = model.to_bytes()
    before = {name: p.detach().clone() for name, p in get_shim(model)._model.named_parameters()}
    get_shim(model).storage = "float16"
    half = model.to_bytes()
    n_weights = sum(p.numel() for p in before.values())
    assert 1.5 * n_weights < len(full) - len(half) < 2.5 * n_weights
    for name, parameter in get_shim(model)._model.named_parameters():
        assert parameter.dtype == before[name].dtype and parameter.equal(before[name])
    copy = make_nlp(labels=["Person"], threshold=0.2)
    copy.get_pipe("metaie").model.from_bytes(half)
    weights = dict(get_shim(copy.get_pipe("metaie").model)._model.named_parameters())
    assert all(p.dtype == before[name].dtype for name, p in weights.items())
    assert all(p.allclose(before[name], atol=1e-3) for name, p in weights.items())
    assert len(copy(SENTENCES[0]).spans["metaie"]) == len(nlp(SENTENCES[0]).spans["metaie"])


def test_frozen_embeddings_stay_as_they_are(make_nlp: MakeNlp, tiny_base: object) -> None:
    for frozen in (True, False):
        nlp = spacy.blank("en")
        model = {
            "@architectures": "metaie.CrossEncoder.v1",
            "name": str(tiny_base),
            "freeze_embeddings": frozen,
        }
        nlp.add_pipe("metaie", config={"model": model})
        optimizer = nlp.initialize(lambda nlp=nlp: make_examples(nlp))
        transformer = get_shim(nlp.get_pipe("metaie").model)._model
        before = transformer.get_input_embeddings().weight.detach().clone()
        layer = next(p for n, p in transformer.named_parameters() if "query.weight" in n)
        before_layer = layer.detach().clone()
        nlp.update(make_examples(nlp), sgd=optimizer)
        assert transformer.get_input_embeddings().weight.equal(before) is frozen
        assert not layer.equal(before_layer)
