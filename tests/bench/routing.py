"""Decisions with many rules and agents, and who gets an agent that becomes free while thousands wait.

    python -m tests.bench.routing

Decisions are made of 200 rules, of which the last ones find somebody, beside a bare loop that only asks the
conditions of the same rules. The line is the server's own, without sockets: its calls ask, and its doorbell is heard.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import structlog
from attrs import evolve

from routing.decide import Action, decide
from routing.facts import EVERYBODY, AgentFacts, Facts, Group
from routing.reading import compile_rules
from routing.rules import Mode, Service
from tests.unit.test_waiting_room import Line

SIZES: Final = (50, 500, 5000)
RULES: Final = 200
WAITING: Final = 2000
DECISIONS: Final = 3000
FREED: Final = 200
_GROUPS: Final = 40
_SKILLS: Final = ("german", "russian", "billing", "network")


def rules() -> list[dict[str, Any]]:
    """Conditions of all sorts, that seldom hold; groups and skills of whom nobody is free; and at the end a line."""
    made: list[dict[str, Any]] = []
    for index in range(RULES - 2):
        name, group = f"rule {index}", f"group{index % _GROUPS}"
        match index % 5:
            case 0:
                made.append({"name": name, "when": {"party.tier": f"tier{index}"}, "dial": {"group": group}})
            case 1:
                when = {"from.number": {"prefix": f"+4930{index:04}"}}
                made.append({"name": name, "when": when, "dial": "owner"})
            case 2:
                when = {"party.tags": {"contains": f"tag{index}"}, "parties": {"at_least": 1}}
                made.append({"name": name, "when": when, "voicemail": "17"})
            case 3:
                skills = {_SKILLS[index % 4]: 9}
                made.append(
                    {"name": name, "when": {"party": "present"}, "dial": {"group": group, "skills": skills}}
                )
            case _:
                when = {"attempt": {"at_least": 5}}
                made.append({"name": name, "when": when, "wait": [{"for": 30, "dial": {"group": group}}]})
    made.append({"name": "german", "dial": {"skills": {"german": 8}, "group": "group0"}})
    made.append({"name": "line", "wait": [{"for": 600, "dial": {"group": "sales"}}]})
    return made


def crew(size: int, dice: random.Random) -> list[AgentFacts]:
    """Nine of ten are busy, and nobody has a skill at 9."""
    return [
        AgentFacts(
            id=f"a{index}",
            name=f"Agent {index}",
            phones=(f"PJSIP/a{index}",),
            groups=frozenset({"sales", f"group{index % _GROUPS}"}),
            state="ready",
            why_not=None if dice.random() < 0.1 else "busy",
            idle_since=dice.random(),
            pbxes=frozenset({"main"}),
            skills={skill: dice.randint(1, 8) for skill in _SKILLS},
        )
        for index in range(size)
    ]


def facts_of(agents: Sequence[AgentFacts]) -> Facts:
    groups = {EVERYBODY: Group(agents)}
    for agent in agents:
        for group in agent.groups:
            groups.setdefault(group, Group()).put(agent)
    party = {"tier": "gold", "owner": "a1", "tags": ["vip"], "name": "Jana Novak", "language": "sl"}
    return Facts(
        at=1_800_000_000.0,
        service="sales",
        from_number="+4915228817386",
        from_kind="e164",
        to="+494066969100",
        party=party,
        parties=1,
        agents={agent.id: agent for agent in agents},
        groups=groups,
        pbx="main",
    )


def timed(work: Callable[[int], object], times: int) -> list[float]:
    """Seconds that each took."""
    taken = []
    for index in range(times):
        began = time.perf_counter()
        work(index)
        taken.append(time.perf_counter() - began)
    return sorted(taken)


def said(what: str, taken: Sequence[float]) -> str:
    p99 = taken[int(len(taken) * 0.99)]
    return (
        f"{what}: median {median(taken) * 1e3:.3f} ms, p99 {p99 * 1e3:.3f} ms,"
        f" {len(taken) / sum(taken):,.0f} a second"
    )


def bare(service: Service, facts: Facts) -> int:
    """What any decision has to do at the least: ask the conditions of each rule."""
    held = 0
    for rule in service.rules:
        held += all(condition.holds(condition.known.read(facts)) for condition in rule.conditions)
    return held


def decisions() -> None:
    service = Service("sales", (), Mode.ROUTE, None, "f,s,1", compile_rules(rules()))
    medians = {}
    for size in SIZES:
        facts = facts_of(crew(size, random.Random(7)))
        calls = [evolve(facts, call=f"call {index}") for index in range(DECISIONS)]
        assert decide(service, facts).action in (Action.DIAL, Action.WAIT)
        loop = timed(lambda index, calls=calls: bare(service, calls[index]), DECISIONS)  # type: ignore[misc]
        taken = timed(lambda index, calls=calls: decide(service, calls[index]), DECISIONS)  # type: ignore[misc]
        medians[size] = median(taken)
        print(said(f"a decision, {RULES} rules, {size:>4} agents", taken), end="; ")
        print(f"{median(taken) / median(loop):.1f} times the bare loop of conditions")
    print(
        f"from {SIZES[0]} to {SIZES[-1]} agents it takes {medians[SIZES[-1]] / medians[SIZES[0]]:.2f} times as long"
    )


def lines() -> None:
    for size in (SIZES[0], SIZES[-1]):
        house = Line(*(f"a{index}" for index in range(size)))
        for index in range(WAITING):
            house.calls_in(f"{index}.0")
            house.clock.advance(0.01)
        again = timed(lambda index, house=house: house.calls_in(f"{index}.0"), 500)  # type: ignore[misc]
        print(said(f"to go on waiting, {WAITING} calls, {size:>4} agents", again))

        def frees(index: int, house: Line = house, size: int = size) -> None:
            house.is_ready(f"a{index % size}")

        rung = len(house.bell.rung)
        taken = timed(frees, min(FREED, size))
        assert len(house.bell.rung) - rung == min(FREED, size)
        print(said(f"from free to the bell, {WAITING} calls, {size:>4} agents", taken))


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    decisions()
    lines()
