"""Call control through the HTTP API, the daemon and a real Asterisk: what phones, log, events and cards see of it.

What each operation does inside Asterisk, and with whom it fails, is told by `test_pbx`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from lab.company import DIALLED, AnAgent, Company, way_out
from lab.laboratory import Answers, Busy, Call, RingsForever, eventually

CUSTOMER = "015228817386"
CUSTOMER_E164 = "+4915228817386"
OUTSIDE = "+493023125100"
OFFICE = "+494066969100"

AGENTS = (
    AnAgent("anna"),
    AnAgent("ben", state="paused"),
    AnAgent("cleo", groups=("service",), state="paused"),
    AnAgent("dora", groups=("slow",), behaviour=RingsForever(), state="paused"),
    AnAgent("emil", groups=("slow",), behaviour=Busy(), state="paused"),
    AnAgent("fred", behaviour=Answers(after_ms=None, capable=True), state="paused"),
)
SETTINGS = {
    "services": {
        "sales": {
            "numbers": [DIALLED],
            "mode": "route",
            "fallback": "old-context,s,1",
            "rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 20}],
        },
        "service": {
            "numbers": ["+494066969111"],
            "mode": "route",
            "fallback": "old-context,s,1",
            "rules": [{"name": "cleo", "dial": {"agent": "cleo"}, "timeout": 20}],
        },
    },
    "call_control": {
        "office_number": OFFICE,
        "ring_seconds": 5,
        "calls_per_minute": 1000,
        "supervise": ["listen", "whisper", "barge"],
        "record": True,
    },
}


class Refusal(Exception):
    """What the API said no with."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status} {detail}")
        self.status, self.detail = status, detail


class Office:
    """One company for all tests of this file: each begins and ends with nobody talking."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.daemon = company.daemon
        self.phones = company.phones

    def do(self, who: str, call: str, operation: str, **body: Any) -> dict[str, Any]:
        """What an agent asks for, or the supervisor `chief`."""
        return self._ask(who, f"/api/v1/calls/{call}/{operation}", body)

    def dial(self, who: str, to: str, **body: Any) -> dict[str, Any]:
        return self._ask(who, "/api/v1/calls", {"to": to, **body})

    def refusal(self, who: str, call: str | None, operation: str, **body: Any) -> tuple[int, str]:
        """The status and the reason."""
        path = "/api/v1/calls" if call is None else f"/api/v1/calls/{call}/{operation}"
        with pytest.raises(Refusal) as caught:
            self._ask(who, path, body)
        return caught.value.status, caught.value.detail

    def token(self, who: str) -> str:
        return self.daemon.token("supervisor", "cleo") if who == "chief" else self.daemon.token("agent", who)

    def _ask(self, who: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self.daemon.request("POST", path, body, self.token(who))
        except HTTPError as error:
            raise Refusal(error.code, json.loads(error.read())["detail"]) from error
        return answer

    def ready(self, *agents: str) -> None:
        """These agents are ready, and no others."""
        for agent in AGENTS:
            state = "ready" if agent.id in agents else "paused"
            self.daemon.request("PATCH", f"/api/v1/agents/{agent.id}", {"state": state})

    def talking(self) -> tuple[Call, str]:
        """A customer who talks with Anna, and the id of the call."""
        return self.ringing(200)

    def ringing(self, status: int = 180) -> tuple[Call, str]:
        """A customer for whom it rings, and the id of the call."""
        before = {each["id"] for each in self.daemon.calls()}
        call = self.company.call(from_number=CUSTOMER)
        call.wait_for(status)
        field = "answered" if status == 200 else "ringing"

        def begun() -> list[str]:
            return [each["id"] for each in self.daemon.calls() if each["id"] not in before and each[field]]

        (id,) = eventually(begun, 10, what="the call in the log")
        return call, id

    def state(self, agent: str) -> str:
        state: str = self.daemon.agents()[agent]["state"]
        return state

    def is_in(self, agent: str, call: str, *, bridged: int = 2) -> None:
        """Waits until the agent talks in this call; so many channels are `bridged` then."""
        eventually(
            lambda: any(
                each["agent"] == agent and each["answered"] and not each["ended"]
                for each in self.daemon.call(call)["channels"]
            ),
            10,
            what=f"{agent} in the call",
        )
        eventually(lambda: self.company.pbx.bridged() >= bridged, 10, what="who hear each other")

    def ended(self, call: str) -> dict[str, Any]:
        """The call in full, once it is over."""
        return eventually(
            lambda: record if (record := self.daemon.call(call))["ended"] else None,
            15,
            what="the end of the call",
        )

    def consultation(self, call: str) -> dict[str, Any]:
        (found,) = [each for each in self.daemon.calls() if each["parent"] == call]
        return self.daemon.call(found["id"])

    def is_quiet(self) -> None:
        """Nothing is left: no channel, nobody held."""
        try:
            eventually(lambda: not self.left(), 15, what="a quiet company")
        except TimeoutError as error:
            raise AssertionError(
                "\n".join(["left over:", *self.left(), self.company.pbx.cli("core show channels verbose")])
            ) from error

    def left(self) -> list[str]:
        """Who is held, and for which call, and the channels that there are."""
        held = [
            f"{id} is {each['state']} with {each['call']}"
            for id, each in self.daemon.agents().items()
            if each["call"] or each["state"] in ("busy", "offered")
        ]
        return held + self.company.pbx.channels()


def types(record: dict[str, Any]) -> list[str]:
    return [event["type"] for event in record["events"]]


def segments(record: dict[str, Any]) -> list[tuple[str | None, str | None, str]]:
    return [(each["agent"], each["result"], each["reason"]) for each in record["segments"]]


def cards(record: dict[str, Any]) -> list[str]:
    return [each["agent"] for each in record["cards"]]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    directory = tmp_path_factory.mktemp("control")
    with Company(
        directory, agents=AGENTS, settings=SETTINGS, more_extensions=way_out(), trunk=Answers(after_ms=300)
    ) as company:
        main = company.daemon.settings["asterisks"]["main"]
        main["capable_phones"] = ["PJSIP/fred"]
        main["recordings"] = {"directory": str(company.pbx.directory / "spool" / "monitor")}
        company.knows({"id": "17", "type": "contact", "name": "Katrin Öhlmann", "numbers": CUSTOMER_E164})
        yield company.start()


@pytest.fixture
def office(company: Company) -> Iterator[Office]:
    office = Office(company)
    office.ready("anna")
    yield office
    # What a test that failed has left must not fail the next ones.
    company.pbx.cli("channel request hangup all")
    office.is_quiet()


# MakeCall


def test_a_click_rings_the_agent_then_the_customer_who_sees_the_office(office):
    events = office.daemon.events("agent", "anna")

    made = office.dial("anna", CUSTOMER)

    assert (made["direction"], made["agent"], made["to"]) == ("outbound", "anna", CUSTOMER_E164)
    card = events.wait_for("card.offered")
    assert card.data["card"]["parties"][0]["name"] == "Katrin Öhlmann"
    eventually(lambda: office.daemon.call(made["id"])["answered"], 10, what="the customer's answer")
    assert office.state("anna") == "busy"
    assert office.phones["anna"].invites[-1].from_number == CUSTOMER_E164
    outside = office.phones["outside"].invites[-1]
    assert (outside.to_number, outside.from_number) == (CUSTOMER_E164, OFFICE)
    office.do("anna", made["id"], "clear")
    record = office.ended(made["id"])
    assert (record["outcome"], record["party"]["name"]) == ("answered", "Katrin Öhlmann")
    assert types(record).count("card.offered") == 1
    events.close()


def test_a_click_reaches_a_colleague_by_their_id_and_reserves_them(office):
    office.ready("anna", "ben")
    made = office.dial("anna", "ben")
    assert (made["direction"], made["to"]) == ("internal", "ben")
    eventually(lambda: office.daemon.call(made["id"])["answered"], 10, what="ben's answer")
    assert {office.state("anna"), office.state("ben")} == {"busy"}
    assert office.phones["ben"].invites[-1].from_name == "Anna"
    office.phones["ben"].hang_up()
    assert segments(office.ended(made["id"])) == [("ben", "answered", "called by anna")]


def test_a_phone_that_nobody_picks_up_leaves_an_ended_call_and_a_free_agent(office):
    office.ready("dora")
    made = office.dial("dora", CUSTOMER)
    eventually(lambda: office.state("dora") == "busy", 5)
    status, why = office.refusal("dora", None, "make", to=CUSTOMER)
    assert (status, "has a call already" in why) == (409, True)
    record = office.ended(made["id"])
    assert record["outcome"] in ("failed", "abandoned")
    assert office.state("dora") == "ready"


def test_a_phone_that_refuses_the_call_ends_it_at_once(office):
    calls = len(office.daemon.calls())
    status, why = office.refusal("emil", None, "make", to=CUSTOMER)
    assert (status, "busy" in why) == (502, True)
    newest = office.daemon.calls()
    assert len(newest) == calls + 1
    record = office.ended(newest[0]["id"])
    assert (record["agent"], record["outcome"]) == ("emil", "busy")


def test_numbers_that_may_not_be_dialled_ring_nobody(office):
    before = {name: len(phone.invites) for name, phone in office.phones.items()}
    for number in ("0900 1234567", "+870 773 123456", "112", "*21*0152", "200&PJSIP/ben"):
        assert office.refusal("anna", None, "make", to=number)[0] == 422
    call, id = office.talking()
    for operation in ("transfer", "consult"):
        assert office.refusal("anna", id, operation, to="0900 1234567")[0] == 422
    assert call.result.ended is None
    call.hang_up()
    office.ended(id)
    before["anna"] += 1
    assert {name: len(phone.invites) for name, phone in office.phones.items()} == before


# Hold, answer, digits, clear


def test_hold_and_retrieve_are_told_and_digits_reach_the_customer(office):
    call, id = office.talking()
    office.do("anna", id, "hold")
    assert types(office.daemon.call(id))[-1] == "call.held"
    office.do("anna", id, "retrieve")
    assert types(office.daemon.call(id))[-1] == "call.retrieved"
    office.do("anna", id, "digits", digits="12#")
    eventually(lambda: call.heard == "12#", 5, what="the digits")
    office.do("anna", id, "clear")
    assert office.ended(id)["outcome"] == "answered"
    assert call.wait().ended is not None


def test_a_capable_phone_answers_and_holds_at_a_click(office):
    office.ready("fred")
    call, id = office.ringing()
    office.do("fred", id, "answer")
    office.is_in("fred", id)
    office.do("fred", id, "hold")
    # SIPp cannot be told of anything else while it still sends that, nor for a moment after it.
    eventually(lambda: office.phones["fred"].messages[-1].method == "ACK", 5, what="the hold's end")
    time.sleep(0.2)
    office.do("fred", id, "retrieve")
    call.hang_up()
    record = office.ended(id)
    assert record["agent"] == "fred"
    assert [type for type in types(record) if type in ("call.held", "call.retrieved")] == [
        "call.held",
        "call.retrieved",
    ]


def test_a_phone_that_is_not_capable_says_so(office):
    office.phones["anna"].behave(Answers(after_ms=None))
    try:
        call, id = office.ringing()
        status, why = office.refusal("anna", id, "answer")
        assert (status, "pick it up" in why) == (409, True)
        call.hang_up()
        assert office.ended(id)["outcome"] == "missed"
    finally:
        office.phones["anna"].behave(Answers(after_ms=200))


# Handing on


def test_a_transfer_to_a_colleague_takes_the_card_along(office):
    call, id = office.talking()
    status, why = office.refusal("anna", id, "transfer", to="ben")
    assert (status, "paused" in why) == (409, True)
    office.ready("anna", "ben")

    office.do("anna", id, "transfer", to="ben")

    office.is_in("ben", id)
    call.hang_up()
    record = office.ended(id)
    assert segments(record) == [
        ("anna", "answered", "rest: anna is longest idle in sales"),
        ("ben", "answered", "transferred by anna"),
    ]
    assert (record["agent"], cards(record)) == ("ben", ["anna", "ben"])
    (transferred,) = [event for event in record["events"] if event["type"] == "call.transferred"]
    assert (transferred["from"], transferred["to"]) == ("anna", "ben")


def test_a_transfer_that_nobody_answers_comes_back_to_the_rules(office):
    call, id = office.talking()
    office.ready("anna", "dora", "ben")
    office.do("anna", id, "transfer", to="dora")
    office.is_in("ben", id)
    call.hang_up()
    assert [each[:2] for each in segments(office.ended(id))] == [
        ("anna", "answered"),
        (None, "no_answer"),
        ("ben", "answered"),
    ]


def test_a_transfer_to_a_service_follows_that_services_rules(office):
    call, id = office.talking()
    office.ready("anna", "cleo")
    office.do("anna", id, "transfer", to="040 66969 111")
    office.is_in("cleo", id)
    call.hang_up()
    record = office.ended(id)
    assert (record["service"], record["agent"]) == ("service", "cleo")


def test_a_transfer_to_a_group_finds_whoever_is_free_there(office):
    call, id = office.talking()
    office.ready("anna", "cleo")
    office.do("anna", id, "transfer", to="group:service")
    office.is_in("cleo", id)
    call.hang_up()
    assert office.ended(id)["agent"] == "cleo"


def test_a_transfer_to_the_outside_frees_the_agent(office):
    call, id = office.talking()
    calls = len(office.phones["outside"].invites)
    office.do("anna", id, "transfer", to=OUTSIDE)
    eventually(lambda: len(office.phones["outside"].invites) > calls, 10, what="the call outside")
    assert office.phones["outside"].invites[-1].to_number == OUTSIDE
    eventually(lambda: office.state("anna") == "ready", 5)
    assert call.result.ended is None
    call.hang_up()
    assert "call.transferred" in types(office.ended(id))


# Consultation


def test_a_consultation_is_a_call_of_its_own_and_completes_into_the_first(office):
    office.ready("anna", "ben")
    call, id = office.talking()

    asked = office.do("anna", id, "consult", to="ben")

    assert (asked["parent"], asked["agent"], asked["direction"]) == (id, "anna", "internal")
    # Two of the four are the halves of a Local channel.
    office.is_in("ben", asked["id"], bridged=4)
    assert cards(office.daemon.call(asked["id"])) == ["ben"]
    office.do("anna", id, "alternate")
    office.do("anna", asked["id"], "alternate")
    office.do("anna", id, "complete")
    office.is_in("ben", id)
    eventually(lambda: office.state("anna") == "ready", 5)
    assert call.result.ended is None
    call.hang_up()
    record = office.ended(id)
    assert (record["agent"], record["segments"][-1]["reason"]) == ("ben", "transferred by anna")
    assert "call.transferred" in types(record)
    assert office.ended(asked["id"])["outcome"] == "answered"


def test_a_consultation_outside_ends_with_the_customer_back(office):
    call, id = office.talking()
    asked = office.do("anna", id, "consult", to=OUTSIDE)
    eventually(lambda: office.daemon.call(asked["id"])["answered"], 10, what="the answer outside")
    assert office.phones["outside"].invites[-1].from_number == OFFICE
    office.do("anna", id, "reconnect")
    assert office.ended(asked["id"])["direction"] == "outbound"
    office.do("anna", id, "digits", digits="7")
    eventually(lambda: call.heard == "7", 5, what="the customer on the line")
    call.hang_up()
    office.ended(id)


def test_three_come_together_in_a_conference(office):
    office.ready("anna", "ben")
    call, id = office.talking()
    asked = office.do("anna", id, "consult", to="ben")
    # Two of the four are the halves of a Local channel.
    office.is_in("ben", asked["id"], bridged=4)
    office.do("anna", id, "conference")
    eventually(
        lambda: (
            {"anna", "ben"}
            <= {each["agent"] for each in office.daemon.call(id)["channels"] if not each["ended"]}
        ),
        10,
    )
    office.ended(asked["id"])
    call.hang_up()
    # The two of them talk on.
    office.do("anna", id, "clear")
    office.do("ben", id, "clear")
    assert office.ended(id)["outcome"] == "answered"


def test_a_colleague_who_is_not_free_is_not_consulted_and_nobody_is_held(office):
    call, id = office.talking()
    assert office.refusal("anna", id, "consult", to="ben")[0] == 409
    office.do("anna", id, "digits", digits="1")
    call.hang_up()
    office.ended(id)


# Pickup, park


def test_a_colleague_of_the_group_picks_up_and_others_cannot(office):
    office.phones["anna"].behave(Answers(after_ms=None))
    try:
        call, id = office.ringing()
        assert office.refusal("cleo", id, "pickup")[0] == 404
        office.do("ben", id, "pickup")
        office.is_in("ben", id)
        call.hang_up()
        record = office.ended(id)
        assert (record["agent"], record["outcome"]) == ("ben", "answered")
        assert [each[:2] for each in segments(record)] == [(None, "no_answer"), ("ben", "answered")]
    finally:
        office.phones["anna"].behave(Answers(after_ms=200))


def test_a_ringing_call_goes_to_somebody_else_at_a_click(office):
    office.phones["anna"].behave(Answers(after_ms=None))
    try:
        call, id = office.ringing()
        office.ready("anna", "ben")
        office.do("anna", id, "deflect", to="ben")
        office.is_in("ben", id)
        call.hang_up()
        record = office.ended(id)
        assert record["segments"][-1]["reason"] == "deflected by anna"
        assert (record["agent"], cards(record)) == ("ben", ["anna", "ben"])
    finally:
        office.phones["anna"].behave(Answers(after_ms=200))


def test_a_parked_customer_waits_in_a_space_that_is_told(office):
    call, id = office.talking()
    parked = office.do("anna", id, "park")
    assert parked["space"].isdigit()
    eventually(lambda: office.state("anna") == "ready", 5)
    assert call.result.ended is None
    call.hang_up()
    office.ended(id)


# Recording and listening


def test_a_recording_is_made_paused_and_fetched_by_who_may(office):
    call, id = office.talking()
    for action in ("start", "pause", "resume", "stop"):
        office.do("anna", id, "record", action=action)
    assert office.refusal("anna", id, "record", action="stop")[0] == 409
    call.hang_up()
    record = office.ended(id)
    assert record["recording"] == f"{id}.wav"
    assert [e["action"] for e in record["events"] if e["type"] == "audit.recording"] == [
        "start",
        "pause",
        "resume",
        "stop",
    ]

    def fetched(who: str) -> bytes:
        url = f"http://127.0.0.1:{office.daemon.http_port}/api/v1/calls/{id}/recording"
        with urlopen(
            Request(url, headers={"Authorization": f"Bearer {office.token(who)}"}), timeout=10
        ) as answer:
            body: bytes = answer.read()
        return body

    sound = fetched("chief")
    assert sound[:4] == b"RIFF"
    with pytest.raises(HTTPError) as refused:
        fetched("anna")
    assert refused.value.code == 403
    assert office.daemon.call(id)["events"][-1]["action"] == "heard"


@pytest.mark.parametrize("kind", ["listen", "whisper", "barge"])
def test_a_supervisor_listens_and_it_stays_on_record(office, kind):
    call, id = office.talking()
    assert office.refusal("anna", id, kind)[0] == 403
    office.do("chief", id, kind)
    (audit,) = [event for event in office.daemon.call(id)["events"] if event["type"] == "audit.supervision"]
    assert (audit["kind"], audit["agent"], audit["by"]) == (kind, "anna", "lab-supervisor-cleo")
    assert any(
        line.get("kind") == kind for line in office.daemon.log() if line["event"] == "a supervisor listens"
    )
    call.hang_up()
    office.ended(id)
