"""What only PostgreSQL asks of a store: lost answers, addresses with passwords, schemas, several writers."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from typing import Any

import psycopg
import pytest

from cti.store import postgresql
from cti.store.address import is_address, without_password
from cti.store.base import CallFilter, StoreError
from cti.store.postgresql import (
    PostgresReader,
    PostgresWriter,
    migrate,
    open_postgres_for_command,
    open_postgres_for_reading,
)
from cti.store.records import CallRecord
from cti.store.rows import Row, RowUnit
from cti.store.schema import migrations
from lab.crm.postgresql import Postgres
from lab.ports import a_port
from lab.processes import eventually
from tests.faults.link import Link

_COUNTER = count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with a_port() as port, Postgres(tmp_path_factory.mktemp("postgresql"), port=port) as running:
        yield running


@pytest.fixture
def url(cluster: Postgres) -> str:
    return cluster.database(f"cti{next(_COUNTER)}")


def a_unit(*calls: str) -> RowUnit:
    unit = RowUnit()
    for id in calls:
        unit.put_call(CallRecord(id=id, pbx="main", started=100.0))
        unit.emit("call.offered", 100.0, {"call": id}, call=id)
    return unit


def a_writer(url: str, kind: type[PostgresWriter] = PostgresWriter) -> PostgresWriter:
    return kind(url, {}, lambda: 1000.0)


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(sql.encode()).fetchall()


def events(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT seq, call FROM events ORDER BY seq")


class Unlucky(PostgresWriter):
    """Loses its connection at COMMIT: before the database has it, while it does it, or before its answer is here."""

    loses = ""
    database_away = 0

    def _execute(self, sql: str, row: Row) -> Any:
        if self.database_away and (self._connection is None or self._connection.closed):
            self.database_away -= 1
            raise psycopg.OperationalError("nobody is there")
        if sql != "COMMIT" or not self.loses:
            return super()._execute(sql, row)
        loses, self.loses = self.loses, ""
        if loses == "the answer":
            super()._execute(sql, row)
        if loses == "patience":
            threading.Timer(0.5, self._connected().execute, ["COMMIT"]).start()
            self._connection = None
        self._lost()
        raise psycopg.OperationalError("the connection is lost")


@pytest.mark.parametrize("loses", ["the answer", "patience", "the command"])
def test_a_connection_lost_at_commit_writes_the_unit_once(url: str, loses: str) -> None:
    writer = a_writer(url, Unlucky)
    writer.loses = loses  # type: ignore[attr-defined]
    written = writer.write([a_unit("a")])
    assert written.fault is None
    assert [event.seq for event in written.events] == [1]
    writer.close()
    assert events(url) == [(1, "a")]


def test_a_commit_of_which_nobody_knows_is_not_done_again_by_itself(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cti.store.postgresql.DOUBT_SECONDS", 0.0, raising=False)
    writer = a_writer(url, Unlucky)
    writer.loses, writer.database_away = "the answer", 1  # type: ignore[attr-defined]
    written = writer.write([a_unit("a")])
    assert isinstance(written.outcomes[0], StoreError)
    assert "not known" in str(written.outcomes[0])
    # Who listens hears of it after all, with the next one.
    assert [event.call for event in writer.write([a_unit("b")]).events] == ["a", "b"]
    writer.close()
    assert events(url) == [(1, "a"), (2, "b")]


def test_a_unit_is_not_taken_for_an_earlier_one_that_came_through(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cti.store.postgresql.DOUBT_SECONDS", 0.0, raising=False)
    writer = a_writer(url, Unlucky)
    writer.loses, writer.database_away = "the answer", 2  # type: ignore[attr-defined]
    assert isinstance(writer.write([a_unit("a")]).outcomes[0], StoreError)
    writer.database_away = 0  # type: ignore[attr-defined]
    writer.loses = "the command"  # type: ignore[attr-defined]
    written = writer.write([a_unit("b")])
    writer.close()
    assert not isinstance(written.outcomes[0], StoreError)
    assert events(url) == [(1, "a"), (2, "b")]


# Addresses and passwords.


@pytest.mark.parametrize(
    "password", ["geheim", "ge%zzheim", "ge/heim", "ge#heim", "ge?heim", "ge@heim", "ge&heim"]
)
@pytest.mark.parametrize(
    "form", ["postgresql://cti:{}@127.0.0.1:1/cti", "postgresql://127.0.0.1:1/cti?password={}"]
)
def test_no_error_shows_a_password_or_a_part_of_it(form: str, password: str) -> None:
    with pytest.raises(StoreError) as refused:
        a_writer(form.format(password))
    with pytest.raises(StoreError) as unread:
        open_postgres_for_reading(form.format(password))
    shown = f"{refused.value} {unread.value}"
    assert not [piece for piece in ("geheim", "heim", "ge%", "ge/", "cti:ge") if piece in shown]
    assert without_password(form.format(password)).count("ge") == without_password(form.format("x")).count(
        "ge"
    )


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (
            "postgresql://cti:a%2Fb@db.example:5433/cti?sslmode=verify-full",
            "postgresql://cti@db.example:5433/cti",
        ),
        (
            "postgres://db1.example:5432,db2.example/cti?target_session_attrs=read-write",
            "postgres://db1.example:5432,db2.example/cti",
        ),
        ("postgresql://cti@[::1]:5432/cti", "postgresql://cti@[::1]:5432/cti"),
        ("postgresql:///cti?host=/run/postgresql", "postgresql:///cti"),
    ],
)
def test_an_address_is_shown_without_its_password_and_options(address: str, shown: str) -> None:
    assert is_address(address)
    assert without_password(address) == shown


def test_a_wrong_password_is_told_without_it(cluster: Postgres, url: str) -> None:
    cluster.sql("CREATE ROLE asked LOGIN PASSWORD 'right'")
    rules = cluster.data / "pg_hba.conf"
    trusting = rules.read_text()
    rules.write_text("host all asked 127.0.0.1/32 scram-sha-256\n" + trusting)
    cluster.sql("SELECT pg_reload_conf()")
    try:
        with pytest.raises(StoreError, match="password authentication failed") as refused:
            eventually_refused(url.replace("postgres@", "asked:geheim@"))
        assert "geheim" not in str(refused.value)
    finally:
        rules.write_text(trusting)
        cluster.sql("SELECT pg_reload_conf()")


def eventually_refused(url: str) -> None:
    """The server reads its rules a moment after it was told to; until then it lets everybody in."""
    for _ in range(200):
        open_postgres_for_reading(url)
        time.sleep(0.05)


# The schema.


@pytest.mark.parametrize("version", range(1, len(migrations("postgresql"))))
def test_each_earlier_schema_is_brought_up_to_date_with_its_data(url: str, version: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        migrate(connection, migrations("postgresql")[:version])
        connection.execute("INSERT INTO store VALUES (1, 'old', 1)")
        connection.execute(
            "INSERT INTO calls (id, pbx, started, direction, state, from_raw, from_kind, to_raw, attempt)"
            " VALUES ('a', 'main', 1, 'inbound', 'ended', '', 'public', '', 1)"
        )
        connection.execute("""INSERT INTO events VALUES (1, 'call.offered', 1, 'a', '["anna"]', '"x":1}')""")
        if version >= 6:
            connection.execute("INSERT INTO event_agents VALUES ('anna', 1)")
    with open_postgres_for_command(url, destinations={}, clock=float) as command:
        assert command.read.store_id == "old"
        assert [call.id for call in command.read.calls(CallFilter(), 5)[0]] == ["a"]
        assert [event.seq for event in command.read.events_after(0, 5, "anna")] == [1]
        assert [event.seq for event in command.commit_now(a_unit("b"))] == [2]


def test_a_migration_that_fails_leaves_the_schema_before_it(url: str) -> None:
    good = (1, "CREATE TABLE a (x INTEGER);")
    with psycopg.connect(url, autocommit=True) as connection:
        migrate(connection, [good])
        with pytest.raises(psycopg.errors.DuplicateTable):
            migrate(connection, [good, (2, "CREATE TABLE b (x INTEGER); CREATE TABLE a (x INTEGER);")])
    assert rows(url, "SELECT version FROM schema_version") == [(1,)]
    assert rows(url, "SELECT tablename FROM pg_tables WHERE tablename IN ('a', 'b')") == [("a",)]


def test_a_newer_schema_is_refused_and_left_as_it_is(url: str) -> None:
    a_writer(url).close()
    rows(url, "UPDATE schema_version SET version = 9999 RETURNING 1")
    for opened in (a_writer, open_postgres_for_reading):
        with pytest.raises(StoreError, match=r"has schema 9999.*or a newer one"):
            opened(url)
    assert rows(url, "SELECT version FROM schema_version") == [(9999,)]


def test_another_programs_tables_are_refused(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE theirs (one INTEGER)")
    with pytest.raises(StoreError, match="another program's tables"):
        a_writer(url)


# Several at once.


def together(*works: Callable[[], object]) -> None:
    """Do all this at one time, and raise what went wrong."""
    with ThreadPoolExecutor(len(works)) as threads:
        for done in [threads.submit(work) for work in works]:
            done.result(60)


def test_servers_that_start_on_a_new_database_at_once_make_it_once(url: str) -> None:
    writers: list[PostgresWriter] = []
    together(*[lambda: writers.append(a_writer(url))] * 4)
    for number, writer in enumerate(writers):
        assert writer.write([a_unit(f"c{number}")]).fault is None
        writer.close()
    assert rows(url, "SELECT COUNT(*), MAX(last_seq) FROM store") == [(1, 4)]


def test_no_reader_sees_an_event_before_a_lesser_number_with_several_writers(url: str) -> None:
    writers = [a_writer(url) for _ in range(3)]
    seen: list[int] = []
    done = threading.Event()

    def write(writer: PostgresWriter) -> None:
        for turn in range(40):
            assert writer.write([a_unit(f"{turn}-{id(writer)}", f"{turn}+{id(writer)}")]).fault is None

    def read() -> None:
        with open_postgres_for_command(url, destinations={}, clock=float) as command:
            last = False
            while not last:
                last = done.is_set()
                seen.extend(event.seq for event in command.read.events_after(seen[-1] if seen else 0, 1000))

    def write_all() -> None:
        try:
            together(*[partial(write, writer) for writer in writers])
        finally:
            done.set()

    together(write_all, read)
    for writer in writers:
        writer.close()
    assert seen == list(range(1, 241))


def test_each_writer_hears_of_everybodys_events_once_and_in_order(url: str) -> None:
    writers = [a_writer(url) for _ in range(2)]
    heard: list[list[int]] = [[], []]
    for turn in range(6):
        which = (turn // 2) % 2
        heard[which] += [event.seq for event in writers[which].write([a_unit(f"c{turn}")]).events]
    for numbers, writer in zip(heard, writers, strict=True):
        numbers += [event.seq for event in writer.foreign() or ()]
        assert writer.foreign() is None
        writer.close()
    assert heard == [[1, 2, 3, 4, 5, 6]] * 2


def test_who_holds_the_lock_for_long_fails_others_within_their_time(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "WRITE_SECONDS", 0.4)
    writer = a_writer(url)
    with psycopg.connect(url) as other:
        other.execute("SELECT last_seq FROM store FOR UPDATE")
        (outcome,) = writer.write([a_unit("a")]).outcomes
        assert isinstance(outcome, StoreError)
        assert "not answered in time" in str(outcome)
    assert writer.write([a_unit("b")]).fault is None
    writer.close()
    assert events(url) == [(1, "b")]


def test_who_starts_finds_what_the_database_is_about_to_commit_for_a_process_that_was_killed(
    url: str,
) -> None:
    writer = a_writer(url)
    assert writer.write([a_unit("a")]).fault is None
    with psycopg.connect(url, autocommit=True) as left:
        left.execute("BEGIN")
        left.execute("SELECT last_seq FROM store FOR UPDATE")
        left.execute("UPDATE calls SET ended = 200.0, state = 'ended' WHERE id = 'a'")
        threading.Timer(0.3, left.execute, ["COMMIT"]).start()
        heir = a_writer(url)
        assert rows(url, "SELECT state FROM calls") == [("ended",)]
        heir.close()
    writer.close()


def test_a_lost_connection_is_made_anew_for_the_unit_that_finds_it_lost(cluster: Postgres, url: str) -> None:
    writer = a_writer(url)
    name = url.rpartition("/")[2]
    cluster.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert writer.write([a_unit("a")]).fault is None
    writer.close()
    assert events(url) == [(1, "a")]


# A database that hangs.


@pytest.fixture
def link(cluster: Postgres) -> Iterator[Link]:
    link = Link()
    assert cluster.port is not None
    link.target = cluster.port
    yield link
    link.cut()


def through(link: Link, url: str) -> str:
    return url.replace(url.rpartition("@")[2].partition("/")[0], f"127.0.0.1:{link.port}")


def test_a_database_that_hangs_keeps_the_reactor_for_a_moment_and_then_for_none(url: str, link: Link) -> None:
    a_writer(url).close()
    reader = PostgresReader(through(link, url), postgresql.ANSWER_SECONDS)
    reader.open()
    assert reader.event_range() == (0, 0)
    link.stall()
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(StoreError):
            reader.event_range()
    # Twenty waits would be two seconds; and each has ten times its due on a slow machine.
    assert time.monotonic() - began < 1.0
    link.heal()
    eventually(lambda: answers(reader), 15.0, what="an answer once the network is well")
    reader.close()


def answers(reader: PostgresReader) -> bool:
    try:
        return reader.event_range() == (0, 0)
    except StoreError:
        return False


def test_who_writes_to_a_database_that_hangs_is_told_in_time(
    url: str, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "WRITE_SECONDS", 0.4)
    monkeypatch.setattr(postgresql, "CONNECT_SECONDS", 2)
    writer = a_writer(through(link, url))
    link.stall()
    began = time.monotonic()
    (outcome,) = writer.write([a_unit("a")]).outcomes
    assert isinstance(outcome, StoreError)
    assert time.monotonic() - began < 20.0
    link.heal()
    eventually(
        lambda: writer.write([a_unit("b")]).fault is None, 30.0, what="a commit once the network is well"
    )
    writer.close()
    assert events(url)[-1][1] == "b"
