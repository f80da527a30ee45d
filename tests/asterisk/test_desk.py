"""The desk behind a real Asterisk: a card seen before it rings, notes, wrap-up, a missed call that is called back."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from lab.company import DIALLED, AnAgent, Company, way_out
from lab.daemon import EventStream, StreamEvent
from lab.laboratory import Answers, RingsForever, eventually

CUSTOMER = "015228817386"
CUSTOMER_E164 = "+4915228817386"
LEAD = 1.2
AGENTS = (
    AnAgent("anna", behaviour=Answers(after_ms=20)),
    AnAgent("dora", groups=("slow",), behaviour=RingsForever()),
)
SETTINGS = {
    "services": {
        "sales": {
            "numbers": [DIALLED],
            "mode": "route",
            "fallback": "old-context,s,1",
            "rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 20}],
            "wrap_up": 300,
            "dispositions": {"order": "Order", "question": {"de": "Frage", "en": "Question"}},
            "disposition": "required",
            "card_lead_ms": int(LEAD * 1000),
            "quick_create": True,
        },
        "slow": {
            "numbers": ["+494066969111"],
            "mode": "route",
            "fallback": "old-context,s,1",
            "rules": [{"name": "dora", "when": {"attempt": 1}, "dial": {"group": "slow"}, "timeout": 20}],
        },
    },
    "call_control": {"office_number": "+494066969100", "auto_answer": False},
}


class Browser:
    """What an agent's page does: reads its desk, follows events, writes."""

    def __init__(self, company: Company, agent: str) -> None:
        self.agent = agent
        self.company = company
        self.token = company.daemon.token("agent", agent)

    def follow(self) -> EventStream:
        return self.company.daemon.events("agent", self.agent)

    def ask(self, method: str, path: str, body: Any = None, etag: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if etag is not None:
            headers["If-Match"] = etag
        request = Request(
            f"http://127.0.0.1:{self.company.daemon.http_port}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
            method=method,
        )
        try:
            with urlopen(request, timeout=20) as answer:
                content = answer.read()
                return answer.status, json.loads(content) if content else None
        except HTTPError as error:
            return error.code, json.loads(error.read())

    def desk(self) -> Any:
        status, desk = self.ask("GET", "/desk")
        assert status == 200, desk
        return desk

    def paint(self, card: StreamEvent) -> None:
        body = {"attempt": card.data["attempt"]}
        assert self.ask("POST", f"/calls/{card.data['call']['id']}/card", body) == (204, None)

    def is_in(self, state: str) -> None:
        eventually(lambda: self.desk()["agent"]["state"] == state, 15, what=f"{self.agent} {state}")


def card_to_ring(company: Company, browser: Browser, paint_after: float | None) -> float:
    """Seconds from the card to the INVITE at Anna's phone, of a call that ends, written up, before this returns."""
    stream = browser.follow()
    call = company.call(from_number=CUSTOMER)
    card = stream.wait_for("card.offered")
    if paint_after is not None:
        time.sleep(paint_after)
        browser.paint(card)
        browser.paint(card)
    call.wait_for(200)
    id = card.data["call"]["id"]
    invite = company.phones["anna"].invites[-1]
    call.hang_up()
    browser.is_in("wrap_up")
    stream.close()
    shown = [each for each in company.daemon.call(id)["events"] if each["type"] == "card.shown"]
    assert len(shown) == (paint_after is not None)
    etag = browser.desk()["calls"][0]["etag"]
    assert browser.ask("PATCH", f"/calls/{id}", {"disposition": "order"}, etag)[0] == 200
    assert browser.ask("POST", f"/calls/{id}/wrap_up", {"finish": True})[0] == 200
    return invite.time - card.at


def an_office(directory: Path) -> Company:
    return Company(
        directory, agents=AGENTS, settings=SETTINGS, more_extensions=way_out(), trunk=Answers(after_ms=300)
    )


def test_the_phone_rings_once_the_card_is_seen_or_the_time_for_it_is_over(tmp_path: Path) -> None:
    with an_office(tmp_path) as company:
        company.start()
        anna = Browser(company, "anna")
        seen = card_to_ring(company, anna, paint_after=0.2)
        assert 0.2 <= seen < LEAD
        assert company.daemon.metric("cti_card_paint_seconds_count") == 1
        unseen = card_to_ring(company, anna, paint_after=None)
        assert unseen >= LEAD - 0.05
        # Nobody looks: nobody is waited for.
        before = time.time()
        call = company.call(from_number=CUSTOMER)
        call.wait_for(200)
        assert company.phones["anna"].invites[-1].time - before < LEAD
        call.hang_up()


def test_a_call_is_written_up_and_that_outlives_a_restart(tmp_path: Path) -> None:
    with an_office(tmp_path) as company:
        company.start()
        anna = Browser(company, "anna")
        call = company.call(from_number=CUSTOMER)
        call.wait_for(200)
        anna.is_in("busy")
        eventually(lambda: "hold" in anna.desk()["calls"][0]["can"], 10, what="what may be done")
        (shown,) = anna.desk()["calls"]
        id = shown["call"]["id"]
        assert shown["status"] == "talking"
        assert shown["quick_create"]
        katrin = {"type": "contact", "name": "Katrin Öhlmann", "number": CUSTOMER, "call": id}
        assert [anna.ask("POST", "/parties", katrin)[0] for _ in range(2)] == [201, 200]
        (found,) = anna.ask("GET", f"/identify?number={CUSTOMER}")[1]["parties"]
        assert found["name"] == "Katrin Öhlmann"
        shown = anna.desk()["calls"][0]
        assert (shown["party"]["id"], shown["quick_create"]) == (found["id"], False)
        assert anna.ask("POST", f"/calls/{id}/hold", {})[0] == 200
        held = anna.desk()["calls"][0]
        assert held["status"] == "held"
        assert {"retrieve", "reconnect"} <= set(held["can"])
        assert "hold" not in held["can"]
        company.daemon.stop()
        company.daemon.start()
        # Whom she holds is known to Asterisk alone, and was asked.
        eventually(lambda: "retrieve" in anna.desk()["calls"][0]["can"], 10, what="who is still held")
        assert anna.ask("POST", f"/calls/{id}/retrieve", {})[0] == 200
        assert anna.ask("PATCH", f"/calls/{id}", {"notes": "lost"})[0] == 428
        status, written = anna.ask("PATCH", f"/calls/{id}", {"notes": "wants an offer"}, shown["etag"])
        assert status == 200
        status, refused = anna.ask("PATCH", f"/calls/{id}", {"notes": "over it"}, shown["etag"])
        assert (status, refused["call"]["notes"], refused["etag"]) == (
            412,
            "wants an offer",
            written["etag"],
        )
        call.hang_up()
        anna.is_in("wrap_up")
        assert anna.ask("POST", f"/calls/{id}/wrap_up", {"extend": 60})[0] == 200
        until = anna.desk()["agent"]["wrap_up_until"]
        company.daemon.kill()
        company.daemon.start()
        anna.is_in("wrap_up")
        desk = anna.desk()
        assert desk["agent"]["wrap_up_until"] == until
        assert (desk["calls"][0]["status"], desk["calls"][0]["call"]["notes"]) == (
            "wrap_up",
            "wants an offer",
        )
        status, missing = anna.ask("POST", f"/calls/{id}/wrap_up", {"finish": True})
        assert (status, missing["type"].rpartition(":")[2]) == (409, "disposition-missing")
        # Whoever does not care is free all the same, and has the call in their worklist.
        assert anna.ask("PATCH", "/agents/anna", {"state": "ready"})[0] == 200
        anna.is_in("ready")
        assert anna.desk()["unwritten"] == {"count": 1}
        status, owed = anna.ask("GET", "/desk/unwritten")
        assert [each["call"]["id"] for each in owed["calls"]] == [id]
        assert anna.ask("PATCH", f"/calls/{id}", {"disposition": "order"}, owed["calls"][0]["etag"])[0] == 200
        assert anna.desk()["unwritten"] == {"count": 0}
        record = company.daemon.call(id)
        assert (record["notes"], record["disposition"]) == ("wants an offer", "order")
        assert record["wrap_up"] == record["segments"][0]["wrap_up"] > 0


def test_a_missed_call_is_called_back_and_clears_itself(tmp_path: Path) -> None:
    with an_office(tmp_path) as company:
        company.start()
        dora, anna = Browser(company, "dora"), Browser(company, "anna")
        call = company.call(did="494066969111", from_number=CUSTOMER)
        eventually(
            lambda: [each["status"] for each in dora.desk()["calls"]] == ["ringing"],
            15,
            what="Dora's phone rings",
        )
        call.hang_up()
        eventually(lambda: dora.desk()["missed"]["count"] == 1, 15, what="the missed call")
        assert anna.desk()["missed"] == {"count": 0}
        # It is counted a moment before it is durable.
        (entry,) = eventually(
            lambda: dora.ask("GET", "/callbacks")[1]["callbacks"], 10, what="it in the list"
        )
        assert (entry["number"], entry["tries"], entry["owner"]) == (CUSTOMER_E164, 1, None)
        # Dora's phone answers nothing; Anna gets it from her.
        status, given = dora.ask("PATCH", f"/callbacks/{entry['id']}", {"owner": "anna"}, entry["etag"])
        assert status == 200
        assert dora.ask("PATCH", f"/callbacks/{entry['id']}", {"owner": "dora"}, given["etag"])[0] == 404
        company.daemon.stop()
        company.daemon.start()
        status, made = anna.ask("POST", f"/callbacks/{entry['id']}/dial")
        assert status == 202, made
        assert (made["to"], made["agent"]) == (CUSTOMER_E164, "anna")
        eventually(lambda: anna.desk()["missed"]["count"] == 0, 20, what="who was reached")
        (done,) = eventually(
            lambda: anna.ask("GET", "/callbacks?state=done")[1]["callbacks"], 10, what="it among those done"
        )
        assert (done["id"], done["done_by"], done["owner"]) == (entry["id"], made["id"], "anna")
        status, earlier = anna.ask("GET", f"/calls/{made['id']}/history")
        assert [each["outcome"] for each in earlier["calls"]] == ["missed"]
        assert anna.ask("POST", f"/calls/{made['id']}/clear", {})[0] == 200
