from collections.abc import Callable

import pytest
from metaie.tagger.shim import get_shim
from spacy.language import Language

MakeNlp = Callable[..., Language]


@pytest.mark.parametrize(
    ("transformer_config", "attention"), [({}, "eager"), ({"attn_implementation": "sdpa"}, "sdpa")]
)
def test_attention_is_plain_on_a_cpu_unless_the_config_names_another(
    make_nlp: MakeNlp, transformer_config: dict[str, object], attention: str
) -> None:
    nlp = make_nlp(transformer_config=transformer_config)
    classifier = get_shim(nlp.get_pipe("metaie").model)._model
    assert classifier.transformer.config._attn_implementation == attention


def test_attention_is_plain_after_loading(make_nlp: MakeNlp) -> None:
    nlp = make_nlp()
    loaded = make_nlp().from_bytes(nlp.to_bytes())
    classifier = get_shim(loaded.get_pipe("metaie").model)._model
    assert classifier.transformer.config._attn_implementation == "eager"
