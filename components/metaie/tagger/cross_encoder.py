"""The paper's sequence labelling: label and text as a pair, one pass a query.

Peng et al. (2024), MetaIE, arXiv 2404.00457, section 3. The first wordpiece of each
token is tagged B, I or O.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy
from thinc.types import Floats2d

from ..queries import Query
from .classifier import PairClassifier
from .forward import Batch, Tagger, build_tagger, tag_queries
from .shim import get_shim, get_transformer
from .transformer import get_max_length
from .wordpieces import PairEncoder, PairSequence, batch_by_wordpieces, pad


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
    return build_tagger(
        "metaie_cross_encoder",
        forward,
        PairClassifier,
        name=name,
        tokenizer_config=tokenizer_config,
        transformer_config=transformer_config,
        max_batch_wordpieces=max_batch_wordpieces,
        precision=precision,
        freeze_embeddings=freeze_embeddings,
    )


def forward(
    model: Tagger, queries: Sequence[Query], is_train: bool
) -> tuple[list[Floats2d], Callable[[Sequence[Floats2d]], list]]:
    """Tag every token of every query's window, in one pass a query; see `tag_queries`."""
    return tag_queries(model, queries, is_train, make_batches(model, queries))


def make_batches(model: Tagger, queries: Sequence[Query]) -> Iterator[Batch]:
    """Yield the classifier's inputs, and the rows of the output that they fill."""
    shim = get_shim(model)
    hf_model = get_transformer(shim)
    encoder = PairEncoder(hf_model.tokenizer, get_max_length(hf_model))
    sequences = list(encoder.encode(queries))
    for batch in batch_by_wordpieces(sequences, model.attrs["max_batch_wordpieces"]):
        inputs = collate(batch, hf_model.tokenizer.pad_token_id or 0)
        yield inputs, numpy.concatenate([sequence.rows for sequence in batch])


def collate(batch: Sequence[PairSequence], pad_id: int) -> dict[str, numpy.ndarray]:
    """Pad sequences to one length."""
    ids, mask = pad([sequence.ids for sequence in batch], pad_id)
    types, _ = pad([sequence.types for sequence in batch], 0)
    label_mask = numpy.zeros(ids.shape, dtype="float32")
    for i, sequence in enumerate(batch):
        label_mask[i, sequence.label] = 1.0
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "label_mask": label_mask,
        "sequences": numpy.repeat(range(len(batch)), [len(s.positions) for s in batch]),
        "positions": numpy.concatenate([sequence.positions for sequence in batch]),
    }
    if types.any():
        inputs["token_type_ids"] = types
    return inputs
