"""What is wrong in rules, with its place in them, and how an error text speaks of what somebody wrote."""

import json
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeGuard

from attrs import frozen

from routing.words import quoted, unknown

Path = tuple[str | int, ...]

_SHOWN_STEP: Final = 64


@frozen
class Problem:
    """Something wrong in rules: where (`of_key`: the key that ends the path, not its value), and what."""

    path: Path
    text: str
    of_key: bool = False

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.text}"


class RulesError(ValueError):
    """Rules that cannot be compiled, with every problem found."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def path_text(path: Path) -> str:
    """A path the way people write it: `rules[2].when.party.tier`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            shown = step if step.isprintable() and len(step) <= _SHOWN_STEP else quoted(step)
            text += f".{shown}" if text else shown
    return text


class Reader:
    """Reads what somebody wrote, and goes on after a problem, so that all of them come out at once.

    @ivar problems: those found so far.
    """

    #: For each sort of mapping an example of it, and what its keys are called where that is not "key".
    EXAMPLES: Mapping[str, str] = {}
    NOUNS: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, path: Path, text: str, *, of_key: bool = False) -> None:
        self.problems.append(Problem(path, text, of_key))

    def mapping(self, raw: object, path: Path, what: str, known: Collection[str]) -> Mapping[str, Any]:
        """The entries of `raw` whose keys are known; problems for the others."""
        if not isinstance(raw, Mapping):
            self.wrong(
                path, f"{what} is {named(raw)}; a mapping would be right, such as {{{self.EXAMPLES[what]}}}"
            )
            return {}
        entries: dict[str, Any] = {}
        for key, value in raw.items():
            if isinstance(key, str) and key in known:
                entries[key] = value
            else:
                noun = self.NOUNS.get(what, "key")
                self.wrong((*path, str(key)), unknown(noun, str(key), known), of_key=True)
        return entries

    def whole(self, raw: object, path: Path, least: int, most: int, of: str = "") -> int | None:
        """A whole number within these limits; `of` says of what."""
        if is_number(raw) and least <= raw <= most:
            return raw
        self.wrong(path, f"whole {of or 'numbers'} from {least} to {most} would be right")
        return None


def is_number(value: object) -> TypeGuard[int]:
    """Python takes True for 1; a person who writes `yes` does not."""
    return isinstance(value, int) and not isinstance(value, bool)


def named(value: object) -> str:
    """What YAML made of what somebody wrote."""
    match value:
        case None:
            return "empty"
        case bool():
            return "a yes or no"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a mapping"
    return f"a {type(value).__name__}"


def shown(value: object) -> str:
    """A text as it was written; of anything else, what YAML made of it."""
    return quoted(value) if isinstance(value, str) else named(value)


def as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
