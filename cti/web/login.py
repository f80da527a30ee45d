"""How somebody becomes known by a password: checked, slowed down, and given a session.

Guessing is slowed by account and by address, both before a password is looked at. A browser with which somebody has
logged in to this account before has a pace of its own: whoever guesses does not keep the real agent out.
"""

from collections.abc import Callable, Hashable, Sequence
from math import ceil
from typing import Final, Protocol

from attrs import evolve, frozen

from cti.logs import get_logger
from cti.reactors import Clock
from cti.store.records import UserRecord
from cti.web.audit import Audit, IAuditStore
from cti.web.passwords import Busy, Passwords, wrong_with
from cti.web.problems import Problem
from cti.web.sessions import Sessions
from cti.web.throttle import Pace, Throttle
from cti.web.tokens import Address, Identity, digest_of, network_of

ACCOUNT: Final = Pace(free=5, seconds=900.0)
DEVICE: Final = Pace(free=10, seconds=60.0)
ADDRESS: Final = Pace(free=20, seconds=30.0)
_KEPT: Final = 10_000

_log = get_logger(__name__)


class IUserStore(IAuditStore, Protocol):
    """What is needed of a store."""

    def user(self, name: str) -> UserRecord | None: ...


@frozen
class From:
    """Where somebody tries to come in from: the address, and what the browser keeps of the account."""

    address: Address | None
    device: str | None


@frozen
class Opened:
    """A session that has begun; `id` is for the cookie alone."""

    id: str
    identity: Identity
    user: UserRecord


class Login:
    """The way in. `count` is told what came of each try: `ok`, `wrong`, `slowed`, `busy`."""

    def __init__(
        self,
        store: IUserStore,
        sessions: Sessions,
        passwords: Passwords,
        audit: Audit,
        clock: Clock,
        count: Callable[[str], object],
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._passwords = passwords
        self._audit = audit
        self._clock = clock
        self._count = count
        # Names that are made up must not push out those that are guessed at.
        self._accounts = Throttle(clock, ACCOUNT, size=_KEPT)
        self._strangers = Throttle(clock, ACCOUNT, size=_KEPT)
        self._devices = Throttle(clock, DEVICE, size=_KEPT)
        self._addresses = Throttle(clock, ADDRESS, size=_KEPT)

    async def log_in(self, name: str, password: str, where: From, before: str | None) -> Opened:
        """Begin a session; the one whose id is `before`, which the browser had, ends. Raises `Problem`."""
        user = await self._checked(name, password, where)
        unit = self._store.unit()
        if self._passwords.outdated(user.password):
            again = evolve(user, password=await self.hash(password))
            if self._store.user(name) != user:
                # Changed while that took its time: what an admin has done meanwhile is not undone.
                raise await self._wrong(user, where)
            user = again
            unit.put_user(user)
        if before is not None:
            unit.end_session(digest_of(before))
        id, identity = self._sessions.open(unit, user)
        self._audit.add(unit, identity, "session.opened", user.name, where.address)
        await self._store.commit(unit)
        self._sessions.forget()
        await self._still_right(user, id, where)
        self._count("ok")
        return Opened(id, identity, user)

    async def _still_right(self, user: UserRecord, id: str, where: From) -> None:
        """A new password ends all sessions; one that begins just then by the old password has to end, too."""
        kept = self._store.user(user.name)
        if kept is None or kept.disabled or kept.password != user.password:
            unit = self._store.unit()
            unit.end_session(digest_of(id))
            await self._store.commit(unit)
            self._sessions.forget()
            raise await self._wrong(kept, where)

    async def change_password(self, who: Identity, old: str, new: str, where: From) -> Opened:
        """Give a person another password: all their sessions end, and a new one begins. Raises `Problem`."""
        wrong = wrong_with(new, who.name)
        if wrong is not None:
            raise Problem(422, f"new: {wrong}", kind="weak-password")
        await self._checked(who.name, old, where)
        kept = await self.hash(new)
        user = self._store.user(who.name)
        if user is None:
            raise Problem(401, "this user was removed meanwhile", kind="wrong-login")
        unit = self._store.unit()
        user = evolve(user, password=kept, changed=self._clock.seconds())
        unit.put_user(user)
        unit.end_sessions(user.name)
        id, identity = self._sessions.open(unit, user)
        self._audit.add(unit, identity, "password.changed", user.name, where.address)
        await self._store.commit(unit)
        self._sessions.forget()
        return Opened(id, identity, user)

    async def log_out(self, who: Identity, address: Address | None, *, everywhere: bool) -> None:
        """End a person's session, or all of theirs."""
        unit = self._store.unit()
        if everywhere:
            unit.end_sessions(who.name)
        else:
            unit.end_session(who.digest)
        self._audit.add(unit, who, "session.ended", who.name, address, {"all": True} if everywhere else None)
        await self._store.commit(unit)
        self._sessions.forget()

    async def _checked(self, name: str, password: str, where: From) -> UserRecord:
        user = self._store.user(name)
        paces = self._paces(name, user, where)
        wait = max(throttle.wait(key) for throttle, key in paces)
        if wait > 0:
            self._count("slowed")
            seconds = str(ceil(wait))
            raise Problem(
                429,
                f"too many wrong passwords; wait {seconds} s",
                kind="too-many-attempts",
                headers={"Retry-After": seconds},
            )
        for throttle, key in paces:
            throttle.count(key)
        try:
            right = await self._passwords.are_right(None if user is None else user.password, password)
        except Busy as error:
            for throttle, key in paces:
                throttle.give_back(key)
            raise self._busy() from error
        # While that took its time, it may have been changed.
        if not right or user is None or user.disabled or self._store.user(name) != user:
            raise await self._wrong(user, where)
        for throttle, key in paces:
            if throttle is self._addresses:
                throttle.give_back(key)
            else:
                throttle.clear(key)
        return user

    def _paces(self, name: str, user: UserRecord | None, where: From) -> Sequence[tuple[Throttle, Hashable]]:
        if user is not None and where.device is not None:
            return [(self._devices, (name, where.device))]
        # With a new password, the guesses at the old one are of no interest any more.
        account = (self._strangers, name) if user is None else (self._accounts, (name, user.changed))
        return [account, (self._addresses, network_of(where.address))]

    async def _wrong(self, user: UserRecord | None, where: From) -> Problem:
        # A name that nobody has is not written down: it may be a password in the wrong field.
        known = None if user is None else user.name
        await self._audit.note(None, "session.refused", known, where.address)
        self._count("wrong")
        _log.warning("a log-in was refused", address=str(where.address))
        return Problem(401, "name or password is wrong", kind="wrong-login")

    async def hash(self, password: str) -> str:
        """What is kept of a password. Raises `Problem` 503 if too many wait."""
        try:
            return await self._passwords.kept_of(password)
        except Busy as error:
            raise self._busy() from error

    def _busy(self) -> Problem:
        self._count("busy")
        return Problem(
            503, "too many log in at once; try again in a moment", kind="busy", headers={"Retry-After": "3"}
        )
