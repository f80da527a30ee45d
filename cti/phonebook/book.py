"""The phone index as a book that a phone looks into: names, numbers as the phone dials them, and searching.

Reads the index and nothing else; how a phone asks is left to ``ldap_server`` and ``http``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from attrs import frozen
from twisted.internet.task import deferLater

from adapters.base import Party
from cti.index.file import Person, sort_key
from cti.numbers import Number, NumberKind, NumberPlan, as_dialled, is_mobile

#: People that are read at once: some milliseconds, between which calls are answered.
_PAGE: Final = 100
#: People that one search looks at. Names that begin so are found without; this is for what stands within them.
SCANNED: Final = 20_000
#: Fewest digits that are looked for as a whole number.
_WHOLE: Final = 5

_WORD: Final = re.compile(r"\w+")

#: Where to go on: for each adapter, the last name that was read and its key.
Place = Mapping[str, tuple[str, int]]


class Index(Protocol):
    """What of the phone index is asked here."""

    def lookup(self, number: Number, adapter: str | None = None) -> Sequence[Party]: ...

    def people(
        self, prefix: str = "", after: Place | None = None, limit: int = 100
    ) -> list[tuple[str, Person]]: ...


@frozen
class ContactNumber:
    """A number: what the phone dials, what people read, and its key."""

    dial: str
    shown: str
    e164: str
    mobile: bool


@frozen
class Contact:
    """Somebody in the book. ``key``: which party of which adapter it is."""

    key: tuple[str, str, str]
    name: str
    company: str
    numbers: tuple[ContactNumber, ...]

    @property
    def title(self) -> str:
        """The one line that a phone shows: who has the same name is told apart by the company."""
        return f"{self.name} ({self.company})" if self.company and self.company != self.name else self.name

    @property
    def words(self) -> Sequence[str]:
        """The words of the name, as one looks them up."""
        return _WORD.findall(sort_key(self.name))


class PhoneBook:
    """The book. ``prefix``: what phones dial first for an outside line; ``adapters``: whose people are in it."""

    def __init__(
        self,
        index: Index,
        plan: NumberPlan,
        reactor: Any,
        prefix: str = "",
        adapters: Collection[str] | None = None,
    ) -> None:
        self._index = index
        self._plan = plan
        self._reactor = reactor
        self._prefix = prefix
        self._adapters = None if adapters is None else frozenset(adapters)

    def page(
        self, after: Place | None, limit: int, prefix: str = ""
    ) -> tuple[Sequence[Contact], Place | None]:
        """Whose names begin so, in their order; and where the next page begins, if there is one."""
        people = self._index.people(prefix, after, limit)
        contacts = [
            self._contact(person)
            for adapter, person in people
            if self._adapters is None or adapter in self._adapters
        ]
        place = dict(after or {})
        for adapter, person in people:
            place[adapter] = person.place
        return contacts, place if len(people) == limit else None

    def by_number(self, text: str) -> Sequence[Contact]:
        """Who has the number, as a phone shows or dials it."""
        found: dict[tuple[str, str, str], Contact] = {}
        for written in dict.fromkeys((text, text.removeprefix(self._prefix))):
            number = self._plan.parse(written)
            if number.kind is not NumberKind.E164 or number.e164 is None:
                continue
            for party in self._index.lookup(number):
                if self._adapters is None or party.adapter in self._adapters:
                    contact = self._of(party, (self._number(number.e164),))
                    found.setdefault(contact.key, contact)
        return list(found.values())

    async def search(
        self,
        fits: Callable[[Contact], bool],
        limit: int,
        *,
        prefixes: Collection[str] = (),
        numbers: Collection[str] = (),
    ) -> Sequence[Contact]:
        """Who fits, at most ``limit``. ``prefixes`` and ``numbers`` are what is asked for, if anything that the
        index finds by itself: who has such a number is all of the answer, and who begins so is its beginning.
        """
        found: dict[tuple[str, str, str], Contact] = {}
        for number in numbers:
            if sum(each.isdecimal() for each in number) >= _WHOLE:
                found |= {each.key: each for each in self.by_number(number)}
        if found:
            return list(found.values())[:limit]
        for prefix in prefixes:
            await self._read(fits, limit, prefix, found)
        await self._read(fits, limit, "", found)
        return list(found.values())

    async def _read(
        self,
        fits: Callable[[Contact], bool],
        limit: int,
        prefix: str,
        found: dict[tuple[str, str, str], Contact],
    ) -> None:
        after: Place | None = None
        for _ in range(SCANNED // _PAGE):
            if len(found) >= limit:
                return
            contacts, after = self.page(after, _PAGE, prefix)
            for contact in contacts:
                if len(found) < limit and fits(contact):
                    found.setdefault(contact.key, contact)
            if after is None:
                return
            # Others have their turn.
            await deferLater(self._reactor, 0)

    def _contact(self, person: Person) -> Contact:
        return self._of(person.party, tuple(self._number(each.e164) for each in person.numbers))

    def _of(self, party: Party, numbers: tuple[ContactNumber, ...]) -> Contact:
        name = party.name or party.company or "?"
        return Contact((party.adapter, party.type.value, party.id), name, party.company, numbers)

    def _number(self, e164: str) -> ContactNumber:
        return ContactNumber(
            dial=self._prefix + as_dialled(e164, self._plan.region),
            shown=self._plan.display(e164) or e164,
            e164=e164,
            mobile=is_mobile(e164),
        )


def has_word(contact: Contact, text: str) -> bool:
    """Whether each word of ``text`` begins a word of the name or of the company."""
    having = [*contact.words, *_WORD.findall(sort_key(contact.company))]
    return all(any(word.startswith(each) for word in having) for each in _WORD.findall(sort_key(text)))


def has_digits(contact: Contact, digits: str) -> bool:
    """Whether a number, in any form that a phone may have it in, begins so."""
    return any(form.startswith(digits) for number in contact.numbers for form in forms(number))


def forms(number: ContactNumber) -> Sequence[str]:
    """The digits of a number as dialled, and as it is abroad, with and without its plus."""
    return number.dial, number.e164, number.e164[1:]
