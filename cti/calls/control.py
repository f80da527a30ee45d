"""Call control as its users have it: who may do what to which call, and what the log and the cards make of it.

Finds the channels that an operation means, guards the numbers that are dialled, reserves agents who are to take over,
and leaves the doing to each Asterisk's `Pbx`, which returns only when Asterisk has confirmed. Which role may ask for
what at all stands in the API's table of routes.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.agents.roster import AgentNotReady, AgentUnknown, PhoneOutOfSight, Roster
from cti.asterisk.channels import JOIN_SECONDS, Channels, NotConfirmed
from cti.asterisk.pbx import Listening, NotDone, NotPossible, Pbx, PbxAway, PbxError, Refused
from cti.calls.card import card_body
from cti.calls.inbound import brief_party, new_record, party_facts
from cti.calls.life import Assigned, LiveCall, State, mint_call_id
from cti.calls.log import CallLog
from cti.calls.recordings import next_file
from cti.calls.services import Services
from cti.calls.targets import NobodyThere, Target, ToAgents, ToNumber, ToService, choose, target_of
from cti.calls.tracker import Tracker
from cti.calls.writing_up import WritingUp
from cti.dialling import Allowance
from cti.identify.identification import Identification
from cti.identify.identifier import Identifier
from cti.logs import get_logger
from cti.numbers import Number, NumberKind
from cti.settings import CallControl
from cti.store.base import CallDetail, StoreError, Unit
from cti.store.records import CallRecord, ChannelRecord
from routing.decide import Decision
from routing.facts import Facts

log = get_logger("cti.calls.control")

#: Seconds in which Asterisk asks about a call that was sent on; later, what was meant for it is no more.
COLLECTED_WITHIN: Final = 3.0
#: What is dialled for agents: the dialplan rings their phones instead.
NOBODYS_NUMBER: Final = "0"
_DIGITS: Final = re.compile(r"[0-9A-D*#]{1,32}")


class ControlError(Exception):
    """An operation was not done; the text tells a person why."""


class CallUnknown(ControlError):
    """There is no such call, or it is none of theirs."""


class NotAllowed(ControlError):
    """They may not do this, or nobody may."""


class NotNow(ControlError):
    """The call, the agent or the phone is not in a state for it."""


class BadTarget(ControlError):
    """Whom or what they want to dial does not exist, or may not be dialled."""


class TooMany(ControlError):
    """They have started too many calls; `wait`: seconds until the next."""

    def __init__(self, wait: float) -> None:
        super().__init__(
            f"too many calls were started; the next is possible in {wait:.0f} s (call_control.calls_per_minute)"
        )
        self.wait = wait


class AsteriskRefused(ControlError):
    """Asterisk, or the phone, said no."""


class AsteriskAway(ControlError):
    """There is no connection to Asterisk, or it was lost before the answer."""


class AsteriskSilent(ControlError):
    """Asterisk did not confirm in time."""


_AS_OURS: Final[Mapping[type[PbxError], type[ControlError]]] = {
    NotPossible: NotNow,
    Refused: AsteriskRefused,
    PbxAway: AsteriskAway,
    NotDone: AsteriskSilent,
}


@frozen
class Asker:
    """Who asks: the token's id and name, and the agent that they are. `own_only`: they act for nobody else."""

    token: str
    name: str
    agent: str | None
    own_only: bool


@frozen
class Done:
    """What came of it: the call as it is now, and what else was learnt (a parking `space`)."""

    call: CallRecord
    more: Mapping[str, str] = field(factory=dict)


@frozen
class Leg:
    """An agent's connection to a call, and the Asterisk that has it.

    `call` is the one that was asked about; `home` the one that has the channel, which for a consultation is the call
    that the agent consults about.
    """

    call: LiveCall
    home: LiveCall
    agent: str
    channel: ChannelRecord
    pbx: Pbx
    mirror: Channels
    asker: Asker

    @property
    def uniqueid(self) -> str:
        return self.channel.uniqueid


Operation = Callable[["Control", Leg, Mapping[str, Any]], Awaitable[Done | None]]


class Control:
    """Does to calls what their users ask for.

    Raises subclasses of `ControlError`, and `StoreError` where the log has to be written first and cannot be.
    """

    def __init__(
        self,
        *,
        calls: CallLog,
        tracker: Tracker,
        roster: Roster,
        services: Callable[[], Services],
        identifier: Callable[[], Identifier],
        pbxes: Mapping[str, Pbx],
        mirrors: Mapping[str, Channels],
        now: Callable[[], float],
        settings: CallControl,
        card_url: str | None,
        observe: Callable[[str, str], None],
        writing_up: WritingUp,
        late: Callable[[LiveCall, Identification], None],
    ) -> None:
        """`observe(operation, outcome)` counts; `card_url` is where a call's card is, with `{call}` for its id.

        `late(call, found)`: an adapter has said who is called, after the others.
        """
        self._calls = calls
        self._tracker = tracker
        self._roster = roster
        self._services = services
        self._identifier = identifier
        self._pbxes = pbxes
        self._mirrors = mirrors
        self._now = now
        self._card_url = card_url
        self._observe = observe
        self._writing_up = writing_up
        self._late = late
        self._at_work: set[str] = set()
        self._taped: dict[str, str | None] = {}
        self.use(settings)

    def use(self, settings: CallControl) -> None:
        """These are the settings from now on."""
        self._settings = settings
        self._allowance = Allowance(self._now, settings.calls_per_minute)

    @property
    def own_recordings(self) -> bool:
        """Whether agents hear the recordings of their calls."""
        return self._settings.own_recordings

    # Calls that begin here.

    async def make_call(
        self, asker: Asker, agent: str, to: str, also: Callable[[Unit, str], None] | None = None
    ) -> Done:
        """MakeCall: the agent's phone rings, and once they answer, whom they want to reach.

        `also(unit, call)` adds what becomes true with the call of this id, and is written before any phone rings.
        """
        with self._counted("make", asker):
            if asker.own_only and agent != asker.agent:
                raise NotAllowed("an agent starts calls only for themselves; leave another agent's id out")
            pbx, phone = self._desk(agent)
            target = self._target(asker, agent, to, begins=True)
            call, number, decision = self._new_call(pbx, agent, target, None)
            unit = self._calls.unit()
            self._writing_up.end(unit, agent)
            # Held until they talk, so that nobody offers them another call meanwhile.
            held = self._roster.connect(
                agent, call.id, self._now() + self._settings.ring_seconds + COLLECTED_WITHIN
            )
            if held is not None:
                unit.put_reservation(held)
            if also is not None:
                also(unit, call.id)
            await self._begin(unit, call, decision)
            if number.e164 is not None:
                self._in_background(self._identify_called(call, number), call)
            with self._to_be_made(call):
                await self._pbxes[pbx].make_call(
                    phone,
                    number.dialable or NOBODYS_NUMBER,
                    variables=self._variables(call, target, decision),
                    caller_id=(_name_of(target), number.dialable or ""),
                    office_number=self._settings.office_number,
                    ring_seconds=self._settings.ring_seconds,
                    auto_answer=self._settings.auto_answer,
                )
            return Done(call.record)

    # Operations on calls that there are.

    async def operate(self, asker: Asker, id: str, operation: str, given: Mapping[str, Any]) -> Done:
        """One of `OPERATIONS` on this call. `given`: what it needs, such as `to`; `agent` if they ask for another."""
        with self._counted(operation, asker, id):
            find, work = OPERATIONS[operation]
            leg = find(self, asker, await self._living(asker, id), given.get("agent"))
            key = leg.home.record.parent or leg.home.id
            if operation in _ALWAYS:
                return await work(self, leg, given) or Done(leg.call.record)
            if key in self._at_work:
                raise NotNow("something else is being done to this call; try again when it is done")
            self._at_work.add(key)
            try:
                return await work(self, leg, given) or Done(leg.call.record)
            finally:
                self._at_work.discard(key)

    async def _answer(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await leg.pbx.answer_call(leg.uniqueid)

    async def _clear(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await leg.pbx.clear_connection(leg.uniqueid)

    async def _hold(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await leg.pbx.hold_call(leg.uniqueid)
        await self._held(leg, True)

    async def _retrieve(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await leg.pbx.retrieve_call(leg.uniqueid)
        await self._held(leg, False)

    async def _held(self, leg: Leg, on: bool) -> None:
        """Tell of it, unless Asterisk has: it knows only of phones that hold by themselves."""
        unit = self._calls.unit()
        leg.home.hold(unit, self._now(), leg.channel, on)
        await self._calls.write(leg.home, unit)

    async def _alternate(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await leg.pbx.alternate_call(leg.uniqueid)

    async def _reconnect(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await leg.pbx.reconnect_call(leg.uniqueid)

    async def _complete(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await leg.pbx.transfer_call(leg.uniqueid)

    async def _conference(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await leg.pbx.conference_call(leg.uniqueid, f"cti-{leg.home.id}")

    async def _consult(self, leg: Leg, given: Mapping[str, Any]) -> Done:
        """ConsultationCall: a call of its own, whose parent is the one that it is about."""
        target = self._target(leg.asker, leg.agent, given["to"])
        call, number, decision = self._new_call(leg.channel.pbx, leg.agent, target, leg.home)
        if decision is not None:
            # A colleague is asked about the customer; of an outside number, its own card is shown to who asks.
            call.card, call.record.party = leg.home.card, leg.home.record.party
        await self._begin(self._calls.unit(), call, decision)
        with self._to_be_made(call):
            await leg.pbx.consultation_call(
                leg.uniqueid,
                number.dialable or NOBODYS_NUMBER,
                variables=self._variables(call, target, decision),
                office_number=self._settings.office_number,
            )
        return Done(call.record)

    async def _transfer(self, leg: Leg, given: Mapping[str, Any]) -> None:
        """SingleStepTransferCall: the other side goes on to `to`, and the agent is free."""
        target = self._target(leg.asker, leg.agent, given["to"])
        customer = await _other_side(leg)
        with self._sent_on(leg, target, "transferred") as place:
            await leg.pbx.single_step_transfer(customer, place)

    async def _deflect(self, leg: Leg, given: Mapping[str, Any]) -> None:
        target = self._target(leg.asker, leg.agent, given["to"])
        with self._sent_on(leg, target, "deflected") as place:
            await leg.pbx.deflect_call(leg.uniqueid, place)

    async def _pick_up(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        """`leg` is the colleague's ringing phone, `leg.agent` who takes the call."""
        _, phone = self._desk(leg.agent)
        record = leg.call.record
        await leg.pbx.pickup(
            phone,
            leg.uniqueid,
            caller_id=((record.party or {}).get("name") or "", record.from_number or ""),
            ring_seconds=self._settings.ring_seconds,
            auto_answer=self._settings.auto_answer,
        )

    async def _park(self, leg: Leg, _given: Mapping[str, Any]) -> Done:
        space = await leg.pbx.park(await _other_side(leg))
        return Done(leg.call.record, {"space": space})

    async def _send_digits(self, leg: Leg, given: Mapping[str, Any]) -> None:
        text = given["digits"]
        if not _DIGITS.fullmatch(text):
            raise BadTarget("digits: 1 to 32 of 0-9, A-D, * and # can be sent")
        await leg.pbx.digits(await _other_side(leg), text)

    # Recording and listening.

    async def _record(self, leg: Leg, given: Mapping[str, Any]) -> None:
        if not self._settings.record:
            raise NotAllowed("calls are not recorded here; call_control.record would have to be true")
        call, action = leg.home, given["action"]
        # A server that was restarted meanwhile knows of the recording, and not of which channel.
        running = self._taped.get(call.id, "" if call.record.recording else None)
        if action == "start":
            if running:
                raise NotNow("this call is being recorded already")
            channel, file = await _other_side(leg), next_file(call.record)
            await leg.pbx.start_recording(channel, file, announcement=self._settings.record_announcement)
            call.record.recording = file
            self._remember_tape(call, channel)
        elif running is None:
            raise NotNow("this call is not being recorded")
        elif action == "stop":
            await leg.pbx.stop_recording(running or await _other_side(leg))
            self._remember_tape(call, None)
        elif action == "pause":
            await leg.pbx.pause_recording(running or await _other_side(leg))
        else:
            await leg.pbx.resume_recording(running or await _other_side(leg))
        unit = self._calls.unit()
        unit.put_call(call.record)
        self._note(
            unit,
            leg.home,
            leg.asker,
            "audit.recording",
            {"action": action, "recording": call.record.recording},
        )
        await self._calls.write(call, unit)

    def _remember_tape(self, call: LiveCall, channel: str | None) -> None:
        """Which channel of the call is being recorded now; calls that are over are forgotten."""
        self._taped = {id: taped for id, taped in self._taped.items() if self._calls.get(id) is not None}
        self._taped[call.id] = channel

    async def heard(self, asker: Asker, call: CallRecord) -> None:
        """Somebody hears the recording of this call: it stays on record. Raises `StoreError`."""
        unit = self._calls.unit()
        self._note(
            unit, LiveCall(call), asker, "audit.recording", {"action": "heard", "recording": call.recording}
        )
        await self._calls.commit(unit)
        log.info("a recording is heard", call=call.id, by=asker.name)

    async def _listen(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await self._supervise(leg, "listen")

    async def _whisper(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await self._supervise(leg, "whisper")

    async def _barge(self, leg: Leg, _given: Mapping[str, Any]) -> None:
        await self._supervise(leg, "barge")

    async def _supervise(self, leg: Leg, kind: Listening) -> None:
        if kind not in self._settings.supervise:
            raise NotAllowed(f"nobody may {kind} here; call_control.supervise does not name it")
        if leg.asker.agent is None:
            raise NotAllowed("your token belongs to no agent, and so to no phone; `cti token add --agent ID`")
        pbx, phone = self._desk(leg.asker.agent)
        if pbx != leg.channel.pbx:
            raise NotNow(f"the call is at the Asterisk {leg.channel.pbx}, your phone at {pbx}")
        # It stays on record that it was asked for, whatever comes of it.
        unit = self._calls.unit()
        self._note(unit, leg.home, leg.asker, "audit.supervision", {"kind": kind, "agent": leg.agent})
        await self._calls.commit(unit)
        log.warning("a supervisor listens", call=leg.call.id, kind=kind, agent=leg.agent, by=leg.asker.name)
        await leg.pbx.monitor(
            phone,
            leg.uniqueid,
            kind,
            announcement=self._settings.supervise_announcement,
            ring_seconds=self._settings.ring_seconds,
            auto_answer=self._settings.auto_answer,
        )

    # What could be done now.

    async def recall(self, pbx: str) -> None:
        """After a restart: whom the agents hold at this Asterisk, which it alone remembers. Raises `PbxError`."""
        for call in self._calls.of_pbx(pbx):
            for channel in call.living:
                if (
                    channel.agent is not None
                    and channel.pbx == pbx
                    and await self._pbxes[pbx].recall(channel.uniqueid)
                ):
                    call.held.add(channel.key)

    def possible(self, call: LiveCall, agent: str) -> list[str]:
        """The operations that this agent could ask for now, in the order of `OPERATIONS`."""
        try:
            leg = self._own(Asker("", "", agent, own_only=True), call, agent)
        except ControlError:
            return []
        found = leg.pbx.possible(leg.uniqueid)
        if (leg.home.record.parent or leg.home.id) in self._at_work:
            found &= _ALWAYS
        if len(_connected(leg)) != 1:
            found -= _TO_THE_OTHER_SIDE
        if not self._settings.record:
            found -= {"record"}
        return [operation for operation in OPERATIONS if operation in found]

    # Whose connection is meant.

    async def _living(self, asker: Asker, id: str) -> LiveCall:
        call = self._calls.get(id)
        if call is not None:
            return call
        detail = await self._calls.store.call(id)
        if detail is None or (asker.own_only and not took_part(detail, asker.agent)):
            raise CallUnknown(_UNKNOWN)
        raise NotNow("this call has ended")

    def _own(self, asker: Asker, call: LiveCall, agent: str | None) -> Leg:
        """The connection of the agent who asks, or for whom somebody asks."""
        agent = self._on_behalf(asker, call, agent)
        for home in (call, self._calls.get(call.record.parent or "")):
            found = [] if home is None else [each for each in home.living if each.agent == agent]
            if home is not None and found:
                # Of several phones that ring or have rung, the one that they talk at.
                channel = max(found, key=lambda each: (each.answered is not None, each.role == "caller"))
                return self._leg(asker, call, home, agent, channel)
        if (
            asker.own_only
            and agent != call.record.agent
            and not any(agent in each.agents for each in call.segments)
        ):
            raise CallUnknown(_UNKNOWN)
        raise NotNow(f"{agent} is not in this call now")

    @staticmethod
    def _on_behalf(asker: Asker, call: LiveCall, agent: str | None) -> str:
        if asker.own_only:
            if agent not in (None, asker.agent):
                raise NotAllowed("an agent acts only for themselves; leave `agent` out")
            agent = asker.agent
        if agent is not None:
            return agent
        inside = {each.agent for each in call.living if each.agent is not None}
        if len(inside) == 1:
            return inside.pop()
        if call.record.agent is not None and not inside:
            return call.record.agent
        raise BadTarget(
            "agent: say whose connection is meant" + (f": {', '.join(sorted(inside))}" if inside else "")
        )

    def _spied(self, asker: Asker, call: LiveCall, agent: str | None) -> Leg:
        """Whom to listen to: an agent who talks."""
        leg = self._own(asker, call, agent)
        if leg.agent == asker.agent:
            raise NotNow("this call is your own")
        return leg

    def _colleague(self, asker: Asker, call: LiveCall, agent: str | None) -> Leg:
        """The phone that rings at a colleague of who wants to pick up: somebody of one of their groups."""
        taker = asker.agent if asker.own_only else agent or asker.agent
        if taker is None or (asker.own_only and agent not in (None, asker.agent)):
            raise BadTarget("agent: say who picks up")
        try:
            groups = set(self._roster.record(taker).groups)
        except AgentUnknown as error:
            raise BadTarget(f"agent: {error}") from error
        ringing = [each for each in call.living if each.role == "agent" and each.answered is None]
        for channel in ringing:
            if channel.agent is not None and channel.agent != taker:
                theirs = self._roster.agents.get(channel.agent)
                if theirs is not None and (groups & theirs.groups or not asker.own_only):
                    return self._leg(asker, call, call, taker, channel)
        if asker.own_only:
            # Who is of another group is not told what calls there are.
            raise CallUnknown("there is no such call, or it rings at nobody of your groups")
        raise NotNow("this call rings at nobody else")

    def _leg(self, asker: Asker, call: LiveCall, home: LiveCall, agent: str, channel: ChannelRecord) -> Leg:
        name = channel.pbx
        if not self._roster.sees(name):
            raise AsteriskAway(f"the call is at the Asterisk {name}, to which there is no connection")
        return Leg(call, home, agent, channel, self._pbxes[name], self._mirrors[name], asker)

    def _desk(self, agent: str) -> tuple[str, str]:
        """The Asterisk and the phone at which an agent can be rung for something of their own."""
        try:
            return self._roster.desk(agent)
        except AgentUnknown as error:
            raise BadTarget(f"agent: {error}") from error
        except PhoneOutOfSight as error:
            raise AsteriskAway(str(error)) from error
        except AgentNotReady as error:
            raise NotNow(str(error)) from error

    # Whom they want to reach.

    def _target(self, asker: Asker, agent: str, to: str, *, begins: bool = False) -> Target:
        """Whom they mean; counted if a call `begins` with it, or goes outside. Raises `BadTarget`, `TooMany`."""
        services = self._services()
        try:
            target = target_of(
                to, self._roster.agents, self._roster.group_names, services, self._settings.dialling
            )
        except NobodyThere as error:
            raise BadTarget(str(error)) from error
        if isinstance(target, ToAgents) and target.name == agent:
            raise BadTarget("to: nobody calls themselves")
        if begins or isinstance(target, ToNumber):
            wait = self._allowance.take(f"token {asker.token}", f"agent {agent}")
            if wait:
                raise TooMany(wait)
        return target

    def _new_call(
        self, pbx: str, agent: str, target: Target, parent: LiveCall | None
    ) -> tuple[LiveCall, Number, Decision | None]:
        """A call from an agent that Asterisk does not know of yet, its number, and who is rung for it.

        Raises `NotNow` if no agent of those meant is free.
        """
        at = self._now()
        services = self._services()
        decision, number = None, Number("", NumberKind.UNAVAILABLE)
        match target:
            case ToNumber(dialled):
                number = services.plan.parse(dialled)
            case ToService(service):
                number = services.plan.parse(service.numbers[0])
            case ToAgents(name):
                # Stands in the log as whom they called; no number leads to an agent.
                number = Number(name, NumberKind.UNAVAILABLE)
                decision = self._choose(target, pbx, agent, "called" if parent is None else "consulted")
        office = services.plan.parse(self._settings.office_number)
        record = new_record(
            mint_call_id(at),
            pbx,
            None,
            number.dialable or number.raw,
            at,
            office,
            number,
            None,
            direction="outbound" if number.e164 is not None and isinstance(target, ToNumber) else "internal",
            agent=agent,
            parent=None if parent is None else parent.id,
        )
        if decision is None:
            record.state = str(State.ELSEWHERE)
        return LiveCall(record), number, decision

    def _choose(
        self, target: ToAgents, pbx: str, by: str, how: str, call: LiveCall | None = None
    ) -> Decision:
        """Who of those meant gets the call, and `how`; they need a phone at the same Asterisk. Raises `NotNow`."""
        record = None if call is None else call.record
        facts = Facts(
            at=self._now(),
            service="" if record is None else record.service or "",
            from_number=None,
            from_kind="unavailable",
            to="",
            # Nobody gets the call back whom they have just sent on.
            tried=frozenset({by}),
            agents=self._roster.agents,
            groups=self._roster.groups,
            pbx=pbx,
        )
        try:
            decision = choose(target, facts, self._settings.ring_seconds)
        except NobodyThere as error:
            raise NotNow(str(error)) from error
        return evolve(decision, rule=how, reason=f"{how} by {by}")

    # What becomes true with it.

    async def _begin(self, unit: Unit, call: LiveCall, decision: Decision | None) -> None:
        """Write a call that begins here before Asterisk hears of it. Raises `NotNow`, `StoreError`."""
        if decision is not None:
            self._offer(unit, call, decision)
        unit.put_call(call.record)
        self._tracker.expect(call)
        try:
            await self._calls.commit(unit)
        except StoreError as error:
            self._tracker.not_made(call, f"not started: {error}")
            raise

    def _offer(self, unit: Unit, call: LiveCall, decision: Decision) -> None:
        self._reserve(unit, call, decision, call.record.attempt, decision.timeout + COLLECTED_WITHIN)
        call.offer_to(unit, self._now(), decision, call.card)

    def _reserve(self, unit: Unit, call: LiveCall, decision: Decision, attempt: int, seconds: float) -> None:
        expires = self._now() + seconds
        try:
            for reservation in self._roster.reserve(decision.agents, call.id, attempt, expires):
                unit.put_reservation(reservation)
        except AgentNotReady as error:
            raise NotNow(str(error)) from error

    @contextmanager
    def _sent_on(self, leg: Leg, target: Target, how: str) -> Iterator[str]:
        """The place in the dialplan for whom the agent passes on; agents who are to get the call are reserved."""
        call, decision = leg.home, None
        match target:
            case ToNumber(number):
                to, place = number, f"cti-outbound,{number},1"
            case ToService(service):
                to, place = service.numbers[0], f"cti-inbound,{service.numbers[0]},1"
            case ToAgents():
                decision = self._choose(target, leg.channel.pbx, leg.agent, how, call)
                to, place = decision.agents[0], f"cti-inbound,{_did(call.record)},1"
                unit = self._calls.unit()
                # Whoever collects it holds them for as long as they are to ring.
                self._reserve(unit, call, decision, call.record.attempt + 1, 2 * COLLECTED_WITHIN)
                self._calls.write(call, unit)
                call.assigned = Assigned(decision, leg.agent, self._now() + COLLECTED_WITHIN)
        self._tracker.transfer_by(call, leg.agent, to)
        try:
            yield place
        except BaseException:
            self._tracker.not_transferred(call)
            if decision is not None and call.assigned is not None:
                call.assigned = None
                unit = self._calls.unit()
                self._tracker.let_go(unit, call, decision.agents)
                self._calls.write(call, unit)
            raise

    async def _identify_called(self, call: LiveCall, number: Number) -> None:
        """Who is called: found out while the agent's phone rings, and shown to them."""
        identified = await self._identifier().identify(number, lambda found: self._late(call, found))
        agent = call.record.agent
        if call.over or agent is None:
            return
        call.record.identify_ms = identified.ms
        call.record.party = brief_party(party_facts(identified))
        unit = self._calls.unit()
        unit.put_call(call.record)
        call.show(unit, self._now(), agent, card_body(call, identified, None, self._services()))
        self._calls.write(call, unit)

    @contextmanager
    def _to_be_made(self, call: LiveCall) -> Iterator[None]:
        """A call that Asterisk does not make after all is over, and everybody let go."""
        try:
            yield
        except BaseException as error:
            self._tracker.not_made(call, f"not made: {error}")
            raise

    def _variables(self, call: LiveCall, target: Target, decision: Decision | None) -> dict[str, str]:
        """What the dialplan under “Call control” has to know of a call that begins here."""
        caller = self._roster.agents.get(call.record.agent or "")
        variables = {
            "__CTI_CALL_ID": call.id,
            # All of them each time: an agent's channel may have made another call before.
            "_CTI_OUR_PHONES": "" if decision is None else decision.target,
            "_CTI_OUR_SECONDS": "" if decision is None else str(decision.timeout),
            "_CTI_OUR_NAME": "" if caller is None else caller.name,
            "_CTI_OUR_SERVICE": "1" if isinstance(target, ToService) else "",
        }
        if self._card_url is not None:
            variables["_CTI_OUR_CARD"] = self._card_url.replace("{call}", call.id)
        return variables

    def _note(self, unit: Unit, call: LiveCall, asker: Asker, type: str, what: Mapping[str, Any]) -> None:
        """What has to stay on record: who did what to whose call, and when."""
        unit.emit(type, self._now(), {"call": call.brief(), "by": asker.name, **what}, call=call.id)

    @contextmanager
    def _counted(self, operation: str, asker: Asker, call: str | None = None) -> Iterator[None]:
        """Count an operation by what came of it, log it, and tell Asterisk's refusals in words of our own."""
        outcome = "failed"
        try:
            yield
            outcome = "done"
        except NotPossible as error:
            outcome = "refused"
            raise NotNow(str(error)) from error
        except PbxError as error:
            log.warning(
                "an operation failed at Asterisk", call=call, operation=operation, why=type(error).__name__
            )
            raise _AS_OURS[type(error)](str(error)) from error
        except AsteriskAway:
            raise
        except ControlError:
            outcome = "refused"
            raise
        finally:
            self._observe(operation, outcome)
            log.info("call control", call=call, operation=operation, outcome=outcome, by=asker.name)

    @staticmethod
    def _in_background(what: Any, call: LiveCall) -> None:
        def failed(failure: Failure) -> None:
            log.error("who is called could not be found out", call=call.id, exception=failure.getTraceback())

        Deferred.fromCoroutine(what).addErrback(failed)


Find = Callable[[Control, Asker, LiveCall, str | None], Leg]

#: What may be asked of a call: whose connection is meant, and what is done to it.
OPERATIONS: Final[Mapping[str, tuple[Find, Operation]]] = {
    "answer": (Control._own, Control._answer),
    "hold": (Control._own, Control._hold),
    "retrieve": (Control._own, Control._retrieve),
    "alternate": (Control._own, Control._alternate),
    "consult": (Control._own, Control._consult),
    "complete": (Control._own, Control._complete),
    "reconnect": (Control._own, Control._reconnect),
    "transfer": (Control._own, Control._transfer),
    "conference": (Control._own, Control._conference),
    "deflect": (Control._own, Control._deflect),
    "pickup": (Control._colleague, Control._pick_up),
    "park": (Control._own, Control._park),
    "digits": (Control._own, Control._send_digits),
    "record": (Control._own, Control._record),
    "listen": (Control._spied, Control._listen),
    "whisper": (Control._spied, Control._whisper),
    "barge": (Control._spied, Control._barge),
    "clear": (Control._own, Control._clear),
}


def took_part(detail: CallDetail, agent: str | None) -> bool:
    """Whether this agent talked in the call, or was offered it."""
    return detail.call.agent == agent or any(
        agent == segment.agent or agent in segment.agents for segment in detail.segments
    )


#: Who wants to hang up is not kept waiting for anything.
_ALWAYS: Final = frozenset({"clear"})
#: What is done to whom the agent talks to, who has to be one.
_TO_THE_OTHER_SIDE: Final = frozenset({"transfer", "park", "digits", "record"})

_UNKNOWN: Final = "there is no such call, or you had no part in it"


def _name_of(target: Target) -> str:
    return target.name if isinstance(target, ToAgents) else ""


async def _other_side(leg: Leg) -> str:
    """The uniqueid of whom the agent talks to, or is about to as they have just answered. Raises `NotNow`."""
    found = _connected(leg)
    phone = leg.mirror.get(leg.uniqueid)
    if not found and phone is not None and phone.up:
        with suppress(NotConfirmed):
            found = await leg.mirror.until(lambda: _connected(leg), JOIN_SECONDS, "somebody is connected")
    if len(found) != 1:
        raise NotNow(
            "nobody is connected with this phone now"
            if not found
            else "this is a conference, and several could be meant"
        )
    return found[0]


def _connected(leg: Leg) -> list[str]:
    """The uniqueids of who is connected with the agent's phone, beyond the Local channels between them."""
    found: dict[str, None] = {}
    seen = {leg.uniqueid}
    beside = leg.mirror.partners(leg.uniqueid)
    while beside:
        channel = beside.pop()
        if channel.uniqueid in seen:
            continue
        seen.add(channel.uniqueid)
        if channel.other_half is None:
            found[channel.uniqueid] = None
        else:
            seen.add(channel.other_half)
            beside += leg.mirror.partners(channel.other_half)
    return list(found)


def _did(record: CallRecord) -> str:
    """The number by which the dialplan asks about this call again, as the trunk sent it.

    `s` where `cti-inbound` would not take it for one: a feature's code, or a letter, which is Asterisk's own.
    """
    number = re.sub(r"[^0-9A-Za-z+*#]", "", record.to_raw)
    return number if re.match(r"[0-9]|\+|[A-Za-z].", number) else "s"
