"""The roster: who may be offered a call, who is held for one, and when they come free again."""

import pytest
from hypothesis import given, strategies as st

from cti.agents.desks import Desks, is_desk_pattern
from cti.agents.roster import AgentNotReady, AgentUnknown, AgentView, PhoneOutOfSight, PhoneUnknown, Roster
from cti.agents.states import DEVICE_WHY_NOT, STEPS, Engagement, ImpossibleStep, Step, Wish, state, step
from cti.store.records import AgentRecord, ReservationRecord


class Hour:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def an_agent(id: str = "anna", **more) -> AgentRecord:
    given = {"name": id.title(), "phones": [f"PJSIP/{id}"], "groups": ["sales"], "wish": "ready", **more}
    return AgentRecord(id=id, **given)


def a_roster(*records: AgentRecord) -> tuple[Roster, Hour, list[AgentView]]:
    hour, told = Hour(), []
    roster = Roster(hour, told.append)
    roster.load(records or [an_agent()])
    return roster, hour, told


def test_a_ready_agent_with_a_phone_may_be_offered_a_call():
    roster, _, _ = a_roster()

    assert roster.agents["anna"].why_not is None
    assert [agent.id for agent in roster.groups["sales"]] == ["anna"]


def test_who_lets_an_offer_ring_is_set_aside_and_shown_so():
    roster, hour, told = a_roster()
    roster.reserve(["anna"], "c1", 1, 1030.0)
    hour.now = 1020.0
    record = roster.not_answered("anna", 1000.0, 1)
    assert record is not None
    assert (record.wish, record.reason, record.wish_since) == ("paused", "no_answer", 1020.0)
    roster.release("anna", "c1")
    assert [(view.state, view.reason) for view in told][1:] == [("paused", "no_answer")], "never ready"


def test_only_so_many_offers_in_a_row_set_an_agent_aside_and_none_where_it_is_off():
    roster, _, _ = a_roster()
    assert [roster.not_answered("anna", 1000.0, 0) for _ in range(9)] == [None] * 9
    assert roster.not_answered("anna", 1000.0, 2) is None
    roster.connect("anna", "c1", 1030.0)
    roster.release("anna", "c1")
    assert roster.not_answered("anna", 1000.0, 2) is None, "they have answered meanwhile"
    assert roster.not_answered("anna", 1000.0, 2) is not None
    assert roster.not_answered("nobody", 1000.0, 1) is None


def test_who_comes_back_begins_anew():
    roster, hour, _ = a_roster()
    roster.not_answered("anna", 1000.0, 2)
    roster.wish("anna", Wish.READY, None)
    assert roster.not_answered("anna", 1000.0, 2) is None
    hour.now = 1010.0
    roster.load([an_agent(wish_since=1005.0)])
    assert roster.not_answered("anna", 1010.0, 2) is None


@pytest.mark.parametrize("wish", [Wish.PAUSED, Wish.LOGGED_OUT])
def test_what_an_agent_has_asked_for_meanwhile_is_not_overwritten(wish):
    roster, hour, _ = a_roster()
    hour.now = 1010.0
    roster.wish("anna", wish, "lunch")
    assert roster.not_answered("anna", 1000.0, 1) is None
    assert (roster.record("anna").wish, roster.record("anna").reason) == (wish, "lunch")
    roster.wish("anna", Wish.READY, None)
    assert roster.not_answered("anna", 1000.0, 1) is None, "they were there while it rang"


def test_who_is_no_longer_ready_by_a_clock_that_was_set_keeps_their_reason():
    roster, _, _ = a_roster(an_agent(wish="paused", reason="lunch", wish_since=900.0))
    assert roster.not_answered("anna", 1000.0, 1) is None
    assert roster.record("anna").reason == "lunch"


def test_skills_are_told_to_routing_and_change_with_the_store():
    roster, _, _ = a_roster(an_agent(skills={"german": 5}))
    assert roster.agents["anna"].skills == {"german": 5}

    roster.load([an_agent(skills={"german": 6})])
    assert (roster.agents["anna"].skills, roster.view("anna").skills) == ({"german": 6}, {"german": 6})


@pytest.mark.parametrize(
    ("record", "why_not"),
    [
        (an_agent(wish="logged_out"), "logged_out"),
        (an_agent(wish="paused"), "paused"),
        (an_agent(wish="paused", reason="lunch"), "paused: lunch"),
        (an_agent(phones=[]), "has no phone"),
    ],
)
def test_who_may_not_be_offered_a_call_says_why(record, why_not):
    roster, _, _ = a_roster(record)

    assert roster.agents["anna"].why_not == why_not


@pytest.mark.parametrize(
    "word", ["INUSE", "BUSY", "RINGING", "RINGINUSE", "ONHOLD", "UNAVAILABLE", "INVALID"]
)
def test_a_phone_that_cannot_ring_passes_its_agent_over(word):
    roster, _, _ = a_roster()

    roster.device_state("main", "PJSIP/anna", word)

    assert roster.agents["anna"].why_not.startswith("PJSIP/anna ")


@pytest.mark.parametrize("word", ["NOT_INUSE", "UNKNOWN", "a word of a later Asterisk"])
def test_a_state_that_says_nothing_against_it_lets_the_phone_be_dialled(word):
    roster, _, _ = a_roster()

    roster.device_state("main", "PJSIP/anna", word)

    assert roster.agents["anna"].why_not is None


def test_one_of_several_phones_that_can_ring_is_enough():
    roster, _, _ = a_roster(an_agent(phones=["PJSIP/anna", "PJSIP/anna-mobile"]))
    roster.device_state("main", "PJSIP/anna", "UNAVAILABLE")

    assert roster.agents["anna"].why_not is None


@pytest.mark.parametrize("word", ["INUSE", "BUSY", "RINGING", "RINGINUSE", "ONHOLD"])
@pytest.mark.parametrize("first", ["NOT_INUSE", "UNAVAILABLE", None])
def test_an_agent_with_a_call_at_one_phone_is_not_offered_another_at_the_next(word, first):
    roster, _, _ = a_roster(an_agent(phones=["PJSIP/anna", "PJSIP/anna-mobile"]))
    if first is not None:
        roster.device_state("main", "PJSIP/anna", first)

    roster.device_state("main", "PJSIP/anna-mobile", word)

    assert roster.agents["anna"].why_not == f"PJSIP/anna-mobile {DEVICE_WHY_NOT[word]}"
    with pytest.raises(AgentNotReady, match="PJSIP/anna-mobile"):
        roster.reserve(["anna"], "call-1", 1, expires=1030)
    roster.device_state("main", "PJSIP/anna-mobile", "NOT_INUSE")
    assert roster.agents["anna"].why_not is None


def test_phones_that_ring_for_the_offer_do_not_count_against_it():
    roster, _, told = a_roster(an_agent(phones=["PJSIP/anna", "PJSIP/anna-mobile"]))
    roster.reserve(["anna"], "call-1", 1, expires=1030)

    roster.device_state("main", "PJSIP/anna", "RINGING")
    roster.device_state("main", "PJSIP/anna-mobile", "RINGING")

    assert roster.agents["anna"].why_not == "offered"
    assert roster.connect("anna", "call-1", expires=1090) is not None
    assert [view.state for view in told] == ["offered", "busy"]


def test_an_agent_whose_phones_are_all_absent_is_passed_over():
    roster, _, _ = a_roster(an_agent(phones=["PJSIP/anna", "PJSIP/anna-mobile"]))
    roster.device_state("main", "PJSIP/anna", "UNAVAILABLE")
    roster.device_state("main", "PJSIP/anna-mobile", "INVALID")

    assert roster.agents["anna"].why_not == "PJSIP/anna is not registered"


def test_a_phone_registered_at_one_of_two_asterisks_can_ring_but_not_while_in_use_at_the_other():
    roster, _, _ = a_roster()
    roster.device_state("main", "PJSIP/anna", "NOT_INUSE")
    roster.device_state("branch", "PJSIP/anna", "UNAVAILABLE")
    assert roster.agents["anna"].why_not is None

    roster.device_state("branch", "PJSIP/anna", "INUSE")
    assert roster.agents["anna"].why_not == "PJSIP/anna is in use"


def test_what_an_asterisk_out_of_sight_said_of_phones_is_forgotten():
    roster, _, _ = a_roster()
    roster.device_state("main", "PJSIP/anna", "INUSE")

    roster.forget_devices("main")

    assert roster.agents["anna"].why_not is None


def test_a_phone_in_use_makes_a_free_agent_busy_and_says_so_once():
    roster, _, told = a_roster()

    roster.device_state("main", "PJSIP/anna", "INUSE")
    roster.device_state("main", "PJSIP/anna", "INUSE")
    roster.device_state("main", "PJSIP/anna", "NOT_INUSE")

    assert [view.state for view in told] == ["busy", "ready"]


def test_a_reservation_holds_all_or_nobody():
    roster, _, told = a_roster(an_agent("anna"), an_agent("ben", wish="paused"))

    with pytest.raises(AgentNotReady, match="ben: paused"):
        roster.reserve(["anna", "ben"], "call-1", 1, expires=1030)

    assert roster.agents["anna"].why_not is None
    assert told == []


def test_a_reserved_agent_is_not_offered_a_second_call():
    roster, _, _ = a_roster()
    roster.reserve(["anna"], "call-1", 1, expires=1030)

    with pytest.raises(AgentNotReady, match="anna: offered"):
        roster.reserve(["anna"], "call-2", 1, expires=1030)


def test_offered_then_busy_then_free_and_last_in_the_line():
    roster, hour, told = a_roster(an_agent("anna", idle_since=1.0))
    roster.reserve(["anna"], "call-1", 1, expires=1030)
    hour.now = 1005
    held = roster.connect("anna", "call-1", expires=1090)
    hour.now = 1060
    released = roster.release("anna", "call-1")

    assert held == ReservationRecord("anna", "call-1", 1, 1090, connected=True)
    assert released
    assert [view.state for view in told] == ["offered", "busy", "ready"]
    assert roster.agents["anna"].idle_since == 1060


def test_a_state_is_as_old_as_its_beginning():
    roster, hour, _ = a_roster()
    began = hour.now
    hour.now += 60
    roster.reserve(["anna"], "c1", 1, hour.now + 30)
    assert roster.view("anna").since == began + 60
    hour.now += 5
    roster.connect("anna", "c1", hour.now + 30)
    assert roster.view("anna").since == began + 65
    hour.now += 100
    roster.release("anna", "c1")
    assert roster.view("anna").since == began + 165


def test_who_pauses_in_a_call_is_paused_after_it():
    roster, _, told = a_roster()
    roster.reserve(["anna"], "call-1", 1, expires=1030)
    roster.connect("anna", "call-1", expires=1090)

    roster.wish("anna", Wish.PAUSED, "lunch")
    assert roster.view("anna").state == "busy"
    roster.release("anna", "call-1")

    assert roster.view("anna").state == "paused"
    assert [view.state for view in told] == ["offered", "busy", "paused"]


def test_another_calls_end_does_not_free_an_agent():
    roster, _, _ = a_roster()
    roster.reserve(["anna"], "call-1", 1, expires=1030)

    assert not roster.release("anna", "call-2")
    assert roster.connect("anna", "call-2", expires=1090) is None
    assert roster.view("anna").call == "call-1"


def test_a_lease_that_nobody_renews_runs_out():
    roster, hour, _ = a_roster()
    roster.reserve(["anna"], "call-1", 1, expires=1030)
    hour.now = 1029.9
    assert roster.expire() == []

    roster.renew("call-1", ["anna"], expires=1100)
    hour.now = 1099
    assert roster.expire() == []
    hour.now = 1100
    assert roster.expire() == [("anna", "call-1")]
    assert roster.agents["anna"].why_not is None


def test_a_lease_is_renewed_only_by_its_own_call_and_never_shortened():
    roster, hour, _ = a_roster()
    roster.reserve(["anna"], "call-1", 1, expires=1030)

    roster.renew("call-2", ["anna"], expires=2000)
    roster.renew("call-1", ["anna"], expires=1001)

    hour.now = 1029
    assert roster.expire() == []
    hour.now = 1030
    assert roster.expire() == [("anna", "call-1")]


@pytest.mark.parametrize(("connected", "word"), [(False, "offered"), (True, "busy")])
def test_a_restart_holds_agents_as_they_were_held(connected, word):
    roster, _, _ = a_roster()

    roster.restore(ReservationRecord("anna", "call-1", 2, 1030, connected))
    roster.restore(ReservationRecord("nobody", "call-1", 2, 1030, connected))

    assert roster.view("anna").state == word


def test_people_are_taken_over_from_the_store_without_touching_their_call():
    roster, _, _ = a_roster(an_agent("anna"), an_agent("ben"))
    roster.reserve(["anna"], "call-1", 1, expires=1030)

    roster.load([an_agent("anna", groups=["support"], crm={"directory": "u1"}, wish="paused")])

    assert roster.view("anna").call == "call-1"
    assert roster.view("anna").state == "offered"
    assert [agent.id for agent in roster.groups["support"]] == ["anna"]
    assert list(roster.groups["sales"]) == []
    assert roster.owner_of("directory", "u1") == "anna"
    with pytest.raises(AgentUnknown, match="ben"):
        roster.view("ben")


def test_a_phone_names_its_agent():
    roster, _, _ = a_roster(an_agent(phones=["PJSIP/anna", "PJSIP/desk-7"]))

    assert roster.at_phone("PJSIP/desk-7") == "anna"
    roster.load([an_agent(phones=["PJSIP/anna"])])
    assert roster.at_phone("PJSIP/desk-7") is None


def test_every_engagement_can_be_left_and_no_step_is_ignored():
    for engagement in Engagement:
        for what in Step:
            if (engagement, what) in STEPS:
                assert step(engagement, what) is STEPS[engagement, what]
            else:
                with pytest.raises(ImpossibleStep, match=f"{engagement}.*{what}"):
                    step(engagement, what)
    assert {engagement for engagement, _ in STEPS} == set(Engagement)


def test_a_call_wins_over_a_wish_and_a_wish_shows_when_there_is_no_call():
    for wish in Wish:
        assert state(wish, Engagement.NONE) == wish
        assert state(wish, Engagement.BUSY) == "busy"
        assert state(wish, Engagement.OFFERED) == "offered"
        assert state(wish, Engagement.WRAP_UP) == "wrap_up"


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(
            st.sampled_from(["reserve", "connect", "release", "wish", "device", "expire"]),
            st.sampled_from(["anna", "ben"]),
            st.sampled_from(["call-1", "call-2", "call-3", "call-4"]),
            st.sampled_from(["logged_out", "ready", "paused"]),
        ),
        max_size=30,
    ),
)
def test_nobody_is_ever_held_for_more_calls_than_they_may_have_and_the_index_tells_the_truth(
    concurrency, news
):
    roster, hour, _ = a_roster(*(an_agent(id, concurrency=concurrency) for id in ("anna", "ben")))
    held = {"anna": set(), "ben": set()}
    for what, id, call, wish in news:
        hour.now += 1
        if what == "reserve" and roster.may_reserve([id], call):
            roster.reserve([id], call, 1, expires=hour.now + 5)
            held[id].add(call)
        elif what == "connect" and roster.connect(id, call, hour.now + 5) is not None:
            held[id].add(call)
        elif what == "release":
            assert roster.release(id, call) == (call in held[id])
            held[id].discard(call)
        elif what == "wish":
            roster.wish(id, Wish(wish), None)
        elif what == "device":
            roster.device_state("main", f"PJSIP/{id}", "NOT_INUSE" if wish == "ready" else "INUSE")
        elif what == "expire":
            for late, its in roster.expire():
                held[late].discard(its)
        for view in roster.views():
            facts, calls = roster.agents[view.id], held[view.id]
            assert len(calls) <= concurrency
            assert view.call in calls if calls else view.call is None
            assert (view.state in ("offered", "busy")) >= bool(calls)
            assert facts.calls >= len(calls)
            assert facts.why_not is not None or (
                facts.calls < concurrency and view.state in ("ready", "busy")
            )
            assert facts in list(roster.groups["sales"])
        free = [agent for agent in roster.agents.values() if agent.why_not is None]
        assert list(roster.groups["sales"].free()) == sorted(free, key=lambda agent: agent.ease)


def test_who_may_have_two_calls_is_offered_the_second_once_they_talk_after_those_who_have_none():
    roster, hour, _ = a_roster(an_agent("anna", concurrency=2), an_agent("ben"))
    hour.now += 1
    roster.reserve(["anna"], "c1", 1, 2000.0)
    assert roster.agents["anna"].why_not == "offered", "one offer at a time"
    roster.connect("anna", "c1", 2000.0)
    roster.device_state("main", "PJSIP/anna", "INUSE")
    assert (roster.agents["anna"].why_not, roster.view("anna").state) == (None, "busy")
    assert roster.free() == ["ben", "anna"], "though she has been idle for longer than he"

    roster.reserve(["anna"], "c2", 1, 2000.0)
    assert roster.view("anna").state == "busy", "who talks is busy, whatever rings"
    roster.connect("anna", "c2", 2000.0)
    assert roster.connect("anna", "c3", 2000.0) is None
    assert roster.agents["anna"].why_not == "busy"
    assert not roster.write_up("anna", "c1", "c1", 2000.0), "she talks on"
    assert roster.release("anna", "c1")
    assert roster.agents["anna"].why_not is None
    assert roster.write_up("anna", "c2", "c2", 2000.0)
    assert roster.agents["anna"].why_not == "wrap_up"


def test_who_talks_is_not_set_aside_for_a_second_call_that_rings_in_vain():
    roster, _, _ = a_roster(an_agent(concurrency=2))
    roster.connect("anna", "c1", 2000.0)
    roster.reserve(["anna"], "c2", 1, 2000.0)
    assert roster.not_answered("anna", 1000.0, 1) is None
    roster.release("anna", "c1")
    assert roster.not_answered("anna", 1000.0, 1) is not None


def test_a_call_of_ones_own_at_the_phone_counts_and_a_phone_that_rings_takes_no_more():
    roster, _, _ = a_roster(an_agent(concurrency=2))
    roster.device_state("main", "PJSIP/anna", "INUSE")
    assert (roster.agents["anna"].why_not, roster.agents["anna"].calls) == (None, 1)
    for word, why in (("RINGINUSE", "is in use and ringing"), ("BUSY", "is busy")):
        roster.device_state("main", "PJSIP/anna", word)
        assert roster.agents["anna"].why_not == f"PJSIP/anna {why}"


def test_several_calls_are_held_again_after_a_restart():
    roster, _, _ = a_roster(an_agent(concurrency=2))
    for call in ("c1", "c2"):
        roster.restore(ReservationRecord("anna", call, 1, 2000.0, connected=True))
    assert roster.agents["anna"].calls == 2
    assert roster.connect("anna", "c3", 2000.0) is None


def test_the_asterisks_that_know_a_phone_are_told_and_an_unknown_phone_may_be_anywhere():
    roster, _, _ = a_roster()
    assert roster.agents["anna"].pbxes is None
    roster.device_state("main", "PJSIP/anna", "NOT_INUSE")
    roster.device_state("branch", "PJSIP/anna", "INVALID")

    assert roster.agents["anna"].pbxes == {"main"}


def test_what_phones_an_asterisk_has_is_known_once_it_has_told_and_outlives_its_absence():
    roster, _, _ = a_roster()
    roster.device_state("branch", "PJSIP/anna", "NOT_INUSE")
    assert (roster.sees("branch"), roster.knows_phones_of("branch")) == (False, False)
    roster.has_told("branch")
    assert (roster.sees("branch"), roster.knows_phones_of("branch")) == (True, True)
    roster.forget_devices("branch")
    assert (roster.sees("branch"), roster.knows_phones_of("branch")) == (False, True)
    assert roster.agents["anna"].pbxes == {"branch"}

    # Back, and without her phone.
    roster.has_told("branch")
    assert roster.agents["anna"].pbxes == frozenset()


def test_a_phone_known_to_two_asterisks_is_rung_where_it_is_registered():
    roster, _, _ = a_roster()
    roster.device_state("main", "PJSIP/anna", "NOT_INUSE")
    roster.device_state("branch", "PJSIP/anna", "NOT_INUSE")
    assert roster.agents["anna"].pbxes == {"main", "branch"}
    roster.device_state("main", "PJSIP/anna", "UNAVAILABLE")
    assert roster.agents["anna"].pbxes == {"branch"}


def test_whose_phone_is_at_an_asterisk_out_of_sight_cannot_be_rung_for_that():
    roster, _, _ = a_roster()
    with pytest.raises(AgentNotReady, match="has no phone here") as nowhere:
        roster.desk("anna")
    assert not isinstance(nowhere.value, PhoneOutOfSight)
    roster.device_state("branch", "PJSIP/anna", "NOT_INUSE")
    roster.has_told("branch")
    assert roster.desk("anna") == ("branch", "PJSIP/anna")
    roster.forget_devices("branch")
    with pytest.raises(PhoneOutOfSight, match="PJSIP/anna is at the Asterisk branch"):
        roster.desk("anna")


def test_who_answers_a_call_that_was_not_offered_to_them_is_busy_until_they_are_let_go():
    roster, _, _ = a_roster()
    held = roster.connect("anna", "call-1", expires=1090)

    assert held == ReservationRecord("anna", "call-1", 0, 1090, connected=True)
    assert roster.view("anna").state == "busy"
    assert roster.connect("anna", "call-2", expires=1090) is None, "one call at a time"
    assert roster.release("anna", "call-1")
    assert roster.view("anna").state == "ready"


def test_the_phone_that_an_agent_has_chosen_is_the_one_that_rings():
    roster, _, _ = a_roster(an_agent("anna", phones=["PJSIP/desk", "PJSIP/home"]))
    roster.device_state("main", "PJSIP/home", "NOT_INUSE")
    roster.device_state("main", "PJSIP/desk", "UNAVAILABLE")
    roster.has_told("main")
    assert roster.agents["anna"].phones == ("PJSIP/desk", "PJSIP/home")
    assert roster.agents["anna"].why_not is None

    roster.choose_phone("anna", "PJSIP/desk")
    assert roster.agents["anna"].phones == ("PJSIP/desk",)
    assert roster.agents["anna"].why_not == "PJSIP/desk is not registered"
    with pytest.raises(AgentNotReady):
        roster.desk("anna")

    roster.choose_phone("anna", "PJSIP/home")
    assert roster.desk("anna") == ("main", "PJSIP/home")
    assert roster.at_phone("PJSIP/desk") == "anna", "a call at the other one is hers, too"
    roster.device_state("main", "PJSIP/desk", "INUSE")
    assert roster.agents["anna"].why_not == "PJSIP/desk is in use"
    with pytest.raises(PhoneUnknown):
        roster.choose_phone("anna", "PJSIP/ben")


def test_a_chosen_phone_that_is_the_agents_no_more_is_forgotten():
    roster, _, _ = a_roster(an_agent("anna", phones=["PJSIP/desk"], phone="PJSIP/gone"))
    assert roster.view("anna").phone is None
    assert roster.agents["anna"].phones == ("PJSIP/desk",)


def a_house_with_desks(*records: AgentRecord) -> tuple[Roster, Hour, list[AgentView]]:
    """Whose phones `desk-1` and `desk-2` are anybody's, and where `desk-3` is not registered."""
    roster, hour, told = a_roster(*records)
    roster.desks(Desks(("PJSIP/desk-*",)))
    for desk, word in (("1", "NOT_INUSE"), ("2", "NOT_INUSE"), ("3", "UNAVAILABLE")):
        roster.device_state("main", f"PJSIP/desk-{desk}", word)
    roster.device_state("main", "PJSIP/trunk", "NOT_INUSE")
    roster.has_told("main")
    return roster, hour, told


def test_who_sits_at_a_desk_is_rung_there_and_has_what_is_done_with_its_phone():
    roster, _, told = a_house_with_desks(an_agent("anna", phones=[]), an_agent("ben"))
    assert roster.agents["anna"].why_not == "has no phone"
    assert roster.free_desks() == ["PJSIP/desk-1", "PJSIP/desk-2"]

    assert roster.choose_phone("anna", "PJSIP/desk-1").phone == "PJSIP/desk-1"
    assert (roster.agents["anna"].phones, roster.agents["anna"].why_not) == (("PJSIP/desk-1",), None)
    assert roster.agents["anna"].pbxes == frozenset({"main"})
    assert roster.at_phone("PJSIP/desk-1") == "anna"
    assert roster.desk("anna") == ("main", "PJSIP/desk-1")
    assert roster.free_desks() == ["PJSIP/desk-2"]
    roster.device_state("main", "PJSIP/desk-1", "INUSE")
    assert (told[-1].state, roster.agents["anna"].why_not) == ("busy", "PJSIP/desk-1 is in use")


def test_only_the_desk_rings_for_who_has_a_phone_of_their_own_until_they_leave_it():
    roster, _, _ = a_house_with_desks(an_agent())
    roster.choose_phone("anna", "PJSIP/desk-1")
    assert roster.agents["anna"].phones == ("PJSIP/desk-1",)
    assert roster.at_phone("PJSIP/anna") == "anna", "a call at her own is hers, too"
    roster.choose_phone("anna", None)
    assert roster.agents["anna"].phones == ("PJSIP/anna",)
    assert roster.at_phone("PJSIP/desk-1") is None


def test_at_a_desk_sits_one_and_who_logs_out_has_left_it():
    roster, _, _ = a_house_with_desks(an_agent(), an_agent("ben"))
    roster.choose_phone("anna", "PJSIP/desk-1")
    with pytest.raises(AgentNotReady, match="Anna sits at PJSIP/desk-1"):
        roster.choose_phone("ben", "PJSIP/desk-1")
    assert roster.wish("anna", Wish.LOGGED_OUT, None).phone is None
    roster.choose_phone("ben", "PJSIP/desk-1")
    assert roster.at_phone("PJSIP/desk-1") == "ben"


@pytest.mark.parametrize(
    "phone", ["PJSIP/trunk", "PJSIP/ben", "PJSIP/desk-1@trunk", "PJSIP/desk-1&PJSIP/x", ""]
)
def test_nobody_sits_at_what_is_no_desk(phone: str):
    roster, _, _ = a_house_with_desks(an_agent(), an_agent("ben"))
    with pytest.raises(PhoneUnknown, match="no phone of anna and no desk's; PJSIP/anna"):
        roster.choose_phone("anna", phone)


def test_who_is_logged_out_takes_a_desk_only_as_they_log_in():
    roster, _, _ = a_house_with_desks(an_agent(wish="logged_out"))
    with pytest.raises(AgentNotReady, match="logged out"):
        roster.choose_phone("anna", "PJSIP/desk-1")
    roster.choose_phone("anna", "PJSIP/desk-1", Wish.READY)
    roster.wish("anna", Wish.READY, None)
    assert roster.agents["anna"].phones == ("PJSIP/desk-1",)


def test_nobody_takes_or_leaves_a_desk_in_a_call():
    roster, _, _ = a_house_with_desks(an_agent(), an_agent("ben"))
    roster.choose_phone("anna", "PJSIP/desk-1")
    roster.connect("anna", "c1", 1030.0)
    roster.connect("ben", "c2", 1030.0)
    for agent, phone in (("anna", None), ("anna", "PJSIP/desk-2"), ("ben", "PJSIP/desk-2")):
        with pytest.raises(AgentNotReady, match="has a call"):
            roster.choose_phone(agent, phone)
    assert roster.choose_phone("anna", "PJSIP/desk-1").phone == "PJSIP/desk-1", "nothing changes"


def test_desks_are_kept_over_a_restart_but_not_by_who_is_logged_out_nor_where_there_is_none_any_more():
    roster, _, _ = a_house_with_desks()
    roster.load(
        [
            an_agent("anna", phone="PJSIP/desk-1"),
            an_agent("ben", phone="PJSIP/desk-2", wish="logged_out"),
            an_agent("cleo", phone="PJSIP/desk-1"),
        ]
    )
    assert [roster.view(id).phone for id in ("anna", "ben", "cleo")] == ["PJSIP/desk-1", None, None]
    roster.load([an_agent("anna", phone="PJSIP/desk-1"), an_agent("dora", phones=["PJSIP/desk-1"])])
    assert (roster.view("anna").phone, roster.at_phone("PJSIP/desk-1")) == (None, "dora")

    roster.load([an_agent("anna")])
    roster.choose_phone("anna", "PJSIP/desk-1")
    roster.desks(Desks(("PJSIP/desk-2",)))
    assert roster.agents["anna"].phones == ("PJSIP/anna",)
    roster.load([])
    assert roster.free_desks() == ["PJSIP/desk-2"]


@given(st.text("PJSI/desk-*@&1", max_size=14))
def test_what_names_desks_names_no_way_out(text: str):
    if is_desk_pattern(text):
        desks = Desks((text,))
        assert text.replace("*", "7") in desks
        assert not any(phone in desks for phone in ("PJSIP/trunk", "PJSIP/1@trunk", "SIP/1&PJSIP/2", ""))


def test_who_writes_up_is_held_until_they_are_let_go_and_not_by_a_lease():
    roster, hour, _ = a_roster()
    roster.connect("anna", "call-1", expires=1090)
    assert not roster.write_up("anna", "another", "another", 1030)
    assert roster.write_up("anna", "call-1", "call-1", 1030)
    assert roster.view("anna").state == "wrap_up"
    with pytest.raises(AgentNotReady):
        roster.reserve(["anna"], "call-2", 1, 1090)
    assert roster.connect("anna", "call-1", expires=1090) is None
    hour.now += 3600
    assert roster.expire() == [], "its end is written down, which the roster does not do"
    assert roster.release("anna", "call-1")
    assert roster.view("anna").state == "ready"
