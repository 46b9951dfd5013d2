"""Many labels for the price of one: text and labels are read apart, and meet late.

A text is encoded once, whatever the number of labels, and a label once for all texts, as in
the bi-encoders of GLiNER's (Zaratiana et al., 2024, arXiv 2311.08526) and NuNER's (Bogdanov
et al., 2024, arXiv 2402.15343) families; in the upper layers the label sees the text.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy
import torch
from thinc.types import Floats2d

from ..queries import Query
from .forward import Batch, Tagger, build_tagger, tag_queries
from .fusion_classifier import FusionClassifier
from .shim import get_shim, get_transformer
from .transformer import get_max_length
from .wordpieces import TextEncoder, TextSequence, batch_by_wordpieces, pad

# (label, token) pairs that are tagged at a time: it bounds memory, and changes no result.
MAX_GRID_TOKENS = 16_384
# Labels whose vectors are kept.
MAX_CACHED_LABELS = 20_000


def build_late_fusion(
    name: str,
    tokenizer_config: dict[str, Any] = {},
    transformer_config: dict[str, Any] = {},
    max_batch_wordpieces: int = 4096,
    precision: str = "auto",
    freeze_embeddings: bool = False,
    joint_layers: int = 3,
) -> Tagger:
    """Build `metaie.LateFusion.v1`. The transformer is loaded at initialization.

    joint_layers: in how many of the transformer's upper layers a label sees the text; with 0
        it is a bi-encoder. The other settings are those of `metaie.CrossEncoder.v1`.
    """
    module = type("FusionClassifier", (FusionClassifier,), {"joint_layers": joint_layers})
    return build_tagger(
        "metaie_late_fusion",
        forward,
        module,
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
    """Tag every token of every query's window; see `tag_queries`.

    Each window among the queries is encoded once, and each label once; in prediction
    a label's vector is kept for later calls.
    """
    shim = get_shim(model)
    hf_model = get_transformer(shim)
    encoder = TextEncoder(hf_model.tokenizer, get_max_length(hf_model))
    batches = make_batches(
        queries, shim, encoder, model.attrs["max_batch_wordpieces"], is_train=is_train
    )
    return tag_queries(model, queries, is_train, batches)


class LabelShim(Protocol):
    """What runs the classifier and keeps the vectors of labels."""

    label_vectors: dict[str, torch.Tensor]

    def embed_labels(self, ids: numpy.ndarray, mask: numpy.ndarray) -> torch.Tensor:
        """The vectors of labels, (labels, hidden), from their padded wordpieces."""


def make_batches(
    queries: Sequence[Query],
    shim: LabelShim,
    encoder: TextEncoder,
    max_batch_wordpieces: int,
    *,
    is_train: bool,
) -> Iterator[Batch]:
    """Yield the classifier's inputs, and the rows of the output that they fill."""
    pad_id = encoder.tokenizer.pad_token_id or 0
    labels = list(dict.fromkeys(query.label for query in queries))
    numbers = {label: i for i, label in enumerate(labels)}
    asked = numpy.array([numbers[query.label] for query in queries], dtype="int64")
    label_ids = encoder.encode_labels(labels)
    vectors = None if is_train else embed_labels(shim, labels, label_ids, pad_id)

    by_window: dict[tuple[int, int, int], list[int]] = {}
    for i, query in enumerate(queries):
        if len(query):
            by_window.setdefault((id(query.doc), query.start, query.end), []).append(i)
    askers = [numpy.array(own) for own in by_window.values()]
    windows = [queries[own[0]] for own in by_window.values()]
    sequences = list(encoder.encode([(q.doc, q.start, q.end) for q in windows]))
    lengths = numpy.array([len(query) for query in queries], dtype="int64")
    begins = numpy.cumsum(lengths) - lengths
    for batch in batch_by_wordpieces(sequences, max_batch_wordpieces):
        own = [askers[sequence.window] for sequence in batch]
        inputs: dict[str, Any] = collate(batch, pad_id)
        inputs["asked"], asked_mask = pad([asked[o] for o in own], 0)
        inputs["asked_mask"] = asked_mask.astype(bool)
        inputs["max_grid_tokens"] = MAX_GRID_TOKENS
        if vectors is None:
            used, inputs["asked"] = numpy.unique(inputs["asked"], return_inverse=True)
            inputs["label_ids"], inputs["label_attention_mask"] = pad(
                [label_ids[i] for i in used], pad_id
            )
        else:
            inputs["label_vectors"] = vectors
        rows = [
            (begins[o][:, None] + sequence.tokens).ravel()
            for o, sequence in zip(own, batch, strict=True)
        ]
        yield inputs, numpy.concatenate(rows)


def embed_labels(
    shim: LabelShim, labels: Sequence[str], label_ids: Sequence[numpy.ndarray], pad_id: int
) -> torch.Tensor | None:
    """The vectors of the labels; those that the shim has not kept are computed."""
    known = shim.label_vectors
    new = [i for i, label in enumerate(labels) if label not in known]
    if len(known) + len(new) > MAX_CACHED_LABELS:
        known.clear()
        new = list(range(len(labels)))
    new.sort(key=lambda i: len(label_ids[i]))
    for start in range(0, len(new), 256):
        part = new[start : start + 256]
        vectors = shim.embed_labels(*pad([label_ids[i] for i in part], pad_id))
        known.update(zip((labels[i] for i in part), vectors, strict=True))
    return torch.stack([known[label] for label in labels]) if labels else None


def collate(batch: Sequence[TextSequence], pad_id: int) -> dict[str, numpy.ndarray]:
    """Pad texts to one length."""
    ids, mask = pad([sequence.ids for sequence in batch], pad_id)
    positions, token_mask = pad([sequence.positions for sequence in batch], 0)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "positions": positions,
        "token_mask": token_mask.astype(bool),
    }
