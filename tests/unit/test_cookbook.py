"""The cookbook is true: each of its situations is loaded as configuration, and each of its callers routed by it."""

import re
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from twisted.internet.defer import succeed

from adapters.base import Party
from cti.calls.services import Services
from cti.identify.identification import Identification
from cti.numbers import NumberPlan
from cti.settings import Settings, load_settings
from cti.store.records import AgentRecord, CallRecord, DecisionRecord, ReservationRecord
from routing.decide import Action, Decision, decide, title
from routing.facts import EVERYBODY, AgentFacts, Facts, Group, History, Line, Place
from routing.rules import AGES, RING_TIMEOUT, Mode, Wait
from tests.unit.test_inbound import Session, World

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
BERLIN = ZoneInfo("Europe/Berlin")
A_MONDAY = "2026-03-02T10:00"
#: Of a case, what the CRM says of the caller.
OF_PARTY = ("tier", "owner", "language", "balance", "type", "match")
#: The words in front of `=>` that the page explains.
EXPLAINED = frozenset(re.findall(r"`(\w+)[`:]", PAGE.partition("| in front |")[2].partition("| behind |")[0]))
#: What the caller's number is, by its kind; other kinds show none.
NUMBERS = {"e164": "+4915228817386", "internal": "101"}

SITUATIONS = re.findall(r"^## (\d+\. .*?)\n.*?^```yml\n(.*?)^```\n\n```text\n(.*?)^```", PAGE, re.M | re.S)
CASES = [
    pytest.param(rules, case, id=f"{title.partition('.')[0]}: {case}")
    for title, rules, cases in SITUATIONS
    for case in cases.splitlines()
]


def test_there_are_twenty_situations_numbered_plainly_and_each_is_executed_in_at_least_two_ways() -> None:
    assert len(SITUATIONS) >= 20
    assert len(SITUATIONS) == PAGE.count("\n## ")
    numbers = [int(heading.partition(".")[0]) for heading, _, _ in SITUATIONS]
    assert numbers == list(range(1, len(SITUATIONS) + 1))
    assert [heading for heading, _, cases in SITUATIONS if len(cases.splitlines()) < 2] == []


@cache
def settings_of(rules: str) -> Settings:
    """The company's configuration with these rules, or with a service of which more is said."""
    (head,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    company = yaml.safe_load(head)
    given = yaml.safe_load(rules)
    company["services"]["this-one"] |= given if isinstance(given, dict) else {"rules": given}
    sample = yaml.safe_load((ROOT / "config" / "small.yaml").read_text(encoding="utf-8"))
    with TemporaryDirectory() as directory:
        (Path(directory) / "ami.secret").write_text("sesame\n")
        file = Path(directory) / "cti.yaml"
        file.write_text(yaml.safe_dump({**sample, "adapters": {}, **company}))
        environ = dict.fromkeys(("AMI_SECRET", "HOOK"), "sesame")
        return load_settings(file, adapter_kinds={}, environ=environ)


def facts_of(case: dict[str, Any], settings: Settings) -> Facts:
    assert case.keys() <= EXPLAINED
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
    waited, kind = case.get("waited", 0), case.get("kind", "e164")
    tried = frozenset(case.get("tried", []))
    return Facts(
        at=at,
        service=service.name,
        from_number=NUMBERS.get(kind),
        from_kind=kind,
        from_country=case.get("country", "DE") if kind == "e164" else None,
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
    """All of what happens, as the page has it."""
    by = "no rule" if decision.rule is None else decision.rule
    of = f" of {decision.service}" if decision.service is not None else ""
    return f"{done(decision)}, by {by}{of}"


def done(decision: Decision) -> str:
    action, target = decision.action, decision.target
    match action:
        case Action.DIAL:
            seconds = "" if decision.timeout == RING_TIMEOUT else f" for {decision.timeout} s"
            return f"dial {' '.join(decision.agents) or target}{seconds}"
        case Action.WAIT:
            assert decision.line is not None
            (place,) = (place for key, place in decision.places.items() if key.endswith(f"/{decision.rule}"))
            whom = title(decision.line.steps[place.step].whom)
            return f"wait {decision.timeout} s for {whom}{told(decision.line)}"
        case Action.ANNOUNCE:
            then = decision.then or "hang up"
            return f"announce {target}, then {then}{', call back' if decision.callback else ''}"
    return f"{action} {target}"


def told(line: Wait) -> str:
    """What else there is to a line."""
    comfort, key = line.comfort, line.callback
    said = [] if line.priority == 0 else [f"urgent {line.priority}"]
    said += [] if line.ages == AGES else [f"a level each {line.ages} s"]
    said += [] if line.music == "default" else [f"with {line.music}"]
    said += [] if line.answer else ["unanswered"]
    if comfort is not None:
        what = [name for name in ("position", "expected") if getattr(comfort, name)]
        said.append(f"each {comfort.every} s {' '.join([*what, *comfort.sounds])}")
    if key is not None:
        said.append(f"key {key.key} {' '.join(key.sounds)}")
    return "".join(f", {each}" for each in said)


def met(settings: Settings, case: dict[str, Any], did: str = "494066969200") -> tuple[Session, World]:
    """What a caller of this service meets on the whole way of a call, and what is left of it."""
    world, session = World(), Session(did)
    session.request.headers["agi_callerid"] = case.get("from", "015228817386")
    world.services = Services(settings.services.values(), NumberPlan("DE"))
    world.roster.load(
        AgentRecord(agent.id, agent.name, agent.phones, sorted(agent.groups), {}, "ready")
        for agent in settings.agents.values()
    )
    owner: str = case.get("owner", "")
    parties = (Party(adapter="crm", type="contact", id="17", owner="u1"),) if owner else ()
    world.answer = succeed(
        Identification(NumberPlan("DE").parse("015228817386"), parties, owners={("crm", "u1"): owner})
    )
    world.ask(session)
    return session, world


@pytest.mark.parametrize(("rules", "case"), CASES)
def test_what_the_page_says_happens(rules: str, case: str) -> None:
    front, _, wanted = case.partition(" => ")
    settings, given = settings_of(rules), yaml.safe_load(f"{{{front}}}")
    service = settings.services["this-one"]
    decision = decide(service, facts_of(given, settings), settings.services)
    happens = said(decision)
    if service.mode is not Mode.ROUTE:
        session, world = met(settings, given)
        (noted,) = world.rows(DecisionRecord)
        assert (noted.action, noted.agents, noted.rule) == (decision.action, decision.agents, decision.rule)
        assert not world.rows(ReservationRecord)
        call = world.calls.get(noted.call)
        card = ", with the card" if call is not None and call.card is not None else ""
        happens = f"{session.set['CTI_ACTION']} {session.set['CTI_TARGET']}{card}; noted: {happens}"
    assert happens == wanted, [step.note for step in decision.trace]


def test_a_colleague_who_dials_the_internal_number_of_a_service_is_routed_by_rules_and_logged_as_inbound() -> (
    None
):
    (rules,) = (rules for heading, rules, _ in SITUATIONS if "Colleagues" in heading)
    session, world = met(settings_of(rules), {"from": "101"}, did="200")
    (decision,) = world.rows(DecisionRecord)
    assert (session.set["CTI_ACTION"], session.set["CTI_TARGET"]) == ("dial", "PJSIP/cem")
    assert decision.rule == "colleagues"
    assert {(call.direction, call.from_kind) for call in world.rows(CallRecord)} == {("inbound", "internal")}
