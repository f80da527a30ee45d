"""FastAGI sessions over a fake transport and clock: what a handler may rely on, whatever Asterisk does."""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from socket import socketpair
from typing import Any, cast

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from cti.asterisk.agi_parser import AgiValueError, Reply
from cti.asterisk.fastagi import (
    AgiBusy,
    AgiCommandFailed,
    AgiHangup,
    AgiSession,
    AgiTimeout,
    FastAgiFactory,
    listen,
)

REQUEST = (
    b"agi_network: yes\nagi_network_script: route\nagi_uniqueid: main-1.1\n"
    b"agi_calleridname: J\xfcrgen\nagi_arg_1: v=1\n\n"
)


def an_address(host: str = "127.0.0.1") -> Any:
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 40000)


async def nothing(session: AgiSession) -> None:
    return None


class Recorder:
    """A handler that keeps its session and waits until it is let go."""

    def __init__(self) -> None:
        self.sessions: list[AgiSession] = []
        self.leave: list[Deferred[None]] = []

    def __call__(self, session: AgiSession) -> Deferred[None]:
        self.sessions.append(session)
        self.leave.append(Deferred())
        return self.leave[-1]

    @property
    def session(self) -> AgiSession:
        return self.sessions[-1]


class Asterisk:
    """The other end of one connection."""

    def __init__(self, factory: FastAgiFactory, request: bytes = REQUEST) -> None:
        self.protocol = cast(Any, factory).buildProtocol(an_address())
        self.transport = cast(Any, StringTransport)()
        self.transport.setTcpNoDelay = lambda enabled: None
        self.protocol.makeConnection(self.transport)
        if request:
            self.says(request)

    def says(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def heard(self) -> bytes:
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def goes_away(self) -> None:
        self.protocol.connectionLost()

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)


def a_factory(handler: Any, clock: Clock | None = None, **options: Any) -> FastAgiFactory:
    options.setdefault("overflow", nothing)
    return FastAgiFactory(handler, clock or Clock(), **options)


def outcome(deferred: Any) -> Any:
    """Result or exception of what must be decided by now."""
    results: list[Any] = []
    if not isinstance(deferred, Deferred):
        deferred = Deferred.fromCoroutine(deferred)
    deferred.addBoth(results.append)
    assert results, "not decided yet"
    return results[0].value if isinstance(results[0], Failure) else results[0]


def undecided(deferred: Deferred[Any]) -> bool:
    return not deferred.called


@contextmanager
def the_log() -> Iterator[list[str]]:
    lines: list[str] = []

    def observe(event: Any) -> None:
        if event["log_level"] > LogLevel.debug:
            lines.append(repr(event["log_format"].format(**event)))

    publisher: Any = globalLogPublisher
    publisher.addObserver(observe)
    try:
        yield lines
    finally:
        publisher.removeObserver(observe)


# A session's way


def test_the_handler_gets_the_request_and_the_session_ends_when_it_returns() -> None:
    seen: list[str] = []

    async def handler(session: AgiSession) -> None:
        seen.append(session.request.calleridname)
        await session.set_variable("CTI_CALLER_NAME", 'Jürgen "J" Müller')
        seen.append("set")

    asterisk = Asterisk(a_factory(handler))
    assert seen == ["Jürgen"]
    assert asterisk.heard() == 'SET VARIABLE CTI_CALLER_NAME "Jürgen \\"J\\" Müller"\n'.encode()
    assert not asterisk.closed
    asterisk.says(b"200 result=1\n")
    assert seen == ["Jürgen", "set"]
    assert asterisk.closed


def test_a_request_may_come_in_pieces() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder), request=b"")
    for byte in REQUEST:
        asterisk.says(bytes([byte]))
    assert recorder.session.request.args == ("v=1",)


def test_variables_are_set_one_at_a_time_each_after_the_confirmation_of_the_last() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    done = recorder.session.set_variables([("A", "1"), ("B", "2"), ("CTI_ACTION", "dial")])
    for line in (b'SET VARIABLE A "1"\n', b'SET VARIABLE B "2"\n', b'SET VARIABLE CTI_ACTION "dial"\n'):
        assert asterisk.heard() == line
        assert undecided(done)
        asterisk.says(b"200 result=")
        asterisk.says(b"1\n")
    assert outcome(done) is None
    assert asterisk.heard() == b""


def test_no_variable_follows_one_that_was_refused() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    done = recorder.session.set_variables([("A", "1"), ("CTI_ACTION", "dial")])
    asterisk.heard()
    asterisk.says(b"200 result=0\n")
    assert isinstance(outcome(done), AgiCommandFailed)
    assert asterisk.heard() == b""


def test_a_value_that_does_not_fit_is_refused_before_anything_is_sent() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    with pytest.raises(AgiValueError):
        recorder.session.set_variables([("A", "1"), ("CTI_TARGET", "x" * 3000)])
    assert asterisk.heard() == b""
    done = recorder.session.set_variables([("CTI_REASON", "x" * 3000)], may_cut=["CTI_REASON"])
    assert undecided(done)
    assert len(asterisk.heard()) <= 2047


def test_no_variables_are_set_at_once() -> None:
    recorder = Recorder()
    Asterisk(a_factory(recorder))
    assert outcome(recorder.session.set_variables([])) is None


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (b"200 result=1 (two\n(lines))\n", "two\n(lines)"),
        (b"200 result=1 ()\n", ""),
        (b"200 result=0\n", None),
    ],
)
def test_a_variable_is_read(answer: bytes, value: str | None) -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    got = Deferred.fromCoroutine(recorder.session.get_variable("CTI_X"))
    assert asterisk.heard() == b"GET VARIABLE CTI_X\n"
    asterisk.says(answer)
    assert outcome(got) == value


def test_any_command_gives_its_reply() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    got = recorder.session.command("EXEC", "Playback", "please wait")
    assert asterisk.heard() == b'EXEC "Playback" "please wait"\n'
    asterisk.says(b"100 Trying\n")
    assert undecided(got)
    asterisk.says(b"200 result=0\n")
    assert outcome(got) == Reply(200, "0")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"510 Invalid or unknown command\n", 510),
        (b"511 Command Not Permitted on a dead channel\n", 511),
        (b"520-Invalid command syntax.\nUsage: X\n520 End of proper usage.\n", 520),
    ],
)
def test_a_refused_command_fails_and_the_session_goes_on(answer: bytes, code: int) -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    failed = recorder.session.command("NOOP")
    asterisk.says(answer)
    error = outcome(failed)
    assert isinstance(error, AgiCommandFailed)
    assert error.code == code
    following = recorder.session.command("NOOP")
    asterisk.says(b"200 result=0\n")
    assert outcome(following) == Reply(200, "0")


def test_a_second_command_at_the_same_time_is_refused_and_not_sent() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    first = recorder.session.set_variable("A", "1")
    asterisk.heard()
    assert isinstance(outcome(recorder.session.set_variable("B", "2")), AgiBusy)
    assert isinstance(outcome(recorder.session.get_variable("B")), AgiBusy)
    assert asterisk.heard() == b""
    asterisk.says(b"200 result=1\n")
    assert outcome(first) is None


# Ends


def test_hangup_ends_the_session_for_a_waiting_command() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    gone = recorder.session.when_gone()
    waiting = recorder.session.set_variables([("A", "1"), ("B", "2")])
    asterisk.heard()
    asterisk.says(b"HANGUP\n200 result=1\n")
    assert isinstance(outcome(waiting), AgiHangup)
    assert outcome(gone) is None
    assert asterisk.closed
    assert asterisk.heard() == b""
    assert isinstance(outcome(recorder.session.command("NOOP")), AgiHangup)


def test_hangup_while_the_handler_thinks_tells_it() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    gone = recorder.session.when_gone()
    assert undecided(gone)
    asterisk.says(b"HANGUP\n")
    assert outcome(gone) is None
    assert recorder.session.gone
    assert outcome(recorder.session.when_gone()) is None


def test_a_lost_connection_ends_the_session_for_a_waiting_command() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    gone = recorder.session.when_gone()
    waiting = recorder.session.set_variable("A", "1")
    asterisk.goes_away()
    assert isinstance(outcome(waiting), AgiHangup)
    assert outcome(gone) is None


def test_a_caller_who_hangs_up_is_no_error_in_the_log() -> None:
    async def handler(session: AgiSession) -> None:
        await session.set_variable("A", "1")

    with the_log() as lines:
        Asterisk(a_factory(handler)).goes_away()
    assert lines == []


@pytest.mark.parametrize("early", [True, False])
def test_a_handler_that_fails_closes_its_session_and_the_log_names_no_caller(early: bool) -> None:
    def at_once(session: AgiSession) -> Deferred[None]:
        raise ValueError("+49 30 23125 001")

    async def later(session: AgiSession) -> None:
        raise ValueError("+49 30 23125 001")

    with the_log() as lines:
        asterisk = Asterisk(a_factory(at_once if early else later))
    assert asterisk.closed
    (line,) = lines
    assert "ValueError" in line
    assert "test_fastagi.py" in line
    assert "23125" not in line


def test_nonsense_closes_the_connection() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    waiting = recorder.session.set_variable("A", "1")
    with the_log() as lines:
        asterisk.says(b"hello\n")
    assert isinstance(outcome(waiting), AgiHangup)
    assert asterisk.closed
    assert len(lines) == 1


@pytest.mark.parametrize(
    "pieces", [[b"200 result=1\n200 result=1\n"], [b"200 result=1\n", b"200 result=1\n"]]
)
def test_an_answer_too_many_closes_the_connection_however_the_network_cuts_it(pieces: list[bytes]) -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    waiting = recorder.session.set_variable("A", "1")
    with the_log() as lines:
        for piece in pieces:
            asterisk.says(piece)
    assert outcome(waiting) is None
    assert asterisk.closed
    assert len(lines) == 1


def test_a_request_that_is_none_never_reaches_the_handler() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder), request=b"GET / HTTP/1.1\r\n\r\n")
    assert asterisk.closed
    assert recorder.sessions == []


def test_asterisk_hears_of_the_end_at_once_unless_something_is_still_to_be_sent() -> None:
    for takes_all in (True, False):
        recorder = Recorder()
        asterisk = Asterisk(FastAgiFactory(recorder, Clock(), overflow=nothing), request=b"")
        ours, theirs = socketpair()
        with ours, theirs:
            asterisk.transport.getHandle = lambda ours=ours: ours
            asterisk.transport.writeSomeData = lambda data, all=takes_all: len(data) if all else 1
            asterisk.protocol.connectionMade()
            asterisk.says(REQUEST)
            recorder.session.set_variable("CTI_ACTION", "dial")
            asterisk.says(b"200 result=1\n")
            recorder.session.finish()
            theirs.settimeout(0)
            if takes_all:
                assert theirs.recv(1) == b""
            else:
                with pytest.raises(BlockingIOError):
                    theirs.recv(1)
        assert asterisk.transport.disconnecting


def test_finishing_early_ends_the_session() -> None:
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder))
    recorder.session.finish()
    recorder.session.finish()
    assert asterisk.closed
    assert isinstance(outcome(recorder.session.command("NOOP")), AgiHangup)


def test_a_session_whose_connection_is_gone_is_finished_without_looking_for_its_socket() -> None:
    recorder = Recorder()
    asterisk = Asterisk(FastAgiFactory(recorder, Clock(), overflow=nothing), request=b"")
    ours, theirs = socketpair()
    with ours, theirs:
        asterisk.transport.getHandle = lambda: ours
        asterisk.transport.writeSomeData = len
        asterisk.protocol.connectionMade()
        asterisk.says(REQUEST)
        recorder.session.set_variable("CTI_ACTION", "dial")
        asterisk.says(b"200 result=1\n")

        def deleted() -> Any:
            # As Twisted does with a connection that is lost.
            raise AttributeError("'Server' object has no attribute 'socket'")

        asterisk.transport.getHandle = asterisk.protocol._socket = deleted
        asterisk.goes_away()
        recorder.session.finish()


def test_a_stopping_server_ends_every_session() -> None:
    recorder = Recorder()
    factory = a_factory(recorder)
    first, second = Asterisk(factory), Asterisk(factory, request=b"")
    factory.close_all()
    assert first.closed
    assert second.closed


# Deadlines


def test_half_a_header_and_then_nothing_is_closed() -> None:
    clock = Clock()
    asterisk = Asterisk(a_factory(nothing, clock, header_timeout=5.0), request=REQUEST[:40])
    clock.pump([0.25] * 19)
    assert not asterisk.closed
    clock.pump([0.25] * 2)
    assert asterisk.closed


def test_a_request_that_trickles_in_has_no_longer_than_one_that_does_not_come() -> None:
    clock = Clock()
    asterisk = Asterisk(a_factory(nothing, clock), request=b"")
    for byte in REQUEST[:22]:
        asterisk.says(bytes([byte]))
        clock.advance(0.25)
    assert asterisk.closed


def test_a_command_without_answer_fails_and_closes() -> None:
    clock = Clock()
    recorder = Recorder()
    asterisk = Asterisk(a_factory(recorder, clock, command_timeout=3.0))
    clock.pump([0.25] * 40)
    assert not asterisk.closed
    waiting = recorder.session.set_variable("A", "1")
    clock.pump([0.25] * 11)
    assert undecided(waiting)
    clock.pump([0.25] * 2)
    assert isinstance(outcome(waiting), AgiTimeout)
    assert asterisk.closed


def test_an_idle_server_has_no_timer() -> None:
    clock = Clock()
    asterisk = Asterisk(a_factory(Recorder(), clock))
    assert clock.getDelayedCalls()
    asterisk.goes_away()
    clock.advance(1)
    assert clock.getDelayedCalls() == []


# Limits


def test_one_request_too_many_overflows_instead_of_waiting() -> None:
    recorder = Recorder()

    async def overflow(session: AgiSession) -> None:
        await session.set_variable("CTI_ACTION", "fallback")

    factory = a_factory(recorder, overflow=overflow, max_sessions=2)
    Asterisk(factory)
    Asterisk(factory)
    third = Asterisk(factory)
    assert len(recorder.sessions) == factory.sessions == 2
    assert third.heard() == b'SET VARIABLE CTI_ACTION "fallback"\n'
    third.says(b"200 result=1\n")
    assert third.closed
    recorder.leave[0].callback(None)
    Asterisk(factory)
    assert len(recorder.sessions) == 3


def test_a_session_whose_connection_is_gone_counts_until_its_handler_is_done() -> None:
    recorder = Recorder()
    factory = a_factory(recorder)
    Asterisk(factory).goes_away()
    assert (factory.sessions, factory.connections) == (1, 0)
    recorder.leave[0].callback(None)
    assert factory.sessions == 0


def test_connections_are_limited_whether_or_not_they_ask() -> None:
    factory = a_factory(nothing, max_connections=2)
    first = Asterisk(factory, request=b"")
    Asterisk(factory, request=b"")
    assert factory.buildProtocol(an_address()) is None
    first.goes_away()
    assert factory.buildProtocol(an_address()) is not None


def test_connections_too_many_are_counted_and_logged_once_a_second() -> None:
    clock, shed = Clock(), []
    factory = a_factory(nothing, clock, max_connections=0, shed=lambda: shed.append(1))
    with the_log() as lines:
        for _ in range(500):
            assert factory.buildProtocol(an_address()) is None
        clock.advance(1)
        assert factory.buildProtocol(an_address()) is None
        assert factory.buildProtocol(an_address("192.0.2.7")) is None
    assert len(shed) == 501
    assert [line for line in lines if "refused: 1," in line] == lines[:1]
    assert "refused: 500," in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.3.7", False),
        ("::ffff:192.0.2.7", True),
        ("fe80::1%eth0", False),
    ],
)
def test_only_allowed_addresses_get_a_session(host: str, allowed: bool) -> None:
    factory = a_factory(nothing, allow=[ip_network("192.0.2.0/24")])
    assert (factory.buildProtocol(an_address(host)) is not None) is allowed


def test_only_loopback_is_allowed_until_told_otherwise() -> None:
    factory = a_factory(nothing)
    assert factory.buildProtocol(an_address("::1")) is not None
    assert factory.buildProtocol(an_address("192.0.2.7")) is None


def test_many_connections_may_wait_to_be_accepted() -> None:
    reactor: Any = MemoryReactor()  # type: ignore[no-untyped-call]
    factory = a_factory(nothing)
    listen(reactor, factory, "127.0.0.1", 4573)
    assert reactor.tcpServers == [(4573, factory, 1024, "127.0.0.1")]


# Sending at once.


@pytest.mark.parametrize(
    ("taken", "left"),
    [(1 << 20, b""), (4, b'VARIABLE {} "{}"\n'), (ConnectionLost(), b'SET VARIABLE {} "{}"\n')],
)
def test_commands_go_to_the_kernel_at_once_and_what_it_does_not_take_the_ordinary_way(taken, left):
    handler = Recorder()
    asterisk = Asterisk(a_factory(handler))
    sent: list[bytes] = []

    def write_some_data(data: bytes) -> Any:
        sent.append(data)
        return min(taken, len(data)) if isinstance(taken, int) else taken

    asterisk.protocol._write_now = write_some_data
    handler.session.set_variables([("A", "1"), ("B", "2")])
    assert sent == [b'SET VARIABLE A "1"\n']
    assert asterisk.heard() == left.replace(b"{}", b"A", 1).replace(b"{}", b"1")
    asterisk.says(b"200 result=1\n")

    assert sent == [b'SET VARIABLE A "1"\n', b'SET VARIABLE B "2"\n']
    assert asterisk.heard() == left.replace(b"{}", b"B", 1).replace(b"{}", b"2")
