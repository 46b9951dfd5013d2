"""The bi-encoder's torch module: text and labels read apart, then met on a grid."""

import torch
from torch import nn
from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_utils import PreTrainedModel

from ..decoding import TAGS
from .transformer import TransformerTagger

WIDTH = 128
HEADS = 4
LAYERS = 1


class GridClassifier(TransformerTagger):
    """Tags each token of a text for each label, from vectors that know nothing of each other.

    The transformer reads the text once, and each label once: its vector is the mean of
    its wordpieces, as all-MiniLM-L6-v2 was trained (Reimers and Gurevych, 2019, arXiv
    1908.10084). On the grid of labels and tokens a narrow transformer decides what is an
    answer: for each label it reads the tokens, each as a projection of its vector, of
    the label's, and of their product. It is narrow, so a hundred labels cost about as
    much as the text itself.
    """

    def __init__(self, config: PretrainedConfig, transformer: PreTrainedModel) -> None:
        super().__init__(config, transformer)
        self.token = nn.Linear(config.hidden_size, 2 * WIDTH)
        self.label = nn.Linear(config.hidden_size, 2 * WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                WIDTH,
                HEADS,
                dim_feedforward=2 * WIDTH,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(LAYERS)
        )
        self.linear = nn.Linear(WIDTH, len(TAGS))

    def embed_labels(
        self, label_ids: torch.Tensor, label_attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """The labels' vectors, of shape (labels, hidden)."""
        hidden = self.transformer(
            input_ids=label_ids, attention_mask=label_attention_mask
        ).last_hidden_state
        mask = label_attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        positions: torch.Tensor,
        token_mask: torch.Tensor,
        pair_texts: torch.Tensor,
        pair_labels: torch.Tensor,
        max_grid_tokens: int,
        label_vectors: torch.Tensor | None = None,
        **labels: torch.Tensor,
    ) -> torch.Tensor:
        """Return the logits of all tokens of all pairs, one pair after the other: (n, 3).

        input_ids, attention_mask: of the texts, of shape (texts, wordpieces).
        positions, token_mask: (texts, tokens); the wordpiece to read of each token, and
            which are tokens and no padding.
        pair_texts, pair_labels: (pairs,); which text is asked which label.
        max_grid_tokens: tokens of pairs that are on the grid at a time.
        label_vectors: (labels, hidden); or else
        labels: what `embed_labels` takes.
        """
        if label_vectors is None:
            label_vectors = self.embed_labels(**labels)
        hidden = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        rows = torch.arange(len(hidden), device=hidden.device).unsqueeze(1)
        token, token_factor = self.token(hidden[rows, positions]).chunk(2, dim=-1)
        label, label_factor = self.label(label_vectors).chunk(2, dim=-1)
        logits = []
        for texts, asked in zip(
            pair_texts.split(n := max(max_grid_tokens // positions.shape[1], 1)),
            pair_labels.split(n),
            strict=True,
        ):
            mask = token_mask[texts]
            grid = token[texts] + label[asked].unsqueeze(1)
            grid = grid + token_factor[texts] * label_factor[asked].unsqueeze(1)
            grid = self.norm(grid)
            for layer in self.layers:
                grid = layer(grid, src_key_padding_mask=~mask)
            logits.append(self.linear(grid)[mask].float())
        return torch.cat(logits)
