"""A FastAGI server that misbehaves by script, in the place of ours; strict about what Asterisk sends it."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO

from lab.ports import LOOPBACK

Script = Callable[["Session"], None]


class Session:
    """One connection: Asterisk's request, and whatever a script does about it."""

    def __init__(self, connection: socket.socket, lines: BinaryIO) -> None:
        self.connection = connection
        self.lines = lines
        headers = {}
        while line := self.lines.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            headers[name] = value
        assert headers["agi_network_script"] == "route", headers
        given = [value.partition("=") for name, value in headers.items() if name.startswith("agi_arg_")]
        #: What the dialplan asks: `did`, `attempt`, `last` and so on.
        self.asked = {name: value for name, _, value in given}

    def set(self, name: str, value: str) -> None:
        """One variable, confirmed."""
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        self.send(f'SET VARIABLE {name} "{quoted}"\n'.encode())
        reply = self.lines.readline()
        assert reply == b"200 result=1\n", reply

    def answer(self, **variables: str) -> None:
        """Several variables, in this order."""
        for name, value in variables.items():
            self.set(name, value)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def until_the_end(self) -> None:
        """Reads what Asterisk says until it hangs up."""
        with suppress(ConnectionError):
            while self.lines.readline():
                pass

    def reset(self) -> None:
        """Breaks the connection off, as a machine does that loses its power and comes back."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class FakeAgi:
    """Listens on `port`, and gives each connection to the script of the number that was dialled."""

    def __init__(self, port: int, scripts: dict[str, Script]) -> None:
        self.scripts = scripts
        #: What each connection asked, in the order in which they came.
        self.asked: list[dict[str, str]] = []
        #: What went otherwise than the scripts expect.
        self.errors: list[str] = []
        self._listener = socket.create_server((LOOPBACK, port), backlog=100)
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "FakeAgi":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in (self._listener, *self._connections):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def attempts(self, did: str) -> list[int]:
        """The numbers of the questions about calls to `did`."""
        return [int(asked["attempt"]) for asked in self.asked if asked["did"] == did]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        did = "?"
        try:
            with connection, connection.makefile("rb") as lines:
                session = Session(connection, lines)
                did = session.asked["did"]
                self.asked.append(session.asked)
                self.scripts[did](session)
        except Exception as error:  # noqa: BLE001 - a thread's error has to reach the test
            self.errors.append(f"{did}: {error!r}")
