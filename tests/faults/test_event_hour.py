"""An hour of event streams whose readers leave, stall and come back at random, on a store that several write to."""

import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cti.store.base import IStore
from cti.store.opening import open_for_command, open_store
from cti.store.sqlite import SqliteStore, open_store_for_command
from cti.store.threaded import CommandStore
from cti.web.events import EventHub, Reader
from cti.web.tokens import AGENT, SUPERVISOR, Identity
from lab.crm.postgresql import Postgres
from lab.ports import PortBlock
from tests.unit.test_store import Loop

HOUR = 3600
AGENTS = ["anna", "ben", "cora"]
READERS = 24
#: Besides the server itself.
WRITERS = 3
_ID = re.compile(rb"^id: (\d+)\nevent: (?!reset)", re.MULTILINE)


@define
class Opened:
    """A store as a server has it, and how a command beside it opens the same."""

    store: IStore
    beside: Callable[[], AbstractContextManager[CommandStore]]


@contextmanager
def on_sqlite(directory: Path, loop: Loop) -> Iterator[Opened]:
    path = directory / "cti.db"
    store = SqliteStore(path, reactor=loop, destinations={}, clock=lambda: 1000.0)
    store.start()
    try:
        yield Opened(store, lambda: open_store_for_command(path, destinations={}, clock=lambda: 1000.0))
    finally:
        loop.result(store.stop())


@contextmanager
def on_postgresql(directory: Path, loop: Loop) -> Iterator[Opened]:
    ports = PortBlock.claim()
    with Postgres(directory / "postgresql", port=ports.take()) as cluster:
        place = cluster.database("cti")
        store = open_store(
            place, reactor=loop, destinations={}, clock=lambda: 1000.0, observe_commit=lambda _seconds: None
        )
        store.start()
        try:
            yield Opened(store, lambda: open_for_command(place, destinations={}, clock=lambda: 1000.0))
        finally:
            loop.result(store.stop())
    ports.release()


STORES: Mapping[str, Callable[[Path, Loop], AbstractContextManager[Opened]]] = {
    "sqlite": on_sqlite,
    "postgresql": on_postgresql,
}


@define(eq=False)
class Connection:
    """What a stream writes to: a request, and the transport below it."""

    written: bytearray = field(factory=bytearray)
    producer: Any = None
    finished: Deferred[None] = field(factory=Deferred)
    gone: bool = False

    @property
    def connection(self) -> "Connection":
        return self

    def setHeader(self, name: str, value: str) -> None:
        """Headers are not what is looked at."""

    def forget_headers(self) -> None:
        """Nor is what is kept of them."""

    def write(self, data: bytes) -> None:
        self.written += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        """The stream is over."""

    def notifyFinish(self) -> "Deferred[None]":
        return self.finished

    def leave(self) -> None:
        if not self.gone:
            self.gone = True
            self.finished.callback(None)

    # Whatever ends it at our side, the reader sees the same.
    finish = loseConnection = abortConnection = leave


@define(eq=False)
class Somebody:
    """A reader, who keeps the number of the last event that they had, as browsers do."""

    agent: str | None
    connection: Connection
    seen: list[int] = field(factory=list)

    def take(self) -> None:
        """Read what has come."""
        *blocks, rest = bytes(self.connection.written).split(b"\n\n")
        self.seen += [int(number) for block in blocks for number in _ID.findall(block)]
        self.connection.written[:] = rest


class Hour:
    """The hub, its readers and the writers beside, second by second."""

    def __init__(self, opened: Opened, loop: Loop, chance: random.Random) -> None:
        self.opened = opened
        self.loop = loop
        self.chance = chance
        self.clock = Clock()
        self.clock.advance(1_795_400_000.0)
        self.hub = EventHub(opened.store, self.clock, valid=lambda _identity: True)
        self.hub.start()
        opened.store.on_events(self.hub.publish)
        opened.store.on_foreign_change(self.hub.poke)
        self.readers = [self._comes(AGENTS[n % 4] if n % 4 < 3 else None, None) for n in range(READERS)]

    def _comes(self, agent: str | None, last: int | None) -> Somebody:
        role = SUPERVISOR if agent is None else AGENT
        identity = Identity(f"t{self.chance.random()}", "somebody", role, "", agent)
        connection = Connection()
        self.hub.open(connection, Reader(identity), 0 if last is None else last)
        return Somebody(agent, connection)

    def second(self) -> None:
        """What happens in one: something is written here, and readers do as they like."""
        if self.chance.random() < 0.7:
            unit = self.opened.store.unit()
            for _ in range(self.chance.randrange(1, 4)):
                happens(unit, self.chance)
            self.loop.result(self.opened.store.commit(unit))
        for index in self.chance.sample(range(READERS), 3):
            self._does(index, self.chance.randrange(4))
        self.pass_time(1.0)

    def _does(self, index: int, what: int) -> None:
        reader = self.readers[index]
        match what:
            case 0 if not reader.connection.gone:
                reader.connection.producer.pauseProducing()
            case 1 if not reader.connection.gone:
                reader.connection.producer.resumeProducing()
            case 2:
                # In the middle of what is on its way, or not.
                if self.chance.random() < 0.5:
                    reader.take()
                reader.connection.leave()
            case _:
                reader.take()
        if reader.connection.gone and self.chance.random() < 0.7:
            back = self._comes(reader.agent, reader.seen[-1] if reader.seen else None)
            back.seen = reader.seen
            self.readers[index] = back

    def pass_time(self, seconds: float) -> None:
        """Time, and what came from threads meanwhile."""
        while not self.loop._calls.empty():
            call, args, keywords = self.loop._calls.get()
            call(*args, **keywords)
        for _ in range(4):
            self.clock.advance(seconds / 4)


def happens(unit: Any, chance: random.Random) -> None:
    agents = chance.choice([[], AGENTS[:1], AGENTS[1:2], AGENTS[:2], AGENTS])
    unit.emit("agent.state", 1000.0, {"more": "x" * chance.randrange(200)}, agents=agents)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", STORES)
def test_for_an_hour_each_reader_has_each_number_once(kind: str, tmp_path: Path) -> None:
    chance = random.Random(seed := random.randrange(1_000_000))
    loop, over = Loop(), threading.Event()
    errors: list[BaseException] = []
    with STORES[kind](tmp_path, loop) as opened:

        def write_beside(seed: int) -> None:
            mine = random.Random(seed)
            try:
                with opened.beside() as command:
                    while not over.wait(mine.uniform(0.0, 0.01)):
                        unit = command.unit()
                        for _ in range(mine.randrange(1, 3)):
                            happens(unit, mine)
                        command.commit_now(unit)
            except BaseException as error:  # noqa: BLE001 - a thread's error has to reach the test
                errors.append(error)

        writers = [threading.Thread(target=write_beside, args=(seed + n,)) for n in range(WRITERS)]
        hour = Hour(opened, loop, chance)
        for writer in writers:
            writer.start()
        try:
            for _ in range(HOUR):
                hour.second()
        finally:
            over.set()
            for writer in writers:
                writer.join()
        assert errors == []

        # All come back, and read to the end.
        hour.hub.poke()
        for index, reader in enumerate(hour.readers):
            reader.take()
            reader.connection.leave()
            back = hour._comes(reader.agent, reader.seen[-1] if reader.seen else None)
            back.seen = reader.seen
            hour.readers[index] = back
        for _ in range(200):
            hour.pass_time(0.1)
        with opened.beside() as command:
            written = len(command.read.events_after(0, 10_000_000))
            for reader in hour.readers:
                reader.take()
                due = [event.seq for event in command.read.events_after(0, 10_000_000, reader.agent)]
                assert reader.seen == due, f"seed {seed}, {reader.agent}"
        print(f"seed {seed}: {written} events, {READERS} readers")
        hour.hub.stop()
