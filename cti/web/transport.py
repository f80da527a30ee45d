"""The parts of Twisted that the web needs, as types, and a request and a channel with limits.

Twisted describes its reactor by zope interfaces, which a type checker cannot read without a plug-in. What a
request means is not looked at here.
"""

from io import BytesIO
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http_headers import Headers

from cti.reactors import Clock, DelayedCall

#: Bytes of a body that are taken. What is longer is read, thrown away and answered with 413, up to the next.
BODY_LIMIT: Final = 64 * 1024
#: Beyond this the connection is closed: reading on would only serve the sender.
DRAIN_LIMIT: Final = 1024 * 1024
HEADER_BYTES: Final = 16 * 1024
HEADER_COUNT: Final = 100
URL_LIMIT: Final = 8 * 1024
#: A request must be here completely within so many seconds of its first byte.
REQUEST_SECONDS: Final = 20.0
#: Between two requests a connection may be idle for so long.
IDLE_SECONDS: Final = 60.0


#: Nobody adds to them: an answer that has begun has had its own.
_NO_HEADERS: Final = Headers()


class Transport(Protocol):
    """A connection (ITCPTransport)."""

    def write(self, data: bytes, /) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...


class StreamRequest(Protocol):
    """A request that is answered bit by bit (`twisted.web.http.Request`)."""

    @property
    def connection(self) -> Transport: ...

    def setHeader(self, name: str, value: str) -> None: ...
    def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def registerProducer(self, producer: Any, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def notifyFinish(self) -> Deferred[None]: ...
    def forget_headers(self) -> None: ...


class Request(http.Request):
    """A request whose body is bounded; `too_large` says that it was longer, and is not there.

    `gone` becomes True when the client has left; `route` is the path's pattern in the table, once found, and `role`
    that of who asks.
    """

    def __init__(self, channel: "Channel", queued: object = None) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.too_large = False
        self.gone = False
        self.route: str | None = None
        self.role: str | None = None
        self._received = 0
        self._refused = False

    @property
    def connection(self) -> Transport:
        return cast(Transport, self.transport)

    def forget_headers(self) -> None:
        """To be called once the answer has begun: one that lasts for hours keeps no 3 kB of its first moment."""
        self.requestHeaders = self.responseHeaders = _NO_HEADERS

    def gotLength(self, length: int | None) -> None:
        """Called by the channel with the length announced, None if the body comes in chunks."""
        self.content = BytesIO()
        if length is not None and length > BODY_LIMIT:
            self.too_large = True
            # Who asks before sending much is not told to go on.
            self.requestHeaders.removeHeader(b"Expect")

    def handleContentChunk(self, data: bytes) -> None:
        """Called by the channel with each piece of the body."""
        self._received += len(data)
        if self._received > DRAIN_LIMIT:
            if not self._refused:
                self._refuse(b"413 Request Entity Too Large")
        elif self._received > BODY_LIMIT:
            self.too_large = True
        if not self.too_large:
            cast(BytesIO, self.content).write(data)

    def _refuse(self, status: bytes) -> None:
        """Say so and close: nothing that comes on this connection is a request any more."""
        self._refused = True
        self.connection.write(b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        self.connection.loseConnection()

    def body(self) -> bytes:
        """All of it, once `process` is called."""
        return cast(BytesIO, self.content).getvalue()

    def process(self) -> None:
        """Called by the channel when the whole request is here."""
        if len(self.requestHeaders.getRawHeaders(b"Transfer-Encoding") or ()) > 1:
            # A proxy may have counted by the other; what came behind this request is not looked at.
            self._refuse(b"400 Bad Request")
        if not self.gone and not self._refused:
            self._make_headers_readable()
            self.channel.factory.answer(self)

    def _make_headers_readable(self) -> None:
        """Take what is not UTF-8 for the Latin-1 that it once was (RFC 9110, 5.5): headers are read as text."""
        for name, values in list(self.requestHeaders.getAllRawHeaders()):
            try:
                b"".join(values).decode()
            except UnicodeDecodeError:
                readable = [value.decode("latin-1").encode() for value in values]
                self.requestHeaders.setRawHeaders(name, readable)

    def connectionLost(self, reason: Failure) -> None:
        self.gone = True
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class Channel(http.HTTPChannel):
    """A connection with a limit on the header, and a deadline on each request as a whole.

    Twisted's own timeout is of silence: a byte a minute would keep a connection for ever.
    """

    totalHeadersSize = HEADER_BYTES
    maxHeaders = HEADER_COUNT
    requestFactory = Request  # type: ignore[assignment]

    _deadline: DelayedCall | None = None

    def dataReceived(self, data: bytes) -> None:
        if self._deadline is None and not self._handlingRequest:
            clock: Clock = self.factory.reactor
            self._deadline = clock.callLater(REQUEST_SECONDS, self._too_slow)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        self._cancel_deadline()
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self._cancel_deadline()
        self.factory.channels.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _too_slow(self) -> None:
        self._deadline = None
        cast(Transport, self.transport).abortConnection()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
