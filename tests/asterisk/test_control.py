"""Call control through the HTTP API, the daemon and a real Asterisk: what phones, record, events and cards see of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError

import pytest

from lab.company import AnAgent, Company
from lab.laboratory import Answers, Call, eventually

CUSTOMER = "015228817386"
CUSTOMER_E164 = "+4915228817386"
OUTSIDE = "+49895454599"

#: Where calls to the outside go: to a phone that is no agent's.
OUT = """
[globals]
CTI_OUTBOUND = way-out

[way-out]
exten => _[0-9+].,1,NoOp(out)
 same => n,Dial(PJSIP/reception,30)
 same => n,Hangup()
"""


class Desk:
    """Somebody with a token, who asks for things."""

    def __init__(self, company: Company, role: str, agent: str | None = None) -> None:
        self.company = company
        self.token = company.daemon.token(role, agent)

    def do(self, call: str, operation: str, **body: Any) -> dict[str, Any]:
        path = f"/api/v1/calls/{call}/{operation}"
        return self.company.daemon.request("POST", path, body, self.token)

    def dial(self, to: str, **body: Any) -> dict[str, Any]:
        return self.company.daemon.request("POST", "/api/v1/calls", {"to": to, **body}, self.token)

    def refused(self, call: str, operation: str, **body: Any) -> tuple[int, str]:
        """The status and the reason."""
        with pytest.raises(HTTPError) as caught:
            self.do(call, operation, **body)
        return caught.value.code, json.loads(caught.value.read())["detail"]


@pytest.fixture
def company(tmp_path) -> Iterator[Company]:
    agents = [AnAgent("anna"), AnAgent("ben", state="paused"), AnAgent("cleo", groups=("service",), state="paused")]
    settings = {
        "call_control": {
            "office_number": "+494066969100",
            "supervise": ["listen", "whisper", "barge"],
            "record": True,
        }
    }
    with Company(tmp_path, agents=agents, settings=settings, more_extensions=OUT) as company:
        company.knows(
            {"id": "17", "type": "contact", "name": "Katrin Öhlmann", "numbers": CUSTOMER_E164, "owner": "user-anna"}
        )
        yield company.start()


def talking(company: Company, agent: str = "anna") -> tuple[Call, str]:
    """A customer who talks with the agent, and the id of the call."""
    call = company.call(from_number=CUSTOMER)
    call.wait_for(200)
    (record,) = eventually(
        lambda: [each for each in company.daemon.calls(agent=agent) if each["answered"] and not each["ended"]]
    )
    return call, record["id"]


def ready(company: Company, *agents: str) -> None:
    for agent in agents:
        company.daemon.request("PATCH", f"/api/v1/agents/{agent}", {"state": "ready"})


def show(company):
    for each in company.daemon.calls():
        r = company.daemon.call(each["id"])
        print("CALL", r["id"][-6:], "parent", (r["parent"] or "-")[-6:], r["direction"], r["agent"], r["state"], r["outcome"], r["from"], r["to"], "rec", r["recording"], "reason", r["reason"], "party", (r["party"] or {}).get("name"))
        for x in r["segments"]: print("   seg", x["number"], x["agents"], x["agent"], x["rule"], x["reason"], x["result"], "ringing", bool(x["ringing"]), "answered", bool(x["answered"]))
        for x in r["channels"]: print("   chan", x["uniqueid"], x["device"], x["role"], x["agent"], "ended", bool(x["ended"]))
        print("   ev", [e["type"] + (":" + str(e.get("to") or e.get("agent") or e.get("kind") or e.get("action") or "")) for e in r["events"]])
    print({k: (v["state"], v["call"]) for k, v in company.daemon.agents().items()})


def types(company: Company, call: str) -> list[str]:
    return [event["type"] for event in company.daemon.call(call)["events"]]


def test_a_blind_transfer_to_a_colleague(company):
    ready(company, "ben")
    call, id = talking(company)
    Desk(company, "agent", "anna").do(id, "transfer", to="ben")
    eventually(lambda: company.daemon.agents()["ben"]["state"] == "busy")
    show(company)
    call.hang_up()
    record = company.daemon.the_call()
    show(company)


def test_explore(company):
    anna = Desk(company, "agent", "anna")
    call, id = talking(company)
    for op, body in [("hold", {}), ("retrieve", {}), ("digits", {"digits": "12#"}), ("record", {"action": "start"}), ("record", {"action": "pause"}), ("record", {"action": "resume"}), ("record", {"action": "stop"})]:
        try:
            print(op, anna.do(id, op, **body)["state"])
        except HTTPError as e:
            print(op, e.code, e.read())
    ready(company, "ben")
    for op, body in [("consult", {"to": "ben"}), ("alternate", {}), ("alternate", {}), ("complete", {})]:
        try:
            print(op, anna.do(id, op, **body)["id"])
        except HTTPError as e:
            print(op, e.code, e.read())
        import time
        time.sleep(1)
    show(company)
    call.hang_up()
    import time
    time.sleep(1)
    show(company)
    assert 0


def test_make(company):
    anna = Desk(company, "agent", "anna")
    made = anna.dial(CUSTOMER)
    print(made)
    import time
    time.sleep(2)
    show(company)
    company.phones["anna"].hang_up()
    time.sleep(1)
    show(company)
    assert 0
