"""A thousand callers while one CRM hangs and one fails: on a clock turned by hand, as figures without a machine.

The same on a real reactor, with figures of its own: `python -m tests.bench.identify.hung`.
"""

from typing import Any

from twisted.internet.task import Clock

from adapters.testing import HangingAdapter
from cti.identify.options import BUDGET, PATIENCE, Asking
from tests.bench.identify.hung import HEALTHY, Round, ask_many, the_adapters

COUNT, PER_SECOND = 1000, 50.0


def a_round(*, neighbours: bool) -> tuple[Round, dict[str, Any]]:
    clock = Clock()
    adapters = the_adapters(clock, neighbours=neighbours)
    taken: list[Round] = []
    ask_many(clock, adapters, COUNT, PER_SECOND).addCallback(taken.append)
    while not taken:
        clock.advance(0.005)
    assert clock.getDelayedCalls() == [], "nothing is left to wait for"
    return taken[0], dict(adapters)


def test_every_answer_is_within_the_budget_and_none_is_slower_once_the_broken_ones_are_known() -> None:
    alone, _ = a_round(neighbours=False)
    beside, adapters = a_round(neighbours=True)

    assert len(beside.all) == COUNT
    assert len(beside.known) == len(alone.known) == COUNT / 2, "whom the healthy one knows is found"
    assert max(beside.known) <= (HEALTHY + PATIENCE) * 1000 + 10
    assert max(beside.unknown) <= BUDGET * 1000 + 10

    # Until five questions have waited for the whole budget, the one that hangs may still answer.
    slower = [ms for ms in beside.all if ms > max(alone.all) + 5]
    assert len(slower) <= (BUDGET + 0.1) * PER_SECOND + 1
    hanging: HangingAdapter = adapters["hanging"]
    assert len(hanging.asked) == Asking().concurrency
    assert hanging.cancelled == Asking().concurrency
    assert beside.outcomes["hanging"]["open"] >= COUNT - len(slower)
    assert beside.outcomes["failing"] == {"error": 5, "open": COUNT - 5}
    assert beside.outcomes["healthy"] == {"hit": COUNT / 2, "miss": COUNT / 2}
