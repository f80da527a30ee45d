"""Hostile values from CRM to phone and from SIP to log: each arrives as it is or visibly cleaned, and none becomes a
command of AGI, AMI or the dialplan.

The tables are the manual: what goes in, and what comes out where that is something else.
"""

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from attrs import frozen

from cti.asterisk import agi_parser
from cti.asterisk.ami_parser import AmiFieldError, AmiParser, Event, Response, action
from lab.company import DIALLED, AnAgent, Company, contacts_csv
from lab.laboratory import Answers, eventually
from lab.ports import LOOPBACK
from tests.asterisk.raw_sip import RawCaller
from tests.faults.evidence import settled

#: What must never happen: a phone that rings, a global variable, a key in AstDB, another call.
CANARY = "PJSIP/canary"
SET_IT = "${SET(GLOBAL(CANARY)=sung)}"

KEEP = """
[from-trunk]
exten => 494066969100,1,Set(CHANNEL(hangup_handler_push)=keep,s,1)
 same => n,Goto(cti-inbound,${EXTEN},1)
exten => 494066969200,1,Set(CHANNEL(hangup_handler_push)=keep,s,1)
 same => n,Goto(cti-inbound,${EXTEN},1)
exten => direct,1,Answer()
 same => n,Wait(0.1)
 same => n,Hangup()
exten => agi,1,AGI(agi://127.0.0.1:__AGI_PORT__/torture)
 same => n,Hangup()

[keep]
exten => s,1,Set(DB(kept/${CTI_CALL_ID}/name)=${CTI_CALLER_NAME})
 same => n,Set(DB(kept/${CTI_CALL_ID}/language)=${CTI_LANGUAGE})
 same => n,Set(DB(kept/${CTI_CALL_ID}/reason)=${CTI_REASON})
 same => n,Return()

[canary]
exten => _X!,1,Set(GLOBAL(CANARY)=sung)
 same => n,Dial(PJSIP/canary)
exten => s,1,Set(GLOBAL(CANARY)=sung)
 same => n,Dial(PJSIP/canary)
"""


@frozen
class Value:
    """What is put in, and what comes out: the same unless said otherwise."""

    text: str
    shown: str | None = None

    @property
    def expected(self) -> str:
        return self.text if self.shown is None else self.shown


#: Names as a CRM may hold them. Controls and what turns the direction of text goes, line breaks become blanks,
#: blanks around go, and 256 characters are kept.
VALUES = {
    "quotes": Value('Anna "die Schnelle" Kovač'),
    "one quote": Value('"'),
    "single quotes": Value("O'Brien ''"),
    "commas": Value("Meier, Schulze, 1,Goto(canary,s,1)"),
    "a variable": Value("${EXTEN} $EXTEN ${CTI_CALL_ID}"),
    "a function": Value(SET_IT),
    "an expression": Value("$[1+1]"),
    "unfinished expressions": Value("${ $[ ${EXTEN $[1+"),
    "newlines": Value("first\nsecond\r\nthird", "first second third"),
    "an AGI command": Value('x"\nEXEC Set GLOBAL(CANARY)=sung', 'x" EXEC Set GLOBAL(CANARY)=sung'),
    "an AMI action": Value(
        "x\r\n\r\nAction: Setvar\r\nVariable: CANARY\r\nValue: sung\r\n\r\n",
        "x Action: Setvar Variable: CANARY Value: sung",
    ),
    "a SIP header": Value('x" <sip:a@b>\r\nX-Canary: sung', 'x" <sip:a@b> X-Canary: sung'),
    "NUL": Value("before\0after", "beforeafter"),
    "as long as a name may be": Value("0123456789abcdef" * 16),
    "as long, of two bytes each": Value("ж" * 256),
    "as long, of four bytes each": Value("🦊" * 256),
    "Cyrillic": Value("Катерина Ольхова"),
    "Latin-1's letters": Value("Jürgen Größe ÿ¿"),
    "emoji": Value("Zoë 🦊👩‍👩‍👧"),
    "Chinese": Value("王小明"),
    "Arabic": Value("سارة"),
    "backslashes": Value("C:\\new\\table\\"),
    "a lone backslash": Value("\\"),
    "an escaped quote": Value('\\"'),
    "semicolons": Value("a;b;;c ; comment"),
    "ampersands": Value(f"Meier & Söhne&{CANARY}"),
    "parentheses": Value(")) (( a) (b"),
    "angle brackets": Value("<sip:canary@127.0.0.1> <x>"),
    "a percent sign": Value("100%0D%0AX-Canary: 1 %s %n"),
    "equals and bars": Value("a=b|c^d~e`f"),
    "blanks around": Value("  blank  inside  ", "blank  inside"),
    "a tab": Value("a\tb", "a b"),
    "controls": Value("a\x01\x07\x1b[31mb\x7f\x85c", "a[31mbc"),
    "right to left": Value("\u202egnp.exe\u202c \u2066x\u2069", "gnp.exe x"),
    "line separators": Value("a\u2028b\u2029c", "abc"),
    "a direction mark": Value("a\u200fb\u200ec"),
    "a combining mark": Value("é́́"),
    "every byte from 0x80 as a letter": Value("".join(map(chr, range(0xA0, 0x100))).strip()),
    "a number": Value("+4940123"),
    "unknown": Value("unknown"),
}


class AgiTorture:
    """A FastAGI server that has the test's hands on one channel."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self._connection = socket.socket()
        self.port: int = self._listener.getsockname()[1]

    def accept(self) -> None:
        self._connection, _ = self._listener.accept()
        self._connection.settimeout(10)
        self._buffer = b""
        self._parser = agi_parser.AgiParser()
        while not self._parser.feed(self._connection.recv(65536)):
            pass

    def ask(self, line: bytes) -> agi_parser.Reply:
        self._parser.expect_reply()
        self._connection.sendall(line)
        while not (events := self._parser.feed(self._connection.recv(65536))):
            pass
        (reply,) = events
        assert isinstance(reply, agi_parser.Reply), reply
        return reply

    def close(self) -> None:
        self._connection.close()
        self._listener.close()


@pytest.fixture(scope="module")
def agi() -> Iterator[AgiTorture]:
    server = AgiTorture()
    yield server
    server.close()


AGENTS = [AnAgent(name, behaviour=Answers(after_ms=50)) for name in ("anna", "ben", "cora", "dora")]


SERVICES = {
    "sales": {
        "numbers": [DIALLED],
        "mode": "route",
        "instruction": SET_IT,
        "fallback": "old-context,s,1",
        "rules": [{"name": "rest", "dial": {"group": "sales"}, "timeout": 3}],
    },
    "lone": {
        "numbers": ["+494066969200"],
        "mode": "route",
        "fallback": "old-context,s,1",
        "rules": [{"name": "lone", "dial": {"agent": "lone"}, "timeout": 3}],
    },
}


@pytest.fixture(scope="module")
def company(tmp_path_factory, agi):
    extensions = KEEP.replace("__AGI_PORT__", str(agi.port))
    agents = [*AGENTS, AnAgent("canary", groups=("nobody",)), AnAgent("lone", groups=("nobody",))]
    with Company(
        tmp_path_factory.mktemp("torture"),
        agents,
        settings={"services": SERVICES},
        more_extensions=extensions,
    ) as company:
        company.knows(
            *(
                {
                    "id": str(index),
                    "type": "contact",
                    "name": value.text,
                    "numbers": number(index),
                    "language": "de",
                    "company": value.text,
                    "notes": value.text,
                }
                for index, value in enumerate(VALUES.values())
            )
        )
        company.start()
        yield company


def number(index: int) -> str:
    return f"+4917139200{index:02d}"


def kept(company: Company) -> dict[str, str]:
    """What the dialplan kept of its calls in AstDB, by `CALL/what`."""
    # Without a lock, which could keep Asterisk from writing; so what is just being written may be unreadable.
    file = f"file:{company.pbx.directory}/lib/astdb.sqlite3?immutable=1"

    def read() -> list[tuple[str, str]] | None:
        try:
            with closing(sqlite3.connect(file, uri=True)) as database:
                database.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
                return [*database.execute("SELECT key, value FROM astdb WHERE key LIKE '/kept/%'"), ("", "")]
        except sqlite3.DatabaseError:
            return None

    rows = eventually(read, what="AstDB between two writings") or []
    return {key.removeprefix("/kept/"): value for key, value in rows if key}


def no_canary_sings(company: Company) -> None:
    assert company.phones["canary"].invites == []
    assert "CANARY" not in company.pbx.cli("dialplan show globals")
    assert not re.search("^/canary", company.pbx.cli("database show"), re.MULTILINE)
    assert not company.pbx.log("Executing.*canary:")


def test_what_the_crm_says_of_a_caller_reaches_the_agents_phone_as_it_is_or_cleaned(company):
    results = []
    numbers = [number(index) for index in range(len(VALUES))]
    for first in range(0, len(numbers), len(AGENTS)):
        some = numbers[first : first + len(AGENTS)]
        results += company.lab.calls(
            company.pbx,
            "494066969100",
            count=len(some),
            rate=20,
            from_number=some,
            from_name="The trunk's word",
            talk_ms=30,
        ).wait()
        eventually(lambda: all(one["state"] == "ready" for one in company.daemon.agents().values()), 10)
    assert {result.final for result in results} == {200}
    records = {record["from"]: record for record in settled(company, len(VALUES))}
    invites = {invite.from_number: invite for agent in AGENTS for invite in company.phones[agent.id].invites}
    eventually(lambda: len(kept(company)) >= 3 * len(VALUES), 20, what="AstDB")
    in_astdb = kept(company)
    wrong = {}
    for index, (name, value) in enumerate(VALUES.items()):
        record, invite = records[number(index)], invites[number(index)]
        said = (
            invite.from_name,
            in_astdb[f"{record['id']}/name"],
            record["party"]["name"],
            invite.header("Call-Info"),
            invite.header("X-Canary"),
        )
        card = f"<https://cti.example/?call={record['id']}>;purpose=info"
        if said != (value.expected, value.expected, value.expected, card, None):
            wrong[name] = said
    assert wrong == {}
    no_canary_sings(company)


def test_what_is_no_language_or_no_name_is_refused_where_it_comes_in(company):
    def imported(**contact: str) -> str:
        file = company.directory / "refused.csv"
        file.write_text(contacts_csv([{"id": "99", "type": "contact", "name": "X", **contact}]), "utf-8")
        company.daemon.run("contacts", "import", str(file), status=1)
        return company.daemon.run("contacts", "export", "-")

    assert '"99"' not in imported(language='de",x')
    assert "99," not in imported(name="0123456789" * 1000)


def test_what_somebody_typed_as_the_reason_of_a_pause_never_reaches_the_dialplan(company):
    records = {}
    with RawCaller(company.pbx) as caller:
        for name, value in VALUES.items():
            # A longer reason is refused where it comes in.
            if value.expected is not None and len(value.text) <= 200:
                wish = {"state": "paused", "reason": value.text}
                company.daemon.request("PATCH", "/api/v1/agents/lone", wish)
                call = caller.call(b"494066969200", b"<sip:03023125200@h>")
                assert caller.wait(call) == 200
                records[name] = company.daemon.calls(limit="1")[0]
                caller.hang_up(call)
    last = records[next(reversed(records))]["id"]
    eventually(lambda: f"{last}/reason" in kept(company), 20, what="AstDB")
    in_astdb = kept(company)
    sentence = "fallback: nobody is left: lone: lone is named by the rule, but: paused"
    said = {name: {each["reason"], in_astdb[f"{each['id']}/reason"]} for name, each in records.items()}
    assert {name: texts for name, texts in said.items() if texts != {sentence}} == {}
    no_canary_sings(company)


def test_what_the_server_sets_over_agi_is_what_the_channel_has_byte_for_byte(company, agi):
    call = company.call(did="agi", talk_ms=None)
    agi.accept()
    texts = {name: value.text for name, value in VALUES.items()}
    texts["as long as a line may be"] = "x" * (agi_parser.MAX_COMMAND_BYTES - len('SET VARIABLE X ""\n'))
    for name, text in texts.items():
        expected = text.replace("\r\n", " ").replace("\n", " ").replace("\0", "")
        assert agi.ask(agi_parser.set_variable("X", text)).result == "1", name
        assert agi.ask(agi_parser.command("GET FULL VARIABLE", "${X}")).value == expected, name
        # Asterisk takes the blanks off a caller's name, and shows 255 bytes of it.
        if len(expected.encode()) < 256:
            assert agi.ask(agi_parser.set_variable("CALLERID(name)", text)).result == "1", name
            shown = agi.ask(agi_parser.command("GET FULL VARIABLE", "${CALLERID(name)}")).value
            assert shown == expected.strip(), name
        assert agi.ask(agi_parser.get_variable("CANARY")).result == "0", name
    cut = agi_parser.set_variable("X", "ж" * 5000, too_long="cut")
    assert agi.ask(cut).result == "1"
    assert agi.ask(agi_parser.command("GET FULL VARIABLE", "${X}")).value == "ж" * 1013 + "…"
    with pytest.raises(agi_parser.AgiValueError):
        agi_parser.set_variable("X", "0123456789" * 1000)
    agi.close()
    call.wait()
    no_canary_sings(company)


def test_what_the_server_writes_over_ami_is_one_action_and_comes_back_byte_for_byte(company):
    parser = AmiParser()
    with socket.create_connection((LOOPBACK, company.pbx.ami_port)) as ami:
        ami.settimeout(10)

        def ask(name: str, **fields: str) -> list[Response | Event]:
            """What comes up to the answer to a ping that is sent behind the action."""
            ami.sendall(action(name, fields, "x") + action("Ping", {}, "ping"))
            got: list[Response | Event] = []
            while not got or got[-1].action_id != "ping":
                got += [each for each in parser.feed(ami.recv(65536)) if isinstance(each, Response | Event)]
            return [each for each in got[:-1] if isinstance(each, Response) or each.action_id == "x"]

        assert (
            ask("Login", Username="cti", Secret=company.pbx.ami_secret, Events="off")[0]["Response"]
            == "Success"
        )
        for name, value in VALUES.items():
            if len(value.text.encode()) > 1000:
                continue
            expected = " ".join(re.split("\r\n|\n", value.text)).replace("\0", "").lstrip("\t ")
            (put,) = ask("DBPut", Family="torture", Key="x", Val=value.text)
            assert isinstance(put, Response), name
            # As we read it: DBGet of Asterisk 16 would show 255 bytes of it.
            got = ask("DBGetTree", Family="torture")
            if put.success:
                shown = [each["Val"] for each in got if each.get("Event") == "DBGetTreeResponse"]
                assert shown == [expected], name
        assert not ask("DBGet", Family="canary", Key="x")[0].success  # type: ignore[union-attr]
        ask("DBDel", Family="torture", Key="x")
        with pytest.raises(AmiFieldError):
            action("DBPut", {"Val": "🦊" * 256}, "1")
    no_canary_sings(company)


@frozen
class Caller:
    """A hostile INVITE: whom it calls, what stands in From; and what the log then has as the number."""

    sender: bytes
    user: bytes = b"494066969100"
    raw: str | None = None
    headers: tuple[bytes, ...] = ()
    final: int = 200
    ours: bool = True


#: One line end adds a header to the event, two end it.
FORGED = "%0D%0AUniqueid%3A%20victim%0D%0A%0D%0AEvent%3A%20Hangup%0D%0AUniqueid%3A%20victim%0D%0A%0D%0A"

#: Callers; what the log keeps as their number is without controls, and 64 characters at most.
CALLERS = {
    "a name in Latin-1": Caller(b'"J\xfcrgen Gr\xf6\xdfe" <sip:03023125001@h>', raw="03023125001"),
    "a name in broken UTF-8": Caller(b'"\xc3\x28\xff\xfe\xe2\x82" <sip:03023125002@h>', raw="03023125002"),
    "a name with quotes and backslashes": Caller(
        b'"a \\"b\\" \\\\ c" <sip:03023125003@h>', raw="03023125003"
    ),
    "a name with commas and functions": Caller(
        b'"x,1,Goto(canary,s,1) ${SET(GLOBAL(CANARY)=sung)} $[1+1]" <sip:03023125004@h>', raw="03023125004"
    ),
    "a name that is folded": Caller(b'"folded name"\r\n <sip:03023125005@h>', raw="03023125005"),
    "a name of 3,000 bytes": Caller(b'"' + b"n" * 3000 + b'" <sip:03023125006@h>', raw="03023125006"),
    "a name with escaped line ends": Caller(b'"x%0D%0AEvent: Hangup" <sip:03023125007@h>', raw="03023125007"),
    "no name": Caller(b"<sip:03023125008@h>", raw="03023125008"),
    "no number": Caller(b"<sip:h>", raw=""),
    "withheld": Caller(
        b'"Anonymous" <sip:anonymous@anonymous.invalid>', headers=(b"Privacy: id",), raw="anonymous"
    ),
    "a number with ampersands": Caller(b"<sip:1&PJSIP%2Fcanary@h>", raw="1&PJSIP/canary"),
    "a number with a comma": Caller(b"<sip:1,2%2C3@h>", raw="1,2,3"),
    "a number with parameters": Caller(b"<sip:03023125009;phone-context=x@h;user=phone>", raw="03023125009"),
    "a number with a function": Caller(
        b"<sip:$%7BSET(GLOBAL(CANARY)=sung)%7D@h>", raw="${SET(GLOBAL(CANARY)=sung)}"
    ),
    "a number with an expression": Caller(b"<sip:$%5B1+1%5D@h>", raw="$[1+1]"),
    "a number with a quote": Caller(b"<sip:1%222@h>", raw='1"2'),
    "a number with NUL": Caller(b"<sip:0302312501%000@h>", raw="0302312501"),
    "a number with a newline": Caller(b"<sip:1%0Aagi_arg_8%3A%20x@h>", raw="1agi_arg_8: x"),
    "a number that ends AGI's headers": Caller(b"<sip:1%0A%0A200%20result=1@h>", raw="1200 result=1"),
    "a number that forges events": Caller(b"<sip:1" + FORGED.encode() + b"2@h>"),
    "a long number that forges events": Caller(
        b"<sip:" + b"1" * 300 + FORGED.encode() + b"2@h>", raw="1" * 64
    ),
    "a number that forges events of a call that is not ours": Caller(
        b"<sip:1" + FORGED.encode() + b"2@h>", user=b"direct", ours=False
    ),
    "a number that forges a header of a call that is not ours": Caller(
        b"<sip:1%0D%0AUniqueid%3A%20victim@h>", user=b"direct", ours=False
    ),
    "a number in Latin-1": Caller(b"<sip:1%FC2@h>", raw="1ü2"),
    "a number of 1,000 digits": Caller(b"<sip:" + b"1" * 1000 + b"@h>", raw="1" * 64),
    "P-Asserted-Identity that forges": Caller(
        b"<sip:1@h>",
        headers=(b"P-Asserted-Identity: <sip:03023125010" + FORGED.encode() + b"@h>",),
    ),
    "Diversion with a comma": Caller(
        b"<sip:03023125011@h>", headers=(b"Diversion: <sip:1,x=2%0D%0A@h>;reason=busy",), raw="03023125011"
    ),
    "dialled with a comma": Caller(b"<sip:03023125012@h>", user=b"494066969100,s,1)x=1", raw="03023125012"),
    "dialled with an ampersand": Caller(
        b"<sip:03023125013@h>", user=b"494066969100&PJSIP%2Fcanary", raw="03023125013"
    ),
    "dialled with a function": Caller(
        b"<sip:03023125014@h>", user=b"4$%7BSET(GLOBAL(CANARY)=sung)%7D", raw="03023125014"
    ),
    "dialled with forged events": Caller(
        b"<sip:03023125015@h>",
        user=b"4%0D%0A%0D%0AEvent%3A%20Hangup%0D%0AUniqueid%3A%20victim",
        raw="03023125015",
    ),
    "dialled with forged arguments": Caller(
        b"<sip:03023125016@h>", user=b"4940%0A%0Aagi_arg_1%3A%20v=9", raw="03023125016"
    ),
    "dialled with parameters": Caller(
        b"<sip:03023125017@h>", user=b"494066969100;npdi=yes", raw="03023125017"
    ),
    "dialled a quote": Caller(b"<sip:03023125018@h>", user=b"4%22%20%7C%20%221", raw="03023125018"),
}


def test_asterisk_itself_keeps_back_what_a_caller_has_written_into_events(company):
    """The `eventfilter` with `!`: the first of the three things that stand before a forged event."""
    login = f"Action: Login\r\nUsername: cti\r\nSecret: {company.pbx.ami_secret}\r\n\r\n"
    read = b""
    with (
        socket.create_connection((LOOPBACK, company.pbx.ami_port), 10) as ami,
        RawCaller(company.pbx) as caller,
    ):
        ami.sendall(login.encode())
        while b"FullyBooted" not in read:
            read += ami.recv(65536)
        for number in (b"1" + FORGED.encode() + b"2", b"03023125100"):
            call = caller.call(b"direct", b"<sip:" + number + b"@h>")
            assert caller.wait(call) == 200
            caller.hang_up(call)
        while not re.search(rb"Event: Hangup\r\n(\S.*\r\n)*CallerIDNum: 03023125100\r\n", read):
            read += ami.recv(65536)
    assert b"victim" not in read


def test_whatever_a_caller_sends_is_one_call_to_a_person_and_data_in_the_log(company):
    daemon = company.daemon
    victim = company.call(from_number="03023125100")
    victim.wait_for(200)
    (of_victim,) = [call for call in daemon.calls() if call["from_raw"] == "03023125100"]
    uniqueid = daemon.call(of_victim["id"])["channels"][0]["uniqueid"].encode()
    seen = {call["id"] for call in daemon.calls(limit="500")}
    before = len(seen)

    def ended() -> dict[str, Any] | None:
        """The call that is new in the log, once it is over."""
        new = [call for call in daemon.calls(limit="500") if call["id"] not in seen]
        assert len(new) <= 1
        return new[0] if new and new[0]["ended"] else None

    daemon.request("PATCH", "/api/v1/agents/lone", {"state": "ready"})
    raw: dict[str, str] = {}
    with RawCaller(company.pbx) as raw_caller:
        for name, caller in CALLERS.items():
            headers = [header.replace(b"victim", uniqueid) for header in caller.headers]
            call = raw_caller.call(
                caller.user.replace(b"victim", uniqueid), caller.sender.replace(b"victim", uniqueid), *headers
            )
            assert raw_caller.wait(call) == caller.final, name
            raw_caller.hang_up(call)
            if not caller.ours:
                continue
            # A request that a caller has broken is answered by the fallback, and its record made at the end.
            record = eventually(ended, 20, what=f"the record of {name}")
            assert record is not None
            seen.add(record["id"])
            raw[name] = record["from_raw"]
            channels = daemon.call(of_victim["id"])["channels"]
            assert [channel["ended"] for channel in channels] == [None, None], name
    wrong = {
        name: raw.get(name)
        for name, caller in CALLERS.items()
        if caller.raw is not None and raw.get(name) != caller.raw
    }
    assert wrong == {}
    assert victim.hang_up().ended_by == "caller"
    settled(company, before + len(raw))
    assert re.search(r"^0 active channels", company.pbx.cli("core show channels"), re.MULTILINE)
    no_canary_sings(company)
