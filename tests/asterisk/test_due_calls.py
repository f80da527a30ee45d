"""Planned calls on a real Asterisk: the agent's phone rings first, then the customer's, and again if need be."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.company import AnAgent, Company, way_out
from lab.laboratory import Answers, Behaviour, RingsForever, eventually

CUSTOMER = "+493023125101"


def company_with(directory: Path, customer: Behaviour) -> Company:
    return Company(
        directory,
        agents=(AnAgent("anna"), AnAgent("dora", behaviour=RingsForever())),
        settings={"callbacks": {"tries": 2}, "call_control": {"ring_seconds": 5}},
        more_extensions=way_out(2),
        trunk=customer,
    )


def planned(company: Company, agent: str = "anna") -> str:
    """A call that an agent has to make in two seconds, whatever the hour is; the CRM plans it."""
    due = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    body = {"number": CUSTOMER, "owner": agent, "due": due, "anyway": True}
    made = company.daemon.request("POST", "/api/v1/callbacks", body, company.daemon.token("crm"))
    assert datetime.fromisoformat(made["next"]) - datetime.fromisoformat(due) < timedelta(seconds=0.001)
    id: str = made["id"]
    return id


def entry(company: Company, id: str, state: str = "open") -> dict[str, Any] | None:
    answer = company.daemon.request("GET", f"/api/v1/callbacks?state={state}")
    return next((each for each in answer["callbacks"] if each["id"] == id), None)


@pytest.mark.timeout(120)
def test_a_planned_call_rings_the_agent_then_the_customer_and_is_closed_when_they_talk(tmp_path):
    with company_with(tmp_path, Answers(after_ms=300)) as company:
        company.start()
        id = planned(company)
        done = eventually(lambda: entry(company, id, "done"), 20, what="the entry that closes itself")
        record = company.daemon.call(done["done_by"])
        assert (record["agent"], record["to"], record["direction"]) == ("anna", CUSTOMER, "outbound")
        answered = {
            each["agent"]: datetime.fromisoformat(each["answered"])
            for each in record["channels"]
            if each["answered"] and "Local/" not in each["device"]
        }
        assert answered["anna"] < answered[None]
        assert [len(company.phones[name].invites) for name in ("anna", "outside")] == [1, 1]


@pytest.mark.timeout(120)
def test_who_does_not_answer_is_tried_again_also_after_a_restart_and_then_left_to_people(tmp_path):
    with company_with(tmp_path, RingsForever()) as company:
        company.start()
        id, unheard = planned(company), planned(company, "dora")

        def tried(times: int) -> dict[str, Any]:
            return eventually(
                lambda: found if (found := entry(company, id)) and found["failed_tries"] == times else None,
                20,
                what=f"try {times} in vain",
            )

        once = tried(1)
        assert (once["why"], once["given_up"], once["calling"]) == ("no_answer", None, None)
        pause = datetime.fromisoformat(once["next"]) - datetime.now(UTC)
        assert timedelta(minutes=14) < pause < timedelta(hours=24)
        theirs = eventually(
            lambda: found if (found := entry(company, unheard)) and found["why"] else None,
            20,
            what="the agent who lets it ring",
        )
        assert (theirs["why"], theirs["failed_tries"]) == ("agent_no_answer", 0)
        # A quarter of an hour passes while the server is away.
        company.daemon.stop()
        with sqlite3.connect(company.daemon.directory / "cti.db") as store:
            store.execute("UPDATE callbacks SET next = 0, anyway = 1e12 WHERE id = ?", (id,))
        store.close()
        company.start()
        twice = tried(2)
        assert (twice["due"], twice["next"]) == (None, None)
        assert twice["given_up"] is not None
        assert [len(company.phones[name].invites) for name in ("anna", "outside")] == [2, 2]
