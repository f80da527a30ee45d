"""Thousands of desktops at the daemon and at a bare twisted.web that only streams, and cards painted in Chromium.

    python -m tests.bench.desktop [streams] [painting] [--desks N] [--rate CALLS] [--seconds S] [--cards N] …

`streams`: each desktop is an agent's, with a token of its own; the daemon runs on one core, all desktops and the
calls' Asterisk on the other. What one costs in memory; cards a second; from Asterisk's question to the card's bytes
at the desktop, at so many calls a second; and how long until all are back after a restart, and what they then have.
`painting`: until the card is painted, and beside the phone's INVITE, on a real Asterisk (`painting.py`).
"""

import argparse
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import define

from cti.store.records import TokenRecord
from cti.store.sqlite import open_store_for_command
from cti.web.tokens import AGENT, mint_token
from lab.daemon import ROOT, Daemon
from lab.ports import PortBlock
from lab.processes import end, eventually, start
from lab.tree import cache_directory
from tests.bench.inbound import settings_of
from tests.bench.people import directory_of
from tests.bench.processes import Loader, cores, cpu_seconds, listens, on_core

_PEOPLE = 100_000
#: As many as one service has at the most; the others only have their desktop open.
_SELLERS = 400
_MEMORY_GOAL = 10_000
_CARD_GOAL_MS = 100
#: Kernel objects that a connection is made of.
_SLABS = (
    "TCP",
    "sock_inode_cache",
    "filp",
    "dentry",
    "eventpoll_epi",
    "eventpoll_pwq",
    "ep_head",
    "skbuff",
    "kmalloc",
)


@define
class Bench:
    """The daemon, the bare server and the desktops."""

    work: Path
    started: ExitStack
    ports: PortBlock
    cards: int
    server_core: int
    load: Loader

    def bare(self) -> tuple[int, int]:
        """Port and process of the server that only streams."""
        port = self.ports.take()
        process = start(
            on_core(
                self.server_core, sys.executable, "-m", "tests.bench.desktop.bare", str(port), str(self.cards)
            ),
            output=self.work / "bare.log",
            environment={**os.environ, "PYTHONPATH": str(ROOT)},
            directory=self.work,
        )
        self.started.callback(end, process)
        eventually(lambda: listens(port), 10, what="the bare server")
        return port, process.pid

    def ours(self, desks: int) -> tuple[Daemon, list[str], int]:
        """The daemon, a token for each of its agents, and the port of its Asterisk."""
        http_port, agi_port = self.ports.take(), self.ports.take()
        manager: int = self.load.order("manage")["port"]
        settings = settings_of(
            directory_of(_PEOPLE, cache_directory()),
            *(http_port, agi_port, manager),
            agents=desks,
            sellers=_SELLERS,
        )
        daemon = Daemon(
            directory=self.work / "ours",
            settings=settings,
            http_port=http_port,
            agi_port=agi_port,
            command=on_core(
                self.server_core, sys.executable, "-m", "tests.bench.desktop.pushing", str(self.cards)
            ),
            environment={"AMI_SECRET": "not looked at"},
        )
        self.started.callback(daemon.stop)
        daemon.start(60)
        return daemon, tokens_for(daemon, list(settings["agents"])), manager

    def opened(self, pid: int, port: int, tokens: Sequence[str]) -> Mapping[str, float]:
        """Bytes a connection in the process and in the kernel, and seconds until all were open."""
        before, kernel = resident(pid), kernel_bytes()
        cpu = cpu_seconds(pid)["main"]
        opened = self.load.order("open", port=port, tokens=tokens)
        return {
            "bytes": (resident(pid) - before) / len(tokens),
            # Both ends are on this machine.
            "kernel": (kernel_bytes() - kernel) / len(tokens) / 2,
            "seconds": opened["seconds"],
            "cpu": cpu_seconds(pid)["main"] - cpu,
        }

    def called(self, daemon: Daemon, manager: int, rate: int, seconds: int) -> dict[str, Any]:
        """How long calls waited for their answer, and, in `card`, for the card's bytes at a desktop."""
        self.load.order("paint")
        asked = self.load.order(
            "call",
            port=daemon.agi_port,
            server=daemon.pid,
            calls=rate * seconds,
            warm_up=rate * 2,
            rate=rate,
            people=_PEOPLE,
            seed=1,
            manager=manager,
        )
        return {**asked, "card": self.load.order("paint")}

    def pushed(self, pid: int) -> Mapping[str, float]:
        """Cards a second, and CPU seconds a card of each thread."""
        self.load.order("cards", cards=self.cards)
        before = cpu_seconds(pid)
        os.kill(pid, signal.SIGUSR1)
        seconds = self.load.answer()["cards"]
        spent = {thread: used - before.get(thread, 0.0) for thread, used in cpu_seconds(pid).items()}
        return {
            "rate": self.cards / seconds,
            "cpu": spent["main"] / self.cards,
            "writer": sum(used for thread, used in spent.items() if thread != "main") / self.cards,
        }


def tokens_for(daemon: Daemon, agents: Sequence[str]) -> list[str]:
    """A token for each agent, as `cti token add` makes them, but all at once."""
    minted = [mint_token() for _ in agents]
    with open_store_for_command(daemon.directory / "cti.db", destinations={}, clock=time.time) as store:
        unit = store.unit()
        for agent, (_, digest) in zip(agents, minted, strict=True):
            unit.put_token(TokenRecord(secrets.token_hex(4), agent, AGENT, digest, time.time(), agent))
        store.commit_now(unit)
    return [token for token, _ in minted]


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def kernel_bytes() -> int:
    """Bytes of the kernel's objects for connections, of the whole machine; 0 where only root may read them."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()[2:]
    except PermissionError:
        return 0
    fields = [line.split() for line in lines]
    return sum(int(each[1]) * int(each[3]) for each in fields if each[0].startswith(_SLABS))


def missed(daemon: Daemon, agents: Sequence[str]) -> int:
    """Write an event for each agent while the daemon is away; how many."""
    with open_store_for_command(daemon.directory / "cti.db", destinations={}, clock=time.time) as store:
        for first in range(0, len(agents), 500):
            unit = store.unit()
            for agent in agents[first : first + 500]:
                unit.emit("agent.state", time.time(), {"agent": agent}, agents=[agent])
            store.commit_now(unit)
    return len(agents)


def listening_since(daemon: Daemon) -> float:
    """Since when the daemon listens, by `time.perf_counter`, which is one clock for all processes."""
    ready = [line["at"] for line in daemon.log() if line["event"] == "ready"][-1]
    return time.perf_counter() - (time.time() - datetime.fromisoformat(ready).timestamp())


def wrong(daemon: Daemon, agents: Sequence[str], had: Mapping[str, Any]) -> int:
    """How many desktops have not exactly their agent's events since they began, each once and in order."""
    after: int = min(had["began"])
    due: dict[str, list[int]] = {agent: [] for agent in agents}
    with open_store_for_command(daemon.directory / "cti.db", destinations={}, clock=time.time) as store:
        while page := store.read.events_after(after, 10_000):
            for event in page:
                for agent in event.agents:
                    due[agent].append(event.seq)
            after = page[-1].seq
    each = zip(agents, had["began"], had["seen"], strict=True)
    return sum([seq for seq in due[agent] if seq > began] != seen for agent, began, seen in each)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.desktop", description=__doc__)
    parser.add_argument("parts", nargs="*", default=["streams", "painting"], metavar="PART")
    parser.add_argument("--desks", type=int, default=5000)
    parser.add_argument("--rate", type=int, default=50, help="calls a second")
    parser.add_argument("--seconds", type=int, default=20, help="of calls")
    parser.add_argument("--cards", type=int, default=50_000, help="to be pushed as fast as can be")
    parser.add_argument("--painted", type=int, default=200, help="calls whose cards are painted, at most 200")
    options = parser.parse_args(arguments)
    if "streams" in options.parts:
        _streams(options)
    if "painting" in options.parts:
        _painting(min(options.painted, 200))


def _painting(calls: int) -> None:
    # The lab has Chromium by Playwright, which who measures streams needs not.
    from tests.bench.desktop import painting

    for lead_ms in (0, painting.LEAD_MS):
        with tempfile.TemporaryDirectory(prefix="bench-", dir=cache_directory()) as directory:
            print(
                *painting.report(lead_ms, *painting.measure(Path(directory), calls, lead_ms)),
                sep="\n",
                flush=True,
            )
    _say_load()


def _say_load() -> None:
    print(
        f"load of the machine, of 1, 5 and 15 minutes: {', '.join(f'{load:.1f}' for load in os.getloadavg())}"
    )


def _streams(options: Any) -> None:
    with ExitStack() as started:
        # On a real disk: where /tmp is memory, flushing to it costs nothing.
        directory = tempfile.TemporaryDirectory(prefix="bench-", dir=cache_directory())
        work = Path(started.enter_context(directory))
        ports = PortBlock.claim()
        started.callback(ports.release)
        server_core, load_core = cores()
        load = Loader(load_core, "tests.bench.desktop.desks")
        started.callback(load.stop)
        bench = Bench(work, started, ports, options.cards, server_core, load)
        print(
            f"{options.desks:,} desktops; server on core {server_core}, desktops and calls on core {load_core}\n"
        )
        report(bench, options)
        _say_load()


def report(bench: Bench, options: Any) -> None:
    """Do all of it and print it, part by part."""
    load, desks = bench.load, options.desks
    port, pid = bench.bare()
    bare_opened = bench.opened(pid, port, ["none"] * desks)
    bare_pushed = bench.pushed(pid)
    load.order("close")
    daemon, tokens, manager = bench.ours(desks)
    agents = list(daemon.settings["agents"])
    alone = bench.called(daemon, manager, options.rate, options.seconds)
    opened = bench.opened(daemon.pid, daemon.http_port, tokens)
    _say(
        "memory of a connection",
        *(f"{name} {of['bytes'] / 1000:.1f} kB" for name, of in (("ours", opened), ("bare", bare_opened))),
        f"and {opened['kernel'] / 1000:.1f} kB of the kernel's for this end",
        goal=opened["bytes"] < _MEMORY_GOAL,
    )
    _say(
        "opening all",
        *(
            f"{name} {of['seconds']:.1f} s, {of['cpu'] / desks * 1e6:.0f} us of CPU each"
            for name, of in (("ours", opened), ("bare", bare_opened))
        ),
    )
    asked = bench.called(daemon, manager, options.rate, options.seconds)
    _say(
        f"from the question to the card's bytes at {options.rate} calls a second",
        _delays(asked["card"]),
        f"{asked['card']['cards']} cards of {asked['card']['calls']} calls",
        goal=asked["card"]["p99"] * 1000 < _CARD_GOAL_MS,
    )
    _say(
        "from the question to the answer",
        *(
            f"{which}: {_delays(of)}, {sum(of['cpu'].values()) / of['calls'] * 1e3:.1f} ms of CPU a call"
            for which, of in (("with all desktops", asked), ("without any", alone))
        ),
    )
    pushed = bench.pushed(daemon.pid)
    _say(
        "cards pushed a second",
        f"ours {pushed['rate']:,.0f}, durable; {pushed['cpu'] * 1e6:.0f} us of CPU each in the reactor, "
        f"{pushed['writer'] * 1e6:.0f} beside it",
        f"bare {bare_pushed['rate']:,.0f}; {bare_pushed['cpu'] * 1e6:.0f} us",
    )
    for name, away in (("stopped", Daemon.stop), ("killed", Daemon.kill)):
        load.order("mark")
        away(daemon)
        events = missed(daemon, agents)
        daemon.start(60)
        back = load.order("await", since=listening_since(daemon), events=events)
        _say(
            f"all back after the daemon was {name}, with what they missed",
            f"{back['seconds']:.1f} s after it listens, half of them {back['half']:.1f} s",
            f"{events:,} events",
        )
    load.order("mark")
    left = time.perf_counter()
    load.order("leave")
    asked = bench.called(daemon, manager, options.rate // 2, 4)
    load.order("await", since=left, events=0)
    _say(
        f"from the question to the answer at {options.rate // 2} calls a second while all come back",
        f"{_delays(asked)}; {asked['dialled']:.1%} got an agent",
    )
    cut = load.order("cut", desks=min(2000, desks), retry=0.0, events=0)
    _say("2,000 desktops that come back at one moment", f"{cut['seconds']:.2f} s until all have their stream")
    # What is written of the last calls at leisure is on its way.
    time.sleep(2)
    bad = wrong(daemon, agents, load.order("seen"))
    _say("desktops that have not each of their events once and in order", str(bad), goal=bad == 0)


def _delays(of: Mapping[str, Any]) -> str:
    return ", ".join(f"{which} {of[which] * 1000:.1f} ms" for which in ("p50", "p99", "longest"))


def _say(what: str, *figures: str, goal: bool | None = None) -> None:
    verdict = "" if goal is None else ": goal met" if goal else ": goal MISSED"
    print(f"{what}{verdict}", *(f"    {figure}" for figure in figures), sep="\n", flush=True)


if __name__ == "__main__":
    main()
