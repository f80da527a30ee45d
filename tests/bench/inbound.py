"""Calls a second on one core, from Asterisk's question to the answer, beside a server that does nothing.

    python -m tests.bench.inbound [--rounds N] [--calls N] [--in-flight N …] [--profile]

Both set the same seven variables after the same 28 header lines. Ours looks the caller up among a million
numbers, decides by five rules over twenty agents, reserves one, writes the call to the disk before it answers,
and shows it on an event stream: once without the end of the call, once followed to it, with the eleven events
by which Asterisk tells of one. The servers take turns on one core, the load has another. What counts on a busy
machine is the CPU time of a call; calls a second depend on what else runs.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from attrs import define, field

from lab.daemon import ROOT, Daemon
from lab.ports import LOOPBACK, PortBlock
from lab.processes import end, eventually, start
from lab.tree import cache_directory
from tests.bench.people import AGENTS, MILLION, directory_of
from tests.bench.processes import Loader, cores, listens, on_core

HEADING = (
    f"{'median, range':18} {'calls a second':>23}   {'CPU us a call':>20}  of it:   {'ms to answer':>13}"
    f"   {'dialled  known cards':>20}\n"
    f"{'':18} {'':23}   {'':20}  store   {'p50':>6} {'p99':>6}"
)
BARE, ASKED, FOLLOWED = "bare Twisted", "to the answer", "to the call's end"


@define
class Server:
    """A server under test. `manager`: the port of the load where it hears of its calls; 0: it does not."""

    name: str
    port: int
    pid: int
    manager: int = 0
    results: list[dict[str, Any]] = field(factory=list)


def settings_of(
    directory: Path,
    http_port: int,
    agi_port: int,
    ami_port: int,
    *,
    agents: int = AGENTS,
    sellers: int | None = None,
) -> dict[str, Any]:
    """A company of so many agents whose last rule takes most of its calls, to all of them or to some."""
    rules = [
        {"name": "platinum", "when": {"party.tier": "platinum"}, "dial": {"group": "first"}},
        {"name": "slovene", "when": {"party.language": "sl"}, "dial": {"group": "first"}},
        {"name": "suppliers", "when": {"party.type": "supplier"}, "dial": {"group": "first"}},
        {"name": "owner", "when": {"party.owner": "present"}, "dial": "owner"},
        {"name": "rest", "dial": {"group": "sales"}},
    ]
    return {
        "region": "DE",
        "store": {"sqlite": "cti.db"},
        "fastagi": {"listen": f"{LOOPBACK}:{agi_port}"},
        "http": {"listen": f"{LOOPBACK}:{http_port}"},
        "asterisks": {
            "main": {"ami": f"{LOOPBACK}:{ami_port}", "username": "cti", "secret": {"env": "AMI_SECRET"}}
        },
        "adapters": {"directory": {"kind": "directory", "path": str(directory)}},
        "agents": {
            f"agent{number:02d}": {
                "name": f"Agent {number}",
                "phones": [f"PJSIP/agent{number:02d}"],
                "groups": [
                    "sales" if sellers is None or number < sellers else "office",
                    *(["first"] if number < 3 else []),
                ],
                "crm": {"directory": f"user-{number}"},
                "state": "ready",
            }
            for number in range(agents)
        },
        "services": {
            "sales": {
                "numbers": ["+494066969100"],
                "mode": "route",
                "instruction": "Greet with the company's name.",
                "fallback": "old-context,s,1",
                "rules": rules,
            }
        },
    }


@define
class Bench:
    """Servers, load and where they keep their files."""

    work: Path
    started: ExitStack
    ports: PortBlock
    core: int
    load: Loader
    people: int

    def bare(self) -> Server:
        """The server that does nothing."""
        port = self.ports.take()
        process = start(
            on_core(self.core, sys.executable, "-m", "tests.bench.bare", str(port)),
            output=self.work / "bare.log",
            environment={**os.environ, "PYTHONPATH": str(ROOT)},
            directory=self.work,
        )
        self.started.callback(end, process)
        eventually(lambda: listens(port), 10, what="the bare server")
        return Server(BARE, port, process.pid)

    def ours(self, name: str, *, followed: bool, sampled: Path | None = None) -> Server:
        """The daemon, logged in to a manager port that tells of the end of calls only if they are `followed`."""
        http_port, agi_port = self.ports.take(), self.ports.take()
        manager: int = self.load.order("manage")["port"]
        if sampled is not None:
            run = ["tests.bench.sampled", str(sampled), *([] if followed else ["let-go"])]
        else:
            run = ["cti"] if followed else ["tests.bench.let_go"]
        daemon = Daemon(
            directory=self.work / f"{'followed' if followed else 'asked'}{'-sampled' if sampled else ''}",
            settings=settings_of(directory_of(self.people, cache_directory()), http_port, agi_port, manager),
            http_port=http_port,
            agi_port=agi_port,
            command=on_core(self.core, sys.executable, "-m", *run),
            environment={"AMI_SECRET": "not looked at"},
        )
        self.started.callback(daemon.stop)
        daemon.start()
        self.load.order("read", port=http_port, token=daemon.token("admin"))
        return Server(name, agi_port, daemon.pid, manager if followed else 0)

    def ask(self, server: Server, calls: int, in_flight: int, seed: int) -> dict[str, Any]:
        """One round of calls to one server."""
        return self.load.order(
            "call",
            port=server.port,
            server=server.pid,
            calls=calls,
            warm_up=calls // 10,
            in_flight=in_flight,
            people=self.people,
            seed=seed,
            manager=server.manager,
        )


def line_of(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Median and range of what counts, of several rounds."""
    rates = [result["calls"] / result["seconds"] for result in results]
    cpus = [sum(result["cpu"].values()) / result["calls"] * 1e6 for result in results]
    writing = [
        sum(spent for thread, spent in result["cpu"].items() if thread != "main") / result["calls"] * 1e6
        for result in results
    ]
    p50, p99 = (median(result[which] for result in results) * 1000 for which in ("p50", "p99"))
    return (
        f"{name:18} {median(rates):7,.0f} {_range(rates):>15}   {median(cpus):6.0f} {_range(cpus):>13}"
        f"   {median(writing):5.0f}   {p50:6.1f} {p99:6.1f}   {median(r['dialled'] for r in results):6.1%}"
        f" {median(r['named'] for r in results):6.1%} {median(r['cards'] for r in results):5.2f}"
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):,.0f}..{max(values):,.0f}"


def ratio(servers: Sequence[Server], which: str) -> str:
    """How the servers compare with the first, round by round."""
    base, *others = servers

    def rate(result: Mapping[str, Any]) -> float:
        if which == "calls a second":
            return float(result["calls"] / result["seconds"])
        return float(result["calls"] / sum(result["cpu"].values()))

    parts = []
    for server in others:
        shares = [rate(one) / rate(other) for one, other in zip(server.results, base.results, strict=True)]
        parts.append(f"{server.name} {median(shares):.2f} ({min(shares):.2f}..{max(shares):.2f})")
    return f"of the bare server's {which}: " + ", ".join(parts)


def profile(bench: Bench, calls: int, in_flight: int) -> None:
    """Print where the CPU time of a call goes."""
    for name, followed in ((ASKED, False), (FOLLOWED, True)):
        result = bench.work / f"profile-{followed}.json"
        server = bench.ours(name, followed=followed, sampled=result)
        bench.ask(server, calls // 4, in_flight, 0)
        os.kill(server.pid, signal.SIGUSR1)
        asked = bench.ask(server, calls, in_flight, 1)
        os.kill(server.pid, signal.SIGUSR2)
        eventually(result.exists, 10, what="the profile")
        found = json.loads(result.read_text())
        # The warm-up of the round is sampled, too.
        each = 1e6 / (calls + calls // 10)
        print(f"\nWhere the reactor's thread spends a call, {name}, in us of CPU time (sampled each ms):")
        for part, seconds in sorted(found["parts"].items(), key=lambda entry: -entry[1]):
            print(f"  {seconds * each:6.0f}  {part}")
        others = {name: spent for name, spent in asked["cpu"].items() if name != "main"}
        print(f"  {sum(others.values()) / calls * 1e6:6.0f}  in the writing thread, beside it")
        print("  of which:")
        for line, seconds in sorted(found["lines"].items(), key=lambda entry: -entry[1])[:25]:
            print(f"  {seconds * each:6.0f}  {line}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.inbound", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000, help="of each server in each round")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[16])
    parser.add_argument("--people", type=int, default=MILLION, help="in the directory")
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead")
    options = parser.parse_args(arguments)
    with ExitStack() as started:
        cache = cache_directory()
        # On a real disk: where /tmp is memory, flushing to it costs nothing.
        work = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=cache)))
        ports = PortBlock.claim()
        started.callback(ports.release)
        server_core, load_core = cores()
        load = Loader(load_core)
        started.callback(load.stop)
        bench = Bench(work, started, ports, server_core, load, options.people)
        if options.profile:
            profile(bench, options.calls, options.in_flight[0])
            return
        servers = [
            bench.bare(),
            bench.ours(ASKED, followed=False),
            bench.ours(FOLLOWED, followed=True),
        ]
        print(
            f"{options.people:,} numbers, {AGENTS} agents, {options.rounds} rounds of {options.calls} calls; "
            f"servers on core {server_core}, load on core {load_core}"
        )
        for in_flight in options.in_flight:
            for server in servers:
                server.results.clear()
            for round in range(options.rounds):
                for server in servers:
                    server.results.append(bench.ask(server, options.calls, in_flight, round))
            print(f"\n{in_flight} in flight")
            print(HEADING)
            for server in servers:
                print(line_of(server.name, server.results))
            print(ratio(servers, "calls a second"))
            print(ratio(servers, "calls a CPU second"))


if __name__ == "__main__":
    main()
