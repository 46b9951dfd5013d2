"""Annotation with a teacher: texts in, DocBins of a train, a dev and a test split out."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.util import load_config
from tqdm import tqdm

from .docbin import write_bytes
from .rows import BadRow, check_unicode, decode_line, get_text, parse_row, read_lines
from .spans import get_answers

SPLITS = ("train", "dev", "test")
SUFFIXES = (".jsonl", ".txt")


@dataclass(frozen=True)
class Passage:
    """A text with what is known about it. Its hash decides its place, whatever its file."""

    text: str
    genre: str
    id: str

    @property
    def key(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


@dataclass
class Counts:
    """What is in a split.

    lines: of the teacher's answers, blank ones aside.
    unplaced: lines that could not be used, by reason.
    overlaps: spans dropped, since they overlap a longer one of the same label.
    """

    passages: int = 0
    queries: int = 0
    spans: int = 0
    absences: int = 0
    lines: int = 0
    unplaced: Counter[str] = field(default_factory=Counter)
    overlaps: int = 0

    def add(self, doc: Doc) -> None:
        """Count an annotated doc."""
        answers = get_answers(doc)
        self.passages += 1
        self.queries += len(answers)
        self.spans += sum(map(len, answers.values()))
        self.absences += sum(not spans for spans in answers.values())
        self.lines += doc.user_data.get("metaie_lines", 0)
        self.unplaced.update(doc.user_data.get("metaie_unplaced", {}))
        self.overlaps += doc.user_data.get("metaie_overlaps", 0)


@dataclass
class Report:
    """What a run did: counts by split, and what was left out of its inputs."""

    splits: dict[str, Counts]
    duplicates: int = 0
    empty: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        splits = {name: vars(count) for name, count in self.splits.items()}
        return {"splits": splits, "duplicates": self.duplicates, "empty": self.empty}

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The rows of a table: what is counted, a column a split, the sum."""
        counts = list(self.splits.values())
        for name in ("passages", "queries", "spans", "absences", "lines"):
            yield self._row(name, [getattr(count, name) for count in counts])
        yield self._row("lines not placed", [count.unplaced.total() for count in counts])
        total = sum((count.unplaced for count in counts), Counter[str]())
        for reason, _ in sorted(total.items(), key=lambda item: (-item[1], item[0])):
            shown = f"  {reason.replace('_', ' ')}"
            yield self._row(shown, [count.unplaced[reason] for count in counts])
        lines = [count.lines for count in counts]
        bad = [count.unplaced.total() for count in counts]
        pairs = [*zip(bad, lines, strict=True), (sum(bad), sum(lines))]
        yield ("  share of lines", *(f"{b / n if n else 0:.2%}" for b, n in pairs))
        yield self._row("overlapping spans dropped", [count.overlaps for count in counts])

    def _row(self, name: str, numbers: list[int]) -> tuple[str, ...]:
        return (name, *(f"{number:,}" for number in [*numbers, sum(numbers)]))


def annotate(
    texts: Iterable[Path],
    output: Path,
    config: Path,
    *,
    split: str = "88/6/6",
    overrides: dict[str, Any] | None = None,
    summary: Path | None = None,
) -> Report:
    """Annotate texts with the pipeline of a config, and write train, dev and test.

    texts: files or folders of .jsonl ("text", perhaps "genre" and "id") and .txt (one
        text a line, its genre being the file's name).
    output: the folder of train.spacy, dev.spacy and test.spacy; each is replaced when
        everything is done, and has its docs in the order of their texts' hashes.
    split: the shares of train, dev and test.
    overrides: settings that replace the config's, as {"paths.journal": …}.
    summary: a file for the counts, JSON.

    Raises FileNotFoundError, or ValueError naming file and line of a row that cannot
    be read.
    """
    texts, shares = list(texts), parse_split(split)
    report = Report({name: Counts() for name in SPLITS})
    passages = []
    seen: set[str] = set()
    for passage in read_passages(texts):
        if not passage.text.strip():
            report.empty += 1
        elif passage.key in seen:
            report.duplicates += 1
        else:
            seen.add(passage.key)
            passages.append(passage)
    if not passages:
        raise ValueError(f"There are no texts in {', '.join(map(str, texts)) or 'no files'}.")
    nlp = load_teacher(config, overrides or {})
    places = split_passages(passages, shares)
    # The order of hashes mixes the genres, which readers that do not shuffle need.
    order = sorted(zip(passages, places, strict=True), key=lambda item: item[0].key)
    docbins = {name: DocBin(store_user_data=True) for name in SPLITS}
    stream = nlp.pipe(((p.text, (p, name)) for p, name in order), as_tuples=True)
    for doc, (passage, name) in tqdm(stream, total=len(order), unit=" texts", disable=None):
        doc.user_data["genre"] = passage.genre
        doc.user_data["id"] = passage.id
        report.splits[name].add(doc)
        docbins[name].add(doc)
    for name, docbin in docbins.items():
        write_bytes(output / f"{name}.spacy", docbin.to_bytes())
    if summary:
        write_bytes(summary, (json.dumps(report.as_dict(), indent=2) + "\n").encode())
    return report


def load_teacher(config: Path, overrides: dict[str, Any]) -> Language:
    """The pipeline of a config file that has an `llm` component."""
    from spacy_llm.util import assemble_from_config

    if not config.exists():
        raise FileNotFoundError(f"There is no config {str(config)!r}. configs/teacher.cfg is ours.")
    nlp = assemble_from_config(load_config(config, overrides=overrides, interpolate=False))
    if not any(nlp.get_pipe_meta(name).factory == "llm" for name in nlp.pipe_names):
        raise ValueError(
            f"The pipeline of {str(config)!r} has no `llm` component, but {nlp.pipe_names}: no "
            "teacher, no annotation. See configs/teacher.cfg."
        )
    return nlp


def read_passages(paths: Iterable[Path]) -> Iterator[Passage]:
    """Yield the passages of files and folders, in the order of their names."""
    for path in paths:
        for file in find_texts(path):
            read = _read_jsonl_row if file.suffix == ".jsonl" else _read_text_line
            for number, line in read_lines(file):
                if not line.strip():
                    continue
                try:
                    yield read(line, file, number)
                except BadRow as err:
                    raise err.at(file, number) from None


def find_texts(path: Path) -> list[Path]:
    """The file itself, or all .jsonl and .txt files below a folder, sorted."""
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder of texts {str(path)!r}.")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        if not files:
            raise ValueError(f"The folder {str(path)!r} has no files that end with .jsonl or .txt.")
        return files
    if path.suffix not in SUFFIXES:
        raise ValueError(f"Texts are read from files that end with .jsonl or .txt, not {path}.")
    return [path]


def _read_jsonl_row(line: bytes, file: Path, number: int) -> Passage:
    row = parse_row(line)
    genre, name = row.get("genre", file.stem), row.get("id", f"{file.stem}-{number}")
    return Passage(get_text(row), check_unicode(genre, "genre"), check_unicode(name, "id"))


def _read_text_line(line: bytes, file: Path, number: int) -> Passage:
    return Passage(decode_line(line), file.stem, f"{file.stem}-{number}")


def parse_split(split: str) -> tuple[int, int, int]:
    """Read shares as "88/6/6". Raises ValueError unless they are three whole numbers."""
    parts = split.split("/")
    if len(parts) != len(SPLITS) or not all(p.isascii() and p.isdigit() for p in parts):
        raise ValueError(f"A split is three whole numbers, as 88/6/6, not {split!r}.")
    train, dev, test = map(int, parts)
    if not train:
        raise ValueError(f"The split {split!r} leaves nothing to train on.")
    return train, dev, test


def split_passages(passages: list[Passage], shares: tuple[int, int, int]) -> list[str]:
    """Assign every passage to a split; returns the splits' names in the passages' order.

    Stratified by genre, by systematic sampling: the passages are lined up by genre, then
    by the hash of their texts, and test takes one at each step of its share; so does dev,
    half a step apart. Every genre is so split as the whole is, to within one or two, and
    nothing but the set of texts and genres decides.
    """
    order = sorted(range(len(passages)), key=lambda i: (passages[i].genre, passages[i].key))
    total = sum(shares)
    _, dev, test = shares
    half_step = total // (2 * test) if test else 0

    def takes(share: int, place: int) -> bool:
        return place * share // total > (place - 1) * share // total

    names = ["train"] * len(passages)
    for place, i in enumerate(order, start=1):
        if takes(test, place):
            names[i] = "test"
        elif takes(dev, place + half_step):
            names[i] = "dev"
    return names
