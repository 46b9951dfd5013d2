"""From the lines of a large model's answer to spans of the text.

A line is `- label: span`, or `- label: none` for a label that the text does not
answer. Nothing that a model writes can raise here: what cannot be used is counted,
by reason. Everything is a single scan, and what is placed is bounded, so that time grows with
the length of the answer.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from spacy.tokens import Doc, Span

from ..spans import drop_overlapping

BULLETS = "-*•–"
NUMBERING = ".)"
WRAPPING = "\"'`*“”‘’«»"
MAX_LABEL = 200  # characters
MAX_LINES = 10_000
# Placed by one answer, but for what its last line places: each line may place as many as the
# text has words.
MAX_SPANS = 10_000
# Outcomes of answers whose last line may not be whole.
CUT_SHORT = ("cut_off", "filtered")

QUOTES_AND_DASHES = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′`´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
    }
)
ZERO_WIDTH = frozenset("\u200b\u200c\u200d\u2060\ufeff\u00ad")


@dataclass
class Line:
    """One line of an answer: a label with its span, None where the answer is `none`."""

    label: str
    span: str | None


@dataclass
class Parsed:
    """What an answer says about a doc.

    spans: in the order of the text, none of which overlap under one label.
    queries: the labels asked, in the order of the answer.
    labels: those that a line could be read for, whether its span was placed or not, likewise.
    lines: the number of lines that are not blank.
    unplaced: how many lines could not be used, by reason.
    overlaps: how many spans were dropped because they overlap a longer one.
    """

    spans: list[Span] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    lines: int = 0
    unplaced: Counter[str] = field(default_factory=Counter)
    overlaps: int = 0


# From a line without its bullet to its label and what follows, or the reason why it has none.
SplitLabel = Callable[[str], tuple[str, str] | str]


def parse_answer(doc: Doc, answer: object, split: "SplitLabel | None" = None) -> Parsed:
    """Align an answer's lines to the doc. Never raises, whatever the answer is.

    split: how a line's label is told from its span; by default it may be any.

    Every occurrence of a span in the doc is marked, since the teacher copies words and
    does not say which occurrence it means. The last line of an `Answer` that was cut short is
    not used: "New" may be the beginning of "New York", and "no" that of "none".

    A label with a span and with `none` has the span. A label none of whose lines can be placed
    is not asked: that it has no answer in the text is not known.
    """
    parsed = Parsed()
    if not isinstance(answer, str):
        parsed.lines = 1
        parsed.unplaced["not_a_string"] = 1
        return parsed
    aligner = Aligner(doc)
    queries: dict[str, None] = {}
    labels: dict[str, None] = {}
    seen: set[tuple[str, str | None]] = set()
    placed: dict[tuple[str, int, int], Span] = {}
    found_by: list[list[tuple[str, int, int]]] = []
    lines = answer.split("\n")
    if getattr(answer, "outcome", "ok") in CUT_SHORT and lines.pop().strip():
        parsed.lines = parsed.unplaced["cut_off"] = 1
    for text in lines:
        if not text.strip():
            continue
        parsed.lines += 1
        line = parse_line(text, split) if parsed.lines <= MAX_LINES else "too_many_lines"
        if isinstance(line, str):
            parsed.unplaced[line] += 1
            continue
        labels[line.label] = None
        if (line.label, line.span) in seen:
            parsed.unplaced["duplicate"] += 1
            continue
        seen.add((line.label, line.span))
        if line.span is None:
            queries[line.label] = None
            continue
        if len(placed) >= MAX_SPANS:
            parsed.unplaced["too_many_spans"] += 1
            continue
        spans = aligner.align(line.span)
        if isinstance(spans, str):
            parsed.unplaced[spans] += 1
            continue
        queries[line.label] = None
        new = [(line.label, start, end) for start, end in spans]
        new = [key for key in new if key not in placed]
        if not new:
            parsed.unplaced["duplicate"] += 1
            continue
        placed.update({key: Span(doc, key[1], key[2], label=key[0]) for key in new})
        found_by.append(new)
    kept, dropped = drop_overlapping(placed.values())
    left = {(span.label_, span.start, span.end) for span in kept}
    parsed.unplaced["overlap"] += sum(left.isdisjoint(keys) for keys in found_by)
    parsed.unplaced = +parsed.unplaced
    parsed.spans = sorted(kept, key=lambda span: (span.start, span.end))
    parsed.queries = list(queries)
    parsed.labels = list(labels)
    parsed.overlaps = len(dropped)
    return parsed


def parse_line(text: str, split: SplitLabel | None = None) -> Line | str:
    """Read one line of an answer. Returns the reason, as a string, if it cannot be read."""
    body = strip_bullet(text.strip())
    if body is None:
        return "no_bullet"
    if body.startswith("**"):  # **Label:** span, as chat models like to write
        body = body.replace("**", "", 2)
    found = (split or split_label)(body)
    if isinstance(found, str):
        return found
    label, span = found
    span = span.strip()
    if not span:
        return "empty_span"
    return Line(label, None if is_none(span) else span)


def split_label(body: str) -> tuple[str, str] | str:
    """Split a line at the first colon that white space follows; see `SplitLabel`.

    So a label may contain "12:30" and a span anything ("The Legend of Zelda: Breath of the
    Wild").
    """
    at = find_separator(body)
    if at < 0:
        return "no_separator"
    label = clean_answered(body[:at])
    if not label:
        return "empty_label"
    if len(label) > MAX_LABEL:
        return "label_too_long"
    if not is_storable(label):
        return "bad_characters"
    return label, body[at + 1 :]


def clean_answered(label: str) -> str:
    """A label as a model may write it, without marks around it, its white space single."""
    return " ".join(label.strip(" \t*`").split())


def strip_bullet(text: str) -> str | None:
    """The rest of a line that begins with a bullet or a number; None if it does not."""
    if text[:1] and text[0] in BULLETS:
        # "**Label**: span" has no bullet, but means the same.
        return (text if text.startswith("**") else text[1:]).lstrip()
    digits = 0
    while digits < 4 and text[digits : digits + 1].isdecimal():
        digits += 1
    if digits and text[digits : digits + 1] and text[digits] in NUMBERING:
        return text[digits + 1 :].lstrip()
    return None


def find_separator(body: str, start: int = 0) -> int:
    """Where the first colon is that white space or the line's end follows, or -1.

    start: where to begin.
    """
    at = body.find(":", start)
    while at >= 0 and at + 1 < len(body) and not body[at + 1].isspace():
        at = body.find(":", at + 1)
    return at


def is_none(span: str) -> bool:
    """Whether a span says that there is none."""
    return len(span) < 12 and span.strip(WRAPPING + "(). ").lower() == "none"


def is_storable(text: str) -> bool:
    """Whether spaCy's string store can hold the text, which lone surrogates prevent."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


class Aligner:
    """Finds what a model copied in the text of a doc.

    Three comparisons are tried in turn: as it is; without regard to case; without regard
    to kinds of white space, quotes, dashes and zero-width characters either. The first
    that places the span decides.
    """

    def __init__(self, doc: Doc) -> None:
        self.doc = doc
        self.text = doc.text
        self.starts = [token.idx for token in doc]
        self._views: list[View] = []
        self._known: dict[str, list[tuple[int, int]] | str] = {}

    def align(self, span: str) -> list[tuple[int, int]] | str:
        """Every occurrence as (start, end) in tokens, or the reason why there is none."""
        if span not in self._known:
            self._known[span] = self._align(span)
        return self._known[span]

    def _align(self, span: str) -> list[tuple[int, int]] | str:
        reason = "not_in_text"
        # A model may put a span in quotes that the text does not have.
        for wanted in dict.fromkeys((span, span.strip(WRAPPING + " "))):
            # Characters that are normalised away could make it longer, but seldom threefold.
            if not wanted or len(wanted) > 3 * len(self.text) + 12:
                continue
            for view in self.views():
                found = False
                placed = []
                at = view.find(wanted, 0)
                while at is not None:
                    found = True
                    start, end = at
                    if tokens := self.to_tokens(start, end):
                        placed.append(tokens)
                        at = view.find(wanted, end)
                    else:
                        following = bisect_right(self.starts, start)
                        at = view.find(wanted, [*self.starts[following : following + 1], end][0])
                if placed:
                    return placed
                if found:
                    reason = "not_at_token_boundary"
        return reason

    def views(self) -> Iterator["View"]:
        """The ways to look at the text, each made when it is first needed."""
        for i, look in enumerate((None, caseless, normalised)):
            if i == len(self._views):
                self._views.append(View(self.text, look))
            yield self._views[i]

    def to_tokens(self, start: int, end: int) -> tuple[int, int] | None:
        """The tokens that cover the characters; None if they add letters or digits.

        A tokenizer keeps the full stop on "10 W." and "Calif."; a teacher does not. But
        "1941" in "1941–2011" cannot be tagged, being less than a token.
        """
        span = self.doc.char_span(start, end, alignment_mode="expand")
        if span is None:
            return None
        added = self.text[span.start_char : start] + self.text[end : span.end_char]
        if any(char.isalnum() for char in added):
            return None
        return span.start, span.end


class View:
    """A text as a comparison sees it, with the way back to the original's characters.

    look: what becomes of a text, as pairs of a character's offset and what it becomes,
        which may be no character, one, or more; None leaves the text as it is.
    """

    def __init__(self, text: str, look: "Look | None") -> None:
        self.look = look
        self.chars = text
        self.offsets: list[int] | None = None
        if look:
            pieces = list(look(text))
            self.chars = "".join(piece for _, piece in pieces)
            self.offsets = [i for i, piece in pieces for _ in piece]

    def find(self, span: str, start: int) -> tuple[int, int] | None:
        """The first occurrence as (start, end), from `start` on; all in the original's offsets."""
        if self.look:
            span = "".join(piece for _, piece in self.look(span)).strip()
        if not span:
            return None
        if self.offsets is None:
            at = self.chars.find(span, start)
            return (at, at + len(span)) if at >= 0 else None
        at = self.chars.find(span, bisect_left(self.offsets, start))
        if at < 0:
            return None
        return self.offsets[at], self.offsets[at + len(span) - 1] + 1


Look = Callable[[str], Iterator[tuple[int, str]]]


def caseless(text: str) -> Iterator[tuple[int, str]]:
    """In lower case, one by one: the `lower()` of a whole text may shift its characters."""
    return ((i, char.lower()) for i, char in enumerate(text))


def normalised(text: str) -> Iterator[tuple[int, str]]:
    """In lower case, quotes and dashes plain, white space single, zero-width characters out."""
    after_space = False
    for i, char in enumerate(text):
        if char in ZERO_WIDTH:
            continue
        if not char.isspace():
            yield i, char.lower().translate(QUOTES_AND_DASHES)
        elif not after_space:
            yield i, " "
        after_space = char.isspace()
