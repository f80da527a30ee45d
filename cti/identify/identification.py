"""Who has a number, as values: what each adapter said, whom it comes to, and how that was settled."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from attrs import field, frozen

from adapters.base import Party
from cti.numbers import Number

#: What rules see as the `match` of somebody who may be any of several.
SEVERAL: Final = "several"


class Outcome(StrEnum):
    """What asking one adapter came to; a miss, a timeout and an error are three different things.

    `open`: it is not asked, since it failed too often. `skipped`: it is not asked for such a number, or now.
    """

    HIT = "hit"
    MISS = "miss"
    TIMEOUT = "timeout"
    ERROR = "error"
    OPEN = "open"
    SKIPPED = "skipped"


class Source(StrEnum):
    """Where an adapter's answer is from."""

    LIVE = "live"
    CACHE = "cache"
    INDEX = "index"


#: With any other outcome, somebody whom the adapter knows may be taken for unknown.
CERTAIN: Final = frozenset({Outcome.HIT, Outcome.MISS})


@frozen
class AdapterOutcome:
    """What asking one adapter came to, in how many milliseconds; `error` is fit for a log.

    `age`: seconds since the CRM said so; None where it was asked now, or nobody knows.
    """

    adapter: str
    outcome: Outcome
    ms: float
    error: str | None = None
    source: Source | None = None
    age: float | None = None

    def as_json(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"adapter": self.adapter, "outcome": self.outcome.value, "ms": self.ms}
        if self.error is not None:
            answer["error"] = self.error
        if self.source is not None:
            answer["source"] = self.source.value
        if self.age is not None:
            answer["age"] = round(self.age, 3)
        return answer


@frozen
class Step:
    """One policy for a number of several parties, and what it came to in words."""

    policy: str
    note: str

    def as_json(self) -> dict[str, str]:
        return {"policy": self.policy, "note": self.note}


@frozen
class Resolution:
    """Which of several parties it is taken for: None is for the agent to say. `by`: the policy that settled it."""

    party: Party | None
    by: str
    steps: tuple[Step, ...] = ()


@frozen
class Identification:
    """Who has the number, as far as the adapters could say in time.

    `parties` come in the order in which the adapters are configured, those of one adapter by type and id, and first
    of all whom it was settled for: the same question always has the same answer. `owners` maps (adapter, the CRM's
    user id) to our agent, for those who look after a party or had to do with one. `resolution`: how it was settled
    where there are several. `ignored`: the number is on the list of those whom nobody looks for. `at`: when they said
    so (epoch seconds), None where nobody was asked.
    """

    number: Number
    parties: tuple[Party, ...] = ()
    adapters: tuple[AdapterOutcome, ...] = ()
    ms: float = 0.0
    owners: Mapping[tuple[str, str], str] = field(factory=dict)
    resolution: Resolution | None = None
    ignored: bool = False
    at: float | None = None

    @property
    def party(self) -> Party | None:
        """Whom the call is routed by and logged with; None if nobody has the number, or it may be any of several."""
        if self.resolution is not None:
            return self.resolution.party
        return self.parties[0] if len(self.parties) == 1 else None

    @property
    def ambiguous(self) -> bool:
        """Several parties have the number; the card shows all of them."""
        return len(self.parties) > 1

    @property
    def resolved_by(self) -> str | None:
        """The policy that settled whom of several it is taken for; None where there was nothing to settle."""
        return None if self.resolution is None else self.resolution.by

    @property
    def certain(self) -> bool:
        """Whether every adapter has said who it knows: nobody found is then nobody known."""
        return bool(self.adapters) and all(each.outcome in CERTAIN for each in self.adapters)

    @property
    def owner(self) -> str | None:
        """Our agent who looks after `party`."""
        return self.owner_of(self.party) if self.party is not None else None

    def owner_of(self, party: Party) -> str | None:
        """Our agent who looks after this party, None if nobody does, or nobody of ours."""
        return self.owners.get((party.adapter, party.owner)) if party.owner is not None else None

    def party_json(self, party: Party) -> dict[str, Any]:
        """One of the parties for the API and the card; who of ours had to do with them is named as our `agent`."""
        whole = party.as_json(self.owner_of(party))
        for each in (*whole["last_contacts"], *whole["appointments"], *whole["tasks"]):
            each["agent"] = self.owners.get((party.adapter, each["user"]))
        return whole

    def facts(self, now: float) -> dict[str, Any]:
        """For the record of a decision: what every adapter said, how it was settled who it is, and how many seconds
        `age` all of that had (None: nobody was asked), as a call is identified only once.
        """
        age = None if self.at is None else round(max(0.0, now - self.at), 3)
        return {**self._said(), "age": age}

    def _said(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"adapters": [outcome.as_json() for outcome in self.adapters]}
        if self.resolution is not None:
            facts["resolved_by"] = self.resolution.by
            facts["steps"] = [step.as_json() for step in self.resolution.steps]
        if self.ignored:
            facts["ignored"] = True
        return facts

    def as_json(self) -> dict[str, Any]:
        """The answer of `GET /api/v1/identify`."""
        party = self.party
        return {
            "number": self.number.raw,
            "e164": self.number.e164,
            "kind": self.number.kind.value,
            "parties": [self.party_json(each) for each in self.parties],
            "party": None if party is None else brief_of(party),
            "ambiguous": self.ambiguous,
            "resolved_by": None,
            "steps": [],
            "ignored": False,
            **self._said(),
            "ms": self.ms,
        }


def brief_of(party: Party) -> dict[str, str]:
    """What names a party among those of all adapters."""
    return {"adapter": party.adapter, "type": party.type.value, "id": party.id}
