"""Call shapes as AMI tells of them: what each makes of records, segments, agents and cards."""

from typing import Any

import pytest

from cti.calls.life import LiveCall
from cti.store.base import CallDetail
from cti.store.records import AgentRecord, CallRecord
from tests.unit.calls import CALL, RecordingUnit, a_channel
from tests.unit.test_tracker import House, ScriptedAmi, an_event, left_in_astdb, listed


class Floor(House):
    """A house in which channels come, are dialled, answer, meet and go, told in a word each."""

    def comes(self, uniqueid: str, name: str, exten: str = "", number: str = "", pbx: str = "main") -> None:
        self.tell(
            "Newchannel",
            pbx=pbx,
            Uniqueid=uniqueid,
            Channel=name,
            Exten=exten,
            CallerIDNum=number,
            ChannelStateDesc="Ring",
        )

    def dials(self, dialler: str, uniqueid: str, name: str, string: str = "", pbx: str = "main") -> None:
        self.tell(
            "DialBegin",
            pbx=pbx,
            Uniqueid=dialler,
            DestUniqueid=uniqueid,
            DestChannel=name,
            DialString=string or name.partition("/")[2].partition("-")[0],
        )

    def rings(self, uniqueid: str) -> None:
        self.tell("Newstate", Uniqueid=uniqueid, ChannelStateDesc="Ringing")

    def dial_ends(self, dialler: str, uniqueid: str, status: str, pbx: str = "main", **more: str) -> None:
        self.tell("DialEnd", pbx=pbx, Uniqueid=dialler, DestUniqueid=uniqueid, DialStatus=status, **more)

    def answers(self, dialler: str, uniqueid: str, at: str = "205", pbx: str = "main") -> None:
        self.tell("Newstate", pbx=pbx, Uniqueid=uniqueid, ChannelStateDesc="Up", Timestamp=at)
        self.dial_ends(dialler, uniqueid, "ANSWER", pbx=pbx, Timestamp=at)

    def enters(self, bridge: str, *uniqueids: str, at: str = "206", pbx: str = "main", **more: str) -> None:
        for uniqueid in uniqueids:
            self.tell("BridgeEnter", pbx=pbx, BridgeUniqueid=bridge, Uniqueid=uniqueid, Timestamp=at, **more)

    def leaves(self, bridge: str, uniqueid: str) -> None:
        self.tell("BridgeLeave", BridgeUniqueid=bridge, Uniqueid=uniqueid)

    def goes(self, *uniqueids: str, at: str = "220", pbx: str = "main") -> None:
        for uniqueid in uniqueids:
            self.tell("Hangup", pbx=pbx, Uniqueid=uniqueid, Cause="16", Timestamp=at)

    def of(self, uniqueid: str, pbx: str = "main") -> LiveCall:
        call = self.calls.of_channel(pbx, uniqueid)
        assert call is not None
        return call

    def talks(self) -> "Floor":
        """Anna took the call 1.0 by 1.1, after an offer of ours."""
        self.comes("1.0", "PJSIP/trunk-00000001")
        self.offered()
        self.dials("1.0", "1.1", "PJSIP/anna-00000001")
        self.answers("1.0", "1.1")
        self.enters("b1", "1.0", "1.1")
        return self

    def consults(self) -> "Floor":
        """Anna calls Ben by her second line, 2.0, while the caller waits."""
        self.comes("2.0", "PJSIP/anna-00000002", exten="12", number="11")
        self.dials("2.0", "2.1", "PJSIP/ben-00000002")
        self.rings("2.1")
        return self

    def last(self, type: str) -> Any:
        return [event for unit in self.store.units for event in unit.events if event[0] == type][-1][2]


def segments(call: LiveCall) -> list[tuple[list[str], str | None, str, str | None]]:
    return [(list(one.agents), one.rule, one.reason, one.result) for one in call.segments]


# Calls that nobody asked about.


def test_an_agent_who_dials_a_customer_has_an_outbound_call():
    floor = Floor()
    floor.comes("2.0", "PJSIP/anna-00000002", exten="015228817386", number="11")
    floor.dials("2.0", "2.1", "PJSIP/trunk-00000002", "015228817386@trunk")
    record = floor.of("2.0").record
    assert (record.direction, record.agent, record.to_number) == ("outbound", "anna", "+4915228817386")
    assert record.party is not None
    assert record.party["name"] == "Katrin Öhlmann"
    assert floor.state_of("anna") == "ready", "nobody has answered"
    floor.answers("2.0", "2.1")
    assert floor.state_of("anna") == "busy"
    floor.goes("2.1", "2.0")

    (record,) = floor.ended
    assert (record.outcome, record.agent, record.answered) == ("answered", "anna", 205)
    assert floor.state_of("anna") == "ready"


def test_a_phone_that_only_dials_a_feature_makes_no_record():
    floor = Floor()
    floor.comes("2.0", "PJSIP/anna-00000002", exten="*8", number="11")
    floor.goes("2.0")

    assert floor.calls.of_channel("main", "2.0") is None
    assert floor.ended == []


def test_nothing_is_cleared_away_in_astdb_that_no_dialplan_of_ours_can_have_left():
    floor, ami = Floor(), ScriptedAmi()
    floor.tracker.up("main", ami)
    for dialler, name in (("2.0", "PJSIP/anna-00000002"), ("3.0", "PJSIP/trunk-00000003")):
        floor.comes(dialler, name, exten="493023125200", number="03023125001")
        floor.dials(dialler, f"{dialler}1", "PJSIP/ben-00000003")
        floor.goes(f"{dialler}1", dialler)

    assert ami.actions == []
    assert floor.tracker.may_have_missed_an_end("main"), "each may have asked, and nobody answered"


@pytest.mark.parametrize(
    ("word", "number", "kind"),
    [("allowed_not_screened", "+493023125001", "e164"), ("prohib_not_screened", None, "withheld")],
)
def test_a_number_that_its_caller_hides_is_not_kept(word, number, kind):
    floor = Floor()
    floor.presentation = word
    floor.comes("3.0", "PJSIP/trunk-00000003", exten="493023125200", number="03023125001")
    floor.dials("3.0", "3.1", "PJSIP/ben-00000003")
    record = floor.of("3.0").record

    assert (record.from_number, record.from_kind) == (number, kind)
    assert ("03023125001" in record.from_raw) == (number is not None)
    assert (record.party is not None) == (number is not None)


def test_a_number_that_could_not_be_asked_about_is_looked_up_in_what_the_dialplan_left():
    floor = Floor()
    floor.presentation = None
    floor.comes("3.0", "PJSIP/trunk-00000003", exten="493023125200", number="03023125001")
    floor.dials("3.0", "3.1", "PJSIP/ben-00000003")
    floor.goes("3.1", "3.0")
    ended = floor.ended[0]
    floor.store.closed_channels["main", "3.0"] = ended.id
    floor.store.details[ended.id] = CallDetail(ended, [], [], [], [], [], [])
    ami = ScriptedAmi(DBGetTree=[left_in_astdb("3.0", ended="220")])
    floor.tracker.up("main", ami)
    floor.resync(ami)
    floor.resync(ami)

    assert [known.uniqueid for known in floor.unseen] == ["3.0"], "once"


# A consultation, and what comes of it.


def test_an_attended_transfer_moves_the_consulted_to_the_call_and_ends_the_consultation():
    floor = Floor().talks().consults()
    consultation = floor.of("2.0")
    assert (consultation.record.parent, consultation.record.direction) == (CALL, "internal")
    floor.answers("2.0", "2.1")
    floor.enters("b2", "2.0", "2.1")
    assert floor.state_of("ben") == "busy"
    # Asterisk puts the caller in the place of Anna's second line.
    floor.leaves("b1", "1.0")
    floor.enters("b2", "1.0", at="210", SwapUniqueid="2.0")
    floor.leaves("b2", "2.0")
    floor.tell("AttendedTransfer", Result="Success", OrigTransfererUniqueid="1.1", Timestamp="210")
    floor.goes("1.1", "2.0", at="211")

    assert [record.id for record in floor.ended] == [consultation.id]
    assert (floor.ended[0].outcome, floor.ended[0].parent) == ("answered", CALL)
    assert floor.of("2.1") is floor.call
    assert segments(floor.call) == [
        (["anna"], "owner", "owner: anna", "answered"),
        (["ben"], None, "transferred by anna", None),
    ]
    assert (floor.state_of("anna"), floor.state_of("ben")) == ("ready", "busy")
    assert floor.store.events.count("call.transferred") == 1
    assert (floor.last("call.transferred")["from"], floor.last("call.transferred")["to"]) == ("anna", "ben")
    assert list(floor.call.cards) == ["ben"], "the card has gone along"
    floor.goes("1.0", "2.1")
    assert floor.ended[-1].agent == "ben"
    assert floor.state_of("ben") == "ready"


def test_a_call_of_ours_that_never_gets_a_channel_ends_by_itself():
    floor = Floor()
    call = LiveCall(CallRecord("01930000-0000-7000-8000-000000000002", "main", 200, "outbound", agent="anna"))
    floor.tracker.expect(call)
    floor.resync(ScriptedAmi(CoreShowChannels=[listed("1.0")]))
    assert not call.over
    floor.tracker.not_made(call, "the phone is away")

    assert (call.record.outcome, call.record.reason) == ("failed", "the phone is away")


def test_a_call_of_ours_knows_its_channels_by_its_id_and_the_agents_own_answer_is_nobodys():
    floor, id = Floor(), "01930000-0000-7000-8000-000000000002"
    call = LiveCall(CallRecord(id, "main", 200, "outbound", agent="anna"))
    floor.tracker.expect(call)
    mine = f"CTI_CALL_ID={id}"
    floor.tell("DialBegin", DestUniqueid="3.0", DestChannel="PJSIP/anna-00000003", DestChanVariable=mine)
    floor.tell("DialEnd", DestUniqueid="3.0", DialStatus="ANSWER", DestChanVariable=mine)
    assert (call.record.answered, call.channels["main", "3.0"].role) == (None, "caller")
    assert floor.calls.of_agent("anna") == [call]
    floor.dials("3.0", "3.1", "PJSIP/trunk-00000003", "015228817386@trunk")
    floor.answers("3.0", "3.1")

    assert call.record.answered == 205
    assert floor.state_of("anna") == "busy"


def test_a_transfer_that_we_make_is_told_when_the_agent_has_left():
    floor = Floor().talks()
    floor.tracker.transfer_by(floor.call, "anna", "+4915228817386")
    assert "call.transferred" not in floor.store.events
    floor.goes("1.1")
    floor.goes("1.1")

    assert floor.store.events.count("call.transferred") == 1
    assert floor.last("call.transferred")["to"] == "+4915228817386"


def test_a_transfer_to_a_phone_that_rings_takes_its_ringing_along():
    floor = Floor().talks().consults()
    consultation = floor.of("2.0")
    # Asterisk puts the caller's channel where Anna's second line was, in Dial.
    floor.tell(
        "AttendedTransfer",
        Result="Success",
        OrigTransfererUniqueid="1.1",
        SecondTransfererUniqueid="2.0",
        SecondTransfererChannel="PJSIP/anna-00000002",
    )
    floor.goes("1.1", "2.0", at="210")
    floor.answers("1.0", "2.1", at="212")

    assert (consultation.record.outcome, floor.ended[0].id) == ("abandoned", consultation.id)
    assert segments(consultation) == [(["ben"], None, "called by anna", "forwarded")]
    assert segments(floor.call)[1:] == [(["ben"], None, "transferred by anna", None)]
    assert (floor.call.segments[1].ringing, floor.call.segments[1].answered) == (200.5, 212)
    assert floor.last("call.transferred")["to"] == "ben"
    assert floor.store.events.count("call.transferred") == 1
    assert "call.missed" not in floor.store.events


def test_without_the_word_of_the_transfer_the_answer_says_whose_call_it_is():
    floor = Floor().talks().consults()
    floor.goes("1.1", "2.0", at="210")
    floor.answers("1.0", "2.1", at="212")

    assert floor.of("2.1") is floor.call
    assert segments(floor.call)[1:] == [(["ben"], None, "transferred by anna", None)]
    assert floor.state_of("ben") == "busy"


def test_an_agent_who_goes_back_and_forth_between_two_lines_stays_busy_until_both_are_gone():
    floor = Floor().talks().consults()
    floor.answers("2.0", "2.1")
    floor.enters("b2", "2.0", "2.1")
    floor.goes("1.1", "1.0", at="210")
    assert floor.state_of("anna") == "busy", "she still talks to Ben"
    assert floor.roster.view("anna").call == floor.of("2.0").id
    floor.goes("2.0", "2.1", at="211")

    assert (floor.state_of("anna"), floor.state_of("ben")) == ("ready", "ready")
    assert [record.outcome for record in floor.ended] == ["answered", "answered"]


def test_who_still_talks_is_not_let_go_by_the_next_question_of_the_call():
    floor = Floor().talks()
    unit = RecordingUnit()
    floor.tracker.let_go(
        unit, floor.call, floor.call.ask(unit, 210, floor.call.channels["main", "1.0"], "ANSWER")
    )
    assert floor.state_of("anna") == "busy", "her phone has not hung up yet"
    assert ("unreserved", "anna", CALL) not in unit.rows
    floor.goes("1.1", at="211")

    assert floor.state_of("anna") == "ready"


def test_a_consultation_in_one_line_is_none_of_the_callers_call_until_they_meet():
    floor, id = Floor().talks(), "01930000-0000-7000-8000-000000000002"
    consultation = LiveCall(CallRecord(id, "main", 205, "internal", parent=CALL, agent="anna"))
    floor.tracker.expect(consultation)
    floor.dials("1.1", "2.1", "PJSIP/ben-00000002")
    assert floor.of("2.1") is floor.call, "without our id the dialler's call counts"
    floor.tell(
        "DialBegin",
        Uniqueid="1.1",
        DestUniqueid="2.2",
        DestChannel="PJSIP/ben-00000003",
        DestChanVariable=f"CTI_CALL_ID={id}",
    )
    floor.answers("1.1", "2.2")
    floor.leaves("b1", "1.1")
    floor.enters("b2", "1.1", "2.2")
    assert floor.of("2.2") is consultation, "Anna alone is with Ben"
    floor.leaves("b1", "1.0")
    floor.enters("b2", "1.0", BridgeCreator="ConfBridge")

    assert floor.of("2.2") is floor.call
    assert floor.call.segments[-1].reason == "in conference with anna"
    assert "call.transferred" not in floor.store.events


def test_a_consultation_about_a_consultation_ends_in_the_callers_call_like_the_first():
    floor = Floor().talks().consults()
    floor.answers("2.0", "2.1")
    first = floor.of("2.0")
    second = LiveCall(
        CallRecord("01930000-0000-7000-8000-000000000003", "main", 206, "outbound", parent=first.id)
    )
    channel = a_channel("4.1", "other", call=second.id, answered=207.0)
    second.channels[channel.key] = channel
    floor.calls.keep(second)
    floor.comes("4.1", "PJSIP/trunk-00000004")
    floor.enters("b9", "4.1", "1.0", "2.1")

    assert {floor.of(uniqueid).id for uniqueid in ("1.0", "2.1", "4.1")} == {CALL}


def test_two_callers_who_are_joined_stay_two_calls_and_the_younger_names_the_older():
    floor = Floor().talks()
    floor.comes("3.0", "PJSIP/trunk-00000003", exten="493023125200", number="03023125001")
    floor.dials("3.0", "3.1", "PJSIP/ben-00000003")
    floor.answers("3.0", "3.1")
    floor.enters("b3", "3.0", "3.1")
    second = floor.of("3.0")
    assert (second.record.direction, second.record.parent) == ("inbound", None)
    floor.enters("b1", "3.0")

    assert (second.record.parent, floor.call.record.parent) == (CALL, None)
    assert floor.of("3.0") is second


def test_callers_in_one_parking_lot_have_nothing_to_do_with_each_other():
    floor = Floor().talks()
    floor.comes("3.0", "PJSIP/trunk-00000003", exten="493023125200", number="03023125001")
    floor.dials("3.0", "3.1", "PJSIP/ben-00000003")
    floor.enters("lot", "3.0", "1.0", BridgeTechnology="holding_bridge")

    assert floor.of("3.0").record.parent is None


def test_who_takes_a_call_out_of_parking_joins_it():
    floor = Floor().talks()
    floor.tell("ParkedCall", ParkeeUniqueid="1.0", ParkingSpace="701")
    floor.enters("lot", "1.0", BridgeTechnology="holding_bridge")
    floor.goes("1.1", at="208")
    floor.comes("3.0", "PJSIP/ben-00000003", exten="701")
    floor.tell("Newstate", Uniqueid="3.0", ChannelStateDesc="Up")
    floor.enters("b3", "1.0", "3.0", at="209")

    assert segments(floor.call)[1:] == [(["ben"], None, "retrieved from parking 701", None)]
    assert (floor.state_of("anna"), floor.state_of("ben")) == ("ready", "busy")
    assert floor.call.record.agent == "ben"


def test_a_pickup_is_said_before_or_after_the_answer():
    for early in (True, False):
        floor = Floor().offered()
        floor.comes("1.0", "PJSIP/trunk-00000001")
        floor.dials("1.0", "1.1", "PJSIP/anna-00000001")
        floor.rings("1.1")
        floor.comes("3.0", "PJSIP/ben-00000003", exten="89")
        floor.tell("Newstate", Uniqueid="3.0", ChannelStateDesc="Up")
        told = {"Uniqueid": "3.0", "Channel": "PJSIP/ben-00000003", "TargetUniqueid": "1.1"}
        if early:
            floor.tell("Pickup", **told)
        floor.dial_ends("1.0", "3.0", "ANSWER", DestChannel="PJSIP/ben-00000003")
        if not early:
            floor.tell("Pickup", **told)
        floor.goes("1.1")

        assert segments(floor.call) == [
            (["anna"], "owner", "owner: anna", "no_answer"),
            (["ben"], None, "picked up", None),
        ]
        assert (floor.state_of("anna"), floor.state_of("ben")) == ("ready", "busy")
        assert list(floor.call.cards) == ["ben"]


def test_both_halves_of_a_local_channel_belong_to_the_call_of_either_and_are_nobody():
    floor = Floor()
    floor.comes("3.0", "PJSIP/trunk-00000003", exten="493023125200", number="03023125001")
    floor.comes("3.1", "Local/12@phones-00000000;1")
    floor.comes("3.2", "Local/12@phones-00000000;2")
    floor.tell("LocalBridge", LocalOneUniqueid="3.1", LocalTwoUniqueid="3.2")
    floor.dials("3.0", "3.1", "Local/12@phones-00000000;1")
    floor.dials("3.2", "3.3", "PJSIP/ben-00000003")
    floor.answers("3.0", "3.1", at="203")
    call = floor.of("3.0")
    assert {floor.of(uniqueid).id for uniqueid in ("3.1", "3.2", "3.3")} == {call.id}
    assert call.record.answered is None
    floor.answers("3.2", "3.3", at="204")

    assert (call.record.answered, call.record.agent) == (204, "ben")
    assert len(floor.calls) == 2


def test_a_dial_of_a_local_channel_that_nobody_dialled_is_a_call_once_it_is_answered():
    floor = Floor()
    floor.comes("3.1", "Local/11@phones-00000000;1")
    floor.comes("3.2", "Local/11@phones-00000000;2")
    floor.dials("3.2", "3.3", "PJSIP/ben-00000003")
    assert floor.calls.of_channel("main", "3.3") is None
    floor.answers("3.2", "3.3")

    assert floor.of("3.3").record.answered == 205
    assert floor.of("3.1") is floor.of("3.3")


def test_a_mobile_over_the_trunk_is_known_by_what_was_dialled_whichever_event_comes_first():
    for early in (True, False):
        floor = Floor()
        floor.roster.load([AgentRecord("cleo", "Cleo", ["PJSIP/01739200099@trunk"], ["sales"], {}, "ready")])
        floor.comes("1.0", "PJSIP/trunk-00000001")
        if early:
            floor.tell(
                "Newstate", Uniqueid="1.1", Channel="PJSIP/trunk-00000002", ChanVariable=f"CTI_CALL_ID={CALL}"
            )
        floor.dials("1.0", "1.1", "PJSIP/trunk-00000002", "01739200099@trunk")
        floor.answers("1.0", "1.1")

        assert floor.call.record.agent == "cleo"
        assert floor.state_of("cleo") == "busy"


def test_a_ring_group_that_nobody_decided_on_ends_with_its_last_phone_and_every_phone_is_news_to_its_agent():
    floor = Floor()
    floor.call.send_elsewhere(RecordingUnit(), 101, "fallback")
    floor.comes("1.0", "PJSIP/trunk-00000001")
    for uniqueid, agent in (("1.1", "anna"), ("1.2", "ben")):
        floor.dials("1.0", uniqueid, f"PJSIP/{agent}-0000000{uniqueid[-1]}")
        floor.rings(uniqueid)
    rung = [event[3] for unit in floor.store.units for event in unit.events if event[0] == "call.ringing"]
    assert rung == [("anna",), ("ben",)]
    for uniqueid in ("1.1", "1.2"):
        assert floor.call.segments[0].ended is None
        floor.dial_ends("1.0", uniqueid, "NOANSWER")
        floor.goes(uniqueid)

    assert segments(floor.call) == [(["anna", "ben"], None, "rung by the fallback", "no_answer")]
    assert floor.call.offer is None


def test_a_call_that_is_passed_to_another_asterisk_is_one_call_of_both_and_the_trunk_between_is_nobody():
    floor = Floor()
    floor.comes("1.0", "PJSIP/trunk-00000001")
    floor.dials("1.0", "1.1", "PJSIP/branch-00000002")
    floor.tell("UserEvent", UserEvent="CtiPeer", Uniqueid="1.1", Channel="PJSIP/branch-00000002")
    entry = a_channel("1.0", pbx="branch", began=201)
    floor.call.ask(RecordingUnit(), 201, entry, None)
    floor.call.channels[entry.key] = entry
    floor.calls.keep(floor.call)
    floor.dials("1.0", "1.1", "PJSIP/ben-00000001", pbx="branch")
    floor.answers("1.0", "1.1", at="203")
    assert floor.call.record.answered is None, "the other Asterisk has taken it, and nobody talks"
    floor.answers("1.0", "1.1", at="204", pbx="branch")
    assert (floor.call.record.answered, floor.call.record.agent) == (204, "ben")
    floor.goes("1.1", "1.0", pbx="branch")
    assert not floor.call.over, "it lives on at the first"
    floor.tracker.down("branch")
    floor.goes("1.1", "1.0")

    (record,) = floor.ended
    assert (record.outcome, record.agent, record.pbx) == ("answered", "ben", "main")
    assert {key[0] for key in floor.call.channels} == {"main", "branch"}


def test_an_outage_of_one_asterisk_does_not_end_a_call_that_lives_on_at_the_other():
    floor = Floor()
    entry = a_channel("9.0", pbx="branch", began=201)
    floor.call.channels[entry.key] = entry
    floor.calls.keep(floor.call)
    floor.resync(ScriptedAmi())
    assert not floor.call.over
    floor.goes("9.0", pbx="branch")

    assert len(floor.ended) == 1


def test_hold_and_retrieve_are_news_once():
    floor = Floor().talks()
    for name in ("Unhold", "Hold", "Hold", "Unhold", "Unhold"):
        floor.tell(name, Uniqueid="1.1")

    told = [event for event in floor.store.events if event in ("call.held", "call.retrieved")]
    assert told == ["call.held", "call.retrieved"]
    assert floor.last("call.held")["agent"] == "anna"


# After an outage.


def test_a_transfer_that_nobody_saw_is_read_from_the_bridges():
    floor = Floor().talks().consults()
    floor.answers("2.0", "2.1")
    consultation = floor.of("2.0")
    inside = [
        listed("1.0", BridgeId="b2", ChannelStateDesc="Up"),
        listed("2.1", Channel="PJSIP/ben-00000002", BridgeId="b2", ChannelStateDesc="Up"),
    ]
    floor.resync(ScriptedAmi(CoreShowChannels=inside))

    assert floor.of("2.1") is floor.call
    assert consultation.over
    assert (floor.state_of("anna"), floor.state_of("ben")) == ("ready", "busy")


def test_callers_who_are_listed_in_one_parking_lot_are_left_alone():
    floor = Floor().talks()
    floor.comes("3.0", "PJSIP/trunk-00000003", exten="493023125200", number="03023125001")
    floor.dials("3.0", "3.1", "PJSIP/ben-00000003")
    entries = [listed("1.0", BridgeId="lot"), listed("3.0", BridgeId="lot")]
    lot = an_event("BridgeListItem", BridgeUniqueid="lot", BridgeTechnology="holding_bridge")
    floor.resync(ScriptedAmi(CoreShowChannels=entries, BridgeList=[lot]))

    assert floor.of("3.0").record.parent is None


def test_a_conversation_that_began_unheard_is_picked_up():
    floor = Floor()
    up = {"BridgeId": "b4", "ChannelStateDesc": "Up"}
    entries = [
        listed("1.0"),
        listed(
            "4.0",
            **up,
            Channel="PJSIP/anna-00000004",
            Application="Dial",
            Exten="015228817386",
            Duration="00:01:10",
        ),
        listed("4.1", Channel="PJSIP/trunk-00000004", Application="AppDial", **up),
    ]
    floor.resync(ScriptedAmi(CoreShowChannels=entries))
    record = floor.of("4.0").record

    assert (record.direction, record.agent, record.to_number) == ("outbound", "anna", "+4915228817386")
    assert (record.started, record.answered) == (130, 200)
    assert floor.state_of("anna") == "busy"
