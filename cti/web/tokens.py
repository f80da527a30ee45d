"""Who is asking: bearer tokens, what they identify, and how often an address may present wrong ones.

What a role may do stands in the route table; where tokens are kept is the store's.
"""

import hashlib
import secrets
from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, Protocol

from attrs import frozen

from cti.reactors import Clock
from cti.store.records import TokenRecord

PREFIX: Final = "cti_"
AGENT: Final = "agent"
SUPERVISOR: Final = "supervisor"
ADMIN: Final = "admin"
CRM: Final = "crm"
#: The scope of tokens that are a softphone's, and good for its extension only.
SOFTPHONE: Final = "softphone"
ROLES: Final = (AGENT, SUPERVISOR, ADMIN, CRM)

#: A revoked token works for so many seconds at most.
CACHE_SECONDS: Final = 0.5
_CACHE_LIMIT: Final = 20_000
_TOKEN_LIMIT: Final = 256

Address = IPv4Address | IPv6Address


class ITokenStore(Protocol):
    """What is needed of a store."""

    def token(self, digest: str) -> TokenRecord | None: ...


@frozen
class Identity:
    """Who asks: whom a token or a session stands for.

    `token` tells them from all others, `digest` is of the token or of the session's id. `agent` is the agent's id,
    for those that belong to one. `user`: a person, in a session. `scopes`: to what a token is limited; None: to what
    its role may. `extension`: the softphone whose token it is.
    """

    token: str
    name: str
    role: str
    digest: str
    agent: str | None = None
    user: bool = False
    scopes: frozenset[str] | None = None
    extension: str | None = None


def mint_token() -> tuple[str, str]:
    """A new token, to be shown once, and its digest, to be kept."""
    token = PREFIX + secrets.token_urlsafe(32)
    return token, digest_of(token)


def digest_of(token: str) -> str:
    """SHA-256 in hexadecimal. Tokens are random, not chosen, so nothing slower is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """Finds the identity behind a token, asking the store at most once in `CACHE_SECONDS` for each."""

    def __init__(self, store: ITokenStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._cached: OrderedDict[str, tuple[float, Identity | None]] = OrderedDict()

    def identify(self, token: str) -> Identity | None:
        """Whom the token stands for; None if it is unknown, expired or revoked."""
        if not token or len(token) > _TOKEN_LIMIT:
            return None
        return self._identity(digest_of(token))

    def valid(self, identity: Identity) -> bool:
        """Whether the token behind an identity found earlier is still good, and for the same."""
        return self._identity(identity.digest) == identity

    def forget(self) -> None:
        """Ask the store again from now on: it has changed."""
        self._cached.clear()

    def _identity(self, digest: str) -> Identity | None:
        now = self._clock.seconds()
        cached = self._cached.get(digest)
        # A wall clock set back must not make an entry live for hours.
        if cached is not None and 0 <= now - cached[0] < CACHE_SECONDS:
            return cached[1]
        identity = self._from_store(digest, now)
        self._cached[digest] = (now, identity)
        self._cached.move_to_end(digest)
        if len(self._cached) > _CACHE_LIMIT:
            self._cached.popitem(last=False)
        return identity

    def _from_store(self, digest: str, now: float) -> Identity | None:
        record = self._store.token(digest)
        if record is None or record.role not in ROLES:
            return None
        expired = record.expires is not None and record.expires <= now
        if expired or record.revoked is not None:
            return None
        scopes = None if record.scopes is None else frozenset(record.scopes)
        return Identity(
            record.id,
            record.name,
            record.role,
            digest,
            record.agent,
            scopes=scopes,
            extension=record.extension,
        )


class FailedAttempts:
    """Counts wrong tokens by address: `limit` in `seconds`, for the `size` addresses seen last.

    A right token is never refused for somebody else's wrong ones: many may share an address, and nobody
    guesses 256 bits. What this bounds is the noise.
    """

    def __init__(self, clock: Clock, *, limit: int = 20, seconds: float = 60.0, size: int = 10_000) -> None:
        self._clock = clock
        self._limit = limit
        self._seconds = seconds
        self._size = size
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def record(self, address: Address | None) -> float | None:
        """Count one; seconds until the next is answered normally if these are too many, else None."""
        key = network_of(address)
        now = self._clock.seconds()
        began, count = self._counts.pop(key, (now, 0))
        if not 0 <= now - began < self._seconds:
            began, count = now, 0
        self._counts[key] = (began, count + 1)
        if len(self._counts) > self._size:
            self._counts.popitem(last=False)
        return None if count < self._limit else began + self._seconds - now


def network_of(address: Address | None) -> str:
    """What belongs to one client: who has an IPv6 address has the other 2^64 of its network, too."""
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)
