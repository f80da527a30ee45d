"""Waiting for an agent on a real Asterisk: the line, its order, its steps, and what becomes of it in trouble."""

from pathlib import Path
from typing import Any

from lab.company import AnAgent, Company
from lab.laboratory import Answers, eventually
from tests.faults.evidence import seconds, settled

LINE = {"name": "line", "wait": [{"for": 60, "dial": {"group": "sales"}}]}


def a_company(directory: Path, *agents: AnAgent, rules: Any = (LINE,), **more: Any) -> Company:
    service = {"rules": list(rules), "fallback": "old-context,s,1"}
    return Company(directory, list(agents), service=service, **more)


def in_state(company: Company, state: str) -> int:
    return sum(call["state"] == state for call in company.daemon.calls(limit="200"))


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
        records = settled(company, 2)
        print(records)
        assert [record["outcome"] for record in records] == ["answered", "answered"]
        late = max(records, key=lambda record: record["started"])
        early = min(records, key=lambda record: record["started"])
        assert late["queued"] is not None
        assert seconds(late["answered"]) - seconds(early["ended"]) < 5
