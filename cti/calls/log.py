"""The calls that live now, and the one way by which anything about a call becomes durable."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.agents.roster import AgentView
from cti.calls.life import LiveCall
from cti.logs import get_logger
from cti.store.base import IStore, StoreError, Unit
from cti.store.records import CallRecord, StoredEvent

log = get_logger("cti.calls")


class CallLog:
    """All calls between their first question and the end of their last channel.

    @ivar store: where they are written down.
    """

    def __init__(self, store: IStore, clock: Any, ended: Callable[[CallRecord], None]) -> None:
        """`clock` is the reactor's; `ended` is told of each call that is over, once it is durable."""
        self.store = store
        self._clock = clock
        self._ended = ended
        self._news: dict[str, tuple[float, AgentView]] = {}
        self._calls: dict[str, LiveCall] = {}
        self._channels: dict[tuple[str, str], LiveCall] = {}

    def restore(self) -> list[LiveCall]:
        """Take up the calls that were open when the server stopped."""
        restored = [LiveCall.restored(detail) for detail in self.store.open_calls()]
        for call in restored:
            self.keep(call)
        return restored

    def keep(self, call: LiveCall) -> None:
        """Know this call, and all its channels, from now on."""
        self._calls[call.id] = call
        for uniqueid in call.channels:
            self._channels[call.record.pbx, uniqueid] = call

    def get(self, id: str) -> LiveCall | None:
        return self._calls.get(id)

    def of_channel(self, pbx: str, uniqueid: str) -> LiveCall | None:
        return self._channels.get((pbx, uniqueid))

    def of_pbx(self, pbx: str) -> Iterable[LiveCall]:
        """The calls of one Asterisk; a copy, so that they may end meanwhile."""
        return [call for call in self._calls.values() if call.record.pbx == pbx]

    def __len__(self) -> int:
        return len(self._calls)

    def unit(self) -> Unit:
        return self.store.unit()

    def commit(self, unit: Unit) -> "Deferred[Sequence[StoredEvent]]":
        """Make it durable and show it: events are on the screens when this fires. Fails with `StoreError`."""
        self._tell_news(unit)
        return self.store.commit(unit)

    def agent_changed(self, view: AgentView) -> None:
        """An agent's state became another. It is told with whatever is written next, or by itself."""
        if not self._news:
            self._clock.callLater(0, self._write_news)
        self._news[view.id] = self._clock.seconds(), view

    def write(self, call: LiveCall, unit: Unit) -> None:
        """Make it durable without waiting. A failure is logged; the end of the call writes everything again."""
        written = self.commit(unit)
        if call.over and self._forget(call):
            written.addCallback(self._end_is_written, call.record)
        written.addErrback(self._not_written, call)

    def _write_news(self) -> None:
        if self._news:
            self.commit(self.unit()).addErrback(self._news_lost)

    def _tell_news(self, unit: Unit) -> None:
        for at, view in self._news.values():
            unit.emit(
                "agent.state",
                at,
                {"agent": view.id, "name": view.name, "state": view.state, "reason": view.reason},
                agents=(view.id,),
            )
        self._news.clear()

    def _news_lost(self, failure: Failure) -> None:
        _only_store_errors(failure)
        log.error("the agents' news could not be written", why=str(failure.value))

    def _end_is_written(self, events: Sequence[StoredEvent], record: CallRecord) -> None:
        self._ended(record)

    def _not_written(self, failure: Failure, call: LiveCall) -> None:
        _only_store_errors(failure)
        log.error("the call's news could not be written", call=call.id, why=str(failure.value))

    def _forget(self, call: LiveCall) -> bool:
        """Whether it was known until now."""
        for uniqueid in call.channels:
            if self._channels.get((call.record.pbx, uniqueid)) is call:
                del self._channels[call.record.pbx, uniqueid]
        return self._calls.pop(call.id, None) is not None


def _only_store_errors(failure: Failure) -> None:
    if not isinstance(failure.value, StoreError):
        failure.raiseException()
