"""How far a command is, as a bar on the terminal of who waits; elsewhere, such as in a log, there is none."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

_WIDTH: Final = 30
#: Seconds between two looks of somebody who waits.
_PAUSE: Final = 0.1


@contextmanager
def progress_bar(
    doing: str, terminal: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int], None] | None]:
    """What to tell how much is done, and of how much (0: nobody knows); None where nobody looks.

    The bar is wiped away at the end.
    """
    shown = sys.stderr if terminal is None else terminal
    if not shown.isatty():
        yield None
        return
    drawn = float("-inf")

    def draw(done: int, whole: int) -> None:
        nonlocal drawn
        if clock() - drawn < _PAUSE:
            return
        drawn = clock()
        shown.write(f"\r\033[K{doing} {_bar(done, whole)}")
        shown.flush()

    try:
        yield draw
    finally:
        shown.write("\r\033[K")
        shown.flush()


def _bar(done: int, whole: int) -> str:
    if not whole:
        return f"{done:,}"
    share = min(done / whole, 1.0)
    filled = round(share * _WIDTH)
    return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%} of {whole:,}"
