"""FastAGI requests and AMI events a second of ours and of other libraries, in turns on one core."""

import json
import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

from attrs import define, field

from cti.calls.tracker import WANTED
from lab.daemon import ROOT
from lab.ports import PortBlock
from lab.processes import DIES_WITH_US, end, eventually, start
from tests.bench.asterisk.rivals import CONTENDERS, OURS, command
from tests.bench.processes import Loader, listens, on_core

_IN_FLIGHT: Final = 16
_EVENT_SECONDS: Final = 120


@define
class Result:
    """What one contender did: units a second and CPU microseconds a unit, a round each."""

    rates: list[float] = field(factory=list)
    cpu_us: list[float] = field(factory=list)


Results = dict[str, Result]


def requests(work: Path, rivals: Path, cores: tuple[int, int], rounds: int, count: int) -> Results:
    """FastAGI: `count` requests to each server in each round."""
    results = {contender: Result() for contender in CONTENDERS}
    server_core, load_core = cores
    with ExitStack() as started:
        ports = PortBlock.claim()
        started.callback(ports.release)
        load = Loader(load_core, "tests.bench.asterisk.asking")
        started.callback(load.stop)
        servers: dict[str, tuple[int, int]] = {}
        for contender in CONTENDERS:
            port = ports.take()
            process = start(
                on_core(server_core, *command(contender, rivals, "agi", port)),
                output=work / f"{contender}.log",
                environment={**os.environ, "PYTHONPATH": str(ROOT)},
                directory=work,
            )
            started.callback(end, process)
            eventually(_listening(port), 20, what=f"the server of {contender}")
            servers[contender] = port, process.pid
        for _ in range(rounds):
            for contender, (port, pid) in servers.items():
                asked = load.order(
                    "ask", port=port, server=pid, requests=count, warm_up=count // 10, in_flight=_IN_FLIGHT
                )
                results[contender].rates.append(count / asked["seconds"])
                results[contender].cpu_us.append(asked["cpu"] / count * 1e6)
    return results


def _listening(port: int) -> Callable[[], bool]:
    return lambda: listens(port)


def events(rivals: Path, cores: tuple[int, int], rounds: int, count: int, *, calls: bool) -> Results:
    """AMI: `count` events to each client in each round, of whole `calls` or only such as are wanted."""
    results = {contender: Result() for contender in CONTENDERS}
    client_core, server_core = cores
    server = Loader(server_core, "tests.bench.asterisk.fake_ami")
    try:
        for _ in range(rounds):
            for contender in CONTENDERS:
                seconds, cpu = _listen(server, client_core, contender, rivals, count, calls=calls)
                results[contender].rates.append(count / seconds)
                results[contender].cpu_us.append(cpu / count * 1e6)
    finally:
        server.stop()
    return results


def _listen(
    server: Loader, core: int, contender: str, rivals: Path, count: int, *, calls: bool
) -> tuple[float, float]:
    """Seconds from the first byte sent until the last event was handled, and the client's CPU seconds."""
    offered = server.order("serve", events=count, calls=calls)
    names = sorted(WANTED) if calls else ()
    done = subprocess.run(
        [
            *DIES_WITH_US,
            *on_core(core, *command(contender, rivals, "ami", offered["port"], offered["wanted"], *names)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=_EVENT_SECONDS,
        check=True,
    )
    handled: dict[str, float] = json.loads(done.stdout)
    # The clock of both is the machine's.
    return handled["at"] - server.answer()["began"], handled["cpu"]


def table(results: Results, unit: str) -> list[str]:
    """A Markdown table: each contender, and how many times as fast ours is, round by round."""
    lines = [
        f"| | {unit} a second, median (best) | ours is so many times as fast, median (range) | CPU µs each |",
        "| --- | --- | --- | --- |",
    ]
    for contender, result in results.items():
        times = [ours / theirs for ours, theirs in zip(results[OURS].rates, result.rates, strict=True)]
        compared = "" if contender == OURS else f"{median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        lines.append(
            f"| {contender} | {median(result.rates):,.0f} ({max(result.rates):,.0f}) | {compared} "
            f"| {median(result.cpu_us):.1f} |"
        )
    best = {contender: max(result.rates) for contender, result in results.items()}
    by_best = ", ".join(f"{best[OURS] / best[name]:.2f} {name}" for name in CONTENDERS if name != OURS)
    return [*lines, "", f"By the best round of each: {by_best}."]


def goal(results: Results, times: float) -> str:
    """Whether ours is so many times as fast as each other one, by the medians."""
    worst = min(
        median(ours / theirs for ours, theirs in zip(results[OURS].rates, other.rates, strict=True))
        for name, other in results.items()
        if name != OURS
    )
    return f"goal {times:g} times: {'met' if worst >= times else 'MISSED'} ({worst:.2f})"
