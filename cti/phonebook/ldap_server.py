"""The phonebook as an LDAP directory that can be read and not written, for phones and whoever else asks.

Binding, searching and pages of answers (RFC 4511, RFC 2696), each within a limit. What a filter means is left to
``filters``, who is in the book to ``book``.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final

from attrs import field, frozen
from ldaptor.protocols import pureldap
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from adapters.ldap_wire import (
    AUTH_METHOD,
    BUSY,
    CRITICAL_EXTENSION,
    INSUFFICIENT_ACCESS,
    INVALID_CREDENTIALS,
    NO_SUCH_OBJECT,
    PAGED_RESULTS,
    PROTOCOL_ERROR,
    SIZE_LIMIT,
    SUCCESS,
    UNAVAILABLE,
    UNWILLING,
    LdapWireError,
    Message,
    Messages,
    encoded,
    page_control,
    read_page_control,
)
from cti.logs import get_logger
from cti.phonebook.book import Contact, PhoneBook
from cti.phonebook.filters import OBJECT_CLASSES, FilterError, understood
from cti.secret import Secret

log = get_logger("cti.phonebook")

#: Bytes of a request: a phone's has some hundred.
REQUEST_LIMIT: Final = 16_384
#: Seconds without a request after which a phone is not waited for any more.
IDLE: Final = 300.0
#: Connections at a time, and searches of one connection.
CONNECTIONS: Final = 512
SEARCHES: Final = 4
#: Wrong passwords after which a connection is closed, and the seconds that each answer to one takes.
REFUSALS: Final = 3
REFUSAL_SECONDS: Final = 1.0
#: Entries that all pages of one answer have together.
PAGED_LIMIT: Final = 5000

_ATTRIBUTES: Final = ("objectClass", "cn", "sn", "givenName", "displayName", "o", "telephoneNumber", "mobile")
_RESPONSES: Final[tuple[tuple[Any, Any], ...]] = (
    (pureldap.LDAPModifyRequest, pureldap.LDAPModifyResponse),
    (pureldap.LDAPAddRequest, pureldap.LDAPAddResponse),
    (pureldap.LDAPDelRequest, pureldap.LDAPDelResponse),
    (pureldap.LDAPModifyDNRequest, pureldap.LDAPModifyDNResponse),
    (pureldap.LDAPCompareRequest, pureldap.LDAPCompareResponse),
)


@frozen
class Door:
    """Who may look into the book. ``allow``: from which networks; ``anonymous``: without a password.

    ``base``: what the book is called; ``limit``: entries of an answer.
    """

    base: str
    allow: Sequence[IPv4Network | IPv6Network]
    bind_dn: str = ""
    password: Secret | None = field(default=None, repr=False)
    anonymous: bool = False
    limit: int = 200


class LdapPhonebook(Factory):
    """Listens for phones."""

    noisy = False

    def __init__(self, book: PhoneBook, door: Door, reactor: Any) -> None:
        self.book = book
        self.door = door
        self.reactor = reactor
        self.connections: set[LdapPhone] = set()

    def buildProtocol(self, addr: Any) -> Protocol | None:
        if not allowed(addr.host, self.door.allow):
            log.warning("the phonebook was asked from an address that is not in `allow`", address=addr.host)
            return None
        if len(self.connections) >= CONNECTIONS:
            return None
        return LdapPhone(self)

    def close(self) -> None:
        for connection in list(self.connections):
            connection.hang_up()


class LdapPhone(Protocol):
    """One phone's connection."""

    def __init__(self, server: LdapPhonebook) -> None:
        self._server = server
        self._messages = Messages(REQUEST_LIMIT)
        self._may_read = server.door.anonymous
        self._refusals = 0
        self._searches: dict[int, Deferred[None]] = {}
        self._idle: Any = None

    def connectionMade(self) -> None:
        self._server.connections.add(self)
        self._wait()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._server.connections.discard(self)
        if self._idle.active():
            self._idle.cancel()
        for search in list(self._searches.values()):
            search.cancel()

    def dataReceived(self, data: bytes) -> None:
        self._wait()
        try:
            for message in self._messages.feed(data):
                if self._received(message):
                    return
        except LdapWireError:
            # RFC 4511, 4.1.1: nobody knows any more where a message begins.
            self.hang_up()

    def hang_up(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def _wait(self) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self._idle = self._server.reactor.callLater(IDLE, self.hang_up)

    def _received(self, message: Message) -> bool:
        """Answer it; whether the connection came to its end."""
        match message.operation:
            case pureldap.LDAPUnbindRequest():
                transport: Any = self.transport
                transport.loseConnection()
                return True
            case pureldap.LDAPAbandonRequest():
                search = self._searches.pop(message.operation.value, None)
                if search is not None:
                    search.cancel()
            case pureldap.LDAPBindRequest():
                return self._bind(message)
            case pureldap.LDAPSearchRequest():
                self._begin_search(message)
            case pureldap.LDAPExtendedRequest():
                self._send(
                    message.id, pureldap.LDAPExtendedResponse(PROTOCOL_ERROR, errorMessage="not offered here")
                )
            case operation:
                response = next(
                    (answer for asked, answer in _RESPONSES if isinstance(operation, asked)), None
                )
                if response is None:
                    raise LdapWireError("an answer, which nobody asked for")
                self._send(message.id, response(UNWILLING, errorMessage="the phonebook is not written to"))
        return False

    # Who it is.

    def _bind(self, message: Message) -> bool:
        for search in list(self._searches.values()):
            search.cancel()
        request, door = message.operation, self._server.door
        if request.version != 3 or request.sasl:
            code = PROTOCOL_ERROR if request.version != 3 else AUTH_METHOD
            self._may_read = door.anonymous
            self._send(message.id, pureldap.LDAPBindResponse(code))
            return False
        if not request.dn and not request.auth:
            self._may_read = door.anonymous
            self._send(message.id, pureldap.LDAPBindResponse(SUCCESS))
            return False
        known = door.password is not None and hmac.compare_digest(
            bytes(request.auth), door.password.reveal().encode()
        )
        if known and _same_dn(_text(request.dn), door.bind_dn):
            self._may_read, self._refusals = True, 0
            self._send(message.id, pureldap.LDAPBindResponse(SUCCESS))
            return False
        self._may_read = False
        self._refusals += 1
        transport: Any = self.transport
        log.warning("a phone has no right password for the phonebook", address=transport.getPeer().host)
        # Nothing more is read until then: passwords are not tried by the hundred.
        transport.pauseProducing()
        self._server.reactor.callLater(REFUSAL_SECONDS, self._refuse, message.id)
        return True

    def _refuse(self, id: int) -> None:
        if self not in self._server.connections:
            return
        transport: Any = self.transport
        self._send(id, pureldap.LDAPBindResponse(INVALID_CREDENTIALS))
        if self._refusals >= REFUSALS:
            transport.loseConnection()
        else:
            transport.resumeProducing()

    # What it looks for.

    def _begin_search(self, message: Message) -> None:
        if len(self._searches) >= SEARCHES:
            self._done(message.id, BUSY, "one search after the other")
            return
        search: Deferred[None] = Deferred.fromCoroutine(self._search(message))
        if not search.called:
            self._searches[message.id] = search
        search.addErrback(self._failed, message.id)
        search.addBoth(lambda _: self._searches.pop(message.id, None))

    def _failed(self, failure: Failure, id: int) -> None:
        if not isinstance(failure.value, CancelledError):
            log.error("a search in the phonebook failed", exception=failure.getTraceback())
            self._done(id, UNAVAILABLE, "the phonebook cannot be read now")

    async def _search(self, message: Message) -> None:
        request, door = message.operation, self._server.door
        base = _text(request.baseObject)
        if base == "" and request.scope == pureldap.LDAP_SCOPE_baseObject:
            # Anybody may ask a server what it has (RFC 4512, 5.1).
            about = [
                ("objectClass", ["top"]),
                ("namingContexts", [door.base]),
                ("supportedLDAPVersion", ["3"]),
            ]
            self._send(message.id, _result("", about))
            self._done(message.id, SUCCESS)
            return
        if not self._may_read:
            self._done(message.id, INSUFFICIENT_ACCESS, "bind first")
            return
        for name, (critical, _) in message.controls.items():
            if critical and name != PAGED_RESULTS:
                self._done(message.id, CRITICAL_EXTENSION, "a control that is not known here")
                return
        if base and not _same_dn(base, door.base):
            self._done(message.id, NO_SUCH_OBJECT, "only the phonebook is here")
            return
        if request.scope == pureldap.LDAP_SCOPE_baseObject:
            self._send(message.id, _result(door.base, [("objectClass", ["top", "organizationalUnit"])]))
            self._done(message.id, SUCCESS)
            return
        try:
            wanted = understood(request.filter)
            paged = message.controls.get(PAGED_RESULTS)
            size, cookie = (0, b"") if paged is None else read_page_control(paged[1])
            start = _start(cookie)
        except (FilterError, LdapWireError) as error:
            self._done(message.id, UNWILLING, str(error))
            return
        limit = min(request.sizeLimit or door.limit, door.limit)
        end = limit
        if paged is not None:
            end = min(start + min(size or limit, limit), PAGED_LIMIT)
        found = await self._server.book.search(wanted.fits, end + 1, hint=wanted.hint)
        for contact in found[start:end]:
            self._send(message.id, self._entry(contact, request.attributes))
        more = len(found) > end
        if paged is not None:
            following = str(end).encode() if more and end < PAGED_LIMIT else b""
            code = SIZE_LIMIT if more and not following else SUCCESS
            self._done(message.id, code, controls=[page_control(0, following)])
        else:
            self._done(message.id, SIZE_LIMIT if more else SUCCESS)

    def _entry(self, contact: Contact, asked: Collection[Any]) -> Any:
        names = contact.name.split()
        values: dict[str, Sequence[str]] = {
            "objectClass": OBJECT_CLASSES,
            "cn": [contact.name],
            "sn": names[-1:],
            "givenName": names[:1] if len(names) > 1 else [],
            "displayName": [contact.title],
            "o": [contact.company] if contact.company else [],
            "telephoneNumber": [number.dial for number in contact.numbers if not number.mobile],
            "mobile": [number.dial for number in contact.numbers if number.mobile],
        }
        wanted = {_text(name).lower() for name in asked}
        everything = not wanted or "*" in wanted
        # A phone finds its attributes by the letters that it was configured with, whatever their case.
        spelled = {_text(name).lower(): _text(name) for name in asked}
        shown = [
            (spelled.get(name.lower(), name), values[name])
            for name in _ATTRIBUTES
            if values[name] and (everything or name.lower() in wanted)
        ]
        dn = f"uid={_escaped('-'.join(contact.key))},{self._server.door.base}"
        return _result(dn, shown)

    def _done(
        self, id: int, code: int, text: str = "", controls: list[tuple[bytes, bool, bytes]] | None = None
    ) -> None:
        self._send(id, pureldap.LDAPSearchResultDone(code, errorMessage=text), controls)

    def _send(self, id: int, operation: Any, controls: list[tuple[bytes, bool, bytes]] | None = None) -> None:
        if self in self._server.connections:
            transport: Any = self.transport
            transport.write(encoded(id, operation, controls))


def allowed(host: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


def _result(dn: str, attributes: Sequence[tuple[str, Sequence[str]]]) -> Any:
    return pureldap.LDAPSearchResultEntry(dn, [(name, list(values)) for name, values in attributes])


def _start(cookie: bytes) -> int:
    if not cookie:
        return 0
    if not cookie.isdigit() or not 0 < int(cookie[:10]) <= PAGED_LIMIT:
        raise LdapWireError("a page that was never begun")
    return int(cookie)


def _same_dn(one: str, other: str) -> bool:
    return _normal(one) == _normal(other)


def _normal(dn: str) -> str:
    """Without what does not count in a name (RFC 4514): spaces around its signs, and capitals."""
    return ",".join(
        "=".join(each.strip() for each in part.split("=", 1)) for part in dn.split(",")
    ).casefold()


def _escaped(value: str) -> str:
    """A value in a name (RFC 4514, 2.4)."""
    escaped = "".join(f"\\{each}" if each in ',+"\\<>;=' else each for each in value).replace("\0", "\\00")
    if escaped[:1] in ("#", " "):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if escaped.endswith(" ") and len(escaped) > 1 else escaped


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
