"""Planned calls at their time: who makes them, when they are tried again, and that none is made twice or dropped."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, fail

from cti.agents.states import Wish
from cti.asterisk.pbx import NotDone, PbxAway
from cti.calls.callbacks import Callbacks, callback_etag, callback_json
from cti.calls.calling_times import CallingTimes
from cti.calls.control import Asker, BadTarget, NotNow
from cti.calls.due_calls import AT_ONCE, DueCalls
from cti.calls.life import LiveCall
from cti.settings import CallbackSettings
from cti.store.base import CallDetail, StoreError
from cti.store.records import AgentRecord, CallbackRecord, CallRecord
from tests.unit.calls import a_channel
from tests.unit.desktops import settled
from tests.unit.test_control import Desk

BERLIN = ZoneInfo("Europe/Berlin")
CUSTOMER = "+493023125101"
ANOTHER = "+493023125102"
IN_NEW_YORK = "+12125550101"
NO_NUMBER_OF_OURS = "+4990012345678"
ANNA = Asker("t1", "anna's desk", "anna", own_only=True)
CHIEF = Asker("t2", "the chief", None, own_only=False)
MINUTE = 60.0
HOUR = 3600.0
PUT_OFF = 2 * MINUTE


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


MORNING = at("2026-06-10 10:00")


class Office(Desk):
    """Anna and Ben of the group `sales` are ready, it is ten in the morning, and calls can be planned."""

    def __init__(self, now: float = MORNING) -> None:
        super().__init__()
        # What the house came with is over.
        self.house.calls._forget(self.house.call)
        self.house.clock.rightNow = now
        self.times = CallingTimes(CallbackSettings(), BERLIN)
        self.house.store.callback = lambda id: None  # type: ignore[attr-defined]
        self._open()

    def _open(self) -> None:
        self.callbacks = Callbacks(
            calls=self.house.calls,
            store=self.house.store,
            roster=self.house.roster,
            services=lambda: self.house.services,
            control=self.control,
            times=lambda: self.times,
            now=self.house.clock.seconds,
        )
        self.due_calls = DueCalls(
            callbacks=self.callbacks,
            calls=self.house.calls,
            roster=self.house.roster,
            times=lambda: self.times,
            now=self.house.clock.seconds,
        )
        self.house.calls._on_news = [self.callbacks.news]

    @property
    def now(self) -> float:
        return self.house.clock.seconds()

    def restarted(self, *, the_call_lives: bool) -> "Office":
        """The server comes up again with what is durable: the rows of the store, and perhaps the call."""
        rows = {each.id: each for each in self.rows(CallbackRecord)}
        if not the_call_lives:
            for call in self.house.calls.open():
                self.house.calls._forget(call)
        self._open()
        self.callbacks.restore([row for row in rows.values() if row.state == "open"])
        return self

    def rows(self, kind: type) -> list[Any]:
        return [row for unit in self.house.store.units for row in unit.rows if isinstance(row, kind)]

    def plan(self, number: str = CUSTOMER, due: float | None = None, asker: Asker = ANNA, **more: Any) -> str:
        given = {"due": self.now if due is None else due, **more}
        record: CallbackRecord = settled(self.callbacks.plan(asker, number, given))
        return record.id

    def look(self, seconds: float = 0.0) -> "Office":
        """Time passes in one step, and the server does its regular work."""
        self.house.clock.advance(seconds)
        self.due_calls.look()
        return self

    def entry(self, id: str) -> CallbackRecord:
        return [row for row in self.rows(CallbackRecord) if row.id == id][-1]

    def next(self, id: str) -> float | None:
        """In how many seconds it is tried again."""
        moment = self.entry(id).next
        return None if moment is None else moment - self.now

    def change(self, id: str, **given: Any) -> CallbackRecord:
        changed: CallbackRecord = settled(
            self.callbacks.change(CHIEF, id, given, [callback_etag(self.entry(id))])
        )
        return changed

    @property
    def rung(self) -> list[tuple[str, str]]:
        """(phone, number) of each call that was made."""
        return [(done[1], done[2]) for done in self.pbx.done if done[0] == "make_call"]

    def call_of(self, id: str) -> LiveCall:
        call = self.house.calls.get(self.entry(id).calling or "")
        assert call is not None
        return call

    def over(
        self,
        id: str,
        *,
        rang: bool = True,
        picked_up: bool = True,
        reached: bool = False,
        outcome: str = "missed",
    ) -> None:
        """The call that is being made for it has ended."""
        call = self.call_of(id)
        agent = call.record.agent
        assert agent is not None
        if rang:
            channel = a_channel(f"1.{call.id}", agent=agent, answered=self.now if picked_up else None)
            call.channels[channel.key] = channel
        if reached:
            call.record.answered = self.now
        call.record.ended, call.record.state = self.now, "ended"
        call.record.outcome = "answered" if reached else outcome
        self.house.roster.release(agent, call.id)
        self.house.calls.write(call, self.house.calls.unit())


@pytest.fixture
def office() -> Office:
    return Office()


# At their time


def test_at_its_time_the_owners_phone_rings_and_not_before(office: Office) -> None:
    id = office.plan(due=office.now + 10)
    assert office.look(9.9).rung == []
    assert office.look(0.1).rung == [("PJSIP/anna", CUSTOMER)]
    assert (office.state("anna"), office.state("ben")) == ("busy", "ready")
    entry = office.entry(id)
    assert (entry.next, entry.calling, entry.state) == (None, office.call_of(id).id, "open")
    assert office.callbacks.counts() == {"calling": 1}
    assert office.look(1).look(600).rung == [("PJSIP/anna", CUSTOMER)]


def test_who_is_reached_is_closed_by_the_call(office: Office) -> None:
    id = office.plan()
    call = office.look().call_of(id)
    office.over(id, reached=True)
    entry = office.entry(id)
    assert (entry.state, entry.done_by, entry.next, entry.calling) == ("done", call.id, None, None)
    assert office.look(HOUR).rung == [("PJSIP/anna", CUSTOMER)]
    assert office.callbacks.counts() == {}


def test_what_has_no_time_is_left_to_people(office: Office) -> None:
    settled(office.callbacks.plan(ANNA, CUSTOMER, {}))
    assert office.look(24 * HOUR).rung == []
    assert office.callbacks.counts() == {"open": 1}


def test_who_calls_meanwhile_and_talks_needs_no_call(office: Office) -> None:
    id = office.plan(due=office.now + 10)
    record = CallRecord("c2", "main", office.now, from_number=CUSTOMER)
    call = LiveCall(record)
    office.house.calls.keep(call)
    office.look(20)
    assert (office.rung, office.entry(id).why, office.next(id)) == ([], "calls_us", PUT_OFF)
    record.answered = office.now
    office.house.calls.write(call, office.house.calls.unit())
    assert office.entry(id).state == "done"
    assert office.look(HOUR).rung == []


# In vain


def test_who_does_not_answer_is_tried_again_after_the_pauses_and_then_left_to_people(office: Office) -> None:
    id = office.plan(note="wants an offer")
    for failed, pause in ((1, 15 * MINUTE), (2, HOUR)):
        office.look()
        office.over(id)
        entry = office.entry(id)
        assert (entry.failed_tries, entry.why, office.next(id)) == (failed, "no_answer", pause)
        assert len(office.look(pause - 1).rung) == failed
        office.look(1)
        assert len(office.rung) == failed + 1
    office.over(id, outcome="busy")
    entry = office.entry(id)
    assert (entry.state, entry.due, entry.next, entry.given_up) == ("open", None, None, office.now)
    assert (entry.failed_tries, entry.why, entry.note, entry.owner) == (3, "busy", "wants an offer", "anna")
    assert callback_json(entry)["given_up"] == "2026-06-10T09:15:00.000Z"
    assert office.callbacks.counts() == {"given_up": 1}
    assert len(office.look(48 * HOUR).rung) == 3


def test_what_was_given_up_begins_anew_with_another_time(office: Office) -> None:
    office.times = evolve(office.times, settings=CallbackSettings(tries=1))
    id = office.plan()
    office.look()
    office.over(id)
    assert office.entry(id).given_up is not None
    changed = office.change(id, due=office.now + HOUR)
    assert (changed.given_up, changed.failed_tries, office.next(id)) == (None, 0, HOUR)
    assert len(office.look(HOUR).rung) == 2


def test_a_retry_waits_for_the_morning_where_the_customer_is(office: Office) -> None:
    office = Office(at("2026-06-10 19:50"))
    id = office.plan()
    office.look()
    office.over(id)
    assert office.entry(id).next == at("2026-06-11 09:00")


def test_an_agent_who_lets_it_ring_is_rung_again_later_and_that_is_no_try(office: Office) -> None:
    id = office.plan()
    office.look()
    office.over(id, picked_up=False)
    entry = office.entry(id)
    assert (entry.failed_tries, entry.why, office.next(id)) == (0, "agent_no_answer", 15 * MINUTE)


def test_a_number_that_may_not_be_dialled_is_left_to_people(office: Office) -> None:
    id = office.plan(NO_NUMBER_OF_OURS)
    entry = office.look().entry(id)
    assert (office.rung, entry.state, entry.why, entry.due, entry.given_up) == (
        [],
        "open",
        "not_allowed",
        None,
        office.now,
    )


@pytest.mark.parametrize("error", [PbxAway("away"), NotDone("silent")])
def test_what_asterisk_does_not_make_is_put_off_and_is_no_try(office: Office, error: Exception) -> None:
    office.pbx.error = error
    id = office.plan()
    entry = office.look().entry(id)
    assert (entry.calling, entry.failed_tries, entry.why, office.next(id)) == (None, 0, "not_made", PUT_OFF)
    office.pbx.error = None
    assert len(office.look(PUT_OFF).rung) == 2


# Who makes it


@pytest.mark.parametrize("wish", [Wish.PAUSED, Wish.LOGGED_OUT])
def test_an_owner_who_is_not_ready_is_not_rung_and_told_when_it_will_be(office: Office, wish: Wish) -> None:
    office.house.roster.wish("anna", wish, None)
    id = office.plan()
    entry = office.look().entry(id)
    assert (office.rung, entry.failed_tries, entry.why, office.next(id)) == (
        [],
        0,
        "agent_not_ready",
        PUT_OFF,
    )
    type, body = office.events[-1]
    assert type == "callback.changed"
    assert body["callback"]["next"] == callback_json(entry)["next"] == "2026-06-10T08:02:00.000Z"
    office.house.roster.wish("anna", Wish.READY, None)
    assert office.look(PUT_OFF - 1).rung == []
    assert office.look(1).rung == [("PJSIP/anna", CUSTOMER)]


def test_an_owner_who_talks_or_writes_up_is_not_rung(office: Office) -> None:
    office.house.roster.connect("anna", "c9", office.now + HOUR)
    id = office.plan()
    assert (office.look().rung, office.entry(id).why) == ([], "agent_not_ready")
    assert office.house.roster.write_up("anna", "c9", "c9", office.now + HOUR)
    assert office.look(PUT_OFF).rung == []
    office.house.roster.release("anna", "c9")
    assert len(office.look(PUT_OFF).rung) == 1


def test_two_that_are_due_for_one_agent_are_made_one_after_the_other(office: Office) -> None:
    first, second = office.plan(due=office.now + 1), office.plan(ANOTHER, due=office.now + 2)
    office.look(5)
    assert office.rung == [("PJSIP/anna", CUSTOMER)]
    office.look(1)
    assert office.entry(second).why == "agent_not_ready"
    office.over(first, reached=True)
    office.look(PUT_OFF)
    assert office.rung == [("PJSIP/anna", CUSTOMER), ("PJSIP/anna", ANOTHER)]


def test_many_of_one_who_is_away_are_put_off_one_at_a_time(office: Office) -> None:
    office.house.roster.wish("anna", Wish.PAUSED, "lunch")
    for number in range(200, 250):
        office.plan(f"+493023125{number}")
    before = len(office.events)
    for _ in range(100):
        office.look(1)
    assert len(office.events) - before == 1


def test_of_nobody_it_goes_to_whoever_of_the_groups_is_idle_for_longest(office: Office) -> None:
    office.house.roster.record("ben").idle_since = 1.0
    office.house.roster.wish("anna", Wish.PAUSED, None)
    office.house.roster.wish("anna", Wish.READY, None)
    for_sales = {"asker": CHIEF, "owner": None, "groups": ["sales"]}
    first = office.plan(due=office.now - 1, **for_sales)
    second = office.plan(ANOTHER, **for_sales)
    office.look().look(1)
    assert [phone for phone, _ in office.rung] == ["PJSIP/ben", "PJSIP/anna"]
    assert office.entry(first).owner is None
    office.over(first)
    assert office.next(first) == 15 * MINUTE
    assert office.call_of(second).record.agent == "anna"


def test_of_a_group_in_which_nobody_is_free_it_is_put_off(office: Office) -> None:
    for agent in ("anna", "ben"):
        office.house.roster.wish(agent, Wish.PAUSED, None)
    id = office.plan(asker=CHIEF, owner=None, groups=["sales"])
    assert (office.look().rung, office.entry(id).why) == ([], "agent_not_ready")


def test_whose_phone_cannot_ring_first_is_passed_over(office: Office) -> None:
    # Dora is at an outside line.
    office.house.roster.load(
        [
            *(office.house.roster.record(id) for id in ("anna", "ben", "dora")),
            AgentRecord("cleo", "Cleo", ["PJSIP/cleo"], ["service"], {}, "ready", idle_since=office.now),
        ]
    )
    office.plan(asker=CHIEF, owner=None, groups=["service"])
    assert office.look().rung == [("PJSIP/cleo", CUSTOMER)]


def test_what_belongs_to_somebody_who_is_removed_goes_back_into_the_list(office: Office) -> None:
    id = office.plan(due=office.now + HOUR)
    office.house.roster.load([office.house.roster.record(each) for each in ("ben", "cleo")])
    entry = office.look().entry(id)
    assert (entry.owner, entry.state, office.next(id)) == (None, "open", HOUR)
    assert office.look(HOUR).rung == [("PJSIP/ben", CUSTOMER)]


def test_what_nobody_would_make_is_not_planned(office: Office) -> None:
    for given in (
        {"owner": None},
        {"owner": "zoe"},
        {"owner": None, "groups": ["nobody"]},
        {"owner": None, "groups": ["*"]},
    ):
        with pytest.raises(BadTarget):
            office.plan(asker=CHIEF, **given)


def test_only_so_many_are_dealt_with_at_once(office: Office) -> None:
    many = [
        AgentRecord(f"a{number}", "A", [f"PJSIP/a{number}"], [], {}, "ready") for number in range(2 * AT_ONCE)
    ]
    office.house.roster.load(many)
    for agent in many:
        office.house.roster.device_state("main", agent.phones[0], "NOT_INUSE")
        office.plan(f"+4917139200{many.index(agent):02}", asker=CHIEF, owner=agent.id)
    office.pbx.waits = Deferred()
    office.control.use(evolve(office.settings, calls_per_minute=1000))
    assert len(office.look().look(1).rung) == AT_ONCE
    office.pbx.waits.callback(None)
    office.pbx.waits = None
    assert len(office.look(1).rung) == 2 * AT_ONCE


# Kind hours


def test_a_time_at_an_unkind_hour_is_taken_and_said_when_it_will_be(office: Office) -> None:
    night = at("2026-06-10 23:00")
    id = office.plan(due=night)
    assert (office.entry(id).due, office.entry(id).next) == (night, at("2026-06-11 09:00"))
    there = office.plan(IN_NEW_YORK, due=at("2026-06-11 10:00"))
    assert office.entry(there).next == at("2026-06-11 15:00")


def test_anyway_it_is_made_at_its_time_and_not_later_in_the_night(office: Office) -> None:
    night = at("2026-06-10 23:00")
    id = office.plan(due=night, anyway=True)
    assert office.entry(id).next == night
    assert callback_json(office.entry(id))["anyway"] is True
    office.look(night - office.now)
    assert len(office.rung) == 1
    office.over(id)
    assert office.entry(id).next == night + 15 * MINUTE
    office.look(15 * MINUTE)
    office.over(id)
    assert office.entry(id).next == at("2026-06-11 09:00")
    assert office.change(id, due=night + 24 * HOUR).next == at("2026-06-12 09:00"), "it has to be said again"
    assert office.change(id, anyway=True).next == night + 24 * HOUR


def test_what_waited_until_the_evening_is_made_in_the_morning(office: Office) -> None:
    office.house.roster.wish("anna", Wish.PAUSED, None)
    id = office.plan(due=at("2026-06-10 19:59"))
    office.look(at("2026-06-10 19:59") - office.now)
    assert office.entry(id).next == at("2026-06-11 09:00")
    # One that the server has slept over.
    other = office.plan(ANOTHER, due=at("2026-06-11 10:00"))
    office.house.roster.wish("anna", Wish.READY, None)
    office.look(at("2026-06-12 03:00") - office.now)
    assert office.rung == []
    office.look(1)
    assert {office.entry(each).next for each in (id, other)} == {at("2026-06-12 09:00")}


def test_over_a_change_of_clocks_it_is_made_when_it_was_planned() -> None:
    office = Office(at("2026-10-24 18:00"))
    due = at("2026-10-25 09:30")
    id = office.plan(due=due)
    assert office.entry(id).next == due == office.now + 16.5 * HOUR
    assert office.look(due - office.now - 1).rung == []
    assert len(office.look(1).rung) == 1


# Never twice, and never lost


def test_that_it_is_being_called_is_durable_before_any_phone_rings(office: Office) -> None:
    id = office.plan()
    written: Deferred[Any] = Deferred()
    units: list[Any] = []
    commit = office.house.store.commit

    def slow(unit: Any, **_: Any) -> Any:
        units.append(unit)
        return written

    office.house.store.commit = slow  # type: ignore[method-assign]
    office.look()
    assert office.rung == []
    (unit,) = units
    call, mark = unit.last(CallRecord), unit.last(CallbackRecord)
    assert (mark.id, mark.calling, mark.next) == (id, call.id, None)
    office.house.store.commit = commit  # type: ignore[method-assign]
    written.callback(())
    assert len(office.rung) == 1


def test_a_call_that_could_not_be_written_down_rings_nobody_and_is_tried_again(office: Office) -> None:
    id = office.plan()
    commit = office.house.store.commit
    office.house.store.commit = lambda unit, **_: fail(StoreError("full"))  # type: ignore[method-assign, assignment]
    office.look()
    assert office.rung == []
    office.house.store.commit = commit  # type: ignore[method-assign]
    office.look(PUT_OFF + 1).look(PUT_OFF)
    assert len(office.rung) == 1
    assert office.entry(id).failed_tries == 0


def test_after_a_restart_a_call_that_lives_is_not_made_again(office: Office) -> None:
    id = office.plan()
    office.look().restarted(the_call_lives=True)
    assert len(office.look(1).look(HOUR).rung) == 1
    office.over(id)
    assert (office.entry(id).failed_tries, office.next(id)) == (1, 15 * MINUTE)


@pytest.mark.parametrize(
    ("changes", "answered", "state", "failed", "next"),
    [
        ({"answered": MORNING, "outcome": "answered"}, True, "done", 0, None),
        ({"outcome": "missed"}, True, "open", 1, 15 * MINUTE),
        ({"outcome": "failed"}, False, "open", 0, 15 * MINUTE),
        # Nobody has seen its end: it may have reached somebody's phone.
        ({"outcome": "failed", "closed_by": "asterisk"}, None, "open", 1, 15 * MINUTE),
        ({"outcome": "failed"}, None, "open", 0, PUT_OFF),
    ],
)
def test_a_call_that_ended_while_the_server_was_away_is_looked_up(
    office: Office,
    changes: Mapping[str, Any],
    answered: bool | None,
    state: str,
    failed: int,
    next: float | None,
) -> None:
    id = office.plan()
    call = office.look().call_of(id)
    record = evolve(call.record, ended=office.now, state="ended", **changes)
    channels = [] if answered is None else [a_channel(agent="anna", answered=MORNING if answered else None)]
    office.log[call.id] = CallDetail(record, [], channels, [], [], [], [])
    office.house.roster.release("anna", call.id)
    office.restarted(the_call_lives=False).look()
    entry = office.entry(id)
    assert (entry.state, entry.calling, entry.failed_tries, office.next(id)) == (state, None, failed, next)
    assert len(office.rung) == 1


def test_after_a_restart_what_was_due_meanwhile_is_made(office: Office) -> None:
    id = office.plan(due=office.now + 10)
    office.restarted(the_call_lives=False)
    office.look(HOUR)
    assert len(office.rung) == 1
    assert office.entry(id).calling is not None


def test_what_was_planned_before_anything_was_made_by_itself_is_made_if_it_is_still_to_come(
    office: Office,
) -> None:
    old = CallbackRecord("b1", MORNING - HOUR, CUSTOMER, owner="anna", due=MORNING - 60)
    coming = CallbackRecord("b2", MORNING - HOUR, ANOTHER, owner="anna", due=MORNING + 60)
    office.callbacks.restore([old, coming])
    assert office.look(HOUR).rung == [("PJSIP/anna", ANOTHER)]


def test_who_calls_by_hand_makes_the_call_that_was_planned(office: Office) -> None:
    soon, later = office.plan(due=office.now + MINUTE), office.plan(ANOTHER, due=office.now + HOUR)
    settled(office.callbacks.dial(ANNA, soon, "anna"))
    with pytest.raises(NotNow, match="being called already"):
        settled(office.callbacks.dial(CHIEF, soon, "ben"))
    office.look(MINUTE)
    assert len(office.rung) == 1
    office.over(soon)
    assert (office.entry(soon).failed_tries, office.next(soon)) == (1, 15 * MINUTE)
    settled(office.callbacks.dial(ANNA, later, "anna"))
    office.over(later)
    assert (office.entry(later).failed_tries, office.next(later)) == (1, HOUR - MINUTE)


def test_whom_somebody_calls_by_hand_in_vain_is_not_called_by_itself(office: Office) -> None:
    id = office.plan()
    office.change(id, due=None)
    settled(office.callbacks.dial(ANNA, id, "anna"))
    office.over(id)
    assert (office.entry(id).failed_tries, office.entry(id).next) == (1, None)


def test_another_time_that_is_set_during_the_call_holds(office: Office) -> None:
    id = office.plan()
    office.look()
    office.change(id, due=office.now + 2 * HOUR)
    assert len(office.look(1).rung) == 1
    office.over(id)
    assert office.next(id) == 2 * HOUR - 1
    other = office.plan(ANOTHER)
    office.look()
    office.change(other, due=None)
    office.over(other)
    assert office.entry(other).next is None


def test_what_is_being_called_is_not_called_by_a_second_agent_whatever_its_time_is(office: Office) -> None:
    id = office.plan(asker=CHIEF, owner=None, groups=["sales"])
    office.look()
    office.change(id, due=office.now)
    assert len(office.look(1).look(PUT_OFF).rung) == 1


@pytest.mark.parametrize("while_calling", [False, True])
def test_who_is_erased_is_not_called_any_more(office: Office, while_calling: bool) -> None:
    id = office.plan(due=office.now + 10)
    if while_calling:
        call = office.look(10).call_of(id)
    told: Any = office.callbacks.erase([CUSTOMER], lambda adapter, party: False)
    body = told.events[-1][2]["callback"]
    assert (body["number"], body["next"], body["calling"]) == ("", None, None)
    before = len(office.rows(CallbackRecord))
    if while_calling:
        call.record.ended, call.record.state, call.record.outcome = office.now, "ended", "missed"
        office.house.roster.release("anna", call.id)
        office.house.calls.write(call, office.house.calls.unit())
    office.look(HOUR)
    assert len(office.rows(CallbackRecord)) == before
    assert len(office.rung) == while_calling


@pytest.mark.parametrize("state", ["done", "cancelled"])
def test_what_somebody_closes_is_not_called_any_more_until_they_open_it_again(
    office: Office, state: str
) -> None:
    id = office.plan(due=office.now + 10)
    closed = office.change(id, state=state)
    assert (closed.next, closed.due) == (None, office.now + 10)
    assert office.look(HOUR).rung == []
    office.house.store.callback = lambda _: closed  # type: ignore[attr-defined]
    office.change(id, state="open")
    assert len(office.look().rung) == 1


def test_a_clock_that_is_set_back_makes_nobody_wait_longer_than_the_pause(office: Office) -> None:
    office.house.roster.wish("anna", Wish.PAUSED, None)
    office.plan()
    office.look()
    office.house.clock.rightNow -= HOUR / 2
    office.house.roster.wish("anna", Wish.READY, None)
    other = office.plan(ANOTHER)
    assert office.look(1).rung == [("PJSIP/anna", ANOTHER)]
    assert office.entry(other).calling is not None
