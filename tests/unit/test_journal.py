"""CRMs are told of their calls: each once, as it stands, in order, and again if an answer was lost."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from adapters.base import (
    AdapterBusy,
    AdapterHealth,
    AdapterUnavailable,
    Capability,
    JournalEntry,
    JournalState,
    Party,
    PartyRef,
    PartyType,
    Written,
)
from cti.calls.journal import JOURNAL_EVENTS, Journal, destination, journaling
from cti.calls.outbox import DeliveryFailed, Outbox
from cti.calls.present import call_detail_json
from cti.numbers import Number, NumberPlan
from cti.settings import JournalSettings
from cti.store.records import CallRecord, Delivery, SegmentRecord
from routing.rules import Mode, Service
from tests.unit.test_outbox import InstantStore

T0 = 1_770_110_100.0
ACME = {"adapter": "crm", "type": "organisation", "id": "7", "name": "Acme", "url": None}
SALES = Service(
    "sales",
    numbers=("+494066969100",),
    mode=Mode.ROUTE,
    instruction="",
    fallback="a,s,1",
    rules=(),
    title="Sales",
    dispositions={"sold": {"": "Was sold"}},
)


@define
class Crm:
    """An adapter whose CRM keeps what it is told; `fails` is raised instead, after it was kept."""

    name: str = "crm"
    journals_early: bool = True
    told: list[tuple[JournalEntry, Sequence[Written]]] = field(factory=list)
    kept: dict[str, JournalEntry] = field(factory=dict)
    fails: Exception | None = None
    capabilities: frozenset[Capability] = frozenset({Capability.JOURNAL})

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def identify(self, number: Number) -> Sequence[Party]:
        return ()

    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=True)

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        self.told.append((entry, written))
        if entry.party is None:
            self.kept.pop(entry.key, None)
        else:
            self.kept[entry.key] = entry
        if self.fails is not None:
            raise self.fails
        return [Written("call", f"record-{entry.key}", "https://crm.example/7")] if entry.party else []

    @property
    def states(self) -> list[JournalState]:
        return [entry.state for entry, _ in self.told]


class People:
    users: Mapping[str, str] = {"anna": "u1", "ben": "u2"}

    def name_of(self, agent: str) -> str:
        return agent.title()

    def user_of(self, agent: str, adapter: str) -> str | None:
        return self.users.get(agent)


@define
class World:
    clock: Clock
    store: InstantStore
    crm: Crm = field(factory=Crm)
    settings: JournalSettings | None = field(factory=JournalSettings)
    journal: Journal = field(init=False)
    outbox: Outbox | None = None

    def __attrs_post_init__(self) -> None:
        self.journal = Journal(
            "crm",
            adapters=lambda: {"crm": self.crm},
            settings=lambda: self.settings,
            store=self.store,
            people=People(),
            services={"sales": SALES}.get,
            display=NumberPlan("DE").display,
            recording_url=lambda call: f"https://cti.example/{call}/recording",
            now=self.now,
        )

    def now(self) -> float:
        return T0 + self.clock.seconds()

    def happens(self, call: CallRecord, *types: str, segments: Sequence[SegmentRecord] = ()) -> None:
        """The call is so now, and these events tell of it."""
        unit = self.store.unit()
        unit.put_call(call)
        unit.put_written(call)
        for segment in segments:
            unit.put_segment(segment)
        for type in types:
            unit.emit(type, self.now(), {"call": {"id": call.id}, "party": call.party}, call=call.id)
        self.store.commit(unit)

    def deliver(self) -> None:
        """The outbox does what it can do now."""
        if self.outbox is None:
            self.outbox = Outbox(
                self.store,
                {destination("crm"): self.journal},
                self.clock,
                clock=self.now,
                jitter=lambda: 0.0,
            )
            self.outbox.startService()
        self.wait(0)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for _ in range(50):
            self.clock.advance(0)

    def send(self, call: str) -> Exception | None:
        """What one attempt to tell of this call ends with."""
        delivery = Delivery(1, "crm:crm", call, 1, "k", "call.ended", b"{}", self.now(), 0, self.now())
        outcome: list[Any] = []
        Deferred.fromCoroutine(self.journal.send(delivery)).addBoth(outcome.append)
        return outcome[0].value if outcome[0] is not None else None

    def call_json(self, id: str) -> dict[str, Any]:
        detail = self.store._read.call(id)
        assert detail is not None
        return call_detail_json(detail)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock = Clock()
    store = InstantStore(
        tmp_path / "cti.db",
        reactor=None,  # type: ignore[arg-type]
        destinations={destination("crm"): JOURNAL_EVENTS},
        clock=lambda: T0 + clock.seconds(),
    )
    store.start()
    # In a thread in the real one.
    store.call = lambda id: _done(store._read.call(id))  # type: ignore[method-assign]
    yield World(clock, store)
    store.close()


def _done(value: Any) -> "Deferred[Any]":
    done: Deferred[Any] = Deferred()
    done.callback(value)
    return done


def a_call(**changes: Any) -> CallRecord:
    call = CallRecord(
        id="c1",
        pbx="main",
        started=T0,
        from_number="+4940669690",
        to_number="+494066969100",
        service="sales",
        party=ACME,
    )
    return evolve(call, **changes)


def answered(**changes: Any) -> CallRecord:
    return a_call(
        **{
            "agent": "anna",
            "answered": T0 + 4,
            "ended": T0 + 84,
            "outcome": "answered",
            "state": "ended",
            **changes,
        }
    )


def missed(**changes: Any) -> CallRecord:
    return a_call(**{"ended": T0 + 20, "outcome": "missed", "state": "ended", **changes})


def offered_to(*agents: str) -> SegmentRecord:
    return SegmentRecord("c1", 1, 1, "sales", agents, "", None, "", T0)


def test_a_call_is_told_as_it_goes_on_and_stays_one_record(world: World) -> None:
    world.happens(a_call(), "call.ringing", segments=[offered_to("anna")])
    world.deliver()
    world.happens(evolve(answered(), ended=None, outcome=None, state="connected"), "call.connected")
    world.deliver()
    world.happens(answered(), "call.ended")
    world.deliver()
    assert world.crm.states == [JournalState.RINGING, JournalState.CONNECTED, JournalState.ENDED]
    assert [[each.id for each in written] for _, written in world.crm.told] == [
        [],
        ["record-c1"],
        ["record-c1"],
    ]
    assert world.call_json("c1")["crm"] == [
        {
            "adapter": "crm",
            "type": "call",
            "id": "record-c1",
            "url": "https://crm.example/7",
            "at": "2026-02-03T09:15:00.000Z",
        }
    ]


def test_an_ended_call_has_what_people_want_to_read(world: World) -> None:
    call = answered(notes="Wants two", disposition="sold", recording="c1.wav")
    world.happens(call, "call.ended")
    world.deliver()
    ((entry, _),) = world.crm.told
    assert entry.party == PartyRef(PartyType.ORGANISATION, "7")
    assert (entry.user, entry.number, entry.talk, entry.duration) == ("u1", "+4940669690", 80.0, 84.0)
    assert entry.subject == "Incoming call, 1:20"
    assert entry.text == "From 040 669690 to Sales\nAnna talked after 0:04\nWants two"
    assert (entry.disposition, entry.recording) == ("Was sold", "https://cti.example/c1/recording")


@pytest.mark.parametrize(
    ("call", "state", "subject"),
    [
        (missed(), JournalState.MISSED, "Missed call"),
        (missed(outcome="abandoned"), JournalState.MISSED, "Missed call"),
        (missed(outcome="voicemail"), JournalState.ENDED, "Incoming call, went to the voicemail"),
        (missed(direction="outbound"), JournalState.ENDED, "Outgoing call, nobody answered"),
        (a_call(), JournalState.RINGING, "Incoming call, ringing"),
    ],
)
def test_what_became_of_a_call_is_told(
    world: World, call: CallRecord, state: JournalState, subject: str
) -> None:
    world.happens(call, "call.ended")
    world.deliver()
    ((entry, _),) = world.crm.told
    assert (entry.state, entry.subject) == (state, subject)


@pytest.mark.parametrize(("agents", "user"), [(["anna"], "u1"), (["anna", "ben"], None), (["carl"], None)])
def test_a_missed_call_is_for_the_one_who_was_rung(world: World, agents: list[str], user: str | None) -> None:
    world.happens(missed(), "call.missed", segments=[offered_to(*agents)])
    world.deliver()
    ((entry, _),) = world.crm.told
    assert entry.user == user


def test_news_that_waited_together_are_told_once(world: World) -> None:
    world.happens(a_call(), "call.ringing")
    world.happens(missed(), "call.missed", "call.ended")
    world.deliver()
    assert world.crm.states == [JournalState.MISSED]


def test_notes_written_after_the_end_are_told(world: World) -> None:
    world.happens(answered(), "call.ended")
    world.deliver()
    world.happens(answered(notes="Call back on Monday"), "call.updated")
    world.deliver()
    assert world.crm.kept["c1"].text.endswith("Call back on Monday")


@pytest.mark.parametrize("party", [None, {**ACME, "adapter": "other"}])
def test_a_call_of_nobody_it_knows_is_not_told(world: World, party: Any) -> None:
    world.happens(answered(party=party), "call.ended")
    world.deliver()
    assert world.crm.told == []
    assert world.store.pending() == {}


def test_a_crm_whose_party_it_was_not_is_told_so(world: World) -> None:
    world.happens(answered(), "call.ended")
    world.deliver()
    world.happens(answered(party={**ACME, "adapter": "other"}))
    assert world.send("c1") is None
    entry, written = world.crm.told[-1]
    assert (entry.party, [each.id for each in written]) == (None, ["record-c1"])
    assert world.call_json("c1")["crm"] == []


def test_calls_between_agents_are_left_out_unless_they_are_wanted(world: World) -> None:
    world.happens(answered(direction="internal"), "call.ended")
    world.deliver()
    assert world.crm.told == []
    world.settings = JournalSettings(internal=True)
    assert world.send("c1") is None
    assert len(world.crm.told) == 1


def test_a_crm_that_takes_each_call_once_is_told_at_its_end(world: World) -> None:
    world.crm.journals_early = False
    world.happens(a_call(), "call.ringing")
    world.deliver()
    assert world.crm.told == []
    world.happens(answered(), "call.ended")
    world.deliver()
    world.happens(answered(notes="more"), "call.updated")
    world.deliver()
    assert world.crm.states == [JournalState.ENDED]


def test_a_crm_that_is_away_is_told_when_it_is_back(world: World) -> None:
    world.crm.fails = AdapterUnavailable("away")
    world.happens(a_call(), "call.ringing")
    world.deliver()
    world.happens(answered(), "call.ended")
    world.wait(0.5)
    assert world.call_json("c1")["crm"] == []
    world.crm.fails = None
    for _ in range(20):
        world.wait(1)
    assert world.crm.states[-1] is JournalState.ENDED
    assert len(world.call_json("c1")["crm"]) == 1
    assert world.store.pending() == {}


def test_a_crm_that_wants_to_be_left_alone_says_for_how_long(world: World) -> None:
    world.crm.fails = AdapterBusy("too many", 30.0)
    world.happens(answered())
    failed = world.send("c1")
    assert isinstance(failed, DeliveryFailed)
    assert failed.retry_after == 30.0


def test_what_could_not_be_kept_is_told_again_by_the_same_key(world: World) -> None:
    world.happens(answered())
    world.store.broken = True
    assert isinstance(world.send("c1"), DeliveryFailed)
    world.store.broken = False
    assert world.send("c1") is None
    assert [entry.key for entry, _ in world.crm.told] == ["c1", "c1"]
    assert len(world.call_json("c1")["crm"]) == 1


def test_the_subject_is_as_the_company_wants_it(world: World) -> None:
    world.settings = JournalSettings(subject="☎ {call} ({agent}, {service}, {number})")
    world.happens(answered(), "call.ended")
    world.deliver()
    ((entry, _),) = world.crm.told
    assert entry.subject == "☎ Incoming call, 1:20 (Anna, Sales, 040 669690)"


def test_only_adapters_that_can_and_may_are_told() -> None:
    crms = {"yes": Crm(), "no": Crm(), "cannot": Crm(capabilities=frozenset({Capability.IDENTIFY}))}
    settings = {"yes": JournalSettings(), "no": None, "cannot": JournalSettings()}
    assert journaling(crms, settings) == ["yes"]


def test_an_adapter_that_is_gone_keeps_nothing_waiting(world: World) -> None:
    world.settings = None
    world.happens(answered(), "call.ended")
    world.deliver()
    assert (world.crm.told, world.store.pending()) == ([], {})
