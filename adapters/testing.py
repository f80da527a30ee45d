"""For tests: the suite that any adapter is run through, and adapters that misbehave in one known way.

The latter are for whatever talks to adapters. Each is a kind that a test's own distribution can name as an entry
point; none of Cordboard's does, and no product code uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from adapters.base import AdapterContext, AdapterHealth, AdapterUnavailable, Capability, Party
from adapters.conformance import AdapterConformance as AdapterConformance, Bench as Bench
from cti.numbers import Number


@frozen
class NoOptions:
    """Nothing to configure."""


@frozen
class FailingOptions:
    """``message``: what the adapter says when it is asked."""

    message: str = "the CRM refuses to work"


@frozen
class SlowOptions:
    """``seconds``: how long the adapter takes; ``party``: the id of the one party it always finds."""

    seconds: float = 1.0
    party: str = "slow"


class _Fake:
    def __init__(self, name: str) -> None:
        self._name = name
        #: The E.164 numbers it was asked for.
        self.asked: list[str | None] = []
        #: How many questions were cancelled while it had not answered.
        self.cancelled = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.IDENTIFY})

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None

    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=True)


class HangingAdapter(_Fake):
    """Takes a question and never answers it."""

    options_class: ClassVar[type[NoOptions]] = NoOptions

    def __init__(self, name: str, options: NoOptions, context: AdapterContext) -> None:
        super().__init__(name)

    async def identify(self, number: Number) -> Sequence[Party]:
        self.asked.append(number.e164)
        try:
            await Deferred()
        except CancelledError:
            self.cancelled += 1
            raise
        return ()


class FailingAdapter(_Fake):
    """Answers every question with ``AdapterUnavailable``, and says that it is down."""

    options_class: ClassVar[type[FailingOptions]] = FailingOptions

    def __init__(self, name: str, options: FailingOptions, context: AdapterContext) -> None:
        super().__init__(name)
        self._message = options.message

    async def identify(self, number: Number) -> Sequence[Party]:
        self.asked.append(number.e164)
        raise AdapterUnavailable(self._message)

    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=False, detail=self._message)


class SlowAdapter(_Fake):
    """Finds one party, after a while."""

    options_class: ClassVar[type[SlowOptions]] = SlowOptions

    def __init__(self, name: str, options: SlowOptions, context: AdapterContext) -> None:
        super().__init__(name)
        self._options = options
        self._reactor = cast(IReactorTime, context.reactor)

    async def identify(self, number: Number) -> Sequence[Party]:
        self.asked.append(number.e164)
        try:
            await deferLater(self._reactor, self._options.seconds)
        except CancelledError:
            self.cancelled += 1
            raise
        return [Party(self.name, "contact", self._options.party, "Somebody slow")]
