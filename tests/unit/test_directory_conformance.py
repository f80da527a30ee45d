"""The embedded directory is held to what every adapter is."""

import sqlite3
from pathlib import Path

import pytest
from attrs import evolve

from adapters.base import Capability, IAdapter, ListedParty, PartyRef, PartyType
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.directory import DirectoryAdapter, DirectoryOptions
from adapters.directory_file import Directory, Entry, PartyNumber


class DirectoryBench(Bench):
    """The directory's file, as another process sees it."""

    numbers_as_typed = ("+49 152 28817386", "0152 / 288 17 386", "+49 (40) 66969-0", "0044 20 7946 0123")
    types = tuple(PartyType)
    keeps = frozenset({"name", "company", "owner", "tier", "language", "tags", "notes", "url"})
    finds_stems = True
    user = "u1"

    def __init__(self, base: Path) -> None:
        self.base = base
        self.directory = Directory(base / "directory.db", "directory")
        self.directory.open()

    def make(self) -> IAdapter:
        return DirectoryAdapter("directory", DirectoryOptions(), a_context(self.base))

    def plant(self, party: ListedParty) -> PartyRef:
        entry = Entry(party.party, self.numbers(party))
        self.directory.put(entry)
        return party.party.ref

    def numbers(self, party: ListedParty) -> tuple[PartyNumber, ...]:
        return tuple(
            PartyNumber(number.raw, self.plan.parse(number.raw).e164 or "") for number in party.numbers
        )

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        self.directory.put(Entry(evolve(party.party, id=ref.id, type=ref.type), self.numbers(party)))

    def remove(self, ref: PartyRef) -> None:
        with sqlite3.connect(self.directory.path) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("DELETE FROM party WHERE id = ?", (ref.id,))
        connection.close()


class TestDirectory(AdapterConformance):
    capabilities = frozenset({Capability.IDENTIFY, Capability.CREATE, Capability.CONTACT_FILE})

    @pytest.fixture(autouse=True)
    def _its_place(self, tmp_path: Path) -> None:
        self.base = tmp_path

    def crm(self) -> Bench:
        return DirectoryBench(self.base)
