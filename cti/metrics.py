"""The server's figures for Prometheus: every name and label of the contract, and nothing that nobody feeds.

Who counts what is up to the callers, who may look is up to `cti.web`. Labels come from the configuration and
from the contract's own words; what a caller or Asterisk sends can never make a new one.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

#: What `Metrics.render` returns.
CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4

#: For a service that the configuration does not know, and for any other label value that it does not.
NO_SERVICE: Final = "none"
OTHER: Final = "other"

DIRECTIONS: Final = frozenset({"inbound", "outbound", "internal"})
OUTCOMES: Final = frozenset(
    {
        "answered",
        "missed",
        "abandoned",
        "voicemail",
        "self_service",
        "rejected",
        "busy",
        "failed",
        "fallback",
    }
)
ACTIONS: Final = frozenset({"dial", "wait", "goto", "voicemail", "announce", "reject", "fallback"})
IDENTIFY_OUTCOMES: Final = frozenset({"hit", "miss", "timeout", "error", "open", "skipped"})
#: What may be asked of a call, and what came of it: done, refused by us, failed at Asterisk.
OPERATIONS: Final = frozenset(
    {
        "make",
        "answer",
        "hold",
        "retrieve",
        "alternate",
        "consult",
        "complete",
        "reconnect",
        "transfer",
        "conference",
        "deflect",
        "pickup",
        "park",
        "digits",
        "record",
        "listen",
        "whisper",
        "barge",
        "clear",
    }
)
#: What came of a log-in: done, name or password wrong, refused for too many wrong ones, too many at once.
LOGIN_OUTCOMES: Final = frozenset({"ok", "wrong", "slowed", "busy"})
OPERATION_OUTCOMES: Final = frozenset({"done", "refused", "failed"})
#: What came of an attempt to deliver: taken, not taken, not taken and given up.
ATTEMPT_OUTCOMES: Final = frozenset({"delivered", "failed", "dead"})
CALLBACK_STATES: Final = ("open", "planned", "calling", "given_up")
AGENT_STATES: Final = ("logged_out", "ready", "paused", "offered", "busy", "wrap_up")

#: From an index in memory (1 ms) to the dialplan's patience (3 s); 0.8 and 1.5 are the budgets to identify
#: and to answer, so that what overran them can be counted exactly.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.5, 3.0)

#: From an answer at once to a caller who waited ten minutes.
WAIT_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0)

_CHILDREN_LIMIT: Final = 4096
_Key = TypeVar("_Key")
_Child = TypeVar("_Child")


class Metrics:
    """The metrics of one server, on a registry of its own.

    `services`, `adapters`, `pbxes` and `destinations` are names from the configuration, `ami_events` those
    that the server asks Asterisk for. The methods are meant for the way of a call: they keep each label
    combination's child, and cost about a microsecond.
    """

    def __init__(
        self,
        *,
        services: Iterable[str] = (),
        adapters: Iterable[str] = (),
        pbxes: Iterable[str] = (),
        destinations: Iterable[str] = (),
        ami_events: Iterable[str] = (),
    ) -> None:
        # A second series for every counter, with the time of its birth, which nobody asks for.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._calls_total = Counter(
            "cti_calls_total", "Calls that ended.", ("direction", "service", "outcome"), registry=registry
        )
        self._setup = Histogram(
            "cti_setup_seconds", "From Asterisk's request to the answer.", buckets=SECONDS, registry=registry
        )
        self._identify = Histogram(
            "cti_identify_seconds",
            "How long an adapter took to say who it is.",
            ("adapter", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )
        self._own_code = Histogram(
            "cti_own_code_seconds",
            "How long a condition or action of the company's own took.",
            ("own", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )
        self._index_numbers = Gauge(
            "cti_index_numbers", "Numbers in the phone index.", ("adapter",), registry=registry
        )
        self._index_age = Gauge(
            "cti_index_age_seconds",
            "Since the phone index was last in step with the CRM.",
            ("adapter",),
            registry=registry,
        )
        self._adapter_up = Gauge(
            "cti_adapter_up", "1 if the adapter answers, 0 if not.", ("adapter",), registry=registry
        )
        self._decisions_total = Counter(
            "cti_decisions_total", "Routing decisions.", ("service", "action"), registry=registry
        )
        self._card_offer = Histogram(
            "cti_card_offer_seconds",
            "From Asterisk's request until the card was written to the agent's browsers.",
            buckets=SECONDS,
            registry=registry,
        )
        self._card_paint = Histogram(
            "cti_card_paint_seconds",
            "From when the card was offered until a browser had painted it.",
            buckets=SECONDS,
            registry=registry,
        )
        self._agents = Gauge("cti_agents", "Agents in each state.", ("state",), registry=registry)
        self._callbacks = Gauge(
            "cti_callbacks",
            "Calls to make: left to people, planned, being made, given up after some tries.",
            ("state",),
            registry=registry,
        )
        self._over_pause = Gauge(
            "cti_agents_over_pause", "Agents whose pause lasts longer than its reason may.", registry=registry
        )
        self._waiting_calls = Gauge(
            "cti_waiting_calls",
            "Callers at a service whom nobody has answered yet, and nothing else has taken.",
            ("service",),
            registry=registry,
        )
        self._wait = Histogram(
            "cti_wait_seconds",
            "From the start of a call to the moment when somebody answered; answered inbound calls only.",
            ("service",),
            buckets=WAIT_SECONDS,
            registry=registry,
        )
        self._ami_up = Gauge(
            "cti_ami_up", "1 if logged in to this Asterisk's manager interface.", ("pbx",), registry=registry
        )
        self._ami_events_total = Counter(
            "cti_ami_events_total", "Manager events received.", ("pbx", "event"), registry=registry
        )
        self._ami_gap = Counter(
            "cti_ami_gap_seconds_total",
            "Time in which this Asterisk was not heard and its call records did not make up for it.",
            ("pbx",),
            registry=registry,
        )
        self._outbox_pending = Gauge(
            "cti_outbox_pending", "Notifications not yet delivered.", ("destination",), registry=registry
        )
        self._spool_units = Gauge(
            "cti_spool_units", "What waits in the spool to be written into the store.", registry=registry
        )
        self._spool_bytes = Gauge("cti_spool_bytes", "How much of the spool is in use.", registry=registry)
        self._outbox_oldest = Gauge(
            "cti_outbox_oldest_seconds",
            "Age of the oldest notification not yet delivered.",
            ("destination",),
            registry=registry,
        )
        self._outbox_dead = Gauge(
            "cti_outbox_dead",
            "Notifications given up by their age, that somebody has to decide of.",
            ("destination",),
            registry=registry,
        )
        self._outbox_attempts = Counter(
            "cti_outbox_attempts_total",
            "Attempts to deliver a notification, and what came of them.",
            ("destination", "outcome"),
            registry=registry,
        )
        self._shed_total = Counter(
            "cti_shed_total",
            "Requests answered with the fallback, or not taken at all, because of overload.",
            registry=registry,
        )
        self._store_commit = Histogram(
            "cti_store_commit_seconds",
            "From handing a unit in to durable on disk, waiting for the commit before it included.",
            buckets=SECONDS,
            registry=registry,
        )
        self._operations_total = Counter(
            "cti_operations_total",
            "What was asked to be done to calls, and what came of it.",
            ("operation", "outcome"),
            registry=registry,
        )
        self._logins_total = Counter(
            "cti_logins_total",
            "Log-ins with a password, and what came of them.",
            ("outcome",),
            registry=registry,
        )
        self._event_streams = Gauge("cti_event_streams", "Open event streams.", registry=registry)

        self._calls_children: dict[tuple[str, str | None, str], Counter] = {}
        self._identify_children: dict[tuple[str, str], Histogram] = {}
        self._decision_children: dict[tuple[str | None, str], Counter] = {}
        self._ami_event_children: dict[tuple[str, str], Counter] = {}
        self._feeds: list[Callable[[], None]] = []

        self._services: frozenset[str] = frozenset()
        self._adapters: frozenset[str] = frozenset()
        self._pbxes: frozenset[str] = frozenset()
        self._destinations: frozenset[str] = frozenset()
        self._ami_event_names = frozenset(ami_events)
        self.configure(services=services, adapters=adapters, pbxes=pbxes, destinations=destinations)

    def configure(
        self,
        *,
        services: Iterable[str],
        adapters: Iterable[str],
        pbxes: Iterable[str],
        destinations: Iterable[str],
    ) -> None:
        """Take the names of a new configuration.

        The gauges of a name that came are 0 until somebody sets them. Those of a name that went, go; its counts
        stay, as a counter never shrinks.
        """
        for gone in self._services.difference(services := frozenset(services)):
            _forget(self._waiting_calls, gone)
        for gone in self._adapters.difference(adapters := frozenset(adapters)):
            _forget(self._adapter_up, gone)
            _forget(self._index_numbers, gone)
            _forget(self._index_age, gone)
        for gone in self._pbxes.difference(pbxes := frozenset(pbxes)):
            _forget(self._ami_up, gone)
        for gone in self._destinations.difference(destinations := frozenset(destinations)):
            _forget(self._outbox_pending, gone)
            _forget(self._outbox_oldest, gone)
            _forget(self._outbox_dead, gone)
        # A child is 0 from its birth, and asking for it again does not change it.
        for service in services:
            self._waiting_calls.labels(service)
            self._wait.labels(service)
        for adapter in adapters:
            self._adapter_up.labels(adapter)
        for pbx in pbxes:
            self._ami_up.labels(pbx)
            self._ami_gap.labels(pbx)
        for destination in destinations:
            self._outbox_pending.labels(destination)
            self._outbox_oldest.labels(destination)
            self._outbox_dead.labels(destination)
            for outcome in ATTEMPT_OUTCOMES:
                self._outbox_attempts.labels(destination, outcome)
        self._services = services
        self._adapters = adapters
        self._pbxes = pbxes
        self._destinations = destinations
        self._calls_children.clear()
        self._identify_children.clear()
        self._decision_children.clear()
        self._ami_event_children.clear()

    def call_ended(self, direction: str, service: str | None, outcome: str) -> None:
        """Count a call at its end, once."""
        child = self._calls_children.get((direction, service, outcome))
        if child is None:
            child = self._calls_total.labels(
                _known(direction, DIRECTIONS), self._service(service), _known(outcome, OUTCOMES)
            )
            _keep(self._calls_children, (direction, service, outcome), child)
        child.inc()

    def waited(self, service: str | None, seconds: float) -> None:
        """A caller was answered after so many seconds."""
        self._wait.labels(self._service(service)).observe(max(0.0, seconds))

    def waiting_calls(self, counts: Mapping[str, int]) -> None:
        """How many callers wait at each service; one that is not mentioned has none."""
        for service in self._services:
            self._waiting_calls.labels(service).set(counts.get(service, 0))

    def card_painted(self, seconds: float) -> None:
        """A browser has painted the card, `seconds` after it was offered."""
        self._card_paint.observe(seconds)

    def answered_asterisk(self, seconds: float) -> None:
        """Asterisk has its answer, `seconds` after it asked."""
        self._setup.observe(seconds)

    def identified(self, adapter: str, outcome: str, seconds: float) -> None:
        """An adapter was asked who it is; `outcome` is one of `IDENTIFY_OUTCOMES`."""
        child = self._identify_children.get((adapter, outcome))
        if child is None:
            child = self._identify.labels(_known(adapter, self._adapters), _known(outcome, IDENTIFY_OUTCOMES))
            _keep(self._identify_children, (adapter, outcome), child)
        child.observe(seconds)

    def own_code_asked(self, own: str, outcome: str, seconds: float) -> None:
        """A condition or action was asked that rules name; `outcome` is one of `IDENTIFY_OUTCOMES`."""
        self._own_code.labels(own, _known(outcome, IDENTIFY_OUTCOMES)).observe(seconds)

    def adapter_up(self, adapter: str, up: bool) -> None:
        """Whether the adapter answers at present."""
        self._adapter_up.labels(_known(adapter, self._adapters)).set(up)

    def indexed(self, adapter: str, numbers: int, age: float) -> None:
        """What the phone index has of an adapter, and how many seconds ago it was in step with the CRM."""
        self._index_numbers.labels(_known(adapter, self._adapters)).set(numbers)
        self._index_age.labels(_known(adapter, self._adapters)).set(age)

    def decided(self, service: str | None, action: str) -> None:
        """Count a routing decision."""
        child = self._decision_children.get((service, action))
        if child is None:
            child = self._decisions_total.labels(self._service(service), _known(action, ACTIONS))
            _keep(self._decision_children, (service, action), child)
        child.inc()

    def card_offered(self, seconds: float) -> None:
        """The card is written to the agent's browsers, `seconds` after Asterisk asked."""
        self._card_offer.observe(seconds)

    def ami_up(self, pbx: str, up: bool) -> None:
        """Whether we are logged in to this Asterisk's manager interface."""
        self._ami_up.labels(_known(pbx, self._pbxes)).set(up)

    def ami_gap(self, pbx: str, seconds: float) -> None:
        """Count a time in which calls may have gone by unseen."""
        self._ami_gap.labels(pbx).inc(max(0.0, seconds))

    def ami_event(self, pbx: str, event: str) -> None:
        """Count an event of Asterisk's."""
        child = self._ami_event_children.get((pbx, event))
        if child is None:
            child = self._ami_events_total.labels(
                _known(pbx, self._pbxes), _known(event, self._ami_event_names)
            )
            _keep(self._ami_event_children, (pbx, event), child)
        child.inc()

    def operated(self, operation: str, outcome: str) -> None:
        """Something was asked to be done to a call; `outcome` is one of `OPERATION_OUTCOMES`."""
        self._operations_total.labels(
            _known(operation, OPERATIONS), _known(outcome, OPERATION_OUTCOMES)
        ).inc()

    def logged_in(self, outcome: str) -> None:
        """Somebody tried to log in; `outcome` is one of `LOGIN_OUTCOMES`."""
        self._logins_total.labels(_known(outcome, LOGIN_OUTCOMES)).inc()

    def shed(self) -> None:
        """A request got the fallback, or was not taken, because too many others waited."""
        self._shed_total.inc()

    def spooled(self, units: int, size: int) -> None:
        """So much waits in the spool."""
        self._spool_units.set(units)
        self._spool_bytes.set(size)

    def committed(self, seconds: float) -> None:
        """A unit became durable, `seconds` after it was handed in."""
        self._store_commit.observe(seconds)

    def callbacks(self, counts: Mapping[str, int]) -> None:
        """How many calls to make are in each of `CALLBACK_STATES`."""
        for state in CALLBACK_STATES:
            self._callbacks.labels(state).set(counts.get(state, 0))

    def agents(self, counts: Mapping[str, int], over_pause: int = 0) -> None:
        """How many agents are in each state, and over the time of their pause; a state not mentioned has none."""
        self._over_pause.set(over_pause)
        for state in AGENT_STATES:
            self._agents.labels(state).set(counts.get(state, 0))

    def attempted(self, destination: str, outcome: str) -> None:
        """Somebody was told something, or not; `outcome` is one of `ATTEMPT_OUTCOMES`."""
        self._outbox_attempts.labels(
            _known(destination, self._destinations), _known(outcome, ATTEMPT_OUTCOMES)
        ).inc()

    def outbox(
        self, pending: Mapping[str, tuple[int, float | None]], dead: Mapping[str, int], now: float
    ) -> None:
        """What waits for delivery, as `IStore.pending` tells it, and what was given up, as `IStore.count_dead` does.

        A destination not mentioned has nothing.
        """
        for destination in self._destinations:
            count, oldest = pending.get(destination, (0, None))
            self._outbox_pending.labels(destination).set(count)
            self._outbox_dead.labels(destination).set(dead.get(destination, 0))
            self._outbox_oldest.labels(destination).set(0.0 if oldest is None else max(0.0, now - oldest))

    def event_streams(self, count: int) -> None:
        """How many event streams are open."""
        self._event_streams.set(count)

    def at_scrape(self, feed: Callable[[], None]) -> None:
        """Call `feed` in the reactor before each rendering, for gauges that are cheaper asked than kept."""
        self._feeds.append(feed)

    def refresh(self) -> None:
        """Let every feed set its gauges; in the reactor, before `render`."""
        for feed in self._feeds:
            feed()

    def render(self) -> bytes:
        """The text that Prometheus reads, of type `CONTENT_TYPE`. May be called in any thread."""
        return prometheus_client.generate_latest(self.registry)

    def _service(self, service: str | None) -> str:
        return service if service in self._services and service is not None else NO_SERVICE


def _keep(children: dict[_Key, _Child], key: _Key, child: _Child) -> None:
    # The key is what came in and may be anything; only so many are worth remembering.
    if len(children) < _CHILDREN_LIMIT:
        children[key] = child


def _forget(gauge: Gauge, label: str) -> None:
    # Never set, never there.
    with suppress(KeyError):
        gauge.remove(label)


def _known(value: str, values: frozenset[str]) -> str:
    return value if value in values else OTHER
