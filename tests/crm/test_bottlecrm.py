"""A real BottleCRM, where there is a Python 3.12 or later: what every adapter is held to, as far as it goes."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

import adapters.bottlecrm
from adapters.base import AdapterDenied, Capability, IAdapter, ListedParty, PartyRef
from adapters.bottlecrm import BottleCrmAdapter, BottleCrmOptions
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.trial import in_reactor
from cti.secret import Secret
from lab.crm.bottlecrm import BottleCrm
from lab.ports import PortBlock


@pytest.fixture(scope="module")
def bottlecrm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BottleCrm]:
    ports = PortBlock.claim()
    with BottleCrm(tmp_path_factory.mktemp("bottlecrm"), ports.take(), ports.take()) as running:
        yield running
    ports.release()


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.bottlecrm, "_PAGE", BottleBench.page)


def an_adapter(bottlecrm: BottleCrm, base: Path, **options: Any) -> BottleCrmAdapter:
    given = {"url": bottlecrm.url, "token": Secret(bottlecrm.token), "seconds": 20.0, **options}
    return BottleCrmAdapter("crm", BottleCrmOptions(**given), a_context(base))


class BottleBench(Bench):
    # A slash it does not take.
    numbers_as_typed = ("+49 152 28817386", "0152 28817386", "(0152) 288-17386", "+49 (40) 66969-0")
    numbers_held = 1
    keeps = frozenset({"name", "company", "owner", "notes"})
    page = 4
    breakable = True

    def __init__(self, bottlecrm: BottleCrm, base: Path) -> None:
        self.bottlecrm = bottlecrm
        self.base = base
        self.user = bottlecrm.profile

    def make(self) -> IAdapter:
        return an_adapter(self.bottlecrm, self.base)

    def plant(self, party: ListedParty) -> PartyRef:
        first, _, last = party.party.name.rpartition(" ")
        made = self.bottlecrm.request(
            "POST",
            "contacts/",
            {
                # A last name there has to be.
                "first_name": first or last,
                "last_name": last if first else "-",
                "phone": party.numbers[0].raw,
                "organization": party.party.company,
                "description": party.party.notes,
                "assigned_to": [party.party.owner] if party.party.owner else [],
            },
        )
        return PartyRef(party.party.type, made["id"])

    def remove(self, ref: PartyRef) -> None:
        with suppress(urllib.error.HTTPError):
            self.bottlecrm.request("DELETE", f"contacts/{ref.id}/")

    def journaled(self, number: str) -> Sequence[str]:
        return self.bottlecrm.sql(
            "SELECT replace(subject || ' ' || body, E'\\n', ' ') FROM interaction"
            f" JOIN contacts ON contacts.id = contact_id WHERE phone_e164 = '{number}'"
        ).splitlines()

    def notes(self, ref: PartyRef) -> Sequence[str]:
        return self.bottlecrm.sql(
            f"SELECT replace(comment, E'\\n', ' ') FROM comment WHERE object_id = '{ref.id}'"
        ).splitlines()

    def break_it(self) -> None:
        self.bottlecrm.stop()

    def mend(self) -> None:
        self.bottlecrm.start()


class TestBottleCrm(AdapterConformance):
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.IDENTIFY,
            Capability.CARD,
            Capability.SEARCH,
            Capability.LIST,
            Capability.USERS,
            Capability.CREATE,
            Capability.JOURNAL,
            Capability.NOTE,
        }
    )

    @pytest.fixture(autouse=True)
    def _bench(self, bottlecrm: BottleCrm, tmp_path: Path) -> None:
        self.bench = BottleBench(bottlecrm, tmp_path)

    def crm(self) -> Bench:
        return self.bench


def test_a_token_that_is_none_is_denied(bottlecrm: BottleCrm, tmp_path: Path) -> None:
    adapter = an_adapter(bottlecrm, tmp_path, token=Secret("bcrm_pat_no_such_token"))
    with pytest.raises(AdapterDenied) as refused:
        in_reactor(adapter.start)
    in_reactor(adapter.stop)
    assert "no_such_token" not in str(refused.value)
