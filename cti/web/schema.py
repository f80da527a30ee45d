"""Checks values against the part of JSON Schema that our route table uses, so that what is documented holds.

Known keywords: `type`, `enum`, `minLength`, `maxLength`, `minimum`, `maximum`, `format` (`date-time`),
`properties`, `required`, `additionalProperties: false`. Anything else in a schema only documents.
"""

import re
from collections.abc import Mapping
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
    if isinstance(value, str):
        return _text_errors(schema, value, where)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _size_errors(schema, value, where)
    if isinstance(value, dict):
        return _object_errors(schema, value, where)
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
        return [f"{where} must not be empty"]
    if len(value) > schema.get("maxLength", len(value)):
        return [f"{where} has {len(value)} characters; at most {schema['maxLength']} are taken"]
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
    found = [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, item in value.items():
        if name in properties:
            found += errors(properties[name], item, f"{where}.{name}")
        elif schema.get("additionalProperties") is False:
            found.append(f"{where}.{name[:_SHOWN]} is not known; known are {', '.join(properties)}")
    return found


def _listed(names: Any) -> str:
    return " or ".join("null" if name is None else str(name) for name in names)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
