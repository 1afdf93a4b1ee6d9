"""When an eigenspace that is tracked is checked, and when a check also searches outside of it."""

from __future__ import annotations

from dataclasses import dataclass

#: Updates between two checks: at the start, and at the most.
FIRST_CHECK, LONGEST_CHECK = 10, 100
#: Ratio of found to predicted error beyond which a check makes the next one come earlier.
SURPRISE = 1.3
#: Updates from one complete search outside the block to the next, at the most. ``refresh`` always
#: searches; a check that finds an eigenvalue missing makes the next ones search too.
LONGEST_SEARCH = 50


@dataclass
class Schedule:
    """Counts updates, and doubles the intervals to checks and searches while they find nothing.

    Attributes:
        updates: Since tracking began.
        last_check: The update of it, over all samples or over those that are tracked with.
        check_interval: Updates from it to the next.
        last_search: The update of it.
        search_interval: Updates from it to the next.
    """

    updates: int = 0
    last_check: int = 0
    check_interval: int = FIRST_CHECK
    last_search: int = 0
    search_interval: int = 1

    @property
    def check_is_due(self) -> bool:
        """Whether as many updates have passed since the last check as may."""
        return self.updates - self.last_check >= self.check_interval

    @property
    def search_is_due(self) -> bool:
        """Whether as many updates have passed since the last search as may."""
        return self.updates - self.last_search >= self.search_interval

    def learn(self, surprise: float) -> None:
        """Choose the interval after a check that was due, by its found error over the predicted."""
        if self.check_is_due:
            longer = surprise <= SURPRISE
            interval = self.check_interval * 2 if longer else self.check_interval // 2
            self.check_interval = min(max(interval, FIRST_CHECK), LONGEST_CHECK)

    def checked(self) -> None:
        """Take note of a check."""
        self.last_check = self.updates

    def searched(self, *, found: bool) -> None:
        """Choose the interval after a search, by whether it found an eigenvalue missing."""
        self.search_interval = 1 if found else min(2 * self.search_interval, LONGEST_SEARCH)
        self.last_search = self.updates

    def searched_afresh(self) -> None:
        """Take note of a search where nothing was known that it could have found missing."""
        self.last_search = self.updates

    def search_next(self) -> None:
        """Let the next check search."""
        self.last_search = self.updates - self.search_interval
