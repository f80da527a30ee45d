"""Entity tags (RFC 9110, 8.8 and 13): what version of a thing an answer has, and which one a request is about.

What a tag is made of, and what is changed, is up to those who keep the thing; when tags are demanded is said by the
rows of the route table.
"""

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from cti.web.problems import Problem

ANY: Final = "*"
#: A list of tags, as RFC 9110 writes it: opaque text in quotes, `W/` before it if it is weak.
_LIST: Final = re.compile(r'\s*,?\s*((?:W/)?"[\x21\x23-\x7e]*")\s*(?=,|$)', re.ASCII)
_LIMIT: Final = 2048


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


def changed(why: str, etag: str, **current: Any) -> Problem:
    """What is told to who means to change a version that is gone: the one that is there, to put the change into."""
    return Problem(412, why, kind="changed", headers={"ETag": etag}, more={**current, "etag": etag})


def known(fields: Sequence[str], etag: str) -> bool:
    """Whether who sent these `If-None-Match` has a thing of this tag already; what is no tag is none that they have.

    Proxies make tags weak that they pack. Ours have no commas.
    """
    tags = [each.strip().removeprefix("W/") for each in ",".join(fields).split(",")]
    return ANY in tags or etag in tags
