"""A call that AMI tells of and that nobody asked us about: made at a phone, or by a dialplan that does not ask.

It is in the log like any other. Who the other side is, is found out while the call goes on: nobody waits for it.
One that began and ended while nobody listened is made up for out of Asterisk's own record of it.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.agents.roster import Roster
from cti.asterisk.cdr import CallDetailRecord
from cti.asterisk.channels import Channel
from cti.calls.inbound import brief_party, name_caller, new_record, party_facts
from cti.calls.life import LiveCall, State, mint_call_id
from cti.calls.log import CallLog
from cti.calls.present import etag_of
from cti.calls.services import AMI_ERRORS, Services
from cti.identify.identification import Identification
from cti.identify.identifier import Identifier
from cti.logs import get_logger
from cti.numbers import Number, NumberKind
from cti.store.base import Unit
from cti.store.records import CallRecord, ChannelRecord

log = get_logger("cti.calls.unasked")

_NO_ANSWER: Final = "NO ANSWER"
#: What Dial would have said where a call record says so (disposition).
_DIALSTATUS: Final = {"ANSWERED": "ANSWER", _NO_ANSWER: "NOANSWER", "BUSY": "BUSY"}


class Unasked:
    """Makes calls out of dials."""

    def __init__(
        self,
        calls: CallLog,
        roster: Roster,
        services: Callable[[], Services],
        identifier: Callable[[], Identifier],
        presentation: Callable[[str, str], Awaitable[str]],
        late: Callable[[LiveCall, Identification], None],
    ) -> None:
        """`presentation(pbx, channel)`: Asterisk's word on whether the caller's number may be shown.

        AMI's events do not have it, and raise what an AMI action may raise. `late(call, found)`: an adapter has said
        who it is after all.
        """
        self._calls = calls
        self._roster = roster
        self._services = services
        self._identifier = identifier
        self._presentation = presentation
        self._late = late

    def begin(self, pbx: str, dialler: Channel, dialled: Channel, at: float) -> LiveCall:
        """The call that this dial begins, with the dialler's channel; it is kept, and on its way into the log."""
        began = min(dialler.began or at, at)
        record, other = self._record(pbx, dialler, dialled, began)
        record.reason = "nobody was asked: the call did not pass Cordboard's dialplan, or the server was away"
        call = LiveCall(record)
        unit = self._calls.unit()
        unit.put_call(record)
        call.add_channel(unit, _caller(call, pbx, dialler))
        self._calls.keep(call)
        self._calls.write(call, unit)
        found_out = self._identify(call, other) if call.ours else self._show(call, dialler.name, other)
        Deferred.fromCoroutine(found_out).addErrback(self._not_identified, call)
        return call

    async def made_up(self, pbx: str, row: CallDetailRecord) -> None:
        """Log a call that only Asterisk's own record tells of; fires when it is durable. Raises `StoreError`."""
        dialler = Channel(row.uniqueid, row.channel, number=row.source, exten=row.destination)
        dialled = Channel(f"{row.uniqueid}/unseen", row.dialled)
        record, other = self._record(pbx, dialler, dialled, row.started)
        record.parent = None
        if record.direction == "inbound":
            # Asterisk's records do not say whether the number may be shown.
            other = Number("", NumberKind.UNAVAILABLE)
        record.reason = "made up for out of Asterisk's own record: nobody listened at that time"
        identified = await self._identifier().identify(other)
        record.identify_ms = identified.ms
        record.party = brief_party(party_facts(identified))
        call = LiveCall(record, dialstatus=_DIALSTATUS.get(row.disposition, "CONGESTION"))
        unit = self._calls.unit()
        call.add_channel(unit, _caller(call, pbx, dialler))
        agent = self._roster.at_phone(dialled.device)
        role = "agent" if agent else "other"
        leg = ChannelRecord(
            pbx, dialled.uniqueid, call.id, dialled.device, role, row.started, agent=agent, name=dialled.name
        )
        call.add_channel(unit, leg)
        if row.answered is not None:
            call.answered(unit, row.answered, leg)
        elif row.disposition == _NO_ANSWER:
            call.rang(unit, row.started, leg)
        call.end(unit, row.ended)
        log.warning("a call that went by unheard is in the log now", call=call.id, outcome=record.outcome)
        await self._calls.write_whole(call, unit)

    def _record(
        self, pbx: str, dialler: Channel, dialled: Channel, began: float
    ) -> tuple[CallRecord, Number]:
        """The row of a call between these two, and the number of the side that is not ours."""
        services = self._services()
        service, called = services.of(dialler.exten if len(dialler.exten) > 1 else "")
        caller = services.plan.parse(dialler.number or None)
        agent = self._roster.at_phone(dialler.device)
        direction = "inbound"
        if agent is not None or _is_extension(dialler, caller):
            internal = self._roster.at_phone(dialled.device) is not None or called.kind is NumberKind.INTERNAL
            direction = "internal" if internal else "outbound"
        record = new_record(
            mint_call_id(began),
            pbx,
            dialler.uniqueid,
            dialler.exten,
            began,
            caller if direction != "inbound" else Number("", NumberKind.UNAVAILABLE),
            called,
            service if direction == "inbound" else None,
            direction=direction,
            agent=agent,
            parent=self._calls.consulted_from(agent) if agent is not None else None,
        )
        record.state = str(State.ELSEWHERE)
        return record, caller if direction == "inbound" else called

    async def _show(self, call: LiveCall, channel: str, caller: Number) -> None:
        """A number that its caller forbade to show is not kept; nor is one of which nobody can say."""
        record = call.record
        try:
            word = await self._presentation(record.pbx, channel)
        except AMI_ERRORS as error:
            log.warning("whether a caller's number may be shown is not known", call=call.id, why=str(error))
            return
        if word.startswith("prohib"):
            caller = Number("", NumberKind.WITHHELD)
        name_caller(record, caller)
        await self._identify(call, caller)

    async def _identify(self, call: LiveCall, other: Number) -> None:
        if other.dialable is not None:
            identified = await self._identifier().identify(other, lambda found: self._late(call, found))
            call.record.identify_ms = identified.ms
            call.record.party = brief_party(party_facts(identified))
        unit = self._calls.unit()
        unit.put_call(call.record)
        if call.over and call.record.party is not None:
            tell_party(unit, call)
        self._calls.write(call, unit)

    @staticmethod
    def _not_identified(failure: Failure, call: LiveCall) -> None:
        log.error("nobody found out who is at the other end", call=call.id, exception=failure.getTraceback())


def tell_party(unit: Unit, call: LiveCall) -> None:
    """Who it was has become known after the end, whose event could not say so: CRMs are told by this one."""
    at = call.record.ended or call.record.started
    body = {"call": call.brief(), "changed": ["party"], "etag": etag_of(call.record)}
    unit.emit("call.updated", at, body, call=call.id)


def _caller(call: LiveCall, pbx: str, dialler: Channel) -> ChannelRecord:
    record = call.record
    return ChannelRecord(
        pbx,
        dialler.uniqueid,
        call.id,
        dialler.device,
        "caller",
        record.started,
        agent=record.agent,
        name=dialler.name,
    )


def _is_extension(channel: Channel, caller: Number) -> bool:
    """Whether the caller sits at a phone of the company's, if no agent's: it has a short number, or its own name."""
    return caller.kind is NumberKind.INTERNAL or channel.device.partition("/")[2] == channel.number
