"""Each preset against a strict fake of its CRM, by the conformance suite and by what is its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from adapters.base import Capability, ListedParty, PartyType
from adapters.conformance import AdapterConformance
from tests.crm.benches import FakeBench, two_names
from tests.crm.fakes import FakeCrm, bitrix24, webhook
from tests.crm.fakes.bitrix24 import Bitrix24
from tests.crm.fakes.webhook import HomeMade
from tests.crm.fakes.zammad import CTI_TOKEN, TOKEN, Zammad

READS = frozenset({Capability.IDENTIFY, Capability.SEARCH, Capability.LIST})


class PresetConformance(AdapterConformance):
    """With a fake that is closed again."""

    @pytest.fixture(autouse=True)
    def _fakes(self, tmp_path: Path) -> Iterator[None]:
        self.base = tmp_path
        self.opened: list[FakeCrm] = []
        yield
        for fake in self.opened:
            fake.close()

    def opens(self, fake: FakeCrm) -> FakeCrm:
        self.opened.append(fake)
        return fake


class TestZammad(PresetConformance):
    capabilities = READS | {
        Capability.CARD,
        Capability.CREATE,
        Capability.USERS,
        Capability.JOURNAL,
        Capability.NOTE,
    }

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(Zammad()),
            "zammad",
            self.base,
            fields=lambda party: dict(zip(("firstname", "lastname"), two_names(party), strict=True)),
            secrets={"token": TOKEN, "cti_token": CTI_TOKEN},
            numbers_as_typed=("+49 1522 8817386", "01522 8817386", "4915228817386", "004915228817386"),
            journal_keeps_text=False,
        )


def bitrix_fields(party: ListedParty) -> Mapping[str, str]:
    first, last = two_names(party)
    return {"TITLE": party.party.name, "NAME": first, "LAST_NAME": last}


class TestBitrix24(PresetConformance):
    capabilities = READS | {
        Capability.CARD,
        Capability.CREATE,
        Capability.USERS,
        Capability.JOURNAL,
        Capability.NOTE,
        Capability.TASK,
    }

    def crm(self) -> FakeBench:
        return FakeBench(
            self.opens(Bitrix24()),
            "bitrix24",
            self.base,
            fields=bitrix_fields,
            values={"user": bitrix24.USER},
            secrets={"code": bitrix24.CODE},
            numbers_as_typed=("+49 (1522) 8817386", "01522/8817386", "4915228817386"),
            types=(PartyType.CONTACT, PartyType.ORGANISATION, PartyType.LEAD),
            page=Bitrix24.page_size,
            numbers_held=4,
            user=bitrix24.USER,
        )


class TestWebhook(PresetConformance):
    capabilities = READS | {
        Capability.CARD,
        Capability.CREATE,
        Capability.KEY,
        Capability.USERS,
        Capability.JOURNAL,
        Capability.NOTE,
        Capability.TASK,
    }

    def crm(self) -> FakeBench:
        bench = FakeBench(
            self.opens(HomeMade()),
            "webhook",
            self.base,
            fields=lambda party: (
                {
                    name: value
                    for name, value in party.party.as_json().items()
                    if name in ("name", "company", "tier", "tags", "notes", "language", "balance", "dunning")
                }
                | {"owner": party.party.owner}
            ),
            secrets={"token": webhook.TOKEN},
            numbers_as_typed=("+49 (1522) 8817386", "01522/8817386", "0049 1522 8817386"),
            types=tuple(PartyType),
            page=HomeMade.page_size,
            numbers_held=10,
            user="anna",
            keeps=frozenset({"name", "company", "owner", "tier", "tags", "notes", "language", "balance"}),
        )
        bench.key_of = lambda ref: ("customer", f"K-{ref.id}")  # type: ignore[method-assign]
        return bench
