"""The names of the events, as the contract has them: in the stream, in webhooks, in the log of a call."""

from typing import Final

EVENT_TYPES: Final = (
    "call.offered",
    "call.queued",
    "call.routed",
    "call.ringing",
    "call.connected",
    "call.held",
    "call.retrieved",
    "call.transferred",
    "call.ended",
    "call.missed",
    "card.offered",
    "card.shown",
    "card.withdrawn",
    "card.updated",
    "agent.state",
    "call.updated",
    "callback.changed",
    "audit.recording",
    "audit.supervision",
)
