"""A day at the desk, with real calls: the card before the ring, the conversation, and what comes after it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from lab.browser import Chromium
from lab.laboratory import eventually
from tests.browser.desk import Desk
from tests.browser.house import CUSTOMER_E164, STRANGER, STRANGER_E164, House, a_house
from tests.browser.site import a_site

CRM = b"<!doctype html><title>CRM</title><a href='tel:+4915228817386'>Katja Brandt</a>"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, chromium: Chromium) -> Iterator[House]:
    with a_house(chromium, tmp_path_factory.mktemp("calls"), service={"card_lead_ms": 2000}) as house:
        yield house


@pytest.fixture
def house(company: House) -> Iterator[House]:
    company.ready("anna")
    yield company
    company.clear()


def test_a_call_from_before_the_ring_to_the_next_one(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as desk:
        desk.picture("1-ready")
        waiting: list[Route] = []
        # The server holds the ring back until the card is painted, so this makes time for a look before it.
        desk.tab.route("**/api/v1/calls/*/card", lambda route: waiting.append(route))

        first = house.rings()
        desk.sees_card(
            "Katja Brandt", "Bootswerft Brandt & Söhne", "Greet with “Nordkai Pumpen”", status="offered"
        )
        expect(desk.at("card-name")).to_have_text("Katja Brandt")
        eventually(lambda: waiting or desk.tab.wait_for_timeout(20), what="the word that it is painted")
        assert house.company.phones["anna"].invites == []
        desk.picture("2-offered")
        waiting[0].continue_()
        desk.tab.unroute_all()

        desk.sees_status("ringing")
        assert len(house.company.phones["anna"].invites) == 1
        desk.picture("3-ringing")

        desk.answers()
        first.wait_for(200)
        desk.writes("Bilge pump loses pressure when warm.")
        desk.has_saved()
        desk.picture("4-talking")
        call = desk.shown_call()
        assert house.company.daemon.call(call)["notes"] == "Bilge pump loses pressure when warm."

        desk.hangs_up()
        first.wait()
        desk.is_writing_up()
        desk.is_in_state("wrap_up")
        desk.writes(" Sends the serial number.")
        desk.says_it_was("Sold")
        desk.has_saved()
        desk.picture("5-wrap-up")
        desk.finishes()
        desk.is_in_state("ready")
        desk.sees_no_card()

        record = house.company.daemon.call(call)
        assert (record["agent"], record["outcome"], record["disposition"]) == ("anna", "answered", "sold")
        assert record["notes"] == "Bilge pump loses pressure when warm. Sends the serial number."
        assert record["wrap_up"] is not None
        # What the phone was told with its INVITE (`Call-Info`).
        linked = Desk.opened(desk.window, f"/?call={call}")
        expect(linked.at("notes")).to_have_value(record["notes"])
        assert linked.tab.url == f"{house.url}/#/calls/{call}"
        linked.tab.close()
        assert "card.shown" in [event["type"] for event in record["events"]]

        second = house.rings()
        desk.sees_card("Katja Brandt", status="ringing")
        assert desk.shown_call() != call
        expect(desk.at("history")).to_contain_text("Sends the serial number.")
        expect(desk.at("notes")).to_have_value("")
        desk.picture("6-next-call")
        second.hang_up()
        desk.sees_no_card()


def test_a_call_links_to_what_crms_have_of_it(house: House, tmp_path: Path) -> None:
    place = {"adapter": "odoo", "type": "mail.activity", "id": "7", "at": "2026-02-03T09:15:00.000Z"}
    written = [
        {**place, "url": "https://crm.example/web#id=17"},
        {**place, "type": "mail.message", "url": "https://crm.example/web#id=17"},
        {**place, "adapter": "helpdesk", "url": "https://help.example/4"},
        {**place, "adapter": "sly", "url": "javascript:alert(1)"},
        {**place, "adapter": "plain", "url": None},
    ]

    def with_records(route: Route) -> None:
        if route.request.method != "GET":
            route.continue_()
            return
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "crm": written})

    with house.desk("anna", tmp_path) as desk:
        desk.tab.route(re.compile(r"/api/v1/calls/[0-9a-f-]{36}$"), with_records)
        call = house.rings()
        desk.sees_status("ringing")
        expect(desk.at("records")).to_have_count(0)
        desk.answers()
        call.wait_for(200)
        links = desk.at("records").get_by_role("link")
        expect(links).to_have_text(["Open in odoo", "Open in helpdesk"])
        assert [link.get_attribute("href") for link in links.all()] == [
            "https://crm.example/web#id=17",
            "https://help.example/4",
        ]
        desk.hangs_up()
        call.wait()


def test_the_card_goes_when_another_takes_the_call(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as anna, house.desk("ben", tmp_path) as ben:
        call = house.rings()
        anna.sees_card("Katja Brandt", status="ringing")
        anna.picture("mine")
        house.does("ben", anna.shown_call(), "pickup")
        ben.sees_card("Katja Brandt", status="talking")
        anna.sees_no_card()
        anna.is_in_state("ready")
        anna.picture("taken")
        call.hang_up()
        ben.is_writing_up()
        ben.says_it_was("Call again")
        ben.finishes()


def test_an_unknown_caller_is_made_known_and_found_at_the_next_call(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as desk:
        call = house.rings(STRANGER)
        desk.sees_card("0171 3920042", status="ringing")
        desk.answers()
        desk.picture("unknown")
        desk.at("create-name").fill("Olga Wischnewski")
        desk.at("create-company").fill("Segelschule Stille")
        desk.at("create").click()
        expect(desk.at("card-name")).to_have_text("Olga Wischnewski")
        expect(desk.at("quick-create")).to_have_count(0)
        desk.picture("known")
        call.hang_up()
        desk.says_it_was("Sold")
        desk.finishes()
        desk.sees_no_card()

        again = house.rings(STRANGER)
        desk.sees_card("Olga Wischnewski", "Segelschule Stille", status="ringing")
        again.hang_up()
    found = house.company.daemon.get("/api/v1/identify", number=STRANGER_E164)["parties"]
    assert [party["name"] for party in found] == ["Olga Wischnewski"]


def test_a_missed_call_is_taken_from_the_list_and_called_back(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as desk:
        house.nothing_is_missed()
        call = house.rings()
        desk.sees_card("Katja Brandt", status="ringing")
        call.hang_up()
        desk.sees_no_card()
        desk.counts("missed", 1)

        desk.goes_to("missed")
        row = desk.at("missed-call")
        expect(row).to_have_count(1)
        expect(row).to_contain_text("Katja Brandt")
        desk.picture("list")
        # It is hers from the beginning, as the customer is.
        row.get_by_test_id("give-back").click()
        row.get_by_test_id("take").click()
        expect(row.get_by_test_id("give-back")).to_be_visible()
        row.get_by_test_id("call-back").click()

        desk.sees_card("Katja Brandt", status="talking")
        assert house.dialled_outside()[-1] == CUSTOMER_E164
        desk.counts("missed", 0)
        desk.picture("called-back")
        desk.hangs_up()


def test_the_list_says_when_a_planned_call_will_be_made(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as desk:
        house.nothing_is_missed()
        house.company.daemon.request("PATCH", "/api/v1/agents/anna", {"state": "paused"})
        desk.goes_to("missed")
        due = datetime.now(UTC).isoformat()
        body = {
            "number": STRANGER_E164,
            "owner": "anna",
            "due": due,
            "anyway": True,
            "note": "wants an offer",
        }
        house.company.daemon.request("POST", "/api/v1/callbacks", body)
        row = desk.at("missed-call")
        expect(row).to_contain_text("wants an offer")
        # Nobody is ready to make it: it is put off, and the page hears of it.
        expect(row.get_by_test_id("next")).to_contain_text("planned for", timeout=10_000)
        desk.picture("planned")
        house.nothing_is_missed()
        expect(row).to_have_count(0)
        house.ready("anna")


def test_a_click_on_a_telephone_link_dials_once_the_agent_says_so(house: House, tmp_path: Path) -> None:
    with (
        a_site({"/": CRM}) as site,
        house.desk("anna", tmp_path, takes_links=True, expects=["favicon"]) as desk,
    ):
        desk.goes_to("settings")
        desk.at("handler").click()
        crm = desk.window.context.new_page()
        crm.goto(site)
        before = house.dialled_outside()
        crm.get_by_text("Katja Brandt").click()

        dialling = Desk(desk.window, crm)
        dialling.is_asked_whether_to_dial("+4915228817386")
        dialling.picture("asked")
        crm.wait_for_timeout(500)
        assert house.dialled_outside() == before, "a link alone must not dial"
        dialling.at("dial-confirm").click()
        dialling.sees_card("Katja Brandt", status="talking")
        dialling.picture("dialled")
        assert house.dialled_outside() == [*before, CUSTOMER_E164]
        dialling.hangs_up()


def test_what_can_be_done_with_a_call_is_what_the_server_says(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as desk:
        house.rings()
        desk.sees_card(status="ringing")
        desk.cannot("hold")
        desk.answers()
        desk.cannot("answer")
        desk.cannot("retrieve")
        desk.does("hold")
        desk.sees_status("held")
        desk.cannot("hold")
        desk.does("retrieve")
        desk.sees_status("talking")
        desk.hangs_up()
        desk.is_writing_up()
        desk.cannot("hold")
        desk.cannot("clear")
        desk.says_it_was("Sold")
        desk.finishes()


def test_who_goes_elsewhere_while_a_call_is_finished_stays_there(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as desk:
        house.rings()
        desk.sees_card(status="ringing")
        desk.answers()
        desk.hangs_up()
        desk.is_writing_up()
        desk.says_it_was("Sold")
        # The answer takes a while, as on a busy line.
        desk.tab.evaluate(
            "() => { const ask = window.fetch; window.fetch = async (...asked) => {"
            " const answer = await ask(...asked);"
            " if (String(asked[0]).endsWith('/wrap_up')) await new Promise((go) => setTimeout(go, 800));"
            " return answer; }; }"
        )
        desk.finishes()
        desk.goes_to("missed")
        expect(desk.at("missed")).to_be_visible()
        desk.tab.wait_for_timeout(1500)
        expect(desk.at("missed")).to_be_visible()


def test_a_call_that_nobody_wrote_up_in_time_waits_in_the_worklist(house: House, tmp_path: Path) -> None:
    # What the service refuses.
    with house.desk("anna", tmp_path, expects=["wrap_up.*409", "409.*wrap_up"]) as desk:
        # What others have left. Of the list one would not know whether it has come yet.
        before = desk.counted("unwritten")
        call = house.rings()
        desk.sees_card(status="ringing")
        desk.answers()
        call.hang_up()
        desk.is_writing_up()
        desk.finishes()
        # The service demands a disposition, so this is refused.
        desk.is_writing_up()
        desk.at("extend").click()
        expect(desk.at("wrap-up").locator("time")).to_have_text(re.compile("^2:"))
        house.company.daemon.request("PATCH", "/api/v1/agents/anna", {"state": "ready"})
        desk.is_in_state("ready")
        desk.counts("unwritten", before + 1)
        desk.goes_to("unwritten")
        desk.picture("worklist")
        desk.at("unwritten-call").first.get_by_role("link").click()
        desk.says_it_was("Call again")
        desk.has_saved()
        desk.counts("unwritten", before)
