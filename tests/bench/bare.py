"""What FastAGI costs on Twisted when nothing is done: reads the request, sets the same variables, hangs up.

python -m tests.bench.bare PORT
"""

import sys
from typing import Any

from twisted.internet import epollreactor
from twisted.internet.protocol import Factory, Protocol

#: As long as the server's own answer to the same question.
ANSWER = [
    ("__CTI_CALL_ID", "01a20447-5bd9-7fd3-8ec1-fafaea957a55"),
    ("CTI_TARGET", "PJSIP/agent07"),
    ("CTI_TIMEOUT", "20"),
    ("CTI_REASON", "rest: agent07 is longest idle in sales"),
    ("CTI_CALLER_NAME", "Customer 123456"),
    ("CTI_LANGUAGE", "de"),
    ("CTI_ACTION", "dial"),
]
_LINES = [f'SET VARIABLE {name} "{value}"\n'.encode() for name, value in ANSWER]
_BACKLOG = 1024


class Bare(Protocol):
    """One session."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        self._buffer = b""
        self._lines = iter(_LINES)
        self.headers: dict[str, str] | None = None

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        self._buffer += data
        if self.headers is None:
            block, end, self._buffer = self._buffer.partition(b"\n\n")
            if not end:
                self._buffer = block
                return
            self.headers = dict([line.split(": ", 1) for line in block.decode().split("\n")])
        elif self._buffer != b"200 result=1\n":
            return
        self._buffer = b""
        line = next(self._lines, None)
        if line is None:
            transport.loseConnection()
        else:
            transport.write(line)


def main(port: int) -> None:
    epollreactor.install()  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    chosen: Any = reactor
    factory = Factory.forProtocol(Bare)
    factory.noisy = False
    chosen.listenTCP(port, factory, backlog=_BACKLOG, interface="127.0.0.1")
    chosen.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
