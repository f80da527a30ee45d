"""Who waits and who gets whom: the line's order, the doorbell, and what is asked at the same moment as it rings."""

from typing import Any

from attrs import evolve
from hypothesis import given, settings, strategies as st
from twisted.internet.defer import Deferred

from cti.agents.roster import ELSEWHERE
from cti.agents.states import Wish
from cti.asterisk.ami import AmiDisconnected
from cti.calls.control import NotNow
from cti.calls.life import LiveCall, State
from cti.calls.services import Services
from cti.calls.waiting_room import COLLECTED_WITHIN
from cti.numbers import NumberPlan
from cti.store.base import CallDetail
from cti.store.records import AgentRecord, DecisionRecord
from routing.reading import compile_rules
from routing.rules import Mode, Service
from tests.unit.test_inbound import OtherServer, Session, World

LINE = {"name": "line", "wait": [{"for": 600, "dial": {"group": "sales"}}]}


def a_service(*rules: Any, name: str = "sales", number: str = "+494066969100") -> Service:
    return Service(name, (number,), Mode.ROUTE, None, "old-context,s,1", compile_rules(list(rules)))


class Line(World):
    """A company whose callers wait for these agents, all of whom are paused."""

    def __init__(
        self, *agents: str, rule: Any = LINE, gold: Any = None, claims: OtherServer | None = None
    ) -> None:
        super().__init__(claims=claims)
        self.roster.load(
            [AgentRecord(id, id, [f"PJSIP/{id}"], ["sales"], {}, "paused") for id in agents or ("anna",)]
        )
        services = [a_service(rule)]
        if gold is not None:
            services.append(a_service(gold, name="gold", number="+494066969200"))
        self.services = Services(services, NumberPlan("DE"))

    def calls_in(self, uniqueid: str, did: str = "494066969100", **arguments: str) -> Session:
        """A question about this caller's channel, answered as far as it is."""
        session = Session(did, **arguments)
        session.request = evolve(
            session.request, headers={**session.request.headers, "agi_uniqueid": uniqueid}
        )
        self.ask(session)
        return session

    def is_ready(self, agent: str) -> None:
        self.roster.wish(agent, Wish.READY, None)
        self.clock.advance(0)

    def is_over(self, uniqueid: str) -> None:
        """The caller hangs up."""
        call, unit, at = self.call_of(uniqueid), self.unit(), self.clock.seconds()
        for channel in call.living:
            call.hung_up(unit, at, channel, 16)
        self.tracker._end(unit, call, at)
        self.calls.write(call, unit)

    def call_of(self, uniqueid: str) -> LiveCall:
        call = self.calls.of_channel("main", uniqueid)
        assert call is not None
        return call

    @property
    def sent_for(self) -> list[str]:
        return [uniqueid for (_, uniqueid), _ in self.bell.rung]

    def rings(self) -> None:
        """The bell that was rung last has rung."""
        self.bell.rung[-1][1].callback(None)

    def answer_bells(self) -> None:
        """Those that were rung ring, and their channels ask."""
        for (_, uniqueid), bell in list(self.bell.rung):
            if not bell.called:
                bell.callback(None)
                if self.calls.of_channel("main", uniqueid) is not None:
                    self.calls_in(uniqueid, sent="1")


def test_who_waits_is_sent_for_when_an_agent_is_ready_and_gets_them() -> None:
    line = Line()
    first = line.calls_in("1.0").set
    assert (first["CTI_ACTION"], first["CTI_TARGET"], first["CTI_ANSWER"]) == ("wait", "default", "1")
    assert first["CTI_TIMEOUT"] == "60"
    assert line.events == ["call.offered", "call.routed", "call.queued"]
    assert line.call_of("1.0").record.queued == 1000
    line.is_ready("anna")
    assert line.sent_for == ["1.0"]
    assert line.roster.view("anna").state == "offered"
    again = line.calls_in("1.0", sent="1").set
    assert (again["CTI_ACTION"], again["CTI_TARGET"]) == ("dial", "PJSIP/anna")
    assert len(line.room) == 0


def test_the_urgent_one_passes_those_who_wait_and_of_the_others_the_first_comes_first() -> None:
    line = Line("anna", "ben", gold={**LINE, "priority": 5})
    line.calls_in("1.0")
    line.clock.advance(10)
    line.calls_in("2.0")
    line.calls_in("3.0", did="494066969200")
    line.is_ready("anna")
    assert line.sent_for == ["3.0"]
    line.is_ready("ben")
    assert line.sent_for == ["3.0", "1.0"]


def test_waiting_long_enough_outweighs_any_priority() -> None:
    line = Line(gold={**LINE, "priority": 5})
    line.calls_in("1.0")
    line.clock.advance(301)
    line.calls_in("3.0", did="494066969200")
    line.is_ready("anna")
    assert line.sent_for == ["1.0"]


def test_to_go_on_waiting_is_no_decision_and_no_news() -> None:
    line = Line()
    line.calls_in("1.0")
    decisions, events = len(line.rows(DecisionRecord)), list(line.events)
    line.clock.advance(60)
    assert line.calls_in("1.0").set["CTI_ACTION"] == "wait"
    assert (len(line.rows(DecisionRecord)), line.events) == (decisions, events)
    assert line.call_of("1.0").record.attempt == 2


def test_the_bell_is_rung_once_the_promise_is_durable() -> None:
    line = Line()
    line.calls_in("1.0")
    line.slow = True
    line.is_ready("anna")
    assert line.sent_for == []
    for written in list(line.commits):
        written.callback(())
    assert line.sent_for == ["1.0"]


def test_a_question_that_comes_while_the_bell_rings_leaves_the_promise_to_the_one_that_it_makes() -> None:
    line = Line()
    line.calls_in("1.0")
    line.is_ready("anna")
    cut_off = line.calls_in("1.0")
    assert "CTI_ACTION" not in cut_off.set
    line.rings()
    assert "CTI_ACTION" not in cut_off.set
    assert line.calls_in("1.0", sent="1").set["CTI_ACTION"] == "dial"
    assert line.calls_in("1.0", last="NOANSWER").set["CTI_ACTION"] == "wait"


def test_a_question_that_comes_while_the_bell_rings_in_vain_collects_the_promise() -> None:
    line = Line()
    line.calls_in("1.0")
    line.is_ready("anna")
    asking = line.calls_in("1.0")
    line.bell.rung[-1][1].errback(AmiDisconnected("gone"))
    assert (asking.set["CTI_ACTION"], asking.set["CTI_TARGET"]) == ("dial", "PJSIP/anna")


def test_a_question_does_not_wait_for_a_bell_of_which_nothing_is_heard() -> None:
    line = Line()
    line.calls_in("1.0")
    line.is_ready("anna")
    asking = line.calls_in("1.0")
    line.clock.advance(1.0)
    assert asking.set["CTI_ACTION"] == "dial"
    line.rings()
    assert line.calls_in("1.0", sent="1").set["CTI_TARGET"] == "PJSIP/anna"


def test_calls_of_a_service_that_a_reload_has_taken_away_are_sent_for_and_leave() -> None:
    line = Line("anna")
    line.calls_in("1.0")
    line.services = Services([a_service(LINE, name="other", number="21")], NumberPlan("DE"))
    line.is_ready("anna")
    assert line.sent_for == ["1.0"]
    line.rings()
    assert line.calls_in("1.0", sent="1").set["CTI_ACTION"] == "fallback"
    assert len(line.room) == 0


def test_who_collected_and_was_cut_off_by_the_bell_gets_the_same_once_more() -> None:
    line = Line()
    line.calls_in("1.0")
    line.is_ready("anna")
    line.rings()
    # Asterisk has marked the channel, and its question was on its way already.
    session = Session(breaks_at="CTI_ACTION")
    line.ask(session)
    assert session.gone
    line.clock.advance(0.1)
    assert line.roster.view("anna").state == "offered"
    again = line.calls_in("1.0", sent="1").set
    assert (again["CTI_ACTION"], again["CTI_TARGET"]) == ("dial", "PJSIP/anna")
    line.clock.advance(COLLECTED_WITHIN + 1)
    assert line.roster.view("anna").state == "offered"


def test_that_it_was_cut_off_may_be_heard_after_the_question_that_the_bell_made() -> None:
    line = Line()
    line.calls_in("1.0")
    line.is_ready("anna")
    line.rings()
    line.slow = True
    cut_off = Session(breaks_at="CTI_ACTION")
    line.ask(cut_off)
    first = line.commits[-1]
    line.slow = False
    assert line.calls_in("1.0", sent="1").set["CTI_ACTION"] == "dial"
    first.callback(())
    assert cut_off.gone
    line.clock.advance(COLLECTED_WITHIN + 1)
    assert line.roster.view("anna").state == "offered"
    offer = line.call_of("1.0").offer
    assert offer is not None
    assert list(offer.agents) == ["anna"]


def test_what_was_collected_in_vain_by_a_call_that_never_asks_again_is_taken_back() -> None:
    line = Line()
    line.calls_in("1.0")
    line.is_ready("anna")
    line.rings()
    line.ask(Session(breaks_at="CTI_ACTION"))
    line.clock.advance(COLLECTED_WITHIN + 1)
    assert line.roster.view("anna").state == "ready"


def test_what_nobody_collects_is_taken_back_and_the_next_one_gets_it() -> None:
    line = Line()
    line.calls_in("1.0")
    line.clock.advance(1)
    line.calls_in("2.0")
    line.is_ready("anna")
    line.rings()
    line.clock.advance(COLLECTED_WITHIN)
    line.clock.advance(0)
    assert line.sent_for == ["1.0", "2.0"]


def test_a_caller_who_hangs_up_in_the_line_is_gone_and_their_agent_is_the_next_one_s() -> None:
    line = Line()
    line.calls_in("1.0")
    line.clock.advance(1)
    line.calls_in("2.0")
    line.is_ready("anna")
    call = line.call_of("1.0")
    line.is_over("1.0")
    line.clock.advance(0)
    assert call.record.outcome == "abandoned"
    assert line.sent_for == ["1.0", "2.0"]
    assert len(line.room) == 1


def test_an_agent_who_is_gone_before_the_promise_is_collected_is_not_rung() -> None:
    line = Line("anna", "ben")
    line.calls_in("1.0")
    line.is_ready("anna")
    line.rings()
    line.tracker.let_go(line.unit(), line.call_of("1.0"), ["anna"])
    line.roster.wish("anna", Wish.LOGGED_OUT, None)
    assert line.calls_in("1.0", sent="1").set["CTI_ACTION"] == "wait"


def test_where_the_bell_does_not_work_calls_ask_soon_and_are_served_then() -> None:
    line = Line()
    line.bell.deaf = True
    assert line.calls_in("1.0").set["CTI_TIMEOUT"] == "5"
    line.is_ready("anna")
    assert (line.sent_for, line.roster.view("anna").state) == ([], "ready")
    assert line.calls_in("1.0").set["CTI_ACTION"] == "dial"


def test_position_and_expected_wait_are_said_when_it_is_time_for_that() -> None:
    comfort = {"every": 30, "position": True, "expected": True, "sounds": "custom/thanks"}
    line = Line("anna", rule={**LINE, "comfort": comfort})
    for served in range(3):
        # One after the other they are served, 20 s apart.
        line.calls_in(f"{served}.5")
        line.is_ready("anna")
        line.answer_bells()
        line.roster.wish("anna", Wish.PAUSED, None)
        line.is_over(f"{served}.5")
        line.clock.advance(20)
    first = line.calls_in("1.0").set
    assert (first["CTI_POSITION"], first["CTI_COMFORT"]) == ("1", "custom/thanks")
    line.clock.advance(1)
    second = line.calls_in("2.0").set
    # In the 61 s since the first of them three were served: two more take 41 s.
    assert (second["CTI_POSITION"], second["CTI_MINUTES"], second["CTI_TIMEOUT"]) == ("2", "1", "30")
    line.clock.advance(10)
    between = line.calls_in("2.0").set
    assert ("CTI_POSITION" in between, between["CTI_TIMEOUT"]) == (False, "20")
    line.clock.advance(50)
    # And now, as nobody was served since, 80 s.
    assert line.calls_in("2.0").set["CTI_MINUTES"] == "2"


def test_no_wait_is_promised_of_which_nobody_knows() -> None:
    line = Line(rule={**LINE, "comfort": {"expected": True}})
    assert "CTI_MINUTES" not in line.calls_in("1.0").set


def test_places_are_kept_over_a_restart_and_who_is_known_no_more_is_only_sent_for() -> None:
    before = Line()
    before.calls_in("1.0")
    before.clock.advance(5)
    before.calls_in("2.0")
    details = [
        CallDetail(call.record, [], list(call.channels.values()), [], [], [], [])
        for call in (before.call_of("2.0"), before.call_of("1.0"))
    ]
    line = Line()
    line.clock.advance(100)
    restored = [LiveCall.restored(detail) for detail in details]
    for call in restored:
        line.calls.keep(call)
    line.room.restore(restored)
    line.is_ready("anna")
    assert line.sent_for == ["1.0"]
    assert line.roster.view("anna").state == "ready", "it is not known yet who calls"
    assert line.calls_in("1.0", sent="1").set["CTI_ACTION"] == "dial"
    assert line.calls_in("2.0").set["CTI_ACTION"] == "wait"
    assert line.call_of("2.0").places["sales/line"].since == 1005


KEYED = {**LINE, "callback_key": {"key": "1", "sounds": ["custom/we-call", "bye"]}}


def test_who_presses_the_key_hangs_up_keeps_the_place_and_is_called_when_it_is_their_turn() -> None:
    line = Line("anna", "ben", rule=KEYED)
    assert line.calls_in("1.0").set["CTI_KEY"] == "1"
    line.clock.advance(1)
    line.calls_in("2.0")
    line.clock.advance(1)
    promise = line.calls_in("1.0", pressed="1").set
    assert (promise["CTI_ACTION"], promise["CTI_TARGET"]) == ("announce", "custom/we-call&bye")
    call = line.call_of("1.0")
    assert line.promised == [(call.id, {"service": "sales", "rule": "sales/line", "since": 1000})]
    line.is_over("1.0")
    assert line.room.position(line.call_of("2.0")) == 2
    line.is_ready("anna")
    assert (line.called_back, line.sent_for) == ([(f"to-{call.id}", "anna")], [])
    line.is_ready("ben")
    assert line.sent_for == ["2.0"]
    assert len(line.room) == 1


def test_another_key_changes_nothing_and_who_has_no_number_is_promised_nothing() -> None:
    line = Line(rule=KEYED)
    line.calls_in("1.0")
    assert line.calls_in("1.0", pressed="2").set["CTI_ACTION"] == "wait"
    withheld = Line(rule=KEYED)
    withheld.calls_in("1.0")
    withheld.call_of("1.0").record.from_number = None
    assert "CTI_KEY" not in withheld.calls_in("1.0").set
    assert withheld.calls_in("1.0", pressed="1").set["CTI_ACTION"] == "wait"
    assert withheld.promised == line.promised == []


def test_who_presses_the_key_as_an_agent_becomes_free_gets_the_agent() -> None:
    line = Line(rule=KEYED)
    line.calls_in("1.0")
    line.is_ready("anna")
    pressed = line.calls_in("1.0", pressed="1")
    line.bell.rung[-1][1].errback(AmiDisconnected("gone"))
    assert pressed.set["CTI_ACTION"] == "dial"
    assert line.promised == []


def test_a_call_back_that_cannot_be_made_now_is_made_by_a_later_look() -> None:
    line = Line()
    line.nobody_calls_back = NotNow("anna has a call already")
    line.room.keeps_place("c7", {"service": "sales", "rule": "sales/line", "since": 900.0}, None)
    line.is_ready("anna")
    assert (line.called_back, len(line.room)) == ([], 1)
    line.nobody_calls_back = None
    line.room.look()
    assert line.called_back == []
    line.clock.advance(COLLECTED_WITHIN)
    line.room.look()
    assert (line.called_back, len(line.room)) == ([("c7", "anna")], 0)


def test_who_need_not_be_called_back_any_more_keeps_no_place() -> None:
    line = Line()
    line.room.keeps_place("c7", {"service": "sales", "rule": "sales/line", "since": 900.0}, None)
    line.calls_in("1.0")
    call = line.call_of("1.0")
    line.room.look()
    assert (line.room.position(call), len(line.room)) == (2, 2)
    line.reached.add("c7")
    line.room.look()
    assert (line.room.position(call), len(line.room)) == (1, 1)


def test_who_is_being_called_back_keeps_the_place_until_it_is_known_whether_the_agent_is_rung() -> None:
    line = Line()
    line.nobody_calls_back = NotNow("anna has a call already")
    line.room.keeps_place("c7", {"service": "sales", "rule": "sales/line", "since": 900.0}, None)
    line.reached.add("c7")
    line.is_ready("anna")
    line.room.look()
    assert len(line.room) == 1


def test_who_waits_is_not_sent_for_to_an_agent_whom_another_server_has_until_it_lets_go() -> None:
    other = OtherServer("anna")
    line = Line("anna", claims=other)
    line.calls_in("1.0")
    line.is_ready("anna")
    assert (line.sent_for, line.roster.view("anna").why_not) == ([], "is held by another server")
    other.has.clear()
    line.clock.advance(ELSEWHERE)
    line.roster.expire()
    line.clock.advance(0)
    assert line.sent_for == ["1.0"]


def test_a_call_that_asks_while_another_server_is_asked_gets_its_agent_once() -> None:
    other = OtherServer()
    line = Line("anna", claims=other)
    line.calls_in("1.0")
    other.says = asking = Deferred()
    line.is_ready("anna")
    answered = line.calls_in("1.0")
    asking.callback(frozenset())
    assert (answered.set["CTI_ACTION"], line.sent_for) == ("dial", [])
    assert line.call_of("1.0").assigned is None


def test_callers_wait_for_whom_the_rules_of_a_reload_say() -> None:
    line = Line("anna", "ben")
    line.calls_in("1.0")
    only_ben = {"name": "line", "wait": [{"for": 600, "dial": {"agent": "ben"}}]}
    line.services = Services([a_service(only_ben)], NumberPlan("DE"))
    line.is_ready("anna")
    assert line.sent_for == []
    line.calls_in("1.0")
    line.is_ready("ben")
    assert line.sent_for == ["1.0"]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["calls", "asks", "hangs up", "ready", "paused", "bell", "no bell", "time", "look"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


def happen(line: Line, what: str, which: int) -> None:
    """One thing that may happen to a line of six callers and three agents, where it makes sense."""
    uniqueid, agent = f"{which}.0", ("anna", "ben", "cem")[which % 3]
    known = line.calls.of_channel("main", uniqueid)
    match what:
        case "calls" if known is None:
            line.calls_in(uniqueid)
        case "asks" if known is not None:
            line.calls_in(uniqueid, last="NOANSWER" if known.state is State.OFFERED else "")
        case "hangs up" if known is not None:
            line.is_over(uniqueid)
        case "ready":
            line.is_ready(agent)
        case "paused":
            line.roster.wish(agent, Wish.PAUSED, None)
        case "bell":
            line.answer_bells()
        case "no bell":
            for _, bell in line.bell.rung:
                if not bell.called:
                    bell.errback(AmiDisconnected("gone"))
        case "time":
            line.clock.pump([0.5] * (which + 1))
        case "look":
            line.room.look()
    line.clock.advance(0)


@settings(max_examples=150, deadline=None)
@given(events=EVENTS)
def test_whatever_happens_no_agent_has_two_calls_and_nobody_waits_beside_a_free_one(
    events: list[tuple[str, int]],
) -> None:
    line = Line("anna", "ben", "cem")
    for what, which in events:
        happen(line, what, which)
        held = [
            agent
            for call in line.calls.open()
            for agent in {
                *(call.offer.agents if call.offer else ()),
                *(call.assigned.decision.agents if call.assigned else ()),
            }
        ]
        assert len(held) == len(set(held)), "no agent above their concurrency"
    # Once everything has come to rest, nobody waits for somebody who is free.
    for _ in range(8):
        line.answer_bells()
        line.clock.pump([1.0] * 40)
        line.room.look()
    waiting = [call for call in line.calls.open() if call.state is State.WAITING and call.assigned is None]
    free = [agent for agent in line.roster.agents.values() if agent.why_not is None]
    assert not (waiting and free)
