"""The files for an Asterisk that come with this distribution, wherever it is installed."""

import sysconfig
from pathlib import Path
from typing import Final

from cti.commands import CommandFailed

MANAGER: Final = "asterisk-conf/manager.conf"
DIALPLAN: Final = "dialplan/cti.conf"


def shipped(name: str) -> Path:
    """Where the file `name` is: beside the code in a checkout, else where the installation put it.

    Raises `CommandFailed`.
    """
    for root in (Path(__file__).parents[2], Path(sysconfig.get_path("data")) / "share" / "cordboard"):
        if (root / name).is_file():
            return root / name
    raise CommandFailed(f"the file {name} of this installation is missing; install Cordboard again")


def text_of(name: str) -> str:
    """Raises `CommandFailed`, `OSError`."""
    return shipped(name).read_text(encoding="utf-8")
