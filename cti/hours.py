"""Opening hours: a week, dates that differ, public holidays, in a time zone; and how the file says them.

Every moment is asked in local time, so the hour that a clock change leaves out or repeats is open when the wall
clock says so. What follows from being closed is left to rules.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import field, frozen

from cti.yaml_file import MappingNode, Place, YamlFile
from routing.clock import DATE, WEEKDAYS, Hours, WallClock
from routing.words import quoted, unknown

_DAY: Final = 24 * 60
_SPAN: Final = re.compile(r"([0-9]{1,2}):([0-5][0-9])\s*-\s*([0-9]{1,2}):([0-5][0-9])")
_MAX_SPANS: Final = 20
_MAX_RANGE: Final = 366
_SPANS_ARE: Final = 'times such as "08:00-12:00, 13:00-17:30", or `closed`, would be right'

#: Minutes of the day from midnight, the end not included; past 24:00 it is the next day.
Span = tuple[int, int]


class Holidays:
    """The public holidays of a country, or of a part of it."""

    def __init__(self, country: str, region: str | None) -> None:
        # The package knows the whole world, and takes its time to load: only for who asks for it.
        from holidays import country_holidays

        self._days = country_holidays(country, subdiv=region)

    def name(self, day: date) -> str | None:
        found: str | None = self._days.get(day)
        return found


@frozen
class OpeningHours:
    """`week`: seven days from Monday; `dates`: those that differ, holidays or not."""

    zone: ZoneInfo
    week: tuple[tuple[Span, ...], ...]
    dates: Mapping[date, tuple[Span, ...]] = field(factory=dict)
    holidays: tuple[Holidays, ...] = ()
    on_holidays: tuple[Span, ...] = ()

    def at(self, moment: float) -> WallClock:
        local = datetime.fromtimestamp(moment, UTC).astimezone(self.zone)
        today = local.date()
        minute = local.hour * 60 + local.minute
        holiday = self._holiday(today)
        is_open = any(start <= minute < end for start, end in self._of(today)) or any(
            start <= minute + _DAY < end for start, end in self._of(today - timedelta(days=1))
        )
        closed = Hours.HOLIDAY if holiday is not None and today not in self.dates else Hours.CLOSED
        return WallClock(
            Hours.OPEN if is_open else closed,
            today.isoformat(),
            f"{local:%H:%M}",
            WEEKDAYS[today.weekday()],
            holiday,
        )

    def day_began(self, moment: float) -> float:
        return day_began(moment, self.zone)

    def _of(self, day: date) -> tuple[Span, ...]:
        given = self.dates.get(day)
        if given is not None:
            return given
        return self.week[day.weekday()] if self._holiday(day) is None else self.on_holidays

    def _holiday(self, day: date) -> str | None:
        return next((name for each in self.holidays if (name := each.name(day)) is not None), None)


def day_began(moment: float, zone: tzinfo | None) -> float:
    """The midnight before this moment (both in epoch seconds) in this zone; with None, on this machine's clock.

    The first of two midnights, and of one that a clock change leaves out, the change.
    """
    today = datetime.fromtimestamp(moment, zone).date()
    return datetime.combine(today, time(), zone).timestamp()


def read_hours(file: YamlFile, place: Place) -> OpeningHours | None:
    """Opening hours as the file says them; None, with each problem noted in the file, where it does not."""
    before = len(file.problems)
    section = file.section(place, ("time_zone", "week", "dates", "holidays", "on_holidays"))
    zone = read_zone(file, section.need("time_zone", "Europe/Berlin"))
    week: list[tuple[Span, ...]] = [()] * 7
    for days, each in _days(file, section.need("week", '{mon-fri: "08:00-17:00"}')):
        for day in days:
            week[day] = _spans(file, each)
    dates: dict[date, tuple[Span, ...]] = {}
    for days_of_year, each in _dates(file, section.get("dates")):
        spans = _spans(file, each)
        for one in days_of_year:
            if one in dates:
                file.wrong(each, f"{one} is given already; once would be right")
            dates[one] = spans
    holidays = tuple(_holidays(file, section.get("holidays")))
    on_holidays = section.get("on_holidays")
    if on_holidays is not None and not holidays:
        file.wrong(on_holidays, "has no meaning without `holidays`; {country: DE} there would be right")
    at_holidays = () if on_holidays is None else _spans(file, on_holidays)
    if zone is None or len(file.problems) > before:
        return None
    return OpeningHours(zone, tuple(week), dates, holidays, at_holidays)


def read_zone(file: YamlFile, place: Place | None) -> ZoneInfo | None:
    """A time zone by its name in the tz database; None, with the problem noted in the file, where it is none."""
    text = file.text(place, one_line=True)
    if place is None or text is None:
        return None
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        file.wrong(
            place, f"{quoted(text)} is no time zone; one of the tz database, such as Europe/Berlin, is"
        )
        return None


def _days(file: YamlFile, place: Place | None) -> Iterator[tuple[list[int], Place]]:
    """`mon`, `mon-fri`, `fri-mon`."""
    taken: set[int] = set()
    for text, each in file.section(place, None).entries.items():
        first, dash, last = (part.strip() for part in text.lower().partition("-"))
        wrong = [word for word in ((first, last) if dash else (first,)) if word not in WEEKDAYS]
        if wrong:
            file.wrong(each, f"{unknown('day', wrong[0], WEEKDAYS)}; `mon-fri` is several")
            continue
        start = WEEKDAYS.index(first)
        count = (WEEKDAYS.index(last) - start) % 7 + 1 if dash else 1
        days = [(start + step) % 7 for step in range(count)]
        twice = taken.intersection(days)
        if twice:
            file.wrong(each, f"`{WEEKDAYS[min(twice)]}` is given already; each day once would be right")
        taken.update(days)
        yield days, each


def _dates(file: YamlFile, place: Place | None) -> Iterator[tuple[list[date], Place]]:
    """`2026-12-24`, or `2026-12-24..2026-12-31`."""
    for text, each in file.section(place, None).entries.items():
        first, dots, last = (part.strip() for part in text.partition(".."))
        try:
            start, end = _date(first), _date(last if dots else first)
        except ValueError:
            file.wrong(
                each, f"{quoted(text)} is no date; 2026-12-24 or 2026-12-24..2026-12-31 would be right"
            )
            continue
        if not 0 <= (end - start).days < _MAX_RANGE:
            file.wrong(
                each, f"{quoted(text)} is no span of at most a year; the earlier date first would be right"
            )
            continue
        yield [start + timedelta(days=step) for step in range((end - start).days + 1)], each


def _date(text: str) -> date:
    if not DATE.fullmatch(text):
        raise ValueError(text)
    return date.fromisoformat(text)


def _spans(file: YamlFile, place: Place) -> tuple[Span, ...]:
    text = file.text(place, one_line=True)
    if text is None or text.strip() == "closed":
        return ()
    spans: list[Span] = []
    for part in text.split(",", _MAX_SPANS):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            file.wrong(place, f"{quoted(part.strip())} is no time of day; {_SPANS_ARE}")
            return ()
        hour, minute, until_hour, until_minute = map(int, match.groups())
        start, end = hour * 60 + minute, until_hour * 60 + until_minute
        if start >= _DAY or end > _DAY or start == end:
            file.wrong(place, f"{quoted(part.strip())} is no time of day; 00:00-24:00 is all of it")
            return ()
        spans.append((start, end if end > start else end + _DAY))
    spans.sort()
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            file.wrong(place, "has times that overlap; one after the other would be right")
    return tuple(spans)


def _holidays(file: YamlFile, place: Place | None) -> Iterator[Holidays]:
    """One country, or a list of them: a company may close on the holidays of two."""
    if place is None:
        return
    one = isinstance(place.node, MappingNode)
    for each in [place] if one else file.items(place, "{country: DE, region: HE}", at_least_one=True):
        section = file.section(each, ("country", "region"))
        country_place, region_place = section.need("country", "DE"), section.get("region")
        country, region = file.text(country_place), file.text(region_place)
        if country_place is None or country is None:
            continue
        known = _known_countries()
        if country not in known:
            file.wrong(
                country_place, f"{quoted(country)} is no country whose holidays are known; such as DE is"
            )
        elif region is not None and region_place is not None and region not in known[country]:
            file.wrong(region_place, unknown(f"region of {country}", region, known[country]))
        else:
            yield Holidays(country, region)


@cache
def _known_countries() -> Mapping[str, tuple[str, ...]]:
    from holidays import list_supported_countries

    return {country: tuple(regions) for country, regions in list_supported_countries().items()}
