"""Who has had no desktop open for a while, where that is what it takes to be offered calls."""

from collections.abc import Callable, Iterable
from typing import Final

#: Seconds without a desktop after which it counts: a page is loaded anew, a network blinks, this server restarts.
GRACE: Final = 15.0


class Presence:
    """When each agent's desktop was seen open last."""

    def __init__(self, is_open: Callable[[str], bool]) -> None:
        self._is_open = is_open
        self._seen: dict[str, float] = {}

    def missing(self, agents: Iterable[str], now: float) -> set[str]:
        """Those of `agents` who have been without one for too long; whom we have just got to know are not."""
        before, self._seen = self._seen, {}
        for agent in agents:
            self._seen[agent] = now if self._is_open(agent) else before.get(agent, now)
        return {agent for agent, at in self._seen.items() if now - at > GRACE}
