"""Wrap-up on a real Asterisk: whom it keeps waiting, who gets the agent as it ends, and who has none."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lab.company import AnAgent, Company
from lab.laboratory import Answers, eventually
from tests.asterisk.test_desk import Browser
from tests.asterisk.test_waiting import LINE, ended, in_state
from tests.faults.evidence import seconds

#: By hand it takes as long as the agent wants, by itself this many seconds.
BY_ITSELF = 2


def is_saved(anna: Browser) -> None:
    """Anna writes down what came of the call, and is done with it."""
    (shown,) = [each for each in anna.desk()["calls"] if each["status"] == "wrap_up"]
    id = shown["call"]["id"]
    written = {"notes": "wants an offer", "disposition": "order"}
    assert anna.ask("PATCH", f"/calls/{id}", written, shown["etag"])[0] == 200
    assert anna.ask("POST", f"/calls/{id}/wrap_up", {"finish": True})[0] == 200


@pytest.mark.parametrize("saved", [True, False])
def test_who_writes_a_call_up_gets_the_next_caller_when_it_is_saved_or_the_time_is_over(
    tmp_path: Path, saved: bool
) -> None:
    service = {
        "rules": [LINE],
        "wrap_up": 300 if saved else BY_ITSELF,
        "dispositions": {"order": "Order"},
        "disposition": "required",
    }
    with Company(tmp_path, [AnAgent("anna", behaviour=Answers(after_ms=20))], service=service) as company:
        company.start()
        desk = Browser(company, "anna")
        first = company.call(from_number="+491713920001")
        eventually(lambda: in_state(company, "connected") == 1, what="the first one talks")
        second = company.call(talk_ms=8000, from_number="+491713920002")
        eventually(lambda: in_state(company, "waiting") == 1, what="the second one waits")
        first.hang_up()
        if saved:
            desk.is_in("wrap_up")
            assert in_state(company, "waiting") == 1
            is_saved(desk)
        eventually(lambda: in_state(company, "connected") == 1, 15, what="the second one talks")
        second.hang_up()
        before, after = sorted(ended(company, 2), key=lambda record: record["started"])
        assert [each["agent"] for each in (before, after)] == ["anna", "anna"]
        # Rung as the wrap-up ended, and not before.
        end_of_wrap_up = seconds(before["ended"]) + before["wrap_up"]
        assert seconds(after["ringing"]) >= end_of_wrap_up - 0.1
        if saved:
            assert (before["notes"], before["disposition"]) == ("wants an offer", "order")
            assert before["wrap_up"] < 300
        else:
            assert before["wrap_up"] == BY_ITSELF
            assert desk.ask("GET", "/desk/unwritten")[1]["calls"][0]["call"]["id"] == before["id"]


def test_who_is_removed_during_a_call_talks_on_and_has_nothing_to_write_up(tmp_path: Path) -> None:
    rules = [{"name": "rest", "dial": {"group": "sales"}, "timeout": 5}]
    crew = [AnAgent("anna"), AnAgent("ben", state="paused")]
    with Company(tmp_path, crew, service={"rules": rules, "wrap_up": 300}) as company:
        company.start()
        call = company.call(from_number="+491713920001")
        call.wait_for(200)
        eventually(lambda: in_state(company, "connected") == 1, what="they talk")
        company.daemon.run("agents", "remove", "anna")
        eventually(lambda: "anna" not in company.daemon.agents(), what="the server knows")
        assert in_state(company, "connected") == 1
        call.hang_up()
        (record,) = ended(company, 1)
        assert (record["outcome"], record["agent"], record["wrap_up"]) == ("answered", "anna", None)
        assert [segment["agent"] for segment in record["segments"]] == ["anna"]
        # The next caller is not kept for her.
        company.call(from_number="+491713920002", talk_ms=300).wait()
        assert ended(company, 2)[-1]["reason"].startswith("fallback: nobody is left: rest: none of 1")
        with closing(sqlite3.connect(company.daemon.directory / "cti.db")) as store:
            assert store.execute("SELECT agent FROM reservations").fetchall() == []
        assert [line for line in company.daemon.log() if "exception" in line] == []
