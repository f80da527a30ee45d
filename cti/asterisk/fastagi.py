"""FastAGI server: Asterisk connects, asks once, and a handler answers with commands, one at a time.

Bytes are `agi_parser`'s; what to answer is the handler's. Whatever goes wrong here closes the connection, and
the dialplan then does what it does without us.
"""

import traceback
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SHUT_WR, socket
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from cti.asterisk import agi_parser
from cti.asterisk.agi_parser import (
    AgiEvent,
    AgiParser,
    AgiProtocolError,
    HungUp,
    Reply,
    Request,
    TooLong,
    Trying,
    UsageBlock,
)
from cti.reactors import Clock, DelayedCall, TcpServerReactor, TcpTransport

Handler = Callable[["AgiSession"], Coroutine[Any, Any, None] | Deferred[None]]
Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
BACKLOG = 1024
"""Connections that may wait to be accepted: with 20, calls were dropped at 64 a second."""
SWEEP_SECONDS = 0.25
"""How often deadlines are looked at: one timer for all sessions costs less than one a command."""

_LONGEST_PROMPT = 60.0

_log = Logger()


class AgiHangup(Exception):
    """The session is over: Asterisk said `HANGUP` or closed the connection. The call may go on."""


class AgiTimeout(Exception):
    """Asterisk did not answer a command in time; the session is over."""


class AgiCommandFailed(Exception):
    """Asterisk answered a command with a refusal; the session goes on."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}".rstrip())
        self.code = code
        self.text = text


class AgiBusy(Exception):
    """A command was asked for before the last was answered; AGI answers only the first of several."""


class AgiSession(Protocol):
    """One AGI session: Asterisk's request, and commands about the channel that asks.

    Handlers use `request`, the commands, `finish`, `gone` and `when_gone`; the other methods are Twisted's.

    A command's Deferred fails with AgiHangup when the session ends first, AgiTimeout, AgiCommandFailed, or
    AgiBusy.
    """

    request: Request

    def __init__(self, factory: "FastAgiFactory") -> None:
        self._factory = factory
        self._clock = factory.reactor
        self._parser = AgiParser()
        self._waiting: Deferred[Any] | None = None
        self._next_commands: Iterator[bytes] | None = None
        self._end: Exception | None = None
        self._watchers: list[Deferred[None]] = []
        self._deadline: float | None = None
        self._all_left = False

    # What handlers use.

    @property
    def gone(self) -> bool:
        """Whether the session is over; further commands fail."""
        return self._end is not None

    def when_gone(self) -> Deferred[None]:
        """A Deferred that fires when the session is over, so that a handler can stop early."""
        if self._end is not None:
            return succeed(None)
        watcher: Deferred[None] = Deferred()
        self._watchers.append(watcher)
        return watcher

    def command(self, verb: str, *args: str) -> Deferred[Reply]:
        """Send a command, such as `command("EXEC", "Wait", "1")`. Raises AgiValueError if it can't be."""
        return self._send(agi_parser.command(verb, *args))

    def set_variable(self, name: str, value: str, *, too_long: TooLong = "raise") -> Deferred[None]:
        """Set a channel variable. Raises AgiValueError as `agi_parser.set_variable` does."""
        return self._send_all((agi_parser.set_variable(name, value, too_long=too_long),))

    def set_variables(
        self, variables: Iterable[tuple[str, str]], *, may_cut: Collection[str] = ()
    ) -> Deferred[None]:
        """Set channel variables in order, each only after Asterisk has confirmed the one before it.

        The last one therefore proves all. Values of the variables named in `may_cut` may be shortened to fit.
        Raises AgiValueError before anything is sent.
        """
        return self._send_all(
            [
                agi_parser.set_variable(name, value, too_long="cut" if name in may_cut else "raise")
                for name, value in variables
            ]
        )

    async def get_variable(self, name: str) -> str | None:
        """Value of a channel variable or a dialplan function; None if it is not set. Raises AgiValueError.

        Asterisk gives 1,023 bytes at most; `command("GET FULL VARIABLE", "${NAME}")` gives all.
        """
        reply = await self._send(agi_parser.get_variable(name))
        return reply.value if reply.result == "1" else None

    async def read_digits(self, prompt: str, seconds: float, most: int) -> str:
        """What the caller types, up to `#` or `most` keys: `prompt` is played, then each key may take `seconds`.

        Nothing of it is in Asterisk's log or events, unlike with the dialplan's `Read()` (app_read.c, "User
        entered"); only `agi set debug on`, and what shows single keys, such as the log's level `dtmf`, do show it.
        Raises AgiHangup if the caller is gone.
        """
        patience = _LONGEST_PROMPT + (most + 1) * seconds
        reply = await self._send(
            agi_parser.command("GET DATA", prompt, str(round(seconds * 1000)), str(most)), patience
        )
        if reply.result == "-1":
            raise AgiHangup("the caller is gone, or their time is up")
        return reply.result

    def finish(self) -> None:
        """End the session: the dialplan goes on. Ends by itself when the handler returns.

        Asterisk hears of it now, if all that was written has left, and not in the loop's next turn.
        """
        self._over(AgiHangup("the session was finished"))
        if self._all_left and self._socket is not None:
            # Where the connection is broken, there is nobody to hear it.
            with suppress(OSError):
                self._socket().shutdown(SHUT_WR)
            self._all_left = False
        self._wire.loseConnection()

    # Commands and their answers.

    def _send(self, line: bytes, seconds: float | None = None) -> Deferred[Reply]:
        refused = self._refusal()
        if refused is not None:
            return fail(refused)
        self._waiting = Deferred()
        self._start(line, seconds)
        return self._waiting

    def _send_all(self, lines: Iterable[bytes]) -> Deferred[None]:
        refused = self._refusal()
        if refused is not None:
            return fail(refused)
        commands = iter(lines)
        first = next(commands, None)
        if first is None:
            return succeed(None)
        self._next_commands = commands
        self._waiting = Deferred()
        self._start(first)
        return self._waiting

    def _refusal(self) -> Exception | None:
        if self._end is not None:
            return self._end
        if self._waiting is not None:
            return AgiBusy("a command is still being answered")
        return None

    def _start(self, line: bytes, seconds: float | None = None) -> None:
        """Send the first command of several, or the only one, which may take so long."""
        self._parser.expect_reply()
        self._deadline = self._clock.seconds() + (seconds or self._factory.command_timeout)
        self._write(line)

    def _write(self, line: bytes) -> None:
        # At once: Twisted's own `write` waits for the loop's next turn, and asks the kernel twice to get one. Nothing
        # is in its buffer that this could overtake, as the command before was answered; and what was written to
        # others before, such as the card, has left, as the store tells of a commit one turn later than the listeners.
        sent = 0 if self._write_now is None else self._write_now(line)
        self._all_left = sent == len(line)
        if not self._all_left:
            # The kernel took a part only, or the connection is broken, and `write` finds out in its own time.
            self._wire.write(line[sent:] if isinstance(sent, int) else line)

    def _answered(self, reply: Reply) -> None:
        commands = self._next_commands
        if reply.code != 200:
            self._resolve(AgiCommandFailed(reply.code, reply.data))
        elif commands is None:
            self._resolve(reply)
        elif reply.result != "1":
            self._resolve(AgiCommandFailed(200, f"result={reply.result}"))
        elif (line := next(commands, None)) is not None:
            self._parser.expect_reply()
            self._write(line)
        else:
            self._resolve(None)

    def _resolve(self, outcome: Reply | Exception | None) -> None:
        waiting = self._waiting
        self._waiting = self._next_commands = self._deadline = None
        if waiting is None:
            return
        if isinstance(outcome, Exception):
            waiting.errback(outcome)
        else:
            waiting.callback(outcome)

    def _over(self, reason: Exception) -> None:
        """No more commands: the waiting one fails with `reason`, the watchers fire."""
        if self._end is not None:
            return
        self._end = reason
        self._resolve(reason)
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.callback(None)

    def _abort(self, reason: Exception) -> None:
        self._over(reason)
        self._wire.abortConnection()

    def check_deadline(self, now: float) -> None:
        """End the session if what it waits for is late. Called by the factory."""
        if self._deadline is None or now < self._deadline:
            return
        if self._waiting is None:
            _log.warn("An AGI connection brought no complete request in time: closed")
            self._abort(AgiTimeout("no request in time"))
        else:
            _log.warn("Asterisk did not answer an AGI command in time: session closed")
            self._abort(AgiTimeout("Asterisk did not answer the command in time"))

    # Twisted's Protocol.

    def connectionMade(self) -> None:
        self._wire = cast(TcpTransport, self.transport)
        self._wire.setTcpNoDelay(True)
        # Only what stands right on a socket has it (Twisted's FileDescriptor).
        self._write_now: Callable[[bytes], int | Exception] | None = getattr(
            self.transport, "writeSomeData", None
        )
        self._socket: Callable[[], socket] | None = getattr(self.transport, "getHandle", None)
        self._deadline = self._clock.seconds() + self._factory.header_timeout
        self._factory.opened(self)

    def dataReceived(self, data: bytes) -> None:
        if self._end is not None:
            return
        commands = self._next_commands
        if (
            commands is not None
            and self._parser.is_confirmation(data)
            and (line := next(commands, None)) is not None
        ):
            # The way of nearly all bytes; the rest of this method made a session 10 % slower.
            self._write(line)
            return
        try:
            events = self._parser.feed(data)
        except AgiProtocolError as error:
            _log.warn("An AGI connection sent what Asterisk does not send: {reason}", reason=str(error))
            self._happened(error.events)
            self._abort(AgiHangup(f"the connection was given up: {error}"))
        else:
            self._happened(events)

    def _happened(self, events: Sequence[AgiEvent]) -> None:
        for event in events:
            if type(event) is Reply:
                self._answered(event)
            elif isinstance(event, UsageBlock):
                self._resolve(AgiCommandFailed(520, event.text))
            elif isinstance(event, Request):
                self._deadline = None
                self.request = event
                self._factory.requested(self)
            elif isinstance(event, HungUp):
                # The channel has left the AGI application; nothing we say reaches the call any more.
                self._over(AgiHangup("Asterisk ended the session"))
                self._wire.loseConnection()
                return
            elif isinstance(event, Trying):
                self._deadline = self._clock.seconds() + self._factory.command_timeout

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # And with it its socket, which `finish` would look for.
        self._all_left = False
        self._over(AgiHangup("the connection is gone"))
        self._factory.closed(self)


class FastAgiFactory(Factory):
    """Sessions for connections from allowed addresses; each request is given to `handler`.

    At most `max_sessions` handlers work at once: further requests are given to `overflow`, which should
    answer at once, rather than wait in a queue while callers listen. At most `max_connections` (four times as
    many) are open; `shed` is called for each one more, which is closed, so that its dialplan falls back.

    A session ends when its handler does. AgiHangup out of a handler is a normal end, AgiTimeout is reported
    already; any other exception is logged by its type and place only, as its text may name a caller.
    """

    noisy = False

    def __init__(
        self,
        handler: Handler,
        reactor: Clock,
        *,
        overflow: Handler,
        shed: Callable[[], None] = lambda: None,
        allow: Collection[Network] = LOOPBACK,
        max_sessions: int = 500,
        max_connections: int | None = None,
        header_timeout: float = 5.0,
        command_timeout: float = 3.0,
    ) -> None:
        self.reactor = reactor
        self.header_timeout = header_timeout
        self.command_timeout = command_timeout
        self._handler = handler
        self._overflow = overflow
        self._max_sessions = max_sessions
        self._max_connections = 4 * max_sessions if max_connections is None else max_connections
        self._connections: set[AgiSession] = set()
        self._working = 0
        self._shed = shed
        self._refused = 0
        self._tell_again = 0.0
        self._sweep: DelayedCall | None = None
        networks = tuple(allow)
        self._allowed = lru_cache(maxsize=1024)(lambda host: _is_within(host, networks))

    @property
    def sessions(self) -> int:
        """How many handlers are at work, `overflow` not counted."""
        return self._working

    @property
    def connections(self) -> int:
        return len(self._connections)

    def buildProtocol(self, addr: IAddress | None) -> AgiSession | None:
        """A session, or None (Twisted then closes the connection) for a stranger or one too many."""
        if not self._allowed(getattr(addr, "host", "")):
            self._refuse("its address is not in the allow-list")
            return None
        if len(self._connections) >= self._max_connections:
            self._shed()
            self._refuse(f"{len(self._connections)} are open")
            return None
        return AgiSession(self)

    def _refuse(self, why: str) -> None:
        # A line a second: whoever floods us with connections shall not fill the disk as well.
        self._refused += 1
        now = self.reactor.seconds()
        if now >= self._tell_again:
            _log.warn("AGI connections refused: {count}, the last as {why}", count=self._refused, why=why)
            self._refused = 0
            self._tell_again = now + 1.0

    def close_all(self) -> None:
        """End every session, as when the server stops."""
        for session in tuple(self._connections):
            session.finish()

    # What sessions tell.

    def opened(self, session: AgiSession) -> None:
        self._connections.add(session)
        if self._sweep is None:
            self._sweep = self.reactor.callLater(SWEEP_SECONDS, self._check_deadlines)

    def closed(self, session: AgiSession) -> None:
        self._connections.discard(session)

    def requested(self, session: AgiSession) -> None:
        """Let the handler work on `session`, or `overflow` if too many do already."""
        if self._working >= self._max_sessions:
            self._run(self._overflow, session).addBoth(lambda _: session.finish())
            return
        self._working += 1
        self._run(self._handler, session).addBoth(self._handled, session)

    def _handled(self, _: object, session: AgiSession) -> None:
        self._working -= 1
        session.finish()

    @staticmethod
    def _run(handler: Handler, session: AgiSession) -> Deferred[None]:
        try:
            work = handler(session)
        except Exception:  # noqa: BLE001 - whatever a handler does, this session alone ends
            ended: Deferred[None] = fail()
        else:
            ended = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
        return ended.addErrback(_report)

    def _check_deadlines(self) -> None:
        # Stops with the last connection, so that an idle server has no timer.
        self._sweep = None
        now = self.reactor.seconds()
        for session in tuple(self._connections):
            session.check_deadline(now)
        if self._connections:
            self._sweep = self.reactor.callLater(SWEEP_SECONDS, self._check_deadlines)


def listen(
    reactor: TcpServerReactor, factory: FastAgiFactory, host: str = "127.0.0.1", port: int = 4573
) -> IListeningPort:
    """Listen for Asterisk on an address of this machine. Raises twisted's CannotListenError."""
    return reactor.listenTCP(port, factory, backlog=BACKLOG, interface=host)


def _is_within(host: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((mapped or address) in network for network in networks)


def _report(failure: Failure) -> None:
    error = failure.value
    if error is None or isinstance(error, AgiHangup | AgiTimeout):
        return
    frames = traceback.extract_tb(error.__traceback__)
    _log.error(
        "The handler of an AGI session failed: {kind} at {place}",
        kind=type(error).__qualname__,
        place=f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place",
    )
    _log.debug("The handler's failure in full: {error!r}", error=error)
