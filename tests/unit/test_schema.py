"""What a schema of the route table promises is checked, and told in words that help."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cti.web.api import ROUTES
from cti.web.schema import CHECKED, TOLD, Schema, errors, from_text

DIGITS: Schema = {"type": "string", "pattern": "^[0-9]+$", "description": "digits"}
LIST: Schema = {"type": "array", "items": DIGITS, "minItems": 1, "maxItems": 2}
CHOICE: Schema = {
    "type": "object",
    "oneOf": [
        {
            "type": "object",
            "required": ["extend"],
            "properties": {"extend": {"type": "integer", "minimum": 1}},
        },
        {"type": "object", "required": ["finish"], "properties": {"finish": {"type": "boolean"}}},
    ],
}
DEEP: Schema = {
    "type": "object",
    "properties": {"people": {"type": "array", "items": {"type": "object", "required": ["name"]}}},
    "additionalProperties": {"type": "integer"},
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (DIGITS, "12"),
        (LIST, ["1", "2"]),
        (CHOICE, {"extend": 5}),
        (CHOICE, {"finish": True}),
        (DEEP, {"people": [{"name": "Anna"}], "more": 1}),
        ({"type": "object", "additionalProperties": True}, {"a": "b"}),
    ],
)
def test_what_is_right_has_no_fault(schema: Schema, value: Any) -> None:
    assert errors(schema, value, "body") == []


@pytest.mark.parametrize(
    ("schema", "value", "fault"),
    [
        (DIGITS, "1a", "body must be digits, not '1a'"),
        (LIST, [], "body must have at least 1 items, not 0"),
        (LIST, ["1", "2", "3"], "body has 3 items; at most 2 are taken"),
        (LIST, ["1", "x"], "body[1] must be digits, not 'x'"),
        (LIST, "1", "body must be array, not '1'"),
        (CHOICE, {"extend": 0}, "body.extend must be at least 1, not 0"),
        (CHOICE, {"extend": 5, "finish": True}, "body may be understood in several ways"),
        (DEEP, {"people": [{"name": "Anna"}, {}]}, "body.people[1].name is missing"),
        (DEEP, {"more": "x"}, "body.more must be integer, not 'x'"),
        ({"type": "string", "minLength": 1}, "", "body must not be empty"),
        ({"type": "string", "minLength": 8}, "short", "body must have at least 8 characters"),
    ],
)
def test_a_fault_is_named_with_its_place(schema: Schema, value: Any, fault: str) -> None:
    (found,) = errors(schema, value, "body")
    assert found.startswith(fault)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False)])
def test_yes_and_no_in_a_query(text: str, value: bool) -> None:
    assert from_text({"type": "boolean"}, text, "all") == (value, [])


@pytest.mark.parametrize("text", ["1", "yes", "True", ""])
def test_what_is_neither_is_refused(text: str) -> None:
    _, (fault,) = from_text({"type": "boolean"}, text, "all")
    assert fault.startswith("all must be true or false")


def keywords(schema: Schema) -> Iterator[str]:
    """All keywords of a schema and of those inside it."""
    for keyword, value in schema.items():
        yield keyword
        inside: list[Any] = []
        if keyword == "properties":
            inside = list(value.values())
        elif keyword in ("items", "additionalProperties"):
            inside = [value]
        elif keyword == "oneOf":
            inside = list(value)
        for each in inside:
            if isinstance(each, Mapping):
                yield from keywords(each)


@pytest.mark.parametrize("route", ROUTES, ids=[f"{row.method} {row.path}" for row in ROUTES])
def test_nothing_is_promised_of_a_request_that_nobody_checks(route: Any) -> None:
    schemas = [each.schema for each in (*route.query, *route.headers)] + ([route.body] if route.body else [])
    for schema in schemas:
        assert set(keywords(schema)) <= CHECKED | TOLD
