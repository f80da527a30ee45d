"""Pages for everybody: nothing that axe-core objects to, nothing beyond the edge, all of it by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lab.browser import Chromium, accessibility, overflow
from tests.browser.desk import Desk
from tests.browser.house import KATJA, PASSWORD, STRANGER, House, a_house

PHONE_IN_THE_FIELD, WIDE = (360, 740), (1920, 1080)
#: The same number, somebody else.
HER_BROTHER = {**KATJA, "id": "1002", "name": "Kai Brandt", "numbers": "0152 28895456", "url": ""}
SHARED = {**KATJA, "numbers": "0152 28895456", "id": "1003"}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, chromium: Chromium) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("accessibility")
    with a_house(chromium, directory, knows=[KATJA, HER_BROTHER, SHARED], service={"wrap_up": 300}) as house:
        yield house


@pytest.fixture
def house(company: House) -> Iterator[House]:
    company.ready("anna")
    yield company
    company.clear()


class Inspector:
    """Looks at a page in both themes, narrow and wide, and keeps what there is to object to."""

    def __init__(self) -> None:
        self.objections: list[str] = []

    def look(self, desk: Desk, what: str) -> None:
        for theme in ("light", "dark"):
            desk.tab.emulate_media(color_scheme=theme, reduced_motion="reduce")
            for width, height in (PHONE_IN_THE_FIELD, WIDE):
                desk.tab.set_viewport_size({"width": width, "height": height})
                where = f"{what}, {theme}, {width}"
                # What but the colours would be different in the other theme?
                rules = () if theme == "light" else ("color-contrast",)
                self.objections += [f"{where}: {each}" for each in accessibility(desk.tab, *rules)]
                self.objections += [f"{where}: too wide: {each}" for each in overflow(desk.tab)]
                if (theme == "dark") == (width == PHONE_IN_THE_FIELD[0]):
                    desk.picture(where.replace(", ", "-").replace(" ", "-"))


def test_axe_objects_to_nothing_in_the_life_of_a_call(house: House, tmp_path: Path) -> None:
    inspector = Inspector()
    with house.window("anna", tmp_path) as window:
        desk = Desk.opened(window)
        desk.is_asked_to_log_in()
        inspector.look(desk, "log-in")
        desk.log_in("anna", PASSWORD)
        inspector.look(desk, "idle")
        desk.at("state").click()
        expect(desk.at("state-menu")).to_be_visible()
        inspector.look(desk, "state menu")
        desk.tab.keyboard.press("Escape")

        call = house.rings()
        desk.sees_card("Katja Brandt", status="ringing")
        inspector.look(desk, "ringing")
        desk.answers()
        desk.writes("Bilge pump loses pressure when warm.")
        desk.has_saved()
        inspector.look(desk, "talking")
        desk.does("transfer")
        expect(desk.at("dialog-target")).to_be_visible()
        inspector.look(desk, "transfer")
        desk.tab.keyboard.press("Escape")
        call.hang_up()
        desk.is_writing_up()
        inspector.look(desk, "wrap-up")
        desk.says_it_was("Sold")
        desk.finishes()
        desk.is_in_state("ready")
    assert inspector.objections == []


def test_axe_objects_to_nothing_about_callers_who_are_several_or_unknown(
    house: House, tmp_path: Path
) -> None:
    inspector = Inspector()
    with house.desk("anna", tmp_path) as desk:
        several = house.rings("015228895456")
        expect(desk.at("party-choice")).to_be_visible()
        inspector.look(desk, "several")
        several.hang_up()
        desk.sees_no_card()
        unknown = house.rings(STRANGER)
        expect(desk.at("quick-create")).to_be_visible()
        inspector.look(desk, "unknown")
        unknown.hang_up()
        desk.sees_no_card()
    assert inspector.objections == []


def test_axe_objects_to_nothing_on_the_other_pages(house: House, tmp_path: Path) -> None:
    inspector = Inspector()
    with house.desk("anna", tmp_path) as desk:
        for place in ("missed", "unwritten", "recent", "settings"):
            desk.goes_to(place)
            expect(desk.at(place)).to_be_visible()
            expect(desk.at(place).locator(".muted").first).to_be_visible()
            inspector.look(desk, place)
        desk.goes_to("desk")
        desk.tab.keyboard.press("?")
        expect(desk.at("dialog-keys")).to_be_visible()
        inspector.look(desk, "keys")
        desk.tab.goto("/dial?number=tel:%2B4915228817386")
        expect(desk.at("dialog-dial")).to_be_visible()
        inspector.look(desk, "dial")
    assert inspector.objections == []


def test_axe_objects_to_nothing_in_the_description_of_the_api(house: House, tmp_path: Path) -> None:
    inspector = Inspector()
    with house.window("anna", tmp_path) as window:
        desk = Desk.opened(window, "/docs")
        expect(desk.tab.locator("h1")).to_be_visible()
        inspector.look(desk, "docs")
    assert inspector.objections == []


def tab_to(desk: Desk, hook: str) -> None:
    """Presses Tab until the focus is there, and sees that one can see it."""
    for _ in range(80):
        desk.tab.keyboard.press("Tab")
        if desk.at(hook).evaluate("element => element === document.activeElement"):
            outline = desk.at(hook).evaluate(
                "e => { const s = getComputedStyle(e); return s.outlineStyle !== 'none' || s.boxShadow !== 'none'; }"
            )
            assert outline, f"{hook} does not show that it has the focus"
            return
    raise AssertionError(f"Tab does not lead to {hook}")


def test_the_life_of_a_call_by_the_keys_that_everybody_knows(house: House, tmp_path: Path) -> None:
    with house.window("anna", tmp_path) as window:
        desk = Desk.opened(window)
        keys = desk.tab.keyboard
        desk.is_asked_to_log_in()
        keys.type("anna")
        keys.press("Tab")
        keys.type(PASSWORD)
        keys.press("Enter")
        desk.is_live()

        house.rings()
        desk.sees_card("Katja Brandt", status="ringing")
        tab_to(desk, "op-answer")
        keys.press("Enter")
        desk.sees_status("talking")
        tab_to(desk, "notes")
        keys.type("Bilge pump loses pressure.")
        desk.has_saved()
        keys.press("Tab")
        keys.press("Space")
        expect(desk.at("disposition").locator("input:checked")).to_have_count(1)
        keys.press("ArrowRight")
        desk.has_saved()
        tab_to(desk, "op-clear")
        keys.press("Enter")
        desk.is_writing_up()
        tab_to(desk, "finish")
        keys.press("Enter")
        desk.is_in_state("ready")
        record = house.newest()
        assert (record["notes"], record["disposition"]) == ("Bilge pump loses pressure.", "callback")


def test_the_life_of_a_call_by_single_keys(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as desk:
        keys = desk.tab.keyboard
        keys.press("Escape")
        house.rings()
        desk.sees_card("Katja Brandt", status="ringing")
        # The phone's channel, which is what can be answered, may be known a moment after its ringing.
        expect(desk.at("op-answer")).to_be_visible()
        keys.press("a")
        desk.sees_status("talking")
        keys.press("h")
        desk.sees_status("held")
        keys.press("h")
        desk.sees_status("talking")
        keys.press("n")
        expect(desk.at("notes")).to_be_focused()
        keys.type("axis")
        desk.has_saved()
        keys.press("Escape")
        keys.press("x")
        desk.is_writing_up()
        keys.press("i")
        keys.press("Space")
        desk.has_saved()
        keys.press("f")
        desk.is_in_state("ready")
        record = house.newest()
        assert (record["notes"], record["disposition"]) == ("axis", "sold")
        keys.press("s")
        expect(desk.at("state-menu")).to_be_visible()
        keys.press("ArrowDown")
        keys.press("Enter")
        desk.is_in_state("paused")
        keys.press("/")
        keys.type("0152 28817386")
        keys.press("Enter")
        desk.sees_card("Katja Brandt", status="talking")
        keys.press("Escape")
        keys.press("x")
        desk.sees_no_card()


def test_focus_stays_with_who_is_typing_when_a_call_comes(house: House, tmp_path: Path) -> None:
    with house.desk("anna", tmp_path) as desk:
        desk.at("dial-number").press_sequentially("0152")
        call = house.rings()
        desk.sees_card("Katja Brandt", status="ringing")
        desk.tab.keyboard.type("a28")
        expect(desk.at("dial-number")).to_have_value("0152a28")
        desk.sees_status("ringing")
        call.hang_up()
        desk.sees_no_card()
