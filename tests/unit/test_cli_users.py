"""`cti user` and what of `cti token` is about the doors: each command on a real store."""

import io
from collections.abc import Sequence

import pytest

from cti.commands import users
from cti.store.records import AuditRecord, SessionRecord, UserRecord
from cti.web.passwords import _HASHER
from tests.unit.doors import PASSWORD
from tests.unit.test_cli import Company, company

__all__ = ("company",)

ANOTHER = "another horse of mine"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> "type[Typed]":
    Typed.patch = monkeypatch
    return Typed


class Typed:
    """What comes by standard input, or is typed where a password is asked for."""

    patch: pytest.MonkeyPatch

    @classmethod
    def line(cls, text: str) -> None:
        cls.patch.setattr("sys.stdin", io.StringIO(text))

    @classmethod
    def at_terminal(cls, *answers: str) -> None:
        terminal = io.StringIO()
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        cls.patch.setattr("sys.stdin", terminal)
        cls.patch.setattr(users.getpass, "getpass", lambda _prompt, given=list(answers): given.pop(0))


def kept(company: Company) -> dict[str, UserRecord]:
    with company.store() as store:
        return {user.name: user for user in store.read.users()}


def audit(company: Company) -> Sequence[AuditRecord]:
    with company.store() as store:
        return [entry for _, entry in store.read.audit(None, None, 100, None)[0]][::-1]


def add_anna(company: Company, typed: type[Typed]) -> None:
    typed.line(f"{PASSWORD}\n")
    assert company.run("user", "add", "Anna", "--role", "agent", "--agent", "anna", "--password-stdin") == ""


def test_a_fresh_store_has_nobody_who_may_log_in(company: Company) -> None:
    assert company.json("user", "list") == {"users": []}


def test_a_user_is_added_with_a_password_that_is_kept_as_argon2id_only(
    company: Company, typed: type[Typed]
) -> None:
    add_anna(company, typed)
    user = kept(company)["anna"]
    assert (user.role, user.agent, user.disabled) == ("agent", "anna", False)
    assert user.password.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert _HASHER.verify(user.password, PASSWORD)
    assert PASSWORD.encode() not in company.database.read_bytes()
    (listed,) = company.json("user", "list")["users"]
    assert (listed["name"], listed["role"], listed["disabled"]) == ("anna", "agent", False)
    assert "password" not in listed
    assert "may log in" in company.run("user", "list")
    assert [(entry.kind, entry.action, entry.object) for entry in audit(company)] == [
        ("command", "user.added", "anna")
    ]


def test_at_a_terminal_the_password_is_asked_for_twice_until_it_is_the_same(
    company: Company, typed: type[Typed]
) -> None:
    typed.at_terminal(PASSWORD, "slip of the finger", PASSWORD, PASSWORD)
    company.run("user", "add", "chief", "--role", "admin")
    assert "not the same" in company.remarks
    assert _HASHER.verify(kept(company)["chief"].password, PASSWORD)


def test_without_a_terminal_the_password_has_to_be_given(company: Company, typed: type[Typed]) -> None:
    typed.line("")
    company.run("user", "add", "chief", "--role", "admin", code=2)
    assert "--password-stdin" in company.remarks


@pytest.mark.parametrize(
    ("words", "password", "code", "why"),
    [
        (["anna", "--role", "boss"], PASSWORD, 1, 'unknown role "boss"'),
        (["anna", "--role", "crm"], PASSWORD, 1, 'unknown role "crm"'),
        (["anna", "--role", "agent"], PASSWORD, 1, "whose calls"),
        (["anna", "--role", "agent", "--agent", "ana"], PASSWORD, 1, 'did you mean "anna"'),
        (["an na", "--role", "admin"], PASSWORD, 1, "letters, digits"),
        (["anna", "--role", "admin"], "short", 1, "12 to 128"),
        (["anna", "--role", "admin"], "passwort1234", 1, "tried first"),
        (["anna", "--role", "admin"], "x" * 300, 1, "12 to 128"),
    ],
)
def test_who_makes_no_sense_is_not_added(
    company: Company, typed: type[Typed], words: list[str], password: str, code: int, why: str
) -> None:
    typed.line(f"{password}\n")
    company.run("user", "add", *words, "--password-stdin", code=code)
    assert why in company.remarks
    assert password not in company.remarks
    assert kept(company) == {}


def test_a_change_ends_the_sessions_and_no_other_s(company: Company, typed: type[Typed]) -> None:
    add_anna(company, typed)
    with company.store() as store:
        unit = store.unit()
        for digest, user in (("a", "anna"), ("b", "ben")):
            unit.put_session(SessionRecord(digest, user, 1.0, 1.0, 9e9))
        store.commit_now(unit)
    before = kept(company)["anna"]
    typed.line(f"{ANOTHER}\n")
    company.run("user", "set", "ANNA", "--password-stdin", "--role", "supervisor", "--agent", "")
    after = kept(company)["anna"]
    assert (after.role, after.agent) == ("supervisor", None)
    assert _HASHER.verify(after.password, ANOTHER)
    assert after.changed > before.changed
    with company.store() as store:
        assert store.read.session("a") is None
        assert store.read._all("SELECT digest FROM sessions") == [("b",)]


def test_who_is_disabled_stays_known(company: Company, typed: type[Typed]) -> None:
    add_anna(company, typed)
    company.run("user", "set", "anna", "--disabled", "yes")
    assert "disabled" in company.run("user", "list")
    company.run("user", "set", "anna", "--disabled", "no")
    assert not kept(company)["anna"].disabled


def test_who_is_removed_is_gone(company: Company, typed: type[Typed]) -> None:
    add_anna(company, typed)
    company.run("user", "remove", "anna")
    assert kept(company) == {}
    company.run("user", "remove", "anna", code=1)
    company.run("user", "set", "anna", "--disabled", "yes", code=1)


def test_a_change_of_nothing_says_what_can_be_changed(company: Company, typed: type[Typed]) -> None:
    add_anna(company, typed)
    company.run("user", "set", "anna", code=2)
    assert "--disabled" in company.remarks
    company.run("user", "add", "anna", "--role", "admin", "--password-stdin", code=1)
    assert "already" in company.remarks


def test_a_token_can_be_limited_to_what_there_is(company: Company) -> None:
    company.run("token", "add", "wallboard", "--role", "supervisor", "--scope", "read", "--scope", "events")
    (token,) = company.json("token", "list")["tokens"]
    assert token["scopes"] == ["events", "read"]
    company.run("token", "add", "other", "--role", "supervisor", "--scope", "reed", code=2)
    assert 'did you mean "read"' in company.remarks
    company.run("token", "revoke", "wallboard")
    assert [(entry.action, entry.object) for entry in audit(company)] == [
        ("token.added", "wallboard"),
        ("token.revoked", "wallboard"),
    ]


def test_what_is_changed_of_agents_is_written_down(company: Company) -> None:
    company.run("agents", "add", "cleo", "--phone", "PJSIP/cleo")
    company.run("agents", "set", "cleo", "--name", "Cleo")
    company.run("agents", "remove", "cleo")
    of_cleo = [entry.action for entry in audit(company) if entry.object == "cleo"]
    assert of_cleo == ["agent.added", "agent.changed", "agent.removed"]
