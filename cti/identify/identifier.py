"""Who has a number: from the index, the cache and the CRMs, within the budget, and settled where it is several.

No adapter can harm the others, or use up the time. What is decided from the answer is left to routing, and counting
to the `observe` that is passed in.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred

from adapters.base import Capability, IAdapter, Party
from cti.identify.asking import Line, Question, Reading
from cti.identify.cache import Cache
from cti.identify.identification import AdapterOutcome, Identification, Outcome, Resolution, Source
from cti.identify.options import Asking, Live, Options, Order
from cti.identify.policy import Key, in_order, needs_details, resolve
from cti.numbers import Number, NumberKind, NumberPlan
from cti.reactors import Clock, DelayedCall

#: Called once for each adapter and question: its name, the outcome, and how many seconds it took.
Observe = Callable[[str, Outcome, float], None]
#: Which of our agents a CRM's user is, from the adapter's name and the user's id there; None: nobody.
Owners = Callable[[str, str], str | None]
#: Who it is after all, when an adapter knew them too late for the answer.
Late = Callable[[Identification], None]
#: Who was spoken with from or to this number (E.164), or chosen for it, the last one first.
Remembered = Callable[[str], Sequence[Key]]


class Index(Protocol):
    """The phone index: numbers of the adapters that can be listed."""

    def lookup(self, number: Number, adapter: str | None) -> Sequence[Party]:
        """Who has this number, or its switchboard, according to this adapter's list."""

    def covers(self, adapter: str) -> bool:
        """Whether all of the adapter's list is there, so that a miss is a miss."""

    def age(self, adapter: str) -> float | None:
        """Seconds since the adapter's list was read."""


def _not_observed(_adapter: str, _outcome: Outcome, _seconds: float) -> None:
    """Nobody counts."""


def _never(_number: str) -> bool:
    return False


def _nobody(_number: str) -> Sequence[Key]:
    return ()


class Identifier:
    """Asks the adapters that can identify.

    `adapters` by name, in the order of the configuration; `asking` says of each how it may be asked. An adapter that
    has answered when it is first asked costs no timer.
    """

    def __init__(
        self,
        adapters: Mapping[str, IAdapter],
        clock: Clock,
        *,
        owners: Owners,
        plan: NumberPlan,
        own: Collection[str] = (),
        options: Options = Options(),  # noqa: B008
        asking: Mapping[str, Asking] | None = None,
        index: Index | None = None,
        ignored: Callable[[str], bool] = _never,
        spoken: Remembered = _nobody,
        chosen: Remembered = _nobody,
        observe: Observe = _not_observed,
    ) -> None:
        """`own`: our numbers; `ignored`: whether nobody looks for this one (E.164). Of both, no adapter is asked.

        `spoken`, `chosen`: who was spoken with at a number, and whom agents chose for it.
        """
        self._clock = clock
        self._owners = owners
        self._own = own
        self._options = options
        self._index = index
        self._ignored = ignored
        self._spoken = spoken
        self._chosen = chosen
        self._observe = observe
        self.cache = Cache(options.cache)
        self._lines = [
            Line(
                name,
                adapter,
                (asking or {}).get(name, Asking()),
                clock,
                options.budget,
                Reading(plan, own),
                self.cache,
            )
            for name, adapter in adapters.items()
            if Capability.IDENTIFY in adapter.capabilities
        ]

    def forget(self, adapter: str | None = None, number: str | None = None) -> None:
        """A party was created or edited: answers from before do not count."""
        self.cache.forget(adapter, number)

    def is_open(self, adapter: str) -> bool:
        """Whether this adapter failed so often that it is left alone at present."""
        return any(line.open for line in self._lines if line.name == adapter)

    def close(self) -> None:
        """Give up what is on its way."""
        for line in self._lines:
            line.close()

    async def identify(self, number: Number, late: Late | None = None) -> Identification:
        """Who has `number`, within the budget; adapters that fail are an outcome, never an exception.

        Only public numbers are looked up, and none of ours. Who has not answered in time is cancelled; with `late`
        they have until their own deadline, and it is told who it is after all. If this is cancelled, so is every
        adapter that has not answered.
        """
        ignored = number.e164 is not None and self._ignored(number.e164)
        if number.kind is not NumberKind.E164 or ignored or number.e164 in self._own:
            for line in self._lines:
                self._observe(line.name, Outcome.SKIPPED, 0.0)
            skipped = tuple(AdapterOutcome(line.name, Outcome.SKIPPED, 0.0) for line in self._lines)
            return Identification(number, (), skipped, ignored=ignored)
        inquiry = _Inquiry(number, self._clock, self._options, late, self._whole)
        try:
            waves = [[line] for line in self._lines]
            if self._options.order is Order.PARALLEL:
                waves = [self._lines]
            for place, wave in enumerate(waves):
                inquiry.ask([self._seek(line, number, inquiry) for line in wave])
                await inquiry.wait(len(waves) - place)
                if inquiry.found:
                    break
        except BaseException:
            inquiry.cancel()
            raise
        inquiry.leave()
        found = self._whole(inquiry)
        for told in found.adapters:
            self._observe(told.adapter, told.outcome, told.ms / 1000)
        return found

    def _seek(self, line: Line, number: Number, inquiry: "_Inquiry") -> "_Sought":
        """Ask the index, the cache, and if need be the adapter itself."""
        sought = _Sought(line)
        key = number.e164 or ""
        live = line.asking.live or (Live.ALWAYS if line.local else Live.UNKNOWN)
        if self._index is not None and line.indexed:
            sought.listed = _of_adapter(self._index.lookup(number, line.name), line.name)
            sought.age = self._index.age(line.name)
            enough = sought.listed and not needs_details(sought.listed, self._options.ambiguity)
            if live is Live.NEVER or (live is Live.UNKNOWN and enough):
                known = bool(sought.listed) or self._index.covers(line.name)
                sought.end(sought.listed, Source.INDEX, None if known else "its index is not complete yet")
                return sought
        elif live is Live.NEVER:
            sought.end((), Source.INDEX, "it has no index, and is never asked")
            return sought
        cached = None if line.local else self.cache.get(line.name, key, self._clock.seconds())
        if cached is not None:
            parties, sought.age = cached
            sought.end(parties, Source.CACHE, None)
            return sought
        sought.question = line.ask(number, inquiry.ended)
        return sought

    def _whole(self, inquiry: "_Inquiry") -> Identification:
        """What all of them have said so far."""
        by_name = {sought.line.name: sought for sought in inquiry.sought}
        parties: list[Party] = []
        adapters = []
        for line in self._lines:
            found = by_name.get(line.name)
            if found is None:
                adapters.append(AdapterOutcome(line.name, Outcome.SKIPPED, 0.0, "somebody is found already"))
            else:
                parties.extend(found.parties)
                adapters.append(found.told)
        resolution, ordered = self.settle(inquiry.number, parties)
        return Identification(
            inquiry.number,
            ordered,
            tuple(adapters),
            _ms(inquiry.seconds),
            owners_among(ordered, self._owners),
            resolution,
            at=self._clock.seconds(),
        )

    def settle(self, number: Number, parties: Sequence[Party]) -> tuple[Resolution | None, tuple[Party, ...]]:
        """Which of several it is taken for, and all of them in the order in which they are shown."""
        if len(parties) < 2:
            return None, tuple(parties)
        key = number.e164 or ""
        resolution = resolve(parties, self._options.ambiguity, lambda: self._spoken(key))
        first = None if resolution is None else resolution.party
        return resolution, in_order(parties, first, self._chosen(key))


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


@define(eq=False)
class _Sought:
    """What one adapter has to say about a number, from wherever.

    @ivar listed: whom its index has.
    @ivar age: of what its index has, or the cache (seconds).
    @ivar question: what the adapter itself was asked, None if it was not.
    """

    line: Line
    listed: tuple[Party, ...] = ()
    age: float | None = None
    question: Question | None = None
    _known: tuple[tuple[Party, ...], Source, str | None] | None = None

    def end(self, parties: tuple[Party, ...], source: Source, why_not: str | None) -> None:
        """It is known without asking; or, with `why_not`, it cannot be known."""
        self._known = parties, source, why_not

    @property
    def pending(self) -> bool:
        return self.question is not None and self.question.outcome is None

    @property
    def parties(self) -> tuple[Party, ...]:
        if self._known is not None:
            return self._known[0]
        question = self.question
        if question is None or question.outcome in (Outcome.HIT, Outcome.MISS):
            return () if question is None else question.parties
        # What is listed of them is better than nothing.
        return self.listed

    @property
    def seconds(self) -> float:
        if self.question is None:
            return 0.0
        return self.question.seconds

    @property
    def told(self) -> AdapterOutcome:
        name = self.line.name
        if self._known is not None:
            parties, source, why_not = self._known
            if why_not is not None:
                return AdapterOutcome(name, Outcome.SKIPPED, 0.0, why_not)
            return AdapterOutcome(name, Outcome.HIT if parties else Outcome.MISS, 0.0, None, source, self.age)
        question = self.question
        if question is None:
            return AdapterOutcome(name, Outcome.SKIPPED, 0.0)
        outcome = question.outcome or Outcome.TIMEOUT
        if self.listed and outcome not in (Outcome.HIT, Outcome.MISS):
            why = f"live: {outcome.value}" + (f", {question.error}" if question.error else "")
            return AdapterOutcome(name, Outcome.HIT, _ms(self.seconds), why, Source.INDEX, self.age)
        asked = Source.LIVE if outcome in (Outcome.HIT, Outcome.MISS) else None
        return AdapterOutcome(name, outcome, _ms(self.seconds), question.error, asked)


@define(eq=False)
class _Inquiry:
    """One number that several adapters are asked about, and whoever waits for what they say."""

    number: Number
    _clock: Clock
    _options: Options
    _late: Late | None
    _whole: "Callable[[_Inquiry], Identification]"
    sought: list[_Sought] = field(factory=list)
    seconds: float = 0.0
    _began: float = field(init=False)
    _waiting: "Deferred[None] | None" = None
    _timer: DelayedCall | None = None
    _wave: list[_Sought] = field(factory=list)
    _left: bool = False
    _hurried: bool = False

    @_began.default
    def _now(self) -> float:
        return self._clock.seconds()

    @property
    def found(self) -> bool:
        """Whether anybody knows the number."""
        return any(sought.parties for sought in self.sought)

    def ask(self, sought: list[_Sought]) -> None:
        """These are asked now."""
        self._wave = sought
        self.sought.extend(sought)
        ends = self._began + self._options.budget
        for each in self._pending():
            if each.question is not None:
                each.question.watch(ends, keep=self._late is not None)

    async def wait(self, waves: int) -> None:
        """Until all of these have said something, or time is up.

        `waves`: how many groups share what is left of the budget. Once somebody is found, the others have a moment.
        """
        if not self._pending():
            return
        now = self._clock.seconds()
        left = max(0.0, self._began + self._options.budget - now) / waves
        self._timer = self._clock.callLater(left, self._go_on)
        if any(each.parties for each in self._wave):
            self._hurry()
        self._waiting = Deferred()
        try:
            await self._waiting
        finally:
            self._waiting = None
            self._stop()

    def ended(self, question: Question) -> None:
        """A question has its outcome; after the answer, one that found somebody is news."""
        if self._left:
            if question.outcome is Outcome.HIT and self._late is not None:
                self._late(self._whole(self))
        elif not self._pending():
            self._go_on()
        elif question.parties:
            self._hurry()

    def leave(self) -> None:
        """The answer is given: who has not said anything by now is late, or let go."""
        self.seconds = max(0.0, self._clock.seconds() - self._began)
        self._left = True
        for each in self.sought:
            question = each.question
            if question is None or question.outcome is not None:
                continue
            question.seconds = self.seconds
            if self.seconds >= self._options.budget - _INSTANT and self._late is None:
                question.time_is_up()
            elif self._late is None or question.not_asked():
                question.let_go(Outcome.TIMEOUT, "it is not waited for any longer")

    def cancel(self) -> None:
        self._left, self._late = True, None
        for each in self.sought:
            if each.question is not None:
                each.question.let_go()

    def _pending(self) -> list[_Sought]:
        return [each for each in self._wave if each.pending]

    def _hurry(self) -> None:
        """Somebody is found: the others have a moment, if so much is left."""
        timer, self._timer = self._timer, None
        if timer is None or self._hurried:
            self._timer = timer
            return
        self._hurried = True
        timer.cancel()
        ends = self._began + self._options.budget
        soon = self._clock.seconds() + self._options.patience
        self._timer = self._clock.callLater(max(0.0, min(ends, soon) - self._clock.seconds()), self._go_on)

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


#: Seconds by which two timers for one moment may miss each other.
_INSTANT: Final = 0.001


def _of_adapter(parties: Sequence[Party], name: str) -> tuple[Party, ...]:
    return tuple(party for party in parties if party.adapter == name)


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 3)
