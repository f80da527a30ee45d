"""What adapters answered a moment ago, hits and misses: a caller who is asked about again costs no second question.

Bounded, and never older than it was told to keep; who creates or edits a party says so here.
"""

from collections import OrderedDict

from attrs import define, field

from adapters.base import Party
from cti.identify.options import CacheSettings

Parties = tuple[Party, ...]


@define
class Cache:
    """Answers by adapter and number (E.164), the oldest going first when there are too many."""

    settings: CacheSettings = field(factory=CacheSettings)
    _answers: OrderedDict[tuple[str, str], tuple[float, Parties]] = field(factory=OrderedDict, init=False)

    def get(self, adapter: str, number: str, now: float) -> tuple[Parties, float] | None:
        """What the adapter answered, `()` if it knew nobody, and how many seconds ago; None if nothing is known."""
        kept = self._answers.get((adapter, number))
        if kept is None:
            return None
        at, parties = kept
        # The clock may be set back.
        if not 0 <= now - at < self._seconds(parties):
            del self._answers[adapter, number]
            return None
        return parties, now - at

    def put(self, adapter: str, number: str, parties: Parties, now: float) -> None:
        if self._seconds(parties) <= 0 or self.settings.entries < 1:
            return
        self._answers[adapter, number] = now, parties
        self._answers.move_to_end((adapter, number))
        while len(self._answers) > self.settings.entries:
            self._answers.popitem(last=False)

    def forget(self, adapter: str | None = None, number: str | None = None) -> None:
        """A party of this adapter, or with this number, is another one now; without either, anything may be."""
        if adapter is not None and number is not None:
            self._answers.pop((adapter, number), None)
            return
        for key in [key for key in self._answers if adapter in (None, key[0]) and number in (None, key[1])]:
            del self._answers[key]

    def __len__(self) -> int:
        return len(self._answers)

    def _seconds(self, parties: Parties) -> float:
        return self.settings.seconds if parties else self.settings.misses_seconds
