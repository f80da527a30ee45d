"""`cti check --live` against a real Asterisk: well, and with each thing that it needs taken away."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from attrs import evolve, frozen

from lab.company import AnAgent, Company
from lab.daemon import ROOT
from tests.certificates import Authority


class Checked:
    """What one `cti check --live` said."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        assert done.returncode in (0, 1), done.stderr
        self.code = done.returncode
        self.document: dict[str, Any] = json.loads(done.stdout)

    @property
    def wrong(self) -> list[str]:
        return self._of("wrong")

    @property
    def advice(self) -> list[str]:
        return self._of("advice")

    @property
    def unseen(self) -> list[str]:
        return self._of("unseen")

    def _of(self, kind: str) -> list[str]:
        found = self.document["live"]["findings"]
        return [f"{each['path']}: {each['where']}: {each['text']}" for each in found if each["kind"] == kind]


def check(
    company: Company,
    *words: str,
    environment: Mapping[str, str] | None = None,
    main: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Checked:
    """Run it with `settings` in place of the company's, and `main` in those of its Asterisk."""
    usual = company.daemon.settings
    asterisks = {"main": {**usual["asterisks"]["main"], **(main or {})}}
    company.daemon.settings = {**usual, "asterisks": asterisks, **settings}
    try:
        company.daemon.write_configuration()
    finally:
        company.daemon.settings = usual
    done = subprocess.run(
        [sys.executable, "-m", "cti", "check", "--live", "--format", "json", *words],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CTI_CONFIG": str(company.daemon.configuration),
            "AMI_SECRET": company.pbx.ami_secret,
            **(environment or {}),
        },
        timeout=60,
        check=False,
    )
    return Checked(done)


@contextmanager
def manager_conf(company: Company, change: Callable[[str], str]) -> Iterator[None]:
    """With another manager.conf; the old one afterwards."""
    usual = company.pbx.configuration
    assert usual.manager is not None
    changed = change(usual.manager)
    assert changed != usual.manager
    try:
        company.pbx.configuration = evolve(usual, manager=changed)
        company.pbx.reload("manager")
        yield
    finally:
        company.pbx.configuration = usual
        company.pbx.reload("manager")


@contextmanager
def without_module(company: Company, name: str) -> Iterator[None]:
    company.pbx.cli(f"module unload {name}.so")
    try:
        yield
    finally:
        company.pbx.cli(f"module load {name}.so")


@contextmanager
def global_variable(company: Company, name: str, value: str) -> Iterator[None]:
    """With this in [globals]; afterwards what stands in the file, or nothing."""
    company.pbx.cli(f'dialplan set global {name} "{value}"')
    try:
        yield
    finally:
        company.pbx.cli(f'dialplan set global {name} ""')
        company.pbx.cli("dialplan reload")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """One company for all; each test puts back what it took away."""
    with Company(tmp_path_factory.mktemp("live"), agents=[AnAgent("anna")]) as company:
        company.daemon.write_configuration()
        yield company


@frozen
class TlsPort:
    address: str
    authority: Authority


@pytest.fixture(scope="module")
def tls(company: Company) -> TlsPort:
    """The company's Asterisk, listening for TLS as well; its authority is in ca.pem."""
    port, authority, pem = company.lab.free_port(), Authority(), "/mnt/etc/ami.pem"
    usual = company.pbx.configuration
    switches = (
        f"tlsenable = yes\ntlsbindaddr = 127.0.0.1:{port}\ntlscertfile = {pem}\ntlsprivatekey = {pem}\n"
    )
    company.pbx.configuration = evolve(
        usual,
        manager=(usual.manager or "").replace("enabled = yes\n", f"enabled = yes\n{switches}", 1),
        extra={"ami.pem": authority.issue("pbx.example", "127.0.0.1")},
    )
    company.pbx.reload("manager")
    (company.daemon.directory / "ca.pem").write_text(authority.pem)
    (company.daemon.directory / "other.pem").write_text(Authority("another").pem)
    return TlsPort(f"127.0.0.1:{port}", authority)


def test_an_asterisk_that_has_everything_is_well(company: Company) -> None:
    checked = check(company)

    assert checked.wrong == []
    assert checked.code == 0
    assert checked.document["live"]["ok"]
    version = checked.document["live"]["asterisks"]["main"]["version"]
    assert version in company.pbx.cli("core show version")
    assert any("CTI_SERVER" in each for each in checked.unseen)


def test_people_are_told_in_lines_with_places(company: Company) -> None:
    company.daemon.write_configuration()
    shown = company.daemon.run("check", "--live")
    assert shown.splitlines()[-1] == "live: OK"
    assert shown.splitlines()[-2].startswith("main: Asterisk ")


@pytest.mark.parametrize("module", ["func_dialplan", "res_manager_devicestate"])
def test_a_module_that_is_missing_is_named_with_what_needs_it(company: Company, module: str) -> None:
    with without_module(company, module):
        checked = check(company)

    (found,) = checked.wrong
    assert found.startswith(f"asterisks.main: modules.conf: {module} is not loaded, and ")
    assert f"`load = {module}.so`" in found
    assert checked.code == 1


def test_a_right_to_write_that_is_missing_is_named_and_what_it_hides_is_not_guessed(company: Company) -> None:
    with manager_conf(company, lambda text: without(text, "write", "system")):
        checked = check(company)

    (found,) = checked.wrong
    assert "[cti] may not do DBDel, DBPut" in found
    assert "`write = " in found
    assert any("modules.conf: whether these are loaded" in each for each in checked.unseen)
    assert not any("anna" in each for each in checked.unseen)


def test_what_manager_conf_lacks_is_named_with_the_line_that_would_be_right(company: Company) -> None:
    def spoilt(text: str) -> str:
        text = text.replace("timestampevents = yes", "timestampevents = no")
        text = text.replace("channelvars = CTI_CALL_ID", "channelvars = THEIRS")
        return without(text, "read", "call").replace("|Hangup", "")

    with manager_conf(company, spoilt):
        checked = check(company)

    read, times, variables, events = checked.wrong
    assert "[cti] `read` lacks call: `read = " in read
    assert "`timestampevents = yes`" in times
    assert "`channelvars = THEIRS,CTI_CALL_ID`" in variables
    assert "holds back Hangup; `eventfilter = Event: (FullyBooted|" in events


def test_a_user_who_is_not_told_of_the_boot_lacks_a_right(company: Company) -> None:
    with manager_conf(company, lambda text: without(text, "read", "system")):
        (found,) = check(company).wrong
    assert "lacks a right; `read = " in found


def test_a_dialplan_that_is_not_loaded_is_named(company: Company) -> None:
    contexts = [
        line[1:-1] for line in (ROOT / "dialplan/cti.conf").read_text().splitlines() if line[:1] == "["
    ]
    company.pbx.cli("dialplan remove context cti-route")
    try:
        some = check(company).wrong
        for context in contexts:
            company.pbx.cli(f"dialplan remove context {context}")
        none = check(company).wrong
    finally:
        company.pbx.cli("dialplan reload")
    assert ["it lacks cti-route" in each for each in some] == [True]
    assert ["dialplan/cti.conf is not loaded" in each for each in none] == [True]


def test_another_state_of_the_dialplan_is_named(company: Company) -> None:
    company.pbx.cli("dialplan remove context cti-version")
    company.pbx.cli("dialplan add extension 1,1,NoOp into cti-version")
    try:
        (found,) = check(company).wrong
    finally:
        company.pbx.cli("dialplan reload")
    assert "another dialplan/cti.conf is loaded" in found
    assert "state 1" in found


def test_a_fallback_that_does_not_exist_is_named_at_its_place_in_the_file(company: Company) -> None:
    sales = {**company.daemon.settings["services"]["sales"], "fallback": "old-context,s,tomorrow"}
    checked = check(company, services={"sales": sales})
    (found,) = checked.wrong
    assert found.startswith("services.sales.fallback: extensions.conf: old-context,s,tomorrow does not exist")
    (place,) = [each for each in checked.document["live"]["findings"] if each["kind"] == "wrong"]
    line = company.daemon.configuration.read_text().splitlines()[place["line"] - 1]
    assert line[place["column"] - 1 :] == "old-context,s,tomorrow"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CTI_FALLBACK", "nowhere,s,1", "CTI_FALLBACK = nowhere,s,1 does not exist"),
        ("CTI_FALLBACK", "", "CTI_FALLBACK is not set"),
        ("CTI_PBX", "branch", "`CTI_PBX = main` would be right"),
        ("CTI_OUTBOUND", "nowhere", "CTI_OUTBOUND = nowhere does not exist"),
    ],
)
def test_a_global_that_is_wrong_is_named(company: Company, name: str, value: str, said: str) -> None:
    with global_variable(company, name, value):
        (found,) = check(company).wrong
    assert said in found


def test_calls_that_cannot_go_out_by_us_are_advice(company: Company) -> None:
    (advice,) = check(company).advice
    assert "CTI_OUTBOUND is not set" in advice
    with global_variable(company, "CTI_OUTBOUND", "old-context"):
        checked = check(company)
    assert (checked.advice, checked.wrong) == ([], [])


def test_a_phone_that_asterisk_does_not_know_is_named(company: Company) -> None:
    agents = {
        "anna": {"phones": ["PJSIP/anna"], "groups": ["sales"]},
        "ben": {"phones": ["PJSIP/benn", "SIP/old"], "groups": ["sales"]},
    }
    checked = check(company, agents=agents)
    (found,) = checked.wrong
    assert found.startswith("agents.ben.phones: pjsip.conf: main has no endpoint benn")
    assert any("whether SIP/old is a phone" in each for each in checked.unseen)


def test_fallbacks_in_astdb_that_are_not_the_configuration_s_are_counted(company: Company) -> None:
    company.pbx.cli("database put cti/fallback 494066969100 elsewhere,s,1")
    try:
        (found,) = check(company).wrong
    finally:
        company.pbx.cli("database deltree cti/fallback")
    assert "forms of the numbers have another fallback" in found


def test_a_wrong_password_is_named(company: Company) -> None:
    (found,) = check(company, environment={"AMI_SECRET": "wrong"}).wrong
    assert found.startswith("asterisks.main.secret: manager.conf: ")
    assert "refuses the log-in" in found


def test_a_user_who_may_log_in_only_once_and_is_in_already_is_named(company: Company) -> None:
    def with_several(word: str) -> Callable[[str], str]:
        return lambda text: text.replace("[cti]\n", f"[cti]\nallowmultiplelogin = {word}\n", 1)

    login = f"Action: Login\r\nUsername: cti\r\nSecret: {company.pbx.ami_secret}\r\n\r\n"
    with (
        manager_conf(company, with_several("no")),
        socket.create_connection((company.pbx.host, company.pbx.ami_port), 5) as other,
    ):
        other.sendall(login.encode())
        said = b""
        while b"Authentication accepted" not in said:
            said += other.recv(4096)
        (found,) = check(company).wrong
    assert "`allowmultiplelogin = yes` would be right" in found
    with manager_conf(company, with_several("yes")):
        # Asterisk 16 does not forget it when the line is gone.
        assert check(company).wrong == []


def test_an_asterisk_that_cannot_be_reached_is_named(company: Company) -> None:
    checked = check(company, main={"ami": f"127.0.0.1:{company.lab.free_port()}"})
    (found,) = checked.wrong
    assert "cannot be reached" in found
    assert "refused" in found
    assert checked.document["live"]["asterisks"]["main"]["version"] is None


def test_one_of_several_may_be_looked_at_alone(company: Company) -> None:
    branch = {"ami": f"127.0.0.1:{company.lab.free_port()}", "username": "cti", "secret": "x"}
    asterisks = {**company.daemon.settings["asterisks"], "branch": branch}
    assert list(check(company, "--pbx", "main", asterisks=asterisks).document["live"]["asterisks"]) == [
        "main"
    ]
    both = check(company, asterisks=asterisks)
    assert [each.partition(":")[0] for each in both.wrong] == ["asterisks.branch.ami"]


def test_an_asterisk_made_of_what_asterisk_conf_prints_is_well(company: Company) -> None:
    anna = company.lab.phone("anna-at-the-new-one")
    agents = {"anna": {"phones": [f"PJSIP/{anna.name}"], "groups": ["sales"]}}
    usual = company.daemon.settings
    company.daemon.settings = {**usual, "agents": agents}
    try:
        company.daemon.write_configuration()
        part = {
            name: company.daemon.run("asterisk-conf", "--with-secret", "--part", name)
            for name in ("manager", "extensions")
        }
    finally:
        company.daemon.settings = usual
    fresh = company.lab.asterisk(
        "fresh",
        manager=part["manager"],
        extensions=part["extensions"] + "\n[old-context]\nexten => s,1,Hangup()\n",
        extra={"cti.conf": (ROOT / "dialplan/cti.conf").read_text(encoding="utf-8")},
        phones=[anna],
    )
    ami = {"ami": f"127.0.0.1:{fresh.ami_port}"}
    try:
        checked = check(company, main=ami, agents=agents, environment={"AMI_SECRET": fresh.ami_secret})
    finally:
        fresh.stop()
    assert checked.wrong == []


# TLS


def test_over_tls_the_same_is_seen(company: Company, tls: TlsPort) -> None:
    for trust, login in (({"ca": "ca.pem"}, "md5"), ({"ca": "ca.pem", "name": "pbx.example"}, "plain")):
        checked = check(company, main={"ami": tls.address, "tls": trust, "login": login})
        assert (checked.wrong, checked.code) == ([], 0)


@pytest.mark.parametrize(
    ("trust", "said"),
    [
        (True, "signed by"),
        ({"ca": "other.pem"}, "is signed by an authority that is not trusted here: `tls: {ca: FILE}`"),
        ({"ca": "ca.pem", "name": "other.example"}, "is for pbx.example, 127.0.0.1, not for other.example"),
    ],
)
def test_a_certificate_that_proves_nothing_is_refused_with_the_reason(
    company: Company, tls: TlsPort, trust: Any, said: str
) -> None:
    (found,) = check(company, main={"ami": tls.address, "tls": trust}).wrong
    assert found.startswith("asterisks.main.tls: manager.conf: ")
    assert "TLS: Asterisk's certificate " in found
    assert said in found


def test_a_certificate_that_has_expired_is_refused_with_the_reason(company: Company, tls: TlsPort) -> None:
    usual = company.pbx.configuration
    expired = tls.authority.issue("127.0.0.1", from_days=-9, to_days=-2)
    company.pbx.configuration = evolve(usual, extra={"ami.pem": expired})
    company.pbx.reload("manager")
    try:
        (found,) = check(company, main={"ami": tls.address, "tls": {"ca": "ca.pem"}}).wrong
    finally:
        company.pbx.configuration = usual
        company.pbx.reload("manager")
    assert "has expired" in found


def test_a_port_without_tls_and_tls_on_a_port_without_are_told_apart(company: Company, tls: TlsPort) -> None:
    plain_port = company.daemon.settings["asterisks"]["main"]["ami"]
    (found,) = check(company, main={"ami": plain_port, "tls": {"ca": "ca.pem"}}).wrong
    assert "what answers speaks none" in found
    (found,) = check(company, main={"ami": tls.address}).wrong
    assert "a port of `tlsbindaddr` says nothing without `tls`" in found


def test_the_server_works_over_tls(company: Company, tls: TlsPort) -> None:
    usual = company.daemon.settings
    main = {**usual["asterisks"]["main"], "ami": tls.address, "tls": {"ca": "ca.pem"}}
    company.daemon.settings = {**usual, "asterisks": {"main": main}}
    try:
        company.start()
        company.call(talk_ms=300).wait()
        assert company.daemon.the_call()["outcome"] == "answered"
        assert check(company, main=main).wrong == []
        (up,) = [line for line in company.daemon.log() if line["event"] == "AMI is up"]
        assert up["asterisk"] in company.pbx.cli("core show version")
    finally:
        company.daemon.stop()
        company.daemon.settings = usual


def without(text: str, setting: str, right: str) -> str:
    """manager.conf with one right less for the user."""
    lines = []
    for line in text.splitlines():
        name, _, rights = line.partition(" = ")
        if name == setting:
            kept = [each for each in rights.split(",") if each.strip() != right]
            assert kept != rights.split(",")
            line = f"{name} = {','.join(kept)}"
        lines.append(line)
    return "\n".join(lines) + "\n"
