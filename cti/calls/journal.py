"""Tells the CRM of each call with one of its parties: one record for each, brought up to date until all is said.

What is told is the call as it stands in the store when it is told, so that news that waited together are told once.
Order, retries and giving up are the outbox's; how a CRM keeps it is its adapter's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

import orjson

from adapters.base import (
    AdapterBusy,
    AdapterError,
    Capability,
    IAdapter,
    IJournal,
    JournalEntry,
    JournalState,
    PartyRef,
    Written,
)
from cti.calls.outbox import DeliveryFailed
from cti.settings import JournalSettings
from cti.store.base import CallDetail, IStore, StoreError
from cti.store.records import CallRecord, Delivery, JournalRecord
from routing.rules import Service

#: What of a call a CRM is told of; whatever it was, it is told how the call stands then.
JOURNAL_EVENTS: Final = frozenset(
    {
        "call.ringing",
        "call.connected",
        "call.transferred",
        "call.ended",
        "call.missed",
        "call.updated",
        # Somebody has become known, or another one, after all.
        "card.updated",
    }
)
#: Calls of which it is remembered what was told last, so that the same is not told twice.
REMEMBERED: Final = 10_000

_MISSED: Final = frozenset({"missed", "abandoned"})
_KINDS: Final = {"inbound": "Incoming call", "outbound": "Outgoing call", "internal": "Internal call"}
_OUTCOMES: Final = {
    "missed": "nobody answered",
    "abandoned": "the caller left before anybody was rung",
    "voicemail": "went to the voicemail",
    "self_service": "went to an announcement",
    "rejected": "was rejected",
    "busy": "busy",
    "failed": "did not come about",
    "fallback": "went the company's own way",
}


def destination(adapter: str) -> str:
    """What the outbox calls the journal in this adapter's CRM."""
    return f"crm:{adapter}"


def journaling(adapters: Mapping[str, IAdapter], settings: Mapping[str, JournalSettings | None]) -> list[str]:
    """The adapters whose CRM is told of calls: those that can be, and are not told not to be."""
    return [
        name
        for name, adapter in adapters.items()
        if Capability.JOURNAL in adapter.capabilities and settings.get(name) is not None
    ]


class People(Protocol):
    """Of the agents, what a journal says of them."""

    def name_of(self, agent: str) -> str: ...

    def user_of(self, agent: str, adapter: str) -> str | None:
        """Which of the CRM's users the agent is."""


class Journal:
    """The outbox's `Sender` to one adapter's CRM."""

    def __init__(
        self,
        name: str,
        *,
        adapters: Callable[[], Mapping[str, IAdapter]],
        settings: Callable[[], JournalSettings | None],
        store: IStore,
        people: People,
        services: Callable[[str], Service | None],
        display: Callable[[str | None], str | None],
        recording_url: Callable[[str], str | None],
        now: Callable[[], float],
    ) -> None:
        """`display`: a number as people here write it. `recording_url`: where a call is heard, None for nowhere."""
        self._name = name
        self._adapters = adapters
        self._settings = settings
        self._store = store
        self._people = people
        self._services = services
        self._display = display
        self._recording_url = recording_url
        self._now = now
        self._told: OrderedDict[str, JournalEntry] = OrderedDict()

    async def send(self, delivery: Delivery) -> None:
        adapter, settings = self._adapters().get(self._name), self._settings()
        if adapter is None or settings is None or Capability.JOURNAL not in adapter.capabilities:
            return
        if delivery.call is None or not self._concerns(delivery.data):
            return
        try:
            detail = await self._store.call(delivery.call)
        except StoreError as error:
            raise DeliveryFailed(str(error)) from error
        if detail is not None:
            await self._tell(cast(IJournal, adapter), detail, settings)

    def _concerns(self, event: bytes) -> bool:
        """Whether the event can be of a call with one of our parties; most calls are of nobody's whom a CRM knows."""
        data = orjson.loads(event)
        return "party" not in data or (data["party"] or {}).get("adapter") == self._name

    async def _tell(self, adapter: IJournal, detail: CallDetail, settings: JournalSettings) -> None:
        before = [each for each in detail.journal if each.adapter == self._name]
        entry = self.entry(detail, settings)
        if entry.party is None and not before:
            return
        if entry.direction == "internal" and not settings.internal:
            return
        over = entry.state in (JournalState.ENDED, JournalState.MISSED)
        if not adapter.journals_early and (not over or before):
            return
        if self._told.get(entry.key) == entry:
            return
        known = [Written(each.type, each.id, each.url) for each in before]
        try:
            written = await adapter.journal(entry, known)
        except AdapterBusy as error:
            raise DeliveryFailed(str(error), error.retry_after) from error
        except AdapterError as error:
            raise DeliveryFailed(str(error)) from error
        await self._keep(entry, written)

    async def _keep(self, entry: JournalEntry, written: Sequence[Written]) -> None:
        at = self._now()
        unit = self._store.unit()
        unit.put_journal(
            entry.key,
            self._name,
            [
                JournalRecord(entry.key, self._name, each.type, each.id, each.url, at)
                for each in dict.fromkeys(written)
            ],
        )
        try:
            await self._store.commit(unit, at_leisure=True)
        except StoreError as error:
            # It is told again, and finds what it has written by the call's key.
            raise DeliveryFailed(str(error)) from error
        self._told[entry.key] = entry
        self._told.move_to_end(entry.key)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    def entry(self, detail: CallDetail, settings: JournalSettings) -> JournalEntry:
        """The call as it stands, for this CRM."""
        call = detail.call
        ours = call.party is not None and call.party.get("adapter") == self._name
        agent = call.agent or _offered_to(detail)
        other = call.from_number if call.direction == "inbound" else call.to_number
        return JournalEntry(
            key=call.id,
            state=_state(call),
            direction=call.direction,
            started=_utc(call.started),
            ended=None if call.ended is None else _utc(call.ended),
            party=PartyRef(call.party["type"], call.party["id"]) if call.party is not None and ours else None,
            number=other if other is not None and other.startswith("+") else "",
            user=None if agent is None else self._people.user_of(agent, self._name),
            duration=_between(call.started, call.ended),
            talk=_between(call.answered, call.ended),
            subject=self._subject(call, settings.subject),
            text="\n".join(self._lines(call)),
            disposition=self._disposition(call),
            recording=None if call.recording is None else self._recording_url(call.id),
        )

    def _subject(self, call: CallRecord, template: str) -> str:
        words = {
            "call": _headline(call),
            "number": self._number(call),
            "agent": "" if call.agent is None else self._people.name_of(call.agent),
            "service": self._title(call),
        }
        for name, word in words.items():
            template = template.replace(f"{{{name}}}", word)
        return template

    def _lines(self, call: CallRecord) -> Sequence[str]:
        title, number = self._title(call), self._number(call)
        if call.direction == "inbound":
            lines = [f"From {number}" + (f" to {title}" if title else "")]
        else:
            lines = [f"To {number}"]
        who = "" if call.agent is None else self._people.name_of(call.agent)
        if call.answered is not None:
            waited = _span(call.answered - call.started)
            lines.append(f"{who or 'Somebody'} talked after {waited}" if call.direction == "inbound" else who)
        elif call.ended is not None and call.outcome is not None:
            lines.append(_OUTCOMES.get(call.outcome, call.outcome).capitalize())
        if call.notes:
            lines.append(call.notes)
        return [line for line in lines if line]

    def _number(self, call: CallRecord) -> str:
        if call.direction == "inbound":
            return self._display(call.from_number) or call.from_raw or "a caller without a number"
        return self._display(call.to_number) or call.to_raw

    def _title(self, call: CallRecord) -> str:
        service = None if call.service is None else self._services(call.service)
        return (service.title if service is not None else None) or call.service or ""

    def _disposition(self, call: CallRecord) -> str:
        service = None if call.service is None else self._services(call.service)
        labels = {} if service is None else service.dispositions.get(call.disposition or "", {})
        return next(iter(labels.values()), call.disposition or "")


def _headline(call: CallRecord) -> str:
    kind = _KINDS.get(call.direction, "Call")
    if call.ended is None:
        return f"{kind}, ringing" if call.answered is None else f"{kind}, going on"
    if call.outcome == "answered" and call.answered is not None:
        return f"{kind}, {_span(call.ended - call.answered)}"
    return "Missed call" if _is_missed(call) else f"{kind}, {_OUTCOMES.get(call.outcome or '', 'over')}"


def _state(call: CallRecord) -> JournalState:
    if call.ended is None:
        return JournalState.RINGING if call.answered is None else JournalState.CONNECTED
    return JournalState.MISSED if _is_missed(call) else JournalState.ENDED


def _is_missed(call: CallRecord) -> bool:
    return call.direction == "inbound" and call.outcome in _MISSED


def _offered_to(detail: CallDetail) -> str | None:
    """The one agent who was rung last, if it was one alone."""
    agents: Any = detail.segments[-1].agents if detail.segments else ()
    return agents[0] if len(agents) == 1 else None


def _utc(at: float) -> datetime:
    # CRMs know seconds, and the same has to be the same when it is told again.
    return datetime.fromtimestamp(int(at), UTC)


def _between(begin: float | None, end: float | None) -> float:
    return 0.0 if begin is None or end is None else round(max(0.0, end - begin), 1)


def _span(seconds: float) -> str:
    """`0:05`, `12:40`, `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
