"""Reports: a day computed by hand, sums that add up however a time is cut, clock changes, and what is not told."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st
from twisted.internet.defer import Deferred

from cti.reports.calendar import MOST_PIECES, By, TooManyPieces, instant, pieces
from cti.reports.desk import MOST_AT_ONCE, ReportDesk, TooManyReports
from cti.reports.plot import svg, terminal_bars
from cti.reports.report import (
    Kind,
    Levels,
    Question,
    Report,
    definitions,
    make_report,
    report_json,
    report_table,
)
from cti.store.counts import Count, Row
from cti.store.records import CallRecord, LifeRecord, PeriodRecord, SegmentRecord
from cti.store.threaded import CommandStore
from lab.crm.postgresql import Postgres
from tests.unit.databases import KINDS, Place, a_cluster, a_command_store, a_database

BERLIN = ZoneInfo("Europe/Berlin")
LEVELS = Levels(otherwise=20.0, within={"sales": 10.0}, short=5.0)
MONDAY = "2026-03-02"


def at(clock: str, day: str = MONDAY) -> float:
    return instant(f"{day}T{clock}", BERLIN)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with a_cluster(tmp_path_factory.mktemp("postgresql")) as running:
        yield running


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CommandStore]:
    place: Place = tmp_path / "cti.db"
    if request.param == "postgresql":
        place = a_database(request.getfixturevalue("cluster"))
    with a_command_store(place) as store:
        yield store


def put(store: CommandStore, *calls: CallRecord) -> None:
    unit = store.unit()
    for call in calls:
        unit.put_call(call)
    store.commit_now(unit)


def a_call(id: str, clock: str, outcome: str | None = "answered", **fields: Any) -> CallRecord:
    """An inbound call; `waited` and `talked` in seconds."""
    started = fields.pop("started", None) or at(clock)
    waited, talked = fields.pop("waited", 10.0), fields.pop("talked", 60.0)
    if outcome == "answered":
        fields |= {"answered": started + waited, "ended": started + waited + talked}
    elif outcome is not None:
        fields |= {"ended": started + waited}
    given = {"service": "sales", "from_number": "+4915228817386", **fields}
    return CallRecord(id=id, pbx="main", started=started, outcome=outcome, state="ended", **given)


def report(store: CommandStore, question: Question, *, hide: bool = True) -> Report:
    async def ask(count: Count, since: float, until: float) -> Sequence[Row]:
        return store.read.counted(count, since, until)

    made: list[Any] = []
    work = Deferred.fromCoroutine(make_report(question, LEVELS, ask, hide_small_teams=hide))
    work.addBoth(made.append)
    (result,) = made
    assert isinstance(result, Report), result
    return result


def a_question(kind: Kind = Kind.CALLS, **fields: Any) -> Question:
    given = {"since": at("00:00"), "until": at("00:00", "2026-03-03"), "zone": BERLIN, **fields}
    return Question(kind, **given)


def by_name(report: Report) -> dict[str | None, Any]:
    return {row.of: row.figures for row in report.rows}


# A day computed by hand.


def a_day(store: CommandStore) -> None:
    put(
        store,
        a_call("s1", "09:00", waited=8, talked=120, agent="anna", wrap_up=30.0, party={"owner": "anna"}),
        a_call("s2", "09:10", waited=15, talked=60, agent="ben"),
        a_call("s3", "09:20", "missed", waited=40),
        a_call("s4", "09:30", "abandoned", waited=3),
        a_call("s5", "10:00", "abandoned", waited=30),
        a_call("s6", "10:05", "voicemail", waited=25),
        a_call("h1", "10:30", service="support", waited=20, talked=300, agent="ben"),
        a_call("h2", "10:40", None, service="support"),
        a_call("o1", "11:00", direction="outbound", service=None, waited=12, talked=45, agent="anna"),
        # Of other days, by a second.
        a_call("d0", "00:00", started=at("00:00") - 1),
        a_call("d2", "00:00", started=at("00:00", "2026-03-03")),
    )
    unit = store.unit()
    unit.put_owner_answered("s1")
    store.commit_now(unit)


def test_a_day_computed_by_hand(store: CommandStore) -> None:
    a_day(store)
    made = report(store, a_question())
    rows = by_name(made)
    assert rows["sales"] == {
        "calls": 6,
        "answered": 2,
        "missed": 1,
        "abandoned": 2,
        "voicemail": 1,
        "self_service": 0,
        "rejected": 0,
        "busy": 0,
        "failed": 0,
        "fallback": 0,
        "open": 0,
        "short": 1,
        # One in ten seconds, of the two answered, the one missed and the one of two abandoned who waited at all.
        "within": 1,
        "service_level": 0.25,
        "answer_rate": 0.5,
        "average_wait": 11.5,
        "longest_wait": 15,
        "average_wait_lost": pytest.approx((40 + 3 + 30) / 3, abs=0.001),
        "talk": 180,
        "average_talk": 90,
        "wrap_up": 30,
        "average_handling": 105,
        "knew_caller": 0.5,
    }
    support = rows["support"]
    # At the threshold is within it; what is not over is counted and nothing else.
    assert (support["calls"], support["answered"], support["open"]) == (2, 1, 1)
    assert (support["service_level"], support["average_wait"]) == (1.0, 20)
    assert made.total["calls"] == 8
    assert made.total["service_level"] == pytest.approx(2 / 5)
    assert made.total["longest_wait"] == 20


def test_hours_of_a_day_are_told_apart_and_a_total_is_made_of_sums(store: CommandStore) -> None:
    a_day(store)
    made = report(store, a_question(by=By.HOUR, by_service=False))
    calls = {row.label: row.figures["calls"] for row in made.rows if row.figures["calls"]}
    assert calls == {"2026-03-02T09:00:00+01:00": 4, "2026-03-02T10:00:00+01:00": 4}
    assert len(made.rows) == 24
    # Not the mean of the hours' shares, which are 1/3 and 1/2.
    assert made.total["service_level"] == pytest.approx(2 / 5)


def test_outgoing_calls_are_counted_where_they_are_asked_for(store: CommandStore) -> None:
    a_day(store)
    made = report(store, a_question(direction="outbound"))
    assert (made.total["calls"], made.total["talk"]) == (1, 45)


def a_segment(
    call: str, number: int, agents: Sequence[str], result: str | None, **fields: Any
) -> SegmentRecord:
    given = {"agent": None, "answered": None, "ended": None, **fields}
    return SegmentRecord(
        call, number, 1, "sales", agents, "PJSIP/x", "rest", "", at("09:00"), result=result, **given
    )


def an_agents_day(store: CommandStore) -> None:
    a_day(store)
    unit = store.unit()
    nine = at("09:00")
    for segment in (
        a_segment("s1", 1, ["anna"], "answered", agent="anna", answered=nine, ended=nine + 100, wrap_up=30.0),
        # Passed on to ben, who talks to the end.
        a_segment("s1", 2, ["ben"], "answered", agent="ben", answered=nine + 100, ended=nine + 120),
        a_segment("s2", 1, ["anna"], "no_answer", ended=nine + 20),
        a_segment("s2", 2, ["anna", "ben"], "answered", agent="ben", answered=nine, ended=nine + 60),
        a_segment("s3", 1, ["anna"], "abandoned", ended=nine + 40),
        a_segment("s5", 1, ["anna"], "busy", ended=nine + 1),
        a_segment("h2", 1, ["anna"], None),
    ):
        unit.put_segment(segment)
    for agent, clock, state in (
        ("anna", "08:59", "ready"),
        ("anna", "09:29", "offered"),
        ("anna", "09:30", "busy"),
        ("anna", "09:42", "wrap_up"),
        ("anna", "09:45", "paused"),
        ("ben", "09:00", "ready"),
    ):
        unit.put_period(PeriodRecord(agent, at(clock), state))
    unit.end_period("anna", at("10:15"))
    unit.end_period("ben", at("09:30"))
    store.commit_now(unit)


def test_an_agents_day_computed_by_hand(store: CommandStore) -> None:
    an_agents_day(store)
    made = report(store, a_question(Kind.AGENTS))
    anna, ben = (by_name(made)[name] for name in ("anna", "ben"))
    assert {name: anna[name] for name in ("offers", "taken", "taken_by_others", "not_taken")} == {
        "offers": 5,
        "taken": 1,
        "taken_by_others": 1,
        "not_taken": 1,
    }
    assert (anna["caller_left"], anna["not_reached"]) == (1, 1)
    assert (anna["talk"], anna["wrap_up"], anna["made"], anna["made_talk"]) == (100, 30, 1, 45)
    assert (ben["offers"], ben["taken"], ben["talk"]) == (2, 2, 80)
    assert (anna["ready_time"], anna["offered_time"], anna["busy_time"]) == (1800, 60, 720)
    assert (anna["wrap_up_time"], anna["paused_time"], anna["logged_in_time"]) == (180, 1800, 4560)
    # Without the pause: sixteen minutes of forty-six.
    assert anna["occupancy"] == pytest.approx(16 / 46, abs=0.0001)
    assert ben["occupancy"] == 0.0


def test_segments_sum_up_to_the_talk_of_their_calls(store: CommandStore) -> None:
    an_agents_day(store)
    agents = report(store, a_question(Kind.AGENTS))
    calls = by_name(report(store, a_question()))
    assert agents.total["talk"] == calls["sales"]["talk"] == 180


def test_a_period_is_divided_between_the_hours_that_it_is_in(store: CommandStore) -> None:
    an_agents_day(store)
    made = report(store, a_question(Kind.AGENTS, by=By.HOUR, agent="anna"))
    paused = {row.label[11:13]: row.figures["paused_time"] for row in made.rows}
    assert {hour: time for hour, time in paused.items() if time} == {"09": 900, "10": 900}
    ready = {row.label[11:13]: row.figures["ready_time"] for row in made.rows}
    assert (ready["08"], ready["09"]) == (60, 1740)


def test_what_goes_on_is_counted_until_the_last_sign_of_life(store: CommandStore) -> None:
    unit = store.unit()
    unit.put_life(LifeRecord(at("09:00"), at("09:20")))
    unit.put_period(PeriodRecord("anna", at("09:05"), "ready"))
    store.commit_now(unit)
    made = report(store, a_question(Kind.AGENTS))
    assert made.total["ready_time"] == 900


def test_a_team_of_two_is_not_told_and_of_three_it_is(store: CommandStore) -> None:
    an_agents_day(store)
    made = report(store, a_question(Kind.TEAM))
    assert made.total["agents"] == 2
    assert made.total["busy_time"] is None
    assert report(store, a_question(Kind.TEAM), hide=False).total["busy_time"] == 720
    unit = store.unit()
    unit.put_period(PeriodRecord("cleo", at("09:00"), "ready"))
    unit.end_period("cleo", at("09:10"))
    store.commit_now(unit)
    made = report(store, a_question(Kind.TEAM))
    assert (made.total["agents"], made.total["busy_time"]) == (3, 720)
    assert (made.rows[0].of, made.of) == (None, None)


# Sums.


@st.composite
def logs(draw: st.DrawFn) -> list[CallRecord]:
    """Calls of the days around a clock change, in whole seconds so that sums are exact."""
    change = draw(st.sampled_from(["2026-03-28", "2026-10-24"]))
    begin = int(at("20:00", change))
    calls = []
    for number in range(draw(st.integers(0, 40))):
        outcome = draw(
            st.sampled_from(["answered", "answered", "missed", "abandoned", "voicemail", "rejected", None])
        )
        calls.append(
            a_call(
                f"c{number}",
                "",
                outcome,
                started=float(begin + draw(st.integers(0, 36 * 3600))),
                waited=float(draw(st.integers(0, 60))),
                talked=float(draw(st.integers(0, 3600))),
                service=draw(st.sampled_from(["sales", "support", None])),
                wrap_up=draw(st.sampled_from([None, 5.0])),
            )
        )
    return calls


SUMMED = (
    "calls",
    "answered",
    "missed",
    "abandoned",
    "voicemail",
    "rejected",
    "open",
    "short",
    "within",
    "talk",
)


@settings(max_examples=20, deadline=None)
@given(calls=logs(), by=st.sampled_from(list(By)), by_service=st.booleans(), offset=st.integers(0, 7200))
def test_the_parts_sum_up_to_the_whole_however_it_is_cut(
    calls: list[CallRecord], by: By, by_service: bool, offset: int
) -> None:
    with TemporaryDirectory() as directory, a_command_store(Path(directory) / "cti.db") as store:
        put(store, *calls)
        since = (min(call.started for call in calls) if calls else at("00:00")) + offset
        made = report(
            store,
            a_question(since=since, until=since + 40 * 3600.0, by=by, by_service=by_service),
        )
    within = [call for call in calls if call.started >= since]
    told = Counter(call.outcome or "open" for call in within)
    expected = {
        **{word: told[word] for word in SUMMED[1:7]},
        "calls": len(within),
        "short": sum(
            call.outcome in ("missed", "abandoned") and call.ended - call.started < 5 for call in within
        ),  # type: ignore[operator]
        "within": sum(
            call.answered is not None
            and call.answered - call.started <= (10 if call.service == "sales" else 20)
            for call in within
        ),
        "talk": sum(call.ended - call.answered for call in within if call.answered and call.ended),
    }
    assert {name: made.total[name] for name in SUMMED} == expected
    for name in SUMMED:
        assert sum(row.figures[name] or 0 for row in made.rows) == expected[name], name
    assert sum(made.total[word] or 0 for word in (*SUMMED[1:7],)) == made.total["calls"]


# Days.


@pytest.mark.parametrize(
    ("day", "following", "hours", "twice"),
    [
        ("2026-03-28", "2026-03-29", 24, []),
        ("2026-03-29", "2026-03-30", 23, []),
        ("2026-10-25", "2026-10-26", 25, ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]),
    ],
)
def test_a_day_has_the_hours_that_pass_in_it(day: str, following: str, hours: int, twice: list[str]) -> None:
    cut = pieces(instant(day, BERLIN), instant(following, BERLIN), By.HOUR, BERLIN)
    assert len(cut) == hours
    assert all(piece.until - piece.since == 3600 for piece in cut)
    assert [piece.label for piece in cut if "T02" in piece.label and twice] == twice
    whole = pieces(instant(day, BERLIN), instant(following, BERLIN), By.DAY, BERLIN)
    assert [piece.label for piece in whole] == [day]


def test_a_zone_with_half_an_hour_of_summer_is_cut_without_gaps() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")
    since, until = instant("2026-04-03", zone), instant("2026-04-08", zone)
    cut = pieces(since, until, By.HOUR, zone)
    assert [piece.since for piece in cut[1:]] == [piece.until for piece in cut[:-1]]
    assert (cut[0].since, cut[-1].until) == (since, until)


@pytest.mark.parametrize(
    ("by", "label"),
    [
        (By.TOTAL, "all"),
        (By.DAY, "2027-01-01"),
        (By.WEEK, "2026-W53"),
        (By.MONTH, "2027-01"),
        (By.HOUR_OF_DAY, "00"),
        (By.WEEKDAY, "fri"),
    ],
)
def test_what_a_piece_is_called(by: By, label: str) -> None:
    since = instant("2027-01-01", BERLIN)
    assert pieces(since, since + 60, by, BERLIN)[0].label == label


def test_a_report_of_too_many_pieces_is_refused_before_anything_is_counted() -> None:
    with pytest.raises(TooManyPieces, match=f"more than {MOST_PIECES}"):
        pieces(0.0, instant("2026-01-01", BERLIN), By.HOUR, BERLIN)


def test_hours_of_the_day_come_in_the_order_of_the_day(store: CommandStore) -> None:
    put(store, a_call("late", "22:00"), a_call("early", "", started=at("01:00", "2026-03-03")))
    made = report(store, a_question(since=at("12:00"), until=at("12:00", "2026-03-03"), by=By.HOUR_OF_DAY))
    assert [row.label for row in made.rows] == ["01", "22"]
    assert {row.since for row in made.rows} == {None}


# As it is shown.


def test_every_figure_is_shown_with_its_definition_and_thresholds(store: CommandStore) -> None:
    a_day(store)
    shown = report_json(report(store, a_question()))
    figures = set(shown["rows"][0]) - {"label", "since", "until", "service"}
    assert figures == set(shown["measures"]) == set(shown["total"])
    assert "20 s; sales 10 s" in shown["measures"]["service_level"]["definition"]
    assert "first 5 s" in shown["measures"]["short"]["definition"]
    head, rows = report_table(report(store, a_question()))
    assert all(len(row) == len(head) for row in rows)


def test_a_service_named_like_a_word_of_a_definition_is_only_a_name() -> None:
    from cti.reports.measures import CALL_MEASURES

    meant = definitions(CALL_MEASURES, Levels(within={"{x} {0.__class__}": 3.0}))
    assert "{x} {0.__class__} 3 s" in meant["within"]["definition"]


def test_a_picture_is_an_svg_without_what_a_name_might_bring(store: CommandStore) -> None:
    put(store, a_call("x", "09:00", service='<script>"&'), a_call("y", "10:00", "missed"))
    for by in By:
        drawn = svg(report(store, a_question(by=by)))
        root = ElementTree.fromstring(drawn)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "<script" not in drawn
    bars = terminal_bars(report(store, a_question(by_service=False)))
    assert "#" in bars[0][1]
    assert "!" in bars[0][1]


def test_an_empty_report_has_a_picture_too(store: CommandStore) -> None:
    for kind in Kind:
        assert svg(report(store, a_question(kind))).endswith("</svg>\n")


# Beside calls.


class Slow:
    """A store that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Sequence[Row]]] = []

    def counted(self, count: Count, since: float, until: float) -> "Deferred[Sequence[Row]]":
        self.asked.append(Deferred())
        return self.asked[-1]


def test_the_store_is_asked_one_thing_at_a_time_whoever_wants_a_report() -> None:
    slow = Slow()
    desk = ReportDesk(slow.counted, Levels)
    question = a_question(until=at("00:00", "2026-03-05"), by=By.TOTAL)
    waiting = [
        Deferred.fromCoroutine(desk.make(question, hide_small_teams=True)) for _ in range(MOST_AT_ONCE)
    ]
    assert len(slow.asked) == 1
    one_more = Deferred.fromCoroutine(desk.make(question, hide_small_teams=True))
    failures: list[Any] = []
    one_more.addErrback(failures.append)
    assert failures[0].check(TooManyReports)
    # Who gives up is asked for no more, and lets the next one go on.
    waiting[0].addErrback(failures.append)
    waiting[0].cancel()
    assert len(slow.asked) == 2
    done: list[Any] = []
    for work in waiting[1:]:
        work.addBoth(done.append)
    for asked in slow.asked[1:]:
        asked.callback([])
    while len(done) < MOST_AT_ONCE - 1:
        slow.asked[-1].callback([])
    # Three days each, of those who stayed.
    assert len(slow.asked) == 1 + 3 * (MOST_AT_ONCE - 1)
    assert all(isinstance(each, Report) for each in done)


def test_a_clock_reads_a_date_in_the_zone_of_the_report() -> None:
    assert instant("2026-07-01", BERLIN) == datetime(2026, 7, 1, tzinfo=BERLIN).timestamp()
    assert instant("2026-07-01T00:00Z", BERLIN) - instant("2026-07-01", BERLIN) == 7200
    with pytest.raises(ValueError, match="write one like"):
        instant("tomorrow", BERLIN)
