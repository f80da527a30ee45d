"""The wiring: what the server says of itself and what it counts, without a network."""

from collections.abc import Sequence
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
from cti.settings import Desk, PauseReason, SetAsideAfter
from cti.store.base import CallDetail
from cti.store.records import AgentRecord, CallRecord, SegmentRecord
from tests.unit.calls import RecordingUnit

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


class SlowStore:
    """One that has Anna as she was, and does not come to an end with what it is to write."""

    def __init__(self) -> None:
        self.units: list[RecordingUnit] = []
        self.writing: Deferred[Sequence[Any]] = Deferred()

    def unit(self) -> RecordingUnit:
        return RecordingUnit()

    def commit(self, unit: RecordingUnit, *, at_leisure: bool = False) -> Deferred[Sequence[Any]]:
        self.units.append(unit)
        return self.writing

    def agents(self) -> list[AgentRecord]:
        return [anna()]

    def listed_numbers(self) -> list[Any]:
        return []


def anna() -> AgentRecord:
    return AgentRecord("anna", "Anna", ["PJSIP/anna"], wish="ready")


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


def test_who_is_set_aside_is_so_in_the_store_and_what_a_command_writes_meanwhile_does_not_undo_it(
    service: CtiService, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = SlowStore()
    service.store = service.calls.store = store
    monkeypatch.setattr(service.erasures, "look", lambda: None)
    service.roster.load([anna()])
    service._not_answered(
        "anna", SegmentRecord("c1", 1, 1, "sales", ["anna"], "PJSIP/anna", "owner", "", 1.0)
    )
    (unit,) = store.units
    assert [(row.id, row.wish, row.reason) for row in unit.rows] == [("anna", "paused", "no_answer")]
    service._foreign_change()
    assert service.roster.view("anna").reason == "no_answer", "the store does not have it yet"
    store.writing.callback(())
    service._foreign_change()
    assert service.roster.view("anna").reason is None, "from now on the store is right"


def test_who_is_over_the_time_of_their_pause_is_counted(service: CtiService) -> None:
    service._reactor.advance(10_000)
    now = service._now()
    service.settings = evolve(service.settings, desk=Desk(pauses={"lunch": PauseReason(minutes=45)}))
    service.roster.load(
        [
            evolve(anna(), wish="paused", reason="lunch", wish_since=now - 2701),
            evolve(anna(), id="ben", wish="paused", reason="lunch", wish_since=now - 2699),
            evolve(anna(), id="cem", wish="paused", reason="dentist", wish_since=now - 9999),
        ]
    )
    service.calls.store = StoreAtWork()
    service.metrics.at_scrape(service._feed_gauges)
    service.metrics.refresh()
    assert service.metrics.registry.get_sample_value("cti_agents_over_pause") == 1


def test_where_it_is_off_nobody_is_set_aside(service: CtiService) -> None:
    service.roster.load([anna()])
    service.settings = evolve(service.settings, set_aside_after=SetAsideAfter(1, {"sales": 0}))
    service._not_answered(
        "anna", SegmentRecord("c1", 1, 1, "sales", ["anna"], "PJSIP/anna", "owner", "", 1.0)
    )
    assert service.roster.view("anna").state == "ready"


def test_skills_that_a_supervisor_sets_count_at_once_and_are_written(service: CtiService) -> None:
    store: Any = SlowStore()
    service.store = service.calls.store = store
    service.roster.load([anna()])
    with pytest.raises(ValueError, match="is no skill; a name of up to 64"):
        service.set_skills("anna", {"no/name": 5}, "boss")
    service.set_skills("anna", {"german": 5}, "boss")
    assert service.roster.agents["anna"].skills == {"german": 5}
    assert [unit.rows for unit in store.units] == [[("skills", "anna", {"german": 5})]]
