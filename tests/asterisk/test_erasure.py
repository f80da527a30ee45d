"""Somebody who has called, was called and is calling is erased beside a running server, and found nowhere."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

from lab.company import AnAgent, Company, way_out
from lab.laboratory import Answers, RingsForever, eventually
from tests.asterisk.test_desk import Browser

CUSTOMER = "015228817386"
WRITTEN = "0152/288 173-86"
NAME = "Greta Zwirnlein"
OTHER = "04066969123"
#: In any written form, and told without the code that erases: its last digits with whatever people put between.
NUMBER = re.compile(
    rb"2[ ()/.-]{0,3}8[ ()/.-]{0,3}8[ ()/.-]{0,3}1[ ()/.-]{0,3}7[ ()/.-]{0,3}3[ ()/.-]{0,3}8[ ()/.-]{0,3}6"
)
AS_INTEGER = (4915228817386).to_bytes(6, "big")


def found_in(directory: Path) -> list[str]:
    """The files below it that show them."""
    found = []
    for path in sorted(directory.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        if NUMBER.search(data) or AS_INTEGER in data or b"zwirnlein" in data.lower():
            found.append(path.name)
    return found


def tables_with_them(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        rows = {name: repr(connection.execute(f"SELECT * FROM {name}").fetchall()).encode() for name in names}
    finally:
        connection.close()
    return {name for name, text in rows.items() if NUMBER.search(text) or b"zwirnlein" in text.lower()}


def plant(company: Company, anna: Browser) -> str:
    """Everything that people do with a caller; the id of a call of theirs that was recorded."""
    daemon = company.daemon
    call = company.call(from_number=CUSTOMER, from_name=NAME)
    call.wait_for(200)
    eventually(lambda: "record" in anna.desk()["calls"][0]["can"], 15, what="what may be done")
    id: str = anna.desk()["calls"][0]["call"]["id"]
    etag = anna.desk()["calls"][0]["etag"]
    for action in ("start", "stop"):
        assert anna.ask("POST", f"/calls/{id}/record", {"action": action})[0] == 200
    assert anna.ask("PATCH", f"/calls/{id}", {"notes": f"{NAME} is at {WRITTEN}"}, etag)[0] == 200
    call.hang_up()
    anna.is_in("ready")
    # One that nobody took, and one back to them.
    company.phones["anna"].behave(RingsForever())
    company.call(from_number=CUSTOMER, cancel_after_ms=1000).wait()
    company.phones["anna"].behave(Answers(after_ms=50))
    anna.is_in("ready")
    assert anna.ask("POST", "/callbacks", {"number": WRITTEN, "note": f"offer for {NAME}"})[0] == 201
    assert anna.ask("POST", "/calls", {"agent": "anna", "to": CUSTOMER})[0] == 202
    eventually(lambda: daemon.calls(direction="outbound")[0]["answered"], 15, what="their answer")
    out = daemon.calls(direction="outbound")[0]["id"]
    assert anna.ask("POST", f"/calls/{out}/clear", {})[0] == 200
    anna.is_in("ready")
    # Who looks them up, and who does not want to.
    assert daemon.get("/api/v1/identify", number=WRITTEN)["parties"][0]["name"] == NAME
    assert daemon.get("/api/v1/calls", number=CUSTOMER)["calls"]
    daemon.request("POST", "/api/v1/numbers/ignored", {"number": WRITTEN, "note": NAME})
    # Somebody else's call, in which they are spoken of.
    other = company.call(from_number=OTHER)
    other.wait_for(200)
    eventually(lambda: anna.desk()["calls"], 15, what="the other call")
    shown = anna.desk()["calls"][0]
    spoken = {"notes": f"ask {NAME}, 0152 - 28817386, first"}
    assert anna.ask("PATCH", f"/calls/{shown['call']['id']}", spoken, shown["etag"])[0] == 200
    other.hang_up()
    anna.is_in("ready")
    return id


def test_somebody_erased_is_found_in_no_table_and_no_file(tmp_path: Path) -> None:
    agents = (AnAgent("anna", behaviour=Answers(after_ms=50)),)
    settings = {"call_control": {"record": True, "office_number": "+494066969100"}}
    with Company(
        tmp_path, agents=agents, settings=settings, more_extensions=way_out(), trunk=Answers(after_ms=100)
    ) as company:
        recordings = company.pbx.directory / "spool" / "monitor"
        company.daemon.settings["asterisks"]["main"]["recordings"] = {"directory": str(recordings)}
        company.knows(
            {"id": "17", "type": "contact", "name": NAME, "numbers": WRITTEN, "owner": "user-anna"},
            {"id": "18", "type": "contact", "name": "Ole Brink", "numbers": OTHER, "owner": "user-anna"},
        )
        daemon = company.start().daemon
        anna = Browser(company, "anna")
        recorded = plant(company, anna)
        store = daemon.directory / "cti.db"
        planted = {"calls", "events", "cards", "decisions", "callbacks", "audit", "number_lists"}
        assert tables_with_them(store) >= planted
        assert {"cti.db-wal", "directory.db"} <= set(found_in(daemon.directory))
        assert (recordings / f"{recorded}.wav").exists()
        shown = daemon.run("export", "--number", WRITTEN)
        assert {each["kind"] for each in json.loads(shown)} >= {"calls", "callbacks", "number_lists", "audit"}

        # They are on the phone while it is done.
        live = company.call(from_number=CUSTOMER)
        live.wait_for(200)
        whom = ("--number", WRITTEN, "--party", "directory:17", "--from-directory", "--format", "json")
        report: Any = json.loads(daemon.run("erase", *whom))
        assert (report["state"], len(report["waits"])) == ("waiting", 1)
        (going_on,) = report["waits"]
        assert daemon.call(recorded)["from"] is None
        assert daemon.call(going_on)["from"] == "+4915228817386"
        assert not list(recordings.glob(f"{recorded}*"))
        # What the server had in memory is gone with it.
        assert daemon.get("/api/v1/callbacks")["callbacks"] == []
        assert anna.desk()["missed"] == {"count": 0}
        assert daemon.get("/api/v1/numbers/ignored")["numbers"] == []
        live.hang_up()
        reports = lambda: daemon.get("/api/v1/erasures")["erasures"]  # noqa: E731
        eventually(lambda: "left" in (reports()[0]["report"] or {}), 60, what="the end of the erasure")
        (report,) = reports()
        assert (report["state"], report["report"]["left"]) == ("done", [])

        assert tables_with_them(store) == set()
        assert found_in(daemon.directory) == []
        stream = daemon.events(last_id=0)
        eventually(lambda: stream.of("call.ended"), 10, what="the events from the first on")
        stream.close()
        assert not NUMBER.search(json.dumps([dict(each.data) for each in stream.events]).encode())
        # Everybody else is as they were.
        assert daemon.get("/api/v1/identify", number=OTHER)["parties"][0]["name"] == "Ole Brink"
        (others,) = daemon.calls(number=OTHER)
        assert others["notes"] == "ask [erased], [erased], first"
        assert daemon.stop() == 0
        assert found_in(daemon.directory) == []


def test_the_api_erases_and_exports_as_the_commands_do(tmp_path: Path) -> None:
    agents = (AnAgent("anna", behaviour=Answers(after_ms=50)),)
    with Company(tmp_path, agents=agents, settings={"retention": {"calls": 1}}) as company:
        company.knows({"id": "17", "type": "contact", "name": NAME, "numbers": WRITTEN, "owner": "user-anna"})
        daemon = company.start().daemon
        company.call(from_number=CUSTOMER, talk_ms=200).wait()
        daemon.the_call()
        whom = {"numbers": [WRITTEN], "parties": [{"adapter": "directory", "id": "17"}]}
        exported = daemon.request("POST", "/api/v1/export", whom)["records"]
        assert exported[0]["from"] == "+4915228817386"
        asked = daemon.request("POST", "/api/v1/erasures", {**whom, "directory": True})
        done = lambda: daemon.get(f"/api/v1/erasures/{asked['id']}")  # noqa: E731
        eventually(lambda: done()["state"] == "done" and "left" in done()["report"], 60, what="the erasure")
        assert done()["report"]["left"] == []
        assert tables_with_them(daemon.directory / "cti.db") == set()
        assert found_in(daemon.directory) == []
        assert daemon.request("POST", "/api/v1/purge", {"dry_run": True}) == {"removed": {}, "dry_run": True}
        assert json.loads(daemon.run("purge", "--format", "json")) == {"removed": {}, "dry_run": False}
        audited = [each["action"] for each in daemon.get("/api/v1/audit")["audit"]]
        assert {"POST /api/v1/export", "POST /api/v1/erasures", "POST /api/v1/purge", "data.purged"} <= {
            *audited
        }
