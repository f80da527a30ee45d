"""Which driver writes and reads our rows fastest on PostgreSQL: psycopg a statement at a time, in pipelines, asyncpg.

python -m tests.bench.store.drivers

Each does the very statements of the store, on one connection in one thread, to a server that flushes its disk and
stands behind a link of some delay. asyncpg is no part of the project: what is not installed is left out.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import re
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from cti.store.appender import LAST_SEQ, Appender, Written
from cti.store.postgresql import migrate
from cti.store.records import CallRecord, ChannelRecord, DecisionRecord, ReservationRecord, SegmentRecord
from cti.store.rows import Execute, Row, RowUnit
from lab.crm.postgresql import Postgres
from lab.ports import LOOPBACK, a_port

SECONDS = 3.0
LOCK = "SELECT last_seq FROM store FOR UPDATE"
LOOK = "SELECT call FROM channels WHERE pbx = ? AND uniqueid = ?"
Asked = list[tuple[str, Row]]
_IDS = itertools.count()


class Recorder(Appender):
    """An appender that writes down what it would ask of a database."""

    def __init__(self, last: int) -> None:
        super().__init__({"crm": frozenset({"call.routed"})}, time.time)
        self.asked: Asked = []
        self._seen = last

    def _one(self, execute: Execute, sql: str) -> Any:
        return self._seen if sql == LAST_SEQ else None

    def _within(self, work: Callable[[Execute], Written]) -> Written:
        return work(lambda sql, row: self.asked.append((sql, row)))


def units(number: int) -> list[RowUnit]:
    """What the answers to so many calls put into the log."""
    made = []
    for _ in range(number):
        id = f"call{next(_IDS):09}"
        unit = RowUnit()
        unit.put_call(CallRecord(id=id, pbx="main", started=time.time(), from_number="+4915228817386"))
        unit.put_channel(ChannelRecord("main", id, id, "PJSIP/trunk", "caller", time.time()))
        unit.put_decision(
            DecisionRecord(
                *(id, 1, time.time(), "sales", "route", "dial", ["anna"], "PJSIP/anna", "owner", "the owner"),
                facts={"number": "+4915228817386", "hour": 9, "filler": "x" * 400},
                trace=[{"rule": "owner", "matched": True}] * 4,
            )
        )
        unit.put_segment(
            SegmentRecord(id, 1, 1, "sales", ["anna"], "PJSIP/anna", "owner", "the owner", time.time())
        )
        unit.put_reservation(ReservationRecord("anna", id, 1, time.time() + 30))
        for type in ("call.offered", "call.routed"):
            unit.emit(type, time.time(), {"call": {"id": id}, "filler": "x" * 300}, call=id, agents=["anna"])
        made.append(unit)
    return made


def statements(number: int, last: int) -> Asked:
    recorder = Recorder(last)
    written = recorder.write(units(number))
    assert written.fault is None, written.fault
    # PostgreSQL takes no yes or no for a number.
    return [
        (sql, [int(value) if isinstance(value, bool) else value for value in row])
        for sql, row in recorder.asked
    ]


class Delay:
    """A link to `port` on which everything takes so long each way."""

    def __init__(self, port: int, seconds: float) -> None:
        self._target, self._seconds = port, seconds
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection((LOOPBACK, self._target))
            for source, sink in ((near, far), (far, near)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 20):
                time.sleep(self._seconds)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def marked(sql: str) -> str:
    return sql.replace("?", "%s")


def numbered(sql: str) -> str:
    place = itertools.count(1)
    return re.sub(r"\?", lambda _: f"${next(place)}", sql)


class Psycopg:
    name = "psycopg, a statement at a time"

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)

    def write(self, number: int) -> None:
        execute = self.connection.execute
        execute("BEGIN")
        (last,) = execute(LOCK).fetchone() or (0,)
        for sql, row in statements(number, last):
            execute(marked(sql), row)
        execute("COMMIT")

    def look(self, row: Row) -> None:
        self.connection.execute(marked(LOOK), row).fetchall()

    def close(self) -> None:
        self.connection.close()


class Pipelined(Psycopg):
    name = "psycopg, a transaction in two pipelines"

    def write(self, number: int) -> None:
        execute = self.connection.execute
        with self.connection.pipeline():
            execute("BEGIN")
            locked = execute(LOCK)
            (last,) = locked.fetchone() or (0,)
            for sql, row in statements(number, last):
                execute(marked(sql), row)
            execute("COMMIT")


class Asyncpg:
    name = "asyncpg, prepared statements"

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        asyncpg: Any = importlib.import_module("asyncpg")
        self.connection = self._loop.run_until_complete(asyncpg.connect(url, statement_cache_size=200))

    async def _write(self, number: int) -> None:
        async with self.connection.transaction():
            last = await self.connection.fetchval(LOCK)
            for sql, row in statements(number, last):
                await self.connection.execute(numbered(sql), *row)

    def write(self, number: int) -> None:
        self._loop.run_until_complete(self._write(number))

    def look(self, row: Row) -> None:
        self._loop.run_until_complete(self.connection.fetch(numbered(LOOK), *row))

    def close(self) -> None:
        self._loop.run_until_complete(self.connection.close())


def timed(work: Callable[[], object]) -> list[float]:
    """How long each took, for a few seconds, the first ones left out."""
    for _ in range(12):
        work()
    took = []
    end = time.perf_counter() + SECONDS
    while (began := time.perf_counter()) < end:
        work()
        took.append(time.perf_counter() - began)
    return took


def drivers(url: str) -> Iterator[Any]:
    kinds: Sequence[type[Any]] = (Psycopg, Pipelined, Asyncpg)
    for kind in kinds:
        try:
            driver = kind(url)
        except ModuleNotFoundError as error:
            print(f"{kind.name}: left out, {error}")
            continue
        yield driver
        driver.close()


def measured(driver: Any, what: str, each: int, work: Callable[[], object]) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    took = timed(work)
    done = each * len(took)
    share = (time.process_time() - cpu) / (time.perf_counter() - began)
    rate = done / sum(took)
    print(
        f"{driver.name:42} {what:26} {rate:9,.0f}/s  p50 {1000 * statistics.median(took):6.2f} ms"
        f"  CPU {1e6 * share / rate:7,.0f} µs each"
    )


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        a_port() as port,
        Postgres(Path(directory) / "pg", port=port, durable=True) as server,
    ):
        url = server.database("drivers")
        with psycopg.connect(url, autocommit=True) as connection:
            migrate(connection)
            connection.execute("INSERT INTO store VALUES (1, 'bench', 0)")
        assert server.port is not None
        for delay in (0.0, 0.00025):
            port = Delay(server.port, delay).port if delay else server.port
            print(f"round trip on the link {2000 * delay:.1f} ms")
            for driver in drivers(f"postgresql://postgres@{LOOPBACK}:{port}/drivers"):
                for number in (1, 20):
                    measured(
                        *(driver, f"calls written, {number} at once", number),
                        lambda number=number, driver=driver: driver.write(number),
                    )
                measured(
                    driver,
                    "channels looked up",
                    1,
                    lambda driver=driver: driver.look(("main", "call000000007")),
                )


if __name__ == "__main__":
    main()
