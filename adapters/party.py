"""Who a CRM says somebody is: a party with all that a card shows, bounded and cleaned, as values.

How adapters find them is left to ``base``, which takes these names over for who writes an adapter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from attrs import field, frozen

# A CRM's text goes onto cards, into events, the log and SIP headers: these bound all of them, in characters.
ID_LIMIT = 128
WORD_LIMIT = 64
NAME_LIMIT = 256
SUMMARY_LIMIT = 1024
NOTES_LIMIT = 4096
URL_LIMIT = 2048
TAGS_LIMIT = 32
CASES_LIMIT = 20
CONTACTS_LIMIT = 20
APPOINTMENTS_LIMIT = 20
TASKS_LIMIT = 20
LINKS_LIMIT = 20
NUMBERS_LIMIT = 50

# Controls but tab and newline; line and paragraph separators; what turns the direction of the text around it
# (a name could pretend to be another one); lone surrogates, which no UTF-8 document can carry.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_LINE_BREAKS = re.compile("[\t\n]+")
_WEB_URL = re.compile(r"https?://[^\s<>\"'\\^`{|}]+", re.IGNORECASE)


class PartyType(StrEnum):
    """What somebody is to the company."""

    CONTACT = "contact"
    ORGANISATION = "organisation"
    LEAD = "lead"
    PARTNER = "partner"
    SUPPLIER = "supplier"


#: Whose switchboard's number finds them by those of its extensions: it tells the company, and not who calls.
COMPANIES: Final = frozenset({PartyType.ORGANISATION, PartyType.PARTNER, PartyType.SUPPLIER})


def clean_line(text: str, limit: int) -> str:
    """``text`` as one line of at most ``limit`` characters, without control characters."""
    if not text.isprintable():
        text = _LINE_BREAKS.sub(" ", _UNWANTED.sub("", text))
    return text.strip()[:limit]


def clean_text(text: str, limit: int) -> str:
    """``text`` of at most ``limit`` characters, of its control characters only newlines and tabs left."""
    if not text.isprintable():
        text = _UNWANTED.sub("", text)
    return text.strip()[:limit]


def web_url(text: str) -> str | None:
    """``text`` if it is an address that a browser may be sent to (http, https), else nothing."""
    return text if len(text) <= URL_LIMIT and _WEB_URL.fullmatch(text) else None


def bounded_line(limit: int) -> Any:
    def converted(text: str | None) -> str:
        return clean_line(text, limit) if text else ""

    return field(default="", converter=converted)


def optional_line(limit: int) -> Any:
    def converted(text: str | None) -> str | None:
        return (clean_line(text, limit) or None) if text else None

    return field(default=None, converter=converted)


def bounded_word() -> Any:
    """An attrs field for a word or two that may be missing."""
    return optional_line(WORD_LIMIT)


def bounded_lines(limit: int) -> Any:
    def converted(text: str | None) -> str:
        return clean_text(text, limit) if text else ""

    return field(default="", converter=converted)


def optional_url() -> Any:
    def converted(text: str | None) -> str | None:
        return web_url(text) if text else None

    return field(default=None, converter=converted)


def at_most(limit: int) -> Any:
    def converted(values: Iterable[object]) -> tuple[object, ...]:
        return tuple(values)[:limit]

    return field(default=(), converter=converted)


def identifier_of(text: object) -> str:
    identifier = clean_line(str(text), ID_LIMIT + 1)
    if not identifier or len(identifier) > ID_LIMIT:
        # Never cut: two records would become one.
        raise ValueError(f"an id has 1 to {ID_LIMIT} characters")
    return identifier


def moment_of(value: datetime | str | None) -> datetime | None:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError("a time without its zone; give UTC, such as 2026-03-01T09:30:00Z")
    return value.astimezone(UTC)


def certain_moment_of(value: datetime | str) -> datetime:
    moment = moment_of(value)
    if moment is None:
        raise ValueError("a contact has a time")
    return moment


def _tags(values: Sequence[str]) -> tuple[str, ...]:
    if not values:
        return ()
    cleaned = (clean_line(value, WORD_LIMIT) for value in values)
    return tuple(dict.fromkeys(tag for tag in cleaned if tag))[:TAGS_LIMIT]


def _numbers(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(clean_line(value, NAME_LIMIT) for value in tuple(values)[:NUMBERS_LIMIT]) if values else ()


def iso(moment: datetime | None) -> str | None:
    """As the API, events and files have a time: ISO 8601 in UTC with a Z."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


@frozen
class Case:
    """Something open between the company and a party: a ticket, an order, a complaint.

    ``id`` as the CRM names it, ``opened`` with its zone, ``url`` to the case in the CRM.
    """

    id: str = field(converter=identifier_of)
    title: str = bounded_line(NAME_LIMIT)
    status: str = bounded_line(WORD_LIMIT)
    opened: datetime | None = field(default=None, converter=moment_of)
    url: str | None = optional_url()

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "status": self.status,
            "opened": iso(self.opened),
            "url": self.url,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Case:
        return cls(**{key: data[key] for key in ("id", "title", "status", "opened", "url") if key in data})


@frozen
class LastContact:
    """One time that the company and a party had to do with each other.

    ``at`` with its zone; ``kind`` a word such as call, mail, visit; ``user`` the CRM's user who was in it, if
    anybody; ``summary`` a line or two.
    """

    at: datetime = field(converter=certain_moment_of)
    kind: str = bounded_line(WORD_LIMIT)
    user: str | None = optional_line(ID_LIMIT)
    summary: str = bounded_lines(SUMMARY_LIMIT)

    def as_json(self) -> dict[str, Any]:
        return {"at": iso(self.at), "kind": self.kind, "user": self.user, "summary": self.summary}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LastContact:
        return cls(**{key: data[key] for key in ("at", "kind", "user", "summary") if key in data})


@frozen
class Appointment:
    """A time that the company and a party have agreed on. ``at`` with its zone; ``user`` the CRM's user who goes."""

    id: str = field(converter=identifier_of)
    at: datetime = field(converter=certain_moment_of)
    title: str = bounded_line(NAME_LIMIT)
    user: str | None = optional_line(ID_LIMIT)
    url: str | None = optional_url()

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "at": iso(self.at),
            "title": self.title,
            "user": self.user,
            "url": self.url,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Appointment:
        return cls(**{key: data[key] for key in ("id", "at", "title", "user", "url") if key in data})


@frozen
class Task:
    """Something that is to be done for a party. ``due`` with its zone; ``user`` the CRM's user who does it."""

    id: str = field(converter=identifier_of)
    title: str = bounded_line(NAME_LIMIT)
    due: datetime | None = field(default=None, converter=moment_of)
    user: str | None = optional_line(ID_LIMIT)
    url: str | None = optional_url()

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "due": iso(self.due),
            "user": self.user,
            "url": self.url,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        return cls(**{key: data[key] for key in ("id", "title", "due", "user", "url") if key in data})


@frozen
class Link:
    """A way from the card into another system. Without a web address it is no link: ``ValueError``."""

    title: str = bounded_line(NAME_LIMIT)
    url: str | None = optional_url()

    def __attrs_post_init__(self) -> None:
        if self.url is None:
            raise ValueError("a link has an address that starts with http:// or https://")

    def as_json(self) -> dict[str, Any]:
        return {"title": self.title, "url": self.url}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Link:
        return cls(**{key: data[key] for key in ("title", "url") if key in data})


@frozen
class PartyRef:
    """Which party of an adapter: what ``Party.ref`` answers, and what an adapter is asked about later."""

    type: PartyType = field(converter=PartyType)
    id: str = field(converter=identifier_of)


@frozen
class Party:
    """Who a CRM says the other side of a call is.

    All text is bounded and free of control characters once it is in here, and is data wherever it goes.
    ``id`` is unique among the adapter's parties of one ``type``. ``owner`` is the *CRM's* user who looks
    after the party. ``match`` says on what it was found: ``number``, or ``stem`` for the company whose switchboard
    has the number without its extension, ``company`` for that of several people with one number, or ``key`` for a
    customer number and the like. ``cases`` are the open ones, ``last_contacts`` the latest; both newest first;
    ``appointments`` and ``tasks`` are still to come, the soonest first. ``organisation`` is the CRM's id of the
    company that a person belongs to: two people with one number and one ``organisation`` are one company.
    ``numbers`` are theirs as the CRM holds them, where the adapter hands them back: who asked by a number checks that
    one of them is it; they are shown nowhere. ``balance`` and ``dunning`` are a few words each, as a person reads
    them. Raises ``ValueError`` for an empty or too long id, and for an unknown type.
    """

    adapter: str
    type: PartyType = field(converter=PartyType)
    id: str = field(converter=identifier_of)
    name: str = bounded_line(NAME_LIMIT)
    company: str = bounded_line(NAME_LIMIT)
    url: str | None = optional_url()
    owner: str | None = optional_line(ID_LIMIT)
    tier: str | None = optional_line(WORD_LIMIT)
    language: str | None = optional_line(WORD_LIMIT)
    tags: tuple[str, ...] = field(default=(), converter=_tags)
    match: str = "number"
    cases: tuple[Case, ...] = at_most(CASES_LIMIT)
    last_contacts: tuple[LastContact, ...] = at_most(CONTACTS_LIMIT)
    notes: str = bounded_lines(NOTES_LIMIT)
    organisation: str | None = optional_line(ID_LIMIT)
    appointments: tuple[Appointment, ...] = at_most(APPOINTMENTS_LIMIT)
    tasks: tuple[Task, ...] = at_most(TASKS_LIMIT)
    balance: str | None = optional_line(WORD_LIMIT)
    dunning: str | None = optional_line(WORD_LIMIT)
    links: tuple[Link, ...] = at_most(LINKS_LIMIT)
    numbers: tuple[str, ...] = field(default=(), converter=_numbers, eq=False, repr=False)

    @property
    def ref(self) -> PartyRef:
        """What its adapter knows it by."""
        return PartyRef(self.type, self.id)

    def as_json(self, agent: str | None = None) -> dict[str, Any]:
        """For the API, events and the card: ``owner`` is our ``agent``, ``owner_user`` the CRM's user."""
        return {
            "adapter": self.adapter,
            "type": self.type.value,
            "id": self.id,
            "name": self.name,
            "company": self.company,
            "url": self.url,
            "owner": agent,
            "owner_user": self.owner,
            "match": self.match,
            "tier": self.tier,
            "language": self.language,
            "tags": list(self.tags),
            "cases": [case.as_json() for case in self.cases],
            "last_contacts": [contact.as_json() for contact in self.last_contacts],
            "notes": self.notes,
            "organisation": self.organisation,
            "appointments": [appointment.as_json() for appointment in self.appointments],
            "tasks": [task.as_json() for task in self.tasks],
            "balance": self.balance,
            "dunning": self.dunning,
            "links": [link.as_json() for link in self.links],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Party:
        """The party that ``as_json`` wrote, ``owner_user`` being its ``owner``; unknown keys are ignored."""
        same = {
            "adapter",
            "type",
            "id",
            "name",
            "company",
            "url",
            "tier",
            "language",
            "tags",
            "match",
            "notes",
            "organisation",
            "balance",
            "dunning",
        }
        return cls(
            **{key: data[key] for key in same if key in data},
            owner=data.get("owner_user"),
            cases=tuple(Case.from_json(case) for case in data.get("cases", ())),
            last_contacts=tuple(LastContact.from_json(one) for one in data.get("last_contacts", ())),
            appointments=tuple(Appointment.from_json(one) for one in data.get("appointments", ())),
            tasks=tuple(Task.from_json(one) for one in data.get("tasks", ())),
            links=tuple(Link.from_json(one) for one in data.get("links", ())),
        )
