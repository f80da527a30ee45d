"""The phone index: what is listed is found, what changes is taken over, and nothing that goes wrong empties it."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from adapters.base import (
    AdapterAnswerError,
    AdapterError,
    AdapterUnavailable,
    Capability,
    ChangePage,
    ListedNumber,
    ListedParty,
    ListPage,
    MarkLost,
    Party,
    PartyRef,
)
from cti.index.feed import Feed, Feeds, FeedSettings, Shrunk
from cti.index.file import IndexBuilder, IndexDamaged, IndexFailed, Row
from cti.index.phone_index import PhoneIndex
from cti.numbers import NumberPlan

PLAN = NumberPlan("DE")
OWN = frozenset({"+496990009100"})


def listed(id: str, *numbers: str, region: str | None = None, **party: Any) -> ListedParty:
    name = party.pop("name", f"Person {id}")
    return ListedParty(
        Party("crm", party.pop("type", "contact"), id, name, **party),
        tuple(ListedNumber(raw) for raw in numbers),
        region,
    )


class Crm:
    """An adapter that lists what a test has put into it, some at a time."""

    name = "crm"

    def __init__(self, *parties: ListedParty, page: int = 2, can_tell: bool = True) -> None:
        self.parties = list(parties)
        self.page = page
        self.log: list[ListedParty | PartyRef] = []
        self.lists = 0
        self.trouble: Exception | None = None
        self.capabilities = frozenset({Capability.LIST, *({Capability.CHANGES} if can_tell else ())})

    async def list(self, after: str | None) -> ListPage:
        self.lists += after is None
        if self.trouble is not None:
            raise self.trouble
        start = int(after or 0)
        end = start + self.page
        more = str(end) if end < len(self.parties) else None
        return ListPage(self.parties[start:end], more, str(len(self.log)) if after is None else None)

    async def changes(self, mark: str) -> ChangePage:
        if self.trouble is not None:
            raise self.trouble
        start = int(mark)
        news = self.log[start : start + self.page]
        return ChangePage(
            [each for each in news if isinstance(each, ListedParty)],
            [each for each in news if isinstance(each, PartyRef)],
            str(start + len(news)),
            more=start + len(news) < len(self.log),
        )

    def puts(self, party: ListedParty) -> None:
        self.parties = [each for each in self.parties if each.party.ref != party.party.ref] + [party]
        self.log.append(party)

    def removes(self, id: str, type: str = "contact") -> None:
        ref = PartyRef(type, id)  # type: ignore[arg-type]
        self.parties = [each for each in self.parties if each.party.ref != ref]
        self.log.append(ref)

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def identify(self, number: Any) -> Sequence[Party]:
        return ()

    async def health(self) -> Any: ...


class Bench:
    """An index in a directory, fed from a CRM, by a clock that stands still until it is told to go on."""

    def __init__(self, directory: Path, crm: Crm) -> None:
        self.directory, self.crm, self.clock = directory, crm, Clock()
        self.clock.advance(1_000_000)
        self.open()

    def open(self, plan: NumberPlan = PLAN) -> None:
        """As a server that has just started."""
        self.index = PhoneIndex(self.directory, plan, OWN, self.clock.seconds)
        self.feed = Feed(self.crm, self.index, self.clock, at_once, FeedSettings(), jitter=lambda: 0.0)

    def feeds(self) -> float:
        return done(self.feed.once())

    def finds(self, raw: str) -> list[tuple[str, str]]:
        return [(party.id, party.match) for party in self.index.lookup(PLAN.parse(raw), "crm")]


def at_once(work: Any, *arguments: Any) -> "Deferred[Any]":
    return succeed(work(*arguments))


def done(coroutine: Any) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


JANA = listed("1", "0152 28817386", "+49 (40) 66969-27", name="Jana Novak", owner="u1", tags=["vip"])
NOVAK = listed("2", "040/66969-0", name="Novak GmbH", type="organisation", tier="gold", balance="12,00 EUR")
VIENNA = listed("3", "01 5321000", name="Österreicher", region="AT")
TWIN = listed("4", "+4915228817386", name="Jan Novak", organisation="2")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "index", Crm(JANA, NOVAK, VIENNA, TWIN))
    bench.feeds()
    return bench


def test_whoever_is_listed_is_found_by_any_form_of_any_of_their_numbers(bench: Bench) -> None:
    assert bench.finds("0049 152 288 173 86") == [("1", "number"), ("4", "number")]
    assert bench.finds("+43 1 532 1000") == [("3", "number")]
    assert bench.finds("01 5321000") == []
    assert bench.finds("040 6696927") == [("1", "number")]
    assert bench.finds("040 669690") == [("2", "number")]
    assert bench.finds("040 66969-4711") == [("2", "stem")]
    assert bench.finds("040 66968-27") == []


def test_a_party_comes_back_with_what_a_route_and_a_first_card_need(bench: Bench) -> None:
    jana, twin = bench.index.lookup(PLAN.parse("015228817386"))
    assert (jana.name, jana.owner, jana.tags, jana.adapter) == ("Jana Novak", "u1", ("vip",), "crm")
    assert twin.organisation == "2"
    (company,) = bench.index.lookup(PLAN.parse("040669690"))
    assert (company.type, company.tier, company.balance) == ("organisation", "gold", "12,00 EUR")


def test_our_own_numbers_are_nobody_s_and_no_stem_of_theirs_is(tmp_path: Path) -> None:
    crm = Crm(listed("5", "069 90009-100"), listed("6", "069 90009-0", type="organisation"))
    bench = Bench(tmp_path, crm)
    bench.feeds()
    assert bench.finds("069 90009-100") == []
    assert bench.finds("069 90009-4711") == []
    assert bench.finds("069 90009-0") == [("6", "number")]


def test_a_person_is_not_found_by_a_switchboard(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Crm(listed("1", "040 66969-0", type="contact")))
    bench.feeds()
    assert bench.finds("040 66969-0") == [("1", "number")]
    assert bench.finds("040 66969-27") == []


def test_changes_are_taken_over_and_who_is_gone_is_not_found(bench: Bench) -> None:
    bench.crm.puts(listed("1", "+4915228895456", name="Jana Petrova"))
    bench.crm.puts(listed("7", "040 66969-0", name="Nachbar", type="organisation"))
    bench.crm.removes("3")
    bench.crm.removes("2", "organisation")
    bench.crm.removes("nobody")

    assert bench.feeds() == 30.0

    assert bench.crm.lists == 1
    assert bench.finds("015228817386") == [("4", "number")]
    assert bench.finds("015228895456") == [("1", "number")]
    assert bench.finds("+43 1 5321000") == []
    assert bench.finds("040 66969-4711") == [("7", "stem")]
    (status,) = bench.index.status()
    assert (status.parties, status.numbers) == (3, 3)


def test_what_was_read_is_there_after_a_restart_and_goes_on_from_its_mark(bench: Bench) -> None:
    bench.index.close()
    bench.crm.puts(listed("8", "015254599371"))

    bench.open()
    bench.crm.trouble = AdapterUnavailable("down")
    with pytest.raises(AdapterUnavailable):
        bench.feeds()
    assert bench.finds("015228817386") == [("1", "number"), ("4", "number")]
    bench.crm.trouble = None
    bench.feeds()

    assert bench.finds("015254599371") == [("8", "number")]
    assert bench.crm.lists == 1


def test_a_list_that_breaks_off_leaves_what_there_was(bench: Bench) -> None:
    class BreaksOff(Crm):
        async def list(self, after: str | None) -> ListPage:
            if after is not None:
                raise AdapterUnavailable("the CRM went down")
            return await super().list(after)

    bench.feed._adapter = BreaksOff(*(listed(str(number), "015254599371") for number in range(9)))
    with pytest.raises(AdapterUnavailable):
        done(bench.feed.read_list())

    assert bench.finds("015228817386") == [("1", "number"), ("4", "number")]
    assert bench.finds("015254599371") == []
    assert len(list(bench.directory.iterdir())) <= 3, "what was begun is taken away"


def test_a_crm_that_suddenly_lists_few_does_not_empty_the_index(tmp_path: Path) -> None:
    numbers = [f"+491713920{number:03d}" for number in range(50)]
    bench = Bench(tmp_path, Crm(*(listed(number, number) for number in numbers), can_tell=False))
    bench.feeds()
    bench.crm.parties = bench.crm.parties[:24]
    bench.clock.advance(3601)

    with pytest.raises(Shrunk, match="lists 24 parties where it had 50"):
        bench.feeds()
    assert bench.finds(numbers[49]) == [(numbers[49], "number")]

    done(bench.feed.read_list(although_shrunk=True))
    assert bench.finds(numbers[49]) == []
    bench.crm.parties = bench.crm.parties[:12]
    bench.clock.advance(3601)
    bench.feeds()
    assert bench.finds(numbers[12]) == []


def test_a_lost_mark_and_a_day_both_have_everybody_listed_again(bench: Bench) -> None:
    bench.crm.changes = lost  # type: ignore[method-assign, assignment]
    bench.feeds()
    assert bench.crm.lists == 2
    del bench.crm.changes
    bench.feeds()
    assert bench.crm.lists == 2
    bench.clock.advance(86_401)
    bench.feeds()
    assert bench.crm.lists == 3


async def lost(mark: str) -> ChangePage:
    raise MarkLost("that was long ago")


def test_who_cannot_tell_changes_is_listed_each_hour(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Crm(JANA, can_tell=False))
    assert bench.feeds() == 3600.0
    bench.clock.advance(600)
    assert bench.feeds() == 3000.0
    assert bench.crm.lists == 1
    bench.clock.advance(3000)
    bench.feeds()
    assert bench.crm.lists == 2


def test_lists_that_never_end_or_are_somebody_else_s_are_refused(tmp_path: Path) -> None:
    class Circle(Crm):
        async def list(self, after: str | None) -> ListPage:
            return ListPage([], "again", "0")

    with pytest.raises(AdapterAnswerError, match="round in a circle"):
        Bench(tmp_path, Circle()).feeds()
    stranger = ListedParty(Party("other", "contact", "1", "X"), (ListedNumber("015228817386"),))
    with pytest.raises(AdapterAnswerError, match="something else"):
        Bench(tmp_path, Crm(stranger)).feeds()

    class StandsStill(Crm):
        async def changes(self, mark: str) -> ChangePage:
            return ChangePage([], [], mark, more=True)

    bench = Bench(tmp_path, StandsStill(JANA))
    bench.feeds()
    with pytest.raises(AdapterAnswerError, match="the mark stays"):
        bench.feeds()


def test_a_page_that_never_comes_is_given_up(tmp_path: Path) -> None:
    class Hangs(Crm):
        async def list(self, after: str | None) -> ListPage:
            await Deferred()
            raise AssertionError

    bench = Bench(tmp_path, Hangs())
    results: list[Any] = []
    Deferred.fromCoroutine(bench.feed.once()).addBoth(results.append)
    bench.clock.pump([30, 31])
    (failure,) = results
    assert isinstance(failure.value, AdapterError)
    assert "within 60 s" in str(failure.value)


def test_who_could_tell_changes_but_gave_no_mark_is_listed_each_hour(tmp_path: Path) -> None:
    class Unmarked(Crm):
        async def list(self, after: str | None) -> ListPage:
            page = await super().list(after)
            return ListPage(page.parties, page.after)

    bench = Bench(tmp_path, Unmarked(JANA))
    assert bench.feeds() == 3600.0
    bench.clock.advance(30)
    assert bench.feeds() == 3570.0
    assert bench.crm.lists == 1


def test_changes_are_taken_over_also_while_the_daily_list_is_refused(tmp_path: Path) -> None:
    numbers = [f"+49171392000{number:02d}" for number in range(50)]
    bench = Bench(tmp_path, Crm(*(listed(number, number) for number in numbers)))
    bench.feeds()
    bench.crm.parties = []
    bench.crm.puts(listed("8", "015254599371"))
    bench.clock.advance(86_401)

    with pytest.raises(Shrunk):
        bench.feeds()

    assert bench.finds("015254599371") == [("8", "number")]
    assert bench.finds(numbers[49]) == [(numbers[49], "number")]


@pytest.mark.parametrize("seed", range(0, 40, 3))
def test_bytes_that_a_disk_has_lost_never_break_a_lookup_and_are_made_anew(tmp_path: Path, seed: int) -> None:
    numbers = [f"+4917139200{number:02d}" for number in range(100)]
    crm = Crm(*(listed(number, number, name=f"Person {number}") for number in numbers), page=100)
    bench = Bench(tmp_path, crm)
    bench.feeds()
    bench.index.close()
    (path,) = bench.directory.glob("*.db")
    dice, content = random.Random(seed), bytearray(path.read_bytes())
    for _ in range(seed * 3 + 1):
        place = dice.randrange(len(content))
        content[place : place + 8] = dice.randbytes(8)
    path.write_bytes(content[: path.stat().st_size])
    bench.open()
    bench.index.open("crm")

    for number in numbers:
        bench.finds(number)
    bench.index.people(limit=1000)

    for _ in range(3):
        bench.clock.advance(86_401)
        with suppress(IndexDamaged):
            bench.feeds()
    assert [bench.finds(number) for number in numbers] == [[(number, "number")] for number in numbers]


def test_a_row_that_makes_no_sense_is_nobody_and_has_the_part_made_anew_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crm, clock = Crm(JANA, can_tell=False), Clock()
    index = PhoneIndex(tmp_path, PLAN, OWN, clock.seconds)
    feeds = Feeds(index, clock, at_once)
    done(feeds.begin(crm))
    spoilt(tmp_path, "type = 'Jana'")

    assert not index.lookup(PLAN.parse("015228817386"))
    assert not index.covers("crm")
    clock.advance(0)

    assert [party.id for party in index.lookup(PLAN.parse("015228817386"))] == ["1"]
    assert crm.lists == 2
    done(feeds.stop())
    assert "Jana" not in capsys.readouterr().out


def test_changes_that_a_damaged_part_cannot_take_have_it_made_anew(bench: Bench) -> None:
    spoilt(bench.directory, "numbers = x'4a616e61'")
    bench.crm.puts(listed("1", "+4915228895456"))
    with pytest.raises(IndexDamaged):
        bench.feeds()

    bench.feeds()

    assert bench.finds("015228895456") == [("1", "number")]
    assert bench.crm.lists == 2


def spoilt(directory: Path, change: str) -> None:
    """What SQLite takes for whole, and no row of ours is."""
    (path,) = directory.glob("*.db")
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE party SET {change}")
    connection.close()


def test_a_part_that_somebody_else_holds_is_not_thrown_away(bench: Bench) -> None:
    bench.index.close()
    (path,) = bench.directory.glob("*.db")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    bench.open()
    assert bench.index.open("crm") is None
    holder.close()

    assert bench.index.open("crm") is not None
    assert bench.finds("015228817386") == [("1", "number"), ("4", "number")]


def test_what_is_thrown_away_takes_no_more_changes(bench: Bench) -> None:
    part = bench.index.part("crm")
    assert part is not None
    bench.index.drop("crm", IndexDamaged("it makes no sense"))
    with pytest.raises(IndexFailed, match="not in use any more"):
        part.update([Row.of(JANA, PLAN)], [], {"mark": "1"})
    assert not list(bench.directory.iterdir())


@pytest.mark.parametrize("damage", ["text", "half", "other", "layout"])
def test_a_damaged_file_is_thrown_away_and_made_anew(bench: Bench, damage: str) -> None:
    bench.index.close()
    (path,) = bench.directory.glob("*.db")
    match damage:
        case "text":
            path.write_text("this is not a database, but something else")
        case "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "other":
            path.unlink()
            sqlite3.connect(path).execute("CREATE TABLE t (a)").connection.close()
        case "layout":
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA user_version = 999")
            connection.close()
    bench.open()

    for _ in range(2):
        bench.feeds()
        found = bench.finds("015228817386")

    assert found == [("1", "number"), ("4", "number")]
    assert bench.crm.lists == 2


def test_with_another_plan_the_numbers_are_read_anew(bench: Bench) -> None:
    bench.index.close()
    bench.open(NumberPlan("AT"))
    assert bench.index.open("crm") is None
    bench.feeds()
    assert bench.crm.lists == 2


def test_who_comes_on_two_pages_counts_as_they_came_last(tmp_path: Path) -> None:
    crm = Crm(listed("1", "015228817386"), listed("2", "015228895456"), listed("1", "015254599371"))
    bench = Bench(tmp_path, crm)
    bench.feeds()
    assert bench.finds("015228817386") == []
    assert bench.finds("015254599371") == [("1", "number")]
    assert bench.index.status()[0].parties == 2


def test_the_book_is_in_the_order_of_names_and_goes_on_where_it_stopped(bench: Bench) -> None:
    bench.crm.puts(listed("9", name="No Number"))
    bench.crm.puts(listed("10", "0152 54599371", name="ärmel"))
    bench.feeds()

    names = [person.party.name for _, person in bench.index.people()]
    assert names == ["ärmel", "Jan Novak", "Jana Novak", "Novak GmbH", "Österreicher"]
    first = bench.index.people(limit=2)
    after = {name: person.place for name, person in first}
    assert [person.party.name for _, person in bench.index.people(after=after, limit=2)] == names[2:4]
    assert [person.party.name for _, person in bench.index.people("JÁN")] == ["Jan Novak", "Jana Novak"]
    assert [number.raw for number in bench.index.people("jana")[0][1].numbers] == [
        number.raw for number in JANA.numbers
    ]
    assert bench.index.people("%") == []


def test_a_command_s_newer_part_is_taken_over_by_the_running_server(bench: Bench) -> None:
    bench.clock.advance(1)
    other = PhoneIndex(bench.directory, PLAN, OWN, bench.clock.seconds)
    crm = Crm(listed("11", "015254599371"))
    done(Feed(crm, other, bench.clock, at_once).read_list(although_shrunk=True))

    bench.feeds()

    assert bench.finds("015254599371") == [("11", "number")]
    assert len(list(bench.directory.glob("*.db"))) == 1


@pytest.mark.parametrize(
    "trouble", [AdapterUnavailable("down"), KeyError("phone of Jana"), OSError(28, "full")]
)
def test_feeds_begin_again_after_any_trouble_and_stop_for_good(
    tmp_path: Path, trouble: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    crm, clock = Crm(JANA), Clock()
    clock.advance(1_000_000)
    index = PhoneIndex(tmp_path, PLAN, OWN, clock.seconds)
    feeds = Feeds(index, clock, at_once)
    crm.trouble = trouble
    done(feeds.begin(crm))
    assert not index.covers("crm")
    told = capsys.readouterr().out
    assert "not in step" in told
    assert "Jana" not in told

    crm.trouble = None
    clock.advance(6)
    assert index.covers("crm")
    crm.puts(listed("12", "015254599371"))
    clock.advance(34)
    assert index.lookup(PLAN.parse("015254599371"))
    assert index.age("crm") == 0.0

    done(feeds.stop())
    assert not clock.getDelayedCalls()
    assert not index.covers("crm")


def test_a_server_killed_while_it_builds_or_updates_leaves_a_whole_index(tmp_path: Path) -> None:
    """Killed at random moments of both; what is opened afterwards is always whole, and never a mixture."""
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from adapters.base import ListedNumber, ListedParty, Party
        from cti.index.file import IndexBuilder, Row
        from cti.index.phone_index import PhoneIndex
        from cti.numbers import NumberPlan
        plan = NumberPlan("DE")
        index = PhoneIndex(Path(sys.argv[1]), plan, frozenset(), time.time)
        def rows(round):
            for id in range(200):
                party = Party("crm", "contact", str(id), f"round {round}")
                yield Row.of(ListedParty(party, (ListedNumber(f"+491713920{id % 100:03d}"),)), plan)
        round = 0
        while True:
            builder = IndexBuilder(index.path("crm", time.time()))
            builder.add(list(rows(round)))
            builder.finish({"reading": index.reading, "listed": "1", "changed": "1"})
            part = index.open("crm")
            print("whole", flush=True)
            for round in range(round + 1, round + 20):
                part.update(rows(round), [], {"mark": str(round)})
    """)
    for moment in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "whole\n"
        try:
            process.wait(0.005 * moment)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        index = PhoneIndex(tmp_path, PLAN, frozenset(), lambda: 2.0)
        part = index.open("crm")
        assert part is not None, "there was a whole one before"
        found = {person.party.name for _, person in index.people(limit=1000)}
        assert len(found) == 1, found
        assert part.about["parties"] == "200"
        index.close()


def test_numbers_are_added_in_any_order_and_found_in_theirs(tmp_path: Path) -> None:
    builder = IndexBuilder(tmp_path / "crm.1.db")
    parties = [listed(str(number), f"+4917139200{number:02d}") for number in range(99, -1, -1)]
    builder.add([Row.of(each, PLAN) for each in parties])
    builder.finish({"reading": "DE 5", "listed": "1", "changed": "1"})
    index = PhoneIndex(tmp_path, PLAN, OWN, lambda: 2.0)
    assert index.open("crm") is not None
    for number in range(100):
        assert [party.id for party in index.lookup(PLAN.parse(f"+4917139200{number:02d}"))] == [str(number)]
