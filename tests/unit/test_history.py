"""What rules are told of a caller's past: when the log is asked, how long for, and what becomes of its silence."""

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog
from attrs import evolve
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from cti.calls.history import DEADLINE, FAILURES, LEFT_ALONE, CallHistory, asks_for_history, day_of
from cti.calls.services import Services
from cti.hours import OpeningHours
from cti.numbers import NumberPlan
from cti.store.base import StoreError
from cti.store.records import PastCalls
from routing.conditions import FACTS
from routing.facts import History
from routing.reading import compile_rules
from routing.rules import DialLastAgent, Mode, Rule, Service, ToService

CALLER = "+4915228817386"
ANNA = PastCalls("anna", 900.0, 1)


def a_service(*conditions: Mapping[str, Any]) -> Service:
    rules = [{"name": f"{n}", "when": when, "fallback": True} for n, when in enumerate(conditions)]
    return Service(
        "sales", ("+494066969100",), Mode.ROUTE, None, "old-context,s,1", compile_rules(list(rules))
    )


class Log:
    """A store that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.waiting: list[Deferred[PastCalls]] = []
        self.broken = False
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.history = CallHistory(self, self.clock, lambda: ZoneInfo("UTC"))

    def past_calls(self, *question: Any) -> "Deferred[PastCalls]":
        self.asked.append(question)
        if self.broken:
            return fail(StoreError("the disk is gone"))
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def ask(self, at: float = 1000.0, **how: Any) -> list[History | None]:
        """The list gets the answer."""
        told: list[History | None] = []
        Deferred.fromCoroutine(self.history.of(CALLER, a_service(), at, **how)).addCallback(told.append)
        return told

    def fails(self, times: int) -> None:
        for _ in range(times):
            told = self.ask()
            self.clock.advance(DEADLINE)
            assert told == [None]


def test_a_service_asks_for_the_past_where_one_of_its_rules_does() -> None:
    assert not asks_for_history(a_service(), {})
    assert not asks_for_history(
        a_service(*({name: "present"} for name, fact in FACTS.items() if not fact.of_history)), {}
    )
    for fact in ("last_agent", "spoken.days", "spoken.hours", "tries"):
        service = a_service({"attempt": 1}, {"party": "present", fact: "present"})
        assert Services([service], NumberPlan("DE")).ask_for_history(service)


def test_a_service_asks_for_the_past_where_it_rings_the_last_agent_or_passes_on_to_one_that_does() -> None:
    last = evolve(a_service(), name="last", numbers=("21",), rules=(Rule("last", (), DialLastAgent()),))
    front = evolve(a_service(), rules=(Rule("on", (), ToService("last")),))
    services = Services([last, front], NumberPlan("DE"))
    assert services.ask_for_history(last)
    assert services.ask_for_history(front)


def test_the_log_is_asked_for_what_was_since_midnight_and_before_the_call() -> None:
    log = Log()
    log.ask(86_400.0 * 3 + 5000, call="c1")
    assert log.asked == [(CALLER, ("+494066969100",), 86_400.0 * 3, 86_400.0 * 3 + 5000, "c1")]


def test_the_day_begins_where_the_service_has_its_hours_before_where_the_company_is() -> None:
    berlin = OpeningHours(ZoneInfo("Europe/Berlin"), ((),) * 7)
    in_summer = 1_782_000_000.0  # midnight in Greenwich, and two hours later than that in Berlin
    at = in_summer - 600
    assert day_of(a_service(), ZoneInfo("UTC"), at) == in_summer - 86_400
    assert day_of(evolve(a_service(), hours=berlin), ZoneInfo("UTC"), at) == in_summer - 7200


def test_the_call_that_is_asked_about_is_a_try_too() -> None:
    log = Log()
    told = log.ask()
    log.waiting[0].callback(ANNA)
    assert told == [History("anna", 900.0, 2, 1000.0)]


def test_a_log_that_does_not_say_in_time_says_nothing_and_its_late_answer_changes_nothing() -> None:
    log = Log()
    told = log.ask()
    log.clock.advance(DEADLINE - 0.01)
    assert told == []
    log.clock.advance(0.01)
    assert told == [None]
    log.waiting[0].callback(ANNA)
    assert told == [None]


def test_a_read_that_nobody_waits_for_any_more_goes_on_to_be_counted_by_the_store() -> None:
    log = Log()
    log.ask()
    log.clock.advance(DEADLINE)
    assert not log.waiting[0].called


@pytest.mark.parametrize("broken", [False, True])
def test_a_log_in_trouble_is_left_alone_for_a_while_and_then_tried_with_one_question(broken: bool) -> None:
    log = Log()
    log.broken = broken
    log.fails(FAILURES)
    assert log.ask() == [None]
    assert len(log.asked) == FAILURES

    log.clock.advance(LEFT_ALONE)
    log.fails(1)
    assert log.ask() == [None]
    assert len(log.asked) == FAILURES + 1

    log.clock.advance(LEFT_ALONE)
    log.broken = False
    probe = log.ask()
    assert log.ask() == [None]
    log.waiting[-1].callback(ANNA)
    assert probe == [History("anna", 900.0, 2, 1000.0)]
    log.ask()
    assert len(log.asked) == FAILURES + 3


def test_answers_in_between_are_no_failures_in_a_row() -> None:
    log = Log()
    for _ in range(3):
        log.fails(FAILURES - 1)
        log.ask()
        log.waiting[-1].callback(ANNA)
    log.ask()
    assert len(log.asked) == 3 * FAILURES + 1


def test_a_question_with_less_than_its_time_says_nothing_about_the_log() -> None:
    log = Log()
    for _ in range(FAILURES + 1):
        told = log.ask(within=0.05)
        log.clock.advance(0.05)
        assert told == [None]
    assert log.ask(within=0.0) == [None]
    assert len(log.asked) == FAILURES + 1


def test_its_silence_is_said_once_a_minute_and_tells_of_no_caller() -> None:
    log = Log()
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            log.fails(1)
            log.clock.advance(LEFT_ALONE)
        assert len(lines) == 1
        assert CALLER not in str(lines)
        log.clock.advance(60)
        log.fails(1)
    assert [line["log_level"] for line in lines] == ["warning", "warning"]
