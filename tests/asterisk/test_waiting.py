"""Waiting for an agent on a real Asterisk: the line, its order, its steps, and what becomes of it in trouble."""

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from lab.company import AnAgent, Company, way_out
from lab.laboratory import Answers, RingsForever, eventually
from tests.asterisk.test_inbound import CUSTOMER, a_customer
from tests.faults.evidence import rung, seconds

LINE = {"name": "line", "wait": [{"for": 60, "dial": {"group": "sales"}}]}


def a_company(directory: Path, *agents: AnAgent, rules: Any = (LINE,), **more: Any) -> Company:
    service = {"rules": list(rules), "fallback": "old-context,s,1"}
    return Company(directory, list(agents), service=service, **more)


def in_state(company: Company, state: str) -> int:
    return sum(call["state"] == state for call in company.daemon.calls(limit="200"))


def ended(company: Company, count: int, timeout: float = 30.0) -> list[dict[str, Any]]:
    """All calls in full, oldest first, once so many are over."""
    eventually(lambda: in_state(company, "ended") == count, timeout, what=f"{count} calls are over")
    calls = company.daemon.calls(limit="200")
    assert len(calls) == count
    return [company.daemon.call(call["id"]) for call in calls[::-1]]


def test_who_waits_gets_the_first_agent_who_is_free(tmp_path: Path) -> None:
    with a_company(tmp_path, AnAgent("anna", behaviour=Answers(after_ms=100))) as company:
        company.start()
        first = company.call(talk_ms=1500, from_number="+491713920001")
        eventually(lambda: in_state(company, "connected") == 1, what="the first one talks")
        second = company.call(talk_ms=4000, from_number="+491713920002")
        eventually(lambda: in_state(company, "waiting") == 1, what="the second one waits")
        first.wait()
        eventually(lambda: in_state(company, "connected") == 1, what="the second one talks")
        second.wait()
        records = ended(company, 2)
        assert [record["outcome"] for record in records] == ["answered", "answered"]
        late = max(records, key=lambda record: record["started"])
        early = min(records, key=lambda record: record["started"])
        assert late["queued"] is not None
        assert seconds(late["answered"]) - seconds(early["ended"]) < 5


def order_of(records: list[dict[str, Any]]) -> list[str]:
    """The callers' numbers in the order in which somebody talked with them."""
    return [each["from"] for each in sorted(records, key=lambda record: record["answered"])]


def test_20_callers_for_3_agents_are_served_in_order_also_when_the_server_is_killed(tmp_path: Path) -> None:
    crew = [AnAgent("anna", behaviour=Answers(after_ms=50, hangs_up_after_ms=1200))]
    crew += [AnAgent(f"ben{n}", shares="anna") for n in range(2)]
    with a_company(tmp_path, *crew) as company:
        company.start()
        numbers = [f"+4917139200{n:02}" for n in range(20)]
        # Twenty a second: each comes behind the one before it.
        calls = company.lab.calls(company.pbx, "494066969100", count=20, rate=20, from_number=numbers)
        eventually(lambda: len(company.daemon.calls(limit="200")) == 20, 20, what="all have asked")
        assert in_state(company, "waiting") >= 10
        company.daemon.kill()
        company.daemon.start()
        records = ended(company, 20, 60)
        calls.wait()
        assert [record["outcome"] for record in records] == ["answered"] * 20
        served = order_of(records)
        waited = [each["from"] for each in sorted(records, key=lambda record: record["started"])]
        # Three talk at a time, so that those next to each other may change places, and no others.
        assert all(abs(served.index(number) - waited.index(number)) <= 3 for number in numbers), served
        assert {record["agent"] for record in records} == {"anna", "ben0", "ben1"}


def test_an_important_caller_passes_those_who_wait(tmp_path: Path) -> None:
    gold = {**LINE, "name": "gold", "when": {"from.number": "+491713920099"}, "priority": 10}
    anna = AnAgent("anna", behaviour=Answers(after_ms=50, hangs_up_after_ms=1500))
    with a_company(tmp_path, anna, rules=(gold, LINE)) as company:
        company.start()
        calls = [company.call(from_number=f"+49171392000{n}") for n in range(1)]
        eventually(lambda: in_state(company, "connected") == 1, what="anna talks")
        calls.append(company.call(from_number="+491713920001"))
        eventually(lambda: in_state(company, "waiting") == 1, what="somebody waits")
        calls.append(company.call(from_number="+491713920099"))
        records = ended(company, 3)
        for call in calls:
            call.wait()
        assert order_of(records) == ["+491713920000", "+491713920099", "+491713920001"]


def test_the_owner_is_waited_for_then_their_group_and_then_another_service_takes_the_call(
    tmp_path: Path,
) -> None:
    steps = {
        "name": "line",
        "wait": [{"for": 2, "dial": "owner"}, {"for": 2, "dial": {"group": "sales"}}],
    }
    services = {
        "sales": {
            "numbers": ["+494066969100"],
            "mode": "route",
            "fallback": "old-context,s,1",
            "rules": [steps, {"name": "overflow", "service": "help"}],
        },
        "help": {
            "numbers": ["+494066969200"],
            "mode": "route",
            "fallback": "old-context,s,1",
            "rules": [{"name": "boris", "dial": {"agent": "boris"}}],
        },
    }
    crew = [
        AnAgent("anna", state="paused"),
        AnAgent("cem", state="paused"),
        AnAgent("boris", behaviour=Answers(after_ms=100, hangs_up_after_ms=300), groups=["help"]),
    ]
    with Company(tmp_path, crew, settings={"services": services}) as company:
        company.knows(a_customer())
        company.start()
        call = company.call(from_number=CUSTOMER)
        (record,) = ended(company, 1)
        call.wait()
        assert (record["outcome"], record["agent"], record["rule"]) == ("answered", "boris", "boris")
        assert record["segments"][0]["service"] == "help"
        assert 3.5 <= seconds(record["ringing"]) - seconds(record["started"]) <= 8
        decisions = record["decisions"]
        assert [decision["action"] for decision in decisions] == ["wait", "wait", "dial"]
        assert decisions[0]["reason"].startswith("line: waits for the owner, step 1 of 2: anna is the owner")
        assert decisions[1]["reason"].startswith("line: waits for sales, step 2 of 2")
        # Each step has its time, to the end.
        times = [seconds(decision["at"]) for decision in decisions]
        assert all(after - before >= 1.9 for before, after in pairwise(times)), times


def test_a_caller_who_hangs_up_in_the_line_is_abandoned_and_in_the_worklist(tmp_path: Path) -> None:
    with a_company(tmp_path, AnAgent("anna", state="paused")) as company:
        company.start()
        call = company.call(from_number="+491713920001", talk_ms=800)
        (record,) = ended(company, 1)
        call.wait()
        assert (record["outcome"], record["agent"]) == ("abandoned", None)
        (entry,) = company.daemon.get("/api/v1/callbacks")["callbacks"]
        assert entry["number"] == "+491713920001"


def test_the_position_is_announced_and_an_agent_who_comes_free_does_not_wait_for_its_end(
    tmp_path: Path,
) -> None:
    rule = {**LINE, "comfort": {"every": 30, "position": True}}
    with a_company(tmp_path, AnAgent("anna", state="paused"), rules=(rule,)) as company:
        company.start()
        call = company.call(from_number="+491713920001", talk_ms=6000)
        eventually(lambda: company.pbx.log("queue-youarenext"), what="the announcement")
        company.daemon.run("agents", "set", "anna", "--state", "ready")
        eventually(lambda: in_state(company, "connected") == 1, what="they talk")
        call.wait()


def test_all_phones_of_a_group_ring_and_it_is_one_miss_for_nobody_who_answered(tmp_path: Path) -> None:
    rule = {"name": "all", "dial": {"group": "sales", "all": True}, "timeout": 10}
    crew = [
        AnAgent("anna", behaviour=RingsForever()),
        AnAgent("ben", behaviour=Answers(after_ms=400, hangs_up_after_ms=300)),
    ]
    with a_company(tmp_path, *crew, rules=(rule,)) as company:
        company.start()
        call = company.call(from_number="+491713920001")
        (record,) = ended(company, 1)
        call.wait()
        assert (record["outcome"], record["agent"]) == ("answered", "ben")
        (segment,) = record["segments"]
        assert sorted(segment["agents"]) == ["anna", "ben"]
        rings = [event for event in record["events"] if event["type"] == "call.ringing"]
        assert len(rings) == 1


def test_all_phones_of_a_group_that_ring_in_vain_are_one_miss_and_one_entry_in_the_worklist(
    tmp_path: Path,
) -> None:
    rule = {"name": "all", "dial": {"group": "sales", "all": True}, "timeout": 10}
    crew = [AnAgent(name, behaviour=RingsForever()) for name in ("anna", "ben", "cora")]
    with a_company(tmp_path, *crew, rules=(rule,)) as company:
        company.start()
        call = company.call(from_number="+491713920001")
        eventually(lambda: len(rung(company)) == 3, what="all three ring")
        call.hang_up()
        (record,) = ended(company, 1)
        assert (record["outcome"], record["agent"]) == ("missed", None)
        (segment,) = record["segments"]
        assert sorted(segment["agents"]) == ["anna", "ben", "cora"]
        assert [event["type"] for event in record["events"]].count("call.missed") == 1
        (entry,) = company.daemon.get("/api/v1/callbacks")["callbacks"]
        assert (entry["number"], entry["tries"]) == ("+491713920001", 1)


def test_a_hundred_times_an_agent_comes_free_as_the_step_ends_and_each_is_collected_once(
    tmp_path: Path,
) -> None:
    # Each second all who wait ask by themselves, and about then eight agents become free and are promised to them.
    steps = [{"for": 1, "dial": {"group": "sales"}}] * 19 + [{"for": 600, "dial": {"group": "sales"}}]
    crew = [AnAgent("anna", behaviour=Answers(after_ms=20, hangs_up_after_ms=930))]
    crew += [AnAgent(f"ben{n}", shares="anna") for n in range(7)]
    with a_company(tmp_path, *crew, rules=({"name": "line", "wait": steps},)) as company:
        company.start()
        numbers = [f"+4917139200{n:02}" for n in range(100)]
        calls = company.lab.calls(company.pbx, "494066969100", count=100, rate=25, from_number=numbers)
        records = ended(company, 100, 120)
        calls.wait()
        assert [record["outcome"] for record in records] == ["answered"] * 100
        talked = [
            [segment for segment in record["segments"] if segment["result"] == "answered"]
            for record in records
        ]
        assert [len(segments) for segments in talked] == [1] * 100
        # Nobody had two callers at a time.
        spans = sorted(
            (segment["agent"], seconds(segment["answered"]), seconds(segment["ended"]))
            for (segment,) in talked
        )
        for (agent, _, end), (other, begin, _) in pairwise(spans):
            assert agent != other or begin >= end - 0.1
        said = [line["event"] for line in company.daemon.log()]
        assert "a waiting call did not come for its agent" not in said
        again = sum(len(record["segments"]) > 1 for record in records)
        print(f"{again} of 100 were cut off by the bell and got the same once more")


def test_a_key_leaves_the_line_keeps_the_place_and_is_called_back_before_those_behind(tmp_path: Path) -> None:
    rule = {**LINE, "callback_key": {"key": "1", "sounds": "beep"}}
    company = a_company(
        tmp_path,
        AnAgent("anna", state="paused"),
        rules=(rule,),
        trunk=Answers(after_ms=100, hangs_up_after_ms=300),
        more_extensions=way_out(5),
    )
    with company:
        company.start()
        caller = company.call(from_number="+493023125101")
        caller.wait_for(200)
        eventually(lambda: in_state(company, "waiting") == 1, what="the first one waits")
        company.call(from_number="+493023125102", talk_ms=8000)
        eventually(lambda: in_state(company, "waiting") == 2, what="the second one waits")
        caller.leg.press("1")
        eventually(lambda: in_state(company, "waiting") == 1, what="the first one has gone")
        (entry,) = company.daemon.get("/api/v1/callbacks")["callbacks"]
        assert (entry["number"], entry["in_line"]) == ("+493023125101", True)
        # The place is kept when the server is killed, too.
        company.daemon.kill()
        company.daemon.start()
        company.daemon.run("agents", "set", "anna", "--state", "ready")
        done = eventually(
            lambda: company.daemon.get("/api/v1/callbacks", state="done")["callbacks"],
            20,
            what="they were called back",
        )
        called = company.daemon.call(done[0]["done_by"])
        assert (called["direction"], called["to"], called["agent"]) == ("outbound", "+493023125101", "anna")
        eventually(
            lambda: [
                each
                for each in company.daemon.calls()
                if each["from"] == "+493023125102" and each["answered"]
            ],
            20,
            what="then it was the second one's turn",
        )


def test_in_parallel_mode_phones_ring_as_before_and_the_card_is_there_as_they_ring(tmp_path: Path) -> None:
    # The company's own way rings anna's phone.
    company = a_company(
        tmp_path,
        AnAgent("anna", behaviour=Answers(after_ms=800, hangs_up_after_ms=300)),
        rules=({"name": "rest", "dial": {"group": "sales"}},),
        more_extensions="[own-way]\nexten => s,1,Dial(PJSIP/anna,20)\n same => n,Hangup()\n",
    )
    company.service = {**company.service, "mode": "parallel", "fallback": "own-way,s,1"}
    with company:
        company.start()
        stream = company.daemon.events()
        call = company.call(from_number="+493023125101")
        stream.wait_for("card.offered")
        stream.wait_for("call.ringing")
        call.wait()
        (record,) = ended(company, 1)
        assert (record["mode"], record["outcome"], record["agent"]) == ("parallel", "answered", "anna")
        assert record["segments"][0]["reason"] == "rung by the fallback"
        assert record["decisions"][0]["rule"] == "rest"


def test_on_a_day_on_which_the_company_is_closed_callers_hear_that(tmp_path: Path) -> None:
    # Whatever day it is, and should midnight pass meanwhile.
    today = datetime.now(ZoneInfo("Europe/Berlin")).date()
    hours = {
        "time_zone": "Europe/Berlin",
        "week": {"mon-sun": "00:00-24:00"},
        "dates": {f"{today}..{today + timedelta(days=1)}": "closed"},
    }
    rules = [{"name": "closed", "when": {"hours": "closed"}, "announce": "beep"}, LINE]
    service = {"rules": rules, "fallback": "old-context,s,1", "hours": "office"}
    with Company(
        tmp_path, [AnAgent("anna")], service=service, settings={"hours": {"office": hours}}
    ) as company:
        company.start()
        company.call(from_number="+493023125101").wait()
        (record,) = ended(company, 1)
        assert (record["outcome"], record["rule"], record["agent"]) == ("self_service", "closed", None)
