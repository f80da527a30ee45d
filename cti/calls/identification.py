"""Who is calling: all adapters are asked at once, each within its deadline, and none can harm the others.

What is decided from the answer is left to routing, and counting to the ``observe`` that is passed in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

from attrs import field, frozen
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, TimeoutError as DeferredTimeoutError
from twisted.python.failure import Failure

from adapters.base import AdapterAnswerError, AdapterError, AdapterTimeout, Capability, IAdapter, Party
from cti.numbers import Number, NumberKind
from cti.reactors import Clock, DelayedCall

#: Seconds that identification may take in all (decision 12: 800 ms of the 1.5 s that an answer may take).
BUDGET = 0.8
#: Parties that one adapter may find for one number; a CRM that finds more has not understood the question.
PARTIES_LIMIT = 100
_ERROR_LIMIT = 200
# An adapter may have clocks of its own, and Twisted's libraries several errors for them.
TIMEOUTS = (AdapterTimeout, TimeoutError, DeferredTimeoutError, error.TimeoutError)

#: Called once for each adapter that was asked: its name, the outcome, and how many seconds it took.
Observe = Callable[[str, "Outcome", float], None]
#: Which of our agents a CRM's user is, from the adapter's name and the user's id there; ``None``: nobody.
Owners = Callable[[str, str], str | None]


class Outcome(StrEnum):
    """What asking one adapter came to; a miss, a timeout and an error are three different things."""

    HIT = "hit"
    MISS = "miss"
    TIMEOUT = "timeout"
    ERROR = "error"
    OPEN = "open"
    SKIPPED = "skipped"


@frozen
class AdapterOutcome:
    """What asking one adapter came to, in how many milliseconds; ``error`` is fit for a log."""

    adapter: str
    outcome: Outcome
    ms: float
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"adapter": self.adapter, "outcome": self.outcome.value, "ms": self.ms}
        if self.error is not None:
            answer["error"] = self.error
        return answer


@frozen
class Identification:
    """Who has the number, as far as the adapters could say in time.

    ``parties`` come in the order in which the adapters are configured, those of one adapter by type and id:
    the same question always has the same answer. ``owners`` maps (adapter, the CRM's user id) to our agent, for those
    who look after a party or had to do with one.
    """

    number: Number
    parties: tuple[Party, ...] = ()
    adapters: tuple[AdapterOutcome, ...] = ()
    ms: float = 0.0
    owners: Mapping[tuple[str, str], str] = field(factory=dict)

    @property
    def party(self) -> Party | None:
        """The party to route by: the first of ``parties``; with more of them this is ``ambiguous``."""
        return self.parties[0] if self.parties else None

    @property
    def ambiguous(self) -> bool:
        """Several parties have the number; the card shows all of them."""
        return len(self.parties) > 1

    @property
    def owner(self) -> str | None:
        """Our agent who looks after ``party``."""
        return self.owner_of(self.party) if self.party is not None else None

    def owner_of(self, party: Party) -> str | None:
        """Our agent who looks after this party, ``None`` if nobody does, or nobody of ours."""
        return self.owners.get((party.adapter, party.owner)) if party.owner is not None else None

    def party_json(self, party: Party) -> dict[str, Any]:
        """One of the parties for the API and the card; who of ours had to do with them is named as our ``agent``."""
        whole = party.as_json(self.owner_of(party))
        for each in (*whole["last_contacts"], *whole["appointments"], *whole["tasks"]):
            each["agent"] = self.owners.get((party.adapter, each["user"]))
        return whole

    def as_json(self) -> dict[str, Any]:
        """The answer of ``GET /api/v1/identify``."""
        return {
            "number": self.number.raw,
            "e164": self.number.e164,
            "kind": self.number.kind.value,
            "parties": [self.party_json(party) for party in self.parties],
            "ambiguous": self.ambiguous,
            "adapters": [outcome.as_json() for outcome in self.adapters],
            "ms": self.ms,
        }


def _not_observed(adapter: str, outcome: Outcome, seconds: float) -> None:
    """Nobody counts."""


class Identifier:
    """Asks the adapters that can identify, all at once.

    ``adapters`` by name, in the order of the configuration; ``budget`` seconds for all, ``deadlines`` for
    those that get less. An adapter that has answered when it is first asked costs no timer.
    """

    def __init__(
        self,
        adapters: Mapping[str, IAdapter],
        clock: Clock,
        *,
        owners: Owners,
        budget: float = BUDGET,
        deadlines: Mapping[str, float] | None = None,
        observe: Observe = _not_observed,
    ) -> None:
        self._clock = clock
        self._owners = owners
        self._observe = observe
        self._adapters = [
            (name, adapter, min(budget, (deadlines or {}).get(name, budget)))
            for name, adapter in adapters.items()
            if Capability.IDENTIFY in adapter.capabilities
        ]

    async def identify(self, number: Number) -> Identification:
        """Who has ``number``, within the budget; adapters that fail are an outcome, never an exception.

        Only public numbers are looked up. If this is cancelled, so is every adapter that has not answered.
        """
        began = self._clock.seconds()
        if number.kind is not NumberKind.E164:
            skipped = [AdapterOutcome(name, Outcome.SKIPPED, 0.0) for name, _, _ in self._adapters]
            for outcome in skipped:
                self._observe(outcome.adapter, outcome.outcome, 0.0)
            return Identification(number, (), tuple(skipped))
        questions = [_Question(name, adapter, number, self._clock) for name, adapter, _ in self._adapters]
        for question, (_, _, deadline) in zip(questions, self._adapters, strict=True):
            question.limit(began + deadline)
        try:
            for question in questions:
                if question.outcome is None:
                    await question.ended()
        finally:
            for question in questions:
                question.give_up()
        parties: list[Party] = []
        for question in questions:
            parties.extend(question.parties)
        return Identification(
            number,
            tuple(parties),
            tuple(self._told(question) for question in questions),
            _ms(self._clock.seconds() - began),
            owners_among(parties, self._owners),
        )

    def _told(self, question: _Question) -> AdapterOutcome:
        outcome = question.outcome or Outcome.TIMEOUT
        self._observe(question.name, outcome, question.seconds)
        return AdapterOutcome(question.name, outcome, _ms(question.seconds), question.error)


def owners_among(parties: Iterable[Party], owners: Owners) -> dict[tuple[str, str], str]:
    """Our agents among the CRM's users who look after these parties, had to do with them, or will."""
    found: dict[tuple[str, str], str] = {}
    for party in parties:
        users = [
            party.owner,
            *(contact.user for contact in party.last_contacts),
            *(appointment.user for appointment in party.appointments),
            *(task.user for task in party.tasks),
        ]
        for user in users:
            if user is None or (party.adapter, user) in found:
                continue
            agent = owners(party.adapter, user)
            if agent is not None:
                found[party.adapter, user] = agent
    return found


class _Question:
    """One adapter, asked about one number; has its outcome at once, or after a while, or when time is up."""

    def __init__(self, name: str, adapter: IAdapter, number: Number, clock: Clock) -> None:
        self.name = name
        self.outcome: Outcome | None = None
        self.parties: list[Party] = []
        self.error: str | None = None
        self.seconds = 0.0
        self._clock = clock
        self._began = clock.seconds()
        self._timer: DelayedCall | None = None
        self._waiting: Deferred[None] | None = None
        self._answer: Deferred[list[Party]] = Deferred.fromCoroutine(_ask(name, adapter, number))
        self._answer.addCallbacks(self._answered, self._failed)

    def limit(self, at: float) -> None:
        """The question is given up at this time of the clock."""
        if self.outcome is None:
            self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self.give_up)

    def ended(self) -> Deferred[None]:
        """Fires when there is an outcome; only for a question that has none yet."""
        self._waiting = Deferred()
        return self._waiting

    def give_up(self) -> None:
        """Cancel what has not been answered, and stop the timer; the answer to a question stays."""
        if self.outcome is None:
            self._end(Outcome.TIMEOUT, cancel=True)

    def _answered(self, parties: list[Party]) -> None:
        if self.outcome is None:
            self.parties = parties
            self._end(Outcome.HIT if parties else Outcome.MISS)

    def _failed(self, failure: Failure) -> None:
        if self.outcome is None:
            self.error = fit_for_a_log(failure)
            self._end(Outcome.TIMEOUT if isinstance(failure.value, TIMEOUTS) else Outcome.ERROR)
        elif not isinstance(failure.value, CancelledError):
            # It was given up, and its own clearing up failed.
            self.error = fit_for_a_log(failure)

    def _end(self, outcome: Outcome, *, cancel: bool = False) -> None:
        self.outcome = outcome
        # The wall clock may be set back while we wait.
        self.seconds = max(0.0, self._clock.seconds() - self._began)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if cancel:
            self._answer.cancel()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)


async def _ask(name: str, adapter: IAdapter, number: Number) -> list[Party]:
    answer: object = await adapter.identify(number)
    if not isinstance(answer, list | tuple):
        raise AdapterAnswerError(
            f"the adapter answered with {type(answer).__name__}, not with a list of parties"
        )
    if len(answer) > PARTIES_LIMIT:
        raise AdapterAnswerError(f"the adapter found {len(answer)} parties for one number")
    parties: dict[tuple[str, str], Party] = {}
    for party in answer:
        if not isinstance(party, Party):
            raise AdapterAnswerError(f"the adapter answered with {type(party).__name__} among its parties")
        if party.adapter != name:
            raise AdapterAnswerError("the adapter answered with a party that is not its own")
        parties.setdefault((party.type, party.id), party)
    return [parties[key] for key in sorted(parties)]


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


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 3)
