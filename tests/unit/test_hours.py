"""Opening hours: which moments they hold for, across clock changes and holidays, and how the file is read."""

import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cti.hours import day_began
from cti.settings import SettingsError, load_settings
from routing.clock import Hours
from routing.decide import decide
from routing.facts import Facts
from routing.rules import Service

OFFICE = """\
  office:
    time_zone: Europe/Berlin
    week: {mon-thu: "08:00-12:00, 13:00-17:30", fri: "08:00-14:00", sat: closed}
    dates: {2026-12-24: closed, 2026-12-28..2026-12-30: "10:00-12:00", 2026-05-14: "09:00-10:00"}
    holidays: {country: DE, region: HE}
  night:
    time_zone: Europe/Berlin
    week: {fri-sun: "22:00-06:00"}
  always:
    time_zone: Europe/Berlin
    week: {mon-sun: "00:00-24:00"}
  market:
    time_zone: America/New_York
    week: {mon-fri: "09:30-16:00"}
    holidays: [{country: US}, {country: DE, region: HE}]
    on_holidays: "10:00-11:00"
"""
FILE = """\
region: DE
store: {{sqlite: cti.db}}
asterisks:
  main: {{ami: "127.0.0.1:5038", username: cti, secret: "x"}}
agents:
  anna: {{phones: [PJSIP/anna], groups: [sales]}}
hours:
{hours}
services:
  sales:
    numbers: ["+494066969100"]
    mode: route
    fallback: old-context,s,1
    hours: {of}
    rules:
{rules}
"""
CLOSED = '      - {name: closed, when: {hours: {not: open}}, voicemail: "17"}'


def service(tmp_path: Path, of: str = "office", *rules: str, hours: str = OFFICE) -> Service:
    file = tmp_path / "cti.yaml"
    file.write_text(FILE.format(hours=hours.rstrip(), of=of, rules="\n".join(rules or [CLOSED])))
    return load_settings(file, adapter_kinds={}, environ={}).services["sales"]


def problem(tmp_path: Path, *rules: str, of: str = "office", hours: str = OFFICE) -> str:
    with pytest.raises(SettingsError) as caught:
        service(tmp_path, of, *rules, hours=hours)
    return str(caught.value).replace(f"{tmp_path}/", "")


def moment(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("of", "at", "hours"),
    [
        ("office", "2026-11-23T07:59:59", Hours.CLOSED),
        ("office", "2026-11-23T08:00:00", Hours.OPEN),
        ("office", "2026-11-23T11:59:59", Hours.OPEN),
        ("office", "2026-11-23T12:00:00", Hours.CLOSED),
        ("office", "2026-11-23T17:29:59", Hours.OPEN),
        ("office", "2026-11-27T14:00:00", Hours.CLOSED),
        ("office", "2026-11-28T10:00:00", Hours.CLOSED),
        ("office", "2026-11-29T10:00:00", Hours.CLOSED),
        # Christmas Eve is none of Hesse's holidays, and New Year's Day is.
        ("office", "2026-12-24T10:00:00", Hours.CLOSED),
        ("office", "2026-12-25T10:00:00", Hours.HOLIDAY),
        ("office", "2026-12-29T10:00:00", Hours.OPEN),
        ("office", "2026-12-29T09:59:00", Hours.CLOSED),
        ("office", "2027-01-01T10:00:00", Hours.HOLIDAY),
        # Corpus Christi is a holiday in Hesse and none in Berlin; a date that is given beats a holiday.
        ("office", "2026-06-04T10:00:00", Hours.HOLIDAY),
        ("office", "2026-05-14T09:30:00", Hours.OPEN),
        ("office", "2026-05-14T10:30:00", Hours.CLOSED),
        ("night", "2026-11-27T21:59:00", Hours.CLOSED),
        ("night", "2026-11-27T22:00:00", Hours.OPEN),
        ("night", "2026-11-28T05:59:00", Hours.OPEN),
        ("night", "2026-11-28T06:00:00", Hours.CLOSED),
        ("night", "2026-11-30T05:59:00", Hours.OPEN),
        ("night", "2026-12-01T05:59:00", Hours.CLOSED),
        ("always", "2026-11-28T23:59:59", Hours.OPEN),
        ("always", "2026-11-29T00:00:00", Hours.OPEN),
        # The clock is put forward at two, and back at three.
        ("night", "2026-03-29T01:59:00", Hours.OPEN),
        ("night", "2026-03-29T05:59:00", Hours.OPEN),
        ("night", "2026-10-25T05:59:00", Hours.OPEN),
        ("night", "2026-10-25T06:00:00", Hours.CLOSED),
    ],
)
def test_a_moment_is_open_by_the_clock_on_the_wall(tmp_path: Path, of: str, at: str, hours: Hours) -> None:
    opening = service(tmp_path, of).hours
    assert opening is not None
    assert opening.at(moment(at)).hours is hours


def test_the_hour_that_comes_twice_is_open_twice(tmp_path: Path) -> None:
    early = '  office: {time_zone: Europe/Berlin, week: {sun: "02:30-02:45"}}'
    opening = service(tmp_path, hours=early).hours
    assert opening is not None
    first = moment("2026-10-25T02:40:00")
    assert [opening.at(first + hour * 3600).hours for hour in (-1, 0, 1, 2)] == [
        Hours.CLOSED,
        Hours.OPEN,
        Hours.OPEN,
        Hours.CLOSED,
    ]


# Zone; when its clocks change; minutes east of Greenwich before and after; how many minutes of that Sunday there are,
# of its hours from one to two, two to three, and three to four, and of an office that is open from ten in the evening
# before until six.
CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00:00+00:00", 60, 120, (1380, 60, 0, 60, 420)),
    ("Europe/Berlin", "2026-10-25T01:00:00+00:00", 120, 60, (1500, 60, 120, 60, 540)),
    ("America/New_York", "2026-03-08T07:00:00+00:00", -300, -240, (1380, 60, 0, 60, 420)),
    ("America/New_York", "2026-11-01T06:00:00+00:00", -240, -300, (1500, 120, 60, 60, 540)),
]


def around(at: str) -> list[float]:
    """Each minute of the two days before and after."""
    return [instant(at) + 60 * minute for minute in range(-2880, 2880)]


@pytest.mark.parametrize(("zone", "at", "before", "after", "_minutes"), CHANGES)
def test_date_time_and_weekday_are_those_of_the_wall_through_a_change_of_clocks(
    tmp_path: Path, zone: str, at: str, before: int, after: int, _minutes: object
) -> None:
    opening = service(tmp_path, hours=f"  office: {{time_zone: {zone}, week: {{}}}}").hours
    assert opening is not None
    for each in around(at):
        east = before if each < instant(at) else after
        wall = datetime.fromtimestamp(each + 60 * east, UTC)
        clock = opening.at(each)
        assert (clock.date, clock.time) == (f"{wall:%Y-%m-%d}", f"{wall:%H:%M}")
        assert clock.weekday == ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[wall.weekday()]


@pytest.mark.parametrize(("zone", "at", "_before", "_after", "minutes"), CHANGES)
def test_what_rules_ask_of_the_clock_lasts_shorter_and_longer_when_clocks_change(
    tmp_path: Path, zone: str, at: str, _before: int, _after: int, minutes: tuple[int, ...]
) -> None:
    day = at.partition("T")[0]
    asked = (
        f'{{weekday: sun, date: "{day}"}}',
        '{weekday: sun, time: {at_least: "01:00", at_most: "01:59"}}',
        '{weekday: sun, time: {at_least: "02:00", at_most: "02:59"}}',
        '{weekday: sun, time: {at_least: "03:00", at_most: "03:59"}}',
        "{hours: open}",
    )
    lasted = []
    for when in asked:
        sales = service(
            tmp_path,
            "office",
            f'      - {{name: it, when: {when}, voicemail: "17"}}',
            hours=f'  office: {{time_zone: {zone}, week: {{sat: "22:00-06:00"}}}}',
        )
        assert sales.hours is not None
        facts = [
            Facts(each, "sales", None, "withheld", "1", clock=sales.hours.at(each)) for each in around(at)
        ]
        lasted.append(sum(decide(sales, each).rule == "it" for each in facts))
    assert tuple(lasted) == minutes


@pytest.mark.parametrize(
    ("at", "midnight"),
    [
        ("2026-03-29T01:30:00+01:00", "2026-03-29T00:00:00+01:00"),
        ("2026-03-29T23:59:59+02:00", "2026-03-29T00:00:00+01:00"),
        ("2026-03-30T00:00:00+02:00", "2026-03-30T00:00:00+02:00"),
        ("2026-10-25T00:00:00+02:00", "2026-10-25T00:00:00+02:00"),
        ("2026-10-25T02:30:00+02:00", "2026-10-25T00:00:00+02:00"),
        ("2026-10-25T02:30:00+01:00", "2026-10-25T00:00:00+02:00"),
        ("2026-10-25T23:30:00+01:00", "2026-10-25T00:00:00+02:00"),
        ("2026-10-26T00:30:00+01:00", "2026-10-26T00:00:00+01:00"),
    ],
)
def test_a_day_begins_at_its_midnight_also_when_clocks_change(tmp_path: Path, at: str, midnight: str) -> None:
    opening = service(tmp_path).hours
    assert opening is not None
    assert opening.day_began(instant(at)) == instant(midnight)


@pytest.mark.parametrize(
    ("zone", "at", "began"),
    [
        # Here clocks are put forward at midnight, and back to the hour before it.
        ("America/Santiago", "2026-09-06T12:00:00-03:00", "2026-09-06T01:00:00-03:00"),
        ("America/Santiago", "2026-04-04T23:30:00-04:00", "2026-04-04T00:00:00-03:00"),
        ("America/Havana", "2026-11-01T12:00:00-05:00", "2026-11-01T00:00:00-04:00"),
    ],
)
def test_a_day_whose_midnight_does_not_come_or_comes_twice_has_one_beginning(
    zone: str, at: str, began: str
) -> None:
    assert day_began(instant(at), ZoneInfo(zone)) == instant(began)


@pytest.mark.parametrize(
    ("hours", "reports", "zone"),
    [
        ("  office: {time_zone: Europe/Berlin, week: {}}", "", "Europe/Berlin"),
        (
            "  office: {time_zone: Europe/Berlin, week: {}}\n  far: {time_zone: Asia/Tokyo, week: {}}",
            "",
            None,
        ),
        (
            "  office: {time_zone: Europe/Berlin, week: {}}",
            "reports: {time_zone: Asia/Tokyo}",
            "Asia/Tokyo",
        ),
    ],
)
def test_the_company_s_zone_is_what_the_file_says_or_that_of_all_its_hours(
    tmp_path: Path, hours: str, reports: str, zone: str | None
) -> None:
    file = tmp_path / "cti.yaml"
    file.write_text(FILE.format(hours=hours, of="office", rules=CLOSED) + reports + "\n")
    told = load_settings(file, adapter_kinds={}, environ={}).reports

    assert told.time_zone == (None if zone is None else ZoneInfo(zone))
    assert told.zone == ZoneInfo(zone or "UTC")


def test_without_a_zone_the_day_is_this_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        assert day_began(instant("2026-06-01T18:20:00+00:00"), None) == instant("2026-06-02T00:00:00+05:45")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_zone_is_the_service_s_and_a_holiday_of_either_country_counts(tmp_path: Path) -> None:
    opening = service(tmp_path, "market").hours
    assert opening is not None
    # Thanksgiving in one, Corpus Christi in the other.
    for at, hours in {
        "2026-11-25T15:30:00": Hours.OPEN,
        "2026-11-26T15:30:00": Hours.HOLIDAY,
        "2026-11-26T10:30:00": Hours.OPEN,
        "2026-06-04T15:30:00": Hours.HOLIDAY,
    }.items():
        assert opening.at(moment(at, "America/New_York")).hours is hours, at
    clock = opening.at(moment("2026-11-27T01:00:00"))
    assert clock.as_json() == {
        "hours": "holiday",
        "date": "2026-11-26",
        "time": "19:00",
        "weekday": "thu",
        "holiday": "Thanksgiving Day",
    }


def test_rules_ask_for_all_that_the_clock_says_and_the_trace_tells_it(tmp_path: Path) -> None:
    rules = (
        '      - {name: holiday, when: {holiday: present, date: {at_most: "2026-12-31"}}, announce: custom/holiday}',
        CLOSED,
        '      - {name: lunch, when: {time: {at_least: "11:30", at_most: "11:59"}}, voicemail: "18"}',
        "      - {name: friday, when: {weekday: fri}, dial: {agent: anna}}",
        '      - {name: rest, voicemail: "19"}',
    )
    sales = service(tmp_path, "office", *rules)
    assert sales.hours is not None

    def rule_at(text: str) -> str | None:
        at = moment(text)
        clock = sales.hours.at(at) if sales.hours else None
        found = decide(sales, Facts(at, "sales", None, "withheld", "+494066969100", clock=clock))
        return found.rule

    assert rule_at("2026-12-25T10:00:00") == "holiday"
    assert rule_at("2027-01-01T10:00:00") == "closed"
    assert rule_at("2026-11-23T20:00:00") == "closed"
    assert rule_at("2026-11-23T11:30:00") == "lunch"
    assert rule_at("2026-11-23T11:29:00") == "rest"
    at = moment("2026-11-23T20:00:00")
    facts = Facts(at, "sales", None, "withheld", "+494066969100", clock=sales.hours.at(at))
    assert decide(sales, facts).trace[-1].as_json()["tests"] == [
        {"fact": "hours", "wanted": 'not (is "open")', "found": "closed", "held": True}
    ]
    assert facts.as_json()["clock"]["time"] == "20:00"


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        ('office: {time_zone: Europe/Berlim, week: {mon: "08:00-17:00"}}', "is no time zone"),
        ('office: {week: {mon: "08:00-17:00"}}', "time_zone: is missing; `time_zone: Europe/Berlin`"),
        ('office: {time_zone: Europe/Berlin, week: {mon-fry: "08:00-17:00"}}', '"fry"; did you mean "fri"?'),
        (
            'office: {time_zone: Europe/Berlin, week: {mon-fri: "08:00-17:00", fri: closed}}',
            "week.fri: `fri` is given already",
        ),
        ('office: {time_zone: Europe/Berlin, week: {mon: "8-17"}}', '"8-17" is no time of day'),
        ('office: {time_zone: Europe/Berlin, week: {mon: "25:00-26:00"}}', "00:00-24:00 is all of it"),
        ('office: {time_zone: Europe/Berlin, week: {mon: "08:00-12:00, 11:00-13:00"}}', "times that overlap"),
        (
            "office: {time_zone: Europe/Berlin, week: {}, dates: {24.12.2026: closed}}",
            '"24.12.2026" is no date',
        ),
        (
            "office: {time_zone: Europe/Berlin, week: {}, dates: {2026-12-31..2026-12-24: closed}}",
            "the earlier date first",
        ),
        (
            "office: {time_zone: Europe/Berlin, week: {}, holidays: {country: DE, region: HX}}",
            'unknown region of DE "HX"',
        ),
        ("office: {time_zone: Europe/Berlin, week: {}, holidays: {country: Germany}}", "is no country"),
        (
            'office: {time_zone: Europe/Berlin, week: {}, on_holidays: "10:00-12:00"}',
            "has no meaning without `holidays`",
        ),
    ],
)
def test_hours_that_cannot_be_are_named_with_their_place(tmp_path: Path, hours: str, said: str) -> None:
    told = problem(tmp_path, hours=f"  {hours}")
    assert said in told
    assert told.startswith("cti.yaml:8:")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('{name: a, when: {time: "9:30"}, voicemail: "17"}', 'is not written as "09:30" is'),
        ('{name: a, when: {time: {at_least: "24:00"}}, voicemail: "17"}', 'is not written as "09:30" is'),
        ('{name: a, when: {date: "24.12.2026"}, voicemail: "17"}', 'is not written as "2026-12-24" is'),
        ('{name: a, when: {weekday: friday}, voicemail: "17"}', 'unknown word "friday"; did you mean "fri"?'),
        ('{name: a, when: {hours: shut}, voicemail: "17"}', 'unknown word "shut"'),
    ],
)
def test_a_rule_that_asks_the_clock_wrongly_is_told_how(tmp_path: Path, rule: str, said: str) -> None:
    assert said in problem(tmp_path, f"      - {rule}")


def test_rules_ask_no_clock_of_a_service_that_has_no_hours(tmp_path: Path) -> None:
    file = tmp_path / "cti.yaml"
    text = FILE.format(hours=OFFICE.rstrip(), of="office", rules=CLOSED).replace("    hours: office\n", "")
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"needs a time zone; `hours: NAME` in the service"):
        load_settings(file, adapter_kinds={}, environ={})
    assert 'unknown hours "offise"; did you mean "office"?' in problem(tmp_path, of="offise")
