"""Unknown callers become parties of the CRM that their service names: once a number, and while nobody waits."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from adapters.base import AdapterHealth, AdapterUnavailable, Capability, NewParty, Party
from cti.agents.roster import Roster
from cti.calls.life import LiveCall
from cti.calls.log import CallLog
from cti.calls.newcomers import CREATE_SECONDS, Newcomers
from cti.calls.parties import Parties
from cti.calls.services import Services
from cti.calls.writing_up import WritingUp
from cti.identify.identification import Identification
from cti.identify.identifier import Identifier
from cti.identify.options import CacheSettings, Options
from cti.numbers import Number, NumberPlan
from cti.store.base import CallFilter
from cti.store.queries import Reader
from cti.store.records import CallRecord
from cti.store.sqlite import connect, open_store_for_command
from cti.store.threaded import CommandStore
from routing.rules import Mode, Newcomers as Wanted, Service
from tests.unit.desktops import settled

GERMANY = NumberPlan("DE")
NUMBER = "+4915228895456"
OWN = "+494066969100"


class Crm:
    """A CRM that takes people in. `away`: every question fails; `pending`: a new party waits for it."""

    def __init__(self, name: str = "crm") -> None:
        self.name = name
        self.capabilities = frozenset({Capability.IDENTIFY, Capability.CREATE})
        self.people: dict[str, Party] = {}
        self.made: list[NewParty] = []
        self.away = False
        self.pending: Deferred[None] | None = None

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def health(self) -> AdapterHealth:
        return AdapterHealth(up=not self.away)

    async def identify(self, number: Number) -> Sequence[Party]:
        if self.away:
            raise AdapterUnavailable("away")
        known = self.people.get(number.e164 or "")
        return [] if known is None else [known]

    async def create(self, party: NewParty) -> Party:
        if self.away:
            raise AdapterUnavailable("away")
        self.made.append(party)
        made = Party(self.name, party.type, str(len(self.made)), party.name)
        self.people[party.number] = made
        if self.pending is not None:
            await self.pending
        return made


class Company:
    """A company on a real store, whose clock is turned by hand; a restart is another one on the same file."""

    def __init__(self, store: CommandStore, path: Path, *crms: Crm, wanted: Wanted | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.store, self.path = store, path
        self.crms: Mapping[str, Any] = {crm.name: crm for crm in crms}
        self.log = CallLog(self, self.clock, lambda record: None)  # type: ignore[arg-type]
        self.roster = Roster(self.clock.seconds, lambda view: None)
        service = Service(
            "sales", (OWN,), Mode.ROUTE, None, "old,s,1", (), unknown=wanted or Wanted("crm", "lead", "end")
        )
        self.services = Services([service], GERMANY)
        self.identifier = Identifier(
            self.crms,
            self.clock,
            owners=lambda adapter, user: None,
            plan=GERMANY,
            own={OWN},
            options=Options(cache=CacheSettings(60, 60, 100)),
            ignored=lambda number: number == "+4915228817386",
        )
        self.shown: list[tuple[str, Identification]] = []
        writing_up = WritingUp(
            calls=self.log, roster=self.roster, services=lambda: self.services, now=self.clock.seconds
        )
        parties = Parties(
            adapters=lambda: self.crms,
            calls=self.log,
            writing_up=writing_up,
            written=None,  # type: ignore[arg-type]
            services=lambda: self.services,
            forget=lambda adapter, number: self.identifier.forget(adapter, number),
        )
        self.newcomers = Newcomers(
            calls=self.log,
            services=lambda: self.services,
            identifier=lambda: self.identifier,
            parties=parties,
            late_cards=self,  # type: ignore[arg-type]
            writing_up=writing_up,
            roster=self.roster,
            clock=self.clock,
        )
        self.log.on_news(self.newcomers.news)

    # The late cards.

    def identified(self, call: LiveCall, found: Identification) -> None:
        self.shown.append((call.id, found))

    # The store.

    def unit(self) -> Any:
        return self.store.unit()

    def commit(self, unit: Any, *, at_leisure: bool = False) -> "Deferred[Any]":
        return succeed(self.store.commit_now(unit))

    def calls(self, where: CallFilter, limit: int) -> "Deferred[Any]":
        return succeed(self.reader().calls(where, limit))

    def waiting_newcomers(self, limit: int) -> Any:
        return self.reader().waiting_newcomers(limit)

    def reader(self) -> Reader:
        return Reader(connect(str(self.path)))

    # What happens.

    def call(self, id: str, **changes: Any) -> LiveCall:
        """A call that nobody knew the caller of, and that is over unless it is said otherwise."""
        values = {
            "pbx": "main",
            "started": self.clock.seconds(),
            "from_number": NUMBER,
            "from_kind": "e164",
            "service": "sales",
            "ended": self.clock.seconds() + 1,
            "outcome": "missed",
            "state": "ended",
        }
        record = CallRecord(id, **{**values, **changes})
        call = LiveCall(record)
        raw = record.from_number or ""
        call.identification = Identification(GERMANY.parse(raw), ())
        if record.ended is None:
            self.log.keep(call)
        return call

    def tell(self, call: LiveCall) -> None:
        unit = self.store.unit()
        unit.put_call(call.record)
        self.log.write(call, unit)

    def later(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)

    def party_of(self, id: str) -> Mapping[str, Any] | None:
        detail = self.reader().call(id)
        assert detail is not None
        return detail.call.party


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommandStore]:
    with open_store_for_command(tmp_path / "cti.db", destinations={}, clock=lambda: 0.0) as opened:
        yield opened


@pytest.fixture
def crm() -> Crm:
    return Crm()


@pytest.fixture
def company(store: CommandStore, tmp_path: Path, crm: Crm) -> Company:
    return Company(store, tmp_path / "cti.db", crm)


def test_an_unknown_caller_is_a_lead_after_the_call_and_who_the_call_was_with(
    company: Company, crm: Crm
) -> None:
    company.tell(company.call("c1"))
    assert crm.made == [], "nobody waits for it, and it waits for the log"
    company.later()
    (made,) = crm.made
    assert (made.type, made.number, made.name) == ("lead", NUMBER, "01522 8895456")
    party = company.party_of("c1")
    assert party is not None
    assert (party["adapter"], party["type"], party["id"]) == ("crm", "lead", "1")
    again = settled(company.identifier.identify(GERMANY.parse(NUMBER)))
    assert again.party is not None, "that nobody knew them a moment ago is forgotten"


def test_a_call_that_is_over_and_has_a_party_now_is_news_and_one_that_lives_is_told_with_its_card(
    company: Company, crm: Crm
) -> None:
    crm.away = True
    company.tell(company.call("c1"))
    company.later()
    company.tell(company.call("c2"))
    company.tell(company.call("lives", ended=None, outcome=None, state="connected"))
    crm.away = False
    company.later(60)
    changed = {
        id: [json.loads(event.data)["changed"] for event in company.reader().call(id).events]  # type: ignore[union-attr]
        for id in ("c1", "c2", "lives")
    }
    assert changed == {"c1": [["party"]], "c2": [["party"]], "lives": []}
    assert [id for id, _ in company.shown] == ["lives"]


def test_two_calls_at_one_moment_make_one_lead_and_are_both_theirs(company: Company, crm: Crm) -> None:
    first, second = company.call("c1"), company.call("c2")
    company.tell(first), company.tell(second)
    company.later(), company.later()
    assert len(crm.made) == 1
    assert company.party_of("c1") is not None
    assert company.party_of("c1") == company.party_of("c2")


def test_who_was_taken_in_before_a_restart_is_not_taken_in_again(
    company: Company, crm: Crm, store: CommandStore, tmp_path: Path
) -> None:
    company.tell(company.call("c1"))
    company.later()
    del crm.people[NUMBER]  # Somebody has thrown them out of the CRM, and wants them there no more.
    again = Company(store, tmp_path / "cti.db", crm)
    again.newcomers.start()
    again.tell(again.call("c2"))
    again.later(), again.later(5000)
    assert len(crm.made) == 1


def test_a_restart_before_it_was_done_does_it_once(
    company: Company, crm: Crm, store: CommandStore, tmp_path: Path
) -> None:
    company.tell(company.call("c1"))
    again = Company(store, tmp_path / "cti.db", crm)
    again.newcomers.start()
    again.later(), again.later()
    assert len(crm.made) == 1
    assert again.party_of("c1") is not None


def test_who_was_made_before_a_crash_is_found_and_not_made_again(company: Company, crm: Crm) -> None:
    company.tell(company.call("c1"))
    crm.people[NUMBER] = Party("crm", "lead", "77", "Made, and then the power went")
    company.later()
    assert crm.made == []
    party = company.party_of("c1")
    assert party is not None
    assert party["id"] == "77"


@pytest.mark.parametrize(
    "changes",
    [
        {"from_kind": "withheld", "from_number": None},
        {"from_kind": "internal", "from_number": "101"},
        {"direction": "outbound"},
        {"party": {"adapter": "crm", "type": "contact", "id": "5"}},
        {"service": "other"},
        {"ended": None, "outcome": None, "state": "asked"},
    ],
)
def test_who_is_known_hidden_one_of_us_or_called_by_us_is_nobodys_lead(
    company: Company, crm: Crm, changes: dict[str, Any]
) -> None:
    company.tell(company.call("c1", **changes))
    company.later(), company.later(5000)
    assert crm.made == []


@pytest.mark.parametrize("number", [OWN, "+4915228817386"])
def test_our_own_and_ignored_numbers_are_nobodys_lead(company: Company, crm: Crm, number: str) -> None:
    company.tell(company.call("c1", from_number=number))
    company.later(), company.later(5000)
    assert crm.made == []
    assert company.waiting_newcomers(5) == [], "and nobody tries again"


def test_who_is_turned_away_or_may_be_any_of_several_is_nobodys_lead(company: Company, crm: Crm) -> None:
    blocked, several = company.call("c1"), company.call("c2")
    blocked.action = "reject"
    parties = tuple(Party("crm", "contact", str(each), "K") for each in (1, 2))
    several.identification = Identification(GERMANY.parse(NUMBER), parties)
    company.tell(blocked), company.tell(several)
    company.later(), company.later(5000)
    assert crm.made == []


def test_at_the_answer_the_agent_who_talks_gets_to_see_them(
    store: CommandStore, tmp_path: Path, crm: Crm
) -> None:
    company = Company(store, tmp_path / "cti.db", crm, wanted=Wanted("crm", "contact", "answer"))
    live = {"ended": None, "outcome": None, "state": "connected"}
    company.tell(company.call("rings", **live))
    company.later()
    assert crm.made == []
    company.tell(company.call("talks", answered=1000.0, **live))
    company.later()
    assert [party.type for party in crm.made] == ["contact"]
    assert {id for id, _ in company.shown} == {"rings", "talks"}
    assert all(found.party == crm.people[NUMBER] for _, found in company.shown)


def test_a_crm_that_is_away_gets_them_later_and_no_other_waits(
    store: CommandStore, tmp_path: Path, crm: Crm
) -> None:
    company = Company(store, tmp_path / "cti.db", crm)
    crm.away = True
    company.tell(company.call("c1"))
    company.later()
    (waiting,) = company.waiting_newcomers(5)
    assert (waiting.tries, waiting.state) == (1, "waiting")
    crm.away = False
    company.later(9)
    assert crm.made == []
    company.later(2)
    assert len(crm.made) == 1
    assert company.waiting_newcomers(5) == []


def test_while_another_crm_cannot_say_whether_it_knows_them_nobody_is_made(
    store: CommandStore, tmp_path: Path, crm: Crm
) -> None:
    other = Crm("other")
    other.away = True
    company = Company(store, tmp_path / "cti.db", crm, other)
    company.tell(company.call("c1"))
    company.later()
    assert crm.made == []
    other.away = False
    other.people[NUMBER] = Party("other", "contact", "9", "An old customer")
    company.later(30)
    assert crm.made == []
    party = company.party_of("c1")
    assert party is not None
    assert (party["adapter"], party["id"]) == ("other", "9")


def test_a_crm_that_never_answers_is_let_go_and_asked_first_whether_they_are_there(
    company: Company, crm: Crm
) -> None:
    crm.pending = Deferred()
    company.tell(company.call("c1"))
    company.later()
    company.later(CREATE_SECONDS)
    company.later(11)
    assert len(crm.made) == 1, "it was made, only the answer was lost"
    assert company.party_of("c1") is not None


def test_an_adapter_that_raises_anything_keeps_nobody_else_waiting(company: Company, crm: Crm) -> None:
    broken = fail(KeyError("nonsense"))
    crm.pending = broken  # type: ignore[assignment]
    company.tell(company.call("c1"))
    company.later()
    crm.pending = None
    company.tell(company.call("c2", from_number="+4930231250"))
    company.later(2)
    assert [party.number for party in crm.made] == [NUMBER, "+4930231250"]


def test_what_a_person_has_said_of_the_call_stays(company: Company, crm: Crm) -> None:
    call = company.call("c1")
    company.tell(call)
    chosen = {"adapter": "crm", "type": "contact", "id": "5", "match": "chosen"}
    call.record.party = chosen
    unit = company.store.unit()
    unit.put_written(call.record)
    company.store.commit_now(unit)
    company.later()
    assert company.party_of("c1") == chosen
