"""What AMI says became of a call: each event is given to the call it belongs to, and an outage is made good.

Theory of operation. A call's channels are known by (pbx, uniqueid). The caller's channel is known from the AGI
request; a dialled one by `DialBegin`, which names both; any other by our own id, which `channelvars` puts on
every event of every channel made from it. linkedid is never used: a bridge of two calls stamps the oldest
linkedid on everybody. A call ends with its last channel.

When AMI was away, `resync` compares what we believe with the channels that Asterisk lists, and with what the
dialplan's hangup handler left in AstDB under `cti/ended/UNIQUEID`. Events that were queued before the list was
made may arrive after it; they are old news then, and every method of a call takes old news without harm.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred

from cti.agents.roster import Roster
from cti.asterisk.ami import AmiClient
from cti.asterisk.ami_parser import Event
from cti.asterisk.channels import AWAITED, MIRRORED, Channels, device_of
from cti.calls.life import SEGMENT_RESULTS, LiveCall, is_call_id
from cti.calls.log import CallLog
from cti.logs import get_logger
from cti.store.base import StoreError, Unit
from cti.store.records import ChannelRecord

log = get_logger("cti.calls.tracker")

#: The events that are parsed at all; everything else is passed over by its name.
WANTED: Final = (
    MIRRORED
    | AWAITED
    | {
        "DialState",
        "DialEnd",
        "DeviceStateChange",
    }
)

#: Seconds that an agent stays held for a call that nobody has confirmed since. Twice the sweep and a half.
CONNECTED_LEASE: Final = 75.0
#: Seconds between two confirmations, and between two looks for ends that were left in AstDB.
SWEEP: Final = 30.0
#: Seconds between two looks for the end of a call that nobody asked about, once a strange channel has ended.
LOOK: Final = 2.0
#: How many ends of channels that were not ours are remembered, for a question that arrives after the end.
_STRANGERS: Final = 2000
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_ENDED_FAMILY: Final = "cti/ended"


@frozen
class EndedRecord:
    """What the dialplan's hangup handler knew. Times are epoch seconds, whole ones: AstDB's come from EPOCH."""

    uniqueid: str
    call: str | None
    did: str
    caller: str
    presentation: str
    started: float | None
    ended: float | None
    cause: int | None
    action: str
    attempt: int
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
            did=given.get("did", ""),
            caller=given.get("from", ""),
            presentation=given.get("pres", ""),
            started=_seconds(given.get("started", "")),
            ended=_seconds(given.get("ended", "")),
            cause=_whole(given.get("cause", "")),
            action=given.get("action", ""),
            attempt=_whole(given.get("attempt", "")) or 0,
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
    ) -> None:
        """`unseen(pbx, ended)` gives a call that was never asked about its record.

        `channels`: the mirror of each Asterisk, which has taken in an event before `on_event` is given it.
        """
        self._calls = calls
        self._roster = roster
        self._now = now
        self._unseen = unseen
        self._mirrors = channels
        self._strangers: dict[tuple[str, str], None] = {}
        self._answers: dict[tuple[str, str], float] = {}
        self._to_look: set[str] = set()
        self._being_recorded: set[tuple[str, str]] = set()
        self._handlers: Mapping[str, Callable[[str, Event, float], None]] = {
            "Newchannel": self._channel,
            "Newstate": self._channel_state,
            "DialBegin": self._dial_began,
            "DialState": self._dial_state,
            "DialEnd": self._dial_ended,
            "Hangup": self._hung_up,
            "DeviceStateChange": self._device_state,
        }
        self._amis: dict[str, AmiClient] = {}

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

    def let_go(self, unit: Unit, call: LiveCall, agents: Iterable[str]) -> None:
        """These agents are not held for the call any more."""
        for agent in agents:
            if self._roster.release(agent, call.id):
                unit.remove_reservation(agent, call.id)
                unit.touch_agent(agent, self._roster.record(agent).idle_since)

    def lease_ran_out(self, unit: Unit, agent: str, call: str) -> None:
        """An agent was held for longer than anybody can say why: an offer to them is over, and its card goes.

        Not while AMI is away: they may be talking, and the dialplan's word at the end will say so.
        """
        live = self._calls.get(call)
        if live is None or live.record.pbx not in self._amis:
            return
        if live.offer is not None and agent in live.offer.agents:
            self.let_go(unit, live, live.end_offer(unit, self._now(), "lost"))

    # Events.

    def _channel(self, pbx: str, event: Event, at: float) -> None:
        self._find(pbx, event, "", at)

    def _channel_state(self, pbx: str, event: Event, at: float) -> None:
        call, channel = self._find(pbx, event, "", at)
        if call is not None and channel is not None and event.get("ChannelStateDesc") == "Ringing":
            self._rang(call, channel, at)

    def _dial_began(self, pbx: str, event: Event, at: float) -> None:
        call = self._calls.of_channel(pbx, event.get("Uniqueid"))
        if call is None:
            self._find(pbx, event, "Dest", at)
            return
        uniqueid = event.get("DestUniqueid")
        if uniqueid and uniqueid not in call.channels:
            self._add(call, pbx, uniqueid, event.get("DestChannel"), at)

    def _dial_state(self, pbx: str, event: Event, at: float) -> None:
        call, channel = self._find(pbx, event, "Dest", at)
        if call is not None and channel is not None and event.get("DialStatus") == "RINGING":
            self._rang(call, channel, at)

    def _dial_ended(self, pbx: str, event: Event, at: float) -> None:
        call, channel = self._find(pbx, event, "Dest", at)
        status = event.get("DialStatus")
        if call is None and status == "ANSWER":
            _remember(self._answers, (pbx, event.get("Uniqueid")), at)
        if call is None or channel is None or call.over:
            return
        if status == "ANSWER":
            unit = self._calls.unit()
            self._answered(unit, call, channel, at)
            self._calls.write(call, unit)
        elif channel.segment == len(call.segments):
            call.dialstatus = status

    def _hung_up(self, pbx: str, event: Event, at: float) -> None:
        uniqueid = event.get("Uniqueid")
        call = self._calls.of_channel(pbx, uniqueid)
        if call is None:
            _remember(self._strangers, (pbx, uniqueid), None)
            self._to_look.add(pbx)
            return
        unit = self._calls.unit()
        self._gone(unit, call, call.channels[uniqueid], at, _whole(event.get("Cause")))
        self._write(call, unit)

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
            return call, call.channels[uniqueid]
        id = event.variables_of(prefix).get("CTI_CALL_ID")
        call = self._calls.get(id) if id else None
        if call is None and prefix:
            # The question may have come between the beginning of a dial and this.
            call = self._calls.of_channel(pbx, event.get("Uniqueid"))
        if call is None or call.record.pbx != pbx or not uniqueid or (pbx, uniqueid) in self._strangers:
            return None, None
        return call, self._add(call, pbx, uniqueid, event.get(f"{prefix}Channel"), at)

    def _add(self, call: LiveCall, pbx: str, uniqueid: str, name: str, at: float) -> ChannelRecord:
        agent = self._roster.at_phone(device_of(name))
        offer = call.offer
        channel = ChannelRecord(
            pbx=pbx,
            uniqueid=uniqueid,
            call=call.id,
            device=device_of(name),
            role="agent" if agent else "other",
            began=at,
            segment=offer.number if offer is not None and agent in offer.agents else None,
            agent=agent,
            name=name,
        )
        unit = self._calls.unit()
        call.add_channel(unit, channel)
        self._calls.keep(call)
        self._calls.write(call, unit)
        return channel

    def _rang(self, call: LiveCall, channel: ChannelRecord, at: float) -> None:
        unit = self._calls.unit()
        call.rang(unit, at, channel)
        self._calls.write(call, unit)

    def _answered(self, unit: Unit, call: LiveCall, channel: ChannelRecord, at: float) -> None:
        offer = call.offer
        if (
            offer is not None
            and offer.answered is None
            and not any(one.segment == offer.number for one in [channel, *call.living])
        ):
            # No phone of the offer rings any more, and its next question never reached us: this is the fallback.
            self._went_elsewhere(unit, call, at, SEGMENT_RESULTS.get(call.dialstatus or "", "failed"))
        losers = call.answered(unit, at, channel)
        self.let_go(unit, call, losers)
        if channel.agent is not None:
            held = self._roster.connect(channel.agent, call.id, self._now() + CONNECTED_LEASE)
            if held is not None:
                unit.put_reservation(held)

    def _gone(self, unit: Unit, call: LiveCall, channel: ChannelRecord, at: float, cause: int | None) -> None:
        call.hung_up(unit, at, channel, cause)
        if channel.agent is not None and channel.answered is not None:
            self.let_go(unit, call, [channel.agent])
        if not call.living:
            self._recall_answer(unit, call)
            self._end(unit, call, at)

    def _recall_answer(self, unit: Unit, call: LiveCall) -> None:
        """An answer that was told before the question came: a server that was frozen hears both at once."""
        for channel in list(call.channels.values()):
            at = self._answers.pop((channel.pbx, channel.uniqueid), None)
            if at is not None and call.record.answered is None:
                self._went_elsewhere(unit, call, at, "failed")
                leg = self._made_up(call, channel.uniqueid, at)
                self._answered(unit, call, leg, max(at, call.record.started))

    def _end(self, unit: Unit, call: LiveCall, at: float, result: str | None = None) -> None:
        self.let_go(unit, call, call.end(unit, at, result))

    def _write(self, call: LiveCall, unit: Unit) -> None:
        """Write the news of a call. What AstDB has of its end is kept until the end is durable here."""
        written = self._calls.write(call, unit)
        if call.over:
            written.addCallback(self._clear_away, call)

    def _clear_away(self, written: bool, call: LiveCall) -> None:
        for channel in call.channels.values():
            if written and channel.role == "caller":
                self._delete_ended(channel.pbx, channel.uniqueid)

    # After an outage.

    def up(self, pbx: str, ami: AmiClient) -> None:
        """AMI to this Asterisk works from now on."""
        self._amis[pbx] = ami

    def down(self, pbx: str) -> None:
        """AMI to this Asterisk is away: what it said of phones is not to be relied on."""
        self._amis.pop(pbx, None)
        self._mirrors[pbx].forget_all()
        self._roster.forget_devices(pbx)

    async def resync(self, pbx: str, ami: AmiClient, since: float) -> None:
        """Make our picture Asterisk's again. `since`: when AMI was lost, the best guess for ends nobody saw."""
        for entry in await ami.list_action("DeviceStateList", complete="DeviceStateListComplete"):
            self._device_state(pbx, entry, since)
        # Channels that come while we ask are not in the lists, and live.
        before = [(call, list(call.living)) for call in self._calls.of_pbx(pbx)]
        listed: dict[str, Event] = {}
        for entry in await ami.list_action("CoreShowChannels", complete="CoreShowChannelsComplete"):
            listed[entry.get("Uniqueid")] = entry
        self._mirrors[pbx].replace(listed.values())
        ended = {record.uniqueid: record for record in await self._ended_records(ami)}
        for entry in listed.values():
            self._find(pbx, entry, "", self._now())
        closed = 0
        for call, living in before:
            if not call.over:
                closed += self._compare(call, living, listed, ended, since)
        log.info(
            "in step with Asterisk", pbx=pbx, channels=len(listed), open_before=len(before), closed=closed
        )
        await self._collect(pbx, ended.values())

    async def sweep(self, pbx: str, ami: AmiClient) -> None:
        """The calls of an Asterisk that we hear live on; ends that nobody told us of are collected."""
        self._to_look.discard(pbx)
        for call in self._calls.of_pbx(pbx):
            self._confirm(call)
        await self._collect(pbx, await self._ended_records(ami))

    def _compare(
        self,
        call: LiveCall,
        living: Iterable[ChannelRecord],
        listed: Mapping[str, Event],
        ended: Mapping[str, EndedRecord],
        since: float,
    ) -> bool:
        """Bring one call in line with Asterisk's list; whether that ended it."""
        unit = self._calls.unit()
        word = next((ended[uniqueid] for uniqueid in call.channels if uniqueid in ended), None)
        when = word.ended if word is not None else None
        for channel in living:
            if channel.uniqueid in listed or channel.ended is not None:
                continue
            if word is not None:
                self._believe(unit, call, word)
            at = max(since, channel.began) if when is None else when
            call.hung_up(unit, at, channel, word.cause if word is not None else None)
            if channel.agent is not None and channel.answered is not None:
                self.let_go(unit, call, [channel.agent])
        for channel in call.living:
            entry = listed.get(channel.uniqueid)
            if entry is not None and entry.get("BridgeId") and channel.role != "caller":
                self._answered(unit, call, channel, self._now())
        if call.living:
            self._confirm(call)
        else:
            last = max((channel.ended or since for channel in call.channels.values()), default=since)
            self._end(unit, call, last, None if word is not None else "lost")
        self._write(call, unit)
        return call.over

    def _believe(self, unit: Unit, call: LiveCall, known: EndedRecord) -> None:
        """What the hangup handler knew of an answer and of ringing that we did not see."""
        offer = call.offer
        if offer is not None and (known.action != "dial" or known.attempt > offer.attempt):
            # The dialplan asked once more, or never got the whole answer, and took its fallback.
            asked_again = known.attempt > offer.attempt
            self._went_elsewhere(
                unit, call, known.ended or self._now(), "no_answer" if asked_again else "failed"
            )
        call.dialstatus = known.dialstatus or None
        offer = call.offer
        leg = self._leg(call, known)
        if known.dialstatus == "ANSWER" and call.record.answered is None and known.ended is not None:
            answered = known.ended - (known.talked or 0.0)
            self._answered(unit, call, leg, max(answered, call.record.started))
        elif offer is not None and known.dialstatus in ("NOANSWER", "CANCEL"):
            call.rang(unit, offer.offered, leg)

    def _went_elsewhere(self, unit: Unit, call: LiveCall, at: float, result: str) -> None:
        """The offer that stands in the log as open did not get the call: the fallback did."""
        self.let_go(unit, call, call.end_offer(unit, at, result))
        call.send_elsewhere(unit, at, "fallback")

    def _leg(self, call: LiveCall, known: EndedRecord) -> ChannelRecord:
        """The dialled channel that a hangup handler's word is about, made up where no event told of it."""
        offer = call.offer
        segment = offer.number if offer is not None else None
        for channel in call.channels.values():
            if channel.role != "caller" and channel.ended is None and channel.segment == segment:
                return channel
        agent = offer.agents[0] if offer is not None and len(offer.agents) == 1 else None
        return self._made_up(call, known.uniqueid, known.ended, agent, segment)

    @staticmethod
    def _made_up(
        call: LiveCall, caller: str, ended: float | None, agent: str | None = None, segment: int | None = None
    ) -> ChannelRecord:
        """The other side of a call that was dialled unseen. `caller` is the uniqueid of the caller's channel."""
        uniqueid = f"{caller}/unseen"
        if uniqueid not in call.channels:
            call.channels[uniqueid] = ChannelRecord(
                pbx=call.record.pbx,
                uniqueid=uniqueid,
                call=call.id,
                device="",
                role="agent" if agent else "other",
                began=call.record.started,
                segment=segment,
                agent=agent,
                ended=ended,
            )
        return call.channels[uniqueid]

    def _confirm(self, call: LiveCall) -> None:
        agent = call.record.agent
        if agent is not None and call.offer is not None and call.offer.answered is not None:
            self._roster.renew(call.id, [agent], self._now() + CONNECTED_LEASE)

    async def _ended_records(self, ami: AmiClient) -> list[EndedRecord]:
        entries = await ami.list_action("DBGetTree", complete="DBGetTreeComplete", Family=_ENDED_FAMILY)
        return [
            EndedRecord.of(entry.get("Key").rpartition("/")[2], entry.get("Val"))
            for entry in entries
            if entry.name == "DBGetTreeResponse"
        ]

    async def _collect(self, pbx: str, ended: Collection[EndedRecord]) -> None:
        """Give calls that we never saw their record, and clear away what has been taken in."""
        for record in ended:
            live = self._calls.of_channel(pbx, record.uniqueid)
            key = pbx, record.uniqueid
            if live is not None and not live.over:
                # Its Hangup is on the way over AMI; if it is not, the next resync says so.
                continue
            if key in self._being_recorded or self._calls.is_ending(*key):
                # A resync and a sweep may both be at it, or the store away.
                continue
            if live is None and self._calls.store.call_by_channel(*key) is None:
                self._being_recorded.add(key)
                try:
                    await self._unseen(pbx, record)
                except StoreError as error:
                    log.error("a call that went by without us waits for the next sweep", why=str(error))
                    continue
                finally:
                    self._being_recorded.discard(key)
            self._delete_ended(pbx, record.uniqueid)

    def _delete_ended(self, pbx: str, uniqueid: str) -> None:
        """Clear away what the hangup handler left; where that fails, the next sweep does it."""
        ami = self._amis.get(pbx)
        if ami is not None:
            Deferred.fromCoroutine(ami.action("DBDel", Family=_ENDED_FAMILY, Key=uniqueid)).addErrback(
                lambda failure: log.debug(
                    "an ended record stays until the next sweep", why=str(failure.value)
                )
            )


def _remember(memory: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep one more, and forget the oldest beyond `_STRANGERS`."""
    memory[key] = value
    if len(memory) > _STRANGERS:
        del memory[next(iter(memory))]


def _whole(text: str) -> int | None:
    """A cause or a count, of at most three digits; `isdigit` alone takes figures that `int` does not."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.replace(".", "", 1).isdigit() and len(text) < 20 else None
