"""The embedded directory through the API: parties and what belongs to them, changed by who may and has seen them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import evolve
from twisted.internet.task import Clock

from adapters.base import AdapterContext, Party, PartyRef
from adapters.directory import DirectoryAdapter, DirectoryOptions, KeyOptions
from adapters.directory_file import Directory, Entry, PartyKey, PartyNumber
from cti.numbers import NumberPlan
from cti.web.masking import Masking
from cti.web.server import make_site
from tests.unit.test_web import Reply, Web

T = TypeVar("T")

GERMANY = NumberPlan("DE")
MOBILE = "+4915228817386"
PARTIES = "/api/v1/directory/parties"
KEYS = {"customer": KeyOptions("Customer number"), "card": KeyOptions("Card number", sensitive=True)}


class AtOnce(DirectoryAdapter):
    """Works where it is asked."""

    async def apart(self, work: Callable[[Directory], T]) -> T:
        return self._with_file(work)


class Api:
    """The API before a directory with one party in it, `17`."""

    def __init__(self, base: Path, *names: str) -> None:
        self.adapters = {
            name: AtOnce(name, DirectoryOptions(keys=KEYS), AdapterContext(base, GERMANY, Clock()))
            for name in names
        }
        for adapter in self.adapters.values():
            adapter.directory.open()
        self.web = Web()
        self.use(self.web.services)
        self.tokens = {
            role: self.web.token(role, "anna" if role == "agent" else None) for role in ("agent", "crm")
        }

    def use(self, services: Any) -> None:
        self.web.services = evolve(services, directories=lambda: self.adapters)
        self.web.site = make_site(self.web.services)

    @property
    def directory(self) -> Directory:
        return next(iter(self.adapters.values())).directory

    def ask(
        self, method: str, path: str, body: Any = None, *, role: str = "crm", etag: str | None = None
    ) -> Reply:
        headers = {} if etag is None else {"If-Match": etag}
        return self.web.ask(method, path, self.tokens[role], body, headers=headers)

    def shown(self, id: str = "17") -> Any:
        reply = self.ask("GET", f"{PARTIES}/{id}")
        assert reply.status == 200
        assert reply.headers["ETag"] == reply.json["etag"]
        return reply.json

    def card(self, id: str = "17") -> Party:
        party = self.directory.by_id(id)
        assert party is not None
        return party


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    api = Api(tmp_path, "directory")
    party = Party("directory", "contact", "17", "Žana Kovač", owner="u1", notes="early")
    api.directory.put(Entry(party, (PartyNumber("0152 28817386", MOBILE),)))
    yield api
    for adapter in api.adapters.values():
        adapter.directory.close()


def test_a_party_is_added_with_all_that_can_be_said_of_it(api: Api) -> None:
    body = {
        "id": "18",
        "type": "partner",
        "name": "Zoë Ward",
        "company": "Acme",
        "url": "https://crm.example/18",
        "owner": "u2",
        "tier": "gold",
        "language": "en-GB",
        "tags": ["vip"],
        "notes": "calls early",
        "organisation": "acme",
        "balance": "12 €",
        "dunning": "none",
        "numbers": [{"raw": "+44 (0)20 7946 0123", "label": "office"}],
        "keys": {"customer": "K-18", "card": "4000 1234"},
    }
    added = api.ask("POST", PARTIES, body)
    assert added.status == 201
    assert {name: added.json[name] for name in body} == {
        **body,
        "numbers": [
            {
                "raw": "+44 (0)20 7946 0123",
                "e164": "+442079460123",
                "display": "+44 20 7946 0123",
                "label": "office",
            }
        ],
        "keys": {"customer": "K-18"},
    }
    (party,) = api.directory.lookup("+442079460123")
    assert (party.id, party.type, party.owner, party.balance) == ("18", "partner", "u2", "12 €")
    assert [each.id for each in api.directory.by_key(PartyKey("card", "4000 1234"))] == ["18"]


def test_a_party_without_an_id_gets_one_and_a_known_id_is_not_taken_twice(api: Api) -> None:
    made = api.ask("POST", PARTIES, {"name": "Boris"})
    assert (made.status, made.json["type"]) == (201, "contact")
    assert api.shown(made.json["id"])["name"] == "Boris"
    again = api.ask("POST", PARTIES, {"id": "17", "name": "Boris"})
    assert (again.status, again.json["type"]) == (409, "urn:problem-type:cordboard:exists")
    assert api.shown()["name"] == "Žana Kovač"


def test_a_change_needs_the_version_that_was_seen(api: Api) -> None:
    seen = api.shown()["etag"]
    assert api.ask("PATCH", f"{PARTIES}/17", {"tier": "gold"}).status == 428
    changed = api.ask("PATCH", f"{PARTIES}/17", {"tier": "gold", "notes": "late"}, etag=seen)
    assert (changed.status, changed.json["tier"], changed.json["notes"], changed.json["owner"]) == (
        200,
        "gold",
        "late",
        "u1",
    )
    refused = api.ask("PATCH", f"{PARTIES}/17", {"tier": "silver"}, etag=seen)
    assert (refused.status, refused.json["party"]["tier"], refused.json["etag"]) == (
        412,
        "gold",
        changed.json["etag"],
    )
    assert api.ask("DELETE", f"{PARTIES}/17", etag=seen).status == 412
    assert api.ask("PATCH", f"{PARTIES}/17", {"owner": None}, etag=changed.json["etag"]).status == 200
    assert (api.card().tier, api.card().owner) == ("gold", None)


def test_numbers_are_replaced_as_a_whole(api: Api) -> None:
    changed = api.ask("PATCH", f"{PARTIES}/17", {"numbers": [{"raw": "040 66969-100"}]}, etag="*")
    assert [each["e164"] for each in changed.json["numbers"]] == ["+494066969100"]
    assert api.directory.lookup(MOBILE) == []
    assert api.directory.lookup("+494066969100")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"numbers": [{"raw": "12"}]}, "no public telephone number"),
        ({"numbers": [{"raw": MOBILE}, {"raw": "0152 28817386"}]}, "each number once"),
        ({"keys": {"contract": "1"}}, "there are card, customer"),
        ({"keys": {"customer": "taken"}}, "another party has its customer number"),
        ({"name": " "}, "has a name"),
        ({"name": ""}, "must not be empty"),
        ({"url": "javascript:alert(1)"}, "http:// or https://"),
        ({"type": "friend"}, "type"),
        ({"nonsense": 1}, "is not known"),
        ({"name": "x" * 257}, "at most 256"),
        ({"tags": ["a;b"]}, "tags"),
    ],
)
def test_what_could_not_be_kept_is_refused_with_what_would_be_right(api: Api, body: Any, why: str) -> None:
    api.directory.put(Entry(Party("directory", "contact", "1", "X"), (), (PartyKey("customer", "taken"),)))
    refused = api.ask("PATCH", f"{PARTIES}/17", body, etag="*")
    assert refused.status == 422
    assert why in str(refused.json)
    assert api.card().name == "Žana Kovač"


@pytest.mark.parametrize("id", [" ", "\u2028"])
def test_an_id_of_nothing_is_refused(api: Api, id: str) -> None:
    assert api.ask("POST", PARTIES, {"id": id, "name": "X"}).status == 422
    assert api.ask("POST", f"{PARTIES}/17/cases", {"id": id, "title": "X"}).status == 422


def test_a_party_is_removed_and_the_index_hears_of_it(api: Api) -> None:
    mark = api.directory.mark
    assert api.ask("DELETE", f"{PARTIES}/17", etag=api.shown()["etag"]).status == 204
    assert api.ask("GET", f"{PARTIES}/17").status == 404
    assert api.ask("DELETE", f"{PARTIES}/17", etag="*").status == 404
    changes = api.directory.changes(mark, 10)
    assert changes is not None
    assert changes[1] == [PartyRef("contact", "17")]


def test_cases_appointments_tasks_and_notes_come_onto_the_card(api: Api) -> None:
    for kind, body in (
        ("cases", {"id": "C-1", "title": "Rechnung", "status": "open", "opened": "2026-01-05"}),
        ("appointments", {"at": "2040-01-05T10:00:00+01:00", "title": "Visit", "user": "u2"}),
        ("tasks", {"id": "T-1", "title": "Offer", "due": "2040-01-05T10:00:00Z", "text": "by mail"}),
        ("notes", {"text": "likes tea", "at": "2026-01-05T10:00:00Z", "user": "u1"}),
    ):
        added = api.ask("POST", f"{PARTIES}/17/{kind}", body)
        assert (added.status, added.headers["ETag"]) == (201, added.json["etag"])
    shown = api.shown()
    assert shown["cases"] == [
        {"id": "C-1", "title": "Rechnung", "status": "open", "opened": "2026-01-05T00:00:00Z", "url": None}
    ]
    assert shown["appointments"][0]["at"] == "2040-01-05T09:00:00Z"
    assert (shown["tasks"][0]["text"], shown["tasks"][0]["done"]) == ("by mail", None)
    assert (shown["notes"], shown["written_notes"][0]["text"]) == ("early", "likes tea")
    card = api.card()
    assert [each.title for each in (*card.cases, *card.appointments, *card.tasks)] == [
        "Rechnung",
        "Visit",
        "Offer",
    ]
    assert card.notes == "early\n2026-01-05: likes tea"

    path = f"{PARTIES}/17/tasks/T-1"
    assert api.ask("PATCH", path, {"done": "2026-01-06"}).status == 428
    done = api.ask("PATCH", path, {"done": "2026-01-06"}, etag=shown["etag"])
    assert (done.json["tasks"][0]["done"], done.json["tasks"][0]["text"]) == (
        "2026-01-06T00:00:00Z",
        "by mail",
    )
    assert api.card().tasks == ()
    assert api.ask("DELETE", f"{PARTIES}/17/cases/C-1", etag=shown["etag"]).status == 412
    removed = api.ask("DELETE", f"{PARTIES}/17/cases/C-1", etag=done.json["etag"])
    assert (removed.status, removed.json["cases"]) == (200, [])


@pytest.mark.parametrize("kind", ["cases", "appointments", "tasks", "notes"])
def test_what_belongs_to_nobody_or_is_not_there_is_404(api: Api, kind: str) -> None:
    body = {"cases": {"title": "X"}, "appointments": {"at": "2026-01-01"}, "tasks": {"title": "X"}}.get(
        kind, {"text": "X"}
    )
    assert api.ask("POST", f"{PARTIES}/99/{kind}", body).status == 404
    assert api.ask("PATCH", f"{PARTIES}/17/{kind}/none", body, etag="*").status == 404
    assert api.ask("DELETE", f"{PARTIES}/17/{kind}/none", etag="*").status == 404


def test_an_agent_reads_a_party_notes_something_and_finishes_a_task_and_changes_nothing_else(
    api: Api,
) -> None:
    api.ask("POST", f"{PARTIES}/17/tasks", {"id": "T-1", "title": "Offer"})
    allowed = [
        ("GET", f"{PARTIES}/17", None),
        ("POST", f"{PARTIES}/17/notes", {"text": "likes tea"}),
        ("POST", f"{PARTIES}/17/tasks", {"title": "Call back"}),
        ("PATCH", f"{PARTIES}/17/tasks/T-1", {"done": "2026-01-06"}),
    ]
    for method, path, body in allowed:
        assert api.ask(method, path, body, role="agent", etag="*").status in (200, 201)
    forbidden = [
        ("GET", PARTIES, None),
        ("POST", PARTIES, {"name": "X"}),
        ("PATCH", f"{PARTIES}/17", {"tier": "gold"}),
        ("DELETE", f"{PARTIES}/17", None),
        ("POST", f"{PARTIES}/17/cases", {"title": "X"}),
        ("POST", f"{PARTIES}/17/notes", {"text": "X", "user": "u1"}),
        ("DELETE", f"{PARTIES}/17/tasks/T-1", None),
    ]
    for method, path, body in forbidden:
        assert api.ask(method, path, body, role="agent", etag="*").status == 403
    (note,) = api.shown()["written_notes"]
    assert (note["text"], note["user"]) == ("likes tea", None)


def test_what_a_role_may_not_see_is_not_in_the_directory_either(api: Api) -> None:
    api.ask("POST", f"{PARTIES}/17/notes", {"text": "likes tea"})
    api.use(evolve(api.web.services, masking=Masking({"agent": {"notes", "name", "number"}})))
    seen = api.ask("GET", f"{PARTIES}/17", role="agent").json
    assert (seen["name"], seen["notes"], seen["written_notes"]) == ("", "", [])
    assert "8817386" not in str(seen)
    assert api.ask("GET", f"{PARTIES}/17").json["name"] == "Žana Kovač"


def test_parties_are_listed_by_pages_and_found_by_words(api: Api) -> None:
    for n in range(18, 23):
        api.directory.put(Entry(Party("directory", "contact", str(n), f"Kovač {n}")))
    found, path = [], f"{PARTIES}?limit=4"
    while path:
        page = api.ask("GET", path).json
        found += [each["id"] for each in page["parties"]]
        path = f"{PARTIES}?limit=4&cursor={page['next']}" if page["next"] else ""
    assert found == ["17", "18", "19", "20", "21", "22"]
    assert [each["id"] for each in api.ask("GET", f"{PARTIES}?search=kovac%2020").json["parties"]] == ["20"]
    refused = api.ask("GET", f"{PARTIES}?cursor=x")
    assert (refused.status, refused.json["type"]) == (422, "urn:problem-type:cordboard:cursor")


def test_of_several_directories_one_is_named(tmp_path: Path) -> None:
    api = Api(tmp_path, "customers", "suppliers")
    assert api.ask("GET", PARTIES).status == 422
    assert "customers, suppliers" in api.ask("GET", PARTIES).json["detail"]
    assert (
        api.ask("POST", f"{PARTIES}?adapter=suppliers", {"id": "1", "name": "X"}).json["adapter"]
        == "suppliers"
    )
    assert api.ask("GET", f"{PARTIES}?adapter=customers").json["parties"] == []
    assert api.ask("GET", f"{PARTIES}?adapter=others").status == 422


def test_without_a_directory_there_is_nothing_to_edit() -> None:
    web = Web()
    refused = web.ask("GET", PARTIES, web.token("admin"))
    assert refused.status == 404
    assert "kind: directory" in refused.json["detail"]


def test_a_directory_that_is_broken_is_a_503(api: Api) -> None:
    api.directory.close()
    api.directory.path.write_bytes(b"no database" * 1000)
    refused = api.ask("GET", f"{PARTIES}/17")
    assert (refused.status, refused.json["type"]) == (503, "urn:problem-type:cordboard:directory")


def test_who_changed_what_is_written_down_without_what_was_said(api: Api) -> None:
    api.ask("PATCH", f"{PARTIES}/17", {"name": "Zoë", "keys": {"card": "4000 1234"}}, etag="*")
    (entry,) = [each for each in api.web.doors.written if each.action == f"PATCH {PARTIES}/{{id}}"]
    assert (entry.object, entry.who) == ("17", "crm token")
    assert "4000" not in str(entry)
    assert "Zoë" not in str(entry)
