"""The directory's file: parties and all that belongs to them in SQLite, looked up by E.164.

Synchronous, and knows nothing of the server; what its tables hold is told in ``directory.sql``, and in those that
bring older files up to date. Files of contacts are left to ``contact_files``.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from importlib.resources import files
from operator import itemgetter
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen
from attrs.validators import matches_re

from adapters.base import (
    AdapterError,
    Appointment,
    Case,
    JournalEntry,
    LastContact,
    Party,
    PartyRef,
    Task,
)
from adapters.directory_records import RECORDS, Record
from adapters.party import (
    APPOINTMENTS_LIMIT,
    CASES_LIMIT,
    COMPANIES,
    CONTACTS_LIMIT,
    TASKS_LIMIT,
    bounded_word,
    identifier_of,
    iso,
)
from cti.numbers import stem_of_switchboard, switchboards

#: The schema is made by these, one after the other; a file of version n lacks what comes after the first n.
_SCHEMA = ("directory.sql", "directory-2.sql")
SCHEMA_VERSION = len(_SCHEMA)
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

_COLUMNS = "type, id, name, company, url, owner, tier, language, tags, notes, organisation, balance, dunning"
_PLAIN = f"SELECT {', '.join(f'party.{name}' for name in _COLUMNS.split(', '))}, party.key"
_FOUND = f"{_PLAIN}, party.more"
_NUMBER_OF_PARTY = "FROM number JOIN party ON party.key = number.party"
_LOOKUP = f"{_FOUND} {_NUMBER_OF_PARTY} WHERE number.e164 = ? LIMIT ?"
_COMPANIES = tuple(sorted(each.value for each in COMPANIES))
_LOOKUP_STEMS = f"""
{_FOUND}, number.raw, number.e164 {_NUMBER_OF_PARTY}
WHERE number.e164 IN ({{}}) AND party.type IN (?, ?, ?) LIMIT ?
"""
_LOOKUP_ID = f"{_FOUND} FROM party WHERE party.id = ?"
_LOOKUP_KEY = f"""
{_FOUND} FROM party_key JOIN party ON party.key = party_key.party
WHERE party_key.kind = ? AND party_key.value = ?
"""
_SEARCH = f"""
{_FOUND} FROM party_words JOIN party ON party.key = party_words.rowid
WHERE party_words MATCH ? ORDER BY party_words.rank LIMIT ?
"""
_CASES = """
SELECT id, title, status, opened, url FROM party_case
WHERE party = ? AND lower(status) <> 'closed' ORDER BY opened DESC, id LIMIT ?
"""
_CONTACTS = """
SELECT at, kind, user, summary FROM last_contact WHERE party = ?1
UNION ALL
SELECT started, 'call', user, CASE text WHEN '' THEN subject ELSE text END FROM activity WHERE party = ?1
ORDER BY 1 DESC, 2 LIMIT ?2
"""
_APPOINTMENTS = """
SELECT id, at, title, user, url FROM appointment WHERE party = ? AND at >= ? ORDER BY at, id LIMIT ?
"""
_TASKS = """
SELECT id, title, due, user, url FROM task WHERE party = ? AND done IS NULL ORDER BY due IS NULL, due, id LIMIT ?
"""
_NOTES = "SELECT at, text FROM note WHERE party = ? ORDER BY at DESC, id LIMIT 20"
_PARTY = f"{_PLAIN} FROM party WHERE id = ?"
_PARTIES = f"{_PLAIN} FROM party ORDER BY id"
_PAGE = f"{_PLAIN} FROM party WHERE key > ? ORDER BY key LIMIT ?"
_CHANGED = f"{_PLAIN}, changed FROM party WHERE changed > ? ORDER BY changed LIMIT ?"
_GONE = "SELECT type, id, seq FROM gone WHERE seq > ? ORDER BY seq LIMIT ?"
_NUMBERS = "SELECT raw, e164, label FROM number WHERE party = ? ORDER BY position"
_KEYS = "SELECT kind, value FROM party_key WHERE party = ? ORDER BY kind, value"
_PLACES = ", ".join("?" * (len(_COLUMNS.split(", ")) + 2))
_ADD_PARTY = f"INSERT INTO party ({_COLUMNS}, key, changed) VALUES ({_PLACES})"
_UPDATE_PARTY = f"UPDATE party SET {', '.join(f'{name} = ?' for name in _COLUMNS.split(', '))} WHERE key = ?"
_PUT_CONTACT = """
INSERT OR REPLACE INTO last_contact (party, at, kind, user, summary) VALUES (?, ?, ?, ?, ?)
"""
_ADD_NUMBER = "INSERT INTO number (e164, party, position, raw, label) VALUES (?, ?, ?, ?, ?)"
_ADD_WORDS = "INSERT INTO party_words (rowid, name, company, tags) VALUES (?, ?, ?, ?)"
_DROP_WORDS = """
INSERT INTO party_words (party_words, rowid, name, company, tags)
SELECT 'delete', key, name, company, tags FROM party WHERE key = ?
"""
_TOUCH = "UPDATE party SET changed = ?, more = more OR ? WHERE key = ?"
_KEY_TAKEN = """
SELECT EXISTS (SELECT 1 FROM party_key JOIN party ON party.key = party_key.party
               WHERE party_key.kind = ? AND party_key.value = ? AND party.id <> ?)
"""
_ADD_KEY = "INSERT INTO party_key (kind, value, party) VALUES (?, ?, ?)"
_PUT_ACTIVITY = """
INSERT OR REPLACE INTO activity (key, party, number, state, direction, started, ended, user, duration, talk, subject,
                                 text, disposition, recording)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_OWNERS = "SELECT owner FROM party WHERE owner IS NOT NULL UNION SELECT user FROM task WHERE user IS NOT NULL LIMIT ?"
_WORDS_LIMIT = 8
#: What people write, and may name others in.
_WRITTEN = (
    ("party", "notes"),
    ("party_case", "title"),
    ("last_contact", "summary"),
    ("appointment", "title"),
    ("task", "title"),
    ("task", "text"),
    ("note", "text"),
    ("activity", "subject"),
    ("activity", "text"),
)


class DirectoryError(AdapterError):
    """The directory's file cannot be used, or does not take what it was given."""


class EntryRefused(DirectoryError):
    """The directory does not take this party; the others it would."""


class PartyUnknown(DirectoryError):
    """There is no such party, or nothing of theirs with this id."""

    def __init__(self) -> None:
        super().__init__(
            "there is no party with this id in the directory, or nothing of theirs with that one"
        )


@frozen
class PartyNumber:
    """One number of a party: as typed, its key, and what it is (mobile, office), if that was said.

    Raises ``ValueError`` for a key that no caller could ever be looked up by.
    """

    raw: str
    e164: str = field(validator=matches_re(r"\+[1-9][0-9]{4,19}"))
    label: str | None = bounded_word()


@frozen
class PartyKey:
    """A key of the party's, such as their customer number: ``kind`` as configured, ``value`` as on a letter."""

    kind: str
    value: str = field(converter=identifier_of)


def _in_order(keys: Iterable[PartyKey]) -> tuple[PartyKey, ...]:
    return tuple(sorted(keys, key=lambda key: (key.kind, key.value)))


@frozen
class Entry:
    """A party as the directory keeps it, with its numbers in order, and its keys; cases and the like are apart."""

    party: Party
    numbers: tuple[PartyNumber, ...] = ()
    keys: tuple[PartyKey, ...] = field(default=(), converter=_in_order)


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

    def __init__(self, path: Path, name: str, now: Callable[[], float] = time.time) -> None:
        """``name``: the adapter whose parties these are; ``now``: epoch seconds."""
        self.path = path
        self.name = name
        self._now = now
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
            self._bring_up_to_date(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
            # Who is removed is to be gone from the file, too.
            connection.execute("PRAGMA secure_delete = ON")
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

    def by_key(self, key: PartyKey) -> list[Party]:
        """Who has this key, compared as it is written. Raises ``sqlite3.Error``."""
        rows = self._open.execute(_LOOKUP_KEY, (key.kind, key.value)).fetchall()
        return [evolve(self._party(row), match="key") for row in rows]

    def by_id(self, party_id: str) -> Party | None:
        """The party with all that is shown of it. Raises ``sqlite3.Error``."""
        row = self._open.execute(_LOOKUP_ID, (party_id,)).fetchone()
        return None if row is None else self._party(row)

    def search(self, words: str, limit: int) -> list[Party]:
        """Parties in whose name, company or tags a word begins with each of ``words``, the best first.

        For a thread: the commonest words of a million parties take some hundred milliseconds.
        """
        wanted = _folded(words).split()[:_WORDS_LIMIT]
        tokens = [token for word in wanted for token in re.findall(r"[^\W_]+", word)]
        if not tokens:
            return []
        question = " ".join(f'"{token}" *' for token in tokens)
        # The index knows no punctuation; whether it is there is looked at in what was found.
        found = self._open.execute(_SEARCH, (question, 4 * limit))
        parties = (self._party(row) for row in found)
        return [party for party in parties if all(word in _searched(party) for word in wanted)][:limit]

    def owners(self, limit: int) -> list[str]:
        """The CRM's users who look after parties, or have tasks."""
        return [owner for (owner,) in self._open.execute(_OWNERS, (limit,))]

    def get(self, party_id: str) -> Entry | None:
        """The entry with this id, without its cases and the like."""
        row = self._open.execute(_PARTY, (party_id,)).fetchone()
        return None if row is None else self._entry(row)

    def version(self, party_id: str) -> int | None:
        """Another number whenever the party, or what belongs to it, was changed."""
        row = self._open.execute("SELECT changed FROM party WHERE id = ?", (party_id,)).fetchone()
        return None if row is None else int(row[0])

    def records(self, party_id: str, kind: str) -> list[Record]:
        """The party's ``cases``, ``appointments``, ``tasks`` or ``notes``, also those that no card shows any more."""
        kept = RECORDS[kind]
        rows = self._open.execute(
            f"SELECT {kept.names} FROM {kept.table} WHERE party = ? ORDER BY {kept.order}",
            (self._key(party_id),),
        )
        return [kept.read(row) for row in rows]

    def record(self, party_id: str, kind: str, record_id: str) -> Record:
        """One of them. Raises ``PartyUnknown``."""
        kept = RECORDS[kind]
        row = self._open.execute(
            f"SELECT {kept.names} FROM {kept.table} WHERE party = ? AND id = ?",
            (self._key(party_id), record_id),
        ).fetchone()
        if row is None:
            raise PartyUnknown
        return kept.read(row)

    def contacts(self, party_id: str) -> tuple[LastContact, ...]:
        """The latest contacts with the party, calls among them."""
        return self._contacts(self._key(party_id))

    def entries(self) -> Iterator[Entry]:
        """All entries by id, without cases and the like, as they were when the iteration began."""
        for row in self._open.execute(_PARTIES):
            yield self._entry(row)

    def page(self, after: int, limit: int) -> tuple[list[Entry], int | None]:
        """Entries in the order in which they came, and after what the next page begins; ``None`` at the last."""
        rows = self._open.execute(_PAGE, (after, limit + 1)).fetchall()
        shown = rows[:limit]
        return [self._entry(row) for row in shown], shown[-1][-1] if len(rows) > limit else None

    @property
    def mark(self) -> str:
        """From where ``changes`` goes on."""
        file, seq = self._open.execute("SELECT file, seq FROM state").fetchone()
        return f"{file}:{seq}"

    def changes(self, mark: str, limit: int) -> tuple[list[Entry], list[PartyRef], str, bool] | None:
        """Who was changed since, who is gone, where to go on, and whether there is more; ``None``: not known.

        A mark of another file says nothing, nor one from a time that a restored copy has not seen yet.
        """
        file, _, since = mark.partition(":")
        ours, seq = self._open.execute("SELECT file, seq FROM state").fetchone()
        if file != ours or not since.isascii() or not since.isdecimal() or int(since) > seq:
            return None
        changed = self._open.execute(_CHANGED, (int(since), limit)).fetchall()
        gone = self._open.execute(_GONE, (int(since), limit)).fetchall()
        # Where one of the two was cut off, the other is read again from there.
        ends = [rows[-1][-1] for rows in (changed, gone) if len(rows) == limit]
        until = min(ends, default=seq)
        return (
            [self._entry(row[:-1]) for row in changed if row[-1] <= until],
            [PartyRef(kind, party_id) for kind, party_id, at in gone if at <= until],
            f"{ours}:{until}",
            bool(ends),
        )

    def anybody_has(self, column: str) -> bool:
        """Whether any party has something there."""
        (found,) = self._open.execute(
            f"SELECT EXISTS (SELECT 1 FROM party WHERE {column} IS NOT NULL)"
        ).fetchone()
        return bool(found)

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
        """Add the entry, or make the one with its id like it; its cases and the like stay as they are.

        Raises ``EntryRefused`` for a party without a name, with too many numbers, with one number twice, or with
        a key that another one has.
        """
        self._check(entry)
        with self.writing():
            row = self._open.execute(_PARTY, (entry.party.id,)).fetchone()
            known = None if row is None else self._entry(row)
            if known == entry:
                return Change.UNCHANGED
            self._check_keys(entry)
            if known is None:
                key = self._next_key()
                self._open.execute(_ADD_PARTY, (*_values(entry.party), key, self._next_seq()))
            else:
                key = row[-1]
                self._open.execute(_DROP_WORDS, (key,))
                self._open.execute(_UPDATE_PARTY, (*_values(entry.party), key))
                self._touch(key)
                if known.party.type is not entry.party.type:
                    self._is_gone(known.party.ref)
            self._open.execute(_ADD_WORDS, (key, *_words(entry.party)))
            if known is None or known.numbers != entry.numbers:
                self._open.execute("DELETE FROM number WHERE party = ?", (key,))
                self._open.executemany(_ADD_NUMBER, _number_values(entry, key))
            if known is None or known.keys != entry.keys:
                self._open.execute("DELETE FROM party_key WHERE party = ?", (key,))
                self._open.executemany(_ADD_KEY, [(each.kind, each.value, key) for each in entry.keys])
            return Change.ADDED if known is None else Change.UPDATED

    def remove(self, party_id: str) -> None:
        """Remove the party with all that belongs to it; calls with it stay, as nobody's. Raises ``PartyUnknown``."""
        with self.writing():
            key = self._key(party_id)
            entry = self.get(party_id)
            self._open.execute(_DROP_WORDS, (key,))
            self._open.execute("DELETE FROM party WHERE key = ?", (key,))
            if entry is not None:
                self._is_gone(entry.party.ref)

    def names_of(self, numbers: Iterable[str], ids: Iterable[str]) -> set[str]:
        """What those with these numbers or ids are called; of a number's companies, nothing."""
        found = {
            party.name for number in numbers for party in self.lookup(number) if party.type not in COMPANIES
        }
        return found | {party.name for party in map(self.by_id, ids) if party is not None}

    def erase(self, numbers: Sequence[str], ids: Sequence[str], without: Callable[[str], str]) -> int:
        """Remove who has one of these numbers or ids, and calls with those numbers; how many rows.

        What is written of others is kept `without` them.
        """
        connection = self._open
        connection.create_function("without", 1, without, deterministic=True)
        with self.writing():
            parties = {party.id for number in numbers for party in self.lookup(number)}
            parties |= {id for id in ids if self.get(id) is not None}
            removed = 0
            for id in parties:
                key = self._key(id)
                removed += connection.execute("DELETE FROM activity WHERE party = ?", (key,)).rowcount
                self.remove(id)
            for number in numbers:
                removed += connection.execute("DELETE FROM activity WHERE number = ?", (number,)).rowcount
            for table, column in _WRITTEN:
                removed += connection.execute(
                    f"UPDATE {table} SET {column} = without({column}) WHERE {column} <> without({column})"
                ).rowcount
        # Words of who was removed stay among those of the others until these are sorted anew.
        connection.execute("INSERT INTO party_words (party_words) VALUES ('rebuild')")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return removed + len(parties)

    def put_record(self, party_id: str, kind: str, record: Record) -> None:
        """Add one of the party's records, or replace the one with its id. Raises ``PartyUnknown``."""
        kept = RECORDS[kind]
        places = ", ".join("?" * (len(kept.columns) + 1))
        with self.writing():
            key = self._key(party_id)
            self._open.execute(
                f"INSERT OR REPLACE INTO {kept.table} (party, {kept.names}) VALUES ({places})",
                (key, *kept.values(record)),
            )
            self._touch(key, more=True)

    def remove_record(self, party_id: str, kind: str, record_id: str) -> None:
        """Remove one of the party's records. Raises ``PartyUnknown`` if it is not there."""
        with self.writing():
            key = self._key(party_id)
            done = self._open.execute(
                f"DELETE FROM {RECORDS[kind].table} WHERE party = ? AND id = ?", (key, record_id)
            )
            if not done.rowcount:
                raise PartyUnknown
            self._touch(key)

    def put_case(self, party_id: str, case: Case) -> None:
        """Add a case of the party, or replace the one with its id; ``PartyUnknown`` without the party."""
        self.put_record(party_id, "cases", case)

    def put_contact(self, party_id: str, contact: LastContact) -> None:
        """Add a contact with the party, or replace that of the same time and kind; errors as above."""
        with self.writing():
            key = self._key(party_id)
            self._open.execute(
                _PUT_CONTACT, (key, iso(contact.at), contact.kind, contact.user, contact.summary)
            )
            self._touch(key, more=True)

    def write_number(self, ref: PartyRef, old: PartyNumber, new: PartyNumber) -> bool:
        """Replace a number of the party's, and say whether it was still there. Raises ``PartyUnknown``."""
        with self.writing():
            entry = self.get(ref.id)
            if entry is None or entry.party.type is not ref.type:
                raise PartyUnknown
            if (old.raw, old.e164) not in {(each.raw, each.e164) for each in entry.numbers}:
                return False
            numbers = (
                evolve(each, raw=new.raw, e164=new.e164) if each.e164 == old.e164 else each
                for each in entry.numbers
            )
            self.put(evolve(entry, numbers=tuple(numbers)))
            return True

    def put_activity(self, entry: JournalEntry) -> None:
        """Write the call, or replace what was written of it. Nobody's, if its party is gone."""
        with self.writing():
            key = None
            if entry.party is not None:
                row = self._open.execute(
                    "SELECT key FROM party WHERE id = ? AND type = ?",
                    (entry.party.id, entry.party.type.value),
                ).fetchone()
                key = None if row is None else row[0]
            self._open.execute(
                _PUT_ACTIVITY,
                (
                    entry.key,
                    key,
                    entry.number,
                    entry.state.value,
                    entry.direction,
                    iso(entry.started),
                    iso(entry.ended),
                    entry.user,
                    entry.duration,
                    entry.talk,
                    entry.subject,
                    entry.text,
                    entry.disposition,
                    entry.recording,
                ),
            )
            if key is not None:
                self._touch(key, more=True)

    def remove_activity(self, key: str) -> None:
        """The call was with nobody here. Nothing happens if it is not written."""
        with self.writing():
            row = self._open.execute("DELETE FROM activity WHERE key = ? RETURNING party", (key,)).fetchone()
            if row is not None and row[0] is not None:
                self._touch(row[0], more=True)

    def bulk_load(self, entries: Iterable[Entry]) -> int:
        """Add entries that are all new, in one transaction; how many. For first fills of up to millions.

        Raises ``DirectoryError``, and adds none, if an id is there already or ``put`` would refuse an entry.
        """
        loaded = 0
        connection = self._open
        with self.writing():
            key = self._next_key()
            (seq,) = connection.execute("SELECT seq FROM state").fetchone()
            parties: list[tuple[Any, ...]] = []
            numbers: list[tuple[Any, ...]] = []
            words: list[tuple[Any, ...]] = []
            keys: list[tuple[Any, ...]] = []
            for entry in entries:
                self._check(entry)
                # Each change has its own number, so that they can be told of page by page.
                seq += 1
                parties.append((*_values(entry.party), key, seq))
                words.append((key, *_words(entry.party)))
                numbers.extend(_number_values(entry, key))
                keys.extend((each.kind, each.value, key) for each in entry.keys)
                key += 1
                if len(parties) >= _BATCH:
                    loaded += self._add(connection, parties, words, numbers)
            loaded += self._add(connection, parties, words, numbers)
            connection.executemany(_ADD_KEY, keys)
            connection.execute("UPDATE state SET seq = ?", (seq,))
            return loaded

    @staticmethod
    def _add(
        connection: sqlite3.Connection,
        parties: list[tuple[Any, ...]],
        words: list[tuple[Any, ...]],
        numbers: list[tuple[Any, ...]],
    ) -> int:
        count = len(parties)
        connection.executemany(_ADD_PARTY, parties)
        connection.executemany(_ADD_WORDS, words)
        # In the order of the index, its pages are each visited once a batch.
        numbers.sort()
        connection.executemany(_ADD_NUMBER, numbers)
        for each in (parties, words, numbers):
            each.clear()
        return count

    @property
    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise DirectoryError(f"the directory {self.path} is not open")
        return self._connection

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) == SCHEMA_VERSION:
            return
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Somebody else may have been quicker.
            for version in range(self._version(connection), SCHEMA_VERSION):
                for statement in _statements(_SCHEMA[version]):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _version(self, connection: sqlite3.Connection) -> int:
        """Of the schema; 0 is an empty file. Raises ``DirectoryError`` for a file that is no directory of ours."""
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            return 0
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
        return int(version)

    @staticmethod
    def _check(entry: Entry) -> None:
        if not entry.party.name:
            raise EntryRefused("a party has a name")
        if len(entry.numbers) > NUMBERS_LIMIT:
            raise EntryRefused(f"a party has at most {NUMBERS_LIMIT} numbers")
        if len({number.e164 for number in entry.numbers}) < len(entry.numbers):
            raise EntryRefused("a party has each number once")
        if any(";" in tag for tag in entry.party.tags):
            raise EntryRefused("a tag has no ';' in it, which separates tags in CSV")

    def _key(self, party_id: str) -> int:
        row = self._open.execute("SELECT key FROM party WHERE id = ?", (party_id,)).fetchone()
        if row is None:
            raise PartyUnknown
        return int(row[0])

    def _check_keys(self, entry: Entry) -> None:
        for each in entry.keys:
            (taken,) = self._open.execute(_KEY_TAKEN, (each.kind, each.value, entry.party.id)).fetchone()
            if taken:
                raise EntryRefused(f"another party has its {each.kind} number already")

    def _next_seq(self) -> int:
        # Written and read under the write lock: readers see numbers in the order in which they were given out.
        self._open.execute("UPDATE state SET seq = seq + 1")
        (seq,) = self._open.execute("SELECT seq FROM state").fetchone()
        return int(seq)

    def _touch(self, key: int, *, more: bool = False) -> None:
        """The party, or what belongs to it, was changed; `more`: something does belong to it."""
        self._open.execute(_TOUCH, (self._next_seq(), more, key))

    def _is_gone(self, ref: PartyRef) -> None:
        self._open.execute("INSERT INTO gone VALUES (?, ?, ?)", (self._next_seq(), ref.type.value, ref.id))

    def _next_key(self) -> int:
        (key,) = self._open.execute("SELECT coalesce(max(key), 0) + 1 FROM party").fetchone()
        return int(key)

    def _entry(self, row: Sequence[Any]) -> Entry:
        numbers = self._open.execute(_NUMBERS, (row[-1],)).fetchall()
        keys = self._open.execute(_KEYS, (row[-1],)).fetchall()
        return Entry(
            self._party((*row, False)),
            tuple(PartyNumber(*number) for number in numbers),
            tuple(PartyKey(*each) for each in keys),
        )

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
            organisation,
            balance,
            dunning,
            key,
            more,
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
            notes="\n".join((notes, *self._notes(key))) if more else notes,
            organisation=organisation,
            balance=balance,
            dunning=dunning,
            cases=self._cases(key) if more else (),
            last_contacts=self._contacts(key) if more else (),
            appointments=self._appointments(key) if more else (),
            tasks=self._tasks(key) if more else (),
        )

    def _cases(self, key: int) -> tuple[Case, ...]:
        return tuple(Case(*row) for row in self._open.execute(_CASES, (key, CASES_LIMIT)))

    def _contacts(self, key: int) -> tuple[LastContact, ...]:
        return tuple(LastContact(*row) for row in self._open.execute(_CONTACTS, (key, CONTACTS_LIMIT)))

    def _appointments(self, key: int) -> tuple[Appointment, ...]:
        now = iso(datetime.fromtimestamp(self._now(), UTC))
        found = self._open.execute(_APPOINTMENTS, (key, now, APPOINTMENTS_LIMIT))
        return tuple(Appointment(*row) for row in found)

    def _tasks(self, key: int) -> tuple[Task, ...]:
        return tuple(Task(*row) for row in self._open.execute(_TASKS, (key, TASKS_LIMIT)))

    def _notes(self, key: int) -> Iterator[str]:
        """Each note with its day, the newest first."""
        return (f"{at[:10]}: {text}" for at, text in self._open.execute(_NOTES, (key,)))


def new_id() -> str:
    """An id that nobody has, for what is made here and not in a CRM."""
    return f"cti-{secrets.token_hex(8)}"


def _folded(text: str) -> str:
    """Without capitals and marks, as ``party_words`` compares."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in parts if not unicodedata.combining(each))


def _searched(party: Party) -> str:
    return _folded(" ".join((party.name, party.company, *party.tags)))


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
        party.organisation,
        party.balance,
        party.dunning,
    )


def _words(party: Party) -> tuple[str, str, str]:
    return party.name, party.company, "\n".join(party.tags)


def _number_values(entry: Entry, key: int) -> list[tuple[Any, ...]]:
    return [
        (number.e164, key, position, number.raw, number.label)
        for position, number in enumerate(entry.numbers)
    ]


def _statements(name: str) -> Iterator[str]:
    statement = ""
    for line in files("adapters").joinpath(name).read_text("utf-8").splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
