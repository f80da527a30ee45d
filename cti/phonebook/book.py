"""The phone index as a book that a phone looks into: names, numbers as the phone dials them, and searching.

Reads the index and nothing else; how a phone asks is left to ``ldap_server`` and ``http``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

from attrs import field, frozen
from twisted.internet.task import deferLater

from adapters.base import Party
from cti.index.file import Person, sort_key
from cti.numbers import Number, NumberKind, NumberPlan, as_dialled, is_mobile

#: People that are read at once: some milliseconds, between which calls are answered.
_PAGE: Final = 50
#: ... and that the index itself looks at.
_SPAN: Final = 4000
#: People that one search takes a look at; what the index sorts out does not count.
SCANNED: Final = 20_000
#: Numbers whose written form is kept: each costs some tens of microseconds.
_NUMBERS: Final = 50_000
#: Two numbers of which at least one is foreign anywhere.
_FOREIGN: Final = ("+442079460123", "+493023125111")
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

    def matching(
        self, adapter: str, name: str, digits: str, after: tuple[str, int] | None, span: int
    ) -> tuple[list[Person], tuple[str, int] | None]: ...

    @property
    def adapters(self) -> Sequence[str]: ...


@frozen
class ContactNumber:
    """A number: what the phone dials, and its key."""

    dial: str
    e164: str

    @property
    def mobile(self) -> bool:
        return is_mobile(self.e164)


@frozen
class Contact:
    """Somebody in the book. ``key``: which party of which adapter it is; ``e164s``: their numbers."""

    key: tuple[str, str, str]
    name: str
    company: str
    e164s: tuple[str, ...]
    _written: Callable[[str], ContactNumber] = field(eq=False, repr=False)

    @property
    def numbers(self) -> tuple[ContactNumber, ...]:
        """Made when they are wanted: of most who are looked at, only the name is."""
        return tuple(map(self._written, self.e164s))

    @property
    def title(self) -> str:
        """The one line that a phone shows: who has the same name is told apart by the company."""
        return f"{self.name} ({self.company})" if self.company and self.company != self.name else self.name

    @property
    def words(self) -> Sequence[str]:
        """The words of the name, as one looks them up."""
        return words_of(self.name)


@frozen
class Hint:
    """What the index finds by itself of a search.

    ``prefixes``: names that begin so come first; ``numbers``: a whole number; ``within``, ``digits``: what stands in
    the name, and in a number, of everybody who fits.
    """

    prefixes: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    within: str = ""
    digits: str = ""


#: Nothing: everybody has to be looked at.
NO_HINT: Final = Hint()


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
        # What is dialled before a foreign number: 00, 011 or the like.
        (self._abroad,) = {
            dialled.removesuffix(foreign[1:])
            for foreign in _FOREIGN
            if (dialled := as_dialled(foreign, plan.region)).endswith(foreign[1:])
        } - {""}
        self._number = lru_cache(_NUMBERS)(self._write_number)
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
                    contact = self._of(party, (number.e164,))
                    found.setdefault(contact.key, contact)
        return list(found.values())

    async def search(
        self, fits: Callable[[Contact], bool], limit: int, *, hint: Hint = NO_HINT
    ) -> Sequence[Contact]:
        """Who fits, at most ``limit``: who has one of the hint's numbers is all of the answer, else in the order of
        names, but for those whose whole name begins with one of its prefixes: they come first.
        """
        found: dict[tuple[str, str, str], Contact] = {}
        for number in hint.numbers:
            if sum(each.isdecimal() for each in number) >= _WHOLE:
                found |= {each.key: each for each in self.by_number(number)}
        if found:
            return list(found.values())[:limit]
        for prefix in hint.prefixes:
            first, _ = self.page(None, _PAGE, prefix)
            found |= {each.key: each for each in first if fits(each)}
        for adapter in self._index.adapters:
            if self._adapters is None or adapter in self._adapters:
                await self._scan(adapter, fits, limit, hint, found)
        return list(found.values())[:limit]

    async def _scan(
        self,
        adapter: str,
        fits: Callable[[Contact], bool],
        limit: int,
        hint: Hint,
        found: dict[tuple[str, str, str], Contact],
    ) -> None:
        # Where the index cannot sort out by itself, each of them costs a hundred times as much.
        narrow = bool(hint.within or hint.digits)
        span, looked_at, digits = _SPAN if narrow else _PAGE, 0, self._within(hint.digits)
        after: tuple[str, int] | None = None
        while len(found) < limit and looked_at < SCANNED:
            people, after = self._index.matching(adapter, hint.within, digits, after, span)
            looked_at += len(people)
            for person in people:
                contact = self._contact(person)
                if len(found) < limit and fits(contact):
                    found.setdefault(contact.key, contact)
            if after is None:
                return
            # Others have their turn.
            await deferLater(self._reactor, 0)

    def _within(self, text: str) -> str:
        """Digits that are in each number with ``text``, whatever the form: without what a phone dials before them."""
        digits = "".join(
            each for each in text.removeprefix(self._prefix) if each.isdecimal() and each.isascii()
        )
        if digits.startswith(self._abroad):
            return digits.removeprefix(self._abroad)
        return digits[1:].lstrip("0")

    def _contact(self, person: Person) -> Contact:
        return self._of(person.party, tuple(each.e164 for each in person.numbers))

    def _of(self, party: Party, e164s: tuple[str, ...]) -> Contact:
        name = party.name or party.company or "?"
        return Contact((party.adapter, party.type.value, party.id), name, party.company, e164s, self._number)

    def _write_number(self, e164: str) -> ContactNumber:
        return ContactNumber(self._prefix + as_dialled(e164, self._plan.region), e164)


def has_word(contact: Contact, text: str) -> bool:
    """Whether each word of ``text`` begins a word of the name."""
    return all(any(word.startswith(each) for word in contact.words) for each in words_of(text))


def words_of(text: str) -> Sequence[str]:
    """The words that one looks for."""
    return _WORD.findall(sort_key(text))


def has_digits(contact: Contact, digits: str) -> bool:
    """Whether a number, in any form that a phone may have it in, begins so."""
    return any(form.startswith(digits) for number in contact.numbers for form in forms(number))


def forms(number: ContactNumber) -> Sequence[str]:
    """The digits of a number as dialled, and as it is abroad, with and without its plus."""
    return number.dial, number.e164, number.e164[1:]
