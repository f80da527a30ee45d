"""People and companies of an address book on a CardDAV server: Nextcloud, Radicale, SOGo, iCloud and others.

Cards keep what we do not know of them. Reading cards is left to ``vcard``, XML to ``webdav``.
"""

from __future__ import annotations

import uuid
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast
from urllib.parse import quote, unquote, urlsplit

import orjson
from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from adapters.base import (
    AdapterAnswerError,
    AdapterContext,
    AdapterDenied,
    AdapterError,
    AdapterHealth,
    AdapterUnavailable,
    Capability,
    ChangePage,
    ListedNumber,
    ListedParty,
    ListPage,
    MarkLost,
    NewParty,
    NumberChanged,
    Party,
    PartyRef,
    PartyType,
    Written,
)
from adapters.http_client import Answer, HttpClient, Limits, TlsOptions, origin_of
from adapters.party import ID_LIMIT, NOTES_LIMIT
from adapters.vcard import Property, VCard, VCardError, listed, new_vcard, read_vcard
from adapters.webdav import (
    CARD,
    CTAG,
    DAV,
    MultiStatus,
    Resource,
    containing,
    multiget,
    propfind,
    read_multistatus,
    sync_collection,
)
from cti.numbers import Number, NumberKind, NumberPlan
from cti.secret import Secret

_T = TypeVar("_T")
# Twisted has no types for it.
_failure: Final[Any] = Failure

_BODY: Final = 32_000_000
_BOOKS: Final = 20
_LISTINGS: Final = 4
_SNAPSHOTS: Final = 4
_TRIES: Final = 4
_WORDS: Final = 8
_SEARCHED: Final = ("FN", "N", "NICKNAME", "ORG", "EMAIL")
_EXTRA: Final = ("owner", "tier", "language", "balance", "dunning")
#: Of a ref that is gone nobody tells which of them it was.
_TYPES: Final = (PartyType.CONTACT, PartyType.ORGANISATION)


def _extra_fields(_: object, __: object, value: Mapping[str, str]) -> None:
    for name in value:
        if name not in _EXTRA:
            raise ValueError(f"fields: no {name!r} is read; {', '.join(_EXTRA)} are")


@frozen
class CardDavOptions:
    """Options of an adapter of kind ``carddav``; docs/crm/carddav.md tells of each."""

    url: str
    username: str = ""
    password: Secret | None = None
    ca_file: Path | None = None
    allow_plain: bool = False
    fields: dict[str, str] = field(factory=dict, validator=_extra_fields)
    #: Cards that are fetched at once: with a photograph in each, some megabytes.
    page: int = 50
    seconds: float = 5.0

    def __attrs_post_init__(self) -> None:
        origin_of(self.url)
        if bool(self.username) != (self.password is not None):
            raise ValueError("username and password belong together; both, or none, would be right")
        parts = urlsplit(self.url)
        plain = parts.scheme == "http" and self.password is not None and not self.allow_plain
        if plain and not _is_here(parts.hostname or ""):
            raise ValueError(
                "the password would go over the network as it is; https:// in url would be right"
                " (or allow_plain: true, if nobody can listen)"
            )
        if not 0 < self.seconds <= 60:
            raise ValueError("seconds: more than 0 and at most 60 would be right")
        if not 1 <= self.page <= 500:
            raise ValueError("page: 1 to 500 would be right")


@frozen
class _Found:
    """A card as it stands on the server."""

    path: str
    etag: str
    text: str


@frozen
class _Difference:
    """Paths of cards that changed and that are gone since a mark of one book; ``more`` are to come."""

    changed: Sequence[str]
    gone: Sequence[str]
    mark: str
    more: bool = False


class CardDavAdapter:
    """Address books of one account as an adapter."""

    options_class: ClassVar[type[CardDavOptions]] = CardDavOptions

    def __init__(self, name: str, options: CardDavOptions, context: AdapterContext) -> None:
        self._name = name
        self._options = options
        self._plan = context.plan
        self._own = context.own
        self._reactor: Any = context.reactor
        self._trace = context.trace
        self._http: HttpClient | None = None
        self._base = unquote(urlsplit(options.url).path) or "/"
        self._books: Sequence[str] | None = None
        self._mirror = _Mirror()
        self._asking: list[Deferred[None]] = []
        self._syncing: Deferred[None] | None = None
        self._listings: dict[str, Sequence[str]] = {}
        self._snapshots: dict[str, Mapping[str, str]] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(
            {
                Capability.IDENTIFY,
                Capability.CARD,
                Capability.SEARCH,
                Capability.LIST,
                Capability.CHANGES,
                Capability.CREATE,
                Capability.NOTE,
                Capability.NUMBERS,
            }
        )

    async def start(self) -> None:
        options = self._options
        self._http = HttpClient(
            self._reactor,
            hosts=[options.url],
            limits=Limits(seconds=options.seconds, body=_BODY),
            tls=None if options.ca_file is None else TlsOptions.from_file(options.ca_file),
            trace=self._trace,
        )
        # Read in good time, so that the first caller does not wait for the whole address book.
        self._begin_sync()

    async def stop(self) -> None:
        if self._syncing is not None:
            self._syncing.cancel()
        if self._http is not None:
            await self._http.close()

    async def health(self) -> AdapterHealth:
        try:
            await self._dav("PROPFIND", self._base, propfind("resourcetype"), depth="0")
        except AdapterError as error:
            return AdapterHealth(up=False, detail=str(error))
        return AdapterHealth(up=True)

    async def identify(self, number: Number) -> Sequence[Party]:
        if number.kind is not NumberKind.E164 or number.e164 is None or number.e164 in self._own:
            return ()
        # A server finds numbers as they are typed, so they are compared here.
        await self._synced()
        found = await self._cards(self._mirror.with_number(number.e164))
        return [each.party for each in found.values() if number.e164 in _e164s(each.numbers, self._plan)]

    async def card(self, party: PartyRef) -> Party | None:
        path = self._path_of(party.id)
        if path is None:
            return None
        found = (await self._cards([path])).get(path)
        return found.party if found is not None and found.party.ref == party else None

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        wanted = [word.casefold() for word in words.split()[:_WORDS]]
        if not wanted or limit < 1:
            return ()
        body = containing(max(wanted, key=len), *_SEARCHED)
        parties: list[Party] = []
        for book in await self._address_books():
            answer = await self._dav("REPORT", book, body, depth="1")
            parties += await self._in_thread(_with_words, self._read_card, answer, wanted)
        first = wanted[0]
        return sorted(
            parties, key=lambda one: (not one.name.casefold().startswith(first), one.name.casefold())
        )[:limit]

    async def list(self, after: str | None) -> ListPage:
        if after is None:
            mark, paths = await self._begin_listing()
            name = uuid.uuid4().hex
            self._listings[name] = paths
            while len(self._listings) > _LISTINGS:
                del self._listings[next(iter(self._listings))]
            return await self._page(name, paths, 0, mark)
        name, _, offset = after.partition(":")
        if name not in self._listings or not offset.isdecimal():
            raise AdapterUnavailable(
                "the list was left standing too long; it has to be read from its beginning"
            )
        return await self._page(name, self._listings[name], int(offset), None)

    async def changes(self, mark: str) -> ChangePage:
        try:
            marks = orjson.loads(mark)
            if not isinstance(marks, dict) or not all(isinstance(each, str) for each in marks.values()):
                raise ValueError("no mark")
        except ValueError as error:
            raise MarkLost("this is no mark of ours") from error
        if set(marks) != set(await self._address_books()):
            raise MarkLost("there are other address books than there were")
        changed: list[str] = []
        gone: list[str] = []
        more = False
        for book, since in marks.items():
            difference = await self._difference(book, since)
            changed += difference.changed
            gone += difference.gone
            marks[book] = difference.mark
            more = more or difference.more
        found = await self._all_cards(changed)
        # A card that cannot be used any more, and the other sort that a card may have been before.
        missing = {*gone, *changed} - found.keys()
        refs = [self._ref(path, type) for path in sorted(missing) for type in _TYPES]
        refs += [
            PartyRef(type, each.party.id)
            for each in found.values()
            for type in _TYPES
            if type is not each.party.type
        ]
        return ChangePage(list(found.values()), refs, orjson.dumps(marks).decode(), more)

    async def create(self, party: NewParty) -> Party:
        book = (await self._address_books())[0]
        uid = str(uuid.uuid4())
        card = new_vcard(
            uid=uid,
            name=party.name,
            company=party.company,
            numbers=(party.number,),
            notes=party.notes,
            is_company=party.type is PartyType.ORGANISATION,
        )
        path = f"{book}{uid}.vcf"
        answer = await self._put(path, card, ("if-none-match", "*"))
        # 412: it is there already, by this request, whose first answer was lost. Nobody else makes up this name.
        answer.expect(200, 201, 204, 412)
        return evolve(self._read(path, card.as_text()).party, type=party.type)

    async def note(self, party: PartyRef, text: str) -> Written:
        def noted(card: VCard) -> VCard:
            text_before = card.text("NOTE")
            if text_before.startswith(text.strip()):
                # Written already, by a request whose answer was lost.
                return card
            # The newest first: who has no room for all of it loses the oldest.
            text_now = f"{text.strip()}\n\n{text_before}".strip()[:NOTES_LIMIT]
            others = [each for each in card.properties if each.name != "NOTE"]
            return evolve(card, properties=(*others, Property("NOTE", "").with_text(text_now)))

        await self._edit(party, noted)
        return Written("note", party.id)

    async def write_number(self, party: PartyRef, old: ListedNumber, new: str) -> None:
        def replaced(card: VCard) -> VCard:
            if ListedNumber(new, old.field) in card.numbers:
                # Replaced already, by a request whose answer was lost.
                return card
            changed = card.with_number(old, new)
            if changed is None:
                raise NumberChanged("the number stands there no more")
            return changed

        await self._edit(party, replaced)

    # What is on the server.

    async def _begin_listing(self) -> tuple[str, Sequence[str]]:
        marks: dict[str, str] = {}
        paths: list[str] = []
        # There may be another one by now.
        self._books = None
        for book in await self._address_books():
            difference = await self._whole(book)
            marks[book] = difference.mark
            paths += difference.changed
        return orjson.dumps(marks).decode(), paths

    async def _page(self, name: str, paths: Sequence[str], offset: int, mark: str | None) -> ListPage:
        found = await self._cards(paths[offset : offset + self._options.page])
        following = offset + self._options.page
        if following >= len(paths):
            self._listings.pop(name, None)
            return ListPage(list(found.values()), None, mark)
        return ListPage(list(found.values()), f"{name}:{following}", mark)

    async def _address_books(self) -> Sequence[str]:
        """The configured address if it is an address book, else all that it has."""
        if self._books is None:
            answer = await self._dav("PROPFIND", self._base, propfind("resourcetype"), depth="1")
            books = [
                path if path.endswith("/") else f"{path}/"
                for path in (
                    each.path
                    for each in answer.resources
                    if each.has(f"{DAV}resourcetype", f"{CARD}addressbook")
                )
                if _below(path, self._base)
            ]
            own = self._base.rstrip("/") + "/"
            found = [own] if own in books else sorted(books)[:_BOOKS]
            if not found:
                raise AdapterAnswerError(
                    "there is no address book at url; the address of one, or of the account's address books, would"
                    " be right"
                )
            self._books = found
        return self._books

    async def _whole(self, book: str) -> _Difference:
        """Every card of a book, and the mark to go on from."""
        try:
            difference = await self._difference(book, "")
        except MarkLost:
            return await self._snapshot(book)
        changed = list(difference.changed)
        while difference.more:
            difference = await self._difference(book, difference.mark)
            changed += difference.changed
        return evolve(difference, changed=list(dict.fromkeys(changed)), gone=())

    async def _difference(self, book: str, mark: str) -> _Difference:
        """By the server's own account (RFC 6578). Raises ``MarkLost`` if it has none, or lost it."""
        if mark.startswith("ctag:"):
            return await self._compared(book, mark)
        asked = await self._ask("REPORT", book, sync_collection(mark), depth="0", lost_if_denied=True)
        if asked.status != 207:
            if asked.status >= 500 and asked.status != 501:
                asked.expect(207)
            raise MarkLost("the server does not tell what changed since then")
        answer = read_multistatus(asked.body)
        if not answer.sync_token:
            raise MarkLost("the server tells of no mark to go on from")
        cards = [each for each in answer.resources if self._is_card(each.path, book)]
        return _Difference(
            [each.path for each in cards if each.status == 200],
            [each.path for each in cards if each.status in (404, 410)],
            answer.sync_token,
            # RFC 6578, 3.6: the collection itself, with this status, stands for what was left out.
            any(each.status == 507 for each in answer.resources),
        )

    async def _snapshot(self, book: str) -> _Difference:
        """For servers without RFC 6578: every card's ETag, kept under the collection's mark."""
        answer = await self._dav("PROPFIND", book, propfind("getetag", "S:getctag"), depth="1")
        etags = {
            each.path: each.text(f"{DAV}getetag")
            for each in answer.resources
            if self._is_card(each.path, book)
        }
        own = next((each for each in answer.resources if each.path.rstrip("/") == book.rstrip("/")), None)
        ctag = own.text(CTAG) if own is not None else ""
        mark = f"ctag:{uuid.uuid4().hex}:{ctag}"
        self._snapshots[mark] = etags
        while len(self._snapshots) > _SNAPSHOTS * _BOOKS:
            del self._snapshots[next(iter(self._snapshots))]
        return _Difference(list(etags), (), mark)

    async def _compared(self, book: str, mark: str) -> _Difference:
        before = self._snapshots.get(mark)
        if before is None:
            raise MarkLost("what the address book was like then is not known any more")
        ctag = mark.split(":", 2)[2]
        if ctag:
            answer = await self._dav("PROPFIND", book, propfind("S:getctag"), depth="0")
            if any(each.text(CTAG) == ctag for each in answer.resources):
                return _Difference((), (), mark)
        now = await self._snapshot(book)
        etags = self._snapshots[now.mark]
        changed = [path for path, etag in etags.items() if not etag or before.get(path) != etag]
        return _Difference(changed, [path for path in before if path not in etags], now.mark)

    async def _all_cards(self, paths: Sequence[str]) -> dict[str, ListedParty]:
        found: dict[str, ListedParty] = {}
        for start in range(0, len(paths), self._options.page):
            found |= await self._cards(paths[start : start + self._options.page])
        return found

    async def _cards(self, paths: Iterable[str]) -> dict[str, ListedParty]:
        """The cards as parties, by path; without those that are gone, or that nobody could make a party of."""
        by_book: dict[str, list[str]] = {}
        for path in paths:
            by_book.setdefault(path[: path.rfind("/") + 1], []).append(path)
        found: dict[str, ListedParty] = {}
        for book, wanted in by_book.items():
            asked = await self._ask("REPORT", book, multiget(map(quote, wanted)), depth="1")
            if asked.status == 404:
                continue
            found |= await self._in_thread(_read_all, self._read_card, asked.expect(207).body, set(wanted))
        return found

    def _read_card(self, resource: Resource) -> ListedParty | None:
        """``None`` for a list of people, and for a card without a name: nobody can be shown of it."""
        try:
            return self._read(resource.path, resource.text(f"{CARD}address-data"))
        except VCardError:
            return None

    def _read(self, path: str, text: str) -> ListedParty:
        card = read_vcard(text)
        id = self._id_of(path)
        if card.is_group or id is None:
            raise VCardError("nobody's")
        return listed(card, adapter=self._name, id=id, extra=self._options.fields)

    async def _edit(self, party: PartyRef, change: Callable[[VCard], VCard]) -> None:
        """Change a card as it stands, and again if somebody else did at the same moment."""
        path = self._path_of(party.id)
        if path is None:
            raise AdapterAnswerError("the address book has no such card")
        for _ in range(_TRIES):
            answer = await self._ask("GET", path)
            if answer.status in (404, 410):
                raise AdapterAnswerError("the card is gone")
            etag = answer.expect(200).header("etag")
            if not etag or etag.startswith("W/"):
                raise AdapterAnswerError("the server does not say which state of a card it gives (ETag)")
            try:
                card = change(read_vcard(answer.text()))
            except VCardError as error:
                raise AdapterAnswerError(f"the card cannot be changed: {error}") from error
            done = await self._put(path, card, ("if-match", etag))
            if done.status != 412:
                done.expect(200, 201, 204)
                return
        raise AdapterUnavailable("the card is being changed by somebody else all the time")

    # Which numbers stand in which card.

    async def _synced(self) -> None:
        """Returns once the mirror is as the server was at this moment, or later."""
        waiting: Deferred[None] = Deferred()
        self._asking.append(waiting)
        self._begin_sync()
        await waiting

    def _begin_sync(self) -> None:
        # On its own: a caller who does not wait any more must not keep the first reading from ever coming to an end.
        if self._syncing is None:
            syncing = Deferred.fromCoroutine(self._sync_for_all())
            # A server that wants to be left alone is not asked at all, and it is over by now.
            self._syncing = None if syncing.called else syncing

    async def _sync_for_all(self) -> None:
        try:
            while True:
                asking, self._asking = self._asking, []
                outcome: Any = None
                try:
                    await self._sync()
                except AdapterError as error:
                    outcome = _failure(error)
                except CancelledError:
                    outcome = _failure(AdapterUnavailable("stopped"))
                    return
                finally:
                    for each in asking:
                        if not each.called:
                            each.callback(outcome)
                if not self._asking:
                    return
        finally:
            self._syncing = None

    async def _sync(self) -> None:
        mirror = self._mirror
        for book in await self._address_books():
            mark = mirror.marks.get(book)
            try:
                if mark is None:
                    raise MarkLost("read for the first time")
                difference = await self._difference(book, mark)
            except MarkLost:
                difference = await self._whole(book)
                # Who is not there any more is left out first, and the others as they were until they are read.
                mirror.keep_only(book, difference.changed)
            await self._take(book, difference)
            while difference.more:
                difference = await self._difference(book, difference.mark)
                await self._take(book, difference)

    async def _take(self, book: str, difference: _Difference) -> None:
        for path in difference.gone:
            self._mirror.put(path, ())
        changed = difference.changed
        for start in range(0, len(changed), self._options.page):
            chunk = changed[start : start + self._options.page]
            found = await self._cards(chunk)
            numbers = await self._in_thread(_numbers_of, found, self._plan)
            for path in chunk:
                self._mirror.put(path, numbers.get(path, ()))
        self._mirror.marks[book] = difference.mark

    # Requests.

    async def _dav(self, method: str, path: str, body: bytes, depth: str) -> MultiStatus:
        answer = await self._ask(method, path, body, depth)
        if answer.status in (404, 405):
            self._books = None
            raise AdapterAnswerError(
                f"{answer.origin} answered {answer.status}: there is no address book at url"
            )
        return read_multistatus(answer.expect(207).body)

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, depth: str = "", lost_if_denied: bool = False
    ) -> Answer:
        headers = [*self._login(), ("accept", "text/vcard, application/xml, */*;q=0.1")]
        if body is not None:
            headers += [("content-type", "application/xml; charset=utf-8"), ("depth", depth)]
        try:
            return await self._client.request(
                method,
                self._url(path),
                headers=headers,
                body=body,
                repeatable=method in ("PROPFIND", "REPORT"),
            )
        except AdapterDenied as error:
            # Some servers (SabreDAV) say 403 to a mark that they forgot, and others to a question they never answer.
            if lost_if_denied:
                raise MarkLost("the server does not tell what changed since then") from error
            raise

    async def _put(self, path: str, card: VCard, condition: tuple[str, str]) -> Answer:
        headers = [*self._login(), ("content-type", "text/vcard; charset=utf-8"), condition]
        return await self._client.request(
            "PUT", self._url(path), headers=headers, body=card.as_text().encode()
        )

    @property
    def _client(self) -> HttpClient:
        if self._http is None:
            raise AdapterUnavailable("not started")
        return self._http

    def _login(self) -> Sequence[tuple[str, str]]:
        if self._options.password is None:
            return []
        login = f"{self._options.username}:{self._options.password.reveal()}"
        return [("authorization", f"Basic {b64encode(login.encode()).decode()}")]

    def _url(self, path: str) -> str:
        return origin_of(self._options.url) + quote(path)

    async def _in_thread(self, work: Callable[..., _T], *arguments: Any) -> _T:
        # XML and numbers of fifty cards take some ten milliseconds, in which no call would be answered.
        return cast(_T, await deferToThread(work, *arguments))

    def _is_card(self, path: str, book: str) -> bool:
        return _below(path, book) and not path.endswith("/") and self._id_of(path) is not None

    def _id_of(self, path: str) -> str | None:
        """The part of the path below the configured address; too long a one would have to be cut, and is none."""
        base = self._base.rstrip("/") + "/"
        id = path.removeprefix(base)
        return id if path.startswith(base) and 0 < len(id) <= ID_LIMIT and id == id.strip() else None

    def _path_of(self, id: str) -> str | None:
        path = self._base.rstrip("/") + "/" + id
        return path if _below(path, self._base) and not path.endswith("/") and id.isprintable() else None

    def _ref(self, path: str, type: PartyType) -> PartyRef:
        return PartyRef(type, self._id_of(path) or "-")


@define
class _Mirror:
    """Which cards have a number; ``marks``: up to where each book was read."""

    marks: dict[str, str] = field(factory=dict)
    _paths: dict[str, set[str]] = field(factory=dict)
    _numbers: dict[str, Sequence[str]] = field(factory=dict)

    def with_number(self, e164: str) -> Sequence[str]:
        return sorted(self._paths.get(e164, ()))

    def put(self, path: str, numbers: Sequence[str]) -> None:
        for e164 in self._numbers.pop(path, ()):
            having = self._paths[e164]
            having.discard(path)
            if not having:
                del self._paths[e164]
        if numbers:
            self._numbers[path] = numbers
            for e164 in numbers:
                self._paths.setdefault(e164, set()).add(path)

    def keep_only(self, book: str, paths: Iterable[str]) -> None:
        kept = set(paths)
        for path in [each for each in self._numbers if each.startswith(book) and each not in kept]:
            self.put(path, ())


def _read_all(
    read: Callable[[Resource], ListedParty | None], body: bytes, wanted: set[str]
) -> dict[str, ListedParty]:
    return {
        each.path: found
        for each in read_multistatus(body).resources
        if each.status == 200 and each.path in wanted and (found := read(each)) is not None
    }


def _with_words(
    read: Callable[[Resource], ListedParty | None], answer: MultiStatus, wanted: Sequence[str]
) -> Sequence[Party]:
    parties = []
    for resource in answer.resources:
        found = read(resource)
        if found is None:
            continue
        card = read_vcard(resource.text(f"{CARD}address-data"))
        text = " ".join(each.text for name in _SEARCHED for each in card.all(name)).casefold()
        if all(word in text for word in wanted):
            parties.append(found.party)
    return parties


def _numbers_of(found: Mapping[str, ListedParty], plan: NumberPlan) -> dict[str, Sequence[str]]:
    return {path: sorted(_e164s(each.numbers, plan)) for path, each in found.items()}


def _e164s(numbers: Iterable[ListedNumber], plan: NumberPlan) -> set[str]:
    return {e164 for number in numbers if (e164 := plan.parse(number.raw).e164) is not None}


def _below(path: str, base: str) -> bool:
    return path.startswith(base.rstrip("/") + "/") and ".." not in path.split("/")


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
