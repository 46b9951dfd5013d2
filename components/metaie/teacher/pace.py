"""So much a minute, and evenly: the bookkeeping of a rate limit."""

CREDIT = 6.0  # seconds


class Pace:
    """Says how long to wait, so that no more than `per_minute` units are used a minute.

    Units are spread evenly, for servers that look at seconds. What was left unused in the
    last `CREDIT` seconds may be caught up on. Times are seconds of any one clock.
    """

    def __init__(self, per_minute: float) -> None:
        self.per_second = per_minute / 60
        # When all that was taken so far is within the rate.
        self._even: float | None = None

    def take(self, amount: float, now: float) -> float:
        """Take so many units; returns after how many seconds they may be used."""
        even = now if self._even is None else max(self._even, now - CREDIT)
        self._even = even + amount / self.per_second
        return max(0.0, even - now)

    def give_back(self, amount: float) -> None:
        """Return units that were taken and not used; a negative amount takes more."""
        if self._even is not None:
            self._even -= amount / self.per_second
