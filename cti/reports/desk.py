"""Reports while calls come in: a few at once, and of all of them one question to the store at a time.

A report over years takes its time, and nobody who looks something up in the log waits for more than a day of it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import DeferredLock

from cti.reports.report import Ask, Levels, Question, Report, make_report
from cti.store.counts import Count, Row

#: So many people may wait for a report at once.
MOST_AT_ONCE: Final = 8


class TooManyReports(Exception):
    """Others are being made; the text says to wait."""


class ReportDesk:
    """Where reports are asked for."""

    def __init__(self, ask: Ask, levels: Callable[[], Levels]) -> None:
        self._ask = ask
        self._levels = levels
        self._turn = DeferredLock()
        self._making = 0

    def levels(self) -> Levels:
        """The thresholds of this moment."""
        return self._levels()

    async def make(self, question: Question, *, hide_small_teams: bool) -> Report:
        """Raises `TooManyReports`, and what `make_report` does. Cancelled, it asks no further."""
        if self._making >= MOST_AT_ONCE:
            raise TooManyReports(f"{MOST_AT_ONCE} reports are being made already; try again in a moment")
        self._making += 1
        try:
            return await make_report(
                question, self._levels(), self._in_turn, hide_small_teams=hide_small_teams
            )
        finally:
            self._making -= 1

    def _in_turn(self, count: Count, since: float, until: float) -> Awaitable[Sequence[Row]]:
        asked: Any = self._turn.run(self._ask, count, since, until)
        return asked  # type: ignore[no-any-return]
