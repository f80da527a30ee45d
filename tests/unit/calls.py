"""Builders for tests about calls: a call, its channels, and a unit that remembers what was put into it."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from cti.calls.life import LiveCall
from cti.store.records import CallRecord, CardRecord, ChannelRecord, SegmentRecord
from routing.decide import Action, Decision

CALL = "01930000-0000-7000-8000-000000000001"


class RecordingUnit:
    """A fake of the store's unit: keeps copies of the rows and the events, in order, and writes nothing."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.events: list[tuple[str, float, Mapping[str, Any], tuple[str, ...]]] = []

    def put_call(self, call: CallRecord) -> None:
        self.rows.append(evolve(call))

    def put_written(self, call: CallRecord) -> None:
        self.rows.append(("written", call.id, call.notes, call.disposition, call.party))

    def take_party(self, call: str, party: Any) -> None:
        self.rows.append(("took", call, party))

    def name_caller(self, record: CallRecord) -> None:
        self.rows.append(("named", record.id, record.from_number, record.from_kind))

    def take_party_of(self, number: str, since: float, party: Any) -> None:
        self.rows.append(("took", number, since, party))

    def put_choice(self, choice: Any) -> None:
        self.rows.append(choice)

    def put_listed(self, number: Any) -> None:
        self.rows.append(number)

    def remove_listed(self, list: str, pattern: str) -> None:
        self.rows.append(("unlisted", list, pattern))

    def add_newcomer(self, newcomer: Any) -> None:
        self.rows.append(("came", newcomer))

    def put_newcomer(self, newcomer: Any) -> None:
        self.rows.append(newcomer)

    def put_phone(self, agent: str, phone: str | None) -> None:
        self.rows.append(("phone", agent, phone))

    def put_skills(self, agent: str, skills: Mapping[str, int]) -> None:
        self.rows.append(("skills", agent, dict(skills)))

    def put_wrap_up(self, wrap_up: Any) -> None:
        self.rows.append(wrap_up)

    def remove_wrap_up(self, agent: str) -> None:
        self.rows.append(("wrapped up", agent))

    def add_wrap_up(self, call: str, segment: int, seconds: float) -> None:
        self.rows.append(("wrap-up", call, segment, seconds))

    def put_unwritten(self, agent: str, call: str, since: float) -> None:
        self.rows.append(("unwritten", agent, call, since))

    def remove_unwritten(self, call: str) -> None:
        self.rows.append(("written up", call))

    def put_callback(self, callback: Any) -> None:
        self.rows.append(evolve(callback))

    def put_segment(self, segment: SegmentRecord) -> None:
        self.rows.append(evolve(segment))

    def put_channel(self, channel: ChannelRecord) -> None:
        self.rows.append(evolve(channel))

    def put_card(self, card: CardRecord) -> None:
        self.rows.append(evolve(card))

    def put_decision(self, decision: Any) -> None:
        self.rows.append(decision)

    def put_agent(self, agent: Any) -> None:
        self.rows.append(agent)

    def put_reservation(self, reservation: Any) -> None:
        self.rows.append(reservation)

    def put_token(self, token: Any) -> None:
        self.rows.append(token)

    def put_wish(self, agent: Any) -> None:
        self.rows.append(agent)

    def touch_agent(self, agent: str, idle_since: float) -> None:
        self.rows.append(("touched", agent, idle_since))

    def remove_agent(self, agent: str) -> None:
        self.rows.append(("removed", agent))

    def remove_reservation(self, agent: str, call: str) -> None:
        self.rows.append(("unreserved", agent, call))

    def emit(
        self,
        type: str,
        at: float,
        body: Mapping[str, Any],
        *,
        call: str | None = None,
        agents: Sequence[str] = (),
    ) -> None:
        self.events.append((type, at, dict(body), tuple(agents)))

    @property
    def types(self) -> list[str]:
        """The types of the events, in order."""
        return [event[0] for event in self.events]

    def last(self, kind: type) -> Any:
        """The row of this kind that was put in last."""
        return [row for row in self.rows if isinstance(row, kind)][-1]


def a_channel(uniqueid: str = "1.0", role: str = "caller", **more: Any) -> ChannelRecord:
    given = {"pbx": "main", "call": CALL, "device": f"PJSIP/x-{uniqueid}", "began": 100.0, **more}
    return ChannelRecord(uniqueid=uniqueid, role=role, **given)


def a_leg(uniqueid: str = "1.1", agent: str = "anna", segment: int = 1, **more: Any) -> ChannelRecord:
    """The channel to an agent's phone."""
    return a_channel(uniqueid, "agent", agent=agent, segment=segment, **more)


def a_call(**more: Any) -> LiveCall:
    """A call that Asterisk has just asked about for the first time, at 100."""
    call = LiveCall(CallRecord(id=CALL, pbx="main", started=100.0, service="sales", **more))
    channel = a_channel()
    call.channels[channel.key] = channel
    call.ask(RecordingUnit(), 100.0, channel, None)
    return call


def an_offer(call: LiveCall, *agents: str, at: float = 101.0) -> RecordingUnit:
    """Offer the call to these agents, with a card for each."""
    unit = RecordingUnit()
    target = "&".join(f"PJSIP/{agent}" for agent in agents)
    call.action = "dial"
    decision = Decision(Action.DIAL, agents, target, 20, "owner", "owner: anna", ())
    call.offer_to(unit, at, decision, {"parties": []})
    return unit
