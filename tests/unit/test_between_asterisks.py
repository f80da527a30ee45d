"""A call with channels at two Asterisks: who has picked up, whose word counts, and what is not mixed up."""

from typing import Any

import pytest

from cti.calls.life import LiveCall
from tests.unit.calls import CALL
from tests.unit.test_tracker import House, ScriptedAmi, an_event, left_in_astdb, listed

IDS = {"ChanVariable": f"CTI_CALL_ID={CALL}", "DestChanVariable": f"CTI_CALL_ID={CALL}"}


def passed_on(house: House, *, leg: str = "1.2", arrival: str = "7.0") -> House:
    """The call has gone from main, by a line that our dialplan has marked, to the branch, where Ben's phone rings."""
    line = {"Uniqueid": leg, "Channel": f"PJSIP/peer-branch-{leg}", "ChanVariable": IDS["ChanVariable"]}
    house.tell("UserEvent", UserEvent="CtiPeer", **line)
    house.tell("DialBegin", Uniqueid="1.0", DestUniqueid=leg, DestChannel=line["Channel"])
    comes = {"Uniqueid": arrival, "Channel": f"PJSIP/peer-main-{arrival}"}
    house.tell("Newchannel", pbx="branch", ChannelStateDesc="Ring", **comes)
    ben = {"DestUniqueid": "7.1", "DestChannel": "PJSIP/ben-00000071"}
    house.tell("DialBegin", pbx="branch", **comes, **ben, **IDS)
    return house


def answered(house: House, pbx: str, dialler: str, dialled: str) -> None:
    house.tell("DialEnd", pbx=pbx, Uniqueid=dialler, DestUniqueid=dialled, DialStatus="ANSWER")


def roles(call: LiveCall) -> dict[tuple[str, str], str]:
    return {key: channel.role for key, channel in call.channels.items()}


@pytest.mark.parametrize("arrival", ["7.0", "1.0"])
def test_that_the_other_asterisk_takes_a_call_is_nobodys_answer(arrival: str) -> None:
    house = House()
    house.call.record.uniqueid = "1.0"
    passed_on(house, arrival=arrival)
    assert roles(house.call) == {
        ("main", "1.0"): "caller",
        ("main", "1.2"): "peer",
        ("branch", arrival): "caller",
        ("branch", "7.1"): "agent",
    }
    # Over two sockets, either may be first.
    answered(house, "main", "1.0", "1.2")
    assert house.call.record.answered is None
    answered(house, "branch", arrival, "7.1")
    assert (house.call.record.agent, house.call.segments[0].result) == ("ben", None)
    assert house.call.segments[0].answered == 200.5


def test_a_mobile_that_rings_beside_the_other_asterisk_is_a_person() -> None:
    house = passed_on(House())
    house.tell("DialBegin", Uniqueid="1.0", DestUniqueid="1.3", DestChannel="PJSIP/trunk-13", **IDS)
    answered(house, "main", "1.0", "1.3")
    assert house.call.record.answered == 200.5


def test_a_line_to_an_asterisk_that_the_call_never_reached_is_answered_by_whoever_is_there() -> None:
    house = House()
    house.tell("UserEvent", UserEvent="CtiPeer", Uniqueid="1.2", Channel="PJSIP/peer-branch-1", **IDS)
    answered(house, "main", "1.0", "1.2")
    assert house.call.record.answered == 200.5


def test_a_phone_that_rings_before_its_dial_is_told_has_not_come_over() -> None:
    house = House()
    phone = {"Uniqueid": "7.1", "Channel": "PJSIP/lobby-1", "ChannelStateDesc": "Ringing"}
    house.tell("Newstate", pbx="branch", ChanVariable=IDS["ChanVariable"], **phone)
    assert roles(house.call)["branch", "7.1"] == "other"


def test_one_asterisk_of_a_call_tells_the_end_of_its_own_channels_only() -> None:
    house = passed_on(House(), arrival="1.0")
    answered(house, "branch", "1.0", "7.1")
    house.tell("Hangup", pbx="branch", Uniqueid="7.1", Cause="16")
    house.tell("Hangup", pbx="branch", Uniqueid="1.0", Cause="21")
    assert not house.call.over
    house.tell("Hangup", Uniqueid="1.0", Cause="16")
    house.tell("Hangup", Uniqueid="1.2", Cause="16")
    (record,) = house.ended
    assert (record.hangup_cause, record.agent, record.outcome) == (16, "ben", "answered")


def test_the_cause_of_the_end_is_the_callers_and_not_that_of_the_line_between() -> None:
    house = passed_on(House())
    for pbx, uniqueid, cause in (("main", "1.0", "16"), ("main", "1.2", "16"), ("branch", "7.1", "26")):
        house.tell("Hangup", pbx=pbx, Uniqueid=uniqueid, Cause=cause)
    house.tell("Hangup", pbx="branch", Uniqueid="7.0", Cause="127")
    (record,) = house.ended
    assert record.hangup_cause == 16


def test_two_who_come_from_one_asterisk_are_not_two_callers() -> None:
    house = passed_on(House())
    other = {"Uniqueid": "7.5", "Channel": "PJSIP/lobby-75", "ChannelStateDesc": "Up"}
    house.tell("Newstate", pbx="branch", ChanVariable=IDS["ChanVariable"], **other)
    assert roles(house.call)["branch", "7.5"] == "other"


def test_what_the_dialplan_left_of_an_answer_is_about_a_phone_of_that_asterisk() -> None:
    house = House().offered("ben")
    house.tell(
        "DialBegin", pbx="branch", Uniqueid="7.0", DestUniqueid="7.1", DestChannel="PJSIP/ben-1", **IDS
    )
    word = left_in_astdb("1.0", call=CALL, ended="210", dialstatus="ANSWER", talked="3")
    house.resync(ScriptedAmi(DBGetTree=[word]))
    assert house.call.channels["branch", "7.1"].answered is None
    assert house.call.channels["main", "1.0/unseen"].answered == 207


def test_who_passed_a_call_on_does_not_say_what_became_of_it_elsewhere() -> None:
    house = passed_on(House().offered("ben"))
    house.call.channels["main", "1.0"].began = 100.0
    word = left_in_astdb("1.0", call=CALL, ended="205", action="goto", dialstatus="ANSWER", talked="3")
    house.resync(ScriptedAmi(DBGetTree=[word]))
    assert house.call.offer is not None
    assert house.call.record.answered is None
    assert {channel.pbx for channel in house.call.living} == {"branch"}


def test_whom_an_agent_consults_at_the_other_asterisk_goes_over_to_the_call_with_the_line_there() -> None:
    house = House().offered().dialled()
    answered(house, "main", "1.0", "1.1")
    house.tell("Newchannel", Uniqueid="2.0", Channel="PJSIP/anna-20", Exten="21", ChannelStateDesc="Ring")
    line = {"DestUniqueid": "2.2", "DestChannel": "PJSIP/peer-branch-22"}
    house.tell("DialBegin", Uniqueid="2.0", Channel="PJSIP/anna-20", **line)
    consultation = house.calls.of_channel("main", "2.0")
    assert consultation is not None
    assert consultation.record.parent == CALL
    ids: dict[str, Any] = dict.fromkeys(IDS, f"CTI_CALL_ID={consultation.id}")
    house.tell("UserEvent", UserEvent="CtiPeer", Uniqueid="2.2", Channel="PJSIP/peer-branch-22", **ids)
    there = {"Uniqueid": "7.0", "Channel": "PJSIP/peer-main-70"}
    house.tell("Newchannel", pbx="branch", ChannelStateDesc="Ring", **there)
    ben = {"DestUniqueid": "7.1", "DestChannel": "PJSIP/ben-71"}
    house.tell("DialBegin", pbx="branch", **there, **ben, **ids)
    answered(house, "branch", "7.0", "7.1")
    answered(house, "main", "2.0", "2.2")

    for uniqueid, name in (("1.0", "PJSIP/trunk-10"), ("2.2", "PJSIP/peer-branch-22")):
        entered = {"BridgeUniqueid": "b", "Uniqueid": uniqueid, "Channel": name}
        house.tell("BridgeEnter", ChannelStateDesc="Up", **entered)
    of_the_call = roles(house.call)
    assert of_the_call["main", "2.2"] == "peer"
    assert (of_the_call["branch", "7.0"], of_the_call["branch", "7.1"]) == ("caller", "agent")
    assert roles(consultation) == {("main", "2.0"): "caller"}
    assert house.call.segments[-1].reason == "transferred by anna"
    assert house.call.talking == {"anna", "ben"}
    assert house.store.events.count("call.transferred") == 1
    (told,) = [event for unit in house.store.units for event in unit.events if event[0] == "call.transferred"]
    assert (told[2]["from"], told[2]["to"]) == ("anna", "ben")


def test_an_end_that_a_crash_brought_back_is_cleared_away_again() -> None:
    house = House()
    house.store.closed_channels["main", "9.9"] = CALL
    for _ in range(2):
        ami = ScriptedAmi(DBGetTree=[left_in_astdb("9.9")])
        house.tracker.up("main", ami)  # type: ignore[arg-type]
        house.resync(ami)
        assert ("DBDel", {"Family": "cti/ended", "Key": "9.9"}) in ami.actions
        house.tracker.down("main")


def test_a_call_that_ended_while_ami_was_away_is_not_over_before_it_began() -> None:
    house = House()
    house.call.record.started = 200.4
    house.resync(ScriptedAmi(DBGetTree=[left_in_astdb("1.0", call=CALL, ended="200")]))
    (record,) = house.ended
    assert record.ended == 200.4


def test_who_lives_at_one_asterisk_is_not_looked_for_at_the_other() -> None:
    house = passed_on(House())
    house.resync(ScriptedAmi(CoreShowChannels=[listed("1.0"), listed("1.2")]))
    assert [channel.key for channel in house.call.living if channel.pbx == "branch"] == [
        ("branch", "7.0"),
        ("branch", "7.1"),
    ]
    house.tracker.on_event("branch", an_event("Hangup", Uniqueid="1.0"))
    assert not house.call.over
