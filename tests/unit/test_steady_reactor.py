"""Timers while the system's clock is set."""

from collections.abc import Iterator

import pytest

from cti.steady_reactor import SteadyReactor

NOON = 1_795_400_000.0


class Reactor(SteadyReactor):
    """One whose clocks a test moves."""

    set_by = 0.0
    passed = 0.0

    def wall(self) -> float:
        return NOON + self.passed + self.set_by

    def steady(self) -> float:
        return self.passed


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.removeAll()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("step", [-3600.0, 3600.0, -0.3])
def test_timers_come_when_their_time_has_passed_whatever_the_clock_says(
    reactor: Reactor, step: float
) -> None:
    came: list[float] = []
    for delay in (1.0, 2.0, 5.0):
        reactor.callLater(delay, came.append, delay)  # type: ignore[no-untyped-call]
    reactor.callLater(1.5, came.append, 1.5).cancel()  # type: ignore[no-untyped-call]
    reactor.runUntilCurrent()  # type: ignore[no-untyped-call]

    reactor.passed, reactor.set_by = 1.0, step
    reactor.runUntilCurrent()  # type: ignore[no-untyped-call]
    assert came == [1.0]
    assert reactor.seconds() == NOON + 1.0 + step
    # One that is made on the new clock has its own time.
    reactor.callLater(0.5, came.append, 0.5)  # type: ignore[no-untyped-call]
    reactor.passed = 1.6
    reactor.runUntilCurrent()  # type: ignore[no-untyped-call]
    assert came == [1.0, 0.5]
    reactor.passed = 5.1
    reactor.runUntilCurrent()  # type: ignore[no-untyped-call]
    assert came == [1.0, 0.5, 2.0, 5.0]


def test_a_clock_that_is_slewed_moves_nothing(reactor: Reactor) -> None:
    came: list[str] = []
    reactor.callLater(10.0, came.append, "due")  # type: ignore[no-untyped-call]
    for _ in range(20):
        reactor.passed += 0.4
        reactor.set_by += 0.1
        reactor.runUntilCurrent()  # type: ignore[no-untyped-call]
    assert came == ["due"]
