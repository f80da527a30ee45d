"""Which user of a CRM is which agent: only what is certain, and nobody loses the user that they have."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from adapters.base import CrmUser
from cti.commands.agents_match import matches
from cti.store.records import AgentRecord

ROOT = Path(__file__).parents[2]


def an_agent(id: str, name: str = "", phones: tuple[str, ...] = (), **crm: str) -> AgentRecord:
    return AgentRecord(id, name or id.title(), list(phones), [], dict(crm), "ready")


def found(users: list[CrmUser], *agents: AgentRecord) -> list[tuple[str | None, str]]:
    return [(match.agent, match.by or match.why) for match in matches(users, agents, "odoo")]


@pytest.mark.parametrize(
    ("user", "agent", "by"),
    [
        (CrmUser("7", login="anna"), an_agent("anna"), "login"),
        (CrmUser("7", login="Anna@acme.example"), an_agent("anna"), "login"),
        (CrmUser("7", extension="101"), an_agent("anna", phones=("PJSIP/home", "PJSIP/101")), "extension"),
        (CrmUser("7", extension="101"), an_agent("anna", phones=("Local/101@phones",)), "extension"),
        (CrmUser("7", "Kovač, Anna"), an_agent("a1", "anna kovač"), "name"),
    ],
)
def test_a_user_is_known_by_login_extension_or_name(user: CrmUser, agent: AgentRecord, by: str) -> None:
    assert found([user], agent, an_agent("ben", "Ben Orlov", ("PJSIP/1010",))) == [(agent.id, by)]


def test_nobody_is_taken_for_somebody_else() -> None:
    user = CrmUser("7", "Anna", "admin", "10")
    assert (
        found([user, CrmUser("8")], an_agent("ben", phones=("PJSIP/101",))) == [(None, "no agent fits")] * 2
    )


def test_the_surest_way_comes_first() -> None:
    users = [CrmUser("7", "Ben Orlov", "anna"), CrmUser("8", "Ben Orlov", "chief")]
    agents = an_agent("anna", "Anna Kovač"), an_agent("b1", "Ben Orlov")
    assert found(users, *agents) == [("anna", "login"), ("b1", "name")]


def test_what_is_not_certain_is_left_open() -> None:
    twins = an_agent("a1", "Anna Kovač"), an_agent("a2", "Anna Kovač")
    assert found([CrmUser("7", "Anna Kovač")], *twins) == [(None, "several agents fit by their name")]
    users = [CrmUser("7", "Anna Kovač"), CrmUser("8", "Anna Kovač")]
    assert found(users, twins[0]) == [(None, "agent a1 fits another user by their name, too")] * 2


def test_who_has_a_user_keeps_them_and_who_is_switched_off_gets_nobody() -> None:
    users = [CrmUser("7", login="ben"), CrmUser("8", login="anna")]
    users.append(CrmUser("9", login="cleo", active=False))
    agents = an_agent("anna", odoo="7"), an_agent("ben"), an_agent("cleo")
    assert found(users, *agents) == [
        ("anna", "kept"),
        (None, "no agent fits"),
        (None, "is switched off in the CRM"),
    ]


@frozen
class Office:
    """A configuration in a directory of its own, and `cti` run with it, each time as a process."""

    base: Path

    def run(self, *words: str, code: int = 0) -> tuple[str, str]:
        """What the command wrote to stdout and stderr."""
        command = [sys.executable, "-m", "cti", *words, "-c", "cti.yaml"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "AMI_SECRET": "sesame", "HOOK": "sesame"}
        done = subprocess.run(
            command, cwd=self.base, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout, done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--format", "json")[0])

    def crm_of(self, agent: str) -> Any:
        return next(each["crm"] for each in self.json("agents", "list")["agents"] if each["id"] == agent)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Contacts whose owner logs in as ben, who has no user yet."""
    shutil.copy(ROOT / "config" / "small.yaml", tmp_path / "cti.yaml")
    (tmp_path / "owned.csv").write_text("id,name,owner\n1,Katja Brandt,ben\n2,Boris,stranger\n")
    office = Office(tmp_path)
    office.run("contacts", "import", "owned.csv")
    office.run("agents", "add", "ben", "--phone", "PJSIP/ben")
    return office


def test_a_dry_run_changes_nothing_and_apply_does_it_once(office: Office) -> None:
    shown = office.json("agents", "match", "directory")
    assert (shown["applied"], [(each["user"], each["agent"], each["by"]) for each in shown["users"]]) == (
        False,
        [("ben", "ben", "login"), ("stranger", None, None)],
    )
    assert office.crm_of("ben") == {}
    table, said = office.run("agents", "match", "directory", "--apply")
    assert "(no agent fits)" in table
    assert "1 agents were given" in said
    assert office.crm_of("ben") == {"directory": "ben"}
    assert office.json("agents", "match", "directory")["users"][0]["by"] == "kept"
    assert "odoo" in office.run("agents", "match", "odoo", code=2)[1]
