"""What the web needs of the rest of the server, as interfaces; `service.py` plugs in who fulfils them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred

from adapters.directory import DirectoryAdapter
from cti.agents.roster import AgentView
from cti.calls.callbacks import Callbacks
from cti.calls.control import Asker, Done
from cti.calls.deliveries import Deliveries
from cti.calls.desk import Desk
from cti.calls.finder import Finder
from cti.calls.notifications import Trial
from cti.calls.painting import Painting
from cti.calls.parties import Parties
from cti.calls.recordings import Reading
from cti.calls.softphone import Softphone, Told
from cti.calls.turned_away import TurnedAway
from cti.calls.writing_up import WritingUp
from cti.calls.written import Written
from cti.dialling import Allowance
from cti.identify.identification import Identification
from cti.links import LinkTemplate
from cti.metrics import Metrics
from cti.numbers import Number
from cti.privacy.erasing import gathered
from cti.privacy.erasures import Erasures
from cti.privacy.pages import IKept
from cti.privacy.traces import Subject
from cti.reactors import Clock
from cti.reports.desk import ReportDesk
from cti.settings import PauseReason, ReportSettings
from cti.store.base import CallDetail, CallFilter, Unit
from cti.store.records import AskedOnce, AuditRecord, CallRecord, GapRecord, StoredEvent, UserRecord
from cti.web.audit import Audit
from cti.web.events import EventHub
from cti.web.export import Exports
from cti.web.login import Login
from cti.web.masking import Masking
from cti.web.sessions import Sessions
from cti.web.tokens import FailedAttempts, Tokens


class ICallLog(Protocol):
    """What is needed of a store."""

    def calls(
        self, where: CallFilter, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallRecord], str | None]]": ...
    def call(self, id: str) -> "Deferred[CallDetail | None]": ...
    def unwritten(
        self, agent: str, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallDetail], str | None]]": ...
    def gaps(
        self, since: float | None, until: float | None, limit: int, after: str | None = None
    ) -> "Deferred[tuple[Sequence[GapRecord], str | None]]": ...


class IAnswers(Protocol):
    """What is needed of a store to answer a request that is sent again."""

    def asked_once(self, who: str, key: str) -> AskedOnce | None: ...
    def unit(self) -> Unit: ...
    def commit(self, unit: Unit) -> "Deferred[Any]": ...


class IUsers(Protocol):
    """Who may log in, and what was written down of them: of a store."""

    def users(self) -> Sequence[UserRecord]: ...
    def user(self, name: str) -> UserRecord | None: ...
    def audit(
        self, who: str | None, object: str | None, limit: int, before: int | None
    ) -> "Deferred[tuple[Sequence[tuple[int, AuditRecord]], int | None]]": ...
    def unit(self) -> Unit: ...
    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]": ...


class INumbers(Protocol):
    """The number plan."""

    def parse(self, raw: str | None) -> Number: ...
    def display(self, number: str | None) -> str | None: ...
    def for_region(self, region: str) -> "INumbers":
        """The plan of another country. Raises `ValueError` if it is none."""


class IIdentifier(Protocol):
    """Who has a number."""

    async def identify(self, number: Number) -> Identification: ...


class IAgents(Protocol):
    """Who is there, and what they asked for."""

    def views(self) -> Sequence[AgentView]: ...

    def set_wish(self, agent: str, wish: str, reason: str | None, by: str) -> "Deferred[None]":
        """Fires when it is durable. `by` names the token. Raises or fails with `AgentUnknown`."""

    def choose_phone(self, agent: str, phone: str | None, wish: str | None, by: str) -> "Deferred[None]":
        """`wish`: the state that is going to be set with it, if any.

        Fires when it is durable. Raises or fails with `AgentUnknown`, `PhoneUnknown`, `AgentNotReady`.
        """

    def set_skills(self, agent: str, skills: Mapping[str, int], by: str) -> "Deferred[None]":
        """Fires when it is durable. Raises or fails with `AgentUnknown`, `ValueError` for a bad name of a skill."""


class IControl(Protocol):
    """What can be done to calls. Raises `ControlError`'s subclasses and `StoreError`."""

    @property
    def own_recordings(self) -> bool:
        """Whether agents hear the recordings of their calls."""

    async def make_call(self, asker: Asker, agent: str, to: str) -> Done: ...

    async def operate(self, asker: Asker, id: str, operation: str, given: Mapping[str, Any]) -> Done:
        """`operation` is one of `cti.calls.control.OPERATIONS`; `given` what its body has."""

    async def heard(self, asker: Asker, call: CallRecord) -> None:
        """Write down that somebody hears the call's recording."""


class IRecordings(Protocol):
    """Recordings of calls. Raises `RecordingError`'s subclasses."""

    async def open(self, record: CallRecord, part: int | None = None) -> Reading: ...


class ISoftphones(Protocol):
    """Takes in what softphones tell. Raises or fails with `TooMuchTold`, fails with `StoreError`."""

    def tell(self, phone: Softphone, told: Told) -> "Deferred[str | None]":
        """Fires with the call's id once it is durable; None: there is no such call."""


@frozen
class Desktop:
    """What stands behind the agents' desktop, part by part."""

    desk: Desk
    painting: Painting
    written: Written
    writing_up: WritingUp
    callbacks: Callbacks
    parties: Parties
    finder: Finder


@frozen
class Privacy:
    """What is kept of people. `purge` removes what is too old, or only counts it."""

    store: IKept
    erasures: Erasures
    purge: Callable[[bool], Awaitable[Mapping[str, int]]]

    def gathered(self, subject: Subject) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        return gathered(self.store, subject)


@frozen
class DryRun:
    """A call that is only asked about, for `POST /api/v1/explain`; `at` in epoch seconds, None for now."""

    from_raw: str
    to_raw: str
    at: float | None = None


@frozen
class Component:
    """How one part of the server is.

    `detail` is read without a login: no address, name or secret in it. What is not `needed` is shown, and does not
    make the whole fail.
    """

    ok: bool
    detail: str
    needed: bool = True


class IHealth(Protocol):
    """How the server is, part by part."""

    def health(self) -> Mapping[str, Component]:
        """What must work for the process to be worth keeping."""

    def ready(self) -> Mapping[str, Component]:
        """What must work for it to be sent calls."""


@frozen
class Options:
    """How the site is configured.

    `behind_proxy`: the client's address is the last of `X-Forwarded-For`. `url`: our own address, as browsers know
    it, where somebody has said it. `metrics_allow`: networks that read `/metrics` without a token, beside loopback.
    `requests_per_minute`: of each who asks, `searches_per_minute`: those of them that look somebody up. `links`: the
    ways from cards into other systems, `reports`: how they are counted, `pauses`: what is known of
    reasons to pause, all three at this moment.
    """

    behind_proxy: bool = False
    url: str | None = None
    metrics_allow: Sequence[IPv4Network | IPv6Network] = ()
    access_log: bool = False
    max_connections: int = 12_000
    requests_per_minute: int = 1200
    searches_per_minute: int = 60
    links: Callable[[], Sequence[LinkTemplate]] = tuple
    reports: Callable[[], ReportSettings] = ReportSettings
    pauses: Callable[[], Mapping[str, PauseReason]] = dict


@frozen
class Services:
    """Everything that the handlers use. `in_thread` runs a function outside of the reactor."""

    calls: ICallLog
    answers: IAnswers
    numbers: INumbers
    identifier: IIdentifier
    agents: IAgents
    control: IControl
    desktop: Desktop
    recordings: IRecordings
    deliveries: Deliveries
    try_destination: Callable[[str], Awaitable[Trial]]
    softphones: ISoftphones
    turned_away: TurnedAway
    explain: Callable[[DryRun], Awaitable[Mapping[str, Any]]]
    health: IHealth
    privacy: Privacy
    metrics: Metrics
    hub: EventHub
    tokens: Tokens
    users: IUsers
    sessions: Sessions
    login: Login
    audit: Audit
    clock: Clock
    in_thread: Callable[[Callable[[], Any]], "Deferred[Any]"]
    reports: ReportDesk
    options: Options = field(factory=Options)
    masking: Masking = field(factory=Masking)
    directories: Callable[[], Mapping[str, DirectoryAdapter]] = dict
    exports: Exports = field(factory=Exports)
    failures: FailedAttempts = field(init=False)
    searches: Allowance = field(init=False)

    @searches.default
    def _make_searches(self) -> Allowance:
        return Allowance(self.clock.seconds, self.options.searches_per_minute)

    @failures.default
    def _make_failures(self) -> FailedAttempts:
        return FailedAttempts(self.clock)
