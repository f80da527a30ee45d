"""Call shapes as AMI tells of them: what each makes of records, segments, agents and cards."""

from typing import Any

from cti.calls.life import LiveCall
from cti.store.records import CallRecord
from tests.unit.calls import CALL
from tests.unit.test_tracker import House, ScriptedAmi, listed


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
