"""How the store is bridged while it is slow or away; the bridge itself is `cti.store.spool`."""

from pathlib import Path
from typing import Final

from attrs import frozen

#: Seconds after which nobody waits for the store any more.
AFTER: Final = 0.1
SIZE: Final = 16 << 20


@frozen
class SpoolSettings:
    """Where the files are, how large each is (bytes), and how long a unit is waited for (seconds)."""

    directory: Path
    size: int = SIZE
    within: float = AFTER
