"""The life of a call: every way it can go, told by two tellers of whom neither is complete."""

import pytest
from hypothesis import given, strategies as st

from cti.asterisk.channels import device_of
from cti.calls.life import TURNS, ImpossibleTurn, State, Turn, is_call_id, mint_call_id
from cti.store.records import CallRecord, SegmentRecord
from tests.unit.calls import RecordingUnit, a_call, a_channel, a_leg, an_offer


def test_an_answered_call_has_one_segment_and_the_outcome_answered():
    call, unit = a_call(), RecordingUnit()
    an_offer(call, "anna", at=101)
    leg = a_leg()
    call.add_channel(unit, leg)
    call.rang(unit, 102, leg)
    assert call.answered(unit, 105, leg) == []
    call.hung_up(unit, 125, leg, 16)
    call.hung_up(unit, 125, call.channels["main", "1.0"], 16)
    call.end(unit, 125)

    record = unit.last(CallRecord)
    assert (record.state, record.outcome, record.agent, record.hangup_cause) == (
        "ended",
        "answered",
        "anna",
        16,
    )
    assert (record.ringing, record.answered, record.ended) == (102, 105, 125)
    segment = unit.last(SegmentRecord)
    assert (segment.result, segment.agent, segment.answered, segment.ended) == ("answered", "anna", 105, 125)
    assert unit.types == ["call.ringing", "call.connected", "call.ended"]
    ended = unit.events[-1]
    assert ended[2]["call"]["talk"] == 20
    assert ended[2]["call"]["wait"] == 5
    assert ended[3] == ("anna",), "the event is for the agent who talked"


def test_each_card_goes_to_its_agent_alone():
    call = a_call()
    unit = an_offer(call, "anna", "ben")

    assert [(event[0], event[3]) for event in unit.events] == [
        ("card.offered", ("anna",)),
        ("card.offered", ("ben",)),
    ]


def test_the_winner_keeps_the_card_and_the_losers_are_named():
    call, unit = a_call(), RecordingUnit()
    an_offer(call, "anna", "ben", "cleo")
    leg = a_leg(agent="ben")
    call.add_channel(unit, leg)

    losers = call.answered(unit, 105, leg)

    assert sorted(losers) == ["anna", "cleo"]
    assert list(call.cards) == ["ben"]
    assert [event[3] for event in unit.events if event[0] == "card.withdrawn"] == [("anna",), ("cleo",)]


def test_the_next_question_ends_the_offer_by_what_dial_said():
    for status, result in [
        ("NOANSWER", "no_answer"),
        ("BUSY", "busy"),
        ("CHANUNAVAIL", "failed"),
        (None, "failed"),
    ]:
        call, unit = a_call(), RecordingUnit()
        an_offer(call, "anna")

        assert call.ask(unit, 121, call.channels["main", "1.0"], status) == ["anna"]

        assert (call.segments[0].result, call.segments[0].ended) == (result, 121)
        assert call.tried == {"anna"}
        assert call.state is State.ASKED
        assert unit.types == ["card.withdrawn"]


def test_a_caller_who_leaves_while_it_rings_is_missed_once():
    call, unit = a_call(), RecordingUnit()
    an_offer(call, "anna", "ben")
    for uniqueid, agent in [("1.1", "anna"), ("1.2", "ben")]:
        leg = a_leg(uniqueid, agent)
        call.add_channel(unit, leg)
        call.rang(unit, 102, leg)
    call.end(unit, 110)

    assert call.record.outcome == "missed"
    assert call.segments[0].result == "abandoned"
    assert unit.types.count("call.missed") == 1
    assert unit.types.count("call.ringing") == 1, "two phones of one offer are one news"


def test_the_second_agents_ringing_is_told_to_the_second_agent():
    call, unit = a_call(), RecordingUnit()
    for at, agent in [(101, "anna"), (121, "ben")]:
        if call.segments:
            call.ask(unit, at, call.channels["main", "1.0"], "NOANSWER")
        an_offer(call, agent, at=at)
        leg = a_leg(f"1.{at}", agent, segment=len(call.segments))
        call.add_channel(unit, leg)
        call.rang(unit, at + 1, leg)

    assert [event[3] for event in unit.events if event[0] == "call.ringing"] == [("anna",), ("ben",)]
    assert call.record.ringing == 102


def test_a_caller_who_leaves_before_anybody_rang_is_abandoned():
    call, unit = a_call(), RecordingUnit()
    an_offer(call, "anna")
    call.end(unit, 101.2)

    assert call.record.outcome == "abandoned"
    assert "call.missed" not in unit.types


def test_without_a_decision_the_caller_has_abandoned():
    call, unit = a_call(), RecordingUnit()
    call.end(unit, 100.1)

    assert call.record.outcome == "abandoned"
    assert unit.last(CallRecord).ended == 100.1


@pytest.mark.parametrize(("answered", "outcome"), [(True, "answered"), (False, "fallback")])
def test_at_the_fallback_somebody_may_talk_or_nobody(answered, outcome):
    call, unit = a_call(), RecordingUnit()
    call.send_elsewhere(unit, 101, "fallback")
    phone = a_channel("1.1", "other")
    call.add_channel(unit, phone)
    call.rang(unit, 102, phone)
    if answered:
        call.answered(unit, 103, phone)
    call.end(unit, 110)

    assert call.record.outcome == outcome
    assert call.record.agent is None
    assert call.record.ringing is None, "only an agent's phone makes a call missed"


def test_a_phone_that_rang_before_the_fallback_makes_the_call_missed():
    call, unit = a_call(), RecordingUnit()
    an_offer(call, "anna")
    leg = a_leg()
    call.add_channel(unit, leg)
    call.rang(unit, 102, leg)
    call.ask(unit, 121, call.channels["main", "1.0"], "NOANSWER")
    call.send_elsewhere(unit, 121, "fallback")
    call.end(unit, 140)

    assert call.record.outcome == "missed"


@pytest.mark.parametrize(("dialled", "outcome"), [(True, "fallback"), (False, "abandoned")])
def test_when_nobody_knows_whether_the_caller_left_what_was_dialled_tells(dialled, outcome):
    call, unit = a_call(), RecordingUnit()
    an_offer(call, "anna")
    call.send_elsewhere(unit, 101, None)
    if dialled:
        call.add_channel(unit, a_channel("1.1", "other"))
    call.end(unit, 102)

    assert call.record.outcome == outcome
    assert call.segments[0].result == "lost"


@pytest.mark.parametrize(("status", "outcome"), [("BUSY", "busy"), ("CONGESTION", "failed")])
def test_what_amis_last_word_was_closes_an_offer_that_nobody_asked_about_again(status, outcome):
    call, unit = a_call(), RecordingUnit()
    an_offer(call, "anna")
    call.dialstatus = status
    call.end(unit, 103)

    assert call.segments[0].result == outcome
    assert call.record.outcome == outcome


def test_an_offer_that_asterisk_did_not_take_lets_the_agents_go():
    call, unit = a_call(), RecordingUnit()
    an_offer(call, "anna")

    assert call.send_elsewhere(unit, 102, "fallback") == ("anna",)
    assert call.state is State.ELSEWHERE
    assert (call.segments[0].result, call.cards) == ("failed", {})


def test_a_call_that_comes_back_after_talking_gets_a_second_segment():
    call, unit = a_call(), RecordingUnit()
    an_offer(call, "anna")
    leg = a_leg()
    call.add_channel(unit, leg)
    call.answered(unit, 105, leg)
    assert call.ask(unit, 120, call.channels["main", "1.0"], "ANSWER") == ["anna"]
    an_offer(call, "ben", at=121)

    assert [segment.result for segment in call.segments] == ["answered", None]
    assert call.segments[0].ended == 120


def test_the_end_writes_everything_once_more():
    call = a_call()
    an_offer(call, "anna")
    leg = a_leg()
    call.add_channel(RecordingUnit(), leg)
    unit = RecordingUnit()
    call.end(unit, 103)

    kinds = [type(row).__name__ for row in unit.rows]
    assert {"CallRecord", "SegmentRecord", "ChannelRecord"} <= set(kinds)
    assert all(channel.ended == 103 for channel in call.channels.values())


def test_impossible_turns_raise_and_say_so():
    call = a_call()
    call.end(RecordingUnit(), 103)

    with pytest.raises(ImpossibleTurn, match="ended cannot ask"):
        call.ask(RecordingUnit(), 104, call.channels["main", "1.0"], None)


def test_every_state_but_the_last_can_end():
    assert {state for state, turn in TURNS if turn is Turn.END} == set(State) - {State.ENDED}
    assert {state for state, _ in TURNS} == set(State) - {State.ENDED}


def test_a_call_taken_for_dead_that_asks_lives_on():
    call = a_call()
    call.end(RecordingUnit(), 103)

    call.revive()
    call.ask(RecordingUnit(), 104, call.channels["main", "1.0"], "NOANSWER")

    assert not call.over
    assert call.record.outcome is None


def test_ids_sort_by_time_and_are_recognised():
    ids = [mint_call_id(now) for now in (1_700_000_000.0, 1_700_000_000.1, 1_800_000_000.0)]

    assert ids == sorted(ids)
    assert len(set(ids)) == 3
    assert all(is_call_id(id) and id[14] == "7" for id in ids)
    assert not is_call_id("'; DROP TABLE call")
    assert not is_call_id("")


@pytest.mark.parametrize(
    ("channel", "device"),
    [
        ("PJSIP/anna-0000001f", "PJSIP/anna"),
        ("PJSIP/front-desk-0000001f", "PJSIP/front-desk"),
        ("odd", "odd"),
    ],
)
def test_a_channels_device(channel, device):
    assert device_of(channel) == device


NEWS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "offer", "elsewhere", "add", "rang", "answered", "gone", "end"]),
        st.sampled_from(["1.0", "1.1", "1.2"]),
        st.sampled_from(["NOANSWER", "BUSY", "ANSWER", "CANCEL", None]),
    ),
    max_size=25,
)


@given(NEWS)
def test_news_in_any_order_never_breaks_a_call_and_one_call_has_one_outcome(news):
    call, unit, at = a_call(), RecordingUnit(), 101.0
    for what, uniqueid, status in news:
        at += 1
        channel = call.channels.get(("main", uniqueid))
        if what == "ask" and not call.over:
            call.ask(unit, at, call.channels["main", "1.0"], status)
        elif what == "offer" and call.state is State.ASKED:
            an_offer(call, "anna", at=at)
        elif what == "elsewhere" and not call.over:
            call.send_elsewhere(unit, at, "fallback")
        elif what == "add" and call.offer is not None:
            call.add_channel(unit, a_leg(uniqueid, segment=len(call.segments)))
        elif channel is not None:
            if what == "rang":
                call.rang(unit, at, channel)
            elif what == "answered":
                call.answered(unit, at, channel)
            elif what == "gone":
                call.hung_up(unit, at, channel, 16)
            elif what == "end":
                call.end(unit, at)
        open_segments = [segment for segment in call.segments if segment.ended is None]
        assert len(open_segments) <= 1
        assert not open_segments or open_segments[0] is call.segments[-1]
        assert set(call.cards) <= {"anna"} if open_segments else True
    call.end(unit, at + 1)

    assert call.over
    assert call.record.outcome is not None
    assert unit.types.count("call.ended") == 1
    assert unit.types.count("call.missed") == (call.record.outcome == "missed")
    assert all(segment.result for segment in call.segments)
