"""The one YAML file as typed settings, or every error in it at once, each with its line and column.

What the file says is checked here; how YAML is read is left to `cti.yaml_file`, what is made of it to
`cti.service`. The sections are read value by value, because every error needs the place of its value, and
because cattrs silently makes 50 of 50.9; cattrs reads only the options of adapters, whose classes are not
known here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import field, frozen
from cattrs import BaseValidationError, ClassValidationError, Converter, IterableValidationError
from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError, IterableValidationNote

from cti.agents.desks import Desks, is_desk_pattern
from cti.asterisk.cdr import CdrFile
from cti.dialling import CLASSES, DEFAULT_CLASSES, DiallingRules
from cti.event_types import EVENT_TYPES
from cti.hours import OpeningHours, read_hours, read_zone
from cti.identify.lists import NumberList, wrong_with_pattern
from cti.identify.options import (
    ASK,
    LONGEST_DEADLINE,
    POLICIES,
    Asking,
    CacheSettings,
    Live,
    Options,
    Order,
)
from cti.journal_text import JournalText, languages
from cti.links import MAX_TITLE, AddressTemplate, LinkTemplate
from cti.numbers import NumberKind, NumberPlan
from cti.reach import Network, Reach, reach_of
from cti.secret import Secret, SecretError, read_secret, signing_key
from cti.spooling import AFTER as SPOOL_AFTER, SIZE as SPOOL_SIZE, SpoolSettings
from cti.store.address import NO_ADDRESS, is_address
from cti.yaml_file import (
    NAME_IS,
    ListNode,
    MappingNode,
    Place,
    Problem,
    ScalarNode,
    Section,
    YamlFile,
    is_name,
)
from routing.clock import Hours
from routing.facts import SKILL_LEVELS, is_phone
from routing.own import NOTHING, Own
from routing.problems import Path as Keys, RulesError, path_text
from routing.reading import MAX_TIMEOUT as MAX_RING_TIMEOUT, compile_rules, dialplan_place, loops
from routing.rules import (
    AT_ANSWER,
    AT_END,
    MAX_CAUSE,
    OPEN_CARD,
    RING_TIMEOUT,
    DialNumber,
    Mode,
    Newcomers,
    QuickCreate,
    Rejection,
    Rule,
    Service,
)
from routing.words import quoted, unknown

# Of a file of certificates; all that a Debian trusts are 220 kB.
MAX_PEM: Final = 1024 * 1024

# The dialplan waits 3 s for an answer and then goes on without us.
MAX_ANSWER_MS: Final = 2900
MAX_SOUND: Final = 200
MAX_WRAP_UP: Final = 3600
MAX_SERVICE_LEVEL: Final = 3600
# More would leave nothing of the caller's patience, or of `answer_ms`.
MAX_CARD_LEAD_MS: Final = 2000
MAX_DISPOSITIONS: Final = 100
MAX_SET_ASIDE_AFTER: Final = 100
MAX_PAUSES: Final = 100
MAX_PAUSE_MINUTES: Final = 1440
PARTY_CREATED: Final = ("contact", "lead")
PARTY_TYPES: Final = ("contact", "organisation", "lead", "partner", "supplier")
MAX_LINKS: Final = 20

SEED_STATES: Final = ("logged_out", "ready", "paused")
#: What may be said of an agent, here and in a file of agents.
AGENT_KEYS: Final = ("name", "phones", "groups", "crm", "state", "skills", "concurrency")
#: More calls at once than any switchboard's phone has keys for.
MAX_CONCURRENCY: Final = 20
SUPERVISION: Final = ("listen", "whisper", "barge")
DIRECTIONS: Final = ("inbound", "outbound", "internal")
#: When an address of `notify` is opened.
URL_MOMENTS: Final = ("ringing", "connected", "ended", "missed")
#: What may stand in braces in such an address, and of these what another one stands for at each agent.
URL_WORDS: Final = (
    "event",
    "event_id",
    "call_id",
    "direction",
    "number",
    "number_digits",
    "number_with_prefix",
    "own_number",
    "service",
    "agent",
    "agent_name",
    "extension",
    "party_id",
    "party_type",
    "party_name",
    "at",
    "outcome",
    "duration",
    "talk",
    "secret",
)
URL_WORDS_OF_AGENT: Final = frozenset({"agent", "agent_name", "extension"})
MAX_SECRETS: Final = 5
MAX_URLS: Final = 5
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

ROLES: Final = ("agent", "supervisor", "admin", "crm")
#: What of a customer may be hidden from a role.
MASKABLE: Final = (
    "name",
    "company",
    "url",
    "owner",
    "tier",
    "language",
    "tags",
    "cases",
    "last_contacts",
    "notes",
    "appointments",
    "tasks",
    "balance",
    "links",
    "number",
)
_RENEW_DAYS: Final = 7

_LOOPBACK: Final[tuple[Network, ...]] = (
    ipaddress.ip_network("127.0.0.0/8"),
    ipaddress.ip_network("::1/128"),
)
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
# It begins CTI_CARD_URL, and so goes through the dialplan and into a SIP header.
_PUBLIC_URL: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~%/-]*)?", re.IGNORECASE)
# A file below Asterisk's sounds, without its ending.
_SOUND: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(/[A-Za-z0-9_][A-Za-z0-9_-]*)*")


@frozen
class Address:
    host: str
    port: int


@frozen
class StoreSettings:
    """A file of SQLite's, or the address of a PostgreSQL database. `directory`: where what belongs to it is kept."""

    directory: Path
    sqlite: Path | None = None
    postgresql: Secret | None = None
    spool: SpoolSettings | None = None

    @property
    def place(self) -> Path | str:
        if self.postgresql is not None:
            return self.postgresql.reveal()
        assert self.sqlite is not None
        return self.sqlite


@frozen
class PhoneIndexSettings:
    """`directory`: where its files are. The others: seconds, as in `cti.index.feed.FeedSettings`."""

    directory: Path
    changes_seconds: int = 30
    list_seconds: int = 3600
    full_seconds: int = 86_400


@frozen
class FastAgi:
    """`allow`: the networks that may connect. `max_in_flight`: requests at once; those beyond are shed."""

    listen: Address = Address("127.0.0.1", 4573)
    allow: tuple[Network, ...] = _LOOPBACK
    max_in_flight: int = 256


@frozen
class ServerCertificate:
    """The PEM files of the certificate, with those above it, and of its key."""

    certificate: Path
    key: Path


@frozen
class SessionSettings:
    """A session ends when it was not used for `idle_hours`, and after `days` in any case."""

    idle_hours: int = 12
    days: int = 7


@frozen
class Http:
    """`behind_proxy`: a proxy in front keeps TLS. `metrics_allow`: who reads /metrics without a token.

    `url`: the address under which browsers come here, without a slash at the end; None if nobody has said it. `tls`:
    None for a connection without. `session`: how long people stay logged in. `masking`: role → what of a customer
    it does not see. `requests_per_minute`: of each who asks.
    """

    listen: Address = Address("127.0.0.1", 8470)
    behind_proxy: bool = False
    metrics_allow: tuple[Network, ...] = _LOOPBACK
    url: str | None = None
    tls: ServerCertificate | None = None
    session: SessionSettings = SessionSettings()
    masking: Mapping[str, tuple[str, ...]] = field(factory=dict)
    requests_per_minute: int = 1200


@frozen
class Tls:
    """`ca`: PEM of who is trusted to sign, None for whom the system trusts; `name`: whom the certificate is for."""

    name: str
    ca: bytes | None = field(default=None, repr=False)


@frozen
class Recordings:
    """Where the recordings of an Asterisk are read: a directory of this machine, or the address of one on the web."""

    directory: Path | None = None
    url: str | None = None


@frozen
class Asterisk:
    """`login`: `md5`, or `plain` where nobody can listen; `tls`: None for a connection without.

    `cdr`: where its call records can be read; None if nobody has said it.

    `capable_phones`: those that hold and answer when Asterisk tells them to, by a NOTIFY in the dialogue.
    """

    name: str
    ami: Address
    username: str
    secret: Secret
    login: Literal["md5", "plain"] = "md5"
    tls: Tls | None = None
    cdr: CdrFile | None = None
    recordings: Recordings | None = None
    capable_phones: frozenset[str] = frozenset()


_JOURNAL_SUBJECT: Final = JournalText("{call}")
_JOURNAL_TEXT: Final = JournalText("{about}\n{course}\n{disposition}\n{notes}")


@frozen
class JournalSettings:
    """How a CRM is told of calls, and of which.

    `directions`, `services` (None: all) and `without` (numbers and prefixes, E.164) are what they are chosen by;
    `blocked`: also of whom the lists turn away; `unknown`: also of whom nobody knows, if the CRM takes such calls.
    `language`: None for the company's. `lost_seconds`: what a CRM may still do with a request whose answer was lost.
    """

    directions: frozenset[str] = frozenset({"inbound", "outbound"})
    services: frozenset[str] | None = None
    without: NumberList = field(factory=NumberList)
    blocked: bool = False
    unknown: bool = False
    subject: JournalText = _JOURNAL_SUBJECT
    text: JournalText = _JOURNAL_TEXT
    language: str | None = None
    lost_seconds: int = 30


@frozen
class AdapterSettings:
    """`options`: an instance of the kind's `options_class`; not shown, since it may hold a password.

    `asking`: what every adapter may be told; `journal`: how its CRM is told of calls, None if it is not. Another one
    of these makes no other adapter.
    """

    name: str
    kind: str
    options: Any = field(repr=False)
    asking: Asking = field(factory=Asking, eq=False)
    journal: JournalSettings | None = field(factory=JournalSettings, eq=False)


@frozen
class Agent:
    """A person to seed a fresh store with.

    `crm`: adapter → user id there; `state`: one of `SEED_STATES`; `skills`: name → level;
    `concurrency`: how many calls they may have at once, at most `MAX_CONCURRENCY`.
    """

    id: str
    name: str
    phones: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()
    crm: Mapping[str, str] = field(factory=dict)
    state: str = "logged_out"
    skills: Mapping[str, int] = field(factory=dict)
    concurrency: int = 1


@frozen
class Wanted:
    """Of which calls a notification is: those of these services, directions, and of parties of these adapters.

    None: of all. What is of no call is wanted only where all are.
    """

    services: frozenset[str] | None = None
    directions: frozenset[str] | None = None
    adapters: frozenset[str] | None = None


@frozen
class Webhook:
    """`secrets`: the newest first; each event is signed with all of them. `reach`: where its address may lead."""

    name: str
    url: str
    secrets: tuple[Secret, ...]
    events: tuple[str, ...]
    wanted: Wanted = Wanted()
    reach: Reach = field(factory=Reach)


@frozen
class UrlEvents:
    """What a softphone connector would open: `addresses` for some of `URL_MOMENTS`.

    `prefix`: what a phone dials first for an outside line. `secret`: what may stand in the addresses as `{secret}`.
    """

    name: str
    addresses: Mapping[str, tuple[AddressTemplate, ...]]
    method: str
    headers: Mapping[str, Secret]
    prefix: str
    secret: Secret | None
    wanted: Wanted
    reach: Reach


@frozen
class OpenCalls:
    """After how many hours a call whose end nobody tells is closed: one at an Asterisk, and one of a softphone."""

    asterisk_hours: int = 24
    softphone_hours: int = 4


@frozen
class OutboxSettings:
    """`give_up_hours`: so old, what is not delivered is given up."""

    give_up_hours: int = 168


@frozen
class Identify:
    """How it is found out who is calling.

    `budget_ms`: what all adapters together may take. `patience_ms`: how long others are waited for once somebody is
    found. `ambiguity`: what settles which of several it is. `ignored`, `blocked`: numbers (E.164) and prefixes such
    as `+49900*`; `reject`: how who is blocked is turned away, as rules say it or by a cause of Q.850; `announce`: the
    sound that they hear instead, None: none.
    """

    budget_ms: int = 800
    patience_ms: int = 250
    order: Order = Order.PARALLEL
    cache: CacheSettings = field(factory=CacheSettings)
    ambiguity: tuple[str, ...] = POLICIES
    ignored: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    reject: str = Rejection.DECLINED
    announce: str | None = None

    @property
    def options(self) -> Options:
        """The same for who asks, in seconds."""
        return Options(self.budget_ms / 1000, self.patience_ms / 1000, self.order, self.cache, self.ambiguity)


@frozen
class Reservation:
    """`grace`: seconds that an agent stays held after the ringing should have ended."""

    grace: int = 15


@frozen
class SetAsideAfter:
    """After how many offers in a row that they let ring an agent is set aside; 0: never.

    `services`: of those that say so themselves.
    """

    usual: int = 1
    services: Mapping[str, int] = field(factory=dict)

    def of(self, service: str | None) -> int:
        """The number that counts for an offer of this service."""
        return self.services.get(service or "", self.usual)


@frozen
class CallControl:
    """What may be done to calls from here.

    `office_number`: shown to who is called, None: as Asterisk has it. `auto_answer`: the agent's own phone picks up a
    call that they make here, if it can. `ring_seconds`: how long it rings if it does not. `calls_per_minute`: to the
    outside, for each token and agent. `supervise`: those of `SUPERVISION` that supervisors may do. The announcements
    are sounds of Asterisk, None for silence. `own_recordings`: whether agents hear those of their calls.
    """

    dialling: DiallingRules
    office_number: str | None = None
    auto_answer: bool = False
    ring_seconds: int = 30
    calls_per_minute: int = 10
    supervise: frozenset[str] = frozenset()
    supervise_announcement: str | None = None
    record: bool = False
    record_announcement: str | None = None
    own_recordings: bool = False


@frozen
class PauseReason:
    """What people read of a reason to pause, by language, `""` for any, and the `minutes` that it may last, if so."""

    titles: Mapping[str, str] = field(factory=dict)
    minutes: int | None = None

    def until(self, since: float) -> float | None:
        """The end (epoch seconds) of a pause that began then; None: it has none."""
        return None if self.minutes is None else since + self.minutes * 60.0


@frozen
class Desk:
    """`ready_without_desktop`: whether who has no desktop open is offered calls.

    `pause_reasons`: to choose from; `pauses`: those of them of which more is known.
    """

    ready_without_desktop: bool = True
    pause_reasons: tuple[str, ...] = ("break", "lunch", "meeting")
    pauses: Mapping[str, PauseReason] = field(factory=dict)


@frozen
class CallbackSettings:
    """How planned calls are made. `begin`, `end`: minutes of the customer's day between which they may be called.

    `tries`: how often they are called in vain before it is left to people; `pauses`: minutes after the first such
    try, the second, and so on, the last of them for all others. `put_off`: minutes after which it is tried again that
    nobody could make.
    """

    begin: int = 9 * 60
    end: int = 20 * 60
    tries: int = 3
    pauses: tuple[int, ...] = (15, 60, 240)
    put_off: int = 2


MAX_TRIES: Final = 20
MAX_PAUSE: Final = 7 * 24 * 60
MAX_PUT_OFF: Final = 60


@frozen
class Retention:
    """For how many days what is kept; None: for ever. `at`: the hour and minute, here, of the daily removal.

    `numbers`: after it, calls are kept without who was at the other end. All that could tell it is kept no longer
    than that; `remembered` is whom agents chose and who was taken into a CRM, `periods` what agents' time went into.
    """

    at: tuple[int, int] = (3, 30)
    calls: int | None = None
    numbers: int | None = None
    recordings: int | None = None
    decisions: int | None = None
    cards: int | None = None
    events: int | None = None
    outbox: int | None = None
    callbacks: int | None = None
    remembered: int | None = None
    periods: int | None = None
    audit: int | None = None

    @property
    def keeps_less(self) -> bool:
        """Whether there is anything to remove."""
        return any(getattr(self, kind) is not None for kind in RETAINED)


#: What tells who somebody was, and is not kept longer than their number is.
TELLING: Final = ("recordings", "decisions", "cards", "events", "outbox", "callbacks", "remembered")
RETAINED: Final = ("calls", "numbers", *TELLING, "periods", "audit")
MAX_DAYS: Final = 36_500


@frozen
class ReportSettings:
    """How reports count. `time_zone`: the company's, None where the file tells of none, or of several.

    `service_level`: seconds within which a call should be answered, where its service does not say; `short`: who
    leaves sooner than that gave up at once. `agents`: whether supervisors see figures of single agents.
    """

    time_zone: ZoneInfo | None = None
    service_level: int = 20
    short: int = 5
    agents: bool = False

    @property
    def zone(self) -> ZoneInfo:
        """Whose days and hours reports are of."""
        return self.time_zone or ZoneInfo("UTC")


@frozen
class Log:
    level: str = "info"


@frozen
class LdapPhonebook:
    """The phonebook by LDAP. ``allow``: from which networks; ``anonymous``: without a password; ``limit``: entries.

    `tls`: None for a connection without, as old phones need it.
    """

    listen: Address
    allow: tuple[Network, ...] = _LOOPBACK
    base: str = "ou=phonebook"
    bind_dn: str = ""
    password: Secret | None = None
    anonymous: bool = False
    limit: int = 200
    tls: ServerCertificate | None = None


@frozen
class XmlPhonebook:
    """The phonebook as XML over HTTP. `token`: a word in the path, None if the address is enough."""

    listen: Address
    allow: tuple[Network, ...] = _LOOPBACK
    token: Secret | None = None


@frozen
class PhonebookSettings:
    """The phone index as phones read it. `prefix`: what they dial first; `adapters`: whose people, None for all."""

    title: str = "Phonebook"
    prefix: str = ""
    adapters: frozenset[str] | None = None
    ldap: LdapPhonebook | None = None
    xml: XmlPhonebook | None = None


@frozen
class Settings:
    """The whole file. `base`: its directory, to which relative paths refer; `numbers`: number → service.

    `answer_ms`: what an answer to Asterisk may take in all. `links`: ways from cards into other systems.
    `language`: the company's, for what is written into CRMs.
    `sensitive_keys`: kinds of key that are to be seen nowhere, whatever their adapter says of them. `advice`: what is
    no problem, and should be known.
    """

    path: Path
    base: Path
    region: str
    plan: NumberPlan
    store: StoreSettings
    fastagi: FastAgi
    http: Http
    asterisks: Mapping[str, Asterisk]
    adapters: Mapping[str, AdapterSettings]
    agents: Mapping[str, Agent]
    services: Mapping[str, Service]
    numbers: Mapping[str, Service]
    webhooks: Mapping[str, Webhook]
    notify: Mapping[str, UrlEvents]
    identify: Identify
    index: PhoneIndexSettings
    answer_ms: int
    reservation: Reservation
    call_control: CallControl
    log: Log
    desk: Desk = Desk()
    links: tuple[LinkTemplate, ...] = ()
    sensitive_keys: frozenset[str] = frozenset()
    phonebook: PhonebookSettings = PhonebookSettings()
    retention: Retention = Retention()
    reports: ReportSettings = field(factory=ReportSettings)
    language: str = "en"
    outbox: OutboxSettings = OutboxSettings()
    set_aside_after: SetAsideAfter = SetAsideAfter()
    desks: Desks = field(factory=Desks)
    open_calls: OpenCalls = OpenCalls()
    callbacks: CallbackSettings = CallbackSettings()
    advice: tuple[Problem, ...] = field(default=(), eq=False)

    @property
    def crms(self) -> frozenset[str]:
        """What an agent can be a user of: the adapters, and what is told by URLs."""
        return frozenset({*self.adapters, *self.notify})

    @property
    def own_numbers(self) -> frozenset[str]:
        """Our public numbers: who calls from one of them is no customer."""
        numbers = {*self.numbers, self.call_control.office_number}
        return frozenset(number for number in numbers if number is not None and number.startswith("+"))


class SettingsError(Exception):
    """A file that cannot be used; its text is one line for each problem, by line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load_settings(
    path: str | Path,
    *,
    adapter_kinds: Mapping[str, type[Any]],
    known_agents: Collection[str] = frozenset(),
    known_groups: Collection[str] = frozenset(),
    known_skills: Collection[str] = frozenset(),
    own: Own = NOTHING,
    environ: Mapping[str, str],
) -> Settings:
    """The settings in the file at `path`. Raises `SettingsError` with everything that is wrong in it.

    `adapter_kinds`: kind → the attrs class of its options, asked only for kinds that the file uses.
    `known_agents`, `known_groups`, `known_skills`: those of the store, which rules may name besides those of the
    file.
    `own`: conditions and actions of the company's own; those that rules name are asked to check what the rules say.
    `environ`: where `{env: NAME}` looks. Reads the file and those of its secrets, blocking.
    """
    file = YamlFile(Path(path))
    root = file.open()
    settings = None
    if root is not None:
        settings = _Reader(
            file,
            adapter_kinds,
            frozenset(known_agents),
            frozenset(known_groups),
            frozenset(known_skills),
            own,
            environ,
        ).settings(root)
    if file.problems or settings is None:
        raise SettingsError(tuple(sorted(set(file.problems))))
    return settings


def skills_of(file: YamlFile, place: Place | None) -> dict[str, int]:
    """What an agent is good at: skill → level."""
    lowest, highest = SKILL_LEVELS[0], SKILL_LEVELS[-1]
    return {skill: file.whole(level, lowest, lowest, highest) for skill, level in file.named(place)}


class _Reader:
    """Reads each section, going on after a problem with a value that stands for the wrong one."""

    def __init__(
        self,
        file: YamlFile,
        adapter_kinds: Mapping[str, type[Any]],
        known_agents: frozenset[str],
        known_groups: frozenset[str],
        known_skills: frozenset[str],
        own: Own,
        environ: Mapping[str, str],
    ) -> None:
        self._file = file
        self._wrong = file.wrong
        self._adapter_kinds = adapter_kinds
        self._known_agents = known_agents
        self._known_groups = known_groups
        self._known_skills = known_skills
        self._own = own
        self._environ = environ

    def settings(self, root: Place) -> Settings | None:
        top = self._file.section(root, _TOP)
        plan = self._plan(top)
        store = self._store(top.need("store", "{sqlite: cti.db}"))
        fastagi = self._fastagi(top.get("fastagi"))
        http = self._http(top.get("http"))
        asterisks = self._asterisks(top)
        adapters = dict(self._adapters(top.get("adapters")))
        told = self._file.section(top.get("notify"), None).entries
        agents = self._agents(top, frozenset({*adapters, *told}))
        hours = {name: read_hours(self._file, place) for name, place in self._file.named(top.get("hours"))}
        services, numbers = self._services(top, plan, agents, frozenset(adapters), hours)
        self._journaled_services(top.get("adapters"), adapters, services)
        webhooks = dict(self._webhooks(top.get("webhooks"), services, adapters))
        notify = dict(self._notify(top.get("notify"), services, adapters))
        outbox = self._file.section(top.get("outbox"), ("give_up_hours",))
        give_up = self._file.whole(outbox.get("give_up_hours"), OutboxSettings().give_up_hours, 1, 8760)
        identify, answer_ms = self._times(top)
        reservation = self._file.section(top.get("reservation"), ("grace",))
        log = self._file.section(top.get("log"), ("level",))
        grace = self._file.whole(reservation.get("grace"), Reservation().grace, 1, 3600)
        level = self._file.choice(log.get("level"), Log().level, "level", LOG_LEVELS)
        if fastagi.listen == http.listen:
            place = top.get("http") or top.get("fastagi") or root
            self._wrong(
                place, f"listens on port {http.listen.port} as fastagi does; another port would be right"
            )
        links = tuple(self._links(top.get("links"), adapters))
        sensitive = frozenset(self._sensitive_keys(top.get("sensitive_keys")))
        call_control = None if plan is None else self._call_control(top.get("call_control"), plan)
        if plan is None or store is None or call_control is None:
            return None
        return Settings(
            path=self._file.path,
            base=self._file.base,
            region=plan.region,
            plan=plan,
            store=store,
            fastagi=fastagi,
            http=http,
            asterisks=asterisks,
            adapters=adapters,
            agents=agents,
            services=services,
            numbers=numbers,
            webhooks=webhooks,
            notify=notify,
            identify=identify,
            index=self._index(top.get("index"), store),
            answer_ms=answer_ms,
            reservation=Reservation(grace),
            call_control=call_control,
            log=Log(level),
            desk=self._desk(top.get("desk"), top.get("pauses")),
            links=links,
            sensitive_keys=sensitive,
            phonebook=self._phonebook(top.get("phonebook"), adapters),
            retention=self._retention(top.get("retention")),
            reports=self._reports(top.get("reports"), hours.values()),
            language=self._file.choice(top.get("language"), "en", "language", languages()),
            outbox=OutboxSettings(give_up),
            set_aside_after=self._set_aside_after(top),
            desks=Desks(tuple(self._desks(top.get("desks")))),
            open_calls=self._open_calls(top),
            callbacks=self._callbacks(top.get("callbacks")),
            advice=tuple(sorted(set(self._file.advice))),
        )

    def _desks(self, place: Place | None) -> Iterator[str]:
        for each in self._file.items(place, "[PJSIP/desk-7, PJSIP/desk-b*]", at_least_one=True):
            name = self._file.text(each)
            if name is not None and is_desk_pattern(name):
                yield name
            elif name is not None:
                right = "PJSIP/desk-7 would be one, PJSIP/desk-* all of that name"
                self._wrong(each, f"{quoted(name)} is no phone of a desk; {right}")

    def _set_aside_after(self, top: Section) -> SetAsideAfter:
        usual = self._file.whole(top.get("set_aside_after"), SetAsideAfter().usual, 0, MAX_SET_ASIDE_AFTER)
        own = {
            # What else is wrong in a service is found with the services, too, and told once.
            name: self._file.section(place, _SERVICE).get("set_aside_after")
            for name, place in self._file.named(top.get("services"))
        }
        return SetAsideAfter(
            usual,
            {
                name: self._file.whole(place, usual, 0, MAX_SET_ASIDE_AFTER)
                for name, place in own.items()
                if place is not None
            },
        )

    def _open_calls(self, top: Section) -> OpenCalls:
        section = self._file.section(top.get("open_calls"), ("asterisk_hours", "softphone_hours"))
        kept = OpenCalls()
        return OpenCalls(
            self._file.whole(section.get("asterisk_hours"), kept.asterisk_hours, 1, 8760),
            self._file.whole(section.get("softphone_hours"), kept.softphone_hours, 1, 8760),
        )

    def _plan(self, top: Section) -> NumberPlan | None:
        region = top.need("region", "DE")
        digits = self._file.whole(top.get("internal_digits"), 5, 0, 8)
        name = self._file.text(region) if region is not None else None
        if region is None or name is None:
            return None
        try:
            return NumberPlan(name, digits)
        except ValueError as error:
            self._wrong(region, str(error))
            return None

    def _store(self, place: Place | None) -> StoreSettings | None:
        section = self._file.section(place, ("sqlite", "postgresql", "spool"))
        if (url := section.get("postgresql")) is None:
            name = self._file.text(section.need("sqlite", "cti.db"))
            if name is None:
                return None
            path = self._file.base / name
            return StoreSettings(path.parent, path, spool=self._spool(section.get("spool"), path.parent))
        if (file := section.get("sqlite")) is not None:
            self._wrong(file, "is one of two stores; either `sqlite` or `postgresql` would be right")
        before = len(self._file.problems)
        secret = self._secret(url)
        if len(self._file.problems) == before and not is_address(secret.reveal()):
            self._wrong(url, NO_ADDRESS)
        spool = self._spool(section.get("spool"), self._file.base)
        return StoreSettings(self._file.base, postgresql=secret, spool=spool)

    def _spool(self, place: Place | None, beside: Path) -> SpoolSettings | None:
        """None where there is to be none."""
        section = self._file.section(place, ("directory", "megabytes", "after_ms"))
        megabytes = self._file.whole(section.get("megabytes"), SPOOL_SIZE >> 20, 0, 4096)
        directory = self._file.text(section.get("directory"))
        if not megabytes:
            return None
        after = self._file.whole(section.get("after_ms"), round(SPOOL_AFTER * 1000), 20, 1000)
        return SpoolSettings(
            beside / "spool" if directory is None else self._file.base / directory,
            megabytes << 20,
            after / 1000,
        )

    def _fastagi(self, place: Place | None) -> FastAgi:
        section = self._file.section(place, ("listen", "allow", "max_in_flight"))
        listen = self._listen(section.get("listen"), FastAgi().listen)
        where = section.get("listen")
        if where is not None and not _is_loopback(listen.host) and section.get("allow") is None:
            self._wrong(
                where,
                f"{quoted(listen.host)} is reachable from elsewhere; `allow: [networks of your Asterisks]`"
                " beside it, or 127.0.0.1, would be right",
            )
        return FastAgi(
            listen,
            self._networks(section.get("allow")),
            self._file.whole(section.get("max_in_flight"), FastAgi().max_in_flight, 1, 10_000),
        )

    def _http(self, place: Place | None) -> Http:
        section = self._file.section(
            place,
            (
                "listen",
                "behind_proxy",
                "metrics_allow",
                "url",
                "tls",
                "session",
                "masking",
                "requests_per_minute",
            ),
        )
        listen = self._listen(section.get("listen"), Http().listen)
        where = section.get("listen")
        behind_proxy = self._file.yes_or_no(section.get("behind_proxy"), False)
        tls_place = section.get("tls")
        if where is not None and not _is_loopback(listen.host) and not behind_proxy and tls_place is None:
            self._wrong(
                where,
                f"{quoted(listen.host)} is reachable from elsewhere without encryption; 127.0.0.1, or"
                " `tls: {certificate: FILE, key: FILE}` beside it, or `behind_proxy: true` once a proxy does TLS,"
                " would be right",
            )
        return Http(
            listen,
            behind_proxy,
            self._networks(section.get("metrics_allow")),
            self._public_url(section.get("url")),
            self._server_certificate(tls_place),
            self._session(section.get("session")),
            dict(self._masking(section.get("masking"))),
            self._file.whole(section.get("requests_per_minute"), Http().requests_per_minute, 60, 1_000_000),
        )

    def _server_certificate(self, place: Place | None) -> ServerCertificate | None:
        if place is None:
            return None
        section = self._file.section(place, ("certificate", "key"))
        places = [
            section.need(name, f"/etc/cordboard/{file}")
            for name, file in (("certificate", "tls.crt"), ("key", "tls.key"))
        ]
        names = [self._file.text(each, one_line=True) for each in places]
        if names[0] is None or names[1] is None:
            return None
        # Its own tenth of a second, for those who use it.
        from cti.certificates import CertificateUnusable, read_pair

        found = ServerCertificate(self._file.base / names[0], self._file.base / names[1])
        try:
            pair = read_pair(found.certificate, found.key)
        except CertificateUnusable as error:
            wrong = 1 if error.of_key else 0
            self._wrong(places[wrong] or place, f"{quoted(str(names[wrong]))} {error}")
        else:
            if pair.ends - datetime.now(UTC) < timedelta(days=_RENEW_DAYS):
                self._file.advise(
                    place, f"the certificate ends on {pair.ends:%Y-%m-%d}; a renewed one would be right"
                )
        return found

    def _session(self, place: Place | None) -> SessionSettings:
        section = self._file.section(place, ("idle_hours", "days"))
        default = SessionSettings()
        return SessionSettings(
            self._file.whole(section.get("idle_hours"), default.idle_hours, 1, 24 * 7),
            self._file.whole(section.get("days"), default.days, 1, 30),
        )

    def _masking(self, place: Place | None) -> Iterator[tuple[str, tuple[str, ...]]]:
        for role, each in self._file.named(place):
            if role not in ROLES:
                self._wrong(each, unknown("role", role, ROLES))
            fields = self._file.items(each, "[notes, tier]")
            yield role, tuple(self._file.choice(field, MASKABLE[0], "field", MASKABLE) for field in fields)

    def _public_url(self, place: Place | None) -> str | None:
        text = self._url(place)
        if place is not None and text and not _PUBLIC_URL.fullmatch(text):
            self._wrong(
                place,
                "is not an address to put paths behind; a host and at most a path, without a query, would be"
                ' right, such as "https://cti.example"',
            )
        return text.rstrip("/") or None

    def _asterisks(self, top: Section) -> dict[str, Asterisk]:
        asterisks = {}
        for name, place in self._file.named(top.need("asterisks", "{main: {ami: …}}"), at_least_one=True):
            if name == NO_ASTERISK:
                self._wrong(place, f"{name} stands for phones at no Asterisk; another name would be right")
            section = self._file.section(place, _ASTERISK)
            ami_place = section.need("ami", '"127.0.0.1:5038"')
            ami = self._connect(ami_place)
            tls = self._tls(section.get("tls"), ami)
            asterisks[name] = Asterisk(
                name,
                ami,
                self._file.text(section.need("username", "cti"), one_line=True) or "",
                self._secret(section.need("secret", "{env: AMI_SECRET}")),
                self._login(section.get("login"), exposed=tls is None and not is_here(ami.host)),
                tls,
                self._cdr(section.get("cdr")),
                self._recordings(section.get("recordings")),
                frozenset(phone for _, phone in self._phones(section.get("capable_phones"))),
            )
            if ami_place is not None and tls is None and ami.host and not is_here(ami.host):
                self._file.advise(
                    ami_place,
                    f"numbers and names travel to {quoted(ami.host)} unencrypted; `tls: true` beside it, or a"
                    " network where nobody can listen, would be right",
                )
        return asterisks

    def _recordings(self, place: Place | None) -> Recordings | None:
        if place is None:
            return None
        section = self._file.section(place, ("directory", "url"))
        directory, url = section.get("directory"), section.get("url")
        if (directory is None) == (url is None):
            self._wrong(
                place,
                "says where the recordings are read; either `directory: /var/spool/asterisk/monitor` or"
                ' `url: "https://pbx.example/recordings"` would be right',
            )
        path = self._file.text(directory, one_line=True)
        return Recordings(
            None if path is None else self._file.base / path, None if url is None else self._public_url(url)
        )

    def _call_control(self, place: Place | None, plan: NumberPlan) -> CallControl:
        section = self._file.section(place, _CALL_CONTROL)
        default = CallControl(DiallingRules(plan))
        countries = tuple(self._countries(section.get("countries"))) or default.dialling.countries
        classes = [
            self._file.choice(each, DEFAULT_CLASSES[0], "class of numbers", CLASSES)
            for each in self._file.items(section.get("classes"), "[fixed_line, mobile]")
        ]
        supervise = self._file.items(section.get("supervise"), "[listen]")
        return CallControl(
            DiallingRules(
                plan, tuple(classes) if "classes" in section.entries else DEFAULT_CLASSES, countries
            ),
            self._one_number(section.get("office_number"), plan),
            self._file.yes_or_no(section.get("auto_answer"), default.auto_answer),
            self._file.whole(section.get("ring_seconds"), default.ring_seconds, 5, 120),
            self._file.whole(section.get("calls_per_minute"), default.calls_per_minute, 1, 1000),
            frozenset(self._file.choice(each, "listen", "kind", SUPERVISION) for each in supervise),
            self._sound(section.get("supervise_announcement")),
            self._file.yes_or_no(section.get("record"), default.record),
            self._sound(section.get("record_announcement")),
            self._file.yes_or_no(section.get("own_recordings"), default.own_recordings),
        )

    def _countries(self, place: Place | None) -> Iterator[str]:
        for each in self._file.items(place, "[DE, AT]", at_least_one=True):
            name = self._file.text(each)
            if name is None:
                continue
            try:
                yield NumberPlan(name).region
            except ValueError as error:
                self._wrong(each, str(error))

    def _one_number(self, place: Place | None, plan: NumberPlan) -> str | None:
        raw = self._file.text(place)
        if place is None or raw is None:
            return None
        number = plan.parse(raw)
        if number.e164 is None:
            self._wrong(
                place, f"{quoted(raw)} is not a telephone number; + and the country code would be right"
            )
        return number.e164

    def _sound(self, place: Place | None) -> str | None:
        name = self._file.text(place)
        if place is None or name is None:
            return None
        if len(name) > MAX_SOUND or not _SOUND.fullmatch(name):
            self._wrong(
                place,
                f"{quoted(name)} is no sound; a file without its ending, such as `custom/hello`, would be right",
            )
        return name

    def _cdr(self, place: Place | None) -> CdrFile | None:
        if place is None:
            return None
        section = self._file.section(place, ("file", "zone"))
        name = self._file.text(section.need("file", "/var/log/asterisk/cdr-csv/Master.csv"), one_line=True)
        zone_place = section.get("zone")
        zone = self._file.text(zone_place, one_line=True) or "UTC"
        try:
            found = ZoneInfo(zone)
        except (ValueError, ZoneInfoNotFoundError, OSError):
            self._wrong(
                zone_place or place, f"{quoted(zone)} is no time zone; such as Europe/Berlin would be right"
            )
            return None
        return None if name is None else CdrFile(self._file.base / name, found)

    def _login(self, place: Place | None, *, exposed: bool) -> Literal["md5", "plain"]:
        if self._file.choice(place, "md5", "way to log in", ("md5", "plain")) == "md5" or place is None:
            return "md5"
        if exposed:
            self._wrong(
                place, "would send the secret to another machine unencrypted; `md5`, or `tls`, would be right"
            )
        return "plain"

    def _tls(self, place: Place | None, ami: Address) -> Tls | None:
        if place is None:
            return None
        if isinstance(place.node, ScalarNode) and place.node.tag == "bool":
            return Tls(ami.host) if self._file.yes_or_no(place, False) else None
        if not isinstance(place.node, MappingNode):
            self._wrong(place, f"is {place.node.what}; `true`, or {{ca: FILE, name: HOST}}, would be right")
            return None
        section = self._file.section(place, ("ca", "name"))
        name_place = section.get("name")
        name = self._file.text(name_place)
        if name_place is not None and name is not None and not _HOST.fullmatch(name):
            self._wrong(
                name_place, f"{quoted(name)} is no host; a name that the certificate has would be right"
            )
        return Tls(name or ami.host, self._authorities(section.get("ca")))

    def _authorities(self, place: Place | None) -> bytes | None:
        name = self._file.text(place)
        if place is None or name is None:
            return None
        from cryptography import x509  # Its own tenth of a second, for those who use it.

        try:
            with (self._file.base / name).open("rb") as file:
                pem = file.read(MAX_PEM + 1)
            x509.load_pem_x509_certificates(pem[:MAX_PEM])
        except OSError as error:
            self._wrong(
                place, f"{quoted(name)} cannot be read: {error.strerror}; a readable file would be right"
            )
            return None
        except ValueError:
            self._wrong(place, f"{quoted(name)} holds no certificate; one in PEM, or several, would be right")
            return None
        return pem

    def _adapters(self, place: Place | None) -> Iterator[tuple[str, AdapterSettings]]:
        for name, each in self._file.named(place):
            section = self._file.section(each, None)
            kind_place = section.need("kind", "directory")
            kind = self._file.text(kind_place)
            options: Any = None
            asking, journal = self._asking(section), self._journal(section.get("journal"))
            if kind_place is not None and kind is not None:
                if kind in self._adapter_kinds:
                    options = self._options(each, section, self._adapter_kinds[kind])
                else:
                    self._wrong(kind_place, unknown("kind of adapter", kind, self._adapter_kinds))
            yield name, AdapterSettings(name, kind or "", options, asking, journal)

    def _asking(self, section: Section) -> Asking:
        """What may stand beside `kind`, whatever that is."""
        default = Asking()
        milliseconds = round(default.deadline * 1000)
        longest = round(LONGEST_DEADLINE * 1000)
        live = section.get("live")
        breaker = self._file.section(section.get("breaker"), ("failures", "seconds"))
        return Asking(
            self._file.whole(section.get("deadline_ms"), milliseconds, 10, longest) / 1000,
            self._file.whole(section.get("concurrency"), default.concurrency, 1, 1000),
            self._per_second(section.get("per_second")),
            self._file.yes_or_no(section.get("index"), default.index),
            None if live is None else Live(self._file.choice(live, Live.UNKNOWN, "word", tuple(Live))),
            self._file.whole(breaker.get("failures"), default.breaker_failures, 1, 1000),
            self._file.whole(breaker.get("seconds"), round(default.breaker_seconds), 1, 3600),
        )

    def _journal(self, place: Place | None) -> JournalSettings | None:
        default = JournalSettings()
        if place is None or (isinstance(place.node, ScalarNode) and place.node.tag == "bool"):
            return default if self._file.yes_or_no(place, True) else None
        if not isinstance(place.node, MappingNode):
            self._wrong(place, f"is {place.node.what}; `true`, `false` or {{subject: TEXT}} would be right")
            return None
        section = self._file.section(place, _JOURNAL)
        directions, services, language = (
            section.get(name) for name in ("directions", "services", "language")
        )
        return JournalSettings(
            default.directions
            if directions is None
            else frozenset(
                self._file.choice(each, "inbound", "direction", DIRECTIONS)
                for each in self._file.items(directions, "[inbound, outbound]", at_least_one=True)
            ),
            # Which there are is known once they are read.
            None
            if services is None
            else frozenset(
                text
                for each in self._file.items(services, "[sales]", at_least_one=True)
                if (text := self._file.text(each, one_line=True)) is not None
            ),
            NumberList(self._patterns(section.get("without"))),
            self._file.yes_or_no(section.get("blocked"), default.blocked),
            self._file.yes_or_no(section.get("unknown"), default.unknown),
            self._journal_text(section.get("subject"), default.subject, one_line=True),
            self._journal_text(section.get("text"), default.text),
            None if language is None else self._file.choice(language, "en", "language", languages()),
            self._file.whole(section.get("lost_seconds"), default.lost_seconds, 1, 600),
        )

    def _journal_text(
        self, place: Place | None, default: JournalText, *, one_line: bool = False
    ) -> JournalText:
        text = self._file.text(place, one_line=one_line)
        if place is None or text is None:
            return default
        try:
            return JournalText(text)
        except ValueError as error:
            self._wrong(place, str(error))
            return default

    def _journaled_services(
        self, adapters: Place | None, journals: Mapping[str, AdapterSettings], services: Collection[str]
    ) -> None:
        """What stands as `journal.services` of each adapter has to be a service."""
        for name, each in self._file.named(adapters):
            place = self._file.section(each, None).get("journal")
            journal = journals[name].journal if name in journals else None
            if place is None or journal is None or journal.services is None:
                continue
            for at in self._file.items(self._file.section(place, None).get("services"), "[sales]"):
                service = self._file.text(at, one_line=True)
                if service is not None and service not in services:
                    self._wrong(at, unknown("service", service, services))

    def _per_second(self, place: Place | None) -> float | None:
        if place is None:
            return None
        value = self._file.plain(place)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 10_000:
            self._wrong(place, "is no number of questions a second; 0.01 to 10000 would be right")
            return None
        return float(value)

    def _options(self, each: Place, section: Section, options_class: type[Any]) -> Any:
        before = len(self._file.problems)
        plain = {
            key: self._file.plain(place) for key, place in section.entries.items() if key not in _OF_ANY_KIND
        }
        if len(self._file.problems) > before:
            return None
        try:
            return _strict_converter(self._file.base, self._read_secret).structure(plain, options_class)
        except BaseValidationError as error:
            for keys, text, of_key in _problems_of(error, ()):
                self._file.wrong_below(each, keys, text, of_key=of_key)
            return None

    def _agents(self, top: Section, adapters: frozenset[str]) -> dict[str, Agent]:
        agents: dict[str, Agent] = {}
        users: dict[tuple[str, str], str] = {}
        at_phone: dict[str, str] = {}
        for id_, place in self._file.named(top.get("agents")):
            section = self._file.section(place, AGENT_KEYS)
            crm: dict[str, str] = {}
            for adapter, user_place in self._file.named(section.get("crm")):
                user = self._file.text(user_place, one_line=True)
                if adapter not in adapters:
                    self._wrong(user_place, unknown("adapter", adapter, adapters))
                elif user is not None:
                    crm[adapter] = user
                    other = users.setdefault((adapter, user), id_)
                    if other != id_:
                        self._wrong(user_place, f"{quoted(user)} is the user of agent {other} already")
            agents[id_] = Agent(
                id_,
                self._file.text(section.get("name"), one_line=True) or id_,
                tuple(self._own_phones(section.get("phones"), id_, at_phone)),
                frozenset(self._group_names(section.get("groups"))),
                crm,
                self._file.choice(section.get("state"), "logged_out", "state", SEED_STATES),
                skills_of(self._file, section.get("skills")),
                self._file.whole(section.get("concurrency"), 1, 1, MAX_CONCURRENCY),
            )
        return agents

    def _advise_of_holidays(
        self, place: Place | None, rules: Sequence[Rule], hours: OpeningHours | None
    ) -> None:
        """On a holiday it is not `closed`: whoever asks for that alone may have meant both."""
        if hours is None or not hours.holidays or not rules:
            return
        asked = [
            (rule_place, condition)
            for rule_place, rule in zip(self._file.items(place, "[]"), rules, strict=True)
            for condition in rule.conditions
            if condition.fact in ("hours", "holiday")
        ]
        if any(each.fact == "holiday" or each.holds(Hours.HOLIDAY) for _, each in asked):
            return
        for rule_place, condition in asked:
            if condition.holds(Hours.CLOSED):
                right = "{in: [closed, holiday]} would take them, too, or a rule of their own"
                self._file.advise(
                    rule_place, f"takes no calls on holidays, when `hours` is `holiday`; {right}"
                )
                return

    def _own_phones(self, place: Place | None, agent: str, at_phone: dict[str, str]) -> Iterator[str]:
        for each, phone in self._phones(place):
            # By the phone that answers it is told whose call it is.
            other = at_phone.setdefault(phone, agent)
            if other != agent:
                self._wrong(each, f"{quoted(phone)} is the phone of agent {other} already")
            yield phone

    def _phones(self, place: Place | None) -> Iterator[tuple[Place, str]]:
        for each in self._file.items(place, "[PJSIP/anna]"):
            phone = self._file.text(each)
            if phone is not None and not is_phone(phone):
                self._wrong(
                    each, f"{quoted(phone)} is no phone; TECH/resource would be right, such as PJSIP/anna"
                )
            elif phone is not None:
                yield each, phone

    def _group_names(self, place: Place | None) -> Iterator[str]:
        for each in self._file.items(place, "[sales]"):
            group = self._file.text(each)
            if group is not None and not is_name(group):
                self._wrong(each, f"{quoted(group)} is no group; {NAME_IS}")
            elif group is not None:
                yield group

    def _services(
        self,
        top: Section,
        plan: NumberPlan | None,
        agents: Mapping[str, Agent],
        adapters: Collection[str],
        hours: Mapping[str, OpeningHours | None],
    ) -> tuple[dict[str, Service], dict[str, Service]]:
        known_agents = self._known_agents | agents.keys()
        known_groups = self._known_groups.union(*(agent.groups for agent in agents.values()))
        known_skills = self._known_skills.union(*(agent.skills for agent in agents.values()))
        services: dict[str, Service] = {}
        of_number: dict[str, Place] = {}
        needed = top.need("services", "{sales: {numbers: […], …}}")
        named = list(self._file.named(needed, at_least_one=True))
        names = frozenset(name for name, _ in named)
        for name, place in named:
            section = self._file.section(place, _SERVICE)
            outside = self._way_out(section.get("outside_line"), plan)
            rules_place = section.get("rules")
            rules: tuple[Rule, ...] = ()
            if rules_place is not None:
                before = len(self._file.problems)
                plain = self._file.plain(rules_place)
                if len(self._file.problems) == before:
                    try:
                        rules = compile_rules(
                            plain,
                            agents=known_agents,
                            groups=known_groups,
                            skills=known_skills,
                            services=names,
                            outside=outside,
                            has_hours=section.get("hours") is not None,
                            own=self._own,
                            path=(),
                        )
                    except RulesError as error:
                        for each in error.problems:
                            self._file.wrong_below(rules_place, each.path, each.text, of_key=each.of_key)
            open_at = hours.get(self._file.choice(section.get("hours"), "", "hours", hours))
            self._advise_of_holidays(rules_place, rules, open_at)
            services[name] = Service(
                name=name,
                numbers=tuple(self._numbers(section.need("numbers", '["+49…"]'), plan, of_number)),
                mode=Mode(
                    self._file.choice(section.need("mode", "observe"), Mode.OBSERVE, "mode", list(Mode))
                ),
                instruction=self._file.text(section.get("instruction")),
                fallback=self._fallback(section.need("fallback", "context,exten,prio")),
                rules=rules,
                ring_timeout=self._file.whole(section.get("ring_timeout"), RING_TIMEOUT, 1, MAX_RING_TIMEOUT),
                title=self._file.text(section.get("title"), one_line=True),
                wrap_up=self._file.whole(section.get("wrap_up"), 0, 0, MAX_WRAP_UP),
                dispositions=dict(self._dispositions(section.get("dispositions"))),
                disposition=self._disposition(section),
                open_card=self._file.choice(section.get("open_card"), "button", "moment", OPEN_CARD),
                card_lead_ms=self._file.whole(section.get("card_lead_ms"), 0, 0, MAX_CARD_LEAD_MS),
                quick_create=self._quick_create(section.get("quick_create"), adapters),
                hours=open_at,
                unknown=self._newcomers(section.get("unknown"), adapters),
                service_level=None
                if (level := section.get("service_level")) is None
                else self._file.whole(level, ReportSettings().service_level, 1, MAX_SERVICE_LEVEL),
            )
        for each in loops(services):
            if needed is not None:
                self._file.wrong_below(needed, each.path, each.text, of_key=each.of_key)
        return services, {number: service for service in services.values() for number in service.numbers}

    def _way_out(self, place: Place | None, plan: NumberPlan | None) -> Callable[[str], DialNumber] | None:
        """How rules dial numbers outside: by this dial string, with `{number}` for the number."""
        line = self._file.text(place, one_line=True)
        if place is None or line is None:
            return None
        if line.count("{number}") != 1 or "@" not in line or not is_phone(line.replace("{number}", "+49301")):
            self._wrong(
                place,
                f"{quoted(line)} is no way out; a dial string with {{number}} once would be right, such as"
                " PJSIP/{number}@trunk",
            )
            return None

        def dialled(written: str) -> DialNumber:
            number = None if plan is None else plan.parse(written).e164
            if number is None:
                raise ValueError(
                    f'{quoted(written)} is no telephone number; one such as "+493023125100" would be right'
                )
            return DialNumber(number, line.replace("{number}", number))

        return dialled

    def _dispositions(self, place: Place | None) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Each with its label by language; "" is the label for everybody."""
        for count, (name, each) in enumerate(self._file.named(place), 1):
            if count == MAX_DISPOSITIONS + 1:
                self._wrong(each, f"is one too many; at most {MAX_DISPOSITIONS} would be right")
            yield name, self._labels(each, name, "{de: Auftrag, en: Order}")

    def _labels(self, place: Place, name: str, example: str) -> dict[str, str]:
        """What people read of something, by language; "" where all read the same."""
        if not isinstance(place.node, MappingNode):
            return {"": self._file.text(place, one_line=True) or name}
        labels = {}
        for language, label in self._file.section(place, None).entries.items():
            if not _LANGUAGE.fullmatch(language):
                self._wrong(label, f"{quoted(language)} is no language; such as `de` would be right")
            labels[language] = self._file.text(label, one_line=True) or name
        if not labels:
            self._wrong(place, f"is empty; a label, such as {example}, would be right")
        return labels

    def _disposition(self, section: Section) -> str:
        place = section.get("disposition")
        word = self._file.choice(place, "optional", "word", ("optional", "required"))
        if word == "required" and place is not None and section.get("dispositions") is None:
            self._wrong(
                place, "leaves nothing to choose; `dispositions: {order: Order}` beside it would be right"
            )
        return word

    def _quick_create(self, place: Place | None, adapters: Collection[str]) -> QuickCreate | None:
        if place is None:
            return None
        if isinstance(place.node, ScalarNode) and place.node.tag == "bool":
            return QuickCreate() if self._file.yes_or_no(place, False) else None
        section = self._file.section(place, ("adapter", "type"))
        adapter = section.get("adapter")
        return QuickCreate(
            None if adapter is None else self._file.choice(adapter, "", "adapter", adapters),
            self._file.choice(section.get("type"), "contact", "type of party", PARTY_CREATED),
        )

    def _newcomers(self, place: Place | None, adapters: Collection[str]) -> Newcomers | None:
        if place is None:
            return None
        section = self._file.section(
            self._file.section(place, ("create",)).need("create", "{adapter: crm, type: lead}"),
            ("adapter", "type", "when"),
        )
        return Newcomers(
            self._file.choice(section.need("adapter", "crm"), "", "adapter", adapters),
            self._file.choice(section.get("type"), "lead", "type of party", PARTY_CREATED),
            self._file.choice(section.get("when"), AT_END, "moment", (AT_ANSWER, AT_END)),
        )

    def _pauses(self, place: Place | None) -> Iterator[tuple[str, PauseReason]]:
        for count, (name, each) in enumerate(self._file.named(place, at_least_one=True), 1):
            if count == MAX_PAUSES + 1:
                self._wrong(each, f"is one too many; at most {MAX_PAUSES} would be right")
            section = self._file.section(each, ("title", "minutes"))
            title, minutes = section.get("title"), section.get("minutes")
            yield (
                name,
                PauseReason(
                    {} if title is None else self._labels(title, name, "{de: Mittag, en: Lunch}"),
                    None if minutes is None else self._file.whole(minutes, 1, 1, MAX_PAUSE_MINUTES),
                ),
            )

    def _desk(self, place: Place | None, pauses: Place | None) -> Desk:
        section = self._file.section(place, ("ready_without_desktop", "pause_reasons"))
        reasons = self._file.items(section.get("pause_reasons"), "[lunch]")
        named = tuple(filter(None, (self._file.text(each, one_line=True) for each in reasons)))
        known = dict(self._pauses(pauses))
        if pauses is not None and (twice := section.get("pause_reasons")) is not None:
            self._wrong(twice, "is said by `pauses` already; one of the two would be right")
        return Desk(
            self._file.yes_or_no(section.get("ready_without_desktop"), Desk().ready_without_desktop),
            tuple(known) or (named if "pause_reasons" in section.entries else Desk().pause_reasons),
            known,
        )

    def _reports(self, place: Place | None, hours: Iterable[OpeningHours | None]) -> ReportSettings:
        section = self._file.section(place, ("time_zone", "service_level", "short", "agents"))
        usual = ReportSettings()
        zone = section.get("time_zone")
        # Where all opening hours are told in one time zone, it is the company's.
        told = {each.zone for each in hours if each is not None}
        return ReportSettings(
            (told.pop() if len(told) == 1 else None) if zone is None else read_zone(self._file, zone),
            self._file.whole(section.get("service_level"), usual.service_level, 1, MAX_SERVICE_LEVEL),
            self._file.whole(section.get("short"), usual.short, 0, MAX_SERVICE_LEVEL),
            self._file.yes_or_no(section.get("agents"), usual.agents),
        )

    def _links(self, place: Place | None, adapters: Collection[str]) -> Iterator[LinkTemplate]:
        example = '[{title: ERP, url: "https://erp.example/{party.id}"}]'
        for count, each in enumerate(self._file.items(place, example), 1):
            if count == MAX_LINKS + 1:
                self._wrong(each, f"is one too many; at most {MAX_LINKS} would be right")
            section = self._file.section(each, ("title", "url", "adapter", "type"))
            title = self._file.text(section.need("title", "ERP"), one_line=True)
            url_place = section.need("url", '"https://erp.example/customer/{party.id}"')
            url = self._file.text(url_place, one_line=True)
            adapter, type = section.get("adapter"), section.get("type")
            if title is None or url is None or url_place is None:
                continue
            try:
                yield LinkTemplate(
                    title[:MAX_TITLE],
                    url,
                    None if adapter is None else self._file.choice(adapter, "", "adapter", adapters),
                    None if type is None else self._file.choice(type, "", "type of party", PARTY_TYPES),
                )
            except ValueError as error:
                self._wrong(url_place, str(error))

    def _sensitive_keys(self, place: Place | None) -> Iterator[str]:
        for each in self._file.items(place, "[card]"):
            name = self._file.text(each, one_line=True)
            if name is not None:
                yield name

    def _numbers(
        self, place: Place | None, plan: NumberPlan | None, of_number: dict[str, Place]
    ) -> Iterator[str]:
        for each in self._file.items(place, '["+49…"]', at_least_one=True):
            raw = self._file.text(each)
            if raw is None or plan is None:
                continue
            number = plan.parse(raw)
            if number.kind is NumberKind.E164 and number.e164 is not None:
                key = number.e164
            elif number.kind is NumberKind.INTERNAL:
                key = "".join(str(int(digit)) for digit in number.raw if digit.isdecimal())
            else:
                shape = (
                    f"+ and the country code, or up to {plan.internal_digits} digits of an internal number"
                )
                self._wrong(each, f"{quoted(raw)} is not a telephone number; {shape} would be right")
                continue
            first = of_number.setdefault(key, each)
            if first is not each:
                where = f"{path_text(first.keys)} (line {first.node.line})"
                self._wrong(
                    each, f"{quoted(raw)} belongs to {where} already; one service a number would be right"
                )
            else:
                yield key

    def _fallback(self, place: Place | None) -> str:
        text = self._file.text(place)
        if place is None or text is None:
            return ""
        fallback = dialplan_place(text)
        if fallback is None:
            self._wrong(
                place, f"{quoted(text)} is not `context,exten,prio`; `from-trunk,s,1` is such a place"
            )
        return fallback or ""

    def _webhooks(
        self, place: Place | None, services: Collection[str], adapters: Collection[str]
    ) -> Iterator[tuple[str, Webhook]]:
        for name, each in self._file.named(place):
            section = self._file.section(each, ("url", "secret", "events", "allow", *_WANTED))
            example = "[call.routed, call.ended]"
            events = self._file.items(section.need("events", example), example, at_least_one=True)
            url_place = section.need("url", '"https://crm.example/hook"')
            url = self._url(url_place)
            yield (
                name,
                Webhook(
                    name,
                    url,
                    tuple(self._secrets(section.need("secret", "{env: HOOK}"))),
                    tuple(dict.fromkeys(self._event(event) for event in events)),
                    self._wanted(section, services, adapters, None),
                    self._reach(url_place, url, section.get("allow")),
                ),
            )

    def _secrets(self, place: Place | None) -> Iterator[Secret]:
        """One secret, or several of which the first is the newest."""
        if place is None or not isinstance(place.node, ListNode):
            yield self._signing(place)
            return
        for count, each in enumerate(
            self._file.items(place, "[{env: NEW}, {env: OLD}]", at_least_one=True), 1
        ):
            if count == MAX_SECRETS + 1:
                self._wrong(each, f"is one too many; at most {MAX_SECRETS} would be right")
            yield self._signing(each)

    def _signing(self, place: Place | None) -> Secret:
        secret = self._secret(place)
        if place is not None and secret.reveal():
            try:
                signing_key(secret.reveal())
            except ValueError as error:
                self._wrong(place, str(error))
        return secret

    def _notify(
        self, place: Place | None, services: Collection[str], adapters: Collection[str]
    ) -> Iterator[tuple[str, UrlEvents]]:
        for name, each in self._file.named(place):
            section = self._file.section(
                each, (*URL_MOMENTS, "method", "headers", "prefix", "secret", "allow", *_WANTED)
            )
            if name in adapters:
                self._wrong(each, f"{name} is an adapter already; another name would be right")
            allow = section.get("allow")
            reach = Reach(() if allow is None else self._networks(allow))
            addresses: dict[str, tuple[AddressTemplate, ...]] = {}
            for moment in URL_MOMENTS:
                urls = section.get(moment)
                if urls is None:
                    continue
                several = isinstance(urls.node, ListNode)
                places = self._file.items(urls, "[URL, URL]", at_least_one=True) if several else [urls]
                if len(places) > MAX_URLS:
                    self._wrong(places[MAX_URLS], f"is one too many; at most {MAX_URLS} would be right")
                templates = [self._template(at) for at in places]
                addresses[moment] = tuple(template for template in templates if template is not None)
                for at, template in zip(places, templates, strict=True):
                    if template is not None:
                        reach = Reach(tuple({*reach.allowed, *self._reach(at, template.url, allow).allowed}))
            if not addresses:
                self._wrong(each, f"has no address; one for {', '.join(URL_MOMENTS)} would be right")
            secret = section.get("secret")
            if secret is None and any("secret" in one.gaps for all_ in addresses.values() for one in all_):
                self._wrong(
                    each, "has {secret} in an address; `secret: {env: NAME}` beside it would be right"
                )
            yield (
                name,
                UrlEvents(
                    name,
                    addresses,
                    self._file.choice(section.get("method"), "GET", "method", ("GET", "POST")),
                    dict(self._sent_headers(section.get("headers"))),
                    self._outside_line(section.get("prefix")),
                    None if secret is None else self._secret(secret),
                    self._wanted(section, services, adapters, frozenset({"inbound", "outbound"})),
                    reach,
                ),
            )

    def _template(self, place: Place) -> AddressTemplate | None:
        url = self._url(place)
        try:
            return (
                AddressTemplate(url, URL_WORDS, "https://crm.example/call?number={number}") if url else None
            )
        except ValueError as error:
            self._wrong(place, str(error))
            return None

    def _sent_headers(self, place: Place | None) -> Iterator[tuple[str, Secret]]:
        for name, each in self._file.section(place, None).entries.items():
            if not _HEADER.fullmatch(name) or name.lower() in _OUR_HEADERS:
                self._wrong(each, f"{quoted(name)} is no header of yours; such as X-Token would be right")
            else:
                yield name, self._secret(each)

    def _wanted(
        self,
        section: Section,
        services: Collection[str],
        adapters: Collection[str],
        directions: frozenset[str] | None,
    ) -> Wanted:
        def some(name: str, what: str, words: Collection[str]) -> frozenset[str] | None:
            place = section.get(name)
            if place is None:
                return None
            listed = self._file.items(place, f"[{next(iter(words), what)}]", at_least_one=True)
            return frozenset(self._file.choice(each, "", what, words) for each in listed)

        return Wanted(
            some("services", "service", services),
            some("directions", "direction", DIRECTIONS) or directions,
            some("adapters", "adapter", adapters),
        )

    def _reach(self, place: Place | None, url: str, allow: Place | None) -> Reach:
        allowed = () if allow is None else self._networks(allow)
        host = urlsplit(url).hostname if url else None
        if place is None or host is None:
            return Reach(allowed)
        if host == "localhost" and not allowed:
            self._file.advise(
                place,
                'goes nowhere: a name leads to this machine only with `allow: ["127.0.0.0/8", "::1/128"]` beside it,'
                " and 127.0.0.1 by itself",
            )
        try:
            return reach_of(host, allowed)
        except ValueError as error:
            self._wrong(place, str(error))
            return Reach(allowed)

    def _event(self, place: Place) -> str:
        return self._file.choice(place, "", "event", EVENT_TYPES)

    def _url(self, place: Place | None) -> str:
        text = self._file.text(place, one_line=True)
        if place is None or text is None:
            return ""
        try:
            parts = urlsplit(text)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            whole = False
        if not whole or not text.isascii() or " " in text:
            self._wrong(place, "is not a web address; http:// or https://, a host and a path would be right")
        elif parts.username is not None or parts.password is not None:
            self._wrong(
                place, "has a password in it, which would be in every log; one without would be right"
            )
        return text

    def _times(self, top: Section) -> tuple[Identify, int]:
        section = self._file.section(top.get("identify"), _IDENTIFY)
        budget_place = section.get("budget_ms")
        budget = self._file.whole(budget_place, Identify().budget_ms, 10, MAX_ANSWER_MS)
        answer = self._file.whole(top.get("answer_ms"), 1500, 100, MAX_ANSWER_MS)
        if budget >= answer and (place := budget_place or top.get("answer_ms")) is not None:
            self._wrong(
                place,
                f"identifying may take {budget} ms of the {answer} ms (answer_ms) in which Asterisk is"
                " answered; less would be right",
            )
        default = Identify()
        return (
            Identify(
                budget,
                self._file.whole(section.get("patience_ms"), default.patience_ms, 0, MAX_ANSWER_MS),
                Order(self._file.choice(section.get("order"), default.order, "order", tuple(Order))),
                self._cache(section.get("cache")),
                self._ambiguity(section.get("ambiguity")),
                tuple(self._patterns(section.get("ignored"))),
                tuple(self._patterns(section.get("blocked"))),
                self._rejection(section.get("reject")),
                self._sound(section.get("announce")),
            ),
            answer,
        )

    def _index(self, place: Place | None, store: StoreSettings) -> PhoneIndexSettings:
        section = self._file.section(place, ("directory", "changes_seconds", "list_minutes", "full_hours"))
        default = PhoneIndexSettings(store.directory / "index")
        directory = self._file.text(section.get("directory"))
        return PhoneIndexSettings(
            default.directory if directory is None else self._file.base / directory,
            self._file.whole(section.get("changes_seconds"), default.changes_seconds, 1, 3600),
            60 * self._file.whole(section.get("list_minutes"), default.list_seconds // 60, 1, 10_080),
            3600 * self._file.whole(section.get("full_hours"), default.full_seconds // 3600, 1, 720),
        )

    def _retention(self, place: Place | None) -> Retention:
        section = self._file.section(place, ("at", *RETAINED))
        hour, minute = Retention().at
        at = divmod(self._time_of_day(section.get("at"), 60 * hour + minute), 60)
        days = {
            kind: self._file.whole(section.get(kind), 0, 1, MAX_DAYS) or None
            for kind in ("calls", "numbers", "periods", "audit")
        }
        calls, numbers = days["calls"], days["numbers"]
        if calls is not None and numbers is not None and numbers > calls:
            self._wrong(
                section.entries["numbers"], f"is longer than calls are kept; at most {calls} would be right"
            )
        longest = min((each for each in (calls, numbers) if each is not None), default=None)
        for kind in TELLING:
            days[kind] = self._file.whole(section.get(kind), longest or 0, 1, MAX_DAYS) or None
            if longest is not None and (days[kind] or 0) > longest:
                self._wrong(
                    section.entries[kind],
                    f"is longer than numbers are, which stand in them as well; at most {longest} would be right",
                )
        return Retention(at, **days)

    def _time_of_day(self, place: Place | None, usual: int) -> int:
        """Minutes since midnight."""
        written = self._file.text(place)
        if place is None or written is None:
            return usual
        if (found := re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", written)) is None:
            self._wrong(place, f'is no time of the day; such as "{_clock(usual)}", in quotes, would be right')
            return usual
        return 60 * int(found[1]) + int(found[2])

    def _callbacks(self, place: Place | None) -> CallbackSettings:
        section = self._file.section(place, ("hours", "tries", "pauses", "put_off"))
        usual = CallbackSettings()
        hours = self._file.section(section.get("hours"), ("from", "to"))
        begin = self._time_of_day(hours.get("from"), usual.begin)
        end = self._time_of_day(hours.get("to"), usual.end)
        if begin >= end:
            wrong = hours.get("to") or hours.get("from") or section.get("hours") or place
            if wrong is not None:
                self._wrong(
                    wrong,
                    f"leaves no hour from {_clock(begin)} to {_clock(end)}; a later `to` would be right",
                )
        listed = section.get("pauses")
        pauses = self._file.items(listed, "[15, 60, 240]", at_least_one=True)
        if len(pauses) > MAX_TRIES:
            self._wrong(pauses[MAX_TRIES], f"is one too many; at most {MAX_TRIES} would be right")
        return CallbackSettings(
            begin,
            end,
            self._file.whole(section.get("tries"), usual.tries, 1, MAX_TRIES),
            tuple(self._file.whole(each, 15, 1, MAX_PAUSE) for each in pauses) or usual.pauses,
            self._file.whole(section.get("put_off"), usual.put_off, 1, MAX_PUT_OFF),
        )

    def _rejection(self, place: Place | None) -> str:
        if place is not None and isinstance(place.node, ScalarNode) and place.node.tag == "int":
            return str(self._file.whole(place, 21, 1, MAX_CAUSE))
        return str(self._file.choice(place, Rejection.DECLINED, "way", tuple(Rejection)))

    def _phonebook(self, place: Place | None, adapters: Collection[str]) -> PhonebookSettings:
        section = self._file.section(place, ("title", "prefix", "adapters", "ldap", "xml"))
        default = PhonebookSettings()
        whose = section.get("adapters")
        listed = self._file.items(whose, "[directory]")
        names = [self._file.choice(each, "", "adapter", adapters) for each in listed]
        return PhonebookSettings(
            self._file.text(section.get("title"), one_line=True) or default.title,
            self._outside_line(section.get("prefix")),
            None if whose is None else frozenset(names),
            self._ldap_phonebook(section.get("ldap")),
            self._xml_phonebook(section.get("xml")),
        )

    def _outside_line(self, place: Place | None) -> str:
        prefix = self._file.text(place) or ""
        if place is not None and not re.fullmatch(r"[0-9*#]{1,4}", prefix):
            self._wrong(place, 'is nothing that a phone dials first; such as "0" would be right')
        return prefix

    def _ldap_phonebook(self, place: Place | None) -> LdapPhonebook | None:
        if place is None:
            return None
        section = self._file.section(
            place, ("listen", "allow", "base", "bind_dn", "password", "anonymous", "limit", "tls")
        )
        default = LdapPhonebook(Address("127.0.0.1", 3890))
        base = self._file.text(section.get("base"), one_line=True) or default.base
        bind_dn = self._file.text(section.get("bind_dn"), one_line=True) or f"cn=phones,{base}"
        password = section.get("password")
        anonymous = self._file.yes_or_no(section.get("anonymous"), False)
        if password is None and not anonymous:
            self._wrong(place, "has no `password`; one, or `anonymous: true` beside `allow`, would be right")
        for name, dn in (("base", base), ("bind_dn", bind_dn)):
            given = section.get(name)
            if given is not None and not re.fullmatch(
                r"[A-Za-z][\w-]*=[^,=]+(,\s*[A-Za-z][\w-]*=[^,=]+)*", dn
            ):
                self._wrong(given, "is no name in a directory; `ou=phonebook` is such a one")
        found = LdapPhonebook(
            self._listen(section.get("listen"), default.listen),
            self._networks(section.get("allow")),
            base,
            bind_dn,
            None if password is None else self._secret(password),
            anonymous,
            self._file.whole(section.get("limit"), default.limit, 1, 1000),
            self._server_certificate(section.get("tls")),
        )
        if found.tls is None and found.password is not None and not _is_loopback(found.listen.host):
            self._file.advise(place, "has no `tls`: the password goes over the network as it is")
        return found

    def _xml_phonebook(self, place: Place | None) -> XmlPhonebook | None:
        if place is None:
            return None
        section = self._file.section(place, ("listen", "allow", "token"))
        token_place = section.get("token")
        token = None if token_place is None else self._secret(token_place)
        if (
            token_place is not None
            and token is not None
            and not re.fullmatch(r"[A-Za-z0-9_-]{8,128}", token.reveal())
        ):
            self._wrong(
                token_place, "is no word for a path; 8 to 128 letters, digits, - and _ would be right"
            )
        return XmlPhonebook(
            self._listen(section.get("listen"), Address("127.0.0.1", 8471)),
            self._networks(section.get("allow")),
            token,
        )

    def _cache(self, place: Place | None) -> CacheSettings:
        section = self._file.section(place, ("seconds", "misses_seconds", "entries"))
        default = CacheSettings()
        return CacheSettings(
            self._file.whole(section.get("seconds"), round(default.seconds), 0, 3600),
            self._file.whole(section.get("misses_seconds"), round(default.misses_seconds), 0, 3600),
            self._file.whole(section.get("entries"), default.entries, 0, 1_000_000),
        )

    def _ambiguity(self, place: Place | None) -> tuple[str, ...]:
        if place is None:
            return POLICIES
        places = self._file.items(place, "[company, ask]", at_least_one=True)
        policies = [self._file.choice(each, ASK, "policy", POLICIES) for each in places]
        for each, policy in zip(places, policies, strict=True):
            if policies.count(policy) > 1:
                self._wrong(each, f"{policy} stands here twice; once would be right")
        if ASK in policies[:-1]:
            self._wrong(
                places[policies.index(ASK)],
                "leaves nothing to the policies behind it; `ask` at the end would be right",
            )
        return tuple(policies)

    def _patterns(self, place: Place | None) -> Iterator[str]:
        for each in self._file.items(place, '["+49900*"]'):
            text = self._file.text(each)
            wrong = None if text is None else wrong_with_pattern(text)
            if wrong is not None:
                self._wrong(each, f"{quoted(text or '')} {wrong}")
            elif text is not None:
                yield text

    # Shapes of values

    def _listen(self, place: Place | None, default: Address) -> Address:
        address = self._address(place, f'"{default.host}:{default.port}"')
        if place is None or address is None:
            return default
        host = "127.0.0.1" if address.host == "localhost" else address.host
        try:
            ipaddress.ip_address(host)
        except ValueError:
            self._wrong(place, f"{quoted(host)} is a name; the address to listen on would be right")
            return default
        return Address(host, address.port)

    def _connect(self, place: Place | None) -> Address:
        return self._address(place, '"127.0.0.1:5038"') or Address("", 0)

    def _address(self, place: Place | None, example: str) -> Address | None:
        text = self._file.text(place)
        if place is None or text is None:
            return None
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        try:
            fits = ipaddress.ip_address(bare).version == 4 or host == f"[{bare}]"
        except ValueError:
            fits = bool(_HOST.fullmatch(host))
        if not colon or not fits:
            self._wrong(place, f"{quoted(text)} is not HOST:PORT; {example} would be right")
            return None
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            self._wrong(place, f"{quoted(port)} is not a port; 1 to 65535 would be right")
            return None
        return Address(bare, int(port))

    def _networks(self, place: Place | None) -> tuple[Network, ...]:
        if place is None:
            return _LOOPBACK
        networks: list[Network] = []
        for each in self._file.items(place, '["127.0.0.0/8"]'):
            text = self._file.text(each)
            if text is None:
                continue
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError:
                try:
                    meant = f'"{ipaddress.ip_network(text, strict=False)}"'
                except ValueError:
                    meant = '"192.0.2.0/24"'
                self._wrong(each, f"{quoted(text)} is not a network; such as {meant} would be right")
        return tuple(networks)

    def _secret(self, place: Place | None) -> Secret:
        before = len(self._file.problems)
        raw = None if place is None else self._file.plain(place)
        if place is not None and len(self._file.problems) == before:
            try:
                return self._read_secret(raw)
            except SecretError as error:
                self._file.wrong_below(place, error.path, str(error), of_key=error.of_key)
        return Secret("")

    def _read_secret(self, raw: object) -> Secret:
        return read_secret(raw, base=self._file.base, environ=self._environ)


_TOP: Final = (
    "region",
    "internal_digits",
    "store",
    "fastagi",
    "http",
    "asterisks",
    "adapters",
    "agents",
    "hours",
    "services",
    "webhooks",
    "notify",
    "open_calls",
    "callbacks",
    "outbox",
    "identify",
    "index",
    "answer_ms",
    "language",
    "reservation",
    "set_aside_after",
    "desks",
    "call_control",
    "pauses",
    "desk",
    "links",
    "sensitive_keys",
    "log",
    "phonebook",
    "retention",
    "reports",
)
#: What may stand at any adapter, beside what its kind takes.
_OF_ANY_KIND: Final = (
    "kind",
    "deadline_ms",
    "concurrency",
    "per_second",
    "index",
    "live",
    "breaker",
    "journal",
)
_JOURNAL: Final = (
    "directions",
    "services",
    "without",
    "blocked",
    "unknown",
    "subject",
    "text",
    "language",
    "lost_seconds",
)
_IDENTIFY: Final = (
    "budget_ms",
    "patience_ms",
    "order",
    "cache",
    "ambiguity",
    "ignored",
    "blocked",
    "reject",
    "announce",
)
_SERVICE: Final = (
    "numbers",
    "mode",
    "instruction",
    "fallback",
    "rules",
    "hours",
    "ring_timeout",
    "outside_line",
    "title",
    "wrap_up",
    "dispositions",
    "disposition",
    "open_card",
    "card_lead_ms",
    "quick_create",
    "unknown",
    "service_level",
    "set_aside_after",
)

_CALL_CONTROL: Final = (
    "countries",
    "classes",
    "office_number",
    "auto_answer",
    "ring_seconds",
    "calls_per_minute",
    "supervise",
    "supervise_announcement",
    "record",
    "record_announcement",
    "own_recordings",
)


#: Of which calls a notification is.
_WANTED: Final = ("services", "directions", "adapters")
_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
#: Headers that the web client or `cti.calls.url_events` writes.
_OUR_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
#: What stands as the Asterisk of softphones' calls, and so is no name for one.
NO_ASTERISK: Final = "softphone"
_ASTERISK: Final = ("ami", "username", "secret", "login", "tls", "cdr", "recordings", "capable_phones")


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def is_here(host: str) -> bool:
    """Whether what goes to `host`, an address or a name, stays on this machine for sure."""
    try:
        return _is_loopback(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _strict_converter(base: Path, secret: Callable[[object], Secret]) -> Converter:
    """Takes nothing for what it is not: cattrs alone makes 50 of 50.9, 1 of True and "7" of 7."""
    converter = Converter(forbid_extra_keys=True)

    def exactly(kinds: tuple[type, ...], right: str) -> Any:
        def structure(value: object, to: type[Any]) -> Any:
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise TypeError(f"{right} would be right")
            return to(value)

        return structure

    converter.register_structure_hook(str, exactly((str,), "a text, in quotes,"))
    converter.register_structure_hook(int, exactly((int,), "a whole number"))
    converter.register_structure_hook(float, exactly((int, float), "a number"))
    converter.register_structure_hook(bool, exactly((bool,), "`true` or `false`"))

    def a_path(value: object, _to: type[Any]) -> Path:
        if not isinstance(value, str):
            raise TypeError("a path, in quotes, would be right")
        return base / value

    converter.register_structure_hook(Path, a_path)
    converter.register_structure_hook(Secret, lambda value, _to: secret(value))
    return converter


def _problems_of(error: BaseException, keys: Keys) -> Iterator[tuple[Keys, str, bool]]:
    """What cattrs found, taken apart: where, what, and whether the key itself is wrong."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        for each in error.exceptions:
            note = next(
                (
                    n
                    for n in getattr(each, "__notes__", ())
                    if isinstance(n, AttributeValidationNote | IterableValidationNote)
                ),
                None,
            )
            if isinstance(note, AttributeValidationNote):
                missing = isinstance(each, KeyError) and each.args == (note.name,)
                yield from (
                    [((*keys, note.name), "is missing", False)]
                    if missing
                    else _problems_of(each, (*keys, note.name))
                )
            elif isinstance(note, IterableValidationNote):
                yield from _problems_of(each, (*keys, note.index))
            else:
                yield from _problems_of(each, keys)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.name for attribute in getattr(error.cl, "__attrs_attrs__", ())]
        for name in sorted(error.extra_fields):
            yield (*keys, name), unknown("option", name, known), True
    elif isinstance(error, SecretError):
        yield (*keys, *error.path), str(error), error.of_key
    else:
        yield keys, " ".join(str(error).split()) or "is not a value that this option takes", False
