"""The spool: what a slow or absent database does not take is durable all the same, and written in once, in order."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from cti.spooling import SpoolSettings
from cti.store.base import RecordRefused, StoreError, StoreFull
from cti.store.records import ChannelRecord
from cti.store.rows import RowUnit
from cti.store.spool import NOTE, Spooled, SpoolFile, packed
from cti.store.sqlite import open_store_for_command


class ThreadlessClock(Clock):
    """Calls from threads wait here until they are carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: list[Any] = []

    def callFromThread(self, call: Any, /, *arguments: Any) -> None:
        self.from_threads.append((call, arguments))


class Database:
    """What a store is for the spool: takes units, late or never, and remembers what it has."""

    def __init__(self) -> None:
        self.units: list[list[Any]] = []
        self.number: dict[str, int] = {}
        self.trouble: str | None = None
        self.slow: list[tuple[RowUnit, Deferred[Sequence[Any]]]] | None = None
        self.lose_answers = False

    def start(self) -> None: ...

    def stop(self) -> "Deferred[None]":
        for _, waiting in self.slow or []:
            waiting.errback(StoreError("stopped"))
        self.slow = None
        return succeed(None)

    def writing(self) -> str | None:
        return self.trouble

    def call_by_channel(self, _pbx: str, _uniqueid: str) -> str | None:
        return None

    def noted(self, writer: str) -> int:
        if self.trouble:
            raise StoreError(self.trouble)
        return self.number.get(writer, 0)

    def commit(self, unit: RowUnit, *, at_leisure: bool = False) -> "Deferred[Sequence[Any]]":
        if self.slow is not None:
            waiting: Deferred[Sequence[Any]] = Deferred()
            self.slow.append((unit, waiting))
            return waiting
        if self.trouble:
            return fail(StoreError(self.trouble))
        if any("bad" in row for _, row in unit.rows):
            return fail(RecordRefused("bad"))
        self.take(unit)
        return fail(StoreError("the answer was lost")) if self.lose_answers else succeed(["an event"])

    def take(self, unit: RowUnit) -> None:
        (writer, number, _), *_ = [row for statement, row in unit.rows if statement.table == "writers"]
        assert number > self.number.get(writer, 0), "in order, and once"
        self.number[writer] = number
        self.units.append([row[0] for statement, row in unit.rows if statement.table != "writers"])

    # As a command sees it.

    @property
    def read(self) -> "Database":
        return self

    def __enter__(self) -> "Database":
        if self.trouble:
            raise StoreError(self.trouble)
        return self

    def __exit__(self, *_: object) -> None: ...

    def commit_together(self, units: Sequence[RowUnit]) -> Sequence[Any]:
        for unit in units:
            self.take(unit)
        return [()] * len(units)

    def be_quick(self) -> None:
        slow, self.slow = self.slow, None
        for unit, waiting in slow or []:
            self.take(unit)
            waiting.callback(["late"])


class Bench:
    def __init__(self, directory: Path, database: Database | None = None, size: int = 1 << 16) -> None:
        self.clock = ThreadlessClock()
        self.database = database or Database()
        self.directory = directory
        self.seen: list[tuple[int, int]] = []
        self.spool = Spooled(
            self.database,  # type: ignore[arg-type]
            self.clock,
            SpoolSettings(directory, size),
            lambda: self.database,  # type: ignore[arg-type, return-value]
            lambda units, used: self.seen.append((units, used)),
        )
        self.spool.start()

    def commit(self, word: str, *, patient: bool = False) -> list[Any]:
        unit = RowUnit()
        unit.put_key(word, "x")
        results: list[Any] = []
        commit = self.spool.commit if patient else self.spool.commit_for_caller
        commit(unit).addBoth(results.append)
        return results

    def settle(self, seconds: float = 2.0) -> None:
        """Until threads and timers have done what is due."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.jobs()
            self.clock.advance(0.01)

    def jobs(self) -> None:
        done = []
        self.spool._jobs.put(lambda: done.append(1))
        end = time.monotonic() + 0.2
        while not done and time.monotonic() < end:
            time.sleep(0.0005)
        while self.clock.from_threads:
            call, arguments = self.clock.from_threads.pop(0)
            call(*arguments)

    def words(self) -> list[str]:
        return [word for unit in self.database.units for word in unit]

    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*.spool"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "spool")


def test_a_store_that_is_quick_has_no_use_for_the_spool(bench: Bench) -> None:
    assert bench.commit("a") == [["an event"]]
    bench.settle()
    assert (bench.words(), bench.seen, bench.spool.trouble()) == (["a"], [], None)


def test_who_waits_goes_on_once_it_is_in_the_spool_and_it_is_written_only_once(bench: Bench) -> None:
    bench.database.slow = []
    first = bench.commit("a")
    bench.settle(0.09)
    assert first == []
    bench.settle(0.05)
    assert first == [()]
    assert "a" in bench.files()[0].read_bytes().decode("latin-1")
    second = bench.commit("b")
    bench.settle(0.05)
    assert second == [()], "behind what waits, and so not to the database"
    bench.database.be_quick()
    bench.settle()
    assert bench.words() == ["a", "b"]
    assert set(bench.files()[0].read_bytes()) == {0}, "nothing of it is left"
    assert bench.spool.trouble() is None


def test_who_is_patient_waits_for_the_database_while_it_is_only_slow(bench: Bench) -> None:
    bench.database.slow = []
    patient = bench.commit("a", patient=True)
    bench.settle(0.3)
    assert (patient, bench.spool.trouble()) == ([], None)
    caller = bench.commit("b")
    bench.settle(0.3)
    behind = bench.commit("c", patient=True)
    bench.settle(0.3)
    assert (caller, behind) == ([()], [])
    bench.database.be_quick()
    bench.settle()
    assert (patient, behind) == ([["late"]], [["an event"]])
    assert bench.words() == ["a", "b", "c"]


def test_what_a_database_that_is_away_did_not_take_is_written_in_order_when_it_is_back(bench: Bench) -> None:
    bench.database.trouble = "away"
    results = [bench.commit(word, patient=word == "b") for word in "abc"]
    bench.settle()
    assert results == [[()]] * 3
    assert bench.spool.trouble() == "3 units wait to be written in"
    assert bench.seen[-1][0] == 3
    bench.database.trouble = None
    bench.settle()
    assert bench.words() == ["a", "b", "c"]
    assert bench.commit("d") == [["an event"]]
    assert bench.seen[-1] == (0, 0)


def test_who_goes_on_because_the_database_is_away_may_write_more_at_once(bench: Bench) -> None:
    bench.database.slow = []
    bench.commit("a")
    bench.settle(0.2)
    then: list[Any] = []
    unit = RowUnit()
    unit.put_key("b", "x")
    bench.spool.commit(unit).addCallback(lambda _: then.append(bench.commit("c")))
    slow, bench.database.slow, bench.database.trouble = bench.database.slow, None, "away"
    slow[0][1].errback(StoreError("away"))
    bench.settle(0.3)
    assert then == [[()]]
    bench.database.trouble = None
    bench.settle(0.8)
    assert bench.words() == ["a", "b", "c"]


def test_what_was_written_though_the_answer_was_lost_is_not_written_again(bench: Bench) -> None:
    bench.database.lose_answers = True
    result = bench.commit("a")
    bench.database.lose_answers = False
    bench.settle()
    assert (result, bench.words()) == ([()], ["a"])


def test_a_call_that_waits_in_the_spool_is_known_by_its_channel(bench: Bench) -> None:
    bench.database.trouble = "away"
    unit = RowUnit()
    unit.put_channel(ChannelRecord("main", "17.1", "c1", "PJSIP/trunk", "caller", 1.0, name="PJSIP/trunk-1"))
    bench.spool.commit(unit)
    bench.settle(0.1)
    assert bench.spool.call_by_channel("main", "17.1") == "c1"
    assert bench.spool.call_by_channel("main", "17.2") is None
    bench.database.trouble = None
    bench.settle()
    assert bench.spool._channels == {}


def test_a_record_that_the_database_refuses_is_told_and_never_spooled(bench: Bench) -> None:
    (refused,) = bench.commit("bad")
    assert isinstance(refused, Failure)
    assert isinstance(refused.value, RecordRefused)
    assert bench.commit("a") == [["an event"]]


def test_the_next_process_writes_in_what_a_dead_one_left_but_nothing_twice(bench: Bench) -> None:
    bench.commit("a")
    bench.database.slow = []
    bench.commit("b")
    bench.commit("c")
    bench.settle(0.2)
    # It dies; `b` had come through, and nobody heard of it.
    bench.database.take(bench.database.slow[0][0])
    bench.database.slow = None
    for file in (bench.spool._own,):
        assert file is not None
        os.close(file._file)

    bench.database.trouble = "away"
    with pytest.raises(StoreError, match="away"):
        Bench(bench.directory, bench.database)
    bench.database.trouble = None
    after = Bench(bench.directory, bench.database)
    assert after.words() == ["a", "b", "c"], "before anybody reads how things stand"
    assert len(after.files()) == 1, "the dead one's is gone"


def test_what_came_before_a_caller_s_unit_goes_into_the_spool_with_it(bench: Bench) -> None:
    bench.database.slow = []
    bench.commit("a", patient=True)
    assert bench.commit("b") == []
    bench.settle(0.2)
    # It dies, and neither has come through.
    bench.database.slow = None
    assert bench.spool._own is not None
    os.close(bench.spool._own._file)
    assert Bench(bench.directory, bench.database).words() == ["a", "b"]


def test_what_is_on_its_way_when_others_begin_to_wait_goes_into_the_spool_before_what_follows(
    bench: Bench,
) -> None:
    bench.database.slow = []
    first = bench.commit("a")
    bench.commit("b", patient=True)
    bench.settle(0.15)
    assert first == [()]
    bench.commit("c", patient=True)
    bench.settle(0.1)
    # It dies, and nothing has come through.
    bench.database.slow = None
    assert bench.spool._own is not None
    os.close(bench.spool._own._file)
    assert Bench(bench.directory, bench.database).words() == ["a", "b", "c"]


def test_the_files_of_processes_that_live_are_left_alone(bench: Bench) -> None:
    bench.database.trouble = "away"
    bench.commit("a")
    bench.settle()
    other = Bench(bench.directory)
    other.settle()
    assert other.words() == []
    assert len(other.files()) == 2


def test_a_damaged_end_is_cut_off(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "abc.spool", 4096)
    units = [RowUnit() for _ in range(2)]
    for number, unit in enumerate(units, 1):
        unit.put_key(f"word{number}", "x")
        file.append([packed(number, unit)])
    used = file.used
    file.close(remove=False)
    content = bytearray((tmp_path / "abc.spool").read_bytes())
    content[used - 3] ^= 1
    (tmp_path / "abc.spool").write_bytes(content)
    again = SpoolFile(tmp_path / "abc.spool", None)
    assert [(number, unit.rows[0][1][0]) for number, unit in again.read()] == [(1, "word1")]


def test_what_is_still_on_its_way_to_the_database_is_not_refused_for_a_full_spool(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=300)
    bench.database.slow = []
    results = [bench.commit(f"word {n}") for n in range(3)]
    bench.settle(0.5)
    assert any(result == [] for result in results)
    bench.database.be_quick()
    bench.settle()
    assert not any(isinstance(result, Failure) for (result,) in results)
    assert sorted(bench.words()) == ["word 0", "word 1", "word 2"]


def test_a_spool_that_cannot_be_written_takes_nothing_of_a_unit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: SpoolFile, _records: Sequence[bytes]) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(SpoolFile, "append", broken)
    bench.database.trouble = "away"
    result = bench.commit("a")
    bench.settle(0.2)
    (failure,) = result
    assert isinstance(failure, Failure)
    assert "neither the store nor the spool" in str(failure.value)
    bench.database.trouble = None
    bench.settle()
    assert bench.words() == [], "who has made it tries again, and it must not be there twice"


def test_a_full_spool_refuses_and_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path, size=1000)
    bench.database.trouble = "away"
    results = [bench.commit(f"word {n}") for n in range(10)]
    bench.settle()
    refused = [result for (result,) in results if isinstance(result, Failure)]
    assert refused
    assert all(isinstance(each.value, StoreFull) for each in refused)
    assert not bench.spool.has_room
    bench.database.trouble = None
    bench.settle()
    assert len(bench.words()) == 10 - len(refused)


def test_stopping_puts_what_is_on_its_way_into_the_spool_for_the_next_time(bench: Bench) -> None:
    bench.database.slow = []
    result = bench.commit("a")
    stopped: list[Any] = []
    bench.spool.stop().addCallback(stopped.append)
    while not stopped:
        bench.settle(0.02)
    assert result == [()]
    assert Bench(bench.directory).words() == ["a"]


def test_of_many_notes_in_one_transaction_the_last_is_written(tmp_path: Path) -> None:
    with open_store_for_command(tmp_path / "cti.db", destinations={}, clock=float) as command:
        unit = RowUnit()
        for number in (1, 2, 3):
            unit.rows.append((NOTE, ("w", number, 1.0)))
        command.commit_now(unit)
        assert command.read.noted("w") == 3
