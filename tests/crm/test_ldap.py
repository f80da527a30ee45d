"""The adapter of kind `ldap` with a real slapd, and with a server that misbehaves."""

from __future__ import annotations

import itertools
import socket
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from ldaptor.protocols import pureldap
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from adapters.base import (
    AdapterAnswerError,
    AdapterDenied,
    AdapterTimeout,
    AdapterUnavailable,
    Capability,
    ListedParty,
    PartyRef,
    PartyType,
)
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.ldap import LdapAdapter, LdapOptions
from adapters.ldap_wire import Messages, encoded
from adapters.trial import in_reactor
from cti.numbers import NumberPlan
from cti.secret import Secret
from lab.crm.slapd import PASSWORD, PEOPLE, READER, SUFFIX, Slapd, ldap_program
from lab.daemon import Daemon
from lab.ports import LOOPBACK, PortBlock
from lab.processes import eventually
from tests.certificates import Authority

PLAN = NumberPlan("DE")
_ids = itertools.count(1)
#: An attribute of a schema that compares numbers as Active Directory does: letter by letter.
SCHEMA = """\
attributetype ( 1.3.6.1.4.1.55555.1.1 NAME 'directNumber' EQUALITY caseIgnoreMatch
  SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.55555.2.1 NAME 'callee' SUP top AUXILIARY MAY ( directNumber ) )
"""


@pytest.fixture(scope="module")
def ports() -> Iterator[PortBlock]:
    block = PortBlock.claim()
    yield block
    block.release()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def slapd(
    tmp_path_factory: pytest.TempPathFactory, ports: PortBlock, authority: Authority
) -> Iterator[Slapd]:
    with Slapd(
        tmp_path_factory.mktemp("slapd"),
        ports.take(),
        tls_port=ports.take(),
        certificate=authority.issue("localhost"),
        schemas=SCHEMA,
    ) as server:
        yield server


def an_entry(rdn: str, attributes: dict[str, Sequence[str]]) -> str:
    lines = [f"dn: {rdn},{PEOPLE}"]
    for name, values in attributes.items():
        lines += [f"{name}:: {b64encode(value.encode()).decode()}" for value in values if value]
    return "\n".join(lines) + "\n"


def a_person(listed: ListedParty, uid: str) -> str:
    party = listed.party
    if party.type is PartyType.ORGANISATION:
        shown: dict[str, Sequence[str]] = {"objectClass": ["organization", "uidObject"], "o": [party.name]}
    else:
        shown = {
            "objectClass": ["inetOrgPerson", "callee"],
            "cn": [party.name],
            "sn": [party.name.split()[-1]],
            "o": [party.company],
            "employeeNumber": [f"4711-{uid}"],
            "preferredLanguage": [party.language or ""],
            "labeledURI": [party.url or ""],
            "mobile": [],
        }
    return an_entry(
        f"uid={uid}",
        {
            **shown,
            "uid": [uid],
            "telephoneNumber": [number.raw for number in listed.numbers],
            "businessCategory": party.tags,
            "description": [party.notes],
        },
    )


class SlapdBench(Bench):
    numbers_as_typed = (
        "+49 152 28817386",
        "0152 28817386",
        "(0152) 288 17 386",
        "+49 (0) 152/28817386",
        "0049-152-28817386",
        "0152.28817386",
        "+49 152 28817386 ext. 4",
    )
    types = (PartyType.CONTACT, PartyType.ORGANISATION)
    keeps = frozenset({"name", "company", "language", "tags", "notes", "url"})
    page = 2
    tells_gone = False
    breakable = True

    def __init__(self, slapd: Slapd, directory: Path) -> None:
        self._slapd = slapd
        self._directory = directory
        self._uids: dict[PartyRef, str] = {}

    def make(self) -> LdapAdapter:
        options = LdapOptions(
            url=self._slapd.url,
            base=PEOPLE,
            bind_dn=READER,
            password=Secret(PASSWORD),
            keys={"customer": "employeeNumber"},
            users_base=PEOPLE,
            page=self.page,
            seconds=20.0,
        )
        return LdapAdapter("company", options, a_context(self._directory))

    def plant(self, party: ListedParty) -> PartyRef:
        uid = f"u{next(_ids)}"
        self._slapd.add(a_person(party, uid))
        ref = PartyRef(party.party.type, self._uuid(uid))
        self._uids[ref] = uid
        return ref

    def remove(self, ref: PartyRef) -> None:
        if (uid := self._uids.pop(ref, None)) is not None:
            self._slapd.delete(f"uid={uid},{PEOPLE}")

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        numbers = "".join(f"telephoneNumber: {number.raw}\n" for number in party.numbers)
        self._slapd.modify(
            f"dn: uid={self._uids[ref]},{PEOPLE}\nchangetype: modify\nreplace: telephoneNumber\n{numbers}"
        )

    def key_of(self, ref: PartyRef) -> tuple[str, str]:
        return "customer", f"4711-{self._uids[ref]}"

    def break_it(self) -> None:
        self._slapd.stop()

    def mend(self) -> None:
        self._slapd.start()

    def clear(self) -> None:
        for ref in list(self._uids):
            self.remove(ref)

    def _uuid(self, uid: str) -> str:
        for line in self._slapd.search(f"(uid={uid})", "entryUUID").splitlines():
            if line.startswith("entryUUID: "):
                return line.partition(": ")[2]
        raise AssertionError("slapd gives every entry a UUID")


class TestLdapConformance(AdapterConformance):
    capabilities = frozenset(
        {
            Capability.IDENTIFY,
            Capability.CARD,
            Capability.SEARCH,
            Capability.LIST,
            Capability.CHANGES,
            Capability.KEY,
            Capability.USERS,
        }
    )

    @pytest.fixture(autouse=True)
    def _a_bench(self, slapd: Slapd, tmp_path: Path) -> Iterator[None]:
        self._bench = SlapdBench(slapd, tmp_path)
        yield
        self._bench.clear()

    def crm(self) -> SlapdBench:
        return self._bench


def an_adapter(slapd: Slapd, tmp_path: Path, **changes: Any) -> LdapAdapter:
    options = LdapOptions(
        **{
            "url": slapd.url,
            "base": PEOPLE,
            "bind_dn": READER,
            "password": Secret(PASSWORD),
            "seconds": 20.0,
            **changes,
        }
    )
    return LdapAdapter("company", options, a_context(tmp_path))


def ask(adapter: LdapAdapter, question: str, *arguments: Any) -> Any:
    """The answer of a fresh adapter that is stopped afterwards."""

    async def asked() -> Any:
        await adapter.start()
        try:
            return await getattr(adapter, question)(*arguments)
        finally:
            await adapter.stop()

    return in_reactor(asked)


ADA = "+4915228817386"


@pytest.fixture
def ada(slapd: Slapd) -> Iterator[str]:
    """Somebody in the directory, as a German administrator types them."""
    uid = f"u{next(_ids)}"
    slapd.add(
        an_entry(
            f"uid={uid}",
            {
                "objectClass": ["inetOrgPerson", "callee"],
                "uid": [uid],
                "cn": ["Ada Müller (Süd)"],
                "sn": ["Müller"],
                "telephoneNumber": ["(0152) 288 17 386"],
                "directNumber": ["+49 (0)171/39200-42"],
                "employeeNumber": ["K-7"],
            },
        )
    )
    yield uid
    slapd.delete(f"uid={uid},{PEOPLE}")


@pytest.mark.parametrize("start_tls", [True, False], ids=["StartTLS", "LDAPS"])
def test_tls_is_verified(
    slapd: Slapd, ada: str, tmp_path: Path, authority: Authority, start_tls: bool
) -> None:
    port = slapd.port if start_tls else slapd.tls_port
    scheme = "ldap" if start_tls else "ldaps"
    good, other = tmp_path / "good.pem", tmp_path / "other.pem"
    good.write_text(authority.pem)
    other.write_text(Authority("another").pem)
    changes: dict[str, Any] = {"url": f"{scheme}://localhost:{port}", "start_tls": start_tls}
    (party,) = ask(an_adapter(slapd, tmp_path, ca_file=good, **changes), "identify", PLAN.parse(ADA))
    assert party.name == "Ada Müller (Süd)"
    with pytest.raises(AdapterUnavailable, match="not trusted here: `ca_file: FILE`"):
        ask(an_adapter(slapd, tmp_path, ca_file=other, **changes), "identify", PLAN.parse(ADA))
    changes["url"] = f"{scheme}://127.0.0.1:{port}"
    with pytest.raises(AdapterUnavailable, match="is for localhost, not for 127"):
        ask(an_adapter(slapd, tmp_path, ca_file=good, **changes), "identify", PLAN.parse(ADA))


def test_a_wrong_password_is_told_and_not_tried_over_and_over(slapd: Slapd, tmp_path: Path) -> None:
    adapter = an_adapter(slapd, tmp_path, password=Secret("wrong"))

    async def asked() -> list[str]:
        await adapter.start()
        told = []
        for _ in range(3):
            try:
                await adapter.identify(PLAN.parse(ADA))
            except AdapterDenied as error:
                told.append(str(error))
        await adapter.stop()
        return told

    binds = slapd_binds(slapd)
    told = in_reactor(asked)
    assert len(told) == 3
    assert "`bind_dn` with `password`" in told[0]
    assert "wrong" not in told[0]
    # An account is locked after some wrong passwords.
    assert slapd_binds(slapd) - binds == 1


def slapd_binds(slapd: Slapd) -> int:
    """How often somebody tried to log in as the reader, by the server's own log."""
    return (
        (slapd.directory / "slapd.log").read_text("utf-8", "replace").count(f'BIND dn="{READER}" method=128')
    )


def test_a_base_that_is_not_there_is_an_error_and_nobody_is_none(slapd: Slapd, tmp_path: Path) -> None:
    with pytest.raises(AdapterAnswerError, match="`base`"):
        ask(an_adapter(slapd, tmp_path, base=f"ou=nowhere,{SUFFIX}"), "identify", PLAN.parse(ADA))


def test_numbers_are_found_where_the_schema_compares_letter_by_letter(
    slapd: Slapd, ada: str, tmp_path: Path
) -> None:
    adapter = an_adapter(slapd, tmp_path, attributes={"numbers": ["directNumber"]})
    (party,) = ask(adapter, "identify", PLAN.parse("+491713920042"))
    assert party.name == "Ada Müller (Süd)"
    by_suffix = an_adapter(slapd, tmp_path, attributes={"numbers": ["directNumber"]}, match="suffix")
    assert ask(by_suffix, "identify", PLAN.parse("+491713920042")) == []


def test_a_configured_filter_is_read_byte_for_byte(slapd: Slapd, ada: str, tmp_path: Path) -> None:
    for filter, found in (
        ("(&(objectClass=person)(sn=M\\c3\\bcller))", 1),
        ("(cn=*\\28S*d\\29)", 1),
        ("(!(sn=Müller))", 0),
        ("(|(sn>=N)(sn~=x))", 0),
    ):
        assert len(ask(an_adapter(slapd, tmp_path, filter=filter), "identify", PLAN.parse(ADA))) == found, (
            filter
        )


def test_a_key_is_compared_whole(slapd: Slapd, ada: str, tmp_path: Path) -> None:
    keys = {"keys": {"customer": "employeeNumber"}, "sensitive_keys": ["customer"]}
    adapter = an_adapter(slapd, tmp_path, **keys)
    assert [(each.name, each.sensitive) for each in adapter.keys] == [("customer", True)]
    assert [each.match for each in ask(adapter, "by_key", "customer", "k-7")] == ["key"]
    assert ask(an_adapter(slapd, tmp_path, **keys), "by_key", "customer", "*") == []


def test_a_list_that_the_server_ends_early_is_no_list(slapd: Slapd, tmp_path: Path, ports: PortBlock) -> None:
    with Slapd(tmp_path / "small", ports.take(), size_limit=3) as small:
        for number in range(5):
            small.add(
                an_entry(
                    f"cn=n{number}", {"objectClass": ["inetOrgPerson"], "cn": [f"n{number}"], "sn": ["x"]}
                )
            )

        async def everybody(adapter: LdapAdapter) -> None:
            after = None
            while (after := (await adapter.list(after)).after) is not None:
                pass

        adapter = an_adapter(small, tmp_path, page=2)
        in_reactor(adapter.start)
        with pytest.raises(AdapterAnswerError, match="size=unlimited"):
            in_reactor(everybody, adapter)
        in_reactor(adapter.stop)


def test_options_that_would_give_the_password_away_are_refused() -> None:
    good: dict[str, Any] = {"base": PEOPLE, "bind_dn": READER, "password": Secret("x")}
    for url, tls in (
        ("ldap://ldap.example", True),
        ("ldaps://ldap.example", False),
        ("ldap://localhost", False),
    ):
        LdapOptions(url=url, start_tls=tls, **good)
    with pytest.raises(ValueError, match="as it is"):
        LdapOptions(url="ldap://ldap.example", **good)
    with pytest.raises(ValueError, match="belong together"):
        LdapOptions(url="ldaps://ldap.example", base=PEOPLE, bind_dn=READER)
    for address in ("http://x", "ldap://", "ldap://host/dc=x", "ldap://user@host"):
        with pytest.raises(ValueError, match="ldaps://"):
            LdapOptions(url=address, base=PEOPLE)
    for wrong in ("objectClass=person", "(cn=x", "(cn=x))", "()", "(&)", "(" * 99):
        with pytest.raises(ValueError, match="no filter"):
            LdapOptions(url="ldap://localhost", base=PEOPLE, filter=wrong)


# A server that misbehaves.

BIND_OK = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"


@contextmanager
def a_liar(*answers: bytes, hang: bool = False) -> Iterator[tuple[int, list[bytes]]]:
    """Answers each request with the next of these, whatever it was; then hangs up, or says nothing more."""
    server = socket.create_server((LOOPBACK, 0))
    heard: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                for answer in answers:
                    heard.append(connection.recv(65536))
                    connection.sendall(answer)
                while hang and (more := connection.recv(65536)):
                    heard.append(more)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], heard
    finally:
        server.close()


def an_entry_message(*numbers: bytes, size: int = 0) -> bytes:
    operation = pureldap.LDAPSearchResultEntry(
        b"cn=everybody",
        [
            (b"entryUUID", [b"e1"]),
            (b"cn", [b"Everybody" + b"x" * size]),
            (b"telephoneNumber", list(numbers)),
        ],
    )
    return encoded(2, operation)


DONE = encoded(2, pureldap.LDAPSearchResultDone(0))
REFERENCE = encoded(
    2, pureldap.LDAPSearchResultReference([pureldap.LDAPString(b"ldap://127.0.0.1:1/dc=evil")])
)


def liar_says(tmp_path: Path, *answers: bytes) -> Any:
    with a_liar(BIND_OK, *answers) as (port, _):
        options = LdapOptions(
            url=f"ldap://127.0.0.1:{port}", base=PEOPLE, bind_dn=READER, password=Secret("x"), seconds=10.0
        )
        return ask(LdapAdapter("liar", options, a_context(tmp_path)), "identify", PLAN.parse(ADA))


def test_everybody_instead_of_nobody_is_nobody(tmp_path: Path) -> None:
    everybody = [an_entry_message(b"+49 30 23125 %03d" % number) for number in range(50)]
    assert liar_says(tmp_path, b"".join(everybody) + DONE) == []
    assert len(liar_says(tmp_path, an_entry_message(b"0152/28817386") + DONE)) == 1


def test_a_reference_to_another_server_is_not_followed(tmp_path: Path) -> None:
    assert liar_says(tmp_path, REFERENCE + DONE) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x30\x84\x7f\xff\xff\xff" + b"x" * 100,
        b"\x30\x05\x02\x01\x02\xff\x00",
        encoded(2, pureldap.LDAPBindRequest(3, "x", "y")),
        encoded(2, pureldap.LDAPSearchResultDone(10)),
        b"".join(an_entry_message(b"1", size=900_000) for _ in range(20)),
    ],
    ids=["http", "huge", "unknown", "request", "referral", "16 MB"],
)
def test_nonsense_is_an_error_that_says_what_it_was(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(AdapterAnswerError):
        liar_says(tmp_path, answer)


def test_a_server_that_says_nothing_is_a_timeout_and_the_question_is_abandoned(tmp_path: Path) -> None:
    with a_liar(BIND_OK, hang=True) as (port, _):
        options = LdapOptions(
            url=f"ldap://127.0.0.1:{port}", base=PEOPLE, bind_dn=READER, password=Secret("x"), seconds=0.5
        )
        began = time.monotonic()
        with pytest.raises(AdapterTimeout):
            ask(LdapAdapter("liar", options, a_context(tmp_path)), "identify", PLAN.parse(ADA))
        assert time.monotonic() - began < 10


def test_a_question_that_is_given_up_is_abandoned_at_the_server(tmp_path: Path) -> None:
    with a_liar(BIND_OK, hang=True) as (port, heard):
        options = LdapOptions(
            url=f"ldap://127.0.0.1:{port}", base=PEOPLE, bind_dn=READER, password=Secret("x"), seconds=20.0
        )
        adapter = LdapAdapter("liar", options, a_context(tmp_path))
        abandon = encoded(3, pureldap.LDAPAbandonRequest(id=2))

        async def give_up() -> None:
            await adapter.start()
            question = Deferred.fromCoroutine(adapter.identify(PLAN.parse(ADA)))
            while len(heard) < 2:
                await deferLater(cast(Any, reactor), 0.02)
            question.cancel()
            with suppress(CancelledError):
                await question
            while abandon not in b"".join(heard):
                await deferLater(cast(Any, reactor), 0.02)
            await adapter.stop()

        from twisted.internet import reactor

        in_reactor(give_up)


@pytest.mark.parametrize("cut", range(0, len(DONE), 3))
def test_messages_are_read_however_they_are_cut(cut: int) -> None:
    messages = Messages(10_000)
    whole = an_entry_message(b"1") + DONE
    found = [*messages.feed(whole[:cut]), *messages.feed(whole[cut:])]
    assert [type(each.operation).__name__ for each in found] == [
        "LDAPSearchResultEntry",
        "LDAPSearchResultDone",
    ]


def test_phones_find_who_is_in_the_directory(
    slapd: Slapd, ada: str, tmp_path: Path, ports: PortBlock
) -> None:
    """The whole way: slapd, the phone index, the phonebook, and a phone's two ways to ask."""
    http, agi, ldap, xml = (ports.take() for _ in range(4))
    settings = {
        "region": "DE",
        "store": {"sqlite": "cti.db"},
        "http": {"listen": f"{LOOPBACK}:{http}"},
        "fastagi": {"listen": f"{LOOPBACK}:{agi}"},
        "asterisks": {"main": {"ami": f"{LOOPBACK}:{ports.take()}", "username": "cti", "secret": "none"}},
        "adapters": {
            "company": {
                "kind": "ldap",
                "url": slapd.url,
                "base": PEOPLE,
                "bind_dn": READER,
                "password": {"env": "LDAP_PASSWORD"},
            }
        },
        "services": {
            "sales": {"numbers": ["+494066969100"], "mode": "observe", "fallback": "old,s,1", "rules": []}
        },
        "phonebook": {
            "title": "Company",
            "prefix": "0",
            "ldap": {"listen": f"{LOOPBACK}:{ldap}", "password": {"env": "PHONES_PASSWORD"}},
            "xml": {"listen": f"{LOOPBACK}:{xml}", "token": "a-word-to-know"},
        },
    }
    environment = {"LDAP_PASSWORD": PASSWORD, "PHONES_PASSWORD": "phones"}
    daemon = Daemon(tmp_path / "cti", settings, http, agi, environment=environment)
    daemon.start(60, with_ami=False)
    try:

        def by_ldap(filter: str) -> str:
            return ldap_program(
                "ldapsearch",
                f"ldap://{LOOPBACK}:{ldap}",
                "cn=phones,ou=phonebook",
                "phones",
                *("-LLL", "-b", "ou=phonebook", filter, "cn", "mobile"),
            )

        assert "mobile: 0015228817386" in eventually(lambda: by_ldap("(|(cn=mül*)(sn=mül*))"), 60)
        assert "cn:: " in by_ldap("(telephoneNumber=015228817386)")
        address = f"http://{LOOPBACK}:{xml}/phonebook/a-word-to-know/yealink.xml?q=ada"
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert (
                "<Name>Ada Müller (Süd)</Name><Telephone>0015228817386</Telephone>" in answer.read().decode()
            )
    finally:
        assert daemon.stop() == 0
    log = daemon.output.read_text()
    assert "Müller" not in log
    assert "28817386" not in log
    assert PASSWORD not in log
