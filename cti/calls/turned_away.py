"""The lists of numbers that are blocked and ignored: those of the configuration, and those that people add."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from attrs import field, frozen

from cti.calls.log import CallLog
from cti.identify.lists import BLOCKED, IGNORED, NumberList, wrong_with_pattern
from cti.numbers import Number
from cti.settings import Identify
from cti.store.records import ListedNumber
from routing.decide import Action, Decision
from routing.words import quoted

#: As many as people add by hand; for whole ranges there are prefixes.
MAX_LISTED: Final = 10_000
BECAUSE: Final = "blocked: the caller is on the list of blocked numbers"


class NotListed(Exception):
    """The number cannot be put onto the list, or taken off; the text says why."""


@frozen
class Lists:
    """Both lists at one moment. `ignored`: nobody looks for them; `blocked`: they are turned away."""

    settings: Identify = field(factory=Identify)
    kept: Sequence[ListedNumber] = ()
    ignored: NumberList = field(init=False)
    blocked: NumberList = field(init=False)

    @ignored.default
    def _all_ignored(self) -> NumberList:
        return NumberList([*self.settings.ignored, *self._of(IGNORED)])

    @blocked.default
    def _all_blocked(self) -> NumberList:
        return NumberList([*self.settings.blocked, *self._of(BLOCKED)])

    def refusal(self, caller: Number) -> Decision | None:
        """The decision for who is blocked, whatever the rules say; None for everybody else."""
        if caller.e164 is None or caller.e164 not in self.blocked:
            return None
        action, target = Action.REJECT, self.settings.reject
        if self.settings.announce is not None:
            action, target = Action.ANNOUNCE, self.settings.announce
        return Decision(action, (), target, 0, None, BECAUSE, ())

    def _of(self, list: str) -> Iterable[str]:
        return (each.pattern for each in self.kept if each.list == list)


class TurnedAway:
    """The lists as they are now.

    @ivar lists: what is asked at each call.
    """

    def __init__(self, calls: CallLog, settings: Identify, now: Callable[[], float]) -> None:
        self.lists = Lists(settings)
        self._calls = calls
        self._now = now

    def use(self, settings: Identify) -> None:
        """This is the configuration from now on."""
        self.lists = Lists(settings, self.lists.kept)

    def restore(self, kept: Iterable[ListedNumber]) -> None:
        """Those of the store."""
        self.lists = Lists(self.lists.settings, tuple(kept))

    def forget(self, numbers: Collection[str]) -> None:
        """These are somebody's who is erased."""
        self.restore(each for each in self.lists.kept if each.pattern not in numbers)

    def listed(self, list: str) -> tuple[Sequence[str], Sequence[ListedNumber]]:
        """What stands on this list: in the configuration, and in the store."""
        return self._configured[list], [each for each in self.lists.kept if each.list == list]

    async def add(self, list: str, pattern: str, by: str, note: str | None) -> ListedNumber:
        """Put it onto the list; it is durable when this returns. Raises `NotListed`, `StoreError`."""
        wrong = wrong_with_pattern(pattern)
        if wrong is not None:
            raise NotListed(f"{quoted(pattern)} {wrong}")
        if len(self._others(list, pattern)) >= MAX_LISTED:
            raise NotListed(
                f"there are {MAX_LISTED} numbers already; a prefix, such as +49900*, would be right"
            )
        listed = ListedNumber(list, pattern, self._now(), by, note)
        unit = self._calls.unit()
        unit.put_listed(listed)
        await self._calls.commit(unit)
        self.restore(
            sorted([*self._others(list, pattern), listed], key=lambda each: (each.list, each.pattern))
        )
        return listed

    async def remove(self, list: str, pattern: str) -> None:
        """Take it off the list; that is durable when this returns. Raises `NotListed`, `StoreError`."""
        if len(self._others(list, pattern)) == len(self.lists.kept):
            where = (
                "stands in the configuration" if pattern in self._configured[list] else "is not on the list"
            )
            raise NotListed(f"{quoted(pattern)} {where}")
        unit = self._calls.unit()
        unit.remove_listed(list, pattern)
        await self._calls.commit(unit)
        self.restore(self._others(list, pattern))

    def _others(self, list: str, pattern: str) -> Sequence[ListedNumber]:
        return [each for each in self.lists.kept if (each.list, each.pattern) != (list, pattern)]

    @property
    def _configured(self) -> Mapping[str, Sequence[str]]:
        return {BLOCKED: self.lists.settings.blocked, IGNORED: self.lists.settings.ignored}
