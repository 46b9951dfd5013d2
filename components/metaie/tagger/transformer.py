"""The transformer inside a tagger: how it is made, loaded, and kept in a thinc model."""

from pathlib import Path
from typing import Any, Self

import torch
from spacy_transformers.data_classes import HFObjects
from spacy_transformers.layers.transformer_model import huggingface_from_pretrained
from thinc.api import get_torch_default_device
from torch import nn
from transformers import AutoModel
from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging as transformers_logging


class TransformerTagger(nn.Module):
    """A transformer with layers for the tags on top, which subclasses add.

    Settings of these layers are kept in the transformer's config, which is saved with
    the weights.
    """

    def __init__(self, config: PretrainedConfig, transformer: PreTrainedModel) -> None:
        super().__init__()
        self.config = config
        self.transformer = transformer

    @classmethod
    def from_config(cls, config: PretrainedConfig) -> Self:
        """A tagger with random weights, to load others into."""
        return cls(config, AutoModel.from_config(config, **choose_attention(config)))

    @classmethod
    def from_pretrained(cls, name: str, config: PretrainedConfig) -> Self:
        """A pretrained transformer with new layers for the tags."""
        transformer = AutoModel.from_pretrained(name, config=config, **choose_attention(config))
        return cls(config, transformer)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings."""
        return self.transformer.get_input_embeddings()

    def set_dropout(self, rate: float) -> None:
        """Set the rate of every dropout.

        Some attention layers hold their rate as a number instead of a module.
        """
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate
            for name in ("dropout_prob", "attention_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, rate)


def choose_attention(config: PretrainedConfig) -> dict[str, str]:
    """Which attention to ask of the transformer, unless its config names one.

    On a CPU plain matrix products beat torch's fused kernel on sequences as short as
    ours: a training step takes a fifth less. On a GPU transformers chooses.
    """
    named = getattr(config, "_attn_implementation_internal", None)
    if named is not None or get_torch_default_device().type != "cpu":
        return {}
    return {"attn_implementation": "eager"}


def load_pretrained(
    name: str,
    tokenizer_config: dict[str, Any],
    transformer_config: dict[str, Any],
    model_cls: type[TransformerTagger],
) -> HFObjects:
    """Load a base transformer with new layers for the tags.

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
            name, {"use_fast": True, **tokenizer_config}, transformer_config, model_cls=model_cls
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
