"""The dialplan against servers that die, hang or talk nonsense: the caller reaches the fallback every time."""

import time
from collections.abc import Mapping

import pytest
from attrs import frozen

from lab.company import AnAgent, Company
from lab.laboratory import Call
from lab.sipp import SippFailed
from lab.trace import CallResult
from tests.faults.evidence import channel_of, guard_seconds, rung, steps, ways
from tests.faults.fake_agi import FakeAgi, Script, Session

#: A fallback of the company's own beside the usual ones, and a number whose calls have a limit already.
EXTENSIONS = """
[stored]
exten => s,1,NoOp(limit=${TIMEOUT(absolute)} exit=${AGIEXITONHANGUP} name=${CALLERID(name)})
 same => n,Dial(PJSIP/reception,30)
 same => n,Hangup()

[from-trunk]
exten => limited,1,Set(TIMEOUT(absolute)=60)
 same => n,Set(AGIEXITONHANGUP=the company's)
 same => n,Goto(cti-inbound,${LIMITED},1)
exten => _49406696918X,1,Set(LIMITED=${EXTEN})
 same => n,Goto(limited,1)
"""

ID = "01a20438-6e26-76ac-8882-cafc32785893"


def says(**variables: str) -> Script:
    """A server that sets these variables, whatever it is asked, and ends properly."""
    return lambda session: session.answer(**variables)


def dies_between_two_variables(session: Session) -> None:
    session.answer(__CTI_CALL_ID=ID, CTI_TARGET="PJSIP/anna", CTI_TIMEOUT="5")


def breaks_off_between_two_variables(session: Session) -> None:
    dies_between_two_variables(session)
    session.reset()


def dies_inside_the_last_command(session: Session) -> None:
    dies_between_two_variables(session)
    session.send(b'SET VARIABLE CTI_ACTION "di')


def dies_at_once(session: Session) -> None:
    """Nothing is said."""


def never_answers(session: Session) -> None:
    session.until_the_end()


def stops_in_the_middle(session: Session) -> None:
    dies_between_two_variables(session)
    session.until_the_end()


def speaks_http(session: Session) -> None:
    session.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def rambles_on(session: Session) -> None:
    session.send(b"\xff\x80 no command\n" * 50)
    session.until_the_end()


def sends_a_line_without_end(session: Session) -> None:
    session.send(b"A" * 300_000)


#: What the server does by the last two figures of the dialled number.
SCRIPTS: dict[str, Script] = {
    "10": dies_between_two_variables,
    "11": breaks_off_between_two_variables,
    "12": dies_inside_the_last_command,
    "13": dies_at_once,
    "14": speaks_http,
    "15": sends_a_line_without_end,
    "20": says(CTI_TARGET="PJSIP/anna", CTI_ACTION="hangup"),
    "21": says(CTI_TARGET="PJSIP/anna", CTI_ACTION="h"),
    "22": says(CTI_TARGET="PJSIP/anna", CTI_ACTION="T"),
    "23": says(CTI_TARGET="PJSIP/anna", CTI_ACTION="dial,1"),
    "24": says(CTI_TARGET="PJSIP/anna", CTI_ACTION=""),
    "30": says(CTI_ACTION="dial"),
    "31": says(CTI_ACTION="dial", CTI_TARGET=""),
    "32": says(CTI_TARGET="nothing at all", CTI_ACTION="dial"),
    "33": says(CTI_TARGET="PJSIP/", CTI_ACTION="dial"),
    "34": says(CTI_TARGET="PJSIP/nobody", CTI_ACTION="dial"),
    "35": says(CTI_TARGET="SMOKE/signals&PJSIP/nobody", CTI_TIMEOUT="soon", CTI_ACTION="dial"),
    "36": says(CTI_TARGET="PJSIP/nobody&nothing&", CTI_TIMEOUT="soon", CTI_ACTION="dial"),
    "37": says(CTI_TARGET="PJSIP/nobody,1,A(a-sound)", CTI_ACTION="dial"),
    "40": says(CTI_TARGET="no-context,s,1", CTI_ACTION="fallback"),
    "41": says(CTI_TARGET="stored", CTI_ACTION="fallback"),
    "42": says(CTI_TARGET="stored,s", CTI_ACTION="fallback"),
    "43": says(CTI_TARGET="stored,s,9", CTI_ACTION="fallback"),
    "44": says(CTI_TARGET="stored,s,1,and more", CTI_ACTION="fallback"),
    "45": says(CTI_ACTION="fallback"),
    "46": says(CTI_TARGET="stored,,1", CTI_ACTION="fallback"),
    "47": says(CTI_TARGET="go", CTI_ACTION="fallback"),
    "48": says(CTI_TARGET='a quote " and ${EXTEN}, and so on', CTI_ACTION="fallback"),
    "60": never_answers,
    "61": stops_in_the_middle,
    "62": rambles_on,
    "80": never_answers,
    "81": dies_between_two_variables,
    "82": says(CTI_TARGET="PJSIP/nobody", CTI_CALLER_NAME="The CRM's word", CTI_ACTION="dial"),
}
#: The numbers at which the server accepts, and then never comes to an end.
SILENT = ("60", "61", "62", "80")

#: What AstDB has as the fallback of a number; three of them lead nowhere.
FALLBACKS = {
    "10": "stored,s,1",
    "11": "no-context,s,1",
    "12": "stored",
    "13": "go",
    "45": "stored,s,1",
    "80": "stored,s,1",
    "81": "stored,s,1",
    "82": "stored,s,1",
}
NAMED = "The trunk's word"


def number(figures: str) -> str:
    return f"4940669691{figures}"


@frozen
class Aftermath:
    """What there is to look at once every number has been called, all of them at the same time."""

    company: Company
    server: FakeAgi
    results: Mapping[str, CallResult]

    @property
    def ways(self) -> dict[str, list[str]]:
        """By the last two figures, the contexts that the call came through."""
        return {did.removeprefix(number("")): way for did, way in ways(self.company.pbx).items()}

    def shown(self, figures: str) -> str:
        """What the fallback `stored` said of this call."""
        of_the_call = channel_of(self.company.pbx, number(figures))
        (text,) = [
            step.data
            for step in steps(self.company.pbx)
            if step.context == "stored" and step.application == "NoOp" and step.channel == of_the_call
        ]
        return text


@pytest.fixture(scope="module")
def after(tmp_path_factory):
    directory = tmp_path_factory.mktemp("nonsense")
    with Company(directory, agents=[AnAgent("anna")], more_extensions=EXTENSIONS) as company:
        for figures, fallback in FALLBACKS.items():
            company.pbx.cli(f"database put cti/fallback {number(figures)} {fallback}")
        scripts = {number(figures): script for figures, script in SCRIPTS.items()}
        with FakeAgi(company.daemon.agi_port, scripts) as server:
            calls = {
                figures: company.call(did=number(figures), from_name=NAMED, talk_ms=200)
                for figures in SCRIPTS
            }
            deadline = time.monotonic() + 15
            results = {figures: as_far_as_it_came(call, deadline) for figures, call in calls.items()}
            yield Aftermath(company, server, results)


def as_far_as_it_came(call: Call, deadline: float) -> CallResult:
    """What became of a call until then."""
    try:
        return call.wait(max(0.01, deadline - time.monotonic()))
    except SippFailed:
        return call.result


@pytest.mark.parametrize("figures", SCRIPTS)
def test_the_caller_reaches_the_fallback_whatever_the_server_does(after, figures):
    result = after.results[figures]
    assert (result.final, result.ended_by) == (200, "caller")
    assert {"stored", "last-resort"} & set(after.ways[figures])


def test_the_server_was_asked_and_did_what_the_scripts_say(after):
    assert after.server.errors == []
    assert {asked["did"] for asked in after.server.asked} == {number(figures) for figures in SCRIPTS}


def test_nobody_else_is_rung(after):
    assert rung(after.company) == {"reception": len(SCRIPTS)}


def test_a_server_that_says_nothing_more_loses_the_call_after_three_seconds(after):
    guard = guard_seconds(after.company.pbx)
    print(f"the guard fired after {', '.join(f'{seconds:.2f}' for seconds in guard)} s")
    assert len(guard) == len(SILENT)
    assert all(2.9 < seconds < 10 for seconds in guard)


@pytest.mark.parametrize("figures", ["10", "45", "80", "81", "82"])
def test_the_fallback_kept_for_the_number_goes_before_the_global_one(after, figures):
    assert "stored" in after.ways[figures]
    assert "last-resort" not in after.ways[figures]


@pytest.mark.parametrize("figures", ["11", "12", "13", "40", "41", "42", "43", "44", "46", "47", "48"])
def test_a_fallback_that_does_not_exist_is_passed_over(after, figures):
    assert "last-resort" in after.ways[figures]


def test_a_server_whose_phones_never_take_the_call_is_asked_twenty_times(after):
    assert after.server.attempts(number("34")) == list(range(1, 21))


@pytest.mark.parametrize("figures", ["80", "81", "82"])
def test_what_the_company_had_set_is_as_it_was(after, figures):
    limit, rest = after.shown(figures).removeprefix("limit=").split(" ", 1)
    # What was left when we asked: the call may last longer by the seconds that we took.
    assert 55 < float(limit) <= 60
    assert rest == f"exit=the company's name={NAMED}"


def test_a_call_without_a_limit_has_none_afterwards(after):
    assert after.shown("10") == f"limit=0 exit= name={NAMED}"
