"""A TCP connection through a test's hands: what goes through it can be cut off and let through again."""

import socket
import threading
from contextlib import suppress

from lab.ports import LOOPBACK


class Link:
    """Forwards connections to `port` of the loopback to `target`, another one, while it is whole.

    `breaks_at`: a connection is broken where the target says this, once `may_break` is set; what it said before
    is let through. `breaks_after`: the same once this was let through, too.
    """

    def __init__(self, breaks_at: bytes | None = None) -> None:
        self.target = 0
        self.breaks_at = breaks_at
        self.breaks_after: bytes | None = None
        self.may_break = threading.Event()
        self.may_break.set()
        #: How many connections were broken so, or are about to be.
        self.broken = 0
        self._listener: socket.socket | None = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listen()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            _close(listener)
        with self._lock:
            opened, self._open = self._open, []
        for connection in opened:
            _close(connection)

    def heal(self) -> None:
        """Let connections through again."""
        if self._listener is None:
            self._listener = socket.create_server((LOOPBACK, self.port))
            self._listen()

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
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                before = self.breaks_at is not None and self.breaks_at in data
                if not before:
                    sink.sendall(data)
                if before or (self.breaks_after is not None and self.breaks_after in data):
                    self.broken += 1
                    self.may_break.wait()
                    break
        _close(source)
        _close(sink)


def _close(opened: socket.socket) -> None:
    with suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)
    opened.close()
