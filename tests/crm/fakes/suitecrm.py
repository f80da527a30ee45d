"""SuiteCRM's V8 API as its documentation and its filters' source have it; see ``adapters/presets/suitecrm.yaml``."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, fields_of

CLIENT, SECRET = "suite-client", "suite-secret-4711"
USER = "1f2e0d3c-user"
_MODULES = {"Contacts": "contact", "Accounts": "organisation", "Leads": "lead"}
_FIELDS = {
    "Contacts": ("first_name", "last_name", "account_name", "description", "assigned_user_id"),
    "Accounts": ("name", "description", "assigned_user_id"),
    "Leads": ("first_name", "last_name", "account_name", "status", "description", "assigned_user_id"),
}
_PARENT = ("name", "description", "parent_type", "parent_id", "assigned_user_id")
_CALL = (*_PARENT, "direction", "status", "date_start", "duration_hours", "duration_minutes")
_TASK = (*_PARENT, "date_due", "status", "priority")
_FILTER = re.compile(r"filter\[(\w+)\](?:\[(\w+)\])?")


def error(status: int, detail: str) -> Refused:
    return Refused(status, {"errors": {"status": status, "title": "refused", "detail": detail}})


class SuiteCrm(FakeCrm):
    number_fields: ClassVar = {
        "contact": ("phone_work", "phone_mobile", "phone_home", "phone_other"),
        "organisation": ("phone_office", "phone_alternate"),
        "lead": ("phone_work", "phone_mobile"),
    }
    defaults: ClassVar = {"assigned_user_id": USER}

    def __init__(self) -> None:
        super().__init__()
        self.token = ""

    def new_id(self) -> str:
        return str(uuid.UUID(int=int(super().new_id())))

    def handle(self, request: Request) -> Answer:
        if request.headers.get("content-type", "application/vnd.api+json") != "application/vnd.api+json":
            raise error(415, "Invalid content type")
        sent = self._sent(request)
        if (request.method, request.path) == ("POST", "/Api/access_token"):
            given = fields_of(sent, needed=["grant_type", "client_id", "client_secret"])
            if list(given.values()) != ["client_credentials", CLIENT, SECRET]:
                return Answer(401, {"error": "invalid_client"})
            self.token = f"token-{self.new_id()}"
            return Answer(body={"token_type": "Bearer", "expires_in": 3600, "access_token": self.token})
        if request.headers.get("authorization") != f"Bearer {self.token}" or not self.token:
            raise Refused(401, {"error": "access_denied"})
        match request.method, request.parts:
            case "GET", ["Api", "V8", "module", module]:
                return self._listed(module, request)
            case "GET", ["Api", "V8", "module", module, id_]:
                request.only()
                if module == "Calls" and id_ in self.calls:
                    return Answer(body={"data": {"type": "Call", "id": id_}})
                return Answer(body={"data": self._record(self._person(module, id_))})
            case ("POST" | "PATCH") as method, ["Api", "V8", "module"]:
                data = fields_of(
                    fields_of(sent, needed=["data"])["data"], "id", needed=["type", "attributes"]
                )
                return self._written(method == "PATCH", data)
            case "POST", ["Api", "V8", "module", "Calls", id_, "relationships"]:
                data = fields_of(sent["data"], needed=["type", "id"])
                self._person(data["type"], data["id"])
                if id_ not in self.calls:
                    raise error(404, "no such call")
                return Answer(201, {"meta": {"message": "added"}})
            case "DELETE", ["Api", "V8", "module", "Calls", id_]:
                if self.calls.pop(id_, None) is None:
                    raise error(404, "no such call")
                return Answer(body={"meta": {"message": "deleted"}})
            case "DELETE", ["Api", "V8", "module", "Calls", id_, "relationships", "contacts", contact]:
                self._person("Contacts", contact)
                return Answer(body={"meta": {"message": "deleted"}})
        raise error(404, "Not found")

    def _sent(self, request: Request) -> Any:
        return json.loads(request.body) if request.body else {}

    def _person(self, module: str, id_: str) -> Person:
        person = self.people.get(id_)
        if person is None or person.type != _MODULES.get(module):
            raise error(404, f"{module} with id {id_} is not found")
        return person

    def _record(self, person: Person) -> dict[str, Any]:
        attributes = {name: value or "" for name, value in self.record(person).items()}
        return {"type": person.type, "id": person.id, "attributes": {**attributes, "deleted": "0"}}

    def _listed(self, module: str, request: Request) -> Answer:
        filters: list[tuple[str, str, str]] = []
        operator, size, number = "and", 20, 1
        for name, value in request.query:
            if name == "page[size]":
                size = int(value)
            elif name == "page[number]":
                number = int(value)
            elif name == "filter[operator]":
                operator = value
            elif (match := _FILTER.fullmatch(name)) is not None and match[2]:
                filters.append((match[1], match[2], value))
            elif name != "sort":
                raise error(400, f"unknown parameter {name}")
        if len({(field, op) for field, op, _ in filters}) != len(filters):
            raise error(400, "a filter is there twice: PHP keeps the last")
        if module == "Users":
            anna = {"first_name": "Anna", "last_name": "Adler", "user_name": "anna", "phone_work": "17"}
            return Answer(body={"data": [{"type": "User", "id": USER, "attributes": anna}]})
        if "deleted" not in {field for field, _, _ in filters}:
            # As the source has it, also among alternatives.
            filters.append(("deleted", "eq", "0"))
        known = {*_FIELDS[module], *self.number_fields[_MODULES[module]], "deleted"}
        if unknown := {field for field, _, _ in filters} - known:
            raise error(400, f"Filter field {unknown} is not found")
        found = []
        for person in self.people.values():
            if person.type == _MODULES[module]:
                record = self._record(person)
                held = [_holds(str(record["attributes"].get(f) or ""), op, value) for f, op, value in filters]
                if any(held) if operator == "or" else all(held):
                    found.append(record)
        return Answer(body={"data": found[(number - 1) * size : number * size], "meta": {"total-pages": 1}})

    def _written(self, update: bool, data: Mapping[str, Any]) -> Answer:
        module, attributes = data["type"], data["attributes"]
        if module in _MODULES and not update:
            person = self.take(_MODULES[module], attributes, *_FIELDS[module])
            return Answer(201, {"data": self._record(person)})
        id_ = data.get("id") or self.new_id()
        uuid.UUID(id_)
        match module:
            case "Calls":
                if (id_ in self.calls) is not update:
                    raise error(400, f"Bean {module} with id {id_} is already there, or not")
                call = fields_of(attributes, *_CALL)
                if call["direction"] not in ("Inbound", "Outbound") or call["status"] not in (
                    "Held",
                    "Not Held",
                ):
                    raise error(400, "unknown direction or status")
                number = self._person(call["parent_type"], call["parent_id"]).numbers[0]
                e164 = self.plan.parse(number).e164
                self.calls[id_] = {"number": e164, "text": call["description"], "fields": call}
            case "Notes":
                note = fields_of(attributes, *_PARENT)
                person = self._person(note["parent_type"], note["parent_id"])
                self.notes[id_] = {"party": person.id, "text": note["description"]}
            case "Tasks":
                task = fields_of(attributes, *_TASK)
                person = self._person(task["parent_type"], task["parent_id"])
                entry = {"title": task["name"], "due": task["date_due"], "owner": task["assigned_user_id"]}
                self.tasks[id_] = {"party": person.id, **entry}
            case _:
                raise error(400, "unknown module")
        return Answer(201, {"data": {"type": module, "id": id_, "attributes": attributes}})


def _holds(held: str, operator: str, value: str) -> bool:
    left, right = held.casefold(), value.casefold()
    match operator.lower():
        case "eq":
            return left == right
        case "gt":
            return left > right
        case "gte":
            return left >= right
        case "lt":
            return left < right
    raise error(400, f"Filter operator {operator} is invalid")
