"""A receiver of webhooks that takes, refuses or hangs by order, and keeps what it was sent."""

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from attrs import frozen

from lab.ports import LOOPBACK


@frozen
class Delivery:
    """One request: its headers (names in lower case), its body, and the status it was answered with.

    A `status` of None is a request that was never answered.
    """

    headers: Mapping[str, str]
    body: bytes
    status: int | None


class Receiver:
    """Listens from `start()` on; the first requests meet `statuses` one after the other, later ones 204."""

    def __init__(self, port: int, *statuses: int | None) -> None:
        self.port = port
        self.deliveries: list[Delivery] = []
        self._statuses = list(statuses)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def taken(self) -> list[Delivery]:
        """The requests that were answered with success."""
        return [delivery for delivery in self.deliveries if delivery.status == 204]

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver.keep(headers, body)
                if status is None:
                    receiver.hang()
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """What was asked stands in `deliveries`."""

        self._server = ThreadingHTTPServer((LOOPBACK, self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def keep(self, headers: Mapping[str, str], body: bytes) -> int | None:
        """Take note of a request; the status that it is to be answered with."""
        with self._lock:
            status = self._statuses.pop(0) if self._statuses else 204
            self.deliveries.append(Delivery(headers, body, status))
        return status

    def hang(self) -> None:
        """Leave somebody without an answer for as long as the receiver lives."""
        self._closing.wait()
