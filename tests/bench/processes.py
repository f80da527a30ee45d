"""The processes of a benchmark: each on a core of its own, and what they use of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.daemon import ROOT
from lab.processes import DIES_WITH_US, end


def cores() -> tuple[int, int]:
    """The core of the server and that of the load; the same one where there is no other."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def on_core(core: int, *command: str) -> list[str]:
    """The command on one core, with all threads that it will ever have."""
    return ["taskset", "--cpu-list", str(core), *command]


def cpu_seconds(pid: int) -> dict[str, float]:
    """CPU time, user and system, that each thread of a process has used so far; its first one is `main`."""
    spent: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        # Nanoseconds on a core; the ticks of `stat` are ten milliseconds long.
        name = "main" if task.name == str(pid) else task.name
        spent[name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return spent


def whole_cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, with that of threads which are gone; to the hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listens(port: int) -> bool:
    """Whether somebody listens on the TCP port of 127.0.0.1; looked up, so that nobody is disturbed."""
    return f"0100007F:{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


class Loader:
    """A process that takes an order a line and answers each with a line of JSON, such as `tests.bench.load`."""

    def __init__(self, core: int, module: str = "tests.bench.load") -> None:
        self._process = subprocess.Popen(
            [*DIES_WITH_US, *on_core(core, sys.executable, "-m", module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def order(self, do: str, **what: Any) -> dict[str, Any]:
        """Have it done, and give what came of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the load has ended; what it wrote to stderr says why")
        result: dict[str, Any] = json.loads(answer)
        return result

    def stop(self) -> None:
        """End it."""
        end(self._process)
