"""The questions that can be put to the central log, as SQL over one connection, answered at once.

Who asks in which thread, and all writing, is the business of `cti.store.sqlite`.
"""

import hashlib
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from operator import itemgetter
from typing import Any

import orjson
from attrs import evolve

from cti.store.base import CallbackFilter, CallDetail, CallFilter, DeliveryDetail, OutboxFilter, StoreError
from cti.store.counts import Count
from cti.store.personal import Listing
from cti.store.records import (
    AgentRecord,
    AskedOnce,
    AuditRecord,
    CallbackRecord,
    CallRecord,
    ChoiceRecord,
    Delivery,
    ErasureRecord,
    GapRecord,
    Json,
    LifeRecord,
    ListedNumber,
    NewcomerRecord,
    OutboxRecord,
    PastCalls,
    PeriodRecord,
    ReservationRecord,
    SessionRecord,
    StoredEvent,
    TokenRecord,
    UserRecord,
    WrapUpRecord,
)
from cti.store.rows import (
    AGENTS,
    ASKED_ONCE,
    ATTEMPTS,
    AUDIT,
    CALLBACKS,
    CALLS,
    CARDS,
    CHANNELS,
    CHOICES,
    DECISIONS,
    ERASURES,
    GAPS,
    JOURNAL,
    JOURNAL_TRIES,
    LIVES,
    NEWCOMERS,
    NUMBER_LISTS,
    PERIODS,
    RESERVATIONS,
    SEGMENTS,
    SESSIONS,
    TOKENS,
    USERS,
    WRAP_UPS,
    Row,
)

LONGEST_PAGE = 10_000
_FOR_EVER = 1e18
#: How many calls or choices are looked at to tell who a number was last.
_REMEMBERED = 20
#: How many calls of one number are looked at for who talked with it last, in each direction; and for its tries.
_SPOKEN_AMONG = 200
_TRIES_AMONG = 1000

# Whom a call was offered to stands in its segments, as JSON.
_OFFERED = (
    "(agent IS NULL OR agent <> ?) AND EXISTS (SELECT 1 FROM segments, json_each(segments.agents) AS offered"
    " WHERE segments.call = calls.id AND offered.value = ?)"
)

_MAY_SEE = (
    "(owner = ? OR owner IS NULL AND"
    " (EXISTS (SELECT 1 FROM json_each(callbacks.agents) AS one WHERE one.value = ?)"
    " OR EXISTS (SELECT 1 FROM json_each(callbacks.groups) AS one WHERE one.value"
)

_EVENT = "seq, type, at, call, agents, body"
_DELIVERY = (
    "SELECT o.id, o.destination, e.call, o.seq, o.key, e.type, e.body,"
    " COALESCE(o.again, o.created), o.attempts, o.due FROM outbox AS o JOIN events AS e ON e.seq = o.seq"
)
_OUTBOX = (
    "SELECT o.id, o.destination, o.seq, e.call, e.type, o.key, o.state, o.created, o.attempts, o.due, o.finished,"
    " o.error FROM outbox AS o JOIN events AS e ON e.seq = o.seq"
)
_LOG = ("seq", "destination", "type", "key", "state", "created", "attempts", "due", "finished", "error")


class Reader:
    """All reads of `IStore`, answered at once. `StoreError` when the database cannot be read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        _ = self.store_id  # what is no database of ours is refused here

    @cached_property
    def store_id(self) -> str:
        """The database's own random name."""
        id: str = self._all("SELECT id FROM store")[0][0]
        return id

    def close(self) -> None:
        self._connection.close()

    def interrupt(self) -> None:
        """Make a query that runs in another thread end with `StoreError`."""
        self._connection.interrupt()

    def _all(self, sql: str, parameters: Row = ()) -> list[Any]:
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the database cannot be read: {error}") from error

    def agents(self) -> Sequence[AgentRecord]:
        return [AGENTS.load(row) for row in self._all(f"SELECT {AGENTS.columns} FROM agents ORDER BY id")]

    def noted(self, writer: str) -> int:
        rows = self._all("SELECT number FROM writers WHERE writer = ?", (writer,))
        return rows[0][0] if rows else 0

    def reservations(self) -> Sequence[ReservationRecord]:
        rows = self._all(f"SELECT {RESERVATIONS.columns} FROM reservations ORDER BY agent, call")
        return [RESERVATIONS.load((*held, bool(connected))) for *held, connected in rows]

    def tokens(self) -> Sequence[TokenRecord]:
        return [
            TOKENS.load(row) for row in self._all(f"SELECT {TOKENS.columns} FROM tokens ORDER BY created, id")
        ]

    def token(self, digest: str) -> TokenRecord | None:
        rows = self._all(f"SELECT {TOKENS.columns} FROM tokens WHERE digest = ?", (digest,))
        return TOKENS.load(rows[0]) if rows else None

    def asked_once(self, who: str, key: str) -> AskedOnce | None:
        rows = self._all(f"SELECT {ASKED_ONCE.columns} FROM asked_once WHERE who = ? AND key = ?", (who, key))
        return ASKED_ONCE.load(rows[0]) if rows else None

    def users(self) -> Sequence[UserRecord]:
        return [_user(row) for row in self._all(f"SELECT {USERS.columns} FROM users ORDER BY name")]

    def user(self, name: str) -> UserRecord | None:
        rows = self._all(f"SELECT {USERS.columns} FROM users WHERE name = ?", (name,))
        return _user(rows[0]) if rows else None

    def session(self, digest: str) -> tuple[SessionRecord, UserRecord] | None:
        rows = self._all(f"SELECT {SESSIONS.columns} FROM sessions WHERE digest = ?", (digest,))
        if not rows:
            return None
        session = SESSIONS.load(rows[0])
        user = self.user(session.user)
        return None if user is None else (session, user)

    def key(self, name: str) -> str | None:
        rows = self._all("SELECT value FROM keys WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def audit(
        self, who: str | None, object: str | None, limit: int, before: int | None
    ) -> tuple[Sequence[tuple[int, AuditRecord]], int | None]:
        terms = [
            (column, value)
            for column, value in (("who =", who), ("object =", object), ("id <", before))
            if value is not None
        ]
        where = " AND ".join(f"{column} ?" for column, _ in terms) or "1 = 1"
        rows = self._all(
            f"SELECT id, {AUDIT.columns} FROM audit WHERE {where} ORDER BY id DESC LIMIT ?",
            (*(value for _, value in terms), limit + 1),
        )
        page = [(id, AUDIT.load(row)) for id, *row in rows[:limit]]
        return page, page[-1][0] if len(rows) > limit else None

    def call_by_channel(self, pbx: str, uniqueid: str) -> str | None:
        rows = self._all("SELECT call FROM channels WHERE pbx = ? AND uniqueid = ?", (pbx, uniqueid))
        return rows[0][0] if rows else None

    def heard(self, pbx: str) -> float | None:
        rows = self._all("SELECT at FROM heard WHERE pbx = ?", (pbx,))
        return rows[0][0] if rows else None

    def gaps(
        self, since: float | None, until: float | None, limit: int, after: str | None = None
    ) -> tuple[Sequence[GapRecord], str | None]:
        place = (_FOR_EVER, "") if after is None else self._position(after)
        rows = self._all(
            f"SELECT {GAPS.columns} FROM gaps WHERE until >= ? AND since < ? AND (since, pbx) < (?, ?)"
            " ORDER BY since DESC, pbx DESC LIMIT ?",
            (since or 0.0, _FOR_EVER if until is None else until, *place, limit + 1),
        )
        page = [GAPS.load(row) for row in rows[:limit]]
        return page, self._cursor(page[-1].since, page[-1].pbx) if len(rows) > limit else None

    def counted(self, count: Count, since: float, until: float) -> Sequence[Row]:
        return self._all(*count.statement(since, until))

    def open_periods(self) -> Sequence[PeriodRecord]:
        rows = self._all(f"SELECT {PERIODS.columns} FROM periods WHERE ended IS NULL ORDER BY agent")
        return [PERIODS.load(row) for row in rows]

    def last_life(self) -> LifeRecord | None:
        rows = self._all(f"SELECT {LIVES.columns} FROM lives ORDER BY seen DESC LIMIT 1")
        return LIVES.load(rows[0]) if rows else None

    def listed_numbers(self) -> Sequence[ListedNumber]:
        rows = self._all(f"SELECT {NUMBER_LISTS.columns} FROM number_lists ORDER BY list, pattern")
        return [NUMBER_LISTS.load(row) for row in rows]

    def chosen_for(self, number: str) -> Sequence[ChoiceRecord]:
        rows = self._all(
            f"SELECT {CHOICES.columns} FROM choices WHERE number = ? ORDER BY at DESC LIMIT ?",
            (number, _REMEMBERED),
        )
        return [CHOICES.load(row) for row in rows]

    def spoken_with(self, number: str) -> Sequence[Json]:
        found: list[tuple[float, str]] = []
        for side in ("from_number", "to_number"):
            # Of the latest of all calls, or a number with many that nobody answered would be read through.
            found += self._all(
                "SELECT started, party FROM (SELECT started, party, answered FROM calls"
                f" WHERE {side} = ? ORDER BY started DESC, id DESC LIMIT ?)"
                " WHERE answered IS NOT NULL AND party IS NOT NULL",
                (number, _REMEMBERED),
            )
        return [orjson.loads(party) for _, party in sorted(found, key=itemgetter(0), reverse=True)]

    def past_calls(
        self, number: str, called: Sequence[str], since: float, before: float, but: str | None = None
    ) -> PastCalls:
        """As `IStore.past_calls`: each question is a range of the index of the numbers."""
        talks: list[tuple[float, str]] = []
        for side in ("from_number", "to_number"):
            talks += self._all(
                "SELECT CASE WHEN ended < ? THEN ended ELSE ? END AS spoken, agent"
                " FROM (SELECT started, id, answered, ended, agent FROM calls"
                f" WHERE {side} = ? AND started < ? ORDER BY started DESC, id DESC LIMIT ?) AS latest"
                " WHERE answered < ? AND agent IS NOT NULL AND id <> ? ORDER BY started DESC, id DESC LIMIT 1",
                (before, before, number, before, _SPOKEN_AMONG, before, but or ""),
            )
        last = max(talks, default=None)
        # PostgreSQL has no empty list.
        marks = ", ".join("?" * len(called)) or "NULL"
        ((tries,),) = self._all(
            "SELECT COUNT(*) FROM (SELECT id, direction, to_number, answered FROM calls"
            " WHERE from_number = ? AND started >= ? AND started < ?"
            " ORDER BY started DESC, id DESC LIMIT ?) AS latest"
            " WHERE (answered IS NULL OR answered >= ?)"
            f" AND direction = 'inbound' AND to_number IN ({marks}) AND id <> ?",
            (number, since, before, _TRIES_AMONG, before, *called, but or ""),
        )
        return PastCalls(None, None, tries) if last is None else PastCalls(last[1], last[0], tries)

    def waiting_newcomers(self, limit: int) -> Sequence[NewcomerRecord]:
        rows = self._all(
            f"SELECT {NEWCOMERS.columns} FROM newcomers WHERE state = 'waiting' ORDER BY due LIMIT ?",
            (limit,),
        )
        return [NEWCOMERS.load(row) for row in rows]

    def wrap_ups(self) -> Sequence[WrapUpRecord]:
        rows = self._all(f"SELECT {WRAP_UPS.columns} FROM wrap_ups ORDER BY agent")
        return [WRAP_UPS.load(row) for row in rows]

    def count_unwritten(self, agent: str) -> int:
        count: int = self._all("SELECT COUNT(*) FROM unwritten WHERE agent = ?", (agent,))[0][0]
        return count

    def unwritten(
        self, agent: str, limit: int, after: str | None = None
    ) -> tuple[Sequence[CallDetail], str | None]:
        """As `IStore.unwritten`."""
        since, id = (_FOR_EVER, "") if after is None else self._position(after)
        rows = self._all(
            "SELECT since, call FROM unwritten WHERE agent = ? AND (since, call) < (?, ?)"
            " ORDER BY since DESC, call DESC LIMIT ?",
            (agent, since, id, limit + 1),
        )
        page = [self.call(call) for _, call in rows[:limit]]
        following = self._cursor(*rows[limit - 1]) if len(rows) > limit else None
        return [detail for detail in page if detail is not None], following

    def open_callbacks(self) -> Sequence[CallbackRecord]:
        rows = self._all(f"SELECT {CALLBACKS.columns} FROM callbacks WHERE state = 'open'")
        return [CALLBACKS.load(row) for row in rows]

    def callback(self, id: str) -> CallbackRecord | None:
        rows = self._all(f"SELECT {CALLBACKS.columns} FROM callbacks WHERE id = ?", (id,))
        return CALLBACKS.load(rows[0]) if rows else None

    def callbacks(
        self, where: CallbackFilter, limit: int, after: str | None = None
    ) -> tuple[Sequence[CallbackRecord], str | None]:
        """As `IStore.callbacks`."""
        terms: list[tuple[str, Row]] = [("1 = 1", ())]
        if where.state is not None:
            terms.append(("state = ?", (where.state,)))
        if where.unowned:
            terms.append(("owner IS NULL", ()))
        elif where.owner is not None:
            terms.append(("owner = ?", (where.owner,)))
        if where.for_agent is not None:
            # PostgreSQL has no empty list.
            marks = ", ".join("?" * len(where.groups)) or "NULL"
            terms.append((f"{_MAY_SEE} IN ({marks}))))", (where.for_agent, where.for_agent, *where.groups)))
        if after is not None:
            terms.append(("(created, id) < (?, ?)", self._position(after)))
        rows = self._all(
            f"SELECT {CALLBACKS.columns} FROM callbacks WHERE {' AND '.join(term for term, _ in terms)}"
            " ORDER BY created DESC, id DESC LIMIT ?",
            [*(value for _, values in terms for value in values), limit + 1],
        )
        page = [CALLBACKS.load(row) for row in rows[:limit]]
        return page, self._cursor(page[-1].created, page[-1].id) if len(rows) > limit else None

    def open_calls(self) -> Sequence[CallDetail]:
        rows = self._all(f"SELECT {CALLS.columns} FROM calls WHERE state <> 'ended' ORDER BY started, id")
        return [self._detail(CALLS.load(row)) for row in rows]

    def call(self, id: str) -> CallDetail | None:
        rows = self._all(f"SELECT {CALLS.columns} FROM calls WHERE id = ?", (id,))
        return self._detail(CALLS.load(rows[0])) if rows else None

    def _detail(self, call: CallRecord) -> CallDetail:
        def rows(columns: str, table: str, order: str) -> list[Any]:
            return self._all(f"SELECT {columns} FROM {table} WHERE call = ? ORDER BY {order}", (call.id,))

        return CallDetail(
            call=call,
            segments=[SEGMENTS.load(row) for row in rows(SEGMENTS.columns, "segments", "number")],
            channels=[CHANNELS.load(row) for row in rows(CHANNELS.columns, "channels", "began, uniqueid")],
            decisions=[DECISIONS.load(row) for row in rows(DECISIONS.columns, "decisions", "attempt")],
            cards=[CARDS.load(row) for row in rows(CARDS.columns, "cards", "attempt, agent")],
            events=[event_of(row) for row in rows(_EVENT, "events", "seq")],
            deliveries=[
                dict(zip(_LOG, row, strict=True))
                for row in self._all(
                    "SELECT o.seq, o.destination, e.type, o.key, o.state, o.created, o.attempts, o.due,"
                    " o.finished, o.error FROM events AS e JOIN outbox AS o ON o.seq = e.seq"
                    " WHERE e.call = ? ORDER BY o.seq, o.destination",
                    (call.id,),
                )
            ],
            journal=[JOURNAL.load(row) for row in rows(JOURNAL.columns, "journal", "adapter, type, id")],
            tries=[
                JOURNAL_TRIES.load(row) for row in rows(JOURNAL_TRIES.columns, "journal_tries", "adapter")
            ],
        )

    def calls(
        self, where: CallFilter, limit: int, after: str | None = None
    ) -> tuple[Sequence[CallRecord], str | None]:
        """As `IStore.calls`: the time it takes grows with neither the page's number nor the log's size.

        A number may stand on either side, a party be named `ID` or `ADAPTER:ID`, an agent have talked or been
        offered the call: each of these is a range of its own index, and the page is the newest of all ranges.
        Only what an agent was offered has no index: the log is read from its newest call, or where the page
        begins, until the page is full, which takes long only for somebody who is rarely called.
        """
        if not 1 <= limit <= LONGEST_PAGE:
            raise ValueError(f"a page has 1 to {LONGEST_PAGE} calls, not {limit}")
        terms: list[tuple[str, Row]] = []
        if where.since is not None:
            terms.append(("started >= ?", (where.since,)))
        if where.until is not None:
            terms.append(("started < ?", (where.until,)))
        for column in ("direction", "outcome"):
            value = getattr(where, column)
            if value is not None:
                terms.append((f"{column} = ?", (value,)))
        if after is not None:
            # Row values, so that the start of the page is a place in the index and not a filter.
            terms.append(("(started, id) < (?, ?)", self._position(after)))
        sides: list[tuple[str, Row]] = [("1 = 1", ())]
        if where.number is not None:
            sides = [("from_number = ?", (where.number,)), ("to_number = ?", (where.number,))]
        parties: list[tuple[str, Row]] = [("1 = 1", ())]
        if where.party is not None:
            parties = [("party_id = ?", (where.party,))]
            adapter, colon, id = where.party.partition(":")
            if colon:
                parties.append(("party_id = ? AND party_adapter = ?", (id, adapter)))
        parts: list[tuple[str, Row]] = [("1 = 1", ())]
        if where.agent is not None:
            parts = [("agent = ?", (where.agent,)), (_OFFERED, (where.agent, where.agent))]
        order = "ORDER BY started DESC, id DESC LIMIT ?"
        selects = []
        parameters: list[Any] = []
        for chosen_ones in product(sides, parties, parts):
            chosen = [*chosen_ones, *terms]
            condition = " AND ".join(term for term, _ in chosen)
            selects.append(
                f"SELECT * FROM (SELECT {CALLS.columns} FROM calls WHERE {condition} {order}) AS page"
            )
            for _, values in chosen:
                parameters.extend(values)
            parameters.append(limit + 1)
        rows = self._all(" UNION ".join(selects) + " " + order, [*parameters, limit + 1])
        page = [CALLS.load(row) for row in rows[:limit]]
        return page, self._cursor(page[-1].started, page[-1].id) if len(rows) > limit else None

    def _cursor(self, at: float, id: str) -> str:
        place = f"{at!r} {id}".encode()
        return urlsafe_b64encode(self._seal(place) + place).rstrip(b"=").decode()

    def _position(self, cursor: str) -> tuple[float, str]:
        try:
            data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError:
            data = b""
        place = data[6:]
        if not place or data[:6] != self._seal(place):
            raise ValueError("this cursor was not given out here: begin again with the first page")
        started, id = place.decode().split(" ", 1)
        return float(started), id

    def _seal(self, place: bytes) -> bytes:
        return hashlib.blake2b(place, key=self.store_id.encode(), digest_size=6).digest()

    def events_after(self, seq: int, limit: int, agent: str | None = None) -> Sequence[StoredEvent]:
        if agent is None:
            rows = self._all(f"SELECT {_EVENT} FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
        else:
            rows = self._all(
                f"SELECT {_EVENT} FROM event_agents JOIN events USING (seq)"
                " WHERE agent = ? AND seq > ? ORDER BY seq LIMIT ?",
                (agent, seq, limit),
            )
        return [event_of(row) for row in rows]

    def event_range(self) -> tuple[int, int]:
        # Two statements: SQLite looks only one of them up in the index when both stand in one.
        oldest = self._all("SELECT MIN(seq) FROM events")[0][0]
        newest = self._all("SELECT MAX(seq) FROM events")[0][0]
        return (oldest or 0, newest or 0)

    def due(self, destination: str, now: float, limit: int) -> Sequence[Delivery]:
        rows = self._all(
            _DELIVERY
            + " WHERE o.destination = ? AND o.state = 'waiting' AND o.due IS NOT NULL AND o.due <= ?"
            + " ORDER BY o.due, o.id LIMIT ?",
            (destination, now, limit),
        )
        return [
            Delivery(id, name, call, seq, key, type, data_of(seq, body), created, attempts, due)
            for id, name, call, seq, key, type, body, created, attempts, due in rows
        ]

    def next_due(self, destination: str, now: float) -> float | None:
        rows = self._all(
            "SELECT MIN(due) FROM outbox"
            " WHERE destination = ? AND state = 'waiting' AND due IS NOT NULL AND due > ?",
            (destination, now),
        )
        due: float | None = rows[0][0]
        return due

    def outbox(
        self, where: OutboxFilter, limit: int, after: str | None = None
    ) -> tuple[Sequence[OutboxRecord], str | None]:
        """As `IStore.outbox`: the id is where a page begins, since it rises with the time."""
        terms: list[tuple[str, Row]] = [("1 = 1", ())]
        for column in ("o.destination", "o.state", "e.call", "e.type"):
            value = getattr(where, column.partition(".")[2])
            if value is not None:
                terms.append((f"{column} = ?", (value,)))
        if where.ids is not None:
            terms.append((f"o.id IN ({', '.join('?' * len(where.ids))})", where.ids))
        if where.since is not None:
            terms.append(("o.created >= ?", (where.since,)))
        if where.until is not None:
            terms.append(("o.created < ?", (where.until,)))
        if after is not None:
            terms.append(("o.id < ?", (int(self._position(after)[0]),)))
        rows = self._all(
            f"{_OUTBOX} WHERE {' AND '.join(term for term, _ in terms)} ORDER BY o.id DESC LIMIT ?",
            [*(value for _, values in terms for value in values), limit + 1],
        )
        page = [OutboxRecord(*row) for row in rows[:limit]]
        return page, self._cursor(float(page[-1].id), "") if len(rows) > limit else None

    def delivery(self, id: int) -> DeliveryDetail | None:
        rows = self._all(f"{_OUTBOX} WHERE o.id = ?", (id,))
        if not rows:
            return None
        record = OutboxRecord(*rows[0])
        (event,) = self._all(f"SELECT {_EVENT} FROM events WHERE seq = ?", (record.seq,))
        attempts = self._all(
            f"SELECT {ATTEMPTS.columns} FROM outbox_attempts WHERE delivery = ? ORDER BY number", (id,)
        )
        return DeliveryDetail(record, event_of(event), [ATTEMPTS.load(row) for row in attempts])

    def dead(self) -> Mapping[str, int]:
        """As `IStore.count_dead`."""
        return dict(
            self._all("SELECT destination, COUNT(*) FROM outbox WHERE state = 'dead' GROUP BY destination")
        )

    def pending(self) -> Mapping[str, tuple[int, float | None]]:
        rows = self._all(
            "SELECT destination, COUNT(*), MIN(created) FROM outbox"
            " WHERE state = 'waiting' GROUP BY destination"
        )
        return {destination: (count, oldest) for destination, count, oldest in rows}

    # What is kept of people, and for how long.

    def page_of(self, listing: Listing, after: Row | None, limit: int) -> Sequence[Row]:
        """The next rows of a table, behind the key `after`."""
        return self._all(*listing.page(after, limit))

    def undelivered(self, first: int, last: int) -> int | None:
        """The first of these events that some destination has not got yet, whether it waits or was given up."""
        rows = self._all(
            "SELECT MIN(seq) FROM outbox WHERE seq >= ? AND seq <= ? AND state IN ('waiting', 'dead')",
            (first, last),
        )
        seq: int | None = rows[0][0]
        return seq

    def purged(self, kind: str) -> float | None:
        rows = self._all("SELECT until FROM purged WHERE kind = ?", (kind,))
        return rows[0][0] if rows else None

    def erasures(self) -> Sequence[ErasureRecord]:
        return self._erasures("WHERE state <> 'done'")

    def all_erasures(self, limit: int) -> Sequence[ErasureRecord]:
        """The newest ones, done or not."""
        return self._erasures("", limit)

    def erasure(self, id: str) -> ErasureRecord | None:
        rows = self._erasures("WHERE id = ?", 1, id)
        return rows[0] if rows else None

    def _erasures(self, where: str, limit: int = 1000, *values: Any) -> Sequence[ErasureRecord]:
        rows = self._all(
            f"SELECT {ERASURES.columns} FROM erasures {where} ORDER BY id DESC LIMIT ?", (*values, limit)
        )
        found = [ERASURES.load(row) for row in rows]
        return [evolve(each, directory=bool(each.directory)) for each in found]


def _user(row: Row) -> UserRecord:
    *values, disabled = row
    return USERS.load((*values, bool(disabled)))


def event_of(row: Row) -> StoredEvent:
    """An event from its columns: seq, type, at, call, agents, body."""
    seq, type, at, call, agents, body = row
    return StoredEvent(
        seq, type, at, call, () if agents is None else tuple(orjson.loads(agents)), data_of(seq, body)
    )


def data_of(seq: int, body: str) -> bytes:
    return b'{"seq":%d,' % seq + body.encode()


#: The events numbered above one number up to another.
EVENTS_BETWEEN = f"SELECT {_EVENT} FROM events WHERE seq > ? AND seq <= ? ORDER BY seq"
