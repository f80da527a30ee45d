"""What one Asterisk can do with calls, in CSTA's terms (ECMA-269), each done only when its events have confirmed it.

Channels are known by their uniqueids. Whose they are, who may do what and which numbers may be called is left
to who asks; the dialplan's part stands under “Call control” in dialplan/cti.conf.

Theory of operation. A phone that is not declared capable cannot be told to hold, and AMI has no action for it; so
both sides are taken out of their bridge at once, by one Redirect with ExtraChannel: the customer to music, the
agent to where they wait or call somebody else. (A Redirect of one drops the other.) To come together again, one
of them is sent to `cti-control-join`, which is the application Bridge: a bridge made by it ends for both when one
hangs up, while one made by AMI's action Bridge sends each back to wherever its dialplan was. Who holds whom is
kept in variables of the channels (`CTI_HOLDS`, `CTI_HELD_BY`), so the dialplan can look after a customer whose
agent has gone, and a restart of ours forgets nobody. Each context says by UserEvent that a channel has arrived.
"""

import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Literal, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from cti.asterisk.ami import (
    AmiActionFailed,
    AmiClient,
    AmiDisconnected,
    AmiOverloaded,
    AmiTimeout,
)
from cti.asterisk.ami_parser import AmiFieldError, Event, Response
from cti.asterisk.channels import JOIN_SECONDS, Channel, Channels, NotConfirmed
from cti.reactors import Clock

Listening = Literal["listen", "whisper", "barge"]

CONFIRM_SECONDS: Final = 5.0
"""Within this, Asterisk has done what takes no person and no other machine."""
PHONE_SECONDS: Final = 10.0
"""Within this, a phone that was called says that it rings, and one that was told to do something has done it."""
DIALPLAN_SECONDS: Final = 15.0
"""Within this, whoever is consulted is being called; the dialplan may ask first, 3 s for each server."""
SPEAKING_SECONDS: Final = 30.0
"""No announcement is longer."""

MAX_DIGITS: Final = 32
"""Asterisk does nothing else on our connection while it sends one digit, so not too many."""
_DIGIT_MS: Final = 120
_BETWEEN_DIGITS: Final = 0.08

# A phone as routing.facts knows it: nothing that would start a second device or an option of Dial.
_PHONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}/[A-Za-z0-9_.@+-]{1,95}")
_NUMBER: Final = re.compile(r"[0-9+*#]{1,40}")
_DIGITS: Final = re.compile(rf"[0-9*#A-Da-d]{{1,{MAX_DIGITS}}}")
_PLACE: Final = re.compile(
    r"([A-Za-z0-9_.-]{1,79}),([A-Za-z0-9_.*#+-]{1,79}),([0-9]{1,4}|[A-Za-z][A-Za-z0-9_-]{0,39})"
)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,79}")
_SOUND: Final = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*")
_FILE: Final = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\.[a-z0-9]{2,6}")
_VARIABLE: Final = re.compile(r"_{0,2}[A-Za-z][A-Za-z0-9_]{0,62}")
# What Asterisk takes out of a `Variable` line, or splits it at (main/app.c, __ast_app_separate_args).
_SPECIAL: Final = re.compile(r'([\\",()\[\]])')
_CALLER_ID_SPECIAL: Final = re.compile(r'[\x00-\x1f"<>\\]')

# Two headers, because phones differ in which they heed.
_AUTO_ANSWER: Final = (
    r"PJSIP_HEADER(add,Call-Info)=<sip:cordboard>;answer-after=0",
    r"PJSIP_HEADER(add,Alert-Info)=info=alert-autoanswer",
)

# Why a phone did not ring: Q.850's causes, as in the Hangup of its channel. An OriginateResponse does not tell.
_CAUSES: Final[Mapping[str, str]] = {
    "17": "it is busy",
    "18": "nobody answered",
    "19": "nobody answered",
    "21": "it refused the call",
}
_DIALSTATUS: Final[Mapping[str, str]] = {
    "BUSY": "is busy",
    "NOANSWER": "did not answer",
    "CHANUNAVAIL": "cannot be reached",
    "CONGESTION": "cannot be reached",
}

_log = Logger()
_T = TypeVar("_T")


class PbxError(Exception):
    """An operation was not done; the text tells a person why."""


class NotPossible(PbxError):
    """What is wished does not fit the call or the phone as they are, or is malformed; nothing was changed."""


class Refused(PbxError):
    """Asterisk, or the phone, said no."""


class NotDone(PbxError):
    """Asterisk did not confirm in time; who was on hold still is, or is back with the agent."""


class PbxAway(PbxError):
    """There is no connection to Asterisk, or it was lost before the answer: it may have been done."""


class Pbx:
    """Call control of one Asterisk.

    `agent` is the uniqueid of the agent's channel, `customer` that of whom they talk to. Where only `agent` is
    given, the others are found by it: who is in its bridge, and whom it holds, which Asterisk itself remembers
    on the agent's channel, so that a restart of ours forgets nobody.

    Every method raises PbxError's subclasses and no others, within a deadline. None of them hangs up a customer
    because something failed.
    """

    def __init__(
        self,
        name: str,
        ami: AmiClient,
        channels: Channels,
        clock: Clock,
        *,
        capable: Callable[[str], bool] | None = None,
    ) -> None:
        """`capable` tells whether a phone, such as `PJSIP/anna`, obeys NOTIFY `talk` and `hold` in a call."""
        self.name = name
        self._ami = ami
        self._channels = channels
        self._clock = clock
        self._capable = capable or (lambda _: False)
        self._busy: set[str] = set()
        # Whom each agent's channel holds, as far as we have set or read it; Asterisk's word counts.
        self._holds: dict[str, str] = {}
        # Random, because an Asterisk outlives a restart of ours.
        self._own_ids = f"cti-{secrets.token_hex(6)}"
        self._last_id = 0

    # Calls.

    async def make_call(
        self,
        phone: str,
        number: str,
        *,
        variables: Mapping[str, str] | None = None,
        caller_id: tuple[str, str] | None = None,
        office_number: str | None = None,
        ring_seconds: int = 30,
        auto_answer: bool = False,
    ) -> str:
        """MakeCall: ring `phone`, and once it answers call `number` through `cti-outbound`.

        Gives the uniqueid of the phone's channel as soon as the phone rings. `variables` are set on that channel
        (`__CTI_CALL_ID` and the like; leading underscores inherit). `caller_id` is the name and number that the
        phone shows, `office_number` what whoever is called is shown. `auto_answer` asks the phone to answer by
        itself.
        """
        _check(_NUMBER, number, "a telephone number")
        return await self._originate(
            _Phone(phone, caller_id, ring_seconds, auto_answer),
            "cti-control-dial",
            number,
            {**(variables or {}), **_office(office_number)},
        )

    async def answer_call(self, channel: str) -> None:
        """AnswerCall: have the ringing phone of `channel` answer; for capable phones only."""
        ringing = self._channel(channel)
        if ringing.up:
            return
        if not self._capable(ringing.device):
            raise NotPossible(f"{ringing.device} cannot be told to answer: pick it up")
        await self._notify(
            ringing, "talk", lambda: self._is(channel, lambda now: now.up), "the phone has answered"
        )

    async def clear_connection(self, channel: str) -> None:
        """ClearConnection: hang up this channel; fine if it has gone already."""
        if self._channels.get(channel) is None:
            return
        try:
            await self._do("Hangup", Channel=channel, Cause="16")
        except Refused as refusal:
            # Already gone, and its event is on the way.
            if "No such channel" not in str(refusal):
                raise
        await self._until(lambda: self._channels.get(channel) is None, "the channel has hung up")

    # Hold, and a second call.

    async def hold_call(self, agent: str) -> None:
        """HoldCall: the other side hears music until `retrieve_call` (or `reconnect_call`)."""
        async with self._alone(agent):
            channel, partner = await self._talking(agent)
            if channel.on_hold:
                return
            if self._capable(channel.device):
                await self._notify(
                    channel,
                    "hold",
                    lambda: self._is(agent, lambda now: now.on_hold),
                    "the phone holds the call",
                )
                return
            if await self._held(agent) is not None:
                raise NotPossible("the agent has somebody on hold already: alternate")
            await self._part(channel, partner, "cti-control-wait", "s")

    async def retrieve_call(self, agent: str) -> None:
        """RetrieveCall: the agent talks again to whom they hold."""
        async with self._alone(agent):
            channel = self._channel(agent)
            if channel.on_hold:
                await self._off_hold(channel)
                return
            if self._channels.partners(agent):
                raise NotPossible("the agent is talking: alternate or reconnect")
            await self._join_held(channel)

    async def consultation_call(
        self,
        agent: str,
        number: str,
        *,
        variables: Mapping[str, str] | None = None,
        office_number: str | None = None,
    ) -> str:
        """ConsultationCall: music for whom the agent talks to, while the agent calls `number`.

        Gives the uniqueid of the channel that is being called, once it is. `variables` are set on the agent's
        channel before (such as `__CTI_CALL_ID` of the consultation's own record). When it cannot be called, the
        agent talks to the first one again, and the error says why. When it ends later, who is held stays on
        music until `reconnect_call`.
        """
        _check(_NUMBER, number, "a telephone number")
        settings = {**(variables or {}), **_office(office_number)}
        _check_variables(settings)
        async with self._alone(agent):
            channel = self._channel(agent)
            if channel.on_hold:
                await self._off_hold(channel)
            held = await self._held(agent)
            if held is not None and self._channels.partners(agent):
                raise NotPossible("the agent has somebody on hold already")
            before = {known.uniqueid for known in self._channels}
            partner = held or (await self._talking(agent))[1]
            await self._set(agent, {**settings, "CTI_CONSULTS_FOR": partner.uniqueid})
            consulted = self._consulted(agent, before)
            try:
                await self._part(channel, partner, "cti-control-consult", number)
                return await self._settled(consulted)
            except PbxError:
                await self._bring_back(agent, partner)
                raise
            finally:
                _give_up(consulted)

    async def alternate_call(self, agent: str) -> None:
        """AlternateCall: hold whom the agent talks to, and talk to whom they hold."""
        async with self._alone(agent):
            channel, partner = await self._talking(agent)
            held = await self._the_held(agent)
            await self._ready_to_join(channel, held)
            try:
                await self._part(channel, partner, "cti-control-join", "s")
                await self._together([agent, held.uniqueid])
            except PbxError:
                if self._channels.get(partner.uniqueid) and not self._channels.partners(agent):
                    await self._join(channel, partner)
                await self._set(agent, {"CTI_HOLDS": held.uniqueid, **_call_id_of(partner)})
                raise

    async def reconnect_call(self, agent: str) -> None:
        """ReconnectCall: leave the consulted, answered or still ringing, and talk to who is held again.

        After `alternate_call`, when it is the consulted who is on hold, they are released all the same.
        """
        async with self._alone(agent):
            channel = self._channel(agent)
            held = await self._the_held(agent)
            if self._channels.partners(agent) and held.uniqueid != await self._get(agent, "CTI_CONSULTS_FOR"):
                await self._set(agent, {"CTI_HOLDS": ""})
                await self.clear_connection(held.uniqueid)
                return
            consulted = self._channels.partners(agent)
            await self._join_held(channel)
            for left in consulted:
                await self.clear_connection(left.uniqueid)

    # Handing a call on.

    async def transfer_call(self, agent: str) -> None:
        """TransferCall: connect whom the agent talks to with whom they hold, and release the agent."""
        async with self._alone(agent):
            held = await self._the_held(agent)
            consulted = self._called_from(agent, ())
            if not self._channels.partners(agent) and not (consulted is not None and consulted.up):
                raise NotPossible("whom the agent consults has not answered: transfer in one step, or wait")
            _, partner = await self._talking(agent)
            await self._ready_to_join(partner, held)
            await self._redirect(
                {partner.uniqueid: ("cti-control-join", "s"), agent: ("cti-control-wait", "s")}
            )
            await self._together([partner.uniqueid, held.uniqueid])
            await self.clear_connection(agent)

    async def single_step_transfer(self, customer: str, target: str) -> None:
        """SingleStepTransferCall: send the customer to `target` (`context,exten,prio`); the agent is released."""
        async with self._alone(customer):
            self._channel(customer)
            left = [partner.uniqueid for partner in self._channels.partners(customer)]
            if not left:
                left = [await self._get(customer, "CTI_HELD_BY")]
            await self._send(customer, target)
            if len(left) == 1:
                await self.clear_connection(left[0])

    async def conference_call(self, agent: str, room: str) -> None:
        """ConferenceCall: the agent, whom they talk to and whom they hold, together in the room `room`.

        It goes on without the agent. Who was held leaves it with the last of the others.
        """
        _check(_NAME, room, "a room of letters, digits, - and _")
        async with self._alone(agent):
            held = await self._the_held(agent)
            channel, partner = await self._talking(agent)
            for member in (channel, partner, held):
                await self._set(member.uniqueid, {**_call_id_of(held), "CTI_ROOM": room})
            place = ("cti-control-conference", "s")
            await self._redirect({agent: place, partner.uniqueid: place})
            await self._together([agent, partner.uniqueid])
            await self._redirect({held.uniqueid: ("cti-control-guest", "s")})
            await self._together([agent, partner.uniqueid, held.uniqueid])
            await self._set(agent, {"CTI_HOLDS": ""})

    async def deflect_call(self, ringing: str, target: str) -> None:
        """DeflectCall: send who is ringing the phone of `ringing` to `target` (`context,exten,prio`) instead."""
        async with self._alone(ringing):
            phone = self._channel(ringing)
            if phone.up:
                raise NotPossible("the phone has answered: transfer the call")
            await self._send(self._who_rings(phone).uniqueid, target)
            await self._until(lambda: self._channels.get(ringing) is None, "the phone has stopped ringing")

    async def pickup(
        self,
        phone: str,
        ringing: str,
        *,
        variables: Mapping[str, str] | None = None,
        caller_id: tuple[str, str] | None = None,
        ring_seconds: int = 30,
        auto_answer: bool = False,
    ) -> str:
        """Take the call that rings at `ringing`: rings `phone`, which gets the call when it answers.

        Gives the uniqueid of the phone's channel, which takes the place of `ringing`.
        """
        target = self._channel(ringing)
        if target.up:
            raise NotPossible("somebody has answered the call already")
        own = await self._originate(
            _Phone(phone, caller_id, ring_seconds, auto_answer),
            "cti-control-pickup",
            "s",
            {**(variables or {}), "CTI_PICKUP": target.name},
        )

        def settled(event: Event) -> bool:
            now = self._channels.get(own)
            if now is None or (_is_control(event) and event.get("Uniqueid") == own):
                return True
            return now.bridge is not None and self._channels.get(ringing) is None

        taken = self._channels.until_event(settled, ring_seconds + CONFIRM_SECONDS, f"{phone} has the call")
        try:
            await self._settled(taken)
        except PbxError:
            await self._release(own)
            raise
        now = self._channels.get(own)
        if now is None:
            raise Refused(f"{phone} did not answer")
        if now.bridge is None:
            raise Refused("the call has gone, or somebody else has answered it")
        return own

    async def park(self, customer: str, *, lot: str | None = None, seconds: int | None = None) -> str:
        """Park the customer, release the agent; gives the parking space. `seconds` until it comes back."""
        if lot is not None:
            _check(_NAME, lot, "a parking lot of letters, digits, - and _")
        async with self._alone(customer):
            channel, agent = await self._talking(customer)
            parked = self._channels.until_event(
                lambda event: event.name == "ParkedCall" and event.get("ParkeeUniqueid") == customer,
                CONFIRM_SECONDS,
                "the call is parked; perhaps no space is free",
            )
            # Both by name: where the second is not who talks to the first, Asterisk parks without telling it.
            fields = {"Channel": channel.name, "TimeoutChannel": agent.name}
            if lot is not None:
                fields["Parkinglot"] = lot
            if seconds is not None:
                fields["Timeout"] = str(max(1, seconds) * 1000)
            _, event = await self._confirming(parked, "Park", **fields)
            await self.clear_connection(agent.uniqueid)
            return event.get("ParkingSpace")

    # In a call.

    async def digits(self, channel: str, text: str) -> None:
        """Send DTMF to this channel's other end (the customer's channel, for a menu of theirs).

        Asterisk answers when it has sent a digit; no event tells of it.
        """
        _check(_DIGITS, text, f"1 to {MAX_DIGITS} of 0-9, *, # and A-D")
        if not self._channel(channel).up:
            raise NotPossible("digits can be sent to whom has answered")
        for digit in text.upper():
            await self._do("PlayDTMF", Channel=channel, Digit=digit, Duration=str(_DIGIT_MS))
            await self._pause(_BETWEEN_DIGITS)

    async def start_recording(
        self, channel: str, file: str, *, announcement: str | None = None, beep_seconds: int | None = None
    ) -> str:
        """Record both directions of this channel into `file` on the Asterisk's host; gives the recording's id.

        A relative `file` is below Asterisk's monitor directory; its ending tells the format. `announcement` is a
        sound that both sides hear before it begins; `beep_seconds`: a beep every so often while it goes on.
        """
        _check(_FILE, file, "a file's path of letters, digits, -, _ and . with its format's ending")
        self._channel(channel)
        if announcement is not None:
            await self._speak(channel, announcement)
        beep = "" if beep_seconds is None else f"B({max(1, beep_seconds)})"
        started = self._recording_event("MixMonitorStart", channel, "the recording has begun")
        response, _ = await self._confirming(
            started, "MixMonitor", Channel=channel, File=file, Options=f"i(CTI_RECORDING){beep}"
        )
        return response.get("MixMonitorID") or await self._get(channel, "CTI_RECORDING")

    async def pause_recording(self, channel: str) -> None:
        """Record silence, in both directions, until `resume_recording` (card data)."""
        await self._mute(channel, "1", "the recording is paused")

    async def resume_recording(self, channel: str) -> None:
        """Record what is said again."""
        await self._mute(channel, "0", "the recording goes on")

    async def stop_recording(self, channel: str, recording: str | None = None) -> None:
        """End the recording with the id that `start_recording` gave, by default the channel's last.

        Fine if the channel has gone.
        """
        if recording is not None and not re.fullmatch(r"[0-9A-Za-zx]{1,40}", recording):
            raise NotPossible("that is not the id of a recording")
        if self._channels.get(channel) is None:
            return
        recording = recording or await self._get(channel, "CTI_RECORDING")
        stopped = self._recording_event("MixMonitorStop", channel, "the recording has ended")
        await self._confirming(stopped, "StopMixMonitor", Channel=channel, MixMonitorID=recording)

    async def monitor(
        self,
        phone: str,
        spied: str,
        how: Listening,
        *,
        announcement: str | None = None,
        variables: Mapping[str, str] | None = None,
        ring_seconds: int = 30,
        auto_answer: bool = False,
    ) -> str:
        """Ring `phone`, and let it hear the channel `spied`; gives the uniqueid of the phone's channel.

        `listen`: nobody hears the phone; `whisper`: only `spied` does; `barge`: both sides do. `announcement`
        is a sound that both sides hear first. Hanging up the phone ends it.
        """
        if how not in ("listen", "whisper", "barge"):
            raise NotPossible(f"listen, whisper or barge, not {how!r}")
        if not self._channel(spied).up:
            raise NotPossible("there is no conversation to listen to")
        if announcement is not None:
            await self._speak(spied, announcement)
        own = await self._originate(
            _Phone(phone, None, ring_seconds, auto_answer),
            "cti-control-spy",
            how,
            {**(variables or {}), "CTI_SPIED": spied},
        )

        def settled(event: Event) -> bool:
            listens = event.name == "ChanSpyStart" and event.get("SpyerUniqueid") == own
            return listens or self._channels.get(own) is None

        listening = self._channels.until_event(
            settled, ring_seconds + CONFIRM_SECONDS, f"{phone} hears the call"
        )
        try:
            event = await self._settled(listening)
        except PbxError:
            await self._release(own)
            raise
        if event.name != "ChanSpyStart":
            raise Refused(f"{phone} did not answer, or the conversation has ended")
        return own

    # Looking.

    def possible(self, agent: str) -> frozenset[str]:
        """What could be done now to the agent's channel, in the words of the API; asks Asterisk nothing.

        Agrees with what the operations themselves refuse, as far as events and our own doing tell.
        """
        channel = self._channels.get(agent)
        if channel is None or not self._ami.up:
            return frozenset()
        found = {"clear"}
        if agent in self._busy:
            return frozenset(found)
        capable = self._capable(channel.device)
        if not channel.up:
            if capable and channel.state == "Ringing":
                found.add("answer")
            if self._is_called(channel):
                found.add("deflect")
            return frozenset(found)
        held = self._held_of(agent)
        partners = self._channels.partners(agent)
        if len(partners) == 1:
            found |= {"transfer", "park", "digits", "record"}
            if held is not None:
                found |= {"alternate", "complete", "conference"}
            elif capable or not channel.on_hold:
                found.add("consult")
            if not channel.on_hold and (capable or held is None):
                found.add("hold")
        if held is not None:
            found |= {"reconnect"} if partners else {"reconnect", "retrieve", "consult"}
        if channel.on_hold:
            found = found | {"retrieve"} if capable else found - {"retrieve"}
        return frozenset(found)

    async def recall(self, agent: str) -> bool:
        """Learn from Asterisk whom this agent holds, after a restart of ours: whether anybody. Raises `PbxError`."""
        return self._channels.get(agent) is not None and await self._held(agent) is not None

    # Whom it is about.

    def _channel(self, uniqueid: str) -> Channel:
        channel = self._channels.get(uniqueid)
        if channel is None:
            if not self._ami.up:
                raise PbxAway(f"there is no connection to the Asterisk {self.name}")
            raise NotPossible("that call has ended")
        return channel

    async def _talking(self, uniqueid: str) -> tuple[Channel, Channel]:
        """This channel and the only one that it talks to, as it may be about to."""

        def settled() -> bool:
            return bool(self._channels.partners(uniqueid)) or not self._channel(uniqueid).up

        with suppress(NotDone):
            await self._until(settled, "somebody talks there", JOIN_SECONDS)
        channel = self._channel(uniqueid)
        partners = self._channels.partners(uniqueid)
        if len(partners) != 1:
            raise NotPossible("nobody is talking there" if not partners else "that is a conference")
        return channel, partners[0]

    async def _held(self, agent: str) -> Channel | None:
        """Whom the agent holds: who hears music hears nobody."""
        self._remember_held(agent, await self._get(agent, "CTI_HOLDS"))
        return self._held_of(agent)

    def _held_of(self, agent: str) -> Channel | None:
        held = self._channels.get(self._holds.get(agent, ""))
        return held if held is not None and not self._channels.partners(held.uniqueid) else None

    def _remember_held(self, agent: str, held: str) -> None:
        self._holds = {
            one: other for one, other in self._holds.items() if self._channels.get(one) is not None
        }
        self._holds[agent] = held

    def _is_called(self, phone: Channel) -> bool:
        try:
            self._who_rings(phone)
        except NotPossible:
            return False
        return True

    async def _the_held(self, agent: str) -> Channel:
        self._channel(agent)
        held = await self._held(agent)
        if held is None:
            raise NotPossible("the agent holds nobody")
        return held

    def _who_rings(self, phone: Channel) -> Channel:
        """Who is calling this phone, through whatever Local channels are between."""
        caller = phone
        for _ in range(20):
            behind = self._channels.get(caller.dialled_by or "")
            if behind is None:
                break
            caller = behind
            other_half = self._channels.get(caller.other_half or "")
            if other_half is None:
                return caller
            caller = other_half
        raise NotPossible("nobody is calling that phone")

    def _called_from(self, agent: str, before: Iterable[str]) -> Channel | None:
        """A phone or line, new since `before`, that the agent is calling through whatever Local channels."""
        known = set(before)
        for channel in self._channels:
            if channel.uniqueid not in known and channel.other_half is None and _is_line(channel):
                try:
                    if self._who_rings(channel).uniqueid == agent:
                        return channel
                except NotPossible:
                    continue
        return None

    def _is(self, uniqueid: str, wished: Callable[[Channel], bool]) -> bool:
        return wished(self._channel(uniqueid))

    # Parting and joining.

    async def _part(self, agent: Channel, partner: Channel, context: str, exten: str) -> None:
        """Music for `partner`, and the agent to `context`; who holds whom is remembered before."""
        await self._set(partner.uniqueid, {"CTI_HELD_BY": agent.uniqueid})
        await self._set(agent.uniqueid, {"CTI_HOLDS": partner.uniqueid})
        places = {agent.uniqueid: (context, exten)}
        if partner.bridge is not None:
            places = {partner.uniqueid: ("cti-control-hold", "s"), **places}
        await self._redirect(places)

    async def _ready_to_join(self, joining: Channel, held: Channel) -> None:
        """By name: the application Bridge takes a prefix of a uniqueid for the whole; and with its call's id.

        Who is held goes into a bridge of their own first, for Bridge to move them: of a channel in none, it makes
        another one, and what is left of the first may stay in Asterisk for ever (main/channel.c of 22.8 to 22.10:
        channel_do_masquerade lists it again although its thread may just have ended).
        """
        await self._redirect({held.uniqueid: ("cti-control-meet", "s")})
        await self._until(
            lambda: self._is(held.uniqueid, lambda now: now.bridge is not None), "the held can be fetched"
        )
        await self._set(joining.uniqueid, {**_call_id_of(held), "CTI_WITH": held.name})

    async def _join(self, agent: Channel, held: Channel) -> None:
        await self._ready_to_join(agent, held)
        await self._redirect({agent.uniqueid: ("cti-control-join", "s")})
        await self._together([agent.uniqueid, held.uniqueid])
        await self._set(agent.uniqueid, {"CTI_HOLDS": ""})

    async def _join_held(self, agent: Channel) -> None:
        await self._join(agent, await self._the_held(agent.uniqueid))

    async def _bring_back(self, agent: str, first: Channel) -> None:
        """After a consultation that failed: the agent is in the first call again, if both are there."""
        channel = self._channels.get(agent)
        if channel is None:
            return
        await self._set(agent, _call_id_of(first))
        if not self._channels.partners(agent) and await self._held(agent) is first:
            await self._join(channel, first)

    async def _redirect(self, places: Mapping[str, tuple[str, str]]) -> None:
        """Send one channel, or two that are in one bridge, each to a context and extension of the dialplan."""
        awaited = {uniqueid: context for uniqueid, (context, _) in places.items()}

        def arrived(event: Event) -> bool:
            if _is_control(event) and awaited.get(event.get("Uniqueid")) == event.get("At"):
                del awaited[event.get("Uniqueid")]
            return not awaited

        fields: dict[str, str] = {}
        for prefix, (uniqueid, (context, exten)) in zip(("", "Extra"), places.items(), strict=False):
            # The first channel's field is `Channel`, the second's `ExtraChannel`, and so on.
            fields |= {
                f"{prefix}Channel": uniqueid,
                f"{prefix}Context": context,
                f"{prefix}Exten": exten,
                f"{prefix}Priority": "1",
            }
        there = self._channels.until_event(arrived, CONFIRM_SECONDS, "the channels went where they were sent")
        await self._confirming(there, "Redirect", **fields)

    async def _together(self, uniqueids: list[str]) -> None:
        def together() -> bool:
            bridges = {self._channel(uniqueid).bridge for uniqueid in uniqueids}
            return len(bridges) == 1 and None not in bridges

        await self._until(together, "they talk to each other")

    def _consulted(self, agent: str, before: Iterable[str]) -> "Deferred[str]":
        """The uniqueid of whom the agent calls from now on; Refused when that ends before anybody rings."""
        found: list[str] = []

        def settled(event: Event) -> bool:
            called = self._called_from(agent, before)
            if called is not None:
                found.append(called.uniqueid)
            over = _is_control(event) and event.get("At") == "cti-control-consulted"
            return called is not None or (over and event.get("Uniqueid") == agent)

        def outcome(event: Event) -> str:
            if found:
                return found[0]
            raise Refused(f"the number {_DIALSTATUS.get(event.get('Status'), 'cannot be called')}")

        heard = self._channels.until_event(settled, DIALPLAN_SECONDS, "the number is being called")
        return heard.addCallback(outcome)

    async def _send(self, customer: str, target: str) -> None:
        """Send a channel to a place of the dialplan, which must be there: Redirect to nowhere hangs up."""
        _check(_PLACE, target, "context,exten,prio")
        if await self._get(customer, f"DIALPLAN_EXISTS({target})") != "1":
            raise NotPossible(f"the dialplan of {self.name} has no {target}")
        await self._set(customer, {"CTI_GO": target})
        await self._redirect({customer: ("cti-control-transfer", "s")})

    # Phones.

    async def _originate(
        self, phone: "_Phone", context: str, exten: str, variables: Mapping[str, str]
    ) -> str:
        """Ring a phone that goes to `context` when it answers; the uniqueid of its channel once it rings."""
        _check(_PHONE, phone.name, "a phone such as PJSIP/anna")
        _check_variables(variables)
        self._last_id += 1
        own = f"{self._own_ids}.{self._last_id}"
        lines = [name + "=" + _SPECIAL.sub(r"\\\1", value) for name, value in variables.items()]
        if phone.auto_answer and phone.name.startswith("PJSIP/") and "@" not in phone.name:
            lines += _AUTO_ANSWER
        fields: dict[str, str | list[str]] = {
            "Channel": phone.name,
            "ChannelId": own,
            "Context": context,
            "Exten": exten,
            "Priority": "1",
            "Timeout": str(max(1, phone.ring_seconds) * 1000),
            "Async": "true",
            "Variable": lines,
        }
        if phone.caller_id is not None:
            name, number = (_CALLER_ID_SPECIAL.sub("", part)[:80] for part in phone.caller_id)
            fields["CallerID"] = f'"{name}" <{number}>'

        def settled(event: Event) -> bool:
            channel = self._channels.get(own)
            if channel is not None:
                return channel.state in ("Ringing", "Up")
            # On a busy Asterisk this word overtakes those of the channel (manager.c: only they pass Stasis).
            failed = event.name == "OriginateResponse" and event.get("Response") != "Success"
            return (failed or event.name == "Hangup") and event.get("Uniqueid") == own

        ringing = self._channels.until_event(settled, PHONE_SECONDS, f"{phone.name} rings")
        try:
            _, event = await self._confirming(ringing, "Originate", **fields)
        except PbxError:
            await self._release(own)
            raise
        if self._channels.get(own) is None:
            why = _CAUSES.get(event.get("Cause"), "it cannot be reached")
            raise Refused(f"{phone.name} does not ring: {why}")
        return own

    async def _release(self, uniqueid: str) -> None:
        """Stop ringing a phone of ours, after something else has failed, which is what is told."""
        try:
            await self.clear_connection(uniqueid)
        except PbxError as error:
            _log.debug("A phone could not be released: {error}", error=error)

    async def _notify(self, channel: Channel, word: str, come_true: Callable[[], bool], what: str) -> None:
        """Tell a phone within its call to go on or off the hook, and wait until it has."""
        await self._do("PJSIPNotify", Channel=channel.name, Variable=f"Event={word}")
        await self._until(come_true, what, PHONE_SECONDS)

    async def _off_hold(self, channel: Channel) -> None:
        """Take a call back that the phone itself holds."""
        if not self._capable(channel.device):
            raise NotPossible(f"{channel.device} holds the call itself: take it back there")
        uniqueid = channel.uniqueid
        await self._notify(
            channel,
            "talk",
            lambda: self._is(uniqueid, lambda now: not now.on_hold),
            "the phone has the call back",
        )

    async def _speak(self, channel: str, sound: str) -> None:
        """Play a sound to both sides of a conversation."""
        _check(_SOUND, sound, "a sound's name, such as our/announcement")
        self._last_id += 1
        own = f"{self._own_ids}.{self._last_id}"

        def said(event: Event) -> bool:
            ends = _is_control(event) and event.get("At") == "cti-control-said"
            gone = event.name in ("Hangup", "OriginateResponse") and event.get("Response") != "Success"
            return (ends or gone) and event.get("Uniqueid") == own

        spoken = self._channels.until_event(said, SPEAKING_SECONDS, "the announcement was heard")
        _, event = await self._confirming(
            spoken,
            "Originate",
            Channel="Local/s@cti-control-speak/n",
            ChannelId=own,
            OtherChannelId=f"{own}-2",
            Context="cti-control-say",
            Exten="s",
            Priority="1",
            Async="true",
            Variable=[f"CTI_SPIED={channel}", f"CTI_SOUND={sound}"],
        )
        if event.get("Status") != "SUCCESS":
            raise Refused(f"the announcement {sound} could not be played")

    # Recording.

    def _recording_event(self, name: str, channel: str, what: str) -> "Deferred[Event]":
        return self._channels.until_event(
            lambda event: event.name == name and event.get("Uniqueid") == channel, CONFIRM_SECONDS, what
        )

    async def _mute(self, channel: str, state: str, what: str) -> None:
        self._channel(channel)
        muted = self._recording_event("MixMonitorMute", channel, what)
        await self._confirming(muted, "MixMonitorMute", Channel=channel, Direction="both", State=state)

    # AMI.

    async def _do(self, action: str, /, **fields: str | Iterable[str]) -> Response:
        try:
            return await self._ami.action(action, timeout=None, **fields)
        except AmiActionFailed as error:
            raise Refused(f"Asterisk refused: {error.message or action}") from error
        except AmiTimeout as error:
            raise NotDone(str(error)) from error
        except (AmiDisconnected, AmiOverloaded) as error:
            raise PbxAway(f"the Asterisk {self.name} is away: {error}") from error
        except AmiFieldError as error:
            raise NotPossible(f"that is more than Asterisk reads: {error}") from error

    async def _set(self, channel: str, variables: Mapping[str, str]) -> None:
        for name, value in variables.items():
            await self._do("Setvar", Channel=channel, Variable=name, Value=value)
            if name == "CTI_HOLDS":
                self._remember_held(channel, value)

    async def _get(self, channel: str, variable: str) -> str:
        return (await self._do("Getvar", Channel=channel, Variable=variable)).get("Value")

    async def _confirming(
        self, confirmation: "Deferred[_T]", action: str, /, **fields: str | Iterable[str]
    ) -> tuple[Response, _T]:
        """Do an action, and wait for what confirms it, which was listened for from before."""
        try:
            response = await self._do(action, **fields)
        except PbxError:
            _give_up(confirmation)
            raise
        return response, await self._settled(confirmation)

    async def _until(
        self, come_true: Callable[[], bool], what: str, seconds: float = CONFIRM_SECONDS
    ) -> None:
        await self._settled(self._channels.until(come_true, seconds, what))

    async def _settled(self, confirmation: "Deferred[_T]") -> _T:
        try:
            return await confirmation
        except NotConfirmed as error:
            if not self._ami.up:
                raise PbxAway(f"the Asterisk {self.name} is away: {error}") from error
            raise NotDone(str(error)) from error

    async def _pause(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        self._clock.callLater(seconds, over.callback, None)
        await over

    @asynccontextmanager
    async def _alone(self, channel: str) -> AsyncIterator[None]:
        """One thing at a time: a second click must not move a call that is being moved."""
        if channel in self._busy:
            raise NotPossible("something is being done with that call at this moment")
        self._busy.add(channel)
        try:
            yield
        finally:
            self._busy.discard(channel)


@frozen
class _Phone:
    """A phone to ring, and what it shows."""

    name: str
    caller_id: tuple[str, str] | None
    ring_seconds: int
    auto_answer: bool


def _give_up(confirmation: "Deferred[Any]") -> None:
    """Nobody waits for this any more, whatever became of it."""
    confirmation.addErrback(lambda _: None)
    confirmation.cancel()


def _is_control(event: Event) -> bool:
    """Whether it is a UserEvent of our own contexts."""
    return event.name == "UserEvent" and event.get("UserEvent") == "CtiControl"


def _is_line(channel: Channel) -> bool:
    """Whether a person may be at its end; a Local channel only leads on."""
    return not channel.name.startswith("Local/")


def _call_id_of(channel: Channel) -> dict[str, str]:
    """The variable that makes another channel one of the same call."""
    call = channel.variables.get("CTI_CALL_ID", "")
    return {"__CTI_CALL_ID": call} if call else {}


def _office(number: str | None) -> dict[str, str]:
    """The variable that tells our dialplan what to show to whoever is called."""
    if number is None:
        return {}
    _check(_NUMBER, number, "an office number of digits and +")
    return {"_CTI_OFFICE_NUMBER": number}


def _check(pattern: re.Pattern[str], text: str, right: str) -> None:
    if not pattern.fullmatch(text):
        raise NotPossible(f"that is not {right}")


def _check_variables(variables: Mapping[str, str]) -> None:
    for name in variables:
        _check(_VARIABLE, name, "a variable's name of letters, digits and _")
