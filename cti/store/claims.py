"""Which server holds an agent, of several on a PostgreSQL: a lock of the database's for each, which one of them has.

The locks are those of a session (`pg_try_advisory_lock`): to have one is decided at once and for all servers, and a
server that is gone leaves none behind. They say nothing but that; the reservations themselves are the store's. While
the database cannot be reached nobody can be asked, and each server goes by what it knows itself: a caller does not
wait for that, and a phone that is in use tells every server that sees it.
"""

import time
from collections.abc import Callable, Collection
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

import psycopg
from twisted.internet.defer import Deferred

from cti.logs import get_logger
from cti.store.base import StoreError
from cti.store.postgresql import LEFT_ALONE, connect

log = get_logger("cti.store.claims")

#: Seconds within which the database says who has an agent.
SECONDS: Final = 0.5
#: What these locks begin with, among those of other programs.
_KEY: Final = "hashtextextended('cordboard/agent/' || %s, 0)"

_NOBODY: Final[frozenset[str]] = frozenset()


class Claims:
    """The agents whom this server holds. Used in the reactor; the database is asked in a thread of its own."""

    def __init__(self, url: str, reactor: Any) -> None:
        self._url = url
        self._reactor = reactor
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="cti claims", daemon=True)
        # In the thread.
        self._connection: psycopg.Connection[Any] | None = None
        self._mine: set[str] = set()
        self._left_alone_until = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        # The locks go with the connection.
        self._work.put(None)
        self._thread.join(5)

    def take(self, agents: Collection[str]) -> "Deferred[frozenset[str]]":
        said: Deferred[frozenset[str]] = Deferred()
        wanted = tuple(agents)
        self._work.put(lambda: self._tell(said, self._take(wanted)))
        return said.addTimeout(SECONDS, self._reactor, lambda *_: _NOBODY)

    def mirror(self, agent: str, held: bool) -> None:
        if held:
            self._work.put(lambda: self._keep(agent))
        else:
            self._work.put(lambda: self._give_back([agent]))

    # In the thread.

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except (psycopg.Error, StoreError) as error:
                self._lost(error)
        if self._connection is not None:
            self._connection.close()

    def _tell(self, said: "Deferred[frozenset[str]]", taken: frozenset[str]) -> None:
        def tell() -> None:
            if not said.called:
                said.callback(taken)

        self._reactor.callFromThread(tell)

    def _take(self, agents: Collection[str]) -> frozenset[str]:
        stale = self._connection is not None
        try:
            # Also where it need not be asked for these: those of before an outage are to be held again.
            self._connected()
            new = [agent for agent in dict.fromkeys(agents) if agent not in self._mine]
            got = [agent for agent in new if self._ask("pg_try_advisory_lock", agent)]
            self._mine |= {*got}
            taken = frozenset(new) - {*got}
            if taken:
                self._give_back(got)
            return taken
        except (psycopg.Error, StoreError) as error:
            self._lost(error)
            if stale:
                # It may have been lost long ago, as when the database was restarted: once more, with a new one.
                return self._take(agents)
            self._mine |= {*agents}
            return _NOBODY

    def _keep(self, agent: str) -> None:
        self._take([agent])

    def _give_back(self, agents: Collection[str]) -> None:
        for agent in agents:
            if agent in self._mine:
                self._mine.discard(agent)
                if self._connection is not None:
                    self._ask("pg_advisory_unlock", agent)

    def _ask(self, what: str, agent: str) -> bool:
        found = self._connected().execute(f"SELECT {what}({_KEY})", (agent,)).fetchone()
        return found is not None and bool(found[0])

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            if time.monotonic() < self._left_alone_until:
                raise StoreError("the database could not be reached a moment ago")
            try:
                self._connection = connect(self._url, SECONDS)
            except psycopg.Error:
                # From now on: it may have taken long to fail, and others wait behind this.
                self._left_alone_until = time.monotonic() + LEFT_ALONE
                raise
            for agent in self._mine:
                # Whoever got them meanwhile has them, too, until one of both lets go.
                self._ask("pg_try_advisory_lock", agent)
        return self._connection

    def _lost(self, error: Exception) -> None:
        if not isinstance(error, StoreError):
            log.warning("the database cannot be asked who holds an agent", why=type(error).__name__)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
