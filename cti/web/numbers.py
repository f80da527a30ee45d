"""The part of the API for other systems' numbers: what stands in their forms becomes a key, and what people read."""

from typing import Final

import orjson

from cti.calls.present import number_json
from cti.numbers import INPUT_LIMIT
from cti.web.problems import Problem
from cti.web.routing_table import Answer, Asked, Route
from cti.web.services import Services
from cti.web.shapes import STRING, listed, maybe, record
from cti.web.tokens import ADMIN, AGENT, CRM, SUPERVISOR

#: Some 50 µs each, which calls have to wait for.
MAX_NUMBERS: Final = 200


async def normalise(services: Services, asked: Asked) -> Answer:
    region = asked.body.get("region")
    try:
        plan = services.numbers if region is None else services.numbers.for_region(region)
    except ValueError as error:
        raise Problem(422, f"body.region: {error}") from error
    return Answer(
        orjson.dumps({"numbers": [number_json(written, plan) for written in asked.body["numbers"]]})
    )


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "POST",
        "/api/v1/numbers/normalise",
        normalise,
        "What numbers are, as people write them, in the same order",
        "For forms of other systems that format a number while it is typed, and for what they keep. `region` is the"
        " country whose national forms they are, without it the configured one. What is no public number has an"
        " `error` in place of `e164`; an internal number is among these, and has a `display` form.",
        roles=frozenset({AGENT, SUPERVISOR, ADMIN, CRM}),
        body={
            "type": "object",
            "required": ["numbers"],
            "additionalProperties": False,
            "properties": {
                "region": {"type": "string", "minLength": 2, "maxLength": 2},
                "numbers": {
                    "type": "array",
                    "maxItems": MAX_NUMBERS,
                    "items": {"type": "string", "maxLength": INPUT_LIMIT},
                },
            },
        },
        answers=(
            "application/json",
            record(
                {
                    "numbers": listed(
                        record(
                            {
                                "raw": STRING,
                                "e164": maybe(STRING),
                                "display": maybe(STRING),
                                "error": maybe(STRING),
                            }
                        )
                    )
                }
            ),
        ),
        problems={422: "something in the request is not as described here, or no such region"},
    ),
)
