"""The cookbook is true: each of its situations is loaded as configuration, and each of its callers routed by it."""

import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from cti.settings import Settings, load_settings
from routing.decide import Action, Decision, decide
from routing.facts import EVERYBODY, AgentFacts, Facts, Group, History, Line, Place

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
BERLIN = ZoneInfo("Europe/Berlin")
A_MONDAY = "2026-03-02T10:00"
#: Of a case, what the CRM says of the caller.
OF_PARTY = ("tier", "owner", "language", "balance", "type", "match")

SITUATIONS = re.findall(r"^## (\d+\. .*?)\n.*?^```yml\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, re.M | re.S)
CASES = [
    pytest.param(rules, case, id=f"{title.partition('.')[0]}: {case}")
    for title, rules, cases in SITUATIONS
    for case in cases.splitlines()
]


def test_there_are_twenty_situations_and_each_is_executed_in_at_least_two_ways() -> None:
    assert len(SITUATIONS) >= 20
    assert len(SITUATIONS) == PAGE.count("\n## ")
    assert [title for title, _, cases in SITUATIONS if len(cases.splitlines()) < 2] == []


@cache
def settings_of(rules: str, directory: Path) -> Settings:
    (head,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    company = yaml.safe_load(head)
    company["services"]["this-one"]["rules"] = yaml.safe_load(rules)
    sample = yaml.safe_load((ROOT / "config" / "small.yaml").read_text(encoding="utf-8"))
    (directory / "ami.secret").write_text("sesame\n")
    file = directory / "cti.yaml"
    file.write_text(yaml.safe_dump({**sample, "adapters": {}, **company}))
    environ = dict.fromkeys(("AMI_SECRET", "HOOK"), "sesame")
    return load_settings(file, adapter_kinds={}, environ=environ)


def facts_of(case: dict[str, Any], settings: Settings) -> Facts:
    at = datetime.fromisoformat(str(case.get("at", A_MONDAY))).replace(tzinfo=BERLIN).timestamp()
    busy, away, offered = case.get("busy", []), case.get("away", []), case.get("offered", {})
    agents = [
        AgentFacts(
            id=agent.id,
            name=agent.name,
            phones=agent.phones,
            groups=agent.groups,
            state="logged_out" if agent.id in away else "ready",
            why_not="logged_out" if agent.id in away else "busy" if agent.id in busy else None,
            idle_since=float(number),
            skills=agent.skills,
            last_offered=float(offered.get(agent.id, 0)),
        )
        for number, agent in enumerate(settings.agents.values())
    ]
    names = {EVERYBODY, *(group for agent in agents for group in agent.groups)}
    known = {key: case[key] for key in OF_PARTY if key in case}
    party = {"adapter": "crm", "type": "contact", "id": "17", **known} if known else None
    spoken = at - 86_400 * case["spoken_days"] - 60 if "spoken_days" in case else None
    service = settings.services["this-one"]
    assert service.hours is not None
    waited = case.get("waited", 0)
    tried = frozenset(case.get("tried", []))
    return Facts(
        at=at,
        service=service.name,
        from_number=None if case.get("kind") == "withheld" else "+4915228817386",
        from_kind=case.get("kind", "e164"),
        from_country=case.get("country", "DE"),
        to="+494066969200",
        party=party,
        parties=1 if party else 0,
        attempt=case.get("attempt", 1),
        tried=tried,
        lately=tried,
        agents={agent.id: agent for agent in agents},
        groups={name: Group(a for a in agents if name == EVERYBODY or name in a.groups) for name in names},
        clock=service.hours.at(at),
        call=case.get("call", "c-1"),
        line=Line(case.get("waiting", 0)),
        history=History(case.get("last_agent"), spoken, case.get("tries", 1)),
        places={f"this-one/{rule.name}": Place(at - waited, 0, at - waited) for rule in service.rules}
        if waited
        else {},
    )


def said(decision: Decision) -> str:
    """What happens, as the page has it."""
    match decision.action:
        case Action.DIAL if decision.agents:
            return f"dial {' '.join(decision.agents)}"
        case Action.FALLBACK:
            return "fallback"
        case Action.WAIT:
            return f"wait {decision.timeout}"
    return f"{decision.action} {decision.target}"


@pytest.mark.parametrize(("rules", "case"), CASES)
def test_what_the_page_says_happens(rules: str, case: str, tmp_path: Path) -> None:
    caller, _, wanted = case.partition(" => ")
    wanted, _, rule = wanted.partition(" by ")
    settings = settings_of(rules, tmp_path)
    facts = facts_of(yaml.safe_load(f"{{{caller}}}"), settings)
    decision = decide(settings.services["this-one"], facts, settings.services)
    assert said(decision) == wanted, [step.note for step in decision.trace]
    assert not rule or decision.rule == rule
