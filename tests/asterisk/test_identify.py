"""Who is calling, on a real Asterisk: who is turned away, unknown callers who become leads, late answers."""

from lab.company import AnAgent, Company
from lab.laboratory import eventually
from tests.faults.evidence import rung, settled
from tests.faults.kinds import install

UNKNOWN, NUISANCE = "+442079460018", "+442079460099"


def a_company(directory, **more) -> Company:
    services = {
        "sales": {
            "numbers": ["+494066969100"],
            "mode": "route",
            "fallback": "old-context,s,1",
            "rules": [{"name": "rest", "dial": {"group": "sales"}}],
            "unknown": {"create": {"adapter": "directory", "type": "lead"}},
        }
    }
    return Company(directory, [AnAgent("anna")], settings={"services": services, **more})


def test_blocked_callers_are_turned_away_and_unknown_ones_are_leads_once(tmp_path):
    with a_company(tmp_path, identify={"blocked": ["+44207946009*"], "reject": 1}) as company:
        company.start()

        # Cause 1 of Q.850, a number that there is not, is 404 in SIP (RFC 3398, 7.2.4.1).
        assert company.call(from_number=NUISANCE).wait().final == 404
        (blocked,) = settled(company, 1)
        assert (blocked["outcome"], blocked["hangup_cause"], rung(company)) == ("rejected", 1, {})
        assert blocked["reason"] == "blocked: the caller is on the list of blocked numbers"

        # Somebody adds a number, and thinks better of it.
        company.daemon.request("POST", "/api/v1/numbers/blocked", {"number": UNKNOWN, "note": "by mistake"})
        assert company.call(from_number=UNKNOWN).wait().final == 404
        company.daemon.request("DELETE", f"/api/v1/numbers/blocked/{UNKNOWN}")
        found = company.daemon.get("/api/v1/identify", number=UNKNOWN)
        assert (found["parties"], found["ignored"]) == ([], False), "who was turned away is nobody's lead"

        assert company.call(from_number=UNKNOWN, talk_ms=100).wait().final == 200
        assert company.call(privacy=True, talk_ms=100).wait().final == 200

        def lead():
            return company.daemon.get("/api/v1/identify", number=UNKNOWN)["parties"]

        (party,) = eventually(lead, what="the lead")
        assert (party["type"], party["name"]) == ("lead", "+44 20 7946 0018")
        first = next(call for call in settled(company, 4) if call["from"] == UNKNOWN and call["agent"])
        taken = eventually(lambda: company.daemon.call(first["id"])["party"], what="who it was in the log")
        assert (taken["adapter"], taken["id"]) == ("directory", party["id"])

        # From now on they are known, and nobody is made again.
        company.daemon.stop()
        company.daemon.start()
        assert company.call(from_number=UNKNOWN, talk_ms=100).wait().final == 200
        last = settled(company, 5)[-1]
        assert last["party"]["id"] == party["id"]
        assert len(lead()) == 1


def test_an_answer_that_comes_too_late_for_the_decision_is_on_the_card(tmp_path):
    adapters = {"slow": {"kind": "slow", "seconds": 1.2, "party": "77"}, "directory": {"kind": "directory"}}
    with Company(
        tmp_path / "company",
        [AnAgent("anna")],
        settings={"adapters": adapters},
        environment=install(tmp_path / "kinds"),
    ) as company:
        company.start()
        stream = company.daemon.events("agent", "anna")
        call = company.call(from_number=UNKNOWN, talk_ms=1500)
        offered = stream.wait_for("card.offered")
        assert (offered.data["party"], offered.data["card"]["parties"]) == (None, [])
        updated = stream.wait_for("card.updated")
        assert [party["id"] for party in updated.data["card"]["parties"]] == ["77"]
        assert updated.data["party"]["adapter"] == "slow"
        assert call.wait().final == 200
        (record,) = settled(company, 1)
        assert record["party"]["id"] == "77"
        (decision,) = company.daemon.call(record["id"])["decisions"]
        outcomes = {each["adapter"]: each["outcome"] for each in decision["identification"]["adapters"]}
        assert outcomes == {"slow": "timeout", "directory": "miss"}, "what was decided from stays as it was"
