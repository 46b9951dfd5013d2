"""The bridge between thinc and a torch classifier around a Hugging Face transformer."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from spacy_transformers.data_classes import HFObjects
from spacy_transformers.layers.hf_shim import HFShim
from thinc.api import ArgsKwargs

from .classifier import PairClassifier
from .precision import Precision, autocast


def _limit_threads() -> None:
    # After a fork the threads of the parent's pools are gone, and a child that waits
    # for them hangs. One thread a worker is also what `n_process` asks for.
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


os.register_at_fork(after_in_child=_limit_threads)


class TaggerShim(HFShim):
    """spacy-transformers' `HFShim` around a `PairClassifier`.

    Loading and serialising are its own. Added are autocast on CPU and GPU,
    `torch.inference_mode` for prediction, and weights that take half the space
    on disk.

    precision: "auto", "float32" or "bfloat16"; what the forward pass computes in.
    storage: "float32" or "float16"; what weights are saved in. They load as float32.
    """

    def __init__(self, hf_model: HFObjects, *, precision: Precision = "auto") -> None:
        super().__init__(hf_model, model_cls=PairClassifier)
        self.precision = precision
        self.storage = "float32"

    def predict(self, inputs: ArgsKwargs) -> torch.Tensor:
        """Return the logits without a graph, of shape (tokens, 3)."""
        self._model.eval()
        with torch.inference_mode(), autocast(self.precision, self.device):
            return self._model(*inputs.args, **inputs.kwargs)

    def begin_update(self, inputs: ArgsKwargs) -> tuple[torch.Tensor, Callable]:
        """Return the logits and a callback that takes (tensors, their gradients)."""
        self._model.train()
        with autocast(self.precision, self.device):
            logits = self._model(*inputs.args, **inputs.kwargs)

        def backprop(grads: ArgsKwargs) -> None:
            torch.autograd.backward(*grads.args, **grads.kwargs)

        return logits, backprop

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
