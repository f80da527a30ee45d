"""The one table of what differs between the Asterisks that our code has to do with.

The tests run on 16.28 and 22.10; what is said of versions between was read in their sources. Who acts on a
difference asks for it by name, and never for a version.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import evolve, frozen

#: Major versions that are known to be understood; the tests run on the first and on the last.
OLDEST, NEWEST = 16, 22

# 22.10.1~dfsg-1, 16.28.0, certified/18.9-cert1, GIT-22-7a3bd1f
_VERSION: Final = re.compile(r"(?:certified[/-]|GIT-)?(\d{1,3})(?![\d])(?:\.(\d{1,3})(?![\d]))?")


@frozen
class Differences:
    """What one Asterisk does its own way. `major` and `minor`: None where its version does not tell.

    `filter_criteria`: it may understand `eventfilter(name(…))` in manager.conf, else it passes such a line over.
    `lists_astdb_from`: the minor version that brought the action DBGetTree, without which the ends of calls that
    nobody heard of cannot be collected; None if none did.
    """

    major: int | None
    minor: int | None = None
    filter_criteria: bool = True
    lists_astdb_from: int | None = 0

    @property
    def supported(self) -> bool:
        return self.major is not None and OLDEST <= self.major <= NEWEST and self.lists_astdb

    @property
    def lists_astdb(self) -> bool:
        return self.lists_astdb_from is not None and (
            self.minor is None or self.minor >= self.lists_astdb_from
        )


# Major version → where it is not as the newest is.
_OLDER: Final[Mapping[int, Mapping[str, Any]]] = {
    16: {"filter_criteria": False, "lists_astdb_from": 28},
    17: {"filter_criteria": False, "lists_astdb_from": None},
    18: {"lists_astdb_from": 14},
    19: {"filter_criteria": False, "lists_astdb_from": 6},
}

#: Which versions would be right, for people: the first that have DBGetTree, and the last that we know.
SUPPORTED: Final = f"16.28, 18.14, 19.6 or later ones of these (older ones lack DBGetTree), or 20 to {NEWEST}"


def differences(version: str) -> Differences:
    """Those of the Asterisk that calls itself `version` (`AsteriskVersion` of CoreSettings)."""
    found = _VERSION.match(version)
    major = int(found[1]) if found else None
    newest = Differences(major, int(found[2]) if found and found[2] else None)
    return newest if major is None else evolve(newest, **_OLDER.get(max(major, OLDEST), {}))
