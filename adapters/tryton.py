"""Tryton (6.4 to 8) by the JSON-RPC that its own clients use: parties, their contact mechanisms, and notes on them.

Seen in Tryton's source (trytond/protocols, ir/note.py, modules/party) and at a real Tryton 8.0, which the tests run.
Tryton writes telephone numbers in international form itself, so none are written back.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, ClassVar, Final
from urllib.parse import quote

from attrs import field, frozen
from twisted.internet.defer import DeferredLock

from adapters.base import (
    AdapterAnswerError,
    AdapterContext,
    AdapterDenied,
    AdapterError,
    AdapterHealth,
    Capability,
    ChangePage,
    CrmUser,
    JournalEntry,
    KeyKind,
    LastContact,
    ListedNumber,
    ListedParty,
    ListPage,
    MarkLost,
    NewParty,
    Party,
    PartyRef,
    PartyType,
    Written,
)
from adapters.http_client import HttpClient, Limits, TlsOptions, origin_of
from adapters.sql_text import like
from cti.numbers import Number, NumberKind, display, spellings
from cti.secret import Secret

_PAGE: Final = 200
_FOUND: Final = 50
_NOTES: Final = 5
_USERS: Final = 5_000
#: Changed parties since one mark; with more, the list is quicker.
_CHANGES: Final = 2_000
#: What was begun before the mark may have been written after it.
_OVERLAP: Final = timedelta(seconds=10)
#: A call's note was not made before the call: so many others need not be looked through.
_EARLIER: Final = timedelta(days=1)
_TELEPHONES: Final = ["phone", "mobile", "fax"]
_FIELDS: Final = ["name", "code", "active", "lang.code", "categories.name"]
_NOTE: Final = "ir.note"
_MARK: Final = "tryton:"
_ID: Final = re.compile(r"[1-9][0-9]{0,17}")

Domain = list[Any]
Names = list[str]
Records = list[Any]


@frozen
class TrytonOptions:
    """``url``: the server's address; ``web``: its web client's, if another; ``type``: what its parties are."""

    url: str
    database: str
    user: str
    password: Secret
    web: str | None = None
    ca_file: str | None = None
    type: str = "contact"
    seconds: float = field(default=5.0)

    def __attrs_post_init__(self) -> None:
        origin_of(self.url)
        if self.type not in set(PartyType):
            raise ValueError(f"`type`: one of {', '.join(PartyType)} would be right")


class TrytonAdapter:
    """One database of a Tryton server, with the rights of one of its users."""

    options_class: ClassVar[type[TrytonOptions]] = TrytonOptions
    journals_early: ClassVar[bool] = True
    journals_changes: ClassVar[bool] = True
    journals_by_key: ClassVar[bool] = False
    journals_unknown: ClassVar[bool] = False

    def __init__(self, name: str, options: TrytonOptions, context: AdapterContext) -> None:
        self._name = name
        self._type = PartyType(options.type)
        self._plan = context.plan
        self._own = context.own
        self._web = f"{(options.web or options.url).rstrip('/')}/#{quote(options.database, safe='')}"
        tls = TlsOptions.from_file(context.base / options.ca_file) if options.ca_file else None
        http = HttpClient(
            context.reactor,
            hosts=[options.url],
            limits=Limits(seconds=options.seconds),
            tls=tls,
            trace=context.trace,
        )
        self._rpc = _Rpc(http, options)

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
                Capability.KEY,
                Capability.LIST,
                Capability.CHANGES,
                Capability.USERS,
                Capability.JOURNAL,
                Capability.NOTE,
            }
        )

    @property
    def keys(self) -> Sequence[KeyKind]:
        return [KeyKind("customer", "Party code")]

    async def start(self) -> None:
        await self._rpc.log_in()

    async def stop(self) -> None:
        await self._rpc.close()

    async def health(self) -> AdapterHealth:
        try:
            await self._search("res.user", [["id", "=", 1]], ["id"], 1)
        except AdapterError as error:
            return AdapterHealth(up=False, detail=str(error))
        return AdapterHealth(up=True)

    # Who it is.

    async def identify(self, number: Number) -> Sequence[Party]:
        if number.kind is not NumberKind.E164 or number.e164 is None or number.e164 in self._own:
            return ()
        # E.164, unless Tryton has no phonenumbers to make it with.
        forms = list(spellings(number.e164, self._plan.region))
        mechanisms = await self._search(
            "party.contact_mechanism",
            [["value_compact", "in", forms], ["type", "in", _TELEPHONES], ["party.active", "=", True]],
            ["party", "value"],
            _FOUND,
        )
        having = {
            each["party"]
            for each in mechanisms
            if self._plan.parse(_text(each.get("value"))).e164 == number.e164
        }
        return await self._parties([["id", "in", sorted(having)]]) if having else ()

    async def card(self, party: PartyRef) -> Party | None:
        if not self._could_be(party):
            return None
        found = await self._search("party.party", [["id", "=", int(party.id)]], _FIELDS, 1)
        if not found:
            return None
        notes = await self._search(
            _NOTE,
            [["resource", "=", _resource(party)]],
            ["message", "create_date", "create_uid"],
            _NOTES,
            order=[["id", "DESC"]],
        )
        contacts = (
            LastContact(moment, "note", _text(each.get("create_uid")), _text(each.get("message")))
            for each in notes
            if (moment := _moment(each.get("create_date"))) is not None
        )
        return self._party(found[0], last_contacts=tuple(contacts))

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        wanted = words.replace("\0", "\ufffd").split()
        if not wanted:
            return ()
        return await self._parties([["rec_name", "ilike", f"%{like(word)}%"] for word in wanted], limit)

    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        found = await self._search("party.party", [["code", "=", value]], _FIELDS, _FOUND)
        return [self._party(each, match="key") for each in found if each.get("code") == value]

    # Everybody.

    async def list(self, after: str | None) -> ListPage:
        mark = await self._now() if after is None else None
        found = await self._search(
            "party.party", [["id", ">", int(after or 0)]], _FIELDS, _PAGE, order=[["id", "ASC"]]
        )
        following = str(found[-1]["id"]) if len(found) == _PAGE else None
        return ListPage(await self._listed(found), following, mark)

    async def changes(self, mark: str) -> ChangePage:
        try:
            since = datetime.fromisoformat(mark.removeprefix(_MARK))
        except ValueError:
            raise MarkLost("this is no mark of this adapter's") from None
        earlier = _encoded(since - _OVERLAP)
        recent = ["OR", ["write_date", ">=", earlier], ["create_date", ">=", earlier]]
        dates = ["write_date", "create_date"]
        every = {"active_test": False}
        parties = await self._search("party.party", [recent], dates, _CHANGES, context=every)
        mechanisms = await self._search(
            "party.contact_mechanism", [recent], ["party", *dates], _CHANGES, context=every
        )
        if len(parties) == _CHANGES or len(mechanisms) == _CHANGES:
            raise MarkLost("too many changes; the list is quicker")
        ids = sorted({each["id"] for each in parties} | {each["party"] for each in mechanisms})
        found = (
            await self._search("party.party", [["id", "in", ids]], _FIELDS, len(ids), context=every)
            if ids
            else []
        )
        there = await self._listed([each for each in found if each.get("active")])
        gone = [PartyRef(self._type, str(each["id"])) for each in found if not each.get("active")]
        return ChangePage(there, gone, _mark(_latest([*parties, *mechanisms], since)))

    async def _now(self) -> str:
        """The moment of the newest record: what the server's own clock has written."""
        newest = [
            record
            for model in ("party.party", "party.contact_mechanism")
            for by in ("write_date", "create_date")
            for record in await self._search(
                model,
                [[by, "!=", None]],
                ["write_date", "create_date"],
                1,
                order=[[by, "DESC"]],
                context={"active_test": False},
            )
        ]
        return _mark(_latest(newest, datetime(1970, 1, 1)))

    async def _listed(self, found: Sequence[Mapping[str, Any]]) -> Sequence[ListedParty]:
        if not found:
            return ()
        ids = [each["id"] for each in found]
        numbers: dict[int, list[ListedNumber]] = {id: [] for id in ids}
        mechanisms = await self._search(
            "party.contact_mechanism",
            [["party", "in", ids], ["type", "in", _TELEPHONES]],
            ["party", "value"],
            50 * len(ids),
        )
        for each in mechanisms:
            numbers.get(each["party"], []).append(ListedNumber(_text(each.get("value")), str(each["id"])))
        return [ListedParty(self._party(each), tuple(numbers[each["id"]])) for each in found]

    async def users(self) -> Sequence[CrmUser]:
        found = await self._search(
            "res.user", [], ["name", "login", "active"], _USERS, context={"active_test": False}
        )
        return [
            CrmUser(each["id"], _text(each.get("name")), _text(each.get("login")), "", bool(each["active"]))
            for each in found
        ]

    # What is written.

    async def create(self, party: NewParty) -> Party:
        number = {"type": "phone", "value": display(party.number, "ZZ")}
        new: dict[str, Any] = {"name": party.name, "contact_mechanisms": [["create", [number]]]}
        (id,) = await self._rpc.call("model.party.party.create", [new])
        ref = PartyRef(self._type, id)
        if remarks := "\n".join(text for text in (party.company, party.notes) if text):
            await self.note(ref, remarks)
        return Party(self._name, self._type, ref.id, party.name, url=self._url(ref.id))

    async def note(self, party: PartyRef, text: str) -> Written:
        if not self._could_be(party):
            raise AdapterAnswerError("no party of Tryton's has such an id")
        (id,) = await self._rpc.call(
            f"model.{_NOTE}.create", [{"resource": _resource(party), "message": text}]
        )
        return Written(_NOTE, id, self._url(party.id))

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        """A note, whose last line is the call's key: by it the note is found again, whatever became of an answer."""
        party = entry.party
        if party is None or not self._could_be(party):
            raise AdapterAnswerError("a call is noted on a party, and this one has none")
        last = f"[{entry.key}]"
        lines = (entry.subject, entry.text, entry.recording, last)
        message = "\n".join(line for line in lines if line)
        note = await self._written(entry, written)
        values = {"resource": _resource(party), "message": message}
        if note is None:
            (note,) = await self._rpc.call(f"model.{_NOTE}.create", [values])
        else:
            await self._rpc.call(f"model.{_NOTE}.write", [note], values)
        return [Written(_NOTE, note, self._url(party.id))]

    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        note = await self._written(entry, written)
        if note is not None:
            await self._rpc.call(f"model.{_NOTE}.delete", [note])
        return ()

    async def _written(self, entry: JournalEntry, written: Sequence[Written]) -> int | None:
        """The call's note, if there is one: somebody may have deleted it."""
        note = next((int(each.id) for each in written if each.type == _NOTE and _ID.fullmatch(each.id)), None)
        if note is None:
            return await self._note_of(f"[{entry.key}]", entry.started)
        found = await self._search(_NOTE, [["id", "=", note]], ["id"], 1)
        return note if found else None

    async def _note_of(self, last: str, started: datetime) -> int | None:
        since = _encoded(started.astimezone(UTC).replace(tzinfo=None) - _EARLIER)
        found = await self._search(
            _NOTE,
            [["create_date", ">=", since], ["message", "like", f"%{like(last)}"]],
            ["message"],
            _FOUND,
            order=[["id", "ASC"]],
        )
        return next((each["id"] for each in found if _text(each.get("message")).endswith(last)), None)

    # What comes back.

    async def _parties(self, domain: Domain, limit: int = _FOUND) -> Sequence[Party]:
        return [self._party(each) for each in await self._search("party.party", domain, _FIELDS, limit)]

    async def _search(
        self,
        model: str,
        domain: Domain,
        fields: Names,
        limit: int,
        *,
        order: Any = None,
        context: Mapping[str, Any] | None = None,
    ) -> Records:
        found = await self._rpc.call(
            f"model.{model}.search_read", domain, 0, limit, order, fields, context=context
        )
        if not isinstance(found, list) or not all(
            isinstance(each, dict) and type(each.get("id")) is int for each in found
        ):
            raise AdapterAnswerError("Tryton answered a search with something that is no list of records")
        return found

    def _party(self, record: Mapping[str, Any], **more: Any) -> Party:
        categories = record.get("categories.") or ()
        return Party(
            adapter=self._name,
            type=self._type,
            id=record["id"],
            name=_text(record.get("name")),
            url=self._url(str(record["id"])),
            language=_text((record.get("lang.") or {}).get("code")) or None,
            tags=[_text(each.get("name")) for each in categories],
            **more,
        )

    def _url(self, id: str) -> str:
        return f"{self._web}/model/party.party/{id}"

    def _could_be(self, party: PartyRef) -> bool:
        return party.type is self._type and _ID.fullmatch(party.id) is not None


class _Rpc:
    """Calls with a session, which is begun again once when the server knows it no more."""

    def __init__(self, http: HttpClient, options: TrytonOptions) -> None:
        self._http = http
        self._options = options
        self._url = f"{options.url.rstrip('/')}/{quote(options.database, safe='')}/rpc/"
        self._session = ""
        self._logging_in = DeferredLock()
        self._ids = count(1)

    async def close(self) -> None:
        await self._http.close()

    async def log_in(self) -> None:
        """Begin a session, unless another has just done it. Raises ``AdapterError``."""
        before = self._session
        await self._logging_in.acquire()
        try:
            if self._session != before:
                return
            user = self._options.user
            try:
                found = await self._post(
                    "common.db.login", [user, {"password": self._options.password.reveal()}, "en"], None
                )
            except AdapterDenied as error:
                raise AdapterDenied("Tryton does not accept the user or the password") from error
            if not isinstance(found, list) or len(found) < 2:
                raise AdapterAnswerError("Tryton answered a login with something that is no session")
            self._session = base64.b64encode(f"{user}:{found[0]}:{found[1]}".encode()).decode()
        finally:
            self._logging_in.release()

    async def call(self, method: str, *parameters: Any, context: Mapping[str, Any] | None = None) -> Any:
        if not self._session:
            await self.log_in()
        asked = [*parameters, dict(context or {})]
        try:
            return await self._post(method, asked, self._session)
        except AdapterDenied:
            await self.log_in()
        return await self._post(method, asked, self._session)

    async def _post(self, method: str, parameters: list[Any], session: str | None) -> Any:
        answer = await self._http.request(
            "POST",
            self._url,
            headers=[("authorization", f"Session {session}")] if session else [],
            json={"id": next(self._ids), "method": method, "params": parameters},
            repeatable=method.endswith((".search_read", ".login")),
        )
        said = answer.expect(200).json()
        if not isinstance(said, dict):
            raise AdapterAnswerError("Tryton answered something that is no answer to a call")
        error = said.get("error")
        if error:
            kind = str(error[0]) if isinstance(error, list) else "error"
            if kind == "LoginException":
                raise AdapterDenied("Tryton asks for another login")
            # Its words may have what was written in them.
            raise AdapterAnswerError(f"Tryton refuses {method}: {_kind_of(kind)}")
        return said.get("result")


def _kind_of(kind: str) -> str:
    return kind if re.fullmatch(r"[A-Za-z]{1,40}", kind) else "an error"


def _resource(party: PartyRef) -> str:
    return f"party.party,{party.id}"


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _moment(value: Any) -> datetime | None:
    """Tryton's own form of a time, which is UTC."""
    if not isinstance(value, Mapping) or value.get("__class__") != "datetime":
        return None
    try:
        return datetime(*(int(value[each]) for each in _UNITS), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except (KeyError, TypeError, ValueError):
        return None


_UNITS: Final = ("year", "month", "day", "hour", "minute", "second", "microsecond")


def _encoded(moment: datetime) -> dict[str, Any]:
    return {"__class__": "datetime", **{each: getattr(moment, each) for each in _UNITS}}


def _latest(records: Iterable[Mapping[str, Any]], at_least: datetime) -> datetime:
    moments = (
        moment.replace(tzinfo=None)
        for record in records
        for name in ("write_date", "create_date")
        if (moment := _moment(record.get(name))) is not None
    )
    return max([at_least, *moments])


def _mark(moment: datetime) -> str:
    return f"{_MARK}{moment.isoformat()}"
