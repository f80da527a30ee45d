"""Users, sessions and the audit in memory, and log-ins that cost no time to hash."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from argon2 import PasswordHasher
from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed

from cti.store.base import StoreError
from cti.store.records import AuditRecord, SessionRecord, StoredEvent, UserRecord

T = TypeVar("T")

PASSWORD = "correct horse battery"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def at_once(work: Callable[[], T]) -> "Deferred[T]":
    return succeed(work())


def a_user(name: str = "anna", role: str = "agent", **changes: Any) -> UserRecord:
    agent = name if role == "agent" else None
    return evolve(UserRecord(name, role, QUICK.hash(PASSWORD), 1.0, 1.0, agent), **changes)


class FakeUnit:
    """Remembers what is to be done, in order."""

    def __init__(self, store: "FakeDoors") -> None:
        self._store = store
        self.done: list[Callable[[], object]] = []

    def put_user(self, user: UserRecord) -> None:
        self.done.append(lambda: self._store.kept_users.__setitem__(user.name, user))

    def remove_user(self, name: str) -> None:
        self.done.append(lambda: self._store.kept_users.pop(name, None))

    def put_session(self, session: SessionRecord) -> None:
        self.done.append(lambda: self._store.kept_sessions.__setitem__(session.digest, session))

    def touch_session(self, digest: str, used: float) -> None:
        kept = self._store.kept_sessions
        self.done.append(lambda: digest in kept and kept.update({digest: evolve(kept[digest], used=used)}))

    def end_session(self, digest: str) -> None:
        self.done.append(lambda: self._store.kept_sessions.pop(digest, None))

    def end_sessions(self, user: str) -> None:
        self.done.append(lambda: self._store.drop(lambda session: session.user == user))

    def forget_sessions(self, expired: float, idle_since: float) -> None:
        self.done.append(lambda: self._store.drop(lambda s: s.expires < expired or s.used < idle_since))

    def put_key(self, name: str, value: str) -> None:
        self.done.append(lambda: self._store.keys.setdefault(name, value))

    def add_audit(self, entry: AuditRecord) -> None:
        self.done.append(lambda: self._store.written.append(entry))


class FakeDoors:
    """The part of a store that the doors need."""

    def __init__(self) -> None:
        self.kept_users: dict[str, UserRecord] = {}
        self.kept_sessions: dict[str, SessionRecord] = {}
        self.keys: dict[str, str] = {}
        self.written: list[AuditRecord] = []
        self.broken = False

    def add(self, *users: UserRecord) -> None:
        self.kept_users.update({user.name: user for user in users})

    def users(self) -> Sequence[UserRecord]:
        return [self.kept_users[name] for name in sorted(self.kept_users)]

    def user(self, name: str) -> UserRecord | None:
        return self.kept_users.get(name)

    def session(self, digest: str) -> tuple[SessionRecord, UserRecord] | None:
        session = self.kept_sessions.get(digest)
        user = None if session is None else self.kept_users.get(session.user)
        return None if session is None or user is None else (session, user)

    def key(self, name: str) -> str | None:
        return self.keys.get(name)

    def audit(
        self, who: str | None, object: str | None, limit: int, before: int | None
    ) -> "Deferred[tuple[Sequence[tuple[int, AuditRecord]], int | None]]":
        found = [
            (id, entry)
            for id, entry in enumerate(self.written, start=1)
            if who in (None, entry.who) and object in (None, entry.object) and (before is None or id < before)
        ][::-1]
        return succeed((found[:limit], found[limit - 1][0] if len(found) > limit else None))

    def unit(self) -> Any:
        return FakeUnit(self)

    def commit(self, unit: Any, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]":
        if self.broken:
            return fail(StoreError("the disk is full"))
        for each in unit.done:
            each()
        return succeed([])

    def drop(self, which: Callable[[SessionRecord], bool]) -> None:
        for session in tuple(self.kept_sessions.values()):
            if which(session):
                del self.kept_sessions[session.digest]
