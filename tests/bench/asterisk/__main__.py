"""`python -m tests.bench.asterisk`: libraries, then delay, in one run of some minutes; a Markdown report.

What a busy machine spoils first are rates and tails; each part takes turns, so that ratios and differences
hold better. Parts may be named to run only some, `libraries` and `delay`; or `profile`, which samples the daemon.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from lab.tree import cache_directory
from tests.bench.asterisk import delay, libraries
from tests.bench.asterisk.rivals import ensure_rivals
from tests.bench.processes import cores


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.asterisk", description=__doc__)
    parser.add_argument("parts", nargs="*", default=["libraries", "delay"], metavar="PART")
    parser.add_argument("--rounds", type=int, default=5, help="of the libraries")
    parser.add_argument("--requests", type=int, default=3000, help="to each FastAGI server in each round")
    parser.add_argument("--events", type=int, default=60_000, help="to each AMI client in each round")
    parser.add_argument("--rates", type=int, nargs="+", default=[20, 80, 150], help="of calls a second")
    parser.add_argument("--seconds", type=float, default=10, help="of each rate and dialplan in each round")
    parser.add_argument("--call-rounds", type=int, default=2)
    parser.add_argument("--spared", action="store_true", help="with stasis.conf and disabledevents")
    options = parser.parse_args(arguments)
    # On a real disk: where /tmp is memory, flushing to it costs nothing.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache_directory()) as directory:
        work = Path(directory)
        if "libraries" in options.parts:
            _libraries(work, options.rounds, options.requests, options.events)
        if "delay" in options.parts:
            _delay(work, options.rates, options.call_rounds, options.seconds, spared=options.spared)
        if "profile" in options.parts:
            rate = options.rates[-1]
            _print(
                f"The daemon at {rate} calls/s",
                delay.profile(work / "profile", rate, int(rate * options.seconds), spared=options.spared),
            )


def _libraries(work: Path, rounds: int, requests: int, events: int) -> None:
    rivals, where = ensure_rivals(), cores()
    print(f"{rounds} rounds in turns; who is measured on core {where[0]}, the other side on core {where[1]}.")
    asked = libraries.requests(work, rivals, where, rounds, requests)
    _print(
        f"FastAGI, {requests:,} requests a round: 25 headers, 1 GET and 3 SET VARIABLE, 16 at once",
        libraries.table(asked, "requests"),
        libraries.goal(asked, 1),
    )
    for calls, what in ((True, "of whole calls, a quarter of them wanted"), (False, "all of them wanted")):
        told = libraries.events(rivals, where, rounds, events, calls=calls)
        _print(
            f"AMI, {events:,} events a round, {what}; three headers read of each wanted one",
            libraries.table(told, "events"),
            libraries.goal(told, 2.5),
        )


def _delay(work: Path, rates: Sequence[int], rounds: int, seconds: float, *, spared: bool) -> None:
    with closing(delay.Delay(work / "delay", spared=spared)) as laboratory:
        results = laboratory.measure(rates, rounds, seconds)
    how = "with stasis.conf and disabledevents" if spared else "as shipped"
    _print(f"Delay on a real Asterisk {how}, {rounds} rounds of {seconds:g} s", delay.table(results))


def _print(title: str, table: Sequence[str], *more: str) -> None:
    print(f"\n{title}\n", *table, "", *more, sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
