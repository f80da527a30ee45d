"""Recordings of calls: what their files are called, and reading them where the Asterisk that made them keeps them.

Who may hear one is the API's to say; that one is made, `control`'s.
"""

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from threading import BoundedSemaphore
from typing import Any, BinaryIO, Final, NoReturn, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol as TwistedProtocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone, ResponseFailed
from twisted.web.http_headers import Headers

from cti.logs import get_logger
from cti.settings import Recordings as Place
from cti.store.records import CallRecord

log = get_logger("cti.calls.recordings")

#: Bytes that are read at once.
CHUNK: Final = 64 * 1024
#: So many may be heard at once; each holds a thread while it reads, or a connection.
MAX_OPEN: Final = 8
#: Seconds for the PBX's web server, or the disk that is mounted from it, to give the next piece.
PIECE_SECONDS: Final = 15.0

_FILE: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:-([2-9]|[1-9][0-9]))?\.wav")


class RecordingError(Exception):
    """A recording cannot be had; the text tells a person why."""


class NoRecording(RecordingError):
    """There is none."""


class RecordingAway(RecordingError):
    """It cannot be read now."""


def next_file(record: CallRecord) -> str:
    """The name of the next recording of this call: its id, and a number from the second on."""
    last = _FILE.fullmatch(record.recording or "")
    return _name(record.id, 1 if last is None else int(last[2] or 1) + 1)


def file_of(record: CallRecord, part: int | None) -> str:
    """The name of a recording of this call, by default the last. Raises `NoRecording`.

    Only names that are made here come out: nothing that a client sends becomes part of a path.
    """
    last = _FILE.fullmatch(record.recording or "")
    if last is None or last[1] != record.id:
        raise NoRecording("this call was not recorded")
    parts = int(last[2] or 1)
    if part is not None and not 1 <= part <= parts:
        raise NoRecording(f"this call has {parts} recordings")
    return _name(record.id, parts if part is None else part)


def all_of(recording: str | None) -> list[str]:
    """The names of all recordings of the call whose last one is called this."""
    last = _FILE.fullmatch(recording or "")
    return [] if last is None else [_name(last[1], part) for part in range(1, int(last[2] or 1) + 1)]


def remove(place: Place, recording: str | None) -> int:
    """Delete all recordings of the call whose last one is called this; how many there were. Blocks.

    Raises `RecordingAway` where only a web server has them, `OSError`.
    """
    files = all_of(recording)
    if files and place.directory is None:
        raise RecordingAway("only the PBX itself can delete recordings that are fetched from its web server")
    removed = 0
    for file in files:
        try:
            os.unlink(os.path.join(str(place.directory), file))
            removed += 1
        except FileNotFoundError:
            pass
    return removed


def _name(call: str, part: int) -> str:
    return f"{call}.wav" if part == 1 else f"{call}-{part}.wav"


class Recordings:
    """Opens recordings, in the directories or at the web servers of the Asterisks that made them."""

    def __init__(
        self,
        places: Mapping[str, Place],
        reactor: Any,
        in_thread: Callable[[Callable[[], Any]], "Deferred[Any]"],
    ) -> None:
        """`places`: where each Asterisk's are. `in_thread` runs a function outside of the reactor."""
        self._places = places
        self._reactor = reactor
        self._in_thread = _Threads(in_thread)
        self._agent: Any = Agent(reactor, connectTimeout=PIECE_SECONDS)  # type: ignore[no-untyped-call]
        self._open = 0

    async def open(self, record: CallRecord, part: int | None = None) -> "Reading":
        """Raises `NoRecording`, `RecordingAway`."""
        file = file_of(record, part)
        place = self._places.get(record.pbx)
        if place is None:
            raise RecordingAway(
                f"nobody has said where the recordings of {record.pbx} are; asterisks.{record.pbx}.recordings"
                " would say it"
            )
        if self._open >= MAX_OPEN:
            raise RecordingAway(f"{MAX_OPEN} recordings are being heard already; try again")
        self._open += 1
        try:
            if place.url is not None:
                size, source = await self._at_web(f"{place.url}/{file}")
            else:
                size, source = await self._on_disk(str(place.directory), file)
        except BaseException:
            self._open -= 1
            raise
        return Reading(size, source, self._in_time, self._closed)

    def _closed(self) -> None:
        self._open -= 1

    async def _on_disk(self, directory: str, file: str) -> tuple[int, "_Source"]:
        # Perhaps mounted from the PBX's host, and that may hang: never in the reactor.
        try:
            opened, size = await self._in_time(
                self._in_thread(lambda: _opened(os.path.join(directory, file)))
            )
        except FileNotFoundError as error:
            raise NoRecording("the recording is not there, or not yet") from error
        except OSError as error:
            raise RecordingAway(f"the recording cannot be read: {error.strerror}") from error
        return size, _File(opened, self._in_thread)

    async def _at_web(self, url: str) -> tuple[int | None, "_Source"]:
        try:
            response = await self._in_time(self._agent.request(b"GET", url.encode(), Headers({})))
        except (ConnectError, DNSLookupError, ResponseFailed) as error:
            log.warning("recordings cannot be fetched", why=type(error).__name__)
            raise RecordingAway("the PBX's web server does not answer") from error
        body = _Body()
        response.deliverBody(body)
        if response.code != 200:
            body.close()
            if response.code == 404:
                raise NoRecording("the recording is not there, or not yet")
            raise RecordingAway(f"the PBX's web server answered {response.code}")
        return response.length if isinstance(response.length, int) else None, body

    async def _in_time(self, work: "Deferred[Any]") -> Any:
        return await work.addTimeout(PIECE_SECONDS, self._reactor, onTimeoutCancel=_too_late)


class _Threads:
    """Runs what may hang in threads, in `MAX_OPEN` at most: those of a mount that never answers never come back."""

    def __init__(self, in_thread: Callable[[Callable[[], Any]], "Deferred[Any]"]) -> None:
        self._in_thread = in_thread
        self._free = BoundedSemaphore(MAX_OPEN)

    def __call__(self, work: Callable[[], Any]) -> "Deferred[Any]":
        if not self._free.acquire(blocking=False):
            return fail(RecordingAway("the disk that has the recordings does not answer"))

        def then_free() -> Any:
            try:
                return work()
            finally:
                self._free.release()

        return self._in_thread(then_free)


def _too_late(_result: object, _seconds: float) -> NoReturn:
    raise RecordingAway("the PBX's host does not give the recording in time")


def _opened(path: str) -> tuple[BinaryIO, int]:
    # A link that somebody has put there could lead anywhere.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    return file, os.fstat(file.fileno()).st_size


class Reading:
    """A recording being read. `size`: its bytes, None if nobody says."""

    def __init__(
        self,
        size: int | None,
        source: "_Source",
        in_time: Callable[["Deferred[Any]"], Awaitable[Any]],
        closed: Callable[[], None],
    ) -> None:
        self.size = size
        self._source = source
        self._in_time = in_time
        self._closed: Callable[[], None] | None = closed

    async def piece(self) -> bytes:
        """The next bytes, none at the end. Raises `RecordingAway`."""
        try:
            piece: bytes = await self._in_time(self._source.piece())
        except OSError as error:
            raise RecordingAway(f"the recording cannot be read on: {error.strerror}") from error
        return piece

    def close(self) -> None:
        """Nobody reads on; may be called again."""
        closed, self._closed = self._closed, None
        if closed is not None:
            self._source.close()
            closed()


class _Source(Protocol):
    def piece(self) -> "Deferred[bytes]": ...
    def close(self) -> None: ...


class _File:
    def __init__(self, file: BinaryIO, in_thread: Callable[[Callable[[], Any]], "Deferred[Any]"]) -> None:
        self._file = file
        self._in_thread = in_thread

    def piece(self) -> "Deferred[bytes]":
        return self._in_thread(lambda: self._file.read(CHUNK))

    def close(self) -> None:
        # A thread may be reading; the file waits for it.
        self._in_thread(self._file.close).addErrback(
            lambda failure: log.debug("a recording was not closed", why=failure.getErrorMessage())
        )


class _Body(TwistedProtocol):
    """The body of a web server's answer, taken no faster than it is asked for."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._end: Failure | None = None
        self._waiting: Deferred[bytes] | None = None

    def piece(self) -> "Deferred[bytes]":
        waiting: Deferred[bytes] = Deferred()
        self._waiting = waiting
        self._give()
        if not waiting.called and self.transport is not None:
            self._producer.resumeProducing()
        return waiting

    def close(self) -> None:
        if self.transport is not None and self._end is None:
            self._producer.loseConnection()

    @property
    def _producer(self) -> Any:
        return self.transport

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._producer.pauseProducing()
        self._give()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end = reason
        self._give()

    def _give(self) -> None:
        waiting = self._waiting
        if waiting is None or waiting.called or not (self._pieces or self._end is not None):
            return
        self._waiting = None
        if self._pieces:
            given, self._pieces = b"".join(self._pieces), []
            waiting.callback(given)
        elif self._end is not None and isinstance(self._end.value, ResponseDone):
            waiting.callback(b"")
        else:
            waiting.errback(RecordingAway("the PBX's web server broke off"))
