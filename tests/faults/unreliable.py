"""Neighbours who fail at random: webhooks' receivers and CRMs that refuse, hang up, are slow, or lose an answer."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from attrs import define, field, frozen

from lab.ports import LOOPBACK
from tests.crm.fakes import FakeCrm
from tests.crm.fakes.espocrm import EspoCrm
from tests.crm.fakes.webhook import HomeMade

#: What becomes of a request, and how often.
_MOODS: Final[Mapping[str, int]] = {"well": 84, "refuses": 4, "hangs up": 4, "loses": 4, "slow": 4}
_SLOWEST: Final = 1.5


@define
class Chance:
    """Luck that threads share; nothing fails any more once `over`."""

    dice: random.Random
    over: bool = False
    _lock: threading.Lock = field(factory=threading.Lock, repr=False)

    def mood(self) -> str:
        with self._lock:
            if self.over:
                return "well"
            return self.dice.choices(list(_MOODS), list(_MOODS.values()))[0]

    def pause(self) -> float:
        with self._lock:
            return self.dice.uniform(0.1, _SLOWEST)


@frozen
class Taken:
    """What a receiver took: the key, and the body."""

    key: str
    body: bytes


class Receiver:
    """Of webhooks; `taken` has what it took, in that order, repeats and all."""

    def __init__(self, port: int, chance: Chance) -> None:
        self.taken: list[Taken] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                mood = chance.mood()
                if mood == "slow":
                    time.sleep(chance.pause())
                if mood == "hangs up":
                    self.close_connection = True
                    return
                if mood != "refuses":
                    receiver.taken.append(Taken(self.headers["webhook-id"], body))
                if mood == "loses":
                    self.close_connection = True
                    return
                self.send_response(503 if mood == "refuses" else 204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """What was taken stands in `taken`."""

        self._server = ThreadingHTTPServer((LOOPBACK, port), Handler)
        self._server.daemon_threads = True
        # Who was killed is gone before it reads the answer.
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Moody(FakeCrm):
    """A CRM's fake whose requests take the mood of the moment."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        super().__init__()
        self._server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        mood = self._chance.mood()
        if mood == "slow" and handler.command != "PUT":
            # Whoever asked may have died by the time that it is done. One state of a call overtaken by another is
            # more than any sender could help.
            time.sleep(self._chance.pause())
        if mood in ("refuses", "hangs up"):
            handler.rfile.read(int(handler.headers.get("content-length") or 0))
            handler.close_connection = True
            if mood == "refuses":
                handler.send_response(503)
                handler.send_header("content-length", "0")
                handler.end_headers()
            return
        if mood == "loses":
            handler.wfile = _Lost()  # type: ignore[assignment]
            handler.close_connection = True
        super()._serve(handler)
        if mood == "loses":
            handler.close_connection = True


class _Lost:
    """Where an answer goes that gets lost."""

    def write(self, _data: Any) -> int:
        return 0

    def flush(self) -> None:
        """There is nothing."""

    def close(self) -> None:
        """There is nothing."""

    closed = False


class MoodyHomeMade(_Moody, HomeMade):
    """A CRM that takes a call by our own key: told twice, it is one record."""


class MoodyEspoCrm(_Moody, EspoCrm):
    """A CRM that makes a record for each call it is told to make; what is there can be searched for."""
