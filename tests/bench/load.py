"""The other side of a benchmark: an Asterisk that asks about many calls at once, and tells by AMI how they go.

`python -m tests.bench.load` is one process, by hand on epoll, so that it costs less than the servers that it
measures. Each line of its input is an order, `{"do": …}`, and each order's answer a line of JSON.
"""

import heapq
import json
import os
import random
import re
import select
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define, field

from tests.bench.people import number_of
from tests.bench.processes import cpu_seconds

_HOST = "127.0.0.1"
_CONFIRMATION = b"200 result=1\n"
_VARIABLE = re.compile(rb'SET VARIABLE (\w+) "(.*)"\n')
_ACTION_ID = re.compile(rb"\r\nActionID: ([^\r]*)\r\n")
_LISTS = {"DeviceStateList", "CoreShowChannels", "DBGetTree"}

_HEADERS = """\
agi_network: yes
agi_network_script: route
agi_request: agi://127.0.0.1:{port}/route
agi_channel: PJSIP/trunk-{number:08x}
agi_language: en
agi_type: PJSIP
agi_uniqueid: {uniqueid}
agi_version: 22.5.2
agi_callerid: {caller}
agi_calleridname: unknown
agi_callingpres: 0
agi_callingani2: 0
agi_callington: 0
agi_callingtns: 0
agi_dnid: 494066969100
agi_rdnis: unknown
agi_context: cti-route
agi_extension: s
agi_priority: 27
agi_enhanced: 0.0
agi_accountcode:{blank}
agi_threadid: 140036271052480
agi_arg_1: v=1
agi_arg_2: pbx=main
agi_arg_3: call=
agi_arg_4: linkedid={uniqueid}
agi_arg_5: did=494066969100
agi_arg_6: attempt=1
agi_arg_7: last=

"""

# What Asterisk 22 tells of each side of a call, with our own `channelvars`.
_SIDE = """\
{side}Channel: {channel}
{side}ChannelState: {state}
{side}ChannelStateDesc: {word}
{side}CallerIDNum: {caller}
{side}CallerIDName: Customer
{side}ConnectedLineNum: <unknown>
{side}ConnectedLineName: <unknown>
{side}Language: en
{side}AccountCode:{blank}
{side}Context: cti-action
{side}Exten: dial
{side}Priority: 9
{side}Uniqueid: {uniqueid}
{side}Linkedid: {linkedid}
{side}ChanVariable: CTI_CALL_ID={call}
"""


def _side(side: str, call: "Session", *, of_agent: bool, state: int) -> str:
    return _SIDE.format(
        side=side,
        channel=f"{call.phone}-{call.number:08x}" if of_agent else f"PJSIP/trunk-{call.number:08x}",
        state=state,
        word={0: "Down", 4: "Ring", 5: "Ringing", 6: "Up"}[state],
        caller=call.caller,
        uniqueid=f"{call.uniqueid}9" if of_agent else call.uniqueid,
        linkedid=call.uniqueid,
        call=call.id,
        blank=" ",
    )


def _event(name: str, *parts: str) -> str:
    return f"Event: {name}\nPrivilege: call,all\nTimestamp: {time.time():.6f}\n" + "".join(parts) + "\n"


def _story(call: "Session") -> bytes:
    """All that Asterisk tells of a call whose agent answers, from the ringing to the hangup of both sides."""
    phone = f"Device: {call.phone}\nState: "
    asking, rung = _side("", call, of_agent=False, state=4), _side("Dest", call, of_agent=True, state=5)
    gone = "Cause: 16\nCause-txt: Normal Clearing\n"
    if call.action != "dial":
        events = [_event("Hangup", asking, gone)]
    else:
        events = [
            _event("Newchannel", _side("", call, of_agent=True, state=0)),
            _event("DialBegin", asking, rung, f"DialString: {call.phone}\n"),
            _event("Newstate", _side("", call, of_agent=True, state=5)),
            _event("DeviceStateChange", phone, "RINGING\n"),
            _event("DialState", asking, rung, "DialStatus: RINGING\n"),
            _event("Newstate", _side("", call, of_agent=True, state=6)),
            _event("DeviceStateChange", phone, "INUSE\n"),
            _event("DialEnd", asking, rung, "DialStatus: ANSWER\n"),
            _event("Hangup", _side("", call, of_agent=True, state=6), gone),
            _event("DeviceStateChange", phone, "NOT_INUSE\n"),
            _event("Hangup", asking, gone),
        ]
    return "".join(events).replace("\n", "\r\n").encode()


@define(eq=False)
class Session:
    """A call that asks."""

    socket: socket.socket
    number: int
    caller: str
    uniqueid: str
    began: float
    buffer: bytes = b""
    id: str = ""
    phone: str = ""
    name: str = ""
    action: str = ""


@define
class Round:
    """The calls of one order, and what is known of them."""

    order: dict[str, Any]
    random: random.Random
    begun: int = 0
    done: int = 0
    began: float = 0.0
    cpu: dict[str, float] = field(factory=dict)
    latencies: list[float] = field(factory=list)
    dialled: int = 0
    named: int = 0
    cards: int = 0
    warm: int = 0


class Load:
    """Everything in one thread: orders, calls that ask, manager ports, event streams."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._managers: dict[int, socket.socket] = {}
        self._round: Round | None = None
        self._number = 0
        self._running = True
        self._cards = 0
        self._orders = b""
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._timers = 0

    def run(self) -> None:
        """Until the input ends."""
        self._watch(sys.stdin.fileno(), self._read_orders)
        while self._running:
            wait = max(0.0, self._later[0][0] - time.perf_counter()) if self._later else -1
            for descriptor, _ in self._poll.poll(wait):
                ready = self._ready.get(descriptor)
                if ready is not None:
                    ready()
            while self._later and self._later[0][0] <= time.perf_counter():
                heapq.heappop(self._later)[2]()

    def _at(self, moment: float, call: Callable[[], None]) -> None:
        self._timers += 1
        heapq.heappush(self._later, (moment, self._timers, call))

    def _watch(self, descriptor: int, ready: Callable[[], None]) -> None:
        self._ready[descriptor] = ready
        self._poll.register(descriptor, select.EPOLLIN)

    def _drop(self, connection: socket.socket) -> None:
        self._ready.pop(connection.fileno(), None)
        connection.close()

    # Orders.

    def _read_orders(self) -> None:
        data = os.read(sys.stdin.fileno(), 65536)
        self._running = bool(data)
        *orders, self._orders = (self._orders + data).split(b"\n")
        for order in map(json.loads, orders):
            self._do(order)

    def _do(self, order: dict[str, Any]) -> None:
        match order["do"]:
            case "manage":
                self._answer(port=self._be_an_asterisk())
            case "read":
                self._read_events(order["port"], order["token"])
                self._answer()
            case "call":
                self._round = Round(order, random.Random(order["seed"]))
                if "rate" in order:
                    self._come(self._round, time.perf_counter())
                else:
                    for _ in range(order["in_flight"]):
                        self._begin(self._round)

    @staticmethod
    def _answer(**answer: Any) -> None:
        print(json.dumps(answer), flush=True)

    # Calls.

    def _come(self, round: Round, due: float) -> None:
        """One call, and the next when it is due, however long this one takes."""
        self._begin(round)
        if round.begun < round.order["warm_up"] + round.order["calls"]:
            due += 1 / round.order["rate"]
            self._at(due, lambda: self._come(round, due))

    def _begin(self, round: Round) -> None:
        order = round.order
        if round.begun == order["warm_up"]:
            round.latencies.clear()
            round.dialled = round.named = 0
            round.cards, round.warm = self._cards, round.done
            round.cpu = cpu_seconds(order["server"])
            round.began = time.perf_counter()
        if round.begun == order["warm_up"] + order["calls"]:
            return
        round.begun += 1
        self._number += 1
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        connection.connect((_HOST, order["port"]))
        connection.setblocking(False)
        session = Session(
            connection,
            self._number,
            number_of(round.random.randrange(order["people"])),
            f"{time.time():.0f}.{self._number}",
            began,
        )
        self._watch(connection.fileno(), lambda: self._hear(round, session))
        connection.sendall(
            _HEADERS.format(
                port=order["port"],
                number=session.number,
                uniqueid=session.uniqueid,
                caller=session.caller,
                blank=" ",
            ).encode()
        )

    def _hear(self, round: Round, session: Session) -> None:
        try:
            data = session.socket.recv(65536)
        except ConnectionError:
            # Given up, as a frozen server's calls are; that it was not dialled shows in the figures.
            data = b""
        if not data:
            self._drop(session.socket)
            self._over(round, session)
            return
        session.buffer += data
        if not session.buffer.endswith(b"\n"):
            return
        command = _VARIABLE.fullmatch(session.buffer)
        if command is None:
            raise ValueError(f"not one SET VARIABLE: {session.buffer!r}")
        session.buffer = b""
        match command[1]:
            case b"__CTI_CALL_ID":
                session.id = command[2].decode()
            case b"CTI_TARGET":
                session.phone = command[2].decode()
            case b"CTI_CALLER_NAME":
                session.name = command[2].decode()
            case b"CTI_ACTION":
                session.action = command[2].decode()
                round.latencies.append(time.perf_counter() - session.began)
        with suppress(ConnectionError):
            session.socket.send(_CONFIRMATION)

    def _over(self, round: Round, session: Session) -> None:
        round.done += 1
        round.dialled += session.action == "dial"
        round.named += session.name != ""
        manager = self._managers.get(round.order["manager"])
        if manager is not None:
            manager.sendall(_story(session))
        if round.done == round.order["warm_up"] + round.order["calls"]:
            self._report(round)
        elif "rate" not in round.order:
            self._begin(round)

    def _report(self, round: Round) -> None:
        seconds = time.perf_counter() - round.began
        before, after = round.cpu, cpu_seconds(round.order["server"])
        latencies = sorted(round.latencies)
        counted = round.done - round.warm
        self._answer(
            calls=round.order["calls"],
            seconds=seconds,
            cpu={thread: spent - before.get(thread, 0.0) for thread, spent in after.items()},
            p50=latencies[len(latencies) // 2],
            p99=latencies[len(latencies) * 99 // 100],
            longest=latencies[-1],
            dialled=round.dialled / counted,
            named=round.named / counted,
            cards=(self._cards - round.cards) / counted,
        )

    # An event stream's reader.

    def _read_events(self, port: int, token: str) -> None:
        connection = socket.create_connection((_HOST, port))
        connection.sendall(
            f"GET /api/v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )

        def ready() -> None:
            data = connection.recv(1 << 20)
            self._cards += data.count(b"event: card.offered\n")
            if not data:
                self._drop(connection)

        self._watch(connection.fileno(), ready)

    # A manager port.

    def _be_an_asterisk(self) -> int:
        listener = socket.create_server((_HOST, 0))
        port: int = listener.getsockname()[1]

        def accept() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"Asterisk Call Manager/11.0.0\r\n")
            unread = b""

            def ready() -> None:
                nonlocal unread
                try:
                    data = connection.recv(1 << 20)
                except ConnectionError:
                    data = b""
                *actions, unread = (unread + data).split(b"\r\n\r\n")
                for action in actions:
                    connection.sendall(self._acted(port, connection, action + b"\r\n"))
                if not data:
                    self._drop(connection)

            self._watch(connection.fileno(), ready)

        self._watch(listener.fileno(), accept)
        return port

    def _acted(self, port: int, connection: socket.socket, action: bytes) -> bytes:
        name = action.partition(b"\r\n")[0].removeprefix(b"Action: ").decode()
        found = _ACTION_ID.search(action)
        id = found[1] if found else b""
        answer = b"Response: Success\r\nActionID: %b\r\nMessage: done\r\n" % id
        match name:
            case "Challenge":
                answer += b"Challenge: 104729\r\n\r\n"
            case "Login":
                self._managers[port] = connection
                answer += b"\r\nEvent: FullyBooted\r\nPrivilege: system,all\r\nStatus: Fully Booted\r\n\r\n"
            case _ if name in _LISTS:
                answer += b"\r\nEvent: %bComplete\r\nActionID: %b\r\nEventList: Complete\r\n\r\n" % (
                    name.encode(),
                    id,
                )
            case _:
                answer += b"\r\n"
        return answer


if __name__ == "__main__":
    Load().run()
