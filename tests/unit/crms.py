"""A CRM for tests, with all that a party may be found by; what it is asked and how it answers is in the open."""

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from adapters.base import (
    AdapterContext,
    AdapterHealth,
    Appointment,
    Capability,
    Case,
    KeyKind,
    LastContact,
    Link,
    Party,
    PartyRef,
    Task,
)
from cti.numbers import Number

KATJA = Party(
    adapter="crm",
    type="contact",
    id="1001",
    name="Katja Brandt",
    company="Bootswerft Brandt",
    owner="u1",
    tier="gold",
)
#: The same person with all that a card can have.
KATJA_WHOLE = Party(
    adapter="crm",
    type="contact",
    id="1001",
    name="Katja Brandt",
    company="Bootswerft Brandt",
    url="https://crm.example/contacts/1001",
    owner="u1",
    tier="gold",
    language="de",
    tags=("boats",),
    cases=(Case("T-7", "Bilge pump loses pressure", "open", "2026-10-01T09:00:00Z"),),
    last_contacts=(LastContact("2026-11-02T10:30:00Z", "call", "u1", "Asked for the service dates."),),
    notes="Prefers a call to a mail.",
    appointments=(Appointment("A-3", "2026-12-01T09:00:00Z", "Service on site", "u1"),),
    tasks=(Task("B-9", "Send the offer", "2026-11-30T12:00:00Z", "u1"),),
    balance="EUR 1,250.00 open",
    dunning="first reminder",
    links=(Link("Contract", "https://crm.example/contracts/5"),),
)
KAI = Party(
    adapter="crm", type="contact", id="1002", name="Kai Brandt", company="Bootswerft Brandt", owner="u2"
)
NUMBERS = {"+4915228817386": KATJA, "+4915228895456": KAI}
KEYS = {("customer", "4711"): KATJA, ("card", "4929123412341234"): KAI}


@frozen
class CrmOptions:
    """`card_seconds`: what this CRM takes to tell all that it knows of somebody."""

    card_seconds: float = 0.0


class Crm:
    """Fails with `fails`, or `hangs`, whatever is asked; `asked` says what was, `waiting` what waits for ever."""

    options_class = CrmOptions

    def __init__(self, name: str = "crm", options: Any = None, context: AdapterContext | None = None) -> None:
        self.name = name
        self._card_seconds = 0.0 if options is None else options.card_seconds
        self._reactor: Any = None if context is None else context.reactor
        self.capabilities = frozenset(
            {Capability.IDENTIFY, Capability.KEY, Capability.SEARCH, Capability.CARD}
        )
        self.keys: Sequence[KeyKind] = (
            KeyKind("customer", "Customer number"),
            KeyKind("card", "Card number", sensitive=True),
        )
        self.people: list[Party] = [KATJA, KAI]
        self.whole: dict[str, Party] = {"1001": KATJA_WHOLE, "1002": KAI}
        self.asked: list[tuple[str, Any]] = []
        self.fails: Exception | None = None
        self.hangs = False
        self.waiting: list[Deferred[None]] = []

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def health(self) -> AdapterHealth:
        return AdapterHealth(True)

    async def identify(self, number: Number) -> Sequence[Party]:
        await self._ask("number", number.e164)
        found = NUMBERS.get(number.e164 or "")
        return [] if found is None else [self._own(found)]

    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        await self._ask(kind, value)
        found = KEYS.get((kind, value))
        return [] if found is None else [self._own(found)]

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        await self._ask("words", words)
        wanted = words.casefold().split()
        return [
            self._own(each)
            for each in self.people
            if all(word in f"{each.name} {each.company}".casefold() for word in wanted)
        ][:limit]

    async def card(self, party: PartyRef) -> Party | None:
        await self._ask("card", party.id)
        if self._card_seconds:
            await deferLater(self._reactor, self._card_seconds)
        found = self.whole.get(party.id)
        return None if found is None else self._own(found)

    async def _ask(self, by: str, what: Any) -> None:
        self.asked.append((by, what))
        if self.fails is not None:
            raise self.fails
        if self.hangs:
            self.waiting.append(Deferred())
            await self.waiting[-1]

    def _own(self, party: Party) -> Party:
        return evolve(party, adapter=self.name)
