"""Lists that grow come by pages: how a row takes `limit` and `cursor`, and what is said of a cursor that is none."""

from typing import Final

from cti.web.problems import Problem
from cti.web.routing_table import Parameter
from cti.web.shapes import TEXT

CURSOR: Final = Parameter("cursor", TEXT, "`next` of the page before")


def limit(most: int, default: int = 50) -> Parameter:
    """How many a page has."""
    return Parameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": most, "default": default}, "how many"
    )


def not_given_out(error: ValueError) -> Problem:
    """The cursor is not one of ours."""
    return Problem(422, f"cursor: {error}; take `next` from the page before", kind="cursor")
