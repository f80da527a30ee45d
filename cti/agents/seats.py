"""Whose phone is whose: agents' own, and those of desks, at each of which one agent may sit."""

from collections.abc import Sequence

from cti.agents.desks import Desks
from cti.agents.states import Wish
from cti.store.records import AgentRecord


class Seats:
    """The phones of the agents that were added.

    Where an agent sits stands in their record: `phone`, which this keeps in line with the desks. Who sits nowhere is
    rung at all phones of their own.

    @ivar desks: the phones at which anybody may sit.
    """

    def __init__(self) -> None:
        self.desks = Desks()
        self._owners: dict[str, str] = {}
        self._sitters: dict[str, str] = {}

    def at(self, phone: str) -> str | None:
        """The agent whose phone this is, or who sits at it."""
        return self._owners.get(phone) or self._sitters.get(phone)

    def is_desk(self, phone: str) -> bool:
        """Whether anybody may sit there; what is somebody's own phone is no desk, whatever its name."""
        return phone in self.desks and phone not in self._owners

    def add(self, record: AgentRecord) -> None:
        """An agent sits where their record says, unless that is no free desk, or they are not there."""
        for phone in record.phones:
            self._owners[phone] = record.id
        if record.phone is None or record.phone in record.phones:
            return
        if self.is_desk(record.phone) and record.wish != Wish.LOGGED_OUT:
            self._sitters.setdefault(record.phone, record.id)
        if not self._sits(record):
            record.phone = None

    def remove(self, record: AgentRecord) -> None:
        for phone in record.phones:
            if self._owners.get(phone) == record.id:
                del self._owners[phone]
        self._stand_up(record)

    def sit(self, record: AgentRecord, phone: str | None) -> None:
        """From now on at this phone of their own, or of a free desk; None: nowhere."""
        self._stand_up(record)
        record.phone = phone
        if phone is not None and phone not in record.phones:
            self._sitters[phone] = record.id

    def leave(self, record: AgentRecord) -> None:
        """Give up the desk, if they sit at one."""
        if self._sits(record):
            self.sit(record, None)

    def without_desk(self) -> list[str]:
        """The agents who sit where there is no desk any more."""
        return [id for phone, id in self._sitters.items() if not self.is_desk(phone)]

    def chosen(self, record: AgentRecord) -> str | None:
        """The phone at which they sit, unless it is theirs no more."""
        return record.phone if record.phone in record.phones or self._sits(record) else None

    def rung(self, record: AgentRecord) -> Sequence[str]:
        """The phones that ring for an agent."""
        chosen = self.chosen(record)
        return record.phones if chosen is None else (chosen,)

    def all_of(self, record: AgentRecord) -> Sequence[str]:
        """Their own, and the one at which they sit: where any of them has a call, its agent has it."""
        return record.phones if not self._sits(record) else (*record.phones, *self.rung(record))

    def _sits(self, record: AgentRecord) -> bool:
        return self._sitters.get(record.phone or "") == record.id

    def _stand_up(self, record: AgentRecord) -> None:
        if self._sits(record):
            del self._sitters[record.phone or ""]
