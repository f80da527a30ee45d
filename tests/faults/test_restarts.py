"""Asterisk and the daemon restarted under calls: what is over is closed as it was, and nothing stays open."""

import time
from typing import Any

import pytest

from lab.company import AnAgent, Company
from lab.laboratory import Answers, Call, RingsForever, eventually
from lab.trace import CallResult
from tests.faults.evidence import rung, seconds, settled

AGENTS = [
    AnAgent("anna"),
    AnAgent("ben"),
    AnAgent("cora", behaviour=Answers(after_ms=None)),
    AnAgent("dora", behaviour=RingsForever()),
]
#: Nobody gives up ringing by himself.
SERVICE = {"rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 30}]}


def number(index: int) -> str:
    return f"+4917139200{index:02d}"


def talking(company: Company, index: int) -> Call:
    call = company.call(from_number=number(index))
    call.wait_for(200)
    return call


def ringing(company: Company, index: int, agent: str) -> Call:
    """A caller at this agent's phone, which rings, as the log says too."""
    before = len(company.phones[agent].invites)
    call = company.call(from_number=number(index))
    eventually(lambda: len(company.phones[agent].invites) > before, what=f"the phone of {agent}")
    eventually(lambda: record_of(company, index)["ringing"], what="the ringing in the log")
    return call


def record_of(company: Company, index: int) -> dict[str, Any]:
    return next(
        (call for call in company.daemon.calls() if call["from_raw"] == number(index)), {"ringing": None}
    )


def told(records: list[dict[str, Any]]) -> dict[int, tuple[str, str | None]]:
    """Outcome and agent by caller."""
    return {int(record["from_raw"][-2:]): (record["outcome"], record["agent"]) for record in records}


def agrees(records: list[dict[str, Any]], index: int, result: CallResult) -> bool:
    (record,) = [record for record in records if record["from_raw"] == number(index)]
    return result.ended is not None and abs(seconds(record["ended"]) - result.ended) < 1.5


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_the_daemon_killed_under_calls_closes_each_as_it_ended(tmp_path, store):
    with Company(tmp_path, AGENTS, service=SERVICE, store=store) as company:
        company.start()
        ends_meanwhile = talking(company, 0)
        outlives = talking(company, 1)
        picked_up_meanwhile = ringing(company, 2, "cora")
        rings_on = ringing(company, 3, "dora")

        company.daemon.kill()
        results = {0: ends_meanwhile.hang_up()}
        company.phones["cora"].answer()
        picked_up_meanwhile.wait_for(200)
        came_meanwhile = talking(company, 4)
        results[5] = company.call(from_number=number(5), talk_ms=100).wait()
        company.start()

        # What lives is open, with its agents held; what ended is closed.
        eventually(
            lambda: (
                sorted(call["from_raw"] for call in company.daemon.calls() if not call["ended"])
                == [number(1), number(2), number(3), number(4)]
            ),
            what="four open calls, of the last of which nobody had heard",
        )
        eventually(
            lambda: (
                {id: agent["state"] for id, agent in company.daemon.agents().items()}
                == {"anna": "ready", "ben": "busy", "cora": "busy", "dora": "offered"}
            ),
            what="the agents held as before",
        )
        for index, call in ((1, outlives), (2, picked_up_meanwhile), (3, rings_on), (4, came_meanwhile)):
            results[index] = call.hang_up()

        records = settled(company, 6)
        assert told(records) == {
            0: ("answered", "anna"),
            1: ("answered", "ben"),
            2: ("answered", "cora"),
            3: ("missed", None),
            4: ("answered", None),
            5: ("answered", None),
        }
        for index, result in results.items():
            assert agrees(records, index, result), index
        # The phones belong to the calls again.
        assert company.call(from_number=number(6), talk_ms=100).wait().final == 200
        assert rung(company)["reception"] == 2


def test_nothing_is_open_after_two_restarts_of_asterisk_and_one_of_the_daemon(tmp_path):
    with Company(tmp_path, AGENTS[:3], service=SERVICE) as company:
        company.start()

        def one_of_each(first: int) -> list[Call]:
            """Two who talk to Anna and Ben, one for whom Cora's phone rings."""
            wish(company, "cora", "logged_out")
            calls = [talking(company, first), talking(company, first + 1)]
            wish(company, "cora", "ready")
            calls.append(ringing(company, first + 2, "cora"))
            expected.update({first: ("answered", None), first + 1: ("answered", None)})
            expected[first + 2] = ("missed", None)
            for name in ("anna", "ben"):
                index = int(company.phones[name].invites[-1].from_number[-2:])
                expected[index] = ("answered", name)
            return calls

        expected: dict[int, tuple[str, str | None]] = {}
        calls = one_of_each(0)
        company.pbx.kill()
        killed = time.time()
        for party in (*calls, *company.phones.values()):
            party.stop()
        for phone in company.phones.values():
            phone.start()
        company.pbx.start()
        ami_is_up(company)
        records = settled(company, 3)
        assert told(records) == expected
        # Nobody saw the end but by the loss of AMI.
        assert all(abs(seconds(record["ended"]) - killed) < 1.5 for record in records)

        calls = one_of_each(10)
        company.pbx.stop()
        results = [call.wait() for call in calls]
        company.pbx.start()
        ami_is_up(company)
        records = settled(company, 6)
        assert told(records) == expected
        for index, result in enumerate(results, 10):
            assert agrees(records, index, result), index

        calls = one_of_each(20)
        company.daemon.kill()
        company.pbx.restart()
        results = [call.wait() for call in calls]
        company.start()
        records = settled(company, 9)
        assert told(records) == expected
        for index, result in enumerate(results, 20):
            assert agrees(records, index, result), index


def wish(company: Company, agent: str, state: str) -> None:
    company.daemon.request("PATCH", f"/api/v1/agents/{agent}", {"state": state})


def ami_is_up(company: Company) -> None:
    eventually(lambda: company.daemon.metric("cti_ami_up", pbx="main") == 1, 20, what="AMI")
