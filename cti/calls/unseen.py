"""A record for a call that we were never asked about, or whose question never reached its end.

Its only trace is what the dialplan's hangup handler left in AstDB: the daemon was stopped or frozen, the caller
went to the fallback, and yet no call may be missing from the log.
"""

from collections.abc import Callable

from cti.agents.roster import Roster
from cti.asterisk.channels import device_of
from cti.calls.inbound import brief_party, name_caller, new_record, party_facts
from cti.calls.life import LiveCall, State, mint_call_id
from cti.calls.log import CallLog
from cti.calls.services import Services
from cti.calls.tracker import EndedRecord
from cti.calls.unasked import tell_party
from cti.identify.identifier import Identifier
from cti.logs import get_logger
from cti.numbers import Number, NumberKind
from cti.store.records import ChannelRecord

log = get_logger("cti.calls.unseen")


class Unseen:
    """Makes records out of what the dialplan left."""

    def __init__(
        self,
        calls: CallLog,
        roster: Roster,
        services: Callable[[], Services],
        identifier: Callable[[], Identifier],
        now: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._roster = roster
        self._services = services
        self._identifier = identifier
        self._now = now

    async def record(self, pbx: str, known: EndedRecord) -> None:
        """Log this call now, and tell everybody that it ended; fires when it is durable."""
        logged = self._calls.store.call_by_channel(pbx, known.uniqueid) or known.call
        detail = await self._calls.store.call(logged) if logged is not None else None
        if detail is not None:
            if (detail.call.pbx, detail.call.uniqueid) == (pbx, known.uniqueid):
                await self._add_caller(LiveCall.restored(detail), known)
            else:
                await self._add_channel(pbx, known, detail.call.id)
            return
        services = self._services()
        service, called = services.of(known.did)
        caller = self._caller(known)
        direction = "inbound"
        if known.way == "outbound":
            direction = "outbound" if called.kind is NumberKind.E164 else "internal"
        ours = direction != "inbound"
        device = device_of(known.channel)
        agent = self._roster.at_phone(device) if ours else None
        identified = await self._identifier().identify(called if ours else caller)
        ended = known.ended or self._now()
        started = known.started or ended
        record = new_record(
            known.call or mint_call_id(started),
            pbx,
            known.uniqueid,
            known.did,
            started,
            caller,
            called,
            None if ours else service,
            direction=direction,
            agent=agent,
        )
        record.state = str(State.ELSEWHERE)
        record.reason = "nobody was asked in time: the server was away, or had too much to do"
        record.identify_ms = identified.ms
        record.hangup_cause = known.cause
        record.party = brief_party(party_facts(identified))
        # Who left while the question was asked has been sent nowhere.
        sent = "fallback" if not ours and not known.asking else None
        call = LiveCall(record, action=sent, dialstatus=known.dialstatus or None)
        call.channels[pbx, known.uniqueid] = ChannelRecord(
            pbx, known.uniqueid, call.id, device, "caller", started, agent=agent, cause=known.cause
        )
        unit = self._calls.unit()
        if known.dialstatus and not known.asking:
            leg = ChannelRecord(pbx, f"{known.uniqueid}/unseen", call.id, "", "other", started)
            call.add_channel(unit, leg)
            if known.dialstatus == "ANSWER":
                call.answered(unit, max(ended - (known.talked or 0.0), started), leg)
        call.end(unit, ended)
        log.warning("a call that went by without us is in the log now", call=call.id, outcome=record.outcome)
        await self._calls.write_whole(call, unit)

    def _caller(self, known: EndedRecord) -> Number:
        hidden = _WITHHELD if known.presentation.startswith("prohib") else None
        return self._services().plan.parse(known.caller or None, presentation=hidden)

    async def _add_caller(self, call: LiveCall, known: EndedRecord) -> None:
        """A call that is in the log, but nobody could say in time whether its caller's number may be kept."""
        record, caller = call.record, self._caller(known)
        if record.from_kind != NumberKind.UNAVAILABLE or caller.kind is NumberKind.UNAVAILABLE:
            return
        name_caller(record, caller)
        identified = await self._identifier().identify(caller)
        record.identify_ms = identified.ms
        record.party = brief_party(party_facts(identified))
        # No more than that: what is read here may be older than what waits in the spool, such as the call's end.
        unit = self._calls.unit()
        unit.name_caller(record)
        if record.party is not None:
            unit.take_party(record.id, record.party)
            tell_party(unit, call)
        await self._calls.commit(unit)

    async def _add_channel(self, pbx: str, known: EndedRecord, call: str) -> None:
        """The id of a call is inherited by every channel made from it: this one belongs to a call in the log."""
        unit = self._calls.unit()
        began = known.started or known.ended or self._now()
        unit.put_channel(
            ChannelRecord(pbx, known.uniqueid, call, "", "other", began, ended=known.ended, cause=known.cause)
        )
        await self._calls.commit(unit)


#: Asterisk's "presentation prohibited, not screened" (AST_PRES_RESTRICTED).
_WITHHELD = 32
