"""What every adapter is held to, as tests that any adapter, a third party's too, is run through by pytest.

A test of yours derives from ``AdapterConformance``, says what the adapter can do, and gives a ``Bench``: the CRM as
it is seen from beside the adapter. What has to be true is said in ``base``; here it is asked. ``docs/adapters.md``
has an example.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred

from adapters.base import (
    AdapterError,
    AdapterHealth,
    Capability,
    CrmUser,
    IAdapter,
    ICardSource,
    IChanging,
    ICreator,
    IJournal,
    IKeyed,
    ILister,
    INoteTaker,
    INumberWriter,
    ISearcher,
    ITaskMaster,
    IUserSource,
    JournalEntry,
    JournalState,
    ListedNumber,
    ListedParty,
    NewParty,
    NewTask,
    NumberChanged,
    Party,
    PartyRef,
    PartyType,
    Written,
)
from adapters.party import ID_LIMIT, NAME_LIMIT, clean_line
from adapters.trial import (
    Bench as Bench,
    Trial,
    a_context as a_context,
    eventually,
    held,
    in_reactor,
    require,
)

_Check = TypeVar("_Check", bound=Callable[..., None])

#: More questions than any adapter lets into its CRM at once, so that one that is not let go of would be missed.
_MANY: Final = 24

# Numbers that are given to nobody, but to people in films. The first two end alike, as numbers in a CRM do that
# compares the end only; the third is the beginning of the fourth, as in one that looks for a part.
_ALIKE: Final = ("+12025550142", "+13035550142")
_PART, _WHOLE = "+49302312519", "+493023125190"
_MOBILE: Final = "+4915228817386"
_OTHER: Final = "+4915228895456"
_THIRD: Final = "+4917139200042"
_NOBODY: Final = "+442079460998"
_SWITCHBOARD, _EXTENSION = "+49 221 4710-0", "+492214710273"

#: Which interface a capability is the promise of.
INTERFACES: Final[Mapping[Capability, type[Any]]] = {
    Capability.IDENTIFY: IAdapter,
    Capability.CREATE: ICreator,
    Capability.CARD: ICardSource,
    Capability.SEARCH: ISearcher,
    Capability.KEY: IKeyed,
    Capability.LIST: ILister,
    Capability.CHANGES: IChanging,
    Capability.USERS: IUserSource,
    Capability.JOURNAL: IJournal,
    Capability.NOTE: INoteTaker,
    Capability.TASK: ITaskMaster,
    Capability.NUMBERS: INumberWriter,
}


def _checks(*needed: Capability) -> Callable[[_Check], _Check]:
    """The test is for adapters with all of these."""

    def marked(check: _Check) -> _Check:
        check.__dict__["needs"] = frozenset(needed)
        return check

    return marked


class AdapterConformance:
    """Derive a class whose name begins with ``Test``, and pytest runs what is here for its ``capabilities``."""

    #: What the adapter promises to do. The tests of other capabilities are not there.
    capabilities: ClassVar[frozenset[Capability]]

    def crm(self) -> Bench:
        """The CRM, ready, for one test."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "capabilities" in cls.__dict__:
            for name in dir(cls):
                if name.startswith("test_") and not getattr(getattr(cls, name), "needs", frozenset()) <= (
                    cls.capabilities
                ):
                    # Not collected at all, so that what passes is what was tested.
                    setattr(cls, name, None)

    @contextmanager
    def trial(self) -> Iterator[Trial]:
        bench = self.crm()
        adapter = bench.make()
        in_reactor(adapter.start)
        trial = Trial(bench, adapter)
        try:
            yield trial
        finally:
            try:
                trial.close()
            finally:
                in_reactor(adapter.stop)

    # What an adapter is.

    def test_it_can_do_what_it_is_tested_for_and_nothing_else(self) -> None:
        # Where its answers come from is nothing that it can do.
        found, tested = (
            can - {Capability.LOCAL} for can in (self.crm().make().capabilities, self.capabilities)
        )
        require(
            found == tested,
            f"an adapter is tested for all that it can do: missing are {sorted(found - tested)},"
            f" and it cannot do {sorted(tested - found)}",
        )

    def test_it_has_the_methods_of_what_it_can_do(self) -> None:
        adapter = self.crm().make()
        for capability in {Capability.IDENTIFY, *self.capabilities} & set(INTERFACES):
            for name in _members(INTERFACES[capability]):
                require(hasattr(adapter, name), f"an adapter with {capability} has {name!r}")

    def test_it_is_healthy_once_it_is_started(self) -> None:
        with self.trial() as trial:
            health = in_reactor(trial.adapter.health)
            require(isinstance(health, AdapterHealth) and health.up, "a working adapter says that it is up")

    def test_it_gives_everything_back_when_it_stops(self) -> None:
        before = held()
        with self.trial() as trial:
            for _ in range(3):
                trial.identified(_NOBODY)
        eventually(lambda: held() <= before, "a stopped adapter has no connection and no timer left")

    def test_it_can_be_stopped_when_it_could_not_be_started(self) -> None:
        bench = self.crm()
        if bench.breakable:
            bench.break_it()
        adapter = bench.make()
        try:
            try:
                in_reactor(adapter.start)
            except AdapterError:
                require(bench.breakable, "an adapter starts when its CRM is there")
            finally:
                in_reactor(adapter.stop)
        finally:
            if bench.breakable:
                bench.mend()

    def test_a_crm_that_is_away_is_an_error_and_nobody_is_none(self) -> None:
        with self.trial() as trial:
            if not trial.bench.breakable:
                return
            ref = trial.plant("Ada", _MOBILE)
            trial.finds(_MOBILE, ref)
            trial.bench.break_it()
            try:
                for question in self._questions(trial, ref):
                    _raises_adapter_error(question)
                require(
                    not in_reactor(trial.adapter.health).up,
                    "health says that the adapter is down when its CRM is away",
                )
            finally:
                trial.bench.mend()
            eventually(
                lambda: _answers(lambda: trial.who(_MOBILE)) == {ref},
                "an adapter finds people again once its CRM is back",
            )
            eventually(lambda: in_reactor(trial.adapter.health).up, "and says that it is up again")

    def _questions(self, trial: Trial, ref: PartyRef) -> Iterator[Callable[[], Any]]:
        yield lambda: trial.who(_MOBILE)
        asked: Mapping[Capability, Callable[[], Any]] = {
            Capability.CARD: lambda: trial.card(ref),
            Capability.SEARCH: lambda: trial.search("Ada"),
            Capability.LIST: trial.everybody,
            Capability.USERS: lambda: in_reactor(trial.adapter.users),
            Capability.JOURNAL: lambda: trial.journal(_an_entry(trial, ref, "away")),
            Capability.NOTE: lambda: in_reactor(trial.adapter.note, ref, "away"),
            Capability.CREATE: lambda: trial.made(
                in_reactor(trial.adapter.create, NewParty(trial.bench.types[0], _THIRD, "Ada"))
            ),
        }
        for capability, question in asked.items():
            if capability in self.capabilities:
                yield question

    # Who has a number.

    @_checks(Capability.IDENTIFY)
    def test_who_has_the_number_is_found_however_it_is_typed(self) -> None:
        for typed in self.crm().numbers_as_typed:
            with self.trial() as trial:
                e164 = trial.bench.plan.parse(typed).e164
                if e164 is None:
                    raise AssertionError(f"{typed!r} of numbers_as_typed is a public telephone number")
                ref = trial.plant("Ada", typed)
                trial.finds(e164, ref)
                (party,) = trial.identified(e164)
                require(party.adapter == trial.adapter.name, "a party says which adapter it is from")
                require(party.match == "number", "who has the number itself is a match on the number")

    @_checks(Capability.IDENTIFY)
    def test_each_number_of_a_party_finds_them(self) -> None:
        with self.trial() as trial:
            numbers = (_MOBILE, _OTHER)[: trial.bench.numbers_held]
            ref = trial.plant("Ada", *numbers)
            for number in numbers:
                trial.finds(number, ref)

    @_checks(Capability.IDENTIFY)
    def test_nobody_is_an_empty_answer(self) -> None:
        with self.trial() as trial:
            trial.plant("Ada", _MOBILE)
            answer = in_reactor(trial.adapter.identify, trial.number(_NOBODY))
            require(isinstance(answer, Sequence), "identify answers with a sequence of parties")
            require(not answer, "a number that nobody has finds nobody")

    @_checks(Capability.IDENTIFY)
    def test_a_number_that_only_ends_alike_is_somebody_elses(self) -> None:
        with self.trial() as trial:
            refs = [trial.plant(name, number) for name, number in zip(("Ada", "Ben"), _ALIKE, strict=True)]
            for ref, number in zip(refs, _ALIKE, strict=True):
                trial.finds(number, ref)

    @_checks(Capability.IDENTIFY)
    def test_a_number_that_is_part_of_another_is_somebody_elses(self) -> None:
        with self.trial() as trial:
            part, whole = trial.plant("Ada", _PART), trial.plant("Ben", _WHOLE)
            trial.finds(_PART, part)
            trial.finds(_WHOLE, whole)

    @_checks(Capability.IDENTIFY)
    def test_all_who_share_a_number_are_found(self) -> None:
        with self.trial() as trial:
            trial.finds(_MOBILE, trial.plant("Ada", _MOBILE), trial.plant("Ben", _MOBILE))

    @_checks(Capability.IDENTIFY)
    def test_a_match_by_a_switchboard_says_so(self) -> None:
        with self.trial() as trial:
            if PartyType.ORGANISATION not in trial.bench.types:
                return
            ref = trial.plant("Acme", _SWITCHBOARD, type=PartyType.ORGANISATION)
            trial.finds(_SWITCHBOARD.replace(" ", "").replace("-", ""), ref)
            found = trial.identified(_EXTENSION)
            require(
                all(party.match == "stem" for party in found),
                "who is found by the number without its extension is a match on the stem",
            )
            require(
                not trial.bench.finds_stems or [party.ref for party in found] == [ref],
                "an extension's number finds the company whose record says -0",
            )

    @_checks(Capability.IDENTIFY)
    def test_what_the_crm_keeps_of_a_party_comes_along(self) -> None:
        with self.trial() as trial:
            planted = trial.a_party(
                "Ada Byron",
                _MOBILE,
                company="Analytical & Sons",
                owner=trial.bench.user,
                tier="gold",
                language="en",
                tags=("vip", "slow payer"),
                notes="Likes mornings.",
                url="https://crm.example/ada",
            )
            ref = trial.plant(
                planted.party.name,
                _MOBILE,
                **{
                    name: getattr(planted.party, name)
                    for name in ("company", "owner", "tier", "language", "tags", "notes", "url")
                },
            )
            trial.finds(_MOBILE, ref)
            (party,) = trial.identified(_MOBILE)
            for name in sorted(trial.bench.keeps):
                found, wanted = getattr(party, name), getattr(planted.party, name)
                require(found == wanted, f"{name} of a party is what the CRM has: {wanted!r}, not {found!r}")

    @_checks(Capability.IDENTIFY)
    def test_a_name_is_text_whatever_is_in_it(self) -> None:
        with self.trial() as trial:
            ref = trial.plant(trial.bench.odd_name, _MOBILE)
            trial.finds(_MOBILE, ref)
            (party,) = trial.identified(_MOBILE)
            require(
                party.name == clean_line(trial.bench.odd_name, NAME_LIMIT),
                f"a name is what the CRM has, as text: not {party.name!r}",
            )

    @_checks(Capability.IDENTIFY)
    def test_many_questions_at_once_each_have_their_own_answer(self) -> None:
        with self.trial() as trial:
            refs = {number: trial.plant("Somebody", number) for number in (_MOBILE, _OTHER, _THIRD)}
            for number, ref in refs.items():
                trial.finds(number, ref)
            asked = [*refs, _NOBODY] * (_MANY // 4)

            async def ask_all() -> list[Sequence[Party]]:
                questions = [
                    Deferred.fromCoroutine(trial.adapter.identify(trial.number(number))) for number in asked
                ]
                return [await question for question in questions]

            for number, parties in zip(asked, in_reactor(ask_all), strict=True):
                wanted = {refs[number]} if number in refs else set()
                require(
                    {party.ref for party in parties} == wanted, "answers are not mixed up between questions"
                )

    @_checks(Capability.IDENTIFY)
    def test_a_question_that_is_given_up_lets_go_of_what_it_held(self) -> None:
        with self.trial() as trial:
            ref = trial.plant("Ada", _MOBILE)
            trial.finds(_MOBILE, ref)
            _give_up_many(lambda: trial.adapter.identify(trial.number(_MOBILE)))
            trial.finds(_MOBILE, ref)

    # The card.

    @_checks(Capability.CARD)
    def test_a_card_is_of_the_party_that_was_asked_for(self) -> None:
        with self.trial() as trial:
            refs = {name: trial.plant(name, _MOBILE) for name in ("Ada", "Ben")}
            for name, ref in refs.items():
                party = trial.card(ref)
                if party is None:
                    raise AssertionError("there is a card of who is in the CRM")
                require((party.ref, party.name) == (ref, name), "a card is of the party that was asked for")
                require(party.adapter == trial.adapter.name, "a card says which adapter it is from")

    @_checks(Capability.CARD)
    def test_there_is_no_card_of_who_is_gone(self) -> None:
        with self.trial() as trial:
            ref = trial.plant("Ada", _MOBILE)
            trial.remove(ref)
            require(trial.card(ref) is None, "who is gone has no card; that is no error")

    @_checks(Capability.CARD)
    def test_an_id_that_is_none_of_the_crm_finds_no_card(self) -> None:
        with self.trial() as trial:
            kind = trial.plant("Ada", _MOBILE).type
            for id in ("0", "-1", "' OR '1'='1", '"%*', "../../1", "1,2", "x" * ID_LIMIT):
                found = _answers(lambda id=id: trial.card(PartyRef(kind, id)))  # type: ignore[misc]
                require(
                    found in (None, _ADAPTER_ERROR), f"there is no card of {id!r}, which is nobody's id here"
                )

    @_checks(Capability.CARD)
    def test_a_card_that_is_given_up_lets_go_of_what_it_held(self) -> None:
        with self.trial() as trial:
            ref = trial.plant("Ada", _MOBILE)
            _give_up_many(lambda: trial.adapter.card(ref))
            require(trial.card(ref) is not None, "a card can be had after others were given up")

    # Search.

    @_checks(Capability.SEARCH)
    def test_search_finds_who_has_all_the_words(self) -> None:
        with self.trial() as trial:
            ada, ben = trial.plant("Ada Quillfeather", _MOBILE), trial.plant("Ben Quillfeather", _OTHER)
            trial.settles(
                lambda: {party.ref for party in trial.search("Quillfeather")} == {ada, ben},
                "search finds all who have the word in their name",
            )
            require(
                [party.ref for party in trial.search("Quillfeather Ada")] == [ada],
                "search finds only who has all the words, in whatever order",
            )
            require(trial.search("Quillfeather Zebulon") == [], "who lacks a word is not found")
            require(trial.search("Zebulonzebulon") == [], "nobody is an empty answer")

    @_checks(Capability.SEARCH)
    def test_search_answers_no_more_than_asked_for(self) -> None:
        with self.trial() as trial:
            for number in (_MOBILE, _OTHER, _THIRD):
                trial.plant("Quillfeather", number)
            trial.settles(
                lambda: len(trial.search("Quillfeather", 2)) == 2,
                "search answers as many as it was asked for, if there are so many, and no more",
            )

    @_checks(Capability.SEARCH)
    def test_what_means_something_to_a_crm_is_text_in_a_search(self) -> None:
        with self.trial() as trial:
            ref = trial.plant("Quillfeather", _MOBILE)
            trial.settles(
                lambda: [party.ref for party in trial.search("Quillfeather")] == [ref],
                "search finds who has the word in their name",
            )
            for words in (
                "%",
                "*",
                "Quill%er",
                "Quill*",
                "Quil_feather",
                "'",
                '"',
                "\\",
                "' OR ''='",
                ")(",
                "a\x00b",
            ):
                require(
                    ref not in {party.ref for party in trial.search(words)},
                    f"{words!r} is text, which is not in this party's name",
                )

    # Keys.

    @_checks(Capability.KEY)
    def test_a_key_finds_who_has_it(self) -> None:
        with self.trial() as trial:
            ref, other = trial.plant("Ada", _MOBILE), trial.plant("Ben", _OTHER)
            for each in (ref, other):
                kind, value = trial.bench.key_of(each)
                require(
                    kind in {known.name for known in trial.adapter.keys},
                    f"{kind!r} is among the adapter's keys",
                )
                trial.settles(
                    lambda kind=kind, value=value, each=each: (  # type: ignore[misc]
                        [party.ref for party in trial.by_key(kind, value)] == [each]
                    ),
                    "a key finds who has it, and nobody else",
                )
                (party,) = trial.by_key(kind, value)
                require(party.match == "key", "who is found by a key is a match on the key")

    @_checks(Capability.KEY)
    def test_a_part_of_a_key_is_another_key(self) -> None:
        with self.trial() as trial:
            ref = trial.plant("Ada", _MOBILE)
            kind, value = trial.bench.key_of(ref)
            for other in (
                value[:-1],
                value[1:],
                f"{value[:-1]}%",
                f"{value[:-1]}_",
                "*",
                "%",
                f"{value}0",
                "'",
            ):
                if other:
                    require(
                        ref not in {party.ref for party in trial.by_key(kind, other)},
                        f"a key is compared whole: {other!r} is not {value!r}",
                    )

    # Everybody, and what is different since.

    @_checks(Capability.LIST)
    def test_the_list_has_everybody_once_with_their_numbers(self) -> None:
        with self.trial() as trial:
            wanted = {
                trial.plant(f"Party {n}", *numbers): numbers for n, numbers in self._numbers(trial.bench)
            }
            listed = [each for each in trial.everybody() if each.party.ref in wanted]
            require(
                sorted(str(each.party.ref) for each in listed) == sorted(map(str, wanted)),
                "the list has everybody who is in the CRM, and each once",
            )
            for each in listed:
                plan = trial.bench.plan.for_region(each.region) if each.region else trial.bench.plan
                found = {plan.parse(number.raw).e164 for number in each.numbers}
                require(found == set(wanted[each.party.ref]), "a party is listed with all their numbers")
                require(
                    each.party.adapter == trial.adapter.name, "a listed party says which adapter it is from"
                )

    def _numbers(self, bench: Bench) -> Iterator[tuple[int, tuple[str, ...]]]:
        yield 0, (_MOBILE, _OTHER)[: bench.numbers_held]
        for n in range(1, 3 if bench.page is None else 2 * bench.page + 1):
            yield n, (f"+4477009001{n:02}",)

    @_checks(Capability.LIST)
    def test_nobody_is_passed_over_when_somebody_is_removed_while_the_list_is_read(self) -> None:
        with self.trial() as trial:
            if trial.bench.page is None:
                return
            refs = [trial.plant(f"Party {n}", *numbers) for n, numbers in self._numbers(trial.bench)]
            pages = trial.pages()
            first = {each.party.ref for each in next(pages).parties}
            removed = next(iter(first & set(refs)), None)
            if removed is not None:
                trial.remove(removed)
            seen = first | {each.party.ref for page in pages for each in page.parties}
            require(
                set(refs) - {removed} <= seen, "a list that changes while it is read passes nobody else over"
            )

    @_checks(Capability.CHANGES)
    def test_what_happens_while_the_list_is_read_is_among_the_changes(self) -> None:
        with self.trial() as trial:
            for n, numbers in self._numbers(trial.bench):
                trial.plant(f"Party {n}", *numbers)
            mark: str | None = None
            for at, page in enumerate(trial.pages()):
                if at == 0:
                    mark = page.mark
                    late = trial.plant("Late", _THIRD)
            if mark is None:
                raise AssertionError("the first page of the list has the mark that changes are asked from")
            trial.learns(
                mark,
                "the mark of a list was taken before anybody was read",
                lambda parties, _gone: late in {each.party.ref for each in parties},
            )

    @_checks(Capability.CHANGES)
    def test_changes_tell_of_new_parties_changed_ones_and_those_who_are_gone(self) -> None:
        with self.trial() as trial:
            ben = trial.plant("Ben", _OTHER)
            mark = trial.mark()
            ada = trial.plant("Ada", _MOBILE)
            mark = trial.learns(
                mark,
                "changes tell of who is new, with their numbers",
                lambda parties, _gone: self._has(trial, parties, ada, _MOBILE),
            )
            # Within the same second as what was told of already.
            trial.bench.change(ben, trial.a_party("Ben", _THIRD))
            mark = trial.learns(
                mark,
                "changes tell of who was changed, as they are now",
                lambda parties, _gone: self._has(trial, parties, ben, _THIRD),
            )
            trial.remove(ada)
            if trial.bench.tells_gone:
                trial.learns(mark, "changes tell of who is gone", lambda _parties, gone: ada in gone)

    @staticmethod
    def _has(trial: Trial, parties: Sequence[ListedParty], ref: PartyRef, e164: str) -> bool:
        latest = [each for each in parties if each.party.ref == ref][-1:]
        return any(
            trial.bench.plan.parse(number.raw).e164 == e164 for each in latest for number in each.numbers
        )

    @_checks(Capability.CHANGES)
    def test_a_mark_that_is_none_is_lost_and_not_nothing(self) -> None:
        with self.trial() as trial:
            _raises_adapter_error(lambda: trial.changes("not a mark"))

    # The CRM's users.

    @_checks(Capability.USERS)
    def test_users_are_listed_once_by_the_ids_that_own_parties(self) -> None:
        with self.trial() as trial:
            trial.plant("Ada", _MOBILE, owner=trial.bench.user)
            users: Sequence[CrmUser] = in_reactor(trial.adapter.users)
            ids = [user.id for user in users]
            require(len(ids) == len(set(ids)), "each user is listed once")
            require(trial.bench.user in (None, *ids), "a user who owns parties is among the users")

    # What is written.

    @_checks(Capability.CREATE)
    def test_who_is_taken_in_is_found_by_their_number_at_once(self) -> None:
        with self.trial() as trial:
            for type in trial.bench.types:
                new = NewParty(type, _MOBILE, trial.bench.odd_name, company="Analytical")
                party = trial.made(in_reactor(trial.adapter.create, new))
                require((party.type, party.name) == (type, new.name), "who is taken in is whom was asked for")
                require(party.adapter == trial.adapter.name, "who is taken in is of this adapter")
                require(trial.who(_MOBILE) == {party.ref}, "who is taken in is found by their number at once")
                trial.remove(party.ref)

    @_checks(Capability.JOURNAL)
    def test_a_call_is_written_once_however_often_it_is_told(self) -> None:
        with self.trial() as trial:
            ref = trial.plant("Ada", _MOBILE)
            before = len(trial.bench.journaled(_MOBILE))
            key = _a_key()
            entry = _an_entry(trial, ref, key)
            written = trial.journal(entry)
            require(written, "what was written is named")
            require(self._journaled(trial, before) == 1, "a call is one record")
            again = trial.journal(entry, written)
            require(set(again) == set(written), "what was written before is named again")
            lost = trial.journal(entry)
            require(
                set(lost) == set(written),
                "what was written is found by the call's key when the answer was lost",
            )
            require(self._journaled(trial, before) == 1, "a call that is told again is no other record")
            trial.journal(_an_entry(trial, ref, _a_key()))
            require(self._journaled(trial, before) == 2, "another call is another record")

    @_checks(Capability.JOURNAL)
    def test_a_call_that_goes_on_stays_one_record(self) -> None:
        with self.trial() as trial:
            ref, key = trial.plant("Ada", _MOBILE), _a_key()
            before = len(trial.bench.journaled(_MOBILE))
            states = [JournalState.ENDED]
            if trial.adapter.journals_early:
                states = [JournalState.RINGING, JournalState.CONNECTED, JournalState.ENDED]
            written: Sequence[Written] = ()
            for state in states:
                ended = state is JournalState.ENDED
                text = f"Call {key} is {state}"
                entry = _an_entry(trial, ref, key, state=state, text=text)
                written = trial.journal(entry if ended else evolve(entry, ended=None, talk=0.0), written)
            noted = evolve(entry, text=f"Call {key} was noted <b>5 < 6</b> & “ja” 😀")
            trial.journal(noted, written)
            require(self._journaled(trial, before) == 1, "a call that goes on stays one record")
            if trial.bench.journal_keeps_text:
                (record,) = [each for each in trial.bench.journaled(_MOBILE) if key in each]
                require(
                    noted.text in record, f"a call's text is replaced by the newest, as text: not {record!r}"
                )

    @_checks(Capability.JOURNAL)
    def test_a_call_becomes_another_partys(self) -> None:
        with self.trial() as trial:
            if not trial.bench.journals_of_parties:
                return
            ada, ben = trial.plant("Ada", _MOBILE), trial.plant("Ben", _OTHER)
            before = [len(trial.bench.journaled(number)) for number in (_MOBILE, _OTHER)]
            key = _a_key()
            written = trial.journal(_an_entry(trial, ada, key))
            entry = _an_entry(trial, ben, key, was=ada, number=_OTHER)

            def records() -> list[int]:
                return [
                    len(trial.bench.journaled(number)) - earlier
                    for number, earlier in zip((_MOBILE, _OTHER), before, strict=True)
                ]

            moved = trial.journal(entry, written)
            require(records() == [0, 1], f"a call that is another party's is theirs alone: not {records()}")
            trial.journal(entry, written)
            require(
                records() == [0, 1], "a call that is moved again, as an answer was lost, stays one record"
            )
            trial.journal(evolve(entry, was=None), moved)
            require(records() == [0, 1], "a call that was moved can be changed")

            key = _a_key()
            trial.journal(_an_entry(trial, ada, key))
            trial.journal(_an_entry(trial, ben, key, was=ada, number=_OTHER))
            require(
                records() == [0, 2], f"also if the answer to what was written first was lost: not {records()}"
            )

    @_checks(Capability.JOURNAL)
    def test_a_call_that_was_with_nobody_is_taken_back(self) -> None:
        with self.trial() as trial:
            if not trial.bench.journals_of_parties:
                return
            ada = trial.plant("Ada", _MOBILE)
            before = len(trial.bench.journaled(_MOBILE))
            entry = _an_entry(trial, ada, _a_key())
            gone = evolve(entry, party=None, was=ada)
            written = trial.journal(entry)
            for _ in range(2):
                left = in_reactor(trial.adapter.withdraw, gone, written)
                require(not left, "nothing stays of a call that is taken back")
                require(
                    self._journaled(trial, before) == 0, "a call that is taken back is not there any more"
                )
            trial.journal(entry)
            in_reactor(trial.adapter.withdraw, gone, ())
            require(self._journaled(trial, before) == 0, "what was written is found by the call's key")

    @staticmethod
    def _journaled(trial: Trial, before: int) -> int:
        return len(trial.bench.journaled(_MOBILE)) - before

    @_checks(Capability.NOTE)
    def test_a_note_is_put_on_the_party(self) -> None:
        with self.trial() as trial:
            ada, ben = trial.plant("Ada", _MOBILE), trial.plant("Ben", _OTHER)
            text = "Wants <b>5 < 6</b> & “ja”\nin two lines 😀"
            written = in_reactor(trial.adapter.note, ada, text)
            require(isinstance(written, Written), "a note that was written is named")
            require(
                any(_lines(text) in _lines(note) for note in trial.bench.notes(ada)),
                "a note is on its party, as text",
            )
            require(not any("two lines" in note for note in trial.bench.notes(ben)), "and on nobody else")

    @_checks(Capability.TASK)
    def test_a_task_is_given_with_its_owner_and_its_date(self) -> None:
        with self.trial() as trial:
            ada = trial.plant("Ada", _MOBILE)
            due = datetime.now(UTC).replace(hour=9, minute=30, second=0, microsecond=0) + timedelta(days=3)
            task = NewTask("Send <the> offer & call", due, trial.bench.user, "by mail")
            written = in_reactor(trial.adapter.add_task, ada, task)
            require(isinstance(written, Written), "a task that was given is named")
            found = [each for each in trial.bench.tasks(ada) if each.title == task.title]
            require(len(found) == 1, "a task is there once")
            # Many CRMs know the day only.
            require(found[0].due is not None and found[0].due.date() == due.date(), "a task has its date")
            require(found[0].owner == trial.bench.user, "a task has its owner")

    @_checks(Capability.NUMBERS)
    def test_a_number_is_replaced_where_it_stands(self) -> None:
        with self.trial() as trial:
            ref = trial.plant("Ada", *("0152 28817386", "0171/3920042")[: trial.bench.numbers_held])
            before = self._listed(trial, ref)
            (old,) = [each for each in before if trial.bench.plan.parse(each.raw).e164 == _MOBILE]
            in_reactor(trial.adapter.write_number, ref, old, "+49 152 28817386")
            wanted = {"+49 152 28817386" if each == old else each.raw for each in before}
            left = {each.raw for each in self._listed(trial, ref)}
            require(left == wanted, f"a number is replaced, and the others are left alone: not {left}")
            trial.finds(_MOBILE, ref)

    @_checks(Capability.NUMBERS)
    def test_a_number_that_was_changed_meanwhile_is_left_alone(self) -> None:
        with self.trial() as trial:
            ref = trial.plant("Ada", _MOBILE)
            (old,) = self._listed(trial, ref)
            trial.bench.change(ref, trial.a_party("Ada", _OTHER))
            try:
                in_reactor(trial.adapter.write_number, ref, old, "+49 152 28817386")
            except NumberChanged:
                pass
            else:
                raise AssertionError("who replaces a number that is another one by now is told NumberChanged")
            (left,) = self._listed(trial, ref)
            require(
                trial.bench.plan.parse(left.raw).e164 == _OTHER, "a number that was changed is left alone"
            )

    @staticmethod
    def _listed(trial: Trial, ref: PartyRef) -> Sequence[ListedNumber]:
        (listed,) = [each for each in trial.everybody() if each.party.ref == ref]
        return listed.numbers


_ADAPTER_ERROR: Final = object()


def _answers(question: Callable[[], Any]) -> Any:
    """What it answers, or ``_ADAPTER_ERROR`` if the adapter said that it can't."""
    try:
        return question()
    except AdapterError:
        return _ADAPTER_ERROR


def _raises_adapter_error(question: Callable[[], Any]) -> None:
    require(_answers(question) is _ADAPTER_ERROR, "what cannot be answered is an AdapterError, not an answer")


def _give_up_many(question: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    async def give_up() -> None:
        for _ in range(_MANY):
            asked = Deferred.fromCoroutine(question())
            asked.cancel()
            with suppress(CancelledError):
                await asked

    in_reactor(give_up)


def _members(interface: type[Any]) -> frozenset[str]:
    return frozenset(
        name
        for each in interface.__mro__
        for name in vars(each)
        if not name.startswith("_") and each is not object
    )


def _lines(text: str) -> str:
    """Where a line ends is left to the CRM."""
    return " ".join(text.split())


def _an_entry(trial: Trial, ref: PartyRef, key: str, **changes: Any) -> JournalEntry:
    started = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=3)
    ended = JournalEntry(
        key=key,
        state=JournalState.ENDED,
        direction="inbound",
        started=started,
        ended=started + timedelta(seconds=95),
        party=ref,
        number=_MOBILE,
        user=trial.bench.user,
        duration=95.0,
        talk=80.5,
        subject=f"Call {key}",
        text=f"Call {key} was answered",
        disposition="sold",
    )
    return evolve(ended, **changes)


def _a_key() -> str:
    return f"conformance-{time.time_ns():x}"
