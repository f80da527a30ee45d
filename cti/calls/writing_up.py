"""Wrap-up: an agent whose part of a call is over is held to write it up, until they are done or the time is.

Each agent who talked in a segment of a service with `wrap_up` gets it when their own part ends, also while the call
goes on with somebody else. At the deadline they are free, whatever is written; what then lacks the disposition that
its service wants is among their unwritten calls, where it stands from the end of their part on, so that no crash
forgets it. Who is free for a call is the roster's to say, when a part ends the tracker's.
"""

from collections.abc import Callable, Iterable
from typing import Final

from attrs import define, evolve

from cti.agents.roster import Roster
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.present import etag_of
from cti.calls.services import Services
from cti.logs import get_logger
from cti.store.base import CallDetail, Unit
from cti.store.records import SegmentRecord, WrapUpRecord
from routing.rules import Service

log = get_logger("cti.calls.writing_up")

#: Seconds by which a wrap-up may be extended at once, and in all.
MAX_EXTENSION: Final = 600
MAX_EXTENSIONS: Final = 1800


class NotWritingUp(Exception):
    """The agent does not write up this call now."""


class DispositionMissing(Exception):
    """The service wants a disposition before the wrap-up is ended by hand."""


class ExtendedEnough(Exception):
    """The wrap-up cannot be extended any further; the text says by how much it can."""


@define
class Writing:
    """Who writes up which call, and the call as it is."""

    record: WrapUpRecord
    call: LiveCall


class WritingUp:
    """Who writes up a call at this moment."""

    def __init__(
        self,
        *,
        calls: CallLog,
        roster: Roster,
        services: Callable[[], Services],
        now: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._roster = roster
        self._services = services
        self._now = now
        self._writing: dict[str, Writing] = {}
        # Parts of calls that ended while their agent talked on in another one, as after a consultation.
        self._owed: dict[str, tuple[LiveCall, SegmentRecord]] = {}

    # Looking.

    def of(self, agent: str) -> Writing | None:
        return self._writing.get(agent)

    def call(self, id: str) -> LiveCall | None:
        """A call that is being written up, living or not."""
        return next((each.call for each in self._writing.values() if each.call.id == id), None)

    # From one state to the next.

    def restore(self, kept: Iterable[tuple[WrapUpRecord, CallDetail | None]]) -> None:
        """Take up what was going on when the server stopped; what is over by now ends with the next `expire`."""
        for record, detail in kept:
            if detail is None or not self._roster.restore_wrap_up(record.agent, record.call, record.until):
                # They talk again: their wrap-up is over, and its row is replaced by the next one.
                continue
            call = self._calls.get(record.call) or self.call(record.call) or LiveCall.restored(detail)
            self._writing[record.agent] = Writing(record, call)

    def part_over(self, unit: Unit, call: LiveCall, agent: str, *, talks_on: bool) -> bool:
        """The agent is not in this call any more. Whether they are held to write it, or an earlier one, up.

        `talks_on`: they are in another call, or held for one; the wrap-up begins at the end of that.
        """
        at = self._now()
        segment = self._talked_in(call, agent)
        service = self._services().named(call.record.service or "")
        if segment is not None and service is not None:
            if service.disposition_required and call.record.disposition is None:
                unit.put_unwritten(agent, call.id, at)
            if service.wrap_up and segment.wrap_up is None:
                self._owed[agent] = call, segment
        if talks_on or agent not in self._owed:
            return False
        owed, segment = self._owed.pop(agent)
        wanted = self._services().named(owed.record.service or "")
        if wanted is None or not wanted.wrap_up:
            return False
        until = at + wanted.wrap_up
        if not self._roster.write_up(agent, call.id, owed.id, until):
            return False
        record = WrapUpRecord(agent, owed.id, segment.number, at, until)
        self._writing[agent] = Writing(record, owed)
        unit.put_wrap_up(record)
        return True

    async def extend(self, agent: str, call: str, seconds: int) -> None:
        """More time. Raises `NotWritingUp`, `ExtendedEnough`, `StoreError`."""
        writing = self._writes(agent, call)
        left = int(MAX_EXTENSIONS - writing.record.added)
        if seconds > left:
            raise ExtendedEnough(
                f"seconds: a wrap-up is extended by at most {MAX_EXTENSIONS} s in all; {left} would be possible"
            )
        record = writing.record
        writing.record = record = evolve(
            record, until=max(record.until, self._now()) + seconds, added=record.added + seconds
        )
        self._roster.prolong(agent, call, record.until)
        unit = self._calls.unit()
        unit.put_wrap_up(record)
        self._tell(unit, writing)
        await self._calls.commit(unit)

    async def finish(self, agent: str, call: str) -> None:
        """The agent is done. Raises `NotWritingUp`, `DispositionMissing`, `StoreError`."""
        writing = self._writes(agent, call)
        service = self._service_of(writing)
        if service is not None and service.disposition_required and writing.call.record.disposition is None:
            raise DispositionMissing(
                "this service wants a disposition; PATCH the call with one of:"
                f" {', '.join(service.dispositions)}"
            )
        unit = self._calls.unit()
        self.end(unit, agent)
        await self._calls.commit(unit)

    def end(self, unit: Unit, agent: str) -> bool:
        """The agent is held for it no more, whatever is written; whether they were."""
        writing = self._writing.pop(agent, None)
        if writing is None:
            return False
        record, at = writing.record, self._now()
        seconds = round(max(0.0, min(at, record.until) - record.began), 3)
        unit.remove_wrap_up(agent)
        unit.add_wrap_up(record.call, record.segment, seconds)
        for segment in writing.call.segments:
            if segment.number == record.segment:
                segment.wrap_up = seconds
                writing.call.record.wrap_up = (writing.call.record.wrap_up or 0.0) + seconds
        if self._roster.release(agent, record.call):
            unit.touch_agent(agent, self._roster.record(agent).idle_since)
        self._tell(unit, writing)
        return True

    def expire(self) -> Unit | None:
        """End what has come to its deadline; the transaction of it, None if nothing has."""
        now = self._now()
        late = [agent for agent, writing in self._writing.items() if writing.record.until <= now]
        if not late:
            return None
        unit = self._calls.unit()
        for agent in late:
            log.info("a wrap-up is over", agent=agent, call=self._writing[agent].record.call)
            self.end(unit, agent)
        return unit

    # Inside.

    def _writes(self, agent: str, call: str) -> Writing:
        writing = self._writing.get(agent)
        if writing is None or writing.record.call != call:
            raise NotWritingUp(f"{agent} does not write up this call now")
        return writing

    def _service_of(self, writing: Writing) -> Service | None:
        return self._services().named(writing.call.record.service or "")

    @staticmethod
    def _talked_in(call: LiveCall, agent: str) -> SegmentRecord | None:
        return next(
            (one for one in reversed(call.segments) if one.agent == agent and one.answered is not None), None
        )

    def _tell(self, unit: Unit, writing: Writing) -> None:
        unit.emit(
            "call.updated",
            self._now(),
            {
                "call": writing.call.brief(),
                "party": writing.call.record.party,
                "changed": ["wrap_up"],
                "etag": etag_of(writing.call.record),
            },
            call=writing.record.call,
            agents=(writing.record.agent,),
        )
