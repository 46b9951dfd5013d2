"""From queries to sequences of wordpieces, and back from wordpieces to tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy
from spacy.attrs import IDX, LENGTH
from spacy.tokens import Doc
from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

from ..decoding import choose_windows
from ..queries import Query


@dataclass(frozen=True, slots=True)
class EncodedWindow:
    """A window's wordpieces.

    ids: wordpiece ids, without special ones.
    firsts: for every token its first wordpiece, or -1 if it has none, as white
        space and zero-width characters have none.
    """

    ids: numpy.ndarray
    firsts: numpy.ndarray


@dataclass(frozen=True, slots=True)
class PairSequence:
    """One input of a cross-encoder: a label and as much of a window as fits.

    ids, types: wordpiece ids and token type ids, special ones included.
    label: where the label's wordpieces are.
    positions: the wordpieces to read, one a token.
    rows: where in the batch's flat (tokens, 3) output what is read there belongs.
    """

    ids: numpy.ndarray
    types: numpy.ndarray
    label: slice
    positions: numpy.ndarray
    rows: numpy.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class TextSequence:
    """One input that is read without a label: as much of a window as fits.

    ids: wordpiece ids, special ones included.
    positions: the wordpieces to read, one a token.
    tokens: the tokens that are read there, counted from the window's first.
    window: whose it is, as a number among the windows encoded.
    """

    ids: numpy.ndarray
    positions: numpy.ndarray
    tokens: numpy.ndarray
    window: int

    def __len__(self) -> int:
        return len(self.ids)


def encode_windows(
    tokenizer: PreTrainedTokenizerFast, windows: Sequence[tuple[Doc, int, int]]
) -> list[EncodedWindow]:
    """Tokenize windows in one batch and align each spaCy token to its first wordpiece.

    spacy-transformers' alignment merges the wordpieces of a token that lies in
    several windows; here every window keeps its own, without a loop over characters.
    """
    layouts: dict[int, tuple[numpy.ndarray, numpy.ndarray]] = {}
    encodings = tokenizer(
        [doc[start:end].text for doc, start, end in windows],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        truncation=False,
        verbose=False,
    )
    encoded = []
    for (doc, start, end), ids, offsets in zip(
        windows, encodings["input_ids"], encodings["offset_mapping"], strict=True
    ):
        if id(doc) not in layouts:
            chars = doc.to_array([IDX, LENGTH]).astype("int64").reshape(-1, 2)
            layouts[id(doc)] = chars[:, 0], chars[:, 0] + chars[:, 1]
        starts, ends = (column[start:end] - doc[start].idx for column in layouts[id(doc)])
        pieces = numpy.asarray(offsets, dtype="int64").reshape(-1, 2)
        if len(pieces):
            # The first wordpiece that ends after the token starts is the token's
            # own if it starts before the token ends.
            firsts = numpy.searchsorted(pieces[:, 1], starts, side="right")
            own = firsts < len(pieces)
            own[own] = pieces[firsts[own], 0] < ends[own]
            firsts = numpy.where(own, firsts, -1)
        else:
            firsts = numpy.full(end - start, -1, dtype="int64")
        encoded.append(EncodedWindow(numpy.asarray(ids, dtype="int64"), firsts))
    return encoded


def encode_labels(
    tokenizer: PreTrainedTokenizerFast, labels: Sequence[str], max_length: int
) -> list[numpy.ndarray]:
    """Tokenize labels in one batch.

    Raises ValueError for a label without wordpieces, or with more than
    `max_length`: cutting it silently would ask another question.
    """
    if not labels:
        return []
    encodings = tokenizer(
        list(labels),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        truncation=False,
        verbose=False,
    )
    for label, ids in zip(labels, encodings["input_ids"], strict=True):
        shown = label if len(label) <= 60 else f"{label[:60]}…"
        if not ids:
            raise ValueError(
                f"The label {shown!r} has no wordpieces: the transformer cannot read its "
                "characters. Give a label with visible text."
            )
        if len(ids) > max_length:
            raise ValueError(
                f"The label {shown!r} has {len(ids)} wordpieces, more than the {max_length} that "
                "this model takes for a label. Give a shorter phrase."
            )
    return [numpy.asarray(ids, dtype="int64") for ids in encodings["input_ids"]]


def cut_window(window: EncodedWindow, room: int) -> list[tuple[int, int, int, int]]:
    """Cut a window whose wordpieces exceed the `room` a sequence has for them.

    Consecutive pieces overlap by about half. A single token of more wordpieces
    than `room` is cut: its first wordpiece, which is the one read, is kept.

    Returns [(first token, last token + 1, first wordpiece, last wordpiece + 1), ...].
    """
    n_tokens, n_pieces = len(window.firsts), len(window.ids)
    if n_pieces <= room:
        return [(0, n_tokens, 0, n_pieces)]
    # Where each token's wordpieces begin; a token without any begins at the next one's.
    begins = numpy.append(window.firsts, n_pieces)
    for i in range(n_tokens - 1, -1, -1):
        if begins[i] < 0:
            begins[i] = begins[i + 1]
    cuts = []
    start = 0
    while True:
        end = int(numpy.searchsorted(begins, begins[start] + room, side="right")) - 1
        end = min(max(end, start + 1), n_tokens)
        first = int(begins[start])
        cuts.append((start, end, first, min(int(begins[end]), first + room)))
        if end == n_tokens:
            return cuts
        half = int(numpy.searchsorted(begins, first + room // 2, side="left"))
        start = min(max(half, start + 1), end)


Sequenced = TypeVar("Sequenced", PairSequence, TextSequence)


class PairEncoder:
    """Joins a label's and a window's wordpieces as the transformer's pair of texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        # The special wordpieces around a pair, read off two stand-ins.
        unk = tokenizer.unk_token_id or 0
        frame = tokenizer.build_inputs_with_special_tokens([unk], [unk])
        types = tokenizer.create_token_type_ids_from_sequences([unk], [unk])
        if len(types) != len(frame) or not uses_token_types(tokenizer):
            types = [0] * len(frame)
        first, second = [i for i, piece in enumerate(frame) if piece == unk]
        self.tokenizer = tokenizer
        self.before = numpy.asarray(frame[:first], dtype="int64")
        self.between = numpy.asarray(frame[first + 1 : second], dtype="int64")
        self.after = numpy.asarray(frame[second + 1 :], dtype="int64")
        self.label_type, self.text_type = types[first], types[second]
        self.room = max_length - len(frame) + 2
        # A label gets at most half of a sequence, so that the text keeps the other.
        self.max_label_length = self.room // 2

    def encode(self, queries: Sequence[Query]) -> Iterator[PairSequence]:
        """Yield the sequences that ask the queries; each window and label is tokenized once.

        Together their `rows` cover every token that has a wordpiece, once.
        """
        labels = list(dict.fromkeys(query.label for query in queries))
        label_ids = dict(
            zip(labels, encode_labels(self.tokenizer, labels, self.max_label_length), strict=True)
        )
        keys = [(id(query.doc), query.start, query.end) for query in queries]
        unique = {
            key: (query.doc, query.start, query.end)
            for key, query in zip(keys, queries, strict=True)
            if len(query)
        }
        windows = (
            dict(zip(unique, encode_windows(self.tokenizer, list(unique.values())), strict=True))
            if unique
            else {}
        )
        row = 0
        for key, query in zip(keys, queries, strict=True):
            if len(query):
                yield from self._encode_pair(label_ids[query.label], windows[key], row)
            row += len(query)

    def _encode_pair(
        self, label: numpy.ndarray, window: EncodedWindow, row: int
    ) -> Iterator[PairSequence]:
        head = numpy.concatenate((self.before, label, self.between))
        at = slice(len(self.before), len(self.before) + len(label))
        for tokens, first, last in choose_tokens(window, self.room - len(label)):
            ids = numpy.concatenate((head, window.ids[first:last], self.after))
            types = numpy.full(len(ids), self.text_type, dtype="int64")
            types[: len(head)] = self.label_type
            positions = window.firsts[tokens] - first + len(head)
            yield PairSequence(ids, types, at, positions, tokens + row)


class TextEncoder:
    """Puts the transformer's special wordpieces around a window's or a label's own."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        unk = tokenizer.unk_token_id or 0
        frame = tokenizer.build_inputs_with_special_tokens([unk])
        at = frame.index(unk)
        self.tokenizer = tokenizer
        self.before = numpy.asarray(frame[:at], dtype="int64")
        self.after = numpy.asarray(frame[at + 1 :], dtype="int64")
        self.room = max_length - len(frame) + 1

    def encode_labels(self, labels: Sequence[str]) -> list[numpy.ndarray]:
        """The wordpiece ids of each label. Raises ValueError as `encode_labels` does."""
        return [self._frame(ids) for ids in encode_labels(self.tokenizer, labels, self.room)]

    def encode(self, windows: Sequence[tuple[Doc, int, int]]) -> Iterator[TextSequence]:
        """Yield the windows' sequences, more than one for a window that does not fit.

        A window's sequences together read every token that has a wordpiece, once.
        """
        if not windows:
            return
        for i, window in enumerate(encode_windows(self.tokenizer, windows)):
            for tokens, first, last in choose_tokens(window, self.room):
                positions = window.firsts[tokens] - first + len(self.before)
                yield TextSequence(self._frame(window.ids[first:last]), positions, tokens, i)

    def _frame(self, ids: numpy.ndarray) -> numpy.ndarray:
        return numpy.concatenate((self.before, ids, self.after))


def choose_tokens(window: EncodedWindow, room: int) -> Iterator[tuple[numpy.ndarray, int, int]]:
    """Cut a window, and yield of each piece (tokens to read in it, first and last wordpiece + 1).

    Every token that has a wordpiece is read in the piece in which it lies farthest from an edge.
    """
    cuts = cut_window(window, room)
    chosen = choose_windows([cut[:2] for cut in cuts], len(window.firsts))
    for i, (start, end, first, last) in enumerate(cuts):
        tokens = numpy.arange(start, end)
        tokens = tokens[(chosen[start:end] == i) & (window.firsts[start:end] >= 0)]
        if len(tokens):
            yield tokens, first, last


def pad(arrays: Sequence[numpy.ndarray], value: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Pad to one length. Returns the padded array and a mask of what is no padding, int64."""
    lengths = numpy.array([len(array) for array in arrays])
    mask = numpy.arange(lengths.max()) < lengths[:, None]
    padded = numpy.full(mask.shape, value, dtype="int64")
    padded[mask] = numpy.concatenate(arrays)
    return padded, mask.astype("int64")


def uses_token_types(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer's transformer tells the two texts of a pair apart by type."""
    return "token_type_ids" in tokenizer.model_input_names


def batch_by_wordpieces(
    sequences: Sequence[Sequenced], max_wordpieces: int
) -> list[list[Sequenced]]:
    """Sort sequences by length and cut them into batches of at most `max_wordpieces`.

    Padding counts as wordpieces. A single longer sequence makes a batch of its own.
    """
    batches: list[list[Sequenced]] = []
    for sequence in sorted(sequences, key=len):
        if batches and len(sequence) * (len(batches[-1]) + 1) <= max_wordpieces:
            batches[-1].append(sequence)
        else:
            batches.append([sequence])
    return batches
