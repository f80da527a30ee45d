"""The agent's state as tables: what they wish, what a call makes of them, and the word the world is told.

Theory of operation. Two things decide: the *wish* (`logged_out`, `ready`, `paused`), which only people set,
and the *engagement* in each call that holds the agent, which only calls set; mostly there is one such call.
They never overwrite each other, so an agent who pauses while talking is paused when the call is over, and
nothing has to be remembered on the side. The state of the contract is looked up from the pair. In CSTA's
terms (ECMA-269, agent states) `logged_out` is Agent Null, `ready` Agent Ready, `paused` Agent Not Ready,
`busy` Agent Busy, `wrap_up` Agent Working After Call; `offered` is ours, CSTA has no word for an agent held
for a call that does not ring yet.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Wish(StrEnum):
    """What the agent asked for; the only states that a client may set."""

    LOGGED_OUT = "logged_out"
    READY = "ready"
    PAUSED = "paused"


#: The reason of the pause of who is set aside because they let calls ring.
SET_ASIDE: Final = "no_answer"


class Engagement(StrEnum):
    """What a call makes of an agent; of several, the first of `WEIGHTIEST` counts."""

    NONE = "none"
    OFFERED = "offered"
    BUSY = "busy"
    WRAP_UP = "wrap_up"


class Step(StrEnum):
    """What can happen to an engagement."""

    RESERVE = "reserve"
    CONNECT = "connect"
    RELEASE = "release"
    WRITE_UP = "write_up"


class ImpossibleStep(Exception):
    """The step does not lead out of this engagement; the text names both."""


#: Every step there is. What is not here is impossible and raises, it is never ignored.
STEPS: Mapping[tuple[Engagement, Step], Engagement] = {
    (Engagement.NONE, Step.RESERVE): Engagement.OFFERED,
    (Engagement.NONE, Step.CONNECT): Engagement.BUSY,
    (Engagement.OFFERED, Step.CONNECT): Engagement.BUSY,
    (Engagement.OFFERED, Step.RELEASE): Engagement.NONE,
    # One more call came to nothing, and the one before it is still to be written up.
    (Engagement.OFFERED, Step.WRITE_UP): Engagement.WRAP_UP,
    (Engagement.BUSY, Step.RELEASE): Engagement.NONE,
    (Engagement.BUSY, Step.WRITE_UP): Engagement.WRAP_UP,
    (Engagement.WRAP_UP, Step.RELEASE): Engagement.NONE,
}

#: Who talks is busy, whatever else rings.
WEIGHTIEST: Final = (Engagement.BUSY, Engagement.OFFERED, Engagement.WRAP_UP)

#: The contract's word for an engaged agent, whatever they wish; a free agent's word is the wish.
ENGAGED: Mapping[Engagement, str] = {
    Engagement.OFFERED: "offered",
    Engagement.BUSY: "busy",
    Engagement.WRAP_UP: "wrap_up",
}

#: Asterisk's device states (AMI `DeviceStateChange`, `State`), and why an agent whose phone is in one cannot
#: be rung; None where they can. Unknown is no reason: Dial will find out, and a caller waits for nobody.
DEVICE_WHY_NOT: Mapping[str, str | None] = {
    "NOT_INUSE": None,
    "UNKNOWN": None,
    "INUSE": "is in use",
    "BUSY": "is busy",
    "INVALID": "does not exist",
    "UNAVAILABLE": "is not registered",
    "RINGING": "is ringing",
    "RINGINUSE": "is in use and ringing",
    "ONHOLD": "has a call on hold",
}

#: The states of a phone at which its agent has a call, and could take one more, where they may have several.
TAKES_ONE_MORE = frozenset({"INUSE", "ONHOLD"})

#: The states of a phone that is away. Its agent may sit at another one; a phone that has a call is where its
#: agent is, and nobody takes a second call at another phone.
ABSENT = frozenset({"INVALID", "UNAVAILABLE"})


def step(engagement: Engagement, what: Step) -> Engagement:
    """The engagement after `what`. Raises `ImpossibleStep`."""
    try:
        return STEPS[engagement, what]
    except KeyError:
        raise ImpossibleStep(f"an agent who is {engagement} cannot {what}") from None


def state(wish: Wish, engagement: Engagement) -> str:
    """The contract's word for an agent."""
    return ENGAGED.get(engagement, str(wish))
