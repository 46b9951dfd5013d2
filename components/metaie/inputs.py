"""What there is to annotate: passages of files, cut to length, each once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .chunking import cut_passage, make_sentencizer
from .deduplication import ExactDuplicates, NearDuplicates
from .texts import Passage, find_sources, read_sources


@dataclass
class LeftOut:
    """Passages that are not annotated: there before, nearly there before, without any words."""

    duplicates: int = 0
    near_duplicates: int = 0
    empty: int = 0


@dataclass
class Inputs:
    """The passages of files and folders; they are read anew each time, as a stream.

    text_field, output: see `read_passages`.
    lang: the language whose rules find tokens and sentences.
    max_length: cut longer texts at the ends of sentences, in tokens; 0 cuts none.
    near_duplicates: leave out texts that have such a share of their shingles in common with
        an earlier one; 0 leaves out equal ones only.
    left_out: counts of the reading under way, or the last.

    Raises FileNotFoundError or ValueError as soon as it is made, if files are missing or a
    setting makes no sense; ValueError with the place while a file is read.
    """

    paths: Sequence[Path]
    text_field: str = "text"
    output: Path | None = None
    lang: str = "en"
    max_length: int = 0
    near_duplicates: float = 0.0
    left_out: LeftOut = field(default_factory=LeftOut)

    def __post_init__(self) -> None:
        if self.max_length < 0:
            raise ValueError(f"max_length must be 0 or more tokens, not {self.max_length}.")
        if self.near_duplicates:
            NearDuplicates(self.near_duplicates)
        self.sources = find_sources(self.paths, self.output)

    def __iter__(self) -> Iterator[Passage]:
        return self.prepare(read_sources(self.sources, self.text_field))

    def prepare(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """Yield passages cut to length, each once."""
        self.left_out = left_out = LeftOut()
        exact = ExactDuplicates()
        near = NearDuplicates(self.near_duplicates) if self.near_duplicates else None
        for passage in self._cut(passages):
            if not passage.text.strip():
                left_out.empty += 1
            elif not exact.add(passage.key):
                left_out.duplicates += 1
            elif near and not near.add(passage.text):
                left_out.near_duplicates += 1
            else:
                yield passage

    def _cut(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        if not self.max_length:
            yield from passages
            return
        nlp = make_sentencizer(self.lang)
        for passage in passages:
            # The words of all passages would otherwise add up.
            with nlp.memory_zone():
                pieces = list(cut_passage(passage, nlp, self.max_length))
            yield from pieces
