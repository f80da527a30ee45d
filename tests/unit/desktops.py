"""Builders for tests about the agents' desktop: what stands behind it, around a house with one call."""

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from twisted.internet.defer import Deferred, succeed

from cti.calls.callbacks import Callbacks
from cti.calls.calling_times import CallingTimes
from cti.calls.control import Control
from cti.calls.desk import Desk
from cti.calls.due_calls import DueCalls
from cti.calls.finder import Finder
from cti.calls.late_cards import LateCards
from cti.calls.painting import Painting
from cti.calls.parties import Parties
from cti.calls.written import Written
from cti.dialling import DiallingRules
from cti.identify.identification import Identification
from cti.identify.identifier import Identifier
from cti.numbers import Number, NumberPlan
from cti.settings import CallbackSettings, CallControl, Desk as DeskSettings
from cti.store.base import CallDetail
from cti.web.services import Desktop
from tests.unit.test_tracker import House

PLAN = NumberPlan("DE")


class StillPbx:
    """An Asterisk at which everything is possible that a test says."""

    def __init__(self) -> None:
        self.can: frozenset[str] = frozenset({"hold", "transfer", "clear"})

    def possible(self, _agent: str) -> frozenset[str]:
        return self.can


class Behind:
    """Everything behind the desktop; `details` is what the log has, `painted` what was measured."""

    def __init__(self, house: House | None = None) -> None:
        self.house = house = house or House()
        self.details: dict[str, CallDetail] = {}
        self.owed: dict[str, int] = {}
        self.watched: set[str] = set()
        self.painted: list[float] = []
        self.pbx = StillPbx()
        self.times = CallingTimes(CallbackSettings(), ZoneInfo("Europe/Berlin"))
        self.settings = DeskSettings(pause_reasons=("lunch",))
        store: Any = house.store
        store.call = self._detail
        store.count_unwritten = lambda agent: self.owed.get(agent, 0)
        store.unwritten = self._unwritten
        self.control = Control(
            calls=house.calls,
            tracker=house.tracker,
            roster=house.roster,
            services=lambda: house.services,
            identifier=lambda: house,  # type: ignore[arg-type, return-value]
            pbxes={"main": self.pbx},  # type: ignore[dict-item]
            mirrors=house.channels,
            now=house.clock.seconds,
            settings=CallControl(DiallingRules(PLAN)),
            card_url=None,
            observe=lambda operation, outcome: None,
            writing_up=house.writing_up,
            late=lambda call, found: None,
        )
        self.painting = Painting(
            calls=house.calls,
            clock=house.clock,
            watched=lambda agent: agent in self.watched,
            measure=self,
            written_up=house.writing_up.call,
        )
        self.written = Written(
            calls=house.calls,
            writing_up=house.writing_up,
            services=lambda: house.services,
            now=house.clock.seconds,
            confirm=lambda *party: self.finder.confirmed(*party),
            chosen=lambda call, party: self.late_cards.chosen(call, party),
        )
        self.desk = Desk(
            calls=house.calls,
            roster=house.roster,
            services=lambda: house.services,
            control=self.control,
            writing_up=house.writing_up,
            store=store,
            settings=lambda: self.settings,
            newest=lambda: 41,
            missed=lambda agent: self.callbacks.count(agent),
            now=house.clock.seconds,
            keys=lambda: self.finder.kinds.values(),
        )

        self.callbacks = Callbacks(
            calls=house.calls,
            store=store,
            roster=house.roster,
            services=lambda: house.services,
            control=self.control,
            times=lambda: self.times,
            now=house.clock.seconds,
        )
        self.due_calls = DueCalls(
            callbacks=self.callbacks,
            calls=house.calls,
            roster=house.roster,
            times=lambda: self.times,
            now=house.clock.seconds,
        )
        self.adapters: dict[str, Any] = {}
        self.sensitive: set[str] = set()
        self.looked_up: list[tuple[str, str]] = []
        self.finder = Finder(
            adapters=lambda: self.adapters,
            identify=lambda number: self.identify(number),
            owners=house.roster.owner_of,
            settle=lambda number, parties: self.identifier().settle(number, parties),
            sensitive=lambda: self.sensitive,
            is_open=lambda adapter: False,
            clock=house.clock,
            observe=lambda adapter, outcome, seconds: self.looked_up.append((adapter, str(outcome))),
        )
        self.late_cards = LateCards(
            calls=house.calls, finder=self.finder, services=lambda: house.services, now=house.clock.seconds
        )
        self.forgotten: list[tuple[str, str]] = []
        self.parties = Parties(
            adapters=lambda: self.adapters,
            calls=house.calls,
            writing_up=house.writing_up,
            written=self.written,
            services=lambda: house.services,
            forget=lambda adapter, number: self.forgotten.append((adapter, number)),
        )
        store.callbacks = lambda where, limit, after=None: succeed(([], None))
        store.callback = lambda id: None
        house.calls.on_news(self.callbacks.news)

    @property
    def desktop(self) -> Desktop:
        return Desktop(
            self.desk,
            self.painting,
            self.written,
            self.house.writing_up,
            self.callbacks,
            self.parties,
            self.finder,
        )

    async def identify(self, number: Number, late: Any = None) -> Identification:
        """Who has a number, of the adapters that are there now."""
        return await self.identifier().identify(number)

    def identifier(self) -> Identifier:
        return Identifier(
            self.adapters, self.house.clock, owners=self.house.roster.owner_of, plan=NumberPlan("DE")
        )

    def card_painted(self, seconds: float) -> None:
        self.painted.append(seconds)

    def _detail(self, id: str) -> "Deferred[CallDetail | None]":
        return succeed(self.details.get(id))

    def _unwritten(
        self, _agent: str, limit: int, _after: str | None = None
    ) -> "Deferred[tuple[Sequence[CallDetail], str | None]]":
        return succeed((list(self.details.values())[:limit], None))


def settled(work: Any) -> Any:
    """What a coroutine gave, or its error raised; it must not wait for anything."""
    outcome: list[Any] = []
    Deferred.fromCoroutine(work).addBoth(outcome.append)
    (found,) = outcome
    return found.raiseException() if hasattr(found, "raiseException") else found
