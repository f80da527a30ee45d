"""The embedded directory is held to what every adapter is."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from adapters import directory as directory_adapter
from adapters.base import Capability, IAdapter, ListedParty, NewTask, PartyRef, PartyType
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.directory import DirectoryAdapter, DirectoryOptions, KeyOptions
from adapters.directory_file import Directory, Entry, PartyKey, PartyNumber, PartyUnknown
from adapters.directory_records import KeptTask, Note

#: So small that lists have several.
PAGE = 2


class DirectoryBench(Bench):
    """The directory's file, as another process sees it."""

    numbers_as_typed = ("+49 152 28817386", "0152 / 288 17 386", "+49 (40) 66969-0", "0044 20 7946 0123")
    types = tuple(PartyType)
    keeps = frozenset({"name", "company", "owner", "tier", "language", "tags", "notes", "url"})
    finds_stems = True
    page = PAGE
    breakable = True
    user = "u1"

    def __init__(self, base: Path) -> None:
        self.base = base
        self.directory = Directory(base / "directory.db", "directory")
        self.directory.open()

    def make(self) -> IAdapter:
        options = DirectoryOptions(keys={"customer": KeyOptions("Customer number")})
        return DirectoryAdapter("directory", options, a_context(self.base))

    def plant(self, party: ListedParty) -> PartyRef:
        entry = Entry(party.party, self.numbers(party), (PartyKey("customer", f"K{party.party.id}"),))
        self.directory.put(entry)
        return party.party.ref

    def numbers(self, party: ListedParty) -> tuple[PartyNumber, ...]:
        return tuple(
            PartyNumber(number.raw, self.plan.parse(number.raw).e164 or "") for number in party.numbers
        )

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        self.directory.put(Entry(evolve(party.party, id=ref.id, type=ref.type), self.numbers(party)))

    def remove(self, ref: PartyRef) -> None:
        with suppress(PartyUnknown):
            self.directory.remove(ref.id)

    def key_of(self, ref: PartyRef) -> tuple[str, str]:
        return "customer", f"K{ref.id}"

    def rows(self, question: str, *values: str) -> list[Any]:
        with closing(sqlite3.connect(self.directory.path)) as connection:
            return connection.execute(question, values).fetchall()

    def journaled(self, number: str) -> Sequence[str]:
        found = self.rows("SELECT subject, text FROM activity WHERE number = ?", number)
        return ["\n".join(each) for each in found]

    def notes(self, ref: PartyRef) -> Sequence[str]:
        return [each.text for each in self.directory.records(ref.id, "notes") if isinstance(each, Note)]

    def tasks(self, ref: PartyRef) -> Sequence[NewTask]:
        return [
            NewTask(each.title, each.due, each.user, each.text)
            for each in self.directory.records(ref.id, "tasks")
            if isinstance(each, KeptTask)
        ]

    def break_it(self) -> None:
        self.rows("ALTER TABLE party RENAME TO party_away")

    def mend(self) -> None:
        self.rows("ALTER TABLE party_away RENAME TO party")


class TestDirectory(AdapterConformance):
    capabilities = frozenset(Capability)

    @pytest.fixture(autouse=True)
    def _its_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = tmp_path
        monkeypatch.setattr(directory_adapter, "PAGE", PAGE)

    def crm(self) -> Bench:
        return DirectoryBench(self.base)
