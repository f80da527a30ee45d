"""The words in which a CRM is described: expressions (JMESPath) that take values, and texts with some in braces.

Neither can do anything but take, choose and write values; what is asked with them is left to ``http``.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import jmespath
from attrs import field, frozen
from jmespath import exceptions
from jmespath.functions import Functions, signature

from adapters.base import AdapterAnswerError
from routing.words import quoted

_TEXT: Final[Any] = {"types": ["string", "null"]}
_NUMBER: Final[Any] = {"types": ["number", "null"]}
_ANY: Final[Any] = {"types": []}
_WORD: Final[Any] = {"types": ["string"]}

_OURS: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "cordboard")
_SOSL: Final = re.compile(r"""([?&|!{}\[\]()^~*:\\"'+\-])""")
_LUCENE: Final = re.compile(r"""([+\-=&|!(){}\[\]^"~*?:\\/<>])""")


class WordsError(ValueError):
    """No expression, or no text with expressions; says what would be right."""


class Vocabulary(Functions):
    """The functions of expressions beside JMESPath's own; what they are given nothing for, they make nothing of.

    ``maps``: name → their word to the CRM's; ``zone``: of times that do not name one.
    """

    def __init__(self, maps: Mapping[str, Mapping[str, Any]], zone: tzinfo) -> None:
        super().__init__()
        self._maps = maps
        self._zone = zone

    @signature(_ANY)
    def _func_text(self, value: Any) -> str | None:
        return None if value is None else as_text(value)

    @signature(_TEXT)
    def _func_digits(self, text: str | None) -> str | None:
        return None if text is None else "".join(c for c in text if c in "0123456789")

    @signature(_TEXT, _NUMBER)
    def _func_last(self, text: str | None, count: float) -> str | None:
        return None if text is None else text[-int(count) :]

    @signature(_TEXT, _NUMBER)
    def _func_cut(self, text: str | None, count: float) -> str | None:
        return None if text is None else text[: int(count)]

    @signature(_TEXT, _WORD)
    def _func_before(self, text: str | None, mark: str) -> str | None:
        return None if text is None else text.partition(mark)[0]

    @signature(_TEXT, _WORD)
    def _func_after(self, text: str | None, mark: str) -> str | None:
        return None if text is None else text.partition(mark)[2]

    @signature(_WORD, _ANY)
    def _func_mapped(self, name: str, value: Any) -> Any:
        return None if value is None else self._maps.get(name, {}).get(as_text(value))

    @signature(_TEXT, _WORD)
    def _func_time(self, moment: str | None, form: str) -> Any:
        """One of our times as the CRM writes it: ``iso``, ``ms``, ``s`` or as ``strftime`` has it."""
        if moment is None:
            return None
        at = datetime.fromisoformat(moment)
        match form:
            case "iso":
                return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            case "ms":
                return int(at.timestamp() * 1000)
            case "s":
                return int(at.timestamp())
        return at.astimezone(self._zone).strftime(form)

    @signature(_ANY, _WORD)
    def _func_moment(self, value: Any, form: str) -> str | None:
        """A time of the CRM as ours, nothing if it is none."""
        try:
            match form:
                case "iso":
                    at = datetime.fromisoformat(as_text(value))
                case "ms":
                    at = datetime.fromtimestamp(float(value) / 1000, UTC)
                case "s":
                    at = datetime.fromtimestamp(float(value), UTC)
                case _:
                    at = datetime.strptime(as_text(value), form)
        except (ValueError, TypeError, OverflowError, OSError):
            return None
        return (at if at.tzinfo is not None else at.replace(tzinfo=self._zone)).isoformat()

    @signature(_NUMBER)
    def _func_whole(self, value: float | None) -> int | None:
        return None if value is None else round(value)

    @signature(_NUMBER)
    def _func_minutes(self, seconds: float | None) -> int | None:
        """Begun ones count."""
        return None if seconds is None else math.ceil(seconds / 60)

    @signature(_NUMBER)
    def _func_minutes_seconds(self, seconds: float | None) -> str | None:
        return None if seconds is None else f"{round(seconds) // 60:02}:{round(seconds) % 60:02}"

    @signature(_NUMBER)
    def _func_hours(self, seconds: float | None) -> int | None:
        return None if seconds is None else int(seconds // 3600)

    @signature(_NUMBER)
    def _func_minutes_past(self, seconds: float | None) -> int | None:
        return None if seconds is None else int(seconds % 3600 // 60)

    @signature(_NUMBER)
    def _func_ms(self, seconds: float | None) -> int | None:
        return None if seconds is None else round(seconds * 1000)

    @signature(_NUMBER, _NUMBER)
    def _func_plus(self, one: float | None, other: float | None) -> float | None:
        return None if one is None or other is None else one + other

    @signature(_TEXT)
    def _func_number(self, text: str | None) -> int | None:
        return int(text) if text is not None and re.fullmatch(r"-?[0-9]{1,18}", text) else None

    @signature(_TEXT)
    def _func_odata(self, text: str | None) -> str | None:
        """Within the quotes of OData's ``$filter``."""
        return None if text is None else text.replace("'", "''")

    @signature(_TEXT)
    def _func_soql(self, text: str | None) -> str | None:
        """Within the quotes of SOQL, SQL and VTQL with backslashes."""
        return None if text is None else text.replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"')

    @signature(_TEXT)
    def _func_sosl(self, text: str | None) -> str | None:
        """Within the braces of SOSL's ``FIND``."""
        return None if text is None else _SOSL.sub(r"\\\1", text)

    @signature(_TEXT)
    def _func_lucene(self, text: str | None) -> str | None:
        """A term of Lucene's query syntax (Elasticsearch)."""
        return None if text is None else _LUCENE.sub(r"\\\1", text)

    @signature(_TEXT)
    def _func_html(self, text: str | None) -> str | None:
        return None if text is None else html.escape(text).replace("\n", "<br>")

    @signature(_TEXT)
    def _func_unhtml(self, text: str | None) -> str | None:
        return None if text is None else html.unescape(re.sub(r"<[^<>]*>", " ", text))

    @signature(_TEXT)
    def _func_md5(self, text: str | None) -> str | None:
        """For logins by a challenge, whose makers have chosen it."""
        return None if text is None else hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    @signature(_TEXT)
    def _func_uuid(self, text: str | None) -> str | None:
        """A text as a UUID, the same each time: an id that a CRM lets us choose."""
        return None if text is None else str(uuid.uuid5(_OURS, text))

    @signature({"types": ["array", "null"]}, _WORD, _TEXT)
    def _func_holding(self, values: list[Any] | None, name: str, text: str | None) -> list[Any]:
        """Those objects of the list whose entry of that name has the text in it."""
        return [
            value
            for value in values or ()
            if text and isinstance(value, dict) and text in as_text(value.get(name))
        ]

    @signature(_TEXT, _WORD)
    def _func_parameter(self, url: str | None, name: str) -> str | None:
        """What a link's query has under the name."""
        return None if url is None else dict(parse_qsl(urlsplit(url).query)).get(name)

    @signature({"types": ["array", "null"]})
    def _func_known(self, values: list[Any] | None) -> list[Any]:
        """Those of the list that are neither missing nor empty."""
        return [value for value in values or () if value not in (None, "", [], {})]


def as_text(value: Any) -> str:
    """A value of JSON as it stands in a text; nothing is empty."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case int() | float():
            return str(value)
    return json.dumps(value, ensure_ascii=False)


@frozen
class Expression:
    """A JMESPath expression. Raises ``WordsError`` if it is none, or uses a function that nobody knows."""

    source: str
    _compiled: Any = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        try:
            compiled = jmespath.compile(self.source)
        except exceptions.JMESPathError as error:
            said = str(error).partition("\n")[0][:200]
            raise WordsError(f"is no expression: {said}") from None
        for name in _functions_in(compiled.parsed):
            if name not in Vocabulary.FUNCTION_TABLE:
                known = ", ".join(sorted(Vocabulary.FUNCTION_TABLE))
                raise WordsError(f"uses a function {quoted(name)}; one of {known} would be right")
        object.__setattr__(self, "_compiled", compiled)

    def of(self, value: Any, vocabulary: Vocabulary) -> Any:
        """What it takes from the value; nothing where there is none. Raises ``AdapterAnswerError``."""
        try:
            return self._compiled.search(value, jmespath.Options(custom_functions=vocabulary))
        except (exceptions.JMESPathError, TypeError, ValueError, AttributeError, RecursionError) as error:
            # Its own text would show the value.
            raise AdapterAnswerError(
                f"what came does not suit `{self.source[:120]}` ({type(error).__name__})"
            ) from None


def _functions_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") == "function_expression":
            yield node["value"]
        for child in node.get("children", ()):
            yield from _functions_in(child)


@frozen
class Template:
    """A text with expressions in braces; ``{{`` and ``}}`` are braces. Raises ``WordsError``."""

    source: str
    parts: tuple[str | Expression, ...] = field(init=False, eq=False, repr=False)

    @parts.default
    def _take_apart(self) -> tuple[str | Expression, ...]:
        return tuple(_parts(self.source))

    def value(self, context: Any, vocabulary: Vocabulary) -> Any:
        """The value itself if it is one expression and nothing else, else the text."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Expression):
            return self.parts[0].of(context, vocabulary)
        return self.text(context, vocabulary)

    def text(
        self, context: Any, vocabulary: Vocabulary, escaped: Callable[[str], str] = lambda text: text
    ) -> str:
        return "".join(
            part if isinstance(part, str) else escaped(as_text(part.of(context, vocabulary)))
            for part in self.parts
        )


def _parts(source: str) -> Iterator[str | Expression]:
    literal, at = "", 0
    while at < len(source):
        if source[at : at + 2] in ("{{", "}}"):
            literal += source[at]
            at += 2
        elif source[at] == "{":
            if literal:
                yield literal
            end = _closing(source, at + 1)
            yield Expression(source[at + 1 : end].strip())
            literal, at = "", end + 1
        elif source[at] == "}":
            raise WordsError("has a } without its {; }} would be right for the character itself")
        else:
            literal += source[at]
            at += 1
    if literal:
        yield literal


def _closing(source: str, at: int) -> int:
    """Where the brace is closed, braces in quotes and in pairs not counting."""
    depth, quote = 0, ""
    while at < len(source):
        char = source[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"`":
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}":
            if not depth:
                return at
            depth -= 1
        at += 1
    raise WordsError("has a { without its }; {{ would be right for the character itself")
