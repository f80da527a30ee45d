"""Contacts as vCards: what of a card the directory keeps, and how a party becomes a card.

How a card is read and written is told in ``vcard``, and what becomes of a broken one in ``contact_files``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from attrs import evolve

from adapters.base import PartyType
from adapters.contact_files import (
    BadLineError,
    ContactFileError,
    Form,
    ImportReport,
    Intake,
    Lines,
    Progress,
    each_once,
    number_of,
    opened,
    watched,
)
from adapters.directory_file import Directory, Entry, PartyKey, PartyNumber
from adapters.party import ID_LIMIT, NAME_LIMIT, NOTES_LIMIT
from adapters.vcard import CARD_LIMIT, Property, VCard, VCardError, listed, read_vcard
from cti.numbers import NumberPlan

#: What no property of the standard says, and what a card that we have written says all the same.
_OURS: Final[Mapping[str, str]] = {
    "owner": "X-CORDBOARD-OWNER",
    "tier": "X-CORDBOARD-TIER",
    "balance": "X-CORDBOARD-BALANCE",
    "dunning": "X-CORDBOARD-DUNNING",
    "organisation": "X-CORDBOARD-ORGANISATION",
}
_LANGUAGE: Final = "X-CORDBOARD-LANGUAGE"
_TYPE: Final = "X-CORDBOARD-TYPE"
_KEY: Final = "X-CORDBOARD-KEY"
#: By which of a card's properties an attribute is said; what none says stays as it is.
_SAID_BY: Final[Mapping[str, Sequence[str]]] = {
    "name": ("FN", "N", "NICKNAME", "ORG"),
    "company": ("ORG",),
    "tags": ("CATEGORIES",),
    "notes": ("NOTE",),
    "url": ("URL",),
    "language": ("LANG", _LANGUAGE),
    **{name: (property,) for name, property in _OURS.items()},
}
#: What people call a number, by the type that a card has for it.
_LABELS: Final[Mapping[str, str]] = {
    "cell": "mobile",
    "work": "office",
    "home": "home",
    "main": "switchboard",
    "fax": "fax",
    "pager": "pager",
}
_TYPES: Final = {label: type for type, label in _LABELS.items()}


def import_vcards(
    directory: Directory,
    plan: NumberPlan,
    source: Path | BinaryIO,
    *,
    keys: Sequence[str] = (),
    progress: Progress | None = None,
) -> ImportReport:
    """Add or update one party a card, by ``UID``; readers see all of it at once, when it is complete.

    Cards of the versions 2.1, 3.0 and 4.0, in UTF-8. A card without ``UID`` is known again by its name, company and
    numbers. A number that nobody could call from is refused, and the rest of its card goes in. Raises
    ``ContactFileError``, and ``DirectoryError`` if that cannot be written.
    """
    intake = Intake(directory)
    with opened(source, "rb") as stream, directory.writing():
        found = False
        for line, text in _cards(Lines(stream, progress)):
            found = True
            try:
                if isinstance(text, BadLineError):
                    raise text
                _take(intake, line, _read(text), plan, keys)
            except BadLineError as error:
                intake.refuse(line, str(error))
    if not found:
        raise ContactFileError("there is no BEGIN:VCARD in it; a file of vCards would be right")
    return intake.report()


def export_vcards(
    directory: Directory, target: Path | BinaryIO, *, form: Form, progress: Progress | None = None
) -> int:
    """Write every party by id, as ``import_vcards`` reads it; how many. A new file is its owner's only.

    Raises ``ContactFileError`` if the file cannot be written.
    """
    count = 0
    with opened(target, "wb") as stream:
        for entry in watched(directory.entries(), len(directory), progress):
            count += 1
            stream.write(_card(entry, form).as_text().encode())
        stream.flush()
    return count


def _cards(lines: Lines) -> Iterator[tuple[int, str | BadLineError]]:
    """The text of each card, or why there is none, with the line of its BEGIN."""
    begun: int | None = None
    taken: list[bytes] = []
    size = 0
    while (line := lines.take()) is not None:
        number, raw = line
        word = raw.strip().upper().replace(b" ", b"")
        if word == b"BEGIN:VCARD":
            if begun is not None:
                yield begun, BadLineError("its END:VCARD is missing")
            begun, taken, size = number, [], 0
        if begun is None:
            continue
        size += len(raw)
        if size <= CARD_LIMIT:
            # Of a line that was too long, the end is missing.
            taken.append(raw if raw.endswith(b"\n") else raw + b"\n")
        if word == b"END:VCARD":
            yield begun, _text(taken, size)
            begun = None
    if begun is not None:
        yield begun, BadLineError("its END:VCARD is missing")


def _text(lines: Sequence[bytes], size: int) -> str | BadLineError:
    if size > CARD_LIMIT:
        return BadLineError(f"it has more than {CARD_LIMIT} bytes")
    try:
        return b"".join(lines).decode("utf-8")
    except UnicodeDecodeError:
        return BadLineError("it is not UTF-8")


def _read(text: str) -> VCard:
    try:
        card = read_vcard(text)
    except VCardError as error:
        raise BadLineError(str(error)) from error
    if card.is_group:
        raise BadLineError("it is a list of people, and nobody's card")
    for name, limit, found in (("name", NAME_LIMIT, card.name), ("NOTE", NOTES_LIMIT, card.text("NOTE"))):
        # A CRM's text is cut to fit; a file's is refused, because somebody can still mend it.
        if len(found) > limit:
            raise BadLineError(f"its {name} has {len(found)} characters, and at most {limit} fit")
    return card


def _take(intake: Intake, line: int, card: VCard, plan: NumberPlan, keys: Sequence[str]) -> None:
    numbers = []
    for each in card.all("TEL"):
        try:
            if written := each.text.strip():
                numbers.append(number_of(written, _label(each), plan))
        except BadLineError as error:
            intake.refuse(line, f"{error}; the rest of its card went in")
    if len(card.uid) > ID_LIMIT:
        raise BadLineError(f"its UID has {len(card.uid)} characters, and at most {ID_LIMIT} fit")
    party_id = card.uid or _derived_id(card, numbers)
    intake.take(
        line,
        party_id,
        lambda known: _entry(card, party_id, known, intake.directory.name, each_once(numbers), keys),
    )


def _entry(
    card: VCard,
    party_id: str,
    known: Entry | None,
    adapter: str,
    numbers: Sequence[PartyNumber],
    keys: Sequence[str],
) -> Entry:
    language = _LANGUAGE if card.text(_LANGUAGE) else "LANG"
    try:
        party = listed(card, adapter=adapter, id=party_id, extra={**_OURS, "language": language}).party
    except VCardError as error:
        raise BadLineError(str(error)) from error
    if organisation := card.text(_OURS["organisation"]):
        party = evolve(party, organisation=organisation)
    if party.type is PartyType.ORGANISATION and party.company == party.name:
        party = evolve(party, company="")
    if known is not None:
        said = {name for name, by in _SAID_BY.items() if any(card.text(each) for each in by)}
        party = evolve(known.party, **{name: getattr(party, name) for name in said})
        labels = {number.e164: number.label for number in known.numbers}
        numbers = [evolve(each, label=each.label or labels.get(each.e164)) for each in numbers]
        # A card without any says nothing of numbers.
        numbers = numbers or known.numbers
    if type := card.text(_TYPE).lower():
        if type not in set(PartyType):
            raise BadLineError(f"its {_TYPE} is none of {', '.join(PartyType)}")
        party = evolve(party, type=type)
    said_keys = {
        dict(each.parameters).get("KIND", ""): each.text.strip()
        for each in card.all(_KEY)
        if each.text.strip()
    }
    kept = (each for each in (known.keys if known else ()) if each.kind not in said_keys)
    made = (PartyKey(kind, value) for kind, value in said_keys.items() if kind in keys)
    return Entry(party, tuple(numbers), (*kept, *made))


def _label(number: Property) -> str | None:
    return next((label for type, label in _LABELS.items() if type in number.types), None)


def _derived_id(card: VCard, numbers: Sequence[PartyNumber]) -> str:
    said = "\n".join((card.name, card.company, *sorted(number.e164 for number in numbers)))
    return f"vcard-{hashlib.sha256(said.encode('utf-8', 'replace')).hexdigest()[:16]}"


def _card(entry: Entry, form: Form) -> VCard:
    party, version4 = entry.party, form is Form.VCARD4
    company = party.type is PartyType.ORGANISATION
    properties = [
        Property("VERSION", "4.0" if version4 else "3.0"),
        _property("UID", party.id),
        _property("FN", party.name),
        # The family's name is not known apart from the given one.
        Property("N", ";;;;" if company else f"{_property('N', party.name).value};;;;"),
    ]
    if version4:
        properties.append(Property("KIND", "org" if company else "individual"))
    elif company:
        properties.append(Property("X-ABSHOWAS", "COMPANY"))
    if party.company or company:
        properties.append(_property("ORG", party.company or party.name))
    for number in entry.numbers:
        type = _TYPES.get(number.label or "", "voice")
        properties.append(_property("TEL", number.raw, ("TYPE", type)))
    if party.tags:
        properties.append(
            Property("CATEGORIES", ",".join(_property("CATEGORIES", tag).value for tag in party.tags))
        )
    said = {
        "NOTE": party.notes,
        "LANG" if version4 else _LANGUAGE: party.language,
        _TYPE: party.type.value,
        **{property: getattr(party, name) for name, property in _OURS.items()},
    }
    properties += (_property(name, value) for name, value in said.items() if value)
    if party.url:
        # No text: nothing is escaped in it.
        properties.append(Property("URL", party.url))
    properties += (_property(_KEY, key.value, ("KIND", key.kind)) for key in entry.keys)
    return VCard(tuple(properties))


def _property(name: str, text: str, *parameters: tuple[str, str]) -> Property:
    return Property(name, "", tuple(parameters)).with_text(text)
