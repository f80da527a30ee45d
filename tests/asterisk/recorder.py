"""The daemon with a recorder at its TCP transports: every piece of bytes, in the order in which the process got
it from its sockets and gave it to them. The daemon itself runs as it is; reading the record is done here too.

    python -m tests.asterisk.recorder RECORD serve -c FILE
"""

import base64
import functools
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field, frozen
from twisted.internet import tcp

from cti.cli import main

COMMAND = (sys.executable, "-m", "tests.asterisk.recorder")


@frozen
class Piece:
    """Bytes that went through a connection at once; `order` counts those of all connections."""

    order: int
    at: float
    sent: bool
    data: bytes


@define
class Connection:
    """What went through one connection that the daemon had accepted."""

    port: int
    pieces: list[Piece] = field(factory=list)

    @property
    def received(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces if not piece.sent)

    @property
    def sent(self) -> bytes:
        return b"".join(piece.data for piece in self.pieces if piece.sent)

    def piece_at(self, position: int) -> Piece:
        """The piece in which the byte at this position of `sent` left."""
        for piece in self.pieces:
            if piece.sent:
                position -= len(piece.data)
                if position < 0:
                    return piece
        raise IndexError("not so much was sent")

    def first_piece_of(self, mark: bytes) -> Piece | None:
        """The piece with the first byte of `mark`, where that was sent."""
        position = self.sent.find(mark)
        return None if position < 0 else self.piece_at(position)

    def events(self, type: str) -> Iterator[tuple[dict[str, Any], Piece]]:
        """The events of this type that were sent, each with the piece that had its last byte."""
        for event in re.finditer(rb"event: %b\ndata: ([^\n]*)\n\n" % re.escape(type.encode()), self.sent):
            yield json.loads(event[1]), self.piece_at(event.end() - 1)


def read_record(path: Path) -> list[Connection]:
    """The connections of a record, oldest first."""
    connections: dict[int, Connection] = {}
    for line in path.read_text("ascii").splitlines():
        number, port, order, at, sent, data = json.loads(line)
        connection = connections.setdefault(number, Connection(port))
        connection.pieces.append(Piece(order, at, sent, base64.b64decode(data)))
    return list(connections.values())


def record_transports(record: BinaryIO) -> None:
    """From now on, write down what the connections of Twisted's listeners receive and send."""
    order, numbers = count(1), count(1)

    def note(connection: Any, sent: bool, data: bytes) -> None:
        if not hasattr(connection, "recorded_as"):
            connection.recorded_as = next(numbers)
        text = base64.b64encode(data).decode()
        port = connection.getHost().port
        line = json.dumps([connection.recorded_as, port, next(order), time.time(), sent, text])
        record.write(line.encode() + b"\n")

    def sending(send: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(send)
        def writeSomeData(self: Any, data: bytes) -> Any:
            taken = send(self, data)
            if isinstance(self, tcp.Server) and isinstance(taken, int) and taken > 0:
                note(self, True, bytes(data[:taken]))
            return taken

        return writeSomeData

    def receiving(receive: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(receive)
        def _dataReceived(self: Any, data: bytes) -> Any:
            if data and isinstance(self, tcp.Server):
                note(self, False, data)
            return receive(self, data)

        return _dataReceived

    # The last step before the socket, so that what only waits in a buffer does not count as written.
    tcp.Connection.writeSomeData = sending(tcp.Connection.writeSomeData)  # type: ignore[method-assign]
    tcp.Connection._dataReceived = receiving(tcp.Connection._dataReceived)  # type: ignore[method-assign]


if __name__ == "__main__":
    with open(sys.argv[1], "wb", buffering=0) as opened:
        record_transports(opened)
        sys.exit(main(sys.argv[2:]))
