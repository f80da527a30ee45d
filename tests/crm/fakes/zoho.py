"""Zoho CRM as its documentation has it; see the head of ``adapters/presets/zoho.yaml`` for the pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, fields_of

CLIENT, SECRET, REFRESH = "1000.CLIENT", "zoho-secret-4711", "1000.refresh-0815"
USER = "554023000000235011"
_MODULES = {"Contacts": "contact", "Accounts": "organisation", "Leads": "lead"}
_FIELDS = {
    "Contacts": ("First_Name", "Last_Name", "Account_Name", "Owner", "Description", "Email"),
    "Accounts": ("Account_Name", "Owner", "Description"),
    "Leads": ("First_Name", "Last_Name", "Company", "Owner", "Lead_Status", "Description", "Email"),
}
_ACTIVITY = ("Subject", "Description", "Owner", "Who_Id", "What_Id", "$se_module")
_CALL = (*_ACTIVITY, "Call_Agenda", "Call_Type", "Call_Start_Time", "Call_Duration")


def error(code: str, status: int = 400, **details: str) -> Refused:
    return Refused(status, {"code": code, "details": details, "message": "refused", "status": "error"})


class Zoho(FakeCrm):
    number_fields: ClassVar = {
        "contact": ("Phone", "Mobile", "Other_Phone"),
        "organisation": ("Phone",),
        "lead": ("Phone", "Mobile"),
    }
    page_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.token = ""
        self.logins = 0

    def handle(self, request: Request) -> Answer:
        if (request.method, request.path) == ("POST", "/oauth/v2/token"):
            given = request.form(needed=["grant_type", "client_id", "client_secret", "refresh_token"])
            if list(given.values()) != ["refresh_token", CLIENT, SECRET, REFRESH]:
                return Answer(200, {"error": "invalid_code"})
            self.logins += 1
            self.token = f"1000.access-{self.logins}"
            return Answer(body={"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"})
        if request.headers.get("authorization") != f"Zoho-oauthtoken {self.token}" or not self.token:
            raise error("INVALID_TOKEN", 401)
        match request.method, request.parts:
            case "GET", ["crm", "v8", "users"]:
                request.only("type", "per_page")
                return Answer(
                    body={"users": [{"id": USER, "full_name": "Anna Adler", "email": "a@crm.example"}]}
                )
            case "GET", ["crm", "v8", "Calls", "search"]:
                asked = request.only(needed=["criteria", "fields"])
                (key,) = re.fullmatch(r"\(Call_Agenda:equals:([^():]+)\)", asked["criteria"]).groups()  # type: ignore[union-attr]
                found = [
                    {"id": id_} for id_, call in self.calls.items() if call["fields"]["Call_Agenda"] == key
                ]
                return self._data(found)
            case "GET", ["crm", "v8", "Deals", "search"]:
                request.only(needed=["criteria", "fields"])
                return Answer(204)
            case "POST" | "PUT", ["crm", "v8", "Calls", *id_]:
                return self._call(request, *id_)
            case "DELETE", ["crm", "v8", "Calls", id_]:
                if self.calls.pop(id_, None) is None:
                    raise error("INVALID_DATA", api_name="id")
                return Answer(body={"data": [{"code": "SUCCESS", "status": "success"}]})
            case "POST", ["crm", "v8", "Notes"]:
                (note,) = request.json()["data"]
                parent = fields_of(note, "Note_Title", needed=["Note_Content", "Parent_Id"])["Parent_Id"]
                person = self._person(parent["module"]["api_name"], parent["id"])
                return self._made(self.notes, {"party": person.id, "text": note["Note_Content"]})
            case "POST", ["crm", "v8", "Tasks"]:
                (sent,) = request.json()["data"]
                task = fields_of(sent, *_ACTIVITY, "Due_Date")
                if not re.fullmatch(r"\d{4}-\d\d-\d\d", task["Due_Date"]):
                    raise error("INVALID_DATA", api_name="Due_Date")
                entry = {"title": task["Subject"], "due": f"{task['Due_Date']}T00:00:00+00:00"}
                return self._made(
                    self.tasks, {"party": self._about(task).id, "owner": task["Owner"]["id"], **entry}
                )
            case "GET", ["crm", "v8", module, "search"] if module in _MODULES:
                return self._search(module, request.only("criteria", "word", needed=["fields"]))
            case "GET", ["crm", "v8", module] if module in _MODULES:
                return self._list(module, request.only("per_page", "page_token", needed=["fields"]))
            case "GET", ["crm", "v8", module, id_] if module in _MODULES:
                request.only()
                return self._data([self._record(self._person(module, id_))])
            case "POST", ["crm", "v8", module] if module in _MODULES:
                (sent,) = fields_of(request.json(), "trigger", needed=["data"])["data"]
                person = self.take(_MODULES[module], sent, *_FIELDS[module])
                return Answer(201, {"data": [{"code": "SUCCESS", "details": {"id": person.id}}]})
        raise error("INVALID_URL_PATTERN", 404)

    def _record(self, person: Person) -> dict[str, Any]:
        return {"id": person.id, "Owner": {"id": USER, "name": "Anna"}, **self.record(person)}

    def _person(self, module: str, id_: str) -> Person:
        person = self.people.get(id_)
        if person is None or person.type != _MODULES[module]:
            raise error("INVALID_DATA", 400, api_name="id")
        return person

    def _data(self, found: list[dict[str, Any]]) -> Answer:
        return Answer(body={"data": found, "info": {"more_records": False}}) if found else Answer(204)

    def _made(self, kept: dict[str, dict[str, Any]], entry: dict[str, Any]) -> Answer:
        id_ = self.new_id()
        kept[id_] = entry
        return Answer(201, {"data": [{"code": "SUCCESS", "details": {"id": id_}, "status": "success"}]})

    def _search(self, module: str, asked: Mapping[str, str]) -> Answer:
        people = [person for person in self.people.values() if person.type == _MODULES[module]]
        if unknown := set(asked["fields"].split(",")) - {
            *_FIELDS[module],
            *self.number_fields[_MODULES[module]],
        }:
            raise error("INVALID_DATA", api_name=str(unknown))
        if "word" in asked:
            word = asked["word"].casefold()
            return self._data([self._record(p) for p in people if word in str(self.record(p)).casefold()])
        criteria = re.findall(r"\((\w+):equals:([^():]*)\)", asked["criteria"])
        whole = "(" + "or".join(f"({name}:equals:{value})" for name, value in criteria) + ")"
        if whole != asked["criteria"] or not 0 < len(criteria) <= 15:
            raise error("INVALID_QUERY")
        found = [p for p in people if any(self.record(p).get(name) == value for name, value in criteria)]
        return self._data([self._record(person) for person in found])

    def _list(self, module: str, asked: Mapping[str, str]) -> Answer:
        after = int(asked.get("page_token", "0"))
        rest = [p for p in self.people.values() if p.type == _MODULES[module] and int(p.id) > after]
        page = rest[: self.page_size]
        if not page:
            return Answer(204)
        more = len(rest) > len(page)
        info = {"more_records": more, "next_page_token": page[-1].id if more else None}
        return Answer(body={"data": [self._record(person) for person in page], "info": info})

    def _about(self, activity: Mapping[str, Any]) -> Person:
        if "Who_Id" in activity:
            return self._person("Contacts", activity["Who_Id"]["id"])
        return self._person(activity["$se_module"], activity["What_Id"]["id"])

    def _call(self, request: Request, id_: str | None = None) -> Answer:
        (sent,) = request.json()["data"]
        call = fields_of(sent, *_CALL)
        if call["Call_Type"] not in ("Inbound", "Outbound", "Missed"):
            raise error("INVALID_DATA", api_name="Call_Type")
        if not re.fullmatch(r"\d\d:\d\d", call["Call_Duration"]):
            raise error("INVALID_DATA", api_name="Call_Duration")
        person = self._about(call)
        number = self.plan.parse(person.numbers[0]).e164
        entry = {"number": number, "text": call["Description"], "fields": call}
        if id_ is None:
            return self._made(self.calls, entry)
        if id_ not in self.calls:
            raise error("INVALID_DATA", api_name="id")
        self.calls[id_] = entry
        return Answer(body={"data": [{"code": "SUCCESS", "details": {"id": id_}, "status": "success"}]})
