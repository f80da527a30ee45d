"""The way of a call that one of us makes, without sockets: what is logged, shown and said, and what can go wrong."""

from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from adapters.base import Party
from cti.asterisk.agi_parser import Request
from cti.calls.inbound import new_record
from cti.calls.life import LiveCall, mint_call_id
from cti.calls.outbound import Outbound
from cti.calls.tracker import EndedRecord
from cti.calls.unseen import Unseen
from cti.identify.identification import Identification
from cti.numbers import Number, NumberKind
from cti.store.base import CallDetail, StoreError
from cti.store.records import CallRecord, CardRecord, ChannelRecord
from tests.unit.test_inbound import KATRIN, Session, World, an_end_of

ANNA = "PJSIP/anna-00000007"


def a_session(
    did: str = "015228817386", channel: str = ANNA, script: str = "outbound", **more: Any
) -> Session:
    session = Session(did, **more)
    headers: Mapping[str, str] = {
        **session.request.headers,
        "agi_network_script": script,
        "agi_channel": channel,
        "agi_callerid": "20",
    }
    session.request = Request(headers=headers, args=session.request.args)
    return session


class Office(World):
    """The world of an inbound call, with a way out; only Katrin's number is somebody's."""

    def __init__(self) -> None:
        super().__init__()
        self.outbound = Outbound(
            calls=self.calls,
            tracker=self.tracker,
            roster=self.roster,
            services=lambda: self.services,
            identifier=lambda: self,
            clock=self.clock,
            answer_within=1.5,
            measure=self,
            pbxes={"main", "branch"},
            freshen=lambda call: None,
            late=lambda call, found: None,
        )

    async def identify(self, number: Number, late: Any = None) -> Identification:
        if self.answer is not None:
            return await self.answer
        parties: tuple[Party, ...] = (KATRIN,) if number.e164 == "+4915228817386" else ()
        return Identification(number, parties, owners={("directory", "u1"): "anna"})

    def call_by_channel(self, pbx: str, uniqueid: str) -> str | None:
        return None

    def tell(self, session: Session) -> list[Any]:
        """The call on its way; the list gets the end of what is done about it."""
        ended: list[Any] = []
        Deferred.fromCoroutine(self.outbound.place(session)).addBoth(ended.append)
        return ended

    @property
    def record(self) -> CallRecord:
        record: CallRecord = self.rows(CallRecord)[-1]
        return record


def test_a_call_to_a_customer_is_logged_and_shown_before_it_is_answered():
    office, session = Office(), a_session()

    assert office.tell(session) == [None]

    record = office.record
    assert session.set == {"__CTI_CALL_ID": record.id, "CTI_CALLER_NAME": "Katrin Öhlmann"}
    assert (record.direction, record.agent, record.from_number, record.to_number) == (
        "outbound",
        "anna",
        "20",
        "+4915228817386",
    )
    assert record.party is not None
    assert record.party["id"] == "17"
    (card,) = office.rows(CardRecord)
    assert (card.agent, card.body["parties"][0]["id"], card.body["service"]) == ("anna", "17", None)
    assert office.events == ["call.offered", "card.offered"]
    (caller,) = {row.key: row for row in office.rows(ChannelRecord)}.values()
    assert (caller.role, caller.agent, caller.device) == ("caller", "anna", "PJSIP/anna")


@pytest.mark.parametrize(
    ("did", "channel", "direction", "agent", "cards"),
    [
        ("+442079460018", ANNA, "outbound", "anna", 1),
        ("21", ANNA, "internal", "anna", 0),
        ("ben", ANNA, "internal", "anna", 0),
        ("015228817386", "PJSIP/lift-00000001", "outbound", None, 0),
    ],
)
def test_who_calls_whom_says_what_is_logged_and_whether_a_card_is_shown(
    did, channel, direction, agent, cards
):
    office = Office()
    office.tell(a_session(did, channel))

    assert (office.record.direction, office.record.agent) == (direction, agent)
    assert len(office.rows(CardRecord)) == cards


def test_the_call_is_in_the_log_before_anybody_knows_who_is_called():
    office = Office()
    office.answer = Deferred()
    ended = office.tell(a_session())

    assert (ended, office.events) == ([], ["call.offered"])
    office.tracker.on_event("main", an_end_of("1.0"))
    office.answer.callback(Identification(Number("", "withheld"), ()))
    # Who left is not shown to anybody.
    assert (ended, office.events) == ([None], ["call.offered", "call.ended"])
    assert office.record.outcome == "abandoned"


@pytest.mark.parametrize("how", ["too late", "refused"])
def test_a_store_that_does_not_write_holds_up_no_call(how):
    office, session = Office(), a_session()
    office.slow = True
    ended = office.tell(session)
    assert session.set == {}
    if how == "too late":
        office.clock.advance(1.6)
    else:
        for commit in list(office.commits):
            commit.errback(StoreError("the disk is full"))

    assert (ended, list(session.set)) == ([None], ["__CTI_CALL_ID", "CTI_CALLER_NAME"])


def test_a_call_from_outside_that_is_sent_out_again_stays_the_same_call():
    office, inbound = Office(), Session()
    office.ask(inbound)
    before = len(office.units)
    session = a_session("015228895456", "PJSIP/trunk-00000001", call=inbound.set["__CTI_CALL_ID"])

    assert office.tell(session) == [None]
    assert session.set == {"__CTI_CALL_ID": inbound.set["__CTI_CALL_ID"]}
    assert len(office.units) == before
    assert office.record.direction == "inbound"


def test_whom_an_agent_s_call_is_passed_on_to_is_not_who_was_called():
    office, first = Office(), a_session()
    office.tell(first)
    before = len(office.units)
    # A channel of that call, but not the agent's: somebody who was transferred to another number.
    session = a_session("+442079460018", "PJSIP/trunk-00000008", call=first.set["__CTI_CALL_ID"])
    session.request = Request(
        headers={**session.request.headers, "agi_uniqueid": "1.9"}, args=session.request.args
    )

    office.tell(session)
    assert session.set == {"__CTI_CALL_ID": first.set["__CTI_CALL_ID"]}
    assert len(office.units) == before


def test_a_call_that_comes_over_from_another_asterisk_is_told_of_once_and_has_a_channel_there():
    office, first = Office(), a_session()
    office.tell(first)
    before = len(office.events)
    # The numbers of channels are each Asterisk's own.
    over = a_session(channel="PJSIP/peer-main-00000001", pbx="branch", call=first.set["__CTI_CALL_ID"])

    office.tell(over)
    assert over.set == {"__CTI_CALL_ID": first.set["__CTI_CALL_ID"]}
    assert len(office.events) == before
    channel = office.rows(ChannelRecord)[-1]
    assert (channel.key, channel.role, channel.agent) == (("branch", "1.0"), "caller", None)
    assert office.record.pbx == "main"


def test_the_end_of_a_channel_that_came_over_is_not_taken_for_the_callers():
    office = Office()
    nobody = Number("", NumberKind.UNAVAILABLE)
    record = new_record("c1", "main", "1.0", "", 1000, nobody, nobody, None)
    office.call = lambda id: succeed(CallDetail(record, [], [], [], [], [], []))  # type: ignore[attr-defined]
    unseen = Unseen(office.calls, office.roster, lambda: office.services, lambda: office, Clock().seconds)
    left = EndedRecord.of(
        "1.0", f"v=1,call={mint_call_id(1000)},from=20,pres=allowed,started=1000,ended=1030"
    )

    Deferred.fromCoroutine(unseen.record("branch", left))
    assert [channel.key for channel in office.rows(ChannelRecord)] == [("branch", "1.0")]
    assert office.rows(CallRecord) == []


def test_whose_call_it_was_is_told_even_if_only_the_dialplan_knew_the_number_in_the_end():
    office = Office()
    nobody = Number("", NumberKind.UNAVAILABLE)
    record = new_record("c1", "main", "1.0", "", 1000, nobody, nobody, None)
    record.ended = 1030
    office.call = lambda id: succeed(CallDetail(record, [], [], [], [], [], []))  # type: ignore[attr-defined]
    unseen = Unseen(office.calls, office.roster, lambda: office.services, lambda: office, Clock().seconds)
    left = EndedRecord.of(
        "1.0", f"v=1,call={mint_call_id(1000)},from=015228817386,pres=allowed,started=1000,ended=1030"
    )

    Deferred.fromCoroutine(unseen.record("main", left))
    # The row may be older than what waits in the spool, and is not written whole.
    assert office.rows(CallRecord) == []
    named, took = (row for unit in office.units for row in unit.rows if isinstance(row, tuple))
    assert named == ("named", "c1", "+4915228817386", "e164")
    assert took[:2] == ("took", "c1")
    # CRMs are told by events.
    assert office.events == ["call.updated"]


def test_a_call_that_we_started_ourselves_is_found_by_its_id():
    office = Office()
    plan = office.services.plan
    caller, called = plan.parse("20"), plan.parse("015228817386")
    record = new_record(
        mint_call_id(1000), "main", None, "", 1000, caller, called, None, direction="outbound", agent="anna"
    )
    office.tracker.expect(LiveCall(record))
    session = a_session(call=record.id)

    office.tell(session)
    assert session.set["__CTI_CALL_ID"] == record.id
    assert office.events == ["call.offered", "card.offered"]
    assert {row.id for row in office.rows(CallRecord)} == {record.id}


def test_a_call_whose_end_came_first_and_one_of_an_asterisk_that_nobody_knows_are_left_alone():
    office = Office()
    office.tracker.on_event("main", an_end_of("1.0"))
    for session in (a_session(), a_session(pbx="elsewhere"), a_session(script="route")):
        assert office.tell(session) == [None]
        assert session.set == {}
    assert office.rows(CallRecord) == []


@pytest.mark.parametrize("name", ["__CTI_CALL_ID", "CTI_CALLER_NAME"])
def test_an_answer_that_breaks_off_harms_nobody(name):
    office = Office()

    assert office.tell(a_session(breaks_at=name)) == [None]
    assert office.events == ["call.offered", "card.offered"]


def test_too_many_at_once_are_counted_and_go_on():
    office, session = Office(), a_session()

    Deferred.fromCoroutine(office.outbound.fall_open(session))
    assert (office.shed_count, session.set) == (1, {})


@pytest.mark.parametrize(
    ("did", "dialstatus", "expected"),
    [
        ("015228817386", "ANSWER", ("outbound", "answered", "17")),
        ("015228817386", "BUSY", ("outbound", "busy", "17")),
        ("015228817386", "CANCEL", ("outbound", "abandoned", "17")),
        ("015228817386", "CONGESTION", ("outbound", "failed", "17")),
        ("21", "ANSWER", ("internal", "answered", None)),
    ],
)
def test_a_call_that_went_out_while_the_server_was_away_is_logged_as_what_it_was(did, dialstatus, expected):
    office = Office()
    unseen = Unseen(office.calls, office.roster, lambda: office.services, lambda: office, Clock().seconds)
    text = (
        f"v=1,call=,way=outbound,channel={ANNA},did={did},from=20,pres=allowed,started=1000,ended=1030,"
        f"cause=16,action=,attempt=0,dialstatus={dialstatus},talked=20"
    )

    Deferred.fromCoroutine(unseen.record("main", EndedRecord.of("1.0", text)))

    record = office.record
    assert (record.direction, record.outcome, record.party and record.party["id"]) == expected
    assert (record.agent, record.started, record.ended) == ("anna", 1000, 1030)
    assert record.answered == (1010 if dialstatus == "ANSWER" else None)


@pytest.mark.parametrize(
    ("asking", "dialstatus", "outcome"),
    [("route", "", "abandoned"), ("", "", "fallback"), ("", "CANCEL", "fallback")],
)
def test_who_called_while_the_server_was_away_is_logged_by_whether_they_waited_for_the_fallback(
    asking, dialstatus, outcome
):
    office = Office()
    unseen = Unseen(office.calls, office.roster, lambda: office.services, lambda: office, Clock().seconds)
    text = (
        "v=1,call=,way=inbound,channel=PJSIP/trunk-00000001,did=494066969100,from=4915228817386,pres=allowed,"
        f"started=1000,ended=1002,cause=127,action=,attempt=1,asking={asking},last=,dialstatus={dialstatus},talked="
    )

    Deferred.fromCoroutine(unseen.record("main", EndedRecord.of("1.0", text)))

    assert (office.record.direction, office.record.outcome) == ("inbound", outcome)
