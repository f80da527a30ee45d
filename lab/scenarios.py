"""SIPp scenarios, as XML made of a few building blocks: what a phone does with calls, and what a caller does.

Running them is the business of `lab.sipp`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from lab.configuration import TRUNK_HEADER
from lab.trace import SipMessage


def _not_negative(_instance: object, _attribute: object, value: int | None) -> None:
    if value is not None and value < 0:
        raise ValueError(f"milliseconds are not negative: {value}")


@frozen
class Answers:
    """Rings at once, and answers `after_ms` later (None: only by `Phone.answer()`).

    It hangs up itself after another `hangs_up_after_ms`, if given.
    """

    after_ms: int | None = field(default=0, validator=_not_negative)
    hangs_up_after_ms: int | None = field(default=None, validator=_not_negative)


@frozen
class RingsForever:
    """Rings until the other side gives up."""


@frozen
class Busy:
    """Says 486 after `after_ms` (ringing until then, if that is not zero)."""

    after_ms: int = field(default=0, validator=_not_negative)


@frozen
class Declines:
    """Says 603 after `after_ms` (ringing until then, if that is not zero): somebody pressed “reject”."""

    after_ms: int = field(default=0, validator=_not_negative)


Behaviour = Answers | RingsForever | Busy | Declines

# A method that Asterisk does not send to a phone or caller of the lab.
HOOK_METHOD = "MESSAGE"

# What Asterisk answers to an INVITE instead of 200. SIPp wants each status by name.
_REFUSALS = (
    *(400, 401, 403, 404, 408, 410, 415, 420, 480, 482, 483, 484, 486, 487, 488, 491),
    *(500, 501, 502, 503, 504, 600, 603, 604, 606),
)

_SDP = """\
v=0
o=lab 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 8 0
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
"""


def phone(behaviour: Behaviour) -> str:
    """The scenario of a phone. It takes any number of calls, one after the other and at once."""
    match behaviour:
        case Answers(after_ms, hangs_up_after_ms):
            steps = [_ring(after_ms), _answered_call(hangs_up_after_ms, rang=after_ms != 0)]
        case RingsForever():
            steps = [_reply(180, "Ringing"), _recv("CANCEL", _READ_CSEQ), _CANCELLED]
        case Busy(after_ms):
            steps = [_ring(after_ms) if after_ms else "", _refused(486, "Busy Here", rang=after_ms > 0)]
        case Declines(after_ms):
            steps = [_ring(after_ms) if after_ms else "", _refused(603, "Decline", rang=after_ms > 0)]
    return _scenario("phone", _recv("INVITE", _READ_PEERS, 'rrs="true"'), *steps)


def caller(
    number: str,
    *,
    display: str,
    user: str | None,
    host: str,
    headers: Mapping[str, str],
    talk_ms: int | None,
    cancel_after_ms: int | None,
) -> str:
    """The scenario of a caller on the trunk.

    `display` and `user` are the caller's name and number in From, `host` its domain; a `user` of None is
    taken from SIPp's injection file. `talk_ms` after the answer the caller hangs up (None: waits for Asterisk
    to do it); `cancel_after_ms` after the INVITE it gives up, unless answered by then. Raises ValueError for
    a text that cannot stand in a scenario.
    """
    all_headers = {TRUNK_HEADER[0]: TRUNK_HEADER[1], **headers}
    quoted = display.replace("\\", "\\\\").replace('"', '\\"')
    name = f'"{_literal(quoted)}" ' if display else ""
    user = "[field0]" if user is None else _literal(user)
    out = _Outgoing(
        uri=f"sip:{_literal(number)}@[remote_ip]:[remote_port]",
        sender=f"{name}<sip:{user}@{host}>",
        contact=f"<sip:{user}@[local_ip]:[local_port];transport=[transport]>",
    )
    extra = "".join(f"{_literal(header)}: {_literal(value)}\n" for header, value in all_headers.items())
    giving_up = cancel_after_ms is not None
    # A “global” one may come at any later time, that is, during the pause of a caller about to give up.
    provisional = 'optional="global" next="waiting"' if giving_up else 'optional="true"'
    final = 'optional="global"' if giving_up else 'optional="true"'
    answers = [
        *(_recv_status(status, more=provisional) for status in (180, 181, 182, 183)),
        *(_recv_status(status, _READ_TO, f'{final} next="refused"') for status in _REFUSALS),
    ]
    hook = _recv(HOOK_METHOD, more=f'{final} next="give-up"')
    if cancel_after_ms is None:
        waiting = [
            _recv_status(100, more='optional="true"'),
            *answers,
            hook,
            _recv_status(200, _READ_TO, 'next="accepted"'),
        ]
    else:
        waiting = [
            *answers,
            hook,
            _recv_status(200, _READ_TO, 'optional="global" next="accepted"'),
            _recv_status(100),
            _label("waiting"),
            # A message that is let through ends the pause, so that each one works out what is left of it.
            _pause_until_after("started", cancel_after_ms),
        ]
    return _scenario(
        "caller",
        _now("started") if giving_up else "",
        out.invite(extra),
        *waiting,
        _label("give-up"),
        out.request("CANCEL", branch="invite", to_tag=False),
        # 200 is for the CANCEL. The INVITE's final status is 487, or 200 if the answer crossed the CANCEL.
        _recv_status(200, _READ_TO, 'optional="true"'),
        _recv_status(487, _READ_TO, 'timeout="4000" ontimeout="crossed" next="refused"'),
        _label("crossed"),
        out.request("ACK", branch="ack", again=False),
        _goto("hang-up"),
        _label("accepted"),
        out.request("ACK", branch="ack", again=False),
        _conversation(talk_ms, out.request("BYE", branch="bye", sequence=2)),
        _label("refused"),
        out.request("ACK", branch="invite", again=False),
        _label("end"),
    )


@frozen
class _Outgoing:
    """Requests of a caller. Its only hop is Asterisk, so the first address serves the whole dialogue."""

    uri: str
    sender: str
    contact: str

    def invite(self, extra: str) -> str:
        body = (
            f"Contact: {self.contact}\n{extra}Content-Type: application/sdp\nContent-Length: [len]\n\n{_SDP}"
        )
        return _send(self._text("INVITE", "invite", False, 1) + body)

    def request(
        self, method: str, *, branch: str, to_tag: bool = True, sequence: int = 1, again: bool = True
    ) -> str:
        return _send(self._text(method, branch, to_tag, sequence) + "Content-Length: 0\n", again=again)

    def _text(self, method: str, branch: str, to_tag: bool, sequence: int) -> str:
        # The variable begins with the space that follows the colon.
        to = "[$callee]" if to_tag else f" <{self.uri}>"
        return f"""\
{method} {self.uri} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bK-[pid]-[call_number]-{branch}
Max-Forwards: 70
From: {self.sender};tag=[pid]-[call_number]
To:{to}
Call-ID: [call_id]
CSeq: {sequence} {method}
"""


def _ring(milliseconds: int | None) -> str:
    """180, then that long nothing, or until the hook is lifted; a CANCEL leads to the label `cancelled`."""
    if milliseconds == 0:
        return _reply(180, "Ringing")
    timeout = "" if milliseconds is None else f'timeout="{milliseconds}" ontimeout="rang"'
    return "".join(
        [
            _reply(180, "Ringing"),
            _recv(HOOK_METHOD, more=f'optional="true" next="rang" {timeout}'),
            _recv("CANCEL", _READ_CSEQ, 'next="cancelled"'),
            _label("rang"),
        ]
    )


def _answered_call(hangs_up_after_ms: int | None, *, rang: bool) -> str:
    """200 and the conversation; a CANCEL that crosses the answer changes nothing (RFC 3261, 9.2)."""
    too_late = 'optional="true" next="too-late"'
    bye = _send(
        "BYE [next_url] SIP/2.0\n"
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
        "[routes]\n"
        "Max-Forwards: 70\n"
        "From:[$callee];tag=[pid]-[call_number]\n"
        "To:[$caller]\n"
        "Call-ID: [call_id]\n"
        "CSeq: 1 BYE\n"
        "Content-Length: 0\n"
    )
    return "".join(
        [
            _reply(200, "OK", sdp=True, again=True),
            _label("answered"),
            _recv("CANCEL", more=too_late),
            _recv("ACK"),
            _conversation(hangs_up_after_ms, bye),
            _label("too-late"),
            _reply(200, "OK"),
            _goto("answered"),
            _label("cancelled") + _CANCELLED if rang else "",
            _label("end"),
        ]
    )


def _refused(status: int, reason: str, *, rang: bool) -> str:
    refusal = _reply(status, reason, again=True) + _recv("ACK")
    return refusal + (_goto("end") + _label("cancelled") + _CANCELLED + _label("end") if rang else "")


def _conversation(milliseconds: int | None, bye: str) -> str:
    """Until the other side hangs up, or we after that time; a re-INVITE is accepted, and restarts the time."""
    timeout = "" if milliseconds is None else f'timeout="{max(1, milliseconds)}" ontimeout="hang-up"'
    return "".join(
        [
            _label("talk"),
            _recv("INVITE", more=f'optional="true" next="renegotiate" {timeout}'),
            _recv(HOOK_METHOD, more='optional="true" next="hang-up"'),
            _recv("BYE", more='next="hung-up"'),
            _label("renegotiate"),
            _in_dialog_reply(200, "OK", sdp=True, again=True),
            _recv("ACK", more='next="talk"'),
            _label("hang-up"),
            bye,
            # Both may hang up at the same moment.
            _recv("BYE", more='optional="true" next="hung-up"'),
            _recv_status(200, more='next="end"'),
            _label("hung-up"),
            _in_dialog_reply(200, "OK"),
            _goto("end"),
        ]
    )


def _scenario(name: str, *steps: str) -> str:
    body = "".join(steps)
    used = [name for name in ("caller", "callee", "cseq") if f'assign_to="{name}"' in body]
    # SIPp refuses a variable that is set and never used, and a scenario that does not name them.
    names = ",".join(used)
    reference = f'<Reference variables="{names}"/>\n' if used else ""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="{name}">\n{body}{reference}</scenario>\n'


def _send(message: str, *, again: bool = True) -> str:
    retransmission = ' retrans="500"' if again else ""
    return f"<send{retransmission}><![CDATA[\n\n{message}\n]]></send>\n"


def _reply(status: int, reason: str, *, sdp: bool = False, again: bool = False) -> str:
    return _response(
        status, reason, "[last_To:];tag=[pid]-[call_number]", "[last_CSeq:]", sdp=sdp, again=again
    )


def _in_dialog_reply(status: int, reason: str, *, sdp: bool = False, again: bool = False) -> str:
    return _response(status, reason, "[last_To:]", "[last_CSeq:]", sdp=sdp, again=again)


def _response(status: int, reason: str, to: str, cseq: str, *, sdp: bool, again: bool) -> str:
    body = f"Content-Type: application/sdp\nContent-Length: [len]\n\n{_SDP}" if sdp else "Content-Length: 0\n"
    return _send(
        f"SIP/2.0 {status} {reason}\n"
        "[last_Via:]\n"
        "[last_Record-Route:]\n"
        "[last_From:]\n"
        f"{to}\n"
        "[last_Call-ID:]\n"
        f"{cseq}\n"
        "Contact: <sip:lab@[local_ip]:[local_port];transport=[transport]>\n"
        f"{body}",
        again=again,
    )


_READ_TO = '<ereg regexp=".*" search_in="hdr" header="To:" assign_to="callee"/>'
_READ_CSEQ = '<ereg regexp="[0-9]+" search_in="hdr" header="CSeq:" assign_to="cseq"/>'
_READ_PEERS = '<ereg regexp=".*" search_in="hdr" header="From:" assign_to="caller"/>' + _READ_TO
# 200 for the CANCEL, then 487 for the INVITE, whose Via the CANCEL repeats (RFC 3261, 9.1).
_CANCELLED = "".join(
    [
        _reply(200, "OK"),
        _response(
            487,
            "Request Terminated",
            "[last_To:];tag=[pid]-[call_number]",
            "CSeq: [$cseq] INVITE",
            sdp=False,
            again=True,
        ),
        '<recv request="ACK"></recv>\n',
    ]
)


def _recv(request: str, action: str = "", more: str = "") -> str:
    return f'<recv request="{request}" {more}>{_action(action)}</recv>\n'


def _recv_status(status: int, action: str = "", more: str = "") -> str:
    return f'<recv response="{status}" {more}>{_action(action)}</recv>\n'


def _action(actions: str) -> str:
    return f"<action>{actions}</action>" if actions else ""


def _label(name: str) -> str:
    return f'<label id="{name}"/>\n'


def _goto(label: str) -> str:
    return f'<nop next="{label}"></nop>\n'


def _now(variable: str) -> str:
    """Puts the time in milliseconds into a variable."""
    return f"<nop>{_action(_read_clock(variable))}</nop>\n"


def _read_clock(variable: str) -> str:
    return (
        f'<gettimeofday assign_to="{variable},{variable}_us"/>'
        f'<multiply assign_to="{variable}" value="1000"/>'
        f'<divide assign_to="{variable}_us" value="1000"/>'
        f'<add assign_to="{variable}" variable="{variable}_us"/>'
    )


def _pause_until_after(start: str, milliseconds: int) -> str:
    """Pauses until that long after the time in the variable `start`."""
    left = (
        _read_clock("now") + f'<assign assign_to="left" variable="{start}"/>'
        f'<add assign_to="left" value="{milliseconds}"/><subtract assign_to="left" variable="now"/>'
        '<test assign_to="late" variable="left" compare="less_than" value="1"/>'
    )
    return f'<nop>{_action(left)}</nop>\n<nop next="give-up" test="late"></nop>\n<pause variable="left"/>\n'


def _literal(text: str) -> str:
    """The text as SIPp sends it unchanged: brackets and backslashes mean something to it."""
    _check_is_one_line(text)
    return text.replace("\\", "\\x5c").replace("[", "\\x5b").replace("]", "\\x5d")


def _check_is_one_line(text: str) -> None:
    if any(mark in text for mark in "\r\n\0"):
        raise ValueError(f"a scenario cannot send a line break or NUL inside a header: {text!r}")


def hook_message(opening: SipMessage, at: str, count: int) -> bytes:
    """What lifts or presses the hook of a scenario's call: ringing it answers or gives up, talking it hangs up.

    A message of ours to SIPp, over the socket it has anyway; no SIP partner takes part in it. `opening` is the
    call's INVITE, whose headers it repeats, as SIPp answers to those it saw last; `at` is SIPp's `host:port`;
    `count` differs each time, as SIPp drops what it takes for a retransmission.
    """
    repeated = [f"{name}: {opening.header(name) or ''}" for name in ("Via", "From", "To", "Call-ID", "CSeq")]
    lines = [
        f"{HOOK_METHOD} sip:hook@{at} SIP/2.0",
        *repeated,
        f"X-Lab-Hook: {count}",
        "Content-Length: 0",
        "",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")


def numbers_as_csv(numbers: Sequence[str]) -> str:
    """SIPp's injection file of one number a call, in this order: `[field0]` in the scenario."""
    for number in numbers:
        _check_is_one_line(number)
        if ";" in number:
            raise ValueError(f"not a caller's number: {number!r}")
    return "SEQUENTIAL\n" + "".join(f"{number}\n" for number in numbers)
