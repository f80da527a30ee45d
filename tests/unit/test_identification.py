"""Identification: every adapter is asked at once, and none can harm the others or use up the time."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from adapters.base import (
    AdapterContext,
    AdapterHealth,
    AdapterTimeout,
    Capability,
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
from cti.identify.options import Asking, CacheSettings, Options
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
