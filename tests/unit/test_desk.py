"""The agents' desktop: what it shows, cards that are painted, notes that nobody loses, wrap-up, calls to make."""

from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from adapters.base import Capability, NewParty, Party
from cti.agents.presence import GRACE, Presence
from cti.agents.states import Wish
from cti.calls.callbacks import CallbackChanged, CallbackUnknown, callback_etag
from cti.calls.control import Asker, BadTarget, CallUnknown, NotNow
from cti.calls.life import LiveCall
from cti.calls.parties import NoCreator
from cti.calls.present import etag_of, iso
from cti.calls.services import Services
from cti.calls.writing_up import DispositionMissing, ExtendedEnough, NotWritingUp
from cti.calls.written import Changed, NotWritten
from cti.identify.identification import Identification
from cti.identify.policy import resolve
from cti.numbers import Number, NumberPlan
from cti.settings import Desk as DeskSettings, PauseReason
from cti.store.base import CallDetail, StoreError
from cti.store.records import CallbackRecord, CallRecord, WrapUpRecord
from routing.reading import compile_rules
from routing.rules import Mode, QuickCreate, Service
from tests.unit.calls import CALL
from tests.unit.desktops import Behind, settled
from tests.unit.test_tracker import House

PLAN = NumberPlan("DE")
CUSTOMER = "+4915228817386"
SALES = Service(
    "sales",
    ("+494066969100",),
    Mode.ROUTE,
    None,
    "old-context,s,1",
    compile_rules([{"name": "rest", "dial": {"group": "sales"}}], groups={"sales"}, agents=set(), path=()),
    title="Sales",
    wrap_up=30,
    dispositions={"order": {"": "Order"}, "question": {"de": "Frage", "en": "Question"}},
    disposition="required",
    quick_create=QuickCreate(),
)
ANNA = Asker("t1", "anna's desk", "anna", own_only=True)
BEN = Asker("t2", "ben's desk", "ben", own_only=True)
CHIEF = Asker("t3", "the chief", None, own_only=False)


class Floor(Behind):
    """A service with wrap-up and dispositions, and one call of it that may be offered, answered, and end."""

    def __init__(self, service: Service = SALES) -> None:
        super().__init__(House())
        self.house.services = Services([service], PLAN)
        self.call = self.house.call
        self.call.record.from_number = CUSTOMER
        for agent in ("anna", "ben"):
            self.house.roster.device_state("main", f"PJSIP/{agent}", "NOT_INUSE")
        self.house.roster.has_told("main")

    def ringing(self, *agents: str) -> "Floor":
        self.house.offered(*agents)
        for number, agent in enumerate(agents or ("anna",), 1):
            self.house.dialled(f"1.{number}", agent)
            self.house.tell(
                "Newstate", Uniqueid=f"1.{number}", Channel=f"PJSIP/{agent}-0000000{number}",
                ChannelStateDesc="Ringing",
            )  # fmt: skip
        return self

    def talking(self) -> "Floor":
        return self.ringing().answered()

    def answered(self) -> "Floor":
        self.house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="ANSWER")
        for uniqueid, channel in (("1.0", "PJSIP/trunk-00000000"), ("1.1", "PJSIP/anna-00000001")):
            self.house.tell("Newchannel", Uniqueid=uniqueid, Channel=channel, ChannelStateDesc="Up")
            self.house.tell("BridgeEnter", BridgeUniqueid="b", Uniqueid=uniqueid, Channel=channel)
        return self

    def ended(self) -> "Floor":
        for uniqueid in ("1.1", "1.0"):
            self.house.tell("Hangup", Uniqueid=uniqueid, Cause="16")
        return self

    def written_up(self) -> "Floor":
        return self.talking().ended()

    def later(self, seconds: float) -> "Floor":
        """Time passes, and the server does its regular work."""
        self.house.clock.advance(seconds)
        unit = self.house.writing_up.expire()
        if unit is not None:
            self.house.calls.commit(unit)
        return self

    def of(self, agent: str = "anna") -> Any:
        return self.desk.snapshot(agent)

    def the_call(self, agent: str = "anna") -> Any:
        (shown,) = self.of(agent)["calls"]
        return shown

    def rows(self, kind: str) -> list[Any]:
        """What was put into the store under this word, or of this record."""
        return [
            row
            for unit in self.house.store.units
            for row in unit.rows
            if type(row).__name__ == kind or (isinstance(row, tuple) and row[0] == kind)
        ]

    def events(self, type: str) -> list[tuple[Mapping[str, Any], tuple[str, ...]]]:
        return [
            (event[2], event[3])
            for unit in self.house.store.units
            for event in unit.events
            if event[0] == type
        ]

    def state(self, agent: str = "anna") -> str:
        return self.house.state_of(agent)

    def write(self, asker: Asker = ANNA, if_match: str | None = None, **given: Any) -> CallRecord:
        tags = [etag_of(self.call.record) if if_match is None else if_match]
        record: CallRecord = settled(self.written.write(asker, CALL, given, tags))
        return record


@pytest.fixture
def floor() -> Floor:
    return Floor()


# What the desk shows


def test_the_desk_of_who_has_nothing_to_do(floor: Floor) -> None:
    desk = floor.of()
    assert desk["seq"] == 41
    assert (desk["agent"]["id"], desk["agent"]["state"], desk["agent"]["phone"]) == ("anna", "ready", None)
    assert desk["agent"]["wrap_up_until"] is None
    assert desk["services"] == {"sales": "Sales"}
    assert desk["pause_reasons"] == ["lunch"]
    assert (desk["calls"], desk["unwritten"], desk["missed"]) == ([], {"count": 0}, {"count": 0})


def test_a_pause_that_is_configured_shows_its_title_and_when_it_is_over(floor: Floor) -> None:
    floor.settings = DeskSettings(
        pause_reasons=("lunch", "tea"), pauses={"lunch": PauseReason({"de": "Mittag", "en": "Lunch"}, 45)}
    )
    began = floor.house.clock.seconds()
    floor.house.roster.wish("anna", Wish.PAUSED, "lunch")
    desk = floor.of()
    assert desk["pause_reasons"] == ["lunch", "tea"]
    lunch = {"label": "Lunch", "labels": {"de": "Mittag", "en": "Lunch"}}
    assert desk["pauses"] == [{"id": "lunch", **lunch, "minutes": 45}]
    assert desk["agent"]["pause"] == {**lunch, "until": iso(began + 2700), "over": False}
    floor.house.clock.advance(2701)
    assert floor.of()["agent"]["pause"]["over"]
    assert floor.of()["agent"]["state"] == "paused", "nobody is made ready by the clock"
    others = ((Wish.PAUSED, "dentist"), (Wish.PAUSED, None), (Wish.READY, None), (Wish.LOGGED_OUT, "lunch"))
    for wish, reason in others:
        floor.house.roster.wish("anna", wish, reason)
        assert floor.of()["agent"]["pause"] is None


def test_a_call_is_shown_from_the_offer_to_the_wrap_up(floor: Floor) -> None:
    floor.house.offered()
    assert floor.the_call()["status"] == "offered"
    floor = Floor().ringing()
    assert floor.the_call()["status"] == "ringing"
    floor = Floor().talking()
    shown = floor.the_call()
    assert (shown["status"], shown["open"]) == ("talking", "button")
    assert shown["can"] == ["hold", "transfer", "clear"]
    assert shown["disposition_required"]
    assert [each["label"] for each in shown["dispositions"]] == ["Order", "Question"]
    assert shown["dispositions"][1]["labels"] == {"de": "Frage", "en": "Question"}
    floor.house.tell("Hold", Uniqueid="1.1")
    assert floor.the_call()["status"] == "held"
    floor.ended()
    shown = floor.the_call()
    assert (shown["status"], shown["can"]) == ("wrap_up", ["extend", "finish"])
    assert shown["wrap_up_until"] == floor.of()["agent"]["wrap_up_until"] is not None
    assert floor.later(31).of()["calls"] == []


def test_a_call_of_others_is_on_nobodys_desk(floor: Floor) -> None:
    assert floor.talking().of("ben")["calls"] == []


def test_an_unknown_caller_may_be_taken_in_and_of_several_one_is_chosen(floor: Floor) -> None:
    floor.house.offered()
    shown = floor.the_call()
    assert (shown["quick_create"], shown["choose"]) == (True, False)
    parties = [{"adapter": "directory", "type": "contact", "id": str(each), "name": "K"} for each in (1, 2)]
    floor.call.cards["anna"].body = {**floor.call.cards["anna"].body, "parties": parties}
    floor.call.card = floor.call.cards["anna"].body
    shown = floor.the_call()
    assert (shown["quick_create"], shown["choose"], shown["party"]) == (False, True, None)
    # A policy of the company has settled it; whoever knows better may still choose another.
    floor.call.record.party = parties[0]
    shown = floor.the_call()
    assert (shown["choose"], shown["party"]["id"]) == (False, "1")
    floor.write(party={"adapter": "directory", "type": "contact", "id": "2"})
    shown = floor.the_call()
    assert (shown["choose"], shown["party"]["id"]) == (False, "2")
    with pytest.raises(NotWritten):
        floor.write(party={"adapter": "directory", "type": "contact", "id": "3"})


def test_the_number_is_shown_as_people_write_it(floor: Floor) -> None:
    floor.house.offered()
    assert floor.the_call()["call"]["display"]["from"] == "01522 8817386"


def test_only_what_belongs_to_the_agent_stands_in_can(floor: Floor) -> None:
    floor.talking()
    floor.pbx.can = frozenset({"transfer", "park", "digits", "record", "clear"})
    assert floor.the_call()["can"] == ["transfer", "park", "digits", "clear"], "nothing is recorded here"
    floor.house.tell("BridgeLeave", BridgeUniqueid="b", Uniqueid="1.0")
    assert floor.the_call()["can"] == ["clear"], "nobody is at the other side"
    assert floor.control.possible(floor.call, "ben") == []


# Cards that are painted


def test_a_painted_card_is_told_once_however_many_browsers_say_so(floor: Floor) -> None:
    floor.house.offered()
    floor.house.clock.advance(0.2)
    for _ in range(3):
        settled(floor.painting.painted("anna", CALL, 1))
    assert [body for body, _ in floor.events("card.shown")] == [
        {"call": floor.call.brief(), "agent": "anna", "attempt": 1}
    ]
    assert [row.shown for row in floor.rows("CardRecord") if row.shown] == [floor.house.clock.seconds()]
    assert len(floor.painted) == 1


def test_a_card_that_went_elsewhere_meanwhile_is_no_news_and_no_error(floor: Floor) -> None:
    floor.ringing("anna", "ben")
    floor.house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.2", DialStatus="ANSWER")
    settled(floor.painting.painted("anna", CALL, 1))
    settled(floor.painting.painted("ben", CALL, 7))
    assert floor.events("card.shown") == []
    with pytest.raises(CallUnknown):
        settled(floor.painting.painted("cleo", CALL, 1))


def waits(floor: Floor, seconds: float = 0.3) -> list[Any]:
    outcome: list[Any] = []
    Deferred.fromCoroutine(floor.painting.wait(floor.call, ["anna", "ben"], seconds)).addBoth(outcome.append)
    return outcome


def test_a_call_waits_for_the_first_card_of_its_offer(floor: Floor) -> None:
    floor.house.offered("anna", "ben")
    floor.watched = {"anna", "ben"}
    waiting = waits(floor)
    assert waiting == []
    floor.house.clock.advance(0.1)
    settled(floor.painting.painted("ben", CALL, 1))
    assert waiting == [None]
    assert floor.house.clock.getDelayedCalls() == []
    assert waits(floor) == [None], "painted already"


def test_nobody_is_waited_for_beyond_the_time_or_without_a_desktop(floor: Floor) -> None:
    floor.house.offered("anna")
    assert waits(floor) == [None]
    floor.watched = {"anna"}
    assert waits(floor, 0.0) == [None]
    waiting = waits(floor)
    floor.house.clock.advance(0.29)
    assert waiting == []
    floor.house.clock.advance(0.02)
    assert waiting == [None]
    settled(floor.painting.painted("anna", CALL, 1))
    assert len(floor.events("card.shown")) == 1


def test_a_wait_that_is_given_up_leaves_nothing_behind(floor: Floor) -> None:
    floor.house.offered("anna")
    floor.watched = {"anna"}
    waiting = Deferred.fromCoroutine(floor.painting.wait(floor.call, ("anna",), 0.3))
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    before = len(floor.house.clock.getDelayedCalls())
    waiting.cancel()
    assert len(floor.house.clock.getDelayedCalls()) == before - 1
    settled(floor.painting.painted("anna", CALL, 1))
    assert len(floor.events("card.shown")) == 1


# Notes


def test_what_is_written_is_durable_told_and_has_a_new_tag(floor: Floor) -> None:
    floor.talking()
    before = etag_of(floor.call.record)
    record = floor.write(notes="wants an offer", disposition="order")
    assert (record.notes, record.disposition) == ("wants an offer", "order")
    assert floor.rows("written")[-1][2:4] == ("wants an offer", "order")
    ((body, agents),) = floor.events("call.updated")
    assert body["changed"] == ["notes", "disposition"]
    assert body["etag"] == etag_of(record) != before
    assert agents == ("anna",)


def test_of_two_who_write_at_once_the_second_gets_the_first_ones_text(floor: Floor) -> None:
    floor.talking()
    seen = etag_of(floor.call.record)
    floor.write(ANNA, seen, notes="anna's")
    with pytest.raises(Changed) as refused:
        floor.write(CHIEF, seen, notes="the chief's")
    assert refused.value.record.notes == "anna's"
    assert floor.call.record.notes == "anna's"
    assert floor.write(CHIEF, etag_of(refused.value.record), notes="both").notes == "both"


def test_whoever_writes_waits_until_the_one_before_is_durable(floor: Floor) -> None:
    floor.talking()
    seen = etag_of(floor.call.record)
    writing: Deferred[Any] = Deferred()
    commit, floor.house.store.commit = floor.house.store.commit, lambda unit, **_: writing  # type: ignore[method-assign, assignment]
    outcomes: dict[str, Any] = {}
    for asker, text in ((ANNA, "first"), (CHIEF, "second")):
        work = floor.written.write(asker, CALL, {"notes": text}, seen)
        Deferred.fromCoroutine(work).addBoth(lambda outcome, text=text: outcomes.update({text: outcome}))
    assert outcomes == {}
    floor.house.store.commit = commit  # type: ignore[method-assign]
    writing.callback(())
    assert outcomes["first"].notes == "first"
    assert outcomes["second"].check(Changed)


def test_what_the_store_refuses_is_not_believed(floor: Floor) -> None:
    floor.talking()
    floor.house.store.commit = lambda unit, **_: fail(StoreError("full"))  # type: ignore[method-assign, assignment]
    with pytest.raises(StoreError):
        floor.write(notes="lost")
    assert floor.call.record.notes is None


def test_of_a_call_that_is_over_can_be_written_too(floor: Floor) -> None:
    record = CallRecord(CALL, "main", 100.0, service="sales", agent="anna", ended=150.0, state="ended")
    floor = Floor(evolve(SALES, wrap_up=0))
    floor.house.calls._forget(floor.call)
    floor.details[CALL] = CallDetail(record, [], [], [], [], [], [])
    settled(floor.written.write(ANNA, CALL, {"disposition": "order"}, etag_of(record)))
    assert floor.rows("written up") == [("written up", CALL)]
    with pytest.raises(CallUnknown):
        settled(floor.written.write(BEN, CALL, {"notes": "mine"}, "*"))
    with pytest.raises(CallUnknown):
        settled(floor.written.write(ANNA, "nobody's", {"notes": "mine"}, "*"))


def test_who_lost_the_call_writes_nothing_of_it(floor: Floor) -> None:
    floor.ringing("anna", "ben")
    assert floor.write(BEN, notes="rings").notes == "rings"
    floor.house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="ANSWER")
    with pytest.raises(CallUnknown):
        floor.write(BEN, notes="too late")


def test_a_disposition_is_one_of_the_services(floor: Floor) -> None:
    floor.talking()
    with pytest.raises(NotWritten, match="order, question"):
        floor.write(disposition="nonsense")
    assert floor.write(disposition="order").disposition == "order"
    assert floor.write(disposition=None).disposition is None


# Wrap-up


def test_after_the_call_its_agent_is_held_to_write_it_up(floor: Floor) -> None:
    floor.written_up()
    assert floor.state() == "wrap_up"
    assert floor.house.roster.agents["anna"].why_not == "wrap_up"
    (row,) = floor.rows("WrapUpRecord")
    assert (row.agent, row.call, row.segment, row.until - row.began) == ("anna", CALL, 1, 30.0)
    assert floor.rows("unreserved") == [("unreserved", "anna", CALL)]


def test_without_wrap_up_the_agent_is_free_at_once_and_the_call_in_the_worklist() -> None:
    floor = Floor(evolve(SALES, wrap_up=0)).written_up()
    assert floor.state() == "ready"
    assert [row[:3] for row in floor.rows("unwritten")] == [("unwritten", "anna", CALL)]


def test_at_the_deadline_the_agent_is_free_although_the_disposition_is_missing(floor: Floor) -> None:
    floor.written_up()
    floor.owed["anna"] = 1
    assert floor.of()["unwritten"] == {"count": 0}, "being written up is no backlog"
    floor.later(29.9)
    assert floor.state() == "wrap_up"
    floor.later(0.2)
    assert floor.state() == "ready"
    assert floor.of()["unwritten"] == {"count": 1}
    assert floor.rows("wrap-up") == [("wrap-up", CALL, 1, 30.0)]
    assert floor.rows("wrapped up") == [("wrapped up", "anna")]
    assert (floor.call.record.wrap_up, floor.call.segments[0].wrap_up) == (30.0, 30.0)


def test_a_wrap_up_is_extended_but_not_for_ever(floor: Floor) -> None:
    floor.written_up()
    for _ in range(3):
        settled(floor.house.writing_up.extend("anna", CALL, 600))
    with pytest.raises(ExtendedEnough):
        settled(floor.house.writing_up.extend("anna", CALL, 1))
    assert floor.rows("WrapUpRecord")[-1].added == 1800
    assert floor.later(1829).state() == "wrap_up"
    assert floor.later(2).state() == "ready"


def test_a_wrap_up_is_finished_by_hand_once_the_disposition_is_there(floor: Floor) -> None:
    floor.written_up().later(5)
    with pytest.raises(NotWritingUp):
        settled(floor.house.writing_up.finish("ben", CALL))
    with pytest.raises(DispositionMissing):
        settled(floor.house.writing_up.finish("anna", CALL))
    floor.write(disposition="order")
    settled(floor.house.writing_up.finish("anna", CALL))
    assert floor.state() == "ready"
    assert floor.rows("wrap-up") == [("wrap-up", CALL, 1, 5.0)]
    with pytest.raises(NotWritingUp):
        settled(floor.house.writing_up.extend("anna", CALL, 60))


def test_who_only_let_it_ring_has_nothing_to_write_up(floor: Floor) -> None:
    floor.ringing("anna", "ben")
    floor.house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="ANSWER")
    floor.house.tell("Hangup", Uniqueid="1.2", Cause="26")
    floor.ended()
    assert (floor.state("anna"), floor.state("ben")) == ("wrap_up", "ready")
    assert [row[1] for row in floor.rows("unwritten")] == ["anna"]


def test_the_end_of_the_whole_call_does_not_end_a_wrap_up(floor: Floor) -> None:
    floor.written_up()
    floor.house.tracker.let_go(floor.house.calls.unit(), floor.call, ["anna"])
    assert floor.state() == "wrap_up"


def test_who_has_passed_the_call_on_writes_up_while_the_other_talks(floor: Floor) -> None:
    floor.talking()
    floor.house.tracker.transfer_by(floor.call, "anna", "ben")
    floor.house.tell("Hangup", Uniqueid="1.1", Cause="16")
    assert floor.state("anna") == "wrap_up"
    floor.house.tell(
        "DialBegin", Uniqueid="1.0", DestUniqueid="1.2", DestChannel="PJSIP/ben-00000002"
    )  # fmt: skip
    floor.house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.2", DialStatus="ANSWER")
    assert (floor.state("anna"), floor.state("ben")) == ("wrap_up", "busy")
    assert floor.later(31).state("anna") == "ready"
    assert floor.call.segments[0].wrap_up == 30.0
    for uniqueid in ("1.2", "1.0"):
        floor.house.tell("Hangup", Uniqueid=uniqueid, Cause="16")
    assert (floor.state("anna"), floor.state("ben")) == ("ready", "wrap_up")
    assert floor.later(31).call.record.wrap_up == 60.0


def test_a_part_that_ends_while_its_agent_talks_on_is_written_up_after_that(floor: Floor) -> None:
    floor.talking()
    floor.house.tell(
        "DialBegin",
        Uniqueid="2.0", Channel="PJSIP/anna-00000009",
        DestUniqueid="2.1", DestChannel="PJSIP/outside-00000001",
    )  # fmt: skip
    other = evolve(
        floor.call.record, id="c2", direction="outbound", agent="anna", service=None, state="asked"
    )
    consultation = LiveCall(other)
    floor.house.calls.keep(consultation)
    writing_up, unit = floor.house.writing_up, floor.house.calls.unit()
    assert not writing_up.part_over(unit, floor.call, "anna", talks_on=True)
    assert writing_up.of("anna") is None
    floor.house.roster.release("anna", CALL)
    floor.house.roster.connect("anna", "c2", 999.0)
    assert writing_up.part_over(unit, consultation, "anna", talks_on=False)
    writing = writing_up.of("anna")
    assert writing is not None
    assert (writing.record.call, floor.state()) == (CALL, "wrap_up")


def test_who_is_offered_one_more_call_as_theirs_ends_writes_theirs_up_if_that_comes_to_nothing(
    floor: Floor,
) -> None:
    roster = floor.talking().house.roster
    roster.load([evolve(roster.record("anna"), concurrency=2), roster.record("ben")])
    floor.house.tell("DeviceStateChange", Device="PJSIP/anna", State="INUSE")
    more = LiveCall(evolve(floor.call.record, id="c2", state="asked"))
    floor.house.calls.keep(more)
    roster.reserve(["anna"], "c2", 1, 9999.0)
    floor.house.tell("Hangup", Uniqueid="1.1", Cause="16")
    assert (floor.state(), floor.house.writing_up.of("anna")) == ("offered", None)
    floor.house.tracker.let_go(floor.house.calls.unit(), more, ["anna"])
    writing = floor.house.writing_up.of("anna")
    assert writing is not None
    assert (writing.record.call, floor.state()) == (CALL, "wrap_up")


def test_the_next_call_of_their_own_ends_it(floor: Floor) -> None:
    floor.written_up().later(3)
    assert floor.house.roster.desk("anna") == ("main", "PJSIP/anna")
    unit = floor.house.calls.unit()
    assert floor.house.writing_up.end(unit, "anna")
    assert floor.house.roster.connect("anna", "c2", 999.0) is not None
    assert floor.state() == "busy"


def test_a_call_that_reaches_them_in_wrap_up_ends_it(floor: Floor) -> None:
    floor.written_up().later(3)
    call = LiveCall(CallRecord("c2", "main", 210.0, from_number=CUSTOMER))
    floor.house.calls.keep(call)
    floor.house.tracker._engage(floor.house.calls.unit(), call, "anna")
    assert (floor.state(), floor.house.writing_up.of("anna")) == ("busy", None)


def test_a_restart_forgets_no_wrap_up(floor: Floor) -> None:
    floor.written_up()
    (row,) = floor.rows("WrapUpRecord")
    fresh = Floor()
    fresh.house.calls._forget(fresh.call)
    detail = CallDetail(floor.call.record, floor.call.segments, [], [], [], [], [])
    fresh.house.writing_up.restore([(row, detail)])
    assert (fresh.state(), fresh.the_call()["status"]) == ("wrap_up", "wrap_up")
    assert fresh.later(31).state() == "ready"
    assert fresh.rows("wrap-up") == [("wrap-up", CALL, 1, 30.0)]


def test_what_was_over_while_the_server_was_away_ends_at_the_start(floor: Floor) -> None:
    detail = CallDetail(floor.talking().call.record, floor.call.segments, [], [], [], [], [])
    fresh = Floor()
    fresh.house.calls._forget(fresh.call)
    fresh.house.writing_up.restore([(WrapUpRecord("anna", CALL, 1, 100.0, 130.0), detail)])
    assert fresh.later(0).state() == "ready"
    assert fresh.rows("wrap-up") == [("wrap-up", CALL, 1, 30.0)]


# Calls to make


def callbacks(floor: Floor) -> list[CallbackRecord]:
    return floor.rows("CallbackRecord")


def another_call(floor: Floor, id: str, **changes: Any) -> LiveCall:
    record = CallRecord(id, "main", 300.0, service="sales", from_number=CUSTOMER, **changes)
    call = LiveCall(record)
    floor.house.calls.keep(call)
    return call


def over(floor: Floor, call: LiveCall, outcome: str) -> None:
    """The call has ended so, and that is written."""
    call.record.ended, call.record.outcome, call.record.state = 310.0, outcome, "ended"
    floor.house.calls.write(call, floor.house.calls.unit())


def test_a_missed_call_opens_one_entry_however_many_phones_rang(floor: Floor) -> None:
    floor.ringing("anna", "ben")
    floor.house.tell("Hangup", Uniqueid="1.0", Cause="16")
    for uniqueid in ("1.1", "1.2"):
        floor.house.tell("Hangup", Uniqueid=uniqueid, Cause="16")
    assert floor.call.record.outcome == "missed"
    (entry,) = callbacks(floor)
    assert (entry.number, entry.service, entry.owner, entry.tries, entry.call) == (
        CUSTOMER, "sales", None, 1, CALL,
    )  # fmt: skip
    assert entry.agents == ["anna", "ben"]
    assert entry.groups == ["sales"]
    ((body, agents),) = floor.events("callback.changed")
    assert set(agents) == {"anna", "ben"}
    assert body["callback"]["state"] == "open"
    assert floor.of("ben")["missed"] == {"count": 1}


def test_a_second_try_is_counted_and_another_service_is_another_entry(floor: Floor) -> None:
    over(floor, floor.call, "abandoned")
    over(floor, another_call(floor, "c2"), "missed")
    other = another_call(floor, "c3")
    other.record.service = "support"
    over(floor, other, "abandoned")
    entries = {entry.id: entry for entry in callbacks(floor)}
    assert sorted((entry.service, entry.tries, entry.call) for entry in entries.values()) == [
        ("sales", 2, "c2"),
        ("support", 1, "c3"),
    ]


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"from_number": None}, "missed"),
        ({"direction": "outbound"}, "missed"),
        ({"service": None}, "abandoned"),
        ({}, "voicemail"),
        ({}, "rejected"),
    ],
)
def test_nobody_has_to_call_back(floor: Floor, changes: Mapping[str, Any], outcome: str) -> None:
    for name, value in changes.items():
        setattr(floor.call.record, name, value)
    over(floor, floor.call, outcome)
    assert callbacks(floor) == []


def test_the_owner_of_the_party_has_to_call_back_if_they_are_one_of_us(floor: Floor) -> None:
    floor.call.party = {"adapter": "directory", "type": "contact", "id": "1", "owner": "ben"}
    over(floor, floor.call, "missed")
    assert callbacks(floor)[-1].owner == "ben"
    assert floor.events("callback.changed")[-1][1] == ("ben",)
    assert (floor.callbacks.count("anna"), floor.callbacks.count("ben")) == (0, 1)
    stranger = another_call(floor, "c2")
    stranger.record.from_number, stranger.party = "+493023125100", {"owner": "who left"}
    over(floor, stranger, "missed")
    assert callbacks(floor)[-1].owner is None


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_whoever_called_once_they_talk_the_entry_is_closed(floor: Floor, direction: str) -> None:
    over(floor, floor.call, "missed")
    reached = another_call(floor, "c2", direction=direction)
    if direction == "outbound":
        reached.record.from_number, reached.record.to_number = None, CUSTOMER
    floor.house.calls.write(reached, floor.house.calls.unit())
    assert callbacks(floor)[-1].state == "open"
    reached.record.answered = 320.0
    floor.house.calls.write(reached, floor.house.calls.unit())
    floor.house.calls.write(reached, floor.house.calls.unit())
    closed = callbacks(floor)[-1]
    assert (len(callbacks(floor)), closed.state, closed.done_by) == (2, "done", "c2")
    assert floor.callbacks.count("anna") == 0
    over(floor, reached, "answered")
    assert callbacks(floor)[-1] == closed, "once more with the end, should the first commit have failed"
    assert len(callbacks(floor)) == 3


def an_entry(floor: Floor, **changes: Any) -> CallbackRecord:
    entry = CallbackRecord("b1", 100.0, CUSTOMER, agents=["anna"], groups=["sales"], **changes)
    floor.callbacks.restore([entry])
    return entry


def test_of_two_who_take_an_entry_one_gets_it(floor: Floor) -> None:
    entry = an_entry(floor)
    seen = callback_etag(entry)
    taken = settled(floor.callbacks.change(ANNA, "b1", {"owner": "anna"}, seen))
    assert (taken.owner, floor.callbacks.count("ben")) == ("anna", 0)
    assert set(floor.events("callback.changed")[-1][1]) == {"anna", "ben"}, "it is no more on Ben's list"
    with pytest.raises(CallbackUnknown):
        settled(floor.callbacks.change(BEN, "b1", {"owner": "ben"}, seen))
    with pytest.raises(CallbackChanged):
        settled(floor.callbacks.change(CHIEF, "b1", {"owner": "ben"}, seen))
    with pytest.raises(BadTarget):
        settled(floor.callbacks.change(CHIEF, "b1", {"owner": "zoe"}, "*"))
    closed = settled(floor.callbacks.change(ANNA, "b1", {"state": "cancelled"}, callback_etag(taken)))
    assert (closed.state, floor.callbacks.count("anna")) == ("cancelled", 0)


def test_a_change_that_the_store_refuses_leaves_the_entry_as_it_was(floor: Floor) -> None:
    an_entry(floor)
    floor.house.store.commit = lambda unit, **_: fail(StoreError("full"))  # type: ignore[method-assign, assignment]
    with pytest.raises(StoreError):
        settled(floor.callbacks.change(ANNA, "b1", {"state": "done"}, "*"))
    assert floor.callbacks.count("anna") == 1


def test_a_planned_call_belongs_to_who_plans_it(floor: Floor) -> None:
    entry = settled(floor.callbacks.plan(ANNA, CUSTOMER, {"note": "after noon", "due": 900.0}))
    assert (entry.owner, entry.note, entry.due, entry.made_by) == ("anna", "after noon", 900.0, "anna's desk")
    with pytest.raises(CallUnknown):
        settled(floor.callbacks.plan(ANNA, CUSTOMER, {"call": "none of hers"}))
    floor.details["c0"] = CallDetail(
        CallRecord("c0", "main", 1.0, service="sales", agent="anna"), [], [], [], [], [], []
    )
    settled(floor.callbacks.plan(ANNA, CUSTOMER, {"call": "c0"}))
    over(floor, floor.call, "missed")
    assert len({entry.id for entry in callbacks(floor)}) == 3, "a missed call is another thing than a plan"


def test_who_dials_an_entry_takes_it(floor: Floor) -> None:
    entry = an_entry(floor)
    dialled: list[tuple[str, str]] = []

    async def make_call(_asker: Asker, agent: str, to: str, _also: Any) -> str:
        dialled.append((agent, to))
        return "done"

    floor.control.make_call = make_call  # type: ignore[method-assign, assignment]
    assert settled(floor.callbacks.dial(BEN, "b1", "ben")) == "done"
    assert dialled == [("ben", f"tel:{CUSTOMER}")]
    assert callbacks(floor)[-1].owner == "ben"
    settled(floor.callbacks.change(BEN, "b1", {"state": "done"}, "*"))
    floor.house.store.callback = lambda id: evolve(entry, state="done")  # type: ignore[attr-defined]
    with pytest.raises(NotNow):
        settled(floor.callbacks.dial(CHIEF, "b1", "anna"))


def test_of_two_who_dial_an_entry_at_once_one_calls(floor: Floor) -> None:
    an_entry(floor)
    rings: Deferred[None] = Deferred()
    dialled: list[str] = []

    async def make_call(_asker: Asker, agent: str, _to: str, _also: Any) -> str:
        dialled.append(agent)
        await rings
        return "done"

    floor.control.make_call = make_call  # type: ignore[method-assign, assignment]
    outcomes: list[Any] = []
    for asker, agent in ((ANNA, "anna"), (BEN, "ben")):
        Deferred.fromCoroutine(floor.callbacks.dial(asker, "b1", agent)).addBoth(outcomes.append)
    rings.callback(None)
    assert dialled == ["anna"]
    assert len(outcomes) == 2
    assert "done" in outcomes
    assert callbacks(floor)[-1].owner == "anna"


# Unknown callers


class Directory:
    """An adapter that takes parties, slowly if it is told to."""

    name = "directory"
    capabilities = frozenset({Capability.IDENTIFY, Capability.CREATE})

    def __init__(self) -> None:
        self.parties: list[Party] = []
        self.writing: Deferred[None] = succeed(None)

    async def identify(self, number: Number) -> list[Party]:
        return list(self.parties)

    async def create(self, party: NewParty) -> Party:
        await self.writing
        self.parties.append(Party(adapter="directory", type=party.type, id="9", name=party.name))
        return self.parties[-1]

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def health(self) -> Any: ...


KATRIN = NewParty("contact", CUSTOMER, "Katrin Öhlmann")


def test_who_is_taken_in_is_on_the_card_and_in_the_log(floor: Floor) -> None:
    floor.adapters["directory"] = Directory()
    floor.talking()
    created = settled(floor.parties.create(ANNA, KATRIN, PLAN.parse(CUSTOMER), None, CALL))
    assert created.new
    shown = floor.the_call()
    assert shown["party"]["name"] == "Katrin Öhlmann"
    assert [party["id"] for party in shown["card"]["parties"]] == ["9"]
    assert shown["quick_create"] is False
    assert floor.rows("CardRecord")[-1].body["parties"][0]["id"] == "9"
    assert floor.events("call.updated")[-1][0]["changed"] == ["party"]


def test_who_is_taken_in_goes_where_the_service_wants_it() -> None:
    floor = Floor(evolve(SALES, quick_create=QuickCreate("second", "lead"))).talking()
    first, second = Directory(), Directory()
    second.name = "second"
    floor.adapters |= {"first": first, "second": second}
    assert floor.the_call()["quick_create_type"] == "lead"
    settled(floor.parties.create(ANNA, KATRIN, PLAN.parse(CUSTOMER), None, CALL))
    assert (len(first.parties), len(second.parties)) == (0, 1)


def test_two_browsers_at_once_make_one_party(floor: Floor) -> None:
    floor.adapters["directory"] = directory = Directory()
    directory.writing = Deferred()
    outcomes: list[Any] = []
    for _ in range(2):
        work = floor.parties.create(ANNA, KATRIN, PLAN.parse(CUSTOMER), None, None)
        Deferred.fromCoroutine(work).addBoth(outcomes.append)
    directory.writing.callback(None)
    assert sorted((each.party.id, each.new) for each in outcomes) == [("9", False), ("9", True)]
    assert len(directory.parties) == 1


def test_nobody_is_taken_in_where_no_adapter_can_or_the_call_is_anothers(floor: Floor) -> None:
    floor.talking()
    with pytest.raises(NoCreator):
        settled(floor.parties.create(ANNA, KATRIN, PLAN.parse(CUSTOMER), None, None))
    floor.adapters["directory"] = Directory()
    with pytest.raises(NoCreator, match="directory"):
        settled(floor.parties.create(ANNA, KATRIN, PLAN.parse(CUSTOMER), "crm", None))
    with pytest.raises(CallUnknown):
        settled(floor.parties.create(BEN, KATRIN, PLAN.parse(CUSTOMER), None, CALL))


def test_an_agent_gives_their_call_to_nobody_but_who_has_its_number(floor: Floor) -> None:
    """The history of somebody else's calls would be theirs to read."""
    floor.adapters["directory"] = Directory()
    floor.talking()
    other = evolve(KATRIN, number="+494066969123")
    with pytest.raises(ValueError, match="number"):
        settled(floor.parties.create(ANNA, other, PLAN.parse(other.number), None, CALL))
    assert floor.events("call.updated") == []
    settled(floor.parties.create(CHIEF, other, PLAN.parse(other.number), None, CALL))


# Who has a desktop open


def test_who_closes_the_desktop_counts_as_gone_after_a_while_and_is_back_at_once() -> None:
    watched = {"anna"}
    presence = Presence(watched.__contains__)
    assert presence.missing(["anna", "ben"], 0.0) == set(), "the server has just started"
    assert presence.missing(["anna", "ben"], GRACE + 1) == {"ben"}
    watched.clear()
    assert presence.missing(["anna", "ben"], GRACE + 2) == {"ben"}
    watched.add("ben")
    assert presence.missing(["anna", "ben"], 2 * GRACE + 3) == {"anna"}


def test_who_has_to_have_a_desktop_and_has_none_is_not_offered_calls(floor: Floor) -> None:
    roster = floor.house.roster
    roster.without_desktop(["anna"])
    assert roster.agents["anna"].why_not == "has no desktop open"
    assert roster.agents["ben"].why_not is None
    roster.without_desktop([])
    assert roster.agents["anna"].why_not is None


# Who is known too late for the decision.


def found_late(*ids: str) -> Identification:
    parties = tuple(Party("crm", "contact", id, f"Person {id}", owner="u1") for id in ids)
    return Identification(PLAN.parse("015228817386"), parties, resolution=resolve(parties, ("ask",)))


def late(floor: Floor, *ids: str) -> None:
    floor.late_cards.identified(floor.call, found_late(*ids))


def nobody_known(floor: Floor) -> Floor:
    floor.house.offered()
    floor.call.record.party = floor.call.party = None
    floor.call.card = {**floor.call.cards["anna"].body, "parties": []}
    return floor


def test_who_is_known_late_is_on_the_screen_and_in_the_log_and_the_next_decision_knows_them(
    floor: Floor,
) -> None:
    nobody_known(floor)
    late(floor, "7")
    ((body, agents),) = floor.events("card.updated")
    assert agents == ("anna",)
    assert [party["id"] for party in body["card"]["parties"]] == ["7"]
    assert floor.the_call()["party"]["id"] == "7"
    record = floor.rows("CallRecord")[-1]
    assert (record.party["adapter"], record.party["id"], record.party["match"]) == ("crm", "7", "number")
    assert floor.call.party is not None
    assert floor.call.party["owner_user"] == "u1"
    assert floor.call.identification is not None
    ((updated, _),) = floor.events("call.updated")
    assert updated["changed"] == ["party"]


def test_several_who_are_known_late_are_for_the_agent_to_choose(floor: Floor) -> None:
    nobody_known(floor)
    late(floor, "7", "8")
    shown = floor.the_call()
    assert (shown["choose"], shown["party"]) == (True, None)
    assert floor.call.record.party is None
    assert floor.events("call.updated") == []


def test_what_a_person_has_said_is_not_contradicted_by_a_late_answer(floor: Floor) -> None:
    nobody_known(floor)
    late(floor, "7", "8")
    floor.write(party={"adapter": "crm", "type": "contact", "id": "8"})
    late(floor, "7")
    assert floor.the_call()["party"]["id"] == "8"
    assert [party["id"] for party in floor.the_call()["card"]["parties"]] == ["7", "8"]
    assert floor.call.record.party is not None
    assert floor.call.record.party["match"] == "chosen"


def test_a_party_that_was_known_in_time_stays_who_the_call_is_with(floor: Floor) -> None:
    nobody_known(floor)
    late(floor, "7")
    late(floor, "7", "8")
    assert floor.call.record.party is not None
    assert floor.call.record.party["id"] == "7"
    assert [party["id"] for party in floor.the_call()["card"]["parties"]] == ["7", "8"]


def test_who_is_known_only_after_the_call_is_in_its_record_and_nothing_else_of_it_changes(
    floor: Floor,
) -> None:
    floor.written_up()
    floor.call.record.party = None
    floor.house.store.units.clear()
    late(floor, "7")
    assert floor.rows("took")[0][1:] == (floor.call.id, floor.call.record.party)
    assert floor.rows("CallRecord") == []


def test_whom_an_agent_chose_is_remembered_for_the_number(floor: Floor) -> None:
    nobody_known(floor)
    late(floor, "7", "8")
    floor.write(party={"adapter": "crm", "type": "contact", "id": "8"})
    (choice,) = floor.rows("ChoiceRecord")
    assert (choice.number, choice.adapter, choice.type, choice.id) == (
        "+4915228817386",
        "crm",
        "contact",
        "8",
    )
    assert choice.call == floor.call.id


# Who is deleted


@pytest.mark.parametrize("when", ["ringing", "talking", "written_up"])
def test_who_is_deleted_during_a_call_keeps_it_to_its_end_and_stands_in_its_record(
    floor: Floor, when: str
) -> None:
    roster = floor.house.roster
    getattr(floor, when)()
    roster.load([roster.record("ben")])
    if when == "ringing":
        floor.answered()
    if when != "written_up":
        floor.ended()
    floor.later(31)
    assert floor.call.over
    record, (segment,) = floor.call.record, floor.call.segments
    assert (record.outcome, record.agent) == ("answered", "anna")
    assert (segment.agent, segment.result) == ("anna", "answered")
    assert "anna" not in roster.agents
    assert floor.house.writing_up.of("anna") is None
    assert floor.rows("unreserved") == [("unreserved", "anna", CALL)]
    # The call cost nobody else anything.
    assert floor.state("ben") == "ready"
