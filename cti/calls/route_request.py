"""What the dialplan sends along with its question, read out of the AGI request and checked.

`AGI(agi://HOST/route,v=1,pbx=NAME,call=ID,linkedid=…,did=…,attempt=N,last=DIALSTATUS)`: AGI itself sends neither
the Asterisk's name nor the linkedid, so they come as arguments. Calls that go out are told of in the same words, by
`agi://HOST/outbound`, with the number that is called as `did`; and `agi://HOST/identify` says in them who calls, by
a key that the caller typed.
"""

import re
from collections.abc import Collection
from typing import Final

from attrs import frozen

from cti.asterisk.agi_parser import Request

_DIAL_STATUS: Final = re.compile(r"[A-Z]{0,20}")
_LONGEST: Final = 128
_KIND: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SOUNDS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_/-]*(&[A-Za-z0-9_][A-Za-z0-9_/-]*)*")
#: Of a key that a caller types.
MOST_DIGITS: Final = 32


class BadRouteRequest(Exception):
    """The request is not one that our dialplan makes; the text says what is wrong with it."""


@frozen
class RouteRequest:
    """One question of the dialplan. `call` is None at the first; `last` is Dial's word, None at the first.

    `sent`: the call asks because it was sent for, by the doorbell of a line; `key`: because the caller, who waits,
    pressed this key.
    """

    pbx: str
    call: str | None
    uniqueid: str
    linkedid: str | None
    channel: str
    did: str
    caller: str
    caller_name: str
    presentation: int | None
    attempt: int
    last: str | None
    sent: bool = False
    key: str = ""

    @classmethod
    def of(cls, request: Request, script: str = "route") -> "RouteRequest":
        """Raises `BadRouteRequest`."""
        given = arguments_of(request, script)
        pbx = given.get("pbx", "")
        if not pbx:
            raise BadRouteRequest("the arguments have no pbx=NAME")
        uniqueid = request.uniqueid
        if not uniqueid or len(uniqueid) > _LONGEST:
            raise BadRouteRequest("the request has no agi_uniqueid")
        attempt = given.get("attempt", "1")
        last = given.get("last", "")
        return cls(
            pbx=pbx,
            call=given.get("call") or None,
            uniqueid=uniqueid,
            linkedid=given.get("linkedid", "")[:_LONGEST] or None,
            channel=request.channel[:_LONGEST],
            did=given.get("did", "")[:_LONGEST],
            caller=request.callerid[:_LONGEST],
            caller_name=request.calleridname[:_LONGEST],
            presentation=request.callingpres,
            attempt=int(attempt) if attempt.isascii() and attempt.isdigit() and len(attempt) < 5 else 1,
            last=last if last and _DIAL_STATUS.fullmatch(last) else None,
            sent=given.get("sent") == "1",
            key=given.get("pressed", "")[:1],
        )


@frozen
class KeyRequest:
    """Who is calling, by a key. `value` is None where we are to read it: at most `digits`, after the sound `prompt`.

    `asked`: what every question of the dialplan says.
    """

    asked: RouteRequest
    kind: str
    value: str | None
    digits: int
    prompt: str

    @classmethod
    def of(cls, request: Request) -> "KeyRequest":
        """Raises `BadRouteRequest`, whose text has no value in it."""
        given = arguments_of(request, "identify")
        kind, prompt, digits = given.get("key", ""), given.get("prompt", ""), given.get("digits", "")
        if not _KIND.fullmatch(kind):
            raise BadRouteRequest("the arguments have no key=KIND, such as key=customer")
        if prompt and not _SOUNDS.fullmatch(prompt):
            raise BadRouteRequest("prompt is no sound; such as custom/your-number would be right")
        if digits and not (digits.isascii() and digits.isdigit() and 1 <= int(digits[:4]) <= MOST_DIGITS):
            raise BadRouteRequest(f"digits is no number from 1 to {MOST_DIGITS}")
        value = given.get("value")
        return cls(
            RouteRequest.of(request, "identify"),
            kind,
            None if value is None else value.strip()[:_LONGEST],
            int(digits or MOST_DIGITS),
            prompt,
        )


def arguments_of(request: Request, script: str) -> dict[str, str]:
    """The arguments of a question to this script, by name. Raises `BadRouteRequest`."""
    if request.script != script:
        raise BadRouteRequest(
            f"the script is {request.script[:40]!r}; agi://HOST/route, /outbound and /identify are served"
        )
    pairs = [argument.partition("=")[::2] for argument in request.args]
    given = dict(pairs)
    if len(given) < len(pairs):
        # A comma in a value would have become an argument of its own.
        raise BadRouteRequest("an argument comes twice")
    if given.get("v") != "1":
        raise BadRouteRequest("the arguments have no v=1: is dialplan/cti.conf of this version in use?")
    return given


def check_pbx(request: RouteRequest, pbxes: Collection[str]) -> None:
    """Raises `BadRouteRequest` where no Asterisk of the configuration has the name that the request gives."""
    if request.pbx not in pbxes:
        known = ", ".join(sorted(pbxes)) or "none"
        raise BadRouteRequest(f"no Asterisk here is called {request.pbx[:40]!r} (CTI_PBX); known: {known}")
