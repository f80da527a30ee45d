"""The outbox: everything arrives, in order per call, and nobody's trouble is anybody else's."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
from attrs import define, field
from standardwebhooks.webhooks import Webhook
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived
from twisted.web.http_headers import Headers

from cti.calls import web_client
from cti.calls.outbox import SEND_SECONDS, DeliveryFailed, Outbox, Sender
from cti.calls.web_client import WebClient
from cti.calls.webhook import WebhookSender, signing_key
from cti.store import sqlite
from cti.store.base import StoreError, Unit
from cti.store.records import CallRecord, Delivery, StoredEvent
from cti.store.rows import RowUnit
from cti.store.sqlite import SqliteStore, Writer

ROOT = Path(__file__).parents[2]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
T0 = 1_000_000.0


class InstantStore(SqliteStore):
    """The real store without its thread: a commit is done when it returns."""

    broken = False

    def start(self) -> None:
        self._writer = Writer(self._place, self._destinations, self._clock)
        self._lead(True)
        self._read = sqlite._reader(self._place)

    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Any]":
        assert isinstance(unit, RowUnit)
        if self.broken:
            return defer.fail(StoreError("the disk is full"))
        written = self._writer.write([unit])
        self._tell(written.events)
        (outcome,) = written.outcomes
        return defer.fail(outcome) if isinstance(outcome, StoreError) else defer.succeed(outcome)

    def close(self) -> None:
        self._read.close()
        self._writer.close()


class FarStore(InstantStore):
    """The same across a network: what is asked of it is told later, as it was when it was asked."""

    later: Callable[[Callable[[], None]], object]

    def due(self, destination: str, now: float, limit: int) -> Any:
        return self._told_later(super().due(destination, now, limit))

    def next_due(self, destination: str, now: float) -> Any:
        return self._told_later(super().next_due(destination, now))

    def _told_later(self, answer: Any) -> "Deferred[Any]":
        told: Deferred[Any] = Deferred()
        self.later(lambda: None if told.called else told.callback(answer))
        return told


@define
class Receiver:
    """A destination whose answers the test gives: at once by `answer`, else by hand through `asked`."""

    answer: Callable[[Delivery], Exception | None] | None = None
    asked: "list[tuple[Delivery, Deferred[None]]]" = field(factory=list)
    got: list[int] = field(factory=list)
    tries: list[int] = field(factory=list)

    async def send(self, delivery: Delivery) -> None:
        self.tries.append(delivery.seq)
        if self.answer is None:
            waiting: Deferred[None] = Deferred()
            self.asked.append((delivery, waiting))
            await waiting
        elif (problem := self.answer(delivery)) is not None:
            raise problem
        self.got.append(delivery.seq)

    def accept(self, seq: int) -> None:
        next(
            waiting for delivery, waiting in self.asked if delivery.seq == seq and not waiting.called
        ).callback(None)


def accept(delivery: Delivery) -> None:
    return None


def refuse(delivery: Delivery) -> Exception:
    return DeliveryFailed("answered 500")


@define
class World:
    clock: Clock
    store: InstantStore
    outboxes: list[Outbox] = field(factory=list)

    def now(self) -> float:
        return T0 + self.clock.seconds()

    def outbox(self, destinations: Mapping[str, Sender], **options: Any) -> Outbox:
        options.setdefault("jitter", lambda: 0.0)
        outbox = Outbox(self.store, destinations, self.clock, clock=self.now, **options)
        outbox.startService()
        self.outboxes.append(outbox)
        return outbox

    def emit(self, *calls: str, type: str = "call.routed") -> list[int]:
        seqs = []
        for call in calls:
            unit = self.store.unit()
            unit.emit(type, self.now(), {"call": {"id": call}}, call=call)
            results: list[list[StoredEvent]] = []
            self.store.commit(unit).addCallback(results.append)
            seqs += [event.seq for event in results[0]]
        self.turn()
        return seqs

    def turn(self) -> None:
        """Let everything happen that needs no time to pass."""
        for _ in range(50):
            self.clock.advance(0)

    def wait(self, seconds: float, step: float = 0.25) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.turn()


@pytest.fixture(params=[InstantStore, FarStore])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    clock = Clock()
    every = frozenset({"call.routed", "call.ended"})
    store: InstantStore = request.param(
        tmp_path / "cti.db",
        reactor=None,  # type: ignore[arg-type]
        destinations={"crm": every, "erp": every},
        clock=lambda: T0 + clock.seconds(),
    )
    if isinstance(store, FarStore):
        store.later = lambda tell: clock.callLater(0, tell)
    store.start()
    yield World(clock, store)
    store.close()


def test_an_event_is_on_its_way_as_soon_as_it_is_committed(world: World) -> None:
    crm = Receiver(accept)
    world.outbox({"crm": crm})
    assert world.emit("c1", "c2") == [1, 2]
    assert crm.got == [1, 2]
    assert "crm" not in world.store.pending()


def test_what_waited_before_the_start_is_delivered_in_order(world: World) -> None:
    world.emit("c1", "c2", "c1", "c1")
    crm = Receiver(accept)
    world.outbox({"crm": crm})
    world.turn()
    assert sorted(crm.got) == [1, 2, 3, 4]
    assert [seq for seq in crm.got if seq != 2] == [1, 3, 4]


def test_a_calls_later_event_waits_for_its_earlier_one_and_other_calls_do_not(world: World) -> None:
    crm = Receiver()
    world.outbox({"crm": crm})
    world.emit("c1", "c1", "c2")
    assert crm.tries == [1, 3]
    crm.accept(3)
    world.turn()
    assert crm.tries == [1, 3]
    crm.accept(1)
    world.turn()
    assert crm.tries == [1, 3, 2]


def test_not_more_than_the_limit_are_on_their_way_to_one_destination(world: World) -> None:
    crm = Receiver()
    world.outbox({"crm": crm}, concurrent=3)
    world.emit(*(f"c{number}" for number in range(10)))
    assert crm.tries == [1, 2, 3]
    crm.accept(2)
    world.turn()
    assert crm.tries == [1, 2, 3, 4]


def test_a_slow_or_failing_destination_does_not_delay_another(world: World) -> None:
    crm, erp = Receiver(), Receiver(accept)
    world.outbox({"crm": crm, "erp": erp}, concurrent=1)
    world.emit("c1", "c2", "c3")
    assert (crm.got, erp.got) == ([], [1, 2, 3])


def test_pauses_double_up_to_the_longest(world: World) -> None:
    tried: list[float] = []
    crm = Receiver(lambda delivery: tried.append(world.clock.seconds()) or DeliveryFailed("answered 500"))  # type: ignore[func-returns-value]
    world.outbox({"crm": crm}, longest_pause=12.0)
    world.emit("c1")
    world.wait(40)
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses == [1, 2, 4, 8, 8, 8, 8]


def test_jitter_lengthens_a_pause_by_up_to_a_half(world: World) -> None:
    crm = Receiver(refuse)
    world.outbox({"crm": crm}, jitter=lambda: 0.98)
    world.emit("c1")
    assert world.store._read.next_due("crm", world.now()) == pytest.approx(T0 + 1.49)


def test_a_destination_that_fails_is_probed_and_flows_again_when_it_is_back(world: World) -> None:
    up = False
    crm = Receiver(lambda delivery: None if up else DeliveryFailed("refused"))
    world.outbox({"crm": crm})
    world.emit(*(f"c{number}" for number in range(200)))
    world.wait(3600, step=5.0)
    assert 400 < len(crm.tries) < 1000
    up = True
    world.wait(10)
    assert len(crm.got) > 150
    world.wait(900, step=5.0)
    assert sorted(crm.got) == list(range(1, 201))


def test_retry_after_is_honoured_by_the_whole_destination(world: World) -> None:
    answers: list[Exception | None] = [DeliveryFailed("answered 429", retry_after=90.0)]
    crm = Receiver(lambda delivery: answers.pop() if answers else None)
    world.outbox({"crm": crm})
    world.emit("c1")
    world.emit("c2")
    world.wait(89.5)
    assert crm.tries == [1]
    world.wait(1)
    assert sorted(crm.got) == [1, 2]


def test_retry_after_for_a_year_is_shortened(world: World) -> None:
    crm = Receiver(lambda delivery: DeliveryFailed("answered 503", retry_after=3e7))
    world.outbox({"crm": crm})
    world.emit("c1")
    assert world.store._read.next_due("crm", world.now()) == T0 + 3600


def test_it_gives_up_by_age_only_and_visibly_and_the_calls_next_event_has_its_turn(world: World) -> None:
    crm = Receiver(lambda delivery: None if delivery.seq == 2 else DeliveryFailed("answered 410"))
    unit = world.store.unit()
    unit.put_call(CallRecord("c1", "main", T0))
    world.store.commit(unit)
    with structlog.testing.capture_logs() as logs:
        world.outbox({"crm": crm}, give_up=600.0, longest_pause=60.0)
        world.emit("c1", "c1")
        world.wait(599, step=1.0)
        assert crm.got == []
        assert not [line for line in logs if line["event"] == "outbox.dead"]
        world.wait(70, step=1.0)
    (dead,) = [line for line in logs if line["event"] == "outbox.dead"]
    assert (dead["log_level"], dead["key"], dead["error"]) == ("error", "c1.1", "answered 410")
    assert crm.got == [2]
    detail = world.store._read.call("c1")
    assert detail is not None
    assert [each["state"] for each in detail.deliveries if each["destination"] == "crm"] == [
        "dead",
        "delivered",
    ]


def test_a_sender_that_breaks_or_never_ends_counts_as_a_failure(world: World) -> None:
    crm, erp = Receiver(lambda delivery: KeyError("token=s3cret")), Receiver()
    world.outbox({"crm": crm, "erp": erp})
    world.emit("c1")
    world.wait(SEND_SECONDS + 2, step=1.0)
    assert len(crm.tries) > 3
    assert len(erp.tries) == 2
    deliveries = {
        each.destination: each for name in ("crm", "erp") for each in world.store._read.due(name, T0 * 2, 9)
    }
    errors = dict(world.store._read._all("SELECT destination, error FROM outbox"))
    assert deliveries["erp"].attempts == 1
    assert errors == {"crm": "the sender broke: KeyError", "erp": "no end of the attempt within 60 s"}


def test_a_store_that_fails_does_not_make_a_delivery_come_twice(world: World) -> None:
    crm = Receiver()
    world.outbox({"crm": crm})
    world.emit("c1")
    world.store.broken = True
    crm.accept(1)
    world.wait(5)
    world.store.broken = False
    world.wait(2)
    assert crm.tries == [1]
    assert "crm" not in world.store.pending()


def test_stopping_delivers_what_can_be_and_ends_in_time(world: World) -> None:
    crm, erp = Receiver(), Receiver()
    outbox = world.outbox({"crm": crm, "erp": erp}, drain=5.0)
    world.emit("c1", "c1")
    stopped: list[object] = []
    outbox.stopService().addCallback(stopped.append)
    crm.accept(1)
    world.turn()
    crm.accept(2)
    world.wait(4.5)
    assert crm.got == [1, 2]
    assert stopped == []
    world.wait(1)
    assert stopped == [None]
    assert world.clock.getDelayedCalls() == []
    assert world.store.pending() == {"erp": (2, T0)}
    assert [delivery.attempts for delivery in world.store._read.due("erp", world.now(), 9)] == [0]


def test_stopping_does_not_wait_for_a_destination_that_fails(world: World) -> None:
    crm = Receiver(refuse)
    outbox = world.outbox({"crm": crm})
    world.emit("c1", "c2")
    stopped: list[object] = []
    outbox.stopService().addCallback(stopped.append)
    assert stopped == [None]
    world.wait(60)
    assert len(crm.tries) == 2


def test_started_again_it_goes_on(world: World) -> None:
    crm = Receiver(accept)
    outbox = world.outbox({"crm": crm})
    outbox.stopService()
    world.turn()
    world.emit("c1")
    assert crm.got == []
    outbox.startService()
    world.emit("c2")
    assert crm.got == [1, 2]


def far(world: World) -> list[Callable[[], None]]:
    """Answers of the store that it has not given yet; the test gives them."""
    asked: list[Callable[[], None]] = []
    assert isinstance(world.store, FarStore)
    world.store.later = asked.append
    return asked


@pytest.mark.parametrize("world", [FarStore], indirect=True)
def test_what_was_delivered_while_the_store_was_asked_is_not_delivered_again(world: World) -> None:
    crm = Receiver()
    world.outbox({"crm": crm})
    world.emit("c1")
    asked = far(world)
    world.emit("c2")
    # It is as it was when it was asked: the first is on its way still.
    crm.accept(1)
    world.turn()
    while asked:
        asked.pop(0)()
        world.turn()
    assert crm.tries == [1, 2]


@pytest.mark.parametrize("world", [FarStore], indirect=True)
def test_a_store_that_does_not_answer_keeps_no_server_from_ending(world: World) -> None:
    crm = Receiver(accept)
    outbox = world.outbox({"crm": crm}, drain=5.0)
    asked = far(world)
    world.emit("c1")
    assert asked
    stopped: list[object] = []
    outbox.stopService().addCallback(stopped.append)
    world.wait(4.5)
    assert stopped == []
    world.wait(1)
    assert stopped == [None]
    asked.pop(0)()
    world.turn()
    assert (crm.tries, world.clock.getDelayedCalls()) == ([], [])


@pytest.mark.parametrize("world", [FarStore], indirect=True)
def test_a_destination_whose_look_takes_long_delays_no_other(world: World) -> None:
    crm, erp = Receiver(accept), Receiver(accept)
    world.outbox({"crm": crm, "erp": erp})
    asked = far(world)
    world.emit("c1")
    slow, quick = asked
    quick()
    asked.clear()
    world.turn()
    while asked:
        asked.pop(0)()
        world.turn()
    assert (crm.tries, erp.tries) == ([], [1])
    slow()
    world.turn()
    while asked:
        asked.pop(0)()
        world.turn()
    assert crm.tries == [1]


# Webhooks.


@define
class FakeAgent:
    requests: list[tuple[bytes, bytes, Headers, bytes]] = field(factory=list)

    def request(self, method: bytes, uri: bytes, headers: Headers, body: Any, /) -> "Deferred[Any]":
        written: list[bytes] = []
        if body is not None:
            body.startProducing(type("Consumer", (), {"write": staticmethod(written.append)}))
        self.requests.append((method, uri, headers, b"".join(written)))

        def cancelled(waiting: "Deferred[Any]") -> None:
            # What Twisted's agent does once the request is on its way.
            waiting.errback(ResponseNeverReceived([Failure(CancelledError())]))  # type: ignore[no-untyped-call]

        return Deferred(cancelled)


def a_client(agent: FakeAgent) -> WebClient:
    return WebClient(agent, Clock(), clock=time.time)


def a_delivery(data: bytes = b'{"seq":1}') -> Delivery:
    return Delivery(1, "crm", "c1", 1, "c1.1", "call.routed", data, T0, 0, T0)


@pytest.mark.parametrize(
    ("secret", "verifier"), [(SECRET, Webhook(SECRET)), ("plain söcret", Webhook("plain söcret".encode()))]
)
def test_the_signature_satisfies_the_reference_library(secret: str, verifier: Webhook) -> None:
    agent = FakeAgent()
    sender = WebhookSender("http://127.0.0.1:9/", [secret], a_client(agent), clock=time.time)
    body = '{"seq":1,"name":"Žagar"}'.encode()
    Deferred.fromCoroutine(sender.send(a_delivery(body)))
    ((method, _, headers, sent),) = agent.requests
    flat = {name.decode(): values[0].decode() for name, values in headers.getAllRawHeaders()}
    assert (method, sent, flat["Webhook-Id"]) == (b"POST", body, "c1.1")
    assert verifier.verify(sent, flat) == json.loads(body)
    with pytest.raises(Exception, match="signature"):
        verifier.verify(sent + b" ", flat)


def test_while_a_secret_is_replaced_who_knows_either_takes_the_event() -> None:
    new = "whsec_" + "bmV3IGtleSBvZiBhIHdlYmhvb2s="
    agent = FakeAgent()
    sender = WebhookSender("http://127.0.0.1:9/", [new, SECRET], a_client(agent), clock=time.time)
    Deferred.fromCoroutine(sender.send(a_delivery()))
    ((_, _, headers, sent),) = agent.requests
    flat = {name.decode(): values[0].decode() for name, values in headers.getAllRawHeaders()}
    assert len(flat["Webhook-Signature"].split(" ")) == 2
    for secret in (new, SECRET):
        assert Webhook(secret).verify(sent, flat) == {"seq": 1}
    with pytest.raises(Exception, match="signature"):
        Webhook("whsec_" + "YSB0aGlyZCBvbmU=").verify(sent, flat)


def test_a_webhook_cancelled_by_us_is_no_failure_of_the_receiver_and_one_out_of_time_is() -> None:
    for cancels, expected in ((True, CancelledError), (False, DeliveryFailed)):
        clock, agent = Clock(), FakeAgent()
        client = WebClient(agent, clock, clock=clock.seconds, timeout=10)
        sender = WebhookSender("http://127.0.0.1:9/?k=s3cret", [SECRET], client, clock=clock.seconds)
        results: list[Any] = []
        sending = Deferred.fromCoroutine(sender.send(a_delivery()))
        sending.addErrback(results.append)
        clock.advance(9.9)
        assert results == []
        if cancels:
            sending.cancel()
        clock.advance(0.2)
        assert type(results[0].value) is expected
        assert "s3cret" not in str(results[0].value)
        assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!"])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match=r"secret"):
        signing_key(secret)


@pytest.mark.parametrize(
    "url", ["ftp://crm.example/", "crm.example", "http://anna:pw@crm.example/", "http:///x"]
)
def test_an_address_that_cannot_be_used_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="webhook's url") as refused:
        WebhookSender(url, [SECRET], a_client(FakeAgent()), clock=time.time)
    assert "pw" not in str(refused.value)


class Hooks(ThreadingHTTPServer):
    """A real receiver; `script` says what each request is answered, the last entry for ever."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: list[str], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.script = script
        self.requests: list[tuple[float, str, dict[str, str], bytes]] = []
        self.accepted: list[str] = []
        self.released = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hooks

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        hooks = self.server
        what = hooks.script.pop(0) if len(hooks.script) > 1 else hooks.script[0]
        hooks.requests.append(
            (time.monotonic(), what, {name.lower(): value for name, value in self.headers.items()}, body)
        )
        if what == "hang":
            hooks.released.wait(20)
            self.close_connection = True
        elif what == "cut":
            self.close_connection = True
        elif what == "flood":
            hooks.accepted.append(self.headers["webhook-id"])
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            try:
                while not hooks.released.is_set():
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass
        else:
            code, *headers = what.split("|")
            if code == "200":
                hooks.accepted.append(self.headers["webhook-id"])
            self.send_response(int(code))
            for header in headers:
                self.send_header(*header.split(":", 1))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def hooks(*script: str, port: int = 0) -> Iterator[Hooks]:
    server = Hooks(list(script), port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


SERVER = """
import ipaddress, json, random, sys, time
from twisted.internet import reactor, stdio, protocol
from cti.calls.outbox import Outbox
from cti.calls.web_client import WebClient, web_agent
from cti.calls.webhook import WebhookSender
from cti.reach import Reach
from cti.store.records import CallRecord
from cti.store.sqlite import SqliteStore

path, secret, urls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
every = frozenset({"call.routed", "call.ended"})
store = SqliteStore(path, reactor=reactor, destinations={name: every for name in urls}, clock=time.time)
store.start()
here = Reach([ipaddress.ip_network("127.0.0.1/32")])
client = WebClient(web_agent(reactor, here), reactor, clock=time.time, timeout=2.0)
senders = {name: WebhookSender(url, [secret], client, clock=time.time) for name, url in urls.items()}
outbox = Outbox(store, senders, reactor, clock=time.time, jitter=random.random, first_pause=0.1, drain=1.0)
outbox.startService()
for number in range(20):
    unit = store.unit()
    unit.put_call(CallRecord(str(number), "main", time.time()))
    for type in ("call.routed", "call.routed", "call.ended"):
        unit.emit(type, time.time(), {"call": {"id": str(number)}}, call=str(number))
    store.commit(unit)

class Until(protocol.Protocol):
    def connectionLost(self, reason):
        stopping = outbox.stopService()
        stopping.addCallback(lambda _: print(json.dumps(store.pending())))
        stopping.addCallback(lambda _: print(json.dumps(store._read._all("SELECT DISTINCT error FROM outbox"))))
        stopping.addCallback(lambda _: store.stop()).addCallback(lambda _: reactor.stop())

reactor.callWhenRunning(stdio.StandardIO, Until())
reactor.run()
"""


@contextmanager
def a_server(path: Path, **urls: str) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path), SECRET, json.dumps(urls)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(reached: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "in time"
        time.sleep(0.02)


def assert_in_order_and_signed(server: Hooks) -> None:
    """Everything accepted, in order per call, each request with a signature that holds.

    Once, but for answers that took this machine longer than the sender waits.
    """
    verifier = Webhook(SECRET)
    accepted = dict.fromkeys(server.accepted)
    assert sorted(accepted) == sorted({f"{call}.{3 * call + n}" for call in range(20) for n in (1, 2, 3)})
    for call in range(20):
        mine = [key for key in accepted if key.startswith(f"{call}.")]
        assert mine == [f"{call}.{3 * call + n}" for n in (1, 2, 3)]
    for _, _, headers, body in server.requests:
        event = verifier.verify(body, headers)
        assert f"{event['call']['id']}.{event['seq']}" == headers["webhook-id"]
        assert headers["content-type"] == "application/json"


def test_real_receivers_in_all_their_moods_get_everything_once_in_order_and_signed(tmp_path: Path) -> None:
    with (
        hooks("200") as well,
        hooks("500", "cut", "404", "410", "200") as broken,
        hooks(*["hang"] * 8, "200") as hanging,
        hooks("503|Retry-After:1", "200") as busy,
        hooks("200") as elsewhere,
        hooks("flood", "flood", "200") as chatty,
        hooks("200") as later,
    ):
        moved = hooks(f"307|Location:http://127.0.0.1:{elsewhere.port}/")
        address = "http://127.0.0.1:{}/hook?token=s3cret"
        down_port = later.port
        later.server_close()
        with (
            moved as mover,
            a_server(
                tmp_path / "cti.db",
                well=address.format(well.port),
                broken=address.format(broken.port),
                hanging=address.format(hanging.port),
                busy=address.format(busy.port),
                moved=address.format(mover.port),
                chatty=address.format(chatty.port),
                down=address.format(down_port),
            ) as server,
        ):
            until(lambda: len(set(well.accepted)) == 60)
            time.sleep(0.3)
            with hooks("200", port=down_port) as up:
                for each in (broken, hanging, busy, chatty, up):
                    until(lambda each=each: len(set(each.accepted)) == 60)  # type: ignore[misc]
                until(lambda: len(mover.requests) >= 2)
                time.sleep(0.1)
                out, _ = server.communicate(timeout=60)
            pending, errors = (json.loads(line) for line in out.splitlines()[-2:])
    for each in (well, broken, hanging, busy, chatty, up):
        assert_in_order_and_signed(each)
    put_off = busy.requests[0][2]["webhook-id"]
    first, second = (at for at, _, headers, _ in busy.requests if headers["webhook-id"] == put_off)
    assert second - first >= 1.0
    assert elsewhere.requests == []
    assert {name: count for name, (count, _) in pending.items()} == {"moved": 60}
    texts = [text for (text,) in errors if text]
    for what in (
        "answered 307: redirects are not followed, configure the address it moved to",
        "answered 410",
        "gave no answer within 2 s",
        "cannot be reached: Connection was refused",
        "broke off before it had answered",
    ):
        assert any(what in text for text in texts), (what, texts)
    assert "s3cret" not in out


def test_the_timeouts_of_a_webhook_are_below_those_of_the_outbox() -> None:
    assert web_client.ANSWER_SECONDS + web_client.BODY_SECONDS < SEND_SECONDS


def test_of_two_servers_the_one_that_leads_delivers_and_the_other_takes_over(world):
    receiver = Receiver(accept)
    world.store._lead(False)
    world.outbox({"crm": receiver})
    seqs = world.emit("c1", "c2")
    world.clock.advance(60)
    assert receiver.tries == []

    world.store._lead(True)
    world.clock.advance(1)
    assert sorted(receiver.got) == seqs
