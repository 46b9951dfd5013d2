"""Loading a pipeline that has a `metaie` component."""

import sys
from collections.abc import Iterable
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.util import load_config
from thinc.api import require_gpu

from .pipe import MetaIE
from .spans import clean_labels

LLM_TASK = "metaie.QueriedLabels.v1"


def get_metaie(nlp: Language) -> MetaIE:
    """The pipeline's `metaie` component. Raises ValueError if it has none."""
    for _, pipe in nlp.pipeline:
        if isinstance(pipe, MetaIE):
            return pipe
    raise ValueError(f"The pipeline has no metaie component, only {nlp.pipe_names}.")


def load_pipeline(
    model: str,
    *,
    labels: Iterable[str] = (),
    threshold: float | None = None,
    gpu_id: int = -1,
) -> Language:
    """Load a pipeline, and set what its `metaie` component asks.

    Raises ValueError if there is none of that name, or it has no such component.
    """
    if gpu_id >= 0:
        require_gpu(gpu_id)
    try:
        nlp = spacy.load(model)
    except OSError as err:
        raise ValueError(
            f"Can't load the pipeline {model!r}: it must be an installed package, or a folder "
            "that `spacy train` wrote. `weasel run all` makes one; `pip install` its wheel from "
            f"packages/ to load it by name. ({err})"
        ) from err
    component = get_metaie(nlp)
    labels = clean_labels(labels)
    if labels:
        component.labels = labels
    if threshold is not None:
        component.threshold = threshold
    # The limit protects parsers, which need memory by the square of a text's length;
    # the component reads long texts window by window.
    if not nlp.has_pipe("parser"):
        nlp.max_length = sys.maxsize
    return nlp


def load_llm(config: Path) -> Language:
    """A pipeline whose `metaie` component asks the large model of a config for spacy-llm.

    config: has an `llm` component with the task `metaie.QueriedLabels.v1`; the task's `labels`
        are asked of texts that bring no queries.
    Raises FileNotFoundError, or ValueError if there is no such component, or it lacks a part.
    """
    if not config.exists():
        raise FileNotFoundError(f"There is no config {str(config)!r}. configs/label.cfg is ours.")
    # Here, since whoever loads a trained pipeline must not wait for it.
    from spacy_llm.util import split_labels

    settings = load_config(config, interpolate=True)
    for name, block in settings.get("components", {}).items():
        task = block.get("task", {})
        if block.get("factory") == "llm" and task.get("@llm_tasks") == LLM_TASK:
            if "model" not in block or "lang" not in settings.get("nlp", {}):
                raise ValueError(
                    f"The config {str(config)!r} needs a block [components.{name}.model], and "
                    "`lang` in its block [nlp]. See configs/label.cfg."
                )
            nlp = spacy.blank(settings["nlp"]["lang"])
            model = {"@architectures": "metaie.LLM.v1", "task": task, "model": block["model"]}
            labels = clean_labels(split_labels(task.get("labels", [])))
            nlp.add_pipe("metaie", config={"model": model, "labels": labels})
            nlp.max_length = sys.maxsize
            return nlp
    raise ValueError(
        f"The config {str(config)!r} has no component of the factory `llm` with the task "
        f"{LLM_TASK}. See configs/label.cfg."
    )
