"""Which numbers may be dialled on somebody's behalf, and how often: what keeps a stolen token from running up a bill.

Pure: who asks, and what is done with the number, is `control`'s. What people dial on their phones themselves is the
business of Asterisk and does not come by here.
"""

import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Final

import phonenumbers
from attrs import field, frozen
from phonenumbers import PhoneNumber, PhoneNumberType, shortnumberinfo

from cti.numbers import INPUT_LIMIT, NumberKind, NumberPlan

INTERNAL: Final = "internal"

#: What may be configured, by the types that libphonenumber knows. In some countries, such as the USA, a number does
#: not tell whether it is a mobile's: both classes are needed for it then.
CLASSES: Final[Mapping[str, frozenset[int]]] = {
    "fixed_line": frozenset({PhoneNumberType.FIXED_LINE}),
    "mobile": frozenset({PhoneNumberType.MOBILE}),
    "toll_free": frozenset({PhoneNumberType.TOLL_FREE}),
    "voip": frozenset({PhoneNumberType.VOIP}),
    "personal": frozenset({PhoneNumberType.PERSONAL_NUMBER}),
    "company": frozenset({PhoneNumberType.UAN}),
    INTERNAL: frozenset(),
}
DEFAULT_CLASSES: Final = ("fixed_line", "mobile", "toll_free", "voip", INTERNAL)

#: Refused by rule, whatever is configured.
NEVER: Final[Mapping[int, str]] = {
    PhoneNumberType.PREMIUM_RATE: "a premium-rate number",
    PhoneNumberType.SHARED_COST: "a shared-cost number",
    PhoneNumberType.PAGER: "a pager",
    PhoneNumberType.VOICEMAIL: "a network's voicemail",
    PhoneNumberType.UNKNOWN: "in no known range of telephone numbers",
}
#: Country codes that are no country's (ITU-T E.164, list of assigned codes): satellites, and services that are
#: charged as their operators please.
NOWHERE: Final[Mapping[int, str]] = {
    800: "an international freephone number",
    808: "an international shared-cost number",
    870: "a satellite number",
    878: "an international personal number",
    881: "a satellite number",
    882: "a number of an international network or satellite",
    883: "a number of an international network or satellite",
    888: "a number for disaster relief",
    979: "an international premium-rate number",
}
#: Known to networks and phones of other countries, too.
_EMERGENCY_EVERYWHERE: Final = frozenset({"112", "911", "999"})
#: The digits that companies dial first for an outside line.
_OUTSIDE_LINE: Final = ("0", "9", "00", "99")
#: What people put between digits; everything else that is no digit may mean something to a telephone system.
_BETWEEN: Final = "()[]/.-\\_ "


class NumberRefused(Exception):
    """This number is not dialled for anybody; the text says why, without the number."""


@frozen
class DiallingRules:
    """What may be dialled: numbers of these `classes` (of `CLASSES`) and `countries` (ISO 3166, two letters)."""

    plan: NumberPlan
    classes: Collection[str] = DEFAULT_CLASSES
    countries: Collection[str] = field()

    @countries.default
    def _own_country(self) -> Collection[str]:
        return (self.plan.region,)

    def check(self, raw: str) -> str:
        """The number to dial: E.164, or an internal number's digits. Raises `NumberRefused`.

        Only what comes out of here may be dialled, never what went in: what is checked is then what is dialled.
        """
        number = self.plan.parse(_only_a_number(raw))
        if number.e164 is not None:
            self._outside(phonenumbers.parse(number.e164, None))
            return number.e164
        if number.kind is not NumberKind.INTERNAL:
            raise NumberRefused(
                "this is no telephone number; one is written like +4915228817386, 0152 28817386, or 200 for an"
                " internal one"
            )
        return self._internal("".join(str(unicodedata.digit(each)) for each in number.raw if each.isdigit()))

    def _outside(self, number: PhoneNumber) -> None:
        nowhere = NOWHERE.get(number.country_code or 0)
        if nowhere is not None:
            raise NumberRefused(f"this is {nowhere}; such numbers are never dialled from here")
        kind = phonenumbers.number_type(number)
        if kind in NEVER:
            raise NumberRefused(f"this is {NEVER[kind]}; such numbers are never dialled from here")
        country = phonenumbers.region_code_for_number(number) or ""
        if self._is_emergency_of_a_town(number, country):
            raise NumberRefused(_EMERGENCY)
        wanted = _classes_of(kind)
        missing = [each for each in wanted if each not in self.classes]
        if missing:
            raise NumberRefused(
                f"numbers of the class {' or '.join(wanted)} are not dialled from here; call_control.classes lacks"
                f" {' and '.join(missing)}"
            )
        if country not in self.countries:
            raise NumberRefused(
                f"numbers in {country} are not dialled from here; call_control.countries has"
                f" {', '.join(sorted(self.countries))}"
            )

    def _is_emergency_of_a_town(self, number: PhoneNumber, country: str) -> bool:
        """Whether only an emergency number is left behind the area code: +49 30 110 is Berlin's police."""
        national = phonenumbers.national_significant_number(number)
        rest = national[phonenumbers.length_of_geographical_area_code(number) :]
        return rest != national and self._is_emergency(rest, country)

    def _internal(self, digits: str) -> str:
        region = self.plan.region
        if INTERNAL not in self.classes:
            raise NumberRefused(
                "internal numbers are not dialled from here; call_control.classes lacks internal"
            )
        for prefix in ("", *_OUTSIDE_LINE):
            if digits.startswith(prefix) and self._is_emergency(digits.removeprefix(prefix), region):
                raise NumberRefused(_EMERGENCY)
        if digits.startswith("0"):
            raise NumberRefused(
                "an internal number does not begin with 0, which is many a system's outside line"
            )
        short = PhoneNumber(
            country_code=int(phonenumbers.country_code_for_region(region)), national_number=int(digits)
        )
        # Where people send messages to codes of five digits, half of all extensions would be one.
        if shortnumberinfo.is_valid_short_number_for_region(
            short, region
        ) and not shortnumberinfo.is_sms_service_for_region(short, region):
            raise NumberRefused(
                f"this is a short code of {region}'s telephone networks, and no internal number"
            )
        return digits

    def _is_emergency(self, digits: str, country: str) -> bool:
        return digits in _EMERGENCY_EVERYWHERE or any(
            shortnumberinfo.is_emergency_number(digits, each) for each in {country, self.plan.region} if each
        )


class Allowance:
    """How often something may be done for each who asks: `limit` times in any 60 s, for the `size` seen last.

    A bucket of `limit` that fills up again evenly, so that no boundary of a minute lets twice as many pass.
    """

    def __init__(self, now: Callable[[], float], limit: int, *, size: int = 10_000) -> None:
        self._now = now
        self._limit = limit
        self._size = size
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, *who: str) -> float:
        """Count one for each of these; if one of them has had too many, for none: seconds to wait, else 0."""
        now = self._now()
        spent = {each: self._still_spent(each, now) for each in who}
        wait = max(spent.values()) + 1 - self._limit
        if wait > 0:
            return wait * 60 / self._limit
        for each, count in spent.items():
            self._spent[each] = (now, count + 1)
            self._spent.move_to_end(each)
            if len(self._spent) > self._size:
                self._spent.popitem(last=False)
        return 0.0

    def _still_spent(self, who: str, now: float) -> float:
        at, count = self._spent.get(who, (now, 0.0))
        # A wall clock set back gives nothing away, and takes nothing.
        return max(0.0, count - max(0.0, now - at) * self._limit / 60)


_EMERGENCY: Final = "this may reach an emergency service, which has to be called on the phone itself"


def _classes_of(kind: int) -> tuple[str, ...]:
    if kind == PhoneNumberType.FIXED_LINE_OR_MOBILE:
        return ("fixed_line", "mobile")
    return tuple(name for name, kinds in CLASSES.items() if kind in kinds)


def _only_a_number(raw: str) -> str:
    """`raw` if nothing in it can be more than a number to a telephone system: no name, URI, code or pause."""
    text = unicodedata.normalize("NFKC", raw[:INPUT_LIMIT]).strip()
    text = text[4:] if text[:4].lower() == "tel:" else text
    before, plus, after = text.partition("+")
    if plus and any(map(str.isdigit, before)):
        raise NumberRefused(_CHARACTERS)
    for character in before + after:
        between = character in _BETWEEN or unicodedata.category(character) in _INVISIBLE
        if not between and unicodedata.digit(character, None) is None:
            raise NumberRefused(_CHARACTERS)
    return text


_CHARACTERS: Final = (
    "only digits, spaces and ( ) / . - may stand in a number, and one + before it: no letters, codes with * or #,"
    " names or pauses"
)
#: Hyphens, spaces, and the marks of direction that come along when a number is copied from a page.
_INVISIBLE: Final = ("Pd", "Zs", "Cf")
