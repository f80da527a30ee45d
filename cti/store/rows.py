"""How records become rows and rows records, and the unit that gathers them for one transaction.

Which columns there are is said by the records and the schema; no database is touched here. The SQL made
here is understood by SQLite and, but for the parameters' marks, by PostgreSQL.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from time import gmtime, strftime
from typing import Any, Generic, TypeVar

import attrs
import orjson
from attrs import define, field

from cti.store.counts import LONGEST_PERIOD
from cti.store.records import (
    AgentRecord,
    AskedOnce,
    AttemptRecord,
    AuditRecord,
    CallbackRecord,
    CallRecord,
    CardRecord,
    ChannelRecord,
    ChoiceRecord,
    DecisionRecord,
    ErasureRecord,
    GapRecord,
    HeardRecord,
    JournalRecord,
    JournalTry,
    Json,
    LifeRecord,
    ListedNumber,
    NewcomerRecord,
    PeriodRecord,
    ReservationRecord,
    SegmentRecord,
    SessionRecord,
    StoredEvent,
    TokenRecord,
    UserRecord,
    WrapUpRecord,
)

R = TypeVar("R")
Row = Sequence[Any]


# How many rows one statement may carry. The larger, the fewer times the writing thread lets go of the
# interpreter and has to wait for it, which costs it up to 5 ms each while another thread computes (measured:
# groups halve a commit's time then; CPU is the same). Three sizes, so that SQLite finds its prepared
# statements again; 16 rows of the widest table stay below the 999 parameters of older SQLites.
GROUPS = (16, 4, 1)

Execute = Callable[[str, Row], object]


class Statement:
    """A change of one table, as SQL for each number of rows that can be done at once.

    `key`: which values say what row is changed. PostgreSQL changes none twice in one statement.
    """

    def __init__(self, table: str, texts: Sequence[tuple[int, str]], key: Sequence[int] = ()) -> None:
        self.table = table
        self._texts = texts
        self._key = itemgetter(*key) if key else None

    @property
    def single(self) -> str:
        """The statement for one row."""
        return self._texts[-1][1]

    def run(self, execute: Execute, rows: Sequence[Row]) -> None:
        done = 0
        for size, sql in self._texts:
            while len(rows) - done >= size and self._differ(rows[done : done + size]):
                values = rows[done] if size == 1 else list(chain.from_iterable(rows[done : done + size]))
                try:
                    execute(sql, values)
                except UnicodeEncodeError:
                    execute(sql, [clean_text(value) if isinstance(value, str) else value for value in values])
                done += size

    def _differ(self, rows: Sequence[Row]) -> bool:
        return len(rows) == 1 or self._key is None or len(set(map(self._key, rows))) == len(rows)


def inserting(table: str, columns: Sequence[str], conflict: str = "", key: Sequence[int] = ()) -> Statement:
    head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "
    row = f"({', '.join('?' * len(columns))})"
    return Statement(table, [(size, head + ", ".join([row] * size) + conflict) for size in GROUPS], key)


def alone(table: str, sql: str) -> Statement:
    """A statement that does one row at a time."""
    return Statement(table, [(1, sql)])


#: Of the names of columns, those that are words of SQL.
_RESERVED = frozenset({"user"})


class Table(Generic[R]):
    """One kind of record and its table, whose first columns are the record's fields in their order."""

    def __init__(
        self,
        name: str,
        record: type[R],
        *,
        key: Sequence[str],
        json: Sequence[str] = (),
        extra: Sequence[str] = (),
        once: Sequence[str] = (),
    ) -> None:
        """`once`: columns that are written with a new row, and never over one that is there."""
        names = [attribute.name for attribute in attrs.fields(record)]  # type: ignore[arg-type]
        fields = [f'"{name}"' if name in _RESERVED else name for name in names]
        self.record = record
        self.columns = ", ".join(fields)
        self._values = attrgetter(*names)
        self._json = [names.index(column) for column in json]
        columns = [*fields, *extra]
        updates = ", ".join(
            f"{column} = excluded.{column}" for column in columns if column not in (*key, *once)
        )
        conflict = f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}"
        self.upsert = inserting(
            name, columns, conflict, [columns.index(each) for each in key if each in columns]
        )

    def values(self, record: R) -> list[Any]:
        values = list(self._values(record))
        for position in self._json:
            if values[position] is not None:
                values[position] = json_text(values[position])
        return values

    def load(self, row: Row) -> R:
        values = list(row)
        for position in self._json:
            if values[position] is not None:
                values[position] = orjson.loads(values[position])
        return self.record(*values)


# What a person has written must not be lost to a commit of Asterisk's news that is tried again later.
CALLS = Table(
    "calls",
    CallRecord,
    key=["id"],
    json=["party", "places"],
    extra=["party_adapter", "party_id"],
    once=["notes", "disposition", "wrap_up"],
)
SEGMENTS = Table("segments", SegmentRecord, key=["call", "number"], json=["agents"], once=["wrap_up"])
CHANNELS = Table("channels", ChannelRecord, key=["pbx", "uniqueid"])
DECISIONS = Table(
    "decisions",
    DecisionRecord,
    key=["call", "attempt"],
    json=["agents", "facts", "trace", "identification"],
)
CARDS = Table("cards", CardRecord, key=["call", "attempt", "agent"], json=["body"])
AGENTS = Table("agents", AgentRecord, key=["id"], json=["phones", "groups", "crm", "skills"])
RESERVATIONS = Table("reservations", ReservationRecord, key=["agent", "call"])
TOKENS = Table("tokens", TokenRecord, key=["id"], json=["scopes"])
USERS = Table("users", UserRecord, key=["name"])
SESSIONS = Table("sessions", SessionRecord, key=["digest"])
WRAP_UPS = Table("wrap_ups", WrapUpRecord, key=["agent"])
CALLBACKS = Table("callbacks", CallbackRecord, key=["id"], json=["agents", "groups", "party", "place"])
HEARD = Table("heard", HeardRecord, key=["pbx"])
ASKED_ONCE = Table("asked_once", AskedOnce, key=["who", "key"], json=["headers"])
GAPS = Table("gaps", GapRecord, key=["pbx", "since"])
NUMBER_LISTS = Table("number_lists", ListedNumber, key=["list", "pattern"])
CHOICES = Table("choices", ChoiceRecord, key=["number", "adapter", "type", "id"])
JOURNAL = Table("journal", JournalRecord, key=["call", "adapter", "type", "id"])
JOURNAL_TRIES = Table("journal_tries", JournalTry, key=["call", "adapter"])
NEWCOMERS = Table("newcomers", NewcomerRecord, key=["adapter", "number"], json=["party"])
ERASURES = Table("erasures", ErasureRecord, key=["id"], json=["subject", "report"])
PERIODS = Table("periods", PeriodRecord, key=["agent", "began"])
LIVES = Table("lives", LifeRecord, key=["began"])

ATTEMPTS = Table("outbox_attempts", AttemptRecord, key=["delivery", "number"])
#: Attempts that are kept of one delivery, for who wants to know why it does not arrive.
KEPT_ATTEMPTS = 20

AUDIT = Table("audit", AuditRecord, key=["id"], json=["detail"])
ADD_AUDIT = inserting("audit", AUDIT.columns.split(", "))

WISH_AGENT = alone(
    "agents", "UPDATE agents SET wish = ?, reason = ?, wish_since = ?, idle_since = ? WHERE id = ?"
)
PHONE_AGENT = alone("agents", "UPDATE agents SET phone = ? WHERE id = ?")
SKILLS_AGENT = alone("agents", "UPDATE agents SET skills = ? WHERE id = ?")
WRITE_CALL = alone(
    "calls",
    "UPDATE calls SET notes = ?, disposition = ?, party = ?, party_adapter = ?, party_id = ? WHERE id = ?",
)
# Nobody who found out who it is goes over what a person has said, or somebody before them.
_TAKE_PARTY = "UPDATE calls SET party = ?, party_adapter = ?, party_id = ? WHERE party IS NULL AND"
TAKE_PARTY = alone("calls", f"{_TAKE_PARTY} id = ?")
NAME_CALLER = alone(
    "calls",
    "UPDATE calls SET from_number = ?, from_raw = ?, from_kind = ?, identify_ms = ?"
    " WHERE id = ? AND from_kind = 'unavailable'",
)
TAKE_PARTY_OF = alone("calls", f"{_TAKE_PARTY} direction = 'inbound' AND from_number = ? AND started >= ?")
ADD_NEWCOMER = inserting(
    "newcomers", NEWCOMERS.columns.split(", "), " ON CONFLICT (adapter, number) DO NOTHING"
)
FORGET_JOURNAL = alone("journal", "DELETE FROM journal WHERE call = ? AND adapter = ?")
FORGET_TRY = alone("journal_tries", "DELETE FROM journal_tries WHERE call = ? AND adapter = ?")
UNLIST_NUMBER = alone("number_lists", "DELETE FROM number_lists WHERE list = ? AND pattern = ?")
# What nobody closed in time is not known to have gone on.
END_PERIOD = alone(
    "periods",
    "UPDATE periods SET ended = CASE WHEN ? < began THEN began"
    f" WHEN ? > began + {LONGEST_PERIOD} THEN began + {LONGEST_PERIOD} ELSE ? END"
    " WHERE agent = ? AND ended IS NULL",
)
# Of who called before, in either direction, the one who talked with them last.
_TALKED_BEFORE = (
    "(SELECT started, agent FROM (SELECT started, agent, answered FROM calls AS before"
    " WHERE before.{side} = ? AND before.started < ? ORDER BY before.started DESC, before.id DESC LIMIT 20)"
    " AS latest WHERE answered IS NOT NULL AND agent IS NOT NULL ORDER BY started DESC LIMIT 1)"
)
KNEW_AS_OWNER = alone("calls", "UPDATE calls SET knew = 'owner' WHERE id = ?")
KNEW_FROM_BEFORE = alone(
    "calls",
    "UPDATE calls SET knew = 'last_agent' WHERE id = ? AND ? = (SELECT agent FROM (SELECT started, agent FROM "
    + _TALKED_BEFORE.format(side="from_number")
    + " AS called UNION ALL SELECT started, agent FROM "
    + _TALKED_BEFORE.format(side="to_number")
    + " AS were_called) AS both_ways ORDER BY started DESC LIMIT 1)",
)
WRAP_UP_CALL = alone("calls", "UPDATE calls SET wrap_up = COALESCE(wrap_up, 0) + ? WHERE id = ?")
WRAP_UP_SEGMENT = alone("segments", "UPDATE segments SET wrap_up = ? WHERE call = ? AND number = ?")
REMOVE_WRAP_UP = alone("wrap_ups", "DELETE FROM wrap_ups WHERE agent = ?")
OWE = inserting("unwritten", ["agent", "call", "since"], " ON CONFLICT (agent, call) DO NOTHING")
OWE_NOTHING = alone("unwritten", "DELETE FROM unwritten WHERE call = ?")
TOUCH_AGENT = alone("agents", "UPDATE agents SET idle_since = ? WHERE id = ?")
REMOVE_AGENT = alone("agents", "DELETE FROM agents WHERE id = ?")
REMOVE_ASKED_ONCE = alone("asked_once", "DELETE FROM asked_once WHERE who = ? AND key = ?")
FORGET_ASKED_ONCE = alone("asked_once", "DELETE FROM asked_once WHERE at < ?")
TRIM_ASKED_ONCE = alone(
    "asked_once",
    "DELETE FROM asked_once WHERE who = ? AND at <"
    " (SELECT at FROM asked_once WHERE who = ? ORDER BY at DESC LIMIT 1 OFFSET ?)",
)
REMOVE_RESERVATION = alone("reservations", "DELETE FROM reservations WHERE agent = ? AND call = ?")
REMOVE_USER = alone("users", "DELETE FROM users WHERE name = ?")
TOUCH_SESSION = alone("sessions", "UPDATE sessions SET used = ? WHERE digest = ?")
END_SESSION = alone("sessions", "DELETE FROM sessions WHERE digest = ?")
END_SESSIONS = alone("sessions", 'DELETE FROM sessions WHERE "user" = ?')
FORGET_SESSIONS = alone("sessions", "DELETE FROM sessions WHERE expires < ? OR used < ?")
PUT_KEY = alone("keys", "INSERT INTO keys (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")

# The outbox. Of each lane the first that waits has a due time, and the others have none: that keeps the order.
_BEFORE_IT = (
    "SELECT 1 FROM outbox AS earlier WHERE earlier.destination = outbox.destination"
    " AND earlier.lane = outbox.lane AND earlier.state = 'waiting' AND earlier.id < outbox.id"
)
FIRST_OF_LANE = (
    f"UPDATE outbox SET due = created WHERE seq > ? AND state = 'waiting' AND NOT EXISTS ({_BEFORE_IT})"
)
_DONE = alone(
    "outbox",
    "UPDATE outbox SET state = ?, finished = ?, due = NULL, attempts = attempts + 1,"
    " error = COALESCE(?, error) WHERE id = ? AND state = 'waiting'",
)
_RELEASE = alone(
    "outbox",
    "UPDATE outbox SET due = ? WHERE due IS NULL AND id ="
    " (SELECT MIN(waits.id) FROM outbox AS waits JOIN outbox AS done"
    " ON waits.destination = done.destination AND waits.lane = done.lane"
    " WHERE done.id = ? AND waits.state = 'waiting')",
)
# Who has had an earlier one tried again meanwhile has put it in front.
_AGAIN = alone(
    "outbox",
    f"UPDATE outbox SET due = CASE WHEN EXISTS ({_BEFORE_IT}) THEN NULL ELSE ? END,"
    " attempts = attempts + 1, error = ? WHERE id = ? AND state = 'waiting'",
)
_RETRY = alone(
    "outbox",
    "UPDATE outbox SET state = 'waiting', again = ?, finished = NULL, error = NULL, due ="
    f" CASE WHEN EXISTS ({_BEFORE_IT}) THEN NULL ELSE ? END WHERE id = ?",
)
_STEP_BACK = alone(
    "outbox",
    "UPDATE outbox SET due = NULL WHERE state = 'waiting' AND due IS NOT NULL AND id > ?"
    " AND destination = (SELECT front.destination FROM outbox AS front WHERE front.id = ?)"
    " AND lane = (SELECT front.lane FROM outbox AS front WHERE front.id = ?)",
)
_DROP = alone(
    "outbox",
    "UPDATE outbox SET state = 'dropped', finished = ?, due = NULL WHERE id = ? AND state IN ('waiting', 'dead')",
)
_ADD_ATTEMPT = inserting(
    "outbox_attempts", ATTEMPTS.columns.split(", "), " ON CONFLICT (delivery, number) DO NOTHING"
)
_FORGET_ATTEMPTS = alone("outbox_attempts", "DELETE FROM outbox_attempts WHERE delivery = ? AND number <= ?")


def run_in_groups(execute: Execute, rows: Iterable[tuple[Statement, Row]]) -> None:
    """Run statements with many rows each. The order within a table is kept, between tables it is not."""
    groups: dict[str, tuple[Statement, list[Row]]] = {}
    for statement, values in rows:
        group = groups.get(statement.table)
        if group is not None and group[0] is statement:
            group[1].append(values)
            continue
        if group is not None:
            group[0].run(execute, group[1])
        groups[statement.table] = (statement, [values])
    for statement, group_rows in groups.values():
        statement.run(execute, group_rows)


@define
class EventDraft:
    """An event before it has its number; `body` is its JSON from behind the number."""

    type: str
    at: float
    call: str | None
    agents: Sequence[str]
    body: bytes

    def numbered(self, seq: int) -> StoredEvent:
        return StoredEvent(seq, self.type, self.at, self.call, self.agents, b'{"seq":%d,' % seq + self.body)


@define
class RowUnit:
    """A `Unit` as statements with their parameters, made at the moment each record is put in."""

    rows: list[tuple[Statement, Row]] = field(factory=list)
    events: list[EventDraft] = field(factory=list)

    def put_call(self, call: CallRecord) -> None:
        self.rows.append((CALLS.upsert, [*CALLS.values(call), *_party_columns(call)]))

    def put_written(self, call: CallRecord) -> None:
        party = None if call.party is None else json_text(call.party)
        written = (call.notes, call.disposition, party, *_party_columns(call), call.id)
        self.rows.append((WRITE_CALL, written))

    def take_party(self, call: str, party: Json) -> None:
        self.rows.append((TAKE_PARTY, (json_text(party), *_party_key(party), call)))

    def name_caller(self, record: CallRecord) -> None:
        values = record.from_number, record.from_raw, record.from_kind, record.identify_ms, record.id
        self.rows.append((NAME_CALLER, values))

    def take_party_of(self, number: str, since: float, party: Json) -> None:
        self.rows.append((TAKE_PARTY_OF, (json_text(party), *_party_key(party), number, since)))

    def put_listed(self, number: ListedNumber) -> None:
        self.rows.append((NUMBER_LISTS.upsert, NUMBER_LISTS.values(number)))

    def remove_listed(self, list: str, pattern: str) -> None:
        self.rows.append((UNLIST_NUMBER, (list, pattern)))

    def put_choice(self, choice: ChoiceRecord) -> None:
        self.rows.append((CHOICES.upsert, CHOICES.values(choice)))

    def add_newcomer(self, newcomer: NewcomerRecord) -> None:
        self.rows.append((ADD_NEWCOMER, NEWCOMERS.values(newcomer)))

    def put_newcomer(self, newcomer: NewcomerRecord) -> None:
        self.rows.append((NEWCOMERS.upsert, NEWCOMERS.values(newcomer)))

    def put_journal(self, call: str, adapter: str, records: Sequence[JournalRecord]) -> None:
        self.rows.append((FORGET_JOURNAL, (call, adapter)))
        self.rows.append((FORGET_TRY, (call, adapter)))
        self.rows += [(JOURNAL.upsert, JOURNAL.values(record)) for record in records]

    def put_journal_try(self, tried: JournalTry) -> None:
        self.rows.append((JOURNAL_TRIES.upsert, JOURNAL_TRIES.values(tried)))

    def remove_journal_try(self, call: str, adapter: str) -> None:
        self.rows.append((FORGET_TRY, (call, adapter)))

    def put_segment(self, segment: SegmentRecord) -> None:
        self.rows.append((SEGMENTS.upsert, SEGMENTS.values(segment)))

    def put_channel(self, channel: ChannelRecord) -> None:
        self.rows.append((CHANNELS.upsert, CHANNELS.values(channel)))

    def put_decision(self, decision: DecisionRecord) -> None:
        self.rows.append((DECISIONS.upsert, DECISIONS.values(decision)))

    def put_card(self, card: CardRecord) -> None:
        self.rows.append((CARDS.upsert, CARDS.values(card)))

    def put_agent(self, agent: AgentRecord) -> None:
        self.rows.append((AGENTS.upsert, AGENTS.values(agent)))

    def put_wish(self, agent: AgentRecord) -> None:
        wish = (agent.wish, agent.reason, agent.wish_since, agent.idle_since, agent.id)
        self.rows.append((WISH_AGENT, wish))

    def put_phone(self, agent: str, phone: str | None) -> None:
        self.rows.append((PHONE_AGENT, (phone, agent)))

    def put_skills(self, agent: str, skills: Mapping[str, int]) -> None:
        self.rows.append((SKILLS_AGENT, (json_text(dict(skills)), agent)))

    def touch_agent(self, agent: str, idle_since: float) -> None:
        self.rows.append((TOUCH_AGENT, (idle_since, agent)))

    def remove_agent(self, agent: str) -> None:
        self.rows.append((REMOVE_AGENT, (agent,)))

    def put_reservation(self, reservation: ReservationRecord) -> None:
        self.rows.append((RESERVATIONS.upsert, RESERVATIONS.values(reservation)))

    def remove_reservation(self, agent: str, call: str) -> None:
        self.rows.append((REMOVE_RESERVATION, (agent, call)))

    def put_wrap_up(self, wrap_up: WrapUpRecord) -> None:
        self.rows.append((WRAP_UPS.upsert, WRAP_UPS.values(wrap_up)))

    def remove_wrap_up(self, agent: str) -> None:
        self.rows.append((REMOVE_WRAP_UP, (agent,)))

    def add_wrap_up(self, call: str, segment: int, seconds: float) -> None:
        self.rows.append((WRAP_UP_CALL, (seconds, call)))
        self.rows.append((WRAP_UP_SEGMENT, (seconds, call, segment)))

    def put_unwritten(self, agent: str, call: str, since: float) -> None:
        self.rows.append((OWE, (agent, call, since)))

    def remove_unwritten(self, call: str) -> None:
        self.rows.append((OWE_NOTHING, (call,)))

    def put_callback(self, callback: CallbackRecord) -> None:
        self.rows.append((CALLBACKS.upsert, CALLBACKS.values(callback)))

    def put_period(self, period: PeriodRecord) -> None:
        self.end_period(period.agent, period.began)
        self.rows.append((PERIODS.upsert, PERIODS.values(period)))

    def end_period(self, agent: str, at: float) -> None:
        self.rows.append((END_PERIOD, (at, at, at, agent)))

    def put_life(self, life: LifeRecord) -> None:
        self.rows.append((LIVES.upsert, LIVES.values(life)))

    def put_owner_answered(self, call: str) -> None:
        self.rows.append((KNEW_AS_OWNER, (call,)))

    def put_answered_by(self, call: str, agent: str, number: str, started: float) -> None:
        self.rows.append((KNEW_FROM_BEFORE, (call, agent, number, started, number, started)))

    def put_heard(self, heard: HeardRecord) -> None:
        self.rows.append((HEARD.upsert, HEARD.values(heard)))

    def put_gap(self, gap: GapRecord) -> None:
        self.rows.append((GAPS.upsert, GAPS.values(gap)))

    def put_token(self, token: TokenRecord) -> None:
        self.rows.append((TOKENS.upsert, TOKENS.values(token)))

    def put_asked_once(self, asked: AskedOnce) -> None:
        self.rows.append((ASKED_ONCE.upsert, ASKED_ONCE.values(asked)))

    def remove_asked_once(self, who: str, key: str) -> None:
        self.rows.append((REMOVE_ASKED_ONCE, (who, key)))

    def trim_asked_once(self, who: str, keep: int) -> None:
        self.rows.append((TRIM_ASKED_ONCE, (who, who, keep - 1)))

    def forget_asked_once(self, before: float) -> None:
        self.rows.append((FORGET_ASKED_ONCE, (before,)))

    def put_user(self, user: UserRecord) -> None:
        self.rows.append((USERS.upsert, USERS.values(user)))

    def remove_user(self, name: str) -> None:
        self.rows.append((REMOVE_USER, (name,)))

    def put_session(self, session: SessionRecord) -> None:
        self.rows.append((SESSIONS.upsert, SESSIONS.values(session)))

    def touch_session(self, digest: str, used: float) -> None:
        self.rows.append((TOUCH_SESSION, (used, digest)))

    def end_session(self, digest: str) -> None:
        self.rows.append((END_SESSION, (digest,)))

    def end_sessions(self, user: str) -> None:
        self.rows.append((END_SESSIONS, (user,)))

    def forget_sessions(self, expired: float, idle_since: float) -> None:
        self.rows.append((FORGET_SESSIONS, (expired, idle_since)))

    def put_key(self, name: str, value: str) -> None:
        self.rows.append((PUT_KEY, (name, value)))

    def add_audit(self, entry: AuditRecord) -> None:
        self.rows.append((ADD_AUDIT, AUDIT.values(entry)))

    def put_erasure(self, erasure: ErasureRecord) -> None:
        *values, done, report = ERASURES.values(erasure)
        self.rows.append((ERASURES.upsert, [*values[:-1], int(erasure.directory), done, report]))

    def do(self, statement: Statement, values: Row) -> None:
        self.rows.append((statement, values))

    def put_delivered(self, attempt: AttemptRecord) -> None:
        self._over(attempt, "delivered")

    def put_failed(self, attempt: AttemptRecord, due: float | None) -> None:
        if due is None:
            self._over(attempt, "dead")
            return
        self.rows.append((_AGAIN, (due, attempt.error, attempt.delivery)))
        self._add_attempt(attempt)

    def _over(self, attempt: AttemptRecord, state: str) -> None:
        at = attempt.at + attempt.took
        self.rows.append((_DONE, (state, at, attempt.error, attempt.delivery)))
        self.rows.append((_RELEASE, (at, attempt.delivery)))
        self._add_attempt(attempt)

    def _add_attempt(self, attempt: AttemptRecord) -> None:
        self.rows.append((_ADD_ATTEMPT, ATTEMPTS.values(attempt)))
        if attempt.number > KEPT_ATTEMPTS:
            self.rows.append((_FORGET_ATTEMPTS, (attempt.delivery, attempt.number - KEPT_ATTEMPTS)))

    def retry_delivery(self, delivery: int, at: float) -> None:
        self.rows.append((_RETRY, (at, at, delivery)))
        self.rows.append((_STEP_BACK, (delivery, delivery, delivery)))

    def drop_delivery(self, delivery: int, at: float) -> None:
        self.rows.append((_DROP, (at, delivery)))
        self.rows.append((_RELEASE, (at, delivery)))

    def emit(
        self,
        type: str,
        at: float,
        body: Mapping[str, Any],
        *,
        call: str | None = None,
        agents: Sequence[str] = (),
    ) -> None:
        if "seq" in body or "type" in body or "at" in body:
            raise ValueError("an event's body has no seq, type or at of its own")
        head = b'"type":"%b","at":"%b"' % (type.encode(), iso_utc(at).encode())
        rest = json_bytes(body)
        self.events.append(
            EventDraft(type, at, call, tuple(agents), head + (b"}" if rest == b"{}" else b"," + rest[1:]))
        )


def _party_columns(call: CallRecord) -> tuple[str | None, str | None]:
    """What a call's party is found by."""
    return (None, None) if call.party is None else _party_key(call.party)


def _party_key(party: Json) -> tuple[str | None, str | None]:
    id = party.get("id")
    return party.get("adapter"), None if id is None else str(id)


_second = (0, "1970-01-01T00:00:00")


def iso_utc(at: float) -> str:
    """ISO 8601 in UTC with milliseconds: `2026-01-31T12:34:56.789Z`."""
    global _second
    milliseconds = round(at * 1000)
    whole = milliseconds // 1000
    known, text = _second
    if known != whole:
        text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(whole))
        _second = (whole, text)
    return f"{text}.{milliseconds % 1000:03d}Z"


def json_bytes(value: Any) -> bytes:
    """Compact JSON in UTF-8, whatever a CRM or a caller put into `value`.

    Half a surrogate pair (from badly encoded names) becomes `?`, an integer beyond 64 bits a text of digits.
    """
    try:
        return orjson.dumps(value, default=_jsonable)
    except TypeError:
        return orjson.dumps(_cleaned(value), default=_jsonable)


def json_text(value: Any) -> str:
    return json_bytes(value).decode()


def clean_text(text: str) -> str:
    """`text` with what UTF-8 cannot carry replaced by `?`."""
    return text.encode("utf-8", "replace").decode()


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no JSON")


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, Mapping):
        return {_cleaned(key) if isinstance(key, str) else key: _cleaned(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(v) for v in value]
    return value
