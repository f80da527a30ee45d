"""The rows of the central log as Python sees them: plain values, no behaviour of a call, no SQL.

Times are seconds since the epoch (UTC, float), durations seconds. Which words a column may hold is said
here; what moves a call from one to the next is the business of `cti.calls`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

Json = Mapping[str, Any]
#: What names a channel: the Asterisk it is of, and its uniqueid there.
Key = tuple[str, str]


@define
class CallRecord:
    """One conversation that a caller asked for.

    `state`: `asked` (Asterisk waits for a decision), `offered` (agents are being rung), `waiting` (in a line),
    `connected`, `elsewhere` (at the fallback, in observe mode, or wherever the decision sent it), `ended`.
    `outcome` is None until the end; its words are the contract's.
    """

    id: str
    pbx: str
    started: float
    direction: str = "inbound"
    parent: str | None = None
    uniqueid: str | None = None
    linkedid: str | None = None
    state: str = "asked"
    from_number: str | None = None
    from_raw: str = ""
    from_kind: str = "unavailable"
    to_number: str | None = None
    to_raw: str = ""
    service: str | None = None
    mode: str | None = None
    party: Json | None = None
    agent: str | None = None
    outcome: str | None = None
    queued: float | None = None
    ringing: float | None = None
    answered: float | None = None
    ended: float | None = None
    wrap_up: float | None = None
    attempt: int = 0
    rule: str | None = None
    reason: str | None = None
    identify_ms: float | None = None
    setup_ms: float | None = None
    hangup_cause: int | None = None
    notes: str | None = None
    disposition: str | None = None
    recording: str | None = None
    closed_by: str | None = None
    places: Json | None = None


@define
class SegmentRecord:
    """One offer of a call to one or more agents, and what came of it.

    `rule` is None, and `target` empty, where nobody decided: a transfer, a pickup, the fallback reached them.
    `result` is None while open, then `answered`, `no_answer`, `busy`, `failed`, `abandoned` (the caller left
    while it rang), `forwarded` (the phone, or whoever had it ring, sent the call on) or `lost` (nobody can say:
    Asterisk restarted, or hung up on us before it had the whole answer).
    """

    call: str
    number: int
    attempt: int
    service: str | None
    agents: Sequence[str]
    target: str
    rule: str | None
    reason: str
    offered: float
    ringing: float | None = None
    answered: float | None = None
    ended: float | None = None
    agent: str | None = None
    wrap_up: float | None = None
    result: str | None = None


@define
class ChannelRecord:
    """One Asterisk channel of a call; (pbx, uniqueid) names it. `role`: `caller`, `agent`, `peer` or `other`.

    A call that goes on at another Asterisk of ours has a `peer` where it leaves, one more `caller` where it arrives.
    `device` is what it belongs to, such as `PJSIP/anna`; `name` its own, such as `PJSIP/anna-0000001f`.
    """

    pbx: str
    uniqueid: str
    call: str
    device: str
    role: str
    began: float
    segment: int | None = None
    agent: str | None = None
    answered: float | None = None
    ended: float | None = None
    cause: int | None = None
    name: str = ""

    @property
    def key(self) -> Key:
        return self.pbx, self.uniqueid


@frozen
class PastCalls:
    """What the log has of one number. `last_agent`: who talked with it last; `last_spoken`: when that talk ended.

    `tries`: how many calls from it have reached nobody.
    """

    last_agent: str | None
    last_spoken: float | None
    tries: int


@frozen
class DecisionRecord:
    """One decision with the facts it was made from and the steps that led to it."""

    call: str
    attempt: int
    at: float
    service: str | None
    mode: str | None
    action: str
    agents: Sequence[str]
    target: str
    rule: str | None
    reason: str
    facts: Json
    trace: Sequence[Json]
    identification: Json | None = None
    last: str | None = None


@define
class CardRecord:
    """A client card offered to one agent. `shown` is set when a browser says that it painted it."""

    call: str
    agent: str
    attempt: int
    offered: float
    body: Json
    shown: float | None = None
    withdrawn: float | None = None


@define
class AgentRecord:
    """A person who answers. `wish` is what they asked for: `logged_out`, `ready` or `paused`.

    `crm` maps an adapter's name to the person's user id there. `idle_since` orders a group by longest idle.
    `phone` is the one of `phones`, or a desk's, that they sit at; None: all of theirs ring. `skills` maps what they
    are good at to a level, 1 to 9, the best. `concurrency`: how many calls they may have at once.
    """

    id: str
    name: str
    phones: Sequence[str] = ()
    groups: Sequence[str] = ()
    crm: Mapping[str, str] = field(factory=dict)
    wish: str = "logged_out"
    reason: str | None = None
    wish_since: float = 0.0
    idle_since: float = 0.0
    phone: str | None = None
    skills: Mapping[str, int] = field(factory=dict)
    concurrency: int = 1


@frozen
class ReservationRecord:
    """An agent held for a call until `expires`, renewed while Asterisk says that the call lives."""

    agent: str
    call: str
    attempt: int
    expires: float
    connected: bool = False


@frozen
class WrapUpRecord:
    """An agent who writes up their part of a call, the segment of this number, until `until`.

    `added`: the seconds by which they have extended it.
    """

    agent: str
    call: str
    segment: int
    began: float
    until: float
    added: float = 0.0


@frozen
class CallbackRecord:
    """A call that somebody has to make. `state`: `open`, `done` or `cancelled`.

    `owner` is the agent who has to; None: any of `agents` (who was offered the call) and of `groups`. `call` is the
    one that was missed last, `tries` how often they tried, `done_by` the call in which they were reached. `made_by`
    names who planned it, None for a missed call.

    `next`: when it is made by itself, None: it is not; `anyway`: until then, whatever the hour is at the customer's.
    `calling`: the call in which they are being called. `failed_tries`: how often we have called them in vain.
    `given_up`: since when it is left to people. `why`: why the last try came to nothing, in a word.
    `place`: where they stand in a line until then: `service`, `rule` and `since` (epoch seconds).
    """

    id: str
    created: float
    number: str
    state: str = "open"
    service: str | None = None
    owner: str | None = None
    agents: Sequence[str] = ()
    groups: Sequence[str] = ()
    note: str | None = None
    due: float | None = None
    call: str | None = None
    party: Json | None = None
    tries: int = 0
    changed: float = 0.0
    made_by: str | None = None
    done_by: str | None = None
    next: float | None = None
    anyway: float | None = None
    calling: str | None = None
    failed_tries: int = 0
    given_up: float | None = None
    why: str | None = None
    place: Json | None = None


@frozen
class ListedNumber:
    """A number on a list, `blocked` or `ignored`: E.164, or the beginning of it with a `*` behind."""

    list: str
    pattern: str
    added: float
    made_by: str
    note: str | None = None


@frozen
class ChoiceRecord:
    """Of several parties with one number (E.164), one whom an agent said that it was."""

    number: str
    adapter: str
    type: str
    id: str
    at: float
    call: str


@frozen
class NewcomerRecord:
    """A caller whom nobody knew, and whom a service wants in a CRM as a party of this `type`.

    `call` is the first of theirs, and `began` when it did. `state`: `waiting` until they are there, then `done`.
    `due`: when it is tried next; `tries`: how often it has failed.
    """

    adapter: str
    number: str
    type: str
    call: str
    service: str
    began: float
    state: str = "waiting"
    due: float = 0.0
    tries: int = 0
    party: Json | None = None


@frozen
class JournalRecord:
    """A record of a call in the CRM of this adapter: of which `type`, and by which `id`, is the CRM's to say.

    `at`: when that was written down, which is when it was made, or became another party's.
    """

    call: str
    adapter: str
    type: str
    id: str
    url: str | None
    at: float
    # Whose it is; None of those written before that was kept.
    party_type: str | None = None
    party_id: str | None = None


@frozen
class JournalTry:
    """A CRM was asked at this time to make its first record of a call, and has not answered so far."""

    call: str
    adapter: str
    at: float
    party_type: str | None = None
    party_id: str | None = None


@frozen
class PeriodRecord:
    """A time in which an agent was in one state: never `logged_out`. `ended` is None while it goes on.

    `reason`: of a pause.
    """

    agent: str
    began: float
    state: str
    reason: str | None = None
    ended: float | None = None


@frozen
class LifeRecord:
    """A time in which a server ran: since when, and when it said so last."""

    began: float
    seen: float


@frozen
class HeardRecord:
    """Until when an Asterisk was heard."""

    pbx: str
    at: float


@frozen
class GapRecord:
    """A time in which an Asterisk was not heard, so that the log may lack calls that did not pass our dialplan.

    `recovered`: how many of them were made up for out of Asterisk's own call records; None where those could not
    be read, and `why` not.
    """

    pbx: str
    since: float
    until: float
    recovered: int | None = None
    why: str | None = None


@frozen
class TokenRecord:
    """A bearer token; only its SHA-256 digest (hex) is kept."""

    id: str
    name: str
    role: str
    digest: str
    created: float
    agent: str | None = None
    expires: float | None = None
    revoked: float | None = None
    scopes: Sequence[str] | None = None
    extension: str | None = None


@frozen
class UserRecord:
    """A person who logs in, and the agent whom they are, if any.

    `password` is argon2id's text, and `changed` when it was set.
    """

    name: str
    role: str
    password: str = field(repr=False)
    created: float
    changed: float
    agent: str | None = None
    language: str | None = None
    disabled: bool = False


@frozen
class SessionRecord:
    """A browser that somebody has logged in with; only the SHA-256 digest (hex) of its id is kept.

    `used` is when it was last used, to the minute; at `expires` it ends however much it is used.
    """

    digest: str
    user: str
    created: float
    used: float
    expires: float


@frozen
class AuditRecord:
    """One thing that somebody looked at or changed. `kind` says what `who` is: `user`, `token` or `command`."""

    at: float
    who: str | None
    kind: str
    action: str
    object: str | None = None
    detail: Json | None = None
    address: str | None = None


@frozen
class AskedOnce:
    """A request with an Idempotency-Key and its answer; `status` is None while nobody knows what became of it."""

    who: str
    key: str
    digest: str
    at: float
    status: int | None = None
    media_type: str | None = None
    headers: Mapping[str, str] | None = None
    body: str | None = None


@frozen
class ErasureRecord:
    """Somebody who is taken out of everything. `state`: `asked`, `waiting` (for calls of theirs to end), `done`.

    `subject` says who it is, until it is done. `directory`: out of embedded directories as well.
    """

    id: str
    asked: float
    state: str = "asked"
    subject: Json | None = None
    directory: bool = False
    done: float | None = None
    report: Json | None = None


@frozen
class StoredEvent:
    """An event after its commit: numbered, and as the bytes (JSON, one line) that every reader gets.

    `agents`: whose browsers it is meant for, empty for an event that is only of interest to those who may
    see all calls.
    """

    seq: int
    type: str
    at: float
    call: str | None
    agents: Sequence[str]
    data: bytes


@frozen
class Delivery:
    """A row of the outbox: one event on its way to one destination.

    `key` is the idempotency key, the same at each try; `data` the event's bytes. `created`: what its age counts from,
    which is when it was made, or when somebody had it tried again.
    """

    id: int
    destination: str
    call: str | None
    seq: int
    key: str
    type: str
    data: bytes
    created: float
    attempts: int
    due: float


@frozen
class OutboxRecord:
    """The same as people see it, over or not. `state`: waiting, delivered, dead (given up by
    age), dropped by somebody.

    `due`: when it may be tried; None for one that is over, or behind another one of its call.
    """

    id: int
    destination: str
    seq: int
    call: str | None
    type: str
    key: str
    state: str
    created: float
    attempts: int
    due: float | None
    finished: float | None
    error: str | None


@frozen
class AttemptRecord:
    """One attempt at a delivery: when it began, the seconds that it `took`, and what came of it.

    `status`: what a web server answered, if it was asked; `error`: what went wrong, None if it was taken.
    """

    delivery: int
    number: int
    at: float
    took: float
    status: int | None
    error: str | None
