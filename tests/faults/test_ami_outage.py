"""AMI down, refused or cut under calls: routing goes on, agents come free, and ends are known afterwards."""

from typing import Any

from lab.company import AnAgent, Company
from lab.laboratory import Answers, Call, Declines, RingsForever, eventually
from lab.trace import CallResult
from tests.faults.evidence import rung, seconds, settled
from tests.faults.link import Link


def over_a_link(link: Link) -> dict[str, Any]:
    """The settings of a company whose daemon reaches Asterisk's AMI through our hands."""
    ami = {"ami": f"127.0.0.1:{link.port}", "username": "cti", "secret": {"env": "AMI_SECRET"}}
    return {"asterisks": {"main": ami}, "reservation": {"grace": 1}}


def states(company: Company) -> dict[str, str]:
    return {id: agent["state"] for id, agent in company.daemon.agents().items()}


def by_number(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {record["from_raw"]: record for record in records}


def talking(company: Company, number: str) -> Call:
    """A caller who is talking to somebody now."""
    call = company.call(from_number=number)
    call.wait_for(200)
    return call


def agrees(record: dict[str, Any], result: CallResult) -> bool:
    return result.ended is not None and abs(seconds(record["ended"]) - result.ended) < 1.5


def test_with_a_refused_password_calls_are_routed_and_agents_come_free_by_themselves(tmp_path):
    settings = {"reservation": {"grace": 1}}
    environment = {"AMI_SECRET": "not the password"}
    with Company(tmp_path, [AnAgent("anna")], settings=settings, environment=environment) as company:
        company.start(with_ami=False)
        assert company.call(talk_ms=300).wait().final == 200
        assert rung(company) == {"anna": 1}
        assert states(company) == {"anna": "offered"}
        assert company.daemon.metric("cti_ami_up", pbx="main") == 0

        def refusals() -> int:
            return sum("log-in refused" in line["event"] for line in company.daemon.log())

        # Asterisk lets who has the wrong password wait for a second.
        eventually(refusals, 10, what="the refusal")
        # 3 s to ring and the second of grace.
        eventually(lambda: states(company) == {"anna": "ready"}, 7, what="the agent free again")
        assert company.call(talk_ms=100).wait().final == 200
        assert rung(company) == {"anna": 2}
        # The next try is half a minute away.
        assert refusals() == 1


def test_calls_of_before_ami_came_up_are_closed_as_they_ended(tmp_path):
    link = Link()
    link.cut()
    agents = [AnAgent("anna"), AnAgent("ben", behaviour=RingsForever()), AnAgent("cora")]
    service = {"rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 1}]}
    with Company(tmp_path, agents, service=service, settings=over_a_link(link)) as company:
        link.target = company.pbx.ami_port
        company.start(with_ami=False)
        answered = company.call(from_number="+491713920000", talk_ms=300).wait()
        # Ben's turn, who does not pick up; Cora's then.
        second = company.call(from_number="+491713920001", talk_ms=300).wait()
        assert rung(company) == {"anna": 1, "ben": 1, "cora": 1}
        # Nobody is left, as far as the daemon can see.
        left = company.call(from_number="+491713920002", talk_ms=100).wait()
        still_up = talking(company, "+491713920003")
        assert [call["ended"] for call in company.daemon.calls()] == [None] * 4

        link.heal()
        eventually(lambda: company.daemon.metric("cti_ami_up", pbx="main") == 1, 10, what="AMI")
        eventually(lambda: [call["ended"] for call in company.daemon.calls()].count(None) == 1, what="ends")
        results = [answered, second, left, still_up.hang_up()]
        records = by_number(settled(company, 4))
        assert {record["outcome"] for record in records.values()} == {"answered"}
        assert records["+491713920000"]["agent"] == "anna"
        assert records["+491713920001"]["agent"] == "cora"
        for result in results:
            assert agrees(records[result.messages[0].from_number], result)


def test_a_cut_under_calls_loses_no_end_and_holds_no_agent(tmp_path):
    link = Link()
    agents = [
        AnAgent("anna"),
        AnAgent("ben"),
        AnAgent("cora"),
        AnAgent("dora", behaviour=Answers(after_ms=None)),
        AnAgent("emil", behaviour=Declines(after_ms=1500)),
        AnAgent("fritz"),
        AnAgent("gina"),
    ]
    service = {"rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 10}]}
    with Company(tmp_path, agents, service=service, settings=over_a_link(link)) as company:
        link.target = company.pbx.ami_port
        company.start()
        ends_while_away = talking(company, "+491713920000")
        outlives_it = talking(company, "+491713920001")
        given_up = talking(company, "+491713920002")
        ringing = company.call(from_number="+491713920003")
        eventually(lambda: company.phones["dora"].invites, what="Dora's phone")
        refused = company.call(from_number="+491713920006")
        eventually(
            lambda: [bool(call["ringing"]) for call in company.daemon.calls()].count(True) == 5,
            what="the ringing in the log",
        )

        # A reload of manager.conf is nothing to notice.
        company.pbx.reload("manager")
        link.cut()
        eventually(lambda: company.daemon.metric("cti_ami_up", pbx="main") == 0, what="the outage")
        results = [ends_while_away.hang_up(), given_up.hang_up(), ringing.hang_up()]
        # Routing goes on: Emil declines, Fritz and Gina are the last who are free, then there is the fallback.
        refused.wait_for(200)
        results.append(refused.hang_up())
        results.append(company.call(from_number="+491713920004", talk_ms=200).wait())
        results.append(company.call(from_number="+491713920005", talk_ms=200).wait())
        everybody = ("anna", "ben", "cora", "dora", "emil", "fritz", "gina", "reception")
        assert rung(company) == dict.fromkeys(everybody, 1) | {"emil": 2}

        link.heal()
        eventually(lambda: company.daemon.metric("cti_ami_up", pbx="main") == 1, 10, what="AMI")
        eventually(
            lambda: states(company) == dict.fromkeys(everybody[:-1], "ready") | {"ben": "busy"},
            what="everybody but Ben ready",
        )
        results.append(outlives_it.hang_up())

        records = by_number(settled(company, 7))
        told = {number[-1]: (record["outcome"], record["agent"]) for number, record in records.items()}
        assert told == {
            "0": ("answered", "anna"),
            "1": ("answered", "ben"),
            "2": ("answered", "cora"),
            "3": ("missed", None),
            "4": ("answered", "gina"),
            "5": ("answered", None),
            "6": ("answered", "fritz"),
        }
        for result in results:
            assert agrees(records[result.messages[0].from_number], result)
