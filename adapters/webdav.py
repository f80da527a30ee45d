"""WebDAV's questions and answers as XML (RFC 4918, 6578, 6352), read without entities, DTDs or surprises.

What of it makes an address book is left to ``carddav``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape, quoteattr

from attrs import frozen
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from adapters.base import AdapterAnswerError

DAV: Final = "{DAV:}"
CARD: Final = "{urn:ietf:params:xml:ns:carddav}"
CTAG: Final = "{http://calendarserver.org/ns/}getctag"

_NAMES: Final = (
    'xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:carddav" xmlns:S="http://calendarserver.org/ns/"'
)


@frozen
class Resource:
    """What an answer says of one resource: its path, unescaped; its status; its properties that are there.

    A property's value is its element.
    """

    path: str
    status: int
    properties: Mapping[str, Any]

    def text(self, name: str) -> str:
        element = self.properties.get(name)
        return "" if element is None else (element.text or "")

    def has(self, name: str, kind: str) -> bool:
        """Whether the property has an element of this kind, as a resource's type has."""
        element = self.properties.get(name)
        return element is not None and element.find(kind) is not None


@frozen
class MultiStatus:
    resources: Sequence[Resource]
    sync_token: str


def propfind(*properties: str) -> bytes:
    return _document("propfind", f"<prop>{''.join(f'<{name}/>' for name in properties)}</prop>")


def sync_collection(token: str) -> bytes:
    return _document(
        "sync-collection",
        f"<sync-token>{escape(token)}</sync-token><sync-level>1</sync-level><prop><getetag/></prop>",
    )


def multiget(hrefs: Iterable[str]) -> bytes:
    wanted = "".join(f"<href>{escape(href)}</href>" for href in hrefs)
    return _document("C:addressbook-multiget", f"<prop><getetag/><C:address-data/></prop>{wanted}")


def containing(word: str, *properties: str) -> bytes:
    """Cards that have the word in one of the properties."""
    filters = "".join(
        f"<C:prop-filter name={quoteattr(name)}>"
        '<C:text-match collation="i;unicode-casemap" match-type="contains">'
        f"{escape(word)}</C:text-match></C:prop-filter>"
        for name in properties
    )
    return _document(
        "C:addressbook-query",
        f'<prop><getetag/><C:address-data/></prop><C:filter test="anyof">{filters}</C:filter>',
    )


def read_multistatus(body: bytes) -> MultiStatus:
    """Raises ``AdapterAnswerError`` for what is none, and for XML that declares anything."""
    try:
        # Without DTDs there are no entities: none that grow, and none that lead to files or addresses.
        root = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise AdapterAnswerError(
            f"the server answered what is no XML for us ({type(error).__name__})"
        ) from None
    if root.tag != f"{DAV}multistatus":
        raise AdapterAnswerError("the server answered XML that is no DAV:multistatus")
    return MultiStatus(list(_resources(root)), (root.findtext(f"{DAV}sync-token") or "").strip())


def _resources(root: Any) -> Iterator[Resource]:
    for response in root.iterfind(f"{DAV}response"):
        properties = {}
        status = _status(response.findtext(f"{DAV}status"), 200)
        for propstat in response.iterfind(f"{DAV}propstat"):
            if _status(propstat.findtext(f"{DAV}status"), 200) == 200:
                for prop in propstat.iterfind(f"{DAV}prop"):
                    properties.update({element.tag: element for element in prop})
        for href in response.iterfind(f"{DAV}href"):
            yield Resource(_path(href.text or ""), status, properties)


def _status(line: str | None, without: int) -> int:
    """200 of ``HTTP/1.1 200 OK``."""
    words = (line or "").split()
    return int(words[1]) if len(words) > 1 and words[1].isdecimal() and len(words[1]) == 3 else without


def _path(href: str) -> str:
    try:
        return unquote(urlsplit(href.strip()).path)
    except ValueError:
        return ""


def _document(name: str, content: str) -> bytes:
    # XML has no way to write most control characters, and no name has one.
    content = "".join(each for each in content if each >= " " or each in "\t\n")
    return f'<?xml version="1.0" encoding="utf-8"?><{name} {_NAMES}>{content}</{name}>'.encode(
        "utf-8", "replace"
    )
