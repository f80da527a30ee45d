"""What AMI says became of a call: each event is given to the call it belongs to, and an outage is made good.

Theory of operation. A call's channels are known by (pbx, uniqueid). A channel belongs to a call because (1) it
carries our id, which `channelvars` puts on every event of every channel made from another; (2) a channel of that
call dialled it, as `DialBegin` says; (3) it came into a bridge with channels of that call, as who takes a call out
of a parking lot does; or (4) nobody had asked about its call: then `DialBegin` begins one, which `unasked` makes.
What a bridge of two calls means is told in `cti.calls.meeting`. linkedid is never used: a bridge of two calls stamps
the oldest linkedid on everybody. A masquerade (a pickup, a transfer while it rings) puts a phone's channel, with its
name and its uniqueid, where another was (main/channel.c, 16 and 22), so that a key is always the same phone's. A call
ends with its last channel.

When AMI was away, `resync` compares what we believe with the channels that Asterisk lists, and with what the
dialplan's hangup handler left in AstDB under `cti/ended/UNIQUEID`. Events that were queued before the list was
made may arrive after it; they are old news then, and every method of a call takes old news without harm.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from cti.agents.roster import Roster
from cti.asterisk.ami import AmiClient
from cti.asterisk.ami_parser import Event
from cti.asterisk.channels import AWAITED, MIRRORED, Channel, Channels, device_of
from cti.calls.life import SEGMENT_RESULTS, LiveCall, is_call_id
from cti.calls.log import CallLog
from cti.calls.meeting import CONFERENCE, HOLDING, half_of, meeting
from cti.calls.writing_up import WritingUp
from cti.logs import get_logger
from cti.numbers import NumberKind
from cti.store.base import StoreError, Unit
from cti.store.records import ChannelRecord, Key

log = get_logger("cti.calls.tracker")

#: The events that are parsed at all; everything else is passed over by its name.
WANTED: Final = (
    MIRRORED
    | AWAITED
    | {
        "DialState",
        "DialEnd",
        "DeviceStateChange",
        "BlindTransfer",
        "AttendedTransfer",
        "Pickup",
        "ParkedCallTimeOut",
    }
)

#: Seconds that an agent stays held for a call that nobody has confirmed since. Twice the sweep and a half.
CONNECTED_LEASE: Final = 75.0
#: Seconds between two confirmations, and between two looks for ends that were left in AstDB.
SWEEP: Final = 30.0
#: Seconds between two looks for the end of a call that nobody asked about, once a strange channel has ended.
LOOK: Final = 2.0
#: Seconds without a channel at Asterisk after which a call that began, or gained one, is over.
GONE: Final = 300.0
#: Seconds that a call which we start ourselves may be without a channel.
EXPECTED: Final = 90.0
#: How many ends of channels that were not ours are remembered, for a question that arrives after the end.
_STRANGERS: Final = 2000
#: What the dialplan says (UserEvent) on the channel that leads to another Asterisk of ours, before it is dialled.
_TO_A_PEER: Final = "CtiPeer"
_ENDED_FAMILY: Final = "cti/ended"
#: Ends that are taken in at the same time.
_AT_ONCE: Final = 8
#: Channels that stand in for another one until a masquerade.
_SURROGATE: Final = ("Surrogate/", "AsyncGoto/")
#: Channels of Asterisk's own in a bridge: a conference's announcer and recorder, and the like.
_NO_PERSON: Final = ("CBAnn/", "CBRec/", "Announcer/", "Recorder/")


@frozen
class EndedRecord:
    """What the dialplan's hangup handler knew. Times are epoch seconds, whole ones: AstDB's come from EPOCH.

    `way`: `outbound` of a call that began in cti-outbound. `channel`: the name of the caller's. `asking`: the
    question during which the caller left, empty where they did not; `last`: DIALSTATUS when the last one was asked.
    """

    uniqueid: str
    call: str | None
    way: str
    channel: str
    did: str
    caller: str
    presentation: str
    started: float | None
    ended: float | None
    cause: int | None
    action: str
    attempt: int
    asking: str
    last: str
    dialstatus: str
    talked: float | None

    @classmethod
    def of(cls, uniqueid: str, text: str) -> "EndedRecord":
        """Read `v=1,call=…,did=…`; a field that is not there, or is not what it should be, is None or empty."""
        given = dict(part.partition("=")[::2] for part in text.split(","))
        call = given.get("call", "")
        return cls(
            uniqueid=uniqueid,
            call=call if is_call_id(call) else None,
            way=given.get("way", ""),
            channel=given.get("channel", ""),
            did=given.get("did", ""),
            caller=given.get("from", ""),
            presentation=given.get("pres", ""),
            started=_seconds(given.get("started", "")),
            ended=_seconds(given.get("ended", "")),
            cause=_whole(given.get("cause", "")),
            action=given.get("action", ""),
            attempt=_whole(given.get("attempt", "")) or 0,
            asking=given.get("asking", ""),
            last=given.get("last", ""),
            dialstatus=given.get("dialstatus", ""),
            talked=_seconds(given.get("talked", "")),
        )


class Tracker:
    """Follows the calls of all Asterisks."""

    def __init__(
        self,
        calls: CallLog,
        roster: Roster,
        now: Callable[[], float],
        unseen: Callable[[str, EndedRecord], Awaitable[None]],
        channels: Mapping[str, Channels],
        unasked: "Callable[[str, Channel, Channel, float], LiveCall]",
        writing_up: WritingUp,
    ) -> None:
        """`unseen(pbx, ended)` gives a call that was never asked about its record once it is over.

        `unasked(pbx, dialler, dialled, at)` makes a call out of a dial that no call of ours began.
        `channels`: the mirror of each Asterisk, which has taken in an event before `on_event` is given it.
        """
        self._calls = calls
        self._roster = roster
        self._now = now
        self._unseen = unseen
        self._mirrors = channels
        self._make_unasked = unasked
        self._writing_up = writing_up
        self._strangers: dict[Key, None] = {}
        self._expected: dict[str, float] = {}
        self._to_look: set[str] = set()
        self._being_recorded: set[tuple[str, str]] = set()
        self._deleted: dict[Key, None] = {}
        self._handlers: Mapping[str, Callable[[str, Event, float], None]] = {
            "Newchannel": self._channel,
            "Newstate": self._channel_state,
            "DialBegin": self._dial_began,
            "DialState": self._dial_state,
            "DialEnd": self._dial_ended,
            "LocalBridge": self._local_bridge,
            "BridgeEnter": self._entered_bridge,
            "Hold": lambda pbx, event, at: self._hold(pbx, event, at, True),
            "Unhold": lambda pbx, event, at: self._hold(pbx, event, at, False),
            "BlindTransfer": self._blind_transfer,
            "AttendedTransfer": self._attended_transfer,
            "Pickup": self._picked_up,
            "ParkedCall": self._parked,
            "ParkedCallTimeOut": self._parked_too_long,
            "UserEvent": self._said,
            "Hangup": self._hung_up,
            "DeviceStateChange": self._device_state,
        }
        self._amis: dict[str, AmiClient] = {}
        self._in_step: dict[str, float] = {}

    def on_event(self, pbx: str, event: Event) -> None:
        """One event of one Asterisk, in the order in which it sent them."""
        handler = self._handlers.get(event.name)
        if handler is not None:
            handler(pbx, event, event.timestamp or self._now())

    def was_hung_up(self, pbx: str, uniqueid: str) -> bool:
        """Whether AMI has told of the end of this channel before anybody asked about it."""
        return (pbx, uniqueid) in self._strangers

    def may_have_missed_an_end(self, pbx: str) -> bool:
        """Whether, since the last sweep, a channel ended that is no call's here: its end may be in AstDB."""
        return pbx in self._to_look

    def expect(self, call: LiveCall) -> None:
        """Know a call that we start ourselves before it has a channel: its channels will carry its id.

        If none comes, it ends by `not_made`, or by itself after `EXPECTED` seconds. Writing it down before is the
        caller's business.
        """
        self._calls.keep(call)
        self._expected[call.id] = self._now() + EXPECTED

    def not_made(self, call: LiveCall, why: str) -> None:
        """Asterisk could not start this call: it is over, unless a channel has come after all."""
        if self._expected.pop(call.id, None) is None or call.living:
            return
        call.record.reason = why
        unit = self._calls.unit()
        self._end(unit, call, self._now())
        self._write(call, unit)

    def transfer_by(self, call: LiveCall, agent: str, to: str | None) -> None:
        """This agent is about to pass the call on, to another agent (their id) or to a number.

        Who is reached next gets a segment that says so, and `call.transferred` is told once the agent has left, or
        whom they meant has answered. `not_transferred` takes it back.
        """
        call.passes_on(agent, to)

    def not_transferred(self, call: LiveCall) -> None:
        """Asterisk did not pass the call on."""
        if call.transfer is not None and not call.transfer.told:
            call.transfer = None

    def let_go(self, unit: Unit, call: LiveCall, agents: Iterable[str]) -> None:
        """These agents are not held for the call any more, unless they talk: then for another in which they do.

        Who has to write it up is held for that.
        """
        for agent in set(agents) - call.talking:
            if self._writing_up.of(agent) is not None:
                continue
            other = next((one for one in self._calls.of_agent(agent) if agent in one.talking), None)
            goes_on = other is not None or self._roster.is_held(agent, but=call.id)
            if self._writing_up.part_over(unit, call, agent, talks_on=goes_on):
                unit.remove_reservation(agent, call.id)
                continue
            if not self._roster.release(agent, call.id):
                if agent not in self._roster.agents:
                    # Deleted during the call: only the store still holds them.
                    unit.remove_reservation(agent, call.id)
                continue
            unit.remove_reservation(agent, call.id)
            unit.touch_agent(agent, self._roster.record(agent).idle_since)
            if other is not None:
                self._engage(unit, other, agent)

    def lease_ran_out(self, unit: Unit, agent: str, call: str) -> None:
        """An agent was held for longer than anybody can say why: an offer to them is over, and its card goes.

        Not before we are in step with Asterisk: they may be talking, and the dialplan's word at the end will say so.
        """
        live = self._calls.get(call)
        if live is None or not self._in_step.keys() >= {live.record.pbx, *(one.pbx for one in live.living)}:
            return
        if live.offer is not None and agent in live.offer.agents:
            self.let_go(unit, live, live.end_offer(unit, self._now(), "lost"))

    # Phones that no Asterisk of ours carries. Each tells whether it is durable.

    def phone_rang(self, call: LiveCall, channel: ChannelRecord, at: float) -> "Deferred[bool]":
        """Its phone rings."""
        unit = self._calls.unit()
        call.rang(unit, at, channel)
        return self._calls.write(call, unit)

    def phone_answered(self, call: LiveCall, channel: ChannelRecord, at: float) -> "Deferred[bool]":
        """Its phone was picked up."""
        unit = self._calls.unit()
        self._answered(unit, call, channel, at)
        return self._calls.write(call, unit)

    def phone_hung_up(self, call: LiveCall, at: float) -> "Deferred[bool]":
        """All of it is over."""
        unit = self._calls.unit()
        for channel in call.living:
            self._gone(unit, call, channel, max(at, call.latest), None)
        return self._calls.write(call, unit)

    # Calls that never ended.

    def close_old(self, longest: Callable[[LiveCall], float]) -> None:
        """Close the calls that began longer ago than that (seconds), but for those that an Asterisk says live.

        Nobody knows when they ended: their end is the last moment at which they were there.
        """
        for call in self._calls.open():
            # Negative after the clock was set back: then it is not old.
            old = self._now() - call.record.started > longest(call)
            if not old or call.id in self._expected or any(map(self._is_listed, call.living)):
                continue
            unit = self._calls.unit()
            call.record.closed_by = "age"
            for channel in call.living:
                call.hung_up(unit, max(call.latest, channel.began), channel, None)
                if channel.agent is not None:
                    self.let_go(unit, call, [channel.agent])
            self._end(unit, call, call.latest, "lost")
            log.warning("a call that never ended is closed by its age", call=call.id, pbx=call.record.pbx)
            self._write(call, unit)

    def hold_on(self, pbx: str) -> None:
        """Nobody at this place says whether calls live: their agents stay held while they are open."""
        for call in self._calls.of_pbx(pbx):
            self._confirm(call)

    def _is_listed(self, channel: ChannelRecord) -> bool:
        return channel.pbx in self._amis and self._mirrors[channel.pbx].get(channel.uniqueid) is not None

    def _gone_from(self, pbx: str) -> list[LiveCall]:
        """The calls here of which no Asterisk has a channel, and has had none for some while."""
        return [
            call
            for call in self._calls.of_pbx(pbx)
            if call.id not in self._expected
            and all(channel.pbx in self._amis for channel in call.living)
            and not any(map(self._is_listed, call.living))
            and max([call.latest, *(channel.began for channel in call.living)]) + GONE < self._now()
        ]

    # Events.

    def _channel(self, pbx: str, event: Event, at: float) -> None:
        self._find(pbx, event, "", at)

    def _channel_state(self, pbx: str, event: Event, at: float) -> None:
        call, channel = self._find(pbx, event, "", at)
        if call is not None and channel is not None and event.get("ChannelStateDesc") == "Ringing":
            self._rang(call, channel, at)

    def _dial_began(self, pbx: str, event: Event, at: float) -> None:
        # Who comes over from another Asterisk has had its id since the last event of it.
        self._find(pbx, event, "", at)
        call, channel = self._find(pbx, event, "Dest", at)
        if call is None or channel is None:
            self._begin(pbx, event, at)
            return
        # Its own events may have come before, and do not tell what was dialled to reach it.
        agent = self._agent_at(pbx, channel.uniqueid, channel.name)
        if channel.role == "other" and agent is not None and not call.over:
            unit = self._calls.unit()
            call.recognise(unit, at, channel, agent)
            self._calls.keep(call)
            if event.get("DestChannelStateDesc") == "Ringing":
                call.rang(unit, at, channel)
            self._calls.write(call, unit)
        seen = self._mirrors[pbx].get(channel.uniqueid)
        if agent is None and seen is not None and seen.dialled is not None:
            unit = self._calls.unit()
            if call.rings_outside(unit, channel, seen.dialled):
                self._calls.write(call, unit)

    def _dial_state(self, pbx: str, event: Event, at: float) -> None:
        call, channel = self._find(pbx, event, "Dest", at)
        if call is not None and channel is not None and event.get("DialStatus") == "RINGING":
            self._rang(call, channel, at)

    def _dial_ended(self, pbx: str, event: Event, at: float) -> None:
        call, channel = self._find(pbx, event, "Dest", at)
        if call is not None and call.record.parent is not None:
            # Whoever transfers to a phone that only rings so far leaves the caller as its dialler.
            self._met([(pbx, event.get(f"{side}Uniqueid")) for side in ("", "Dest")], at)
            call, channel = self._find(pbx, event, "Dest", at)
        status = event.get("DialStatus")
        if call is None and status == "ANSWER":
            # Its beginning was not heard, or was one of a Local channel that nobody had dialled.
            call, channel = self._begin(pbx, event, at, answered=True)
        if call is None or channel is None or call.over:
            return
        call.given_up(channel, status)
        unit = self._calls.unit()
        if status == "ANSWER":
            self._answered(unit, call, channel, at)
        elif event.get("Forward"):
            self.let_go(unit, call, call.forwarded(unit, at, channel))
        elif channel.segment in (None, len(call.segments)):
            call.dialstatus = status
            return
        self._calls.write(call, unit)

    def _hung_up(self, pbx: str, event: Event, at: float) -> None:
        key = pbx, event.get("Uniqueid")
        call = self._calls.of_channel(*key)
        if call is None:
            _remember(self._strangers, key)
            self._to_look.add(pbx)
            return
        channel = call.channels[key]
        if channel.role == "caller":
            # The question about it may still be on its way, from before the end.
            _remember(self._strangers, key)
        unit = self._calls.unit()
        self._gone(unit, call, channel, at, _whole(event.get("Cause")))
        self._write(call, unit)

    def _local_bridge(self, pbx: str, event: Event, at: float) -> None:
        self._join_halves(pbx, event.get("LocalOneUniqueid"), at)

    def _entered_bridge(self, pbx: str, event: Event, at: float) -> None:
        if event.get("BridgeTechnology") == HOLDING:
            # A parking lot or a waiting room: who is in it does not hear the others.
            return
        self._join_halves(pbx, event.get("Uniqueid"), at)
        leaving = event.get("SwapUniqueid")
        self._met(
            [
                (pbx, uniqueid)
                for uniqueid in self._within_earshot(pbx, event.get("Uniqueid"))
                if uniqueid != leaving
            ],
            at,
            conference=event.get("BridgeCreator") == CONFERENCE,
        )

    def _hold(self, pbx: str, event: Event, at: float, on: bool) -> None:
        key = pbx, event.get("Uniqueid")
        call = self._calls.of_channel(*key)
        if call is not None:
            unit = self._calls.unit()
            call.hold(unit, at, call.channels[key], on)
            self._calls.write(call, unit)

    def _blind_transfer(self, pbx: str, event: Event, at: float) -> None:
        self._transferred(pbx, event, "Transferer", event.get("Extension") or None, at)

    def _attended_transfer(self, pbx: str, event: Event, at: float) -> None:
        """One whose target has not answered puts nobody into a bridge: those who were consulted go over now."""
        consultation, mine = self._find(pbx, event, "SecondTransferer", at)
        call = self._calls.of_channel(pbx, event.get("OrigTransfererUniqueid"))
        if consultation is None or call is None or consultation is call or event.get("Result") != "Success":
            self._transferred(pbx, event, "OrigTransferer", None, at)
            return
        others = [
            channel for channel in consultation.living if channel is not mine and channel.role != "caller"
        ]
        to = next((channel.agent for channel in others if channel.agent), None)
        self._transferred(pbx, event, "OrigTransferer", to or _called(consultation), at)
        transferer = pbx, event.get("OrigTransfererUniqueid")
        rest = [channel for channel in call.living if channel.key != transferer]
        self._met([channel.key for channel in (*rest, *others)], at)

    def _transferred(self, pbx: str, event: Event, prefix: str, to: str | None, at: float) -> None:
        call, channel = self._find(pbx, event, prefix, at)
        if call is None or channel is None or channel.agent is None or event.get("Result") != "Success":
            return
        unit = self._calls.unit()
        call.transferred(unit, at, channel.agent, to)
        self._calls.write(call, unit)

    def _picked_up(self, pbx: str, event: Event, at: float) -> None:
        """Dial has mostly said before that they answered."""
        key = pbx, event.get("Uniqueid")
        call = self._calls.of_channel(pbx, event.get("TargetUniqueid"))
        if call is None:
            return
        call.way = "picked up"
        self._take_in(call, key, at)
        unit = self._calls.unit()
        call.was_picked_up(unit, key)
        self._calls.write(call, unit)

    def _parked(self, pbx: str, event: Event, at: float) -> None:
        self._on_its_way(pbx, event, f"retrieved from parking {event.get('ParkingSpace')}")

    def _parked_too_long(self, pbx: str, event: Event, at: float) -> None:
        self._on_its_way(pbx, event, f"back from parking {event.get('ParkingSpace')}")

    def _said(self, pbx: str, event: Event, at: float) -> None:
        """A word of our dialplan's."""
        if event.get("UserEvent") != _TO_A_PEER:
            return
        call, channel = self._find(pbx, event, "", at)
        if call is not None and channel is not None:
            unit = self._calls.unit()
            call.leads_to_peer(unit, channel)
            self._calls.write(call, unit)

    def _on_its_way(self, pbx: str, event: Event, way: str) -> None:
        call = self._calls.of_channel(pbx, event.get("ParkeeUniqueid"))
        if call is not None:
            call.way = way

    def _device_state(self, pbx: str, event: Event, at: float) -> None:
        self._roster.device_state(pbx, event.get("Device"), event.get("State"))

    # What they mean.

    def _find(
        self, pbx: str, event: Event, prefix: str, at: float
    ) -> tuple[LiveCall | None, ChannelRecord | None]:
        """The call and channel that an event is about, `prefix` naming the side; a new channel is taken in."""
        uniqueid = event.get(f"{prefix}Uniqueid")
        call = self._calls.of_channel(pbx, uniqueid)
        if call is not None:
            return call, call.channels[pbx, uniqueid]
        id = event.variables_of(prefix).get("CTI_CALL_ID")
        call = self._calls.get(id) if id else None
        if call is None and prefix == "Dest":
            dialler = event.get("Uniqueid")
            self._join_halves(pbx, dialler, at)
            # The question may have come between the beginning of a dial and this.
            call = self._consultation_of(self._calls.of_channel(pbx, dialler), event)
        name = event.get(f"{prefix}Channel")
        if call is None or not uniqueid or (pbx, uniqueid) in self._strangers or name.startswith(_SURROGATE):
            return None, None
        return call, self._add(call, pbx, uniqueid, name, at, dialled=prefix == "Dest")

    def _consultation_of(self, call: LiveCall | None, event: Event) -> LiveCall | None:
        """The call that a dial is part of: a consultation that we start is named on the agent's own channel."""
        named = self._calls.get(event.variables_of("").get("CTI_CALL_ID", ""))
        if call is not None and named is not None and named.record.parent == call.id:
            return named
        return call

    def _begin(
        self, pbx: str, event: Event, at: float, answered: bool = False
    ) -> tuple[LiveCall | None, ChannelRecord | None]:
        """A dial that no call of ours began: its own call, and the dialled channel in it."""
        dialler, dialled = (self._mirrors[pbx].get(event.get(f"{side}Uniqueid")) for side in ("", "Dest"))
        if dialler is None or dialled is None or (pbx, dialler.uniqueid) in self._strangers:
            return None, None
        if dialler.device.startswith("Local/") and not answered:
            # Its other half's dial is about to say whose call this is.
            return None, None
        call = self._make_unasked(pbx, dialler, dialled, at)
        self._join_halves(pbx, dialler.uniqueid, at)
        self._join_halves(pbx, dialled.uniqueid, at)
        channel = call.channels.get((pbx, dialled.uniqueid))
        return call, channel or self._add(call, pbx, dialled.uniqueid, dialled.name, at)

    def _add(
        self, call: LiveCall, pbx: str, uniqueid: str, name: str, at: float, *, dialled: bool = True
    ) -> ChannelRecord:
        """Take a channel in. `dialled`: or brought in by the others; what is neither may come from a peer."""
        agent = self._agent_at(pbx, uniqueid, name)
        record = call.record
        seen = self._mirrors[pbx].get(uniqueid)
        # A phone may ring before DialBegin is told.
        undialled = not (dialled or seen is None or seen.dialled_by or seen.state == "Ringing")
        calls = (
            call.ours
            and agent is not None
            and agent == record.agent
            and not any(channel.role == "caller" for channel in call.channels.values())
        )
        comes_over = undialled and call.comes_over(pbx, device_of(name), agent)
        offer = None if agent is None else call.offered_to(agent, at)
        channel = ChannelRecord(
            pbx=pbx,
            uniqueid=uniqueid,
            call=call.id,
            device=device_of(name),
            role="caller" if calls or comes_over else "agent" if agent else "other",
            began=at,
            segment=None if offer is None else offer.number,
            agent=agent,
            name=name,
        )
        if calls and record.uniqueid is None:
            record.uniqueid = uniqueid
        self._expected.pop(call.id, None)
        unit = self._calls.unit()
        call.add_channel(unit, channel)
        self._calls.keep(call)
        self._calls.write(call, unit)
        return channel

    def _agent_at(self, pbx: str, uniqueid: str, name: str) -> str | None:
        """Whose phone a channel is, by its device, or, of an outside line, by what was dialled to reach it."""
        agent = self._roster.at_phone(device_of(name))
        seen = self._mirrors[pbx].get(uniqueid)
        if agent is None and seen is not None and seen.dialled is not None:
            agent = self._roster.at_phone(seen.dialled)
        return agent

    def _join_halves(self, pbx: str, uniqueid: str, at: float) -> None:
        """A Local channel's halves are one line: both belong to the call of either."""
        mirror = self._mirrors[pbx]
        channel = mirror.get(uniqueid)
        other = half_of(mirror, channel) if channel is not None else None
        if channel is not None and other is not None:
            self._met([(pbx, channel.uniqueid), (pbx, other.uniqueid)], at)

    def _within_earshot(self, pbx: str, uniqueid: str) -> list[str]:
        """Who is in a bridge with this channel, and who is beyond the Local channels in it."""
        mirror = self._mirrors[pbx]
        heard: dict[str, None] = {}
        bridges: dict[str, None] = {}
        channel = mirror.get(uniqueid)
        to_look = [channel.bridge] if channel is not None and channel.bridge else []
        while to_look:
            bridge = to_look.pop()
            if bridge in bridges:
                continue
            bridges[bridge] = None
            for channel in mirror.in_bridge(bridge):
                heard[channel.uniqueid] = None
                other = half_of(mirror, channel)
                if other is not None:
                    heard[other.uniqueid] = None
                    if other.bridge:
                        to_look.append(other.bridge)
        return list(heard)

    def _met(self, keys: Sequence[Key], at: float, conference: bool = False) -> None:
        """These channels hear each other: see `cti.calls.meeting`."""
        known = {key: call for key in keys if (call := self._calls.of_channel(*key)) is not None}
        if not known:
            return
        outcome = meeting(known)
        for call, parent in outcome.related:
            unit = self._calls.unit()
            call.record.parent = parent.id
            unit.put_call(call.record)
            self._calls.write(call, unit)
        for key, target in outcome.moves:
            for beyond in self._beyond(key):
                self._move(beyond, target, at, conference)
            self._move(key, target, at, conference)
        for key in keys:
            if key not in known and key not in self._strangers:
                if conference and outcome.host.way is None:
                    outcome.host.way = "joined a conference"
                self._take_in(outcome.host, key, at)

    def _beyond(self, key: Key) -> list[Key]:
        """What a call has at other Asterisks, if this channel of it is the way there."""
        call = self._calls.of_channel(*key)
        if call is None or call.channels[key].role != "peer":
            return []
        return [channel.key for channel in call.living if channel.pbx != key[0]]

    def _move(self, key: Key, target: LiveCall, at: float, conference: bool) -> None:
        """A channel of a consultation goes over to the call that it was about."""
        source = self._calls.of_channel(*key)
        if source is None or source is target:
            return
        by = source.record.agent
        left, unit = self._calls.unit(), self._calls.unit()
        channel = source.channels[key]
        self.let_go(left, source, source.lose(left, at, channel))
        if by is not None and not conference and not target.is_nobody(channel):
            target.passes_on(by, channel.agent or _called(source))
        who = by or "a phone"
        way = f"in conference with {who}" if conference else f"transferred by {who}"
        self.let_go(unit, target, target.join(unit, at, channel, way))
        seen = self._mirrors[key[0]].get(key[1])
        if seen is not None and seen.state == "Ringing":
            target.rang(unit, at, channel)
        self._calls.keep(target)
        if channel.agent is not None:
            self.let_go(left, source, [channel.agent])
        self._engage_all(unit, target)
        if not source.living:
            self._end(left, source, at)
        self._write(source, left)
        self._calls.write(target, unit)

    def _take_in(self, call: LiveCall, key: Key, at: float) -> None:
        """A channel of no call has come into a bridge with this one."""
        seen = self._mirrors[key[0]].get(key[1])
        if seen is None or call.over or key in call.channels or seen.name.startswith(_NO_PERSON + _SURROGATE):
            return
        channel = self._add(call, *key, seen.name, at)
        if seen.up and not seen.device.startswith("Local/"):
            unit = self._calls.unit()
            self._answered(unit, call, channel, at)
            self._calls.write(call, unit)

    def _rang(self, call: LiveCall, channel: ChannelRecord, at: float) -> None:
        unit = self._calls.unit()
        call.rang(unit, at, channel)
        self._calls.write(call, unit)

    def _answered(self, unit: Unit, call: LiveCall, channel: ChannelRecord, at: float) -> None:
        offer = call.offer
        if (
            offer is not None
            and offer.answered is None
            and channel.role != "caller"
            and not any(one.segment == offer.number for one in [channel, *call.living])
        ):
            # No phone of the offer rings any more, and its next question never reached us: this is the fallback.
            self._went_elsewhere(unit, call, at, SEGMENT_RESULTS.get(call.dialstatus or "", "failed"))
        self.let_go(unit, call, call.answered(unit, at, channel))
        self._engage_all(unit, call)

    def _engage_all(self, unit: Unit, call: LiveCall) -> None:
        for agent in call.talking:
            self._engage(unit, call, agent)

    def _engage(self, unit: Unit, call: LiveCall, agent: str) -> None:
        self._writing_up.end(unit, agent)
        held = self._roster.connect(agent, call.id, self._now() + CONNECTED_LEASE)
        if held is not None:
            unit.put_reservation(held)

    def _gone(self, unit: Unit, call: LiveCall, channel: ChannelRecord, at: float, cause: int | None) -> None:
        talked = channel.agent in call.talking
        call.hung_up(unit, at, channel, cause)
        if channel.agent is not None and talked:
            self.let_go(unit, call, [channel.agent])
        if not call.living:
            self._end(unit, call, at)

    def _end(self, unit: Unit, call: LiveCall, at: float, result: str | None = None) -> None:
        self._expected.pop(call.id, None)
        agents = call.end(unit, at, result)
        # Who calls is held from before their own phone rings, and may never have talked.
        caller = [call.record.agent] if call.ours and call.record.agent else []
        # Nobody will ask for those to whom it was on its way.
        assigned, call.assigned = call.assigned, None
        meant = assigned.decision.agents if assigned is not None else ()
        self.let_go(unit, call, [*agents, *caller, *meant])

    def _write(self, call: LiveCall, unit: Unit) -> None:
        """Write the news of a call. What AstDB has of its end is kept until the end is durable here."""
        written = self._calls.write(call, unit)
        if call.over:
            written.addCallback(self._clear_away, call)

    def _clear_away(self, written: bool, call: LiveCall) -> None:
        if not written:
            return
        for channel in call.channels.values():
            if channel.role != "caller":
                continue
            if call.record.attempt:
                self._delete_ended(channel.pbx, channel.uniqueid)
            else:
                # It may have passed our dialplan, and then left something, though nobody was asked in time.
                self._to_look.add(channel.pbx)

    # After an outage.

    def up(self, pbx: str, ami: AmiClient) -> None:
        """AMI to this Asterisk works from now on."""
        self._amis[pbx] = ami
        # An Asterisk that crashed may have its keys of a second before it back.
        self._deleted = {key: None for key in self._deleted if key[0] != pbx}

    def down(self, pbx: str) -> None:
        """AMI to this Asterisk is away: what it said of phones is not to be relied on."""
        self._amis.pop(pbx, None)
        self._in_step.pop(pbx, None)
        self._mirrors[pbx].forget_all()
        self._roster.forget_devices(pbx)

    async def resync(self, pbx: str, ami: AmiClient, since: float) -> "Collection[EndedRecord]":
        """Make our picture Asterisk's again. `since`: when AMI was lost, the best guess for ends nobody saw.

        Events wait until this has returned: an end told before the lists would be that of a call of which nobody
        knows yet that it was answered. What the dialplan left of ends is returned, for `collect`.
        """
        for entry in await ami.list_action("DeviceStateList", complete="DeviceStateListComplete"):
            self._device_state(pbx, entry, since)
        self._roster.has_told(pbx)
        # Channels that come while we ask are not in the lists, and live.
        before = [
            (call, [channel for channel in call.living if channel.pbx == pbx])
            for call in self._calls.of_pbx(pbx)
            if call.id not in self._expected
        ]
        listed: dict[str, Event] = {}
        for entry in await ami.list_action("CoreShowChannels", complete="CoreShowChannelsComplete"):
            listed[entry.get("Uniqueid")] = entry
        self._mirrors[pbx].replace(listed.values())
        ended = {record.uniqueid: record for record in await self._ended_records(ami)}
        for entry in listed.values():
            self._find(pbx, entry, "", self._now())
        await self._look_into_bridges(pbx, ami, listed.values())
        closed = 0
        for call, living in before:
            if not call.over:
                closed += self._compare(pbx, call, living, listed, ended, since)
        self._in_step[pbx] = self._now()
        log.info(
            "in step with Asterisk", pbx=pbx, channels=len(listed), open_before=len(before), closed=closed
        )
        return ended.values()

    async def sweep(self, pbx: str, ami: AmiClient, *, in_step: bool = False) -> None:
        """The calls of an Asterisk that we hear live on; ends that nobody told us of are collected.

        `in_step`: our list of its channels is whole, and a call without one there is over.
        """
        self._to_look.discard(pbx)
        for call in self._calls.of_pbx(pbx):
            self._confirm(call)
        for id, until in list(self._expected.items()):
            expected = self._calls.get(id)
            if expected is None:
                del self._expected[id]
            elif until <= self._now():
                self.not_made(expected, "no channel of it came")
        ended = {record.uniqueid: record for record in await self._ended_records(ami)}
        for call in self._gone_from(pbx) if in_step else ():
            living = [channel for channel in call.living if channel.pbx == pbx]
            if self._compare(pbx, call, living, {}, ended, self._now()):
                log.warning("a call of which Asterisk has no channel is closed", call=call.id, pbx=pbx)
        await self.collect(pbx, ended.values())

    async def _look_into_bridges(self, pbx: str, ami: AmiClient, listed: Iterable[Event]) -> None:
        """Who has come together while we did not hear, and calls that nobody asked about."""
        rooms = await ami.list_action("BridgeList", complete="BridgeListComplete")
        holding = {room.get("BridgeUniqueid") for room in rooms if room.get("BridgeTechnology") == HOLDING}
        bridges: dict[str, list[Event]] = {}
        for entry in listed:
            bridge = entry.get("BridgeId")
            if bridge and bridge not in holding:
                bridges.setdefault(bridge, []).append(entry)
        now, mirror = self._now(), self._mirrors[pbx]
        for inside in bridges.values():
            keys = [(pbx, entry.get("Uniqueid")) for entry in inside]
            if not any(self._calls.of_channel(*key) for key in keys):
                diallers, dialled = (
                    [
                        mirror.get(entry.get("Uniqueid"))
                        for entry in inside
                        if (entry.get("Application") == "Dial") == is_
                    ]
                    for is_ in (True, False)
                )
                one, other = next(iter(diallers), None), next(iter(dialled), None)
                if one is None or other is None:
                    continue
                self._make_unasked(pbx, one, other, now)
            for _, uniqueid in keys:
                self._join_halves(pbx, uniqueid, now)
            self._met(keys, now)

    def _compare(
        self,
        pbx: str,
        call: LiveCall,
        living: Iterable[ChannelRecord],
        listed: Mapping[str, Event],
        ended: Mapping[str, EndedRecord],
        since: float,
    ) -> bool:
        """Bring one call in line with Asterisk's list; whether that ended it."""
        unit = self._calls.unit()
        word = next(
            (ended[uniqueid] for at, uniqueid in call.channels if at == pbx and uniqueid in ended), None
        )
        if word is not None and word.ended is not None:
            # The second in which it ended, of which we may know more.
            word = evolve(word, ended=max(word.ended, call.latest))
        when = word.ended if word is not None else None
        for channel in living:
            if channel.uniqueid in listed or channel.ended is not None:
                continue
            if word is not None:
                self._believe(unit, pbx, call, word)
            # AstDB's times are whole seconds: no end lies before its beginning.
            at = max(since if when is None else when, channel.began, call.record.answered or 0.0)
            call.hung_up(unit, at, channel, word.cause if word is not None else None)
            if channel.agent is not None:
                self.let_go(unit, call, [channel.agent])
        for channel in call.living:
            # Those that came while we were away as well.
            entry = listed.get(channel.uniqueid) if channel.pbx == pbx else None
            if entry is None or channel.role == "caller":
                continue
            # Who has talked is in no bridge any more, a moment before the end.
            if entry.get("BridgeId") or entry.get("ChannelStateDesc") == "Up":
                self._answered(unit, call, channel, self._now())
            elif entry.get("ChannelStateDesc") == "Ringing":
                call.rang(unit, self._now(), channel)
        if call.living:
            self._confirm(call)
        else:
            if word is None:
                call.record.closed_by = "asterisk"
            last = max((channel.ended or since for channel in call.channels.values()), default=since)
            self._end(unit, call, last, None if word is not None else "lost")
        self._write(call, unit)
        return call.over

    def _believe(self, unit: Unit, pbx: str, call: LiveCall, known: EndedRecord) -> None:
        """What the hangup handler knew of an answer and of ringing that we did not see."""
        asker = call.channels.get((pbx, known.uniqueid))
        if asker is not None and any(
            channel.role == "caller" and channel.pbx != pbx and channel.began > asker.began
            for channel in call.living
        ):
            # It has passed the call on, and what became of it there is known there.
            return
        offer = call.offer
        if offer is not None and (known.action != "dial" or known.attempt > offer.attempt):
            # The dialplan asked once more, or never got the whole answer.
            result = "abandoned" if known.asking else "failed"
            if known.attempt > offer.attempt:
                result = SEGMENT_RESULTS.get(known.last, "no_answer")
                if known.last == "NOANSWER":
                    self._rang_unseen(unit, pbx, call, known.uniqueid, known.ended)
            at = known.ended or self._now()
            if known.asking:
                self.let_go(unit, call, call.left_asking(unit, at, result))
                return
            self._went_elsewhere(unit, call, at, result)
        call.dialstatus = known.dialstatus or None
        if not known.dialstatus:
            # They left before anything was dialled.
            return
        if call.offer is not None and known.dialstatus in ("NOANSWER", "CANCEL"):
            self._rang_unseen(unit, pbx, call, known.uniqueid, known.ended)
            return
        leg = self._leg(pbx, call, known)
        if known.dialstatus == "ANSWER" and call.record.answered is None and known.ended is not None:
            answered = known.ended - (known.talked or 0.0)
            self._answered(unit, call, leg, max(answered, call.record.started))

    def was_not_taken(self, unit: Unit, pbx: str, uniqueid: str, call: LiveCall) -> None:
        """Dial says that nobody took the offer in time: what we have not watched from its beginning has rung."""
        offer = call.offer
        if offer is not None and self._in_step.get(pbx, math.inf) > offer.offered:
            self._rang_unseen(unit, pbx, call, uniqueid, self._now())

    def _went_elsewhere(self, unit: Unit, call: LiveCall, at: float, result: str) -> None:
        """The offer that stands in the log as open did not get the call: the fallback did."""
        self.let_go(unit, call, call.end_offer(unit, at, result))
        call.send_elsewhere(unit, at, "fallback")

    def _leg(self, pbx: str, call: LiveCall, known: EndedRecord) -> ChannelRecord:
        """The dialled channel that a hangup handler's word is about, made up where no event told of it."""
        offer = call.offer
        segment = offer.number if offer is not None else None
        for channel in call.channels.values():
            if (
                channel.pbx == pbx
                and channel.role != "caller"
                and channel.ended is None
                and channel.segment == segment
            ):
                return channel
        agent = offer.agents[0] if offer is not None and len(offer.agents) == 1 else None
        return self._made_up(call, (pbx, f"{known.uniqueid}/unseen"), known.ended, agent, segment)

    def _rang_unseen(self, unit: Unit, pbx: str, call: LiveCall, uniqueid: str, ended: float | None) -> None:
        """A phone of the offer has rung, of several any; it is made up where no event told of one."""
        offer = call.offer
        if offer is None or offer.ringing is not None:
            return
        known = (
            one for one in call.channels.values() if one.segment == offer.number and one.agent is not None
        )
        rung = next(known, None)
        if rung is None:
            agent = next(iter(offer.agents), None)
            rung = self._made_up(call, (pbx, f"{uniqueid}/rung"), ended, agent, offer.number)
        call.rang(unit, offer.offered, rung)

    @staticmethod
    def _made_up(
        call: LiveCall, key: Key, ended: float | None, agent: str | None, segment: int | None
    ) -> ChannelRecord:
        """The other side of a call that was dialled unseen."""
        if key not in call.channels:
            call.channels[key] = ChannelRecord(
                pbx=key[0],
                uniqueid=key[1],
                call=call.id,
                device="",
                role="agent" if agent else "other",
                began=call.record.started,
                segment=segment,
                agent=agent,
                ended=ended,
            )
        return call.channels[key]

    def _confirm(self, call: LiveCall) -> None:
        self._roster.renew(call.id, call.talking, self._now() + CONNECTED_LEASE)

    async def _ended_records(self, ami: AmiClient) -> list[EndedRecord]:
        entries = await ami.list_action("DBGetTree", complete="DBGetTreeComplete", Family=_ENDED_FAMILY)
        return [
            EndedRecord.of(entry.get("Key").rpartition("/")[2], entry.get("Val"))
            for entry in entries
            if entry.name == "DBGetTreeResponse"
        ]

    async def collect(self, pbx: str, ended: Collection[EndedRecord]) -> None:
        """Give calls that we never saw their record, and clear away what has been taken in.

        Several at a time, as a CRM is asked who each of them was.
        """
        left = iter(ended)

        async def some() -> None:
            for record in left:
                await self._take_ended(pbx, record)

        await gatherResults(
            [Deferred.fromCoroutine(some()) for _ in range(min(len(ended), _AT_ONCE))], consumeErrors=True
        )

    async def _take_ended(self, pbx: str, record: EndedRecord) -> None:
        live = self._calls.of_channel(pbx, record.uniqueid)
        key = pbx, record.uniqueid
        if live is not None and not live.over:
            # Its Hangup is on the way over AMI; if it is not, the next resync says so.
            return
        # Several channels of a call may be there; each after the first finds the call in the log.
        busy = {key, ("", record.call or record.uniqueid)}
        if busy & self._being_recorded or self._calls.is_ending(*key) or key in self._deleted:
            # A resync and a sweep may both be at it, or the store away.
            return
        # Whether a number may be shown is in AstDB, too, where a channel was gone before it could be asked.
        if live is None:
            self._being_recorded |= busy
            try:
                logged = self._calls.store.call_by_channel(*key)
                if logged is None or await self._lacks_its_caller(logged, key):
                    await self._unseen(pbx, record)
            except StoreError as error:
                log.error("a call that went by without us waits for the next sweep", why=str(error))
                return
            finally:
                self._being_recorded -= busy
        self._delete_ended(pbx, record.uniqueid)

    async def _lacks_its_caller(self, logged: str, caller: Key) -> bool:
        """Whether the log does not say who called: the channel, or the server, was gone before it could be asked."""
        detail = await self._calls.store.call(logged)
        if detail is None:
            return False
        call = detail.call
        return (call.pbx, call.uniqueid) == caller and call.from_kind == NumberKind.UNAVAILABLE

    def _delete_ended(self, pbx: str, uniqueid: str) -> None:
        """Clear away what the hangup handler left; where that fails, the next sweep does it."""
        ami, key = self._amis.get(pbx), (pbx, uniqueid)
        if ami is None or key in self._deleted:
            # Asterisk warns of a key that is not there, and a sweep may have listed it before it was deleted.
            return
        _remember(self._deleted, key)

        def stays(failure: Failure) -> None:
            self._deleted.pop(key, None)
            log.debug("an ended record stays until the next sweep", why=str(failure.value))

        Deferred.fromCoroutine(ami.action("DBDel", Family=_ENDED_FAMILY, Key=uniqueid)).addErrback(stays)


def _called(call: LiveCall) -> str | None:
    return call.record.to_number or call.record.to_raw or None


def _remember(memory: dict[Key, None], key: Key) -> None:
    """Keep one more, and forget the oldest beyond `_STRANGERS`."""
    memory[key] = None
    if len(memory) > _STRANGERS:
        del memory[next(iter(memory))]


def _whole(text: str) -> int | None:
    """A cause or a count, of at most three digits; `isdigit` alone takes figures that `int` does not."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.replace(".", "", 1).isdigit() and len(text) < 20 else None
