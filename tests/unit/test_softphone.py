"""Softphones' calls: told twice, in any order, without an end, each is one call, with card, agent and outcome."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from cti.asterisk.channels import Channel
from cti.calls.life import LiveCall
from cti.calls.softphone import GRACE, OPEN_CALLS, PER_MINUTE, News, Softphone, Softphones, Told, TooMuchTold
from cti.calls.tracker import GONE
from cti.settings import NO_ASTERISK
from cti.store.base import StoreError
from cti.store.records import CallRecord
from tests.unit.calls import RecordingUnit
from tests.unit.test_tracker import House, ScriptedAmi, left_in_astdb

CUSTOMER = "0152 28817386"
CUSTOMER_E164 = "+4915228817386"
ANNAS = Softphone("21", "anna")
HOUR = 3600.0


class Desk:
    """A house whose Anna has a softphone; `told` tells of it and gives what came of that."""

    def __init__(self) -> None:
        self.house = House()
        self.house.calls._forget(self.house.call)
        self.phones = self.restarted()

    def restarted(self) -> Softphones:
        house = self.house
        self.phones = Softphones(
            calls=house.calls,
            tracker=house.tracker,
            services=lambda: house.services,
            identifier=lambda: house,
            late=lambda call, found: None,
            clock=house.clock,
        )
        return self.phones

    def told(self, news: str, call_id: str | None = "a", number: str | None = CUSTOMER, **more: Any) -> Any:
        phone = more.pop("phone", ANNAS)
        results: list[Any] = []
        self.phones.tell(phone, Told(News(news), number, call_id, **more)).addBoth(results.append)
        if results and isinstance(results[0], Failure):
            results[0].raiseException()
        # As the store does: what was written is found there.
        for unit in self.house.store.units:
            for row in unit.rows:
                if isinstance(row, CallRecord) and row.uniqueid:
                    self.house.store.closed_channels[NO_ASTERISK, row.uniqueid] = row.id
        return results[0]

    def wait(self, seconds: float = GRACE) -> None:
        self.house.clock.advance(seconds)

    @property
    def ended(self) -> list[CallRecord]:
        return self.house.ended

    @property
    def events(self) -> list[str]:
        return self.house.store.events

    def state(self, agent: str = "anna") -> str:
        return str(self.house.roster.view(agent).state)

    def open(self) -> list[LiveCall]:
        return self.house.calls.open()


def test_a_call_is_identified_shown_answered_and_logged_like_any_other():
    desk = Desk()
    call = desk.told("ringing")
    assert desk.events == ["call.ringing", "card.offered"]
    assert desk.open()[0].record.party["name"] == "Katrin Öhlmann"
    desk.wait(3)
    desk.told("connected")
    assert (desk.state(), desk.events[-1]) == ("busy", "call.connected")
    desk.wait(60)
    desk.told("ended")
    [record] = desk.ended
    assert (record.id, record.from_number, record.agent, record.outcome) == (
        call,
        CUSTOMER_E164,
        "anna",
        "answered",
    )
    assert (record.pbx, record.answered, record.ended) == (NO_ASTERISK, 203.0, 263.0)
    assert (desk.state(), desk.events[-1]) == ("ready", "call.ended")


def test_a_call_that_nobody_took_is_missed_once():
    desk = Desk()
    desk.told("ringing")
    for _ in range(3):
        desk.told("missed")
    desk.told("ended")
    desk.wait()
    desk.told("missed")
    desk.wait()
    assert [record.outcome for record in desk.ended] == ["missed"]
    assert desk.events.count("call.missed") == 1


def test_an_answer_that_the_end_has_overtaken_is_believed():
    desk = Desk()
    desk.told("ringing")
    desk.told("ended")
    desk.wait(1)
    desk.told("connected")
    desk.wait(10)
    assert (desk.ended, desk.state()) == ([], "busy")
    desk.told("ended")
    assert [record.outcome for record in desk.ended] == ["answered"]
    assert "call.missed" not in desk.events


def test_a_call_that_is_only_told_of_when_it_was_missed_is_in_the_log_without_a_card():
    desk = Desk()
    desk.told("missed")
    desk.wait()
    assert desk.ended[0].outcome == "missed"
    assert "card.offered" not in desk.events


def test_a_call_that_the_agent_makes_has_a_card_and_an_answer_from_the_other_side():
    desk = Desk()
    desk.told("ringing", outbound=True)
    assert "card.offered" in desk.events
    desk.told("connected", outbound=True)
    assert desk.state() == "busy"
    desk.told("ended", outbound=True)
    [record] = desk.ended
    assert (record.direction, record.to_number, record.agent, record.outcome) == (
        "outbound",
        CUSTOMER_E164,
        "anna",
        "answered",
    )


def test_late_news_of_a_call_that_is_over_change_nothing():
    desk = Desk()
    call = desk.told("connected")
    desk.told("ended")
    before = list(desk.events)
    for news in News:
        assert desk.told(news) == call
        desk.wait()
    assert (desk.events, len(desk.ended), desk.open()) == (before, 1, [])


def test_the_same_id_at_another_extension_is_another_call():
    desk = Desk()
    assert desk.told("ringing") != desk.told("ringing", phone=Softphone("22", "ben"))
    assert len(desk.open()) == 2


def test_a_softphone_without_ids_is_understood_by_the_number():
    desk = Desk()
    call = desk.told("ringing", None)
    assert desk.told("ringing", None) == desk.told("connected", None, "+49 152 28817386") == call
    other = desk.told("ringing", None, "030 23125 101")
    assert desk.told("ended", None) == call
    assert [record.id for record in desk.ended] == [call]
    assert desk.told("ended", None, None) == other
    desk.wait()
    assert desk.told("ended", None) is None
    assert len(desk.ended) == 2
    assert desk.told("ringing", None) not in (call, other)


def test_a_restart_in_the_middle_of_a_call_costs_nothing():
    desk = Desk()
    call = desk.told("ringing")
    desk.restarted()
    assert desk.told("connected") == desk.told("ended") == call
    assert desk.ended[0].outcome == "answered"


def test_who_hides_the_number_has_a_call_too():
    desk = Desk()
    desk.told("ringing", number=None)
    desk.told("ended", number=None)
    desk.wait()
    assert (desk.ended[0].from_number, desk.ended[0].outcome) == (None, "missed")


def test_what_the_store_did_not_take_is_said():
    desk = Desk()
    store = desk.house.store

    def commit(unit: RecordingUnit, *, at_leisure: bool = False) -> Deferred[Any]:
        return fail(StoreError("gone"))

    store.commit = commit  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        desk.told("ringing")


def test_one_extension_is_listened_to_only_so_often():
    desk = Desk()
    for _ in range(PER_MINUTE):
        desk.told("ringing")
    with pytest.raises(TooMuchTold):
        desk.told("ringing")
    desk.told("ringing", phone=Softphone("22", "ben"))


def test_one_extension_has_only_so_many_open_calls():
    desk = Desk()
    for number in range(OPEN_CALLS):
        desk.told("ringing", f"c{number}")
    with pytest.raises(TooMuchTold):
        desk.told("ringing", "one more")
    assert len(desk.open()) == OPEN_CALLS


def test_a_softphone_that_forgets_the_end_keeps_nobody_busy_for_ever():
    desk = Desk()
    desk.told("connected")
    for _ in range(7):
        desk.wait(30.0)
        desk.house.roster.expire()
        desk.house.tracker.hold_on(NO_ASTERISK)
    assert desk.state() == "busy"
    desk.house.tracker.close_old(lambda call: HOUR)
    assert desk.ended == []
    desk.wait(HOUR)
    desk.house.tracker.close_old(lambda call: HOUR)
    [record] = desk.ended
    assert (record.closed_by, record.outcome, record.ended) == ("age", "answered", record.answered)
    assert (desk.state(), desk.open()) == ("ready", [])
    summary = next(
        body for unit in desk.house.store.units for type, _, body, _ in unit.events if type == "call.ended"
    )
    assert summary["call"]["closed_by"] == "age"


def test_a_call_that_ends_by_itself_is_closed_by_nobody():
    desk = Desk()
    desk.told("connected")
    desk.told("ended")
    assert desk.ended[0].closed_by is None


def a_step() -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(st.sampled_from(list(News)), st.sampled_from(["a", "b"]))


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(a_step(), min_size=1, max_size=14), pauses=st.lists(st.sampled_from([0.0, 0.0, 1.0, 5.0]))
)
def test_whatever_is_told_in_whatever_order_makes_one_call_each(
    steps: list[tuple[str, str]], pauses: list[float]
) -> None:
    desk = Desk()
    waits = iter(pauses)
    for news, id in steps:
        desk.told(news, id)
        desk.wait(next(waits, 0.0))
    desk.wait()
    desk.house.tracker.close_old(lambda call: -1.0)
    assert desk.open() == []
    ids = {id for _, id in steps}
    assert len(desk.ended) == len({record.id for record in desk.ended}) == len(ids)
    for record in desk.ended:
        assert record.outcome in ("answered", "missed", "abandoned")
        assert record.ended >= (record.answered or record.started) >= record.started
    for each in ("call.ended", "call.connected", "call.missed"):
        assert desk.events.count(each) <= len(ids)
    assert desk.events.count("call.missed") == sum(record.outcome == "missed" for record in desk.ended)
    assert desk.state() == "ready"
    assert all(call.cards == {} for call in desk.open())


@settings(max_examples=100, deadline=None)
@given(order=st.permutations(["ringing", "connected", "ended", "ringing", "connected", "ended"]))
def test_within_the_grace_the_order_does_not_matter(order: list[str]) -> None:
    desk = Desk()
    for news in order:
        desk.told(news)
    desk.wait()
    desk.told("ended")
    assert [record.outcome for record in desk.ended] == ["answered"]


# Calls at an Asterisk that never ended.


def an_old_call(house: House) -> None:
    house.clock.advance(GONE + HOUR)


def test_age_closes_a_call_of_an_asterisk_that_is_not_heard():
    house = House()
    an_old_call(house)
    house.tracker.close_old(lambda call: HOUR)
    assert [record.closed_by for record in house.ended] == ["age"]


def test_what_asterisk_lists_is_not_closed_by_age():
    house = House()
    house.tracker.up("main", ScriptedAmi())
    [channel] = house.call.living
    house.channels["main"]._channels[channel.uniqueid] = Channel(channel.uniqueid, "PJSIP/trunk-1")
    an_old_call(house)
    house.tracker.close_old(lambda call: HOUR)
    assert house.ended == []


def sweep(house: House, ami: Any, *, in_step: bool = True) -> None:
    Deferred.fromCoroutine(house.tracker.sweep("main", ami, in_step=in_step))


def test_a_call_of_which_asterisk_has_no_channel_is_closed_by_the_sweep():
    house = House()
    ami = ScriptedAmi()
    house.tracker.up("main", ami)
    house.clock.advance(10)
    sweep(house, ami)
    an_old_call(house)
    sweep(house, ami, in_step=False)
    assert house.ended == []
    sweep(house, ami)
    assert [record.closed_by for record in house.ended] == ["asterisk"]


def test_what_the_dialplan_left_goes_before_a_mark():
    house = House()
    an_old_call(house)
    uniqueid = house.call.record.uniqueid or next(iter(house.call.channels))[1]
    ami = ScriptedAmi(DBGetTree=[left_in_astdb(uniqueid, ended="190", cause="16")])
    house.tracker.up("main", ami)
    sweep(house, ami)
    assert [record.closed_by for record in house.ended] == [None]
