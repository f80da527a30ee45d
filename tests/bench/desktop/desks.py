"""The other side: thousands of desktops, each reading its event stream as a browser does, beside the calls' load.

`python -m tests.bench.desktop.desks` takes the orders of `tests.bench.load` and some about desktops. One that
loses its stream waits as long as the server has told it to, and comes back with the number of its last event.
"""

import re
import select
import socket
import time
from contextlib import suppress
from typing import Any, Final

from attrs import define, field

from tests.bench.load import Load, Round, Session

_HOST: Final = "127.0.0.1"
#: Connections that are being made at once, unless all are to come at once.
_WINDOW: Final = 100
_ID: Final = re.compile(rb"(?:^|\n)id: (\d+)\nevent: ([\w.]+)\n")
_CALL: Final = re.compile(rb'"call":\{"id":"([^"]+)"')
_BEGINNING: Final = re.compile(rb"(?:^|\n)retry: (\d+)(?:\nid: (\d+))?$")


@define(eq=False)
class Desk:
    """One desktop. `seen`: the numbers of its events; `up`: since when its stream has been open, else None;
    `began`: the number that its stream began at, `number`: with which it comes back.
    """

    port: int
    token: str
    link: socket.socket | None = None
    unread: bytes = b""
    up: float | None = None
    seen: list[int] = field(factory=list)
    number: int | None = None
    began: int | None = None
    last: float = 0.0
    retry: float = 1.0
    lost: int = 0


@define
class Awaited:
    """What an order waits for: all desks open, and so many cards or events in all."""

    began: float
    events: int = 0
    cards: int = 0


class Desks(Load):
    """Calls and desktops in one thread, so that the time between them is one clock's."""

    def __init__(self) -> None:
        super().__init__()
        self._desks: list[Desk] = []
        self._to_open: list[Desk] = []
        self._opening = 0
        self._up = 0
        self._events = 0
        self._marked = 0
        self._awaited: Awaited | None = None
        self._began: dict[str, float] = {}
        self._painted: dict[str, float] = {}
        self._first_card = 0.0
        self._last_card = 0.0

    def _do(self, order: dict[str, Any]) -> None:
        match order["do"]:
            case "open":
                # Answered when all are open.
                self._awaited = Awaited(time.perf_counter(), self._events)
                self._desks += (new := [Desk(order["port"], token) for token in order["tokens"]])
                self._to_open += reversed(new)
                self._open_some(order.get("at_once", _WINDOW))
            case "cut":
                # Answered when all are open again and have had so many events more.
                self._awaited = Awaited(time.perf_counter(), self._events + order["events"])
                for desk in self._desks[: order["desks"]]:
                    desk.retry = order["retry"]
                    self._lose(desk)
            case "leave":
                # All come back by themselves, each when the server has told it to.
                for desk in self._desks:
                    self._lose(desk)
                self._answer()
            case "mark":
                self._marked = self._events
                self._answer()
            case "await":
                # Answered when all are open again and have had so many events since the mark.
                self._awaited = Awaited(order["since"], self._marked + order["events"])
                self._look()
            case "cards":
                # Answered when so many more cards have come.
                self._first_card = 0.0
                self._awaited = Awaited(time.perf_counter(), 0, self._cards + order["cards"])
                self._answer()
            case "close":
                for desk in self._desks:
                    if desk.link is not None:
                        self._drop(desk.link)
                self._desks.clear()
                self._up = 0
                self._answer()
            case "seen":
                self._answer(
                    seen=[desk.seen for desk in self._desks], began=[desk.began for desk in self._desks]
                )
            case "paint":
                delays = sorted(
                    at - self._began[call] for call, at in self._painted.items() if call in self._began
                )
                self._answer(
                    calls=len(self._began),
                    cards=len(delays),
                    **(
                        {
                            "p50": delays[len(delays) // 2],
                            "p99": delays[len(delays) * 99 // 100],
                            "longest": delays[-1],
                        }
                        if delays
                        else {}
                    ),
                )
                self._began.clear()
                self._painted.clear()
            case _:
                super()._do(order)

    def _over(self, round: Round, session: Session) -> None:
        self._began[session.id] = session.began
        super()._over(round, session)

    # Streams.

    def _open_some(self, window: int) -> None:
        while self._to_open and self._opening < window:
            self._open(self._to_open.pop())

    def _open(self, desk: Desk) -> None:
        self._opening += 1
        desk.link = socket.socket()
        desk.link.setblocking(False)
        with suppress(BlockingIOError):
            desk.link.connect((_HOST, desk.port))
        self._ready[desk.link.fileno()] = lambda: self._connected(desk)
        self._poll.register(desk.link.fileno(), select.EPOLLOUT)

    def _connected(self, desk: Desk) -> None:
        connection = desk.link
        assert connection is not None
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lose(desk)
            return
        resume = "" if desk.number is None else f"Last-Event-ID: {desk.number}\r\n"
        request = (
            f"GET /api/v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {desk.token}\r\n{resume}"
        )
        connection.sendall(f"{request}\r\n".encode())
        self._ready[connection.fileno()] = lambda: self._read(desk)
        self._poll.modify(connection.fileno(), select.EPOLLIN)

    def _lose(self, desk: Desk) -> None:
        connection = desk.link
        if connection is None:
            return
        if desk.up is None:
            self._opening -= 1
        else:
            self._up -= 1
        self._drop(connection)
        desk.link, desk.up, desk.unread = None, None, b""
        desk.lost += 1
        self._at(time.perf_counter() + desk.retry, lambda: self._open(desk))

    def _read(self, desk: Desk) -> None:
        connection = desk.link
        assert connection is not None
        try:
            data = connection.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._lose(desk)
            return
        now = time.perf_counter()
        *blocks, desk.unread = (desk.unread + data).split(b"\n\n")
        for block in blocks:
            beginning = _BEGINNING.search(block)
            if beginning is not None:
                if desk.up is None:
                    self._opening -= 1
                    self._up += 1
                    desk.up = now
                    self._open_some(_WINDOW)
                desk.retry = int(beginning[1]) / 1000
                if beginning[2]:
                    desk.number = desk.began = int(beginning[2])
            found = _ID.search(block)
            if found is not None:
                desk.number = int(found[1])
                desk.seen.append(desk.number)
                desk.last = now
                self._events += 1
                if found[2] == b"card.offered":
                    self._card(block, now)
        self._look()

    def _card(self, block: bytes, now: float) -> None:
        self._cards += 1
        self._first_card = self._first_card or now
        self._last_card = now
        call = _CALL.search(block)
        if call is not None:
            self._painted[call[1].decode()] = now

    def _look(self) -> None:
        awaited = self._awaited
        if awaited is None or self._up < len(self._desks):
            return
        if self._events < awaited.events or self._cards < awaited.cards:
            return
        self._awaited = None
        back = sorted(max(desk.up or 0.0, desk.last) - awaited.began for desk in self._desks)
        self._answer(
            seconds=time.perf_counter() - awaited.began,
            half=back[len(back) // 2],
            cards=self._last_card - self._first_card,
            attempts=sum(desk.lost for desk in self._desks),
        )


if __name__ == "__main__":
    Desks().run()
