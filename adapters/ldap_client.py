"""A connection to one LDAP server: bound, kept, made again, and each question within its time and size.

What is asked, and what an entry means, is left to ``ldap``.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from attrs import define, field, frozen
from ldaptor.protocols import pureldap
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionDone, DNSLookupError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from adapters.base import (
    AdapterAnswerError,
    AdapterDenied,
    AdapterError,
    AdapterTimeout,
    AdapterUnavailable,
)
from adapters.deadline import within
from adapters.ldap_wire import (
    ADMIN_LIMIT,
    BUSY,
    CONFIDENTIALITY,
    INSUFFICIENT_ACCESS,
    INVALID_CREDENTIALS,
    NO_SUCH_OBJECT,
    PAGED_RESULTS,
    REFERRAL,
    SIZE_LIMIT,
    STRONGER_AUTH,
    SUCCESS,
    TIME_LIMIT,
    UNAVAILABLE,
    LdapWireError,
    Message,
    Messages,
    encoded,
    page_control,
    read_page_control,
)
from cti.secret import Secret
from cti.verified_tls import TlsWords, VerifiedTls

T = TypeVar("T")

#: Bytes of one entry, and of all entries of an answer.
ENTRY_LIMIT: Final = 1_000_000
ANSWER_LIMIT: Final = 16_000_000
#: Seconds for which a login that was refused is not tried again: directories lock an account after some of them.
DENIED_SECONDS: Final = 60.0

# Twisted has no types for it.
_failure: Final[Any] = Failure

_PORTS: Final[Mapping[str, int]] = {"ldap": 389, "ldaps": 636}
_WORDS: Final = TlsWords(
    owner="the directory server's",
    trust="`ca_file: FILE`",
    renew="it has to be renewed there",
    name="the name in `url` has to be one of those",
    plain="ldap:// in `url`, with or without `start_tls`,",
)


@frozen
class Server:
    """Where the directory is and who we are there. ``tls``: ``none``, ``start`` (StartTLS) or ``whole`` (LDAPS)."""

    host: str
    port: int
    tls: str
    ca: bytes | None = field(default=None, repr=False)
    bind_dn: str = ""
    password: Secret | None = None

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.tls == 'whole' else 'ldap'}://{host}:{self.port}"


def host_and_port(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of ``ldap://…`` or ``ldaps://…``. Raises ``ValueError``."""
    parts = urlsplit(url)
    if (
        parts.scheme not in _PORTS
        or not parts.hostname
        or parts.path.strip("/")
        or parts.query
        or parts.username
    ):
        raise ValueError(
            "such as `ldaps://ldap.example` would be right, and nothing after the host and the port"
        )
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


@frozen
class Entry:
    """One entry: its name, and its values by attribute, names in small letters and without options."""

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]]

    def values(self, attribute: str) -> tuple[str, ...]:
        return tuple(value.decode("utf-8", "replace") for value in self.attributes.get(attribute.lower(), ()))


@frozen
class Question:
    """A search: ``filter`` is ldaptor's; ``limit`` how many entries are wanted at most, 0 for all."""

    base: str
    scope: int
    filter: Any
    attributes: Sequence[str]
    limit: int = 0
    page: int = 0
    cookie: bytes = b""


@frozen
class Found:
    """``partial``: there are more than the answer has; ``cookie``: how to ask for the next page, if there is one."""

    entries: Sequence[Entry]
    partial: bool = False
    cookie: bytes = b""


@define
class _Pending:
    done: Deferred[tuple[list[Entry], Any, bytes]]
    entries: list[Entry] = field(factory=list)
    size: int = 0


class LdapConnection(Protocol):
    """One connection; many questions may be under way on it."""

    def __init__(self) -> None:
        self._messages = Messages(ENTRY_LIMIT)
        self._pending: dict[int, _Pending] = {}
        self._last = 0
        self.lost: BaseException | None = None

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        # A firewall that has forgotten the connection would otherwise be noticed by the next caller.
        transport.setTcpKeepAlive(True)

    def dataReceived(self, data: bytes) -> None:
        try:
            for message in self._messages.feed(data):
                self._received(message)
        except LdapWireError as error:
            self._give_up(AdapterAnswerError(f"the directory server answered {error}"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._give_up(reason.value or ConnectionDone())

    def close(self) -> None:
        transport: Any = self.transport
        if self.lost is None:
            self._send(0, pureldap.LDAPUnbindRequest())
        transport.loseConnection()

    def abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def start_tls(self, tls: VerifiedTls) -> None:
        transport: Any = self.transport
        transport.startTLS(tls)

    async def ask(
        self, operation: Any, controls: list[tuple[bytes, bool, bytes]] | None = None
    ) -> tuple[list[Entry], Any, bytes]:
        """Entries, the last answer, and the next page's cookie. When cancelled, the server is told (Abandon)."""
        if self.lost is not None:
            raise self.lost
        self._last = id = self._last + 1
        pending = _Pending(Deferred(lambda _: self._abandon(id)))
        self._pending[id] = pending
        self._send(id, operation, controls)
        return await pending.done

    def _send(self, id: int, operation: Any, controls: list[tuple[bytes, bool, bytes]] | None = None) -> None:
        transport: Any = self.transport
        transport.write(encoded(id or self._next(), operation, controls))

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _abandon(self, id: int) -> None:
        if self._pending.pop(id, None) is not None and self.lost is None:
            self._send(0, pureldap.LDAPAbandonRequest(id=id))

    def _received(self, message: Message) -> None:
        operation = message.operation
        pending = self._pending.get(message.id)
        if pending is None:
            # Of a question that was abandoned, or what the server says of its own accord before it hangs up.
            return
        if isinstance(operation, pureldap.LDAPSearchResultEntry):
            pending.size += message.size
            if pending.size > ANSWER_LIMIT:
                self._abandon(message.id)
                pending.done.errback(
                    AdapterAnswerError(f"the directory server answered more than {ANSWER_LIMIT} bytes")
                )
                return
            pending.entries.append(_entry(operation))
        elif isinstance(operation, pureldap.LDAPSearchResultReference):
            # Another server's; we ask only the one that we were told of.
            return
        elif isinstance(operation, pureldap.LDAPResult):
            del self._pending[message.id]
            _, value = message.controls.get(PAGED_RESULTS, (False, b""))
            cookie = read_page_control(value)[1] if value else b""
            pending.done.callback((pending.entries, operation, cookie))
        else:
            raise LdapWireError("something else than an answer")

    def _give_up(self, reason: BaseException) -> None:
        if self.lost is None:
            self.lost = reason
            self.abort()
        pending, self._pending = self._pending, {}
        for each in pending.values():
            each.done.errback(self.lost)


class LdapClient:
    """Keeps one connection to the server, as long as there is one, and asks over it."""

    def __init__(self, reactor: Any, server: Server, seconds: float) -> None:
        self._reactor = reactor
        self._server = server
        self._seconds = seconds
        self._tls = None if server.tls == "none" else VerifiedTls(server.host, server.ca, _WORDS)
        self._connection: LdapConnection | None = None
        self._connecting: Deferred[None] | None = None
        self._waiting: list[Deferred[LdapConnection]] = []
        self._denied: AdapterDenied | None = None
        self._denied_until = 0.0

    async def search(self, question: Question) -> Found:
        """Raises ``AdapterError``. When cancelled, the question is abandoned."""
        return await self._within(self._searched(question))

    async def connect(self) -> LdapConnection:
        """A bound connection of the caller's own, for pages: a server may keep their cookies by connection."""
        return await self._within(self._connected())

    async def search_on(self, connection: LdapConnection, question: Question) -> Found:
        return await self._within(self._asked(connection, question))

    def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _within(self, doing: Coroutine[Any, Any, T]) -> T:
        try:
            return await within(self._reactor, self._seconds, doing, self._server.origin)
        except AdapterTimeout:
            # Nobody knows what has become of a connection that answers nothing.
            self._forget()
            raise

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _searched(self, question: Question) -> Found:
        kept = self._connection
        connection = await self._shared()
        try:
            return await self._asked(connection, question)
        except AdapterUnavailable:
            if connection is not kept or connection.lost is None:
                raise
            # It was kept, and the server had closed it: servers do that to who is quiet for long.
        return await self._asked(await self._shared(), question)

    async def _asked(self, connection: LdapConnection, question: Question) -> Found:
        request = pureldap.LDAPSearchRequest(
            baseObject=question.base,
            scope=question.scope,
            derefAliases=pureldap.LDAP_DEREF_neverDerefAliases,
            sizeLimit=question.limit,
            timeLimit=math.ceil(self._seconds),
            typesOnly=0,
            filter=question.filter,
            attributes=list(question.attributes),
        )
        controls = [page_control(question.page, question.cookie, critical=True)] if question.page else None
        try:
            entries, result, cookie = await connection.ask(request, controls)
        except (CancelledError, AdapterError):
            raise
        except Exception as error:
            raise AdapterUnavailable(f"{self._server.origin} {self._cause(error)}") from error
        if result.resultCode == NO_SUCH_OBJECT:
            raise AdapterAnswerError(f"{self._server.origin} has no entry that is called as `base` says")
        partial = result.resultCode in (SIZE_LIMIT, ADMIN_LIMIT)
        if not partial:
            self._judge(result.resultCode)
        return Found(entries, partial, cookie)

    async def _shared(self) -> LdapConnection:
        if self._connection is not None and self._connection.lost is None:
            return self._connection
        waiting: Deferred[LdapConnection] = Deferred(self._stop_waiting)
        self._waiting.append(waiting)
        if self._connecting is None:
            connecting = Deferred.fromCoroutine(self._make_shared())
            # Refused without a word to the server, it is over by now.
            self._connecting = None if connecting.called else connecting
        return await waiting

    def _stop_waiting(self, waiting: Deferred[LdapConnection]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
        if not self._waiting and self._connecting is not None:
            self._connecting.cancel()

    async def _make_shared(self) -> None:
        outcome: Any
        try:
            outcome = self._connection = await self._connected()
        except CancelledError:
            outcome = _failure(AdapterUnavailable(f"{self._server.origin} is not connected to any more"))
        except AdapterError as error:
            outcome = _failure(error)
        finally:
            self._connecting = None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(outcome)

    async def _connected(self) -> LdapConnection:
        if self._denied is not None and self._reactor.seconds() < self._denied_until:
            raise self._denied
        server = self._server
        connection = None
        try:
            connection = await self._dialled()
            if server.tls == "start":
                _, answer, _ = await connection.ask(pureldap.LDAPStartTLSRequest())
                if answer.resultCode != SUCCESS:
                    raise AdapterUnavailable(
                        f"{server.origin} refuses StartTLS ({answer.resultCode}): `start_tls: false`, or ldaps://"
                        " in `url`, would be right"
                    )
                connection.start_tls(cast(VerifiedTls, self._tls))
            if server.bind_dn:
                await self._bind(connection)
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if isinstance(error, Exception) and not isinstance(error, (CancelledError, AdapterError)):
                raise AdapterUnavailable(f"{server.origin} {self._cause(error)}") from error
            raise
        return connection

    async def _dialled(self) -> LdapConnection:
        endpoint: Any = HostnameEndpoint(
            self._reactor, self._server.host, self._server.port, timeout=self._seconds
        )
        if self._server.tls == "whole":
            endpoint = wrapClientTLS(cast(Any, self._tls), endpoint)
        factory: Any = Factory.forProtocol(LdapConnection)
        factory.noisy = False
        try:
            connected: LdapConnection = await endpoint.connect(factory)
        except Exception as error:
            if type(error).__name__ == "ConnectingCancelledError":
                raise CancelledError from error
            raise
        return connected

    async def _bind(self, connection: LdapConnection) -> None:
        server = self._server
        request = pureldap.LDAPBindRequest(
            version=3, dn=server.bind_dn, auth=server.password.reveal() if server.password else ""
        )
        _, answer, _ = await connection.ask(request)
        if answer.resultCode == INVALID_CREDENTIALS:
            self._denied = AdapterDenied(f"{server.origin} does not accept `bind_dn` with `password`")
            self._denied_until = self._reactor.seconds() + DENIED_SECONDS
            raise self._denied
        self._judge(answer.resultCode)

    def _judge(self, code: int) -> None:
        origin = self._server.origin
        if code == SUCCESS:
            return
        if code in (CONFIDENTIALITY, STRONGER_AUTH):
            raise AdapterUnavailable(
                f"{origin} wants TLS: `start_tls: true`, or ldaps:// in `url`, would be right"
            )
        if code == INSUFFICIENT_ACCESS:
            raise AdapterDenied(f"{origin} does not let `bind_dn` read there")
        if code == TIME_LIMIT:
            raise AdapterTimeout(f"{origin} gave up after its own time limit")
        if code == REFERRAL:
            raise AdapterAnswerError(
                f"{origin} refers to another server; `url` has to name the one that has `base`"
            )
        if code in (BUSY, UNAVAILABLE):
            raise AdapterUnavailable(f"{origin} is busy, or not there for anybody ({code})")
        raise AdapterAnswerError(f"{origin} answered with result {code} (RFC 4511, 4.1.9)")

    def _cause(self, error: BaseException) -> str:
        if self._tls is not None and (flaw := self._tls.explain(error)) is not None:
            return f"cannot be spoken with: {flaw}"
        match error:
            case DNSLookupError():
                return "has a host name that cannot be found"
            case ConnectError():
                return "cannot be reached: " + (str(error).rstrip(".") or type(error).__name__)
        return f"broke off ({type(error).__name__})"


def _entry(operation: Any) -> Entry:
    attributes: dict[str, tuple[bytes, ...]] = {}
    for name, values in operation.attributes:
        key = name.decode("utf-8", "replace").partition(";")[0].lower()
        attributes[key] = (*attributes.get(key, ()), *values)
    return Entry(operation.objectName.decode("utf-8", "replace"), attributes)
