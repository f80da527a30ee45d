"""Calls that somebody has to make: back to who was missed, or planned. One list, which clears itself.

A call from outside that nobody took opens an entry, or counts one more try of the entry that is open for its number
and service; whoever talks with that number then, whoever called, closes it. A caller without a number opens none:
nobody could call them back. A call that an entry makes is written down with the entry before anybody's phone rings,
so that no crash makes it twice; when planned ones are made, and by whom, is left to `due_calls`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from attrs import evolve

from cti.agents.roster import Roster
from cti.calls.calling_times import ANYWAY, CallingTimes
from cti.calls.control import Asker, BadTarget, CallUnknown, Control, Done, NotNow, took_part
from cti.calls.inbound import brief_party
from cti.calls.life import LiveCall, mint_call_id
from cti.calls.log import CallLog
from cti.calls.one_at_a_time import OneAtATime
from cti.calls.present import iso, iso_or_none
from cti.calls.services import Services
from cti.calls.written import matches
from cti.store.base import CallbackFilter, IStore, StoreError, Unit
from cti.store.records import CallbackRecord, CallRecord, ChannelRecord

OPEN: Final = "open"
STATES: Final = (OPEN, "done", "cancelled")
#: Why the last try came to nothing, as `why` says it: nobody was ready to make it; they let their phone ring;
#: Asterisk did not make it; whom it is for is on the phone to us; they did not answer, or were busy; the number may
#: not be dialled from here.
NOT_READY: Final = "agent_not_ready"
AGENT_NO_ANSWER: Final = "agent_no_answer"
NOT_MADE: Final = "not_made"
CALLS_US: Final = "calls_us"
NO_ANSWER: Final = "no_answer"
BUSY: Final = "busy"
NOT_DIALLED: Final = "not_allowed"
WHY: Final = (NOT_READY, AGENT_NO_ANSWER, NOT_MADE, CALLS_US, NO_ANSWER, BUSY, NOT_DIALLED)
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
        "groups": list(record.groups),
        "note": record.note,
        "due": iso_or_none(record.due),
        "next": iso_or_none(record.next),
        "anyway": record.anyway is not None,
        "calling": record.calling,
        "failed_tries": record.failed_tries,
        "given_up": iso_or_none(record.given_up),
        "why": record.why,
        "in_line": record.place is not None,
        "call": record.call,
        "party": None if record.party is None else dict(record.party),
        "tries": record.tries,
        "changed": iso(record.changed),
        "made_by": record.made_by,
        "done_by": record.done_by,
        "etag": callback_etag(record),
    }


def _in_line(record: CallbackRecord) -> bool:
    return record.state == OPEN and record.place is not None and record.calling is None


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
        times: Callable[[], CallingTimes],
        now: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._store = store
        self._roster = roster
        self._services = services
        self._control = control
        self._times = times
        self._now = now
        # Beside the open ones, those whose last change is not durable yet.
        self._latest: dict[str, CallbackRecord] = {}
        self._by_number: dict[str, dict[str, None]] = {}
        self._closed_in: dict[str, list[CallbackRecord]] = {}
        # Of those that are being called, by the call.
        self._calling: dict[str, str] = {}
        self._dialling = OneAtATime()

    def restore(self, records: Sequence[CallbackRecord]) -> None:
        for record in records:
            if record.calling is not None:
                self._calling[record.calling] = record.id
            elif record.next is None and record.due is not None and record.due > self._now():
                # Planned when nothing was made by itself; those of then that are past stay with people.
                record = self._planned(record, anyway=False)
            self._keep(record)

    # What calls make of them.

    def news(self, unit: Unit, call: LiveCall) -> None:
        """Something of this call is about to be written: what it means for the list is written with it."""
        record = call.record
        number = record.from_number if record.direction == "inbound" else record.to_number
        if number is not None and record.answered is not None:
            self._reached(unit, record, number)
        elif number is not None and record.direction == "inbound" and record.outcome in _MISSED:
            self._missed(unit, call, number)
        if call.over:
            self._try_over(unit, record, call.channels.values())
            # The commit that closed it may have failed; that of a call's end is tried again for long.
            for closed in self._closed_in.pop(call.id, ()):
                unit.put_callback(closed)

    def _reached(self, unit: Unit, call: CallRecord, number: str) -> None:
        for id in list(self._by_number.get(number, ())):
            known = self._latest[id]
            self._closed_in.setdefault(call.id, []).append(self._close(unit, known, call))

    def _close(self, unit: Unit, known: CallbackRecord, call: CallRecord) -> CallbackRecord:
        closed = evolve(
            known,
            state="done",
            changed=self._now(),
            done_by=call.id,
            next=None,
            calling=None,
            why=None,
            place=None,
        )
        self._forget(known)
        self._put(unit, closed)
        return closed

    def _try_over(self, unit: Unit, call: CallRecord, channels: Iterable[ChannelRecord]) -> None:
        """The call is over that one of them was making, if it was one's."""
        known = self._latest.get(self._calling.pop(call.id, ""))
        if known is None or known.calling != call.id:
            # Closed or erased meanwhile.
            return
        if call.answered is not None:
            self._close(unit, known, call)
            return
        again = self._after(known, call, channels)
        self._keep(again)
        self._put(unit, again)

    def _after(
        self, known: CallbackRecord, call: CallRecord, channels: Iterable[ChannelRecord]
    ) -> CallbackRecord:
        """What becomes of one that was tried in vain."""
        at, times = self._now(), self._times()
        theirs = [channel for channel in channels if channel.agent == call.agent]
        # Of a call whose end nobody has seen, it is not known whether they were rung: not twice for that.
        tried = any(channel.answered is not None for channel in theirs) or call.closed_by is not None
        failed = known.failed_tries + tried
        reached = BUSY if call.outcome == "busy" else NO_ANSWER
        made = AGENT_NO_ANSWER if theirs else NOT_MADE
        over = evolve(known, calling=None, failed_tries=failed, why=reached if tried else made, changed=at)
        if known.due is None or known.next is not None:
            # Somebody has called by hand, or has planned it anew meanwhile.
            return over
        if not tried:
            rule = times.unanswered if theirs else times.put_off
            return evolve(over, next=rule(known.number, at, known.anyway))
        following = times.again(known.number, at, failed, known.anyway)
        return _given_up(over, at) if following is None else evolve(over, next=following)

    def _missed(self, unit: Unit, call: LiveCall, number: str) -> None:
        if call.record.service is None and not any(segment.agents for segment in call.segments):
            # Nobody here was meant: it was the company's own dialplan's, and nobody's list is right for it.
            return
        self._add_try(unit, call, number)

    def wanted(self, unit: Unit, call: LiveCall, place: Mapping[str, Any] | None = None) -> str | None:
        """The caller has been promised that somebody calls back; the id of the entry.

        `place`: they keep it in the line, and are called when it is their turn.
        """
        number = call.record.from_number
        return None if number is None else self._add_try(unit, call, number, place)

    def in_lines(self) -> list[CallbackRecord]:
        """Those who keep a place in a line."""
        return [record for record in self._latest.values() if _in_line(record)]

    def is_in_line(self, id: str) -> bool:
        """Whether this one still keeps a place."""
        known = self._latest.get(id)
        return known is not None and _in_line(known)

    async def call_from_line(self, id: str, agent: str) -> bool:
        """It is their turn, and the agent is free; whether the agent's phone is going to ring.

        Raises `ControlError` and `StoreError`.
        """
        async with self._dialling(id):
            known = self._latest.get(id)
            if known is None or not _in_line(known):
                return False
            asker = Asker(f"callbacks of {agent}", "a line", agent, own_only=False)
            # From now on it is a call that was planned for now, and is tried again as those are.
            await self._make(asker, evolve(known, place=None, due=self._now()), agent, None)
            return True

    def _add_try(
        self, unit: Unit, call: LiveCall, number: str, place: Mapping[str, Any] | None = None
    ) -> str:
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
            place=place or known.place,
        )
        self._keep(again)
        self._put(unit, again)
        return again.id

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
                record,
                number="",
                party=None,
                note=None,
                call=None,
                next=None,
                calling=None,
                state="cancelled",
                changed=self._now(),
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

    def counts(self) -> Mapping[str, int]:
        """How many open ones wait for people (`open`) or for their time (`planned`), are `calling` or `given_up`."""
        return Counter(
            "calling"
            if record.calling is not None
            else "planned"
            if record.next is not None
            else "given_up"
            if record.given_up is not None
            else "open"
            for record in self._latest.values()
            if record.state == OPEN
        )

    async def plan(self, asker: Asker, number: str, given: Mapping[str, Any]) -> CallbackRecord:
        """One more, for `number` (as calls have it). Raises `BadTarget`, `CallUnknown`, `StoreError`.

        `anyway`: at its time, whatever the hour is there.
        """
        owner = given.get("owner", asker.agent)
        self._check_owner(owner)
        # Whoever plans it for nobody leaves it to those beside them, if they name no others.
        groups = sorted(set(given.get("groups", self._groups_of(asker.agent))))
        for group in groups:
            if group not in self._roster.group_names:
                raise BadTarget(f"groups: there is no group {group[:40]!r}")
        agents = [asker.agent] if asker.agent else []
        if given.get("due") is not None and not (owner or groups or agents):
            raise BadTarget("owner: nobody would make this call; an agent, or `groups`, would be right")
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
            groups=groups,
            agents=agents,
            note=given.get("note"),
            due=given.get("due"),
            call=given.get("call"),
            party=party,
            changed=at,
            made_by=asker.name,
        )
        record = self._planned(record, anyway=given.get("anyway", False))
        await self._commit(record, None)
        return record

    async def change(
        self, asker: Asker, id: str, given: Mapping[str, Any], if_match: Collection[str]
    ) -> CallbackRecord:
        """Change `owner`, `state`, `note`, `due` and `anyway` as far as given; what has another time is tried anew.

        Raises `CallbackUnknown`, `CallbackChanged`, `BadTarget`, `StoreError`.
        """
        known = self._get(asker, id)
        if not matches(if_match, callback_etag(known)):
            raise CallbackChanged(known)
        if "owner" in given:
            self._check_owner(given["owner"])
        anyway = given.get("anyway", False)
        changes = {name: value for name, value in given.items() if name != "anyway"}
        wanted = evolve(known, **changes, changed=self._now())
        if not given.keys().isdisjoint({"due", "anyway", "state"}):
            wanted = self._planned(wanted, anyway=anyway)
        await self._commit(wanted, known)
        return wanted

    async def dial(self, asker: Asker, id: str, agent: str) -> Done:
        """The agent takes it, and calls. Raises `CallbackUnknown`, `ControlError`, `StoreError`."""
        # Of two who dial it at once, the second finds it taken: nobody is called back twice.
        async with self._dialling(id):
            known = self._get(asker, id)
            if known.state != OPEN:
                raise NotNow(f"this callback is {known.state}")
            if known.calling is not None:
                raise NotNow("this callback is being called already")
            done = await self._make(asker, known, agent, self._after_by_hand(known))
            latest = self._latest.get(id)
            if latest is not None and latest.owner != agent:
                await self._commit(evolve(latest, owner=agent, changed=self._now()), latest)
            return done

    # What `due_calls` makes of them.

    def due(self) -> list[CallbackRecord]:
        """Those whose time has come, in the order in which they are made."""
        at = self._now()
        found = [record for record in self._latest.values() if _is_due(record, at)]
        return sorted(found, key=lambda record: (record.due or 0.0, record.id))

    async def call(self, asker: Asker, id: str, agent: str) -> None:
        """Its time has come: the agent's phone rings, and then theirs. Raises `ControlError`, `StoreError`."""
        async with self._dialling(id):
            known = self._latest.get(id)
            if known is not None and _is_due(known, self._now()):
                await self._make(asker, known, agent, None)

    async def put_off(self, id: str, until: float, why: str | None) -> None:
        """It cannot be made now, and that is no try. Raises `StoreError`."""
        known = self._latest.get(id)
        if known is not None and _is_due(known, self._now()):
            await self._commit(evolve(known, next=until, why=why, changed=self._now()), known)

    async def give_up(self, id: str, why: str) -> None:
        """It can never be made: it is left to people. Raises `StoreError`."""
        known, at = self._latest.get(id), self._now()
        if known is not None and _is_due(known, at):
            await self._commit(_given_up(evolve(known, why=why, changed=at), at), known)

    async def disown(self) -> None:
        """What belongs to an agent who is gone goes back to all who may take it. Raises `StoreError`."""
        for known in list(self._latest.values()):
            gone = known.owner is not None and known.owner not in self._roster.agents
            if gone and known.state == OPEN:
                await self._commit(evolve(known, owner=None, changed=self._now()), known)

    async def settle(self) -> None:
        """Find out what became of calls that nobody tells of any more. Raises `StoreError`."""
        for call in [call for call in self._calling if self._calls.get(call) is None]:
            detail = await self._store.call(call)
            if self._calls.get(call) is not None:
                continue
            unit = self._calls.unit()
            if detail is None:
                # Of our making, and never written: nobody was rung.
                self._try_over(unit, CallRecord(call, "", self._now()), ())
            elif detail.call.ended is not None:
                self._try_over(unit, detail.call, detail.channels)
            else:
                continue
            await self._calls.commit(unit)

    # Inside.

    async def _make(self, asker: Asker, known: CallbackRecord, agent: str, following: float | None) -> Done:
        """Call them; the mark that they are being called is written with the call, before any phone rings."""

        def mark(unit: Unit, call: str) -> None:
            marked = evolve(known, calling=call, next=following, why=None, changed=self._now())
            self._calling[call] = known.id
            self._keep(marked)
            self._put(unit, marked)

        return await self._control.make_call(asker, agent, f"tel:{known.number}", mark)

    def _after_by_hand(self, known: CallbackRecord) -> float | None:
        """When one that somebody calls now is made all the same; None: this is the try that was to come."""
        soon = self._times().unanswered(known.number, self._now())
        return known.next if known.next is not None and known.next > soon else None

    def _planned(self, record: CallbackRecord, *, anyway: bool) -> CallbackRecord:
        """The same with the moment at which it is made."""
        if record.state != OPEN:
            return evolve(record, next=None, anyway=None, calling=None)
        if record.due is None:
            return evolve(record, next=None, anyway=None)
        at = max(record.due, self._now())
        until = at + ANYWAY if anyway else None
        return evolve(
            record,
            next=self._times().planned(record.number, at, until),
            anyway=until,
            failed_tries=0,
            given_up=None,
            why=None,
        )

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


def _is_due(record: CallbackRecord, at: float) -> bool:
    return record.next is not None and record.next <= at and record.calling is None and record.state == OPEN


def _given_up(record: CallbackRecord, at: float) -> CallbackRecord:
    return evolve(record, due=None, next=None, anyway=None, given_up=at)


def _may_see(record: CallbackRecord, agent: str, groups: frozenset[str]) -> bool:
    if record.owner is not None:
        return record.owner == agent
    return agent in record.agents or not groups.isdisjoint(record.groups)
