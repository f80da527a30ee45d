"""A TCP connection through a test's hands: what goes through it can be cut off and let through again."""

import socket
import threading
from contextlib import suppress

from lab.ports import LOOPBACK


class Link:
    """Forwards connections to `port` of the loopback to `target`, another one, while it is whole.

    `stall` lets it stand and nothing through, as a network does that lost its way, `strand` does so with those
    connections only that there are; `inject` adds to what the target says. `breaks_at`: a connection is broken where
    the target says this, once `may_break` is set; what it said before is let through. `breaks_after`: the same once
    this was let through, too.
    """

    def __init__(self, breaks_at: bytes | None = None) -> None:
        self.target = 0
        self.breaks_at = breaks_at
        self.breaks_after: bytes | None = None
        self.may_break = threading.Event()
        self.may_break.set()
        #: How many connections were broken so, or are about to be.
        self.broken = 0
        self._stalls_after: int | None = None
        self._injection: bytes = b""
        self._listener: socket.socket | None = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._stranded: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listen()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            _close(listener)
        with self._lock:
            opened, self._open = self._open, []
            self._stranded.clear()
        for connection in opened:
            _close(connection)

    def heal(self) -> None:
        """Let connections through again, and those that come everything."""
        self._stalls_after = None
        if self._listener is None:
            self._listener = socket.create_server((LOOPBACK, self.port))
            self._listen()

    def stall(self, after: int = 0) -> None:
        """Let nothing more of what the target says through, but for so many bytes, until the link is healed."""
        self._stalls_after = after

    def strand(self) -> None:
        """Let nothing more through those connections that there are: the network has changed, nobody is told."""
        with self._lock:
            self._stranded.update(self._open)

    def inject(self, messages: bytes) -> None:
        """Say this, too, to who is connected, behind the next whole message of the target."""
        self._injection = messages

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection((LOOPBACK, self.target))
                except OSError:
                    _close(near)
                    continue
                with self._lock:
                    self._open += [near, far]
                for source, sink, said in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pump, args=(source, sink, said), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, said: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if source in self._stranded:
                    continue
                if self.breaks_at is not None and self.breaks_at in data:
                    self._break()
                    break
                if said and self._stalls_after is not None:
                    data, rest = data[: self._stalls_after], data[self._stalls_after :]
                    self._stalls_after = 0 if rest else self._stalls_after - len(data)
                sink.sendall(data)
                if said and self._injection and data.endswith(b"\r\n\r\n"):
                    injection, self._injection = self._injection, b""
                    sink.sendall(injection)
                if self.breaks_after is not None and self.breaks_after in data:
                    self._break()
                    break
        _close(source)
        _close(sink)

    def _break(self) -> None:
        self.broken += 1
        self.may_break.wait()


def _close(opened: socket.socket) -> None:
    with suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)
    opened.close()
