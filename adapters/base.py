"""The interface between Cordboard and a CRM: what an adapter is, answers, how it fails, where it is found.

Knows no CRM, and nothing of calls or agents: mapping a CRM's users to agents is left to who asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from attrs import field, frozen

from cti.numbers import Number, NumberPlan

#: Where a distribution says which kinds of adapter it brings.
ENTRY_POINT_GROUP = "cordboard.adapters"

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

# Controls but tab and newline; line and paragraph separators; what turns the direction of the text around it
# (a name could pretend to be another one); lone surrogates, which no UTF-8 document can carry.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_LINE_BREAKS = re.compile("[\t\n]+")
_WEB_URL = re.compile(r"https?://[^\s<>\"'\\^`{|}]+", re.IGNORECASE)


class AdapterError(Exception):
    """An adapter could not do what it was asked.

    The text goes to the log and to the administrator: no personal data, no number, no secret in it.
    """


class AdapterTimeout(AdapterError):
    """The CRM did not answer in time."""


class AdapterUnavailable(AdapterError):
    """The CRM cannot be reached, or refuses to work."""


class AdapterAnswerError(AdapterError):
    """The CRM answered, and not what its documentation promises."""


class AdapterKindError(AdapterError):
    """A kind of adapter that is not installed, or whose code cannot be loaded."""


class Capability(StrEnum):
    """What an adapter can do; each is optional, and nobody asks an adapter for what it does not name here."""

    IDENTIFY = "identify"
    #: Contacts can be read from and written to a file by ``cti contacts``.
    CONTACT_FILE = "contact_file"
    #: A party that is not there can be added from the agents' desktop; see ``ICreator``.
    CREATE = "create"


class PartyType(StrEnum):
    """What somebody is to the company."""

    CONTACT = "contact"
    ORGANISATION = "organisation"
    LEAD = "lead"
    PARTNER = "partner"
    SUPPLIER = "supplier"


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


def _line(limit: int) -> Any:
    def converted(text: str | None) -> str:
        return clean_line(text, limit) if text else ""

    return field(default="", converter=converted)


def _optional_line(limit: int) -> Any:
    def converted(text: str | None) -> str | None:
        return (clean_line(text, limit) or None) if text else None

    return field(default=None, converter=converted)


def bounded_word() -> Any:
    """An attrs field for a word or two that may be missing."""
    return _optional_line(WORD_LIMIT)


def _lines(limit: int) -> Any:
    def converted(text: str | None) -> str:
        return clean_text(text, limit) if text else ""

    return field(default="", converter=converted)


def _url() -> Any:
    def converted(text: str | None) -> str | None:
        return web_url(text) if text else None

    return field(default=None, converter=converted)


def _at_most(limit: int) -> Any:
    def converted(values: Iterable[object]) -> tuple[object, ...]:
        return tuple(values)[:limit]

    return field(default=(), converter=converted)


def _identifier(text: object) -> str:
    identifier = clean_line(str(text), ID_LIMIT + 1)
    if not identifier or len(identifier) > ID_LIMIT:
        # Never cut: two records would become one.
        raise ValueError(f"an id has 1 to {ID_LIMIT} characters")
    return identifier


def _moment(value: datetime | str | None) -> datetime | None:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError("a time without its zone; give UTC, such as 2026-03-01T09:30:00Z")
    return value.astimezone(UTC)


def _certain_moment(value: datetime | str) -> datetime:
    moment = _moment(value)
    if moment is None:
        raise ValueError("a contact has a time")
    return moment


def _tags(values: Sequence[str]) -> tuple[str, ...]:
    if not values:
        return ()
    cleaned = (clean_line(value, WORD_LIMIT) for value in values)
    return tuple(dict.fromkeys(tag for tag in cleaned if tag))[:TAGS_LIMIT]


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


@frozen
class Case:
    """Something open between the company and a party: a ticket, an order, a complaint.

    ``id`` as the CRM names it, ``opened`` with its zone, ``url`` to the case in the CRM.
    """

    id: str = field(converter=_identifier)
    title: str = _line(NAME_LIMIT)
    status: str = _line(WORD_LIMIT)
    opened: datetime | None = field(default=None, converter=_moment)
    url: str | None = _url()

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "status": self.status,
            "opened": _iso(self.opened),
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

    at: datetime = field(converter=_certain_moment)
    kind: str = _line(WORD_LIMIT)
    user: str | None = _optional_line(ID_LIMIT)
    summary: str = _lines(SUMMARY_LIMIT)

    def as_json(self) -> dict[str, Any]:
        return {"at": _iso(self.at), "kind": self.kind, "user": self.user, "summary": self.summary}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LastContact:
        return cls(**{key: data[key] for key in ("at", "kind", "user", "summary") if key in data})


@frozen
class Party:
    """Who a CRM says the other side of a call is.

    All text is bounded and free of control characters once it is in here, and is data wherever it goes.
    ``id`` is unique among the adapter's parties of one ``type``. ``owner`` is the *CRM's* user who looks
    after the party. ``match`` says on what it was found: ``number``, or ``stem`` for the company whose switchboard
    has the number without its extension. ``cases`` are the open ones, ``last_contacts`` the
    latest; both newest first. Raises ``ValueError`` for an empty or too long id, and for an unknown type.
    """

    adapter: str
    type: PartyType = field(converter=PartyType)
    id: str = field(converter=_identifier)
    name: str = _line(NAME_LIMIT)
    company: str = _line(NAME_LIMIT)
    url: str | None = _url()
    owner: str | None = _optional_line(ID_LIMIT)
    tier: str | None = _optional_line(WORD_LIMIT)
    language: str | None = _optional_line(WORD_LIMIT)
    tags: tuple[str, ...] = field(default=(), converter=_tags)
    match: str = "number"
    cases: tuple[Case, ...] = _at_most(CASES_LIMIT)
    last_contacts: tuple[LastContact, ...] = _at_most(CONTACTS_LIMIT)
    notes: str = _lines(NOTES_LIMIT)

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
        }
        return cls(
            **{key: data[key] for key in same if key in data},
            owner=data.get("owner_user"),
            cases=tuple(Case.from_json(case) for case in data.get("cases", ())),
            last_contacts=tuple(LastContact.from_json(one) for one in data.get("last_contacts", ())),
        )


@frozen
class AdapterHealth:
    """Whether an adapter could answer now, and in one sentence why not."""

    up: bool
    detail: str = ""


@runtime_checkable
class IAdapter(Protocol):
    """One configured connection to one CRM."""

    @property
    def name(self) -> str:
        """Its name in the configuration; the ``adapter`` of every party it answers with."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do; the same for as long as it lives."""

    async def start(self) -> None:
        """Get ready; called once before anything else. Raises ``AdapterError`` if that can't be."""

    async def stop(self) -> None:
        """Give everything back; called once, also after a ``start`` that failed."""

    async def identify(self, number: Number) -> Sequence[Party]:
        """Who has this number, whose ``e164`` is set; nobody is an empty sequence, never an error.

        Only parties that really have the number, at most some dozens. May be cancelled at each ``await``, and
        then lets go of what it holds. Must not block. Raises ``AdapterError``.
        """

    async def health(self) -> AdapterHealth:
        """Whether it could answer now. Cheap: asked every few seconds."""


@frozen
class NewParty:
    """Somebody who is to be taken in; ``number`` is E.164. Raises ``ValueError`` without a name."""

    type: PartyType = field(converter=PartyType)
    number: str
    name: str = _line(NAME_LIMIT)
    company: str = _line(NAME_LIMIT)
    notes: str = _lines(NOTES_LIMIT)

    def __attrs_post_init__(self) -> None:
        if not self.name:
            raise ValueError("a party has a name")


@runtime_checkable
class ICreator(IAdapter, Protocol):
    """An adapter with ``Capability.CREATE``."""

    async def create(self, party: NewParty) -> Party:
        """Add a party who has this number; returns once ``identify`` finds it. Raises ``AdapterError``."""


class AdapterReactor(Protocol):
    """What of Twisted's reactor adapters use (IReactorTime): `seconds` is Unix time with a real one.

    A type of our own, because Twisted's zope interfaces say nothing to a type checker without a plug-in.
    """

    def seconds(self) -> float: ...

    def callLater(self, delay: float, call: Callable[..., Any], /, *args: Any) -> Any: ...


@frozen
class AdapterContext:
    """What an adapter has of the server around it.

    ``base``: the directory of the configuration file, to which relative paths refer. ``plan``: how numbers are
    read and written here. ``reactor``: the one for everything that waits. ``own``: our numbers, E.164, which are
    nobody's whom a CRM could know.
    """

    base: Path
    plan: NumberPlan
    reactor: AdapterReactor
    own: frozenset[str] = frozenset()


class IAdapterKind(Protocol):
    """What an entry point of the group ``cordboard.adapters`` names: a class whose instances are adapters."""

    #: An attrs class: the options of this kind in the configuration, beside ``kind``. What has a default may
    #: be left out; a password is a field of the type ``cti.secret.Secret``.
    options_class: ClassVar[type[Any]]

    def __call__(self, name: str, options: Any, context: AdapterContext) -> IAdapter:
        """An adapter with an instance of ``options_class``; opens nothing yet."""


class _AdapterKinds(Mapping[str, IAdapterKind]):
    """Each kind's code is loaded when it is first asked for: one that is broken harms only who uses it."""

    def __init__(self, points: Mapping[str, EntryPoint]) -> None:
        self._points = points

    def __getitem__(self, kind: str) -> IAdapterKind:
        point = self._points[kind]
        try:
            loaded = point.load()
        except (ImportError, AttributeError, SyntaxError) as error:
            raise AdapterKindError(
                f"adapters of kind {kind!r} cannot be loaded ({point.value}): {error}"
            ) from error
        if not callable(loaded) or not hasattr(getattr(loaded, "options_class", None), "__attrs_attrs__"):
            raise AdapterKindError(
                f"adapters of kind {kind!r} cannot be used: {point.value} has no attrs class as options_class"
            )
        kind_class: IAdapterKind = loaded
        return kind_class

    def __contains__(self, kind: object) -> bool:
        return kind in self._points

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)


def load_adapter_kinds() -> Mapping[str, IAdapterKind]:
    """The kinds of adapter that are installed, by the name that stands as ``kind`` in the configuration.

    To list the names loads nothing. Taking a kind loads its code, and raises ``AdapterKindError`` if it is
    broken, ``KeyError`` if there is none of that name.
    """
    return _AdapterKinds({point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)})
