"""What is older than the configuration keeps it, removed: once a day by the server, or by `cti purge`.

In small transactions, the oldest first, so that it can stop anywhere and no call waits for it. What is still to be
told to somebody is never removed, nor anything behind it in the log of events: a reader who was away finds either
every event since, or is told that some are gone.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from twisted.internet.defer import Deferred

from cti.logs import get_logger
from cti.privacy.files import remove_recording
from cti.privacy.pages import IKept, pages
from cti.reactors import Clock
from cti.settings import Recordings, Retention
from cti.store import personal
from cti.store.base import Unit
from cti.store.personal import BY_NAME, Listing
from cti.store.rows import Row

log = get_logger("cti.privacy")

DAY: Final = 86_400.0
#: Calls in one transaction: each is some thirty rows.
_CALLS_AT_ONCE: Final = 20
#: A call may end long after those that began with it; so much of what was done is looked through again.
_ONCE_MORE: Final = DAY
#: Under which mark it stands when all of it was done last.
_DAILY: Final = "day"

#: What is done with a call that has become old, by kind of data.
_ChangeCall = Callable[[Unit, Mapping[str, Any]], None]


class Purge:
    """One round."""

    def __init__(
        self,
        store: IKept,
        retention: Retention,
        recordings: Mapping[str, Recordings],
        in_thread: Callable[[Callable[[], Any]], "Deferred[Any]"],
        now: float,
        *,
        dry: bool = False,
    ) -> None:
        """`dry`: only count."""
        self._store = store
        self._retention = retention
        self._recordings = recordings
        self._in_thread = in_thread
        self._now = now
        self._dry = dry
        self.counts: Counter[str] = Counter()

    async def run(self) -> Mapping[str, int]:
        """Remove what is too old; how many of which kind. Raises `StoreError`."""
        kept = self._retention
        await self._rows(
            "outbox", personal.OLD_DELIVERIES, self._before(kept.outbox), _is_finished, "created"
        )
        held = await self._events(self._before(kept.events))
        await self._calls("recordings", self._before(kept.recordings), _forget_recording)
        await self._calls("decisions", self._before(kept.decisions), _forget_facts)
        await self._calls("cards", self._before(kept.cards), _forget_cards)
        await self._calls("numbers", min(self._before(kept.numbers), held), _forget_numbers)
        await self._whole_calls(min(self._before(kept.calls), held))
        await self._rows(
            "callbacks", personal.OLD_CALLBACKS, self._before(kept.callbacks), _is_closed, "created"
        )
        await self._remembered(self._before(kept.remembered))
        await self._periods(self._before(kept.periods))
        await self._rows("audit", personal.OLD_AUDIT, self._before(kept.audit), lambda *_: True, "at")
        if not self._dry:
            unit = self._store.unit()
            unit.do(personal.PURGED, (_DAILY, self._now))
            await self._store.commit(unit, at_leisure=True)
        return {kind: count for kind, count in self.counts.items() if count}

    def _before(self, days: int | None) -> float:
        return float("-inf") if days is None else self._now - days * DAY

    async def _commit(self, unit: Unit) -> None:
        if not self._dry:
            await self._store.commit(unit, at_leisure=True)

    async def _events(self, before: float) -> float:
        """The oldest events, without a hole; since when (epoch seconds) those are that have to stay."""
        listing = personal.OLD_EVENTS
        async for page in pages(self._store, listing):
            first, last = page[0][0], page[-1][0]
            undelivered = await self._store.read(lambda reader: reader.undelivered(first, last))  # noqa: B023 - at once
            unit = self._store.unit()
            # The newest one stays whatever its age: it says how far the numbers are.
            following = await self._store.read(lambda reader: reader.page_of(listing, (last,), 1))  # noqa: B023 - at once
            for seq, at, agents in page:
                if at >= before or seq == undelivered or (seq == last and not following):
                    await self._commit(unit)
                    if seq == undelivered and at < before:
                        log.warning("old events are kept until all who get them have got them", since=at)
                        return float(at)
                    return float("inf")
                for statement in personal.PURGE_EVENT:
                    unit.do(statement, (seq,))
                for agent in _agents(agents):
                    unit.do(personal.PURGE_EVENT_AGENT, (agent, seq))
                self.counts["events"] += 1
            await self._commit(unit)
        return float("inf")

    async def _calls(self, kind: str, before: float, change: _ChangeCall) -> None:
        """Change what is kept of old calls, once each, and remember how far that has come."""
        if before == float("-inf"):
            return
        done = await self._store.read(lambda reader: reader.purged(kind))
        begin = None if done is None else (done - _ONCE_MORE, "")
        async for calls in self._old_calls(before, begin):
            unit = self._store.unit()
            for call in calls:
                if kind == "recordings":
                    await self._remove_recording(call)
                change(unit, call)
                self.counts[kind] += done is None or call["started"] > done
            unit.do(personal.PURGED, (kind, calls[-1]["started"]))
            await self._commit(unit)

    async def _whole_calls(self, before: float) -> None:
        async for calls in self._old_calls(before, None):
            unit = self._store.unit()
            for call in calls:
                await self._remove_recording(call)
                for statement in personal.PURGE_CALL:
                    unit.do(statement, (call["id"],))
                self.counts["calls"] += 1
            await self._commit(unit)

    async def _remove_recording(self, call: Mapping[str, Any]) -> None:
        if call["recording"] and not self._dry:
            places, pbx, file = self._recordings, call["pbx"], call["recording"]
            await self._in_thread(lambda: remove_recording(places, pbx, file))

    async def _old_calls(
        self, before: float, after: Row | None
    ) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """Calls that are over and began before then, some at a time."""
        listing = personal.OLD_CALLS
        async for page in pages(self._store, listing, after):
            rows = [dict(zip(listing.columns, row, strict=True)) for row in page]
            calls = [call for call in rows if call["started"] < before and call["state"] == "ended"]
            for begin in range(0, len(calls), _CALLS_AT_ONCE):
                yield calls[begin : begin + _CALLS_AT_ONCE]
            if rows[-1]["started"] >= before:
                return

    async def _rows(
        self,
        table: str,
        listing: Listing,
        before: float,
        is_old: Callable[[Mapping[str, Any], float], bool],
        when: str,
    ) -> None:
        """Rows of a table whose keys rise with time, which the column `when` tells."""
        if before == float("-inf"):
            return
        async for page in pages(self._store, listing):
            rows = [dict(zip(listing.columns, row, strict=True)) for row in page]
            old = [row for row in rows if row[when] < before and is_old(row, before)]
            await self._remove(table, listing, old)
            if rows[-1][when] >= before:
                return

    async def _periods(self, before: float) -> None:
        """What agents' time went into: data of those who work here."""
        if before == float("-inf"):
            return
        async for page in pages(self._store, personal.OLD_PERIODS):
            unit = self._store.unit()
            for ended, began, agent in page:
                if ended < before:
                    unit.do(personal.PURGE_PERIOD, (agent, began))
                    self.counts["periods"] += 1
            await self._commit(unit)
            if page[-1][0] >= before:
                return

    async def _remembered(self, before: float) -> None:
        for table, listing, when in (
            ("choices", personal.CHOICES, "at"),
            ("newcomers", personal.NEWCOMERS, "began"),
        ):
            async for page in pages(self._store, listing):
                rows = [dict(zip(listing.columns, row, strict=True)) for row in page]
                old = [row for row in rows if row[when] < before]
                await self._remove(table, listing, old)

    async def _remove(self, table: str, listing: Listing, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        unit = self._store.unit()
        for row in rows:
            unit.do(BY_NAME[table].remove, tuple(row[column] for column in listing.key))
            if table == "outbox":
                unit.do(personal.FORGET_ATTEMPTS, (row["id"],))
        self.counts[table] += len(rows)
        await self._commit(unit)


def _is_finished(delivery: Mapping[str, Any], before: float) -> bool:
    return delivery["state"] != "waiting" and (delivery["finished"] or 0.0) < before


def _is_closed(callback: Mapping[str, Any], before: float) -> bool:
    return callback["state"] != "open" and bool(callback["changed"] < before)


def _agents(written: str | None) -> Sequence[str]:
    return [] if written is None else orjson.loads(written)


def _forget_recording(unit: Unit, call: Mapping[str, Any]) -> None:
    if call["recording"]:
        unit.do(personal.FORGET_RECORDING, (call["id"],))


def _forget_facts(unit: Unit, call: Mapping[str, Any]) -> None:
    unit.do(personal.FORGET_FACTS, (call["id"],))


def _forget_cards(unit: Unit, call: Mapping[str, Any]) -> None:
    unit.do(personal.FORGET_CARDS, (call["id"],))


def _forget_numbers(unit: Unit, call: Mapping[str, Any]) -> None:
    side = personal.FORGET_SIDE.get(call["direction"])
    for statement in (side, *personal.FORGET_PARTY):
        if statement is not None:
            unit.do(statement, (call["id"],))


class Daily:
    """The server's, once a day at its hour; one that was missed is made up for."""

    def __init__(
        self,
        store: IKept,
        retention: Callable[[], Retention],
        purge: Callable[[Retention], Purge],
        clock: Clock,
    ) -> None:
        self._store = store
        self._retention = retention
        self._purge = purge
        self._clock = clock
        self._running = False

    async def look(self) -> None:
        """Do it if it is time. Raises `StoreError`."""
        retention = self._retention()
        if self._running or not retention.keeps_less:
            return
        self._running = True
        try:
            done = await self._store.read(lambda reader: reader.purged(_DAILY))
            now = self._clock.seconds()
            if (done or 0.0) < last_time(retention.at, now):
                counts = await self._purge(retention).run()
                log.info("what was too old has been removed", **dict(counts))
        finally:
            self._running = False


def last_time(at: tuple[int, int], now: float) -> float:
    """When it was last this hour and minute here."""
    today = datetime.fromtimestamp(now).replace(hour=at[0], minute=at[1], second=0, microsecond=0)
    return (today if today.timestamp() <= now else today - timedelta(days=1)).timestamp()
