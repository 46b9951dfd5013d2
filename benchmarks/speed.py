"""Speed, side by side with peers: passages a second, by number of labels and length of text.

    python benchmarks/speed.py --base assets/base --texts corpus/texts --gliner-python PYTHON

PYTHON is the interpreter of a virtual environment with `gliner` (and the same torch); without
it GLiNER is left out. Every system runs in a process of its own, loads the same encoder, and is
handed the same texts and labels; the systems take turns, and a figure is the median of at least
five turns. Each system is measured in float32 and, where the CPU has it, in bfloat16; there
the ONNX graphs compute in 8 bits.
What is measured already is not measured again: delete the output to start over.
"""

import argparse
import datetime
import json
import platform
import random
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import spacy
import srsly
import torch
from tqdm import tqdm
from wasabi import msg

ROOT = Path(__file__).parents[1]
OURS = ("metaie CrossEncoder", "metaie LateFusion", "metaie OnnxLateFusion")
PEERS = ("gliner uni", "gliner bi")
LIMITS = ("bare forward", "bare forward, pairs")
SYSTEMS = (*OURS, *PEERS, "original loop", *LIMITS)
# What a system's time is held against.
LIMIT_OF = {"metaie CrossEncoder": "bare forward, pairs", "original loop": "bare forward, pairs"}


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--base", default="assets/base", help="the encoder's directory")
    parser.add_argument("--texts", type=Path, default=ROOT / "corpus/texts", help="JSONL files")
    parser.add_argument("--train", type=Path, default=ROOT / "corpus/train.spacy")
    parser.add_argument("--gliner-python", help="an interpreter that has gliner")
    parser.add_argument("--cross", default="", help="a trained pipeline with the cross-encoder")
    parser.add_argument("--fast", default="", help="a trained pipeline with late fusion")
    parser.add_argument("--onnx", help="what `metaie export` made of it, in 8 bits")
    parser.add_argument("--onnx-float32", help="the same in float32")
    parser.add_argument("--labels", nargs="+", type=int, default=[1, 5, 10, 25, 50, 100])
    parser.add_argument("--words", nargs="+", type=int, default=[20, 60, 200, 5000])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7, help="a turn lasts about so long")
    parser.add_argument(
        "--patience", type=float, default=8, help="leave out what takes longer for one text"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/speed.json")
    return parser.parse_args()


def make_texts(folder: Path, n_words: int, n_texts: int) -> list[str]:
    """News-like texts of about `n_words` words: whole passages, joined and cut."""
    passages = [
        row["text"] for path in sorted(folder.glob("*.jsonl")) for row in srsly.read_jsonl(path)
    ]
    random.Random(0).shuffle(passages)
    words = " ".join(passages).split()
    texts = [" ".join(words[i : i + n_words]) for i in range(0, len(words), n_words)]
    return texts[:n_texts]


def find_labels(path: Path, n_labels: int) -> list[str]:
    """The most frequent labels of the train split."""
    from metaie.docbin import read_docbin
    from metaie.spans import get_queries

    counts = Counter(
        label for doc in read_docbin(path, spacy.blank("en").vocab) for label in get_queries(doc)
    )
    return [label for label, _ in counts.most_common(n_labels)]


class System:
    """A system in its own process."""

    def __init__(self, args: argparse.Namespace, name: str, precision: str) -> None:
        python = args.gliner_python if name in PEERS else sys.executable
        pipeline = {
            "metaie CrossEncoder": args.cross,
            "metaie LateFusion": args.fast,
            "metaie OnnxLateFusion": args.onnx_float32 if precision == "float32" else args.onnx,
        }.get(name, "")
        script = str(Path(__file__).with_name("speed_systems.py"))
        command = [python, script, name, args.base, precision, str(args.threads), pipeline]
        self.name, self.precision = name, precision
        # It must load in reasonable time, and its warnings would break the progress bar.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self.name} ({self.precision}) died: run speed_systems.py by hand."
            )
        return dict(json.loads(line))

    def measure(self, texts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
        """Extract once; returns {"seconds", "peak_mb"}."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"texts": texts, "labels": labels}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def choose_number(system: System, texts: list[str], labels: list[str], seconds: float) -> int:
    """How many texts a turn takes; also warms the system up."""
    n = 1
    while True:
        took = system.measure(texts[:n], labels)["seconds"]
        if took >= seconds / 2 or n >= len(texts):
            return max(1, min(len(texts), round(n * seconds / took)))
        n = min(len(texts), max(n + 1, min(8 * n, round(n * seconds / took))))


def measure_cell(
    systems: list[System], texts: list[str], labels: list[str], args: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Measure all systems in turns on the same texts; medians by the system's name."""
    for system in systems:  # what is kept of labels is made once
        system.measure(texts[:1], labels)
    firsts = {s.name: s.measure(texts[:1], labels)["seconds"] for s in systems}
    systems = [s for s in systems if firsts[s.name] <= args.patience]
    numbers = {s.name: choose_number(s, texts, labels, args.seconds) for s in systems}
    turns: dict[str, list[dict[str, Any]]] = {s.name: [] for s in systems}
    for turn in range(args.repeats):
        # There and back, so that none always follows the same one.
        for system in systems if turn % 2 == 0 else systems[::-1]:
            turns[system.name].append(system.measure(texts[: numbers[system.name]], labels))
    return {
        name: {
            "texts": numbers[name],
            "passages_per_second": numbers[name] / statistics.median(t["seconds"] for t in own),
            "peak_mb": max(t["peak_mb"] for t in own),
        }
        for name, own in turns.items()
    }


def count_wordpieces(base: str, texts: Sequence[str]) -> float:
    """Wordpieces a text, on average."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return float(numpy.mean([len(own) for own in ids]))


def main() -> None:
    """Measure what is missing; write results, table and plot after each cell."""
    args = parse_args()
    names = [
        name
        for name in args.systems
        if (name not in PEERS or args.gliner_python) and (name != OURS[2] or args.onnx)
    ]
    records: list[dict[str, Any]] = srsly.read_json(args.output) if args.output.exists() else []
    done = {(r["precision"], r["words"], r["labels"]) for r in records}
    cells = [
        (precision, n_words, n_labels)
        for precision in args.precisions
        for n_words in args.words
        for n_labels in args.labels
        if (precision, n_words, n_labels) not in done
    ]
    all_labels = find_labels(args.train, max(args.labels))
    device = f"{read_cpu()}, {args.threads} threads"
    bar = tqdm(cells, unit="cell")
    systems: list[System] = []
    for precision, n_words, n_labels in bar:
        bar.set_description(f"{precision}, {n_words} words, {n_labels} labels")
        if not systems or systems[0].precision != precision:
            for system in systems:
                system.stop()
            systems = [System(args, name, precision) for name in names]
        texts = make_texts(args.texts, n_words, 256 if n_words < 1000 else 2)
        wordpieces = count_wordpieces(args.base, texts)
        figures = measure_cell(systems, texts, all_labels[:n_labels], args)
        for name, own in figures.items():
            limit = figures.get(LIMIT_OF.get(name, "bare forward"), {}).get("passages_per_second")
            records.append(
                {
                    "system": name,
                    "device": device,
                    "precision": precision,
                    "labels": n_labels,
                    "words": n_words,
                    "passages_per_second": round(own["passages_per_second"], 3),
                    "wordpieces_per_second": round(own["passages_per_second"] * wordpieces, 1),
                    "of_limit": limit and round(own["passages_per_second"] / limit, 3),
                    "peak_mb": round(own["peak_mb"]),
                    "texts": own["texts"],
                }
            )
        args.output.parent.mkdir(parents=True, exist_ok=True)
        srsly.write_json(args.output, records)
    for system in systems:
        system.stop()
    args.output.with_suffix(".md").write_text(make_table(records), encoding="utf8")
    plot(records, args.output.with_suffix(".svg"))
    msg.good(f"Wrote {args.output}, and a table and a plot beside it")


def read_cpu() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def make_table(records: list[dict[str, Any]]) -> str:
    """Markdown: passages a second, a table for each precision and length of text."""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("spacy", "torch", "transformers", "onnxruntime")
    )
    lines = [
        "# Speed",
        "",
        f"Passages a second: the median of all turns, all systems taking turns in one run. "
        f"{datetime.date.today()}, {records[0]['device']}, {versions}. Where the others compute in "
        "bfloat16, the ONNX graphs compute in 8 bits. A system that takes too long for one text "
        "is left out. GLiNER and the original loop cut texts at 512 words or wordpieces: at 5,000 "
        "words they read a tenth.",
        "",
        "```",
        "python benchmarks/speed.py --base assets/base --gliner-python PYTHON \\",
        "    --cross training/distill/model-best --fast training/fast/model-best \\",
        "    --onnx training/fast/onnx --onnx-float32 training/fast/onnx-float32 --threads 1",
        "```",
        "",
        "![Passages a second](speed.svg)",
        "",
    ]
    labels = sorted({r["labels"] for r in records})
    for precision in dict.fromkeys(r["precision"] for r in records):
        for words in sorted({r["words"] for r in records}):
            own = {
                (r["system"], r["labels"]): r["passages_per_second"]
                for r in records
                if (r["precision"], r["words"]) == (precision, words)
            }
            lines += [f"{precision}, {words} words:", ""]
            lines += ["| labels | " + " | ".join(map(str, labels)) + " |"]
            lines += ["| --- |" + " ---: |" * len(labels)]
            for name in dict.fromkeys(name for name, _ in own):
                cells = (f"{own[name, n]:.3g}" if (name, n) in own else "" for n in labels)
                lines.append(f"| {name} | " + " | ".join(cells) + " |")
            lines.append("")
    return "\n".join(lines)


def plot(records: list[dict[str, Any]], path: Path) -> None:
    """Passages a second against labels, a panel for each length of text."""
    from matplotlib import pyplot

    lengths = sorted({r["words"] for r in records})
    precisions = list(dict.fromkeys(r["precision"] for r in records))
    figure, grid = pyplot.subplots(
        len(precisions),
        len(lengths),
        figsize=(4 * len(lengths), 4 * len(precisions)),
        squeeze=False,
    )
    for row, precision in zip(grid, precisions, strict=True):
        for axes, words in zip(row, lengths, strict=True):
            for name in SYSTEMS:
                points = sorted(
                    (r["labels"], r["passages_per_second"])
                    for r in records
                    if (r["system"], r["words"], r["precision"]) == (name, words, precision)
                )
                if points:
                    axes.loglog(*zip(*points, strict=True), marker="o", markersize=3, label=name)
            axes.set_title(f"{words} words, {precision}")
            axes.set_xlabel("Labels")
            axes.set_ylabel("Passages a second")
            axes.grid(alpha=0.3)
    grid[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
