"""A softphone at no Asterisk of ours: its calls are on the agent's desktop like any other."""

from __future__ import annotations

import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from lab.browser import Chromium
from tests.browser.house import CUSTOMER, House, a_house


def opens(house: House, token: str, news: str) -> None:
    """What a softphone does that can only open a URL."""
    query = urllib.parse.urlencode({"extension": "21", "number": CUSTOMER, "call_id": "7f3a", "token": token})
    with urllib.request.urlopen(f"{house.url}/api/v1/softphone/{news}?{query}", timeout=30) as answer:
        assert answer.status == 200


def test_the_card_comes_when_it_rings_and_stays_while_they_talk(
    chromium: Chromium, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with a_house(chromium, tmp_path_factory.mktemp("softphone")) as house:
        house.ready("anna")
        arguments = ("--role", "agent", "--agent", "anna", "--scope", "softphone", "--extension", "21")
        token = house.company.daemon.run("token", "add", "annas softphone", *arguments).strip()
        with house.desk("anna", tmp_path) as desk:
            opens(house, token, "ringing")
            desk.sees_card("Katja Brandt", status="ringing")
            opens(house, token, "connected")
            desk.sees_status("talking")
            desk.is_in_state("busy")
            call = desk.shown_call()
            desk.writes("Wants the price list.")
            desk.has_saved()
            opens(house, token, "ended")
            desk.sees_no_card()
            desk.is_in_state("ready")
        record = house.company.daemon.call(call)
        assert (record["pbx"], record["agent"], record["outcome"]) == ("softphone", "anna", "answered")
        assert record["notes"] == "Wants the price list."
        assert "card.shown" in [event["type"] for event in record["events"]]
