"""The load of the FastAGI servers: so many sessions at once, each a request, four commands answered, and the end.

`python -m tests.bench.asterisk.asking` is one process, by hand on epoll, so that it costs less than the servers.
Each line of its input is an order, and each order's answer a line of JSON.
"""

import json
import select
import socket
import sys
import time
from typing import Any

from attrs import define

from tests.bench.processes import whole_cpu_seconds

_HOST = "127.0.0.1"
_REQUEST = """\
agi_network: yes
agi_network_script: route
agi_request: agi://127.0.0.1:4573/route
agi_channel: PJSIP/trunk-{number:08x}
agi_language: en
agi_type: PJSIP
agi_uniqueid: 1795376043.{number}
agi_version: 22.5.2
agi_callerid: 015228817386
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
agi_arg_3: did=494066969100

"""
_COMMANDS = 4


@define(eq=False)
class _Session:
    socket: socket.socket
    began: float
    heard: bytes = b""
    commands: int = 0


class Asking:
    """One server after the other is asked."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sessions: dict[int, _Session] = {}
        self._begun = 0

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """One round. Raises ValueError if a session had not its four commands."""
        self._round(order, order["warm_up"])
        # Of the whole process: one of the servers has a thread for each session.
        before, began = whole_cpu_seconds(order["server"]), time.perf_counter()
        latencies = sorted(self._round(order, order["requests"]))
        seconds = time.perf_counter() - began
        return {
            "seconds": seconds,
            "cpu": whole_cpu_seconds(order["server"]) - before,
            "p50": latencies[len(latencies) // 2],
            "p99": latencies[len(latencies) * 99 // 100],
        }

    def _round(self, order: dict[str, Any], requests: int) -> list[float]:
        latencies: list[float] = []
        begun = min(order["in_flight"], requests)
        for _ in range(begun):
            self._begin(order["port"])
        while self._sessions:
            for descriptor, _ in self._epoll.poll():
                session = self._sessions[descriptor]
                data = session.socket.recv(65536)
                if data:
                    self._answer(session, data)
                    continue
                if session.commands != _COMMANDS:
                    raise ValueError(f"a session of {session.commands} commands, not {_COMMANDS}")
                latencies.append(time.perf_counter() - session.began)
                self._epoll.unregister(descriptor)
                del self._sessions[descriptor]
                session.socket.close()
                if begun < requests:
                    begun += 1
                    self._begin(order["port"])
        return latencies

    def _begin(self, port: int) -> None:
        self._begun += 1
        connection = socket.socket()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = _Session(connection, time.perf_counter())
        connection.connect((_HOST, port))
        connection.sendall(_REQUEST.format(number=self._begun, blank=" ").encode())
        self._sessions[connection.fileno()] = session
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    @staticmethod
    def _answer(session: _Session, data: bytes) -> None:
        session.heard += data
        if not session.heard.endswith(b"\n"):
            return
        command, session.heard = session.heard, b""
        session.commands += 1
        if command.startswith(b"GET VARIABLE "):
            session.socket.sendall(b"200 result=1 (015228817386)\n")
        elif command.startswith(b"SET VARIABLE "):
            session.socket.sendall(b"200 result=1\n")
        else:
            raise ValueError(f"neither GET nor SET VARIABLE: {command!r}")


if __name__ == "__main__":
    asking = Asking()
    for line in sys.stdin:
        print(json.dumps(asking.ask(json.loads(line))), flush=True)
