"""From an answer about labels that were asked to spans: lines for other labels do not count."""

from collections.abc import Iterable

from spacy.tokens import Doc

from .parsing import Parsed, clean_answered, find_separator, parse_answer, split_label

# The last line of an answer that is whole.
END = "END"
# Of a line that could be read: its label was asked, whatever became of its span.
ABOUT_SPANS = frozenset({"duplicate", "not_in_text", "not_at_token_boundary", "overlap"})


class AskedLabels:
    """Tells the label of a line from its span where the labels are known.

    Case and white space need not be those of the label as it was asked. A label may hold
    a colon that white space follows ("Note: its author"); the longest that fits is meant.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        self._folded: dict[str, str] = {}
        for label in labels:
            written = clean_answered(label)
            self._exact.setdefault(written, label)
            self._folded.setdefault(written.casefold(), label)
        # A label may be written with marks around it, and with more white space.
        self._longest = 2 * max(map(len, self._exact), default=0) + 16

    def __call__(self, body: str) -> tuple[str, str] | str:
        """The label as it was asked, and what follows; or a reason, as of `split_label`."""
        found: tuple[str, str] | None = None
        at = find_separator(body)
        while 0 <= at <= self._longest:
            written = clean_answered(body[:at])
            label = self._exact.get(written) or self._folded.get(written.casefold())
            if label is not None:
                found = label, body[at + 1 :]
            at = find_separator(body, at + 1)
        if found is not None:
            return found
        other = split_label(body)
        return other if isinstance(other, str) else "label_not_asked"


def parse_asked(doc: Doc, answer: object, labels: Iterable[str]) -> Parsed:
    """Align an answer's lines to the doc, of these labels only; see `parse_answer`.

    A label that has no line is a known absence only if the answer is whole: it ends with a
    line END, and every line before has a label that was asked. Otherwise it may be cut off,
    or mean the label by another name, and what the text answers is not known. The queries
    are in the order of `labels`.
    """
    labels = list(labels)
    lines, has_ended = cut_end(answer) if isinstance(answer, str) else (answer, False)
    parsed = parse_answer(doc, lines, AskedLabels(labels))
    known = set(parsed.queries)
    if has_ended and parsed.labels and parsed.unplaced.keys() <= ABOUT_SPANS:
        known.update(set(labels).difference(parsed.labels))
    parsed.queries = [label for label in labels if label in known]
    return parsed


def cut_end(answer: str) -> tuple[str, bool]:
    """The answer without its last line END, and whether it had one."""
    lines = answer.rstrip()
    start = lines.rfind("\n") + 1
    if lines[start:].strip(" \t`*.") != END:
        return answer, False
    return lines[:start], True
