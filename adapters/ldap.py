"""People and companies of an LDAP directory: OpenLDAP, Active Directory, and what else speaks LDAP.

Reads and never writes. How a connection is kept is left to ``ldap_client``.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from attrs import define, evolve, field, frozen
from ldaptor.protocols import pureldap

from adapters.base import (
    AdapterAnswerError,
    AdapterContext,
    AdapterError,
    AdapterHealth,
    AdapterUnavailable,
    Capability,
    ChangePage,
    CrmUser,
    KeyKind,
    ListedNumber,
    ListedParty,
    ListPage,
    MarkLost,
    Party,
    PartyRef,
    PartyType,
)
from adapters.ldap_client import Entry, LdapClient, LdapConnection, Question, Server, host_and_port
from adapters.ldap_filter import (
    FilterError,
    all_of,
    any_of,
    at_least,
    contains,
    ends_with,
    equal,
    present,
    read_filter,
)
from cti.numbers import Number, NumberKind, NumberPlan
from cti.secret import Secret

#: Candidates that a question for a number may bring back; more share no number.
_CANDIDATES: Final = 100
#: The last digits of a number that are looked for: what stands before them is written in too many ways.
_TAIL: Final = 8
_USERS: Final = 5000
_CHANGES: Final = 20_000
_WORDS: Final = 8
#: Lists under way, each on a connection of its own, and how long one may be left standing.
_LISTINGS: Final = 4
_LISTING_SECONDS: Final = 120.0
#: Clocks of two machines differ; what changed in this time before a mark comes again.
_SKEW: Final = timedelta(minutes=5)
#: Nothing tells who was deleted, so the whole list is read again once a day.
_MARK_LASTS: Final = timedelta(hours=24)
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_NOTHING: Final = "1.1"

#: What of a party stands in which attributes; the first that has a value counts, of ``numbers`` all.
_PERSON: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("entryUUID",),
    "name": ("displayName", "cn", "o"),
    "company": ("o",),
    "numbers": ("telephoneNumber", "mobile", "homePhone", "facsimileTelephoneNumber"),
    "region": ("c",),
    "url": ("labeledURI",),
    "language": ("preferredLanguage",),
    "tags": ("businessCategory",),
    "notes": ("description",),
    "owner": (),
    "tier": (),
    "changed": ("modifyTimestamp",),
    "search": ("cn", "displayName", "sn", "givenName", "o", "mail"),
    "user_id": ("uid",),
    "user_name": ("displayName", "cn"),
    "user_login": ("uid",),
    "user_extension": ("telephoneNumber",),
}
_DIRECTORIES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "inetorgperson": _PERSON,
    "active_directory": {
        **_PERSON,
        "id": ("objectGUID",),
        "name": ("displayName", "cn"),
        "company": ("company",),
        "numbers": (
            "telephoneNumber",
            "otherTelephone",
            "mobile",
            "otherMobile",
            "homePhone",
            "otherHomePhone",
            "facsimileTelephoneNumber",
        ),
        "url": ("wWWHomePage",),
        "tags": (),
        "notes": ("info",),
        "changed": ("whenChanged",),
        "search": ("displayName", "cn", "sn", "givenName", "company", "mail"),
        "user_id": ("sAMAccountName",),
        "user_login": ("sAMAccountName",),
        "user_extension": ("ipPhone", "telephoneNumber"),
    },
}
#: Who is listed. The entry that a tree hangs on is the company's own.
_FILTERS: Final[Mapping[str, str]] = {
    "inetorgperson": "(&(|(objectClass=person)(objectClass=organization))(!(objectClass=dcObject)))",
    "active_directory": "(|(objectClass=contact)(&(objectCategory=person)(objectClass=user)))",
}


def _a_filter(_: object, attribute: Any, value: str | None) -> None:
    if value is not None:
        try:
            read_filter(value)
        except FilterError as error:
            raise ValueError(f"{attribute.name}: {error}") from error


def _known_attributes(_: object, __: object, value: Mapping[str, Sequence[str]]) -> None:
    for name, attributes in value.items():
        if name not in _PERSON:
            raise ValueError(f"attributes: no {name!r} is read; {', '.join(_PERSON)} are")
        for each in attributes:
            if not _ATTRIBUTE.fullmatch(each):
                raise ValueError(
                    f"attributes.{name}: an attribute's name, such as telephoneNumber, would be right"
                )


def _key_attributes(_: object, __: object, value: Mapping[str, str]) -> None:
    for each in value.values():
        if not _ATTRIBUTE.fullmatch(each):
            raise ValueError("keys: the name of an attribute, such as employeeNumber, would be right")


def _positive(_: object, attribute: Any, value: float) -> None:
    if not 0 < value <= 10_000:
        raise ValueError(f"{attribute.name}: more than 0 and at most 10000 would be right")


@frozen
class LdapOptions:
    """Options of an adapter of kind ``ldap``; docs/crm/ldap.md tells of each."""

    url: str
    base: str
    bind_dn: str = ""
    password: Secret | None = None
    start_tls: bool = False
    ca_file: Path | None = None
    allow_plain: bool = False
    directory: Literal["inetorgperson", "active_directory"] = "inetorgperson"
    filter: str | None = field(default=None, validator=_a_filter)
    scope: Literal["subtree", "one"] = "subtree"
    attributes: dict[str, list[str]] = field(factory=dict, validator=_known_attributes)
    keys: dict[str, str] = field(factory=dict, validator=_key_attributes)
    sensitive_keys: list[str] = field(factory=list)
    match: Literal["digits", "suffix"] = "digits"
    users_base: str | None = None
    users_filter: str | None = field(default=None, validator=_a_filter)
    seconds: float = field(default=3.0, validator=_positive)
    page: int = field(default=500, validator=_positive)

    def __attrs_post_init__(self) -> None:
        scheme, host, _ = host_and_port(self.url)
        if scheme == "ldaps" and self.start_tls:
            raise ValueError("start_tls: ldaps:// has TLS from its beginning; one of both would be right")
        if bool(self.bind_dn) != (self.password is not None):
            # A name without a password is an anonymous bind that succeeds (RFC 4513, 5.1.2), and reads nothing.
            raise ValueError("bind_dn and password belong together; both, or none for an anonymous bind")
        tls = scheme == "ldaps" or self.start_tls
        if self.password is not None and not tls and not self.allow_plain and not _is_here(host):
            raise ValueError(
                "the password would go over the network as it is; ldaps:// in url, or start_tls: true, would be"
                " right (or allow_plain: true, if nobody can listen)"
            )
        for key in self.sensitive_keys:
            if key not in self.keys:
                raise ValueError(f"sensitive_keys: there is no key {key!r} in keys")


@define
class _Listing:
    connection: LdapConnection
    timer: Any


class LdapAdapter:
    """An LDAP directory as an adapter."""

    options_class: ClassVar[type[LdapOptions]] = LdapOptions

    def __init__(self, name: str, options: LdapOptions, context: AdapterContext) -> None:
        self._name = name
        self._options = options
        self._plan = context.plan
        self._own = context.own
        self._reactor: Any = context.reactor
        self._attributes = {**_DIRECTORIES[options.directory]} | {
            role: tuple(names) for role, names in options.attributes.items()
        }
        self._everybody = read_filter(options.filter or _FILTERS[options.directory])
        self._client: LdapClient | None = None
        self._listings: dict[str, _Listing] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        found = {
            Capability.IDENTIFY,
            Capability.CARD,
            Capability.SEARCH,
            Capability.LIST,
            Capability.CHANGES,
        }
        if self._options.keys:
            found.add(Capability.KEY)
        if self._options.users_base is not None:
            found.add(Capability.USERS)
        return frozenset(found)

    @property
    def keys(self) -> Sequence[KeyKind]:
        return [KeyKind(key, key, key in self._options.sensitive_keys) for key in self._options.keys]

    async def start(self) -> None:
        options = self._options
        scheme, host, port = host_and_port(options.url)
        tls = "whole" if scheme == "ldaps" else ("start" if options.start_tls else "none")
        try:
            ca = None if options.ca_file is None else options.ca_file.read_bytes()
            server = Server(host, port, tls, ca, options.bind_dn, options.password)
            self._client = LdapClient(self._reactor, server, options.seconds)
        except OSError as error:
            raise AdapterUnavailable(f"ca_file cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise AdapterUnavailable("there is no certificate in ca_file") from error

    async def stop(self) -> None:
        for listing in list(self._listings):
            self._end_listing(listing)
        if self._client is not None:
            self._client.close()

    async def health(self) -> AdapterHealth:
        # The server's own entry: anybody may read it, and it is never long.
        own = Question("", pureldap.LDAP_SCOPE_baseObject, present("objectClass"), (_NOTHING,))
        try:
            await self._server.search(own)
        except AdapterError as error:
            return AdapterHealth(up=False, detail=str(error))
        return AdapterHealth(up=True)

    async def identify(self, number: Number) -> Sequence[Party]:
        if number.kind is not NumberKind.E164 or number.e164 is None or number.e164 in self._own:
            return ()
        tail = number.e164.lstrip("+")[-_TAIL:]
        fits = any_of(self._number_filter(attribute, tail) for attribute in self._attributes["numbers"])
        found = await self._server.search(self._question(fits, _CANDIDATES))
        parties = [
            listed.party
            for listed in self._parties(found.entries)
            if number.e164 in self._e164s(listed.numbers, listed.region)
        ]
        if found.partial and not parties:
            raise AdapterAnswerError("too many entries look like having the number to tell who does")
        return parties

    async def card(self, party: PartyRef) -> Party | None:
        value = self._id_value(party.id)
        if value is None:
            return None
        found = await self._server.search(self._question(equal(self._attributes["id"][0], value), 2))
        return next((each.party for each in self._parties(found.entries) if each.party.ref == party), None)

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        wanted = words.split()[:_WORDS]
        if not wanted or limit < 1:
            return ()
        fits = all_of(
            any_of(contains(attribute, word) for attribute in self._attributes["search"]) for word in wanted
        )
        found = await self._server.search(self._question(fits, limit))
        parties = [each.party for each in self._parties(found.entries)]
        first = wanted[0].casefold()
        return sorted(
            parties, key=lambda one: (not one.name.casefold().startswith(first), one.name.casefold())
        )[:limit]

    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        attribute = self._options.keys.get(kind)
        value = value.strip()
        if attribute is None or not value:
            return ()
        found = await self._server.search(
            self._question(equal(attribute, value.encode()), _CANDIDATES, attribute)
        )
        # A directory may take fewer letters for the same than we do.
        same = [
            entry
            for entry in found.entries
            if value.casefold() in (each.strip().casefold() for each in entry.values(attribute))
        ]
        return [evolve(each.party, match="key") for each in self._parties(same)]

    async def list(self, after: str | None) -> ListPage:
        mark = None
        if after is None:
            now = self._now()
            mark = _mark(now, now)
            name, cookie = await self._begin_listing(), b""
        else:
            name, _, coded = after.partition(":")
            try:
                cookie = base64.b64decode(coded, validate=True)
            except binascii.Error as error:
                raise AdapterAnswerError("this is no page of ours") from error
        page, cookie = await self._page(name, self._question(self._everybody, 0), cookie)
        return ListPage(
            list(self._parties(page)), f"{name}:{base64.b64encode(cookie).decode()}" if cookie else None, mark
        )

    async def changes(self, mark: str) -> ChangePage:
        listed, since = _read_mark(mark)
        now = self._now()
        if now - listed > _MARK_LASTS:
            raise MarkLost("who was deleted is told by nobody: the whole list has to be read once a day")
        changed = self._attributes["changed"][0]
        later = at_least(changed, (since - _SKEW).strftime("%Y%m%d%H%M%S.0Z"))
        question = self._question(later, 0)
        name, cookie, entries = await self._begin_listing(), b"", list[Entry]()
        while True:
            page, cookie = await self._page(name, question, cookie)
            entries += page
            if not cookie:
                return ChangePage(list(self._parties(entries)), (), _mark(listed, now))
            if len(entries) > _CHANGES:
                self._end_listing(name)
                raise MarkLost("more has changed than is worth reading one by one")

    async def users(self) -> Sequence[CrmUser]:
        options, attributes = self._options, self._attributes
        roles = ("user_id", "user_name", "user_login", "user_extension")
        fits = read_filter(options.users_filter or options.filter or _FILTERS[options.directory])
        question = Question(
            options.users_base or options.base,
            pureldap.LDAP_SCOPE_wholeSubtree,
            fits,
            [each for role in roles for each in attributes[role]],
        )
        name, cookie, found = await self._begin_listing(), b"", list[CrmUser]()
        while len(found) < _USERS:
            page, cookie = await self._page(name, question, cookie)
            for entry in page:
                if id := _first(entry, attributes["user_id"]):
                    title, login, extension = (_first(entry, attributes[role]) for role in roles[1:])
                    found.append(CrmUser(id, title, login, extension))
            if not cookie:
                return found
        self._end_listing(name)
        return found[:_USERS]

    # How it is asked.

    @property
    def _server(self) -> LdapClient:
        if self._client is None:
            raise AdapterUnavailable("not started")
        return self._client

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._reactor.seconds(), UTC)

    def _question(self, fits: Any, limit: int, *more: str) -> Question:
        options = self._options
        roles = (
            "id",
            "name",
            "company",
            "numbers",
            "region",
            "url",
            "language",
            "tags",
            "notes",
            "owner",
            "tier",
        )
        return Question(
            base=options.base,
            scope=pureldap.LDAP_SCOPE_singleLevel
            if options.scope == "one"
            else pureldap.LDAP_SCOPE_wholeSubtree,
            filter=fits if fits is self._everybody else all_of((fits, self._everybody)),
            attributes=[
                *dict.fromkeys(each for role in roles for each in self._attributes[role]),
                "objectClass",
                *more,
            ],
            limit=limit,
        )

    def _number_filter(self, attribute: str, tail: str) -> Any:
        """By the last digits. ``digits``: whatever stands between them; what comes back is checked in any case."""
        if self._options.match == "suffix":
            # slapd takes 66969-27 for 6696927 (RFC 4517, 4.2.30), and has an index for it.
            return ends_with(attribute, tail)
        return contains(attribute, *tail)

    def _id_value(self, id: str) -> bytes | None:
        if self._attributes["id"][0].lower() != "objectguid":
            return id.encode()
        try:
            return uuid.UUID(id).bytes_le
        except ValueError:
            return None

    async def _begin_listing(self) -> str:
        while len(self._listings) >= _LISTINGS:
            self._end_listing(next(iter(self._listings)))
        connection = await self._server.connect()
        name = uuid.uuid4().hex
        self._listings[name] = _Listing(connection, None)
        self._keep(name)
        return name

    def _keep(self, name: str) -> None:
        listing = self._listings[name]
        if listing.timer is not None and listing.timer.active():
            listing.timer.cancel()
        listing.timer = self._reactor.callLater(_LISTING_SECONDS, self._end_listing, name)

    def _end_listing(self, name: str) -> None:
        listing = self._listings.pop(name, None)
        if listing is not None:
            if listing.timer.active():
                listing.timer.cancel()
            listing.connection.close()

    async def _page(self, name: str, question: Question, cookie: bytes) -> tuple[Sequence[Entry], bytes]:
        listing = self._listings.get(name)
        if listing is None:
            raise AdapterUnavailable(
                "the list was left standing too long; it has to be read from its beginning"
            )
        whole = False
        try:
            asked = evolve(question, page=int(self._options.page), cookie=cookie)
            found = await self._server.search_on(listing.connection, asked)
            if found.partial:
                raise AdapterAnswerError(
                    "the server ends lists before their end: our account needs a higher limit (slapd: `limits"
                    ' dn.exact="…" size=unlimited`)'
                )
            whole = bool(found.cookie)
            if whole and name in self._listings:
                self._keep(name)
            return found.entries, found.cookie
        finally:
            if not whole:
                self._end_listing(name)

    # What is made of the answers.

    def _parties(self, entries: Collection[Entry]) -> Iterator[ListedParty]:
        for entry in entries:
            if (listed := self._party(entry)) is not None:
                yield listed

    def _party(self, entry: Entry) -> ListedParty | None:
        first = {role: _first(entry, names) for role, names in self._attributes.items()}
        id = self._id_of(entry)
        if id is None or not first["name"]:
            return None
        kinds = {kind.lower() for kind in entry.values("objectClass")}
        party = Party(
            adapter=self._name,
            type=PartyType.ORGANISATION if "organization" in kinds else PartyType.CONTACT,
            id=id,
            name=first["name"],
            company=first["company"],
            url=first["url"] or None,
            owner=first["owner"] or None,
            tier=first["tier"] or None,
            language=first["language"] or None,
            tags=[value for name in self._attributes["tags"] for value in entry.values(name)],
            notes=first["notes"],
            organisation=first["company"] or None,
        )
        numbers = tuple(
            ListedNumber(raw, name)
            for name in self._attributes["numbers"]
            for raw in entry.values(name)
            if raw.strip()
        )
        region = first["region"].strip().upper()
        return ListedParty(party, numbers, region if len(region) == 2 and region.isalpha() else None)

    def _id_of(self, entry: Entry) -> str | None:
        name = self._attributes["id"][0].lower()
        values = entry.attributes.get(name, ())
        if not values:
            return None
        if name == "objectguid":
            return str(uuid.UUID(bytes_le=values[0])) if len(values[0]) == 16 else None
        text = values[0].decode("utf-8", "replace").strip()
        return text if 0 < len(text) <= 128 else None

    def _e164s(self, numbers: Sequence[ListedNumber], region: str | None) -> set[str | None]:
        plan = _plan_of(self._plan, region)
        return {plan.parse(number.raw).e164 for number in numbers}


def _plan_of(plan: NumberPlan, region: str | None) -> NumberPlan:
    try:
        return plan.for_region(region) if region else plan
    except ValueError:
        return plan


def _first(entry: Entry, names: Sequence[str]) -> str:
    return next((value for name in names for value in entry.values(name) if value.strip()), "")


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _mark(listed: datetime, since: datetime) -> str:
    return f"{listed.isoformat()}/{since.isoformat()}"


def _read_mark(mark: str) -> tuple[datetime, datetime]:
    try:
        listed, since = (datetime.fromisoformat(each) for each in mark.split("/"))
        if listed.tzinfo is None or since.tzinfo is None:
            raise ValueError("times without their zone")
    except ValueError as error:
        raise MarkLost("this is no mark of ours") from error
    return listed, since
