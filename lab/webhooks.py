"""Receivers of webhooks and of opened addresses, in the place of a CRM.

One takes, refuses or hangs by order; the other checks each signature, by the library of Standard Webhooks and not by
ours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import frozen
from standardwebhooks import Webhook, WebhookVerificationError

from lab.ports import LOOPBACK

_LONGEST_BODY = 1024 * 1024


@frozen
class Delivery:
    """One request: what was asked for, its headers (names in lower case), its body, and the status of the answer.

    A `status` of None is a request that was never answered.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None


class Receiver:
    """Listens from `start()` on; the first requests meet `statuses` one after the other, later ones 204.

    Each answer takes `seconds`.
    """

    def __init__(self, port: int, *statuses: int | None, seconds: float = 0.0) -> None:
        self.port = port
        self.seconds = seconds
        self.deliveries: list[Delivery] = []
        self._statuses = list(statuses)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def taken(self) -> list[Delivery]:
        """The requests that were answered with success."""
        return [delivery for delivery in self.deliveries if delivery.status == 204]

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/"

    def start(self) -> None:
        """Listen; raises OSError if the port is taken."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self) -> None:
                length = min(int(self.headers.get("content-length", "0")), _LONGEST_BODY)
                body = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                time.sleep(receiver.seconds)
                status = receiver.keep(self.path, headers, body)
                if status is None:
                    receiver.hang()
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """What was asked stands in `deliveries`."""

        self._server = ThreadingHTTPServer((LOOPBACK, self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        ).start()

    def stop(self) -> None:
        """Stop listening; nothing happens if it does not listen."""
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def keep(self, path: str, headers: Mapping[str, str], body: bytes) -> int | None:
        """Take note of a request; the status that it is to be answered with."""
        with self._lock:
            status = self._statuses.pop(0) if self._statuses else 204
            self.deliveries.append(Delivery(path, headers, body, status))
        return status

    def hang(self) -> None:
        """Leave somebody without an answer for as long as the receiver lives."""
        self._closing.wait()


@frozen
class Notification:
    """One POST: `genuine` if its signature holds; `at` in epoch seconds; `headers` are the webhook's own."""

    type: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    genuine: bool
    at: float


class WebhookReceiver(Receiver):
    """Says 204 to what is genuine and 401 to what is not."""

    def __init__(self, port: int, secret: str) -> None:
        super().__init__(port)
        self.secret = secret
        self.notifications: list[Notification] = []

    def keep(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        own = {name: value for name, value in headers.items() if name.startswith("webhook-")}
        try:
            data = Webhook(self.secret).verify(body, own)
            genuine = True
        except WebhookVerificationError:
            data, genuine = {}, False
        except json.JSONDecodeError:
            data, genuine = {}, True
        self.notifications.append(Notification(str(data.get("type", "")), data, own, genuine, time.time()))
        return 204 if genuine else 401
