"""Call control on a real Asterisk: what each operation does to callers and phones, and what they are left with."""

from __future__ import annotations

import array
import contextlib
import itertools
import re
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cti.asterisk.pbx import NotDone, NotPossible, Refused
from lab.company import AnAgent, Company
from lab.laboratory import Answers, Busy, Call, Lab, Phone, eventually
from lab.sipp import Handset
from tests.asterisk.control import Control

ROOT = Path(__file__).parents[2]
CUSTOMER = "+4915228817386"
OFFICE = "+494066969100"
#: Seconds from what SIPp has sent until it listens to the next NOTIFY; 8 ms were too few on a busy machine.
AFTER_SENDING = 0.2

# From outside Anna is rung. 21 is Ben, 22 Carla, 23 nobody, 24 is busy, 25 a capable phone; 0… leaves the house.
EXTENSIONS = """
[globals]
CTI_SERVER = 127.0.0.1:1
CTI_FALLBACK = front,s,1
CTI_OUTBOUND = way-out

[from-trunk]
exten => _X.,1,Goto(cti-inbound,${EXTEN},1)

[way-out]
exten => 21,1,Dial(PJSIP/ben,30)
 same => n,Hangup()
exten => 22,1,Dial(PJSIP/carla,30)
 same => n,Hangup()
exten => 23,1,Hangup(1)
exten => 24,1,Dial(PJSIP/dora,30)
 same => n,Hangup()
exten => 25,1,Dial(PJSIP/emil,30)
 same => n,Hangup()
exten => _0.,1,Dial(PJSIP/${EXTEN}@trunk,30)
 same => n,Hangup()

[queue]
exten => 7,1,Answer()
 same => n,MusicOnHold()

[front]
; No server answers here, so that each call comes to its fallback; who comes again gets somebody else.
exten => s,1,Set(TIMES=$[0${TIMES} + 1])
 same => n,GotoIf($[${TIMES} > 1]?again)
 same => n,Dial(PJSIP/anna,30)
 same => n,Hangup()
 same => n(again),Dial(PJSIP/reception,30)
 same => n,Hangup()
"""


class House:
    """An Asterisk with our dialplan, four phones and a line; the first call reaches Anna."""

    def __init__(self, lab: Lab, pbx: Any, control: Control, phones: dict[str, Phone]) -> None:
        self.lab, self.pbx, self.control, self.phones = lab, pbx, control, phones

    def a_call(self) -> tuple[Call, str, str]:
        """A customer who talks to Anna: their call, her channel, theirs."""
        call = self.lab.call(self.pbx, "494066969100", from_number=CUSTOMER)
        anna = self.control.phone("PJSIP/anna", up=True)
        customer = self.control.phone("PJSIP/trunk", up=True)
        eventually(lambda: self.control.together(anna, customer), 10, what="the conversation")
        return call, anna, customer

    def a_call_at_a_capable_phone(self) -> tuple[Call, str, str]:
        """A customer who rings Emil: their call, his channel, theirs."""
        call, _anna, customer = self.a_call()
        rung = len(self.phones["emil"].invites)
        self.control.do("single_step_transfer", customer, "way-out,25,1")
        emil = self.control.phone("PJSIP/emil", up=False)
        eventually(lambda: len(self.phones["emil"].invites) > rung, 10, what="the call at the phone itself")
        self.phone_has_sent("emil", "180")
        return call, emil, customer

    def phone_has_sent(self, name: str, word: str) -> None:
        """SIPp cannot yet be told of anything else while it is still sending that, nor for a moment after it."""

        def sent() -> bool:
            return any(m.sent and word in (m.method, str(m.status)) for m in self.phones[name].leg.messages)

        eventually(sent, 10, what=f"{word} from {name}")
        time.sleep(AFTER_SENDING)

    def hears(self, listener: Handset, speaker: Handset, key: str) -> bool:
        """Whether a key that is pressed at one phone is heard at the other; no is only sure after a second."""
        before = listener.heard
        speaker.press(key)
        try:
            return eventually(lambda: listener.heard == before + key, 1, what="the key")
        except TimeoutError:
            return False

    def goes_on(self, call: Call) -> bool:
        return call.result.ended is None

    def ends(self, call: Call) -> None:
        """The caller hangs up, and nothing is left in the Asterisk."""
        call.hang_up()
        eventually(lambda: not self.channels(), 15, what="an empty house")

    def channels(self) -> list[str]:
        return self.control.ask(lambda: [channel.uniqueid for channel in self.control.channels])

    def is_emptied(self) -> None:
        """What a test that failed has left must not be the next one's."""
        for uniqueid in self.channels():
            self.control.do("clear_connection", uniqueid)
        eventually(lambda: not self.channels(), 15, what="an empty house")


@contextmanager
def a_house(directory: Path) -> Iterator[House]:
    with Lab(directory) as lab:
        people = {
            "anna": Answers(),
            "ben": Answers(),
            "carla": Answers(after_ms=None),
            "dora": Busy(),
            "emil": Answers(after_ms=None, capable=True, auto_answer=True),
            "reception": Answers(),
        }
        phones = {name: lab.phone(name, how) for name, how in people.items()}
        line = lab.phone("line", Answers(after_ms=200))
        pbx = lab.asterisk(
            extensions=EXTENSIONS,
            dialplan_files=[ROOT / "dialplan" / "cti.conf"],
            manager=(ROOT / "asterisk-conf" / "manager.conf").read_text(encoding="utf-8"),
            phones=[*phones.values()],
            trunk=line,
        )
        phones["line"] = line
        with Control(pbx, capable=lambda phone: phone == "PJSIP/emil") as control:
            yield House(lab, pbx, control, phones)


@pytest.fixture(scope="module")
def one_house(tmp_path_factory):
    with a_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def house(one_house):
    yield one_house
    one_house.is_emptied()


def test_the_agent_s_phone_is_rung_first_and_then_the_customer_is_called_by_the_office(house):
    control = house.control
    before = len(house.phones["line"].invites)

    anna = control.do(
        "make_call",
        "PJSIP/anna",
        "0049152",
        variables={"__CTI_CALL_ID": "c-17", "CTI_NOTE": 'a "b", (c] \\ d=e'},
        caller_id=("Katja Brandt", CUSTOMER),
        office_number=OFFICE,
        auto_answer=True,
    )

    rung = house.phones["anna"].invites[-1]
    assert (rung.from_name, rung.from_number) == ("Katja Brandt", CUSTOMER)
    assert "answer-after=0" in rung.header("Call-Info")
    customer = control.phone("PJSIP/trunk", up=True)
    eventually(lambda: control.together(anna, customer), 10, what="the conversation")
    called = house.phones["line"].invites[before]
    assert (called.to_number, called.from_number) == ("0049152", OFFICE)
    assert called.from_name != "Katja Brandt"
    assert called.header("Call-Info") is None
    assert control.ask(lambda: control.channels.get(customer).variables["CTI_CALL_ID"]) == "c-17"
    assert 'CTI_NOTE=a "b", (c] \\ d=e\n' in house.pbx.cli(
        f"core show channel {control.phones('PJSIP/anna')[0].name}"
    )
    control.do("clear_connection", anna)
    eventually(lambda: not control.phones("PJSIP/trunk"), 10, what="the end of the customer's call")


def test_hold_gives_music_and_retrieve_brings_both_together(house):
    call, anna, customer = house.a_call()

    house.control.do("hold_call", anna)
    assert not house.control.together(anna, customer)
    assert not house.hears(call, house.phones["anna"], "1")
    assert re.search("StartMusicOnHold.*", house.pbx.log("Executing.*@cti-control-hold:1")[-1].text)
    house.control.do("retrieve_call", anna)

    assert house.control.together(anna, customer)
    assert house.hears(call, house.phones["anna"], "2")
    assert house.hears(house.phones["anna"], call, "3")
    house.ends(call)


def test_who_is_fetched_from_hold_keeps_their_channel(house):
    """Of one in its place (a masquerade), which counts as a call, Asterisk 22 may keep the remains for ever."""
    call, anna, _customer = house.a_call()
    house.control.do("hold_call", anna)
    house.control.do("retrieve_call", anna)
    before = calls_processed(house)

    for _ in range(3):
        house.control.do("hold_call", anna)
        house.control.do("retrieve_call", anna)

    assert calls_processed(house) == before
    house.ends(call)


def calls_processed(house):
    (count,) = re.findall(r"(\d+) calls? processed", house.pbx.cli("core show channels"))
    return count


def test_whose_agent_has_gone_while_on_hold_reaches_somebody_else(house):
    call, anna, customer = house.a_call()
    house.control.do("hold_call", anna)

    house.control.do("clear_connection", anna)

    reception = house.control.phone("PJSIP/reception", up=True)
    eventually(lambda: house.control.together(reception, customer), 10, what="somebody else")
    house.ends(call)


def test_an_agent_whose_customer_gives_up_on_hold_is_freed(house):
    call, anna, _customer = house.a_call()
    house.control.do("hold_call", anna)

    house.ends(call)


def test_consult_alternate_and_reconnect(house):
    control = house.control
    call, anna, customer = house.a_call()

    consulted = control.do("consultation_call", anna, "21", variables={"__CTI_CALL_ID": "c-2"})
    ben = control.phone("PJSIP/ben", up=True)
    assert consulted == ben
    eventually(lambda: control.together(anna, ben), 10, what="the consultation")
    control.do("alternate_call", anna)
    assert control.together(anna, customer)
    assert control.ask(lambda: control.channels.get(ben).up)
    control.do("alternate_call", anna)
    assert control.together(anna, ben)
    control.do("reconnect_call", anna)

    assert control.together(anna, customer)
    eventually(lambda: not control.phones("PJSIP/ben"), 10, what="Ben being released")
    house.ends(call)


def test_reconnect_after_alternating_releases_the_consulted_and_not_the_customer(house):
    control = house.control
    call, anna, customer = house.a_call()
    control.do("consultation_call", anna, "21")
    ben = control.phone("PJSIP/ben", up=True)
    eventually(lambda: control.together(anna, ben), 10, what="the consultation")
    control.do("alternate_call", anna)

    control.do("reconnect_call", anna)

    assert control.together(anna, customer)
    eventually(lambda: not control.phones("PJSIP/ben"), 10, what="Ben being released")
    house.ends(call)


def test_when_the_consulted_hangs_up_the_customer_still_waits_for_the_agent(house):
    control = house.control
    call, anna, customer = house.a_call()
    control.do("consultation_call", anna, "21")
    ben = control.phone("PJSIP/ben", up=True)
    eventually(lambda: control.together(anna, ben), 10, what="the consultation")

    house.phones["ben"].hang_up()
    eventually(lambda: not control.phones("PJSIP/ben"), 10, what="the end of the consultation")
    control.do("reconnect_call", anna)

    assert control.together(anna, customer)
    house.ends(call)


def test_reconnect_while_the_consulted_still_rings_stops_the_ringing(house):
    control = house.control
    call, anna, customer = house.a_call()
    control.do("consultation_call", anna, "22")
    control.phone("PJSIP/carla", up=False)

    control.do("reconnect_call", anna)

    assert control.together(anna, customer)
    eventually(lambda: not control.phones("PJSIP/carla"), 10, what="silence at Carla's")
    house.ends(call)


@pytest.mark.parametrize("number", ["23", "24", "29"])
def test_a_consultation_that_reaches_nobody_gives_the_customer_back(house, number):
    control = house.control
    call, anna, customer = house.a_call()

    if number == "24":
        # The phone was reached, and is busy: it is told in the agent's ear, and the customer waits.
        control.do("consultation_call", anna, number)
        control.do("reconnect_call", anna)
    else:
        with pytest.raises(Refused, match="the number"):
            control.do("consultation_call", anna, number)

    assert control.together(anna, customer)
    assert house.goes_on(call)
    house.ends(call)


def test_transfer_connects_the_two_and_releases_the_agent(house):
    control = house.control
    call, anna, customer = house.a_call()
    control.do("consultation_call", anna, "21")
    ben = control.phone("PJSIP/ben", up=True)
    eventually(lambda: control.together(anna, ben), 10, what="the consultation")

    control.do("transfer_call", anna)

    assert control.together(ben, customer)
    assert not control.phones("PJSIP/anna")
    assert house.goes_on(call)
    control.do("hold_call", ben)
    control.do("retrieve_call", ben)
    assert control.together(ben, customer)
    assert house.hears(call, house.phones["ben"], "1")
    house.phones["ben"].hang_up()
    assert call.wait(10).ended_by == "asterisk"


def test_an_end_is_written_down_whatever_was_done_with_the_call(house):
    control = house.control
    call, anna, customer = house.a_call()
    control.do("hold_call", anna)
    control.do("retrieve_call", anna)
    control.do("single_step_transfer", customer, "way-out,21,1")
    house.ends(call)

    eventually(
        lambda: f"/cti/ended/{customer}" in house.pbx.cli("database show cti/ended"),
        10,
        what="the ended-record",
    )


def test_a_call_that_the_agent_made_is_held_consulted_and_transferred_like_any_other(house):
    control = house.control
    anna = control.do("make_call", "PJSIP/anna", "0049152", office_number=OFFICE)
    customer = control.phone("PJSIP/trunk", up=True)
    eventually(lambda: control.together(anna, customer), 10, what="the conversation")

    control.do("hold_call", anna)
    control.do("retrieve_call", anna)
    assert control.together(anna, customer)
    control.do("consultation_call", anna, "21")
    ben = control.phone("PJSIP/ben", up=True)
    eventually(lambda: control.together(anna, ben), 10, what="the consultation")
    control.do("transfer_call", anna)

    assert control.together(ben, customer)
    assert not control.phones("PJSIP/anna")
    house.phones["line"].hang_up()
    eventually(lambda: not house.channels(), 10, what="the end of both")


def test_whom_we_called_is_not_left_on_hold_either(house):
    control = house.control
    anna = control.do("make_call", "PJSIP/anna", "0049152", office_number=OFFICE)
    customer = control.phone("PJSIP/trunk", up=True)
    eventually(lambda: control.together(anna, customer), 10, what="the conversation")
    control.do("hold_call", anna)

    house.phones["anna"].hang_up()

    somebody = control.phone("PJSIP/anna", up=True)
    eventually(lambda: control.together(somebody, customer), 10, what="the company's fallback")


def test_once_there_is_sound_the_local_channels_go_and_everything_works_as_before(house):
    control = house.control
    call, anna, customer = house.a_call()
    ben = control.do("consultation_call", anna, "21")
    eventually(lambda: control.together(anna, ben), 10, what="the consultation")

    def they_talk_directly() -> bool:
        house.phones["anna"].talk()
        house.phones["ben"].talk()
        return len(house.channels()) == 3

    eventually(they_talk_directly, 20, what="the end of the Local channels")
    assert control.together(anna, ben)
    control.do("alternate_call", anna)
    assert control.together(anna, customer)
    control.do("alternate_call", anna)
    assert control.together(anna, ben)
    control.do("transfer_call", anna)

    assert control.together(ben, customer)
    assert not control.phones("PJSIP/anna")
    house.ends(call)


def test_transfer_before_the_consulted_has_answered_changes_nothing(house):
    control = house.control
    call, anna, customer = house.a_call()
    control.do("consultation_call", anna, "22")

    with pytest.raises(NotPossible, match="not answered"):
        control.do("transfer_call", anna)

    control.do("reconnect_call", anna)
    assert control.together(anna, customer)
    house.ends(call)


def test_a_transfer_in_one_step_goes_where_it_is_told(house):
    control = house.control
    call, anna, customer = house.a_call()

    with pytest.raises(NotPossible, match="no queue,8,1"):
        control.do("single_step_transfer", customer, "queue,8,1")
    assert control.together(anna, customer)
    control.do("single_step_transfer", customer, "way-out,21,1")

    ben = control.phone("PJSIP/ben", up=True)
    eventually(lambda: control.together(ben, customer), 10, what="Ben")
    assert not control.phones("PJSIP/anna")
    house.ends(call)


def test_who_is_on_hold_is_transferred_in_one_step_and_the_agent_is_released(house):
    control = house.control
    call, anna, customer = house.a_call()
    control.do("hold_call", anna)

    control.do("single_step_transfer", customer, "way-out,21,1")

    assert not control.phones("PJSIP/anna")
    ben = control.phone("PJSIP/ben", up=True)
    eventually(lambda: control.together(ben, customer), 10, what="Ben")
    house.ends(call)


def test_three_talk_in_a_conference_and_two_go_on_without_the_agent(house):
    control = house.control
    call, anna, customer = house.a_call()
    control.do("consultation_call", anna, "21")
    ben = control.phone("PJSIP/ben", up=True)
    eventually(lambda: control.together(anna, ben), 10, what="the consultation")

    control.do("conference_call", anna, "room-1")

    assert control.together(anna, ben, customer)
    control.do("clear_connection", anna)
    assert control.together(ben, customer)
    control.do("clear_connection", ben)
    assert call.wait(10).ended_by == "asterisk"


def test_a_ringing_call_is_deflected(house):
    control = house.control
    call, _anna, customer = house.a_call()
    control.do("single_step_transfer", customer, "way-out,22,1")
    carla = control.phone("PJSIP/carla", up=False)
    eventually(
        lambda: control.ask(lambda: control.channels.get(carla).dialled_by), 10, what="who rings there"
    )

    control.do("deflect_call", carla, "way-out,21,1")

    ben = control.phone("PJSIP/ben", up=True)
    eventually(lambda: control.together(ben, customer), 10, what="Ben")
    assert not control.phones("PJSIP/carla")
    house.ends(call)


def test_a_ringing_call_is_picked_up_by_another_phone(house):
    control = house.control
    call, _anna, customer = house.a_call()
    control.do("single_step_transfer", customer, "way-out,22,1")
    carla = control.phone("PJSIP/carla", up=False)

    ben = control.do("pickup", "PJSIP/ben", carla)

    assert not control.phones("PJSIP/carla")
    eventually(lambda: control.together(ben, customer), 10, what="Ben")
    house.ends(call)


def test_a_parked_customer_is_found_in_the_space_that_was_told(house):
    control = house.control
    call, _anna, customer = house.a_call()

    space = control.do("park", customer, seconds=60)

    assert space == "701"
    assert "701" in house.pbx.cli("parking show default")
    assert not control.phones("PJSIP/anna")
    house.ends(call)


def test_a_recording_has_silence_where_it_was_paused(house):
    control = house.control
    call, _anna, customer = house.a_call()
    control.do("single_step_transfer", customer, "queue,7,1")
    file = house.pbx.directory / "spool" / "monitor" / "2026" / "c-1.wav"

    def more_is_recorded() -> None:
        before = file.stat().st_size if file.exists() else 0
        eventually(
            lambda: file.exists() and file.stat().st_size > before + 16_000, 20, what="a second of sound"
        )

    recording = control.do("start_recording", customer, "2026/c-1.wav")
    more_is_recorded()
    control.do("pause_recording", customer)
    more_is_recorded()
    control.do("resume_recording", customer)
    more_is_recorded()
    control.do("stop_recording", customer, recording)

    def is_complete() -> bool:
        with contextlib.suppress(EOFError, wave.Error), wave.open(str(file)) as sound:
            return sound.getnframes() > 0
        return False

    eventually(is_complete, 10, what="the recording's file")
    loud = [max(map(abs, part)) > 500 for part in tenths_of_a_second(file)]
    assert [loudness for loudness, _ in itertools.groupby(loud)] == [True, False, True]
    with pytest.raises(Refused):
        control.do("stop_recording", customer, "0x123")
    house.ends(call)


def tenths_of_a_second(file: Path) -> list[tuple[int, ...]]:
    """The samples of each; 8,000 of 16 bits are a second."""
    with wave.open(str(file)) as sound:
        samples = array.array("h", sound.readframes(sound.getnframes()))
    return [tuple(samples[start : start + 800]) for start in range(0, len(samples) - 800, 800)]


@pytest.mark.parametrize("how", ["listen", "whisper", "barge"])
def test_a_supervisor_listens_and_the_conversation_goes_on(house, how):
    control = house.control
    call, anna, customer = house.a_call()

    ben = control.do("monitor", "PJSIP/ben", anna, how)

    assert control.ask(lambda: control.channels.get(ben).up)
    assert control.together(anna, customer)
    house.ends(call)


def test_an_announcement_is_heard_before_the_recording(house):
    control = house.control
    call, anna, customer = house.a_call()

    with pytest.raises(Refused, match="could not be played"):
        control.do("start_recording", anna, "c-2.wav", announcement="no-such-sound")
    control.do("start_recording", anna, "c-2.wav", announcement="beep", beep_seconds=15)

    assert control.together(anna, customer)
    house.ends(call)


def test_digits_reach_the_other_end(house):
    control = house.control
    call, _anna, customer = house.a_call()

    control.do("digits", customer, "12#")

    eventually(lambda: call.heard == "12#", 10, what="the digits at the customer's")
    assert house.phones["anna"].heard == ""
    house.ends(call)


def test_a_supervisor_stops_listening_by_hanging_up(house):
    """ChanSpy() ends with the next sound in the conversation, so there must be some."""
    control = house.control
    call, anna, customer = house.a_call()
    ben = control.do("monitor", "PJSIP/ben", anna, "listen")

    ended = control.start("clear_connection", ben)
    house.phones["anna"].talk(0.5)
    ended()

    assert control.together(anna, customer)
    house.ends(call)


def test_who_listens_is_released_with_the_conversation(house):
    control = house.control
    call, anna, _customer = house.a_call()
    control.do("monitor", "PJSIP/ben", anna, "whisper")

    house.ends(call)


@pytest.mark.parametrize(("phone", "why"), [("PJSIP/dora", "busy"), ("PJSIP/nobody", "cannot be reached")])
def test_a_phone_that_cannot_be_rung_is_told_and_nobody_is_called(house, phone, why):
    before = len(house.phones["line"].invites)

    with pytest.raises(Refused, match=why):
        house.control.do("make_call", phone, "0049152")

    assert len(house.phones["line"].invites) == before


def test_a_capable_phone_answers_holds_and_retrieves_when_told(house):
    control = house.control
    call, emil, customer = house.a_call_at_a_capable_phone()

    control.do("answer_call", emil)
    eventually(lambda: control.together(emil, customer), 10, what="the conversation")
    control.do("hold_call", emil)
    house.phone_has_sent("emil", "ACK")

    assert control.ask(lambda: control.channels.get(emil).on_hold)
    assert control.together(emil, customer), "the phone holds the call itself"
    control.do("retrieve_call", emil)
    assert not control.ask(lambda: control.channels.get(emil).on_hold)
    house.ends(call)


def test_a_phone_that_holds_by_itself_takes_the_call_back_before_it_consults(house):
    control = house.control
    call, emil, customer = house.a_call_at_a_capable_phone()
    control.do("answer_call", emil)
    eventually(lambda: control.together(emil, customer), 10, what="the conversation")
    control.do("hold_call", emil)
    house.phone_has_sent("emil", "ACK")

    control.do("consultation_call", emil, "21")
    control.do("reconnect_call", emil)

    assert control.together(emil, customer)
    assert not control.ask(lambda: control.channels.get(emil).on_hold)
    house.ends(call)


def test_a_phone_that_is_not_capable_is_picked_up_by_hand(house):
    control = house.control
    call, _anna, customer = house.a_call()
    control.do("single_step_transfer", customer, "way-out,22,1")

    with pytest.raises(NotPossible, match="pick it up"):
        control.do("answer_call", control.phone("PJSIP/carla", up=False))
    house.ends(call)


def test_auto_answer_needs_no_hand(house):
    emil = house.control.do("make_call", "PJSIP/emil", "0049152", auto_answer=True)

    customer = house.control.phone("PJSIP/trunk", up=True)
    eventually(lambda: house.control.together(emil, customer), 10, what="the conversation")
    house.control.do("clear_connection", emil)
    eventually(lambda: not house.channels(), 10, what="the end of both")


def test_without_auto_answer_somebody_picks_up_first(house):
    house.control.do("make_call", "PJSIP/emil", "0049152")

    house.control.phone("PJSIP/emil", up=False)
    assert not house.control.phones("PJSIP/trunk")


def test_an_outside_consultation_is_transferred_and_ends_with_the_call(house):
    """Bridged by AMI's own Bridge, the line would go on in the trunk's context, as a call that comes in."""
    control = house.control
    call, anna, customer = house.a_call()
    line = control.do("consultation_call", anna, "0049152", office_number=OFFICE)
    eventually(lambda: control.together(anna, line), 10, what="the consultation")
    assert house.phones["line"].invites[-1].from_number == OFFICE

    control.do("transfer_call", anna)

    assert control.together(line, customer)
    before = len(house.pbx.log("Executing.*@from-trunk"))
    house.ends(call)
    assert len(house.pbx.log("Executing.*@from-trunk")) == before


def test_who_hangs_up_while_the_agent_consults_leaves_the_agent_to_finish(house):
    control = house.control
    call, anna, _customer = house.a_call()
    control.do("consultation_call", anna, "21")
    ben = control.phone("PJSIP/ben", up=True)
    eventually(lambda: control.together(anna, ben), 10, what="the consultation")

    call.hang_up()

    eventually(lambda: not control.phones("PJSIP/trunk"), 10, what="the end of the customer's channel")
    with pytest.raises(NotPossible, match="holds nobody"):
        control.do("transfer_call", anna)
    assert control.together(anna, ben)


def test_an_agent_whose_phone_dies_in_a_consultation_leaves_the_customer_to_somebody_else(house):
    control = house.control
    call, anna, customer = house.a_call()
    control.do("consultation_call", anna, "21")

    house.phones["anna"].hang_up()

    reception = control.phone("PJSIP/reception", up=True)
    eventually(lambda: control.together(reception, customer), 10, what="somebody else")
    assert not control.phones("PJSIP/ben")
    house.ends(call)


def test_a_restart_of_ours_forgets_nobody_who_is_on_hold(house):
    call, anna, customer = house.a_call()
    house.control.do("hold_call", anna)

    with Control(house.pbx) as another:
        another.do("retrieve_call", anna)

        assert another.together(anna, customer)
    house.ends(call)


def test_a_pickup_that_comes_too_late_takes_nothing(house):
    control = house.control
    call, _anna, customer = house.a_call()
    control.do("single_step_transfer", customer, "way-out,22,1")
    carla = control.phone("PJSIP/carla", up=False)

    late = control.start("pickup", "PJSIP/emil", carla)
    control.phone("PJSIP/emil", up=False)
    house.phones["carla"].answer()
    eventually(lambda: control.together(carla, customer), 10, what="Carla")
    house.phones["emil"].answer()

    with pytest.raises(Refused, match="somebody else has answered"):
        late()
    assert control.together(carla, customer)
    house.ends(call)


def test_a_full_parking_lot_leaves_both_talking(house):
    control = house.control
    call, anna, customer = house.a_call()

    with pytest.raises(NotDone, match="no space"):
        control.do("park", customer, lot="no-such-lot")

    assert control.together(anna, customer)
    house.ends(call)


def test_whose_agent_has_gone_while_on_hold_is_routed_anew_by_the_server(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna"), AnAgent("ben")]) as company:
        company.start()
        with Control(company.pbx) as control:
            call = company.call()
            call.wait_for(200)
            agents = ["anna", "ben"]
            first = eventually(
                lambda: next((name for name in agents if control.phones(f"PJSIP/{name}")), None),
                10,
                what="an agent",
            )
            agents.remove(first)
            customer = control.phone("PJSIP/trunk", up=True)
            agent = control.phone(f"PJSIP/{first}", up=True)
            eventually(lambda: control.together(agent, customer), 10, what="the conversation")
            control.do("hold_call", agent)

            company.phones[first].hang_up()

            second = control.phone(f"PJSIP/{agents[0]}", up=True)
            eventually(lambda: control.together(second, customer), 10, what="the other agent")
            call.hang_up()
