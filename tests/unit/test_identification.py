"""Identification: every adapter is asked at once, and none can harm the others or use up the time."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from adapters.base import (
    AdapterBusy,
    AdapterContext,
    AdapterHealth,
    AdapterTimeout,
    AdapterUnavailable,
    Capability,
    Case,
    IAdapter,
    LastContact,
    Party,
    PartyType,
)
from adapters.testing import (
    FailingAdapter,
    FailingOptions,
    HangingAdapter,
    NoOptions,
    SlowAdapter,
    SlowOptions,
)
from cti.identify.asking import PARTIES_LIMIT
from cti.identify.identification import Identification, Outcome
from cti.identify.identifier import Identifier
from cti.identify.options import Asking, CacheSettings, Live, Options, Order
from cti.numbers import Number, NumberPlan

GERMANY = NumberPlan("DE")
NUMBER = GERMANY.parse("0152 28817386")


def a_context(clock: Clock | None = None) -> AdapterContext:
    return AdapterContext(Path(), GERMANY, clock or Clock())


class KnowingAdapter:
    """Answers with what a test gives it: parties, or what an awful adapter does."""

    def __init__(
        self, name: str, answer: Callable[[Number], Awaitable[Any]], *, identifies: bool = True
    ) -> None:
        self.name = name
        self.capabilities = frozenset({Capability.IDENTIFY} if identifies else ())
        self._answer = answer

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=True)

    async def identify(self, number: Number) -> Sequence[Party]:
        answer: Sequence[Party] = await self._answer(number)
        return answer


def knowing(name: str, *parties: Party) -> KnowingAdapter:
    async def answer(_: Number) -> list[Party]:
        return list(parties)

    return KnowingAdapter(name, answer)


def answering(name: str, answer: Any) -> KnowingAdapter:
    async def answered(_: Number) -> Any:
        return answer

    return KnowingAdapter(name, answered)


def raising(name: str, error: BaseException) -> KnowingAdapter:
    async def answer(_: Number) -> Any:
        raise error

    return KnowingAdapter(name, answer)


def waiting_for(name: str, deferred: Deferred[Any]) -> KnowingAdapter:
    async def answer(_: Number) -> Any:
        return await deferred

    return KnowingAdapter(name, answer)


def hanging(name: str) -> HangingAdapter:
    return HangingAdapter(name, NoOptions(), a_context())


def slow(name: str, seconds: float, clock: Clock) -> SlowAdapter:
    return SlowAdapter(name, SlowOptions(seconds), a_context(clock))


def a_party(adapter: str = "crm", party_id: str = "17", **attributes: Any) -> Party:
    return Party(adapter, attributes.pop("type", PartyType.CONTACT), party_id, "Žana Kovač", **attributes)


def an_identifier(
    clock: Clock,
    *adapters: Any,
    owners: Mapping[tuple[str, str], str] = {},
    asking: Mapping[str, Asking] | None = None,
    index: Any = None,
    own: Collection[str] = (),
    ignored: Collection[str] = (),
    spoken: Callable[[str], Sequence[Any]] = lambda _: (),
    chosen: Callable[[str], Sequence[Any]] = lambda _: (),
    observe: Callable[[str, Outcome, float], None] = lambda *_: None,
    **options: Any,
) -> Identifier:
    """With an `index`, and otherwise without what could hide a question: no cache unless a test asks for one."""
    by_name: dict[str, IAdapter] = {adapter.name: adapter for adapter in adapters}
    return Identifier(
        by_name,
        clock,
        owners=lambda adapter, user: owners.get((adapter, user)),
        plan=GERMANY,
        own=own,
        options=Options(**{"patience": 10.0, "cache": CacheSettings(0, 0, 0), **options}),
        asking=asking,
        index=index,
        ignored=lambda number: number in ignored,
        spoken=spoken,
        chosen=chosen,
        observe=observe,
    )


def asked(identifier: Identifier, number: Number = NUMBER) -> list[Any]:
    """The list into which the identification, or its failure, comes."""
    answers: list[Any] = []
    Deferred.fromCoroutine(identifier.identify(number)).addBoth(answers.append)
    return answers


def known_at_once(identifier: Identifier, number: Number = NUMBER) -> Identification:
    (answer,) = asked(identifier, number)
    assert isinstance(answer, Identification)
    return answer


def outcomes(identification: Identification) -> dict[str, str]:
    return {outcome.adapter: outcome.outcome.value for outcome in identification.adapters}


def test_what_all_adapters_know_comes_together_in_their_order() -> None:
    clock = Clock()
    found = known_at_once(
        an_identifier(
            clock,
            knowing("zeta", a_party("zeta", "2"), a_party("zeta", "1"), a_party("zeta", "1")),
            knowing("alpha", a_party("alpha", "9")),
            knowing("empty"),
        )
    )
    assert [(party.adapter, party.id) for party in found.parties] == [
        ("zeta", "1"),
        ("zeta", "2"),
        ("alpha", "9"),
    ]
    assert outcomes(found) == {"zeta": "hit", "alpha": "hit", "empty": "miss"}
    assert found.ambiguous
    assert found.party is None
    assert found.resolved_by == "ask"


def test_an_answer_at_once_leaves_no_timer_behind() -> None:
    clock = Clock()
    found = known_at_once(an_identifier(clock, knowing("crm", a_party())))
    assert not found.ambiguous
    assert clock.getDelayedCalls() == []


def test_slow_adapters_run_side_by_side() -> None:
    clock = Clock()
    answers = asked(an_identifier(clock, slow("a", 0.5, clock), slow("b", 0.6, clock)))
    clock.advance(0.5)
    assert answers == []
    clock.advance(0.1)
    assert outcomes(answers[0]) == {"a": "hit", "b": "hit"}
    assert [outcome.ms for outcome in answers[0].adapters] == [500.0, 600.0]
    assert answers[0].ms == 600.0
    assert clock.getDelayedCalls() == []


def test_an_adapter_that_hangs_is_cancelled_at_the_end_of_the_budget_and_the_rest_counts() -> None:
    clock = Clock()
    dead = hanging("dead")
    answers = asked(an_identifier(clock, dead, knowing("crm", a_party()), budget=0.8))
    clock.advance(0.79)
    assert (answers, dead.cancelled) == ([], 0)
    clock.advance(0.01)
    assert outcomes(answers[0]) == {"dead": "timeout", "crm": "hit"}
    assert dead.cancelled == 1
    assert clock.getDelayedCalls() == []


def test_an_adapter_may_have_less_time_than_the_budget_but_never_more() -> None:
    clock = Clock()
    identifier = an_identifier(
        clock,
        hanging("a"),
        hanging("b"),
        asking={"a": Asking(deadline=0.2), "b": Asking(deadline=60.0)},
        budget=0.8,
    )
    answers = asked(identifier)
    clock.advance(0.2)
    clock.advance(0.6)
    assert [round(outcome.ms) for outcome in answers[0].adapters] == [200, 800]


def test_an_adapter_that_refuses_to_be_cancelled_is_not_waited_for() -> None:
    async def stubborn(_: Number) -> Any:
        while True:
            try:
                await Deferred()
            except CancelledError:
                continue

    clock = Clock()
    answers = asked(an_identifier(clock, KnowingAdapter("stubborn", stubborn), knowing("crm", a_party())))
    clock.advance(0.8)
    assert outcomes(answers[0]) == {"stubborn": "timeout", "crm": "hit"}


def test_an_answer_after_the_deadline_changes_nothing() -> None:
    kept: list[Deferred[None]] = []

    async def late(_: Number) -> Any:
        try:
            await Deferred()
        except CancelledError:
            kept.append(Deferred())
            await kept[0]
        return [a_party("late")]

    clock = Clock()
    answers = asked(an_identifier(clock, KnowingAdapter("late", late)))
    clock.advance(0.8)
    kept[0].callback(None)
    assert outcomes(answers[0]) == {"late": "timeout"}
    assert answers[0].parties == ()


def test_an_adapter_whose_clearing_up_fails_harms_nobody() -> None:
    def canceller(_: Deferred[Any]) -> None:
        raise RuntimeError("pool is gone")

    clock = Clock()
    answers = asked(an_identifier(clock, waiting_for("crm", Deferred(canceller)), hanging("dead")))
    clock.advance(0.8)
    assert outcomes(answers[0]) == {"crm": "timeout", "dead": "timeout"}
    assert answers[0].adapters[0].error.startswith("RuntimeError in canceller")


def test_a_cancelled_identification_cancels_every_adapter() -> None:
    clock = Clock()
    first, second = hanging("first"), slow("second", 0.5, clock)
    running = Deferred.fromCoroutine(an_identifier(clock, first, second).identify(NUMBER))
    failures: list[Failure] = []
    running.addErrback(failures.append)
    running.cancel()
    assert failures[0].check(CancelledError)
    assert (first.cancelled, second.cancelled) == (1, 1)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("adapter", "error"),
    [
        (FailingAdapter("bad", FailingOptions("the CRM answers 503"), a_context()), "the CRM answers 503"),
        (answering("bad", None), "answered with NoneType, not with a list"),
        (answering("bad", "Anna"), "answered with str, not with a list"),
        (answering("bad", [{"name": "Anna"}]), "answered with dict among its parties"),
        (answering("bad", [a_party("other")]), "a party that is not its own"),
        (
            answering("bad", [a_party("bad", str(n)) for n in range(PARTIES_LIMIT + 1)]),
            "found 101 parties for one number",
        ),
    ],
)
def test_an_adapter_that_fails_or_answers_rubbish_is_an_error_and_the_rest_counts(
    adapter: Any, error: str
) -> None:
    found = known_at_once(an_identifier(Clock(), adapter, knowing("crm", a_party())))
    assert outcomes(found) == {"bad": "error", "crm": "hit"}
    assert [party.adapter for party in found.parties] == ["crm"]
    assert error in (found.adapters[0].error or "")


def test_an_adapter_that_is_not_even_a_coroutine_is_an_error() -> None:
    class Wrong(KnowingAdapter):
        def identify(self, number: Number) -> Any:
            return []

    found = known_at_once(an_identifier(Clock(), Wrong("bad", lambda _: Deferred())))
    assert outcomes(found) == {"bad": "error"}


def test_an_error_that_comes_later_is_an_error_too() -> None:
    clock = Clock()
    answer: Deferred[Any] = Deferred()
    answers = asked(an_identifier(clock, waiting_for("crm", answer)))
    clock.advance(0.1)
    answer.errback(ConnectionResetError("by peer"))
    assert outcomes(answers[0]) == {"crm": "error"}
    assert answers[0].adapters[0].ms == 100.0


@pytest.mark.parametrize("error", [AdapterTimeout("no answer in 500 ms"), TimeoutError()])
def test_an_adapter_that_watches_its_own_time_is_a_timeout_not_an_error(error: Exception) -> None:
    assert outcomes(known_at_once(an_identifier(Clock(), raising("crm", error)))) == {"crm": "timeout"}


def test_what_an_unknown_exception_says_of_a_person_is_not_in_the_error() -> None:
    error = ValueError("no such customer: Žana Kovač, +4915228817386")
    found = known_at_once(an_identifier(Clock(), raising("crm", error)))
    text = found.adapters[0].error or ""
    assert text.startswith("ValueError in answer (test_identification.py:")
    assert "Kovač" not in text
    assert "+49" not in text


@pytest.mark.parametrize("raw", ["anonymous", "unknown", "", "101", "hello"])
def test_what_is_no_public_number_is_not_looked_up(raw: str) -> None:
    adapter = hanging("crm")
    found = known_at_once(an_identifier(Clock(), adapter), GERMANY.parse(raw))
    assert outcomes(found) == {"crm": "skipped"}
    assert adapter.asked == []
    assert found.party is None


def test_an_adapter_that_cannot_identify_is_not_asked() -> None:
    clock = Clock()
    journal_only = KnowingAdapter("journal", lambda _: Deferred(), identifies=False)
    assert outcomes(known_at_once(an_identifier(clock, journal_only))) == {}


def test_each_adapter_is_observed_once_with_its_outcome_and_seconds() -> None:
    seen: list[tuple[str, Outcome, float]] = []
    clock = Clock()
    identifier = an_identifier(
        clock,
        slow("slow", 0.5, clock),
        hanging("dead"),
        knowing("empty"),
        observe=lambda *observed: seen.append(observed),
    )
    asked(identifier)
    clock.advance(0.5)
    clock.advance(0.3)
    assert seen == [("slow", "hit", 0.5), ("dead", "timeout", 0.8), ("empty", "miss", 0.0)]


def test_an_observer_that_fails_is_not_hidden() -> None:
    def observe(*_: object) -> None:
        raise LookupError("no such metric")

    (failure,) = asked(an_identifier(Clock(), knowing("crm"), observe=observe))
    assert failure.check(LookupError)


def test_who_of_ours_had_to_do_with_a_party_is_named_as_our_agent() -> None:
    contacts = [LastContact("2026-01-05T10:00:00Z", "call", user) for user in ("u1", "u9", None)]
    party = a_party("crm", "1", last_contacts=contacts)
    found = known_at_once(an_identifier(Clock(), knowing("crm", party), owners={("crm", "u1"): "anna"}))
    (answer,) = found.as_json()["parties"]
    assert [(each["user"], each["agent"]) for each in answer["last_contacts"]] == [
        ("u1", "anna"),
        ("u9", None),
        (None, None),
    ]


def test_the_answer_for_the_api_names_our_agent_and_the_crms_user() -> None:
    parties = (
        a_party("crm", "1", owner="u1", tier="gold", language="sl", tags=("vip",)),
        a_party("crm", "2", owner="u2"),
        a_party("crm", "3"),
    )
    found = known_at_once(an_identifier(Clock(), knowing("crm", *parties), owners={("crm", "u1"): "anna"}))
    assert [found.owner_of(party) for party in found.parties] == ["anna", None, None]
    answer = found.as_json()
    assert (answer["number"], answer["e164"], answer["ambiguous"]) == (
        "0152 28817386",
        "+4915228817386",
        True,
    )
    assert answer["adapters"] == [{"adapter": "crm", "outcome": "hit", "ms": 0.0, "source": "live"}]
    assert [(party["owner"], party["owner_user"]) for party in answer["parties"]] == [
        ("anna", "u1"),
        (None, "u2"),
        (None, None),
    ]
    first = answer["parties"][0]
    assert {key: first[key] for key in ("adapter", "type", "id", "name", "company", "url", "match")} == {
        "adapter": "crm",
        "type": "contact",
        "id": "1",
        "name": "Žana Kovač",
        "company": "",
        "url": None,
        "match": "number",
    }
    assert (first["tier"], first["language"], first["tags"]) == ("gold", "sl", ["vip"])


def test_nobody_known_is_an_empty_list() -> None:
    answer = known_at_once(an_identifier(Clock(), knowing("crm"))).as_json()
    assert (answer["parties"], answer["ambiguous"]) == ([], False)


# Only who has the number, and none of ours.


def test_everybody_instead_of_nobody_is_an_error_and_no_party() -> None:
    everybody = [a_party("crm", str(each), numbers=[f"+49 30 23125 {100 + each}"]) for each in range(50)]
    found = known_at_once(
        an_identifier(Clock(), knowing("crm", *everybody), knowing("book", a_party("book")))
    )
    assert outcomes(found) == {"crm": "error", "book": "hit"}
    assert [party.adapter for party in found.parties] == ["book"]
    assert "none of whom has the number" in (found.adapters[0].error or "")


@pytest.mark.parametrize(
    "written",
    ["+49 152 28817386", "0152/288 17 386", "0049 (0)152 28817386", "tel:+49-152-28817386", "152 28817386"],
)
def test_of_many_who_come_back_those_count_who_have_the_number_however_it_is_written(written: str) -> None:
    parties = [
        a_party("crm", "1", numbers=["+49 30 23125 001", written]),
        a_party("crm", "2", numbers=["030 23125 002"]),
    ]
    found = known_at_once(an_identifier(Clock(), knowing("crm", *parties)))
    assert [party.id for party in found.parties] == ["1"]


def test_a_number_written_as_within_another_country_is_compared_by_its_digits() -> None:
    number = GERMANY.parse("+44 20 7946 0018")
    parties = [
        a_party("crm", "1", numbers=["020 7946 0018"]),
        a_party("crm", "2", numbers=["020 7946 0019"]),
        a_party("crm", "3", numbers=["0018"]),
    ]
    found = known_at_once(an_identifier(Clock(), knowing("crm", *parties)), number)
    assert [party.id for party in found.parties] == ["1"]


def test_a_switchboard_that_comes_back_has_the_number_of_its_extensions() -> None:
    number = GERMANY.parse("+49 40 66969-27")
    parties = [
        a_party("crm", "1", numbers=["040 66969-0"], match="stem"),
        a_party("crm", "2", numbers=["040 66979-0"], match="stem"),
    ]
    found = known_at_once(an_identifier(Clock(), knowing("crm", *parties)), number)
    assert [party.id for party in found.parties] == ["1"]


def test_numbers_that_came_back_are_shown_nowhere() -> None:
    party = a_party("crm", "1", numbers=["+49 152 28817386"])
    found = known_at_once(an_identifier(Clock(), knowing("crm", party)))
    assert "28817386" not in str(found.as_json()["parties"])
    assert "28817386" not in repr(party)


def test_a_number_of_ours_is_nobodys_whatever_the_adapter_says() -> None:
    crm = hanging("crm")
    found = known_at_once(
        an_identifier(Clock(), crm, knowing("book", a_party("book")), own={"+4915228817386"})
    )
    assert outcomes(found) == {"crm": "skipped", "book": "skipped"}
    assert (found.parties, crm.asked) == ((), [])


def test_for_an_ignored_number_nobody_is_asked_and_that_is_told() -> None:
    crm = hanging("crm")
    found = known_at_once(an_identifier(Clock(), crm, ignored={"+4915228817386"}))
    assert (outcomes(found), crm.asked) == ({"crm": "skipped"}, [])
    assert found.as_json()["ignored"] is True


# One after the other, and how long others are waited for.


def test_in_sequence_who_comes_first_in_the_configuration_is_asked_first_and_a_hit_is_enough() -> None:
    later = hanging("later")
    found = known_at_once(
        an_identifier(Clock(), knowing("none"), knowing("crm", a_party()), later, order=Order.SEQUENCE)
    )
    assert outcomes(found) == {"none": "miss", "crm": "hit", "later": "skipped"}
    assert later.asked == []


def test_in_sequence_one_that_hangs_leaves_the_others_their_share_of_the_time() -> None:
    clock = Clock()
    identifier = an_identifier(
        clock, hanging("dead"), slow("slow", 0.3, clock), budget=0.8, order=Order.SEQUENCE
    )
    answers = asked(identifier)
    clock.advance(0.4)
    assert answers == []
    clock.advance(0.3)
    assert outcomes(answers[0]) == {"dead": "timeout", "slow": "hit"}
    assert answers[0].ms == 700.0
    assert clock.getDelayedCalls() == []


def test_once_somebody_is_found_the_others_have_a_moment_and_no_more() -> None:
    clock = Clock()
    dead = hanging("dead")
    answers = asked(
        an_identifier(clock, dead, knowing("crm", a_party()), slow("slow", 0.2, clock), patience=0.25)
    )
    clock.advance(0.2)
    assert answers == []
    clock.advance(0.05)
    assert outcomes(answers[0]) == {"dead": "timeout", "crm": "hit", "slow": "hit"}
    assert dead.cancelled == 1
    assert clock.getDelayedCalls() == []


def test_the_moment_is_never_beyond_the_budget() -> None:
    clock = Clock()
    answers, _ = asked_with_late(
        an_identifier(clock, hanging("dead"), slow("slow", 0.7, clock), patience=0.5, budget=0.8)
    )
    clock.advance(0.7)
    clock.advance(0.101)
    assert outcomes(answers[0]) == {"dead": "timeout", "slow": "hit"}


# Too late for the answer.


def asked_with_late(identifier: Identifier) -> tuple[list[Any], list[Identification]]:
    answers: list[Any] = []
    late: list[Identification] = []
    Deferred.fromCoroutine(identifier.identify(NUMBER, late.append)).addBoth(answers.append)
    return answers, late


def test_an_answer_that_comes_late_is_told_with_all_that_the_others_said() -> None:
    clock = Clock()
    answers, late = asked_with_late(
        an_identifier(clock, slow("slow", 2.0, clock), knowing("empty"), budget=0.8)
    )
    clock.advance(0.8)
    assert outcomes(answers[0]) == {"slow": "timeout", "empty": "miss"}
    assert late == []
    clock.advance(1.2)
    (found,) = late
    assert outcomes(found) == {"slow": "hit", "empty": "miss"}
    assert found.party is not None
    assert (found.adapters[0].ms, found.ms) == (2000.0, 800.0)
    assert clock.getDelayedCalls() == []


def test_who_is_late_and_knows_nobody_is_no_news() -> None:
    clock = Clock()
    answer: Deferred[Any] = Deferred()
    answers, late = asked_with_late(an_identifier(clock, waiting_for("crm", answer)))
    clock.advance(0.8)
    answer.callback([])
    assert (len(answers), late) == (1, [])


def test_after_its_own_deadline_it_is_cancelled_for_the_card_too() -> None:
    clock = Clock()
    dead = hanging("dead")
    answers, late = asked_with_late(an_identifier(clock, dead, asking={"dead": Asking(deadline=3.0)}))
    clock.advance(0.8)
    assert (len(answers), dead.cancelled) == (1, 0)
    clock.advance(2.2)
    assert (late, dead.cancelled) == ([], 1)
    assert clock.getDelayedCalls() == []


def test_an_identifier_that_is_closed_lets_go_of_late_answers() -> None:
    clock = Clock()
    dead = hanging("dead")
    identifier = an_identifier(clock, dead)
    asked_with_late(identifier)
    clock.advance(0.8)
    identifier.close()
    assert dead.cancelled == 1
    assert clock.getDelayedCalls() == []


# How much each is asked.


def test_no_more_questions_at_once_than_its_cap_and_the_next_gets_its_turn() -> None:
    clock = Clock()
    crm = slow("crm", 0.3, clock)
    identifier = an_identifier(clock, crm, asking={"crm": Asking(concurrency=2)})
    answers = [asked(identifier) for _ in range(3)]
    assert len(crm.asked) == 2
    clock.advance(0.3)
    assert [len(each) for each in answers] == [1, 1, 0]
    assert len(crm.asked) == 3
    clock.advance(0.3)
    assert outcomes(answers[2][0]) == {"crm": "hit"}
    assert answers[2][0].ms == 600.0


def test_whose_turn_does_not_come_in_time_was_never_asked_and_the_adapter_is_not_to_blame() -> None:
    clock = Clock()
    crm = slow("crm", 0.7, clock)
    identifier = an_identifier(clock, crm, asking={"crm": Asking(concurrency=1, breaker_failures=1)})
    first, second = asked(identifier), asked(identifier)
    clock.advance(0.7)
    clock.advance(0.101)
    assert (outcomes(first[0]), outcomes(second[0])) == ({"crm": "hit"}, {"crm": "timeout"})
    third = asked(identifier)
    clock.advance(0.7)
    assert outcomes(third[0])["crm"] == "hit"


def test_who_waits_for_a_turn_is_bounded_too() -> None:
    clock = Clock()
    crm = hanging("crm")
    identifier = an_identifier(clock, crm, asking={"crm": Asking(concurrency=1, breaker_failures=1000)})
    answers = [asked(identifier) for _ in range(20)]
    assert [outcomes(each[0]) for each in answers if each] == [{"crm": "skipped"}] * 3
    assert len(crm.asked) == 1


def test_a_rate_is_kept_and_whose_turn_would_come_too_late_is_not_made_to_wait() -> None:
    clock = Clock()
    crm = hanging("crm")
    identifier = an_identifier(clock, crm, asking={"crm": Asking(per_second=2.0)}, budget=0.8)
    for _ in range(3):
        asked(identifier)
    assert len(crm.asked) == 2
    clock.advance(0.5)
    assert len(crm.asked) == 3, "half a second later it is the third one's turn"
    slower = an_identifier(clock, crm, asking={"crm": Asking(per_second=0.5)}, budget=0.8)
    first, second = asked(slower), asked(slower)
    assert (first, outcomes(second[0])) == ([], {"crm": "skipped"})


def test_a_crm_that_asks_for_a_pause_gets_it_and_is_not_broken() -> None:
    clock = Clock()
    replies: list[Any] = [AdapterBusy("too many requests", 30.0)]

    async def busy(_: Number) -> Any:
        if replies:
            raise replies.pop()
        return [a_party()]

    identifier = an_identifier(clock, KnowingAdapter("crm", busy), asking={"crm": Asking(breaker_failures=1)})
    assert outcomes(known_at_once(identifier)) == {"crm": "error"}
    assert outcomes(known_at_once(identifier)) == {"crm": "skipped"}
    clock.advance(30.0)
    assert outcomes(known_at_once(identifier)) == {"crm": "hit"}


def test_an_adapter_that_fails_again_and_again_is_left_alone_and_probed_after_a_while() -> None:
    clock = Clock()
    failing = FailingAdapter("bad", FailingOptions(), a_context())
    asking = {"bad": Asking(breaker_failures=3, breaker_seconds=30.0)}
    identifier = an_identifier(clock, failing, asking=asking)
    told = [outcomes(known_at_once(identifier))["bad"] for _ in range(5)]
    assert told == ["error", "error", "error", "open", "open"]
    assert len(failing.asked) == 3
    clock.advance(30.0)
    assert [outcomes(known_at_once(identifier))["bad"] for _ in range(2)] == ["error", "open"]
    assert len(failing.asked) == 4


def test_a_hanging_adapter_costs_the_budget_a_few_times_and_then_nothing() -> None:
    clock = Clock()
    dead = hanging("dead")
    identifier = an_identifier(clock, dead, asking={"dead": Asking(breaker_failures=2)})
    for _ in range(2):
        answers = asked(identifier)
        clock.advance(0.8)
        assert outcomes(answers[0]) == {"dead": "timeout"}
    assert outcomes(known_at_once(identifier)) == {"dead": "open"}


def test_an_adapter_that_is_slow_but_answers_is_not_left_alone() -> None:
    clock = Clock()
    identifier = an_identifier(clock, slow("slow", 1.0, clock), asking={"slow": Asking(breaker_failures=2)})
    for _ in range(5):
        answers, late = asked_with_late(identifier)
        clock.advance(0.8)
        clock.advance(0.2)
        assert outcomes(answers[0]) == {"slow": "timeout"}
        assert len(late) == 1


def test_when_it_opens_those_who_wait_for_a_turn_need_not_wait() -> None:
    clock = Clock()
    answer: Deferred[Any] = Deferred()
    identifier = an_identifier(
        clock, waiting_for("crm", answer), asking={"crm": Asking(concurrency=1, breaker_failures=1)}
    )
    asked(identifier)
    second = asked(identifier)
    answer.errback(ConnectionResetError())
    assert outcomes(second[0]) == {"crm": "open"}


def test_a_probe_that_nobody_waits_for_any_more_does_not_leave_it_open_for_ever() -> None:
    clock = Clock()
    dead = hanging("dead")
    identifier = an_identifier(clock, dead, asking={"dead": Asking(breaker_failures=1, breaker_seconds=30)})
    asked(identifier)
    clock.advance(0.8)
    clock.advance(30)
    probe = Deferred.fromCoroutine(identifier.identify(NUMBER))
    probe.addErrback(lambda failure: None)
    probe.cancel()
    asked(identifier)
    assert len(dead.asked) == 3


def test_an_adapter_that_does_not_let_go_keeps_its_place_so_that_there_are_never_more() -> None:
    started: list[int] = []

    async def stubborn(_: Number) -> Any:
        started.append(1)
        while True:
            try:
                await Deferred()
            except CancelledError:
                continue

    clock = Clock()
    identifier = an_identifier(
        clock,
        KnowingAdapter("crm", stubborn),
        asking={"crm": Asking(concurrency=2, breaker_failures=1000)},
    )
    for _ in range(10):
        asked(identifier)
        clock.advance(0.8)
    assert len(started) == 2


def test_many_who_wait_for_an_adapter_that_answers_at_once_do_not_pile_up_on_the_stack() -> None:
    held: list[Deferred[Any]] = [Deferred() for _ in range(50)]
    waiting = list(held)

    async def answer(_: Number) -> Any:
        return await waiting.pop() if waiting else []

    crm = KnowingAdapter("crm", answer)
    identifier = an_identifier(Clock(), crm, asking={"crm": Asking(concurrency=50)})
    answers = [asked(identifier) for _ in range(800)]
    held[0].callback([])
    assert [len(each) for each in answers].count(1) == 751


# What was answered a moment ago.


def kept(seconds: float = 60, misses_seconds: float = 15, entries: int = 100) -> CacheSettings:
    return CacheSettings(seconds, misses_seconds, entries)


class Counting(KnowingAdapter):
    """Counts how often it is asked; `parties` are its answer."""

    def __init__(self, *parties: Party, local: bool = False) -> None:
        async def answer(_: Number) -> list[Party]:
            self.count += 1
            return list(self.parties)

        super().__init__("crm", answer)
        self.count = 0
        self.parties = parties
        if local:
            self.capabilities |= {Capability.LOCAL}


def test_who_was_asked_about_a_moment_ago_costs_no_second_question() -> None:
    clock, crm = Clock(), Counting(a_party())
    identifier = an_identifier(clock, crm, cache=kept(60))
    known_at_once(identifier)
    clock.advance(59.9)
    again = known_at_once(identifier)
    assert (crm.count, again.adapters[0].source, again.parties) == (1, "cache", (a_party(),))
    assert again.adapters[0].as_json()["age"] == 59.9
    clock.advance(0.1)
    known_at_once(identifier)
    assert crm.count == 2


def test_misses_are_kept_for_their_own_while() -> None:
    clock, crm = Clock(), Counting()
    identifier = an_identifier(clock, crm, cache=kept(misses_seconds=15))
    known_at_once(identifier)
    clock.advance(14.9)
    assert outcomes(known_at_once(identifier)) == {"crm": "miss"}
    assert crm.count == 1
    clock.advance(0.1)
    known_at_once(identifier)
    assert crm.count == 2


def test_a_failure_is_not_kept() -> None:
    clock = Clock()
    bad = FailingAdapter("bad", FailingOptions(), a_context())
    identifier = an_identifier(clock, bad, cache=kept())
    known_at_once(identifier)
    known_at_once(identifier)
    assert len(bad.asked) == 2


def test_whoever_creates_or_edits_a_party_is_found_at_once() -> None:
    crm = Counting()
    identifier = an_identifier(Clock(), crm, cache=kept())
    known_at_once(identifier)
    crm.parties = (a_party(),)
    identifier.forget("crm", "+4915228817386")
    assert outcomes(known_at_once(identifier)) == {"crm": "hit"}
    crm.parties = ()
    identifier.forget("other")
    assert outcomes(known_at_once(identifier)) == {"crm": "hit"}
    identifier.forget("crm")
    assert outcomes(known_at_once(identifier)) == {"crm": "miss"}


def test_no_more_answers_are_kept_than_it_was_told_the_oldest_going_first() -> None:
    crm = Counting()
    identifier = an_identifier(Clock(), crm, cache=kept(entries=2))
    numbers = [GERMANY.parse(f"+49 30 23125 00{each}") for each in (1, 2, 3)]
    for number in (*numbers, numbers[2], numbers[1]):
        known_at_once(identifier, number)
    assert crm.count == 3
    known_at_once(identifier, numbers[0])
    assert (crm.count, len(identifier.cache)) == (4, 2)


def test_an_adapter_that_answers_from_this_machine_is_always_asked() -> None:
    crm = Counting(a_party(), local=True)
    identifier = an_identifier(Clock(), crm, cache=kept())
    known_at_once(identifier)
    known_at_once(identifier)
    assert (crm.count, len(identifier.cache)) == (2, 0)


# The index.


class Listed:
    """A phone index with these parties for every number; complete or not."""

    def __init__(self, *parties: Party, complete: bool = True) -> None:
        self.parties = parties
        self.complete = complete

    def lookup(self, number: Number, adapter: str | None) -> Sequence[Party]:
        return self.parties

    def covers(self, adapter: str) -> bool:
        return self.complete

    def age(self, adapter: str) -> float | None:
        return 3600.0


def listing(adapter: KnowingAdapter) -> KnowingAdapter:
    adapter.capabilities |= {Capability.LIST}
    return adapter


def test_who_is_in_the_index_is_found_there_and_the_crm_is_left_in_peace() -> None:
    crm = Counting(a_party("crm", "2"))
    found = known_at_once(an_identifier(Clock(), listing(crm), index=Listed(a_party("crm", "1"))))
    assert ([party.id for party in found.parties], crm.count) == (["1"], 0)
    told = {"adapter": "crm", "outcome": "hit", "ms": 0.0, "source": "index", "age": 3600.0}
    assert found.adapters[0].as_json() == told


def test_whom_the_index_does_not_know_the_crm_is_asked_about() -> None:
    crm = Counting(a_party("crm", "2"))
    found = known_at_once(an_identifier(Clock(), listing(crm), index=Listed()))
    assert ([party.id for party in found.parties], found.adapters[0].source) == (["2"], "live")


def test_with_always_the_crm_has_the_last_word_and_the_index_the_word_while_it_is_away() -> None:
    asking = {"crm": Asking(live=Live.ALWAYS)}
    index = Listed(a_party("crm", "1"))
    crm = Counting(a_party("crm", "2"))
    found = known_at_once(an_identifier(Clock(), listing(crm), index=index, asking=asking))
    assert [party.id for party in found.parties] == ["2"]
    away = listing(raising("crm", AdapterUnavailable("gone")))
    found = known_at_once(an_identifier(Clock(), away, index=index, asking=asking))
    assert [party.id for party in found.parties] == ["1"]
    (told,) = found.adapters
    assert (told.outcome, told.source, told.age) == ("hit", "index", 3600.0)
    assert told.error == "live: error, AdapterUnavailable: gone"


def test_with_never_a_miss_of_the_whole_index_is_a_miss_and_of_a_part_of_it_nothing() -> None:
    asking = {"crm": Asking(live=Live.NEVER)}
    crm = Counting(a_party())
    whole = known_at_once(an_identifier(Clock(), listing(crm), index=Listed(), asking=asking))
    part = known_at_once(an_identifier(Clock(), listing(crm), index=Listed(complete=False), asking=asking))
    none = known_at_once(an_identifier(Clock(), crm, asking=asking))
    assert [outcomes(each)["crm"] for each in (whole, part, none)] == ["miss", "skipped", "skipped"]
    assert part.adapters[0].error == "its index is not complete yet"
    assert crm.count == 0


def test_an_adapter_that_is_not_to_be_listed_is_asked_itself() -> None:
    crm = Counting(a_party("crm", "2"))
    identifier = an_identifier(
        Clock(), listing(crm), index=Listed(a_party("crm", "1")), asking={"crm": Asking(index=False)}
    )
    assert [party.id for party in known_at_once(identifier).parties] == ["2"]


def test_an_adapter_of_this_machine_is_asked_itself_and_not_the_index_unless_it_is_told_so() -> None:
    crm = Counting(a_party("crm", "2"), local=True)
    index = Listed(a_party("crm", "1"))
    found = known_at_once(an_identifier(Clock(), listing(crm), index=index))
    assert ([party.id for party in found.parties], found.adapters[0].source) == (["2"], "live")
    asking = {"crm": Asking(live=Live.UNKNOWN)}
    found = known_at_once(an_identifier(Clock(), listing(crm), index=index, asking=asking))
    assert [party.id for party in found.parties] == ["1"]


def test_several_in_the_index_are_asked_about_where_their_cases_have_to_settle_it() -> None:
    index = Listed(a_party("crm", "1"), a_party("crm", "2"))
    crm = Counting(a_party("crm", "1"), a_party("crm", "2", cases=[Case("7", "Broken")]))
    found = known_at_once(an_identifier(Clock(), listing(crm), index=index))
    assert (crm.count, found.resolved_by) == (1, "case_owner")
    assert found.party is not None
    assert found.party.id == "2"
    found = known_at_once(an_identifier(Clock(), listing(crm), index=index, ambiguity=("ask",)))
    assert crm.count == 1


# Which of several.


def test_how_it_was_settled_is_told() -> None:
    parties = [a_party("crm", each, organisation="o1", company="Hafen AG") for each in "12"]
    answer = known_at_once(an_identifier(Clock(), knowing("crm", *parties))).as_json()
    assert (answer["resolved_by"], answer["ambiguous"]) == ("company", True)
    assert answer["party"] == {"adapter": "crm", "type": "organisation", "id": "o1"}
    assert [party["id"] for party in answer["parties"]] == ["o1", "1", "2"]
    assert answer["steps"] == [{"policy": "company", "note": "all 2 are people of one company"}]


def test_the_log_settles_who_was_spoken_with_and_agents_choices_come_first_on_the_card() -> None:
    crm = knowing("crm", a_party("crm", "1"), a_party("crm", "2"), a_party("crm", "3"))
    numbers: list[str] = []

    def spoken(number: str) -> list[Any]:
        numbers.append(number)
        return [("crm", "contact", "2")]

    found = known_at_once(an_identifier(Clock(), crm, spoken=spoken))
    assert found.party is not None
    assert (found.party.id, found.resolved_by, numbers) == ("2", "last_agent", ["+4915228817386"])
    found = known_at_once(an_identifier(Clock(), crm, chosen=lambda _: [("crm", "contact", "3")]))
    assert (found.party, [party.id for party in found.parties]) == (None, ["3", "1", "2"])


def test_of_one_party_nobody_asks_the_log() -> None:
    def asked_log(_: str) -> list[Any]:
        raise AssertionError("there is nothing to settle")

    found = known_at_once(
        an_identifier(Clock(), knowing("crm", a_party()), spoken=asked_log, chosen=asked_log)
    )
    assert found.resolved_by is None
