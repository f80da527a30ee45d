"""Events of one Asterisk that wait while it is being asked how things are, and are then told in their order.

A channel of which nobody has heard for a while may end while the lists are on their way: told at once, its end would
come before the news, from those lists, of what had happened to it. What the lists say is the owner's business.
"""

from collections.abc import Callable
from typing import Final

from cti.asterisk.ami_parser import Event

#: Lists take a moment only. Beyond this nothing is held, and events are told as they come.
MAX_HELD: Final = 100_000


class HeldEvents:
    """Passes events on to `tell`, but for the time between `hold` and `release`."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        """`tell` does not raise."""
        self._tell = tell
        self._held: list[Event] | None = None

    def take(self, event: Event) -> bool:
        """Whether the event is kept for later; if not, it is to be told now."""
        if self._held is None:
            return False
        self._held.append(event)
        if len(self._held) > MAX_HELD:
            self.release()
        return True

    def hold(self) -> None:
        """Keep what comes from now on. What was kept before is of an earlier connection, and old."""
        self._held = []

    def release(self) -> None:
        """Tell what was kept, and keep nothing more."""
        held, self._held = self._held or (), None
        for event in held:
            self._tell(event)

    def forget(self) -> None:
        """The connection is lost: what was kept is of no use any more."""
        self._held = None
