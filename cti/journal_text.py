"""What people read of a call in a CRM: texts with words in braces, and the words of the company's language.

Pure. Which values the words have for a call is left to the journal (``cti.calls.journal``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from attrs import field, frozen

from routing.words import unknown

#: What can stand in braces, and what it says.
WORDS: Final[Mapping[str, str]] = {
    "call": "what it was: Incoming call, 1:20",
    "about": "From 040 669690 to Sales",
    "course": "who talked and for how long, who passed it on, who was rung",
    "number": "the other side's number, as people here write it",
    "party": "the name of who it is",
    "agent": "who talked last",
    "agents": "all who talked, in their order",
    "service": "the title of the service",
    "wait": "until somebody answered: 0:12",
    "talk": "0:00 if nobody did",
    "notes": "what the agent wrote",
    "disposition": "how it came out, in the service's words",
    "id": "the call's id here",
}

_GAP: Final = re.compile(r"{([^{}]*)}")


@frozen
class JournalText:
    """A text with words in braces. Raises `ValueError`, saying what would be right, for one that nobody knows."""

    source: str
    _lines: tuple[str, ...] = field(init=False, eq=False, repr=False)

    @_lines.default
    def _checked(self) -> tuple[str, ...]:
        bare = _GAP.sub("", self.source)
        if "{" in bare or "}" in bare:
            raise ValueError("has a brace without its other; {call} would be right")
        for word in _GAP.findall(self.source):
            if word not in WORDS:
                raise ValueError(unknown("word of a text", word, WORDS))
        return tuple(self.source.strip().split("\n"))

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with its words. A line all of whose words say nothing of this call is left out."""
        return "\n".join(
            _GAP.sub(lambda gap: values[gap[1]], line).rstrip()
            for line in self._lines
            if any(values[word] for word in _GAP.findall(line)) or not _GAP.search(line)
        )


@frozen
class Language:
    """The words that come with Cordboard, in one language."""

    words: Mapping[str, str]

    def __call__(self, key: str, **values: str) -> str:
        return self.words[key].format_map(values)

    def has(self, key: str) -> bool:
        return key in self.words


@cache
def languages() -> tuple[str, ...]:
    """Those that there are words of."""
    found = (each.name for each in files("cti").joinpath("journal_words").iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in found if name.endswith(".json")))


@cache
def language(name: str) -> Language:
    """The words of one of `languages()`; reads a file, the first time."""
    return Language(
        json.loads(files("cti").joinpath("journal_words", f"{name}.json").read_text(encoding="utf-8"))
    )


def span(seconds: float) -> str:
    """`0:05`, `12:40`, `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
