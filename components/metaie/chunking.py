"""Long documents, cut into passages at the ends of sentences."""

from collections.abc import Iterator
from dataclasses import replace

from spacy.language import Language
from spacy.tokens import Doc

from .convert import make_tokenizer
from .texts import Passage


def make_sentencizer(lang: str) -> Language:
    """A pipeline that finds tokens and, by punctuation, sentences."""
    nlp = make_tokenizer(lang)
    nlp.add_pipe("sentencizer")
    return nlp


def cut_passage(passage: Passage, nlp: Language, max_length: int) -> Iterator[Passage]:
    """Yield a passage as pieces of at most `max_length` tokens, with ids such as "news-1#0".

    A piece holds as many whole sentences as fit; a sentence that does not fit is cut between
    tokens. The pieces' texts, one after the other, are the passage's, white space included.
    A passage that is short enough stays as it is.
    """
    doc = nlp(passage.text)
    if len(doc) <= max_length:
        yield passage
        return
    for i, text in enumerate(cut_text(doc, max_length)):
        yield replace(passage, text=text, id=f"{passage.id}#{i}", document=passage.source)


def cut_text(doc: Doc, max_length: int) -> Iterator[str]:
    """Yield the text of a doc with sentences in pieces of at most `max_length` tokens."""
    whole = doc.text  # spaCy makes it anew of all tokens, each time
    start = end = 0
    for sent in doc.sents:
        # One that is too long is cut at each `max_length`, as if sentences ended there.
        for unit_end in [*range(sent.start + max_length, sent.end, max_length), sent.end]:
            if unit_end - start > max_length:
                yield whole[doc[start].idx : doc[end].idx]
                start = end
            end = unit_end
    yield whole[doc[start].idx :]
