"""The conformance suite itself: what is right passes all of it, and each test fails for who breaks its promise."""

import html
import itertools
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from typing import Any

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.task import deferLater

from adapters import trial
from adapters.base import (
    AdapterError,
    AdapterHealth,
    AdapterUnavailable,
    Capability,
    ChangePage,
    CrmUser,
    JournalEntry,
    KeyKind,
    ListedNumber,
    ListedParty,
    ListPage,
    MarkLost,
    NewParty,
    NewTask,
    NumberChanged,
    Party,
    PartyRef,
    PartyType,
    Written,
)
from adapters.conformance import AdapterConformance, Bench
from cti.numbers import Number, NumberPlan, stem_of_switchboard, stems

PLAN = NumberPlan("DE")
PAGE = 2
ALL = frozenset(Capability) - {Capability.CONTACT_FILE}


@define
class Cabinet:
    """A CRM in memory, and what it has written down; `drawer` has a party's place in the order of changes."""

    parties: dict[PartyRef, ListedParty] = field(factory=dict)
    drawer: dict[PartyRef, int] = field(factory=dict)
    gone: list[tuple[int, PartyRef]] = field(factory=list)
    calls: dict[str, JournalEntry] = field(factory=dict)
    notes: list[tuple[PartyRef, str]] = field(factory=list)
    tasks: list[tuple[PartyRef, NewTask]] = field(factory=list)
    away: bool = False
    count: Any = field(factory=lambda: itertools.count(1))

    def put(self, ref: PartyRef, listed: ListedParty) -> None:
        self.parties[ref] = evolve(listed, party=evolve(listed.party, id=ref.id))
        self.drawer[ref] = next(self.count)

    def add(self, listed: ListedParty) -> PartyRef:
        ref = PartyRef(listed.party.type, str(next(self.count)))
        self.put(ref, listed)
        return ref

    def remove(self, ref: PartyRef) -> None:
        if self.parties.pop(ref, None) is not None:
            self.gone.append((next(self.count), ref))


class CabinetAdapter:
    """All that an adapter may do, done right, in the fewest words."""

    capabilities = ALL
    keys = (KeyKind("id", "Number"),)
    journals_early = journals_changes = journals_by_key = journals_unknown = True

    def __init__(self, cabinet: Cabinet) -> None:
        self.name = "cabinet"
        self._cabinet = cabinet

    @property
    def cabinet(self) -> Cabinet:
        if self._cabinet.away:
            raise AdapterUnavailable("the cabinet is locked")
        return self._cabinet

    async def start(self) -> None:
        assert self.cabinet is not None

    async def stop(self) -> None:
        return None

    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=not self._cabinet.away)

    async def identify(self, number: Number) -> Sequence[Party]:
        exact = self.those(lambda each: number.e164 in self.numbers(each))
        near = stems(number.e164 or "")
        company = self.those(
            lambda each: any(stem_of_switchboard(one.raw, self.e164(one)) in near for one in each.numbers)
        )
        return exact or [evolve(party, match="stem") for party in company]

    def those(self, fits: Callable[[ListedParty], bool]) -> list[Party]:
        return [each.party for each in self.cabinet.parties.values() if fits(each)]

    def numbers(self, listed: ListedParty) -> list[str]:
        return [self.e164(number) for number in listed.numbers]

    def e164(self, number: ListedNumber) -> str:
        return PLAN.parse(number.raw).e164 or ""

    async def card(self, ref: PartyRef) -> Party | None:
        listed = self.cabinet.parties.get(ref)
        return listed.party if listed else None

    async def search(self, words: str, limit: int) -> Sequence[Party]:
        return self.those(
            lambda each: all(word in each.party.name.lower().split() for word in words.lower().split())
        )[:limit]

    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        return [evolve(party, match="key") for party in self.those(lambda each: each.party.id == value)]

    async def list(self, after: str | None) -> ListPage:
        cabinet, last = self.cabinet, int(after or 0)
        order = sorted((int(ref.id), ref) for ref in cabinet.parties if int(ref.id) > last)
        page = [cabinet.parties[ref] for _, ref in order[:PAGE]]
        following = page[-1].party.id if len(order) > PAGE else None
        return ListPage(page, following, str(next(cabinet.count)) if after is None else None)

    async def changes(self, mark: str) -> ChangePage:
        if not mark.isdigit():
            raise MarkLost("this is no mark")
        cabinet, since = self.cabinet, int(mark)
        page = [
            cabinet.parties[ref]
            for ref, at in cabinet.drawer.items()
            if at > since and ref in cabinet.parties
        ]
        gone = [ref for at, ref in cabinet.gone if at > since]
        return ChangePage(page, gone, str(next(cabinet.count)))

    async def users(self) -> Sequence[CrmUser]:
        assert self.cabinet is not None
        return [CrmUser("u1", "Anna", "anna", "101"), CrmUser("u2", "Boris")]

    async def create(self, new: NewParty) -> Party:
        party = Party(self.name, new.type, "new", new.name, new.company, notes=new.notes)
        ref = self.cabinet.add(ListedParty(party, (ListedNumber(new.number),)))
        return self.cabinet.parties[ref].party

    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        self.cabinet.calls[entry.key] = entry
        return [Written("call", entry.key)]

    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        self.cabinet.calls.pop(entry.key, None)
        return ()

    async def note(self, party: PartyRef, text: str) -> Written:
        self.cabinet.notes.append((party, text))
        return Written("note", str(len(self.cabinet.notes)))

    async def add_task(self, party: PartyRef, task: NewTask) -> Written:
        self.cabinet.tasks.append((party, task))
        return Written("task", str(len(self.cabinet.tasks)))

    async def write_number(self, party: PartyRef, old: ListedNumber, new: str) -> None:
        listed = self.cabinet.parties[party]
        if old not in listed.numbers:
            raise NumberChanged("this number is another one by now")
        numbers = [ListedNumber(new) if each == old else each for each in listed.numbers]
        self.cabinet.put(party, evolve(listed, numbers=numbers))


class CabinetBench(Bench):
    numbers_as_typed = ("+49 152 28817386", "0152 / 288 17 386", "+49 (40) 66969-0")
    types = (PartyType.CONTACT, PartyType.ORGANISATION)
    keeps = frozenset({"name", "company", "owner", "tier", "language", "tags", "notes", "url"})
    finds_stems = True
    page = PAGE
    breakable = True
    user = "u1"

    def __init__(self, kind: type[CabinetAdapter] = CabinetAdapter) -> None:
        self.kind = kind
        self.cabinet = Cabinet()

    def make(self) -> CabinetAdapter:
        return self.kind(self.cabinet)

    def plant(self, party: ListedParty) -> PartyRef:
        return self.cabinet.add(party)

    def remove(self, ref: PartyRef) -> None:
        self.cabinet.remove(ref)

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        self.cabinet.put(ref, party)

    def key_of(self, ref: PartyRef) -> tuple[str, str]:
        return "id", ref.id

    def journaled(self, number: str) -> Sequence[str]:
        return [
            f"{each.subject}\n{each.text}" for each in self.cabinet.calls.values() if each.number == number
        ]

    def notes(self, ref: PartyRef) -> Sequence[str]:
        return [text for party, text in self.cabinet.notes if party == ref]

    def tasks(self, ref: PartyRef) -> Sequence[NewTask]:
        return [task for party, task in self.cabinet.tasks if party == ref]

    def break_it(self) -> None:
        self.cabinet.away = True

    def mend(self) -> None:
        self.cabinet.away = False


class TestOfWhatIsRight(AdapterConformance):
    capabilities = ALL

    def crm(self) -> Bench:
        return CabinetBench()


async def a_moment() -> None:
    from twisted.internet import reactor

    await deferLater(reactor, 0.001)  # type: ignore[arg-type]


# What is wrong: one flaw each, and the test that tells of it.


class Loses(CabinetAdapter):
    """Can do less than it says."""

    capabilities = ALL - {Capability.SEARCH}


class LacksAMethod(CabinetAdapter):
    add_task = property()  # type: ignore[assignment]


class AlwaysDown(CabinetAdapter):
    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=False, detail="asleep")


KEPT: list[Any] = []


class KeepsATimer(CabinetAdapter):
    async def identify(self, number: Number) -> Sequence[Party]:
        from twisted.internet import reactor

        KEPT.append(reactor.callLater(300, print))  # type: ignore[attr-defined]
        return await super().identify(number)


class CannotStopUnstarted(CabinetAdapter):
    async def start(self) -> None:
        self.drawers = self.cabinet.parties

    async def stop(self) -> None:
        self.drawers.get(PartyRef("contact", "1"))


class SaysNobodyWhenAway(CabinetAdapter):
    async def identify(self, number: Number) -> Sequence[Party]:
        return () if self._cabinet.away else await super().identify(number)


class SaysNoCardWhenAway(CabinetAdapter):
    async def card(self, ref: PartyRef) -> Party | None:
        return None if self._cabinet.away else await super().card(ref)


class IsAlwaysUp(CabinetAdapter):
    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=True)


class StaysAway(CabinetAdapter):
    seen_away = False

    async def identify(self, number: Number) -> Sequence[Party]:
        self.seen_away = self.seen_away or self._cabinet.away
        if self.seen_away:
            raise AdapterUnavailable("once away, always away")
        return await super().identify(number)


class ComparesAsTyped(CabinetAdapter):
    def e164(self, number: ListedNumber) -> str:
        return number.raw.replace(" ", "")


class ForgetsItsName(CabinetAdapter):
    def those(self, fits: Callable[[ListedParty], bool]) -> list[Party]:
        return [evolve(party, adapter="crm") for party in super().those(fits)]


class LooksAtTheFirstNumber(CabinetAdapter):
    def numbers(self, listed: ListedParty) -> list[str]:
        return super().numbers(listed)[:1]


class AnswersNothingForNobody(CabinetAdapter):
    async def identify(self, number: Number) -> Sequence[Party]:
        return await super().identify(number) or None  # type: ignore[return-value]


class AnswersEverybodyForNobody(CabinetAdapter):
    async def identify(self, number: Number) -> Sequence[Party]:
        return await super().identify(number) or self.those(lambda _each: True)


class ComparesTheEnd(CabinetAdapter):
    def numbers(self, listed: ListedParty) -> list[str]:
        return [Ending(each[-7:]) for each in super().numbers(listed)]


class Ending(str):
    def __eq__(self, other: object) -> bool:
        return str(other).endswith(str(self))

    __hash__ = str.__hash__


class ComparesAPart(CabinetAdapter):
    def numbers(self, listed: ListedParty) -> list[str]:
        return [Holding(each) for each in super().numbers(listed)]


class Holding(str):
    def __eq__(self, other: object) -> bool:
        return str(other) in str(self)

    __hash__ = str.__hash__


class AnswersTheFirst(CabinetAdapter):
    async def identify(self, number: Number) -> Sequence[Party]:
        return (await super().identify(number))[:1]


class HidesTheStem(CabinetAdapter):
    async def identify(self, number: Number) -> Sequence[Party]:
        return [evolve(party, match="number") for party in await super().identify(number)]


class KnowsNoStem(CabinetAdapter):
    async def identify(self, number: Number) -> Sequence[Party]:
        return [party for party in await super().identify(number) if party.match == "number"]


class DropsTheOwner(CabinetAdapter):
    def those(self, fits: Callable[[ListedParty], bool]) -> list[Party]:
        return [evolve(party, owner=None) for party in super().those(fits)]


class EscapesNames(CabinetAdapter):
    def those(self, fits: Callable[[ListedParty], bool]) -> list[Party]:
        return [evolve(party, name=html.escape(party.name)) for party in super().those(fits)]


class MixesAnswersUp(CabinetAdapter):
    async def identify(self, number: Number) -> Sequence[Party]:
        self.asked = number
        await a_moment()
        return await super().identify(self.asked)


class KeepsItsPlaces(CabinetAdapter):
    """Lets eight questions in at once, and never takes the place back of one that was cancelled."""

    def __init__(self, cabinet: Cabinet) -> None:
        super().__init__(cabinet)
        self.places = DeferredSemaphore(8)

    async def identify(self, number: Number) -> Sequence[Party]:
        await self.in_its_place()
        return await super().identify(number)

    async def card(self, ref: PartyRef) -> Party | None:
        await self.in_its_place()
        return await super().card(ref)

    async def in_its_place(self) -> None:
        await self.places.acquire()
        await a_moment()
        self.places.release()


class ShowsSomebodysCard(CabinetAdapter):
    async def card(self, ref: PartyRef) -> Party | None:
        return (self.those(lambda _each: True) or [None])[-1]


class FailsForWhoIsGone(CabinetAdapter):
    async def card(self, ref: PartyRef) -> Party | None:
        party = await super().card(ref)
        if party is None:
            raise AdapterUnavailable("there is no such record")
        return party


class WantsDigits(CabinetAdapter):
    async def card(self, ref: PartyRef) -> Party | None:
        return await super().card(PartyRef(ref.type, str(int(ref.id))))


class FindsAnyOfTheWords(CabinetAdapter):
    async def search(self, words: str, limit: int) -> Sequence[Party]:
        return self.those(lambda each: any(word in each.party.name for word in words.split()))[:limit]


class IgnoresTheLimit(CabinetAdapter):
    async def search(self, words: str, limit: int) -> Sequence[Party]:
        return await super().search(words, 1000)


class SearchesByPattern(CabinetAdapter):
    async def search(self, words: str, limit: int) -> Sequence[Party]:
        return self.those(
            lambda each: all(fnmatch(each.party.name, f"*{word}*") for word in words.split() or ["*"])
        )[:limit]


class CallsAKeyANumber(CabinetAdapter):
    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        return [evolve(party, match="number") for party in await super().by_key(kind, value)]


class HidesItsKeys(CabinetAdapter):
    keys = ()  # type: ignore[assignment]


class FindsAPartOfAKey(CabinetAdapter):
    async def by_key(self, kind: str, value: str) -> Sequence[Party]:
        found = self.those(lambda each: each.party.id == value or each.party.id in value)
        return [evolve(party, match="key") for party in found if value]


class ListsTheFirstPage(CabinetAdapter):
    async def list(self, after: str | None) -> ListPage:
        return evolve(await super().list(after), after=None)


class ListsWithoutEnd(CabinetAdapter):
    async def list(self, after: str | None) -> ListPage:
        return evolve(await super().list(after), after="1")


class ListsTwice(CabinetAdapter):
    async def list(self, after: str | None) -> ListPage:
        page = await super().list(after)
        return evolve(page, parties=[*page.parties, *page.parties[:1]])


class ListsOneNumber(CabinetAdapter):
    async def list(self, after: str | None) -> ListPage:
        page = await super().list(after)
        return evolve(page, parties=[evolve(each, numbers=each.numbers[:1]) for each in page.parties])


class CountsFromTheStart(CabinetAdapter):
    async def list(self, after: str | None) -> ListPage:
        start = int(after or 0)
        everybody = list(self.cabinet.parties.values())
        following = str(start + PAGE) if start + PAGE < len(everybody) else None
        return ListPage(everybody[start : start + PAGE], following, str(next(self.cabinet.count)))


class MarksAtTheEnd(CabinetAdapter):
    """What happened while the list was read is lost."""

    async def changes(self, mark: str) -> ChangePage:
        return await super().changes(str(next(self.cabinet.count)))


class NeverMarks(CabinetAdapter):
    async def list(self, after: str | None) -> ListPage:
        return evolve(await super().list(after), mark=None)


class ForgetsWhoIsGone(CabinetAdapter):
    async def changes(self, mark: str) -> ChangePage:
        return evolve(await super().changes(mark), gone=())


class SkipsTheSameSecond(CabinetAdapter):
    async def changes(self, mark: str) -> ChangePage:
        page = await super().changes(mark)
        return evolve(page, mark=str(int(page.mark) + 5))


class TellsOfTheNewOnly(CabinetAdapter):
    async def changes(self, mark: str) -> ChangePage:
        page = await super().changes(mark)
        return evolve(page, parties=[each for each in page.parties if int(each.party.id) > int(mark)])


class TakesAnyMark(CabinetAdapter):
    async def changes(self, mark: str) -> ChangePage:
        return ChangePage((), (), mark) if not mark.isdigit() else await super().changes(mark)


class ListsUsersTwice(CabinetAdapter):
    async def users(self) -> Sequence[CrmUser]:
        return [*await super().users(), *await super().users()]


class ListsOtherUsers(CabinetAdapter):
    async def users(self) -> Sequence[CrmUser]:
        return [CrmUser("anna")]


class CreatesTooLate(CabinetAdapter):
    async def create(self, new: NewParty) -> Party:
        return Party(self.name, new.type, "later", new.name)


class CreatesContactsOnly(CabinetAdapter):
    async def create(self, new: NewParty) -> Party:
        return await super().create(evolve(new, type=PartyType.CONTACT))


class WritesEachTime(CabinetAdapter):
    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        return await super().journal(evolve(entry, key=f"{entry.key}/{next(self.cabinet.count)}"), written)


class WritesAgainWhenTheAnswerIsLost(CabinetAdapter):
    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        key = written[0].id if written else f"{entry.key}/{next(self.cabinet.count)}"
        return await super().journal(evolve(entry, key=key), written)


class WritesOneCallPerNumber(CabinetAdapter):
    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        return await super().journal(evolve(entry, key=entry.number), written)


class WritesTheFirstState(CabinetAdapter):
    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        return written or await super().journal(entry, written)


class WritesHtml(CabinetAdapter):
    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        return await super().journal(evolve(entry, text=re.sub("<[^>]*>", "", entry.text)), written)


class WritesOnBothParties(CabinetAdapter):
    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        key = f"{entry.key}/{entry.party.id if entry.party else ''}"
        return await super().journal(evolve(entry, key=key), written)


class StaysWithTheFirst(CabinetAdapter):
    async def journal(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        first = self.cabinet.calls.get(entry.key, entry)
        return await super().journal(evolve(entry, party=first.party, number=first.number), written)


class TakesNothingBack(CabinetAdapter):
    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        return ()


class TakesBackWhatItKnows(CabinetAdapter):
    async def withdraw(self, entry: JournalEntry, written: Sequence[Written]) -> Sequence[Written]:
        return await super().withdraw(entry, written) if written else ()


class NotesOnTheWrongParty(CabinetAdapter):
    async def note(self, party: PartyRef, text: str) -> Written:
        for ref in self.cabinet.parties:
            await super().note(ref, text)
        return Written("note", "1")


class LosesNotes(CabinetAdapter):
    async def note(self, party: PartyRef, text: str) -> Written:
        return Written("note", "1")


class ForgetsTheDate(CabinetAdapter):
    async def add_task(self, party: PartyRef, task: NewTask) -> Written:
        return await super().add_task(party, evolve(task, due=None))


class ForgetsTheOwner(CabinetAdapter):
    async def add_task(self, party: PartyRef, task: NewTask) -> Written:
        return await super().add_task(party, evolve(task, owner=None))


class ReplacesAllNumbers(CabinetAdapter):
    async def write_number(self, party: PartyRef, old: ListedNumber, new: str) -> None:
        self.cabinet.put(party, evolve(self.cabinet.parties[party], numbers=[ListedNumber(new)]))


class ReplacesWhatIsThere(CabinetAdapter):
    async def write_number(self, party: PartyRef, old: ListedNumber, new: str) -> None:
        listed = self.cabinet.parties[party]
        self.cabinet.put(party, evolve(listed, numbers=[ListedNumber(new), *listed.numbers[1:]]))


FLAWS: dict[str, tuple[type[CabinetAdapter], ...]] = {
    "test_it_can_do_what_it_is_tested_for_and_nothing_else": (Loses,),
    "test_it_has_the_methods_of_what_it_can_do": (LacksAMethod,),
    "test_it_is_healthy_once_it_is_started": (AlwaysDown,),
    "test_it_gives_everything_back_when_it_stops": (KeepsATimer,),
    "test_it_can_be_stopped_when_it_could_not_be_started": (CannotStopUnstarted,),
    "test_a_crm_that_is_away_is_an_error_and_nobody_is_none": (
        SaysNobodyWhenAway,
        SaysNoCardWhenAway,
        IsAlwaysUp,
        StaysAway,
    ),
    "test_who_has_the_number_is_found_however_it_is_typed": (ComparesAsTyped, ForgetsItsName),
    "test_each_number_of_a_party_finds_them": (LooksAtTheFirstNumber,),
    "test_nobody_is_an_empty_answer": (AnswersNothingForNobody, AnswersEverybodyForNobody),
    "test_a_number_that_only_ends_alike_is_somebody_elses": (ComparesTheEnd,),
    "test_a_number_that_is_part_of_another_is_somebody_elses": (ComparesAPart,),
    "test_all_who_share_a_number_are_found": (AnswersTheFirst,),
    "test_a_match_by_a_switchboard_says_so": (HidesTheStem, KnowsNoStem),
    "test_what_the_crm_keeps_of_a_party_comes_along": (DropsTheOwner,),
    "test_a_name_is_text_whatever_is_in_it": (EscapesNames,),
    "test_many_questions_at_once_each_have_their_own_answer": (MixesAnswersUp,),
    "test_a_question_that_is_given_up_lets_go_of_what_it_held": (KeepsItsPlaces,),
    "test_a_card_is_of_the_party_that_was_asked_for": (ShowsSomebodysCard,),
    "test_there_is_no_card_of_who_is_gone": (FailsForWhoIsGone,),
    "test_an_id_that_is_none_of_the_crm_finds_no_card": (WantsDigits, ShowsSomebodysCard),
    "test_a_card_that_is_given_up_lets_go_of_what_it_held": (KeepsItsPlaces,),
    "test_search_finds_who_has_all_the_words": (FindsAnyOfTheWords,),
    "test_search_answers_no_more_than_asked_for": (IgnoresTheLimit,),
    "test_what_means_something_to_a_crm_is_text_in_a_search": (SearchesByPattern,),
    "test_a_key_finds_who_has_it": (CallsAKeyANumber, HidesItsKeys),
    "test_a_part_of_a_key_is_another_key": (FindsAPartOfAKey,),
    "test_the_list_has_everybody_once_with_their_numbers": (
        ListsTheFirstPage,
        ListsWithoutEnd,
        ListsTwice,
        ListsOneNumber,
    ),
    "test_nobody_is_passed_over_when_somebody_is_removed_while_the_list_is_read": (CountsFromTheStart,),
    "test_what_happens_while_the_list_is_read_is_among_the_changes": (MarksAtTheEnd, NeverMarks),
    "test_changes_tell_of_new_parties_changed_ones_and_those_who_are_gone": (
        ForgetsWhoIsGone,
        SkipsTheSameSecond,
        TellsOfTheNewOnly,
    ),
    "test_a_mark_that_is_none_is_lost_and_not_nothing": (TakesAnyMark,),
    "test_users_are_listed_once_by_the_ids_that_own_parties": (ListsUsersTwice, ListsOtherUsers),
    "test_who_is_taken_in_is_found_by_their_number_at_once": (CreatesTooLate, CreatesContactsOnly),
    "test_a_call_is_written_once_however_often_it_is_told": (
        WritesEachTime,
        WritesAgainWhenTheAnswerIsLost,
        WritesOneCallPerNumber,
    ),
    "test_a_call_that_goes_on_stays_one_record": (WritesEachTime, WritesTheFirstState, WritesHtml),
    "test_a_call_becomes_another_partys": (WritesOnBothParties, StaysWithTheFirst),
    "test_a_call_that_was_with_nobody_is_taken_back": (TakesNothingBack, TakesBackWhatItKnows),
    "test_a_note_is_put_on_the_party": (NotesOnTheWrongParty, LosesNotes),
    "test_a_task_is_given_with_its_owner_and_its_date": (ForgetsTheDate, ForgetsTheOwner),
    "test_a_number_is_replaced_where_it_stands": (ReplacesAllNumbers,),
    "test_a_number_that_was_changed_meanwhile_is_left_alone": (ReplacesWhatIsThere,),
}


def the_suite() -> set[str]:
    return {name for name in dir(AdapterConformance) if name.startswith("test_")}


def test_each_test_of_the_suite_has_an_adapter_that_it_refuses() -> None:
    assert the_suite() == set(FLAWS)


@pytest.mark.parametrize(
    ("name", "flaw"),
    [
        pytest.param(name, flaw, id=f"{flaw.__name__}-{name}")
        for name, flaws in FLAWS.items()
        for flaw in flaws
    ],
)
def test_an_adapter_with_a_flaw_is_refused(
    name: str, flaw: type[CabinetAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "ANSWER_SECONDS", 0.5)

    class Refused(AdapterConformance):
        capabilities = ALL

        def crm(self) -> Bench:
            return CabinetBench(flaw)

    with pytest.raises((AssertionError, AdapterError, AttributeError, ValueError)):
        getattr(Refused(), name)()
    while KEPT:
        KEPT.pop().cancel()


def test_what_an_adapter_cannot_do_is_not_tested() -> None:
    class Small(AdapterConformance):
        capabilities = frozenset({Capability.IDENTIFY})

    names = {name for name in the_suite() if getattr(Small, name) is not None}
    assert "test_nobody_is_an_empty_answer" in names
    assert "test_it_is_healthy_once_it_is_started" in names
    assert not [name for name in names if "search" in name or "list" in name or "journal" in name]
