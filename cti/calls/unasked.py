"""A call that AMI tells of and that nobody asked us about: made at a phone, or by a dialplan that does not ask.

It is in the log like any other. Who the other side is, is found out while the call goes on: nobody waits for it.
"""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.agents.roster import Roster
from cti.asterisk.channels import Channel
from cti.calls.identification import Identifier
from cti.calls.inbound import brief_party, new_record, party_facts
from cti.calls.life import LiveCall, State, mint_call_id
from cti.calls.log import CallLog
from cti.calls.services import Services
from cti.logs import get_logger
from cti.numbers import Number, NumberKind
from cti.store.records import ChannelRecord

log = get_logger("cti.calls.unasked")


class Unasked:
    """Makes calls out of dials."""

    def __init__(
        self,
        calls: CallLog,
        roster: Roster,
        services: Callable[[], Services],
        identifier: Callable[[], Identifier],
    ) -> None:
        self._calls = calls
        self._roster = roster
        self._services = services
        self._identifier = identifier

    def begin(self, pbx: str, dialler: Channel, dialled: Channel, at: float) -> LiveCall:
        """The call that this dial begins, with the dialler's channel; it is kept, and on its way into the log."""
        services = self._services()
        service, called = services.of(dialler.exten if len(dialler.exten) > 1 else "")
        caller = services.plan.parse(dialler.number or None)
        agent = self._roster.at_phone(dialler.device)
        direction = "inbound"
        if agent is not None or _is_extension(dialler, caller):
            internal = self._roster.at_phone(dialled.device) is not None or called.kind is NumberKind.INTERNAL
            direction = "internal" if internal else "outbound"
        began = min(dialler.began or at, at)
        record = new_record(
            mint_call_id(began),
            pbx,
            dialler.uniqueid,
            dialler.exten,
            began,
            caller,
            called,
            service if direction == "inbound" else None,
            direction=direction,
            agent=agent,
            parent=self._calls.consulted_from(agent) if agent is not None else None,
        )
        record.state = str(State.ELSEWHERE)
        record.reason = "nobody was asked: the call did not pass Cordboard's dialplan, or the server was away"
        call = LiveCall(record)
        channel = ChannelRecord(
            pbx, dialler.uniqueid, call.id, dialler.device, "caller", began, agent=agent, name=dialler.name
        )
        unit = self._calls.unit()
        unit.put_call(record)
        call.add_channel(unit, channel)
        self._calls.keep(call)
        self._calls.write(call, unit)
        other = caller if direction == "inbound" else called
        if other.dialable is not None:
            Deferred.fromCoroutine(self._identify(call, other)).addErrback(self._not_identified, call)
        return call

    async def _identify(self, call: LiveCall, other: Number) -> None:
        identified = await self._identifier().identify(other)
        call.record.identify_ms = identified.ms
        call.record.party = brief_party(party_facts(identified))
        unit = self._calls.unit()
        unit.put_call(call.record)
        self._calls.write(call, unit)

    @staticmethod
    def _not_identified(failure: Failure, call: LiveCall) -> None:
        log.error("nobody found out who is at the other end", call=call.id, exception=failure.getTraceback())


def _is_extension(channel: Channel, caller: Number) -> bool:
    """Whether the caller sits at a phone of the company's, if no agent's: it has a short number, or its own name."""
    return caller.kind is NumberKind.INTERNAL or channel.device.partition("/")[2] == channel.number
