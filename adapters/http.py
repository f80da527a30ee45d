"""Any CRM with a web API as an adapter, by a description of it as data (``http_preset``).

Runs the description's steps and makes parties of what they lead to; every number that comes back is checked.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

import phonenumbers
from attrs import Factory, define, evolve, field, frozen
from twisted.internet.defer import DeferredLock

from adapters.base import (
    AdapterAnswerError,
    AdapterBusy,
    AdapterContext,
    AdapterDenied,
    AdapterError,
    AdapterHealth,
    AdapterUnavailable,
    Capability,
    CrmUser,
    JournalEntry,
    KeyKind,
    ListedNumber,
    ListedParty,
    ListPage,
    NewParty,
    NewTask,
    Party,
    PartyRef,
    Written,
)
from adapters.http_client import Answer, HttpClient, TlsOptions, origin_of
from adapters.http_preset import (
    Description,
    Finding,
    Listing,
    PresetError,
    Record,
    Shape,
    Step,
    Writing,
    preset_path,
    read_description,
)
from adapters.http_words import Template, Vocabulary, as_text
from adapters.party import Appointment, Case, LastContact, Link, Task
from cti.numbers import Number
from cti.secret import Secret

#: A token that was got so recently is not the reason why a request is denied.
_FRESH_SECONDS: Final = 5.0
#: How long after a failure ``health`` waits before it asks the CRM itself.
_PROBE_SECONDS: Final = 15.0
#: Requests that one step may lead to, and records that one answer may hold, before it is not read on.
_MOST_REQUESTS: Final = 20
_MOST_RECORDS: Final = 1000
_BUSY_SECONDS: Final = 1.0

_SECTIONS: Final[Mapping[str, type[Any]]] = {
    "cases": Case,
    "last_contacts": LastContact,
    "appointments": Appointment,
    "tasks": Task,
    "links": Link,
}
_TEXTS: Final = (
    "name",
    "company",
    "owner",
    "tier",
    "language",
    "notes",
    "organisation",
    "balance",
    "dunning",
)

Context = dict[str, Any]


@frozen
class HttpOptions:
    """``url``: where the CRM is; ``preset``: which of ours describes it, or ``file``: one of your own.

    ``values`` and ``secrets`` are what the description asks for. ``ca_file``: PEM of the authorities to trust.
    ``region``: the country of numbers in the CRM without a country code, if it is another one than ours.
    """

    url: str
    preset: str | None = None
    file: Path | None = None
    values: Mapping[str, str] = Factory(dict)
    secrets: Mapping[str, Secret] = Factory(dict)
    ca_file: Path | None = None
    region: str | None = None
    description: Description = field(init=False)

    @description.default
    def _read(self) -> Description:
        if (self.preset is None) == (self.file is None):
            raise ValueError("`preset: NAME` or `file: PATH` would be right, one of them")
        description = read_description(self.file or preset_path(self.preset or ""))
        for name, setting in description.settings.items():
            where, given = ("secrets", self.secrets) if setting.secret else ("values", self.values)
            if name not in given and setting.default is None:
                raise PresetError(f"{where}.{name} is missing: {setting.about}")
        for where, names, secret in (("values", self.values, False), ("secrets", self.secrets, True)):
            for name in names:
                if name not in description.settings or description.settings[name].secret is not secret:
                    known = [n for n, each in description.settings.items() if each.secret is secret]
                    right = f"{', '.join(known)} would be right" if known else f"no {where} would be right"
                    raise PresetError(f"{where}.{name} is not asked for; {right}")
        if self.region is not None and self.region not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError("region: two letters of ISO 3166, such as DE, would be right")
        origin_of(self.url)
        return description


@define
class _Token:
    text: str
    since: float
    until: float | None
    #: What the steps of the login have answered.
    login: Context


class HttpAdapter:
    """An adapter of kind ``http``."""

    options_class: ClassVar[type[HttpOptions]] = HttpOptions

    def __init__(self, name: str, options: HttpOptions, context: AdapterContext) -> None:
        self._name = name
        self._options = options
        self._description = options.description
        self._reactor = context.reactor
        self._plan = context.plan if options.region is None else context.plan.for_region(options.region)
        self._own = context.own
        self._trace = context.trace
        self._words = Vocabulary(self._description.maps, self._description.zone)
        self._url = options.url.rstrip("/")
        settings = self._description.settings.items()
        values = {each: setting.default for each, setting in settings if not setting.secret}
        values |= options.values
        secrets = {each: setting.default for each, setting in settings if setting.secret}
        secrets |= {each: secret.reveal() for each, secret in options.secrets.items()}
        self._given = {each for each, text in (*values.items(), *secrets.items()) if text}
        #: What texts that go elsewhere than into requests may know.
        self._here: Context = {"url": self._url, "values": values}
        self._known: Context = {"here": self._here, "values": values, "secret": secrets}
        self._client: HttpClient | None = None
        self._token: _Token | None = None
        self._logging_in = DeferredLock()
        self._failed: AdapterError | None = None
        self._asked_at = 0.0
        if self._trace is not None:
            self._trace.hide(*(text for text in secrets.values() if text))

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        described = self._description
        there = {
            Capability.CARD: described.card,
            Capability.SEARCH: described.search,
            Capability.CREATE: described.create,
            Capability.LIST: described.list,
            Capability.KEY: described.keys,
            Capability.USERS: described.users,
            Capability.JOURNAL: self._can(described.journal),
            Capability.NOTE: self._can(described.note),
            Capability.TASK: self._can(described.task),
        }
        return frozenset({Capability.IDENTIFY, *(each for each, how in there.items() if how)})

    def _can(self, writing: Writing | None) -> bool:
        return writing is not None and (writing.needs is None or writing.needs in self._given)

    async def start(self) -> None:
        ca_file = self._options.ca_file
        hosts = [self._url, *(each.text(self._known, self._words) for each in self._description.hosts)]
        try:
            self._client = HttpClient(
                self._reactor,
                hosts=hosts,
                limits=self._description.limits,
                tls=None if ca_file is None else TlsOptions.from_file(ca_file),
                trace=self._trace,
            )
        except ValueError as error:
            raise AdapterUnavailable(f"cannot be asked: {error}") from error

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def health(self) -> AdapterHealth:
        if self._failed is not None and self._reactor.seconds() - self._asked_at > _PROBE_SECONDS:
            # A number that nobody has.
            await self._probe("+493023125000")
        if self._failed is None:
            return AdapterHealth(up=True)
        return AdapterHealth(up=False, detail=str(self._failed))

    async def _probe(self, e164: str) -> None:
        try:
            await self._ran(self._description.identify.steps, {"number": self._number(e164)})
        except AdapterError as error:
            self._failed = error

    # Reading.

    async def identify(self, number: Number) -> Sequence[Party]:
        if number.e164 is None or number.e164 in self._own:
            return ()
        asked = {"number": self._number(number.e164)}
        try:
            found = [each async for each in self._found(self._description.identify, asked)]
        except AdapterAnswerError as error:
            # Such as a page of HTML where the log-in has run out: whoever asks next is not served either.
            self._failed = error
            raise
        return _once(each.listed.party for each in found if self._has(each.listed, number.e164))

    async def card(self, party: PartyRef) -> Party | None:
        finding = _needed(self._description.card)
        asked = {"party": {"type": party.type.value, "id": party.id}}
        async for each in self._found(finding, asked):
            if each.listed.party.ref == party:
                return each.listed.party
        return None

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        finding = _needed(self._description.search)
        wanted = [word.casefold() for word in words.split()]
        plain = max(re.findall(r"\w+", words), key=len, default="")
        if not plain or not words.isprintable():
            return ()
        longest = max(words.split(), key=len)
        asked = {"words": {"text": words, "longest": longest, "plain": plain, "limit": limit}}
        found = [each async for each in self._found(finding, asked)]
        return _once(each.listed.party for each in found if self._says(each, wanted))[:limit]

    @property
    def keys(self) -> Sequence[KeyKind]:
        return [each.kind for each in self._description.keys]

    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        for keyed in self._description.keys:
            if keyed.kind.name == kind:
                found = [each async for each in self._found(keyed.finding, {"key": value})]
                return _once(
                    evolve(each.listed.party, match="key")
                    for each in found
                    if as_text(keyed.value.of(each.raw, self._words)) == value
                )
        return ()

    async def list(self, after: str | None) -> ListPage:
        finding = _needed(self._description.list)
        asked: Context = {"after": after}
        parties = [each.listed async for each in self._found(finding, asked)]
        following = finding.after.of(asked, self._words) if finding.after is not None else None
        following = as_text(following) or None
        if following is not None and following == after:
            raise AdapterAnswerError("the list does not go on: its next page is the same as this one")
        return ListPage(parties, following)

    async def users(self) -> Sequence[CrmUser]:
        described = _needed(self._description.users)
        context = await self._ran(described.steps, {})
        found = []
        for raw in _records_of(described.each.of(context, self._words)):
            taken = {name: words.of(raw, self._words) for name, words in described.fields.items()}
            active = taken.pop("active", True)
            fields = {name: as_text(value) for name, value in taken.items()}
            if fields.get("id"):
                found.append(CrmUser(**fields, active=active is not False and active is not None))
        return found

    # Writing.

    async def create(self, party: NewParty) -> Party:
        finding = _needed(self._description.create)
        first, _, last = party.name.rpartition(" ")
        asked = {
            "new": {
                "type": party.type.value,
                "name": party.name,
                "first_name": first,
                "last_name": last,
                "company": party.company,
                "notes": party.notes,
            },
            "number": self._number(party.number),
        }
        async for each in self._found(finding, asked):
            if each.listed.party.type is party.type:
                return each.listed.party
        raise AdapterAnswerError(f"a {party.type} was taken in, and is not in the answer")

    @property
    def journals_early(self) -> bool:
        return self._description.journal is not None and self._description.journal.early

    @property
    def journals_changes(self) -> bool:
        return self._description.journal is not None and bool(self._description.journal.update)

    @property
    def journals_by_key(self) -> bool:
        return self._description.journal is not None and self._description.journal.by_key

    @property
    def journals_unknown(self) -> bool:
        return self._description.journal is not None and self._description.journal.unknown

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        writing = _needed(self._description.journal)
        context = self._entry(entry)
        if entry.was is not None and not writing.moves:
            written = await self.withdraw(entry, written)
        id_ = await self._id_of(writing, context, written)
        if id_ is None:
            return [await self._create(writing, context)]
        context["written"] = {"id": id_}
        context = await self._ran(writing.update, context)
        return [self._written(writing, context, id_)]

    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        writing = _needed(self._description.journal)
        if not writing.remove:
            return written
        context = self._entry(entry)
        id_ = await self._id_of(writing, context, written)
        if id_ is not None or not writing.find:
            await self._ran(writing.remove, {**context, "written": {"id": id_}})
        return ()

    async def _id_of(self, writing: Writing, context: Context, written: Sequence[Written]) -> str | None:
        """The record's, as it was told, or found by the call's key."""
        return next((each.id for each in written if each.type == writing.type), None) or await self._id_found(
            writing, context
        )

    async def note(self, party: PartyRef, text: str) -> Written:
        writing = _needed(self._description.note)
        return await self._create(writing, {"party": _as_json(party), "note": {"text": text}})

    async def add_task(self, party: PartyRef, task: NewTask) -> Written:
        writing = _needed(self._description.task)
        due = None if task.due is None else task.due.isoformat()
        fields = {"title": task.title, "due": due, "owner": task.owner, "text": task.text}
        return await self._create(writing, {"party": _as_json(party), "task": fields})

    async def _id_found(self, writing: Writing, context: Context) -> str | None:
        if not writing.find or writing.found is None:
            return None
        found = await self._ran(writing.find, dict(context))
        return as_text(writing.found.of(found, self._words)) or None

    async def _create(self, writing: Writing, context: Context) -> Written:
        return self._written(writing, await self._ran(writing.create, context), None)

    def _written(self, writing: Writing, context: Context, id_: str | None) -> Written:
        id_ = id_ or as_text(writing.id.of(context, self._words))
        if not id_:
            raise AdapterAnswerError(f"a {writing.type} was written, and its id is not in the answer")
        context = {**context, "written": {"id": id_}}
        url = None if writing.url is None else writing.url.text(_public(context), self._words, _in_url)
        return Written(writing.type, id_, url)

    def _entry(self, entry: JournalEntry) -> Context:
        ended = entry.ended
        return {
            "entry": {
                "key": entry.key,
                "state": entry.state.value,
                "over": ended is not None or entry.state.value in ("ended", "missed"),
                "answered": entry.talk > 0,
                "outcome": _outcome(entry),
                "direction": entry.direction,
                "started": entry.started.isoformat(),
                "ended": None if ended is None else ended.isoformat(),
                "duration": entry.duration,
                "talk": entry.talk,
                "user": entry.user,
                "subject": entry.subject,
                "text": entry.text,
                # For CRMs that have no place of its own for the recording.
                "whole": "\n".join(part for part in (entry.text, entry.recording) if part),
                "disposition": entry.disposition or None,
                "recording": entry.recording,
            },
            "number": self._number(entry.number) if entry.number else None,
            "party": None if entry.party is None else _as_json(entry.party),
            "was": None if entry.was is None else _as_json(entry.was),
        }

    # Numbers.

    def _number(self, e164: str) -> Context:
        forms = _forms(e164, self._plan.region)
        variants = dict.fromkeys(forms[name] for name in self._description.variants if forms[name])
        # For query languages that have lists; no form has a quote in it.
        quoted = ",".join(f"'{each}'" for each in variants)
        return {**forms, "variants": list(variants), "quoted": quoted}

    def _has(self, listed: ListedParty, e164: str) -> bool:
        plan = self._plan
        if listed.region is not None and listed.region in phonenumbers.SUPPORTED_REGIONS:
            plan = plan.for_region(listed.region)
        at = next((each.field for each in listed.numbers if plan.parse(each.raw).e164 == e164), None)
        if at is None:
            self._note(listed.party, f"dropped: none of its {len(listed.numbers)} numbers is {e164}")
        else:
            self._note(listed.party, f"kept: its {at} is {e164}")
        return at is not None

    def _says(self, found: _Found, wanted: Iterable[str]) -> bool:
        party = found.listed.party
        text = "\n".join((party.name, party.company, *found.texts)).casefold()
        missing = next((word for word in wanted if word not in text), None)
        self._note(party, "kept" if missing is None else f"dropped: it has no {missing!r}")
        return missing is None

    def _note(self, party: Party, text: str) -> None:
        if self._trace is not None:
            self._trace.note(f"{party.type} {party.id} ({party.name}) {text}")

    # Records.

    async def _found(self, finding: Finding, asked: Context) -> AsyncIterator[_Found]:
        """The records that the steps lead to; what these answered is added to ``asked``."""
        asked.update(await self._ran(finding.steps, asked))
        here = _public(asked) | self._here
        for type_, words in finding.parties.items():
            for raw in _records_of(words.of(asked, self._words)):
                found = self._party(self._description.records[type_], {**raw, "here": here})
                if found is not None:
                    yield found

    def _party(self, record: Record, raw: Context) -> _Found | None:
        taken = {name: words.of(raw, self._words) for name, words in record.fields.items()}
        texts: dict[str, Any] = {name: as_text(taken[name]) for name in _TEXTS if name in taken}
        url = None if record.url is None else record.url.text(raw, self._words, _in_url)
        sections: dict[str, Any] = {
            name: tuple(self._section(name, each, raw)) for name, each in record.sections.items()
        }
        try:
            party = Party(
                adapter=self._name,
                type=record.type,
                id=as_text(taken.get("id")),
                url=url,
                tags=tuple(as_text(tag) for tag in _values_of(taken.get("tags"))),
                **texts,
                **sections,
            )
        except ValueError as error:
            if self._trace is not None:
                self._trace.note(f"a {record.type} dropped: {error}")
            return None
        numbers = tuple(
            ListedNumber(as_text(number), where)
            for where, words in record.numbers.items()
            for number in _values_of(words.of(raw, self._words))
            if as_text(number).strip()
        )
        region = as_text(taken.get("region")).upper() or None
        return _Found(
            ListedParty(party, numbers, region),
            raw,
            tuple(as_text(text) for text in _values_of(taken.get("texts"))),
        )

    def _section(self, name: str, listing: Listing, raw: Context) -> Iterator[Any]:
        for each in _records_of(listing.each.of(raw, self._words)):
            entry = {**each, "here": raw["here"]}
            fields = {
                field_name: words.text(entry, self._words, _in_url)
                if isinstance(words, Template)
                else as_text(words.of(entry, self._words))
                for field_name, words in listing.fields.items()
            }
            try:
                yield _SECTIONS[name](**{field_name: value for field_name, value in fields.items() if value})
            except (ValueError, TypeError) as error:
                if self._trace is not None:
                    self._trace.note(f"an entry of {name} dropped: {error}")

    # Requests.

    async def _ran(self, steps: Iterable[Step], context: Context) -> Context:
        """What is known after the steps."""
        now = datetime.fromtimestamp(self._reactor.seconds(), UTC).isoformat(timespec="seconds")
        context = {**self._known, "now": now, **context}
        try:
            for step in steps:
                if step.when is None or step.when.of(context, self._words) not in (None, False, "", [], {}):
                    context[step.as_] = await self._stepped(step, context)
                else:
                    context[step.as_] = None
        except AdapterError as error:
            if not isinstance(error, AdapterAnswerError):
                self._failed = error
            raise
        finally:
            self._asked_at = self._reactor.seconds()
        self._failed = None
        return context

    async def _stepped(self, step: Step, context: Context) -> Any:
        if step.each is None:
            return await self._taken(step, context)
        collected: list[Any] = []
        for each in _values_of(step.each.of(context, self._words))[:_MOST_REQUESTS]:
            taken = await self._taken(step, {**context, "each": each})
            collected += _values_of(taken)
            if collected and step.until_found:
                break
        return collected

    async def _taken(self, step: Step, context: Context) -> Any:
        answer = await self._authorised(step, context)
        return answer if step.take is None else step.take.of(answer, self._words)

    async def _authorised(self, step: Step, context: Context) -> Any:
        """The answer's value; a token that has run out is renewed once."""
        if self._description.auth.login is None:
            return await self._asked(step, context)
        token = await self._current_token()
        try:
            return await self._asked(step, {**context, "token": token.text, "login": token.login})
        except AdapterDenied:
            if self._token is token and self._reactor.seconds() - token.since < _FRESH_SECONDS:
                raise
            if self._token is token:
                self._token = None
        token = await self._current_token()
        return await self._asked(step, {**context, "token": token.text, "login": token.login})

    async def _current_token(self) -> _Token:
        await self._logging_in.acquire()
        try:
            now = self._reactor.seconds()
            if self._token is None or (self._token.until is not None and now > self._token.until):
                self._token = await self._logged_in()
            return self._token
        finally:
            self._logging_in.release()

    async def _logged_in(self) -> _Token:
        login = _needed(self._description.auth.login)
        context = dict(self._known)
        for step in login.steps:
            answer = await self._asked(step, context, login=True)
            context[step.as_] = answer if step.take is None else step.take.of(answer, self._words)
        token = as_text(login.token.of(context, self._words))
        if not token:
            raise AdapterDenied("the CRM answered our login without a token")
        if self._trace is not None:
            self._trace.hide(token)
        seconds = None if login.seconds is None else login.seconds.of(context, self._words)
        now = self._reactor.seconds()
        # A minute early, so that none runs out on its way.
        until = now + max(float(seconds) - 60, 1) if isinstance(seconds, int | float) else None
        return _Token(token, now, until, {step.as_: context[step.as_] for step in login.steps})

    async def _asked(self, step: Step, context: Context, *, login: bool = False) -> Any:
        if self._client is None:
            raise AdapterUnavailable("the adapter is not started")
        auth = self._description.auth
        headers = [*self._description.headers, *step.headers]
        query = list(self._pairs(step.query, context))
        if not login:
            headers += auth.headers
            query += [(name, words.text(context, self._words)) for name, words in auth.query]
        sent = [(name, _one_line(words.text(context, self._words))) for name, words in headers]
        if auth.basic is not None and not login:
            both = ":".join(words.text(context, self._words) for words in auth.basic)
            sent.append(("authorization", "Basic " + base64.b64encode(both.encode()).decode()))
        answer = await self._client.request(
            step.method,
            self._address(step, context),
            headers=sent,
            query=query,
            json=None if step.json is None else self._filled(step.json, context),
            form=None if step.form is None else list(self._pairs(step.form, context)),
        )
        return self._judged(step, answer)

    def _judged(self, step: Step, answer: Answer) -> Any:
        """The answer's value, if it is neither an error by its status nor by what the description calls one."""
        if answer.status in step.none or answer.status == 204:
            return None
        well = 200 <= answer.status < 300
        try:
            value = answer.json()
        except AdapterAnswerError:
            answer.expect()
            raise
        for when, kind in self._description.errors if isinstance(value, dict) else ():
            if when.of(value, self._words) in (None, False, "", [], {}):
                continue
            match kind:
                case "none":
                    return None
                case "denied":
                    raise AdapterDenied(f"{answer.origin} says that our login does not hold or lacks rights")
                case "busy":
                    raise AdapterBusy(f"{answer.origin} says that it is asked too often", _BUSY_SECONDS)
            raise AdapterAnswerError(f"{answer.origin} answered {answer.status} with an error")
        if not well:
            answer.expect()
        return value

    def _address(self, step: Step, context: Context) -> str:
        at = self._url if step.at is None else step.at.text(self._known, self._words).rstrip("/")
        return at + step.url.text(context, self._words, _in_path)

    def _pairs(self, shapes: Iterable[tuple[str, Shape]], context: Context) -> Iterator[tuple[str, str]]:
        """Fields of a query or a form: a list is several of its name, what holds others is JSON."""
        for name, shape in shapes:
            value = self._filled(shape, context)
            if isinstance(value, list):
                yield from ((name, as_text(each)) for each in value)
            elif value is not None:
                yield name, as_text(value)

    def _filled(self, shape: Shape, context: Context) -> Any:
        """The shape with its values; entries of what is not known are left out."""
        if isinstance(shape, Template):
            return shape.value(context, self._words)
        if isinstance(shape, Mapping):
            filled = {name: self._filled(each, context) for name, each in shape.items()}
            return {name: value for name, value in filled.items() if value is not None}
        if isinstance(shape, Sequence):
            return [value for each in shape if (value := self._filled(each, context)) is not None]
        return shape


@frozen
class _Found:
    """A record as a party, as it came, and in which further texts ``search`` looks for words."""

    listed: ListedParty
    raw: Context
    texts: tuple[str, ...]


def _needed(part: Any) -> Any:
    if part is None:
        raise AdapterUnavailable("the description of this CRM says nothing about that")
    return part


def _once(parties: Iterable[Party]) -> list[Party]:
    return list({party.ref: party for party in parties}.values())


def _values_of(value: Any) -> list[Any]:
    if value in (None, "", [], {}):
        return []
    return value if isinstance(value, list) else [value]


def _records_of(value: Any) -> Iterator[Context]:
    return (each for each in _values_of(value)[:_MOST_RECORDS] if isinstance(each, dict))


def _as_json(party: PartyRef) -> Context:
    return {"type": party.type.value, "id": party.id}


def _public(context: Context) -> Context:
    """What of a context may stand in an address that is shown."""
    return {name: value for name, value in context.items() if name not in ("secret", "token")}


def _outcome(entry: JournalEntry) -> str:
    if entry.talk > 0:
        return "answered"
    return "open" if entry.state.value in ("ringing", "connected") else "missed"


def _in_path(text: str) -> str:
    if text in ("", ".", ".."):
        raise AdapterAnswerError("a part of an address is empty, or would lead elsewhere")
    return quote(text, safe="")


def _in_url(text: str) -> str:
    """Escaped, unless it is a whole address itself."""
    return text if text.startswith(("http://", "https://")) else quote(text, safe="")


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise AdapterAnswerError("a header would have control characters")
    return text


def _forms(e164: str, region: str) -> Context:
    """A number in the forms in which it may stand in a CRM."""
    try:
        number = phonenumbers.parse(e164)
    except phonenumbers.NumberParseException:
        return dict.fromkeys(("e164", "digits", "zeros"), e164) | dict.fromkeys(
            ("national", "spaced", "spaced_national", "significant", "switchboard"), ""
        )
    form = phonenumbers.format_number
    spaced_national = form(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    at_home = number.country_code == phonenumbers.country_code_for_region(region)
    spaced = form(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    return {
        "e164": e164,
        "digits": e164[1:],
        "zeros": f"00{e164[1:]}",
        "national": "".join(c for c in spaced_national if c.isdigit()) if at_home else "",
        "spaced": spaced,
        "spaced_national": spaced_national if at_home else "",
        "significant": phonenumbers.national_significant_number(number),
        # As companies with extensions write theirs.
        "switchboard": f"{spaced[:-1]}-0" if spaced.endswith("0") else "",
    }
