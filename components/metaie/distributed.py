"""Work on many machines: Ray Data hands partitions of files to a pool of actors."""

import json
import logging
import os
import secrets
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Protocol

import srsly
from tqdm import tqdm

from .docbin import write_bytes
from .partitions import Partition, cut_file
from .texts import find_files

SETTINGS = "settings.json"
FINISHED = "finished"
# Of one partition, by whatever it is that ends its actors: one text may need all memory.
MAX_RETRIES = 3


class Worker(Protocol):
    """What an actor does with each partition. It is made once an actor, which takes a while.

    output: the folder of the run. actors: how many there are, this one included.
    stops: errors that all partitions would have in common, so that the run ends.
    """

    stops: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, output: Path, actors: int, **settings: Any) -> None: ...

    def work(self, partition: Partition) -> dict[str, Any]:
        """Write the files of a partition, each in one step, and return what to record.

        "files" are their paths below the output, "texts" how many texts were read; "failed",
        where there is such a thing, how many another run should try again.

        Raises ValueError if the partition cannot be done.
        """


@dataclass
class Result:
    """What became of a run. partitions, texts: of this run; skipped: partitions of earlier ones."""

    partitions: int = 0
    texts: int = 0
    skipped: int = 0


def run_on_ray(
    worker: type[Worker],
    paths: Iterable[Path],
    output: Path,
    *,
    address: str = "local",
    actors: int | None = None,
    partition_rows: int = 10_000,
    gpu: bool = False,
    **settings: Any,
) -> Result:
    """Cut files into partitions, and have a pool of actors do those that are not finished.

    What is finished has a record in `output/finished`, which its actor writes after its files.
    An actor that dies is started anew, and its partition done again; one that ends four actors
    ends the run. A partition with a bad row is left out, and the others are done.

    paths: .txt, .jsonl and .parquet files, or folders of them, on storage that all share.
    address: of the cluster, as `ray.init` takes it; "local" starts Ray on this machine.
    actors: how many workers there are at a time, each on one core, or one GPU; by default one
        a core (or GPU) of the cluster.
    partition_rows: the rows of a partition.
    settings: of the worker.

    Raises ValueError without Ray or any texts, if a finished file has changed since, if a worker
    stops, or if there were bad rows, which it names.
    """
    import_ray(address)
    if partition_rows < 1:
        raise ValueError(f"partition_rows must be 1 or more rows, not {partition_rows}.")
    files = find_files(paths)
    cuts = (cut for file in files for cut in cut_file(file, partition_rows))
    partitions = list(tqdm(cuts, desc="Cutting", unit=" partitions", disable=None))
    if not partitions:
        raise ValueError(f"There are no texts in {', '.join(map(str, files))}.")
    waiting = [partition for partition in partitions if not is_finished(partition, output)]
    result = Result(skipped=len(partitions) - len(waiting))
    failed: list[str] = []
    if waiting:
        with _connecting(address, actors):
            for record in _run(worker, waiting, output, actors, gpu, settings):
                if "stop" in record:
                    raise ValueError(
                        f"{record['stop']}\n{result.partitions + result.skipped:,} of "
                        f"{len(partitions):,} partitions are finished: the same command goes on "
                        "after them."
                    )
                if "error" in record:
                    failed.append(record["error"])
                    continue
                result.partitions += 1
                result.texts += record["texts"]
        # Those of actors that died. Nothing is being written any more.
        for part in output.rglob(".*.part"):
            part.unlink(missing_ok=True)
    if failed:
        shown = "\n".join(failed[:20])
        raise ValueError(
            f"{len(failed):,} of {len(partitions):,} partitions could not be done, of each "
            f"of which this is the first bad row:\n{shown}\nThe others are in {str(output)!r}. "
            "A file that is corrected is another file: give it with another output folder."
        )
    return result


def import_ray(address: str) -> None:
    """Import Ray Data, and have it protect a Ray of its own. Raises ValueError without it."""
    if address == "local":
        _protect()
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
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
    try:
        yield
    finally:
        ray.shutdown()


def _run(
    worker: type[Worker],
    partitions: list[Partition],
    output: Path,
    actors: int | None,
    gpu: bool,
    settings: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """Yield the record of each partition as it is done, or an "error", or what made it "stop"."""
    import ray

    resource = "GPU" if gpu else "CPU"
    size = actors or int(ray.cluster_resources().get(resource, 0))
    if not size:
        raise ValueError(f"The cluster has no {resource}. Give --actors if it is still to grow.")
    size = min(size, len(partitions))
    context: Any = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Shared storage has its moments.
    context.actor_task_retry_on_errors = [OSError]
    items = [{"partition": json.dumps(asdict(partition))} for partition in partitions]
    # Its own account of each run is not what a user of this one wants to read.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Ray 2.64 will have another way to bound the tries; until then it is this one.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        # A block a partition: it is what Ray Data hands out, and does again.
        answers = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            Actor,
            fn_constructor_kwargs={
                "worker": worker,
                "output": output,
                "folder": Path.cwd(),
                "settings": {**settings, "actors": size},
            },
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=1,
            num_gpus=1 if gpu else 0,
            max_task_retries=MAX_RETRIES,
        )
    with tqdm(total=len(items), unit=" partitions", disable=None) as progress:
        for answer in answers.iter_rows():
            progress.update()
            yield json.loads(answer["record"])


class Actor:
    """Makes a worker, and has it do one partition at a time.

    folder: that of the command, from which relative paths go.
    """

    def __init__(
        self, worker: type[Worker], output: Path, folder: Path, settings: dict[str, Any]
    ) -> None:
        with suppress(FileNotFoundError):  # not all machines need share it
            os.chdir(folder)
        self.worker = worker(output, **settings)
        self.output = output

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Do the partitions of a batch. Gives what is to be known of each, as JSON."""
        partitions = [Partition(**json.loads(value)) for value in batch["partition"]]
        return {"record": [json.dumps(self.work(partition)) for partition in partitions]}

    def work(self, partition: Partition) -> dict[str, Any]:
        """Do a partition and record that. Gives the record, or the error."""
        path = get_record_path(partition, self.output)
        if is_finished(partition, self.output):  # by an actor that died before it could say so
            return read_record(path) or {}
        try:
            record = {**self.worker.work(partition), **asdict(partition)}
        except self.worker.stops as err:
            return {"stop": str(err)}
        except ValueError as err:
            return {"error": str(err)}
        write_bytes(path, json.dumps(record).encode("utf-8"))
        return record


def get_record_path(partition: Partition, output: Path) -> Path:
    """Where it is recorded that a partition is finished."""
    return output / FINISHED / f"{partition.name}.json"


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a finished partition; None if there is none that can be read."""
    try:
        record = srsly.read_json(path)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("files"), list) else None


def is_finished(partition: Partition, output: Path) -> bool:
    """Whether an earlier run has written the partition, and nothing in it failed.

    Raises ValueError if that was when its source was another.
    """
    record = read_record(get_record_path(partition, output))
    if record is None or not all((output / file).is_file() for file in record["files"]):
        return False
    if {**record, **asdict(partition)} != record:
        raise ValueError(
            f"{partition.source} has changed since {str(output / partition.name)!r} was made of "
            "it: choose another folder, or delete this one."
        )
    return not record.get("failed")


def check_settings(output: Path, settings: dict[str, Any], packages: Iterable[str]) -> None:
    """Keep the settings, and the versions of packages, or compare them with an earlier run's.

    Raises ValueError if they differ: some of the answers would be to other questions.
    """
    settings = {**settings, "versions": {name: version(name) for name in packages}}
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
