"""Hot desks on a real Asterisk: whoever has no phone of their own logs in at any desk's, and is rung there."""

from pathlib import Path
from urllib.error import HTTPError

import pytest

from lab.company import AnAgent, Company
from lab.laboratory import eventually
from tests.asterisk.test_inbound import CUSTOMER, a_customer
from tests.faults.evidence import rung


def test_an_agent_logs_in_at_any_desk_is_rung_there_and_leaves_it_by_logging_out(tmp_path: Path) -> None:
    agents = {
        id: {"name": id.title(), "phones": [], "groups": ["sales"], "crm": {"directory": f"user-{id}"}}
        for id in ("anna", "ben")
    }
    phones = [AnAgent("desk-1"), AnAgent("desk-2")]
    with Company(tmp_path, agents=phones, settings={"agents": agents, "desks": ["PJSIP/desk-*"]}) as company:
        company.knows(a_customer())
        company.start()
        daemon = company.daemon

        def sits(agent: str, phone: str) -> None:
            daemon.request("PATCH", f"/api/v1/agents/{agent}", {"state": "ready", "phone": phone})

        def one_more_call() -> dict[str, int]:
            before = len(daemon.calls())
            company.call(from_number=CUSTOMER, talk_ms=300).wait()
            eventually(lambda: len(daemon.calls()) == before + 1, what="the call in the log")
            return {phone: times for phone, times in rung(company).items() if phone.startswith("desk")}

        sits("anna", "PJSIP/desk-2")
        assert one_more_call() == {"desk-2": 1}
        assert daemon.the_call()["agent"] == "anna"
        with pytest.raises(HTTPError, match="409"):
            sits("ben", "PJSIP/desk-2")

        # The seat outlasts a crash of the server, and not a log-out.
        daemon.kill()
        company.start()
        assert daemon.agents()["anna"]["phone"] == "PJSIP/desk-2"
        daemon.request("PATCH", "/api/v1/agents/anna", {"state": "logged_out"})
        sits("ben", "PJSIP/desk-2")
        assert one_more_call() == {"desk-2": 2}
        assert [call["agent"] for call in daemon.calls()] == ["ben", "anna"]
        # Who comes back sits nowhere, also after the next crash.
        daemon.request("PATCH", "/api/v1/agents/anna", {"state": "ready"})
        daemon.kill()
        company.start()
        states = daemon.agents()
        assert (states["anna"]["phone"], states["ben"]["phone"]) == (None, "PJSIP/desk-2")
