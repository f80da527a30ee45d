"""The life of one call: what can happen to it, in which state, and what is written down when it does.

Theory of operation. A `LiveCall` is the call while it lives. Two tellers report to it and neither is complete:
the AGI request (Asterisk asks for a decision) and AMI (what channels did). They come over two sockets, so
either may be first, late or absent; every method here may therefore be called when its news is no news, and
then does nothing. A turn that makes no sense in a state raises instead. The states and turns stand in `TURNS`.

An offer is a segment, decided by us; whoever is reached otherwise (a transfer made on the phone, a pickup, the
fallback's ring group) gets a segment, too, by `reach`, so that the log says of every agent who rang and talked.
Who called whom decides what an answer is: of a call that an agent makes, that agent picking up is nobody.

No socket, no clock, no store: times are passed in (epoch seconds), and what must become durable goes into the
`Unit` that is passed in, rows and events together.
"""

import math
import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from attrs import define, evolve, field, frozen

from cti.calls.present import iso
from cti.identify.identification import Identification
from cti.store.base import CallDetail, Unit
from cti.store.records import CallRecord, CardRecord, ChannelRecord, Key, SegmentRecord
from routing.decide import Decision
from routing.facts import History, Place, Said
from routing.rules import Mode


class State(StrEnum):
    """Where a call is. `waiting`: in a line; `elsewhere`: at the fallback, in observe mode, or in the company's own
    dialplan.
    """

    ASKED = "asked"
    OFFERED = "offered"
    WAITING = "waiting"
    CONNECTED = "connected"
    ELSEWHERE = "elsewhere"
    ENDED = "ended"


class Turn(StrEnum):
    """What can happen to a call."""

    ASK = "ask"
    OFFER = "offer"
    WAIT = "wait"
    SEND = "send"
    ANSWER = "answer"
    END = "end"


class ImpossibleTurn(Exception):
    """The turn does not lead out of this state; the text names both."""


#: Every turn there is. `asked` can become `connected`: the guard of the dialplan fired, and the fallback's
#: phone was picked up before our own decision was made.
TURNS: Mapping[tuple[State, Turn], State] = {
    (State.ASKED, Turn.ASK): State.ASKED,
    (State.ASKED, Turn.OFFER): State.OFFERED,
    (State.ASKED, Turn.WAIT): State.WAITING,
    (State.ASKED, Turn.SEND): State.ELSEWHERE,
    (State.ASKED, Turn.ANSWER): State.CONNECTED,
    (State.ASKED, Turn.END): State.ENDED,
    (State.OFFERED, Turn.ASK): State.ASKED,
    (State.OFFERED, Turn.SEND): State.ELSEWHERE,
    (State.OFFERED, Turn.ANSWER): State.CONNECTED,
    (State.OFFERED, Turn.END): State.ENDED,
    (State.WAITING, Turn.ASK): State.ASKED,
    (State.WAITING, Turn.SEND): State.ELSEWHERE,
    (State.WAITING, Turn.ANSWER): State.CONNECTED,
    (State.WAITING, Turn.END): State.ENDED,
    (State.ELSEWHERE, Turn.ASK): State.ASKED,
    (State.ELSEWHERE, Turn.ANSWER): State.CONNECTED,
    (State.ELSEWHERE, Turn.END): State.ENDED,
    (State.CONNECTED, Turn.ASK): State.ASKED,
    (State.CONNECTED, Turn.ANSWER): State.CONNECTED,
    (State.CONNECTED, Turn.END): State.ENDED,
}

#: What Dial's last word (DIALSTATUS, AMI `DialEnd`) means for the offer that it ended.
SEGMENT_RESULTS: Mapping[str, str] = {
    "ANSWER": "answered",
    "NOANSWER": "no_answer",
    "BUSY": "busy",
    "CANCEL": "abandoned",
    "CONGESTION": "failed",
    "CHANUNAVAIL": "failed",
}

#: The outcome of a call that nobody answered or let ring, by the last thing that was decided for it.
LAST_RESORTS: Mapping[str, str] = {
    "fallback": "fallback",
    "voicemail": "voicemail",
    "goto": "self_service",
    "announce": "self_service",
    "reject": "rejected",
}

#: Seconds after which a line offers a call again to an agent who has let it ring.
AGAIN_AFTER: Final = 30.0

#: The roles of a call's two channels on the way from one Asterisk to another: at the first, and at the second.
_BETWEEN_ASTERISKS: Final = ("peer", "caller")


def mint_call_id(now: float) -> str:
    """A new id: a UUID of version 7 (RFC 9562), so that ids sort by the time of the call."""
    milliseconds = int(now * 1000) & (1 << 48) - 1
    bits = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=bits))


def is_call_id(text: str) -> bool:
    """Whether `text` can be an id that we minted."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


@frozen
class Transfer:
    """Who passes the call on, and to whom: an agent's id or a number.

    `told`: it has been an event. `taken`: somebody has answered.
    """

    by: str
    to: str | None
    told: bool = False
    taken: bool = False


@frozen
class Assigned:
    """Who is to get the call as soon as Asterisk asks about it, decided `by` the agent who passes it on.

    They are reserved. Asked later than `until` (epoch seconds), it is as if nothing had been assigned. `by` is None
    where nobody did that: an agent for whom the call waited has become free.
    """

    decision: Decision
    by: str | None
    until: float


@define
class LiveCall:
    """One call from the first question to the end of its last channel.

    @ivar record: the row of the log as it stands.
    @ivar segments: every offer so far, open or not; those that nobody decided among them.
    @ivar channels: by (pbx, uniqueid), dead ones too; a call that is passed on has some at each Asterisk.
    @ivar cards: cards that are on an agent's screen now, by agent.
    @ivar identification: who the CRMs said it is, and `party` the one it is routed by; None until asked.
    @ivar action: what was decided last, None before the first decision.
    @ivar unwritten: the transaction of a decision in the making, or one that the store refused: it goes
        before whatever is written next of this call.
    @ivar dialstatus: what AMI said last of how a ringing phone was given up, None while one rings.
    @ivar card: what is shown of the caller; it goes along to whoever is reached next. None: nobody knows anything.
    @ivar transfer: who passed the call on last, until they are back; `way` says how the next agent is reached.
    @ivar held: the channels that hold the others.
    @ivar assigned: who gets it at the next question, whatever the rules say; None: they decide.
    @ivar collected: what was assigned and has been asked for, as long as that may have been in vain.
    @ivar past: what the log said of the caller, by the service whose rules asked; None: it did not say in time.
    @ivar own: what the company's own code said to the last question.
    @ivar rung: the agents who have been told that their phone rings for this call.
    @ivar ringing: the channels whose phone rings; those that Dial gave up at its end stay.
    @ivar by_rules: whether the latest offer was decided by the rules, not by an agent who passed the call on.
    """

    record: CallRecord
    segments: list[SegmentRecord] = field(factory=list)
    channels: dict[Key, ChannelRecord] = field(factory=dict)
    cards: dict[str, CardRecord] = field(factory=dict)
    identification: Identification | None = None
    party: Mapping[str, Any] | None = None
    action: str | None = None
    dialstatus: str | None = None
    unwritten: Unit | None = None
    card: Mapping[str, Any] | None = None
    transfer: Transfer | None = None
    way: str | None = None
    held: set[Key] = field(factory=set)
    assigned: Assigned | None = None
    collected: Assigned | None = None
    past: dict[str, History | None] = field(factory=dict)
    own: Mapping[str, Said] = field(factory=dict)
    rung: set[str] = field(factory=set)
    ringing: set[Key] = field(factory=set)
    by_rules: bool = False

    @classmethod
    def restored(cls, detail: CallDetail) -> "LiveCall":
        """The call as the log knows it, after a restart of the server."""
        return cls(
            record=detail.call,
            segments=list(detail.segments),
            channels={channel.key: channel for channel in detail.channels},
            cards={card.agent: card for card in detail.cards if card.withdrawn is None},
            action=_last_action(detail),
            card=detail.cards[-1].body if detail.cards else None,
        )

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def state(self) -> State:
        return State(self.record.state)

    @property
    def over(self) -> bool:
        return self.record.ended is not None

    @property
    def offer(self) -> SegmentRecord | None:
        """The segment that is open now and that we decided on."""
        return next((one for one in self._open if one.rule is not None), None)

    def offered_to(self, agent: str, at: float) -> SegmentRecord | None:
        """The offer that made this agent's phone ring: the open one, or which was open at that time.

        The dialplan may ask once more before AMI tells of a phone that was busy at once.
        """
        decided = [one for one in self.segments if one.rule is not None and agent in one.agents]
        return next(
            (one for one in reversed(decided) if one.ended is None or one.offered <= at <= one.ended), None
        )

    @property
    def rang_out(self) -> list[str]:
        """The agents of the open offer whose phone still rings, if the rules have sent it there.

        When Dial gives the offer up, they are those who let it ring to its end.
        """
        offer = self.offer
        if offer is None or offer.answered is not None or not self.by_rules:
            return []
        ring = [channel for key, channel in self.channels.items() if key in self.ringing]
        agents = {channel.agent for channel in ring if channel.segment == offer.number}
        return [agent for agent in offer.agents if agent in agents]

    @property
    def tried(self) -> frozenset[str]:
        """The agents who were offered this call and did not take it."""
        return self._tried_since(-math.inf)

    def tried_lately(self, at: float) -> frozenset[str]:
        """Those to whom a line does not offer it again at this moment."""
        return self._tried_since(at - AGAIN_AFTER)

    def _tried_since(self, at: float) -> frozenset[str]:
        """A number outside has no agent, and goes by its dial string."""
        return frozenset(
            one
            for segment in self.segments
            if segment.ended is not None and segment.ended > at
            for one in segment.agents or (segment.target,)
        )

    @property
    def places(self) -> dict[str, Place]:
        """Where it stands in lines, by `SERVICE/RULE`."""
        return {rule: Place(**place) for rule, place in (self.record.places or {}).items()}

    @property
    def living(self) -> list[ChannelRecord]:
        return [channel for channel in self.channels.values() if channel.ended is None]

    @property
    def latest(self) -> float:
        """The latest time at which we know that it was there: it cannot have ended before."""
        offers = [segment.answered or segment.offered for segment in self.segments]
        return max([self.record.answered or self.record.started, *offers])

    @property
    def ours(self) -> bool:
        """Whether one of us called: the agent, or the phone, that dialled."""
        return self.record.direction != "inbound"

    def living_of(self, agent: str) -> list[ChannelRecord]:
        """This agent's channels in the call, oldest first."""
        return [channel for channel in self.living if channel.agent == agent]

    @property
    def talking(self) -> set[str]:
        """The agents who talk: they answered, or called and were answered."""
        return {
            channel.agent for channel in self.living if channel.agent is not None and self._talks(channel)
        }

    def brief(self) -> dict[str, Any]:
        """The call as it stands in every event of it."""
        return brief_of(self.record)

    def comes_over(self, pbx: str, device: str, agent: str | None) -> bool:
        """Whether a channel with our id, which nobody at this Asterisk dialled, brings the call from another one."""
        living = self.living
        return (
            agent is None
            and not device.startswith("Local/")
            and any(channel.pbx != pbx for channel in living)
            and not any(channel.pbx == pbx and channel.role == "caller" for channel in living)
        )

    def is_nobody(self, channel: ChannelRecord) -> bool:
        """Whether an answer of this channel is no person's.

        A Local channel between a caller and a phone answers, and so does a line to another Asterisk of ours, as soon
        as the call is known to go on there; and of a call that an agent makes, so does the agent's own phone.
        """
        if channel.role == "caller" or channel.device.startswith("Local/"):
            return True
        return channel.role == "peer" and any(
            other.role == "caller" and other.pbx != channel.pbx
            for other in self.living
            if other.key != (self.record.pbx, self.record.uniqueid)
        )

    def leads_to_peer(self, unit: Unit, channel: ChannelRecord) -> None:
        """This channel is the way to another Asterisk of ours, where the call goes on under its id."""
        if channel.role == "other":
            channel.role = "peer"
            unit.put_channel(channel)

    # Asterisk asks.

    def ask(self, unit: Unit, at: float, channel: ChannelRecord, last: str | None) -> Sequence[str]:
        """Asterisk wants a decision. `last` is Dial's word on the offer before, which ends by it.

        The agents of that offer, who are to be let go, are returned.
        """
        agents = self._close_segments(unit, at, SEGMENT_RESULTS.get(last or "", "failed"))
        first = self.record.attempt == 0
        self._turn(Turn.ASK)
        self.record.attempt += 1
        unit.put_channel(channel)
        if first:
            unit.emit("call.offered", at, {"call": self.brief()}, call=self.id)
        return agents

    def offer_to(
        self,
        unit: Unit,
        at: float,
        decision: Decision,
        card: Mapping[str, Any] | None,
        *,
        by_rules: bool = False,
    ) -> None:
        """Agents are reserved and about to be rung: open the segment, put the card on their screens."""
        self._turn(Turn.OFFER)
        self._tell_transfer(unit, at)
        self.dialstatus = self.way = self.transfer = None
        self.by_rules = by_rules
        self.ringing.clear()
        segment = SegmentRecord(
            call=self.id,
            number=len(self.segments) + 1,
            attempt=self.record.attempt,
            service=decision.service or self.record.service,
            agents=decision.agents,
            target=decision.target,
            rule=decision.rule,
            reason=decision.reason,
            offered=at,
        )
        self.segments.append(segment)
        unit.put_segment(segment)
        if card is None:
            return
        self.card = card
        for agent in decision.agents:
            self._show(unit, CardRecord(self.id, agent, self.record.attempt, at, card))

    def wait(self, unit: Unit, at: float, decision: Decision, waiting: int) -> None:
        """The call waits in a line, the `waiting`th of those in it; that is news where it has not waited before."""
        self._turn(Turn.WAIT)
        self.dialstatus = None
        first = self.record.queued is None
        if first:
            self.record.queued = at
            unit.emit(
                "call.queued",
                at,
                {
                    "call": self.brief(),
                    "party": self.record.party,
                    "rule": decision.rule,
                    "position": waiting,
                },
                call=self.id,
            )

    def keep_places(self, places: Mapping[str, Place]) -> None:
        """Where it stands in lines from now on."""
        if places or self.record.places:
            self.record.places = {rule: place.as_json() for rule, place in places.items()}

    def show(self, unit: Unit, at: float, agent: str, body: Mapping[str, Any]) -> None:
        """The card of whom this agent calls, on their screen; it goes along to whoever is reached next."""
        self.card = body
        self._offer_card(unit, at, agent)

    def send_elsewhere(self, unit: Unit, at: float, action: str | None) -> Sequence[str]:
        """The call goes to the fallback, or on as without us; an offer that was open did not work.

        `action` is None when nobody knows whether Asterisk took the fallback or the caller left. The agents
        of that offer, who are to be let go, are returned.
        """
        self.action = action
        agents = self.end_offer(unit, at, "failed" if action else "lost")
        if self.state in (State.ASKED, State.OFFERED, State.WAITING):
            self._turn(Turn.SEND)
        return agents

    def revive(self) -> None:
        """The call was taken for dead, and asks."""
        self.record.ended = self.record.outcome = self.record.closed_by = None
        self.record.state = str(State.ASKED)

    # What channels do.

    def add_channel(self, unit: Unit, channel: ChannelRecord) -> None:
        """A channel belongs to this call from now on; an agent whom nobody decided on gets a segment."""
        if channel.key in self.channels:
            return
        self.channels[channel.key] = channel
        if channel.role == "agent" and channel.segment is None and channel.agent is not None:
            channel.segment = self._reach(unit, channel.began, channel.agent).number
        unit.put_channel(channel)

    def recognise(self, unit: Unit, at: float, channel: ChannelRecord, agent: str) -> None:
        """It turns out that this channel is an agent's, who is reached by an outside line."""
        channel.agent, channel.role = agent, "agent"
        channel.segment = self._reach(unit, at, agent).number
        unit.put_channel(channel)

    def rings_outside(self, unit: Unit, channel: ChannelRecord, dialled: str) -> bool:
        """This channel was dialled by this dial string: whether that is the number outside of the open offer."""
        offer = self.offer
        if offer is None or offer.agents or offer.target != dialled or channel.segment is not None:
            return False
        channel.segment = offer.number
        unit.put_channel(channel)
        return True

    def _reach(self, unit: Unit, at: float, agent: str) -> SegmentRecord:
        """The segment of an agent whose phone is rung: of the offer to them, else one that nobody decided.

        Phones that ring together are one segment. The card goes along.
        """
        offer = self.offer
        if offer is not None and offer.answered is None and agent in offer.agents:
            return offer
        reason = self.way or self._way()
        segment = next(
            (one for one in self._open if one.rule is None and one.answered is None and one.reason == reason),
            None,
        )
        if segment is None:
            segment = SegmentRecord(
                call=self.id,
                number=len(self.segments) + 1,
                attempt=self.record.attempt,
                service=self.record.service,
                agents=[],
                target="",
                rule=None,
                reason=reason,
                offered=at,
            )
            self.segments.append(segment)
        if agent not in segment.agents:
            segment.agents = [*segment.agents, agent]
            self._offer_card(unit, at, agent)
        self.dialstatus = None
        unit.put_segment(segment)
        return segment

    def _way(self) -> str:
        """How an agent is reached about whom nothing else is known."""
        if self.transfer is not None and not self.transfer.taken:
            return f"transferred by {self.transfer.by}"
        if self.ours:
            return f"called by {self.record.agent or self.record.from_number or 'a phone'}"
        return "rung by the fallback" if self.action == "fallback" else "rung by the dialplan"

    def _offer_card(self, unit: Unit, at: float, agent: str) -> None:
        if self.card is None or agent in self.cards:
            return
        self._show(unit, CardRecord(self.id, agent, self.record.attempt, at, self.card))

    def rang(self, unit: Unit, at: float, channel: ChannelRecord) -> None:
        """A phone rings. Only an agent's counts: without it a call is abandoned, not missed.

        It is news once an offer, however many phones the agents have.
        """
        if channel.role != "agent" or self.over:
            return
        if channel.answered is None:
            self.ringing.add(channel.key)
        segment = self._segment_of(channel)
        first = self.record.ringing is None
        if first:
            self.record.ringing = at
            unit.put_call(self.record)
        agents = self._audience(channel)
        if segment is not None:
            first = segment.ringing is None and segment.ended is None
            if first:
                segment.ringing = at
                unit.put_segment(segment)
            elif segment.rule is None and segment.ended is None:
                # A ring group of the company's own becomes known phone by phone.
                agents = [agent for agent in agents if agent not in self.rung]
                first = bool(agents)
        if first:
            self.rung.update(agents)
            unit.emit(
                "call.ringing",
                at,
                {"call": self.brief(), "party": self.record.party, "agents": agents},
                call=self.id,
                agents=agents,
            )

    def given_up(self, channel: ChannelRecord, status: str) -> None:
        """Dial has given this phone up, with its word for why: only who never answered was rung to the end."""
        if status != "NOANSWER":
            self.ringing.discard(channel.key)

    def answered(self, unit: Unit, at: float, channel: ChannelRecord) -> list[str]:
        """Somebody picked up. The agents who were offered the call with them, and lost it, are returned."""
        if channel.answered is not None or self.over:
            return []
        channel.answered = at
        unit.put_channel(channel)
        if self.is_nobody(channel):
            return []
        self._turn(Turn.ANSWER)
        losers: list[str] = []
        segment = self._segment_of(channel)
        if segment is not None and segment.answered is None and segment.ended is None:
            segment.answered = at
            segment.agent = channel.agent
            unit.put_segment(segment)
            losers = [agent for agent in segment.agents if agent != channel.agent]
            self._withdraw(unit, at, losers, "answered_elsewhere")
        for other in self._open:
            # Whoever dialled them gives up the others when one answers.
            if other is not segment and other.answered is None:
                losers += self._give_up(unit, at, other, "no_answer", "answered_elsewhere")
        first = self.record.answered is None
        if first:
            self.record.answered = max(at, self.record.started)
        another = channel.agent is not None and channel.agent != self.record.agent
        if another and not (self.ours and self.record.agent):
            self.record.agent = channel.agent
        if channel.agent is not None:
            self.way = None
        if self.transfer is not None:
            if self.transfer.by == channel.agent:
                self.transfer = None
            else:
                self._tell_transfer(unit, at)
                self.transfer = evolve(self.transfer, taken=True)
        unit.put_call(self.record)
        if not (first or another):
            return losers
        agents = self._audience(channel)
        if self.ours and self.record.agent and self.record.agent not in agents:
            agents.append(self.record.agent)
        unit.emit(
            "call.connected",
            at,
            {
                "call": self.brief(),
                "party": self.record.party,
                "agent": channel.agent or self._caller_agent(),
            },
            call=self.id,
            agents=agents,
        )
        return losers

    def forwarded(self, unit: Unit, at: float, channel: ChannelRecord) -> Sequence[str]:
        """The phone sends its call on (SIP 302). The agents who are not rung any more are returned."""
        if channel.answered is not None or self.over:
            return ()
        self.way = f"forwarded by {channel.agent or channel.device}"
        segment = self._segment_of(channel)
        if segment is None or segment.answered is not None or segment.ended is not None:
            return ()
        if any(other.segment == segment.number for other in self.living if other is not channel):
            return ()
        return self._give_up(unit, at, segment, "forwarded", "forwarded")

    def was_picked_up(self, unit: Unit, key: Key) -> None:
        """Somebody took a call that rang at another phone, which is known after their answer."""
        self.way = None
        segment = self._segment_of(self.channels[key]) if key in self.channels else None
        if segment is not None and segment.rule is None and segment.ended is None:
            segment.reason = "picked up"
            unit.put_segment(segment)

    def passes_on(self, by: str, to: str | None) -> None:
        """An agent passes the call on; it is told once they have left it, or whom they meant has answered."""
        known = self.transfer
        if known is None or known.by != by or known.taken:
            self.transfer = Transfer(by, to)
        self.way = None

    def transferred(self, unit: Unit, at: float, by: str, to: str | None) -> None:
        """Asterisk says that the call was passed on."""
        if self.over:
            return
        if self.transfer is None or self.transfer.by != by:
            self.transfer = Transfer(by, to)
        self._tell_transfer(unit, at)

    def hold(self, unit: Unit, at: float, channel: ChannelRecord, on: bool) -> None:
        """A phone holds the call, or takes it up again."""
        if self.over or (channel.key in self.held) == on:
            return
        (self.held.add if on else self.held.discard)(channel.key)
        unit.emit(
            "call.held" if on else "call.retrieved",
            at,
            {"call": self.brief(), "party": self.record.party, "agent": channel.agent},
            call=self.id,
            agents=[channel.agent] if channel.agent else [],
        )

    def lose(self, unit: Unit, at: float, channel: ChannelRecord) -> Sequence[str]:
        """A channel goes over to another call, by its `join`. The agents who are to be let go are returned."""
        del self.channels[channel.key]
        self.held.discard(channel.key)
        segment, channel.segment = self._segment_of(channel), None
        if segment is None:
            return ()
        if segment.answered is None and self.record.answered is None:
            # It rings on in the other call, and is missed there or nowhere.
            self.record.ringing = None
        return self._left(unit, at, segment, channel, "forwarded")

    def join(self, unit: Unit, at: float, channel: ChannelRecord, way: str) -> list[str]:
        """A channel of another call, or of none, is part of this one. Agents to be let go are returned."""
        before, self.way = self.way, way
        channel.call = self.id
        if channel.agent is not None:
            channel.role = "agent"
        elif channel.role not in _BETWEEN_ASTERISKS:
            channel.role = "other"
        talked, channel.answered = channel.answered is not None, None
        began, channel.began = channel.began, at
        self.add_channel(unit, channel)
        channel.began = began
        unit.put_channel(channel)
        if not talked:
            self.way = before
            return []
        losers = self.answered(unit, at, channel)
        self.way = before if channel.agent is None else None
        return losers

    def end_offer(self, unit: Unit, at: float, result: str) -> Sequence[str]:
        """The open offer is over without an answer: its agents, who are to be let go, are returned."""
        segment = self.offer
        if segment is None or segment.answered is not None:
            return ()
        return self._give_up(unit, at, segment, result, result)

    def left_asking(self, unit: Unit, at: float, result: str) -> Sequence[str]:
        """The caller left during a question that came to nothing; the offer before it had ended so."""
        agents = self.end_offer(unit, at, result)
        self._turn(Turn.ASK)
        return agents

    def hung_up(self, unit: Unit, at: float, channel: ChannelRecord, cause: int | None) -> None:
        """A channel is gone. The call itself ends with the last of them, by `end`."""
        if channel.ended is not None:
            return
        channel.ended = at
        channel.cause = cause
        unit.put_channel(channel)
        self.held.discard(channel.key)
        if channel.role == "caller" and channel.pbx == self.record.pbx:
            self.record.hangup_cause = cause
        segment = self._segment_of(channel)
        if segment is not None and (channel.answered is not None or segment.rule is None):
            self._left(unit, at, segment, channel, self._why_given_up())
        transfer = self.transfer
        if (
            transfer is not None
            and transfer.by == channel.agent
            and self.living
            and not self.living_of(transfer.by)
        ):
            self._tell_transfer(unit, at)
            self._withdraw(unit, at, [transfer.by], "transferred")

    def end(self, unit: Unit, at: float, result: str | None = None) -> Sequence[str]:
        """No channel is left. The agents of its last segment, who are to be let go, are returned.

        Everything is written once more, so that a commit that failed on the way leaves no gap. `result` is
        what becomes of an offer that was still open, by default what AMI said of it.
        """
        if self.over:
            return ()
        # A clock that was set meanwhile makes no call end before it began.
        at = max(at, self.latest)
        result = result or SEGMENT_RESULTS.get(self.dialstatus or "CANCEL", "failed")
        agents = self._close_segments(unit, at, result)
        asked = self.state in (State.ASKED, State.WAITING)
        self._turn(Turn.END)
        record = self.record
        record.ended = at
        record.outcome = self._outcome(asked)
        unit.put_call(record)
        for row in self.segments:
            unit.put_segment(row)
        for channel in self.channels.values():
            if channel.ended is None:
                channel.ended = at
            unit.put_channel(channel)
        audience = [record.agent] if record.agent else list(agents)
        body = {"call": self.brief() | self._summary(), "party": record.party}
        if record.outcome == "missed":
            unit.emit("call.missed", at, body, call=self.id, agents=audience)
        unit.emit("call.ended", at, body, call=self.id, agents=audience)
        return agents

    # Inside.

    @property
    def _open(self) -> list[SegmentRecord]:
        return [segment for segment in self.segments if segment.ended is None]

    def _close_segments(self, unit: Unit, at: float, result: str) -> Sequence[str]:
        agents: list[str] = []
        for segment in self._open:
            if segment.answered is None:
                agents += self._give_up(unit, at, segment, result, result)
            else:
                segment.ended, segment.result = at, "answered"
                unit.put_segment(segment)
                agents += segment.agents
        return agents

    def _give_up(self, unit: Unit, at: float, segment: SegmentRecord, result: str, why: str) -> Sequence[str]:
        segment.ended, segment.result = at, result
        unit.put_segment(segment)
        self._withdraw(unit, at, segment.agents, why)
        return segment.agents

    def _left(
        self, unit: Unit, at: float, segment: SegmentRecord, channel: ChannelRecord, result: str
    ) -> Sequence[str]:
        """A channel is not part of its segment any more; the segment ends with the last one.

        One that rings no more because its phone went elsewhere ends as `result`.
        """
        if segment.ended is not None:
            return ()
        others = [one for one in self.living if one.segment == segment.number and one is not channel]
        if segment.answered is None:
            return () if others else self._give_up(unit, at, segment, result, result)
        if channel.answered is not None and not any(one.answered is not None for one in others):
            segment.ended, segment.result = at, "answered"
            unit.put_segment(segment)
        return ()

    def _why_given_up(self) -> str:
        """What became of a segment whose phones ring no more."""
        if self.record.answered is not None and self.dialstatus in (None, "CANCEL"):
            return "no_answer"
        return SEGMENT_RESULTS.get(self.dialstatus or "CANCEL", "failed")

    def _talks(self, channel: ChannelRecord) -> bool:
        if channel.role == "caller":
            return self.record.answered is not None
        return channel.answered is not None

    def _caller_agent(self) -> str | None:
        return self.record.agent if self.ours else None

    def _tell_transfer(self, unit: Unit, at: float) -> None:
        transfer = self.transfer
        if transfer is None or transfer.told:
            return
        self.transfer = evolve(transfer, told=True)
        unit.emit(
            "call.transferred",
            at,
            {"call": self.brief(), "party": self.record.party, "from": transfer.by, "to": transfer.to},
            call=self.id,
            agents=[transfer.by, *(agent for agent in self.talking if agent != transfer.by)],
        )

    def _show(self, unit: Unit, card: CardRecord) -> None:
        self.cards[card.agent] = card
        unit.put_card(card)
        unit.emit(
            "card.offered",
            card.offered,
            {
                "call": self.brief(),
                "party": self.record.party,
                "agent": card.agent,
                "attempt": card.attempt,
                "card": card.body,
            },
            call=self.id,
            agents=(card.agent,),
        )

    def _turn(self, turn: Turn) -> None:
        try:
            self.record.state = str(TURNS[self.state, turn])
        except KeyError:
            raise ImpossibleTurn(f"a call that is {self.state} cannot {turn}") from None

    def _segment_of(self, channel: ChannelRecord) -> SegmentRecord | None:
        if channel.segment is None:
            return None
        return self.segments[channel.segment - 1]

    def _audience(self, channel: ChannelRecord) -> list[str]:
        segment = self._segment_of(channel)
        if segment is not None and channel.answered is None:
            return list(segment.agents)
        return [channel.agent] if channel.agent else []

    def _withdraw(self, unit: Unit, at: float, agents: Iterable[str], why: str) -> None:
        for agent in agents:
            card = self.cards.pop(agent, None)
            if card is None:
                continue
            card.withdrawn = at
            unit.put_card(card)
            unit.emit(
                "card.withdrawn",
                at,
                {"call": self.brief(), "agent": agent, "why": why},
                call=self.id,
                agents=(agent,),
            )

    def _outcome(self, asked: bool) -> str:
        """The contract's outcomes, the first that holds. `asked`: a question was open when the caller left."""
        record = self.record
        if record.answered is not None:
            return "answered"
        if record.ringing is not None:
            return "busy" if self.ours and self.dialstatus == "BUSY" else "missed"
        if self.ours:
            return self._outcome_of_ours()
        last = self.segments[-1].result if self.segments else None
        if self.action is not None and self.action in LAST_RESORTS:
            return LAST_RESORTS[self.action]
        if self.action is None and any(channel.role == "other" for channel in self.channels.values()):
            return "fallback"
        if last in ("busy", "failed") and not asked:
            return last
        return "abandoned"

    def _outcome_of_ours(self) -> str:
        """What became of a call that one of us made, and that rang nobody's phone here."""
        if self.dialstatus == "BUSY":
            return "busy"
        return "abandoned" if self.channels and self.dialstatus in (None, "CANCEL") else "failed"

    def _summary(self) -> dict[str, Any]:
        record = self.record
        ended = record.ended or record.started
        answered = record.answered
        return {
            "outcome": record.outcome,
            "agent": record.agent,
            "started": iso(record.started),
            "answered": iso(answered) if answered is not None else None,
            "ended": iso(ended),
            "duration": round(ended - record.started, 3),
            "wait": round((answered or ended) - record.started, 3),
            "talk": round(ended - answered, 3) if answered is not None else 0.0,
            "hangup_cause": record.hangup_cause,
            "closed_by": record.closed_by,
        }


def brief_of(record: CallRecord) -> dict[str, Any]:
    """A call as it stands in every event of it."""
    return {
        "id": record.id,
        "direction": record.direction,
        "from": record.from_number,
        "to": record.to_number,
        "service": record.service,
    }


def _last_action(detail: CallDetail) -> str | None:
    """What was done last, as far as the log knows; in observe mode that is not what was decided."""
    if not detail.decisions:
        return None
    return "fallback" if detail.call.mode != Mode.ROUTE else detail.decisions[-1].action
