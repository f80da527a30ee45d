"""What it means when channels of several calls hear each other: whose call it is from then on.

A call that an agent makes while they talk in another is a consultation about it (`record.parent`). Once somebody else
of the other call meets whom they consulted, that was a transfer, or has become a conference: the consulted go over to
the call that it was about. Two callers who are joined with each other stay two calls, of which the younger names the
older. Nothing is changed here, and linkedid plays no part.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen

from cti.asterisk.channels import Channel, Channels
from cti.calls.life import LiveCall
from cti.store.records import Key

#: The bridging technology of parking lots and waiting rooms (AMI `BridgeTechnology`), in which nobody hears another.
HOLDING: Final = "holding_bridge"
#: Who makes the bridges in which more than two talk (AMI `BridgeCreator`).
CONFERENCE: Final = "ConfBridge"


@frozen
class Meeting:
    """What becomes of it.

    `moves`: channels, each to another call. `related`: calls, each with the older one that it is related to.
    `host`: the call that a channel of none belongs to.
    """

    host: LiveCall
    moves: Sequence[tuple[Key, LiveCall]]
    related: Sequence[tuple[LiveCall, LiveCall]]


def meeting(known: Mapping[Key, LiveCall]) -> Meeting:
    """What becomes of the channels that hear each other, of which `known` says whose call they are part of."""
    calls = sorted(
        {call.id: call for call in known.values()}.values(), key=lambda call: (call.record.started, call.id)
    )
    moves: list[tuple[Key, LiveCall]] = []
    into: dict[str, LiveCall] = {}
    for call in calls:
        parent = next((other for other in calls if other.id == call.record.parent), None)
        if parent is None or not call.ours:
            continue
        consulting = call.record.agent
        if all(parent.channels[key].agent == consulting for key, whose in known.items() if whose is parent):
            # The agent alone, at the same phone: this is how they talk to whom they consult.
            continue
        # A consultation about a consultation: older ones come first.
        into[call.id] = target = into.get(parent.id, parent)
        moves += [(key, target) for key, whose in known.items() if whose is call]
    remaining = [call for call in calls if call.id not in into]
    oldest = remaining[0]
    related = [
        (call, oldest)
        for call in remaining[1:]
        if call.record.parent is None and oldest.record.parent is None
    ]
    return Meeting(oldest, moves, related)


def half_of(channels: Channels, channel: Channel) -> Channel | None:
    """The other half of a Local channel, by its name: it is asked for before `LocalBridge` has told, too."""
    if not channel.name.startswith("Local/"):
        return None
    return (
        channels.named(f"{channel.name[:-1]}{_OTHER[channel.name[-1]]}")
        if channel.name[-1] in _OTHER
        else None
    )


_OTHER: Final = {"1": "2", "2": "1"}
