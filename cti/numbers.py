"""Telephone numbers: what a trunk, a person or a CRM wrote becomes one E.164 key, or the reason why not.

Pure: no I/O. Whose number it is, and what to do with it, is for others.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from urllib.parse import unquote

import phonenumbers
from attrs import field, frozen
from phonenumbers import (
    PhoneMetadata,
    PhoneNumber,
    PhoneNumberFormat,
    PhoneNumberType,
    ValidationResult,
)

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
#: "anonymous.invalid"; analogue lines P (Telcordia GR-30); gateways and people say the others.
_WITHHELD_WORDS = frozenset(
    {
        "anonymous",
        "anonym",
        "anonymous.invalid",
        "restricted",
        "withheld",
        "number withheld",
        "private",
        "private number",
        "blocked",
        "no caller id",
        "unterdrückt",
        "p",
    }
)
#: ... and when nobody knows it: AGI says "unknown", AMI "<unknown>", and "asterisk" is the name that Asterisk
#: gives to itself; analogue lines say O, for "out of area".
_UNAVAILABLE_WORDS = frozenset(
    {
        "",
        "unknown",
        "unavailable",
        "not available",
        "out of area",
        "asterisk",
        "none",
        "null",
        "n/a",
        "unbekannt",
        "o",
        "-",
    }
)

_NAME_ADDR = re.compile(r"^[^<]*<\s*([^<>]+?)\s*>[^<>]*$")
_URI = re.compile(r"^(sips?|tel|callto):", re.IGNORECASE)
#: What people write around a number in a field for numbers.
_LABEL = re.compile(
    r"^(?:tele(?:fon|phone)?|tel|phone|mobile?|mob|handy|fax|büro|office|тел|моб)[\s.:]*[.:]\s*", re.I
)
_REMARK = re.compile(r"\s*[(\[][^()\[\]\d]*[^\W\d][^()\[\]\d]*[)\]]\s*$")
#: An extension that is dialled once the switchboard has answered: only the number before it is called.
_EXTENSION = re.compile(
    r"(?:\s*[;,]?\s*(?:e?xt(?:ension|n)?|доб(?:авочный)?|внутр?|poste|anexo|ramal|toestel|wew(?:n)?|interno|int|x)"
    r"\s*[.:=]*\s*|[,;]+|\s*[pw#]\s*)(\d{1,8})\s*#?$",
    re.I,
)
#: ... and one that is dialled with the number, in the place of the 0 of the switchboard.
_DIRECT = re.compile(
    r"[\s,/-]*(?<![A-Za-z])(?:dw|durchwahl|kl|klappe|nst|nebenstelle)\s*[.:]*\s*[-–]?\s*(\d{1,6})$", re.I
)
_TRUNK_ZERO = re.compile(r"(?<=[0-9 ])[(\[]\s*0\s*[)\]]")
#: Until 2019, Mexico's mobiles had a 1 before them from abroad, and all numbers prefixes at home.
_OLD_MEXICAN = re.compile(r"^(?:\+52)?(?:1|01|044|045)(\d{10})$")
_OUTSIDE_LINE_PAUSE = re.compile(r"^([09])\s*,+")
_VANITY = re.compile(r"^\+?[\d\s().\-/]*\d{3}[\d\s().\-/]*[A-Za-z][A-Za-z\d\s().\-/]*$")
#: The numbers that companies have spelled in letters; elsewhere a word behind a number is a remark.
_SPELLED_TYPES = frozenset(
    {
        PhoneNumberType.TOLL_FREE,
        PhoneNumberType.SHARED_COST,
        PhoneNumberType.PREMIUM_RATE,
        PhoneNumberType.PERSONAL_NUMBER,
        PhoneNumberType.UAN,
    }
)
#: The digits that companies dial first for an outside line; some systems and people leave them in a number.
_OUTSIDE_LINE = ("0", "9")
#: Fewest digits of a number with its country code where somebody left out the + or the 00.
_BARE_DIGITS = 10

#: Where the digits behind a company's number are its own to give away, by country code: in Germany and Austria
#: a number has no fixed length, so that nobody else's begins with another's. Other types have no extensions.
_STEM_TYPES: Mapping[int, frozenset[int]] = {
    49: frozenset({PhoneNumberType.FIXED_LINE}),
    # Austria's 05 numbers belong to companies with several sites; the library takes the longer ones for VoIP.
    43: frozenset({PhoneNumberType.FIXED_LINE, PhoneNumberType.UAN, PhoneNumberType.VOIP}),
}
_STEM_DIGITS = 2
_EXTENSION_DIGITS = 5
#: How a record says that its number is the switchboard's: a part of its own of nothing but zeros.
_SWITCHBOARD = re.compile(
    r"\d\s*(?:[-–—‐‑/]|\bdw\b\.?|\bdurchwahl\b|\bkl(?:appe)?\b\.?)\s*(0{1,3})\s*$", re.I
)
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
    with its ``+``, and there is one exactly if ``kind`` is ``e164``. ``extension``: digits that are to be dialled
    once somebody has answered there. ``internal``: the digits of an internal number.
    """

    raw: str
    kind: NumberKind
    e164: str | None = None
    extension: str | None = None
    internal: str | None = None

    @property
    def dialable(self) -> str | None:
        """The key, which can be called back: E.164, or an internal number; None where there is none."""
        return (self.internal or self.raw) if self.kind is NumberKind.INTERNAL else self.e164


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

    def for_region(self, region: str) -> NumberPlan:
        """The plan of somebody who writes the national numbers of ``region``. Raises ``ValueError`` for none."""
        return self if region == self.region else _plan(region, self.internal_digits)

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
        text, parameters = _user_part(kept if len(raw) <= RAW_LIMIT else _CONTROLS.sub(" ", raw).strip())
        word = text.strip("<>() ").lower()
        if word in _WITHHELD_WORDS or parameters.get("@") == "anonymous.invalid":
            return Number(kept, NumberKind.WITHHELD)
        if word in _UNAVAILABLE_WORDS:
            return Number(kept, NumberKind.UNAVAILABLE)
        context = parameters.get("phone-context", "")
        if context.startswith("+") and not text.startswith("+"):
            text = context + text
        extension = parameters.get("ext")
        # Also keeps what is searched below from being searched over and over in a row of spaces.
        text = _REMARK.sub("", _LABEL.sub("", _OUTSIDE_LINE_PAUSE.sub(r"\1 ", " ".join(text.split()))))
        if (direct := _DIRECT.search(text)) is not None:
            if before := text[: direct.start()].strip():
                return self._with_direct(kept, before, direct[1])
            text = direct[1]
        if (found := _EXTENSION.search(text)) is not None:
            # Alone, it is an internal number.
            if before := text[: found.start()].strip():
                text, extension = before, found[1]
            elif found[0].lstrip()[0].isalpha():
                text = found[1]
        return self._read(kept, text, extension)

    def _read(self, kept: str, text: str, extension: str | None) -> Number:
        plus, digits = _plus_and_digits(text)
        if not digits:
            e164 = self._spelled(text)
            return Number(kept, NumberKind.E164 if e164 else NumberKind.UNKNOWN, e164, e164 and extension)
        if len(digits) > _DIGITS_LIMIT:
            return Number(kept, NumberKind.UNKNOWN)
        e164 = self._without_trunk_zero(text)
        if e164 is None:
            e164 = self._international(digits) if plus else self._as_dialled(digits)
        if e164 is not None:
            return Number(kept, NumberKind.E164, e164, extension)
        if not plus and 2 <= len(digits) <= self.internal_digits:
            return Number(kept, NumberKind.INTERNAL, internal=digits)
        return Number(kept, NumberKind.UNKNOWN)

    def _with_direct(self, kept: str, text: str, direct: str) -> Number:
        """`040 66969-0 DW 27` is 040 66969-27, where numbers are made so; elsewhere 27 is an extension."""
        stem = re.sub(r"[-–—‐‑/]\s*0+\s*$", "", text)
        whole = self._read(kept, f"{stem} {direct}", None)
        if whole.e164 is not None and stems(whole.e164):
            return whole
        return self._read(kept, text, direct)

    def _spelled(self, text: str) -> str | None:
        """A number in the letters of a telephone's keys, such as 1-201-JKL-0123 for 1-201-555-0123."""
        if sum(character.isalpha() for character in text) < 3 or not _VANITY.match(text):
            return None
        plus, digits = _plus_and_digits(phonenumbers.convert_alpha_characters_in_number(text))
        return _e164(plus + digits, None if plus else self.region, _is_spelled)

    def _without_trunk_zero(self, text: str) -> str | None:
        """The number in which (0) stands for what is left out from abroad."""
        without, count = _TRUNK_ZERO.subn(" ", text)
        if not count:
            return None
        plus, digits = _plus_and_digits(without)
        if not plus:
            digits = digits.removeprefix("00")
        return _e164(f"+{digits}", None, _is_valid)

    def _international(self, digits: str) -> str | None:
        # Number ranges are opened faster than libraries are renewed: who wrote the whole number is believed
        # if it has a possible length.
        return _e164(f"+{digits}", None, _is_possible)

    def _as_dialled(self, digits: str) -> str | None:
        trunk = self._trunk_prefix
        short = len(digits) <= self.internal_digits
        if short and trunk and not digits.startswith(trunk):
            # 30123 is a valid subscriber in Berlin, but only after a 0; without it, it is a colleague.
            return None
        if e164 := self._certainly_dialled(digits):
            return e164
        for prefix in () if short else _OUTSIDE_LINE:
            rest = digits.removeprefix(prefix)
            # Behind the outside line, too, an area code is known by its trunk prefix.
            told = not trunk or rest.startswith((trunk, "00", "011"))
            if rest != digits and told and (e164 := self._certainly_dialled(rest)):
                return e164
        if digits.startswith("00") or (trunk and digits.startswith(trunk)):
            return None if short else _e164(digits, self.region, _is_possible)
        # Trunks leave out the + of foreign numbers, too.
        return _e164(f"+{digits}", None, _is_valid) if len(digits) >= _BARE_DIGITS else None

    def _certainly_dialled(self, digits: str) -> str | None:
        """What is a valid number, as one may dial it from here."""
        trunk = self._trunk_prefix
        if digits.startswith("00") and (e164 := _e164(f"+{digits[2:]}", None, _is_valid)):
            # Trunks write 00 also where people dial something else, such as 011.
            return e164
        # libphonenumber prefers the national reading: to it, 49 152 28817386 is a number in the area 04915,
        # which nobody would write without its 0.
        bare = trunk and digits.startswith(self._country_code) and not digits.startswith(trunk)
        if bare and (e164 := _e164(f"+{digits}", None, _is_valid)):
            return e164
        if e164 := _e164(digits, self.region, _is_valid):
            return e164
        # ... and contacts that come from North America have 011.
        return _e164(f"+{digits[3:]}", None, _is_valid) if digits.startswith("011") else None


@functools.lru_cache(maxsize=16)
def _plan(region: str, internal_digits: int) -> NumberPlan:
    return NumberPlan(region, internal_digits)


def stems(e164: str, own: Collection[str] = ()) -> tuple[str, ...]:
    """The numbers without extension that ``e164`` may be an extension of, longest first.

    Only where a company's number tells all of its extensions (see ``_STEM_TYPES``), and no mobile or service number
    has any. A stem of one of the ``own`` numbers is nobody else's, and left out. Of a number that is not in E.164
    form there are none.
    """
    try:
        number = _from_e164(e164)
    except ValueError:
        return ()
    types = _STEM_TYPES.get(number.country_code or 0)
    if types is None or phonenumbers.number_type(number) not in types:
        return ()
    # Libphonenumber divides only geographical numbers; in Austria's others, the 5 alone is common to all.
    area = phonenumbers.length_of_geographical_area_code(number) or 1
    shortest = len(f"+{number.country_code}") + area + _STEM_DIGITS
    found = (
        e164[:end] for end in range(len(e164) - 1, len(e164) - 1 - _EXTENSION_DIGITS, -1) if end >= shortest
    )
    return tuple(stem for stem in found if not any(each.startswith(stem) for each in own))


def switchboards(stem: str) -> tuple[str, ...]:
    """The keys of what may be written as the switchboard of this stem: with 0, 00 or 000."""
    return (f"{stem}0", f"{stem}00", f"{stem}000")


def stem_of_switchboard(raw: str, e164: str) -> str | None:
    """The stem of a number that somebody wrote as a switchboard's, such as ``040 66969-0``; else None.

    The ``-0`` has to stand there: 040 669690 may be one line, and 040 669697 that of the neighbours.
    """
    found = _SWITCHBOARD.search(raw)
    if found is None or not e164.endswith(found[1]):
        return None
    stem = e164[: -len(found[1])]
    return stem if stem in stems(e164) else None


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


def as_dialled(e164: str, region: str) -> str:
    """The digits that a telephone in ``region`` dials for the number: national at home, else with 00 or the like.

    Raises ``ValueError`` if ``e164`` is not in that form.
    """
    number = _from_e164(e164)
    written = phonenumbers.format_out_of_country_calling_number(number, region)
    return "".join(each for each in written if each.isdecimal())


def country_and_rest(e164: str) -> tuple[str, str]:
    """The country code and the national significant number. Raises ``ValueError`` if ``e164`` is not in that form."""
    number = _from_e164(e164)
    return str(number.country_code), phonenumbers.national_significant_number(number)


@functools.lru_cache(maxsize=_CACHED_NUMBERS)
def country(e164: str) -> str | None:
    """Whose number it is, two letters of ISO 3166; None where it belongs to no country, or does not tell.

    Several countries share +1, +7, +44 and others: one in a range that nobody knows yet does not tell. Raises
    ``ValueError`` if ``e164`` is not in that form.
    """
    region = phonenumbers.region_code_for_number(_from_e164(e164))
    return region if region is not None and region.isalpha() else None


def is_mobile(e164: str) -> bool:
    """Whether the number can only be a mobile's. Raises ``ValueError`` if ``e164`` is not in that form."""
    return phonenumbers.number_type(_from_e164(e164)) == PhoneNumberType.MOBILE


def mask(text: str) -> str:
    """A number as a log may show it: its beginning and last two digits, ``+4915…86``.

    Of numbers with less than ten digits only the last two stay, of extensions and other text nothing.
    """
    text, _ = _user_part(text[:INPUT_LIMIT])
    plus, digits = _plus_and_digits(text)
    if len(digits) < 7:
        return text if text.lower() in _WITHHELD_WORDS | _UNAVAILABLE_WORDS else "…"
    if len(digits) < 10:
        return f"…{digits[-2:]}"
    return f"{plus}{digits[:4]}…{digits[-2:]}"


def _cleaned(raw: str) -> str:
    return _CONTROLS.sub(" ", raw[:RAW_LIMIT]).strip()


def _user_part(text: str) -> tuple[str, dict[str, str]]:
    """The number in a ``tel:`` or ``sip:`` URI (RFC 3966; RFC 3261, 19.1.1), ``<>`` or not, and its parameters.

    Of what is no URI, all of the text. The host of a SIP URI is the parameter ``@``.
    """
    if (found := _NAME_ADDR.match(text)) is not None and found[1].lower() not in _UNAVAILABLE_WORDS:
        text = found[1]
    parameters: dict[str, str] = {}
    if (scheme := _URI.match(text)) is not None:
        text = unquote(text[scheme.end() :].removeprefix("//")).split("?", 1)[0]
        user, _, host = text.partition("@")
        # In a SIP URI, parameters of the number stand before the host, and those behind it are the URI's.
        text, *rest = user.split(";")
        for each in rest:
            name, _, value = each.partition("=")
            parameters.setdefault(name.strip().lower(), value.strip())
        # A SIP user may have a password.
        text = text.partition(":")[0] if host else text
        parameters["@"] = host.partition(";")[0].partition(":")[0].lower()
    return text.split("@", 1)[0].strip(), parameters


def _plus_and_digits(text: str) -> tuple[str, str]:
    """``+`` or nothing, and the digits; no digits if anything is there that does not belong into a number."""
    plus, digits = "", []
    for character in text:
        if "0" <= character <= "9":
            digits.append(character)
        elif character in "+\uff0b" and (not digits or "".join(digits) in _OUTSIDE_LINE):
            plus, digits = "+", []
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
    if region == "MX" or text.startswith("+52"):
        text = _OLD_MEXICAN.sub(r"+52\1", text)
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not believable(number):
        return None
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    # Of many zeros in a row the library takes one away each time; a key has to be its own key.
    return _e164(e164, None, believable) if number.italian_leading_zero and e164 != text else e164


def _is_possible(number: PhoneNumber) -> bool:
    return (
        phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE
        # Numbers without an area code, such as Canada's 310-1234.
        or phonenumbers.is_valid_number(number)
    )


def _is_valid(number: PhoneNumber) -> bool:
    return phonenumbers.is_valid_number(number)


def _is_spelled(number: PhoneNumber) -> bool:
    # North American numbers have one length, which no remark fits into.
    return _is_valid(number) and (
        number.country_code == 1 or phonenumbers.number_type(number) in _SPELLED_TYPES
    )


def _from_e164(e164: str) -> PhoneNumber:
    try:
        if not e164.startswith("+"):
            raise ValueError("a number in E.164 form begins with + and its country code")
        return phonenumbers.parse(e164, None)
    except phonenumbers.NumberParseException as error:
        raise ValueError("not a number in E.164 form, such as +4915228817386") from error
