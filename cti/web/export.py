"""The call log as one long answer: page by page out of the store, so that a million calls need no more than a page.

Between two pages nothing is held, neither a place in the database nor its writer; calls that begin meanwhile are
newer than what has been read, and not in it. Sending, and the end of whoever reads, are `download`'s.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Protocol

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from cti.calls.present import CALL_COLUMNS, call_cells, call_json, harmless
from cti.store.base import CallFilter
from cti.store.records import CallRecord
from cti.web.problems import Problem

#: Calls that are read and written at once, and the seconds after them in which nothing is. While another thread
#: computes, each step of the reactor's waits for the interpreter, up to 5 ms each: so it computes for about as long
#: as that, and half of the time not at all.
_PAGE: Final = 100
_PAUSE: Final = 0.005
#: So many are sent at once.
MOST_AT_ONCE: Final = 4

Masked = Callable[[bytes], bytes]


class ICalls(Protocol):
    """What is needed of a store."""

    def calls(
        self, where: CallFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallRecord], str | None]]": ...


class IForm(Protocol):
    """How calls are written."""

    def head(self) -> bytes:
        """What stands before the first."""

    def written(self, calls: Sequence[CallRecord]) -> bytes: ...


class CallsAsLines:
    """A line of JSON each, as a call of `GET /api/v1/calls` is."""

    MEDIA_TYPE: ClassVar[str] = "application/jsonl"

    def __init__(self, masked: Masked | None) -> None:
        """`masked`: what of a JSON document who asks gets to see; None: all."""
        self._masked = masked

    def head(self) -> bytes:
        return b""

    def written(self, calls: Sequence[CallRecord]) -> bytes:
        lines = (orjson.dumps(call_json(call)) for call in calls)
        return b"".join((line if self._masked is None else self._masked(line)) + b"\n" for line in lines)


class CallsAsCsv:
    """RFC 4180, as `cti calls --format csv` writes it."""

    MEDIA_TYPE: ClassVar[str] = "text/csv; charset=utf-8"

    def __init__(self, masked: Masked | None) -> None:
        self._masked = masked

    def head(self) -> bytes:
        return _csv([CALL_COLUMNS])

    def written(self, calls: Sequence[CallRecord]) -> bytes:
        return _csv([harmless(cell) for cell in call_cells(self._seen(call_json(call)))] for call in calls)

    def _seen(self, call: dict[str, Any]) -> dict[str, Any]:
        if self._masked is None:
            return call
        seen: dict[str, Any] = orjson.loads(self._masked(orjson.dumps(call)))
        return seen


class Exports:
    """How many are being sent."""

    def __init__(self) -> None:
        self._open = 0

    @contextmanager
    def one(self) -> Iterator[Callable[[], None]]:
        """A place for one more, and what gives it back when it is over. Raises `Problem`."""
        if self._open >= MOST_AT_ONCE:
            raise Problem(
                503,
                f"{MOST_AT_ONCE} exports are being sent already; try again later",
                headers={"Retry-After": "30"},
                kind="too-many-exports",
            )
        self._open += 1
        try:
            yield self._closed
        except BaseException:
            self._closed()
            raise

    def _closed(self) -> None:
        self._open -= 1


class CallExport:
    """The calls that `where` means, newest first, piece by piece."""

    def __init__(
        self,
        store: ICalls,
        where: CallFilter,
        form: IForm,
        in_thread: Callable[[Callable[[], Any]], "Deferred[Any]"],
        clock: Any,
        closed: Callable[[], None],
    ) -> None:
        """`in_thread` runs a function outside of the reactor; `closed` is told when it is over."""
        self._store = store
        self._where = where
        self._form = form
        self._in_thread = in_thread
        self._clock = clock
        self._closed = closed
        self._first: bytes | None = None
        self._after: str | None = None

    async def begin(self) -> None:
        """Read the first page: who asks hears of a store that does not answer. Raises `StoreError`."""
        self._first = self._form.head() + await self._page()

    async def piece(self) -> bytes:
        """The next page; nothing after the last. Raises `StoreError`."""
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._after is None:
            return b""
        await deferLater(self._clock, _PAUSE)
        return await self._page()

    async def _page(self) -> bytes:
        calls, self._after = await self._store.calls(self._where, _PAGE, self._after)
        written: bytes = await self._in_thread(lambda: self._form.written(calls))
        return written

    def close(self) -> None:
        self._closed()


def _csv(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
