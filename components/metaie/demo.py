"""A first look at a pipeline: a few passages, and the answers it gives."""

from collections.abc import Iterable
from pathlib import Path

from spacy.tokens import Doc

from .docbin import write_bytes
from .loading import get_metaie, load_pipeline
from .render import has_colors, render_html, render_terminal
from .spans import clean_labels, set_queries

# The last label of each has no answer in its passage.
PASSAGES: list[tuple[str, list[str]]] = [
    (
        "Heavy snow closed the airport of Oslo on Tuesday morning. Ingrid Solberg, who runs "
        "operations for Avinor, said that 140 flights had been cancelled and that the runways "
        "would reopen at noon. Lufthansa put its passengers up in hotels.",
        ["Person", "Organization", "City", "Reason for the closure", "Number of flights cancelled",
         "Cause of death"],
    ),
    (
        "I've had this camera for two months. The pictures are razor-sharp and the grip feels "
        "solid, but the battery barely lasts a morning, and the menus are a maze. Support never "
        "answered my mail.",
        ["positive aspect", "negative aspect", "product", "price"],
    ),
    (
        "A 54-year-old woman developed severe hives two days after starting amoxicillin, while "
        "ibuprofen, taken for back pain, gave her nothing worse than mild heartburn.",
        ["patient", "adverse effect of amoxicillin", "adverse effect of ibuprofen",
         "reason for taking ibuprofen", "hospital"],
    ),
    (
        "Hi Tomas, could you book the small meeting room for Thursday at 3 pm and send the "
        "revised budget to Priya before lunch? The projector is broken, so bring your own "
        "screen. Thanks, Leila",
        ["sender", "requested action", "time of the meeting", "broken equipment", "deadline",
         "phone number"],
    ),
    (
        "Marie Duval left Siemens in 2019 and now works for Northwind Energy, a company in "
        "Rotterdam founded by the brothers Jan and Pieter de Wit.",
        ["employer of Marie Duval", "former employer of Marie Duval", "founder of Northwind Energy",
         "location of Northwind Energy", "spouse of Marie Duval"],
    ),
]  # fmt: skip


def demo(
    model: str,
    *,
    text: str | None = None,
    labels: Iterable[str] = (),
    output: Path | None = None,
) -> list[Doc]:
    """Print the answers for a text or, without one, for a few passages; write them as HTML.

    labels: asked of the text; by default the pipeline's own, or each passage's.
    output: where the HTML goes; None writes none.

    Raises ValueError if the pipeline cannot be loaded, or there is nothing to ask.
    """
    labels = clean_labels(labels)
    nlp = load_pipeline(model, labels=labels)
    component = get_metaie(nlp)
    if text is not None and not component.labels:
        raise ValueError("It is not known what to look for: give labels with `--label Person`.")
    passages = PASSAGES if text is None else [(text, list(component.labels))]
    docs = [nlp.make_doc(passage) for passage, _ in passages]
    for doc, (_, queries) in zip(docs, passages, strict=True):
        set_queries(doc, labels or queries, component.key)
    docs = list(nlp.pipe(docs))
    for doc in docs:
        print(render_terminal(doc, component.key, color=has_colors()), end="\n\n")
    if output is not None:
        html = render_html(docs, component.key, title=f"What {nlp.meta['name']} finds")
        write_bytes(output, html.encode("utf-8"))
    return docs
