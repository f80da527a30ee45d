"""Calls that somebody has to make: back to who was missed, or planned. One list, which clears itself.

A call from outside that nobody took opens an entry, or counts one more try of the entry that is open for its number
and service; whoever talks with that number then, whoever called, closes it. A caller without a number opens none:
nobody could call them back. Carrying planned calls out at their time is left to others.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import orjson
from attrs import evolve

from cti.agents.roster import Roster
from cti.calls.control import Asker, BadTarget, CallUnknown, Control, Done, NotNow, took_part
from cti.calls.inbound import brief_party
from cti.calls.life import LiveCall, mint_call_id
from cti.calls.log import CallLog
from cti.calls.one_at_a_time import OneAtATime
from cti.calls.present import iso
from cti.calls.services import Services
from cti.calls.written import matches
from cti.store.base import CallbackFilter, IStore, StoreError, Unit
from cti.store.records import CallbackRecord, CallRecord

OPEN: Final = "open"
STATES: Final = (OPEN, "done", "cancelled")
#: What becomes of a call that nobody took, so that somebody has to call back.
_MISSED: Final = frozenset({"missed", "abandoned"})
_UNKNOWN: Final = "there is no such callback, or it is none of yours"


class CallbackUnknown(Exception):
    """There is no such callback, or it is none of theirs."""


class CallbackChanged(Exception):
    """Somebody else has changed it meanwhile; `record` is how it is."""

    def __init__(self, record: CallbackRecord) -> None:
        super().__init__("somebody else has changed it meanwhile; look, and send the new ETag")
        self.record = record


def callback_json(record: CallbackRecord) -> dict[str, Any]:
    """A callback as the API and events show it; `etag` is of what can be changed."""
    return {
        "id": record.id,
        "created": iso(record.created),
        "number": record.number,
        "state": record.state,
        "service": record.service,
        "owner": record.owner,
        "note": record.note,
        "due": None if record.due is None else iso(record.due),
        "call": record.call,
        "party": None if record.party is None else dict(record.party),
        "tries": record.tries,
        "changed": iso(record.changed),
        "made_by": record.made_by,
        "done_by": record.done_by,
        "etag": callback_etag(record),
    }


def callback_etag(record: CallbackRecord) -> str:
    content = orjson.dumps([record.id, record.owner, record.state, record.note, record.due])
    return f'"{hashlib.blake2b(content, digest_size=9).hexdigest()}"'


class Callbacks:
    """The open ones, in memory; the store has all."""

    def __init__(
        self,
        *,
        calls: CallLog,
        store: IStore,
        roster: Roster,
        services: Callable[[], Services],
        control: Control,
        now: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._store = store
        self._roster = roster
        self._services = services
        self._control = control
        self._now = now
        # Beside the open ones, those whose last change is not durable yet.
        self._latest: dict[str, CallbackRecord] = {}
        self._by_number: dict[str, dict[str, None]] = {}
        self._closed_in: dict[str, list[CallbackRecord]] = {}
        self._dialling = OneAtATime()

    def restore(self, records: Sequence[CallbackRecord]) -> None:
        for record in records:
            self._keep(record)

    # What calls make of them.

    def news(self, unit: Unit, call: LiveCall) -> None:
        """Something of this call is about to be written: what it means for the list is written with it."""
        record = call.record
        number = record.from_number if record.direction == "inbound" else record.to_number
        if number is None:
            return
        if record.answered is not None:
            self._reached(unit, record, number)
        elif record.ended is not None and record.direction == "inbound" and record.outcome in _MISSED:
            self._missed(unit, call, number)
        if call.over:
            # The commit that closed it may have failed; that of a call's end is tried again for long.
            for closed in self._closed_in.pop(call.id, ()):
                unit.put_callback(closed)

    def _reached(self, unit: Unit, call: CallRecord, number: str) -> None:
        for id in list(self._by_number.get(number, ())):
            known = self._latest[id]
            closed = evolve(known, state="done", changed=self._now(), done_by=call.id)
            self._forget(known)
            self._closed_in.setdefault(call.id, []).append(closed)
            self._put(unit, closed)

    def _missed(self, unit: Unit, call: LiveCall, number: str) -> None:
        if call.record.service is None and not any(segment.agents for segment in call.segments):
            # Nobody here was meant: it was the company's own dialplan's, and nobody's list is right for it.
            return
        self._add_try(unit, call, number)

    def wanted(self, unit: Unit, call: LiveCall) -> None:
        """The caller has been promised that somebody calls back."""
        if call.record.from_number is not None:
            self._add_try(unit, call, call.record.from_number)

    def _add_try(self, unit: Unit, call: LiveCall, number: str) -> None:
        record = call.record
        offered = dict.fromkeys(agent for segment in call.segments for agent in segment.agents)
        at = self._now()
        known = next(
            (
                self._latest[id]
                for id in self._by_number.get(number, ())
                if self._latest[id].service == record.service and self._latest[id].made_by is None
            ),
            None,
        )
        if known is None:
            owner = (call.party or record.party or {}).get("owner")
            service = self._services().named(record.service or "")
            known = CallbackRecord(
                id=mint_call_id(at),
                created=at,
                number=number,
                service=record.service,
                owner=owner if owner in self._roster.agents else None,
                groups=[] if service is None else sorted(service.groups),
                agents=[] if service is None else sorted(service.agents),
                party=brief_party(call.party) or record.party,
            )
        again = evolve(
            known,
            agents=list(dict.fromkeys([*known.agents, *offered])),
            call=record.id,
            tries=known.tries + 1,
            changed=at,
        )
        self._keep(again)
        self._put(unit, again)

    def erase(self, numbers: Collection[str], is_party: Callable[[object, object], bool]) -> Unit | None:
        """Know nothing any more of who has these numbers, or is such a party; None if nothing was known.

        The unit tells the desktops, with nothing of whom in it; the store's own rows are left to who erases them.
        """
        theirs = [
            record
            for record in self._latest.values()
            if record.number in numbers
            or (record.party is not None and is_party(record.party.get("adapter"), record.party.get("id")))
        ]
        self._closed_in = {
            call: kept
            for call, records in self._closed_in.items()
            if (kept := [record for record in records if record.number not in numbers])
        }
        if not theirs:
            return None
        unit = self._calls.unit()
        for record in theirs:
            self._forget(record)
            gone = evolve(
                record, number="", party=None, note=None, call=None, state="cancelled", changed=self._now()
            )
            self._tell(unit, gone)
        return unit

    # What people make of them.

    def count(self, agent: str) -> int:
        """How many open ones this agent may take."""
        groups = self._groups_of(agent)
        return sum(
            record.state == OPEN and _may_see(record, agent, groups) for record in self._latest.values()
        )

    async def page(
        self, asker: Asker, state: str | None, owner: str | None, limit: int, after: str | None
    ) -> tuple[Sequence[CallbackRecord], str | None]:
        """`owner`: an agent's id, `me`, or `none`. Raises `ValueError` for a wrong cursor, `StoreError`."""
        where = CallbackFilter(
            state=state,
            owner=asker.agent if owner == "me" else None if owner == "none" else owner,
            unowned=owner == "none",
            for_agent=asker.agent if asker.own_only else None,
            groups=sorted(self._groups_of(asker.agent)),
        )
        return await self._store.callbacks(where, limit, after)

    async def plan(self, asker: Asker, number: str, given: Mapping[str, Any]) -> CallbackRecord:
        """One more, for `number` (as calls have it). Raises `BadTarget`, `CallUnknown`, `StoreError`."""
        owner = given.get("owner", asker.agent)
        self._check_owner(owner)
        service = party = None
        if given.get("call") is not None:
            detail = await self._store.call(given["call"])
            if detail is None or (asker.own_only and not took_part(detail, asker.agent)):
                raise CallUnknown("call: there is no such call, or you had no part in it")
            service, party = detail.call.service, detail.call.party
        at = self._now()
        record = CallbackRecord(
            id=mint_call_id(at),
            created=at,
            number=number,
            service=service,
            owner=owner,
            # Whoever plans it for nobody leaves it to those beside them.
            groups=sorted(self._groups_of(asker.agent)),
            agents=[asker.agent] if asker.agent else [],
            note=given.get("note"),
            due=given.get("due"),
            call=given.get("call"),
            party=party,
            changed=at,
            made_by=asker.name,
        )
        await self._commit(record, None)
        return record

    async def change(
        self, asker: Asker, id: str, given: Mapping[str, Any], if_match: Collection[str]
    ) -> CallbackRecord:
        """Change `owner`, `state`, `note` and `due` as far as given.

        Raises `CallbackUnknown`, `CallbackChanged`, `BadTarget`, `StoreError`.
        """
        known = self._get(asker, id)
        if not matches(if_match, callback_etag(known)):
            raise CallbackChanged(known)
        if "owner" in given:
            self._check_owner(given["owner"])
        wanted = evolve(known, **given, changed=self._now())
        await self._commit(wanted, known)
        return wanted

    async def dial(self, asker: Asker, id: str, agent: str) -> Done:
        """The agent takes it, and calls. Raises `CallbackUnknown`, `ControlError`, `StoreError`."""
        # Of two who dial it at once, the second finds it taken: nobody is called back twice.
        async with self._dialling(id):
            known = self._get(asker, id)
            if known.state != OPEN:
                raise NotNow(f"this callback is {known.state}")
            done = await self._control.make_call(asker, agent, f"tel:{known.number}")
            latest = self._latest.get(id)
            if latest is not None and latest.owner != agent:
                await self._commit(evolve(latest, owner=agent, changed=self._now()), latest)
            return done

    # Inside.

    def _get(self, asker: Asker, id: str) -> CallbackRecord:
        record = self._latest.get(id) or self._store.callback(id)
        agent = asker.agent or ""
        if record is None or (asker.own_only and not _may_see(record, agent, self._groups_of(agent))):
            raise CallbackUnknown(_UNKNOWN)
        return record

    def _groups_of(self, agent: str | None) -> frozenset[str]:
        facts = self._roster.agents.get(agent or "")
        return frozenset() if facts is None else facts.groups

    def _check_owner(self, owner: str | None) -> None:
        if owner is not None and owner not in self._roster.agents:
            raise BadTarget(f"owner: there is no agent {owner[:40]!r}; null leaves it to all who may take it")

    async def _commit(self, record: CallbackRecord, before: CallbackRecord | None) -> None:
        """Make it durable; nobody sees the state before it meanwhile."""
        if before is not None:
            self._forget(before)
        if record.state == OPEN:
            self._keep(record)
        else:
            self._latest[record.id] = record
        unit = self._calls.unit()
        self._put(unit, record, before)
        try:
            await self._calls.commit(unit)
        except StoreError:
            if self._latest.get(record.id) is record:
                self._forget(record)
                if before is not None and before.state == OPEN:
                    self._keep(before)
            raise
        if record.state != OPEN and self._latest.get(record.id) is record:
            del self._latest[record.id]

    def _put(self, unit: Unit, record: CallbackRecord, before: CallbackRecord | None = None) -> None:
        unit.put_callback(record)
        self._tell(unit, record, before)

    def _tell(self, unit: Unit, record: CallbackRecord, before: CallbackRecord | None = None) -> None:
        unit.emit(
            "callback.changed",
            record.changed,
            {"callback": callback_json(record)},
            # Whose it is no more has to hear of it as well.
            agents=list(dict.fromkeys([*self._seen_by(record), *(self._seen_by(before) if before else ())])),
        )

    def _seen_by(self, record: CallbackRecord) -> Sequence[str]:
        if record.owner is not None:
            return (record.owner,)
        members = (facts.id for group in record.groups for facts in self._roster.groups.get(group, ()))
        return list(dict.fromkeys([*record.agents, *members]))

    def _keep(self, record: CallbackRecord) -> None:
        self._latest[record.id] = record
        self._by_number.setdefault(record.number, {})[record.id] = None

    def _forget(self, record: CallbackRecord) -> None:
        self._latest.pop(record.id, None)
        ids = self._by_number.get(record.number)
        if ids is not None:
            ids.pop(record.id, None)
            if not ids:
                del self._by_number[record.number]


def _may_see(record: CallbackRecord, agent: str, groups: frozenset[str]) -> bool:
    if record.owner is not None:
        return record.owner == agent
    return agent in record.agents or not groups.isdisjoint(record.groups)
