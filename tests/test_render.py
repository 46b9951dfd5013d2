import re
from html.parser import HTMLParser

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from metaie.render import COLORS, choose_colors, render_html, render_terminal, show_controls
from metaie.spans import set_answers
from spacy.tokens import Doc, Span

NLP = spacy.blank("en")
HOSTILE = '<script>alert("x")</script>&\'\x1b[31m\u202e'


def make_doc(
    text: str, spans: list[tuple[int, int, str]], queries: list[str], scored: bool = True
) -> Doc:
    doc = NLP.make_doc(text)
    scores = [0.5 + 0.1 * i for i in range(len(spans))] if scored else None
    set_answers(doc, [Span(doc, *span) for span in spans], queries, scores)
    return doc


class Page(HTMLParser):
    """The tags of a page, its links, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.text += data


def test_spans_are_marked_and_every_label_is_listed() -> None:
    doc = make_doc(
        "Ada met Bob in Rome.", [(0, 1, "Person"), (4, 5, "City")], ["Person", "City", "Date"]
    )
    assert render_terminal(doc, color=False) == (
        "[Ada](Person) met Bob in [Rome](City).\n"
        "  Person: “Ada” (0.50)\n"
        "  City: “Rome” (0.60)\n"
        "  Date: none"
    )


def test_gold_spans_have_no_scores() -> None:
    doc = make_doc("Ada left.", [(0, 1, "Person")], ["Person"], scored=False)
    assert render_terminal(doc, color=False).endswith("  Person: “Ada”")
    assert "0." not in Page(render_html([doc])).text


def test_of_overlapping_spans_the_longest_is_marked_and_all_are_listed() -> None:
    doc = make_doc(
        "the mayor of New York City",
        [(3, 5, "State"), (3, 6, "City"), (0, 6, "Person"), (5, 6, "x")],
        ["State", "City", "Person", "x"],
    )
    lines = render_terminal(doc, color=False).split("\n")
    assert lines == [
        "[the mayor of New York City](Person)",
        "  State: “New York” (0.50)",
        "  City: “New York City” (0.60)",
        "  Person: “the mayor of New York City” (0.70)",
        "  x: “City” (0.80)",
    ]


def test_colors_are_those_of_the_labels() -> None:
    doc = make_doc("Ada met Bob.", [(0, 1, "Person")], ["City", "Person"])
    terminal = render_terminal(doc)
    html = render_html([doc])
    assert f"48;5;{COLORS[1][1]}mAda" in terminal
    assert re.sub(r"\x1b\[[0-9;]*m", "", terminal).startswith("Ada [Person] met Bob.")
    assert f"background: {COLORS[1][0]}" in html


def test_a_doc_without_text_or_queries() -> None:
    assert render_terminal(make_doc("", [], ["Person"]), color=False) == "\n  Person: none"
    assert render_terminal(NLP.make_doc("Ada."), color=False) == "Ada."
    assert "Ada." in Page(render_html([NLP.make_doc("Ada."), NLP.make_doc("")])).text


def test_there_are_colors_for_any_number_of_labels() -> None:
    colors = choose_colors(f"label {i}" for i in range(100))
    assert len(colors) == 100
    assert set(colors.values()) == set(COLORS)
    # displaCy does not tell labels apart by case.
    assert len(set(choose_colors(["person", "City", "Person"]).values())) == 2


@pytest.mark.parametrize("char", ["\x1b", "\x07", "\x9b", "\r", "\x08", "\u202e", "\u2066", "\x00"])
def test_control_characters_are_shown_not_obeyed(char: str) -> None:
    doc = make_doc(f"Ada {char}[31m met", [(0, 1, f"la{char}bel")], [f"la{char}bel", f"x{char}x"])
    shown = render_terminal(doc, color=False)
    assert char not in shown
    assert char.encode("unicode_escape").decode() in shown
    assert char not in render_html([doc], title=f"a{char}b")


def test_other_characters_stay_as_they_are() -> None:
    text = "a\tb\nc 👩‍👧 שלום \u200d é"
    assert show_controls(text) == text


def test_hostile_text_and_labels_are_escaped() -> None:
    doc = make_doc(f"{HOSTILE} met Bob", [(0, 3, HOSTILE)], [HOSTILE, "<img src=x onerror=y>"])
    page = Page(render_html([doc], title=HOSTILE))
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count('alert("x")') >= 4
    assert not page.links


def test_the_page_loads_nothing_from_elsewhere() -> None:
    html = render_html([make_doc("Ada met Bob.", [(0, 1, "Person")], ["Person"])])
    assert not Page(html).links
    assert "http" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_the_page_has_a_section_a_doc_with_its_answers() -> None:
    docs = [
        make_doc("Ada met Bob.", [(0, 1, "Person"), (2, 3, "Person")], ["Person", "City"]),
        make_doc("Rome fell.", [], ["City"]),
    ]
    html = render_html(docs, title="What it finds")
    page = Page(html)
    assert page.tags.count("section") == 2
    assert page.tags.count("tr") == 4
    assert '<th rowspan="2"' in html
    assert page.text.count("none") == 2
    assert "0.50" in page.text
    assert "0.60" in page.text
    assert page.text.count("What it finds") == 2


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text("<>&\"'ab{} %\x1b", min_size=1, max_size=12).filter(str.strip),
    st.data(),
)
@settings(max_examples=50, deadline=None)
def test_whatever_the_text_the_page_has_the_same_tags(
    text: str, label: str, data: st.DataObject
) -> None:
    doc = NLP.make_doc(text)
    spans = []
    if len(doc):
        start = data.draw(st.integers(0, len(doc) - 1))
        spans = [Span(doc, start, data.draw(st.integers(start + 1, len(doc))), label=label)]
    set_answers(doc, spans, [label], [0.5] * len(spans))
    allowed = "html head meta title style body h1 section div span table tr th bdi td"
    assert set(Page(render_html([doc])).tags) <= set(allowed.split())
    assert "\x1b" not in render_terminal(doc, color=False)
