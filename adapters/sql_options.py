"""The options of adapters of kind ``sql``, and which parameters each query has; checked before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from zoneinfo import ZoneInfo

from attrs import evolve, field, fields, frozen

from adapters.base import PartyType
from adapters.sql_text import Statement, StatementError, parse
from cti.numbers import NumberPlan
from cti.secret import Secret
from routing.words import unknown

WORDS: Final = 8
WORD_NAMES: Final = tuple(f"word{n}" for n in range(1, WORDS + 1))
NUMBER_NAMES: Final = (
    "e164",
    "digits",
    "international",
    "national",
    "significant",
    "last6",
    "last7",
    "last8",
    "last9",
    "like",
    "regexp",
)
_ONE: Final = ("type", "id")
_NEW: Final = ("uuid", "now")

#: Query → its parameters. Those that write may also use the columns of what stands before them.
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "identify": (*NUMBER_NAMES, "limit"),
    "card": _ONE,
    "cases": (*_ONE, "limit"),
    "appointments": (*_ONE, "limit", "now"),
    "tasks": (*_ONE, "limit", "now"),
    "last_contacts": (*_ONE, "limit", "now"),
    "search": (*WORD_NAMES, "limit"),
    "list": ("after", "limit"),
    "mark": (),
    "changes": ("mark", "limit"),
    "users": ("limit",),
    "create": (
        *(*_NEW, "type", "number", "digits", "national", "display"),
        *("name", "first", "last", "company", "notes"),
    ),
    "note": (*_NEW, *_ONE, "text"),
    "task": (*_NEW, *_ONE, "title", "text", "due", "owner"),
}
_JOURNAL: Final = (
    *(
        "key",
        "uuid",
        "now",
        "state",
        "direction",
        "started",
        "ended",
        "type",
        "id",
        "number",
        "digits",
        "user",
    ),
    *("duration", "talk", "subject", "text", "disposition", "recording"),
)
_READS: Final = frozenset(
    {"identify", "card", "cases", "appointments", "tasks", "last_contacts", "search", "list", "mark"}
    | {"changes", "users"}
)
_DEFAULT_PORTS: Final = {"postgresql": 5432, "mysql": 3306}
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")


@frozen
class SqlJournal:
    """How a call is written: ``find`` answers the ``id`` of the record with ``:key``; if there is none, ``insert``.

    Without ``update`` a call is written once, at its end; without ``remove`` it stays when it was with nobody here.
    """

    find: str
    insert: str
    update: str = ""
    remove: str = ""

    def __attrs_post_init__(self) -> None:
        statements("journal: find", self.find, ("key", "uuid"), one=True)
        for name in ("insert", "update"):
            statements(f"journal: {name}", getattr(self, name), (*_JOURNAL, "record"), earlier=True)
        statements("journal: remove", self.remove, ("key", "uuid", "now", "record"), earlier=True)
        if not self.insert.strip():
            raise ValueError("journal: insert: one SQL statement would be right")


@frozen
class SqlQueries:
    """What is asked, in SQL; what is left out cannot be done. See ``PARAMETERS`` and docs/crm/sql.md."""

    identify: str
    card: str = ""
    cases: str = ""
    appointments: str = ""
    tasks: str = ""
    last_contacts: str = ""
    search: str = ""
    list: str = ""
    mark: str = ""
    changes: str = ""
    users: str = ""
    create: str = ""
    note: str = ""
    task: str = ""
    journal: SqlJournal | None = None
    #: Column → the statement that replaces ``:old`` in it by ``:new``.
    numbers: Mapping[str, str] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for name in PARAMETERS:
            self.of(name)
        for column in self.numbers:
            self.for_number(column)
        if not self.identify.strip():
            raise ValueError("identify: one SQL statement would be right")
        if bool(self.mark) != bool(self.changes) or (self.changes and not self.list):
            raise ValueError("`changes` needs `mark` and `list`, and `mark` is for nothing else")
        for name in ("cases", "appointments", "tasks", "last_contacts"):
            if getattr(self, name) and not self.card:
                raise ValueError(f"`{name}` is a part of the card, and needs `card`")
        if self.numbers and not self.list:
            raise ValueError("`numbers` needs `list`, which tells where they stand")

    def with_parts(self, parts: Mapping[str, str]) -> SqlQueries:
        """With each ``{name}`` replaced by the part of that name. Raises ``ValueError``."""
        journal = self.journal and SqlJournal(
            *(
                _whole(text, parts)
                for text in (self.journal.find, self.journal.insert, self.journal.update, self.journal.remove)
            )
        )
        texts = {name: _whole(getattr(self, name), parts) for name in PARAMETERS}
        numbers = {column: _whole(text, parts) for column, text in self.numbers.items()}
        return SqlQueries(**texts, journal=journal, numbers=numbers)

    def of(self, name: str) -> tuple[Statement, ...]:
        """The statements of a query, none if it is not there. Raises ``ValueError``."""
        reads = name in _READS
        return statements(name, getattr(self, name), PARAMETERS[name], one=reads, earlier=not reads)

    def for_number(self, column: str) -> tuple[Statement, ...]:
        return statements(
            f"numbers: {column}", self.numbers[column], (*_ONE, "old", "new"), one=True, required=True
        )


def _whole(text: str, parts: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], found[0]), text)


def statements(
    name: str,
    text: str,
    parameters: tuple[str, ...],
    *,
    one: bool = False,
    earlier: bool = False,
    required: bool = False,
) -> tuple[Statement, ...]:
    """The statements of ``text``, all of whose parameters are known. Raises ``ValueError``.

    ``earlier``: those after the first may use what the ones before them answered.
    """
    try:
        found = parse(text)
    except StatementError as error:
        raise ValueError(f"{name}: {error}") from error
    if (one and len(found) > 1) or (required and not found):
        raise ValueError(f"{name}: one SQL statement would be right")
    for statement in found[:1] if earlier else found:
        for parameter in sorted(statement.names - set(parameters)):
            raise ValueError(f"{name}: {unknown('parameter', parameter, parameters)}")
    return found


@frozen
class SqlKey:
    """A kind of key: ``query`` finds by ``:key``, and answers the whole key as column ``key``, too."""

    title: str
    query: str
    sensitive: bool = False

    def __attrs_post_init__(self) -> None:
        statements("query", self.query, ("key", "limit"), one=True, required=True)


@frozen
class SqlOptions:
    """A database, and what is asked of it.

    ``server``: ``postgresql`` or ``mysql``, which MariaDB is as well. ``tls``: on, if it is not said, unless ``host``
    is this machine. ``columns``: attribute of a party → the columns, with blanks between them, that it is made of.
    ``types``: what stands in column ``type`` → type of party; without that column all are ``type``. ``url``: the
    party's address with ``{id}`` and ``{type}`` in it. ``page``: rows asked for at once. ``parts``: SQL that stands
    in several queries, as ``{name}`` there.
    """

    server: str
    database: str
    user: str
    queries: SqlQueries
    host: str = "127.0.0.1"
    port: int | None = None
    password: Secret | None = None
    tls: bool | None = None
    ca_file: str | None = None
    connections: int = 4
    seconds: float = 5.0
    page: int = 1000
    time_zone: str = "UTC"
    region: str | None = None
    type: str = "contact"
    types: Mapping[str, str] = field(factory=dict)
    columns: Mapping[str, str] = field(factory=dict)
    url: str | None = None
    keys: Mapping[str, SqlKey] = field(factory=dict)
    parts: Mapping[str, str] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if self.server not in _DEFAULT_PORTS:
            raise ValueError(unknown("server", self.server, tuple(_DEFAULT_PORTS)))
        if not 1 <= self.connections <= 32:
            raise ValueError("`connections`: 1 to 32 would be right")
        if not 0.1 <= self.seconds <= 60:
            raise ValueError("`seconds`: 0.1 to 60 would be right")
        if not 2 <= self.page <= 10_000:
            raise ValueError("`page`: 2 to 10000 would be right")
        for type in (self.type, *self.types.values()):
            if type not in set(PartyType):
                raise ValueError(unknown("type of party", type, tuple(PartyType)))
        known = (*(each.name for each in fields(_PartyColumns)), "numbers")
        for attribute in self.columns:
            if attribute not in known:
                raise ValueError(f"`columns`: {unknown('attribute of a party', attribute, known)}")
        try:
            ZoneInfo(self.time_zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                "`time_zone`: the name of a zone, such as Europe/Berlin, would be right"
            ) from None
        if self.region is not None:
            NumberPlan(self.region)
        self.whole_queries()
        self.whole_keys()

    def whole_queries(self) -> SqlQueries:
        """The queries with their parts."""
        return self.queries.with_parts(self.parts)

    def whole_keys(self) -> Mapping[str, SqlKey]:
        """The kinds of key, their queries with their parts."""
        return {name: evolve(key, query=_whole(key.query, self.parts)) for name, key in self.keys.items()}

    @property
    def with_tls(self) -> bool:
        return not (self.host.startswith("/") or self.host in _LOCAL) if self.tls is None else self.tls

    @property
    def at_port(self) -> int:
        return self.port or _DEFAULT_PORTS[self.server]


@frozen
class _PartyColumns:
    """The attributes of a party that one row has."""

    type: str
    id: str
    name: str
    company: str
    url: str
    owner: str
    tier: str
    language: str
    tags: str
    notes: str
    organisation: str
    balance: str
    dunning: str
    region: str


PARTY_COLUMNS: Final = tuple(each.name for each in fields(_PartyColumns))
