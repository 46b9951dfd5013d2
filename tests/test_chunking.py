from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from metaie.chunking import cut_passage, cut_text, make_sentencizer
from metaie.texts import Passage
from spacy.tokens import Doc, Span, Token

NLP = make_sentencizer("en")
WORDS = st.sampled_from(["Ada", "met", "Dr.", "e.g.", ".", "!", "?", "\n\n", "don't", "x-y", "9%"])
TEXTS = st.one_of(st.text(), st.lists(WORDS, max_size=60).map(" ".join))


@given(TEXTS, st.integers(1, 12))
def test_the_pieces_give_the_text_back(text: str, max_length: int) -> None:
    doc = NLP(text)
    pieces = list(cut_text(doc, max_length)) if len(doc) else []
    assert "".join(pieces) == text
    assert all(pieces)
    starts = {token.idx: token.i for token in doc}
    place = 0
    lengths = []
    for piece in pieces:
        end = place + len(piece)
        lengths.append(starts.get(end, len(doc)) - starts[place])
        place = end
    assert all(0 < length <= max_length for length in lengths)


def test_pieces_end_where_sentences_do() -> None:
    text = "Ada met Bob. They ate. It rained on all of them, and nobody had an umbrella. The end."
    assert list(cut_text(NLP(text), 9)) == [
        "Ada met Bob. They ate. ",
        "It rained on all of them, and nobody ",
        "had an umbrella. The end.",
    ]


def test_ids_and_the_document_are_kept() -> None:
    whole = Passage("One two three. Four five six.", "news", "n-1", queries=("Number",))
    assert list(cut_passage(whole, NLP, 8)) == [whole]
    first, second = cut_passage(whole, NLP, 7)
    assert (first.id, second.id) == ("n-1#0", "n-1#1")
    assert first.genre == second.genre == "news"
    assert first.queries == second.queries == ("Number",)
    assert first.source == second.source == whole.source == whole.key
    assert first.key != second.key


def test_long_texts_are_cut_as_well() -> None:
    # Past the length at which spaCy's pipelines refuse a text.
    text = "It rained. " * 100_000
    pieces = list(cut_passage(Passage(text, "g", "i"), NLP, 3000))
    assert len(pieces) == 100
    assert "".join(piece.text for piece in pieces) == text


class Watched:
    """A doc that counts how often its text is made of its tokens."""

    def __init__(self, doc: Doc) -> None:
        self.doc, self.made = doc, 0

    @property
    def text(self) -> str:
        self.made += 1
        return self.doc.text

    @property
    def sents(self) -> Iterator[Span]:
        return self.doc.sents

    def __getitem__(self, i: int) -> Token:
        return self.doc[i]


def test_the_text_is_made_once_however_many_pieces_it_has() -> None:
    doc = Watched(NLP("It rained. " * 5000))
    pieces = list(cut_text(doc, 3))  # type: ignore[arg-type]
    assert pieces == ["It rained. "] * 5000
    assert doc.made == 1
