"""LDAP filters: read from the text that administrators write (RFC 4515), and built of values.

What is built needs no escaping: there is no text in which a value could mean something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ldaptor.protocols import pureldap

#: Deeper ones nobody writes.
DEPTH: Final = 32

_ITEM = re.compile(r"([A-Za-z][A-Za-z0-9;-]*|[0-9]+(?:\.[0-9]+)*)([~<>]?=)([^()]*)")
_ESCAPED = re.compile(rb"\\([0-9A-Fa-f]{2})")


class FilterError(ValueError):
    """No filter; the text says where it ends to be one."""


def read_filter(text: str) -> Any:
    """Ldaptor's filter. Raises ``FilterError``."""
    found, end = _filter(text.strip(), 0, DEPTH)
    if end != len(text.strip()):
        raise FilterError(f"no filter from its {end + 1}. character on")
    return found


def _filter(text: str, at: int, depth: int) -> tuple[Any, int]:
    if text[at : at + 1] != "(" or depth == 0:
        raise FilterError(f"no filter from its {at + 1}. character on; `(` would be right there")
    sign = text[at + 1 : at + 2]
    if sign in ("&", "|"):
        parts, at = [], at + 2
        while text[at : at + 1] == "(":
            part, at = _filter(text, at, depth - 1)
            parts.append(part)
        found = all_of(parts) if sign == "&" else any_of(parts)
        fits = bool(parts)
    elif sign == "!":
        part, at = _filter(text, at + 2, depth - 1)
        found, fits = pureldap.LDAPFilter_not(part), True
    else:
        item = _ITEM.match(text, at + 1)
        fits = item is not None
        if item is not None:
            found, at = _item(*item.groups()), item.end()
    if not fits or text[at : at + 1] != ")":
        raise FilterError(
            f"no filter from its {at + 1}. character on; such as (objectClass=person) would be right"
        )
    return found, at + 1


def _item(attribute: str, sign: str, value: str) -> Any:
    if sign == "=" and value == "*":
        return present(attribute)
    if sign == "=" and "*" in value:
        first, *within, last = value.split("*")
        parts: list[Any] = [pureldap.LDAPFilter_substrings_initial(_value(first))] if first else []
        parts += (pureldap.LDAPFilter_substrings_any(_value(each)) for each in within if each)
        parts += [pureldap.LDAPFilter_substrings_final(_value(last))] if last else []
        return substrings(attribute, parts) if parts else present(attribute)
    kinds = {
        "=": pureldap.LDAPFilter_equalityMatch,
        "~=": pureldap.LDAPFilter_approxMatch,
        ">=": pureldap.LDAPFilter_greaterOrEqual,
        "<=": pureldap.LDAPFilter_lessOrEqual,
    }
    return _compared(kinds[sign], attribute, _value(value))


def _value(text: str) -> bytes:
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode())


def equal(attribute: str, value: bytes) -> Any:
    return _compared(pureldap.LDAPFilter_equalityMatch, attribute, value)


def at_least(attribute: str, value: str) -> Any:
    return _compared(pureldap.LDAPFilter_greaterOrEqual, attribute, value.encode())


def contains(attribute: str, *parts: str) -> Any:
    """All the parts, in this order, with whatever before, between and behind them."""
    return substrings(attribute, [pureldap.LDAPFilter_substrings_any(part) for part in parts])


def ends_with(attribute: str, text: str) -> Any:
    return substrings(attribute, [pureldap.LDAPFilter_substrings_final(text)])


def substrings(attribute: str, parts: Sequence[Any]) -> Any:
    return pureldap.LDAPFilter_substrings(type=attribute, substrings=list(parts))


def present(attribute: str) -> Any:
    return pureldap.LDAPFilter_present(attribute)


def all_of(filters: Iterable[Any]) -> Any:
    return pureldap.LDAPFilter_and(list(filters))


def any_of(filters: Iterable[Any]) -> Any:
    return pureldap.LDAPFilter_or(list(filters))


def _compared(kind: Any, attribute: str, value: bytes) -> Any:
    return kind(
        attributeDesc=pureldap.LDAPAttributeDescription(attribute),
        assertionValue=pureldap.LDAPAssertionValue(value),
    )
