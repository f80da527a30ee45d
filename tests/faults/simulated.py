"""An Asterisk without Asterisk: many callers at once ask over FastAGI, and AMI tells of them as a real one does.

It goes the ways that dialplan/cti.conf leaves to a caller whom the server rings, keeps in a line, promises to call
back, rejects or sends to the fallback, with the events, lists and AstDB that Asterisk 22 was seen to have. It is
strict: what a real one would refuse, and what it does not know itself, stands in `refused`. `test_simulated` has a
real one and this play the same calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final

from attrs import define, field, frozen

from cti.asterisk.needs import passes_filters, read_categories, words
from lab.company import DID
from lab.daemon import ROOT
from lab.ports import LOOPBACK
from lab.scenarios import Answers, Behaviour, Busy, RingsForever

FALLBACK_PHONE: Final = "PJSIP/reception"
#: The places of the company's own dialplan, each of which rings the reception.
PLACES: Final = frozenset({"old-context,s,1", "last-resort,s,1"})
GLOBAL_FALLBACK: Final = "last-resort,s,1"
GUARD_SECONDS: Final = 3.0
LONGEST_COMMAND: Final = 8192
MOST_QUESTIONS: Final = 20

_STATES: Final = {0: "Down", 4: "Ring", 5: "Ringing", 6: "Up", 7: "Busy"}
_SET_VARIABLE: Final = re.compile(r'SET VARIABLE (_{0,2}[A-Za-z][A-Za-z0-9_]*) "((?:[^"\\]|\\.)*)"')
_SOUNDS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_/-]*(&[A-Za-z0-9_][A-Za-z0-9_/-]*)*")
#: How long a sound is heard, and music while the server is away; and how often that may be.
SOUND_SECONDS: Final = 0.02
AWAY_SECONDS: Final = 5.0
MOST_UNANSWERED: Final = 12
_DIALLED: Final = re.compile(r"[A-Za-z0-9]+/[^&,]+(&[A-Za-z0-9]+/[^&,]+)*")
#: What the dialplan clears before it asks, and what else an answer may set.
_ANSWER: Final = frozenset(
    {
        "CTI_ACTION",
        "CTI_TARGET",
        "CTI_NEXT",
        "CTI_TIMEOUT",
        "CTI_CALLER_NAME",
        "CTI_CARD_URL",
        "CTI_LANGUAGE",
        "CTI_REASON",
        "CTI_ANSWER",
        "CTI_KEY",
        "CTI_POSITION",
        "CTI_MINUTES",
        "CTI_COMFORT",
    }
)
_CALL_ID: Final = "__CTI_CALL_ID"


@frozen
class _Known:
    """An action: which of these rights it takes (one is enough), and its fields, all of them needed."""

    rights: str
    fields: frozenset[str] = frozenset()


def _needs(rights: str = "", *fields: str) -> _Known:
    return _Known(rights, frozenset(fields))


#: As main/manager.c and the modules register them.
_ACTIONS: Final = {
    "Challenge": _needs("", "AuthType"),
    "Login": _needs("", "Username", "AuthType", "Key"),
    "Ping": _needs(),
    "CoreSettings": _needs("system,reporting"),
    "DeviceStateList": _needs("call,reporting"),
    "CoreShowChannels": _needs("system,reporting"),
    "BridgeList": _needs(),
    "DBGetTree": _needs("system,reporting", "Family"),
    "DBPut": _needs("system", "Family", "Key", "Val"),
    "DBDel": _needs("system", "Family", "Key"),
    "Getvar": _needs("call,reporting", "Channel", "Variable"),
    "Redirect": _needs("call", "Channel", "Context", "Exten", "Priority"),
    "Originate": _needs(
        "originate", *("Channel", "ChannelId", "Context", "Exten", "Priority", "Timeout", "Async", "Variable"),
        "CallerID",
    ),
}  # fmt: skip


@frozen
class Caller:
    """Who calls, for how long they talk, and after how many seconds they leave if nobody has answered.

    `presses`: after how many seconds they press the key by which they are called back, if they wait then.
    """

    number: str
    did: str = DID
    talk: float = 0.3
    patience: float = 60.0
    presses: float | None = None


@define(eq=False)
class Story:
    """What Asterisk knows of a call, which the log has to say, too.

    @ivar ids: what `CTI_CALL_ID` was set to; one, or none where nobody answered.
    @ivar answers: each whole answer of the server: its attempt and action.
    @ivar rang: the devices that rang, the reception's among them.
    @ivar talked: who picked up.
    @ivar promised: whether they have heard that somebody calls back, to the end.
    """

    caller: Caller
    uniqueid: str
    began: float
    ids: list[str] = field(factory=list)
    answers: list[tuple[int, str]] = field(factory=list)
    attempts: int = 0
    rang: list[str] = field(factory=list)
    talked: str | None = None
    promised: bool = False
    ended: float | None = None

    @property
    def agents_rang(self) -> list[str]:
        return [device for device in self.rang if device != FALLBACK_PHONE]


@define(eq=False)
class _Channel:
    name: str
    uniqueid: str
    linkedid: str
    state: int
    context: str
    exten: str
    number: str = ""
    connected: str = ""
    priority: int = 1
    call_id: str = ""
    bridge: str = ""
    application: str = ""
    data: str = ""
    began: float = field(factory=time.time)

    @property
    def device(self) -> str:
        return self.name.rpartition("-")[0]

    def side(self, prefix: str = "") -> list[str]:
        """Its headers as they stand in each event about it."""
        return [
            f"{prefix}Channel: {self.name}",
            f"{prefix}ChannelState: {self.state}",
            f"{prefix}ChannelStateDesc: {_STATES[self.state]}",
            f"{prefix}CallerIDNum: {self.number or '<unknown>'}",
            f"{prefix}CallerIDName: <unknown>",
            f"{prefix}ConnectedLineNum: {self.connected or '<unknown>'}",
            f"{prefix}ConnectedLineName: <unknown>",
            f"{prefix}Language: en",
            f"{prefix}AccountCode: ",
            f"{prefix}Context: {self.context}",
            f"{prefix}Exten: {self.exten}",
            f"{prefix}Priority: {self.priority}",
            f"{prefix}Uniqueid: {self.uniqueid}",
            f"{prefix}Linkedid: {self.linkedid}",
            f"{prefix}ChanVariable: CTI_CALL_ID={self.call_id}",
        ]


class _Gone(Exception):
    """The caller has hung up."""


class _SentFor(Exception):
    """The channel has been redirected to [cti-sent-for]."""


class Meanwhile(StrEnum):
    """What befalls a call that waits, at the moment when Asterisk is told to redirect it."""

    NOTHING = "nothing"
    TIME = "its time is over"
    KEY = "a key is pressed"
    HANGUP = "the caller hangs up"


@define(eq=False)
class _Call:
    """A caller's channel on its way through the dialplan."""

    story: Story
    channel: _Channel
    gone: asyncio.Event = field(factory=asyncio.Event)
    sent_for: asyncio.Event = field(factory=asyncio.Event)
    woken: asyncio.Event = field(factory=asyncio.Event)
    #: Where it is in the dialplan, which a Redirect may interrupt or not.
    doing: str = ""
    variables: dict[str, str] = field(factory=dict)
    dialstatus: str = ""
    talked: str = ""
    attempt: int = 0
    asking: str = ""
    last: str = ""
    cause: int = 16
    # CTI_IN_LINE, CTI_ROUNDS, CTI_UNANSWERED, CTI_SENT and CTI_PRESSED; and what was typed, but not yet heard.
    in_line: bool = False
    rounds: int = 0
    unanswered: int = 0
    sent: str = ""
    pressed: str = ""
    typed: str = ""

    def goes_to(self, context: str, exten: str, priority: int) -> None:
        """The step of the dialplan that it takes next, as events show it."""
        self.channel.context, self.channel.exten, self.channel.priority = context, exten, priority

    async def pause(self, seconds: float, *ends: asyncio.Event) -> None:
        """So long, or until one of `ends`. Raises `_Gone` as soon as the caller hangs up, `_SentFor` as soon as the
        channel is redirected.
        """
        waits = [asyncio.ensure_future(each.wait()) for each in (self.gone, self.sent_for, *ends)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        self.interrupt()

    def interrupt(self) -> None:
        """What Asterisk looks for between two steps of the dialplan."""
        if self.gone.is_set():
            raise _Gone
        if self.sent_for.is_set():
            self.sent_for.clear()
            raise _SentFor


@define(eq=False)
class _Manager:
    """A logged-in connection to the manager port. Its events wait for a moment, and lists overtake them."""

    writer: asyncio.StreamWriter
    backlog: list[bytes] = field(factory=list)
    flushing: asyncio.TimerHandle | None = None


class SimulatedAsterisk:
    """Runs in a thread of its own from `start` to `stop`; `call` may be used from any other."""

    def __init__(
        self,
        agi_port: int,
        ami_port: int,
        secret: str,
        phones: Mapping[str, Callable[[], Behaviour]],
        *,
        pbx: str = "main",
        chance: random.Random | None = None,
        now: Callable[[], float] = time.time,
        races: bool = False,
    ) -> None:
        """`phones`: by name, what each does when it is rung next; others cannot be reached. `now`: its clock.
        `races`: at each Redirect of a call that waits, something else befalls it as well.
        """
        self.agi_port = agi_port
        self.ami_port = ami_port
        self.refused: list[str] = []
        self.stories: list[Story] = []
        self.ast_db: dict[str, str] = {}
        self.races: Counter[Meanwhile] = Counter()
        self.cut_off = 0
        self.rung_twice: list[str] = []
        #: Another one that has the same phones.
        self.beside: SimulatedAsterisk | None = None
        self._secret = secret
        self._phones = {f"PJSIP/{name}": behaviour for name, behaviour in phones.items()}
        self._pbx = pbx
        self._chance = chance or random.Random()
        self._now = now
        self._racing = races
        self._calls: dict[str, _Call] = {}
        user = read_categories((ROOT / "asterisk-conf" / "manager.conf").read_text("utf-8"))["cti"]
        self._rights = words(user.last("write"))
        filters = [value for name, value in user.settings if name == "eventfilter"]
        self._passes: Callable[[str], bool] = lambda name: passes_filters(name, filters) is not False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._listening = threading.Event()
        self._managers: list[_Manager] = []
        self._channels: dict[str, _Channel] = {}
        self._device_states: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._made = 0
        self._stopping = asyncio.Event()

    def start(self) -> None:
        self._thread.start()
        self._listening.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def call(self, caller: Caller) -> Story:
        """Somebody calls, from now on; what becomes of it is told by and by."""
        return asyncio.run_coroutine_threadsafe(self._begin(caller), self._loop).result(10)

    @property
    def devices(self) -> set[str]:
        """Those that have a channel."""
        return {channel.device for channel in list(self._channels.values())}

    @property
    def living(self) -> int:
        """How many calls go on."""
        return sum(1 for story in list(self.stories) if story.ended is None)

    def left_in_astdb(self) -> list[str]:
        return [key for key in list(self.ast_db) if key.startswith("/cti/ended/")]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._manage, LOOPBACK, self.ami_port)
        self._listening.set()
        await self._stopping.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _refuse(self, what: str) -> None:
        self.refused.append(what)

    # Calls.

    async def _begin(self, caller: Caller) -> Story:
        channel = self._channel("PJSIP/trunk", 4, "from-trunk", caller.did, number=caller.number)
        story = Story(caller, channel.uniqueid, self._now())
        self.stories.append(story)
        call = self._calls[channel.uniqueid] = _Call(story, channel)
        self._keep(self._live(call))
        return story

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._refuse(f"the simulation broke: {error!r}")

    async def _live(self, call: _Call) -> None:
        channel, story = call.channel, call.story
        impatience = self._loop.call_later(story.caller.patience, call.gone.set)
        if story.caller.presses is not None:
            self._loop.call_later(story.caller.presses, self._press, call)
        call.variables["CTI_STARTED"] = str(int(self._now()))
        self._tell("Newchannel", channel.side())
        self._look_at(channel.device)
        try:
            await self._route(call, impatience)
        except _Gone:
            # Who has been answered hangs up; who has not cancels.
            call.cause = 16 if channel.state == 6 else 127
        finally:
            impatience.cancel()
            del self._calls[channel.uniqueid]
        self._write_ended(call)
        self._hang_up(channel, call.cause)
        story.ended = self._now()

    async def _route(self, call: _Call, impatience: asyncio.TimerHandle) -> None:
        """[cti-route]: ask, do, and ask again, until the call is elsewhere."""
        while True:
            call.attempt += 1
            call.rounds += 1
            if call.rounds > MOST_QUESTIONS:
                call.variables["CTI_ACTION"] = ""
                await self._fall_back(call, impatience)
                return
            try:
                await self._ask(call)
                if await self._act_on(call, impatience):
                    return
            except _SentFor:
                call.sent = "1"

    async def _act_on(self, call: _Call, impatience: asyncio.TimerHandle) -> bool:
        """[cti-answer] and [cti-action]: do what the answer says; False: and ask again.

        Raises `_Gone` and `_SentFor`.
        """
        action, target = call.variables["CTI_ACTION"], call.variables["CTI_TARGET"]
        if call.in_line and action == "":
            return await self._stay_in_line(call, impatience)
        call.in_line, call.unanswered, call.sent, call.pressed = False, 0, "", ""
        if action == "dial" and _DIALLED.fullmatch(target):
            place = "cti-action", "dial", 10
            seconds = float(call.variables["CTI_TIMEOUT"] or 20)
            return await self._dial(call, target, seconds, place, impatience)
        if action == "wait":
            await self._wait(call)
            return False
        if action == "announce" and _SOUNDS.fullmatch(target) and not call.variables["CTI_NEXT"]:
            await self._announce(call)
        elif action == "reject" and target == "busy":
            await self._reject(call)
        else:
            if action not in ("", "fallback"):
                self._refuse(f"the action {action!r} to {target!r}")
            await self._fall_back(call, impatience)
        return True

    # The line.

    async def _wait(self, call: _Call) -> None:
        """`wait` and [cti-line-keys]: music, until the time is over, the key is pressed, or the call is sent for."""
        given = call.variables
        call.in_line, call.dialstatus = True, ""
        call.rounds -= 1
        answers = given["CTI_ANSWER"] == "1"
        if answers:
            call.goes_to("cti-action", "wait", 5)
            self._answer_channel(call)
        if given["CTI_POSITION"] or given["CTI_MINUTES"] or given["CTI_COMFORT"]:
            self._refuse("what is said to who waits")
        key = given["CTI_KEY"] if answers else ""
        if key:
            call.goes_to("cti-line-keys", "s", 1)
        else:
            call.goes_to("cti-action", "wait", 8 if answers else 10)
        await self._music(call, float(given["CTI_TIMEOUT"] or 10))
        if key and call.typed == key:
            call.pressed = key

    async def _music(self, call: _Call, seconds: float) -> None:
        channel = call.channel
        call.typed, call.doing = "", "waits"
        call.woken.clear()
        try:
            await call.pause(seconds, call.woken)
        except _Gone:
            self._tell("HangupRequest", channel.side(), f"Cause: {16 if channel.state == 6 else 127}")
            raise
        finally:
            call.doing = ""

    async def _stay_in_line(self, call: _Call, impatience: asyncio.TimerHandle) -> bool:
        """[cti-line]: the server is away, and who stands in a line keeps the place."""
        call.unanswered += 1
        call.rounds -= 1
        call.sent = call.pressed = ""
        if call.unanswered <= MOST_UNANSWERED:
            call.goes_to("cti-line", "s", 3)
            await self._music(call, AWAY_SECONDS)
            return False
        call.in_line = False
        await self._fall_back(call, impatience)
        return True

    async def _announce(self, call: _Call) -> None:
        """`announce`, after which the caller is hung up on."""
        call.goes_to("cti-action", "announce", 4)
        self._answer_channel(call)
        call.goes_to("cti-action", "announce", 17)
        call.doing = "hears a sound"
        await call.pause(SOUND_SECONDS)
        call.goes_to("cti-action", "announce", 23)
        call.story.promised = True

    def _answer_channel(self, call: _Call) -> None:
        if call.channel.state != 6:
            call.channel.state = 6
            self._tell("Newstate", call.channel.side())

    async def _fall_back(self, call: _Call, impatience: asyncio.TimerHandle) -> None:
        """[cti-fallback]: the server's word, else AstDB's, else the global."""
        given = call.variables["CTI_TARGET"] if call.variables["CTI_ACTION"] == "fallback" else ""
        stored = self.ast_db.get(f"/cti/fallback/{call.story.caller.did}", "")
        place = next(place for place in (given, stored, GLOBAL_FALLBACK) if place in PLACES)
        context = place.partition(",")[0]
        await self._dial(call, FALLBACK_PHONE, 30.0, (context, "s", 2), impatience)

    async def _reject(self, call: _Call) -> None:
        channel = call.channel
        call.goes_to("cti-action", "reject", 7)
        channel.state = 7
        self._tell("Newstate", channel.side())
        self._look_at(channel.device)
        await asyncio.sleep(0.01)
        self._tell("HangupRequest", channel.side(), "Cause: 17")
        call.cause = 17

    # The question.

    async def _ask(self, call: _Call) -> None:
        call.variables |= dict.fromkeys(_ANSWER, "")
        call.goes_to("cti-ask", "route", 4)
        call.story.attempts = call.attempt
        call.asking, call.last, call.doing = "route", call.dialstatus, "asks"
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self.agi_port, limit=LONGEST_COMMAND)
        except OSError:
            call.asking = ""
            return
        answering = self._loop.create_task(self._answers(call, reader, writer))
        leaving = self._loop.create_task(call.gone.wait())
        cut_off = self._loop.create_task(call.sent_for.wait())
        try:
            await asyncio.wait(
                {answering, leaving, cut_off}, timeout=GUARD_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if (leaving.done() or cut_off.done()) and not answering.done():
                if leaving.done():
                    cause = 16 if call.channel.state == 6 else 127
                    self._tell("HangupRequest", call.channel.side(), f"Cause: {cause}")
                with suppress(OSError):
                    writer.write(b"HANGUP\n")
                    await asyncio.wait({answering}, timeout=0.05)
                self.cut_off += cut_off.done()
                call.interrupt()
            call.asking = ""
            if not answering.done():
                # The guard: extension T.
                call.variables["CTI_ACTION"] = ""
                call.story.answers[:] = [each for each in call.story.answers if each[0] != call.attempt]
        finally:
            for task in (answering, leaving, cut_off):
                task.cancel()
            writer.transport.abort()
            call.doing = ""
        call.interrupt()

    async def _answers(self, call: _Call, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each command of the server's, confirmed; until it closes the connection."""
        with suppress(OSError):
            writer.write(self._question(call))
            while True:
                try:
                    line = await reader.readuntil(b"\n")
                except asyncio.IncompleteReadError:
                    return
                except asyncio.LimitOverrunError:
                    self._refuse("a command longer than Asterisk reads")
                    return
                # Asterisk reads one, and what was written with it never counts.
                if reader._buffer:  # type: ignore[attr-defined]
                    self._refuse("a command before the answer to the one before it")
                writer.write(self._obey(call, line[:-1].decode()))

    def _obey(self, call: _Call, command: str) -> bytes:
        match = _SET_VARIABLE.fullmatch(command)
        if match is None:
            self._refuse(f"the command {command!r}")
            return b"510 Invalid or unknown command\n"
        name, value = match[1], re.sub(r"\\(.)", r"\1", match[2])
        if name == _CALL_ID:
            call.channel.call_id = value
            if value not in call.story.ids:
                call.story.ids.append(value)
        elif name in _ANSWER:
            call.variables[name] = value
        else:
            self._refuse(f"the variable {name}")
        if name == "CTI_ACTION":
            call.story.answers.append((call.attempt, value))
        return b"200 result=1\n"

    def _question(self, call: _Call) -> bytes:
        caller, channel = call.story.caller, call.channel
        address = f"{LOOPBACK}:{self.agi_port}"
        headers = [
            "agi_network: yes",
            "agi_network_script: route",
            f"agi_request: agi://{address}/route",
            f"agi_channel: {channel.name}",
            "agi_language: en",
            "agi_type: PJSIP",
            f"agi_uniqueid: {channel.uniqueid}",
            "agi_version: 22.10.1",
            f"agi_callerid: {caller.number}",
            "agi_calleridname: unknown",
            "agi_callingpres: 0",
            "agi_callingani2: 0",
            "agi_callington: 0",
            "agi_callingtns: 0",
            "agi_dnid: unknown",
            "agi_rdnis: unknown",
            "agi_context: cti-ask",
            "agi_extension: route",
            "agi_priority: 4",
            "agi_enhanced: 0.0",
            "agi_accountcode: ",
            "agi_threadid: 140036271052480",
            "agi_arg_1: v=1",
            f"agi_arg_2: pbx={self._pbx}",
            f"agi_arg_3: call={channel.call_id}",
            f"agi_arg_4: linkedid={channel.linkedid}",
            f"agi_arg_5: did={caller.did}",
            f"agi_arg_6: attempt={call.attempt}",
            f"agi_arg_7: last={call.dialstatus}",
            f"agi_arg_8: sent={call.sent}",
            f"agi_arg_9: pressed={call.pressed}",
        ]
        return "".join(f"{line}\n" for line in [*headers, ""]).encode()

    # Ringing and talking.

    async def _dial(
        self,
        call: _Call,
        target: str,
        seconds: float,
        place: tuple[str, str, int],
        impatience: asyncio.TimerHandle,
    ) -> bool:
        """Whether somebody talked; then the call is over. Raises `_Gone`."""
        caller = call.channel
        call.goes_to(*place)
        caller.application, caller.data = "Dial", f"{target},{seconds:.0f},b(cti-phone^s^1)"
        call.dialstatus = call.talked = ""
        call.doing = "rings"
        busy = self.devices | (self.beside.devices if self.beside is not None else set())
        self.rung_twice += [each for each in target.split("&") if each in busy and each != FALLBACK_PHONE]
        legs = [self._leg(caller, device) for device in target.split("&") if device in self._phones]
        for leg in legs:
            self._tell("DialBegin", caller.side(), leg.side("Dest"), f"DialString: {leg.device[6:]}")
        if len(legs) == 1:
            caller.connected = caller.exten
        rings: list[tuple[float, _Channel]] = []
        for leg in legs:
            behaviour = self._phones[leg.device]()
            match behaviour:
                case Busy():
                    self._tell("HangupRequest", leg.side(), "Cause: 17")
                    self._dial_ended(call, leg, "BUSY")
                    self._hang_up(leg, 17)
                case Answers(after_ms=after):
                    rings.append((float("inf") if after is None else after / 1000, leg))
                case RingsForever():
                    rings.append((float("inf"), leg))
                case _:
                    raise NotImplementedError(f"a phone that {behaviour}")
        if not rings:
            call.dialstatus = "BUSY" if legs else "CHANUNAVAIL"
            return False
        for _, leg in rings:
            leg.state = 5
            call.story.rang.append(leg.device)
            self._tell("Newstate", leg.side())
            self._tell("DialState", caller.side(), leg.side("Dest"), "DialStatus: RINGING")
            self._look_at(leg.device)
        soonest, winner = min(rings, key=lambda ring: ring[0])
        try:
            await call.pause(min(soonest, seconds))
        except _Gone:
            cause = 16 if caller.state == 6 else 127
            self._tell("HangupRequest", caller.side(), f"Cause: {cause}")
            call.dialstatus = "CANCEL"
            for _, leg in rings:
                self._dial_ended(call, leg, "CANCEL")
            for _, leg in rings:
                self._hang_up(leg, cause)
            raise
        losers = [leg for _, leg in rings if leg is not winner or soonest > seconds]
        answered = soonest <= seconds
        if answered:
            winner.state, caller.connected = 6, caller.exten
            call.story.talked = winner.device
            self._tell("Newstate", winner.side())
        for leg in losers:
            self._dial_ended(call, leg, "CANCEL" if answered else "NOANSWER")
            self._hang_up(leg, 26 if answered else 0)
        if not answered:
            call.dialstatus = "NOANSWER"
            return False
        impatience.cancel()
        await self._talk(call, winner)
        return True

    def _leg(self, caller: _Channel, device: str) -> _Channel:
        """A phone's channel. Only after the first event of it does it have the caller's variables."""
        leg = self._channel(device, 0, "from-phones", "s", linkedid=caller.linkedid)
        self._tell("Newchannel", leg.side())
        leg.call_id, leg.number, leg.connected = caller.call_id, caller.exten, caller.number
        leg.exten, leg.application = caller.exten, "AppDial"
        return leg

    def _dial_ended(self, call: _Call, leg: _Channel, status: str) -> None:
        self._tell("DialEnd", call.channel.side(), leg.side("Dest"), f"DialStatus: {status}")

    async def _talk(self, call: _Call, phone: _Channel) -> None:
        caller = call.channel
        phone.exten = ""
        self._dial_ended(call, phone, "ANSWER")
        call.dialstatus = "ANSWER"
        self._answer_channel(call)
        self._look_at(phone.device)
        began, bridge = time.monotonic(), str(uuid.UUID(int=self._chance.getrandbits(128)))
        for number, channel in enumerate((phone, caller), 1):
            channel.bridge = bridge
            self._tell("BridgeEnter", _bridge(bridge, number, "simple_bridge"), channel.side())
        await asyncio.sleep(call.story.caller.talk)
        self._tell("HangupRequest", caller.side(), "Cause: 16")
        call.talked = str(int(time.monotonic() - began))
        for number, channel in ((1, caller), (0, phone)):
            channel.bridge = ""
            self._tell("BridgeLeave", _bridge(bridge, number, "native_rtp"), channel.side())
        self._tell("BridgeDestroy", _bridge(bridge, 0, "native_rtp"))
        self._hang_up(phone, 16)

    def _write_ended(self, call: _Call) -> None:
        """[cti-ended]: the hangup handler, which runs before AMI tells of the end."""
        channel, given = call.channel, call.variables
        self.ast_db[f"/cti/ended/{channel.uniqueid}"] = (
            f"v=1,call={channel.call_id},way=inbound,channel={channel.name},did={call.story.caller.did},"
            f"from={channel.number},pres=allowed_not_screened,started={given['CTI_STARTED']},"
            f"ended={int(self._now())},cause={call.cause},action={given.get('CTI_ACTION', '')},"
            f"attempt={call.attempt},asking={call.asking},last={call.last},"
            f"dialstatus={call.dialstatus},talked={call.talked}"
        )

    # Channels and events.

    def _channel(
        self, device: str, state: int, context: str, exten: str, *, number: str = "", linkedid: str = ""
    ) -> _Channel:
        name, uniqueid = f"{device}-{self._made:08x}", f"{self._now():.0f}.{self._made}"
        self._made += 1
        channel = _Channel(name, uniqueid, linkedid or uniqueid, state, context, exten, number)
        channel.began = self._now()
        self._channels[uniqueid] = channel
        return channel

    def _hang_up(self, channel: _Channel, cause: int) -> None:
        del self._channels[channel.uniqueid]
        self._tell("Hangup", channel.side(), f"Cause: {cause}", f"Cause-txt: {_CAUSES[cause]}")
        self._look_at(channel.device)

    def _state_of(self, device: str) -> str:
        states = {channel.state for channel in self._channels.values() if channel.device == device}
        if states & {4, 6}:
            return "INUSE"
        if 7 in states:
            return "BUSY"
        return "RINGING" if 5 in states else "NOT_INUSE" if device in self._phones else "UNAVAILABLE"

    def _look_at(self, device: str) -> None:
        state = self._state_of(device)
        if self._device_states.get(device, "NOT_INUSE") != state:
            self._device_states[device] = state
            self._tell("DeviceStateChange", f"Device: {device}", f"State: {state}")

    def _tell(self, name: str, *parts: str | Sequence[str]) -> None:
        if not self._passes(name):
            return
        lines = [f"Event: {name}", "Privilege: call,all", f"Timestamp: {self._now():.6f}", *_flat(parts)]
        data = _block(lines)
        for manager in self._managers:
            manager.backlog.append(data)
            if manager.flushing is None:
                pause = self._chance.uniform(0, 0.003)
                manager.flushing = self._loop.call_later(pause, self._flush, manager)

    def _flush(self, manager: _Manager) -> None:
        manager.flushing = None
        data, manager.backlog = b"".join(manager.backlog), []
        manager.writer.write(data)

    # The manager port.

    async def _manage(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Asterisk Call Manager/11.0.0\r\n")
        challenge = str(self._chance.randrange(10**8, 10**9))
        manager = _Manager(writer)
        try:
            while True:
                block = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode()
                action = dict(line.partition(": ")[::2] for line in block.split("\r\n"))
                if action.get("Action") == "Redirect" and self._racing:
                    await self._race(action.get("Channel", ""))
                writer.write(self._act(manager, action, challenge))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if manager in self._managers:
                self._managers.remove(manager)
            writer.transport.abort()

    def _act(self, manager: _Manager, action: dict[str, str], challenge: str) -> bytes:
        name, id = action.pop("Action", ""), action.pop("ActionID", "")
        known = _ACTIONS.get(name)
        if known is None:
            self._refuse(f"the action {name!r}")
            return _answer("Error", id, f"Message: Invalid/unknown command: {name}. Use Action: ListCommands")
        if action.keys() != known.fields:
            self._refuse(f"{name} with {sorted(action)}")
        if known.rights and not words(known.rights) & self._rights:
            self._refuse(f"{name}, for which the user has no right")
            return _answer("Error", id, "Message: Permission denied")
        if name not in ("Challenge", "Login") and manager not in self._managers:
            self._refuse(f"{name} before the log-in")
            return _answer("Error", id, "Message: Permission denied")
        match name:
            case "Challenge":
                return _answer("Success", id, f"Challenge: {challenge}")
            case "Login":
                proof = hashlib.md5((challenge + self._secret).encode(), usedforsecurity=False).hexdigest()
                if (action["Username"], action["Key"]) != ("cti", proof):
                    self._refuse("a wrong log-in")
                    return _answer("Error", id, "Message: Authentication failed")
                self._managers.append(manager)
                booted = ["Event: FullyBooted", "Privilege: system,all", "Uptime: 0", "LastReload: 0"]
                return _answer("Success", id, "Message: Authentication accepted") + _block(
                    [*booted, "Status: Fully Booted"]
                )
            case "Ping":
                return _answer("Success", id, "Ping: Pong", f"Timestamp: {self._now():.6f}")
            case "CoreSettings":
                return _answer("Success", id, "AMIversion: 11.0.0", "AsteriskVersion: 22.10.1")
            case "DBPut":
                self.ast_db[f"/{action['Family']}/{action['Key']}"] = action["Val"]
                return _answer("Success", id, "Message: Updated database successfully")
            case "DBDel":
                if self.ast_db.pop(f"/{action['Family']}/{action['Key']}", None) is None:
                    return _answer("Error", id, "Message: Database entry could not be deleted")
                return _answer("Success", id, "Message: Key deleted successfully")
            case "Redirect":
                return self._redirect(id, action)
            case "Originate":
                # Nobody has put [cti-control] here.
                return _answer("Error", id, "Message: Extension does not exist.")
            case "Getvar":
                if action["Channel"] not in (channel.name for channel in self._channels.values()):
                    return _answer("Error", id, "Message: No such channel")
                if action["Variable"] != "CALLERID(num-pres)":
                    self._refuse(f"the variable {action['Variable']}")
                return _answer(
                    "Success", id, f"Variable: {action['Variable']}", "Value: allowed_not_screened"
                )
        message, complete, items = self._listed(name, id, action)
        answer = _answer("Success", id, "EventList: start", f"Message: {message}")
        end = [f"Event: {complete}", f"ActionID: {id}", "EventList: Complete", f"ListItems: {len(items)}"]
        return answer + b"".join(map(_block, [*items, end]))

    def _press(self, call: _Call) -> None:
        if call.doing == "waits" and not call.woken.is_set():
            call.typed = call.variables["CTI_KEY"]
            call.woken.set()

    async def _race(self, uniqueid: str) -> None:
        """Before Asterisk does as it is told: something else is as quick."""
        call = self._calls.get(uniqueid)
        if call is None or call.doing != "waits":
            return
        meanwhile = self._chance.choices([*Meanwhile], weights=[1, 4, 4, 1])[0]
        self.races[meanwhile] += 1
        match meanwhile:
            case Meanwhile.KEY:
                self._press(call)
            case Meanwhile.TIME:
                call.woken.set()
            case Meanwhile.HANGUP:
                call.gone.set()
        await asyncio.sleep(self._chance.uniform(0, 0.02))

    def _redirect(self, id: str, action: Mapping[str, str]) -> bytes:
        """As main/manager.c has it: the channel by its name or uniqueid, which leaves whatever it is in."""
        call = self._calls.get(action["Channel"])
        if call is None:
            return _answer("Error", id, f"Message: Channel does not exist: {action['Channel']}")
        if call.gone.is_set():
            return _answer("Error", id, "Message: Redirect failed, channel not up.")
        if (action["Context"], action["Exten"], action["Priority"]) != ("cti-sent-for", "s", "1"):
            self._refuse(f"a Redirect to {action['Context']}")
        if call.doing not in ("waits", "asks", ""):
            self._refuse(f"a Redirect of a call that {call.doing}")
        call.sent_for.set()
        return _answer("Success", id, "Message: Redirect successful")

    def _listed(self, name: str, id: str, action: Mapping[str, str]) -> tuple[str, str, list[list[str]]]:
        """What an action lists: the words it begins with, the event that ends it, and its entries."""
        if name == "DeviceStateList":
            entries = [
                [
                    "Event: DeviceStateChange",
                    f"ActionID: {id}",
                    f"Device: {device}",
                    f"State: {self._state_of(device)}",
                ]
                for device in [*self._phones, "PJSIP/trunk"]
            ]
            return "Device State Changes will follow", "DeviceStateListComplete", entries
        if name == "CoreShowChannels":
            entries = [
                [
                    "Event: CoreShowChannel",
                    f"ActionID: {id}",
                    *channel.side(),
                    f"Application: {channel.application}",
                    f"ApplicationData: {channel.data}",
                    f"Duration: {time.strftime('%H:%M:%S', time.gmtime(self._now() - channel.began))}",
                    f"BridgeId: {channel.bridge}",
                ]
                for channel in self._channels.values()
            ]
            return "Channels will follow", "CoreShowChannelsComplete", entries
        if name == "BridgeList":
            inside = [channel.bridge for channel in self._channels.values() if channel.bridge]
            entries = [
                [
                    "Event: BridgeListItem",
                    f"ActionID: {id}",
                    *_bridge(bridge, inside.count(bridge), "native_rtp"),
                ]
                for bridge in dict.fromkeys(inside)
            ]
            return "Bridge listing will follow", "BridgeListComplete", entries
        entries = [
            ["Event: DBGetTreeResponse", f"Key: {key}", f"Val: {value}", f"ActionID: {id}"]
            for key, value in sorted(self.ast_db.items())
            if key.startswith(f"/{action['Family']}/")
        ]
        return "Result will follow", "DBGetTreeComplete", entries


_CAUSES: Final = {
    0: "Unknown",
    16: "Normal Clearing",
    17: "User busy",
    26: "Answered elsewhere",
    127: "Interworking, unspecified",
}


def _bridge(id: str, channels: int, technology: str) -> list[str]:
    return [
        f"BridgeUniqueid: {id}",
        "BridgeType: basic",
        f"BridgeTechnology: {technology}",
        "BridgeCreator: <unknown>",
        "BridgeName: <unknown>",
        f"BridgeNumChannels: {channels}",
        "BridgeVideoSourceMode: none",
    ]


def _flat(parts: Sequence[str | Sequence[str]]) -> list[str]:
    return [line for part in parts for line in ([part] if isinstance(part, str) else part)]


def _block(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _answer(response: str, id: str, *lines: str) -> bytes:
    return _block([f"Response: {response}", f"ActionID: {id}", *lines])
