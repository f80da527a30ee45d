"""A few connections to one database, each used by one thread at a time, for who must not block.

Everything has a deadline and can be given up: then the server is told to stop, the connection is ended, and who
waits has their answer at once. What a connection does is left to ``sql_server``.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThread
from twisted.python.threadpool import ThreadPool

from adapters.base import AdapterReactor, AdapterTimeout, AdapterUnavailable
from adapters.sql_server import Connection, ConnectionLost

T = TypeVar("T")
Work = Callable[[Connection], T]


class SqlPool:
    """At most ``size`` connections, opened when they are needed."""

    def __init__(
        self, reactor: AdapterReactor, name: str, connect: Callable[[], Connection], size: int
    ) -> None:
        self._reactor: Any = reactor
        self._name = name
        self._connect = connect
        self._size = size
        self._slots = DeferredSemaphore(size)
        self._idle: list[Connection] = []
        self._jobs: set[_Job] = set()
        self._threads: ThreadPool | None = None

    def start(self) -> None:
        # As many again for telling a server to stop what the others wait for.
        self._threads = ThreadPool(0, 2 * self._size, name=f"sql {self._name}")
        self._threads.start()

    async def stop(self) -> None:
        """Give everything up, and wait until no thread is left."""
        threads, self._threads = self._threads, None
        if threads is None:
            return
        idle, self._idle = self._idle, []
        for job in list(self._jobs):
            if (interrupt := job.give_up()) is not None:
                threads.callInThread(interrupt)
        for connection in idle:
            threads.callInThread(connection.close)
        await deferToThread(threads.stop)

    async def run(self, work: Work[T], *, seconds: float, repeatable: bool = True) -> T:
        """What ``work`` answers about a connection, in a thread. Raises ``AdapterError``.

        ``repeatable``: it may be done again if the connection, an old one, turns out to have ended.
        """
        doing: Deferred[T] = Deferred.fromCoroutine(cast(Any, self._with_a_slot(work, repeatable)))
        out_of_time = self._reactor.callLater(seconds, doing.cancel)
        try:
            return await doing
        except CancelledError:
            if not out_of_time.active():
                raise AdapterTimeout(f"no answer within {seconds:g} s") from None
            raise
        finally:
            if out_of_time.active():
                out_of_time.cancel()

    async def _with_a_slot(self, work: Work[T], repeatable: bool) -> T:
        await self._slots.acquire()
        if self._threads is None:
            self._slots.release()
            raise AdapterUnavailable("the adapter is stopped")
        threads = self._threads
        job = _Job(self._connect, self._idle.pop() if self._idle else None, repeatable)
        self._jobs.add(job)

        def given_up(_: object) -> None:
            if (interrupt := job.give_up()) is not None:
                threads.callInThread(interrupt)

        answer: Deferred[Any] = Deferred(given_up)

        def finished(_succeeded: bool, result: Any) -> None:
            self._jobs.discard(job)
            self._keep(job)
            # Not before: who was given up holds the slot for as long as their thread is busy.
            self._slots.release()
            if not answer.called:
                answer.callback(result)

        threads.callInThreadWithCallback(
            lambda succeeded, result: self._reactor.callFromThread(finished, succeeded, result), job.do, work
        )
        return await cast(Awaitable[T], answer)

    def _keep(self, job: _Job) -> None:
        connection = job.connection
        if connection is None:
            return
        if self._threads is not None and connection.usable and not job.is_given_up:
            self._idle.append(connection)
        elif self._threads is not None:
            self._threads.callInThread(connection.close)
        else:
            connection.close()


@define(eq=False)
class _Job:
    """One piece of work and the connection it has, if any; ``give_up`` is called by another thread than ``do``."""

    _connect: Callable[[], Connection]
    connection: Connection | None
    _repeatable: bool
    is_given_up: bool = False
    _lock: threading.Lock = field(factory=threading.Lock)

    def do(self, work: Work[T]) -> T:
        old = self.connection is not None
        try:
            return self._done(work)
        except ConnectionLost:
            if not old or not self._repeatable or self.is_given_up:
                raise
        # It ended while nobody used it; a server that was restarted ends all of them.
        self._drop()
        return self._done(work)

    def _done(self, work: Work[T]) -> T:
        if self.connection is None:
            connection = self._connect()
            with self._lock:
                self.connection = connection
        with self._lock:
            if self.is_given_up:
                raise AdapterTimeout("given up")
            connection = self.connection
        return work(connection)

    def _drop(self) -> None:
        with self._lock:
            connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def give_up(self) -> Callable[[], None] | None:
        """What has to be done, in a thread, so that it ends soon."""
        with self._lock:
            self.is_given_up = True
            return None if self.connection is None else self.connection.interrupt
