"""How often something may be tried: a few times at once, then ever more slowly, and never not at all."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from attrs import frozen

from cti.reactors import Clock

_DOUBLINGS: Final = 30


@frozen
class Pace:
    """`free` tries at once, then after 1, 2, 4, … seconds, and one in `seconds` in the long run."""

    free: int
    seconds: float


class Throttle:
    """Counts tries by key, for the `size` keys tried last.

    A try is counted when it begins, so that a hundred at the same moment are a hundred. Each is forgotten after the
    pace's `seconds`.
    """

    def __init__(self, clock: Clock, pace: Pace, *, size: int) -> None:
        self._clock = clock
        self._pace = pace
        self._size = size
        self._tries: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def wait(self, key: Hashable) -> float:
        """Seconds until the next try; 0 if it may be now."""
        count, last = self._tries.get(key, (0.0, 0.0))
        over = count - self._pace.free
        if over < 0:
            return 0.0
        pause: float = min(self._pace.seconds, 2.0 ** min(over, _DOUBLINGS))
        # A clock that was set back must not make anybody wait longer.
        return max(0.0, pause - max(0.0, self._clock.seconds() - last))

    def count(self, key: Hashable) -> None:
        """One more try."""
        now = self._clock.seconds()
        count, last = self._tries.pop(key, (0.0, now))
        self._tries[key] = (max(0.0, count - max(0.0, now - last) / self._pace.seconds) + 1.0, now)
        if len(self._tries) > self._size:
            self._tries.popitem(last=False)

    def give_back(self, key: Hashable) -> None:
        """One of the tries was a good one."""
        count, last = self._tries.get(key, (0.0, 0.0))
        if count > 1.0:
            self._tries[key] = (count - 1.0, last)
        else:
            self.clear(key)

    def clear(self, key: Hashable) -> None:
        """The tries of this key are forgotten."""
        self._tries.pop(key, None)
