"""What the clock on the wall and the calendar say at a moment, where a company stands; read elsewhere, tested here.

Time zones and holidays need tables of the world's, so who has them makes a `WallClock`; rules only look at it.
"""

import re
from enum import StrEnum
from typing import Any, Final, Protocol

from attrs import frozen

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: Both are compared as texts, and so as what they are.
TIME_OF_DAY: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
DATE: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")


class Hours(StrEnum):
    """Whether somebody is there: `holiday` where it is closed for that reason."""

    OPEN = "open"
    CLOSED = "closed"
    HOLIDAY = "holiday"


@frozen
class WallClock:
    """`date` as 2026-12-24, `time` as 09:30, `weekday` of `WEEKDAYS`; `holiday`: its name, also when it is open."""

    hours: Hours
    date: str
    time: str
    weekday: str
    holiday: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "hours": self.hours.value,
            "date": self.date,
            "time": self.time,
            "weekday": self.weekday,
            "holiday": self.holiday,
        }


class IOpeningHours(Protocol):
    """The opening hours of a service, with their time zone."""

    def at(self, moment: float) -> WallClock:
        """The clock on the wall at this moment (epoch seconds)."""

    def day_began(self, moment: float) -> float:
        """When the day of this moment began there (both in epoch seconds)."""
