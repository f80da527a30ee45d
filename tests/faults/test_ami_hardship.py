"""AMI at its worst: restarts under many calls, a long outage, half an event and then nothing, a flood of events."""

import time
from pathlib import Path
from typing import Any

import pytest

from lab.company import DID, AnAgent, Company
from lab.laboratory import Answers, Calls, RingsForever, eventually
from lab.trace import CallResult
from tests.faults.evidence import seconds, settled
from tests.faults.link import Link

SUPPORT, SUPPORT_DID = "+494066969200", "494066969200"
UP, RINGING = 20, 5


def a_desk(name: str, size: int, behaviour: Any, group: str) -> list[AnAgent]:
    """So many agents whose phones all behave alike."""
    first = AnAgent(f"{name}0", behaviour=behaviour, groups=[group])
    others = [AnAgent(f"{name}{index}", groups=[group], shares=first.id) for index in range(1, size)]
    return [first, *others]


def a_service(number: str, group: str, timeout: int) -> dict[str, Any]:
    return {
        "numbers": [number],
        "mode": "route",
        "fallback": "old-context,s,1",
        "rules": [{"name": "rest", "dial": {"group": group}, "timeout": timeout}],
    }


def a_company(
    directory: Path, agents: list[AnAgent], link: Link | None = None, more_extensions: str = ""
) -> Company:
    services = {
        "sales": a_service("+494066969100", "sales", 30),
        "support": a_service(SUPPORT, "support", 60),
    }
    groups = {group for agent in agents for group in agent.groups}
    more: dict[str, Any] = {
        "services": {name: service for name, service in services.items() if name in groups},
    }
    if link is not None:
        ami = {"ami": f"127.0.0.1:{link.port}", "username": "cti", "secret": {"env": "AMI_SECRET"}}
        more["asterisks"] = {"main": ami}
    return Company(directory, agents, settings=more, more_extensions=more_extensions)


def callers(company: Company, count: int, did: str, first: int) -> Calls:
    numbers = [f"+4917139200{first + index:02d}" for index in range(count)]
    return company.lab.calls(company.pbx, did, count=count, rate=20, from_number=numbers)


def in_state(company: Company, state: str) -> int:
    return sum(1 for call in company.daemon.calls(limit="200") if call["state"] == state)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_asterisk_restarted_with_20_calls_up_and_5_ringing(tmp_path, how):
    agents = [
        *a_desk("anna", UP, Answers(after_ms=100), "sales"),
        *a_desk("rita", RINGING, RingsForever(), "support"),
    ]
    with a_company(tmp_path, agents) as company:
        company.start()
        talking = callers(company, UP, DID, 0)
        waiting = callers(company, RINGING, SUPPORT_DID, 50)
        eventually(lambda: in_state(company, "connected") == UP, 20, what="20 calls up")
        eventually(
            lambda: sum(1 for call in company.daemon.calls(limit="200") if call["ringing"]) == UP + RINGING,
            what="5 ringing",
        )

        if how == "killed":
            company.pbx.kill()
        else:
            company.pbx.stop()
        stopped = time.time()
        company.pbx.start()
        eventually(lambda: company.daemon.metric("cti_ami_up", pbx="main") == 1, 20, what="AMI")
        records = settled(company, UP + RINGING)

        outcomes = [record["outcome"] for record in records]
        assert (outcomes.count("answered"), outcomes.count("missed")) == (UP, RINGING)
        assert len({record["agent"] for record in records if record["agent"]}) == UP
        assert all(abs(seconds(record["ended"]) - stopped) < 3 for record in records)
        talking.stop()
        waiting.stop()
        assert company.call(talk_ms=100).wait().final == 200, "and it goes on"


def events_of(count: int) -> bytes:
    """So many events of channels that nobody knows, every one of a kind that is wanted."""
    head = "Event: Newstate\r\nPrivilege: call,all\r\nTimestamp: 1700000000.000001\r\n"
    body = (
        "ChannelState: 6\r\nChannelStateDesc: Up\r\nCallerIDNum: 03023125{0:03d}\r\nCallerIDName: A Name\r\n"
        "ConnectedLineNum: <unknown>\r\nConnectedLineName: <unknown>\r\nLanguage: en\r\nAccountCode: \r\n"
        "Context: from-trunk\r\nExten: 100\r\nPriority: 1\r\nUniqueid: flood.{1}\r\nLinkedid: flood.{1}\r\n\r\n"
    )
    # A new channel, a change of it, its end: nothing of them may stay behind.
    kinds = ("Newchannel", "Newstate", "Hangup")
    return "".join(
        head.replace("Newstate", kinds[index % 3])
        + f"Channel: PJSIP/flood-{index // 3:08x}\r\n"
        + body.format(index % 1000, index // 3)
        for index in range(count)
    ).encode()


def resident_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("the process has no VmRSS")


def test_a_hundred_thousand_events_in_a_burst_lose_no_call_and_leave_no_memory(tmp_path):
    link = Link()
    with a_company(tmp_path, a_desk("anna", 8, Answers(after_ms=100), "sales"), link) as company:
        link.target = company.pbx.ami_port
        company.start()
        assert company.call(talk_ms=100, from_number="+491713920090").wait().final == 200
        flood = events_of(100_000)
        # The first burst lets caches and pools grow to their size.
        before = 0
        for index, burst in enumerate((flood[: len(flood) // 5], flood)):
            counted = company.daemon.metric("cti_ami_events_total", event="Hangup")
            hangups = burst.count(b"Event: Hangup")
            link.inject(burst)
            began = time.monotonic()
            calls = callers(company, 6, DID, 10 * index)
            eventually(
                lambda counted=counted, hangups=hangups: (
                    company.daemon.metric("cti_ami_events_total", event="Hangup") >= counted + hangups
                ),
                240,
                what="the end of the burst",
            )
            took = time.monotonic() - began
            eventually(lambda: in_state(company, "connected") == 6, 10, what="the calls of the burst")
            calls.hang_up()
            calls.wait()
            settled(company, 1 + 6 * (index + 1))
            if index == 0:
                before = resident_kb(company.daemon.pid)
        grown = resident_kb(company.daemon.pid) - before
        print(f"100,000 events in {took:.1f} s; resident memory grew by {grown} kB")
        assert grown < 20_000
        assert company.daemon.metric("cti_ami_up", pbx="main") == 1


def test_half_an_event_and_then_silence_is_noticed_and_nothing_is_lost(tmp_path):
    link = Link()
    with a_company(tmp_path, a_desk("anna", 4, Answers(after_ms=100), "sales"), link) as company:
        link.target = company.pbx.ami_port
        company.start()
        first = callers(company, 2, DID, 0)
        eventually(lambda: in_state(company, "connected") == 2, what="two calls up")

        link.stall(after=150)
        first.hang_up()
        first.wait()
        # 15 s to the ping, 5 s for its answer.
        eventually(
            lambda: company.daemon.metric("cti_ami_up", pbx="main") == 0, 30, what="the silence noticed"
        )
        link.heal()
        eventually(lambda: company.daemon.metric("cti_ami_up", pbx="main") == 1, 30, what="AMI again")
        records = settled(company, 2)
        assert {record["outcome"] for record in records} == {"answered"}
        # Not when it was noticed: when the callers hung up.
        ends = {result.messages[0].from_number: result.ended for result in first.results}
        for record in records:
            assert abs(seconds(record["ended"]) - (ends[record["from_raw"]] or 0)) < 1.5


#: Phones that call each other, and the outside, without asking anybody.
PHONES = """
[from-phones]
exten => _X!,1,Dial(PJSIP/reception,30)
"""


@pytest.mark.parametrize(
    ("records_kept", "pause"), [(True, 30), (False, 3)], ids=["with-call-records-30-s", "without"]
)
def test_ami_cut_off_loses_no_call_that_asked_us_and_owns_up_to_the_others(tmp_path, records_kept, pause):
    link = Link()
    agents = a_desk("anna", 6, Answers(after_ms=100), "sales")
    with a_company(tmp_path, agents, link, more_extensions=PHONES) as company:
        link.target = company.pbx.ami_port
        if records_kept:
            company.daemon.settings["asterisks"]["main"]["cdr"] = {"file": str(company.pbx.cdr_file)}  # type: ignore[index]
        company.start()
        phone = company.phones["anna0"]
        over_before = company.lab.dial(phone, company.pbx, "03023125001", talk_ms=100).wait()
        ends_meanwhile, outlives = callers(company, 2, DID, 0), callers(company, 2, DID, 10)
        eventually(lambda: in_state(company, "connected") == 4, what="four calls up")

        link.cut()
        began = time.monotonic()
        eventually(lambda: company.daemon.metric("cti_ami_up", pbx="main") == 0, what="the outage")
        results = {result.messages[0].from_number: result for result in _hung_up(ends_meanwhile)}
        during = company.lab.calls(
            company.pbx, DID, count=2, rate=20, from_number=["+491713920020", "+491713920021"], talk_ms=300
        )
        results |= {result.messages[0].from_number: result for result in during.wait()}
        unheard = company.lab.dial(phone, company.pbx, "03023125002", talk_ms=1200).wait()
        assert (over_before.final, unheard.final) == (200, 200)
        time.sleep(max(0.0, pause - (time.monotonic() - began)))
        link.heal()
        eventually(lambda: company.daemon.metric("cti_ami_up", pbx="main") == 1, 40, what="AMI again")
        results |= {result.messages[0].from_number: result for result in _hung_up(outlives)}

        records = settled(company, 8 if records_kept else 7, timeout=30)
        assert {record["outcome"] for record in records} == {"answered"}
        for record in records:
            if record["direction"] == "inbound":
                assert abs(seconds(record["ended"]) - (results[record["from_raw"]].ended or 0)) < 1.5
        made_by_anna = [record for record in records if record["direction"] == "outbound"]
        assert {record["agent"] for record in made_by_anna} == {"anna0"}
        dialled = [record["to"] for record in made_by_anna]
        (gap,) = company.daemon.get("/api/v1/gaps")["gaps"]
        assert seconds(gap["until"]) - seconds(gap["since"]) >= pause
        if records_kept:
            assert dialled == ["+493023125001", "+493023125002"]
            assert abs(made_by_anna[1]["talk"] - 1.2) < 1.5
            assert (gap["recovered"], gap["why"]) == (1, None)
        else:
            assert dialled == ["+493023125001"]
            assert gap["recovered"] is None
            assert "no call records are configured" in gap["why"]
            assert company.daemon.metric("cti_ami_gap_seconds_total", pbx="main") >= pause


def _hung_up(calls: Calls) -> list[CallResult]:
    calls.hang_up()
    return calls.wait()
