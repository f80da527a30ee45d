"""Calls of phones that no Asterisk of ours carries, as softphones tell of them: ringing, connected, ended, missed.

Softphones tell twice, in any order, and forget the end. A call is known by its extension and the softphone's own
id of it; of a softphone that has no ids, by the other side's number while it lives. The end of a call that nobody
has taken waits for `GRACE` seconds, for a `connected` that was overtaken. Who may tell, and how it is asked, is the
web's; calls whose end is never told are closed by age, by `tracker`.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cti.calls.card import card_body
from cti.calls.inbound import brief_party, new_record, party_facts
from cti.calls.life import LiveCall, State, mint_call_id
from cti.calls.log import CallLog
from cti.calls.one_at_a_time import OneAtATime
from cti.calls.services import Services
from cti.calls.tracker import Tracker
from cti.dialling import Allowance
from cti.identify.identification import Identification
from cti.identify.identifier import Identifier
from cti.logs import get_logger
from cti.numbers import Number, NumberKind
from cti.settings import NO_ASTERISK as PBX
from cti.store.base import StoreError
from cti.store.records import ChannelRecord, Key

log = get_logger("cti.calls.softphone")

#: Seconds for which the end of a call that nobody has taken waits for news that were sent before it.
GRACE: Final = 2.0
#: What one extension may tell of in a minute, and how many of its calls may be open.
PER_MINUTE: Final = 120
OPEN_CALLS: Final = 20


class News(StrEnum):
    """What a softphone tells of."""

    RINGING = "ringing"
    CONNECTED = "connected"
    ENDED = "ended"
    MISSED = "missed"


@frozen
class Softphone:
    """Whose softphone tells: its extension, and the agent who sits at it."""

    extension: str
    agent: str


@frozen
class Told:
    """What it told. `number`: of the other side; `call_id`: the softphone's own; `outbound`: the agent dialled."""

    news: News
    number: str | None = None
    call_id: str | None = None
    outbound: bool = False


class TooMuchTold(Exception):
    """The extension tells of more than a phone can do; `seconds` until it is listened to again."""

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.seconds = seconds


class Softphones:
    """Makes calls out of what softphones tell."""

    def __init__(
        self,
        *,
        calls: CallLog,
        tracker: Tracker,
        services: Callable[[], Services],
        identifier: Callable[[], Identifier],
        late: Callable[[LiveCall, Identification], None],
        clock: Any,
    ) -> None:
        """`late(call, found)`: an adapter has said who it is after all. `clock` is the reactor's."""
        self._calls = calls
        self._tracker = tracker
        self._services = services
        self._identifier = identifier
        self._late = late
        self._clock = clock
        self._alone = OneAtATime()
        self._allowance = Allowance(clock.seconds, PER_MINUTE)
        self._ends: dict[str, float] = {}

    def tell(self, phone: Softphone, told: Told) -> "Deferred[str | None]":
        """Take it in; fires with the call's id once that is durable, None for the end of a call that nobody knows.

        Raises `TooMuchTold`, fails with that or `StoreError`. It is brought to its end though nobody waits any more:
        a softphone that opens a URL may not stay for the answer.
        """
        wait = self._allowance.take(phone.extension)
        if wait > 0:
            raise TooMuchTold("more is told of this extension's calls than a phone can do", wait)
        answer: Deferred[str | None] = Deferred(lambda _: None)
        Deferred.fromCoroutine(self._take_in(phone, told)).addBoth(answer.callback)
        return answer

    async def _take_in(self, phone: Softphone, told: Told) -> str | None:
        async with self._alone(phone.extension):
            at = self._clock.seconds()
            call = self._open_call(phone, told)
            if call is None:
                over = self._over(phone, told)
                if over is not None or (told.call_id is None and told.news is News.ENDED):
                    return over
                call = await self._begin(phone, told, at)
            leg = _leg(call)
            if told.news is News.CONNECTED:
                self._ends.pop(call.id, None)
                await self._durable(self._tracker.phone_answered(call, leg, at))
            elif told.news is not News.ENDED and call.record.answered is None:
                await self._durable(self._tracker.phone_rang(call, leg, at))
            if told.news in (News.ENDED, News.MISSED):
                await self._end(call, at)
            return call.id

    def _open_call(self, phone: Softphone, told: Told) -> LiveCall | None:
        if told.call_id is not None:
            return self._calls.of_channel(*_key(phone, told.call_id))
        number = self._services().plan.parse(told.number).dialable
        of_it = [call for call in self._of(phone) if _id_of(call) is None]
        return next((call for call in reversed(of_it) if number in (None, _other(call))), None)

    def _over(self, phone: Softphone, told: Told) -> str | None:
        """The call that this is late news of; it stays as it ended."""
        if told.call_id is None:
            return None
        return self._calls.store.call_by_channel(*_key(phone, told.call_id))

    def _of(self, phone: Softphone) -> list[LiveCall]:
        device = _device(phone)
        return [
            call
            for call in self._calls.of_pbx(PBX)
            if any(channel.device == device for channel in call.channels.values())
        ]

    async def _begin(self, phone: Softphone, told: Told, at: float) -> LiveCall:
        """The call, in the log and on the agent's screen, though neither rung nor answered so far."""
        if len(self._of(phone)) >= OPEN_CALLS:
            raise TooMuchTold(f"{OPEN_CALLS} calls of this extension are open; end one", GRACE)
        services = self._services()
        own, other = services.plan.parse(phone.extension), services.plan.parse(told.number)
        caller, called = (own, other) if told.outbound else (other, own)
        direction = "outbound" if told.outbound else "inbound"
        id = mint_call_id(at)
        key = _key(phone, told.call_id if told.call_id is not None else f"{_UNNAMED}{id}")
        record = new_record(
            id,
            PBX,
            key[1],
            called.raw,
            at,
            caller,
            called,
            None,
            direction="internal" if other.kind is NumberKind.INTERNAL else direction,
            agent=phone.agent if told.outbound else None,
        )
        record.state = str(State.ELSEWHERE)
        record.reason = "told by a softphone"
        call = LiveCall(record, way="rung at a softphone")
        unit = self._calls.unit()
        unit.put_call(record)
        far = (PBX, f"{key[1]}{_FAR}")
        at_phone, at_far = ("caller", "other") if told.outbound else ("agent", "caller")
        for place, role, device, agent in (
            (key, at_phone, _device(phone), phone.agent),
            (far, at_far, "", None),
        ):
            call.add_channel(unit, ChannelRecord(*place, id, device, role, at, agent=agent))
        self._calls.keep(call)
        await self._durable(self._calls.write(call, unit))
        if told.news is News.RINGING:
            # The desk need not wait for the CRMs to know that it rings.
            await self._durable(self._tracker.phone_rang(call, _leg(call), at))
        await self._identify(call, phone, told, other)
        return call

    async def _identify(self, call: LiveCall, phone: Softphone, told: Told, other: Number) -> None:
        identified = await self._identifier().identify(other, lambda found: self._late(call, found))
        record = call.record
        if not told.outbound:
            call.identification, call.party = identified, party_facts(identified)
        record.identify_ms = identified.ms
        record.party = brief_party(party_facts(identified))
        unit = self._calls.unit()
        unit.put_call(record)
        if told.news in (News.RINGING, News.CONNECTED) and (
            identified.party is not None or record.direction != "internal"
        ):
            card = card_body(call, identified, None, self._services())
            call.show(unit, self._clock.seconds(), phone.agent, card)
        await self._durable(self._calls.write(call, unit))

    async def _end(self, call: LiveCall, at: float) -> None:
        if call.record.answered is not None:
            await self._durable(self._tracker.phone_hung_up(call, at))
        elif call.id not in self._ends:
            self._ends[call.id] = at
            self._clock.callLater(GRACE, self._end_of_grace, call, at)

    def _end_of_grace(self, call: LiveCall, at: float) -> None:
        # A `connected` since then has taken the end back: another one has to come.
        if self._ends.get(call.id) == at and not call.over:
            del self._ends[call.id]
            end = at if call.record.answered is None else self._clock.seconds()
            self._tracker.phone_hung_up(call, end).addErrback(_unexpected, call)

    @staticmethod
    async def _durable(written: "Deferred[bool]") -> None:
        if not await written:
            raise StoreError("the store did not take what a softphone told")


#: Begins the id of a call whose softphone has none for it; no softphone's id has a blank.
_UNNAMED: Final = " "
#: Ends the name of the other side's channel, of which nobody tells us anything.
_FAR: Final = " far"


def _key(phone: Softphone, call_id: str) -> Key:
    return PBX, f"{phone.extension}/{call_id}"


def _id_of(call: LiveCall) -> str | None:
    """The softphone's own id of the call."""
    id = (call.record.uniqueid or "").partition("/")[2]
    return None if id.startswith(_UNNAMED) else id


def _device(phone: Softphone) -> str:
    return f"Softphone/{phone.extension}"


def _leg(call: LiveCall) -> ChannelRecord:
    """The channel that is rung: the softphone's, or the other side's if the softphone called."""
    return next(channel for channel in call.channels.values() if channel.role != "caller")


def _other(call: LiveCall) -> str | None:
    """The number of the other side."""
    called = any(channel.role == "caller" and channel.device for channel in call.channels.values())
    return call.record.to_number if called else call.record.from_number


def _unexpected(failure: Failure, call: LiveCall) -> None:
    log.error("the end of a softphone's call failed", call=call.id, exception=failure.getTraceback())
