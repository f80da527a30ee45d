"""People taken out of the store, what is kept of them shown, and what is too old removed; without Asterisk."""

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import orjson
import psycopg
import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock

from cti.cli import main
from cti.privacy.erasing import Erasing, gathered
from cti.privacy.erasures import Erasures
from cti.privacy.files import Files
from cti.privacy.retention import DAY, Daily, Purge, last_time
from cti.privacy.traces import GONE, Subject, Traces
from cti.secret import Secret
from cti.settings import Recordings, Retention
from cti.store.personal import PERSONAL, PLAIN
from cti.store.postgresql import open_postgres_for_command
from cti.store.queries import Reader
from cti.store.records import (
    AskedOnce,
    AttemptRecord,
    AuditRecord,
    CallbackRecord,
    CallRecord,
    CardRecord,
    ChannelRecord,
    ChoiceRecord,
    DecisionRecord,
    ErasureRecord,
    JournalRecord,
    JournalTry,
    ListedNumber,
    NewcomerRecord,
    PeriodRecord,
    SegmentRecord,
)
from cti.store.sqlite import open_store_for_command
from cti.store.threaded import CommandStore
from lab.crm.postgresql import Postgres
from lab.ports import a_port

T = TypeVar("T")
NOW = 1_790_000_000.0
GRETA = "+4915228817386"
OTHER = "+494066969123"
NAME = "Greta Probé"
PARTY = {"adapter": "odoo", "type": "contact", "id": "4711", "name": NAME, "url": "http://crm.test/4711"}
SUBJECT = Subject(frozenset({GRETA}))
DESTINATIONS = {"crm": frozenset({"call.routed", "call.ended"})}


class Kept:
    """A command's store, as the engine asks it."""

    def __init__(self, store: CommandStore) -> None:
        self.store = store
        self.unit = store.unit
        self.units = 0

    def commit(self, unit: Any, *, at_leisure: bool = False) -> "Deferred[Any]":
        self.units += 1
        return maybeDeferred(self.store.commit_now, unit)

    def read(self, question: Callable[[Reader], T]) -> "Deferred[T]":
        return maybeDeferred(question, self.store.read)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cti.db"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with a_port() as port, Postgres(tmp_path_factory.mktemp("postgresql"), port=port) as running:
        yield running


@pytest.fixture
def on_postgresql(cluster: Postgres) -> Iterator[tuple[Kept, str]]:
    url = cluster.database(f"cti{secrets.token_hex(4)}")
    with open_postgres_for_command(url, destinations=DESTINATIONS, clock=lambda: NOW) as store:
        yield Kept(store), url


@pytest.fixture
def kept(path: Path) -> Iterator[Kept]:
    with open_store_for_command(path, destinations=DESTINATIONS, clock=lambda: NOW) as store:
        yield Kept(store)


def done(work: Any) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(results.append)
    assert results, "it waits for something"
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


def files(path: Path, **more: Any) -> Files:
    given: dict[str, Any] = {"index": path.parent / "index", "directories": {}, "recordings": {}, **more}
    return Files(path, **given)


def erase(kept: Kept, path: Path, subject: Subject = SUBJECT, **more: Any) -> ErasureRecord:
    erasure = ErasureRecord("e1", NOW, subject=subject.as_json(), directory=True)
    is_open = lambda call: call["state"] != "ended"  # noqa: E731
    erasing = Erasing(kept, files(path, **more), lambda work: succeed(work()), lambda: NOW, is_open)
    result: ErasureRecord = done(erasing.erase(erasure))
    return result


def a_call(id: str = "c1", at: float = NOW - 100, **more: Any) -> CallRecord:
    given = {
        "state": "ended",
        "ended": at + 60,
        "outcome": "answered",
        "agent": "anna",
        "service": "sales",
        **more,
    }
    return CallRecord(id=id, pbx="main", started=at, **given)


def from_greta(id: str = "c1", at: float = NOW - 100, **more: Any) -> CallRecord:
    given = {"from_number": GRETA, "from_raw": "0152 28817386", "from_kind": "e164", **more}
    return a_call(id, at, to_number=OTHER, to_raw="040 66969123", party=PARTY, **given)


def everywhere(kept: Kept, call: CallRecord) -> None:
    """All that a call leaves behind, and all else that may name who made it."""
    id, at = call.id, call.started
    brief = {"id": id, "direction": "inbound", "from": GRETA, "to": OTHER, "service": "sales"}
    unit = kept.unit()
    unit.put_call(call)
    unit.put_written(evolve(call, notes=f"{NAME} wants to be called at 0152/288 173-86"))
    unit.put_segment(
        SegmentRecord(
            id, 1, 1, "sales", ["anna"], f"PJSIP/{GRETA}@trunk", "owner", f"party.name = {NAME}", at
        )
    )
    unit.put_channel(
        ChannelRecord(
            "main", f"1.{id}", id, "Local/015228817386@out", "peer", at, name="Local/015228817386@out-1;1"
        )
    )
    unit.put_decision(
        DecisionRecord(
            id, 1, at, "sales", "route", "dial", ["anna"], "PJSIP/anna", "owner", f"caller {GRETA}",
            {"caller": {"number": GRETA}, "from": {"e164": GRETA}, "party": PARTY}, [{"step": f"{NAME} is known"}],
            {"number": GRETA, "parties": [PARTY]},
        )
    )  # fmt: skip
    unit.put_card(CardRecord(id, "anna", 1, at, {"parties": [PARTY], "number": "+49 152 28817386"}))
    unit.emit("call.routed", at, {"call": brief, "party": PARTY, "agent": "anna"}, call=id, agents=["anna"])
    unit.emit("call.ended", at + 60, {"call": {**brief, "outcome": "answered"}}, call=id)
    unit.emit(
        "callback.changed", at, {"callback": {"number": GRETA, "party": PARTY, "id": "b"}}, agents=["anna"]
    )
    unit.put_journal(
        id, "odoo", [JournalRecord(id, "odoo", "mail.activity", "9", "http://crm.test/4711#9", at)]
    )
    unit.put_callback(CallbackRecord(f"b{id}", at, GRETA, note=f"for {NAME}", call=id, party=PARTY))
    unit.put_choice(ChoiceRecord(GRETA, "odoo", "contact", "4711", at, id))
    unit.put_newcomer(NewcomerRecord("odoo", GRETA, "lead", id, "sales", at, party=PARTY))
    unit.put_listed(ListedNumber("ignored", GRETA, at, "uma", NAME))
    unit.put_listed(ListedNumber("blocked", "+49900*", at, "uma", f"not {NAME}, tel. (0152) 28817386"))
    unit.add_audit(AuditRecord(at, "uma", "user", "GET /api/v1/calls", None, {"number": "0152-28817386"}))
    unit.add_audit(AuditRecord(at, "uma", "user", "DELETE /numbers", GRETA))
    unit.put_asked_once(AskedOnce("t1", "k1", "d", at, 202, "application/json", {}, f'{{"to":"{GRETA}"}}'))
    unit.put_journal_try(JournalTry(id, "odoo", at, "contact", "4711"))
    # Somebody else's call, in whose notes they are named.
    other = a_call("a0" + id, at - 5, from_number=OTHER, notes=f"ask {NAME}, 28817386, on Monday")
    unit.put_call(other)
    unit.put_written(other)
    kept.store.commit_now(unit)
    unit = kept.unit()
    delivery = kept.store.read.due("crm", NOW + 1, 1)[0].id
    unit.put_failed(AttemptRecord(delivery, 1, at, 0.1, 422, f"{NAME} has no number 0152 28817386"), at)
    kept.store.commit_now(unit)


def texts(path: Path) -> Mapping[str, str]:
    """All that stands in each table."""
    connection = sqlite3.connect(path)
    try:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {table: repr(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}
    finally:
        connection.close()


def shows(text: str) -> bool:
    """Whether somebody who looks for them finds them: told without the code that erases."""
    digits = "".join(each for each in text if each in "0123456789")
    return "28817386" in digits or any(word in text for word in ("Greta", "Probé", "4711"))


def test_every_column_with_text_is_known_to_who_erases(kept: Kept, path: Path) -> None:
    connection = sqlite3.connect(path)
    known = {table.name: table for table in PERSONAL}
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        if name in PLAIN or name.startswith("sqlite_"):
            continue
        table = known.get(name)
        assert table is not None, f"{name}: say in cti.store.personal what it holds of people"
        columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
        told = {
            *table.text,
            *table.json,
            *table.plain,
            *table.numbers,
            *table.blank,
            *(table.party_key or ()),
        }
        told |= {table.call, table.party}
        if table.removed:
            told |= set(table.key)
        missing = {column for _, column, kind, *_ in columns if kind == "TEXT"} - told
        assert not missing, f"{name}: say in cti.store.personal what {missing} hold of people"
        assert [row[1] for row in sorted(columns, key=lambda row: row[5]) if row[5]] == list(table.key)
    assert set(known) | PLAIN >= set(texts(path)) - {"sqlite_sequence"}


def test_nothing_of_somebody_erased_is_left_in_any_table_or_in_the_file(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta())
    planted = {table for table, text in texts(path).items() if shows(text)}
    assert planted >= {table.name for table in PERSONAL}
    assert path.with_name("cti.db-wal").read_bytes().count(b"28817386")

    result = erase(kept, path)
    assert result.state == "done"
    assert result.report is not None
    assert result.report["left"] == []
    assert {table for table, text in texts(path).items() if shows(text)} == set()
    for each in (path, path.with_name("cti.db-wal")):
        assert not shows(each.read_bytes().decode("latin-1"))


def test_what_an_earlier_version_deleted_without_overwriting_it_is_gone_from_the_file(path: Path) -> None:
    with open_store_for_command(path, destinations=DESTINATIONS, clock=lambda: NOW) as store:
        everywhere(Kept(store), from_greta())
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA secure_delete = OFF")
    for table in ("events", "cards"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    with open_store_for_command(path, destinations=DESTINATIONS, clock=lambda: NOW) as store:
        assert erase(Kept(store), path).report["left"] == []  # type: ignore[index]
        assert b"28817386" not in path.read_bytes()


def test_nothing_of_somebody_erased_is_left_in_a_postgresql(
    on_postgresql: tuple[Kept, str], tmp_path: Path
) -> None:
    kept, url = on_postgresql
    everywhere(kept, from_greta())

    def tables() -> set[str]:
        with psycopg.connect(url) as connection:
            names = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            rows = {
                name: repr(connection.execute(f'SELECT * FROM "{name}"'.encode()).fetchall())
                for (name,) in names
            }
        return {name for name, text in rows.items() if shows(text)}

    assert tables() >= {table.name for table in PERSONAL}
    place = evolve(files(tmp_path / "cti.db", rewrite=True), store=None, postgresql=Secret(url))
    erasure = ErasureRecord("e1", NOW, subject=SUBJECT.as_json())
    erasing = Erasing(kept, place, lambda work: succeed(work()), lambda: NOW, lambda _: False)
    assert done(erasing.erase(erasure)).report["left"] == []
    assert tables() == set()


def test_what_is_too_old_is_removed_from_a_postgresql(on_postgresql: tuple[Kept, str]) -> None:
    kept, url = on_postgresql
    for id, age in (("c1", 40), ("c2", 20)):
        everywhere(kept, from_greta(id, days(age)))
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE outbox SET state = 'delivered', finished = created")
    kinds = ("recordings", "decisions", "cards", "events", "outbox", "callbacks", "remembered")
    counts = purge(kept, Retention(calls=30, numbers=10, audit=30, **dict.fromkeys(kinds, 10)))
    assert (counts["calls"], counts["numbers"], counts["events"], counts["audit"]) == (2, 4, 5, 2)
    assert kept.store.read.call("c1") is None
    assert kept.store.read.call("c2").call.from_number is None  # type: ignore[union-attr]


def test_the_log_keeps_that_there_was_a_call_and_other_peoples_words(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta())
    erase(kept, path)
    detail = kept.store.read.call("c1")
    assert detail is not None
    call = detail.call
    assert (call.service, call.agent, call.outcome, call.to_number) == ("sales", "anna", "answered", OTHER)
    assert (call.from_number, call.from_raw, call.from_kind, call.party, call.notes) == (
        None, "", "unavailable", None, None,
    )  # fmt: skip
    ended = orjson.loads(detail.events[-1].data)
    assert ended["type"] == "call.ended"
    assert ended["call"] == {
        "id": "c1", "direction": "inbound", "from": None, "to": None, "service": "sales", "outcome": "answered",
    }  # fmt: skip
    other = kept.store.read.call("a0c1")
    assert other is not None
    assert (other.call.from_number, other.call.notes) == (OTHER, f"ask {GONE}, {GONE}, on Monday")


def test_a_call_that_goes_on_is_erased_when_it_is_over(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta("c1"))
    everywhere(kept, from_greta("c2", state="connected", ended=None))
    first = erase(kept, path)
    assert (first.state, first.report["waits"]) == ("waiting", ["c2"])  # type: ignore[index]
    assert kept.store.read.call("c2").call.from_number == GRETA  # type: ignore[union-attr]
    assert kept.store.read.call("c1").call.from_number is None  # type: ignore[union-attr]
    unit = kept.unit()
    unit.put_call(from_greta("c2"))
    kept.store.commit_now(unit)
    (waiting,) = kept.store.read.erasures()
    erasing = Erasing(kept, files(path), lambda work: succeed(work()), lambda: NOW, lambda _: False)
    assert done(erasing.erase(waiting)).state == "done"
    assert not any(shows(text) for text in texts(path).values())


def test_a_party_is_erased_whatever_number_they_called_from(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta("c1", from_number="+493023125001", from_raw="+493023125001"))
    erase(kept, path, Subject(parties=frozenset({("odoo", "4711")})))
    assert kept.store.read.call("c1").call.from_number is None  # type: ignore[union-attr]
    assert not any(
        "Greta" in text or "30231250" in text for table, text in texts(path).items() if table == "calls"
    )


def test_a_company_that_many_call_from_keeps_its_name_in_others_calls(kept: Kept, path: Path) -> None:
    company = {"adapter": "odoo", "type": "organisation", "id": "1", "name": "Kupfer Werke"}
    unit = kept.unit()
    unit.put_call(a_call("c2", from_number=GRETA, party=company))
    other = a_call("c3", from_number=OTHER, notes="Kupfer Werke called")
    unit.put_call(other)
    unit.put_written(other)
    kept.store.commit_now(unit)
    erase(kept, path)
    assert kept.store.read.call("c3").call.notes == "Kupfer Werke called"  # type: ignore[union-attr]


def test_somebody_else_of_the_same_name_keeps_it(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta())
    namesake = {**PARTY, "id": "12", "url": None}
    unit = kept.unit()
    unit.put_call(a_call("c9", from_number=OTHER, party=namesake))
    kept.store.commit_now(unit)
    erase(kept, path)
    assert kept.store.read.call("c9").call.party == namesake  # type: ignore[union-attr]


def test_words_that_are_changed_while_they_are_looked_at_are_not_written_over(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta())
    write, written = kept.commit, []

    def commit(unit: Any, *, at_leisure: bool = False) -> "Deferred[Any]":
        if at_leisure and not written:
            other = kept.store.read.call("a0c1").call  # type: ignore[union-attr]
            written.append(evolve(other, notes=f"{NAME} has rung again, all is well"))
            unit_of_an_agent = kept.unit()
            unit_of_an_agent.put_written(written[0])
            kept.store.commit_now(unit_of_an_agent)
        return write(unit, at_leisure=at_leisure)

    kept.commit = commit  # type: ignore[method-assign]
    erase(kept, path)
    assert kept.store.read.call("a0c1").call.notes == f"{GONE} has rung again, all is well"  # type: ignore[union-attr]


def test_who_else_was_told_is_named_and_where_they_still_show(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta())
    (delivery,) = kept.store.read.due("crm", NOW + 1, 10)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE outbox SET state = 'delivered' WHERE id = ?", (delivery.id,))
    connection.commit()
    connection.close()
    config = path.with_name("cti.yaml")
    config.write_text("blocked: ['0152 2881 7386']")
    report: Any = erase(kept, path, read_only=(config,)).report
    assert report["delivered"] == {"crm": 1}  # Of two, one is on its way still.
    assert report["records"] == [{"adapter": "odoo", "type": "mail.activity", "id": "9"}]
    assert [left.split(":")[0] for left in report["left"]] == [str(config)]


def test_recordings_go_with_the_call(kept: Kept, path: Path) -> None:
    id = "01930000-0000-7000-8000-000000000001"
    place = path.with_name("recordings")
    place.mkdir()
    for name in (f"{id}.wav", f"{id}-2.wav", "01930000-0000-7000-8000-000000000002.wav"):
        (place / name).write_bytes(b"RIFF")
    unit = kept.unit()
    unit.put_call(from_greta(id, recording=f"{id}-2.wav"))
    kept.store.commit_now(unit)
    erase(kept, path, recordings={"main": Recordings(directory=place)})
    assert [each.name for each in place.iterdir()] == ["01930000-0000-7000-8000-000000000002.wav"]


def test_everything_about_somebody_is_shown_to_them(kept: Kept) -> None:
    everywhere(kept, from_greta())

    async def shown() -> list[tuple[str, Any]]:
        return [each async for each in gathered(kept, SUBJECT)]

    found = done(shown())
    kinds = {table for table, _ in found}
    assert kinds == {"calls", "callbacks", "choices", "newcomers", "number_lists", "audit", "asked_once"}
    (call,) = [kept for table, kept in found if table == "calls"]
    assert call["from"] == GRETA
    assert call["cards"][0]["body"]["parties"] == [PARTY]
    assert [each["type"] for each in call["events"]] == ["call.routed", "call.ended"]


WRITTEN = (
    "+4915228817386", "4915228817386", "004915228817386", "015228817386", "0152 28817386", "(0152) 288 173 86",
    "0152/28817386", "0152-288-17386", "+49 (0)152 28817386", "+49 [152] 28817386", "+49-152-2881 7386",
    "tel:+4915228817386", "%2B4915228817386", "0 0049 152 28817386", "28817386", "2881-7386", "152.288.173.86",
    "Greta Probé", "greta probe", "Probé, Greta", "GRETA PROBÉ", "Greta%20Prob%C3%A9",
)  # fmt: skip


@pytest.mark.parametrize("form", WRITTEN)
def test_every_written_form_is_found(form: str) -> None:
    traces = Traces(SUBJECT.called([NAME]))
    for text in (form, f"call {form} now", f'"{form}"', f"x={form}&y"):
        assert traces.in_text(text)
        assert not shows(traces.without(text))
        assert traces.in_bytes(b"\0\1" + text.encode() + b"\2")


@pytest.mark.parametrize(
    "text",
    [
        "+4315228817386 ",
        "040 28817386",
        "1700028817386",
        "128817386",
        "28817386123",
        "c28817386f",
        "Greta",
        "Gretas Probén",
    ],
)
def test_what_is_somebody_elses_stays(text: str) -> None:
    assert not Traces(SUBJECT.called([NAME])).in_text(text)


def test_a_number_that_sqlite_wrote_as_an_integer_is_found_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE number (e164 INTEGER)")
    connection.execute("INSERT INTO number VALUES (?)", (int(GRETA[1:]),))
    connection.commit()
    connection.close()
    assert Traces(SUBJECT).in_bytes(path.read_bytes())


# What is too old.


def purge(
    kept: Kept, retention: Retention, *, now: float = NOW, places: Any = None, dry: bool = False
) -> Any:
    return done(Purge(kept, retention, places or {}, lambda work: succeed(work()), now, dry=dry).run())


def days(count: float) -> float:
    return NOW - count * DAY


def deliver_all(path: Path, *, but: int = 0) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE outbox SET state = 'delivered', finished = created WHERE seq <> ?", (but,))
    connection.commit()
    connection.close()


def test_old_calls_go_with_all_that_belongs_to_them_and_newer_ones_stay(kept: Kept, path: Path) -> None:
    for id, age in (("c1", 40), ("c2", 20)):
        everywhere(kept, from_greta(id, days(age)))
    deliver_all(path)
    counts = purge(kept, Retention(calls=30, events=30))
    assert counts["calls"] == 2
    assert counts["events"] == 3
    left = texts(path)
    for table in ("calls", "segments", "channels", "decisions", "cards", "journal"):
        assert "c1" not in left[table]
        assert "c2" in left[table]
    assert kept.store.read.events_after(0, 100, "anna")[0].seq == 4
    assert "1)" not in left["event_agents"].split(",")[1]


def test_old_periods_of_agents_go_but_for_one_that_goes_on(kept: Kept) -> None:
    unit = kept.store.unit()
    for agent, age in (("anna", 41), ("anna", 40), ("anna", 20), ("ben", 50)):
        unit.put_period(PeriodRecord(agent, days(age), "ready"))
    kept.store.commit_now(unit)
    assert purge(kept, Retention(periods=30)) == {"periods": 2}
    rows = kept.store.read._all("SELECT agent, began FROM periods ORDER BY began")
    assert [tuple(row) for row in rows] == [("ben", days(50)), ("anna", days(20))]


def test_the_newest_event_stays_so_that_streams_know_how_far_the_numbers_are(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta("c1", days(40)))
    deliver_all(path)
    purge(kept, Retention(events=30))
    assert kept.store.read.event_range() == (3, 3)


def test_events_that_are_still_to_be_delivered_hold_up_everything_behind_them(kept: Kept, path: Path) -> None:
    for id, age in (("c1", 40), ("c2", 39)):
        everywhere(kept, from_greta(id, days(age)))
    deliver_all(path, but=2)
    counts = purge(kept, Retention(calls=30, events=30))
    assert kept.store.read.event_range() == (2, 6)
    assert counts == {"events": 1, "calls": 2}
    assert kept.store.read.call("c2") is not None


def test_calls_lose_who_it_was_before_they_go(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta("c1", days(40)))
    outbound = a_call("c2", days(40), direction="outbound", from_number=None, from_raw="201", to_number=GRETA)
    unit = kept.unit()
    unit.put_call(evolve(outbound, to_raw=GRETA, party=PARTY))
    kept.store.commit_now(unit)
    deliver_all(path)
    kinds = ("recordings", "decisions", "cards", "events", "outbox", "callbacks", "remembered")
    purge(kept, Retention(numbers=30, **dict.fromkeys(kinds, 30)))
    first, second = kept.store.read.call("c1"), kept.store.read.call("c2")
    assert first is not None
    assert second is not None
    assert (first.call.from_number, first.call.to_number, first.call.party) == (None, OTHER, None)
    assert (second.call.from_raw, second.call.to_number, second.call.party) == ("201", None, None)
    assert (first.cards, first.journal, first.decisions[0].facts) == ([], [], {})
    left = texts(path)
    for table in ("calls", "segments", "channels", "decisions", "cards", "journal", "choices", "newcomers"):
        assert not shows(left[table].replace("ask Greta Probé, 28817386", "")), table


def test_each_old_call_is_changed_once(kept: Kept) -> None:
    unit = kept.unit()
    for number in range(50):
        unit.put_call(a_call(f"c{number:02}", days(40 + number)))
    kept.store.commit_now(unit)
    assert purge(kept, Retention(decisions=30))["decisions"] == 50
    units = kept.units
    assert "decisions" not in purge(kept, Retention(decisions=30))
    assert kept.units - units <= 2


def test_open_callbacks_and_open_calls_stay_whatever_their_age(kept: Kept) -> None:
    unit = kept.unit()
    unit.put_call(a_call("c1", days(40), state="connected", ended=None))
    unit.put_callback(CallbackRecord("b1", days(40), OTHER, changed=days(40)))
    unit.put_callback(CallbackRecord("b2", days(40), OTHER, state="done", changed=days(40)))
    kept.store.commit_now(unit)
    assert purge(kept, Retention(calls=30, callbacks=30)) == {"callbacks": 1}
    assert kept.store.read.call("c1") is not None


def test_a_dry_run_counts_and_changes_nothing(kept: Kept, path: Path) -> None:
    everywhere(kept, from_greta("c1", days(40)))
    deliver_all(path)
    before = texts(path)
    assert purge(kept, Retention(calls=30, audit=30), dry=True) == {"calls": 2, "audit": 2}
    assert texts(path) == before


def test_a_purge_of_many_holds_the_writer_for_a_moment_only(kept: Kept) -> None:
    for batch in range(10):
        unit = kept.unit()
        for number in range(200):
            unit.put_call(a_call(f"c{batch:02}{number:03}", days(40)))
            unit.emit("call.ended", days(40), {"call": {"id": "c"}}, call=f"c{batch:02}{number:03}")
        kept.store.commit_now(unit)
    purge(kept, Retention(calls=30))
    # Twenty calls each; by count, since time tells of the machine.
    assert kept.units >= 100


def test_what_agents_did_goes_with_its_own_time(kept: Kept, path: Path) -> None:
    connection = sqlite3.connect(path)
    for began, ended in ((days(40), days(39)), (days(20), days(19)), (days(50), None)):
        connection.execute("INSERT INTO periods VALUES ('anna', ?, 'ready', NULL, ?)", (began, ended))
    connection.commit()
    assert purge(kept, Retention(periods=30)) == {"periods": 1}
    left = connection.execute("SELECT began FROM periods ORDER BY began").fetchall()
    connection.close()
    assert left == [(days(50),), (days(20),)]


def test_it_is_done_once_a_day_and_made_up_for_when_it_was_missed(kept: Kept) -> None:
    clock, rounds = Clock(), []

    def round(retention: Retention) -> Purge:
        rounds.append(retention)
        return Purge(kept, retention, {}, lambda work: succeed(work()), clock.seconds())

    retention = [Retention(calls=30)]
    daily = Daily(kept, lambda: retention[0], round, clock)
    clock.rightNow = NOW
    for _ in range(3):
        done(daily.look())
    assert len(rounds) == 1
    clock.advance(2.5 * DAY)
    done(daily.look())
    done(daily.look())
    assert len(rounds) == 2
    retention[0] = Retention()
    clock.advance(DAY)
    done(daily.look())
    assert len(rounds) == 2


@pytest.mark.parametrize(
    "arguments", [[], ["--name", "Greta Probe"], ["--number", "201"], ["--number", "anna"], ["--party", "17"]]
)
def test_a_command_that_names_nobody_erases_nobody(tmp_path: Path, arguments: list[str]) -> None:
    config = tmp_path / "cti.yaml"
    sample = Path(__file__).parents[2] / "config" / "small.yaml"
    config.write_text(sample.read_text(encoding="utf-8"), encoding="utf-8")
    for command in ("erase", "export"):
        assert main([command, *arguments, "-c", str(config)]) == 2


def test_the_day_begins_at_its_hour() -> None:
    noon = time.mktime((2026, 3, 10, 12, 0, 0, 0, 0, -1))
    assert noon - last_time((3, 30), noon) == 8.5 * 3600
    assert noon - last_time((13, 0), noon) == 23 * 3600


# Beside a running server.


class Waiting:
    """A store that knows of erasures, and who does them: as many as are asked for, with the state that is said."""

    def __init__(self, *erasures: ErasureRecord) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.kept = {each.id: each for each in erasures}
        self.state = "done"
        self.done: list[str] = []
        self.forgotten: list[Subject] = []
        self.live: set[str] = set()
        self.erasures_of = Erasures(
            cast(Any, self),
            lambda: cast(Any, self),
            self.forgotten.append,
            self.live.__contains__,
            self.clock,
        )

    def unit(self) -> Any:
        return self

    def put_erasure(self, erasure: ErasureRecord) -> None:
        self.kept[erasure.id] = erasure

    def commit(self, _unit: Any) -> "Deferred[None]":
        return succeed(None)

    def erasures(self) -> list[ErasureRecord]:
        return [each for each in self.kept.values() if each.state != "done"]

    async def erase(self, erasure: ErasureRecord) -> ErasureRecord:
        self.done.append(erasure.id)
        waits = {"waits": sorted(self.live)}
        self.kept[erasure.id] = changed = evolve(erasure, state=self.state, report=waits)
        return changed


def an_erasure(state: str, **more: Any) -> ErasureRecord:
    return ErasureRecord("e1", NOW, state, SUBJECT.as_json(), **more)


def test_a_server_forgets_whom_a_command_erases_and_leaves_the_rest_to_it() -> None:
    waiting = Waiting(an_erasure("asked"))
    waiting.erasures_of.look()
    assert waiting.forgotten == [SUBJECT]
    waiting.clock.advance(60)
    assert waiting.done == []


def test_what_a_command_that_died_has_left_is_done_by_the_server() -> None:
    waiting = Waiting(an_erasure("asked"))
    waiting.erasures_of.look()
    waiting.clock.pump([60] * 61)
    assert waiting.done == ["e1"]
    waiting.clock.pump([60] * 10)
    assert waiting.done == ["e1"]


def test_a_server_waits_until_their_calls_are_over() -> None:
    waiting = Waiting(an_erasure("waiting", report={"waits": ["c1"]}))
    waiting.live.add("c1")
    waiting.erasures_of.look()
    waiting.clock.pump([5] * 10)
    assert waiting.done == []
    waiting.live.clear()
    waiting.clock.advance(5)
    assert waiting.done == ["e1"]


def test_one_that_another_server_has_on_the_phone_is_not_looked_for_all_the_time() -> None:
    waiting = Waiting(an_erasure("waiting", report={"waits": ["c1"]}))
    waiting.state = "waiting"
    waiting.erasures_of.look()
    waiting.clock.pump([5] * 24)
    assert 2 <= len(waiting.done) <= 4


def test_who_asks_the_server_gets_it_done_and_whoever_was_looked_up_meanwhile_is_forgotten_again() -> None:
    waiting = Waiting()
    asked = done(waiting.erasures_of.ask(SUBJECT, True))
    assert waiting.done == [asked.id]
    assert waiting.forgotten == [SUBJECT, SUBJECT]
    waiting.erasures_of.stop()
    assert waiting.clock.getDelayedCalls() == []
