"""A real Tryton 8: what every adapter is held to, with an ordinary user's rights, and what Tryton has of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

import adapters.tryton
from adapters.base import AdapterDenied, Capability, IAdapter, ListedParty, PartyRef, PartyType
from adapters.conformance import AdapterConformance, Bench, a_context
from adapters.trial import in_reactor
from adapters.tryton import TrytonAdapter, TrytonOptions
from cti.secret import Secret
from lab.crm.tryton import DATABASE, Tryton
from lab.ports import PortBlock

PASSWORD = "reads parties, writes notes"
PAGE = 4


@pytest.fixture(scope="module")
def tryton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tryton]:
    ports = PortBlock.claim()
    with Tryton(tmp_path_factory.mktemp("tryton"), ports.take()) as running:
        # In no group: who may use Tryton at all may do what the adapter needs.
        running.call(
            "model.res.user.create", [{"name": "Cordboard", "login": "cordboard", "password": PASSWORD}]
        )
        yield running
    ports.release()


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters.tryton, "_PAGE", PAGE)


def an_adapter(tryton: Tryton, base: Path, **options: Any) -> TrytonAdapter:
    given = {"url": tryton.url, "database": DATABASE, "user": "cordboard", "password": Secret(PASSWORD)}
    return TrytonAdapter("crm", TrytonOptions(**{**given, **options}), a_context(base))


class TrytonBench(Bench):
    # Tryton takes no national number of a party without an address.
    numbers_as_typed = ("+49 152 28817386", "+49 (40) 66969-0", "+44/20/7946/0123", "tel:+49-30-23125-190")
    types = (PartyType.CONTACT,)
    page = PAGE
    breakable = True

    def __init__(self, tryton: Tryton, base: Path) -> None:
        self.tryton = tryton
        self.base = base

    def make(self) -> IAdapter:
        return an_adapter(self.tryton, self.base)

    def plant(self, party: ListedParty) -> PartyRef:
        numbers = [{"type": "phone", "value": number.raw} for number in party.numbers]
        (id,) = self.tryton.call(
            "model.party.party.create",
            [{"name": party.party.name, "contact_mechanisms": [["create", numbers]]}],
        )
        return PartyRef(party.party.type, str(id))

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        id = int(ref.id)
        old = self.tryton.call("model.party.contact_mechanism.search", [["party", "=", id]], 0, None, None)
        numbers = [{"type": "phone", "value": number.raw} for number in party.numbers]
        self.tryton.call(
            "model.party.party.write",
            [id],
            {"name": party.party.name, "contact_mechanisms": [["delete", old], ["create", numbers]]},
        )

    def remove(self, ref: PartyRef) -> None:
        # As people do: who was ever on a document cannot be deleted.
        self.tryton.call("model.party.party.write", [int(ref.id)], {"active": False})

    def key_of(self, ref: PartyRef) -> tuple[str, str]:
        (record,) = self.tryton.call("model.party.party.read", [int(ref.id)], ["code"])
        return "customer", record["code"]

    def journaled(self, number: str) -> Sequence[str]:
        parties = self.tryton.call(
            "model.party.party.search", [["contact_mechanisms.value_compact", "=", number]], 0, None, None
        )
        return [note for id in parties for note in self._notes(id)]

    def notes(self, ref: PartyRef) -> Sequence[str]:
        return self._notes(int(ref.id))

    def _notes(self, id: int) -> list[str]:
        found = self.tryton.call(
            "model.ir.note.search_read", [["resource", "=", f"party.party,{id}"]], 0, None, None, ["message"]
        )
        return [each["message"] for each in found]

    def break_it(self) -> None:
        self.tryton.stop()

    def mend(self) -> None:
        self.tryton.start()


class TestTryton(AdapterConformance):
    capabilities: ClassVar[frozenset[Capability]] = frozenset(Capability) - {
        Capability.CONTACT_FILE,
        Capability.NUMBERS,
        Capability.TASK,
    }

    @pytest.fixture(autouse=True)
    def _bench(self, tryton: Tryton, tmp_path: Path) -> None:
        self.bench = TrytonBench(tryton, tmp_path)

    def crm(self) -> Bench:
        return self.bench

    def _numbers(self, bench: Bench) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Tryton takes only numbers that libphonenumber believes, which those of British films are not."""
        for n, numbers in super()._numbers(bench):
            yield n, numbers if n == 0 else (f"+4917139200{n:03}",)


def test_a_session_that_ended_is_begun_again(tryton: Tryton, tmp_path: Path) -> None:
    adapter = an_adapter(tryton, tmp_path)
    in_reactor(adapter.start)
    try:
        # A password that is set, be it the same, ends all sessions.
        (user,) = tryton.call("model.res.user.search", [["login", "=", "cordboard"]], 0, None, None)
        tryton.call("model.res.user.write", [user], {"password": PASSWORD})
        assert in_reactor(adapter.health).up
    finally:
        in_reactor(adapter.stop)


def test_a_wrong_password_is_said_and_not_repeated(tryton: Tryton, tmp_path: Path) -> None:
    adapter = an_adapter(tryton, tmp_path, password=Secret("no such word at all"))
    with pytest.raises(AdapterDenied) as refused:
        in_reactor(adapter.start)
    in_reactor(adapter.stop)
    assert "password" in str(refused.value)
    assert "no such word" not in str(refused.value)


def test_a_card_has_the_last_notes(tryton: Tryton, tmp_path: Path) -> None:
    bench = TrytonBench(tryton, tmp_path)
    adapter = an_adapter(tryton, tmp_path)
    in_reactor(adapter.start)
    try:
        (id,) = tryton.call("model.party.party.create", [{"name": "Ada"}])
        ref = PartyRef(PartyType.CONTACT, id)
        in_reactor(adapter.note, ref, "Likes mornings.")
        card = in_reactor(adapter.card, ref)
        assert card is not None
        assert [contact.summary for contact in card.last_contacts] == ["Likes mornings."]
        assert card.url == f"{tryton.url}/#{DATABASE}/model/party.party/{id}"
    finally:
        in_reactor(adapter.stop)
        bench.remove(ref)
