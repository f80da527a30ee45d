"""What softphones tell of their calls, as JSON or by a URL; what it means is `cti.calls.softphone`'s."""

from math import ceil
from typing import Any, Final

from cti.calls.softphone import News, Softphone, Told, TooMuchTold
from cti.web.problems import Problem
from cti.web.routing_table import JSON, Answer, Asked, Parameter, Route, json_answer
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.shapes import STRING, closed, maybe
from cti.web.tokens import AGENT, SOFTPHONE


async def tell(services: Services, asked: Asked) -> Answer:
    who, given = asked.identity, asked.query if asked.body is None else asked.body
    if who.extension is None or who.agent is None:
        raise Problem(
            403,
            "this token is no softphone's;"
            " `cti token add NAME --role agent --agent ID --scope softphone --extension EXTENSION` makes one",
            kind="no-softphone",
        )
    if given["extension"] != who.extension:
        raise Problem(403, "extension: this token is another extension's", kind="not-your-extension")
    for name in ("number", "call_id"):
        if not (given.get(name) or "").isprintable():
            raise Problem(422, f"{name}: only printable characters would be right")
    if any(character.isspace() for character in given.get("call_id") or ""):
        raise Problem(422, "call_id: without blanks it would be right")
    told = Told(
        News(asked.route.path.rpartition("/")[2]),
        given.get("number") or None,
        given.get("call_id") or None,
        given.get("direction") == "outbound",
    )
    try:
        call = await services.softphones.tell(Softphone(who.extension, who.agent), told)
    except TooMuchTold as error:
        raise Problem(
            429,
            str(error),
            kind="too-many-requests",
            headers={"Retry-After": str(max(1, ceil(error.seconds)))},
        ) from error
    return json_answer({"call": call})


_EXTENSION: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 64,
    "description": "the token's; of another one nothing is taken",
}
#: Empty where the softphone knows nothing to put in its place.
_NUMBER: Final[Schema] = {
    "type": "string",
    "maxLength": 64,
    "description": "of the other side, as dialled or shown",
}
_CALL_ID: Final[Schema] = {
    "type": "string",
    "maxLength": 128,
    "description": "the softphone's own id of the call",
}
_DIRECTION: Final[Schema] = {"type": "string", "enum": ["inbound", "outbound"]}
_GIVEN: Final[dict[str, Schema]] = {
    "extension": _EXTENSION,
    "number": _NUMBER,
    "call_id": _CALL_ID,
    "direction": _DIRECTION,
}
_TOKEN: Final[Schema] = {"type": "string", "maxLength": 256}
_SUMMARIES: Final = {
    News.RINGING: "A softphone rings, or calls",
    News.CONNECTED: "A softphone's call was answered",
    News.ENDED: "A softphone's call is over",
    News.MISSED: "A softphone's call is over, and nobody took it",
}
_ABOUT: Final = (
    "Repeats and late news change nothing. Without `call_id` it is the newest open call of the extension with this"
    " number. Only with a token that was made for one extension."
)


def _row(method: str, news: News) -> Route:
    shared: dict[str, Any] = {
        "roles": frozenset({AGENT}),
        "scope": SOFTPHONE,
        # The call is in the log itself.
        "audited": False,
        "answers": (
            JSON,
            {
                "type": "object",
                "required": ["call"],
                "properties": {
                    "call": {**maybe(STRING), "description": "its id; null: no call of that kind is known"}
                },
            },
        ),
        "problems": {
            403: "not a token of this extension",
            429: "more than a phone can tell",
            503: "not written",
        },
    }
    path = f"/api/v1/softphone/{news}"
    if method == "POST":
        body = closed(_GIVEN, "extension")
        return Route(method, path, tell, _SUMMARIES[news], _ABOUT, body=body, **shared)
    query = [
        Parameter(name, schema, str(schema.get("description", name)), required=name == "extension")
        for name, schema in _GIVEN.items()
    ]
    token = Parameter("token", _TOKEN, "a token of this extension, for softphones that can send no header")
    return Route(
        method,
        path,
        tell,
        _SUMMARIES[news],
        f"As POST, for softphones that can only open a URL. {_ABOUT}",
        query=(*query, token),
        token_in_query=True,
        unwritten=frozenset({"token", "number"}),
        **shared,
    )


ROUTES: Final = tuple(_row(method, news) for news in News for method in ("GET", "POST"))
