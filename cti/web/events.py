"""The event stream: Server-Sent Events, numbered in commit order, to everybody who may see them.

A stream is *live* (each event is written to its transport as it is published) or *behind*: it resumes from a
number, or its reader is slow and its transport has told it to pause. A stream that is behind gets nothing
live; it reads the store in pages from its own position until it has caught up. That position is the only
state, and all that is needed for nothing lost and nothing twice: what is published is committed, so what the
store gives after a position contains everything published until then, and live events up to the position are
passed over. Where events come from, and who may open a stream, is up to others.
"""

import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, Protocol

import orjson
from attrs import evolve, frozen

from cti.logs import get_logger
from cti.reactors import Clock, DelayedCall
from cti.store.base import StoreError
from cti.store.records import StoredEvent
from cti.web.masking import Masking
from cti.web.problems import Problem
from cti.web.tokens import AGENT, CRM, Identity
from cti.web.transport import StreamRequest

MAX_STREAMS: Final = 10_000
#: Of these, one person's: more than anybody has tabs open, and too few to take the others' places.
STREAMS_EACH: Final = 32
HEARTBEAT_SECONDS: Final = 15
#: A reader that takes nothing for so long is dead.
PATIENCE_SECONDS: Final = 60.0
#: Events read at once for a stream that is behind; the reactor gets a turn between pages.
PAGE: Final = 200

#: Streams are spread over so many moments between two heartbeats, lest thousands are written at once.
_BEATS: Final = 150
_BEAT_SECONDS: Final = HEARTBEAT_SECONDS / _BEATS
#: Streams whose tokens are looked at before the reactor gets a turn.
_CHECKED_AT_ONCE: Final = 200
#: Bytes of events that are written together.
_AT_ONCE: Final = 16_384
_COMMENT: Final = b":\n\n"
_log = get_logger(__name__)


class IEventLog(Protocol):
    """What is needed of a store."""

    def events_after(self, seq: int, limit: int, agent: str | None = None) -> Sequence[StoredEvent]: ...
    def event_range(self) -> tuple[int, int]: ...


@frozen
class Reader:
    """Whose stream it is and what they asked for; `types` is None for all."""

    identity: Identity
    types: Collection[str] | None = None

    @property
    def agent(self) -> str | None:
        """Whose events these are only, as the store can tell; None if it is not so simple."""
        return self.identity.agent if self.identity.role == AGENT else None

    @property
    def person(self) -> tuple[str, str]:
        """Who it counts as, with however many tokens."""
        return self.identity.role, self.agent or self.identity.name

    def sees(self, event: StoredEvent) -> bool:
        """Agents see what is meant for them, a CRM the calls, everybody else all."""
        if self.types is not None and event.type not in self.types:
            return False
        if self.identity.role == AGENT:
            return self.identity.agent in event.agents
        return self.identity.role != CRM or event.type.startswith("call.")


class EventHub:
    """All open streams.

    `valid` tells whether an identity still holds; it is asked at each heartbeat, so that a revoked token's
    stream ends. `masking`: what of an event a role does not see. `start` before the first event, with the store open.
    """

    def __init__(
        self,
        store: IEventLog,
        clock: Clock,
        *,
        valid: Callable[[Identity], bool],
        masking: Masking | None = None,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._valid = valid
        self._masking = masking or Masking()
        self._max_streams = max_streams
        self._published = 0
        self._streams: set[_Stream] = set()
        self._by_agent: dict[str, set[_Stream]] = {}
        # Oldest first: a dict, as a set has no order.
        self._by_person: dict[tuple[str, str], dict[_Stream, None]] = {}
        self._wide: set[_Stream] = set()
        self._unsent: list[_Stream] = []
        self._desktops: Counter[str] = Counter()
        self._beats: tuple[set[_Stream], ...] = tuple(set() for _ in range(_BEATS))
        self._beat = 0
        self._opened = 0
        self._timer: DelayedCall | None = None
        self._to_check: list[_Stream] = []
        self._checking: DelayedCall | None = None
        self._stopped = False

    @property
    def count(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def start(self) -> None:
        """Begin at the newest event of the store."""
        self._published = self._store.event_range()[1]
        self._timer = self._clock.callLater(_BEAT_SECONDS, self._tick)
        self._beat = self._beats_by_now()

    def stop(self) -> None:
        """End all streams, so that their readers connect again, elsewhere or later."""
        self._stopped = True
        for call in (self._timer, self._checking):
            if call is not None and call.active():
                call.cancel()
        for stream in tuple(self._streams):
            stream.end()

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Write committed events, in commit order, to the transports of all streams that may see them.

        They are written when this returns, but to streams that are behind: those read them from the store.
        """
        try:
            for event in events:
                if event.seq > self._published + 1 and self._streams:
                    self._publish_foreign(event.seq)
                if event.seq > self._published:
                    self._fan_out(event)
        finally:
            self._flush()

    def poke(self) -> None:
        """Another process may have written events: publish them, and look at the tokens again."""
        if self._streams:
            try:
                self._publish_foreign(None)
            finally:
                self._flush()
        self.recheck()

    def recheck(self, of: str | None = None) -> None:
        """End the streams whose token or session has ended; only those `of` one `Identity.token`, if it is given.

        Of many, without `of`, not all have been looked at when this returns.
        """
        if of is not None:
            self._check(stream for stream in tuple(self._streams) if stream.reader.identity.token == of)
            return
        self._to_check = list(self._streams)
        if self._checking is None:
            self._check_some()

    def _check_some(self) -> None:
        self._checking = None
        some, self._to_check = self._to_check[:_CHECKED_AT_ONCE], self._to_check[_CHECKED_AT_ONCE:]
        self._check(some)
        if self._to_check:
            self._checking = self._clock.callLater(0, self._check_some)

    def _check(self, streams: Iterable["_Stream"]) -> None:
        for stream in streams:
            if not self._valid(stream.reader.identity):
                stream.end()

    def open(self, request: StreamRequest, reader: Reader, after: int | None) -> None:
        """Make `request` a stream: from now on, or with everything after event number `after`.

        A person's oldest stream ends when they have too many: rather a tab that was forgotten, or a connection
        that died unseen, than the page that opens now. Raises `Problem` if there are too many streams in all, or
        the server is about to stop.
        """
        theirs = self._by_person.get(reader.person, {})
        if len(theirs) >= STREAMS_EACH:
            oldest = next(iter(theirs))
            oldest.end()
            self._forget(None, oldest)
        if self._stopped or len(self._streams) >= self._max_streams:
            why = "the server is stopping" if self._stopped else f"{self._max_streams} event streams are open"
            raise Problem(503, f"{why}; try again in a moment", headers={"Retry-After": "5"})
        self._opened += 1
        stream = _Stream(self, request, reader, self._store, self._clock)
        request.setHeader("Content-Type", "text/event-stream; charset=utf-8")
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("X-Accel-Buffering", "no")
        request.notifyFinish().addBoth(self._forget, stream)
        self._streams.add(stream)
        self._count_desktop(reader, 1)
        self._by_person.setdefault(reader.person, {})[stream] = None
        stream.beat_at = self._opened % _BEATS
        self._beats[stream.beat_at].add(stream)
        for streams in self._indexes(reader):
            streams.add(stream)
        # After a restart nobody should come back at the same moment as everybody else.
        preamble = b"retry: %d\n" % (1000 + self._opened * 37 % 4000)
        if after is None:
            # A browser keeps the number though there is no event with it, and comes back with it: what happened
            # while it was away is not lost to one that had no event before.
            preamble += b"id: %d\n" % self._published
        stream.begin(preamble + b"\n", self._published if after is None else after, after is None)

    def is_watched(self, agent: str) -> bool:
        """Whether a stream that shows this agent their cards is open."""
        return self._desktops[agent] > 0

    def newest(self) -> int:
        """The number of the event published last."""
        return self._published

    def _fan_out(self, event: StoredEvent) -> None:
        rendered: dict[str, bytes] = {}
        for stream in self._candidates(event):
            if stream.wants(event):
                # One for all who see the same.
                role = stream.reader.identity.role
                view = role if self._masking.hides(role) else ""
                if view not in rendered:
                    rendered[view] = self.rendered(event, role)
                if not stream.has_unsent:
                    self._unsent.append(stream)
                stream.offer(event, rendered[view])
        self._published = event.seq

    def rendered(self, event: StoredEvent, role: str) -> bytes:
        """The event as somebody of this role gets it."""
        if self._masking.hides(role):
            event = evolve(event, data=self._masking.masked(role, event.data))
        return render(event)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        for stream in unsent:
            stream.flush()

    def _candidates(self, event: StoredEvent) -> Iterable["_Stream"]:
        # The agents' own first: a card is awaited by Asterisk, a wallboard by nobody.
        for agent in dict.fromkeys(event.agents):
            yield from tuple(self._by_agent.get(agent, ()))
        yield from tuple(self._wide)

    def _publish_foreign(self, before: int | None) -> None:
        while True:
            page = self._store.events_after(self._published, PAGE)
            for event in page:
                if before is not None and event.seq >= before:
                    return
                self._fan_out(event)
            if len(page) < PAGE:
                return

    def _indexes(self, reader: Reader) -> tuple[set["_Stream"], ...]:
        if reader.identity.role != AGENT:
            return (self._wide,)
        return () if reader.agent is None else (self._by_agent.setdefault(reader.agent, set()),)

    def _forget(self, _: Any, stream: "_Stream") -> None:
        stream.stopProducing()
        if stream in self._streams:
            self._count_desktop(stream.reader, -1)
        self._streams.discard(stream)
        self._beats[stream.beat_at].discard(stream)
        for streams in self._indexes(stream.reader):
            streams.discard(stream)
        agent, person = stream.reader.agent, stream.reader.person
        if agent is not None and not self._by_agent.get(agent, True):
            del self._by_agent[agent]
        theirs = self._by_person.get(person, {})
        theirs.pop(stream, None)
        if not theirs:
            self._by_person.pop(person, None)

    def _count_desktop(self, reader: Reader, by: int) -> None:
        """One stream more, or less, that an agent gets their cards by."""
        agent = reader.identity.agent
        if agent is None or (reader.types is not None and "card.offered" not in reader.types):
            return
        self._desktops[agent] += by
        if not self._desktops[agent]:
            del self._desktops[agent]

    def _tick(self) -> None:
        self._timer = self._clock.callLater(_BEAT_SECONDS, self._tick)
        now = self._beats_by_now()
        # Not more than each once, however long the reactor stood still, or the clock was put forward.
        for beat in range(max(self._beat + 1, now - _BEATS + 1), now + 1):
            for stream in tuple(self._beats[beat % _BEATS]):
                if self._valid(stream.reader.identity):
                    stream.beat()
                else:
                    stream.end()
        self._beat = now

    def _beats_by_now(self) -> int:
        return int(self._clock.seconds() / _BEAT_SECONDS)


class _Stream:
    """One reader's connection; the push producer of its transport (`IPushProducer`).

    The transport pauses it at 64 KiB unsent, and a paused stream writes nothing: what one reader can make us
    keep is that, and what is written at once.
    """

    def __init__(
        self, hub: EventHub, request: StreamRequest, reader: Reader, store: IEventLog, clock: Clock
    ) -> None:
        self.reader = reader
        self.closed = False
        self.beat_at = 0
        self._hub = hub
        self._request = request
        self._store = store
        self._clock = clock
        self._position = 0
        self._live = False
        self._paused_since: float | None = None
        self._next_page: DelayedCall | None = None
        self._unsent = b""

    @property
    def has_unsent(self) -> bool:
        return self._unsent != b""

    def begin(self, preamble: bytes, position: int, live: bool) -> None:
        self._request.registerProducer(self, True)
        _tune(self._request.connection)
        self._position = position
        self._live = live
        self._request.write(preamble)
        self._request.forget_headers()
        if not live:
            self._catch_up()

    def wants(self, event: StoredEvent) -> bool:
        return self._live and event.seq > self._position and self.reader.sees(event)

    def offer(self, event: StoredEvent, rendered: bytes) -> None:
        """Take an event to be written: with others that are published at the same time, or now if it is much."""
        self._position = event.seq
        self._unsent += rendered
        if len(self._unsent) > _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        unsent, self._unsent = self._unsent, b""
        if unsent and not self.closed:
            self._request.write(unsent)

    def beat(self) -> None:
        if self._paused_since is None:
            self._request.write(_COMMENT)
        elif self._clock.seconds() - self._paused_since > PATIENCE_SECONDS:
            self._request.connection.abortConnection()

    def end(self) -> None:
        """Finish the answer; what is already written is still sent, unless nobody takes it."""
        if self.closed:
            return
        self.stopProducing()
        connection = self._request.connection
        if self._paused_since is not None:
            connection.abortConnection()
            return
        self._request.unregisterProducer()
        self._request.finish()
        connection.loseConnection()

    def pauseProducing(self) -> None:
        self._paused_since = self._clock.seconds()
        if self._live:
            # Everything published so far was written, or was not for this reader.
            self._position = max(self._position, self._hub.newest())
            self._live = False

    def resumeProducing(self) -> None:
        self._paused_since = None
        if not self.closed and self._next_page is None:
            self._catch_up()

    def stopProducing(self) -> None:
        self.closed = True
        self._live = False
        self._cancel_page()

    def _catch_up(self) -> None:
        self._next_page = None
        if self.closed or self._paused_since is not None:
            return
        try:
            self._reset_if_missed()
            page = self._store.events_after(self._position, PAGE, self.reader.agent)
        except StoreError as error:
            # The reader connects again, with the number of the last event it has.
            _log.warning("an event stream could not be read from the store", error=str(error))
            # Not at once: the transport that told us to resume is not done with itself.
            self._next_page = self._clock.callLater(0, self.end)
            return
        for event in page:
            self._position = event.seq
            if self.reader.sees(event):
                self._request.write(self._hub.rendered(event, self.reader.identity.role))
                if self._paused_since is not None:
                    return
        if len(page) < PAGE:
            self._live = True
        else:
            self._next_page = self._clock.callLater(0, self._catch_up)

    def _reset_if_missed(self) -> None:
        oldest, newest = self._store.event_range()
        newest = max(newest, self._hub.newest())
        if oldest == 0:
            oldest = newest + 1
        # Beyond the newest: the number is from another store, which this one has replaced.
        if oldest - 1 <= self._position <= newest:
            return
        self._position = oldest - 1
        # The id, so that a reader who leaves before the next event does not come back with the lost number.
        body = orjson.dumps({"oldest": oldest})
        self._request.write(b"id: %d\nevent: reset\ndata: %s\n\n" % (self._position, body))

    def _cancel_page(self) -> None:
        if self._next_page is not None and self._next_page.active():
            self._next_page.cancel()
        self._next_page = None


def render(event: StoredEvent) -> bytes:
    """The event as a block of the stream (WHATWG HTML, 9.2)."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.type.encode(), event.data)


def _tune(transport: Any) -> None:
    """Have the kernel send each event at once, and give up on a reader whose machine is gone.

    By itself it holds an event back until the one before is acknowledged, which the other side may put off for
    200 ms, and it takes a quarter of an hour to notice a death.
    """
    # Below TLS is the connection itself.
    transport = getattr(transport, "transport", transport)
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    if isinstance(handle, socket.socket) and handle.family in (socket.AF_INET, socket.AF_INET6):
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PATIENCE_SECONDS * 1000))
