"""The desk in each of its languages: every word of every page, and what the server says in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from cti.web import page as pages
from lab.browser import Chromium
from tests.browser.desk import Desk
from tests.browser.house import PASSWORD, SALES, STRANGER, House, a_house

LANGUAGES = ("en", "de", "sl", "ru")
WORDS = {tag: json.loads(pages.FILES[f"{tag}.json"].body) for tag in LANGUAGES}
#: What the page says, and what only a reader of it hears or sees on touching it.
TEXTS = """() => {
    const texts = [document.title];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) texts.push(walker.currentNode.data);
    for (const element of document.querySelectorAll("[aria-label], [title], [placeholder]"))
        for (const name of ["aria-label", "title", "placeholder"])
            if (element.hasAttribute(name)) texts.push(element.getAttribute(name));
    return texts.map(text => text.trim()).filter(text => text !== "");
}"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, chromium: Chromium) -> Iterator[House]:
    with a_house(chromium, tmp_path_factory.mktemp("languages"), service={"wrap_up": 300}) as house:
        yield house


def untranslated(desk: Desk, language: str) -> list[str]:
    """Names of words that have none, and English words that this language says otherwise."""
    english = {
        words: key
        for key, words in WORDS["en"].items()
        if isinstance(words, str) and words != WORDS[language][key]
    }
    own = {words for words in WORDS[language].values() if isinstance(words, str)}
    return [
        text
        for text in desk.tab.evaluate(TEXTS)
        if text in WORDS["en"] or "{" in text or (language != "en" and text in english and text not in own)
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_lacks_a_word(house: House, tmp_path: Path, language: str) -> None:
    house.ready("anna")
    missing: dict[str, list[str]] = {}
    with house.window("anna", tmp_path, language=f"{language}-{language.upper()}") as window:
        desk = Desk.opened(window)

        def look(where: str) -> None:
            if found := untranslated(desk, language):
                missing[where] = found
            desk.picture(f"{language}-{where}")

        desk.is_asked_to_log_in()
        look("log-in")
        desk.log_in("anna", PASSWORD)
        assert desk.tab.locator("html").get_attribute("lang") == language
        look("idle")
        desk.at("state").click()
        look("state")
        desk.tab.keyboard.press("Escape")
        unknown = house.rings(STRANGER)
        desk.sees_card(status="ringing")
        look("unknown")
        unknown.hang_up()
        desk.sees_no_card()
        call = house.rings()
        desk.sees_card("Katja Brandt", status="ringing")
        look("ringing")
        desk.answers()
        desk.at("why-open").click()
        expect(desk.at("why-attempt")).to_have_count(1)
        look("talking")
        for operation in ("transfer", "digits"):
            desk.does(operation)
            expect(desk.tab.get_by_role("dialog")).to_be_visible()
            look(operation)
            desk.tab.keyboard.press("Escape")
        desk.at("disposition").get_by_text(SALES["dispositions"]["callback"][language], exact=True).wait_for()
        call.hang_up()
        desk.is_writing_up()
        look("wrap-up")
        desk.says_it_was(SALES["dispositions"]["sold"][language])
        desk.finishes()
        for place in ("missed", "unwritten", "recent", "settings"):
            desk.goes_to(place)
            expect(desk.at(place)).to_be_visible()
            look(place)
        desk.goes_to("desk")
        desk.tab.keyboard.press("?")
        look("keys")
    house.clear()
    assert missing == {}


def test_the_language_is_the_agents_choice_and_goes_with_them(house: House, tmp_path: Path) -> None:
    house.ready("anna")
    with house.desk("anna", tmp_path, language="en-GB") as desk:
        desk.goes_to("settings")
        desk.at("language").select_option("sl")
        expect(desk.at("nav-settings")).to_contain_text(WORDS["sl"]["nav.settings"])
        desk.tab.reload()
        expect(desk.at("nav-settings")).to_contain_text(WORDS["sl"]["nav.settings"])
    with house.desk("anna", tmp_path, language="en-GB") as elsewhere:
        expect(elsewhere.at("nav-desk")).to_contain_text(WORDS["sl"]["nav.desk"])
        elsewhere.goes_to("settings")
        elsewhere.at("language").select_option("en")
        expect(elsewhere.at("nav-desk")).to_contain_text(WORDS["en"]["nav.desk"])
