"""Extraction on many machines: Ray Data hands partitions of files to a pool of actors."""

import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import srsly
from spacy.language import Language
from tqdm import tqdm

from .docbin import write_bytes
from .extract import check_question, load_extractor, make_record, make_text
from .loading import get_metaie
from .partitions import Partition, cut_file, read_partition
from .rows import BadRow
from .tasks.schema import Schema
from .texts import find_files

SETTINGS = "settings.json"
FINISHED = "partitions.jsonl"
# Of one partition, by whatever it is that ends its actors: one text may need all memory.
MAX_RETRIES = 3
# What the answers depend on, besides the model.
VERSIONS = ("metaie", "spacy", "torch")


@dataclass
class Result:
    """What became of a run. partitions, texts: of this run; skipped: partitions of earlier ones.

    failed: what is wrong with the partitions that are not written.
    """

    partitions: int = 0
    texts: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)


def extract_on_ray(
    model: str,
    paths: Iterable[Path],
    output: Path,
    *,
    address: str = "local",
    actors: int | None = None,
    partition_rows: int = 10_000,
    labels: Iterable[str] = (),
    schema: Schema | None = None,
    threshold: float | None = None,
    batch_size: int | None = None,
    gpu_id: int = -1,
) -> Result:
    """Extract from files on a Ray cluster, and write a file of JSONL a partition.

    A partition is written under another name, and renamed when it is whole: what has its name
    is finished. A later run with the same settings leaves that alone. An actor that dies is
    started anew, and its partition done again; one that ends four actors ends the run. A
    partition with a bad row is left out, and the others are done.

    model: an installed package, or a folder; every machine must have it under this name.
    paths: .txt, .jsonl and .parquet files, or folders of them, on storage that all share.
    output: a folder on such storage.
    address: of the cluster, as `ray.init` takes it; "local" starts Ray on this machine.
    actors: how many pipelines run at a time, each on one core, or one GPU; by default one a
        core (or GPU) of the cluster.
    partition_rows: the rows of a partition.
    labels, schema, threshold, batch_size: see `extract`.
    gpu_id: 0 or more asks Ray for a GPU an actor.

    Raises ValueError without Ray or any texts, if the folder holds answers to other questions, a
    finished file has changed since, or there were bad rows, which it names.
    """
    labels = list(labels)
    check_question(labels, schema)
    if address == "local":
        _protect()
    check_ray()
    if partition_rows < 1:
        raise ValueError(f"partition_rows must be 1 or more rows, not {partition_rows}.")
    files = find_files(paths)
    folder = Path(model)
    name = str(folder.resolve()) if folder.is_dir() else model
    question: dict[str, Any] = {
        "model": name,
        "labels": labels,
        "schema": schema,
        "threshold": threshold,
    }
    # Here as well, so that what is wrong is known before there is a cluster.
    nlp = load_extractor(**question)
    output = output.resolve()
    check_settings(
        output,
        {
            **question,
            "schema": schema.to_dict() if schema else None,
            "model": hash_model(nlp),
            "partition_rows": partition_rows,
            "versions": {name: version(name) for name in VERSIONS},
        },
    )
    cuts = (cut for file in files for cut in cut_file(file, partition_rows))
    partitions = list(tqdm(cuts, desc="Cutting", unit=" partitions", disable=None))
    if not partitions:
        raise ValueError(f"There are no texts in {', '.join(map(str, files))}.")
    finished = read_finished(output)
    waiting = [cut for cut in partitions if not is_finished(cut, finished, output)]
    result = Result(skipped=len(partitions) - len(waiting))
    if waiting:
        question.update(output=output, batch_size=batch_size, gpu=gpu_id >= 0)
        with _connecting(address, actors), (output / FINISHED).open("a", encoding="utf-8") as log:
            _run(waiting, question, actors, log, result)
        # Those of actors that died. Nothing is being written any more.
        for part in output.glob(".*.part"):
            part.unlink(missing_ok=True)
    if result.failed:
        shown = "\n".join(result.failed[:20])
        raise ValueError(
            f"{len(result.failed):,} of {len(partitions):,} partitions could not be done, of each "
            f"of which this is the first bad row:\n{shown}\nThe others are in {str(output)!r}. "
            "A file that is corrected is another file: give it with another output folder."
        )
    return result


def check_ray() -> None:
    """Raise ValueError unless Ray Data is installed."""
    try:
        import ray.data  # noqa: F401
    except ImportError as err:
        raise ValueError(f'`--ray` needs Ray Data ({err.name}): pip install "metaie[ray]"') from err


def _protect() -> None:
    # Ray listens on all of a machine's addresses, also where it has no other machines. Nobody
    # without this run's token is heard. It reads this when it is imported. And nothing is
    # told about its use.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@contextmanager
def _connecting(address: str, actors: int | None) -> Iterator[None]:
    import ray

    if ray.is_initialized():
        yield
        return
    settings: dict[str, Any] = {"address": address}
    if address == "local":
        settings.update(include_dashboard=False, num_cpus=actors)
    ray.init(log_to_driver=False, logging_level="ERROR", **settings)
    try:
        yield
    finally:
        ray.shutdown()


def _run(
    partitions: list[Partition],
    question: dict[str, Any],
    actors: int | None,
    log: TextIO,
    result: Result,
) -> None:
    import ray

    resource = "GPU" if question["gpu"] else "CPU"
    size = actors or int(ray.cluster_resources().get(resource, 0))
    if not size:
        raise ValueError(f"The cluster has no {resource}. Give --actors if it is still to grow.")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Shared storage has its moments.
    context.actor_task_retry_on_errors = [OSError]
    items = [{"partition": json.dumps(asdict(partition))} for partition in partitions]
    # A block a partition: it is what Ray Data hands out, and does again.
    answers = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Extractor,
        fn_constructor_kwargs=question,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(size, len(items))),
        num_cpus=1,
        num_gpus=1 if question["gpu"] else 0,
        max_restarts=-1,
        max_task_retries=MAX_RETRIES,
    )
    with tqdm(total=len(items), unit=" partitions", disable=None) as progress:
        for answer in answers.iter_rows():
            record = json.loads(answer["record"])
            progress.update()
            if "error" in record:
                result.failed.append(record["error"])
                continue
            print(srsly.json_dumps(record), file=log, flush=True)
            result.partitions += 1
            result.texts += record["texts"]


class Extractor:
    """An actor's work: a pipeline that is loaded once, and asked about one partition at a time."""

    def __init__(self, output: Path, batch_size: int | None, gpu: bool, **question: Any) -> None:
        # Ray shows an actor no GPU but its own.
        self.nlp = load_extractor(**question, gpu_id=0 if gpu else -1)
        self.output = output
        self.batch_size = batch_size

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Do the partitions of a batch. Gives what is to be recorded of each, as JSON."""
        partitions = [Partition(**json.loads(value)) for value in batch["partition"]]
        return {"record": [json.dumps(self.extract(partition)) for partition in partitions]}

    def extract(self, partition: Partition) -> dict[str, Any]:
        """Write what is found in a partition. Gives the number of texts, or the error."""
        try:
            with open_whole(self.output / partition.output) as file:
                texts = self._write(partition, file)
        except ValueError as err:
            return {"error": str(err)}
        return {"file": partition.output, "texts": texts, **asdict(partition)}

    def _write(self, partition: Partition, file: TextIO) -> int:
        key = get_metaie(self.nlp).key
        texts = 0
        # What spaCy keeps of these docs would otherwise add up.
        with self.nlp.memory_zone():
            docs = self.nlp.pipe(
                self._read(partition, key), as_tuples=True, batch_size=self.batch_size
            )
            for doc, extra in docs:
                print(srsly.json_dumps(make_record(doc, key, extra)), file=file)
                texts += 1
        return texts

    def _read(self, partition: Partition, key: str) -> Iterator[Any]:
        unit = "row" if partition.source.lower().endswith(".parquet") else "line"
        for number, row in read_partition(partition):
            try:
                yield make_text(row, self.nlp, key)
            except BadRow as err:
                raise err.at(Path(partition.source), number, unit) from None


@contextmanager
def open_whole(path: Path) -> Iterator[TextIO]:
    """A file to write that gets its name when it is whole and on the disk."""
    # Two machines may do the same partition, when one was taken for dead.
    part = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def hash_model(nlp: Language) -> str:
    """SHA-256 of the files of a pipeline that was loaded from disk."""
    digest = hashlib.sha256()
    assert nlp.path  # set by spacy.load
    for file in sorted(path for path in nlp.path.rglob("*") if path.is_file()):
        if file.suffix == ".pyc":
            continue
        digest.update(file.relative_to(nlp.path).as_posix().encode("utf-8"))
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def check_settings(output: Path, settings: dict[str, Any]) -> None:
    """Keep the settings in the folder, or compare them with those of an earlier run.

    Raises ValueError if they differ: some of the answers would be to other questions.
    """
    path = output / SETTINGS
    if not path.exists():
        write_bytes(path, (json.dumps(settings, indent=2) + "\n").encode("utf-8"))
        return
    try:
        earlier = dict(srsly.read_json(path))
    except (ValueError, TypeError) as err:
        raise ValueError(f"{path} can't be read ({err}): choose another folder.") from err
    changed = sorted(key for key in settings if earlier.get(key) != settings[key])
    if changed:
        raise ValueError(
            f"The folder {str(output)!r} was begun with another {', another '.join(changed)}: "
            "choose another folder, or delete it."
        )


def read_finished(output: Path) -> dict[str, Any]:
    """The records of finished partitions, by the names of their files.

    A line that is cut off, as by a crash, counts for nothing: its partition is done again.
    """
    path = output / FINISHED
    if not path.exists():
        return {}
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        write_bytes(path, data[: data.rfind(b"\n") + 1])
    return {record["file"]: record for record in srsly.read_jsonl(path, skip=True)}


def is_finished(partition: Partition, finished: dict[str, Any], output: Path) -> bool:
    """Whether an earlier run has written the partition.

    Raises ValueError if that was when its source was another.
    """
    record = finished.get(partition.output)
    if record is None or not (output / partition.output).is_file():
        return False
    if {**record, **asdict(partition)} != record:
        raise ValueError(
            f"{partition.source} has changed since {str(output / partition.output)!r} was made of "
            "it: choose another folder, or delete this one."
        )
    return True
