"""The server with a sampler in its reactor's thread: what of the CPU time goes to which part of it.

    python -m tests.bench.sampled RESULT [let-go] serve -c FILE

SIGUSR1 begins (again), SIGUSR2 writes the seconds of each part to RESULT as JSON.
"""

import json
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Final

from cti.calls.inbound import Inbound
from cti.cli import main
from tests.bench.let_go import route_and_let_go

_INTERVAL: Final = 0.001

#: The first that a frame's file ends in, from the innermost frame on, gives the part.
_PARTS: Final = {
    "cti/asterisk/fastagi.py": "FastAGI",
    "cti/asterisk/agi_parser.py": "FastAGI",
    "cti/asterisk/ami.py": "AMI",
    "cti/asterisk/ami_parser.py": "AMI",
    "cti/numbers.py": "numbers",
    "cti/identify/identification.py": "identification",
    "cti/identify/identifier.py": "identification",
    "cti/identify/asking.py": "identification",
    "cti/identify/limits.py": "identification",
    "cti/identify/policy.py": "identification",
    "adapters/base.py": "identification",
    "adapters/directory.py": "identification",
    "adapters/directory_file.py": "identification",
    "cti/calls/inbound.py": "the call's way (inbound.py)",
    "cti/calls/route_request.py": "the call's way (inbound.py)",
    "cti/calls/services.py": "the call's way (inbound.py)",
    "cti/calls/life.py": "the call's state (life.py, tracker.py, log.py)",
    "cti/calls/tracker.py": "the call's state (life.py, tracker.py, log.py)",
    "cti/calls/log.py": "the call's state (life.py, tracker.py, log.py)",
    "cti/agents/roster.py": "roster and reservation",
    "cti/agents/states.py": "roster and reservation",
    "routing/decide.py": "decision",
    "routing/rules.py": "decision",
    "routing/facts.py": "decision",
    "cti/store/rows.py": "store: rows and events as JSON",
    "cti/store/threaded.py": "store: handing over and back",
    "cti/web/events.py": "event stream",
    "cti/web/transport.py": "event stream",
    "cti/logs.py": "log lines",
    "structlog/_base.py": "log lines",
    "structlog/_native.py": "log lines",
    "structlog/_config.py": "log lines",
    "cti/metrics.py": "metrics",
    "cti/service.py": "wiring",
}
_REST: Final = "reactor, sockets and system calls"


class Sampler:
    """Counts the thread's own CPU time, so that waiting, and what other threads use, is nobody's."""

    def __init__(self, result: Path) -> None:
        self._result = result
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._lines: defaultdict[str, float] = defaultdict(float)
        self._spent = 0.0

    def begin(self, _number: int, _frame: FrameType | None) -> None:
        # Twisted would wake up for each sample.
        signal.set_wakeup_fd(-1)
        self._seconds.clear()
        self._lines.clear()
        self._spent = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)

    def sample(self, _number: int, frame: FrameType | None) -> None:
        spent = time.thread_time()
        took, self._spent = spent - self._spent, spent
        part, line = _place(frame)
        self._seconds[part] += took
        self._lines[line] += took

    def write(self, _number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        # All at once, as somebody waits for the file.
        making = self._result.with_suffix(".part")
        making.write_text(json.dumps({"parts": self._seconds, "lines": self._lines}))
        making.rename(self._result)


_known: dict[str, str | None] = {}


def _part(file: str) -> str | None:
    if file not in _known:
        _known[file] = next((part for end, part in _PARTS.items() if file.endswith(end)), None)
    return _known[file]


def _place(frame: FrameType | None) -> tuple[str, str]:
    innermost = frame
    while frame is not None:
        part = _part(frame.f_code.co_filename)
        if part is not None:
            return part, f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"
        frame = frame.f_back
    if innermost is None:
        return _REST, "?"
    return _REST, f"{Path(innermost.f_code.co_filename).name}:{innermost.f_code.co_name}"


if __name__ == "__main__":
    sampler = Sampler(Path(sys.argv[1]))
    signal.signal(signal.SIGUSR1, sampler.begin)
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.signal(signal.SIGUSR2, sampler.write)
    arguments = sys.argv[2:]
    if arguments[0] == "let-go":
        Inbound.route = route_and_let_go  # type: ignore[method-assign]
        arguments = arguments[1:]
    sys.exit(main(arguments))
