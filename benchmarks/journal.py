"""A teacher's journal of millions of records: time to open it, look-ups, memory.

    python benchmarks/journal.py --records 500000 5000000

Journals are generated in a temporary folder (0.4 KB a record), and deleted at the end. Each
figure comes from a process of its own. "dict" reads all responses into memory, as the
journal did before it had an index; it is measured up to `--dict-up-to` records. Times are the
processor's, so that other work on the machine does not count; opening is timed by the clock, too.
"""

import argparse
import datetime
import hashlib
import json
import multiprocessing
import os
import platform
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import srsly
from metaie.teacher.answer import Answer
from metaie.teacher.journal import Journal
from metaie.teacher.record import format_record, hash_prompt
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "corpus/teacher/journal.jsonl"
N_LOOKUPS = 50_000
N_RECORDED = 5_000
MODES = {
    "dict": "all in a dict",
    "first": "index, first opening",
    "second": "index, second opening",
    "record": "index, recording",
}


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", nargs="+", type=int, default=[500_000, 5_000_000])
    parser.add_argument("--dict-up-to", type=int, default=500_000, metavar="RECORDS")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/journal.json")
    return parser.parse_args()


def make_prompt(number: int) -> str:
    """The prompt of a generated record."""
    return f"What is important in text {number}?"


def make_journal(path: Path, n_records: int) -> None:
    """Write a journal with the shipped answers, cut to 200 characters, over and over."""
    responses = cycle(row["response"][:200] for row in srsly.read_jsonl(SHIPPED))
    with path.open("wb") as file:
        for i, text in tqdm(enumerate(islice(responses, n_records)), total=n_records, leave=False):
            answer = Answer(text, "ok", 300, 60)
            time = "2026-01-01T00:00:00+00:00"
            file.write(format_record(hash_prompt(make_prompt(i)), answer, "mini", time))


def read_dict(path: Path) -> dict[str, str]:
    """All responses by key."""
    responses: dict[str, str] = {}
    with path.open("rb") as file:
        for line in file:
            row = json.loads(line)
            responses.setdefault(row["prompt_sha256"], row["response"])
    return responses


def rate(function: Callable[[], int]) -> float:
    """How many a second of the processor a function does, which returns how many it did."""
    began = time.process_time()
    count = function()
    return count / (time.process_time() - began)


def time_opening(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a function returns, and the seconds that it takes, of the processor and in all."""
    clock, processor = time.perf_counter(), time.process_time()
    opened = function()
    seconds = {
        "open": time.process_time() - processor,
        "open_clock": time.perf_counter() - clock,
    }
    return opened, seconds


def measure(mode: str, path: Path, n_records: int) -> dict[str, float]:
    """Open a journal and use it: seconds, how many a second, and MB."""
    numbers = random.Random(0).sample(range(n_records), N_LOOKUPS)
    known = [hash_prompt(make_prompt(i)) for i in numbers]
    unknown = [hashlib.sha256(key.encode()).hexdigest() for key in known]
    before = get_peak()
    if mode == "dict":
        responses, opened = time_opening(lambda: read_dict(path))
        found = rate(lambda: sum(key in responses and responses[key] != "" for key in known))
        missed = rate(lambda: sum(key not in responses for key in unknown))
        return {**opened, "found": found, "missed": missed, "peak": get_peak() - before}
    if mode == "record":
        with Journal(path, lambda prompts: (["- City: none"] for _ in prompts)) as journal:
            new = [[make_prompt(n_records + i)] for i in range(N_RECORDED)]
            recorded = rate(lambda: sum(1 for _ in journal(new)))
        return {"recorded": recorded, "peak": get_peak() - before}
    journal, opened = time_opening(lambda: Journal(path))
    with journal:
        find = journal._index.find
        found = rate(lambda: sum(find(key) is not None for key in known))
        missed = rate(lambda: sum(find(key) is None for key in unknown))
        prompts = [[make_prompt(i)] for i in range(N_LOOKUPS)]
        replayed = rate(lambda: sum(1 for _ in journal(prompts)))
    figures = {"found": found, "missed": missed, "replayed": replayed}
    return {**opened, **figures, "peak": get_peak() - before}


def get_peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_all(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every mode for every size, each in a process of its own."""
    results = []
    for n_records in args.records:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "journal.jsonl"
            make_journal(path, n_records)
            size = path.stat().st_size
            for mode in MODES:
                if mode == "dict" and n_records > args.dict_up_to:
                    continue
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    figures = pool.apply(measure, (mode, path, n_records))
                index = path.with_name("journal.jsonl.index")
                results.append(
                    {
                        "records": n_records,
                        "mode": mode,
                        "journal_mb": size / 1e6,
                        "index_mb": index.stat().st_size / 1e6 if index.exists() else 0.0,
                        **figures,
                    }
                )
                print(results[-1])
    return results


def write_table(report: dict[str, Any], path: Path) -> None:
    """Write the figures as a page."""
    sizes = {row["records"]: row for row in report["results"]}
    sizes_shown = "; ".join(
        f"{n:,} records are {row['journal_mb']:,.0f} MB, their index {row['index_mb']:,.0f} MB"
        for n, row in sizes.items()
    )
    lines = [
        "# The journal\n",
        f"{report['date']}, {report['machine']}, Python {report['python']}, SQLite "
        f"{report['sqlite']}. {sizes_shown}.\n",
        f"```\n{report['command']}\n```\n",
        "| records | | opened in | by the clock | found/s | not found/s | replayed/s | recorded/s "
        "| memory |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]

    def show(row: dict[str, Any], name: str) -> str:
        return f"{row[name]:,.0f}" if name in row else ""

    for row in report["results"]:
        opened = [show_seconds(row[n]) if n in row else "" for n in ("open", "open_clock")]
        rates = [show(row, name) for name in ("found", "missed", "replayed", "recorded")]
        shown = [
            f"{row['records']:,}",
            MODES[row["mode"]],
            *opened,
            *rates,
            f"{row['peak']:,.0f} MB",
        ]
        lines.append(f"| {' | '.join(shown)} |")
    lines.append(
        f"\nLook-ups are of {N_LOOKUPS:,} keys in random order. *Replayed*: prompts through the "
        f"model `metaie.Journal.v1`, in the order of the journal. *Recorded*: {N_RECORDED:,} new "
        "answers of a model that takes no time, each flushed and indexed before it is yielded. "
        "*Memory*: the peak, above what the imports take. The first opening reads and checks every "
        "record, and leaves the index; the file was in the system's cache.\n\n"
        "Times are the processor's, so that other work on the machine does not count. Load "
        f"average: {report['load']:.1f}."
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf8")


def show_seconds(seconds: float) -> str:
    """The time in s, or in ms if it is short."""
    return f"{seconds:,.1f} s" if seconds >= 0.1 else f"{seconds * 1000:,.1f} ms"


def get_processor() -> str:
    """The processor's name, as Linux has it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    """Measure, and write the figures."""
    args = parse_args()
    report = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{get_processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load": os.getloadavg()[1],
        "command": f"python benchmarks/journal.py --records {' '.join(map(str, args.records))}",
        "results": measure_all(args),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    srsly.write_json(args.output, report)
    write_table(report, args.output.with_suffix(".md"))


if __name__ == "__main__":
    main()
