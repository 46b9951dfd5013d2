"""One system of the speed benchmark, in a process of its own: see speed.py.

Reads JSON lines `{"texts", "labels"}` from stdin, extracts, and answers each with
`{"seconds", "wordpieces", "peak_mb"}`. Needs torch and transformers only; the systems import
what else they need, so that each can have an environment of its own.

    python speed_systems.py SYSTEM BASE PRECISION THREADS [PIPELINE]
"""

import contextlib
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

Extract = Callable[[list[str], list[str]], object]
MAX_BATCH_WORDPIECES = 600


def load_gliner(base: str, precision: str, kind: str) -> Extract:
    """GLiNER, its encoder from the same weights, its other layers random."""
    from gliner import GLiNER

    labels_encoder = {"labels_encoder": base} if kind == "bi" else {}
    config = {"model_name": base, "hidden_size": 384, "max_len": 512, "max_types": 1000}
    model = GLiNER.from_config({**config, **labels_encoder, "span_mode": "markerV0"})
    model.eval()
    vectors: dict[tuple[str, ...], torch.Tensor] = {}

    def extract(texts: list[str], labels: list[str]) -> object:
        with torch.inference_mode(), autocast(precision):
            if kind == "uni":
                return model.inference(texts, labels, batch_size=16)
            # Labels are encoded once, as ours are.
            if tuple(labels) not in vectors:
                vectors[tuple(labels)] = model.encode_labels(labels, batch_size=16)
            return model.batch_predict_with_embeds(
                texts, vectors[tuple(labels)], labels, batch_size=16
            )

    return extract


def load_metaie(base: str, precision: str, architecture: str, pipeline: str) -> Extract:
    """Our component, end to end: from strings to docs with spans."""
    import spacy
    from metaie.loading import get_metaie
    from metaie.tagger.shim import get_shim

    if pipeline:
        nlp = spacy.load(pipeline)
    else:
        nlp = spacy.blank("en")
        model = {"@architectures": f"metaie.{architecture}.v1", "name": base}
        nlp.add_pipe("metaie", config={"model": model})
        get_metaie(nlp).model.initialize()
    pipe = get_metaie(nlp)
    if architecture != "OnnxLateFusion":
        get_shim(pipe.model).precision = precision  # type: ignore[assignment]

    def extract(texts: list[str], labels: list[str]) -> object:
        pipe.labels = labels  # type: ignore[assignment]
        return list(nlp.pipe(texts))

    return extract


def load_original_loop(base: str, precision: str) -> Extract:
    """The paper's own inference: one `label : text` sequence a forward pass."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForTokenClassification.from_pretrained(base, num_labels=3).eval()

    def extract(texts: list[str], labels: list[str]) -> object:
        found = []
        with torch.inference_mode(), autocast(precision):
            for text in texts:
                for label in labels:
                    inputs = tokenizer(f"{label} : {text}", return_tensors="pt", truncation=True)
                    tags = model(**inputs).logits[0].argmax(dim=-1).tolist()
                    found.append([i for i, tag in enumerate(tags) if tag == 0])
        return found

    return extract


def load_bare_forward(base: str, precision: str, pairs: bool) -> Extract:
    """The limit: the encoder alone, over wordpieces that lie ready, sorted by length."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModel.from_pretrained(base, attn_implementation="eager").eval()
    ready: dict[tuple[int, int], list[torch.Tensor]] = {}

    def encode(texts: list[str], labels: list[str]) -> list[torch.Tensor]:
        label_ids = tokenizer(labels if pairs else [""], add_special_tokens=False)["input_ids"]
        sequences = []
        for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
            for label in label_ids:
                room = 512 - len(label) - 3
                for start in range(0, len(ids), room):
                    n = len(label) + len(ids[start : start + room]) + 3
                    sequences.append(n)
        batches: list[list[int]] = []
        for n in sorted(sequences):
            if batches and n * (len(batches[-1]) + 1) <= MAX_BATCH_WORDPIECES:
                batches[-1].append(n)
            else:
                batches.append([n])
        # Which wordpieces they are makes no difference to the time.
        return [torch.randint(1000, 20000, (len(batch), max(batch))) for batch in batches]

    def extract(texts: list[str], labels: list[str]) -> object:
        key = (hash(tuple(texts)), len(labels) if pairs else 0)
        if key not in ready:
            ready[key] = encode(texts, labels)
        with torch.inference_mode(), autocast(precision):
            for batch in ready[key]:
                model(input_ids=batch, attention_mask=torch.ones_like(batch))
        return None

    return extract


def autocast(precision: str) -> contextlib.AbstractContextManager:
    """bfloat16 or nothing."""
    if precision == "bfloat16":
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def load(system: str, base: str, precision: str, pipeline: str) -> Extract:
    """The function that extracts, by the system's name."""
    if system.startswith("gliner"):
        return load_gliner(base, precision, system.split()[1])
    if system.startswith("metaie"):
        return load_metaie(base, precision, system.split()[1], pipeline)
    if system == "original loop":
        return load_original_loop(base, precision)
    return load_bare_forward(base, precision, pairs=system == "bare forward, pairs")


def peak_mb() -> float:
    """The process's peak resident memory since `reset_peak`, in MB."""
    with Path("/proc/self/status").open(encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def reset_peak() -> None:
    """Let the peak start from what is resident now."""
    with Path("/proc/self/clear_refs").open("w", encoding="ascii") as file:
        file.write("5")


def main() -> None:
    """Load the system, then serve requests until stdin closes."""
    system, base, precision, threads, *rest = sys.argv[1:]
    torch.set_num_threads(int(threads))
    warnings.filterwarnings("ignore")
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is not an answer
    extract = load(system, base, precision, rest[0] if rest else "")
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        reset_peak()
        start = time.perf_counter()
        extract(request["texts"], request["labels"])
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
