"""The other libraries, in an environment of their own in the cache, and how each contender is started."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from lab.daemon import ROOT
from lab.tree import cache_directory

OURS: Final = "cordboard"
CONTENDERS: Final = (OURS, "panoramisk", "pystrix")

_REQUIREMENTS: Final = ("panoramisk==1.4", "pystrix==1.3.0")


def ensure_rivals() -> Path:
    """The Python that has the other libraries; they are installed when there is none, by pip."""
    place = cache_directory() / f"bench-{'-'.join(_REQUIREMENTS)}"
    python = place / "bin" / "python"
    installed = place / "installed"
    if not installed.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *_REQUIREMENTS], check=True
        )
        installed.touch()
    return python


def command(contender: str, rivals: Path, what: str, *more: object) -> list[str]:
    """How a contender's server or client is started: `what` is `agi` or `ami`."""
    if contender == OURS:
        start = [sys.executable, "-m", "tests.bench.asterisk.with_cordboard"]
    else:
        start = [str(rivals), str(ROOT / "tests" / "bench" / "asterisk" / f"with_{contender}.py")]
    return [*start, what, *map(str, more)]
