"""The life of one call: what can happen to it, in which state, and what is written down when it does.

Theory of operation. A `LiveCall` is the call while it lives. Two tellers report to it and neither is complete:
the AGI request (Asterisk asks for a decision) and AMI (what channels did). They come over two sockets, so
either may be first, late or absent; every method here may therefore be called when its news is no news, and
then does nothing. A turn that makes no sense in a state raises instead. The states and turns stand in `TURNS`.

No socket, no clock, no store: times are passed in (epoch seconds), and what must become durable goes into the
`Unit` that is passed in, rows and events together.
"""

import secrets
import uuid
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from attrs import define, field

from cti.calls.identification import Identification
from cti.calls.present import iso
from cti.store.base import CallDetail, Unit
from cti.store.records import CallRecord, CardRecord, ChannelRecord, SegmentRecord
from routing.rules import Mode


class State(StrEnum):
    """Where a call is. `elsewhere`: at the fallback, in observe mode, or in the company's own dialplan."""

    ASKED = "asked"
    OFFERED = "offered"
    CONNECTED = "connected"
    ELSEWHERE = "elsewhere"
    ENDED = "ended"


class Turn(StrEnum):
    """What can happen to a call."""

    ASK = "ask"
    OFFER = "offer"
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
    (State.ASKED, Turn.SEND): State.ELSEWHERE,
    (State.ASKED, Turn.ANSWER): State.CONNECTED,
    (State.ASKED, Turn.END): State.ENDED,
    (State.OFFERED, Turn.ASK): State.ASKED,
    (State.OFFERED, Turn.SEND): State.ELSEWHERE,
    (State.OFFERED, Turn.ANSWER): State.CONNECTED,
    (State.OFFERED, Turn.END): State.ENDED,
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


@define
class LiveCall:
    """One call from the first question to the end of its last channel.

    @ivar record: the row of the log as it stands.
    @ivar segments: every offer so far, the last one open or not.
    @ivar channels: by uniqueid, dead ones too.
    @ivar cards: cards that are on an agent's screen now, by agent.
    @ivar identification: who the CRMs said it is, and `party` the one it is routed by; None until asked.
    @ivar action: what was decided last, None before the first decision.
    @ivar unwritten: the transaction of a decision in the making, or one that the store refused: it goes
        before whatever is written next of this call.
    @ivar dialstatus: what AMI said last of how a ringing phone was given up, None while one rings.
    """

    record: CallRecord
    segments: list[SegmentRecord] = field(factory=list)
    channels: dict[str, ChannelRecord] = field(factory=dict)
    cards: dict[str, CardRecord] = field(factory=dict)
    identification: Identification | None = None
    party: Mapping[str, Any] | None = None
    action: str | None = None
    dialstatus: str | None = None
    unwritten: Unit | None = None

    @classmethod
    def restored(cls, detail: CallDetail) -> "LiveCall":
        """The call as the log knows it, after a restart of the server."""
        return cls(
            record=detail.call,
            segments=list(detail.segments),
            channels={channel.uniqueid: channel for channel in detail.channels},
            cards={card.agent: card for card in detail.cards if card.withdrawn is None},
            action=_last_action(detail),
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
        """The segment that is open now."""
        if self.segments and self.segments[-1].ended is None:
            return self.segments[-1]
        return None

    @property
    def tried(self) -> frozenset[str]:
        """The agents who were offered this call and did not take it."""
        return frozenset(agent for segment in self.segments if segment.ended for agent in segment.agents)

    @property
    def living(self) -> list[ChannelRecord]:
        return [channel for channel in self.channels.values() if channel.ended is None]

    def brief(self) -> dict[str, Any]:
        """The call as it stands in every event of it."""
        record = self.record
        return {
            "id": record.id,
            "direction": record.direction,
            "from": record.from_number,
            "to": record.to_number,
            "service": record.service,
        }

    # Asterisk asks.

    def ask(self, unit: Unit, at: float, channel: ChannelRecord, last: str | None) -> Sequence[str]:
        """Asterisk wants a decision. `last` is Dial's word on the offer before, which ends by it.

        The agents of that offer, who are to be let go, are returned.
        """
        agents = self._close_segment(unit, at, SEGMENT_RESULTS.get(last or "", "failed"))
        first = self.record.attempt == 0
        self._turn(Turn.ASK)
        self.record.attempt += 1
        unit.put_channel(channel)
        if first:
            unit.emit("call.offered", at, {"call": self.brief()}, call=self.id)
        return agents

    def offer_to(self, unit: Unit, segment: SegmentRecord, cards: Iterable[CardRecord]) -> None:
        """Agents are reserved and about to be rung: open the segment, put the card on their screens."""
        self._turn(Turn.OFFER)
        self.dialstatus = None
        self.segments.append(segment)
        unit.put_segment(segment)
        for card in cards:
            self.cards[card.agent] = card
            unit.put_card(card)
            unit.emit(
                "card.offered",
                card.offered,
                {"call": self.brief(), "party": self.record.party, "agent": card.agent, "card": card.body},
                call=self.id,
                agents=(card.agent,),
            )

    def send_elsewhere(self, unit: Unit, at: float, action: str | None) -> Sequence[str]:
        """The call goes to the fallback, or on as without us; an offer that was open did not work.

        `action` is None when nobody knows whether Asterisk took the fallback or the caller left. The agents
        of that offer, who are to be let go, are returned.
        """
        self.action = action
        agents = self.end_offer(unit, at, "failed" if action else "lost")
        if self.state in (State.ASKED, State.OFFERED):
            self._turn(Turn.SEND)
        return agents

    def revive(self) -> None:
        """The call was taken for dead, and asks."""
        self.record.ended = self.record.outcome = None
        self.record.state = str(State.ASKED)

    # What channels do.

    def add_channel(self, unit: Unit, channel: ChannelRecord) -> None:
        """A channel belongs to this call from now on."""
        if channel.uniqueid in self.channels:
            return
        self.channels[channel.uniqueid] = channel
        unit.put_channel(channel)

    def rang(self, unit: Unit, at: float, channel: ChannelRecord) -> None:
        """A phone rings. Only an agent's counts: without it a call is abandoned, not missed.

        It is news once an offer, however many phones the agents have.
        """
        if channel.role != "agent" or self.over:
            return
        segment = self._segment_of(channel)
        first = self.record.ringing is None
        if first:
            self.record.ringing = at
            unit.put_call(self.record)
        if segment is not None:
            first = segment.ringing is None and segment.ended is None
            if first:
                segment.ringing = at
                unit.put_segment(segment)
        if first:
            agents = self._audience(channel)
            unit.emit(
                "call.ringing",
                at,
                {"call": self.brief(), "party": self.record.party, "agents": agents},
                call=self.id,
                agents=agents,
            )

    def answered(self, unit: Unit, at: float, channel: ChannelRecord) -> list[str]:
        """Somebody picked up. The agents who were offered the call with them, and lost it, are returned."""
        if channel.answered is not None or self.over:
            return []
        channel.answered = at
        unit.put_channel(channel)
        self._turn(Turn.ANSWER)
        losers: list[str] = []
        segment = self._segment_of(channel)
        if segment is not None and segment.answered is None and segment.ended is None:
            segment.answered = at
            segment.agent = channel.agent
            unit.put_segment(segment)
            losers = [agent for agent in segment.agents if agent != channel.agent]
            self._withdraw(unit, at, losers, "answered_elsewhere")
        first = self.record.answered is None
        if first:
            self.record.answered = at
        # A Local channel between a caller and an agent's phone answers, too, and is nobody.
        another = channel.agent is not None and channel.agent != self.record.agent
        if another:
            self.record.agent = channel.agent
        unit.put_call(self.record)
        if not (first or another):
            return losers
        agents = self._audience(channel)
        unit.emit(
            "call.connected",
            at,
            {"call": self.brief(), "party": self.record.party, "agent": channel.agent},
            call=self.id,
            agents=agents,
        )
        return losers

    def end_offer(self, unit: Unit, at: float, result: str) -> Sequence[str]:
        """The open offer is over without an answer: its agents, who are to be let go, are returned."""
        segment = self.offer
        if segment is None or segment.answered is not None:
            return ()
        segment.ended = at
        segment.result = result
        unit.put_segment(segment)
        self._withdraw(unit, at, segment.agents, result)
        return segment.agents

    def hung_up(self, unit: Unit, at: float, channel: ChannelRecord, cause: int | None) -> None:
        """A channel is gone. The call itself ends with the last of them, by `end`."""
        if channel.ended is not None:
            return
        channel.ended = at
        channel.cause = cause
        unit.put_channel(channel)
        if channel.role == "caller":
            self.record.hangup_cause = cause
        segment = self._segment_of(channel)
        if segment is not None and segment is self.offer and channel.answered is not None:
            segment.ended = at
            segment.result = "answered"
            unit.put_segment(segment)

    def end(self, unit: Unit, at: float, result: str | None = None) -> Sequence[str]:
        """No channel is left. The agents of its last segment, who are to be let go, are returned.

        Everything is written once more, so that a commit that failed on the way leaves no gap. `result` is
        what becomes of an offer that was still open, by default what AMI said of it.
        """
        if self.over:
            return ()
        result = result or SEGMENT_RESULTS.get(self.dialstatus or "CANCEL", "failed")
        agents = self._close_segment(unit, at, result)
        self._turn(Turn.END)
        record = self.record
        record.ended = at
        record.outcome = self._outcome()
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

    def _close_segment(self, unit: Unit, at: float, result: str) -> Sequence[str]:
        segment = self.offer
        if segment is None:
            return ()
        if segment.answered is None:
            return self.end_offer(unit, at, result)
        segment.ended = at
        segment.result = "answered"
        unit.put_segment(segment)
        return segment.agents

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

    def _outcome(self) -> str:
        """The contract's outcomes, the first that holds."""
        record = self.record
        if record.answered is not None:
            return "answered"
        if record.ringing is not None:
            return "missed"
        last = self.segments[-1].result if self.segments else None
        if self.action is not None and self.action in LAST_RESORTS:
            return LAST_RESORTS[self.action]
        if self.action is None and any(channel.role == "other" for channel in self.channels.values()):
            return "fallback"
        if last in ("busy", "failed"):
            return last
        return "abandoned"

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
        }


def _last_action(detail: CallDetail) -> str | None:
    """What was done last, as far as the log knows; in observe mode that is not what was decided."""
    if not detail.decisions:
        return None
    return "fallback" if detail.call.mode == Mode.OBSERVE else detail.decisions[-1].action
