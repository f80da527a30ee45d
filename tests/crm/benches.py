"""A fake CRM as the bench of the conformance suite, the same for all of them but for how people are put there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import evolve

from adapters.base import IAdapter, ListedParty, NewTask, PartyRef, PartyType
from adapters.http import HttpAdapter, HttpOptions
from adapters.trace import Trace
from adapters.trial import Bench, a_context
from cti.secret import Secret
from tests.crm.fakes import FakeCrm

Fields = Callable[[ListedParty], Mapping[str, Any]]


class FakeBench(Bench):
    """``fields``: a party's attributes as the CRM's own names have them."""

    breakable = True

    def __init__(
        self,
        fake: FakeCrm,
        preset: str,
        base: Path,
        *,
        fields: Fields,
        secrets: Mapping[str, str] | None = None,
        values: Mapping[str, str] | None = None,
        **like: Any,
    ) -> None:
        self.fake: Any = fake
        self.trace = Trace()
        self._preset = preset
        self._base = base
        self._fields = fields
        self._secrets = {name: Secret(text) for name, text in (secrets or {}).items()}
        self._values = values or {}
        for name, value in like.items():
            setattr(self, name, value)

    def make(self) -> IAdapter:
        options = HttpOptions(self.fake.url, self._preset, secrets=self._secrets, values=self._values)
        # As many a second as the suite asks: what the limits do is tried with the client itself.
        limits = evolve(options.description.limits, per_second=None)
        object.__setattr__(options, "description", evolve(options.description, limits=limits))
        return HttpAdapter("crm", options, evolve(a_context(self._base), trace=self.trace))

    def plant(self, party: ListedParty) -> PartyRef:
        type = party.party.type
        person = self.fake.add(type.value, *(number.raw for number in party.numbers), **self._fields(party))
        return PartyRef(PartyType(type), person.id)

    def remove(self, ref: PartyRef) -> None:
        self.fake.people.pop(ref.id, None)

    def change(self, ref: PartyRef, party: ListedParty) -> None:
        person = self.fake.people[ref.id]
        person.fields.update(self._fields(party))
        person.numbers[:] = [number.raw for number in party.numbers]

    def journaled(self, number: str) -> Sequence[str]:
        return [str(call["text"]) for call in self.fake.calls.values() if call["number"] == number]

    def notes(self, ref: PartyRef) -> Sequence[str]:
        return [str(note["text"]) for note in self.fake.notes.values() if note["party"] == ref.id]

    def tasks(self, ref: PartyRef) -> Sequence[NewTask]:
        return [
            NewTask(task["title"], datetime.fromisoformat(task["due"]), task["owner"])
            for task in self.fake.tasks.values()
            if task["party"] == ref.id
        ]

    def break_it(self) -> None:
        self.fake.broken = True

    def mend(self) -> None:
        self.fake.broken = False


def two_names(party: ListedParty) -> tuple[str, str]:
    """First and last name, for CRMs that keep them apart."""
    first, _, last = party.party.name.rpartition(" ")
    return first, last
