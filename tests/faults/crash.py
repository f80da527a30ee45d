"""A company under twenty calls a second whose server is killed again and again; and the books, audited afterwards.

What is compared: what Asterisk knows of each call, the log, what webhooks' receivers took, and the CRMs' activities.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

from cti.store.base import CallDetail, CallFilter
from cti.store.opening import Place, open_for_command
from cti.store.records import StoredEvent
from cti.store.threaded import CommandStore
from lab.company import DIALLED
from lab.daemon import Daemon
from lab.ports import LOOPBACK, PortBlock
from lab.processes import eventually
from lab.scenarios import Answers, Behaviour, Busy, RingsForever
from tests.crm.fakes import espocrm, webhook
from tests.faults.nursery import CLOCK_FILE, Clock, Nursery
from tests.faults.simulated import FALLBACK_PHONE, Caller, SimulatedAsterisk, Story
from tests.faults.unreliable import Chance, MoodyEspoCrm, MoodyHomeMade, Receiver

AGENTS: Final = 60
CALLS_A_SECOND: Final = 20.0
SECRET: Final = "a secret of the laboratory's"
#: Each hook, and what it is told of.
HOOKS: Final[Mapping[str, Sequence[str]]] = {
    "panel": ("call.routed", "call.connected", "call.ended", "call.missed"),
    "bills": ("call.ended",),
}
_PAGE: Final = 200


def known(index: int) -> str:
    """The number of one of a hundred people whom a CRM knows."""
    return f"+49171392 00{index:02d}".replace(" ", "")


@frozen
class Killing:
    """How the run goes: so many kills, each after a random time of serving, and pauses between kill and start."""

    kills: int
    longest_life: float = 1.2
    longest_pause: float = 0.3


@define
class Books:
    """What the log has in the end."""

    calls: list[CallDetail]
    events: list[StoredEvent]
    pending: Mapping[str, int]


@define(eq=False)
class Scene:
    """Everything in place: Asterisk, CRMs, receivers, and the server's directory."""

    asterisk: SimulatedAsterisk
    daemon: Daemon
    nursery: Nursery
    home: MoodyHomeMade
    espo: MoodyEspoCrm
    hooks: Mapping[str, Receiver]
    chance: Chance
    dice: random.Random
    rate: float = CALLS_A_SECOND
    pid: int = 0
    starts: list[float] = field(factory=list)

    def start(self) -> None:
        began = time.monotonic()
        self.pid = self.nursery.start(self.daemon)
        self.starts.append(time.monotonic() - began)

    def kill(self) -> None:
        self.nursery.kill(self.pid)

    def know(self, **numbers: int) -> None:
        """Wait until the index has so many numbers of each of these adapters; nothing fails meanwhile."""
        self.chance.over = True
        for adapter, count in numbers.items():
            eventually(
                lambda adapter=adapter, count=count: (
                    self.daemon.metric("cti_index_numbers", adapter=adapter) >= count
                ),
                60,
                what=f"the numbers of {adapter}",
                pause=0.1,
            )
        self.chance.over = False

    def store(self) -> CommandStore:
        return open_for_command(self.place, destinations={}, clock=time.time)

    @property
    def place(self) -> Place:
        """Where the store is."""
        store = self.daemon.settings["store"]
        return store["postgresql"] if "postgresql" in store else self.daemon.directory / store["sqlite"]

    def callers(self) -> Iterator[Caller]:
        """People whom the CRMs know and others, patient ones and others."""
        while True:
            number = (
                known(self.dice.randrange(100))
                if self.dice.random() < 0.6
                else f"+493023125{self.dice.randrange(1000):03d}"
            )
            patience = 60.0 if self.dice.random() < 0.75 else self.dice.uniform(0.01, 1.5)
            yield Caller(number, talk=self.dice.uniform(0.1, 1.2), patience=patience)

    def run(self, killing: Killing, meanwhile: Callable[[int], None] = lambda _kill: None) -> None:
        """Calls come all the time; the server is killed and started. `meanwhile(n)` is called after each start."""
        with self._calling():
            for kill in range(killing.kills):
                time.sleep(self.dice.uniform(0.0, killing.longest_life))
                self.kill()
                time.sleep(self.dice.uniform(0.0, killing.longest_pause))
                self.start()
                meanwhile(kill)
            time.sleep(1.0)

    def calls_for(self, seconds: float) -> None:
        """Calls come for so long."""
        with self._calling():
            time.sleep(seconds)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        ended = threading.Event()
        calling = threading.Thread(target=self._place, args=(ended,), daemon=True)
        calling.start()
        try:
            yield
        finally:
            ended.set()
            calling.join()

    def _place(self, ended: threading.Event) -> None:
        callers, due = self.callers(), time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            self.asterisk.call(next(callers))
            due += self.dice.expovariate(self.rate)

    def settle(self, timeout: float = 600.0) -> Books:
        """Nothing fails any more: wait until all is said and done, and read the log."""
        eventually(lambda: not self.asterisk.living, 60, what="the end of all calls", pause=0.1)
        self.chance.over = True
        eventually(lambda: not self.asterisk.left_in_astdb(), timeout, what="an empty AstDB", pause=0.2)
        with self.store() as store:
            eventually(lambda: not store.read.open_calls(), timeout, what="no call that is open", pause=0.2)
            eventually(
                lambda: not any(count for count, _ in store.read.pending().values()),
                timeout,
                what="an empty outbox",
                pause=0.5,
            )
            calls: list[CallDetail] = []
            after = None
            while True:
                page, after = store.read.calls(CallFilter(), _PAGE, after)
                details = [store.read.call(call.id) for call in page]
                calls += [detail for detail in details if detail is not None]
                if after is None:
                    break
            events = list(store.read.events_after(0, 10_000_000))
            return Books(calls, events, {name: count for name, (count, _) in store.read.pending().items()})


@contextmanager
def a_scene(
    directory: Path,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Scene]:
    """All of it, with the server not yet started. `clock`: what Asterisk and the server take for the time.

    `settings` replace parts of the server's, such as its adapters; `environment` adds to its.
    """
    dice = random.Random(seed)
    chance = Chance(random.Random(seed + 1))
    with ExitStack() as stack:
        ports = PortBlock.claim()
        stack.callback(ports.release)
        http_port, agi_port, ami_port, *hook_ports = (ports.take() for _ in range(3 + len(HOOKS)))
        phones = {f"agent{number:02d}": _mood_of_a_phone(dice) for number in range(AGENTS)}
        phones["reception"] = lambda: Answers(after_ms=dice.randrange(20, 120))
        asterisk = SimulatedAsterisk(
            agi_port, ami_port, SECRET, phones, chance=random.Random(seed + 2), now=clock or time.time
        )
        asterisk.start()
        stack.callback(asterisk.stop)
        home, espo = MoodyHomeMade(chance), MoodyEspoCrm(chance)
        stack.callback(home.close)
        stack.callback(espo.close)
        for index in range(50):
            home.add("contact", known(index), name=f"Person {index}")
            espo.add("contact", known(index + 50), firstName="Person", lastName=str(index + 50))
        hooks = {name: Receiver(port, chance) for name, port in zip(HOOKS, hook_ports, strict=True)}
        for receiver in hooks.values():
            stack.callback(receiver.stop)
        daemon = Daemon(
            directory / "daemon",
            {**_settings(http_port, agi_port, ami_port, home, espo, hooks, hook_ports), **(settings or {})},
            http_port,
            agi_port,
            environment={
                "AMI_SECRET": SECRET,
                "HOOK": "signed with this",
                **({} if clock is None else {CLOCK_FILE: str(clock.file)}),
                **(environment or {}),
            },
        )
        daemon.write_configuration()
        nursery = Nursery(daemon.environment)
        stack.callback(nursery.stop)
        yield Scene(asterisk, daemon, nursery, home, espo, hooks, chance, dice)


def _mood_of_a_phone(dice: random.Random) -> Callable[[], Behaviour]:
    def behaviour() -> Behaviour:
        luck = dice.random()
        if luck < 0.7:
            return Answers(after_ms=dice.randrange(10, 600))
        return RingsForever() if luck < 0.9 else Busy()

    return behaviour


def _settings(
    http_port: int,
    agi_port: int,
    ami_port: int,
    home: MoodyHomeMade,
    espo: MoodyEspoCrm,
    hooks: Mapping[str, Receiver],
    hook_ports: Sequence[int],
) -> dict[str, Any]:
    return {
        "region": "DE",
        "store": {"sqlite": "cti.db"},
        "fastagi": {"listen": f"{LOOPBACK}:{agi_port}"},
        "http": {"listen": f"{LOOPBACK}:{http_port}", "requests_per_minute": 1_000_000},
        "asterisks": {
            "main": {"ami": f"{LOOPBACK}:{ami_port}", "username": "cti", "secret": {"env": "AMI_SECRET"}}
        },
        "adapters": {
            "home": {
                "kind": "http",
                "preset": "webhook",
                "url": home.url,
                "secrets": {"token": webhook.TOKEN},
            },
            "espo": {
                "kind": "http",
                "preset": "espocrm",
                "url": espo.url,
                "secrets": {"api_key": espocrm.KEY},
                # A request that is given up is done at most 1.5 s later.
                "journal": {"lost_seconds": 3},
            },
        },
        "agents": {
            f"agent{number:02d}": {
                "name": f"Agent {number}",
                "phones": [f"PJSIP/agent{number:02d}"],
                "groups": ["sales"],
                "state": "ready",
            }
            for number in range(AGENTS)
        },
        # The same agents for 1,000 calls, most of which nobody takes.
        "set_aside_after": 0,
        "services": {
            "sales": {
                "numbers": [DIALLED],
                "mode": "route",
                "fallback": "old-context,s,1",
                "rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 1}],
            }
        },
        "webhooks": {
            name: {
                "url": f"http://{LOOPBACK}:{port}/{name}",
                "secret": {"env": "HOOK"},
                "events": list(events),
            }
            for (name, events), port in zip(HOOKS.items(), hook_ports, strict=True)
        },
    }


# The audit. Each gives the faults that it finds, in words.


def faults(scene: Scene, books: Books, *, times: bool = True) -> list[str]:
    """`times`: whether those of the log have to be Asterisk's, too."""
    return [
        *(f"Asterisk refused {what}" for what in scene.asterisk.refused[:20]),
        *faults_of_the_log(scene.asterisk.stories, books, times),
        *faults_of_the_events(books),
        *(fault for name, hook in scene.hooks.items() for fault in faults_of_a_hook(name, hook, books)),
        *faults_of_the_crms(scene, books),
    ]


def faults_of_the_log(stories: Sequence[Story], books: Books, times: bool = True) -> Iterator[str]:
    """Each call is there once, as Asterisk saw it."""
    by_channel: dict[str, set[str]] = defaultdict(set)
    by_id = {detail.call.id: detail for detail in books.calls}
    for detail in books.calls:
        for channel in detail.channels:
            if channel.role == "caller":
                by_channel[channel.uniqueid].add(detail.call.id)
    for story in stories:
        found = by_channel.pop(story.uniqueid, set())
        if len(found) != 1:
            yield f"{_about(story)}: {len(found)} records"
            continue
        detail = by_id.pop(next(iter(found)))
        # Of an answer that broke off before it was one, Asterisk may keep an id that nobody has written down.
        if story.answers and story.ids != [detail.call.id]:
            yield f"{_about(story)}: its ids were {story.ids}, the log has {detail.call.id}"
        expected = outcome_of(story), agent_of(story)
        if (
            len(story.answers) < story.attempts
            and expected[0] == "abandoned"
            and detail.call.outcome == "fallback"
        ):
            # Who left between a question that nobody answered and the fallback's first phone looks like who went to a
            # menu there.
            continue
        if expected[0] == "abandoned" and detail.call.outcome == "busy" and story.attempts > 1:
            # DIALSTATUS there is that of the phone before, until the next one has been given up.
            continue
        if (detail.call.outcome, detail.call.agent) != expected:
            told = detail.call.outcome, detail.call.agent
            yield f"{_about(story)}: the log says {told}, and it was {expected}; {_as_logged(detail)}"
        if times and abs((detail.call.ended or 0.0) - (story.ended or 0.0)) > 2.0:
            yield f"{_about(story)}: ended at {detail.call.ended} by the log, {story.ended} by Asterisk"
        if (detail.call.ended or 0.0) < (detail.call.answered or detail.call.started):
            yield f"{_about(story)}: by the log it ended before it began"
    for id, detail in by_id.items():
        yield f"the log has a call that never was: {id}, {_as_logged(detail)}"


def outcome_of(story: Story) -> str:
    """The contract's outcomes, the first that holds."""
    if story.talked is not None:
        return "answered"
    if story.agents_rang:
        return "missed"
    sent = story.answers and story.answers[-1][1] == "fallback"
    return "fallback" if sent or FALLBACK_PHONE in story.rang else "abandoned"


def agent_of(story: Story) -> str | None:
    if story.talked is None or story.talked == FALLBACK_PHONE:
        return None
    return story.talked.partition("/")[2]


def faults_of_the_events(books: Books) -> Iterator[str]:
    """Numbers without gaps; of each call one beginning at most, and one end."""
    numbers = [event.seq for event in books.events]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "the events' numbers have gaps"
    types: dict[str, Counter[str]] = defaultdict(Counter)
    last: dict[str, str] = {}
    for event in books.events:
        if event.call is not None and event.type.startswith("call."):
            types[event.call][event.type] += 1
            last[event.call] = event.type
    for detail in books.calls:
        of_it = types[detail.call.id]
        missed = int(detail.call.outcome == "missed")
        if of_it["call.ended"] != 1 or of_it["call.missed"] != missed or of_it["call.offered"] > 1:
            yield f"{detail.call.id} ({detail.call.outcome}): {dict(of_it)}"


def faults_of_a_hook(name: str, hook: Receiver, books: Books) -> Iterator[str]:
    """It has each event; of each call in order; and what came twice had the same key and words."""
    due = {event.seq: event for event in books.events if event.type in HOOKS[name]}
    bodies: dict[str, bytes] = {}
    order: dict[str, list[int]] = defaultdict(list)
    for taken in list(hook.taken):
        if taken.key in bodies:
            if bodies[taken.key] != taken.body:
                yield f"{name}: {taken.key} came twice with different words"
            continue
        bodies[taken.key] = taken.body
        data = json.loads(taken.body)
        order[data["call"]["id"]].append(data["seq"])
    had = [seq for numbers in order.values() for seq in numbers]
    for seq, times in Counter(had).items():
        if times > 1:
            yield f"{name}: event {seq} came by {times} keys"
    for seq in sorted(due.keys() - set(had))[:10]:
        yield f"{name}: event {seq} ({due[seq].type}) never came"
    for seq in sorted(set(had) - due.keys())[:10]:
        yield f"{name}: event {seq} is none of the log's"
    for call, numbers in order.items():
        if numbers != sorted(numbers):
            yield f"{name}: of {call} in the order {numbers}"


def faults_of_the_crms(scene: Scene, books: Books) -> Iterator[str]:
    """One activity for each call with one of its parties, as the call was in the end."""
    home = Counter(list(scene.home.calls))
    espo = Counter(
        record["fields"]["description"].rpartition("\n")[2] for record in scene.espo.calls.values()
    )
    for detail in books.calls:
        call = detail.call
        adapter = (call.party or {}).get("adapter")
        for name, records in (("home", home), ("espo", espo)):
            due, there = int(adapter == name), records.pop(call.id, 0)
            if there != due:
                yield f"{name}: {there} activities of {call.id}, due {due}; {_as_logged(detail)}"
        if adapter == "home" and call.id in scene.home.calls:
            told = scene.home.calls[call.id]["state"]
            if told != ("missed" if call.outcome in ("missed", "abandoned") else "ended"):
                yield f"home: {call.id} is {told} there, and was {call.outcome}"
        if adapter is not None and len(detail.journal) != 1:
            yield f"{call.id}: {len(detail.journal)} journal rows"
    for name, records in (("home", home), ("espo", espo)):
        for id in records:
            yield f"{name}: an activity of {id}, which is no call of the log's"


def figures(scene: Scene, books: Books) -> str:
    """What the run was, in a line or two."""
    stories = scene.asterisk.stories
    outcomes = Counter(detail.call.outcome for detail in books.calls)
    starts = sorted(scene.starts)
    answered = sum(bool(story.answers) for story in stories)
    repeats = {name: len(hook.taken) - len({t.key for t in hook.taken}) for name, hook in scene.hooks.items()}
    return (
        f"{len(stories)} calls, {answered} with an answer; {dict(outcomes)}; {len(books.events)} events; "
        f"taken { ({name: len(hook.taken) for name, hook in scene.hooks.items()}) }, repeats {repeats}; "
        f"activities home {len(scene.home.calls)}, espo {len(scene.espo.calls)}; "
        f"starts {len(starts)}, median {starts[len(starts) // 2]:.2f} s, longest {starts[-1]:.2f} s"
    )


def _about(story: Story) -> str:
    return (
        f"call {story.uniqueid} ({story.attempts} questions, answers {story.answers}, rang {story.rang}, "
        f"talked {story.talked}, {(story.ended or 0) - story.began:.2f} s)"
    )


def _as_logged(detail: CallDetail) -> str:
    call = detail.call
    segments = [(s.agents, s.result, bool(s.ringing), s.agent) for s in detail.segments]
    channels = [(c.role, c.device, bool(c.answered)) for c in detail.channels]
    events = [event.type for event in detail.events if event.type.startswith("call.")]
    return f"{call.from_raw} {call.state} {call.reason!r} {segments} {channels} {events}"
