"""CRMs are told of their calls: each once, as it stands, in order, and again if an answer was lost."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from adapters.base import (
    AdapterBusy,
    AdapterHealth,
    AdapterTimeout,
    AdapterUnavailable,
    Capability,
    JournalEntry,
    JournalState,
    Party,
    PartyRef,
    PartyType,
    Written,
)
from cti.calls.journal import JOURNAL_EVENTS, LATE_EVENTS, Journal, destination, journaling, subscription
from cti.calls.journal_entry import Teller
from cti.calls.outbox import DeliveryFailed, DeliveryPostponed, Outbox
from cti.calls.present import call_detail_json
from cti.identify.lists import NumberList
from cti.journal_text import JournalText, language, languages
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
    dispositions={"sold": {"": "Was sold", "de": "Verkauft"}},
)
BLOCKED = "+4930231250"


@define
class Crm:
    """An adapter whose CRM keeps what it is told; `fails` is raised instead, after it was kept."""

    name: str = "crm"
    journals_early: bool = True
    journals_changes: bool = True
    journals_by_key: bool = True
    journals_unknown: bool = False
    told: list[tuple[JournalEntry, Sequence[Written]]] = field(factory=list)
    withdrawn: list[tuple[JournalEntry, Sequence[Written]]] = field(factory=list)
    kept: dict[str, JournalEntry] = field(factory=dict)
    fails: Exception | None = None
    stuck: "Deferred[None] | None" = None
    capabilities: frozenset[Capability] = frozenset({Capability.JOURNAL})

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def identify(self, number: Number) -> Sequence[Party]:
        return ()

    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=True)

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        self.told.append((entry, written))
        self.kept[entry.key] = entry
        if self.stuck is not None:
            await self.stuck
        if self.fails is not None:
            raise self.fails
        return [Written("call", f"record-{entry.key}", "https://crm.example/7")]

    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        self.withdrawn.append((entry, written))
        self.kept.pop(entry.key, None)
        return []

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
    language: str = "en"
    ahead: float = 0.0
    journal: Journal = field(init=False)
    outbox: Outbox | None = None

    def __attrs_post_init__(self) -> None:
        self.journal = Journal(
            "crm",
            adapters=lambda: {"crm": self.crm},
            settings=lambda: self.settings,
            store=self.store,
            teller=Teller(
                People(),
                services={"sales": SALES}.get,
                display=NumberPlan("DE").display,
                recording_url=lambda call: f"https://cti.example/{call}/recording",
                company=lambda: self.language,
            ),
            blocked=NumberList([f"{BLOCKED}*"]).__contains__,
            now=self.now,
            steady=self.clock.seconds,
        )

    def now(self) -> float:
        return T0 + self.clock.seconds() + self.ahead

    def happens(
        self, call: CallRecord, *types: str, segments: Sequence[SegmentRecord] = (), **more: Any
    ) -> None:
        """The call is so now, and these events tell of it."""
        unit = self.store.unit()
        unit.put_call(call)
        unit.put_written(call)
        for segment in segments:
            unit.put_segment(segment)
        for type in types:
            unit.emit(type, self.now(), {"call": {"id": call.id}, "party": call.party, **more}, call=call.id)
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

    def subscribe(self) -> None:
        """Events are kept for the CRM as its adapter and its settings want them now."""
        assert self.settings is not None
        self.store.subscribe({destination("crm"): subscription(self.crm, self.settings)})

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
    assert entry.text == "From 040 669690 to Sales\nAnna talked after 0:04\nWas sold\nWants two"
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
    world.happens(missed(), "call.ended", segments=[offered_to(*agents)])
    world.deliver()
    ((entry, _),) = world.crm.told
    assert entry.user == user


def test_news_that_waited_together_are_told_once(world: World) -> None:
    world.happens(a_call(), "call.ringing")
    world.happens(missed(), "call.missed", "call.ended")
    world.deliver()
    assert world.crm.states == [JournalState.MISSED]


def test_what_has_not_changed_is_not_written_down_again(world: World) -> None:
    world.happens(answered())
    assert world.send("c1") is None
    kept = world.call_json("c1")["crm"]
    world.happens(answered(notes="Call back on Monday"))
    world.wait(60)
    world.store.broken = True
    assert world.send("c1") is None
    world.store.broken = False
    assert (len(world.crm.told), world.call_json("c1")["crm"]) == (2, kept)


def test_notes_written_after_the_end_are_told(world: World) -> None:
    world.happens(answered(), "call.ended")
    world.deliver()
    world.happens(answered(notes="Call back on Monday"), "call.updated")
    world.deliver()
    assert world.crm.kept["c1"].text.endswith("Call back on Monday")


@pytest.mark.parametrize("party", [None, {**ACME, "adapter": "other"}])
def test_nothing_waits_for_a_crm_of_a_call_of_nobody_it_knows(world: World, party: Any) -> None:
    world.subscribe()
    world.happens(answered(party=party), "call.ringing", "call.connected", "call.ended")
    assert world.store.pending() == {}
    assert world.send("c1") is None
    assert world.crm.told == []


def test_of_a_call_of_a_party_each_piece_of_news_waits_and_a_wrap_up_is_none(world: World) -> None:
    world.subscribe()
    world.happens(a_call(), "call.ringing", "call.connected", "call.held", "card.updated")
    world.happens(a_call(), "call.updated", changed=["wrap_up"])
    assert world.store.pending()["crm:crm"][0] == 2
    world.happens(a_call(), "call.updated", changed=["notes"])
    assert world.store.pending()["crm:crm"][0] == 3


def test_a_crm_that_takes_calls_at_their_end_hears_of_no_ringing(world: World) -> None:
    world.crm.journals_early = False
    world.subscribe()
    world.happens(a_call(), "call.ringing", "call.connected")
    assert world.store.pending() == {}
    world.happens(answered(), "call.ended")
    world.deliver()
    assert world.crm.states == [JournalState.ENDED]


def test_a_call_that_becomes_another_party_s_says_whose_it_was(world: World) -> None:
    world.happens(answered(), "call.ended")
    world.deliver()
    other = {**ACME, "type": "contact", "id": "9"}
    world.happens(answered(party=other), "call.updated")
    world.deliver()
    entry, written = world.crm.told[-1]
    assert (entry.party, entry.was) == (
        PartyRef(PartyType.CONTACT, "9"),
        PartyRef(PartyType.ORGANISATION, "7"),
    )
    assert [each.id for each in written] == ["record-c1"]
    world.happens(answered(party=other, notes="and on"), "call.updated")
    world.deliver()
    assert world.crm.told[-1][0].was is None


def test_a_crm_whose_party_it_was_not_takes_it_back(world: World) -> None:
    world.happens(answered(), "call.ended")
    world.deliver()
    world.happens(answered(party={**ACME, "adapter": "other"}))
    assert world.send("c1") is None
    ((entry, written),) = world.crm.withdrawn
    assert (entry.was, [each.id for each in written]) == (
        PartyRef(PartyType.ORGANISATION, "7"),
        ["record-c1"],
    )
    assert world.call_json("c1")["crm"] == []
    assert world.send("c1") is None
    assert len(world.crm.withdrawn) == 1


@pytest.mark.parametrize(
    ("call", "unless"),
    [
        ({"direction": "internal"}, JournalSettings(directions=frozenset({"internal"}))),
        ({"from_number": f"{BLOCKED}17"}, JournalSettings(blocked=True)),
        (
            {"from_number": f"{BLOCKED}17", "direction": "outbound", "to_number": f"{BLOCKED}18"},
            JournalSettings(blocked=True),
        ),
    ],
)
def test_some_calls_are_left_out_unless_they_are_wanted(
    world: World, call: Mapping[str, Any], unless: JournalSettings
) -> None:
    world.happens(answered(**call), "call.ended")
    world.deliver()
    assert world.crm.told == []
    world.settings = unless
    assert world.send("c1") is None
    assert len(world.crm.told) == 1


@pytest.mark.parametrize(
    "rule",
    [
        JournalSettings(directions=frozenset({"outbound"})),
        JournalSettings(services=frozenset({"support"})),
        JournalSettings(without=NumberList(["+4940*"])),
    ],
)
def test_calls_are_left_out_by_direction_service_and_number(world: World, rule: JournalSettings) -> None:
    world.settings = rule
    world.happens(answered(), "call.ended")
    assert world.send("c1") is None
    assert world.crm.told == []


def test_calls_of_unknown_callers_are_told_if_they_are_wanted_and_the_crm_takes_them(world: World) -> None:
    world.settings = JournalSettings(unknown=True)
    world.subscribe()
    world.happens(answered(party=None), "call.ended")
    assert world.store.pending() == {}
    world.crm.journals_unknown = True
    world.subscribe()
    world.happens(answered(party=None), "call.ended")
    world.deliver()
    ((entry, _),) = world.crm.told
    assert (entry.party, entry.number) == (None, "+4940669690")
    world.happens(answered(), "call.updated")
    world.deliver()
    acme = PartyRef(PartyType.ORGANISATION, "7")
    assert (world.crm.told[-1][0].party, world.crm.told[-1][0].was) == (acme, None)
    world.happens(answered(party={**ACME, "id": "9"}), "call.updated")
    world.deliver()
    assert world.crm.told[-1][0].was == acme


# Answers that are lost.


def lost(world: World) -> None:
    """A CRM that knows no key of ours was asked for a record, and the answer was lost."""
    world.crm.journals_by_key = False
    world.crm.fails = AdapterTimeout("no answer")
    world.happens(answered())
    assert isinstance(world.send("c1"), DeliveryFailed)
    world.crm.fails = None


def restarted(world: World) -> None:
    """A new process knows only what is in the store."""
    world.__attrs_post_init__()


@pytest.mark.parametrize("also", [lambda world: None, restarted], ids=["the same", "after a restart"])
def test_what_may_still_be_on_its_way_is_waited_for(world: World, also: Callable[[World], None]) -> None:
    lost(world)
    also(world)
    world.wait(20)
    postponed = world.send("c1")
    assert isinstance(postponed, DeliveryPostponed)
    assert postponed.seconds == 10.0
    assert len(world.crm.told) == 1
    world.wait(10)
    assert world.send("c1") is None
    assert len(world.crm.told) == 2
    world.happens(answered(notes="more"))
    assert world.send("c1") is None


def test_a_server_that_is_killed_while_a_crm_is_asked_waits_as_well(world: World) -> None:
    world.crm.journals_by_key = False
    world.happens(answered())
    world.crm.stuck = Deferred()
    delivery = Delivery(1, "crm:crm", "c1", 1, "k", "call.ended", b"{}", world.now(), 0, world.now())
    Deferred.fromCoroutine(world.journal.send(delivery))
    assert len(world.crm.told) == 1
    restarted(world)
    world.crm.stuck = None
    assert isinstance(world.send("c1"), DeliveryPostponed)


def test_a_crm_that_knows_our_key_is_asked_again_at_once(world: World) -> None:
    lost(world)
    world.crm.journals_by_key = True
    assert world.send("c1") is None


def test_a_crm_that_surely_took_nothing_is_asked_again_when_it_wants(world: World) -> None:
    world.crm.journals_by_key = False
    world.crm.fails = AdapterBusy("too many", 3.0)
    world.happens(answered())
    assert isinstance(world.send("c1"), DeliveryFailed)
    world.crm.fails = None
    assert world.send("c1") is None


def test_how_long_is_waited_is_the_company_s_to_say(world: World) -> None:
    world.settings = JournalSettings(lost_seconds=5)
    lost(world)
    world.wait(5)
    assert world.send("c1") is None


def test_a_clock_that_is_set_back_makes_nobody_wait_longer(world: World) -> None:
    lost(world)
    world.ahead = -3600.0
    assert isinstance(world.send("c1"), DeliveryPostponed)
    world.wait(30)
    assert world.send("c1") is None


@pytest.mark.parametrize("also", [lambda world: None, restarted], ids=["the same", "after a restart"])
def test_a_clock_that_is_set_forward_makes_nobody_wait_less(
    world: World, also: Callable[[World], None]
) -> None:
    world.wait(100)
    lost(world)
    also(world)
    world.ahead = 3600.0
    world.wait(20)
    postponed = world.send("c1")
    assert isinstance(postponed, DeliveryPostponed)
    assert postponed.seconds == 10.0
    world.wait(10)
    assert world.send("c1") is None


def test_one_that_waits_holds_up_no_other_call(world: World) -> None:
    lost(world)
    world.happens(answered(), "call.ended")
    world.deliver()
    world.happens(answered(id="c2"), "call.ended")
    world.deliver()
    assert [entry.key for entry, _ in world.crm.told] == ["c1", "c2"]
    for _ in range(4):
        world.wait(10)
    assert [entry.key for entry, _ in world.crm.told] == ["c1", "c2", "c1"]
    assert world.store.pending() == {}


def test_a_party_chosen_while_an_answer_is_missing_is_told_whose_it_may_be(world: World) -> None:
    lost(world)
    world.happens(answered(party={**ACME, "id": "9"}))
    world.wait(30)
    assert world.send("c1") is None
    entry, written = world.crm.told[-1]
    assert (entry.was, written) == (PartyRef(PartyType.ORGANISATION, "7"), [])


def test_a_call_that_was_nobody_s_is_taken_back_though_the_answer_was_lost(world: World) -> None:
    lost(world)
    world.happens(answered(party=None))
    assert isinstance(world.send("c1"), DeliveryPostponed)
    world.wait(30)
    assert world.send("c1") is None
    assert len(world.crm.withdrawn) == 1


def test_a_crm_that_takes_each_call_once_is_told_at_its_end(world: World) -> None:
    world.crm.journals_early = world.crm.journals_changes = False
    world.happens(a_call(), "call.ringing")
    world.deliver()
    assert world.crm.told == []
    world.happens(answered(), "call.ended")
    world.deliver()
    world.happens(answered(notes="more"), "call.updated")
    world.deliver()
    assert world.crm.states == [JournalState.ENDED]


def test_a_crm_that_takes_calls_at_their_end_is_told_of_notes_all_the_same(world: World) -> None:
    world.crm.journals_early = False
    world.happens(answered(), "call.ended")
    world.deliver()
    world.happens(answered(notes="more"), "call.updated")
    world.deliver()
    assert world.crm.kept["c1"].text.endswith("more")


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


# What people read.


def talk(number: int, agent: str, begin: float, end: float | None, *others: str) -> SegmentRecord:
    segment = offered_to(agent, *others)
    return evolve(
        segment,
        number=number,
        ringing=T0 + begin - 1,
        agent=agent,
        answered=T0 + begin,
        ended=None if end is None else T0 + end,
    )


def rung(number: int, *agents: str) -> SegmentRecord:
    return evolve(
        offered_to(*agents), number=number, attempt=number, ringing=T0 + number, ended=T0 + number + 5
    )


def told(world: World, call: CallRecord, *segments: SegmentRecord) -> JournalEntry:
    world.happens(call, segments=segments)
    assert world.send("c1") is None
    return world.crm.told[-1][0]


def test_a_call_that_was_passed_on_is_of_who_has_it_and_tells_of_both(world: World) -> None:
    talking = answered(agent="ben", ended=None, outcome=None, state="connected")
    entry = told(world, talking, talk(1, "anna", 4, 34), talk(2, "ben", 35, None))
    assert entry.user == "u2"
    assert entry.text.splitlines()[1:] == ["Anna talked after 0:04", "Ben goes on"]
    entry = told(world, answered(agent="ben"), talk(1, "anna", 4, 34), talk(2, "ben", 35, 84))
    assert entry.text.splitlines()[1:] == ["Anna talked after 0:04", "Ben went on, 0:49"]
    assert len(world.call_json("c1")["crm"]) == 1


def test_a_call_that_was_passed_on_to_the_outside_says_where(world: World) -> None:
    call = answered()
    world.happens(
        call, "call.transferred", segments=[talk(1, "anna", 4, 84)], **{"from": "anna", "to": "+493023125190"}
    )
    assert world.send("c1") is None
    assert world.crm.told[-1][0].text.endswith("Anna passed it on to 030 23125190")


def test_one_that_an_agent_got_is_not_said_to_have_gone_outside(world: World) -> None:
    world.happens(
        answered(agent="ben"),
        "call.transferred",
        segments=[talk(1, "anna", 4, 34), talk(2, "ben", 35, 84)],
        **{"from": "anna", "to": "ben"},
    )
    assert world.send("c1") is None
    assert "passed" not in world.crm.told[-1][0].text


def test_a_missed_call_is_one_miss_whoever_was_rung_and_however_often(world: World) -> None:
    entry = told(world, missed(), rung(1, "anna", "ben"), rung(2, "carl"), rung(3, "anna"))
    assert (entry.state, entry.subject) == (JournalState.MISSED, "Missed call")
    assert entry.text.splitlines()[1:] == ["Nobody answered", "Rung: Anna, Ben, Carl"]
    assert world.send("c1") is None
    assert len(world.crm.told) == 1


def test_of_those_who_were_rung_together_only_who_answered_is_named(world: World) -> None:
    entry = told(world, answered(), talk(1, "anna", 4, 84, "ben", "carl"))
    assert entry.text.splitlines()[1:] == ["Anna talked after 0:04"]


def test_a_consultation_is_called_one(world: World) -> None:
    entry = told(
        world, answered(parent="c0", direction="outbound", from_number=None, to_number="+493023125190")
    )
    assert entry.subject == "Consultation, 1:20"
    assert entry.text.splitlines() == ["To 030 23125190", "Anna"]


def test_what_is_written_is_in_the_company_s_language(world: World) -> None:
    world.language = "de"
    entry = told(world, missed(disposition="sold"), rung(1, "anna"))
    assert entry.subject == "Verpasster Anruf"
    assert entry.text == ("Von 040 669690 an Sales\nNiemand hat abgenommen\nGeklingelt bei: Anna\nVerkauft")
    assert entry.disposition == "Verkauft"


def test_a_crm_can_have_another_language_than_the_company(world: World) -> None:
    world.language, world.settings = "de", JournalSettings(language="en")
    assert told(world, missed()).subject == "Missed call"


def test_each_language_has_the_same_words_with_the_same_gaps() -> None:
    gaps = {
        name: {key: set(re.findall(r"{\w+}", text)) for key, text in language(name).words.items()}
        for name in languages()
    }
    assert {"de", "en"} <= gaps.keys()
    assert all(each == gaps["en"] for each in gaps.values())


def test_subject_and_text_are_as_the_company_wants_them(world: World) -> None:
    world.settings = JournalSettings(
        subject=JournalText("☎ {call} ({agents}, {service}, {number})"),
        text=JournalText("{party}: {talk} after {wait}\nOutcome: {disposition}\n{notes}\nCordboard {id}"),
    )
    entry = told(world, answered(agent="ben"), talk(1, "anna", 4, 34), talk(2, "ben", 35, 84))
    assert entry.subject == "☎ Incoming call, 1:20 (Anna, Ben, Sales, 040 669690)"
    # The lines of what nobody has said are left out.
    assert entry.text == "Acme: 1:20 after 0:04\nCordboard c1"


def test_what_is_in_braces_in_a_note_is_text(world: World) -> None:
    assert told(world, answered(notes="{call} {agent} {0}")).text.endswith("{call} {agent} {0}")


def test_only_adapters_that_can_and_may_are_told() -> None:
    crms = {"yes": Crm(), "no": Crm(), "cannot": Crm(capabilities=frozenset({Capability.IDENTIFY}))}
    settings = {"yes": JournalSettings(), "no": None, "cannot": JournalSettings()}
    assert list(journaling(crms, settings)) == ["yes"]
    assert journaling(crms, settings)["yes"].types == JOURNAL_EVENTS
    crms["yes"].journals_early = False
    assert journaling(crms, settings)["yes"].types == LATE_EVENTS


def test_an_adapter_that_is_gone_keeps_nothing_waiting(world: World) -> None:
    world.settings = None
    world.happens(answered(), "call.ended")
    world.deliver()
    assert (world.crm.told, world.store.pending()) == ([], {})
