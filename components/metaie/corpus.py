"""The reader of annotated docs."""

from collections.abc import Iterator
from pathlib import Path

from spacy.language import Language
from spacy.training import Corpus, Example

from .spans import SPANS_KEY, get_queries, has_queries, set_queries


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
        shuffle: bool = False,
    ) -> None:
        super().__init__(path, limit=limit, shuffle=shuffle)
        self.spans_key = spans_key

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Yield the examples. Raises ValueError for a doc without queries."""
        for example in super().__call__(nlp):
            if not has_queries(example.reference, self.spans_key):
                raise ValueError(
                    f"A doc in {self.path} has no queries under doc.spans[{self.spans_key!r}]: "
                    f"{example.reference.text[:60]!r}. Make DocBins with `python -m metaie convert`"
                    " or `annotate`, or set `spans_key` to the group that your docs have."
                )
            set_queries(
                example.predicted, get_queries(example.reference, self.spans_key), self.spans_key
            )
            yield example


def create_corpus(
    path: Path | None, spans_key: str = SPANS_KEY, limit: int = 0, shuffle: bool = False
) -> QueriesCorpus:
    """Build `metaie.Corpus.v1`.

    path: a .spacy file, or a directory of them.
    spans_key: the span group that holds the annotation.
    limit: read only the first docs; 0 reads all.
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
    return QueriesCorpus(path, spans_key=spans_key, limit=limit, shuffle=shuffle)
