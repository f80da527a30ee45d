"""The one table of what differs between the Asterisks that our code has to do with.

Read in the sources of 16 and 22; what is in neither's tests says so here. Who acts on a difference asks for it
by name, and never for a version.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve, frozen

#: Major versions that are known to be understood; the tests run on the first and on the last.
OLDEST, NEWEST = 16, 22

# 22.10.1~dfsg-1, 16.28.0, certified/18.9-cert1, GIT-22-7a3bd1f
_VERSION: Final = re.compile(r"(?:certified[/-]|GIT-)?(\d{1,3})(?![\d])")


@frozen
class Differences:
    """What one Asterisk does its own way. `major`: None where its version does not tell.

    `filter_criteria`: it may understand `eventfilter(name(…))` in manager.conf, else it passes such a line over.
    """

    major: int | None
    filter_criteria: bool = True

    @property
    def supported(self) -> bool:
        return self.major is not None and OLDEST <= self.major <= NEWEST


# Major version → where it is not as the newest is.
_OLDER: Final[Mapping[int, Mapping[str, Any]]] = {
    16: {"filter_criteria": False},
    17: {"filter_criteria": False},
    19: {"filter_criteria": False},
}


def differences(version: str) -> Differences:
    """Those of the Asterisk that calls itself `version` (`AsteriskVersion` of CoreSettings)."""
    found = _VERSION.match(version)
    major = int(found[1]) if found else None
    newest = Differences(major)
    return newest if major is None else evolve(newest, **_OLDER.get(max(major, OLDEST), {}))
