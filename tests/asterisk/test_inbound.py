"""The way of an inbound call on a real Asterisk: who is rung, what they see, what the log says afterwards."""

import re
import time

import pytest

from cti.store.opening import open_for_command
from cti.store.records import CallRecord
from lab.company import DESKTOP, DIALLED, AnAgent, Company
from lab.laboratory import Answers, RingsForever, eventually
from tests.faults.evidence import rung, seconds

CUSTOMER = "015228817386"
CUSTOMER_E164 = "+4915228817386"


def a_customer(**more: str) -> dict[str, str]:
    """Katrin, whom Anna looks after."""
    return {
        "id": "17",
        "type": "contact",
        "name": "Katrin Öhlmann",
        "company": "Öhlmann & Töchter GmbH",
        "numbers": "0152 / 288 17 386;+49 (30) 23125-017",
        "owner": "user-anna",
        "tier": "gold",
        "language": "de",
        **more,
    }


def test_a_known_customer_reaches_the_owner_whose_phone_shows_the_crms_name(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna"), AnAgent("ben")]) as company:
        company.knows(a_customer())
        company.start()

        result = company.call(from_number=CUSTOMER, from_name="a name of the trunk's", talk_ms=600).wait()

        assert result.final == 200
        assert rung(company) == {"anna": 1}
        (invite,) = company.phones["anna"].invites
        assert (invite.from_name, invite.from_number) == ("Katrin Öhlmann", CUSTOMER)
        record = company.daemon.the_call()
        assert (record["agent"], record["outcome"], record["rule"]) == ("anna", "answered", "owner")
        assert record["party"]["name"] == "Katrin Öhlmann"
        assert invite.header("call-info") == f"<{DESKTOP}/?call={record['id']}>;purpose=info"


def test_the_record_has_every_field_that_applies_and_agrees_with_the_sip_trace(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna", behaviour=Answers(after_ms=700))]) as company:
        company.knows(a_customer(), a_customer(id="18", name="Somebody Else", numbers="+44 20 7946 0018"))
        company.start()

        result = company.call(from_number=CUSTOMER, talk_ms=1200).wait()
        record = company.daemon.the_call()

        assert record["direction"] == "inbound"
        assert record["pbx"] == "main"
        assert (record["from"], record["from_raw"]) == (CUSTOMER_E164, CUSTOMER)
        assert (record["to"], record["service"]) == (DIALLED, "sales")
        party = {key: record["party"][key] for key in ("adapter", "type", "id", "name", "url")}
        assert party == {
            "adapter": "directory",
            "type": "contact",
            "id": "17",
            "name": "Katrin Öhlmann",
            "url": None,
        }
        assert "anna is" in record["reason"]
        assert 0 < record["identify_ms"] <= record["setup_ms"] < 1500
        assert record["hangup_cause"] == 16
        # Times within 1.5 s of what was on the wire.
        (invite,) = company.phones["anna"].invites
        assert abs(seconds(record["started"]) - result.started) < 1.5
        assert abs(seconds(record["ringing"]) - invite.time) < 1.5
        assert abs(seconds(record["answered"]) - result.answered) < 1.5
        assert abs(seconds(record["ended"]) - result.ended) < 1.5
        assert abs(record["talk"] - (result.ended - result.answered)) < 1.5
        assert abs(record["wait"] - (result.answered - result.started)) < 1.5
        assert record["duration"] == pytest.approx(record["wait"] + record["talk"], abs=0.002)
        assert record["talk"] >= 1.0
        # One offer, two channels, and the whole story in its events.
        (segment,) = record["segments"]
        assert (segment["agents"], segment["agent"], segment["result"]) == (["anna"], "anna", "answered")
        assert sorted(channel["role"] for channel in record["channels"]) == ["agent", "caller"]
        assert [event["type"] for event in record["events"] if event["type"] != "agent.state"] == [
            "call.offered",
            "call.routed",
            "card.offered",
            "call.ringing",
            "call.connected",
            "call.ended",
        ]
        sequence = [event["seq"] for event in record["events"]]
        assert sequence == sorted(sequence)


@pytest.mark.parametrize("calls", [3])
def test_without_the_owner_the_longest_idle_of_the_group_is_rung(tmp_path, calls):
    agents = [AnAgent("anna", state="logged_out"), AnAgent("ben"), AnAgent("cleo")]
    with Company(tmp_path, agents=agents) as company:
        company.knows(a_customer())
        company.start()
        order = []
        for _ in range(calls):
            before = rung(company)
            company.call(from_number=CUSTOMER, talk_ms=100).wait()
            eventually(lambda: all(a["state"] != "busy" for a in company.daemon.agents().values()))
            after = rung(company)
            order += [name for name in after if after[name] != before.get(name, 0)]

        # Who has just talked goes to the end of the line.
        assert order == ["ben", "cleo", "ben"]
        newest = company.daemon.calls()[0]
        trace = company.daemon.call(newest["id"])["decisions"][0]["trace"]
        assert newest["rule"] == "rest"
        assert "logged_out" in str(trace[0]), "the trace says why the owner was passed over"


def test_unknown_and_withheld_callers_follow_the_default_rule(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna")]) as company:
        company.knows(a_customer())
        company.start()
        company.call(from_number="03023125999", talk_ms=50).wait()
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready")
        company.call(privacy=True, talk_ms=50).wait()
        eventually(lambda: len(company.daemon.calls(outcome="answered")) == 2)

        withheld, unknown = company.daemon.calls()
        assert (unknown["from"], unknown["party"], unknown["rule"]) == ("+493023125999", None, "rest")
        assert (withheld["from"], withheld["from_kind"], withheld["rule"]) == (None, "withheld", "rest")
        assert rung(company) == {"anna": 2}


@pytest.mark.parametrize("country", ["DE"])
def test_the_customer_is_found_however_the_trunk_writes_the_number(tmp_path, country):
    forms = ["015228817386", "+4915228817386", "004915228817386", "4915228817386"]
    with Company(tmp_path, agents=[AnAgent("anna")], settings={"region": country}) as company:
        company.knows(a_customer())
        company.start()
        for form in forms:
            company.call(from_number=form, talk_ms=50).wait()
            eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready")
        eventually(lambda: len(company.daemon.calls(outcome="answered")) == len(forms))

        calls = list(reversed(company.daemon.calls()))
        assert [call["from_raw"] for call in calls] == forms
        assert {call["from"] for call in calls} == {CUSTOMER_E164}
        assert {call["party"]["id"] for call in calls if call["party"]} == {"17"}
        assert [call["rule"] for call in calls] == ["owner"] * len(forms)


def test_when_nobody_answers_the_next_agent_rings_and_the_card_goes_along(tmp_path):
    agents = [AnAgent("anna", behaviour=RingsForever()), AnAgent("ben", behaviour=Answers(after_ms=300))]
    with Company(tmp_path, agents=agents) as company:
        company.knows(a_customer())
        company.start()
        anna, ben = company.daemon.events("agent", "anna"), company.daemon.events("agent", "ben")

        company.call(from_number=CUSTOMER, talk_ms=400).wait()
        record = company.daemon.the_call()

        # One call, one record, two offers, one outcome.
        assert rung(company) == {"anna": 1, "ben": 1}
        assert (record["outcome"], record["agent"]) == ("answered", "ben")
        results = [(segment["agents"], segment["result"]) for segment in record["segments"]]
        assert results == [(["anna"], "no_answer"), (["ben"], "answered")]
        # The first one's card is withdrawn before the second one's is offered, and nobody sees the other's.
        offered_to_anna = anna.wait_for("card.offered")
        withdrawn = anna.wait_for("card.withdrawn")
        offered_to_ben = ben.wait_for("card.offered")
        assert offered_to_anna.id < withdrawn.id < offered_to_ben.id
        for offered in (offered_to_anna, offered_to_ben):
            assert offered.data["card"]["parties"][0]["name"] == "Katrin Öhlmann"
        ben.wait_for("call.ended")
        assert anna.of("call.missed", "call.connected") == []
        assert len(anna.of("card.offered")) == len(ben.of("card.offered")) == 1
        assert ben.of("card.withdrawn") == []
        # What Anna's phone was told, and when.
        (cancel,) = company.phones["anna"].received("CANCEL")
        assert abs(seconds(record["segments"][0]["ended"]) - cancel.time) < 1.5
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready")


def test_a_caller_who_hangs_up_while_it_rings_is_missed_once(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna", behaviour=RingsForever())]) as company:
        company.knows(a_customer())
        company.start()
        everything = company.daemon.events()

        result = company.call(from_number=CUSTOMER, cancel_after_ms=900).wait()
        record = company.daemon.the_call()

        assert result.final == 487
        assert (record["outcome"], record["agent"], record["answered"]) == ("missed", None, None)
        assert [segment["result"] for segment in record["segments"]] == ["abandoned"]
        assert abs(seconds(record["ended"]) - result.ended) < 1.5
        everything.wait_for("call.ended")
        assert len(everything.of("call.missed")) == 1
        assert len(everything.of("card.withdrawn")) == 1
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready")
        assert company.daemon.metric("cti_calls_total", outcome="missed", service="sales") == 1


def test_an_agent_is_held_for_the_offer_busy_in_the_call_and_free_afterwards(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna", behaviour=Answers(after_ms=600))]) as company:
        company.knows(a_customer())
        company.start()
        stream = company.daemon.events("agent", "anna")

        call = company.call(from_number=CUSTOMER)
        call.wait_for(200)
        busy = stream.wait_for("agent.state", lambda event: event.data["state"] == "busy")
        assert company.daemon.agents()["anna"]["state"] == "busy"
        # A second caller cannot get her, and there is nobody else: the fallback.
        second = company.call(from_number="03023125998", talk_ms=50).wait()
        assert second.final == 200
        call.hang_up()
        stream.wait_for("agent.state", lambda event: event.data["state"] == "ready" and event.id > busy.id)

        states = [event.data["state"] for event in stream.of("agent.state")]
        assert states == ["offered", "busy", "ready"]
        assert rung(company) == {"anna": 1, "reception": 1}
        eventually(lambda: len([one for one in company.daemon.calls() if one["ended"]]) == 2)
        by_number = {one["from"]: one for one in company.daemon.calls()}
        assert by_number["+493023125998"]["outcome"] == "answered"
        assert by_number["+493023125998"]["agent"] is None


def test_in_observe_mode_calls_go_as_without_us_and_the_log_says_what_we_would_have_done(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna")], service={"mode": "observe"}) as company:
        company.knows(a_customer())
        company.start()
        anna = company.daemon.events("agent", "anna")

        company.call(from_number=CUSTOMER, from_name="As Before", talk_ms=300).wait()
        record = company.daemon.the_call()

        assert rung(company) == {"reception": 1}
        (invite,) = company.phones["reception"].invites
        assert (invite.from_name, invite.header("call-info")) == ("As Before", None)
        assert (record["outcome"], record["segments"]) == ("answered", [])
        (decision,) = record["decisions"]
        assert (decision["action"], decision["agents"], decision["rule"]) == ("dial", ["anna"], "owner")
        assert decision["mode"] == "observe"
        assert anna.of("card.offered", "agent.state") == []


def test_a_number_of_no_service_goes_to_the_global_fallback_and_is_logged(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna")]) as company:
        company.start()

        company.call(did="494066969777", talk_ms=100).wait()
        record = company.daemon.the_call()

        assert rung(company) == {"reception": 1}
        assert company.pbx.log(r"the global fallback")
        assert (record["to"], record["service"], record["outcome"]) == ("+494066969777", None, "answered")
        assert "no service" in record["reason"]


def test_no_number_and_no_name_is_in_the_log_at_the_default_level(tmp_path):
    with Company(tmp_path, agents=[AnAgent("anna")]) as company:
        company.knows(a_customer())
        company.start()
        company.call(from_number=CUSTOMER, talk_ms=100).wait()
        record = company.daemon.the_call()

        text = company.daemon.output.read_text()
        assert not re.search(r"15228817386|Öhlmann|Katrin", text)
        about_the_call = [line for line in company.daemon.log() if line.get("call") == record["id"]]
        assert {"routed", "call ended"} <= {line["event"] for line in about_the_call}


def a_service(number: str, fallback: str, group: str) -> dict[str, object]:
    return {
        "numbers": [number],
        "mode": "route",
        "fallback": fallback,
        "rules": [{"name": "rest", "dial": {"group": group}, "timeout": 3}],
    }


OVERFLOW = """
[to-support]
exten => s,1,Goto(cti-inbound,494066969200,1)
[to-sales]
exten => s,1,Goto(cti-inbound,494066969100,1)
"""


def test_a_services_fallback_may_be_another_service(tmp_path):
    services = {
        "sales": a_service("+494066969100", "to-support,s,1", "sales"),
        "support": a_service("+494066969200", "old-context,s,1", "support"),
    }
    agents = [AnAgent("anna", state="paused"), AnAgent("ben", groups=["support"])]
    with Company(tmp_path, agents, settings={"services": services}, more_extensions=OVERFLOW) as company:
        company.start()
        result = company.call(from_number=CUSTOMER, talk_ms=300).wait()
        record = company.daemon.the_call()

        assert (result.final, rung(company)) == (200, {"ben": 1})
        assert (record["agent"], record["outcome"], record["service"]) == ("ben", "answered", "support")
        decisions = [(decision["service"], decision["action"]) for decision in record["decisions"]]
        assert decisions == [("sales", "fallback"), ("support", "dial")]


def test_services_whose_fallbacks_lead_to_each_other_end_at_the_global_one(tmp_path):
    services = {
        "sales": a_service("+494066969100", "to-support,s,1", "sales"),
        "support": a_service("+494066969200", "to-sales,s,1", "support"),
    }
    agents = [AnAgent("anna", state="paused"), AnAgent("ben", groups=["support"], state="paused")]
    with Company(tmp_path, agents, settings={"services": services}, more_extensions=OVERFLOW) as company:
        company.start()
        result = company.call(from_number=CUSTOMER, talk_ms=300).wait()

        assert (result.final, rung(company)) == (200, {"reception": 1})
        assert len(company.daemon.the_call()["decisions"]) == 20


def test_a_caller_who_spoke_with_somebody_yesterday_reaches_them_and_who_tries_again_reaches_the_second_level(
    tmp_path,
):
    rules = [
        {"name": "again", "when": {"tries": {"at_least": 2}}, "dial": {"agent": "cleo"}},
        {"name": "anna knows", "when": {"last_agent": "anna", "spoken.days": 1}, "dial": {"agent": "anna"}},
        {"name": "rest", "dial": {"agent": "ben"}},
    ]
    agents = [AnAgent("anna"), AnAgent("ben", behaviour=RingsForever()), AnAgent("cleo")]
    with Company(tmp_path, agents=agents, service={"rules": rules}) as company:
        company.daemon.write_configuration()
        with open_for_command(company.daemon.directory / "cti.db", destinations={}, clock=time.time) as store:
            unit, yesterday = store.unit(), time.time() - 30 * 3600
            unit.put_call(
                CallRecord(
                    "of-yesterday",
                    "main",
                    yesterday,
                    direction="outbound",
                    state="ended",
                    from_number=DIALLED,
                    to_number=CUSTOMER_E164,
                    agent="anna",
                    answered=yesterday + 5,
                    ended=yesterday + 65,
                )
            )
            store.commit_now(unit)
        company.start()

        company.call(from_number=CUSTOMER, talk_ms=100).wait()
        assert rung(company) == {"anna": 1}
        record = company.daemon.call(company.daemon.calls()[0]["id"])
        assert (record["rule"], record["agent"]) == ("anna knows", "anna")
        history = record["decisions"][0]["facts"]["history"]
        assert (history["last_agent"], history["tries"]) == ("anna", 1)

        # Nobody takes the first, and of the second it is known.
        stranger = "+442079460123"
        company.call(from_number=stranger, cancel_after_ms=900).wait()
        eventually(lambda: company.daemon.calls()[0]["outcome"] == "missed")
        company.call(from_number=stranger, talk_ms=100).wait()
        newest = company.daemon.calls()[0]
        assert (newest["rule"], newest["agent"]) == ("again", "cleo")
