"""Extraction on a Ray cluster: a file of JSONL a partition."""

import hashlib
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TextIO

import srsly
from spacy.language import Language

from .distributed import Result, check_settings, import_ray, run_on_ray
from .extract import check_question, load_extractor, make_record, make_text
from .loading import get_metaie
from .partitions import Partition, read_partition
from .rows import BadRow
from .tasks.schema import Schema

# What the answers depend on, besides the model.
VERSIONS = ("metaie", "spacy", "torch")


def extract_on_ray(
    model: str,
    paths: Iterable[Path],
    output: Path,
    *,
    labels: Iterable[str] = (),
    schema: Schema | None = None,
    threshold: float | None = None,
    batch_size: int | None = None,
    gpu_id: int = -1,
    address: str = "local",
    partition_rows: int = 10_000,
    actors: int | None = None,
) -> Result:
    """Extract from files on a Ray cluster, and write a file of JSONL a partition.

    model: an installed package, or a folder; every machine must have it under this name.
    output: a folder on storage that all share. A later run with the same settings does what
        is not finished there.
    labels, schema, threshold, batch_size: see `extract`.
    gpu_id: 0 or more asks Ray for a GPU an actor.
    paths, address, partition_rows, actors: see `run_on_ray`.

    Raises ValueError if the folder holds answers to other questions, and as `run_on_ray` does.
    """
    labels = list(labels)
    check_question(labels, schema)
    import_ray(address)
    folder = Path(model)
    question: dict[str, Any] = {
        "model": str(folder.resolve()) if folder.is_dir() else model,
        "labels": labels,
        "schema": schema,
        "threshold": threshold,
    }
    # Here as well, so that what is wrong is known before there is a cluster.
    nlp = load_extractor(**question)
    output = output.resolve()
    fixed = {
        **question,
        "schema": schema.to_dict() if schema else None,
        "model": hash_model(nlp),
        "partition_rows": partition_rows,
    }
    check_settings(output, fixed, VERSIONS)
    return run_on_ray(
        Extractor,
        paths,
        output,
        address=address,
        partition_rows=partition_rows,
        actors=actors,
        gpu=gpu_id >= 0,
        batch_size=batch_size,
        gpu_id=0 if gpu_id >= 0 else -1,  # Ray shows an actor no GPU but its own
        **question,
    )


class Extractor:
    """A pipeline that is loaded once, and asked about one partition at a time."""

    stops: ClassVar[tuple[type[Exception], ...]] = ()

    def __init__(
        self, output: Path, actors: int, batch_size: int | None, gpu_id: int, **question: Any
    ) -> None:
        self.nlp = load_extractor(**question, gpu_id=gpu_id)
        self.output = output
        self.batch_size = batch_size

    def work(self, partition: Partition) -> dict[str, Any]:
        """Write what is found in a partition. Raises ValueError for a bad row."""
        file = f"{partition.name}.jsonl"
        with open_whole(self.output / file) as opened:
            return {"files": [file], "texts": self._write(partition, opened)}

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
        for number, row in read_partition(partition):
            try:
                yield make_text(row, self.nlp, key)
            except BadRow as err:
                raise err.at(Path(partition.source), number, partition.unit) from None


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
