"""Each condition and each action of rules, as two tables: what holds and what fails, who is rung and why nobody is.

A fact, a test or an action that has no row here fails this test.
"""

from collections.abc import Mapping
from typing import Any, Final, get_args

import pytest
import yaml
from attrs import evolve, frozen

from routing.conditions import _TESTS, FACTS, OF_GROUPS, Kind
from routing.decide import Outcome, decide
from routing.facts import Facts, Group, History
from routing.problems import RulesError
from routing.reading import _NEEDS, _OF_GROUP, _WAYS, compile_rules
from routing.rules import (
    Announce,
    Chosen,
    DialAgent,
    DialGroup,
    DialLastAgent,
    DialNumber,
    DialOwner,
    GoTo,
    Reject,
    Target,
    ToFallback,
    ToService,
    ToVoicemail,
    Wait,
)
from tests.unit.test_cookbook import facts_of, said, settings_of
from tests.unit.test_routing import KNOWN_CALLER, STRANGER, holds

# Conditions.


@frozen
class Row:
    """A fact. `known`: what it is of `KNOWN_CALLER`; `other`: something else, and more where there is more and less;
    `less`: less than it is. `always`: what it is also where nothing is known; None where it is absent then.
    """

    known: Any
    other: Any
    less: Any = None
    always: Any = None


TABLE: Final[Mapping[str, Row]] = {
    "party": Row("present", "absent"),
    "party.adapter": Row("directory", "odoo"),
    "party.type": Row("contact", "supplier"),
    "party.id": Row("17", "18"),
    "party.name": Row("Jana Novak", "Jan Novak"),
    "party.company": Row("Novak d.o.o.", "novak d.o.o."),
    "party.owner": Row("anna", "ben"),
    "party.owner_user": Row("u1", "u2"),
    "party.tier": Row("gold", "Gold"),
    "party.language": Row("sl", "de"),
    "party.tags": Row("vip", "VIP"),
    "party.match": Row("number", "stem"),
    "party.balance": Row(-120.5, -120.49, less=-120.51),
    "party.dunning": Row("2nd reminder", "3rd reminder"),
    "open_cases": Row(3, 4, less=2),
    "parties": Row(2, 3, less=1, always=0),
    "from.kind": Row("e164", "internal", always="withheld"),
    "from.number": Row("+4915228817386", "+4915228817387"),
    "from.country": Row("DE", "AT"),
    "last_agent": Row("anna", "ben"),
    "spoken.days": Row(2, 3, less=1),
    "spoken.hours": Row(49, 50, less=48),
    "tries": Row(3, 4, less=2),
    "to": Row("+494066969100", "+494066969101", always="+494066969100"),
    "attempt": Row(2, 3, less=1, always=1),
    "last": Row("NOANSWER", "BUSY"),
    "waiting.calls": Row(3, 4, less=2, always=0),
    "waiting.longest": Row(61, 62, less=60, always=0),
    "group.sales.free": Row(1, 2, less=0, always=0),
    "group.sales.logged_in": Row(2, 3, less=1, always=0),
    "hours": Row("holiday", "closed"),
    "holiday": Row("Christmas Day", "Easter Monday"),
    "weekday": Row("fri", "sat"),
    "time": Row("09:30", "09:31", less="09:29"),
    "date": Row("2026-12-25", "2026-12-26", less="2026-12-24"),
}
#: The CRM knows them and nothing of them, and the log has no call with them. `tries` is a number then.
EMPTY = evolve(STRANGER, party=dict.fromkeys(KNOWN_CALLER.party or (), None), history=History(), last="")

#: Test → what of it holds of a fact that is as the row says, and what does not.
ASKED: Final[Mapping[str, Any]] = {
    "is": lambda row: (row.known, row.other),
    "in": lambda row: ({"in": [row.other, row.known]}, {"in": [row.other]}),
    "not": lambda row: ({"not": row.other}, {"not": row.known}),
    "contains": lambda row: ({"contains": row.known}, {"contains": row.other}),
    "prefix": lambda row: ({"prefix": str(row.known)[:-1]}, {"prefix": row.other}),
    "at_least": lambda row: ({"at_least": row.known}, {"at_least": row.other}),
    "at_most": lambda row: ({"at_most": row.known}, {"at_most": row.less}),
    "present": lambda row: ("present", "absent"),
    "absent": lambda row: ({"not": "absent"}, {"not": "present"}),
}


#: The tests that make sense of a kind of fact; `present`, `absent` and `not` with one of its own do of each.
FITTING: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.PRESENCE: (),
    Kind.TEXT: ("is", "in", "not", "prefix"),
    Kind.LIST: ("contains",),
    Kind.NUMBER: ("is", "in", "not", "at_least", "at_most"),
    Kind.AMOUNT: ("is", "in", "not", "at_least", "at_most"),
    Kind.MOMENT: ("is", "in", "not", "at_least", "at_most"),
}


def fitting(fact: str) -> tuple[str, ...]:
    return FITTING[Kind.NUMBER if fact.startswith("group.") else FACTS[fact].kind]


ALL_ASKED = [(fact, test) for fact in TABLE for test in ("present", "absent", *fitting(fact))]


def test_each_fact_and_each_test_of_it_has_its_row() -> None:
    groups = {fact for fact in TABLE if fact.startswith("group.")}
    assert set(TABLE) - groups == set(FACTS)
    assert {fact.rpartition(".")[2] for fact in groups} == set(OF_GROUPS)
    assert set(ASKED) == {"is", "present", "absent", *_TESTS}


@pytest.mark.parametrize(("fact", "test"), ALL_ASKED)
def test_a_condition_holds_of_the_value_it_names_and_of_no_other(fact: str, test: str) -> None:
    true, false = ASKED[test](TABLE[fact])
    assert holds({fact: true}, KNOWN_CALLER)
    assert not holds({fact: false}, KNOWN_CALLER)


@pytest.mark.parametrize(("fact", "test"), [each for each in ALL_ASKED if TABLE[each[0]].always is None])
def test_of_what_is_absent_nothing_holds_but_that_it_is_absent_or_not_something(fact: str, test: str) -> None:
    wanted = ASKED[test](TABLE[fact])
    for nothing in (STRANGER, EMPTY):
        if nothing is EMPTY and fact in ("party", "tries"):
            continue
        assert holds({fact: "absent"}, nothing)
        assert not holds({fact: "present"}, nothing)
        if test not in ("present", "absent"):
            assert [holds({fact: each}, nothing) for each in wanted] == [test == "not"] * 2


@pytest.mark.parametrize("fact", [fact for fact, row in TABLE.items() if row.always is not None])
def test_what_every_call_has_is_there_of_a_stranger_too(fact: str) -> None:
    assert holds({fact: TABLE[fact].always}, STRANGER)
    assert holds({fact: "present"}, STRANGER)


@pytest.mark.parametrize("fact", TABLE)
def test_a_test_that_makes_no_sense_of_a_fact_is_refused(fact: str) -> None:
    for test in _TESTS.keys() - {"not", *fitting(fact)}:
        with pytest.raises(RulesError, match=f'unknown test "{test}"'):
            compile_rules([{"name": "x", "when": {fact: {test: "x"}}, "fallback": True}])


# Actions.

SALES: Final = "dial: {group: sales}"
LINE: Final = "wait: [{for: 60, dial: {group: sales}}]"
OUTSIDE: Final = 'dial: {number: "+493023125120"}'
AT_HOME: Final = "PJSIP/+493023125120@trunk"

#: What a rule says; who calls when, in the words of the cookbook, and `gone`, which agents and services are there no
#: more; what is done, `-` where the call is left to the next rule; what the trace says of it.
ACTIONS: Final[list[tuple[type, str, str, str, str]]] = [
    (DialOwner, "dial: owner", "owner: ben", "dial ben", "ben is the owner of the caller"),
    (
        DialOwner,
        "dial: owner, timeout: 7",
        "owner: ben",
        "dial ben for 7 s",
        "ben is the owner of the caller",
    ),
    (DialOwner, "dial: owner", "nobody: known", "-", "the caller has no owner"),
    (DialOwner, "dial: owner", "owner: zoe", "-", "zoe is not an agent here"),
    (DialOwner, "dial: owner", "owner: ben, gone: [ben]", "-", "ben is not an agent here"),
    (
        DialOwner,
        "dial: owner",
        "owner: ben, away: [ben]",
        "-",
        "ben is the owner of the caller, but: logged_out",
    ),
    (DialOwner, "dial: owner", "owner: ben, busy: [ben]", "-", "ben is the owner of the caller, but: busy"),
    (
        DialOwner,
        "dial: owner",
        "owner: ben, tried: [ben]",
        "-",
        "ben is the owner of the caller, but: was offered this call already",
    ),
    (DialLastAgent, "dial: last_agent", "last_agent: dora", "dial dora", "dora talked with the caller last"),
    (
        DialLastAgent,
        "dial: last_agent",
        "nobody: known",
        "-",
        "nobody is known to have talked with the caller",
    ),
    (DialLastAgent, "dial: last_agent", "last_agent: dora, gone: [dora]", "-", "dora is not an agent here"),
    (
        DialLastAgent,
        "dial: last_agent",
        "last_agent: dora, away: [dora]",
        "-",
        "dora talked with the caller last, but: logged_out",
    ),
    (DialAgent, "dial: {agent: eva}", "nobody: known", "dial eva", "eva is named by the rule"),
    (DialAgent, "dial: {agent: eva}", "gone: [eva]", "-", "eva is not an agent here"),
    (DialAgent, "dial: {agent: eva}", "busy: [eva]", "-", "eva is named by the rule, but: busy"),
    (
        DialAgent,
        "dial: {agent: eva}",
        "tried: [eva]",
        "-",
        "eva is named by the rule, but: was offered this call already",
    ),
    (DialGroup, SALES, "nobody: known", "dial anna", "anna is longest idle in sales"),
    (DialGroup, SALES, "tried: [anna]", "dial ben", "ben is longest idle in sales"),
    (DialGroup, SALES, "tried: [anna, ben]", "-", "none of 2 in sales is free"),
    (DialGroup, SALES, "away: [anna], busy: [ben]", "-", "none of 2 in sales is free"),
    (DialGroup, SALES, "gone: [anna, ben]", "-", "nobody is in sales"),
    (
        DialGroup,
        "dial: {group: sales, skills: {slovene: 8}}",
        "nobody: known",
        "dial ben",
        "ben is longest idle in sales with slovene 8",
    ),
    (
        DialGroup,
        "dial: {group: sales, skills: {slovene: 9}}",
        "nobody: known",
        "-",
        "nobody is sales with slovene 9",
    ),
    (
        DialGroup,
        "dial: {skills: {slovene: 2}}",
        "busy: [anna]",
        "dial ben",
        "ben is longest idle in all agents with slovene 2",
    ),
    (
        DialGroup,
        "dial: {group: sales, order: round_robin}",
        "offered: {anna: 20, ben: 10}",
        "dial ben",
        "ben was offered a call longest ago in sales",
    ),
    (
        DialGroup,
        "dial: {group: sales, order: weighted, weights: {anna: 0}}",
        "nobody: known",
        "dial ben",
        "ben was drawn by lot (0.97 of 1, weight 1) in sales",
    ),
    (
        DialGroup,
        "dial: {group: sales, weights: {anna: 0, ben: 0}}",
        "nobody: known",
        "-",
        "none of 2 in sales is free",
    ),
    (
        DialGroup,
        "dial: {group: sales, all: true}",
        "nobody: known",
        "dial anna ben",
        "all 2 who are free in sales",
    ),
    (DialGroup, "dial: {group: sales, all: true}", "tried: [anna, ben]", "-", "none of 2 in sales is free"),
    (DialNumber, OUTSIDE, "nobody: known", f"dial {AT_HOME}", "+493023125120 is named by the rule"),
    (DialNumber, OUTSIDE, f"tried: [{AT_HOME}]", "-", "+493023125120 was offered this call already"),
    (Wait, LINE, "nobody: known", "dial anna", "anna is longest idle in sales"),
    (
        Wait,
        LINE,
        "busy: [anna, ben]",
        "wait 60 s for sales",
        "waits for sales, step 1 of 1: none of 2 in sales is free",
    ),
    (Wait, LINE, "busy: [anna, ben], waited: 60", "-", "the call has waited for 60 s"),
    (Wait, LINE, "away: [anna, ben]", "-", "nobody is logged in for step 1 (sales)"),
    (Wait, LINE, "gone: [anna, ben]", "-", "nobody is logged in for step 1 (sales)"),
    (
        Wait,
        "wait: [{for: 20, dial: owner}]",
        "owner: zoe",
        "-",
        "nobody is logged in for step 1 (the owner)",
    ),
    (
        Wait,
        "wait: [{for: 20, dial: last_agent}]",
        "nobody: known",
        "-",
        "nobody is logged in for step 1 (who talked with the caller last)",
    ),
    (
        Wait,
        "wait: [{for: 20, dial: {agent: eva}}]",
        "away: [eva]",
        "-",
        "nobody is logged in for step 1 (eva)",
    ),
    (
        Wait,
        f"{LINE}, timeout: 7, priority: -5, ages: 30, music: jazz, answer: false",
        "busy: [anna, ben]",
        "wait 60 s for sales, urgent -5, a level each 30 s, with jazz, unanswered",
        "waits for sales, step 1 of 1: none of 2 in sales is free",
    ),
    (Wait, f"{LINE}, timeout: 7", "nobody: known", "dial anna for 7 s", "anna is longest idle in sales"),
    (
        Wait,
        f'{LINE}, comfort: {{expected: true}}, callback_key: {{key: "5", sounds: [a, b]}}',
        "busy: [anna, ben]",
        "wait 60 s for sales, each 30 s expected, key 5 a b",
        "waits for sales, step 1 of 1: none of 2 in sales is free",
    ),
    (ToService, "service: sales", "nobody: known", "dial anna", "the rule passes the call on to sales"),
    (ToService, "service: sales", "gone: [sales]", "-", "there is no service sales"),
    (
        ToFallback,
        "fallback: true",
        "nobody: known",
        "fallback reception,s,1",
        "the rule sends the call to the fallback",
    ),
    (GoTo, 'goto: "menu,s,1"', "nobody: known", "goto menu,s,1", "the rule sends the call to menu,s,1"),
    (
        ToVoicemail,
        'voicemail: "17@sales"',
        "nobody: known",
        "voicemail 17@sales",
        "the rule sends the call to the mailbox 17@sales",
    ),
    (
        Announce,
        "announce: [a, b]",
        "nobody: known",
        "announce a&b, then hang up",
        "the rule plays a, b and hangs up",
    ),
    (
        Announce,
        "announce: a, then: fallback",
        "nobody: known",
        "announce a, then reception,s,1",
        "the rule plays a and sends the call to the fallback",
    ),
    (
        Announce,
        'announce: a, then: "menu,s,1"',
        "nobody: known",
        "announce a, then menu,s,1",
        "the rule plays a and sends the call to menu,s,1",
    ),
    (
        Announce,
        "announce: a, callback: true",
        "nobody: known",
        "announce a, then hang up, call back",
        "the rule plays a and hangs up",
    ),
    (
        Announce,
        "announce: a, callback: true",
        "kind: withheld",
        "-",
        "nobody can call back, as the caller's number is not known",
    ),
    (Reject, "reject: busy", "nobody: known", "reject busy", "the rule rejects the call: busy"),
    (
        Reject,
        "reject: congestion",
        "nobody: known",
        "reject congestion",
        "the rule rejects the call: congestion",
    ),
    (Reject, "reject: 1", "nobody: known", "reject 1", "the rule rejects the call with cause 1"),
    (Reject, "reject: declined", "nobody: known", "reject declined", "the rule rejects the call: declined"),
]
#: Those that take every call.
SURE: Final = {ToFallback, GoTo, ToVoicemail, Reject}


def without(given: Facts, gone: list[str]) -> Facts:
    """The same after these agents have been deleted."""
    agents = {id: agent for id, agent in given.agents.items() if id not in gone}
    groups = {
        name: Group(a for a in group if a.id not in gone) for name, group in (given.groups or {}).items()
    }
    return evolve(given, agents=agents, groups=groups)


@pytest.mark.parametrize(("target", "rule", "case", "done", "why"), ACTIONS)
def test_a_rule_does_what_it_says_or_says_why_not(
    target: type, rule: str, case: str, done: str, why: str
) -> None:
    settings, given = settings_of(f"[{{name: it, {rule}}}]"), yaml.safe_load(f"{{{case}}}")
    gone = given.pop("gone", [])
    service = settings.services["this-one"]
    assert isinstance(service.rules[0].target, target)
    others = {name: other for name, other in settings.services.items() if name not in gone}
    decision = decide(service, without(facts_of(given, settings), gone), others)

    left = done == "-"
    assert said(decision).partition(", by ")[0] == ("fallback reception,s,1" if left else done)
    assert (decision.trace[0].outcome is Outcome.NOBODY) == left
    assert decision.trace[0].note == why
    if left:
        assert decision.reason == f"fallback: nobody is left: it: {why}"


def test_each_action_and_each_key_of_a_rule_has_its_row_and_each_that_can_fail_one_where_it_does() -> None:
    # What a company's own action says is one of the others; `test_own` has it, and what it says wrongly.
    targets = set(get_args(Target)) - {Chosen}
    assert {target for target, *_ in ACTIONS} == targets
    assert {target for target, _, _, done, _ in ACTIONS if done == "-"} == targets - SURE
    written = [yaml.safe_load(f"{{{rule}}}") for _, rule, *_ in ACTIONS]
    of_a_group = [rule["dial"] for rule in written if isinstance(rule.get("dial"), dict)]
    assert {key for rule in written for key in rule} == {*_WAYS, *_NEEDS} - {"own"}
    assert {key for dial in of_a_group for key in dial} == {"agent", "group", "number", *_OF_GROUP}


def test_services_that_lead_back_to_each_other_end_at_a_fallback() -> None:
    settings = settings_of("[{name: it, service: sales}]")
    back = evolve(settings.services["sales"], rules=compile_rules([{"name": "back", "service": "this-one"}]))
    given = facts_of({}, settings)
    decision = decide(settings.services["this-one"], given, {**settings.services, "sales": back})

    assert said(decision) == "fallback sales-desk,s,1, by no rule of sales"
    assert [step.note for step in decision.trace] == [
        "the rule passes the call on to sales",
        "this-one has decided already",
    ]
