"""A receiver of webhooks, as a CRM would have one: takes each notification and checks its signature.

The check is made by the library of Standard Webhooks, not by ours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field, frozen
from standardwebhooks import Webhook, WebhookVerificationError

from lab.ports import LOOPBACK

_LONGEST_BODY = 1024 * 1024


@frozen
class Notification:
    """One POST: `genuine` if its signature holds; `at` in epoch seconds; `headers` are the webhook's own."""

    type: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    genuine: bool
    at: float


@define
class WebhookReceiver:
    """Listens on `port` from `start()` to `stop()`, says 204 to what is genuine and 401 to what is not."""

    port: int
    secret: str = field(repr=False)
    notifications: list[Notification] = field(factory=list, init=False)
    _server: ThreadingHTTPServer | None = field(default=None, init=False, repr=False)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/"

    def start(self) -> None:
        """Listen; raises OSError if the port is taken."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                length = min(int(self.headers.get("Content-Length") or 0), _LONGEST_BODY)
                notification = receiver.take(self.rfile.read(length), dict(self.headers.items()))
                self.send_response(204 if notification.genuine else 401)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """What came stands in `notifications`."""

        self._server = ThreadingHTTPServer((LOOPBACK, self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        ).start()

    def stop(self) -> None:
        """Stop listening; nothing happens if it does not listen."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, body: bytes, headers: Mapping[str, str]) -> Notification:
        """Note one notification."""
        own = {name.lower(): value for name, value in headers.items() if name.lower().startswith("webhook-")}
        try:
            data = Webhook(self.secret).verify(body, own)
            genuine = True
        except WebhookVerificationError:
            data, genuine = {}, False
        except json.JSONDecodeError:
            data, genuine = {}, True
        notification = Notification(str(data.get("type", "")), data, own, genuine, time.time())
        self.notifications.append(notification)
        return notification
