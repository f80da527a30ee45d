"""Call control on a real Asterisk: what each operation does to callers and phones, and what they are left with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cti.asterisk.pbx import NotPossible, Refused
from lab.laboratory import Answers, Busy, Call, Lab, Phone, eventually
from tests.asterisk.control import Control

ROOT = Path(__file__).parents[2]
CUSTOMER = "+4915228817386"
OFFICE = "+494066969100"

# 1 rings Anna, 21 Ben, 22 Carla, 23 nobody's phone, 24 one that is busy, 0… leaves the house.
EXTENSIONS = """
[globals]
CTI_SERVER = 127.0.0.1:1
CTI_FALLBACK = last-resort,s,1
CTI_OUTBOUND = way-out

[from-trunk]
exten => _X.,1,Dial(PJSIP/anna,30)
 same => n,Hangup()

[cti-outbound]
exten => _X!,1,Goto(way-out,${EXTEN},1)

[way-out]
exten => 21,1,Dial(PJSIP/ben,30)
 same => n,Hangup()
exten => 22,1,Dial(PJSIP/carla,30)
 same => n,Hangup()
exten => 23,1,Hangup(1)
exten => 24,1,Dial(PJSIP/dora,30)
 same => n,Hangup()
exten => _0.,1,Dial(PJSIP/${EXTEN}@trunk,30)
 same => n,Hangup()

[queue]
exten => 7,1,Answer()
 same => n,Wait(30)

[last-resort]
exten => s,1,Dial(PJSIP/reception,30)
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
def a_house(directory: Path, **behaviours: Any) -> Iterator[House]:
    with Lab(directory) as lab:
        people = {"anna": Answers(), "ben": Answers(), "carla": Answers(after_ms=None), "dora": Busy()}
        phones = {name: lab.phone(name, behaviours.get(name, how)) for name, how in people.items()}
        phones["reception"] = lab.phone("reception")
        line = lab.phone("line", behaviours.get("line", Answers(after_ms=200)))
        pbx = lab.asterisk(
            extensions=EXTENSIONS,
            dialplan_files=[ROOT / "dialplan" / "cti.conf"],
            manager=(ROOT / "asterisk-conf" / "manager.conf").read_text(encoding="utf-8"),
            phones=[*phones.values()],
            trunk=line,
        )
        phones["line"] = line
        with Control(pbx) as control:
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
    assert house.control.ask(lambda: house.control.channels.get(anna).up)
    house.control.do("retrieve_call", anna)

    assert house.control.together(anna, customer)
    house.ends(call)


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
    assert not control.phones("PJSIP/ben")
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
    house.phones["ben"].hang_up()
    assert call.wait(10).ended_by == "asterisk"


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


def test_a_recording_is_paused_goes_on_and_ends(house):
    control = house.control
    call, anna, _customer = house.a_call()

    recording = control.do("start_recording", anna, "2026/c-1.wav")
    control.do("pause_recording", anna)
    control.do("resume_recording", anna)
    control.do("stop_recording", anna, recording)

    file = house.pbx.directory / "spool" / "monitor" / "2026" / "c-1.wav"
    eventually(file.exists, 10, what="the recording's file")
    with pytest.raises(Refused):
        control.do("stop_recording", anna, "0x123")
    house.ends(call)


@pytest.mark.parametrize("how", ["listen", "whisper", "barge"])
def test_a_supervisor_listens_until_they_hang_up(house, how):
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

    house.ends(call)
