"""Calls that go out or to a colleague on a real Asterisk: told of, shown and logged, and never held up for long."""

import signal
from pathlib import Path
from typing import Any

from lab.company import AnAgent, Company
from lab.laboratory import Answers, Busy, Call, eventually
from tests.asterisk.test_inbound import CUSTOMER, CUSTOMER_E164, a_customer
from tests.faults.evidence import guard_seconds, left_in_astdb, rung

EXTENSIONS = """
[globals]
CTI_OUTBOUND = way-out

[from-phones]
exten => _[0-9+]!,1,Goto(cti-outbound,${EXTEN},1)

[way-out]
exten => 21,1,Dial(PJSIP/ben,20)
exten => 30,1,Goto(cti-inbound,494066969100,1)
exten => _[0+]X!,1,Dial(PJSIP/${EXTEN}@trunk,20)
"""
BEN = "21"


def a_company(directory: Path, **more: Any) -> Company:
    given: dict[str, Any] = {"more_extensions": EXTENSIONS, "trunk": Answers(after_ms=200), **more}
    return Company(directory, agents=[AnAgent("anna"), AnAgent("ben")], **given)


def dial(company: Company, number: str, *, phone: str = "anna", **how: Any) -> Call:
    """Somebody of the company dials."""
    return company.lab.dial(company.phones[phone], company.pbx, number, **how)


def test_the_agent_who_calls_a_customer_has_the_card_before_it_rings_there(tmp_path):
    with a_company(tmp_path) as company:
        company.knows(a_customer())
        company.start()
        anna, ben = company.daemon.events("agent", "anna"), company.daemon.events("agent", "ben")

        result = dial(company, CUSTOMER, talk_ms=600).wait()
        record = company.daemon.the_call()

        assert (result.final, rung(company)) == (200, {"outside": 1})
        (invite,) = company.phones["outside"].invites
        assert invite.to_number == CUSTOMER
        card = anna.wait_for("card.offered")
        assert card.data["card"]["parties"][0]["name"] == "Katrin Öhlmann"
        assert card.at < invite.time + 0.5
        assert ben.of("card.offered") == []
        # Whom we know as what is our own business.
        assert (invite.from_name, invite.header("Call-Info"), invite.header("User-to-User")) == (
            "",
            None,
            None,
        )
        assert "hlmann" not in str(invite)
        shown = {
            key: record[key] for key in ("direction", "agent", "to", "outcome", "service", "hangup_cause")
        }
        assert shown == {
            "direction": "outbound",
            "agent": "anna",
            "to": CUSTOMER_E164,
            "outcome": "answered",
            "service": None,
            "hangup_cause": 16,
        }
        assert record["party"]["id"] == "17"
        assert (record["segments"], record["decisions"]) == ([], [])
        assert 0.3 < record["talk"] < record["duration"]
        assert [event["type"] for event in record["events"] if event["type"] != "agent.state"] == [
            "call.offered",
            "card.offered",
            "call.connected",
            "call.ended",
        ]
        assert company.daemon.metric("cti_calls_total", direction="outbound", outcome="answered") == 1


def test_colleagues_who_call_each_other_are_in_the_log_without_a_card(tmp_path):
    with a_company(tmp_path) as company:
        company.start()
        anna = company.daemon.events("agent", "anna")

        result = dial(company, BEN, talk_ms=400).wait()
        record = company.daemon.the_call()

        assert (result.final, rung(company)) == (200, {"ben": 1})
        assert (record["direction"], record["agent"], record["to"]) == ("internal", "anna", BEN)
        assert (record["outcome"], record["party"]) == ("answered", None)
        assert anna.of("card.offered") == []

        company.phones["ben"].behave(Busy())
        assert dial(company, BEN).wait().final == 486
        eventually(lambda: company.daemon.calls(outcome="busy"), what="the busy colleague in the log")


def test_a_colleague_who_calls_a_service_is_routed_like_any_caller_in_one_record(tmp_path):
    with a_company(tmp_path) as company:
        company.start()
        company.daemon.run("agents", "set", "anna", "--state", "paused")

        result = dial(company, "30", talk_ms=300).wait()
        record = company.daemon.the_call()

        assert (result.final, rung(company)) == (200, {"ben": 1})
        assert (record["direction"], record["service"], record["outcome"]) == (
            "internal",
            "sales",
            "answered",
        )
        assert [segment["agent"] for segment in record["segments"]] == ["ben"]


def test_a_consultation_is_a_call_of_its_own_that_names_the_one_it_belongs_to(tmp_path):
    with a_company(tmp_path) as company:
        company.start()
        talking = company.call(from_number=CUSTOMER)
        talking.wait_for(200)
        agent = next(name for name in ("anna", "ben") if company.phones[name].invites)

        dial(company, "015228895456", phone=agent, talk_ms=300).wait()
        talking.hang_up()

        eventually(lambda: len([c for c in company.daemon.calls() if c["ended"]]) == 2)
        consultation, customer = company.daemon.calls()
        assert (consultation["direction"], consultation["parent"]) == ("outbound", customer["id"])


def test_while_nobody_listens_calls_go_out_at_once_and_into_the_log_later(tmp_path):
    with a_company(tmp_path) as company:
        company.knows(a_customer())
        outside = dial(company, CUSTOMER, talk_ms=300).wait()
        inside = dial(company, BEN, talk_ms=300).wait()

        assert [outside.final, inside.final] == [200, 200]
        assert rung(company) == {"outside": 1, "ben": 1}
        company.start()
        eventually(lambda: len(company.daemon.calls()) == 2, what="both calls in the log")
        calls = company.daemon.calls()
        assert {(call["direction"], call["agent"], call["outcome"]) for call in calls} == {
            ("outbound", "anna", "answered"),
            ("internal", "anna", "answered"),
        }
        (out,) = (call for call in calls if call["direction"] == "outbound")
        assert (out["to"], out["party"]["id"]) == (CUSTOMER_E164, "17")
        eventually(lambda: not left_in_astdb(company.pbx), what="AstDB cleared away")


def test_a_frozen_daemon_holds_a_call_on_its_way_out_for_three_seconds(tmp_path):
    with a_company(tmp_path) as company:
        company.start()
        company.daemon.signal(signal.SIGSTOP)
        result = dial(company, CUSTOMER, talk_ms=300).wait()
        company.daemon.signal(signal.SIGCONT)

        assert (result.final, rung(company)) == (200, {"outside": 1})
        (guard,) = guard_seconds(company.pbx)
        assert 2.9 < guard < 4
        record = company.daemon.the_call()
        assert (record["direction"], record["agent"], record["outcome"]) == ("outbound", "anna", "answered")


def test_without_a_way_out_the_caller_hears_so_and_the_log_says_what_to_set(tmp_path):
    """Set to nothing, or to a context that leads back here."""
    for way_out in ("", "from-phones"):
        extensions = EXTENSIONS.replace("CTI_OUTBOUND = way-out", f"CTI_OUTBOUND = {way_out}")
        with a_company(tmp_path / (way_out or "none"), more_extensions=extensions) as company:
            result = dial(company, CUSTOMER).wait()

            assert (result.final, rung(company)) == (503, {})
            said = [line for line in company.pbx.log("set CTI_OUTBOUND") if line.level == "ERROR"]
            assert len(said) == 1
