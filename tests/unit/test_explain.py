"""The dry run: what is decided with the clock and the log of any moment, and with the agents and lines of now."""

from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from attrs import evolve
from twisted.internet.defer import Deferred

from cti.agents.roster import Roster
from cti.calls.explain import explain
from cti.calls.own import Question
from cti.calls.present import iso
from cti.calls.services import Services
from cti.hours import OpeningHours
from cti.identify.identification import Identification
from cti.numbers import Number, NumberPlan
from cti.store.records import AgentRecord
from routing.facts import Facts, History, Line, Said
from routing.reading import compile_rules
from routing.rules import Mode, Service

CALLER, DIALLED = "+4915228817386", "+494066969100"
NOW = 1_800_000_000.0


class World:
    """One service, whose only agent is ready now, and what was asked of lines and the log."""

    def __init__(self, *rules: Mapping[str, Any]) -> None:
        self.service = Service(
            "sales", (DIALLED,), Mode.ROUTE, None, "old-context,s,1", compile_rules(list(rules))
        )
        self.lines: list[tuple[str, float]] = []
        self.looked_back: list[float] = []
        self.roster = Roster(lambda: NOW, lambda _: None)
        self.roster.load([AgentRecord("anna", "Anna", phones=["PJSIP/anna"], groups=["sales"], wish="ready")])

    async def identify(self, number: Number, late: Any = None) -> Identification:
        return Identification(number)

    def line(self, service: str, now: float) -> Line:
        self.lines.append((service, now))
        return Line(3, 40.0)

    async def past(self, _number: str, _service: Service, at: float) -> History:
        self.looked_back.append(at)
        return History(tries=2, as_of=at)

    async def own(self, _questions: Sequence[Question], _facts: Facts) -> Mapping[str, Said]:
        return {}

    def explain(self, at: float | None, called: str = DIALLED, **how: Any) -> Mapping[str, Any]:
        answers: list[Mapping[str, Any]] = []
        asked = explain(
            CALLER,
            called,
            at,
            now=NOW,
            services=Services([self.service], NumberPlan("DE")),
            identifier=self,  # type: ignore[arg-type]
            roster=self.roster,
            line=self.line,
            refusal=lambda _: None,
            history=self.past,
            own=self.own,
            **how,
        )
        Deferred.fromCoroutine(asked).addCallback(answers.append)
        (answer,) = answers
        return answer


def test_rules_see_who_waits_now() -> None:
    world = World(
        {"name": "full", "when": {"waiting.calls": {"at_least": 3}}, "voicemail": "17"},
        {"name": "rest", "dial": {"group": "sales"}},
    )
    answer = world.explain(None)
    assert (answer["decision"]["rule"], answer["line"]) == ("full", {"calls": 3, "longest": 40.0})
    assert (answer["at"], answer["agents_at"], answer["assumed"]) == (iso(NOW), iso(NOW), [])


def test_another_moment_has_its_clock_and_its_log_and_the_agents_and_lines_of_now() -> None:
    world = World(
        {"name": "closed", "when": {"hours": "closed"}, "voicemail": "17"},
        {"name": "rest", "dial": {"group": "sales"}},
    )
    always = OpeningHours(ZoneInfo("Europe/Berlin"), ((),) * 7)
    world.service = evolve(world.service, hours=always)
    then = NOW - 30 * 86_400
    answer = world.explain(then, assumed=["every phone counts as free"])
    assert (answer["decision"]["rule"], answer["at"], answer["agents_at"]) == ("closed", iso(then), iso(NOW))
    assert (world.lines, world.looked_back) == ([("sales", NOW)], [then])
    assert answer["history"]["age"] == 0.0
    first, second = answer["assumed"]
    assert first == "every phone counts as free"
    assert second.startswith("agents, lines and what CRMs say of the caller are as they are now")


def test_of_a_number_that_no_service_has_no_line_is_looked_at() -> None:
    world = World()
    answer = world.explain(None, "+494066969299")
    assert (world.lines, answer["line"]) == ([], {"calls": 0, "longest": 0.0})
