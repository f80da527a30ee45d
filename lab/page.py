"""How the demo looks on a terminal: headings, aligned facts and moments, a card in a box, JSON that fits.

What is told is up to `lab.demo`. Colours appear on a terminal only, and not where NO_COLOR is set."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from attrs import frozen

from cti.commands.output import printable

_NARROWEST, _WIDEST = 72, 100
_INDENT = "  "
_NAME = 12

_BOLD, _DIM, _GREEN, _RED, _CYAN = "1", "2", "32", "31", "36"


@frozen
class Page:
    """Where the story is written, line by line."""

    stream: TextIO
    width: int
    colour: bool

    @classmethod
    def on(cls, stream: TextIO) -> Page:
        """As wide as the terminal, within reason."""
        columns = shutil.get_terminal_size((_WIDEST, 24)).columns
        colour = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        return cls(stream, max(_NARROWEST, min(columns - 1, _WIDEST)), colour)

    def line(self, text: str = "") -> None:
        print(text.rstrip(), file=self.stream, flush=True)

    def heading(self, title: str, more: str = "") -> None:
        """An empty line and a title."""
        self.line()
        self.line(self._in(_BOLD, title) + (f"  {self._in(_DIM, more)}" if more else ""))

    def fact(self, name: str, text: str) -> None:
        """A name and what there is to say of it, wrapped below itself."""
        self._hanging(f"{_INDENT}{name:<{_NAME}} ", text)

    def moment(self, seconds: float | None, name: str, text: str) -> None:
        """What happened, that long after the beginning; without `seconds` it goes with the one before."""
        time = " " * 10 if seconds is None else f"{seconds:+8.3f} s"
        name = f"{name:<{_NAME}}"
        self._hanging(f"{_INDENT}{time}  {name}", text, f"{_INDENT}{time}  {self._in(_CYAN, name)}")

    def verdict(self, held: bool, text: str) -> None:
        """Whether something is as it should be."""
        mark, colour = ("✓", _GREEN) if held else ("✗", _RED)
        self._hanging(f"{_INDENT}{mark} ", text, f"{_INDENT}{self._in(colour, mark)} ")

    def trouble(self, text: str) -> None:
        """Something went wrong."""
        first, *others = text.splitlines() or [""]
        self.line()
        self.line(self._in(_RED, "demo: ") + first)
        for line in others:
            self.line(f"      {line}")

    def command(self, text: str) -> None:
        """A command to be copied: never wrapped."""
        self.line(f"{_INDENT}{' ' * _NAME} {self._in(_BOLD, text)}")

    def card(self, title: str, sections: Iterable[Sequence[str]]) -> None:
        """Sections of lines in a box, separated from each other."""
        margin = f"{_INDENT}{' ' * 12}"
        inside = self.width - len(margin) - 4
        self.line(f"{margin}╭─ {title} {'─' * (inside - _columns(title) - 1)}╮")
        for number, section in enumerate(filter(None, sections)):
            if number:
                self.line(f"{margin}├{'─' * (inside + 2)}┤")
            for text in section:
                for part in textwrap.wrap(text, inside, subsequent_indent=_below(text)) or [""]:
                    self.line(f"{margin}│ {part}{' ' * (inside - _columns(part))} │")
        self.line(f"{margin}╰{'─' * (inside + 2)}╯")

    def document(self, document: Mapping[str, Any]) -> None:
        """A JSON object, its members flowing from line to line."""
        line = ""
        for atom in _atoms(document):
            if line and len(_INDENT) + _columns(f"{line} {atom}") > self.width:
                self.line(f"{_INDENT}{line}")
                line = " "
            line += f" {atom}" if line.strip() else atom
        self.line(f"{_INDENT}{line}")

    def _hanging(self, margin: str, text: str, shown: str = "") -> None:
        """Text, wrapped beside its margin; `shown` is the margin with its colours, if it has any."""
        width = max(20, self.width - len(margin))
        lines = textwrap.wrap(printable(text), width, break_long_words=False, break_on_hyphens=False) or [""]
        self.line((shown or margin) + lines[0])
        for line in lines[1:]:
            self.line(" " * len(margin) + line)

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text


def _atoms(value: Any) -> list[str]:
    """The JSON of a value in pieces, between which a line may end."""
    if isinstance(value, Mapping) and value:
        members = []
        for name, member in value.items():
            first, *others = _atoms(member)
            members.append([f"{json.dumps(name)}: {first}", *others])
        return _enclosed("{", members, "}")
    if isinstance(value, list) and value:
        return _enclosed("[", [_atoms(member) for member in value], "]")
    return [printable(json.dumps(value, ensure_ascii=False))]


def _enclosed(opening: str, members: list[list[str]], closing: str) -> list[str]:
    for member in members[:-1]:
        member[-1] += ","
    members[0][0] = opening + members[0][0]
    members[-1][-1] += closing
    return [atom for member in members for atom in member]


def _below(text: str) -> str:
    """Where the next lines of a paragraph begin: two columns to the right."""
    return " " * (len(text) - len(text.lstrip()) + 2)


def _columns(text: str) -> int:
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )
