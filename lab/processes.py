"""Child processes that end with us, and waiting with a deadline.

What the processes do is up to those who start them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: Put before a command: the kernel then kills it when the thread that started it ends. It survives `exec`,
#: but not a change of the user id, so whoever changes that sets it again afterwards.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def start(
    command: Sequence[str | Path],
    *,
    output: Path,
    environment: Mapping[str, str],
    directory: Path,
) -> subprocess.Popen[bytes]:
    """Starts a process in its own process group, so that a Ctrl-C on the terminal reaches only us.

    Its output is appended to the file `output`. The process dies with the calling *thread* (that is how Linux
    defines PR_SET_PDEATHSIG): call this from a thread that lives as long as the process should.
    """
    with open(output, "ab") as sink:
        return subprocess.Popen(
            [*DIES_WITH_US, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=directory,
            process_group=0,
        )


def end(process: subprocess.Popen[bytes], patience: float = 3.0) -> None:
    """Ends the process by SIGTERM, by SIGKILL if that takes longer than `patience` seconds, and reaps it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def eventually(
    predicate: Callable[[], T],
    timeout: float = 5.0,
    *,
    what: str = "the condition",
    pause: float = 0.02,
) -> T:
    """Asks until the answer is true, and returns it; raises TimeoutError after `timeout` seconds.

    `what` completes the message "… did not come true within 5.0 s".
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what} did not come true within {timeout:.1f} s (last answer: {answer!r})")
        time.sleep(pause)


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a text file, or a word that there is none."""
    if not path.is_file():
        return f"({path.name}: not written)"
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:])
