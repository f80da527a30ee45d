"""How adapters are asked who is calling, as the configuration says it: words, limits and their defaults."""

from enum import StrEnum
from typing import Final

from attrs import frozen

COMPANY: Final = "company"
CASE_OWNER: Final = "case_owner"
LAST_AGENT: Final = "last_agent"
ASK: Final = "ask"
#: What settles which of several parties it is, in the order in which it is asked.
POLICIES: Final = (COMPANY, CASE_OWNER, LAST_AGENT, ASK)

#: Seconds that all adapters together may take (decision 12: 800 ms of the 1.5 s that an answer may take).
BUDGET: Final = 0.8
#: Seconds that others are still waited for once somebody is found.
PATIENCE: Final = 0.25
#: Seconds after which an adapter is not waited for any more, not for the card either.
DEADLINE: Final = 5.0
LONGEST_DEADLINE: Final = 10.0


class Order(StrEnum):
    """Whether all adapters are asked at once, or one after the other until somebody is found."""

    PARALLEL = "parallel"
    SEQUENCE = "sequence"


class Live(StrEnum):
    """When a CRM itself is asked whose numbers are in the index: about those unknown there, always, or never."""

    UNKNOWN = "unknown"
    ALWAYS = "always"
    NEVER = "never"


@frozen
class Asking:
    """What every adapter may be told, whatever its kind.

    `deadline`: seconds that it may take, beyond the budget for the card alone. `concurrency`: questions at once;
    `per_second`: None, as many as come. `index`: whether it is listed into the phone index, if it can. `live`: None,
    as its kind has it. It is left alone for `breaker_seconds` after `breaker_failures` one upon the other.
    """

    deadline: float = DEADLINE
    concurrency: int = 8
    per_second: float | None = None
    index: bool = True
    live: Live | None = None
    breaker_failures: int = 5
    breaker_seconds: float = 30.0


@frozen
class CacheSettings:
    """Seconds for which hits and misses are kept, and how many answers in all; 0 seconds: not at all."""

    seconds: float = 60.0
    misses_seconds: float = 15.0
    entries: int = 10_000


@frozen
class Options:
    """How all of them are asked. `budget`, `patience`: seconds. `ambiguity`: of `POLICIES`, in their order."""

    budget: float = BUDGET
    patience: float = PATIENCE
    order: Order = Order.PARALLEL
    cache: CacheSettings = CacheSettings()
    ambiguity: tuple[str, ...] = POLICIES
