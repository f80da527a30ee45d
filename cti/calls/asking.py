"""Several adapters asked at once for parties, each by what it can, none able to hold up or harm the others.

What they are asked, and what is made of it, is the asker's: a key, some words, or one party's whole card.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from adapters.base import AdapterAnswerError, Party
from cti.identify.asking import TIMEOUTS, fit_for_a_log
from cti.identify.identification import Outcome
from cti.reactors import Clock

#: Parties that are taken of one adapter's answer.
TAKEN: Final = 100


@frozen
class Question:
    """What one adapter is asked; `by` says it in a word, such as `key:customer`."""

    adapter: str
    by: str
    ask: Callable[[], Coroutine[Any, Any, object]]


@frozen
class Reply:
    """What came of a question, in how many milliseconds; `error` is fit for a log."""

    adapter: str
    by: str
    outcome: Outcome
    ms: float
    parties: Sequence[Party] = ()
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        answer = {"adapter": self.adapter, "by": self.by, "outcome": str(self.outcome), "ms": self.ms}
        return answer if self.error is None else {**answer, "error": self.error}


async def ask_all(questions: Sequence[Question], clock: Clock, seconds: float) -> list[Reply]:
    """What each said within the time, in the order of the questions. Cancelled, it cancels all of them."""
    replies = [_reply_to(question, clock, seconds) for question in questions]
    try:
        return [await reply for reply in replies]
    finally:
        for reply in replies:
            reply.cancel()


def _reply_to(question: Question, clock: Clock, seconds: float) -> "Deferred[Reply]":
    """Fires in time even if the adapter does not let go when it is cancelled; its answer then is nobody's."""
    began = clock.seconds()

    def give_up(_: object) -> None:
        # Whoever asked is told by this itself, and by nothing that the adapter makes of it.
        timer.cancel()
        settled.append(True)
        answer.cancel()

    def end(outcome: Outcome, parties: Sequence[Party] = (), error: str | None = None) -> None:
        if settled:
            return
        settled.append(True)
        if timer.active():
            timer.cancel()
        ms = round(max(0.0, clock.seconds() - began) * 1000, 3)
        reply.callback(Reply(question.adapter, question.by, outcome, ms, parties, error))

    def answered(said: object) -> None:
        parties = _parties_of(question.adapter, said)
        end(Outcome.HIT if parties else Outcome.MISS, parties)

    def failed(failure: Failure) -> None:
        timed_out = isinstance(failure.value, TIMEOUTS)
        end(Outcome.TIMEOUT if timed_out else Outcome.ERROR, error=fit_for_a_log(failure))

    def too_late() -> None:
        end(Outcome.TIMEOUT)
        answer.cancel()

    settled: list[bool] = []
    reply: Deferred[Reply] = Deferred(give_up)
    answer: Deferred[object] = Deferred.fromCoroutine(question.ask())
    timer = clock.callLater(seconds, too_late)
    answer.addCallback(answered).addErrback(failed)
    return reply


def _parties_of(adapter: str, said: object) -> list[Party]:
    """The adapter's parties in its order, each once. Raises `AdapterAnswerError`."""
    if not isinstance(said, list | tuple):
        raise AdapterAnswerError(f"the adapter answered with {type(said).__name__}, not with parties")
    found: dict[tuple[str, str], Party] = {}
    for party in said[:TAKEN]:
        if not isinstance(party, Party) or party.adapter != adapter:
            raise AdapterAnswerError("the adapter answered with what is no party of its own")
        found.setdefault((party.type, party.id), party)
    return list(found.values())
