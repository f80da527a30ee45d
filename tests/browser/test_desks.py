"""Hot desks in the browser: the agent chooses a free desk, is rung there, and leaves it."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from lab.browser import Chromium
from lab.company import AnAgent
from tests.browser.house import BEN, a_house

#: Somebody beside whose name a phone is there, which is not theirs: a desk's.
DESK = AnAgent("desk-7", phones=("PJSIP/elsewhere",), state="logged_out")


def test_an_agent_logs_in_at_a_free_desk_with_the_keyboard_and_leaves_it(
    tmp_path: Path, chromium: Chromium
) -> None:
    agents = (AnAgent("anna", state="logged_out"), BEN, DESK)
    with (
        a_house(chromium, tmp_path / "house", agents=agents, settings={"desks": ["PJSIP/desk-*"]}) as house,
        house.desk("anna", tmp_path) as desk,
    ):
        desk.at("state").click()
        expect(desk.at("take-desk")).to_have_text("Log in here")
        desk.at("desks").focus()
        for key in ("Tab", "Enter"):
            desk.tab.keyboard.press(key)
        desk.is_in_state("ready")
        expect(desk.at("phone-PJSIP/desk-7")).to_have_attribute("aria-pressed", "true")
        expect(desk.at("desks")).to_have_count(0)
        assert house.company.daemon.agents()["anna"]["phone"] == "PJSIP/desk-7"

        with house.desk("ben", tmp_path) as other:
            other.at("state").click()
            expect(other.at("state-menu")).to_be_visible()
            expect(other.at("desks")).to_have_count(0)

        desk.at("phone-all").click()
        expect(desk.at("desks")).to_have_count(1)
        assert house.company.daemon.agents()["anna"]["phone"] is None
