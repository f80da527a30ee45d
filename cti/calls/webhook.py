"""Hands one event to a web address, signed as Standard Webhooks 1.0 says (standardwebhooks.com).

When to try again, and in which order, is the outbox's business.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.protocol import Protocol as TwistedProtocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, _HTTP11ClientFactory
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer  # type: ignore[import-untyped]

from cti import __version__
from cti.calls.outbox import DeliveryFailed
from cti.reactors import Clock
from cti.store.records import Delivery

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


class _QuietConnections(_HTTP11ClientFactory):
    """Twisted's own, which says of each connection that it begins and ends."""

    noisy = False


class _Pool(HTTPConnectionPool):
    _factory = _QuietConnections


def webhook_agent(reactor: Clock) -> HttpAgent:
    """A client for all webhooks of a process: few idle connections, no redirects, certificates checked."""
    pool = _Pool(reactor)  # type: ignore[no-untyped-call]
    pool.cachedConnectionTimeout = IDLE_SECONDS
    return cast(HttpAgent, Agent(reactor, connectTimeout=ANSWER_SECONDS, pool=pool))  # type: ignore[no-untyped-call]


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: `whsec_` and base64, as Standard Webhooks has it, else its UTF-8.

    Raises `ValueError`.
    """
    if not secret.startswith("whsec_"):
        key = secret.encode()
    else:
        text = secret.removeprefix("whsec_")
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            raise ValueError("a secret that begins with whsec_ goes on in base64") from None
    if not key:
        raise ValueError("a webhook's secret must not be empty")
    return key


def signature(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature` (Standard Webhooks, "Signature scheme")."""
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class WebhookSender:
    """A `Sender` to one address.

    Only an answer 2xx means that the event was taken. Every other answer is tried again, 4xx and 410 too: a
    receiver that is being repaired or moved answers those as well, and what was acknowledged to a caller must
    not be lost by it; the outbox gives up by age alone. Redirects are not followed, since the event would go
    to an address that nobody configured.

    `url` may hold secrets anywhere behind the host, so no error text shows more than that.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        agent: HttpAgent,
        reactor: Clock,
        *,
        clock: Callable[[], float],
        timeout: float = ANSWER_SECONDS,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a webhook's url is http:// or https:// with a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a webhook's url has no user name or password in it")
        self._shown = f"{parts.scheme}://{parts.netloc}/…"
        self._url = url.encode("ascii")
        self._key = signing_key(secret)
        self._agent = agent
        self._reactor = reactor
        self._clock = clock
        self._timeout = timeout

    async def send(self, delivery: Delivery) -> None:
        timestamp = int(self._clock())
        headers = Headers(
            {
                "content-type": ["application/json"],
                "user-agent": [f"Cordboard/{__version__}"],
                "webhook-id": [delivery.key],
                "webhook-timestamp": [str(timestamp)],
                "webhook-signature": [signature(self._key, delivery.key, timestamp, delivery.data)],
            }
        )
        request = self._agent.request(b"POST", self._url, headers, _Body(delivery.data))
        out_of_time = self._reactor.callLater(self._timeout, request.cancel)
        try:
            response = await request
        except Exception as error:
            if not out_of_time.active():
                raise DeliveryFailed(f"{self._shown} gave no answer within {self._timeout:g} s") from error
            if _was_cancelled(error):
                raise CancelledError from error
            raise DeliveryFailed(f"{self._shown} {self._cause(error)}") from error
        finally:
            if out_of_time.active():
                out_of_time.cancel()
        await self._discard(response)
        if not 200 <= response.code < 300:
            what = f"{self._shown} answered {response.code}"
            if 300 <= response.code < 400:
                what += ": redirects are not followed, configure the address it moved to"
            raise DeliveryFailed(what, self._retry_after(response.headers))

    def _cause(self, error: Exception) -> str:
        match error:
            case DNSLookupError():
                return "has a host name that cannot be found"
            case ConnectError():
                return f"cannot be reached: {error}"
            case ResponseFailed():
                causes = {type(reason.value).__name__ for reason in error.reasons}
                return f"broke off before it had answered ({', '.join(sorted(causes))})"
        return f"could not be asked ({type(error).__name__})"

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
