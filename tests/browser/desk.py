"""An agent's desktop as its user has it: what they see on it, and what they do with mouse and keys.

Found by the page's `data-test` attributes, which stay the same in all languages."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen
from playwright.sync_api import Locator, Page, expect

from lab.browser import Window


@frozen
class Desk:
    """One tab of somebody's browser."""

    window: Window
    tab: Page

    @classmethod
    def opened(cls, window: Window, path: str = "/") -> Desk:
        """A new tab, in which somebody may or may not be logged in."""
        return cls(window, window.open(path))

    def at(self, hook: str) -> Locator:
        """What the page calls so (`data-test`)."""
        return self.tab.get_by_test_id(hook)

    # Who.

    def log_in(self, name: str, password: str) -> None:
        self.at("username").fill(name)
        self.at("password").fill(password)
        self.at("password").press("Enter")
        self.is_live()

    def is_live(self) -> None:
        """Waits until the desk is there and has its line to the server."""
        expect(self.at("state")).to_be_visible()
        expect(self.at("line")).to_have_attribute("data-line", "live")

    def is_asked_to_log_in(self) -> None:
        expect(self.at("login")).to_be_visible()

    def is_offline(self) -> None:
        expect(self.at("offline")).to_be_visible()

    def is_in_state(self, state: str) -> None:
        """Waits until that is the agent's state."""
        expect(self.at("state")).to_have_attribute("data-state", state)

    # The card.

    @property
    def card(self) -> Locator:
        return self.at("card")

    def sees_card(self, *texts: str, status: str | None = None) -> None:
        """Waits until there is one card, with all of that on it; `status` is the call's."""
        expect(self.card).to_have_count(1)
        for text in texts:
            expect(self.tab.locator("main")).to_contain_text(text)
        if status is not None:
            self.sees_status(status)

    def sees_status(self, status: str) -> None:
        """Waits until that is the status of the call that is shown."""
        expect(self.tab.locator("[data-status]").first).to_have_attribute("data-status", status)

    def sees_no_card(self) -> None:
        expect(self.card).to_have_count(0)

    def shown_call(self) -> str:
        """The id of the call whose card is shown."""
        return self.card.get_attribute("data-call") or ""

    # What is done with a call.

    def does(self, operation: str) -> None:
        """Presses the button of an operation: `answer`, `hold`, `clear`, …"""
        self.at(f"op-{operation}").click()

    def cannot(self, operation: str) -> None:
        expect(self.at(f"op-{operation}")).to_have_count(0)

    def answers(self) -> None:
        self.does("answer")
        self.sees_status("talking")

    def hangs_up(self) -> None:
        self.does("clear")

    # What is written about it.

    def writes(self, text: str) -> None:
        """Types into the notes, behind what is there."""
        notes = self.at("notes")
        notes.press("Control+End")
        notes.press_sequentially(text)

    def sees_notes(self, text: str | re.Pattern[str]) -> None:
        expect(self.at("notes")).to_have_value(text)

    def has_saved(self) -> None:
        """Waits until the server has what was written."""
        expect(self.at("saved")).to_have_attribute("data-state", "saved")

    def says_it_was(self, disposition: str) -> None:
        """Chooses a disposition by its label."""
        self.at("disposition").get_by_text(disposition, exact=True).locator("..").click()

    def is_writing_up(self) -> None:
        expect(self.at("wrap-up")).to_be_visible()

    def finishes(self) -> None:
        self.at("finish").click()

    # Calls of one's own, and what was missed.

    def goes_to(self, place: str) -> None:
        """Chooses one of the pages beside the desk: `missed`, `unwritten`, `recent`, `settings`, or `desk`."""
        self.at(f"nav-{place}").click()

    def counted(self, place: str) -> int:
        """How many things to do are shown at that page's name now."""
        count = self.at(f"nav-{place}").locator(".count [aria-hidden]")
        return int(count.inner_text()) if count.count() else 0

    def counts(self, place: str, number: int) -> None:
        """Waits until so many things to do are shown at that page's name."""
        count = self.at(f"nav-{place}").locator(".count [aria-hidden]")
        if number:
            expect(count).to_have_text(str(number))
        else:
            expect(count).to_have_count(0)

    def is_asked_whether_to_dial(self, number: str) -> None:
        expect(self.at("dialog-dial")).to_contain_text(number)

    # For who looks on.

    def picture(self, name: str) -> Path:
        return self.window.picture(self.tab, name)
