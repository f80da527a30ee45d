"""Cards as browsers paint them: each is told once, measured, and may be waited for before a phone rings."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from cti.calls.control import CallUnknown
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.store.records import CardRecord


class PaintMeasures(Protocol):
    """What is measured; the metrics' names are in `cti.metrics`."""

    def card_painted(self, seconds: float) -> None: ...


class Painting:
    """Which cards have been painted, and which calls wait for one."""

    def __init__(
        self,
        *,
        calls: CallLog,
        clock: Any,
        watched: Callable[[str], bool],
        measure: PaintMeasures,
        written_up: Callable[[str], LiveCall | None],
    ) -> None:
        """`watched(agent)`: whether they have a desktop open. `written_up(id)`: a call that is over, and in hand."""
        self._calls = calls
        self._clock = clock
        self._watched = watched
        self._measure = measure
        self._written_up = written_up
        self._waiting: dict[str, list[Deferred[None]]] = {}

    async def painted(self, agent: str, id: str, attempt: int) -> None:
        """A browser of this agent's has painted the card of this attempt. Only the first time is news.

        Raises `CallUnknown` for a call that they were never offered, and `StoreError`.
        """
        call = self._calls.get(id) or self._written_up(id)
        if call is None or not _was_offered(call, agent):
            raise CallUnknown("there is no card of this call on your desktop")
        card = call.cards.get(agent)
        if card is None or card.attempt != attempt or card.shown is not None:
            # Withdrawn on its way here, or painted by another browser of theirs.
            return
        at = self._clock.seconds()
        card.shown = at
        for waiting in self._waiting.pop(id, []):
            waiting.callback(None)
        self._measure.card_painted(at - card.offered)
        unit = self._calls.unit()
        unit.put_card(card)
        unit.emit(
            "card.shown",
            at,
            {"call": call.brief(), "agent": agent, "attempt": attempt},
            call=id,
            agents=(agent,),
        )
        await self._calls.commit(unit)

    async def wait(self, call: LiveCall, agents: Collection[str], seconds: float) -> None:
        """Until a browser of one of these agents has painted the card, at most so long; not where there is none."""
        cards = [card for agent in agents if (card := call.cards.get(agent)) is not None]
        if seconds <= 0 or not any(self._watched(card.agent) for card in cards) or any(map(_shown, cards)):
            return
        painted: Deferred[None] = Deferred()
        waiting = self._waiting.setdefault(call.id, [])
        waiting.append(painted)
        late = self._clock.callLater(seconds, painted.callback, None)
        try:
            await painted
        finally:
            # Also where whoever waited has been given up.
            if late.active():
                late.cancel()
            if painted in waiting:
                waiting.remove(painted)
            if not waiting and self._waiting.get(call.id) is waiting:
                del self._waiting[call.id]


def _shown(card: CardRecord) -> bool:
    return card.shown is not None


def _was_offered(call: LiveCall, agent: str) -> bool:
    return call.record.agent == agent or any(agent in segment.agents for segment in call.segments)
