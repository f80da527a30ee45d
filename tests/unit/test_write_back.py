"""Putting a CRM's numbers into one form: which are left alone, and what is told when it goes down in the midst."""

from argparse import Namespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from adapters.base import (
    AdapterUnavailable,
    Capability,
    ListedNumber,
    ListedParty,
    ListPage,
    NumberChanged,
    Party,
)
from cti.commands import write_back
from cti.commands.write_back import Outcome, rewrite
from cti.numbers import NumberPlan

PLAN = NumberPlan("DE")


@pytest.mark.parametrize(
    ("raw", "region", "form", "national", "new"),
    [
        ("+49 (0) 152 / 288 17 386", None, "e164", False, "+4915228817386"),
        ("0043 1 5321000", None, "international", False, "+43 1 5321000"),
        ("01 5321000", "AT", "e164", False, "+4315321000"),
        ("01 5321000", "at", "national", False, None),
        ("040 66969100", None, "e164", True, "+494066969100"),
        ("+494066969100", None, "national", False, "040 66969100"),
        ("040 66969100", None, "e164", False, "does not say its country"),
        ("040 66969-0", None, "e164", True, "a switchboard's"),
        ("+49 40 66969100 ext. 12", None, "e164", True, "an extension"),
        ("hello", None, "e164", True, "no public number"),
        ("+49 40", None, "e164", True, "no public number"),
    ],
)
def test_a_number_is_rewritten_where_there_is_no_doubt(
    raw: str, region: str | None, form: str, national: bool, new: str | None
) -> None:
    party = ListedParty(Party("crm", "contact", "1", "Katja Brandt"), (ListedNumber(raw),), region)
    found = rewrite(party, party.numbers[0], PLAN, form, national)
    if new is None:
        assert found is None
    elif new[0] in "+0":
        assert found is not None
        assert (found.new, found.outcome) == (new, Outcome.WOULD)
    else:
        assert found is not None
        assert found.outcome is Outcome.KEPT
        assert new in found.why


class Crm:
    """Lists four numbers; of the second somebody has made another one, and before the fourth it goes down."""

    name = "crm"
    capabilities = frozenset({Capability.LIST, Capability.NUMBERS})

    def __init__(self) -> None:
        self.written: list[str] = []

    async def list(self, after: str | None) -> ListPage:
        numbers = tuple(ListedNumber(f"+49 171 3920 {place:03d}") for place in range(4))
        return ListPage([ListedParty(Party("crm", "contact", "1", "Katja Brandt"), numbers)])

    async def write_number(self, party: Any, old: ListedNumber, new: str) -> None:
        if old.raw.endswith("001"):
            raise NumberChanged("it is another one")
        if old.raw.endswith("003"):
            raise AdapterUnavailable("the CRM went down")
        self.written.append(new)


def test_what_was_changed_is_told_also_when_the_crm_goes_down_in_the_midst() -> None:
    crm, clock = Crm(), Clock()
    arguments = Namespace(form="e164", national=False, apply=True, per_second=2.0)
    results: list[Any] = []
    work = write_back._all(crm, PLAN, arguments, clock)  # type: ignore[arg-type]
    Deferred.fromCoroutine(work).addBoth(results.append)
    assert crm.written == ["+491713920000"], "no more than two a second"
    clock.pump([0.5] * 5)

    (found,) = results
    assert [each.outcome for each in found] == [
        Outcome.CHANGED,
        Outcome.REFUSED,
        Outcome.CHANGED,
        Outcome.REFUSED,
    ]
    assert found[3].why == "the CRM went down; nothing was tried after this"
    assert crm.written == ["+491713920000", "+491713920002"]
