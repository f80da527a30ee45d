"""Why a call went where it went, on its page: folded until asked for, with each decision and each rule tried."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from lab.browser import Chromium
from lab.company import AnAgent
from tests.browser.desk import Desk
from tests.browser.house import BY_CLICK, KATJA, House, a_house
from tests.browser.test_accessibility import Inspector, tab_to

RULES = [
    {"name": "silver first", "when": {"party.tier": "silver"}, "dial": "owner"},
    {"name": "owner", "when": {"party.owner": "present"}, "dial": "owner", "timeout": 2},
    {"name": "rest", "dial": {"group": "sales"}},
]
AGENTS = (
    AnAgent("anna", "Anna Lindner", BY_CLICK, user="user-anna"),
    AnAgent("ben", "Ben Achterberg", BY_CLICK, state="paused"),
)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, chromium: Chromium) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("why")
    service = {"rules": RULES, "wrap_up": 0, "disposition": "optional"}
    with a_house(chromium, directory, agents=AGENTS, knows=[KATJA], service=service) as house:
        yield house


@pytest.fixture
def house(company: House) -> Iterator[House]:
    company.ready("anna", "ben")
    yield company
    company.clear()


def answers_after_anna_did_not(house: House, desk: Desk) -> None:
    """The caller's owner lets it ring, so that Ben gets the call."""
    house.rings()
    desk.sees_card("Katja Brandt", status="ringing")
    desk.answers()


def test_the_page_tells_why_each_attempt_went_where_it_went(house: House, tmp_path: Path) -> None:
    inspector = Inspector()
    with house.desk("ben", tmp_path) as desk:
        answers_after_anna_did_not(house, desk)
        expect(desk.at("why")).to_contain_text("Why this route?")
        expect(desk.at("why-attempt")).to_have_count(0)

        tab_to(desk, "why-open")
        desk.tab.keyboard.press("Enter")
        first, again = desk.at("why-attempt").nth(0), desk.at("why-attempt").nth(1)
        expect(again).to_be_visible()

        decision = first.get_by_test_id("why-decision")
        expect(decision).to_have_text("Rings Anna Lindner, by the rule “owner”.")
        expect(again.get_by_test_id("why-decision")).to_have_text("Rings Ben Achterberg, by the rule “rest”.")
        outcomes = "rules => rules.map(rule => rule.dataset.outcome)"
        assert first.get_by_test_id("why-rule").evaluate_all(outcomes) == ["failed", "decided"]
        assert again.get_by_test_id("why-rule").evaluate_all(outcomes) == ["failed", "nobody", "decided"]
        notes = first.get_by_test_id("why-note")
        expect(notes.nth(0)).to_have_text('party.tier is "gold", wanted: is "silver"')
        expect(notes.nth(1)).to_have_text("anna is the owner of the caller")
        tests = first.get_by_test_id("why-test")
        expect(tests).to_have_text(["Matches: party.owner: “anna” · wanted: is present"])
        nobody = again.get_by_test_id("why-rule").nth(1)
        expect(nobody).to_contain_text("nobody free")
        expect(nobody.get_by_test_id("why-candidate")).to_contain_text("Anna Lindner: ")
        expect(again.get_by_test_id("why-rule").nth(2)).to_contain_text("Ben Achterberg: chosen")
        facts = again.get_by_test_id("why-facts")
        for text in (
            "Katja Brandt",
            "Anna Lindner",
            "directory: found (2",
            "before)",
            "NOANSWER: Anna Lindner",
        ):
            expect(facts).to_contain_text(text)
        inspector.look(desk, "why")

        desk.at("why-open").focus()
        desk.tab.keyboard.press("Space")
        expect(desk.at("why-attempt")).to_have_count(0)
    assert inspector.objections == []


def test_in_german_only_what_the_record_has_in_english_is_english(house: House, tmp_path: Path) -> None:
    with house.desk("ben", tmp_path, language="de-DE") as desk:
        answers_after_anna_did_not(house, desk)
        expect(desk.at("why")).to_contain_text("Warum so verbunden?")
        desk.at("why-open").click()
        expect(desk.at("why-decision").nth(1)).to_have_text(
            "Klingelt bei Ben Achterberg, nach der Regel „rest“."
        )
        expect(desk.at("why-rule").nth(0)).to_contain_text("passte nicht")
        note = desk.at("why-rule").nth(1).get_by_test_id("why-note").locator("[lang=en]")
        expect(note).to_have_text("anna is the owner of the caller")


def answering(desk: Desk, call: str, **changes: Any) -> None:
    """The server says of each decision about the call what it says, but for these."""

    def changed(route: Route) -> None:
        answer = route.fetch()
        content = answer.json()
        for decision in content["decisions"]:
            for key, value in changes.items():
                decision[key] = {**decision[key], **value} if value and isinstance(value, dict) else value
        route.fulfill(response=answer, body=json.dumps(content))

    desk.window.context.route(f"**/api/v1/calls/{call}", changed)


def test_what_the_company_s_own_code_said_is_shown_as_text(house: House, tmp_path: Path) -> None:
    markup = "<img src=x onerror=alert(1)>"
    said = {
        "credit": {"value": markup, "why_not": None, "age": 0.0},
        "stock": {"value": None, "why_not": "took too long", "age": 0.0},
    }
    with house.desk("ben", tmp_path) as desk:
        answers_after_anna_did_not(house, desk)
        answering(desk, desk.shown_call(), facts={"own": said})
        desk.at("why-open").click()
        facts = desk.at("why-facts").nth(0)
        expect(facts).to_contain_text(f"credit“{markup}”")
        expect(facts).to_contain_text("stocktook too long")
        expect(facts.locator("img")).to_have_count(0)


def test_a_role_that_is_not_shown_what_was_known_is_told_so(house: House, tmp_path: Path) -> None:
    with house.desk("ben", tmp_path) as desk:
        answers_after_anna_did_not(house, desk)
        answering(desk, desk.shown_call(), facts={}, trace=[], reason="")
        desk.at("why-open").click()
        expect(desk.at("why-hidden")).to_have_count(2)
        expect(desk.at("why-decision")).to_have_count(2)
        expect(desk.at("why-rule")).to_have_count(0)
        expect(desk.at("why-facts")).to_have_count(0)
