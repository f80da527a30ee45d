"""A call from a number that only a real Odoo knows, on a real Asterisk: to the salesperson, and into the chatter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.browser import Chromium
from lab.company import AnAgent, Company
from lab.crm.odoo import Odoo
from lab.laboratory import Answers, eventually

# The first run on a machine fetches Odoo.
pytestmark = pytest.mark.timeout(1800)

#: As the trunk sends it; the stem of the customer's number is none of ours then.
DID = "493023125100"
SWITCHBOARD = "+4940669690"
EXTENSION = "+494066969027"
PASSWORD = "a word for the roof"
SECONDS = 60.0


@pytest.fixture(scope="module")
def odoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odoo]:
    with Odoo(tmp_path_factory.mktemp("odoo")) as running:
        yield running


def settings(odoo: Odoo, users: dict[str, int]) -> dict[str, Any]:
    return {
        "adapters": {"odoo": {"kind": "odoo", "url": odoo.url, "key": {"env": "ODOO_KEY"}}},
        "agents": {
            agent: {
                "name": agent.title(),
                "phones": [f"PJSIP/{agent}"],
                "groups": ["sales"],
                "crm": {"odoo": str(users[agent])} if agent in users else {},
                "state": "ready",
            }
            for agent in ("vera", "tom")
        },
    }


def calls_of(odoo: Odoo, partner: int) -> list[dict[str, Any]]:
    """What the chatter has of calls."""
    about = [["model", "=", "res.partner"], ["res_id", "=", partner], ["mail_activity_type_id", "!=", False]]
    found: list[dict[str, Any]] = odoo.ask(
        "mail.message", "search_read", domain=about, fields=["body", "author_id"]
    )
    return found


def activities_of(odoo: Odoo, partner: int) -> list[dict[str, Any]]:
    about = [["res_model", "=", "res.partner"], ["res_id", "=", partner], ["active", "in", [True, False]]]
    found: list[dict[str, Any]] = odoo.ask(
        "mail.activity", "search_read", domain=about, fields=["active", "user_id", "summary"], order="id"
    )
    return found


def test_a_call_whom_only_odoo_knows_goes_to_the_salesperson_and_into_the_chatter(
    odoo: Odoo, tmp_path: Path
) -> None:
    vera = odoo.add_salesperson("Vera Holm", "vera", PASSWORD)
    partner = odoo.add(
        "res.partner", name="Lindenhof GmbH", is_company=True, phone="+49 (40) 66969-0", user_id=vera
    )
    odoo.add("crm.lead", name="A new roof", partner_id=partner, user_id=vera)
    agents = [AnAgent("vera", behaviour=Answers(after_ms=1000)), AnAgent("tom")]
    with Company(
        tmp_path,
        agents=agents,
        service={"numbers": [f"+{DID}"]},
        settings=settings(odoo, {"vera": vera}),
        environment={"ODOO_KEY": odoo.key},
    ) as company:
        company.start()
        eventually(lambda: company.daemon.metric("cti_adapter_up", adapter="odoo") == 1, SECONDS)
        call = company.call(did=DID, from_number=SWITCHBOARD, talk_ms=2500)
        (ringing,) = eventually(lambda: activities_of(odoo, partner), SECONDS, what="the call in Odoo")
        assert (ringing["active"], ringing["user_id"][0]) == (True, vera)
        call.wait()
        record = company.daemon.the_call()
        assert (record["agent"], record["rule"], record["outcome"]) == ("vera", "owner", "answered")
        assert record["party"] == {
            "adapter": "odoo",
            "type": "organisation",
            "id": str(partner),
            "name": "Lindenhof GmbH",
            "url": f"{odoo.url}/web#id={partner}&model=res.partner&view_type=form",
        }
        (party,) = record["card"]["body"]["parties"]
        assert [case["title"] for case in party["cases"]] == ["A new roof"]

        id = record["id"]
        eventually(lambda: len(calls_of(odoo, partner)) == 1, SECONDS, what="the note in the chatter")
        company.daemon.request(
            "PATCH", f"/api/v1/calls/{id}", {"notes": "Wants tiles, not <slate>"}, etag="*"
        )
        eventually(lambda: "Wants tiles, not &lt;slate&gt;" in calls_of(odoo, partner)[0]["body"], SECONDS)
        (message,) = calls_of(odoo, partner)
        (done,) = activities_of(odoo, partner)
        assert (done["id"], done["active"]) == (ringing["id"], False)
        assert message["author_id"][1] == "Vera Holm"
        written = {(each["type"], each["id"]) for each in company.daemon.call(id)["crm"]}
        assert written == {("mail.activity", str(done["id"])), ("mail.message", str(message["id"]))}

        # Somebody else of the same house, whom nobody takes.
        company.daemon.request("PATCH", "/api/v1/agents/tom", {"state": "paused"})
        company.call(did=DID, from_number=EXTENSION, cancel_after_ms=600).wait()
        eventually(lambda: len(calls_of(odoo, partner)) == 2, SECONDS, what="the missed call in the chatter")
        missed = activities_of(odoo, partner)[-1]
        assert (missed["active"], missed["user_id"][0], missed["summary"]) == (True, vera, "Missed call")
        eventually(lambda: company.daemon.metric("cti_outbox_pending", destination="crm:odoo") == 0, SECONDS)
    with (
        Chromium() as chromium,
        # What is wrong on Odoo's pages is not ours.
        chromium.window(
            odoo.url, tmp_path / "pictures", "odoo", width=1640, height=720, expects=["."]
        ) as window,
    ):
        tab = window.open("/web/login")
        tab.set_default_timeout(SECONDS * 1000)
        tab.fill("input[name=login]", "vera")
        tab.fill("input[name=password]", PASSWORD)
        tab.click("button[type=submit]")
        tab.wait_for_selector(".o_main_navbar")
        # The deep link that stands on the card.
        tab.goto(record["party"]["url"].removeprefix(odoo.url))
        tab.wait_for_selector("text=Wants tiles, not <slate>")
        tab.wait_for_selector(".o-mail-Activity >> text=Missed call")
        window.picture(tab, "chatter")


def test_a_call_that_ended_while_odoo_was_away_is_told_once_when_it_is_back(
    odoo: Odoo, tmp_path: Path
) -> None:
    mia = odoo.add_salesperson("Mia Berg", "mia")
    partner = odoo.add("res.partner", name="Bakery", phone="0152 28817386", user_id=mia)
    with Company(
        tmp_path,
        agents=[AnAgent("vera", behaviour=Answers(after_ms=100)), AnAgent("tom")],
        service={"numbers": [f"+{DID}"]},
        settings=settings(odoo, {"vera": mia}),
        environment={"ODOO_KEY": odoo.key},
    ) as company:
        company.start()
        eventually(lambda: company.daemon.metric("cti_adapter_up", adapter="odoo") == 1, SECONDS)
        call = company.call(did=DID, from_number="+4915228817386")
        eventually(
            lambda: "going on" in str(activities_of(odoo, partner)), SECONDS, what="the answered call in Odoo"
        )
        odoo.stop()
        try:
            call.hang_up()
            record = company.daemon.the_call()
            assert record["outcome"] == "answered"
            waiting = {"destination": "crm:odoo"}
            eventually(lambda: company.daemon.metric("cti_outbox_pending", **waiting) > 0, SECONDS)
        finally:
            odoo.start()
        eventually(lambda: calls_of(odoo, partner), SECONDS, what="the call in the chatter")
        eventually(lambda: company.daemon.metric("cti_outbox_pending", **waiting) == 0, SECONDS)
        (activity,) = activities_of(odoo, partner)
        assert (activity["active"], len(calls_of(odoo, partner))) == (False, 1)
