"""Keeps one adapter's part of the phone index in step with its CRM: the whole list at first, then what changes.

A list is read beside the part that is in use, and replaces it when all of it is there. Numbers are read in a thread.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from adapters.base import (
    AdapterAnswerError,
    AdapterBusy,
    AdapterError,
    Capability,
    IAdapter,
    IChanging,
    ILister,
    ListedParty,
    MarkLost,
)
from adapters.deadline import within
from cti.index.file import IndexBuilder, IndexDamaged, IndexFailed, IndexFile, Row
from cti.index.phone_index import PhoneIndex
from cti.logs import get_logger
from cti.reactors import Clock, DelayedCall

log = get_logger("cti.index")

#: Runs a function that blocks where it holds nobody up.
InThread = Callable[..., "Deferred[Any]"]

#: Seconds that a CRM may take for one page.
PAGE_SECONDS: Final = 60.0
#: So many parties and no more: a CRM that lists for ever would fill the disk.
PARTIES_LIMIT: Final = 20_000_000
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 600.0
#: A list with fewer than this share of whom there was is a CRM gone wrong, unless there were few.
_SHRUNK: Final = 0.5
_FEW: Final = 20


@frozen
class FeedSettings:
    """Seconds between two looks at what has changed, and between two lists of an adapter that cannot tell that.

    Who can tell is listed again after `full_seconds` all the same, since no CRM tells of everything.
    """

    changes_seconds: float = 30.0
    list_seconds: float = 3600.0
    full_seconds: float = 86_400.0


class Shrunk(AdapterError):
    """The CRM lists far fewer parties than before; what was known stays."""


class Feed:
    """One adapter's."""

    def __init__(
        self,
        adapter: ILister,
        index: PhoneIndex,
        clock: Clock,
        in_thread: InThread,
        settings: FeedSettings = FeedSettings(),
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._adapter = adapter
        self._index = index
        self._clock = clock
        self._in_thread = in_thread
        self._settings = settings
        self._jitter = jitter
        self._running: Deferred[None] | None = None
        self._pausing: DelayedCall | None = None
        self._stopped = False

    def start(self) -> None:
        """Go on until `stop`."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    async def stop(self) -> None:
        """Nothing is read or written any more once this returns."""
        self._stopped = True
        running, self._running = self._running, None
        if running is not None:
            done: Deferred[None] = Deferred()
            running.addBoth(lambda _: done.callback(None))
            running.cancel()
            await done

    async def once(self) -> float:
        """Bring the part in step now; the seconds after which that is to be done again.

        Raises `AdapterError`, `IndexFailed`.
        """
        adapter, settings = self._adapter, self._settings
        part = self._index.open(adapter.name)
        due = 0.0
        if part is not None:
            told = await self._told_changes(part)
            every = settings.full_seconds if told else settings.list_seconds
            if told is not None:
                due = float(part.about["listed"]) + every - self._clock.seconds()
        if part is None or due <= 0:
            part = await self.read_list()
            due = settings.list_seconds
        return settings.changes_seconds if self._mark(part) else due

    def _mark(self, part: IndexFile) -> str | None:
        """From where the CRM can tell what has changed; None if it never could."""
        return part.about.get("mark") if Capability.CHANGES in self._adapter.capabilities else None

    async def _told_changes(self, part: IndexFile) -> bool | None:
        """Take over what the CRM says has changed. False: it never could say that; None: it no longer can.

        Before the list, if that is due as well: a CRM whose list fails, or has shrunk, may still tell this.
        """
        adapter, mark = self._adapter, self._mark(part)
        if mark is None or not isinstance(adapter, IChanging):
            return False
        try:
            await self._read_changes(adapter, part, mark)
        except MarkLost:
            log.info("the CRM does not know any more what has changed", adapter=adapter.name)
            return None
        return True

    async def read_list(self, *, although_shrunk: bool = False) -> IndexFile:
        """Everybody anew. Raises `AdapterError`, `IndexFailed`."""
        adapter, index = self._adapter, self._index
        began = self._clock.seconds()
        before = index.part(adapter.name)
        builder: IndexBuilder = await self._in_thread(IndexBuilder, index.path(adapter.name, began))
        try:
            mark, after, seen = None, None, set[str]()
            while True:
                page = await within(self._clock, PAGE_SECONDS, adapter.list(after), "the list")
                if after is None:
                    mark = page.mark
                await self._in_thread(self._add, builder, page.parties)
                if page.after is None:
                    break
                after = page.after
                if after in seen:
                    raise AdapterAnswerError("the list goes round in a circle")
                seen.add(after)
                if builder.parties > PARTIES_LIMIT:
                    raise AdapterAnswerError(f"the list has more than {PARTIES_LIMIT} parties")
            known = 0 if before is None else int(before.about["parties"])
            if known >= _FEW and builder.parties < known * _SHRUNK and not although_shrunk:
                raise Shrunk(
                    f"the CRM lists {builder.parties} parties where it had {known}; if that is right,"
                    f" `cti index rebuild {adapter.name}` takes them over"
                )
            times = {"listed": repr(began), "changed": repr(began)}
            await self._in_thread(
                builder.finish, {**times, "reading": index.reading, **({"mark": mark} if mark else {})}
            )
        except BaseException:
            await self._in_thread(builder.abandon)
            raise
        part = index.open(adapter.name)
        if part is None:
            raise IndexDamaged("what was just written cannot be read")
        log.info(
            "the CRM's parties are in the phone index",
            adapter=adapter.name,
            parties=int(part.about["parties"]),
            numbers=int(part.about["numbers"]),
            seconds=round(self._clock.seconds() - began, 1),
        )
        return part

    async def _read_changes(self, adapter: IChanging, part: IndexFile, mark: str) -> None:
        while True:
            began = self._clock.seconds()
            page = await within(self._clock, PAGE_SECONDS, adapter.changes(mark), "the list")
            about = {"mark": page.mark, "changed": repr(began)}
            try:
                await self._in_thread(self._take, part, page.parties, page.gone, about)
            except IndexDamaged as error:
                self._index.drop(adapter.name, error)
                raise
            if not page.more:
                return
            if page.mark == mark:
                raise AdapterAnswerError("there are more changes, and the mark stays")
            mark = page.mark

    def _add(self, builder: IndexBuilder, parties: Any) -> None:
        builder.add(self._rows(parties))

    def _take(self, part: IndexFile, parties: Any, gone: Any, about: dict[str, str]) -> None:
        part.update(self._rows(parties), gone, about)

    def _rows(self, parties: Any) -> list[Row]:
        """In a thread: a thousand numbers that nobody has read before take some 20 ms."""
        rows = []
        for listed in parties:
            if not isinstance(listed, ListedParty) or listed.party.adapter != self._adapter.name:
                raise AdapterAnswerError("the list has something else in it than the adapter's own parties")
            rows.append(Row.of(listed, self._index.plan))
        return rows

    def wake(self) -> None:
        """What there was is thrown away: begin at once, whatever the pause."""
        if self._pausing is not None and self._pausing.active():
            self._pausing.reset(0)

    async def _run(self) -> None:
        failures = 0
        while not self._stopped:
            try:
                pause = await self.once()
                failures = 0
            except Exception as error:
                # An adapter that breaks its promises, or a full disk, is tried again like a CRM that is down.
                if isinstance(error, CancelledError):
                    raise
                failures += 1
                pause = min(_FIRST_PAUSE * 2.0 ** (failures - 1), _LONGEST_PAUSE)
                if isinstance(error, AdapterBusy) and error.retry_after is not None:
                    pause = max(pause, min(error.retry_after, _LONGEST_PAUSE))
                tell = log.warning if failures == 1 else log.debug
                tell(
                    "the phone index is not in step with the CRM",
                    adapter=self._adapter.name,
                    why=_fit_for_a_log(error),
                    again_in=round(pause),
                )
            # Servers that started together need not ask together.
            await self._pause(pause * (1 + 0.1 * self._jitter()))

    async def _pause(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        self._pausing = delayed = self._clock.callLater(seconds, over.callback, None)
        try:
            await over
        finally:
            self._pausing = None
            if delayed.active():
                delayed.cancel()

    def _ended(self, failure: Failure) -> None:
        if not isinstance(failure.value, CancelledError):
            log.error(
                "the phone index is not kept in step any more",
                adapter=self._adapter.name,
                exception=failure.getTraceback(),
            )


def _fit_for_a_log(error: Exception) -> str:
    """What went wrong. Not an exception's text, which may quote a person; only ours promises not to."""
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, AdapterError | IndexFailed) else kind


class Feeds:
    """Those of all adapters that list their parties."""

    def __init__(
        self, index: PhoneIndex, clock: Clock, in_thread: InThread, settings: FeedSettings = FeedSettings()
    ) -> None:
        self.index = index
        self._clock = clock
        self._in_thread = in_thread
        self._settings = settings
        self._feeds: dict[str, Feed] = {}
        index.on_dropped(self._dropped)

    def _dropped(self, adapter: str) -> None:
        if adapter in self._feeds:
            self._feeds[adapter].wake()

    def open(self, adapters: Iterable[IAdapter]) -> None:
        """Use what is there of these, before any of them has started; what there is of others, no more. Blocks."""
        names = {adapter.name for adapter in adapters if lists(adapter) is not None}
        for status in self.index.status():
            if status.adapter not in names:
                self.index.forget(status.adapter)
        for name in names:
            try:
                self.index.open(name)
            except OSError as error:
                log.error("the phone index cannot be read", adapter=name, why=str(error))

    async def begin(self, adapter: IAdapter) -> None:
        """Keep this adapter's part in step from now on, in place of one of its name before."""
        await self.end(adapter.name)
        lister = lists(adapter)
        if lister is not None:
            self._feeds[adapter.name] = feed = Feed(
                lister, self.index, self._clock, self._in_thread, self._settings
            )
            feed.start()

    async def end(self, adapter: str) -> None:
        feed = self._feeds.pop(adapter, None)
        if feed is not None:
            await feed.stop()

    async def stop(self) -> None:
        for name in list(self._feeds):
            await self.end(name)
        self.index.close()


def lists(adapter: IAdapter) -> ILister | None:
    """The adapter, if it can list its parties."""
    return adapter if Capability.LIST in adapter.capabilities and isinstance(adapter, ILister) else None
