"""Everything but ringing that a rule may do with a call, on a real Asterisk, and each way in which it can fail."""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from lab.company import AnAgent, Company
from lab.laboratory import eventually
from tests.asterisk.test_inbound import CUSTOMER, a_customer
from tests.faults.evidence import rung

#: The last two digits of the number of each service, and what its only rule says.
RULES: Mapping[str, Mapping[str, Any]] = {
    "10": {"goto": "self-service,s,1"},
    "11": {"goto": "no-such-context,s,1"},
    "20": {"voicemail": "17@default"},
    "21": {"voicemail": "18@default"},
    "30": {"announce": ["beep", "hello"]},
    "31": {"announce": "beep", "then": "self-service,s,1"},
    "32": {"announce": "beep", "then": "fallback"},
    "33": {"announce": "beep", "then": "no-such-context,s,1"},
    "34": {"announce": ["beep", "no-such-sound"]},
    "35": {"announce": "closed"},
    "40": {"reject": "busy"},
    "41": {"reject": "congestion"},
    "42": {"reject": "declined"},
    "43": {"reject": 1},
}
SELF_SERVICE = """
[self-service]
exten => s,1,Answer()
 same => n,NoOp(here we are ${CALLERID(name)})
 same => n,Wait(0.2)
 same => n,Hangup()
"""


def a_company(directory: Path, *digits: str, **more: Any) -> Company:
    services = {
        f"service{ending}": {
            "numbers": [f"+4940669691{ending}"],
            "mode": "route",
            "fallback": "old-context,s,1",
            "rules": [{"name": "only", **RULES[ending]}],
        }
        for ending in digits
    }
    more = {"more_extensions": SELF_SERVICE, **more}
    return Company(directory, agents=[AnAgent("anna")], settings={"services": services}, **more)


def call(
    company: Company, digits: str, hangs_up: Callable[[], object] | None = None, **how: Any
) -> tuple[int | None, dict[str, Any]]:
    """The final status that a caller of that service got, and the record of the call.

    The caller hangs up once `hangs_up` is true, by default when the reception has picked up.
    """
    before = {one["id"] for one in company.daemon.calls()}
    at_reception = len(company.phones["reception"].received("ACK"))
    calling = company.lab.calls(
        company.pbx, f"4940669691{digits}", count=1, rate=100, from_number=CUSTOMER, **how
    )

    def heard_enough() -> object:
        return hangs_up() if hangs_up else len(company.phones["reception"].received("ACK")) > at_reception

    eventually(lambda: heard_enough() or any(one.ended for one in calling.results), 20, what="what follows")
    if heard_enough():
        calling.hang_up()
    (result,) = calling.wait()

    def ended() -> dict[str, Any] | None:
        return next((c for c in company.daemon.calls() if c["id"] not in before and c["ended"]), None)

    record = eventually(ended, what="the call in the log")
    assert record is not None
    return result.final, record


def complaints(company: Company) -> int:
    """How often the dialplan said that it cannot do what it was told."""
    return sum(line.level == "ERROR" for line in company.pbx.log("wants .*it goes to its fallback"))


def played(company: Company) -> list[tuple[str, str]]:
    """What was played so far, each sound with the language of the channel then."""
    lines = [line.text for line in company.pbx.log("Playing '")]
    found = [re.search(r"Playing '([^']+?)(?:\.\w+)?' \(language '(\w*)'\)", line) for line in lines]
    return [(match[1], match[2]) for match in found if match]


def test_a_rule_sends_a_call_to_a_place_of_the_company_s_own_dialplan(tmp_path):
    with a_company(tmp_path, "10", "11") as company:
        company.start()

        final, record = call(company, "10", from_name="As it came")
        assert (final, record["outcome"], rung(company)) == (200, "self_service", {})
        assert company.pbx.log("here we are As it came")
        (decision,) = company.daemon.call(record["id"])["decisions"]
        assert (decision["action"], decision["target"]) == ("goto", "self-service,s,1")
        assert record["reason"] == "only: the rule sends the call to self-service,s,1"
        assert company.daemon.metric("cti_decisions_total", service="service10", action="goto") == 1

        # A place that this dialplan does not have.
        final, record = call(company, "11")
        assert (final, record["outcome"], rung(company)) == (200, "answered", {"reception": 1})
        assert complaints(company) == 1


@pytest.mark.parametrize("place", ["cti-action,dial,1", "cti-inbound,494066969110,1"])
def test_no_answer_leads_into_the_contexts_of_cordboard_itself(tmp_path, place):
    """No rule can say so; should an answer do it all the same, it counts as one that cannot be carried out."""
    answer = f"[told]\nexten => s,1,Set(CTI_TARGET={place})\n same => n,Goto(cti-action,goto,1)\n"
    trunk = "[from-trunk]\nexten => 100,1,Gosub(cti-begin,s,1(inbound))\n same => n,Goto(told,s,1)\n"
    with a_company(tmp_path, "10", more_extensions=answer + trunk) as company:
        result = company.call(did="100", talk_ms=100).wait()

        assert (result.final, rung(company)) == (200, {"reception": 1})
        assert complaints(company) == 1


def test_a_rule_lets_the_caller_leave_a_message(tmp_path):
    with a_company(tmp_path, "20", "21") as company:
        company.pbx.cli("module load app_voicemail.so")
        company.start()
        box = company.pbx.directory / "spool" / "voicemail" / "default" / "17"
        box.mkdir(parents=True)
        for directory in (box, *list(box.parents)[:2]):
            directory.chmod(0o777)
        # A greeting of a tenth of a second, where Asterisk's own takes five.
        (box / "unavail.ulaw").write_bytes(b"\xff" * 800)

        final, record = call(company, "20", hangs_up=lambda: ("beep", "en") in played(company))
        assert (final, record["outcome"], rung(company)) == (200, "voicemail", {})
        eventually(lambda: (box / "INBOX" / "msg0000.txt").exists(), what="the message")

        # A mailbox that is not there.
        final, record = call(company, "21")
        assert (final, record["outcome"], rung(company)) == (200, "answered", {"reception": 1})
        # An Asterisk that has no voicemail.
        company.pbx.cli("module unload app_voicemail.so")
        final, record = call(company, "20")
        assert (final, record["outcome"], rung(company)) == (200, "answered", {"reception": 2})
        assert complaints(company) == 2


def test_a_rule_announces_and_then_hangs_up_or_goes_on(tmp_path):
    with a_company(tmp_path, "30", "31", "32", "33", "34") as company:
        company.start()

        final, record = call(company, "30")
        assert (final, record["outcome"], rung(company)) == (200, "self_service", {})
        assert played(company) == [("beep", "en"), ("hello", "en")]
        assert record["reason"] == "only: the rule plays beep, hello and hangs up"

        final, record = call(company, "31")
        assert (final, record["outcome"], rung(company)) == (200, "self_service", {})
        assert company.pbx.log("here we are")

        final, record = call(company, "32")
        assert (final, record["outcome"], rung(company)) == (200, "answered", {"reception": 1})
        assert complaints(company) == 0

        # A place that is not there, and a sound that no language has.
        for number, digits in enumerate(("33", "34"), 1):
            final, record = call(company, digits)
            assert (final, record["outcome"]) == (200, "answered")
            assert rung(company) == {"reception": number + 1}
            assert complaints(company) == number


def test_an_announcement_is_in_the_caller_s_language_or_the_line_s_or_english(tmp_path):
    with a_company(tmp_path, "35") as company:
        add_languages(company, "sl", "de", "en")
        company.knows(a_customer(language="sl-SI"))
        company.start()

        def languages() -> list[str]:
            return [sound for sound, _ in played(company) if sound.endswith("closed")]

        sounds = company.pbx.directory / "data" / "sounds"
        call(company, "35")
        assert languages() == ["sl/closed"]
        (sounds / "sl" / "closed.ulaw").unlink()
        call(company, "35")
        assert languages()[1:] == ["closed"]
        assert played(company)[-1] == ("closed", "de")
        (sounds / "de" / "closed.ulaw").unlink()
        call(company, "35")
        assert languages()[2:] == ["closed"]
        (sounds / "en" / "closed.ulaw").unlink()
        final, record = call(company, "35")
        assert (final, record["outcome"], rung(company)) == (200, "answered", {"reception": 1})


def add_languages(company: Company, *languages: str) -> None:
    """Give the company's Asterisk sounds of its own: `closed` in these languages. The trunk speaks German."""
    pbx = company.pbx
    pbx.stop()
    data = pbx.directory / "data"
    for language in languages:
        (data / "sounds" / language).mkdir(parents=True)
        (data / "sounds" / language / "closed.ulaw").write_bytes(b"\xff" * 800)
    etc = pbx.directory / "etc"
    asterisk = (etc / "asterisk.conf").read_text()
    pjsip = (etc / "pjsip.conf").read_text()
    shared = re.findall(r"(?m)^astdatadir => (.*)$", asterisk)[0]
    own = re.findall(r"(?m)^astvarlibdir => (.*)/lib$", asterisk)[0]
    shutil.copytree(pbx.tree.data / "documentation", data / "documentation")
    pbx.configuration = evolve(
        pbx.configuration,
        extra={
            "asterisk.conf": asterisk.replace(f"astdatadir => {shared}", f"astdatadir => {own}/data"),
            "pjsip.conf": pjsip.replace("context = from-trunk", "context = from-trunk\nlanguage = de"),
        },
    )
    pbx.start()


def test_a_rule_turns_a_call_away(tmp_path):
    with a_company(tmp_path, "40", "41", "42", "43") as company:
        company.start()

        for digits, status in (("40", 486), ("41", 503), ("42", 403), ("43", 404)):
            final, record = call(company, digits)
            assert (final, record["outcome"], rung(company)) == (status, "rejected", {})
