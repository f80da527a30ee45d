"""Checks values against the part of JSON Schema that our route table uses, so that what is documented holds.

What is checked stands in `CHECKED`; `format` is checked where it is `date-time`. What only documents stands in
`TOLD`. Nothing else may stand in the schema of a request: it would be promised and not kept.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cti.calls.present import moment

Schema = Mapping[str, Any]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
CHECKED: Final = frozenset(
    {
        "type",
        "enum",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
        "oneOf",
    }
)
TOLD: Final = frozenset({"description", "examples", "default"})
_SHOWN: Final = 40
_LOST_PLUS = re.compile(r" (\d\d:?\d\d)$", re.ASCII)


def errors(schema: Schema, value: Any, where: str) -> list[str]:
    """What is wrong with `value`, one sentence a fault; each begins with the place, `where` or below it."""
    types = schema.get("type", ())
    names = (types,) if isinstance(types, str) else tuple(types)
    if names and not any(_is(value, name) for name in names):
        return [f"{where} must be {_listed(names)}, not {_shown(value)}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where} must be {_listed(schema['enum'])}, not {_shown(value)}"]
    if "oneOf" in schema:
        return _choice_errors(schema["oneOf"], value, where)
    if isinstance(value, str):
        return _text_errors(schema, value, where)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _size_errors(schema, value, where)
    if isinstance(value, dict):
        return _object_errors(schema, value, where)
    if isinstance(value, list):
        return _list_errors(schema, value, where)
    return []


def from_text(schema: Schema, text: str, where: str) -> tuple[Any, list[str]]:
    """The value of a query parameter as its schema's type, and what is wrong with it."""
    if schema.get("type") == "integer":
        if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) is None:
            return None, [f"{where} must be a whole number, not {_shown(text)}"]
        value = int(text)
        return value, errors(schema, value, where)
    if schema.get("type") == "boolean":
        if text not in ("true", "false"):
            return None, [f"{where} must be true or false, not {_shown(text)}"]
        return text == "true", []
    # People and curl write a + into a URL as it is, where it means a space.
    if schema.get("format") == "telephone" and text.startswith(" "):
        text = f"+{text.lstrip()}"
    if schema.get("format") == "date-time":
        text = _LOST_PLUS.sub(r"+\1", text)
    return text, errors(schema, text, where)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool) and name != "boolean":
        return False
    return isinstance(value, _TYPES[name])


def _text_errors(schema: Schema, value: str, where: str) -> list[str]:
    if len(value) < schema.get("minLength", 0):
        least = schema["minLength"]
        return [
            f"{where} must not be empty" if least == 1 else f"{where} must have at least {least} characters"
        ]
    if len(value) > schema.get("maxLength", len(value)):
        return [f"{where} has {len(value)} characters; at most {schema['maxLength']} are taken"]
    if "pattern" in schema and re.search(schema["pattern"], value) is None:
        return [f"{where} must be {schema.get('description', schema['pattern'])}, not {_shown(value)}"]
    if schema.get("format") == "date-time":
        try:
            moment(value)
        except ValueError as error:
            return [f"{where}: {error}"]
    return []


def _size_errors(schema: Schema, value: float, where: str) -> list[str]:
    if value < schema.get("minimum", value):
        return [f"{where} must be at least {schema['minimum']}, not {_shown(value)}"]
    if value > schema.get("maximum", value):
        return [f"{where} must be at most {schema['maximum']}, not {_shown(value)}"]
    return []


def _object_errors(schema: Schema, value: Mapping[str, Any], where: str) -> list[str]:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    others: Schema | bool = schema.get("additionalProperties", {})
    found = [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, item in value.items():
        if name in properties:
            found += errors(properties[name], item, f"{where}.{name}")
        elif others is False:
            found.append(f"{where}.{name[:_SHOWN]} is not known; known are {', '.join(properties)}")
        elif others is not True:
            found += errors(others, item, f"{where}.{name[:_SHOWN]}")
    return found


def _list_errors(schema: Schema, value: Sequence[Any], where: str) -> list[str]:
    if len(value) < schema.get("minItems", 0):
        return [f"{where} must have at least {schema['minItems']} items, not {len(value)}"]
    if len(value) > schema.get("maxItems", len(value)):
        return [f"{where} has {len(value)} items; at most {schema['maxItems']} are taken"]
    each = schema.get("items", {})
    return [fault for at, item in enumerate(value) for fault in errors(each, item, f"{where}[{at}]")]


def _choice_errors(choices: Sequence[Schema], value: Any, where: str) -> list[str]:
    """None if it is exactly one of these; else what is wrong with it as the one that it comes nearest to."""
    found = sorted((errors(choice, value, where) for choice in choices), key=len)
    if len(found) > 1 and not found[1]:
        return [f"{where} may be understood in several ways; leave out what does not belong to the one meant"]
    return found[0]


def _listed(names: Any) -> str:
    return " or ".join("null" if name is None else str(name) for name in names)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
