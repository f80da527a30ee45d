"""SQL as an administrator writes it, with ``:name`` where a value goes: taken apart, so that values stay values.

Pure. Which names there are, and how a value travels, is left to others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from attrs import frozen

TEXT_LIMIT: Final = 20_000

# What may have a colon or a semicolon in it that means nothing here comes first: quoted text, names and comments;
# casts and assignments. A quote in quoted text is doubled.
_TOKEN: Final = re.compile(
    r"""
      (?P<kept> '[^']*' | "[^"]*" | `[^`]*` | --[^\n]* | /\*.*?\*/ | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ | :: | := )
    | (?<![\w:]) : (?P<name> [a-z_][a-z0-9_]* ) \b
    | (?P<end> ; )
    | (?P<open> ['"`] | /\* )
    """,
    re.VERBOSE | re.DOTALL,
)


class StatementError(ValueError):
    """No statement that can be used; the text says why."""


@frozen
class Statement:
    """``pieces``: SQL and, at every second place, the name of a parameter."""

    pieces: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The parameters."""
        return frozenset(self.pieces[1::2])

    def rendered(self, text: Callable[[str], str], parameter: Callable[[str], str]) -> str:
        """The statement with its SQL and its parameters' names each as a driver wants them."""
        return "".join(parameter(piece) if at % 2 else text(piece) for at, piece in enumerate(self.pieces))


def parse(text: str) -> tuple[Statement, ...]:
    """The statements of ``text``, which semicolons divide. Raises ``StatementError``."""
    if len(text) > TEXT_LIMIT:
        raise StatementError(f"is longer than {TEXT_LIMIT} characters")
    statements: list[Statement] = []
    pieces: list[str] = []
    taken = 0
    for found in _TOKEN.finditer(text):
        if found["open"]:
            raise StatementError(f"has a {found['open']} that is not closed")
        if found["kept"] and found["kept"][0] in "'\"" and "\\" in found["kept"]:
            # Where the text ends would depend on the server and its settings.
            raise StatementError("has a backslash in quotes; write it without, as CHR(92) or CHAR(92)")
        if found["end"]:
            statements.append(Statement((*pieces, text[taken : found.start()])))
            pieces, taken = [], found.end()
        elif found["name"]:
            pieces += [text[taken : found.start()], found["name"]]
            taken = found.end()
    statements.append(Statement((*pieces, text[taken:])))
    return tuple(each for each in statements if len(each.pieces) > 1 or each.pieces[0].strip())


def like(text: str) -> str:
    """The text as it stands in a LIKE pattern, where ``%``, ``_`` and the backslash mean something."""
    return re.sub(r"([\\%_])", r"\\\1", text)
