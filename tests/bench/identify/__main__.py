"""The phone index of ten million numbers: what it takes to make, how fast it answers, and beside it what others do.

    python -m tests.bench.identify [--numbers N] [--seconds S] [--read N] [--scanned N] [--without-odoo]

Everything in one process, as in the server: lookups inline in the main thread, lists read in a second one. Side by
side: the same question as `LIKE '%…'` over a column of numbers as typed, as connectors ask it, in SQLite and in
PostgreSQL, and a real Odoo of a thousand partners over HTTP. The numbers are made up, and nobody is called.
"""

import argparse
import gc
import os
import random
import resource
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import psycopg
from attrs import evolve

from adapters.base import ListedNumber, ListedParty, Party
from cti.index.file import IndexBuilder, IndexedNumber, Row
from cti.index.phone_index import PhoneIndex
from cti.numbers import Number, NumberKind, NumberPlan
from lab.crm.odoo import Odoo
from lab.crm.postgresql import Postgres
from lab.tree import cache_directory

PLAN: Final = NumberPlan("DE")
_PAGE: Final = 1000
_FIRST: Final = 200_000_000
#: As people write the same number into a CRM.
_FORMS: Final[tuple[Callable[[str], str], ...]] = (
    lambda digits: f"+4932{digits}",
    lambda digits: f"+49 (32) {digits[:3]} {digits[3:]}",
    lambda digits: f"032/{digits}",
    lambda digits: f"0049 32 {digits[:5]}-{digits[5:]}",
)


def digits_of(place: int) -> str:
    """The number at this place of the list: all different, in no order."""
    return str(_FIRST + place * 7_368_787 % 799_999_999)


def key_of(place: int) -> str:
    return f"+4932{digits_of(place)}"


def raw_of(place: int) -> str:
    return _FORMS[place % len(_FORMS)](digits_of(place))


def pages(count: int) -> Iterator[list[ListedParty]]:
    """As an adapter lists them; every fourth party has two numbers."""
    place = number = 0
    while number < count:
        page = []
        while len(page) < _PAGE and number < count:
            numbers = [ListedNumber(raw_of(number))]
            number += 1
            if place % 4 == 3 and number < count:
                numbers.append(ListedNumber(raw_of(number)))
                number += 1
            party = Party(
                "crm", "contact", str(place), f"Person {place}", f"Company {place // 9}", owner="u7"
            )
            page.append(ListedParty(party, tuple(numbers)))
            place += 1
        yield page


def build(index: PhoneIndex, count: int, moment: float, read: int | None = None) -> dict[str, float]:
    """Seconds to make the index of so many numbers: to read them, to write, to sort and make durable.

    Only the first `read` are read from what stands in the CRM, as the rest would take as long each.
    """
    spent = {"reading numbers": 0.0, "writing": 0.0, "sorting": 0.0}
    builder = IndexBuilder(index.path("crm", moment))
    done = 0
    for page in pages(count):
        began = time.perf_counter()
        if read is None or done < read:
            rows = [Row.of(listed, PLAN) for listed in page]
            spent["reading numbers"] += time.perf_counter() - began
            done += sum(len(row.numbers) for row in rows)
        else:
            rows = [known(listed) for listed in page]
        began = time.perf_counter()
        builder.add(rows)
        spent["writing"] += time.perf_counter() - began
    began = time.perf_counter()
    builder.finish({"reading": index.reading, "listed": "1", "changed": "1"})
    spent["sorting"] = time.perf_counter() - began
    return spent


def known(listed: ListedParty) -> Row:
    """The row of a party whose numbers need not be read."""
    bare = Row.of(ListedParty(listed.party), PLAN)
    keys = (
        IndexedNumber(each.raw, "+4932" + "".join(filter(str.isdigit, each.raw))[-9:])
        for each in listed.numbers
    )
    return evolve(bare, numbers=tuple(keys))


def asked(count: int, hits: bool, dice: random.Random) -> Number:
    place = dice.randrange(count) if hits else count + dice.randrange(count)
    key = key_of(place)
    return Number(key, NumberKind.E164, key)


def lookups(index: PhoneIndex, count: int, seconds: float, hits: bool) -> tuple[float, float, float]:
    """Lookups a second of the main thread, p50 and p99 in microseconds."""
    dice = random.Random(7)
    took: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        numbers = [asked(count, hits, dice) for _ in range(200)]
        for number in numbers:
            began = time.perf_counter()
            found = index.lookup(number, "crm")
            took.append(time.perf_counter() - began)
            assert bool(found) is hits
    took.sort()
    return len(took) / sum(took), took[len(took) // 2] * 1e6, took[len(took) * 99 // 100] * 1e6


def shown(name: str, figures: tuple[float, float, float]) -> None:
    rate, p50, p99 = figures
    print(f"  {name:44} {rate:>10,.0f} /s   p50 {p50:>9,.0f} us   p99 {p99:>9,.0f} us", flush=True)


def timed(question: Callable[[int], Any], places: list[int]) -> tuple[float, float, float]:
    took = []
    for place in places:
        began = time.perf_counter()
        question(place)
        took.append(time.perf_counter() - began)
    took.sort()
    return len(took) / sum(took), median(took) * 1e6, took[len(took) * 99 // 100] * 1e6


def scanned_in_sqlite(directory: Path, count: int, places: list[int]) -> None:
    with sqlite3.connect(directory / "typed.db") as connection:
        connection.execute("CREATE TABLE contact (id INTEGER PRIMARY KEY, phone TEXT)")
        connection.executemany("INSERT INTO contact (phone) VALUES (?)", ((raw_of(n),) for n in range(count)))
        connection.commit()
        statement = "SELECT id, phone FROM contact WHERE phone LIKE ?"
        shown(
            "SQLite, LIKE '%last digits'",
            timed(lambda n: found(connection.execute(statement, (ends(n),))), places),
        )


def scanned_in_postgresql(directory: Path, count: int, places: list[int]) -> None:
    with (
        Postgres(directory / "postgresql") as server,
        psycopg.connect(host=str(server.socket), user="postgres", dbname="postgres") as connection,
    ):
        connection.execute("CREATE TABLE contact (id serial PRIMARY KEY, phone text)")
        with connection.cursor().copy("COPY contact (phone) FROM STDIN") as copy:
            for number in range(count):
                copy.write_row((raw_of(number),))
        connection.execute("ANALYZE contact")
        statement = "SELECT id, phone FROM contact WHERE phone LIKE %s"
        shown(
            "PostgreSQL, LIKE '%last digits'",
            timed(lambda n: found(connection.execute(statement, (ends(n),))), places),
        )


def ends(place: int) -> str:
    """What a connector looks for: the digits that all ways to write it share at the end."""
    return f"%{digits_of(place)[-4:]}"


def found(rows: Any) -> int:
    return len(rows.fetchall())


def memory() -> float:
    """Megabytes of this process that are its own, without what it has mapped of files."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))


def measured(arguments: argparse.Namespace, directory: Path) -> None:
    count = arguments.numbers
    index = PhoneIndex(directory / "index", PLAN, frozenset(), time.time)
    before = memory()
    read = min(count, arguments.read)
    spent = build(index, count, 1.0, read)
    part = index.open("crm")
    assert part is not None
    print(f"{count:,} numbers of {int(part.about['parties']):,} parties")
    rate = read / spent["reading numbers"]
    print(
        f"  made by reading {rate:,.0f} numbers/s ({count / rate:,.0f} s for all, from the first {read:,}),"
    )
    print(f"  writing {spent['writing']:,.0f} s and sorting {spent['sorting']:,.0f} s")
    print(f"  file {part.path.stat().st_size / 1e6:,.0f} MB", end="")
    shown_memory = memory() - before
    gc.collect()
    for hits in (True, False):
        lookups(index, count, 1.0, hits)
    print(f", memory of the process {shown_memory:+,.0f} MB, {memory() - before:+,.0f} MB after lookups")
    print("lookups, inline in the main thread:")
    shown("hits", lookups(index, count, arguments.seconds, True))
    shown("misses, with no stem", lookups(index, count, arguments.seconds, False))
    other = threading.Thread(
        target=build, args=(index, min(count, 1_000_000), 2.0), name="resync", daemon=True
    )
    other.start()
    shown("hits, while the list is read again", lookups(index, count, arguments.seconds, True))
    other.join()
    index.close()
    scans = random.Random(3).sample(range(arguments.scanned), 5)
    print(f"beside it, {arguments.scanned:,} numbers as typed:")
    scanned_in_sqlite(directory, arguments.scanned, scans)
    scanned_in_postgresql(directory, arguments.scanned, scans)
    if not arguments.without_odoo:
        in_odoo(directory)


def in_odoo(directory: Path) -> None:
    with Odoo(directory / "odoo") as odoo:
        for place in range(1000):
            odoo.add("res.partner", name=f"Person {place}", phone=f"+4930231251{place % 100:02d}")

        def lookup(place: int) -> None:
            domain = [["phone_sanitized", "=", f"+4930231251{place % 100:02d}"]]
            odoo.ask("res.partner", "search_read", domain=domain, fields=["name", "phone_sanitized"])

        print("beside it, a real Odoo of 1,000 partners:")
        shown("by its sanitised number, over HTTP", timed(lookup, list(range(100))))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--numbers", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--read", type=int, default=500_000)
    parser.add_argument("--scanned", type=int, default=10_000_000)
    parser.add_argument("--without-odoo", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=cache_directory()) as directory:
        measured(arguments, Path(directory))
    print(
        f"at the most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
