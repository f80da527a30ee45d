"""People in their browsers: sessions, the cookie that carries one, and what tells our own pages from others'.

Who may begin a session is `login`'s; where they are kept is the store's.
"""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

from attrs import define, frozen
from twisted.internet.defer import Deferred

from cti.reactors import Clock
from cti.store.base import Unit
from cti.store.records import SessionRecord, StoredEvent, UserRecord
from cti.web.problems import Problem
from cti.web.tokens import ADMIN, AGENT, CACHE_SECONDS, SUPERVISOR, Identity, digest_of
from cti.web.transport import Request

#: The roles of people; a CRM is none.
USER_ROLES: Final = (AGENT, SUPERVISOR, ADMIN)
CSRF_HEADER: Final = "X-CSRF-Token"
#: Methods that change nothing.
SAFE: Final = (b"GET", b"HEAD")

_COOKIE: Final = "cordboard"
#: Of this path only, so that those of all who share a browser burden nothing else.
_DEVICE_PATH: Final = "/api/v1/session"
_DEVICE_DAYS: Final = 180
_USED_SECONDS: Final = 60.0
_CACHE_LIMIT: Final = 20_000
_COOKIE_LIMIT: Final = 256
_KEY: Final = "cookies"
_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR


class ISessionStore(Protocol):
    """What is needed of a store."""

    def session(self, digest: str) -> tuple[SessionRecord, UserRecord] | None: ...
    def key(self, name: str) -> str | None: ...
    def unit(self) -> Unit: ...
    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]": ...


@frozen
class Lifetime:
    """A session ends when it was not used for `idle` seconds, and after `longest` in any case."""

    idle: float = 12 * _HOUR
    longest: float = 7 * _DAY


@define
class _Open:
    """What is known of a session: at `looked` it was this."""

    looked: float
    session: SessionRecord
    user: UserRecord


class Sessions:
    """Finds who is behind a cookie, asking the store at most once in `CACHE_SECONDS` for each."""

    def __init__(self, store: ISessionStore, clock: Clock, lifetime: Lifetime | None = None) -> None:
        self._store = store
        self._clock = clock
        self._lifetime = lifetime or Lifetime()
        self._cached: OrderedDict[str, _Open] = OrderedDict()
        self._kept_key: str | None = None

    # Whose it is.

    def identify(self, id: str) -> Identity | None:
        """The person whose session this is, and it counts as used; None if there is none of this id any more."""
        if not id or len(id) > _COOKIE_LIMIT:
            return None
        found = self._find(digest_of(id))
        if found is None:
            return None
        self._use(found)
        return _identity(found)

    def valid(self, identity: Identity) -> bool:
        """Whether the session behind an identity found earlier still is, and of the same."""
        found = self._find(identity.digest)
        return found is not None and _identity(found) == identity

    def user(self, identity: Identity) -> UserRecord | None:
        """The record of who is behind an identity; None if the session has ended meanwhile."""
        found = self._find(identity.digest)
        return None if found is None else found.user

    def expires(self, identity: Identity) -> float:
        """When the session ends if it is not used again."""
        found = self._find(identity.digest)
        return 0.0 if found is None else self._end_of(found.session)

    def csrf(self, identity: Identity) -> str:
        """What our own pages send along, and nobody else's can know."""
        return hmac.new(self._key(), b"csrf " + identity.digest.encode(), "sha256").hexdigest()

    @property
    def longest(self) -> float:
        """Seconds that a session lasts at most."""
        return self._lifetime.longest

    # Beginning and end.

    def open(self, unit: Unit, user: UserRecord) -> tuple[str, Identity]:
        """Begin a session in `unit`: its id, for the cookie alone, and who it is."""
        now = self._clock.seconds()
        id = secrets.token_urlsafe(32)
        session = SessionRecord(digest_of(id), user.name, now, now, now + self._lifetime.longest)
        unit.forget_sessions(now, now - self._lifetime.idle)
        unit.put_session(session)
        return id, _identity(_Open(now, session, user))

    def forget(self) -> None:
        """Ask the store again from now on: it has changed."""
        self._cached.clear()

    # A browser that somebody has logged in with before.

    def device_cookie(self, name: str) -> str:
        """What a browser keeps that user `name` has logged in with."""
        made = f"{secrets.token_urlsafe(12)}.{int(self._clock.seconds())}"
        return f"{made}.{self._device_seal(name, made)}"

    def device(self, name: str, cookie: str | None) -> str | None:
        """Which browser this is, if user `name` has logged in with it before."""
        made, _, seal = (cookie or "").rpartition(".")
        if not (made and cookie and cookie.isascii() and len(cookie) <= _COOKIE_LIMIT):
            return None
        if not hmac.compare_digest(seal, self._device_seal(name, made)):
            return None
        return made if self._clock.seconds() - float(made.rpartition(".")[2]) < _DEVICE_DAYS * _DAY else None

    def _device_seal(self, name: str, made: str) -> str:
        return hmac.new(self._key(), f"device {made} {name}".encode(), "sha256").hexdigest()

    def _key(self) -> bytes:
        if self._kept_key is None:
            self._kept_key = self._store.key(_KEY)
        if self._kept_key is None:
            self._kept_key = secrets.token_hex(32)
            unit = self._store.unit()
            unit.put_key(_KEY, self._kept_key)
            # If that fails, so does the log-in that needs it, and the next one tries again.
            self._store.commit(unit).addErrback(self._not_kept)
        return bytes.fromhex(self._kept_key)

    def _not_kept(self, _failure: object) -> None:
        self._kept_key = None

    def _find(self, digest: str) -> _Open | None:
        now = self._clock.seconds()
        found = self._cached.get(digest)
        # A wall clock set back must not make an entry live for hours.
        if found is None or not 0 <= now - found.looked < CACHE_SECONDS:
            self._cached.pop(digest, None)
            kept = self._store.session(digest)
            if kept is None:
                return None
            found = self._cached[digest] = _Open(now, *kept)
            if len(self._cached) > _CACHE_LIMIT:
                self._cached.popitem(last=False)
        user = found.user
        if user.disabled or user.role not in USER_ROLES or self._end_of(found.session) <= now:
            return None
        return found

    def _end_of(self, session: SessionRecord) -> float:
        return min(session.expires, session.used + self._lifetime.idle)

    def _use(self, found: _Open) -> None:
        now = self._clock.seconds()
        if now - found.session.used < _USED_SECONDS:
            return
        found.session = SessionRecord(
            found.session.digest, found.session.user, found.session.created, now, found.session.expires
        )
        unit = self._store.unit()
        unit.touch_session(found.session.digest, now)
        # Not written, it ends sooner; that is no reason to refuse what is asked now.
        self._store.commit(unit, at_leisure=True).addErrback(lambda _: None)


def _identity(found: _Open) -> Identity:
    user = found.user
    return Identity(f"user {user.name}", user.name, user.role, found.session.digest, user.agent, user=True)


# What browsers send.


def is_secure(request: Request, behind_proxy: bool) -> bool:
    """Whether the way from the client is encrypted. A proxy that says nothing of it is believed to do TLS."""
    if not behind_proxy:
        return bool(request.isSecure())  # type: ignore[no-untyped-call]
    said = request.requestHeaders.getRawHeaders("X-Forwarded-Proto")
    return said is None or said[-1].rpartition(",")[2].strip().lower() == "https"


def session_id(request: Request, secure: bool) -> str | None:
    """The session's id, if the client sends one."""
    return _sent(request, _session_cookie(secure))


def device_of(request: Request, secure: bool, name: str) -> str | None:
    """What this browser keeps of user `name`, if it sends it."""
    return _sent(request, _device_name(secure, name))


def keep_session(request: Request, secure: bool, id: str, seconds: float) -> None:
    """Have the browser keep a session's id."""
    _set(request, _session_cookie(secure), id, "/", secure, seconds)


def drop_session(request: Request, secure: bool) -> None:
    """Have the browser forget it."""
    _set(request, _session_cookie(secure), "", "/", secure, 0)


def keep_device(request: Request, secure: bool, name: str, cookie: str) -> None:
    """Have the browser keep that user `name` has logged in with it."""
    _set(request, _device_name(secure, name), cookie, _DEVICE_PATH, secure, _DEVICE_DAYS * _DAY)


def refuse_foreign(request: Request, secure: bool, url: str | None) -> None:
    """Refuse what a page of somebody else's has a browser send. Raises `Problem` 403.

    Browsers say where it comes from by `Sec-Fetch-Site` and `Origin`; `url` is our own address where it is known.
    """
    site = request.getHeader("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        raise _foreign("comes from another site")
    origins = request.requestHeaders.getRawHeaders("Origin") or ()
    host = request.getHeader("Host") or ""
    ours: Collection[str] = {f"{'https' if secure else 'http'}://{host}".lower(), _origin(url)}
    if any(origin.lower() not in ours for origin in origins):
        raise _foreign("has an Origin that is not ours; behind a proxy, `http.url` says which is")


def refuse_forged(request: Request, csrf: str) -> None:
    """Refuse a change that does not carry the session's token. Raises `Problem` 403."""
    sent = request.requestHeaders.getRawHeaders(CSRF_HEADER) or ()
    if len(sent) != 1 or not hmac.compare_digest(sent[0].encode(), csrf.encode()):
        raise _foreign(f"lacks the header {CSRF_HEADER} with `csrf` of GET /api/v1/session")


def _foreign(what: str) -> Problem:
    return Problem(403, f"this request {what}", kind="csrf")


def _origin(url: str | None) -> str:
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _session_cookie(secure: bool) -> str:
    return f"__Host-{_COOKIE}" if secure else _COOKIE


def _device_name(secure: bool, name: str) -> str:
    # `__Host-` would have it sent with everything.
    return f"{'__Secure-' if secure else ''}{_COOKIE}-{digest_of(name)[:12]}"


def _sent(request: Request, name: str) -> str | None:
    """The value of a cookie; None where there are two of the name, of which one was planted."""
    found = [
        value.strip()
        for header in request.requestHeaders.getRawHeaders("Cookie") or ()
        for key, _, value in (pair.partition("=") for pair in header.split(";"))
        if key.strip() == name
    ]
    return found[0] if len(found) == 1 else None


def _set(request: Request, name: str, value: str, path: str, secure: bool, seconds: float) -> None:
    text = f"{name}={value}; Path={path}; Max-Age={int(seconds)}; HttpOnly; SameSite=Strict"
    request.responseHeaders.addRawHeader("Set-Cookie", text + "; Secure" * secure)
