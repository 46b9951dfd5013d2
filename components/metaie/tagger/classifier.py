"""The torch module: a transformer over label and text, and a linear layer for the tags."""

import torch
from thinc.api import get_torch_default_device
from torch import nn
from transformers import AutoModel
from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_utils import PreTrainedModel

from ..decoding import TAGS


def choose_attention(config: PretrainedConfig) -> dict[str, str]:
    """Which attention to ask of the transformer, unless its config names one.

    On a CPU plain matrix products beat torch's fused kernel on sequences as short as
    ours: a training step takes a fifth less. On a GPU transformers chooses.
    """
    named = getattr(config, "_attn_implementation_internal", None)
    if named is not None or get_torch_default_device().type != "cpu":
        return {}
    return {"attn_implementation": "eager"}


class PairClassifier(nn.Module):
    """Tags wordpieces of a text that is paired with a label.

    The linear layer sees, of each wordpiece, its output vector h, the product h * l
    and l, where l is the mean vector of the label's wordpieces. The product lets it
    compare text and label from the first step: with h alone the comparison must first
    form in the layers below, and training waits for it on the plateau where every
    tag is O.
    """

    def __init__(self, config: PretrainedConfig, transformer: PreTrainedModel) -> None:
        super().__init__()
        self.config = config
        self.transformer = transformer
        self.linear = nn.Linear(3 * config.hidden_size, len(TAGS))
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    @classmethod
    def from_config(cls, config: PretrainedConfig) -> "PairClassifier":
        """A classifier with random weights, to load others into."""
        return cls(config, AutoModel.from_config(config, **choose_attention(config)))

    @classmethod
    def from_pretrained(cls, name: str, config: PretrainedConfig) -> "PairClassifier":
        """A pretrained transformer with a new linear layer."""
        transformer = AutoModel.from_pretrained(name, config=config, **choose_attention(config))
        return cls(config, transformer)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.linear.weight.device

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings."""
        return self.transformer.get_input_embeddings()

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

    def set_dropout(self, rate: float) -> None:
        """Set the rate of every dropout of the transformer.

        Some attention layers hold their rate as a number instead of a module.
        """
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate
            for name in ("dropout_prob", "attention_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, rate)
