"""Coverage-guided fuzzing of the parser of a large model's answers, with atheris.

    pip install "metaie[fuzz]"
    python tests/fuzz/fuzz_parsing.py -max_total_time=300

It needs Linux and a Python that atheris is built for; `make fuzz` runs it for five minutes.
It ends with an error as soon as an answer raises, or is read wrongly; then it prints the input.
"""

import sys

import atheris

with atheris.instrument_imports(include=["metaie.teacher", "metaie.spans"]):
    from metaie.teacher.answer import Answer
    from metaie.teacher.asked_labels import parse_asked
    from metaie.teacher.parsing import Parsed, parse_answer

import spacy
from spacy.tokens import Doc

NLP = spacy.blank("en")
# What lines are made of, so that the fuzzer need not find it by chance.
PIECES = ["- ", "* ", "1. ", ": ", "none", "END", "\n", "**", "`", "City", "London", "\u200b", "İ"]


def check(parsed: Parsed, doc: Doc) -> None:
    """Raise AssertionError unless every line and every span is accounted for."""
    assert parsed.unplaced.total() <= parsed.lines
    assert {span.label_ for span in parsed.spans} <= set(parsed.queries)
    for label in parsed.queries:
        own = [span for span in parsed.spans if span.label_ == label]
        tokens = [i for span in own for i in range(span.start, span.end)]
        assert len(tokens) == len(set(tokens))
        assert all(span.doc is doc for span in own)


def read(provider: atheris.FuzzedDataProvider) -> str:
    """A text of pieces and of anything else."""
    parts = []
    while provider.remaining_bytes() and len(parts) < 200:
        if provider.ConsumeBool():
            parts.append(provider.PickValueInList(PIECES))
        else:
            parts.append(provider.ConsumeUnicode(provider.ConsumeIntInRange(0, 12)))
    return "".join(parts)


def test_one_input(data: bytes) -> None:
    """Parse one text and answer."""
    provider = atheris.FuzzedDataProvider(data)
    text = provider.ConsumeUnicodeNoSurrogates(provider.ConsumeIntInRange(0, 60))
    label = provider.ConsumeUnicodeNoSurrogates(provider.ConsumeIntInRange(0, 12))
    labels = list(dict.fromkeys(["City", "a: b", " ".join(label.split()) or "x"]))
    outcome = provider.PickValueInList(["ok", "cut_off", "filtered"])
    answer = Answer(read(provider), outcome)
    doc = NLP.make_doc(text)
    check(parse_answer(doc, answer), doc)
    parsed = parse_asked(doc, answer, labels)
    check(parsed, doc)
    assert set(parsed.queries) <= set(labels)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
