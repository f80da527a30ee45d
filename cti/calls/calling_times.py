"""When a customer may be called by the clock where they are, and how long after a try in vain the next one is.

Pure: no clock is read here. What is called at these times, and by whom, is left to `due_calls`.
"""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from attrs import frozen

from cti.settings import CallbackSettings

#: Seconds after its time for which a call that somebody wants made at an unkind hour may be made late.
ANYWAY: Final = 3600.0
_DAY: Final = timedelta(days=1)
#: Seconds in which all zones of a number have an hour in common, or never.
_HORIZON: Final = 3 * 86_400.0


@frozen
class CallingTimes:
    """The rule of a configuration; `here`: the company's time zone, for who is nobody knows where.

    All moments are epoch seconds: only the hours are looked at by the clock on a wall, so that no clock change makes
    a pause longer or shorter.
    """

    settings: CallbackSettings
    here: ZoneInfo

    def kind(self, number: str, at: float) -> float:
        """The first moment from `at` on, at a whole minute unless it is `at`, when this number may be called.

        A number that may be in several time zones is called when it is a kind hour in all of them; where there is no
        such hour, as for the toll-free numbers of North America, by the company's clock.
        """
        zones = zones_of(number) or (self.here,)
        try:
            moment = self._first(zones, at)
            if moment is None:
                moment = self._first((self.here,), at)
        except (OverflowError, ValueError, OSError):
            # Beyond the calendar, where nobody calls anybody.
            moment = None
        return at if moment is None else moment

    def put_off(self, number: str, at: float, anyway: float | None = None) -> float:
        """When it is tried again that nobody could make now. `anyway`: until then, every hour will do."""
        return self.planned(number, at + 60.0 * self.settings.put_off, anyway)

    def planned(self, number: str, at: float, anyway: float | None) -> float:
        """When what somebody has planned for `at` is made."""
        return at if anyway is not None and at < anyway else self.kind(number, at)

    def again(self, number: str, at: float, tries: int, anyway: float | None = None) -> float | None:
        """When they are tried again who were called in vain `tries` times, now; None: not by itself."""
        if tries >= self.settings.tries:
            return None
        pauses = self.settings.pauses
        return self.planned(number, at + 60.0 * pauses[min(tries, len(pauses)) - 1], anyway)

    def unanswered(self, number: str, at: float, anyway: float | None = None) -> float:
        """When the phone of an agent rings again who has let it ring."""
        return self.planned(number, at + 60.0 * self.settings.pauses[0], anyway)

    def _first(self, zones: Collection[ZoneInfo], at: float) -> float | None:
        moment = at
        while moment - at <= _HORIZON:
            later = max(self._opens(zone, moment) for zone in zones)
            if later == moment:
                return moment
            moment = later
        return None

    def _opens(self, zone: ZoneInfo, at: float) -> float:
        """`at` if it is within the hours there, else the next moment at which they begin."""
        local = datetime.fromtimestamp(at, UTC).astimezone(zone)
        minute = local.hour * 60 + local.minute
        begin = self.settings.begin
        if begin <= minute < self.settings.end:
            return at
        day = local.date() if minute < begin else local.date() + _DAY
        for fold in (0, 1):
            # Of an hour that comes twice, the one that is still to come.
            opening = datetime.combine(day, time(begin // 60, begin % 60, fold=fold), zone).timestamp()
            if opening > at:
                break
        return opening


@lru_cache(4096)
def zones_of(number: str) -> tuple[ZoneInfo, ...]:
    """The time zones in which somebody with this number (E.164) may be; none where nobody can say."""
    # Half a megabyte and 3 ms, for those who plan calls.
    from phonenumbers import timezone

    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        # An internal number: of a colleague.
        return ()
    return tuple(_zones(timezone.time_zones_for_number(parsed), timezone.UNKNOWN_TIMEZONE))


def _zones(names: Collection[str], unknown: str) -> Iterator[ZoneInfo]:
    for name in names:
        if name != unknown:
            try:
                yield ZoneInfo(name)
            except ZoneInfoNotFoundError:
                # This machine's database knows its neighbours in that country, or nobody.
                continue
