"""Two Asterisks with one daemon: neither disturbs the other, and a call that goes through both is one call."""

import time
from typing import Any
from urllib.error import HTTPError

import orjson
import pytest

from lab.company import DID, AnAgent, Company
from lab.laboratory import Answers, Call, eventually
from tests.asterisk.test_inbound import CUSTOMER, CUSTOMER_E164, a_customer, rung, seconds
from tests.asterisk.test_shapes import agree, segments
from tests.faults.evidence import left_in_astdb
from tests.faults.link import Link

#: As docs/dialplan.md has it under “Several Asterisks”: trunk and extension 11 are at main, 21 at the branch.
JOINED = """
[globals]
CTI_OUTBOUND = way-out

[from-phones]
exten => _X!,1,Goto(cti-outbound,${EXTEN},1)

[from-peers]
exten => 494066969100,1,Goto(cti-inbound-trusted,${EXTEN},1)
exten => _XX,1,Goto(cti-outbound-trusted,${EXTEN},1)
exten => _0X.,1,Goto(cti-outbound-trusted,${EXTEN},1)

[way-out]
exten => 11,1,GotoIf($["${CTI_PBX}" = "main"]?phones,anna,1:to-main,${EXTEN},1)
exten => 21,1,GotoIf($["${CTI_PBX}" = "branch"]?phones,ben,1:to-branch,${EXTEN},1)
exten => _0X.,1,GotoIf($["${CTI_PBX}" = "main"]?trunk,${EXTEN},1:to-main,${EXTEN},1)

[phones]
exten => _[a-z].,1,Dial(PJSIP/${EXTEN},20)

[trunk]
exten => _X.,1,Dial(PJSIP/${EXTEN}@trunk,20)

[to-main]
exten => _X.,1,Dial(PJSIP/${EXTEN}@peer-main,20,b(cti-peer^s^1))

[to-branch]
exten => _X.,1,Dial(PJSIP/${EXTEN}@peer-branch,20,b(cti-peer^s^1))

; The fallback: the other site's agents, then whoever is at the reception.
[hand-over]
exten => s,1,GotoIf($["${CTI_PBX}" = "main"]?to-branch,494066969100,1:old-context,s,1)
"""


def two_sites(tmp_path: Any, main: list[AnAgent], branch: list[AnAgent], **more: Any) -> Company:
    return Company(tmp_path, main, branches={"branch": branch}, **{"more_extensions": JOINED, **more})


def started(company: Company) -> Company:
    company.start()
    for pbx in company.pbxes:
        eventually(lambda: up(company, pbx), what=f"AMI of {pbx}")  # noqa: B023 - called at once
    return company


def up(company: Company, pbx: str) -> bool:
    """Whether AMI to this Asterisk works, which the metric and /readyz say alike."""
    part = company.daemon.get("/readyz")["components"][f"ami.{pbx}"]["ok"]
    return bool(part and company.daemon.metric("cti_ami_up", pbx=pbx) == 1)


def settled(company: Company, count: int) -> list[dict[str, Any]]:
    """All records in full, oldest first, once nothing is open, held, or left in either AstDB."""

    def quiet() -> bool:
        calls, agents = company.daemon.calls(), company.daemon.agents().values()
        return (
            len(calls) >= count
            and all(call["ended"] for call in calls)
            and not any(agent["call"] for agent in agents)
            and not any(left_in_astdb(pbx) for pbx in company.pbxes.values())
        )

    eventually(quiet, 10, what=f"the end of {count} calls")
    calls = company.daemon.calls()
    assert len(calls) == count
    return [company.daemon.call(call["id"]) for call in reversed(calls)]


def by_number(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {record["from_raw"]: record for record in records}


def sites(record: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(channel["pbx"], channel["device"], channel["role"]) for channel in record["channels"]}


def state(company: Company, agent: str) -> str:
    word: str = company.daemon.agents()[agent]["state"]
    return word


def talks(company: Company, agent: str) -> bool:
    view = company.daemon.agents()[agent]
    return view["state"] == "busy" and view["call"] is not None


def talking(company: Company, agent: str, number: str, pbx: str = "main") -> Call:
    """A caller at this Asterisk who talks to this agent."""
    call = company.call(from_number=number, pbx=pbx)
    call.wait_for(200)
    eventually(lambda: talks(company, agent), 10, what=f"{agent} talking")
    return call


def the_id(company: Company, number: str) -> str:
    (call,) = [call for call in company.daemon.calls() if call["from_raw"] == number]
    id: str = call["id"]
    return id


def open_call(company: Company) -> str:
    """The only call that is on, once those before it are over in the log, too."""

    def only() -> str:
        open = [call["id"] for call in company.daemon.calls() if not call["ended"]]
        return open[0] if len(open) == 1 else ""

    return eventually(only, what="one call that is on")


def refused(company: Company, path: str, **body: str) -> tuple[int, str]:
    with pytest.raises(HTTPError) as refusal:
        company.daemon.request("POST", path, body)
    return refusal.value.code, orjson.loads(refusal.value.read())["detail"]


def both_talking(company: Company) -> dict[tuple[str, str], str]:
    """The calls of Anna at main and Ben at the branch, once both are on."""
    open = {(call["pbx"], call["agent"]): call["id"] for call in company.daemon.calls() if not call["ended"]}
    return open if open.keys() == {("main", "anna"), ("branch", "ben")} else {}


def test_calls_at_both_ring_who_is_there_and_are_told_apart_even_by_equal_uniqueids(tmp_path):
    eve = AnAgent("eve", groups=["both"])
    main = [AnAgent("anna"), AnAgent("cleo"), AnAgent("eve", groups=["both"], shares="cleo")]
    with two_sites(tmp_path, main, [AnAgent("ben"), AnAgent("dora"), eve]) as company:
        company.knows(
            a_customer(owner="user-dora"), a_customer(id="18", numbers="+491713920018", owner="user-eve")
        )
        started(company)
        for pbx in company.pbxes.values():
            eventually(
                lambda: f"/cti/fallback/{DID} " in pbx.cli("database show cti/fallback"),  # noqa: B023
                what=f"the fallback in AstDB of {pbx.name}",
            )

        # Both count their channels from the start, and number them by the second.
        for attempt in range(5):
            time.sleep(1.05 - time.time() % 1)
            pair = {
                pbx: company.call(from_number=f"+4917139200{attempt}{index}", pbx=pbx)
                for index, pbx in enumerate(("main", "branch"))
            }
            for call in pair.values():
                call.wait_for(200)
            at_once = eventually(lambda: both_talking(company), what="Anna and Ben in the log")
            equal = [
                {one["uniqueid"] for one in company.daemon.call(id)["channels"]} for id in at_once.values()
            ]
            if equal[0] == equal[1]:
                break
            for call in pair.values():
                call.hang_up()
            eventually(lambda: state(company, "anna") == state(company, "ben") == "ready", what="both free")
        else:
            pytest.fail("no two calls came within one second")

        # One of the equals ends, and the other is not touched.
        ended = pair["main"].hang_up()
        eventually(lambda: state(company, "anna") == "ready", what="Anna free")
        assert talks(company, "ben")
        eventually(
            lambda: [call["pbx"] for call in company.daemon.calls() if not call["ended"]] == ["branch"],
            what="one end in the log",
        )

        # Dora is free, and her customer calls at main, where she has no phone; Anna and Cleo have.
        passed_over = talking(company, "cleo", CUSTOMER)
        also = talking(company, "anna", "+491713920050")
        nobody = company.call(from_number="+491713920051", talk_ms=100).wait()
        # Eve has a phone at each.
        eves = [talking(company, "eve", "+491713920018", pbx="branch")]
        eves[0].hang_up()
        eventually(lambda: state(company, "eve") == "ready", what="Eve free")
        eves.append(talking(company, "eve", "+491713920018"))
        # While she talks at the one she is not rung at the other, where Dora is.
        meanwhile = talking(company, "dora", "+491713920052", pbx="branch")
        for call in (pair["branch"], passed_over, also, eves[1], meanwhile):
            call.hang_up()

        records = settled(company, 2 * attempt + 8)
        by_pbx = {record["pbx"]: record for record in records[2 * attempt : 2 * attempt + 2]}
        agree(by_pbx["main"], ended)
        agree(by_pbx["branch"], pair["branch"].wait())
        told = {record["from_raw"]: (record["pbx"], record["agent"], record["outcome"]) for record in records}
        assert told[CUSTOMER] == ("main", "cleo", "answered")
        assert told["+491713920051"] == ("main", None, "answered")
        assert told["+491713920052"] == ("branch", "dora", "answered")
        assert nobody.final == 200
        (trace,) = [record["decisions"][0]["trace"] for record in records if record["from_raw"] == CUSTOMER]
        assert "dora is the owner of the caller, but: has no phone at main" in str(trace[0])
        of_eve = [sites(record) for record in records if record["from_raw"] == "+491713920018"]
        assert of_eve == [
            {("branch", "PJSIP/trunk", "caller"), ("branch", "PJSIP/eve", "agent")},
            {("main", "PJSIP/trunk", "caller"), ("main", "PJSIP/eve", "agent")},
        ]
        for record in records:
            assert {channel["pbx"] for channel in record["channels"]} == {record["pbx"]}


def test_an_outage_of_one_does_not_reach_the_calls_and_agents_of_the_other(tmp_path):
    link = Link()
    amis: dict[str, Any] = {
        "main": {"ami": f"127.0.0.1:{link.port}", "username": "cti", "secret": {"env": "AMI_SECRET"}},
        "branch": {"ami": "", "username": "cti", "secret": {"env": "AMI_SECRET_BRANCH"}},
    }
    main = [AnAgent("anna"), AnAgent("cleo")]
    branch = [AnAgent("ben"), AnAgent("dora")]
    with two_sites(tmp_path, main, branch, settings={"asterisks": amis}) as company:
        link.target = company.pbx.ami_port
        amis["branch"]["ami"] = f"127.0.0.1:{company.pbxes['branch'].ami_port}"
        company.knows(
            *(
                a_customer(
                    id=agent, owner=f"user-{agent}", numbers=";".join(f"+4917139200{n}" for n in calls)
                )
                for agent, calls in {"anna": (31, 35, 37), "cleo": (33, 39)}.items()
            )
        )
        started(company)
        dora = company.daemon.events("agent", "dora")
        at_branch = talking(company, "ben", "+491713920030", pbx="branch")
        results = {}

        def undisturbed(number: str) -> None:
            """A call at the branch, with everything that belongs to one."""
            before = len(dora.of("card.offered"))
            call = talking(company, "dora", number, pbx="branch")
            results[number] = call.hang_up()
            eventually(lambda: state(company, "dora") == "ready", what="Dora free")
            assert results[number].answered - results[number].started < 2
            dora.wait_for("call.ended", lambda event: event.data["call"]["id"] == the_id(company, number))
            assert len(dora.of("card.offered")) == before + 1
            assert talks(company, "ben")

        # Frozen: what is done there waits, and nothing else.
        at_main = talking(company, "anna", "+491713920031")
        company.pbx.freeze()
        try:
            undisturbed("+491713920032")
        finally:
            company.pbx.thaw()
        results["+491713920031"] = at_main.hang_up()
        eventually(lambda: state(company, "anna") == "ready", what="Anna free")

        # Cut off.
        at_main = talking(company, "cleo", "+491713920033")
        link.cut()
        eventually(lambda: not up(company, "main"), what="the outage")
        assert up(company, "branch")
        undisturbed("+491713920034")
        calls = "/api/v1/calls"
        status, why = refused(company, f"{calls}/{the_id(company, '+491713920033')}/hold")
        assert (status, why) == (503, "the call is at the Asterisk main, to which there is no connection")
        status, why = refused(company, calls, agent="anna", to="015228817386")
        assert status == 503
        assert "PJSIP/anna is at the Asterisk main, to which there is no connection" in why
        for operation in ("hold", "retrieve"):
            company.daemon.request("POST", f"{calls}/{the_id(company, '+491713920030')}/{operation}", {})
        # Routing goes on, and only to whom main has.
        results["+491713920035"] = company.call(from_number="+491713920035", talk_ms=200).wait()
        results["+491713920036"] = company.call(from_number="+491713920036", talk_ms=200).wait()
        assert rung(company) == {"ben": 1, "dora": 2, "anna": 2, "cleo": 1, "reception": 1}
        results["+491713920033"] = at_main.hang_up()
        link.heal()
        eventually(lambda: up(company, "main"), 15, what="AMI of main again")
        eventually(lambda: state(company, "cleo") == state(company, "anna") == "ready", what="both free")

        # Dead.
        at_main = talking(company, "anna", "+491713920037")
        died = time.time()
        company.pbx.kill()
        eventually(lambda: not up(company, "main"), what="the outage")
        undisturbed("+491713920038")
        company.pbx.start()
        eventually(lambda: up(company, "main"), 15, what="AMI of main again")
        eventually(lambda: state(company, "anna") == "ready", what="Anna free")
        results["+491713920039"] = talking(company, "cleo", "+491713920039").hang_up()
        results["+491713920030"] = at_branch.hang_up()

        records = by_number(settled(company, 10))
        assert {number[-1]: record["agent"] for number, record in records.items()} == {
            "0": "ben", "1": "anna", "2": "dora", "3": "cleo", "4": "dora",
            "5": "anna", "6": None, "7": "anna", "8": "dora", "9": "cleo",
        }  # fmt: skip
        assert {record["outcome"] for record in records.values()} == {"answered"}
        for number, result in results.items():
            agree(records[number], result)
        assert abs(seconds(records["+491713920037"]["ended"]) - died) < 1.5


def both_ends(record: dict[str, Any]) -> set[str]:
    return {pbx for pbx, device, _ in sites(record) if device.startswith("PJSIP/peer-")}


def transfers(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["from"], one["to"]) for one in record["events"] if one["type"] == "call.transferred"]


def test_a_call_that_goes_from_one_asterisk_to_the_other_is_one_call(tmp_path):
    main = [AnAgent("anna", state="paused")]
    with two_sites(
        tmp_path,
        main,
        [AnAgent("ben", behaviour=Answers(after_ms=700))],
        service={"fallback": "hand-over,s,1"},
        trunk=Answers(after_ms=700),
    ) as company:
        company.knows(a_customer())
        started(company)
        ben = company.daemon.events("agent", "ben")

        # The fallback hands it over.
        handed_over = talking(company, "ben", CUSTOMER)
        assert company.phones["ben"].invites[0].from_name == "Katrin Öhlmann"
        assert ben.wait_for("card.offered").data["card"]["parties"][0]["name"] == "Katrin Öhlmann"
        results = [handed_over.hang_up()]
        eventually(lambda: state(company, "ben") == "ready", what="Ben free")

        # Anna passes it on at her phone, blindly, and after she has asked.
        company.daemon.request("PATCH", "/api/v1/agents/anna", {"state": "ready"})
        company.daemon.request("PATCH", "/api/v1/agents/ben", {"state": "paused", "reason": "no calls"})
        blind = talking(company, "anna", CUSTOMER)
        company.phones["anna"].transfer("21")
        eventually(lambda: talks(company, "ben"), what="Ben talking")
        eventually(lambda: state(company, "anna") == "ready", what="Anna free")
        results.append(blind.hang_up())
        eventually(lambda: not talks(company, "ben"), what="Ben free")

        by_us = talking(company, "anna", CUSTOMER)
        company.daemon.request("POST", f"/api/v1/calls/{open_call(company)}/transfer", {"to": "21"})
        eventually(lambda: talks(company, "ben"), what="Ben talking")
        results.append(by_us.hang_up())
        eventually(lambda: not talks(company, "ben"), what="Ben free")
        eventually(lambda: state(company, "anna") == "ready", what="Anna free")

        attended = talking(company, "anna", CUSTOMER)
        consulting = company.lab.dial(company.phones["anna"], company.pbx, "21")
        consulting.wait_for(200)
        eventually(lambda: talks(company, "ben"), what="Ben talking")
        company.phones["anna"].transfer_to(consulting)
        eventually(lambda: state(company, "anna") == "ready", what="Anna free")
        time.sleep(0.5)
        assert talks(company, "ben")
        results.append(attended.hang_up())
        eventually(lambda: not talks(company, "ben"), what="Ben free")

        # Ben calls a customer over main's trunk, and a colleague at main.
        out = company.lab.dial(company.phones["ben"], company.pbxes["branch"], CUSTOMER)
        out.wait_for(200)
        eventually(lambda: talks(company, "ben"), what="Ben talking")
        results.append(out.hang_up())
        inside = company.lab.dial(company.phones["ben"], company.pbxes["branch"], "11")
        inside.wait_for(200)
        eventually(lambda: talks(company, "anna"), what="Anna talking")
        results.append(inside.hang_up())

        # Who comes from the provider is not believed which call it is.
        genuine = talking(company, "anna", "+491713920041")
        forged = {"X-Cordboard-Call": the_id(company, "+491713920041")}
        company.call(from_number="+491713920042", pbx="branch", headers=forged, talk_ms=100).wait()
        genuine.hang_up()

        *found, real, false = settled(company, 9)
        over, blindly, stepped, asked, consultation, outward, inward = found
        records = [over, blindly, stepped, asked, outward, inward]
        for record, result in zip(records, results, strict=True):
            agree(record, result)
            assert (record["outcome"], both_ends(record)) == ("answered", {"main", "branch"})
        assert [(one["from"], one["direction"], one["parent"]) for one in records[:4]] == [
            (CUSTOMER_E164, "inbound", None)
        ] * 4
        assert [one["agent"] for one in records[:4]] == ["ben"] * 4

        assert segments(over) == [(["ben"], "ben", "rest", "answered")]
        assert [(one["service"], one["action"]) for one in over["decisions"]] == [
            ("sales", "fallback"),
            ("sales", "dial"),
        ]
        assert sites(over) == {
            ("main", "PJSIP/trunk", "caller"),
            ("main", "PJSIP/peer-branch", "peer"),
            ("branch", "PJSIP/peer-main", "caller"),
            ("branch", "PJSIP/ben", "agent"),
        }
        for record, to in ((blindly, "21"), (stepped, "21"), (asked, "ben")):
            assert segments(record) == [
                (["anna"], "anna", "owner", "answered"),
                (["ben"], "ben", "transferred by anna", "answered"),
            ]
            assert transfers(record) == [("anna", to)]
            assert sites(record) == sites(over) | {("main", "PJSIP/anna", "agent")}
        assert (consultation["parent"], consultation["agent"]) == (asked["id"], "anna")
        assert consultation["outcome"] == "answered"
        assert sites(consultation) == {("main", "PJSIP/anna", "caller")}

        assert (outward["direction"], outward["agent"], outward["pbx"]) == ("outbound", "ben", "branch")
        assert outward["to"] == CUSTOMER_E164
        assert sites(outward) == {
            ("branch", "PJSIP/ben", "caller"),
            ("branch", "PJSIP/peer-main", "peer"),
            ("main", "PJSIP/peer-branch", "caller"),
            ("main", "PJSIP/trunk", "other"),
        }
        assert (inward["direction"], inward["agent"]) == ("internal", "ben")
        assert segments(inward) == [(["anna"], "anna", "called by ben", "answered")]
        assert real["id"] != false["id"]
        assert ({one[0] for one in sites(real)}, {one[0] for one in sites(false)}) == ({"main"}, {"branch"})
