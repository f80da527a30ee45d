"""What is done to one thing at a time, so that what was read is still true when something is written."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import define, field
from twisted.internet.defer import DeferredLock


@define
class _Queue:
    lock: DeferredLock = field(factory=DeferredLock)
    users: int = 0


class OneAtATime:
    """A lock for each key, there as long as somebody uses it: `async with alone(key)`."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        queue = self._queues.setdefault(key, _Queue())
        queue.users += 1
        try:
            await queue.lock.acquire()
            try:
                yield
            finally:
                queue.lock.release()
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[key]
