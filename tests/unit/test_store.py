"""The store, on SQLite and PostgreSQL: what is durable, what is refused, and in which order readers hear of it."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import orjson
import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.store import queries, schema, sqlite, threaded
from cti.store.appender import Appender
from cti.store.base import (
    CallbackFilter,
    CallFilter,
    OutboxFilter,
    RecordRefused,
    StoreError,
    StoreFull,
    Subscription,
    Unit,
)
from cti.store.postgresql import PostgresStore
from cti.store.records import (
    AgentRecord,
    AttemptRecord,
    AuditRecord,
    CallbackRecord,
    CallRecord,
    CardRecord,
    ChannelRecord,
    DecisionRecord,
    Delivery,
    GapRecord,
    PastCalls,
    ReservationRecord,
    SegmentRecord,
    SessionRecord,
    StoredEvent,
    TokenRecord,
    UserRecord,
    WrapUpRecord,
)
from cti.store.rows import RowUnit, iso_utc
from cti.store.spool import NOTE_ONCE
from cti.store.sqlite import SqliteStore, open_store_for_command
from cti.store.threaded import ThreadedStore
from lab.crm.postgresql import Postgres
from lab.processes import eventually
from tests.unit.databases import KINDS, Place, a_cluster, a_command_store, a_database

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
CUSTOMER = "+4915228817386"
COMPANY = "+494066969100"


class Loop:
    """A reactor that only carries calls from threads, run by the test for as long as it waits."""

    def __init__(self) -> None:
        self.later: list[Callable[..., Any]] = []
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., Any], /, *args: Any, **keywords: Any) -> None:
        self._calls.put((call, args, keywords))

    def callLater(self, delay: float, call: Callable[..., Any], /) -> None:
        self.later.append(call)

    def until(self, reached: Callable[[], object]) -> None:
        end = time.monotonic() + 10
        while not reached():
            call, args, keywords = self._calls.get(timeout=max(0.01, end - time.monotonic()))
            call(*args, **keywords)

    def result(self, waiting: "Deferred[T]") -> T:
        results: list[Any] = []
        waiting.addBoth(results.append)
        self.until(lambda: results)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]  # type: ignore[no-any-return]


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cti.db"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What a store promises is asked of each; tests that look into SQLite's file are for that one."""
    if "place" in metafunc.fixturenames:
        kinds = ("sqlite",) if "path" in metafunc.function.__code__.co_varnames else KINDS
        metafunc.parametrize("place", kinds, indirect=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with a_cluster(tmp_path_factory.mktemp("postgresql")) as running:
        yield running


@pytest.fixture
def place(request: pytest.FixtureRequest, path: Path) -> Place:
    """Where a store of either kind is: a file, or the address of a database of its own."""
    if request.param == "sqlite":
        return path
    running: Postgres = request.getfixturevalue("cluster")
    return a_database(running)


@pytest.fixture
def store(loop: Loop, place: Place) -> Iterator[ThreadedStore]:
    store = a_store(loop, place)
    yield store
    loop.result(store.stop())


def a_store(loop: Loop, place: Place, **options: Any) -> ThreadedStore:
    options.setdefault("destinations", {"crm": frozenset({"call.routed", "call.ended", "agent.state"})})
    options.setdefault("clock", lambda: 1000.0)
    kind: type[ThreadedStore] = (
        PostgresStore if isinstance(place, str) and place.startswith("postgresql:") else SqliteStore
    )
    store = kind(place, reactor=loop, **options)
    store.start()
    while loop.later:
        loop.later.pop()()
    return store


def a_call(id: str = "c1", **fields: Any) -> CallRecord:
    return CallRecord(**{"id": id, "pbx": "main", "started": 100.0, "from_number": CUSTOMER, **fields})


def an_agent(id: str = "anna", **fields: Any) -> AgentRecord:
    return AgentRecord(
        id, id.title(), phones=["PJSIP/" + id], groups=["sales"], crm={"directory": "u1"}, **fields
    )


def a_unit(*calls: CallRecord, events: Sequence[str] = (), call: str | None = "c1") -> RowUnit:
    unit = RowUnit()
    for each in calls:
        unit.put_call(each)
    for type in events:
        unit.emit(type, 100.0, {"call": {"id": call}}, call=call)
    return unit


def commit(loop: Loop, store: ThreadedStore, unit: Unit) -> Sequence[StoredEvent]:
    return loop.result(store.commit(unit))


# What nobody waits for.


def test_what_nobody_waits_for_shares_the_next_transaction_and_keeps_its_place(
    loop: Loop, store: ThreadedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    write = Appender.write

    def counted(self: Appender, units: Sequence[RowUnit]) -> Any:
        groups.append(len(units))
        return write(self, units)

    monkeypatch.setattr(Appender, "write", counted)
    told: list[StoredEvent] = []
    store.on_events(told.extend)
    kept = [
        store.commit(a_unit(events=[type]), at_leisure=True) for type in ("call.ringing", "call.connected")
    ]
    # Long enough for a writer that was told of them.
    time.sleep(0.1)
    assert groups == []
    commit(loop, store, a_unit(events=["call.routed"]))

    assert groups == [3]
    assert [event.type for event in told] == ["call.ringing", "call.connected", "call.routed"]
    assert all(unit.called for unit in kept)


def test_what_nobody_waits_for_is_written_when_its_leisure_is_over(loop: Loop, store: ThreadedStore) -> None:
    kept = store.commit(a_unit(events=["call.ringing"]), at_leisure=True)
    store.commit(a_unit(events=["call.connected"]), at_leisure=True)
    (leisure_is_over,) = loop.later
    leisure_is_over()

    assert [event.type for event in loop.result(kept)] == ["call.ringing"]


def test_what_nobody_waits_for_is_written_before_the_store_stops(loop: Loop, store: ThreadedStore) -> None:
    kept = store.commit(a_unit(events=["call.ended"]), at_leisure=True)
    loop.result(store.stop())

    assert kept.called


# What is written is read back.


def test_a_call_with_all_that_belongs_to_it_is_read_back_as_it_was_written(
    loop: Loop, store: ThreadedStore
) -> None:
    party = {"adapter": "directory", "type": "contact", "id": 17, "name": 'Jürgen "Jo" Žagar', "url": None}
    call = a_call(
        party=party, rule="owner", reason="because", identify_ms=0.5, hangup_cause=16, state="ended"
    )
    segment = SegmentRecord("c1", 1, 1, "sales", ["anna", "ben"], "PJSIP/anna", "owner", "because", 101.0)
    channel = ChannelRecord("main", "1700000000.1", "c1", "PJSIP/trunk", "caller", 100.0, cause=16)
    decision = DecisionRecord(
        "c1", 1, 100.5, "sales", "route", "dial", ["anna"], "PJSIP/anna", "owner", "because",
        facts={"party": party}, trace=[{"rule": "owner", "matched": True}], identification={"ms": 0.4},
    )  # fmt: skip
    card = CardRecord("c1", "anna", 1, 100.6, {"name": "Jürgen"}, shown=100.9)
    unit = store.unit()
    unit.put_call(call)
    unit.put_segment(segment)
    unit.put_channel(channel)
    unit.put_decision(decision)
    unit.put_card(card)
    unit.emit("card.offered", 100.6, {"card": {"name": "Jürgen"}}, call="c1", agents=["anna"])
    (event,) = loop.result(store.commit(unit))

    detail = loop.result(store.call("c1"))

    assert detail is not None
    assert detail.call == call
    assert detail.segments == [segment]
    assert detail.channels == [channel]
    assert detail.decisions == [decision]
    assert detail.cards == [card]
    assert detail.events == [event]
    assert detail.deliveries == []
    assert store.call_by_channel("main", "1700000000.1") == "c1"
    assert store.call_by_channel("other", "1700000000.1") is None
    assert loop.result(store.call("unknown")) is None


def test_of_many_rows_put_in_together_the_last_of_a_kind_counts(loop: Loop, store: ThreadedStore) -> None:
    # As the end of one call does, or of several in one transaction.
    unit = store.unit()
    for reason in ("first", "second", "third"):
        for number in range(20):
            unit.put_call(a_call(f"c{number % 6}", reason=f"{reason} {number}"))
    loop.result(store.commit(unit))

    page, _ = loop.result(store.calls(CallFilter(), 10))
    assert {call.id: call.reason for call in page} == {
        **{f"c{number % 6}": f"third {number}" for number in range(14, 20)}
    }


def test_what_is_put_in_twice_is_updated_and_what_it_was_put_in_with_is_not_changed_later(
    loop: Loop, store: ThreadedStore
) -> None:
    call = a_call(state="asked", party={"adapter": "directory", "id": "1"})
    commit(loop, store, a_unit(call))
    call.state = "offered"
    unit = a_unit(call)
    call.state = "ended"
    commit(loop, store, unit)
    (detail,) = store.open_calls()
    assert detail.call.state == "offered"


def test_a_record_twice_in_a_unit_or_in_a_group_is_as_it_was_put_in_last(
    loop: Loop, store: ThreadedStore
) -> None:
    first = a_unit()
    for reason in ("one", "two"):
        first.put_call(a_call(rule="r", reason=reason, notes=reason))
        first.put_call(a_call("other", reason=reason))
        first.put_channel(ChannelRecord("main", "1.1", "c1", reason, "caller", 1.0))
    second = a_unit(a_call(rule="r", reason="three"), a_call("other", reason="three"))
    together = [store.commit(unit) for unit in (first, second, first)]
    for each in together:
        loop.result(each)
    detail = loop.result(store.call("c1"))
    assert detail is not None
    assert (detail.call.reason, detail.call.notes) == ("two", "one")
    assert [channel.device for channel in detail.channels] == ["two"]


def test_open_calls_are_those_that_have_not_ended_oldest_first(loop: Loop, store: ThreadedStore) -> None:
    commit(
        loop,
        store,
        a_unit(a_call("b", started=2.0), a_call("a", started=1.0), a_call("c", started=0.0, state="ended")),
    )
    assert [detail.call.id for detail in store.open_calls()] == ["a", "b"]


def test_an_agent_s_skills_are_kept(loop: Loop, store: ThreadedStore) -> None:
    unit = store.unit()
    unit.put_agent(an_agent(skills={"german": 5, "billing": 3}))
    commit(loop, store, unit)
    assert store.agents() == [an_agent(skills={"german": 5, "billing": 3})]
    unit = store.unit()
    unit.put_skills("anna", {"german": 9})
    commit(loop, store, unit)
    assert store.agents() == [an_agent(skills={"german": 9})]


def test_an_agent_from_before_there_were_skills_has_none(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, [step for step in schema.migrations() if step[0] < 16])
        connection.execute(
            "INSERT INTO agents (id, name, phones, groups, crm, wish, wish_since, idle_since)"
            " VALUES ('anna', 'Anna', '[]', '[]', '{}', 'ready', 1, 1)"
        )
    with open_store_for_command(path, destinations={}, clock=float) as command:
        assert [agent.skills for agent in command.read.agents()] == [{}]


def test_touching_an_agent_leaves_a_wish_that_somebody_else_wrote(loop: Loop, store: ThreadedStore) -> None:
    commit_agent = store.unit()
    commit_agent.put_agent(an_agent(wish="ready"))
    loop.result(store.commit(commit_agent))
    touch = store.unit()
    touch.touch_agent("anna", 55.0)
    loop.result(store.commit(touch))
    assert store.agents() == [an_agent(wish="ready", idle_since=55.0)]
    removal = store.unit()
    removal.remove_agent("anna")
    loop.result(store.commit(removal))
    assert store.agents() == []


def test_a_reservation_put_removed_and_put_again_in_one_group_stays(loop: Loop, store: ThreadedStore) -> None:
    unit = store.unit()
    unit.put_reservation(ReservationRecord("anna", "c1", 1, 130.0))
    unit.put_reservation(ReservationRecord("ben", "c1", 1, 130.0))
    unit.remove_reservation("anna", "c1")
    unit.remove_reservation("ben", "c1")
    again = ReservationRecord("anna", "c1", 2, 140.0, connected=True)
    unit.put_reservation(again)
    loop.result(store.commit(unit))
    assert store.reservations() == [again]


def test_a_token_is_found_by_its_digest_only(loop: Loop, store: ThreadedStore) -> None:
    token = TokenRecord("t1", "crm", "crm", "ab" * 32, 100.0, agent=None, expires=200.0)
    unit = store.unit()
    unit.put_token(token)
    loop.result(store.commit(unit))
    assert store.token("ab" * 32) == token
    assert store.token("cd" * 32) is None
    assert store.tokens() == [token]


def test_gaps_come_by_pages_and_none_twice_or_never(loop: Loop, store: ThreadedStore) -> None:
    unit = store.unit()
    gaps = [GapRecord(pbx, since, since + 5.0, 0) for since in (100.0, 200.0, 300.0) for pbx in ("a", "b")]
    for gap in gaps:
        unit.put_gap(gap)
    loop.result(store.commit(unit))
    found: list[GapRecord] = []
    after: str | None = None
    while True:
        page, after = loop.result(store.gaps(150.0, None, 3, after))
        found += page
        if after is None:
            break
        assert len(page) == 3
    assert found == gaps[:1:-1]
    with pytest.raises(ValueError, match="was not given out here"):
        loop.result(store.gaps(None, None, 3, "made up"))


def a_user(name: str = "anna", **changes: Any) -> UserRecord:
    return evolve(UserRecord(name, "agent", "$argon2id$…", 100.0, 100.0, "anna", "de"), **changes)


def a_session(digest: str, user: str = "anna", used: float = 100.0, expires: float = 900.0) -> SessionRecord:
    return SessionRecord(digest, user, 100.0, used, expires)


def test_a_user_is_kept_changed_and_removed(loop: Loop, store: ThreadedStore) -> None:
    for user in (a_user(), a_user("ben", agent=None, language=None, disabled=True), a_user(role="admin")):
        unit = store.unit()
        unit.put_user(user)
        loop.result(store.commit(unit))
    assert store.users() == [a_user(role="admin"), a_user("ben", agent=None, language=None, disabled=True)]
    unit = store.unit()
    unit.remove_user("anna")
    loop.result(store.commit(unit))
    assert store.user("anna") is None
    assert store.user("ben") is not None


def test_a_session_is_found_with_its_user_until_it_ends(loop: Loop, store: ThreadedStore) -> None:
    unit = store.unit()
    unit.put_user(a_user())
    unit.put_user(a_user("ben"))
    for digest, user in (("a1", "anna"), ("a2", "anna"), ("b1", "ben"), ("g1", "gone")):
        unit.put_session(a_session(digest, user))
    unit.touch_session("a1", 150.0)
    unit.end_session("a2")
    loop.result(store.commit(unit))
    assert store.session("a1") == (a_session("a1", used=150.0), a_user())
    assert store.session("a2") is None
    assert store.session("g1") is None
    unit = store.unit()
    unit.end_sessions("anna")
    # Begun in the same moment: the new one stays.
    unit.put_session(a_session("a3"))
    loop.result(store.commit(unit))
    assert store.session("a1") is None
    assert store.session("a3") is not None
    assert store.session("b1") is not None


def test_sessions_that_ran_out_are_forgotten(loop: Loop, store: ThreadedStore) -> None:
    unit = store.unit()
    unit.put_user(a_user())
    for session in (
        a_session("old", expires=199.0),
        a_session("idle", used=149.0),
        a_session("good", used=150.0),
    ):
        unit.put_session(session)
    unit.forget_sessions(200.0, 150.0)
    loop.result(store.commit(unit))
    assert [store.session(digest) is not None for digest in ("old", "idle", "good")] == [False, False, True]


def test_a_key_that_is_there_is_never_another(loop: Loop, store: ThreadedStore) -> None:
    for value in ("aa", "bb"):
        unit = store.unit()
        unit.put_key("cookies", value)
        loop.result(store.commit(unit))
    assert store.key("cookies") == "aa"
    assert store.key("other") is None


def test_the_audit_is_read_from_the_newest_by_page_and_filter(loop: Loop, store: ThreadedStore) -> None:
    entries = [
        AuditRecord(100.0 + each, who, "user", "call.read", object, {"n": each}, "192.0.2.7")
        for each, (who, object) in enumerate([("anna", "c1"), ("ben", "c1"), (None, None), ("anna", "c2")])
    ]
    unit = store.unit()
    for entry in entries:
        unit.add_audit(entry)
    loop.result(store.commit(unit))

    def read(**filters: Any) -> Any:
        where = {"who": None, "object": None, "limit": 10, "before": None, **filters}
        return loop.result(store.audit(**where))

    assert read() == ([(id, entries[id - 1]) for id in (4, 3, 2, 1)], None)
    assert read(limit=2) == ([(4, entries[3]), (3, entries[2])], 3)
    assert read(limit=2, before=3) == ([(2, entries[1]), (1, entries[0])], None)
    assert [id for id, _ in read(who="anna")[0]] == [4, 1]
    assert [id for id, _ in read(object="c1", who="ben")[0]] == [2]


def test_a_token_keeps_its_scopes(loop: Loop, store: ThreadedStore) -> None:
    token = TokenRecord("t1", "crm", "crm", "ab" * 32, 100.0, scopes=["calls", "read"])
    unit = store.unit()
    unit.put_token(token)
    loop.result(store.commit(unit))
    assert store.token("ab" * 32) == token


def test_text_that_is_not_unicode_is_written_visibly_cleaned(loop: Loop, store: ThreadedStore) -> None:
    broken = b"J\xfcrgen".decode("utf-8", "surrogateescape")
    unit = a_unit(a_call(from_raw=broken, party={"adapter": "directory", "id": "1", "name": broken}))
    unit.emit("call.offered", 100.0, {"name": broken, "big": 10**30}, call="c1")
    (event,) = commit(loop, store, unit)
    detail = loop.result(store.call("c1"))
    assert detail is not None
    assert detail.call.from_raw == "J?rgen"
    assert detail.call.party is not None
    assert detail.call.party["name"] == "J?rgen"
    assert orjson.loads(event.data)["big"] == "1" + "0" * 30


# Events.


def test_an_event_has_its_number_first_and_reads_the_same_later(loop: Loop, store: ThreadedStore) -> None:
    unit = store.unit()
    unit.emit("call.routed", 1769862896.789, {"call": {"id": "c1"}, "attempt": 1}, call="c1", agents=["anna"])
    unit.emit("agent.state", 1769862896.9996, {})
    first, second = loop.result(store.commit(unit))
    assert first.data == (
        b'{"seq":1,"type":"call.routed","at":"2026-01-31T12:34:56.789Z","call":{"id":"c1"},"attempt":1}'
    )
    assert second.data == b'{"seq":2,"type":"agent.state","at":"2026-01-31T12:34:57.000Z"}'
    assert store.events_after(0, 10) == [first, second]
    assert store.events_after(1, 10) == [second]
    assert store.events_after(0, 1) == [first]
    assert store.event_range() == (1, 2)


def test_an_agents_events_are_found_among_everybodys(loop: Loop, store: ThreadedStore) -> None:
    unit = store.unit()
    for agents in (["anna"], ["ben"], ["ben", "anna", "ben"], [], ["anna"]):
        unit.emit("agent.state", 1.0, {}, agents=agents)
    commit(loop, store, unit)
    assert [event.seq for event in store.events_after(0, 10, "anna")] == [1, 3, 5]
    assert [event.seq for event in store.events_after(1, 1, "anna")] == [3]
    assert [event.seq for event in store.events_after(0, 10, "ben")] == [2, 3]
    assert store.events_after(0, 10, "nobody") == []


def test_an_agents_events_from_before_the_index_are_found_too(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, schema.migrations()[:5])
        for seq, agents in enumerate(('["anna"]', None, '["ben","anna"]'), 1):
            connection.execute(
                "INSERT INTO events (seq, type, at, agents, body) VALUES (?, 'agent.state', 1.0, ?, '}')",
                (seq, agents),
            )
    with open_store_for_command(path, destinations={}, clock=float) as command:
        assert [event.seq for event in command.read.events_after(0, 10, "anna")] == [1, 3]


def test_an_event_may_not_bring_a_number_of_its_own(store: ThreadedStore) -> None:
    with pytest.raises(ValueError, match="seq"):
        store.unit().emit("call.ended", 1.0, {"seq": 7})


def test_times_carry_over_into_the_next_second() -> None:
    assert iso_utc(0.9996) == "1970-01-01T00:00:01.000Z"
    assert iso_utc(59.5) == "1970-01-01T00:00:59.500Z"


def test_listeners_hear_in_commit_order_and_before_those_who_committed(
    loop: Loop, store: ThreadedStore
) -> None:
    heard: list[object] = []
    store.on_events(lambda events: heard.extend(event.seq for event in events))
    waiting = [store.commit(a_unit(events=["call.offered", "call.routed"])) for _ in range(50)]

    def acknowledge(events: Sequence[StoredEvent], number: int) -> None:
        heard.append((number, events[-1].seq in heard))

    for number, each in enumerate(waiting):
        each.addCallback(acknowledge, number)
    loop.until(lambda: len(heard) == 150)
    assert [entry for entry in heard if isinstance(entry, int)] == list(range(1, 101))
    assert [entry for entry in heard if isinstance(entry, tuple)] == [(number, True) for number in range(50)]


def test_a_listener_that_raises_disturbs_nobody_else(loop: Loop, store: ThreadedStore) -> None:
    heard: list[int] = []

    def broken(events: Sequence[StoredEvent]) -> None:
        raise ZeroDivisionError

    store.on_events(broken)
    store.on_events(lambda events: heard.append(len(events)))
    assert len(commit(loop, store, a_unit(events=["call.offered"]))) == 1
    assert heard == [1]


def test_numbers_go_on_after_a_restart_even_when_all_events_were_purged(loop: Loop, path: Path) -> None:
    store = a_store(loop, path)
    commit(loop, store, a_unit(events=["call.offered", "call.offered"]))
    loop.result(store.stop())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events")
    store = a_store(loop, path)
    assert store.event_range() == (0, 0)
    (event,) = commit(loop, store, a_unit(events=["call.offered"]))
    assert event.seq == 3
    assert store.event_range() == (3, 3)
    loop.result(store.stop())


# What goes wrong.


def test_a_refused_record_fails_its_own_unit_only_and_leaves_no_hole_in_the_numbers(
    loop: Loop, store: ThreadedStore
) -> None:
    bad = a_call("bad", started=None)
    outcomes: list[object] = []
    for unit in (
        a_unit(a_call("a"), events=["call.offered"]),
        a_unit(bad, events=["call.offered"]),
        a_unit(a_call("b", started={"not": "a column"}), events=["call.offered"]),
        a_unit(a_call("c"), events=["call.offered"]),
    ):
        store.commit(unit).addBoth(outcomes.append)
    loop.until(lambda: len(outcomes) == 4)
    first, refused, unknown, last = outcomes
    assert isinstance(refused, Failure)
    assert "not null" in str(refused.value).lower().replace("-", " ")
    assert isinstance(unknown, Failure)
    assert isinstance(unknown.value, StoreError)
    assert [event.seq for event in (*first, *last)] == [1, 2]  # type: ignore[misc]
    assert {detail.call.id for detail in store.open_calls()} == {"a", "c"}


def test_what_a_spool_writes_in_is_refused_where_it_is_in_already(loop: Loop, store: ThreadedStore) -> None:
    def numbered(number: int) -> RowUnit:
        unit = a_unit(events=["call.offered"])
        unit.rows.append((NOTE_ONCE, ("w", number, 1.0)))
        return unit

    commit(loop, store, numbered(1))
    outcomes: list[object] = []
    for number in (1, 2):
        store.commit(numbered(number)).addBoth(outcomes.append)
    loop.until(lambda: len(outcomes) == 2)
    again, following = outcomes
    assert isinstance(again, Failure)
    assert isinstance(again.value, RecordRefused)
    assert "writers" in str(again.value)
    assert [event.seq for event in following] == [2]  # type: ignore[attr-defined]


def test_a_unit_too_many_is_refused_at_once_and_takes_nothing(loop: Loop, place: Place) -> None:
    store = a_store(loop, place, max_waiting=2)
    waiting = [store.commit(a_unit(a_call(id))) for id in ("a", "b")]
    refused: list[Failure] = []
    store.commit(a_unit(a_call("c"))).addErrback(refused.append)
    assert isinstance(refused[0].value, StoreFull)
    for each in waiting:
        loop.result(each)
    commit(loop, store, a_unit(a_call("d")))
    assert {detail.call.id for detail in store.open_calls()} == {"a", "b", "d"}
    loop.result(store.stop())


def test_a_lock_of_another_process_is_waited_for(loop: Loop, store: ThreadedStore, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.execute, ["ROLLBACK"])
        release.start()
        commit(loop, store, a_unit(a_call()))
        release.join()
    assert len(store.open_calls()) == 1


def test_a_lock_held_too_long_fails_the_unit_and_the_next_one_is_written(
    loop: Loop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    store = a_store(loop, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process"):
            commit(loop, store, a_unit(a_call("a")))
        other.execute("ROLLBACK")
    commit(loop, store, a_unit(a_call("b")))
    assert [detail.call.id for detail in store.open_calls()] == ["b"]
    loop.result(store.stop())


def test_a_full_disk_fails_the_unit_and_the_thread_lives_on(
    loop: Loop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[sqlite3.Connection] = []
    connect = sqlite.connect

    def limited(path: str) -> sqlite3.Connection:
        connection = connect(path)
        limits.append(connection)
        return connection

    monkeypatch.setattr(sqlite, "connect", limited)
    store = a_store(loop, path)
    writer = limits[0]
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="full"):
        commit(loop, store, a_unit(a_call("big", from_raw="x" * 100_000)))
    writer.execute("PRAGMA max_page_count = 1000000")
    commit(loop, store, a_unit(a_call("small")))
    assert [detail.call.id for detail in store.open_calls()] == ["small"]
    loop.result(store.stop())


def test_a_store_that_cannot_write_says_so_until_it_can_again_without_being_asked_to(
    loop: Loop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(threaded, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(threaded, "PROBE_SECONDS", 0.05)
    store = a_store(loop, path)
    assert store.writing() is None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            commit(loop, store, a_unit(a_call()))
        assert "locked by another process" in str(store.writing())
        other.execute("ROLLBACK")
    loop.until(lambda: store.writing() is None)
    loop.result(store.stop())
    assert store.writing() == "the store is not running"


def test_a_unit_that_is_at_fault_itself_does_not_make_the_store_unwell(
    loop: Loop, store: ThreadedStore
) -> None:
    with pytest.raises(StoreError, match=r"(?i)not.null"):
        commit(loop, store, a_unit(a_call(pbx=None)))
    assert store.writing() is None


def test_a_unit_that_waits_long_says_that_the_store_is_stuck(
    loop: Loop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = a_store(loop, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = store.commit(a_unit(a_call()))
        assert store.writing() is None
        monkeypatch.setattr(threaded, "STUCK_SECONDS", 0.01)
        time.sleep(0.02)
        assert "a unit has waited" in str(store.writing())
        other.execute("ROLLBACK")
    loop.result(waiting)
    assert store.writing() is None
    loop.result(store.stop())


def test_cancelling_stops_the_waiting_and_not_the_writing(loop: Loop, store: ThreadedStore) -> None:
    waiting = store.commit(a_unit(a_call("a")))
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    commit(loop, store, a_unit(a_call("b")))
    assert {detail.call.id for detail in store.open_calls()} == {"a", "b"}


def test_stopping_writes_what_was_handed_in_and_takes_no_more(loop: Loop, place: Place) -> None:
    store = a_store(loop, place)
    waiting = [store.commit(a_unit(a_call(f"c{number}"))) for number in range(30)]
    stopped = store.stop()
    with pytest.raises(StoreError, match="not running"):
        commit(loop, store, a_unit(a_call("late")))
    loop.result(stopped)
    assert all(each.called for each in waiting)
    store = a_store(loop, place)
    assert len(store.open_calls()) == 30
    loop.result(store.stop())


def test_how_long_each_unit_took_is_told_its_waiting_included(loop: Loop, path: Path) -> None:
    seconds: list[float] = []
    store = a_store(loop, path, observe_commit=seconds.append)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [store.commit(a_unit(a_call(id))) for id in ("a", "b", "c")]
        time.sleep(0.1)
        other.execute("ROLLBACK")
    for each in waiting:
        loop.result(each)
    assert len(seconds) == 3
    assert all(0.1 <= each < 10 for each in seconds)
    with pytest.raises(StoreError):
        commit(loop, store, a_unit(a_call(pbx=None)))
    assert len(seconds) == 3
    loop.result(store.stop())


KILLED = """
import sys, time
from twisted.internet import reactor
from cti.store.records import CallRecord
from cti.store.threaded import ThreadedStore
from cti.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1], reactor=reactor, destinations={"crm": frozenset({"call.routed"})}, clock=time.time)
store.start()
def one(number):
    unit = store.unit()
    unit.put_call(CallRecord(id=str(number), pbx="main", started=float(number)))
    unit.emit("call.routed", 1.0, {"n": number}, call=str(number))
    store.commit(unit).addCallback(lambda events: (print(number, events[0].seq, flush=True), one(number + 8)))
for number in range(8):
    reactor.callWhenRunning(one, number)
reactor.run()
"""


def test_everything_acknowledged_is_there_after_kill_9(loop: Loop, path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, os.fspath(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    acknowledged = dict(line.split() for line in lines if line.endswith("\n"))
    assert len(acknowledged) >= 200

    store = a_store(loop, path)

    details = {detail.call.id: detail for detail in store.open_calls()}
    for number, seq in acknowledged.items():
        assert [event.seq for event in details[number].events] == [int(seq)]
        assert [delivery["seq"] for delivery in details[number].deliveries] == [int(seq)]
    events = store.events_after(0, 100_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    loop.result(store.stop())


# The file and its schema.


def test_a_new_database_is_its_owners_only(loop: Loop, store: ThreadedStore, path: Path) -> None:
    commit(loop, store, a_unit(a_call()))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_a_missing_directory_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"cannot make the database .*nowhere/cti.db: No such file or directory"
    ):
        a_store(Loop(), tmp_path / "nowhere" / "cti.db")


def test_a_newer_schema_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9999")
    with pytest.raises(StoreError, match="has schema 9999, this program knows schemas up to"):
        a_store(Loop(), path)


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("These are my notes, and no database at all.\n" * 100)
    with pytest.raises(StoreError, match="is not a database"):
        a_store(Loop(), text)
    assert text.read_text().startswith("These are my notes")
    foreign = tmp_path / "foreign.db"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE recipes (title TEXT)")
    with pytest.raises(StoreError, match="another program's database"):
        a_store(Loop(), foreign)


def test_a_migration_that_fails_leaves_the_schema_before_it(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        good = (1, "CREATE TABLE a (x INTEGER); -- a; b\nINSERT INTO a VALUES (';');\n")
        schema.migrate(connection, [good])
        with pytest.raises(sqlite3.OperationalError):
            schema.migrate(
                connection, [good, (2, "CREATE TABLE b (x INTEGER);\nCREATE TABLE a (x INTEGER);\n")]
            )
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["a"]
        schema.migrate(connection, [good, (2, "CREATE TABLE b (x INTEGER);\n")])
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_migrations_count_from_one_without_holes() -> None:
    versions = [version for version, _ in schema.migrations()]
    assert versions == list(range(1, len(versions) + 1))


def test_two_processes_may_make_the_database_at_once(path: Path) -> None:
    program = (
        "import sys; from cti.store.sqlite import open_store_for_command as o\n"
        "sys.stdin.read()\n"
        "s = o(sys.argv[1], destinations={}, clock=float); print(s.read.store_id); s.close()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, os.fspath(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    ids = set()
    for process in processes:
        assert process.stdout is not None
        ids.add(process.stdout.read())
        process.stdout.close()
        assert process.wait() == 0
    assert len(ids) == 1


# Beside another process.


def test_a_command_changes_an_agent_and_the_server_notices(
    loop: Loop, store: ThreadedStore, place: Place
) -> None:
    changes: list[int] = []
    heard: list[int] = []
    store.on_foreign_change(lambda: changes.append(1))
    store.on_events(lambda events: heard.extend(event.seq for event in events))
    commit(loop, store, a_unit(events=["call.offered"]))
    with a_command_store(place) as command:
        unit = command.unit()
        unit.put_agent(an_agent(wish="ready"))
        unit.emit("agent.state", 1.0, {"agent": "anna"}, agents=["anna"])
        (event,) = command.commit_now(unit)
        assert command.read.agents() == [an_agent(wish="ready")]
    loop.until(lambda: changes)
    assert event.seq == 2
    loop.until(lambda: len(heard) == 2)
    assert heard == [1, 2]
    assert [agent.wish for agent in store.agents()] == ["ready"]
    commit(loop, store, a_unit(events=["call.offered"]))
    assert heard == [1, 2, 3]


def test_of_two_servers_on_a_database_one_leads_and_the_other_once_that_is_gone(
    loop: Loop, cluster: Postgres
) -> None:
    address = a_database(cluster)
    first, second = a_store(loop, address), a_store(loop, address)
    told: list[ThreadedStore] = []
    for store in (first, second):
        store.on_leading(lambda store=store: told.append(store))  # type: ignore[misc]
    assert (first.leads, second.leads) == (True, False)

    loop.result(first.stop())
    loop.until(lambda: second.leads)
    assert told == [second]
    loop.result(second.stop())


def test_who_leads_leads_again_once_a_connection_that_was_lost_is_made_anew(
    loop: Loop, cluster: Postgres
) -> None:
    store = a_store(loop, a_database(cluster))
    holds = "FROM pg_locks WHERE locktype = 'advisory' AND granted"
    (before,) = cluster.sql(f"SELECT pid {holds}").split()
    cluster.sql(f"SELECT pg_terminate_backend({before})")
    eventually(lambda: cluster.sql(f"SELECT pid {holds}") not in ("", before), 10.0, what="the lock")
    assert store.leads
    loop.result(store.stop())


def test_own_writes_and_mere_readers_are_no_foreign_change(
    loop: Loop, store: ThreadedStore, place: Place
) -> None:
    changes: list[int] = []
    store.on_foreign_change(lambda: changes.append(1))
    with a_command_store(place) as command:
        end = time.monotonic() + 3 * threaded.POLL_SECONDS
        while time.monotonic() < end:
            commit(loop, store, a_unit(a_call()))
            assert command.read.agents() == []
            time.sleep(0.02)
    assert changes == []


def test_a_foreign_event_is_heard_before_an_own_later_one(
    loop: Loop, store: ThreadedStore, place: Place
) -> None:
    heard: list[int] = []
    store.on_events(lambda events: heard.extend(event.seq for event in events))
    with a_command_store(place) as command:
        command.commit_now(a_unit(events=["call.offered"]))
        commit(loop, store, a_unit(events=["call.offered"]))
    assert heard == [1, 2]


# The call log.


def some_calls() -> list[CallRecord]:
    """20 calls, two at each second; each third one ours to the customer."""
    return [
        a_call(
            f"c{number:02}",
            started=float(number // 2),
            state="ended",
            from_number=COMPANY if number % 3 == 0 else CUSTOMER,
            to_number=CUSTOMER if number % 3 == 0 else COMPANY,
            direction="outbound" if number % 3 == 0 else "inbound",
            agent=("anna", "ben")[number % 2],
            outcome=("answered", "missed")[number // 10],
            party={"adapter": ("directory", "odoo")[number % 2], "id": number % 5},
        )
        for number in range(20)
    ]


def ids(loop: Loop, store: ThreadedStore, **where: Any) -> list[str]:
    page, cursor = loop.result(store.calls(CallFilter(**where), 100))
    assert cursor is None
    return [call.id for call in page]


def test_pages_follow_each_other_newest_first_with_nothing_lost_and_nothing_twice(
    loop: Loop, store: ThreadedStore
) -> None:
    commit(loop, store, a_unit(*some_calls()))
    seen: list[str] = []
    cursor = None
    for _ in range(7):
        page, cursor = loop.result(store.calls(CallFilter(), 3, cursor))
        seen += [call.id for call in page]
    assert cursor is None
    assert seen == [f"c{number:02}" for number in reversed(range(20))]


def test_the_last_page_has_no_cursor_when_it_is_just_full(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(*some_calls()))
    page, cursor = loop.result(store.calls(CallFilter(), 20))
    assert len(page) == 20
    assert cursor is None


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ({"number": CUSTOMER}, range(20)),
        ({"number": "+493023125001"}, []),
        ({"agent": "ben"}, range(1, 20, 2)),
        ({"direction": "outbound"}, range(0, 20, 3)),
        ({"outcome": "missed"}, range(10, 20)),
        ({"since": 2.0, "until": 4.0}, range(4, 8)),
        ({"party": "3"}, [3, 8, 13, 18]),
        ({"party": "odoo:3"}, [3, 13]),
        ({"party": "odoo:3", "number": CUSTOMER, "outcome": "answered"}, [3]),
    ],
)
def test_filters_choose(
    loop: Loop, store: ThreadedStore, where: dict[str, Any], numbers: Sequence[int]
) -> None:
    commit(loop, store, a_unit(*some_calls()))
    assert ids(loop, store, **where) == [f"c{number:02}" for number in sorted(numbers, reverse=True)]


def test_a_call_from_a_number_to_itself_is_one_entry(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(a_call("self", from_number=CUSTOMER, to_number=CUSTOMER)))
    assert ids(loop, store, number=CUSTOMER) == ["self"]


def test_an_agent_s_calls_are_those_they_talked_in_and_those_they_were_offered(
    loop: Loop, store: ThreadedStore
) -> None:
    unit = a_unit(
        *(
            a_call(id, started=float(number), agent=agent)
            for number, (id, agent) in enumerate(
                [("talked", "anna"), ("missed", None), ("both", "anna"), ("lost", "ben"), ("no", "ben")]
            )
        )
    )
    for call, number, offered in (
        ("missed", 1, ["ben"]),
        ("missed", 2, ["carla", "anna"]),
        ("both", 1, ["anna"]),
        ("lost", 1, ["anna", "ben"]),
        ("no", 1, ["ben", "annabel"]),
    ):
        unit.put_segment(
            SegmentRecord(call, number, number, "sales", offered, "PJSIP/x", "owner", "because", 1.0)
        )
    commit(loop, store, unit)
    assert ids(loop, store, agent="anna") == ["lost", "both", "missed", "talked"]
    first, cursor = loop.result(store.calls(CallFilter(agent="anna"), 2))
    second, end = loop.result(store.calls(CallFilter(agent="anna"), 2, cursor))
    assert [call.id for call in (*first, *second)] == ["lost", "both", "missed", "talked"]
    assert end is None


def test_filtered_pages_go_on_at_their_cursor(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(*some_calls()))
    where = CallFilter(number=CUSTOMER, party="3")
    first, cursor = loop.result(store.calls(where, 3))
    second, end = loop.result(store.calls(where, 3, cursor))
    assert [call.id for call in (*first, *second)] == ["c18", "c13", "c08", "c03"]
    assert end is None


@pytest.mark.parametrize("cursor", ["", "x", "äöü", "AAAAAAAAAAAA", "A" * 1000])
def test_a_cursor_that_was_not_given_out_is_refused(loop: Loop, store: ThreadedStore, cursor: str) -> None:
    with pytest.raises(ValueError, match="first page"):
        loop.result(store.calls(CallFilter(), 3, cursor))


def test_each_filter_reads_a_range_of_an_index_and_sorts_nothing_big(
    loop: Loop, store: ThreadedStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(loop, store, a_unit(*some_calls()))
    _, cursor = loop.result(store.calls(CallFilter(), 3))
    with a_command_store(path) as command:
        asked: list[tuple[str, Any]] = []
        ask = type(command.read)._all

        def listen(self: Any, sql: str, values: Any = ()) -> list[Any]:
            asked.append((sql, values))
            return ask(self, sql, values)

        monkeypatch.setattr(type(command.read), "_all", listen)
        cases: list[tuple[dict[str, Any], str]] = [
            ({}, "calls_by_start"),
            ({"number": CUSTOMER}, "calls_by_from"),
            ({"number": CUSTOMER}, "calls_by_to"),
            ({"agent": "anna"}, "calls_by_agent"),
            ({"outcome": "missed"}, "calls_by_outcome"),
            ({"party": "3"}, "calls_by_party"),
        ]
        for where, index in cases:
            command.read.calls(CallFilter(**where), 3, cursor)
            sql, values = asked.pop()
            plan = [row[3] for row in ask(command.read, "EXPLAIN QUERY PLAN " + sql, values)]
            assert any(f"SEARCH calls USING INDEX {index} " in step for step in plan), plan
            assert not any(step.startswith("SCAN calls") for step in plan), plan


# What was before a call.


def past(loop: Loop, store: ThreadedStore, *, but: str | None = None, before: float = 1000.0) -> PastCalls:
    return loop.result(store.past_calls(CUSTOMER, [COMPANY, "100"], 500.0, before, but))


def a_talk(id: str, started: float, **fields: Any) -> CallRecord:
    values = {"answered": started + 5, "ended": started + 50, "agent": "anna", "to_number": COMPANY}
    return a_call(id, started=started, **{**values, **fields})


def test_of_a_number_that_never_called_nothing_is_known_and_no_try(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(a_talk("other", 600.0, from_number="+442079460123")))
    assert past(loop, store) == PastCalls(None, None, 0)


def test_who_talked_last_with_a_number_is_told_of_either_direction_with_when_the_talk_ended(
    loop: Loop, store: ThreadedStore
) -> None:
    commit(
        loop,
        store,
        a_unit(
            a_talk("long ago", 10.0),
            a_talk("in", 100.0, agent="ben"),
            # By nobody of us, and by nobody at all.
            a_talk("at the fallback", 300.0, agent=None),
            a_talk("in vain", 400.0, answered=None),
        ),
    )
    assert past(loop, store) == PastCalls("ben", 150.0, 0)

    ours = {"direction": "outbound", "from_number": COMPANY, "to_number": CUSTOMER}
    commit(loop, store, a_unit(a_talk("out", 200.0, agent="cem", **ours)))
    assert past(loop, store) == PastCalls("cem", 250.0, 0)


def test_only_what_was_before_the_moment_that_is_asked_about_counts(loop: Loop, store: ThreadedStore) -> None:
    commit(
        loop,
        store,
        a_unit(
            a_talk("first", 600.0),
            a_talk("second", 700.0, agent="ben"),
            a_talk("in vain", 800.0, answered=None, agent=None),
        ),
    )
    assert past(loop, store) == PastCalls("ben", 750.0, 1)
    assert past(loop, store, but="in vain") == PastCalls("ben", 750.0, 0)
    assert past(loop, store, but="second") == PastCalls("anna", 650.0, 1)
    assert past(loop, store, before=800.0) == PastCalls("ben", 750.0, 0)
    # They talked then: it has not ended yet.
    assert past(loop, store, before=740.0) == PastCalls("ben", 740.0, 0)
    # And here it rang.
    assert past(loop, store, before=704.0) == PastCalls("anna", 650.0, 1)


def test_a_talk_that_goes_on_has_not_ended_before(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(a_talk("now", 900.0, ended=None)))
    assert past(loop, store) == PastCalls("anna", 1000.0, 0)


def test_tries_are_the_calls_to_these_numbers_since_then_that_reached_nobody(
    loop: Loop, store: ThreadedStore
) -> None:
    in_vain = {"answered": None, "agent": None}
    commit(
        loop,
        store,
        a_unit(
            a_talk("yesterday", 499.0, **in_vain),
            a_talk("first", 500.0, **in_vain),
            a_talk("by the extension", 600.0, to_number="100", **in_vain),
            a_talk("still rings", 700.0, ended=None, **in_vain),
            a_talk("reached somebody", 800.0),
            a_talk("another service", 850.0, to_number="+494066969101", **in_vain),
            a_talk("ours", 860.0, direction="outbound", to_number=COMPANY, **in_vain),
            a_talk("another caller", 870.0, from_number="+442079460123", **in_vain),
        ),
    )
    assert past(loop, store).tries == 3
    assert loop.result(store.past_calls(CUSTOMER, [], 500.0, 1000.0)).tries == 0


def test_of_a_number_that_calls_without_end_only_so_many_calls_are_looked_at(
    loop: Loop, store: ThreadedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_SPOKEN_AMONG", 3)
    monkeypatch.setattr(queries, "_TRIES_AMONG", 3)
    commit(
        loop,
        store,
        a_unit(a_talk("talked", 600.0), *(a_talk(f"{n}", 610.0 + n, answered=None) for n in range(5))),
    )
    assert past(loop, store) == PastCalls(None, None, 3)


def test_what_was_before_a_call_is_read_by_the_index_of_the_numbers(
    loop: Loop, store: ThreadedStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(loop, store, a_unit(*some_calls()))
    with a_command_store(path) as command:
        ask = type(command.read)._all
        plans: list[list[str]] = []

        def listen(self: Any, sql: str, values: Any = ()) -> list[Any]:
            plans.append([row[3] for row in ask(self, "EXPLAIN QUERY PLAN " + sql, values)])
            return ask(self, sql, values)

        monkeypatch.setattr(type(command.read), "_all", listen)
        command.read.past_calls(CUSTOMER, [COMPANY], 0.0, 1e9)

    by_from = "SEARCH calls USING INDEX calls_by_from (from_number=? AND started<?)"
    by_to = "SEARCH calls USING INDEX calls_by_to (to_number=? AND started<?)"
    today = "SEARCH calls USING INDEX calls_by_from (from_number=? AND started>? AND started<?)"
    assert [[step for step in plan if " calls " in step] for plan in plans] == [[by_from], [by_to], [today]]


# The outbox.


def due(store: ThreadedStore, now: float = 1000.0) -> list[int]:
    return [delivery.seq for delivery in store.due("crm", now, 100)]


def an_attempt(delivery: Delivery, at: float, error: str | None = None) -> AttemptRecord:
    return AttemptRecord(delivery.id, delivery.attempts + 1, at, 0.0, 500 if error else 204, error)


def take(loop: Loop, store: ThreadedStore, delivery: Delivery, at: float = 1000.0) -> None:
    unit = RowUnit()
    unit.put_delivered(an_attempt(delivery, at))
    commit(loop, store, unit)


def refuse(loop: Loop, store: ThreadedStore, delivery: Delivery, *, due: float | None) -> None:
    """`due`: when it is tried again; None: it is given up."""
    unit = RowUnit()
    unit.put_failed(an_attempt(delivery, 1000.0, "answered 500"), due)
    commit(loop, store, unit)


def test_only_subscribed_events_wait_and_of_each_call_only_the_oldest_may_be_tried(
    loop: Loop, store: ThreadedStore
) -> None:
    commit(loop, store, a_unit(events=["call.offered", "call.routed", "call.ended"]))
    commit(loop, store, a_unit(events=["call.routed"], call="c2"))
    commit(loop, store, a_unit(events=["call.ended"], call="c2"))
    assert due(store) == [2, 4]
    first, second = store.due("crm", 1000.0, 100)
    assert (first.key, first.type, first.call, first.attempts) == ("c1.2", "call.routed", "c1", 0)
    assert first.data == store.events_after(1, 1)[0].data
    assert second.key == "c2.4"
    assert store.pending() == {"crm": (4, 1000.0)}


def test_the_next_event_of_a_call_has_its_turn_when_the_one_before_is_delivered(
    loop: Loop, store: ThreadedStore
) -> None:
    commit(loop, store, a_unit(events=["call.routed", "call.routed", "call.ended"]))
    for seq in (1, 2, 3):
        (delivery,) = store.due("crm", 2000.0, 100)
        assert delivery.seq == seq
        take(loop, store, delivery, 1500.0)
    assert due(store, 9999.0) == []
    assert store.pending() == {}
    detail = store._read.call("c1")
    assert detail is None  # No call was written, only events of one.


def test_a_failed_delivery_waits_and_holds_its_call_back_but_no_other(
    loop: Loop, store: ThreadedStore
) -> None:
    commit(loop, store, a_unit(a_call(), events=["call.routed", "call.ended"]))
    commit(loop, store, a_unit(events=["call.routed"], call="c2"))
    refuse(loop, store, store.due("crm", 1000.0, 1)[0], due=1060.0)
    assert due(store) == [3]
    assert store.next_due("crm", 1000.0) == 1060.0
    assert store.next_due("crm", 1060.0) is None
    again = next(delivery for delivery in store.due("crm", 1060.0, 9) if delivery.call == "c1")
    assert (again.seq, again.key, again.attempts) == (1, "c1.1", 1)
    detail = loop.result(store.call("c1"))
    assert detail is not None
    shown = [(each["seq"], each["state"], each["attempts"], each["error"]) for each in detail.deliveries]
    assert shown == [(1, "waiting", 1, "answered 500"), (2, "waiting", 0, None)]


def test_a_dead_delivery_stays_visible_and_lets_the_next_one_go(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(a_call(), events=["call.routed", "call.ended"]))
    refuse(loop, store, store.due("crm", 1000.0, 1)[0], due=None)
    assert due(store) == [2]
    assert store.pending() == {"crm": (1, 1000.0)}
    detail = loop.result(store.call("c1"))
    assert detail is not None
    assert [(each["state"], each["finished"]) for each in detail.deliveries] == [
        ("dead", 1000.0),
        ("waiting", None),
    ]


def test_a_delivery_noted_twice_changes_nothing(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(events=["call.routed", "call.ended", "call.ended"]))
    (first,) = store.due("crm", 1000.0, 9)
    take(loop, store, first, 1000.0)
    refuse(loop, store, store.due("crm", 1000.0, 9)[0], due=1060.0)
    take(loop, store, first, 1001.0)
    assert due(store, 1059.0) == []
    assert store.pending() == {"crm": (2, 1000.0)}


def test_what_does_not_concern_a_destination_does_not_wait_for_it(loop: Loop, store: ThreadedStore) -> None:
    wanted = Subscription(frozenset({"call.routed"}), lambda body: orjson.loads(b"{" + body)["n"] == 1)
    store.subscribe({"crm": wanted, "erp": frozenset({"call.routed"})})
    unit = RowUnit()
    for n in range(3):
        unit.emit("call.routed", 1000.0, {"n": n}, call=f"c{n}")
    commit(loop, store, unit)
    assert (due(store), len(store.due("erp", 1000.0, 9))) == ([2], 3)


def test_a_filter_that_breaks_costs_no_call_and_nobody_an_event(loop: Loop, store: ThreadedStore) -> None:
    def broken(body: bytes) -> bool:
        raise KeyError("call")

    store.subscribe({"crm": Subscription(frozenset({"call.routed"}), broken)})
    commit(loop, store, a_unit(a_call(), events=["call.routed"]))
    assert due(store) == [1]
    assert loop.result(store.call("c1")) is not None


def test_who_subscribes_later_gets_what_comes_from_then_on(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(events=["call.routed"]))
    store.subscribe({"erp": frozenset({"call.routed"})})
    commit(loop, store, a_unit(events=["call.routed"], call="c2"))
    assert due(store) == [1]
    assert [delivery.seq for delivery in store.due("erp", 1000.0, 9)] == [2]


def test_a_dead_delivery_tried_again_goes_before_those_that_came_after_it(
    loop: Loop, store: ThreadedStore
) -> None:
    commit(loop, store, a_unit(events=["call.routed", "call.routed", "call.ended"]))
    first = store.due("crm", 1000.0, 9)[0]
    refuse(loop, store, first, due=None)
    refuse(loop, store, store.due("crm", 1000.0, 9)[0], due=None)
    third = store.due("crm", 1000.0, 9)[0]
    unit = RowUnit()
    # The later one first, as people click.
    unit.retry_delivery(first.id + 1, 1100.0)
    unit.retry_delivery(first.id, 1100.0)
    commit(loop, store, unit)
    (again,) = store.due("crm", 1100.0, 9)
    assert (again.seq, again.key, again.created) == (1, first.key, 1100.0)
    # One that was on its way meanwhile takes its place again.
    refuse(loop, store, third, due=1100.0)
    for seq in (1, 2, 3):
        (delivery,) = store.due("crm", 1100.0, 9)
        assert delivery.seq == seq
        take(loop, store, delivery)
    assert store.pending() == {}


def test_a_delivery_that_is_dropped_holds_up_nobody_and_is_not_delivered(
    loop: Loop, store: ThreadedStore
) -> None:
    commit(loop, store, a_unit(events=["call.routed", "call.routed", "call.ended"]))
    first = store.due("crm", 1000.0, 9)[0]
    unit = RowUnit()
    unit.drop_delivery(first.id + 2, 1000.0)
    unit.drop_delivery(first.id, 1000.0)
    commit(loop, store, unit)
    assert due(store) == [2]
    # What was on its way to somebody may arrive all the same.
    take(loop, store, first)
    page, _ = loop.result(store.outbox(OutboxFilter(), 9))
    assert [(each.seq, each.state) for each in page] == [(3, "dropped"), (2, "waiting"), (1, "dropped")]


def test_the_delivery_log_has_the_latest_attempts_with_what_came_of_each(
    loop: Loop, store: ThreadedStore
) -> None:
    commit(loop, store, a_unit(events=["call.routed"]))
    for _ in range(24):
        refuse(loop, store, store.due("crm", 1000.0, 9)[0], due=1000.0)
    (delivery,) = store.due("crm", 1000.0, 9)
    take(loop, store, delivery, 1001.0)
    detail = loop.result(store.delivery(delivery.id))
    assert detail is not None
    assert (detail.delivery.state, detail.delivery.attempts, detail.delivery.finished) == (
        "delivered",
        25,
        1001.0,
    )
    assert orjson.loads(detail.event.data)["type"] == "call.routed"
    assert [each.number for each in detail.attempts] == list(range(6, 26))
    last = detail.attempts[-1]
    assert [(each.status, each.error) for each in (detail.attempts[0], last)] == [
        (500, "answered 500"),
        (204, None),
    ]
    assert loop.result(store.delivery(9999)) is None


def test_the_outbox_is_read_in_pages_and_by_filters(loop: Loop, store: ThreadedStore) -> None:
    for call in ("c1", "c2"):
        commit(loop, store, a_unit(events=["call.routed", "call.ended"], call=call))
    refuse(loop, store, store.due("crm", 1000.0, 1)[0], due=None)
    assert loop.result(store.count_dead()) == {"crm": 1}

    def seqs(**where: Any) -> list[int]:
        found: list[int] = []
        after = None
        while True:
            page, after = loop.result(store.outbox(OutboxFilter(**where), 1, after))
            found += [each.seq for each in page]
            if after is None:
                return found

    assert seqs() == [4, 3, 2, 1]
    assert seqs(state="dead") == [1]
    assert seqs(call="c2", type="call.ended") == [4]
    assert seqs(destination="erp") == []
    assert seqs(until=1000.0) == []
    assert seqs(since=1000.0, state="waiting") == [4, 3, 2]
    with pytest.raises(ValueError, match="cursor"):
        loop.result(store.outbox(OutboxFilter(), 1, "nonsense"))


def test_events_without_a_call_keep_their_order_per_agent_and_have_keys_of_this_database(
    loop: Loop, path: Path, tmp_path: Path
) -> None:
    keys = set()
    for each in (path, tmp_path / "other.db"):
        store = a_store(loop, each)
        unit = store.unit()
        for agent in ("anna", "anna", "ben"):
            unit.emit("agent.state", 1.0, {"agent": agent}, agents=[agent])
        loop.result(store.commit(unit))
        assert due(store) == [1, 3]
        keys |= {delivery.key for delivery in store.due("crm", 1000.0, 9)}
        loop.result(store.stop())
    assert len(keys) == 4


def test_many_units_in_one_group_are_all_written_in_order(loop: Loop, store: ThreadedStore) -> None:
    done = []
    for number in range(123):
        unit = a_unit(
            a_call(f"c{number:03}", started=float(number)), events=["call.routed"], call=f"c{number:03}"
        )
        done.append(store.commit(unit))
    for each in done:
        loop.result(each)
    assert [detail.call.id for detail in store.open_calls()] == [f"c{number:03}" for number in range(123)]
    assert [event.call for event in store.events_after(0, 999)] == [f"c{number:03}" for number in range(123)]
    assert len(due(store)) == 100
    same = a_call("c000", started=0.0)
    for state in ("offered", "connected", "ended"):
        store.commit(a_unit(evolve(same, state=state)))
    commit(loop, store, a_unit())
    assert len(store.open_calls()) == 122


# What people write


def test_news_of_a_call_that_come_late_bring_no_old_notes_back(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(a_call()))
    late = a_unit(a_call(state="ended", ended=200.0))
    unit = RowUnit()
    unit.put_written(a_call(notes="wants an offer", disposition="order", party={"adapter": "d", "id": "9"}))
    unit.add_wrap_up("c1", 1, 12.5)
    unit.add_wrap_up("c1", 2, 7.5)
    commit(loop, store, unit)
    commit(loop, store, late)

    detail = loop.result(store.call("c1"))
    assert detail is not None
    call = detail.call
    assert (call.ended, call.notes, call.disposition, call.wrap_up) == (
        200.0,
        "wants an offer",
        "order",
        20.0,
    )


def test_a_call_is_found_by_the_party_that_an_agent_chose(loop: Loop, store: ThreadedStore) -> None:
    commit(loop, store, a_unit(a_call(party={"adapter": "d", "id": "8"})))
    unit = RowUnit()
    unit.put_written(a_call(party={"adapter": "d", "id": "9", "match": "chosen"}))
    commit(loop, store, unit)
    for party, found in (("d:9", ["c1"]), ("d:8", [])):
        (page, _) = loop.result(store.calls(CallFilter(party=party), 10))
        assert [call.id for call in page] == found


def test_naming_the_caller_leaves_what_else_has_become_of_the_call(loop: Loop, store: ThreadedStore) -> None:
    begun = a_call(from_kind="unavailable")
    commit(loop, store, a_unit(begun))
    commit(loop, store, a_unit(evolve(begun, state="ended", ended=150.0, outcome="answered")))
    for number in ("+4915228817386", "+4915228895456"):
        unit = RowUnit()
        # As it was read before it ended.
        unit.name_caller(
            evolve(begun, from_number=number, from_raw=number, from_kind="e164", identify_ms=1.5)
        )
        commit(loop, store, unit)
    (kept,), _ = loop.result(store.calls(CallFilter(), 10))
    assert (kept.from_number, kept.from_kind, kept.identify_ms) == ("+4915228817386", "e164", 1.5)
    assert (kept.state, kept.ended, kept.outcome) == ("ended", 150.0, "answered")


def test_a_wrap_up_is_kept_with_its_call_until_it_is_over(loop: Loop, store: ThreadedStore) -> None:
    unit = a_unit(a_call())
    record = WrapUpRecord("anna", "c1", 1, 100.0, 130.0)
    unit.put_wrap_up(record)
    unit.put_wrap_up(evolve(record, until=190.0, added=60.0))
    unit.put_wrap_up(WrapUpRecord("ben", "purged", 1, 100.0, 130.0))
    commit(loop, store, unit)
    ((kept, detail), (_, gone)) = store.wrap_ups()
    assert (kept.until, kept.added, gone) == (190.0, 60.0, None)
    assert detail is not None
    assert detail.call.id == "c1"
    unit = RowUnit()
    unit.remove_wrap_up("anna")
    commit(loop, store, unit)
    assert [record.agent for record, _ in store.wrap_ups()] == ["ben"]


def test_the_worklist_is_paged_and_what_is_written_leaves_it_for_everybody(
    loop: Loop, store: ThreadedStore
) -> None:
    unit = a_unit(*(a_call(f"c{number}") for number in range(5)))
    for number in range(5):
        unit.put_unwritten("anna", f"c{number}", 100.0 + number)
        unit.put_unwritten("anna", f"c{number}", 999.0)
    unit.put_unwritten("ben", "c3", 100.0)
    commit(loop, store, unit)
    assert (store.count_unwritten("anna"), store.count_unwritten("ben")) == (5, 1)
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = loop.result(store.unwritten("anna", 2, cursor))
        seen += [detail.call.id for detail in page]
        if cursor is None:
            break
    assert seen == ["c4", "c3", "c2", "c1", "c0"]
    unit = RowUnit()
    unit.remove_unwritten("c3")
    commit(loop, store, unit)
    assert (store.count_unwritten("anna"), store.count_unwritten("ben")) == (4, 0)
    with pytest.raises(ValueError, match="cursor"):
        loop.result(store.unwritten("anna", 2, "made-up"))


def a_callback(id: str, **changes: Any) -> CallbackRecord:
    return CallbackRecord(id, 100.0, CUSTOMER, **changes)


def test_each_agent_finds_the_callbacks_that_they_may_take(loop: Loop, store: ThreadedStore) -> None:
    unit = RowUnit()
    for record in (
        a_callback("1", owner="anna", party={"id": "9"}),
        a_callback("2", owner="ben", agents=["anna"], groups=["sales"]),
        a_callback("3", agents=["anna"]),
        a_callback("4", groups=["sales", "support"]),
        a_callback("5", agents=["cleo"], groups=["support"]),
        a_callback("6", agents=["anna"], state="done"),
    ):
        unit.put_callback(record)
    commit(loop, store, unit)

    def found(**where: Any) -> str:
        page, _ = loop.result(store.callbacks(CallbackFilter(**where), 10))
        return "".join(record.id for record in page)

    mine: dict[str, Any] = {"for_agent": "anna", "groups": ["sales"]}
    assert found() == "654321"
    assert found(state="open", **mine) == "431"
    assert found(state="open", for_agent="anna") == "31", "in no group"
    assert found(state="done", **mine) == "6"
    assert found(owner="anna") == "1"
    assert found(unowned=True, **mine) == "643"
    assert [record.id for record in store.open_callbacks()] == ["1", "2", "3", "4", "5"]
    one = store.callback("1")
    assert one is not None
    assert one.party == {"id": "9"}
    assert store.callback("none") is None
    first, cursor = loop.result(store.callbacks(CallbackFilter(), 4))
    rest, after = loop.result(store.callbacks(CallbackFilter(), 4, cursor))
    assert ("".join(each.id for each in (*first, *rest)), after) == ("654321", None)


def test_a_planned_call_is_kept_with_how_it_stands(loop: Loop, store: ThreadedStore) -> None:
    unit = RowUnit()
    planned = a_callback("1", due=200.0, next=260.0, anyway=3800.0, failed_tries=1, why="no_answer")
    called = a_callback("2", due=200.0, calling="c1")
    given_up = a_callback("3", failed_tries=3, given_up=300.0)
    for record in (planned, called, given_up):
        unit.put_callback(record)
    commit(loop, store, unit)
    for record in (planned, called, given_up):
        kept = store.callback(record.id)
        assert kept is not None
        assert evolve(kept, agents=(), groups=()) == record


def test_the_chosen_phone_is_kept(loop: Loop, store: ThreadedStore) -> None:
    unit = RowUnit()
    unit.put_agent(an_agent(phone=None))
    commit(loop, store, unit)
    unit = RowUnit()
    unit.put_phone("anna", "PJSIP/anna")
    commit(loop, store, unit)
    assert [agent.phone for agent in store.agents()] == ["PJSIP/anna"]
