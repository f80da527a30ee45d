"""One SIPp process: starts it on a scenario, reads its message trace, and gives it orders while it runs.

What the scenario is, and what the messages mean, is up to `lab.sipp`."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path

from attrs import define, field

from lab.ports import LOOPBACK, PortBlock, udp_listener_exists
from lab.processes import end, eventually, start, tail
from lab.scenarios import ORDER_METHOD, order_message
from lab.sound import Sound
from lab.trace import SipMessage, read_trace


class SippFailed(RuntimeError):
    """SIPp did not start or did not end, or Asterisk refused what a call should do; the message tells."""


class _Messenger:
    """Gives our orders to a SIPp, and passes on what SIPp then sends to us.

    SIPp 3.6 sends what follows to its partner, 3.8 to whom it heard last. The partner answers where that came from,
    so that we stay in between until it sends a request of its own.
    """

    def __init__(self, sipp_port: int) -> None:
        self._sipp = (LOOPBACK, sipp_port)
        self._partner = self._sipp
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def send(self, message: bytes, partner_port: int) -> None:
        self._partner = (LOOPBACK, partner_port)
        self._socket.sendto(message, self._sipp)

    def close(self) -> None:
        # No SIP message is empty; closing alone would not end a wait for a datagram.
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _pass_on(self) -> None:
        while True:
            message, sender = self._socket.recvfrom(65535)
            if not message:
                return
            self._socket.sendto(message, self._partner if sender == self._sipp else self._sipp)


@define
class SippProcess:
    """SIPp on one scenario; its files are all called `NAME.…` in `directory`.

    @ivar sound_port: where the sound of its calls goes (see `lab.sound`).
    """

    program: Path
    directory: Path
    name: str
    ports: PortBlock = field(repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    port: int = field(default=0, init=False)
    sound_port: int = field(init=False)
    _sound: Sound | None = field(default=None, init=False, repr=False)
    _messenger: _Messenger | None = field(default=None, init=False, repr=False)
    _orders: int = field(default=0, init=False, repr=False)

    @sound_port.default
    def _a_port_of_its_own(self) -> int:
        return self.ports.take()

    @property
    def trace_file(self) -> Path:
        return self.directory / f"{self.name}.messages"

    @property
    def output_file(self) -> Path:
        return self.directory / f"{self.name}.output"

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, scenario: str, port: int, *more: str | Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        scenario_file = self.directory / f"{self.name}.xml"
        # A caller's name may hold bytes that are no UTF-8, which str carries as surrogates.
        scenario_file.write_bytes(scenario.encode("utf-8", "surrogateescape"))
        self.port = port
        self._sound = Sound(self.sound_port)
        control_port = self.ports.take()
        # SIPp takes four from there on, for sound and video and their RTCP, whether wanted or not.
        media_port, *_ = [self.ports.take() for _ in range(4)]
        self.process = start(
            [
                *(self.program, "-sf", scenario_file, "-i", LOOPBACK, "-p", str(port)),
                *("-mi", LOOPBACK, "-mp", str(media_port), "-ci", LOOPBACK, "-cp", str(control_port)),
                *("-nostdin", "-aa", "-trace_msg", "-message_file", self.trace_file),
                *("-trace_err", "-error_file", self.directory / f"{self.name}.errors"),
                *more,
            ],
            output=self.output_file,
            # The trace has local times without a zone.
            environment={**os.environ, "TZ": "UTC", "TERM": "dumb"},
            directory=self.directory,
        )

    @property
    def sound(self) -> Sound:
        if self._sound is None:
            raise SippFailed(f"{self.name} has not been started")
        return self._sound

    def messages(self) -> list[SipMessage]:
        """All messages so far, but for our orders."""
        return [message for message in self._trace() if not message.cseq.endswith(ORDER_METHOD)]

    def _trace(self) -> Iterable[SipMessage]:
        return read_trace(self.trace_file.read_bytes()) if self.trace_file.is_file() else ()

    def order(self, opening: SipMessage, partner_port: int, order: str, target: str = "") -> int:
        """Gives an order to one call, and returns its number."""
        self._orders += 1
        if self._messenger is None:
            self._messenger = _Messenger(self.port)
        message = order_message(opening, f"{LOOPBACK}:{self.port}", self._orders, order, target)
        self._messenger.send(message, partner_port)
        return self._orders

    def declined(self, number: int) -> bool:
        """Whether the scenario was not waiting for that order, such as between two steps."""
        return any(m.sent and m.cseq == f"{number} {ORDER_METHOD}" for m in self._trace())

    def wait_for_listener(self, port: int) -> None:
        try:
            eventually(
                lambda: not self.is_running or udp_listener_exists(port), 10, what=f"SIPp on UDP port {port}"
            )
        except TimeoutError as error:
            self.stop()
            raise SippFailed(f"{error}\n{tail(self.output_file)}") from error
        if not self.is_running:
            raise SippFailed(f"SIPp for {self.name} ended at once\n{tail(self.output_file)}")

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
        for ours in (self._sound, self._messenger):
            if ours is not None:
                ours.close()
        self._sound = self._messenger = None
