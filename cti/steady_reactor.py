"""Twisted's reactor on epoll, whose timers outlive a step of the system's clock, by NTP or by hand.

Twisted's timers are due at times of that clock. Set back by an hour, all of them would come an hour late, and with
them whatever is read or written by one; set forward, every deadline would be over at once. What is due at a time of
day, such as the end of a lease, goes by the clock as it is.
"""

import time
from typing import Any, Final, cast

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

from cti.logs import get_logger

log = get_logger("cti.steady_reactor")

#: Seconds that count as a step: a clock that is slewed never gets so far between two looks.
STEP: Final = 0.25


class SteadyReactor(EPollReactor):
    """Looks at a clock that nobody sets whenever it is asked for the time, which is before it looks at any timer."""

    def __init__(self) -> None:
        self._offset: float | None = None
        super().__init__()  # type: ignore[no-untyped-call]

    def wall(self) -> float:
        """The clock that may be set."""
        return time.time()

    def steady(self) -> float:
        """The clock that nobody sets."""
        return time.monotonic()

    def seconds(self) -> float:
        now = self.wall()
        offset = now - self.steady()
        if self._offset is None:
            self._offset = offset
        elif abs(step := offset - self._offset) >= STEP:
            self._offset = offset
            self._move_timers(step)
        else:
            # A slewed clock goes a little wrong or right all the time.
            self._offset = offset
        return now

    def timeout(self) -> float | None:
        # Twisted takes the time of the next timer first, and asks for the time then.
        self.seconds()
        return super().timeout()

    def _move_timers(self, step: float) -> None:
        # Those that were cancelled, too: the order among all of them is what Twisted relies on.
        lists = cast(Any, self)
        for call in [*lists._pendingTimedCalls, *lists._newTimedCalls]:
            call.time += step
        log.warning("the system's clock was set, and timers go on as before", seconds=round(step, 3))


def install() -> None:
    """Make it the process's reactor."""
    installReactor(SteadyReactor())  # type: ignore[no-untyped-call]
