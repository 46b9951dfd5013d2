"""A corpus of many DocBins, with a manifest that says what is in each, and what it was made of."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import srsly
from spacy.tokens import DocBin

from .counts import Counts
from .docbin import write_bytes
from .splitting import SPLITS, Shares, split_by_hash
from .texts import Passage

MANIFEST = "manifest.json"


class Batch(NamedTuple):
    """The passages of a shard to be made. file: its name below the corpus's folder."""

    file: str
    split: str
    passages: list[Passage]


def fill_shards(passages: Iterable[Passage], shares: Shares, size: int) -> Iterator[Batch]:
    """Yield a stream's passages shard by shard, as soon as one is full, the rest at the end.

    A split's shards are filled in the order of the stream, up to `size` passages each. Within
    a shard, the order is that of their hashes: it mixes genres, for readers that do not shuffle.
    """
    waiting: dict[str, list[Passage]] = {split: [] for split in SPLITS}
    made: Counter[str] = Counter()

    def take(split: str) -> Batch:
        batch = Batch(
            f"{split}/{made[split]:05}.spacy",
            split,
            sorted(waiting[split], key=lambda passage: passage.key),
        )
        waiting[split] = []
        made[split] += 1
        return batch

    for passage in passages:
        split = split_by_hash(passage, shares)
        waiting[split].append(passage)
        if len(waiting[split]) == size:
            yield take(split)
    for split in SPLITS:
        if waiting[split]:
            yield take(split)


@dataclass
class Shard:
    """A DocBin of the corpus, as the manifest lists it.

    sha256: of the file. inputs_sha256: of the settings and the passages that it was made of.
    """

    file: str
    docs: int
    spans: int
    sha256: str
    inputs_sha256: str
    counts: dict[str, Any]


class Manifest:
    """What is in a sharded corpus; written anew, in one step, after each shard.

    folder: that of the corpus.
    settings: all that decides what a shard holds, besides its passages.

    Raises ValueError if the folder has a manifest.json that is none of ours.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / MANIFEST
        self.settings = settings
        self.shards: dict[str, Shard] = {}
        self._earlier = _read(self.path)

    def find(self, batch: Batch) -> Shard | None:
        """The shard of these passages, if an earlier run has finished it and its file is whole.

        A shard in which passages failed is not finished.
        """
        shard = self._earlier.get(batch.file)
        if (
            shard is None
            or shard.inputs_sha256 != hash_inputs(self.settings, batch)
            or shard.counts["failed"]
            or not has_hash(self.path.parent / shard.file, shard.sha256)
        ):
            return None
        self.shards[shard.file] = shard
        return shard

    def write(self, batch: Batch, docbin: DocBin, counts: Counts) -> None:
        """Write a shard, then the manifest with it."""
        shard = write_shard(self.path.parent, self.settings, batch, docbin, counts)
        self.shards[batch.file] = shard
        self._write(complete=False)

    def finish(self, left_out: dict[str, int]) -> None:
        """Delete the shards that earlier runs listed and this one has not; say that all is done.

        The folder of a split that has none left goes, too.
        """
        # The manifest comes last: a shard that it does not list would stay for good, to be
        # trained on, if the run died between the two.
        for file in self._earlier.keys() - self.shards.keys():
            path = self.path.parent / file
            path.unlink(missing_ok=True)
            if path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
        self._write(complete=True, left_out=left_out)

    def _write(self, complete: bool, left_out: dict[str, int] | None = None) -> None:
        # Until all is done, the shards that are still to come may be there from before.
        shards = self.shards if complete else {**self._earlier, **self.shards}
        write_manifest(self.path.parent, self.settings, shards.values(), complete, left_out)


def check_layout(folder: Path, sharded: bool) -> None:
    """Raise ValueError if a corpus's folder holds shards and is to hold whole files, or vice versa.

    Whoever reads the folder, as `report` or a training does, would read both.
    """
    files = [path for name in SPLITS if (path := folder / f"{name}.spacy").exists()]
    shards = [path for name in SPLITS for path in (folder / name).glob("*.spacy")]
    others = files if sharded else shards
    if others:
        what = "a DocBin a split" if sharded else "shards"
        raise ValueError(
            f"{str(folder)!r} holds a corpus that was written as {what} ({others[0]}): with "
            "another beside it, texts would count twice. Delete it, or choose another folder."
        )


def write_shard(
    folder: Path, settings: dict[str, Any], batch: Batch, docbin: DocBin, counts: Counts
) -> Shard:
    """Write the DocBin of a batch in a corpus's folder; gives what the manifest says of it."""
    data = docbin.to_bytes()
    write_bytes(folder / batch.file, data)
    return Shard(
        batch.file,
        len(docbin),
        counts.spans,
        hashlib.sha256(data).hexdigest(),
        hash_inputs(settings, batch),
        counts.as_dict(),
    )


def hash_inputs(settings: dict[str, Any], batch: Batch) -> str:
    """SHA-256 of the settings and of the texts, genres, ids and queries of the passages."""
    rows = [(p.key, p.genre, p.id, *p.queries) for p in batch.passages]
    data = json.dumps([settings, batch.split, rows], sort_keys=True)
    return hashlib.sha256(data.encode("utf-8")).hexdigest()


def write_manifest(
    folder: Path,
    settings: dict[str, Any],
    shards: Iterable[Shard],
    complete: bool,
    left_out: dict[str, int] | None = None,
) -> None:
    """Write the manifest of a corpus's folder, in one step."""
    manifest = {
        "complete": complete,
        "settings": settings,
        **({"left_out": left_out} if left_out else {}),
        "shards": [asdict(shard) for shard in sorted(shards, key=lambda shard: shard.file)],
    }
    write_bytes(folder / MANIFEST, srsly.json_dumps(manifest, indent=2).encode("utf-8") + b"\n")


def _read(path: Path) -> dict[str, Shard]:
    if not path.exists():
        return {}
    try:
        rows = srsly.json_loads(path.read_bytes())["shards"]
        shards = {row["file"]: Shard(**row) for row in rows}
        for shard in shards.values():
            check_name(shard.file)
            Counts.from_dict(shard.counts)
    except (ValueError, KeyError, TypeError) as err:
        raise ValueError(
            f"{str(path)!r} is not the manifest of a corpus, or it is damaged "
            f"({type(err).__name__}: {err}). Choose another folder, or delete it: the shards are "
            "then made again, from what the journal has."
        ) from err
    return shards


def check_name(file: str) -> None:
    """Raise ValueError unless this is a shard's name: what a manifest lists may be deleted."""
    path = Path(file)
    if len(path.parts) != 2 or path.parts[0] not in SPLITS or path.suffix != ".spacy":
        raise ValueError(f"a shard can't be called {file!r}")


def has_hash(path: Path, sha256: str) -> bool:
    """Whether there is a file, and its SHA-256 is this."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
