"""A real PostgreSQL with a CRM of the WICE kind in it: what every adapter is held to, and what databases do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from adapters.base import (
    AdapterAnswerError,
    AdapterError,
    AdapterTimeout,
    Capability,
    ListedNumber,
    ListedParty,
    NewTask,
    Party,
    PartyRef,
    PartyType,
)
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.sql import SqlAdapter
from adapters.sql_options import SqlQueries
from adapters.trial import eventually, in_reactor
from cti.numbers import NumberPlan
from lab.crm.postgresql import Postgres
from lab.ports import PortBlock
from tests.crm.sql_bench import ROOT, SCHEMAS, SqlBench, number, quoted, the_sample, with_secret

NOBODY = "+442079460998"
ADA = "+4915228817386"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    ports = PortBlock.claim()
    with Postgres(tmp_path_factory.mktemp("postgresql"), port=ports.take()) as running:
        running.sql("CREATE DATABASE wice")
        running.sql((SCHEMAS / "wice.sql").read_text("utf-8"), "wice")
        yield running
    ports.release()


class WiceBench(SqlBench):
    types = (PartyType.CONTACT, PartyType.ORGANISATION)
    keeps = frozenset({"name", "company", "owner", "tier", "language", "tags", "notes", "url"})
    user = "anna"

    def __init__(self, server: Postgres, base: Path) -> None:
        sample = the_sample("sql-wice.yaml")
        super().__init__(evolve(sample, port=server.port), lambda text: server.sql(text, "wice"), base)
        self.server = server

    def plant(self, party: ListedParty) -> PartyRef:
        one = party.party
        words = [quoted(each) for each in (one.owner, one.tier, one.language, ", ".join(one.tags), one.notes)]
        words.append(quoted(one.url))
        if one.type is PartyType.ORGANISATION:
            columns = "company_id"
            id = self.sql(
                "INSERT INTO company (owner, rating, language, keywords, remarks, web, name, phone) VALUES"
                f" ({', '.join(words)}, {quoted(one.name)}, {number(party, 0)}) RETURNING company_id"
            )
            table, letter = "company", "C"
        else:
            columns = "person_id"
            id = self.sql(
                "INSERT INTO person (owner, rating, language, keywords, remarks, web, last_name, employer, phone,"
                f" mobile) VALUES ({', '.join(words)}, {quoted(one.name)}, {quoted(one.company)},"
                f" {number(party, 0)}, {number(party, 1)}) RETURNING person_id"
            )
            table, letter = "person", "P"
        self.sql(f"UPDATE {table} SET customer_no = 'K-{letter}{id}' WHERE {columns} = {id}")
        return PartyRef(one.type, id)

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        self.sql(
            f"UPDATE person SET last_name = {quoted(party.party.name)}, phone = {number(party, 0)}, mobile ="
            f" {number(party, 1)}, changed_at = clock_timestamp() WHERE person_id = {ref.id}"
        )

    def remove(self, ref: PartyRef) -> None:
        table = "company" if ref.type is PartyType.ORGANISATION else "person"
        self.sql(
            f"UPDATE {table} SET deleted = true, changed_at = clock_timestamp() WHERE {table}_id = {ref.id}"
        )

    def journaled(self, number: str) -> Sequence[str]:
        found = self.sql(
            "SELECT replace(subject || ' ' || body, E'\\n', ' ') FROM contact_history"
            f" WHERE sort = 'call' AND number = {quoted(number)}"
        )
        return found.splitlines()

    def notes(self, ref: PartyRef) -> Sequence[str]:
        letter = "C" if ref.type is PartyType.ORGANISATION else "P"
        found = self.sql(
            "SELECT replace(body, E'\\n', ' ') FROM contact_history"
            f" WHERE sort = 'note' AND kind = '{letter}' AND ref = {ref.id}"
        )
        return found.splitlines()

    def tasks(self, ref: PartyRef) -> Sequence[NewTask]:
        found = self.sql(
            f"SELECT due || 'T00:00:00Z', staff, title FROM todo WHERE kind = 'P' AND ref = {ref.id}"
        )
        rows = [line.split("|", 2) for line in found.splitlines()]
        return [NewTask(title, datetime.fromisoformat(due), staff) for due, staff, title in rows]

    def break_it(self) -> None:
        self.server.stop()

    def mend(self) -> None:
        self.server.start()


class TestPostgresql(AdapterConformance):
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {Capability.CONTACT_FILE}

    @pytest.fixture(autouse=True)
    def _bench(self, server: Postgres, tmp_path: Path) -> None:
        self.bench = WiceBench(server, tmp_path)

    def crm(self) -> Bench:
        return self.bench


# What databases do besides.


def an_adapter(server: Postgres, base: Path, **changes: Any) -> SqlAdapter:
    """The sample's, with some of its options, or of its queries, changed."""
    options = evolve(the_sample("sql-wice.yaml"), port=server.port, parts={})
    queries = {"identify": "SELECT 1 AS id, '' AS phone WHERE :e164 = ''", **changes.pop("queries", {})}
    changed = with_secret(options, **{"keys": {}, **changes}, queries=SqlQueries(**queries))
    return SqlAdapter("crm", changed, a_context(base))


@contextmanager
def started(adapter: SqlAdapter) -> Iterator[SqlAdapter]:
    try:
        in_reactor(adapter.start)
        yield adapter
    finally:
        in_reactor(adapter.stop)


def asked(adapter: SqlAdapter, number: str = NOBODY) -> Sequence[Party]:
    return in_reactor(adapter.identify, NumberPlan("DE").parse(number))


def asleep(server: Postgres) -> int:
    """How many statements sleep in the server."""
    return int(
        server.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(4%' AND state = 'active'"
        " AND pid <> pg_backend_pid()")
    )  # fmt: skip


SLEEP = {"identify": "SELECT pg_sleep(400)::text AS id, :e164 AS phone"}


def test_what_is_given_up_ends_in_the_server_too(server: Postgres, tmp_path: Path) -> None:
    with started(an_adapter(server, tmp_path, queries=SLEEP, seconds=60.0)) as adapter:

        async def ask() -> Deferred[Any]:
            # In a tuple, or the Deferred itself would be waited for.
            return (Deferred.fromCoroutine(adapter.identify(NumberPlan("DE").parse(ADA))),)  # type: ignore[return-value]

        (asking,) = in_reactor(ask)  # type: ignore[misc]
        eventually(lambda: asleep(server) == 1, "the question reaches the server")

        async def give_up() -> None:
            asking.cancel()
            with suppress(CancelledError):
                await asking

        in_reactor(give_up)
        eventually(lambda: asleep(server) == 0, "what nobody waits for is not done any more")


def test_a_statement_that_takes_too_long_is_given_up_and_hinders_nobody(
    server: Postgres, tmp_path: Path
) -> None:
    with started(an_adapter(server, tmp_path, queries=SLEEP, seconds=0.5, connections=1)) as adapter:
        for _ in range(3):
            with pytest.raises(AdapterTimeout):
                asked(adapter)
        assert in_reactor(adapter.health).up
        assert asleep(server) == 0


def test_a_server_that_stands_still_holds_nobody(server: Postgres, tmp_path: Path) -> None:
    with started(an_adapter(server, tmp_path, seconds=0.5, connections=1)) as adapter:
        assert asked(adapter) == []
        ours = "SELECT pid FROM pg_stat_activity WHERE usename = 'cordboard'"
        pids = [int(pid) for pid in server.sql(ours).split()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

        def answers() -> bool:
            with suppress(AdapterError):
                return asked(adapter) == []
            return False

        try:
            with pytest.raises(AdapterTimeout):
                asked(adapter)
            eventually(answers, "another connection takes the place of the one that stands still")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def test_an_account_that_may_only_read_is_enough(server: Postgres, tmp_path: Path) -> None:
    sample = the_sample("sql-wice.yaml")
    reading = {
        name: getattr(sample.queries, name)
        for name in (
            *("identify", "card", "cases", "appointments", "tasks", "last_contacts"),
            *("search", "list", "mark", "changes", "users"),
        )
    }
    bench = WiceBench(server, tmp_path)
    ada = bench.plant(ListedParty(Party("crm", "contact", "1", "Ada"), (ListedNumber("0152 28817386"),)))
    reader = with_secret(
        evolve(sample, port=server.port, queries=SqlQueries(**reading)),
        user="cordboard_reader",
        password="reads only",
    )
    try:
        with started(SqlAdapter("crm", reader, a_context(tmp_path))) as adapter:
            assert [party.ref for party in asked(adapter, ADA)] == [ada]
            assert not adapter.capabilities & {Capability.CREATE, Capability.JOURNAL, Capability.NOTE}
    finally:
        bench.remove(ada)


def test_a_query_that_reads_cannot_write(server: Postgres, tmp_path: Path) -> None:
    writes = "INSERT INTO staff (login, name) VALUES (:e164, 'x') RETURNING login AS id, '' AS phone"
    owner = {"user": "postgres", "password": "-"}
    with (
        started(an_adapter(server, tmp_path, queries={"identify": writes}, **owner)) as adapter,
        pytest.raises(AdapterAnswerError, match="read-only transaction"),
    ):
        asked(adapter)
    assert server.sql("SELECT count(*) FROM staff", "wice") == "2"


def test_a_broken_query_is_told_of_in_the_databases_own_words(server: Postgres, tmp_path: Path) -> None:
    queries = {"card": "SELECT nme FROM person WHERE person_id::text = :id", "users": "SELEC 1"}
    adapter = an_adapter(server, tmp_path, queries=queries)
    with pytest.raises(AdapterAnswerError) as broken, started(adapter):
        pass
    assert 'query card: column "nme" does not exist' in str(broken.value)
    assert 'query users: syntax error at or near "SELEC"' in str(broken.value)


def test_health_says_which_query_is_broken(server: Postgres, tmp_path: Path) -> None:
    adapter = an_adapter(server, tmp_path, queries={"users": "SELECT * FROM nobody"})
    try:
        with pytest.raises(AdapterAnswerError):
            in_reactor(adapter.start)
        health = in_reactor(adapter.health)
        assert not health.up
        assert 'relation "nobody" does not exist' in health.detail
    finally:
        in_reactor(adapter.stop)


def test_a_wrong_password_is_denied_and_not_repeated(server: Postgres, tmp_path: Path) -> None:
    # Whoever reaches this server is let in; one that it does not know is not.
    adapter = an_adapter(server, tmp_path, user="nobody", password="a secret word")
    with pytest.raises(AdapterError) as refused, started(adapter):
        pass
    assert "nobody" in str(refused.value)
    assert "a secret word" not in str(refused.value)


def test_a_query_that_answers_everybody_is_refused_and_its_answer_not_read(
    server: Postgres, tmp_path: Path
) -> None:
    everybody = {"identify": "SELECT generate_series(1, 50000000)::text AS id, :e164 AS phone"}
    with (
        started(an_adapter(server, tmp_path, queries=everybody)) as adapter,
        pytest.raises(AdapterAnswerError, match="LIMIT"),
    ):
        asked(adapter)


def test_a_number_that_comes_back_is_looked_at_again(server: Postgres, tmp_path: Path) -> None:
    everybody = (
        "SELECT n::text AS id, '+49 152 2889545' || n AS phone FROM generate_series(0, 9) n WHERE '' < :e164"
    )
    with started(an_adapter(server, tmp_path, queries={"identify": everybody})) as adapter:
        assert [party.id for party in asked(adapter, "+4915228895456")] == ["6"]


def test_a_company_is_found_by_its_switchboard_and_a_person_is_not(server: Postgres, tmp_path: Path) -> None:
    both = "SELECT type, '1' AS id, '040 66969-0' AS phone FROM (VALUES ('C'), ('P')) AS k (type) WHERE :e164 <> ''"
    with started(an_adapter(server, tmp_path, queries={"identify": both})) as adapter:
        found = asked(adapter, "+49406696927")
        assert [(party.type, party.match) for party in found] == [(PartyType.ORGANISATION, "stem")]


def test_a_query_without_a_number_in_its_answer_is_refused(server: Postgres, tmp_path: Path) -> None:
    with (
        started(
            an_adapter(server, tmp_path, queries={"identify": "SELECT 1 AS id WHERE :e164 <> ''"})
        ) as adapter,
        pytest.raises(AdapterAnswerError, match="number"),
    ):
        asked(adapter)


def test_the_card_has_its_sections(server: Postgres, tmp_path: Path) -> None:
    bench = WiceBench(server, tmp_path)
    ada = bench.plant(ListedParty(Party("crm", "contact", "1", "Ada"), (ListedNumber("0152 28817386"),)))
    bench.sql(
        f"""
        INSERT INTO project (kind, ref, title, status, started)
          VALUES ('P', {ada.id}, 'Roof', 'open', '2026-03-01');
        INSERT INTO appointment (kind, ref, at, title, staff)
          VALUES ('P', {ada.id}, '2099-07-01 10:00', 'Visit', 'anna');
        INSERT INTO todo (kind, ref, title, due, staff) VALUES ('P', {ada.id}, 'Offer', '2099-01-02', 'anna');
        INSERT INTO contact_history (kind, ref, at, sort, subject)
          VALUES ('P', {ada.id}, '2026-01-01Z', 'mail', 'Asked');
        """
    )
    adapter = bench.make()
    in_reactor(adapter.start)
    try:
        card = in_reactor(adapter.card, ada)  # type: ignore[attr-defined]
        assert [case.title for case in card.cases] == ["Roof"]
        # Ten o'clock in Berlin, in summer.
        assert [each.at.isoformat() for each in card.appointments] == ["2099-07-01T08:00:00+00:00"]
        assert [task.title for task in card.tasks] == ["Offer"]
        assert [each.summary for each in card.last_contacts] == ["Asked"]
    finally:
        in_reactor(adapter.stop)
        bench.remove(ada)


def test_a_connection_that_ended_is_replaced(server: Postgres, tmp_path: Path) -> None:
    with started(an_adapter(server, tmp_path)) as adapter:
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cordboard'")
        assert asked(adapter) == []


def test_check_live_tells_of_a_broken_query_and_of_no_secret(server: Postgres, tmp_path: Path) -> None:
    sample = (ROOT / "config/sql-wice.yaml").read_text("utf-8")
    broken = sample.replace("SELECT login AS id", "SELECT logn AS id")
    broken = broken.replace("    database: wice\n", f"    database: wice\n    port: {server.port}\n")
    # Nobody listens there: what is said of the CRM does not need an Asterisk.
    (tmp_path / "cti.yaml").write_text(broken.replace("127.0.0.1:5038", "127.0.0.1:1"))
    information = tmp_path / "lab_sql-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-sql\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[cordboard.adapters]\nsql = adapters.sql:SqlAdapter\n")
    done = subprocess.run(
        [sys.executable, "-m", "cti", "check", "--live", "-c", str(tmp_path / "cti.yaml")],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "CRM_PASSWORD": "a secret word"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert 'adapters.wice: the CRM: query users: column "logn" does not exist' in done.stderr
    assert "a secret word" not in done.stdout + done.stderr
