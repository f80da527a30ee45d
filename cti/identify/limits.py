"""How much an adapter may be asked: a bucket of questions, and a breaker that spares one which fails.

Pure: the time (seconds of any clock) is passed in. Who waits for a turn is `asking`'s business.

Theory of operation of the breaker. Closed, it lets every question through; after so many failures one after the
other it opens, and nobody is asked. After a pause it is half open: one question goes through as a probe, nobody
waits for it, and what comes of it closes or opens it again.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from attrs import define, field


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Turn(StrEnum):
    """What can happen to a breaker; `trip`: the last failure that it bears."""

    TRIP = "trip"
    PAUSED = "paused"
    SUCCEED = "succeed"
    FAIL = "fail"
    LET_GO = "let_go"


#: Every turn there is; any other changes nothing: answers to questions from before come late.
TURNS: Final[Mapping[tuple[State, Turn], State]] = {
    (State.CLOSED, Turn.TRIP): State.OPEN,
    (State.OPEN, Turn.PAUSED): State.HALF_OPEN,
    (State.OPEN, Turn.SUCCEED): State.CLOSED,
    (State.HALF_OPEN, Turn.SUCCEED): State.CLOSED,
    (State.HALF_OPEN, Turn.FAIL): State.OPEN,
    # The probe was cancelled, and says nothing; the next question is one.
    (State.HALF_OPEN, Turn.LET_GO): State.OPEN,
}


class Pass(StrEnum):
    """Whether a question goes through."""

    YES = "yes"
    AS_PROBE = "as_probe"
    NO = "no"


@define
class Breaker:
    """`failures`: so many, one after the other, open it; `seconds`: how long it is left alone then."""

    failures: int = 5
    seconds: float = 30.0
    state: State = State.CLOSED
    _failed: int = 0
    _since: float = 0.0

    def may(self, now: float) -> Pass:
        """Whether to ask now. After `AS_PROBE`, one of the other methods has to be told what came of it."""
        if self.state is State.CLOSED:
            return Pass.YES
        # A clock that was set back must not leave it open for ever.
        if self.state is State.OPEN and not self._since <= now < self._since + self.seconds:
            self._turn(Turn.PAUSED)
            return Pass.AS_PROBE
        return Pass.NO

    def succeeded(self) -> None:
        self._failed = 0
        self._turn(Turn.SUCCEED)

    def failed(self, now: float) -> None:
        before = self.state
        self._failed += 1
        self._turn(Turn.FAIL)
        if self._failed >= self.failures:
            self._turn(Turn.TRIP)
        if self.state is not before:
            self._since = now

    def let_go(self) -> None:
        """The probe came to nothing, by no fault of who was asked."""
        self._turn(Turn.LET_GO)

    def _turn(self, turn: Turn) -> None:
        self.state = TURNS.get((self.state, turn), self.state)


@define
class Bucket:
    """A token bucket: `per_second` questions, a second's worth of them at once. None: as many as there are."""

    per_second: float | None = None
    _tokens: float = field(init=False)
    _at: float | None = None
    _held_until: float = 0.0

    @_tokens.default
    def _full(self) -> float:
        return self._most

    @property
    def _most(self) -> float:
        return max(1.0, self.per_second or 1.0)

    def wait(self, now: float) -> float:
        """0 if a question may be asked now, which is counted; else after how many seconds one may."""
        if now < self._held_until:
            return self._held_until - now
        if self.per_second is None:
            return 0.0
        passed = max(0.0, now - (now if self._at is None else self._at))
        self._at = now
        self._tokens = min(self._most, self._tokens + passed * self.per_second)
        # A hair less than a whole one is one, or who waited for it would wait again.
        if self._tokens < 1.0 - 1e-6:
            return (1.0 - self._tokens) / self.per_second
        self._tokens -= 1.0
        return 0.0

    def hold(self, now: float, seconds: float) -> None:
        """Nobody asks for so many seconds: the CRM has said so."""
        self._held_until = max(self._held_until, now + seconds)
