"""The parts of a Twisted reactor that these protocols use, as types.

Twisted describes its reactor by zope interfaces, which a type checker cannot read without a plug-in.
"""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory


class DelayedCall(Protocol):
    """What `callLater` gives (IDelayedCall)."""

    def cancel(self) -> None: ...

    def active(self) -> bool: ...

    def reset(self, seconds: float, /) -> None: ...


class Clock(Protocol):
    """Time (IReactorTime): `seconds` is Unix time with a real reactor."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, call: Callable[..., Any], /, *args: Any) -> DelayedCall: ...


class TcpServerReactor(Protocol):
    """Listening (IReactorTCP)."""

    def listenTCP(
        self, port: int, factory: Factory, /, backlog: int = 50, interface: str = ""
    ) -> IListeningPort: ...


class TcpTransport(Protocol):
    """A connection (ITCPTransport)."""

    def write(self, data: bytes, /) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...

    def setTcpNoDelay(self, enabled: bool, /) -> None: ...

    def setTcpKeepAlive(self, enabled: bool, /) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...
