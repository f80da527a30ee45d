"""Telephone numbers: what a trunk, a person or a CRM wrote becomes one E.164 key, or the reason why not.

Pure: no I/O. Whose number it is, and what to do with it, is for others.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from urllib.parse import unquote

import phonenumbers
from attrs import field, frozen
from phonenumbers import PhoneMetadata, PhoneNumber, PhoneNumberFormat, ValidationResult

#: Characters of the raw number that are kept for the log. No number is longer; a SIP URI may be, and is cut.
RAW_LIMIT = 64
#: Characters that are looked at. What is longer is not a number, and is not searched for one.
INPUT_LIMIT = 256
#: E.164 allows 15 digits, some countries had more; with prefixes, nothing sensible has more than this.
_DIGITS_LIMIT = 22
_CACHED_NUMBERS = 4096

#: Presentation, bits 6 and 7 of octet 3a in Q.931; Asterisk passes the octet on as ``agi_callingpres``
#: (callerid.h: AST_PRES_RESTRICTION 0x60). 32 to 35 are prohibited, 67 is "number not available".
_PRESENTATION_MASK = 0x60
_PRESENTATION_RESTRICTED = 0x20
_PRESENTATION_UNAVAILABLE = 0x40

#: What stands in the place of a number when the caller forbade it. RFC 3323 says "Anonymous" and
#: "anonymous.invalid"; gateways say the others.
_WITHHELD_WORDS = frozenset({"anonymous", "restricted", "withheld", "private", "blocked"})
#: ... and when nobody knows it: AGI says "unknown", AMI "<unknown>", and "asterisk" is the name that Asterisk
#: gives to itself.
_UNAVAILABLE_WORDS = frozenset({"", "unknown", "unavailable", "asterisk", "none", "null", "n/a"})

_NAME_ADDR = re.compile(r"^[^<]*<\s*([^<>]+?)\s*>[^<>]*$")
_URI = re.compile(r"^(?:sips?|tel|callto):", re.IGNORECASE)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


class NumberKind(StrEnum):
    """What kind of thing stands where a number should be."""

    E164 = "e164"
    INTERNAL = "internal"
    WITHHELD = "withheld"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


@frozen
class Number:
    """A number as it came, and what it is.

    ``raw`` is what came, without control characters, at most ``RAW_LIMIT`` characters. ``e164`` is the key
    with its ``+``, and there is one exactly if ``kind`` is ``e164``.
    """

    raw: str
    kind: NumberKind
    e164: str | None = None

    @property
    def dialable(self) -> str | None:
        """The number that can be called back: E.164, or an extension; None where there is none."""
        return self.raw if self.kind is NumberKind.INTERNAL else self.e164


def _region(_: object, __: object, value: str) -> None:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f"{value!r} is no region; write the two letters of ISO 3166, such as DE, GB or SI")


def _digits_of_an_extension(_: object, __: object, value: int) -> None:
    if not 0 <= value <= 8:
        raise ValueError(f"internal numbers of {value} digits; write 0 (there are none) to 8")


@frozen
class NumberPlan:
    """How numbers are written where this server stands.

    ``region``: the country (ISO 3166, two letters) whose national forms are understood. ``internal_digits``:
    the longest extension; what is not longer and not a public number is ``internal``, from two digits up.
    """

    region: str = field(validator=_region)
    internal_digits: int = field(default=5, validator=_digits_of_an_extension)
    _trunk_prefix: str = field(init=False, eq=False, repr=False)
    _country_code: str = field(init=False, eq=False, repr=False)
    _cached: Callable[[str], Number] = field(init=False, eq=False, repr=False)

    @_trunk_prefix.default
    def _find_trunk_prefix(self) -> str:
        metadata = PhoneMetadata.metadata_for_region(self.region)
        return (metadata.national_prefix if metadata is not None else None) or ""

    @_country_code.default
    def _find_country_code(self) -> str:
        return str(phonenumbers.country_code_for_region(self.region))

    @_cached.default
    def _make_cache(self) -> Callable[[str], Number]:
        return functools.lru_cache(maxsize=_CACHED_NUMBERS)(self._parse)

    def parse(self, raw: str | None, *, presentation: int | None = None) -> Number:
        """What ``raw`` is, of anything that a trunk, a phone, a person or a CRM may send; never raises.

        ``presentation`` is Asterisk's ``agi_callingpres``. A number that arrived although its caller forbade
        to show it is ``withheld`` and is not kept: everything behind this function may show what it has.
        """
        if presentation:
            shown = presentation & _PRESENTATION_MASK
            if shown == _PRESENTATION_RESTRICTED:
                return Number("", NumberKind.WITHHELD)
            if shown == _PRESENTATION_UNAVAILABLE:
                return Number(_cleaned(raw or ""), NumberKind.UNAVAILABLE)
        if not raw:
            return Number("", NumberKind.UNAVAILABLE)
        if len(raw) > INPUT_LIMIT:
            return Number(_cleaned(raw), NumberKind.UNKNOWN)
        return self._cached(raw)

    def display(self, number: str | None) -> str | None:
        """A number as people here write it (see `display`); what is not in E.164 form, as it is."""
        if number is None or not number.startswith("+"):
            return number
        try:
            return display(number, self.region)
        except ValueError:
            return number

    def warm_up(self) -> None:
        """Load every country's table now; the first number of each would otherwise pay for it on a call."""
        for region in phonenumbers.SUPPORTED_REGIONS:
            PhoneMetadata.metadata_for_region(region)
        # Patterns are compiled at the first use of each: those of home, and what nearly every call needs.
        for example in (phonenumbers.example_number(self.region), phonenumbers.example_number("US")):
            if example is not None:
                self._parse(phonenumbers.format_number(example, PhoneNumberFormat.E164))
                self._parse(phonenumbers.format_number(example, PhoneNumberFormat.NATIONAL))

    def _parse(self, raw: str) -> Number:
        kept = _cleaned(raw)
        text = _user_part(kept if len(raw) <= RAW_LIMIT else _CONTROLS.sub(" ", raw).strip())
        word = text.strip("<>() ").lower()
        if word in _WITHHELD_WORDS:
            return Number(kept, NumberKind.WITHHELD)
        if word in _UNAVAILABLE_WORDS:
            return Number(kept, NumberKind.UNAVAILABLE)
        plus, digits = _plus_and_digits(text)
        if not digits or len(digits) > _DIGITS_LIMIT:
            return Number(kept, NumberKind.UNKNOWN)
        e164 = self._international(digits) if plus else self._as_dialled(digits)
        if e164 is not None:
            return Number(kept, NumberKind.E164, e164)
        if not plus and 2 <= len(digits) <= self.internal_digits:
            return Number(kept, NumberKind.INTERNAL)
        return Number(kept, NumberKind.UNKNOWN)

    def _international(self, digits: str) -> str | None:
        # Number ranges are opened faster than libraries are renewed: who wrote the whole number is believed
        # if it has a possible length.
        return _e164(f"+{digits}", None, _is_possible)

    def _as_dialled(self, digits: str) -> str | None:
        trunk = self._trunk_prefix
        if len(digits) <= self.internal_digits and trunk and not digits.startswith(trunk):
            # 30123 is a valid subscriber in Berlin, but only after a 0; without it, it is a colleague.
            return None
        if digits.startswith("00") and (e164 := _e164(f"+{digits[2:]}", None, _is_valid)):
            # Trunks write 00 also where people dial something else, such as 011.
            return e164
        # libphonenumber prefers the national reading: to it, 49 152 28817386 is a number in the area 04915,
        # which nobody would write without its 0.
        bare = trunk and digits.startswith(self._country_code) and not digits.startswith(trunk)
        if bare and (e164 := _e164(f"+{digits}", None, _is_valid)):
            return e164
        explicit = digits.startswith("00") or bool(trunk and digits.startswith(trunk))
        short = len(digits) <= self.internal_digits
        return _e164(digits, self.region, _is_possible if explicit and not short else _is_valid)


def spellings(e164: str, region: str) -> tuple[str, ...]:
    """The forms, digits only but for the ``+``, in which a trunk in ``region`` may send this number.

    With ``+``, without, after the international prefix, and for a number of the region's own country after
    its trunk prefix. The E.164 form comes first. Raises ``ValueError`` if ``e164`` is not in that form.
    """
    number = _from_e164(e164)
    metadata = PhoneMetadata.metadata_for_region(region)
    forms = [e164, e164[1:], f"00{e164[1:]}"]
    if metadata is not None:
        prefix = metadata.preferred_international_prefix or metadata.international_prefix or ""
        if prefix.isdecimal():
            forms.append(prefix + e164[1:])
        if number.country_code == metadata.country_code:
            national = phonenumbers.national_significant_number(number)
            trunk = metadata.national_prefix or ""
            forms.append(trunk + national)
            if trunk == str(number.country_code):
                # In North America the 1 is both, and is left out as often as not.
                forms.append(national)
    return tuple(dict.fromkeys(forms))


def display(e164: str, region: str) -> str:
    """The number as people of ``region`` write it: national form for their own country, else international.

    Raises ``ValueError`` if ``e164`` is not in that form.
    """
    number = _from_e164(e164)
    at_home = number.country_code == phonenumbers.country_code_for_region(region)
    return phonenumbers.format_number(
        number, PhoneNumberFormat.NATIONAL if at_home else PhoneNumberFormat.INTERNATIONAL
    )


def mask(text: str) -> str:
    """A number as a log may show it: its beginning and last two digits, ``+4915…86``.

    Of numbers with less than ten digits only the last two stay, of extensions and other text nothing.
    """
    text = _user_part(text[:INPUT_LIMIT])
    plus, digits = _plus_and_digits(text)
    if len(digits) < 7:
        return text if text.lower() in _WITHHELD_WORDS | _UNAVAILABLE_WORDS else "…"
    if len(digits) < 10:
        return f"…{digits[-2:]}"
    return f"{plus}{digits[:4]}…{digits[-2:]}"


def _cleaned(raw: str) -> str:
    return _CONTROLS.sub(" ", raw[:RAW_LIMIT]).strip()


def _user_part(text: str) -> str:
    """The number in a ``tel:`` or ``sip:`` URI (RFC 3966; RFC 3261, 19.1.1), ``<>`` or not; else the text."""
    if (found := _NAME_ADDR.match(text)) is not None and found[1].lower() not in _UNAVAILABLE_WORDS:
        text = found[1]
    if (scheme := _URI.match(text)) is not None:
        text = unquote(text[scheme.end() :].removeprefix("//"))
        text = text.split(";", 1)[0].split("?", 1)[0]
    return text.split("@", 1)[0].strip()


def _plus_and_digits(text: str) -> tuple[str, str]:
    """``+`` or nothing, and the digits; no digits if anything is there that does not belong into a number."""
    plus, digits = "", []
    for character in text:
        if "0" <= character <= "9":
            digits.append(character)
        elif character in "+\uff0b" and not digits:
            plus = "+"
        elif character in "()[]/.-\\_" or character.isspace():
            continue
        elif (value := unicodedata.digit(character, None)) is not None:
            digits.append(str(value))
        elif unicodedata.category(character) not in {"Pd", "Cf", "Zs"}:
            return "", ""
    if plus and digits and digits[0] == "0":
        # No country code begins with 0: a + that somebody put before a national or a 00 number.
        plus = ""
    return plus, "".join(digits)


def _e164(text: str, region: str | None, believable: Callable[[PhoneNumber], bool]) -> str | None:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(number, PhoneNumberFormat.E164) if believable(number) else None


def _is_possible(number: PhoneNumber) -> bool:
    return phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE


def _is_valid(number: PhoneNumber) -> bool:
    return phonenumbers.is_valid_number(number)


def _from_e164(e164: str) -> PhoneNumber:
    try:
        if not e164.startswith("+"):
            raise ValueError("a number in E.164 form begins with + and its country code")
        return phonenumbers.parse(e164, None)
    except phonenumbers.NumberParseException as error:
        raise ValueError("not a number in E.164 form, such as +4915228817386") from error
