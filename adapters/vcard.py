"""vCards as values: read from text (2.1, 3.0, 4.0), changed without losing what we do not know, and written.

RFC 2426 and RFC 6350, what phones and address books make of them, and how a card is a party. Where cards come from,
a file or a CardDAV server, is left to others.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from attrs import evolve, field, frozen

from adapters.base import ListedNumber, ListedParty, Party, PartyType
from adapters.party import clean_line

#: Characters of one card that are looked at; a photograph in it counts, and 100 kB of those are usual.
CARD_LIMIT: Final = 1_000_000
PROPERTIES_LIMIT: Final = 1000

#: A line is folded after so many octets (RFC 6350, 3.2).
_FOLD: Final = 75
_LINE = re.compile(
    r"(?:(?P<group>[A-Za-z0-9-]+)\.)?(?P<name>[A-Za-z0-9-]+)"
    r'(?P<parameters>(?:;(?:[^":;]|"[^"]*")*)*):(?P<value>.*)',
    re.DOTALL,
)
_PARAMETER = re.compile(r';((?:[^":;]|"[^"]*")*)')
_PARAMETER_VALUE = re.compile(r'"([^"]*)"|([^,"]+)')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
#: RFC 6868: how a parameter's value has what could not stand there.
_CARETS: Final = {"^n": "\n", "^'": '"', "^^": "^"}
#: Sorts of number in vCard 2.1, where they stand without `TYPE=`.
_BARE_ENCODINGS: Final = frozenset({"QUOTED-PRINTABLE", "BASE64", "8BIT", "7BIT"})


class VCardError(ValueError):
    """Not a vCard; the text says what is wrong, and has nothing of the card in it."""


@frozen
class Property:
    """One line of a card. ``value`` as it stands there, escaped; parameters by their names in capitals."""

    name: str
    value: str
    parameters: tuple[tuple[str, str], ...] = ()
    group: str = ""

    @property
    def text(self) -> str:
        """The value as people read it."""
        return _unescaped(self.value)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a structured value (``N``, ``ORG``), each as people read it."""
        return tuple(_unescaped(part) for part in _divided(self.value, ";"))

    @property
    def words(self) -> tuple[str, ...]:
        """The values of a list (``CATEGORIES``)."""
        return tuple(
            word for word in (_unescaped(part).strip() for part in _divided(self.value, ",")) if word
        )

    @property
    def types(self) -> frozenset[str]:
        return frozenset(value.lower() for name, value in self.parameters if name == "TYPE")

    @property
    def preference(self) -> int:
        """1 is what is preferred, 100 what is not marked (RFC 6350, 5.3; before it, a type ``pref``)."""
        for name, value in self.parameters:
            if name == "PREF" and value.isdecimal():
                return min(int(value), 100)
        return 1 if "pref" in self.types else 100

    def with_text(self, text: str) -> Property:
        return evolve(self, value=_escaped(text))


@frozen
class VCard:
    """A card: its lines between BEGIN and END, in their order. ``line``: where its BEGIN stood, from 1."""

    properties: tuple[Property, ...]
    line: int = field(default=1, eq=False)

    def all(self, name: str) -> Sequence[Property]:
        """The properties of this name, the preferred first."""
        return sorted((each for each in self.properties if each.name == name), key=lambda one: one.preference)

    def text(self, name: str) -> str:
        """What the preferred property of this name says, or nothing."""
        return next((each.text.strip() for each in self.all(name) if each.value.strip()), "")

    @property
    def uid(self) -> str:
        return self.text("UID")

    @property
    def name(self) -> str:
        """As one calls them: the formatted name, else what the parts of the name give, else a nickname."""
        if formatted := self.text("FN"):
            return formatted
        for structured in self.all("N"):
            family, given, middle, before, after = (*structured.parts, "", "", "", "", "")[:5]
            if whole := " ".join(filter(None, (before, given, middle, family, after))):
                return whole
        return self.text("NICKNAME")

    @property
    def company(self) -> str:
        return next((each.parts[0].strip() for each in self.all("ORG")), "")

    @property
    def is_company(self) -> bool:
        """Whether it is a company's: KIND says so, Apple's mark does, or it has no other name than the company's."""
        kind = self.text("KIND").lower() or self.text("X-ADDRESSBOOKSERVER-KIND").lower()
        if kind:
            return kind == "org"
        if self.text("X-ABSHOWAS").upper() == "COMPANY":
            return True
        return bool(self.company) and self.name in ("", self.company)

    @property
    def is_group(self) -> bool:
        """Whether it is a list of people and nobody itself."""
        kind = self.text("KIND") or self.text("X-ADDRESSBOOKSERVER-KIND")
        return kind.lower() in ("group", "location", "application")

    @property
    def numbers(self) -> tuple[ListedNumber, ...]:
        """The numbers as they stand, ``field`` being which line of the kind they are, for ``with_number``.

        The line counts among all with numbers, since a card may have one number twice.
        """
        found = (each for each in self.properties if each.name == "TEL")
        return tuple(
            ListedNumber(raw, f"TEL[{place}]")
            for place, each in enumerate(found)
            if (raw := _number_text(each))
        )

    def with_number(self, old: ListedNumber, new: str) -> VCard | None:
        """The card with ``new`` in the place of ``old``, all else as it was; ``None`` if ``old`` is not there."""
        if old not in self.numbers:
            return None
        wanted = int(old.field.removeprefix("TEL[").removesuffix("]"))
        place = -1
        properties = []
        for each in self.properties:
            place += each.name == "TEL"
            if each.name == "TEL" and place == wanted:
                # A version 4 card may say that its value is an address.
                each = evolve(each, value=f"tel:{new}") if _is_uri(each) else each.with_text(new)
            properties.append(each)
        return evolve(self, properties=tuple(properties))

    def as_text(self) -> str:
        """The card as it goes over a wire: folded, with CR LF."""
        lines = ("BEGIN:VCARD", *(_written(each) for each in self.properties), "END:VCARD")
        return "".join(f"{folded}\r\n" for line in lines for folded in _folded(line))


def read_vcards(text: str) -> Iterator[VCard | tuple[int, VCardError]]:
    """Each card of the text; for one that cannot be read, the line of its BEGIN (from 1) and why.

    A card that nobody ended ends where the next begins. Lines outside all cards are no card's, and left out; cards
    inside a card (2.1 had agents) are left out with it.
    """
    begun: int | None = None
    lines: list[str] = []
    for number, line in _unfolded(text):
        word = line.strip().upper().replace(" ", "")
        if word == "BEGIN:VCARD":
            if begun is not None:
                yield begun, VCardError("END:VCARD is missing")
            begun, lines = number, []
        elif word == "END:VCARD" and begun is not None:
            try:
                yield VCard(_properties(lines), begun)
            except VCardError as error:
                yield begun, error
            begun = None
        elif begun is not None:
            lines.append(line)
    if begun is not None:
        yield begun, VCardError("END:VCARD is missing")


def read_vcard(text: str) -> VCard:
    """The one card in the text. Raises ``VCardError``, also for none and for several."""
    if len(text) > CARD_LIMIT:
        raise VCardError(f"more than {CARD_LIMIT} characters")
    cards = list(read_vcards(text))
    if len(cards) != 1:
        raise VCardError(f"{len(cards)} cards where one was promised")
    if isinstance(cards[0], VCard):
        return cards[0]
    raise cards[0][1]


def listed(
    card: VCard, *, adapter: str, id: str, extra: Mapping[str, str] | None = None, url: str | None = None
) -> ListedParty:
    """The card as a party with its numbers. Raises ``VCardError`` for one without a name.

    ``extra``: which property says what no card says of itself: ``owner``, ``tier``, ``language``, ``balance``,
    ``dunning``. Two cards of one company have its name as their ``organisation``.
    """
    extra = extra or {}
    company = card.company
    name = card.name or company
    if not clean_line(name, 1):
        raise VCardError("nobody's: neither FN, N nor ORG says a name")
    more: dict[str, str | None] = {
        key: card.text(property.upper()) or None for key, property in extra.items()
    }
    try:
        party = Party(
            adapter=adapter,
            type=PartyType.ORGANISATION if card.is_company else PartyType.CONTACT,
            id=id,
            name=name,
            company=company,
            url=url or card.text("URL") or None,
            owner=more.get("owner"),
            tier=more.get("tier"),
            balance=more.get("balance"),
            dunning=more.get("dunning"),
            language=more.get("language") or card.text("LANG") or None,
            tags=tuple(word for each in card.all("CATEGORIES") for word in each.words),
            notes=card.text("NOTE"),
            organisation=company or None,
        )
    except ValueError as error:
        raise VCardError(str(error)) from error
    return ListedParty(party, card.numbers)


def new_vcard(
    *,
    uid: str,
    name: str,
    company: str = "",
    numbers: Sequence[str] = (),
    notes: str = "",
    is_company: bool = False,
) -> VCard:
    """A card of version 3.0, which everybody reads."""
    found: list[Property] = [
        Property("VERSION", "3.0"),
        Property("UID", _escaped(uid)),
        Property("FN", _escaped(name)),
        # The family's name is not known apart from the given one; all of it is shown, and nothing is wrong.
        Property("N", ";;;;" if is_company else f"{_escaped(name)};;;;"),
    ]
    if company or is_company:
        found.append(Property("ORG", _escaped(company or name)))
    if is_company:
        found.append(Property("X-ABSHOWAS", "COMPANY"))
    found += (Property("TEL", _escaped(number), (("TYPE", "VOICE"),)) for number in numbers)
    if notes:
        found.append(Property("NOTE", _escaped(notes)))
    return VCard(tuple(found))


def _unfolded(text: str) -> Iterator[tuple[int, str]]:
    """Whole lines with their number. Not by ``splitlines``, to which U+2028 ends a line, too."""
    begun, parts = 1, [""]
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        if line[:1] in (" ", "\t"):
            parts.append(line[1:])
        elif parts[-1].endswith("=") and _is_quoted_printable(parts[0]):
            # 2.1 goes on in the next line without a space.
            parts.append("\n" + line)
        else:
            yield begun, "".join(parts)
            begun, parts = number, [line]
    yield begun, "".join(parts)


def _is_quoted_printable(line: str) -> bool:
    return "QUOTED-PRINTABLE" in line.partition(":")[0].upper()


def _properties(lines: Sequence[str]) -> tuple[Property, ...]:
    if sum(map(len, lines)) > CARD_LIMIT:
        raise VCardError(f"more than {CARD_LIMIT} characters")
    found: list[Property] = []
    for line in lines:
        if not line.strip():
            continue
        if len(found) == PROPERTIES_LIMIT:
            raise VCardError(f"more than {PROPERTIES_LIMIT} lines")
        if (parts := _LINE.fullmatch(line)) is None:
            raise VCardError("a line is not NAME:VALUE")
        parameters = tuple(_parameters(parts["parameters"]))
        found.append(
            _decoded(Property(parts["name"].upper(), parts["value"], parameters, parts["group"] or ""))
        )
    return tuple(found)


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    for parameter in _PARAMETER.findall(text):
        name, equals, values = parameter.partition("=")
        if not equals:
            # 2.1: TEL;HOME;CELL and NOTE;QUOTED-PRINTABLE.
            yield ("ENCODING" if name.upper() in _BARE_ENCODINGS else "TYPE"), name
            continue
        for quoted, plain in _PARAMETER_VALUE.findall(values):
            value = re.sub(r"\^[n'^]", lambda found: _CARETS[found[0]], quoted or plain)
            # Version 4 in quotes: TYPE="work,voice".
            for each in value.split(",") if name.upper() == "TYPE" else (value,):
                yield name.strip().upper(), each


def _decoded(found: Property) -> Property:
    """Of what 2.1 encoded, the text."""
    parameters = dict(found.parameters)
    if parameters.get("ENCODING", "").upper() != "QUOTED-PRINTABLE":
        return found
    raw = quopri.decodestring(found.value.encode("utf-8", "replace"))
    try:
        text = raw.decode(parameters.get("CHARSET", "utf-8"), "replace")
    except LookupError:
        text = raw.decode("utf-8", "replace")
    kept = tuple(each for each in found.parameters if each[0] not in ("ENCODING", "CHARSET"))
    # Its line breaks are real ones; in a line of the later versions they are written as \n.
    return evolve(found, value=re.sub(r"\r\n|\r|\n", r"\\n", text), parameters=kept)


def _divided(value: str, by: str) -> list[str]:
    """Parts between ``by`` that no backslash stands before."""
    return re.findall(rf"(?:^|{by})((?:\\.|[^\\{by}]|\\$)*)", value, re.DOTALL) if value else [""]


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] in "nN" else found[1], value)


def _escaped(text: str) -> str:
    escaped = re.sub(r"([\\,;])", r"\\\1", text)
    return re.sub(r"\r\n|\r|\n", r"\\n", escaped)


def _is_uri(found: Property) -> bool:
    return found.value.lower().startswith("tel:")


def _number_text(found: Property) -> str:
    """A number as it stands; the plan reads ``tel:`` addresses as well."""
    return clean_line(found.text, 256)


def _written(found: Property) -> str:
    group = f"{found.group}." if found.group else ""
    parameters = "".join(f";{name}={_parameter_value(value)}" for name, value in found.parameters)
    return f"{group}{found.name}{parameters}:{found.value}"


def _parameter_value(value: str) -> str:
    value = value.replace("^", "^^").replace("\n", "^n").replace('"', "^'")
    return f'"{value}"' if re.search("[:;,]", value) else value


def _folded(line: str) -> Iterator[str]:
    """Lines of at most 75 octets, never within a character."""
    part, size = "", 0
    for character in line:
        length = len(character.encode("utf-8", "replace"))
        if size + length > _FOLD:
            yield part
            part, size = " ", 1
        part += character
        size += length
    yield part
