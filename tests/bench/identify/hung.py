"""1,000 identifications at 50 a second while one adapter hangs and one fails, and with a healthy one alone.

    python -m tests.bench.identify.hung [--questions N] [--per-second N]

On the real reactor. The healthy adapter is a CRM that takes 5 ms, and knows every second caller. Two rounds: alone,
and beside an adapter that never answers and one that always fails. Ends with 1 if an answer overran the budget.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from adapters.base import AdapterContext, AdapterHealth, Capability, IAdapter, Party
from adapters.testing import FailingAdapter, FailingOptions, HangingAdapter, NoOptions
from cti.identify.identification import Identification
from cti.identify.identifier import Identifier
from cti.identify.options import BUDGET
from cti.numbers import Number, NumberPlan

PLAN: Final = NumberPlan("DE")
#: Seconds that the healthy adapter takes.
HEALTHY: Final = 0.005


class Healthy:
    """A CRM that answers after a moment, and knows every number that ends in an even digit."""

    name = "healthy"
    capabilities = frozenset({Capability.IDENTIFY})

    def __init__(self, clock: Any, seconds: float = HEALTHY) -> None:
        self._clock = clock
        self._seconds = seconds

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=True)

    async def identify(self, number: Number) -> Sequence[Party]:
        await deferLater(cast(IReactorTime, self._clock), self._seconds)
        e164 = number.e164 or ""
        return [Party(self.name, "contact", e164, "Somebody")] if int(e164[-1]) % 2 == 0 else []


@define
class Round:
    """What came of many identifications: how long each took, in ms, and what each adapter did."""

    known: list[float] = field(factory=list)
    unknown: list[float] = field(factory=list)
    outcomes: dict[str, Counter[str]] = field(factory=dict)

    def take(self, found: Identification) -> None:
        (self.known if found.parties else self.unknown).append(found.ms)
        for each in found.adapters:
            self.outcomes.setdefault(each.adapter, Counter())[each.outcome.value] += 1

    @property
    def all(self) -> list[float]:
        return sorted(self.known + self.unknown)


def the_adapters(clock: Any, *, neighbours: bool) -> dict[str, IAdapter]:
    """The healthy one, and with `neighbours` one that hangs and one that fails before it."""
    context = AdapterContext(Path(), PLAN, clock)
    healthy: dict[str, IAdapter] = {"healthy": Healthy(clock)}
    if not neighbours:
        return healthy
    return {
        "hanging": HangingAdapter("hanging", NoOptions(), context),
        "failing": FailingAdapter("failing", FailingOptions(), context),
        **healthy,
    }


def ask_many(
    clock: Any, adapters: Mapping[str, IAdapter], count: int, per_second: float
) -> "Deferred[Round]":
    """Each asked as a call asks, at its moment, whatever became of those before; no two for one number."""
    identifier = Identifier(adapters, clock, owners=lambda adapter, user: None, plan=PLAN)
    result, done = Round(), Deferred[Round]()

    def ended(found: Identification) -> None:
        result.take(found)
        if len(result.all) == count:
            identifier.close()
            done.callback(result)

    def ask(number: int) -> None:
        asked = identifier.identify(PLAN.parse(f"+4930{23125000 + number}"), lambda late: None)
        Deferred.fromCoroutine(asked).addCallbacks(ended, done.errback)

    for number in range(count):
        clock.callLater(number / per_second, ask, number)
    return done


def at(values: Sequence[float], share: float) -> float:
    """The value below which this share of the sorted values is."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def told(name: str, taken: Round) -> str:
    """A line for each: all of them, those of known and of unknown callers; and what the adapters did."""
    lines = [f"{name}:"]
    for what, values in (
        ("all", taken.all),
        ("known", sorted(taken.known)),
        ("unknown", sorted(taken.unknown)),
    ):
        figures = "  ".join(f"{label} {at(values, share):8.1f}" for label, share in _SHARES)
        lines.append(f"  {what:8} {len(values):5}  {figures} ms")
    lines += [f"  {adapter:8} {dict(counts)}" for adapter, counts in taken.outcomes.items()]
    return "\n".join(lines)


_SHARES: Final = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--per-second", type=float, default=50.0)
    arguments = parser.parse_args()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    overran: list[float] = []

    async def rounds() -> None:
        for name, neighbours in (("alone", False), ("beside one that hangs and one that fails", True)):
            adapters = the_adapters(reactor, neighbours=neighbours)
            taken = await ask_many(reactor, adapters, arguments.questions, arguments.per_second)
            print(told(name, taken), flush=True)
            # The reactor's own lateness is not the adapters'.
            overran.extend(ms for ms in taken.all if ms > BUDGET * 1000 + 50)
        print(f"beyond the budget of {BUDGET * 1000:.0f} ms: {len(overran)}")

    Deferred.fromCoroutine(rounds()).addErrback(lambda failure: failure.printTraceback()).addBoth(
        lambda _: reactor.stop()
    )
    reactor.run()
    return 1 if overran else 0


if __name__ == "__main__":
    raise SystemExit(main())
