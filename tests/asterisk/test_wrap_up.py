"""Wrap-up on a real Asterisk, with a caller in the line: whom it keeps waiting, and who gets the agent as it ends."""

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
