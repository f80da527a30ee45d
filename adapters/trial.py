"""An adapter on trial: the CRM beside it as a bench, Twisted's reactor while it is asked, and what both are asked.

What the answers have to be is left to ``conformance``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from adapters.base import (
    AdapterContext,
    ChangePage,
    IAdapter,
    JournalEntry,
    ListedNumber,
    ListedParty,
    ListPage,
    NewTask,
    Party,
    PartyRef,
    PartyType,
    Written,
)
from cti.numbers import Number, NumberPlan

_T = TypeVar("_T")

#: After which an adapter that has not answered is taken for one that hangs.
ANSWER_SECONDS: Final = 30.0
_PAGES_LIMIT: Final = 100_000


class Bench:
    """The CRM beside its adapter, for one test: puts records there, looks at them, and makes the adapter.

    What it does may block: it is called while the reactor stands still. The attributes say what this CRM is like; who
    derives from it changes those that are different.
    """

    #: How numbers are written in this CRM.
    plan: NumberPlan = NumberPlan("DE")
    #: Forms in which numbers stand in the CRM, each of which has to be found by the number as a trunk sends it.
    numbers_as_typed: Sequence[str] = ("+49 152 28817386",)
    #: How many numbers a party has room for.
    numbers_held: int = 2
    #: What sorts of party it keeps; the first is the one that most tests use.
    types: Sequence[PartyType] = (PartyType.CONTACT,)
    #: Attributes of ``Party`` that come back as ``plant`` put them there.
    keeps: frozenset[str] = frozenset({"name"})
    #: A name with all that could mean something else on its way; a CRM that takes less has less in it.
    odd_name: str = '<b>Zoë</b> & Cie. "O\'Neill" 100%_* \\ {{7*7}} \u202eevil 😀 שלום'
    #: Whether ``identify`` finds companies by their switchboard's number itself; the phone index does it for all.
    finds_stems: bool = False
    #: How many parties a page of ``list`` has; with it, lists of several pages are tried. ``None``: too many.
    page: int | None = None
    #: Whether ``changes`` tells who is gone. If the CRM forgets that at once, the next whole list has to.
    tells_gone: bool = True
    #: How long the CRM itself may take until what is in it is found.
    settles: float = 0.0
    #: Whether ``break_it`` and ``mend`` do something.
    breakable: bool = False
    #: Whether ``journaled`` has the text of what was written.
    journal_keeps_text: bool = True
    #: Whether a call is a party's there, and so can become another's or be taken back.
    journals_of_parties: bool = True
    #: The CRM's user who owns what is planted, and does what is to be done; ``None``: there are none.
    user: str | None = None

    def make(self) -> IAdapter:
        """The adapter as configured for this CRM, not started. May be asked for several times."""
        raise NotImplementedError

    def plant(self, party: ListedParty) -> PartyRef:
        """Put the party with its numbers, as they are typed, into the CRM, by other means than the adapter.

        Their ``id`` is only a wish; which they have is what it answers.
        """
        raise NotImplementedError

    def remove(self, ref: PartyRef) -> None:
        """Take the party out again. Nothing happens if they are gone."""
        raise NotImplementedError

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        """Make the planted party like this one. For ``Capability.CHANGES`` and ``NUMBERS``."""
        raise NotImplementedError

    def key_of(self, ref: PartyRef) -> tuple[str, str]:
        """A key that the planted party alone has, such as ``("customer", "4711")``. For ``Capability.KEY``."""
        raise NotImplementedError

    def journaled(self, number: str) -> Sequence[str]:
        """The records of calls with this number (E.164) that the CRM holds, each as the text that people read."""
        raise NotImplementedError

    def notes(self, ref: PartyRef) -> Sequence[str]:
        """The notes that people read on the party. For ``Capability.NOTE``."""
        raise NotImplementedError

    def tasks(self, ref: PartyRef) -> Sequence[NewTask]:
        """What is to be done for the party. For ``Capability.TASK``."""
        raise NotImplementedError

    def break_it(self) -> None:
        """Make the CRM unreachable, as when its server is stopped."""
        raise NotImplementedError

    def mend(self) -> None:
        """Let it be reached again."""
        raise NotImplementedError


def a_context(base: Path, region: str = "DE") -> AdapterContext:
    """What an adapter is made with, in a directory of the test's own."""
    from twisted.internet import reactor

    return AdapterContext(base, NumberPlan(region), cast(Any, reactor))


def in_reactor(work: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any) -> _T:
    """What the coroutine gives or raises, while Twisted's reactor runs; ``AssertionError`` if it hangs.

    The reactor stands still before and afterwards, as between the tests of Twisted's own: others in the same
    process may use it.
    """
    reactor = _reactor()
    outcome: list[Any] = []

    def begin() -> None:
        def finish(result: Any) -> None:
            if not outcome:
                outcome.extend((result, deadline.active()))
                if deadline.active():
                    deadline.cancel()
                reactor.crash()

        def give_up() -> None:
            asked.cancel()
            # It may not have let go.
            finish(None)

        asked = Deferred.fromCoroutine(work(*arguments))
        deadline = reactor.callLater(ANSWER_SECONDS, give_up)
        asked.addBoth(finish)

    # What has happened while it stood still comes first.
    reactor.callLater(0, lambda: reactor.callLater(0, begin))
    reactor.run(installSignalHandlers=False)
    result, in_time = outcome
    require(in_time, f"an answer comes within {ANSWER_SECONDS:g} s")
    if isinstance(result, Failure):
        result.raiseException()
    return cast(_T, result)


@cache
def _reactor() -> Any:
    from twisted.internet import reactor as installed

    reactor = cast(Any, installed)

    # Its pool's threads would keep the process from ending; Python waits for this one before it looks for them.
    def end_threads() -> None:
        threading.main_thread().join()
        reactor.getThreadPool().stop()

    threading.Thread(target=end_threads, name="end of the reactor's threads").start()
    return reactor


def eventually(holds: Callable[[], bool], what: str, seconds: float | None = None) -> None:
    """Let the reactor run until it holds, looking at least once; else, ``AssertionError`` with what should be."""
    until = time.monotonic() + (ANSWER_SECONDS if seconds is None else seconds)
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(what)
        in_reactor(_a_moment)


async def _a_moment() -> None:
    await deferLater(_reactor(), 0.05)


def require(holds: object, sentence: str) -> None:
    """Fail with the sentence that the adapter owes. Works where assertions are switched off."""
    if not holds:
        raise AssertionError(sentence)


@frozen
class Held:
    """What the reactor watches for whom."""

    connections: frozenset[int]
    timers: frozenset[int]

    def __le__(self, before: Held) -> bool:
        return self.connections <= before.connections and self.timers <= before.timers


def held() -> Held:
    """What the reactor watches now."""
    reactor = _reactor()
    watched = (*reactor.getReaders(), *reactor.getWriters())
    return Held(frozenset(map(id, watched)), frozenset(map(id, reactor.getDelayedCalls())))


@define
class Trial:
    """An adapter started on a bench. What is planted by it is removed at its end."""

    bench: Bench
    adapter: Any
    _planted: list[PartyRef] = field(factory=list, init=False)

    def plant(self, name: str, *numbers: str, type: PartyType | None = None, **attributes: Any) -> PartyRef:
        ref = self.bench.plant(self.a_party(name, *numbers, type=type, **attributes))
        self._planted.append(ref)
        return ref

    def a_party(
        self, name: str, *numbers: str, type: PartyType | None = None, **attributes: Any
    ) -> ListedParty:
        wish = f"wish-{time.monotonic_ns():x}"
        party = Party(self.adapter.name, type or self.bench.types[0], wish, name, **attributes)
        return ListedParty(party, tuple(ListedNumber(number) for number in numbers))

    def made(self, party: Party) -> Party:
        """Remember somebody whom the adapter itself has put there."""
        self._planted.append(party.ref)
        return party

    def remove(self, ref: PartyRef) -> None:
        self.bench.remove(ref)
        if ref in self._planted:
            self._planted.remove(ref)

    def identified(self, e164: str) -> list[Party]:
        return list(in_reactor(self.adapter.identify, self.number(e164)))

    def who(self, e164: str) -> set[PartyRef]:
        return {party.ref for party in self.identified(e164)}

    def finds(self, e164: str, *refs: PartyRef) -> None:
        """These have the number, and nobody else has."""
        self.settles(
            lambda: self.who(e164) == set(refs), "identify answers all who have the number, and only them"
        )

    def settles(self, holds: Callable[[], bool], what: str) -> None:
        """It holds, at once or when the CRM has settled."""
        eventually(holds, what, self.bench.settles)

    def number(self, e164: str) -> Number:
        number = self.bench.plan.parse(e164)
        require(number.e164 == e164, "the suite's own numbers are read as they are written")
        return number

    def card(self, ref: PartyRef) -> Party | None:
        card: Party | None = in_reactor(self.adapter.card, ref)
        return card

    def search(self, words: str, limit: int = 20) -> list[Party]:
        return list(in_reactor(self.adapter.search, words, limit))

    def by_key(self, kind: str, value: str) -> list[Party]:
        return list(in_reactor(self.adapter.by_key, kind, value))

    def pages(self) -> Iterator[ListPage]:
        """All pages of the list, each asked for when it is taken."""
        after: str | None = None
        seen: set[str] = set()
        while True:
            page = self.page(after)
            yield page
            if (after := page.after) is None:
                return
            require(after not in seen, "each page of the list leads on: `after` does not come back")
            require(len(seen) < _PAGES_LIMIT, "the list has an end")
            seen.add(after)

    def page(self, after: str | None) -> ListPage:
        page: ListPage = in_reactor(self.adapter.list, after)
        return page

    def everybody(self) -> list[ListedParty]:
        return [listed for page in self.pages() for listed in page.parties]

    def mark(self) -> str:
        mark: str | None = None
        for at, page in enumerate(self.pages()):
            mark = page.mark if at == 0 else mark
        if mark is None:
            raise AssertionError("the first page of the list has the mark that changes are asked from")
        return mark

    def changes(self, mark: str) -> tuple[list[ListedParty], list[PartyRef], str]:
        """All that is different since the mark, and where to go on."""
        parties: list[ListedParty] = []
        gone: list[PartyRef] = []
        for _ in range(_PAGES_LIMIT):
            page = self.changed(mark)
            parties += page.parties
            gone += page.gone
            require(
                not page.more or page.mark != mark, "each page of changes leads on: its mark is another one"
            )
            mark = page.mark
            if not page.more:
                return parties, gone, mark
        raise AssertionError("the changes have an end")

    def changed(self, mark: str) -> ChangePage:
        page: ChangePage = in_reactor(self.adapter.changes, mark)
        return page

    def learns(self, mark: str, what: str, holds: Callable[[list[ListedParty], list[PartyRef]], bool]) -> str:
        """Changes since the mark say it; where to go on."""
        following = [mark]

        def told() -> bool:
            parties, gone, following[0] = self.changes(mark)
            return holds(parties, gone)

        self.settles(told, what)
        return following[0]

    def journal(self, entry: JournalEntry, written: Sequence[Written] = ()) -> list[Written]:
        return list(in_reactor(self.adapter.journal, entry, written))

    def close(self) -> None:
        for ref in self._planted:
            self.bench.remove(ref)
