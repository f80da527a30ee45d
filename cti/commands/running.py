"""How a command waits for what needs a reactor."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from adapters.base import IAdapter
from cti.logs import aside

T = TypeVar("T")

#: What an adapter may take to start for a command.
START_SECONDS: Final = 10.0


def run(work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end, with the reactor only if it has to wait for something."""
    from twisted.internet import reactor

    running: Any = reactor
    results: list[Any] = []
    with aside():
        done = Deferred.fromCoroutine(work(running)).addBoth(results.append)
        if not results:
            done.addBoth(lambda _: running.stop())
            running.run()
            if not results:
                raise KeyboardInterrupt
    if isinstance(results[0], Failure):
        results[0].raiseException()
    result: T = results[0]
    return result


@asynccontextmanager
async def started(adapter: IAdapter, reactor: Any) -> AsyncIterator[None]:
    """An adapter, started for a command and stopped whatever happens. Raises `AdapterError`, `TimeoutError`."""
    try:
        await Deferred.fromCoroutine(adapter.start()).addTimeout(START_SECONDS, reactor)
        yield
    finally:
        await adapter.stop()
