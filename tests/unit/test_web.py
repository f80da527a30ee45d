"""The HTTP API: who may ask what, what is answered, and what a client is told that asks wrongly."""

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from attrs import evolve, frozen
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from cti.agents.roster import AgentUnknown, AgentView, PhoneUnknown
from cti.calls.control import (
    OPERATIONS,
    Asker,
    AsteriskAway,
    AsteriskRefused,
    AsteriskSilent,
    BadTarget,
    CallUnknown,
    ControlError,
    Done,
    NotAllowed,
    NotNow,
    TooMany,
)
from cti.calls.deliveries import Deliveries
from cti.calls.notifications import NoSuchDestination, Trial
from cti.calls.present import CALL_COLUMNS, call_json, call_row, iso, moment, with_display
from cti.calls.recordings import NoRecording, RecordingAway
from cti.calls.services import Services as CallServices
from cti.calls.softphone import Softphone, Told
from cti.calls.turned_away import TurnedAway
from cti.identify.identification import Identification
from cti.metrics import Metrics
from cti.numbers import Number, NumberPlan
from cti.privacy.traces import Subject
from cti.reports.desk import ReportDesk
from cti.reports.report import Levels
from cti.settings import Identify, PauseReason, ReportSettings
from cti.store.base import CallDetail, CallFilter, OutboxFilter, StoreError
from cti.store.counts import Count, Row
from cti.store.records import (
    AskedOnce,
    CallRecord,
    CardRecord,
    ChannelRecord,
    DecisionRecord,
    ErasureRecord,
    GapRecord,
    SegmentRecord,
    StoredEvent,
    TokenRecord,
)
from cti.store.rows import ASKED_ONCE, REMOVE_ASKED_ONCE, RowUnit
from cti.store.sqlite import open_store_for_command
from cti.web.api import ROUTES
from cti.web.audit import Audit
from cti.web.call_control import PROBLEMS
from cti.web.download import PATIENCE_SECONDS
from cti.web.events import EventHub
from cti.web.export import CallExport, CallsAsLines
from cti.web.login import Login
from cti.web.masking import Masking
from cti.web.passwords import Passwords
from cti.web.routing_table import ANSWER_SECONDS
from cti.web.server import Site, make_site
from cti.web.services import Component, DryRun, Options, Privacy, Services
from cti.web.sessions import Sessions
from cti.web.shapes import SCHEMAS
from cti.web.tokens import ROLES, FailedAttempts, Identity, Tokens, digest_of, mint_token
from cti.web.transport import BODY_LIMIT, DRAIN_LIMIT, REQUEST_SECONDS, URL_LIMIT
from routing.rules import Mode, Service
from tests.unit.desktops import Behind
from tests.unit.doors import PASSWORD, QUICK, FakeDoors, a_user, at_once

SALES_DESK = Service(
    "sales",
    ("+494066969100",),
    Mode.ROUTE,
    None,
    "old-context,s,1",
    (),
    wrap_up=30,
    dispositions={"order": {"": "Order"}},
)
NOW = 1_770_110_100.25
LOOPBACK = "127.0.0.1"
ELSEWHERE = "192.0.2.7"


def a_call(**changes: Any) -> CallRecord:
    """Anna answered after 4.5 s and talked for a minute."""
    record = CallRecord(
        id="c1",
        pbx="main",
        started=NOW,
        state="ended",
        from_number="+4915228817386",
        from_raw="0152 28817386",
        from_kind="e164",
        to_number="+494066969100",
        to_raw="494066969100",
        service="sales",
        party={"adapter": "directory", "type": "contact", "id": "17", "name": "Käthe Ørsted", "url": None},
        agent="anna",
        outcome="answered",
        ringing=NOW + 0.5,
        answered=NOW + 4.5,
        ended=NOW + 64.5,
        rule="owner",
        reason="anna looks after the caller",
    )
    return evolve(record, **changes)


def a_detail(call: CallRecord) -> CallDetail:
    return CallDetail(
        call=call,
        segments=[
            SegmentRecord(
                call.id, 1, 1, "sales", ["anna"], "PJSIP/anna", "owner", "she looks after the caller",
                NOW, NOW + 0.5, NOW + 4.5, NOW + 64.5, "anna", None, "answered",
            )
        ],
        channels=[ChannelRecord("main", "1770110100.1", call.id, "PJSIP/trunk-1", "caller", NOW)],
        decisions=[
            DecisionRecord(
                call.id, 1, NOW, "sales", "route", "dial", ["anna"], "PJSIP/anna", "owner", "…",
                {"at": NOW, "party.owner": "u1"}, [{"rule": "owner", "held": True}],
            )
        ],
        cards=[CardRecord(call.id, "anna", 1, NOW, {"title": "Käthe"})],
        events=[StoredEvent(1, "call.offered", NOW, call.id, (), b'{"seq":1,"type":"call.offered"}')],
        deliveries=[{"destination": "crm", "state": "waiting", "created": NOW, "due": NOW + 1, "finished": None}],
    )  # fmt: skip


class NothingToTell:
    """An outbox in which nothing is; a full one is asked of a running server, in tests/api."""

    def outbox(self, where: OutboxFilter, limit: int, after: str | None = None) -> "Deferred[Any]":
        return succeed(([], None))

    def delivery(self, id: int) -> "Deferred[Any]":
        return succeed(None)

    def count_pending(self) -> "Deferred[Any]":
        return succeed({})

    count_dead = count_pending

    def unit(self) -> Any:
        return RowUnit()

    def commit(self, unit: Any, *, at_leisure: bool = False) -> "Deferred[Any]":
        return succeed([])

    def state(self) -> Mapping[str, Any]:
        return {}

    def look(self) -> None:
        pass


async def nobody_to_tell(name: str) -> Trial:
    raise NoSuchDestination(f"there is no {name}")


class FakeStore:
    """The reading that the web does, in memory."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []
        self.details: dict[str, CallDetail] = {}
        self.kept_tokens: dict[str, TokenRecord] = {}
        self.events: list[StoredEvent] = []
        self.found_gaps: list[GapRecord] = []
        self.filters: list[tuple[CallFilter, int, str | None]] = []
        self.broken = False
        self.lookups = 0
        self.asked: dict[tuple[str, str], AskedOnce] = {}
        self.pending: Deferred[None] | None = None

    def token(self, digest: str) -> TokenRecord | None:
        assert len(digest) == 64
        self.lookups += 1
        return self.kept_tokens.get(digest)

    def calls(
        self, where: CallFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallRecord], str | None]]":
        self.filters.append((where, limit, after))
        if self.broken:
            return fail(StoreError("the disk is full"))
        if after not in (None, "more"):
            return fail(ValueError(f"{after!r} was not given out"))
        return succeed((self.records[:limit], "more" if len(self.records) > limit else None))

    def counted(self, count: Count, since: float, until: float) -> "Deferred[Sequence[Row]]":
        return fail(StoreError("the disk is full")) if self.broken else succeed([])

    def call(self, id: str) -> "Deferred[CallDetail | None]":
        return succeed(self.details.get(id))

    def gaps(
        self, since: float | None, until: float | None, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[GapRecord], str | None]]":
        found = [
            gap for gap in self.found_gaps if gap.until >= (since or 0.0) and gap.since < (until or 1e18)
        ]
        return succeed((found[:limit], "more" if len(found) > limit else None))

    def asked_once(self, who: str, key: str) -> AskedOnce | None:
        return self.asked.get((who, key))

    def unit(self) -> Any:
        return RowUnit()

    def commit(self, unit: Any) -> "Deferred[None]":
        """Only what `Once` writes."""
        if self.broken:
            return fail(StoreError("the disk is full"))
        for statement, row in unit.rows:
            if statement is ASKED_ONCE.upsert:
                record = ASKED_ONCE.load(row)
                self.asked[record.who, record.key] = record
            elif statement is REMOVE_ASKED_ONCE:
                del self.asked[tuple(row)]
        return succeed(None) if self.pending is None else self.pending

    def unwritten(
        self, agent: str, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallDetail], str | None]]":
        return succeed((list(self.details.values())[:limit], None))

    def events_after(self, seq: int, limit: int, agent: str | None = None) -> Sequence[StoredEvent]:
        wanted = (each for each in self.events if agent is None or agent in each.agents)
        return [event for event in wanted if event.seq > seq][:limit]

    def event_range(self) -> tuple[int, int]:
        return (self.events[0].seq, self.events[-1].seq) if self.events else (0, 0)


class FakeAgents:
    def __init__(self) -> None:
        self.states = {"anna": "ready", "ben": "paused"}
        self.reasons: dict[str, str | None] = {}
        self.wishes: list[tuple[str, str, str | None, str]] = []
        self.phones: dict[str, str | None] = {}
        self.skills: dict[str, dict[str, int]] = {}

    def views(self) -> Sequence[AgentView]:
        return [
            AgentView(
                id, id.title(), state, self.reasons.get(id), NOW, (f"PJSIP/{id}",), ("sales",), None, None
            )
            for id, state in self.states.items()
        ]

    def set_wish(self, agent: str, wish: str, reason: str | None, by: str) -> "Deferred[None]":
        if agent not in self.states:
            return fail(AgentUnknown(f"there is no agent {agent!r}"))
        self.states[agent], self.reasons[agent] = wish, reason
        self.wishes.append((agent, wish, reason, by))
        return succeed(None)

    def choose_phone(self, agent: str, phone: str | None, wish: str | None, by: str) -> "Deferred[None]":
        if phone not in (None, f"PJSIP/{agent}"):
            return fail(PhoneUnknown(f"{phone} is no phone of {agent}; PJSIP/{agent}"))
        self.phones[agent] = phone
        return succeed(None)

    def set_skills(self, agent: str, skills: Mapping[str, int], by: str) -> "Deferred[None]":
        if agent not in self.states:
            return fail(AgentUnknown(f"there is no agent {agent!r}"))
        if "no/name" in skills:
            return fail(ValueError("no skill"))
        self.skills[agent] = dict(skills)
        return succeed(None)


class FakeIdentifier:
    def __init__(self) -> None:
        self.asked: list[Number] = []
        self.pending: Deferred[Identification] | None = None

    async def identify(self, number: Number) -> Identification:
        self.asked.append(number)
        if self.pending is not None:
            return await self.pending
        return Identification(number, ms=0.6)


class FakeControl:
    """Does what it is told, or fails as it is told."""

    own_recordings = False

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.pending: Deferred[Done] | None = None

    async def make_call(self, asker: Asker, agent: str, to: str) -> Done:
        return await self._done(asker, "make", agent, to)

    async def operate(self, asker: Asker, id: str, operation: str, given: Mapping[str, Any]) -> Done:
        return await self._done(asker, operation, id, given)

    async def heard(self, asker: Asker, call: CallRecord) -> None:
        await self._done(asker, "heard", call.id)

    async def _done(self, asker: Asker, *asked: Any) -> Done:
        self.asked.append((asker, *asked))
        if self.failure is not None:
            raise self.failure
        if self.pending is not None:
            return await self.pending
        return Done(a_call(), {"space": "701"} if asked[0] == "park" else {})


class FakeReading:
    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(pieces)
        self.size: int | None = sum(map(len, pieces))
        self.closed = False

    async def piece(self) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if piece == b"!":
            raise RecordingAway("the disk is gone")
        return piece

    def close(self) -> None:
        self.closed = True


class FakeRecordings:
    def __init__(self) -> None:
        self.reading = FakeReading([b"RIFF", b"sound"])
        self.failure: Exception | None = None
        self.asked: list[tuple[str, int | None]] = []

    async def open(self, record: CallRecord, part: int | None = None) -> Any:
        self.asked.append((record.id, part))
        if self.failure is not None:
            raise self.failure
        return self.reading


class NoSoftphones:
    """Nobody has one."""

    def tell(self, phone: Softphone, told: Told) -> Deferred[str | None]:
        raise AssertionError("there is no softphone here")


class FakeHealth:
    def __init__(self) -> None:
        self.store_ok = self.ami_ok = True

    def health(self) -> Mapping[str, Component]:
        return {"store": Component(self.store_ok, "writes")}

    def ready(self) -> Mapping[str, Component]:
        return {
            "store": Component(self.store_ok, "writes"),
            "ami.main": Component(self.ami_ok, "logged in", needed=False),
        }


@frozen
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    fields: Sequence[tuple[str, str]] = ()

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class FakePeople:
    """A store with nothing of anybody in it, and who erases people."""

    def __init__(self) -> None:
        self.asked: list[tuple[Subject, bool]] = []

    async def ask(self, subject: Subject, directory: bool) -> ErasureRecord:
        self.asked.append((subject, directory))
        return ErasureRecord("e1", NOW, subject=subject.as_json())

    def read(self, question: Callable[[Any], Any]) -> "Deferred[Any]":
        return succeed(question(self))

    def page_of(self, *_: Any) -> list[Any]:
        return []

    def all_erasures(self, _limit: int) -> list[ErasureRecord]:
        return [self.erasure("e1")]

    def erasure(self, id: str) -> ErasureRecord:
        return ErasureRecord(id, NOW, "done", done=NOW, report={"erased": {"calls": 1}})

    async def purge(self, dry: bool) -> Mapping[str, int]:
        return {"calls": 3} if dry else {}


class Web:
    """A site on a clock, spoken to in bytes, with all its services in reach."""

    def __init__(
        self,
        options: Options | None = None,
        max_streams: int = 100,
        passwords: Passwords | None = None,
        masking: Masking | None = None,
    ) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.store = FakeStore()
        self.agents = FakeAgents()
        self.identifier = FakeIdentifier()
        self.control = FakeControl()
        self.behind = Behind()
        # One log for both.
        self.behind.details = self.store.details
        self.recordings = FakeRecordings()
        self.turned_away = TurnedAway(
            self.behind.house.calls, Identify(blocked=("+49900*",)), self.clock.seconds
        )
        self.health = FakeHealth()
        self.people = FakePeople()
        self.explained: list[DryRun] = []
        self.explanation: Callable[[], Mapping[str, Any]] = lambda: {"action": "dial", "trace": []}
        self.tokens = Tokens(self.store, self.clock)
        self.doors = FakeDoors()
        self.sessions = Sessions(self.doors, self.clock)
        self.audit = Audit(self.doors, self.clock)
        self.passwords = passwords or Passwords(at_once, QUICK)
        self.metrics = Metrics(services=["sales"])
        self.hub = EventHub(self.store, self.clock, valid=self._still_valid, max_streams=max_streams)
        self.services = Services(
            calls=self.store,
            answers=self.store,
            numbers=NumberPlan("DE"),
            identifier=self.identifier,
            agents=self.agents,
            control=self.control,
            desktop=self.behind.desktop,
            recordings=self.recordings,
            deliveries=Deliveries(NothingToTell(), NothingToTell(), self.clock.seconds),
            try_destination=nobody_to_tell,
            softphones=NoSoftphones(),
            turned_away=self.turned_away,
            explain=self._explain,
            health=self.health,
            privacy=Privacy(cast(Any, self.people), cast(Any, self.people), self.people.purge),
            metrics=self.metrics,
            hub=self.hub,
            tokens=self.tokens,
            users=self.doors,
            sessions=self.sessions,
            login=Login(
                self.doors, self.sessions, self.passwords, self.audit, self.clock, self.metrics.logged_in
            ),
            audit=self.audit,
            clock=self.clock,
            in_thread=lambda render: succeed(render()),
            reports=ReportDesk(self.store.counted, Levels),
            masking=masking or Masking(),
            options=options or Options(),
        )
        self.site: Site = make_site(self.services)
        self.hub.start()

    def _still_valid(self, identity: Identity) -> bool:
        return (self.sessions if identity.user else self.tokens).valid(identity)

    async def _explain(self, what: DryRun) -> Mapping[str, Any]:
        self.explained.append(what)
        return self.explanation()

    def token(self, role: str, agent: str | None = None, **changes: Any) -> str:
        token, digest = mint_token()
        record = TokenRecord(f"t{len(self.store.kept_tokens)}", f"{role} token", role, digest, NOW, agent)
        self.store.kept_tokens[digest] = evolve(record, **changes)
        return token

    def connect(self, peer: str = LOOPBACK) -> tuple[Any, StringTransport]:
        address = (IPv6Address if ":" in peer else IPv4Address)("TCP", peer, 50000)
        channel = self.site.buildProtocol(address)
        transport = StringTransport(peerAddress=address)
        channel.makeConnection(transport)
        return channel, transport

    def ask(
        self,
        method: str,
        path: str,
        token: str | None = None,
        json: Any = None,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        peer: str = ELSEWHERE,
    ) -> Reply:
        channel, transport = self.connect(peer)
        channel.dataReceived(request_bytes(method, path, token, json, body, headers))
        reply = parse(transport.value())
        channel.connectionLost(Failure(ConnectionError()))
        return reply


def request_bytes(
    method: str,
    path: str,
    token: str | None = None,
    json: Any = None,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    fields = {"Host": "cordboard.example", **(headers or {})}
    if token is not None:
        fields["Authorization"] = f"Bearer {token}"
    if json is not None:
        body = orjson.dumps(json)
        fields.setdefault("Content-Type", "application/json")
    if body:
        fields.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def parse(data: bytes) -> Reply:
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return Reply(int(status.split(" ")[1]), dict(fields), body, fields)


@pytest.fixture
def web() -> Web:
    return Web()


# Who may ask what

#: Each route once, with what the API answers to a role that may ask.
EXPECTED: Mapping[tuple[str, str], Mapping[str, int]] = {
    ("GET", "/api/v1/identify?number=015228817386"): dict.fromkeys(ROLES, 200),
    # No adapter has any keys, or knows anybody.
    ("POST", "/api/v1/identify"): dict.fromkeys(ROLES, 422),
    ("GET", "/api/v1/search?q=Brandt"): dict.fromkeys(ROLES, 200),
    ("GET", "/api/v1/card?adapter=directory&type=contact&id=17"): dict.fromkeys(ROLES, 404),
    ("GET", "/api/v1/calls"): dict.fromkeys(ROLES, 200),
    ("GET", "/api/v1/calls/c1"): dict.fromkeys(ROLES, 200),
    ("GET", "/api/v1/gaps"): {"agent": 403, "supervisor": 200, "admin": 200, "crm": 200},
    ("GET", "/api/v1/agents"): {"agent": 200, "supervisor": 200, "admin": 200, "crm": 403},
    ("PATCH", "/api/v1/agents/anna"): {"agent": 200, "supervisor": 200, "admin": 200, "crm": 403},
    ("PATCH", "/api/v1/agents/ben"): {"agent": 403, "supervisor": 200, "admin": 200, "crm": 403},
    # Of agents, those whose token is a softphone's: tests/api/test_softphone.py.
    **{
        (method, f"/api/v1/softphone/{news}{query}"): dict.fromkeys(ROLES, 403)
        for method, query in (("GET", "?extension=21"), ("POST", ""))
        for news in ("ringing", "connected", "ended", "missed")
    },
    ("POST", "/api/v1/explain"): {"agent": 403, "supervisor": 200, "admin": 200, "crm": 200},
    ("POST", "/api/v1/numbers/normalise"): dict.fromkeys(ROLES, 200),
    **{
        (method, f"/api/v1/numbers/{name}"): {"agent": 403, "supervisor": 200, "admin": 200, "crm": 403}
        for name in ("blocked", "ignored")
        for method in ("GET", "POST")
    },
    # On no list, or on that of the configuration.
    **{
        ("DELETE", f"/api/v1/numbers/{name}/%2B49900*"): {
            "agent": 403,
            "supervisor": 404,
            "admin": 404,
            "crm": 403,
        }
        for name in ("blocked", "ignored")
    },
    **{
        ("GET", f"/api/v1/calls.{ending}"): {**dict.fromkeys(ROLES, 200), "agent": 403}
        for ending in ("csv", "jsonl")
    },
    **{
        ("GET", f"/api/v1/reports/{report}"): {"agent": 403, "supervisor": 200, "admin": 200, "crm": 403}
        for kind in ("calls", "team")
        for report in (kind, f"{kind}.csv", f"{kind}.svg")
    },
    # Off, but for one's own.
    **{
        ("GET", f"/api/v1/reports/{report}"): {**dict.fromkeys(ROLES, 403), "agent": 200}
        for report in ("agents", "agents.csv", "agents.svg")
    },
    ("GET", "/api/v1/reports/measures"): {**dict.fromkeys(ROLES, 200), "crm": 403},
    ("GET", "/api/v1/events"): dict.fromkeys(ROLES, 200),
    ("GET", "/metrics"): dict.fromkeys(ROLES, 200),
    ("POST", "/api/v1/calls"): dict.fromkeys(ROLES, 202),
    ("GET", "/api/v1/calls/c1/recording"): {"agent": 403, "supervisor": 200, "admin": 200, "crm": 403},
    **{
        ("POST", f"/api/v1/calls/c1/{operation}"): {**dict.fromkeys(ROLES, 200), "crm": 403}
        for operation in sorted(OPERATIONS.keys() - {"listen", "whisper", "barge", "record"})
    },
    **{
        ("POST", f"/api/v1/calls/c1/{kind}"): {"agent": 403, "supervisor": 200, "admin": 200, "crm": 403}
        for kind in ("listen", "whisper", "barge")
    },
    ("POST", "/api/v1/calls/c1/record"): dict.fromkeys(ROLES, 200),
    # A token has no session.
    ("GET", "/api/v1/session"): dict.fromkeys(ROLES, 403),
    ("PATCH", "/api/v1/session"): dict.fromkeys(ROLES, 403),
    ("DELETE", "/api/v1/session"): dict.fromkeys(ROLES, 403),
    ("POST", "/api/v1/session/password"): dict.fromkeys(ROLES, 403),
    ("GET", "/api/v1/users"): {**dict.fromkeys(ROLES, 403), "admin": 200},
    ("POST", "/api/v1/users"): {**dict.fromkeys(ROLES, 403), "admin": 201},
    ("PATCH", "/api/v1/users/ben"): {**dict.fromkeys(ROLES, 403), "admin": 200},
    ("DELETE", "/api/v1/users/ben"): {**dict.fromkeys(ROLES, 403), "admin": 204},
    ("GET", "/api/v1/audit"): {**dict.fromkeys(ROLES, 403), "admin": 200},
    ("GET", "/api/v1/desk?agent=anna"): {**dict.fromkeys(ROLES, 200), "crm": 403},
    ("GET", "/api/v1/desk/calls/c1"): {"agent": 200, "supervisor": 403, "admin": 403, "crm": 403},
    ("GET", "/api/v1/colleagues"): {**dict.fromkeys(ROLES, 200), "crm": 403},
    # Without an If-Match, and by who writes nothing up.
    ("PATCH", "/api/v1/calls/c1"): dict.fromkeys(ROLES, 428),
    ("GET", "/api/v1/desk/unwritten?agent=anna"): {**dict.fromkeys(ROLES, 200), "crm": 403},
    ("GET", "/api/v1/calls/c1/history"): dict.fromkeys(ROLES, 200),
    ("GET", "/api/v1/callbacks"): dict.fromkeys(ROLES, 200),
    ("POST", "/api/v1/callbacks"): dict.fromkeys(ROLES, 201),
    ("PATCH", "/api/v1/callbacks/b1"): dict.fromkeys(ROLES, 428),
    ("POST", "/api/v1/callbacks/b1/dial"): {"agent": 404, "supervisor": 403, "admin": 403, "crm": 403},
    ("GET", "/api/v1/outbox"): {**dict.fromkeys(ROLES, 403), "admin": 200},
    ("GET", "/api/v1/outbox/destinations"): {**dict.fromkeys(ROLES, 403), "admin": 200},
    ("GET", "/api/v1/outbox/1"): {**dict.fromkeys(ROLES, 403), "admin": 404},
    # Without saying which.
    ("POST", "/api/v1/outbox/retry"): {**dict.fromkeys(ROLES, 403), "admin": 422},
    ("POST", "/api/v1/outbox/drop"): {**dict.fromkeys(ROLES, 403), "admin": 422},
    ("POST", "/api/v1/webhooks/crm/test"): {**dict.fromkeys(ROLES, 403), "admin": 404},
    # There is no directory.
    ("GET", "/api/v1/directory/parties"): {**dict.fromkeys(ROLES, 404), "agent": 403},
    ("POST", "/api/v1/directory/parties"): {**dict.fromkeys(ROLES, 404), "agent": 403},
    ("GET", "/api/v1/directory/parties/17"): dict.fromkeys(ROLES, 404),
    ("PATCH", "/api/v1/directory/parties/17"): {**dict.fromkeys(ROLES, 428), "agent": 403},
    ("DELETE", "/api/v1/directory/parties/17"): {**dict.fromkeys(ROLES, 428), "agent": 403},
    **{
        (method, f"/api/v1/directory/parties/17/{kind}"): {**dict.fromkeys(ROLES, status), **agent}
        for kind, adds, changes in (
            ("cases", {"agent": 403}, {"agent": 403}),
            ("appointments", {"agent": 403}, {"agent": 403}),
            ("tasks", {}, {}),
            ("notes", {}, {"agent": 403}),
        )
        for method, kind, status, agent in (
            ("POST", kind, 404, adds),
            ("PATCH", f"{kind}/1", 428, changes),
            ("DELETE", f"{kind}/1", 428, {"agent": 403}),
        )
    },
    **{
        (method, path): {"agent": 403, "supervisor": 403, "admin": status, "crm": 403}
        for method, path, status in (
            ("POST", "/api/v1/erasures", 202),
            ("GET", "/api/v1/erasures", 200),
            ("GET", "/api/v1/erasures/e1", 200),
            ("POST", "/api/v1/export", 200),
            ("POST", "/api/v1/purge", 200),
        )
    },
    # No adapter takes any.
    ("POST", "/api/v1/parties"): dict.fromkeys(ROLES, 422),
    ("POST", "/api/v1/calls/c1/card"): {"agent": 404, "supervisor": 403, "admin": 403, "crm": 403},
    ("POST", "/api/v1/calls/c1/wrap_up"): {"agent": 409, "supervisor": 403, "admin": 403, "crm": 403},
}
BODIES: Mapping[str, Any] = {
    "anna": {"state": "paused", "reason": "lunch"},
    "ben": {"state": "paused", "reason": "lunch"},
    "session": {"language": "de"},
    "password": {"old": PASSWORD, "new": "another horse of mine"},
    "users": {"name": "cleo", "role": "supervisor", "password": PASSWORD},
    "users/ben": {"disabled": True},
    "normalise": {"numbers": ["015228817386"]},
    "blocked": {"number": "0900 1000001"},
    "ignored": {"number": "+49900*", "note": "premium numbers"},
    "identify": {"key": "customer", "value": "4711"},
    "explain": {"from": "015228817386", "to": "494066969100"},
    "calls": {"agent": "anna", "to": "015228817386"},
    "consult": {"to": "ben"},
    "transfer": {"to": "ben"},
    "deflect": {"to": "ben"},
    "digits": {"digits": "1"},
    "record": {"action": "start"},
    "callbacks": {"number": "+4915228817386"},
    "parties": {"type": "contact", "name": "Käthe Ørsted", "number": "+4915228817386"},
    "directory": {
        "": {"name": "Käthe Ørsted"},
        "cases": {"title": "Rechnung"},
        "appointments": {"at": "2026-03-02"},
        "tasks": {"title": "Offer"},
        "notes": {"text": "likes tea"},
    },
    "erasures": {"numbers": ["0152 28817386"], "directory": True},
    "export": {"parties": [{"adapter": "directory", "id": "17"}]},
    "purge": {"dry_run": True},
    "card": {"attempt": 1},
    "wrap_up": {"finish": True},
}


def body_for(method: str, path: str) -> Any:
    """What this route needs, None for nothing."""
    if method not in ("POST", "PATCH"):
        return None
    if path.startswith("/api/v1/directory/parties"):
        return BODIES["directory"].get(path.split("/")[6] if path.count("/") > 5 else "")
    if path.startswith("/api/v1/softphone/"):
        return {"extension": "21"}
    if method == "PATCH" and path.startswith("/api/v1/calls/"):
        return {"notes": "called back"}
    if method == "PATCH" and path.startswith("/api/v1/callbacks/"):
        return {"note": "not before noon"}
    return BODIES["users/ben"] if path.endswith("users/ben") else BODIES.get(path.rpartition("/")[2])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), EXPECTED)
def test_each_role_may_ask_what_the_table_says(web: Web, method: str, path: str, role: str) -> None:
    web.store.details["c1"] = a_detail(a_call())
    web.doors.add(a_user("ben"))
    token = web.token(role, "anna" if role == "agent" else None)
    assert web.ask(method, path, token, body_for(method, path)).status == EXPECTED[method, path][role]


@pytest.mark.parametrize(("method", "path"), EXPECTED)
def test_without_a_token_nothing_is_told(web: Web, method: str, path: str) -> None:
    reply = web.ask(method, path, None, body_for(method, path))
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="cordboard"'


def test_every_route_that_asks_for_a_token_is_in_the_table_of_this_test() -> None:
    protected = {(route.method, route.path) for route in ROUTES if route.roles is not None}
    tested = {(method, path.partition("?")[0]) for method, path in EXPECTED}
    for method, path in protected:
        pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))
        assert any(method == asked and pattern.fullmatch(where) for asked, where in tested), path


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json"])
def test_what_needs_no_token_is_open_to_everybody(web: Web, path: str) -> None:
    assert web.ask("GET", path).status == 200


@pytest.mark.parametrize("changes", [{"expires": NOW - 1}, {"revoked": NOW - 1}, {"role": "owner"}])
def test_a_token_that_is_no_longer_good_is_refused(web: Web, changes: Mapping[str, Any]) -> None:
    reply = web.ask("GET", "/api/v1/calls", web.token(**{"role": "admin", **changes}))
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


def test_a_revoked_token_stops_working_within_a_second(web: Web) -> None:
    token = web.token("admin")
    assert web.ask("GET", "/api/v1/calls", token).status == 200
    digest = digest_of(token)
    web.store.kept_tokens[digest] = evolve(web.store.kept_tokens[digest], revoked=NOW)
    web.clock.advance(1)
    assert web.ask("GET", "/api/v1/calls", token).status == 401


def test_the_store_is_not_asked_for_every_request(web: Web) -> None:
    token = web.token("admin")
    for _ in range(20):
        web.ask("GET", "/api/v1/calls", token)
    assert web.store.lookups == 1


def test_a_minted_token_is_known_only_by_its_digest() -> None:
    token, digest = mint_token()
    assert token.startswith("cti_")
    assert len(token) == 4 + 43
    assert digest == digest_of(token)
    assert token not in digest
    assert mint_token()[0] != token


def test_wrong_tokens_are_limited_by_address_and_right_ones_are_not(web: Web) -> None:
    right = web.token("admin")
    answers = [web.ask("GET", "/api/v1/calls", "cti_wrong").status for _ in range(25)]
    assert answers[:20] == [401] * 20
    assert answers[20:] == [429] * 5
    assert web.ask("GET", "/api/v1/calls", right).status == 200
    assert web.ask("GET", "/api/v1/calls", "cti_wrong", peer="192.0.2.8").status == 401
    web.clock.advance(61)
    assert web.ask("GET", "/api/v1/calls", "cti_wrong").status == 401


def test_the_table_of_wrong_attempts_is_bounded() -> None:
    attempts = FailedAttempts(Clock(), size=10)
    for host in range(200):
        attempts.record(ip_network(f"192.0.2.{host}/32").network_address)
    assert len(attempts._counts) == 10


def test_an_agents_token_without_an_agent_says_how_to_make_one(web: Web) -> None:
    token = web.token("agent")
    for path in ("/api/v1/calls", "/api/v1/agents", "/api/v1/events"):
        reply = web.ask("GET", path, token)
        assert reply.status == 403
        assert "--agent" in reply.json["detail"]


# Errors


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/calls/", 404),
        ("GET", "/api/v1/calls/%ff", 404),
        ("DELETE", "/api/v1/calls", 405),
        ("GET", "/api/v1/identify", 422),
        ("GET", "/api/v1/identify?number=hello", 422),
        ("GET", "/api/v1/identify?number=anonymous", 422),
        ("GET", "/api/v1/identify?number=1&number=2", 422),
        ("GET", "/api/v1/calls?limit=501", 422),
        ("GET", "/api/v1/calls?limit=0", 422),
        ("GET", "/api/v1/calls?limit=1e2", 422),
        ("GET", "/api/v1/calls?direction=sideways", 422),
        ("GET", "/api/v1/calls?since=yesterday", 422),
        ("GET", "/api/v1/calls?since=2026-02-30", 422),
        ("GET", "/api/v1/calls?number=hello", 422),
        ("GET", "/api/v1/calls?cursor=made-up", 422),
        ("GET", "/api/v1/calls?agnet=anna", 422),
        ("GET", "/api/v1/calls?agent=%ff", 400),
        ("GET", "/api/v1/calls?" + "&".join("a=1" for _ in range(40)), 400),
        ("GET", "/api/v1/calls?agent=" + "a" * 300, 422),
        ("GET", "/api/v1/calls?agent=" + "a" * URL_LIMIT, 414),
        ("GET", "/api/v1/events?types=call.invented", 422),
        ("GET", "/api/v1/events?after=-1", 422),
        ("GET", "/api/v1/calls/c9", 404),
    ],
)
def test_a_wrong_request_is_a_problem_that_says_what_would_be_right(
    web: Web, method: str, path: str, status: int
) -> None:
    reply = web.ask(method, path, web.token("admin"))
    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= reply.json.keys()
    assert reply.json["status"] == status
    assert len(reply.json["detail"]) > 10


def test_options_names_the_methods_and_allows_no_other_site_anything(web: Web) -> None:
    reply = web.ask("OPTIONS", "/api/v1/calls", headers={"Origin": "https://elsewhere.example"})
    assert (reply.status, reply.body, reply.headers["Allow"]) == (204, b"", "GET, HEAD, OPTIONS, POST")
    assert not [name for name in reply.headers if name.startswith("Access-Control")]
    assert web.ask("OPTIONS", "/nowhere").status == 404


def test_405_names_the_methods(web: Web) -> None:
    assert web.ask("DELETE", "/api/v1/calls").headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert web.ask("GET", "/api/v1/explain").headers["Allow"] == "OPTIONS, POST"
    assert web.ask("HEAD", "/api/v1/events").headers["Allow"] == "GET, OPTIONS"


def test_every_fault_of_a_request_is_named_at_once(web: Web) -> None:
    reply = web.ask("GET", "/api/v1/calls?limit=x&direction=up&since=never", web.token("admin"))
    assert len(reply.json["errors"]) == 3


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"\xff\xfe", {"Content-Type": "application/json"}, 400),
        (b"", {"Content-Type": "application/json"}, 422),
        (b"[" * 2000, {"Content-Type": "application/json"}, 400),
        (b"state=ready", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {}, 415),
        (b"[]", {"Content-Type": "application/json"}, 422),
        (b"{}", {"Content-Type": "application/json; charset=utf-8"}, 422),
        (b'{"state":"busy"}', {"Content-Type": "application/json"}, 422),
        (b'{"state":"ready","colour":"red"}', {"Content-Type": "application/json"}, 422),
        (b'{"state":true}', {"Content-Type": "application/json"}, 422),
        (b'{"state":"paused","reason":"' + b"x" * 201 + b'"}', {"Content-Type": "application/json"}, 422),
        (b'{"state":"ready"' + b" " * BODY_LIMIT + b"}", {"Content-Type": "application/json"}, 413),
    ],
)
def test_a_wrong_body_changes_nothing(web: Web, body: bytes, headers: Mapping[str, str], status: int) -> None:
    reply = web.ask("PATCH", "/api/v1/agents/anna", web.token("admin"), body=body, headers=headers)
    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert web.agents.wishes == []


def test_a_body_in_chunks_is_bounded_as_well(web: Web) -> None:
    channel, transport = web.connect()
    channel.dataReceived(
        b"POST /api/v1/explain HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
        b"Authorization: Bearer " + web.token("admin").encode() + b"\r\n\r\n"
    )
    for _ in range(20):
        channel.dataReceived(b"1000\r\n" + b" " * 4096 + b"\r\n")
    channel.dataReceived(b"0\r\n\r\n")
    assert parse(transport.value()).status == 413


def test_a_body_without_end_ends_the_connection(web: Web) -> None:
    channel, transport = web.connect()
    channel.dataReceived(
        b"POST /api/v1/explain HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    )
    for _ in range(DRAIN_LIMIT // 65536 + 2):
        channel.dataReceived(b" " * 65536)
    assert transport.disconnecting
    assert transport.value().startswith(b"HTTP/1.1 413 ")
    assert transport.value().count(b"HTTP/1.1") == 1


def test_a_request_that_comes_a_byte_at_a_time_for_too_long_is_cut(web: Web) -> None:
    channel, transport = web.connect()
    for _ in range(int(REQUEST_SECONDS) - 1):
        channel.dataReceived(b"G")
        web.clock.advance(1)
    assert not transport.disconnected
    channel.dataReceived(b"G")
    web.clock.advance(2)
    assert transport.disconnected


def test_a_header_without_end_is_cut(web: Web) -> None:
    channel, transport = web.connect()
    channel.dataReceived(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n")
    assert transport.value().startswith(b"HTTP/1.1 400")
    assert transport.disconnecting


def test_the_number_of_connections_is_bounded() -> None:
    web = Web(Options(max_connections=2))
    channel, _ = web.connect()
    web.connect()
    address = IPv4Address("TCP", LOOPBACK, 1)
    assert web.site.buildProtocol(address) is None
    channel.connectionLost(Failure(ConnectionError()))
    assert web.site.buildProtocol(address) is not None


def test_a_fault_of_ours_tells_the_client_nothing_of_it(web: Web) -> None:
    def broken() -> Mapping[str, Any]:
        raise RuntimeError("secret detail")

    web.explanation = broken
    reply = web.ask("POST", "/api/v1/explain", web.token("admin"), {"from": "", "to": "494066969100"})
    assert reply.status == 500
    assert b"secret detail" not in reply.body


def test_a_store_that_fails_is_a_503_that_says_when_to_try_again(web: Web) -> None:
    web.store.broken = True
    reply = web.ask("GET", "/api/v1/calls", web.token("admin"))
    assert reply.status == 503
    assert reply.headers["Retry-After"] == "5"


def test_an_answer_that_never_comes_is_given_up(web: Web) -> None:
    web.identifier.pending = Deferred()
    channel, transport = web.connect()
    channel.dataReceived(request_bytes("GET", "/api/v1/identify?number=015228817386", web.token("crm")))
    assert transport.value() == b""
    web.clock.advance(ANSWER_SECONDS)
    assert parse(transport.value()).status == 504


def test_a_client_that_leaves_stops_what_was_begun_for_it(web: Web) -> None:
    cancelled: list[bool] = []
    web.identifier.pending = Deferred(lambda _: cancelled.append(True))
    channel, _ = web.connect()
    channel.dataReceived(request_bytes("GET", "/api/v1/identify?number=015228817386", web.token("crm")))
    channel.connectionLost(Failure(ConnectionError()))
    assert cancelled == [True]
    assert web.clock.getDelayedCalls() != []
    assert all(call.func.__name__ != "timeItOut" for call in web.clock.getDelayedCalls())


def test_every_answer_carries_the_security_headers(web: Web) -> None:
    for path in ("/openapi.json", "/api/v1/calls", "/nowhere"):
        headers = web.ask("GET", path).headers
        assert headers["Server"] == "Cordboard"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


def test_head_is_get_without_the_body(web: Web) -> None:
    reply = web.ask("HEAD", "/openapi.json")
    assert reply.status == 200
    assert reply.body == b""
    assert int(reply.headers["Content-Length"]) > 1000


def test_one_connection_carries_several_requests(web: Web) -> None:
    channel, transport = web.connect()
    channel.dataReceived(request_bytes("GET", "/healthz") + request_bytes("GET", "/readyz"))
    assert transport.value().count(b"HTTP/1.1 200 OK") == 2


# What is answered


def test_numbers_of_another_systems_form_are_normalised_in_their_order(web: Web) -> None:
    written = ["040 / 66969-0", "", "101", "0152 28817386", "hello"]
    reply = web.ask("POST", "/api/v1/numbers/normalise", web.token("crm"), {"numbers": written})
    answers = reply.json["numbers"]
    assert [each["raw"] for each in answers] == written
    assert [each["e164"] for each in answers] == ["+4940669690", None, None, "+4915228817386", None]
    assert [each["display"] for each in answers] == ["040 669690", None, "101", "01522 8817386", None]
    assert [each["error"] is None for each in answers] == [True, False, False, True, False]


def test_numbers_are_normalised_for_the_country_that_is_asked_for(web: Web) -> None:
    body = {"region": "GB", "numbers": ["020 7946 0123", "+49 152 28817386"]}
    reply = web.ask("POST", "/api/v1/numbers/normalise", web.token("crm"), body)
    assert [each["e164"] for each in reply.json["numbers"]] == ["+442079460123", "+4915228817386"]
    assert [each["display"] for each in reply.json["numbers"]] == ["020 7946 0123", "+49 1522 8817386"]


@pytest.mark.parametrize(
    "body",
    [
        {"region": "XX", "numbers": []},
        {"region": "Germany", "numbers": []},
        {"numbers": ["1"] * 201},
        {"numbers": ["1" * 257]},
        {"numbers": [1]},
        {"region": "DE"},
    ],
)
def test_what_cannot_be_normalised_is_refused_with_a_reason(web: Web, body: Any) -> None:
    reply = web.ask("POST", "/api/v1/numbers/normalise", web.token("crm"), body)
    assert reply.status == 422
    assert "body" in reply.json["detail"]


@pytest.mark.parametrize("written", ["015228817386", "%2B4915228817386", "+4915228817386", "0152+28817386"])
def test_identify_understands_a_number_as_it_is_put_into_a_url(web: Web, written: str) -> None:
    reply = web.ask("GET", f"/api/v1/identify?number={written}", web.token("crm"))
    assert reply.json["e164"] == "+4915228817386"
    assert reply.json["parties"] == []


def test_a_page_of_calls_has_the_cursor_of_the_next(web: Web) -> None:
    web.store.records = [a_call(id=f"c{n}") for n in range(3)]
    token = web.token("supervisor")
    page = web.ask("GET", "/api/v1/calls?limit=2", token).json
    assert [call["id"] for call in page["calls"]] == ["c0", "c1"]
    assert page["next"] == "more"
    web.ask("GET", "/api/v1/calls?limit=2&cursor=more", token)
    assert web.store.filters[-1][1:] == (2, "more")


def test_filters_reach_the_store_as_values(web: Web) -> None:
    web.ask(
        "GET",
        "/api/v1/calls?since=2026-02-03&until=2026-02-03T12:00:00+01:00&number=0152%2028817386&agent=anna"
        "&party=17&direction=inbound&outcome=missed",
        web.token("supervisor"),
    )
    assert web.store.filters == [
        (
            CallFilter(
                since=moment("2026-02-03T00:00:00Z"),
                until=moment("2026-02-03T11:00:00Z"),
                number="+4915228817386",
                agent="anna",
                party="17",
                direction="inbound",
                outcome="missed",
            ),
            50,
            None,
        )
    ]


def test_calls_are_found_by_an_internal_number_as_it_is_dialled(web: Web) -> None:
    assert web.ask("GET", "/api/v1/calls?number=200", web.token("admin")).status == 200
    assert web.store.filters[-1][0].number == "200"


def test_the_status_line_says_what_the_status_is_called(web: Web) -> None:
    channel, transport = web.connect()
    channel.dataReceived(request_bytes("GET", "/api/v1/identify?number=hello", web.token("admin")))
    assert transport.value().startswith(b"HTTP/1.1 422 Unprocessable Entity\r\n")


def test_an_agent_sees_only_calls_they_took_part_in(web: Web) -> None:
    web.store.details = {"c1": a_detail(a_call())}
    ben = web.token("agent", "ben")
    web.ask("GET", "/api/v1/calls", ben)
    assert web.store.filters[-1][0].agent == "ben"
    assert web.ask("GET", "/api/v1/calls?agent=anna", ben).status == 403
    assert web.ask("GET", "/api/v1/calls/c1", ben).status == 404
    assert web.ask("GET", "/api/v1/calls/c1", web.token("agent", "anna")).status == 200


def test_an_agent_does_not_read_in_a_trace_why_a_colleague_paused(web: Web) -> None:
    candidates = [
        {"agent": "anna", "why_not": "paused: lunch"},
        {"agent": "ben", "why_not": "paused: doctor"},
        {"agent": "zoe", "why_not": None},
    ]
    detail = a_detail(a_call())
    decision = evolve(detail.decisions[0], trace=[{"rule": "rest", "candidates": candidates}])
    web.store.details["c1"] = evolve(detail, decisions=[decision])

    def why_not(token: str) -> list[str | None]:
        (shown,) = web.ask("GET", "/api/v1/calls/c1", token).json["decisions"]
        return [each["why_not"] for each in shown["trace"][0]["candidates"]]

    assert why_not(web.token("agent", "anna")) == ["paused: lunch", "paused", None]
    assert why_not(web.token("supervisor")) == ["paused: lunch", "paused: doctor", None]


def test_a_call_is_shown_as_the_contract_says() -> None:
    shown = call_json(a_call())
    assert shown["from"] == "+4915228817386"
    assert shown["from_raw"] == "0152 28817386"
    assert shown["to"] == "+494066969100"
    assert shown["started"] == "2026-02-03T09:15:00.250Z"
    assert (shown["duration"], shown["wait"], shown["talk"]) == (64.5, 4.5, 60.0)
    assert shown["party"]["name"] == "Käthe Ørsted"
    missed = call_json(a_call(answered=None, agent=None, outcome="missed", ended=NOW + 20))
    assert (missed["duration"], missed["wait"], missed["talk"]) == (20.0, 20.0, None)
    running = call_json(a_call(answered=None, ended=None, outcome=None))
    assert (running["duration"], running["wait"], running["talk"]) == (None, None, None)
    assert call_json(a_call(answered=NOW - 0.002))["wait"] == 0.0


def test_a_call_in_detail_has_all_its_parts(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    shown = web.ask("GET", "/api/v1/calls/c1", web.token("admin")).json
    assert shown["segments"][0]["rang"] == 4.0
    assert shown["segments"][0]["talk"] == 60.0
    assert shown["channels"][0]["uniqueid"] == "1770110100.1"
    assert shown["events"] == [{"seq": 1, "type": "call.offered"}]
    assert shown["card"]["body"] == {"title": "Käthe"}
    assert shown["decisions"][0]["trace"] == [{"rule": "owner", "held": True}]
    assert shown["deliveries"][0]["destination"] == "crm"


def test_times_of_facts_and_deliveries_are_text_as_all_others(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    shown = web.ask("GET", "/api/v1/calls/c1", web.token("admin")).json
    assert shown["decisions"][0]["facts"] == {"at": "2026-02-03T09:15:00.250Z", "party.owner": "u1"}
    delivery = shown["deliveries"][0]
    assert delivery["created"] == "2026-02-03T09:15:00.250Z"
    assert delivery["due"] == "2026-02-03T09:15:01.250Z"
    assert delivery["finished"] is None


def test_what_is_documented_of_a_call_is_what_is_shown(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    shown = with_display(call_json(a_call()), NumberPlan("DE").display)
    assert list(shown) == list(SCHEMAS["Call"]["properties"])
    assert shown["display"] == {"from": "01522 8817386", "to": "040 66969100"}
    shown = web.ask("GET", "/api/v1/calls/c1", web.token("admin")).json
    assert list(shown) == list(SCHEMAS["CallDetail"]["properties"])
    agent = web.ask("GET", "/api/v1/agents", web.token("admin")).json["agents"][0]
    assert list(agent) == list(SCHEMAS["Agent"]["properties"])


def test_a_row_of_a_call_has_a_cell_for_each_column() -> None:
    row = dict(zip(CALL_COLUMNS, call_row(a_call()), strict=True))
    assert row["party"] == "Käthe Ørsted"
    assert row["talk"] == 60.0
    assert dict(zip(CALL_COLUMNS, call_row(a_call(party=None)), strict=True))["party"] is None


@pytest.mark.parametrize(
    "text", ["2026-02-03T09:15:00.250Z", "2026-02-03T10:15:00.25+01:00", "2026-02-03 09:15:00.250"]
)
def test_a_time_is_understood_with_and_without_a_zone(text: str) -> None:
    assert moment(text) == NOW
    assert iso(moment(text)) == "2026-02-03T09:15:00.250Z"


@pytest.mark.parametrize(
    "text", ["", "now", "2026-02-30", "2026-W06", "20260203", "2026-02-03T25:00", "9" * 99]
)
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="2026-02-03T09:15:00Z"):
        moment(text)


def test_the_milliseconds_of_a_time_are_rounded_and_carried() -> None:
    assert iso(NOW + 0.7499) == "2026-02-03T09:15:01.000Z"


def test_an_agent_changes_their_own_state_and_the_answer_shows_it(web: Web) -> None:
    token = web.token("agent", "anna")
    reply = web.ask("PATCH", "/api/v1/agents/anna", token, {"state": "paused", "reason": "lunch"})
    assert reply.json["state"] == "paused"
    assert web.agents.wishes == [("anna", "paused", "lunch", "agent token")]
    assert [agent["id"] for agent in web.ask("GET", "/api/v1/agents", token).json["agents"]] == ["anna"]


def test_a_supervisor_sets_what_an_agent_is_good_at_and_the_agent_does_not(web: Web) -> None:
    path, supervisor = "/api/v1/agents/anna", web.token("supervisor")
    assert web.ask("PATCH", path, supervisor, {"skills": {"german": 5}}).status == 200
    assert web.ask("PATCH", path, web.token("agent", "anna"), {"skills": {"german": 9}}).status == 403
    for wrong in ({"german": 10}, {"german": "much"}, {"no/name": 5}, None):
        assert web.ask("PATCH", path, supervisor, {"skills": wrong}).status == 422
    assert web.ask("PATCH", "/api/v1/agents/zoe", supervisor, {"skills": {}}).status == 404
    assert web.agents.skills == {"anna": {"german": 5}}


def test_the_pause_of_each_agent_says_when_its_time_is_over() -> None:
    pauses = {"lunch": PauseReason({"en": "Lunch"}, 45)}
    web = Web(options=Options(pauses=lambda: pauses))
    web.ask("PATCH", "/api/v1/agents/ben", web.token("supervisor"), {"state": "paused", "reason": "lunch"})
    agents = web.ask("GET", "/api/v1/agents", web.token("supervisor")).json["agents"]
    assert [(agent["id"], agent["pause"] and agent["pause"]["label"]) for agent in agents] == [
        ("anna", None),
        ("ben", "Lunch"),
    ]


def test_an_agent_who_does_not_exist_is_a_404(web: Web) -> None:
    reply = web.ask("PATCH", "/api/v1/agents/zoe", web.token("supervisor"), {"state": "ready"})
    assert reply.status == 404
    assert "zoe" in reply.json["detail"]


def test_explain_asks_for_the_call_that_is_described(web: Web) -> None:
    body = {"from": "015228817386", "to": "494066969100", "at": "2026-02-03T09:15:00.250Z"}
    reply = web.ask("POST", "/api/v1/explain", web.token("supervisor"), body)
    assert reply.json == {"action": "dial", "trace": []}
    assert web.explained == [DryRun("015228817386", "494066969100", NOW)]


def test_health_and_readiness_are_503_with_the_part_that_fails(web: Web) -> None:
    web.health.store_ok = False
    for path in ("/healthz", "/readyz"):
        reply = web.ask("GET", path)
        assert reply.status == 503
        assert reply.json["ok"] is False
        assert reply.json["components"]["store"]["ok"] is False


def test_readiness_names_a_part_that_is_away_and_not_needed_and_is_200(web: Web) -> None:
    web.health.ami_ok = False
    reply = web.ask("GET", "/readyz")
    assert reply.status == 200
    assert reply.json["ok"] is True
    assert reply.json["components"]["ami.main"]["ok"] is False


@pytest.mark.parametrize(
    ("peer", "status"),
    [(LOOPBACK, 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("10.1.2.3", 200), (ELSEWHERE, 401)],
)
def test_metrics_are_read_from_loopback_and_the_allowed_networks(peer: str, status: int) -> None:
    web = Web(Options(metrics_allow=[ip_network("10.0.0.0/8")]))
    reply = web.ask("GET", "/metrics", peer=peer)
    assert reply.status == status
    if status == 200:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"cti_event_streams 0.0" in reply.body


def test_a_proxy_on_this_machine_does_not_make_everybody_loopback() -> None:
    forwarded = {"X-Forwarded-For": "127.0.0.1, 192.0.2.7"}
    assert Web().ask("GET", "/metrics", headers=forwarded, peer=LOOPBACK).status == 401
    behind = Web(Options(behind_proxy=True, metrics_allow=[ip_network("192.0.2.0/24")]))
    assert behind.ask("GET", "/metrics", headers=forwarded, peer=LOOPBACK).status == 200
    assert behind.ask("GET", "/metrics", headers={"X-Forwarded-For": "198.51.100.1"}).status == 401
    assert behind.ask("GET", "/metrics", headers={"X-Forwarded-For": "garbage"}).status == 401


def test_the_description_covers_the_table_and_refers_to_nothing_that_is_not_there(web: Web) -> None:
    document = web.ask("GET", "/openapi.json").json
    assert document["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}
    references = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                references.add(value["$ref"].removeprefix("#/components/schemas/"))
            for item in value.values():
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    collect(document)
    assert references <= document["components"]["schemas"].keys()
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)


def test_a_site_that_closes_takes_nobody_new(web: Web) -> None:
    _, transport = web.connect()
    web.site.close()
    assert transport.disconnecting
    assert web.site.buildProtocol(IPv4Address("TCP", LOOPBACK, 1)) is None


# Call control


def test_a_click_to_dial_is_accepted_with_the_call(web: Web) -> None:
    reply = web.ask("POST", "/api/v1/calls", web.token("crm"), {"agent": "anna", "to": "0152 28817386"})
    assert (reply.status, reply.json["id"]) == (202, "c1")
    ((asker, *asked),) = web.control.asked
    assert asked == ["make", "anna", "0152 28817386"]
    assert (asker.own_only, asker.agent) == (False, None)


def test_an_agent_calls_for_themselves_without_saying_so(web: Web) -> None:
    assert web.ask("POST", "/api/v1/calls", web.token("agent", "anna"), {"to": "200"}).status == 202
    ((asker, *asked),) = web.control.asked
    assert asked == ["make", "anna", "200"]
    assert (asker.own_only, asker.agent) == (True, "anna")


def test_who_is_no_agent_says_whose_phone_is_to_ring(web: Web) -> None:
    reply = web.ask("POST", "/api/v1/calls", web.token("crm"), {"to": "200"})
    assert reply.status == 422
    assert "agent is missing" in reply.json["detail"]


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_each_operation_is_handed_on_with_its_body(web: Web, operation: str) -> None:
    path = f"/api/v1/calls/c1/{operation}"
    body = {**(body_for("POST", path) or {}), "agent": "anna"}
    assert web.ask("POST", path, web.token("admin"), body).status == 200
    ((_, *asked),) = web.control.asked
    assert asked == [operation, "c1", body]


def test_a_body_that_may_be_empty_may_be_left_out(web: Web) -> None:
    token = web.token("agent", "anna")
    assert web.ask("POST", "/api/v1/calls/c1/hold", token).status == 200
    assert web.ask("POST", "/api/v1/calls/c1/hold", token, {}).status == 200
    assert web.ask("POST", "/api/v1/calls/c1/transfer", token).status == 415
    assert [asked[3] for asked in web.control.asked] == [{}, {}]


def test_the_space_of_a_parked_call_is_in_the_answer(web: Web) -> None:
    assert web.ask("POST", "/api/v1/calls/c1/park", web.token("admin")).json["space"] == "701"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotAllowed("not yours"), 403),
        (CallUnknown("none"), 404),
        (NotNow("busy"), 409),
        (BadTarget("premium"), 422),
        (TooMany(30), 429),
        (AsteriskRefused("no"), 502),
        (AsteriskAway("away"), 503),
        (AsteriskSilent("silent"), 504),
    ],
)
def test_what_was_not_done_is_told_with_its_reason(web: Web, error: ControlError, status: int) -> None:
    web.control.failure = error
    reply = web.ask("POST", "/api/v1/calls/c1/hold", web.token("admin"))
    assert (reply.status, reply.json["detail"]) == (status, str(error))
    assert reply.json["type"].startswith("urn:problem-type:cordboard:")
    assert reply.headers.get("Retry-After") == ("30" if status == 429 else None)


def test_every_error_of_call_control_has_its_status() -> None:
    assert set(ControlError.__subclasses__()) == set(PROBLEMS)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/calls", {"agent": "anna"}),
        ("/api/v1/calls", {"agent": "anna", "to": ""}),
        ("/api/v1/calls", {"agent": "anna", "to": "1" * 101}),
        ("/api/v1/calls", {"agent": "anna", "to": "1", "from": "2"}),
        ("/api/v1/calls/c1/transfer", {}),
        ("/api/v1/calls/c1/transfer", {"to": 49}),
        ("/api/v1/calls/c1/digits", {"digits": ""}),
        ("/api/v1/calls/c1/digits", {"digits": "1" * 33}),
        ("/api/v1/calls/c1/record", {"action": "erase"}),
        ("/api/v1/calls/c1/hold", {"to": "ben"}),
    ],
)
def test_a_body_that_is_not_as_described_does_nothing(web: Web, path: str, body: Any) -> None:
    assert web.ask("POST", path, web.token("admin"), body).status == 422
    assert web.control.asked == []


def test_an_operation_that_rings_a_phone_has_the_time_for_it(web: Web) -> None:
    web.control.pending = Deferred()
    channel, transport = web.connect(ELSEWHERE)
    channel.dataReceived(request_bytes("POST", "/api/v1/calls/c1/pickup", web.token("admin")))
    web.clock.advance(ANSWER_SECONDS + 1)
    assert transport.value() == b""
    web.control.pending.callback(Done(a_call()))
    assert parse(transport.value()).status == 200


# Recordings


def test_a_recording_comes_whole_and_that_it_was_heard_is_noted_before(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    reply = web.ask("GET", "/api/v1/calls/c1/recording?part=2", web.token("supervisor"))
    assert (reply.status, reply.body) == (200, b"RIFFsound")
    assert (reply.headers["Content-Type"], reply.headers["Content-Length"]) == ("audio/wav", "9")
    assert web.recordings.asked == [("c1", 2)]
    assert web.control.asked[0][1:] == ("heard", "c1")
    assert web.recordings.reading.closed


def test_a_recording_of_unknown_size_comes_in_chunks(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    web.recordings.reading.size = None
    reply = web.ask("GET", "/api/v1/calls/c1/recording", web.token("admin"))
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert b"RIFF" in reply.body


def test_nobody_hears_a_recording_that_cannot_be_noted(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    web.control.failure = StoreError("the disk is full")
    reply = web.ask("GET", "/api/v1/calls/c1/recording", web.token("admin"))
    assert reply.status == 503
    assert b"RIFF" not in reply.body
    assert web.recordings.reading.closed


def test_a_recording_that_breaks_off_ends_the_connection_unfinished(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    web.recordings.reading = FakeReading([b"RIFF", b"!"])
    channel, transport = web.connect(ELSEWHERE)
    channel.dataReceived(request_bytes("GET", "/api/v1/calls/c1/recording", web.token("admin")))
    assert transport.value().endswith(b"RIFF")
    assert transport.disconnecting or transport.disconnected
    assert web.recordings.reading.closed


def test_a_client_that_takes_nothing_is_waited_for_and_then_let_go(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    web.recordings.reading = reading = FakeReading([b"one", b"two"])
    channel, transport = web.connect(ELSEWHERE)
    pausing = request_bytes("GET", "/api/v1/calls/c1/recording", web.token("admin"))
    written = transport.write

    def write_and_pause(data: bytes) -> None:
        written(data)
        if data.endswith(b"one") and transport.producer is not None:
            transport.producer.pauseProducing()

    transport.write = write_and_pause
    channel.dataReceived(pausing)
    assert transport.value().endswith(b"one")
    web.clock.advance(PATIENCE_SECONDS + 1)
    assert reading.closed


@pytest.mark.parametrize(
    ("error", "status"), [(NoRecording("was not recorded"), 404), (RecordingAway("the disk is gone"), 503)]
)
def test_a_recording_that_cannot_be_had_is_told_why(web: Web, error: Exception, status: int) -> None:
    web.store.details["c1"] = a_detail(a_call())
    web.recordings.failure = error
    reply = web.ask("GET", "/api/v1/calls/c1/recording", web.token("admin"))
    assert (reply.status, reply.json["detail"]) == (status, str(error))


def test_agents_hear_their_own_recordings_where_that_is_allowed_and_no_others() -> None:
    web = Web()
    web.store.details["c1"] = a_detail(a_call())
    assert web.ask("GET", "/api/v1/calls/c1/recording", web.token("agent", "anna")).status == 403
    web.control.own_recordings = True
    assert web.ask("GET", "/api/v1/calls/c1/recording", web.token("agent", "anna")).status == 200
    assert web.ask("GET", "/api/v1/calls/c1/recording", web.token("agent", "ben")).status == 404


def test_a_time_in_which_an_asterisk_was_not_heard_is_told_with_what_was_made_up_for(web: Web) -> None:
    web.store.found_gaps = [
        GapRecord("main", 1_700_000_100.0, 1_700_000_130.5, None, "no call records are configured"),
        GapRecord("branch", 1_700_000_000.0, 1_700_000_010.0, 3),
    ]
    reply = web.ask("GET", "/api/v1/gaps?since=2023-11-14T22:15:00Z", web.token("admin"))
    assert reply.json["gaps"] == [
        {
            "pbx": "main",
            "since": "2023-11-14T22:15:00.000Z",
            "until": "2023-11-14T22:15:30.500Z",
            "recovered": None,
            "why": "no call records are configured",
        }
    ]


# The desk


def behind_talks(web: Web) -> str:
    """Anna talks; the call's id."""
    web.behind.house.services = CallServices([SALES_DESK], NumberPlan("DE"))
    web.behind.house.offered().dialled().tell(
        "DialEnd", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="ANSWER"
    )
    return web.behind.house.call.id


def test_what_is_written_needs_the_tag_of_what_was_seen(web: Web) -> None:
    id, token = behind_talks(web), web.token("agent", "anna")
    (shown,) = web.ask("GET", "/api/v1/desk", token).json["calls"]
    path, tag = f"/api/v1/calls/{id}", {"If-Match": shown["etag"]}

    missing = web.ask("PATCH", path, token, {"notes": "hers"})
    assert (missing.status, missing.json["type"].rpartition(":")[2]) == (428, "precondition-required")
    written = web.ask("PATCH", path, token, {"notes": "hers"}, headers=tag)
    assert (written.status, written.json["call"]["notes"]) == (200, "hers")
    assert written.headers["ETag"] == written.json["etag"] != shown["etag"]

    refused = web.ask("PATCH", path, web.token("admin"), {"notes": "the chief's"}, headers=tag)
    assert (refused.status, refused.json["type"].rpartition(":")[2]) == (412, "changed")
    assert (refused.json["call"]["notes"], refused.json["etag"]) == ("hers", written.json["etag"])
    web.store.details[id] = a_detail(web.behind.house.call.record)
    assert web.ask("GET", path, token).headers["ETag"] == written.json["etag"]
    again = {"If-Match": refused.headers["ETag"]}
    assert web.ask("PATCH", path, web.token("admin"), {"notes": "both"}, headers=again).status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"notes": "x" * 20_001}, 422),
        ({"notes": "x" * 20_000}, 200),
        ({"notes": None}, 200),
        ({"disposition": "none of them"}, 422),
        ({"disposition": "order"}, 200),
        ({"party": {"adapter": "directory", "type": "contact", "id": "9"}}, 422),
        ({"party": {"adapter": "directory"}}, 422),
        ({"agent": "ben"}, 422),
    ],
)
def test_what_may_be_written_of_a_call(web: Web, body: Mapping[str, Any], status: int) -> None:
    id = behind_talks(web)
    reply = web.ask("PATCH", f"/api/v1/calls/{id}", web.token("admin"), body, headers={"If-Match": "*"})
    assert reply.status == status, reply.json


def test_to_an_agent_the_desks_and_the_calls_of_others_are_not_there(web: Web) -> None:
    id, ben = behind_talks(web), web.token("agent", "ben")
    assert web.ask("GET", "/api/v1/desk?agent=anna", ben).status == 403
    assert web.ask("GET", "/api/v1/desk/unwritten?agent=anna", ben).status == 403
    assert web.ask("GET", "/api/v1/desk", ben).json["calls"] == []
    assert (
        web.ask("PATCH", f"/api/v1/calls/{id}", ben, {"notes": "x"}, headers={"If-Match": "*"}).status == 404
    )
    assert web.ask("POST", f"/api/v1/calls/{id}/card", ben, {"attempt": 1}).status == 404
    assert web.ask("POST", f"/api/v1/calls/{id}/wrap_up", ben, {"finish": True}).status == 409
    assert web.ask("GET", f"/api/v1/calls/{id}/history", ben).status == 404


def test_a_painted_card_is_answered_without_a_body(web: Web) -> None:
    reply = web.ask(
        "POST", f"/api/v1/calls/{behind_talks(web)}/card", web.token("agent", "anna"), {"attempt": 1}
    )
    assert (reply.status, reply.body) == (204, b"")
    assert "Content-Length" not in reply.headers
    assert len(web.behind.painted) == 1


def test_a_desk_that_is_nobodys_says_whose_is_meant(web: Web) -> None:
    assert "agent" in web.ask("GET", "/api/v1/desk", web.token("admin")).json["detail"]
    assert web.ask("GET", "/api/v1/desk?agent=zoe", web.token("admin")).status == 404
    assert web.ask("GET", "/api/v1/desk", web.token("supervisor", "ben")).json["agent"]["id"] == "ben"


@pytest.mark.parametrize(
    "body", [{}, {"finish": False}, {"extend": 60, "finish": True}, {"extend": 0}, {"extend": 601}]
)
def test_a_wrap_up_is_either_extended_or_finished(web: Web, body: Mapping[str, Any]) -> None:
    id, token = behind_talks(web), web.token("agent", "anna")
    assert web.ask("POST", f"/api/v1/calls/{id}/wrap_up", token, body).status == 422


def test_a_call_to_make_is_planned_taken_and_closed(web: Web) -> None:
    token = web.token("agent", "anna")
    made = web.ask(
        "POST", "/api/v1/callbacks", token, {"number": "0152 28817386", "due": "2026-03-01T09:00:00Z"}
    )
    assert made.status == 201
    entry = made.json
    assert (entry["number"], entry["owner"], entry["due"]) == (
        "+4915228817386",
        "anna",
        "2026-03-01T09:00:00.000Z",
    )
    assert made.headers["ETag"] == entry["etag"]
    path, tag = f"/api/v1/callbacks/{entry['id']}", {"If-Match": entry["etag"]}
    assert web.ask("PATCH", path, token, {"owner": "zoe"}, headers=tag).status == 422
    assert web.ask("PATCH", path, web.token("agent", "ben"), {"note": "x"}, headers=tag).status == 404
    changed = web.ask("PATCH", path, token, {"note": "after noon", "due": None}, headers=tag)
    assert (changed.status, changed.json["note"], changed.json["due"]) == (200, "after noon", None)
    refused = web.ask("PATCH", path, token, {"state": "done"}, headers=tag)
    assert (refused.status, refused.json["callback"]["note"]) == (412, "after noon")
    assert (
        web.ask("PATCH", path, token, {"state": "done"}, headers={"If-Match": refused.headers["ETag"]}).status
        == 200
    )
    for body in ({"number": "hello"}, {"number": "+4915228817386", "call": "c9"}):
        assert web.ask("POST", "/api/v1/callbacks", token, body).status == 422


def test_a_crm_plans_a_call_for_an_agent_or_for_groups_and_is_told_when_it_will_be(web: Web) -> None:
    token = web.token("crm")
    number = {"number": "+49 30 23125101", "due": "2026-03-02T02:00:00Z"}

    def plan(**more: Any) -> Any:
        return web.ask("POST", "/api/v1/callbacks", token, {**number, **more})

    for body in ({}, {"owner": "zoe"}, {"owner": None, "groups": ["nobody"]}, {"owner": "anna", "anyway": 1}):
        assert plan(**body).status == 422
    # Three in the morning in Berlin.
    entry = plan(owner="anna").json
    assert (entry["due"], entry["next"]) == ("2026-03-02T02:00:00.000Z", "2026-03-02T08:00:00.000Z")
    assert (entry["anyway"], entry["failed_tries"], entry["given_up"]) == (False, 0, None)
    theirs = plan(owner=None, groups=["sales"], anyway=True)
    assert (theirs.status, theirs.json["groups"], theirs.json["owner"]) == (201, ["sales"], None)
    assert (theirs.json["next"], theirs.json["anyway"]) == ("2026-03-02T02:00:00.000Z", True)
    path, tag = f"/api/v1/callbacks/{entry['id']}", {"If-Match": entry["etag"]}
    changed = web.ask("PATCH", path, token, {"anyway": True}, headers=tag).json
    assert changed["next"] == changed["due"] == "2026-03-02T02:00:00.000Z"
    gone = web.ask("PATCH", path, token, {"due": None}, headers={"If-Match": changed["etag"]})
    assert (gone.status, gone.json["next"], gone.json["anyway"]) == (200, None, False)


def test_history_is_brief_for_an_agent_and_has_a_call_once(web: Web) -> None:
    web.store.details["c1"] = a_detail(a_call())
    web.store.records = [a_call(id="c0", started=NOW - 100), a_call(id="c00", started=NOW - 200)]
    reply = web.ask("GET", "/api/v1/calls/c1/history", web.token("agent", "anna"))
    assert [each["id"] for each in reply.json["calls"]] == ["c0", "c00"]
    assert "from_raw" not in reply.json["calls"][0]
    assert {(where.number, where.party, where.until) for where, _, _ in web.store.filters} == {
        ("+4915228817386", None, NOW),
        (None, "directory:17", NOW),
    }
    chief = web.ask("GET", "/api/v1/calls/c1/history?limit=1", web.token("supervisor"))
    assert [each["from_raw"] for each in chief.json["calls"]] == ["0152 28817386"]


def test_an_agent_chooses_one_of_their_phones(web: Web) -> None:
    token = web.token("agent", "anna")
    assert web.ask("PATCH", "/api/v1/agents/anna", token, {"phone": "PJSIP/anna"}).status == 200
    assert web.agents.phones == {"anna": "PJSIP/anna"}
    assert web.agents.wishes == []
    assert web.ask("PATCH", "/api/v1/agents/anna", token, {"phone": "PJSIP/ben"}).status == 422
    assert web.ask("PATCH", "/api/v1/agents/anna", token, {"phone": None}).status == 200
    assert web.ask("PATCH", "/api/v1/agents/anna", token, {}).status == 422


# The whole log, and reports.


def test_an_export_hides_what_the_role_may_not_see(web: Web) -> None:
    masked = Web(masking=Masking({"supervisor": ("name", "number")}))
    for each in (web, masked):
        each.store.records = [a_call(party={"adapter": "directory", "id": "17", "name": "Käthe Ørsted"})]
    for path in ("/api/v1/calls.csv", "/api/v1/calls.jsonl"):
        shown = web.ask("GET", path, web.token("supervisor")).body
        assert "Käthe Ørsted" in shown.decode()
        assert b"+4915228817386" in shown
        hidden = masked.ask("GET", path, masked.token("supervisor")).body
        assert "Käthe Ørsted" not in hidden.decode()
        assert b"15228817386" not in hidden


def test_an_export_has_the_filters_of_the_log_and_is_noted(web: Web) -> None:
    web.store.records = [a_call()]
    reply = web.ask("GET", "/api/v1/calls.jsonl?direction=inbound", web.token("crm"))
    assert [where.direction for where, _, _ in web.store.filters] == ["inbound"]
    assert orjson.dumps(web.store.records[0].id) in reply.body
    assert web.doors.written[-1].action == "GET /api/v1/calls.jsonl"
    assert web.ask("HEAD", "/api/v1/calls.csv", web.token("crm")).body == b""


def test_an_export_goes_on_page_by_page_with_pauses_for_calls(tmp_path: Path) -> None:
    clock, closed = Clock(), list[bool]()
    with open_store_for_command(tmp_path / "cti.db", destinations={}, clock=clock.seconds) as store:
        unit = store.unit()
        for count in range(250):
            unit.put_call(a_call(id=f"c{count:03}", started=NOW + count))
        store.commit_now(unit)

        class Log:
            def calls(self, where: CallFilter, limit: int, after: str | None = None) -> Any:
                return succeed(store.read.calls(where, limit, after))

        export = CallExport(
            Log(),
            CallFilter(),
            CallsAsLines(None),
            lambda work: succeed(work()),
            clock,
            lambda: closed.append(True),
        )
        pieces: list[bytes] = []
        Deferred.fromCoroutine(export.begin())
        Deferred.fromCoroutine(export.piece()).addCallback(pieces.append)
        while pieces[-1]:
            before = len(pieces)
            Deferred.fromCoroutine(export.piece()).addCallback(pieces.append)
            assert len(pieces) == before or not pieces[-1]
            clock.advance(0.01)
            assert len(pieces) == before + 1
    ids = [orjson.loads(line)["id"] for piece in pieces for line in piece.splitlines()]
    assert ids == [f"c{count:03}" for count in reversed(range(250))]
    export.close()
    assert closed == [True]


def test_an_export_that_cannot_begin_is_a_problem_and_not_an_empty_file(web: Web) -> None:
    web.store.broken = True
    assert web.ask("GET", "/api/v1/calls.csv", web.token("supervisor")).status == 503


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("by=week&time_zone=Europe/Berlin", 200),
        ("since=2026-02-01&until=2026-02-03", 200),
        ("since=0001-01-01&by=day", 422),
        ("until=9999-12-31", 200),
        ("since=9999-12-30&until=9999-12-31", 422),
        ("since=1990-01-01&by=hour", 422),
        ("time_zone=Berlin", 422),
        ("time_zone=../../etc/passwd", 422),
        ("by=year", 422),
        ("since=2026-02-03&until=2026-02-02", 422),
    ],
)
def test_a_report_is_made_of_a_time_that_can_be_counted(web: Web, query: str, status: int) -> None:
    assert web.ask("GET", f"/api/v1/reports/calls?{query}", web.token("supervisor")).status == status


def test_figures_of_agents_are_off_but_for_ones_own_and_on_by_the_configuration(web: Web) -> None:
    reply = web.ask("GET", "/api/v1/reports/agents", web.token("admin"))
    assert (reply.status, reply.json["type"].rpartition(":")[2]) == (403, "agent-reports-off")
    own = web.token("agent", "anna")
    assert web.ask("GET", "/api/v1/reports/agents", own).status == 200
    assert web.ask("GET", "/api/v1/reports/agents?agent=anna", own).status == 200
    assert web.ask("GET", "/api/v1/reports/agents?agent=ben", own).status == 403
    on = Web(options=Options(reports=lambda: ReportSettings(agents=True)))
    assert on.ask("GET", "/api/v1/reports/agents", on.token("admin")).status == 200


def test_a_report_names_the_meaning_of_each_figure_in_every_form(web: Web) -> None:
    token = web.token("supervisor")
    shown = web.ask("GET", "/api/v1/reports/calls", token).json
    assert set(shown["total"]) == set(shown["measures"])
    csv = web.ask("GET", "/api/v1/reports/calls.csv", token)
    assert csv.headers["Link"] == '</api/v1/reports/measures>; rel="describedby"'
    meant = web.ask("GET", "/api/v1/reports/measures", token).json
    assert set(csv.body.decode().splitlines()[0].split(",")) - {"day", "service"} == set(meant["calls"])


# People erased, and shown what is kept of them.


def test_who_is_to_be_erased_is_asked_for_by_number_and_told_to_nobody(web: Web) -> None:
    reply = web.ask(
        "POST", "/api/v1/erasures", web.token("admin"), {"numbers": ["0152 28817386"], "directory": True}
    )
    assert web.people.asked == [(Subject(frozenset({"+4915228817386"})), True)]
    assert b"28817386" not in reply.body
    (entry,) = web.doors.written
    assert entry.action == "POST /api/v1/erasures"
    assert "28817386" not in repr(entry)


@pytest.mark.parametrize(
    "whom", [{}, {"names": ["Greta Probe"]}, {"numbers": ["201"]}, {"numbers": ["anna"]}]
)
def test_nobody_is_erased_whom_the_request_does_not_name(web: Web, whom: Any) -> None:
    assert web.ask("POST", "/api/v1/erasures", web.token("admin"), whom).status == 422
    assert web.people.asked == []
