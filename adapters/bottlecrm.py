"""BottleCRM (django-crm) by its REST API: contacts, and calls as interactions on them.

Seen in BottleCRM's source (contacts/, interactions/, common/views/duplicate_views.py) and at a real 1.35, which the
tests run. Who has changed cannot be asked for, so the phone index reads the whole list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import orjson
from attrs import frozen

from adapters.base import (
    AdapterAnswerError,
    AdapterContext,
    AdapterError,
    AdapterHealth,
    Capability,
    CrmUser,
    JournalEntry,
    JournalState,
    LastContact,
    ListedNumber,
    ListedParty,
    ListPage,
    NewParty,
    Party,
    PartyRef,
    PartyType,
    Written,
)
from adapters.http_client import Answer, HttpClient, Limits, TlsOptions, origin_of
from cti.numbers import Number, NumberKind
from cti.secret import Secret

_PAGE: Final = 200
#: A page begins so many rows before the end of the last: so many may be deleted meanwhile, and nobody is passed over.
_AGAIN: Final = 20
_FOUND: Final = 20
_INTERACTIONS: Final = 200
_LAST: Final = 5
_SUBJECT: Final = 200
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Rows = list[Any]


@frozen
class BottleCrmOptions:
    """``url``: the API's address, without ``/api``; ``web``: the pages', for links; ``token``: a member's own."""

    url: str
    token: Secret
    web: str | None = None
    ca_file: str | None = None
    seconds: float = 5.0

    def __attrs_post_init__(self) -> None:
        origin_of(self.url)


class BottleCrmAdapter:
    """One organisation, with the rights of the member whose token it is."""

    options_class: ClassVar[type[BottleCrmOptions]] = BottleCrmOptions
    journals_early: ClassVar[bool] = True
    journals_changes: ClassVar[bool] = True
    journals_by_key: ClassVar[bool] = False
    journals_unknown: ClassVar[bool] = False

    def __init__(self, name: str, options: BottleCrmOptions, context: AdapterContext) -> None:
        self._name = name
        self._options = options
        self._plan = context.plan
        self._own = context.own
        self._api = f"{options.url.rstrip('/')}/api"
        self._web = (options.web or options.url).rstrip("/")
        tls = TlsOptions.from_file(context.base / options.ca_file) if options.ca_file else None
        self._http = HttpClient(
            context.reactor,
            hosts=[options.url],
            limits=Limits(seconds=options.seconds),
            tls=tls,
            trace=context.trace,
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(
            {
                Capability.IDENTIFY,
                Capability.CREATE,
                Capability.CARD,
                Capability.SEARCH,
                Capability.LIST,
                Capability.USERS,
                Capability.JOURNAL,
                Capability.NOTE,
            }
        )

    async def start(self) -> None:
        await self._contacts({}, 1)

    async def stop(self) -> None:
        await self._http.close()

    async def health(self) -> AdapterHealth:
        try:
            await self._contacts({}, 1)
        except AdapterError as error:
            return AdapterHealth(up=False, detail=str(error))
        return AdapterHealth(up=True)

    # Who it is.

    async def identify(self, number: Number) -> Sequence[Party]:
        if number.kind is not NumberKind.E164 or number.e164 is None or number.e164 in self._own:
            return ()
        # The only question that compares numbers as such. It writes nothing, and is allowed 120 times a minute.
        answer = await self._ask("POST", "contacts/duplicates/", json={"phone": number.e164}, repeatable=True)
        hits = _rows(_object(answer.expect(200)), "duplicates")
        parties = []
        for hit in hits[:_FOUND]:
            if self._plan.parse(_text(hit.get("phone"))).e164 != number.e164:
                continue
            record = await self._record(_text(hit.get("id")))
            if record is not None:
                parties.append(self._party(record))
        return parties

    async def card(self, party: PartyRef) -> Party | None:
        record = await self._record(party.id) if party.type is PartyType.CONTACT else None
        if record is None:
            return None
        latest = await self._interactions(party.id, _LAST)
        contacts = (
            LastContact(
                moment,
                _text(each.get("kind")),
                _text(each.get("logged_by")) or None,
                _text(each.get("subject")) or _text(each.get("body")),
            )
            for each in latest
            if (moment := _moment(each.get("occurred_at"))) is not None
        )
        return self._party(record, last_contacts=tuple(contacts))

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        # BottleCRM looks for one text within one field: it is asked for the longest word, and the rest is done here.
        wanted = words.replace("\0", "\ufffd").split()
        if not wanted:
            return ()
        rows, _ = await self._contacts({"search": max(wanted, key=len)}, _PAGE)
        found = [each for each in rows if all(word.casefold() in _searched(each) for word in wanted)]
        return [self._party(each) for each in found[:limit]]

    async def list(self, after: str | None) -> ListPage:
        offset, seen = _position(after)
        begin = max(0, offset - _AGAIN)
        rows, total = await self._contacts({"offset": str(begin)}, _PAGE + offset - begin)
        known = [at for at, each in enumerate(rows) if each.get("id") in seen]
        if seen and not known:
            raise AdapterAnswerError("the list was changed too much while it was read")
        fresh = rows[known[-1] + 1 :] if known else rows
        end = begin + len(rows)
        following = None
        if rows and end < total:
            following = orjson.dumps([end, [each.get("id") for each in rows[-_AGAIN:]]]).decode()
        return ListPage([self._listed(each) for each in fresh], following)

    async def users(self) -> Sequence[CrmUser]:
        said = _object((await self._ask("GET", "users/", query=[("limit", "1000")])).expect(200))
        users = []
        for name, active in (("active_users", True), ("inactive_users", False)):
            part = said.get(name)
            for each in _rows(part, name) if isinstance(part, Mapping) else ():
                details = each.get("user_details") or {}
                login = _text(details.get("email"))
                users.append(
                    CrmUser(
                        each["id"],
                        _text(details.get("name")) or login,
                        login,
                        _text(each.get("phone")),
                        active,
                    )
                )
        return users

    # What is written.

    async def create(self, party: NewParty) -> Party:
        first, _, last = party.name.rpartition(" ")
        new = {
            "first_name": first or last,
            "last_name": last if first else "-",
            "phone": party.number,
            "organization": party.company,
            "description": party.notes,
        }
        answer = await self._ask("POST", "contacts/", json=new)
        id = _text(_object(answer.expect(200, 201)).get("id"))
        if not _UUID.fullmatch(id):
            raise AdapterAnswerError("BottleCRM did not answer the id of the contact that it made")
        return Party(
            self._name,
            PartyType.CONTACT,
            id,
            party.name,
            company=party.company,
            url=self._url(id),
            notes=party.notes,
        )

    async def note(self, party: PartyRef, text: str) -> Written:
        answer = await self._ask("POST", f"contacts/{self._id(party)}/", json={"comment": text})
        comments = _rows(_object(answer.expect(200, 201)), "comments")
        mine: Mapping[str, Any] = max(comments, key=lambda each: _text(each.get("commented_on")), default={})
        return Written("comment", _text(mine.get("id")) or party.id, self._url(party.id))

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        """An interaction, whose text ends with the call's key: BottleCRM takes no id of ours to find it by."""
        if entry.party is None:
            raise AdapterAnswerError("a call is noted on a contact, and this one has none")
        contact = self._id(entry.party)
        if entry.was is not None:
            # An interaction stays on its contact.
            written = await self.withdraw(entry, written)
        text = "\n".join(line for line in (entry.text, entry.recording, f"[{entry.key}]") if line)
        values = {
            "direction": "outbound" if entry.direction == "outbound" else "inbound",
            "occurred_at": entry.started.astimezone(UTC).isoformat(),
            "duration_seconds": round(entry.talk),
            "outcome": _OUTCOMES.get(entry.state, "connected"),
            "subject": entry.subject[:_SUBJECT],
            "body": text,
        }
        id = next((each.id for each in written if each.type == "interaction"), None)
        if id is None:
            id = await self._interaction_of(entry.key, contact)
        changed = None if id is None else await self._ask("PATCH", f"interactions/{id}/", json=values)
        if id is None or changed is None or changed.status == 404:
            answer = await self._ask(
                "POST", "interactions/", json={"kind": "call", "contact": contact, **values}
            )
            id = _text(_object(answer.expect(201)).get("id"))
        else:
            changed.expect(200)
        return [Written("interaction", id, self._url(contact))]

    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        id = next((each.id for each in written if each.type == "interaction"), None)
        if id is None and entry.was is not None:
            id = await self._interaction_of(entry.key, self._id(entry.was))
        if id is not None:
            answer = await self._ask("DELETE", f"interactions/{id}/")
            if answer.status != 404:
                answer.expect(200, 204)
        return ()

    async def _interaction_of(self, key: str, contact: str) -> str | None:
        earlier = await self._interactions(contact, _INTERACTIONS)
        mine = (each for each in earlier if _text(each.get("body")).endswith(f"[{key}]"))
        return next((_text(each.get("id")) for each in mine), None)

    # Asking.

    async def _ask(self, method: str, path: str, **request: Any) -> Answer:
        return await self._http.request(
            method,
            f"{self._api}/{path}",
            headers=[("authorization", f"Bearer {self._options.token.reveal()}")],
            **request,
        )

    async def _contacts(self, query: Mapping[str, str], limit: int) -> tuple[Rows, int]:
        asked = [*query.items(), ("limit", str(limit)), ("is_active", "true")]
        said = _object((await self._ask("GET", "contacts/", query=asked)).expect(200))
        total = said.get("count")
        return _rows(said, "results"), total if isinstance(total, int) else 0

    async def _record(self, id: str) -> Mapping[str, Any] | None:
        if not _UUID.fullmatch(id):
            return None
        answer = await self._ask("GET", f"contacts/{id}/")
        if answer.status == 404:
            return None
        record = _object(answer.expect(200)).get("contact_obj")
        if not isinstance(record, Mapping) or record.get("id") != id:
            raise AdapterAnswerError("BottleCRM answered another contact than it was asked for")
        return record if record.get("is_active") else None

    async def _interactions(self, contact: str, limit: int) -> Rows:
        query = [("contact", contact), ("limit", str(limit))]
        return _rows(
            _object((await self._ask("GET", "interactions/", query=query)).expect(200)), "interactions"
        )

    def _id(self, party: PartyRef) -> str:
        if party.type is not PartyType.CONTACT or not _UUID.fullmatch(party.id):
            raise AdapterAnswerError("no contact of BottleCRM's has such an id")
        return party.id

    # What comes back.

    def _party(self, record: Mapping[str, Any], **more: Any) -> Party:
        account = record.get("account_detail") or {}
        owners = record.get("assigned_to") or ()
        tags = record.get("tags") or ()
        last = _text(record.get("last_name"))
        return Party(
            adapter=self._name,
            type=PartyType.CONTACT,
            id=_text(record.get("id")),
            name=f"{_text(record.get('first_name'))} {'' if last == '-' else last}",
            company=_text(account.get("name")) or _text(record.get("organization")),
            organisation=_text(account.get("id")) or None,
            url=self._url(_text(record.get("id"))),
            owner=next((_text(each.get("id")) for each in owners if isinstance(each, Mapping)), None),
            tags=[_text(each.get("name")) for each in tags if isinstance(each, Mapping)],
            notes=_text(record.get("description")),
            **more,
        )

    def _listed(self, record: Mapping[str, Any]) -> ListedParty:
        phone = _text(record.get("phone"))
        return ListedParty(self._party(record), (ListedNumber(phone, "phone"),) if phone else ())

    def _url(self, id: str) -> str:
        return f"{self._web}/contacts/{id}"


_OUTCOMES: Final[Mapping[JournalState, str]] = {JournalState.MISSED: "no_answer", JournalState.RINGING: ""}


def _object(answer: Answer) -> Mapping[str, Any]:
    said = answer.json()
    if not isinstance(said, Mapping):
        raise AdapterAnswerError("BottleCRM answered something that is no object")
    return said


def _rows(said: Mapping[str, Any], name: str) -> Rows:
    rows = said.get(name)
    if not isinstance(rows, list) or not all(isinstance(each, Mapping) for each in rows):
        raise AdapterAnswerError(f"BottleCRM answered without a list of {name}")
    return rows


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _searched(record: Mapping[str, Any]) -> str:
    names = ("first_name", "last_name", "organization", "email", "phone")
    return " ".join(_text(record.get(name)) for name in names).casefold()


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(_text(value))
    except ValueError:
        return None


def _position(after: str | None) -> tuple[int, frozenset[str]]:
    """Where the next page begins, and who was last on the one before it."""
    if after is None:
        return 0, frozenset()
    try:
        offset, seen = orjson.loads(after)
        return int(offset), frozenset(map(str, seen))
    except (ValueError, TypeError) as error:
        raise AdapterAnswerError("this is no page of this adapter's") from error
