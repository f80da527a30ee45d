"""Numbers that are blocked, and numbers that nobody looks for: single ones, and all that begin alike.

Pure; who keeps the lists, and what becomes of a blocked caller, is left to others.
"""

import re
from collections.abc import Iterable
from typing import Final

#: The lists, as the API and the store name them.
BLOCKED: Final = "blocked"
IGNORED: Final = "ignored"
LISTS: Final = (BLOCKED, IGNORED)

_PATTERN: Final = re.compile(r"\+[1-9][0-9]{1,14}\*?")
#: Fewer digits would be a whole country, or several.
_SHORTEST_PREFIX: Final = 4


def wrong_with_pattern(pattern: str) -> str | None:
    """Why this names no numbers, and what would be right; None if it does."""
    if not _PATTERN.fullmatch(pattern):
        return "is no number in E.164, nor the beginning of one; such as +4915228817386 or +49900* would be right"
    if pattern.endswith("*") and len(pattern) - 2 < _SHORTEST_PREFIX:
        return f"would be a whole country; at least {_SHORTEST_PREFIX} digits before the * would be right"
    return None


class NumberList:
    """Numbers in E.164, and prefixes such as `+49900*`. A pattern that is none raises `ValueError`."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        numbers: set[str] = set()
        prefixes: set[str] = set()
        for pattern in patterns:
            if wrong_with_pattern(pattern) is not None:
                raise ValueError(f"a pattern {wrong_with_pattern(pattern)}")
            (prefixes if pattern.endswith("*") else numbers).add(pattern.removesuffix("*"))
        self._numbers = frozenset(numbers)
        self._prefixes = frozenset(prefixes)
        self._lengths = sorted({len(prefix) for prefix in prefixes})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NumberList):
            return NotImplemented
        return (self._numbers, self._prefixes) == (other._numbers, other._prefixes)

    def __hash__(self) -> int:
        return hash((self._numbers, self._prefixes))

    def __contains__(self, number: object) -> bool:
        """Whether this number (E.164, or None) is on the list; a look-up for each length of prefix."""
        if not isinstance(number, str):
            return False
        return number in self._numbers or any(number[:length] in self._prefixes for length in self._lengths)

    def __bool__(self) -> bool:
        return bool(self._numbers or self._prefixes)
