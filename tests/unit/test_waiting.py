"""Rules that wait, and whom rules mean: steps, order, skills, lots, and what is wrong with a file that says so."""

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from routing.decide import Action, Decision, Outcome, decide, step_of
from routing.facts import AgentFacts, Facts, Group, History, Place
from routing.problems import RulesError
from routing.reading import compile_rules, loops
from routing.rules import AGES, DialNumber, Mode, Rule, Service, Wait
from tests.unit.test_routing import FALLBACK, a_party, a_service, an_agent, facts

LINE = {"name": "line", "wait": [{"for": 20, "dial": "owner"}, {"for": 60, "dial": {"group": "sales"}}]}
MAILBOX = {"name": "mailbox", "voicemail": "17"}
AT = 1_800_000_000.0


def busy(id: str, **more: Any) -> AgentFacts:
    return an_agent(id, why_not="busy", state="busy", **more)


def away(id: str, **more: Any) -> AgentFacts:
    return an_agent(id, why_not="logged_out", state="logged_out", **more)


def later(decision: Decision, given_facts: Facts, seconds: float) -> Facts:
    """The facts of the next question about the same call."""
    at = given_facts.at + seconds
    return evolve(given_facts, at=at, places=decision.places, attempt=given_facts.attempt + 1)


def test_who_is_free_in_the_first_step_rings_at_once() -> None:
    decision = decide(a_service(LINE), facts(an_agent("anna"), party=a_party(owner="anna")))
    assert (decision.action, decision.agents) == (Action.DIAL, ("anna",))
    assert decision.line is not None


def test_a_call_waits_through_its_steps_and_then_goes_on_to_the_next_rule() -> None:
    service = a_service(LINE, MAILBOX)
    now = facts(busy("anna"), busy("ben"), party=a_party(owner="anna"))
    seen = []
    decision = decide(service, now)
    for _ in range(4):
        seen.append((decision.action, decision.timeout, decision.target))
        if decision.action is not Action.WAIT:
            break
        now = later(decision, now, decision.timeout)
        decision = decide(service, now)
    assert seen == [
        (Action.WAIT, 20, "default"),
        (Action.WAIT, 60, "default"),
        (Action.VOICEMAIL, 0, "17"),
    ]
    assert decision.trace[0].outcome is Outcome.NOBODY
    assert decision.trace[0].note == "the call has waited for 80 s"


def test_the_reason_says_for_whom_it_waits_and_the_trace_why_nobody_was_there() -> None:
    decision = decide(a_service(LINE), facts(busy("anna"), party=a_party(owner="anna")))
    assert decision.reason == (
        "line: waits for the owner, step 1 of 2: anna is the owner of the caller, but: busy"
    )
    assert [c.as_json() for c in decision.trace[0].candidates] == [{"agent": "anna", "why_not": "busy"}]


@pytest.mark.parametrize("party", [None, a_party(owner=None), a_party(owner="zoe"), a_party(owner="anna")])
def test_a_step_in_which_nobody_is_logged_in_is_skipped(party: Any) -> None:
    decision = decide(a_service(LINE), facts(away("anna"), busy("ben"), party=party))
    assert (decision.action, decision.timeout) == (Action.WAIT, 60)
    assert "nobody is logged in for step 1 (the owner)" in decision.reason


def test_a_line_in_which_nobody_at_all_is_logged_in_is_none() -> None:
    decision = decide(a_service(LINE, MAILBOX), facts(away("anna")))
    assert decision.action is Action.VOICEMAIL
    assert "nobody is logged in for step 2 (sales)" in decision.trace[0].note


def test_who_let_it_ring_lately_is_not_offered_it_again_by_the_line_but_later_is() -> None:
    service = a_service(LINE)
    tried = frozenset({"ben"})
    lately = facts(an_agent("ben"), tried=tried, lately=tried)
    assert decide(service, lately).action is Action.WAIT
    assert decide(service, evolve(lately, lately=frozenset())).agents == ("ben",)


def test_time_that_passed_while_nobody_asked_counts() -> None:
    (rule,) = compile_rules([LINE])
    assert isinstance(rule.target, Wait)
    given_facts = facts(busy("anna"), at=AT + 25, party=a_party(owner="anna"))
    place, _ = step_of(rule.target, Place(AT, 0, AT), given_facts)
    assert place == Place(AT, 1, AT + 20)


def test_urgency_grows_until_the_last_of_the_unimportant_passes_the_important() -> None:
    low, high = Wait((), priority=0), Wait((), priority=5)
    assert high.urgency(AT, AT) > low.urgency(AT - 4 * AGES, AT)
    assert high.urgency(AT, AT) < low.urgency(AT - 6 * AGES, AT)


def test_only_who_has_the_skills_is_meant_and_the_trace_says_what_the_others_lack() -> None:
    rule = {"name": "german", "dial": {"group": "sales", "skills": {"german": 4}}}
    agents = [an_agent("anna", skills={"german": 3}), an_agent("ben")]
    decision = decide(a_service(rule), facts(*agents))
    assert decision.action is Action.FALLBACK
    assert {c.agent: c.why_not for c in decision.trace[0].candidates} == {
        "anna": "has german 3, wanted: 4",
        "ben": "lacks german",
    }
    cem = an_agent("cem", skills={"german": 4}, idle_since=9.0)
    assert decide(a_service(rule), facts(*agents, cem)).agents == ("cem",)


def test_skills_without_a_group_are_asked_of_everybody() -> None:
    rule = {"name": "russian", "dial": {"skills": {"russian": 1}}}
    boris = an_agent("boris", groups=frozenset(), skills={"russian": 9})
    decision = decide(a_service(rule), facts(an_agent("anna"), boris))
    assert (decision.agents, decision.reason) == (
        ("boris",),
        "russian: boris is longest idle in all agents with russian 1",
    )


def test_a_group_s_index_by_skills_follows_its_agents() -> None:
    group = Group([an_agent("anna", skills={"german": 5}), an_agent("ben")])
    some = group.with_skills((("german", 5),))
    assert (len(some), some.free_count, some.logged_in) == (1, 1, 1)
    group.put(busy("anna", skills={"german": 5}))
    group.put(away("ben", skills={"german": 9}))
    assert (len(some), some.free_count, some.logged_in) == (2, 0, 1)
    group.put(an_agent("anna"))
    group.drop("ben")
    assert (len(some), some.free_count, some.logged_in) == (0, 0, 0)
    assert (len(group), group.free_count, group.logged_in) == (1, 1, 1)


def test_in_turn_means_who_was_offered_a_call_longest_ago() -> None:
    rule = {"name": "turn", "dial": {"group": "sales", "order": "round_robin"}}
    agents = [an_agent("anna", last_offered=30.0), an_agent("ben", last_offered=20.0, idle_since=99.0)]
    decision = decide(a_service(rule), facts(*agents))
    assert (decision.agents, decision.reason) == (
        ("ben",),
        "turn: ben was offered a call longest ago in sales",
    )


@pytest.mark.parametrize("how", [{}, {"order": "round_robin"}, {"weights": {"anna": 100, "cem": 1}}])
def test_who_has_a_call_already_gets_a_second_one_only_if_nobody_has_none(how: dict[str, Any]) -> None:
    service = a_service({"name": "one more", "dial": {"group": "sales", **how}})
    anna = an_agent("anna", state="busy", calls=1, idle_since=-99.0, last_offered=-99.0)
    both = facts(anna, an_agent("cem", last_offered=5.0))
    assert {decide(service, evolve(both, call=f"call-{n}")).agents for n in range(50)} == {("cem",)}
    assert decide(service, facts(anna, busy("ben"))).agents == ("anna",)


def test_lots_fall_by_weight_the_same_for_the_same_call_and_never_on_who_has_none() -> None:
    service = a_service({"name": "lot", "dial": {"group": "sales", "weights": {"anna": 3, "cem": 0}}})
    agents = [an_agent("anna"), an_agent("ben"), an_agent("cem")]
    drawn = [decide(service, facts(*agents, call=f"call-{n}")).agents[0] for n in range(400)]
    assert drawn == [decide(service, facts(*agents[::-1], call=f"call-{n}")).agents[0] for n in range(400)]
    assert set(drawn) == {"anna", "ben"}
    assert 2.0 < drawn.count("anna") / drawn.count("ben") < 4.5
    assert "was drawn by lot" in decide(service, facts(*agents, call="call-1")).reason
    assert decide(service, facts(an_agent("cem"))).action is Action.FALLBACK


def test_all_who_are_free_ring_together() -> None:
    service = a_service({"name": "all", "dial": {"group": "sales", "all": True}})
    decision = decide(service, facts(an_agent("anna"), busy("ben"), an_agent("cem")))
    assert decision.agents == ("anna", "cem")
    assert decision.target == "PJSIP/anna&PJSIP/cem"
    assert {c.agent: c.why_not for c in decision.trace[0].candidates} == {
        "anna": None,
        "ben": "busy",
        "cem": None,
    }


def test_as_many_ring_as_fit_into_a_line_of_the_protocol() -> None:
    service = a_service({"name": "all", "dial": {"group": "sales", "all": True}})
    many = [an_agent(f"a{n:02}", phones=(f"PJSIP/{'x' * 90}{n:02}",)) for n in range(40)]
    decision = decide(service, facts(*many))
    assert 10 < len(decision.agents) <= 20
    assert len(decision.target) < 1600


def test_who_talked_last_with_the_caller_is_rung() -> None:
    service = a_service({"name": "last", "dial": "last_agent"}, MAILBOX)
    known = facts(an_agent("anna"), history=History("anna", AT - 100))
    assert decide(service, known).agents == ("anna",)
    for history in (None, History()):
        decision = decide(service, evolve(known, history=history))
        assert decision.action is Action.VOICEMAIL
        assert decision.trace[0].note == "nobody is known to have talked with the caller"


def test_a_number_outside_is_rung_once_without_any_agent() -> None:
    phone = "PJSIP/+493023125100@trunk"
    rules = compile_rules(
        [{"name": "home", "dial": {"number": "030 23125100"}}],
        outside=lambda _: DialNumber("+493023125100", phone),
    )
    service = evolve(a_service(), rules=rules)
    decision = decide(service, facts())
    assert (decision.action, decision.agents, decision.target) == (Action.DIAL, (), phone)
    again = decide(service, facts(tried=frozenset({phone})))
    assert again.action is Action.FALLBACK
    assert again.trace[0].note == "+493023125100 was offered this call already"


def test_another_service_s_rules_decide_and_then_its_fallback() -> None:
    night = Service(
        "night", ("21",), Mode.ROUTE, None, "night,s,1", compile_rules([MAILBOX | {"when": {"attempt": 1}}])
    )
    day = a_service({"name": "rest", "dial": {"group": "sales"}}, {"name": "over", "service": "night"})
    decision = decide(day, facts(), {"night": night})
    assert (decision.action, decision.rule, decision.service) == (Action.VOICEMAIL, "mailbox", "night")
    assert [step.outcome for step in decision.trace] == [Outcome.NOBODY, Outcome.PASSED_ON, Outcome.DECIDED]
    again = decide(day, facts(attempt=2), {"night": night})
    assert (again.action, again.target) == (Action.FALLBACK, "night,s,1")
    assert decide(day, facts(), {}).target == FALLBACK


def test_a_promise_to_call_back_is_made_to_nobody_whose_number_is_unknown() -> None:
    service = a_service({"name": "promise", "announce": "custom/we-call", "callback": True}, MAILBOX)
    decision = decide(service, facts())
    assert (decision.action, decision.callback) == (Action.ANNOUNCE, True)
    withheld = decide(service, facts(from_number=None, from_kind="withheld"))
    assert (withheld.action, withheld.callback) == (Action.VOICEMAIL, False)
    assert withheld.trace[0].note == "nobody can call back, as the caller's number is not known"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"wait": []}, "rules[0].wait: has 0 steps; 1 to 20"),
        ({"wait": "owner"}, "rules[0].wait: is a text; a list of steps"),
        ({"wait": [{"dial": "owner"}]}, "rules[0].wait[0]: `for` is missing"),
        ({"wait": [{"for": 5}]}, "rules[0].wait[0]: `dial` is missing"),
        ({"wait": [{"for": 0, "dial": "owner"}]}, "rules[0].wait[0].for: whole seconds from 1 to 7200"),
        ({"wait": [{"for": 5, "dial": {"number": "1"}}]}, "rules[0].wait[0].dial: nobody waits for a number"),
        ({**LINE, "priority": 101}, "rules[0].priority: whole numbers from -100 to 100"),
        ({**LINE, "ages": 0}, "rules[0].ages: whole seconds from 1"),
        ({**LINE, "music": "a,b"}, "rules[0].music: "),
        ({**LINE, "answer": "yes"}, "rules[0].answer: is a text; `true` or `false`"),
        ({**LINE, "comfort": {"every": 30}}, "rules[0].comfort: says nothing"),
        (
            {**LINE, "comfort": {"every": 3, "position": True}},
            "rules[0].comfort.every: whole seconds from 10",
        ),
        ({**LINE, "callback_key": {"key": "12", "sounds": "x"}}, 'rules[0].callback_key.key: "12" is no key'),
        ({**LINE, "callback_key": {"key": "1"}}, "rules[0].callback_key: `sounds` is missing"),
        ({"dial": "owner", "callback_key": {}}, "rules[0].callback_key: has no meaning without `wait`"),
        ({"dial": "owner", "comfort": {"position": True}}, "rules[0].comfort: has no meaning without `wait`"),
        ({"dial": {"group": "sales", "skills": {"german": 10}}}, "skills.german: whole levels from 1 to 9"),
        ({"dial": {"skills": {"klingon": 1}}}, "unknown skill"),
        ({"dial": {"group": "sales", "order": "random"}}, "unknown order"),
        ({"dial": {"group": "sales", "weights": {"zoe": 1}}}, "unknown agent"),
        ({"dial": {"group": "sales", "weights": {"anna": -1}}}, "whole numbers from 0 to 100"),
        ({"dial": {"group": "sales", "all": True, "order": "round_robin"}}, "in no order"),
        ({"dial": {"agent": "anna", "all": True}}, "has no meaning beside `agent`"),
        ({"dial": {"number": "+493023125100"}}, "`outside_line` in the service would be right"),
        ({"dial": {}}, "exactly one of"),
        ({"service": "nowhere"}, "unknown service"),
        ({"reject": "busy", "callback": True}, "rules[0].callback: has no meaning without `announce`"),
    ],
)
def test_what_is_wrong_with_waiting_and_with_whom_a_rule_means_is_said(rule: Any, text: str) -> None:
    with pytest.raises(RulesError) as caught:
        compile_rules(
            [{"name": "x", **rule}],
            agents={"anna"},
            groups={"sales"},
            skills={"german"},
            services={"sales"},
        )
    assert text in str(caught.value)


def test_a_rule_that_is_never_reached_is_refused() -> None:
    with pytest.raises(RulesError) as caught:
        compile_rules([{"name": "night", "fallback": True}, MAILBOX, LINE])
    (problem,) = caught.value.problems
    assert str(problem) == (
        'rules[1]: is never reached: "night" above it takes every call; a condition there, or this rule in front'
        " of it, would be right"
    )


def test_services_that_lead_back_to_each_other_are_found_each_with_its_way() -> None:
    def leading(name: str, to: str | None) -> Service:
        rules = compile_rules([{"name": "on", "service": to}] if to else [MAILBOX])
        return Service(name, (), Mode.ROUTE, None, FALLBACK, rules)

    ways = {"a": "b", "b": "c", "c": "a", "d": "a", "e": None, "f": "f"}
    found = loops({name: leading(name, to) for name, to in ways.items()})
    assert [str(each).partition(";")[0] for each in found] == [
        "a.rules[0].service: leads back to a (a → b → c → a)",
        "b.rules[0].service: leads back to b (b → c → a → b)",
        "c.rules[0].service: leads back to c (c → a → b → c)",
        "f.rules[0].service: leads back to f (f → f)",
    ]


def whole(decision: Decision) -> tuple[Any, ...]:
    """All of a decision, its trace as it is kept."""
    return evolve(decision, trace=()), [step.as_json() for step in decision.trace]


STATES = st.sampled_from([None, None, "busy", "paused: lunch", "logged_out"])
CREW = st.lists(
    st.builds(
        lambda id, why_not, skills, groups: an_agent(
            id,
            why_not=why_not,
            state="logged_out" if why_not == "logged_out" else "ready",
            skills=skills,
            groups=groups,
        ),
        st.sampled_from(["anna", "ben", "cem", "dora"]),
        STATES,
        st.dictionaries(st.sampled_from(["german", "russian"]), st.integers(1, 9)),
        st.frozensets(st.sampled_from(["sales", "support"])),
    ),
    unique_by=lambda agent: agent.id,
)
WHOM: st.SearchStrategy[Any] = st.sampled_from(
    [
        "owner",
        "last_agent",
        {"agent": "anna"},
        {"group": "sales"},
        {"group": "support", "order": "round_robin"},
        {"group": "sales", "all": True},
        {"group": "sales", "weights": {"anna": 5, "ben": 0}},
        {"skills": {"german": 4}},
        {"group": "support", "skills": {"german": 2, "russian": 2}},
    ]
)
WAITS = st.lists(st.fixed_dictionaries({"for": st.integers(1, 60), "dial": WHOM}), min_size=1, max_size=4)


@given(
    lines=st.lists(WAITS, min_size=1, max_size=3),
    crews=st.lists(CREW, min_size=1, max_size=8),
    pauses=st.lists(st.floats(0, 90), min_size=8, max_size=8),
    owner=st.sampled_from([None, "anna", "zoe"]),
)
def test_nobody_waits_while_one_is_free_whom_the_step_means_and_every_line_ends(
    lines: Any, crews: list[list[AgentFacts]], pauses: list[float], owner: str | None
) -> None:
    service = a_service(*({"name": f"line{n}", "wait": steps} for n, steps in enumerate(lines)))
    now = facts(party=a_party(owner=owner), history=History("ben"), call="c1")
    for crew, pause in zip(crews, pauses, strict=False):
        now = evolve(now, agents={agent.id: agent for agent in crew})
        decision = decide(service, now)
        assert whole(decision) == whole(decide(service, now)), "same facts, same decision"
        assert [s.rule.name for s in decision.trace if s.outcome is Outcome.DECIDED] == (
            [] if decision.rule is None else [decision.rule]
        )
        if decision.action is Action.WAIT:
            assert decision.line is not None
            place = decision.places[f"sales/{decision.rule}"]
            whom = decision.line.steps[place.step].whom
            probe = evolve(service, rules=(Rule("probe", (), whom),))
            assert decide(probe, now).action is Action.FALLBACK, "nobody whom it waits for is free"
            assert 1 <= decision.timeout <= decision.line.steps[place.step].seconds + 1
        else:
            assert all(now.agents[id].why_not is None for id in decision.agents)
        now = later(decision, now, pause)
    total = sum(step["for"] for steps in lines for step in steps)
    for _ in range(len(lines) + 1):
        now = later(decide(service, now), now, total + 61)
    end = decide(service, now)
    assert end.action is not Action.WAIT, "no line is endless"
