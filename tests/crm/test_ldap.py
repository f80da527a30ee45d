"""The adapter of kind `ldap` with a real slapd."""

from __future__ import annotations

import itertools
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from adapters.base import (
    Capability,
    ListedParty,
    PartyRef,
    PartyType,
)
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.ldap import LdapAdapter, LdapOptions
from cti.numbers import NumberPlan
from cti.secret import Secret
from lab.crm.slapd import PASSWORD, PEOPLE, READER, Slapd
from lab.ports import PortBlock
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
