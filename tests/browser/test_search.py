"""Who is it: cards that become whole after they are shown, customers looked up, and said to be who calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from lab.browser import Chromium
from lab.company import AnAgent
from lab.laboratory import eventually
from tests.browser.desk import Desk
from tests.browser.house import BY_CLICK, CUSTOMER, STRANGER, House, a_house
from tests.browser.test_accessibility import Inspector
from tests.faults import kinds
from tests.unit.crms import KEYS

LINKS = [
    {"title": "Invoices", "url": "https://erp.example/customers/{party.id}?phone={number}"},
    {"title": "For organisations", "url": "https://erp.example/{party.id}", "type": "organisation"},
]
CARD_NUMBER = next(value for kind, value in KEYS if kind == "card")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, chromium: Chromium) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("search")
    settings = {"adapters": {"directory": {"kind": "crm", "card_seconds": 1.0}}, "links": LINKS}
    anna = AnAgent("anna", "Anna Lindner", BY_CLICK, user="u1")
    with a_house(
        chromium,
        directory,
        agents=[anna],
        knows=(),
        settings=settings,
        environment=kinds.install(directory / "kinds"),
        service={"wrap_up": 0, "disposition": "optional"},
    ) as house:
        yield house


@pytest.fixture
def house(company: House) -> Iterator[House]:
    company.ready("anna")
    yield company
    company.clear()


def looks_up(desk: Desk, words: str) -> None:
    desk.goes_to("search")
    desk.at("search-words").fill(words)
    desk.at("search-words").press("Enter")


def test_a_card_shown_briefly_is_whole_a_moment_later(house: House, tmp_path: Path) -> None:
    inspector = Inspector()
    with house.desk("anna", tmp_path) as desk:
        house.rings(CUSTOMER)
        desk.sees_card("Katja Brandt", "Bootswerft Brandt", status="ringing")
        side = desk.tab.locator(".call-side")
        assert "Open cases" not in side.inner_text(), "that was to come later"
        for text in (
            "Bilge pump loses pressure",
            "Service on site",
            "Send the offer",
            "EUR 1,250.00 open",
            "first reminder",
            "Prefers a call to a mail.",
            "Asked for the service dates.",
        ):
            expect(side).to_contain_text(text)
        hrefs = side.locator(".operations a").evaluate_all("links => links.map(link => link.href)")
        assert hrefs == [
            "https://crm.example/contracts/5",
            "https://erp.example/customers/1001?phone=%2B4915228817386",
        ]
        desk.sees_status("ringing")
        inspector.look(desk, "whole card")
    assert inspector.objections == []


def test_who_calls_is_looked_up_and_said_to_be_them(house: House, tmp_path: Path) -> None:
    inspector = Inspector()
    with house.desk("anna", tmp_path) as desk:
        house.rings(STRANGER)
        expect(desk.card).to_have_count(1)
        desk.answers()
        desk.at("look-up").click()
        desk.at("search-words").fill("brandt")
        desk.at("search-go").click()
        expect(desk.at("search-count")).to_have_text("2 found")
        expect(desk.at("search-result")).to_have_count(2)
        inspector.look(desk, "search results")
        desk.at("search-result").filter(has_text="Katja").click()
        expect(desk.at("search-card")).to_contain_text("Bilge pump loses pressure")
        inspector.look(desk, "search card")
        desk.at("search-them").click()
        desk.sees_card("Katja Brandt", "Bilge pump loses pressure", status="talking")
        expect(desk.tab.locator("#crm-link")).to_have_attribute("href", "https://crm.example/contacts/1001")
        eventually(lambda: (house.newest()["party"] or {}).get("id") == "1001", 5, what="the log says so")
    assert inspector.objections == []


def test_a_number_as_people_write_it_and_a_customer_number_find_whose_they_are(
    house: House, tmp_path: Path
) -> None:
    with house.desk("anna", tmp_path) as desk:
        for written, name in (("0152 / 288 95-456", "Kai Brandt"), ("4711", "Katja Brandt")):
            looks_up(desk, written)
            expect(desk.at("search-count")).to_have_text("1 found")
            expect(desk.at("card-name")).to_have_text(name)
        looks_up(desk, "nobody at all")
        expect(desk.at("search-count")).to_have_text("Nobody found.")
        expect(desk.at("search-card")).to_have_count(0)
        desk.tab.keyboard.press("Escape")
        desk.tab.keyboard.press("j")
        expect(desk.at("nothing")).to_be_visible()
        desk.tab.keyboard.press("k")
        expect(desk.at("search-words")).to_be_focused()


def test_a_sensitive_key_stays_neither_on_the_screen_nor_in_an_address(house: House, tmp_path: Path) -> None:
    asked: list[str] = []
    with house.desk("anna", tmp_path) as desk:
        desk.window.context.on("request", lambda request: asked.append(request.url))
        desk.goes_to("search")
        desk.at("search-kind").select_option("card")
        desk.at("search-words").fill(CARD_NUMBER)
        desk.at("search-go").click()
        expect(desk.at("card-name")).to_have_text("Kai Brandt")
        expect(desk.at("search-words")).to_have_value("")
        assert any(url.endswith("/api/v1/identify") for url in asked)
        assert not any(CARD_NUMBER in url for url in (*asked, desk.tab.url))
        assert CARD_NUMBER not in desk.tab.content()
        kept = desk.tab.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert CARD_NUMBER not in kept


def test_what_could_not_be_searched_is_said(house: House, tmp_path: Path) -> None:
    def partly(route: Route) -> None:
        answer = route.fetch()
        content = answer.json()
        content["adapters"].append(
            {"adapter": "old <b>CRM</b>", "by": "words", "outcome": "timeout", "ms": 4000}
        )
        content["complete"] = False
        route.fulfill(response=answer, body=json.dumps(content))

    with house.desk("anna", tmp_path) as desk:
        desk.window.context.route("**/api/v1/search?**", partly)
        looks_up(desk, "brandt")
        expect(desk.at("search-failed")).to_contain_text("old <b>CRM</b>")
        expect(desk.at("search-result")).to_have_count(2)
