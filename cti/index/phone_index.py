"""The phone index: who has a number, of everybody whom the CRMs list, without asking a CRM.

Reads what ``file`` keeps, one part an adapter; ``feed`` fills it. A part that cannot be read counts as not there.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import frozen

from adapters.base import Party
from cti.index.file import IndexDamaged, IndexFailed, IndexFile, Person, remove
from cti.logs import get_logger
from cti.numbers import Number, NumberKind, NumberPlan

log = get_logger("cti.index")

#: People of one page of the book.
PAGE_LIMIT: Final = 1000

_UNFINISHED_SECONDS: Final = 6 * 3600.0

#: Where to go on reading the book: for each adapter, the last name that was read and its key.
Place = Mapping[str, tuple[str, int]]


@frozen
class PartStatus:
    """What is known of one adapter's part. `age`: seconds since it was last in step with the CRM."""

    adapter: str
    parties: int
    numbers: int
    bytes: int
    age: float


class PhoneIndex:
    """All parts of the index. For the reactor's thread."""

    def __init__(
        self, directory: Path, plan: NumberPlan, own: frozenset[str], now: Callable[[], float]
    ) -> None:
        self.directory = directory
        self.plan = plan
        self.own = own
        self._now = now
        self._parts: dict[str, IndexFile] = {}
        self._tell: Callable[[str], None] = lambda _: None

    def on_dropped(self, tell: Callable[[str], None]) -> None:
        """Told whose part turned out to be damaged while it was looked into."""
        self._tell = tell

    @property
    def reading(self) -> str:
        """How the numbers in it were read: by another plan it is made anew."""
        return f"{self.plan.region} {self.plan.internal_digits}"

    def lookup(self, number: Number, adapter: str | None = None) -> Sequence[Party]:
        """Who has this number, and, if nobody, whose switchboard it belongs to; of one adapter, or of all.

        Some tens of microseconds. Our own numbers are nobody's.
        """
        if number.kind is not NumberKind.E164 or number.e164 is None or number.e164 in self.own:
            return ()
        found: list[Party] = []
        for name in [*self._parts] if adapter is None else [adapter]:
            part = self._parts.get(name)
            if part is None:
                continue
            try:
                found += part.find(number.e164) or part.find_by_stem(number.e164, self.own)
            except IndexFailed as error:
                self.drop(name, error)
        return found

    def covers(self, adapter: str) -> bool:
        """Whether everybody whom the adapter lists is in the index: whom it does not find, the CRM did not have."""
        return adapter in self._parts

    def part(self, adapter: str) -> IndexFile | None:
        return self._parts.get(adapter)

    def age(self, adapter: str) -> float | None:
        """Seconds since the adapter's part was last in step with the CRM; None if there is none."""
        part = self._parts.get(adapter)
        return None if part is None else max(0.0, self._now() - float(part.about["changed"]))

    def people(
        self, prefix: str = "", after: Place | None = None, limit: int = 100
    ) -> list[tuple[str, Person]]:
        """The index as a book: who has a number, and a name that begins so, by name; each with their adapter."""
        limit = min(limit, PAGE_LIMIT)
        pages = []
        for name in list(self._parts):
            try:
                page = self._parts[name].people(prefix, (after or {}).get(name), limit)
            except IndexFailed as error:
                self.drop(name, error)
            else:
                pages.append([(person.place, name, person) for person in page])
        merged = heapq.merge(*pages, key=lambda each: (each[0][0], each[1], each[0][1]))
        return [(name, person) for _, name, person in merged][:limit]

    def matching(
        self, adapter: str, name: str, digits: str, after: tuple[str, int] | None, span: int
    ) -> tuple[list[Person], tuple[str, int] | None]:
        """Of an adapter's next `span` people, who has `name` in theirs and `digits` in a number; where to go on."""
        part = self._parts.get(adapter)
        if part is None:
            return [], None
        try:
            return part.matching(name, digits, after, span)
        except IndexFailed as error:
            self.drop(adapter, error)
            return [], None

    @property
    def adapters(self) -> Sequence[str]:
        """Whose parties are in it."""
        return list(self._parts)

    def status(self) -> list[PartStatus]:
        return [
            PartStatus(
                name,
                int(part.about["parties"]),
                int(part.about["numbers"]),
                part.path.stat().st_size if part.path.exists() else 0,
                self.age(name) or 0.0,
            )
            for name, part in self._parts.items()
        ]

    # Files.

    def path(self, adapter: str, moment: float) -> Path:
        """Where a part goes that is made now; a later one has a greater name."""
        return self.directory / f"{adapter}.{int(moment * 1000):014d}.db"

    def open(self, adapter: str) -> IndexFile | None:
        """Use the newest whole part that there is of this adapter, and take all others away. Blocks for a moment."""
        current = self._parts.get(adapter)
        if self.directory.is_dir():
            for path in sorted(self._files(adapter), reverse=True):
                if current is not None and path == current.path:
                    break
                try:
                    newer = IndexFile(path, adapter)
                except IndexDamaged as error:
                    log.warning("a part of the phone index is thrown away", adapter=adapter, why=str(error))
                    remove(path)
                    continue
                except IndexFailed as error:
                    log.warning("a part of the phone index cannot be used", adapter=adapter, why=str(error))
                    continue
                if newer.about.get("reading") != self.reading:
                    log.info(
                        "the phone index is made anew: numbers are read another way now", adapter=adapter
                    )
                    newer.close()
                    remove(path)
                    continue
                self._parts[adapter] = newer
                if current is not None:
                    current.close()
                break
        part = self._parts.get(adapter)
        for path in self._files(adapter):
            if part is not None and path < part.path:
                remove(path)
        if current is None:
            self._remove_unfinished(adapter)
        return part

    def close(self) -> None:
        for part in self._parts.values():
            part.close()
        self._parts.clear()

    def forget(self, adapter: str) -> None:
        """The adapter is not listed any more; what was read stays for when it is."""
        part = self._parts.pop(adapter, None)
        if part is not None:
            part.close()

    def _remove_unfinished(self, adapter: str) -> None:
        """What a server left that died in the midst; not what a command may be making at this moment."""
        for path in self.directory.glob(f"{adapter}.*.building"):
            with suppress(OSError):
                if self._now() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                    remove(path)

    def _files(self, adapter: str) -> list[Path]:
        return [path for path in self.directory.glob("*.db") if path.name.rsplit(".", 2)[0] == adapter]

    def drop(self, adapter: str, error: IndexFailed) -> None:
        """This part cannot be used: throw it away, and have it made anew."""
        part = self._parts.pop(adapter, None)
        if part is None:
            return
        log.error("a part of the phone index is thrown away and made anew", adapter=adapter, why=str(error))
        part.close()
        remove(part.path)
        self._tell(adapter)
