"""One adapter and the questions it is asked: in turn, never too many, each with an end, and none while it is broken.

What comes back is checked here, before anybody believes it. Whom to ask, and what to make of it, is `identifier`'s.
"""

import os
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from attrs import frozen
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, TimeoutError as DeferredTimeoutError
from twisted.python.failure import Failure

from adapters.base import (
    AdapterAnswerError,
    AdapterBusy,
    AdapterError,
    AdapterTimeout,
    Capability,
    IAdapter,
    Party,
)
from cti.identify.cache import Cache
from cti.identify.identification import Outcome
from cti.identify.limits import Breaker, Bucket, Pass, State
from cti.identify.options import Asking
from cti.logs import get_logger
from cti.numbers import Number, NumberPlan, stems
from cti.reactors import Clock, DelayedCall

log = get_logger("cti.identify")

#: Parties that one adapter may find for one number; a CRM that finds more has not understood the question.
PARTIES_LIMIT: Final = 100
#: How many questions may wait for a turn, for each that may be asked at once.
_WAITING: Final = 16
#: Significant digits that have to agree where a CRM's number is written as within a country that is not known.
_NATIONAL_DIGITS: Final = 6
_ERROR_LIMIT: Final = 200
# An adapter may have clocks of its own, and Twisted's libraries several errors for them.
TIMEOUTS: Final = (AdapterTimeout, TimeoutError, DeferredTimeoutError, error.TimeoutError)


@frozen
class Reading:
    """How the numbers are read that come back: by this plan, and `own` are ours, which are nobody's."""

    plan: NumberPlan
    own: Collection[str] = ()

    def is_among(self, written: Sequence[str], e164: str) -> bool:
        """Whether one of these numbers, as a CRM holds them, is this one or its switchboard's.

        One that is written as within another country than ours is compared by its last digits.
        """
        keys = {e164, *stems(e164, self.own)}
        for raw in written:
            found = self.plan.parse(raw).e164
            if found is not None and (found in keys or found.rstrip("0") in keys):
                return True
            digits = "".join(str(int(digit)) for digit in raw if digit.isdecimal()).lstrip("0")
            if len(digits) >= _NATIONAL_DIGITS and e164.endswith(digits):
                return True
        return False


class Line:
    """The way to one adapter.

    @ivar adapter: who is asked.
    @ivar asking: with which limits.
    """

    def __init__(
        self,
        name: str,
        adapter: IAdapter,
        asking: Asking,
        clock: Clock,
        budget: float,
        reading: "Reading",
        cache: Cache,
    ) -> None:
        """A question whose turn would come after `budget` seconds is not even put."""
        self.name = name
        self.adapter = adapter
        self.asking = asking
        #: Whether it answers from this machine, so that nothing is saved by keeping its answers.
        self.local = Capability.LOCAL in adapter.capabilities
        #: Whether the phone index is asked first; what answers as fast is asked itself, unless it is told otherwise.
        self.indexed = (
            asking.index
            and Capability.LIST in adapter.capabilities
            and not (self.local and asking.live is None)
        )
        self._clock = clock
        self._budget = budget
        #: Seconds within which an adapter should have answered, whenever its turn came.
        self.fair = budget / 2
        self._reading = reading
        self._cache = cache
        self._breaker = Breaker(asking.breaker_failures, asking.breaker_seconds)
        self._bucket = Bucket(asking.per_second)
        self._running: set[Question] = set()
        self._waiting: deque[Question] = deque()
        self._turn: DelayedCall | None = None
        self._in_turn = False

    @property
    def open(self) -> bool:
        """Whether it is left alone at present."""
        return self._breaker.state is not State.CLOSED

    def ask(self, number: Number, ended: "Callable[[Question], None]") -> "Question":
        """Who has this number. `ended` is told once there is an outcome, unless that is there at once."""
        now = self._clock.seconds()
        way = self._breaker.may(now)
        question = Question(self, number, now, way is Pass.AS_PROBE, ended)
        if way is Pass.NO:
            question.end(Outcome.OPEN)
        elif len(self._running) < self.asking.concurrency and not self._waiting:
            pause = self._bucket.wait(now)
            if pause:
                self._queue(question, pause)
            else:
                self._start(question)
        else:
            self._queue(question, 0.0)
        return question

    def close(self) -> None:
        """Give up whatever is on its way."""
        for question in [*self._waiting, *self._running]:
            question.let_go()

    # Turns.

    def _start(self, question: "Question") -> None:
        self._running.add(question)
        question.start(_ask(self.name, self.adapter, question.number, self._reading))

    def _queue(self, question: "Question", pause: float) -> None:
        if pause > self._budget or len(self._waiting) >= _WAITING * self.asking.concurrency:
            question.end(Outcome.SKIPPED, "it is asked enough already")
            return
        self._waiting.append(question)
        self._turn_in(pause)

    def _turn_in(self, pause: float) -> None:
        if pause and self._turn is None:
            self._turn = self._clock.callLater(pause, self._turn_comes)

    def _turn_comes(self) -> None:
        self._turn = None
        self._next()

    def _next(self) -> None:
        if self._in_turn:
            # An adapter that answers at once: the loop below goes on.
            return
        self._in_turn = True
        try:
            while self._waiting and len(self._running) < self.asking.concurrency:
                pause = self._bucket.wait(self._clock.seconds())
                if pause:
                    self._turn_in(pause)
                    return
                self._start(self._waiting.popleft())
        finally:
            self._in_turn = False

    # What comes of questions.

    def over(self, question: "Question") -> None:
        """This question's answer has come, however late, or it was cancelled: the next one's turn."""
        self._running.discard(question)
        self._next()

    def left(self, question: "Question") -> None:
        """This question is not waited for any more, and never was asked."""
        if question in self._waiting:
            self._waiting.remove(question)
        if not self._waiting and self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def answered(self, number: Number, parties: tuple[Party, ...]) -> None:
        if not self.local and number.e164 is not None:
            self._cache.put(self.name, number.e164, parties, self._clock.seconds())
        if self.open:
            log.info("an adapter answers again", adapter=self.name)
        self._breaker.succeeded()

    def failed(self, why: str) -> None:
        was_open = self.open
        self._breaker.failed(self._clock.seconds())
        if self.open and not was_open:
            log.warning(
                "an adapter fails again and again, and is left alone for a while",
                adapter=self.name,
                seconds=self.asking.breaker_seconds,
                why=why,
            )
        if self.open:
            for question in list(self._waiting):
                question.end(Outcome.OPEN)

    def busy(self, seconds: float) -> None:
        """The CRM has asked to be left alone for so long."""
        self._bucket.hold(self._clock.seconds(), seconds)
        for question in list(self._waiting):
            question.end(Outcome.SKIPPED, "the CRM has asked for a pause")

    def probe_let_go(self) -> None:
        self._breaker.let_go()


class Question:
    """One adapter, asked about one number; has its outcome at once, or after a while, or when time is up.

    @ivar outcome: what it came to, None before.
    @ivar seconds: how long that took.
    """

    def __init__(
        self, line: Line, number: Number, began: float, probe: bool, ended: "Callable[[Question], None]"
    ) -> None:
        self.line = line
        self.number = number
        self.outcome: Outcome | None = None
        self.parties: tuple[Party, ...] = ()
        self.error: str | None = None
        self.seconds = 0.0
        self._clock = line._clock
        self._began = began
        self._probe = probe
        self._ended = ended
        self._blamed = False
        self._told = False
        self._timer: DelayedCall | None = None
        self._answer: Deferred[tuple[Party, ...]] | None = None
        self._asked = began

    def start(self, asked: Any) -> None:
        """Its turn has come."""
        self._asked = self._clock.seconds()
        self._answer = Deferred.fromCoroutine(asked)
        self._answer.addCallbacks(self._answered, self._failed)
        self._answer.addBoth(self._is_over)

    def watch(self, budget_ends: float, *, keep: bool) -> None:
        """Somebody waits for it: from now on `ended` is told, and its own deadline counts.

        An answer that comes after the budget is late, and a failure; with `keep`, it may come all the same.
        """
        self._told = True
        deadline = self._began + self.line.asking.deadline
        if keep and budget_ends < deadline:
            self._timer = self._clock.callLater(self._until(budget_ends), self._overdue, deadline)
        elif self.outcome is None:
            self._timer = self._clock.callLater(self._until(min(budget_ends, deadline)), self.time_is_up)

    def let_go(self, outcome: Outcome = Outcome.SKIPPED, why: str | None = None) -> None:
        """Nobody wants to know any more, by no fault of the adapter."""
        if self.outcome is None:
            self.end(outcome, why)

    def not_asked(self) -> bool:
        """Whether it still waits for its turn."""
        return self.outcome is None and self._answer is None

    def end(self, outcome: Outcome, why: str | None = None) -> None:
        """This is what came of it; what has not been answered is cancelled."""
        self.outcome, self.error = outcome, why or self.error
        # The clock may be set back while we wait.
        self.seconds = max(0.0, self._clock.seconds() - self._began)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._answer is not None:
            self._answer.cancel()
        else:
            self.line.left(self)
        if self._probe and not self._blamed and outcome not in _ANSWERS:
            self.line.probe_let_go()
        if self._told:
            self._ended(self)

    def _answered(self, parties: tuple[Party, ...]) -> None:
        if self.outcome is None:
            self.line.answered(self.number, parties)
            self.parties = parties
            self.end(Outcome.HIT if parties else Outcome.MISS)

    def _failed(self, failure: Failure) -> None:
        if self.outcome is not None:
            if not isinstance(failure.value, CancelledError):
                # It was given up, and its own clearing up failed.
                self.error = fit_for_a_log(failure)
            return
        why = fit_for_a_log(failure)
        if isinstance(failure.value, AdapterBusy) and failure.value.retry_after:
            self.line.busy(failure.value.retry_after)
        else:
            self._blame(why)
        self.end(Outcome.TIMEOUT if isinstance(failure.value, TIMEOUTS) else Outcome.ERROR, why)

    def _is_over(self, _: object) -> None:
        self.line.over(self)

    def _overdue(self, deadline: float) -> None:
        if self.not_asked():
            self.time_is_up()
        else:
            self._blame_if_late()
            self._timer = self._clock.callLater(self._until(deadline), self.time_is_up)

    def time_is_up(self) -> None:
        """Nobody waits for the answer, and the adapter is to blame."""
        if self.not_asked():
            self.end(Outcome.TIMEOUT, "its turn did not come in time")
        elif self.outcome is None:
            self._blame_if_late()
            self.end(Outcome.TIMEOUT)

    def _until(self, at: float) -> float:
        return max(0.0, at - self._clock.seconds())

    def _blame_if_late(self) -> None:
        """An adapter that was asked only when most of the time was over is not to blame."""
        asked_for = self._clock.seconds() - self._asked
        if asked_for >= min(self.line.fair, self.line.asking.deadline / 2):
            self._blame(_LATE)

    def _blame(self, why: str) -> None:
        if not self._blamed:
            self._blamed = True
            self.line.failed(why)


_ANSWERS: Final = (Outcome.HIT, Outcome.MISS)
_LATE: Final = "no answer in time"


async def _ask(name: str, adapter: IAdapter, number: Number, reading: Reading) -> tuple[Party, ...]:
    answer: object = await adapter.identify(number)
    if not isinstance(answer, list | tuple):
        raise AdapterAnswerError(
            f"the adapter answered with {type(answer).__name__}, not with a list of parties"
        )
    if len(answer) > PARTIES_LIMIT:
        raise AdapterAnswerError(f"the adapter found {len(answer)} parties for one number")
    parties: dict[tuple[str, str], Party] = {}
    others = 0
    for party in answer:
        if not isinstance(party, Party):
            raise AdapterAnswerError(f"the adapter answered with {type(party).__name__} among its parties")
        if party.adapter != name:
            raise AdapterAnswerError("the adapter answered with a party that is not its own")
        if party.numbers and not reading.is_among(party.numbers, number.e164 or ""):
            others += 1
        else:
            parties.setdefault((party.type, party.id), party)
    if others:
        log.warning(
            "an adapter answers with parties who do not have the number", adapter=name, parties=others
        )
        if not parties:
            raise AdapterAnswerError(
                f"the adapter answered with {others} parties, none of whom has the number"
            )
    return tuple(parties[key] for key in sorted(parties))


def fit_for_a_log(failure: Failure) -> str:
    """What went wrong. Not an exception's text, which may quote a person; only ours promises not to."""
    kind = type(failure.value).__name__
    if isinstance(failure.value, AdapterError):
        return f"{kind}: {failure.value}"[:_ERROR_LIMIT]
    traceback = failure.value.__traceback__ if failure.value is not None else None
    if traceback is None:
        return kind
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = traceback.tb_frame.f_code
    return f"{kind} in {where.co_name} ({os.path.basename(where.co_filename)}:{traceback.tb_lineno})"
