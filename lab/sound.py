"""Keys pressed and heard in calls: the events of RFC 4733, over a socket that all calls of one SIPp share.

Which calls there are, and where their sound goes, is the business of `lab.sipp`."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time

from attrs import frozen

from lab.ports import LOOPBACK

_KEYS = "0123456789*#ABCD"
# As the SDP of lab.scenarios announces it.
_PAYLOAD_TYPE = 101
_VERSION = 0x80
_MARKER = 0x80
_END = 0x80
_VOLUME = 10
# A packet each 20 ms, in the clock of 8000 Hz, and 100 ms of each key.
_PACKET_SECONDS = 0.02
_PACKET_CLOCK = 160
_PACKETS = 5


@frozen
class Key:
    """A key that the other side pressed: when (epoch seconds), which, and from which of its ports it came."""

    time: float
    key: str
    port: int


class Sound:
    """The socket, and a thread that listens to it from the beginning to `close()`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: list[Key] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, port))
        self._source = random.getrandbits(32)
        self._sequence = random.getrandbits(15)
        self._clock = random.getrandbits(31)
        self._seen: set[tuple[int, int]] = set()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def press(self, keys: str, port: int) -> None:
        """Presses the keys one after the other, each for 100 ms, on the way to a port of the loopback."""
        if unknown := set(keys) - set(_KEYS):
            raise ValueError(f"no key of a telephone: {', '.join(sorted(unknown))}")
        for key in keys:
            for number in range(1, _PACKETS + 1):
                self._send(key, number, port)
                time.sleep(_PACKET_SECONDS)
            # The last one three times, in case it is lost.
            for _ in range(3):
                self._send(key, _PACKETS, port, end=True)
            self._clock += 2 * _PACKETS * _PACKET_CLOCK
            time.sleep(_PACKETS * _PACKET_SECONDS)

    def close(self) -> None:
        """Ends the thread, and gives the port back."""
        # Whatever is no RTP; closing alone would not end a wait for a datagram.
        self._socket.sendto(b"", (LOOPBACK, self.port))
        self._thread.join()
        self._socket.close()

    def _send(self, key: str, packets: int, port: int, *, end: bool = False) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        marker = _MARKER if packets == 1 else 0
        header = struct.pack(
            "!BBHII", _VERSION, marker | _PAYLOAD_TYPE, self._sequence, self._clock, self._source
        )
        event = struct.pack("!BBH", _KEYS.index(key), (_END if end else 0) | _VOLUME, packets * _PACKET_CLOCK)
        self._socket.sendto(header + event, (LOOPBACK, port))

    def _listen(self) -> None:
        while True:
            data, (_, port) = self._socket.recvfrom(2048)
            if not data:
                return
            if len(data) < 16 or data[1] & 0x7F != _PAYLOAD_TYPE or data[12] >= len(_KEYS):
                continue
            # Every packet of one press has the same time stamp.
            press = (port, int.from_bytes(data[4:8], "big"))
            if press not in self._seen:
                self._seen.add(press)
                self.heard.append(Key(time.time(), _KEYS[data[12]], port))
