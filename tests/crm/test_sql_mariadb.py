"""A real MariaDB with the tables of vtiger and of SuiteCRM: what every adapter is held to, by both samples."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import evolve

from adapters.base import Capability, ListedParty, NewTask, PartyRef, PartyType
from adapters.conformance import AdapterConformance, Bench
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
            f" JOIN vtiger_crmentity ON crmid = pbxmanagerid WHERE customernumber = {quoted(number)}"
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
            f" WHERE replace(phone_work, ' ', '') = {quoted(number)} AND contacts.deleted = 0"
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
