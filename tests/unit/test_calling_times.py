"""When customers may be called: by the clock where they are, over midnight, clock changes and several zones."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from cti.calls.calling_times import ANYWAY, CallingTimes, zones_of
from cti.settings import CallbackSettings

BERLIN = ZoneInfo("Europe/Berlin")
IN_BERLIN = "+493023125101"
IN_LONDON = "+442079460101"
IN_NEW_YORK = "+12125550101"
IN_HONOLULU = "+18085550101"
TOLL_FREE = "+18005550101"
INTERNAL = "201"
TIMES = CallingTimes(CallbackSettings(), BERLIN)


def at(text: str, zone: str = "Europe/Berlin") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("number", "wanted", "made", "zone"),
    [
        (IN_BERLIN, "2026-06-10 09:00", "2026-06-10 09:00", "Europe/Berlin"),
        (IN_BERLIN, "2026-06-10 08:59", "2026-06-10 09:00", "Europe/Berlin"),
        (IN_BERLIN, "2026-06-10 19:59:59", "2026-06-10 19:59:59", "Europe/Berlin"),
        (IN_BERLIN, "2026-06-10 20:00", "2026-06-11 09:00", "Europe/Berlin"),
        (IN_BERLIN, "2026-06-11 00:30", "2026-06-11 09:00", "Europe/Berlin"),
        # Nine in the evening here is eight in the evening there.
        (IN_LONDON, "2026-06-10 19:30", "2026-06-10 19:30", "Europe/London"),
        (IN_LONDON, "2026-06-10 08:30", "2026-06-10 09:00", "Europe/London"),
        (IN_NEW_YORK, "2026-06-10 04:00", "2026-06-10 09:00", "America/New_York"),
        # The day before has not ended there.
        (IN_HONOLULU, "2026-06-10 21:00", "2026-06-11 09:00", "Pacific/Honolulu"),
        (INTERNAL, "2026-06-10 21:00", "2026-06-11 09:00", "Europe/Berlin"),
    ],
)
def test_they_are_called_within_the_hours_of_where_they_are(
    number: str, wanted: str, made: str, zone: str
) -> None:
    assert TIMES.kind(number, at(wanted, zone)) == at(made, zone)


@pytest.mark.parametrize(
    ("evening", "morning", "hours"),
    [
        # The night in which clocks go forward has an hour less, and an hour more when they go back.
        ("2026-03-28 20:00", "2026-03-29 09:00", 12),
        ("2026-10-24 20:00", "2026-10-25 09:00", 14),
        ("2026-06-10 20:00", "2026-06-11 09:00", 13),
    ],
)
def test_a_clock_change_in_the_night_moves_the_morning(evening: str, morning: str, hours: int) -> None:
    made = TIMES.kind(IN_BERLIN, at(evening))
    assert made == at(morning)
    assert made - at(evening) == hours * 3600


def test_a_pause_over_a_clock_change_is_as_long_as_any() -> None:
    night = CallingTimes(CallbackSettings(begin=0, end=24 * 60 - 1, pauses=(60,)), BERLIN)
    for before in (at("2026-03-29 01:30"), at("2026-10-25 02:30")):
        assert night.again(IN_BERLIN, before, 1) == before + 3600


@pytest.mark.parametrize("begin", [150, 120, 180])
def test_hours_that_begin_in_the_hour_that_is_left_out_or_repeated_begin_after_all(begin: int) -> None:
    times = CallingTimes(CallbackSettings(begin=begin, end=600), BERLIN)
    for day in ("2026-03-29", "2026-10-25"):
        midnight = at(f"{day} 00:00")
        for minute in range(0, 300, 5):
            moment = midnight + 60 * minute
            made = times.kind(IN_BERLIN, moment)
            local = datetime.fromtimestamp(made, BERLIN)
            assert moment <= made <= midnight + 4 * 3600 + 60 * begin
            assert begin <= local.hour * 60 + local.minute < 600


def test_of_several_zones_all_are_within_the_hours() -> None:
    # A mobile of Australia: Perth to Lord Howe, at nine in Perth and before eight in the evening of the others.
    zones = zones_of("+61491570156")
    assert len(zones) > 2
    for hour in range(24):
        made = TIMES.kind("+61491570156", at("2026-06-10 00:00") + 3600 * hour)
        for zone in zones:
            assert 9 <= datetime.fromtimestamp(made, zone).hour < 20


def test_where_no_hour_is_kind_in_all_zones_or_none_is_known_the_companys_clock_counts() -> None:
    assert len(zones_of(TOLL_FREE)) > 20
    assert zones_of(INTERNAL) == ()
    for number in (TOLL_FREE, INTERNAL):
        assert TIMES.kind(number, at("2026-06-10 21:00")) == at("2026-06-11 09:00")
        assert TIMES.kind(number, at("2026-06-10 12:00")) == at("2026-06-10 12:00")


def test_beyond_the_calendar_nothing_fails() -> None:
    for moment in (253402300799.0, 1e15):
        assert TIMES.kind(IN_HONOLULU, moment) >= moment


def test_the_pauses_are_taken_in_turn_and_the_last_for_all_others() -> None:
    times = CallingTimes(CallbackSettings(tries=5, pauses=(15, 60)), BERLIN)
    noon = at("2026-06-10 12:00")
    found = [times.again(IN_BERLIN, noon, tries) for tries in range(1, 6)]
    assert found == [noon + 900, noon + 3600, noon + 3600, noon + 3600, None]


def test_whoever_wants_it_anyway_has_it_for_an_hour() -> None:
    night = at("2026-06-10 23:00")
    until = night + ANYWAY
    assert TIMES.planned(IN_BERLIN, night, until) == night
    assert TIMES.put_off(IN_BERLIN, night, until) == night + 120
    assert TIMES.put_off(IN_BERLIN, until - 60, until) == at("2026-06-11 09:00")
    assert TIMES.planned(IN_BERLIN, night, None) == at("2026-06-11 09:00")
