"""Late fusion in ONNX Runtime: faster on CPUs, for prediction only."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy
import srsly
import torch
from thinc.api import ArgsKwargs, Model
from thinc.shims import Shim
from thinc.types import Floats2d
from transformers import AutoTokenizer
from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

from ..decoding import TAGS
from ..queries import Query
from .forward import Tagger, tag_queries
from .late_fusion import make_batches
from .wordpieces import TextEncoder


class OnnxShim(Shim):
    """Runs an exported `FusionClassifier` under thinc.

    graphs: "labels" and "texts", what `metaie.export` makes of the classifier's `embed_labels`
        and of its other layers.
    threads: of ONNX Runtime; 0 takes as many as torch does.
    """

    def __init__(self, threads: int = 0) -> None:
        super().__init__(None)
        self.threads = threads
        self.device = torch.device("cpu")
        self.label_vectors: dict[str, torch.Tensor] = {}
        self.graphs: dict[str, bytes] = {}
        self.tokenizer: PreTrainedTokenizerFast | None = None
        self.max_length = 0
        self._sessions: dict[tuple[int, str], Any] = {}

    def set_graphs(
        self, graphs: dict[str, bytes], tokenizer: PreTrainedTokenizerFast, max_length: int
    ) -> None:
        """Set what is run, and how texts become wordpieces."""
        self.graphs, self.tokenizer, self.max_length = graphs, tokenizer, max_length
        self.label_vectors.clear()
        self._sessions.clear()

    def run(self, graph: str, **inputs: torch.Tensor | numpy.ndarray) -> torch.Tensor:
        """The output of a graph."""
        # After a fork a session's threads are gone: each process has sessions of its own.
        key = os.getpid(), graph
        if key not in self._sessions:
            self._sessions[key] = load_session(
                self.graphs[graph], self.threads or torch.get_num_threads()
            )
        arrays = {name: numpy.asarray(value) for name, value in inputs.items()}
        return torch.from_numpy(self._sessions[key].run(None, arrays)[0])

    def embed_labels(self, ids: numpy.ndarray, mask: numpy.ndarray) -> torch.Tensor:
        """The vectors of labels, (labels, hidden), from their padded wordpieces."""
        return self.run("labels", ids=ids, mask=mask)

    def __call__(self, inputs: ArgsKwargs, is_train: bool) -> tuple[torch.Tensor, Callable]:
        """Return the logits, (tokens, 3); see `FusionClassifier.forward`."""
        given = inputs.kwargs
        logits = self.run(
            "texts",
            ids=given["input_ids"],
            mask=given["attention_mask"],
            positions=given["positions"],
            queries=given["label_vectors"][given["asked"]],
        )
        is_read = given["asked_mask"][:, :, None] & given["token_mask"][:, None]
        return logits[is_read], refuse_training

    def to_device(self, device_type: str, device_id: int) -> None:
        """Stay on the CPU."""

    def to_bytes(self) -> bytes:
        """Serialise the graphs and the tokenizer."""
        files = {}
        if self.tokenizer is not None:
            with TemporaryDirectory() as folder:
                self.tokenizer.save_pretrained(folder)
                files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        return srsly.msgpack_dumps(
            {"graphs": self.graphs, "tokenizer": files, "max_length": self.max_length}
        )

    def from_bytes(self, data: bytes) -> Self:
        """Load what `to_bytes` made."""
        msg = srsly.msgpack_loads(data)
        if msg["tokenizer"]:
            with TemporaryDirectory() as folder:
                for name, content in msg["tokenizer"].items():
                    (Path(folder) / Path(name).name).write_bytes(content)
                tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
            self.set_graphs(msg["graphs"], tokenizer, msg["max_length"])
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Sessions can't be pickled; a process that needs one makes it.
        return {**self.__dict__, "_sessions": {}}


def load_session(graph: bytes, threads: int) -> Any:
    """A session of ONNX Runtime. Raises ValueError if it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError('This pipeline needs ONNX Runtime: pip install "metaie[onnx]"') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def refuse_training(*_: object) -> None:
    """Raise ValueError: there is nothing to train in an exported tagger."""
    raise ValueError(
        "An exported tagger can't be trained: train the pipeline that it was exported from, and "
        "export it again."
    )


def build_onnx_late_fusion(max_batch_wordpieces: int = 4096, threads: int = 0) -> Tagger:
    """Build `metaie.OnnxLateFusion.v1`, whose graphs `metaie export` makes.

    max_batch_wordpieces: of texts that are read together, padding included.
    threads: of ONNX Runtime; 0 takes as many as torch does.
    """
    return Model(
        "metaie_onnx_late_fusion",
        forward,
        init=check_graphs,
        dims={"nO": len(TAGS)},
        attrs={"max_batch_wordpieces": max_batch_wordpieces},
        shims=[OnnxShim(threads)],
    )


def get_onnx_shim(model: Model) -> OnnxShim:
    """The shim that holds the graphs."""
    shim = model.shims[0]
    assert isinstance(shim, OnnxShim)
    return shim


def check_graphs(model: Model, X: object = None, Y: object = None) -> OnnxShim:
    """The shim. Raises ValueError if it has no graphs."""
    shim = get_onnx_shim(model)
    if not shim.graphs or shim.tokenizer is None:
        raise ValueError(
            "This tagger holds no graphs: make a pipeline with `python -m metaie export`, and "
            "load that."
        )
    return shim


def forward(
    model: Tagger, queries: Sequence[Query], is_train: bool
) -> tuple[list[Floats2d], Callable[[Sequence[Floats2d]], list]]:
    """Tag every token of every query's window; see `tag_queries`."""
    if is_train:
        refuse_training()
    shim = check_graphs(model)
    assert shim.tokenizer is not None
    encoder = TextEncoder(shim.tokenizer, shim.max_length)
    batches = make_batches(
        queries, shim, encoder, model.attrs["max_batch_wordpieces"], is_train=False
    )
    return tag_queries(model, queries, False, batches)
