"""The torch module of late fusion: texts and labels are read apart, and meet in upper layers."""

from typing import Any

import torch
from torch import nn
from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_utils import PreTrainedModel

from ..decoding import TAGS
from .transformer import TransformerTagger

WIDTH = 128


class FusionClassifier(TransformerTagger):
    """Tags each token of a text for each label, at little more than the price of the text.

    The transformer reads a text once, whatever is asked. Of a label it reads the wordpieces in
    its lower layers; their mean, one vector, goes on through the upper `joint_layers`, in
    which it attends to the text and to itself. So it learns what in this text may answer
    it, while the text's own vectors, and the answers to any other label, stay the same. (A text
    and its queries as in DETR's decoder, Carion et al., 2020, arXiv 2005.12872, with the
    encoder's own weights.) The tags are read off the token's vector, the label's and their
    product.
    """

    joint_layers = 3

    def __init__(self, config: PretrainedConfig, transformer: PreTrainedModel) -> None:
        super().__init__(config, transformer)
        hidden = config.hidden_size
        layers = getattr(getattr(transformer, "encoder", None), "layer", None)
        if layers is None or not hasattr(layers[0], "intermediate"):
            raise ValueError(
                "Late fusion needs a transformer built like BERT or RoBERTa, and this one "
                f"({config.name_or_path!r}) is of the type {config.model_type!r}. Choose another, "
                "or the architecture `metaie.CrossEncoder.v1`."
            )
        if not 0 <= self.joint_layers <= len(layers):
            raise ValueError(
                f"joint_layers must lie between 0 and the transformer's {len(layers)} layers, not "
                f"be {self.joint_layers}."
            )
        # Tells the joint layers that a vector is a label's.
        self.kind = nn.Parameter(torch.zeros(hidden))
        self.token = nn.Linear(hidden, 2 * WIDTH)
        self.label = nn.Linear(hidden, 2 * WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.out = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, len(TAGS)))

    @property
    def _layers(self) -> Any:
        transformer: Any = self.transformer
        return transformer.encoder.layer

    def _encode(self, ids: torch.Tensor, mask: torch.Tensor, n_layers: int) -> list[torch.Tensor]:
        """The inputs of the joint layers up to layer `n_layers`, and the last one's output."""
        layers = self._layers
        transformer: Any = self.transformer
        hidden = transformer.embeddings(input_ids=ids)
        bias = (1.0 - mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        states = [hidden]
        for layer in layers[:n_layers]:
            states.append(layer(states[-1], attention_mask=bias)[0])
        return states[len(layers) - self.joint_layers :]

    def embed_labels(
        self, label_ids: torch.Tensor, label_attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """The labels' vectors before the joint layers, of shape (labels, hidden)."""
        n_layers = len(self._layers) - self.joint_layers
        hidden = self._encode(label_ids, label_attention_mask, n_layers)[-1]
        mask = label_attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        positions: torch.Tensor,
        token_mask: torch.Tensor,
        asked: torch.Tensor,
        asked_mask: torch.Tensor,
        max_grid_tokens: int,
        label_vectors: torch.Tensor | None = None,
        **labels: torch.Tensor,
    ) -> torch.Tensor:
        """Return the logits of all tokens, by text and then by label: (n, 3).

        input_ids, attention_mask: of the texts, of shape (texts, wordpieces).
        positions, token_mask: (texts, tokens); the wordpiece to read of each token, and
            which are tokens and no padding.
        asked, asked_mask: (texts, queries); which labels each text is asked, and which
            are no padding.
        max_grid_tokens: (label, token) pairs that are tagged at a time.
        label_vectors: (labels, hidden); or else
        labels: what `embed_labels` takes.
        """
        if label_vectors is None:
            label_vectors = self.embed_labels(**labels)
        tokens, queries = self.encode(input_ids, attention_mask, positions, label_vectors[asked])
        n = max(max_grid_tokens // positions.numel(), 1)
        logits = torch.cat([self.tag(tokens, part) for part in queries.split(n, dim=1)], dim=1)
        return logits[asked_mask[:, :, None] & token_mask[:, None]].float()

    def encode(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        positions: torch.Tensor,
        queries: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors of tokens, (texts, tokens, hidden), and of what they are asked.

        queries: the vectors of the labels that each text is asked, (texts, queries, hidden).
        """
        states = self._encode(input_ids, attention_mask, len(self._layers))
        if self.joint_layers:
            queries = self._join(queries, states, attention_mask)
        at = positions.unsqueeze(-1).expand(-1, -1, states[-1].shape[-1])
        return states[-1].gather(1, at), queries

    def tag(self, tokens: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """The logits of every token under every query, (texts, queries, tokens, 3)."""
        token, token_factor = self.token(tokens).unsqueeze(1).chunk(2, dim=-1)
        label, label_factor = self.label(queries).unsqueeze(2).chunk(2, dim=-1)
        return self.out(self.norm(token + label + token_factor * label_factor))

    def _join(
        self, queries: torch.Tensor, states: list[torch.Tensor], attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Pass the labels, of shape (texts, queries, hidden), through the joint layers."""
        queries = queries + self.kind
        bias = (1.0 - attention_mask[:, None, None, :].float()) * -1e4
        layers = self._layers[-self.joint_layers :]
        for layer, text in zip(layers, states, strict=False):
            queries = attend(layer, queries, text, bias)
        return queries


def attend(
    layer: Any, queries: torch.Tensor, text: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Let vectors pass a transformer's layer, each attending to the text and to itself.

    queries: (texts, queries, hidden). text: the layer's input, (texts, wordpieces, hidden).
    bias: what is added to the attention on each wordpiece, (texts, 1, 1, wordpieces).
    """
    attention = layer.attention.self

    def split(vectors: torch.Tensor) -> torch.Tensor:
        shape = (*vectors.shape[:2], attention.num_attention_heads, attention.attention_head_size)
        return vectors.view(shape).transpose(1, 2)

    query, key, value = (
        split(part(queries)) for part in (attention.query, attention.key, attention.value)
    )
    scores = torch.cat(
        (
            query
            @ split(attention.key(text)).transpose(-1, -2)
            / attention.attention_head_size**0.5
            + bias,
            (query * key).sum(dim=-1, keepdim=True) / attention.attention_head_size**0.5,
        ),
        dim=-1,
    )
    weights = attention.dropout(scores.softmax(dim=-1)).to(value.dtype)
    seen = weights[..., :-1] @ split(attention.value(text)) + weights[..., -1:] * value
    attended = layer.attention.output(seen.transpose(1, 2).flatten(2), queries)
    return layer.output(layer.intermediate(attended), attended)
