"""The way of a call that one of us makes: log it, find out who is called, show the card to the agent, answer.

Where the call goes is not decided here: the dialplan carries it on to the company's own way out, whatever is
answered, and as well if nothing is.
"""

from collections.abc import Callable, Collection
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import TimeoutError

from cti.agents.roster import Roster
from cti.asterisk.channels import device_of
from cti.asterisk.fastagi import AgiCommandFailed, AgiHangup, AgiSession, AgiTimeout
from cti.calls.card import card_body
from cti.calls.inbound import (
    Measures,
    brief_party,
    in_time,
    new_record,
    party_facts,
)
from cti.calls.life import LiveCall, State, is_call_id, mint_call_id
from cti.calls.log import CallLog
from cti.calls.route_request import BadRouteRequest, RouteRequest, check_pbx
from cti.calls.services import Services
from cti.calls.tracker import Tracker
from cti.identify.identification import Identification
from cti.identify.identifier import Identifier
from cti.logs import get_logger
from cti.numbers import Number, NumberKind
from cti.store.base import Unit
from cti.store.records import ChannelRecord, Key

log = get_logger("cti.calls.outbound")

#: A name that does not fit an AGI line is shortened.
_MAY_BE_CUT: Final = frozenset({"CTI_CALLER_NAME"})


@frozen
class Told:
    """A call that Asterisk tells of: what it sent, since when, who calls whom; `agent` is at the phone."""

    request: RouteRequest
    at: float
    caller: Number
    called: Number
    device: str
    agent: str | None

    @property
    def key(self) -> Key:
        return self.request.pbx, self.request.uniqueid


class Outbound:
    """Answers the dialplan's `agi://HOST/outbound`."""

    def __init__(
        self,
        *,
        calls: CallLog,
        tracker: Tracker,
        roster: Roster,
        services: Callable[[], Services],
        identifier: Callable[[], Identifier],
        clock: Any,
        answer_within: float,
        measure: Measures,
        pbxes: Collection[str],
        freshen: Callable[[LiveCall], None],
        late: Callable[[LiveCall, Identification], None],
    ) -> None:
        """The parameters are those of `Inbound`."""
        self._calls = calls
        self._tracker = tracker
        self._roster = roster
        self._services = services
        self._identifier = identifier
        self._clock = clock
        self._answer_within = answer_within
        self._measure = measure
        self._pbxes = pbxes
        self._freshen = freshen
        self._late = late

    async def place(self, session: AgiSession) -> None:
        """One call on its way out, or to a colleague."""
        try:
            told = self._understand(RouteRequest.of(session.request, "outbound"))
        except BadRouteRequest as error:
            log.error("a request that this version's dialplan does not make", why=str(error))
            return
        if self._tracker.was_hung_up(told.request.pbx, told.request.uniqueid):
            # What its hangup handler left in AstDB tells of it.
            log.info("the caller hung up before the call was told of", pbx=told.request.pbx)
            return
        call = self._whose(told)
        channel = call.channels.get(told.key)
        makes_it = call.ours and channel is not None and told.key == (call.record.pbx, call.record.uniqueid)
        if makes_it:
            self._log(told, call)
            await self._show(told, call, await self._identify(told, call))
        await self._answer(session, told, call, self._name(call) if makes_it else None)

    async def fall_open(self, session: AgiSession) -> None:
        """Too many ask at once: the call goes on as it would anyway, and AMI tells of it."""
        self._measure.shed()

    # The steps.

    def _understand(self, request: RouteRequest) -> Told:
        check_pbx(request, self._pbxes)
        plan = self._services().plan
        device = device_of(request.channel)
        return Told(
            request,
            self._clock.seconds(),
            plan.parse(None if request.caller == "unknown" else request.caller),
            plan.parse(request.did),
            device,
            self._roster.at_phone(device),
        )

    def _whose(self, told: Told) -> LiveCall:
        """The call that the channel belongs to: a new one, one that we started, or one that came from outside."""
        request = told.request
        call = self._calls.of_channel(*told.key)
        if call is None and request.call is not None and is_call_id(request.call):
            call = self._calls.get(request.call)
        if call is None:
            record = new_record(
                mint_call_id(told.at),
                request.pbx,
                request.uniqueid,
                request.did,
                told.at,
                told.caller,
                told.called,
                None,
                direction="outbound" if told.called.kind is NumberKind.E164 else "internal",
                agent=told.agent,
                parent=self._calls.consulted_from(told.agent) if told.agent is not None else None,
            )
            record.linkedid = request.linkedid
            call = LiveCall(record)
        has_caller = any(channel.role == "caller" for channel in call.channels.values())
        comes_over = has_caller and call.comes_over(request.pbx, told.device, told.agent)
        if told.key not in call.channels and (comes_over or not has_caller):
            channel = ChannelRecord(
                *told.key, call.id, told.device, "caller", told.at, agent=told.agent, name=request.channel
            )
            call.channels[told.key] = channel
            call.record.uniqueid = call.record.uniqueid or request.uniqueid
        self._calls.keep(call)
        if comes_over:
            unit = self._calls.unit()
            unit.put_channel(call.channels[told.key])
            self._calls.write(call, unit)
        return call

    def _log(self, told: Told, call: LiveCall) -> None:
        """Into the log at once: the caller may be gone before anybody knows whom they called."""
        if call.state is not State.ASKED:
            return
        unit = self._calls.unit()
        call.ask(unit, told.at, call.channels[told.key], None)
        call.send_elsewhere(unit, told.at, None)
        unit.put_call(call.record)
        self._calls.write(call, unit)

    async def _identify(self, told: Told, call: LiveCall) -> Identification:
        """Who is called. It is not kept as who calls: a service that a colleague dials asks that itself."""
        identified = await self._identifier().identify(told.called, lambda found: self._late(call, found))
        call.record.identify_ms = identified.ms
        call.record.party = brief_party(party_facts(identified)) or call.record.party
        return identified

    @staticmethod
    def _name(call: LiveCall) -> str | None:
        """What the CRM calls whom they call, for the display of the phone that does."""
        name: str | None = (call.record.party or {}).get("name")
        return name

    async def _show(self, told: Told, call: LiveCall, identified: Identification) -> None:
        """The card of whom they call, on the screen of the agent who does; of a colleague there is none."""
        if call.over:
            return
        unit = self._calls.unit()
        agent = call.record.agent
        shown = agent is not None and (identified.party is not None or call.record.direction == "outbound")
        if shown and agent is not None:
            call.show(unit, self._clock.seconds(), agent, card_body(call, identified, None, self._services()))
        unit.put_call(call.record)
        if await self._written(told, call, unit) and shown:
            self._measure.card_offered(self._clock.seconds() - told.at)
            self._freshen(call)

    async def _written(self, told: Told, call: LiveCall, unit: Unit) -> bool:
        """Whether it is durable, and on the screen, before Asterisk's patience ends; the call goes on either way."""
        left = told.at + self._answer_within - self._clock.seconds()
        try:
            written: bool = await in_time(self._calls.write(call, unit), max(left, 0.001), self._clock)
        except TimeoutError as error:
            log.warning("the call goes on, and into the log later", call=call.id, why=str(error))
            return False
        return written

    async def _answer(self, session: AgiSession, told: Told, call: LiveCall, name: str | None) -> None:
        variables = [("__CTI_CALL_ID", call.id)]
        if name:
            variables.append(("CTI_CALLER_NAME", name))
        try:
            await session.set_variables(variables, may_cut=_MAY_BE_CUT)
        except (AgiHangup, AgiTimeout, AgiCommandFailed) as error:
            log.warning("Asterisk did not take the answer", call=call.id, why=str(error))
            return
        seconds = self._clock.seconds() - told.at
        self._measure.answered_asterisk(seconds)
        log.info(
            "on its way out",
            call=call.id,
            direction=call.record.direction,
            agent=call.record.agent,
            ms=round(seconds * 1000, 1),
        )
