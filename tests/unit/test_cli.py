"""The command line: each command in this process on a real store, the server as a process of its own."""

import csv
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import evolve

from cti import __version__
from cti.asterisk.needs import read_categories
from cti.calls.present import call_detail_json, iso
from cti.cli import main
from cti.commands.shipped import MANAGER, text_of
from cti.store.opening import open_for_command
from cti.store.records import AgentRecord, CallRecord, DecisionRecord, ReservationRecord, TokenRecord
from cti.store.schema import migrations
from cti.store.threaded import CommandStore
from cti.web.tokens import digest_of
from lab.crm.postgresql import Postgres
from lab.ports import a_port
from tests.faults.kinds import install
from tests.unit.own import install as install_own

SAMPLE = Path(__file__).parents[2] / "config" / "small.yaml"
MOBILE = "+4915228817386"
OTHER = "+4915228895456"
SALES = "+494066969100"
NEWEST = migrations()[-1][0]
NOON = 1772362800.0  # 2026-03-01T11:00:00Z, noon in Berlin

CONTACTS = """\
id,type,name,company,numbers,owner,tier
17,contact,Žana Kovač,Kovač GmbH,0152 28817386,u1,gold
18,lead,Ёлка Иванова,,+49 152 28895456;030 23125 018,u9,
"""


@pytest.fixture(autouse=True)
def _no_configuration_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CTI_CONFIG", raising=False)


class Company:
    """A configuration in a directory of its own, and `cti` run with it."""

    def __init__(
        self, directory: Path, capsys: pytest.CaptureFixture[str], address: str | None = None
    ) -> None:
        """`address`: of the PostgreSQL database that is the store instead of the file."""
        self.directory = directory
        self.config = directory / "cti.yaml"
        self.config.write_text(SAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
        self._capsys = capsys
        self._address = address
        if address is not None:
            self.change("{sqlite: cti.db}", f'{{postgresql: "{address}"}}')

    def change(self, old: str, new: str) -> None:
        text = self.config.read_text(encoding="utf-8")
        assert old in text
        self.config.write_text(text.replace(old, new), encoding="utf-8")

    def run(self, *words: str, code: int = 0) -> str:
        """What the command writes to stdout; its exit code is checked, stderr kept in `remarks`."""
        got = main([*words, "-c", str(self.config)])
        self.out, self.remarks = self._capsys.readouterr()
        assert got == code, self.remarks
        return self.out

    def apart(self, *words: str, code: int = 0) -> str:
        """The same as a process of its own, which a command needs that runs a reactor: there is one only once."""
        done = subprocess.run(
            [sys.executable, "-m", "cti", *words, "-c", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.out, self.remarks = done.stdout, done.stderr
        assert done.returncode == code, self.remarks
        return self.out

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--format", "json", code=code))

    def file(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    @property
    def database(self) -> Path:
        return self.directory / "cti.db"

    def store(self) -> CommandStore:
        return open_for_command(self._address or self.database, destinations={}, clock=time.time)

    def add_calls(self, *calls: CallRecord) -> None:
        with self.store() as store:
            unit = store.unit()
            for call in calls:
                unit.put_call(call)
            store.commit_now(unit)

    def add_agents(self, *agents: AgentRecord) -> None:
        with self.store() as store:
            unit = store.unit()
            for agent in agents:
                unit.put_agent(agent)
            store.commit_now(unit)

    def agents(self) -> Mapping[str, AgentRecord]:
        with self.store() as store:
            return {agent.id: agent for agent in store.read.agents()}

    def tokens(self) -> list[TokenRecord]:
        with self.store() as store:
            return list(store.read.tokens())


#: For a test whose command asks of the store what is not in every test: that both databases can answer it.
both_stores = pytest.mark.parametrize("company", ["sqlite", "postgresql"], indirect=True)
_COUNTER = count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with a_port() as port, Postgres(tmp_path_factory.mktemp("postgresql"), port=port) as running:
        yield running


@pytest.fixture
def company(tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Company:
    if getattr(request, "param", "sqlite") == "sqlite":
        return Company(tmp_path, capsys)
    cluster: Postgres = request.getfixturevalue("cluster")
    return Company(tmp_path, capsys, cluster.database(f"cti{next(_COUNTER)}"))


@pytest.fixture
def known(company: Company) -> Company:
    """The company with its contacts."""
    company.run("contacts", "import", company.file("contacts.csv", CONTACTS))
    return company


@pytest.fixture
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def a_call(id: str = "c1", **attributes: Any) -> CallRecord:
    values: dict[str, Any] = {
        "pbx": "main",
        "started": NOON,
        "state": "ended",
        "from_number": MOBILE,
        "from_raw": "0152 28817386",
        "from_kind": "e164",
        "to_number": SALES,
        "service": "sales",
        "outcome": "answered",
        "agent": "anna",
        "answered": NOON + 5,
        "ended": NOON + 70,
    }
    return CallRecord(id, **{**values, **attributes})


def columns(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell]


# The command line itself.


def test_help_needs_neither_twisted_nor_the_number_tables() -> None:
    code = (
        "import sys\nfrom cti.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'twisted', 'phonenumbers', 'yaml', 'attr', 'orjson'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "cti check -c" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        "serve",
        "check",
        "asterisk-conf",
        "identify",
        "explain",
        "calls",
        "contacts import",
        "numbers normalise",
        "agents set",
        "token add",
        "user add",
        "user set",
    ],
)
def test_every_command_explains_itself(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words.split(), "--help"])
    assert ended.value.code == 0
    assert "-c FILE" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [[], ["frobnicate"], ["calls", "--limit", "0"], ["agents"], ["serve", "--form"]]
)
def test_a_wrong_command_line_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_the_configuration_may_stand_before_or_behind_the_command_or_in_the_environment(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = str(company.config)
    assert main(["-c", config, "check"]) == 0
    assert main(["check", "-c", config]) == 0
    assert main(["agents", "-c", config, "list"]) == 0
    assert main(["-c", "/nowhere", "agents", "list", "-c", config]) == 0
    monkeypatch.setenv("CTI_CONFIG", config)
    assert main(["check"]) == 0


def test_without_a_configuration_the_command_says_how_to_name_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check"]) == 2
    assert "-c FILE" in capsys.readouterr().err


def test_exit_codes_and_streams_of_the_real_command(company: Company) -> None:
    def cti(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "cti", *words, "-c", str(company.config)],
            capture_output=True,
            text=True,
            check=False,
        )

    fine, failed, wrong = cti("check"), cti("identify", "hello"), cti("calls", "--outcome", "eaten")
    assert (fine.returncode, failed.returncode, wrong.returncode) == (0, 1, 2)
    assert (fine.stderr, failed.stdout, wrong.stdout) == ("", "", "")


# cti check


def test_check_says_in_one_line_what_was_understood_and_makes_no_store(company: Company) -> None:
    (line,) = company.run("check").splitlines()
    assert line.endswith("OK: 1 service (sales), 2 rules, 1 adapter (directory), 3 agents known")
    assert company.json("check")["agents"] == ["anna", "boris", "mojca"]
    assert not company.database.exists()


def test_every_problem_of_the_configuration_is_told_with_its_place(company: Company) -> None:
    company.change("region: DE", "region: XX")
    company.change("mode: route", "mode: steer")
    assert company.run("check", code=2) == ""
    first, second = company.remarks.splitlines()
    assert first.startswith(f"{company.config}:5:9: region: ")
    assert second.startswith(f"{company.config}:")
    assert ": services.sales.mode: " in second


@both_stores
def test_agents_and_groups_that_only_the_store_knows_may_be_named_by_rules(company: Company) -> None:
    company.change("dial: {group: sales}", "dial: {group: support}")
    company.run("check", code=2)
    assert "support" in company.remarks
    company.add_agents(AgentRecord("dora", "Dora", ["PJSIP/dora"], ["support"]))
    assert "4 agents known" in company.run("check")


@both_stores
def test_migrate_makes_the_store_and_says_what_there_is(company: Company) -> None:
    assert company.run("migrate").strip() == f"schema {NEWEST}, from 0"
    assert company.run("migrate").strip() == f"schema {NEWEST}"
    assert company.agents() == {}


def test_a_database_that_is_away_is_told_without_its_password(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.change("{sqlite: cti.db}", "{postgresql: {env: STORE}}")
    monkeypatch.setenv("STORE", "postgresql://cti:geheim@127.0.0.1:1/cti")
    for words in (["agents", "list"], ["migrate"], ["calls"]):
        company.run(*words, code=1)
        assert "postgresql://cti@127.0.0.1:1/cti cannot be reached" in company.remarks
        assert "geheim" not in company.remarks
    server = Server(company)
    with server.running() as process:
        assert process.wait(timeout=60) == 1
    text = server.log.read_text(encoding="utf-8")
    assert "cannot be reached" in text
    assert "geheim" not in text
    assert "Traceback" not in text


def test_a_store_that_is_none_is_named_with_its_path(company: Company) -> None:
    company.database.write_text("this is not a database, but something else")
    company.run("agents", "list", code=1)
    assert str(company.database) in company.remarks


def test_advice_of_the_configuration_stands_on_stderr_with_its_place(company: Company) -> None:
    company.change('ami: "127.0.0.1:5038"', 'ami: "192.0.2.20:5038"')
    assert len(company.run("check").splitlines()) == 1
    (line,) = company.remarks.splitlines()
    before = company.config.read_text(encoding="utf-8").partition('"192.0.2.20')[0].splitlines()
    place = f"{len(before)}:{len(before[-1]) + 1}"
    assert line.startswith(f"{company.config}:{place}: asterisks.main.ami: advice: ")


def test_an_asterisk_to_look_at_needs_the_look(company: Company) -> None:
    company.run("check", "--pbx", "main", code=2)
    assert "--live" in company.remarks
    company.run("check", "--live", "--pbx", "branch", code=2)
    assert "known are main" in company.remarks


# cti asterisk-conf


SECRET = "change-me"


def part(text: str, name: str) -> str:
    """What belongs into one file."""
    found: str = text.split(f"; ======== {name} ========\n")[1].split("; ========")[0]
    return found


def test_the_manager_s_user_is_the_shipped_one_filled_in_without_the_secret(company: Company) -> None:
    company.change("username: cti", "username: cordboard")
    company.change('ami: "127.0.0.1:5038"', 'ami: "127.0.0.1:15038"')
    found = read_categories(part(company.run("asterisk-conf"), "manager.conf"))
    shipped = read_categories(text_of(MANAGER))
    assert list(found) == ["general", "cordboard"]
    assert found["general"].last("port") == "15038"
    assert found["cordboard"].last("secret") is None
    for setting in ("read", "write", "eventfilter", "deny", "permit"):
        assert found["cordboard"].last(setting) == shipped["cti"].last(setting)
    assert SECRET not in company.out


def test_the_secret_is_written_where_it_is_asked_for_as_asterisk_reads_it(company: Company) -> None:
    company.change(f'secret: "{SECRET}"', 'secret: "one;two"')
    shown = company.run("asterisk-conf", "--with-secret", "--part", "manager")
    assert "\nsecret = one\\;two\n" in shown
    company.change('secret: "one;two"', 'secret: " blank"')
    company.run("asterisk-conf", "--with-secret", code=1)
    assert "asterisks.main.secret" in company.remarks


def test_the_extensions_ask_for_every_form_of_every_number(company: Company) -> None:
    shown = company.run("asterisk-conf", "--part", "extensions")
    globals_ = read_categories(shown)["globals"]
    assert (globals_.last("cti_server"), globals_.last("cti_pbx")) == ("127.0.0.1:4573", "main")
    assert globals_.last("cti_fallback") == "old-context,s,1"
    for form in ("+494066969100", "494066969100", "00494066969100", "04066969100"):
        assert f"exten => {form},1,Goto(cti-inbound,${{EXTEN}},1)\n" in shown
    assert "manager.conf" not in shown


def test_the_extensions_name_the_way_out_and_the_office_s_number(company: Company) -> None:
    shown = company.run("asterisk-conf", "--part", "extensions")
    assert "\n;CTI_OUTBOUND = " in shown
    assert "CTI_OFFICE_NUMBER" not in shown
    company.change("region: DE\n", 'region: DE\ncall_control: {office_number: "040 66969 100"}\n')
    globals_ = read_categories(company.run("asterisk-conf", "--part", "extensions"))["globals"]
    assert globals_.last("cti_office_number") == "+494066969100"


def test_an_internal_number_of_a_service_has_one_form(company: Company) -> None:
    company.change('numbers: ["+494066969100"]', 'numbers: ["+494066969100", "500"]')
    assert "exten => 500,1,Goto(" in company.run("asterisk-conf", "--part", "extensions")
    answer = company.json("explain", "--from", MOBILE, "--to", "500")
    assert answer["service"] == "sales"


def test_an_asterisk_elsewhere_lets_in_only_us_and_asks_us_where_it_reaches_us(company: Company) -> None:
    company.change('ami: "127.0.0.1:5038"', 'ami: "192.0.2.20:5039"\n    tls: true')
    shown = company.run("asterisk-conf")
    assert "Attention: Cordboard listens on its own machine only" in shown
    assert read_categories(part(shown, "manager.conf"))["cti"].last("permit") is None
    listen = 'fastagi: {listen: "192.0.2.10:4573", allow: ["192.0.2.20/32"]}'
    company.change('fastagi: {listen: "127.0.0.1:4573"}', listen)
    shown = company.run("asterisk-conf")
    found = read_categories(part(shown, "manager.conf"))
    assert found["cti"].last("permit") == "192.0.2.10/32"
    assert found["general"].last("bindaddr") == "127.0.0.1"
    assert found["general"].last("tlsbindaddr") == "192.0.2.20:5039"
    assert "CTI_SERVER = 192.0.2.10:4573\n" in shown
    assert "Attention" not in shown


def test_the_phones_are_those_of_the_store_once_it_has_agents(company: Company) -> None:
    assert ";[anna] of anna" in company.run("asterisk-conf", "--part", "pjsip")
    company.add_agents(AgentRecord("dora", "Dora", ["PJSIP/d1"], ["sales"]))
    shown = company.run("asterisk-conf", "--part", "pjsip")
    assert ";[d1] of dora" in shown
    assert "anna" not in shown


def test_of_several_asterisks_one_has_to_be_named(company: Company) -> None:
    more = 'asterisks:\n  branch: {ami: "127.0.0.1:6038", username: cti, secret: "x"}\n'
    company.change("asterisks:\n", more)
    company.run("asterisk-conf", code=2)
    assert "known are branch, main" in company.remarks
    company.run("asterisk-conf", "--pbx", "other", code=2)
    assert "CTI_PBX = branch\n" in company.run("asterisk-conf", "--pbx", "branch")


# cti identify, cti explain


@pytest.fixture
def with_keys(company: Company, monkeypatch: pytest.MonkeyPatch) -> Company:
    """Its adapter is a CRM that knows customer numbers and card numbers."""
    company.change("kind: directory", "kind: crm")
    monkeypatch.syspath_prepend(company.directory)
    install(company.directory)
    return company


def test_identify_finds_by_another_key(with_keys: Company) -> None:
    found = with_keys.json("identify", "--key", "customer", "4711")
    assert (found["key"], [party["id"] for party in found["parties"]]) == ("customer", ["1001"])
    assert "Katja Brandt" in with_keys.run("identify", "--key", "customer", "4711")
    assert "nobody found" in with_keys.run("identify", "--key", "customer", "4712")
    with_keys.run("identify", "--key", "shoe_size", "43", code=1)
    assert "customer, card" in with_keys.remarks
    with_keys.run("identify", code=2)
    assert "NUMBER is missing" in with_keys.remarks


def test_identify_takes_a_sensitive_key_from_who_types_it_only(
    with_keys: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_keys.run("identify", "--key", "card", "4929123412341234", code=1)
    assert "must not stand on a command line" in with_keys.remarks
    assert "4929" not in with_keys.remarks
    monkeypatch.setattr("sys.stdin", io.StringIO("4929123412341234\n"))
    assert "Kai Brandt" in with_keys.run("identify", "--key", "card")
    assert "4929" not in with_keys.out


@pytest.mark.parametrize("written", [["0152 28817386"], ["0152", "28817386"], ["0049152/28817386"], [MOBILE]])
def test_a_number_is_identified_however_it_is_written(known: Company, written: list[str]) -> None:
    found = known.json("identify", *written)
    assert found["e164"] == MOBILE
    (party,) = found["parties"]
    assert (party["name"], party["owner"], party["owner_user"]) == ("Žana Kovač", "anna", "u1")
    assert found["adapters"][0]["outcome"] == "hit"


def test_identify_shows_people_a_table_with_the_owner(known: Company) -> None:
    *_, head, row = known.run("identify", MOBILE).splitlines()
    assert row.index("Žana Kovač") == head.index("NAME")
    assert row.index("anna") == head.index("OWNER")
    assert "u9 (no agent)" in known.run("identify", OTHER)


def test_several_with_one_number_are_shown_with_what_each_policy_came_to(company: Company) -> None:
    rows = "1,contact,Žana,0152 28817386\n2,contact,Ana,+49 152 28817386\n"
    company.run("contacts", "import", company.file("two.csv", f"id,type,name,numbers\n{rows}"))
    shown = company.run("identify", MOBILE)
    assert "the agent chooses among 2" in shown
    found = company.json("identify", MOBILE)
    assert (found["resolved_by"], found["party"], len(found["parties"])) == ("ask", None, 2)
    assert "they belong to no company" in company.run("explain", "--from", MOBILE, "--to", SALES)


def test_who_is_ignored_or_blocked_is_shown_as_that(known: Company) -> None:
    with known.config.open("a", encoding="utf-8") as file:
        file.write(f'identify: {{ignored: ["{MOBILE}"], blocked: ["{MOBILE}"]}}\n')
    assert "nobody looks for it" in known.run("identify", MOBILE)
    explained = known.json("explain", "--from", MOBILE, "--to", SALES)
    assert (explained["decision"]["action"], explained["decision"]["target"]) == ("reject", "declined")


def test_a_number_that_nobody_has_is_an_answer_and_no_number_is_a_failure(known: Company) -> None:
    assert "nobody found" in known.run("identify", "0172 9925904")
    assert known.json("identify", "0172 9925904")["parties"] == []
    for written in ("hello", "anonymous"):
        assert known.run("identify", written, code=1) == ""
        assert written in known.remarks


def test_a_service_number_of_ours_is_nobodys_although_a_contact_has_it(company: Company) -> None:
    file = company.file("contacts.csv", f"id,type,name,numbers\n1,organisation,Copy,{SALES};040 66969-0\n")
    company.run("contacts", "import", file)
    assert company.json("identify", SALES)["parties"] == []
    assert company.json("identify", "040 66969-27")["parties"] == []
    assert len(company.json("identify", "040 66969-0")["parties"]) == 1


def test_numbers_of_a_file_come_with_their_key_and_what_people_read(company: Company) -> None:
    lines = company.file("numbers.txt", "0152 / 288 17 386\n\n+49 (40) 66969-0\n")
    assert company.json("numbers", "normalise", lines)["numbers"] == [
        {"raw": "0152 / 288 17 386", "e164": MOBILE, "display": "01522 8817386", "error": None},
        {"raw": "+49 (40) 66969-0", "e164": "+4940669690", "display": "040 669690", "error": None},
    ]


def test_a_column_of_numbers_is_normalised_beside_the_others(company: Company) -> None:
    text = "\ufeffid,phone,name\n1,01 58858-0,Acme\n2\n3,hello,=1+1\n"
    file = company.file("customers.csv", text)
    written = company.run(
        "numbers", "normalise", file, "--column", "phone", "--region", "AT", "--format", "csv", code=1
    )
    assert written.splitlines() == [
        "id,phone,name,e164,display,error",
        "1,01 58858-0,Acme,+431588580,01 588580,",
        "2,,,,,there is no number",
        "3,hello,'=1+1,,,not a telephone number; one is written like +4915228817386 or 0152 28817386",
    ]
    assert "2 of 3 are no public numbers" in company.remarks


def test_what_cannot_be_normalised_says_why(company: Company) -> None:
    file = company.file("customers.csv", "id,phone\n1,hello\n")
    company.run("numbers", "normalise", file, "--column", "fone", code=2)
    assert 'did you mean "phone"' in company.remarks
    company.run("numbers", "normalise", file, "--region", "Austria", code=2)
    assert "two letters of ISO 3166" in company.remarks
    Path(file).write_bytes(b"\xff\xfe")
    company.run("numbers", "normalise", file, code=1)
    assert "not UTF-8" in company.remarks


def test_nobody_found_because_an_adapter_failed_is_a_failure(company: Company) -> None:
    (company.directory / "directory.db").write_text("this is not a database, but something else")
    answer = company.json("identify", MOBILE, code=1)
    assert answer["adapters"][0]["outcome"] == "error"
    assert "directory does not start" in company.remarks


def test_explain_names_the_decision_its_rule_and_all_that_was_tried(known: Company) -> None:
    answer = known.json("explain", "--from", "0152 28817386", "--to", "040 66969100")
    assert answer["service"] == "sales"
    assert answer["decision"]["action"] == "dial"
    assert (answer["decision"]["agents"], answer["decision"]["rule"]) == (["anna"], "owner")
    shown = known.run("explain", "--from", OTHER, "--to", SALES)
    assert "rule      rest" in shown
    assert "owner  failed: " in shown


def test_explain_knows_of_a_caller_s_past_what_the_log_had_at_that_moment(known: Company) -> None:
    asked = ("explain", "--from", OTHER, "--to", SALES, "--at")
    again = "- {name: again, when: {last_agent: anna, tries: 2}, dial: {agent: anna}}\n      "
    known.change("    rules:\n      ", f"    rules:\n      {again}")
    with known.store() as store:
        unit = store.unit()
        unit.put_call(a_call("talked", from_number=OTHER, agent="anna", answered=NOON + 5, ended=NOON + 60))
        unit.put_call(
            a_call(
                "in vain", from_number=OTHER, outcome="missed", agent=None, answered=None, started=NOON + 600
            )
        )
        store.commit_now(unit)

    def explained(at: float) -> Any:
        return known.json(*asked, iso(at))

    before, between, after = explained(NOON), explained(NOON + 600), explained(NOON + 700)
    assert before["history"] == {"last_agent": None, "last_spoken": None, "tries": 1, "age": 0.0}
    assert (between["history"]["last_agent"], between["history"]["tries"]) == ("anna", 1)
    assert after["history"]["last_spoken"] == iso(NOON + 60)
    rules = [each["decision"]["rule"] for each in (before, between, after)]
    assert rules == ["rest", "rest", "again"]
    shown = known.run(*asked, iso(NOON + 700))
    assert "tries today  2" in shown


def test_explain_says_that_without_a_log_nothing_is_known_of_the_past(company: Company) -> None:
    asked = ("explain", "--from", OTHER, "--to", SALES)
    assert company.json(*asked)["history"] is None
    assert "nothing is known of the caller's past: there is no call log yet" in company.run(*asked)


def test_explain_says_what_it_takes_for_what_only_the_server_knows(company: Company) -> None:
    asked = ("explain", "--from", OTHER, "--to", SALES)
    assert "assumed   agents are as the configuration has them" in company.run(*asked)
    company.add_agents(AgentRecord("anna", "Anna", phones=["PJSIP/anna"], groups=["sales"]))
    assumed = company.json(*asked)["assumed"]
    assert [sentence.partition(":")[0] for sentence in assumed] == ["every phone counts as free"]
    assert f"assumed      {assumed[0]}\n" in company.run(*asked)
    (_, of_now) = company.json(*asked, "--at", "2026-03-01T12:00")["assumed"]
    assert "agents, lines" in of_now


@both_stores
def test_explain_knows_who_waits_from_the_log(company: Company) -> None:
    full = '- {name: full, when: {waiting.calls: {at_least: 2}}, voicemail: "17"}\n      '
    company.change("    rules:\n      ", f"    rules:\n      {full}")
    now = time.time()
    waiting: dict[str, Any] = {"state": "waiting", "outcome": None, "answered": None, "ended": None}
    company.add_calls(
        a_call("w1", **waiting, started=now - 100, queued=now - 90),
        a_call("w2", **waiting, started=now - 20, queued=now - 10),
        a_call("w3", **waiting, started=now - 200, queued=now - 190, service="support"),
        a_call("talked"),
    )
    answer = company.json("explain", "--from", OTHER, "--to", SALES, "--at", "2026-03-01T12:00")
    assert (answer["line"]["calls"], answer["decision"]["rule"]) == (2, "full")
    assert 90 <= answer["line"]["longest"] < 190
    assert "line         2 waiting, the first for " in company.run("explain", "--from", OTHER, "--to", SALES)


def test_explain_tells_what_would_be_decided_on_a_holiday(known: Company) -> None:
    hours = 'hours:\n  office: {time_zone: Europe/Berlin, week: {mon-fri: "08:00-17:00"}, holidays: {country: DE}}\n'
    known.change("services:\n", f"{hours}services:\n")
    closed = '- {name: closed, when: {hours: holiday}, voicemail: "17"}\n      '
    known.change("    rules:\n      ", f"    hours: office\n    rules:\n      {closed}")
    asked = ("explain", "--from", MOBILE, "--to", SALES, "--at")

    answer = known.json(*asked, "2026-12-25T10:00+01:00")

    assert (answer["decision"]["rule"], answer["decision"]["action"]) == ("closed", "voicemail")
    assert known.json(*asked, "2026-12-28T10:00+01:00")["decision"]["rule"] == "owner"


def test_explain_sees_who_is_paused_and_who_is_in_a_call(known: Company) -> None:
    known.run("agents", "set", "anna", "--state", "paused", "--reason", "lunch")
    with known.store() as store:
        unit = store.unit()
        unit.put_reservation(ReservationRecord("boris", "c1", 1, time.time() + 60))
        store.commit_now(unit)
    answer = known.json("explain", "--from", MOBILE, "--to", SALES)
    assert answer["decision"]["action"] == "fallback"
    assert "paused: lunch" in known.run("explain", "--from", MOBILE, "--to", SALES)


def test_numbers_are_put_into_one_form_where_there_is_no_doubt_and_only_when_told(company: Company) -> None:
    (company.directory / "more.csv").write_text(
        "id,type,name,numbers\n"
        "k1,contact,Katja Brandt,+49 (0) 152 / 288 17 386;0049 40 66969 27\n"
        "k2,organisation,Novak GmbH,040 66969-0\n"
        "k3,contact,Ben Ude,+49 40 66969100 ext. 12\n"
        "k4,contact,Cora Ude,0152 54599371\n"
        "k5,contact,Dora Ude,+4915228895456\n",
        encoding="utf-8",
    )
    company.run("contacts", "import", str(company.directory / "more.csv"))

    def asked(*more: str) -> dict[str, tuple[str | None, str]]:
        said = company.apart("numbers", "write-back", "directory", "--format", "json", *more)
        found = json.loads(said)["numbers"]
        return {each["old"]: (each["new"], each["outcome"]) for each in found if each["id"].startswith("k")}

    assert asked() == {
        "+49 (0) 152 / 288 17 386": ("+4915228817386", "would_change"),
        "0049 40 66969 27": ("+49406696927", "would_change"),
        "040 66969-0": (None, "kept"),
        "+49 40 66969100 ext. 12": (None, "kept"),
        "0152 54599371": (None, "kept"),
    }
    assert asked("--national", "--form", "national")["0152 54599371"] == ("01525 4599371", "would_change")
    again = asked("--apply", "--per-second", "1000", "--national", "--form", "international")
    assert again["0152 54599371"] == ("+49 1525 4599371", "changed")
    assert asked("--national", "--form", "international").keys() == {"040 66969-0", "+49 40 66969100 ext. 12"}
    (katja,) = company.json("identify", "0152 28817386")["parties"]
    assert katja["id"] == "k1"
    company.apart("numbers", "write-back", "directry", code=2)
    assert 'did you mean "directory"?' in company.remarks


def test_the_index_is_read_anew_and_tells_what_it_knows(known: Company) -> None:
    assert known.json("index", "status") == {"index": []}
    assert known.apart("index", "rebuild", "directory") == ""
    assert "are in the index" in known.remarks
    (part,) = known.json("index", "status")["index"]
    assert (part["adapter"], part["numbers"] > 0, part["age"] < 60) == ("directory", True, True)
    assert known.json("identify", MOBILE)["parties"][0]["name"]
    known.run("index", "rebuild", "directry", code=2)
    assert 'did you mean "directory"?' in known.remarks


def logged(company: Company) -> None:
    """Two decisions about one call: its owner did not answer, and nobody else could be offered it."""
    party = {"adapter": "directory", "type": "contact", "id": "17", "name": "Žana Kovač", "owner": "anna"}
    facts = {
        "at": NOON,
        "from": {"number": MOBILE, "kind": "e164", "country": "DE"},
        "party": {**party, "owner_user": "u1"},
        "parties": 1,
        "tried": [],
        "clock": {"hours": "open", "date": "2026-03-01", "time": "12:00", "weekday": "sun", "holiday": None},
        "line": {"calls": 2, "longest": 95.0},
        "history": {"last_agent": "boris", "last_spoken": NOON - 3600, "tries": 2, "age": 0.0},
    }
    said = {"adapter": "directory", "outcome": "hit", "ms": 0.0, "source": "cache", "age": 240.0}
    held = {"fact": "party.owner", "wanted": "is present", "found": "anna", "held": True}
    anna = {"agent": "anna", "why_not": None}
    owner = {"rule": "owner", "tests": [held], "more": 0}
    decided = {**owner, "outcome": "decided", "note": "anna is the owner of the caller", "candidates": [anna]}
    nobody = {
        **owner,
        "outcome": "nobody",
        "note": "anna is the owner of the caller, but: paused",
        "candidates": [{"agent": "anna", "why_not": "paused: no_answer"}],
    }
    first = DecisionRecord(
        call="c1",
        attempt=1,
        at=NOON,
        action="dial",
        agents=("anna",),
        target="PJSIP/anna",
        service="sales",
        mode="route",
        rule="owner",
        reason="owner: anna is the owner of the caller",
        facts=facts,
        trace=[decided],
        identification={"adapters": [said], "age": 0.3},
    )
    again = evolve(
        first,
        attempt=2,
        at=NOON + 21,
        action="fallback",
        agents=(),
        target="old-context,s,1",
        rule=None,
        reason="no rule decided",
        last="NOANSWER",
        facts={**facts, "tried": ["anna"], "history": {**facts["history"], "age": 21.0}},
        trace=[nobody],
        identification={"adapters": [said], "age": 21.3},
    )
    company.add_calls(a_call("c1", outcome="fallback", agent=None, answered=None))
    with company.store() as store:
        unit = store.unit()
        for decision in (first, again):
            unit.put_decision(decision)
        store.commit_now(unit)


@pytest.mark.usefixtures("_berlin")
@both_stores
def test_explain_tells_of_a_call_in_the_log_why_each_decision_was_made(company: Company) -> None:
    logged(company)

    shown = company.run("explain", "--call", "c1")

    _, first, again = (part.splitlines() for part in shown.split("\n\nattempt      "))
    for line in (
        "1, at 2026-03-01 12:00:00",
        "party        Žana Kovač (contact 17 in directory, owner anna)",
        "asked        directory: hit in 0 ms from the cache, 4 min old",
        f"talked with  boris, until {iso(NOON - 3600)}",
        "clock        sun 2026-03-01 12:00, open",
        "line         2 waiting, the first for 95 s",
        "decision     dial anna",
        "  owner  decided: anna is the owner of the caller",
        '         holds: party.owner is "anna", wanted: is present',
        "         anna: chosen",
    ):
        assert line in first, first
    for line in (
        "2, at 2026-03-01 12:00:21",
        "before       NOANSWER; tried: anna",
        "asked        directory: hit in 0 ms from the cache, 4 min old; 21 s before",
        "tries today  2, as of 21 s before",
        "decision     fallback",
        "         anna: paused: no_answer",
    ):
        assert line in again, again
    assert "outcome  fallback\n" in shown


def test_explain_gives_of_a_call_in_the_log_what_the_api_gives(company: Company) -> None:
    logged(company)
    answer = company.json("explain", "--call", "c1")
    with company.store() as store:
        detail = store.read.call("c1")
    assert detail is not None
    assert answer["decisions"] == json.loads(json.dumps(call_detail_json(detail)["decisions"]))
    assert answer["call"]["id"] == "c1"


def test_explain_says_of_a_call_that_nobody_asked_about_that_nothing_was_decided(company: Company) -> None:
    company.add_calls(a_call("c2", direction="outbound", from_number="23", from_raw="23", to_number=OTHER))
    shown = company.run("explain", "--call", "c2")
    assert "from     23 (e164)\n" in shown
    assert "nothing was decided about this call" in shown


def test_explain_does_not_know_a_call_that_is_not_in_the_log(company: Company) -> None:
    company.run("explain", "--call", "c1", code=1)
    assert "there is no call log yet" in company.remarks
    logged(company)
    assert company.run("explain", "--call", "c3", code=1) == ""
    assert 'the log has no call "c3"; `cti calls` shows their ids' in company.remarks


@pytest.mark.parametrize(
    "words", [[], ["--from", MOBILE], ["--call", "c1", "--at", "2026-03-01"], ["--call", "c1", "--to", SALES]]
)
def test_explain_asks_for_a_described_call_or_for_a_logged_one_and_not_for_both(
    company: Company, words: list[str]
) -> None:
    company.run("explain", *words, code=2)
    assert "--call" in company.remarks


@pytest.mark.usefixtures("_berlin")
def test_explain_takes_a_time_without_a_zone_as_local(known: Company) -> None:
    answer = known.json("explain", "--from", MOBILE, "--to", SALES, "--at", "2026-03-01T12:00")
    assert answer["at"] == "2026-03-01T11:00:00.000Z"


# cti calls


@pytest.mark.usefixtures("_berlin")
def test_calls_shows_people_local_times_and_programs_utc(company: Company) -> None:
    company.add_calls(a_call(party={"adapter": "directory", "id": "17", "name": "Žana Kovač"}))
    head, row = company.run("calls").splitlines()
    assert row.startswith("2026-03-01 12:00:00")
    assert row.index("Žana Kovač") == head.index("PARTY")
    assert "1:05" in columns(row)[-2]
    (call,) = company.json("calls")["calls"]
    assert (call["started"], call["party"]["id"], call["talk"]) == ("2026-03-01T11:00:00.000Z", "17", 65.0)


@both_stores
@pytest.mark.usefixtures("_berlin")
@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ([], ["c3", "c2", "c1"]),
        (["--since", "2026-03-01T13:00"], ["c3", "c2"]),
        (["--since", "2026-03-01T12:00:00Z"], ["c3", "c2"]),
        (["--until", "2026-03-01T13:00"], ["c1"]),
        (["--number", "0152 28895456"], ["c2"]),
        (["--number", "040 66969100"], ["c3", "c2", "c1"]),
        (["--agent", "boris"], ["c2"]),
        (["--party", "17"], ["c3"]),
        (["--direction", "outbound"], []),
        (["--outcome", "missed"], ["c3"]),
        (["--limit", "2"], ["c3", "c2"]),
    ],
)
def test_calls_are_filtered(company: Company, words: list[str], ids: list[str]) -> None:
    company.add_calls(
        a_call("c1"),
        a_call("c2", started=NOON + 3600, from_number=OTHER, agent="boris"),
        a_call("c3", started=NOON + 7200, outcome="missed", party={"adapter": "directory", "id": "17"}),
    )
    answer = company.json("calls", *words)
    assert [call["id"] for call in answer["calls"]] == ids
    assert (answer["next"] is not None) == ("--limit" in words)


@both_stores
def test_more_calls_than_a_page_come_out_once_each(company: Company) -> None:
    company.add_calls(*(a_call(f"c{n:04}", started=NOON + n // 7) for n in range(2345)))
    rows = list(csv.DictReader(io.StringIO(company.run("calls", "--limit", "9999", "--format", "csv"))))
    assert [row["id"] for row in rows] == [f"c{n:04}" for n in reversed(range(2345))]
    company.run("calls", "--limit", "2344")
    assert "the newest 2344" in company.remarks


def test_a_name_in_the_log_neither_runs_in_a_spreadsheet_nor_moves_the_terminals_cursor(
    company: Company,
) -> None:
    company.add_calls(
        a_call(
            "c1", party={"id": "1", "name": '=HYPERLINK("http://x.example")'}, from_raw="+49 152 28817386"
        ),
        a_call("c2", party={"id": "2", "name": "\x1b[2Jgone"}),
    )
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(company.run("calls", "--format", "csv")))}
    assert rows["c1"]["party"] == '\'=HYPERLINK("http://x.example")'
    assert (rows["c1"]["from"], rows["c1"]["from_raw"]) == (MOBILE, "+49 152 28817386")
    assert "\x1b" not in company.run("calls")


@both_stores
def test_no_call_log_yet_is_said_and_none_is_made(company: Company) -> None:
    company.run("calls", code=1)
    assert "cti serve" in company.remarks
    assert not company.database.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--outcome", "eaten"), ("--direction", "up"), ("--since", "soon"), ("--number", "x")],
)
def test_a_filter_that_cannot_be_is_a_wrong_command_line(company: Company, option: str, value: str) -> None:
    company.run("calls", option, value, code=2)
    assert value in company.remarks


# cti contacts


def test_contacts_come_in_and_go_out_as_csv(known: Company) -> None:
    target = known.directory / "out.csv"
    known.run("contacts", "export", str(target))
    assert {row["id"]: row["name"] for row in csv.DictReader(target.open(encoding="utf-8"))} == {
        "17": "Žana Kovač",
        "18": "Ёлка Иванова",
    }
    assert target.stat().st_mode & 0o077 == 0
    report = known.json("contacts", "import", str(target))
    assert report == {"added": 0, "updated": 0, "unchanged": 2, "refused": [], "refused_count": 0}


def test_lines_that_are_refused_are_named_and_make_the_import_fail(company: Company) -> None:
    file = company.file("contacts.csv", CONTACTS + "19,contact,Nobody,,12,,\n")
    assert company.run("contacts", "import", file, code=1) == "2 added, 0 updated, 0 unchanged, 1 refused\n"
    assert company.remarks.startswith(f"{file}:4: ")


def test_a_contact_file_that_is_not_there_is_a_failure(company: Company) -> None:
    company.run("contacts", "import", str(company.directory / "none.csv"), code=1)
    assert "none.csv" in company.remarks


def test_with_several_directories_the_command_wants_to_know_which(company: Company) -> None:
    company.change(
        "  directory: {kind: directory}", "  directory: {kind: directory}\n  other: {kind: directory}"
    )
    file = company.file("contacts.csv", CONTACTS)
    company.run("contacts", "import", file, code=2)
    assert "directory, other" in company.remarks
    company.run("contacts", "import", file, "--adapter", "other")
    assert company.json("identify", MOBILE)["parties"][0]["adapter"] == "other"
    company.run("contacts", "import", file, "--adapter", "third", code=2)


# cti agents


def test_before_the_store_is_made_the_agents_are_those_of_the_configuration(company: Company) -> None:
    listed = {agent["id"]: agent for agent in company.json("agents", "list")["agents"]}
    assert {id: agent["state"] for id, agent in listed.items()} == {
        "anna": "ready",
        "boris": "ready",
        "mojca": "logged_out",
    }
    assert listed["anna"]["crm"] == {"directory": "u1"}
    assert not company.database.exists()


def test_an_agent_added_to_a_fresh_store_does_not_cost_those_of_the_configuration(company: Company) -> None:
    company.run(
        *("agents", "add", "dora", "--name", "Dora", "--phone", "PJSIP/dora", "--phone", "PJSIP/home"),
        *("--group", "sales", "--group", "support", "--crm", "directory=u4"),
    )
    agents = company.agents()
    assert set(agents) == {"anna", "boris", "mojca", "dora"}
    dora = agents["dora"]
    assert (dora.name, list(dora.phones), list(dora.groups)) == (
        "Dora",
        ["PJSIP/dora", "PJSIP/home"],
        ["sales", "support"],
    )
    assert (dora.crm, dora.wish) == ({"directory": "u4"}, "logged_out")
    company.run("agents", "add", "dora", code=1)
    assert "already" in company.remarks


@both_stores
def test_an_agent_s_skills_are_added_set_and_listed(company: Company) -> None:
    company.run("agents", "add", "dora", "--skill", "german=5", "--skill", "billing=3")
    assert company.agents()["dora"].skills == {"german": 5, "billing": 3}
    company.run("agents", "set", "dora", "--name", "Dora")
    assert company.agents()["dora"].skills == {"german": 5, "billing": 3}
    company.run("agents", "set", "dora", "--skill", "german=9")
    assert company.agents()["dora"].skills == {"german": 9}
    listed = {agent["id"]: agent["skills"] for agent in company.json("agents", "list")["agents"]}
    assert listed == {"anna": {}, "boris": {}, "mojca": {}, "dora": {"german": 9}}
    assert "german=9" in company.run("agents", "list")


@both_stores
def test_how_many_calls_an_agent_may_have_at_once_is_added_set_and_exported(company: Company) -> None:
    company.run("agents", "add", "dora", "--concurrency", "3")
    company.run("agents", "set", "dora", "--name", "Dora")
    assert company.agents()["dora"].concurrency == 3
    listed = {agent["id"]: agent["concurrency"] for agent in company.json("agents", "list")["agents"]}
    assert listed == {"anna": 1, "boris": 1, "mojca": 1, "dora": 3}
    exported = company.run("agents", "export", "-")
    assert exported.count("concurrency") == 1
    company.run("agents", "set", "dora", "--concurrency", "1")
    assert company.agents()["dora"].concurrency == 1
    company.run("agents", "import", company.file("agents.yaml", exported))
    assert company.agents()["dora"].concurrency == 3


@pytest.mark.parametrize("words", [["german"], ["german=much"], ["german=-1"], ["german=5", "german=6"]])
def test_a_skill_is_written_with_its_level_and_once(company: Company, words: list[str]) -> None:
    company.run("agents", "add", "dora", *(part for word in words for part in ("--skill", word)), code=2)
    assert "german" in company.remarks


@both_stores
def test_setting_a_state_changes_the_state_and_nothing_else(company: Company) -> None:
    company.run("agents", "add", "dora", "--phone", "PJSIP/dora", "--state", "ready")
    before = company.agents()["dora"]
    company.run("agents", "set", "dora", "--state", "paused", "--reason", "lunch")
    after = company.agents()["dora"]
    assert (after.wish, after.reason) == ("paused", "lunch")
    assert after.wish_since > before.wish_since
    assert (after.phones, after.idle_since) == (before.phones, before.idle_since)
    company.run("agents", "set", "dora", "--state", "ready")
    again = company.agents()["dora"]
    assert (again.wish, again.reason) == ("ready", None)
    assert again.idle_since > before.idle_since


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add", "no/name"], "no/name"),
        (["add", "dora", "--phone", "PJSIP/a&PJSIP/b"], "PJSIP/a&PJSIP/b"),
        (["add", "dora", "--crm", "odoo=4"], "odoo"),
        (["add", "dora", "--crm", "directory=u1"], "anna"),
        (["add", "dora", "--name", "a\x1bb"], "name"),
        (["add", "dora", "--skill", "german=10"], "10 is no level of the skill german; 1 to 9, the best"),
        (["add", "dora", "--concurrency", "21"], "21 calls at once are out of range; 1 to 20 would be right"),
        (["add", "dora", "--skill", "no/name=5"], '"no/name" is no skill; a name of up to 64 letters'),
        (["set", "dora", "--state", "ready"], "dora"),
        (["remove", "dora"], "dora"),
    ],
)
def test_an_agent_that_cannot_be_is_refused_and_nothing_is_written(
    company: Company, words: list[str], says: str
) -> None:
    company.run("agents", *words, code=1)
    assert says in company.remarks
    assert company.agents() == {}


def test_a_phone_of_another_agent_is_refused_and_named(company: Company) -> None:
    company.run("agents", "add", "dora", "--phone", "PJSIP/dora", "--phone", "PJSIP/anna", code=1)
    assert 'dora: "PJSIP/anna" is the phone of agent anna already' in company.remarks
    company.run("agents", "set", "anna", "--phone", "PJSIP/boris", code=1)
    assert 'anna: "PJSIP/boris" is the phone of agent boris already' in company.remarks
    both = company.file("agents.yaml", "agents: {dora: {phones: [PJSIP/7]}, emil: {phones: [PJSIP/7]}}\n")
    company.run("agents", "import", both, code=1)
    assert 'emil: "PJSIP/7" is the phone of agent dora already' in company.remarks
    assert company.agents() == {}


@both_stores
def test_an_import_may_swap_phones(company: Company) -> None:
    swapped = "agents: {anna: {phones: [PJSIP/boris]}, boris: {phones: [PJSIP/anna]}}\n"
    company.run("agents", "import", company.file("agents.yaml", swapped))
    agents = company.agents()
    assert (list(agents["anna"].phones), list(agents["boris"].phones)) == (["PJSIP/boris"], ["PJSIP/anna"])


def test_set_wants_something_to_set(company: Company) -> None:
    company.run("agents", "set", "anna", code=2)
    company.run("agents", "set", "anna", "--reason", "lunch", code=2)


def test_who_is_named_by_a_rule_only_is_not_removed(company: Company) -> None:
    company.run("agents", "add", "dora", "--group", "support")
    company.change("dial: {group: sales}", "dial: {group: support}")
    company.run("agents", "remove", "dora", code=1)
    assert f"{company.config}:" in company.remarks
    company.run("agents", "set", "dora", "--group", "sales", code=1)
    assert list(company.agents()["dora"].groups) == ["support"]
    company.run("agents", "remove", "boris")
    assert "boris" not in company.agents()


def test_agents_come_out_as_yaml_and_go_into_another_store(company: Company, tmp_path: Path) -> None:
    company.run("agents", "set", "anna", "--state", "paused", "--name", "Ана", "--skill", "german=5")
    target = tmp_path / "agents.yaml"
    company.run("agents", "export", str(target))
    assert yaml.safe_load(company.run("agents", "export")) == yaml.safe_load(
        target.read_text(encoding="utf-8")
    )
    assert target.stat().st_mode & 0o077 == 0
    before = company.agents()
    company.database.unlink()
    company.run("agents", "import", str(target))
    after = company.agents()
    assert {id: (agent.name, agent.phones, agent.crm, agent.skills) for id, agent in after.items()} == {
        id: (agent.name, agent.phones, agent.crm, agent.skills) for id, agent in before.items()
    }
    assert after["anna"].skills == {"german": 5}


def test_an_import_updates_who_is_there_keeps_their_state_and_removes_nobody(company: Company) -> None:
    file = company.file(
        "agents.yaml",
        "agents:\n"
        "  anna: {phones: [PJSIP/desk], state: logged_out}\n"
        '  dora: {state: ready, crm: {directory: "77"}}\n',
    )
    assert company.json("agents", "import", file) == {"added": 1, "updated": 1, "unchanged": 0}
    agents = company.agents()
    assert set(agents) == {"anna", "boris", "mojca", "dora"}
    anna, dora = agents["anna"], agents["dora"]
    assert (list(anna.phones), anna.wish, list(anna.groups)) == (["PJSIP/desk"], "ready", ["sales"])
    assert (dora.name, dora.wish, dora.crm) == ("dora", "ready", {"directory": "77"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "agents:\n  anna: {phone: PJSIP/a}\n  boris: 7\n",
            [":2:10: agents.anna.phone: unknown key", ":3:10: agents.boris: "],
        ),
        ("agents:\n  anna: {}\n  anna: {}\n", [":3:3: ", "twice"]),
        ("agents:\n  anna: {phones: [PJSIP/a, B]}\n  dora: {state: asleep}\n", ['"B" is no phone', "asleep"]),
        (
            "agents:\n  anna: {skills: {german: 0}}\n",
            [":2:27: agents.anna.skills.german: 0 is out of range; 1 to 9"],
        ),
        ("agents: [\n", ["is not valid YAML"]),
        ("", ["is empty"]),
        ("people: {}\n", ['unknown key "people"']),
    ],
)
def test_a_wrong_agents_file_is_told_and_nothing_of_it_is_taken(
    company: Company, text: str, says: list[str]
) -> None:
    company.run("agents", "import", company.file("agents.yaml", text), code=1)
    for each in says:
        assert each in company.remarks
    assert not company.database.exists() or company.agents() == {}


# cti token


def test_a_new_token_is_printed_alone_and_kept_as_its_digest(company: Company) -> None:
    (token,) = company.run(
        "token", "add", "anna's desk", "--role", "agent", "--agent", "anna", "--days", "7"
    ).split()
    (record,) = company.tokens()
    assert (record.digest, record.role, record.agent) == (digest_of(token), "agent", "anna")
    assert record.expires is not None
    assert record.expires - record.created == pytest.approx(7 * 86400)
    assert token.encode() not in company.database.read_bytes()
    assert company.remarks == ""


@both_stores
def test_tokens_are_listed_without_their_text_and_revoked_by_name_or_id(company: Company) -> None:
    for name in ("wallboard", "crm"):
        company.run("token", "add", name, "--role", "supervisor")
    company.run("token", "revoke", "wallboard")
    first, second = company.json("token", "list")["tokens"]
    assert (first["name"], first["state"], second["state"]) == ("wallboard", "revoked", "valid")
    assert "digest" not in first
    assert "wallboard" in company.run("token", "list")
    company.run("token", "revoke", second["id"])
    assert all(token.revoked for token in company.tokens())
    for gone in ("wallboard", second["id"], "nobody"):
        company.run("token", "revoke", gone, code=1)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["x", "--role", "king"], 2),
        (["x", "--role", "agent"], 2),
        (["x\n", "--role", "crm"], 2),
        (["x", "--role", "agent", "--agent", "nobody"], 1),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(company: Company, words: list[str], code: int) -> None:
    assert company.run("token", "add", *words, code=code) == ""
    assert company.tokens() == []


def test_two_valid_tokens_do_not_share_a_name(company: Company) -> None:
    company.run("token", "add", "crm", "--role", "crm")
    company.run("token", "add", "crm", "--role", "crm", code=1)
    company.run("token", "revoke", "crm")
    company.run("token", "add", "crm", "--role", "crm")


# cti serve


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


class Server:
    """`cti serve` as a process."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.http = free_port()
        self.fastagi = free_port()
        company.change("127.0.0.1:4573", f"127.0.0.1:{self.fastagi}")
        company.change("127.0.0.1:8470", f"127.0.0.1:{self.http}")
        company.change("127.0.0.1:5038", f"127.0.0.1:{free_port()}")
        self.log = company.directory / "log"

    @contextmanager
    def running(self, *words: str) -> "Iterator[subprocess.Popen[bytes]]":
        command = words or (sys.executable, "-m", "cti", "serve")
        with self.log.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, "-c", str(self.company.config)],
                stdout=stderr,
                stderr=stderr,
                cwd=self.company.directory,
            )
        try:
            self.until(lambda: self.get("/healthz")[0] == 200 or process.poll() is not None)
            yield process
        finally:
            process.kill()
            process.wait()

    def get(self, path: str, token: str | None = None, body: Any = None) -> tuple[int, Any]:
        """Status (0: nobody there) and answer; a body is posted."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data)
        request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=1) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, None
        except OSError:
            return 0, None

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def logged(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines())

    @staticmethod
    def until(true: Any) -> None:
        end = time.monotonic() + 30
        while not true():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.05)


@both_stores
def test_the_server_serves_reloads_refuses_a_bad_file_and_stops_on_a_signal(company: Company) -> None:
    server = Server(company)
    with server.running() as process:
        assert server.get("/healthz")[0] == 200
        token = company.run("token", "add", "test", "--role", "admin").strip()

        def states() -> dict[str, str]:
            status, answer = server.get("/api/v1/agents", token)
            return {agent["id"]: agent["state"] for agent in answer["agents"]} if status == 200 else {}

        server.until(lambda: states().get("anna") == "ready")
        company.run("agents", "set", "anna", "--state", "paused")
        server.until(lambda: states().get("anna") == "paused")

        good = company.config.read_text(encoding="utf-8")
        company.config.write_text(good.replace("mode: route", "mode: steer") + "more: 1\n", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        server.until(lambda: server.logged("the old configuration stays in force") == 1)
        problems = [line["problem"] for line in server.lines() if "problem" in line]
        assert [problem.partition(" ")[0].startswith(f"{company.config}:") for problem in problems] == [
            True
        ] * 2

        company.config.write_text(good.replace("rules:", "ring_timeout: 33\n    rules:"), encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        server.until(lambda: server.logged("configuration taken over") == 1)
        _, answer = server.get("/api/v1/explain", token, {"from": OTHER, "to": SALES})
        assert (answer["decision"]["agents"], answer["decision"]["timeout"]) == (["boris"], 33)
        assert answer["history"] == {"last_agent": None, "last_spoken": None, "tries": 1, "age": 0.0}

        # Some supervisors send it twice.
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    assert server.lines()[-1]["event"]
    assert all("exception" not in line for line in server.lines())
    assert not company.database.exists() or company.database.stat().st_mode & 0o077 == 0


def test_a_server_whose_own_code_hangs_for_ever_explains_and_stops_all_the_same(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.file(
        "acme_hangs.py",
        "from threading import Event\nkind = 'number'\ndef find(facts):\n    Event().wait()\n",
    )
    install_own(company.directory, "[cordboard.conditions]\ntickets = acme_hangs\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(company.directory), str(SAMPLE.parents[1])]))
    tickets = "- {name: tickets, when: {own.tickets: present}, reject: busy}\n      "
    company.change("    rules:\n      ", f"    rules:\n      {tickets}")
    server = Server(company)
    with server.running() as process:
        token = company.apart("token", "add", "test", "--role", "admin").strip()
        _, answer = server.get("/api/v1/explain", token, {"from": OTHER, "to": SALES})
        assert answer["decision"]["rule"] == "rest"
        assert answer["decision"]["trace"][0]["note"] == "own.tickets did not say in time"
        assert answer["own"]["tickets"]["value"] is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0
    assert [line["own"] for line in server.lines() if "own" in line] == ["own.tickets"]


def test_a_port_in_use_is_told_in_a_sentence(company: Company) -> None:
    server = Server(company)
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", server.http))
        occupied.listen()
        with server.running() as process:
            assert process.wait(timeout=15) == 1
    text = server.log.read_text(encoding="utf-8")
    assert f"cti: 127.0.0.1:{server.http} is in use already" in text
    assert "Traceback" not in text


def test_a_store_that_cannot_be_opened_is_told_in_a_sentence(company: Company) -> None:
    server = Server(company)
    company.database.write_text("this is not a database, but something else")
    with server.running() as process:
        assert process.wait(timeout=15) == 1
    text = server.log.read_text(encoding="utf-8")
    assert text.splitlines()[-1].startswith(f"cti: {company.database} ")
    assert "Traceback" not in text


def test_a_wrong_configuration_does_not_start_the_server(company: Company) -> None:
    company.change("mode: route", "mode: steer")
    assert main(["serve", "-c", str(company.config)]) == 2


def test_the_server_is_a_plugin_of_twisted(company: Company) -> None:
    server = Server(company)
    twist = Path(sys.executable).parent / "twist"
    with server.running(str(twist), "cti") as process:
        assert server.get("/healthz")[0] == 200
        process.send_signal(signal.SIGHUP)
        server.until(lambda: b"configuration taken over" in server.log.read_bytes())
        process.send_signal(signal.SIGTERM)
        # twist ends itself with the signal that it was sent.
        assert process.wait(timeout=15) in (0, -signal.SIGTERM)
    assert b"Traceback" not in server.log.read_bytes()


def test_twist_tells_a_wrong_configuration(company: Company) -> None:
    company.change("mode: route", "mode: steer")
    twist = Path(sys.executable).parent / "twist"
    done = subprocess.run(
        [twist, "cti", "-c", company.config], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode != 0
    assert f"{company.config}:" in done.stderr + done.stdout


# Reports.


def test_a_report_of_calls_says_what_its_figures_mean(company: Company) -> None:
    company.change("region: DE\n", "region: DE\nreports: {time_zone: Europe/Berlin, service_level: 15}\n")
    company.add_calls(
        a_call("c1", service="sales", started=NOON, answered=NOON + 12, ended=NOON + 72, outcome="answered"),
        a_call("c2", service="sales", started=NOON + 60, ended=NOON + 90, outcome="missed"),
    )
    day = "2026-03-01"
    words = ("report", "calls", "--since", day, "--until", f"{day}T23:00", "--by", "day")
    table = company.run(*words)
    assert "SERVICE_LEVEL" in table
    assert "50.0%" in table
    assert "within the threshold of their service (15 s)" in table
    shown = company.json(*words)
    assert shown["total"]["calls"] == 2
    assert shown["rows"][0]["service"] == "sales"
    (row, total) = csv.DictReader(io.StringIO(company.run(*words, "--format", "csv")))
    assert (row["calls"], row["service_level"], total["day"]) == ("2", "0.5", "total")
    picture = company.directory / "calls.svg"
    company.run(*words, "--plot", str(picture))
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    assert "# answered" in company.run(*words, "--plot")


def test_figures_of_single_agents_are_off_until_the_configuration_says_otherwise(company: Company) -> None:
    company.add_calls(a_call("c1"))
    company.run("report", "agents", code=1)
    assert "reports: {agents: true}" in company.remarks
    company.change("region: DE\n", "region: DE\nreports: {agents: true}\n")
    company.run("report", "agents")
    company.run("report", "team")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rapport"], "calls"),
        (["calls", "--by", "year"], "weekday"),
        (["calls", "--service", "nobody"], "sales"),
        (["calls", "--time-zone", "Berlin"], "Europe/Berlin"),
        (["calls", "--since", "tomorrow"], "2026-02-03T09:15"),
        (["calls", "--since", "2026-03-02", "--until", "2026-03-01"], "earlier"),
        (["calls", "--since", "1990-01-01", "--by", "hour"], "shorter"),
    ],
)
def test_a_report_that_cannot_be_says_what_would_be_right(
    company: Company, words: list[str], said: str
) -> None:
    company.add_calls(a_call("c1"))
    company.run("report", *words, code=2)
    assert said in company.remarks


def test_what_reports_mean_is_told_without_a_store(company: Company) -> None:
    assert "calls.service_level" in company.run("report", "measures")
    assert not company.database.exists()


# The whole log.


def test_all_calls_come_out_as_lines_of_json_once_each(company: Company) -> None:
    company.add_calls(*(a_call(f"c{n:04}", started=NOON + n // 7) for n in range(2345)))
    lines = company.run("calls", "--all", "--format", "jsonl").splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"c{n:04}" for n in reversed(range(2345))]
