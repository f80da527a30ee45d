"""LDAP search filters as phones send them (RFC 4511, 4.5.1): what they say of a contact, and what to begin with.

Pure. A phone's letters mean a word of the name, and its digits any form of a number, whatever the attribute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen
from ldaptor.protocols import pureldap

from cti.index.file import sort_key
from cti.phonebook.book import NO_HINT, Contact, Hint, forms

#: What everybody in the book is to a phone.
OBJECT_CLASSES: Final = ("top", "person", "organizationalPerson", "inetOrgPerson")
#: Deeper ones are no phone's.
DEPTH: Final = 16

_NUMBERS: Final = frozenset(
    {
        "telephonenumber",
        "mobile",
        "homephone",
        "ipphone",
        "othertelephone",
        "pager",
        "facsimiletelephonenumber",
    }
)
_NAMES: Final = frozenset({"cn", "displayname", "name", "sn", "givenname", "gn", "surname", "commonname"})
_COMPANY: Final = frozenset({"o", "company", "organizationname"})


class FilterError(Exception):
    """A filter that is not understood; the text says what it has."""


@frozen
class Filter:
    """``fits``: whether a contact is meant; ``hint``: what the index finds by itself of it."""

    fits: Callable[[Contact], bool]
    hint: Hint = NO_HINT


def understood(asked: Any, depth: int = DEPTH) -> Filter:
    """What ldaptor's filter means. Raises ``FilterError``."""
    if depth == 0:
        raise FilterError("a filter in a filter, too often")
    match asked:
        case pureldap.LDAPFilter_and() | pureldap.LDAPFilter_or():
            parts = [understood(each, depth - 1) for each in asked]
            is_and = isinstance(asked, pureldap.LDAPFilter_and)
            return Filter(_all_of(parts) if is_and else _any_of(parts), _together(parts, is_and))
        case pureldap.LDAPFilter_not():
            part = understood(asked.value, depth - 1)
            return Filter(lambda contact: not part.fits(contact))
        case pureldap.LDAPFilter_present():
            return _present(_word(asked.value))
        case pureldap.LDAPFilter_equalityMatch() | pureldap.LDAPFilter_approxMatch():
            return _like(_word(asked.attributeDesc.value), [_text(asked.assertionValue.value)], True, True)
        case pureldap.LDAPFilter_substrings():
            return _substrings(asked)
    raise FilterError("a comparison that names and numbers do not have")


def _together(parts: Sequence[Filter], is_and: bool) -> Hint:
    hints = [part.hint for part in parts]
    narrow = {(hint.within, hint.digits) for hint in hints}
    if is_and:
        within = next((hint.within for hint in hints if hint.within), "")
        digits = next((hint.digits for hint in hints if hint.digits), "")
    else:
        # Only what is in all of them is in everybody who fits.
        within, digits = narrow.pop() if len(narrow) == 1 else ("", "")
    return Hint(
        tuple(dict.fromkeys(prefix for hint in hints for prefix in hint.prefixes)),
        tuple(dict.fromkeys(number for hint in hints for number in hint.numbers)),
        within,
        digits,
    )


def _substrings(asked: Any) -> Filter:
    parts = [each for each in asked.substrings if _text(each.value)]
    begins = bool(parts) and isinstance(parts[0], pureldap.LDAPFilter_substrings_initial)
    ends = bool(parts) and isinstance(parts[-1], pureldap.LDAPFilter_substrings_final)
    return _like(_word(asked.type), [_text(each.value) for each in parts], begins, ends)


def _like(attribute: str, parts: Sequence[str], begins: bool, ends: bool) -> Filter:
    """The values of the attribute that have the parts in this order, at the beginning, at the end, or within."""
    if not parts:
        return _present(attribute)
    if attribute in _NUMBERS:
        digits = [_digits(part) for part in parts]
        if not all(digits):
            return Filter(_nobody)
        number = digits[0] if len(digits) == 1 else ""
        return Filter(
            lambda contact: any(
                _has(form, digits, begins, ends) for each in contact.numbers for form in forms(each)
            ),
            Hint(numbers=(number,) if number else (), digits=max(digits, key=len)),
        )
    wanted = [sort_key(part) for part in parts]
    if attribute in _NAMES or attribute in _COMPANY:
        # A phone that sends cn=wol* means Greta Wolff as well.
        return Filter(
            lambda contact: any(_has(value, wanted, begins, ends) for value in _values(contact, attribute)),
            Hint(prefixes=(wanted[0],) if begins else (), within=max(wanted, key=len))
            if attribute in _NAMES
            else NO_HINT,
        )
    # Everybody in the book is a person to a phone.
    return Filter(_everybody if attribute == "objectclass" else _nobody)


def _values(contact: Contact, attribute: str) -> Iterator[str]:
    if attribute in _COMPANY:
        yield from _tails(sort_key(contact.company))
    elif attribute in ("sn", "surname"):
        yield from contact.words[-1:]
    elif attribute in ("givenname", "gn"):
        yield from contact.words[:1]
    else:
        yield from _tails(sort_key(contact.name))


def _tails(text: str) -> Iterator[str]:
    """The text from each of its words on."""
    yield from (text[word.start() :] for word in re.finditer(r"\w+", text))


def _has(value: str, parts: Sequence[str], begins: bool, ends: bool) -> bool:
    place = 0
    for number, part in enumerate(parts):
        if ends and number == len(parts) - 1:
            if begins and number == 0:
                return value == part
            return value.endswith(part) and len(value) - len(part) >= place
        found = value.find(part, place)
        if found < 0 or (begins and number == 0 and found != 0):
            return False
        place = found + len(part)
    return True


def _present(attribute: str) -> Filter:
    having: Mapping[str, Callable[[Contact], bool]] = {
        **{name: lambda contact: bool(contact.e164s) for name in _NUMBERS - {"mobile"}},
        "mobile": lambda contact: any(number.mobile for number in contact.numbers),
        **dict.fromkeys(_NAMES, _everybody),
        **{name: lambda contact: bool(contact.company) for name in _COMPANY},
        "objectclass": _everybody,
    }
    return Filter(having.get(attribute, _nobody))


def _nobody(_contact: Contact) -> bool:
    return False


def _everybody(_contact: Contact) -> bool:
    return True


def _all_of(parts: Sequence[Filter]) -> Callable[[Contact], bool]:
    return lambda contact: all(part.fits(contact) for part in parts)


def _any_of(parts: Sequence[Filter]) -> Callable[[Contact], bool]:
    return lambda contact: any(part.fits(contact) for part in parts)


def _digits(text: str) -> str:
    plus = "+" if text.strip().startswith("+") else ""
    return plus + "".join(each for each in text if each.isdecimal() and each.isascii()) if text else ""


def _word(raw: Any) -> str:
    return _text(raw).partition(";")[0].strip().lower()


def _text(raw: Any) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
