"""What a service and its rules are, once they have been read: small objects that a decision only has to look at."""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from attrs import field, frozen

from routing.clock import IOpeningHours
from routing.conditions import Condition
from routing.facts import EVERYBODY, Facts, Skills

RING_TIMEOUT: Final = 20
#: Seconds of waiting after which a call counts as one level more urgent, where a rule says nothing.
AGES: Final = 60
#: When the desktop opens the CRM's own page about the caller.
OPEN_CARD: Final = ("never", "ring", "answer", "button")


class Mode(StrEnum):
    """How far a service lets us steer; what to do about it is left to whoever asked for the decision."""

    OBSERVE = "observe"
    PARALLEL = "parallel"
    ROUTE = "route"


@frozen
class DialOwner:
    """The agent who owns the caller in the CRM."""


@frozen
class DialLastAgent:
    """The agent who talked with the caller last."""


@frozen
class DialAgent:
    agent: str


class Order(StrEnum):
    """Who of several that are free comes first.

    `round_robin`: who was offered a call longest ago. `weighted`: by chance, in proportion to their weights.
    """

    LONGEST_IDLE = "longest_idle"
    ROUND_ROBIN = "round_robin"
    WEIGHTED = "weighted"


@frozen
class DialGroup:
    """One agent of the group, or of everybody, who has these skills; with `all`, those who are free at once.

    `weights`: by agent's id; who is not named has 1, and who has 0 is left out.
    """

    group: str = EVERYBODY
    skills: Skills = ()
    order: Order = Order.LONGEST_IDLE
    weights: tuple[tuple[str, int], ...] = ()
    all: bool = False

    @property
    def title(self) -> str:
        """Who is meant, in words."""
        who = "all agents" if self.group == EVERYBODY else self.group
        skills = " and ".join(f"{name} {level}" for name, level in self.skills)
        return f"{who} with {skills}" if skills else who


@frozen
class DialNumber:
    """A number outside, such as a home office; `phone`: the dial string that leads there."""

    number: str
    phone: str


@frozen
class WaitStep:
    """Whom a call waits for, and for how many seconds, before it waits for others."""

    whom: "DialOwner | DialLastAgent | DialAgent | DialGroup"
    seconds: int


@frozen
class Comfort:
    """What is said to who waits, every so many seconds: the position, the expected wait, these sounds."""

    every: int
    position: bool = False
    expected: bool = False
    sounds: tuple[str, ...] = ()


@frozen
class CallbackKey:
    """Who waits may press this key to be called back instead; the sounds promise it."""

    key: str
    sounds: tuple[str, ...]


@frozen
class Wait:
    """A line: who is in it waits for the agents of one step after the other, and is offered the first who is free.

    Of several callers for whom an agent would do, the most urgent gets them: the highest `priority`, which grows by
    one for every `ages` seconds of waiting, and of these the one who came first. `music`: a class of Asterisk's music
    on hold. `answer`: whether the call is answered so that the caller hears it, and pays; else it goes on ringing.
    `callback`: whoever presses its key keeps the place, and is called when it is their turn.
    """

    steps: tuple[WaitStep, ...]
    priority: int = 0
    ages: int = AGES
    music: str = "default"
    answer: bool = True
    comfort: Comfort | None = None
    callback: CallbackKey | None = None

    def urgency(self, since: float, at: float) -> float:
        """How urgent a call is at that moment that came into the line at `since`; the greater goes first."""
        return self.priority + max(0.0, at - since) / self.ages


@frozen
class ToService:
    """The rules of another service decide, and its fallback takes the call if none does."""

    service: str


@frozen
class Chosen:
    """Wherever a company's own action says: `choose(facts)` asks it, and `read` makes a rule's way of what it says.

    `read` raises `RulesError` for what is none, and for a line or another service. The `argument` is what the rule
    gives to it.
    """

    action: str
    argument: Any = field(hash=False)
    choose: Callable[[Facts], object] = field(repr=False, eq=False)
    read: "Callable[[object], Way]" = field(repr=False, eq=False)

    @property
    def title(self) -> str:
        """Which one it is, in words."""
        return f"own action {self.action}"


@frozen
class ToFallback:
    """The service's fallback, on purpose."""


@frozen
class GoTo:
    """A place of the company's own dialplan: `context,exten,prio`."""

    place: str


@frozen
class ToVoicemail:
    """A mailbox of Asterisk's, with its context if that is not `default`."""

    mailbox: str


@frozen
class Announce:
    """Sounds to play, one after the other; then to the place or the fallback, or, with None, hang up.

    `callback`: what they promise is that somebody calls back, so this is only for who has a number.
    """

    sounds: tuple[str, ...]
    then: GoTo | ToFallback | None = None
    callback: bool = False


#: The causes of Q.850 are numbers from 1 to this.
MAX_CAUSE: Final = 127


class Rejection(StrEnum):
    """How a call is turned away, in the dialplan's words."""

    BUSY = "busy"
    CONGESTION = "congestion"
    DECLINED = "declined"


@frozen
class Reject:
    """No agent, no fallback: the caller hears that the call is not taken. `how` may be a cause of Q.850."""

    how: Rejection | int


Whom = DialOwner | DialLastAgent | DialAgent | DialGroup
Offered = Whom | DialNumber
Elsewhere = ToFallback | GoTo | ToVoicemail | Announce | Reject
Target = Offered | Wait | ToService | Elsewhere | Chosen


@frozen
class Way:
    """Where a call goes. `timeout`: seconds to ring, None for the service's."""

    target: Target
    timeout: int | None = None


@frozen
class Rule:
    """`conditions` must all hold. `timeout`: seconds to ring, None for the service's."""

    name: str
    conditions: tuple[Condition, ...]
    target: Target
    timeout: int | None = None

    @property
    def whom(self) -> tuple[Whom, ...]:
        """The agents whom it means."""
        target = self.target
        if isinstance(target, Wait):
            return tuple(step.whom for step in target.steps)
        return (target,) if isinstance(target, Whom) else ()


@frozen
class QuickCreate:
    """Who calls and is unknown may be taken into this adapter, None for the first that can, as this type of party."""

    adapter: str | None = None
    type: str = "contact"


#: When an unknown caller is taken in: once somebody talks with them, or at the end of the call, whatever came of it.
AT_ANSWER: Final = "answer"
AT_END: Final = "end"


@frozen
class Newcomers:
    """Who calls and is unknown is taken into this adapter as this type of party, without anybody doing it."""

    adapter: str
    type: str = "lead"
    when: str = AT_END


@frozen
class Service:
    """What callers dial. `numbers`: E.164 or internal. `fallback`: `context,exten,prio`.

    `ring_timeout`: seconds to ring where a rule says nothing. `instruction`: what the card tells the agent. `hours`:
    when somebody is there, for rules that ask.

    What follows is for the agents' desktop, and decides nothing: the `title` that is shown; `wrap_up`, the seconds to
    write a call up; `dispositions`, by id the label in each language, `""` for any; `disposition`, `optional` or
    `required`; `open_card`, one of `OPEN_CARD`; `card_lead_ms`, how long a call waits for the card to be painted.
    `unknown`: what becomes of callers whom nobody knows. `service_level`: the seconds within which a call should be
    answered, None where that is as everywhere.
    """

    name: str
    numbers: tuple[str, ...]
    mode: Mode
    instruction: str | None
    fallback: str
    rules: tuple[Rule, ...]
    ring_timeout: int = RING_TIMEOUT
    title: str | None = None
    wrap_up: int = 0
    dispositions: Mapping[str, Mapping[str, str]] = field(factory=dict)
    disposition: str = "optional"
    open_card: str = "button"
    card_lead_ms: int = 0
    quick_create: QuickCreate | None = None
    hours: IOpeningHours | None = field(default=None, repr=False)
    unknown: Newcomers | None = None
    service_level: int | None = None

    @property
    def disposition_required(self) -> bool:
        return self.disposition == "required"

    @property
    def has_mailbox(self) -> bool:
        """Whether a rule sends calls to a mailbox of Asterisk's."""
        return any(isinstance(rule.target, ToVoicemail) for rule in self.rules)

    @property
    def groups(self) -> frozenset[str]:
        """The groups that its rules name."""
        return frozenset(
            whom.group for whom in self._whom() if isinstance(whom, DialGroup) and whom.group != EVERYBODY
        )

    @property
    def agents(self) -> frozenset[str]:
        """The agents whom its rules name."""
        return frozenset(whom.agent for whom in self._whom() if isinstance(whom, DialAgent))

    def _whom(self) -> Iterator[Whom]:
        return (whom for rule in self.rules for whom in rule.whom)


def reached(service: Service, others: Mapping[str, Service]) -> tuple[Service, ...]:
    """The service and, of `others`, those that its rules may pass a call on to, each once."""
    found = {service.name: service}
    for each in (ways := [service]):
        for rule in each.rules:
            other = others.get(rule.target.service) if isinstance(rule.target, ToService) else None
            if other is not None and other.name not in found:
                found[other.name] = other
                ways.append(other)
    return tuple(found.values())
