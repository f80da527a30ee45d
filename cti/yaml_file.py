"""A YAML file as values that know their place, within limits, so that each problem has its line and column.

Reads shapes (sections, names, lists, texts, numbers), notes what is wrong and goes on with something in its
stead; what the values mean is left to who reads the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from attrs import define, field, frozen

from routing.problems import Path as Keys, path_text
from routing.words import quoted, unknown

MAX_FILE: Final = 1024 * 1024
# Keys count, too, and aliases as often as they are used, so that a small file cannot stand for a huge one.
MAX_VALUES: Final = 200_000
MAX_NESTING: Final = 50
MAX_TEXT: Final = 500

NAME_IS: Final = "a name of up to 64 letters, digits and _.- would be right"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,18}")

# libyaml's parser in C takes an eighth of the time of the one in Python, and gives the same events. Its
# composer is not used: on values nested 50,000 deep it ends the process.
_PARSER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Final[Any] = yaml.resolver.Resolver()
_TAG: Final = "tag:yaml.org,2002:"

# Tag → what a value with it is called.
_KINDS: Final[Mapping[str, str]] = {
    "map": "a mapping",
    "seq": "a list",
    "str": "a text",
    "int": "a number",
    "float": "a number",
    "bool": "a yes or no",
    "null": "empty",
    "timestamp": "a date",
    "merge": "something else",
}


def is_name(text: str) -> bool:
    """Whether `text` is fit to be the name of something; `NAME_IS` says what is."""
    return _NAME.fullmatch(text) is not None


@frozen(order=True)
class Problem:
    """One thing wrong in a file; `line` and `column` count from 1, `path` is empty for the whole file."""

    line: int
    column: int
    path: str
    text: str
    file: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}:"
        return f"{where} {self.path}: {self.text}" if self.path else f"{where} {self.text}"


@define(eq=False)
class _Placed:
    """`line` and `column` count from 1; `tag` is YAML's, without what all of them begin with."""

    line: int
    column: int
    tag: str

    @property
    def what(self) -> str:
        return _KINDS.get(self.tag, "something else")


@define(eq=False)
class ScalarNode(_Placed):
    """`text`: as it is written, quotes and escapes undone."""

    text: str


@define(eq=False)
class ListNode(_Placed):
    items: list[Node] = field(factory=list)


@define(eq=False)
class MappingNode(_Placed):
    """`entries`: key → the key's node and the value's."""

    entries: dict[str, tuple[Node, Node]] = field(factory=dict)


Node = ScalarNode | ListNode | MappingNode


class Place(NamedTuple):
    """A value in the file, and the keys that lead to it."""

    node: Node
    keys: Keys


class YamlFile:
    """One file; `problems` are those found so far, `advice` is what is none and should be known.

    `base` is the directory to which paths in it refer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = path.absolute().parent
        self.problems: list[Problem] = []
        self.advice: list[Problem] = []

    def open(self) -> Place | None:
        """The whole of it; None, with the problem noted, if that is nothing that could be looked into.

        Blocks. Duplicate keys (of which YAML libraries silently take the last), tags and merging are problems.
        """
        try:
            return Place(_Composer(self, _read(self.path)).root(), ())
        except _Unreadable as error:
            self._note(error.line, error.column, (), str(error))
            return None

    # Problems

    def wrong(self, place: Place, text: str) -> None:
        self._note(place.node.line, place.node.column, place.keys, text)

    def advise(self, place: Place, text: str) -> None:
        """Something that is allowed, and that its administrator should know."""
        self.advice.append(self._problem(place.node.line, place.node.column, place.keys, f"advice: {text}"))

    def wrong_below(self, place: Place, keys: Keys, text: str, *, of_key: bool) -> None:
        """A problem at `keys` below `place`, or as near to it as the file goes; `of_key`: at the last key."""
        node = at = place.node
        for key in keys:
            if isinstance(node, MappingNode) and isinstance(key, str) and key in node.entries:
                at_key, node = node.entries[key]
                at = at_key if of_key else node
            elif isinstance(node, ListNode) and isinstance(key, int) and key < len(node.items):
                at = node = node.items[key]
            else:
                break
        self._note(at.line, at.column, (*place.keys, *keys), text)

    def _note(self, line: int, column: int, keys: Keys, text: str) -> None:
        self.problems.append(self._problem(line, column, keys, text))

    def _problem(self, line: int, column: int, keys: Keys, text: str) -> Problem:
        return Problem(line, column, path_text(keys), text, str(self.path))

    # Shapes of values. None stands for a value that is not there, and for one with a problem.

    def section(self, place: Place | None, known: Collection[str] | None) -> Section:
        """The entries of a mapping; a key that is not `known` is a problem, unless that is None."""
        return Section(self, place, known)

    def named(self, place: Place | None, *, at_least_one: bool = False) -> Iterator[tuple[str, Place]]:
        """The entries of a mapping whose keys are names that the administrator gave."""
        if (
            at_least_one
            and place is not None
            and isinstance(place.node, MappingNode)
            and not place.node.entries
        ):
            self.wrong(place, "is empty; at least one would be right")
        for name, each in self.section(place, None).entries.items():
            if is_name(name):
                yield name, each
            else:
                self.wrong(each, f"{quoted(name)} cannot be a name; {NAME_IS}")

    def items(self, place: Place | None, example: str, *, at_least_one: bool = False) -> list[Place]:
        """The values of a list, of which `example` is one."""
        if place is None:
            return []
        if not isinstance(place.node, ListNode):
            self.wrong(place, f"is {place.node.what}; a list would be right, such as {example}")
            return []
        if at_least_one and not place.node.items:
            self.wrong(place, f"is empty; at least one would be right, such as {example}")
        return [Place(node, (*place.keys, index)) for index, node in enumerate(place.node.items)]

    def text(self, place: Place | None, *, one_line: bool = False) -> str | None:
        if place is None:
            return None
        node = place.node
        if not isinstance(node, ScalarNode) or node.tag != "str":
            quotes = f', in quotes: "{node.text}"' if isinstance(node, ScalarNode) and node.text else ""
            self.wrong(place, f"is {node.what}; a text would be right{quotes}")
            return None
        text = node.text
        if not text.strip() or len(text) > MAX_TEXT:
            self.wrong(place, f"a text of 1 to {MAX_TEXT} characters would be right")
            return None
        if not (text if one_line else text.replace("\n", "")).isprintable():
            self.wrong(place, "has control characters; a text without them would be right")
            return None
        return text

    def whole(self, place: Place | None, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        if place is None:
            return default
        node = place.node
        text = node.text if isinstance(node, ScalarNode) else ""
        if node.tag != "int" or not _WHOLE.fullmatch(text):
            self.wrong(
                place,
                f"{quoted(text) if text else 'this'} is not a whole number; {low} to {high} would be right",
            )
        elif not low <= int(text) <= high:
            self.wrong(place, f"{text} is out of range; {low} to {high} would be right")
        else:
            return int(text)
        return default

    def yes_or_no(self, place: Place | None, default: bool) -> bool:
        if place is None:
            return default
        if not isinstance(place.node, ScalarNode) or place.node.tag != "bool":
            self.wrong(place, f"is {place.node.what}; `true` or `false` would be right")
            return default
        return _truth(place.node.text)

    def choice(
        self,
        place: Place | None,
        default: str,
        what: str,
        words: Collection[str],
    ) -> str:
        """One of `words`; `what` says what they are."""
        text = self.text(place)
        if place is None or text is None:
            return default
        if text in words:
            return text
        self.wrong(place, unknown(what, text, words))
        return default

    def plain(self, place: Place) -> Any:
        """A value as Python has it; None, with the problem noted, for what no two people read alike.

        No text says what was there: it may be a secret.
        """
        node = place.node
        if isinstance(node, MappingNode):
            return {key: self.plain(Place(v, (*place.keys, key))) for key, (_, v) in node.entries.items()}
        if isinstance(node, ListNode):
            return [self.plain(Place(each, (*place.keys, i))) for i, each in enumerate(node.items)]
        match node.tag:
            case "null":
                self.wrong(place, "has no value; give one or leave the key out")
            case "bool":
                return _truth(node.text)
            case "int" if _WHOLE.fullmatch(node.text):
                return int(node.text)
            case "float" if _DECIMAL.fullmatch(node.text):
                return float(node.text)
            case "int" | "float":
                self.wrong(place, "is an unusual number; plain digits, or quotes, would be right")
            case "timestamp":
                self.wrong(place, "is a date; in quotes it would be a text")
            case _:
                return node.text
        return None


class Section:
    """The known keys of a mapping, the others being problems; without any where there is no such mapping."""

    def __init__(self, file: YamlFile, place: Place | None, known: Collection[str] | None) -> None:
        self._file = file
        self._place: Place | None = None
        self.entries: dict[str, Place] = {}
        if place is None:
            return
        node = place.node
        if not isinstance(node, MappingNode):
            shape = f"a mapping with {', '.join(known)}" if known else "a mapping of names"
            file.wrong(place, f"is {node.what}; {shape} would be right")
            return
        self._place = place
        for name, (key, value) in node.entries.items():
            if known is not None and name not in known:
                file.wrong(Place(key, (*place.keys, name)), unknown("key", name, known))
            else:
                self.entries[name] = Place(value, (*place.keys, name))

    def get(self, key: str) -> Place | None:
        return self.entries.get(key)

    def need(self, key: str, example: str) -> Place | None:
        place = self.entries.get(key)
        if place is None and self._place is not None:
            missing = Place(self._place.node, (*self._place.keys, key))
            self._file.wrong(missing, f"is missing; `{key}: {example}` would be right")
        return place


class _Unreadable(Exception):
    """What keeps a file from being looked into; `line` and `column` count from 1."""

    def __init__(self, text: str, line: int = 1, column: int = 1) -> None:
        super().__init__(text)
        self.line = line
        self.column = column


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise _Unreadable(f"cannot be read: {error.strerror}; a readable YAML file would be right") from error
    if len(raw) > MAX_FILE:
        raise _Unreadable(
            f"is longer than {MAX_FILE} bytes; agents belong into the store (cti agents import)"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Unreadable(
            "is not UTF-8 here; a file saved as UTF-8 would be right",
            *_position(raw[: error.start].decode("utf-8", "replace")),
        ) from error
    if (unwanted := yaml.reader.Reader.NON_PRINTABLE.search(text)) is not None:
        raise _Unreadable(
            "has a character that may not stand in YAML; remove it", *_position(text[: unwanted.start()])
        )
    return text


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


@frozen
class _Anchored:
    """A value that aliases may stand for: how many values it is, and how many levels deep."""

    node: Node
    size: int
    depth: int


class _Composer:
    """Makes the tree of the parser's events, in one go, so that every limit is checked as soon as it counts."""

    def __init__(self, file: YamlFile, text: str) -> None:
        self._file = file
        self._events: Iterator[Any] = yaml.parse(text, Loader=_PARSER)
        self._keys: list[str | int] = []
        # None while the value is not complete.
        self._anchors: dict[str, _Anchored | None] = {}
        self._size = 0
        self._deepest = 0

    def root(self) -> Node:
        """Raises `_Unreadable`."""
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = " ".join(part for part in (error.context, error.problem) if part)
            where = (mark.line + 1, mark.column + 1) if mark else ()
            raise _Unreadable(f"is not valid YAML: {said}", *where) from error

    def _document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _refused(event, "is not valid YAML: a second document; one would be right")
                root = self._value(next(self._events), 1)
        if root is None:
            raise _Unreadable("is empty; the documentation has a small configuration to begin with")
        return root

    def _value(self, event: Any, depth: int) -> Node:
        if depth > MAX_NESTING:
            raise _refused(event, f"is not valid YAML: values are nested deeper than {MAX_NESTING}")
        self._count(event, 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if event.anchor is None:
            return self._new(event, depth)
        if event.anchor in self._anchors:
            raise _refused(event, f"is not valid YAML: the anchor &{event.anchor} is there already")
        self._anchors[event.anchor] = None
        size, deepest = self._size, self._deepest
        self._deepest = depth
        node = self._new(event, depth)
        self._anchors[event.anchor] = _Anchored(node, self._size - size, self._deepest - depth)
        self._deepest = max(deepest, self._deepest)
        return node

    def _alias(self, event: Any, depth: int) -> Node:
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            where = "stands inside of" if event.anchor in self._anchors else "has not yet come to"
            raise _refused(event, f"is not valid YAML: the alias *{event.anchor} {where} what it stands for")
        if depth + anchored.depth > MAX_NESTING:
            raise _refused(event, f"is nested deeper than {MAX_NESTING} values; fewer aliases would be right")
        self._count(event, anchored.size)
        self._deepest = max(self._deepest, depth + anchored.depth)
        return anchored.node

    def _count(self, event: Any, values: int) -> None:
        self._size += values
        if self._size > MAX_VALUES:
            raise _refused(
                event,
                f"stands for more than {MAX_VALUES} values; fewer of them, or of aliases, would be right",
            )

    def _new(self, event: Any, depth: int) -> Node:
        if depth > self._deepest:
            self._deepest = depth
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        tag = str(event.tag or "!").removeprefix(_TAG)
        if isinstance(event, yaml.ScalarEvent):
            if tag == "!":
                tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit).removeprefix(_TAG)
            node: Node = ScalarNode(line, column, tag, event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = ListNode(line, column, "seq" if tag == "!" else tag)
            self._fill_list(node, depth)
        else:
            node = MappingNode(line, column, "map" if tag == "!" else tag)
            self._fill_mapping(node, depth)
        if node.tag not in _KINDS:
            self._wrong(node, f"has the tag {quoted(node.tag)}; a plain value would be right")
        return node

    def _fill_list(self, node: ListNode, depth: int) -> None:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self._keys.append(len(node.items))
            node.items.append(self._value(event, depth + 1))
            self._keys.pop()

    def _fill_mapping(self, node: MappingNode, depth: int) -> None:
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            self._keys.append("?")
            key = self._value(event, depth + 1)
            if isinstance(key, ScalarNode):
                self._keys[-1] = key.text
            value = self._value(next(self._events), depth + 1)
            if not isinstance(key, ScalarNode):
                self._wrong(key, "is not a key; a word would be right")
            elif key.tag == "merge":
                self._wrong(key, "merging is not done here; an alias for a whole value would be right")
            elif key.text in node.entries:
                first, _ = node.entries[key.text]
                self._wrong(key, f"is there twice; line {first.line} has it already")
            else:
                node.entries[key.text] = (key, value)
            self._keys.pop()

    def _wrong(self, node: Node, text: str) -> None:
        self._file.wrong(Place(node, tuple(self._keys)), text)


def _refused(event: Any, text: str) -> _Unreadable:
    return _Unreadable(text, event.start_mark.line + 1, event.start_mark.column + 1)


def _truth(text: str) -> bool:
    return text.lower() in ("true", "yes", "on")
