"""The one HTTP client of all adapters: within a deadline, a size and the configured servers, or a typed error.

What is asked, and what an answer means, is left to the adapters.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlencode, urljoin, urlsplit

import orjson
from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web._newclient import HEADER, STATUS, HTTP11ClientProtocol, ParseError, RequestTransmissionFailed
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
    _HTTP11ClientFactory,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IPolicyForHTTPS
from zope.interface import implementer  # type: ignore[import-untyped]

from adapters.base import (
    AdapterAnswerError,
    AdapterBusy,
    AdapterDenied,
    AdapterReactor,
    AdapterTimeout,
    AdapterUnavailable,
)
from adapters.trace import Exchange, Trace
from cti import __version__
from cti.verified_tls import TlsWords, VerifiedTls

T = TypeVar("T")
Pairs = Iterable[tuple[str, str]]

#: Idle connections are kept this long: most servers close theirs later, and a new one costs round trips.
IDLE_SECONDS: Final = 20
#: How long a CRM is left alone that says "too many requests" and not for how long, and at most.
BUSY_SECONDS: Final = 1.0
LONGEST_BUSY: Final = 3600.0
#: A connection's beginning and the names of its server's headers; far more than any CRM needs.
LONGEST_HEAD: Final = 65_536

_DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ALWAYS_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_WORDS: Final = TlsWords(
    owner="the CRM's",
    trust="`ca_file: FILE`",
    renew="it has to be renewed there",
    name="the name in the configured address has to be one of those",
    plain="http:// instead of https:// in the configured address",
)


@frozen
class Limits:
    """What one CRM may cost: ``seconds`` for a whole request, bytes of a ``body``, ``redirects`` in a row.

    ``concurrent`` requests at a time and ``per_second`` of them, ``burst`` of them at once before that counts.
    """

    seconds: float = 5.0
    body: int = 2_000_000
    redirects: int = 3
    concurrent: int = 8
    per_second: float | None = None
    burst: int = 1


@frozen
class TlsOptions:
    """``ca``: PEM of the authorities that are trusted, or of the server's certificate; None: the system's."""

    ca: bytes | None = None

    @classmethod
    def from_file(cls, path: Path) -> TlsOptions:
        """Reads the file, blocking. Raises ``AdapterUnavailable``."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise AdapterUnavailable(f"the ca_file {path.name} cannot be read: {error.strerror}") from error


@frozen
class Answer:
    """What a server said. ``origin`` is the server, for error texts; ``body`` is unpacked."""

    status: int
    _headers: Mapping[str, str]
    body: bytes
    origin: str = ""

    def header(self, name: str) -> str | None:
        """The header, whatever its letters' case; of several the last."""
        return self._headers.get(name.lower())

    @property
    def headers(self) -> Mapping[str, str]:
        """All of them, their names in small letters."""
        return self._headers

    def expect(self, *statuses: int) -> Answer:
        """Itself if its status is one of these, or any 2xx if none is given; else the ``AdapterError`` it means."""
        if self.status in statuses or (not statuses and 200 <= self.status < 300):
            return self
        if self.status >= 500:
            raise AdapterUnavailable(f"{self.origin} answered {self.status}")
        raise AdapterAnswerError(f"{self.origin} answered {self.status}")

    def text(self) -> str:
        """The body by the charset that it names, else UTF-8. Raises ``AdapterAnswerError``."""
        said = Message()
        said["content-type"] = self.header("content-type") or ""
        charset = str(said.get_param("charset", "utf-8"))
        try:
            return self.body.decode("utf-8-sig" if charset.lower() in ("utf-8", "utf8") else charset)
        except LookupError:
            raise AdapterAnswerError(f"{self.origin} answered in a charset that nobody knows") from None
        except (UnicodeDecodeError, ValueError):
            raise AdapterAnswerError(f"{self.origin} answered {charset[:40]} that is none") from None

    def json(self) -> Any:
        """The body as JSON, None if it is empty. Raises ``AdapterAnswerError``."""
        if not self.body.strip():
            return None
        try:
            return orjson.loads(self.text())
        except orjson.JSONDecodeError:
            what = (self.header("content-type") or "something").partition(";")[0].strip()[:60]
            if "json" in what:
                what = "broken JSON"
            raise AdapterAnswerError(f"{self.origin} answered {what} instead of JSON") from None


def origin_of(url: str) -> str:
    """Scheme, host and port of an address, as ``https://crm.example:443``. Raises ``ValueError`` if it has none."""
    parts = urlsplit(url)
    port = parts.port
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("an address starts with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address has no user name or password in it")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or _DEFAULT_PORTS[parts.scheme]}"


class HttpClient:
    """Asks the servers of one CRM, and nobody else.

    ``hosts`` are addresses, of which scheme, host and port count: neither a redirect nor an address out of the
    CRM's data leads anywhere else. Certificates are always verified. No proxy is used. Error texts name the
    server, and nothing of a request.
    """

    def __init__(
        self,
        reactor: AdapterReactor,
        *,
        hosts: Collection[str],
        limits: Limits = Limits(),
        tls: TlsOptions | None = None,
        trace: Trace | None = None,
    ) -> None:
        self._reactor: Any = reactor
        self._origins = frozenset(origin_of(host) for host in hosts)
        self._limits = limits
        self._trace = trace
        self._policy = _TlsPolicy(tls or TlsOptions())
        self._pool = _pool(reactor, limits.concurrent)
        self._agent: Any = Agent(
            self._reactor, contextFactory=self._policy, connectTimeout=limits.seconds, pool=self._pool
        )  # type: ignore[no-untyped-call]
        self._slots = DeferredSemaphore(limits.concurrent)
        self._bucket = _Bucket(limits.per_second, limits.burst)
        self._busy_until = 0.0

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Pairs = (),
        query: Pairs = (),
        json: Any = None,
        form: Pairs | None = None,
        body: bytes | None = None,
        seconds: float | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """The answer, whatever its status, but for those that mean the same everywhere.

        401 and 403 raise ``AdapterDenied``; 429, and 503 with a time, ``AdapterBusy``, and until then every other
        request, too, unasked. ``repeatable``: a POST may be sent again if its connection turns out to be closed
        already. The deadline counts for all of it: waiting for a turn, redirects, the body. Raises
        ``AdapterError``; when cancelled, the connection is closed.
        """
        if query:
            url += ("&" if "?" in url else "?") + urlencode(list(query))
        head = list(headers)
        said = any(name.lower() == "content-type" for name, _ in head)
        if json is not None:
            body = orjson.dumps(json)
            head += [] if said else [("content-type", "application/json")]
        elif form is not None:
            body = urlencode(list(form)).encode()
            head.append(("content-type", "application/x-www-form-urlencoded"))
        asked = _Request(method, url, tuple(head), body, repeatable or method in _ALWAYS_REPEATABLE)
        return await self._within(self._limits.seconds if seconds is None else seconds, self._asked(asked))

    async def close(self) -> None:
        """Close the idle connections."""
        await self._pool.closeCachedConnections()

    async def _within(self, seconds: float, doing: Awaitable[T]) -> T:
        working: Deferred[T] = Deferred.fromCoroutine(cast(Any, doing))
        out_of_time = self._reactor.callLater(seconds, working.cancel)
        try:
            return await working
        except CancelledError:
            if not out_of_time.active():
                raise AdapterTimeout(f"no answer within {seconds:g} s") from None
            raise
        finally:
            if out_of_time.active():
                out_of_time.cancel()

    async def _asked(self, asked: _Request) -> Answer:
        self._refuse_while_busy()
        await self._slots.acquire()
        try:
            for _ in range(self._limits.redirects + 1):
                answer = await self._exchanged(asked)
                self._judge(answer)
                if answer.status not in _REDIRECTS:
                    return answer
                asked = self._redirected(asked, answer)
            raise AdapterAnswerError(f"{answer.origin} redirects more than {self._limits.redirects} times")
        finally:
            self._slots.release()

    async def _exchanged(self, asked: _Request) -> Answer:
        origin = self._allowed(asked.url)
        wait = self._bucket.wait(self._reactor.seconds())
        if wait > 0:
            try:
                await deferLater(self._reactor, wait)
            except CancelledError:
                self._bucket.give_back()
                raise
        self._refuse_while_busy()
        started = self._reactor.seconds()
        try:
            answer = await self._sent(asked, origin)
        except Exception as error:
            self._traced(asked, None, started, error)
            raise
        self._traced(asked, answer, started, None)
        return answer

    async def _sent(self, asked: _Request, origin: str) -> Answer:
        try:
            response = await self._response(asked)
        except CancelledError:
            raise
        except Exception as error:
            if _because_of(error, _TooLongHead):
                raise AdapterAnswerError(f"{origin} answered headers without an end") from error
            raise AdapterUnavailable(f"{origin} {self._cause(error, origin)}") from error
        fields = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        taken = _Body(self._limits.body, fields.get("content-encoding", ""), origin)
        response.deliverBody(taken)
        return Answer(response.code, fields, await taken.whole, origin)

    async def _response(self, asked: _Request) -> Any:
        # Every connection that was kept may turn out to be closed, and all of them are tried before a new one.
        again = self._limits.concurrent if asked.repeatable else 0
        while True:
            try:
                return await _let_go_of(self._agent.request(*asked.for_agent()))
            except Exception as error:
                if not again or not _was_closed_already(error):
                    raise
                again -= 1

    def _allowed(self, url: str) -> str:
        try:
            origin = origin_of(url)
        except ValueError as error:
            raise AdapterAnswerError(str(error)) from None
        if origin not in self._origins:
            raise AdapterAnswerError(f"an address leads to {origin[:100]}, which is not configured")
        return origin

    def _redirected(self, asked: _Request, answer: Answer) -> _Request:
        location = answer.header("location")
        if location is None or not location.isascii() or not location.isprintable() or " " in location:
            raise AdapterAnswerError(f"{answer.origin} redirects to nowhere")
        try:
            url = urljoin(asked.url, location)
            leads_to = origin_of(url)
        except ValueError:
            raise AdapterAnswerError(f"{answer.origin} redirects to what is no address") from None
        if leads_to not in self._origins:
            raise AdapterAnswerError(
                f"{answer.origin} redirects to {leads_to[:100]}; if that is right, configure it as the address"
            )
        if asked.method in ("GET", "HEAD") or answer.status in (307, 308):
            return asked.to(url)
        if answer.status == 303:
            return _Request("GET", url, tuple(p for p in asked.headers if p[0] != "content-type"), None, True)
        # Browsers would make a GET of it, and what was to be written would be lost.
        raise AdapterAnswerError(f"{answer.origin} redirects a {asked.method}; configure where it leads to")

    def _judge(self, answer: Answer) -> None:
        status = answer.status
        if status in (401, 403):
            raise AdapterDenied(
                f"{answer.origin} answered {status}: it does not accept our login, or its rights"
            )
        said = answer.header("retry-after")
        if status == 429 or (status == 503 and said is not None):
            now = self._reactor.seconds()
            pause = min(_retry_after(said or "", now), LONGEST_BUSY)
            self._busy_until = max(self._busy_until, now + pause)
            raise AdapterBusy(f"{answer.origin} answered {status}: asked again in {pause:.0f} s", pause)

    def _refuse_while_busy(self) -> None:
        left = self._busy_until - self._reactor.seconds()
        if left > 0:
            raise AdapterBusy(f"the CRM wants to be left alone for {left:.0f} s", left)

    def _cause(self, error: Exception, origin: str) -> str:
        reasons = [reason.value for reason in error.reasons] if isinstance(error, ResponseFailed) else [error]
        if origin.startswith("https:") and (flaw := self._policy.explain(origin, reasons)) is not None:
            return flaw
        match error:
            case DNSLookupError():
                return "has a host name that cannot be found"
            case ConnectError():
                return "cannot be reached: " + (str(error).rstrip(".") or type(error).__name__)
            case ResponseFailed():
                causes = {type(reason).__name__ for reason in reasons}
                return f"broke off before it had answered ({', '.join(sorted(causes))})"
        return f"could not be asked ({type(error).__name__})"

    def _traced(
        self, asked: _Request, answer: Answer | None, started: float, error: Exception | None
    ) -> None:
        if self._trace is None:
            return
        self._trace.exchange(
            Exchange(
                method=asked.method,
                url=asked.url,
                headers=asked.headers,
                body=(asked.body or b"").decode("utf-8", "replace"),
                status=0 if answer is None else answer.status,
                answer_headers=() if answer is None else tuple(answer.headers.items()),
                answer="" if answer is None else answer.body.decode("utf-8", "replace"),
                error="" if error is None else (str(error) or type(error).__name__),
                ms=round((self._reactor.seconds() - started) * 1000, 1),
            )
        )


@frozen
class _Request:
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    repeatable: bool

    def to(self, url: str) -> _Request:
        return _Request(self.method, url, self.headers, self.body, self.repeatable)

    def for_agent(self) -> tuple[bytes, bytes, Headers, Any]:
        headers = Headers()
        headers.addRawHeader(b"user-agent", f"Cordboard/{__version__}".encode())
        headers.addRawHeader(b"accept", b"application/json, */*;q=0.1")
        headers.addRawHeader(b"accept-encoding", b"gzip")
        for name, value in self.headers:
            headers.setRawHeaders(name.encode("ascii"), [value.encode("utf-8")])
        try:
            url = self.url.encode("ascii")
        except UnicodeEncodeError:
            raise AdapterAnswerError("an address has letters that have to be escaped there") from None
        return self.method.encode("ascii"), url, headers, None if self.body is None else _Upload(self.body)


class _Bucket:
    """So many a second, a few at once; tells how long to wait, and counts who waits as having gone."""

    def __init__(self, per_second: float | None, burst: int) -> None:
        self._each = 1 / per_second if per_second else 0.0
        self._burst = (max(burst, 1) - 1) * self._each
        self._next = 0.0

    def wait(self, now: float) -> float:
        if not self._each:
            return 0.0
        due = max(self._next, now)
        self._next = due + self._each
        return max(0.0, due - self._burst - now)

    def give_back(self) -> None:
        """Somebody who waited has not gone."""
        self._next -= self._each


@implementer(IPolicyForHTTPS)
class _TlsPolicy:
    """Makes each server's TLS, and remembers it, as only it can tell what was wrong."""

    def __init__(self, options: TlsOptions) -> None:
        self._options = options
        self._by_origin: dict[str, VerifiedTls] = {}

    def creatorForNetloc(self, hostname: bytes, port: int) -> VerifiedTls:
        host = hostname.decode("ascii")
        origin = origin_of(f"https://{f'[{host}]' if ':' in host else host}:{port}")
        if origin not in self._by_origin:
            self._by_origin[origin] = VerifiedTls(host, self._options.ca, _WORDS)
        return self._by_origin[origin]

    def explain(self, origin: str, reasons: Sequence[BaseException]) -> str | None:
        tls = self._by_origin.get(origin)
        said = (tls.explain(reason) for reason in reasons) if tls is not None else ()
        return next((text for text in said if text is not None), None)


class _TooLongHead(Exception):
    """The headers of an answer have no end."""


class _Connection(HTTP11ClientProtocol):
    """Twisted's own, which would read headers for ever."""

    _head = 0

    def request(self, request: Any) -> Any:
        self._head = 0
        return super().request(request)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._parser is not None and self._parser.state in (STATUS, HEADER):
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self._giveUp(Failure(_TooLongHead()))  # type: ignore[no-untyped-call]


class _QuietConnections(_HTTP11ClientFactory):
    """Twisted's own, which says of each connection that it begins and ends."""

    noisy = False

    def buildProtocol(self, addr: object) -> _Connection:
        return _Connection(self._quiescentCallback)  # type: ignore[no-untyped-call]


class _QuietPool(HTTPConnectionPool):
    _factory = _QuietConnections


def _pool(reactor: AdapterReactor, concurrent: int) -> Any:
    pool: Any = _QuietPool(reactor)  # type: ignore[no-untyped-call]
    pool.cachedConnectionTimeout = IDLE_SECONDS
    pool.maxPersistentPerHost = concurrent
    # We know better which requests may be sent again.
    pool.retryAutomatically = False
    return pool


@implementer(IBodyProducer)
class _Upload:
    """A whole body, written at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class _Body(Protocol):
    """Takes a body as it comes, unpacks it, and closes the connection once it is too long or not wanted."""

    def __init__(self, limit: int, encoding: str, origin: str) -> None:
        self._limit = limit
        self._origin = origin
        self._parts: list[bytes] = []
        self._size = 0
        self._unpacker: Any = None
        self.whole: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._known = encoding.strip().lower() in ("", "identity", "gzip", "x-gzip", "deflate")
        if encoding.strip().lower() in ("gzip", "x-gzip", "deflate"):
            self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def connectionMade(self) -> None:
        if not self._known:
            self._fail("answered in a packing that was not asked for")

    def dataReceived(self, data: bytes) -> None:
        if self.whole.called:
            return
        if self._unpacker is not None:
            try:
                data = self._unpacker.decompress(data, self._limit + 1 - self._size)
            except zlib.error:
                self._fail("answered gzip that cannot be unpacked")
                return
        self._size += len(data)
        if self._size > self._limit:
            self._fail(f"answered more than {self._limit} bytes")
            return
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if not isinstance(reason.value, ResponseDone | PotentialDataLoss) or (
            self._unpacker is not None and self._parts and not self._unpacker.eof
        ):
            self.whole.errback(AdapterUnavailable(f"{self._origin} broke off in the middle of its answer"))
        else:
            self.whole.callback(b"".join(self._parts))

    def _fail(self, text: str) -> None:
        if not self.whole.called:
            self.whole.errback(AdapterAnswerError(f"{self._origin} {text}"))
        self._abort()

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            # A proxy that knows only how to lose a connection politely would read on.
            getattr(transport, "abortConnection", transport.loseConnection)()


def _because_of(error: Exception, *kinds: type[BaseException]) -> bool:
    """Whether it is one of these, or one of the several reasons that Twisted gives."""
    reasons = [reason.value for reason in getattr(error, "reasons", ())]
    return any(isinstance(each, kinds) for each in (error, *reasons))


def _let_go_of(request: Deferred[Any]) -> Deferred[Any]:
    """The same; once it is cancelled, that is its end, and whatever Twisted says in consequence is not told."""
    cancelled: list[bool] = []

    def cancel(_: Deferred[Any]) -> None:
        cancelled.append(True)
        request.cancel()

    outcome: Deferred[Any] = Deferred(cancel)
    request.addBoth(lambda result: None if cancelled else outcome.callback(result))
    return outcome


def _was_closed_already(error: Exception) -> bool:
    """Whether not one byte of an answer came, and the connection just ended."""
    return isinstance(error, ResponseNeverReceived | RequestTransmissionFailed) and not _because_of(
        error, SSL.Error, _TooLongHead, ParseError
    )


def _retry_after(text: str, now: float) -> float:
    """Seconds, given as seconds or as a date (RFC 9110, 10.2.3)."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return BUSY_SECONDS
