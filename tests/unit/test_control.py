"""Call control: who may do what to which call, what is reserved and let go, and what stays on record."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed

from cti.asterisk.pbx import NotDone, NotPossible, PbxAway, PbxError, Refused
from cti.calls.control import (
    OPERATIONS,
    Asker,
    AsteriskAway,
    AsteriskRefused,
    AsteriskSilent,
    BadTarget,
    CallUnknown,
    Control,
    ControlError,
    Done,
    NotAllowed,
    NotNow,
    TooMany,
    took_part,
)
from cti.calls.inbound import assigned_to
from cti.calls.recordings import NoRecording, file_of, next_file
from cti.calls.services import Services
from cti.dialling import DiallingRules
from cti.numbers import NumberPlan
from cti.settings import CallControl
from cti.store.base import CallDetail, StoreError
from cti.store.records import AgentRecord
from routing.rules import Mode, Service
from tests.unit.calls import CALL
from tests.unit.test_tracker import House

ANNA = Asker("t1", "anna's desk", "anna", own_only=True)
BEN = Asker("t2", "ben's desk", "ben", own_only=True)
CLEO = Asker("t3", "cleo's desk", "cleo", own_only=True)
CHIEF = Asker("t4", "the chief", "cleo", own_only=False)
CRM = Asker("t5", "the CRM", None, own_only=False)

PLAN = NumberPlan("DE")
OUTSIDE = "+493023125100"
SALES = Service("sales", ("+494066969100",), Mode.ROUTE, None, "old-context,s,1", ())


class FakePbx:
    """Does everything at once, or fails with `error`; `done` says what it was asked for."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.given: Mapping[str, Any] = {}
        self.error: Exception | None = None
        self.waits: Deferred[Any] | None = None

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        async def do(*arguments: Any, **more: Any) -> Any:
            self.done.append((operation, *arguments))
            self.given = more
            if self.error is not None:
                raise self.error
            if self.waits is not None:
                await self.waits
            return "701" if operation == "park" else "1.9"

        return do


class Desk:
    """Anna talks to a customer in a call of the service `sales`; Ben is her colleague, Cleo of another group."""

    def __init__(self, **settings: Any) -> None:
        self.house = house = House()
        house.roster.load(
            [
                AgentRecord("anna", "Anna", ["PJSIP/anna"], ["sales"], {}, "ready"),
                AgentRecord("ben", "Ben", ["PJSIP/ben"], ["sales"], {}, "ready"),
                AgentRecord("cleo", "Cleo", ["PJSIP/cleo"], ["service"], {}, "paused"),
                AgentRecord("dora", "Dora", ["PJSIP/49171@trunk"], ["service"], {}, "ready"),
            ]
        )
        for agent in ("anna", "ben", "cleo"):
            house.roster.device_state("main", f"PJSIP/{agent}", "NOT_INUSE")
        house.roster.has_told("main")
        house.services = Services([SALES], PLAN)
        self.pbx = FakePbx()
        self.counted: list[tuple[str, str]] = []
        self.log: dict[str, CallDetail] = {}
        house.store.call = lambda id: succeed(self.log.get(id))  # type: ignore[attr-defined]
        self.settings = CallControl(DiallingRules(PLAN), **settings)
        self.control = Control(
            calls=house.calls,
            tracker=house.tracker,
            roster=house.roster,
            services=lambda: house.services,
            identifier=lambda: house,  # type: ignore[arg-type, return-value]
            pbxes={"main": self.pbx, "branch": FakePbx()},  # type: ignore[dict-item]
            mirrors=house.channels,
            now=house.clock.seconds,
            settings=self.settings,
            card_url="https://cti.example/?call={call}",
            observe=lambda operation, outcome: self.counted.append((operation, outcome)),
            writing_up=house.writing_up,
            late=lambda call, found: None,
        )

    def ringing(self) -> "Desk":
        self.house.offered("anna").dialled()
        return self

    def talking(self) -> "Desk":
        self.ringing().house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="ANSWER")
        for uniqueid, channel in (("1.0", "PJSIP/trunk-00000000"), ("1.1", "PJSIP/anna-00000001")):
            self.house.tell("Newchannel", Uniqueid=uniqueid, Channel=channel, ChannelStateDesc="Up")
            self.house.tell("BridgeEnter", BridgeUniqueid="b", Uniqueid=uniqueid, Channel=channel)
        return self

    def do(self, asker: Asker, operation: str, id: str = CALL, **given: Any) -> Done:
        return self.result(self.control.operate(asker, id, operation, given))

    def dial(self, asker: Asker, agent: str, to: str) -> Done:
        return self.result(self.control.make_call(asker, agent, to))

    @staticmethod
    def result(work: Any) -> Any:
        outcome: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(outcome.append)
        (found,) = outcome
        return found.raiseException() if hasattr(found, "raiseException") else found

    def state(self, agent: str) -> str:
        return self.house.state_of(agent)

    @property
    def events(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(event[0], event[2]) for unit in self.house.store.units for event in unit.events]

    def of_type(self, type: str) -> list[Mapping[str, Any]]:
        return [body for name, body in self.events if name == type]


@pytest.fixture
def desk() -> Desk:
    return Desk()


# Whose call it is

ANYTHING: Mapping[str, Mapping[str, Any]] = {
    "consult": {"to": OUTSIDE},
    "transfer": {"to": OUTSIDE},
    "deflect": {"to": OUTSIDE},
    "digits": {"digits": "1"},
    "record": {"action": "start"},
}
EVERYTHING = {"record": True, "supervise": frozenset({"listen", "whisper", "barge"})}


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_to_an_agent_the_calls_of_others_are_not_there(operation: str) -> None:
    desk = Desk(**EVERYTHING).talking()
    with pytest.raises(CallUnknown):
        desk.do(CLEO, operation, **ANYTHING.get(operation, {}))
    assert desk.pbx.done == []


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_an_agent_acts_for_nobody_else(operation: str) -> None:
    desk = Desk(**EVERYTHING).talking()
    with pytest.raises((NotAllowed, BadTarget)):
        desk.do(ANNA, operation, agent="ben", **ANYTHING.get(operation, {}))
    assert desk.pbx.done == []


@pytest.mark.parametrize("operation", sorted(OPERATIONS.keys() - {"pickup", "deflect"}))
def test_a_supervisor_acts_for_whoever_is_in_the_call(operation: str) -> None:
    desk = Desk(**EVERYTHING).talking()
    desk.do(CHIEF, operation, **ANYTHING.get(operation, {}))
    desk.do(CHIEF, "clear", agent="anna")
    assert desk.pbx.done[-1] == ("clear_connection", "1.1")
    assert len(desk.pbx.done) == 2


def test_whose_connection_is_meant_has_to_be_said_where_it_could_be_several(desk: Desk) -> None:
    desk.talking().house.tell(
        "DialBegin", Uniqueid="1.0", DestUniqueid="1.2", DestChannel="PJSIP/ben-00000002"
    )
    with pytest.raises(BadTarget, match="anna, ben"):
        desk.do(CHIEF, "clear")
    desk.do(CHIEF, "clear", agent="ben")
    assert desk.pbx.done == [("clear_connection", "1.2")]


def test_a_call_that_nobody_knows_is_told_from_one_that_has_ended(desk: Desk) -> None:
    with pytest.raises(CallUnknown):
        desk.do(ANNA, "hold", "no such call")
    record = evolve(desk.house.call.record, id="c9", agent="anna", ended=150.0)
    desk.log["c9"] = CallDetail(record, (), (), (), (), (), ())
    with pytest.raises(NotNow, match="has ended"):
        desk.do(ANNA, "hold", "c9")
    with pytest.raises(CallUnknown):
        desk.do(BEN, "hold", "c9")
    with pytest.raises(NotNow):
        desk.do(CHIEF, "hold", "c9")
    assert took_part(desk.log["c9"], "anna")


def test_who_was_offered_the_call_and_is_not_in_it_is_told_so(desk: Desk) -> None:
    desk.house.offered("anna")
    with pytest.raises(NotNow, match="not in this call"):
        desk.do(ANNA, "hold")


# What is done


@pytest.mark.parametrize(
    ("operation", "given", "done"),
    [
        ("answer", {}, ("answer_call", "1.1")),
        ("hold", {}, ("hold_call", "1.1")),
        ("retrieve", {}, ("retrieve_call", "1.1")),
        ("alternate", {}, ("alternate_call", "1.1")),
        ("complete", {}, ("transfer_call", "1.1")),
        ("reconnect", {}, ("reconnect_call", "1.1")),
        ("conference", {}, ("conference_call", "1.1", f"cti-{CALL}")),
        ("park", {}, ("park", "1.0")),
        ("digits", {"digits": "12#"}, ("digits", "1.0", "12#")),
        ("transfer", {"to": OUTSIDE}, ("single_step_transfer", "1.0", f"cti-outbound,{OUTSIDE},1")),
        ("transfer", {"to": "200"}, ("single_step_transfer", "1.0", "cti-outbound,200,1")),
        ("transfer", {"to": "040 66969 100"}, ("single_step_transfer", "1.0", "cti-inbound,+494066969100,1")),
        ("deflect", {"to": OUTSIDE}, ("deflect_call", "1.1", f"cti-outbound,{OUTSIDE},1")),
        ("consult", {"to": "0" + OUTSIDE[3:]}, ("consultation_call", "1.1", OUTSIDE)),
        ("clear", {}, ("clear_connection", "1.1")),
    ],
)
def test_each_operation_reaches_the_channel_that_it_means(
    desk: Desk, operation: str, given: Mapping[str, Any], done: tuple[Any, ...]
) -> None:
    desk.talking().do(ANNA, operation, **given)
    assert desk.pbx.done == [done]
    assert desk.counted == [(operation, "done")]


@pytest.mark.parametrize(
    ("error", "ours", "outcome"),
    [
        (NotPossible("nobody is talking there"), NotNow, "refused"),
        (Refused("the phone said no"), AsteriskRefused, "failed"),
        (PbxAway("away"), AsteriskAway, "failed"),
        (NotDone("too late"), AsteriskSilent, "failed"),
    ],
)
def test_what_asterisk_did_not_do_is_said_in_its_words(
    desk: Desk, error: PbxError, ours: type[ControlError], outcome: str
) -> None:
    desk.talking().pbx.error = error
    with pytest.raises(ours, match=str(error)):
        desk.do(ANNA, "hold")
    assert desk.counted == [("hold", outcome)]
    assert desk.of_type("call.held") == []


def test_two_operations_on_one_call_do_not_cross_but_hanging_up_always_works(desk: Desk) -> None:
    desk.talking().pbx.waits = Deferred()
    first = Deferred.fromCoroutine(desk.control.operate(ANNA, CALL, "hold", {}))
    with pytest.raises(NotNow, match="something else"):
        desk.do(ANNA, "park")
    second = Deferred.fromCoroutine(desk.control.operate(ANNA, CALL, "clear", {}))
    desk.pbx.waits.callback(None)
    assert first.called
    assert second.called
    desk.do(ANNA, "retrieve")


@pytest.mark.parametrize("digits", ["", "12a", "1w2", "1,2", "1" * 33, "١"])
def test_digits_are_digits(desk: Desk, digits: str) -> None:
    with pytest.raises(BadTarget, match="digits"):
        desk.talking().do(ANNA, "digits", digits=digits)
    assert desk.pbx.done == []


def test_hold_is_told_once_whoever_says_it_first(desk: Desk) -> None:
    desk.talking().do(ANNA, "hold")
    desk.house.tell("Hold", Uniqueid="1.1")
    assert len(desk.of_type("call.held")) == 1
    desk.do(ANNA, "retrieve")
    assert len(desk.of_type("call.retrieved")) == 1


# Agents who are to take over


def test_a_colleague_to_whom_a_call_goes_is_reserved_for_the_next_question(desk: Desk) -> None:
    desk.talking().do(ANNA, "transfer", to="ben")
    assert desk.pbx.done == [("single_step_transfer", "1.0", "cti-inbound,s,1")]
    assert desk.state("ben") == "offered"
    decision = assigned_to(desk.house.call, desk.house.clock.seconds() + 2)
    assert decision is not None
    assert (decision.agents, decision.target, decision.reason) == (
        ("ben",),
        "PJSIP/ben",
        "transferred by anna",
    )
    assert assigned_to(desk.house.call, desk.house.clock.seconds()) is None


@pytest.mark.parametrize(
    ("to_raw", "did"),
    [
        ("494066969100", "494066969100"),
        ("+49 40", "+4940"),
        ("cleo", "cleo"),
        ("*21", "s"),
        ("h", "s"),
        ("", "s"),
    ],
)
def test_the_dialplan_is_asked_again_by_a_number_that_it_takes(desk: Desk, to_raw: str, did: str) -> None:
    desk.talking().house.call.record.to_raw = to_raw
    desk.do(ANNA, "transfer", to="ben")
    assert desk.pbx.done == [("single_step_transfer", "1.0", f"cti-inbound,{did},1")]


def test_what_nobody_collects_in_time_is_nobodys(desk: Desk) -> None:
    desk.talking().do(ANNA, "transfer", to="ben")
    assert assigned_to(desk.house.call, desk.house.clock.seconds() + 4) is None


def test_a_colleague_is_free_again_when_the_customer_hangs_up_on_the_way(desk: Desk) -> None:
    desk.talking().do(ANNA, "transfer", to="ben")
    for uniqueid in ("1.1", "1.0"):
        desk.house.tell("Hangup", Uniqueid=uniqueid, Cause="16")
    assert (desk.state("ben"), desk.state("anna")) == ("ready", "ready")


def test_a_colleague_whom_nobody_asks_for_is_not_held_for_as_long_as_they_would_ring(desk: Desk) -> None:
    desk.talking().do(ANNA, "transfer", to="ben")
    desk.house.clock.advance(6)
    assert ("ben", CALL) in desk.house.roster.expire()


@pytest.mark.parametrize("operation", ["digits", "park", "transfer"])
def test_what_is_asked_for_just_after_the_answer_waits_for_the_bridge(desk: Desk, operation: str) -> None:
    given = {"digits": {"digits": "1"}, "transfer": {"to": "ben"}}.get(operation, {})
    desk.ringing().house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="ANSWER")
    desk.house.tell("Newstate", Uniqueid="1.1", Channel="PJSIP/anna-00000001", ChannelStateDesc="Up")
    outcome: list[Any] = []
    Deferred.fromCoroutine(desk.control.operate(ANNA, CALL, operation, given)).addBoth(outcome.append)
    assert (outcome, desk.pbx.done) == ([], [])
    for uniqueid, channel in (("1.0", "PJSIP/trunk-00000000"), ("1.1", "PJSIP/anna-00000001")):
        desk.house.tell("BridgeEnter", BridgeUniqueid="b", Uniqueid=uniqueid, Channel=channel)
    assert [type(each) for each in outcome] == [Done]
    assert desk.pbx.done[0][1] == "1.0"


def test_who_is_connected_with_nobody_is_told_so_after_a_second(desk: Desk) -> None:
    desk.ringing().house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="ANSWER")
    desk.house.tell("Newstate", Uniqueid="1.1", Channel="PJSIP/anna-00000001", ChannelStateDesc="Up")
    outcome: list[Any] = []
    work = desk.control.operate(ANNA, CALL, "digits", {"digits": "1"})
    Deferred.fromCoroutine(work).addErrback(lambda failure: outcome.append(str(failure.value)))
    desk.house.clock.advance(1)
    assert outcome == ["nobody is connected with this phone now"]


@pytest.mark.parametrize("operation", ["transfer", "deflect", "consult"])
def test_what_asterisk_does_not_do_lets_the_colleague_go(desk: Desk, operation: str) -> None:
    desk.talking().pbx.error = Refused("no")
    with pytest.raises(AsteriskRefused):
        desk.do(ANNA, operation, to="ben")
    assert desk.state("ben") == "ready"
    assert (desk.house.call.assigned, desk.house.call.transfer) == (None, None)
    assert len(desk.house.calls) == 1


@pytest.mark.parametrize(
    ("to", "why"), [("cleo", "paused"), ("service", "none of 2 in service is free"), ("anna", "themselves")]
)
def test_who_cannot_take_the_call_is_not_sent_it(desk: Desk, to: str, why: str) -> None:
    desk.house.roster.device_state("main", "PJSIP/49171@trunk", "INUSE")
    with pytest.raises((NotNow, BadTarget), match=why):
        desk.talking().do(ANNA, "transfer", to=to)
    assert desk.pbx.done == []


def test_an_agent_whose_phone_is_at_another_asterisk_is_not_sent_the_call(desk: Desk) -> None:
    desk.house.roster.device_state("main", "PJSIP/ben", "INVALID")
    desk.house.roster.device_state("branch", "PJSIP/ben", "NOT_INUSE")
    desk.talking()
    for operation in ("transfer", "consult"):
        with pytest.raises(NotNow, match="no phone at main"):
            desk.do(ANNA, operation, to="ben")
    assert desk.pbx.done == []


def test_what_is_at_an_asterisk_out_of_sight_is_refused_for_that_and_the_other_is_used(desk: Desk) -> None:
    desk.house.roster.device_state("branch", "PJSIP/cleo", "NOT_INUSE")
    desk.house.roster.has_told("branch")
    desk.house.roster.device_state("main", "PJSIP/cleo", "INVALID")
    desk.talking().house.tracker.down("main")
    with pytest.raises(
        AsteriskAway, match="the call is at the Asterisk main, to which there is no connection"
    ):
        desk.do(ANNA, "hold")
    with pytest.raises(AsteriskAway, match="PJSIP/ben is at the Asterisk main"):
        desk.dial(CHIEF, "ben", "015228817386")
    assert desk.counted == [("hold", "failed"), ("make", "failed")]
    desk.dial(CHIEF, "cleo", "015228817386")
    assert desk.counted[-1] == ("make", "done")


def test_a_group_gives_its_longest_idle_who_is_not_the_one_that_hands_on(desk: Desk) -> None:
    desk.talking().do(ANNA, "transfer", to="group:sales")
    assert desk.state("ben") == "offered"


@pytest.mark.parametrize(
    "to",
    [
        "nobody",
        "agent:nobody",
        "group:nobody",
        "*",
        "group:*",
        "service:nobody",
        "0900 1234567",
        "112",
        "200&PJSIP/ben",
    ],
)
@pytest.mark.parametrize("operation", ["transfer", "deflect", "consult"])
def test_what_does_not_exist_or_may_cost_is_not_dialled(desk: Desk, operation: str, to: str) -> None:
    with pytest.raises(BadTarget, match=r"^to: "):
        desk.talking().do(ANNA, operation, to=to)
    assert desk.pbx.done == []


def test_an_agent_whose_id_is_a_number_goes_before_the_number(desk: Desk) -> None:
    desk.house.roster.load(
        [
            *(desk.house.roster.record(id) for id in ("anna", "ben")),
            AgentRecord("200", "Two", ["PJSIP/two"], [], {}, "ready"),
        ]
    )
    desk.talking().do(ANNA, "consult", to="200")
    assert desk.pbx.given["variables"]["_CTI_OUR_PHONES"] == "PJSIP/two"
    desk.do(ANNA, "consult", to="tel:200")
    assert desk.pbx.done[-1] == ("consultation_call", "1.1", "200")
    assert desk.pbx.given["variables"]["_CTI_OUR_PHONES"] == ""


# Consultation


def test_a_consultation_has_a_record_a_parent_and_the_card_for_who_is_asked(desk: Desk) -> None:
    asked = desk.talking().do(ANNA, "consult", to="ben").call
    assert (asked.parent, asked.agent, asked.direction, asked.to_raw) == (CALL, "anna", "internal", "ben")
    assert desk.of_type("card.offered")[-1]["agent"] == "ben"
    assert desk.state("ben") == "offered"
    variables = desk.pbx.given["variables"]
    assert variables["__CTI_CALL_ID"] == asked.id
    assert (variables["_CTI_OUR_PHONES"], variables["_CTI_OUR_NAME"]) == ("PJSIP/ben", "Anna")


def test_what_follows_a_consultation_may_be_asked_of_either_call(desk: Desk) -> None:
    asked = desk.talking().do(ANNA, "consult", to="ben").call
    desk.do(ANNA, "complete", asked.id)
    assert desk.pbx.done[-1] == ("transfer_call", "1.1")


# MakeCall


def test_a_call_is_written_before_the_phone_rings_and_the_agent_is_held(desk: Desk) -> None:
    made = desk.dial(ANNA, "anna", "0152 28817386").call
    assert desk.pbx.done == [("make_call", "PJSIP/anna", "+4915228817386")]
    assert (made.direction, made.agent, made.to_number) == ("outbound", "anna", "+4915228817386")
    assert any(row == made for unit in desk.house.store.units for row in unit.rows)
    assert desk.state("anna") == "busy"
    (card,) = desk.of_type("card.offered")
    assert (card["agent"], card["card"]["parties"][0]["name"]) == ("anna", "Katrin Öhlmann")
    assert made.party is not None


@pytest.mark.parametrize(
    "error", [Refused("busy"), PbxAway("away"), NotDone("late"), NotPossible("no phone")]
)
def test_a_call_that_is_not_made_ends_and_leaves_nobody_held(desk: Desk, error: PbxError) -> None:
    desk.pbx.error = error
    with pytest.raises(ControlError):
        desk.dial(ANNA, "anna", "0152 28817386")
    assert (desk.state("anna"), len(desk.house.calls)) == ("ready", 1)
    (ended,) = desk.house.ended
    assert ended.outcome == "failed"


def test_a_call_that_cannot_be_written_is_not_made(desk: Desk) -> None:
    desk.house.store.commit = lambda unit, **_: fail(StoreError("the disk is full"))  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        desk.dial(ANNA, "anna", "0152 28817386")
    assert desk.pbx.done == []
    assert desk.state("anna") == "ready"


def test_a_call_to_a_colleague_reserves_them(desk: Desk) -> None:
    desk.dial(ANNA, "anna", "ben")
    assert (desk.state("anna"), desk.state("ben")) == ("busy", "offered")
    assert desk.pbx.done == [("make_call", "PJSIP/anna", "0")]


def test_the_office_number_and_auto_answer_are_passed_on() -> None:
    desk = Desk(office_number="+494066969100", auto_answer=True, ring_seconds=12)
    desk.dial(CRM, "anna", "0152 28817386")
    given = desk.pbx.given
    assert (given["office_number"], given["auto_answer"], given["ring_seconds"]) == (
        "+494066969100",
        True,
        12,
    )


@pytest.mark.parametrize(
    ("asker", "agent", "allowed"),
    [(ANNA, "anna", True), (ANNA, "ben", False), (CHIEF, "anna", True), (CRM, "anna", True)],
)
def test_an_agent_calls_only_for_themselves(desk: Desk, asker: Asker, agent: str, allowed: bool) -> None:
    if allowed:
        desk.dial(asker, agent, OUTSIDE)
    else:
        with pytest.raises(NotAllowed):
            desk.dial(asker, agent, OUTSIDE)
    assert bool(desk.pbx.done) is allowed


@pytest.mark.parametrize(
    ("word", "why"), [("INUSE", "in use"), ("UNAVAILABLE", "not registered"), ("RINGING", "ringing")]
)
def test_who_has_no_free_phone_is_told_why(desk: Desk, word: str, why: str) -> None:
    desk.house.roster.device_state("main", "PJSIP/anna", word)
    with pytest.raises(NotNow, match=why):
        desk.dial(ANNA, "anna", OUTSIDE)


def test_who_has_a_call_makes_no_second_one_by_click(desk: Desk) -> None:
    desk.dial(ANNA, "anna", OUTSIDE)
    with pytest.raises(NotNow, match="has a call already"):
        desk.dial(ANNA, "anna", OUTSIDE)


def test_who_is_paused_may_call(desk: Desk) -> None:
    desk.dial(CLEO, "cleo", OUTSIDE)
    assert desk.pbx.done


def test_a_mobile_is_not_rung_to_begin_a_call(desk: Desk) -> None:
    desk.house.roster.device_state("main", "PJSIP/49171@trunk", "NOT_INUSE")
    with pytest.raises(NotNow, match="no phone here"):
        desk.dial(CRM, "dora", OUTSIDE)


def test_nobody_is_called_who_does_not_exist(desk: Desk) -> None:
    with pytest.raises(BadTarget, match="agent: there is no agent"):
        desk.dial(CRM, "nobody", OUTSIDE)


@pytest.mark.parametrize("to", [OUTSIDE, "ben", "sales", "service:sales"])
def test_a_stolen_token_cannot_start_call_after_call(to: str) -> None:
    desk = Desk(calls_per_minute=2)
    desk.pbx.error = Refused("busy")
    for _ in range(2):
        with pytest.raises(AsteriskRefused):
            desk.dial(CRM, "anna", to)
    for asker, agent in ((CRM, "cleo"), (ANNA, "anna")):
        with pytest.raises(TooMany) as refused:
            desk.dial(asker, agent, to)
        assert refused.value.wait == pytest.approx(30)
    desk.house.clock.advance(31)
    with pytest.raises(AsteriskRefused):
        desk.dial(CRM, "anna", to)


@pytest.mark.parametrize("operation", ["transfer", "consult", "deflect"])
def test_calls_handed_to_the_outside_count_as_well(operation: str) -> None:
    desk = Desk(calls_per_minute=1).talking()
    desk.do(ANNA, operation, to=OUTSIDE)
    with pytest.raises(TooMany):
        desk.do(ANNA, operation, to=OUTSIDE)


# Pickup


def test_a_colleague_of_the_group_may_pick_up(desk: Desk) -> None:
    desk.ringing().do(BEN, "pickup")
    assert desk.pbx.done == [("pickup", "PJSIP/ben", "1.1")]


def test_who_is_of_another_group_may_not(desk: Desk) -> None:
    with pytest.raises(CallUnknown):
        desk.ringing().do(CLEO, "pickup")


def test_nobody_picks_up_what_has_been_answered(desk: Desk) -> None:
    with pytest.raises(CallUnknown):
        desk.talking().do(BEN, "pickup")


# Recording and listening


def test_whether_agents_hear_recordings_is_as_the_configuration_says_now(desk: Desk) -> None:
    assert not desk.control.own_recordings
    desk.control.use(evolve(desk.settings, own_recordings=True))
    assert desk.control.own_recordings


def test_nothing_is_recorded_until_it_is_configured(desk: Desk) -> None:
    with pytest.raises(NotAllowed, match=r"call_control\.record"):
        desk.talking().do(ANNA, "record", action="start")
    assert desk.pbx.done == []


def test_a_recording_is_named_after_the_call_and_noted() -> None:
    desk = Desk(record=True, record_announcement="custom/recorded").talking()
    for action in ("start", "pause", "resume", "stop", "start"):
        desk.do(ANNA, "record", action=action)
    assert desk.pbx.done == [
        ("start_recording", "1.0", f"{CALL}.wav"),
        ("pause_recording", "1.0"),
        ("resume_recording", "1.0"),
        ("stop_recording", "1.0"),
        ("start_recording", "1.0", f"{CALL}-2.wav"),
    ]
    assert desk.pbx.given == {"announcement": "custom/recorded"}
    assert [body["action"] for body in desk.of_type("audit.recording")] == [
        "start",
        "pause",
        "resume",
        "stop",
        "start",
    ]
    assert desk.house.call.record.recording == f"{CALL}-2.wav"


@pytest.mark.parametrize("action", ["pause", "resume", "stop"])
def test_what_is_not_recorded_cannot_be_paused(action: str) -> None:
    with pytest.raises(NotNow, match="not being recorded"):
        Desk(record=True).talking().do(ANNA, "record", action=action)


def test_a_recording_that_a_restarted_server_knows_of_can_be_stopped() -> None:
    desk = Desk(record=True).talking()
    desk.house.call.record.recording = f"{CALL}.wav"
    desk.do(ANNA, "record", action="stop")
    assert desk.pbx.done == [("stop_recording", "1.0")]
    with pytest.raises(NotNow):
        desk.do(ANNA, "record", action="stop")


def test_only_names_that_are_made_here_are_files(desk: Desk) -> None:
    record = desk.house.call.record
    assert next_file(record) == f"{CALL}.wav"
    for wrong in (
        None,
        "",
        "../../etc/passwd",
        f"{CALL}.wav/..",
        f"x/{CALL}.wav",
        f"{CALL}-1.wav",
        f"{CALL}.wav\n",
    ):
        record.recording = wrong
        with pytest.raises(NoRecording):
            file_of(record, None)
    record.recording = f"{CALL}-3.wav"
    assert [file_of(record, part) for part in (None, 1, 2)] == [
        f"{CALL}-3.wav",
        f"{CALL}.wav",
        f"{CALL}-2.wav",
    ]
    for part in (0, 4):
        with pytest.raises(NoRecording):
            file_of(record, part)
    record.recording = f"{CALL[:-1]}9.wav"
    with pytest.raises(NoRecording):
        file_of(record, None)


@pytest.mark.parametrize("kind", ["listen", "whisper", "barge"])
def test_nobody_listens_until_it_is_configured(desk: Desk, kind: str) -> None:
    with pytest.raises(NotAllowed, match=r"call_control\.supervise"):
        desk.talking().do(CHIEF, kind)
    assert desk.pbx.done == []


@pytest.mark.parametrize("kind", ["listen", "whisper", "barge"])
def test_that_somebody_listens_is_written_before_they_do(kind: str) -> None:
    desk = Desk(supervise=frozenset({kind}), supervise_announcement="custom/heard").talking()
    desk.pbx.error = Refused("the phone said no")
    with pytest.raises(AsteriskRefused):
        desk.do(CHIEF, kind)
    assert desk.pbx.done == [("monitor", "PJSIP/cleo", "1.1", kind)]
    assert desk.pbx.given["announcement"] == "custom/heard"
    (audit,) = desk.of_type("audit.supervision")
    assert (audit["kind"], audit["agent"], audit["by"]) == (kind, "anna", "the chief")
    assert audit["call"]["id"] == CALL


def test_what_cannot_be_written_down_is_not_listened_to() -> None:
    desk = Desk(supervise=frozenset({"listen"})).talking()
    desk.house.store.commit = lambda unit, **_: fail(StoreError("the disk is full"))  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        desk.do(CHIEF, "listen")
    assert desk.pbx.done == []


def test_who_has_no_phone_cannot_listen() -> None:
    with pytest.raises(NotAllowed, match="no agent"):
        Desk(supervise=frozenset({"listen"})).talking().do(CRM, "listen")
