"""The paper's sequence labelling: label and text as a pair, one pass a query.

Peng et al. (2024), MetaIE, arXiv 2404.00457, section 3. The first wordpiece of each
token is tagged B, I or O.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy
import torch
from spacy_transformers.data_classes import HFObjects
from spacy_transformers.layers.transformer_model import huggingface_from_pretrained
from thinc.api import ArgsKwargs, Model
from thinc.types import Floats2d
from transformers.utils import logging as transformers_logging

from ..decoding import TAGS, I, O
from ..queries import Query
from .classifier import PairClassifier
from .precision import check_precision
from .shim import TaggerShim
from .wordpieces import PairEncoder, PairSequence, batch_by_wordpieces

Tagger = Model[Sequence[Query], list[Floats2d]]


def build_cross_encoder(
    name: str,
    tokenizer_config: dict[str, Any] = {},
    transformer_config: dict[str, Any] = {},
    max_batch_wordpieces: int = 4096,
    precision: str = "auto",
    freeze_embeddings: bool = False,
) -> Tagger:
    """Build `metaie.CrossEncoder.v1`. The transformer is loaded at initialization.

    name: a directory or hub name of any transformer with a fast tokenizer.
    tokenizer_config, transformer_config: settings for its tokenizer and model, as
        in spacy-transformers. Dropout is `training.dropout`, as everywhere in spaCy.
    max_batch_wordpieces: wordpieces in one forward pass, padding included. More are
        cut into several passes: it bounds memory and changes no result.
    precision: "auto" computes in bfloat16 where the hardware has it, "float32" and
        "bfloat16" always so. Weights are float32 in any case.
    freeze_embeddings: do not train the word embeddings. They are half of a small
        model's weights, and training them costs a third of a step on a CPU.
    """
    hf_model = HFObjects(None, None, None, dict(tokenizer_config), dict(transformer_config))
    return Model(
        "metaie_cross_encoder",
        forward,
        init=init,
        dims={"nO": len(TAGS)},
        attrs={
            "name": name,
            "max_batch_wordpieces": max_batch_wordpieces,
            "freeze_embeddings": freeze_embeddings,
            "dropout_rate": 0.0,
        },
        shims=[TaggerShim(hf_model, precision=check_precision(precision))],
    )


def get_shim(model: Tagger) -> TaggerShim:
    """The shim that holds the transformer and its tokenizer."""
    shim = model.shims[0]
    assert isinstance(shim, TaggerShim)
    return shim


def init(model: Tagger, X: object = None, Y: object = None) -> None:
    """Load the pretrained transformer, unless the model has one already."""
    shim = get_shim(model)
    if shim._model is not None:
        return
    hf_model = load_pretrained(
        model.attrs["name"],
        shim._hfmodel._init_tokenizer_config,
        shim._hfmodel._init_transformer_config,
    )
    shim._hfmodel = hf_model
    shim._model = hf_model.transformer


def load_pretrained(
    name: str, tokenizer_config: dict[str, Any], transformer_config: dict[str, Any]
) -> HFObjects:
    """Load a base transformer with a new linear layer for the tags.

    Raises ValueError if there is none of that name, or if its tokenizer is not a
    fast one, which alone knows where in the text a wordpiece lies.
    """
    missing = ValueError(
        f"Can't load the base transformer {name!r}: there is no such directory, and it could not "
        "be loaded from the Hugging Face hub. `weasel run base` (or `python -m metaie base`) "
        "fetches the default one; another is set by `paths.base_model` in the config or by "
        "`--paths.base_model`."
    )
    path = Path(name)
    if not path.exists() and (path.is_absolute() or name.count("/") != 1 or path.parent.exists()):
        raise missing
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        hf_model = huggingface_from_pretrained(
            name,
            {"use_fast": True, **tokenizer_config},
            dict(transformer_config),
            model_cls=PairClassifier,
        )
    except OSError as error:
        raise missing from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    if not hf_model.tokenizer.is_fast:
        raise ValueError(f"The base transformer {name!r} has no fast tokenizer: choose another.")
    return hf_model


def get_max_length(hf_model: HFObjects) -> int:
    """How many wordpieces the transformer takes in one sequence."""
    config = hf_model.transformer.config
    length = hf_model.tokenizer.model_max_length
    positions = getattr(config, "max_position_embeddings", None)
    if positions and positions > 0:
        # RoBERTa counts its positions from behind the padding's id.
        length = min(length, positions - (2 if "roberta" in config.model_type else 0))
    return min(length, 8192)


def forward(
    model: Tagger, queries: Sequence[Query], is_train: bool
) -> tuple[list[Floats2d], Callable[[Sequence[Floats2d]], list]]:
    """Tag every token of every query's window.

    queries: windows of any length; one that exceeds the transformer's is read in
        overlapping pieces, so nothing is truncated.
    Returns one (tokens, 3) array of probabilities a query, and a callback that takes
    the gradients with regard to the logits, of the same shapes.
    """
    shim = get_shim(model)
    hf_model = shim._hfmodel
    if hf_model.transformer is None:
        raise ValueError(
            "The tagger has no transformer yet: call `nlp.initialize()`, or load a trained "
            "pipeline."
        )
    if is_train:
        hf_model.transformer.set_dropout(model.attrs["dropout_rate"])
        embeddings = hf_model.transformer.get_input_embeddings()
        embeddings.requires_grad_(not model.attrs["freeze_embeddings"])
    lengths = [len(query) for query in queries]
    encoder = PairEncoder(hf_model.tokenizer, get_max_length(hf_model))
    batches = batch_by_wordpieces(
        list(encoder.encode(queries)), model.attrs["max_batch_wordpieces"]
    )
    probs = numpy.zeros((sum(lengths), len(TAGS)), dtype="float32")
    read = numpy.zeros(len(probs), dtype=bool)
    passes = []
    for batch in batches:
        inputs, rows = collate(batch, hf_model.tokenizer.pad_token_id or 0, shim.device)
        logits, backprop_logits = shim(inputs, is_train)
        probs[rows] = torch.softmax(logits.detach(), dim=-1).cpu().numpy()
        read[rows] = True
        if is_train:
            passes.append((logits, rows, backprop_logits))
    # A token without wordpieces (white space, zero-width) is inside an answer if the
    # token that follows continues that answer.
    ends = numpy.cumsum(lengths)
    last = set(ends - 1)
    for row in numpy.flatnonzero(~read)[::-1]:
        inside = 0.0 if row in last else probs[row + 1, I]
        probs[row, I], probs[row, O] = inside, 1.0 - inside

    def backprop(d_logits: Sequence[Floats2d]) -> list:
        flat = numpy.concatenate(list(d_logits)) if len(d_logits) else probs
        for logits, rows, backprop_logits in passes:
            gradient = torch.as_tensor(flat[rows], dtype=logits.dtype, device=logits.device)
            backprop_logits(ArgsKwargs((logits,), {"grad_tensors": gradient}))
        return []

    by_query = [probs[end - length : end] for length, end in zip(lengths, ends, strict=True)]
    return cast(list[Floats2d], by_query), backprop


def collate(
    batch: Sequence[PairSequence], pad_id: int, device: torch.device
) -> tuple[ArgsKwargs, numpy.ndarray]:
    """Pad sequences to one length.

    Returns the classifier's inputs, and where in the output the tokens that it reads
    belong.
    """
    shape = (len(batch), max(map(len, batch)))
    ids = numpy.full(shape, pad_id, dtype="int64")
    types = numpy.zeros(shape, dtype="int64")
    mask = numpy.zeros(shape, dtype="int64")
    label_mask = numpy.zeros(shape, dtype="float32")
    for i, sequence in enumerate(batch):
        ids[i, : len(sequence)] = sequence.ids
        types[i, : len(sequence)] = sequence.types
        mask[i, : len(sequence)] = 1
        label_mask[i, sequence.label] = 1.0
    kwargs = {
        "input_ids": ids,
        "attention_mask": mask,
        "label_mask": label_mask,
        "sequences": numpy.repeat(range(len(batch)), [len(s.positions) for s in batch]),
        "positions": numpy.concatenate([s.positions for s in batch]),
    }
    if types.any():
        kwargs["token_type_ids"] = types
    tensors = {name: torch.as_tensor(array, device=device) for name, array in kwargs.items()}
    return ArgsKwargs((), tensors), numpy.concatenate([s.rows for s in batch])
