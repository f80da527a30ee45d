"""The mirror of an Asterisk's channels: what each event changes, and waiting for it."""

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from cti.asterisk import channels as channels_module
from cti.asterisk.ami_parser import Event
from cti.asterisk.channels import Channels, NotConfirmed, device_of


class Mirror:
    """Channels that are told events, in short."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.channels = Channels(self.clock)

    def hears(self, name: str, **headers: str) -> None:
        self.channels.take(an_event(name, **headers))
        self.channels.tell()

    def has(self, uniqueid: str, name: str, state: str = "Up", **more: str) -> None:
        self.hears("Newchannel", Uniqueid=uniqueid, Channel=name, ChannelStateDesc=state, **more)

    def bridges(self, bridge: str, *uniqueids: str) -> None:
        for uniqueid in uniqueids:
            self.hears("BridgeEnter", Uniqueid=uniqueid, BridgeUniqueid=bridge)

    def names_in(self, bridge: str) -> list[str]:
        return [channel.uniqueid for channel in self.channels.in_bridge(bridge)]


def an_event(name: str, variables: tuple[str, ...] = (), **headers: str) -> Event:
    repeated = {"ChanVariable": variables} if variables else {}
    return Event({"Event": name, **headers}, repeated=repeated)


def outcome(deferred: "Deferred[Any]") -> list[Any]:
    """What it has come to, if it has."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


@pytest.fixture
def mirror():
    return Mirror()


def test_a_channel_is_known_by_uniqueid_by_name_and_by_its_device(mirror):
    mirror.has("1.1", "PJSIP/anna-mobil-0000001f", "Ringing", CallerIDNum="17", Exten="s", Context="phones")

    channel = mirror.channels.get("1.1")
    assert (channel.device, channel.state, channel.up) == ("PJSIP/anna-mobil", "Ringing", False)
    assert (channel.number, channel.exten, channel.context) == ("17", "s", "phones")
    assert mirror.channels.named("PJSIP/anna-mobil-0000001f") is channel
    assert mirror.channels.of_device("PJSIP/anna-mobil") == [channel]
    assert mirror.channels.of_device("PJSIP/anna") == []
    assert (len(mirror.channels), list(mirror.channels)) == (1, [channel])


def test_the_state_changes_and_the_way_it_came_does_not(mirror):
    mirror.has("1.1", "PJSIP/anna-1", "Ring", Exten="49", Context="from-trunk", CallerIDNum="0171")

    mirror.hears(
        "Newstate",
        Uniqueid="1.1",
        Channel="PJSIP/anna-1",
        ChannelStateDesc="Up",
        Exten="s",
        Context="other",
        CallerIDNum="<unknown>",
    )

    channel = mirror.channels.get("1.1")
    assert (channel.up, channel.exten, channel.context, channel.number) == (True, "49", "from-trunk", "0171")


def test_a_device_without_a_dash_is_its_channel_s_whole_name():
    assert device_of("PJSIP/anna-0000001f") == "PJSIP/anna"
    assert device_of("Surrogate") == "Surrogate"


def test_who_was_dialled_by_whom_and_how(mirror):
    mirror.has("1.1", "PJSIP/trunk-1")

    mirror.hears(
        "DialBegin",
        Uniqueid="1.1",
        Channel="PJSIP/trunk-1",
        DestUniqueid="1.2",
        DestChannel="PJSIP/trunk-2",
        DestChannelStateDesc="Down",
        DialString="0171@trunk",
    )

    dialled = mirror.channels.get("1.2")
    assert (dialled.dialled, dialled.dialled_by, dialled.state) == ("PJSIP/0171@trunk", "1.1", "Down")


def test_an_originated_channel_is_dialled_by_nobody(mirror):
    mirror.hears("DialBegin", DestUniqueid="1.2", DestChannel="PJSIP/anna-2", DialString="anna")

    assert mirror.channels.get("1.2").dialled_by is None


def test_the_halves_of_a_local_channel_know_each_other(mirror):
    mirror.has("1.1", "Local/21@x-1;1")
    mirror.has("1.2", "Local/21@x-1;2")

    mirror.hears("LocalBridge", LocalOneUniqueid="1.1", LocalTwoUniqueid="1.2")
    mirror.hears("LocalBridge", LocalOneUniqueid="1.1", LocalTwoUniqueid="never seen")

    assert mirror.channels.get("1.1").other_half == "1.2"
    assert mirror.channels.get("1.2").other_half == "1.1"


def test_a_masquerade_gives_another_name_to_the_same_channel(mirror):
    mirror.has("1.1", "PJSIP/anna-1")
    mirror.has("1.2", "PJSIP/ben-2")

    mirror.hears("Rename", Uniqueid="1.1", Newname="PJSIP/anna-1<MASQ>")
    mirror.hears("Rename", Uniqueid="1.2", Newname="PJSIP/anna-1")
    mirror.hears("Rename", Uniqueid="1.1", Newname="PJSIP/ben-2<ZOMBIE>")
    mirror.hears("Hangup", Uniqueid="1.1", Channel="PJSIP/ben-2<ZOMBIE>")

    assert mirror.channels.named("PJSIP/anna-1").uniqueid == "1.2"
    assert mirror.channels.named("PJSIP/ben-2") is None
    assert [channel.uniqueid for channel in mirror.channels] == ["1.2"]


def test_bridges_are_left_one_by_one_and_all_at_once(mirror):
    for number in (1, 2, 3):
        mirror.has(f"1.{number}", f"PJSIP/phone-{number}")
    mirror.bridges("b", "1.1", "1.2", "1.3")
    assert mirror.names_in("b") == ["1.1", "1.2", "1.3"]
    assert [partner.uniqueid for partner in mirror.channels.partners("1.2")] == ["1.1", "1.3"]

    mirror.hears("BridgeLeave", Uniqueid="1.1", BridgeUniqueid="b")
    mirror.hears("BridgeLeave", Uniqueid="1.2", BridgeUniqueid="another one, left before")
    assert mirror.names_in("b") == ["1.2", "1.3"]
    assert mirror.channels.partners("1.1") == []

    mirror.hears("BridgeDestroy", BridgeUniqueid="b")
    assert mirror.names_in("b") == []
    assert mirror.channels.get("1.3").bridge is None


def test_who_enters_a_second_bridge_has_left_the_first(mirror):
    mirror.has("1.1", "PJSIP/phone-1")
    mirror.has("1.2", "PJSIP/phone-2")
    mirror.bridges("b", "1.1", "1.2")

    mirror.bridges("c", "1.1")

    assert (mirror.names_in("b"), mirror.names_in("c")) == (["1.2"], ["1.1"])


def test_who_hangs_up_is_in_no_bridge_any_more(mirror):
    mirror.has("1.1", "PJSIP/phone-1")
    mirror.bridges("b", "1.1")

    mirror.hears("Hangup", Uniqueid="1.1", Channel="PJSIP/phone-1")

    assert mirror.channels.get("1.1") is None
    assert mirror.channels.named("PJSIP/phone-1") is None
    assert mirror.names_in("b") == []


def test_hold_and_the_variables_of_a_channel(mirror):
    mirror.channels.take(
        an_event("Newchannel", ("CTI_CALL_ID=c-1", "OTHER=a=b"), Uniqueid="1.1", Channel="PJSIP/anna-1")
    )
    mirror.hears("Hold", Uniqueid="1.1")
    assert mirror.channels.get("1.1").on_hold
    mirror.hears("Unhold", Uniqueid="1.1")

    assert not mirror.channels.get("1.1").on_hold
    assert mirror.channels.get("1.1").variables == {"CTI_CALL_ID": "c-1", "OTHER": "a=b"}


@pytest.mark.parametrize(
    "name", ["Newchannel", "Newstate", "Rename", "DialBegin", "BridgeEnter", "BridgeLeave", "Hold", "Hangup"]
)
def test_an_event_without_what_it_should_have_changes_nothing(mirror, name):
    mirror.hears(name)
    mirror.hears(name, Uniqueid="", DestUniqueid="")

    assert len(mirror.channels) == 0


def test_events_that_nobody_mirrors_are_passed_over(mirror):
    mirror.hears("VarSet", Uniqueid="1.1", Channel="PJSIP/anna-1")

    assert len(mirror.channels) == 0


def test_beyond_the_limit_the_oldest_is_forgotten(mirror, monkeypatch):
    monkeypatch.setattr(channels_module, "MAX_CHANNELS", 2)

    for number in (1, 2, 3):
        mirror.has(f"1.{number}", f"PJSIP/phone-{number}")

    assert [channel.uniqueid for channel in mirror.channels] == ["1.2", "1.3"]


def test_after_an_outage_the_list_counts_and_what_it_does_not_tell_is_kept(mirror):
    mirror.has("1.1", "PJSIP/anna-1", Exten="49", Context="from-trunk")
    mirror.has("1.2", "PJSIP/gone-2")
    mirror.bridges("b", "1.1", "1.2")
    mirror.hears("Hold", Uniqueid="1.1")

    entries = [
        {"Uniqueid": "1.1", "Channel": "PJSIP/anna-1", "ChannelStateDesc": "Up", "BridgeId": "c"},
        {"Uniqueid": "1.3", "Channel": "PJSIP/new-3", "ChannelStateDesc": "Up", "BridgeId": "c"},
        {"Channel": "without a uniqueid"},
    ]
    mirror.channels.replace(an_event("CoreShowChannel", **entry) for entry in entries)

    anna = mirror.channels.get("1.1")
    assert (anna.context, anna.on_hold, anna.bridge) == ("from-trunk", True, "c")
    assert mirror.names_in("c") == ["1.1", "1.3"]
    assert (mirror.names_in("b"), mirror.channels.get("1.2"), mirror.channels.named("PJSIP/gone-2")) == (
        [],
        None,
        None,
    )


def test_waiting_ends_at_once_if_it_is_so_already(mirror):
    assert outcome(mirror.channels.until(lambda: "so", 5, "it is so")) == ["so"]


def test_waiting_ends_when_everybody_has_been_told_and_not_before(mirror):
    waiting = outcome(mirror.channels.until(lambda: mirror.channels.get("1.1"), 5, "it is there"))

    mirror.channels.take(an_event("Newchannel", Uniqueid="1.1", Channel="PJSIP/anna-1"))
    assert waiting == []
    mirror.channels.tell()

    assert [channel.uniqueid for channel in waiting] == ["1.1"]
    assert mirror.clock.getDelayedCalls() == []


def test_waiting_in_vain_ends_with_what_was_waited_for(mirror):
    waiting = outcome(mirror.channels.until(lambda: None, 5, "pigs fly"))

    mirror.clock.advance(4.9)
    assert waiting == []
    mirror.clock.advance(0.2)

    assert waiting[0].check(NotConfirmed)
    assert str(waiting[0].value) == "Asterisk did not confirm in time that pigs fly"
    mirror.has("1.1", "PJSIP/anna-1")


def test_a_wish_that_fails_is_told_to_who_waits_and_to_nobody_else(mirror):
    def fails() -> None:
        raise KeyError("lost")

    # It is asked at once, and must survive that.
    answers = iter([None])
    failing = outcome(
        mirror.channels.until(lambda: next(answers, None) or (len(mirror.channels) and fails()), 5, "x")
    )
    other = outcome(mirror.channels.until(lambda: mirror.channels.get("1.1"), 5, "y"))

    mirror.has("1.1", "PJSIP/anna-1")

    assert failing[0].check(KeyError)
    assert other == [mirror.channels.get("1.1")]


def test_who_gives_up_waiting_leaves_nothing_behind(mirror):
    for waiting in (
        mirror.channels.until(lambda: None, 5, "x"),
        mirror.channels.until_event(lambda event: True, 5, "x"),
    ):
        results = outcome(waiting)
        waiting.cancel()
        assert results[0].check(CancelledError)

    assert mirror.clock.getDelayedCalls() == []
    mirror.has("1.1", "PJSIP/anna-1")


def test_who_waits_may_wait_again_or_give_up_another_when_told(mirror):
    second = mirror.channels.until(lambda: mirror.channels.get("1.2"), 5, "x")
    cancelled = outcome(second)
    later: list[Any] = []

    def told(_: object) -> None:
        second.cancel()
        mirror.channels.until(lambda: mirror.channels.get("1.2"), 5, "y").addCallback(later.append)

    mirror.channels.until(lambda: mirror.channels.get("1.1"), 5, "z").addCallback(told)
    mirror.has("1.1", "PJSIP/anna-1")
    mirror.has("1.2", "PJSIP/ben-2")

    assert cancelled[0].check(CancelledError)
    assert [channel.uniqueid for channel in later] == ["1.2"]


def test_an_event_is_waited_for_from_now_on_and_the_first_counts(mirror):
    mirror.hears("ParkedCall", ParkeeUniqueid="1.1", ParkingSpace="700")
    parked = outcome(mirror.channels.until_event(lambda event: event.name == "ParkedCall", 5, "it is parked"))
    late = outcome(mirror.channels.until_event(lambda event: event.name == "Never", 5, "it comes"))

    mirror.hears("Hold", Uniqueid="1.1")
    assert parked == []
    mirror.channels.take(an_event("ParkedCall", ParkingSpace="701"))
    mirror.channels.take(an_event("ParkedCall", ParkingSpace="702"))
    mirror.channels.tell()
    mirror.clock.advance(5)

    assert [event.get("ParkingSpace") for event in parked] == ["701"]
    assert late[0].check(NotConfirmed)


def test_who_cannot_judge_an_event_is_told_and_the_event_is_everybody_s(mirror):
    failing = outcome(mirror.channels.until_event(lambda event: bool(event["Missing"]), 5, "x"))

    mirror.has("1.1", "PJSIP/anna-1")

    assert failing[0].check(KeyError)
    assert mirror.channels.get("1.1").up
    assert mirror.clock.getDelayedCalls() == []


def test_out_of_sight_nothing_is_known_and_nobody_waits(mirror):
    mirror.has("1.1", "PJSIP/anna-1")
    mirror.bridges("b", "1.1")
    waiting = outcome(mirror.channels.until(lambda: None, 5, "x"))
    hearing = outcome(mirror.channels.until_event(lambda event: True, 5, "x"))

    mirror.channels.forget_all()

    assert (len(mirror.channels), mirror.names_in("b"), mirror.channels.named("PJSIP/anna-1")) == (
        0,
        [],
        None,
    )
    assert waiting[0].check(NotConfirmed)
    assert hearing[0].check(NotConfirmed)
    assert mirror.clock.getDelayedCalls() == []
