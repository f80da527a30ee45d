"""Callers who wait for an agent, of all services and all Asterisks: who of them gets whoever becomes free.

Theory of operation. A call waits because a rule said so (`routing.rules.Wait`), and its channel hears music in the
dialplan. When an agent becomes free, the most urgent call that waits for them in its present step gets them: they are
reserved and the decision is kept with the call, which is made durable, and only then AMI's Redirect rings at the
dialplan (decision 9: it is a doorbell, and brings nothing). Whatever makes the dialplan ask next, the bell or the end
of its time, that question collects the decision, once. A question that comes while the bell is being rung waits until
Asterisk has said whether it rang, since it is cut off then. One that is cut off later has collected the decision in
vain: the question that the bell makes gets the same. What nobody collects within `COLLECTED_WITHIN` seconds is taken
back.

Nobody stands here who is not in the log: after a restart the calls come back with their places. What is not known of
them any more, who is calling above all, is found out when they ask; the bell only makes them do so.
"""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, Protocol

from attrs import define
from twisted.internet.defer import Deferred, TimeoutError
from twisted.python.failure import Failure

from cti.agents.roster import AgentNotReady, Roster
from cti.calls.life import Assigned, LiveCall, State
from cti.calls.log import CallLog
from cti.calls.services import Services
from cti.calls.tracker import Tracker
from cti.logs import get_logger
from cti.store.base import IClaims, StoreError, Unit
from cti.store.records import Key, ReservationRecord
from routing.decide import Action, Decision, decide
from routing.facts import Facts, Line, Place
from routing.offers import anybody_free, means
from routing.rules import Comfort, Service, Wait, Whom

log = get_logger("cti.calls.waiting_room")

#: Seconds within which the dialplan comes for whom it was promised.
COLLECTED_WITHIN: Final = 3.0
#: Seconds for which a question waits to hear whether the bell has rung: the dialplan's guard ends it after 3.
HEARD_WITHIN: Final = 1.0
#: Seconds after which a call asks in any case, and where nobody can ring at its Asterisk.
ASKS_AFTER: Final = 60
ASKS_WITHOUT_BELL: Final = 5
#: Seconds between two looks for agents who were free all along, such as one who may be tried again.
LOOK: Final = 1.0
#: Of so many agents found last the expected wait is made; with fewer than the second nothing is said.
_REMEMBERED: Final = 20
_LEAST_REMEMBERED: Final = 3


class IBell(Protocol):
    """Makes the dialplan ask about a call that waits."""

    def works(self, pbx: str) -> bool:
        """Whether it can be rung at that Asterisk now."""

    def ring(self, key: Key) -> "Deferred[Any]":
        """Fires once the channel asks; fails where it did not come to that."""


@define
class _Waiting:
    """One call in a line. `key`: the channel that waits; `rule`: as `SERVICE/RULE`; `bell`: while it is rung."""

    call: LiveCall
    key: Key
    service: str
    rule: str
    wait: Wait | None
    place: Place
    comforted: float
    bell: "Deferred[bool] | None" = None
    not_before: float = 0.0

    @property
    def whom(self) -> Whom | None:
        """For whom it waits; None where that is not known, or over."""
        if self.wait is None or self.place.step >= len(self.wait.steps):
            return None
        return self.wait.steps[self.place.step].whom

    def rank(self, at: float) -> tuple[float, float, str]:
        """The smallest goes first."""
        urgency = 0.0 if self.wait is None else self.wait.urgency(self.place.since, at)
        return -urgency, self.place.since, self.call.id

    def as_json(self) -> dict[str, Any]:
        """The place in the line."""
        return {"service": self.service, "rule": self.rule, "since": self.place.since}


@define
class _Absent:
    """One who has hung up and keeps the place: to be called back, by the entry `id`."""

    id: str
    service: str
    rule: str
    wait: Wait | None
    since: float
    party: Mapping[str, Any] | None
    not_before: float = 0.0

    def whom(self, at: float) -> Whom | None:
        """For whom they wait at that moment: once all steps are over, for those of the last one."""
        if self.wait is None:
            return None
        until = self.since
        for step in self.wait.steps:
            until += step.seconds
            if at < until:
                return step.whom
        return self.wait.steps[-1].whom

    def rank(self, at: float) -> tuple[float, float, str]:
        urgency = 0.0 if self.wait is None else self.wait.urgency(self.since, at)
        return -urgency, self.since, self.id


class WaitingRoom:
    """All lines."""

    def __init__(
        self,
        *,
        calls: CallLog,
        roster: Roster,
        tracker: Tracker,
        services: Callable[[], Services],
        facts: Callable[[LiveCall, str, Service, float], Facts],
        bell: IBell,
        clock: Any,
        call_back: Callable[[str, str], Coroutine[Any, Any, bool]],
        keeps_on: Callable[[str], bool],
        claims: IClaims | None = None,
    ) -> None:
        """`facts(call, pbx, service, at)`: what its next question would be decided by. `call_back(id, agent)`: the
        agent calls back who is absent; whether there is anything to be done any more. `keeps_on(id)`: whether they
        still want to be, and have not rung again and been answered. `claims`: None for the only server.
        """
        self._calls = calls
        self._roster = roster
        self._tracker = tracker
        self._services = services
        self._facts = facts
        self._bell = bell
        self._clock = clock
        self._call_back = call_back
        self._keeps_on = keeps_on
        self._claims = claims
        self._waiting: dict[str, _Waiting] = {}
        self._absent: dict[str, _Absent] = {}
        # Since when who waits for a service, those who have waited longest first.
        self._lines: dict[str, dict[str, float]] = {}
        self._freed: dict[str, None] = {}
        # When the callers of each service found an agent, newest last (epoch seconds).
        self._served: defaultdict[str, deque[float]] = defaultdict(partial(deque, maxlen=_REMEMBERED))
        roster.on_free(self._is_free)

    # Who waits.

    def restore(self, calls: Iterable[LiveCall]) -> None:
        """Take up those who waited when the server stopped."""
        for call in sorted(calls, key=lambda each: each.record.queued or each.record.started):
            record = call.record
            if call.state is not State.WAITING or record.uniqueid is None:
                continue
            places = call.places
            rule = max(places, key=lambda each: places[each].step_since, default="")
            place = places.get(rule) or Place(record.started, 0, record.started)
            wait = self._rule_of(rule)
            key, now = (record.pbx, record.uniqueid), self._clock.seconds()
            self._put(_Waiting(call, key, record.service or "", rule, wait, place, now))

    def _rule_of(self, rule: str) -> Wait | None:
        service, _, name = rule.partition("/")
        known = self._services().named(service)
        for each in () if known is None else known.rules:
            if each.name == name and isinstance(each.target, Wait):
                return each.target
        return None

    def came(self, call: LiveCall, key: Key, decision: Decision) -> bool:
        """The call waits by this decision; whether that is news: it was not there, or in another step."""
        service = decision.service or call.record.service or ""
        rule = f"{service}/{decision.rule}"
        place = decision.places[rule]
        before = self._waiting.get(call.id)
        if before is not None and (before.rule, before.place.step) == (rule, place.step):
            before.wait, before.place, before.key = decision.line, place, key
            return False
        comforted = -math.inf if before is None else before.comforted
        entry = _Waiting(call, key, call.record.service or "", rule, decision.line, place, comforted)
        self._put(entry)
        return True

    def _put(self, entry: _Waiting) -> None:
        self._waiting[entry.call.id] = entry
        self._lines.setdefault(entry.service, {}).setdefault(entry.call.id, entry.place.since)

    def left(self, call: LiveCall, *, served: bool = False) -> _Waiting | None:
        """The call waits no more; `served`: an agent was found for it. Where it stood is returned."""
        entry = self._waiting.pop(call.id, None)
        if entry is not None:
            self._lines[entry.service].pop(call.id, None)
        if entry is not None and served:
            self._served[entry.service].append(self._clock.seconds())
        return entry

    # Who is called back, and keeps the place.

    def callback_key(self, call: LiveCall) -> str:
        """The key by which this call may ask to be called back, empty for none."""
        entry = self._waiting.get(call.id)
        callback = None if entry is None or entry.wait is None else entry.wait.callback
        return "" if callback is None or call.record.from_number is None else callback.key

    def wants_callback(self, call: LiveCall, pressed: str) -> Decision | None:
        """What is decided for who waits and has pressed this key; None if it is not the one."""
        entry = self._waiting.get(call.id)
        if entry is None or entry.wait is None or not pressed or pressed != self.callback_key(call):
            return None
        assert entry.wait.callback is not None
        rule = entry.rule.partition("/")[2]
        reason = f"{rule}: the caller has pressed {pressed} to be called back"
        sounds = "&".join(entry.wait.callback.sounds)
        return Decision(
            Action.ANNOUNCE,
            (),
            sounds,
            0,
            rule,
            reason,
            (),
            places=call.places,
            line=entry.wait,
            callback=True,
        )

    def keeps_place(self, id: str, place: Mapping[str, Any], party: Mapping[str, Any] | None) -> None:
        """Whoever is to be called back by this entry stands in the line until then."""
        rule, since = str(place.get("rule", "")), place.get("since")
        if isinstance(since, int | float):
            service = str(place.get("service", ""))
            self._absent[id] = _Absent(id, service, rule, self._rule_of(rule), float(since), party)

    def _dial_back(self, entry: _Absent, agent: str) -> None:
        entry.not_before = self._clock.seconds() + ASKS_AFTER
        done = Deferred.fromCoroutine(self._call_back(entry.id, agent))
        done.addCallbacks(lambda _: self._absent.pop(entry.id, None), self._not_dialled, errbackArgs=(entry,))

    def _not_dialled(self, failure: Failure, entry: _Absent) -> None:
        log.info("who keeps a place in a line could not be called back yet", why=str(failure.value))
        entry.not_before = self._clock.seconds() + COLLECTED_WITHIN

    def news(self, _unit: Unit, call: LiveCall) -> None:
        """Something has become of the call."""
        if call.over or call.state not in (State.WAITING, State.ASKED):
            self.left(call)

    def __len__(self) -> int:
        """How many wait, those who are absent among them."""
        return len(self._waiting) + len(self._absent)

    def line(self, service: str, at: float, but: LiveCall | None = None) -> Line:
        """The line of a service, without this call."""
        line = self._lines.get(service, {})
        first = next((since for id, since in line.items() if but is None or id != but.id), None)
        calls = len(line) - (but is not None and but.id in line)
        return Line() if first is None else Line(calls, max(0.0, at - first))

    def position(self, call: LiveCall) -> int:
        """The how manyth of those who wait for the same service it is, 1 for the next one."""
        entry = self._waiting.get(call.id)
        if entry is None:
            return 1
        at = self._clock.seconds()
        rank = entry.rank(at)
        return 1 + sum(other.service == entry.service and other.rank(at) < rank for other in self._all())

    def expected(self, call: LiveCall, position: int) -> float | None:
        """Seconds until it may be its turn, by how fast agents were found of late; None where nobody can say.

        Honest: while nobody is served, the time that passes counts, so that it grows.
        """
        entry = self._waiting.get(call.id)
        served = None if entry is None else self._served[entry.service]
        if served is None or len(served) < _LEAST_REMEMBERED:
            return None
        every: float = (self._clock.seconds() - served[0]) / len(served)
        return every * position

    def asks_in(self, call: LiveCall, decision: Decision) -> tuple[int, Comfort | None]:
        """Seconds until the dialplan has to ask again, and what it is to say before, if it is time for that."""
        entry = self._waiting[call.id]
        seconds = min(decision.timeout, ASKS_AFTER)
        if not self._bell.works(entry.key[0]):
            seconds = min(seconds, ASKS_WITHOUT_BELL)
        comfort = None if entry.wait is None else entry.wait.comfort
        if comfort is None:
            return seconds, None
        at = self._clock.seconds()
        due = entry.comforted + comfort.every - 0.5
        if at < due:
            return max(1, min(seconds, math.ceil(due - at))), None
        entry.comforted = at
        return min(seconds, comfort.every), comfort

    async def rung(self, call: LiveCall) -> bool:
        """Wait while the bell is being rung for this call; whether it was, so that whoever asks is cut off."""
        entry = self._waiting.get(call.id)
        bell = None if entry is None else entry.bell
        if bell is None:
            return False
        rang: Deferred[bool] = Deferred()
        bell.addCallback(_and_tell, rang)
        try:
            return await rang.addTimeout(HEARD_WITHIN, self._clock)
        except TimeoutError:
            return False

    # Who is free.

    def _is_free(self, agent: str) -> None:
        if not self._freed:
            # Not at once: whoever let go of them has not finished, and several may come free together.
            self._clock.callLater(0, self._match_freed)
        self._freed[agent] = None

    def _match_freed(self) -> None:
        freed, self._freed = self._freed, {}
        line = self._in_order()
        at = self._clock.seconds()
        for id in freed:
            agent = self._roster.agents.get(id)
            if agent is None or agent.why_not is not None:
                continue
            for entry in line:
                if isinstance(entry, _Absent):
                    if self._is_for(entry, id, at):
                        self._dial_back(entry, id)
                        break
                elif self._waits_for(entry, id) and self._may_have(entry) and self._give(entry):
                    break

    def look(self) -> None:
        """Whether somebody waits for an agent who is free; normally nobody does."""
        self._strike_off()
        free = self._roster.free() if self._waiting or self._absent else ()
        if not free:
            return
        at = self._clock.seconds()
        for entry in self._in_order():
            if isinstance(entry, _Absent):
                agent = next((id for id in free if self._is_for(entry, id, at)), None)
                if agent is not None:
                    self._dial_back(entry, agent)
                continue
            if self._may_have(entry) and self._may_find(entry):
                self._give(entry)

    def _strike_off(self) -> None:
        """Whoever does not want to be called back any more has no place; who is being called keeps theirs."""
        at = self._clock.seconds()
        for entry in list(self._absent.values()):
            if entry.not_before <= at and not self._keeps_on(entry.id):
                del self._absent[entry.id]

    def _may_find(self, entry: _Waiting) -> bool:
        """Whether somebody for whom it waits is free; True where nobody knows that until it asks."""
        whom, call = entry.whom, entry.call
        if whom is None or self._services().named(entry.service) is None:
            return True
        past = call.past.get(entry.service)
        return anybody_free(whom, self._roster.agents, self._roster.groups, call.party, past)

    def _all(self) -> Iterator[_Waiting | _Absent]:
        return chain(self._waiting.values(), self._absent.values())

    def _in_order(self) -> list[_Waiting | _Absent]:
        at = self._clock.seconds()
        return sorted(self._all(), key=lambda entry: entry.rank(at))

    def _is_for(self, entry: _Absent, agent: str, at: float) -> bool:
        """Whether this agent, who is free and has no call, is one for whom they wait."""
        whom = entry.whom(at)
        facts = self._roster.agents.get(agent)
        return (
            entry.not_before <= at
            and facts is not None
            and facts.why_not is None
            and facts.calls == 0
            and whom is not None
            and means(whom, agent, self._roster.groups, entry.party, None)
        )

    def _may_have(self, entry: _Waiting) -> bool:
        """Whether it is not being served already."""
        return (
            entry.call.state is State.WAITING
            and entry.call.assigned is None
            and entry.bell is None
            and entry.not_before <= self._clock.seconds()
            and self._bell.works(entry.key[0])
        )

    def _waits_for(self, entry: _Waiting, agent: str) -> bool:
        whom, call = entry.whom, entry.call
        past = call.past.get(entry.service)
        return whom is None or means(whom, agent, self._roster.groups, call.party, past)

    def _give(self, entry: _Waiting) -> bool:
        """Promise the call whom it waits for, or have it ask; False where the rules want nobody of them now."""
        call, at = entry.call, self._clock.seconds()
        services = self._services()
        service = services.named(entry.service)
        if service is None or entry.wait is None or call.identification is None:
            # Since a restart, or a reload, not enough is known: it has to ask, and is served then.
            entry.not_before = at + COLLECTED_WITHIN
            self._ring(entry, None)
            return True
        decision = decide(service, self._facts(call, entry.key[0], service, at), services.all)
        if decision.action is not Action.DIAL or not decision.agents:
            return False
        expires = at + COLLECTED_WITHIN
        try:
            reservations = self._roster.reserve(decision.agents, call.id, call.record.attempt + 1, expires)
        except AgentNotReady as error:
            log.error("an agent whom routing took for free is not", call=call.id, why=str(error))
            return False
        assigned = call.assigned = Assigned(decision, None, expires)
        if self._claims is None:
            self._send_for(frozenset(), entry, assigned, reservations)
        else:
            self._claims.take(decision.agents).addCallback(self._send_for, entry, assigned, reservations)
        return True

    def _send_for(
        self,
        taken: Collection[str],
        entry: _Waiting,
        assigned: Assigned,
        reservations: Sequence[ReservationRecord],
    ) -> None:
        """The agents are this call's, unless another server has `taken` some of them."""
        call, agents = entry.call, assigned.decision.agents
        if call.assigned is not assigned:
            # It has asked meanwhile, and was told whom it gets, or is over.
            return
        if taken:
            log.info("an agent is held by another server", call=call.id, agents=sorted(taken))
            call.assigned = None
            self._roster.elsewhere(taken)
            self._roster.unreserve(agents, call.id)
            return
        unit = self._calls.unit()
        for reservation in reservations:
            unit.put_reservation(reservation)
        call.keep_places(assigned.decision.places)
        unit.put_call(call.record)
        self._clock.callLater(COLLECTED_WITHIN, self._take_back, entry, assigned)
        # Where it cannot be made durable now, the spool has it, or nobody: the caller waits for neither.
        self._calls.commit(unit).addErrback(_not_durable).addCallback(lambda _: self._ring(entry, assigned))

    def _ring(self, entry: _Waiting, assigned: Assigned | None) -> None:
        """`assigned`: what is there to collect, so that nobody needs the bell who has done so already."""
        if entry.call.assigned is not assigned or self._waiting.get(entry.call.id) is not entry:
            return
        if entry.bell is None:
            entry.bell = Deferred()
            self._bell.ring(entry.key).addCallbacks(
                lambda _: True, self._not_rung, errbackArgs=(entry,)
            ).addCallback(_tell, entry)

    def _not_rung(self, failure: Failure, entry: _Waiting) -> bool:
        # The call may have ended, or its channel have gone elsewhere; or the link to Asterisk is lost.
        log.info("a waiting call could not be told to ask", call=entry.call.id, why=str(failure.value))
        entry.not_before = self._clock.seconds() + COLLECTED_WITHIN
        return False

    def _take_back(self, entry: _Waiting, assigned: Assigned) -> None:
        call = entry.call
        if call.assigned is not assigned:
            return
        call.assigned = None
        log.warning("a waiting call did not come for its agent", call=call.id)
        entry.not_before = self._clock.seconds() + COLLECTED_WITHIN
        unit = self._calls.unit()
        self._tracker.let_go(unit, call, assigned.decision.agents)
        self._calls.write(call, unit)


def _tell(rang: bool, entry: _Waiting) -> None:
    bell, entry.bell = entry.bell, None
    if bell is not None:
        bell.callback(rang)


def _and_tell(rang: bool, also: "Deferred[bool]") -> bool:
    if not also.called:
        also.callback(rang)
    return rang


def _not_durable(failure: Failure) -> None:
    if not isinstance(failure.value, StoreError):
        failure.raiseException()
    log.error("a reservation could not be made durable", why=str(failure.value))
