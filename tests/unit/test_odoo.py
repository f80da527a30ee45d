"""What the adapter makes of an Odoo that is older, broken or answers nonsense; a real one is in `tests/crm`."""

from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from attrs import define, field
from twisted.internet.defer import Deferred

from adapters.base import (
    AdapterAnswerError,
    AdapterDenied,
    AdapterError,
    AdapterUnavailable,
    MarkLost,
    PartyRef,
    PartyType,
)
from adapters.http_client import Answer
from adapters.odoo import OdooAdapter, OdooOptions, _Odoo
from adapters.odoo_api import Json2, JsonRpc, OdooLogin, OdooRefused, open_api
from adapters.odoo_records import LEAD, PARTNER, Reader, html_of, text_of
from adapters.trial import a_context
from cti.numbers import NumberPlan
from cti.secret import Secret

PLAN = NumberPlan("DE")
LOGIN = OdooLogin("https://odoo.example", "crm", "cordboard", "a-key")


def now(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine that waits for nobody gives or raises."""
    outcome: list[Any] = []
    done = Deferred.fromCoroutine(work)
    done.addBoth(outcome.append)
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


@define
class Answering:
    """An Odoo that has these records, whatever it is asked for."""

    records: Mapping[str, Any] = field(factory=dict)
    asked: list[tuple[str, str, Mapping[str, Any]]] = field(factory=list)

    async def call(
        self, model: str, method: str, ids: Sequence[int] = (), *, reads: bool = False, **arguments: Any
    ) -> Any:
        self.asked.append((model, method, arguments))
        return self.records.get(model, [])


def an_adapter(tmp_path: Path, odoo: Answering, numbers: Sequence[str] = ("phone",)) -> OdooAdapter:
    adapter = OdooAdapter("odoo", OdooOptions("https://odoo.example", Secret("a-key")), a_context(tmp_path))
    reader = Reader("odoo", "https://odoo.example", PLAN, {57: "DE", 14: "AT"})
    adapter._found = _Odoo(
        odoo, reader, {PARTNER: numbers, LEAD: numbers}, frozenset({"ref"}), archives=True, calendar=False
    )
    return adapter


def a_partner(id: int, phone: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "name": f"Partner {id}", "phone": phone, "is_company": False, **more}


def test_who_comes_back_without_having_the_number_is_left_out(tmp_path: Path) -> None:
    everybody = [a_partner(n, f"+49 30 23125 {n}") for n in range(100, 200)]
    adapter = an_adapter(tmp_path, Answering({PARTNER: everybody}))
    found = now(adapter.identify(PLAN.parse("+493023125142")))
    assert [party.id for party in found] == ["142"]
    assert now(adapter.identify(PLAN.parse("+4915228817386"))) == []


def test_numbers_are_read_by_the_contacts_own_country(tmp_path: Path) -> None:
    partner = a_partner(7, "030 23125 123", country_id=[14, "Austria"])
    adapter = an_adapter(tmp_path, Answering({PARTNER: [partner]}))
    assert now(adapter.identify(PLAN.parse("+493023125123"))) == []


def test_the_number_that_an_odoo_before_19_did_not_sanitise_is_found(tmp_path: Path) -> None:
    partner = a_partner(7, "040 66969-0", mobile="0152 28817386", phone_sanitized="+4915228817386")
    odoo = Answering({PARTNER: [partner]})
    adapter = an_adapter(tmp_path, odoo, ("phone", "mobile"))
    for number in ("+4940669690", "+4915228817386"):
        assert [party.id for party in now(adapter.identify(PLAN.parse(number)))] == ["7"]
    (domain, fields) = (odoo.asked[0][2][name] for name in ("domain", "fields"))
    assert ["phone_mobile_search", "=", "040669690"] in domain
    assert {"phone", "mobile"} <= set(fields)


@pytest.mark.parametrize(
    "answer",
    [
        {"ids": [1]},
        "text",
        [7],
        [{"name": "no id"}],
        [a_partner(7, "+49 30 23125 123", category_id=5)],
        [a_partner(7, "+49 30 23125 123", commercial_partner_id=[])] * 2 + [{"id": None}],
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_of_ours(tmp_path: Path, answer: Any) -> None:
    adapter = an_adapter(tmp_path, Answering({PARTNER: answer}))
    try:
        found = now(adapter.identify(PLAN.parse("+493023125123")))
    except AdapterError:
        return
    assert all(party.name == "Partner 7" for party in found)


def test_a_party_that_odoo_cannot_have_is_nobody(tmp_path: Path) -> None:
    odoo = Answering()
    adapter = an_adapter(tmp_path, odoo)
    for id in ("0", "-1", "1,2", "٣", "9" * 30, "2147483648"):
        assert now(adapter.card(PartyRef(PartyType.CONTACT, id))) is None
    assert odoo.asked == []


@pytest.mark.parametrize("mark", ["", "[]", "{}", '{"known":{"res.partner":["x",1]}}', '{"known":5}'])
def test_a_mark_of_anybody_elses_is_lost(tmp_path: Path, mark: str) -> None:
    with pytest.raises(MarkLost):
        now(an_adapter(tmp_path, Answering()).changes(mark))


# Its interfaces.


@define
class Server:
    """An Odoo as its HTTP interface shows it: status and body of each answer, in turn."""

    answers: list[tuple[int, Any]]
    asked: list[tuple[str, Any]] = field(factory=list)

    async def request(self, method: str, url: str, *, json: Any = None, **_: Any) -> Answer:
        self.asked.append((url.removeprefix("https://odoo.example"), json))
        status, body = self.answers.pop(0)
        return Answer(status, {"content-type": "application/json"}, orjson.dumps(body), "odoo")


def result(of: Any) -> tuple[int, Any]:
    return 200, {"jsonrpc": "2.0", "id": 1, "result": of}


def failure(name: str) -> tuple[int, Any]:
    data = {"name": name, "message": "Ada Byron, +49 30 23125 123", "debug": "Traceback …"}
    return 200, {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": 0, "message": "Odoo Server Error", "data": data},
    }


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (result({"server_version_info": [19, 0, 0, "final", 0, ""]}), Json2),
        (result({"server_version_info": [20, 0, 0, "final", 0, ""]}), Json2),
        # Whoever has no JSON-RPC any more.
        ((404, {}), Json2),
        (result({"server_version_info": [18, 0, 0, "final", 0, ""]}), JsonRpc),
        (result({"server_version_info": ["saas~18", 3, 0, "final", 0, ""]}), JsonRpc),
        (result({"server_version_info": [14, 0, 0, "final", 0, ""]}), JsonRpc),
    ],
)
def test_the_interface_follows_from_the_version(answer: tuple[int, Any], kind: type) -> None:
    server: Any = Server([answer])
    assert isinstance(now(open_api(server, LOGIN, None)), kind)


def test_json_rpc_without_login_says_what_it_needs() -> None:
    server: Any = Server([])
    with pytest.raises(AdapterUnavailable, match="needs `login` and `database`"):
        now(open_api(server, OdooLogin(LOGIN.url, None, None, "a-key"), "jsonrpc"))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("builtins.ValueError", OdooRefused),
        ("odoo.exceptions.MissingError", OdooRefused),
        ("odoo.exceptions.AccessError", AdapterDenied),
        ("odoo.exceptions.AccessDenied", AdapterDenied),
        ("psycopg2.errors.SerializationFailure", AdapterUnavailable),
        ("psycopg2.OperationalError", AdapterUnavailable),
    ],
)
def test_what_odoo_says_is_never_quoted(name: str, error: type[AdapterError]) -> None:
    server: Any = Server([result(5), failure(name)])
    with pytest.raises(error) as raised:
        now(JsonRpc(server, LOGIN).call("res.partner", "read"))
    assert "Ada" not in str(raised.value)
    assert "23125" not in str(raised.value)
    if error is AdapterDenied:
        return  # 401 and 403, which mean the same for all servers.
    server = Server([(500, {"name": name, "message": "Ada Byron, +49 30 23125 123"})])
    with pytest.raises(error) as raised:
        now(Json2(server, LOGIN).call("res.partner", "read"))
    assert "Ada" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((502, "bad gateway"), AdapterUnavailable),
        ((404, {}), AdapterAnswerError),
        ((200, "<html>"), AdapterAnswerError),
    ],
)
def test_what_is_no_odoo_is_told_as_such(answer: tuple[int, Any], error: type[AdapterError]) -> None:
    server: Any = Server([answer, answer])
    with pytest.raises(error):
        now(JsonRpc(server, LOGIN).call("res.partner", "read"))
    if answer[0] != 200:
        with pytest.raises(error):
            now(Json2(server, LOGIN).call("res.partner", "read"))


def test_a_login_that_is_refused_is_asked_for_again_next_time() -> None:
    server: Any = Server([result(False), result(5), result([])])
    api = JsonRpc(server, LOGIN)
    with pytest.raises(AdapterDenied, match="`login` and `key`"):
        now(api.call("res.partner", "read"))
    assert now(api.call("res.partner", "read")) == []


# Text.


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>Hello <b>you</b></p><p>&amp; all</p>", "Hello you\n& all"),
        ("one<br/>two<br>three", "one\ntwo\nthree"),
        ("<style>p {}</style>seen<script>evil()</script>", "seen"),
        ("<ul><li>a</li><li>b</li></ul>", "a\nb"),
        ("5 < 6 & 7", "5 < 6 & 7"),
        ("<p>a\n   b\xa0c</p>", "a b c"),
        (False, ""),
        (None, ""),
        ("<" * 10_000, "<" * 10_000),
    ],
)
def test_html_is_read_as_people_read_it(markup: object, text: str) -> None:
    assert text_of(markup) == text


@pytest.mark.parametrize("text", ["plain", "<b>5 < 6</b> & \"quoted\" 'so'", "two\nlines", "😀 שלום"])
def test_text_stays_what_it_is_in_html(text: str) -> None:
    assert text_of(html_of(text)) == text
