"""The laboratory itself: real calls from SIPp through real, private Asterisks to SIPp phones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.asterisk import AsteriskFailed
from lab.laboratory import (
    CALLER,
    Answers,
    Busy,
    ByNumber,
    Congested,
    Declines,
    Forwards,
    Lab,
    Phone,
    RegisteringPhone,
    RingsForever,
    eventually,
)
from lab.ports import udp_listener_exists
from lab.sipp import SippFailed

NUMBER = "493023125001"


def a_dialplan(*phones: str, seconds: int = 10) -> str:
    """Whatever is dialled from outside rings these phones."""
    dial = "&".join(f"PJSIP/{phone}" for phone in phones)
    return (
        f"[from-trunk]\nexten => _X.,1,NoOp(asked)\n same => n,Dial({dial},{seconds})\n same => n,Hangup()\n"
    )


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path) as laboratory:
        yield laboratory


def test_a_call_reaches_the_phone_and_both_ends_tell_when_and_what(lab):
    anna = lab.phone("anna", Answers(after_ms=300))
    pbx = lab.asterisk(extensions=a_dialplan("anna"), phones=[anna])
    before = time.time()

    result = lab.call(pbx, NUMBER, from_number="015228817386", from_name="Žana Кузнецова", talk_ms=400).wait()

    assert result.codes[0] == 100
    assert 180 in result.codes
    assert result.final == 200
    assert result.ended_by == "caller"
    # SIPp counts in whole milliseconds.
    assert 0.29 <= result.answered - result.started < 1.3
    assert 0.39 <= result.ended - result.answered < 1.4
    (invite,) = anna.invites
    assert (invite.from_name, invite.from_number) == ("Žana Кузнецова", "015228817386")
    assert invite.to_number == "anna"
    assert invite.header("user-agent").startswith("Asterisk")
    assert before <= result.started <= invite.time <= result.answered
    assert [message.method for message in anna.received("ACK") + anna.received("BYE")] == ["ACK", "BYE"]
    (asked,) = lab.eventually(lambda: pbx.log(r"Executing \[493023125001@from-trunk:1\]"))
    # Asterisk rounds to milliseconds, SIPp's times are finer.
    assert result.started - 0.001 <= asked.time <= invite.time + 0.001


def test_a_clean_start_warns_of_nothing(lab):
    pbx = lab.asterisk(extensions=a_dialplan("anna"), phones=[lab.phone("anna")])

    lab.eventually(lambda: pbx.log("Asterisk Ready"), what="the last line of the start")
    assert [line for line in pbx.log() if line.level in ("WARNING", "ERROR")] == []


def test_a_caller_gives_up_while_a_silent_phone_rings(lab):
    anna = lab.phone("anna", RingsForever())
    pbx = lab.asterisk(extensions=a_dialplan("anna"), phones=[anna])

    result = lab.call(pbx, NUMBER, cancel_after_ms=700).wait()

    assert (result.final, result.ended_by, result.answered) == (487, "caller", None)
    assert 0.69 <= result.ended - result.started < 1.5
    assert len(anna.received("CANCEL")) == 1


def test_a_silent_phone_is_cancelled_when_the_dialplan_has_waited_enough(lab):
    anna = lab.phone("anna", RingsForever())
    pbx = lab.asterisk(extensions=a_dialplan("anna", seconds=1), phones=[anna])

    result = lab.call(pbx, NUMBER).wait()

    assert result.ended_by == "asterisk"
    assert 0.9 <= anna.received("CANCEL")[0].time - anna.invites[0].time < 2.0


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [(Busy(), 486), (Busy(after_ms=200), 486), (Declines(after_ms=200), 603), (Congested(), 503)],
)
def test_a_phone_that_refuses_sends_its_status_to_asterisk(lab, behaviour, status):
    anna = lab.phone("anna", behaviour)
    pbx = lab.asterisk(extensions=a_dialplan("anna"), phones=[anna])

    result = lab.call(pbx, NUMBER).wait()

    assert result.final >= 400
    assert [message.status for message in anna.messages if (message.status or 0) >= 200] == [status]


def test_a_phone_may_hang_up_by_itself_or_when_told(lab):
    anna = lab.phone("anna", Answers(hangs_up_after_ms=300))
    ben = lab.phone("ben", Answers(after_ms=None))
    pbx = lab.asterisk(
        extensions="[from-trunk]\nexten => 1,1,Dial(PJSIP/anna)\nexten => 2,1,Dial(PJSIP/ben)\n",
        phones=[anna, ben],
    )

    by_itself = lab.call(pbx, "1").wait()
    told = lab.call(pbx, "2")
    told.wait_for(180)
    lab.eventually(lambda: ben.invites, what="the call at Ben's phone")
    ben.answer()
    told.wait_for(200)
    ben.hang_up()

    assert by_itself.ended_by == "asterisk"
    assert 0.29 <= by_itself.ended - by_itself.answered < 1.3
    assert told.wait().ended_by == "asterisk"


def test_a_caller_hangs_up_when_told_talking_or_waiting(lab):
    anna, ben = lab.phone("anna"), lab.phone("ben", RingsForever())
    pbx = lab.asterisk(
        extensions="[from-trunk]\nexten => 1,1,Dial(PJSIP/anna)\nexten => 2,1,Dial(PJSIP/ben)\n",
        phones=[anna, ben],
    )
    talking, waiting = lab.call(pbx, "1"), lab.call(pbx, "2")
    talking.wait_for(200)
    waiting.wait_for(180)

    assert (talking.hang_up().final, talking.result.ended_by) == (200, "caller")
    assert (waiting.hang_up().final, waiting.result.ended_by) == (487, "caller")


INTERNAL = """
[from-trunk]
exten => _X.,1,Dial(PJSIP/anna,10)

[from-phones]
exten => _[a-z][a-z]!,1,Dial(PJSIP/${EXTEN},10)
exten => 17,1,Dial(PJSIP/ben,10)
"""


def answered(phone: Phone) -> bool:
    return any(message.status == 200 and message.sent for message in phone.messages)


def hung_up(phone: Phone) -> bool:
    return any(message.method == "BYE" for message in phone.messages)


def test_a_phone_holds_retrieves_and_passes_a_call_on_without_asking(lab):
    anna, ben = lab.phone("anna"), lab.phone("ben")
    pbx = lab.asterisk(extensions=INTERNAL, phones=[anna, ben])
    call = lab.call(pbx, NUMBER)
    call.wait_for(200)

    anna.hold()
    lab.eventually(lambda: pbx.log("Started music on hold.*PJSIP/trunk"), what="music for the caller")
    anna.retrieve()
    lab.eventually(lambda: pbx.log("Stopped music on hold.*PJSIP/trunk"), what="the end of the music")
    anna.transfer("ben")

    lab.eventually(lambda: answered(ben) and hung_up(anna), what="the transfer")
    assert call.result.ended is None
    assert ben.invites[0].from_number == CALLER
    ben.hang_up()
    assert call.wait().ended_by == "asterisk"


def test_a_transfer_to_a_number_that_does_not_exist_leaves_the_call_where_it_is(lab):
    anna = lab.phone("anna")
    pbx = lab.asterisk(extensions=INTERNAL, phones=[anna])
    call = lab.call(pbx, NUMBER)
    call.wait_for(200)

    with pytest.raises(SippFailed, match="404"):
        anna.transfer("0815")

    anna.hold()
    assert call.hang_up().ended_by == "caller"


def test_a_phone_calls_out_and_joins_its_two_calls(lab):
    anna, ben = lab.phone("anna"), lab.phone("ben")
    pbx = lab.asterisk(extensions=INTERNAL, phones=[anna, ben])
    call = lab.call(pbx, NUMBER)
    call.wait_for(200)
    anna.hold()

    consultation = lab.dial(anna, pbx, "ben")
    consultation.wait_for(200)
    assert ben.invites[0].from_number == "anna"
    anna.transfer_to(consultation)

    assert consultation.wait().ended_by == "asterisk"
    lab.eventually(lambda: hung_up(anna), what="the end of Anna's part")
    assert call.result.ended is None
    assert not hung_up(ben)
    call.hang_up()
    lab.eventually(lambda: hung_up(ben), what="the end")


def test_a_phone_joins_a_call_with_one_that_still_rings(lab):
    anna, ben = lab.phone("anna"), lab.phone("ben", Answers(after_ms=None))
    pbx = lab.asterisk(extensions=INTERNAL, phones=[anna, ben])
    call = lab.call(pbx, NUMBER)
    call.wait_for(200)

    consultation = lab.dial(anna, pbx, "ben")
    consultation.wait_for(180)
    anna.transfer_to(consultation)
    ben.answer()

    lab.eventually(lambda: answered(ben) and hung_up(anna), what="the transfer")
    assert len(ben.invites) == 1
    assert call.result.ended is None
    ben.hang_up()
    assert call.wait().ended_by == "asterisk"


def test_a_call_of_a_phone_holds_transfers_and_is_cancelled_too(lab):
    anna, ben, cleo = lab.phone("anna"), lab.phone("ben"), lab.phone("cleo", RingsForever())
    pbx = lab.asterisk(extensions=INTERNAL, phones=[anna, ben, cleo])
    call = lab.dial(anna, pbx, "17")
    call.wait_for(200)
    call.hold()
    call.retrieve()
    call.transfer("cleo")
    lab.eventually(lambda: cleo.invites, what="the call at Cleo's phone")
    assert call.wait().ended_by is not None
    ben.hang_up()
    lab.eventually(lambda: cleo.received("CANCEL"), what="the end of the ringing")

    ringing = lab.dial(anna, pbx, "cleo")
    ringing.wait_for(180)
    assert ringing.hang_up().final == 487


def test_a_phone_forwards_to_another_number(lab):
    anna, ben = lab.phone("anna", Forwards("ben", after_ms=100)), lab.phone("ben")
    pbx = lab.asterisk(extensions=INTERNAL, phones=[anna, ben])

    assert lab.call(pbx, NUMBER, talk_ms=100).wait().final == 200

    assert [message.status for message in anna.messages if message.sent] == [180, 302]
    assert len(ben.invites) == 1


def test_a_capable_phone_obeys_asterisk_and_another_only_says_yes(lab):
    anna = lab.phone("anna", Answers(after_ms=None, capable=True))
    pbx = lab.asterisk(extensions=INTERNAL, phones=[anna])

    def notify(event: str) -> None:
        channel = next(name for name in pbx.channels() if "anna" in name)
        answer = pbx.ami("PJSIPNotify", Channel=channel, Variable=f"Event={event}")
        assert answer["Response"] == "Success", answer

    call = lab.call(pbx, NUMBER)
    call.wait_for(180)
    notify("talk")
    call.wait_for(200)
    notify("hold")
    lab.eventually(lambda: pbx.log("Started music on hold"), what="hold")
    notify("talk")
    lab.eventually(lambda: pbx.log("Stopped music on hold"), what="the end of hold")
    call.hang_up()

    anna.behave(Answers(after_ms=None))
    call = lab.call(pbx, NUMBER)
    call.wait_for(180)
    notify("talk")
    lab.eventually(lambda: len(anna.received("NOTIFY")) == 4, what="the last NOTIFY")
    assert 200 not in call.result.codes
    anna.answer()
    call.wait_for(200)


AUTO_ANSWER = """
[from-trunk]
exten => 1,1,Dial(PJSIP/anna,10,b(at-once^s^1))
exten => 2,1,Dial(PJSIP/anna,1)
[at-once]
exten => s,1,Set(PJSIP_HEADER(add,Call-Info)=<sip:pbx.example>\\;answer-after=0)
 same => n,Return()
"""


def test_a_phone_answers_at_once_if_the_invite_says_so(lab):
    anna = lab.phone("anna", Answers(after_ms=None, auto_answer=True))
    pbx = lab.asterisk(extensions=AUTO_ANSWER, phones=[anna])

    assert lab.call(pbx, "1", talk_ms=100).wait().final == 200
    assert lab.call(pbx, "2").wait().answered is None


KEYS = """
[from-trunk]
exten => 1,1,Answer()
 same => n,Read(PRESSED,,4,,1,3)
 same => n,NoOp(pressed <${PRESSED}>)
 same => n,SendDTMF(12*#)
 same => n,Wait(5)
exten => 2,1,Dial(PJSIP/anna)
"""


def test_keys_go_both_ways_from_callers_and_phones(lab):
    anna = lab.phone("anna")
    pbx = lab.asterisk(extensions=KEYS, phones=[anna])

    call = lab.call(pbx, "1")
    call.wait_for(200)
    call.press("70*A")
    lab.eventually(lambda: pbx.log(r"pressed <70\*A>"), what="the keys in the dialplan")
    lab.eventually(lambda: call.heard == "12*#", what="Asterisk's keys")
    call.hang_up()

    call = lab.call(pbx, "2")
    call.wait_for(200)
    anna.press("11#")
    lab.eventually(lambda: call.heard == "11#", what="the phone's keys")
    call.press("9")
    lab.eventually(lambda: anna.heard == "9", what="the caller's keys")


def test_a_trunk_reaches_several_numbers_that_behave_each_in_its_own_way(lab):
    mobile, nobody, busy = "015228817386", "015228895456", "015254599371"
    outside = lab.phone("outside", ByNumber({busy: Busy(after_ms=50), nobody: RingsForever()}))
    pbx = lab.asterisk(
        extensions="[from-trunk]\nexten => _X.,1,Dial(PJSIP/${EXTEN}@trunk,1)\n same => n,Hangup(17)\n",
        trunk=outside,
    )

    answers = {number: lab.call(pbx, number, talk_ms=50).wait().answered for number in (busy, nobody, mobile)}

    assert [number for number, answered in answers.items() if answered] == [mobile]
    assert [invite.to_number for invite in outside.invites] == [busy, nobody, mobile]
    assert len(outside.received("CANCEL")) == 1


def test_an_asterisk_tells_what_is_left_of_its_calls(lab):
    anna = lab.phone("anna")
    pbx = lab.asterisk(extensions=INTERNAL, phones=[anna])
    call = lab.call(pbx, NUMBER)
    call.wait_for(200)

    assert sorted(name.rpartition("-")[0] for name in pbx.channels()) == ["PJSIP/anna", "PJSIP/trunk"]
    assert len(pbx.bridges()) == 1
    call.hang_up()
    lab.eventually(lambda: not pbx.channels() and not pbx.bridges(), what="nothing")


def test_a_withheld_caller_comes_without_name_and_number(lab):
    pbx = lab.asterisk(
        extensions="[from-trunk]\nexten => _X.,1,NoOp(<${CALLERID(all)}> <${CALLERID(pres)}>)\n"
        " same => n,Hangup(17)\n"
    )

    assert lab.call(pbx, NUMBER, privacy=True).wait().final == 486
    # Asterisk heeds Privacy only together with an asserted identity, as providers send it to those they trust.
    asserted = {"P-Asserted-Identity": "<sip:015228817386@127.0.0.1>"}
    assert lab.call(pbx, NUMBER, privacy=True, headers=asserted).wait().final == 486

    lab.eventually(lambda: len(pbx.log("Executing.*NoOp")) == 2, what="both calls in the log")
    first, second = pbx.log("Executing.*NoOp")
    assert '<"Anonymous" <anonymous>> <allowed_not_screened>' in first.text
    assert "015228817386" in second.text
    assert "<prohib" in second.text


def test_a_latin_1_name_with_brackets_and_backslashes_leaves_the_caller_unchanged(lab):
    pbx = lab.asterisk(extensions="[from-trunk]\nexten => _X.,1,Hangup(17)\n")

    result = lab.call(pbx, NUMBER, from_name=b'M\xfcller [\\x41] "A" ; B').wait()

    invite = result.messages[0]
    assert invite.from_name.encode("utf-8", "surrogateescape") == b'M\xfcller [\\x41] "A" ; B'


def test_many_calls_at_a_rate_each_with_its_own_number(lab):
    anna = lab.phone("anna", Answers(after_ms=100))
    pbx = lab.asterisk(extensions=a_dialplan("anna"), phones=[anna])
    numbers = [f"0171392000{digit}" for digit in range(6)]

    results = lab.calls(pbx, NUMBER, count=6, rate=6, from_number=numbers, talk_ms=200).wait()

    assert [result.final for result in results] == [200] * 6
    assert [invite.from_number for invite in anna.invites] == numbers
    assert 0.5 <= results[-1].started - results[0].started < 3


def test_two_asterisks_run_side_by_side_and_call_each_other_s_phones_never(lab):
    anna, ben = lab.phone("anna"), lab.phone("ben")
    first = lab.asterisk("first", extensions=a_dialplan("anna"), phones=[anna])
    second = lab.asterisk("second", extensions=a_dialplan("ben"), phones=[ben])

    assert lab.call(second, NUMBER, talk_ms=100).wait().final == 200

    assert (len(anna.invites), len(ben.invites)) == (0, 1)
    assert first.pid != second.pid
    assert first.log("Executing") == []


def test_joined_asterisks_call_each_other_and_keep_the_callers_number(lab):
    anna = lab.phone("anna")
    head = lab.asterisk(
        "head", extensions="[from-peers]\nexten => _X.,1,Dial(PJSIP/7@peer-branch,10)\n", phones=[]
    )
    branch = lab.asterisk(
        "branch",
        extensions="[from-trunk]\nexten => _X.,1,Dial(PJSIP/${EXTEN}@peer-head,10)\n"
        "[from-peers]\nexten => 7,1,Dial(PJSIP/anna,10)\n",
        phones=[anna],
        peers=[head],
    )

    result = lab.call(branch, NUMBER, from_number="01713920042", talk_ms=100).wait()

    assert result.final == 200
    assert anna.invites[0].from_number == "01713920042"
    lab.eventually(lambda: head.log(rf"Executing \[{NUMBER}@from-peers:1\]"))


def test_after_restart_and_crash_the_database_is_there_and_calls_go_through(lab):
    anna = lab.phone("anna")
    pbx = lab.asterisk(extensions=a_dialplan("anna"), phones=[anna])
    pbx.cli("database put cti kept yes")
    ports = pbx.ports

    pbx.restart()
    assert "Value: yes" in pbx.cli("database get cti kept")
    pbx.kill()
    with pytest.raises(AsteriskFailed, match="does not run"):
        pbx.cli("core show version")
    pbx.start()

    assert "Value: yes" in pbx.cli("database get cti kept")
    assert pbx.ports == ports
    assert lab.call(pbx, NUMBER, talk_ms=100).wait().final == 200


def test_included_dialplan_and_manager_files_are_read_and_read_again_at_a_reload(lab, tmp_path):
    dialplan = tmp_path / "extra.conf"
    dialplan.write_text("[extra]\nexten => 7,1,Hangup(17)\n")
    manager = tmp_path / "manager-fragment.conf"
    manager.write_text(
        "[general]\nport = 1\nchannelvars = ONE_OF_OURS\n[cti]\nsecret = sample\nread = call\nwrite = call\n"
    )
    pbx = lab.asterisk(
        dialplan_files=[dialplan], manager_files=[manager], phones=[RegisteringPhone("me", "x")]
    )

    settings, user = pbx.cli("manager show settings"), pbx.cli("manager show user cti")
    dialplan.write_text("[extra]\nexten => 8,1,Hangup(17)\n")
    pbx.reload()

    assert str(pbx.ami_port) in settings
    assert "read perm: call\n" in user
    assert "'8' =>" in pbx.cli("dialplan show extra")


def test_a_configuration_that_breaks_asterisk_is_told_with_the_end_of_its_log(lab):
    with pytest.raises(AsteriskFailed, match="did not start"):
        lab.asterisk(
            extra={"pjsip.conf": "[udp]\ntype = transport\nprotocol = udp\nbind = 192.0.2.99:5060\n"}
        )


def test_nothing_is_left_behind(tmp_path):
    mounts = Path("/proc/mounts").read_text()
    with Lab(tmp_path) as lab:
        anna = lab.phone("anna", RingsForever())
        pbx = lab.asterisk(extensions=a_dialplan("anna"), phones=[anna])
        lab.call(pbx, NUMBER).wait_for(180)
        assert Path("/proc/mounts").read_text() == mounts
        assert _processes_of(tmp_path)
        ports = [pbx.sip_port, anna.port]

    assert Path("/proc/mounts").read_text() == mounts
    assert _processes_of(tmp_path) == []
    assert not any(udp_listener_exists(port) for port in ports)


def test_everything_dies_with_a_process_that_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from lab.laboratory import Lab\n"
        "with Lab(Path(sys.argv[1])) as lab:\n"
        "    lab.asterisk(phones=[lab.phone('anna')])\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(_processes_of(tmp_path)) == 3
        process.send_signal(signal.SIGKILL)
        process.wait()

    eventually(lambda: not _processes_of(tmp_path), 5, what="the end of all processes")


def _processes_of(directory: Path) -> list[str]:
    """Command lines of the processes that name the directory, or have it mounted."""
    # What a mount says of its source begins at the root of the file system that it is on.
    mark = f"{directory.parent.name}/{directory.name}"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            mounts = (entry / "mountinfo").read_text("utf-8", "replace")
        except OSError:
            continue
        if mark in command or mark in mounts:
            found.append(command)
    return found
