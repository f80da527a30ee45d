"""Reads rules: from the plain mappings of a file to the small objects that a decision looks at.

What may stand in a rule is said by the tables below and those of `routing.conditions`; reading files and knowing
their lines is left to whoever has the file, who gets each problem with its path inside the rules.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy, deepcopy
from functools import partial
from typing import Any, Final

from routing.conditions import ConditionReader
from routing.facts import EVERYBODY, SKILL_LEVELS, Facts, Skills
from routing.own import NOTHING, IAction, Own, OwnCodeError
from routing.problems import Path, Problem, RulesError, is_number, named, shown
from routing.rules import (
    AGES,
    MAX_CAUSE,
    Announce,
    CallbackKey,
    Chosen,
    Comfort,
    DialAgent,
    DialGroup,
    DialLastAgent,
    DialNumber,
    DialOwner,
    Elsewhere,
    GoTo,
    Offered,
    Order,
    Reject,
    Rejection,
    Rule,
    Service,
    Target,
    ToFallback,
    ToService,
    ToVoicemail,
    Wait,
    WaitStep,
    Way,
    Whom,
)
from routing.words import quoted, unknown

MAX_TIMEOUT: Final = 600
MAX_RULES: Final = 1000
MAX_STEPS: Final = 20
#: Seconds of one step of waiting: after two hours nobody waits for the next step.
MAX_WAIT: Final = 7200
MAX_PRIORITY: Final = 100
MAX_WEIGHT: Final = 100
_MAX_NAME: Final = 64
_MAX_SOUNDS: Final = 20
_MAX_NAMED: Final = 1000
_LEAST_COMFORT: Final = 10

# What may stand in CTI_TARGET and AstDB; a priority may be a label.
_PLACE: Final = re.compile(
    r"[A-Za-z0-9_.-]{1,79},[A-Za-z0-9_.*#+-]{1,79},([1-9][0-9]{0,4}|[A-Za-z][A-Za-z0-9_-]{0,79})"
)
_MAILBOX: Final = re.compile(r"[A-Za-z0-9_.-]{1,79}(@[A-Za-z0-9_.-]{1,79})?")
# Below Asterisk's directory of sounds, and without the ending: no dot, so that no way leads out of it.
_SOUND: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_/-]{0,79}")
_KEY: Final = re.compile(r"[0-9*#]")
_MUSIC: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
#: The contexts of dialplan/cti.conf, which a rule may not send a call into.
_OWN_CONTEXTS: Final = "cti-"
_EXAMPLE_PLACE: Final = "`old-context,s,1` is such a place"


def dialplan_place(text: str) -> str | None:
    """`context,exten,prio` without the spaces that people write into it; None where `text` is no such place."""
    bare = ",".join(part.strip() for part in text.split(","))
    return bare if _PLACE.fullmatch(bare) else None


def compile_rules(
    raw: object,
    *,
    agents: Collection[str] | None = None,
    groups: Collection[str] | None = None,
    skills: Collection[str] | None = None,
    services: Collection[str] | None = None,
    outside: Callable[[str], DialNumber] | None = None,
    has_hours: bool = True,
    own: Own = NOTHING,
    path: Path = ("rules",),
) -> tuple[Rule, ...]:
    """Rules from what a YAML or JSON file says. Raises `RulesError` with every problem, each below `path`.

    `agents`, `groups`, `skills` and `services` are those that rules may name; None leaves names unchecked.
    `outside(number)`: how a number outside is dialled, `ValueError` with what is wrong for one that is none; None
    where no line leads outside. `has_hours`: whether rules may ask for opening hours and the clock. `own`: the
    company's own conditions and actions.
    """
    compiler = _Compiler(agents, groups, skills, services, outside, has_hours, own)
    rules = compiler.rules(raw, path)
    if compiler.problems:
        raise RulesError(tuple(compiler.problems))
    return rules


def loops(services: Mapping[str, Service]) -> tuple[Problem, ...]:
    """The rules by which services lead back to themselves, each with its path from the services on."""
    ways = {name: list(_leading_on(service)) for name, service in services.items()}

    def way_back(start: str, at: str, seen: tuple[str, ...]) -> tuple[str, ...] | None:
        for _, other in ways.get(at, ()):
            if other == start:
                return (*seen, other)
            if other not in seen and (found := way_back(start, other, (*seen, other))) is not None:
                return found
        return None

    problems = []
    for name, leading in ways.items():
        for index, other in leading:
            way = (other,) if other == name else way_back(name, other, (other,))
            if way is not None:
                problems.append(
                    Problem(
                        (name, "rules", index, "service"),
                        f"leads back to {name} ({' → '.join((name, *way))}); a service that does not come back"
                        " would be right",
                    )
                )
    return tuple(problems)


def _leading_on(service: Service) -> Iterator[tuple[int, str]]:
    """The rules that pass a call on: the index of each, and the service."""
    for index, rule in enumerate(service.rules):
        if isinstance(rule.target, ToService):
            yield index, rule.target.service


def _choose(action: IAction, argument: Any, facts: Facts) -> object:
    # A copy: whatever it does with its argument, the next call finds the one of the file.
    return action.choose(facts, deepcopy(argument))


class _Compiler(ConditionReader):
    """Reads rules, and with its own tables whom and where they mean."""

    NOUNS: Mapping[str, str] = {**ConditionReader.NOUNS, "own": "action of your own"}
    EXAMPLES: Mapping[str, str] = {
        **ConditionReader.EXAMPLES,
        "a rule": "name: rest, dial: {group: sales}",
        "dial": "group: sales",
        "skills": "german: 5",
        "weights": "anna: 3, bert: 1",
        "a step": "for: 20, dial: owner",
        "an answer": "dial: {group: sales}",
        "own": "nearest: 20",
        "comfort": "every: 30, position: true",
        "callback_key": 'key: "1", sounds: custom/we-call-you',
    }

    def __init__(
        self,
        agents: Collection[str] | None,
        groups: Collection[str] | None,
        skills: Collection[str] | None,
        services: Collection[str] | None,
        outside: Callable[[str], DialNumber] | None,
        has_hours: bool,
        own: Own,
    ) -> None:
        super().__init__(agents, groups, has_hours, own)
        self._skills = skills
        self._services = services
        self._outside = outside

    def rules(self, raw: object, path: Path) -> tuple[Rule, ...]:
        if not isinstance(raw, list | tuple):
            self.wrong(path, f"is {named(raw)}; a list of rules would be right")
            return ()
        if len(raw) > MAX_RULES:
            self.wrong(path, f"has {len(raw)} rules; at most {MAX_RULES} would be right")
            return ()
        rules: list[Rule] = []
        names: dict[str, int] = {}
        last: int | None = None
        for index, each in enumerate(raw):
            before = len(self.problems)
            rule = self._rule(each, (*path, index))
            if rule.name:
                first = names.setdefault(rule.name, index)
                if first != index:
                    self.wrong(
                        (*path, index, "name"),
                        f"{quoted(rule.name)} is rule {first}'s name already; its own would be right",
                    )
            if last is not None:
                self.wrong(
                    (*path, index),
                    f"is never reached: {quoted(rules[last].name)} above it takes every call;"
                    " a condition there, or this rule in front of it, would be right",
                )
                last = None
            elif len(self.problems) == before and _takes_every_call(rule) and index + 1 < len(raw):
                last = index
            rules.append(rule)
        return tuple(rules)

    def _rule(self, raw: object, path: Path) -> Rule:
        entries = self.mapping(raw, path, "a rule", ("name", "when", *_WAYS, *_NEEDS))
        whole = isinstance(raw, Mapping)
        name = self._name(entries, path) if whole else ""
        conditions = self.when(entries["when"], (*path, "when")) if "when" in entries else ()
        way = self._way(entries, path) if whole else Way(ToFallback())
        return Rule(name, conditions, way.target, way.timeout)

    def _way(self, entries: Mapping[str, Any], path: Path) -> Way:
        target = self._target(entries, path)
        timeout = None
        if "timeout" in entries:
            timeout = self.whole(entries["timeout"], (*path, "timeout"), 1, MAX_TIMEOUT, "seconds")
        for key, ways in _NEEDS.items():
            if key in entries and not any(way in entries for way in ways):
                needed = " or ".join(f"`{way}`" for way in ways)
                self.wrong((*path, key), f"has no meaning without {needed}; leave it out", of_key=True)
        return Way(target, timeout)

    def _name(self, entries: Mapping[str, Any], path: Path) -> str:
        if "name" not in entries:
            self.wrong(path, "`name` is missing; the log says by it which rule decided")
            return ""
        name = entries["name"]
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > _MAX_NAME:
            self.wrong((*path, "name"), f"a text of 1 to {_MAX_NAME} characters on one line would be right")
            return ""
        return name

    def _target(self, entries: Mapping[str, Any], path: Path) -> Target:
        ways = [way for way in _WAYS if way in entries]
        if len(ways) != 1:
            says = f"says both {' and '.join(ways)}" if ways else "does not say where to go"
            examples = ", ".join(f"`{example}`" for example in _WAYS.values())
            self.wrong(path, f"{says}; one of {examples} would be right")
            return ToFallback()
        (way,) = ways
        below = (*path, way)
        match way:
            case "dial":
                return self._dial(entries[way], below)
            case "wait":
                return self._wait(entries, path)
            case "service":
                return self._service(entries[way], below)
            case "own":
                return self._chosen(entries[way], below)
            case "goto":
                return self._goto(entries[way], below, _EXAMPLE_PLACE)
            case "voicemail":
                return self._voicemail(entries[way], below)
            case "announce":
                then = self._then(entries["then"], (*path, "then")) if "then" in entries else None
                callback = self._yes(entries, "callback", path, False)
                return Announce(self._sounds(entries[way], below), then, callback)
            case "reject":
                return self._reject(entries[way], below)
        if entries["fallback"] is not True:
            self.wrong(below, "only `fallback: true` would be right")
        return ToFallback()

    def _yes(self, entries: Mapping[str, Any], key: str, path: Path, default: bool) -> bool:
        value = entries.get(key, default)
        if isinstance(value, bool):
            return value
        self.wrong((*path, key), f"is {named(value)}; `true` or `false` would be right")
        return default

    # Waiting.

    def _wait(self, entries: Mapping[str, Any], path: Path) -> Wait:
        priority = ages = None
        if "priority" in entries:
            priority = self.whole(entries["priority"], (*path, "priority"), -MAX_PRIORITY, MAX_PRIORITY)
        if "ages" in entries:
            ages = self.whole(entries["ages"], (*path, "ages"), 1, MAX_WAIT, "seconds")
        music = entries.get("music", "default")
        if not isinstance(music, str) or not _MUSIC.fullmatch(music):
            self.wrong((*path, "music"), f"{shown(music)} is no class of music on hold, such as default")
            music = "default"
        return Wait(
            self._steps(entries["wait"], (*path, "wait")),
            priority or 0,
            ages or AGES,
            music,
            self._yes(entries, "answer", path, True),
            self._comfort(entries["comfort"], (*path, "comfort")) if "comfort" in entries else None,
            self._callback_key(entries["callback_key"], (*path, "callback_key"))
            if "callback_key" in entries
            else None,
        )

    def _callback_key(self, raw: object, path: Path) -> CallbackKey | None:
        entries = self.mapping(raw, path, "callback_key", ("key", "sounds"))
        if not isinstance(raw, Mapping):
            return None
        key = entries.get("key", "1")
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            self.wrong((*path, "key"), f'{shown(key)} is no key; one in quotes would be right, such as "1"')
            key = ""
        if "sounds" not in entries:
            self.wrong(
                path,
                "`sounds` is missing; what promises the call, such as custom/we-call-you, would be right",
            )
            return None
        return CallbackKey(key, self._sounds(entries["sounds"], (*path, "sounds")))

    def _steps(self, raw: object, path: Path) -> tuple[WaitStep, ...]:
        if not isinstance(raw, list | tuple):
            self.wrong(
                path, f"is {named(raw)}; a list of steps would be right, such as [{{for: 20, dial: owner}}]"
            )
            return ()
        if not 1 <= len(raw) <= MAX_STEPS:
            self.wrong(path, f"has {len(raw)} steps; 1 to {MAX_STEPS} would be right")
        return tuple(self._step(each, (*path, index)) for index, each in enumerate(raw))

    def _step(self, raw: object, path: Path) -> WaitStep:
        entries = self.mapping(raw, path, "a step", ("for", "dial"))
        seconds = None
        for key, example in (("for", "for: 20"), ("dial", "dial: {group: sales}")):
            if isinstance(raw, Mapping) and key not in entries:
                self.wrong(path, f"`{key}` is missing; `{example}` would be right")
        if "for" in entries:
            seconds = self.whole(entries["for"], (*path, "for"), 1, MAX_WAIT, "seconds")
        whom: Target = DialOwner()
        if "dial" in entries:
            whom = self._dial(entries["dial"], (*path, "dial"))
            if isinstance(whom, DialNumber):
                self.wrong(
                    (*path, "dial"),
                    "nobody waits for a number outside; a rule of its own after this one would be right",
                )
        return WaitStep(whom if isinstance(whom, Whom) else DialOwner(), seconds or 1)

    def _comfort(self, raw: object, path: Path) -> Comfort | None:
        entries = self.mapping(raw, path, "comfort", ("every", "position", "expected", "sounds"))
        if not isinstance(raw, Mapping):
            return None
        every = self.whole(entries.get("every", 30), (*path, "every"), _LEAST_COMFORT, MAX_WAIT, "seconds")
        comfort = Comfort(
            every or 30,
            self._yes(entries, "position", path, False),
            self._yes(entries, "expected", path, False),
            self._sounds(entries["sounds"], (*path, "sounds")) if "sounds" in entries else (),
        )
        if not (comfort.position or comfort.expected or comfort.sounds):
            self.wrong(path, "says nothing; `position: true`, `expected: true` or `sounds` would be right")
        return comfort

    def _service(self, raw: object, path: Path) -> Target:
        if not isinstance(raw, str):
            self.wrong(path, f"is {named(raw)}; a service's name would be right")
        elif self._services is not None and raw not in self._services:
            self.wrong(path, unknown("service", raw, self._services))
        else:
            return ToService(raw)
        return ToFallback()

    def _chosen(self, raw: object, path: Path) -> Target:
        entries = self.mapping(raw, path, "own", self._own.actions)
        if isinstance(raw, Mapping) and len(raw) != 1:
            self.wrong(path, f"has {len(raw)} actions; exactly one would be right")
        for name, argument in entries.items():
            return self._one_chosen(name, argument, path)
        return ToFallback()

    def _one_chosen(self, name: str, argument: object, path: Path) -> Target:
        try:
            action = self._own.actions[name]
        except OwnCodeError as error:
            self.wrong((*path, name), f"cannot be used: {error}", of_key=True)
            return ToFallback()
        try:
            action.check(argument)
        except ValueError as error:
            self.wrong((*path, name), str(error))
        except Exception as error:  # noqa: BLE001 - it is not ours, and may be wrong in any way
            self.wrong((*path, name), f"cannot be checked: {type(error).__name__}: {error}", of_key=True)
        return Chosen(name, argument, partial(_choose, action, argument), partial(self._answer, name))

    def _answer(self, action: str, raw: object) -> Way:
        """Where a company's own action says that a call goes. Raises `RulesError`."""
        reader = copy(self)
        reader.problems = []
        # Who is there may have changed since the file was read; whoever is not, the decision passes over.
        reader.agents = reader.groups = reader._skills = None
        # Whom a line is for and which rules come next has to be known before: both are looked up in the file's rules.
        ways = [way for way in _WAYS if way not in ("wait", "service", "own")]
        entries = reader.mapping(raw, (action,), "an answer", (*ways, *_NEEDS))
        way = reader._way(entries, (action,)) if isinstance(raw, Mapping) else Way(ToFallback())
        if reader.problems:
            raise RulesError(tuple(reader.problems))
        return way

    # Elsewhere.

    def _goto(self, raw: object, path: Path, right: str) -> GoTo:
        found = dialplan_place(raw) if isinstance(raw, str) else None
        if found is None:
            self.wrong(path, f"{shown(raw)} is not `context,exten,prio`; {right}")
        elif found.startswith(_OWN_CONTEXTS):
            self.wrong(
                path,
                f"{shown(raw)} is a context of Cordboard's own dialplan; one of yours would be right,"
                f" and {_EXAMPLE_PLACE}",
            )
        return GoTo(found or "")

    def _voicemail(self, raw: object, path: Path) -> ToVoicemail:
        # YAML makes a number of a mailbox that nobody put in quotes, and 0017 would have become 15.
        if isinstance(raw, str) and _MAILBOX.fullmatch(raw):
            return ToVoicemail(raw)
        self.wrong(
            path, f'{shown(raw)} is no mailbox; its name in quotes would be right, such as "17@default"'
        )
        return ToVoicemail("")

    def _sounds(self, raw: object, path: Path) -> tuple[str, ...]:
        listed = isinstance(raw, list | tuple)
        sounds = list(raw) if isinstance(raw, list | tuple) else [raw]
        if not 1 <= len(sounds) <= _MAX_SOUNDS:
            self.wrong(path, f"has {len(sounds)} sounds; 1 to {_MAX_SOUNDS} would be right")
        for index, each in enumerate(sounds):
            if not isinstance(each, str) or not _SOUND.fullmatch(each):
                self.wrong(
                    (*path, index) if listed else path,
                    f"{shown(each)} is no sound; a file's name below Asterisk's directory of sounds, without"
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
        if is_number(raw):
            return Reject(self.whole(raw, path, 1, MAX_CAUSE) or 1)
        self.wrong(path, unknown("way to reject a call", str(raw), list(Rejection)))
        return Reject(Rejection.BUSY)

    # Agents.

    def _dial(self, raw: object, path: Path) -> Offered:
        if raw == "owner":
            return DialOwner()
        if raw == "last_agent":
            return DialLastAgent()
        if isinstance(raw, str):
            self.wrong(
                path,
                f"{quoted(raw)} is not `owner` or `last_agent`; {{agent: ID}} or {{group: NAME}} would be right"
                " for others",
            )
            return DialOwner()
        entries = self.mapping(raw, path, "dial", ("agent", "group", *_OF_GROUP, "number"))
        if not isinstance(raw, Mapping):
            return DialOwner()
        ways = [way for way in ("agent", "number", "group") if way in entries]
        of_group = [key for key in _OF_GROUP if key in entries]
        if len(ways) > 1 or not (ways or "skills" in entries):
            self.wrong(path, "exactly one of `agent`, `group` and `number`, or `skills`, would be right")
            return DialOwner()
        if of_group and ways not in (["group"], []):
            self.wrong((*path, of_group[0]), f"has no meaning beside `{ways[0]}`; leave it out", of_key=True)
        if "agent" in entries:
            return DialAgent(self._known(entries["agent"], "agent", self.agents, (*path, "agent")))
        if "number" in entries:
            return self._number(entries["number"], (*path, "number"))
        group = EVERYBODY
        if "group" in entries:
            group = self._known(entries["group"], "group", self.groups, (*path, "group"))
        weights = self._weights(entries["weights"], (*path, "weights")) if "weights" in entries else ()
        all_ = self._yes(entries, "all", path, False)
        order = self._order(entries.get("order", None), weights, (*path, "order"))
        if all_ and ("order" in entries or weights):
            self.wrong((*path, "all"), "rings all of them, in no order; leave `order` and `weights` out")
        skills = self._skills_of(entries["skills"], (*path, "skills")) if "skills" in entries else ()
        return DialGroup(group, skills, order, weights, all_)

    def _known(self, name: object, what: str, known: Collection[str] | None, path: Path) -> str:
        if not isinstance(name, str) or not name:
            self.wrong(path, f"is {named(name)}; the {what}'s name in quotes would be right")
            return ""
        if known is not None and name not in known:
            self.wrong(path, unknown(what, name, known))
        return name

    def _number(self, raw: object, path: Path) -> DialNumber:
        wrong = f'{shown(raw)} is no number; a number in quotes would be right, such as "+493023125100"'
        if self._outside is None:
            wrong = (
                "needs a way out; `outside_line` in the service would be right, such as PJSIP/{number}@trunk"
            )
        elif isinstance(raw, str):
            try:
                return self._outside(raw)
            except ValueError as error:
                wrong = str(error)
        self.wrong(path, wrong)
        return DialNumber("", "")

    def _skills_of(self, raw: object, path: Path) -> Skills:
        levels: dict[str, int] = {}
        if isinstance(raw, Mapping) and not 1 <= len(raw) <= MAX_STEPS:
            self.wrong(path, f"has {len(raw)} skills; 1 to {MAX_STEPS} would be right")
        for name, level in self._entries(raw, path, "skills"):
            if self._skills is not None and name not in self._skills:
                self.wrong((*path, name), unknown("skill", name, self._skills), of_key=True)
            levels[name] = self.whole(level, (*path, name), SKILL_LEVELS[0], SKILL_LEVELS[-1], "levels") or 1
        return tuple(sorted(levels.items()))

    def _weights(self, raw: object, path: Path) -> tuple[tuple[str, int], ...]:
        weights: dict[str, int] = {}
        for name, weight in self._entries(raw, path, "weights"):
            if self.agents is not None and name not in self.agents:
                self.wrong((*path, name), unknown("agent", name, self.agents), of_key=True)
            found = self.whole(weight, (*path, name), 0, MAX_WEIGHT)
            weights[name] = 1 if found is None else found
        return tuple(sorted(weights.items()))

    def _entries(self, raw: object, path: Path, what: str) -> list[tuple[str, Any]]:
        """A mapping whose keys are names that somebody else knows."""
        if not isinstance(raw, Mapping):
            self.wrong(path, f"is {named(raw)}; a mapping would be right, such as {{{self.EXAMPLES[what]}}}")
            return []
        if len(raw) > _MAX_NAMED:
            self.wrong(path, f"has {len(raw)} entries; at most {_MAX_NAMED} would be right")
            return []
        return [(str(name), value) for name, value in raw.items()]

    def _order(self, raw: object, weights: object, path: Path) -> Order:
        if raw is None:
            return Order.WEIGHTED if weights else Order.LONGEST_IDLE
        if not isinstance(raw, str) or raw not in list(Order):
            self.wrong(path, unknown("order", str(raw), list(Order)))
            return Order.LONGEST_IDLE
        order = Order(raw)
        if weights and order is not Order.WEIGHTED:
            self.wrong(path, "weights count in the order `weighted` only; leave one of both out")
        return order


# The keys of a rule that say where to go, each with an example.
_WAYS: Final[Mapping[str, str]] = {
    "dial": "dial: owner",
    "wait": "wait: [{for: 60, dial: {group: sales}}]",
    "service": "service: support",
    "own": "own: {nearest: 20}",
    "goto": 'goto: "old-context,s,1"',
    "voicemail": 'voicemail: "17"',
    "announce": "announce: custom/closed",
    "reject": "reject: busy",
    "fallback": "fallback: true",
}
# The other keys of a rule, each with the ways that it belongs to.
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "timeout": ("dial", "wait"),
    "then": ("announce",),
    "callback": ("announce",),
    "priority": ("wait",),
    "ages": ("wait",),
    "music": ("wait",),
    "answer": ("wait",),
    "comfort": ("wait",),
    "callback_key": ("wait",),
}
# What may stand beside a group, or beside `skills` where everybody is meant.
_OF_GROUP: Final = ("skills", "order", "weights", "all")


def _takes_every_call(rule: Rule) -> bool:
    target = rule.target
    if isinstance(target, Announce) and target.callback:
        return False
    return not rule.conditions and isinstance(target, Elsewhere | ToService)
