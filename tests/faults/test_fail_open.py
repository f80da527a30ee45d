"""The daemon stopped, killed or frozen under calls: each caller reaches a person, and each call the log."""

import signal
import time
from typing import Any

from lab.company import AnAgent, Company
from lab.laboratory import Answers, Calls, eventually
from lab.trace import CallResult
from tests.faults.evidence import guard_seconds, rung, seconds, settled

CALLS = 20


def many(company: Company, rate: float = 20) -> Calls:
    """Callers one after the other, each of whom talks for a moment."""
    return company.lab.calls(
        company.pbx,
        "494066969100",
        count=CALLS,
        rate=rate,
        from_number=[f"+49301234{index:04d}" for index in range(CALLS)],
        talk_ms=300,
    )


def times_agree(records: list[dict[str, Any]], results: list[CallResult]) -> None:
    """Each call has its record, and its end there is the end on the wire, to 1.5 s."""
    ends = {record["from_raw"]: seconds(record["ended"]) for record in records}
    for result in results:
        number = result.messages[0].from_number
        assert result.ended is not None
        assert abs(ends[number] - result.ended) < 1.5, number


def test_while_nobody_listens_every_call_reaches_the_fallback_and_later_the_log(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna")]) as company:
        results = many(company).wait()

        assert [result.final for result in results] == [200] * CALLS
        assert rung(company) == {"reception": CALLS}
        company.start()
        records = settled(company, CALLS)
        assert {(record["outcome"], record["agent"]) for record in records} == {("answered", None)}
        assert {record["to"] for record in records} == {"+494066969100"}
        times_agree(records, results)


def test_a_daemon_killed_while_calls_arrive_costs_no_call_and_no_record(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna"), AnAgent("ben"), AnAgent("cora")]) as company:
        company.start()
        calls = many(company)
        eventually(lambda: len(calls.results) >= CALLS // 2, pause=0.001, what="half of the calls")
        company.daemon.kill()
        results = calls.wait()

        assert [result.final for result in results] == [200] * CALLS
        assert rung(company)["reception"] >= CALLS // 2
        assert sum(rung(company).values()) >= CALLS
        company.start()
        records = settled(company, CALLS)
        assert {record["outcome"] for record in records} == {"answered"}
        # Who talked is who is named: an agent where one of theirs phones took it, else nobody of ours.
        by_agents = sum(record["agent"] is not None for record in records)
        assert by_agents == CALLS - rung(company)["reception"]
        times_agree(records, results)


def test_a_frozen_daemon_loses_each_call_to_the_fallback_after_three_seconds(tmp_path):
    agents = [AnAgent("anna", behaviour=Answers(after_ms=50)), AnAgent("ben", groups=(), state="paused")]
    with Company(tmp_path, agents=agents) as company:
        company.start()
        at_agent = company.call(from_number="015228817386")
        at_agent.wait_for(200)
        at_fallback = company.call(from_number="015228895456")
        at_fallback.wait_for(200)
        assert rung(company) == {"anna": 1, "reception": 1}

        company.daemon.signal(signal.SIGSTOP)
        results = many(company).wait()

        assert [result.final for result in results] == [200] * CALLS
        assert rung(company) == {"anna": 1, "reception": 1 + CALLS}
        guard = guard_seconds(company.pbx)
        waits = [result.answered - result.started for result in results if result.answered is not None]
        print(f"guard after {min(guard):.3f} to {max(guard):.3f} s")
        print(f"INVITE to answer at the fallback {min(waits):.3f} to {max(waits):.3f} s")
        assert len(guard) == CALLS
        assert min(guard) > 2.9
        assert max(waits) < 10
        # Who talked before goes on talking, and can hang up.
        assert at_agent.result.ended is None
        assert at_fallback.result.ended is None
        in_progress = [at_agent.hang_up(), at_fallback.hang_up()]
        assert [result.ended_by for result in in_progress] == ["caller", "caller"]

        company.daemon.signal(signal.SIGCONT)
        company.daemon.request("PATCH", "/api/v1/agents/ben", {"state": "ready"})
        records = settled(company, CALLS + 2)
        assert {record["outcome"] for record in records} == {"answered"}
        assert [record["agent"] for record in records if record["agent"]] == ["anna"]
        times_agree(records, [*results, *in_progress])
        # It goes on where it stopped.
        assert company.call(talk_ms=200).wait().final == 200
        assert rung(company)["anna"] + rung(company).get("ben", 0) == 2


def test_calls_in_progress_outlive_a_killed_daemon(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna"), AnAgent("ben")]) as company:
        company.start()
        calls = [company.call(from_number=number) for number in ("015228817386", "015228895456")]
        for call in calls:
            call.wait_for(200)
        company.daemon.kill()
        time.sleep(0.5)

        assert [call.result.ended for call in calls] == [None, None]
        results = [call.hang_up() for call in calls]
        assert [result.ended_by for result in results] == ["caller", "caller"]
        company.start()
        records = settled(company, 2)
        assert {record["agent"] for record in records} == {"anna", "ben"}
        assert {record["outcome"] for record in records} == {"answered"}
        times_agree(records, results)
