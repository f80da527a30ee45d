"""Bridges a store that is slow or away: what it has not taken in time waits in a file here, and is written in later.

Theory of operation. Each unit gets a number and, as a row of its own, the note that it has been written (`writers`,
one row for each process). A unit that is not durable within `within` seconds, or that the database could not take, is
put into the spool; whoever waits for it goes on as soon as the file is on the disk. From then on every unit goes
through the spool, until all that is in it is written in: so the order is kept. A process that dies leaves its file to
the next one, which leaves out what the database has noted already: nothing is lost, and nothing is written twice.

The file has its size from the beginning, so that a full disk does not stop it. What it holds is as personal as the
log: it is overwritten with zeros as soon as it is written in.
"""

import base64
import errno
import fcntl
import json
import os
import secrets
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol, cast

from attrs import define
from twisted.internet import defer
from twisted.internet.defer import Deferred

from cti.logs import get_logger
from cti.spooling import SpoolSettings
from cti.store.base import IStore, RecordRefused, StoreError, StoreFull, Unit
from cti.store.records import StoredEvent
from cti.store.rows import CHANNELS, EventDraft, Execute, Row, RowUnit, Statement, alone
from cti.store.threaded import CommandStore

log = get_logger("cti.store.spool")

#: How many units are written in at a time, and how long it is waited after they could not be.
_BATCH: Final = 200
_PAUSE: Final = 0.5
#: How soon it is looked again whether what was on its way has arrived.
_LOOK: Final = 0.01
_HEAD: Final = struct.Struct(">II")  # length of what follows, and its CRC; a length of 0 ends the file
_ENDING: Final = ".spool"


class _OnlyTheLast(Statement):
    """Of the rows that are written together only the last one counts."""

    def run(self, execute: Execute, rows: Sequence[Row]) -> None:
        latest = {row[0]: row for row in rows}
        for row in latest.values():
            super().run(execute, [row])


NOTE: Final = _OnlyTheLast(
    "writers",
    [
        (
            1,
            (
                "INSERT INTO writers (writer, number, at) VALUES (?, ?, ?)"
                " ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = excluded.at"
            ),
        )
    ],
)


#: The same for what may be in already, though nobody has heard of it: then the database refuses the whole unit.
NOTE_ONCE: Final = alone(
    "writers",
    "INSERT INTO writers (writer, number, at) VALUES (?, ?, ?) ON CONFLICT (writer) DO UPDATE SET"
    " number = CASE WHEN writers.number < excluded.number THEN excluded.number END, at = excluded.at",
)


class Reactor(Protocol):
    """Of a reactor, what is needed here."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, call: Callable[..., Any], /, *arguments: Any) -> Any: ...

    def callFromThread(self, call: Callable[..., Any], /, *arguments: Any) -> Any: ...


@define(eq=False)
class _Entry:
    """A unit on its way. `waiting` is who hears of it, None once they have.

    `hurried`: they hear of it as soon as it is durable anywhere. `kept`: it is for the file, `safe`: and is there;
    `over`: nothing more is to be done.
    """

    number: int
    unit: RowUnit
    waiting: "Deferred[Sequence[StoredEvent]] | None"
    hurried: bool
    kept: bool = False
    safe: bool = False
    over: bool = False


def _nobody(_units: int, _size: int) -> None:
    return None


class SpoolFile:
    """One file of the spool, locked by the process that writes it. Raises `OSError`."""

    def __init__(self, path: Path, size: int | None) -> None:
        """`size`: of a new one; None for one that a dead process left. `BlockingIOError`: it lives."""
        self.path = path
        self.writer = path.name.removesuffix(_ENDING)
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if size is not None else 0)
        self._file = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if size is not None:
                os.posix_fallocate(self._file, 0, size)
                os.fsync(self._file)
        except BaseException:
            os.close(self._file)
            if size is not None:
                path.unlink(missing_ok=True)
            raise
        self.size = os.fstat(self._file).st_size
        self.used = 0

    def close(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._file)

    def room_for(self, data: bytes) -> bool:
        return self.used + len(data) + _HEAD.size <= self.size

    def append(self, records: Sequence[bytes]) -> None:
        """Durable when this returns."""
        data = b"".join(records)
        if os.pwrite(self._file, data, self.used) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(self._file)
        self.used += len(data)

    def clear(self) -> None:
        """Nothing of what was in it is left."""
        os.pwrite(self._file, bytes(min(self.used + _HEAD.size, self.size)), 0)
        os.fdatasync(self._file)
        self.used = 0

    def read(self) -> Iterator[tuple[int, RowUnit]]:
        """The units in it, with their numbers. What is behind a damaged place is lost, and said."""
        content = os.pread(self._file, self.size, 0)
        place = 0
        while place + _HEAD.size <= len(content):
            length, check = _HEAD.unpack_from(content, place)
            if length == 0:
                break
            data = content[place + _HEAD.size : place + _HEAD.size + length]
            if len(data) < length or zlib.crc32(data) != check:
                log.error("a spool is damaged: what follows in it is lost", file=self.path.name, at=place)
                break
            yield _unit_of(data)
            place += _HEAD.size + length
        self.used = place


def packed(number: int, unit: RowUnit) -> bytes:
    """A unit as it stands in the file: statements are written out, so that any later program understands it."""
    data = json.dumps(
        {
            "number": number,
            "rows": [
                [statement.table, statement.single, [_plain(value) for value in row]]
                for statement, row in unit.rows
                if statement is not NOTE and statement is not NOTE_ONCE
            ],
            "events": [
                [draft.type, draft.at, draft.call, list(draft.agents), draft.body.decode()]
                for draft in unit.events
            ],
        },
        # As it is, so that whoever is looked for in files is found; a half of a pair, which no encoding has, too.
        ensure_ascii=False,
    ).encode("utf-8", "surrogatepass")
    return _HEAD.pack(len(data), zlib.crc32(data)) + data


def _unit_of(data: bytes) -> tuple[int, RowUnit]:
    read = json.loads(data.decode("utf-8", "surrogatepass"))
    known: dict[tuple[str, str], Statement] = {}
    unit = RowUnit()
    for table, sql, row in read["rows"]:
        statement = known.setdefault((table, sql), alone(table, sql))
        unit.rows.append((statement, [_value(value) for value in row]))
    unit.events += [
        EventDraft(type, at, call, agents, body.encode()) for type, at, call, agents, body in read["events"]
    ]
    return read["number"], unit


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _value(value: Any) -> Any:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value


class Spooled:
    """A store that is a little slow, or away for a while, behind one that is neither.

    Whatever is not said here is the store's own.
    """

    def __init__(
        self,
        inner: IStore,
        reactor: Reactor,
        settings: SpoolSettings,
        command: Callable[[], CommandStore],
        observe: Callable[[int, int], object] = _nobody,
    ) -> None:
        """`command`: opens the same store for a moment. `observe(units, bytes)` is told how much waits here."""
        self._inner = inner
        self._reactor = reactor
        self._settings = settings
        self._command = command
        self._observe = observe
        self._number = 0
        self._flying: dict[int, _Entry] = {}
        # What has to be written in, the oldest first.
        self._backlog: deque[_Entry] = deque()
        self._own: SpoolFile | None = None
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._to_write: list[tuple[_Entry, bytes]] = []
        # Bytes that the thread has been handed and that may not be in `used` yet.
        self._handed_over = 0
        self._writing_file = False
        # The channels of calls that wait: whoever looks for a call by one must not take it for unknown.
        self._channels: dict[tuple[str, str], str] = {}
        self._replaying = False
        self._bytes = 0
        self._why = ""
        self._open = False

    def as_store(self) -> IStore:
        """The same, as who knows stores sees it."""
        return cast(IStore, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def start(self) -> None:
        """As `IStore.start`, after what dead processes have left is written in: who starts reads how things stand."""
        try:
            self._settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._take_over()
            name = secrets.token_hex(8) + _ENDING
            self._own = SpoolFile(self._settings.directory / name, self._settings.size)
        except OSError as error:
            self._why = f"there is no spool: {self._settings.directory}: {error.strerror}"
            log.error("calls will not wait for a slow store in a spool", why=self._why)
        try:
            self._inner.start()
        except BaseException:
            if self._own is not None:
                self._own.close(remove=True)
            raise
        self._open = True
        Thread(target=self._do_jobs, name="cti-store-spool", daemon=True).start()

    def stop(self) -> "Deferred[None]":
        if not self._open:
            return self._inner.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._open = False
        # What is on its way either becomes durable there, or is written here.
        await self._inner.stop()
        while self._writing_file:
            await self._sleep(_LOOK)
        empty = all(entry.over for entry in self._backlog)
        for entry in list(self._backlog):
            if entry.safe:
                _tell(entry, ())
            elif not entry.over:
                _refuse(entry, StoreError("the store is not running"))
        closed: Deferred[None] = Deferred()

        def close() -> None:
            # By the thread, as the last it does: a file that it has yet to empty must not be another's by then.
            try:
                if self._own is not None:
                    self._own.close(remove=empty)
            finally:
                self._reactor.callFromThread(closed.callback, None)

        self._jobs.put(close)
        self._jobs.put(None)
        await closed

    def _take_over(self) -> None:
        """Write in what processes have left that have died. Raises `StoreError`, and leaves it there then."""
        for path in sorted(self._settings.directory.glob("*" + _ENDING)):
            try:
                file = SpoolFile(path, None)
            except BlockingIOError:
                continue  # Its process lives.
            try:
                entries = list(file.read())
                if entries:
                    self._write_in_all(file.writer, entries)
            except BaseException:
                file.close(remove=False)
                raise
            file.close(remove=True)

    def _write_in_all(self, writer: str, entries: Sequence[tuple[int, RowUnit]]) -> None:
        with self._command() as store:
            noted = store.read.noted(writer)
            units = []
            for number, unit in sorted(entries, key=itemgetter(0)):
                if number > noted:
                    unit.rows.append((NOTE_ONCE, (writer, number, self._reactor.seconds())))
                    units.append(unit)
            log.warning("a process before has left a spool: it is written in", units=len(units))
            for begin in range(0, len(units), _BATCH):
                for outcome in store.commit_together(units[begin : begin + _BATCH]):
                    if isinstance(outcome, StoreError) and not _is_in_already(outcome):
                        log.error("what was spooled is refused by the database", why=str(outcome))

    # Writing.

    def trouble(self) -> str | None:
        """What is wrong with the spool, or how much waits in it; None if it is there and empty."""
        if self._own is None:
            return self._why
        waits = sum(not entry.over for entry in self._backlog)
        return f"{waits} units wait to be written in" if waits else None

    def call_by_channel(self, pbx: str, uniqueid: str) -> str | None:
        """As `IStore.call_by_channel`, of what waits here, too."""
        return self._channels.get((pbx, uniqueid)) or self._inner.call_by_channel(pbx, uniqueid)

    @property
    def has_room(self) -> bool:
        """Whether more can wait."""
        return self._own is not None and self._own.used < self._own.size // 2

    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]":
        """As `IStore.commit`: fires when the database has it, or, where that is in trouble, the spool; then without
        events.
        """
        return self._commit(unit, at_leisure=at_leisure, hurried=False)

    def commit_for_caller(self, unit: Unit) -> "Deferred[Sequence[StoredEvent]]":
        """As `IStore.commit_for_caller`: fires within `within` seconds, and what the disk takes for the spool."""
        return self._commit(unit, at_leisure=False, hurried=True)

    def _commit(self, unit: Unit, *, at_leisure: bool, hurried: bool) -> "Deferred[Sequence[StoredEvent]]":
        assert isinstance(unit, RowUnit)
        if not self._open or self._own is None:
            return self._inner.commit(unit, at_leisure=at_leisure)
        self._number += 1
        # A copy, as it may be tried again by who has made it.
        note = (NOTE, (self._own.writer, self._number, self._reactor.seconds()))
        unit = RowUnit([*unit.rows, note], unit.events)
        waiting: Deferred[Sequence[StoredEvent]] = Deferred()
        entry = _Entry(self._number, unit, waiting, hurried)
        if self._backlog:
            self._spool_in_turn(entry)
            return waiting
        self._flying[entry.number] = entry
        written = self._inner.commit(unit, at_leisure=at_leisure)
        written.addCallbacks(self._written, self._not_written, callbackArgs=(entry,), errbackArgs=(entry,))
        if hurried and not entry.over:
            self._reactor.callLater(self._settings.within, self._too_slow, entry)
        return waiting

    def _written(self, events: Sequence[StoredEvent], entry: _Entry) -> None:
        self._flying.pop(entry.number, None)
        entry.over = True
        _tell(entry, events)
        self._forget_written()

    def _not_written(self, failure: Any, entry: _Entry) -> None:
        self._flying.pop(entry.number, None)
        error = failure.value
        if isinstance(error, RecordRefused) or not isinstance(error, StoreError):
            _refuse(entry, failure)
            self._forget_written()
            return
        # Who would wait for the database may wait for long now.
        entry.hurried = True
        if not entry.kept:
            self._spool_in_turn(entry)
        elif entry.safe:
            _tell(entry, ())
        self._replay()

    def _too_slow(self, entry: _Entry) -> None:
        """It goes on being written there; who waits need not wait for that."""
        if not entry.over and not entry.kept and entry.number in self._flying:
            self._spool_in_turn(entry)

    def _spool_in_turn(self, entry: _Entry) -> None:
        """Spool it behind all that came before it and is only on its way: it must not be durable without that."""
        assert self._own is not None
        before = [each for each in self._flying.values() if each.number < entry.number and not each.kept]
        written = [(each, packed(each.number, each.unit)) for each in (*before, entry)]
        if self._has_room_for(sum(len(data) for _, data in written)):
            for each, data in written:
                self._spool(each, data)
        elif entry.number not in self._flying:
            why = f"the spool {self._own.path.name} is full: {self._inner.writing() or 'the store is slow'}"
            _refuse(entry, StoreFull(why))

    def _spool(self, entry: _Entry, data: bytes) -> None:
        if not self._backlog:
            why = self._inner.writing() or "slow"
            log.error("the store is too slow: what is written waits in the spool", why=why)
        entry.kept = True
        # In the order of the numbers, though one that was tried there may come later than one that was not.
        self._backlog.append(entry)
        for statement, row in entry.unit.rows:
            if statement is CHANNELS.upsert:
                pbx, uniqueid, call, *_ = row
                self._channels[pbx, uniqueid] = call
        self._bytes += len(data)
        self._observe(len(self._backlog), self._bytes)
        self._to_write.append((entry, data))
        if not self._writing_file:
            self._writing_file = True
            self._write_file()
        self._replay()

    def _has_room_for(self, size: int) -> bool:
        assert self._own is not None
        waits = sum(len(each) for _, each in self._to_write)
        return self._own.used + self._handed_over + waits + size + _HEAD.size <= self._own.size

    def _write_file(self) -> None:
        batch, self._to_write = self._to_write, []
        self._handed_over = sum(len(data) for _, data in batch)
        file = self._own
        assert file is not None

        def write() -> None:
            error: OSError | None = None
            try:
                file.append([data for _, data in batch])
            except OSError as why:
                error = why
            self._reactor.callFromThread(self._file_written, [entry for entry, _ in batch], error)

        self._jobs.put(write)

    def _file_written(self, entries: Sequence[_Entry], error: OSError | None) -> None:
        self._handed_over = 0
        for entry in entries:
            if error is None:
                entry.safe = True
                if entry.hurried:
                    _tell(entry, ())
            elif entry.hurried and entry.number not in self._flying:
                # Nothing of it is taken: who has made it may try again.
                why = f"neither the store nor the spool can be written: {error.strerror}"
                _refuse(entry, StoreError(why))
        if self._to_write:
            self._write_file()
        else:
            self._writing_file = False
            self._forget_written()

    def _do_jobs(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    # Writing in.

    def _replay(self) -> None:
        if not self._replaying and self._open:
            self._replaying = True
            Deferred.fromCoroutine(self._write_in()).addErrback(self._broke)

    def _broke(self, failure: Any) -> None:
        self._replaying = False
        log.error("the spool could not be written in", why=repr(failure.value))
        self._reactor.callLater(_PAUSE, self._replay)

    async def _write_in(self) -> None:
        while self._open:
            if not self._backlog:
                break
            # Those that are still on their way there come first: they have lesser numbers.
            if self._flying:
                await self._sleep(_LOOK)
                continue
            try:
                noted = self._inner.noted(self._own.writer) if self._own is not None else 0
            except StoreError:
                self._keep_nobody()
                await self._sleep(_PAUSE)
                continue
            # What was lost on the way back may have been written all the same.
            for entry in list(self._backlog):
                if entry.number <= noted:
                    entry.over = True
                    _tell(entry, ())
            waiting = sorted((entry for entry in self._backlog if not entry.over), key=attrgetter("number"))
            self._backlog = deque(waiting)
            batch = waiting[:_BATCH]
            for entry in batch:
                # What was lost on its way back may still arrive.
                *rows, (_, note) = entry.unit.rows
                entry.unit.rows[:] = [*rows, (NOTE_ONCE, note)]
            results = await defer.DeferredList(
                [self._inner.commit(entry.unit) for entry in batch], consumeErrors=True
            )
            failed = False
            for entry, (done, result) in zip(batch, results, strict=True):
                error = None if done else result.value  # type: ignore[attr-defined]
                if done:
                    entry.over = True
                    _tell(entry, result)
                elif isinstance(error, RecordRefused) and _is_in_already(error):
                    entry.over = True
                    _tell(entry, ())
                elif isinstance(error, RecordRefused):
                    log.error("what was spooled is refused by the database", why=str(error))
                    _refuse(entry, error)
                else:
                    failed = True
            if failed:
                self._keep_nobody()
            self._observe(len(self._backlog), self._bytes)
            if failed:
                await self._sleep(_PAUSE)
        self._replaying = False
        self._forget_written()

    def _keep_nobody(self) -> None:
        """The database is in trouble: what is in the file is durable, and nobody waits for more."""
        # A copy: who is told may have more to write.
        for entry in list(self._backlog):
            entry.hurried = True
            if entry.safe:
                _tell(entry, ())

    def _sleep(self, seconds: float) -> "Deferred[None]":
        slept: Deferred[None] = Deferred()
        self._reactor.callLater(seconds, slept.callback, None)
        return slept

    def _forget_written(self) -> None:
        """Where all that is in a file is in the database, nothing of it is left."""
        if any(not entry.over for entry in self._backlog):
            return
        self._backlog.clear()
        if self._writing_file or not self._bytes:
            return
        self._bytes = 0
        self._channels.clear()
        self._observe(0, 0)
        log.info("the spool is written in")
        own = self._own

        def clear() -> None:
            if own is not None and own.used:
                try:
                    own.clear()
                except OSError as error:
                    # What is in it is noted, and so left out by whoever reads it; the next goes behind it.
                    log.error("the spool could not be emptied", file=own.path.name, why=error.strerror)

        self._jobs.put(clear)


def _is_in_already(error: StoreError) -> bool:
    """Whether the database refuses a unit because of its number, as `NOTE_ONCE` has it."""
    return "writers" in str(error)


def _refuse(entry: _Entry, error: Any) -> None:
    entry.over = True
    if entry.waiting is not None:
        waiting, entry.waiting = entry.waiting, None
        waiting.errback(error)


def _tell(entry: _Entry, events: Sequence[StoredEvent]) -> None:
    if entry.waiting is not None:
        waiting, entry.waiting = entry.waiting, None
        waiting.callback(events)
