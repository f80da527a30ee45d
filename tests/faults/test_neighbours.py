"""What the daemon leans on fails: CRMs that raise or hang, a locked database. The caller still gets to a person."""

import sqlite3
import time
from urllib.error import HTTPError
from urllib.request import urlopen

from lab.company import AnAgent, Company
from lab.laboratory import eventually
from tests.faults.evidence import rung, settled
from tests.faults.kinds import install

KATRIN = {
    "id": "17",
    "type": "contact",
    "name": "Katrin Öhlmann",
    "numbers": "0152 / 288 17 386",
    "owner": "user-ben",
}


def adapters(*names: str) -> dict[str, object]:
    """The configuration of a company that has these adapters beside the directory, whose turn is last."""
    return {"adapters": {name: {"kind": name} for name in (*names, "directory")}}


def test_crms_that_hang_or_raise_cost_the_caller_no_more_than_the_budget(tmp_path):
    with Company(
        tmp_path / "company",
        [AnAgent("anna"), AnAgent("ben")],
        settings=adapters("hanging", "failing"),
        environment=install(tmp_path / "kinds"),
    ) as company:
        company.knows(KATRIN)
        company.start()
        results = [
            company.call(from_number="015228817386", talk_ms=100).wait(),
            company.call(from_number="015228895456", talk_ms=100).wait(),
            company.call(privacy=True, talk_ms=100).wait(),
        ]
        known, unknown, withheld = (company.daemon.call(call["id"]) for call in settled(company, 3))

        assert [result.final for result in results] == [200, 200, 200]
        # By what the others know: Ben looks after her.
        assert (known["agent"], known["rule"], known["party"]["name"]) == ("ben", "owner", "Katrin Öhlmann")
        assert company.phones["ben"].invites[0].from_name == "Katrin Öhlmann"
        assert (unknown["rule"], unknown["party"]) == ("rest", None)
        assert (withheld["rule"], withheld["party"]) == ("rest", None)
        for call, told in (
            (known, {"hanging": "timeout", "failing": "error", "directory": "hit"}),
            (unknown, {"hanging": "timeout", "failing": "error", "directory": "miss"}),
            (withheld, {"hanging": "skipped", "failing": "skipped", "directory": "skipped"}),
        ):
            (decision,) = call["decisions"]
            outcomes = decision["identification"]["adapters"]
            assert {each["adapter"]: each["outcome"] for each in outcomes} == told
        # Who is found already waits for the others a moment only.
        assert 240 < known["identify_ms"] < 700
        assert 790 < unknown["identify_ms"] < 1200
        assert max(known["setup_ms"], unknown["setup_ms"]) < 1500
        assert withheld["identify_ms"] < 100
        (failing,) = (
            each
            for each in known["decisions"][0]["identification"]["adapters"]
            if each["adapter"] == "failing"
        )
        assert "the CRM refuses to work" in failing["error"]
        for outcome in ("timeout", "skipped"):
            count = company.daemon.metric("cti_identify_seconds_count", adapter="hanging", outcome=outcome)
            assert count == {"timeout": 2, "skipped": 1}[outcome]
        eventually(
            lambda: company.daemon.metric("cti_adapter_up", adapter="directory") == 1,
            7,
            what="a look at them",
        )
        assert company.daemon.metric("cti_adapter_up", adapter="failing") == 0

        # Nobody is ready.
        for agent, state in (("anna", "logged_out"), ("ben", "paused")):
            company.daemon.request("PATCH", f"/api/v1/agents/{agent}", {"state": state})
        before = rung(company)
        assert company.call(from_number="015228817386", talk_ms=100).wait().final == 200
        assert rung(company) == before | {"reception": 1}
        last = company.daemon.call(company.daemon.calls()[0]["id"])
        (decision,) = last["decisions"]
        assert (decision["action"], decision["target"]) == ("fallback", "old-context,s,1")
        assert (last["agent"], last["segments"]) == (None, [])


def what_is_ready(company: Company) -> str:
    try:
        with urlopen(f"http://127.0.0.1:{company.daemon.http_port}/readyz", timeout=5) as answer:
            return answer.read().decode()
    except HTTPError as error:
        return error.read().decode()


def test_a_call_that_the_store_is_too_slow_for_is_routed_and_logged_from_the_spool(tmp_path):
    with Company(tmp_path, [AnAgent("anna"), AnAgent("ben")]) as company:
        company.start()
        assert company.call(from_number="+491713920000", talk_ms=100).wait().final == 200
        settled(company, 1)

        with sqlite3.connect(company.daemon.directory / "cti.db", isolation_level=None) as lock:
            lock.execute("BEGIN IMMEDIATE")
            call = company.call(from_number="+491713920001")
            result = call.wait_for(200)
            assert result.answered is not None
            print(f"INVITE to the agent's answer {result.answered - result.started:.3f} s")
            # Longer than the database waits for its lock: some of it fails there.
            time.sleep(4)
            ended = company.call(from_number="+491713920002", talk_ms=100).wait()
            assert ended.final == 200
            assert "wait to be written in" in what_is_ready(company)
            lock.execute("ROLLBACK")
        lock.close()
        call.hang_up()

        records = settled(company, 3)
        assert [(record["from_raw"], record["outcome"]) for record in records] == [
            (f"+49171392000{index}", "answered") for index in range(3)
        ]
        assert None not in [record["agent"] for record in records]
        assert "reception" not in rung(company)

        # The daemon dies while its decisions wait in the spool: the next one writes them in.
        with sqlite3.connect(company.daemon.directory / "cti.db", isolation_level=None) as lock:
            lock.execute("BEGIN IMMEDIATE")
            assert company.call(from_number="+491713920004", talk_ms=100).wait().final == 200
            time.sleep(0.5)
            company.daemon.kill()
            lock.execute("ROLLBACK")
        lock.close()
        company.start()
        told = {call["from_raw"]: (call["outcome"], call["agent"]) for call in settled(company, 4)}
        assert told["+491713920004"][0] == "answered"
        assert told["+491713920004"][1] is not None
