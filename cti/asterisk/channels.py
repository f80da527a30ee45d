"""The channels and bridges of one Asterisk as its events tell of them, and waiting until they are as wished.

A mirror, nothing more: which call a channel belongs to is `cti.calls`' business, doing something to it `pbx`'s.
What AMI says when is taken from main/manager_channels.c and main/manager_bridges.c of Asterisk 16 and 22.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred

from cti.asterisk.ami_parser import Event
from cti.reactors import Clock, DelayedCall

#: The events that change a mirror; who asks an Asterisk for events must ask for these.
MIRRORED: Final = frozenset(
    {
        "Newchannel",
        "Newstate",
        "Rename",
        "DialBegin",
        "LocalBridge",
        "BridgeEnter",
        "BridgeLeave",
        "BridgeDestroy",
        "Hold",
        "Unhold",
        "Hangup",
    }
)

#: Further events that confirm what was asked for; who asks an Asterisk for events must ask for these, too.
AWAITED: Final = frozenset(
    {
        "ChanSpyStart",
        "MixMonitorMute",
        "MixMonitorStart",
        "MixMonitorStop",
        "OriginateResponse",
        "ParkedCall",
        "UserEvent",
    }
)

MAX_CHANNELS: Final = 50_000
"""Several thousand agents never have as many; beyond it the oldest is forgotten, as if it had hung up."""

JOIN_SECONDS: Final = 1.0
"""Who has answered is in a bridge by then; Asterisk tells of the answer (DialEnd) a moment before (BridgeEnter)."""

UNKNOWN: Final = "<unknown>"
"""What AMI writes where a caller id is empty."""

_T = TypeVar("_T")


class NotConfirmed(Exception):
    """Asterisk did not say in time that what was waited for has come true; the text says what that was."""


@define
class Channel:
    """One channel as it stands. `uniqueid` never changes; `name` does, when another takes its place.

    `state` is Asterisk's word (`Down`, `Ring`, `Ringing`, `Up`, …). `number` is the caller id's, `exten` and
    `context` are where the dialplan was when the channel came. `dialled` is what was dialled to reach it,
    such as `PJSIP/0171@trunk`, and `dialled_by` the uniqueid of who dialled it. `other_half` is the uniqueid
    of a Local channel's other half. `began` is when it came (epoch seconds by Asterisk's clock), None if
    nobody heard. `variables` are those that manager.conf names in `channelvars`.
    """

    uniqueid: str
    name: str
    state: str = "Down"
    number: str = ""
    exten: str = ""
    context: str = ""
    bridge: str | None = None
    dialled: str | None = None
    dialled_by: str | None = None
    other_half: str | None = None
    on_hold: bool = False
    began: float | None = None
    variables: Mapping[str, str] = field(factory=dict)

    @property
    def device(self) -> str:
        """The device it belongs to: `PJSIP/anna` of `PJSIP/anna-0000001f`."""
        return device_of(self.name)

    @property
    def up(self) -> bool:
        return self.state == "Up"


def device_of(channel: str) -> str:
    """The device that a channel of this name belongs to: `PJSIP/anna` of `PJSIP/anna-0000001f`."""
    return channel.rpartition("-")[0] or channel


class Channels:
    """All channels of one Asterisk.

    `take` is given every event of `MIRRORED` and `AWAITED`, in order, before anybody else looks at it; `tell`
    afterwards, when everybody has, so that who waits finds all in step. `replace` is given what
    CoreShowChannels lists, once events come again after an outage.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._channels: dict[str, Channel] = {}
        self._by_name: dict[str, str] = {}
        self._bridges: dict[str, dict[str, None]] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._listening: dict[int, Callable[[Event], None]] = {}
        self._last_waiting = 0
        self._handlers: Mapping[str, Callable[[Event], None]] = {
            "Newchannel": self._new_state,
            "Newstate": self._new_state,
            "Rename": self._rename,
            "DialBegin": self._dial_begin,
            "LocalBridge": self._local_bridge,
            "BridgeEnter": self._bridge_enter,
            "BridgeLeave": self._bridge_leave,
            "BridgeDestroy": self._bridge_destroy,
            "Hold": lambda event: self._hold(event, True),
            "Unhold": lambda event: self._hold(event, False),
            "Hangup": self._hangup,
        }

    # Looking.

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._channels.values()))

    def get(self, uniqueid: str) -> Channel | None:
        return self._channels.get(uniqueid)

    def named(self, name: str) -> Channel | None:
        return self._channels.get(self._by_name.get(name, ""))

    def of_device(self, device: str) -> list[Channel]:
        """The channels of a device, such as `PJSIP/anna`, oldest first."""
        return [channel for channel in self._channels.values() if channel.device == device]

    def in_bridge(self, bridge: str | None) -> list[Channel]:
        """The channels in a bridge, in the order in which they came."""
        inside = self._bridges.get(bridge or "", {})
        return [self._channels[uniqueid] for uniqueid in inside if uniqueid in self._channels]

    def partners(self, uniqueid: str) -> list[Channel]:
        """Who is in one bridge with this channel."""
        channel = self._channels.get(uniqueid)
        if channel is None or channel.bridge is None:
            return []
        return [other for other in self.in_bridge(channel.bridge) if other.uniqueid != uniqueid]

    def until(self, come_true: Callable[[], _T | None], seconds: float, what: str) -> "Deferred[_T]":
        """What `come_true` gives once it is true (now, or after an event); `NotConfirmed` after `seconds`.

        `what` goes on after “Asterisk did not confirm in time that”.
        """
        now = come_true()
        key = self._last_waiting = self._last_waiting + 1
        result: Deferred[_T] = Deferred(lambda _: self._forget(key))
        if now:
            result.callback(now)
            return result
        late = NotConfirmed(f"Asterisk did not confirm in time that {what}")
        deadline = self._clock.callLater(seconds, self._fail, key, late)
        self._waiting[key] = _Waiting(come_true, result, deadline)
        return result

    def until_event(self, match: Callable[[Event], bool], seconds: float, what: str) -> "Deferred[Event]":
        """The first event from now on that `match` says is the one; else as `until`."""
        heard: list[Event] = []

        def listen(event: Event) -> None:
            if match(event):
                heard.append(event)

        # Nothing can have been heard yet, so `until` waits, under the key that it takes next.
        result = self.until(lambda: heard[0] if heard else None, seconds, what)
        self._listening[self._last_waiting] = listen
        return result

    # Being told.

    def take(self, event: Event) -> None:
        """Take note of one event."""
        handler = self._handlers.get(event.name)
        if handler is not None:
            handler(event)
        for key, listen in list(self._listening.items()):
            try:
                listen(event)
            except Exception as error:  # noqa: BLE001 - who waits is told; the event is everybody's
                self._fail(key, error)

    def tell(self) -> None:
        """Let those go on whose wishes have come true."""
        for key, waiting in list(self._waiting.items()):
            if key not in self._waiting:
                continue
            try:
                outcome = waiting.come_true()
            except Exception as error:  # noqa: BLE001 - who waits is told; the others go on waiting
                self._fail(key, error)
                continue
            if outcome:
                self._forget(key)
                waiting.result.callback(outcome)

    def replace(self, listed: Iterable[Event]) -> None:
        """Take CoreShowChannels' list for what there is; what it does not tell is kept of those that live on."""
        before, self._channels = self._channels, {}
        self._by_name.clear()
        self._bridges.clear()
        for entry in listed:
            uniqueid = entry.get("Uniqueid")
            known = before.get(uniqueid)
            if known is not None:
                self._channels[uniqueid] = known
            channel = self._of(entry, "")
            if channel is not None:
                self._read(channel, entry, "")
                if channel.began is None:
                    channel.began = _began(entry.get("Duration"), self._clock.seconds())
                self._enter(channel, entry.get("BridgeId"))
        self.tell()

    def forget_all(self) -> None:
        """Asterisk is out of sight: nothing is known, and nobody need wait."""
        self._channels.clear()
        self._by_name.clear()
        self._bridges.clear()
        for key in list(self._waiting):
            self._fail(
                key, NotConfirmed("the connection to Asterisk was lost; whether it was done is not known")
            )

    # Events.

    def _new_state(self, event: Event) -> None:
        channel = self._of(event, "")
        if channel is not None:
            if event.name == "Newchannel":
                channel.began = event.timestamp
            self._read(channel, event, "")

    def _rename(self, event: Event) -> None:
        channel = self._channels.get(event.get("Uniqueid"))
        if channel is not None:
            self._call(channel, event.get("Newname"))

    def _dial_begin(self, event: Event) -> None:
        channel = self._of(event, "Dest")
        if channel is not None:
            self._read(channel, event, "Dest")
            technology = channel.name.partition("/")[0]
            channel.dialled = f"{technology}/{event.get('DialString')}"
            channel.dialled_by = event.get("Uniqueid") or None

    def _local_bridge(self, event: Event) -> None:
        one, two = (self._channels.get(event.get(f"Local{half}Uniqueid")) for half in ("One", "Two"))
        if one is not None and two is not None:
            one.other_half, two.other_half = two.uniqueid, one.uniqueid

    def _bridge_enter(self, event: Event) -> None:
        channel = self._of(event, "")
        if channel is not None:
            self._read(channel, event, "")
            self._enter(channel, event.get("BridgeUniqueid"))

    def _bridge_leave(self, event: Event) -> None:
        channel = self._channels.get(event.get("Uniqueid"))
        if channel is not None and channel.bridge == event.get("BridgeUniqueid"):
            self._leave(channel)

    def _bridge_destroy(self, event: Event) -> None:
        for channel in self.in_bridge(event.get("BridgeUniqueid")):
            self._leave(channel)
        self._bridges.pop(event.get("BridgeUniqueid"), None)

    def _hold(self, event: Event, on: bool) -> None:
        channel = self._channels.get(event.get("Uniqueid"))
        if channel is not None:
            channel.on_hold = on

    def _hangup(self, event: Event) -> None:
        self._drop(event.get("Uniqueid"))

    # How it is kept.

    def _of(self, event: Event, prefix: str) -> Channel | None:
        uniqueid = event.get(f"{prefix}Uniqueid")
        if not uniqueid:
            return None
        channel = self._channels.get(uniqueid)
        if channel is None:
            channel = Channel(uniqueid, "")
            channel.exten, channel.context = event.get(f"{prefix}Exten"), event.get(f"{prefix}Context")
            self._channels[uniqueid] = channel
            if len(self._channels) > MAX_CHANNELS:
                self._drop(next(iter(self._channels)))
        self._call(channel, event.get(f"{prefix}Channel") or channel.name)
        return channel

    @staticmethod
    def _read(channel: Channel, event: Event, prefix: str) -> None:
        channel.state = event.get(f"{prefix}ChannelStateDesc") or channel.state
        number = event.get(f"{prefix}CallerIDNum")
        if number and number != UNKNOWN:
            channel.number = number
        variables = event.variables_of(prefix)
        if variables:
            channel.variables = variables

    def _call(self, channel: Channel, name: str) -> None:
        if self._by_name.get(channel.name) == channel.uniqueid:
            del self._by_name[channel.name]
        channel.name = name
        self._by_name[name] = channel.uniqueid

    def _enter(self, channel: Channel, bridge: str) -> None:
        self._leave(channel)
        if bridge:
            channel.bridge = bridge
            self._bridges.setdefault(bridge, {})[channel.uniqueid] = None

    def _leave(self, channel: Channel) -> None:
        inside = self._bridges.get(channel.bridge or "")
        if inside is not None:
            inside.pop(channel.uniqueid, None)
            if not inside:
                self._bridges.pop(channel.bridge or "", None)
        channel.bridge = None

    def _drop(self, uniqueid: str) -> None:
        channel = self._channels.pop(uniqueid, None)
        if channel is not None:
            self._leave(channel)
            if self._by_name.get(channel.name) == uniqueid:
                del self._by_name[channel.name]

    def _forget(self, key: int) -> None:
        self._listening.pop(key, None)
        waiting = self._waiting.pop(key, None)
        if waiting is not None and waiting.deadline.active():
            waiting.deadline.cancel()

    def _fail(self, key: int, error: Exception) -> None:
        waiting = self._waiting.get(key)
        self._forget(key)
        if waiting is not None:
            waiting.result.errback(error)


def _began(duration: str, now: float) -> float | None:
    """When a channel came that has been there for `HH:MM:SS`."""
    parts = duration.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        return None
    hours, minutes, seconds = map(int, parts)
    return now - (hours * 60 + minutes) * 60 - seconds


@define(eq=False)
class _Waiting:
    """Somebody who waits until something has come true."""

    come_true: Callable[[], Any]
    result: Deferred[Any]
    deadline: DelayedCall
