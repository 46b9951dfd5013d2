"""A few prompts and what becomes of their answers, to look at before many are paid for."""

from collections import Counter
from collections.abc import Iterator
from heapq import nsmallest

from spacy.tokens import Doc
from wasabi.util import color as paint

from .inputs import Inputs
from .render import render_terminal, show_controls
from .teacher.pipeline import Teacher
from .teacher.prompt_task import FAILED, LINES, OUTCOME, UNPLACED
from .teacher.queried_labels import UNKNOWN


def preview(teacher: Teacher, inputs: Inputs, count: int, *, color: bool) -> Iterator[str]:
    """Ask the teacher about a few passages; yield each as text: prompt, answers, flaws.

    Of lines that could not be placed, the number and the reasons are given. The answers as the
    model wrote them are in the journal.

    The passages are those whose texts have the smallest hashes: as good as drawn at random,
    from all of the inputs, and the same ones each time. Answers go into the journal, so that
    the run that follows does not ask again.

    color: whether to write ANSI colours.
    """
    # They are read to the end, as all of the run will be, but only the few are kept.
    passages = nsmallest(count, inputs, key=lambda passage: passage.key)
    asked, answered = (map(teacher.make_doc, passages) for _ in range(2))
    pairs = zip(passages, teacher.make_prompts(asked), teacher.annotate(answered), strict=True)
    for i, (passage, prompts, doc) in enumerate(pairs, start=1):
        title = show_controls(f"{i} of {len(passages)}: {passage.id} ({passage.genre})")
        parts = [paint(title, bold=True) if color else title]
        for prompt in prompts:
            prompt = show_controls(prompt)
            parts.append(paint(prompt, fg="grey") if color else prompt)
        parts.append(render_terminal(doc, teacher.spans_key, color=color))
        parts.extend(paint(note, fg="red") if color else note for note in find_flaws(doc))
        yield "\n\n".join(parts)


def find_flaws(doc: Doc) -> Iterator[str]:
    """Yield what is wrong with the answer about a doc, if anything is."""
    unplaced = Counter(doc.user_data.get(UNPLACED, {}))
    if unplaced:
        reasons = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in unplaced.items())
        yield f"{unplaced.total()} of {doc.user_data[LINES]} lines not placed: {reasons}"
    if unknown := doc.user_data.get(UNKNOWN):
        yield f"It is not known what answers: {', '.join(map(show_controls, unknown))}"
    if outcome := doc.user_data.get(OUTCOME):
        what = "There is no answer" if outcome == FAILED else "The answer is not whole"
        yield f"{what}: {outcome.replace('_', ' ')}"
