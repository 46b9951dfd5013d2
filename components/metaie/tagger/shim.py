"""The bridge between thinc and a torch classifier around a Hugging Face transformer."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self

import numpy
import torch
from spacy_transformers.data_classes import HFObjects
from spacy_transformers.layers.hf_shim import HFShim
from thinc.api import ArgsKwargs, Model, Optimizer

from .precision import Precision, autocast
from .transformer import TransformerTagger, load_pretrained


def _limit_threads() -> None:
    # After a fork the threads of the parent's pools are gone, and a child that waits
    # for them hangs. One thread a worker is also what `n_process` asks for.
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


os.register_at_fork(after_in_child=_limit_threads)


class TaggerShim(HFShim):
    """spacy-transformers' `HFShim` around a `TransformerTagger`.

    Loading and serialising are its own. Added are autocast on CPU and GPU,
    `torch.inference_mode` for prediction, and weights that take half the space
    on disk.

    model_cls: the tagger's torch module.
    precision: "auto", "float32" or "bfloat16"; what the forward pass computes in.
    label_vectors: the vectors of labels that late fusion has met; they hold for the
        present weights only.
    storage: "float32" or "float16"; what weights are saved in. They load as float32.
    """

    def __init__(
        self,
        hf_model: HFObjects,
        model_cls: type[TransformerTagger],
        *,
        precision: Precision = "auto",
    ) -> None:
        super().__init__(hf_model, model_cls=model_cls)
        self.precision = precision
        self.storage = "float32"
        self.label_vectors: dict[str, torch.Tensor] = {}

    def predict(self, inputs: ArgsKwargs) -> torch.Tensor:
        """Return the logits without a graph, of shape (tokens, 3)."""
        with self.inference():
            return self._model(*inputs.args, **inputs.kwargs)

    def embed_labels(self, ids: numpy.ndarray, mask: numpy.ndarray) -> torch.Tensor:
        """The vectors of labels, (labels, hidden), from their padded wordpieces."""
        with self.inference():
            return self._model.embed_labels(
                torch.as_tensor(ids, device=self.device), torch.as_tensor(mask, device=self.device)
            )

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """The context of a forward pass that is not to be learnt from."""
        self._model.eval()
        with torch.inference_mode(), autocast(self.precision, self.device):
            yield

    def begin_update(self, inputs: ArgsKwargs) -> tuple[torch.Tensor, Callable]:
        """Return the logits and a callback that takes (tensors, their gradients)."""
        self._model.train()
        with autocast(self.precision, self.device):
            logits = self._model(*inputs.args, **inputs.kwargs)

        def backprop(grads: ArgsKwargs) -> None:
            torch.autograd.backward(*grads.args, **grads.kwargs)

        return logits, backprop

    def finish_update(self, optimizer: Optimizer) -> None:
        """Change the weights by the gradients."""
        super().finish_update(optimizer)
        self.label_vectors.clear()

    @contextlib.contextmanager
    def use_params(self, params: dict) -> Iterator[None]:
        """The context in which other weights are used, such as an optimizer's averages."""
        self.label_vectors.clear()
        with super().use_params(params):
            yield
        self.label_vectors.clear()

    def from_bytes(self, bytes_data: bytes) -> Self:
        """Load what `to_bytes` made."""
        self.label_vectors.clear()
        return super().from_bytes(bytes_data)

    def to_bytes(self) -> bytes:
        """Serialise the configuration, tokenizer and weights."""
        with self._in_storage_format():
            return super().to_bytes()

    @contextlib.contextmanager
    def _in_storage_format(self) -> Iterator[None]:
        if self.storage == "float32" or self._model is None:
            yield
            return
        weights: dict[str, Any] = {k: v.clone() for k, v in self._model.state_dict().items()}
        self._model.half()
        try:
            yield
        finally:
            self._model.float()
            self._model.load_state_dict(weights)


def get_shim(model: Model) -> TaggerShim:
    """The shim that holds the transformer and its tokenizer."""
    shim = model.shims[0]
    assert isinstance(shim, TaggerShim)
    return shim


def get_transformer(shim: TaggerShim) -> HFObjects:
    """The transformer and its tokenizer. Raises ValueError if they are not loaded yet."""
    if shim._hfmodel.transformer is None:
        raise ValueError(
            "The tagger has no transformer yet: call `nlp.initialize()`, or load a trained "
            "pipeline."
        )
    return shim._hfmodel


def copy_transformer(source: Model, target: Model) -> None:
    """Give a tagger another one's transformer and tokenizer; its own layers are made anew."""
    theirs, shim = get_transformer(get_shim(source)), get_shim(target)
    tagger = shim.model_cls.from_config(theirs.transformer.config)
    tagger.transformer.load_state_dict(theirs.transformer.transformer.state_dict())
    shim._hfmodel = replace(theirs, transformer=tagger)
    shim._model = tagger


def load_transformer(model: Model, X: object = None, Y: object = None) -> None:
    """A tagger's `init`: load the pretrained transformer, unless the model has one already."""
    shim = get_shim(model)
    if shim._model is not None:
        return
    hf_model = load_pretrained(
        model.attrs["name"],
        dict(shim._hfmodel._init_tokenizer_config),
        dict(shim._hfmodel._init_transformer_config),
        shim.model_cls,
    )
    shim._hfmodel = hf_model
    shim._model = hf_model.transformer
