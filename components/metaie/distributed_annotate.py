"""Annotation on a Ray cluster: DocBins of train, dev and test a partition."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from thinc.api import Config

from .annotate import VERSIONS, annotate_batch, make_settings
from .counts import Counts, Summary
from .distributed import (
    FINISHED,
    Result,
    check_settings,
    import_ray,
    read_record,
    run_on_ray,
)
from .inputs import Inputs, LeftOut
from .partitions import Partition, read_partition
from .progress import count_tokens
from .rows import BadRow, get_format
from .shards import Batch, Shard, check_layout, write_manifest, write_shard
from .splitting import SPLITS, Shares, parse_split, split_by_hash
from .teacher.budget import BudgetReached
from .teacher.completion import RunStopped
from .teacher.pipeline import Teacher
from .texts import Passage, make_passage

JOURNALS = "journals"
# Settings that hold for all actors together.
SHARED = ("requests_per_minute", "tokens_per_minute", "budget")


def annotate_on_ray(
    teacher: Teacher,
    inputs: Inputs,
    output: Path,
    *,
    split: str = "88/6/6",
    summary: Path | None = None,
    address: str = "local",
    partition_rows: int = 10_000,
    actors: int | None = None,
) -> tuple[Result, Summary]:
    """Annotate files on a Ray cluster; write DocBins a partition, and a manifest of them all.

    Each partition has a journal of its own, in `output/journals`, so that what an actor that
    died has been answered is not asked again. The config's journal is read only. Rate limits
    and budget are divided among the actors. What has duplicates in another partition stays.

    teacher: of which the config goes to each actor.
    split: the shares of train, dev and test, by the hash of a passage's document.
    summary: a file for the counts, JSON.
    address, partition_rows, actors: see `run_on_ray`.

    Returns what this run did, and the counts of the whole corpus.
    Raises ValueError if the folder holds what another teacher or other settings made, if the
    teacher stops, and as `run_on_ray` does.
    """
    shares = parse_split(split)
    check_layout(output, sharded=True)
    import_ray(address)
    output = output.resolve()
    settings = make_settings(teacher, inputs, shares)
    fixed = {**settings, "text_field": inputs.text_field, "partition_rows": partition_rows}
    check_settings(output, fixed, VERSIONS)
    result = run_on_ray(
        Annotator,
        inputs.paths,
        output,
        address=address,
        partition_rows=partition_rows,
        actors=actors,
        config=teacher.config.to_str(),
        inputs=replace(inputs, paths=[]),
        shares=shares,
        settings=settings,
    )
    done = _conclude(output, settings)
    if summary:
        done.write(summary)
    return result, done


def _conclude(output: Path, settings: dict[str, Any]) -> Summary:
    """Write the manifest of what all runs have finished, and count it."""
    summary = Summary({name: Counts() for name in SPLITS})
    shards = []
    spent: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for path in sorted((output / FINISHED).glob("*.json")):
        record = read_record(path) or {"shards": [], "left_out": {}, "spent": {}}
        for row in record["shards"]:
            shard = Shard(**row)
            shards.append(shard)
            summary.splits[shard.file.partition("/")[0]].merge(Counts.from_dict(shard.counts))
        left_out.update(record["left_out"])
        spent.update(record["spent"])
    summary.left_out = LeftOut(**left_out)
    if spent["tokens"]:
        summary.tokens, summary.cost = int(spent["tokens"]), spent["cost"]
    write_manifest(output, settings, shards, not summary.failed, asdict(summary.left_out))
    return summary


class Annotator:
    """A teacher that is made once, and asked about one partition at a time.

    config: a spaCy config, as text. inputs: how passages are cut, and which are left out.
    shares: of train, dev and test. settings: what the shards depend on.
    """

    stops: ClassVar[tuple[type[Exception], ...]] = (BudgetReached, RunStopped)

    def __init__(
        self,
        output: Path,
        actors: int,
        config: str,
        inputs: Inputs,
        shares: Shares,
        settings: dict[str, Any],
    ) -> None:
        self.teacher = Teacher(share_out(Config().from_str(config), actors))
        self.output = output
        self.inputs, self.shares, self.settings = inputs, shares, settings

    def work(self, partition: Partition) -> dict[str, Any]:
        """Annotate a partition and write its DocBins. Raises ValueError for a bad row."""
        passages = list(self.inputs.prepare(self._read(partition)))
        before = self._count_spent()
        journal = self.output / JOURNALS / f"{partition.name}.jsonl"
        shards = []
        # What spaCy keeps of these docs would otherwise add up.
        with self.teacher.recording_in(journal), self.teacher.nlp.memory_zone():
            for batch in self._split(partition, passages):
                docbin, counts = annotate_batch(self.teacher, batch)
                shards.append(write_shard(self.output, self.settings, batch, docbin, counts))
        return {
            "files": [shard.file for shard in shards],
            "texts": len(passages),
            "failed": sum(shard.counts["failed"] for shard in shards),
            "shards": [asdict(shard) for shard in shards],
            "left_out": asdict(self.inputs.left_out),
            "spent": {name: n - before[name] for name, n in self._count_spent().items()},
        }

    def _read(self, partition: Partition) -> Iterator[Passage]:
        path = Path(partition.source)
        name = partition.name.rpartition("-")[0]  # that of the file, unlike any other's
        # A line of text has no other fields.
        field = "text" if get_format(path) == ".txt" else self.inputs.text_field
        for number, row in read_partition(partition):
            try:
                yield make_passage(row, field, path, number, name)
            except BadRow as err:
                raise err.at(path, number, partition.unit) from None

    def _split(self, partition: Partition, passages: Iterable[Passage]) -> Iterator[Batch]:
        splits: dict[str, list[Passage]] = {name: [] for name in SPLITS}
        for passage in passages:
            splits[split_by_hash(passage, self.shares)].append(passage)
        for name, own in splits.items():
            if own:
                # The order of hashes mixes genres, for readers that do not shuffle.
                own.sort(key=lambda passage: passage.key)
                yield Batch(f"{name}/{partition.name}.spacy", name, own)

    def _count_spent(self) -> dict[str, float]:
        stats = self.teacher.stats
        return {"tokens": count_tokens(stats) or 0, "cost": getattr(stats, "cost", None) or 0.0}


def share_out(config: Config, actors: int) -> Config:
    """A copy of a config in which each of so many actors has its part of limits and budget."""

    def divide(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: divide(part) for name, part in value.items()}
        return value / actors if value else value

    def walk(block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        return {
            name: divide(value) if name in SHARED else walk(value) for name, value in block.items()
        }

    return Config(walk(config))
