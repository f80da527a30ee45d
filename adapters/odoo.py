"""Odoo as an adapter: 19 and later by JSON-2, earlier ones by JSON-RPC; contacts, companies and open leads.

What Odoo's records mean is left to ``odoo_records``, how its methods are called to ``odoo_api``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults

from adapters.base import (
    AdapterAnswerError,
    AdapterContext,
    AdapterError,
    AdapterHealth,
    AdapterUnavailable,
    Capability,
    ChangePage,
    CrmUser,
    JournalEntry,
    JournalState,
    KeyKind,
    ListedNumber,
    ListedParty,
    ListPage,
    MarkLost,
    NewParty,
    NewTask,
    NumberChanged,
    Party,
    PartyRef,
    PartyType,
    Written,
)
from adapters.http_client import HttpClient, Limits, TlsOptions, origin_of
from adapters.odoo_api import OdooApi, OdooLogin, OdooRefused, open_api
from adapters.odoo_records import (
    ACTIVITY,
    LEAD,
    LEAD_FIELDS,
    MESSAGE,
    MODELS,
    NUMBER_FIELDS,
    PARTNER,
    PARTNER_FIELDS,
    Reader,
    Record,
    any_of,
    html_of,
    id_of,
    ids,
    like,
    moment,
    odoo_day,
    odoo_time,
    record_id,
    records,
    user_of,
    written_to,
)
from cti.numbers import Number, NumberKind, spellings, stem_of_switchboard, stems, switchboards
from cti.secret import Secret

T = TypeVar("T")

_CAPABILITIES: Final = frozenset(
    {
        Capability.IDENTIFY,
        Capability.CARD,
        Capability.SEARCH,
        Capability.KEY,
        Capability.LIST,
        Capability.CHANGES,
        Capability.USERS,
        Capability.CREATE,
        Capability.JOURNAL,
        Capability.NOTE,
        Capability.TASK,
        Capability.NUMBERS,
    }
)
APIS: Final = ("json2", "jsonrpc")
#: The module of the external ids of all that we write of calls.
MODULE: Final = "cordboard"

_FOUND_LIMIT: Final = 100
_PAGE: Final = 500
_CARD_MESSAGES: Final = 10
_WORDS_LIMIT: Final = 8
#: Longer than a transaction of Odoo's takes: it is stamped with the time of its beginning.
_OVERLAP: Final = timedelta(minutes=2)

#: Colleagues are no customers: of a user of the company's own, Odoo keeps a partner, too.
_CUSTOMERS: Final = ["partner_share", "=", True]
_ALL: Final = ["active", "in", [True, False]]
_NOT_WON: Final = ["stage_id.is_won", "=", False]
_CALL: Final = "mail.mail_activity_data_call"
_TO_DO: Final = "mail.mail_activity_data_todo"
_NOTE: Final = "mail.mt_note"
#: What no text in a PostgreSQL can have.
_NEVER: Final = "\0"
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")


def _api(_: object, __: object, value: str | None) -> None:
    if value is not None and value not in APIS:
        raise ValueError(f"{value!r} is no interface of Odoo; {' or '.join(APIS)} would be right")


def _address(_: object, __: object, value: str) -> None:
    origin_of(value)


@frozen
class OdooOptions:
    """``url``: where browsers find it; ``key``: an API key of the user ``login``, who needs ``login`` and
    ``database`` only before 19. ``api``: json2 or jsonrpc; found out if not given. ``keys``: by which field of a
    contact a kind of key finds them. ``ca_file``: PEM, for a certificate of the company's own.
    """

    url: str = field(validator=_address)
    key: Secret
    database: str | None = None
    login: str | None = None
    api: str | None = field(default=None, validator=_api)
    keys: Mapping[str, str] = field(factory=lambda: {"customer": "ref", "vat": "vat"})
    ca_file: str | None = None


@frozen
class _Odoo:
    """What is known of an Odoo once it has been asked.

    ``numbers``: model → its fields with numbers. ``keys``: those of the configured fields that there are.
    ``archives``: whether activities that are done stay, in the archive.
    """

    api: OdooApi
    reader: Reader
    numbers: Mapping[str, Sequence[str]]
    keys: frozenset[str]
    archives: bool
    calendar: bool

    @property
    def leads(self) -> bool:
        return LEAD in self.numbers

    def fields(self, model: str, *more: str) -> list[str]:
        base = PARTNER_FIELDS if model == PARTNER else LEAD_FIELDS
        return [*base, *self.numbers[model], *more]

    async def read(
        self, model: str, domain: Sequence[Any], fields: Sequence[str], **how: Any
    ) -> list[Record]:
        """The records that meet the domain. Raises ``AdapterError``."""
        return records(
            await self.api.call(
                model, "search_read", reads=True, domain=list(domain), fields=list(fields), **how
            )
        )


class OdooAdapter:
    """One Odoo; ``start`` looks what it is, and who asks first if it could not be reached then."""

    options_class: ClassVar[type[OdooOptions]] = OdooOptions
    journals_early: ClassVar[bool] = True
    journals_changes: ClassVar[bool] = True
    journals_by_key: ClassVar[bool] = True
    journals_unknown: ClassVar[bool] = False

    def __init__(self, name: str, options: OdooOptions, context: AdapterContext) -> None:
        self._name = name
        self._options = options
        self._url = options.url.rstrip("/")
        self._context = context
        self._client: HttpClient | None = None
        self._found: _Odoo | None = None
        self._tags: dict[str, dict[int, str]] = {}
        self._users: dict[int, str] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        return _CAPABILITIES

    @property
    def keys(self) -> Sequence[KeyKind]:
        named = [KeyKind(name, name.replace("_", " ").capitalize()) for name in self._options.keys]
        return [*named, KeyKind("lead", "Lead")]

    async def start(self) -> None:
        tls = None
        if self._options.ca_file is not None:
            tls = TlsOptions.from_file(self._context.base / Path(self._options.ca_file))
        if self._context.trace is not None:
            self._context.trace.hide(self._options.key.reveal())
        self._client = HttpClient(
            self._context.reactor,
            hosts=[self._options.url],
            limits=Limits(seconds=10.0, body=8_000_000),
            tls=tls,
            trace=self._context.trace,
        )
        await self._odoo()

    async def stop(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def health(self) -> AdapterHealth:
        try:
            odoo = await self._odoo()
            await odoo.api.call("res.users", "context_get", reads=True)
        except AdapterError as error:
            return AdapterHealth(up=False, detail=str(error))
        return AdapterHealth(up=True)

    async def _odoo(self) -> _Odoo:
        if self._found is not None:
            return self._found
        if self._client is None:
            raise AdapterUnavailable("the adapter was not started")
        options = self._options
        login = OdooLogin(self._url, options.database, options.login, options.key.reveal())
        self._found = await self._look(await open_api(self._client, login, options.api))
        return self._found

    async def _look(self, api: OdooApi) -> _Odoo:
        """Which models and fields this Odoo has, of those that differ by version and by what is installed."""
        partner = await _fields(api, PARTNER, *NUMBER_FIELDS, "phone_sanitized", *self._options.keys.values())
        if "phone_sanitized" not in partner:
            raise AdapterUnavailable(
                "Odoo keeps no sanitised numbers: install its module Phone Numbers Validation (phone_validation)"
            )
        lead, activity, event, countries = await _together(
            _fields(api, LEAD, *NUMBER_FIELDS),
            _fields(api, ACTIVITY, "active"),
            _fields(api, "calendar.event", "start"),
            api.call("res.country", "search_read", reads=True, domain=[], fields=["code"]),
        )
        models = {PARTNER: partner, LEAD: lead}
        with _understood():
            codes = {country["id"]: str(country["code"]) for country in records(countries)}
        return _Odoo(
            api,
            Reader(self._name, self._url, self._context.plan, codes),
            {
                model: tuple(name for name in NUMBER_FIELDS if name in has)
                for model, has in models.items()
                if has
            },
            frozenset(partner & set(self._options.keys.values())),
            archives="active" in activity,
            calendar=bool(event),
        )

    # Who it is.

    async def identify(self, number: Number) -> Sequence[Party]:
        if number.kind is not NumberKind.E164 or number.e164 is None or number.e164 in self._context.own:
            return ()
        odoo = await self._odoo()
        e164 = number.e164
        possible = stems(e164, self._context.own)
        companies = [key for stem in possible for key in switchboards(stem)]
        partners, leads = await _together(
            odoo.read(
                PARTNER,
                [*self._having(PARTNER, e164, companies), _CUSTOMERS],
                odoo.fields(PARTNER, "comment"),
                limit=_FOUND_LIMIT,
            ),
            self._leads_with(odoo, e164),
        )
        with _understood():
            found = [each for each in partners if e164 in odoo.reader.e164s(each).values()]
            match = "number"
            if not found and not leads:
                found, match = self._companies(odoo, partners, possible), "stem"
        return await self._parties(odoo, found, leads, match)

    def _having(self, model: str, e164: str, more: Sequence[str] = ()) -> list[Any]:
        """The domain of who has a number, as Odoo sanitised it or as somebody typed it without blanks.

        The latter for what Odoo could not sanitise, and for the other one of two numbers, as before 19 it sanitised
        one of them only.
        """
        typed = list(dict.fromkeys((e164, *spellings(e164, self._context.plan.region)[-1:])))
        return any_of(
            [
                ["phone_sanitized", "in", [e164, *more]],
                *(["phone_mobile_search", "=", each] for each in typed),
            ]
        )

    async def _leads_with(self, odoo: _Odoo, e164: str) -> list[Record]:
        if not odoo.leads:
            return []
        domain = [*self._having(LEAD, e164), _NOT_WON]
        found = await odoo.read(LEAD, domain, odoo.fields(LEAD, "description"), limit=_FOUND_LIMIT)
        with _understood():
            return [each for each in found if e164 in odoo.reader.e164s(each).values()]

    @staticmethod
    def _companies(odoo: _Odoo, partners: Sequence[Record], possible: Sequence[str]) -> list[Record]:
        """Those whose switchboard has the longest of these stems."""
        by_stem: dict[str, list[Record]] = {}
        for each in partners:
            if each.get("is_company"):
                for raw, e164 in odoo.reader.e164s(each).items():
                    by_stem.setdefault(stem_of_switchboard(raw, e164) or "", []).append(each)
        return next((by_stem[stem] for stem in possible if stem in by_stem), [])

    async def _parties(
        self, odoo: _Odoo, partners: Sequence[Record], leads: Sequence[Record], match: str
    ) -> list[Party]:
        """The parties, with what is open for them."""
        if not partners and not leads:
            return []
        with _understood():
            belong = {each["id"] for each in partners} | {
                id for each in partners if (id := id_of(each.get("commercial_partner_id"))) is not None
            }
        open_leads, tags, lead_tags = await _together(
            self._open_leads(odoo, [["partner_id", "in", sorted(belong)]] if belong else None),
            self._names(odoo, PARTNER, partners),
            self._names(odoo, LEAD, leads),
        )
        with _understood():
            parties = [self._with_leads(odoo, each, open_leads, tags, match=match) for each in partners]
            parties += [
                odoo.reader.lead(each, lead_tags)
                for each in leads
                if id_of(each.get("partner_id")) not in belong
            ]
        return parties

    def _with_leads(
        self, odoo: _Odoo, partner: Record, leads: Sequence[Record], tags: Mapping[int, str], **more: Any
    ) -> Party:
        """A partner whose salesperson is that of the newest open lead, if they have none of their own."""
        party = odoo.reader.partner(partner, tags, **more)
        theirs = [
            each for each in leads if str(id_of(each.get("partner_id"))) in (party.id, party.organisation)
        ]
        owner = party.owner or next((user for each in theirs if (user := user_of(each)) is not None), None)
        return evolve(party, owner=owner, cases=tuple(odoo.reader.case(each) for each in theirs))

    async def _open_leads(self, odoo: _Odoo, domain: Sequence[Any] | None) -> list[Record]:
        if domain is None or not odoo.leads:
            return []
        fields = ["name", "stage_id", "create_date", "user_id", "partner_id"]
        return await odoo.read(
            LEAD, [*domain, _NOT_WON], fields, order="create_date desc, id desc", limit=100
        )

    async def _names(self, odoo: _Odoo, model: str, of: Sequence[Record]) -> Mapping[int, str]:
        """The names of tags, which change seldom: asked for once, as long as there are no others."""
        tag, field_name = _TAGS[model]
        known = self._tags.setdefault(tag, {})
        with _understood():
            strange = {id for each in of for id in ids(each.get(field_name) or ())} - known.keys()
        if strange:
            tags = await odoo.read(tag, [], ["name"], limit=1000)
            with _understood():
                known.clear()
                known.update({each["id"]: str(each["name"]) for each in tags})
        return known

    async def card(self, party: PartyRef) -> Party | None:
        place = written_to(party)
        odoo = await self._odoo()
        if place is None or place[0] not in odoo.numbers:
            return None
        model, id = place
        more = "comment" if model == PARTNER else "description"
        found = await odoo.read(model, [["id", "=", id]], odoo.fields(model, more))
        if not found:
            return None
        (record,) = found[:1]
        commercial = id_of(record.get("commercial_partner_id"))
        family = None if model == LEAD else [["partner_id", "child_of", commercial or id]]
        leads, tags, lead_tags = await _together(
            self._open_leads(odoo, family),
            self._names(odoo, PARTNER, found if model == PARTNER else ()),
            self._names(odoo, LEAD, found if model == LEAD else ()),
        )
        with _understood():
            about = {model: [id]}
            if leads:
                about[LEAD] = [each["id"] for each in leads]
            if commercial is not None and commercial != id:
                about[model] = [id, commercial]
        tasks, messages, events, users = await _together(
            self._tasks(odoo, about),
            self._messages(odoo, about),
            self._events(odoo, id if model == PARTNER else id_of(record.get("partner_id"))),
            self._writers(odoo),
        )
        reader = odoo.reader
        with _understood():
            if model == LEAD:
                whole = reader.lead(record, lead_tags)
            else:
                whole = self._with_leads(odoo, record, (), tags)
                owners = [user for each in leads if (user := user_of(each)) is not None]
                whole = evolve(
                    whole,
                    cases=tuple(reader.case(each) for each in leads),
                    owner=whole.owner or next(iter(owners), None),
                )
            return evolve(
                whole,
                tasks=tuple(reader.task(each) for each in tasks),
                last_contacts=tuple(
                    said for each in messages if (said := reader.contact(each, users)) is not None
                ),
                appointments=tuple(one for each in events if (one := reader.appointment(each)) is not None),
            )

    async def _tasks(self, odoo: _Odoo, about: Mapping[str, Sequence[int]]) -> list[Record]:
        # A call that goes on stands among the activities as well, automated, until it is over.
        calls_over = ["|", ["automated", "=", False], ["activity_type_id.category", "!=", "phonecall"]]
        domain = [*_about(about, "res_model"), *calls_over]
        fields = ["summary", "activity_type_id", "date_deadline", "user_id", "res_model", "res_id"]
        return await odoo.read(ACTIVITY, domain, fields, order="date_deadline, id", limit=20)

    async def _messages(self, odoo: _Odoo, about: Mapping[str, Sequence[int]]) -> list[Record]:
        # What people and calls have left, and not what Odoo notes of each change.
        said = ["|", ["message_type", "!=", "notification"], ["mail_activity_type_id", "!=", False]]
        fields = ["date", "body", "subject", "message_type", "mail_activity_type_id", "author_id"]
        domain = [*_about(about, "model"), *said]
        return await odoo.read(MESSAGE, domain, fields, order="date desc, id desc", limit=_CARD_MESSAGES)

    async def _events(self, odoo: _Odoo, partner: int | None) -> list[Record]:
        if not odoo.calendar or partner is None:
            return []
        now = odoo_time(_utc(self._context.reactor.seconds()))
        domain = [["partner_ids", "in", [partner]], ["start", ">=", now]]
        return await odoo.read(
            "calendar.event", domain, ["name", "start", "user_id"], order="start", limit=20
        )

    async def _writers(self, odoo: _Odoo) -> Mapping[int, str]:
        """The users by the partners as whom they write; they change seldom."""
        if not self._users:
            await self._read_users(odoo)
        return self._users

    async def _read_users(self, odoo: _Odoo) -> list[Record]:
        fields = ["name", "login", "active", "partner_id", "phone"]
        found = await odoo.read("res.users", [["share", "=", False]], fields, limit=5000)
        with _understood():
            self._users = {id_of(each["partner_id"]) or 0: str(each["id"]) for each in found}
        return found

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        odoo = await self._odoo()
        wanted = [like(word) for word in words.split()[:_WORDS_LIMIT]]
        if not wanted or _NEVER in words:
            return ()
        in_partner = ("name", "commercial_company_name", "email", "ref", *odoo.numbers[PARTNER])
        in_lead = ("name", "contact_name", "partner_name", "email_from")
        partners, leads = await _together(
            odoo.read(PARTNER, [*_saying(wanted, in_partner), _CUSTOMERS], odoo.fields(PARTNER), limit=limit),
            odoo.read(
                LEAD,
                [*_saying(wanted, in_lead), _NOT_WON, ["partner_id", "=", False]],
                odoo.fields(LEAD),
                limit=limit,
            )
            if odoo.leads
            else _nothing(),
        )
        tags, lead_tags = await _together(
            self._names(odoo, PARTNER, partners),
            self._names(odoo, LEAD, leads),
        )
        first = words.split()[0].casefold()
        with _understood():
            found = [odoo.reader.partner(each, tags) for each in partners]
            found += [odoo.reader.lead(each, lead_tags) for each in leads]
        return sorted(found, key=lambda party: not party.name.casefold().startswith(first))[:limit]

    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        odoo = await self._odoo()
        value = value.strip()
        if kind == "lead":
            return await self._by_lead(odoo, record_id(value))
        name = self._options.keys.get(kind)
        if name is None or not value or _NEVER in value:
            return ()
        if name not in odoo.keys:
            raise AdapterAnswerError(f"Odoo's contacts have no field {name!r}, which `keys` has for {kind!r}")
        found = await odoo.read(
            PARTNER, [[name, "=", value]], odoo.fields(PARTNER, "comment", name), limit=_FOUND_LIMIT
        )
        return await self._parties(odoo, [each for each in found if each.get(name) == value], (), "key")

    async def _by_lead(self, odoo: _Odoo, id: int | None) -> Sequence[Party]:
        if id is None or not odoo.leads:
            return ()
        leads = await odoo.read(LEAD, [["id", "=", id]], odoo.fields(LEAD, "description"))
        partner = next((id_of(each.get("partner_id")) for each in leads), None)
        if partner is None:
            return [evolve(party, match="key") for party in await self._parties(odoo, (), leads, "key")]
        found = await odoo.read(PARTNER, [["id", "=", partner]], odoo.fields(PARTNER, "comment"))
        return await self._parties(odoo, found, (), "key")

    # All of them.

    async def list(self, after: str | None) -> ListPage:
        odoo = await self._odoo()
        mark = None
        if after is None:
            mark = (await self._mark(odoo)).text()
            self._tags.clear()
        model, last = _place(after)
        numbers = any_of([[name, "!=", False] for name in odoo.numbers[model]])
        domain = [["id", ">", last], *numbers, *_parties_of(model)]
        found = await odoo.read(model, domain, odoo.fields(model), order="id", limit=_PAGE)
        parties = await self._listed(odoo, model, found)
        if len(found) == _PAGE:
            return ListPage(parties, f"{model} {found[-1]['id']}", mark)
        following = f"{LEAD} 0" if model == PARTNER and odoo.leads else None
        return ListPage(parties, following, mark)

    async def _listed(self, odoo: _Odoo, model: str, found: Sequence[Record]) -> Sequence[ListedParty]:
        tags = await self._names(odoo, model, found)
        make = odoo.reader.partner if model == PARTNER else odoo.reader.lead
        with _understood():
            return [odoo.reader.listed(make(each, tags), each) for each in found]

    async def _mark(self, odoo: _Odoo) -> _Mark:
        """Up to when everything is known that happened, and how many records there were."""
        known = {}
        for model in odoo.numbers:
            newest = await odoo.read(model, [_ALL], ["write_date"], order="write_date desc", limit=1)
            highest = await odoo.read(model, [_ALL], ["create_date"], order="id desc", limit=1)
            with _understood():
                until = newest[0]["write_date"] if newest else ""
                last = highest[0]["id"] if highest else 0
            known[model] = _Known(until, last, await _count(odoo, model, last))
        return _Mark(known)

    async def changes(self, mark: str) -> ChangePage:
        odoo = await self._odoo()
        now = _Mark.read(mark)
        if set(now.known) != set(odoo.numbers):
            raise MarkLost("the mark is of an Odoo with other modules")
        if now.next is None:
            for model, known in now.known.items():
                # Nothing tells which: what is deleted in Odoo leaves no trace.
                if await _count(odoo, model, known.last) != known.count:
                    raise MarkLost("contacts were deleted in Odoo, and it does not tell which")
            now = evolve(now, next=await self._mark(odoo), model=PARTNER, after=0)
        known = now.known[now.model]
        domain = [["id", ">", now.after], _ALL]
        if known.until:
            domain.append(["write_date", ">=", _earlier(known.until)])
        fields = odoo.fields(now.model, "active", *(("partner_share",) if now.model == PARTNER else ()))
        found = await odoo.read(now.model, domain, fields, order="id", limit=_PAGE)
        with _understood():
            here = [each for each in found if _is_party(now.model, each)]
            refs = {ref for each in found for ref in _refs(now.model, each)}
        parties = await self._listed(odoo, now.model, here)
        # Who was a person and is a company now is gone as what they were.
        gone = sorted(refs - {each.party.ref for each in parties}, key=str)
        if len(found) == _PAGE:
            now = evolve(now, after=found[-1]["id"])
        elif now.model == PARTNER and odoo.leads:
            now = evolve(now, model=LEAD, after=0)
        else:
            now = now.next or now
        return ChangePage(parties, gone, now.text(), more=now.next is not None)

    async def users(self) -> Sequence[CrmUser]:
        odoo = await self._odoo()
        found = await self._read_users(odoo)
        with _understood():
            return [
                CrmUser(
                    each["id"],
                    each.get("name") or "",
                    each.get("login") or "",
                    self._context.plan.parse(each.get("phone") or "").internal or "",
                    bool(each.get("active", True)),
                )
                for each in found
            ]

    # What is written.

    async def create(self, party: NewParty) -> Party:
        odoo = await self._odoo()
        model = MODELS.get(party.type)
        if model is None or model not in odoo.numbers:
            raise AdapterAnswerError(f"Odoo has no {party.type.value} to be created")
        values: dict[str, Any]
        if model == LEAD:
            values = {
                "name": party.name,
                "contact_name": party.name,
                "partner_name": party.company,
                "description": html_of(party.notes),
            }
        else:
            organisation = party.type is PartyType.ORGANISATION
            values = {
                "name": party.name,
                "is_company": organisation,
                "company_name": "" if organisation else party.company,
                "comment": html_of(party.notes),
            }
        values["phone"] = party.number
        made = ids(await odoo.api.call(model, "create", vals_list=[values]) or ())
        found = await odoo.read(model, [["id", "in", made]], odoo.fields(model))
        if not found:
            raise AdapterAnswerError(f"Odoo made no {model} that can be read")
        listed = await self._listed(odoo, model, found[:1])
        return listed[0].party

    async def note(self, party: PartyRef, text: str) -> Written:
        odoo = await self._odoo()
        model, id = self._written_to(odoo, party)
        message = await self._load(
            odoo,
            MESSAGE,
            {"body": html_of(text), "message_type": "comment", "subtype_id/id": _NOTE},
            default_model=model,
            default_res_id=id,
        )
        return Written(MESSAGE, message, odoo.reader.address(model, id))

    async def add_task(self, party: PartyRef, task: NewTask) -> Written:
        odoo = await self._odoo()
        model, id = self._written_to(odoo, party)
        due = task.due or _utc(self._context.reactor.seconds())
        values = {
            **_of(model, id),
            "activity_type_id/id": _TO_DO,
            "summary": task.title,
            "note": html_of(task.text),
            "date_deadline": odoo_day(due),
        }
        if task.owner is not None:
            values["user_id/.id"] = _user(task.owner)
        return Written(ACTIVITY, await self._load(odoo, ACTIVITY, values), odoo.reader.address(model, id))

    async def write_number(self, party: PartyRef, old: ListedNumber, new: str) -> None:
        odoo = await self._odoo()
        model, id = self._written_to(odoo, party)
        if old.field not in odoo.numbers[model]:
            raise NumberChanged("there is no such number any more")
        found = await odoo.read(model, [["id", "=", id]], [old.field])
        if not found or found[0].get(old.field) != old.raw:
            raise NumberChanged("the number is another one by now")
        await odoo.api.call(model, "write", [id], vals={old.field: new})

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        odoo = await self._odoo()
        place = written_to(entry.party) if entry.party is not None else None
        if place is None or place[0] not in odoo.numbers:
            raise AdapterAnswerError("a call is noted on somebody whom Odoo knows")
        if entry.was is not None:
            written = await self._known_of(odoo, entry, entry.was, written)
        try:
            return await self._journal(odoo, entry, *place, written)
        except OdooRefused:
            if await odoo.read(place[0], [["id", "=", place[1]], _ALL], ["id"]):
                raise
            # Deleted meanwhile, and with it all that stood there.
            return ()

    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        odoo = await self._odoo()
        if entry.was is not None:
            written = await self._known_of(odoo, entry, entry.was, written)
        await self._remove(odoo, written)
        return ()

    async def _known_of(
        self, odoo: _Odoo, entry: JournalEntry, was: PartyRef, written: Sequence[Written]
    ) -> Sequence[Written]:
        """What was written there before, also if the answer to that was lost."""
        place = written_to(was)
        if written or place is None or place[0] not in odoo.numbers:
            return written
        try:
            # Only Odoo's administrators may look an external id up; whoever writes by one learns what it stands for.
            return await self._journal(odoo, evolve(entry, party=was, was=None), *place, ())
        except OdooRefused:
            return ()

    async def _journal(
        self, odoo: _Odoo, entry: JournalEntry, model: str, id: int, written: Sequence[Written]
    ) -> Sequence[Written]:
        """An activity from the first ring on, done when somebody has talked, and a message once the call is over."""
        address = odoo.reader.address(model, id)
        key = entry.key if _PLAIN_KEY.fullmatch(entry.key) else hashlib.sha256(entry.key.encode()).hexdigest()
        user = await self._responsible(odoo, entry, model, id)
        now: list[Written] = []
        if odoo.archives or entry.state is not JournalState.ENDED:
            activity = await self._load(
                odoo,
                ACTIVITY,
                {"id": f"{MODULE}.call_{key}", **_of(model, id), **self._activity(odoo, entry, user)},
                # Who talks needs no mail that they have something to do.
                mail_activity_quick_update=True,
            )
            now.append(Written(ACTIVITY, activity, address))
        if entry.state in (JournalState.ENDED, JournalState.MISSED):
            message = await self._load(
                odoo,
                MESSAGE,
                # A message stays where it is: when it turns out to be somebody else's, theirs is another one.
                {
                    "id": f"{MODULE}.call_{key}_{model.replace('.', '_')}_{id}",
                    **await self._message(odoo, entry),
                },
                default_model=model,
                default_res_id=id,
            )
            now.append(Written(MESSAGE, message, address))
        kept = {(each.type, each.id) for each in now}
        await self._remove(
            odoo, [each for each in written if (each.type, each.id) not in kept and each.url != address]
        )
        if not odoo.archives and entry.state is JournalState.ENDED:
            await self._remove(odoo, [each for each in written if each.type == ACTIVITY])
        return now

    def _activity(self, odoo: _Odoo, entry: JournalEntry, user: int | None) -> dict[str, Any]:
        over = entry.state in (JournalState.ENDED, JournalState.MISSED)
        values: dict[str, Any] = {
            "activity_type_id/id": _CALL,
            "summary": entry.subject,
            "note": html_of(entry.text),
            "date_deadline": odoo_day(entry.started),
            # What is missed is for somebody to do; until then nobody need care.
            "automated": "0" if over else "1",
        }
        if user is not None:
            values["user_id/.id"] = str(user)
        if odoo.archives:
            values["active"] = "0" if entry.state is JournalState.ENDED else "1"
        return values

    async def _message(self, odoo: _Odoo, entry: JournalEntry) -> dict[str, Any]:
        lines = [f"<b>{html_of(entry.subject)}</b>", html_of(entry.text)]
        if entry.recording is not None:
            address = html_of(entry.recording)
            lines.append(f'<a href="{address}">{address}</a>')
        values = {
            "body": "<p>" + "<br>".join(line for line in lines if line) + "</p>",
            "date": odoo_time(entry.started),
            "message_type": "notification",
            "subtype_id/id": _NOTE,
            "mail_activity_type_id/id": _CALL,
        }
        # Who was only rung has said nothing.
        if entry.user is not None and entry.talk > 0:
            partners = {user: partner for partner, user in (await self._writers(odoo)).items()}
            if entry.user in partners:
                values["author_id/.id"] = str(partners[entry.user])
        return values

    async def _responsible(self, odoo: _Odoo, entry: JournalEntry, model: str, id: int) -> int | None:
        """Whose activity it is: of who talked, else of the salesperson."""
        if entry.user is not None and (user := record_id(entry.user)) is not None:
            return user
        found = await odoo.read(model, [["id", "=", id], _ALL], ["user_id"])
        return next((id_of(each.get("user_id")) for each in found), None)

    async def _load(self, odoo: _Odoo, model: str, values: Mapping[str, Any], **context: Any) -> int:
        """Make a record, or change the one that has the external id that stands as ``id``; its own id.

        Odoo's import does both in one transaction, and asks for no rights but those on the record.
        """
        answer = await odoo.api.call(
            model, "load", fields=list(values), data=[list(values.values())], context=context
        )
        made = answer.get("ids") if isinstance(answer, dict) else None
        if not isinstance(made, list) or len(made) != 1 or not isinstance(made[0], int):
            # What it says of it may quote the record.
            raise OdooRefused(model, "load", "the record was not taken")
        return made[0]

    async def _remove(self, odoo: _Odoo, gone: Sequence[Written]) -> None:
        for model in (ACTIVITY, MESSAGE):
            wanted = [id for each in gone if each.type == model and (id := record_id(each.id)) is not None]
            # Activities that are done are in the archive.
            every = [_ALL] if model == ACTIVITY and odoo.archives else []
            left = await odoo.read(model, [["id", "in", wanted], *every], ["id"]) if wanted else []
            if left:
                await odoo.api.call(model, "unlink", [each["id"] for each in left])

    def _written_to(self, odoo: _Odoo, party: PartyRef) -> tuple[str, int]:
        place = written_to(party)
        if place is None or place[0] not in odoo.numbers:
            raise AdapterAnswerError("Odoo has no such party")
        return place


@frozen
class _Known:
    """Of one model: up to when changes are known, the highest id then, and how many there were up to it."""

    until: str
    last: int
    count: int


@frozen
class _Mark:
    """Where changes go on. ``next`` is the mark after them, while they are read page by page: those of ``model``
    with an id higher than ``after`` come next."""

    known: Mapping[str, _Known]
    next: _Mark | None = None
    model: str = PARTNER
    after: int = 0

    def text(self) -> str:
        return json.dumps(self._plain(), separators=(",", ":"))

    def _plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = {
            "known": {model: [each.until, each.last, each.count] for model, each in self.known.items()}
        }
        if self.next is not None:
            plain |= {"next": self.next._plain(), "model": self.model, "after": self.after}
        return plain

    @classmethod
    def read(cls, text: str) -> _Mark:
        """Raises ``MarkLost``."""
        try:
            return cls._of(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise MarkLost("this is no mark of this adapter's") from None

    @classmethod
    def _of(cls, plain: Mapping[str, Any]) -> _Mark:
        known = {
            str(model): _Known(str(until), int(last), int(count))
            for model, (until, last, count) in plain["known"].items()
        }
        for each in known.values():
            moment(each.until)
        if "next" not in plain:
            return cls(known)
        return cls(known, cls._of(plain["next"]), str(plain["model"]), int(plain["after"]))


_TAGS: Final = {PARTNER: ("res.partner.category", "category_id"), LEAD: ("crm.tag", "tag_ids")}


async def _together(*asking: Coroutine[Any, Any, Any]) -> list[Any]:
    """All their answers; the first error is raised, and whoever is cancelled cancels all."""
    try:
        answers: list[Any] = await gatherResults(
            [Deferred.fromCoroutine(each) for each in asking], consumeErrors=True
        )
    except FirstError as error:
        error.subFailure.raiseException()
        raise
    return answers


async def _nothing() -> list[Record]:
    return []


@contextmanager
def _understood() -> Iterator[None]:
    """What is made of an answer; where that cannot be, the answer was none of Odoo's."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise AdapterAnswerError(f"Odoo answered records that are none ({type(error).__name__})") from error


async def _fields(api: OdooApi, model: str, *names: str) -> set[str]:
    """Which of these fields the model has that we may see; none if there is no such model."""
    try:
        found = await api.call(model, "fields_get", reads=True, allfields=list(names), attributes=["type"])
    except OdooRefused as error:
        if error.kind in ("NotFound", "KeyError", "UserError"):
            return set()
        raise
    return set(found) & set(names) if isinstance(found, dict) else set()


async def _count(odoo: _Odoo, model: str, last: int) -> int:
    counted = await odoo.api.call(model, "search_count", reads=True, domain=[["id", "<=", last], _ALL])
    if not isinstance(counted, int):
        raise AdapterAnswerError("Odoo counted what is no number")
    return counted


def _parties_of(model: str) -> list[Any]:
    """Who of the model's records is a party; see ``_is_party``."""
    return [_CUSTOMERS] if model == PARTNER else [["partner_id", "=", False], _NOT_WON]


def _is_party(model: str, record: Record) -> bool:
    if not record["active"]:
        return False
    # A lead that has become a contact's is no party of its own.
    return bool(record["partner_share"]) if model == PARTNER else not record.get("partner_id")


def _refs(model: str, record: Record) -> list[PartyRef]:
    types = (PartyType.CONTACT, PartyType.ORGANISATION) if model == PARTNER else (PartyType.LEAD,)
    return [PartyRef(type, record["id"]) for type in types]


def _about(records_of: Mapping[str, Sequence[int]], model_field: str) -> list[Any]:
    """The domain of what hangs on these records."""
    parts = [
        ["&", [model_field, "=", model], ["res_id", "in", list(ids)]] for model, ids in records_of.items()
    ]
    return ["|"] * (len(parts) - 1) + [term for part in parts for term in part]


def _saying(words: Sequence[str], names: Sequence[str]) -> list[Any]:
    """The domain of who has each of the words in one of the fields."""
    return [term for word in words for term in any_of([[name, "ilike", word] for name in names])]


def _of(model: str, id: int) -> dict[str, str]:
    """On which record an activity is, as an import says it."""
    module = "crm" if model == LEAD else "base"
    return {"res_model_id/id": f"{module}.model_{model.replace('.', '_')}", "res_id": str(id)}


def _user(owner: str) -> str:
    if record_id(owner) is None:
        raise AdapterAnswerError("a user of Odoo's is named by the number that is their id")
    return owner


def _place(after: str | None) -> tuple[str, int]:
    if after is None:
        return PARTNER, 0
    model, _, last = after.partition(" ")
    if model not in (PARTNER, LEAD) or not last.isdecimal():
        raise AdapterAnswerError("this is no page of this adapter's list")
    return model, int(last)


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _earlier(until: str) -> str:
    """A little before: a transaction's changes have the time of its beginning, and appear at its end."""
    at = moment(until)
    return until if at is None else odoo_time(at - _OVERLAP)
