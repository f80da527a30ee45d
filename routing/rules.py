"""A service's rules, compiled from plain mappings into small objects that a decision only has to call.

What may stand in a rule is said by the tables `FACTS` and `_TESTS`; reading files and knowing their lines is
left to whoever has the file, who gets each problem with its path inside the rules.
"""

import json
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from functools import partial
from typing import Any, Final

from attrs import field, frozen

from routing.amounts import amount
from routing.clock import DATE, TIME_OF_DAY, WEEKDAYS, Hours, IOpeningHours
from routing.facts import DIAL_STATUSES, FROM_KINDS, PARTY_TYPES, Facts
from routing.words import quoted, unknown

Path = tuple[str | int, ...]

RING_TIMEOUT: Final = 20
MAX_TIMEOUT: Final = 600
MAX_RULES: Final = 1000
#: When the desktop opens the CRM's own page about the caller.
OPEN_CARD: Final = ("never", "ring", "answer", "button")
_MAX_NAME: Final = 64
_MAX_TEXT: Final = 200
_MAX_CHOICES: Final = 10_000
_MAX_DEPTH: Final = 8
_MAX_SOUNDS: Final = 20

# What may stand in CTI_TARGET and AstDB; a priority may be a label.
_PLACE: Final = re.compile(
    r"[A-Za-z0-9_.-]{1,79},[A-Za-z0-9_.*#+-]{1,79},([1-9][0-9]{0,4}|[A-Za-z][A-Za-z0-9_-]{0,79})"
)
_MAILBOX: Final = re.compile(r"[A-Za-z0-9_.-]{1,79}(@[A-Za-z0-9_.-]{1,79})?")
# Below Asterisk's directory of sounds, and without the ending: no dot, so that no way leads out of it.
_SOUND: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_/-]{0,79}")
#: The contexts of dialplan/cti.conf, which a rule may not send a call into.
_OWN_CONTEXTS: Final = "cti-"
_COUNTRY: Final = re.compile("[A-Z]{2}")
_EXAMPLE_PLACE: Final = "`old-context,s,1` is such a place"


class Mode(StrEnum):
    """How far a service lets us steer; what to do about it is left to whoever asked for the decision."""

    OBSERVE = "observe"
    PARALLEL = "parallel"
    ROUTE = "route"


@frozen
class DialOwner:
    """The agent who owns the caller in the CRM."""


@frozen
class DialAgent:
    agent: str


@frozen
class DialGroup:
    """The agent of the group who has been idle longest."""

    group: str


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
    """Sounds to play, one after the other; then to the place or the fallback, or, with None, hang up."""

    sounds: tuple[str, ...]
    then: GoTo | ToFallback | None = None


class Rejection(StrEnum):
    """How a call is turned away, in the dialplan's words."""

    BUSY = "busy"
    CONGESTION = "congestion"
    DECLINED = "declined"


@frozen
class Reject:
    """No agent, no fallback: the caller hears that the call is not taken."""

    how: Rejection


Offered = DialOwner | DialAgent | DialGroup
Elsewhere = ToFallback | GoTo | ToVoicemail | Announce | Reject
Target = Offered | Elsewhere


@frozen
class Condition:
    """One test of one fact. `wanted` says the test in words; two conditions with the same words are equal."""

    fact: str
    wanted: str
    read: Callable[[Facts], Any] = field(repr=False, eq=False)
    holds: Callable[[Any], bool] = field(repr=False, eq=False)


@frozen
class Rule:
    """`conditions` must all hold. `timeout`: seconds to ring, None for the service's."""

    name: str
    conditions: tuple[Condition, ...]
    target: Target
    timeout: int | None = None


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


@frozen
class Problem:
    """Something wrong in rules: where (`of_key`: the key that ends the path, not its value), and what."""

    path: Path
    text: str
    of_key: bool = False

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.text}"


class RulesError(ValueError):
    """Rules that cannot be compiled, with every problem found."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def dialplan_place(text: str) -> str | None:
    """`context,exten,prio` without the spaces that people write into it; None where `text` is no such place."""
    bare = ",".join(part.strip() for part in text.split(","))
    return bare if _PLACE.fullmatch(bare) else None


def path_text(path: Path) -> str:
    """A path the way people write it: `rules[2].when.party.tier`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            shown = step if step.isprintable() and len(step) <= _MAX_NAME else quoted(step)
            text += f".{shown}" if text else shown
    return text


class Kind(StrEnum):
    """What values a fact has, and so which tests make sense for it."""

    PRESENCE = "presence"
    TEXT = "text"
    LIST = "list"
    NUMBER = "number"
    #: A number that need not be whole.
    AMOUNT = "amount"
    #: A time of day or a date, whose texts are in the order of what they stand for.
    MOMENT = "moment"


@frozen
class KnownFact:
    """A fact that rules may test. `words`: the only values it has; `is_agent`: it names one of our agents.

    `shape`: how a `MOMENT` is written, such as `example`. `of_clock`: only a service with opening hours has it.
    `of_history`: the log has to be asked for it.
    """

    kind: Kind
    read: Callable[[Facts], Any]
    words: tuple[str, ...] = ()
    is_agent: bool = False
    shape: re.Pattern[str] | None = None
    example: str = ""
    of_clock: bool = False
    of_history: bool = False


def _of_clock(name: str) -> Callable[[Facts], Any]:
    def read(facts: Facts) -> Any:
        return None if facts.clock is None else getattr(facts.clock, name)

    return read


def _of_party(name: str) -> Callable[[Facts], Any]:
    def read(facts: Facts) -> Any:
        party = facts.party
        return None if party is None else party.get(name)

    return read


def _balance(facts: Facts) -> float | None:
    return None if facts.party is None else amount(facts.party.get("balance"))


def _of_history(name: str) -> Callable[[Facts], Any]:
    def read(facts: Facts) -> Any:
        return None if facts.history is None else getattr(facts.history, name)

    return read


def _since_spoken(seconds: int) -> Callable[[Facts], int | None]:
    """How many whole spans of so many seconds have gone by since somebody talked with the caller."""

    def read(facts: Facts) -> int | None:
        spoken = None if facts.history is None else facts.history.last_spoken
        return None if spoken is None else max(0, int(facts.at - spoken) // seconds)

    return read


FACTS: Final[Mapping[str, KnownFact]] = {
    "party": KnownFact(Kind.PRESENCE, operator.attrgetter("party")),
    "party.adapter": KnownFact(Kind.TEXT, _of_party("adapter")),
    "party.type": KnownFact(Kind.TEXT, _of_party("type"), words=PARTY_TYPES),
    "party.id": KnownFact(Kind.TEXT, _of_party("id")),
    "party.name": KnownFact(Kind.TEXT, _of_party("name")),
    "party.company": KnownFact(Kind.TEXT, _of_party("company")),
    "party.owner": KnownFact(Kind.TEXT, _of_party("owner"), is_agent=True),
    "party.owner_user": KnownFact(Kind.TEXT, _of_party("owner_user")),
    "party.tier": KnownFact(Kind.TEXT, _of_party("tier")),
    "party.language": KnownFact(Kind.TEXT, _of_party("language")),
    "party.tags": KnownFact(Kind.LIST, _of_party("tags")),
    "party.match": KnownFact(Kind.TEXT, _of_party("match")),
    "party.balance": KnownFact(Kind.AMOUNT, _balance),
    "party.dunning": KnownFact(Kind.TEXT, _of_party("dunning")),
    "open_cases": KnownFact(Kind.NUMBER, _of_party("open_cases")),
    "parties": KnownFact(Kind.NUMBER, operator.attrgetter("parties")),
    "from.kind": KnownFact(Kind.TEXT, operator.attrgetter("from_kind"), words=FROM_KINDS),
    "from.number": KnownFact(Kind.TEXT, operator.attrgetter("from_number")),
    "from.country": KnownFact(Kind.TEXT, operator.attrgetter("from_country"), shape=_COUNTRY, example="DE"),
    "last_agent": KnownFact(Kind.TEXT, _of_history("last_agent"), is_agent=True, of_history=True),
    "spoken.days": KnownFact(Kind.NUMBER, _since_spoken(86_400), of_history=True),
    "spoken.hours": KnownFact(Kind.NUMBER, _since_spoken(3600), of_history=True),
    "tries": KnownFact(Kind.NUMBER, _of_history("tries"), of_history=True),
    "to": KnownFact(Kind.TEXT, operator.attrgetter("to")),
    "attempt": KnownFact(Kind.NUMBER, operator.attrgetter("attempt")),
    "last": KnownFact(Kind.TEXT, operator.attrgetter("last"), words=DIAL_STATUSES),
    "hours": KnownFact(Kind.TEXT, _of_clock("hours"), words=tuple(Hours), of_clock=True),
    "holiday": KnownFact(Kind.TEXT, _of_clock("holiday"), of_clock=True),
    "weekday": KnownFact(Kind.TEXT, _of_clock("weekday"), words=WEEKDAYS, of_clock=True),
    "time": KnownFact(Kind.MOMENT, _of_clock("time"), shape=TIME_OF_DAY, example="09:30", of_clock=True),
    "date": KnownFact(Kind.MOMENT, _of_clock("date"), shape=DATE, example="2026-12-24", of_clock=True),
}

# Test → the kinds of facts that it can be asked of.
_TESTS: Final[Mapping[str, frozenset[Kind]]] = {
    "in": frozenset({Kind.TEXT, Kind.NUMBER, Kind.AMOUNT, Kind.MOMENT}),
    "not": frozenset(Kind),
    "contains": frozenset({Kind.LIST}),
    "prefix": frozenset({Kind.TEXT}),
    "at_least": frozenset({Kind.NUMBER, Kind.AMOUNT, Kind.MOMENT}),
    "at_most": frozenset({Kind.NUMBER, Kind.AMOUNT, Kind.MOMENT}),
}

# Of what type a fact's values are, where they are no texts.
_TYPES: Final[Mapping[Kind, Any]] = {Kind.NUMBER: int, Kind.AMOUNT: int | float}

_Holds = Callable[[Any], bool]


def _is_present(found: Any) -> bool:
    return found is not None and found != "" and found != [] and found != ()


def _is_absent(found: Any) -> bool:
    return not _is_present(found)


def _never(_found: Any) -> bool:
    return False


def compile_rules(
    raw: object,
    *,
    agents: Collection[str] | None = None,
    groups: Collection[str] | None = None,
    has_hours: bool = True,
    path: Path = ("rules",),
) -> tuple[Rule, ...]:
    """Rules from what a YAML or JSON file says. Raises `RulesError` with every problem, each below `path`.

    `agents` and `groups` are those that rules may name; None leaves names unchecked. `has_hours`: whether rules may
    ask for opening hours and the clock.
    """
    compiler = _Compiler(agents, groups, has_hours)
    rules = compiler.rules(raw, path)
    if compiler.problems:
        raise RulesError(tuple(compiler.problems))
    return rules


class _Compiler:
    """Goes on after a problem, so that all of them come out at once."""

    def __init__(
        self, agents: Collection[str] | None, groups: Collection[str] | None, has_hours: bool
    ) -> None:
        self.problems: list[Problem] = []
        self._agents = agents
        self._groups = groups
        self._has_hours = has_hours

    def _wrong(self, path: Path, text: str, *, of_key: bool = False) -> None:
        self.problems.append(Problem(path, text, of_key))

    def _mapping(self, raw: object, path: Path, what: str, known: Collection[str]) -> Mapping[str, Any]:
        """The entries of `raw` whose keys are known; problems for the others."""
        if not isinstance(raw, Mapping):
            self._wrong(
                path, f"{what} is {_named(raw)}; a mapping would be right, such as {{{_EXAMPLES[what]}}}"
            )
            return {}
        entries: dict[str, Any] = {}
        for key, value in raw.items():
            if isinstance(key, str) and key in known:
                entries[key] = value
            else:
                noun = "fact" if what == "when" else "test" if what == "a test" else "key"
                self._wrong((*path, str(key)), unknown(noun, str(key), known), of_key=True)
        return entries

    def rules(self, raw: object, path: Path) -> tuple[Rule, ...]:
        if not isinstance(raw, list | tuple):
            self._wrong(path, f"is {_named(raw)}; a list of rules would be right")
            return ()
        if len(raw) > MAX_RULES:
            self._wrong(path, f"has {len(raw)} rules; at most {MAX_RULES} would be right")
            return ()
        rules: list[Rule] = []
        names: dict[str, int] = {}
        for index, each in enumerate(raw):
            rule = self._rule(each, (*path, index))
            if rule.name:
                first = names.setdefault(rule.name, index)
                if first != index:
                    self._wrong(
                        (*path, index, "name"),
                        f"{quoted(rule.name)} is rule {first}'s name already; its own would be right",
                    )
            rules.append(rule)
        return tuple(rules)

    def _rule(self, raw: object, path: Path) -> Rule:
        entries = self._mapping(raw, path, "a rule", ("name", "when", *_WAYS, "then", "timeout"))
        whole = isinstance(raw, Mapping)
        name = self._name(entries, path) if whole else ""
        conditions = self._when(entries["when"], (*path, "when")) if "when" in entries else ()
        target = self._target(entries, path) if whole else ToFallback()
        timeout: Any = entries.get("timeout")
        if "timeout" in entries:
            if not _is_number(timeout) or not 1 <= timeout <= MAX_TIMEOUT:
                self._wrong((*path, "timeout"), f"whole seconds from 1 to {MAX_TIMEOUT} would be right")
            elif "dial" not in entries:
                self._wrong((*path, "timeout"), "has no meaning without `dial`; leave it out", of_key=True)
        if "then" in entries and "announce" not in entries:
            self._wrong((*path, "then"), "has no meaning without `announce`; leave it out", of_key=True)
        return Rule(name, conditions, target, timeout)

    def _name(self, entries: Mapping[str, Any], path: Path) -> str:
        if "name" not in entries:
            self._wrong(path, "`name` is missing; the log says by it which rule decided")
            return ""
        name = entries["name"]
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _MAX_NAME:
            self._wrong((*path, "name"), f"a text of 1 to {_MAX_NAME} characters on one line would be right")
            return ""
        return name

    def _target(self, entries: Mapping[str, Any], path: Path) -> Target:
        ways = [way for way in _WAYS if way in entries]
        if len(ways) != 1:
            says = f"says both {' and '.join(ways)}" if ways else "does not say where to go"
            examples = ", ".join(f"`{example}`" for example in _WAYS.values())
            self._wrong(path, f"{says}; one of {examples} would be right")
            return ToFallback()
        (way,) = ways
        below = (*path, way)
        match way:
            case "dial":
                return self._dial(entries[way], below)
            case "goto":
                return self._goto(entries[way], below, _EXAMPLE_PLACE)
            case "voicemail":
                return self._voicemail(entries[way], below)
            case "announce":
                then = self._then(entries["then"], (*path, "then")) if "then" in entries else None
                return Announce(self._sounds(entries[way], below), then)
            case "reject":
                return self._reject(entries[way], below)
        if entries["fallback"] is not True:
            self._wrong(below, "only `fallback: true` would be right")
        return ToFallback()

    def _goto(self, raw: object, path: Path, right: str) -> GoTo:
        found = dialplan_place(raw) if isinstance(raw, str) else None
        if found is None:
            self._wrong(path, f"{_shown(raw)} is not `context,exten,prio`; {right}")
        elif found.startswith(_OWN_CONTEXTS):
            self._wrong(
                path,
                f"{_shown(raw)} is a context of Cordboard's own dialplan; one of yours would be right,"
                f" and {_EXAMPLE_PLACE}",
            )
        return GoTo(found or "")

    def _voicemail(self, raw: object, path: Path) -> ToVoicemail:
        # YAML makes a number of a mailbox that nobody put in quotes, and 0017 would have become 15.
        if isinstance(raw, str) and _MAILBOX.fullmatch(raw):
            return ToVoicemail(raw)
        self._wrong(
            path, f'{_shown(raw)} is no mailbox; its name in quotes would be right, such as "17@default"'
        )
        return ToVoicemail("")

    def _sounds(self, raw: object, path: Path) -> tuple[str, ...]:
        listed = isinstance(raw, list | tuple)
        sounds = list(raw) if isinstance(raw, list | tuple) else [raw]
        if not 1 <= len(sounds) <= _MAX_SOUNDS:
            self._wrong(path, f"has {len(sounds)} sounds; 1 to {_MAX_SOUNDS} would be right")
        for index, each in enumerate(sounds):
            if not isinstance(each, str) or not _SOUND.fullmatch(each):
                self._wrong(
                    (*path, index) if listed else path,
                    f"{_shown(each)} is no sound; a file's name below Asterisk's directory of sounds, without"
                    " language and ending, would be right, such as custom/closed",
                )
        return tuple(map(str, sounds))

    def _then(self, raw: object, path: Path) -> GoTo | ToFallback:
        if raw == "fallback":
            return ToFallback()
        return self._goto(raw, path, f"`fallback` would be right, too; {_EXAMPLE_PLACE}")

    def _reject(self, raw: object, path: Path) -> Reject:
        if isinstance(raw, str) and raw in list(Rejection):
            return Reject(Rejection(raw))
        self._wrong(path, unknown("way to reject a call", str(raw), list(Rejection)))
        return Reject(Rejection.BUSY)

    def _dial(self, raw: object, path: Path) -> Target:
        if raw == "owner":
            return DialOwner()
        if isinstance(raw, str):
            self._wrong(
                path,
                f"{quoted(raw)} is not `owner`; {{agent: ID}} or {{group: NAME}} would be right for others",
            )
            return ToFallback()
        entries = self._mapping(raw, path, "dial", ("agent", "group"))
        if isinstance(raw, Mapping) and len(raw) != 1:
            self._wrong(path, "exactly one of `agent` and `group` would be right")
        for what, known in (("agent", self._agents), ("group", self._groups)):
            if what in entries:
                name = entries[what]
                if not isinstance(name, str) or not name:
                    self._wrong(
                        (*path, what), f"is {_named(name)}; the {what}'s name in quotes would be right"
                    )
                elif known is not None and name not in known:
                    self._wrong((*path, what), unknown(what, name, known))
                else:
                    return DialAgent(name) if what == "agent" else DialGroup(name)
        return ToFallback()

    def _when(self, raw: object, path: Path) -> tuple[Condition, ...]:
        conditions: list[Condition] = []
        for name, test in self._mapping(raw, path, "when", FACTS).items():
            known = FACTS[name]
            if known.of_clock and not self._has_hours:
                self._wrong(
                    (*path, name),
                    "needs a time zone; `hours: NAME` in the service, named at the top of the file, would be right",
                    of_key=True,
                )
            wanted, holds = self._test(test, known, (*path, name), 0)
            conditions.append(Condition(name, wanted, known.read, holds))
        return tuple(conditions)

    def _test(self, raw: object, fact: KnownFact, path: Path, depth: int) -> tuple[str, _Holds]:
        if raw == "present":
            return "is present", _is_present
        if raw == "absent":
            return "is absent", _is_absent
        if isinstance(raw, Mapping):
            return self._tests(raw, fact, path, depth)
        if fact.kind is Kind.PRESENCE:
            self._wrong(path, "only `present` or `absent` would be right")
        elif fact.kind is Kind.LIST:
            self._wrong(path, "is a list of values; {contains: X}, `present` or `absent` would be right")
        elif self._is_value(raw, fact, path):
            return f"is {_as_text(raw)}", partial(operator.eq, raw)
        return "", _never

    def _tests(self, raw: Mapping[Any, Any], fact: KnownFact, path: Path, depth: int) -> tuple[str, _Holds]:
        if depth >= _MAX_DEPTH:
            self._wrong(path, f"tests are nested deeper than {_MAX_DEPTH}; a flatter rule would be right")
            return "", _never
        fitting = [test for test, kinds in _TESTS.items() if fact.kind in kinds]
        parts: list[tuple[str, _Holds]] = []
        for test, value in self._mapping(raw, path, "a test", fitting).items():
            parts.append(self._one_test(test, value, fact, (*path, test), depth))
        if not raw:
            self._wrong(path, f"is empty; one of {', '.join(fitting)} would be right")
        if not parts:
            return "", _never
        if len(parts) == 1:
            return parts[0]
        all_hold = tuple(holds for _, holds in parts)
        return " and ".join(text for text, _ in parts), lambda found: all(holds(found) for holds in all_hold)

    def _one_test(self, test: str, value: Any, fact: KnownFact, path: Path, depth: int) -> tuple[str, _Holds]:
        match test:
            case "not":
                text, inner = self._test(value, fact, path, depth + 1)
                return f"not ({text})", lambda found: not inner(found)
            case "in":
                return self._in(value, fact, path)
            case "contains":
                if not self._is_value(value, fact, path):
                    return "", _never
                return f"contains {_as_text(value)}", (
                    lambda found: isinstance(found, list | tuple | frozenset) and value in found
                )
            case "prefix":
                if not self._is_text(value, path):
                    return "", _never
                return f"starts with {_as_text(value)}", (
                    lambda found: isinstance(found, str) and found.startswith(value)
                )
        if not self._is_value(value, fact, path):
            return "", _never
        kind = _TYPES.get(fact.kind, str)
        if test == "at_least":
            return f"at least {value}", lambda found: isinstance(found, kind) and found >= value
        return f"at most {value}", lambda found: isinstance(found, kind) and found <= value

    def _in(self, value: Any, fact: KnownFact, path: Path) -> tuple[str, _Holds]:
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= _MAX_CHOICES:
            self._wrong(path, f"a list of 1 to {_MAX_CHOICES} values would be right")
            return "", _never
        wrong = [index for index, each in enumerate(value) if not self._is_value(each, fact, (*path, index))]
        if wrong:
            return "", _never
        choices = frozenset(value)
        # The type first: what a CRM says may be a list or a mapping, which no set can be asked for.
        wanted = _TYPES.get(fact.kind, str)
        return f"in {_as_text(list(value))}", lambda found: isinstance(found, wanted) and found in choices

    def _is_value(self, value: object, fact: KnownFact, path: Path) -> bool:
        if fact.kind is Kind.NUMBER:
            if _is_number(value):
                return True
            self._wrong(path, f"is {_named(value)}; a whole number would be right")
            return False
        if fact.kind is Kind.AMOUNT:
            if _is_number(value) or (isinstance(value, float) and math.isfinite(value)):
                return True
            self._wrong(path, f"is {_named(value)}; a number such as -120.50 would be right")
            return False
        if fact.shape is not None and (not isinstance(value, str) or not fact.shape.fullmatch(value)):
            self._wrong(path, f'{_shown(value)} is not written as "{fact.example}" is, in quotes')
            return False
        if not self._is_text(value, path):
            return False
        assert isinstance(value, str)
        if fact.words and value not in fact.words:
            self._wrong(path, unknown("word", value, fact.words))
            return False
        if fact.is_agent and self._agents is not None and value not in self._agents:
            self._wrong(path, unknown("agent", value, self._agents))
            return False
        return True

    def _is_text(self, value: object, path: Path) -> bool:
        if isinstance(value, str) and 1 <= len(value) <= _MAX_TEXT:
            return True
        if isinstance(value, str):
            self._wrong(
                path, f"a text of 1 to {_MAX_TEXT} characters would be right; `absent` tests for nothing"
            )
        else:
            self._wrong(path, f"is {_named(value)}; a text would be right, in quotes")
        return False


# The keys of a rule that say where to go, each with an example.
_WAYS: Final[Mapping[str, str]] = {
    "dial": "dial: owner",
    "goto": 'goto: "old-context,s,1"',
    "voicemail": 'voicemail: "17"',
    "announce": "announce: custom/closed",
    "reject": "reject: busy",
    "fallback": "fallback: true",
}
_EXAMPLES: Final[Mapping[str, str]] = {
    "a rule": "name: rest, dial: {group: sales}",
    "when": "party.owner: present",
    "a test": "not: gold",
    "dial": "group: sales",
}


def _is_number(value: object) -> bool:
    """Python takes True for 1; a person who writes `yes` does not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _named(value: object) -> str:
    """What YAML made of what somebody wrote."""
    match value:
        case None:
            return "empty"
        case bool():
            return "a yes or no"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a mapping"
    return f"a {type(value).__name__}"


def _shown(value: object) -> str:
    """A text as it was written; of anything else, what YAML made of it."""
    return quoted(value) if isinstance(value, str) else _named(value)


def _as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
