"""One adapter's part of the phone index: a file that is looked into inline, and written by one thread.

Synchronous, and knows nothing of adapters or time; when it is filled is left to ``feed``.
"""

import os
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import orjson
from attrs import field, frozen

from adapters.base import ListedParty, Party, PartyRef, PartyType
from adapters.party import COMPANIES
from cti.numbers import NumberPlan, stem_of_switchboard, stems

#: Marks the file as a phone index ("CTIx"), so that no other SQLite file is ever taken for one, and thrown away.
APPLICATION_ID: Final = 0x43544978
#: Of the layout, and of how numbers are read: files of another one are made anew.
LAYOUT: Final = 1
#: Parties of one number that are looked at.
FOUND_LIMIT: Final = 50

# Mapped, a page costs no system call; address space is all that this takes.
_MAPPED_BYTES: Final = 1 << 34
_READ_WAIT_MS: Final = 50
_WRITE_WAIT_MS: Final = 10_000

#: What stands in `party.body`, by position.
_BODY: Final = (
    "name",
    "company",
    "url",
    "owner",
    "tier",
    "language",
    "tags",
    "organisation",
    "balance",
    "dunning",
)
_FOUND: Final = """
SELECT party.type, party.id, party.body FROM {0} JOIN party ON party.key = {0}.party WHERE {0}.e164 = ? LIMIT ?
"""
_BY_NUMBER: Final = _FOUND.format("number")
_BY_STEM: Final = _FOUND.format("stem")
_PEOPLE: Final = """
SELECT sort, key, type, id, body, numbers FROM party
WHERE (sort, key) > (?, ?) AND sort >= ? AND sort < ? AND numbers <> x'5b5d' ORDER BY sort, key LIMIT ?
"""
_MATCHING: Final = """
SELECT party.sort, key, type, id, body, numbers
FROM (SELECT sort, key FROM party WHERE (sort, key) > (?1, ?2) ORDER BY sort, key LIMIT ?3) AS next
JOIN party USING (key)
WHERE (?4 = '' OR instr(next.sort, ?4)) AND numbers <> x'5b5d' AND (?5 = '' OR instr(numbers, CAST(?5 AS BLOB)))
ORDER BY party.sort, key
"""
_NEXT: Final = "SELECT sort, key FROM party WHERE (sort, key) > (?1, ?2) ORDER BY sort, key LIMIT 1 OFFSET ?3"
_KNOWN: Final = "SELECT key, numbers FROM party WHERE type = ? AND id = ?"
_ADD: Final = "INSERT INTO party (type, id, sort, body, numbers) VALUES (?, ?, ?, ?, ?)"
_UPDATE: Final = "UPDATE party SET sort = ?, body = ?, numbers = ? WHERE key = ?"
#: Of a damaged file, SQLite notices only what breaks its own order; the rest is what its rows are read by.
_WRONG: Final = (sqlite3.Error, ValueError, TypeError, KeyError)
#: What every whole file says of itself in figures.
_COUNTED: Final = ("parties", "numbers", "listed", "changed")
_ABOUT: Final = "INSERT OR REPLACE INTO about (name, value) VALUES (?, ?)"


class IndexFailed(Exception):
    """A part of the index cannot be read or written now: the disk is full, the file somebody else's."""


class IndexDamaged(IndexFailed):
    """What is in a part of the index makes no sense; it is made anew."""


@frozen
class IndexedNumber:
    """A number of a party: as the CRM holds it, and its key; `stem` if it was written as a switchboard's."""

    raw: str
    e164: str
    stem: str | None = None


@frozen
class Person:
    """A party with all their numbers, for who reads the index as a book. `place`: where to go on reading."""

    party: Party
    numbers: tuple[IndexedNumber, ...]
    place: tuple[str, int] = field(repr=False)


@frozen
class Row:
    """A party as it is written: made from what an adapter lists, by whoever has the time to read numbers."""

    type: str
    id: str
    sort: str
    body: bytes
    numbers: tuple[IndexedNumber, ...]

    @classmethod
    def of(cls, listed: ListedParty, plan: NumberPlan) -> "Row":
        """Numbers are read as those of the party's own country; what is no public number is left out."""
        party = listed.party
        here = plan
        if listed.region is not None:
            with suppress(ValueError):
                here = plan.for_region(listed.region.upper())
        found: dict[str, IndexedNumber] = {}
        is_company = party.type in COMPANIES
        for number in listed.numbers:
            e164 = here.parse(number.raw).e164
            if e164 is not None:
                known = found.get(e164)
                if known is None or known.stem is None:
                    stem = stem_of_switchboard(number.raw, e164) if is_company else None
                    found[e164] = IndexedNumber(number.raw, e164, stem)
        body = orjson.dumps([getattr(party, name) for name in _BODY])
        return cls(
            party.type.value, party.id, sort_key(party.name or party.company), body, tuple(found.values())
        )

    @property
    def numbers_json(self) -> bytes:
        return orjson.dumps([[number.raw, number.e164, number.stem] for number in self.numbers])


def sort_key(name: str) -> str:
    """A name as phones look it up: no capitals, no accents, one space between words."""
    bare = "".join(
        each for each in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(each)
    )
    return " ".join(bare.split())


class IndexFile:
    """A whole part, to look into and to bring up to date. Reading is for the reactor, writing for one thread."""

    def __init__(self, path: Path, adapter: str) -> None:
        """Raises `IndexFailed`, `IndexDamaged` for what is no whole part of the index of this layout."""
        self.path = path
        self._adapter = adapter
        try:
            self._reader = _open(path, _READ_WAIT_MS)
            self._reader.execute("PRAGMA query_only = 1")
            _check(self._reader)
            about = dict(self._reader.execute("SELECT name, value FROM about"))
            if about.get("whole") != "1" or not all(float(about[name]) >= 0 for name in _COUNTED):
                raise ValueError("never finished")
        except _WRONG as error:
            raise _failed(error, f"{path.name} cannot be read") from error
        self._about: dict[str, str] = about
        self._writer: sqlite3.Connection | None = None
        self._closed = False

    @property
    def about(self) -> Mapping[str, str]:
        """`mark`, `plan`, `parties`, `numbers`, `listed` and `changed` (epoch seconds)."""
        return self._about

    def find(self, e164: str) -> list[Party]:
        """Who has this number. Raises `IndexFailed`."""
        return self._found(_BY_NUMBER, e164, "number")

    def find_by_stem(self, e164: str, own: frozenset[str]) -> list[Party]:
        """The companies whose switchboard has the longest stem of this number. Raises `IndexFailed`."""
        for stem in stems(e164, own):
            found = self._found(_BY_STEM, stem, "stem")
            if found:
                return found
        return []

    def people(self, prefix: str, after: tuple[str, int] | None, limit: int) -> list[Person]:
        """Those with a number whose name begins so, in the order of names. Raises `IndexFailed`."""
        start = sort_key(prefix)
        sort, key = after or ("", -1)
        try:
            rows = self._reader.execute(_PEOPLE, (sort, key, start, f"{start}\U0010ffff", limit)).fetchall()
            return self._people(rows)
        except _WRONG as error:
            raise _failed(error, f"{self.path.name} cannot be read") from error

    def matching(
        self, name: str, digits: str, after: tuple[str, int] | None, span: int
    ) -> tuple[list[Person], tuple[str, int] | None]:
        """Of the next `span` people in the order of names, who has `name` in theirs, and `digits` in a number.

        And where to go on, None at the end. Half a microsecond for each of them. Raises `IndexFailed`.
        """
        sort, key = after or ("", -1)
        try:
            rows = self._reader.execute(_MATCHING, (sort, key, span, sort_key(name), digits)).fetchall()
            following = self._reader.execute(_NEXT, (sort, key, span - 1)).fetchone()
            return self._people(rows), following
        except _WRONG as error:
            raise _failed(error, f"{self.path.name} cannot be read") from error

    def _people(self, rows: Sequence[Any]) -> list[Person]:
        return [
            Person(
                self._party(type, id, body, "number"),
                tuple(IndexedNumber(*number) for number in orjson.loads(numbers)),
                (sort, key),
            )
            for sort, key, type, id, body, numbers in rows
        ]

    def update(self, rows: Iterable[Row], gone: Iterable[PartyRef], about: Mapping[str, str]) -> None:
        """Take changes in, all or none of them, with the mark up to which they go. Blocks; raises `IndexFailed`."""
        try:
            if self._closed:
                # To open what was thrown away would make an empty file of its name.
                raise IndexFailed(f"{self.path.name} is not in use any more")
            if self._writer is None:
                self._writer = _open(self.path, _WRITE_WAIT_MS)
            with _transaction(self._writer) as connection:
                parties, numbers = int(self._about["parties"]), int(self._about["numbers"])
                for row in rows:
                    more = _put(connection, row)
                    parties, numbers = parties + more[0], numbers + more[1]
                for ref in gone:
                    less = _remove(connection, ref)
                    parties, numbers = parties - less[0], numbers - less[1]
                changed = {**self._about, **about, "parties": str(parties), "numbers": str(numbers)}
                connection.executemany(_ABOUT, changed.items())
            self._about = changed
        except _WRONG as error:
            raise _failed(error, f"{self.path.name} cannot be written") from error

    def erase(self, numbers: Iterable[str], ids: Iterable[str]) -> int:
        """Remove who has one of these numbers or ids, to their last byte; how many. Blocks; raises `IndexFailed`."""
        refs = {party.ref for number in numbers for party in self.find(number)}
        refs |= {PartyRef(type, id) for type in PartyType for id in ids}
        before = int(self._about["parties"])
        self.update((), refs, {})
        if self._writer is not None:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return before - int(self._about["parties"])

    def close(self) -> None:
        self._closed = True
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()
        self._writer = None

    def _found(self, statement: str, e164: str, match: str) -> list[Party]:
        try:
            rows = self._reader.execute(statement, (int(e164[1:]), FOUND_LIMIT)).fetchall()
            return [self._party(type, id, body, match) for type, id, body in rows]
        except _WRONG as error:
            raise _failed(error, f"{self.path.name} cannot be read") from error

    def _party(self, type: str, id: str, body: bytes, match: str) -> Party:
        name, company, url, owner, tier, language, tags, organisation, balance, dunning = orjson.loads(body)
        return Party(
            self._adapter,
            type,
            id,
            name,
            company,
            url,
            owner,
            tier,
            language,
            tags,
            match,
            organisation=organisation,
            balance=balance,
            dunning=dunning,
        )


class IndexBuilder:
    """A part that is being made, beside the one that is in use. For one thread; blocks; raises `IndexFailed`.

    Nothing is sorted before all of it is there: ten million numbers in the order of a CRM's list would each be
    looked up in a tree that fits no cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unfinished = path.with_suffix(".building")
        self.parties = 0
        self._key = 0
        with _reported(path):
            self._unfinished.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open(self._unfinished, _WRITE_WAIT_MS)
            connection = self._connection
            # Half a file is thrown away, so nothing of it has to survive.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
            connection.executescript(files("cti.index").joinpath("index.sql").read_text("utf-8"))
            connection.executescript(
                "CREATE TEMP TABLE unsorted (e164 INTEGER, party INTEGER);"
                "CREATE TEMP TABLE unsorted_stem (e164 INTEGER, party INTEGER);"
            )
            connection.execute("BEGIN")

    def add(self, rows: Sequence[Row]) -> None:
        numbers: list[tuple[int, int]] = []
        switchboards: list[tuple[int, int]] = []
        parties = []
        for row in rows:
            self._key += 1
            parties.append((self._key, row.type, row.id, row.sort, row.body, row.numbers_json))
            for number in row.numbers:
                numbers.append((int(number.e164[1:]), self._key))
                if number.stem is not None:
                    switchboards.append((int(number.stem[1:]), self._key))
        with _reported(self.path):
            self._connection.executemany("INSERT INTO party VALUES (?, ?, ?, ?, ?, ?)", parties)
            self._connection.executemany("INSERT INTO unsorted VALUES (?, ?)", numbers)
            self._connection.executemany("INSERT INTO unsorted_stem VALUES (?, ?)", switchboards)
        self.parties += len(rows)

    def finish(self, about: Mapping[str, str]) -> None:
        """Sort, say that it is whole, and put it in its place, durable before it has its name."""
        connection = self._connection
        with _reported(self.path):
            # Who came on two pages counts as they came last.
            connection.execute("CREATE INDEX by_id ON party (type, id)")
            connection.execute(
                "DELETE FROM party WHERE EXISTS (SELECT 1 FROM party AS later"
                " WHERE later.type = party.type AND later.id = party.id AND later.key > party.key)"
            )
            for table in ("number", "stem"):
                source = "unsorted" if table == "number" else "unsorted_stem"
                connection.execute(
                    f"INSERT OR IGNORE INTO {table} SELECT e164, party FROM {source}"
                    " WHERE party IN (SELECT key FROM party) ORDER BY e164, party"
                )
            connection.execute("CREATE INDEX by_name ON party (sort, key)")
            whole = {**about, **_counted(connection), "whole": "1"}
            connection.executemany(_ABOUT, whole.items())
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.close()
            _sync(self._unfinished)
            self._unfinished.rename(self.path)
            _sync(self.path.parent)

    def abandon(self) -> None:
        """It will not be finished."""
        with suppress(sqlite3.Error):
            self._connection.close()
        remove(self._unfinished)


def _failed(error: Exception, what: str) -> IndexFailed:
    """SQLite says with an OperationalError what may be well again: a full disk, a lock, no permission."""
    if isinstance(error, sqlite3.OperationalError):
        return IndexFailed(f"{what}: {error}")
    # What stands in a damaged row may be somebody's name.
    return IndexDamaged(f"{what}: {error if isinstance(error, sqlite3.Error) else type(error).__name__}")


def remove(path: Path) -> None:
    """Take a file of the index away, with what SQLite has beside it."""
    for each in (path, *(path.with_name(path.name + more) for more in ("-wal", "-shm", "-journal"))):
        with suppress(OSError):
            each.unlink(missing_ok=True)


def _open(path: Path, wait_ms: int) -> sqlite3.Connection:
    # Isolation by hand: transactions here begin and end where it is said.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
    connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def _check(connection: sqlite3.Connection) -> None:
    marks = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    ]
    if marks != [APPLICATION_ID, LAYOUT]:
        raise sqlite3.DatabaseError("it is of another layout")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise IndexFailed(f"{path.name} cannot be made: {error}") from error


def _put(connection: sqlite3.Connection, row: Row) -> tuple[int, int]:
    """How many parties and numbers there are more by it."""
    known = connection.execute(_KNOWN, (row.type, row.id)).fetchone()
    before = 0
    if known is None:
        added = connection.execute(_ADD, (row.type, row.id, row.sort, row.body, row.numbers_json))
        key: Any = added.lastrowid
    else:
        key = known[0]
        before = _forget_numbers(connection, key, known[1])
        connection.execute(_UPDATE, (row.sort, row.body, row.numbers_json, key))
    connection.executemany(
        "INSERT OR IGNORE INTO number VALUES (?, ?)", [(int(each.e164[1:]), key) for each in row.numbers]
    )
    connection.executemany(
        "INSERT OR IGNORE INTO stem VALUES (?, ?)",
        [(int(each.stem[1:]), key) for each in row.numbers if each.stem is not None],
    )
    return int(known is None), len(row.numbers) - before


def _remove(connection: sqlite3.Connection, ref: PartyRef) -> tuple[int, int]:
    """How many parties and numbers there are less by it."""
    known = connection.execute(_KNOWN, (ref.type.value, ref.id)).fetchone()
    if known is None:
        return 0, 0
    numbers = _forget_numbers(connection, *known)
    connection.execute("DELETE FROM party WHERE key = ?", (known[0],))
    return 1, numbers


def _forget_numbers(connection: sqlite3.Connection, key: int, numbers: bytes) -> int:
    known = orjson.loads(numbers)
    for _, e164, stem in known:
        connection.execute("DELETE FROM number WHERE e164 = ? AND party = ?", (int(e164[1:]), key))
        if stem is not None:
            connection.execute("DELETE FROM stem WHERE e164 = ? AND party = ?", (int(stem[1:]), key))
    return len(known)


def _counted(connection: sqlite3.Connection) -> dict[str, str]:
    return {
        name: str(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        for name, table in (("parties", "party"), ("numbers", "number"))
    }


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
