"""The chat model against a server that is slow, that fails, and that has much to answer.

    python benchmarks/teacher.py

The server is tests/chat_server.py, in a process of its own on this machine. Measured:

rate: 2,000 prompts, 64 at a time, of a server that takes 200 ms: the share of the ideal rate,
    64 / 0.2 s. The model is first asked 64 prompts, which imports its client; then what is
    loaded is hidden from the garbage collector, as `metaie annotate` does. In turn with it,
    64 bare sockets that send the same bytes again and again, and read what comes: what the
    machine can do at that moment.
faults: 2,000 prompts, when 30 % of requests fail in all the ways that the server knows:
    what became of each, held against the server's schedule.
memory: the process's resident memory while 50,000 texts are annotated: from a file, through
    the task, the journal and the model, into shards of 1,000.

With `--parts`, the others' figures are kept as they are in the output.
"""

import argparse
import asyncio
import datetime
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import srsly
from metaie.annotate import annotate
from metaie.inputs import Inputs
from metaie.teacher.chat import Chat
from metaie.teacher.pipeline import Teacher
from spacy.util import load_config
from wasabi import msg

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "tests/chat_server.py"
sys.path.insert(0, str(SERVER.parent))

from chat_server import ChatServer, default_answer  # noqa: E402

FAULTS = {
    "rate_limit": "rate_limit",
    "rate_limit_date": "rate_limit",
    "server_error": "server_error",
    "bad_gateway": "server_error",
    "request_timeout": "timeout",
    "conflict": "conflict",
    "cut": "connection",
    "hang_up": "connection",
    "no_http": "connection",
    "not_json": "not_json",
    "html": "html",
    "no_choices": "no_choices",
    "error_in_200": "no_choices",
    "huge": "too_large",
    "huge_error": "too_large",
    "drip": "timeout",
    "hang": "timeout",
}
PARTS = ("rate", "faults", "memory")
TEXT = " ".join(["word"] * 200)  # as long as the prompts that the corpus was made with


def parse_args() -> argparse.Namespace:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--stream", type=int, default=50_000, help="prompts, for the memory")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/teacher.json")
    return parser.parse_args()


@contextmanager
def serve(*arguments: str) -> Iterator[str]:
    """A server in its own process; gives its base URL."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def make_prompts(count: int) -> Iterator[list[str]]:
    """Prompts of which no two are equal."""
    return ([f"{i} {TEXT}"] for i in range(count))


def measure_rate(args: argparse.Namespace) -> dict[str, Any]:
    """The share of the ideal rate, several times."""
    shares, bare, cpu = [], [], []
    with serve("--latency", str(args.latency)) as url:
        chat = Chat("test", url, concurrency=args.concurrency)
        list(chat(make_prompts(args.concurrency)))
        gc.freeze()
        for _ in range(args.repeats):
            began, used = time.perf_counter(), time.process_time()
            answered = sum(1 for _ in chat(make_prompts(args.prompts)))
            rate = answered / (time.perf_counter() - began)
            cpu.append(1000 * (time.process_time() - used) / answered)
            shares.append(100 * rate * args.latency / args.concurrency)
            began = time.perf_counter()
            asyncio.run(send_bare(url, args.prompts, args.concurrency))
            rate = args.prompts / (time.perf_counter() - began)
            bare.append(100 * rate * args.latency / args.concurrency)
            msg.info(f"{shares[-1]:.1f} % of the ideal rate; bare sockets {bare[-1]:.1f} %")
    return {
        "shares": [round(share, 1) for share in shares],
        "median": round(statistics.median(shares), 1),
        "best": round(max(shares), 1),
        "bare": [round(share, 1) for share in bare],
        "bare_median": round(statistics.median(bare), 1),
        "cpu_ms": round(statistics.median(cpu), 2),
        "load": round(os.getloadavg()[0], 1),
    }


async def send_bare(url: str, count: int, concurrency: int) -> None:
    """Send so many requests, and read the answers, by sockets and nothing else."""
    parts = urlsplit(url)
    body = json.dumps({"messages": [{"role": "user", "content": TEXT}]}).encode()
    head = f"POST {parts.path}/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    left = iter(range(count))

    async def repeat() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in left:
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(answer.partition(b"Content-Length: ")[2].split()[0]))
        writer.close()

    await asyncio.gather(*(repeat() for _ in range(concurrency)))


def measure_faults(args: argparse.Namespace) -> dict[str, Any]:
    """What became of each prompt, and whether that is what the server's schedule leads to."""
    faults, max_tries = dict.fromkeys(FAULTS, 0.3 / len(FAULTS)), 4
    arguments = [f"--fault={name}={share}" for name, share in faults.items()]
    with serve(*arguments, "--jitter", "0.05") as url:
        chat = Chat(
            "test",
            url,
            concurrency=args.concurrency,
            timeout=2.0,
            max_tries=max_tries,
            backoff=0.1,
        )
        prompts = [prompt for (prompt,) in make_prompts(args.prompts)]
        answers = [answer for (answer,) in chat([prompt] for prompt in prompts)]
    schedule = ChatServer(faults=faults)
    retries: Counter[str] = Counter()
    right = failed = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        whats = [schedule.choose(prompt, number) for number in range(max_tries)]
        tries = whats.index("ok") if "ok" in whats else max_tries
        retries.update(FAULTS[what] for what in whats[: min(tries, max_tries - 1)])
        expected = default_answer(prompt) if tries < max_tries else ""
        failed += tries == max_tries
        right += answer == expected and answer.outcome == ("ok" if expected else "failed")
    stats = chat.stats
    return {
        "prompts": len(prompts),
        "answers": len(answers),
        "as_scheduled": right,
        "requests": stats.requests,
        "outcomes": dict(stats.outcomes),
        "failed_by_schedule": failed,
        "retries": dict(sorted(stats.retries.items())),
        "retries_by_schedule": dict(sorted(retries.items())),
        "seconds": round(stats.seconds, 1),
    }


def measure_memory(args: argparse.Namespace) -> dict[str, Any]:
    """Resident memory, in MiB, after so many texts."""
    marks = [args.stream // 10, args.stream // 2, args.stream]
    rss: dict[str, float] = {}
    with serve() as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = ({"text": f"Person{i} {TEXT}"} for i in range(args.stream))
        srsly.write_jsonl(folder / "texts.jsonl", texts)
        config = load_config(ROOT / "configs/teacher.cfg", interpolate=False)
        config["paths"]["journal"] = str(folder / "journal.jsonl")
        config["components"]["llm"]["model"]["model"] = {
            "@llm_models": "metaie.Chat.v1",
            "name": "test",
            "base_url": url,
            "concurrency": args.concurrency,
        }
        teacher, inputs = Teacher(config), Inputs([folder / "texts.jsonl"])
        done = threading.Event()

        def watch() -> None:
            while marks and not done.wait(0.2):
                if teacher.stats.outcomes.total() >= marks[0]:
                    rss[f"{marks.pop(0):,}"] = round(read_rss(), 1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        annotate(teacher, inputs, folder / "out", shard_size=1000)
        done.set()
        watcher.join()
        rss[f"{args.stream:,}"] = round(read_rss(), 1)
    msg.info(f"MiB after so many texts: {rss}")
    return {"rss_mib": rss, "rate": round(args.stream / teacher.stats.seconds)}


def read_rss() -> float:
    """The resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def read_cpu() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def make_report(record: dict[str, Any]) -> str:
    """Markdown."""
    rate, faults, memory = record["rate"], record["faults"], record["memory"]
    packages = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    bare = ""
    if "bare" in rate:
        shares = ", ".join(map(str, rate["bare"]))
        bare = f"; bare sockets, in turn with it, {rate['bare_median']} % ({shares})"
    retried = [
        f"| {reason} | {count} | {faults['retries_by_schedule'].get(reason, 0)} |"
        for reason, count in faults["retries"].items()
    ]
    return "\n".join(
        [
            "# The chat model",
            "",
            f"{record['date']}, {record['machine']}, {packages}. The server runs on the same "
            "machine, in a process of its own.",
            "",
            "```",
            record["command"],
            "```",
            "",
            f"**Rate.** {record['prompts']:,} prompts, {record['concurrency']} at a time, answered "
            f"after {1000 * record['latency']:.0f} ms: {rate['median']} % of the ideal rate in the "
            f"median of {len(rate['shares'])} runs, {rate['best']} % in the best "
            f"({', '.join(map(str, rate['shares']))}){bare}. A prompt takes {rate['cpu_ms']} ms of "
            f"a core, of which the machine has {os.cpu_count()}, shared with others' work: its "
            f"load was {rate['load']}.",
            "",
            f"**Faults.** 30 % of requests fail, in {len(FAULTS)} ways. Of {faults['prompts']:,} "
            f"prompts, {faults['as_scheduled']:,} ended as the server's schedule says: "
            f"{faults['outcomes'].get('ok', 0):,} answered, "
            f"{faults['outcomes'].get('failed', 0):,} failed after four tries "
            f"({faults['failed_by_schedule']} by schedule). "
            f"{faults['requests']:,} requests in {faults['seconds']} s.",
            "",
            "| asked again after | counted | by schedule |",
            "| --- | ---: | ---: |",
            *retried,
            "",
            f"**Memory.** Texts are annotated, {memory['rate']:,} a second, through the task, the "
            "journal and the model, into shards of 1,000:",
            "",
            "| texts | resident MiB |",
            "| ---: | ---: |",
            *(f"| {count} | {rss} |" for count, rss in memory["rss_mib"].items()),
            "",
        ]
    )


def main() -> None:
    """Measure everything, and write JSON and a report."""
    args = parse_args()
    record = srsly.read_json(args.output) if args.output.exists() else {}
    record |= {
        "date": str(datetime.date.today()),
        "machine": f"{read_cpu()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("openai", "aiohttp", "spacy-llm")},
        "command": "python benchmarks/teacher.py",
        "prompts": args.prompts,
        "concurrency": args.concurrency,
        "latency": args.latency,
    }
    measures = {"rate": measure_rate, "faults": measure_faults, "memory": measure_memory}
    for part in args.parts:
        record[part] = measures[part](args)
    srsly.write_json(args.output, record)
    args.output.with_suffix(".md").write_text(make_report(record), encoding="utf8")
    msg.good(f"Wrote {args.output}, and a report beside it")


if __name__ == "__main__":
    main()
