"""Work within a time: whoever takes longer is cancelled, and says so in one way.

What is waited for, and what becomes of its connection, is left to who asks.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from adapters.base import AdapterError, AdapterReactor, AdapterTimeout

T = TypeVar("T")


async def within(reactor: AdapterReactor, seconds: float, doing: Coroutine[Any, Any, T], who: str = "") -> T:
    """What it gives. Raises ``AdapterTimeout`` after ``seconds``; ``who`` did not answer.

    What is cancelled ends as cancelled, or as out of time, whatever it says itself: a Twisted that is stopped while
    it looks up a name says that there is none.
    """
    stopped = False

    def stop(_: object = None) -> None:
        nonlocal stopped
        stopped = True
        working.cancel()

    working: Deferred[T] = Deferred.fromCoroutine(doing)
    outcome: Deferred[T] = Deferred(stop)
    working.chainDeferred(outcome)
    out_of_time = reactor.callLater(seconds, stop)
    try:
        return await outcome
    except (CancelledError, AdapterError) as error:
        if not stopped:
            raise
        if not out_of_time.active():
            raise AdapterTimeout(f"{who} gave no answer within {seconds:g} s".strip()) from None
        raise CancelledError from error
    finally:
        if out_of_time.active():
            out_of_time.cancel()
