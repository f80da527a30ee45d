"""Callers who type who they are: read over AGI, looked up, taken for them, and let go on whatever fails."""

import logging
from collections.abc import Iterable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from adapters.base import AdapterUnavailable
from cti.asterisk.agi_parser import Request
from cti.asterisk.fastagi import AgiCommandFailed, AgiHangup
from cti.calls.key_entry import DIGIT_SECONDS, MAX_READING, MAX_TRIES, KeyEntry
from cti.calls.route_request import BadRouteRequest, KeyRequest
from tests.unit.crms import Crm
from tests.unit.desktops import settled
from tests.unit.test_desk import Floor


class Session:
    """A fake of an AGI session, whose caller types `typed`; None: hangs up before."""

    def __init__(self, typed: str | None = "4711", uniqueid: str = "9.0", **arguments: str) -> None:
        given = {
            "v": "1",
            "pbx": "main",
            "call": "",
            "did": "",
            "key": "customer",
            "digits": "4",
            **arguments,
        }
        self.request = Request(
            headers={
                "agi_network_script": "identify",
                "agi_uniqueid": uniqueid,
                "agi_channel": "PJSIP/trunk-00000009",
                "agi_callerid": "01713920042",
            },
            args=tuple(f"{key}={value}" for key, value in given.items()),
        )
        self.typed = typed
        self.waits: Deferred[str] | None = None
        self.done: list[Any] = []

    @property
    def set(self) -> dict[str, str]:
        return {name: value for verb, name, value in (each for each in self.done if each[0] == "SET")}

    def command(self, verb: str, *args: str) -> "Deferred[None]":
        self.done.append((verb, *args))
        return succeed(None)

    def set_variable(self, name: str, value: str) -> "Deferred[None]":
        self.done.append(("SET", name, value))
        return succeed(None)

    def set_variables(
        self, variables: Iterable[tuple[str, str]], *, may_cut: Iterable[str] = ()
    ) -> "Deferred[None]":
        self.done += [("SET", name, value) for name, value in variables]
        return succeed(None)

    async def read_digits(self, prompt: str, seconds: float, most: int) -> str:
        self.done.append(("READ", prompt, seconds, most))
        if self.waits is not None:
            return await self.waits
        if self.typed is None:
            raise AgiHangup("the caller is gone")
        return self.typed


class Ivr(Floor):
    """A company with a CRM that knows keys, and a call that nobody has been asked about yet, or one that lives."""

    def __init__(self) -> None:
        super().__init__()
        self.crm = self.adapters["crm"] = Crm()
        self.entry = KeyEntry(
            finder=self.finder,
            calls=self.house.calls,
            services=lambda: self.house.services,
            late_cards=self.late_cards,
            now=self.house.clock.seconds,
            pbxes={"main"},
        )

    def asks(self, session: Session) -> dict[str, str]:
        settled(self.entry.identify(session))  # type: ignore[arg-type]
        return session.set


def test_what_the_caller_types_says_who_they_are_and_the_answer_ends_with_the_proof() -> None:
    ivr, session = Ivr(), Session(prompt="custom/your-number")
    answer = ivr.asks(session)
    assert (answer["CTI_IDENTIFIED"], answer["CTI_PARTY_NAME"], answer["CTI_PARTY_ID"]) == (
        "1", "Katja Brandt", "crm:1001",
    )  # fmt: skip
    assert session.done[-1] == ("SET", "CTI_IDENTIFIED", "1")
    assert [each[0] for each in session.done[:3]] == ["ANSWER", "SET", "READ"]
    assert session.done[2] == ("READ", "custom/your-number", DIGIT_SECONDS, 4)


def test_the_guard_of_the_dialplan_is_put_off_while_the_caller_types_and_set_again_after() -> None:
    session = Session()
    Ivr().asks(session)
    guards = [each[2] for each in session.done if each[1:2] == ("TIMEOUT(absolute)",)]
    assert guards == ["60", "3"]


def test_a_call_that_nobody_was_asked_about_yet_learns_it_once_when_it_is() -> None:
    ivr = Ivr()
    ivr.asks(Session(uniqueid="9.0"))
    known = ivr.entry.identified(("main", "9.0"))
    assert known is not None
    assert known.party is not None
    assert (known.party.id, known.party.match, known.number.e164) == ("1001", "key", "+491713920042")
    assert ivr.entry.identified(("main", "9.0")) is None


def test_a_call_that_lives_is_theirs_at_once_on_record_and_on_screen() -> None:
    ivr = Ivr().ringing()
    ivr.call.card = {"parties": [], "from": "+491713920042"}
    answer = ivr.asks(Session(uniqueid="1.0"))
    assert answer["__CTI_CALL_ID"] == ivr.call.id
    assert ivr.call.record.party is not None
    assert ivr.call.record.party["id"] == "1001"
    assert ivr.call.identification is not None
    assert ivr.call.identification.party is not None
    (shown, audience) = ivr.events("card.updated")[0]
    assert ([party["id"] for party in shown["card"]["parties"]], audience) == (["1001"], ("anna",))


@pytest.mark.parametrize(
    ("session", "why"),
    [
        (Session("9999"), "nobody has it"),
        (Session(""), "nothing was typed"),
        (Session(key="shoe_size"), "no adapter knows such keys"),
        (Session(None), "hung up"),
        (Session(v="2"), "another version"),
        (Session(pbx="elsewhere"), "a stranger"),
        (Session(key="no kind!"), "no kind"),
        (Session(prompt="/etc/passwd&"), "no sound"),
        (Session(digits="99"), "too many digits"),
        (Session(digits="x"), "no digits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_fails_nobody_is_identified(session: Session, why: str) -> None:
    ivr = Ivr()
    assert ivr.asks(session).get("CTI_IDENTIFIED", "0") == "0", why
    assert ivr.entry.identified(("main", "9.0")) is None


def test_a_crm_that_is_away_identifies_nobody() -> None:
    ivr = Ivr()
    ivr.crm.fails = AdapterUnavailable("it is away")
    assert ivr.asks(Session())["CTI_IDENTIFIED"] == "0"


def test_a_key_may_come_as_an_argument_but_a_sensitive_one_is_not_even_looked_up() -> None:
    ivr, given = Ivr(), Session(value="4711")
    assert ivr.asks(given)["CTI_IDENTIFIED"] == "1"
    assert not any(each[0] == "READ" for each in given.done)
    asked = len(ivr.crm.asked)
    assert ivr.asks(Session(key="card", value="4929123412341234", uniqueid="9.1"))["CTI_IDENTIFIED"] == "0"
    assert len(ivr.crm.asked) == asked


def test_a_caller_cannot_try_keys_without_end() -> None:
    ivr = Ivr()
    for _ in range(MAX_TRIES):
        ivr.asks(Session("9999"))
    last = Session("4711")
    assert ivr.asks(last)["CTI_IDENTIFIED"] == "0"
    assert not any(each[0] == "READ" for each in last.done)
    assert ivr.asks(Session("4711", uniqueid="9.1"))["CTI_IDENTIFIED"] == "1", "another caller"


def test_callers_who_type_leave_room_for_those_who_are_to_be_routed() -> None:
    ivr = Ivr()
    typing = []
    for number in range(MAX_READING):
        session = Session(uniqueid=f"8.{number}")
        session.waits = Deferred()
        typing.append((session, Deferred.fromCoroutine(ivr.entry.identify(session))))  # type: ignore[arg-type]
    one_more = Session()
    assert ivr.asks(one_more)["CTI_IDENTIFIED"] == "0"
    assert not any(each[0] == "ANSWER" for each in one_more.done)
    for session, _ in typing:
        assert session.waits is not None
        session.waits.callback("9999")
    assert ivr.asks(Session(uniqueid="9.1"))["CTI_IDENTIFIED"] == "1"


def test_what_was_typed_is_in_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ivr = Ivr()
    ivr.asks(Session("4929123412341234", key="card", digits="16"))
    ivr.asks(Session("4929123412341234\x07", key="card", digits="16", uniqueid="9.1"))
    ivr.asks(Session(value="4929123412341234", key="card", uniqueid="9.2"))
    assert "4929123412341234" not in caplog.text


def test_an_asterisk_that_takes_no_answer_is_no_fault_of_ours() -> None:
    session = Session()
    session.set_variables = lambda variables, may_cut=(): fail(AgiCommandFailed(510, "no"))  # type: ignore[method-assign]
    assert "CTI_IDENTIFIED" not in Ivr().asks(session)


def test_the_text_about_a_bad_request_does_not_quote_the_key() -> None:
    for wrong in ({"digits": "x"}, {"prompt": "!"}, {"key": ""}):
        session = Session(value="4711", **wrong)
        with pytest.raises(BadRouteRequest) as refused:
            KeyRequest.of(session.request)
        assert "4711" not in str(refused.value)
