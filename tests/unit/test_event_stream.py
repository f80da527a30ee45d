"""The event stream: in order, to those who may see it, nothing lost and nothing twice."""

import random
import re
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from cti.store.base import StoreError
from cti.store.records import StoredEvent
from cti.web.events import HEARTBEAT_SECONDS, PAGE, PATIENCE_SECONDS, STREAMS_EACH, _tune
from cti.web.tokens import digest_of
from tests.unit.test_web import NOW, Web, request_bytes


def an_event(seq: int, type: str = "call.routed", agents: Sequence[str] = (), size: int = 0) -> StoredEvent:
    data = b'{"seq":%d,"type":"%s","filler":"%s"}' % (seq, type.encode(), b"x" * size)
    return StoredEvent(seq, type, NOW, "c1", tuple(agents), data)


class Stream:
    """A reader of `/api/v1/events`, who takes what the transport got."""

    def __init__(self, web: Web, token: str | None, path: str = "/api/v1/events", **headers: str) -> None:
        self.web = web
        self.channel, self.transport = web.connect()
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.channel.dataReceived(request_bytes("GET", path, token, headers=fields))

    @property
    def text(self) -> str:
        data: bytes = self.transport.value()
        _, _, body = data.partition(b"\r\n\r\n")
        return re.sub(rb"[0-9a-f]+\r\n(.*?)\r\n", rb"\1", body, flags=re.DOTALL).decode()

    @property
    def ids(self) -> list[int]:
        return [int(found) for found in re.findall(r"^id: (\d+)\nevent:", self.text, re.MULTILINE)]

    def leave(self) -> None:
        self.channel.connectionLost(Failure(ConnectionError()))


def publish(web: Web, *events: StoredEvent) -> None:
    """As the store does: durable first, then told."""
    web.store.events.extend(events)
    web.hub.publish(events)


@pytest.fixture
def web() -> Web:
    return Web()


def test_an_event_is_on_the_wire_when_publish_returns(web: Web) -> None:
    stream = Stream(web, web.token("supervisor"))
    publish(web, an_event(1))
    assert stream.text.endswith(
        'id: 1\nevent: call.routed\ndata: {"seq":1,"type":"call.routed","filler":""}\n\n'
    )


def test_the_answer_begins_as_a_stream_that_nobody_buffers(web: Web) -> None:
    head = Stream(web, web.token("supervisor")).transport.value().partition(b"\r\n\r\n")[0].decode()
    assert "HTTP/1.1 200 OK" in head
    assert "Content-Type: text/event-stream" in head
    assert "Cache-Control: no-store" in head
    assert "X-Accel-Buffering: no" in head
    assert "Content-Length" not in head


def test_a_stream_that_has_begun_keeps_none_of_its_headers_and_ends_properly_all_the_same(web: Web) -> None:
    stream = Stream(web, web.token("supervisor"), User_Agent="a" * 500)
    (request,) = stream.channel.requests
    assert not list(request.requestHeaders.getAllRawHeaders())
    assert not list(request.responseHeaders.getAllRawHeaders())
    web.hub.stop()
    assert stream.transport.value().endswith(b"0\r\n\r\n")


def test_a_new_stream_begins_now(web: Web) -> None:
    publish(web, an_event(1), an_event(2))
    stream = Stream(web, web.token("supervisor"))
    publish(web, an_event(3))
    assert stream.ids == [3]


def test_each_reader_gets_what_they_may_see(web: Web) -> None:
    streams = {
        "anna": Stream(web, web.token("agent", "anna")),
        "ben": Stream(web, web.token("agent", "ben")),
        "supervisor": Stream(web, web.token("supervisor")),
        "crm": Stream(web, web.token("crm")),
        "cards": Stream(web, web.token("admin"), "/api/v1/events?types=card.offered,card.withdrawn"),
    }
    publish(
        web,
        an_event(1, "call.routed", ["anna"]),
        an_event(2, "card.offered", ["anna", "ben"]),
        an_event(3, "agent.state", ["ben"]),
        an_event(4, "call.ended"),
        an_event(5, "card.withdrawn", ["anna"]),
    )
    assert {name: stream.ids for name, stream in streams.items()} == {
        "anna": [1, 2, 5],
        "ben": [2, 3],
        "supervisor": [1, 2, 3, 4, 5],
        "crm": [1, 4],
        "cards": [2, 5],
    }


def test_resuming_sees_the_same_as_having_stayed(web: Web) -> None:
    token = web.token("agent", "anna")
    stayed = Stream(web, token)
    publish(web, *(an_event(n, agents=["anna"] if n % 3 else ["ben"]) for n in range(1, 10)))
    resumed = Stream(web, token, Last_Event_ID="4")
    publish(web, an_event(10, agents=["anna"]))
    assert resumed.ids == [n for n in stayed.ids if n > 4] == [5, 7, 8, 10]


def test_the_header_goes_before_the_query_that_a_browser_repeats(web: Web) -> None:
    publish(web, *(an_event(n) for n in range(1, 6)))
    token = web.token("supervisor")
    assert Stream(web, token, "/api/v1/events?after=2").ids == [3, 4, 5]
    assert Stream(web, token, "/api/v1/events?after=2", Last_Event_ID="4").ids == [5]
    assert Stream(web, token, "/api/v1/events?after=0").ids == [1, 2, 3, 4, 5]
    assert Stream(web, token, Last_Event_ID="5").ids == []


@pytest.mark.parametrize("given", ["", "x", "-1", "1.5", "99999999999999999", "٤"])
def test_a_last_event_id_that_is_no_number_is_refused(web: Web, given: str) -> None:
    reply = web.ask("GET", "/api/v1/events", web.token("crm"), headers={"Last-Event-ID": given})
    assert reply.status == 422


def test_past_what_is_kept_the_stream_starts_with_a_reset(web: Web) -> None:
    publish(web, *(an_event(n) for n in range(1, 10)))
    del web.store.events[:6]
    stream = Stream(web, web.token("supervisor"), Last_Event_ID="3")
    assert 'event: reset\ndata: {"oldest":7}\n\n' in stream.text
    assert stream.ids == [6, 7, 8, 9]
    assert "reset" not in Stream(web, web.token("supervisor"), Last_Event_ID="6").text


def test_a_number_from_another_store_is_a_reset_and_everything_there_is(web: Web) -> None:
    publish(web, an_event(1), an_event(2))
    stream = Stream(web, web.token("supervisor"), Last_Event_ID="5000")
    assert 'data: {"oldest":1}' in stream.text
    publish(web, an_event(3))
    assert stream.ids == [0, 1, 2, 3]


def test_when_nothing_is_kept_any_more_the_reset_names_the_next(web: Web) -> None:
    publish(web, an_event(1), an_event(2))
    web.store.events.clear()
    assert 'data: {"oldest":3}' in Stream(web, web.token("supervisor"), Last_Event_ID="1").text
    assert "reset" not in Stream(web, web.token("supervisor"), Last_Event_ID="2").text


def test_a_long_absence_is_made_up_in_pages_with_live_events_in_between(web: Web) -> None:
    publish(web, *(an_event(n) for n in range(1, 2 * PAGE + 51)))
    stream = Stream(web, web.token("supervisor"), Last_Event_ID="0")
    assert stream.ids == list(range(1, PAGE + 1))
    publish(web, an_event(2 * PAGE + 51))
    assert len(stream.ids) == PAGE
    web.clock.advance(0)
    web.clock.advance(0)
    publish(web, an_event(2 * PAGE + 52))
    assert stream.ids == list(range(1, 2 * PAGE + 53))


def test_a_desktop_that_comes_back_reads_its_own_agents_events_and_no_others(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(web, *(an_event(n, agents=["anna"] if n == 700 else ["ben"]) for n in range(1, 1001)))
    read: list[int] = []
    events_after = web.store.events_after

    def counted(seq: int, limit: int, agent: str | None = None) -> Sequence[StoredEvent]:
        found = events_after(seq, limit, agent)
        read.extend(event.seq for event in found)
        return found

    monkeypatch.setattr(web.store, "events_after", counted)
    assert Stream(web, web.token("agent", "anna"), Last_Event_ID="0").ids == [700]
    assert read == [700]


def test_what_is_committed_but_not_yet_told_is_not_told_twice(web: Web) -> None:
    publish(web, an_event(1))
    late = an_event(2)
    web.store.events.append(late)
    stream = Stream(web, web.token("supervisor"), Last_Event_ID="0")
    assert stream.ids == [1, 2]
    web.hub.publish([late])
    assert stream.ids == [1, 2]


def test_events_of_another_process_are_published_in_their_place(web: Web) -> None:
    stream = Stream(web, web.token("supervisor"))
    foreign = an_event(1, "agent.state", ["anna"])
    web.store.events.append(foreign)
    publish(web, an_event(2))
    web.store.events.append(an_event(3, "agent.state", ["anna"]))
    web.hub.poke()
    web.hub.publish([web.store.events[-1]])
    assert stream.ids == [1, 2, 3]


def test_a_late_word_of_an_old_event_does_not_bring_back_those_after_it(web: Web) -> None:
    Stream(web, web.token("supervisor"))
    web.store.events += [an_event(1), an_event(2)]
    web.hub.poke()
    web.hub.publish([web.store.events[0]])
    newcomer = Stream(web, web.token("supervisor"))
    publish(web, an_event(3))
    assert newcomer.ids == [3]


def test_a_slow_reader_gets_nothing_while_paused_and_everything_after(web: Web) -> None:
    slow, quick = Stream(web, web.token("supervisor")), Stream(web, web.token("supervisor"))
    publish(web, an_event(1))
    slow.channel.pauseProducing()
    publish(web, *(an_event(n) for n in range(2, 6)))
    assert slow.ids == [1]
    assert quick.ids == [1, 2, 3, 4, 5]
    slow.channel.resumeProducing()
    publish(web, an_event(6))
    assert slow.ids == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_in_between_each_reader_has_each_event_once_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    web = Web()
    tokens = {"anna": web.token("agent", "anna"), None: web.token("supervisor")}
    readers: list[tuple[str | None, list[int], Stream]] = [
        (agent, [], Stream(web, token)) for agent, token in tokens.items()
    ]
    seq = 0
    for _ in range(300):
        match chance.randrange(6):
            case 0 | 1 | 2:
                batch = [
                    an_event(seq + n, agents=chance.choice([["anna"], ["ben"], ["anna", "ben"]]))
                    for n in range(1, chance.randrange(2, 8))
                ]
                seq += len(batch)
                publish(web, *batch)
            case 3:
                chance.choice(readers)[2].channel.pauseProducing()
            case 4:
                chance.choice(readers)[2].channel.resumeProducing()
                web.clock.advance(0)
            case 5:
                index = chance.randrange(len(readers))
                agent, seen, stream = readers[index]
                seen += stream.ids
                stream.leave()
                last = seen[-1] if seen else 0
                readers[index] = (agent, seen, Stream(web, tokens[agent], Last_Event_ID=str(last)))
    for agent, seen, stream in readers:
        stream.channel.resumeProducing()
        for _ in range(20):
            web.clock.advance(0)
        expected = [e.seq for e in web.store.events if agent is None or agent in e.agents]
        assert seen + stream.ids == expected


def test_a_quiet_stream_gets_a_comment_every_15_seconds(web: Web) -> None:
    stream = Stream(web, web.token("supervisor"))
    before = stream.text
    web.clock.pump([1] * (HEARTBEAT_SECONDS * 4))
    assert stream.text[len(before) :] == ":\n\n" * 4


def test_a_reader_that_takes_nothing_is_cut_after_a_while(web: Web) -> None:
    stream = Stream(web, web.token("supervisor"))
    stream.channel.pauseProducing()
    web.clock.pump([1] * int(PATIENCE_SECONDS))
    assert not stream.transport.disconnected
    web.clock.pump([1] * (HEARTBEAT_SECONDS + 1))
    assert stream.transport.disconnected


def test_a_revoked_tokens_stream_ends(web: Web) -> None:
    token = web.token("supervisor")
    revoked, other = Stream(web, token), Stream(web, web.token("supervisor"))
    digest = digest_of(token)
    web.store.kept_tokens[digest] = evolve(web.store.kept_tokens[digest], revoked=NOW)
    web.clock.advance(1)
    web.hub.poke()
    publish(web, an_event(1))
    assert revoked.transport.disconnecting
    assert (revoked.ids, other.ids) == ([], [1])


def test_an_expired_tokens_stream_ends_at_the_next_heartbeat(web: Web) -> None:
    stream = Stream(web, web.token("supervisor", expires=NOW + 5))
    web.clock.pump([1] * (HEARTBEAT_SECONDS + 5))
    assert stream.transport.disconnecting
    assert web.hub.count == 0


def test_a_revoked_token_ends_all_of_very_many_streams_while_the_reactor_gets_its_turns() -> None:
    web = Web(max_streams=500)
    tokens = [web.token("agent", f"agent{number}") for number in range(500)]
    streams = [Stream(web, token) for token in tokens]
    for digest, record in list(web.store.kept_tokens.items()):
        web.store.kept_tokens[digest] = evolve(record, revoked=NOW)
    web.clock.advance(1)
    web.hub.poke()
    assert 0 < web.hub.count < 500
    web.clock.pump([0] * 3)
    assert web.hub.count == 0
    assert all(stream.transport.disconnecting for stream in streams)


def test_what_a_revoked_tokens_reader_has_not_taken_it_does_not_get(web: Web) -> None:
    token = web.token("supervisor")
    stream = Stream(web, token)
    stream.channel.pauseProducing()
    digest = digest_of(token)
    web.store.kept_tokens[digest] = evolve(web.store.kept_tokens[digest], revoked=NOW)
    web.clock.advance(1)
    web.hub.poke()
    assert stream.transport.disconnected


def test_a_persons_oldest_stream_ends_when_they_have_too_many_whatever_their_tokens(web: Web) -> None:
    tokens = [web.token("agent", "anna") for _ in range(2)]
    other, supervisor = Stream(web, web.token("agent", "ben")), Stream(web, web.token("supervisor"))
    streams = [Stream(web, tokens[number % 2]) for number in range(STREAMS_EACH + 3)]
    assert web.hub.count == STREAMS_EACH + 2
    publish(web, an_event(1, agents=["anna", "ben"]))
    assert [stream.ids for stream in streams] == [[]] * 3 + [[1]] * STREAMS_EACH
    assert all(stream.transport.disconnecting for stream in streams[:3])
    assert (other.ids, supervisor.ids) == ([1], [1])
    streams[-1].leave()
    Stream(web, tokens[0])
    assert not streams[3].transport.disconnecting


def test_a_stream_that_had_no_event_comes_back_with_the_number_it_began_at(web: Web) -> None:
    publish(web, an_event(1), an_event(2))
    token = web.token("supervisor")
    first = Stream(web, token)
    (began,) = re.findall(r"^id: (\d+)$", first.text, re.MULTILINE)
    first.leave()
    publish(web, an_event(3))
    assert Stream(web, token, Last_Event_ID=began).ids == [3]


def test_heartbeats_of_many_streams_are_spread_over_the_time_between_two() -> None:
    web = Web(max_streams=300)
    streams = [Stream(web, web.token("agent", f"agent{number}")) for number in range(300)]
    beaten = []
    for _ in range(HEARTBEAT_SECONDS * 10):
        before = [len(stream.transport.value()) for stream in streams]
        web.clock.advance(0.1)
        lengths = [len(stream.transport.value()) for stream in streams]
        beaten.append(sum(now > then for now, then in zip(lengths, before, strict=True)))
    assert sum(beaten) == 300
    assert max(beaten) <= 5


def test_a_reader_who_left_is_forgotten(web: Web) -> None:
    stream = Stream(web, web.token("agent", "anna"))
    assert web.hub.count == 1
    stream.leave()
    assert web.hub.count == 0
    assert web.hub._by_agent == web.hub._by_person == {}
    publish(web, an_event(1, agents=["anna"]))


def test_the_number_of_streams_is_bounded_and_counted() -> None:
    web = Web(max_streams=2)
    token = web.token("supervisor")
    first = Stream(web, token)
    Stream(web, token)
    reply = web.ask("GET", "/api/v1/events", token)
    assert reply.status == 503
    assert "Retry-After" in reply.headers
    assert b"cti_event_streams 2.0" in web.ask("GET", "/metrics", token).body
    first.leave()
    Stream(web, token)
    assert web.hub.count == 2


def test_stopping_ends_every_stream_properly_and_takes_no_new_one(web: Web) -> None:
    stream = Stream(web, web.token("supervisor"))
    publish(web, an_event(1))
    web.hub.stop()
    assert stream.transport.value().endswith(b"0\r\n\r\n")
    assert stream.transport.disconnecting
    assert web.hub.count == 0
    publish(web, an_event(2))
    assert stream.ids == [1]
    assert web.ask("GET", "/api/v1/events", web.token("supervisor")).status == 503


def test_a_store_that_fails_while_catching_up_ends_the_stream_so_that_the_reader_resumes(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(seq: int, limit: int, agent: str | None = None) -> Sequence[StoredEvent]:
        raise StoreError("the disk is full")

    stream = Stream(web, web.token("supervisor"))
    publish(web, an_event(1))
    stream.channel.pauseProducing()
    publish(web, an_event(2))
    monkeypatch.setattr(web.store, "events_after", broken)
    stream.channel.resumeProducing()
    web.clock.advance(0)
    assert stream.transport.disconnecting
    assert stream.ids == [1]


class SlowReader(Protocol):
    """Sends one request, then reads nothing until told to."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.data = b""
        self.connected_to: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.request)
        self.transport.pauseProducing()  # type: ignore[attr-defined]
        self.connected_to.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.data += data


class OverSockets(TestCase):
    """The same over loopback, with a real transport's buffers."""

    timeout = 120

    async def wait_until(self, true: Any) -> None:
        while not true():
            await deferLater(reactor, 0.005)

    async def test_a_reader_that_stops_reading_costs_little_and_loses_nothing(self) -> None:
        web = Web()
        port = reactor.listenTCP(0, web.site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        reader = SlowReader(request_bytes("GET", "/api/v1/events", web.token("supervisor")))
        factory = ClientFactory()
        factory.buildProtocol = lambda _: reader  # type: ignore[method-assign,assignment]
        reactor.connectTCP("127.0.0.1", port.getHost().port, factory)  # type: ignore[attr-defined]
        await reader.connected_to
        await self.wait_until(lambda: web.hub.count == 1)
        (channel,) = web.site.channels
        kept = 0
        for n in range(1, 3001):
            publish(web, an_event(n, size=4096))
            kept = max(kept, len(channel.transport.dataBuffer) + channel.transport._tempDataLen)
            if n % 50 == 0:
                await deferLater(reactor, 0)
        assert kept < 256 * 1024
        assert reader.transport is not None
        reader.transport.resumeProducing()  # type: ignore[attr-defined]

        async def done() -> None:
            while b"id: 3000\n" not in reader.data[-20000:]:
                web.clock.advance(0)
                await deferLater(reactor, 0.002)

        await done()
        ids = [
            int(found)
            for found in re.findall(rb"\nid: (\d+)\nevent:", b"\n" + reader.data.replace(b"\r\n", b"\n"))
        ]
        assert ids == list(range(1, 3001))
        reader.transport.abortConnection()  # type: ignore[attr-defined]
        await self.wait_until(lambda: web.hub.count == 0)


def test_a_desktop_is_open_as_long_as_one_stream_shows_the_agent_their_cards(web: Web) -> None:
    anna = web.token("agent", "anna")
    assert not web.hub.is_watched("anna")
    streams = [Stream(web, anna), Stream(web, anna), Stream(web, anna, "/api/v1/events?types=agent.state")]
    assert web.hub.is_watched("anna")
    assert not web.hub.is_watched("ben")
    streams[0].leave()
    assert web.hub.is_watched("anna")
    streams[1].leave()
    assert not web.hub.is_watched("anna"), "the third shows no cards"
    Stream(web, web.token("supervisor", "ben"))
    assert web.hub.is_watched("ben")


def test_events_are_sent_at_once_over_tls_too() -> None:
    with socket.socket() as plain:

        class Connection:
            def getHandle(self) -> socket.socket:
                return plain

        class OverTls:
            transport = Connection()

            def getHandle(self) -> object:
                return object()

        for connection in (Connection(), OverTls()):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
            _tune(connection)
            assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
