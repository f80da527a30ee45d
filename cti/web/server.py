"""Speaks HTTP for the route table: finds the row, asks who it is, checks the request, sends what comes back.

What the answers are is `api`'s, and everything that they are made of is passed in as `Services`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Any, Final, cast
from urllib.parse import parse_qsl

import orjson
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web import http

from cti.dialling import Allowance
from cti.logs import get_logger
from cti.store.base import StoreError
from cti.web.api import ROUTES
from cti.web.etags import known, tags_of
from cti.web.once import Once, key_of
from cti.web.problems import MEDIA_TYPE, Problem
from cti.web.routing_table import JSON, Answer, Asked, Parameter, Route, Table
from cti.web.schema import errors, from_text
from cti.web.services import Services
from cti.web.sessions import SAFE, is_secure, refuse_foreign, refuse_forged, session_id
from cti.web.tokens import Address, Identity
from cti.web.transport import BODY_LIMIT, IDLE_SECONDS, URL_LIMIT, Channel, Request

_PARAMETER_LIMIT: Final = 32
_BEARER: Final = re.compile(r"Bearer +([A-Za-z0-9._~+/-]+=*) *", re.IGNORECASE)
#: What a page of ours may do: nothing but with what comes from here, and nothing written into it is run.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        *(f"{each}-src 'self'" for each in ("script", "style", "font", "connect", "media", "manifest")),
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_FEATURES: Final = (
    "camera",
    "geolocation",
    "microphone",
    "payment",
    "usb",
    "display-capture",
    "browsing-topics",
)
_HEADERS: Final[Mapping[str, str]] = {
    "Server": "Cordboard",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _FEATURES),
}
_HSTS: Final = f"max-age={365 * 86_400}"
_log = get_logger(__name__)


def make_site(services: Services) -> "Site":
    """The factory to listen with. The caller starts `services.hub` and tells it of events."""
    services.metrics.at_scrape(lambda: services.metrics.event_streams(services.hub.count))
    return Site(services, Table(ROUTES))


class Site(http.HTTPFactory):
    """All HTTP connections."""

    protocol = Channel  # type: ignore[assignment]
    noisy = False

    def __init__(self, services: Services, table: Table) -> None:
        super().__init__(timeout=IDLE_SECONDS, reactor=cast(IReactorTime, services.clock))
        self.channels: set[Channel] = set()
        self.once = Once(services.answers, services.clock)
        self._services = services
        self._table = table
        self._allowance = Allowance(services.clock.seconds, services.options.requests_per_minute)
        self._closing = False

    def buildProtocol(self, addr: Any) -> Any:
        """A connection; None, which closes it, if there are too many."""
        if self._closing or len(self.channels) >= self._services.options.max_connections:
            return None
        channel = cast(Channel, super().buildProtocol(addr))
        self.channels.add(channel)
        return channel

    def close(self) -> None:
        """End the event streams and all connections; what is written is still sent."""
        self._closing = True
        self._services.hub.stop()
        for channel in tuple(self.channels):
            channel.loseConnection()  # type: ignore[no-untyped-call]

    def log(self, request: Any) -> None:
        """Called by Twisted for its access log, which shows whole URLs, and with them numbers; ours doesn't."""

    def answer(self, request: Request) -> None:
        """Answer a complete request; called by the request itself."""
        began = self._services.clock.seconds()
        for name, value in _HEADERS.items():
            request.setHeader(name, value)  # type: ignore[no-untyped-call]
        if is_secure(request, self._services.options.behind_proxy):
            request.setHeader("Strict-Transport-Security", _HSTS)  # type: ignore[no-untyped-call]
        request.setHeader("Date", http.datetimeToString())  # type: ignore[no-untyped-call]
        working = Deferred.fromCoroutine(self._work(request))
        if request.method in (b"GET", b"HEAD"):
            # Nobody waits for it any more. What changes something is brought to its end all the same.
            request.notifyFinish().addErrback(lambda _: working.cancel())
        working.addErrback(self._as_problem, request)
        working.addCallback(self._send, request, began)
        working.addErrback(self._unanswered, request)

    async def _work(self, request: Request) -> Answer | None:
        if len(request.uri) > URL_LIMIT:
            raise Problem(414, f"the URL has {len(request.uri)} bytes; at most {URL_LIMIT} are taken")
        try:
            method, uri = request.method.decode("ascii"), request.uri.decode("ascii")
        except UnicodeDecodeError:
            raise Problem(400, "a URL is ASCII; encode anything else by percent signs") from None
        path, _, query = uri.partition("?")
        if method == "OPTIONS":
            return Answer(b"", 204, headers={"Allow": self._table.allow(path)})
        route, values = self._table.find(method, path)
        request.route = route.path
        address = _address(request, self._services.options.behind_proxy)
        who = self._authorise(request, route, address, query)
        if who is not None:
            self._count(who)
        request.role = None if who is None else who.role
        asked = Asked(
            request,
            route,
            address,
            who,
            values,
            _query(route, query),
            _headers(route, request),
            _body(route, request),
            _if_match(route, request),
        )
        if route.audited:
            # Before it is answered: no look without its line, and one that was refused has one, too.
            action, object, detail = _told(asked)
            await self._services.audit.note(who, action, object, address, detail)
        key = key_of(request.requestHeaders.getRawHeaders("Idempotency-Key", []))
        if key is None or not route.idempotent:
            answer = await self._carry_out(asked)
        else:
            answer = await self.once.answer(asked, key, lambda: self._carry_out(asked))
        return answer if answer is None or answer.etag is None else _versioned(answer, request)

    async def _carry_out(self, asked: Asked) -> Answer | None:
        handling: Deferred[Answer | None] = Deferred.fromCoroutine(asked.route.handler(self._services, asked))
        answer = await handling.addTimeout(asked.route.seconds, cast(IReactorTime, self._services.clock))
        if asked.route.audited is None and asked.who is not None and asked.route.changes:
            await self._write_down(asked)
        return answer

    async def _write_down(self, asked: Asked) -> None:
        action, object, detail = _told(asked)
        try:
            await self._services.audit.note(asked.who, action, object, asked.address, detail)
        except StoreError as error:
            # It has been done, and who asked must hear of that.
            _log.error(
                "a change is not in the audit", action=action, by=asked.identity.name, error=str(error)
            )

    def _authorise(
        self, request: Request, route: Route, address: Address | None, query: str
    ) -> Identity | None:
        if route.roles is None:
            return None
        given = request.requestHeaders.getRawHeaders("Authorization")
        secure = is_secure(request, self._services.options.behind_proxy)
        id = session_id(request, secure)
        if given:
            who = self._by_token(given, address)
        elif route.token_in_query and (tokens := [text for name, text in _pairs(query) if name == "token"]):
            who = self._by_query(tokens, address)
        elif id is not None:
            who = self._by_session(request, id, secure)
        elif route.without_token is not None and route.without_token(self._services, address):
            return None
        else:
            raise Problem(
                401, "log in, or send Authorization: Bearer TOKEN", headers={"WWW-Authenticate": _REALM}
            )
        if who.role not in route.roles:
            raise Problem(403, f"this is for the roles {', '.join(sorted(route.roles))}; yours is {who.role}")
        if who.scopes is not None and route.group not in who.scopes:
            scopes = ", ".join(sorted(who.scopes))
            raise Problem(403, f"this token is for {scopes}; {route.group} would be needed", kind="scope")
        return who

    def _by_session(self, request: Request, id: str, secure: bool) -> Identity:
        sessions = self._services.sessions
        who = sessions.identify(id)
        if who is None:
            raise Problem(
                401,
                "this session has ended; log in again",
                kind="session-ended",
                headers={"WWW-Authenticate": _REALM},
            )
        refuse_foreign(request, secure, self._services.options.url)
        if request.method not in SAFE:
            refuse_forged(request, sessions.csrf(who))
        return who

    def _by_token(self, given: Sequence[str], address: Address | None) -> Identity:
        found = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        if found is None:
            self._count_failure(address)
            raise Problem(
                401, "send one header Authorization: Bearer TOKEN", headers={"WWW-Authenticate": _REALM}
            )
        return self._identified(found[1], address)

    def _by_query(self, given: Sequence[str], address: Address | None) -> Identity:
        who = self._identified(given[0] if len(given) == 1 else "", address)
        if who.extension is None:
            # URLs are kept by browsers and proxies: what is good for more than one phone has no place there.
            raise Problem(
                403, "only a softphone's token may stand in a URL; send a header", kind="token-in-url"
            )
        return who

    def _identified(self, token: str, address: Address | None) -> Identity:
        who = self._services.tokens.identify(token)
        if who is None:
            self._count_failure(address)
            raise Problem(
                401,
                "this token is unknown, expired or revoked; `cti token add` makes one",
                headers={"WWW-Authenticate": f'{_REALM}, error="invalid_token"'},
            )
        return who

    def _count(self, who: Identity) -> None:
        """One request of theirs. Nobody who asks without a pause takes the turns of those who call."""
        wait = self._allowance.take(who.token)
        if wait > 0:
            seconds = str(max(1, ceil(wait)))
            raise Problem(
                429,
                f"too many requests; the next is answered in {seconds} s (http.requests_per_minute)",
                kind="too-many-requests",
                headers={"Retry-After": seconds},
            )

    def _count_failure(self, address: Address | None) -> None:
        wait = self._services.failures.record(address)
        if wait is not None:
            seconds = str(max(1, round(wait)))
            raise Problem(429, f"too many wrong tokens; wait {seconds} s", headers={"Retry-After": seconds})
        _log.warning("a wrong token was presented", address=str(address))

    def _as_problem(self, failure: Failure, request: Request) -> Answer:
        """Any failure as the problem that the client is told; what is our own fault is logged whole."""
        error = failure.value
        if isinstance(error, CancelledError):
            problem = Problem(503, "the request was given up")
        elif isinstance(error, Problem):
            problem = error
            if error.status == HTTPStatus.FORBIDDEN:
                _log.warning("a request was refused", route=request.route, role=request.role, why=error.kind)
        elif isinstance(error, DeferredTimeout):
            problem = Problem(504, "no answer in time; try again")
        elif isinstance(error, StoreError):
            _log.error("a request failed in the store", route=request.route, error=str(error))
            problem = Problem(503, "the store does not answer; try again", headers={"Retry-After": "5"})
        else:
            _log.error("a request failed", route=request.route, exception=failure.getTraceback())
            problem = Problem(500, "this is a fault of the server's; its log says more")
        return Answer(problem.as_json(), problem.status, MEDIA_TYPE, problem.headers)

    def _send(self, answer: Answer | None, request: Request, began: float) -> None:
        if answer is None or request.gone:
            return
        if request.role is not None and answer.content_type in (JSON, MEDIA_TYPE):
            answer = evolve(answer, body=self._services.masking.masked(request.role, answer.body))
        for name, value in answer.headers.items():
            request.setHeader(name, value)  # type: ignore[no-untyped-call]
        if answer.status not in http.NO_BODY_CODES:
            request.setHeader("Content-Type", answer.content_type)  # type: ignore[no-untyped-call]
            request.setHeader("Content-Length", str(len(answer.body)))  # type: ignore[no-untyped-call]
        if answer.content_type in (JSON, MEDIA_TYPE):
            # For programs: opened as a page, it is saved and never shown.
            request.setHeader("Content-Disposition", 'attachment; filename="api.json"')  # type: ignore[no-untyped-call]
        # Twisted does not know all of them by itself.
        request.setResponseCode(answer.status, HTTPStatus(answer.status).phrase.encode())
        request.write(answer.body)  # type: ignore[no-untyped-call]
        request.finish()  # type: ignore[no-untyped-call]
        if self._services.options.access_log:
            _log.info(
                "request",
                method=request.method.decode("ascii", "replace")[:20],
                route=request.route,
                status=answer.status,
                bytes=len(answer.body),
                ms=round((self._services.clock.seconds() - began) * 1000, 1),
            )

    def _unanswered(self, failure: Failure, request: Request) -> None:
        _log.error("an answer could not be sent", route=request.route, exception=failure.getTraceback())
        if not request.gone:
            request.connection.abortConnection()


#: Of a body, what is written down as it is; of the rest, such as notes, only that it was there.
_IN_WORDS: Final = frozenset(
    {"state", "reason", "agent", "to", "from", "action", "owner", "phone", "disposition", "key"}
)


def _told(asked: Asked) -> tuple[str, str | None, Mapping[str, Any]]:
    """What is written down of a request: the action, whose it is about, and what was asked."""
    body = asked.body if isinstance(asked.body, dict) else {}
    given = {key: value if key in _IN_WORDS else "…" for key, value in body.items()}
    action = f"{asked.route.method} {asked.route.path}"
    query = {name: "…" if name in asked.route.unwritten else value for name, value in asked.query.items()}
    return action, next(iter(asked.path.values()), None), {**query, **given}


_REALM: Final = 'Bearer realm="cordboard"'


def _address(request: Request, behind_proxy: bool) -> Address | None:
    """The client's address, None if it is not known.

    A proxy on this machine must not make everybody loopback: its header is believed if it is configured, and
    if it is not, who sends one is nobody we know.
    """
    forwarded = request.requestHeaders.getRawHeaders("X-Forwarded-For")
    if forwarded is not None:
        text = forwarded[-1].rpartition(",")[2].strip() if behind_proxy else ""
    else:
        text = getattr(request.client, "host", "")
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _if_match(route: Route, request: Request) -> Collection[str]:
    if not (route.etag and route.changes):
        return ()
    wanted = tags_of(request.requestHeaders.getRawHeaders("If-Match", []), "If-Match")
    if wanted is None:
        raise Problem(
            428,
            "send If-Match with the ETag of what you have read, so that nobody's change is lost",
            kind="precondition-required",
        )
    return wanted


def _versioned(answer: Answer, request: Request) -> Answer:
    """The answer with its ETag, or 304 for who has it already."""
    etag = str(answer.etag)
    headers = {**answer.headers, "ETag": etag}
    has = request.requestHeaders.getRawHeaders("If-None-Match", [])
    if request.method in SAFE and answer.status == 200 and known(has, etag):
        return Answer(b"", 304, headers=headers)
    return evolve(answer, headers=headers)


def _query(route: Route, text: str) -> Mapping[str, Any]:
    names = [parameter.name for parameter in route.query]
    pairs = _pairs(text)
    listed = f"known are {', '.join(names)}" if names else "this path takes none"
    unknown = dict.fromkeys(name[:40] for name, _ in pairs if name not in names)
    return _parameters(route.query, pairs, [f"{name} is no parameter here; {listed}" for name in unknown])


def _headers(route: Route, request: Request) -> Mapping[str, Any]:
    given = [
        (each.name, value)
        for each in route.headers
        for value in request.requestHeaders.getRawHeaders(each.name, [])
    ]
    return _parameters(route.headers, given, [])


def _parameters(
    known: Sequence[Parameter], given: Sequence[tuple[str, str]], faults: list[str]
) -> Mapping[str, Any]:
    """The values by the parameters' names. Raises `Problem` 422 with these faults and all others."""
    found: dict[str, Any] = {}
    for parameter in known:
        name, texts = parameter.name, [value for name, value in given if name == parameter.name]
        if len(texts) > 1:
            faults.append(f"{name} is given {len(texts)} times")
        elif texts:
            found[name], wrong = from_text(parameter.schema, texts[0], name)
            faults += wrong
        elif parameter.required:
            faults.append(f"{name} is missing")
        elif "default" in parameter.schema:
            found[name] = parameter.schema["default"]
    _refuse(faults)
    return found


def _pairs(text: str) -> Sequence[tuple[str, str]]:
    try:
        return parse_qsl(
            text, keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=_PARAMETER_LIMIT
        )
    except UnicodeDecodeError:
        raise Problem(400, "the query is not UTF-8 encoded by percent signs") from None
    except ValueError:
        raise Problem(400, f"the query has more than {_PARAMETER_LIMIT} parameters") from None


def _body(route: Route, request: Request) -> Any:
    if request.too_large:
        raise Problem(413, f"the body is too long; at most {BODY_LIMIT} bytes are taken")
    if route.body is None:
        return None
    if not request.body() and not route.body_needed:
        return {}
    declared = (request.getHeader("Content-Type") or "").partition(";")[0].strip().lower()
    if declared != JSON:
        raise Problem(415, f"send the body as Content-Type: {JSON}", headers={"Accept": JSON})
    try:
        body = orjson.loads(request.body())
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    _refuse(errors(route.body, body, "body"))
    return body


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise Problem(422, "; ".join(faults[:10]), errors=faults[:10])
