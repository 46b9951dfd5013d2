"""What annotation will cost, before anything is asked."""

from collections.abc import Iterator
from dataclasses import dataclass

from spacy.util import minibatch

from .inputs import Inputs
from .teacher.pipeline import Teacher

# A common rule of thumb for English and the tokenizers of large models.
CHARACTERS_PER_TOKEN = 4
# The answers of the corpus that metaie was trained on, in characters, by those of their texts.
ANSWER_LENGTH = 1.4
BATCH_SIZE = 256


@dataclass
class Estimate:
    """The size of a job.

    prompts: of all passages. recorded: those that the journal has answers for; they cost nothing.
    prompt_tokens, completion_tokens: of the others, estimated. basis: what the latter are by.
    cost: in the currency of the prices; None where there are none.
    """

    passages: int = 0
    prompts: int = 0
    recorded: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    basis: str = ""
    cost: float | None = None

    def rows(self) -> Iterator[tuple[str, str]]:
        """The rows of a table."""
        yield "passages", f"{self.passages:,}"
        yield "prompts", f"{self.prompts:,}"
        yield "  recorded in the journal", f"{self.recorded:,}"
        yield "  to ask", f"{self.prompts - self.recorded:,}"
        yield "tokens of prompts, about", f"{self.prompt_tokens:,}"
        yield "tokens of answers, about", f"{self.completion_tokens:,}"
        yield "cost, about", "no prices" if self.cost is None else f"{self.cost:,.4f}"


def estimate(
    teacher: Teacher,
    inputs: Inputs,
    *,
    completion_tokens: int | None = None,
    prices: tuple[float, float] | None = None,
) -> Estimate:
    """Price a job without asking anything.

    A token of a prompt is taken for four characters. An answer is taken to be as long as the
    recorded ones on average or, where there are none, 1.4 times as long as its text.

    completion_tokens: the length of an answer instead.
    prices: of a million tokens, of prompts and of answers; by default those of the config.
    """
    result = Estimate()
    journal = teacher.journal
    answer_tokens = prompt_characters = text_characters = 0
    for batch in minibatch(inputs, BATCH_SIZE):
        # What spaCy keeps of these docs would otherwise add up.
        with teacher.nlp.memory_zone():
            docs = list(map(teacher.make_doc, batch))
            for doc, prompts in zip(docs, teacher.make_prompts(docs), strict=True):
                result.passages += 1
                result.prompts += len(prompts)
                for prompt in prompts:
                    answer = journal.find(prompt) if journal else None
                    if answer is None:
                        prompt_characters += len(prompt)
                        text_characters += len(doc.text)
                    else:
                        result.recorded += 1
                        answer_tokens += count_tokens(answer)
    to_ask = result.prompts - result.recorded
    result.prompt_tokens = round(prompt_characters / CHARACTERS_PER_TOKEN)
    if completion_tokens is not None:
        result.completion_tokens = completion_tokens * to_ask
        result.basis = f"{completion_tokens:,} tokens an answer, as given"
    elif result.recorded:
        mean = answer_tokens / result.recorded
        result.completion_tokens = round(mean * to_ask)
        result.basis = f"{mean:,.0f} tokens an answer, the mean of {result.recorded:,} recorded"
    else:
        result.completion_tokens = round(text_characters * ANSWER_LENGTH / CHARACTERS_PER_TOKEN)
        result.basis = f"answers {ANSWER_LENGTH} times as long as their texts"
    prices = prices or teacher.prices
    if prices:
        price_in, price_out = prices
        spent = result.prompt_tokens * price_in + result.completion_tokens * price_out
        result.cost = spent / 1e6
    return result


def count_tokens(answer: str) -> int:
    """The tokens of an answer: as recorded, else estimated by its characters."""
    recorded = getattr(answer, "completion_tokens", None)
    return round(len(answer) / CHARACTERS_PER_TOKEN) if recorded is None else recorded
