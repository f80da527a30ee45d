"""Sending what is read bit by bit, no faster than the client takes it. What is sent is opened by others."""

from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, TimeoutError as DeferredTimeout
from twisted.python.failure import Failure

from cti.calls.recordings import RecordingError
from cti.logs import get_logger
from cti.reactors import Clock
from cti.store.base import StoreError
from cti.web.transport import Request

#: A client that takes nothing for so long is gone.
PATIENCE_SECONDS: Final = 60.0

_log = get_logger(__name__)


class IReading(Protocol):
    """What is sent."""

    async def piece(self) -> bytes:
        """The next piece; none when that was all."""

    def close(self) -> None: ...


class Download:
    """One answer on its way (a push producer of Twisted's)."""

    def __init__(self, request: Request, reading: IReading, clock: Clock) -> None:
        self._request = request
        self._reading = reading
        self._clock = clock
        self._paused: Deferred[None] | None = None

    def start(self) -> None:
        """Take over the request, whose headers are set."""
        self._request.registerProducer(self, True)  # type: ignore[no-untyped-call]
        sending = Deferred.fromCoroutine(self._send())
        self._request.notifyFinish().addErrback(lambda _: sending.cancel())
        sending.addErrback(self._broken_off).addBoth(lambda _: self._reading.close())

    async def _send(self) -> None:
        while piece := await self._reading.piece():
            self._request.write(piece)  # type: ignore[no-untyped-call]
            if self._paused is not None:
                await self._paused.addTimeout(PATIENCE_SECONDS, self._clock)  # type: ignore[arg-type]
        self._request.unregisterProducer()  # type: ignore[no-untyped-call]
        self._request.finish()  # type: ignore[no-untyped-call]

    def _broken_off(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, RecordingError | StoreError):
            _log.warning("a download broke off", why=str(error))
        elif not isinstance(error, CancelledError | DeferredTimeout):
            _log.error("a download failed", exception=failure.getTraceback())
        if not self._request.gone:
            # Half of it is sent: only the connection's end says that the rest does not come.
            self._request.connection.abortConnection()

    def pauseProducing(self) -> None:
        if self._paused is None:
            self._paused = Deferred()

    def resumeProducing(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None and not paused.called:
            paused.callback(None)

    def stopProducing(self) -> None:
        self.resumeProducing()
