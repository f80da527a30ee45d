"""How a command waits for what needs a reactor."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.logs import aside

T = TypeVar("T")


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
