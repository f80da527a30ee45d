"""AMI client: one lasting, supervised connection to an Asterisk, its events in order, and actions with
answers.

Bytes are `ami_parser`'s; what events mean, and what to ask again after an outage, is left to who owns the
client.
"""

import hashlib
import secrets
import traceback
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Literal, cast

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer  # type: ignore[import-untyped]

from cti.asterisk.ami_parser import (
    AmiEvent,
    AmiFieldError,
    AmiParser,
    AmiProtocolError,
    Banner,
    Event,
    Response,
    Unknown,
    action,
)
from cti.asterisk.ami_tls import AmiTls
from cti.reactors import Clock, DelayedCall, TcpTransport

MAX_PENDING = 1000
MAX_LIST_ENTRIES = 100_000
MAX_LIST_CHARACTERS = 64 * 1024 * 1024
MAX_ABANDONED = 100
"""Lists that nobody waits for any more, but whose entries may still come and are not events."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
FIRST_PAUSE_REFUSED, LONGEST_PAUSE_REFUSED = 30.0, 300.0
STEADY_SECONDS = 10.0
"""Up for this long, a connection was good, and the next pause is short again."""

LATE_GRACE = 0.25
"""A stopped process, continued, finds deadlines passed before it reads what came in time: so look twice."""
MUTE_PINGS = 60
"""So many pings one after the other may stay without an answer while Asterisk talks: it comes behind what it says."""
CLOSE_SECONDS = 2.0
_FULL_READ = 2**16
"""Bytes that Twisted reads at once, at most."""

# Refusals that pass by themselves: not a reason to wait as long as after a wrong password.
_PASSING_REFUSALS = ("Login Already In Use", "Asterisk is shutting down")

_log = Logger()


class AmiDisconnected(Exception):
    """There is no connection, or it was lost before the answer: the action may have been done."""


class AmiTimeout(Exception):
    """Asterisk did not answer an action in time; whether it was or will be done is not known."""


class AmiOverloaded(Exception):
    """More actions wait for answers, or a list has more entries, than are kept."""


class AmiActionFailed(Exception):
    """Asterisk refused an action, for the reason `message`."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@define(eq=False)
class _Pending:
    """An action that waits: for its response, or, with `complete`, for the end of its list."""

    answer: Deferred[Any]
    deadline: DelayedCall
    complete: str | None
    entries: list[Event] = field(factory=list)
    size: int = 0
    """Characters in the entries."""


class AmiClient(Service):
    """Keeps a logged-in connection while the service runs.

    `on_event` gets each wanted event as it comes, synchronously, in Asterisk's order, from log-in on; if it
    raises, that is logged and the next one comes. `on_up` is called when Asterisk has booted and actions
    work, each time; it may return a coroutine, which asks for what was missed. Events go on coming meanwhile;
    entries of the lists that it asks for do not go to `on_event` but to `list_action`'s answer. Asterisk
    writes a list past the events that already wait to be sent, so an event that comes after a list may be
    older than the list: what `on_event` does must bear hearing again of what is known. `on_down` is called
    with the reason when such a connection is lost. `on_trouble` is told, in words, whenever a connection could
    not be made or kept, or the log-in was refused.

    `state` says in words how things are: `down`, `connecting`, `logging in`, `booting`, `up`, `refused:
    authentication`, or `refused: ` and Asterisk's reason. `since` is when that began, in the reactor's
    seconds.

    The AMI user needs `read = system`, or Asterisk does not say when it has booted.
    """

    def __init__(
        self,
        reactor: Clock,
        host: str,
        port: int,
        username: str,
        secret: str,
        *,
        on_event: Callable[[Event], None],
        on_up: Callable[[], Coroutine[Any, Any, None] | None] | None = None,
        on_down: Callable[[str], None] | None = None,
        on_trouble: Callable[[str], None] | None = None,
        wanted: frozenset[str] | None = None,
        jitter: Callable[[], float],
        login: Literal["md5", "plain"] = "md5",
        tls: AmiTls | None = None,
        connect_timeout: float = 5.0,
        login_timeout: float = 10.0,
        boot_timeout: float = 120.0,
        action_timeout: float = 5.0,
        ping_every: float = 15.0,
        ping_timeout: float = 5.0,
        gather: float = 0.0,
    ) -> None:
        """`wanted` names the events for `on_event` (None: all); `jitter` gives numbers from 0 to below 1.

        `gather`: seconds for which events may lie in the kernel, so that those which come one upon the other are
        read at once. Answers to actions are not kept waiting by it.

        `login` is never weakened to `plain` by itself, as whoever answers on the port could ask for that.
        """
        self._reactor = reactor
        self._host = host
        self._port = port
        self._username = username
        self._secret = secret
        self._on_event = on_event
        self._on_up = on_up
        self._on_down = on_down
        self._on_trouble = on_trouble
        self._wanted = wanted
        self._jitter = jitter
        self._login = login
        self.tls = tls
        self._connect_timeout = connect_timeout
        self.login_timeout = login_timeout
        self._boot_timeout = boot_timeout
        self._action_timeout = action_timeout
        self._ping_every = ping_every
        self._ping_timeout = ping_timeout
        self.gather = gather

        # Random, so that events about another process's actions are never taken for ours.
        self._own_ids = f"cti-{secrets.token_hex(4)}-"
        self._last_id = 0
        self._connection: _Connection | None = None
        self._attempt: Deferred[Any] | None = None
        self._timer: DelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._pauses = 0
        self._refusals = 0
        self._state = "down"
        self._since = reactor.seconds()

    # How things are.

    @property
    def up(self) -> bool:
        return self._state == "up"

    @property
    def state(self) -> str:
        return self._state

    @property
    def since(self) -> float:
        return self._since

    # Actions.

    async def action(
        self, name: str, /, *, timeout: float | None = None, **fields: str | Iterable[str]
    ) -> Response:
        """Do an action, such as `action("DBPut", Family="cti", Key="k", Val="v")`; several values: several
        lines.

        Raises AmiFieldError, AmiActionFailed, AmiTimeout, AmiDisconnected, AmiOverloaded.
        """
        response: Response = await self._do(name, fields, None, timeout)
        return response

    async def list_action(
        self, name: str, /, *, complete: str, timeout: float | None = None, **fields: str | Iterable[str]
    ) -> list[Event]:
        """The entries that an action lists, up to but without the event named `complete`. Raises as `action`
        does.

        The awaiting coroutine goes on before any later event is given to `on_event`.
        """
        entries: list[Event] = await self._do(name, fields, complete, timeout)
        return entries

    def _do(
        self, name: str, fields: dict[str, str | Iterable[str]], complete: str | None, timeout: float | None
    ) -> Deferred[Any]:
        if self._connection is None or not self.up:
            return fail(AmiDisconnected(f"no connection to Asterisk ({self._state})"))
        return self._connection.send(
            name, fields, complete, self._action_timeout if timeout is None else timeout
        )

    def next_id(self) -> str:
        """An ActionID that this client has never used, on any connection."""
        self._last_id += 1
        return f"{self._own_ids}{self._last_id}"

    # Twisted's Service.

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self._timer is None and self._attempt is None and self._connection is None:
            self._connect()

    def stopService(self) -> Deferred[None] | None:
        """Close the connection for good. The Deferred fires when it is closed and all actions have ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._stop_timer()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._connection is None:
            self._become("down")
            return None
        if self._stopped is None:
            self._stopped = Deferred()
        stopped = self._stopped
        self._connection.close("the client was stopped", gently=True)
        return stopped

    # Connecting again and again.

    def _connect(self) -> None:
        self._timer = None
        if not self._state.startswith("refused"):
            self._become("connecting")
        factory = Factory.forProtocol(
            lambda: _Connection(self, self._reactor, self._ping_every, self._ping_timeout)
        )
        factory.noisy = False
        self._attempt = self._endpoint().connect(factory)
        self._attempt.addCallbacks(self._connected, self._not_connected)

    def _endpoint(self) -> Any:
        kind: Any
        try:
            kind = TCP4ClientEndpoint if ip_address(self._host).version == 4 else TCP6ClientEndpoint
        except ValueError:
            kind = HostnameEndpoint
        endpoint = kind(self._reactor, self._host, self._port, timeout=self._connect_timeout)
        return endpoint if self.tls is None else wrapClientTLS(cast(Any, self.tls), endpoint)

    def _connected(self, connection: "_Connection") -> None:
        self._attempt = None
        if not self.running:
            connection.close("the client was stopped")

    def _not_connected(self, failure: Failure) -> None:
        self._attempt = None
        if self.running:
            # Nobody there to be bothered: what was refused before may be another Asterisk's when one answers.
            self._refusals = 0
            self._warn(f"not connected: {failure.getErrorMessage()}")
            self._pause()

    def _pause(self) -> None:
        """Wait, longer each time, and connect again."""
        if self._refusals:
            longest = LONGEST_PAUSE_REFUSED
            pause = min(longest, FIRST_PAUSE_REFUSED * 2.0 ** min(self._refusals - 1, 10))
            pause = min(longest, pause * (1 + 0.2 * self._jitter()))
        else:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._pauses, 10))
            pause *= 0.5 + 0.5 * self._jitter()
            self._pauses += 1
            self._become("down")
        self._timer = self._reactor.callLater(pause, self._connect)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _become(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._since = self._reactor.seconds()

    # What the connection tells.

    def opened(self, connection: "_Connection") -> AmiParser:
        """Take note of a new connection; gives the parser for it."""
        self._connection = connection
        wanted = None
        if self._wanted is not None:
            wanted = frozenset(name.encode() for name in self._wanted | {"FullyBooted"})
        return AmiParser(wanted, self._own_ids)

    async def log_in(self, connection: "_Connection") -> None:
        """Log in on a connection that has greeted, and wait until Asterisk has booted."""
        if not self._state.startswith("refused"):
            self._become("logging in")
        fields = {"Username": self._username}
        try:
            if self._login == "md5":
                challenge = await connection.send("Challenge", {"AuthType": "MD5"}, None, self.login_timeout)
                # MD5 is what the protocol has; Asterisk compares it in lower-case hexadecimal.
                proof = (challenge.get("Challenge") + self._secret).encode()
                fields |= {"AuthType": "MD5", "Key": hashlib.md5(proof, usedforsecurity=False).hexdigest()}
            else:
                fields |= {"Secret": self._secret}
            await connection.send("Login", fields, None, self.login_timeout)
        except AmiActionFailed as refusal:
            self._refused(refusal.message)
            connection.close(self._state)
            return
        except (AmiTimeout, AmiDisconnected, AmiFieldError) as error:
            connection.close(f"no log-in: {error}")
            return
        self._refusals = 0
        self._become("booting")
        connection.expect_boot(self._boot_timeout)

    def _refused(self, message: str) -> None:
        if message in _PASSING_REFUSALS:
            self._refusals = 0
            self._become(f"refused: {message}")
        else:
            self._refusals += 1
            self._become(
                "refused: authentication" if "Authentication" in message else f"refused: {message[:80]}"
            )
        self._warn(f"log-in {self._state}")

    def booted(self) -> None:
        """Asterisk has booted: actions work from here on."""
        self._become("up")
        _log.info("AMI {host}:{port}: up", host=self._host, port=self._port)
        if self._on_up is None:
            return
        try:
            work = self._on_up()
        except Exception as error:  # noqa: BLE001 - the owner's mistake must not cost the connection
            self._blame("on_up", error)
            return
        if work is not None:
            Deferred.fromCoroutine(work).addErrback(lambda failure: self._blame("on_up", failure.value))

    def happened(self, event: Event) -> None:
        """Hand an event to the owner."""
        if self._wanted is not None and event.headers["Event"] not in self._wanted:
            return
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001 - one event that fails must not stop the others
            self._blame(f"on_event for {event.name[:80]}", error)

    def lost(self, reason: str) -> None:
        """The connection is closed: say so, and connect again unless stopped."""
        self._connection = None
        was_up = self.up
        if was_up and self._reactor.seconds() - self._since >= STEADY_SECONDS:
            self._pauses = 0
        if self.running:
            self._warn(f"connection lost: {reason}")
            self._pause()
        else:
            self._become("down")
        if was_up and self._on_down is not None:
            try:
                self._on_down(reason)
            except Exception as error:  # noqa: BLE001 - the owner's mistake must not end reconnecting
                self._blame("on_down", error)

    def closed(self) -> None:
        """All that waited for the lost connection knows of it."""
        if self._stopped is not None:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)

    def _warn(self, what: str) -> None:
        _log.warn("AMI {host}:{port}: {what}", host=self._host, port=self._port, what=what)
        if self._on_trouble is not None:
            self._on_trouble(what)

    def _blame(self, callback: str, error: BaseException | None) -> None:
        """Log a callback's failure by type and place; its text may name a caller."""
        frames = traceback.extract_tb(error.__traceback__ if error is not None else None)
        _log.error(
            "AMI {host}:{port}: {callback} failed: {kind} at {place}",
            host=self._host,
            port=self._port,
            callback=callback,
            kind=type(error).__qualname__,
            place=f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place",
        )
        _log.debug("The failure in full: {error!r}", error=error)


@implementer(IHandshakeListener)
class _Connection(Protocol):
    """One connection: matches answers to actions, and watches that the other side lives."""

    def __init__(self, client: AmiClient, reactor: Clock, ping_every: float, ping_timeout: float) -> None:
        self._client = client
        self._reactor = reactor
        self._ping_every = ping_every
        self._ping_timeout = ping_timeout
        self._pending: dict[str, _Pending] = {}
        self._abandoned: dict[str, str] = {}
        self._timer: DelayedCall | None = None
        self._closing: str | None = None
        self._booting = False
        self._gathering: DelayedCall | None = None
        self._heard_answer = False
        self._heard = False
        self._unanswered = 0

    # What the client uses.

    def send(
        self, name: str, fields: Mapping[str, str | Iterable[str]], complete: str | None, timeout: float
    ) -> Deferred[Any]:
        """Send an action: a Deferred of its Response or, with `complete`, of its list's entries."""
        if self._closing is not None:
            return fail(AmiDisconnected(self._closing))
        if len(self._pending) >= MAX_PENDING:
            return fail(AmiOverloaded(f"{MAX_PENDING} actions wait for an answer"))
        action_id = self._client.next_id()
        try:
            data = action(name, fields, action_id)
        except AmiFieldError as error:
            return fail(error)
        answer: Deferred[Any] = Deferred(lambda _: self._give_up(action_id))
        deadline = self._reactor.callLater(timeout, self._late, action_id, name)
        self._pending[action_id] = _Pending(answer, deadline, complete)
        self._wire.write(data)
        return answer

    def expect_boot(self, timeout: float) -> None:
        """Wait for FullyBooted, and close if it does not come."""
        self._booting = True
        self._set_timer(
            timeout,
            self.close,
            "no FullyBooted: Asterisk has not booted, or the AMI user lacks read = system",
        )

    def close(self, reason: str, *, gently: bool = False) -> None:
        """Close, at once or (`gently`) after what is written has left."""
        if self._closing is not None:
            return
        self._closing = reason
        if gently:
            self._wire.loseConnection()
            self._set_timer(CLOSE_SECONDS, self._wire.abortConnection)
        else:
            self._set_timer(None)
            self._wire.abortConnection()

    # Twisted's Protocol.

    def connectionMade(self) -> None:
        self._wire = cast(TcpTransport, self.transport)
        self._wire.setTcpNoDelay(True)
        self._wire.setTcpKeepAlive(True)
        self._parser = self._client.opened(self)
        if self._client.tls is None:
            self._await_greeting(
                "no greeting from Asterisk; a port of `tlsbindaddr` says nothing without `tls`"
            )
        else:
            # Twisted calls this when the bytes of the handshake begin to travel.
            self._set_timer(self._client.login_timeout, self.close, "TLS: no answer to the handshake")

    def handshakeCompleted(self) -> None:
        """The other side is who it should be (`IHandshakeListener`)."""
        if self._closing is None:
            self._await_greeting("no greeting from Asterisk")

    def _await_greeting(self, else_: str) -> None:
        self._set_timer(self._client.login_timeout, self.close, else_)

    def dataReceived(self, data: bytes) -> None:
        if self._closing is not None:
            return
        self._heard = True
        self._heard_answer = False
        try:
            messages = self._parser.feed(data)
        except AmiProtocolError as error:
            self._happened(error.events)
            self.close(str(error))
        else:
            self._happened(messages)
        # Where a read is full, more lies there already.
        if self._client.gather and not self._heard_answer and len(data) < _FULL_READ:
            self._gather()

    def _gather(self) -> None:
        """Let events lie for a moment: each time the process wakes up costs more than an event does."""
        if self._closing is None and self._gathering is None:
            self._wire.pauseProducing()
            self._gathering = self._reactor.callLater(self._client.gather, self._read_on)

    def _read_on(self) -> None:
        self._gathering = None
        self._wire.resumeProducing()

    def _happened(self, messages: Sequence[AmiEvent]) -> None:
        for message in messages:
            if isinstance(message, Event):
                self._event(message)
            elif isinstance(message, Response):
                self._heard_answer = True
                self._response(message)
            elif isinstance(message, Banner):
                self._heard_answer = True
                self._set_timer(None)
                Deferred.fromCoroutine(self._client.log_in(self))
            elif isinstance(message, Unknown):
                _log.debug("AMI: a message of {size} bytes is neither event nor response", size=message.size)
            if self._closing is not None:
                return

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        why = self._closing or self._flaw(reason) or "Asterisk closed the connection"
        self._closing = why
        self._set_timer(None)
        if self._gathering is not None:
            self._gathering.cancel()
        pending, self._pending = self._pending, {}
        for waiting in pending.values():
            if waiting.deadline.active():
                waiting.deadline.cancel()
        # The client first: who is told of a lost action must find it down.
        self._client.lost(why)
        for waiting in pending.values():
            waiting.answer.errback(AmiDisconnected(why))
        self._client.closed()

    def _flaw(self, reason: Failure) -> str | None:
        return None if self._client.tls is None else self._client.tls.explain(reason.value)

    # Answers.

    def _response(self, response: Response) -> None:
        action_id = response.action_id or ""
        waiting = self._pending.get(action_id)
        if waiting is None:
            if not response.success:
                self._abandoned.pop(action_id, None)
            return
        if not response.success:
            self._settle(action_id, AmiActionFailed(response.message))
        elif waiting.complete is None:
            self._settle(action_id, response)

    def _event(self, event: Event) -> None:
        if event.tampered:
            _log.warn("AMI: a caller's number or name adds headers to an event, which is not believed")
            return
        action_id = event.action_id
        if action_id is None and not self._booting:
            # The way of nearly all: it is no entry of a list.
            self._client.happened(event)
            return
        self._heard_answer = True
        action_id = action_id or ""
        waiting = self._pending.get(action_id)
        if waiting is not None and waiting.complete is not None:
            self._list_entry(action_id, waiting, event)
            return
        if (complete := self._abandoned.get(action_id)) is not None:
            if _ends_list(event, complete):
                del self._abandoned[action_id]
            return
        if self._booting and event.name == "FullyBooted":
            self._booting = False
            self._set_timer(self._ping_every, self._ping)
            self._client.booted()
        self._client.happened(event)

    def _list_entry(self, action_id: str, waiting: _Pending, event: Event) -> None:
        if _ends_list(event, waiting.complete):
            self._settle(action_id, waiting.entries)
            return
        waiting.entries.append(event)
        waiting.size += sum(map(len, event.headers.values()))
        for what, count, most in (
            ("entries", len(waiting.entries), MAX_LIST_ENTRIES),
            ("characters", waiting.size, MAX_LIST_CHARACTERS),
        ):
            if count > most:
                self._give_up(action_id)
                waiting.answer.errback(AmiOverloaded(f"a list of more than {most} {what}"))
                return

    def _settle(self, action_id: str, outcome: Response | list[Event] | Exception) -> None:
        waiting = self._pending.pop(action_id)
        if waiting.deadline.active():
            waiting.deadline.cancel()
        if isinstance(outcome, Exception):
            waiting.answer.errback(outcome)
        else:
            waiting.answer.callback(outcome)

    def _give_up(self, action_id: str) -> None:
        """Nobody waits for this action any more."""
        waiting = self._pending.pop(action_id, None)
        if waiting is None:
            return
        if waiting.deadline.active():
            waiting.deadline.cancel()
        if waiting.complete is not None:
            self._abandoned[action_id] = waiting.complete
            if len(self._abandoned) > MAX_ABANDONED:
                # Its end will not come any more. Kept, lists without end would fill what waits for answers.
                del self._abandoned[next(iter(self._abandoned))]

    def _late(self, action_id: str, name: str, grace: float = LATE_GRACE) -> None:
        waiting = self._pending[action_id]
        if grace:
            waiting.deadline = self._reactor.callLater(grace, self._late, action_id, name, 0.0)
            return
        self._give_up(action_id)
        waiting.answer.errback(AmiTimeout(f"Asterisk did not answer {name} in time"))

    # Whether the other side lives.

    def _ping(self) -> None:
        self._timer = None
        self._heard = False
        self.send("Ping", {}, None, self._ping_timeout).addCallbacks(self._pinged, self._not_pinged)

    def _pinged(self, _answer: object) -> None:
        self._unanswered = 0
        self._set_timer(self._ping_every, self._ping)

    def _not_pinged(self, failure: Failure) -> None:
        # A refusal is an answer, too.
        if isinstance(failure.value, AmiActionFailed | AmiOverloaded):
            self._pinged(failure.value)
        elif isinstance(failure.value, AmiTimeout) and self._heard and self._unanswered < MUTE_PINGS:
            # It lives: the answer lies behind a burst of events that we have not read through yet.
            self._unanswered += 1
            self._ping()
        else:
            self.close("no answer to Ping: the link or Asterisk is dead")

    def _set_timer(self, seconds: float | None, call: Callable[..., None] | None = None, *args: Any) -> None:
        """Let the connection's one timer call after `seconds`; None stops it."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if seconds is not None and call is not None:
            self._timer = self._reactor.callLater(seconds, call, *args)


def _ends_list(event: Event, complete: str | None) -> bool:
    return event.name == complete or event.get("EventList").lower() in ("complete", "cancelled")
