"""A person taken out of the store and its files, or everything that is kept of them gathered.

The log stays: that there was a call, when, of which service and what came of it. Who called, and all that could tell
it, goes; rows that are nothing else go altogether. Where what stands is said by `cti.store.personal`. Calls of theirs
that are not over are left, and named, so that whoever asked does it once more then.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson
from attrs import define, evolve, field, frozen

from adapters.party import COMPANIES
from cti.calls.present import call_detail_json
from cti.logs import get_logger
from cti.privacy.pages import PAGE, IKept, pages
from cti.privacy.traces import Subject, Traces
from cti.store.personal import CALLS, PERSONAL, PersonalTable
from cti.store.queries import Reader
from cti.store.records import ErasureRecord
from cti.store.rows import Row

log = get_logger("cti.privacy")

#: Sweeps until one finds nothing: what was on its way into the store during one, the next finds.
_SWEEPS: Final = 5
#: Records in CRMs that a report names.
_NAMED: Final = 1000

#: What is read of a call to tell whether it is theirs, as a row of `CALLS`.
CallRow = Mapping[str, Any]


class IFiles(Protocol):
    """Files beside the store. All of it blocks."""

    def names(self, subject: Subject) -> frozenset[str]:
        """What the phone index and the embedded directories call them."""

    def erase(
        self, traces: Traces, recordings: Sequence[tuple[str, str]], directory: bool
    ) -> Mapping[str, int]:
        """Take them out; how many of what. `recordings`: of which Asterisk, and the file's name."""

    def scrub(self, traces: Traces) -> None:
        """Have nothing left in the store's own files of what is not in it any more."""

    def left(self, traces: Traces) -> Sequence[str]:
        """Where they still show, in words for who asked."""


@define
class Found:
    """Calls of theirs, by id, and what else those tell."""

    calls: dict[str, CallRow] = field(factory=dict)
    open: set[str] = field(factory=set)
    names: set[str] = field(factory=set)


@frozen
class _Change:
    """One row's: which columns become what from what; None: the row goes."""

    key: Row
    columns: Sequence[tuple[str, Any, Any]] | None


async def calls_of(
    store: IKept, traces: Traces, is_open: Callable[[CallRow], bool] = lambda _: False
) -> Found:
    """Their calls: from them or to them, with them, and consultations about those."""
    found = Found()
    listing = CALLS.listing
    async for page in pages(store, listing):
        for row in page:
            call = dict(zip(listing.columns, row, strict=True))
            if not (_is_theirs(call, traces) or call["parent"] in found.calls):
                continue
            found.calls[call["id"]] = call
            if is_open(call):
                found.open.add(call["id"])
            party = orjson.loads(call["party"]) if call["party"] else {}
            whole = traces.is_party(party.get("adapter"), party.get("id"))
            if party.get("name") and (whole or party.get("type") not in COMPANIES):
                found.names.add(party["name"])
    return found


def _is_theirs(call: CallRow, traces: Traces) -> bool:
    return (
        any(traces.is_number(call[side]) for side in CALLS.numbers)
        or traces.is_party(call["party_adapter"], call["party_id"])
        or any(traces.in_text(call[side]) for side in ("from_raw", "to_raw"))
    )


class Erasing:
    """Takes people out."""

    def __init__(
        self,
        store: IKept,
        files: IFiles,
        in_thread: Callable[[Callable[[], Any]], Any],
        now: Callable[[], float],
        is_open: Callable[[CallRow], bool],
    ) -> None:
        """`in_thread` runs what blocks; `is_open` tells of a call whether news of it may still be written."""
        self._store = store
        self._files = files
        self._in_thread = in_thread
        self._now = now
        self._is_open = is_open

    async def erase(self, erasure: ErasureRecord) -> ErasureRecord:
        """Do what was asked for; how it stands then. Raises `StoreError`, `OSError`."""
        assert erasure.subject is not None
        subject = Subject.from_json(erasure.subject)
        found = await calls_of(self._store, Traces(subject), self._is_open)
        subject = subject.called(found.names | await self._in_thread(lambda: self._files.names(subject)))
        traces = Traces(subject)
        counts: Counter[str] = Counter()
        told = _Told()
        # The names that were found stay with what was asked, or a second sweep would not know them any more.
        await self._put(evolve(erasure, subject=subject.as_json()))
        for sweep in range(_SWEEPS):
            changed = await self._sweep(traces, found, told if sweep == 0 else _Told())
            counts += changed
            if not changed:
                break
            # What became theirs, or was missed, meanwhile.
            found = await self._again(traces, found)
        recordings = [
            (call["pbx"], call["recording"])
            for id, call in found.calls.items()
            if call["recording"] and id not in found.open
        ]
        counts.update(await self._in_thread(lambda: self._files.erase(traces, recordings, erasure.directory)))
        report: dict[str, Any] = {"erased": dict(counts), **told.as_json(), "waits": sorted(found.open)}
        if found.open:
            waiting = evolve(erasure, state="waiting", subject=subject.as_json(), report=report)
            await self._put(waiting)
            return waiting
        done = evolve(erasure, state="done", subject=None, done=self._now(), report=report)
        await self._put(done)
        await self._in_thread(lambda: self._files.scrub(traces))
        report["left"] = list(await self._in_thread(lambda: self._files.left(traces)))
        done = evolve(done, report=report)
        await self._put(done)
        log.info("somebody was erased", erasure=erasure.id, rows=counts.total(), left=len(report["left"]))
        return done

    async def _again(self, traces: Traces, before: Found) -> Found:
        found = await calls_of(self._store, traces, self._is_open)
        return Found({**before.calls, **found.calls}, found.open, before.names)

    async def _put(self, erasure: ErasureRecord) -> None:
        unit = self._store.unit()
        unit.put_erasure(erasure)
        await self._store.commit(unit)

    async def _sweep(self, traces: Traces, found: Found, told: "_Told") -> Counter[str]:
        """One look at every row of every table; how many were changed."""
        changed: Counter[str] = Counter()
        for table in PERSONAL:
            after: Row | None = None
            while True:
                # In the thread that reads: telling texts apart takes its time.
                page = await self._store.read(_looking(table, after, traces, found, told))
                rows, changes = page
                if changes:
                    unit = self._store.unit()
                    for change in changes:
                        if change.columns is None:
                            unit.do(table.remove, change.key)
                        for column, old, new in change.columns or ():
                            unit.do(table.changes[column], (new, *change.key, old))
                    await self._store.commit(unit, at_leisure=True)
                    changed[table.name] += len(changes)
                if len(rows) < PAGE:
                    break
                after = rows[-1][: len(table.key)]
        return changed


class _Told:
    """Who else was told of them: there they are to be erased by who keeps those."""

    def __init__(self) -> None:
        self._deliveries: Counter[str] = Counter()
        self._records: dict[tuple[str, str, str], str | None] = {}

    def note(self, table: str, row: Mapping[str, Any]) -> None:
        if table == "outbox" and row["state"] == "delivered":
            self._deliveries[row["destination"]] += 1
        elif table == "journal":
            self._records[row["adapter"], row["type"], row["id"]] = row["url"]

    def as_json(self) -> dict[str, Any]:
        records = [
            {"adapter": adapter, "type": type, "id": id} for adapter, type, id in list(self._records)[:_NAMED]
        ]
        return {"delivered": dict(self._deliveries), "records": records}


def _looking(
    table: PersonalTable, after: Row | None, traces: Traces, found: Found, told: _Told
) -> Callable[[Reader], tuple[Sequence[Row], Sequence[_Change]]]:
    listing = table.listing

    def look(reader: Reader) -> tuple[Sequence[Row], Sequence[_Change]]:
        rows = reader.page_of(listing, after, PAGE)
        changes = []
        for row in rows:
            change = _change(table, dict(zip(listing.columns, row, strict=True)), traces, found, told)
            if change is not None:
                changes.append(change)
        return rows, changes

    return look


def concerns(table: PersonalTable, row: Mapping[str, Any], traces: Traces, calls: Mapping[str, Any]) -> bool:
    """Whether a row is about them, and not just names them."""
    if table is CALLS:
        return row["id"] in calls
    if table.call is not None and row[table.call] in calls:
        return True
    if any(traces.is_number(row[column]) for column in table.numbers):
        return True
    if table.party_key is not None and traces.is_party(*(row[column] for column in table.party_key)):
        return True
    if table.party is None or not row[table.party]:
        return False
    party = orjson.loads(row[table.party])
    return traces.is_party(party.get("adapter"), party.get("id"))


def _change(
    table: PersonalTable, row: Mapping[str, Any], traces: Traces, found: Found, told: _Told
) -> _Change | None:
    call = row["id"] if table is CALLS else None if table.call is None else row[table.call]
    if call in found.open:
        return None
    theirs = concerns(table, row, traces, found.calls)
    key = tuple(row[column] for column in table.key)
    if theirs:
        told.note(table.name, row)
        if table.removed:
            return _Change(key, None)
    new = dict(_blank(table, row, traces)) if theirs else {}
    for column in table.text:
        if isinstance(row[column], str) and column not in new:
            new[column] = traces.without(row[column])
    for column in table.json:
        if isinstance(row[column], str) and column not in new:
            new[column] = _cleaned(row[column], traces, theirs, column in table.events)
    columns = [
        (column, row[column], value) for column, value in new.items() if row[column] not in (None, value)
    ]
    if not columns:
        return None
    return _Change(key, None if table.found_removes else columns)


def _cleaned(text: str, traces: Traces, theirs: bool, is_event: bool) -> str:
    if not is_event:
        return traces.cleaned_json(text, theirs=theirs)
    # An event lacks its beginning, which its number stands in.
    cleaned = traces.cleaned_json("{" + text, theirs=theirs)
    return cleaned[1:] if cleaned else '"erased":true}'


def _blank(table: PersonalTable, row: Mapping[str, Any], traces: Traces) -> Mapping[str, Any]:
    if table is not CALLS:
        return table.blank
    # Our own side of a call is nobody's secret, and reports need it.
    kept = [
        side
        for side, other in (("from", "outbound"), ("to", "inbound"))
        if row["direction"] in (other, "internal")
        and not traces.is_number(row[f"{side}_number"])
        and not traces.in_text(row[f"{side}_raw"])
    ]
    return {
        column: value
        for column, value in table.blank.items()
        if not any(column.startswith(f"{side}_") for side in kept)
    }


async def gathered(store: IKept, subject: Subject) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
    """Everything that is about them, as (table, what stands there); calls with all that belongs to them."""
    traces = Traces(subject)
    found = await calls_of(store, traces)
    for id in found.calls:
        detail = await store.read(lambda reader: reader.call(id))  # noqa: B023 - read at once
        if detail is not None:
            yield "calls", call_detail_json(detail)
    for table in PERSONAL:
        if table is CALLS or table.name in _IN_CALLS:
            continue
        listing = table.listing
        async for page in pages(store, listing):
            for row in page:
                named = dict(zip(listing.columns, row, strict=True))
                mentioned = not table.removed and _change(table, named, traces, Found(), _Told()) is not None
                if concerns(table, named, traces, found.calls) or mentioned:
                    yield table.name, {key: _shown(value, key in table.json) for key, value in named.items()}


#: What is shown with its call.
_IN_CALLS: Final = frozenset(
    {
        "segments",
        "channels",
        "decisions",
        "cards",
        "events",
        "outbox",
        "outbox_attempts",
        "journal",
        "journal_tries",
    }
)


def _shown(value: Any, is_json: bool) -> Any:
    if not is_json or not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
