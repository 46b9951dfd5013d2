"""The reader of annotated docs."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Corpus, Example
from spacy.vocab import Vocab

from .docbin import read_docbin
from .spans import SPANS_KEY, get_queries, set_queries


class QueriesCorpus(Corpus):
    """spaCy's `Corpus`, whose predicted docs bring the queries of their references.

    So each doc is asked what it is annotated for, also in evaluation, when labels
    are open and every doc has its own.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        spans_key: str = SPANS_KEY,
        limit: int = 0,
        max_length: int = 0,
        shuffle: bool = False,
    ) -> None:
        super().__init__(path, limit=limit, shuffle=shuffle)
        self.spans_key = spans_key
        self.max_tokens = max_length

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Yield the examples. Raises ValueError for a doc without queries."""
        for example in super().__call__(nlp):
            set_queries(
                example.predicted, get_queries(example.reference, self.spans_key), self.spans_key
            )
            yield example

    def read_docbin(self, vocab: Vocab, locs: Iterable[str | Path]) -> Iterator[Doc]:
        """Yield the docs of DocBins. Raises ValueError naming a damaged one."""
        docs = (doc for loc in locs for doc in read_docbin(loc, vocab, self.spans_key))
        fitting = (doc for doc in docs if 0 < len(doc) <= (self.max_tokens or len(doc)))
        return islice(fitting, self.limit or None)


def create_corpus(
    path: Path | None,
    spans_key: str = SPANS_KEY,
    limit: int = 0,
    max_length: int = 0,
    shuffle: bool = False,
) -> QueriesCorpus:
    """Build `metaie.Corpus.v1`.

    path: a .spacy file, or a directory of them.
    spans_key: the span group that holds the annotation.
    limit: read only the first docs; 0 reads all.
    max_length: leave out docs of more tokens; 0 reads all.
    shuffle: shuffle the docs at each reading; needs them all in memory.
    """
    if path is None:
        raise ValueError(
            "No path to annotated docs: set `paths.train` and `paths.dev` in the config, "
            "or give `--paths.train` and `--paths.dev`."
        )
    if not Path(path).exists():
        raise ValueError(
            f"There are no annotated docs at {str(path)!r}. `weasel run annotate` makes the "
            "corpus; `python -m metaie convert` makes DocBins of your own data."
        )
    return QueriesCorpus(
        path, spans_key=spans_key, limit=limit, max_length=max_length, shuffle=shuffle
    )
