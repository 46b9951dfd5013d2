"""What all taggers do alike: from batches of inputs to the tags of queries, and back."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import numpy
import torch
from spacy_transformers.data_classes import HFObjects
from thinc.api import ArgsKwargs, Model
from thinc.types import Floats2d

from ..decoding import TAGS, I, O
from ..queries import Query
from .precision import check_precision
from .shim import TaggerShim, get_shim, get_transformer, load_transformer
from .transformer import TransformerTagger

Tagger = Model[Sequence[Query], list[Floats2d]]
# The torch module's inputs by name, and the rows of the flat (tokens, 3) output that they fill.
Batch = tuple[dict[str, Any], numpy.ndarray]


def build_tagger(
    kind: str,
    forward: Callable,
    module: type[TransformerTagger],
    *,
    name: str,
    tokenizer_config: dict[str, Any],
    transformer_config: dict[str, Any],
    max_batch_wordpieces: int,
    precision: str,
    freeze_embeddings: bool,
) -> Tagger:
    """Build a tagger around a torch module; its settings are those of the architectures.

    kind: the model's name, which tells whether weights fit.
    """
    hf_model = HFObjects(None, None, None, dict(tokenizer_config), dict(transformer_config))
    return Model(
        kind,
        forward,
        init=load_transformer,
        dims={"nO": len(TAGS)},
        attrs={
            "name": name,
            "max_batch_wordpieces": max_batch_wordpieces,
            "freeze_embeddings": freeze_embeddings,
            "dropout_rate": 0.0,
        },
        shims=[TaggerShim(hf_model, module, precision=check_precision(precision))],
    )


def tag_queries(
    model: Tagger, queries: Sequence[Query], is_train: bool, batches: Iterable[Batch]
) -> tuple[list[Floats2d], Callable[[Sequence[Floats2d]], list]]:
    """Tag every token of every query's window.

    batches: inputs that together read every token that has a wordpiece, once.
    Returns one (tokens, 3) array of probabilities a query, and a callback that takes
    the gradients with regard to the logits, of the same shapes.
    """
    shim: Any = model.shims[0]
    if is_train:
        transformer = get_transformer(get_shim(model)).transformer
        transformer.set_dropout(model.attrs["dropout_rate"])
        embeddings = transformer.get_input_embeddings()
        embeddings.requires_grad_(not model.attrs["freeze_embeddings"])
    ends = numpy.cumsum([len(query) for query in queries], dtype="int64")
    probs = numpy.zeros((int(ends[-1]) if len(ends) else 0, len(TAGS)), dtype="float32")
    read = numpy.zeros(len(probs), dtype=bool)
    passes = []
    for arrays, rows in batches:
        inputs = {
            name: torch.as_tensor(value, device=shim.device)
            if isinstance(value, numpy.ndarray)
            else value
            for name, value in arrays.items()
        }
        logits, backprop_logits = shim(ArgsKwargs((), inputs), is_train)
        probs[rows] = torch.softmax(logits.detach(), dim=-1).cpu().numpy()
        read[rows] = True
        if is_train:
            passes.append((logits, rows, backprop_logits))
    fill_unread(probs, read, ends)

    def backprop(d_logits: Sequence[Floats2d]) -> list:
        flat = numpy.concatenate(list(d_logits)) if len(d_logits) else probs
        for logits, rows, backprop_logits in passes:
            gradient = torch.as_tensor(flat[rows], dtype=logits.dtype, device=logits.device)
            backprop_logits(ArgsKwargs((logits,), {"grad_tensors": gradient}))
        return []

    return cast(list[Floats2d], numpy.split(probs, ends[:-1]) if len(ends) else []), backprop


def fill_unread(probs: numpy.ndarray, read: numpy.ndarray, ends: numpy.ndarray) -> None:
    """Tag the tokens without wordpieces (white space, zero-width), in place.

    Such a token is inside an answer if the token that follows continues that answer.
    """
    unread = numpy.flatnonzero(~read)
    if not len(unread):
        return
    last = set((ends - 1).tolist())
    for row in unread[::-1]:
        inside = 0.0 if row in last else probs[row + 1, I]
        probs[row, I], probs[row, O] = inside, 1.0 - inside
