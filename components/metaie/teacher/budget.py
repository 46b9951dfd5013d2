"""What a run may spend, in tokens or in money."""

from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple


class BudgetReached(ValueError):
    """The next request might pass the budget: it was not sent."""


class Tokens(NamedTuple):
    """The tokens of a request, or of many: what was sent and what came back."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.prompt + self.completion

    def plus(self, other: "Tokens") -> "Tokens":
        """The sum, by kind."""
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def minus(self, other: "Tokens") -> "Tokens":
        """The difference, by kind."""
        return Tokens(self.prompt - other.prompt, self.completion - other.completion)


@dataclass(frozen=True)
class Prices:
    """The price of a million tokens, in any currency: of prompts, of completions."""

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        for name, price in vars(self).items():
            check_amount(f"prices.{name}", price, least=0)

    def cost(self, tokens: Tokens) -> float:
        """What the tokens cost, in the currency of the prices."""
        return (tokens.prompt * self.prompt + tokens.completion * self.completion) / 1e6


@dataclass(frozen=True)
class Budget:
    """At most so many tokens, prompts and completions together, and so much money.

    None sets no limit. `cost` is in the currency of the prices.
    """

    tokens: float | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        for name, limit in vars(self).items():
            if limit is not None:
                check_amount(f"budget.{name}", limit, least=0)

    def allows(self, tokens: Tokens, prices: Prices) -> bool:
        """Whether so many tokens are within the limits."""
        return (self.tokens is None or tokens.total <= self.tokens) and (
            self.cost is None or prices.cost(tokens) <= self.cost
        )

    def __bool__(self) -> bool:
        return self.tokens is not None or self.cost is not None


def check_amount(name: str, amount: object, least: float) -> None:
    """Raise ValueError, with the setting's name, unless it is a number of at least so much."""
    number = isinstance(amount, int | float) and not isinstance(amount, bool)
    if not number or not isfinite(amount) or amount < least:  # type: ignore[arg-type,operator]
        raise ValueError(f"{name} must be a number of at least {least:g}, not {amount!r}")
