"""SIPp scenarios, as XML made of a few building blocks: what a phone does with calls, and what a caller does.

What they do by themselves stands in the scenario; everything else they do on order, by a message of ours that SIPp
receives like any other. Running them is the business of `lab.sipp`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attrs import evolve, field, frozen

from lab.trace import SipMessage


def _not_negative(_instance: object, _attribute: object, value: int | None) -> None:
    if value is not None and value < 0:
        raise ValueError(f"milliseconds are not negative: {value}")


@frozen
class Answers:
    """Rings at once, and answers `after_ms` later (None: only by `Phone.answer()`).

    It hangs up itself after another `hangs_up_after_ms`, if given.

    @ivar capable: Asterisk may move its hook: a NOTIFY `Event: talk` answers or retrieves, `Event: hold` holds.
        Others say yes to it, as to any NOTIFY, and do nothing.
    @ivar auto_answer: an INVITE that asks for it (`Call-Info: …;answer-after=0`, or `Auto Answer` in whatever
        header) is answered at once.
    """

    after_ms: int | None = field(default=0, validator=_not_negative)
    hangs_up_after_ms: int | None = field(default=None, validator=_not_negative)
    capable: bool = False
    auto_answer: bool = False


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


@frozen
class Congested:
    """Says 503: no line is free."""


@frozen
class Forwards:
    """Says 302 after `after_ms` (ringing until then, if that is not zero): call `to` instead.

    `to` is a number, which Asterisk then dials in the phone's context, or a whole `sip:` address.
    """

    to: str
    after_ms: int = field(default=0, validator=_not_negative)


@frozen
class ByNumber:
    """Does as told for the number that is called, such as one of several that a trunk reaches."""

    numbers: Mapping[str, Behaviour]
    otherwise: Behaviour = Answers()


Behaviour = Answers | RingsForever | Busy | Declines | Congested | Forwards | ByNumber

# A method that Asterisk does not send to a phone or caller of the lab. SIPp answers it with 200, and stays where it
# is, whenever its scenario does not wait for it (-aa); any other method would end the call then.
ORDER_METHOD = "OPTIONS"

# What Asterisk answers to an INVITE instead of 200. SIPp wants each status by name.
_REFUSALS = (
    *(400, 401, 403, 404, 408, 410, 415, 420, 480, 482, 483, 484, 486, 487, 488, 491),
    *(500, 501, 502, 503, 504, 600, 603, 604, 606),
)

_CONTACT = "<sip:lab@[local_ip]:[local_port];transport=[transport]>"
# Sound goes to a socket of ours (lab.sound), which SIPp knows nothing of.
_SDP = """\
v=0
o=lab 1 {version} IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[local_ip_type] [local_ip]
t=0 0
m=audio {port} RTP/AVP 8 0 101
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a={direction}
"""


def phone(behaviour: Behaviour, sound_port: int) -> str:
    """The scenario of a phone. It takes any number of calls, one after the other and at once."""
    invite = _recv("INVITE", _READ_INVITE, 'rrs="true"')
    return _scenario("phone", invite, _phone(behaviour, sound_port), _label("end"))


def _phone(behaviour: Behaviour, sound_port: int) -> str:
    """What follows the INVITE, up to the label `end`, which is left to the caller."""
    match behaviour:
        case Answers():
            return _ring(behaviour.after_ms, behaviour) + _answered_call(behaviour, sound_port)
        case RingsForever():
            return _reply_to_invite(180, "Ringing") + _recv("CANCEL") + _CANCELLED
        case Busy(after_ms):
            return _refused(486, "Busy Here", after_ms)
        case Declines(after_ms):
            return _refused(603, "Decline", after_ms)
        case Congested():
            return _refused(503, "Service Unavailable", after_ms=0)
        case Forwards(to, after_ms):
            address = _literal(to) if to.startswith("sip:") else f"sip:{_literal(to)}@[local_ip]:[local_port]"
            return _refused(302, "Moved Temporarily", after_ms, contact=f"<{address}>")
        case ByNumber(numbers, otherwise):
            steps = []
            for index, (number, its_behaviour) in enumerate(numbers.items()):
                others = _phone(its_behaviour, sound_port)
                steps += [
                    _unless("number", number, f"not-{index}"),
                    _renamed(others, f"-{index}"),
                    _goto("end"),
                    _label(f"not-{index}"),
                ]
            return "".join(steps) + _phone(otherwise, sound_port)


def caller(
    number: str,
    *,
    display: str,
    user: str | None,
    host: str,
    headers: Mapping[str, str],
    talk_ms: int | None,
    cancel_after_ms: int | None,
    sound_port: int | str = "[media_port]",
) -> str:
    """The scenario of a caller, be it one on the trunk or a phone.

    `display` and `user` are the caller's name and number in From, `host` its domain; a `user` of None is
    taken from SIPp's injection file. `talk_ms` after the answer the caller hangs up (None: waits for Asterisk
    to do it); `cancel_after_ms` after the INVITE it gives up, unless answered by then. Sound goes to
    `sound_port`, by default one of SIPp's own. Raises ValueError for a text that cannot stand in a scenario.
    """
    quoted = display.replace("\\", "\\\\").replace('"', '\\"')
    name = f'"{_literal(quoted)}" ' if display else ""
    user = "[field0]" if user is None else _literal(user)
    uri = f"sip:{_literal(number)}@[remote_ip]:[remote_port]"
    contact = f"<sip:{user}@[local_ip]:[local_port];transport=[transport]>"
    sender = f" {name}<sip:{user}@{host}>;tag=[pid]-[call_number]"
    out = _Dialogue(uri, sender, f" <{uri}>", contact, sound_port)
    # The variable begins with the space that follows the colon.
    talking = evolve(out, to="[$callee]")
    extra = "".join(f"{_literal(header)}: {_literal(value)}\n" for header, value in headers.items())
    giving_up = cancel_after_ms is not None
    # A “global” one may come at any later time, that is, during the pause of a caller about to give up.
    provisional = 'optional="global" next="waiting"' if giving_up else 'optional="true"'
    final = 'optional="global"' if giving_up else 'optional="true"'
    answers = [
        *(_recv_status(status, more=provisional) for status in (180, 181, 182, 183)),
        *(_recv_status(status, _READ_TO, f'{final} next="refused"') for status in _REFUSALS),
    ]
    order = _recv(ORDER_METHOD, more=f'{final} next="give-up"')
    if cancel_after_ms is None:
        waiting = [
            _recv_status(100, more='optional="true"'),
            *answers,
            order,
            _recv_status(200, _READ_TO, 'next="accepted"'),
        ]
    else:
        waiting = [
            *answers,
            order,
            _recv_status(200, _READ_TO, 'optional="global" next="accepted"'),
            _recv_status(100),
            _label("waiting"),
            # A message that is let through ends the pause, so that each one works out what is left of it.
            _pause_until_after("started", cancel_after_ms),
        ]
    return _scenario(
        "caller",
        _now("started") if giving_up else "",
        out.request("INVITE", 1, "invite", extra=extra, sdp=True),
        *waiting,
        _label("give-up"),
        out.request("CANCEL", 1, "invite"),
        # 200 is for the CANCEL. The INVITE's final status is 487, or 200 if the answer crossed the CANCEL.
        _recv_status(200, _READ_TO, 'optional="true"'),
        _recv_status(487, _READ_TO, 'timeout="4000" ontimeout="crossed" next="refused"'),
        _label("crossed"),
        talking.request("ACK", 1, "ack"),
        _goto("hang-up"),
        _label("accepted"),
        talking.request("ACK", 1, "ack"),
        _conversation(talking, talk_ms, capable=False),
        _label("refused"),
        talking.request("ACK", 1, "invite"),
        _label("end"),
    )


@frozen
class _Dialogue:
    """Requests of one side. Its only hop is Asterisk, so that the same address serves from beginning to end."""

    uri: str
    sender: str
    to: str
    contact: str
    sound_port: int | str

    def request(
        self,
        method: str,
        sequence: int | str,
        branch: str,
        *,
        extra: str = "",
        sdp: bool = False,
        version: int | str = 1,
        direction: str = "sendrecv",
    ) -> str:
        """One request, sent again until something that follows it in the scenario is received."""
        body = "Content-Length: 0\n"
        if sdp:
            extra += f"Contact: {self.contact}\n"
            text = _SDP.format(port=self.sound_port, version=version, direction=direction)
            body = f"Content-Type: application/sdp\nContent-Length: [len]\n\n{text}"
        return _send(
            f"""\
{method} {self.uri} SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bK-[pid]-[call_number]-{branch}
Max-Forwards: 70
From:{self.sender}
To:{self.to}
Call-ID: [call_id]
CSeq: {sequence} {method}
{extra}{body}""",
            again=method != "ACK",
        )


def _ring(milliseconds: int | None, answers: Answers | None = None) -> str:
    """180, then that long nothing, or until somebody lifts the hook; a CANCEL leads to the label `cancelled`."""
    at_once = answers is not None and answers.auto_answer
    if milliseconds == 0:
        return _reply_to_invite(180, "Ringing")
    timeout = "" if milliseconds is None else f'timeout="{milliseconds}" ontimeout="rang"'
    capable = answers is not None and answers.capable
    return "".join(
        [
            _reply_to_invite(180, "Ringing"),
            '<nop next="rang" test="at_once"></nop>\n' if at_once else "",
            _label("ringing") if capable else "",
            _recv(ORDER_METHOD, more=f'optional="true" next="rang" {timeout}'),
            _recv("NOTIFY", _READ_EVENT, 'optional="true" next="notified-ringing"') if capable else "",
            _recv("CANCEL", more='next="cancelled"'),
            _notified_while_ringing() if capable else "",
            _label("rang"),
        ]
    )


def _notified_while_ringing() -> str:
    return (
        _label("notified-ringing")
        + _in_dialogue_reply(200, "OK")
        + _if("event", "talk", "rang")
        + _goto("ringing")
    )


def _answered_call(answers: Answers, sound_port: int) -> str:
    """200 and the conversation; a CANCEL that crosses the answer changes nothing (RFC 3261, 9.2)."""
    too_late = 'optional="true" next="too-late"'
    out = _Dialogue("[next_url]", "[$callee];tag=[pid]-[call_number]", "[$caller]", _CONTACT, sound_port)
    return "".join(
        [
            _reply_to_invite(200, "OK", sound_port),
            _label("answered"),
            _recv("CANCEL", more=too_late),
            _recv("ACK"),
            _conversation(out, answers.hangs_up_after_ms, capable=answers.capable),
            _label("too-late"),
            _reply(200, "OK"),
            _goto("answered"),
            _label("cancelled") + _CANCELLED if answers.after_ms != 0 else "",
        ]
    )


def _refused(status: int, reason: str, after_ms: int, contact: str = _CONTACT) -> str:
    rang = after_ms > 0
    refusal = _reply_to_invite(status, reason, contact=contact) + _recv("ACK")
    return (
        (_ring(after_ms) if rang else "")
        + refusal
        + _goto("end")
        + (_label("cancelled") + _CANCELLED if rang else "")
    )


def _conversation(out: _Dialogue, milliseconds: int | None, *, capable: bool) -> str:
    """Until the other side hangs up, or we after that time.

    On order or, if `capable`, at a NOTIFY, it holds, retrieves and transfers; a re-INVITE is accepted. All of that
    restarts the time.
    """
    timeout = "" if milliseconds is None else f'timeout="{max(1, milliseconds)}" ontimeout="hang-up"'
    notified = [
        _label("notified"),
        _in_dialogue_reply(200, "OK"),
        *(_if("event", event, event) for event in ("hold", "talk")),
        _goto("talking"),
    ]
    return "".join(
        [
            _label("talking"),
            _recv("INVITE", more=f'optional="true" next="asked-to-renegotiate" {timeout}'),
            _recv(ORDER_METHOD, _READ_ORDER, 'optional="true" next="order"'),
            _recv("NOTIFY", _READ_EVENT, 'optional="true" next="notified"') if capable else "",
            _recv("BYE", more='next="hung-up"'),
            _label("asked-to-renegotiate"),
            _in_dialogue_reply(200, "OK", sound_port=out.sound_port),
            _recv("ACK", more='next="talking"'),
            *(notified if capable else ()),
            _label("order"),
            *(_if("order", order, order) for order in ("hold", "talk", "refer")),
            _label("hang-up"),
            out.request("BYE", "[cseq]", "[cseq]"),
            # Both may hang up at the same moment.
            _recv("BYE", more='optional="true" next="hung-up"'),
            _recv_status(200, more='next="end"'),
            _label("hold"),
            _assign("direction", "sendonly"),
            _goto("renegotiate"),
            _label("talk"),
            _assign("direction", "sendrecv"),
            _label("renegotiate"),
            out.request("INVITE", "[cseq]", "[cseq]", sdp=True, version="[cseq]", direction="[$direction]"),
            *_until_final(200, "renegotiation-refused"),
            out.request("ACK", "[cseq]", "[cseq]-ack"),
            _goto("talking"),
            _label("renegotiation-refused"),
            out.request("ACK", "[cseq]", "[cseq]"),
            _goto("talking"),
            _label("refer"),
            out.request("REFER", "[cseq]", "[cseq]", extra=f"Contact: {out.contact}\nRefer-To:[$target]\n"),
            *_until_final(202, "talking"),
            _goto("talking"),
            _label("hung-up"),
            _in_dialogue_reply(200, "OK"),
            _goto("end"),
        ]
    )


def _scenario(name: str, *steps: str) -> str:
    body = "".join(steps)
    variables = {name for names in re.findall(r'assign_to="([^"]*)"', body) for name in names.split(",")}
    # SIPp refuses a scenario that sets a variable and never reads it.
    reference = f'<Reference variables="{",".join(sorted(variables))}"/>\n' if variables else ""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="{name}">\n{body}{reference}</scenario>\n'


def _send(message: str, *, again: bool = True) -> str:
    retransmission = ' retrans="500"' if again else ""
    return f"<send{retransmission}><![CDATA[\n\n{message}\n]]></send>\n"


# What is replied to the message that came last.
_TO_THE_LATEST = "[last_Via:]\n[last_From:]\n{to}\n[last_Call-ID:]\n[last_CSeq:]\n"
# Other messages may have come since the INVITE. The variables begin with the space that follows the colon.
_TO_THE_INVITE = """\
Via:[$via]
From:[$caller]
To:[$callee];tag=[pid]-[call_number]
Call-ID: [call_id]
CSeq:[$cseq]
"""


def _reply_to_invite(
    status: int, reason: str, sound_port: int | str | None = None, *, contact: str = _CONTACT
) -> str:
    """A reply to the INVITE that opened the call; with `sound_port` it has an SDP."""
    return _response(status, reason, _TO_THE_INVITE, sound_port, contact=contact, again=status >= 200)


def _reply(status: int, reason: str) -> str:
    """A reply to a CANCEL, whose To has no tag."""
    return _response(status, reason, _TO_THE_LATEST.format(to="[last_To:];tag=[pid]-[call_number]"))


def _in_dialogue_reply(status: int, reason: str, sound_port: int | str | None = None) -> str:
    latest = _TO_THE_LATEST.format(to="[last_To:]")
    return _response(status, reason, latest, sound_port, again=sound_port is not None)


def _response(
    status: int,
    reason: str,
    headers: str,
    sound_port: int | str | None = None,
    *,
    contact: str = _CONTACT,
    again: bool = False,
) -> str:
    body = "Content-Length: 0\n"
    if sound_port is not None:
        sdp = _SDP.format(port=sound_port, version="[cseq]", direction="sendrecv")
        body = f"Content-Type: application/sdp\nContent-Length: [len]\n\n{sdp}"
    return _send(f"SIP/2.0 {status} {reason}\n{headers}Contact: {contact}\n{body}", again=again)


def _read(header: str, variable: str, expression: str = ".*") -> str:
    """Puts what the expression finds in a header into a variable."""
    return f'<ereg regexp="{expression}" search_in="hdr" header="{header}:" assign_to="{variable}"/>'


_READ_TO = _read("To", "callee")
_READ_ORDER = _read("X-Lab-Order", "order", "[a-z-]+") + _read("X-Lab-Target", "target")
_READ_EVENT = _read("Event", "event", "[a-z]+")
_READ_INVITE = "".join(
    [
        _read("From", "caller"),
        _READ_TO,
        _read("Via", "via"),
        _read("CSeq", "cseq"),
        '<ereg regexp="sips?:([^@;>]*)@" search_in="msg" assign_to="address,number"/>',
        '<ereg regexp="answer-after=0|[Aa]uto.?[Aa]nswer" search_in="msg" assign_to="at_once"/>',
    ]
)
# 200 for the CANCEL, then 487 for the INVITE.
_CANCELLED = _reply(200, "OK") + _reply_to_invite(487, "Request Terminated") + '<recv request="ACK"></recv>\n'


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


def _if(variable: str, word: str, label: str) -> str:
    """Goes on at the label if the variable is that word."""
    differs = f'<strcmp assign_to="differs" variable="{variable}" value="{word}"/>'
    same = '<test assign_to="same" variable="differs" compare="equal" value="0"/>'
    return f'<nop next="{label}" test="same">{_action(differs + same)}</nop>\n'


def _unless(variable: str, word: str, label: str) -> str:
    """Goes on at the label if the variable is not that word."""
    differs = f'<strcmp assign_to="differs" variable="{variable}" value="{word}"/>'
    return f'<nop next="{label}" test="differs">{_action(differs)}</nop>\n'


def _assign(variable: str, text: str) -> str:
    action = f'<assignstr assign_to="{variable}" value="{text}"/>'
    return f"<nop>{_action(action)}</nop>\n"


def _renamed(steps: str, suffix: str) -> str:
    """The steps with labels of their own, all but `end`."""
    return re.sub(r'\b((?:id|next|ontimeout)=")(?!end")([^"]+)', rf"\1\2{suffix}", steps)


def _until_final(success: int, refused: str) -> list[str]:
    """The final status of a request inside the call; one that refuses leads to that label."""
    return [
        _recv_status(100, more='optional="true"'),
        *(_recv_status(status, more=f'optional="true" next="{refused}"') for status in _REFUSALS),
        _recv("BYE", more='optional="true" next="hung-up"'),
        _recv_status(success),
    ]


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


def order_message(opening: SipMessage, at: str, count: int, order: str, target: str = "") -> bytes:
    """What makes a scenario's call do something: `hang-up`, `hold`, `talk`, `refer` (to the address `target`).

    Before the call is answered, any order answers it or, the caller's, gives it up. A message of ours to SIPp, over
    the socket it has anyway; no SIP partner takes part in it. `opening` is the call's INVITE, `at` SIPp's
    `host:port`; `count`, the number in CSeq, differs each time.
    """
    _check_is_one_line(target)
    repeated = [f"{name}: {opening.header(name) or ''}" for name in ("Via", "From", "To", "Call-ID")]
    lines = [
        f"{ORDER_METHOD} sip:order@{at} SIP/2.0",
        *repeated,
        f"CSeq: {count} {ORDER_METHOD}",
        f"X-Lab-Order: {order}",
        f"X-Lab-Target: {target}",
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
