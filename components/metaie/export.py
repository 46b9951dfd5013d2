"""Export of a trained pipeline to ONNX: the same pipeline with a tagger for ONNX Runtime."""

import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from spacy.language import Language
from spacy.util import load_model_from_config
from thinc.api import Config
from torch import nn

from .loading import get_metaie, load_pipeline
from .tagger.fusion_classifier import FusionClassifier
from .tagger.onnx import get_onnx_shim
from .tagger.shim import get_shim, get_transformer
from .tagger.transformer import get_max_length

OPSET = 17


class LabelGraph(nn.Module):
    """What is exported of a classifier for labels."""

    def __init__(self, classifier: FusionClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The labels' vectors, (labels, hidden)."""
        return self.classifier.embed_labels(ids, mask)


class TextGraph(nn.Module):
    """What is exported of a classifier for texts."""

    def __init__(self, classifier: FusionClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, queries: torch.Tensor
    ) -> torch.Tensor:
        """The logits, (texts, queries, tokens, 3)."""
        return self.classifier.tag(*self.classifier.encode(ids, mask, positions, queries))


def export(model: str, output: Path, *, int8: bool = True) -> Language:
    """Write the pipeline with its late fusion as ONNX graphs, to be loaded like any other.

    model: a trained pipeline, a package or a path, with `metaie.LateFusion.v1`.
    int8: compute the matrix products in 8 bits, quantised as they come (ONNX Runtime's dynamic
        quantisation), with a scale for each row of the weights; otherwise in float32.

    Returns the pipeline. Raises ValueError if its tagger is of another architecture, or if
    what the export needs is not installed.
    """
    nlp = load_pipeline(model)
    pipe = get_metaie(nlp)
    if pipe.model.name != "metaie_late_fusion":
        raise ValueError(
            f"Only late fusion can be exported, and the tagger of {model!r} is a "
            f"{pipe.model.name!r}: a pass for each label is slow in ONNX Runtime as well. "
            "`weasel run fast` makes a pipeline with late fusion."
        )
    shim = get_shim(pipe.model)
    classifier = shim._model.cpu().eval()
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 0]])
    mask = (ids > 0).long()
    queries = torch.zeros(2, 3, classifier.config.hidden_size)
    graphs = {
        "labels": make_graph(
            LabelGraph(classifier),
            {"ids": ids, "mask": mask},
            {"ids": ("labels", "pieces"), "mask": ("labels", "pieces")},
            int8,
        ),
        "texts": make_graph(
            TextGraph(classifier),
            {"ids": ids, "mask": mask, "positions": ids[:, :2].clamp(max=3), "queries": queries},
            {
                "ids": ("texts", "pieces"),
                "mask": ("texts", "pieces"),
                "positions": ("texts", "tokens"),
                "queries": ("texts", "asked"),
            },
            int8,
        ),
    }
    config = Config(nlp.config)
    config["components"][pipe.name]["model"] = {
        "@architectures": "metaie.OnnxLateFusion.v1",
        "max_batch_wordpieces": pipe.model.attrs["max_batch_wordpieces"],
    }
    exported = load_model_from_config(config, vocab=nlp.vocab)
    model_bytes = {pipe.name: pipe.to_bytes(exclude=["model", "vocab"])}
    exported.from_bytes(nlp.to_bytes(exclude=[pipe.name]), exclude=[pipe.name])
    target = get_metaie(exported)
    target.from_bytes(model_bytes[pipe.name], exclude=["model", "vocab"])
    hf_model = get_transformer(shim)
    get_onnx_shim(target.model).set_graphs(graphs, hf_model.tokenizer, get_max_length(hf_model))
    exported.to_disk(output)
    return exported


def make_graph(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    axes: dict[str, tuple[str, ...]],
    int8: bool,
) -> bytes:
    """The ONNX graph of a module, for inputs of any size along the named axes."""
    try:
        import onnx  # noqa: F401
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ValueError('The export needs more packages: pip install "metaie[onnx]"') from error
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["output"],
            dynamic_axes={name: dict(enumerate(names)) for name, names in axes.items()},
            opset_version=OPSET,
            dynamo=False,
        )
        if int8:
            small = Path(folder) / "int8.onnx"
            logging.disable(logging.WARNING)  # it advises a step that changes nothing here
            try:
                quantize_dynamic(path, small, weight_type=QuantType.QInt8, per_channel=True)
            finally:
                logging.disable(logging.NOTSET)
            path = small
        return path.read_bytes()
