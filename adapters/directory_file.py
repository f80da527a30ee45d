"""The directory's file: parties and their numbers in SQLite, looked up by E.164.

Synchronous, and knows nothing of the server; what its tables hold is told in ``directory.sql``. CSV is left
to ``directory_csv``.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib.resources import files
from operator import itemgetter
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen
from attrs.validators import matches_re

from adapters.base import AdapterError, Case, LastContact, Party, PartyType
from adapters.party import CASES_LIMIT, CONTACTS_LIMIT, bounded_word
from cti.numbers import stem_of_switchboard, switchboards

SCHEMA_VERSION = 1
#: Marks the file as a directory ("CTId"), so that no other SQLite file is ever taken for one.
APPLICATION_ID = 0x43544964
#: Numbers of one party, and parties of one number, that are looked at.
NUMBERS_LIMIT = 50
PARTIES_LIMIT = 50

# Reading never waits for a writer in WAL mode; what is left is recovery after a crash, and the reactor does
# not wait longer than this for it.
_READ_WAIT_MS = 50
_WRITE_WAIT_MS = 10_000
# Mapped, a page costs no system call; address space is all that this takes.
_MAPPED_BYTES = 1 << 30
_BATCH = 10_000

_FOUND = """
SELECT party.type, party.id, party.name, party.company, party.url, party.owner, party.tier, party.language,
       party.tags, party.notes, party.key,
       EXISTS (SELECT 1 FROM party_case WHERE party_case.party = party.key),
       EXISTS (SELECT 1 FROM last_contact WHERE last_contact.party = party.key)"""
_NUMBER_OF_PARTY = "FROM number JOIN party ON party.key = number.party"
_LOOKUP = f"{_FOUND} {_NUMBER_OF_PARTY} WHERE number.e164 = ? LIMIT ?"
_COMPANIES = (PartyType.ORGANISATION.value, PartyType.PARTNER.value, PartyType.SUPPLIER.value)
_LOOKUP_STEMS = f"""
{_FOUND}, number.raw, number.e164 {_NUMBER_OF_PARTY}
WHERE number.e164 IN ({{}}) AND party.type IN (?, ?, ?) LIMIT ?
"""
_CASES = """
SELECT id, title, status, opened, url FROM party_case
WHERE party = ? AND lower(status) <> 'closed' ORDER BY opened DESC, id LIMIT ?
"""
_CONTACTS = "SELECT at, kind, user, summary FROM last_contact WHERE party = ? ORDER BY at DESC, kind LIMIT ?"
_COLUMNS = "type, id, name, company, url, owner, tier, language, tags, notes"
_PARTY = f"SELECT {_COLUMNS}, key FROM party WHERE id = ?"
_PARTIES = f"SELECT {_COLUMNS}, key FROM party ORDER BY id"
_NUMBERS = "SELECT raw, e164, label FROM number WHERE party = ? ORDER BY position"
_ADD_PARTY = f"INSERT INTO party ({_COLUMNS}, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE_PARTY = """
UPDATE party SET type = ?, id = ?, name = ?, company = ?, url = ?, owner = ?, tier = ?, language = ?,
       tags = ?, notes = ?
WHERE key = ?
"""
_PUT_CASE = """
INSERT OR REPLACE INTO party_case (party, id, title, status, opened, url) VALUES (?, ?, ?, ?, ?, ?)
"""
_PUT_CONTACT = """
INSERT OR REPLACE INTO last_contact (party, at, kind, user, summary) VALUES (?, ?, ?, ?, ?)
"""
_ADD_NUMBER = "INSERT INTO number (e164, party, position, raw, label) VALUES (?, ?, ?, ?, ?)"


class DirectoryError(AdapterError):
    """The directory's file cannot be used, or does not take what it was given."""


@frozen
class PartyNumber:
    """One number of a party: as typed, its key, and what it is (mobile, office), if that was said.

    Raises ``ValueError`` for a key that no caller could ever be looked up by.
    """

    raw: str
    e164: str = field(validator=matches_re(r"\+[1-9][0-9]{4,19}"))
    label: str | None = bounded_word()


@frozen
class Entry:
    """A party as the directory keeps it, with its numbers in order; cases and last contacts are apart."""

    party: Party
    numbers: tuple[PartyNumber, ...] = ()


class Change(StrEnum):
    """What putting an entry did."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


class Directory:
    """One directory file; synchronous, for one thread.

    Looking up is for the reactor: some tens of microseconds, and no writer in another process holds it up.
    Writing waits for the disk, and up to 10 s for another writer: it is for commands, and for starting up.
    """

    def __init__(self, path: Path, name: str) -> None:
        """``name``: the adapter whose parties these are."""
        self.path = path
        self.name = name
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, or make it; raises ``DirectoryError`` with a sentence if that is not possible."""
        try:
            # These are people's data: nobody else on the machine reads them unless the administrator says so.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise DirectoryError(
                f"the directory's file {self.path} cannot be opened: {error.strerror}"
            ) from error
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=_WRITE_WAIT_MS / 1000)
        try:
            self._check_or_create(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
            connection.execute(f"PRAGMA busy_timeout = {_READ_WAIT_MS}")
        except sqlite3.Error as error:
            connection.close()
            raise DirectoryError(f"the directory's file {self.path} cannot be used: {error}") from error
        except DirectoryError:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """Let go of the file; nothing happens if it isn't open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def lookup(self, e164: str) -> list[Party]:
        """Who has this number, by id, at most ``PARTIES_LIMIT`` parties. Raises ``sqlite3.Error``."""
        rows = self._open.execute(_LOOKUP, (e164, PARTIES_LIMIT)).fetchall()
        if len(rows) > 1:
            # Not by SQL: its sorter doubles the price of each look-up, and nearly all find one party or none.
            rows.sort(key=itemgetter(1))
        return [self._party(row) for row in rows]

    def lookup_stems(self, stems: Sequence[str]) -> list[Party]:
        """The companies whose switchboard has the longest of these stems that anybody's has, by id.

        ``stems`` as ``cti.numbers.stems`` gives them. Persons are not found, whatever is written of their numbers.
        Raises ``sqlite3.Error``.
        """
        keys = [key for stem in stems for key in switchboards(stem)]
        if not keys:
            return []
        question = _LOOKUP_STEMS.format(",".join("?" * len(keys)))
        by_stem: dict[str, list[Any]] = {}
        for *row, raw, e164 in self._open.execute(question, (*keys, *_COMPANIES, PARTIES_LIMIT)):
            by_stem.setdefault(stem_of_switchboard(raw, e164) or "", []).append(row)
        found = next((by_stem[stem] for stem in stems if stem in by_stem), [])
        return [evolve(self._party(row), match="stem") for row in sorted(found, key=itemgetter(1))]

    def get(self, party_id: str) -> Entry | None:
        """The entry with this id, without its cases and last contacts."""
        row = self._open.execute(_PARTY, (party_id,)).fetchone()
        return None if row is None else self._entry(row)

    def entries(self) -> Iterator[Entry]:
        """All entries by id, without cases and last contacts, as they were when the iteration began."""
        for row in self._open.execute(_PARTIES):
            yield self._entry(row)

    def __len__(self) -> int:
        (count,) = self._open.execute("SELECT count(*) FROM party").fetchone()
        return int(count)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Everything put inside is seen by readers at once, at its end, or, if it raises, never.

        Raises ``DirectoryError`` if another process keeps writing for 10 s.
        """
        connection = self._open
        if connection.in_transaction:
            yield
            return
        connection.execute(f"PRAGMA busy_timeout = {_WRITE_WAIT_MS}")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise DirectoryError(f"the directory {self.path} cannot be written: {error}") from error
        finally:
            connection.execute(f"PRAGMA busy_timeout = {_READ_WAIT_MS}")

    def put(self, entry: Entry) -> Change:
        """Add the entry, or make the one with its id like it; its cases and last contacts stay as they are.

        Raises ``DirectoryError`` for a party without a name, with too many numbers or with one number twice.
        """
        self._check(entry)
        with self.writing():
            row = self._open.execute(_PARTY, (entry.party.id,)).fetchone()
            if row is None:
                key = self._next_key()
                self._open.execute(_ADD_PARTY, (*_values(entry.party), key))
                self._open.executemany(_ADD_NUMBER, _number_values(entry, key))
                return Change.ADDED
            key = row[-1]
            known = self._entry(row)
            changed_party = _values(known.party) != _values(entry.party)
            if changed_party:
                self._open.execute(_UPDATE_PARTY, (*_values(entry.party), key))
            changed_numbers = known.numbers != entry.numbers
            if changed_numbers:
                self._open.execute("DELETE FROM number WHERE party = ?", (key,))
                self._open.executemany(_ADD_NUMBER, _number_values(entry, key))
            return Change.UPDATED if changed_party or changed_numbers else Change.UNCHANGED

    def put_case(self, party_id: str, case: Case) -> None:
        """Add a case of the party, or replace the one with its id; ``DirectoryError`` without the party."""
        opened = case.as_json()["opened"]
        with self.writing():
            self._open.execute(
                _PUT_CASE,
                (self._key(party_id), case.id, case.title, case.status, opened, case.url),
            )

    def put_contact(self, party_id: str, contact: LastContact) -> None:
        """Add a contact with the party, or replace that of the same time and kind; errors as above."""
        at = contact.as_json()["at"]
        with self.writing():
            self._open.execute(
                _PUT_CONTACT,
                (self._key(party_id), at, contact.kind, contact.user, contact.summary),
            )

    def bulk_load(self, entries: Iterable[Entry]) -> int:
        """Add entries that are all new, in one transaction; how many. For first fills of up to millions.

        Raises ``DirectoryError``, and adds none, if an id is there already or ``put`` would refuse an entry.
        """
        loaded = 0
        connection = self._open
        with self.writing():
            key = self._next_key()
            parties: list[tuple[Any, ...]] = []
            numbers: list[tuple[Any, ...]] = []
            for entry in entries:
                self._check(entry)
                parties.append((*_values(entry.party), key))
                numbers.extend(_number_values(entry, key))
                key += 1
                if len(parties) >= _BATCH:
                    loaded += self._add(connection, parties, numbers)
            return loaded + self._add(connection, parties, numbers)

    @staticmethod
    def _add(
        connection: sqlite3.Connection, parties: list[tuple[Any, ...]], numbers: list[tuple[Any, ...]]
    ) -> int:
        count = len(parties)
        connection.executemany(_ADD_PARTY, parties)
        # In the order of the index, its pages are each visited once a batch.
        numbers.sort()
        connection.executemany(_ADD_NUMBER, numbers)
        parties.clear()
        numbers.clear()
        return count

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise DirectoryError(f"the directory {self.path} is not open")
        return self._connection

    def _check_or_create(self, connection: sqlite3.Connection) -> None:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            self._check_version(connection)
            return
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in _schema():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
        self._check_version(connection)

    def _check_version(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise DirectoryError(
                f"{self.path} is another kind of SQLite file; give adapter {self.name!r} a path of its own"
            )
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise DirectoryError(
                f"{self.path} was written by a newer Cordboard (directory version {version}, this one knows "
                f"{SCHEMA_VERSION}); upgrade this one, or give the adapter {self.name!r} another path"
            )

    @staticmethod
    def _check(entry: Entry) -> None:
        if not entry.party.name:
            raise DirectoryError("a party has a name")
        if len(entry.numbers) > NUMBERS_LIMIT:
            raise DirectoryError(f"a party has at most {NUMBERS_LIMIT} numbers")
        if len({number.e164 for number in entry.numbers}) < len(entry.numbers):
            raise DirectoryError("a party has each number once")
        if any(";" in tag for tag in entry.party.tags):
            raise DirectoryError("a tag has no ';' in it, which separates tags in CSV")

    def _key(self, party_id: str) -> int:
        row = self._open.execute("SELECT key FROM party WHERE id = ?", (party_id,)).fetchone()
        if row is None:
            raise DirectoryError("there is no party with this id in the directory")
        return int(row[0])

    def _next_key(self) -> int:
        (key,) = self._open.execute("SELECT coalesce(max(key), 0) + 1 FROM party").fetchone()
        return int(key)

    def _entry(self, row: Sequence[Any]) -> Entry:
        numbers = self._open.execute(_NUMBERS, (row[-1],)).fetchall()
        return Entry(self._party((*row, False, False)), tuple(PartyNumber(*number) for number in numbers))

    def _party(self, row: Sequence[Any]) -> Party:
        (
            kind,
            party_id,
            name,
            company,
            url,
            owner,
            tier,
            language,
            tags,
            notes,
            key,
            has_cases,
            has_contacts,
        ) = row
        return Party(
            adapter=self.name,
            type=kind,
            id=party_id,
            name=name,
            company=company,
            url=url,
            owner=owner,
            tier=tier,
            language=language,
            tags=tuple(tags.split("\n")) if tags else (),
            notes=notes,
            cases=self._cases(key) if has_cases else (),
            last_contacts=self._contacts(key) if has_contacts else (),
        )

    def _cases(self, key: int) -> tuple[Case, ...]:
        return tuple(Case(*row) for row in self._open.execute(_CASES, (key, CASES_LIMIT)))

    def _contacts(self, key: int) -> tuple[LastContact, ...]:
        return tuple(LastContact(*row) for row in self._open.execute(_CONTACTS, (key, CONTACTS_LIMIT)))


def _values(party: Party) -> tuple[Any, ...]:
    return (
        party.type.value,
        party.id,
        party.name,
        party.company,
        party.url,
        party.owner,
        party.tier,
        party.language,
        "\n".join(party.tags),
        party.notes,
    )


def _number_values(entry: Entry, key: int) -> list[tuple[Any, ...]]:
    return [
        (number.e164, key, position, number.raw, number.label)
        for position, number in enumerate(entry.numbers)
    ]


def _schema() -> Iterator[str]:
    statement = ""
    for line in files("adapters").joinpath("directory.sql").read_text("utf-8").splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
