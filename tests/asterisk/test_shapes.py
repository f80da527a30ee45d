"""Every shape that a call can take on a real Asterisk: what becomes of its record, segments, agents and times."""

from typing import Any

import pytest

from lab.company import AnAgent, Company
from lab.laboratory import Answers, Busy, Call, Congested, Declines, Forwards, RingsForever, eventually
from lab.trace import CallResult
from tests.asterisk.test_inbound import CUSTOMER, CUSTOMER_E164, a_customer
from tests.faults.evidence import seconds

#: The company's own dialplan, which knows nothing of us: its phones' numbers, features and ways of before.
OWN_WAYS = """
[from-phones]
exten => _0X.,1,Dial(PJSIP/${EXTEN}@trunk,20)
exten => 11,1,Dial(PJSIP/anna,20)
exten => 12,1,Dial(PJSIP/ben,20)
exten => 13,1,Dial(PJSIP/cleo,20)
exten => 20,1,Dial(PJSIP/reception,20)
exten => 700,1,Park()
exten => _70X,1,ParkedCall(default,${EXTEN})
exten => 800,1,Set(CONFBRIDGE(user,quiet)=yes)
 same => n,ConfBridge(room)
exten => 89,1,PickupChan(PJSIP/anna)
[from-trunk]
exten => 493023125200,1,Dial(PJSIP/ben,20)
; The fallback does something else for each caller.
[old-ways]
exten => s,1,Goto(${CALLERID(num):-2},1)
exten => 01,1,Dial(PJSIP/anna&PJSIP/ben,20)
exten => 02,1,Dial(PJSIP/anna,1)
 same => n,Dial(PJSIP/ben,20)
exten => 03,1,Dial(Local/12@from-phones,20)
exten => 04,1,Dial(PJSIP/01713920099@trunk,20)
exten => 05,1,Congestion(5)
exten => 06,1,Dial(PJSIP/anna,1)
"""


def a_company(tmp_path: Any, *agents: AnAgent, fallback: str | None = None, **more: Any) -> Company:
    """Anna in sales, Ben and Cleo beside it, a trunk that answers; `fallback` takes calls without asking anybody."""
    ways: dict[str, Any] = {} if fallback is None else {"service": {"rules": [], "fallback": fallback}}
    given = {agent.id: agent for agent in agents}
    people = [
        given.get(id, AnAgent(id, groups=["sales"] if id == "anna" else [])) for id in ("anna", "ben", "cleo")
    ]
    return Company(
        tmp_path, people, more_extensions=OWN_WAYS, **{"trunk": Answers(after_ms=200), **ways, **more}
    )


def talking(company: Company, **how: Any) -> Call:
    """A caller who talks to Anna."""
    call = company.call(from_number=CUSTOMER, **how)
    call.wait_for(200)
    eventually(lambda: talks(company, "anna"), 10, what="anna talking")
    return call


def talks(company: Company, agent: str) -> bool:
    """Whether they are held for a call that they talk in; a phone that is in use for something else is not enough."""
    view = company.daemon.agents()[agent]
    return view["state"] == "busy" and view["call"] is not None


def dials(company: Company, phone: str, number: str, **how: Any) -> Call:
    """Somebody takes up a phone and dials."""
    return company.lab.dial(company.phones[phone], company.pbx, number, **how)


def records(company: Company, count: int) -> list[dict[str, Any]]:
    """All calls, oldest first, once there are so many and nothing is open any more."""
    eventually(
        lambda: len(calls := company.daemon.calls()) == count and all(call["ended"] for call in calls),
        what=f"{count} calls that are over",
    )
    eventually(
        lambda: not any(agent["call"] for agent in company.daemon.agents().values()), what="free agents"
    )
    return [company.daemon.call(call["id"]) for call in reversed(company.daemon.calls())]


def segments(record: dict[str, Any]) -> list[tuple[list[str], str | None, str, str]]:
    """Who was rung, who of them talked, how they were reached (the rule, or in words), and how it ended."""
    return [
        (one["agents"], one["agent"], one["rule"] or one["reason"], one["result"])
        for one in record["segments"]
    ]


def devices(record: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((channel["device"], channel["role"]) for channel in record["channels"])


def agree(record: dict[str, Any], result: CallResult, talked: bool = True) -> None:
    """The record's times are those of the caller's SIP trace."""
    assert result.ended is not None
    assert abs(seconds(record["started"]) - result.started) < 1.5
    assert abs(seconds(record["ended"]) - result.ended) < 1.5
    assert abs(record["duration"] - (result.ended - result.started)) < 1.5
    if not talked:
        assert (record["answered"], record["talk"]) == (None, None)
        return
    assert result.answered is not None
    assert abs(seconds(record["answered"]) - result.answered) < 1.5
    assert abs(record["talk"] - (result.ended - result.answered)) < 1.5
    assert record["duration"] == pytest.approx(record["wait"] + record["talk"], abs=0.002)


def test_both_phones_of_an_agent_ring_and_are_one_offer(tmp_path):
    second = Answers(after_ms=300)
    anna = AnAgent("anna", behaviour=RingsForever(), phones=["PJSIP/anna", "PJSIP/reception"])
    with a_company(tmp_path, anna) as company:
        company.phones["reception"].behave(second)
        company.start()
        result = company.call(from_number=CUSTOMER, talk_ms=600).wait()
        (record,) = records(company, 1)

        assert segments(record) == [(["anna"], "anna", "rest", "answered")]
        assert devices(record) == [
            ("PJSIP/anna", "agent"),
            ("PJSIP/reception", "agent"),
            ("PJSIP/trunk", "caller"),
        ]
        assert (record["outcome"], record["agent"]) == ("answered", "anna")
        agree(record, result)


def by_the_fallback(company: Company, way: int, **how: Any) -> CallResult:
    """A caller whom the fallback treats in this way."""
    return company.call(from_number=f"+491713920{way:03d}", **how).wait()


def test_whom_the_fallback_reaches_has_a_segment_the_card_and_the_call(tmp_path):
    people = [
        AnAgent("anna", behaviour=RingsForever()),
        AnAgent("cleo", groups=[], phones=["PJSIP/01713920099@trunk"]),
    ]
    with a_company(tmp_path, *people, fallback="old-ways,s,1") as company:
        company.knows(a_customer(numbers="+49 171 3920001"))
        company.start()
        anna = company.daemon.events("agent", "anna")
        cleo = company.daemon.events("agent", "cleo")
        results = []
        for way in (1, 2, 3, 4):
            results.append(by_the_fallback(company, way, talk_ms=800))
            records(company, way)
        for way in (5, 6):
            results.append(by_the_fallback(company, way))
        group, in_turn, by_local, by_mobile, congested, nobody = calls = records(company, 6)

        # A ring group is one segment of all whom it rings, and each of them gets the card.
        assert segments(group) == [(["anna", "ben"], "ben", "rung by the fallback", "answered")]
        assert (group["outcome"], group["agent"], group["direction"]) == ("answered", "ben", "inbound")
        assert anna.wait_for("card.offered").data["card"]["parties"][0]["name"] == "Katrin Öhlmann"
        assert anna.wait_for("card.withdrawn").data["why"] == "answered_elsewhere"
        assert anna.of("call.ringing")
        # Phones that ring one after the other are two.
        assert segments(in_turn) == [
            (["anna"], None, "rung by the fallback", "no_answer"),
            (["ben"], "ben", "rung by the fallback", "answered"),
        ]
        # Local channels on the way are nobody, and may be optimised away.
        assert segments(by_local) == [(["ben"], "ben", "rung by the fallback", "answered")]
        assert (by_local["outcome"], by_local["agent"]) == ("answered", "ben")
        assert [role for device, role in devices(by_local) if device.startswith("Local/")] == [
            "other",
            "other",
        ]
        assert [event["type"] for event in by_local["events"]].count("call.connected") == 1
        # An agent's mobile over the trunk is the agent.
        assert segments(by_mobile) == [(["cleo"], "cleo", "rung by the fallback", "answered")]
        assert (by_mobile["outcome"], by_mobile["agent"]) == ("answered", "cleo")
        assert [event.data["state"] for event in cleo.of("agent.state")] == ["busy", "ready"]
        # Where nobody is rung it was still the fallback that had the call.
        assert results[4].final is not None
        assert results[4].final >= 500
        assert (congested["outcome"], congested["segments"]) == ("fallback", [])
        assert (nobody["outcome"], segments(nobody)) == (
            "missed",
            [(["anna"], None, "rung by the fallback", "no_answer")],
        )
        for record, result in zip(calls, results, strict=True):
            agree(record, result, talked=record["outcome"] == "answered")


def test_the_caller_gives_up_or_nobody_can_be_rung(tmp_path):
    with a_company(tmp_path, AnAgent("anna", behaviour=Busy()), fallback="old-ways,s,1") as company:
        company.phones["ben"].behave(Busy())
        company.start()
        busy = by_the_fallback(company, 1)
        records(company, 1)
        company.phones["anna"].behave(Congested())
        congested = by_the_fallback(company, 6)
        records(company, 2)
        for phone in ("anna", "ben"):
            company.phones[phone].behave(RingsForever())
        gave_up = by_the_fallback(company, 1, cancel_after_ms=700)
        records(company, 3)
        company.phones["anna"].behave(Busy())
        one_rings = by_the_fallback(company, 1, cancel_after_ms=700)

        refused, unreached, missed, half = records(company, 4)
        # Nobody's phone rang, and the last that was done with it was the fallback.
        assert (refused["outcome"], segments(refused)) == (
            "fallback",
            [(["anna", "ben"], None, "rung by the fallback", "busy")],
        )
        assert (unreached["outcome"], segments(unreached)) == (
            "fallback",
            [(["anna"], None, "rung by the fallback", "failed")],
        )
        assert (missed["outcome"], segments(missed)) == (
            "missed",
            [(["anna", "ben"], None, "rung by the fallback", "abandoned")],
        )
        assert (half["outcome"], half["ringing"] is not None) == ("missed", True)
        ends = (busy, congested, gave_up, one_rings)
        for record, result in zip((refused, unreached, missed, half), ends, strict=True):
            agree(record, result, talked=False)
        assert [event["type"] for event in missed["events"]].count("call.missed") == 1


def test_a_phone_that_forwards_hands_its_offer_on(tmp_path):
    with a_company(tmp_path, AnAgent("anna", behaviour=Forwards("12", after_ms=200))) as company:
        company.knows(a_customer())
        company.start()
        ben = company.daemon.events("agent", "ben")
        result = company.call(from_number=CUSTOMER, talk_ms=600).wait()
        (record,) = records(company, 1)

        assert segments(record) == [
            (["anna"], None, "owner", "forwarded"),
            (["ben"], "ben", "forwarded by anna", "answered"),
        ]
        assert (record["outcome"], record["agent"]) == ("answered", "ben")
        agree(record, result)
        card = ben.wait_for("card.offered").data["card"]
        assert card["parties"][0]["name"] == "Katrin Öhlmann", "the card goes along"


def test_an_attended_transfer_made_on_the_phone(tmp_path):
    with a_company(tmp_path) as company:
        company.knows(a_customer())
        company.start()
        ben = company.daemon.events("agent", "ben")
        call = talking(company)
        consulting = dials(company, "anna", "12")
        consulting.wait_for(200)
        eventually(lambda: talks(company, "ben"), 10, what="ben talking")
        company.phones["anna"].transfer_to(consulting)
        ben.wait_for("card.offered")
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready", what="Anna free")
        assert company.daemon.agents()["ben"]["state"] == "busy"
        company.phones["ben"].hang_up()
        record, consultation = records(company, 2)

        # One record of the customer's, one of the consultation, which names it.
        assert (record["outcome"], record["agent"], record["parent"]) == ("answered", "ben", None)
        assert segments(record) == [
            (["anna"], "anna", "owner", "answered"),
            (["ben"], "ben", "transferred by anna", "answered"),
        ]
        assert devices(record) == [("PJSIP/anna", "agent"), ("PJSIP/ben", "agent"), ("PJSIP/trunk", "caller")]
        agree(record, call.wait())
        assert (consultation["parent"], consultation["direction"]) == (record["id"], "internal")
        assert (consultation["outcome"], consultation["agent"]) == ("answered", "anna")
        assert segments(consultation) == [(["ben"], "ben", "called by anna", "answered")]
        assert devices(consultation) == [("PJSIP/anna", "caller")]
        # The consultation was over when the caller was put through, and Anna's part of the call with it.
        passed_on = seconds(record["segments"][1]["answered"])
        assert abs(seconds(consultation["ended"]) - passed_on) < 1.5
        assert abs(seconds(record["segments"][0]["ended"]) - passed_on) < 1.5
        transferred = [event for event in record["events"] if event["type"] == "call.transferred"]
        assert [(event["from"], event["to"]) for event in transferred] == [("anna", "ben")]
        assert [event["agent"] for event in record["events"] if event["type"] == "card.withdrawn"] == ["anna"]


def test_a_blind_transfer_made_on_the_phone(tmp_path):
    with a_company(tmp_path, AnAgent("ben", groups=[], behaviour=Answers(after_ms=500))) as company:
        company.start()
        call = talking(company)
        company.phones["anna"].transfer("12")
        eventually(lambda: talks(company, "ben"), 10, what="ben talking")
        assert company.daemon.agents()["anna"]["state"] == "ready"
        result = call.hang_up()
        (record,) = records(company, 1)

        assert (record["outcome"], record["agent"]) == ("answered", "ben")
        assert segments(record) == [
            (["anna"], "anna", "rest", "answered"),
            (["ben"], "ben", "transferred by anna", "answered"),
        ]
        agree(record, result)
        transferred = [event for event in record["events"] if event["type"] == "call.transferred"]
        assert [(event["from"], event["to"]) for event in transferred] == [("anna", "12")]


def test_a_transfer_to_a_phone_that_only_rings_so_far(tmp_path):
    with a_company(tmp_path, AnAgent("ben", groups=[], behaviour=Answers(after_ms=None))) as company:
        company.start()
        call = talking(company)
        consulting = dials(company, "anna", "12")
        consulting.wait_for(180)
        company.phones["anna"].transfer_to(consulting)
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready", what="Anna free")
        company.phones["ben"].answer()
        eventually(lambda: talks(company, "ben"), 10, what="ben talking")
        result = call.hang_up()
        record, consultation = records(company, 2)

        assert segments(record) == [
            (["anna"], "anna", "rest", "answered"),
            (["ben"], "ben", "transferred by anna", "answered"),
        ]
        agree(record, result)
        # Ben did not miss the consultation: it went on as the customer's call.
        assert (consultation["outcome"], consultation["parent"]) == ("abandoned", record["id"])
        assert segments(consultation) == [(["ben"], None, "called by anna", "forwarded")]


def test_a_call_that_is_picked_up_by_a_colleague(tmp_path):
    with a_company(tmp_path, AnAgent("anna", behaviour=RingsForever())) as company:
        company.knows(a_customer())
        company.start()
        call = company.call(from_number=CUSTOMER)
        eventually(lambda: company.phones["anna"].invites, what="Anna's phone")
        dials(company, "ben", "89")
        call.wait_for(200)
        eventually(lambda: talks(company, "ben"), 10, what="ben talking")
        assert company.daemon.agents()["anna"]["state"] == "ready"
        result = call.hang_up()
        (record,) = records(company, 1)

        assert (record["outcome"], record["agent"]) == ("answered", "ben")
        assert segments(record) == [
            (["anna"], None, "owner", "no_answer"),
            (["ben"], "ben", "picked up", "answered"),
        ]
        agree(record, result)


def test_a_call_that_is_parked_and_taken_out_by_a_colleague(tmp_path):
    with a_company(tmp_path) as company:
        company.knows(a_customer())
        company.start()
        call, other = talking(company), company.call(from_number="03023125001", did="494066969777")
        other.wait_for(200)
        company.phones["anna"].transfer("700")
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready", what="Anna free")
        # Somebody else's caller, in the same lot, is nobody's business.
        company.phones["reception"].transfer("700")
        dials(company, "ben", "701")
        eventually(lambda: talks(company, "ben"), 10, what="ben talking")
        result, other_result = call.hang_up(), other.hang_up()
        record, others = records(company, 2)

        assert segments(record) == [
            (["anna"], "anna", "owner", "answered"),
            (["ben"], "ben", "retrieved from parking 701", "answered"),
        ]
        assert (record["outcome"], record["agent"]) == ("answered", "ben")
        agree(record, result)
        agree(others, other_result)
        assert others["parent"] is None


def test_a_conference_is_part_of_the_callers_call(tmp_path):
    with a_company(tmp_path) as company:
        company.start()
        call = talking(company)
        cleo = dials(company, "cleo", "800")
        cleo.wait_for(200)
        company.phones["anna"].transfer("800")
        eventually(lambda: talks(company, "cleo"), 10, what="cleo talking")
        ben = dials(company, "ben", "800")
        eventually(lambda: talks(company, "ben"), 10, what="ben talking")
        for one in (cleo, ben):
            one.hang_up()
        result = call.hang_up()
        (record,) = records(company, 1)

        assert [(agents, reason) for agents, _, reason, _ in segments(record)] == [
            (["anna"], "rest"),
            (["cleo"], "joined a conference"),
            (["ben"], "joined a conference"),
        ]
        assert {device for device, _ in devices(record)} == {
            f"PJSIP/{id}" for id in ("anna", "ben", "cleo", "trunk")
        }
        agree(record, result)


def test_a_call_from_a_phone_to_a_customer_and_others_that_end_before_anybody_talks(tmp_path):
    with a_company(tmp_path) as company:
        company.knows(a_customer())
        company.start()
        anna = company.daemon.events("agent", "anna")
        answered = dials(company, "anna", CUSTOMER, talk_ms=600).wait()
        anna.wait_for("call.connected")
        records(company, 1)
        company.phones["outside"].behave(Busy())
        busy = dials(company, "anna", CUSTOMER).wait()
        records(company, 2)
        company.phones["outside"].behave(RingsForever())
        given_up = dials(company, "anna", CUSTOMER, cancel_after_ms=500).wait()
        records(company, 3)
        company.phones["outside"].behave(Congested())
        congested = dials(company, "anna", CUSTOMER).wait()
        records(company, 4)
        company.phones["outside"].behave(Declines())
        declined = dials(company, "anna", CUSTOMER).wait()
        calls = records(company, 5)

        assert [call["outcome"] for call in calls] == ["answered", "busy", "abandoned", "failed", "failed"]
        assert {(call["direction"], call["agent"], call["to"]) for call in calls} == {
            ("outbound", "anna", CUSTOMER_E164)
        }
        assert {call["party"]["name"] for call in calls} == {"Katrin Öhlmann"}
        assert [call["segments"] for call in calls] == [[]] * 5
        assert devices(calls[0]) == [("PJSIP/anna", "caller"), ("PJSIP/trunk", "other")]
        agree(calls[0], answered)
        agree(calls[1], busy, talked=False)
        agree(calls[2], given_up, talked=False)
        agree(calls[3], congested, talked=False)
        agree(calls[4], declined, talked=False)
        states = [event.data["state"] for event in anna.of("agent.state")]
        assert states[:2] == ["busy", "ready"]


def test_internal_calls_are_answered_missed_or_busy_and_a_feature_is_no_call(tmp_path):
    with a_company(tmp_path) as company:
        company.start()
        dials(company, "anna", "800", talk_ms=300).wait()
        answered = dials(company, "anna", "12", talk_ms=500).wait()
        records(company, 1)
        company.phones["ben"].behave(RingsForever())
        missed = dials(company, "reception", "12", cancel_after_ms=500).wait()
        records(company, 2)
        company.phones["ben"].behave(Busy())
        busy = dials(company, "anna", "12").wait()
        calls = records(company, 3)

        assert [(call["direction"], call["outcome"], call["agent"]) for call in calls] == [
            ("internal", "answered", "anna"),
            ("internal", "missed", None),
            ("internal", "busy", "anna"),
        ]
        assert segments(calls[0]) == [(["ben"], "ben", "called by anna", "answered")]
        agree(calls[0], answered)
        agree(calls[1], missed, talked=False)
        agree(calls[2], busy, talked=False)


def test_an_inbound_call_that_does_not_pass_our_dialplan_is_in_the_log(tmp_path):
    with a_company(tmp_path) as company:
        company.knows(a_customer())
        company.start()
        result = company.call(did="493023125200", from_number=CUSTOMER, talk_ms=600).wait()
        (record,) = records(company, 1)

        assert (record["direction"], record["from"], record["to"]) == (
            "inbound",
            CUSTOMER_E164,
            "+493023125200",
        )
        assert (record["outcome"], record["agent"], record["attempt"]) == ("answered", "ben", 0)
        assert record["party"]["name"] == "Katrin Öhlmann"
        assert segments(record) == [(["ben"], "ben", "rung by the dialplan", "answered")]
        agree(record, result)
