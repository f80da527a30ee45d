"""Tells the CRM of each call with one of its parties: one record for each, brought up to date until all is said.

What is told is the call as it stands in the store when it is told, so that news that waited together are told once.
Order, retries and giving up are the outbox's; how a CRM keeps it is its adapter's; what it reads, `journal_entry`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar, cast

import orjson

from adapters.base import (
    AdapterBusy,
    AdapterDenied,
    AdapterError,
    Capability,
    IAdapter,
    IJournal,
    JournalEntry,
    JournalState,
    PartyRef,
    Written,
)
from cti.calls.journal_entry import Teller, other_side, party_of
from cti.calls.outbox import DeliveryFailed, DeliveryPostponed
from cti.settings import JournalSettings
from cti.store.base import CallDetail, IStore, StoreError, Subscription, Unit
from cti.store.records import CallRecord, Delivery, JournalRecord, JournalTry

T = TypeVar("T")

#: What of a call a CRM is told of that takes it before it is over; whatever it was, it is told how the call stands.
JOURNAL_EVENTS: Final = frozenset(
    {"call.ringing", "call.connected", "call.transferred", "call.ended", "call.updated"}
)
#: And one that takes it only then.
LATE_EVENTS: Final = frozenset({"call.ended", "call.updated"})
#: Calls of which it is remembered what was told last, so that the same is not told twice.
REMEMBERED: Final = 10_000


def destination(adapter: str) -> str:
    """What the outbox calls the journal in this adapter's CRM."""
    return f"crm:{adapter}"


def journaling(
    adapters: Mapping[str, IAdapter], settings: Mapping[str, JournalSettings | None]
) -> Mapping[str, Subscription]:
    """The adapters whose CRM is told of calls, those that can be and are not told not to be, and of which events."""
    return {
        name: subscription(cast(IJournal, adapter), wanted)
        for name, adapter in adapters.items()
        if Capability.JOURNAL in adapter.capabilities and (wanted := settings.get(name)) is not None
    }


def subscription(adapter: IJournal, settings: JournalSettings) -> Subscription:
    """Of most calls a CRM is told nothing, as they are with nobody whom it knows: then nothing is kept for it."""
    name, of_unknown = adapter.name, settings.unknown and adapter.journals_unknown

    def concerns(event: bytes) -> bool:
        data = orjson.loads(b"{" + event)
        if data.get("changed") == ["wrap_up"]:
            return False
        if "party" not in data:
            # It is another one, and whose it was is not said.
            return True
        party = data["party"]
        return of_unknown if party is None else party.get("adapter") == name

    return Subscription(JOURNAL_EVENTS if adapter.journals_early else LATE_EVENTS, concerns)


class Journal:
    """The outbox's `Sender` to one adapter's CRM."""

    def __init__(
        self,
        name: str,
        *,
        adapters: Callable[[], Mapping[str, IAdapter]],
        settings: Callable[[], JournalSettings | None],
        store: IStore,
        teller: Teller,
        blocked: Callable[[str], bool],
        now: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        """`blocked(number)`: whether the lists turn it away. `steady`: seconds, of a clock that nobody sets."""
        self._name = name
        self._adapters = adapters
        self._settings = settings
        self._store = store
        self._teller = teller
        self._blocked = blocked
        self._now = now
        self._steady = steady
        self._began = steady()
        self._told: OrderedDict[str, JournalEntry] = OrderedDict()
        self._tried: OrderedDict[str, float] = OrderedDict()

    async def send(self, delivery: Delivery) -> None:
        adapter, settings = self._adapters().get(self._name), self._settings()
        if adapter is None or settings is None or Capability.JOURNAL not in adapter.capabilities:
            return
        if delivery.call is None:
            return
        try:
            detail = await self._store.call(delivery.call)
        except StoreError as error:
            raise DeliveryFailed(str(error)) from error
        if detail is None:
            return
        try:
            await self._tell(cast(IJournal, adapter), detail, settings)
        except AdapterBusy as error:
            raise DeliveryFailed(str(error), error.retry_after) from error
        except AdapterError as error:
            raise DeliveryFailed(str(error)) from error

    async def _tell(self, adapter: IJournal, detail: CallDetail, settings: JournalSettings) -> None:
        call = detail.call
        before = [each for each in detail.journal if each.adapter == self._name]
        tried = [each for each in detail.tries if each.adapter == self._name]
        known = [Written(each.type, each.id, each.url) for each in before]
        party = party_of(call, self._name)
        unknown = call.party is None and settings.unknown and adapter.journals_unknown
        was = _whose(before) or _whose(tried)
        was = None if was == party else was
        entry = self._teller.entry(self._name, detail, settings, was)
        if party is None and not unknown:
            if before or tried:
                # It was nobody's here after all.
                await self._wait_for_lost(adapter, call.id, tried, settings)
                await self._keep(call.id, await adapter.withdraw(entry, known), None)
                self._told.pop(call.id, None)
            return
        if self._left_out(call, settings):
            return
        over = entry.state in (JournalState.ENDED, JournalState.MISSED)
        if not over and not adapter.journals_early:
            return
        if before and was is None and not adapter.journals_changes:
            return
        if self._told.get(entry.key) == entry:
            return
        if not before or was is not None:
            # What was somebody else's may be made anew.
            await self._wait_for_lost(adapter, call.id, tried, settings)
            await self._try(adapter, call.id, party)
        try:
            written = await adapter.journal(entry, known)
        except (AdapterBusy, AdapterDenied):
            # It has not taken it, and need not be waited for.
            await self._failed_surely(call.id)
            raise
        if tried or not before or _whose(before) != party or set(written) != set(known):
            await self._keep(call.id, written, party)
        _remember(self._told, entry.key, entry)

    def _left_out(self, call: CallRecord, settings: JournalSettings) -> bool:
        """Whether a rule says that this CRM is not told of the call."""
        number = other_side(call) or ""
        return (
            call.direction not in settings.directions
            or (settings.services is not None and call.service not in settings.services)
            or number in settings.without
            or (not settings.blocked and self._blocked(number))
        )

    async def _wait_for_lost(
        self, adapter: IJournal, call: str, tried: Sequence[JournalTry], settings: JournalSettings
    ) -> None:
        """What a CRM was asked for and has not answered may still be done: only later is it found, if it was."""
        lost, now = settings.lost_seconds, self._now()
        if not tried or adapter.journals_by_key:
            return
        left = max(each.at for each in tried) + lost - now
        # The clock may have been set forward since; what is not known to be ours was tried before we began.
        left = max(left, self._tried.get(call, self._began) + lost - self._steady())
        if left <= 0:
            return
        if left > lost:
            # The clock was set back: when it was tried is not known any more.
            left = lost
            await self._try(adapter, call, _whose(tried))
        raise DeliveryPostponed("an earlier try may still be on its way", left)

    async def _try(self, adapter: IJournal, call: str, party: PartyRef | None) -> None:
        """Note that the CRM is asked for a record, so that a server that is killed now knows it."""
        if not adapter.journals_by_key:
            unit = self._store.unit()
            unit.put_journal_try(JournalTry(call, self._name, self._now(), *_kept(party)))
            _remember(self._tried, call, self._steady())
            await self._commit(unit)

    async def _failed_surely(self, call: str) -> None:
        unit = self._store.unit()
        unit.remove_journal_try(call, self._name)
        await self._commit(unit)

    async def _keep(self, call: str, written: Sequence[Written], party: PartyRef | None) -> None:
        at = self._now()
        unit = self._store.unit()
        unit.put_journal(
            call,
            self._name,
            [
                JournalRecord(call, self._name, each.type, each.id, each.url, at, *_kept(party))
                for each in dict.fromkeys(written)
            ],
        )
        # It is told again if that fails, and finds what it has written by the call's key.
        await self._commit(unit)

    async def _commit(self, unit: Unit) -> None:
        try:
            await self._store.commit(unit, at_leisure=True)
        except StoreError as error:
            raise DeliveryFailed(str(error)) from error


def _remember(memory: OrderedDict[str, T], key: str, value: T) -> None:
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)


def _kept(party: PartyRef | None) -> tuple[str | None, str | None]:
    return (None, None) if party is None else (party.type.value, party.id)


def _whose(records: Sequence[JournalRecord | JournalTry]) -> PartyRef | None:
    for each in records:
        if each.party_type is not None and each.party_id is not None:
            return PartyRef(each.party_type, each.party_id)
    return None
