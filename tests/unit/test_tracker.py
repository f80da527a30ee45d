"""The tracker: AMI's events find their call, and after an outage our picture becomes Asterisk's again."""

from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from adapters.base import Party
from cti.agents.roster import Roster
from cti.asterisk.ami import AmiDisconnected
from cti.asterisk.ami_parser import Event
from cti.asterisk.channels import Channels
from cti.calls.life import LiveCall, State
from cti.calls.log import CallLog
from cti.calls.services import Services
from cti.calls.tracker import EndedRecord, Tracker
from cti.calls.unasked import Unasked
from cti.calls.writing_up import WritingUp
from cti.identify.identification import Identification
from cti.numbers import Number, NumberPlan
from cti.store.base import CallDetail
from cti.store.records import AgentRecord, CallRecord, ReservationRecord
from routing.decide import Action, Decision
from tests.unit.calls import CALL, RecordingUnit, a_call, an_offer

KATRIN = Party(adapter="directory", type="contact", id="17", name="Katrin Öhlmann")


class MemoryStore:
    """A fake of the store: every commit succeeds at once; `units` has them all."""

    def __init__(self) -> None:
        self.details: dict[str, CallDetail] = {}
        self.units: list[RecordingUnit] = []
        self.closed_channels: dict[tuple[str, str], str] = {}

    def unit(self) -> RecordingUnit:
        return RecordingUnit()

    def commit(self, unit: RecordingUnit, *, at_leisure: bool = False) -> Deferred[Sequence[Any]]:
        self.units.append(unit)
        return succeed(())

    async def call(self, id: str) -> CallDetail | None:
        return self.details.get(id)

    def call_by_channel(self, pbx: str, uniqueid: str) -> str | None:
        return self.closed_channels.get((pbx, uniqueid))

    @property
    def events(self) -> list[str]:
        return [type for unit in self.units for type in unit.types if type != "agent.state"]


class ScriptedAmi:
    """A fake of an AMI connection: lists as given, actions are remembered."""

    def __init__(self, **lists: list[Event]) -> None:
        self.lists = lists
        self.actions: list[tuple[str, dict[str, str]]] = []

    async def action(self, name: str, /, **fields: str) -> None:
        self.actions.append((name, fields))

    async def list_action(self, name: str, /, *, complete: str, **fields: str) -> list[Event]:
        return self.lists.get(name, [])


class House:
    """A tracker with everything it needs, and one call that Anna is being offered."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(200)
        self.store = MemoryStore()
        self.ended: list[CallRecord] = []
        self.calls = CallLog(self.store, self.clock, self.ended.append)
        self.roster = Roster(self.clock.seconds, self.calls.agent_changed)
        self.roster.load(
            [AgentRecord(id, id.title(), [f"PJSIP/{id}"], ["sales"], {}, "ready") for id in ("anna", "ben")]
        )
        self.unseen: list[EndedRecord] = []
        self.channels = {"main": Channels(self.clock), "branch": Channels(self.clock)}
        self.services = Services([], NumberPlan("DE"))
        self.identified: list[Number] = []
        self.late: list[Identification] = []
        self.presentation: str | None = "allowed_not_screened"
        unasked = Unasked(
            self.calls,
            self.roster,
            lambda: self.services,
            lambda: self,
            self._presentation,
            lambda call, found: self.late.append(found),
        )
        self.writing_up = WritingUp(
            calls=self.calls, roster=self.roster, services=lambda: self.services, now=self.clock.seconds
        )
        self.tracker = Tracker(
            self.calls,
            self.roster,
            self.clock.seconds,
            self._record_unseen,
            self.channels,
            unasked.begin,
            self.writing_up,
        )
        self.call = a_call()
        self.calls.keep(self.call)

    async def _record_unseen(self, pbx: str, known: EndedRecord) -> None:
        self.unseen.append(known)

    def offered(self, *agents: str) -> "House":
        agents = agents or ("anna",)
        an_offer(self.call, *agents)
        self.roster.reserve(agents, self.call.id, 1, expires=230)
        return self

    async def _presentation(self, pbx: str, channel: str) -> str:
        if self.presentation is None:
            raise AmiDisconnected("no such channel any more")
        return self.presentation

    async def identify(self, number: Number, late: Any = None) -> Identification:
        self.identified.append(number)
        return Identification(number, (KATRIN,), ms=1.0)

    def tell(self, name: str, *, pbx: str = "main", **headers: str) -> None:
        event = an_event(name, **headers)
        self.channels[pbx].take(event)
        self.tracker.on_event(pbx, event)
        self.channels[pbx].tell()

    def dialled(self, uniqueid: str = "1.1", agent: str = "anna") -> "House":
        self.tell(
            "DialBegin",
            Uniqueid="1.0",
            DestUniqueid=uniqueid,
            DestChannel=f"PJSIP/{agent}-0000000{uniqueid[-1]}",
        )
        return self

    def resync(self, ami: ScriptedAmi, since: float = 150.0) -> None:
        done: list[Any] = []

        async def resync() -> None:
            await self.tracker.collect("main", await self.tracker.resync("main", ami, since))

        Deferred.fromCoroutine(resync()).addBoth(done.append)
        assert done == [None]

    def state_of(self, agent: str) -> str:
        return self.roster.view(agent).state


def an_event(name: str, **headers: str) -> Event:
    return Event({"Event": name, "Timestamp": "200.5", **headers})


def listed(uniqueid: str, **more: str) -> Event:
    """An entry of CoreShowChannels."""
    return an_event("CoreShowChannel", Uniqueid=uniqueid, **{"Channel": f"PJSIP/x-{uniqueid}", **more})


def left_in_astdb(uniqueid: str, **fields: str) -> Event:
    given = {"v": "1", "action": "dial", "attempt": "1", **fields}
    value = ",".join(f"{key}={value}" for key, value in given.items())
    return an_event("DBGetTreeResponse", Key=f"/cti/ended/{uniqueid}", Val=value)


def test_a_call_is_followed_from_dial_to_the_last_hangup():
    house = House().offered().dialled()
    house.tell("Newstate", Uniqueid="1.1", ChannelStateDesc="Ringing", Timestamp="201")
    house.tell("DialState", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="RINGING", Timestamp="201.1")
    house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="ANSWER", Timestamp="204")
    assert house.state_of("anna") == "busy"
    house.tell("Hangup", Uniqueid="1.1", Cause="16", Timestamp="214")
    assert house.state_of("anna") == "ready"
    assert house.ended == []
    house.tell("Hangup", Uniqueid="1.0", Cause="16", Timestamp="214.2")

    (record,) = house.ended
    assert (record.outcome, record.agent) == ("answered", "anna")
    assert (record.ringing, record.answered, record.ended) == (201, 204, 214.2)
    assert house.store.events == ["call.ringing", "call.connected", "call.ended"]
    assert len(house.calls) == 0


def test_a_channel_is_found_by_our_id_wherever_it_came_from():
    house = House().offered()
    house.tell("Newstate", Uniqueid="7.7", Channel="PJSIP/ben-00000007", ChanVariable=f"CTI_CALL_ID={CALL}")

    assert house.calls.of_channel("main", "7.7") is house.call
    assert house.call.channels["main", "7.7"].agent == "ben"
    segment = house.call.segments[1]
    assert (segment.agents, segment.rule, segment.result) == (["ben"], None, None), "nobody decided on Ben"


def test_another_asterisks_channel_of_the_same_name_is_another_channel():
    house = House().offered()
    house.tracker.on_event("branch", an_event("Hangup", Uniqueid="1.0", Cause="16"))

    assert not house.call.over


def test_a_caller_who_hangs_up_frees_the_agent_and_takes_the_card_away():
    house = House().offered().dialled()
    house.tell("Newstate", Uniqueid="1.1", ChannelStateDesc="Ringing")
    house.tell("DialEnd", DestUniqueid="1.1", DialStatus="CANCEL")
    house.tell("Hangup", Uniqueid="1.1", Cause="16")
    house.tell("Hangup", Uniqueid="1.0", Cause="127")

    (record,) = house.ended
    assert (record.outcome, record.hangup_cause) == ("missed", 127)
    assert house.state_of("anna") == "ready"
    assert ("unreserved", "anna", CALL) in house.store.units[-1].rows
    assert house.store.events.count("card.withdrawn") == 1


def test_the_agents_who_lost_the_race_are_free_at_once():
    house = House().offered("anna", "ben").dialled("1.1", "anna").dialled("1.2", "ben")
    house.tell("DialEnd", DestUniqueid="1.2", DialStatus="ANSWER")

    assert (house.state_of("anna"), house.state_of("ben")) == ("ready", "busy")


def test_of_several_agents_those_rang_out_whose_phone_rang_and_was_not_refused():
    house = House()
    decision = Decision(Action.DIAL, ("anna", "ben", "cem"), "PJSIP/anna", 20, "all", "all", ())
    house.call.offer_to(RecordingUnit(), 200.0, decision, None, by_rules=True)
    for uniqueid, agent in (("1.1", "anna"), ("1.2", "ben")):
        house.dialled(uniqueid, agent)
        house.tell("Newstate", Uniqueid=uniqueid, ChannelStateDesc="Ringing")
    assert house.call.rang_out == ["anna", "ben"]
    house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.2", DialStatus="BUSY")
    assert house.call.rang_out == ["anna"]
    house.tell("DialEnd", Uniqueid="1.0", DestUniqueid="1.1", DialStatus="ANSWER")
    assert house.call.rang_out == []


def test_an_offer_whose_next_question_never_came_is_over_when_the_fallback_answers():
    house = House().offered().dialled()
    house.tell("DialEnd", DestUniqueid="1.1", DialStatus="NOANSWER")
    house.tell("Hangup", Uniqueid="1.1", Cause="16")
    house.tell("DialBegin", Uniqueid="1.0", DestUniqueid="1.2", DestChannel="PJSIP/reception-00000002")
    house.tell("DialEnd", DestUniqueid="1.2", DialStatus="ANSWER")

    assert house.state_of("anna") == "ready"
    assert (house.call.segments[0].result, house.call.record.agent) == ("no_answer", None)
    assert house.store.events.count("card.withdrawn") == 1


def test_a_local_channel_on_the_way_to_an_agents_phone_is_nobody():
    house = House()
    house.call.send_elsewhere(RecordingUnit(), 101, "fallback")
    house.tell("DialBegin", Uniqueid="1.0", DestUniqueid="1.1", DestChannel="Local/ben@phones-00000001;1")
    house.tell("Newstate", Uniqueid="1.2", Channel="PJSIP/ben-00000002", ChanVariable=f"CTI_CALL_ID={CALL}")
    house.tell("DialEnd", DestUniqueid="1.2", DialStatus="ANSWER")
    house.tell("DialEnd", DestUniqueid="1.1", DialStatus="ANSWER")

    assert house.call.record.agent == "ben"
    assert house.store.events.count("call.connected") == 1


def test_a_channel_that_comes_while_asterisk_is_asked_is_not_taken_for_dead():
    house = House().offered()

    class Busy(ScriptedAmi):
        async def list_action(self, name: str, /, *, complete: str, **fields: str) -> list[Event]:
            if name == "DBGetTree":
                house.dialled()
            return await super().list_action(name, complete=complete, **fields)

    house.resync(Busy(CoreShowChannels=[listed("1.0")]))

    assert house.call.channels["main", "1.1"].ended is None


def test_a_lease_that_ran_out_takes_the_card_away():
    house = House().offered()
    house.clock.advance(60)
    assert house.roster.expire() == [("anna", CALL)]
    away, asking, here = RecordingUnit(), RecordingUnit(), RecordingUnit()
    house.tracker.lease_ran_out(away, "anna", CALL)
    house.tracker.up("main", ScriptedAmi())
    house.tracker.lease_ran_out(asking, "anna", CALL)
    house.resync(ScriptedAmi(CoreShowChannels=[listed("1.0")]))
    house.tracker.lease_ran_out(here, "anna", CALL)

    assert (away.types, asking.types, here.types) == ([], [], ["card.withdrawn"])
    assert house.call.segments[0].result == "lost"


def test_a_phone_that_was_busy_at_once_belongs_to_the_offer_that_is_over_by_now():
    house = House().offered()
    (first,) = house.call.segments
    asking = house.call.channels["main", "1.0"]
    house.call.ask(RecordingUnit(), first.offered + 1, asking, "BUSY")
    an_offer(house.call, "ben")
    house.tell(
        "DialBegin",
        Uniqueid="1.0",
        DestUniqueid="1.1",
        DestChannel="PJSIP/anna-00000001",
        Timestamp=str(first.offered + 0.5),
    )

    assert house.call.channels["main", "1.1"].segment == 1
    assert [segment.agents for segment in house.call.segments] == [("anna",), ("ben",)]


def test_no_call_ends_before_it_began_when_the_clock_is_set():
    house = House().offered().dialled()
    house.tell("DialEnd", DestUniqueid="1.1", DialStatus="ANSWER", Timestamp="90")
    house.tell("Hangup", Uniqueid="1.1", Cause="16", Timestamp="80")
    house.tell("Hangup", Uniqueid="1.0", Cause="16", Timestamp="80")

    (record,) = house.ended
    assert record.started <= (record.answered or 0) <= (record.ended or 0)


def test_old_news_does_no_harm():
    house = House().offered().dialled().dialled()
    for _ in range(2):
        house.tell("DialEnd", DestUniqueid="1.1", DialStatus="ANSWER")
        house.tell("Hangup", Uniqueid="1.1", Cause="16")
    house.tell("Hangup", Uniqueid="1.0", Cause="16")
    house.tell("Hangup", Uniqueid="1.0", Cause="16")
    house.tell("DialEnd", DestUniqueid="1.1", DialStatus="ANSWER")

    assert len(house.ended) == 1
    assert house.store.events.count("call.connected") == 1


def test_the_end_of_a_channel_that_nobody_asked_about_yet_is_remembered():
    house = House()
    house.tell("Hangup", Uniqueid="5.5", Cause="16")

    assert house.tracker.was_hung_up("main", "5.5")
    assert not house.tracker.was_hung_up("branch", "5.5")


def test_strangers_are_not_remembered_for_ever():
    house = House()
    for number in range(3000):
        house.tell("Hangup", Uniqueid=f"9.{number}", Cause="16")

    assert not house.tracker.was_hung_up("main", "9.0")
    assert house.tracker.was_hung_up("main", "9.2999")


def test_events_without_their_headers_are_passed_over():
    house = House().offered()
    for name in (
        "Newchannel",
        "Newstate",
        "DialBegin",
        "DialState",
        "DialEnd",
        "Hangup",
        "DeviceStateChange",
    ):
        house.tracker.on_event("main", Event({"Event": name}))

    assert house.call.state is State.OFFERED


def test_what_the_phone_says_of_itself_reaches_the_roster():
    house = House()
    house.tell("DeviceStateChange", Device="PJSIP/anna", State="INUSE")

    assert house.roster.agents["anna"].why_not == "PJSIP/anna is in use"


# After an outage.


def test_a_call_that_asterisk_still_lists_lives_on():
    house = House().offered().dialled()
    house.resync(ScriptedAmi(CoreShowChannels=[listed("1.0"), listed("1.1")]))

    assert not house.call.over


def test_a_call_whose_channels_are_gone_is_closed_by_what_the_dialplan_left():
    house = House().offered().dialled()
    ami = ScriptedAmi(
        DBGetTree=[left_in_astdb("1.0", call=CALL, ended="240", cause="16", dialstatus="ANSWER", talked="30")]
    )
    house.tracker.up("main", ami)
    house.resync(ami)

    (record,) = house.ended
    assert (record.outcome, record.agent, record.answered, record.ended) == ("answered", "anna", 210, 240)
    assert record.hangup_cause == 16
    assert house.state_of("anna") == "ready"
    assert ("DBDel", {"Family": "cti/ended", "Key": "1.0"}) in ami.actions


def test_a_call_does_not_end_before_what_is_known_of_the_second_in_which_it_ended():
    house = House().offered()
    (offered,) = [segment.offered for segment in house.call.segments]
    word = left_in_astdb("1.0", call=CALL, ended=f"{offered - 0.7}", dialstatus="ANSWER", talked="0")
    house.resync(ScriptedAmi(DBGetTree=[word]))

    (record,) = house.ended
    (segment,) = house.call.segments
    assert (record.answered, record.ended, segment.ended) == (offered, offered, offered)
    assert all((channel.ended or 0) >= channel.began for channel in house.call.channels.values())


@pytest.mark.parametrize(
    ("status", "outcome", "result"), [("CANCEL", "missed", "abandoned"), ("NOANSWER", "missed", "no_answer")]
)
def test_an_unseen_ringing_is_believed(status, outcome, result):
    house = House().offered()
    house.resync(
        ScriptedAmi(DBGetTree=[left_in_astdb("1.0", call=CALL, ended="190", cause="16", dialstatus=status)])
    )

    (record,) = house.ended
    assert (record.outcome, house.call.segments[0].result) == (outcome, result)


def test_who_left_unseen_before_anything_was_dialled_has_abandoned_the_call():
    house = House()
    house.resync(
        ScriptedAmi(DBGetTree=[left_in_astdb("1.0", call=CALL, ended="210", action="", dialstatus="")])
    )

    assert house.ended[0].outcome == "abandoned"


def test_a_word_that_the_dialplan_went_its_own_way_ends_the_offer_without_the_agent():
    house = House().offered()
    word = left_in_astdb(
        "1.0", call=CALL, ended="190", cause="16", action="", dialstatus="ANSWER", talked="30"
    )
    house.resync(ScriptedAmi(DBGetTree=[word]))

    (record,) = house.ended
    assert (record.outcome, record.agent) == ("answered", None)
    assert house.call.segments[0].result == "failed"
    assert house.state_of("anna") == "ready"


def test_without_a_word_a_lost_call_ends_when_asterisk_was_lost():
    house = House().offered().dialled()
    house.tell("DialEnd", DestUniqueid="1.1", DialStatus="ANSWER", Timestamp="120")
    house.resync(ScriptedAmi(), since=150.0)

    (record,) = house.ended
    assert (record.outcome, record.ended) == ("answered", pytest.approx(200.5))
    assert house.state_of("anna") == "ready"


def test_an_offer_that_asterisk_forgot_is_lost():
    house = House().offered()
    house.resync(ScriptedAmi(), since=150.0)

    assert house.ended[0].ended == 150.0
    assert house.call.segments[0].result == "lost"


def test_an_answer_nobody_saw_is_taken_from_the_list():
    house = House().offered().dialled()
    anna = listed("1.1", Channel="PJSIP/anna-00000001", BridgeId="b")
    house.resync(ScriptedAmi(CoreShowChannels=[listed("1.0", BridgeId="b"), anna]))

    assert house.call.state is State.CONNECTED
    assert house.state_of("anna") == "busy"


def test_an_answer_nobody_saw_is_known_from_a_phone_that_has_just_left_the_bridge():
    house = House().offered().dialled()
    house.resync(ScriptedAmi(CoreShowChannels=[listed("1.0"), listed("1.1", ChannelStateDesc="Up")]))
    house.tell("Hangup", Uniqueid="1.1", Cause="16")
    house.tell("Hangup", Uniqueid="1.0", Cause="16")

    assert (house.ended[0].outcome, house.ended[0].agent) == ("answered", "anna")


def test_a_phone_that_began_to_ring_unseen_is_known_from_the_list():
    house = House().offered().dialled()
    house.resync(ScriptedAmi(CoreShowChannels=[listed("1.0"), listed("1.1", ChannelStateDesc="Ringing")]))
    house.tell("Hangup", Uniqueid="1.1", Cause="127")
    house.tell("Hangup", Uniqueid="1.0", Cause="127")

    assert house.ended[0].outcome == "missed"


def test_new_channels_of_known_calls_are_taken_in_by_our_id():
    house = House().offered()
    house.resync(
        ScriptedAmi(CoreShowChannels=[listed("1.0"), listed("1.9", ChanVariable=f"CTI_CALL_ID={CALL}")])
    )

    assert ("main", "1.9") in house.call.channels


def test_an_end_that_nobody_was_asked_about_gets_its_record_and_is_cleared_away():
    house = House()
    ami = ScriptedAmi(
        CoreShowChannels=[listed("1.0")],
        DBGetTree=[left_in_astdb("8.8", did="494066969100", ended="190"), left_in_astdb("9.9", call=CALL)],
    )
    house.store.closed_channels["main", "9.9"] = CALL
    house.tracker.up("main", ami)
    house.resync(ami)

    assert [known.uniqueid for known in house.unseen] == ["8.8"]
    assert sorted(fields["Key"] for name, fields in ami.actions if name == "DBDel") == ["8.8", "9.9"]


@pytest.mark.parametrize(
    ("left", "outcome", "result"),
    [
        ({"asking": "route", "last": "NOANSWER", "dialstatus": "NOANSWER"}, "missed", "no_answer"),
        ({"asking": "route", "last": "CHANUNAVAIL", "dialstatus": "CHANUNAVAIL"}, "abandoned", "failed"),
        # The question was not answered, and the fallback's phone rang or did not.
        ({"asking": "", "last": "NOANSWER", "dialstatus": "CANCEL"}, "missed", "no_answer"),
        ({"asking": "", "last": "BUSY", "dialstatus": "CANCEL"}, "fallback", "busy"),
        ({"asking": "", "last": "NOANSWER", "dialstatus": "ANSWER", "talked": "3"}, "answered", "no_answer"),
        # A dialplan of before does not say how it stood when it asked.
        ({"dialstatus": "CANCEL"}, "fallback", "no_answer"),
    ],
)
def test_what_became_of_an_offer_is_told_by_the_question_after_it(left, outcome, result):
    house = House().offered()
    house.tracker.up(
        "main",
        ScriptedAmi(DBGetTree=[left_in_astdb("1.0", call=CALL, ended="190", action="", attempt="2", **left)]),
    )
    house.resync(house.tracker._amis["main"])

    (record,) = house.ended
    assert (record.outcome, house.call.segments[0].result) == (outcome, result)
    assert record.agent is None
    assert (record.ringing is not None) == (left.get("last") == "NOANSWER")


@pytest.mark.parametrize(("before", "rang"), [(True, False), (False, True)], ids=["watched", "not watched"])
def test_a_phone_that_nobody_watched_and_that_was_not_answered_in_time_has_rung(before, rang):
    house = House()
    if before:
        house.resync(ScriptedAmi(CoreShowChannels=[listed("1.0")]))
    house.offered()
    house.call.segments[0].offered = 201.0
    house.tracker.was_not_taken(RecordingUnit(), "main", "1.0", house.call)
    assert (house.call.record.ringing is not None) == rang
    assert (house.call.segments[0].ringing is not None) == rang


def test_who_called_and_left_while_the_fallback_rang_is_no_caller_who_left_before():
    house = House()
    left = left_in_astdb("1.0", call=CALL, ended="190", action="", asking="", last="", dialstatus="CANCEL")
    house.resync(ScriptedAmi(DBGetTree=[left]))

    (record,) = house.ended
    assert record.outcome == "fallback"


def test_who_left_before_the_answer_was_whole_has_left_before_anybody_rang():
    house = House().offered()
    left = left_in_astdb("1.0", call=CALL, ended="190", action="", asking="route", last="", dialstatus="")
    house.resync(ScriptedAmi(DBGetTree=[left]))

    (record,) = house.ended
    assert (record.outcome, house.call.segments[0].result) == ("abandoned", "abandoned")


@pytest.mark.parametrize(("kind", "read"), [("unavailable", ["9.9"]), ("withheld", []), ("e164", [])])
def test_who_called_is_read_in_astdb_where_the_server_was_killed_before_it_had_asked(kind, read):
    house = House()
    other = "01930000-0000-7000-8000-000000000002"
    record = evolve(house.call.record, id=other, uniqueid="9.9", from_kind=kind)
    house.store.details[other] = CallDetail(record, [], [], [], [], [], [])
    house.store.closed_channels["main", "9.9"] = other
    ami = ScriptedAmi(
        CoreShowChannels=[listed("1.0")],
        DBGetTree=[left_in_astdb("9.9", **{"from": "03023125001"}, ended="190")],
    )
    house.tracker.up("main", ami)
    house.resync(ami)

    assert [known.uniqueid for known in house.unseen] == read
    assert [fields["Key"] for name, fields in ami.actions if name == "DBDel"] == ["9.9"]


def test_ends_are_taken_in_several_at_a_time_but_those_of_one_call_one_after_the_other():
    house = House()
    waiting: list[Deferred[None]] = []

    async def slow(_pbx: str, known: EndedRecord) -> None:
        house.unseen.append(known)
        waiting.append(Deferred())
        await waiting[-1]

    house.tracker._unseen = slow
    other = "01930000-0000-7000-8000-000000000002"
    words = [
        left_in_astdb("7.0", call="", ended="210"),
        left_in_astdb("7.1", call=other, ended="210"),
        left_in_astdb("7.2", call=other, ended="210"),
        left_in_astdb("7.3", call="", ended="210"),
    ]
    ami = ScriptedAmi(DBGetTree=words)
    Deferred.fromCoroutine(house.tracker.sweep("main", ami))

    assert [known.uniqueid for known in house.unseen] == ["7.0", "7.1", "7.3"]
    for each in waiting:
        each.callback(None)
    ami.lists["DBGetTree"] = words[2:3]
    Deferred.fromCoroutine(house.tracker.sweep("main", ami))
    assert house.unseen[-1].uniqueid == "7.2"


def test_the_word_about_a_call_that_lives_is_left_for_its_hangup():
    house = House()
    ami = ScriptedAmi(CoreShowChannels=[listed("1.0")], DBGetTree=[left_in_astdb("1.0", call=CALL)])
    house.tracker.up("main", ami)
    house.resync(ami)

    assert house.unseen == []
    assert ami.actions == []


def test_a_sweep_holds_on_to_agents_in_living_calls():
    house = House().offered().dialled()
    house.tell("DialEnd", DestUniqueid="1.1", DialStatus="ANSWER")
    house.clock.advance(70)
    Deferred.fromCoroutine(house.tracker.sweep("main", ScriptedAmi()))
    house.clock.advance(70)

    assert house.roster.expire() == []
    house.clock.advance(20)
    assert house.roster.expire() == [("anna", CALL)]


def test_a_restored_call_is_closed_like_any_other():
    house = House()
    house.roster.restore(ReservationRecord("anna", CALL, 1, 300, connected=True))
    restored = LiveCall(house.call.record, house.call.segments, house.call.channels, action="fallback")
    house.calls.keep(restored)
    house.resync(ScriptedAmi(), since=150.0)

    assert house.ended[0].outcome == "fallback"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",,,",
        "v=1",
        "call=x,ended=soon,cause=many,talked=-1",
        "ended=1e999,started=0x10",
        "=,==,a=b=c",
        "cause=²,attempt=²",
        "\x00",
    ],
)
def test_a_word_in_astdb_that_makes_no_sense_is_read_as_nothing(text):
    known = EndedRecord.of("1.0", text)

    assert (known.call, known.ended, known.cause, known.talked) == (None, None, None, None)
