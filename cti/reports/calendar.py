"""A span of time cut into local hours, days, weeks or months: each once, on the days that have 23 or 25 hours too.

Everything is counted in seconds since the epoch; a time zone only says where the cuts are, and what they are called.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen

#: More pieces than the hours of a leap year are no report that somebody reads.
MOST_PIECES: Final = 8_784
_HOUR: Final = 3600.0
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class TooManyPieces(ValueError):
    """The span would be cut into more pieces than anybody reads; the text says what would be right."""


class By(StrEnum):
    """How a span is cut, or which pieces of it are put together."""

    TOTAL = "total"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    HOUR_OF_DAY = "hour_of_day"
    WEEKDAY = "weekday"


@frozen
class Piece:
    """From `since` to before `until`; `label` is what it is part of, the local time of its beginning or a word."""

    since: float
    until: float
    label: str


def zone_named(name: str) -> ZoneInfo:
    """Raises `ValueError` saying what would be right."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{name[:40]!r} is no time zone of the tz database; such as Europe/Berlin would be right"
        ) from error


def instant(text: str, zone: ZoneInfo) -> float:
    """Epoch seconds of an ISO 8601 date or time, of this zone where it names none. Raises `ValueError`."""
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:40]!r} is no time; write one like 2026-02-03T09:15, or a date") from error


def local(at: float, zone: ZoneInfo) -> str:
    """ISO 8601 with the zone's offset at that moment."""
    return datetime.fromtimestamp(at, UTC).astimezone(zone).isoformat(timespec="seconds")


def pieces(since: float, until: float, by: By, zone: ZoneInfo) -> list[Piece]:
    """The span in pieces of an hour or a day at most, in order, without gaps; the first and the last may be shorter.

    Pieces of one label belong together. Raises `TooManyPieces`.
    """
    found: list[Piece] = []
    for each in _cut(since, until, by, zone):
        found.append(each)
        if len(found) > MOST_PIECES:
            raise TooManyPieces(
                f"this would be more than {MOST_PIECES} times to count; a shorter time, or `by` day, would be right"
            )
    return found


def _cut(since: float, until: float, by: By, zone: ZoneInfo) -> Iterator[Piece]:
    name = _NAMES[by]
    for start, end in _days(since, until, zone):
        if by not in (By.HOUR, By.HOUR_OF_DAY):
            yield Piece(max(start, since), min(end, until), name(start, zone))
            continue
        # Hours as they pass: on the day of a clock change, one is missing or there are two of a name.
        hour = start
        while hour < end:
            following = min(hour + _HOUR, end)
            if following > since and hour < until:
                yield Piece(max(hour, since), min(following, until), name(hour, zone))
            hour = following


def _days(since: float, until: float, zone: ZoneInfo) -> Iterator[tuple[float, float]]:
    """The local days that the span touches."""
    day = datetime.fromtimestamp(since, UTC).astimezone(zone).date()
    start = _midnight(day, zone)
    while start < until:
        day += timedelta(days=1)
        end = _midnight(day, zone)
        if end > since:
            yield start, end
        start = end


def _midnight(day: object, zone: ZoneInfo) -> float:
    return datetime.fromisoformat(str(day)).replace(tzinfo=zone).timestamp()


def _date(at: float, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone(zone)


def _of_week(at: float, zone: ZoneInfo) -> str:
    year, week, _ = _date(at, zone).isocalendar()
    return f"{year}-W{week:02d}"


_NAMES: Final[Mapping[By, Callable[[float, ZoneInfo], str]]] = {
    By.TOTAL: lambda _at, _zone: "all",
    By.HOUR: local,
    By.DAY: lambda at, zone: _date(at, zone).date().isoformat(),
    By.WEEK: _of_week,
    By.MONTH: lambda at, zone: f"{_date(at, zone):%Y-%m}",
    By.HOUR_OF_DAY: lambda at, zone: f"{_date(at, zone):%H}",
    By.WEEKDAY: lambda at, zone: WEEKDAYS[_date(at, zone).weekday()],
}
