"""Looks up the names of one destination in threads of its own.

The reactor's threads are few, and a name server that does not answer holds one for half a minute, whoever waits for
it: those of one destination would take them from all others. What a name leads to is not judged here.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from attrs import define
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from zope.interface import implementer  # type: ignore[import-untyped]

#: Names that are looked up at once; while so many get no answer, no more are asked for.
AT_ONCE = 4

#: As `socket.getaddrinfo`, of a host and a port.
Lookup = Callable[[str, int], Sequence[Any]]


def _of_the_system(host: str, port: int) -> Sequence[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@implementer(IHostResolution)
@define
class _Resolution:
    name: str

    def cancel(self) -> None:
        """Nobody can: the thread ends when the system gives up."""


@implementer(IHostnameResolver)
class NameLookup:
    """A resolver (IHostnameResolver). `reactor` is called from the threads."""

    def __init__(self, reactor: Any, lookup: Lookup = _of_the_system) -> None:
        self._reactor = reactor
        self._lookup = lookup
        self._running = 0

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> _Resolution:
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        try:
            ipaddress.ip_address(hostName)
        except ValueError:
            self._in_thread(resolutionReceiver, hostName, portNumber)
        else:
            self._found(resolutionReceiver, [hostName], portNumber)
        return resolution

    def _in_thread(self, receiver: Any, host: str, port: int) -> None:
        if self._running >= AT_ONCE:
            receiver.resolutionComplete()
            return
        self._running += 1

        def ask() -> None:
            try:
                found = [entry[4][0] for entry in self._lookup(host, port)]
            except (OSError, UnicodeError):
                found = []
            self._reactor.callFromThread(self._looked_up, receiver, found, port)

        # A daemon, so that it keeps no process from ending.
        Thread(target=ask, name="cti-name", daemon=True).start()

    def _looked_up(self, receiver: Any, found: Sequence[str], port: int) -> None:
        self._running -= 1
        self._found(receiver, found, port)

    def _found(self, receiver: Any, hosts: Sequence[str], port: int) -> None:
        for host in dict.fromkeys(hosts):
            receiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("TCP", host, port))
        receiver.resolutionComplete()
