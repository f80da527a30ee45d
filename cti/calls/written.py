"""What people write of a call: notes, disposition, and which of several parties it was. Nobody's text is lost.

Whoever writes says by an entity tag (RFC 9110, 8.8.3) which state of it they have seen. If it is another one by
now, nothing is written and they get the state that there is. The tag is made of the content alone, so that it
outlives a restart.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve

from cti.calls.control import Asker, CallUnknown
from cti.calls.finder import NotAsked
from cti.calls.inbound import brief_party
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.one_at_a_time import OneAtATime
from cti.calls.present import CHOSEN, etag_of
from cti.calls.services import Services
from cti.calls.writing_up import WritingUp
from cti.store.base import StoreError, Unit
from cti.store.records import CallRecord, CardRecord, ChoiceRecord, SegmentRecord
from routing.rules import Service

MAX_NOTES: Final = 20_000


class NotWritten(Exception):
    """What they want to write cannot be; the text says what would be right."""


class Changed(Exception):
    """Somebody else has written meanwhile; `record` is the call as it is."""

    def __init__(self, record: CallRecord) -> None:
        super().__init__("somebody else has written meanwhile; join both, and send the new ETag")
        self.record = record


def matches(wanted: Collection[str], etag: str) -> bool:
    """Whether a change that is meant for the versions of these tags is meant for this; `*` is any."""
    return "*" in wanted or etag in wanted


class Written:
    """Writes it down, one after the other for each call."""

    def __init__(
        self,
        *,
        calls: CallLog,
        writing_up: WritingUp,
        services: Callable[[], Services],
        now: Callable[[], float],
        confirm: "Callable[[str, str, str], Awaitable[Mapping[str, Any] | None]]",
        chosen: Callable[[LiveCall, Mapping[str, Any]], None],
    ) -> None:
        """`confirm(adapter, type, id)`: the party as its adapter knows them, None for nobody; raises `NotAsked`.

        `chosen(call, party)`: somebody has said that it was this party, who is on the card by now.
        """
        self._calls = calls
        self._writing_up = writing_up
        self._services = services
        self._now = now
        self._confirm = confirm
        self._chosen = chosen
        self._alone = OneAtATime()

    async def write(
        self, asker: Asker, id: str, given: Mapping[str, Any], if_match: Collection[str]
    ) -> CallRecord:
        """Write `notes`, `disposition` and `party` as far as given; the call as it is then.

        Raises `CallUnknown`, `NotWritten`, `Changed`, `StoreError`.
        """
        async with self._alone(id):
            live = self._calls.get(id) or self._writing_up.call(id)
            known = live or await self._ended(id)
            if asker.own_only and not may_write(known.record, known.segments, asker.agent):
                raise CallUnknown(_UNKNOWN)
            whole = await self._meant(known.card, given.get("party"))
            record = known.record
            if not matches(if_match, etag_of(record)):
                raise Changed(record)
            service = self._services().named(record.service or "")
            wanted = evolve(
                record,
                notes=given["notes"] or None if "notes" in given else record.notes,
                disposition=_disposition(service, given["disposition"])
                if "disposition" in given
                else record.disposition,
                party=_chosen(whole) if "party" in given else record.party,
            )
            changed = [name for name in _WRITTEN if getattr(wanted, name) != getattr(record, name)]
            if changed:
                await self._keep(known, wanted, changed, service)
            if whole is not None and "party" in changed:
                self._chosen(known, whole)
            return record

    async def _meant(
        self, card: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None
    ) -> Mapping[str, Any] | None:
        """Who it was, as the card has them, or their adapter. Raises `NotWritten`."""
        if wanted is None:
            return None
        for party in (card or {}).get("parties", ()):
            if all(party.get(key) == wanted[key] for key in ("adapter", "type", "id")):
                found: Mapping[str, Any] = party
                return found
        try:
            confirmed = await self._confirm(wanted["adapter"], wanted["type"], wanted["id"])
        except (NotAsked, ValueError) as error:
            raise NotWritten(f"party: {error}") from error
        if confirmed is None:
            raise NotWritten(
                "party: no adapter knows them; adapter, type and id of one on the card, or found by a search, would"
                " be right"
            )
        return confirmed

    async def _ended(self, id: str) -> LiveCall:
        detail = await self._calls.store.call(id)
        if detail is None:
            raise CallUnknown(_UNKNOWN)
        return LiveCall.restored(detail)

    async def take_party(self, call: LiveCall, party: Mapping[str, Any], cards: Sequence[CardRecord]) -> None:
        """This party, who was not on the card before, is who it was; `cards` show it now. Raises `StoreError`."""
        async with self._alone(call.id):
            wanted = evolve(call.record, party={**(brief_party(party) or {}), "match": CHOSEN})
            await self._keep(call, wanted, ["party"], None, cards)

    async def _keep(
        self,
        call: LiveCall,
        wanted: CallRecord,
        changed: Sequence[str],
        service: Service | None,
        cards: Sequence[CardRecord] = (),
    ) -> None:
        record = call.record
        before = {name: getattr(record, name) for name in changed}
        # At once, so that news of the call that are written meanwhile have it, too.
        for name in changed:
            setattr(record, name, getattr(wanted, name))
        unit = self._calls.unit()
        unit.put_written(record)
        if "party" in changed:
            self._remember(unit, record)
        for card in cards:
            unit.put_card(card)
        if "disposition" in changed:
            self._worklist(unit, record, service)
        # Of a party that is another one now, two CRMs have to hear: it is left out.
        party = {} if "party" in changed else {"party": record.party}
        unit.emit(
            "call.updated",
            self._now(),
            {"call": call.brief(), **party, "changed": list(changed), "etag": etag_of(record)},
            call=call.id,
            agents=agents_of(record, call.segments),
        )
        try:
            await self._calls.commit(unit)
        except StoreError:
            for name, value in before.items():
                setattr(record, name, value)
            raise

    def _remember(self, unit: Unit, record: CallRecord) -> None:
        """The next call with this number shows them first."""
        party, number = record.party, other_number(record)
        if party is not None and number is not None and number.startswith("+"):
            who = (str(party["adapter"]), str(party["type"]), str(party["id"]))
            unit.put_choice(ChoiceRecord(number, *who, self._now(), record.id))

    def _worklist(self, unit: Unit, record: CallRecord, service: Service | None) -> None:
        if record.disposition is not None:
            unit.remove_unwritten(record.id)
        elif service is not None and service.disposition_required and record.ended and record.agent:
            unit.put_unwritten(record.agent, record.id, self._now())


def other_number(record: CallRecord) -> str | None:
    """The number of the side that is not ours: E.164, or an internal one."""
    return record.from_number if record.direction == "inbound" else record.to_number


def may_write(record: CallRecord, segments: Iterable[SegmentRecord], agent: str | None) -> bool:
    """Whether an agent may write of this call: they talked in it, or were offered it while nobody has it."""
    if agent is None:
        return False
    segments = list(segments)
    if record.agent == agent or any(segment.agent == agent for segment in segments):
        return True
    offered = any(agent in segment.agents for segment in segments)
    return offered and record.answered is None


def agents_of(record: CallRecord, segments: Iterable[SegmentRecord]) -> list[str]:
    """Who talked in the call, or is being offered it."""
    found: dict[str | None, None] = {record.agent: None}
    for segment in segments:
        found.update(dict.fromkeys(segment.agents if segment.ended is None else [segment.agent]))
    return [agent for agent in found if agent is not None]


def _disposition(service: Service | None, wanted: str | None) -> str | None:
    known = {} if service is None else service.dispositions
    if wanted is not None and wanted not in known:
        right = f"one of {', '.join(known)} would be right" if known else "this call's service has none"
        raise NotWritten(f"disposition: {wanted[:40]!r} is none of the service's; {right}")
    return wanted


def _chosen(party: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if party is None else {**(brief_party(party) or {}), "match": CHOSEN}


_WRITTEN: Final = ("notes", "disposition", "party")
_UNKNOWN: Final = "there is no such call, or you did not talk in it"
