"""DocBins: read with errors that say what is wrong and what to do, written in one piece."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from spacy.tokens import Doc, DocBin
from spacy.training.corpus import walk_corpus
from spacy.vocab import Vocab

from .spans import SPANS_KEY, has_queries

HINT = "Make DocBins of annotated data with `python -m metaie convert`."


def find_docbins(path: Path) -> list[Path]:
    """The DocBin itself, or all .spacy files of a folder, sorted.

    Raises FileNotFoundError if there is nothing at the path, ValueError if a
    folder has no .spacy file.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {str(path)!r}. {HINT}")
    if not path.is_dir():
        return [path]
    paths = walk_corpus(path, ".spacy") if any(path.rglob("*.spacy")) else []
    if not paths:
        raise ValueError(f"There are no .spacy files in {str(path)!r}. {HINT}")
    return paths


def read_docbin(
    path: str | Path, vocab: Vocab, key: str = SPANS_KEY, require_queries: bool = True
) -> Iterator[Doc]:
    """Yield the docs of a .spacy file, or of all those in a folder.

    key: the span group that holds the annotation.
    require_queries: whether a doc must bring queries of its own.

    Raises FileNotFoundError, or ValueError for a file that is not a whole DocBin
    and for a doc without queries.
    """
    for file in find_docbins(Path(path)):
        for doc in _read_file(file, vocab):
            if require_queries:
                check_queries(doc, key, file)
            yield doc


def _read_file(path: Path, vocab: Vocab) -> Iterator[Doc]:
    data = path.read_bytes()
    # Any bytes may stand in a corrupt file, so unpacking them may raise anything.
    try:
        docs = DocBin().from_bytes(data).get_docs(vocab)
    except Exception as err:
        raise _make_error(path, err) from err
    while True:
        try:
            doc = next(docs, None)
        except Exception as err:
            raise _make_error(path, err) from err
        if doc is None:
            return
        yield doc


def _make_error(path: Path, err: Exception) -> ValueError:
    return ValueError(
        f"{str(path)!r} is not a DocBin, or it is cut off or damaged "
        f"({type(err).__name__}: {err}). {HINT}"
    )


def check_queries(doc: Doc, key: str, path: Path) -> None:
    """Raise ValueError unless the doc has queries under `key`. path: where it was read."""
    if has_queries(doc, key):
        return
    if key in doc.spans:
        problem = f"The span group {key!r} of a doc in {str(path)!r} has no queries"
    else:
        problem = (
            f"A doc in {str(path)!r} has no span group {key!r}, but {list(doc.spans) or 'none'}"
        )
    raise ValueError(
        f"{problem}: {doc.text[:60]!r}. `python -m metaie convert INPUT OUTPUT` makes DocBins with "
        "queries from JSONL, CoNLL files, and DocBins that have spans only (`--key` names their "
        "group)."
    )


def write_docbin(path: str | Path, docs: Iterable[Doc]) -> int:
    """Write docs, with their user data, to a .spacy file; its folder is made if need be.

    A file that was there is replaced at the end, in one step. Returns the number of docs.
    """
    docbin = DocBin(docs=docs, store_user_data=True)
    write_bytes(Path(path), docbin.to_bytes())
    return len(docbin)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or not there, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
