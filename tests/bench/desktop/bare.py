"""Server-Sent Events on twisted.web and nothing else: no log-in, no numbers to resume from, no store.

    python -m tests.bench.desktop.bare PORT CARDS

SIGUSR1 has it push so many cards, one after the other to each of its readers in turn.
"""

import signal
import sys
from typing import Any

from twisted.internet import epollreactor
from twisted.web import resource, server

from tests.bench.desktop.cards import AT_ONCE, a_card


class Streams(resource.Resource):
    """Every path is a stream without an end."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.readers: list[Any] = []

    def render_GET(self, request: Any) -> Any:
        request.setHeader("Content-Type", "text/event-stream; charset=utf-8")
        request.write(b"retry: 1000\n\n")
        self.readers.append(request)
        request.notifyFinish().addErrback(lambda _: self.readers.remove(request))
        return server.NOT_DONE_YET

    def push(self, reactor: Any, first: int, cards: int) -> None:
        """Push the cards from number `first` on; the reactor gets its turn between some of them."""
        until = min(first + AT_ONCE, cards)
        for number in range(first, until):
            request = self.readers[number % len(self.readers)]
            request.write(b"id: %d\nevent: card.offered\ndata: %s\n\n" % (number, a_card(number)))
        if until < cards:
            reactor.callLater(0, self.push, reactor, until, cards)


def main(port: int, cards: int) -> None:
    epollreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    chosen: Any = reactor
    streams = Streams()
    signal.signal(signal.SIGUSR1, lambda *_: chosen.callFromThread(streams.push, chosen, 0, cards))
    site: Any = server.Site(streams)  # type: ignore[no-untyped-call]
    chosen.listenTCP(port, site, backlog=1024, interface="127.0.0.1")
    chosen.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
