"""Who a number was before: whom people spoke with, and whom agents chose of several, as the log has it."""

from collections.abc import Sequence
from typing import Protocol

from cti.identify.policy import Key
from cti.logs import get_logger
from cti.store.base import StoreError
from cti.store.records import ChoiceRecord, Json

log = get_logger("cti.calls.remembered")


class IRemembers(Protocol):
    """What is needed of a store."""

    def spoken_with(self, number: str) -> Sequence[Json]: ...
    def chosen_for(self, number: str) -> Sequence[ChoiceRecord]: ...


class Remembered:
    """Asked only where several parties have one number; without a store, nobody is remembered."""

    def __init__(self, store: IRemembers | None) -> None:
        self._store = store

    def spoken(self, number: str) -> Sequence[Key]:
        """Who was spoken with from or to this number, the last one first."""
        try:
            parties = () if self._store is None else self._store.spoken_with(number)
        except StoreError as error:
            log.error("who was spoken with last is not known", why=str(error))
            return ()
        return [(str(each.get("adapter")), str(each.get("type")), str(each.get("id"))) for each in parties]

    def chosen(self, number: str) -> Sequence[Key]:
        """Whom agents said that this number was, the last one first."""
        try:
            choices = () if self._store is None else self._store.chosen_for(number)
        except StoreError as error:
            log.error("whom agents chose is not known", why=str(error))
            return ()
        return [(each.adapter, each.type, each.id) for each in choices]
