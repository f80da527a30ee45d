"""What the rest of the server may ask of a store, whichever database is behind it.

A `Unit` gathers rows, events and their outbox entries that must become true together; `IStore.commit` makes
them so. Everything in a unit is copied when it is put in: changing the record afterwards does not change
what is written.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred

from cti.store.counts import Count
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
    Delivery,
    ErasureRecord,
    GapRecord,
    HeardRecord,
    JournalRecord,
    JournalTry,
    Json,
    LifeRecord,
    ListedNumber,
    NewcomerRecord,
    OutboxRecord,
    PastCalls,
    PeriodRecord,
    ReservationRecord,
    SegmentRecord,
    SessionRecord,
    StoredEvent,
    TokenRecord,
    UserRecord,
    WrapUpRecord,
)
from cti.store.rows import Row, Statement

if TYPE_CHECKING:
    from cti.store.queries import Reader

T = TypeVar("T")


@frozen
class Subscription:
    """Which events a destination gets: those of these types, and of them those that `concerns` it.

    `concerns` is asked in the writing thread, and given the event's JSON from behind its number.
    """

    types: frozenset[str]
    concerns: Callable[[bytes], bool] | None = None


#: What each destination of the outbox gets: some of the events of these types, or all of them.
Destinations = Mapping[str, Subscription | frozenset[str]]


class StoreError(Exception):
    """The store could not do it; the text says what and what would help."""


class RecordRefused(StoreError):
    """The database works, and does not take this record: it would refuse it again."""


class StoreFull(StoreError):
    """More units wait to be written than the limit allows; nothing of this unit was taken."""


class Unit(Protocol):
    """One transaction in the making."""

    def put_call(self, call: CallRecord) -> None:
        """Of a call that is there already all but what people write: `put_written` alone changes that."""

    def put_written(self, call: CallRecord) -> None:
        """Set only what a person writes of a call: notes, disposition, and which party it is."""

    def take_party(self, call: str, party: Json) -> None:
        """Who it is, of a call of which nobody has said that yet."""

    def name_caller(self, record: CallRecord) -> None:
        """Whose number it was, of a call of which nobody could say that yet; nothing else of it."""

    def take_party_of(self, number: str, since: float, party: Json) -> None:
        """The same of all calls that came from this number since then."""

    def put_listed(self, number: ListedNumber) -> None: ...
    def remove_listed(self, list: str, pattern: str) -> None: ...
    def put_choice(self, choice: ChoiceRecord) -> None: ...
    def add_newcomer(self, newcomer: NewcomerRecord) -> None:
        """Only if there is none of this adapter and number."""

    def put_newcomer(self, newcomer: NewcomerRecord) -> None: ...
    def put_journal(self, call: str, adapter: str, records: Sequence[JournalRecord]) -> None:
        """These are what there is of the call in this CRM now, and nothing else; no try is open any more."""

    def put_journal_try(self, tried: JournalTry) -> None: ...
    def remove_journal_try(self, call: str, adapter: str) -> None: ...

    def put_segment(self, segment: SegmentRecord) -> None: ...
    def put_channel(self, channel: ChannelRecord) -> None: ...
    def put_decision(self, decision: DecisionRecord) -> None: ...
    def put_card(self, card: CardRecord) -> None: ...
    def put_agent(self, agent: AgentRecord) -> None: ...
    def put_wish(self, agent: AgentRecord) -> None:
        """Set only what the agent asks for, so that a phone set by another process is not overwritten."""

    def put_phone(self, agent: str, phone: str | None) -> None:
        """Set only the phone that an agent sits at."""

    def put_skills(self, agent: str, skills: Mapping[str, int]) -> None:
        """Set only what an agent is good at."""

    def touch_agent(self, agent: str, idle_since: float) -> None:
        """Set only `idle_since`, so that a wish set by another process meanwhile is not overwritten."""

    def remove_agent(self, agent: str) -> None: ...
    def put_reservation(self, reservation: ReservationRecord) -> None: ...
    def remove_reservation(self, agent: str, call: str) -> None: ...
    def put_wrap_up(self, wrap_up: WrapUpRecord) -> None: ...
    def remove_wrap_up(self, agent: str) -> None: ...
    def add_wrap_up(self, call: str, segment: int, seconds: float) -> None:
        """An agent has written their part of a call up for so long."""

    def put_unwritten(self, agent: str, call: str, since: float) -> None:
        """The agent owes the call a disposition."""

    def remove_unwritten(self, call: str) -> None: ...
    def put_callback(self, callback: CallbackRecord) -> None: ...
    def put_period(self, period: PeriodRecord) -> None:
        """The agent is in this state from `began` on, and in no other any more."""

    def end_period(self, agent: str, at: float) -> None:
        """Nobody says from then on what state the agent is in."""

    def put_life(self, life: LifeRecord) -> None: ...
    def put_owner_answered(self, call: str) -> None:
        """The first who answered this call is who the CRM says owns the caller."""

    def put_answered_by(self, call: str, agent: str, number: str, started: float) -> None:
        """Note whether the first who answered is who talked last, before that, with this number."""

    def put_heard(self, heard: HeardRecord) -> None: ...
    def put_gap(self, gap: GapRecord) -> None: ...
    def put_token(self, token: TokenRecord) -> None: ...
    def put_asked_once(self, asked: AskedOnce) -> None: ...
    def remove_asked_once(self, who: str, key: str) -> None: ...
    def trim_asked_once(self, who: str, keep: int) -> None:
        """Remove all of theirs but the newest `keep`."""

    def forget_asked_once(self, before: float) -> None:
        """Remove those that were asked before this time."""

    def put_user(self, user: UserRecord) -> None: ...
    def remove_user(self, name: str) -> None: ...
    def put_session(self, session: SessionRecord) -> None: ...
    def touch_session(self, digest: str, used: float) -> None: ...
    def end_session(self, digest: str) -> None: ...
    def end_sessions(self, user: str) -> None:
        """All of this user's."""

    def forget_sessions(self, expired: float, idle_since: float) -> None:
        """Those that expired before, or were not used since."""

    def put_key(self, name: str, value: str) -> None:
        """Only if there is none of this name."""

    def add_audit(self, entry: AuditRecord) -> None: ...
    def put_erasure(self, erasure: ErasureRecord) -> None: ...
    def do(self, statement: Statement, values: Row) -> None:
        """One of the statements of `cti.store.personal`."""

    def put_delivered(self, attempt: AttemptRecord) -> None:
        """The delivery was taken: the next one of its lane has its turn."""

    def put_failed(self, attempt: AttemptRecord, due: float | None) -> None:
        """The delivery was not taken, and is due again then; None: it is given up, and the next has its turn."""

    def retry_delivery(self, delivery: int, at: float) -> None:
        """It is due at once, whatever became of it, and before those of its lane that came after it."""

    def drop_delivery(self, delivery: int, at: float) -> None:
        """It is not to be delivered any more; the next one of its lane has its turn."""

    def emit(
        self,
        type: str,
        at: float,
        body: Mapping[str, Any],
        *,
        call: str | None = None,
        agents: Sequence[str] = (),
    ) -> None:
        """Append an event. Its JSON is `{"seq": N, "type": type, "at": "…Z", **body}`.

        An outbox entry is written with it for each destination that subscribes to `type`.
        """


@frozen
class CallFilter:
    """Filters of the call log; None means any.

    `number` is E.164, or an internal number as it is dialled, and matches either side. `agent` is who talked or
    was offered it. `party` is `ID` or `ADAPTER:ID`.
    """

    since: float | None = None
    until: float | None = None
    number: str | None = None
    agent: str | None = None
    party: str | None = None
    direction: str | None = None
    outcome: str | None = None


@frozen
class CallbackFilter:
    """Filters of the callbacks; None means any.

    `owner` is an agent's id, `unowned` asks for those of nobody. `for_agent`, with their `groups`, leaves those that
    this agent may see: their own, and those of nobody that they may take.
    """

    state: str | None = None
    owner: str | None = None
    unowned: bool = False
    for_agent: str | None = None
    groups: Sequence[str] = ()


@frozen
class OutboxFilter:
    """Filters of the outbox; None means any. `since` and `until` are of when a delivery was made.

    `ids`: these, a few hundred at most.
    """

    destination: str | None = None
    state: str | None = None
    call: str | None = None
    type: str | None = None
    since: float | None = None
    until: float | None = None
    ids: Sequence[int] | None = None


@frozen
class DeliveryDetail:
    """One delivery with the event that it carries and its latest attempts, in order."""

    delivery: OutboxRecord
    event: StoredEvent
    attempts: Sequence[AttemptRecord]


@frozen
class CallDetail:
    """One call with all that belongs to it, in order."""

    call: CallRecord
    segments: Sequence[SegmentRecord]
    channels: Sequence[ChannelRecord]
    decisions: Sequence[DecisionRecord]
    cards: Sequence[CardRecord]
    events: Sequence[StoredEvent]
    deliveries: Sequence[Mapping[str, Any]]
    journal: Sequence[JournalRecord] = ()
    tries: Sequence[JournalTry] = ()


class IClaims(Protocol):
    """Who of several servers on one database holds an agent."""

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def take(self, agents: Collection[str]) -> "Deferred[frozenset[str]]":
        """Have these agents for this server. Fires with those whom another one has; then it is none of them.

        Never fails, and fires soon. Whom it has already it keeps; where nobody can say, they count as its own.
        """

    def mirror(self, agent: str, held: bool) -> None:
        """This server holds the agent, however that came, or does not any more."""


class IStore(Protocol):
    """The central log, the outbox and the state of agents."""

    def start(self) -> None:
        """Open the database, bring its schema up to date and start writing. Raises `StoreError`."""

    def stop(self) -> "Deferred[None]":
        """Write what was handed in, then close."""

    def noted(self, writer: str) -> int:
        """The number of the latest unit of a spool that is in the database; 0 if none is."""

    def writing(self) -> str | None:
        """What keeps the store from writing at present; None when it writes, or would if it were asked to."""

    def unit(self) -> Unit: ...

    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]":
        """Make the unit durable; fires once a crash can no longer undo it.

        Units become durable in the order in which they are handed in. One `at_leisure`, that nobody waits for, may
        be kept for a moment, so that it shares the next one's way to the disk.

        Listeners (`on_events`) have been told of the unit's events when it fires. Cancelling the Deferred
        stops the waiting, not the writing. Fails with `StoreError`.
        """

    def commit_for_caller(self, unit: Unit) -> "Deferred[Sequence[StoredEvent]]":
        """`commit` for a unit that a caller waits for: with a spool, it is durable there where the database is slow,
        and its events come later.
        """

    def on_events(self, listener: Callable[[Sequence[StoredEvent]], None]) -> None:
        """Call `listener` in the reactor, in commit order, with each batch of events once durable."""

    def on_foreign_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` when another process (the command line) has written to the database."""

    @property
    def leads(self) -> bool:
        """Whether this server does what one of several on a database has to do for all of them."""

    def on_leading(self, listener: Callable[[], None]) -> None:
        """Call `listener` when this server leads from now on, as the one that did is gone."""

    # Reading; calls that may take long return Deferreds, small ones answer at once.
    def agents(self) -> Sequence[AgentRecord]: ...
    def reservations(self) -> Sequence[ReservationRecord]: ...
    def tokens(self) -> Sequence[TokenRecord]: ...
    def token(self, digest: str) -> TokenRecord | None: ...
    def asked_once(self, who: str, key: str) -> AskedOnce | None: ...
    def users(self) -> Sequence[UserRecord]: ...
    def user(self, name: str) -> UserRecord | None: ...
    def session(self, digest: str) -> tuple[SessionRecord, UserRecord] | None: ...
    def key(self, name: str) -> str | None: ...
    def audit(
        self, who: str | None, object: str | None, limit: int, before: int | None
    ) -> "Deferred[tuple[Sequence[tuple[int, AuditRecord]], int | None]]":
        """Entries with their ids, newest first, those before id `before`; and the `before` of the next page."""

    def heard(self, pbx: str) -> float | None:
        """Until when this Asterisk was heard; None if it never was."""

    def listed_numbers(self) -> Sequence[ListedNumber]: ...
    def chosen_for(self, number: str) -> Sequence[ChoiceRecord]:
        """Whom agents said that this number was, the last one first; a few."""

    def spoken_with(self, number: str) -> Sequence[Json]:
        """The parties of the latest calls from and to this number that were answered, the last one first; a few."""

    def past_calls(
        self, number: str, called: Sequence[str], since: float, before: float, but: str | None = None
    ) -> "Deferred[PastCalls]":
        """The calls with this number that began before this time, and are not the one with the id `but`.

        Tries are its calls to one of the numbers `called` since then. A talk that goes on has ended `before`. Of each
        direction the latest 200 calls are looked at for the talk, and of the tries 1000.
        """

    def waiting_newcomers(self, limit: int) -> Sequence[NewcomerRecord]:
        """Those who are not in their CRM yet, by when they are due."""

    def wrap_ups(self) -> Sequence[tuple[WrapUpRecord, CallDetail | None]]:
        """Who writes up what, with the call."""

    def count_unwritten(self, agent: str) -> int: ...
    def unwritten(
        self, agent: str, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallDetail], str | None]]":
        """A page of the calls to which this agent owes a disposition, newest first, as `calls`."""

    def open_callbacks(self) -> Sequence[CallbackRecord]: ...
    def callbacks(
        self, where: CallbackFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallbackRecord], str | None]]":
        """A page, newest first, as `calls`."""

    def callback(self, id: str) -> CallbackRecord | None: ...
    def open_calls(self) -> Sequence[CallDetail]: ...
    def call_by_channel(self, pbx: str, uniqueid: str) -> str | None: ...
    def calls(
        self, where: CallFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallRecord], str | None]]":
        """A page, newest first, and the cursor of the next one (None at the end).

        Raises `ValueError` for a cursor that was not given out.
        """

    def call(self, id: str) -> "Deferred[CallDetail | None]": ...
    def read(self, question: "Callable[[Reader], T]") -> "Deferred[T]":
        """Put a question that may take long, in a thread."""

    def erasures(self) -> Sequence[ErasureRecord]:
        """Those that are not done; in a healthy server there are none, or one."""

    def gaps(
        self, since: float | None, until: float | None, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[GapRecord], str | None]]":
        """A page of the gaps that overlap this time, newest first, and the cursor of the next one."""

    def counted(self, count: Count, since: float, until: float) -> "Deferred[Sequence[Row]]":
        """The rows of a count (`cti.store.counts`) over this time."""

    def open_periods(self) -> Sequence[PeriodRecord]: ...
    def last_life(self) -> LifeRecord | None:
        """The server that said last that it is there."""

    def events_after(self, seq: int, limit: int, agent: str | None = None) -> Sequence[StoredEvent]:
        """The next events after a number, in order; with an agent's id, of those that are meant for them."""

    def event_range(self) -> tuple[int, int]:
        """(oldest kept, newest); (0, 0) when there is none."""

    # The outbox.
    def due(self, destination: str, now: float, limit: int) -> Sequence[Delivery]:
        """Deliveries that may be tried now: of each call only its oldest that is undelivered."""

    def next_due(self, destination: str, now: float) -> float | None:
        """When the first delivery that may not be tried yet (at `now`) may be; None when there is none."""

    def outbox(
        self, where: OutboxFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[OutboxRecord], str | None]]":
        """A page, newest first, as `calls`."""

    def delivery(self, id: int) -> "Deferred[DeliveryDetail | None]": ...
    def count_pending(self) -> "Deferred[Mapping[str, tuple[int, float | None]]]":
        """What `pending` says, counted in a thread: after a long outage there is much to count."""

    def pending(self) -> Mapping[str, tuple[int, float | None]]:
        """Per destination: how many wait, and when the oldest was created."""

    def count_dead(self) -> "Deferred[Mapping[str, int]]":
        """Per destination: how many deliveries were given up and wait for somebody to decide."""

    def subscribe(self, destinations: Destinations) -> None:
        """Who gets which events from now on; before `start`, what it was made with counts."""
