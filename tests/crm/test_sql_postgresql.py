"""A real PostgreSQL with a CRM of the WICE kind in it: what every adapter is held to, and what databases do besides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import evolve

from adapters.base import (
    Capability,
    ListedParty,
    NewTask,
    PartyRef,
    PartyType,
)
from adapters.conformance import AdapterConformance, Bench
from lab.crm.postgresql import Postgres
from lab.ports import PortBlock
from tests.crm.sql_bench import SCHEMAS, SqlBench, number, quoted, the_sample

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
