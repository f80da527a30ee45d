"""How a person shows in texts, JSON and files: their numbers in any written form, their names, their ids in CRMs.

Pure: finds them and writes without them. Where to look is said by `cti.store.personal` and `erasing`.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson
from attrs import field, frozen

from cti.numbers import country_and_rest

#: What stands in a text in the place of what was taken out.
GONE: Final = "[erased]"
#: Between two digits of a number as people write it.
_GAP: Final = r"[^0-9A-Za-z]{0,3}"
#: Without its area code a number is found by so many of its last digits; fewer are many other things.
_LAST_DIGITS: Final = 7
#: Shorter names, and those of one word, are many other things as well.
_SHORTEST_NAME: Final = 4
_NO_DIGITS: Final = bytes(set(range(256)) - set(b"0123456789"))
#: Between two words of a name; in addresses of pages, too.
_SPACE: Final = r"(?:[\s,_+]|%20)+"

#: What of a document about a call is kept: when, which service, whose work it was. All else is blanked.
KEPT: Final = frozenset(
    """
    seq type at id call pbx direction parent service agent agents outcome state attempt started queued ringing
    answered ended duration talk wait wrap_up rule mode disposition hangup_cause from_kind changed why action adapter
    by
    """.split()  # noqa: SIM905 - read as a text
)
#: Who reads these knows that there may be none.
_MAY_BE_NULL: Final = ("from", "to", "e164", "url", "owner")


@frozen
class Subject:
    """Whom it is about: numbers (E.164, or internal), parties as (adapter, id), and names."""

    numbers: frozenset[str] = frozenset()
    parties: frozenset[tuple[str, str]] = frozenset()
    names: frozenset[str] = frozenset()

    def as_json(self) -> dict[str, Any]:
        return {
            "numbers": sorted(self.numbers),
            "parties": sorted(map(list, self.parties)),
            "names": sorted(self.names),
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> "Subject":
        return cls(
            frozenset(written["numbers"]),
            frozenset((adapter, id) for adapter, id in written["parties"]),
            frozenset(written["names"]),
        )

    def called(self, names: Collection[str]) -> "Subject":
        """The same, with names that were found."""
        return Subject(self.numbers, self.parties, self.names | frozenset(names))


@frozen
class Traces:
    """Finds a person, and writes without them."""

    subject: Subject
    _number: re.Pattern[str] | None = field(init=False, repr=False)
    _name: re.Pattern[str] | None = field(init=False, repr=False)

    @_number.default
    def _make_number(self) -> re.Pattern[str] | None:
        forms = [_forms(number) for number in sorted(self.subject.numbers) if number.startswith("+")]
        return re.compile("|".join(forms)) if forms else None

    @_name.default
    def _make_name(self) -> re.Pattern[str] | None:
        forms = [form for name in sorted(self.subject.names) for form in _spelled(name)]
        return re.compile("|".join(dict.fromkeys(forms)), re.IGNORECASE) if forms else None

    # The patterns read some 2 MB a second, a log has gigabytes: almost all of it is told apart by these.
    _last_digits: tuple[bytes, ...] = field(init=False, repr=False)
    _words: tuple[str, ...] = field(init=False, repr=False)

    _integers: tuple[bytes, ...] = field(init=False, repr=False)

    @_last_digits.default
    def _make_last_digits(self) -> tuple[bytes, ...]:
        return tuple(number[-_LAST_DIGITS:].encode() for number in self.subject.numbers)

    @_words.default
    def _make_words(self) -> tuple[str, ...]:
        return tuple(word for name in self.subject.names for word in _telling(name))

    @_integers.default
    def _make_integers(self) -> tuple[bytes, ...]:
        # Of ten digits and more, which take six bytes or eight; shorter ones stand anywhere by chance.
        values = [int(number[1:]) for number in self.subject.numbers if number.startswith("+")]
        return tuple(value.to_bytes(6 if value < 2**47 else 8, "big") for value in values if value >= 2**32)

    def is_number(self, value: object) -> bool:
        """Whether this is one of their numbers, as the key that it is kept by."""
        return isinstance(value, str) and value in self.subject.numbers

    def is_party(self, adapter: object, id: object) -> bool:
        return isinstance(adapter, str) and (adapter, str(id)) in self.subject.parties

    def in_text(self, text: str) -> bool:
        return self.without(text) != text

    def without(self, text: str, *, names: bool = True) -> str:
        """The text without their numbers and names."""
        if self._number is not None and self._may_have_number(text.encode("utf-8", "replace")):
            text = self._number.sub(_taken_out, text)
        if names and self._name is not None and self._may_have_name(text):
            text = self._name.sub(GONE, text)
        return text

    def _may_have_number(self, data: bytes) -> bool:
        digits = data.translate(None, _NO_DIGITS)
        return any(last in digits for last in self._last_digits)

    def _may_have_name(self, text: str) -> bool:
        lowered = text.casefold()
        return any(word in lowered for word in self._words)

    def cleaned(self, value: Any, *, theirs: bool = False) -> Any:
        """A JSON value without them; one that is `theirs` keeps its shape, and of its content what `KEPT` says."""
        return self._cleaned(value, theirs, names=True)

    def cleaned_json(self, text: str, *, theirs: bool = False) -> str:
        """The same of a document as text; of what is none, the text without them."""
        if not theirs and not self._may_have_any(text):
            return text
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return "" if theirs else self.without(text)
        cleaned = self.cleaned(value, theirs=theirs)
        return text if cleaned == value else orjson.dumps(cleaned).decode()

    def _may_have_any(self, text: str) -> bool:
        return (
            self._may_have_number(text.encode("utf-8", "replace"))
            or self._may_have_name(text)
            or any(id in text for _, id in self.subject.parties)
        )

    def _cleaned(self, value: Any, theirs: bool, names: bool) -> Any:
        if isinstance(value, str):
            return self.without(value, names=names)
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int | float):
            return value if self._number is None or not self._number.fullmatch(str(value)) else None
        if isinstance(value, list):
            return [self._cleaned(each, theirs, names) for each in value]
        is_party = "adapter" in value and "id" in value
        mine = theirs or self._is_theirs(value)
        # Somebody else may have the same name.
        names = names and (mine or not is_party)
        return {
            self.without(key): self._cleaned(each, theirs or mine, names)
            if not mine or isinstance(each, dict | list) or (key in KEPT and not (is_party and key == "id"))
            else _nothing(key, each)
            for key, each in value.items()
        }

    def _is_theirs(self, value: Mapping[str, Any]) -> bool:
        if self.is_party(value.get("adapter"), value.get("id")):
            return True
        return any(self.is_number(value.get(key)) for key in ("from", "to", "number", "e164"))

    def in_bytes(self, data: bytes) -> bool:
        """Whether they show in a piece of a file: as text, or as the integer that SQLite writes of a number."""
        if self._number is not None and self._may_have_number(data):
            text = data.decode("latin-1")
            if self.without(text, names=False) != text:
                return True
        if self._name is not None:
            text = data.decode("utf-8", "replace")
            if self._may_have_name(text) and self._name.search(text):
                return True
        return any(form in data for form in self._integers)


def _forms(e164: str) -> str:
    """A pattern for a number however people, trunks and CRMs write it."""
    country, national = country_and_rest(e164)

    def spaced(digits: str) -> str:
        return _GAP.join(digits)

    zeros = rf"(?:[(\[]?(?:\+|%2[Bb]|0{{1,3}}){_GAP})"
    before = rf"(?:{zeros}?{spaced(country)}{_GAP}(?:0{_GAP})?|{zeros})"
    whole = rf"(?<![0-9]){before}?{spaced(national)}(?![0-9])"
    first, last = national[:-_LAST_DIGITS], national[-_LAST_DIGITS:]
    if len(first) < 2:
        return whole
    # From any of its digits on: who leaves an area code out knows how long it is.
    some = ""
    for digit in first[1:]:
        some = f"(?:{some}{digit}{_GAP})?"
    return rf"{whole}|(?<![0-9A-Za-z+]){some}{spaced(last)}(?![0-9A-Za-z])"


def _taken_out(match: re.Match[str]) -> str:
    """Nothing, unless what stands before it makes it another number."""
    before = match.string[max(0, match.start() - 4) : match.start()].rstrip(" ()[]/.-")
    plain = match[0][0].isdigit() and match[0][0] != "0"
    return match[0] if plain and before[-1:].isdigit() else GONE


def _telling(name: str) -> list[str]:
    """What is in a text, without capitals, wherever the name is in any of its forms."""
    if not _spelled(name):
        return []
    plain = max(re.findall(r"[a-z]+", name.casefold()), key=len, default="")
    return [plain] if len(plain) > 2 else [max(name.casefold().split(), key=len), quote(name).casefold()]


def _folded(name: str) -> str:
    parted = unicodedata.normalize("NFKD", name.casefold())
    return "".join(each for each in parted if not unicodedata.combining(each))


def _spelled(name: str) -> list[str]:
    """Patterns for a name: as it is, without accents, and with the last word first."""
    if len(name) <= _SHORTEST_NAME or len(name.split()) < 2:
        return []
    forms = []
    for form in (name, _folded(name)):
        words = [re.escape(word) for word in form.split()]
        forms += [_SPACE.join(words), _SPACE.join([words[-1], *words[:-1]])]
    return [rf"(?<!\w){form}(?!\w)" for form in forms] + [re.escape(quote(name))]


def _nothing(key: str, value: object) -> Any:
    if isinstance(value, str):
        return None if key in _MAY_BE_NULL else ""
    return value if isinstance(value, bool) else None
