"""Tiny real models: random weights, a real WordPiece tokenizer, no network."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import spacy
from annotated import NLP, ROW
from metaie.convert import make_doc
from metaie.loading import get_metaie
from metaie.spans import set_answers
from metaie.tagger.shim import get_shim
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import fix_random_seed

os.environ["HF_HUB_OFFLINE"] = "1"

SENTENCES = [
    "Ada Lovelace met Charles Babbage in London in 1833.",
    "Storms over the Atlantic delayed the flight from Lisbon by nine hours.",
    "Ibuprofen gave two patients a rash, and aspirin none.",
    "The screen is superb but the battery is awful!",
    "Person City Organization Date Reason for the delay adverse effect of ibuprofen",
    "positive aspect negative aspect person works for predicate event",
]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a random BERT of two layers, with a tokenizer trained on `SENTENCES`."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("tiny_base")
    wordpiece = BertWordPieceTokenizer(lowercase=True)
    wordpiece.train_from_iterator(SENTENCES, vocab_size=300, min_frequency=1, show_progress=False)
    wordpiece.save_model(str(path))
    tokenizer = BertTokenizerFast(vocab_file=str(path / "vocab.txt"), model_max_length=128)
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def make_nlp(tiny_base: Path) -> Callable[..., Language]:
    """Build an initialised pipeline with a tiny `metaie`; keywords are its settings."""

    def make(
        examples: list[Example] | None = None,
        max_batch_wordpieces: int = 4096,
        transformer_config: dict[str, object] | None = None,
        architecture: str = "CrossEncoder",
        joint_layers: int = 1,
        **config: object,
    ) -> Language:
        fix_random_seed(0)
        nlp = spacy.blank("en")
        model = {
            "@architectures": f"metaie.{architecture}.v1",
            "name": str(tiny_base),
            "transformer_config": transformer_config or {},
            "max_batch_wordpieces": max_batch_wordpieces,
            "precision": "float32",
        }
        if architecture == "LateFusion":
            model["joint_layers"] = joint_layers
        nlp.add_pipe("metaie", config={"model": model, **config})
        nlp.initialize(lambda: examples if examples is not None else make_examples(nlp))
        return nlp

    return make


@pytest.fixture
def tiny_pipeline(make_nlp: Callable[..., Language]) -> Language:
    """An untrained pipeline that asks two labels."""
    return make_nlp(labels=["Person", "City"])


@pytest.fixture(scope="session")
def tiny_model_dir(
    make_nlp: Callable[..., Language], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An untrained pipeline on disk. A low threshold makes it answer something."""
    path = tmp_path_factory.mktemp("tiny_model")
    make_nlp(labels=["Person", "City"], threshold=0.3).to_disk(path)
    return path


def make_eager(nlp: Language) -> Language:
    """Make the pipeline take each token for an answer to whatever it is asked.

    What a tiny random one answers differs from process to process, as its tokenizer does.
    """
    import torch

    classifier = get_shim(get_metaie(nlp).model)._model
    with torch.no_grad():
        classifier.linear.bias.copy_(torch.tensor([6.0, 0.0, 0.0]))
    return nlp


@pytest.fixture(scope="session")
def eager_model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline on disk that takes each token for an answer."""
    path = tmp_path_factory.mktemp("eager_model")
    make_eager(spacy.load(tiny_model_dir)).to_disk(path)
    return path


def annotate(doc: Doc, answers: dict[str, list[str]]) -> Doc:
    """Annotate a doc with the texts of its spans by label; an empty list is an absence."""
    spans = []
    for label, texts in answers.items():
        for text in texts:
            start = doc.text.index(text)
            span = doc.char_span(start, start + len(text), label=label)
            assert isinstance(span, Span), text
            spans.append(span)
    set_answers(doc, spans, list(answers))
    return doc


ANSWERS: list[dict[str, list[str]]] = [
    {"Person": ["Ada Lovelace", "Charles Babbage"], "City": ["London"], "Drug": []},
    {"Reason for the delay": ["Storms over the Atlantic"], "City": ["Lisbon"], "Person": []},
    {"adverse effect of ibuprofen": ["a rash"], "Drug": ["Ibuprofen", "aspirin"]},
    {"positive aspect": ["screen"], "negative aspect": ["battery"], "Price": []},
]


def make_examples(nlp: Language) -> list[Example]:
    """Four annotated examples with open labels."""
    return [
        Example(nlp.make_doc(text), annotate(nlp.make_doc(text), answers))
        for text, answers in zip(SENTENCES, ANSWERS, strict=False)
    ]


@pytest.fixture
def doc() -> Doc:
    """A text that is annotated for all task families."""
    return make_doc(ROW, NLP, structures=True)


@pytest.fixture
def make_text() -> Callable[[str], Doc]:
    """Make a doc without annotation."""
    return NLP.make_doc
