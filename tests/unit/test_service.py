"""The wiring: what the server says of itself and what it counts, without a network."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher

from cti.asterisk.ami import AmiActionFailed
from cti.asterisk.ami_parser import Event, Response
from cti.calls.web_client import web_agent
from cti.commands.configuration import read_settings
from cti.reach import Reach
from cti.service import CtiService
from cti.settings import Desk
from cti.store.base import CallDetail
from cti.store.records import AgentRecord, CallRecord

SAMPLE = Path(__file__).parents[2] / "config" / "small.yaml"


class StoreAtWork:
    """As much of a store as health and a restart ask for."""

    def __init__(self, *calls: CallRecord) -> None:
        self.trouble: str | None = None
        self._calls = calls

    def event_range(self) -> tuple[int, int]:
        return (1, 2)

    def writing(self) -> str | None:
        return self.trouble

    def open_calls(self) -> list[CallDetail]:
        return [CallDetail(call, [], [], [], [], [], []) for call in self._calls]


@pytest.fixture
def service(tmp_path: Path) -> CtiService:
    config = tmp_path / "cti.yaml"
    config.write_text(SAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    return CtiService(read_settings(config), MemoryReactorClock())


def a_call(id: str = "c1", **fields: Any) -> CallRecord:
    return CallRecord(**{"id": id, "pbx": "main", "started": 100.0, "service": "sales", **fields})


def sample(service: CtiService, name: str) -> float | None:
    service.metrics.refresh()
    return service.metrics.registry.get_sample_value(name, {"service": "sales"})


def test_a_store_that_cannot_write_makes_the_server_unwell_and_not_ready(service: CtiService) -> None:
    store = service.store = StoreAtWork()
    assert service.health()["store"].ok
    store.trouble = "the disk that holds /srv/cti.db is full"
    for components in (service.health(), service.ready()):
        assert not components["store"].ok
        assert "/srv" not in components["store"].detail


def test_ami_that_is_away_is_named_and_not_needed(service: CtiService) -> None:
    service.store = StoreAtWork()
    components = service.ready()
    assert not components["ami.main"].ok
    assert {name for name, part in components.items() if part.needed} == {"store", "fastagi"}


@pytest.mark.parametrize(("version", "warned"), [("16.27.0", True), ("16.28.0~dfsg-0+deb11u4", False)])
def test_an_asterisk_that_cannot_do_what_we_need_is_named_when_it_is_reached(
    service: CtiService, capsys: pytest.CaptureFixture[str], version: str, warned: bool
) -> None:
    class OldAsterisk:
        async def action(self, _name: str, **_fields: str) -> Response:
            return Response({"Response": "Success", "AsteriskVersion": version})

        async def list_action(self, _name: str, **_fields: str) -> list[Event]:
            raise AmiActionFailed("Invalid/unknown command")

    client: Any = OldAsterisk()
    service._pbxes["main"].client = client
    Deferred.fromCoroutine(service._up("main")).addErrback(lambda failure: failure.trap(AmiActionFailed))
    assert ("DBGetTree" in capsys.readouterr().out) is warned


def test_connections_that_are_not_taken_count_as_shed(service: CtiService) -> None:
    factory = service._agi
    from_loopback = IPv4Address("TCP", "127.0.0.1", 40000)
    while (session := factory.buildProtocol(from_loopback)) is not None:
        factory.opened(session)
    assert service.metrics.registry.get_sample_value("cti_shed_total") == 1


def test_the_wait_of_answered_inbound_calls_is_measured(service: CtiService) -> None:
    service._call_ended(a_call(answered=104.5, ended=160.0, outcome="answered"))
    service._call_ended(a_call(ended=120.0, outcome="missed"))
    service._call_ended(a_call(direction="outbound", answered=109.0, ended=160.0, outcome="answered"))
    assert sample(service, "cti_wait_seconds_count") == 1
    assert sample(service, "cti_wait_seconds_sum") == 4.5


def test_callers_wait_until_somebody_or_something_takes_them(service: CtiService) -> None:
    service.metrics.at_scrape(service._feed_gauges)
    assert sample(service, "cti_waiting_calls") == 0
    service.calls.store = StoreAtWork(
        a_call("c1", state="asked"),
        a_call("c2", state="offered"),
        a_call("c3", state="connected"),
        a_call("c4", state="elsewhere"),
        a_call("c5", state="offered", service=None),
    )
    service.calls.restore()
    assert sample(service, "cti_waiting_calls") == 2


def test_an_attempt_to_deliver_a_webhook_adds_no_line_to_the_log() -> None:
    lines: list[str] = []

    def observe(event: Any) -> None:
        lines.append(str(event.get("log_format") or event.get("log_text") or event))

    reactor = MemoryReactorClock()
    globalLogPublisher.addObserver(observe)
    try:
        here = Reach([ip_network("127.0.0.1/32")])
        web_agent(reactor, here).request(b"GET", b"http://127.0.0.1:1/", None, None)  # type: ignore[arg-type]
        (_, _, factory, _, _) = reactor.tcpClients[0]
        factory.doStart()
        factory.doStop()
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not [line for line in lines if "factory" in line.lower()]


def test_where_a_desktop_is_needed_only_who_has_one_open_is_offered_calls(service: CtiService) -> None:
    service.roster.load([AgentRecord("anna", "Anna", ["PJSIP/anna"], wish="ready")])
    service.roster.device_state("main", "PJSIP/anna", "NOT_INUSE")
    service.settings = evolve(service.settings, desk=Desk(ready_without_desktop=False))
    service._look_at_desktops()
    assert service.roster.agents["anna"].why_not is None, "the server has just started"
    service._reactor.advance(20)
    service._look_at_desktops()
    assert service.roster.agents["anna"].why_not == "has no desktop open"
    service.settings = evolve(service.settings, desk=Desk())
    service._look_at_desktops()
    assert service.roster.agents["anna"].why_not is None
