"""Servers that are up at once, so that one can be killed hundreds of times: forked from one that has loaded it all.

`python -m tests.faults.nursery` takes an order a line, `start DIRECTORY`, `look PID` or `kill PID`, and answers each
with a process id, 0 if there is none any more. What a server has of its own (its reactor, its store, its sockets) it
makes after the fork, as ever.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from lab.daemon import ROOT, Daemon, DaemonFailed
from lab.processes import DIES_WITH_US, end, eventually, tail

_PR_SET_PDEATHSIG = 1
#: Names a file of eight bytes, a double: how many seconds the servers' clock is wrong by.
CLOCK_FILE = "CORDBOARD_TEST_CLOCK"


class Nursery:
    """The process from which servers are forked, with `environment` for all of them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [*DIES_WITH_US, sys.executable, "-m", "tests.faults.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **environment},
        )
        self._order("loaded")

    def start(self, daemon: Daemon, timeout: float = 30.0) -> int:
        """A server on this configuration, which is written before: its process id, once it takes calls."""
        daemon.output.touch()
        size = daemon.output.stat().st_size
        pid = self._order(f"start {daemon.directory}")

        def ready() -> bool:
            nonlocal pid
            if self._order(f"look {pid}") == 0:
                # As whoever supervises it does: its database may be repairing itself.
                pid = self._order(f"start {daemon.directory}")
                return False
            with open(daemon.output, "rb") as log:
                log.seek(size)
                text = log.read()
            return b'"event":"ready"' in text or b'"event": "ready"' in text

        try:
            eventually(ready, timeout, what="the server", pause=0.02)
        except TimeoutError as error:
            raise DaemonFailed(f"{error}\n{tail(daemon.output)}") from error
        return pid

    def kill(self, pid: int) -> None:
        """kill -9, and gone when this returns."""
        self._order(f"kill {pid}")

    def stop(self) -> None:
        end(self._process)

    def _order(self, order: str) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def _serve(directory: Path) -> None:
    """Be a server from now on."""
    from cti.commands.serve import serve

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.chdir(directory)
    log = os.open(directory / "log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for opened, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(opened, number)
    try:
        serve(Namespace(config=str(directory / "cti.yaml"), log_format="json"))
    finally:
        os._exit(1)


class Clock:
    """A clock that a test sets, for itself and for processes that take it from `file`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_bytes(struct.pack("d", 0.0))
        with open(file, "r+b") as opened:
            self._wrong_by = mmap.mmap(opened.fileno(), 8)

    def set(self, wrong_by: float) -> None:
        self._wrong_by[:] = struct.pack("d", wrong_by)

    def __call__(self) -> float:
        return time.time() + float(struct.unpack("d", self._wrong_by)[0])


def take_the_clock() -> None:
    """From now on `time.time` says what the test wants, if it has set a clock."""
    if CLOCK_FILE not in os.environ:
        return
    right = time.time
    with open(os.environ[CLOCK_FILE], "r+b") as opened:
        wrong_by = mmap.mmap(opened.fileno(), 8)
    time.time = lambda: right() + float(struct.unpack("d", wrong_by)[0])
    time.time_ns = lambda: int(time.time() * 1e9)


def main() -> None:
    take_the_clock()
    # What each start would load; nothing of it has threads, sockets or a reactor.
    import adapters.http  # noqa: F401
    import cti.commands.serve  # noqa: F401
    from cti.calls.outbox import Outbox
    from cti.numbers import NumberPlan

    # Receivers that fail at random would put some news off for ten minutes at the end.
    (Outbox.__init__.__kwdefaults__ or {})["longest_pause"] = 10.0
    NumberPlan("DE").warm_up()
    for line in sys.stdin:
        order, _, what = line.strip().partition(" ")
        pid = 0
        if order == "start":
            pid = os.fork()
            if pid == 0:
                _serve(Path(what))
        elif order == "look":
            pid = int(what) if os.waitpid(int(what), os.WNOHANG) == (0, 0) else 0
        elif order == "kill":
            pid = int(what)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
