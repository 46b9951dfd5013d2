"""Annotation with a teacher: texts in, DocBins of a train, a dev and a test split out."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spacy.tokens import Doc, DocBin
from tqdm import tqdm

from .counts import Counts, Summary
from .docbin import write_bytes
from .inputs import Inputs
from .progress import LiveLine, count_tokens
from .shards import Batch, Manifest, check_layout, fill_shards
from .splitting import SPLITS, Shares, parse_split, split_passages
from .teacher.pipeline import Teacher
from .teacher.prompt_task import FAILED, OUTCOME
from .texts import Passage, read_passages

__all__ = ["SPLITS", "Passage", "annotate", "parse_split", "read_passages", "split_passages"]

# What a DocBin holds depends on them.
VERSIONS = ("metaie", "spacy", "spacy-llm")


def annotate(
    teacher: Teacher,
    inputs: Inputs,
    output: Path,
    *,
    split: str = "88/6/6",
    shard_size: int = 0,
    summary: Path | None = None,
) -> Summary:
    """Annotate texts with a teacher, and write train, dev and test.

    A bad row is found before anything is asked. Passages whose prompts fail are counted and
    left out; a later run asks them again.

    output: the folder of train.spacy, dev.spacy and test.spacy; each is replaced when
        everything is done, and has its docs in the order of their texts' hashes.
    split: the shares of train, dev and test, stratified by genre.
    shard_size: write DocBins of at most so many docs instead, as train/00000.spacy, and
        manifest.json. The inputs are then read twice, as streams: nothing grows with them but
        a set of hashes. A passage's split goes by the hash of its document. A later run leaves
        alone what is finished. 0 writes one DocBin a split.
    summary: a file for the counts, JSON.

    Raises ValueError if there are no texts, or the folder holds one kind of DocBins and is to
    hold the other, and whatever the teacher raises; the error then has a note on what is done,
    and how to go on.
    """
    shares = parse_split(split)
    if shard_size < 0:
        raise ValueError(f"shard_size must be 0 or more docs, not {shard_size}.")
    check_layout(output, sharded=bool(shard_size))
    reading = tqdm(inputs, desc="Reading", unit=" texts", disable=None)
    passages = [] if shard_size else list(reading)
    total = sum(1 for _ in reading) if shard_size else len(passages)
    if not total:
        names = ", ".join(map(str, inputs.paths))
        raise ValueError(f"There are no texts in {names or 'no files'}.")
    result = Summary({name: Counts() for name in SPLITS}, inputs.left_out)
    with LiveLine(total, teacher.stats) as line, _explaining(teacher, line, total):
        if shard_size:
            _annotate_shards(teacher, inputs, output, shares, shard_size, result, line)
        else:
            _annotate_whole(teacher, passages, output, shares, result, line)
    result.tokens = count_tokens(teacher.stats)
    result.cost = getattr(teacher.stats, "cost", None)
    if summary:
        result.write(summary)
    return result


def _annotate_whole(
    teacher: Teacher,
    passages: list[Passage],
    output: Path,
    shares: Shares,
    result: Summary,
    line: LiveLine,
) -> None:
    places = dict(zip(passages, split_passages(passages, shares), strict=True))
    # The order of hashes mixes the genres, which readers that do not shuffle need.
    order = sorted(passages, key=lambda passage: passage.key)
    docbins = {name: DocBin(store_user_data=True) for name in SPLITS}
    for passage, doc in annotate_passages(teacher, order, line):
        name = places[passage]
        if doc is None:
            result.splits[name].failed += 1
        else:
            result.splits[name].add(doc, teacher.spans_key)
            docbins[name].add(doc)
    for name, docbin in docbins.items():
        write_bytes(output / f"{name}.spacy", docbin.to_bytes())


def _annotate_shards(
    teacher: Teacher,
    inputs: Inputs,
    output: Path,
    shares: Shares,
    size: int,
    result: Summary,
    line: LiveLine,
) -> None:
    settings = {
        **make_settings(teacher, inputs, shares),
        "shard_size": size,
        "versions": {name: version(name) for name in VERSIONS},
    }
    manifest = Manifest(output, settings)
    for batch in fill_shards(inputs, shares, size):
        if shard := manifest.find(batch):
            counts = Counts.from_dict(shard.counts)
            line.skip(len(batch.passages))
        else:
            # What spaCy keeps of these docs would otherwise add up.
            with teacher.nlp.memory_zone():
                docbin, counts = annotate_batch(teacher, batch, line)
                manifest.write(batch, docbin, counts)
        result.splits[batch.split].merge(counts)
    manifest.finish(asdict(inputs.left_out))


def make_settings(teacher: Teacher, inputs: Inputs, shares: Shares) -> dict[str, Any]:
    """What decides what is answered, and where it goes."""
    return {
        **teacher.settings,
        "split": "/".join(map(str, shares)),
        "max_length": inputs.max_length,
        "near_duplicates": inputs.near_duplicates,
    }


def annotate_batch(
    teacher: Teacher, batch: Batch, line: LiveLine | None = None
) -> tuple[DocBin, Counts]:
    """Annotate the passages of a shard; those that fail are counted only."""
    counts = Counts()
    docbin = DocBin(store_user_data=True)
    for _, doc in annotate_passages(teacher, batch.passages, line):
        if doc is None:
            counts.failed += 1
        else:
            counts.add(doc, teacher.spans_key)
            docbin.add(doc)
    return docbin, counts


def annotate_passages(
    teacher: Teacher, passages: Sequence[Passage], line: LiveLine | None = None
) -> Iterator[tuple[Passage, Doc | None]]:
    """Yield each passage with its doc, which knows its genre and id; None if it failed."""
    with closing(teacher.annotate(map(teacher.make_doc, passages))) as docs:
        for passage, doc in zip(passages, docs, strict=True):
            failed = doc.user_data.get(OUTCOME) == FAILED
            if line:
                line.add(failed)
            doc.user_data["genre"] = passage.genre
            doc.user_data["id"] = passage.id
            yield passage, None if failed else doc


@contextmanager
def _explaining(teacher: Teacher, line: LiveLine, total: int) -> Iterator[None]:
    """Add to whatever stops a run what is done, and how to go on."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as err:
        kept = (
            f"The answers are in {str(teacher.journal.path)!r}: the same command goes on from there"
            if teacher.journal
            else "There is no journal, so that the same command asks everything that is not in a "
            "finished shard again; see configs/teacher.cfg"
        )
        err.add_note(f"{line.done - line.failed:,} of {total:,} texts were done. {kept}.")
        raise
