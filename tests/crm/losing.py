"""A way to a CRM on which answers get lost and requests are late: what the CRM has then, its adapter has to find.

Stands between an adapter and a real CRM's HTTP; which requests it is about, the test says.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from attrs import frozen

from tests.crm.http_server import HttpServer

_HOP: frozenset[str] = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})


@frozen
class Asked:
    """A request on its way."""

    method: str
    path: str
    body: bytes


class Losing(HttpServer):
    """Forwards to `target`, an address such as `http://127.0.0.1:8069`, from its own `url`."""

    def __init__(self, target: str) -> None:
        self._host = urlsplit(target).netloc
        #: Which requests are done and not answered, or done only later.
        self.loses: Callable[[Asked], bool] = lambda _: False
        #: Seconds for which such a request is on its way after its asker has given it up.
        self.late = 0.0
        #: Requests that were lost, and those of them that the CRM has answered by now.
        self.lost: list[Asked] = []
        self.done: list[int] = []
        super().__init__()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        asked = Asked(handler.command, handler.path, body)
        if self.loses(asked):
            self.lost.append(asked)
            handler.close_connection = True
            if self.late:
                threading.Thread(target=self._later, args=(handler, asked), daemon=True).start()
            else:
                self.done.append(self._forward(handler, asked)[0])
            return
        try:
            status, headers, answer = self._forward(handler, asked)
        except OSError:
            handler.close_connection = True
            return
        handler.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                handler.send_header(name, value)
        handler.send_header("content-length", str(len(answer)))
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(answer)

    def _later(self, handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        time.sleep(self.late)
        self.done.append(self._forward(handler, asked)[0])

    def _forward(
        self, handler: BaseHTTPRequestHandler, asked: Asked
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in _HOP}
        connection = http.client.HTTPConnection(self._host, timeout=60)
        try:
            connection.request(asked.method, asked.path, asked.body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()
