"""Numbers that are blocked, or that nobody looks for: what stands on the lists, and what becomes of a call."""

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from cti.calls.turned_away import MAX_LISTED, Lists, NotListed, TurnedAway
from cti.identify.lists import NumberList
from cti.numbers import NumberPlan
from cti.settings import Identify
from cti.store.records import ListedNumber
from routing.decide import Action
from routing.rules import Mode, Rejection
from tests.unit.calls import RecordingUnit
from tests.unit.desktops import settled
from tests.unit.test_inbound import Session, World
from tests.unit.test_web import Web

GERMANY = NumberPlan("DE")


def test_a_number_is_on_the_list_itself_or_by_its_beginning() -> None:
    numbers = NumberList(["+4915228817386", "+49900*", "+4433*"])
    on = ["+4915228817386", "+49900", "+499001000001", "+443330000000"]
    off = ["+491522881738", "+49152288173860", "+4990", "+44207946000", "", None, 49900]
    assert [number in numbers for number in on] == [True] * len(on)
    assert [number in numbers for number in off] == [False] * len(off)
    assert not NumberList()


@pytest.mark.parametrize(
    "pattern", ["", "*", "+*", "+49*", "+4930*", "49900*", "+049*", "+49900**", "+49 900", "x"]
)
def test_what_names_no_numbers_or_a_whole_country_is_refused(pattern: str) -> None:
    if pattern == "+4930*":
        assert "+493023125001" in NumberList([pattern]), "four digits are a city, and enough"
        return
    with pytest.raises(ValueError, match="would be right"):
        NumberList([pattern])


def test_who_is_blocked_is_declined_unless_the_configuration_says_otherwise() -> None:
    caller = GERMANY.parse("0900 1000001")
    decision = Lists(Identify(blocked=("+49900*",))).refusal(caller)
    assert decision is not None
    assert (decision.action, decision.target, decision.rule) == (Action.REJECT, "declined", None)
    assert decision.reason == "blocked: the caller is on the list of blocked numbers"
    busy = Lists(Identify(blocked=("+49900*",), reject=Rejection.BUSY)).refusal(caller)
    assert busy is not None
    assert busy.target == "busy"
    told = Lists(Identify(blocked=("+49900*",), announce="custom/blocked")).refusal(caller)
    assert told is not None
    assert (told.action, told.target, told.then) == (Action.ANNOUNCE, "custom/blocked", "")


@pytest.mark.parametrize("raw", ["0152 28817386", "anonymous", "101", ""])
def test_everybody_else_is_let_in(raw: str) -> None:
    lists = Lists(Identify(blocked=("+49900*",), ignored=("+49152*",)))
    assert lists.refusal(GERMANY.parse(raw)) is None


def test_the_lists_of_configuration_and_store_count_both() -> None:
    lists = Lists(
        Identify(blocked=("+49900*",), ignored=("+493023125001",)),
        [
            ListedNumber("blocked", "+4915228817386", 1.0, "uma"),
            ListedNumber("ignored", "+44207*", 1.0, "uma"),
        ],
    )
    assert lists.refusal(GERMANY.parse("+4915228817386")) is not None
    assert "+442079460018" in lists.ignored
    assert "+493023125001" in lists.ignored
    assert "+4915228817386" not in lists.ignored


# What people add.


class Log:
    """A fake of the log of calls: units that were committed, or that fail."""

    def __init__(self) -> None:
        self.units: list[RecordingUnit] = []
        self.pending: Deferred[None] | None = None

    def unit(self) -> RecordingUnit:
        return RecordingUnit()

    async def commit(self, unit: RecordingUnit) -> None:
        if self.pending is not None:
            await self.pending
        self.units.append(unit)


def turned_away(log: Any = None, **settings: Any) -> TurnedAway:
    return TurnedAway(log or Log(), Identify(**settings), lambda: 7.0)


def test_what_is_added_counts_once_it_is_durable_and_until_it_is_taken_off() -> None:
    log = Log()
    log.pending = Deferred()
    lists = turned_away(log)
    adding = Deferred.fromCoroutine(lists.add("blocked", "+49900*", "uma", "premium"))
    assert lists.lists.refusal(GERMANY.parse("0900 1000001")) is None
    log.pending.callback(None)
    assert adding.result == ListedNumber("blocked", "+49900*", 7.0, "uma", "premium")
    assert lists.lists.refusal(GERMANY.parse("0900 1000001")) is not None
    assert [unit.rows for unit in log.units] == [[ListedNumber("blocked", "+49900*", 7.0, "uma", "premium")]]
    log.pending = None
    settled(lists.remove("blocked", "+49900*"))
    assert lists.lists.refusal(GERMANY.parse("0900 1000001")) is None
    assert log.units[-1].rows == [("unlisted", "blocked", "+49900*")]


def test_what_cannot_be_added_or_taken_off_is_told() -> None:
    lists = turned_away(blocked=("+49900*",))
    with pytest.raises(NotListed, match="stands in the configuration"):
        settled(lists.remove("blocked", "+49900*"))
    with pytest.raises(NotListed, match="is not on the list"):
        settled(lists.remove("ignored", "+49900*"))
    with pytest.raises(NotListed, match="whole country"):
        settled(lists.add("blocked", "+49*", "uma", None))
    lists.restore(ListedNumber("blocked", f"+4930{each:05}", 1.0, "uma") for each in range(MAX_LISTED))
    with pytest.raises(NotListed, match="a prefix"):
        settled(lists.add("blocked", "+4915228817386", "uma", None))
    settled(lists.add("blocked", "+493000001", "uma", "again"))
    assert len(lists.lists.kept) == MAX_LISTED


def test_a_reload_brings_the_configurations_lists_and_keeps_those_that_people_made() -> None:
    lists = turned_away(blocked=("+49900*",))
    settled(lists.add("blocked", "+4915228817386", "uma", None))
    lists.use(Identify(blocked=("+44900*",)))
    blocked = [
        lists.lists.refusal(GERMANY.parse(each)) is not None for each in ("0900 1000001", "015228817386")
    ]
    assert blocked == [False, True]


# Over HTTP.


def test_supervisors_see_add_and_take_off_numbers() -> None:
    web = Web()
    token = web.token("supervisor")
    added = web.ask("POST", "/api/v1/numbers/blocked", token, {"number": "0152 / 288 17386", "note": "rude"})
    assert (added.status, added.json["number"], added.json["note"]) == (200, "+4915228817386", "rude")
    shown = web.ask("GET", "/api/v1/numbers/blocked", token).json
    assert shown["configured"] == ["+49900*"]
    assert [(each["number"], each["by"]) for each in shown["numbers"]] == [
        ("+4915228817386", "supervisor token")
    ]
    assert web.ask("DELETE", "/api/v1/numbers/blocked/%2B49%20152%2028817386", token).status == 204
    assert web.ask("GET", "/api/v1/numbers/blocked", token).json["numbers"] == []
    assert web.ask("GET", "/api/v1/numbers/ignored", token).json["numbers"] == []


@pytest.mark.parametrize("number", ["+49*", "hello", "101", "anonymous"])
def test_what_is_no_number_is_refused_over_http(number: str) -> None:
    web = Web()
    reply = web.ask("POST", "/api/v1/numbers/ignored", web.token("admin"), {"number": number})
    assert reply.status == 422
    assert "would be right" in reply.json["detail"]


def test_who_changes_the_lists_is_written_down() -> None:
    web = Web()
    web.ask("POST", "/api/v1/numbers/blocked", web.token("admin"), {"number": "+49900*"})
    (entry,) = web.doors.written
    assert (entry.who, entry.action) == ("admin token", "POST /api/v1/numbers/blocked")


# Of a call.


def blocking(mode: Mode = Mode.ROUTE, **settings: Any) -> World:
    world = World(mode)
    world.refusal = Lists(Identify(blocked=("+49152*",), **settings)).refusal(GERMANY.parse("015228817386"))
    return world


def test_a_blocked_caller_is_rejected_before_anybody_is_asked_who_it_is() -> None:
    world = blocking()
    world.answer = Deferred()  # Nobody would ever say who it is.
    session = Session()
    assert world.ask(session) == [None]
    assert (session.set["CTI_ACTION"], session.set["CTI_TARGET"]) == ("reject", "declined")
    (call,) = world.calls.of_pbx("main")
    assert (call.action, call.record.party, call.cards) == ("reject", None, {})
    assert call.record.reason == "blocked: the caller is on the list of blocked numbers"


def test_a_blocked_caller_who_hears_an_announcement_is_logged_as_rejected() -> None:
    world = blocking(announce="custom/blocked")
    session = Session()
    assert world.ask(session) == [None]
    assert (session.set["CTI_ACTION"], session.set["CTI_TARGET"]) == ("announce", "custom/blocked")
    (call,) = world.calls.of_pbx("main")
    call.end(RecordingUnit(), 2000.0)
    assert call.record.outcome == "rejected"


def test_in_observe_mode_nobody_is_rejected() -> None:
    world = blocking(Mode.OBSERVE)
    session = Session()
    assert world.ask(session) == [None]
    assert session.set["CTI_ACTION"] == "fallback"
