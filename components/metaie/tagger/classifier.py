"""The cross-encoder's torch module: a transformer over label and text, and a linear layer."""

import torch
from torch import nn
from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_utils import PreTrainedModel

from ..decoding import TAGS
from .transformer import TransformerTagger


class PairClassifier(TransformerTagger):
    """Tags wordpieces of a text that is paired with a label.

    The linear layer sees, of each wordpiece, its output vector h, the product h * l
    and l, where l is the mean vector of the label's wordpieces. The product lets it
    compare text and label from the first step: with h alone the comparison must first
    form in the layers below, and training waits for it on the plateau where every
    tag is O.
    """

    def __init__(self, config: PretrainedConfig, transformer: PreTrainedModel) -> None:
        super().__init__(config, transformer)
        self.linear = nn.Linear(3 * config.hidden_size, len(TAGS))
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self,
        label_mask: torch.Tensor,
        sequences: torch.Tensor,
        positions: torch.Tensor,
        **inputs: torch.Tensor,
    ) -> torch.Tensor:
        """Return the logits of the wordpieces at (sequences, positions), of shape (n, 3).

        label_mask: 1.0 at the label's wordpieces, of the shape of `input_ids`.
        inputs: what the transformer takes.
        """
        hidden = self.transformer(**inputs).last_hidden_state
        mask = label_mask.unsqueeze(-1).to(hidden.dtype)
        labels = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        h, label = hidden[sequences, positions], labels[sequences]
        return self.linear(torch.cat((h, h * label, label), dim=-1)).float()
