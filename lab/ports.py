"""Free ports on the loopback, kept apart between test runs that go on at the same time.

Who listens on a port, and when, is the business of the caller."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import define, field

_FIRST_PORT = 10_000
_BLOCK_SIZE = 1_000
# Below 32768, where Linux begins to hand out ports to clients of its own accord.
_BLOCKS = 22

LOOPBACK = "127.0.0.1"


class NoFreePort(RuntimeError):
    """All blocks are taken, or every port of a block is in use."""


@define
class PortBlock:
    """One thousand ports nobody else's block has; `take()` gives them one by one, `rest()` what is left.

    The claim is an abstract Unix socket: the kernel drops it with the process, however that ends, and it
    belongs to the network namespace, as the ports do.
    """

    first: int
    _claim: socket.socket
    _next: int = field(init=False)

    @_next.default
    def _start_at_the_first(self) -> int:
        return self.first

    @classmethod
    def claim(cls) -> PortBlock:
        """Claims a free block. Raises NoFreePort when there is none."""
        for block in random.sample(range(_BLOCKS), _BLOCKS):
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0cordboard-lab-ports-{block}")
            except OSError:
                claim.close()
                continue
            return cls(first=_FIRST_PORT + block * _BLOCK_SIZE, claim=claim)
        raise NoFreePort(f"all {_BLOCKS} blocks of ports from {_FIRST_PORT} on are in use by other labs")

    @property
    def last(self) -> int:
        """The highest port of the block."""
        return self.first + _BLOCK_SIZE - 1

    def take(self) -> int:
        """A port on which, a moment ago, nobody listened by UDP or TCP. Raises NoFreePort.

        Ports taken long ago and free again come back when all others have had their turn.
        """
        for _ in range(_BLOCK_SIZE):
            port = self._next
            self._next = self.first if port == self.last else port + 1
            if is_free(port):
                return port
        raise NoFreePort(f"no free port left in {self.first}-{self.last}")

    def rest(self) -> tuple[int, int]:
        """The ports after those taken so far, as (first, last), the first one even: RTP wants pairs.

        They are for one who binds them himself; nothing is to be taken from the block afterwards.
        """
        first = self._next + self._next % 2
        return first, self.last

    def release(self) -> None:
        """Gives the block back."""
        self._claim.close()


@contextmanager
def a_port() -> Iterator[int]:
    """A port that is nobody else's meanwhile, also while nobody listens on it yet."""
    block = PortBlock.claim()
    try:
        yield block.take()
    finally:
        block.release()


def is_free(port: int) -> bool:
    """Whether nobody listens on the port of 127.0.0.1, by UDP or by TCP."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            # A finished connection in TIME_WAIT is no listener.
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                return False
    return True


def udp_listener_exists(port: int) -> bool:
    """Whether a process has bound the UDP port on 127.0.0.1; looked up, so that it is not disturbed."""
    wanted = f"0100007F:{port:04X}"
    with open("/proc/net/udp", encoding="ascii") as table:
        return any(line.split()[1] == wanted for line in table)
