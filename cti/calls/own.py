"""What a company's own conditions and actions say to a call: asked before the decision, which waits for nobody.

Theory of operation. Their code may open and wait for whatever it likes, so it runs in threads: of each condition and
each action `THREADS` at most, so that one that hangs takes no other's. Questions beyond these wait in a line, and a
caller waits `DEADLINE` seconds for all of them together. A thread cannot be ended; one that nobody waits for any more
keeps its place until it comes back, and while none is left its code is not asked. Neither is code that failed, or did
not say in time, so many times in a row, until a single question some seconds later finds it well.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from threading import Thread
from typing import Any, Final

from attrs import define, evolve, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from cti.identify.identification import Outcome
from cti.identify.limits import Breaker, Pass
from cti.logs import get_logger
from routing.conditions import OWN, value_of
from routing.facts import Facts, Said
from routing.problems import RulesError
from routing.rules import Chosen, Service, reached

log = get_logger("cti.calls.own")

#: Seconds that all of them are waited for, together.
DEADLINE: Final = 0.25
#: Threads that run the code of one condition or action, and questions that wait for one of them.
THREADS: Final = 4
QUEUED: Final = 64
#: So many questions in a row that failed or were not answered in time, and it is left alone for so many seconds.
FAILURES: Final = 3
LEFT_ALONE: Final = 10.0
#: Characters that an action's answer may have as JSON, and what is kept of why one cannot be used.
MAX_ANSWER: Final = 2000
_MAX_WHY: Final = 200
#: Seconds between two lines about the same code.
_SAID_EVERY: Final = 60.0

Observe = Callable[[str, Outcome, float], None]

NOT_IN_TIME: Final = Said(why_not="did not say in time")
LEFT: Final = Said(why_not="is left alone for some seconds, as it failed before")
HANGS: Final = Said(why_not="still hangs over earlier calls")
BUSY: Final = Said(why_not="has too many other calls to say something to")
NO_TIME: Final = Said(why_not="was not asked, as there was no time left")


@frozen
class Question:
    """What a rule wants to know of a company's own code.

    `key`: under which `Facts.own` has the answer; `name`: of the code, as people read it. `ask` may block and raise;
    `read` makes of what it said what a decision can use, and raises `ValueError` where that is nothing.
    """

    key: str
    name: str
    ask: Callable[[Facts], object]
    read: Callable[[object], Any]


def questions(service: Service, others: Mapping[str, Service]) -> tuple[Question, ...]:
    """What the rules of the service, and of those of `others` that it passes calls on to, want to know."""
    asked = (question for each in reached(service, others) for question in _questions(each))
    return tuple({question.key: question for question in asked}.values())


def _questions(service: Service) -> Iterator[Question]:
    for rule in service.rules:
        for condition in rule.conditions:
            fact, find = condition.known, condition.known.find
            if find is not None:
                yield Question(
                    condition.fact.removeprefix(OWN), condition.fact, find, partial(value_of, fact)
                )
        if isinstance(rule.target, Chosen):
            target = rule.target
            key = f"{service.name}/{rule.name}"
            yield Question(key, target.title, target.choose, partial(_answer, target))


def _answer(target: Chosen, raw: object) -> Any:
    """What an action said, as plain JSON values, once it is sure that a decision can read it."""
    if raw is None:
        return None
    try:
        text = json.dumps(raw, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("said what is not made of texts, numbers, lists and mappings") from error
    if len(text) > MAX_ANSWER:
        raise ValueError(f"said {len(text)} characters of JSON; up to {MAX_ANSWER} would be right")
    answer = json.loads(text)
    try:
        target.read(answer)
    except RulesError as error:
        raise ValueError(
            f"said what no call can be given to: {'; '.join(map(str, error.problems))}"
        ) from error
    return answer


class OwnCode:
    """Asks, for no longer than a caller may wait."""

    def __init__(self, reactor: Any, observe: Observe) -> None:
        """`observe(name, outcome, seconds)` is told of each question."""
        self._reactor = reactor
        self._observe = observe
        self._guards: dict[str, _Guard] = {}

    async def of(
        self, asked: Iterable[Question], facts: Facts, *, within: float = DEADLINE
    ) -> dict[str, Said]:
        """What each of these says to a call with these facts, within so many seconds, `DEADLINE` at most.

        Never raises: what went wrong is said in the answers.
        """
        given = _copy(facts)
        waiting = {
            question.key: self._guard(question.name).ask(question, given, min(within, DEADLINE))
            for question in asked
        }
        return {key: evolve(await said, as_of=self._reactor.seconds()) for key, said in waiting.items()}

    def _guard(self, name: str) -> "_Guard":
        guard = self._guards.get(name)
        if guard is None:
            guard = self._guards[name] = _Guard(name, self._reactor, self._observe)
        return guard


def _copy(facts: Facts) -> Facts:
    """Facts of their own, for threads that read them while the server's go on changing, or that change them."""
    return evolve(
        facts,
        party=deepcopy(facts.party),
        agents=dict(facts.agents),
        groups=None,
        places=dict(facts.places),
    )


@define(eq=False)
class _Work:
    """A question on its way, since `at`. `short`: it has less than the whole time. `late`: nobody waits any more."""

    question: Question
    facts: Facts
    said: "Deferred[Said]"
    at: float
    short: bool
    began: bool = False
    late: bool = False


class _Guard:
    """Keeps one condition or action from holding callers, and from taking more than its threads."""

    def __init__(self, name: str, reactor: Any, observe: Observe) -> None:
        self._name = name
        self._reactor = reactor
        self._observe = observe
        self._breaker = Breaker(FAILURES, LEFT_ALONE)
        self._queue: deque[_Work] = deque()
        self._running = 0
        self._hanging = 0
        self._told: float | None = None

    def ask(self, question: Question, facts: Facts, seconds: float) -> "Deferred[Said]":
        """Fires with what it says, after so many seconds at the latest; never fails."""
        now = self._reactor.seconds()
        refused = self._refused(now, seconds)
        if refused is not None:
            self._observe(self._name, Outcome.OPEN if refused is LEFT else Outcome.SKIPPED, 0.0)
            return succeed(refused)
        work = _Work(question, facts, Deferred(), now, seconds < DEADLINE)
        work.said.addTimeout(seconds, self._reactor).addErrback(self._too_late, work)
        self._queue.append(work)
        self._go_on()
        return work.said

    def _refused(self, now: float, seconds: float) -> Said | None:
        """Why it is not asked now, None where it is; the breaker has to be told then what came of it."""
        if seconds <= 0:
            return NO_TIME
        if self._hanging >= THREADS:
            return HANGS
        if len(self._queue) >= QUEUED:
            return BUSY
        return LEFT if self._breaker.may(now) is Pass.NO else None

    def _go_on(self) -> None:
        while self._queue and self._running < THREADS:
            work = self._queue.popleft()
            work.began = True
            self._running += 1
            # Not one that the process waits for at its end.
            thread = Thread(target=self._run, args=(work,), name=f"cti {self._name}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                # The machine has no more threads.
                self._came_back(work, error)

    def _run(self, work: _Work) -> None:
        """In a thread of its own."""
        result: Said | BaseException
        try:
            found = work.question.ask(work.facts)
            try:
                result = Said(work.question.read(found))
            except ValueError as error:
                result = Said(why_not=str(error)[:_MAX_WHY])
        except BaseException as error:  # noqa: BLE001 - also an exit: the place that it took has to be given back
            result = error
        self._reactor.callFromThread(self._came_back, work, result)

    def _came_back(self, work: _Work, result: Said | BaseException) -> None:
        self._running -= 1
        if work.late:
            self._hanging -= 1
        else:
            said = self._answered(result) if isinstance(result, Said) else self._failed(result)
            outcome = Outcome.MISS if said.value is None else Outcome.HIT
            self._measure(work, Outcome.ERROR if said.why_not else outcome)
            work.said.callback(said)
        self._go_on()

    def _answered(self, said: Said) -> Said:
        self._breaker.succeeded()
        if said.why_not:
            self._tell("what it says cannot be used; a call's trace says why")
        return said

    def _failed(self, error: BaseException) -> Said:
        self._breaker.failed(self._reactor.seconds())
        # Not what the error says, which may name the caller.
        kind = type(error).__name__
        self._tell(f"{kind} was raised")
        log.debug("own code failed", own=self._name, exc_info=error)
        return Said(why_not=f"failed: {kind}")

    def _too_late(self, _timeout: Failure, work: _Work) -> Said:
        if work.began:
            work.late = True
            self._hanging += 1
        else:
            self._queue.remove(work)
        self._measure(work, Outcome.TIMEOUT)
        if work.short:
            # It had less than its time: that says nothing of it.
            self._breaker.let_go()
        else:
            self._breaker.failed(self._reactor.seconds())
            self._tell(f"no answer within {DEADLINE:g} s")
        return NOT_IN_TIME

    def _measure(self, work: _Work, outcome: Outcome) -> None:
        self._observe(self._name, outcome, self._reactor.seconds() - work.at)

    def _tell(self, why: str) -> None:
        now = self._reactor.seconds()
        if self._told is None or not self._told <= now < self._told + _SAID_EVERY:
            self._told = now
            log.warning(
                "own code does not say what rules ask of it: they see nothing", own=self._name, why=why
            )
