"""The store as clean-up reads it: page by page, so that neither calls nor a server beside it wait."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Protocol, TypeVar

from twisted.internet.defer import Deferred

from cti.store.base import Unit
from cti.store.personal import Listing
from cti.store.queries import Reader
from cti.store.records import ErasureRecord, StoredEvent
from cti.store.rows import Row

T = TypeVar("T")

#: Rows that are read at once, and changed in one transaction: some milliseconds, so that no call waits for more.
PAGE: Final = 200


class IKept(Protocol):
    """What is needed of a store."""

    def unit(self) -> Unit: ...
    def commit(self, unit: Unit, *, at_leisure: bool = False) -> "Deferred[Sequence[StoredEvent]]": ...
    def read(self, question: Callable[[Reader], T]) -> "Deferred[T]": ...


class IErasures(IKept, Protocol):
    """... and of one of a server."""

    def erasures(self) -> Sequence[ErasureRecord]: ...


async def pages(store: IKept, listing: Listing, after: Row | None = None) -> AsyncIterator[Sequence[Row]]:
    """All rows of a table in the order of its key, also those that come while it is read."""
    while True:
        page = await store.read(lambda reader: reader.page_of(listing, after, PAGE))  # noqa: B023 - read at once
        if page:
            yield page
            after = page[-1][: len(listing.key)]
        if len(page) < PAGE:
            return
