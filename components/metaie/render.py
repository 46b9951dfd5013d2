"""Answers to look at: coloured text for a terminal, and a page of HTML.

Texts and labels may come from anywhere: control characters are shown, not obeyed,
and nothing in them becomes markup.
"""

import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from spacy import displacy
from spacy.displacy.templates import TPL_SPAN, TPL_SPAN_SLICE, TPL_SPAN_START
from spacy.tokens import Doc, Span
from spacy.util import filter_spans, minify_html
from wasabi.util import color as paint
from wasabi.util import supports_ansi

from .spans import SPANS_KEY, get_answers, get_scores

# Pairs of the same colour: for HTML (displaCy's own), and among a terminal's 256.
COLORS = [
    ("#7aecec", 123),
    ("#feca74", 222),
    ("#aa9cfc", 147),
    ("#bfeeb7", 157),
    ("#ff9561", 209),
    ("#f0d0ff", 225),
    ("#ffeb80", 228),
    ("#ff8197", 211),
    ("#9cc9cc", 152),
    ("#c887fb", 177),
    ("#e4e7d2", 187),
    ("#bfe1d9", 158),
]

# These turn the direction of what follows them, also outside of the text they stand in.
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

# displaCy's templates without the white space that parts a span from what follows it.
TEMPLATE = {
    "span": minify_html(TPL_SPAN),
    "slice": minify_html(TPL_SPAN_SLICE),
    "start": minify_html(TPL_SPAN_START),
}

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ max-width: 52rem; margin: 0 auto; padding: 1rem; font: 16px/1.5 system-ui, sans-serif }}
section {{ padding: 1rem 0 1.5rem; border-top: 1px solid #8886 }}
.spans span {{ white-space: pre }}
table {{ border-collapse: collapse; font-size: 0.9em }}
td, th {{ padding: 0.2rem 1rem 0.2rem 0; text-align: start; vertical-align: top; font-weight: 400 }}
th span {{ color: #000; border-radius: 3px; padding: 0.1rem 0.35rem }}
td.score {{ font-variant-numeric: tabular-nums; opacity: 0.7 }}
td.none {{ font-style: italic; opacity: 0.7 }}
</style>
</head>
<body>
<h1>{title}</h1>
{sections}
</body>
</html>
"""


def show_controls(text: str) -> str:
    r"""Write control characters as escapes such as `\x1b`; tabs and newlines stay."""
    return "".join(
        char.encode("unicode_escape").decode()
        if (unicodedata.category(char) == "Cc" and char not in "\t\n") or char in BIDI_CONTROLS
        else char
        for char in text
    )


def has_colors() -> bool:
    """Whether stdout shows colours, and whoever reads it wants them."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and supports_ansi()


def choose_colors(labels: Iterable[str]) -> dict[str, tuple[str, int]]:
    """A colour for every label, in order, as HTML and as one of a terminal's 256.

    Labels that differ in case only share one, as they do for displaCy.
    """
    labels = list(labels)
    order = list(dict.fromkeys(label.upper() for label in labels))
    return {label: COLORS[order.index(label.upper()) % len(COLORS)] for label in labels}


def render_terminal(doc: Doc, key: str = SPANS_KEY, *, color: bool = True) -> str:
    """The text with its spans marked, and under it every label asked with its answers.

    Of spans that overlap the longest is marked in the text; all are in the list.

    color: whether to write ANSI colours; without them spans stand in brackets.
    """
    answers = get_answers(doc, key)
    colors = choose_colors(answers)
    marked = {span.start: span for span in filter_spans(doc.spans.get(key, []))}
    parts: list[str] = []
    i = 0
    while i < len(doc):
        span = marked.get(i)
        if span is None:
            parts.append(show_controls(doc[i].text_with_ws))
            i += 1
        else:
            parts.append(_mark(span, colors[span.label_][1] if color else None))
            parts.append(doc[span.end - 1].whitespace_)
            i = span.end
    lines = ["".join(parts)]
    scores = _get_scores_by_span(doc, key)
    for label, spans in answers.items():
        shown = show_controls(label)
        found = [_show_answer(span, scores.get(_identify(span))) for span in spans]
        if color:
            shown = paint(shown, fg="black", bg=colors[label][1])
        lines.append(f"  {shown}: {', '.join(found) or 'none'}")
    return "\n".join(lines)


def _mark(span: Span, background: int | None) -> str:
    text, label = show_controls(span.text), show_controls(span.label_)
    if background is None:
        return f"[{text}]({label})"
    return paint(f"{text} ", fg="black", bg=background) + paint(
        f"[{label}]", fg="black", bg=background, bold=True
    )


def _show_answer(span: Span, score: float | None) -> str:
    text = " ".join(show_controls(span.text).split())
    return f"“{text}”" if score is None else f"“{text}” ({score:.2f})"


def _identify(span: Span) -> tuple[int, int, str]:
    return span.start, span.end, span.label_


def _get_scores_by_span(doc: Doc, key: str) -> dict[tuple[int, int, str], float]:
    scores = get_scores(doc, key)
    if scores is None:
        return {}
    return {
        _identify(span): float(score) for span, score in zip(doc.spans[key], scores, strict=True)
    }


def render_html(docs: Sequence[Doc], key: str = SPANS_KEY, title: str = "metaie") -> str:
    """A page that needs nothing from elsewhere: a section a doc, its spans marked by
    displaCy, and under it a table of every label asked, with answers and scores.
    """
    sections = "\n".join(_render_section(doc, key) for doc in docs)
    return PAGE.format(title=_escape(title), sections=sections)


def _render_section(doc: Doc, key: str) -> str:
    answers = get_answers(doc, key)
    colors = choose_colors(answers)
    scores = _get_scores_by_span(doc, key)
    # displaCy escapes the text, but not the labels.
    text = displacy.render(
        _parse_doc(doc, key),
        style="span",
        manual=True,
        jupyter=False,
        options={
            "template": TEMPLATE,
            "colors": {_escape(label): html for label, (html, _) in colors.items()},
        },
    )
    rows = []
    for label, spans in answers.items():
        head = f'<span style="background: {colors[label][0]}"><bdi>{_escape(label)}</bdi></span>'
        cells = [
            f"<td><bdi>{_escape(span.text)}</bdi></td>"
            f'<td class="score">{_show_score(scores.get(_identify(span)))}</td>'
            for span in spans
        ] or ['<td class="none" colspan="2">none</td>']
        rows.append(f'<tr><th rowspan="{len(cells)}" scope="row">{head}</th>')
        rows.append("</tr>\n<tr>".join(cells) + "</tr>\n")
    return f'<section dir="auto">{text}\n<table>\n{"".join(rows)}</table></section>'


def _parse_doc(doc: Doc, key: str) -> dict[str, object]:
    """The doc as displaCy takes it. What lies between spans is one piece of text each, so
    that the spaces are the text's own.
    """
    spans = list(doc.spans.get(key, []))
    covered = {i for span in spans for i in range(span.start, span.end)}
    pieces: list[str] = []
    piece_of: dict[int, int] = {}
    for inside, group in groupby(doc, key=lambda token: token.i in covered):
        tokens = list(group)
        if inside:
            for token in tokens:
                piece_of[token.i] = len(pieces)
                last = token.i + 1 not in covered
                pieces.append(show_controls(token.text if last else token.text_with_ws))
        else:
            space = doc[tokens[0].i - 1].whitespace_ if tokens[0].i else ""
            text = space + "".join(token.text_with_ws for token in tokens)
            pieces.append(show_controls(text))
    return {
        "tokens": pieces,
        "spans": [
            {
                "start_token": piece_of[span.start],
                "end_token": piece_of[span.end - 1] + 1,
                "label": _escape(span.label_),
            }
            for span in spans
        ],
    }


def _escape(text: str) -> str:
    return escape(show_controls(text))


def _show_score(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"
