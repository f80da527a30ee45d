"""The daemon, which also pushes cards that no call asked for, as fast as the log and its streams take them.

    python -m tests.bench.desktop.pushing CARDS serve -c FILE

SIGUSR1 begins: events in the log, one for each agent in turn, committed and published as those of calls are.
"""

import signal
import sys
from typing import Any

from cti.cli import main
from cti.service import CtiService
from tests.bench.desktop.cards import AT_ONCE, body

#: Commits on their way, so that the disk is not what waits.
_IN_FLIGHT = 4

_start = CtiService.startService


def start_and_push_when_told(self: CtiService) -> None:
    """The server's own start."""
    _start(self)
    reactor: Any = self._reactor
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(Pushing(self, cards).begin))


class Pushing:
    """One run of cards."""

    def __init__(self, service: CtiService, cards: int) -> None:
        self._service = service
        self._cards = cards
        self._agents = sorted(view.id for view in service.roster.views())
        self._next = 0

    def begin(self) -> None:
        for _ in range(_IN_FLIGHT):
            self._commit()

    def _commit(self, _: object = None) -> None:
        until = min(self._next + AT_ONCE, self._cards)
        if self._next == until:
            return
        unit = self._service.store.unit()
        for number in range(self._next, until):
            agent = self._agents[number % len(self._agents)]
            unit.emit("card.offered", self._service._now(), body(number), agents=[agent])
        self._next = until
        self._service.store.commit(unit).addCallback(self._commit)


if __name__ == "__main__":
    cards = int(sys.argv[1])
    CtiService.startService = start_and_push_when_told  # type: ignore[method-assign]
    sys.exit(main(sys.argv[2:]))
