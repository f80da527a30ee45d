"""The phonebook over HTTP, in the XML of each maker, for phones that have neither a browser nor a login.

Who may ask is told by the address, and by a word in the path; phones can do no more. What the XML is like is left to
``xml_books``.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final
from urllib.parse import quote

import orjson
from attrs import field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from cti.logs import get_logger
from cti.phonebook.book import Contact, Hint, PhoneBook, Place, has_digits, has_word, words_of
from cti.phonebook.ldap_server import allowed
from cti.phonebook.xml_books import (
    CISCO_ENTRIES,
    GRANDSTREAM_CONTACTS,
    SNOM_CONTACTS,
    SNOM_ENTRIES,
    YEALINK_ENTRIES,
    cisco_directory,
    cisco_question,
    grandstream_address_book,
    snom_directory,
    snom_question,
    snom_tbook,
    yealink_directory,
    yealink_menu,
)
from cti.secret import Secret

# Twisted has no types for it.
_site: Final[Any] = Site

log = get_logger("cti.phonebook")

#: Stands in the path where there is no word to know.
OPEN: Final = "open"
IDLE: Final = 30
#: Bytes of a request's body.
_BODY: Final = 4096
_QUERY: Final = 64
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


@frozen
class Gate:
    """Who may ask. ``allow``: from which networks; ``token``: the word in the path, if there has to be one."""

    title: str
    allow: Sequence[IPv4Network | IPv6Network]
    token: Secret | None = field(default=None, repr=False)


@frozen
class _Asked:
    """What a phone wants: where it was sent to, what it looks for, and where the page begins."""

    url: str
    words: str | None
    after: Place | None


@frozen
class _Page:
    text: str
    headers: tuple[tuple[str, str], ...] = ()


def phonebook_site(book: PhoneBook, gate: Gate, reactor: Any) -> Site:
    site: Any = _site(_Root(book, gate), requestFactory=_Request, timeout=IDLE, reactor=reactor)
    site.displayTracebacks = False
    site.noisy = False
    # The path has the word in it, and belongs into no log.
    site.log = lambda _request: None
    site.protocol = _Channel
    return site  # type: ignore[no-any-return]


class _Request(Request):
    """Some phones ask by POST; none has anything to say that is long."""

    def gotLength(self, length: int | None) -> None:
        if length is None or length > _BODY:
            self.channel.forceAbortClient()  # type: ignore[no-untyped-call]
        else:
            super().gotLength(length)  # type: ignore[no-untyped-call]


class _Channel(HTTPChannel):
    """Phones send short requests."""

    totalHeadersSize = 8192
    maxHeaders = 60


class _Root(Resource):
    isLeaf = True

    def __init__(self, book: PhoneBook, gate: Gate) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._book = book
        self._gate = gate
        self._files: Mapping[str, Callable[[_Asked], Any]] = {
            "cisco.xml": self._cisco,
            "snom.xml": self._snom,
            "tbook.xml": self._tbook,
            "yealink.xml": self._yealink,
            "phonebook.xml": self._grandstream,
            "gs_phonebook.xml": self._grandstream,
        }

    def render(self, request: Any) -> Any:
        request.setHeader("cache-control", "no-store")
        request.setHeader("x-content-type-options", "nosniff")
        if request.method not in (b"GET", b"HEAD", b"POST"):
            return _plain(request, 405, "GET would be right")
        client = request.getClientAddress()
        if not allowed(client.host, self._gate.allow):
            log.warning("the phonebook was asked from an address that is not in `allow`", address=client.host)
            return _plain(request, 403, "not from here")
        path = [each.decode("utf-8", "replace") for each in request.postpath]
        token = OPEN if self._gate.token is None else self._gate.token.reveal()
        if (
            len(path) != 3
            or path[0] != "phonebook"
            or not hmac.compare_digest(path[1].encode(), token.encode())
        ):
            return _plain(request, 404, "there is no such phonebook")
        render = self._files.get(path[2])
        if render is None:
            return _plain(request, 404, f"one of {', '.join(self._files)} would be right")
        try:
            asked = self._asked(request, path)
        except ValueError:
            return _plain(request, 400, "this is no page of the phonebook")
        work: Deferred[Any] = Deferred.fromCoroutine(render(asked))
        gone = request.notifyFinish()
        gone.addErrback(lambda _: work.cancel())
        work.addCallbacks(_written, _failed, callbackArgs=(request,), errbackArgs=(request,))
        return NOT_DONE_YET

    def _asked(self, request: Any, path: Sequence[str]) -> _Asked:
        host = (request.getHeader("host") or "").strip()
        where = request.getHost()
        if not _HOST.fullmatch(host):
            shown = f"[{where.host}]" if ":" in where.host else where.host
            host = f"{shown}:{where.port}"
        url = f"http://{host}/phonebook/{quote(path[1], safe='')}/{quote(path[2])}"
        words = request.args.get(b"q", [None])[0]
        page = request.args.get(b"p", [None])[0]
        text = None if words is None else words.decode("utf-8", "replace").strip()[:_QUERY]
        if text in ("#SEARCH", "*"):
            # What Yealink puts there before anybody has typed a letter.
            text = ""
        if page is None:
            return _Asked(url, text, None)
        text, place = _read_page(page)
        return _Asked(url, text, place)

    async def _cisco(self, asked: _Asked) -> _Page:
        if asked.words is None:
            return _Page(cisco_question(self._gate.title, asked.url))
        contacts, following = await self._page(asked, CISCO_ENTRIES)
        page = cisco_directory(self._gate.title, contacts)
        # The phone has a softkey for it (Application Development Notes, CiscoIPPhoneDirectory).
        return _Page(page, () if following is None else (("refresh", f"0; url={following}"),))

    async def _snom(self, asked: _Asked) -> _Page:
        if asked.words is None:
            return _Page(snom_question(self._gate.title, asked.url))
        contacts, following = await self._page(asked, SNOM_ENTRIES)
        return _Page(snom_directory(self._gate.title, contacts, following))

    async def _yealink(self, asked: _Asked) -> _Page:
        contacts, following = await self._page(asked, YEALINK_ENTRIES)
        if following is not None and not asked.words:
            return _Page(yealink_menu(self._gate.title, f"{asked.url}?q="))
        return _Page(yealink_directory(self._gate.title, contacts))

    async def _tbook(self, _asked: _Asked) -> _Page:
        return _Page(snom_tbook(await self._everybody(SNOM_CONTACTS)))

    async def _grandstream(self, _asked: _Asked) -> _Page:
        return _Page(grandstream_address_book(await self._everybody(GRANDSTREAM_CONTACTS)))

    async def _everybody(self, limit: int) -> Sequence[Contact]:
        return await self._book.search(lambda contact: bool(contact.e164s), limit)

    async def _page(self, asked: _Asked, entries: int) -> tuple[Sequence[Contact], str | None]:
        """Contacts of at most so many entries, one for each number, and the address of the next page."""
        words = asked.words or ""
        if not words:
            contacts, place = self._book.page(asked.after, entries)
            return _fitting(contacts, place, asked, entries, self._book)
        if any(each.isdecimal() for each in words) and not any(each.isalpha() for each in words):
            digits = "".join(each for each in words if each.isdecimal() or each == "+")
            found = await self._book.search(
                lambda contact: has_digits(contact, digits),
                entries,
                hint=Hint(numbers=(words,), digits=digits),
            )
        else:
            found = await self._book.search(
                lambda contact: has_word(contact, words),
                entries,
                hint=Hint(prefixes=(words,), within=max(words_of(words), key=len, default="")),
            )
        return _cut(found, entries), None


def _fitting(
    contacts: Sequence[Contact], place: Place | None, asked: _Asked, entries: int, book: PhoneBook
) -> tuple[Sequence[Contact], str | None]:
    """As many contacts as have room; the next page begins behind the last of them."""
    kept = _cut(contacts, entries)
    if len(kept) < len(contacts):
        # Fewer people, so that the place is behind the last of them.
        contacts, place = book.page(asked.after, max(1, len(kept)))
        kept = _cut(contacts, entries)
    return kept, None if place is None else f"{asked.url}?p={_written_page(asked.words or '', place)}"


def _cut(contacts: Sequence[Contact], entries: int) -> Sequence[Contact]:
    kept: list[Contact] = []
    left = entries
    for contact in contacts:
        if len(contact.e164s) > left and kept:
            break
        kept.append(contact)
        left -= len(contact.e164s)
    return kept


def _written_page(words: str, place: Place) -> str:
    """One word without & and =, which some phones take out of addresses."""
    return urlsafe_b64encode(orjson.dumps([words, dict(place)])).decode().rstrip("=")


def _read_page(raw: bytes) -> tuple[str, Place]:
    """Raises ``ValueError``."""
    if len(raw) > 4096:
        raise ValueError("too long")
    words, place = orjson.loads(urlsafe_b64decode(raw + b"=" * (-len(raw) % 4)))
    if not isinstance(words, str) or not isinstance(place, dict):
        raise ValueError("no page")
    found: dict[str, tuple[str, int]] = {}
    for adapter, at in place.items():
        sort, key = at
        if not isinstance(sort, str) or type(key) is not int or not -(2**63) <= key < 2**63:
            raise ValueError("no place")
        found[adapter] = (sort, key)
    return words, found


def _plain(request: Any, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader("content-type", "text/plain; charset=utf-8")
    return f"{text}\n".encode()


def _written(page: _Page, request: Any) -> None:
    request.setHeader("content-type", "text/xml; charset=utf-8")
    for name, value in page.headers:
        request.setHeader(name, value)
    body = page.text.encode("utf-8", "replace")
    request.setHeader("content-length", str(len(body)))
    request.write(b"" if request.method == b"HEAD" else body)
    request.finish()


def _failed(failure: Failure, request: Any) -> None:
    if isinstance(failure.value, CancelledError):
        return
    log.error("a page of the phonebook failed", exception=failure.getTraceback())
    request.write(_plain(request, 500, "the phonebook cannot be read now"))
    request.finish()
