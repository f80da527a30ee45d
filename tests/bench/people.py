"""A million invented people in an embedded directory, made once and kept in the cache."""

import os
from collections.abc import Iterator
from pathlib import Path

from adapters.base import Party
from adapters.directory_file import Directory, Entry, PartyNumber

MILLION = 1_000_000
AGENTS = 20

_LANGUAGES = ("de", "en", "ru", "de", "de")


def number_of(person: int) -> str:
    """Nobody's: behind 010 Germany has no subscribers, and there are not enough numbers reserved for fiction."""
    return f"+4910{person:07d}"


def directory_of(people: int, cache: Path) -> Path:
    """The file of a directory of so many people, every fifth of whom is looked after by an agent."""
    path = cache / f"bench-directory-{people}.db"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = cache / f"{path.name}.{os.getpid()}"
        directory = Directory(making, "directory")
        directory.open()
        try:
            directory.bulk_load(_entries(people))
        finally:
            directory.close()
        making.rename(path)
    return path


def _entries(people: int) -> Iterator[Entry]:
    for person in range(people):
        number = number_of(person)
        yield Entry(
            Party(
                adapter="directory",
                type="contact",
                id=str(person),
                name=f"Customer {person}",
                company=f"Company {person // 3}",
                owner=f"user-{person % AGENTS}" if person % 5 == 0 else None,
                tier="gold" if person % 7 == 0 else None,
                language=_LANGUAGES[person % len(_LANGUAGES)],
            ),
            (PartyNumber(number, number),),
        )
