"""The AMI client against a strict fake Asterisk: log-in, order, answers, and every way of losing the connection."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogLevel, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from cti.asterisk import ami
from cti.asterisk.ami import (
    MUTE_PINGS,
    AmiActionFailed,
    AmiClient,
    AmiDisconnected,
    AmiOverloaded,
    AmiTimeout,
)
from cti.asterisk.ami_parser import AmiFieldError, Event
from cti.asterisk.ami_tls import AmiTls
from tests.certificates import Authority

USERNAME, SECRET, CHALLENGE = "cti", "s3cret", "104729"
BOOTED = b"Event: FullyBooted\r\nPrivilege: system,all\r\nStatus: Fully Booted\r\n\r\n"


def a_failure(error: Exception) -> Failure:
    return Failure(error)  # type: ignore[no-untyped-call]


def an_event(name: str, **headers: str) -> bytes:
    lines = [f"Event: {name}", *(f"{header}: {value}" for header, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class FakeAsterisk:
    """One accepted connection. It knows its protocol: it refuses what Asterisk would refuse."""

    def __init__(self, protocol: Any, *, boots: bool = True) -> None:
        self.protocol = protocol
        self.boots = boots
        self.logged_in = False
        self.transport = cast(Any, StringTransport)()
        self.transport.setTcpNoDelay = self.transport.setTcpKeepAlive = lambda enabled: None
        protocol.makeConnection(self.transport)

    def says(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def heard(self) -> list[dict[str, Any]]:
        """The actions that came, each checked; a header that came more than once as a list."""
        data: bytes = self.transport.value()
        self.transport.clear()
        if not data:
            return []
        assert data.endswith(b"\r\n\r\n")
        actions = []
        for block in data[:-4].decode().split("\r\n\r\n"):
            fields: dict[str, Any] = {}
            for line in block.split("\r\n"):
                header, colon, value = line.partition(": ")
                assert colon, f"a line without a colon: {line!r}"
                if header in fields:
                    several = fields[header]
                    fields[header] = [*(several if isinstance(several, list) else [several]), value]
                else:
                    fields[header] = value
            assert list(fields)[:2] == ["Action", "ActionID"]
            actions.append(fields)
        return actions

    def the_action(self) -> dict[str, Any]:
        (fields,) = self.heard()
        return fields

    def answers(self, action: dict[str, Any], word: str = "Success", **headers: str) -> None:
        lines = [f"Response: {word}", f"ActionID: {action['ActionID']}"]
        lines += [f"{header}: {value}" for header, value in headers.items()]
        self.says("\r\n".join(lines).encode() + b"\r\n\r\n")

    def lets_in(self) -> None:
        """Play the log-in as Asterisk does."""
        self.says(b"Asterisk Call Manager/9.0.0\r\n")
        action = self.the_action()
        assert action["Action"] == "Challenge"
        self.answers(action, Challenge=CHALLENGE)
        action = self.the_action()
        assert action["Action"] == "Login"
        proof = hashlib.md5((CHALLENGE + SECRET).encode()).hexdigest()
        if (action["Username"], action.get("Key")) != (USERNAME, proof):
            self.refuses(action)
            return
        self.logged_in = True
        self.answers(action, Message="Authentication accepted")
        if self.boots:
            self.says(BOOTED)

    def refuses(self, action: dict[str, Any], message: str = "Authentication failed") -> None:
        self.answers(action, "Error", Message=message)
        self.goes_away()

    def goes_away(self) -> None:
        self.protocol.connectionLost(a_failure(ConnectionError()))

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)

    @property
    def is_read(self) -> bool:
        return bool(self.transport.producerState == "producing")


class Scene:
    """A client with what it told its owner, and the network it lives in."""

    def __init__(
        self, *, secret: str = SECRET, jitter: float = 0.0, host: str = "127.0.0.1", **options: Any
    ) -> None:
        self.reactor: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
        self.events: list[Event] = []
        self.story: list[str] = []
        self.jitter = jitter
        options.setdefault("on_event", self.events.append)
        options.setdefault("on_up", lambda: self.story.append("up"))
        options.setdefault("on_down", lambda reason: self.story.append(f"down: {reason}"))
        self.client = AmiClient(
            self.reactor, host, 5038, USERNAME, secret, jitter=lambda: self.jitter, **options
        )
        self.client.startService()

    @property
    def attempts(self) -> int:
        return len(self.reactor.tcpClients)

    def accepts(self, **how: Any) -> FakeAsterisk:
        factory = self.reactor.tcpClients[-1][2]
        return FakeAsterisk(factory.buildProtocol(None), **how)

    def is_up(self) -> FakeAsterisk:
        asterisk = self.accepts()
        asterisk.lets_in()
        assert self.client.up
        return asterisk

    def refuses_connection(self) -> None:
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, a_failure(cast(Any, ConnectionRefusedError)()))

    def pause_before_next_attempt(self) -> float:
        """Let time pass until the client connects again."""
        before, start = self.attempts, self.reactor.seconds()
        while self.attempts == before:
            pending = [call.getTime() for call in self.reactor.getDelayedCalls()]
            assert pending, "the client has given up"
            self.reactor.advance(min(pending) - self.reactor.seconds())
        return float(self.reactor.seconds() - start)

    def names(self) -> list[str]:
        return [event.name for event in self.events]


def started(work: Any) -> Any:
    return Deferred.fromCoroutine(work)


def outcome(deferred: Any) -> Any:
    """Result or exception of what must be decided by now."""
    results: list[Any] = []
    if not isinstance(deferred, Deferred):
        deferred = started(deferred)
    deferred.addBoth(results.append)
    assert results, "not decided yet"
    return results[0].value if isinstance(results[0], Failure) else results[0]


@contextmanager
def the_log() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: Any) -> None:
        if event["log_level"] > LogLevel.debug:
            lines.append(event["log_format"].format(**event))

    publisher: Any = globalLogPublisher
    publisher.addObserver(observe)
    try:
        yield lines
    finally:
        publisher.removeObserver(observe)


# Log-in


def test_the_secret_never_travels() -> None:
    scene = Scene()
    asterisk = scene.accepts()
    asterisk.says(b"Asterisk Call Manager/9.0.0\r\n")
    asterisk.answers(asterisk.the_action(), Challenge=CHALLENGE)
    login = asterisk.the_action()
    assert login["AuthType"] == "MD5"
    assert SECRET not in str(login)


def test_the_secret_travels_if_the_owner_says_so() -> None:
    scene = Scene(login="plain")
    asterisk = scene.accepts()
    asterisk.says(b"Asterisk Call Manager/9.0.0\r\n")
    login = asterisk.the_action()
    assert (login["Action"], login["Username"], login["Secret"]) == ("Login", USERNAME, SECRET)


def test_the_client_is_up_when_asterisk_has_booted() -> None:
    scene = Scene()
    assert scene.client.state == "connecting"
    asterisk = scene.accepts(boots=False)
    assert not scene.client.up
    asterisk.lets_in()
    assert asterisk.logged_in
    assert scene.client.state == "booting"
    scene.reactor.advance(60)
    assert isinstance(outcome(scene.client.action("Ping")), AmiDisconnected)
    asterisk.says(BOOTED)
    assert (scene.client.state, scene.client.since) == ("up", 60.0)
    assert scene.story == ["up"]


def test_an_asterisk_that_never_says_it_has_booted_is_left_with_the_reason() -> None:
    scene = Scene(boot_timeout=120.0)
    asterisk = scene.accepts(boots=False)
    asterisk.lets_in()
    with the_log() as lines:
        scene.reactor.advance(121)
        asterisk.goes_away()
    assert "read = system" in lines[0]
    scene.pause_before_next_attempt()


@pytest.mark.parametrize("said", [b"", b"Asterisk Call Manager/9.0.0\r\n"])
def test_a_silent_server_is_left(said: bytes) -> None:
    scene = Scene(login_timeout=10.0)
    asterisk = scene.accepts()
    if said:
        asterisk.says(said)
    scene.reactor.advance(9)
    assert not asterisk.closed
    scene.reactor.advance(1)
    scene.reactor.advance(0.5)
    assert asterisk.closed


def test_a_server_that_is_not_asterisk_is_left() -> None:
    scene = Scene()
    asterisk = scene.accepts()
    asterisk.says(b"SSH-2.0-x\r\n")
    assert asterisk.closed


def test_a_refused_password_is_tried_again_ever_more_slowly_and_named_in_the_state() -> None:
    scene = Scene(secret="wrong")
    pauses = []
    for _ in range(6):
        scene.accepts().lets_in()
        assert scene.client.state == "refused: authentication"
        pauses.append(scene.pause_before_next_attempt())
        assert scene.client.state == "refused: authentication"
    assert pauses == [30, 60, 120, 240, 300, 300]
    assert scene.story == []


def test_a_password_put_right_in_asterisk_is_accepted_at_the_next_attempt() -> None:
    scene = Scene()
    first = scene.accepts()
    first.says(b"Asterisk Call Manager/9.0.0\r\n")
    first.answers(first.the_action(), Challenge=CHALLENGE)
    first.refuses(first.the_action())
    assert scene.client.state == "refused: authentication"
    scene.pause_before_next_attempt()
    scene.is_up().goes_away()
    assert scene.pause_before_next_attempt() < 1


def test_a_login_in_use_is_tried_again_soon() -> None:
    scene = Scene()
    asterisk = scene.accepts()
    asterisk.says(b"Asterisk Call Manager/9.0.0\r\n")
    asterisk.refuses(asterisk.the_action(), "Login Already In Use")
    assert scene.pause_before_next_attempt() < 1


def test_no_log_line_has_the_secret() -> None:
    with the_log() as lines:
        scene = Scene(secret="wr0ng")
        scene.accepts().lets_in()
        Scene().is_up().goes_away()
    assert lines
    assert not any(word in line for line in lines for word in ("wr0ng", SECRET))


# Events


def test_events_come_in_order_and_only_those_wanted() -> None:
    scene = Scene(wanted=frozenset({"Newstate", "Hangup"}))
    asterisk = scene.is_up()
    stream = (
        an_event("Newstate", N="1")
        + an_event("VarSet", N="2")
        + an_event("Hangup", N="3")
        + an_event("Newstate", N="4")
    )
    for cut in range(0, len(stream), 7):
        asterisk.says(stream[cut : cut + 7])
    assert [event["N"] for event in scene.events] == ["1", "3", "4"]


def test_an_event_that_the_owner_cannot_take_does_not_stop_the_next() -> None:
    seen: list[str] = []

    def on_event(event: Event) -> None:
        seen.append(event.name)
        if event.name == "Newstate":
            raise ValueError(event["CallerIDNum"])

    scene = Scene(on_event=on_event)
    asterisk = scene.is_up()
    with the_log() as lines:
        asterisk.says(an_event("Newstate", CallerIDNum="+493023125001") + an_event("Hangup"))
    assert seen == ["FullyBooted", "Newstate", "Hangup"]
    (line,) = lines
    assert "on_event for Newstate failed: ValueError" in line
    assert "23125" not in line
    assert scene.client.up


def test_events_go_on_while_on_up_asks_for_what_it_missed() -> None:
    found: list[str] = []

    async def on_up() -> None:
        for entry in await scene.client.list_action("CoreShowChannels", complete="CoreShowChannelsComplete"):
            found.append(entry["Channel"])
        found.append(f"after {len(scene.events)} events")

    scene = Scene(on_up=on_up, wanted=frozenset({"Newstate", "CoreShowChannel"}))
    asterisk = scene.is_up()
    action = asterisk.the_action()
    own = {"ActionID": action["ActionID"]}
    asterisk.answers(action, EventList="start", Message="Channels will follow")
    asterisk.says(
        an_event("CoreShowChannel", Channel="PJSIP/anna-1", **own)
        + an_event("Newstate", N="1")
        + an_event("CoreShowChannel", Channel="PJSIP/berta-2", **own)
        + an_event("CoreShowChannelsComplete", EventList="Complete", ListItems="2", **own)
        + an_event("Newstate", N="2")
    )
    assert found == ["PJSIP/anna-1", "PJSIP/berta-2", "after 1 events"]
    assert scene.names() == ["Newstate", "Newstate"]


@pytest.mark.parametrize("early", [True, False])
def test_an_on_up_that_fails_leaves_the_client_up(early: bool) -> None:
    def at_once() -> None:
        raise ValueError

    async def later() -> None:
        raise ValueError

    with the_log() as lines:
        scene = Scene(on_up=at_once if early else later)
        scene.is_up()
    assert any("on_up failed: ValueError" in line for line in lines)
    assert scene.client.up


def test_hostile_input_ends_the_connection_and_the_next_one_works() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    asterisk.says(b"Event: X\r\n" + b"A: b\r\n" * 200_000)
    assert asterisk.closed
    asterisk.goes_away()
    scene.pause_before_next_attempt()
    scene.is_up()


def test_what_came_before_hostile_input_is_still_an_event() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    asterisk.says(an_event("Hangup", N="1") + an_event("Newstate", N="\0") + an_event("Hangup", N="2"))
    assert asterisk.closed
    assert [event["N"] for event in scene.events if event.name == "Hangup"] == ["1"]


def test_an_event_into_which_a_caller_has_written_is_not_believed() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    with the_log() as lines:
        asterisk.says(an_event("Hangup", CallerIDNum="23125\r\nUniqueid: victim", Uniqueid="1"))
    asterisk.says(an_event("Hangup", Uniqueid="2"))
    assert [event["Uniqueid"] for event in scene.events if event.name == "Hangup"] == ["2"]
    (line,) = lines
    assert "23125" not in line
    assert scene.client.up


# Actions


def test_an_action_gives_its_response() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    done = started(scene.client.action("DBPut", Family="cti", Key="k", Val="a\r\nAction: Originate"))
    action = asterisk.the_action()
    assert action["Val"] == "a Action: Originate"
    asterisk.answers(action, Message="Updated database successfully")
    assert outcome(done).message == "Updated database successfully"


def test_answers_may_come_in_any_order() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    first, second = started(scene.client.action("Ping")), started(scene.client.action("Ping"))
    one, two = asterisk.heard()
    asterisk.answers(two, N="2")
    asterisk.answers(one, N="1")
    assert (outcome(first)["N"], outcome(second)["N"]) == ("1", "2")


def test_a_refused_action_fails_with_the_reason() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    failed = started(scene.client.action("DBGet", Family="cti", Key="none"))
    asterisk.answers(asterisk.the_action(), "Error", Message="Database entry not found")
    error = outcome(failed)
    assert isinstance(error, AmiActionFailed)
    assert error.message == "Database entry not found"


def test_every_output_line_of_an_answer_is_kept() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    done = started(scene.client.action("Command", Command="core show version"))
    action_id = asterisk.the_action()["ActionID"]
    asterisk.says(
        f"Response: Success\r\nActionID: {action_id}\r\nOutput: one\r\nOutput: two\r\n\r\n".encode()
    )
    assert outcome(done).all("Output") == ("one", "two")


def test_several_values_go_out_as_several_lines() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    started(scene.client.action("Originate", Channel="PJSIP/anna", Variable=["A=1", "B=2"]))
    assert asterisk.the_action()["Variable"] == ["A=1", "B=2"]


def test_a_field_that_cannot_be_written_is_refused_and_nothing_is_sent() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    assert isinstance(outcome(scene.client.action("DBPut", Val="x" * 2000)), AmiFieldError)
    assert asterisk.heard() == []


def test_an_action_without_answer_fails_and_a_late_answer_is_harmless() -> None:
    scene = Scene(action_timeout=5.0)
    asterisk = scene.is_up()
    failed = started(scene.client.action("DBPut", Family="a", Key="b", Val="c"))
    action = asterisk.the_action()
    scene.reactor.advance(5.0)
    assert not failed.called
    scene.reactor.advance(0.25)
    assert isinstance(outcome(failed), AmiTimeout)
    asterisk.answers(action)
    assert scene.client.up


def test_a_process_that_was_stopped_still_reads_what_came_in_time() -> None:
    scene = Scene(ping_every=1000.0)
    asterisk = scene.is_up()
    done = started(scene.client.action("Ping"))
    action = asterisk.the_action()
    scene.reactor.advance(100)
    asterisk.answers(action)
    assert outcome(done).success


def test_a_list_that_is_refused_fails() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    failed = started(scene.client.list_action("DBGet", complete="DBGetComplete", Family="a", Key="b"))
    asterisk.answers(asterisk.the_action(), "Error", Message="Database entry not found")
    assert isinstance(outcome(failed), AmiActionFailed)


def test_entries_of_a_list_that_was_given_up_are_no_events() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    failed = started(scene.client.list_action("DeviceStateList", complete="DeviceStateListComplete"))
    own = {"ActionID": asterisk.the_action()["ActionID"]}
    asterisk.says(an_event("DeviceStateChange", Device="PJSIP/anna", **own))
    scene.reactor.advance(5)
    scene.reactor.advance(0.25)
    assert isinstance(outcome(failed), AmiTimeout)
    asterisk.says(an_event("DeviceStateChange", Device="PJSIP/berta", **own))
    asterisk.says(an_event("DeviceStateListComplete", EventList="Complete", **own))
    asterisk.says(an_event("DeviceStateChange", Device="PJSIP/carla"))
    assert [event.get("Device") for event in scene.events] == ["", "PJSIP/carla"]


def test_an_answer_nobody_waits_for_any_more_is_harmless() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    dropped = started(scene.client.action("Ping"))
    dropped.addErrback(lambda failure: None)
    action = asterisk.the_action()
    dropped.cancel()
    asterisk.answers(action)
    scene.reactor.advance(6)
    assert scene.client.up


def test_actions_that_wait_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ami, "MAX_PENDING", 2)
    scene = Scene()
    scene.is_up()
    waiting = [started(scene.client.action("Ping")) for _ in range(2)]
    assert isinstance(outcome(scene.client.action("Ping")), AmiOverloaded)
    assert not any(done.called for done in waiting)


def test_a_list_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ami, "MAX_LIST_ENTRIES", 2)
    scene = Scene()
    asterisk = scene.is_up()
    failed = started(scene.client.list_action("CoreShowChannels", complete="CoreShowChannelsComplete"))
    own = {"ActionID": asterisk.the_action()["ActionID"]}
    for _ in range(5):
        asterisk.says(an_event("CoreShowChannel", **own))
    assert isinstance(outcome(failed), AmiOverloaded)
    assert scene.names() == ["FullyBooted"]


def test_what_a_list_may_hold_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ami, "MAX_LIST_CHARACTERS", 1000)
    scene = Scene()
    asterisk = scene.is_up()
    failed = started(scene.client.list_action("DBGetTree", complete="DBGetTreeComplete"))
    own = {"ActionID": asterisk.the_action()["ActionID"]}
    asterisk.says(an_event("DBGetTreeResponse", Val="x" * 500, **own))
    assert not failed.called
    asterisk.says(an_event("DBGetTreeResponse", Val="x" * 500, **own))
    assert isinstance(outcome(failed), AmiOverloaded)


def test_lists_that_never_end_do_not_fill_what_waits_for_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ami, "MAX_PENDING", 3)
    monkeypatch.setattr(ami, "MAX_ABANDONED", 2)
    scene = Scene()
    asterisk = scene.is_up()
    ids = []
    for _ in range(5):
        endless = started(scene.client.list_action("Status", complete="Never", timeout=1.0))
        action = asterisk.the_action()
        ids.append(action["ActionID"])
        asterisk.answers(action, EventList="start")
        scene.reactor.advance(1)
        scene.reactor.advance(0.25)
        assert isinstance(outcome(endless), AmiTimeout)
    for action_id in ids[-2:]:
        asterisk.says(an_event("Status", ActionID=action_id))
        asterisk.says(an_event("Never", ActionID=action_id))
    assert scene.names() == ["FullyBooted"]
    # What came so long before is forgotten.
    asterisk.says(an_event("Status", ActionID=ids[0]))
    assert scene.names() == ["FullyBooted", "Status"]
    done = started(scene.client.action("Ping"))
    asterisk.answers(asterisk.the_action())
    assert outcome(done).success


def test_a_slow_handler_neither_reorders_nor_drops_events_nor_costs_the_connection() -> None:
    seen: list[str] = []

    def on_event(event: Event) -> None:
        # Time passes, and the reactor has no turn.
        scene.reactor.rightNow += 20
        seen.append(event.get("N"))

    scene = Scene(on_event=on_event, wanted=frozenset({"Newstate"}), ping_every=15.0, ping_timeout=5.0)
    asterisk = scene.is_up()
    scene.reactor.advance(15)
    ping = asterisk.the_action()
    stream = b"".join(an_event("Newstate", N=str(number)) for number in range(50))
    asterisk.says(stream[:1000])
    scene.reactor.advance(0)
    asterisk.says(stream[1000:])
    asterisk.answers(ping)
    scene.reactor.advance(0.25)
    assert seen == [str(number) for number in range(50)]
    assert scene.client.up


# Losing the connection


def test_events_are_let_lie_for_a_moment_and_answers_are_not() -> None:
    scene = Scene(gather=0.01)
    asterisk = scene.is_up()
    assert asterisk.is_read
    asterisk.says(an_event("Newchannel"))
    assert scene.names() == ["FullyBooted", "Newchannel"]
    assert not asterisk.is_read
    scene.reactor.advance(0.01)
    assert asterisk.is_read

    answer = started(scene.client.action("Ping"))
    asterisk.answers(asterisk.the_action())
    assert outcome(answer).success
    entries = started(scene.client.list_action("CoreShowChannels", complete="CoreShowChannelsComplete"))
    asked = asterisk.the_action()
    asterisk.answers(asked, EventList="start")
    asterisk.says(an_event("CoreShowChannel", ActionID=asked["ActionID"]))
    assert asterisk.is_read
    asterisk.says(an_event("CoreShowChannelsComplete", ActionID=asked["ActionID"], EventList="Complete"))
    assert len(outcome(entries)) == 1


def test_where_more_events_lie_already_they_are_read_on() -> None:
    scene = Scene(gather=0.01)
    asterisk = scene.is_up()
    event = an_event("Newchannel", Channel="PJSIP/" + "x" * 994)
    asterisk.says((event * 65)[: 2**16])
    assert asterisk.is_read


def test_a_connection_that_is_lost_while_events_lie_leaves_nothing_behind() -> None:
    scene = Scene(gather=0.01)
    asterisk = scene.is_up()
    asterisk.says(an_event("Newchannel"))
    asterisk.goes_away()
    scene.reactor.advance(0.01)
    assert not asterisk.is_read
    assert scene.story[-1].startswith("down")


def test_every_waiting_action_ends_when_the_connection_is_lost() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    action = started(scene.client.action("Ping"))
    listing = started(scene.client.list_action("CoreShowChannels", complete="CoreShowChannelsComplete"))
    asterisk.goes_away()
    assert isinstance(outcome(action), AmiDisconnected)
    assert isinstance(outcome(listing), AmiDisconnected)
    assert scene.story == ["up", "down: Asterisk closed the connection"]
    assert scene.client.state == "down"


def test_who_is_told_of_a_lost_action_finds_the_client_down() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    seen: list[bool] = []
    started(scene.client.action("Ping")).addErrback(lambda failure: seen.append(scene.client.up))
    asterisk.goes_away()
    assert seen == [False]


def test_events_and_actions_work_on_the_next_connection_with_new_ids() -> None:
    scene = Scene()
    first = scene.is_up()
    started(scene.client.action("Ping")).addErrback(lambda failure: None)
    old = first.the_action()["ActionID"]
    first.goes_away()
    scene.pause_before_next_attempt()
    second = scene.is_up()
    done = started(scene.client.action("Ping"))
    action = second.the_action()
    assert action["ActionID"] != old
    second.answers({"ActionID": old})
    assert not done.called
    second.answers(action)
    assert outcome(done).success
    second.says(an_event("Hangup"))
    assert scene.names() == ["FullyBooted", "FullyBooted", "Hangup"]
    assert scene.story == ["up", "down: Asterisk closed the connection", "up"]


def test_a_refused_connection_never_ends_the_attempts() -> None:
    scene = Scene(jitter=0.999999)
    pauses = []
    for _ in range(12):
        scene.refuses_connection()
        assert scene.client.state == "down"
        pauses.append(round(scene.pause_before_next_attempt(), 3))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30]
    scene.is_up()


def test_pauses_are_spread_by_the_jitter() -> None:
    scene = Scene(jitter=0.0)
    scene.refuses_connection()
    assert scene.pause_before_next_attempt() == 0.25


def test_a_connection_that_never_lasts_is_not_made_ever_faster() -> None:
    scene = Scene()
    pauses = []
    for _ in range(4):
        scene.is_up().goes_away()
        pauses.append(scene.pause_before_next_attempt())
    assert pauses == [0.25, 0.5, 1, 2]
    asterisk = scene.is_up()
    scene.reactor.advance(10)
    asterisk.goes_away()
    assert scene.pause_before_next_attempt() == 0.25


@pytest.mark.parametrize("before", [b"", b"Event: Newstate\r\nChannel: PJS"])
def test_a_dead_link_is_noticed_by_the_ping_it_does_not_answer(before: bytes) -> None:
    scene = Scene(ping_every=15.0, ping_timeout=5.0)
    asterisk = scene.is_up()
    scene.reactor.advance(15)
    ping = asterisk.the_action()
    assert ping["Action"] == "Ping"
    asterisk.answers(ping, Ping="Pong")
    if before:
        asterisk.says(before)
    scene.reactor.advance(15)
    assert asterisk.the_action()["Action"] == "Ping"
    scene.reactor.advance(5)
    assert not asterisk.closed
    scene.reactor.advance(0.25)
    assert asterisk.closed
    asterisk.goes_away()
    assert scene.story[-1] == "down: no answer to Ping: the link or Asterisk is dead"
    scene.pause_before_next_attempt()


def test_a_link_that_talks_is_not_dead_although_the_answer_to_a_ping_lies_behind_what_it_says() -> None:
    scene = Scene(ping_every=15.0, ping_timeout=5.0, wanted=frozenset({"Newstate"}))
    asterisk = scene.is_up()
    scene.reactor.advance(15)
    pings = [asterisk.the_action()]
    for _ in range(3):
        asterisk.says(an_event("Newstate"))
        scene.reactor.advance(5)
        scene.reactor.advance(0.25)
        pings.append(asterisk.the_action())
    assert {ping["Action"] for ping in pings} == {"Ping"}
    assert scene.client.up
    for ping in pings:
        asterisk.answers(ping, Ping="Pong")
    scene.reactor.advance(15)
    assert asterisk.the_action()["Action"] == "Ping"
    # And once it is silent, it is dead as soon as any other.
    scene.reactor.advance(5)
    scene.reactor.advance(0.25)
    assert asterisk.closed


def test_a_link_that_only_talks_and_never_answers_is_given_up_in_the_end() -> None:
    scene = Scene(ping_every=15.0, ping_timeout=5.0, wanted=frozenset({"Newstate"}))
    asterisk = scene.is_up()
    scene.reactor.advance(15)
    for _ in range(MUTE_PINGS + 1):
        assert not asterisk.closed
        asterisk.says(an_event("Newstate"))
        scene.reactor.advance(5)
        scene.reactor.advance(0.25)
    assert asterisk.closed


def test_an_on_down_that_fails_does_not_end_the_attempts() -> None:
    def on_down(reason: str) -> None:
        raise ValueError

    scene = Scene(on_down=on_down)
    scene.is_up().goes_away()
    scene.pause_before_next_attempt()


# Stopping


def test_stopping_ends_the_connection_the_waiting_actions_and_the_attempts() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    waiting = started(scene.client.action("Ping"))
    stopped = scene.client.stopService()
    assert stopped is not None
    assert asterisk.closed
    assert not stopped.called
    asterisk.goes_away()
    assert isinstance(outcome(waiting), AmiDisconnected)
    assert outcome(stopped) is None
    assert scene.client.state == "down"
    assert scene.reactor.getDelayedCalls() == []


def test_stopping_while_connecting_or_pausing_leaves_nothing_behind() -> None:
    connecting = Scene()
    assert connecting.client.stopService() is None
    pausing = Scene()
    pausing.refuses_connection()
    assert pausing.client.stopService() is None
    for scene in (connecting, pausing):
        scene.reactor.advance(1000)
        assert scene.attempts == 1
        assert scene.reactor.getDelayedCalls() == []
        assert scene.client.state == "down"


def test_a_client_stopped_while_connecting_or_pausing_can_be_started_again() -> None:
    connecting = Scene()
    pausing = Scene()
    pausing.refuses_connection()
    for scene in (connecting, pausing):
        scene.client.stopService()
        scene.client.startService()
        assert scene.attempts == 2
        scene.is_up()


def test_stopping_does_not_wait_for_a_frozen_asterisk() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    aborted: list[bool] = []
    asterisk.transport.abortConnection = lambda: aborted.append(True)
    scene.client.stopService()
    scene.reactor.advance(2)
    assert aborted == [True]


def test_a_stopped_client_can_be_started_again() -> None:
    scene = Scene()
    asterisk = scene.is_up()
    scene.client.stopService()
    asterisk.goes_away()
    scene.client.startService()
    scene.is_up()
    assert scene.story[-1] == "up"


# TLS


def test_a_handshake_that_nobody_answers_is_given_up_with_the_reason() -> None:
    scene = Scene(tls=AmiTls("pbx.example"), login_timeout=10.0)
    asterisk = scene.accepts()
    assert asterisk.transport.value()[:2] == b"\x16\x03", "a TLS handshake"
    with the_log() as lines:
        scene.reactor.advance(9)
        assert not asterisk.closed
        scene.reactor.advance(1)
        assert asterisk.closed
        asterisk.goes_away()
    assert "TLS: no answer to the handshake" in lines[0]
    scene.pause_before_next_attempt()


def test_a_plain_manager_port_is_told_from_a_bad_certificate_and_hears_no_login() -> None:
    said: list[str] = []
    scene = Scene(tls=AmiTls("pbx.example"), on_trouble=said.append)
    asterisk = scene.accepts()
    asterisk.transport.clear()
    asterisk.says(b"Asterisk Call Manager/9.0.0\r\n")
    asterisk.goes_away()
    assert [line for line in said if "what answers speaks none" in line] == said
    assert b"Login" not in asterisk.transport.value()
    assert b"Challenge" not in asterisk.transport.value()
    scene.pause_before_next_attempt()


@implementer(IOpenSSLServerConnectionCreator)
class TlsServer:
    """The other end of a client's TLS connection, in memory; it says nothing by itself."""

    def __init__(self, asterisk: FakeAsterisk, pem: str) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.use_certificate(load_pem_x509_certificate(pem.encode()))
        self._context.use_privatekey(cast(Any, load_pem_private_key(pem.encode(), None)))
        factory: Any = TLSMemoryBIOFactory(cast(Any, self), False, Factory.forProtocol(Protocol))
        self.transport = cast(Any, StringTransport)()
        self.protocol: Any = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.asterisk = asterisk

    def serverConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)

    def shakes_hands(self) -> None:
        """Carry bytes to and fro until nobody has any."""
        while (data := self.asterisk.transport.value()) and not self.asterisk.closed:
            self.asterisk.transport.clear()
            self.protocol.dataReceived(data)
            said = self.transport.value()
            self.transport.clear()
            self.asterisk.says(said)


@pytest.mark.parametrize(
    ("names", "days", "said"),
    [
        (("pbx.example",), (-1, 1), None),
        (("other.example", "192.0.2.20"), (-1, 1), "is for other.example, 192.0.2.20, not for pbx.example"),
        (("pbx.example",), (-9, -2), "has expired"),
        (("pbx.example",), (2, 3), "is not valid yet"),
    ],
)
def test_a_certificate_is_judged_by_signer_time_and_name(
    names: tuple[str, ...], days: tuple[int, int], said: str | None
) -> None:
    authority, told = Authority(), list[str]()
    scene = Scene(tls=AmiTls("pbx.example", authority.pem.encode()), on_trouble=told.append)
    asterisk = scene.accepts()
    TlsServer(asterisk, authority.issue(*names, from_days=days[0], to_days=days[1])).shakes_hands()
    asterisk.goes_away()
    assert told == [f"connection lost: {(said and told[0][17:]) or 'Asterisk closed the connection'}"]
    assert (said or "") in told[0]


def test_a_certificate_is_trusted_by_its_signer_or_by_itself_and_by_no_stranger() -> None:
    authority = Authority()
    certificate, its_twin = authority.issue("pbx.example"), authority.issue("pbx.example")
    for trusted, fine in (
        (authority.pem, True),
        (certificate, True),
        (Authority("another").pem + authority.pem, True),
        (its_twin, False),
        (Authority("another").pem, False),
    ):
        told: list[str] = []
        scene = Scene(tls=AmiTls("pbx.example", trusted.encode()), on_trouble=told.append)
        asterisk = scene.accepts()
        TlsServer(asterisk, certificate).shakes_hands()
        asterisk.goes_away()
        assert ["not trusted here" in each for each in told] == [not fine]


def test_a_connection_that_is_cut_is_told_from_one_whose_bytes_were_changed() -> None:
    authority = Authority()
    for bytes_, said in (
        (b"", "Asterisk closed the connection"),
        (b"\x17\x03\x03\x00\x20" + b"?" * 32, "TLS: "),
    ):
        told: list[str] = []
        scene = Scene(tls=AmiTls("pbx.example", authority.pem.encode()), on_trouble=told.append)
        asterisk = scene.accepts()
        TlsServer(asterisk, authority.issue("pbx.example")).shakes_hands()
        if bytes_:
            asterisk.says(bytes_)
        asterisk.goes_away()
        assert [said in each for each in told] == [True]


def test_who_shakes_hands_and_then_does_not_greet_is_left() -> None:
    authority, told = Authority(), list[str]()
    scene = Scene(tls=AmiTls("pbx.example", authority.pem.encode()), on_trouble=told.append)
    asterisk = scene.accepts()
    scene.reactor.advance(9)
    TlsServer(asterisk, authority.issue("pbx.example")).shakes_hands()
    scene.reactor.advance(9)
    assert not asterisk.closed
    scene.reactor.advance(1)
    assert asterisk.closed
    asterisk.goes_away()
    assert told == ["connection lost: no greeting from Asterisk"]


def test_authorities_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="PEM"):
        AmiTls("pbx.example", b"no certificate")


def test_trouble_is_told_in_words_each_time() -> None:
    said: list[str] = []
    scene = Scene(secret="wrong", on_trouble=said.append)
    scene.refuses_connection()
    scene.pause_before_next_attempt()
    scene.accepts().lets_in()
    first, second, third = said
    assert first.startswith("not connected: Connection was refused")
    assert second == "log-in refused: authentication"
    assert third.startswith("connection lost: ")


def test_asterisk_may_be_named_by_a_host_name() -> None:
    scene = Scene(host="localhost")
    assert scene.attempts == 1
