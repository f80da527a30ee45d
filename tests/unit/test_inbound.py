"""The way of an inbound call without sockets: in which order things happen, and what is left when one fails."""

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed

from adapters.base import Case, Party
from cti.agents.roster import ELSEWHERE, Roster
from cti.asterisk.agi_parser import Request
from cti.asterisk.ami_parser import Event
from cti.asterisk.channels import Channels
from cti.asterisk.fastagi import AgiHangup
from cti.calls.history import CallHistory
from cti.calls.inbound import LET_IN, Inbound, party_facts
from cti.calls.life import Assigned, LiveCall, mint_call_id
from cti.calls.log import CallLog
from cti.calls.own import OwnCode
from cti.calls.services import Services
from cti.calls.tracker import EndedRecord, Tracker
from cti.calls.waiting_room import COLLECTED_WITHIN, WaitingRoom
from cti.calls.writing_up import WritingUp
from cti.identify.identification import Identification
from cti.identify.options import POLICIES
from cti.identify.policy import resolve
from cti.numbers import Number, NumberPlan
from cti.store.base import StoreError
from cti.store.records import (
    AgentRecord,
    CallRecord,
    ChannelRecord,
    DecisionRecord,
    PastCalls,
    ReservationRecord,
    SegmentRecord,
)
from routing.decide import Action, Decision
from routing.own import Own
from routing.reading import compile_rules
from routing.rules import Mode, Service
from tests.unit.calls import RecordingUnit
from tests.unit.own import Chooses, Finds, ThreadedClock

KATRIN = Party(adapter="directory", type="contact", id="17", name="Katrin Öhlmann", owner="u1", language="sl")


class Session:
    """A fake of an AGI session: what is set is remembered; it breaks off before the variable `breaks_at`."""

    def __init__(self, did: str = "494066969100", breaks_at: str | None = None, **arguments: str) -> None:
        given = {"v": "1", "pbx": "main", "call": "", "did": did, "attempt": "1", "last": "", **arguments}
        self.request = Request(
            headers={
                "agi_network_script": "route",
                "agi_uniqueid": "1.0",
                "agi_channel": "PJSIP/trunk-00000001",
                "agi_callerid": "015228817386",
            },
            args=tuple(f"{key}={value}" for key, value in given.items()),
        )
        self.set: dict[str, str] = {}
        self.gone = False
        self.breaks_at = breaks_at

    def set_variables(
        self, variables: Iterable[tuple[str, str]], *, may_cut: Iterable[str] = ()
    ) -> "Deferred[None]":
        for name, value in variables:
            if name == self.breaks_at:
                self.gone = True
                return fail(AgiHangup("gone"))
            self.set[name] = value
        return succeed(None)

    def finish(self) -> None:
        self.gone = True


class ABell:
    """A fake of a waiting call's doorbell: it is remembered where it was rung, and answered by hand."""

    def __init__(self) -> None:
        self.deaf = False
        self.rung: list[tuple[Any, Deferred[Any]]] = []

    def works(self, _pbx: str) -> bool:
        return not self.deaf

    def ring(self, key: Any) -> "Deferred[Any]":
        answer: Deferred[Any] = Deferred()
        self.rung.append((key, answer))
        return answer


class OtherServer:
    """Another server on the same database, which `has` some of the agents; `says` so later, where that is set."""

    def __init__(self, *has: str) -> None:
        self.has = {*has}
        self.says: Deferred[frozenset[str]] | None = None

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def mirror(self, agent: str, held: bool) -> None: ...

    def take(self, agents: Collection[str]) -> "Deferred[frozenset[str]]":
        return succeed(frozenset(self.has.intersection(agents))) if self.says is None else self.says


class World:
    """Everything an inbound call meets, in memory; `commits` are answered by hand where `slow`."""

    def __init__(self, mode: Mode = Mode.ROUTE, claims: OtherServer | None = None) -> None:
        self.claims = claims
        self.clock = ThreadedClock()
        self.clock.advance(1000)
        self.units: list[RecordingUnit] = []
        self.commits: list[Deferred[Sequence[Any]]] = []
        self.slow = self.frozen = False
        self.shed_count = 0
        self.calls = CallLog(self, self.clock, lambda record: None)
        self.roster = Roster(self.clock.seconds, self.calls.agent_changed)
        self.roster.load(
            [AgentRecord("anna", "Anna", ["PJSIP/anna"], ["sales"], {"directory": "u1"}, "ready")]
        )
        self.channels = {"main": Channels(self.clock), "branch": Channels(self.clock)}
        self.tracker = Tracker(
            self.calls,
            self.roster,
            self.clock.seconds,
            self.unseen,
            self.channels,
            self.unasked,
            WritingUp(
                calls=self.calls, roster=self.roster, services=lambda: self.services, now=self.clock.seconds
            ),
        )
        rules = compile_rules([{"name": "owner", "when": {"party.owner": "present"}, "dial": "owner"}])
        service = Service("sales", ("+494066969100",), mode, None, "old-context,s,1", rules)
        self.services = Services([service], NumberPlan("DE"))
        self.learned: list[str] = []
        self.late: list[tuple[LiveCall, Identification]] = []
        self.refusal: Decision | None = None
        self.waited_for: list[tuple[tuple[str, ...], float]] = []
        self.paint: Deferred[None] | None = None
        self.answer: Deferred[Identification] | None = None
        self.said: dict[Any, Identification] = {}
        self.identifying = 0
        self.looked_back: list[tuple[Any, ...]] = []
        self.past: Deferred[PastCalls] | None = None
        self.freshened: list[LiveCall] = []
        self.bell = ABell()
        self.room = WaitingRoom(
            calls=self.calls,
            roster=self.roster,
            tracker=self.tracker,
            services=lambda: self.services,
            facts=lambda *about: self.inbound.facts_of(*about),
            bell=self.bell,
            clock=self.clock,
            call_back=self.calls_back,
            keeps_on=lambda id: id not in self.reached,
            claims=self.claims,
        )
        self.calls.on_news(self.room.news)
        self.promised: list[tuple[str, Any]] = []
        self.called_back: list[tuple[str, str]] = []
        self.nobody_calls_back: Exception | None = None
        self.reached: set[str] = set()
        self.not_answered: list[tuple[str, float]] = []
        self.inbound = Inbound(
            calls=self.calls,
            tracker=self.tracker,
            roster=self.roster,
            services=lambda: self.services,
            identifier=lambda: self,
            clock=self.clock,
            answer_within=1.5,
            offer_grace=15,
            card_url="https://cti.example/?call={call}",
            measure=self,
            pbxes={"main"},
            learn=lambda did, service: self.learned.append(did),
            stood_still=lambda: self.frozen,
            painted=self.painted,
            said=lambda key: self.said.pop(key, None),
            freshen=self.freshened.append,
            late=lambda call, found: self.late.append((call, found)),
            refusal=lambda caller: self.refusal,
            room=self.room,
            call_back=self.is_promised,
            history=CallHistory(self, self.clock, lambda: UTC),
            own=OwnCode(self.clock, lambda _name, _outcome, _seconds: None),
            not_answered=lambda agent, offer: self.not_answered.append((agent, offer.offered)),
            claims=self.claims,
        )

    def is_promised(self, _unit: Any, call: LiveCall, place: Any) -> str:
        self.promised.append((call.id, place))
        return f"to-{call.id}"

    async def calls_back(self, id: str, agent: str) -> bool:
        if self.nobody_calls_back is not None:
            raise self.nobody_calls_back
        self.called_back.append((id, agent))
        return True

    async def painted(self, _call: Any, agents: Any, seconds: float) -> None:
        self.waited_for.append((tuple(agents), seconds))
        if self.paint is not None:
            await self.paint

    def unasked(self, *dial: Any) -> Any:
        raise AssertionError("nobody dials here")

    # The store.

    def call_by_channel(self, _pbx: str, _uniqueid: str) -> str | None:
        return None

    def unit(self) -> RecordingUnit:
        return RecordingUnit()

    def commit(self, unit: RecordingUnit, *, at_leisure: bool = False) -> "Deferred[Sequence[Any]]":
        self.units.append(unit)
        if not self.slow:
            return succeed(())
        self.commits.append(Deferred())
        return self.commits[-1]

    def commit_for_caller(self, unit: RecordingUnit) -> "Deferred[Sequence[Any]]":
        return self.commit(unit)

    def call(self, id: str) -> "Deferred[None]":
        return succeed(None)

    def past_calls(self, *question: Any) -> "Deferred[PastCalls]":
        self.looked_back.append(question)
        return succeed(PastCalls("anna", 400.0, 2)) if self.past is None else self.past

    async def unseen(self, pbx: str, known: EndedRecord) -> None:
        raise AssertionError("nobody calls this here")

    # Who is calling.

    async def identify(self, number: Number, late: Any = None) -> Identification:
        self.identifying += 1
        if self.answer is not None:
            return await self.answer
        return Identification(number, (KATRIN,), owners={("directory", "u1"): "anna"})

    # What Asterisk tells.

    def tell(self, name: str, **headers: str) -> None:
        event = Event({"Event": name, "Timestamp": "1001.5", **headers})
        self.channels["main"].take(event)
        self.tracker.on_event("main", event)
        self.channels["main"].tell()

    def rings(self, uniqueid: str = "1.1") -> None:
        """A phone of Anna's rings for the call."""
        name = f"PJSIP/anna-0000000{uniqueid[-1]}"
        self.tell("DialBegin", Uniqueid="1.0", DestUniqueid=uniqueid, DestChannel=name)
        self.tell("DialState", Uniqueid="1.0", DestUniqueid=uniqueid, DestChannel=name, DialStatus="RINGING")

    def gives_up(self, status: str, uniqueid: str = "1.1") -> None:
        """Dial gives the phone up, and it hangs up."""
        self.tell("DialEnd", Uniqueid="1.0", DestUniqueid=uniqueid, DialStatus=status)
        self.tell("Hangup", Uniqueid=uniqueid, Cause="0")

    # Measures.

    def shed(self) -> None:
        self.shed_count += 1

    def decided(self, service: str | None, action: str) -> None: ...
    def card_offered(self, seconds: float) -> None: ...
    def answered_asterisk(self, seconds: float) -> None: ...

    # What tests do.

    def ask(self, session: Session) -> list[Any]:
        """The question on its way; the list gets the end of it."""
        ended: list[Any] = []
        Deferred.fromCoroutine(self.inbound.route(session)).addBoth(ended.append)
        return ended

    def rows(self, kind: type) -> list[Any]:
        return [row for unit in self.units for row in unit.rows if isinstance(row, kind)]

    @property
    def events(self) -> list[str]:
        return [type for unit in self.units for type in unit.types if type != "agent.state"]

    @property
    def anna(self) -> str:
        return self.roster.view("anna").state


def test_while_ami_is_away_nobody_is_offered_a_call_at_an_asterisk_that_has_no_phone_of_theirs():
    world, session = World(), Session()
    world.roster.device_state("branch", "PJSIP/anna", "NOT_INUSE")
    for pbx in ("main", "branch"):
        world.roster.has_told(pbx)
    world.roster.forget_devices("main")

    world.ask(session)
    assert session.set["CTI_ACTION"] == "fallback"
    assert world.roster.view("anna").state == "ready"


def test_the_answer_names_the_agent_the_caller_and_the_card_and_ends_with_the_action():
    world, session = World(), Session()

    assert world.ask(session) == [None]

    (record,) = {row.id: row for row in world.rows(CallRecord)}.values()
    assert session.set == {
        "__CTI_CALL_ID": record.id,
        "CTI_TARGET": "PJSIP/anna",
        "CTI_TIMEOUT": "20",
        "CTI_REASON": "owner: anna is the owner of the caller",
        "CTI_LANGUAGE": "sl",
        "CTI_CALLER_NAME": "Katrin Öhlmann",
        "CTI_CARD_URL": f"https://cti.example/?call={record.id}",
        "CTI_ACTION": "dial",
    }
    assert list(session.set)[-1] == "CTI_ACTION"
    assert world.events == ["call.offered", "call.routed", "card.offered"]
    assert world.anna == "offered"
    assert world.learned == ["494066969100"]


def test_rules_see_how_many_cases_of_the_party_are_open_and_nothing_where_its_crm_tells_of_none() -> None:
    number = NumberPlan("DE").parse("0152 28817386")
    with_cases = evolve(KATRIN, cases=(Case("7", "Late parcel"), Case("8", "Broken")))

    assert facts_of(Identification(number, (with_cases,)))["open_cases"] == 2
    assert facts_of(Identification(number, (KATRIN,)))["open_cases"] is None


def facts_of(identified: Identification) -> Mapping[str, Any]:
    facts = party_facts(identified)
    assert facts is not None
    assert "cases" not in facts
    return facts


def test_rules_see_whose_country_a_caller_s_number_is_of() -> None:
    world = World()
    rules = compile_rules([{"name": "abroad", "when": {"from.country": {"not": "DE"}}, "reject": "busy"}])
    service = Service("sales", ("+494066969100",), Mode.ROUTE, None, "old-context,s,1", rules)
    world.services = Services([service], NumberPlan("DE"))
    actions = []
    for caller in ("015228817386", "00442079460123", "22"):
        session = Session()
        session.request.headers["agi_callerid"] = caller
        session.request.headers["agi_uniqueid"] = caller
        world.ask(session)
        actions.append(session.set["CTI_ACTION"])

    # An extension of the company's own is of no country, and so of another one.
    assert actions == ["fallback", "reject", "reject"]


def looks_back(world: World, *rules: Mapping[str, Any]) -> None:
    """The service's rules ask for the past of who calls."""
    asked = rules or (
        {"name": "again", "when": {"tries": {"at_least": 3}}, "goto": "second-level,s,1"},
        {"name": "anna knows", "when": {"last_agent": "anna"}, "dial": {"agent": "anna"}},
    )
    service = Service(
        "sales", ("+494066969100",), Mode.ROUTE, None, "old-context,s,1", compile_rules(list(asked))
    )
    world.services = Services([service], NumberPlan("DE"))


def test_rules_see_who_talked_with_the_caller_last_and_how_often_they_tried() -> None:
    world, session = World(), Session()
    looks_back(world)
    world.ask(session)

    assert (session.set["CTI_ACTION"], session.set["CTI_TARGET"]) == ("goto", "second-level,s,1")
    (decision,) = world.rows(DecisionRecord)
    assert decision.facts["history"] == {
        "last_agent": "anna",
        "last_spoken": 400.0,
        "tries": 3,
        "age": 0.0,
    }
    ((number, called, since, before, but),) = world.looked_back
    assert (number, called, since, before) == ("+4915228817386", ("+494066969100",), 0.0, 1000.0)
    assert but == session.set["__CTI_CALL_ID"]


def test_the_past_is_asked_for_beside_the_crms_and_waited_for_as_they_are() -> None:
    world, session = World(), Session()
    looks_back(world)
    world.past, world.answer = Deferred(), Deferred()
    world.ask(session)
    assert (len(world.looked_back), world.identifying) == (1, 1)

    world.past.callback(PastCalls("anna", 400.0, 0))
    assert session.set == {}
    world.answer.callback(Identification(NumberPlan("DE").parse("0152 28817386"), (KATRIN,)))
    assert (session.set["CTI_ACTION"], session.set["CTI_REASON"]) == (
        "dial",
        "anna knows: anna is named by the rule",
    )


def test_a_log_that_does_not_answer_costs_a_caller_a_quarter_of_a_second_and_looks_like_no_first_call() -> (
    None
):
    world, session = World(), Session()
    looks_back(world, {"name": "first", "when": {"tries": {"at_most": 1}}, "dial": {"agent": "anna"}})
    world.past = Deferred()
    world.ask(session)
    world.clock.advance(0.24)
    assert session.set == {}
    world.clock.advance(0.01)

    assert session.set["CTI_ACTION"] == "fallback"
    assert world.rows(DecisionRecord)[-1].facts["history"] is None


def test_the_log_is_waited_for_no_longer_than_the_answer_s_time_leaves() -> None:
    world = World()
    looks_back(world)
    world.past = Deferred()

    def slow(_id: str) -> "Deferred[None]":
        world.clock.advance(1.3)
        return succeed(None)

    world.call = slow
    session = Session(call=mint_call_id(1.0))
    world.ask(session)
    assert session.set == {}
    world.clock.advance(0.1)
    assert session.set["CTI_ACTION"] == "fallback"


def test_the_log_is_asked_once_a_call_also_where_it_has_not_answered() -> None:
    for past in (None, Deferred[PastCalls]()):
        world, session = World(), Session()
        looks_back(world, {"name": "anna knows", "when": {"tries": "present"}, "dial": {"agent": "anna"}})
        world.past = past
        world.ask(session)
        world.clock.advance(20.25)
        again = Session(call=session.set["__CTI_CALL_ID"], attempt="2", last="NOANSWER")
        world.ask(again)

        assert len(world.looked_back) == 1
        histories = [row.facts["history"] for row in world.rows(DecisionRecord)]
        if past is None:
            assert histories[1] == {**histories[0], "age": 20.25}, "as old as it is by then"
        else:
            assert histories == [None, None]


def test_a_decision_says_how_old_was_by_then_who_the_crms_say_it_is() -> None:
    world, first = World(), Session()
    found = Identification(NumberPlan("DE").parse("0152 28817386"), (KATRIN,), at=world.clock.seconds() - 0.2)
    world.answer = succeed(found)
    world.ask(first)
    world.clock.advance(20)
    world.ask(Session(call=first.set["__CTI_CALL_ID"], attempt="2", last="NOANSWER"))

    told = [row.identification for row in world.rows(DecisionRecord)]
    assert [each and each["age"] for each in told] == [0.2, 20.2]


def asks_own(world: World, own: Own, *rules: Mapping[str, Any]) -> None:
    """The service's rules ask the company's own code."""
    compiled = compile_rules(list(rules), own=own)
    service = Service("sales", ("+494066969100",), Mode.ROUTE, None, "old-context,s,1", compiled)
    world.services = Services([service], NumberPlan("DE"))


def test_rules_see_what_the_company_s_own_code_says_once_it_is_known_who_calls_and_what_was_before() -> None:
    world, session = World(), Session()
    tickets = Finds(says=4)
    asks_own(
        world,
        Own({"tickets": tickets}),
        {"name": "tickets", "when": {"own.tickets": {"at_least": 3}}, "goto": "second-level,s,1"},
    )
    world.ask(session)
    assert session.set == {}
    world.clock.take()

    assert (session.set["CTI_ACTION"], session.set["CTI_TARGET"]) == ("goto", "second-level,s,1")
    (decision,) = world.rows(DecisionRecord)
    assert decision.facts["own"] == {"tickets": {"value": 4, "why_not": None, "age": 0.0}}
    (asked,) = tickets.asked
    assert (asked.party["name"], asked.history.last_agent) == ("Katrin Öhlmann", "anna")


def test_an_own_action_reserves_whom_it_chooses_and_shows_them_the_card() -> None:
    world, session = World(), Session()
    chooses = Chooses({"dial": {"agent": "anna"}, "timeout": 7})
    asks_own(world, Own(actions={"nearest": chooses}), {"name": "near", "own": {"nearest": 20}})
    world.ask(session)
    world.clock.take()

    assert (session.set["CTI_TARGET"], session.set["CTI_TIMEOUT"]) == ("PJSIP/anna", "7")
    assert session.set["CTI_REASON"] == "near: anna is named by the rule"
    assert world.anna == "offered"
    assert world.events == ["call.offered", "call.routed", "card.offered"]
    (decision,) = world.rows(DecisionRecord)
    assert decision.facts["own"]["sales/near"]["value"] == {"dial": {"agent": "anna"}, "timeout": 7}


def test_own_code_that_hangs_costs_a_caller_a_quarter_of_a_second_and_the_call_goes_on() -> None:
    world, session, held = World(), Session(), threading.Event()
    asks_own(
        world,
        Own({"tickets": Finds(says=4, held=held)}),
        {"name": "tickets", "when": {"own.tickets": {"at_least": 3}}, "goto": "second-level,s,1"},
        {"name": "rest", "dial": {"agent": "anna"}},
    )
    world.ask(session)
    world.clock.advance(0.24)
    assert session.set == {}
    world.clock.advance(0.01)

    assert (session.set["CTI_ACTION"], session.set["CTI_TARGET"]) == ("dial", "PJSIP/anna")
    (decision,) = world.rows(DecisionRecord)
    assert decision.trace[0]["note"] == "own.tickets did not say in time"
    assert decision.trace[0]["tests"][0]["found"] is None
    held.set()
    world.clock.take()


def test_own_code_is_waited_for_no_longer_than_the_answer_s_time_leaves() -> None:
    world, held = World(), threading.Event()
    asks_own(
        world,
        Own({"tickets": Finds(held=held)}),
        {"name": "tickets", "when": {"own.tickets": "present"}, "goto": "second-level,s,1"},
    )

    def slow(_id: str) -> "Deferred[None]":
        world.clock.advance(1.3)
        return succeed(None)

    world.call = slow
    session = Session(call=mint_call_id(1.0))
    world.ask(session)
    assert session.set == {}
    world.clock.advance(0.1)
    assert session.set["CTI_ACTION"] == "fallback"
    held.set()
    world.clock.take()


def test_own_code_is_not_asked_where_an_agent_has_decided() -> None:
    world, call = offered_to_anna()
    tickets = Finds(says=4)
    asks_own(world, Own({"tickets": tickets}), {"name": "one", "when": {"own.tickets": 4}, "reject": "busy"})
    live = world.calls.get(call)
    assert live is not None
    world.gives_up("BUSY")
    decision = Decision(Action.DIAL, ("anna",), "PJSIP/anna", 20, "transferred", "transferred by ben", ())
    live.assigned = Assigned(decision, "ben", 1100.0)
    session = Session(call=call, attempt="2", last="BUSY")
    world.ask(session)
    assert session.set["CTI_ACTION"] == "dial"
    assert tickets.asked == []


def test_own_code_is_asked_at_each_question_by_the_rules_of_that_moment() -> None:
    world, tickets = World(), Finds(says=4)
    asks_own(
        world,
        Own({"tickets": tickets}),
        {"name": "tickets", "when": {"own.tickets": {"at_most": 3}}, "goto": "second-level,s,1"},
    )
    first = Session()
    world.ask(first)
    world.clock.take()
    tickets.says = 2
    again = Session(call=first.set["__CTI_CALL_ID"], attempt="2")
    world.ask(again)
    world.clock.take()
    assert [(each.attempt, each.own) for each in tickets.asked] == [(1, {}), (2, {})]
    assert (first.set["CTI_ACTION"], again.set["CTI_ACTION"]) == ("fallback", "goto")

    asks_own(world, Own(), {"name": "rest", "goto": "menu,s,1"})
    world.ask(Session(call=first.set["__CTI_CALL_ID"], attempt="3"))
    assert world.rows(DecisionRecord)[-1].facts["own"] == {}, "not what was said to other rules"


def test_of_who_is_blocked_own_code_is_not_asked() -> None:
    world, tickets = World(), Finds(says=4)
    asks_own(
        world, Own({"tickets": tickets}), {"name": "one", "when": {"own.tickets": 4}, "goto": "menu,s,1"}
    )
    world.refusal = Decision(Action.REJECT, (), "busy", 0, None, "the number is blocked", ())
    session = Session()
    world.ask(session)
    assert session.set["CTI_ACTION"] == "reject"
    assert tickets.asked == []


@pytest.mark.parametrize("caller", ["anonymous", "unknown"])
def test_of_who_shows_no_number_the_log_is_not_asked(caller: str) -> None:
    world, session = World(), Session()
    looks_back(world)
    session.request.headers["agi_callerid"] = caller
    world.ask(session)

    assert world.looked_back == []
    assert session.set["CTI_ACTION"] == "fallback"


def test_the_log_is_not_asked_for_rules_that_do_not_want_to_know_nor_of_who_is_blocked() -> None:
    world = World()
    world.ask(Session())
    assert world.looked_back == []

    looks_back(world)
    world.refusal = Decision(Action.REJECT, (), "declined", 0, None, "blocked", ())
    session = Session()
    session.request.headers["agi_uniqueid"] = "2.0"
    world.ask(session)
    assert (session.set["CTI_ACTION"], world.looked_back) == ("reject", [])


def test_who_has_said_by_a_key_who_they_are_is_routed_as_them_and_nobody_is_asked() -> None:
    world, session = World(), Session()
    mojca = Party(adapter="crm", type="contact", id="5", name="Mojca Zupan", owner="u1", match="key")
    world.said["main", "1.0"] = Identification(
        NumberPlan("DE").parse("0171 3920042"), (mojca,), owners={("crm", "u1"): "anna"}
    )

    world.ask(session)

    assert session.set["CTI_CALLER_NAME"] == "Mojca Zupan"
    assert world.rows(CallRecord)[-1].party["match"] == "key"
    assert [call.id for call in world.freshened] == [session.set["__CTI_CALL_ID"]], (
        "more may be known of them"
    )


@pytest.mark.parametrize(
    ("target", "said", "outcome"),
    [
        ({"goto": "self-service,s,1"}, {"CTI_TARGET": "self-service,s,1"}, "self_service"),
        ({"voicemail": "17"}, {"CTI_TARGET": "17"}, "voicemail"),
        ({"announce": ["a", "b"]}, {"CTI_TARGET": "a&b"}, "self_service"),
        (
            {"announce": "a", "then": "fallback"},
            {"CTI_TARGET": "a", "CTI_NEXT": "old-context,s,1"},
            "self_service",
        ),
        ({"reject": "declined"}, {"CTI_TARGET": "declined"}, "rejected"),
    ],
)
def test_a_rule_that_rings_nobody_is_told_with_its_target_and_is_the_outcome(target, said, outcome):
    world, session = World(), Session()
    rules = compile_rules([{"name": "night", **target}])
    service = Service("sales", ("+494066969100",), Mode.ROUTE, None, "old-context,s,1", rules)
    world.services = Services([service], NumberPlan("DE"))
    world.ask(session)
    world.tracker.on_event("main", an_end_of("1.0"))

    (action,) = target.keys() - {"then"}
    of_action = {
        name: value for name, value in session.set.items() if name not in ("__CTI_CALL_ID", "CTI_REASON")
    }
    assert of_action == {**said, "CTI_LANGUAGE": "sl", "CTI_ACTION": action}
    assert list(session.set)[-1] == "CTI_ACTION"
    assert world.rows(CallRecord)[-1].outcome == outcome
    assert (world.rows(SegmentRecord), world.anna) == ([], "ready")


_RING = {"name": "rest", "dial": {"group": "sales"}}
_WAIT = {"name": "line", "wait": [{"for": 60, "dial": {"group": "sales"}}]}


@pytest.mark.parametrize(
    ("wish", "rules", "action", "why"),
    [
        (None, [_RING], "fallback", "fallback: nobody is left: rest: nobody is in"),
        (None, [_WAIT], "fallback", "fallback: nobody is left: line: nobody is logged in for step 1 (sales)"),
        ("logged_out", [_RING], "fallback", "fallback: nobody is left: rest: none of 1 in sales is free"),
        (
            "logged_out",
            [_WAIT],
            "fallback",
            "fallback: nobody is left: line: nobody is logged in for step 1 (sales)",
        ),
        ("no_answer", [_RING], "fallback", "fallback: nobody is left: rest: none of 1 in sales is free"),
        # Who is set aside is logged in, and comes back.
        ("no_answer", [_WAIT], "wait", "line: waits"),
        ("ready", [], "fallback", "fallback: "),
    ],
)
def test_with_nobody_to_ring_or_no_rules_a_caller_still_goes_somewhere_and_the_log_says_why(
    wish: str | None, rules: Any, action: str, why: str
) -> None:
    world, session = World(), Session()
    people = [AgentRecord("anna", "Anna", ["PJSIP/anna"], ["sales"], {}, wish or "ready")]
    if wish == "no_answer":
        people[0].wish, people[0].reason = "paused", "no_answer"
    world.roster.load(people if wish is not None else [])
    service = Service("sales", ("+494066969100",), Mode.ROUTE, None, "old-context,s,1", compile_rules(rules))
    world.services = Services([service], NumberPlan("DE"))
    world.ask(session)
    assert session.set["CTI_ACTION"] == action
    assert session.set["CTI_REASON"].startswith(why)
    assert world.rows(DecisionRecord)[-1].reason == session.set["CTI_REASON"]
    if action == "fallback":
        assert session.set["CTI_TARGET"] == "old-context,s,1"


def test_asterisk_has_no_answer_before_it_is_durable_but_all_that_it_will_be_told():
    world, session = World(), Session()
    world.slow = True
    ended = world.ask(session)

    assert ("CTI_ACTION" in session.set, ended) == (False, [])
    assert session.set["CTI_TARGET"] == "PJSIP/anna"
    world.commits[0].callback(())
    assert session.set["CTI_ACTION"] == "dial"


def asked_for_the_card(world, lead):
    world.services = Services([evolve(world.services.named("sales"), card_lead_ms=lead)], NumberPlan("DE"))


def test_a_card_is_given_its_time_before_asterisk_is_answered():
    world = World()
    asked_for_the_card(world, 300)
    world.paint = Deferred()
    session = Session()
    world.ask(session)

    assert world.waited_for == [(("anna",), 0.3)]
    assert "CTI_ACTION" not in session.set

    world.paint.callback(None)
    assert session.set["CTI_ACTION"] == "dial"


def test_no_card_is_waited_for_where_the_service_does_not_want_it():
    world = World()
    session = Session()
    world.ask(session)

    assert world.waited_for == []
    assert session.set["CTI_ACTION"] == "dial"


def test_a_card_gets_no_more_than_is_left_of_the_answers_time():
    world = World()
    asked_for_the_card(world, 2000)
    world.slow = True
    session = Session()
    world.ask(session)
    world.clock.advance(1.0)
    world.commits[0].callback(())

    assert world.waited_for == [(("anna",), pytest.approx(0.4))]
    assert session.set["CTI_ACTION"] == "dial"


def test_who_hangs_up_while_the_card_is_painted_is_not_answered():
    world = World()
    asked_for_the_card(world, 300)
    world.paint = Deferred()
    session = Session()
    world.ask(session)
    world.tracker.on_event("main", an_end_of("1.0"))

    world.paint.callback(None)
    assert "CTI_ACTION" not in session.set


@pytest.mark.parametrize("how", ["too late", "refused"])
def test_what_cannot_be_logged_in_time_falls_open_and_frees_the_agent(how):
    world, session = World(), Session()
    world.slow = True
    world.ask(session)
    if how == "too late":
        world.clock.advance(1.6)
    else:
        world.commits[0].errback(StoreError("the disk is full"))

    assert session.set["CTI_ACTION"] == "fallback"
    assert session.set["CTI_TARGET"] == "old-context,s,1"
    assert world.anna == "ready"
    assert world.rows(SegmentRecord)[-1].result == "failed"
    assert world.events[-1] == "card.withdrawn"


def test_a_decision_that_the_store_refused_is_written_before_what_comes_next():
    world, session = World(), Session()
    world.slow = True
    world.ask(session)
    world.commits[0].errback(StoreError("the database is locked"))
    world.slow = False
    world.tracker.on_event("main", an_end_of("1.0"))

    events = [type for unit in world.units[1:] for type in unit.types if type != "agent.state"]
    assert events[:3] == ["call.offered", "call.routed", "card.offered"]
    assert events[-1] == "call.ended"


@pytest.mark.parametrize("name", ["__CTI_CALL_ID", "CTI_TARGET", "CTI_CALLER_NAME", "CTI_ACTION"])
def test_an_answer_that_breaks_off_frees_the_agent_and_takes_the_card_back(name):
    world, session = World(), Session(breaks_at=name)

    assert world.ask(session) == [None]

    assert world.anna == "ready"
    assert world.rows(SegmentRecord)[-1].result == "lost"
    assert world.events[-1] == "card.withdrawn"


def test_a_caller_who_leaves_while_we_think_is_offered_to_nobody():
    world, session = World(), Session()
    world.answer = Deferred()
    ended = world.ask(session)
    world.tracker.on_event("main", an_end_of("1.0"))
    world.answer.callback(Identification(Number("", "withheld"), ()))

    assert ended == [None]
    assert session.set == {}
    assert world.rows(CallRecord)[-1].outcome == "abandoned"
    assert world.events == ["call.offered", "call.ended"]


def test_news_while_we_think_take_the_beginning_along_and_nothing_is_told_twice():
    world, session = World(), Session()
    world.answer = Deferred()
    world.ask(session)
    (call,) = world.calls.of_pbx("main")
    # As a resync does for every call.
    world.calls.write(call, world.calls.unit())
    world.answer.callback(Identification(Number("", "withheld"), ()))

    assert session.set["CTI_ACTION"] == "fallback"
    assert world.events == ["call.offered", "call.routed"]


@pytest.mark.parametrize("how", ["news", "end"])
def test_the_beginning_of_a_call_is_never_written_without_the_call(how):
    world, session = World(), Session()
    world.answer = Deferred()
    world.ask(session)
    (call,) = world.calls.of_pbx("main")
    if how == "news":
        world.calls.write(call, world.calls.unit())
    else:
        world.tracker.on_event("main", an_end_of("1.0"))

    first = world.units[0]
    assert {type(row) for row in first.rows} == {ChannelRecord, CallRecord}
    # Nor is it over without the event that says so.
    assert (first.last(CallRecord).ended, first.last(CallRecord).outcome) == (None, None)


def test_a_question_that_arrives_after_the_end_of_its_channel_is_left_to_the_ended_record():
    world, session = World(), Session()
    world.tracker.on_event("main", an_end_of("1.0"))

    assert world.ask(session) == [None]
    assert (session.set, world.rows(CallRecord)) == ({}, [])


@pytest.mark.parametrize("gone", [True, False])
def test_after_a_freeze_only_questions_that_somebody_waits_for_are_answered(gone):
    world, session = World(), Session()
    world.frozen = True
    ended = world.ask(session)
    session.gone = gone
    world.clock.advance(LET_IN)

    assert ended == [None]
    assert bool(world.rows(DecisionRecord)) is not gone
    assert ("CTI_ACTION" in session.set) is not gone


def test_in_observe_mode_nobody_is_held_and_nothing_is_shown():
    world, session = World(Mode.OBSERVE), Session()
    world.ask(session)

    assert (session.set["CTI_ACTION"], session.set["CTI_TARGET"]) == ("fallback", "old-context,s,1")
    assert "CTI_CALLER_NAME" not in session.set
    assert world.anna == "ready"
    assert world.events == ["call.offered", "call.routed"]
    (decision,) = world.rows(DecisionRecord)
    assert (decision.action, list(decision.agents)) == ("dial", ["anna"])


@pytest.mark.parametrize(
    "arguments",
    [{"v": "2"}, {"pbx": "nobody"}, {"pbx": ""}],
)
def test_a_question_that_is_not_ours_gets_the_fallback_and_touches_nothing(arguments):
    world, session = World(), Session(**arguments)
    world.ask(session)

    assert session.set == {"CTI_ACTION": "fallback"}
    assert world.units == []


def test_overload_is_answered_at_once_with_the_services_fallback():
    world, session = World(), Session()
    Deferred.fromCoroutine(world.inbound.fall_open(session))

    assert session.set == {
        "CTI_TARGET": "old-context,s,1",
        "CTI_REASON": "overload",
        "CTI_ACTION": "fallback",
    }
    assert world.shed_count == 1
    assert world.units == []


def test_the_second_question_ends_the_first_offer_and_asks_no_crm_again():
    world = World()
    world.ask(Session())
    world.answer = Deferred()
    (record,) = {row.id: row for row in world.rows(CallRecord)}.values()
    session = Session(call=record.id, attempt="2", last="NOANSWER")
    world.ask(session)

    assert session.set["CTI_ACTION"] == "fallback", "there is nobody else"
    # In between it rang, as AMI was not there to say otherwise.
    assert [segment.result for segment in world.rows(SegmentRecord)] == [None, None, "no_answer"]
    assert [decision.attempt for decision in world.rows(DecisionRecord)] == [1, 2]
    assert world.anna == "ready"


def offered_to_anna() -> tuple[World, str]:
    world, session = World(), Session()
    world.ask(session)
    return world, session.set["__CTI_CALL_ID"]


@pytest.mark.parametrize("given_up_first", [True, False], ids=["AMI first", "the question first"])
def test_who_lets_an_offer_ring_to_its_end_has_not_answered_it(given_up_first: bool) -> None:
    world, call = offered_to_anna()
    world.rings()
    if given_up_first:
        world.gives_up("NOANSWER")
    world.ask(Session(call=call, attempt="2", last="NOANSWER"))
    assert world.not_answered == [("anna", 1000.0)]


@pytest.mark.parametrize("last", ["BUSY", "CHANUNAVAIL", "CONGESTION"])
def test_whose_phone_was_busy_or_failed_was_not_to_be_reached(last: str) -> None:
    for told_first in (True, False):
        world, call = offered_to_anna()
        world.rings()
        if told_first:
            world.gives_up(last)
        world.ask(Session(call=call, attempt="2", last=last))
        assert world.not_answered == []


def test_whose_phone_never_rang_could_not_answer() -> None:
    world, call = offered_to_anna()
    world.tell("DialBegin", Uniqueid="1.0", DestUniqueid="1.1", DestChannel="PJSIP/anna-00000001")
    world.ask(Session(call=call, attempt="2", last="NOANSWER"))
    assert world.not_answered == []


def test_who_refuses_the_call_at_a_phone_is_there_although_no_other_answered() -> None:
    world, call = offered_to_anna()
    world.rings("1.1")
    world.gives_up("BUSY", "1.1")
    world.ask(Session(call=call, attempt="2", last="NOANSWER"))
    assert world.not_answered == []


def test_a_caller_who_hangs_up_while_it_rings_is_nobody_s_fault() -> None:
    world, _ = offered_to_anna()
    world.rings()
    world.gives_up("CANCEL")
    world.tell("Hangup", Uniqueid="1.0", Cause="16")
    assert world.rows(SegmentRecord)[-1].result == "abandoned"
    assert world.not_answered == []


def test_who_is_passed_a_call_by_a_colleague_owes_it_no_answer() -> None:
    world, call = offered_to_anna()
    live = world.calls.get(call)
    assert live is not None
    world.gives_up("BUSY")
    decision = Decision(Action.DIAL, ("anna",), "PJSIP/anna", 20, "transferred", "transferred by ben", ())
    live.assigned = Assigned(decision, "ben", 1100.0)
    world.ask(Session(call=call, attempt="2", last="BUSY"))
    world.rings("1.2")
    world.gives_up("NOANSWER", "1.2")
    world.ask(Session(call=call, attempt="3", last="NOANSWER"))
    assert [row.rule for row in world.rows(SegmentRecord)][-1] == "transferred"
    assert world.not_answered == []


def test_a_call_that_ami_told_of_first_gets_its_callers_number_from_the_question():
    world = World()
    record = CallRecord(
        id=mint_call_id(1000.0), pbx="main", started=1000.0, uniqueid="1.0", state="elsewhere"
    )
    call = LiveCall(record)
    call.add_channel(
        world.unit(), ChannelRecord("main", "1.0", call.id, "PJSIP/trunk", "caller", record.started)
    )
    world.calls.keep(call)
    world.ask(Session())

    written = world.rows(CallRecord)[-1]
    assert (written.id, written.from_number, written.from_kind) == (call.id, "+4915228817386", "e164")


def several(**changes: Any) -> Identification:
    number = NumberPlan("DE").parse("015228817386")
    parties = tuple(evolve(KATRIN, id=id, **changes) for id in ("17", "18"))
    return Identification(number, parties, resolution=resolve(parties, POLICIES))


def test_who_may_be_any_of_several_is_routed_and_logged_as_that_and_all_are_on_the_card():
    world, session = World(), Session()
    world.answer = succeed(several())
    world.ask(session)

    (decision,) = world.rows(DecisionRecord)
    assert (decision.facts["party"], decision.facts["parties"]) == ({"match": "several"}, 2)
    assert decision.identification["resolved_by"] == "ask"
    assert [step["policy"] for step in decision.identification["steps"]] == list(POLICIES)
    assert session.set["CTI_ACTION"] == "fallback", "nobody is the owner of somebody who may be two"
    assert "CTI_CALLER_NAME" not in session.set
    assert world.rows(CallRecord)[-1].party is None
    (call,) = world.calls.of_pbx("main")
    assert [party["id"] for party in call.card["parties"]] == ["17", "18"]
    assert call.card["resolved_by"] is None


def test_whom_the_companys_policy_settles_on_is_routed_and_logged_like_any_other():
    world, session = World(), Session()
    found = several(organisation="o1", company="Hafen AG")
    world.answer = succeed(evolve(found, owners={("directory", "u1"): "anna"}))
    world.ask(session)

    assert (session.set["CTI_ACTION"], session.set["CTI_TARGET"]) == ("dial", "PJSIP/anna")
    assert session.set["CTI_CALLER_NAME"] == "Hafen AG"
    record = world.rows(CallRecord)[-1]
    assert (record.party["id"], record.party["match"]) == ("o1", "company")
    (call,) = world.calls.of_pbx("main")
    assert call.card["resolved_by"] == "company"


def beside(*has: str) -> World:
    """A server beside another one that has these agents; Anna has been idle for longer than Ben."""
    world = World(claims=OtherServer(*has))
    ben = AgentRecord("ben", "Ben", ["PJSIP/ben"], ["sales"], {}, "ready", idle_since=900.0)
    world.roster.load([world.roster.record("anna"), ben])
    rules = compile_rules([{"name": "team", "dial": {"group": "sales"}}])
    service = Service("sales", ("+494066969100",), Mode.ROUTE, None, "old-context,s,1", rules)
    world.services = Services([service], NumberPlan("DE"))
    return world


def test_whom_another_server_holds_the_call_is_not_offered_to():
    world, session = beside("anna"), Session()
    idle = world.roster.record("anna").idle_since
    world.ask(session)
    assert session.set["CTI_TARGET"] == "PJSIP/ben"
    (decision,) = world.rows(DecisionRecord)
    assert decision.agents == ("ben",)
    assert [record.agent for record in world.rows(ReservationRecord)] == ["ben"]
    anna = world.roster.view("anna")
    assert (anna.why_not, anna.call) == ("is held by another server", None)
    assert world.roster.record("anna").idle_since == idle, "her turn is not over"
    world.clock.advance(ELSEWHERE)
    world.roster.expire()
    assert world.roster.view("anna").why_not is None


def test_a_call_whose_agents_are_all_another_servers_goes_on_by_the_rules():
    world, session = beside("anna", "ben"), Session()
    world.ask(session)
    assert session.set["CTI_ACTION"] == "fallback"
    assert world.rows(ReservationRecord) == []


def test_a_caller_who_leaves_while_another_server_is_asked_leaves_nobody_held():
    world, session = beside(), Session()
    asking: Deferred[frozenset[str]] = Deferred()
    world.claims.says = asking
    world.ask(session)
    assert world.roster.view("anna").state == "offered"
    world.tracker.on_event("main", an_end_of("1.0"))
    asking.callback(frozenset())
    assert "CTI_ACTION" not in session.set
    world.clock.advance(COLLECTED_WITHIN)
    world.roster.expire()
    assert world.roster.view("anna").state == "ready"


def test_what_an_adapter_says_too_late_is_told_of_the_call():
    world = World()
    given: list[Any] = []

    async def identify(number: Number, late: Any = None) -> Identification:
        given.append(late)
        return Identification(number)

    world.identify = identify  # type: ignore[method-assign]
    world.ask(Session())
    found = several()
    given[0](found)
    ((call, told),) = world.late
    assert (call.record.uniqueid, told) == ("1.0", found)


def an_end_of(uniqueid: str) -> Any:
    headers: Mapping[str, str] = {
        "Event": "Hangup",
        "Uniqueid": uniqueid,
        "Cause": "16",
        "Timestamp": "1000.5",
    }
    return Event(headers)
