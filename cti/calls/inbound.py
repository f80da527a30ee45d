"""The way of an inbound call, from Asterisk's question to the answer: identify, decide, reserve, log, show, answer.

Whatever fails here, the caller goes on: without an answer in time the dialplan takes its own fallback.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.task import deferLater

from cti.agents.roster import Roster
from cti.asterisk.channels import device_of
from cti.asterisk.fastagi import AgiCommandFailed, AgiHangup, AgiSession, AgiTimeout
from cti.calls.card import card_body
from cti.calls.history import CallHistory
from cti.calls.life import Assigned, LiveCall, is_call_id, mint_call_id
from cti.calls.log import CallLog
from cti.calls.own import OwnCode
from cti.calls.route_request import BadRouteRequest, RouteRequest, check_pbx
from cti.calls.services import Services
from cti.calls.tracker import Tracker
from cti.calls.waiting_room import COLLECTED_WITHIN, WaitingRoom
from cti.identify.identification import SEVERAL, Identification, Outcome
from cti.identify.identifier import Identifier
from cti.logs import get_logger
from cti.numbers import Number, NumberKind, country
from cti.store.base import IClaims, StoreError, Unit
from cti.store.records import CallRecord, ChannelRecord, DecisionRecord, Key, SegmentRecord
from routing.clock import WallClock
from routing.decide import Action, Decision, decide
from routing.facts import Facts
from routing.rules import Mode, Service

log = get_logger("cti.calls.inbound")

#: Seconds of the answer's time in which no card is waited for.
KEPT_FOR_THE_ANSWER: Final = 0.1
#: Seconds in which the end of a connection is read that was closed while this process stood still.
LET_IN: Final = 0.05

_FALL_OPEN: Final = [("CTI_ACTION", "fallback")]
#: What a CRM sends may be longer than an AGI line; a shortened name is better than none.
_MAY_BE_CUT: Final = frozenset({"CTI_CALLER_NAME", "CTI_LANGUAGE", "CTI_REASON"})


class AskedAgain(Exception):
    """The doorbell has rung while this was asked: the dialplan has left, and asks once more."""


class CallIsOver(Exception):
    """The caller hung up while we were thinking: there is nobody to answer to."""


@frozen
class Asked:
    """A question on its way: what Asterisk sent, whose call it is, and since when (epoch seconds).

    `assigned`: what an agent who passed the call on has decided. `refusal`: of a caller who is blocked.
    """

    request: RouteRequest
    at: float
    caller: Number
    called: Number
    service: Service | None
    assigned: Decision | None = None
    refusal: Decision | None = None

    @property
    def steered(self) -> bool:
        """Whether what is decided is done: not while we only observe, unless an agent has said what they want."""
        if self.assigned is not None:
            return True
        return self.service is not None and self.service.mode is Mode.ROUTE

    @property
    def carded(self) -> bool:
        """Whether agents see who is calling: also where the phones ring as without us."""
        return self.steered or (self.service is not None and self.service.mode is Mode.PARALLEL)


class Inbound:
    """Answers the dialplan's `agi://HOST/route`."""

    def __init__(
        self,
        *,
        calls: CallLog,
        tracker: Tracker,
        roster: Roster,
        services: Callable[[], Services],
        identifier: Callable[[], Identifier],
        clock: Any,
        answer_within: float,
        offer_grace: float,
        card_url: str | None,
        measure: "Measures",
        pbxes: Collection[str],
        learn: Callable[[str, Service], None],
        stood_still: Callable[[], bool],
        painted: "Callable[[LiveCall, Collection[str], float], Awaitable[None]]",
        said: Callable[[Key], Identification | None],
        freshen: Callable[[LiveCall], None],
        late: Callable[[LiveCall, Identification], None],
        refusal: Callable[[Number], Decision | None],
        room: WaitingRoom,
        call_back: Callable[[Unit, LiveCall, Mapping[str, Any] | None], str | None],
        history: CallHistory,
        own: OwnCode,
        not_answered: Callable[[str, SegmentRecord], None],
        claims: IClaims | None = None,
    ) -> None:
        """`services` and `identifier` are asked for at each call, so that a reload changes the next one.

        `answer_within`: seconds from question to answer. `offer_grace`: seconds that agents stay held beyond
        the ringing, for Asterisk's way there and back. `card_url`: where a call's card can be seen, with
        `{call}` for its id; None where there is no page. `pbxes`: names of the Asterisks that may ask.
        `learn(did, service)` is told by which form of its number a service was reached. `stood_still`:
        whether this process was frozen a moment ago, and may be reading questions that nobody waits for.
        `painted(call, agents, seconds)`: waits until one of them sees the card. `said(channel)`: who its caller is,
        by a key that they typed before. `freshen(call)`: asks for more of who is on the card, once it is shown.
        `late(call, found)`: an adapter has said who it is, too late for the decision. `refusal(caller)`: what is
        decided for who is blocked, None for others. `room`: where calls wait. `call_back(unit, call, place)`:
        somebody has been promised that they are called back, and perhaps keeps a place in a line; the id of that.
        `not_answered(agent, offer)`: their phone rang for it to its end. `claims`: who of several servers holds an
        agent, None for the only one.
        """
        self._calls = calls
        self._tracker = tracker
        self._roster = roster
        self._services = services
        self._identifier = identifier
        self._clock = clock
        self._answer_within = answer_within
        self._offer_grace = offer_grace
        self._card_url = card_url
        self._measure = measure
        self._pbxes = pbxes
        self._learn = learn
        self._stood_still = stood_still
        self._painted = painted
        self._said = said
        self._freshen = freshen
        self._late = late
        self._refusal = refusal
        self._room = room
        self._call_back = call_back
        self._history = history
        self._own = own
        self._not_answered = not_answered
        self._claims = claims

    async def route(self, session: AgiSession) -> None:
        """One question of the dialplan, answered."""
        if self._stood_still() and await self._is_old(session):
            return
        at = self._clock.seconds()
        try:
            asked = self._understand(RouteRequest.of(session.request), at)
        except BadRouteRequest as error:
            log.error("a request that this version's dialplan does not make", why=str(error))
            await session.set_variables(_FALL_OPEN)
            return
        try:
            call = await self._whose(asked)
        except CallIsOver:
            log.info("the caller hung up before the question arrived", pbx=asked.request.pbx)
            return
        told: Deferred[BaseException | None] = succeed(None)
        unit = self._open(asked, call)
        attempt = call.record.attempt
        try:
            identified = await self._identify(asked, call)
            if call.unwritten is not unit:
                # News of the call, such as a resync's, have taken it along: what follows goes behind it.
                unit = self._calls.unit()
            if not asked.request.sent and await self._room.rung(call):
                raise AskedAgain
            facts = self._facts(asked, call, identified)
            asked = evolve(asked, assigned=assigned_to(call, asked.at, sent=asked.request.sent))
            if asked.assigned is not None and not self._roster.may_reserve(asked.assigned.agents, call.id):
                # They have logged out meanwhile, or are not there any more.
                asked = evolve(asked, assigned=None)
            wanted = None if asked.assigned else self._room.wants_callback(call, asked.request.key)
            decision = asked.assigned or asked.refusal or wanted or self._decide(asked.service, facts)
            if self._claims is not None:
                asked, facts, decision = await self._claim(asked, call, identified, facts, decision)
                if call.unwritten is not unit:
                    unit = self._calls.unit()
            waits_on = self._reserve(asked, call, identified, facts, decision, unit)
            answer = self._variables(asked, call, decision)
            told = self._begin_to_answer(session, answer)
            if waits_on:
                # Nothing has become true that was not true before.
                self._calls.write(call, unit)
            else:
                await self._log_and_show(asked, call, unit)
            await self._let_paint(asked, call, decision)
            await self._answer(session, asked, call, decision, identified, told, answer, news=not waits_on)
        except CallIsOver:
            log.info("the caller hung up before the answer", call=call.id)
        except AskedAgain:
            log.debug("a waiting call asks once more, and is answered then", call=call.id)
        except LogTooSlow as error:
            log.error("the call falls open: it could not be logged in time", call=call.id, why=str(error))
            await told
            await self._fall_open(session, asked, call)
        except (AgiHangup, AgiTimeout, AgiCommandFailed) as error:
            # The session is over, and with it this offer. The call may live: only AMI says that it ended.
            log.warning("Asterisk did not take the answer", call=call.id, why=str(error))
            if call.record.attempt != attempt:
                # It has asked once more by now, and what that led to is not this question's to end.
                return
            if call.collected is None:
                self._offer_failed(call, None)
            else:
                # The doorbell may have cut this question off: the one that it makes gets the same.
                self._clock.callLater(COLLECTED_WITHIN, self._in_vain, call, call.collected)

    async def fall_open(self, session: AgiSession) -> None:
        """Too many ask at once: an immediate answer instead of a queue. AMI and AstDB will tell of the call."""
        self._measure.shed()
        at = self._clock.seconds()
        try:
            service = self._understand(RouteRequest.of(session.request), at).service
        except BadRouteRequest:
            service = None
        await session.set_variables([*_target_of(service), ("CTI_REASON", "overload"), *_FALL_OPEN])
        self._measure.answered_asterisk(self._clock.seconds() - at)

    # The steps.

    def _understand(self, request: RouteRequest, at: float) -> Asked:
        check_pbx(request, self._pbxes)
        services = self._services()
        service, called = services.of(request.did)
        if service is not None:
            self._learn(request.did, service)
        caller = services.plan.parse(
            None if request.caller == "unknown" else request.caller, presentation=request.presentation
        )
        return Asked(request, at, caller, called, service, refusal=self._refusal(caller))

    async def _whose(self, asked: Asked) -> LiveCall:
        """The call that is asked about: a living one, one that was wrongly taken for dead, or a new one."""
        request = asked.request
        if self._tracker.was_hung_up(request.pbx, request.uniqueid):
            raise CallIsOver
        call = self._calls.of_channel(request.pbx, request.uniqueid)
        if call is None and request.call is not None and is_call_id(request.call):
            call = self._calls.get(request.call) or await self._revived(request.call)
        if call is None:
            record = new_record(
                mint_call_id(asked.at),
                request.pbx,
                request.uniqueid,
                request.did,
                asked.at,
                asked.caller,
                asked.called,
                asked.service,
            )
            record.linkedid = request.linkedid
            call = LiveCall(record)
        key = request.pbx, request.uniqueid
        if key not in call.channels:
            call.channels[key] = ChannelRecord(
                pbx=request.pbx,
                uniqueid=request.uniqueid,
                call=call.id,
                device=device_of(request.channel),
                role="caller",
                began=asked.at,
                name=request.channel,
            )
        self._calls.keep(call)
        return call

    async def _revived(self, id: str) -> LiveCall | None:
        """A call that asks is alive, whatever we thought."""
        try:
            detail = await self._calls.store.call(id)
        except StoreError as error:
            log.error("the log could not be read", call=id, why=str(error))
            return None
        if detail is None:
            return None
        call = LiveCall.restored(detail)
        call.revive()
        return call

    def _open(self, asked: Asked, call: LiveCall) -> Unit:
        """The transaction of this decision. An offer that was open has ended: its agents are free again."""
        unit = self._calls.unit()
        if call.record.from_kind == NumberKind.UNAVAILABLE:
            # AMI told of the call first, and does not say whether the number may be shown.
            name_caller(call.record, asked.caller)
        if asked.service is not None:
            call.record.service, call.record.mode = asked.service.name, str(asked.service.mode)
        channel = call.channels[asked.request.pbx, asked.request.uniqueid]
        if asked.request.last == "NOANSWER":
            if (offer := call.offer) is not None:
                # Before they are let go, so that nobody finds them ready in between.
                for agent in call.rang_out:
                    self._not_answered(agent, offer)
            self._tracker.was_not_taken(unit, asked.request.pbx, asked.request.uniqueid, call)
        self._tracker.let_go(unit, call, call.ask(unit, asked.at, channel, asked.request.last))
        # If the caller leaves before the decision, this is written before the end of the call.
        call.unwritten = unit
        return unit

    async def _identify(self, asked: Asked, call: LiveCall) -> Identification:
        """Who is calling; meanwhile what happened with them before; then what the company's own code says to it."""
        past = Deferred.fromCoroutine(self._look_back(asked, call))
        identified = await self._who(asked, call)
        await past
        await self._ask_own(asked, call, identified)
        return identified

    async def _look_back(self, asked: Asked, call: LiveCall) -> None:
        """Ask the log, for rules that want to know, of who shows a number; once for each service."""
        service, number = asked.service, call.record.from_number
        if service is None or number is None or asked.refusal is not None or service.name in call.past:
            return
        if self._services().ask_for_history(service):
            call.past[service.name] = await self._history.of(
                number, service, asked.at, call=call.id, within=self._left(asked)
            )

    async def _ask_own(self, asked: Asked, call: LiveCall, identified: Identification) -> None:
        """Ask the company's own code, where rules want to know and are to decide; at each question, as all facts."""
        if asked.service is None or asked.refusal is not None or call.assigned is not None:
            return
        call.own = {}
        if wanted := self._services().own_questions(asked.service):
            facts = self._facts(asked, call, identified)
            call.own = await self._own.of(wanted, facts, within=self._left(asked))

    def _left(self, asked: Asked) -> float:
        """Seconds that may still go by before the decision."""
        left: float = asked.at + self._answer_within - KEPT_FOR_THE_ANSWER - self._clock.seconds()
        return left

    async def _who(self, asked: Asked, call: LiveCall) -> Identification:
        """Who is calling: as they have said themselves, else asked of the CRMs, once a call."""
        said = self._said((asked.request.pbx, asked.request.uniqueid))
        if said is not None:
            call.identification = None
        if call.identification is None:
            if asked.refusal is not None:
                call.identification = Identification(asked.caller, ignored=True)
                return call.identification
            identified = said or await self._identifier().identify(
                asked.caller, lambda found: self._late(call, found)
            )
            call.identification = identified
            for answer in identified.adapters:
                if answer.outcome in (Outcome.TIMEOUT, Outcome.ERROR):
                    log.warning(
                        "an adapter did not say who is calling",
                        call=call.id,
                        adapter=answer.adapter,
                        outcome=str(answer.outcome),
                        ms=answer.ms,
                        why=answer.error,
                    )
            call.record.identify_ms = identified.ms
            call.party = party_facts(identified)
            call.record.party = brief_party(call.party)
        return call.identification

    def _facts(self, asked: Asked, call: LiveCall, identified: Identification) -> Facts:
        facts = self.facts_of(call, asked.request.pbx, asked.service, asked.at)
        return evolve(facts, parties=len(identified.parties), last=asked.request.last)

    def facts_of(self, call: LiveCall, pbx: str, service: Service | None, at: float) -> Facts:
        """What a question about this call is decided by."""
        record = call.record
        known = call.identification
        return Facts(
            at=at,
            service=record.service or "",
            from_number=record.from_number,
            from_kind=record.from_kind,
            to=record.to_number or "",
            party=call.party,
            parties=0 if known is None else len(known.parties),
            attempt=record.attempt,
            tried=call.tried,
            lately=call.tried_lately(at),
            agents=self._roster.agents,
            groups=self._roster.groups,
            pbx=pbx if self._roster.knows_phones_of(pbx) else None,
            clock=wall_clock(service, at),
            call=call.id,
            places=call.places,
            line=self._room.line(record.service or "", at, but=call),
            from_country=country_of(record.from_number),
            history=call.past.get(record.service or ""),
            own=call.own,
        )

    def _decide(self, service: Service | None, facts: Facts) -> Decision:
        return decision_for(service, facts, self._services().all)

    async def _claim(
        self, asked: Asked, call: LiveCall, identified: Identification, facts: Facts, decision: Decision
    ) -> tuple[Asked, Facts, Decision]:
        """Have the agents for this server, of several; whom another one has, the call is not offered to."""
        assert self._claims is not None
        while asked.steered and decision.action is Action.DIAL and decision.agents:
            expires = self._clock.seconds() + COLLECTED_WITHIN
            self._roster.reserve(decision.agents, call.id, call.record.attempt, expires)
            taken = await self._claims.take(decision.agents)
            self._still_there(asked, call)
            if not taken:
                break
            log.info("an agent is held by another server", call=call.id, agents=sorted(taken))
            self._roster.elsewhere(taken)
            self._roster.unreserve(decision.agents, call.id)
            asked, facts = evolve(asked, assigned=None), self._facts(asked, call, identified)
            decision = self._decide(asked.service, facts)
        return asked, facts, decision

    def _reserve(
        self,
        asked: Asked,
        call: LiveCall,
        identified: Identification,
        facts: Facts,
        decision: Decision,
        unit: Unit,
    ) -> bool:
        """Hold the agents, and put everything that becomes true with this decision into its transaction.

        Whether the call only goes on waiting as it did, which is no news.
        """
        self._still_there(asked, call)
        at = self._clock.seconds()
        record = call.record
        call.keep_places(decision.places)
        stood = None
        if asked.steered and decision.action is Action.WAIT:
            key = asked.request.pbx, asked.request.uniqueid
            if not self._room.came(call, key, decision):
                call.wait(unit, at, decision, 0)
                unit.put_call(record)
                return True
        elif decision.action is not Action.WAIT:
            stood = self._room.left(call, served=decision.action is Action.DIAL)
        record.rule, record.reason = decision.rule, decision.reason
        unit.put_decision(
            DecisionRecord(
                call=call.id,
                attempt=record.attempt,
                at=at,
                service=record.service,
                mode=record.mode,
                action=str(decision.action),
                agents=decision.agents,
                target=decision.target,
                rule=decision.rule,
                reason=decision.reason,
                facts=facts.as_json(),
                trace=[step.as_json() for step in decision.trace],
                identification=identified.facts(at),
                last=facts.last,
            )
        )
        self._emit_routed(unit, call, decision, at)
        if asked.steered and decision.action is Action.DIAL:
            expires = at + decision.timeout + self._offer_grace
            for reservation in self._roster.reserve(decision.agents, call.id, record.attempt, expires):
                unit.put_reservation(reservation)
            call.action = str(decision.action)
            card = card_body(call, identified, asked.service, self._services())
            by_rules = asked.assigned is None or asked.assigned.line is not None
            call.offer_to(unit, at, decision, card, by_rules=by_rules)
        elif asked.steered and decision.action is Action.WAIT:
            call.action = str(decision.action)
            call.wait(unit, at, decision, self._room.position(call))
        else:
            if asked.carded:
                # Not shown yet: for an agent whom the company's own dialplan may ring.
                call.card = card_body(call, identified, asked.service, self._services())
            action = decision.action if asked.refusal is None else Action.REJECT
            call.send_elsewhere(unit, at, str(action if asked.steered else Action.FALLBACK))
            if asked.steered and decision.callback:
                # Whoever waited, and pressed a key for it, keeps the place.
                place = None if stood is None or decision.line is None else stood.as_json()
                id = self._call_back(unit, call, place)
                if place is not None and id is not None:
                    self._room.keeps_place(id, place, call.party)
        unit.put_call(record)
        return False

    def _emit_routed(self, unit: Unit, call: LiveCall, decision: Decision, at: float) -> None:
        self._measure.decided(call.record.service, str(decision.action))
        unit.emit(
            "call.routed",
            at,
            {
                "call": call.brief(),
                "party": call.record.party,
                "attempt": call.record.attempt,
                "mode": call.record.mode,
                "action": str(decision.action),
                "agents": list(decision.agents),
                "target": decision.target,
                "rule": decision.rule,
                "reason": decision.reason,
            },
            call=call.id,
            agents=decision.agents if call.record.mode != Mode.OBSERVE else (),
        )

    @staticmethod
    def _begin_to_answer(
        session: AgiSession, answer: Sequence[tuple[str, str]]
    ) -> "Deferred[BaseException | None]":
        """Let Asterisk have all but CTI_ACTION while the log is written: without that, it is no answer yet.

        Fires with the error, if there was one.
        """
        return session.set_variables(answer[:-1], may_cut=_MAY_BE_CUT).addErrback(
            lambda failure: failure.value
        )

    async def _log_and_show(self, asked: Asked, call: LiveCall, unit: Unit) -> None:
        """Durable, and on the agents' screens, before Asterisk hears of it. Raises `LogTooSlow`."""
        left = asked.at + self._answer_within - self._clock.seconds()
        if call.unwritten is unit:
            call.unwritten = None
        written = self._calls.commit_for_caller(unit)
        try:
            await in_time(written, max(left, 0.001), self._clock)
        except StoreError as error:
            call.unwritten = unit
            raise LogTooSlow(str(error)) from error
        except TimeoutError as error:
            raise LogTooSlow(str(error)) from error
        if call.cards:
            self._measure.card_offered(self._clock.seconds() - asked.at)
        self._still_there(asked, call)

    async def _let_paint(self, asked: Asked, call: LiveCall, decision: Decision) -> None:
        """Where the service wants the card on the screen first: give a browser the time, but not the caller's."""
        if not call.cards or asked.service is None or not asked.service.card_lead_ms:
            return
        left = asked.at + self._answer_within - self._clock.seconds() - KEPT_FOR_THE_ANSWER
        await self._painted(call, decision.agents, min(asked.service.card_lead_ms / 1000, left))
        self._still_there(asked, call)

    async def _answer(
        self,
        session: AgiSession,
        asked: Asked,
        call: LiveCall,
        decision: Decision,
        identified: Identification,
        told: "Deferred[BaseException | None]",
        answer: Sequence[tuple[str, str]],
        *,
        news: bool,
    ) -> None:
        """Tell Asterisk the last of it, CTI_ACTION: only with it is the answer one. `news`: it is worth a line."""
        error = await told
        if error is not None:
            raise error
        await session.set_variables(answer[-1:])
        # The caller waits for this, and for nothing below.
        session.finish()
        if call.card is not None and call.record.attempt == 1:
            self._freshen(call)
        seconds = self._clock.seconds() - asked.at
        self._measure.answered_asterisk(seconds)
        call.record.setup_ms = call.record.setup_ms or round(seconds * 1000, 3)
        (log.info if news else log.debug)(
            "routed",
            call=call.id,
            service=call.record.service,
            action=str(decision.action),
            agents=decision.agents,
            rule=decision.rule,
            attempt=call.record.attempt,
            adapters={each.adapter: each.outcome.value for each in identified.adapters},
            ms=round(seconds * 1000, 1),
        )

    def _variables(self, asked: Asked, call: LiveCall, decision: Decision) -> list[tuple[str, str]]:
        """The contract's answer. The dialplan has cleared all of them, so what is empty is left out."""
        service = asked.service
        action, target = decision.action, decision.target
        if not asked.steered:
            action, target = Action.FALLBACK, service.fallback if service is not None else ""
        variables = {
            "__CTI_CALL_ID": call.id,
            "CTI_TARGET": target,
            "CTI_NEXT": decision.then if action is Action.ANNOUNCE else "",
            "CTI_TIMEOUT": str(decision.timeout) if action is Action.DIAL else "",
            "CTI_REASON": decision.reason,
        }
        if action is Action.WAIT:
            variables |= self._comfort(call, decision)
        party: Mapping[str, Any] = call.party or {}
        if action is not Action.FALLBACK:
            variables["CTI_LANGUAGE"] = party.get("language") or ""
        if action is Action.DIAL:
            variables["CTI_CALLER_NAME"] = party.get("name") or ""
            if self._card_url is not None:
                variables["CTI_CARD_URL"] = self._card_url.replace("{call}", call.id)
        return [*((name, value) for name, value in variables.items() if value), ("CTI_ACTION", str(action))]

    def _comfort(self, call: LiveCall, decision: Decision) -> dict[str, str]:
        """For how long the call waits until it asks again, and what is said to the caller before."""
        seconds, comfort = self._room.asks_in(call, decision)
        variables = {
            "CTI_TIMEOUT": str(seconds),
            "CTI_ANSWER": "1" if decision.line is not None and decision.line.answer else "",
            "CTI_KEY": self._room.callback_key(call),
        }
        if comfort is not None:
            position = self._room.position(call)
            expected = self._room.expected(call, position) if comfort.expected else None
            variables["CTI_POSITION"] = str(position) if comfort.position else ""
            # Rounded up: a promise that is broken is worse than none.
            variables["CTI_MINUTES"] = "" if expected is None else str(max(1, math.ceil(expected / 60)))
            variables["CTI_COMFORT"] = "&".join(comfort.sounds)
        return variables

    # When it goes wrong.

    async def _is_old(self, session: AgiSession) -> bool:
        """Whether the dialplan's guard has long sent this caller to the fallback.

        What Asterisk sent while we were frozen is read first, and that it gave up only afterwards. To route such
        a call would offer a card, and reserve an agent, for a caller who talks already.
        """
        await deferLater(self._clock, LET_IN)
        if session.gone:
            log.warning(
                "a question came too late: this process stood still, and its caller is at the fallback"
            )
        return session.gone

    @staticmethod
    def _still_there(asked: Asked, call: LiveCall) -> None:
        """Raises `CallIsOver` if AMI has told meanwhile that the channel that asks is gone."""
        if call.over or call.channels[asked.request.pbx, asked.request.uniqueid].ended is not None:
            raise CallIsOver

    async def _fall_open(self, session: AgiSession, asked: Asked, call: LiveCall) -> None:
        self._offer_failed(call, str(Action.FALLBACK))
        try:
            await session.set_variables([("__CTI_CALL_ID", call.id), *_target_of(asked.service), *_FALL_OPEN])
            self._measure.answered_asterisk(self._clock.seconds() - asked.at)
        except (AgiHangup, AgiTimeout, AgiCommandFailed) as error:
            log.warning("Asterisk did not take the fallback", call=call.id, why=str(error))

    def _in_vain(self, call: LiveCall, collected: Assigned) -> None:
        if call.collected is collected and call.record.answered is None:
            call.collected = None
            self._offer_failed(call, None)

    def _offer_failed(self, call: LiveCall, action: str | None) -> None:
        """The dialplan goes to the fallback by itself: nobody is to wait for this offer any more."""
        if call.over:
            return
        unit, at = self._calls.unit(), self._clock.seconds()
        self._tracker.let_go(unit, call, call.send_elsewhere(unit, at, action))
        unit.put_call(call.record)
        self._calls.write(call, unit)


class LogTooSlow(Exception):
    """The decision is not durable within the time that the caller may be kept; the text says why."""


class Measures(Protocol):
    """What is measured on the way; the metrics' names are in `cti.metrics`."""

    def shed(self) -> None: ...
    def decided(self, service: str | None, action: str) -> None: ...
    def card_offered(self, seconds: float) -> None: ...
    def answered_asterisk(self, seconds: float) -> None: ...


def _target_of(service: Service | None) -> list[tuple[str, str]]:
    return [("CTI_TARGET", service.fallback)] if service is not None else []


def new_record(
    id: str,
    pbx: str,
    uniqueid: str | None,
    did: str,
    started: float,
    caller: Number,
    called: Number,
    service: Service | None,
    *,
    direction: str = "inbound",
    agent: str | None = None,
    parent: str | None = None,
) -> CallRecord:
    """The row of a call of which only who called whom, and when, is known.

    `agent` is who calls, of a call that one of us makes, and `parent` the call that it is a consultation of.
    """
    return CallRecord(
        id=id,
        pbx=pbx,
        started=started,
        direction=direction,
        parent=parent,
        agent=agent,
        uniqueid=uniqueid,
        from_number=caller.dialable,
        from_raw=caller.raw,
        from_kind=str(caller.kind),
        to_number=called.e164 or (called.raw or None),
        to_raw=did,
        service=service.name if service is not None else None,
        mode=str(service.mode) if service is not None else None,
    )


def name_caller(record: CallRecord, caller: Number) -> None:
    """Take down whose number it is, of a call that began without it."""
    record.from_number, record.from_raw, record.from_kind = caller.dialable, caller.raw, str(caller.kind)


def assigned_to(call: LiveCall, at: float, *, sent: bool = False) -> Decision | None:
    """The decision of whoever passed the call on, or of the line; None if there is none, or from too long ago.

    It is collected once, but for a line's, whose doorbell may have cut off who collected it: `sent` by it, a call
    gets the same once more.
    """
    assigned, call.assigned = call.assigned, None
    collected, call.collected = call.collected, None
    if assigned is None and sent:
        assigned = collected
    elif assigned is not None and assigned.by is None:
        call.collected = assigned
    return assigned.decision if assigned is not None and at <= assigned.until else None


def wall_clock(service: Service | None, at: float) -> WallClock | None:
    """What the clock on the wall says where this service has its opening hours."""
    return None if service is None or service.hours is None else service.hours.at(at)


def country_of(number: str | None) -> str | None:
    """Whose number a caller's is, None where it does not tell, as an internal one does not."""
    return country(number) if number is not None and number.startswith("+") else None


def decision_for(service: Service | None, facts: Facts, others: Mapping[str, Service]) -> Decision:
    """The decision for a call to this service; a number that is no service's goes to the fallback.

    `others`: the services that it may be passed on to.
    """
    if service is None:
        return Decision(Action.FALLBACK, (), "", 0, None, "no service has the dialled number", ())
    return decide(service, facts, others)


_OF_THE_CARD: Final = ("notes", "cases", "last_contacts", "appointments", "tasks", "links")


def party_facts(identified: Identification) -> dict[str, Any] | None:
    """What rules may look at of the party: all but the long texts and lists, which are the card's, and how many
    cases are open, where the adapter has said of any.

    Of somebody who may be any of several, no more than that.
    """
    if identified.party is None:
        return {"match": SEVERAL} if identified.ambiguous else None
    whole = identified.party.as_json(identified.owner)
    facts = {key: value for key, value in whole.items() if key not in _OF_THE_CARD}
    return {**facts, "open_cases": len(identified.party.cases) or None}


def brief_party(party: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The party as it stands in the log and in events; the rest is the card's. None if it may be any of several."""
    if party is None or party.get("id") is None:
        return None
    return {
        key: party.get(key) for key in ("adapter", "type", "id", "name", "company", "url", "owner", "match")
    }


async def in_time(work: "Deferred[Any]", seconds: float, clock: Any) -> Any:
    """What `work` gives, or `TimeoutError` after `seconds`."""
    try:
        return await work.addTimeout(seconds, clock)
    except TimeoutError as error:
        raise TimeoutError(f"not done after {seconds:.3f} s") from error
