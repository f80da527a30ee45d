"""Agents rung over the trunk, on a real Asterisk: who presses 1 has the call, and nobody else, and no machine."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from lab.company import AnAgent, Company
from lab.laboratory import Answers, Phone, RingsForever, eventually
from lab.scenarios import Behaviour
from lab.sipp import Leg
from tests.asterisk.test_inbound import CUSTOMER, a_customer
from tests.faults.evidence import rung

MOBILE = "+4915254599371"
OTHER_MOBILE = "+4915228895456"
OFFICE = "+493023125100"
GLOBALS = f"""
[globals]
CTI_OFFICE_NUMBER = {OFFICE}
CTI_ACCEPT = beep
"""


def a_company(
    directory: Path, *phones: str, desk: Behaviour | None = None, timeout: int = 15, **more: Any
) -> Company:
    """Anna at these phones; the trunk's other end answers at once, as a person does, or a machine."""
    anna = {"name": "Anna", "phones": list(phones), "groups": ["sales"], "state": "ready"}
    rules = [{"name": "rest", "dial": {"group": "sales"}, "timeout": timeout}]
    return Company(
        directory,
        agents=[AnAgent("anna", behaviour=desk or RingsForever())],
        trunk=Answers(after_ms=100),
        settings={"agents": {"anna": {**anna, "crm": {"directory": "user-anna"}}}},
        **{"more_extensions": GLOBALS, "service": {"rules": rules}, **more},
    )


def mobile(number: str) -> str:
    return f"PJSIP/{number}@trunk"


def picked_up(phone: Phone, number: str = MOBILE) -> Leg:
    """The call that was sent to this mobile, as soon as it has been answered there."""

    def answered() -> Leg | None:
        return next(
            (leg for leg in phone.legs if leg.messages[0].to_number == number and leg.is_answered), None
        )

    leg = eventually(answered, what=f"an answer at {number}")
    assert leg is not None
    return leg


def asked(company: Company, times: int = 1) -> None:
    """Wait until whoever answered on the trunk has heard the prompt so often."""

    def heard() -> bool:
        return len(company.pbx.log("Executing .*cti-accept.* Read")) >= times

    eventually(heard, 20, what=f"{times} prompts")


def test_an_agent_at_a_mobile_has_the_call_once_they_press_1_and_no_data_of_the_crm(tmp_path):
    with a_company(tmp_path, "PJSIP/anna", mobile(MOBILE)) as company:
        trust_the_trunk(company)
        company.knows(a_customer())
        company.start()

        call = company.call(from_number=CUSTOMER)
        leg = picked_up(company.phones["outside"])
        asked(company)
        assert 200 not in call.result.codes, "the caller hears it ring until somebody accepts"
        assert company.daemon.agents()["anna"]["state"] == "offered"
        leg.press("1")
        call.wait_for(200)
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "busy", what="Anna in a call")
        # Her desk phone, which rang as well, is silent now.
        assert company.phones["anna"].received("CANCEL")
        call.hang_up()
        record = company.daemon.the_call()

        assert (record["agent"], record["outcome"], rung(company)) == (
            "anna",
            "answered",
            {"anna": 1, "outside": 1},
        )
        (segment,) = record["segments"]
        assert (segment["agents"], segment["agent"], segment["result"]) == (["anna"], "anna", "answered")
        (desk,), (outside,) = company.phones["anna"].invites, company.phones["outside"].invites
        assert (desk.from_name, desk.from_number) == ("Katrin Öhlmann", CUSTOMER)
        assert desk.header("Call-Info") is not None
        assert desk.header("User-to-User") == f"{record['id'].replace('-', '')};encoding=hex"
        assert (outside.from_name, outside.from_number) == ("", OFFICE)
        # Nor in any message after the answer, where the name would come once more as a connected line.
        everything = "\n".join(str(message) for message in company.phones["outside"].messages)
        assert not re.search(r"hlmann|Katrin|Call-Info|User-to-User|X-Cordboard|15228817386", everything)


def trust_the_trunk(company: Company) -> None:
    """Let Asterisk tell the trunk who calls, as trunks that show the caller's number want it."""
    pbx = company.pbx
    pbx.stop()
    pjsip = (pbx.directory / "etc" / "pjsip.conf").read_text()
    extra = {"pjsip.conf": pjsip.replace("context = from-trunk", "context = from-trunk\nsend_pai = yes")}
    pbx.configuration = evolve(pbx.configuration, extra=extra)
    pbx.start()


def press(keys: Sequence[str]) -> Any:
    def pressing(company: Company, leg: Leg) -> None:
        for number, key in enumerate(keys, 1):
            asked(company, number)
            leg.press(key)

    return pressing


@pytest.mark.parametrize(
    "what_happens",
    [
        pytest.param(lambda company, leg: None, id="a machine that talks"),
        pytest.param(press(["7", "*"]), id="wrong keys"),
        pytest.param(press(["2"]), id="declined"),
        pytest.param(lambda company, leg: (asked(company), leg.hang_up()), id="hung up"),
    ],
)
def test_a_mobile_at_which_nobody_accepts_never_has_the_call(tmp_path, what_happens):
    with a_company(tmp_path, mobile(MOBILE)) as company:
        company.start()

        call = company.call(from_number=CUSTOMER)
        leg = picked_up(company.phones["outside"])
        what_happens(company, leg)
        call.wait_for(200, timeout=30)
        call.hang_up()
        record = company.daemon.the_call()

        # The caller was never cut off: after the mobile there is the fallback.
        assert rung(company) == {"outside": 1, "reception": 1}
        assert (record["agent"], record["outcome"]) == (None, "answered")
        assert [segment["agent"] for segment in record["segments"]] == [None]
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready")


def test_a_machine_at_a_mobile_does_not_keep_the_call_from_the_desk(tmp_path):
    with a_company(tmp_path, "PJSIP/anna", mobile(MOBILE), desk=Answers(after_ms=1500)) as company:
        company.start()

        call = company.call(from_number=CUSTOMER)
        picked_up(company.phones["outside"])
        call.wait_for(200)
        call.hang_up()

        assert company.daemon.the_call()["agent"] == "anna"
        assert company.phones["anna"].received("ACK")


def test_of_two_mobiles_the_one_that_presses_1_has_the_call(tmp_path):
    with a_company(tmp_path, mobile(MOBILE), mobile(OTHER_MOBILE)) as company:
        company.start()

        call = company.call(from_number=CUSTOMER)
        first = picked_up(company.phones["outside"], MOBILE)
        second = picked_up(company.phones["outside"], OTHER_MOBILE)
        asked(company, 2)
        second.press("1")
        call.wait_for(200)
        # Who is slower is let go, and takes the call from nobody.
        first.press("1")
        eventually(lambda: has_ended(first), 15, what="the end of the other")
        assert call.result.ended is None
        assert not has_ended(second)
        call.hang_up()
        record = company.daemon.the_call()
        assert (record["agent"], record["outcome"], len(record["segments"])) == ("anna", "answered", 1)


def has_ended(leg: Leg) -> bool:
    return any(message.method == "BYE" for message in leg.messages)


def test_a_number_outside_is_rung_where_a_rule_says_so_once_and_has_the_call_when_1_is_pressed(tmp_path):
    rules = [
        {"name": "home office", "dial": {"number": OTHER_MOBILE}, "timeout": 8},
        {"name": "mobile", "dial": {"number": MOBILE}, "timeout": 15},
    ]
    with a_company(
        tmp_path, "PJSIP/anna", service={"rules": rules, "outside_line": "PJSIP/{number}@trunk"}
    ) as company:
        company.start()
        call = company.call(from_number=CUSTOMER)
        picked_up(company.phones["outside"], OTHER_MOBILE)
        # A machine, which presses nothing: the next rule decides.
        eventually(lambda: len(company.phones["outside"].invites) == 2, 20, what="the second number rings")
        leg = picked_up(company.phones["outside"], MOBILE)
        asked(company, 2)
        leg.press("1")
        call.wait_for(200)
        call.hang_up()
        record = company.daemon.the_call()

        assert (record["outcome"], record["agent"], record["rule"]) == ("answered", None, "mobile")
        assert [(one["agents"], one["result"]) for one in record["segments"]] == [
            ([], "no_answer"),
            ([], "answered"),
        ]
        assert leg.messages[0].from_name == ""
