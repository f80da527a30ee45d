"""A fake AMI server: lets a client log in, and then tells it of calls as fast as it listens.

`python -m tests.bench.asterisk.fake_ami` reads one order a line of its input: `{"events": N, "calls": bool}`. It
answers with its port and how many of the N events are wanted; and, once all are sent, with when it began.
`calls`: the events of real calls in their real mix, of which a tracker wants a quarter; else only such events.
"""

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from itertools import chain, cycle, islice
from typing import Any

from cti.calls.tracker import WANTED

_HOST = "127.0.0.1"
_ACTION_ID = re.compile(rb"\r\nActionID: ([^\r]*)\r\n", re.IGNORECASE)
_ACTION = re.compile(rb"\AAction: ([A-Za-z]*)\r\n", re.IGNORECASE)
#: Until the client has nothing left to do but to listen.
_SETTLE_SECONDS = 0.4
_CALLS = 500

#: What Asterisk 22 told of one call from a trunk to a phone (two dialplan steps and a Dial, `read = all`).
_STORY = [
    *["Newchannel", *["VarSet"] * 4, "Newexten", *["VarSet"] * 2, *["Newexten"] * 2, *["VarSet"] * 11],
    *[
        "DeviceStateChange",
        "Newchannel",
        "VarSet",
        "Newexten",
        "NewCallerid",
        "NewConnectedLine",
        "DialBegin",
    ],
    *["NewConnectedLine", "Newstate", "DeviceStateChange", *["VarSet"] * 2, "DialState", "Newstate"],
    *[*["VarSet"] * 3, "DialEnd", "Newstate", "DeviceStateChange", "BridgeCreate", "Newexten"],
    *["BridgeEnter", "BridgeEnter", *["VarSet"] * 20, "HangupRequest", "BridgeLeave", "VarSet"],
    *["DeviceStateChange", "Hangup", "BridgeLeave", "BridgeDestroy", *["VarSet"] * 11, "SoftHangupRequest"],
    *["DeviceStateChange", "Hangup"],
]

_CHANNEL = """\
{side}Channel: PJSIP/{name}-{number:08x}
{side}ChannelState: 6
{side}ChannelStateDesc: Up
{side}CallerIDNum: 015228817386
{side}CallerIDName: <unknown>
{side}ConnectedLineNum: 494066969100
{side}ConnectedLineName: <unknown>
{side}Language: en
{side}AccountCode:{blank}
{side}Context: from-trunk
{side}Exten: 494066969100
{side}Priority: 3
{side}Uniqueid: 1795376043.{number}{leg}
{side}Linkedid: 1795376043.{number}0
{side}ChanVariable: CTI_CALL_ID=01a20447-5bd9-7fd3-8ec1-fafaea957a55
"""
_BRIDGE = """\
BridgeUniqueid: 3a472292-04a7-4134-b9f2-{number:012x}
BridgeType: basic
BridgeTechnology: simple_bridge
BridgeCreator: <unknown>
BridgeName: <unknown>
BridgeNumChannels: 1
BridgeVideoSourceMode: none
"""
_MORE = {
    "VarSet": "Variable: CTI_REASON\nValue: rest: anna is longest idle in sales\n",
    "Newexten": "Extension: 494066969100\nApplication: Set\nAppData: CTI_ACTION=\n",
    "DialBegin": "DialString: anna\n",
    "DialState": "DialStatus: RINGING\n",
    "DialEnd": "DialStatus: ANSWER\n",
    "NewCallerid": "CID-CallingPres: 0 (Presentation Allowed, Not Screened)\n",
    "HangupRequest": "Cause: 16\n",
    "SoftHangupRequest": "Cause: 16\n",
    "Hangup": "Cause: 16\nCause-txt: Normal Clearing\n",
}


def event(name: str, number: int) -> bytes:
    """One event of a call."""
    kind = "dialplan" if name in ("VarSet", "Newexten") else "call"
    text = f"Event: {name}\nPrivilege: {kind},all\nTimestamp: {1795376043 + number / 1000:.6f}\n"
    own = _CHANNEL.format(side="", name="trunk", number=number, leg=0, blank=" ")
    if name == "DeviceStateChange":
        text += "Device: PJSIP/anna\nState: INUSE\n"
    elif name.startswith("Bridge"):
        text += _BRIDGE.format(number=number)
        text += own if name in ("BridgeEnter", "BridgeLeave") else ""
    else:
        text += own
    if name.startswith("Dial"):
        text += _CHANNEL.format(side="Dest", name="anna", number=number, leg=1, blank=" ")
    return f"{text}{_MORE.get(name, '')}\n".replace("\n", "\r\n").encode()


def names(*, calls: bool) -> Iterator[tuple[str, int]]:
    """The names of the events of one call after the other, without end, and the number of each one's call."""
    story = _STORY if calls else [name for name in _STORY if name in WANTED]
    return cycle(chain.from_iterable([(name, number) for name in story] for number in range(_CALLS)))


def serve(order: dict[str, Any]) -> None:
    """One client, from its log-in to the last event."""
    told = list(islice(names(calls=order["calls"]), order["events"]))
    of_a_call = {key: event(*key) for key in set(told)}
    events = b"".join(of_a_call[key] for key in told)
    wanted = sum(name in WANTED for name, _ in told)
    with socket.create_server((_HOST, 0)) as listener:
        _say(port=listener.getsockname()[1], wanted=wanted)
        client, _ = listener.accept()
    with client:
        client.sendall(b"Asterisk Call Manager/11.0.0\r\n")
        _log_in(client)
        time.sleep(_SETTLE_SECONDS)
        began = time.monotonic()
        client.sendall(events)
        _say(began=began, bytes=len(events))
        while client.recv(65536):
            pass


def _log_in(client: socket.socket) -> None:
    unread = b""
    while True:
        *actions, unread = (unread + client.recv(65536)).split(b"\r\n\r\n")
        for action in actions:
            name, id = _ACTION.match(action + b"\r\n"), _ACTION_ID.search(action + b"\r\n")
            answer = b"Response: Success\r\nActionID: %b\r\nMessage: done\r\n" % (id[1] if id else b"")
            match name[1].lower() if name else None:
                case b"challenge":
                    client.sendall(answer + b"Challenge: 104729\r\n\r\n")
                case b"login":
                    booted = b"Event: FullyBooted\r\nPrivilege: system,all\r\nStatus: Fully Booted\r\n\r\n"
                    client.sendall(answer + b"\r\n" + booted)
                    return
                case _:
                    client.sendall(answer + b"\r\n")


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        serve(json.loads(line))
