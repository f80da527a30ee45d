"""How much an adapter may be asked: the breaker's states, and the bucket."""

import pytest

from cti.identify.limits import TURNS, Breaker, Bucket, Pass, State, Turn


def a_breaker(*, failed: int = 0, at: float = 0.0) -> Breaker:
    breaker = Breaker(failures=3, seconds=30.0)
    for _ in range(failed):
        breaker.failed(at)
    return breaker


def test_so_many_failures_one_upon_the_other_open_it() -> None:
    breaker = a_breaker(failed=2)
    assert breaker.may(0.0) is Pass.YES
    breaker.failed(1.0)
    assert breaker.may(1.0) is Pass.NO
    assert breaker.may(30.9) is Pass.NO


def test_an_answer_between_failures_begins_the_count_again() -> None:
    breaker = a_breaker(failed=2)
    breaker.succeeded()
    breaker.failed(0.0)
    breaker.failed(0.0)
    assert breaker.may(0.0) is Pass.YES


def test_after_the_pause_one_question_probes_it_and_no_other_goes_through() -> None:
    breaker = a_breaker(failed=3)
    assert [breaker.may(30.0), breaker.may(30.0), breaker.may(99.0)] == [Pass.AS_PROBE, Pass.NO, Pass.NO]


def test_a_probe_that_is_answered_closes_it_and_one_that_fails_opens_it_anew() -> None:
    breaker = a_breaker(failed=3)
    breaker.may(30.0)
    breaker.failed(31.0)
    assert (breaker.may(60.9), breaker.may(61.0)) == (Pass.NO, Pass.AS_PROBE)
    breaker.succeeded()
    assert (breaker.state, breaker.may(61.0)) == (State.CLOSED, Pass.YES)
    breaker.failed(61.0)
    assert breaker.may(61.0) is Pass.YES


def test_a_probe_that_came_to_nothing_is_followed_by_another() -> None:
    breaker = a_breaker(failed=3)
    breaker.may(30.0)
    breaker.let_go()
    assert breaker.may(30.0) is Pass.AS_PROBE


def test_an_answer_to_a_question_from_before_closes_it() -> None:
    breaker = a_breaker(failed=3)
    breaker.succeeded()
    assert breaker.may(0.0) is Pass.YES


def test_failures_from_before_do_not_make_the_pause_longer() -> None:
    breaker = a_breaker(failed=3)
    breaker.failed(29.0)
    assert breaker.may(30.0) is Pass.AS_PROBE


def test_a_clock_that_is_set_back_does_not_leave_it_open_for_ever() -> None:
    breaker = a_breaker(failed=3, at=1_000_000.0)
    assert breaker.may(5.0) is Pass.AS_PROBE


def test_every_turn_leads_somewhere_else() -> None:
    assert {state for state, _ in TURNS} == set(State)
    assert {turn for _, turn in TURNS} == set(Turn)
    assert all(before is not after for (before, _), after in TURNS.items())


def test_a_bucket_gives_a_seconds_worth_at_once_and_then_one_after_the_other() -> None:
    bucket = Bucket(2.0)
    assert [bucket.wait(0.0), bucket.wait(0.0)] == [0.0, 0.0]
    assert bucket.wait(0.0) == pytest.approx(0.5)
    assert bucket.wait(0.5) == 0.0
    assert bucket.wait(0.5) == pytest.approx(0.5)
    assert [bucket.wait(100.0), bucket.wait(100.0)] == [0.0, 0.0], "no more than a second's worth is saved up"
    assert bucket.wait(100.0) > 0


def test_less_than_one_a_second_is_one_at_a_time() -> None:
    bucket = Bucket(0.1)
    assert bucket.wait(0.0) == 0.0
    assert bucket.wait(1.0) == pytest.approx(9.0)


def test_without_a_rate_it_gives_whatever_is_asked() -> None:
    bucket = Bucket()
    assert [bucket.wait(0.0) for _ in range(1000)] == [0.0] * 1000


@pytest.mark.parametrize("rate", [None, 5.0])
def test_a_crm_that_asks_for_a_pause_gets_it(rate: float | None) -> None:
    bucket = Bucket(rate)
    bucket.hold(10.0, 7.0)
    assert bucket.wait(12.0) == pytest.approx(5.0)
    bucket.hold(12.0, 1.0)
    assert bucket.wait(12.0) == pytest.approx(5.0), "a shorter pause does not end a longer one"
    assert bucket.wait(17.0) == 0.0


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(1.0)
    bucket.wait(100.0)
    assert bucket.wait(50.0) == pytest.approx(1.0)
    assert bucket.wait(51.0) == 0.0
