"""The adapter of kind `carddav` with a real Radicale."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from adapters.base import Capability, ListedParty, PartyRef, PartyType
from adapters.carddav import CardDavAdapter, CardDavOptions
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.vcard import Property, VCard, new_vcard, read_vcard
from cti.secret import Secret
from lab.crm.radicale import Radicale
from lab.ports import PortBlock

_ids = itertools.count(1)


@pytest.fixture(scope="module")
def ports() -> Iterator[PortBlock]:
    block = PortBlock.claim()
    yield block
    block.release()


@pytest.fixture(scope="module")
def radicale(tmp_path_factory: pytest.TempPathFactory, ports: PortBlock) -> Iterator[Radicale]:
    with Radicale(tmp_path_factory.mktemp("radicale"), ports.take()) as server:
        yield server


def a_card(listed: ListedParty, uid: str) -> VCard:
    party = listed.party
    more = {"X-OWNER": party.owner, "X-TIER": party.tier, "LANG": party.language, "URL": party.url}
    return VCard(
        (
            *new_vcard(
                uid=uid,
                name=party.name,
                company=party.company,
                numbers=[number.raw for number in listed.numbers],
                notes=party.notes,
                is_company=party.type is PartyType.ORGANISATION,
            ).properties,
            *(Property(name, "").with_text(value) for name, value in more.items() if value),
            *(Property("CATEGORIES", "").with_text(tag) for tag in party.tags),
        )
    )


class RadicaleBench(Bench):
    numbers_as_typed = (
        "+49 152 28817386",
        "0152 28817386",
        "(0152) 288 17 386",
        "+49 (0) 152/28817386",
        "tel:+49-152-28817386",
        "0152.28817386 ext. 4",
    )
    types = (PartyType.CONTACT, PartyType.ORGANISATION)
    keeps = frozenset({"name", "company", "owner", "tier", "language", "tags", "notes", "url"})
    user = "u7"
    breakable = True
    page = 2

    def __init__(self, radicale: Radicale, directory: Path) -> None:
        self._radicale = radicale
        self._directory = directory
        self.book = f"book{next(_ids)}"
        self.url = radicale.make_book(self.book)

    def make(self) -> CardDavAdapter:
        options = CardDavOptions(
            self.url,
            username=self._radicale.user,
            password=Secret(self._radicale.password),
            fields={"owner": "X-OWNER", "tier": "X-TIER"},
            page=self.page,
            seconds=20.0,
        )
        return CardDavAdapter("book", options, a_context(self._directory))

    def plant(self, party: ListedParty) -> PartyRef:
        uid = f"card {next(_ids)}"
        self._radicale.put(self._path(f"{uid}.vcf"), a_card(party, uid).as_text())
        return PartyRef(party.party.type, f"{uid}.vcf")

    def remove(self, ref: PartyRef) -> None:
        if self.card(ref) is not None:
            self._radicale.delete(self._path(ref.id))

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        self._radicale.put(self._path(ref.id), a_card(party, ref.id.removesuffix(".vcf")).as_text())

    def notes(self, ref: PartyRef) -> Sequence[str]:
        card = self.card(ref)
        return [] if card is None else [card.text("NOTE")]

    def card(self, ref: PartyRef) -> VCard | None:
        text = self._radicale.get(self._path(ref.id))
        return None if text is None else read_vcard(text)

    def break_it(self) -> None:
        self._radicale.stop()

    def mend(self) -> None:
        self._radicale.start()

    def _path(self, id: str) -> str:
        return f"/{self._radicale.user}/{self.book}/{id.replace(' ', '%20')}"


class TestCardDavConformance(AdapterConformance):
    capabilities = frozenset(
        {
            Capability.IDENTIFY,
            Capability.CARD,
            Capability.SEARCH,
            Capability.LIST,
            Capability.CHANGES,
            Capability.CREATE,
            Capability.NOTE,
            Capability.NUMBERS,
        }
    )

    @pytest.fixture(autouse=True)
    def _a_bench(self, radicale: Radicale, tmp_path: Path) -> None:
        self._bench = RadicaleBench(radicale, tmp_path)

    def crm(self) -> RadicaleBench:
        return self._bench
