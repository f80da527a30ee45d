"""What an administrator may put around cti.conf, on a real Asterisk: lines without a number, peers, hooks."""

import uuid

from lab.company import DIALLED, DID, AnAgent, Company
from lab.laboratory import Answers, Call, eventually
from tests.asterisk.test_inbound import CUSTOMER, a_customer
from tests.faults.evidence import rung

EXTENSIONS = """
[globals]
CTI_OUTBOUND = way-out

[from-trunk]
exten => 71,1,Goto(cti-inbound,s,1)
exten => 72,1,Set(CTI_DID_FROM=diversion)
 same => n,Goto(cti-inbound,s,1)
exten => 73,1,Set(CTI_DID_FROM=diversion)
 same => n,Set(CTI_DID=494066969100)
 same => n,Goto(cti-inbound,s,1)
exten => _4940669691XX,1,Set(CTI_DID_FROM=to)
 same => n,Goto(cti-inbound,s,1)
exten => _8X!,1,Goto(cti-inbound-trusted,${EXTEN:1},1)

[from-phones]
exten => _X!,1,Goto(cti-outbound,${EXTEN},1)

[way-out]
exten => _X!,1,Dial(PJSIP/${EXTEN}@trunk,20)

[to-peer]
exten => s,1,Dial(PJSIP/494066969100@trunk,20,b(cti-peer^s^1))
"""
HOOKS = """
[cti-hook-before-route]
exten => s,1,Set(CALLERID(num)=+4915228895456)
 same => n,Return()
[cti-hook-before-dial]
exten => s,1,Set(CALLERID(name)=the hook says ${CALLERID(name)})
 same => n,Return()
[cti-hook-on-phone]
exten => s,1,Set(PJSIP_HEADER(add,Alert-Info)=<http://127.0.0.1>\\;info=ring3)
 same => n,Return()
[cti-hook-before-outbound]
exten => s,1,Set(CALLERID(num)=+493023125100)
 same => n,Return()
"""
DIVERSION = '"Sales: <one>" <sip:+494066969100@trunk.example;user=phone>;reason=unconditional'


def test_the_dialled_number_of_a_line_that_calls_s_is_found_in_to_or_diversion(tmp_path):
    with Company(tmp_path, [AnAgent("anna")], more_extensions=EXTENSIONS) as company:
        company.start()

        def dialled(did: str, **how: object) -> str | None:
            before = len(company.daemon.calls())
            company.call(did=did, from_number=CUSTOMER, talk_ms=100, **how).wait()
            eventually(lambda: len([c for c in company.daemon.calls() if c["ended"]]) > before)
            eventually(lambda: company.daemon.agents()["anna"]["state"] == "ready")
            number: str | None = company.daemon.calls()[0]["to"]
            return number

        assert dialled(DID) == DIALLED, "in To"
        assert dialled("72", headers={"Diversion": DIVERSION}) == DIALLED
        # What the administrator says counts for more than any header.
        assert dialled("73", headers={"Diversion": DIVERSION.replace("4066969100", "4066969199")}) == DIALLED
        assert rung(company) == {"anna": 3}
        # Without the setting, or the header, nobody knows: the global fallback.
        assert dialled("71", headers={"Diversion": DIVERSION}) is None
        assert dialled("72") is None
        assert rung(company) == {"anna": 3, "reception": 2}


def test_a_call_that_a_peer_passes_on_is_the_same_call_and_a_stranger_can_claim_none(tmp_path):
    rules = [{"name": "first", "when": {"attempt": 1}, "goto": "to-peer,s,1"}]
    with Company(
        tmp_path,
        [AnAgent("anna")],
        trunk=Answers(after_ms=100),
        service={"rules": rules},
        more_extensions=EXTENSIONS,
    ) as company:
        company.start()
        passed = company.call(from_number=CUSTOMER)
        passed.wait_for(200)
        (invite,) = company.phones["outside"].invites
        id = company.daemon.the_call(ended=False)["id"]
        assert invite.header("X-Cordboard-Call") == id

        def claims(did: str, claimed: str) -> Call:
            return company.call(did=did, from_number=CUSTOMER, headers={"X-Cordboard-Call": claimed})

        at_peer = claims(f"8{DID}", id)
        at_peer.wait_for(200)
        assert [call["id"] for call in company.daemon.calls()] == [id]
        stranger = claims(DID, id)
        stranger.wait_for(200)
        assert len(company.daemon.calls()) == 2
        # What is no id, and one that nobody has, are a peer's mistakes.
        nonsense = [claims(f"8{DID}", claimed) for claimed in ("${UNIQUEID},attempt=9", str(uuid.uuid4()))]
        for call in nonsense:
            call.wait_for(200)
        eventually(lambda: len(company.daemon.calls()) == 4, what="calls of their own")
        for call in (passed, at_peer, stranger, *nonsense):
            call.hang_up()


def test_hooks_are_called_where_they_exist(tmp_path):
    with Company(tmp_path, [AnAgent("anna")], trunk=Answers(), more_extensions=EXTENSIONS + HOOKS) as company:
        company.knows(a_customer(numbers="+4915228895456"))
        company.start()

        company.call(from_number="anybody", talk_ms=100).wait()
        (invite,) = company.phones["anna"].invites
        assert invite.from_name == "the hook says Katrin Öhlmann"
        assert invite.header("Alert-Info") == "<http://127.0.0.1>;info=ring3"
        company.lab.dial(company.phones["anna"], company.pbx, CUSTOMER, talk_ms=100).wait()
        (invite,) = company.phones["outside"].invites
        assert (invite.from_number, invite.header("Alert-Info")) == ("+493023125100", None)


def test_several_servers_are_asked_for_by_hagi(tmp_path):
    with Company(tmp_path, [AnAgent("anna")]) as company:
        company.pbx.cli(f"dialplan set global CTI_SERVER hagi://127.0.0.1:{company.daemon.agi_port}")
        company.start()

        assert company.call(talk_ms=100).wait().final == 200
        assert rung(company) == {"anna": 1}
        assert company.pbx.log(r"AGI\(.*hagi://127.0.0.1")


ACROSS = """
[from-peers]
exten => 494066969100,1,Goto(cti-inbound-trusted,${EXTEN},1)
[to-branch]
exten => s,1,Dial(PJSIP/494066969100@peer-branch,20,b(cti-peer^s^1))
"""


def test_a_call_that_goes_to_another_asterisk_of_the_company_has_one_record(tmp_path):
    rules = [
        {"name": "to the branch", "when": {"attempt": 1}, "goto": "to-branch,s,1"},
        {"name": "at the branch", "dial": {"agent": "ben"}},
    ]
    with Company(
        tmp_path,
        [AnAgent("anna")],
        branches={"branch": [AnAgent("ben")]},
        service={"rules": rules},
        more_extensions=ACROSS,
    ) as company:
        company.knows(a_customer())
        company.start()
        eventually(lambda: company.daemon.metric("cti_ami_up", pbx="branch") == 1, what="AMI of the branch")

        call = company.call(from_number=CUSTOMER)
        call.wait_for(200)
        assert company.phones["ben"].invites[0].from_name == "Katrin Öhlmann"
        call.hang_up()
        record = company.daemon.the_call()
        assert (record["agent"], record["outcome"], rung(company)) == ("ben", "answered", {"ben": 1})
        assert {channel["pbx"] for channel in record["channels"]} == {"main", "branch"}
