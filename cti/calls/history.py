"""What our own log knows of a caller, for rules that ask: who talked with them last and when, how often they tried.

The log is asked beside the CRMs and may be in trouble: then nothing is known of the past, and the call goes on.
"""

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, TimeoutError

from cti.hours import day_began
from cti.identify.limits import Breaker, Pass
from cti.logs import get_logger
from cti.store.base import StoreError
from cti.store.records import PastCalls
from routing.facts import History
from routing.rules import Chosen, DialLastAgent, Rule, Service, reached

log = get_logger("cti.calls.history")

#: Seconds that the log is waited for.
DEADLINE: Final = 0.25
#: So many questions in a row that it did not answer, and it is left alone for so many seconds.
FAILURES: Final = 3
LEFT_ALONE: Final = 10.0
#: Seconds between two lines about that.
_SAID_EVERY: Final = 60.0


class IKnowsCalls(Protocol):
    """What is needed of a store."""

    def past_calls(
        self, number: str, called: tuple[str, ...], since: float, before: float, but: str | None = None
    ) -> "Deferred[PastCalls]": ...


def asks_for_history(service: Service, others: Mapping[str, Service]) -> bool:
    """Whether a rule of the service, or of `others` that it passes calls on to, can tell the past of one caller from
    that of another; as may any code of the company's own.
    """
    return any(_asks(rule) for each in reached(service, others) for rule in each.rules)


def _asks(rule: Rule) -> bool:
    facts = (condition.known for condition in rule.conditions)
    return (
        any(fact.of_history or fact.find is not None for fact in facts)
        or any(isinstance(whom, DialLastAgent) for whom in rule.whom)
        or isinstance(rule.target, Chosen)
    )


def day_of(service: Service, zone: tzinfo | None, at: float) -> float:
    """When the day began that tries are counted of (epoch seconds): where the service is, else where the company is.

    `zone`: the company's, None for this machine's.
    """
    return day_began(at, zone) if service.hours is None else service.hours.day_began(at)


def history_of(past: PastCalls, at: float) -> History:
    """The same with the call that is asked about, which is a try, too; `at`: what was before then was looked at."""
    return History(past.last_agent, past.last_spoken, past.tries + 1, at)


class CallHistory:
    """Asks the log, for no longer than a caller may wait."""

    def __init__(self, store: IKnowsCalls, clock: Any, zone: Callable[[], tzinfo | None]) -> None:
        """`zone`: the company's, asked for at each call, so that a reload changes the next one."""
        self._store = store
        self._clock = clock
        self._zone = zone
        self._breaker = Breaker(FAILURES, LEFT_ALONE)
        self._said: float | None = None

    async def of(
        self, number: str, service: Service, at: float, *, call: str | None = None, within: float = DEADLINE
    ) -> History | None:
        """What happened with this number before this moment (epoch seconds), the call itself left out.

        None where the log does not say it `within` so many seconds, `DEADLINE` at most; never raises.
        """
        seconds = min(within, DEADLINE)
        if seconds <= 0 or self._breaker.may(self._clock.seconds()) is Pass.NO:
            return None
        since = day_of(service, self._zone(), at)
        try:
            past = await self._in_time(
                self._store.past_calls(number, service.numbers, since, at, call), seconds
            )
        except TimeoutError:
            if seconds < DEADLINE:
                # It had less than its time: that says nothing of it.
                self._breaker.let_go()
            else:
                self._failed(f"no answer within {seconds:g} s")
            return None
        except StoreError as error:
            self._failed(str(error))
            return None
        self._breaker.succeeded()
        return history_of(past, at)

    def _in_time(self, asked: "Deferred[PastCalls]", seconds: float) -> "Deferred[PastCalls]":
        # Not cancelled: the store counts who reads until the thread that does is free again.
        waiting: Deferred[PastCalls] = Deferred()
        asked.addCallbacks(waiting.callback, waiting.errback)
        return waiting.addTimeout(seconds, self._clock)

    def _failed(self, why: str) -> None:
        now = self._clock.seconds()
        self._breaker.failed(now)
        if self._said is None or not self._said <= now < self._said + _SAID_EVERY:
            self._said = now
            log.warning("the log does not say what was before a call: rules see nothing of it", why=why)
