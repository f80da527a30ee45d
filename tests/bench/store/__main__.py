"""The central log on both databases: durable calls a second, events to many readers, and pages of ten million calls.

    python -m tests.bench.store [--on sqlite postgresql] [--rows N …] [--seconds S]

Everything in one process, as in the server: the reactor's thread hands units in and gets its Deferreds back from the
store's. A call is what a call with one answer writes: two transactions, ten rows, five events, one delivery. The rows
of the large logs are made by SQL, with numbers that nobody has. PostgreSQL is on the same machine, and flushes its
log for each transaction as SQLite does.
"""

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from queue import Empty, SimpleQueue
from statistics import median
from typing import Any, Final, Protocol

import psycopg
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cti.calls.life import mint_call_id
from cti.store.base import CallFilter, IStore, Unit
from cti.store.opening import Place, open_for_command, open_store
from cti.store.records import CallRecord, CardRecord, ChannelRecord, DecisionRecord, SegmentRecord
from cti.web.events import EventHub, Reader
from cti.web.tokens import ADMIN, Identity
from lab.crm.postgresql import Postgres
from lab.ports import PortBlock
from lab.tree import cache_directory

SIZES: Final = (10_000, 100_000, 1_000_000, 10_000_000)
PAGE: Final = 50
DEEP: Final = 10_000
STREAMS: Final = 200
_WALK: Final = 1000
_EXPORTED: Final = 300_000
_NEWEST: Final = 1_795_400_000
#: Of the row `i`; what differs between the databases' SQL is put in.
_ROW: Final[Mapping[str, str]] = {
    "id": "{id}",
    "pbx": "'main'",
    "started": f"{_NEWEST} - ({{rows}} - i) * 7.5",
    "direction": "'inbound'",
    "state": "'ended'",
    "from_number": "'+4932' || (200000000 + (i * 7368787) % 799999999)",
    "from_raw": "'0'",
    "from_kind": "'e164'",
    "to_number": "'+494066969100'",
    "to_raw": "'494066969100'",
    "service": "'sales'",
    "mode": "'route'",
    "agent": "'agent' || (i % 50)",
    "outcome": "CASE i % 7 WHEN 0 THEN 'missed' ELSE 'answered' END",
    "ended": f"{_NEWEST} - ({{rows}} - i) * 7.5 + 120",
    "attempt": "1",
    "party_id": "CASE i % 3 WHEN 0 THEN 'p' || (i % 99991) END",
}
_IDS: Final = {
    "sqlite": "printf('%08x-0000-7000-8000-%012x', i, i)",
    "postgresql": "lpad(to_hex(i), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(i), 12, '0')",
}
_COUNTED: Final = {
    "sqlite": "(WITH RECURSIVE n(i) AS (VALUES ({first}) UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
    " SELECT i FROM n)",
    "postgresql": "generate_series({first}::bigint, {last}::bigint) AS n(i)",
}
_INDEXES: Final = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'calls' AND sql IS NOT NULL",
    "postgresql": "SELECT indexname, indexdef FROM pg_indexes"
    " WHERE tablename = 'calls' AND indexname LIKE 'calls_by%'",
}


class Connection(Protocol):
    """What both databases' connections can do."""

    def execute(self, sql: str, /) -> Any: ...
    def commit(self) -> None: ...
    def close(self) -> None: ...


class Loop:
    """The reactor's part of the work: takes up what the store's threads hand back."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., Any], /, *args: Any, **keywords: Any) -> None:
        self._calls.put((call, args, keywords))

    def callLater(self, _delay: float, call: Callable[..., Any], /) -> None:
        self._calls.put((call, (), {}))

    def turn(self) -> None:
        """Wait for one thing, and do it."""
        try:
            call, args, keywords = self._calls.get(timeout=0.1)
        except Empty:
            return
        call(*args, **keywords)

    def result(self, waiting: "Deferred[Any]") -> Any:
        got: list[Any] = []
        waiting.addBoth(got.append)
        while not got:
            self.turn()
        return got[0]


@define
class Bench:
    """One database, and a store on it."""

    kind: str
    place: Place
    loop: Loop
    store: IStore

    def connect(self) -> Connection:
        """Past the store."""
        if self.kind == "sqlite":
            return sqlite3.connect(self.place)
        return psycopg.connect(str(self.place))


def begins(unit: Unit, id: str, number: int) -> CallRecord:
    """What is written before Asterisk is answered."""
    at = time.time()
    agent = f"agent{number % 50}"
    call = CallRecord(id=id, pbx="main", started=at, from_number=f"+4932{number:09d}", agent=None)
    unit.put_call(call)
    unit.put_channel(ChannelRecord("main", f"{id}.0", id, "PJSIP/trunk", "caller", at))
    party = {"adapter": "crm", "type": "contact", "id": "17", "name": "Katja Brandt"}
    unit.put_decision(
        DecisionRecord(
            call=id,
            attempt=1,
            at=at,
            service="sales",
            mode="route",
            action="dial",
            agents=[agent],
            target=f"PJSIP/{agent}",
            rule="rest",
            reason="rest: longest idle in sales",
            facts={"party": party, "to": "+494066969100"},
            trace=[{"rule": "owner", "why": "no owner"}, {"rule": "rest", "why": "matches"}],
            identification={"adapters": []},
            last=None,
        )
    )
    unit.put_segment(
        SegmentRecord(id, 1, 1, "sales", [agent], f"PJSIP/{agent}", "rest", "rest: longest idle", at)
    )
    unit.put_card(CardRecord(id, agent, 1, at, {"parties": [party]}))
    for type in ("call.offered", "call.routed", "card.offered"):
        unit.emit(type, at, {"call": {"id": id}, "party": party}, call=id, agents=[agent])
    return call


def ends(unit: Unit, call: CallRecord) -> None:
    """What is written once it is over."""
    at = time.time()
    call.ended, call.outcome, call.state = at, "answered", "ended"
    unit.put_call(call)
    unit.put_channel(ChannelRecord("main", f"{call.id}.0", call.id, "PJSIP/trunk", "caller", at, ended=at))
    unit.put_channel(ChannelRecord("main", f"{call.id}.1", call.id, "PJSIP/agent", "agent", at, ended=at))
    for type in ("call.connected", "call.ended"):
        unit.emit(type, at, {"call": {"id": call.id}, "outcome": "answered"}, call=call.id)


def writes(bench: Bench, seconds: float, in_flight: int) -> tuple[float, float, float]:
    """Durable calls a second, and p50 and p99 of a commit in ms."""
    until = time.perf_counter() + seconds
    took: list[float] = []
    done = made = 0

    def one() -> None:
        nonlocal made
        if time.perf_counter() >= until:
            return
        made += 1
        unit = bench.store.unit()
        call = begins(unit, mint_call_id(time.time()), made)
        began = time.perf_counter()
        bench.store.commit(unit).addCallback(routed, call, began)

    def routed(_: Any, call: CallRecord, began: float) -> None:
        took.append(time.perf_counter() - began)
        unit = bench.store.unit()
        ends(unit, call)
        bench.store.commit(unit).addCallback(over)

    def over(_: Any) -> None:
        nonlocal done
        done += 1
        one()

    began = time.perf_counter()
    for _ in range(in_flight):
        one()
    while done < made:
        bench.loop.turn()
    spent = time.perf_counter() - began
    took.sort()
    return done / spent, took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000


@define(eq=False)
class Sink:
    """A stream's connection that counts bytes."""

    size: int = 0
    finished: Deferred[None] = field(factory=Deferred)

    @property
    def connection(self) -> "Sink":
        return self

    def write(self, data: bytes) -> None:
        self.size += len(data)

    def notifyFinish(self) -> "Deferred[None]":
        return self.finished

    def setHeader(self, name: str, value: str) -> None: ...
    def forget_headers(self) -> None: ...
    def registerProducer(self, producer: Any, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def finish(self) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...


def fan_out(bench: Bench, seconds: float) -> tuple[float, float]:
    """Events a second from commit to all of many streams, and pushes a second."""
    clock = Clock()
    clock.advance(time.time())
    hub = EventHub(bench.store, clock, valid=lambda _identity: True)
    hub.start()
    bench.store.on_events(hub.publish)
    sinks = [Sink() for _ in range(STREAMS)]
    for number, sink in enumerate(sinks):
        hub.open(sink, Reader(Identity(f"t{number}", f"reader{number}", ADMIN, "")), None)
    before = hub.newest()
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    while time.perf_counter() < until:
        units = [bench.store.unit() for _ in range(16)]
        for unit in units:
            unit.emit("agent.state", time.time(), {"agent": "anna", "state": "ready"}, agents=["anna"])
        for committed in [bench.store.commit(unit) for unit in units]:
            bench.loop.result(committed)
    spent = time.perf_counter() - began
    events = hub.newest() - before
    hub.stop()
    return events / spent, events * STREAMS / spent


def grow(bench: Bench, rows: int, before: int) -> float:
    """Make the log so long; the seconds that it took. Older calls, so that the newest page stays the newest."""
    began = time.perf_counter()
    columns = ", ".join(_ROW)
    values = ", ".join(_ROW.values()).format(id=_IDS[bench.kind], rows=SIZES[-1])
    series = _COUNTED[bench.kind].format(first=before + 1, last=rows)
    with closing(bench.connect()) as connection:
        indexes = list(connection.execute(_INDEXES[bench.kind]).fetchall())
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute(f"INSERT INTO calls ({columns}) SELECT {values} FROM {series}")
        for _, sql in indexes:
            connection.execute(sql)
        connection.commit()
        connection.execute("ANALYZE calls")
        connection.commit()
    return time.perf_counter() - began


@define
class Reading:
    """How long the log takes to answer, at one length; milliseconds, and rows a second."""

    first: float
    deep: float
    number: float
    export: float


def read(bench: Bench, rows: int) -> Reading:
    """First page, a deep one by its cursor, one number's calls, and all of them one after the other."""
    with open_for_command(bench.place, destinations={}, clock=time.time) as opened:
        reader = opened.read
        wanted = min(DEEP * PAGE, rows - PAGE) // _WALK * _WALK
        cursor = None
        for _ in range(wanted // _WALK):
            _, cursor = reader.calls(CallFilter(), _WALK, cursor)
        numbers = iter(range(1, rows, max(1, rows // 500)))

        def of_a_number() -> Any:
            number = 200_000_000 + next(numbers) * 7_368_787 % 799_999_999
            found, _ = reader.calls(CallFilter(number=f"+4932{number}"), PAGE)
            assert found
            return found

        began, exported, after = time.perf_counter(), 0, None
        while exported < min(_EXPORTED, rows):
            page, after = reader.calls(CallFilter(), _WALK, after)
            exported += len(page)
            if after is None:
                break
        rate = exported / (time.perf_counter() - began)
        return Reading(
            _ms(lambda: reader.calls(CallFilter(), PAGE)),
            _ms(lambda: reader.calls(CallFilter(), PAGE, cursor)),
            _ms(of_a_number),
            rate,
        )


def _ms(work: Callable[[], Any], times: int = 200) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return median(took) * 1000


def measure(bench: Bench, sizes: Sequence[int], seconds: float) -> None:
    """All of it, printed line by line."""
    print(f"\n{bench.kind}")
    for in_flight in (1, 16, 64):
        rate, p50, p99 = writes(bench, seconds, in_flight)
        print(
            f"  {in_flight:3} in flight: {rate:8,.0f} durable calls/s; until a decision is durable"
            f" p50 {p50:.2f} ms, p99 {p99:.2f} ms",
            flush=True,
        )
    events, pushes = fan_out(bench, seconds)
    print(f"  to {STREAMS} event streams: {events:,.0f} events/s, {pushes:,.0f} pushes/s", flush=True)
    print(
        f"  {'calls in the log':>16} {'first page':>11} {'page 10,000':>12} {'one number':>11} {'export':>14}"
        f" {'calls/s, 16 in flight':>22}"
    )
    before = 0
    for rows in sizes:
        grow(bench, rows, before)
        before = rows
        reading = read(bench, rows)
        rate, _, _ = writes(bench, seconds, 16)
        print(
            f"  {rows:16,} {reading.first:8.2f} ms {reading.deep:9.2f} ms {reading.number:8.2f} ms"
            f" {reading.export:9,.0f} rows/s {rate:17,.0f}",
            flush=True,
        )


def databases(kinds: Sequence[str], work: Path, stack: ExitStack) -> Iterator[tuple[str, Place]]:
    """Each, empty."""
    if "sqlite" in kinds:
        yield "sqlite", work / "cti.db"
    if "postgresql" in kinds:
        ports = PortBlock.claim()
        stack.callback(ports.release)
        server = stack.enter_context(Postgres(work / "postgresql", port=ports.take(), durable=True))
        yield "postgresql", server.database("cti")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store", description=__doc__)
    parser.add_argument("--on", nargs="+", choices=("sqlite", "postgresql"), default=("sqlite", "postgresql"))
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="lengths of the log, rising")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of writing")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        # On a real disk: where /tmp is memory, flushing to it costs nothing.
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=cache_directory())))
        for kind, place in databases(options.on, work, stack):
            loop = Loop()
            store = open_store(
                place,
                reactor=loop,
                destinations={"crm": frozenset({"call.ended"})},
                clock=time.time,
                observe_commit=lambda _seconds: None,
            )
            store.start()
            try:
                measure(Bench(kind, place, loop, store), options.rows, options.seconds)
            finally:
                loop.result(store.stop())
    sys.stdout.flush()


if __name__ == "__main__":
    main()
