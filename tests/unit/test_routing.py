"""Rules and decisions: what each condition and target does, and what no set of facts may ever lead to."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from adapters.base import PartyType
from cti.numbers import NumberKind
from routing.amounts import amount
from routing.clock import Hours, WallClock
from routing.conditions import FACTS
from routing.decide import MAX_CANDIDATES, Action, Candidate, Decision, Outcome, decide
from routing.facts import FROM_KINDS, PARTY_TYPES, AgentFacts, Facts, Group, History, Line, is_phone
from routing.problems import RulesError
from routing.reading import compile_rules
from routing.rules import (
    Announce,
    DialAgent,
    DialGroup,
    DialOwner,
    GoTo,
    Mode,
    Reject,
    Rejection,
    Service,
    ToFallback,
    ToVoicemail,
)

FALLBACK = "old-context,s,1"


def an_agent(id: str, *, why_not: str | None = None, idle_since: float = 0.0, **changes: Any) -> AgentFacts:
    given_values: dict[str, Any] = {
        "id": id,
        "name": id.title(),
        "phones": (f"PJSIP/{id}",),
        "groups": frozenset({"sales"}),
        "state": "ready" if why_not is None else "paused",
        "why_not": why_not,
        "idle_since": idle_since,
    }
    return AgentFacts(**{**given_values, **changes})


def facts(*agents: AgentFacts, **changes: Any) -> Facts:
    given_values: dict[str, Any] = {
        "at": 1_800_000_000.0,
        "service": "sales",
        "from_number": "+4915228817386",
        "from_kind": "e164",
        "to": "+494066969100",
        "agents": {agent.id: agent for agent in agents},
    }
    return Facts(**{**given_values, **changes})


def a_party(**values: Any) -> dict[str, Any]:
    return {"adapter": "directory", "type": "contact", "id": "17", "owner": None, **values}


def a_service(*rules: Mapping[str, Any], **changes: Any) -> Service:
    return Service(
        "sales", ("+494066969100",), Mode.ROUTE, None, FALLBACK, compile_rules(list(rules)), **changes
    )


def holds(when: Mapping[str, Any], given_facts: Facts) -> bool:
    decision = decide(a_service({"name": "one", "when": when, "fallback": True}), given_facts)
    return decision.rule == "one"


KNOWN_CALLER = facts(
    an_agent("anna"),
    an_agent("ben", why_not="busy"),
    an_agent("cem", why_not="logged_out", state="logged_out"),
    party=a_party(
        name="Jana Novak",
        company="Novak d.o.o.",
        owner="anna",
        owner_user="u1",
        tier="gold",
        language="sl",
        tags=["vip", "press"],
        match="number",
        balance="-120,50 EUR",
        dunning="2nd reminder",
        open_cases=3,
    ),
    parties=2,
    attempt=2,
    last="NOANSWER",
    line=Line(3, 61.4),
    clock=WallClock(Hours.HOLIDAY, "2026-12-25", "09:30", "fri", "Christmas Day"),
    from_country="DE",
    history=History("anna", 1_800_000_000.0 - 2 * 86_400 - 3600, 3),
)
STRANGER = facts(from_number=None, from_kind="withheld")


# Fact, tests in one another or beside each other that hold for KNOWN_CALLER, and that do not. Each fact by itself is
# in test_rule_tables.py.
COMBINED: list[tuple[str, Any, Any]] = [
    ("party.tier", {"not": {"in": ["silver"]}}, {"not": {"in": ["gold"]}}),
    ("party.tier", {"not": {"not": "gold"}}, {"not": {"not": "silver"}}),
    ("party.tags", {"not": {"contains": "debtor"}}, {"not": {"contains": "vip"}}),
    ("parties", {"at_least": 1, "at_most": 2}, {"at_least": 1, "at_most": 1}),
    ("hours", {"not": "open"}, {"in": ["open", "closed"]}),
    ("time", {"at_least": "09:30", "at_most": "09:30"}, {"at_least": "09:00", "at_most": "09:29"}),
    ("time", {"not": {"at_least": "12:00"}}, {"not": {"at_most": "12:00"}}),
    ("date", {"at_least": "2026-12-24", "at_most": "2026-12-31"}, {"at_least": "2026-12-26"}),
    ("group.nobody.free", 0, {"at_least": 1}),
]


@pytest.mark.parametrize(("fact", "true", "false"), COMBINED)
def test_tests_in_one_another_and_beside_each_other_hold_together(fact: str, true: Any, false: Any) -> None:
    assert holds({fact: true}, KNOWN_CALLER)
    assert not holds({fact: false}, KNOWN_CALLER)


@pytest.mark.parametrize("test", [1, 0, {"at_most": 1}, {"at_least": 0}, "present"])
@pytest.mark.parametrize("fact", ["spoken.days", "spoken.hours", "tries"])
def test_a_log_that_did_not_answer_looks_like_no_first_call(fact: str, test: Any) -> None:
    assert not holds({fact: test}, evolve(KNOWN_CALLER, history=None))


def test_who_has_never_been_talked_with_is_known_to_call_for_the_first_time() -> None:
    first = facts(history=History())
    assert holds(
        {"last_agent": "absent", "spoken.days": "absent", "spoken.hours": "absent", "tries": 1}, first
    )


@pytest.mark.parametrize(
    ("seconds", "days", "hours"),
    [(-5, 0, 0), (0, 0, 0), (3599, 0, 0), (3600, 0, 1), (86_399, 0, 23), (172_800, 2, 48)],
)
def test_time_since_a_talk_counts_in_whole_days_and_hours(seconds: float, days: int, hours: int) -> None:
    spoken = facts(history=History("anna", 1_800_000_000.0 - seconds))
    assert holds({"spoken.days": days, "spoken.hours": hours}, spoken)


def test_the_record_of_a_decision_shows_what_the_log_said_and_that_it_said_nothing() -> None:
    known, silent = KNOWN_CALLER.as_json(), facts().as_json()
    assert known["from"]["country"] == "DE"
    assert known["history"] == {
        "last_agent": "anna",
        "last_spoken": 1_800_000_000.0 - 2 * 86_400 - 3600,
        "tries": 3,
        "age": None,
    }
    assert (silent["from"]["country"], silent["history"]) == (None, None)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("120", 120.0),
        ("120.5", 120.5),
        ("-120,50 EUR", -120.5),
        ("+3,20€", 3.2),
        ("EUR 7", 7.0),
        ("€ -7", -7.0),
        ("\u22127.10", -7.1),
        ("1.234,50 EUR", 1234.5),
        ("1,234.50", 1234.5),
        ("-0", 0.0),
        (120.5, 120.5),
        (-3, -3.0),
        # Nobody can say which of two numbers these are.
        ("1.234", None),
        ("12,345", None),
        ("1.234.567", None),
        ("", None),
        ("none", None),
        ("3 h", None),
        ("5 of 7", None),
        ("1e5", None),
        ("EUR", None),
        ("--5", None),
        ("9" * 16, None),
        ("nan", None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        (True, None),
        (None, None),
        (["5"], None),
    ],
)
def test_an_amount_is_read_strictly_and_what_may_be_two_numbers_is_none(
    written: Any, value: float | None
) -> None:
    assert amount(written) == value
    assert holds({"party.balance": "absent"}, facts(party=a_party(balance=written))) == (value is None)


def test_not_holds_for_a_stranger_because_the_test_inside_does_not() -> None:
    assert holds({"party.tier": {"not": "gold"}}, STRANGER)


def test_an_empty_value_is_absent() -> None:
    assert holds(
        {"party.tags": "absent", "party.tier": "absent", "last": "absent"},
        facts(party=a_party(tags=[], tier=""), last=""),
    )


def test_all_conditions_of_a_rule_must_hold() -> None:
    assert not holds({"party.tier": "gold", "party.language": "de"}, KNOWN_CALLER)


@pytest.mark.parametrize("value", [7, 1.5, True, None, ["gold"], {"a": 1}, {"gold"}])
@pytest.mark.parametrize(
    "test", ["gold", {"in": ["gold"]}, {"prefix": "go"}, {"prefix": "7"}, {"prefix": "No"}, "present"]
)
def test_a_crm_that_answers_with_another_type_breaks_no_decision(value: Any, test: Any) -> None:
    decision = decide(
        a_service({"name": "one", "when": {"party.tier": test}, "fallback": True}),
        facts(party=a_party(tier=value)),
    )
    json.dumps([step.as_json() for step in decision.trace])
    assert (decision.rule == "one") == (test == "present" and value is not None)


def test_the_words_of_other_rooms_are_those_that_rules_know() -> None:
    assert set(FROM_KINDS) == set(NumberKind)
    assert set(PARTY_TYPES) == set(PartyType)
    assert [str(action) for action in Action] == [
        "dial",
        "wait",
        "goto",
        "voicemail",
        "announce",
        "reject",
        "fallback",
    ]


OWNER = {"name": "owner", "when": {"party.owner": "present"}, "dial": "owner", "timeout": 15}
REST = {"name": "rest", "dial": {"group": "sales"}}


def test_the_owner_of_the_caller_is_dialled() -> None:
    decision = decide(
        a_service(OWNER, REST), facts(an_agent("anna"), an_agent("ben"), party=a_party(owner="anna"))
    )
    assert (decision.action, decision.agents, decision.target, decision.timeout, decision.rule) == (
        Action.DIAL,
        ("anna",),
        "PJSIP/anna",
        15,
        "owner",
    )
    assert decision.reason == "owner: anna is the owner of the caller"


def test_an_owner_who_is_away_passes_the_call_to_the_longest_idle_of_the_group() -> None:
    given_facts = facts(
        an_agent("anna", why_not="logged out"),
        an_agent("ben", idle_since=30.0),
        an_agent("cem", idle_since=10.0),
        party=a_party(owner="anna"),
    )
    decision = decide(a_service(OWNER, REST), given_facts)
    assert (decision.agents, decision.rule) == (("cem",), "rest")
    assert decision.reason == "rest: cem is longest idle in sales"
    owner, rest = decision.trace
    assert owner.outcome is Outcome.NOBODY
    assert [c.as_json() for c in owner.candidates] == [{"agent": "anna", "why_not": "logged out"}]
    assert {c.agent: c.why_not for c in rest.candidates} == {
        "anna": "logged out",
        "ben": "cem comes first",
        "cem": None,
    }


def test_an_owner_whom_nobody_here_knows_passes_the_call_on() -> None:
    decision = decide(a_service(OWNER, REST), facts(an_agent("ben"), party=a_party(owner="zoe")))
    assert decision.agents == ("ben",)
    assert decision.trace[0].candidates[0].why_not == "is not an agent here"


def test_a_named_agent_is_dialled_with_the_service_s_time_where_the_rule_has_none() -> None:
    decision = decide(
        a_service({"name": "ben", "dial": {"agent": "ben"}}, ring_timeout=33), facts(an_agent("ben"))
    )
    assert (decision.agents, decision.timeout, decision.reason) == (
        ("ben",),
        33,
        "ben: ben is named by the rule",
    )


def test_all_phones_of_an_agent_ring() -> None:
    decision = decide(a_service(REST), facts(an_agent("ben", phones=("PJSIP/ben", "SIP/desk-2"))))
    assert decision.target == "PJSIP/ben&SIP/desk-2"


def test_an_agent_without_a_phone_is_not_chosen() -> None:
    decision = decide(a_service(REST), facts(an_agent("ben", phones=())))
    assert decision.action is Action.FALLBACK
    assert decision.trace[0].candidates[0].why_not == "has no phone"


def test_a_rule_may_choose_the_fallback() -> None:
    decision = decide(a_service({"name": "night", "fallback": True}), facts(an_agent("ben")))
    assert (decision.action, decision.target, decision.agents, decision.timeout, decision.rule) == (
        Action.FALLBACK,
        FALLBACK,
        (),
        0,
        "night",
    )


def test_without_a_rule_that_holds_the_fallback_takes_the_call() -> None:
    decision = decide(a_service({**REST, "when": {"party": "present"}}), facts(an_agent("ben")))
    assert (decision.action, decision.target, decision.rule) == (Action.FALLBACK, FALLBACK, None)
    assert decision.reason == "fallback: no rule matched"
    assert decision.trace[0].note == "party is absent, wanted: is present"


def test_when_everybody_was_tried_the_fallback_takes_the_call_and_the_reason_says_so() -> None:
    given_facts = facts(
        an_agent("anna"), an_agent("ben"), tried=frozenset({"anna", "ben"}), party=a_party(owner="anna")
    )
    decision = decide(a_service(OWNER, REST), given_facts)
    assert (decision.action, decision.rule) == (Action.FALLBACK, None)
    assert decision.reason == (
        "fallback: nobody is left: owner: anna is the owner of the caller, but: was offered this call already;"
        " rest: none of 2 in sales is free"
    )


def test_why_somebody_is_paused_stands_with_the_candidate_and_in_no_sentence() -> None:
    decision = decide(
        a_service(OWNER), facts(an_agent("anna", why_not="paused: doctor"), party=a_party(owner="anna"))
    )
    (step,) = decision.trace
    assert step.as_json()["candidates"] == [{"agent": "anna", "why_not": "paused: doctor"}]
    assert step.note == "anna is the owner of the caller, but: paused"
    assert "doctor" not in decision.reason


def test_agents_idle_for_equally_long_are_taken_by_their_ids() -> None:
    agents = [an_agent("cem"), an_agent("anna"), an_agent("ben")]
    for order in (agents, agents[::-1]):
        assert decide(a_service(REST), facts(*order)).agents == ("anna",)


def test_a_ready_made_index_of_groups_is_used_and_copied_into_the_trace() -> None:
    members = Group([an_agent("ben"), an_agent("cem", why_not="busy")])
    decision = decide(a_service(REST), facts(*members, groups={"sales": members}))
    for each in ("ben", "cem"):
        members.drop(each)
    assert decision.agents == ("ben",)
    assert [c.agent for c in decision.trace[0].candidates] == ["ben", "cem"]


def test_the_trace_of_a_large_group_names_the_chosen_agent_and_counts_the_rest() -> None:
    agents = [an_agent(f"a{n:03}", why_not="busy") for n in range(99)] + [an_agent("zoe")]
    step = decide(a_service(REST), facts(*agents)).trace[0]
    assert len(step.candidates) == MAX_CANDIDATES
    assert step.candidates[-1].agent == "zoe"
    assert step.more == 100 - MAX_CANDIDATES


def test_a_reason_is_one_line_whatever_people_type_as_a_pause() -> None:
    given_facts = facts(an_agent("ben", why_not="paused: tea\r\nSET VARIABLE X\x00 \u202e" + "y" * 500))
    reason = decide(a_service({"name": "ben", "dial": {"agent": "ben"}}), given_facts).reason
    assert reason.isprintable()
    assert len(reason) <= 200


def test_trace_and_facts_are_json() -> None:
    decision = decide(a_service(OWNER, REST), KNOWN_CALLER)
    trace = json.loads(json.dumps([step.as_json() for step in decision.trace]))
    assert trace[0]["tests"] == [
        {"fact": "party.owner", "wanted": "is present", "found": "anna", "held": True}
    ]
    record = json.loads(json.dumps(KNOWN_CALLER.as_json()))
    assert record["from"] == {"number": "+4915228817386", "kind": "e164", "country": "DE"}
    assert "agents" not in record


def test_facts_do_not_show_the_caller_in_a_log() -> None:
    assert "Novak" not in repr(KNOWN_CALLER)
    assert "28817386" not in repr(KNOWN_CALLER)


@pytest.mark.parametrize("phone", ["PJSIP/anna", "SIP/100", "PJSIP/anna-2.a_b@trunk+1", "DAHDI/1"])
def test_a_device_is_a_phone(phone: str) -> None:
    assert is_phone(phone)


@pytest.mark.parametrize(
    "phone",
    [
        "",
        "anna",
        "PJSIP/",
        "PJSIP/a&PJSIP/b",
        "PJSIP/a&b",
        "PJSIP/a,20",
        "Local/1@ctx/n",
        "PJSIP/a\n",
        "PJSIP/ä",
        "PJSIP/${X}",
    ],
)
def test_what_would_change_a_dial_string_is_no_phone(phone: str) -> None:
    assert not is_phone(phone)
    with pytest.raises(ValueError, match="PJSIP/anna"):
        an_agent("anna", phones=(phone,))


def test_targets_are_compiled() -> None:
    dials: list[Any] = ["owner", {"agent": "anna"}, {"group": "sales"}]
    rules = compile_rules(
        [{"name": str(n), "dial": dial} for n, dial in enumerate(dials)] + [{"name": "x", "fallback": True}]
    )
    assert [rule.target for rule in rules] == [
        DialOwner(),
        DialAgent("anna"),
        DialGroup("sales"),
        ToFallback(),
    ]


ELSEWHERE: list[tuple[dict[str, Any], Any, tuple[Action, str, str], str]] = [
    (
        {"goto": "self-service, s ,1"},
        GoTo("self-service,s,1"),
        (Action.GOTO, "self-service,s,1", ""),
        "sends the call to self-service,s,1",
    ),
    (
        {"voicemail": "17@default"},
        ToVoicemail("17@default"),
        (Action.VOICEMAIL, "17@default", ""),
        "sends the call to the mailbox 17@default",
    ),
    (
        {"announce": "custom/closed"},
        Announce(("custom/closed",)),
        (Action.ANNOUNCE, "custom/closed", ""),
        "plays custom/closed and hangs up",
    ),
    (
        {"announce": ["hello", "closed"], "then": "fallback"},
        Announce(("hello", "closed"), ToFallback()),
        (Action.ANNOUNCE, "hello&closed", FALLBACK),
        "plays hello, closed and sends the call to the fallback",
    ),
    (
        {"announce": "closed", "then": "self-service,s,1"},
        Announce(("closed",), GoTo("self-service,s,1")),
        (Action.ANNOUNCE, "closed", "self-service,s,1"),
        "plays closed and sends the call to self-service,s,1",
    ),
    (
        {"reject": "busy"},
        Reject(Rejection.BUSY),
        (Action.REJECT, "busy", ""),
        "rejects the call: busy",
    ),
]


@pytest.mark.parametrize(("target", "compiled", "decided", "said"), ELSEWHERE)
def test_a_rule_may_send_the_call_elsewhere_and_the_reason_says_where(
    target: dict[str, Any], compiled: Any, decided: tuple[Action, str, str], said: str
) -> None:
    (rule,) = compile_rules([{"name": "night", **target}])
    decision = decide(a_service({"name": "night", **target}), facts(an_agent("ben")))

    assert rule.target == compiled
    assert (decision.action, decision.target, decision.then) == decided
    assert (decision.agents, decision.timeout, decision.rule) == ((), 0, "night")
    assert decision.reason == f"night: the rule {said}"
    (step,) = decision.trace
    assert (step.outcome, step.note) == (Outcome.DECIDED, f"the rule {said}")
    assert step.as_json()["note"] == step.note


NEST: Any = "gold"
for _ in range(20):
    NEST = {"not": NEST}


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        ({"when": {"party.colour": "red"}}, "rules[0].when.party.colour", "unknown fact"),
        ({"when": {"party.tiers": "gold"}}, "rules[0].when.party.tiers", 'did you mean "party.tier"?'),
        ({"when": ["party"]}, "rules[0].when", "a mapping would be right"),
        ({"when": None}, "rules[0].when", "is empty"),
        ({"when": {"party": "gold"}}, "rules[0].when.party", "`present` or `absent`"),
        ({"when": {"party.tags": "vip"}}, "rules[0].when.party.tags", "{contains: X}"),
        (
            {"when": {"party.tier": {"contains": "x"}}},
            "rules[0].when.party.tier.contains",
            "known: in, not, prefix",
        ),
        ({"when": {"party.tier": {}}}, "rules[0].when.party.tier", "is empty"),
        ({"when": {"party.tier": NEST}}, "rules[0].when.party.tier.not", "nested deeper"),
        ({"when": {"party.tier": {"in": []}}}, "rules[0].when.party.tier.in", "a list of 1 to"),
        ({"when": {"party.tier": {"in": ["a", 3]}}}, "rules[0].when.party.tier.in[1]", "in quotes"),
        (
            {"when": {"party.id": 17}},
            "rules[0].when.party.id",
            "is a number; a text would be right, in quotes",
        ),
        ({"when": {"parties": "two"}}, "rules[0].when.parties", "a whole number"),
        ({"when": {"parties": True}}, "rules[0].when.parties", "is a yes or no"),
        ({"when": {"parties": {"at_least": 1.5}}}, "rules[0].when.parties.at_least", "a whole number"),
        ({"when": {"tries": 1.5}}, "rules[0].when.tries", "a whole number"),
        ({"when": {"party.balance": "-5 EUR"}}, "rules[0].when.party.balance", "is a text; a number such as"),
        (
            {"when": {"party.balance": {"at_most": float("nan")}}},
            "rules[0].when.party.balance.at_most",
            "a number such as -120.50",
        ),
        ({"when": {"from.country": "Germany"}}, "rules[0].when.from.country", 'as "DE" is'),
        ({"when": {"from.country": False}}, "rules[0].when.from.country", 'as "DE" is, in quotes'),
        ({"when": {"last_agent": "ana"}}, "rules[0].when.last_agent", 'did you mean "anna"?'),
        ({"when": {"from.kind": "witheld"}}, "rules[0].when.from.kind", 'did you mean "withheld"?'),
        ({"when": {"party.type": "customer"}}, "rules[0].when.party.type", "organisation"),
        ({"when": {"last": "NO ANSWER"}}, "rules[0].when.last", 'did you mean "NOANSWER"?'),
        ({"when": {"party.owner": "ana"}}, "rules[0].when.party.owner", 'did you mean "anna"?'),
        ({"dial": "ownr"}, "rules[0].dial", '"ownr" is not `owner`'),
        ({"dial": {"agent": "ana"}}, "rules[0].dial.agent", 'did you mean "anna"?'),
        ({"dial": {"group": "sale"}}, "rules[0].dial.group", 'did you mean "sales"?'),
        ({"dial": {"queue": "sales"}}, "rules[0].dial.queue", "known: agent, all, group"),
        ({"dial": {"agent": "anna", "group": "sales"}}, "rules[0].dial", "exactly one"),
        ({"dial": {"agent": 5}}, "rules[0].dial.agent", "in quotes"),
        ({"dial": 5}, "rules[0].dial", "is a number"),
        ({"fallback": True}, "rules[0]", "says both dial and fallback; one of"),
        ({"timeout": 0}, "rules[0].timeout", "whole seconds from 1"),
        ({"timeout": True}, "rules[0].timeout", "whole seconds from 1"),
        ({"name": ""}, "rules[0].name", "a text of 1 to"),
        ({"name": "a\nb"}, "rules[0].name", "on one line"),
        ({"colour": "red"}, "rules[0].colour", "unknown key"),
    ],
)
def test_a_wrong_rule_is_named_with_its_path_and_what_would_be_right(
    rule: dict[str, Any], path: str, text: str
) -> None:
    with pytest.raises(RulesError) as caught:
        compile_rules(
            [{"name": "rest", "dial": {"group": "sales"}, **rule}], agents={"anna"}, groups={"sales"}
        )
    found = {str(problem).partition(": ")[0]: problem.text for problem in caught.value.problems}
    assert any(at.startswith(path) and text in said for at, said in found.items()), caught.value


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"name": "x"}, "rules: is a mapping; a list of rules"),
        (["rest"], "rules[0]: a rule is a text; a mapping"),
        ([{"dial": "owner"}], "rules[0]: `name` is missing"),
        ([{"name": "x"}], "rules[0]: does not say where to go"),
        ([{"name": "x", "fallback": False}], "rules[0].fallback: only `fallback: true`"),
        ([{"name": "x", "fallback": True, "timeout": 5}], "rules[0].timeout: has no meaning"),
        ([{"name": "x", "goto": "old-context"}], 'rules[0].goto: "old-context" is not `context,exten,prio`'),
        ([{"name": "x", "goto": "a,${B},1"}], "rules[0].goto: "),
        ([{"name": "x", "goto": 5}], "rules[0].goto: a number is not"),
        ([{"name": "x", "goto": "cti-route,s,1"}], "is a context of Cordboard's own dialplan; one of yours"),
        ([{"name": "x", "voicemail": 17}], "rules[0].voicemail: a number is no mailbox; its name in quotes"),
        ([{"name": "x", "voicemail": "17,u"}], 'rules[0].voicemail: "17,u" is no mailbox'),
        ([{"name": "x", "announce": "../../etc/passwd"}], "is no sound; a file's name below"),
        ([{"name": "x", "announce": "a&b"}], 'rules[0].announce: "a&b" is no sound'),
        ([{"name": "x", "announce": ["a", 5]}], "rules[0].announce[1]: a number is no sound"),
        ([{"name": "x", "announce": []}], "rules[0].announce: has 0 sounds; 1 to 20"),
        ([{"name": "x", "announce": "a", "then": "nowhere"}], 'rules[0].then: "nowhere" is not'),
        ([{"name": "x", "announce": "a", "then": "cti-ask,route,1"}], "rules[0].then: "),
        ([{"name": "x", "fallback": True, "then": "fallback"}], "rules[0].then: has no meaning without"),
        ([{"name": "x", "reject": "bussy"}], 'did you mean "busy"?'),
        ([{"name": "x", "reject": 128}], "rules[0].reject: whole numbers from 1 to 127 would be right"),
        ([{"name": "x", "reject": True}], "rules[0].reject: unknown way to reject a call"),
        (
            [{"name": "x", "dial": "owner", "goto": "a,s,1", "reject": "busy"}],
            "both dial and goto and reject",
        ),
        ([REST, REST], 'rules[1].name: "rest" is rule 0\'s name already'),
        ([REST] * 1001, "rules: has 1001 rules"),
    ],
)
def test_rules_of_a_wrong_shape_are_refused(rules: Any, text: str) -> None:
    with pytest.raises(RulesError) as caught:
        compile_rules(rules)
    assert text in str(caught.value)


def test_all_problems_of_all_rules_come_at_once() -> None:
    with pytest.raises(RulesError) as caught:
        compile_rules(
            [{"name": "a", "dial": "x", "when": {"y": 1}}, {"name": "b", "dial": "z"}],
            path=("services", "s", "rules"),
        )
    assert [str(problem).partition(": ")[0] for problem in caught.value.problems] == [
        "services.s.rules[0].when.y",
        "services.s.rules[0].dial",
        "services.s.rules[1].dial",
    ]


IDS = st.sampled_from(["anna", "ben", "cem", "dora"])
AGENTS = st.lists(
    st.builds(
        an_agent,
        IDS,
        why_not=st.sampled_from([None, None, "busy", "paused: lunch", ""]),
        idle_since=st.sampled_from([0.0, 1.0, 2.0]),
        groups=st.frozensets(st.sampled_from(["sales", "support"])),
        phones=st.sampled_from([("PJSIP/x",), ()]),
    ),
    unique_by=lambda agent: agent.id,
)
TARGETS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {"dial": "owner"},
        {"dial": {"group": "sales"}},
        {"dial": {"group": "support"}},
        {"dial": {"agent": "anna"}},
        {"fallback": True},
        *(target for target, *_ in ELSEWHERE),
    ]
)
WHENS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"party": "present"},
        {"party.tier": "gold"},
        {"attempt": {"at_least": 2}},
        {"party.tags": {"contains": "vip"}},
    ]
)
PARTIES = st.none() | st.builds(
    a_party,
    owner=st.none() | IDS | st.just("nobody"),
    tier=st.sampled_from([None, "gold"]),
    tags=st.lists(st.sampled_from(["vip", "press"])),
)


def a_group(agents: list[AgentFacts]) -> Group:
    group = Group()
    for agent in agents:
        # Whatever they were before.
        group.put(evolve(agent, why_not=None, idle_since=0.0))
        group.put(agent)
    return group


def rules_of(drawn: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    # What follows a rule that takes every call is never reached, and refused.
    last = next(
        (n for n, (when, target) in enumerate(drawn) if not when and "dial" not in target), len(drawn)
    )
    return [{"name": f"r{n}", "when": when, **target} for n, (when, target) in enumerate(drawn[: last + 1])]


@given(
    drawn=st.lists(st.tuples(WHENS, TARGETS), max_size=5),
    agents=AGENTS,
    party=PARTIES,
    tried=st.frozensets(IDS),
    attempt=st.integers(1, 3),
    grouped=st.sampled_from([Group, a_group]),
    order=st.randoms(use_true_random=False),
)
def test_nobody_is_chosen_who_may_not_be_and_the_trace_names_the_rule_that_decided(
    drawn: Any,
    agents: list[AgentFacts],
    party: Any,
    tried: frozenset[str],
    attempt: int,
    grouped: Callable[[list[AgentFacts]], Group],
    order: Any,
) -> None:
    service = a_service(*rules_of(drawn))

    def decided(*, indexed: bool) -> Decision:
        groups = None
        if indexed:
            groups = {g: grouped([a for a in agents if g in a.groups]) for g in ("sales", "support")}
        return decide(service, facts(*agents, party=party, tried=tried, attempt=attempt, groups=groups))

    decision = decided(indexed=False)
    by_id = {agent.id: agent for agent in agents}
    for id_ in decision.agents:
        assert by_id[id_].why_not is None
        assert id_ not in tried
        assert by_id[id_].phones
    assert (decision.action is Action.DIAL) == bool(decision.agents)
    if decision.agents:
        assert decision.target == "&".join(by_id[decision.agents[0]].phones)
    elif decision.action is Action.FALLBACK:
        assert decision.target == FALLBACK
    else:
        assert (decision.action, decision.target, decision.then) in [decided for *_, decided, _ in ELSEWHERE]
    deciding = [step.rule.name for step in decision.trace if step.outcome is Outcome.DECIDED]
    assert deciding == ([] if decision.rule is None else [decision.rule])
    assert decision.rule is None or decision.trace[-1].rule.name == decision.rule
    for step in decision.trace:
        assert all(test.held for test in step.tests) == (step.outcome is not Outcome.FAILED)
        chosen = [c.agent for c in step.candidates if c.why_not is None]
        assert chosen == (list(decision.agents) if step.outcome is Outcome.DECIDED else [])
    json.dumps([step.as_json() for step in decision.trace])
    first_trace = [step.as_json() for step in decision.trace]
    order.shuffle(agents)
    again = decided(indexed=True)
    assert (again.agents, again.rule, again.reason) == (decision.agents, decision.rule, decision.reason)
    assert [step.as_json() for step in again.trace] == first_trace


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["present", "owner", "gold"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(*FACTS, "name", "when", "dial", "in", "not", "prefix", "contains", "at_least", "x"),
                    *("goto", "voicemail", "announce", "then", "reject", "fallback"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    JUNK
    | st.lists(st.fixed_dictionaries({"name": st.text(max_size=4), "dial": st.just("owner"), "when": JUNK}))
)
def test_rules_made_of_anything_are_compiled_or_refused(raw: Any) -> None:
    try:
        rules = compile_rules(raw)
    except RulesError as error:
        said = str(error)
    else:
        service = Service("s", ("1",), Mode.ROUTE, None, FALLBACK, rules)
        said = decide(service, KNOWN_CALLER).reason
    assert said


@pytest.mark.parametrize("rule", [{"dial": {"group": "sales"}}, {"dial": {"agent": "anna"}}])
def test_an_agent_without_a_phone_at_this_asterisk_is_passed_over_with_the_reason(rule: Any) -> None:
    service = a_service({"name": "rule", **rule})
    elsewhere = an_agent("anna", pbxes=frozenset({"branch"}))

    decision = decide(service, facts(elsewhere, pbx="main"))
    assert decision.action is Action.FALLBACK
    assert decision.trace[0].candidates == (Candidate("anna", "has no phone at main"),)
    for known, pbx in [
        (frozenset({"branch", "main"}), "main"),
        (None, "main"),
        (frozenset({"branch"}), None),
    ]:
        assert decide(service, facts(an_agent("anna", pbxes=known), pbx=pbx)).agents == ("anna",)
