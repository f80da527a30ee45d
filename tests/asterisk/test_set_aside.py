"""Who lets calls ring is set aside until they come back, on a real Asterisk; whom nobody could reach is not."""

from lab.company import AnAgent, Company
from lab.laboratory import Answers, Busy, RingsForever, eventually
from tests.asterisk.test_inbound import CUSTOMER, a_customer
from tests.faults.evidence import rung


def test_who_lets_a_call_ring_is_set_aside_is_told_and_comes_back_when_they_say_so(tmp_path):
    agents = [AnAgent("anna", behaviour=RingsForever()), AnAgent("ben")]
    with Company(tmp_path, agents=agents, settings={"set_aside_after": 1}) as company:
        company.knows(a_customer())
        company.start()
        daemon, stream = company.daemon, company.daemon.events("agent", "anna")

        company.call(from_number=CUSTOMER, talk_ms=300).wait()
        first = daemon.the_call()
        assert [segment["result"] for segment in first["segments"]] == ["no_answer", "answered"]
        told = stream.wait_for("agent.state", lambda event: event.data["state"] == "paused")
        assert told.data["reason"] == "no_answer"
        states = [event.data["state"] for event in stream.of("agent.state")]
        assert states == ["offered", "paused"], "nobody may offer her another call in between"

        # A restart makes nobody ready, and the next call goes past her.
        daemon.kill()
        company.start()
        anna = daemon.agents()["anna"]
        assert (anna["state"], anna["reason"], anna["why_not"]) == (
            "paused",
            "no_answer",
            "paused: no_answer",
        )
        company.call(from_number=CUSTOMER, talk_ms=300).wait()
        eventually(lambda: len(daemon.calls()) == 2, what="the second call in the log")
        assert rung(company) == {"anna": 1, "ben": 2}

        company.phones["anna"].behave(Answers(after_ms=100))
        daemon.request("PATCH", "/api/v1/agents/anna", {"state": "ready"})
        company.call(from_number=CUSTOMER, talk_ms=300).wait()
        eventually(lambda: rung(company) == {"anna": 2, "ben": 2}, what="Anna's phone")


def test_a_caller_who_hangs_up_and_a_busy_phone_set_nobody_aside(tmp_path):
    with Company(
        tmp_path, agents=[AnAgent("anna", behaviour=RingsForever())], settings={"set_aside_after": 1}
    ) as company:
        company.knows(a_customer())
        company.start()
        stream = company.daemon.events("agent", "anna")

        company.call(from_number=CUSTOMER, cancel_after_ms=900).wait()
        assert company.daemon.the_call()["segments"][0]["result"] == "abandoned"
        company.phones["anna"].behave(Busy(after_ms=300))
        company.call(from_number=CUSTOMER, talk_ms=50).wait()
        eventually(lambda: len(company.daemon.calls()) == 2, what="the second call in the log")

        assert rung(company)["anna"] == 2
        eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready")
        assert {event.data["state"] for event in stream.of("agent.state")} == {"offered", "ready"}
