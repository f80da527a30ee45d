"""What agents' time goes into: begun with each state, closed truthfully after a crash, a sleep, a clock set back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from cti.agents.roster import Roster
from cti.agents.states import Wish
from cti.calls.acquaintance import note_acquaintance
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.periods import FROZEN, LONGEST, SIGN_OF_LIFE, Periods
from cti.store.base import StoreError
from cti.store.records import AgentRecord, CallRecord, PeriodRecord, SegmentRecord
from cti.store.threaded import CommandStore
from lab.crm.postgresql import Postgres
from tests.unit.databases import KINDS, Place, a_cluster, a_command_store, a_database

NOW = 1_772_438_400.0


class House:
    """A server without Asterisk: roster, log and periods on a database that can be taken up again."""

    def __init__(self, place: Place, at: float = NOW) -> None:
        self.place = place
        self.clock = Clock()
        self.clock.advance(at)
        self.store = a_command_store(place, self.clock.seconds)
        self.broken = False
        self.calls = CallLog(self, self.clock, lambda record: None)  # type: ignore[arg-type]
        self.roster = Roster(self.clock.seconds, self.calls.agent_changed)
        self.periods = Periods(
            calls=self.calls,
            store=self.store.read,
            roster=self.roster,
            now=self.clock.seconds,  # type: ignore[arg-type]
        )
        self.calls.on_agents(self.periods.news, self.periods.lost)
        self.roster.load([AgentRecord("anna", "Anna", ["PJSIP/anna"]), AgentRecord("ben", "Ben")])

    # What `CallLog` needs of a store.

    def unit(self) -> Any:
        return self.store.unit()

    def commit(self, unit: Any, *, at_leisure: bool = False) -> "Deferred[Any]":
        if self.broken:
            return fail(StoreError("the disk is full"))
        return succeed(self.store.commit_now(unit))

    def write(self, unit: Any) -> None:
        assert unit is not None
        self.store.commit_now(unit)

    def start(self) -> None:
        self.write(self.periods.start())

    def wish(self, agent: str, wish: Wish, reason: str | None = None, after: float = 0.0) -> None:
        self.clock.advance(after)
        self.roster.wish(agent, wish, reason)
        self.clock.advance(0)

    def alive(self, after: float = SIGN_OF_LIFE) -> None:
        self.clock.advance(after)
        self.write(self.periods.sign_of_life())

    def rows(self) -> list[tuple[str, str, str | None, float, float | None]]:
        """Agent, state, reason, and from when to when, in seconds after `NOW`."""
        rows = self.store.read._all(
            "SELECT agent, state, reason, began, ended FROM periods ORDER BY began, agent"
        )
        return [
            (agent, state, reason, began - NOW, None if ended is None else ended - NOW)
            for agent, state, reason, began, ended in rows
        ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with a_cluster(tmp_path_factory.mktemp("postgresql")) as running:
        yield running


@pytest.fixture(params=KINDS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    place: Place = tmp_path / "cti.db"
    if request.param == "postgresql":
        place = a_database(request.getfixturevalue("cluster"))
    house = House(place)
    house.start()
    yield house
    house.store.close()


def test_each_state_is_a_period_and_nobody_logged_out_has_any(house: House) -> None:
    house.wish("anna", Wish.READY, after=10)
    house.wish("anna", Wish.PAUSED, "lunch", after=20)
    house.wish("anna", Wish.PAUSED, "meeting", after=30)
    house.wish("anna", Wish.LOGGED_OUT, after=40)
    assert house.rows() == [
        ("anna", "ready", None, 10, 30),
        ("anna", "paused", "lunch", 30, 60),
        ("anna", "paused", "meeting", 60, 100),
    ]


def test_a_call_is_offered_busy_and_wrap_up_without_a_hole(house: House) -> None:
    house.wish("anna", Wish.READY)
    for after, step in (
        (5, lambda: house.roster.reserve(["anna"], "c1", 1, NOW + 100)),
        (3, lambda: house.roster.connect("anna", "c1", NOW + 100)),
        (60, lambda: house.roster.write_up("anna", "c1", "c1", NOW + 100)),
        (9, lambda: house.roster.release("anna", "c1")),
    ):
        house.clock.advance(after)
        step()
        house.clock.advance(0)
    assert [(state, began, ended) for _, state, _, began, ended in house.rows()] == [
        ("ready", 0, 5),
        ("offered", 5, 8),
        ("busy", 8, 68),
        ("wrap_up", 68, 77),
        ("ready", 77, None),
    ]


def test_what_was_open_in_a_crash_is_closed_at_the_last_sign_of_life(house: House) -> None:
    house.wish("anna", Wish.READY, after=10)
    house.alive()
    house.clock.advance(12)
    # Killed here, 37 s after the start, and started again five minutes later.
    again = House(house.place, NOW + 337)
    again.roster.wish("anna", Wish.READY, None)
    again.start()
    assert again.rows() == [("anna", "ready", None, 10, 25), ("anna", "ready", None, 337, None)]
    again.store.close()


def test_a_server_that_stops_closes_what_is_open_then(house: House) -> None:
    house.wish("anna", Wish.READY, after=10)
    house.clock.advance(7)
    house.write(house.periods.stop())
    assert house.rows() == [("anna", "ready", None, 10, 17)]
    # What comes in while it stops is nobody's time.
    house.wish("anna", Wish.PAUSED, after=1)
    assert len(house.rows()) == 1


def test_a_process_that_stood_still_has_seen_nothing_meanwhile(house: House) -> None:
    house.wish("anna", Wish.READY)
    house.alive()
    house.alive(FROZEN + 1)
    seconds = 2 * SIGN_OF_LIFE + 3 * SIGN_OF_LIFE + 1
    assert house.rows() == [
        ("anna", "ready", None, 0, SIGN_OF_LIFE),
        ("anna", "ready", None, seconds, None),
    ]


def test_a_clock_that_is_set_back_makes_no_time_out_of_nothing(house: House) -> None:
    house.wish("anna", Wish.READY)
    house.alive()
    house.clock.rightNow -= 3600
    house.wish("anna", Wish.PAUSED)
    house.alive()
    assert all(ended is None or 0 <= ended - began <= SIGN_OF_LIFE for *_, began, ended in house.rows())
    assert [state for _, state, _, _, ended in house.rows() if ended is None] == ["paused"]


def test_a_long_period_goes_on_as_another_so_that_none_is_longer_than_an_hour(house: House) -> None:
    house.wish("anna", Wish.READY)
    for _ in range(int(2 * LONGEST / SIGN_OF_LIFE) + 1):
        house.alive()
    assert [(began, ended) for *_, began, ended in house.rows()] == [(0, 3600), (3600, 7200), (7200, None)]


def test_an_end_that_comes_too_late_counts_no_more_than_a_period_can_have(house: House) -> None:
    house.write(a_period(house.store, "anna", NOW))
    unit = house.unit()
    unit.end_period("anna", NOW + 100_000)
    house.write(unit)
    assert [ended for *_, ended in house.rows()] == [3660]


def a_period(store: CommandStore, agent: str, began: float) -> Any:
    unit = store.unit()
    unit.put_period(PeriodRecord(agent, began, "ready"))
    return unit


def test_news_that_the_store_refused_are_written_with_the_next_sign_of_life(house: House) -> None:
    house.wish("anna", Wish.READY)
    house.broken = True
    house.wish("anna", Wish.PAUSED, "lunch", after=5)
    house.wish("ben", Wish.READY)
    house.broken = False
    house.alive()
    assert house.rows() == [
        ("anna", "ready", None, 0, 20),
        ("anna", "paused", "lunch", 20, None),
        ("ben", "ready", None, 20, None),
    ]


def test_who_comes_or_goes_by_a_command_is_seen_with_the_next_sign_of_life(house: House) -> None:
    house.wish("anna", Wish.READY)
    house.roster.load([AgentRecord("cleo", "Cleo", wish="ready")])
    house.alive()
    assert house.rows() == [("anna", "ready", None, 0, 15), ("cleo", "ready", None, 15, None)]


# Who knew whom.


def an_answered_call(id: str, started: float, by: str, **fields: Any) -> LiveCall:
    record = CallRecord(
        id=id,
        pbx="main",
        started=started,
        **{
            "from_number": "+4915228817386",
            "answered": started + 5,
            "ended": started + 60,
            "outcome": "answered",
            "agent": by,
            **fields,
        },
    )
    segment = SegmentRecord(
        id,
        1,
        1,
        "sales",
        [by],
        "PJSIP/x",
        "rest",
        "",
        started,
        answered=started + 5,
        agent=by,
        result="answered",
    )
    return LiveCall(record=record, segments=[segment])


def write_end(house: House, call: LiveCall) -> str | None:
    unit = house.unit()
    unit.put_call(call.record)
    note_acquaintance(unit, call)
    house.write(unit)
    ((knew,),) = house.store.read._all("SELECT knew FROM calls WHERE id = ?", (call.id,))
    return None if knew is None else str(knew)


def test_the_owner_knew_the_caller(house: House) -> None:
    party = {"adapter": "directory", "id": "17", "owner": "anna"}
    assert write_end(house, an_answered_call("c1", NOW, "anna", party=party)) == "owner"
    assert write_end(house, an_answered_call("c2", NOW + 100, "ben", party=party)) is None


def test_who_talked_last_with_the_number_knew_the_caller_in_either_direction(house: House) -> None:
    assert write_end(house, an_answered_call("c1", NOW, "anna")) is None
    assert write_end(house, an_answered_call("c2", NOW + 100, "ben")) is None
    assert write_end(house, an_answered_call("c3", NOW + 200, "ben")) == "last_agent"
    out = an_answered_call(
        "c4", NOW + 300, "anna", direction="outbound", from_number=None, to_number="+4915228817386"
    )
    assert write_end(house, out) is None
    assert write_end(house, an_answered_call("c5", NOW + 400, "ben")) is None
    assert write_end(house, an_answered_call("c6", NOW + 350, "anna")) == "last_agent"


def test_the_first_who_answered_counts_not_whom_the_call_was_passed_on_to(house: House) -> None:
    write_end(house, an_answered_call("c1", NOW, "anna"))
    call = an_answered_call("c2", NOW + 100, "anna")
    call.record.agent = "ben"
    call.segments.insert(
        0, evolve(call.segments[0], number=2, agent="ben", agents=["ben"], answered=NOW + 130)
    )
    assert write_end(house, call) == "last_agent"


def test_nothing_is_said_of_a_call_that_goes_on_or_that_nobody_answered(house: House) -> None:
    write_end(house, an_answered_call("c1", NOW, "anna"))
    assert write_end(house, an_answered_call("c2", NOW + 100, "anna", ended=None)) is None
    assert write_end(house, an_answered_call("c3", NOW + 200, "anna", answered=None)) is None


def test_what_is_written_of_the_call_later_leaves_who_knew_them(house: House) -> None:
    write_end(house, an_answered_call("c1", NOW, "anna"))
    again = an_answered_call("c2", NOW + 100, "anna")
    write_end(house, again)
    unit = house.unit()
    unit.put_call(again.record)
    house.write(unit)
    assert house.store.read._all("SELECT knew FROM calls WHERE id = 'c2'")[0][0] == "last_agent"
