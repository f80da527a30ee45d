"""LDAP messages out of a stream of bytes (RFC 4511), bounded, whoever sends them; decoded by ldaptor.

What is asked and answered is left to the adapter, and to the phonebook that speaks LDAP with phones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen
from ldaptor.protocols import pureber, pureldap

#: RFC 2696: a page of a search at a time.
PAGED_RESULTS: Final = b"1.2.840.113556.1.4.319"
START_TLS: Final[bytes] = pureldap.LDAPStartTLSRequest.oid

SUCCESS: Final = 0
OPERATIONS_ERROR: Final = 1
PROTOCOL_ERROR: Final = 2
TIME_LIMIT: Final = 3
SIZE_LIMIT: Final = 4
AUTH_METHOD: Final = 7
STRONGER_AUTH: Final = 8
REFERRAL: Final = 10
ADMIN_LIMIT: Final = 11
CRITICAL_EXTENSION: Final = 12
CONFIDENTIALITY: Final = 13
NO_SUCH_OBJECT: Final = 32
INVALID_CREDENTIALS: Final = 49
INSUFFICIENT_ACCESS: Final = 50
BUSY: Final = 51
UNAVAILABLE: Final = 52
UNWILLING: Final = 53

_SEQUENCE: Final = 0x30


class LdapWireError(Exception):
    """What came is no LDAP, or more of it than is taken."""


class _Strict(pureber.BERDecoderContext):  # type: ignore[misc]
    """Refuses what it does not know; ldaptor's own prints it and reads on."""

    def lookup_id(self, id: int) -> Any:
        known = super().lookup_id(id)
        if known is None:
            raise LdapWireError("an element that LDAP does not have")
        return known


_DECODER: Final = pureldap.LDAPBERDecoderContext_TopLevel(
    inherit=pureldap.LDAPBERDecoderContext_LDAPMessage(
        fallback=pureldap.LDAPBERDecoderContext(fallback=_Strict()),
        inherit=pureldap.LDAPBERDecoderContext(fallback=_Strict()),
    )
)


@frozen
class Message:
    """One message: its number, ldaptor's operation, its controls by their names, and how many bytes it had.

    Of a control, whether it is critical, and its value.
    """

    id: int
    operation: Any
    controls: Mapping[bytes, tuple[bool, bytes]]
    size: int


class Messages:
    """Takes bytes as they come, and gives the messages in them; none may be longer than ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole now. Raises ``LdapWireError``; nothing that comes after it can be read."""
        self._buffer += data
        while (size := self._size()) is not None and len(self._buffer) >= size:
            whole = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield _decoded(whole)

    def _size(self) -> int | None:
        """Of the message at the beginning, header and all; None if that cannot be told yet."""
        buffer = self._buffer
        if buffer and buffer[0] != _SEQUENCE:
            raise LdapWireError("no LDAP")
        if len(buffer) < 2:
            return None
        size, header = buffer[1], 2
        if size & 0x80:
            header += size & 0x7F
            if not 2 < header <= 6:
                raise LdapWireError("a length that LDAP does not have")
            if len(buffer) < header:
                return None
            size = int.from_bytes(buffer[2:header], "big")
        if size > self._limit:
            raise LdapWireError(f"a message of more than {self._limit} bytes")
        return header + size


def _decoded(whole: bytes) -> Message:
    try:
        message, _ = pureber.berDecodeObject(_DECODER, whole)
        controls = {kind: (bool(critical), value or b"") for kind, critical, value in message.controls or ()}
        if not isinstance(message.id, int):
            raise LdapWireError("a message without a number")
        return Message(message.id, message.value, controls, len(whole))
    except LdapWireError:
        raise
    except Exception as error:
        # Ldaptor checks by assertions and by taking things apart: whatever goes wrong there, it is not LDAP.
        raise LdapWireError(f"a message that cannot be read ({type(error).__name__})") from error


def encoded(id: int, operation: Any, controls: list[tuple[bytes, bool, bytes]] | None = None) -> bytes:
    wire: bytes = pureldap.LDAPMessage(operation, id=id, controls=controls or None).toWire()
    return wire


def page_control(size: int, cookie: bytes, critical: bool = False) -> tuple[bytes, bool, bytes]:
    value = pureber.BERSequence([pureber.BERInteger(size), pureber.BEROctetString(cookie)])
    return PAGED_RESULTS, critical, value.toWire()


def read_page_control(value: bytes) -> tuple[int, bytes]:
    """Size and cookie. Raises ``LdapWireError``."""
    try:
        (sequence,) = pureber.berDecodeMultiple(value, _Strict())
        size, cookie = sequence
        return int(size.value), bytes(cookie.value)
    except LdapWireError:
        raise
    except Exception as error:
        raise LdapWireError("a page that cannot be read") from error
