"""Which tables hold what of the people who call, and how it is found, changed and removed: all tables, as data.

Every column that holds text stands here, so that none is forgotten when somebody is to be taken out of the store;
who decides what is whose, and what becomes of it, is `cti.privacy`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from cti.store.rows import Row, Statement, alone


@frozen
class Listing:
    """A table read page by page, in the order of `key`; `where`: only these rows of it."""

    table: str
    key: Sequence[str]
    columns: Sequence[str]
    where: str = "1 = 1"

    def page(self, after: Row | None, limit: int) -> tuple[str, Row]:
        """The statement, with its parameters, that reads the rows behind the key `after`."""
        key, columns = ", ".join(self.key), ", ".join(self.columns)
        if after is None:
            return f"SELECT {columns} FROM {self.table} WHERE {self.where} ORDER BY {key} LIMIT ?", (limit,)
        marks = ", ".join("?" * len(self.key))
        where = f"{self.where} AND ({key}) > ({marks})"
        return f"SELECT {columns} FROM {self.table} WHERE {where} ORDER BY {key} LIMIT ?", (*after, limit)


@frozen
class PersonalTable:
    """A table that may hold something of somebody who calls, or is called.

    `key`: its primary key. `call`: the column that says which call a row belongs to. `numbers`: columns that hold a
    number as its key. `party`: the column that holds a party as JSON, `party_key` those with its adapter and id.
    `removed`: a row of theirs goes, and with `found_removes` one that names them, too; else `blank` says what
    stands in its columns then. `text`, `json`: the columns that are searched in all rows, whoever's they are.
    `events`: those of the JSON columns that lack its beginning. `plain`: columns of text that nobody's data ever gets
    into: ids of ours, words of the configuration, who works here. `also`: what else is read, for whoever decides.
    """

    name: str
    key: Sequence[str]
    call: str | None = None
    numbers: Sequence[str] = ()
    party: str | None = None
    party_key: tuple[str, str] | None = None
    removed: bool = False
    found_removes: bool = False
    blank: Mapping[str, Any] = field(factory=dict)
    text: Sequence[str] = ()
    json: Sequence[str] = ()
    events: Sequence[str] = ()
    plain: Sequence[str] = ()
    also: Sequence[str] = ()
    changes: Mapping[str, Statement] = field(init=False, repr=False, eq=False)
    remove: Statement = field(init=False, repr=False, eq=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """All that are read, the key's first."""
        named = (
            *self.key,
            *filter(None, (self.call, self.party)),
            *(self.party_key or ()),
            *self.numbers,
            *self.blank,
            *self.text,
            *self.json,
            *self.also,
        )
        return tuple(dict.fromkeys(named))

    @changes.default
    def _make_changes(self) -> Mapping[str, Statement]:
        # Only what still stands there as it was read: nobody's latest words are written over.
        return {
            column: alone(
                self.name, f"UPDATE {self.name} SET {column} = ? WHERE {self._where} AND {column} = ?"
            )
            for column in dict.fromkeys((*self.blank, *self.text, *self.json))
        }

    @remove.default
    def _make_remove(self) -> Statement:
        return alone(self.name, f"DELETE FROM {self.name} WHERE {self._where}")

    @property
    def _where(self) -> str:
        return " AND ".join(f"{column} = ?" for column in self.key)

    @property
    def listing(self) -> Listing:
        return Listing(self.name, self.key, self.columns)


#: Calls first: what else is whose follows from them.
CALLS: Final = PersonalTable(
    "calls",
    ("id",),
    numbers=("from_number", "to_number"),
    party="party",
    party_key=("party_adapter", "party_id"),
    blank={
        "from_number": None,
        "from_raw": "",
        "from_kind": "unavailable",
        "to_number": None,
        "to_raw": "",
        "party": None,
        "party_adapter": None,
        "party_id": None,
        "notes": None,
        "reason": None,
        "recording": None,
    },
    text=("from_raw", "to_raw", "notes", "reason", "disposition", "rule"),
    json=("party",),
    also=("direction", "parent", "state", "pbx", "started", "ended", "recording"),
    plain=(
        "id",
        "pbx",
        "direction",
        "parent",
        "uniqueid",
        "linkedid",
        "state",
        "closed_by",
        "places",
        "from_kind",
        "knew",
        "service",
        "mode",
        "agent",
        "outcome",
        "recording",
        "knew",
    ),
)

PERSONAL: Final[Sequence[PersonalTable]] = (
    CALLS,
    PersonalTable(
        "segments",
        ("call", "number"),
        call="call",
        blank={"reason": ""},
        text=("target", "reason", "rule"),
        plain=("service", "agents", "agent", "result"),
    ),
    PersonalTable(
        "channels",
        ("pbx", "uniqueid"),
        call="call",
        text=("device", "name"),
        plain=("pbx", "uniqueid", "role", "agent"),
    ),
    PersonalTable(
        "decisions",
        ("call", "attempt"),
        call="call",
        blank={"reason": "", "facts": "{}", "trace": "[]", "identification": None},
        text=("target", "reason", "rule"),
        json=("facts", "trace", "identification"),
        plain=("service", "mode", "action", "agents", "last"),
    ),
    PersonalTable("cards", ("call", "attempt", "agent"), call="call", removed=True, json=("body",)),
    PersonalTable(
        "events", ("seq",), call="call", json=("body",), events=("body",), plain=("type", "agents")
    ),
    PersonalTable(
        "outbox",
        ("id",),
        call="lane",
        blank={"error": None},
        text=("error",),
        plain=("destination", "lane", "key", "state"),
        also=("destination", "state"),
    ),
    PersonalTable("outbox_attempts", ("delivery", "number"), text=("error",)),
    PersonalTable(
        "journal",
        ("call", "adapter", "type", "id"),
        call="call",
        party_key=("adapter", "party_id"),
        removed=True,
        text=("url",),
        plain=("party_type",),
    ),
    PersonalTable(
        "journal_tries",
        ("call", "adapter"),
        call="call",
        party_key=("adapter", "party_id"),
        removed=True,
        plain=("party_type",),
    ),
    PersonalTable(
        "callbacks",
        ("id",),
        call="call",
        numbers=("number",),
        party="party",
        removed=True,
        text=("note",),
        json=("party",),
        also=("created", "state", "owner", "due", "tries"),
        plain=(
            "id",
            "state",
            "service",
            "owner",
            "agents",
            "groups",
            "made_by",
            "done_by",
            "calling",
            "why",
            "place",
        ),
    ),
    PersonalTable(
        "choices",
        ("number", "adapter", "type", "id"),
        call="call",
        numbers=("number",),
        party_key=("adapter", "id"),
        removed=True,
    ),
    PersonalTable(
        "newcomers",
        ("adapter", "number"),
        call="call",
        numbers=("number",),
        party="party",
        removed=True,
        json=("party",),
        plain=("type", "service", "state"),
    ),
    PersonalTable(
        "number_lists",
        ("list", "pattern"),
        numbers=("pattern",),
        removed=True,
        text=("note",),
        plain=("list", "made_by"),
    ),
    PersonalTable(
        "audit",
        ("id",),
        text=("object", "address"),
        json=("detail",),
        also=("at", "who", "action"),
        plain=("who", "kind", "action"),
    ),
    PersonalTable(
        "asked_once",
        ("who", "key"),
        found_removes=True,
        text=("key", "headers"),
        json=("body",),
        plain=("who", "digest", "media_type"),
    ),
)

#: Tables with nothing of anybody who calls: who works here and how they come in, and what the server knows of itself.
PLAIN: Final = frozenset(
    {
        "store",
        "agents",
        "reservations",
        "event_agents",
        "tokens",
        "users",
        "sessions",
        "keys",
        "heard",
        "gaps",
        "wrap_ups",
        "unwritten",
        "periods",
        "lives",
        "writers",
        "purged",
        "erasures",
    }
)

# How what has become old is read, the oldest first: the ids of ours sort by time.
OLD_CALLS: Final = Listing(
    "calls", ("started", "id"), ("started", "id", "state", "direction", "pbx", "recording")
)
OLD_EVENTS: Final = Listing("events", ("seq",), ("seq", "at", "agents"))
OLD_DELIVERIES: Final = Listing("outbox", ("id",), ("id", "created", "state", "finished"))
OLD_AUDIT: Final = Listing("audit", ("id",), ("id", "at"))
OLD_CALLBACKS: Final = Listing("callbacks", ("id",), ("id", "created", "state", "changed"))
# Of two that began and ended together, one may be read a day later: the index says no more.
OLD_PERIODS: Final = Listing(
    "periods", ("ended", "began"), ("ended", "began", "agent"), where="ended IS NOT NULL"
)
CHOICES: Final = Listing(
    "choices", ("number", "adapter", "type", "id"), ("number", "adapter", "type", "id", "at")
)
NEWCOMERS: Final = Listing("newcomers", ("adapter", "number"), ("adapter", "number", "began"))

BY_NAME: Final = {table.name: table for table in PERSONAL}

_OF_A_CALL = ("segments", "channels", "decisions", "cards", "journal", "journal_tries", "unwritten")
#: All that is kept of a call, but its events.
PURGE_CALL: Final = (
    *(alone(table, f"DELETE FROM {table} WHERE call = ?") for table in _OF_A_CALL),
    alone("calls", "DELETE FROM calls WHERE id = ?"),
)
#: Who the other side was, and all that may tell it; by direction, since our own side stays.
FORGET_SIDE: Final = {
    "inbound": alone(
        "calls",
        "UPDATE calls SET from_number = NULL, from_raw = '', from_kind = 'unavailable' WHERE id = ?",
    ),
    "outbound": alone("calls", "UPDATE calls SET to_number = NULL, to_raw = '' WHERE id = ?"),
}
FORGET_FACTS: Final = alone(
    "decisions",
    "UPDATE decisions SET facts = '{}', trace = '[]', identification = NULL WHERE call = ?",
)
FORGET_CARDS: Final = alone("cards", "DELETE FROM cards WHERE call = ?")
FORGET_PARTY: Final = (
    alone(
        "calls",
        "UPDATE calls SET party = NULL, party_adapter = NULL, party_id = NULL, notes = NULL, reason = NULL"
        " WHERE id = ?",
    ),
    FORGET_FACTS,
    alone("decisions", "UPDATE decisions SET reason = '', target = '' WHERE call = ?"),
    FORGET_CARDS,
    alone("segments", "UPDATE segments SET reason = '', target = '' WHERE call = ?"),
    alone(
        "channels", "UPDATE channels SET name = '', device = role WHERE call = ? AND device LIKE 'Local/%'"
    ),
    alone("channels", "UPDATE channels SET name = '' WHERE call = ?"),
    alone("journal", "DELETE FROM journal WHERE call = ?"),
    alone("journal_tries", "DELETE FROM journal_tries WHERE call = ?"),
)
FORGET_RECORDING: Final = alone("calls", "UPDATE calls SET recording = NULL WHERE id = ?")
PURGE_EVENT: Final = (
    alone("events", "DELETE FROM events WHERE seq = ?"),
    alone(
        "outbox_attempts",
        "DELETE FROM outbox_attempts WHERE delivery IN"
        " (SELECT id FROM outbox WHERE seq = ? AND state IN ('delivered', 'dropped'))",
    ),
    alone("outbox", "DELETE FROM outbox WHERE seq = ? AND state IN ('delivered', 'dropped')"),
)
FORGET_ATTEMPTS: Final = alone("outbox_attempts", "DELETE FROM outbox_attempts WHERE delivery = ?")
PURGE_PERIOD: Final = alone("periods", "DELETE FROM periods WHERE agent = ? AND began = ?")
PURGE_EVENT_AGENT: Final = alone("event_agents", "DELETE FROM event_agents WHERE agent = ? AND seq = ?")
PURGED: Final = alone(
    "purged",
    "INSERT INTO purged (kind, until) VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET until = excluded.until",
)
