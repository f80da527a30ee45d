"""Several calls at once for one agent, on a real Asterisk: the second rings once they talk, the third waits."""

from pathlib import Path

from lab.company import AnAgent
from lab.laboratory import Answers, eventually
from tests.asterisk.test_waiting import a_company, ended, in_state
from tests.faults.evidence import seconds


def test_a_switchboard_takes_the_next_call_beside_the_first_and_no_third(tmp_path: Path) -> None:
    with a_company(tmp_path, AnAgent("anna", behaviour=Answers(after_ms=200))) as company:
        company.start()
        company.daemon.run("agents", "set", "anna", "--concurrency", "2")
        eventually(lambda: company.daemon.agents()["anna"]["concurrency"] == 2, what="what the command wrote")

        calls = [company.call(talk_ms=3000, from_number=f"+49171392000{n}") for n in range(2)]
        eventually(lambda: in_state(company, "connected") == 2, what="two of them talk with her at once")
        # Music counts as talking, where the caller's telephone is concerned.
        calls.append(company.call(talk_ms=6000, from_number="+491713920002"))
        eventually(lambda: in_state(company, "waiting") == 1, what="the third one waits")
        for call in calls:
            call.wait()
        records = ended(company, 3)
        assert [record["outcome"] for record in records] == ["answered"] * 3
        assert [record["agent"] for record in records] == ["anna"] * 3
        first, second, third = sorted(records, key=lambda record: seconds(record["answered"]))
        assert seconds(second["ringing"]) >= seconds(first["answered"]), "one rings at a time"
        assert seconds(third["ringing"]) >= min(seconds(first["ended"]), seconds(second["ended"])) - 0.1
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready", what="anna is free")
