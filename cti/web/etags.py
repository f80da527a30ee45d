"""Entity tags (RFC 9110, 8.8 and 13): what version of a thing an answer has, and which one a request is about.

Tags here are strong and made of the thing itself, so that nobody has to count versions. When they are demanded is
said by the route table's rows.
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from typing import Any, Final

import orjson

from cti.web.problems import Problem

ANY: Final = "*"
#: A list of tags, as RFC 9110 writes it: opaque text in quotes, `W/` before it if it is weak.
_LIST: Final = re.compile(r'\s*,?\s*((?:W/)?"[\x21\x23-\x7e]*")\s*(?=,|$)', re.ASCII)
_LIMIT: Final = 2048


def etag_of(*parts: Any) -> str:
    """The tag of a thing that is made of these JSON values, in its quotes: the same values, the same tag."""
    return f'"{hashlib.blake2b(orjson.dumps(parts), digest_size=12).hexdigest()}"'


def tags_of(fields: Sequence[str], name: str) -> Collection[str] | None:
    """The tags that the header field `name` lists; `ANY` alone for `*`; None if it was not sent.

    Raises `Problem` 400.
    """
    if not fields:
        return None
    text = ",".join(fields).strip()
    if text == ANY:
        return (ANY,)
    found, at = [], 0
    while at < len(text) <= _LIMIT and (each := _LIST.match(text, at)) is not None:
        found.append(each[1])
        at = each.end()
    if not found or at < len(text):
        raise Problem(400, f'{name} is an ETag as it was answered, in its quotes: {name}: "0a1b…"')
    return found


def same(wanted: Collection[str], etag: str) -> bool:
    """Whether a thing of this tag is meant by `If-Match`. A weak tag means nothing that may be changed."""
    return ANY in wanted or etag in wanted


def known(tags: Collection[str] | None, etag: str) -> bool:
    """Whether who sent `If-None-Match` has a thing of this tag already. Proxies make tags weak that they pack."""
    return tags is not None and (ANY in tags or etag in (each.removeprefix("W/") for each in tags))
