"""What SIPp plays in this benchmark: callers and phones that note the time of what matters, and nothing else.

The lab's own scenarios write down every message, which costs more than the calls at a hundred a second.
"""

from lab.configuration import TRUNK_HEADER

_SDP = """\
v=0
o=lab 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
"""
_NOW = '<gettimeofday assign_to="{name},{name}_us"/>'
_TALK_MS = 200

_REQUEST = """\
{method} sip:[field1]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
Max-Forwards: 70
From: <sip:[field0]@[local_ip]>;tag=[pid]-[call_number]
To: <sip:[field1]@[remote_ip]:[remote_port]>{to_tag}
Call-ID: [call_id]
CSeq: {sequence} {method}
Contact: <sip:[field0]@[local_ip]:[local_port]>
"""
_REPLY = """\
SIP/2.0 {status}
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:]{to_tag}
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:phone@[local_ip]:[local_port]>
"""


def caller() -> str:
    """Calls, hangs up soon after the answer, and logs `NUMBER SENT ANSWERED` (each as `seconds microseconds`).

    SIPp's injection file gives the caller's number as field0 and the dialled one as field1.
    """
    header = f"{TRUNK_HEADER[0]}: {TRUNK_HEADER[1]}\n"
    answered = _NOW.format(name="answered")
    log = '<log message="[field0] [$sent] [$sent_us] [$answered] [$answered_us]"/>'
    provisional = "".join(f'<recv response="{status}" optional="true"/>\n' for status in (100, 180, 183))
    return _scenario(
        f"<nop><action>{_NOW.format(name='sent')}</action></nop>\n",
        _send(_request("INVITE", 1, "") + header + _with_sdp()),
        provisional,
        f'<recv response="200"><action>{answered}{log}</action></recv>\n',
        _send(_request("ACK", 1, "[peer_tag_param]") + _EMPTY, again=False),
        f'<pause milliseconds="{_TALK_MS}"/>\n',
        _send(_request("BYE", 2, "[peer_tag_param]") + _EMPTY),
        '<recv response="200"/>\n',
    )


def phone() -> str:
    """Rings, answers at once, and logs `NUMBER INVITED` of each call, NUMBER being the caller's.

    Behind it stands User-to-User, which a call has that we have routed.
    """
    routed = '<ereg regexp="encoding=hex" search_in="hdr" header="User-to-User:" assign_to="routed"/>'
    number = '<ereg regexp="sip:([^@]*)@" search_in="hdr" header="From:" assign_to="all,number"/>'
    log = '<log message="[$number] [$invited] [$invited_us] [$all] [$routed]"/>'
    return _scenario(
        f'<recv request="INVITE"><action>{_NOW.format(name="invited")}{number}{routed}{log}</action></recv>\n',
        _send(_REPLY.format(status="180 Ringing", to_tag=";tag=[pid]-[call_number]") + _EMPTY, again=False),
        _send(_REPLY.format(status="200 OK", to_tag=";tag=[pid]-[call_number]") + _with_sdp()),
        '<recv request="ACK"/>\n',
        '<recv request="BYE"/>\n',
        _send(_REPLY.format(status="200 OK", to_tag="") + _EMPTY, again=False),
    )


_EMPTY = "Content-Length: 0\n"


def _with_sdp() -> str:
    return f"Content-Type: application/sdp\nContent-Length: [len]\n\n{_SDP}"


def _request(method: str, sequence: int, to_tag: str) -> str:
    return _REQUEST.format(method=method, sequence=sequence, to_tag=to_tag)


def _send(message: str, *, again: bool = True) -> str:
    retransmission = ' retrans="500"' if again else ""
    return f"<send{retransmission}><![CDATA[\n\n{message}\n]]></send>\n"


def _scenario(*steps: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<scenario name="bench">\n{"".join(steps)}</scenario>\n'
