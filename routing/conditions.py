"""The conditions of rules, compiled into tests of facts that a decision only has to call.

What may be asked is said by the tables `FACTS` and `_TESTS`.
"""

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from functools import partial
from typing import Any, Final

from attrs import field, frozen

from routing.amounts import amount
from routing.clock import DATE, TIME_OF_DAY, WEEKDAYS, Hours
from routing.facts import DIAL_STATUSES, FROM_KINDS, PARTY_TYPES, Facts, Group
from routing.own import ICondition, Own, OwnCodeError
from routing.problems import Path, Reader, as_text, is_number, named, shown
from routing.words import unknown

_COUNTRY: Final = re.compile("[A-Z]{2}")
_MAX_TEXT: Final = 200
_MAX_CHOICES: Final = 10_000
_MAX_DEPTH: Final = 8
_MAX_LISTED: Final = 100
# What JSON's readers tell from its neighbours.
_MAX_NUMBER: Final = 2**53
#: How the names begin of facts that are a company's own.
OWN: Final = "own."


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
    `of_history`: the log has to be asked for it. `find`: of a fact of a company's own, its own code, which has to be
    asked.
    """

    kind: Kind
    read: Callable[[Facts], Any]
    words: tuple[str, ...] = ()
    is_agent: bool = False
    shape: re.Pattern[str] | None = None
    example: str = ""
    of_clock: bool = False
    of_history: bool = False
    find: Callable[[Facts], object] | None = None


@frozen
class Condition:
    """One test of one fact. `wanted` says the test in words; two conditions with the same words are equal."""

    fact: str
    wanted: str
    known: KnownFact = field(repr=False, eq=False)
    holds: Callable[[Any], bool] = field(repr=False, eq=False)


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


#: What rules may ask of a group, as `group.NAME.WHAT`.
OF_GROUPS: Final[Mapping[str, Callable[[Group], int]]] = {
    "free": operator.attrgetter("free_count"),
    "logged_in": operator.attrgetter("logged_in"),
}


def _of_group(name: str, what: str, facts: Facts) -> int:
    return OF_GROUPS[what](facts.group(name))


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
    "waiting.calls": KnownFact(Kind.NUMBER, lambda facts: facts.line.calls),
    "waiting.longest": KnownFact(Kind.NUMBER, lambda facts: int(facts.line.longest)),
    "hours": KnownFact(Kind.TEXT, _of_clock("hours"), words=tuple(Hours), of_clock=True),
    "holiday": KnownFact(Kind.TEXT, _of_clock("holiday"), of_clock=True),
    "weekday": KnownFact(Kind.TEXT, _of_clock("weekday"), words=WEEKDAYS, of_clock=True),
    "time": KnownFact(Kind.MOMENT, _of_clock("time"), shape=TIME_OF_DAY, example="09:30", of_clock=True),
    "date": KnownFact(Kind.MOMENT, _of_clock("date"), shape=DATE, example="2026-12-24", of_clock=True),
}

#: What a company's own condition may be, and by that what it may say.
OWN_KINDS: Final[Mapping[Kind, str]] = {
    Kind.PRESENCE: "True or False",
    Kind.TEXT: f"up to {_MAX_TEXT} printable characters on one line",
    Kind.LIST: f"a list of up to {_MAX_LISTED} texts of up to {_MAX_TEXT} printable characters on one line",
    Kind.NUMBER: "a whole number",
    Kind.AMOUNT: "a number",
}


def own_fact(name: str, condition: ICondition) -> KnownFact:
    """A condition of a company's own as a fact. Raises `OwnCodeError` if it does not say what it can be."""
    kind, words = getattr(condition, "kind", None), getattr(condition, "words", ())
    if kind not in list(OWN_KINDS):
        raise OwnCodeError(f"its `kind` has to be one of {', '.join(OWN_KINDS)}")
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise OwnCodeError("its `words` have to be a tuple of texts")
    return KnownFact(Kind(kind), partial(_own_value, name), words=tuple(words), find=condition.find)


def _own_value(name: str, facts: Facts) -> Any:
    said = facts.own.get(name)
    return None if said is None else said.value


def value_of(fact: KnownFact, found: object) -> Any:
    """What a company's own code found, as a fact has it. Raises `ValueError`, which says what would be right."""
    if found is None:
        return None
    match fact.kind:
        case Kind.PRESENCE if isinstance(found, bool):
            return found or None
        case Kind.NUMBER if is_number(found) and abs(found) <= _MAX_NUMBER:
            return found
        case Kind.AMOUNT if (is_number(found) or isinstance(found, float)) and abs(found) <= _MAX_NUMBER:
            return found
        case Kind.LIST if (
            isinstance(found, list | tuple)
            and len(found) <= _MAX_LISTED
            and all(_is_own_text(fact, each) for each in found)
        ):
            return list(found)
        case Kind.TEXT if _is_own_text(fact, found):
            return found
    right = (
        f"one of {', '.join(fact.words)}" if fact.kind is Kind.TEXT and fact.words else OWN_KINDS[fact.kind]
    )
    raise ValueError(f"said {named(found)}; {right} would be right")


def _is_own_text(fact: KnownFact, found: object) -> bool:
    if not isinstance(found, str) or len(found) > _MAX_TEXT or not found.isprintable():
        return False
    return not fact.words or found in fact.words


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


class ConditionReader(Reader):
    """Reads what stands under `when`."""

    EXAMPLES: Mapping[str, str] = {"when": "party.owner: present", "a test": "not: gold"}
    NOUNS: Mapping[str, str] = {"when": "fact", "a test": "test"}

    def __init__(
        self, agents: Collection[str] | None, groups: Collection[str] | None, has_hours: bool, own: Own
    ) -> None:
        """`agents` and `groups`: those that tests may name, None for any. `has_hours`: whether the clock may be
        asked for. `own`: the company's own conditions.
        """
        super().__init__()
        self._own = own
        self.agents = agents
        self.groups = groups
        self._has_hours = has_hours

    def when(self, raw: object, path: Path) -> tuple[Condition, ...]:
        conditions: list[Condition] = []
        facts = self._facts(raw)
        for name, test in self.mapping(raw, path, "when", facts).items():
            known = facts[name] or self._own_fact(name, (*path, name))
            if known is None:
                continue
            if known.of_clock and not self._has_hours:
                self.wrong(
                    (*path, name),
                    "needs a time zone; `hours: NAME` in the service, named at the top of the file, would be right",
                    of_key=True,
                )
            wanted, holds = self._test(test, known, (*path, name), 0)
            conditions.append(Condition(name, wanted, known, holds))
        return tuple(conditions)

    def _facts(self, raw: object) -> Mapping[str, KnownFact | None]:
        """All facts, with those of groups that are asked for; and None for each that would be the company's own."""
        facts: dict[str, KnownFact | None] = dict(FACTS)
        for name in raw if isinstance(raw, Mapping) else ():
            if isinstance(name, str) and name.startswith(OWN):
                facts[name] = None
                continue
            match str(name).split("."):
                case ["group", group, what] if what in OF_GROUPS and (
                    self.groups is None or group in self.groups
                ):
                    facts[str(name)] = KnownFact(Kind.NUMBER, partial(_of_group, group, what))
        return facts

    def _own_fact(self, fact: str, path: Path) -> KnownFact | None:
        name = fact.removeprefix(OWN)
        if name not in self._own.conditions:
            self.wrong(path, unknown("condition of your own", name, self._own.conditions), of_key=True)
            return None
        try:
            return own_fact(name, self._own.conditions[name])
        except OwnCodeError as error:
            self.wrong(path, f"cannot be used: {error}", of_key=True)
            return None

    def _test(self, raw: object, fact: KnownFact, path: Path, depth: int) -> tuple[str, _Holds]:
        if raw == "present":
            return "is present", _is_present
        if raw == "absent":
            return "is absent", _is_absent
        if isinstance(raw, Mapping):
            return self._tests(raw, fact, path, depth)
        if fact.kind is Kind.PRESENCE:
            self.wrong(path, "only `present` or `absent` would be right")
        elif fact.kind is Kind.LIST:
            self.wrong(path, "is a list of values; {contains: X}, `present` or `absent` would be right")
        elif self._is_value(raw, fact, path):
            return f"is {as_text(raw)}", partial(operator.eq, raw)
        return "", _never

    def _tests(self, raw: Mapping[Any, Any], fact: KnownFact, path: Path, depth: int) -> tuple[str, _Holds]:
        if depth >= _MAX_DEPTH:
            self.wrong(path, f"tests are nested deeper than {_MAX_DEPTH}; a flatter rule would be right")
            return "", _never
        fitting = [test for test, kinds in _TESTS.items() if fact.kind in kinds]
        parts: list[tuple[str, _Holds]] = []
        for test, value in self.mapping(raw, path, "a test", fitting).items():
            parts.append(self._one_test(test, value, fact, (*path, test), depth))
        if not raw:
            self.wrong(path, f"is empty; one of {', '.join(fitting)} would be right")
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
                return f"contains {as_text(value)}", (
                    lambda found: isinstance(found, list | tuple | frozenset) and value in found
                )
            case "prefix":
                if not self._is_text(value, path):
                    return "", _never
                return f"starts with {as_text(value)}", (
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
            self.wrong(path, f"a list of 1 to {_MAX_CHOICES} values would be right")
            return "", _never
        wrong = [index for index, each in enumerate(value) if not self._is_value(each, fact, (*path, index))]
        if wrong:
            return "", _never
        choices = frozenset(value)
        # The type first: what a CRM says may be a list or a mapping, which no set can be asked for.
        wanted = _TYPES.get(fact.kind, str)
        return f"in {as_text(list(value))}", lambda found: isinstance(found, wanted) and found in choices

    def _is_value(self, value: object, fact: KnownFact, path: Path) -> bool:
        if fact.kind is Kind.NUMBER:
            if is_number(value):
                return True
            self.wrong(path, f"is {named(value)}; a whole number would be right")
            return False
        if fact.kind is Kind.AMOUNT:
            if is_number(value) or (isinstance(value, float) and math.isfinite(value)):
                return True
            self.wrong(path, f"is {named(value)}; a number such as -120.50 would be right")
            return False
        if fact.shape is not None and (not isinstance(value, str) or not fact.shape.fullmatch(value)):
            self.wrong(path, f'{shown(value)} is not written as "{fact.example}" is, in quotes')
            return False
        if not self._is_text(value, path):
            return False
        assert isinstance(value, str)
        if fact.words and value not in fact.words:
            self.wrong(path, unknown("word", value, fact.words))
            return False
        if fact.is_agent and self.agents is not None and value not in self.agents:
            self.wrong(path, unknown("agent", value, self.agents))
            return False
        return True

    def _is_text(self, value: object, path: Path) -> bool:
        if isinstance(value, str) and 1 <= len(value) <= _MAX_TEXT:
            return True
        if isinstance(value, str):
            self.wrong(
                path, f"a text of 1 to {_MAX_TEXT} characters would be right; `absent` tests for nothing"
            )
        else:
            self.wrong(path, f"is {named(value)}; a text would be right, in quotes")
        return False
