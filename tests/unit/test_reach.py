"""Where a notification may go: what an address stands for is what counts, however it is written."""

from ipaddress import ip_address, ip_network
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.testing import MemoryReactorClock
from twisted.web.http_headers import Headers

from cti.calls.name_lookup import AT_ONCE, NameLookup
from cti.calls.outbox import DeliveryFailed
from cti.calls.web_client import WebClient, web_agent
from cti.reach import Reach, reach_of


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        # One of IPv4 in it: mapped, compatible, behind NAT64, by 6to4.
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
    ],
)
def test_what_is_not_the_open_internet_is_out_of_reach(address: str) -> None:
    assert Reach().refuses(ip_address(address)) is not None


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2002:101:101::",
    ],
)
def test_the_open_internet_is_in_reach(address: str) -> None:
    assert Reach().refuses(ip_address(address)) is None


def test_a_network_that_is_allowed_is_in_reach_and_no_other() -> None:
    reach = Reach([ip_network("10.1.0.0/16"), ip_network("fd00::/8")])
    assert reach.refuses(ip_address("10.1.2.3")) is None
    assert reach.refuses(ip_address("::ffff:10.1.2.3")) is None
    assert reach.refuses(ip_address("fd00::1")) is None
    assert reach.refuses(ip_address("10.2.0.1")) == "private"
    assert reach.refuses(ip_address("127.0.0.1")) == "this machine's own"


def test_an_address_that_is_written_in_the_url_is_meant_and_a_name_is_not() -> None:
    assert reach_of("127.0.0.1", ()).refuses(ip_address("127.0.0.1")) is None
    assert reach_of("127.0.0.1", ()).refuses(ip_address("127.0.0.2")) is not None
    assert reach_of("fd00::5", ()).refuses(ip_address("fd00::5")) is None
    assert reach_of("crm.example", ()).refuses(ip_address("127.0.0.1")) is not None
    # Not an address as it is written, though the system would take it for one.
    assert reach_of("2130706433", ()).refuses(ip_address("127.0.0.1")) is not None


def test_a_link_local_address_is_never_meant_unless_it_is_allowed() -> None:
    for host in ("169.254.169.254", "::ffff:169.254.169.254", "fe80::1"):
        with pytest.raises(ValueError, match=r"link-local.*allow: \["):
            reach_of(host, ())
    reach_of("169.254.169.254", [ip_network("169.254.169.254/32")])


# Connecting.


class Names:
    """A resolver that says something else each time it is asked, the last for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, **_: Any) -> Any:
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        receiver = IResolutionReceiver(receiver)
        receiver.resolutionBegan(None)
        for address in addresses:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()


def asked(reactor: MemoryReactorClock, names: Any, url: str, reach: Reach | None = None) -> list[Any]:
    """What came of a request, as far as it is known."""
    client = WebClient(web_agent(reactor, reach or Reach(), names), reactor, clock=reactor.seconds)
    results: list[Any] = []
    Deferred.fromCoroutine(client.ask("GET", url, Headers())).addBoth(results.append)
    # One address after the other is tried, some tenths of a second apart.
    reactor.pump([0.3] * 5)
    return results


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_leads_to_this_machine_is_not_connected_to(scheme: str) -> None:
    reactor = MemoryReactorClock()
    names = Names(["127.0.0.1", "::1", "::ffff:10.0.0.1"])
    (failure,) = asked(reactor, names, f"{scheme}://rebound.example/hook?token=s3cret")
    failure.trap(DeliveryFailed)
    assert "leads to ::ffff:10.0.0.1, which is private: `allow`" in str(failure.value)
    assert "s3cret" not in str(failure.value)
    assert reactor.tcpClients == []


def test_a_name_that_leads_elsewhere_the_second_time_is_judged_the_second_time() -> None:
    reactor = MemoryReactorClock()
    names = Names(["1.1.1.1"], ["10.0.0.1"])
    assert asked(reactor, names, "http://rebound.example/") == []
    (failure,) = asked(reactor, names, "http://rebound.example/")
    failure.trap(DeliveryFailed)
    assert [host for host, *_ in reactor.tcpClients] == ["1.1.1.1"]


def test_of_several_addresses_only_those_in_reach_are_connected_to() -> None:
    reactor = MemoryReactorClock()
    names = Names(["192.168.0.1", "1.1.1.1", "10.0.0.1"])
    assert asked(reactor, names, "http://mixed.example/") == []
    assert [host for host, *_ in reactor.tcpClients] == ["1.1.1.1"]


def test_what_is_allowed_is_connected_to() -> None:
    reactor = MemoryReactorClock()
    reach = Reach([ip_network("10.0.0.0/8")])
    assert asked(reactor, Names(["10.0.0.1"]), "http://crm.internal/", reach) == []
    assert [host for host, *_ in reactor.tcpClients] == ["10.0.0.1"]


# Names.


class Waiting(MemoryReactorClock):
    """A reactor that does what threads ask of it when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: SimpleQueue[Any] = SimpleQueue()

    def callFromThread(self, call: Any, /, *args: Any, **_: Any) -> None:
        self.asked.put((call, args))

    def answered(self) -> None:
        call, args = self.asked.get(timeout=10)
        call(*args)


@define
class Hears:
    addresses: list[Any] = field(factory=list)
    complete: bool = False

    def resolutionBegan(self, resolution: Any) -> None:
        assert resolution.name

    def addressResolved(self, address: Any) -> None:
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        self.complete = True


def test_a_name_server_that_does_not_answer_holds_a_few_threads_and_nobody_else() -> None:
    reactor, end = Waiting(), Event()

    def silent(host: str, port: int) -> Any:
        end.wait(30)
        raise OSError("no answer")

    names = NameLookup(reactor, silent)
    waiting = [Hears() for _ in range(AT_ONCE)]
    for each in waiting:
        names.resolveHostName(each, "crm.example", 443)
    one_more, by_address = Hears(), Hears()
    names.resolveHostName(one_more, "crm.example", 443)
    assert (one_more.complete, one_more.addresses) == (True, [])
    # What needs no look-up does not wait for one.
    names.resolveHostName(by_address, "192.0.2.7", 443)
    assert by_address.addresses == [IPv4Address("TCP", "192.0.2.7", 443)]
    assert not any(each.complete for each in waiting)
    end.set()
    for _ in waiting:
        reactor.answered()
    assert all(each.complete and not each.addresses for each in waiting)


def test_a_name_leads_to_all_of_its_addresses_each_of_them_once() -> None:
    reactor, heard = Waiting(), Hears()
    found = [(None, None, None, "", (address, 443)) for address in ("192.0.2.7", "2001:db8::7", "192.0.2.7")]
    NameLookup(reactor, lambda host, port: found).resolveHostName(heard, "crm.example", 443)
    reactor.answered()
    assert heard.addresses == [IPv4Address("TCP", "192.0.2.7", 443), IPv6Address("TCP", "2001:db8::7", 443)]
