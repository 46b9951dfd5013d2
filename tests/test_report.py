import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import spacy
from conftest import annotate
from hypothesis import given
from hypothesis import strategies as st
from metaie.cli import app
from metaie.corpus_statistics import CorpusStatistics, find_quantile
from metaie.docbin import write_docbin
from metaie.report import render_report, write_report
from spacy.tokens import Doc
from typer.testing import CliRunner

NLP = spacy.blank("en")
EVIL = '<script>alert("1")</script> & $x^2$ \x1b[31m \u202e'


def make_docs() -> list[Doc]:
    first = annotate(
        NLP("Ada met Bob in London."),
        {"Person": ["Ada", "Bob"], "City": ["London"], "Date": [], "place where they met": []},
    )
    first.user_data.update(
        {"genre": EVIL, "metaie_lines": 9, "metaie_unplaced": {"not_in_text": 2, "duplicate": 1}}
    )
    second = annotate(NLP("It rained."), {"Person": [], EVIL: ["rained"]})
    second.user_data.update({"metaie_outcome": "cut_off", "metaie_unknown": ["Date", "City"]})
    return [first, second]


class Tags(HTMLParser):
    """Collects what elements a page has, and the text that it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_docs_are_counted() -> None:
    statistics = CorpusStatistics()
    statistics.add(make_docs(), "train")
    statistics.add(make_docs()[:1], "dev")
    assert statistics.queries["Person"] == 3
    assert statistics.absences == {"Date": 2, "place where they met": 2, "Person": 1}
    assert statistics.spans_a_query == {2: 2, 1: 3, 0: 5}
    assert statistics.spans_a_passage == {3: 2, 1: 1}
    assert statistics.tokens_a_passage == {6: 2, 3: 1}
    assert statistics.total.passages == 3
    assert statistics.total.unknown == 2
    assert statistics.total.unplaced == {"not_in_text": 4, "duplicate": 2}
    kinds = {kind.words: kind for kind in statistics.kinds()}
    assert list(kinds) == ["1", "4", "5"]
    assert (kinds["1"].labels, kinds["1"].queries, kinds["1"].absences) == (3, 7, 3)
    assert kinds["1"].examples == ["Person", "City", "Date"]


@given(st.lists(st.integers(0, 50), min_size=1), st.floats(0.01, 1.0))
def test_quantiles(numbers: list[int], share: float) -> None:
    quantile = find_quantile(Counter(numbers), share)
    assert quantile in numbers
    assert sum(n <= quantile for n in numbers) >= share * len(numbers) - 1e-6
    assert sum(n < quantile for n in numbers) <= share * len(numbers) + 1e-6


def test_the_page_needs_nothing_and_runs_nothing(tmp_path: Path) -> None:
    write_docbin(tmp_path / "train.spacy", make_docs())
    write_report([tmp_path / "train.spacy"], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Tags()
    page.feed(html)
    assert page.tags["svg"] == 8
    for tag in ("script", "img", "link", "iframe", "object", "image"):
        assert not page.tags[tag]
    assert not {name for name in page.attributes if name.startswith("on")}
    assert not re.search(r"(?:src|href)=\"(?!#)(?!http://www\.w3\.org)", html)
    assert not re.search(r"url\((?!#)", html)
    assert "\x1b" not in html and "\u202e" not in html
    assert '<script>alert("1")</script> & $x^2$' in page.text
    assert "place where they met" in page.text
    assert "3 of the answers’ 9 lines could not be used" in page.text
    assert "cut off 1." in page.text
    assert "Of 2 labels that were asked, it is not known" in page.text


def test_equal_corpora_have_equal_pages() -> None:
    pages = []
    for _ in range(2):
        statistics = CorpusStatistics()
        statistics.add(make_docs(), "train")
        pages.append(render_report(statistics))
    assert pages[0] == pages[1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("docs", [[], [annotate(NLP(""), {})], [annotate(NLP("Ada."), {})]])
def test_a_corpus_with_nothing_in_it_warns_of_nothing(docs: list[Doc]) -> None:
    statistics = CorpusStatistics()
    statistics.add(docs, "train")
    assert "<svg" in render_report(statistics)


def test_docs_without_spans_or_labels() -> None:
    statistics = CorpusStatistics()
    statistics.add([annotate(NLP("Ada."), {}), annotate(NLP("Bob."), {"City": []})], "train")
    page = Tags()
    page.feed(render_report(statistics))
    assert "All of the answers’ 0 lines could be used" in page.text
    assert "100.00%" in page.text


def test_the_command(tmp_path: Path) -> None:
    for name in ("train/00000", "train/00001", "dev"):
        write_docbin(tmp_path / "corpus" / f"{name}.spacy", make_docs())
    write_docbin(tmp_path / "test.spacy", make_docs()[:1])
    arguments = [tmp_path / "corpus", tmp_path / "test.spacy"]
    output = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", *map(str, arguments), "-o", str(output)])
    assert result.exit_code == 0, result.output
    page = Tags()
    page.feed(output.read_text(encoding="utf-8"))
    for name, count in {"train": 4, "dev": 2, "test": 1, "all": 7}.items():
        assert re.search(rf"{name}\s*{count}\d", page.text)


def test_nothing_to_report(tmp_path: Path) -> None:
    write_docbin(tmp_path / "a.spacy", [])
    with pytest.raises(ValueError, match=r"no docs in .*a\.spacy"):
        write_report([tmp_path / "a.spacy"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
