"""Each preset against a strict fake of its CRM, by the conformance suite and by what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.base import Capability
from adapters.conformance import AdapterConformance
from tests.crm.benches import FakeBench, two_names
from tests.crm.fakes import FakeCrm
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
