"""Asks a web address something whose answer says no more than taken or not: within a time, and within reach.

What is asked, and what becomes of it, is left to `webhook` and `url_events`; which addresses are in reach, to
`cti.reach`.
"""

import ipaddress
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.protocol import Protocol as TwistedProtocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, _HTTP11ClientFactory
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer  # type: ignore[import-untyped]

from cti import __version__
from cti.calls.name_lookup import NameLookup
from cti.calls.outbox import DeliveryFailed
from cti.reach import Reach
from cti.reactors import Clock

ANSWER_SECONDS = 10.0
BODY_SECONDS = 2.0  # for what a receiver says beyond its status, which nobody reads
LONGEST_BODY = 65_536
# Receivers close idle connections after 5 s and more; a request written into a closing one is lost.
IDLE_SECONDS = 2


class HttpResponse(Protocol):
    """Of an answer (IResponse), what is looked at."""

    code: int
    headers: Headers

    def deliverBody(self, protocol: TwistedProtocol, /) -> None: ...


class HttpAgent(Protocol):
    """A web client (IAgent) that follows no redirects."""

    def request(
        self, method: bytes, uri: bytes, headers: Headers, bodyProducer: Any, /
    ) -> "Deferred[HttpResponse]": ...


class OutOfReach(Exception):
    """An address led to one that nothing may be sent to; the text says what kind of one that is."""


@implementer(IReactorPluggableNameResolver)
class _Within:
    """The reactor as a web client needs it, that opens connections only to what is in reach.

    Here is the one place where an address is known for sure: whatever a name led to when it was looked up before, or
    in whatever way somebody has written an address, this one is connected to, or not.
    """

    def __init__(self, reactor: Any, reach: Reach, names: Any) -> None:
        self._reactor = reactor
        self._reach = reach
        self.nameResolver = names

    def installNameResolver(self, resolver: Any) -> Any:
        before, self.nameResolver = self.nameResolver, resolver
        return before

    def seconds(self) -> float:
        return cast(float, self._reactor.seconds())

    def callLater(self, delay: float, call: Callable[..., Any], /, *args: Any, **keywords: Any) -> Any:
        return self._reactor.callLater(delay, call, *args, **keywords)

    def connectTCP(self, host: str, port: int, factory: Any, **options: Any) -> Any:
        what = self._reach.refuses(ipaddress.ip_address(host))
        if what is not None:
            raise OutOfReach(f"leads to {host}, which is {what}: `allow` has to name it")
        return self._reactor.connectTCP(host, port, factory, **options)


class _QuietConnections(_HTTP11ClientFactory):
    """Twisted's own, which says of each connection that it begins and ends."""

    noisy = False


class _Pool(HTTPConnectionPool):
    _factory = _QuietConnections


def web_agent(reactor: Any, reach: Reach, names: Any = None) -> HttpAgent:
    """A client for one destination: few idle connections, no redirects, certificates checked.

    Not one for all of them, since a connection that is in one's reach must not serve another, and one whose name
    cannot be looked up must not delay another. `names`: a resolver (IHostnameResolver) in place of the system's.
    """
    within = _Within(reactor, reach, names or NameLookup(reactor))
    pool = _Pool(within)  # type: ignore[no-untyped-call]
    pool.cachedConnectionTimeout = IDLE_SECONDS
    return cast(HttpAgent, Agent(within, connectTimeout=ANSWER_SECONDS, pool=pool))  # type: ignore[no-untyped-call]


def shown(url: str) -> str:
    """An address as people may see it: behind the host there may be secrets anywhere."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/…"


class WebClient:
    """Asks addresses of one destination.

    Only an answer 2xx means that it was taken. Every other answer is tried again, 4xx and 410 too: a receiver that
    is being repaired or moved answers those as well, and what was acknowledged to a caller must not be lost by it;
    the outbox gives up by age alone. Redirects are not followed, since the event would go to an address that nobody
    configured.
    """

    def __init__(
        self,
        agent: HttpAgent,
        reactor: Clock,
        *,
        clock: Callable[[], float],
        timeout: float = ANSWER_SECONDS,
    ) -> None:
        self._agent = agent
        self._reactor = reactor
        self._clock = clock
        self._timeout = timeout

    async def ask(self, method: str, url: str, headers: Headers, body: bytes | None = None) -> int:
        """The status of the answer, which was 2xx. Raises `DeliveryFailed`; may be cancelled."""
        where = shown(url)
        headers.setRawHeaders("user-agent", [f"Cordboard/{__version__}"])
        request = self._agent.request(
            method.encode(), url.encode("ascii"), headers, None if body is None else _Body(body)
        )
        out_of_time = self._reactor.callLater(self._timeout, request.cancel)
        try:
            response = await request
        except Exception as error:
            if not out_of_time.active():
                raise DeliveryFailed(f"{where} gave no answer within {self._timeout:g} s") from error
            if _was_cancelled(error):
                raise CancelledError from error
            raise DeliveryFailed(f"{where} {_cause(error)}") from error
        finally:
            if out_of_time.active():
                out_of_time.cancel()
        await self._discard(response)
        if not 200 <= response.code < 300:
            what = f"{where} answered {response.code}"
            if 300 <= response.code < 400:
                what += ": redirects are not followed, configure the address it moved to"
            raise DeliveryFailed(what, self._retry_after(response.headers), response.code)
        return response.code

    async def _discard(self, response: HttpResponse) -> None:
        rest = _Rest()
        response.deliverBody(rest)
        end = self._reactor.callLater(BODY_SECONDS, rest.close)
        try:
            await rest.ended
        finally:
            if end.active():
                end.cancel()

    def _retry_after(self, headers: Headers) -> float | None:
        """Seconds of `Retry-After`, given as seconds or as a date (RFC 9110, 10.2.3)."""
        text = (headers.getRawHeaders("retry-after") or [""])[0].strip()
        if text.isascii() and text.isdecimal():
            return float(text[:9])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._clock())
        except (ValueError, OverflowError):
            return None


def _cause(error: Exception) -> str:
    match error:
        case DNSLookupError():
            return "has a host name that cannot be found"
        case OutOfReach():
            return str(error)
        case ConnectError():
            return f"cannot be reached: {error}"
        case ResponseFailed():
            causes = {type(reason.value).__name__ for reason in error.reasons}
            return f"broke off before it had answered ({', '.join(sorted(causes))})"
    return f"could not be asked ({type(error).__name__})"


def _was_cancelled(error: Exception) -> bool:
    """Whether the web client ended because we told it to: it says so in three ways, by how far it was."""
    if isinstance(error, ResponseFailed):
        return any(isinstance(reason.value, CancelledError) for reason in error.reasons)
    return isinstance(error, CancelledError | ConnectingCancelledError)


@implementer(IBodyProducer)
class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> "Deferred[None]":
        consumer.write(self._data)
        return defer.succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class _Rest(TwistedProtocol):
    """Reads a response's body to its end, so that the connection can be used again, or closes it."""

    def __init__(self) -> None:
        self._received = 0
        self.ended: Deferred[None] = Deferred(lambda _: self.close())

    def close(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > LONGEST_BODY:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.ended.called:
            self.ended.callback(None)
