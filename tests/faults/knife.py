"""A way for AGI connections through a test's hands that cuts each after a given byte of its conversation."""

import re
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from attrs import define, frozen

from lab.ports import LOOPBACK


@frozen
class Cut:
    """Where a connection ends: after `after` bytes of Asterisk's question and replies, or of our answer.

    `how`: `fin` closes it, `rst` breaks it off as a machine does that loses its power and comes back.
    """

    of: Literal["asterisk", "us"]
    after: int
    how: Literal["fin", "rst"]


@define
class Made:
    """A cut that was to be made: `made` says that the conversation came so far."""

    cut: Cut
    made: bool = False
    passed: int = 0


class Knife:
    """Forwards from `port` to `target`; the first question of each call takes the next of `cuts`."""

    def __init__(self, cuts: list[Cut]) -> None:
        self.target = 0
        self.done: list[Made] = []
        self._cuts: Iterator[Cut] = iter(cuts)
        self._listener = socket.create_server((LOOPBACK, 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        question = b""
        with suppress(OSError):
            while b"\n\n" not in question:
                if not (piece := near.recv(65536)):
                    return
                question += piece
        first = re.search(rb"\nagi_arg_\d+: attempt=1\n", question) is not None
        cut = next(self._cuts, None) if first else None
        entry = None
        if cut is not None:
            entry = Made(cut)
            self.done.append(entry)
        with near, socket.socket() as far, suppress(OSError):
            far.connect((LOOPBACK, self.target))
            if _passes(question, far, "asterisk", entry):
                while _passes_on(near, far, entry):
                    pass
            if entry is not None and entry.made and entry.cut.how == "rst":
                for end in (near, far):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _passes_on(near: socket.socket, far: socket.socket, entry: Made | None) -> bool:
    """Hands over what has come on either side; whether there is more to do."""
    for source in select.select([near, far], [], [])[0]:
        whose: Literal["asterisk", "us"] = "asterisk" if source is near else "us"
        data = source.recv(65536)
        if not data or not _passes(data, far if source is near else near, whose, entry):
            return False
    return True


def _passes(data: bytes, sink: socket.socket, whose: str, entry: Made | None) -> bool:
    """Hands over `data`, or as much of it as comes before the cut; whether all of it went."""
    if entry is not None and entry.cut.of == whose:
        left = entry.cut.after - entry.passed
        entry.passed += len(data)
        if len(data) >= left:
            sink.sendall(data[:left])
            entry.made = True
            return False
    sink.sendall(data)
    return True
