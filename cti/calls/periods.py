"""What agents' time goes into, written down as it happens: a period for each state that somebody is in.

A period begins in the transaction that tells the new state. A sign of life every few seconds says until when what
is open was so: after a crash it is closed there, and what nobody has seen is in no period. Counting them is the
business of `cti.reports`.
"""

from collections.abc import Callable, Collection
from typing import Final

from attrs import define, evolve

from cti.agents.roster import AgentView, Roster
from cti.agents.states import Wish
from cti.calls.log import CallLog
from cti.store.base import IStore, Unit
from cti.store.records import LifeRecord, PeriodRecord

#: Seconds between two signs of life: by so much, at most, a period is cut short that was open in a crash.
SIGN_OF_LIFE: Final = 15.0
#: Seconds without one after which this process, frozen or its machine asleep, has seen nothing of what was.
FROZEN: Final = 4 * SIGN_OF_LIFE
#: A period that has lasted so long is closed, and the next begins.
LONGEST: Final = 3600.0


@define
class _Open:
    """What was written last of an agent; `state` is "" where it has to be written again."""

    state: str
    reason: str | None
    began: float


class Periods:
    """The periods that are open."""

    def __init__(self, *, calls: CallLog, store: IStore, roster: Roster, now: Callable[[], float]) -> None:
        self._calls = calls
        self._store = store
        self._roster = roster
        self._now = now
        self._open: dict[str, _Open] = {}
        self._life: LifeRecord | None = None

    def start(self) -> Unit:
        """Close what was open when the server died, and begin with everybody's present state."""
        before, now = self._store.last_life(), self._now()
        unit = self._calls.unit()
        for period in self._store.open_periods():
            unit.end_period(period.agent, period.began if before is None else before.seen)
        self._life = LifeRecord(now, now)
        unit.put_life(self._life)
        self._keep_up(unit, now)
        return unit

    def sign_of_life(self) -> Unit | None:
        """What has to be written every `SIGN_OF_LIFE` seconds; None before the start."""
        if self._life is None:
            return None
        unit, now = self._calls.unit(), self._now()
        if not 0.0 <= now - self._life.seen <= FROZEN:
            # The clock was set, or nobody could see anything: neither is anybody's doing.
            for agent in self._open:
                unit.end_period(agent, self._life.seen)
            self._open.clear()
            self._life = LifeRecord(now, now)
        self._life = evolve(self._life, seen=now)
        unit.put_life(self._life)
        self._keep_up(unit, now)
        return unit

    def stop(self) -> Unit | None:
        """The server stops, and nobody looks any more. None before the start."""
        if self._life is None:
            return None
        unit, now = self._calls.unit(), self._now()
        for agent in self._open:
            unit.end_period(agent, now)
        unit.put_life(evolve(self._life, seen=max(now, self._life.seen)))
        self._open.clear()
        self._life = None
        return unit

    def news(self, unit: Unit, at: float, view: AgentView) -> None:
        """An agent's state has become another, in this transaction."""
        if self._life is not None:
            self._put(unit, at, view.id, view.state, view.reason)

    def lost(self, agents: Collection[str]) -> None:
        """What was to be written of them was not: the next sign of life says it again."""
        for agent in agents:
            self._open.setdefault(agent, _Open("", None, self._now())).state = ""

    def _keep_up(self, unit: Unit, now: float) -> None:
        """Whatever was not told, or lasts for long: who has come or gone by a command, and who does what they did."""
        views = {view.id: view for view in self._roster.views()}
        for view in views.values():
            known = self._open.get(view.id)
            if known is not None and now - known.began >= LONGEST:
                known.state = ""
            self._put(unit, now, view.id, view.state, view.reason)
        for gone in self._open.keys() - views.keys():
            del self._open[gone]
            unit.end_period(gone, now)

    def _put(self, unit: Unit, at: float, agent: str, state: str, reason: str | None) -> None:
        reason = reason if state == Wish.PAUSED else None
        known = self._open.get(agent)
        if state == Wish.LOGGED_OUT:
            if known is not None:
                del self._open[agent]
                unit.end_period(agent, max(at, known.began))
        elif known is None or (known.state, known.reason) != (state, reason):
            # The clock may have been set back a little: one period after the other all the same.
            began = at if known is None else max(at, known.began)
            self._open[agent] = _Open(state, reason, began)
            unit.put_period(PeriodRecord(agent, began, state, reason))
