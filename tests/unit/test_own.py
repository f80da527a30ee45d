"""A company's own conditions and actions: found, checked and asked, and what no fault of theirs can do."""

from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread, enumerate as enumerate_threads
from typing import Any

import pytest
import structlog
from attrs import evolve
from twisted.internet.defer import Deferred

from cti.calls.history import asks_for_history
from cti.calls.own import (
    DEADLINE,
    FAILURES,
    LEFT_ALONE,
    MAX_ANSWER,
    QUEUED,
    THREADS,
    OwnCode,
    Question,
    questions,
)
from cti.calls.services import Services
from cti.numbers import NumberPlan
from cti.own_code import load_own
from routing.conditions import KnownFact, own_fact, value_of
from routing.decide import Action, Outcome, decide
from routing.facts import Said
from routing.own import Own, OwnCodeError
from routing.problems import RulesError
from routing.reading import compile_rules
from routing.rules import Chosen, DialNumber, Mode, Service
from tests.unit.own import Careless, Chooses, Finds, ThreadedClock, install
from tests.unit.test_routing import an_agent, facts

OWN = Own(
    {
        "tickets": Finds(),
        "score": Finds("amount"),
        "tier": Finds("text", words=("gold", "silver")),
        "labels": Finds("list"),
        "blocked": Finds("presence"),
        "note": Finds("text"),
    },
    {"nearest": Chooses(), "careless": Careless()},
)


def a_service(*rules: Mapping[str, Any], own: Own = OWN, name: str = "sales", **known: Any) -> Service:
    compiled = compile_rules(list(rules), own=own, **known)
    return Service(name, ("+494066969100",), Mode.ROUTE, None, "old-context,s,1", compiled)


def when(**conditions: Any) -> dict[str, Any]:
    return {
        "name": "one",
        "when": {f"own.{name}": test for name, test in conditions.items()},
        "fallback": True,
    }


def problems(*rules: Mapping[str, Any], own: Own = OWN) -> list[str]:
    with pytest.raises(RulesError) as caught:
        compile_rules(list(rules), own=own)
    return str(caught.value).splitlines()


# Reading.


@pytest.mark.parametrize(
    ("fact", "test", "holding", "failing"),
    [
        ("tickets", 3, 3, 4),
        ("tickets", {"at_least": 3}, 3, 2),
        ("tickets", {"in": [1, 2]}, 2, 3),
        ("tickets", "absent", None, 0),
        ("score", {"at_most": -0.5}, -1, 0.25),
        ("tier", "gold", "gold", "silver"),
        ("tier", {"not": "gold"}, "silver", "gold"),
        ("note", {"prefix": "vip"}, "vip since 2020", "new"),
        ("labels", {"contains": "press"}, ["vip", "press"], ["vip"]),
        ("blocked", "present", True, None),
    ],
)
def test_every_test_of_its_kind_can_be_made_of_a_fact_of_ones_own(
    fact: str, test: Any, holding: Any, failing: Any
) -> None:
    service = a_service(when(**{fact: test}))
    assert decide(service, facts(own={fact: Said(holding)})).rule == "one"
    assert decide(service, facts(own={fact: Said(failing)})).rule is None


@pytest.mark.parametrize(
    ("fact", "test", "problem"),
    [
        ("ticket", 1, 'unknown condition of your own "ticket"; did you mean "tickets"? known: blocked'),
        ("tickets", "many", "is a text; a whole number would be right"),
        ("tickets", {"prefix": "1"}, 'unknown test "prefix"'),
        ("tier", "bronze", 'unknown word "bronze"'),
        ("labels", "press", "{contains: X}"),
        ("blocked", True, "only `present` or `absent` would be right"),
    ],
)
def test_what_stands_in_the_file_of_a_fact_of_ones_own_is_checked(fact: str, test: Any, problem: str) -> None:
    (said,) = problems(when(**{fact: test}))
    assert said.startswith(f"rules[0].when.own.{fact}")
    assert problem in said


def test_where_there_is_no_own_condition_the_error_says_so() -> None:
    (said,) = problems(when(tickets=1), own=Own())
    assert said == 'rules[0].when.own.tickets: unknown condition of your own "tickets"; there is none'


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"nearest": "near"}, "rules[0].own.nearest: a number of metres would be right, such as 20"),
        ({"nearst": 20}, 'rules[0].own.nearst: unknown action of your own "nearst"; did you mean "nearest"?'),
        (
            {"careless": {}},
            "rules[0].own.careless: cannot be checked: KeyError: 'metres'",
        ),
        ({}, "rules[0].own: has 0 actions; exactly one would be right"),
        ({"nearest": 1, "careless": {"metres": 2}}, "rules[0].own: has 2 actions; exactly one"),
        ("nearest", "rules[0].own: own is a text; a mapping would be right, such as {nearest: 20}"),
    ],
)
def test_an_action_s_argument_is_checked_by_the_action(own: Any, problem: str) -> None:
    (said,) = problems({"name": "near", "own": own})
    assert said.startswith(problem)


def test_an_own_action_stands_in_the_place_of_a_target_and_nothing_of_a_target_beside_it() -> None:
    (said,) = problems({"name": "near", "own": {"nearest": 20}, "dial": "owner"})
    assert "says both dial and own" in said
    (said,) = problems({"name": "near", "own": {"nearest": 20}, "timeout": 5})
    assert "rules[0].timeout: has no meaning without `dial` or `wait`" in said


@pytest.mark.parametrize(
    ("kind", "words", "problem"),
    [
        ("moment", (), "its `kind` has to be one of presence, text, list, number, amount"),
        (None, (), "its `kind` has to be"),
        (["text"], (), "its `kind` has to be"),
        ("text", "gold", "its `words` have to be a tuple of texts"),
        ("text", (1,), "its `words` have to be a tuple of texts"),
    ],
)
def test_a_condition_that_does_not_say_what_it_can_be_cannot_be_used(
    kind: Any, words: Any, problem: str
) -> None:
    with pytest.raises(OwnCodeError, match=problem):
        own_fact("x", Finds(kind, words=words))
    (said,) = problems(when(x=1), own=Own({"x": Finds(kind, words=words)}))
    assert said.startswith(f"rules[0].when.own.x: cannot be used: {problem}")


POINTS = """\
[cordboard.conditions]
tickets = tests.unit.own:open_tickets
colour = tests.unit.own:colours
gone = acme.nowhere:condition
klass = tests.unit.own:Finds
plain = tests.unit.own:install
[cordboard.actions]
nearest = tests.unit.own:nearest
half = tests.unit.own:open_tickets
"""


def test_own_code_is_found_by_entry_point_and_what_is_broken_harms_only_who_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = load_own()
    assert {"tickets", "gone", "klass", "plain"} <= set(own.conditions)
    compile_rules(
        [{"name": "one", "when": {"own.tickets": {"at_least": 3}}, "own": {"nearest": 20}}], own=own
    )
    for name, problem in (
        ("gone", "acme.nowhere:condition cannot be loaded: ModuleNotFoundError: No module named 'acme'"),
        ("klass", "tests.unit.own:Finds is a class; an object made of it would be right"),
        ("plain", "tests.unit.own:install has no method `find`"),
        ("colour", "its `kind` has to be one of"),
    ):
        (said,) = problems(when(**{name: "present"}), own=own)
        assert said.startswith(f"rules[0].when.own.{name}: cannot be used: {problem}")
    (said,) = problems({"name": "one", "own": {"half": 1}}, own=own)
    assert said == "rules[0].own.half: cannot be used: tests.unit.own:open_tickets has no method `check`"


def test_a_module_that_raises_anything_when_it_is_loaded_is_a_problem_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_broken.py").write_text("raise RuntimeError('no licence')")
    install(tmp_path, "[cordboard.conditions]\nbroken = acme_broken:it\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (said,) = problems(when(broken="present"), own=load_own())
    assert said.endswith("acme_broken:it cannot be loaded: RuntimeError: no licence")


# What it may say.


def known(kind: str, words: tuple[str, ...] = ()) -> KnownFact:
    return own_fact("x", Finds(kind, words=words))


@pytest.mark.parametrize(
    ("kind", "found", "value"),
    [
        ("presence", True, True),
        ("presence", False, None),
        ("number", -3, -3),
        ("amount", 2.5, 2.5),
        ("amount", 2, 2),
        ("text", "é" * 200, "é" * 200),
        ("list", ("a", "b"), ["a", "b"]),
        ("text", None, None),
    ],
)
def test_a_value_of_its_kind_is_taken(kind: str, found: Any, value: Any) -> None:
    assert value_of(known(kind), found) == value


@pytest.mark.parametrize(
    ("kind", "found", "right"),
    [
        ("presence", 1, "said a number; True or False would be right"),
        ("number", True, "said a yes or no; a whole number would be right"),
        ("number", 2.0, "a whole number"),
        ("number", 2**60, "a whole number"),
        ("amount", float("nan"), "a number"),
        ("amount", float("inf"), "a number"),
        ("amount", "2", "said a text; a number"),
        ("text", "x" * 201, "up to 200 printable characters on one line"),
        ("text", "two\nlines", "up to 200 printable characters on one line"),
        ("text", "\ud800", "up to 200 printable characters on one line"),
        ("list", ["x"] * 101, "a list of up to 100 texts"),
        ("list", ["x", 1], "a list of up to 100 texts"),
        ("list", "text", "a list of up to 100 texts"),
        ("text", object(), "said a object"),
    ],
)
def test_a_value_of_another_kind_or_too_long_is_none(kind: str, found: Any, right: str) -> None:
    with pytest.raises(ValueError, match=r"^said .* would be right$") as caught:
        value_of(known(kind), found)
    assert right in str(caught.value)


def test_a_condition_with_words_says_one_of_them() -> None:
    assert value_of(known("text", ("gold",)), "gold") == "gold"
    with pytest.raises(ValueError, match="said a text; one of gold would be right"):
        value_of(known("text", ("gold",)), "lead")


# Deciding.


def test_the_trace_says_why_an_own_condition_has_said_nothing() -> None:
    service = a_service(when(tickets={"at_least": 3}))
    for own, note in (
        ({"tickets": Said(2)}, "own.tickets is 2, wanted: at least 3"),
        ({"tickets": Said(None, "did not say in time")}, "own.tickets did not say in time"),
        ({"tickets": Said(None)}, "own.tickets is absent, wanted: at least 3"),
        ({}, "own.tickets was not asked"),
    ):
        (step,) = decide(service, facts(own=own)).trace
        assert (step.outcome, step.note) == (Outcome.FAILED, note)
        assert step.as_json()["note"] == note
        (test,) = step.as_json()["tests"]
        assert (test["found"], test["held"]) == (own.get("tickets", Said()).value, False)


NEAR = {"name": "near", "own": {"nearest": 20}}
REST = {"name": "rest", "goto": "menu,s,1"}


@pytest.mark.parametrize(
    ("said", "action", "target", "timeout"),
    [
        ({"dial": {"agent": "ben"}, "timeout": 7}, Action.DIAL, "PJSIP/ben", 7),
        ({"dial": {"group": "sales"}}, Action.DIAL, "PJSIP/anna", 20),
        ({"goto": "shop,s,1"}, Action.GOTO, "shop,s,1", 0),
        ({"voicemail": "17"}, Action.VOICEMAIL, "17", 0),
        ({"announce": "custom/closed", "then": "fallback"}, Action.ANNOUNCE, "custom/closed", 0),
        ({"reject": "busy"}, Action.REJECT, "busy", 0),
        ({"fallback": True}, Action.FALLBACK, "old-context,s,1", 0),
    ],
)
def test_an_own_action_decides_like_a_rule_with_what_it_says(
    said: Mapping[str, Any], action: Action, target: str, timeout: int
) -> None:
    agents = (an_agent("anna", idle_since=1.0), an_agent("ben", idle_since=2.0))
    decision = decide(a_service(NEAR, REST), facts(*agents, own={"sales/near": Said(said)}))
    assert (decision.action, decision.target, decision.timeout) == (action, target, timeout)
    assert decision.rule == "near"
    (step,) = decision.trace
    assert step.outcome is Outcome.DECIDED
    assert step.note.startswith('own action nearest says {"')


@pytest.mark.parametrize(
    ("said", "note"),
    [
        (Said(None), "own action nearest leaves the call to the next rule"),
        (Said(None, "did not say in time"), "own action nearest did not say in time"),
        (None, "own action nearest was not asked"),
        (
            Said({"dial": {"agent": "ben"}}),
            'own action nearest says {"dial": {"agent": "ben"}}: ben is named by the rule, but: busy',
        ),
        (
            Said({"dial": {"agent": "cem"}}),
            'own action nearest says {"dial": {"agent": "cem"}}: cem is not an agent here',
        ),
        (
            Said({"service": "support"}),
            'own action nearest: nearest.service: unknown key "service"; known: ages, announce',
        ),
    ],
)
def test_an_own_action_that_says_nothing_of_use_leaves_the_call_to_the_next_rule(
    said: Said | None, note: str
) -> None:
    given = facts(an_agent("ben", why_not="busy"), own={} if said is None else {"sales/near": said})
    decision = decide(a_service(NEAR, REST), given)
    assert decision.rule == "rest"
    assert decision.trace[0].outcome is Outcome.NOBODY
    assert decision.trace[0].note.startswith(note)


def test_an_own_action_may_name_who_came_after_the_file_was_read() -> None:
    service = a_service(NEAR, agents={"ben"}, groups={"sales"}, skills={"german"})
    for whom in ({"agent": "anna"}, {"group": "orders", "skills": {"french": 5}}):
        anna = an_agent("anna", groups=frozenset({"orders"}), skills={"french": 7})
        decision = decide(service, facts(anna, own={"sales/near": Said({"dial": whom})}))
        assert decision.agents == ("anna",)


def test_what_an_own_action_said_wrong_once_does_not_stick_to_it() -> None:
    service = a_service(NEAR)
    assert decide(service, facts(own={"sales/near": Said({"dial": "nobody"})})).rule is None
    assert decide(service, facts(own={"sales/near": Said({"reject": "busy"})})).rule == "near"


def test_an_own_action_may_dial_outside_where_the_service_has_a_way_out() -> None:
    def outside(number: str) -> DialNumber:
        return DialNumber(number, f"PJSIP/{number}@trunk")

    said = {"sales/near": Said({"dial": {"number": "+493023125100"}})}
    decision = decide(a_service(NEAR, outside=outside), facts(own=said))
    assert (decision.action, decision.target) == (Action.DIAL, "PJSIP/+493023125100@trunk")
    assert decide(a_service(NEAR), facts(own=said)).rule is None


def test_what_own_code_said_is_in_the_record_of_the_decision() -> None:
    known = facts()
    said = {"tickets": Said(4, as_of=known.at - 2), "sales/near": Said(None, "failed: KeyError")}
    assert evolve(known, own=said).as_json()["own"] == {
        "tickets": {"value": 4, "why_not": None, "age": 2.0},
        "sales/near": {"value": None, "why_not": "failed: KeyError", "age": None},
    }


# What is asked.


def test_only_what_the_rules_name_is_asked_also_those_of_a_service_that_they_pass_on_to() -> None:
    front = a_service(when(tickets=1), {"name": "on", "service": "middle"}, name="front")
    middle = a_service({"name": "on", "service": "back"}, name="middle")
    back = a_service(
        {**when(tickets=2, tier="gold"), "name": "two"},
        NEAR,
        {"name": "round", "service": "front"},
        name="back",
    )
    other = a_service(when(note="present"), name="other")
    by_name = {each.name: each for each in (front, middle, back, other)}
    assert {each.key for each in questions(front, by_name)} == {"tickets", "tier", "back/near"}
    services = Services(by_name.values(), NumberPlan("DE"))
    assert {each.key for each in services.own_questions(other)} == {"note"}
    assert services.own_questions(a_service(name="elsewhere")) == ()


def test_the_log_is_asked_for_own_code_too_which_may_look_at_the_past() -> None:
    assert asks_for_history(a_service(when(tickets=1)), {})
    assert asks_for_history(a_service(NEAR), {})


# Asking.


class Asking:
    """Own code and who asks it, with threads that hand over when the test says so."""

    def __init__(self, *rules: Mapping[str, Any], **own: Any) -> None:
        self.clock = ThreadedClock()
        self.measured: list[tuple[str, str, float]] = []
        self.code = OwnCode(self.clock, lambda *about: self.measured.append(about))
        conditions = {name: each for name, each in own.items() if isinstance(each, Finds)}
        actions = {name: each for name, each in own.items() if isinstance(each, Chooses)}
        service = a_service(
            *(rules or (when(**dict.fromkeys(conditions, "present")),)), own=Own(conditions, actions)
        )
        self.questions: tuple[Question, ...] = questions(service, {})

    def ask(self, **how: Any) -> list[dict[str, Said]]:
        """The list gets the answer."""
        told: list[dict[str, Said]] = []
        Deferred.fromCoroutine(self.code.of(self.questions, facts(), **how)).addCallback(told.append)
        return told

    def said(self) -> Said:
        """What the only one says that is asked, without hanging."""
        told = self.ask()
        if not told:
            self.clock.take()
        ((said,),) = (answer.values() for answer in told)
        return said


def test_what_own_code_says_is_gathered_from_all_at_once() -> None:
    tickets, near = Finds(says=4), Chooses({"goto": "shop,s,1"})
    asking = Asking({**NEAR, "when": {"own.tickets": "present"}}, tickets=tickets, nearest=near)
    told = asking.ask()
    asking.clock.take(2)
    assert told == [{"tickets": Said(4), "sales/near": Said({"goto": "shop,s,1"})}]
    assert [argument for _, argument in near.asked] == [20]


def test_own_code_gets_facts_of_its_own_that_it_may_spoil() -> None:
    agents = {"anna": an_agent("anna")}
    given = facts(party={"tier": "gold", "tags": ["vip"]}, agents=agents, groups={})
    tickets = Finds(says=1)
    asking = Asking(tickets=tickets)
    Deferred.fromCoroutine(asking.code.of(asking.questions, given))
    asking.clock.take()
    (got,) = tickets.asked
    assert got.group("sales").free_count == 1, "also where the server's groups are live"
    assert isinstance(got.party, dict)
    got.party["tags"].append("spoilt")
    agents.clear()
    assert given.party == {"tier": "gold", "tags": ["vip"]}
    assert list(got.agents) == ["anna"]


@pytest.mark.parametrize(
    ("says", "why_not"),
    [
        (KeyError("+4915228817386"), "failed: KeyError"),
        (SystemExit(1), "failed: SystemExit"),
        ("four", "said a text; a whole number would be right"),
        (2**60, "said a number; a whole number would be right"),
    ],
)
def test_own_code_that_raises_or_says_what_is_no_value_says_nothing_and_its_place_is_free_again(
    says: Any, why_not: str
) -> None:
    tickets = Finds(says=says)
    asking = Asking(tickets=tickets)
    with structlog.testing.capture_logs() as lines:
        assert asking.said() == Said(None, why_not)
    (line,) = (line for line in lines if line["log_level"] == "warning")
    assert line["own"] == "own.tickets"
    assert "+4915228817386" not in str(line)
    tickets.says = 5
    for _ in range(THREADS + 1):
        assert asking.said() == Said(5)


@pytest.mark.parametrize(
    ("says", "why_not"),
    [
        ({"dial": "nobody"}, 'said what no call can be given to: nearest.dial: "nobody" is not `owner`'),
        (
            {"wait": [{"for": 5, "dial": "owner"}]},
            "said what no call can be given to: nearest.wait: unknown key",
        ),
        ("shop,s,1", "said what no call can be given to: nearest: an answer is a text; a mapping"),
        ({}, "said what no call can be given to: nearest: does not say where to go"),
        ({"dial": object()}, "said what is not made of texts, numbers, lists and mappings"),
        ({"goto": float("nan")}, "said what is not made of"),
        ({"goto": "x" * MAX_ANSWER}, f"said {MAX_ANSWER + 12} characters of JSON"),
    ],
)
def test_an_action_that_says_what_is_no_target_says_nothing(says: Any, why_not: str) -> None:
    asking = Asking(NEAR, nearest=Chooses(says))
    with structlog.testing.capture_logs() as lines:
        said = asking.said()
    assert said.value is None
    assert said.why_not.startswith(why_not)
    assert [line["own"] for line in lines] == ["own action nearest"]


def test_an_action_cannot_spoil_its_argument_for_the_next_call() -> None:
    class Spoils(Chooses):
        def check(self, argument: Any) -> None:
            assert argument == {"shops": ["a"]}

        def choose(self, _facts: Any, argument: Any) -> None:
            self.asked.append((_facts, list(argument["shops"])))
            argument["shops"].clear()

    near = Spoils()
    asking = Asking({"name": "near", "own": {"nearest": {"shops": ["a"]}}}, nearest=near)
    for _ in range(2):
        assert asking.said() == Said(None)
    assert [argument for _, argument in near.asked] == [["a"], ["a"]]


def test_where_the_machine_has_no_thread_left_own_code_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    asking = Asking(tickets=Finds(says=4))
    with monkeypatch.context() as patched:
        patched.setattr(Thread, "start", start)
        assert asking.ask() == [{"tickets": Said(None, "failed: RuntimeError")}]
    assert asking.said() == Said(4)


def test_own_code_that_hangs_costs_a_caller_a_quarter_of_a_second_and_says_nothing() -> None:
    held = Event()
    asking = Asking(tickets=Finds(says=4, held=held), tier=Finds("text", says="gold"))
    told = asking.ask()
    asking.clock.take()
    asking.clock.advance(DEADLINE - 0.01)
    assert told == []
    with structlog.testing.capture_logs() as lines:
        asking.clock.advance(0.01)
    assert told == [{"tickets": Said(None, "did not say in time"), "tier": Said("gold")}]
    assert [line["why"] for line in lines] == ["no answer within 0.25 s"]
    held.set()
    asking.clock.take()
    assert len(told) == 1, "what comes too late changes nothing"


def test_own_code_that_hangs_is_left_alone_and_then_tried_with_one_question() -> None:
    held = Event()
    tickets = Finds(says=4, held=held)
    asking = Asking(tickets=tickets)
    for _ in range(FAILURES):
        asking.ask()
        asking.clock.advance(DEADLINE)
    left = [{"tickets": Said(None, "is left alone for some seconds, as it failed before")}]
    assert asking.ask() == left

    held.set()
    asking.clock.take(FAILURES)
    assert len(tickets.asked) == FAILURES
    asking.clock.advance(LEFT_ALONE)
    probe = asking.ask()
    assert asking.ask() == left
    asking.clock.take()
    assert probe == [{"tickets": Said(4)}]
    assert asking.said() == Said(4)


def test_own_code_that_fails_each_time_is_left_alone_and_a_wrong_value_is_no_failure() -> None:
    raising, wrong = Finds(says=KeyError()), Finds(says="four")
    for tickets, most in ((raising, FAILURES), (wrong, FAILURES + 2)):
        asking = Asking(tickets=tickets)
        for _ in range(FAILURES + 2):
            asking.said()
        assert len(tickets.asked) == most


def test_own_code_that_hangs_never_has_more_than_its_threads_and_comes_back_when_they_do() -> None:
    held = Event()
    hanging = Finds(says=4, held=held)
    asking = Asking(hanging=hanging)
    told = [asking.ask() for _ in range(THREADS + QUEUED)]
    threads = [thread for thread in enumerate_threads() if thread.name == "cti own.hanging"]
    assert len(threads) == THREADS
    assert all(thread.daemon for thread in threads), "the process would wait for them at its end"
    assert asking.ask() == [{"hanging": Said(None, "has too many other calls to say something to")}]
    asking.clock.advance(DEADLINE)
    assert all(answer == [{"hanging": Said(None, "did not say in time")}] for answer in told)
    asking.clock.advance(LEFT_ALONE)
    assert asking.ask() == [{"hanging": Said(None, "still hangs over earlier calls")}]

    held.set()
    asking.clock.take(THREADS)
    assert len(hanging.asked) == THREADS
    asking.clock.advance(LEFT_ALONE)
    assert asking.said() == Said(4)


def test_more_calls_than_threads_are_all_answered_one_after_the_other() -> None:
    asking = Asking(tickets=Finds(says=4))
    told = [asking.ask() for _ in range(3 * THREADS)]
    asking.clock.take(3 * THREADS)
    assert all(answer == [{"tickets": Said(4)}] for answer in told)


def test_a_question_with_less_than_its_time_says_nothing_about_own_code() -> None:
    held = Event()
    tickets = Finds(says=4, held=held)
    asking = Asking(tickets=tickets)
    for _ in range(FAILURES):
        asking.ask(within=0.1)
        asking.clock.advance(0.1)
    assert asking.ask(within=0.0) == [{"tickets": Said(None, "was not asked, as there was no time left")}]
    held.set()
    asking.clock.take(FAILURES)
    assert asking.said() == Said(4)


def test_each_question_is_measured_with_what_came_of_it() -> None:
    held = Event()
    tickets = Finds()
    asking = Asking(tickets=tickets)
    for tickets.says in (4, None, "four", KeyError()):
        asking.said()
    tickets.held = held
    for _ in range(FAILURES - 1):
        asking.ask()
        asking.clock.advance(DEADLINE)
    asking.ask()
    asking.ask(within=0.0)
    outcomes = ["hit", "miss", "error", "error", *["timeout"] * (FAILURES - 1), "open", "skipped"]
    assert [outcome for _, outcome, _ in asking.measured] == outcomes
    assert {name for name, _, _ in asking.measured} == {"own.tickets"}
    assert [seconds for _, outcome, seconds in asking.measured if outcome == "timeout"] == [
        pytest.approx(DEADLINE)
    ] * (FAILURES - 1)
    held.set()
    asking.clock.take(FAILURES - 1)


def test_its_faults_are_said_once_a_minute() -> None:
    asking = Asking(tickets=Finds(says="four"))
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            asking.said()
        asking.clock.advance(60)
        asking.said()
    assert len(lines) == 2


def test_a_rule_may_give_its_action_what_python_cannot_hash() -> None:
    (rule,) = a_service({"name": "one", "own": {"careless": {"metres": [20]}}}).rules
    (other,) = a_service({"name": "one", "own": {"careless": {"metres": [30]}}}).rules
    assert isinstance(rule.target, Chosen)
    assert len({rule, other}) == 2
