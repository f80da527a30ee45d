"""Callers who type who they are: routed by it, whatever their number, and what they typed stands nowhere."""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lab.company import AnAgent, Company
from lab.daemon import ROOT
from lab.laboratory import Call, eventually
from lab.ports import LOOPBACK
from tests.faults import kinds

#: Nobody's, by its number.
STRANGER = "01713920042"
#: Whoever dials these is asked for a key first: a customer number of four digits, and a card's of sixteen.
ASKED, ASKED_FOR_CARD, ASKED_BY_ARGUMENT = "494066969199", "494066969198", "494066969197"
CARD = "4929123412341234"
IVR = """
[from-trunk]
exten => 494066969199,1,Gosub(cti-identify,customer,1(4))
 same => n,Verbose(0,identified ${CTI_IDENTIFIED} as ${CTI_PARTY_NAME} ${CTI_PARTY_ID})
 same => n,Goto(cti-inbound,494066969100,1)
exten => 494066969196,1,Goto(ask-for-customer,s,1)
exten => 494066969198,1,Gosub(cti-identify,card,1(16))
 same => n,Verbose(0,identified ${CTI_IDENTIFIED} as ${CTI_PARTY_NAME} ${CTI_PARTY_ID})
 same => n,Goto(cti-inbound,494066969100,1)
exten => 494066969197,1,AGI(agi://${CTI_SERVER}/identify,v=1,pbx=main,key=customer,value=4711)
 same => n,Verbose(0,identified ${CTI_IDENTIFIED} as ${CTI_PARTY_NAME} ${CTI_PARTY_ID})
 same => n,AGI(agi://${CTI_SERVER}/identify,v=1,pbx=main,key=card,value=0000111122223333)
 same => n,Verbose(0,then identified ${CTI_IDENTIFIED})
 same => n,Goto(cti-inbound,494066969100,1)
"""
#: The one in docs/dialplan.md, which asks once more, for up to eight digits.
EXAMPLE = "494066969196"
_EXAMPLE = re.search(
    r"```ini\n(\[ask-for-customer\].*?)```", (ROOT / "docs" / "dialplan.md").read_text("utf-8"), re.DOTALL
)
assert _EXAMPLE is not None
#: Everything that another program might read but single keys, which are of a class of their own.
CLASSES = "system,call,log,verbose,command,agent,user,config,dialplan,originate,agi,cdr,cc,security,reporting"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    directory = tmp_path_factory.mktemp("keys")
    agents = [AnAgent("anna", user="u1", groups=("owners",)), AnAgent("ben", user="u2", groups=("sales",))]
    with Company(
        directory,
        agents=agents,
        settings={"adapters": {"directory": {"kind": "crm"}}, "log": {"level": "debug"}},
        environment=kinds.install(directory / "kinds"),
        more_extensions=IVR + _EXAMPLE[1].replace(",custom/your-number", ""),
    ) as company:
        company.start()
        yield company


@pytest.fixture(autouse=True)
def _quiet(company: Company) -> Iterator[None]:
    eventually(lambda: all(each["state"] == "ready" for each in company.daemon.agents().values()), 15)
    yield
    if company.daemon.is_running:
        company.pbx.cli("channel request hangup all")


def types(company: Company, did: str, keys: str) -> Call:
    """Somebody calls this number, is answered, and types."""
    call = company.call(did=did, from_number=STRANGER)
    call.wait_for(200)
    call.leg.press(keys)
    return call


def identified(company: Company) -> list[str]:
    """What the dialplan was told, call by call."""
    said = (line for line in company.pbx.full_log().splitlines() if "Executing" not in line)
    return [found[0].strip() for line in said if (found := re.search(r"identified \d.*", line))]


def over(company: Company, call: Call) -> dict[str, Any]:
    """The caller hangs up; the call in full."""
    call.hang_up()
    eventually(lambda: company.daemon.calls()[0]["ended"], 10)
    return company.daemon.call(company.daemon.calls()[0]["id"])


def test_a_customer_number_that_is_typed_leads_to_the_owner(company: Company) -> None:
    before = len(company.daemon.calls())
    call = types(company, ASKED, "4711")
    eventually(lambda: company.phones["anna"].invites, 10, what="the owner's phone rings")
    eventually(lambda: len(company.daemon.calls()) > before and company.daemon.calls()[0]["answered"], 10)
    record = over(company, call)
    assert (record["agent"], record["rule"]) == ("anna", "owner")
    assert (record["party"]["id"], record["from"]) == ("1001", "+491713920042")
    assert identified(company)[-1] == "identified 1 as Katja Brandt directory:1001"
    assert company.phones["anna"].invites[-1].header("From").startswith('"Katja Brandt"')
    # Late, all that the CRM knows; the card has it before the call is over.
    assert [each["title"] for each in record["card"]["body"]["parties"][0]["tasks"]] == ["Send the offer"]


def test_a_key_of_nobodys_and_a_caller_who_types_nothing_go_the_way_of_their_number(company: Company) -> None:
    rung = len(company.phones["ben"].invites)
    call = types(company, ASKED, "9999")
    eventually(lambda: len(company.phones["ben"].invites) > rung, 10)
    call.hang_up()
    assert identified(company)[-1] == "identified 0 as"
    eventually(lambda: all(each["state"] == "ready" for each in company.daemon.agents().values()), 15)
    silent = types(company, ASKED, "#")
    eventually(lambda: len(company.phones["ben"].invites) > rung + 1, 15)
    silent.hang_up()


def test_the_documented_example_asks_once_more(company: Company) -> None:
    rung = len(company.phones["anna"].invites)
    call = types(company, EXAMPLE, "99#")
    call.leg.press("4711#")
    eventually(lambda: len(company.phones["anna"].invites) > rung, 15, what="the owner's phone rings")
    call.hang_up()


def test_a_key_as_an_argument_identifies_and_a_sensitive_one_is_refused(company: Company) -> None:
    rung = len(company.phones["anna"].invites)
    call = company.call(did=ASKED_BY_ARGUMENT, from_number=STRANGER)
    eventually(lambda: len(company.phones["anna"].invites) > rung, 10)
    call.hang_up()
    assert identified(company)[-2:] == ["identified 1 as Katja Brandt directory:1001", "identified 0"]
    assert any("leave out value=" in line["event"] for line in company.daemon.log())


class Listener:
    """Another program on AMI, that reads every class of events but that of single keys."""

    def __init__(self, company: Company) -> None:
        pbx = company.pbx
        with (pbx.directory / "etc" / "manager.conf").open("a", encoding="utf-8") as file:
            file.write(f"\n[listener]\nsecret = overheard\nread = {CLASSES}\nwrite = system\n")
        pbx.cli("manager reload")
        self._socket = socket.create_connection((LOOPBACK, pbx.ami_port), timeout=10)
        self._socket.sendall(b"Action: Login\r\nUsername: listener\r\nSecret: overheard\r\n\r\n")
        self.heard = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        self._socket.settimeout(None)
        while data := self._socket.recv(65536):
            self.heard += data

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def test_a_sensitive_key_stands_in_no_log_no_event_and_no_file(company: Company) -> None:
    pbx, rung = company.pbx, len(company.phones["ben"].invites)
    pbx.cli("logger add channel everything notice,warning,error,verbose,debug")
    pbx.cli("core set verbose 10")
    pbx.cli("core set debug 10")
    listener = Listener(company)
    try:
        eventually(lambda: b"Authentication accepted" in listener.heard, 10)
        call = types(company, ASKED_FOR_CARD, CARD)
        eventually(lambda: len(company.phones["ben"].invites) > rung, 15, what="the owner's phone rings")
        eventually(lambda: company.daemon.calls()[0]["answered"], 10)
        record = over(company, call)
        assert record["party"]["id"] == "1002", "it was the card number that was typed"
        found = company.daemon.request(
            "POST", "/api/v1/identify", {"key": "card", "value": CARD}, company.daemon.token("crm")
        )
        assert found["parties"][0]["id"] == "1002"
        audit = company.daemon.get("/api/v1/audit", company.daemon.token("admin"))
        assert any(each["action"] == "POST /api/v1/identify" for each in audit["audit"])
        eventually(lambda: listener.heard.count(b"Event: Hangup") >= 2, 10)
    finally:
        listener.close()
        pbx.cli("core set debug 0")
        pbx.cli("logger remove channel everything")
    everything = (pbx.directory / "log" / "everything").read_bytes()
    assert b"/identify" in everything
    assert b"Executing" in everything
    assert b"Event: AGIExecStart" in listener.heard
    assert CARD.encode() not in listener.heard
    written = [*pbx.directory.rglob("*"), *company.daemon.directory.rglob("*")]
    telling = [file for file in written if file.is_file() and CARD.encode() in file.read_bytes()]
    assert telling == []
    # Key by key, Asterisk's own RTP says them once somebody has set debug on, and its log's level `dtmf`, which is
    # not on here; nothing that the dialplan or the server has a say in does.
    key = re.compile(r"(?i)\bdtmf\b.*\D\d\D|digit.*'\d'")
    telling_one = [line for line in everything.decode("utf-8", "replace").splitlines() if key.search(line)]
    assert {line for line in telling_one if "res_rtp_asterisk.c" not in line or "DEBUG" not in line} == set()


def test_without_the_server_nobody_is_asked_and_the_call_goes_on(company: Company) -> None:
    rung = len(company.phones["reception"].invites)
    company.daemon.stop()
    try:
        call = company.call(did=ASKED, from_number=STRANGER)
        eventually(lambda: len(company.phones["reception"].invites) > rung, 5, what="the fallback rings")
        call.hang_up()
        assert identified(company)[-1] == "identified 0 as"
    finally:
        company.daemon.start()


def test_a_frozen_server_costs_three_seconds_and_not_the_call(company: Company) -> None:
    rung = len(company.phones["reception"].invites)
    company.daemon.signal(signal.SIGSTOP)
    try:
        call = company.call(did=ASKED, from_number=STRANGER)
        eventually(lambda: len(company.phones["reception"].invites) > rung, 20, what="the fallback rings")
        call.hang_up()
        assert identified(company)[-1] == "identified 0 as"
        assert "was not identified in time" in company.pbx.full_log()
    finally:
        company.daemon.signal(signal.SIGCONT)
