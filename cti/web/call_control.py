"""The part of the API that does something to calls: its rows of the route table, and what they are answered.

Whose call it is and whether it may be done now is `cti.calls.control`'s to say; which roles may ask is said here.
"""

from collections.abc import Awaitable, Mapping
from typing import Final

import orjson
from attrs import frozen

from cti.calls.control import (
    Asker,
    AsteriskAway,
    AsteriskRefused,
    AsteriskSilent,
    BadTarget,
    CallUnknown,
    ControlError,
    Done,
    NotAllowed,
    NotNow,
    TooMany,
    took_part,
)
from cti.calls.present import call_json
from cti.calls.recordings import NoRecording, RecordingError
from cti.store.base import StoreError
from cti.web.download import Download
from cti.web.problems import Problem
from cti.web.routing_table import ANSWER_SECONDS, Answer, Asked, Handler, Parameter, Route, own_agent
from cti.web.schema import Schema
from cti.web.services import Services
from cti.web.shapes import SCHEMAS, STRING, named
from cti.web.tokens import ADMIN, AGENT, CRM, SUPERVISOR, Identity

#: What is answered when an operation was not done: the status, and the problem's name within it.
PROBLEMS: Final[Mapping[type[ControlError], tuple[int, str]]] = {
    NotAllowed: (403, "not-allowed"),
    CallUnknown: (404, "no-such-call"),
    NotNow: (409, "not-now"),
    BadTarget: (422, "bad-target"),
    TooMany: (429, "too-many-calls"),
    AsteriskRefused: (502, "asterisk-refused"),
    AsteriskAway: (503, "asterisk-away"),
    AsteriskSilent: (504, "not-confirmed"),
}
#: The same for `/openapi.json`.
WHY: Final[Mapping[int, str]] = {
    404: "no such call, or an agent who has no part in it",
    409: "the call, the agent or the phone is not in a state for it; `detail` says in which",
    422: "something in the request is not as described here, or the number may not be dialled",
    502: "Asterisk, or the phone, said no",
    503: "no connection to that Asterisk",
    504: "Asterisk has not confirmed in time: look at the call before trying again",
}

_DESK: Final = frozenset({AGENT, SUPERVISOR, ADMIN})
_CALLERS: Final = frozenset({AGENT, SUPERVISOR, ADMIN, CRM})
_CHIEFS: Final = frozenset({SUPERVISOR, ADMIN})

#: A phone that has to be picked up first may ring so long (`call_control.ring_seconds` is at most 120).
_RINGING: Final = 130.0
#: Asterisk dials, or plays an announcement first.
_SLOW: Final = 20.0
_AUDITED: Final = (
    "For the phone of the token's own agent, which rings first. Off until `call_control.supervise` names it; that it"
    " was asked for stays among the call's events."
)


async def make_call(services: Services, asked: Asked) -> Answer:
    who = asked.identity
    agent = asked.body.get("agent") or who.agent
    if agent is None:
        raise Problem(422, "body.agent is missing: whose phone rings first, and who calls")
    done = await told(services.control.make_call(asker(who), agent, asked.body["to"]))
    return Answer(_json(done), 202)


def _handler(operation: str) -> Handler:
    async def handle(services: Services, asked: Asked) -> Answer:
        work = services.control.operate(asker(asked.identity), asked.path["id"], operation, asked.body)
        return Answer(_json(await told(work)))

    return handle


async def recording(services: Services, asked: Asked) -> None:
    """The recording itself; that it was heard is written down before the first byte of it leaves."""
    who = asked.identity
    detail = await services.calls.call(asked.path["id"])
    if detail is None or (who.role == AGENT and not took_part(detail, own_agent(who))):
        raise Problem(404, "there is no such call, or you had no part in it")
    if who.role == AGENT and not services.control.own_recordings:
        raise Problem(403, "agents do not hear recordings here; call_control.own_recordings would allow it")
    try:
        reading = await services.recordings.open(detail.call, asked.query.get("part"))
    except NoRecording as error:
        raise Problem(404, str(error), kind="no-recording") from error
    except RecordingError as error:
        raise Problem(503, str(error), kind="recording-away") from error
    try:
        await services.control.heard(asker(who), detail.call)
    except StoreError:
        reading.close()
        raise
    request = asked.http
    request.setHeader("Content-Type", "audio/wav")  # type: ignore[no-untyped-call]
    if reading.size is not None:
        request.setHeader("Content-Length", str(reading.size))  # type: ignore[no-untyped-call]
    Download(request, reading, services.clock).start()


def asker(who: Identity) -> Asker:
    """Who asks, for the part of the server that does it."""
    agent = own_agent(who) if who.role == AGENT else who.agent
    return Asker(who.token, who.name, agent, own_only=who.role == AGENT)


async def told(work: Awaitable[Done]) -> Done:
    """What was done, or why not as the client is told. Raises `Problem`."""
    try:
        return await work
    except ControlError as error:
        status, kind = PROBLEMS[type(error)]
        headers = {"Retry-After": str(max(1, round(error.wait)))} if isinstance(error, TooMany) else {}
        raise Problem(status, str(error), kind=kind, headers=headers) from error


def _json(done: Done) -> bytes:
    return orjson.dumps({**call_json(done.call), **done.more})


def _body(needed: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "required": list(needed),
        "additionalProperties": False,
        "properties": {**needed, "agent": _AGENT},
    }


_AGENT: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 200,
    "description": "whose connection is meant, for those who ask for others; needed where it could be several",
}
_TO: Final[Mapping[str, Schema]] = {"to": SCHEMAS["Target"]}
_DIGITS: Final[Mapping[str, Schema]] = {
    "digits": {"type": "string", "minLength": 1, "maxLength": 32, "description": "of 0-9, A-D, * and #"}
}
_ACTION: Final[Mapping[str, Schema]] = {
    "action": {
        "type": "string",
        "enum": ["start", "pause", "resume", "stop"],
        "description": "`pause` records silence, as for card data",
    }
}


@frozen
class _Operation:
    """`needs`: what the body must have. `seconds`: how long it may take."""

    roles: frozenset[str]
    summary: str
    description: str = ""
    needs: Mapping[str, Schema] = {}
    seconds: float = ANSWER_SECONDS


_OPERATIONS: Final[Mapping[str, _Operation]] = {
    "answer": _Operation(
        _DESK,
        "AnswerCall: the agent's ringing phone picks up",
        "Only phones in `capable_phones` can.",
    ),
    "hold": _Operation(_DESK, "HoldCall: the other side hears music"),
    "retrieve": _Operation(_DESK, "RetrieveCall: the agent talks again to whom they hold"),
    "consult": _Operation(
        _DESK,
        "ConsultationCall: ask somebody else, while the other side hears music",
        "Answered with the consultation, a call of its own whose `parent` is this one. An agent who is asked is"
        " reserved, and gets the card. What follows may be asked of either call.",
        _TO,
        _SLOW,
    ),
    "alternate": _Operation(_DESK, "AlternateCall: hold whom the agent talks to, and talk to whom they hold"),
    "complete": _Operation(_DESK, "TransferCall: connect the two others, and release the agent"),
    "reconnect": _Operation(_DESK, "ReconnectCall: leave the consulted, and talk to who is held"),
    "transfer": _Operation(
        _DESK,
        "SingleStepTransferCall: the other side goes on to somebody else",
        "An agent, or the longest idle of a group, is reserved and gets the card; if they do not answer, the"
        " service's rules go on.",
        _TO,
    ),
    "conference": _Operation(_DESK, "ConferenceCall: all three together"),
    "deflect": _Operation(_DESK, "DeflectCall: a call that rings goes to somebody else", needs=_TO),
    "pickup": _Operation(
        _DESK,
        "Take a call that rings at a colleague",
        "An agent takes it from colleagues of their own groups. The agent's phone rings first.",
        seconds=_RINGING,
    ),
    "park": _Operation(_DESK, "Park the other side; the answer has the parking `space`"),
    "digits": _Operation(_DESK, "Send digits to the other side", needs=_DIGITS),
    "record": _Operation(
        _CALLERS,
        "Start, pause, resume or stop recording",
        "If `call_control.record` allows it; with `record_announcement`, both sides hear that first.",
        _ACTION,
        _SLOW,
    ),
    "listen": _Operation(_CHIEFS, "Hear a call", _AUDITED, seconds=_RINGING),
    "whisper": _Operation(_CHIEFS, "Hear a call, and speak to its agent alone", _AUDITED, seconds=_RINGING),
    "barge": _Operation(_CHIEFS, "Join a call", _AUDITED, seconds=_RINGING),
    "clear": _Operation(_DESK, "ClearConnection: hang up the agent's phone"),
}

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/api/v1/calls/{id}/recording",
        recording,
        "Hear a call",
        "For agents only their own calls, and only with `call_control.own_recordings`. That it was heard stays among"
        " the call's events.",
        roles=_DESK,
        audited=True,
        scope="recordings",
        query=(
            Parameter(
                "part",
                {"type": "integer", "minimum": 1, "maximum": 99},
                "which one, of a call that was recorded several times; the last without it",
            ),
        ),
        answers=("audio/wav", STRING),
        seconds=_SLOW,
        problems={404: "no such call, or it was not recorded", 503: "the PBX's host does not give it"},
    ),
    Route(
        "POST",
        "/api/v1/calls",
        make_call,
        "MakeCall: click to dial",
        "The agent's phone rings first, and once they answer, `to` is called. An agent calls for themselves, others"
        " name the `agent`. 202 when the phone rings.",
        roles=_CALLERS,
        body=SCHEMAS["MakeCall"],
        answers=("application/json", named("Call")),
        status=202,
        seconds=_SLOW,
        idempotent=True,
        problems={**WHY, 429: "too many calls in a minute, by this token or for this agent"},
    ),
    *(
        Route(
            "POST",
            f"/api/v1/calls/{{id}}/{operation}",
            _handler(operation),
            row.summary,
            row.description,
            roles=row.roles,
            body=_body(row.needs),
            answers=("application/json", named("Call")),
            seconds=row.seconds,
            idempotent=True,
            problems=WHY
            if row.needs is not _TO
            else {**WHY, 429: "too many calls in a minute to the outside"},
        )
        for operation, row in _OPERATIONS.items()
    ),
)
