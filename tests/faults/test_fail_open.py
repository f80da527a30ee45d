"""The daemon stopped, killed or frozen under calls: each caller reaches a person, and each call the log."""

import signal
from typing import Any

from lab.company import AnAgent, Company
from lab.laboratory import Calls, RingsForever, eventually
from lab.trace import CallResult
from tests.faults.evidence import guard_seconds, rung, seconds, settled
from tests.faults.link import Link

CALLS = 20
#: So many that a daemon which wakes up reads Asterisk's questions in the midst of what AMI has to tell.
CALLS_TO_A_FROZEN_ONE = 100


def many(company: Company, count: int = CALLS) -> Calls:
    """Callers one after the other, within a second or two, each of whom talks for a moment."""
    return company.lab.calls(
        company.pbx,
        "494066969100",
        count=count,
        rate=max(20, count / 2),
        from_number=[f"+4917139200{index:02d}" for index in range(count)],
        talk_ms=300,
    )


def states(company: Company) -> dict[str, str]:
    return {id: agent["state"] for id, agent in company.daemon.agents().items()}


def times_agree(records: list[dict[str, Any]], results: list[CallResult]) -> None:
    """Each call has its record, and its end there is the end on the wire, to 1.5 s."""
    assert [record for record in records if record["duration"] < 0 or record["talk"] < 0] == []
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
    agents = [AnAgent("anna"), AnAgent("ben", behaviour=RingsForever())]
    with Company(tmp_path, agents=agents) as company:
        company.start()
        at_agent = company.call(from_number="015228817386")
        at_agent.wait_for(200)
        ringing = company.call(from_number="015228895456")
        eventually(lambda: company.phones["ben"].invites, what="Ben's phone")
        at_fallback = company.call(from_number="015254599371")
        at_fallback.wait_for(200)
        in_progress = [at_agent, ringing, at_fallback]
        assert rung(company) == {"anna": 1, "ben": 1, "reception": 1}

        company.daemon.signal(signal.SIGSTOP)
        results = many(company, CALLS_TO_A_FROZEN_ONE).wait()

        assert [result.final for result in results] == [200] * CALLS_TO_A_FROZEN_ONE
        # Ben's caller has come here too, after the ringing.
        ringing.wait_for(200)
        assert rung(company) == {"anna": 1, "ben": 1, "reception": CALLS_TO_A_FROZEN_ONE + 2}
        guard = guard_seconds(company.pbx)
        waits = [result.answered - result.started for result in results if result.answered is not None]
        print(f"guard after {min(guard):.3f} to {max(guard):.3f} s")
        print(f"INVITE to answer at the fallback {min(waits):.3f} to {max(waits):.3f} s")
        assert len(guard) == CALLS_TO_A_FROZEN_ONE + 1
        assert min(guard) > 2.9
        assert max(waits) < 10
        # Who talked before goes on talking, and can hang up.
        assert [call.result.ended for call in in_progress] == [None] * 3
        ends = [call.hang_up() for call in in_progress]
        assert [result.ended_by for result in ends] == ["caller"] * 3

        company.daemon.signal(signal.SIGCONT)
        records = settled(company, CALLS_TO_A_FROZEN_ONE + 3)
        assert {record["outcome"] for record in records} == {"answered"}
        assert [record["agent"] for record in records if record["agent"]] == ["anna"]
        times_agree(records, [*results, *ends])
        # Nobody was offered a caller who talked at the fallback already.
        late = [record["rule"] for record in records if record["from_raw"].startswith("+4917139200")]
        assert late == [None] * CALLS_TO_A_FROZEN_ONE
        (of_ben,) = (record for record in records if record["from_raw"] == "015228895456")
        assert company.daemon.call(of_ben["id"])["segments"][0]["agents"] == ["ben"]
        # It goes on where it stopped.
        assert company.call(talk_ms=200).wait().final == 200
        assert rung(company)["anna"] == 2


def test_an_answer_that_breaks_off_in_the_middle_is_no_answer(tmp_path):
    """The daemon has decided, logged and shown; the last word of its answer never arrives."""
    link = Link(breaks_at=b"CTI_ACTION")
    globals_ = f"\n[globals]\nCTI_SERVER = 127.0.0.1:{link.port}\n"
    with Company(tmp_path, agents=[AnAgent("anna"), AnAgent("ben")], more_extensions=globals_) as company:
        link.target = company.daemon.agi_port
        company.start()

        # Only the connection breaks: the daemon lives and lets go of the agent at once.
        connection_lost = company.call(from_number="+491713920000")
        connection_lost.wait_for(200)
        eventually(lambda: states(company) == {"anna": "ready", "ben": "ready"}, what="the agent let go")
        results = [connection_lost.hang_up()]

        # The daemon dies with it, and both agents stay held in the log; one call ends before it comes back.
        link.may_break.clear()
        ends_before, ends_after = [company.call(from_number=f"+49171392000{index}") for index in (1, 2)]
        eventually(lambda: link.broken == 3, pause=0.001, what="both answers on hold")
        company.daemon.kill()
        link.may_break.set()
        for call in (ends_before, ends_after):
            call.wait_for(200)
        results.append(ends_before.hang_up())
        company.start()
        (open_call,) = eventually(
            lambda: [call for call in company.daemon.calls() if call["answered"] and not call["ended"]],
            what="the call that goes on, in the log",
        )
        assert open_call["from_raw"] == "+491713920002"
        assert states(company) == {"anna": "ready", "ben": "ready"}
        results.append(ends_after.hang_up())

        assert rung(company) == {"reception": 3}
        records = settled(company, 3)
        assert {(record["outcome"], record["agent"]) for record in records} == {("answered", None)}
        times_agree(records, results)


#: What is on its way when the daemon dies: the question, the first word of the answer, each further one, the last.
STAGES = (
    *(b"agi_arg_1: ", b"__CTI_CALL_ID", b"CTI_TARGET", b"CTI_TIMEOUT", b"CTI_REASON", b"CTI_CARD_URL"),
    b"CTI_ACTION",
)


def test_a_daemon_killed_at_any_stage_of_a_question_costs_no_call_and_no_record(tmp_path):
    link = Link()
    globals_ = f"\n[globals]\nCTI_SERVER = 127.0.0.1:{link.port}\n"
    with Company(tmp_path, agents=[AnAgent("anna"), AnAgent("ben")], more_extensions=globals_) as company:
        link.target = company.daemon.agi_port
        company.start()
        results = []

        def killed_at(stage: bytes, *, let_through: bool) -> None:
            link.breaks_at, link.breaks_after = (None, stage) if let_through else (stage, None)
            link.may_break.clear()
            before, count = link.broken, len(results)
            call = company.call(from_number=f"+49171392000{count}")
            eventually(lambda: link.broken > before, pause=0.001, what=f"the stage {stage!r}")
            company.daemon.kill()
            link.may_break.set()
            call.wait_for(200)
            # Every other one hangs up before the daemon comes back.
            if count % 2:
                results.append(call.hang_up())
            link.breaks_at = link.breaks_after = None
            company.start()
            if not count % 2:
                results.append(call.hang_up())
            settled(company, len(results))

        for stage in STAGES:
            killed_at(stage, let_through=stage == STAGES[0])
        assert rung(company) == {"reception": len(STAGES)}

        # The whole answer has arrived: this caller is the agent's, of whoever had been idle longest.
        killed_at(b"CTI_ACTION", let_through=True)
        (agent,) = rung(company).keys() - {"reception"}
        assert rung(company) == {"reception": len(STAGES), agent: 1}
        assert [result.final for result in results] == [200] * (len(STAGES) + 1)
        records = settled(company, len(results))
        assert [record["outcome"] for record in records] == ["answered"] * len(results)
        assert [record["agent"] for record in records] == [None] * len(STAGES) + [agent]
        times_agree(records, results)
