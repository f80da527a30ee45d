"""Reads the message trace that SIPp writes, and tells what each call looked like on the wire.

Pure: text in, messages and results out; whoever runs SIPp (`lab.sipp`) gives the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from attrs import frozen

# SIPp 3.6 writes `2026-01-31 12:00:00.123456` and `sent (5 bytes)`, 3.8 `2026-01-31T12:00:00.123456Z` and
# `sent [5] bytes`.
_HEADING = re.compile(
    rb"^-{47} (?P<day>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d:\d\d\.\d{6})Z?\r?\n"
    rb"\w+ message (?P<direction>sent|received) (?:\(\d+ bytes\)|\[\d+\] bytes) ?:\r?\n\r?\n",
    re.MULTILINE,
)
_NAME_ADDRESS = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^<"]*?))\s*<sips?:(?P<user>[^@>;]*)'
)
# The compact forms that RFC 3261, 7.3.3 allows and Asterisk may be told to use.
_COMPACT = {
    "f": "from",
    "t": "to",
    "i": "call-id",
    "v": "via",
    "m": "contact",
    "l": "content-length",
    "c": "content-type",
}


@frozen
class SipMessage:
    """One message: `time` in seconds since the epoch, `sent` as opposed to received by the SIPp that tells.

    A request has a `method`, a response a `status`; `headers` are (name, value) in the order of the wire.
    """

    time: float
    sent: bool
    start_line: str
    headers: tuple[tuple[str, str], ...]
    body: str

    @property
    def method(self) -> str | None:
        return None if self.status is not None else self.start_line.partition(" ")[0]

    @property
    def status(self) -> int | None:
        protocol, _, rest = self.start_line.partition(" ")
        return int(rest[:3]) if protocol == "SIP/2.0" else None

    def all(self, name: str) -> list[str]:
        """The values of every header of that name, upper or lower case."""
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The first header of that name, None if there is none."""
        return next(iter(self.all(name)), None)

    @property
    def call_id(self) -> str:
        return self.header("Call-ID") or ""

    @property
    def cseq(self) -> str:
        """Number and method, as in `1 INVITE`."""
        return " ".join((self.header("CSeq") or "").split())

    @property
    def from_name(self) -> str:
        """The display name of From, without its quotes and escapes; empty if there is none."""
        return name_and_user(self.header("From") or "")[0]

    @property
    def from_number(self) -> str:
        """The user part of From's address."""
        return name_and_user(self.header("From") or "")[1]

    @property
    def to_number(self) -> str:
        """The user part of the request's own address, or of To in a response."""
        if self.method is not None:
            return name_and_user(f"<{self.start_line.split(' ')[1]}>")[1]
        return name_and_user(self.header("To") or "")[1]

    @property
    def opens_a_call(self) -> bool:
        """Whether it is an INVITE outside a call, the first a phone sees of it."""
        return self.method == "INVITE" and ";tag=" not in (self.header("To") or "").lower()


@frozen
class Status:
    """A response to the INVITE: when, and which."""

    time: float
    code: int


@frozen
class CallResult:
    """What a caller saw of one call. Times are seconds since the epoch."""

    call_id: str
    started: float
    statuses: tuple[Status, ...]
    answered: float | None
    ended: float | None
    ended_by: str | None
    """`caller` (BYE or CANCEL of ours) or `asterisk` (BYE, or a final status that refuses)."""
    messages: tuple[SipMessage, ...]

    @property
    def final(self) -> int | None:
        """The status that decided the call, as 200, 486 or 487."""
        return next((status.code for status in self.statuses if status.code >= 200), None)

    @property
    def codes(self) -> list[int]:
        """All statuses in the order they came."""
        return [status.code for status in self.statuses]

    def first(self, code: int) -> float | None:
        """When that status came first."""
        return next((status.time for status in self.statuses if status.code == code), None)


def name_and_user(address: str) -> tuple[str, str]:
    """Display name and user part of a From-like header: `"Anna" <sip:17@host>` is (`Anna`, `17`)."""
    match = _NAME_ADDRESS.match(address)
    if match is None:
        return "", ""
    quoted = match["quoted"]
    name = match["plain"].strip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return name, match["user"]


def read_trace(trace: bytes) -> Iterator[SipMessage]:
    """The messages of a trace, oldest first, but for an unfinished last one. SIPp must run with TZ=UTC."""
    headings = list(_HEADING.finditer(trace))
    ends = [heading.start() for heading in headings[1:]] + [len(trace)]
    for heading, end in zip(headings, ends, strict=False):
        text = trace[heading.end() : end]
        # SIPp writes the wire's CRLF as it is, and adds its own line ends.
        head, blank_line, body = text.replace(b"\r\n", b"\n").partition(b"\n\n")
        if not blank_line:
            continue
        start_line, *lines = head.decode("utf-8", "surrogateescape").split("\n")
        moment = datetime.fromisoformat(f"{heading['day'].decode()}T{heading['time'].decode()}+00:00")
        yield SipMessage(
            time=moment.timestamp(),
            sent=heading["direction"] == b"sent",
            start_line=start_line.strip(),
            headers=tuple(_headers(lines)),
            body=body.decode("utf-8", "surrogateescape").strip("\n"),
        )


def first_of_each(messages: Iterable[SipMessage]) -> list[SipMessage]:
    """Without retransmissions: the same start line, call, sequence and branch in the same direction."""
    seen: dict[tuple[object, ...], SipMessage] = {}
    for message in messages:
        # Two equal provisional answers are two pieces of news; the rest is sent again only if it seems lost.
        news = message.time if message.status is not None and message.status < 200 else None
        key = (message.sent, message.start_line, message.call_id, message.cseq, message.header("Via"), news)
        seen.setdefault(key, message)
    return list(seen.values())


def call_results(messages: Sequence[SipMessage]) -> list[CallResult]:
    """The calls that the trace of a caller shows, in the order they were started."""
    calls: dict[str, list[SipMessage]] = {}
    for message in first_of_each(messages):
        calls.setdefault(message.call_id, []).append(message)
    return [_result(call_id, of_call) for call_id, of_call in calls.items() if of_call[0].opens_a_call]


def _result(call_id: str, messages: Sequence[SipMessage]) -> CallResult:
    first_transaction = messages[0].cseq
    statuses = tuple(
        Status(message.time, message.status)
        for message in messages
        if not message.sent and message.status is not None and message.cseq == first_transaction
    )
    answered = next((status.time for status in statuses if 200 <= status.code < 300), None)
    refused = next((status.time for status in statuses if status.code >= 300), None)
    cancelled = next((m for m in messages if m.sent and m.method == "CANCEL"), None)
    bye = next((m for m in messages if m.method == "BYE"), None)
    ended: float | None = None
    ended_by: str | None = None
    if bye is not None:
        ended, ended_by = bye.time, "caller" if bye.sent else "asterisk"
    elif refused is not None:
        ended, ended_by = refused, "asterisk" if cancelled is None else "caller"
    return CallResult(call_id, messages[0].time, statuses, answered, ended, ended_by, tuple(messages))


def _headers(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            yield _COMPACT.get(name.strip().lower(), name.strip()), value.strip()
