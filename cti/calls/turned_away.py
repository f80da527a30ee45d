"""The lists of numbers that are blocked and ignored: those of the configuration, and those that people add."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from cti.calls.log import CallLog
from cti.identify.lists import BLOCKED, IGNORED, LISTS, NumberList, wrong_with_pattern
from cti.settings import Identify
from cti.store.base import Unit
from cti.store.records import ListedNumber
from routing.decide import Action
from routing.words import quoted

#: As many as people add by hand; each call is compared with them by a few look-ups, however many there are.
MAX_LISTED = 100_000


class NotListed(Exception):
    """The number cannot be put onto the list, or taken off; the text says why."""


class TurnedAway:
    """Both lists as they are now.

    @ivar blocked: who is turned away.
    @ivar ignored: whom nobody looks for.
    """

    blocked = NumberList()
    ignored = NumberList()

    def __init__(self, calls: CallLog, settings: Identify, now: Callable[[], float]) -> None:
        self._calls = calls
        self._settings = settings
        self._now = now
        self._kept: dict[tuple[str, str], ListedNumber] = {}
        self._build()

    def use(self, settings: Identify) -> None:
        """This is the configuration from now on."""
        self._settings = settings
        self._build()

    def restore(self, kept: Iterable[ListedNumber]) -> None:
        """Those of the store."""
        self._kept = {(each.list, each.pattern): each for each in kept}
        self._build()

    @property
    def how(self) -> tuple[Action, str]:
        """What Asterisk is to do with who is blocked: the action and its target."""
        if self._settings.announce is not None:
            return Action.ANNOUNCE, self._settings.announce
        return Action.REJECT, str(self._settings.reject)

    def listed(self, list: str) -> tuple[Sequence[str], Sequence[ListedNumber]]:
        """What stands on this list: in the configuration, and in the store."""
        kept = [each for each in self._kept.values() if each.list == list]
        return self._configured[list], sorted(kept, key=lambda each: each.pattern)

    def add(self, unit: Unit, list: str, pattern: str, by: str, note: str | None) -> ListedNumber:
        """Put it onto the list, once `unit` is durable. Raises `NotListed`."""
        wrong = wrong_with_pattern(pattern)
        if wrong is not None:
            raise NotListed(f"{quoted(pattern)} {wrong}")
        if len(self._kept) >= MAX_LISTED and (list, pattern) not in self._kept:
            raise NotListed(f"there are {MAX_LISTED} numbers already; a prefix, such as +49900*, would be right")
        listed = ListedNumber(list, pattern, self._now(), by, note)
        unit.put_listed(listed)
        self._kept[list, pattern] = listed
        self._build()
        return listed

    def remove(self, unit: Unit, list: str, pattern: str) -> None:
        """Take it off the list, once `unit` is durable. Raises `NotListed`."""
        if (list, pattern) not in self._kept:
            where = "stands in the configuration" if pattern in self._configured[list] else "is not on the list"
            raise NotListed(f"{quoted(pattern)} {where}")
        unit.remove_listed(list, pattern)
        del self._kept[list, pattern]
        self._build()

    @property
    def _configured(self) -> Mapping[str, Sequence[str]]:
        return {BLOCKED: self._settings.blocked, IGNORED: self._settings.ignored}

    def _build(self) -> None:
        both = {
            list: NumberList([*self._configured[list], *(each.pattern for each in self.listed(list)[1])])
            for list in LISTS
        }
        self.blocked, self.ignored = both[BLOCKED], both[IGNORED]
