"""Pauses at the desk: reasons with titles to choose from, and the way back for who was set aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from lab.browser import Chromium
from lab.company import AnAgent
from lab.laboratory import RingsForever
from tests.browser.house import BEN, a_house

SETTINGS = {
    "set_aside_after": 1,
    "pauses": {"lunch": {"title": {"de": "Mittag", "en": "Lunch hour"}, "minutes": 45}, "training": {}},
}
SALES = {"rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 3}]}
#: What the page says in each language: of the pause to choose, of the one chosen, and how to come back.
WORDS = {
    "en-GB": ("Lunch hour, up to 45 min", "Paused: Lunch hour", "Your phone rang", "Take calls"),
    "de-DE": ("Mittag, bis zu 45 Min.", "Pause: Mittag", "Ihr Telefon hat geklingelt", "Anrufe annehmen"),
}


@pytest.mark.parametrize("language", WORDS)
def test_reasons_have_titles_and_one_click_brings_back_who_was_set_aside(
    language: str, tmp_path: Path, chromium: Chromium
) -> None:
    to_choose, chosen, why, come_back = WORDS[language]
    agents = (AnAgent("anna", behaviour=RingsForever()), BEN)
    with a_house(chromium, tmp_path / "house", agents=agents, service=SALES, settings=SETTINGS) as house:
        house.ready("anna")
        with house.desk("anna", tmp_path, language=language) as desk:
            desk.at("state").click()
            expect(desk.at("state-paused-lunch")).to_have_text(to_choose)
            desk.at("state-paused-lunch").click()
            desk.is_in_state("paused")
            expect(desk.at("state")).to_contain_text(chosen)
            expect(desk.at("set-aside")).to_have_count(0)
            desk.at("get-ready").click()
            desk.is_in_state("ready")

            house.rings(talk_ms=50).wait()
            desk.is_in_state("paused")
            expect(desk.at("set-aside")).to_contain_text(why)
            desk.goes_to("recent")
            expect(desk.at("come-back")).to_have_text(come_back)
            desk.at("come-back").click()
            desk.is_in_state("ready")
            expect(desk.at("set-aside")).to_have_count(0)
