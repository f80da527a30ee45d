"""What somebody looked at or changed, written down. Which routes are is said in the route table."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from cti.reactors import Clock
from cti.store.base import Unit
from cti.store.records import AuditRecord, StoredEvent
from cti.web.tokens import Address, Identity


class IAuditStore(Protocol):
    """What is needed of a store."""

    def unit(self) -> Unit: ...
    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]": ...


class Audit:
    """Adds to what was written down."""

    def __init__(self, store: IAuditStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def add(
        self,
        unit: Unit,
        who: Identity | None,
        action: str,
        object: str | None,
        address: Address | None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Write it down together with what else is in `unit`."""
        kind = "user" if who is None or who.user else "token"
        name, at = None if who is None else who.name, self._clock.seconds()
        where = None if address is None else str(address)
        unit.add_audit(AuditRecord(at, name, kind, action, object, detail or None, where))

    async def note(
        self,
        who: Identity | None,
        action: str,
        object: str | None,
        address: Address | None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Write it down; it is durable when this returns. Raises `StoreError`."""
        unit = self._store.unit()
        self.add(unit, who, action, object, address, detail)
        await self._store.commit(unit)
