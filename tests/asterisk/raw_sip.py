"""A SIP caller that says exactly the bytes it is given; what a decent one says is `lab.sipp`'s business."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from itertools import count
from types import TracebackType

from attrs import define, field

from lab.asterisk import AsteriskInstance
from lab.configuration import TRUNK_HEADER
from lab.ports import LOOPBACK
from lab.processes import eventually

_SDP = b"v=0\r\no=- 1 1 IN IP4 %b\r\ns=-\r\nc=IN IP4 %b\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n" % (
    (LOOPBACK.encode(),) * 2
)


@define(eq=False)
class RawCall:
    """One call; `statuses` are those of its INVITE, `ended` says that it is over."""

    number: int
    user: bytes
    sender: bytes
    more: bytes
    statuses: list[int] = field(factory=list)
    ended: bool = False
    to: bytes = b""

    @property
    def final(self) -> int | None:
        return next((status for status in self.statuses if status >= 200), None)


class RawCaller:
    """Calls from the lab's trunk by one socket, in a thread of its own."""

    def __init__(self, pbx: AsteriskInstance) -> None:
        self._pbx = (LOOPBACK, pbx.sip_port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self._socket.settimeout(0.1)
        self._here = b"%b:%d" % (LOOPBACK.encode(), self._socket.getsockname()[1])
        self._numbers: Iterator[int] = count(1)
        self._calls: dict[int, RawCall] = {}
        self._closed = threading.Event()

    def __enter__(self) -> "RawCaller":
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        self._socket.close()

    def call(self, user: bytes, sender: bytes, *headers: bytes) -> RawCall:
        """An INVITE to `user`, with `sender` as the whole value of From before its tag, as they are."""
        number = next(self._numbers)
        more = b"".join(header + b"\r\n" for header in headers)
        call = RawCall(number, user, sender, more)
        self._calls[number] = call
        self._invite(call)
        return call

    def hang_up(self, call: RawCall, timeout: float = 10.0) -> None:
        """BYE, and wait until Asterisk has agreed; a call that is over stays so."""
        deadline = time.monotonic() + timeout
        while not call.ended and time.monotonic() < deadline:
            self._send(call, b"BYE", 2)
            wait_until = time.monotonic() + 0.5
            while not call.ended and time.monotonic() < wait_until:
                time.sleep(0.01)

    def wait(self, call: RawCall, timeout: float = 20.0) -> int:
        """The final status."""
        return eventually(lambda: call.final, timeout, what=f"an end of {call}") or 0

    def _invite(self, call: RawCall) -> None:
        contact = b"Contact: <sip:raw@%b>\r\nContent-Type: application/sdp\r\n" % self._here
        self._send(call, b"INVITE", 1, contact + call.more, _SDP)

    def _send(
        self, call: RawCall, method: bytes, sequence: int, more: bytes = b"", body: bytes = b""
    ) -> None:
        uri = b"sip:%b@%b:%d" % (call.user, LOOPBACK.encode(), self._pbx[1])
        trunk = ": ".join(TRUNK_HEADER).encode()
        branch = b"%d-%d-%b" % (self._socket.getsockname()[1], call.number, method)
        self._socket.sendto(
            b"%b %b SIP/2.0\r\nVia: SIP/2.0/UDP %b;branch=z9hG4bK-%b\r\nMax-Forwards: 70\r\n"
            b"From: %b;tag=raw%d\r\nTo: %b\r\nCall-ID: raw-%d@%b\r\nCSeq: %d %b\r\n%b\r\n"
            b"%bContent-Length: %d\r\n\r\n%b"
            % (
                *(method, uri, self._here, branch, call.sender, call.number),
                *(call.to or b"<%b>" % uri, call.number, self._here, sequence, method, trunk),
                *(more, len(body), body),
            ),
            self._pbx,
        )

    def _read(self) -> None:
        while not self._closed.is_set():
            try:
                data = self._socket.recv(65535)
            except TimeoutError:
                continue
            number = re.search(rb"\r\nCall-ID: raw-(\d+)@", data)
            if number is None:
                continue
            call = self._calls[int(number[1])]
            if data.startswith(b"SIP/2.0 "):
                self._answered(call, data)
            elif data.startswith(b"BYE "):
                vias = b"".join(re.findall(rb"\r\n((?:Via|From|To|Call-ID|CSeq): [^\r]*)", data))
                lines = re.findall(rb"\r\n((?:Via|From|To|Call-ID|CSeq): [^\r]*)", data)
                assert vias
                reply = b"SIP/2.0 200 OK\r\n" + b"\r\n".join(lines) + b"\r\nContent-Length: 0\r\n\r\n"
                self._socket.sendto(reply, self._pbx)
                call.ended = True

    def _answered(self, call: RawCall, data: bytes) -> None:
        status = int(data[8:11])
        if re.search(rb"\r\nCSeq: 2 BYE", data):
            call.ended = True
            return
        call.statuses.append(status)
        to = re.search(rb"\r\nTo: ([^\r]*)", data)
        if status >= 200 and to is not None:
            call.to = to[1]
            self._send(call, b"ACK", 1)
            call.ended = call.ended or status >= 300
