"""A real MariaDB with the tables of vtiger and of SuiteCRM: what every adapter is held to, by both samples."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from adapters.base import (
    AdapterAnswerError,
    AdapterDenied,
    AdapterTimeout,
    Capability,
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
from cti.secret import Secret
from lab.crm.mariadb import MariaDb
from lab.ports import PortBlock
from tests.crm.sql_bench import SCHEMAS, SqlBench, number, quoted, the_sample

_IDS = count(1_000)
#: Where a backslash in a text is one, and times are as the CRMs write them.
_SESSION = "SET sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES', time_zone = '+00:00';\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    ports = PortBlock.claim()
    with MariaDb(tmp_path_factory.mktemp("mariadb"), ports.take()) as running:
        for name in ("vtiger", "suitecrm"):
            running.sql(f"CREATE DATABASE {name}")
            running.sql((SCHEMAS / f"{name}.sql").read_text("utf-8"), name)
        yield running
    ports.release()


class MariaDbBench(SqlBench):
    types = (PartyType.CONTACT, PartyType.ORGANISATION)

    def __init__(self, server: MariaDb, base: Path, name: str) -> None:
        sample = the_sample(f"sql-{name}.yaml")
        super().__init__(
            evolve(sample, port=server.port), lambda text: server.sql(_SESSION + text, name), base
        )
        self.server = server

    def break_it(self) -> None:
        self.server.stop()

    def mend(self) -> None:
        self.server.start()


class VtigerBench(MariaDbBench):
    keeps = frozenset({"name", "owner", "notes"})
    user = "5"

    def plant(self, party: ListedParty) -> PartyRef:
        one, id = party.party, next(_IDS)
        organisation = one.type is PartyType.ORGANISATION
        setype = "Accounts" if organisation else "Contacts"
        self.sql(
            "INSERT INTO vtiger_crmentity (crmid, smownerid, setype, description, createdtime, modifiedtime) VALUES"
            f" ({id}, {one.owner or 0}, '{setype}', {quoted(one.notes)}, utc_timestamp(), utc_timestamp());"
        )
        if organisation:
            self.sql(
                "INSERT INTO vtiger_account (accountid, account_no, accountname, phone) VALUES"
                f" ({id}, 'ACC{id}', {quoted(one.name)}, {number(party, 0)})"
            )
        else:
            self.sql(
                "INSERT INTO vtiger_contactdetails (contactid, contact_no, lastname, phone, mobile) VALUES"
                f" ({id}, 'CON{id}', {quoted(one.name)}, {number(party, 0)}, {number(party, 1)})"
            )
        return PartyRef(one.type, str(id))

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        self.sql(
            f"UPDATE vtiger_contactdetails SET phone = {number(party, 0)}, mobile = {number(party, 1)}"
            f" WHERE contactid = {ref.id};"
            f"UPDATE vtiger_crmentity SET modifiedtime = utc_timestamp() WHERE crmid = {ref.id}"
        )

    def remove(self, ref: PartyRef) -> None:
        self.sql(
            f"UPDATE vtiger_crmentity SET deleted = 1, modifiedtime = utc_timestamp() WHERE crmid = {ref.id}"
        )

    def key_of(self, ref: PartyRef) -> tuple[str, str]:
        return "customer", f"{'ACC' if ref.type is PartyType.ORGANISATION else 'CON'}{ref.id}"

    def journaled(self, number: str) -> Sequence[str]:
        return self.sql(
            "SELECT replace(concat(label, ' ', description, ' '), char(10), ' ') FROM vtiger_pbxmanager"
            f" JOIN vtiger_crmentity ON crmid = pbxmanagerid WHERE deleted = 0 AND customernumber = {quoted(number)}"
        ).splitlines()

    def notes(self, ref: PartyRef) -> Sequence[str]:
        return self.sql(
            "SELECT replace(commentcontent, char(10), ' ') FROM vtiger_modcomments"
            f" WHERE related_to = {ref.id}"
        ).splitlines()


class SuiteBench(MariaDbBench):
    types = (PartyType.CONTACT, PartyType.ORGANISATION, PartyType.LEAD)
    keeps = frozenset({"name", "owner", "notes"})
    user = "u-1"

    _TABLES: ClassVar = {
        PartyType.CONTACT: ("contacts", "last_name", "phone_work", "phone_mobile"),
        PartyType.ORGANISATION: ("accounts", "name", "phone_office", "phone_alternate"),
        PartyType.LEAD: ("leads", "last_name", "phone_work", "phone_mobile"),
    }

    def plant(self, party: ListedParty) -> PartyRef:
        one, id = party.party, str(uuid.uuid4())
        table, name, *phones = self._TABLES[one.type]
        self.sql(
            f"INSERT INTO {table} (id, date_modified, assigned_user_id, description, {name}, {', '.join(phones)})"
            f" VALUES ('{id}', utc_timestamp(), {quoted(one.owner)}, {quoted(one.notes)}, {quoted(one.name)},"
            f" {number(party, 0)}, {number(party, 1)})"
        )
        return PartyRef(one.type, id)

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        table, name, first, second = self._TABLES[ref.type]
        self.sql(
            f"UPDATE {table} SET {name} = {quoted(party.party.name)}, {first} = {number(party, 0)},"
            f" {second} = {number(party, 1)}, date_modified = utc_timestamp() WHERE id = '{ref.id}'"
        )

    def remove(self, ref: PartyRef) -> None:
        table = self._TABLES[ref.type][0]
        self.sql(f"UPDATE {table} SET deleted = 1, date_modified = utc_timestamp() WHERE id = '{ref.id}'")

    def journaled(self, number: str) -> Sequence[str]:
        # SuiteCRM's calls have no number: those of the parties who have it.
        return self.sql(
            "SELECT replace(concat(calls.name, ' ', calls.description), char(10), ' ') FROM calls"
            " JOIN contacts ON contacts.id = parent_id"
            f" WHERE replace(phone_work, ' ', '') = {quoted(number)} AND contacts.deleted = 0 AND calls.deleted = 0"
        ).splitlines()

    def notes(self, ref: PartyRef) -> Sequence[str]:
        return self.sql(
            f"SELECT replace(description, char(10), ' ') FROM notes WHERE parent_id = '{ref.id}'"
        ).splitlines()

    def tasks(self, ref: PartyRef) -> Sequence[NewTask]:
        rows = self.sql(
            f"SELECT concat(date_due, 'Z'), assigned_user_id, name FROM tasks WHERE parent_id = '{ref.id}'"
        )
        found = [line.split("\t") for line in rows.splitlines()]
        return [NewTask(title, datetime.fromisoformat(due), user) for due, user, title in found]


_ALL = frozenset(Capability) - {Capability.CONTACT_FILE}


class TestVtiger(AdapterConformance):
    capabilities: ClassVar[frozenset[Capability]] = _ALL - {Capability.TASK}

    @pytest.fixture(autouse=True)
    def _bench(self, server: MariaDb, tmp_path: Path) -> None:
        self.bench = VtigerBench(server, tmp_path, "vtiger")

    def crm(self) -> Bench:
        return self.bench


class TestSuiteCrm(AdapterConformance):
    capabilities: ClassVar[frozenset[Capability]] = _ALL - {Capability.KEY, Capability.NUMBERS}

    @pytest.fixture(autouse=True)
    def _bench(self, server: MariaDb, tmp_path: Path) -> None:
        self.bench = SuiteBench(server, tmp_path, "suitecrm")

    def crm(self) -> Bench:
        return self.bench


# What MariaDB does of its own.


def an_adapter(server: MariaDb, base: Path, identify: str, **changes: Any) -> SqlAdapter:
    options = evolve(the_sample("sql-vtiger.yaml"), port=server.port, parts={}, keys={})
    return SqlAdapter("crm", evolve(options, queries=SqlQueries(identify), **changes), a_context(base))


def busy(server: MariaDb) -> int:
    return int(
        server.sql(
            "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT count(*) AS id%'"
        )
    )


# Sleeping alone would notice that nobody listens any more.
ENDLESS = "SELECT count(*) AS id, :e164 AS phone FROM seq_1_to_100000000 AS a, seq_1_to_100000000 AS b"


def ask(adapter: SqlAdapter) -> Sequence[Party]:
    return in_reactor(adapter.identify, adapter._plan.parse("+442079460998"))


def test_a_statement_that_takes_too_long_is_ended_in_the_server(server: MariaDb, tmp_path: Path) -> None:
    adapter = an_adapter(server, tmp_path, ENDLESS, seconds=0.5, connections=1)
    in_reactor(adapter.start)
    try:
        for _ in range(2):
            with pytest.raises(AdapterTimeout):
                ask(adapter)
        eventually(lambda: busy(server) == 0, "nothing goes on in the server")
        assert in_reactor(adapter.health).up
    finally:
        in_reactor(adapter.stop)


def test_what_is_given_up_ends_in_the_server_too(server: MariaDb, tmp_path: Path) -> None:
    adapter = an_adapter(server, tmp_path, ENDLESS, seconds=60.0)
    in_reactor(adapter.start)
    try:

        async def begin() -> tuple[Deferred[Any]]:
            number = adapter._plan.parse("+442079460998")
            return (Deferred.fromCoroutine(adapter.identify(number)),)

        (asking,) = in_reactor(begin)
        eventually(lambda: busy(server) == 1, "the question reaches the server")

        async def give_up() -> None:
            asking.cancel()
            with suppress(CancelledError):
                await asking

        in_reactor(give_up)
        eventually(lambda: busy(server) == 0, "what nobody waits for is not done any more")
    finally:
        in_reactor(adapter.stop)


def test_an_account_that_may_only_read_is_enough_and_a_wrong_password_is_denied(
    server: MariaDb, tmp_path: Path
) -> None:
    identify = "SELECT contactid AS id, phone FROM vtiger_contactdetails WHERE phone = :e164"
    reader = {"user": "cordboard_reader", "password": Secret("reads only")}
    adapter = an_adapter(server, tmp_path, identify, **reader)
    in_reactor(adapter.start)
    try:
        assert ask(adapter) == []
    finally:
        in_reactor(adapter.stop)
    adapter = an_adapter(server, tmp_path, identify, **{**reader, "password": Secret("a wrong word")})
    with pytest.raises(AdapterDenied) as refused:
        in_reactor(adapter.start)
    in_reactor(adapter.stop)
    assert "a wrong word" not in str(refused.value)


def test_a_query_that_reads_cannot_write(server: MariaDb, tmp_path: Path) -> None:
    adapter = an_adapter(server, tmp_path, "UPDATE vtiger_crmentity_seq SET id = 0 WHERE :e164 <> ''")
    in_reactor(adapter.start)
    try:
        with pytest.raises(AdapterAnswerError, match="READ ONLY"):
            ask(adapter)
    finally:
        in_reactor(adapter.stop)


def test_a_query_that_answers_everybody_is_refused_and_its_answer_not_read(
    server: MariaDb, tmp_path: Path
) -> None:
    adapter = an_adapter(server, tmp_path, "SELECT seq AS id, :e164 AS phone FROM seq_1_to_50000000")
    in_reactor(adapter.start)
    try:
        with pytest.raises(AdapterAnswerError, match="LIMIT"):
            ask(adapter)
        assert in_reactor(adapter.health).up
    finally:
        in_reactor(adapter.stop)


def test_a_broken_query_is_told_of_in_the_databases_own_words(server: MariaDb, tmp_path: Path) -> None:
    adapter = an_adapter(server, tmp_path, "SELECT nme FROM vtiger_account WHERE :e164 <> ''")
    with pytest.raises(AdapterAnswerError, match="query identify: Unknown column 'nme'"):
        in_reactor(adapter.start)
    in_reactor(adapter.stop)
