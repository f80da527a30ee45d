"""How an error text speaks of a word that somebody wrote and of the words that would have been right."""

import difflib
from collections.abc import Iterable
from typing import Final

_LISTED: Final = 30
_SHOWN: Final = 60


def quoted(text: str) -> str:
    """`text` in quotes, on one line, cut to a length that a person reads."""
    cut = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    if not cut.isprintable():
        cut = cut.encode("unicode_escape").decode("ascii")
    return f'"{cut}"'


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """The text for a `word` that is not among the `known` ones; `what` says what it should have been."""
    words = sorted(known)
    text = f"unknown {what} {quoted(word)}"
    if not words:
        return f"{text}; there is none"
    close = difflib.get_close_matches(word[:_SHOWN], words, n=1)
    if close:
        text += f"; did you mean {quoted(close[0])}?"
    rest = len(words) - _LISTED
    listed = ", ".join(words[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
    return f"{text}{'' if close else ';'} known: {listed}"
