"""Any CRM whose database can be read, PostgreSQL or MariaDB/MySQL, by the queries of the configuration.

A number that comes back is checked, whatever the query compared. Statements are taken apart by ``sql_text``, and
done by ``sql_server`` in the threads of ``sql_pool``.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

import orjson
import phonenumbers
from attrs import evolve

from adapters.base import (
    AdapterAnswerError,
    AdapterContext,
    AdapterDenied,
    AdapterError,
    AdapterHealth,
    Appointment,
    Capability,
    Case,
    ChangePage,
    CrmUser,
    JournalEntry,
    KeyKind,
    LastContact,
    ListedNumber,
    ListedParty,
    ListPage,
    MarkLost,
    NewParty,
    NewTask,
    NumberChanged,
    Party,
    PartyRef,
    PartyType,
    Task,
    Written,
)
from adapters.sql_options import PARTY_COLUMNS, WORD_NAMES, WORDS, SqlJournal, SqlOptions, statements
from adapters.sql_pool import SqlPool
from adapters.sql_server import (
    Access,
    Connection,
    MysqlConnection,
    PostgresConnection,
    Row,
    ValueRefused,
    Values,
    zoneless,
)
from adapters.sql_text import Statement, like, parse
from cti.numbers import Number, NumberKind, NumberPlan, display, stem_of_switchboard, stems

T = TypeVar("T")

#: How many parties the CRM may offer for one number, before it is looked at which of them have it.
CANDIDATES: Final = 500
#: ... and of those that do, how many are anybody's business.
FOUND: Final = 50
USERS: Final = 5_000
SECTION: Final = 20
#: Changes since one mark. With more, such as after an import, the list is read again.
CHANGES: Final = 64_000
_HEALTH_SECONDS: Final = 3.0
#: The whole is given a little more than the server has for a statement, so that its own word comes first.
_MORE_SECONDS: Final = 1.0

_TAGS: Final = re.compile(r"\s*(?:\|##\||\^,\^|[,;\n^])\s*")
_NUMBER_COLUMN: Final = re.compile(r"(?:number|phone|mobile)", re.IGNORECASE)
_SELECT_ONE: Final = Statement(("select 1",))
_OPTIONAL: Final[Mapping[Capability, str]] = {
    Capability.CARD: "card",
    Capability.SEARCH: "search",
    Capability.LIST: "list",
    Capability.CHANGES: "changes",
    Capability.USERS: "users",
    Capability.CREATE: "create",
    Capability.NOTE: "note",
    Capability.TASK: "task",
    Capability.JOURNAL: "journal",
    Capability.NUMBERS: "numbers",
}


class SqlAdapter:
    """One database; ``options`` say what is asked of it."""

    options_class: ClassVar[type[SqlOptions]] = SqlOptions
    # Its statements look for the key first, and two at once see nothing of each other.
    journals_by_key: ClassVar[bool] = False
    journals_unknown: ClassVar[bool] = False

    def __init__(self, name: str, options: SqlOptions, context: AdapterContext) -> None:
        self._name = name
        self._options = options
        self._queries = options.whole_queries()
        self._keys = options.whole_keys()
        self._own = context.own
        self._zone = ZoneInfo(options.time_zone)
        self._plan = context.plan.for_region(options.region) if options.region else context.plan
        access = Access(
            host=options.host,
            port=options.at_port,
            database=options.database,
            user=options.user,
            password=options.password.reveal() if options.password else "",
            tls=options.with_tls,
            ca_file=str(context.base / options.ca_file) if options.ca_file else None,
            seconds=options.seconds,
            zone=options.time_zone,
        )
        server = PostgresConnection if options.server == "postgresql" else MysqlConnection
        self._pool = SqlPool(context.reactor, name, partial(server, access), options.connections)
        self._reactor = context.reactor
        self._words_of = {value: word for word, value in options.types.items()}
        #: What the database says of the queries; None until it was asked.
        self._broken: Sequence[str] | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        able = {each for each, query in _OPTIONAL.items() if getattr(self._queries, query)}
        keyed = {Capability.KEY} if self._keys else set()
        return frozenset({Capability.IDENTIFY, *able, *keyed})

    @property
    def keys(self) -> Sequence[KeyKind]:
        return [KeyKind(name, key.title, key.sensitive) for name, key in self._keys.items()]

    @property
    def journals_early(self) -> bool:
        return self.journals_changes

    @property
    def journals_changes(self) -> bool:
        return self._queries.journal is not None and bool(self._queries.journal.update)

    # Its life.

    async def start(self) -> None:
        self._pool.start()
        await self._look_at_queries()

    async def stop(self) -> None:
        await self._pool.stop()

    async def health(self) -> AdapterHealth:
        try:
            if self._broken is None:
                await self._look_at_queries()
            await self._pool.run(lambda it: it.rows(_SELECT_ONE, {}, 1), seconds=_HEALTH_SECONDS)
        except AdapterError as error:
            return AdapterHealth(up=False, detail=str(error))
        return AdapterHealth(up=not self._broken, detail="; ".join(self._broken or ()))

    async def _look_at_queries(self) -> None:
        """Let the database look at each query, and remember what it says. Raises ``AdapterAnswerError``."""
        self._broken = await self._pool.run(self._broken_queries, seconds=_HEALTH_SECONDS * 3)
        if self._broken:
            raise AdapterAnswerError("; ".join(self._broken))

    def _broken_queries(self, connection: Connection) -> Sequence[str]:
        broken: list[str] = []
        for name, statement in self._statements():
            try:
                connection.check(statement)
            except (AdapterAnswerError, AdapterDenied) as error:
                broken.append(f"query {name}: {error}")
        return broken

    def _statements(self) -> Iterator[tuple[str, Statement]]:
        queries = self._queries
        named = {name: queries.of(name) for name in _TEXTS if getattr(queries, name)}
        if queries.journal is not None:
            named |= {
                f"journal: {part}": parse(getattr(queries.journal, part))
                for part in ("find", "insert", "update")
            }
        named |= {f"numbers: {column}": queries.for_number(column) for column in queries.numbers}
        named |= {f"keys: {name}": parse(key.query) for name, key in self._keys.items()}
        for name, found in named.items():
            for at, statement in enumerate(found, 1):
                yield (name if len(found) == 1 else f"{name}, statement {at}"), statement

    # Who it is.

    async def identify(self, number: Number) -> Sequence[Party]:
        if number.kind is not NumberKind.E164 or number.e164 is None or number.e164 in self._own:
            return ()
        values: Values = {**self._forms(number.e164), "limit": CANDIDATES}
        rows = await self._rows("identify", values, CANDIDATES)
        return self._who_have(number.e164, rows)

    def _who_have(self, e164: str, rows: Iterable[Row]) -> Sequence[Party]:
        """Of those whom the CRM offers, who really has the number; else whose switchboard's it is."""
        exact: dict[PartyRef, Party] = {}
        by_stem: dict[str, dict[PartyRef, Party]] = {stem: {} for stem in stems(e164, self._own)}
        for row in rows:
            party = self._party(row)
            plan = self._plan_of(row)
            numbers = self._numbers(row)
            if not numbers and not self._number_columns(row):
                raise AdapterAnswerError(
                    "query identify: has no number in what it answers; a column `number`, or `columns: numbers`,"
                    " would be right"
                )
            for listed in numbers:
                found = plan.parse(listed.raw).e164
                if found == e164:
                    exact.setdefault(party.ref, party)
                elif found is not None and party.type is PartyType.ORGANISATION:
                    stem = stem_of_switchboard(listed.raw, found)
                    if stem in by_stem:
                        by_stem[stem].setdefault(party.ref, evolve(party, match="stem"))
        longest: Mapping[PartyRef, Party] = next((found for found in by_stem.values() if found), {})
        return list((exact or longest).values())[:FOUND]

    async def card(self, party: PartyRef) -> Party | None:
        values: Values = {
            "type": self._word_of(party.type),
            "id": party.id,
            "limit": SECTION,
            "now": self._now(),
        }
        try:
            return await self._pool.run(lambda it: self._card(it, party, values), seconds=self._seconds)
        except ValueRefused:
            # A word where the CRM has numbers is nobody's id.
            return None

    def _card(self, connection: Connection, ref: PartyRef, values: Values) -> Party | None:
        rows = self._read(connection, "card", values, SECTION)
        found = next((party for party in map(self._party, rows) if party.ref == ref), None)
        if found is None:
            return None

        def section(name: str, make: Callable[..., Any], **columns: Callable[[Any], Any]) -> tuple[Any, ...]:
            if not getattr(self._queries, name):
                return ()
            return tuple(
                self._made(name, make, row, columns) for row in self._read(connection, name, values, SECTION)
            )

        line, moment = _text, self._moment
        return evolve(
            found,
            cases=section("cases", Case, id=line, title=line, status=line, opened=moment, url=line),
            appointments=section(
                "appointments", Appointment, id=line, at=moment, title=line, user=line, url=line
            ),
            tasks=section("tasks", Task, id=line, title=line, due=moment, user=line, url=line),
            last_contacts=section(
                "last_contacts", LastContact, at=moment, kind=line, user=line, summary=line
            ),
        )

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        wanted = words.split()
        if not wanted or len(wanted) > WORDS:
            return ()
        patterns = [f"%{like(word)}%" for word in wanted] + ["%"] * (WORDS - len(wanted))
        rows = await self._rows(
            "search", {**dict(zip(WORD_NAMES, patterns, strict=True)), "limit": limit}, limit
        )
        return list({party.ref: party for party in map(self._party, rows)}.values())

    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        key = self._keys.get(kind)
        if key is None:
            raise AdapterAnswerError(f"there is no kind of key {kind[:40]!r}")
        (query,) = statements("query", key.query, ("key", "limit"))
        values: Values = {"key": value, "limit": FOUND}
        if _cannot_be_in_a_database(values):
            return ()
        try:
            rows = await self._pool.run(lambda it: it.rows(query, values, FOUND), seconds=self._seconds)
        except ValueRefused:
            return ()
        if any("key" not in row for row in rows):
            raise AdapterAnswerError(
                f"keys: {kind}: has no column `key` in what it answers, to be compared whole"
            )
        return [self._party(row, match="key") for row in rows if _text(row["key"]) == value]

    # Everybody.

    async def list(self, after: str | None) -> ListPage:
        limit = self._options.page
        mark: str | None = None
        if after is None and self._queries.mark:
            mark = self._mark_of(await self._rows("mark", {}, 1))
        rows = await self._rows("list", {"after": after, "limit": limit}, limit)
        if len(rows) < limit:
            return ListPage(self._listed(rows), None, mark)
        # The last one's other numbers may be on the next page: they are left for that one, whole.
        last = self._after(rows[-1])
        whole = [row for row in rows if self._after(row) != last]
        if not whole:
            raise AdapterAnswerError(f"query list: one party fills a page of {limit} rows; set `page` higher")
        return ListPage(self._listed(whole), self._after(whole[-1]), mark)

    async def changes(self, mark: str) -> ChangePage:
        # A page begins where the one before it did, and is longer: only the server can compare marks, and who is
        # changed once more meanwhile pushes others forward.
        since, told = _since(mark)
        limit = self._options.page if not told else told * 4
        if limit > CHANGES:
            raise MarkLost("too many changes; the list is quicker")
        try:
            rows = await self._rows("changes", {"mark": since, "limit": limit}, limit)
        except ValueRefused as error:
            raise MarkLost("the database cannot compare with this mark") from error
        more = len(rows) >= limit
        following = _mark(since, limit) if more else self._mark_of(rows[-1:]) if rows else _mark(since)
        gone = {self._party(row).ref: None for row in rows if _is_true(row.get("deleted"))}
        there = [row for row in rows if not _is_true(row.get("deleted"))]
        return ChangePage(self._listed(there), tuple(gone), following, more)

    def _mark_of(self, rows: Sequence[Row]) -> str:
        if not rows or "mark" not in rows[0]:
            raise AdapterAnswerError("queries mark and changes: have no column `mark` in what they answer")
        value = rows[0]["mark"]
        if isinstance(value, datetime) and value.tzinfo is not None:
            # In UTC, as an hour in autumn comes twice.
            value = value.astimezone(UTC)
        return _mark(_text(value))

    def _after(self, row: Row) -> str:
        return _text(row["after"]) if "after" in row else _text(self._column(row, "id"))

    def _listed(self, rows: Iterable[Row]) -> Sequence[ListedParty]:
        """A party for all rows that have its id: CRMs with a table of numbers answer one for each."""
        parties: dict[PartyRef, tuple[Party, dict[ListedNumber, None], str | None]] = {}
        for row in rows:
            party = self._party(row)
            _, numbers, _ = parties.setdefault(party.ref, (party, {}, self._region(row)))
            numbers.update(dict.fromkeys(self._numbers(row)))
        return [ListedParty(party, tuple(numbers), region) for party, numbers, region in parties.values()]

    async def users(self) -> Sequence[CrmUser]:
        rows = await self._rows("users", {"limit": USERS}, USERS)
        return [
            CrmUser(
                id=_text(row.get("id")),
                name=_text(row.get("name")),
                login=_text(row.get("login")),
                extension=_text(row.get("extension")),
                active="active" not in row or _is_true(row["active"]),
            )
            for row in rows
        ]

    # What is written.

    async def create(self, party: NewParty) -> Party:
        first, _, last = party.name.rpartition(" ")
        forms = self._forms(party.number)
        values: Values = {
            **self._new(),
            "type": self._word_of(party.type),
            "number": party.number,
            "digits": forms["digits"],
            "national": forms["national"],
            "display": display(party.number, self._plan.region),
            "name": party.name,
            "first": first,
            "last": last,
            "company": party.company,
            "notes": party.notes,
        }
        id = await self._written("create", values)
        return Party(
            adapter=self._name,
            type=party.type,
            id=id,
            name=party.name,
            company=party.company,
            notes=party.notes,
            url=self._url(party.type, id),
        )

    async def note(self, party: PartyRef, text: str) -> Written:
        values: Values = {**self._new(), "type": self._word_of(party.type), "id": party.id, "text": text}
        return Written("note", await self._written("note", values))

    async def add_task(self, party: PartyRef, task: NewTask) -> Written:
        values: Values = {
            **self._new(),
            "type": self._word_of(party.type),
            "id": party.id,
            "title": task.title,
            "text": task.text,
            "due": self._zoneless(task.due),
            "owner": task.owner,
        }
        return Written("task", await self._written("task", values))

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        queries = self._queries.journal
        if queries is None:
            raise AdapterAnswerError("this database is not written to")
        party = entry.party
        values: Values = {
            "key": entry.key,
            # Of one call always the same, for CRMs whose ids are such.
            "uuid": str(uuid.uuid5(_CALLS, entry.key)),
            "now": self._now(),
            "state": entry.state.value,
            "direction": entry.direction,
            "started": self._zoneless(entry.started),
            "ended": self._zoneless(entry.ended),
            "type": self._word_of(party.type) if party else None,
            "id": party.id if party else None,
            "number": entry.number,
            "digits": entry.number.removeprefix("+"),
            "user": entry.user,
            "duration": round(entry.duration),
            "talk": round(entry.talk),
            "subject": entry.subject,
            "text": entry.text,
            "disposition": entry.disposition,
            "recording": entry.recording,
        }
        id = await self._pool.run(
            lambda it: self._journaled(it, queries, values), seconds=self._seconds, repeatable=False
        )
        return [Written("call", id)]

    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        queries = self._queries.journal
        if queries is None or not queries.remove:
            return written
        values: Values = {"key": entry.key, "uuid": str(uuid.uuid5(_CALLS, entry.key)), "now": self._now()}
        await self._pool.run(
            lambda it: self._withdrawn(it, queries, values), seconds=self._seconds, repeatable=True
        )
        return ()

    @staticmethod
    def _withdrawn(connection: Connection, queries: SqlJournal, values: Values) -> None:
        (find,) = parse(queries.find)
        with _alive(connection).writing():
            rows, _ = connection.write(find, values)
            if rows:
                record = _id_of(rows, "journal: find")
                _do_all(connection, parse(queries.remove), {**values, "record": record})

    @staticmethod
    def _journaled(connection: Connection, queries: SqlJournal, values: Values) -> str:
        (find,) = parse(queries.find)
        with _alive(connection).writing():
            rows, _ = connection.write(find, values)
            if rows:
                record = _id_of(rows, "journal: find")
                _do_all(connection, parse(queries.update), {**values, "record": record})
                return record
            _do_all(connection, parse(queries.insert), {**values, "record": None})
            rows, _ = connection.write(find, values)
            return _id_of(rows, "journal: find, after insert,")

    async def write_number(self, party: PartyRef, old: ListedNumber, new: str) -> None:
        if old.field not in self._queries.numbers:
            raise AdapterAnswerError(f"numbers: has no statement for the column {old.field[:60]!r}")
        (statement,) = self._queries.for_number(old.field)
        values: Values = {"type": self._word_of(party.type), "id": party.id, "old": old.raw, "new": new}

        def replace(connection: Connection) -> int:
            with _alive(connection).writing():
                _, count = connection.write(statement, values)
                return count

        if not await self._pool.run(replace, seconds=self._seconds, repeatable=False):
            raise NumberChanged("the number is another one by now")

    async def _written(self, name: str, values: Values) -> str:
        queries = self._queries.of(name)

        def write(connection: Connection) -> str:
            with _alive(connection).writing():
                known = _do_all(connection, queries, values)
            # Of what was written, not of what it was written on.
            return _id_of([{"id": known.get("new_id")}], f"{name}, as column `new_id`,")

        return await self._pool.run(write, seconds=self._seconds, repeatable=False)

    # Asking.

    @property
    def _seconds(self) -> float:
        return self._options.seconds + _MORE_SECONDS

    async def _rows(self, name: str, values: Values, limit: int) -> Sequence[Row]:
        if _cannot_be_in_a_database(values):
            return ()
        return await self._pool.run(lambda it: self._read(it, name, values, limit), seconds=self._seconds)

    def _read(self, connection: Connection, name: str, values: Values, limit: int) -> Sequence[Row]:
        (query,) = self._queries.of(name)
        try:
            return connection.rows(query, values, limit)
        except ValueRefused:
            raise
        except AdapterAnswerError as error:
            raise AdapterAnswerError(f"query {name}: {error}") from error

    # What comes back.

    def _party(self, row: Row, match: str = "number") -> Party:
        values: dict[str, Any] = {
            name: self._column(row, name) for name in PARTY_COLUMNS if name not in ("tags", "region")
        }
        word = _text(values.pop("type"))
        type = self._options.types.get(word, word or self._options.type)
        id = _text(values.pop("id"))
        if type not in set(PartyType):
            raise AdapterAnswerError("has a `type` that is none of a party; `types` says which is which")
        if not id:
            raise AdapterAnswerError("has a row without `id`")
        url = values.pop("url")
        tags = [tag for tag in _TAGS.split(_text(self._column(row, "tags"))) if tag]
        try:
            return Party(
                adapter=self._name,
                type=PartyType(type),
                id=id,
                url=url or self._url(PartyType(type), id),
                tags=tags,
                match=match,
                **values,
            )
        except ValueError as error:
            raise AdapterAnswerError(f"has a row that is no party: {error}") from None

    def _column(self, row: Row, attribute: str) -> str:
        """The attribute's columns, which are those of its name if nothing else is configured."""
        names = self._options.columns.get(attribute, attribute).split()
        return " ".join(text for name in names if (text := _text(row.get(name))))

    def _number_columns(self, row: Row) -> Sequence[str]:
        names = self._options.columns.get("numbers")
        if names is None:
            return [name for name in row if _NUMBER_COLUMN.match(name)]
        return [name for name in names.split() if name in row]

    def _numbers(self, row: Row) -> Sequence[ListedNumber]:
        return [
            ListedNumber(raw, name) for name in self._number_columns(row) if (raw := _text(row[name]).strip())
        ]

    def _region(self, row: Row) -> str | None:
        region = self._column(row, "region").upper()
        return region if region in phonenumbers.SUPPORTED_REGIONS else self._options.region

    def _plan_of(self, row: Row) -> NumberPlan:
        region = self._region(row)
        return self._plan.for_region(region) if region else self._plan

    def _url(self, type: PartyType, id: str) -> str | None:
        if self._options.url is None:
            return None
        return self._options.url.replace("{id}", quote(id, safe="")).replace(
            "{type}", quote(self._word_of(type), safe="")
        )

    def _word_of(self, type: PartyType) -> str:
        """What stands in the CRM's own column ``type``."""
        return self._words_of.get(type.value, type.value)

    @staticmethod
    def _made(name: str, make: Callable[..., T], row: Row, columns: Mapping[str, Callable[[Any], Any]]) -> T:
        try:
            return make(**{key: convert(row[key]) for key, convert in columns.items() if key in row})
        except (TypeError, ValueError) as error:
            raise AdapterAnswerError(f"query {name}: has a row that cannot be shown: {error}") from None

    # Times and values.

    def _moment(self, value: Any) -> datetime | None:
        if value is None or value == "":
            return None
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if not isinstance(value, date):
            raise ValueError("a time is to be one")
        if not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        moment: datetime = value
        return moment if moment.tzinfo else moment.replace(tzinfo=self._zone)

    def _zoneless(self, moment: datetime | None) -> str | None:
        return None if moment is None else zoneless(moment, self._zone)

    def _now(self) -> str:
        now = datetime.fromtimestamp(self._reactor.seconds(), UTC).replace(microsecond=0)
        return zoneless(now, self._zone)

    def _new(self) -> dict[str, str]:
        return {"uuid": str(uuid.uuid4()), "now": self._now()}

    def _forms(self, e164: str) -> dict[str, str]:
        """The number in all the ways in which a CRM may be asked for it."""
        number = phonenumbers.parse(e164)
        digits = e164.removeprefix("+")
        significant = phonenumbers.national_significant_number(number)
        national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        tail = significant[-8:]
        return {
            "e164": e164,
            "digits": digits,
            "international": f"00{digits}",
            "national": re.sub(r"\D", "", national),
            "significant": significant,
            **{f"last{n}": significant[-n:] for n in (6, 7, 8, 9)},
            "like": f"%{'%'.join(tail)}%",
            "regexp": "[^0-9]*".join(tail),
        }


_TEXTS: Final = (
    *("identify", "card", "cases", "appointments", "tasks", "last_contacts", "search", "list", "mark"),
    *("changes", "users", "create", "note", "task"),
)
_CALLS: Final = uuid.UUID("7d0a3e0e-6c55-4c0f-9b0e-3f5d6a0d8c11")
_MARK: Final = "sql:"


def _do_all(connection: Connection, queries: Sequence[Statement], values: Values) -> dict[str, Any]:
    """Do them in order; what one answers in its first row are parameters of those after it."""
    known = dict(values)
    for query in queries:
        missing = sorted(query.names - set(known))
        if missing:
            raise AdapterAnswerError(f"no statement before it answers {missing[0]!r}")
        rows, _ = connection.write(query, known)
        if rows:
            known |= {name: _parameter(value) for name, value in rows[0].items()}
    return known


def _parameter(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else _text(value)


def _alive(connection: Connection) -> Connection:
    """What writes is not done twice, so the connection is tried before."""
    connection.rows(_SELECT_ONE, {}, 1)
    return connection


def _id_of(rows: Sequence[Row], what: str) -> str:
    id = _text(rows[0].get("id")) if rows else ""
    if not id:
        raise AdapterAnswerError(f"query {what} does not answer the id of what was written")
    return id


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bytes() | bytearray():
            return bytes(value).decode("utf-8", "replace")
        case datetime():
            return value.isoformat(sep=" ")
    return str(value)


def _is_true(value: Any) -> bool:
    return _text(value).lower() not in ("", "0", "false", "f", "no", "inactive")


def _cannot_be_in_a_database(values: Values) -> bool:
    """A NUL or half a character: no text of the CRM's has one, and no server takes one."""
    return any(
        isinstance(value, str) and ("\0" in value or any("\ud800" <= each <= "\udfff" for each in value))
        for value in values.values()
    )


def _mark(since: str, told: int = 0) -> str:
    """``told``: how many changes since then were told of already."""
    return _MARK + orjson.dumps([since, told]).decode()


def _since(mark: str) -> tuple[str, int]:
    try:
        if mark.startswith(_MARK):
            since, told = orjson.loads(mark.removeprefix(_MARK))
            return str(since), int(told)
    except ValueError:
        pass
    raise MarkLost("this is no mark of this adapter's")
