"""`python -m tests.browser.screenshots [FILE]`: the desktop in the middle of a call, as in the README.

The office of the demo, with its invented people, and a real call; needs what the tests of this folder need."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from lab.browser import Chromium
from lab.daemon import ROOT
from lab.office import CALLERS, DID, Office
from lab.processes import eventually
from tests.browser.desk import Desk

AGENT = "anna"
#: What the demo does without, as it shows calls and not what people write about them.
WRITTEN = {
    "title": "Sales",
    "wrap_up": 60,
    "disposition": "required",
    "dispositions": {"solved": "Solved", "offer": "Wants an offer", "again": "Call again"},
}
EARLIER = "Asks for the service dates of both pumps. Sent them by mail."
NOW = "Bilge pump loses pressure when warm, since Monday.\nSerial number NP-2210-47, still under warranty."


def take(directory: Path, picture: Path) -> None:
    with Office(directory) as office, Chromium() as chromium:
        office.start_asterisk()
        office.start_receiver()
        office.configure()
        office.daemon.settings["services"]["sales"].update(WRITTEN)
        office.fill_directory()
        office.start_daemon(AGENT)
        customer = CALLERS[0].number
        _earlier_call(office, customer)
        url = f"http://127.0.0.1:{office.daemon.http_port}"
        with chromium.window(url, directory, height=830, expects=["401"]) as window:
            desk = Desk.opened(window)
            desk.log_in(AGENT, office.password)
            call = office.lab.call(office.pbx, DID, from_number=customer)
            desk.sees_card(status="talking")
            desk.writes(NOW)
            desk.says_it_was("Solved")
            desk.has_saved()
            desk.picture("desktop").replace(picture)
            call.hang_up()


def _earlier_call(office: Office, customer: str) -> None:
    """One that stands in the history then."""
    office.lab.call(office.pbx, DID, from_number=customer, talk_ms=2500).wait()
    record = office.daemon.the_call()
    path = f"/api/v1/desk/calls/{record['id']}"
    etag = office.daemon.get(path, office.daemon.token("agent", AGENT))["etag"]
    body = {"notes": EARLIER, "disposition": "solved"}
    office.daemon.request(
        "PATCH", f"/api/v1/calls/{record['id']}", body, office.daemon.token("agent", AGENT), etag
    )
    office.daemon.request("PATCH", f"/api/v1/agents/{AGENT}", {"state": "ready"})
    eventually(lambda: office.ready(AGENT), 10, what="the agent being ready again")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        take(Path(place), Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "desktop.png")
