"""Bitrix24 as its documentation has it; see the head of ``adapters/presets/bitrix24.yaml`` for the pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, digits, fields_of

USER, CODE = "7", "bitrix-code-4711"
_KINDS = {"contact": "contact", "company": "organisation", "lead": "lead"}
_FIELDS = {
    "contact": ("NAME", "LAST_NAME", "COMMENTS", "OPENED", "PHONE", "ASSIGNED_BY_ID", "COMPANY_ID"),
    "company": ("TITLE", "COMMENTS", "OPENED", "PHONE", "ASSIGNED_BY_ID"),
    "lead": (
        *("TITLE", "NAME", "LAST_NAME", "COMPANY_TITLE", "COMMENTS", "OPENED", "PHONE", "ASSIGNED_BY_ID"),
        "STATUS_ID",
    ),
}
_ACTIVITY = (
    *("TYPE_ID", "OWNER_TYPE_ID", "OWNER_ID", "COMMUNICATIONS", "SUBJECT", "DESCRIPTION", "DESCRIPTION_TYPE"),
    *("DIRECTION", "RESPONSIBLE_ID", "START_TIME", "END_TIME", "COMPLETED", "ORIGINATOR_ID", "ORIGIN_ID"),
)
_OWNERS = {1: "lead", 3: "contact", 4: "organisation"}


def error(code: str, text: str, status: int = 400) -> Refused:
    return Refused(status, {"error": code, "error_description": text})


class Bitrix24(FakeCrm):
    page_size = 3

    def handle(self, request: Request) -> Answer:
        match request.method, request.parts:
            case "POST", ["rest", user, code, method] if method.endswith(".json"):
                if (user, code) != (USER, CODE):
                    raise error("INVALID_CREDENTIALS", "Invalid request credentials", 401)
                result = self._called(method.removesuffix(".json"), request.json())
                return Answer(body={"result": result, "time": {"start": 1, "finish": 2}})
        raise error("ERROR_METHOD_NOT_FOUND", "Method not found!", 404)

    def add(self, type: str, *numbers: str, **fields: Any) -> Person:
        person = Person(self.new_id(), type, {"ASSIGNED_BY_ID": USER, **fields}, list(numbers))
        self.people[person.id] = person
        return person

    def _called(self, method: str, sent: Mapping[str, Any]) -> Any:
        match method.split("."):
            case ["crm", "duplicate", "findbycomm"]:
                return self._duplicates(fields_of(sent, "entity_type", needed=["type", "values"]))
            case ["crm", ("contact" | "company" | "lead") as kind, "list"]:
                return self._listed(kind, fields_of(sent, "filter", "order", "select", "start"))
            case ["crm", ("contact" | "company" | "lead") as kind, "get"]:
                person = self.people.get(str(fields_of(sent, needed=["id"])["id"]))
                if person is None or person.type != _KINDS[kind]:
                    raise error("", "Not found")
                return self._record(person)
            case ["crm", ("contact" | "company" | "lead") as kind, "add"]:
                new = fields_of(fields_of(sent, needed=["fields"])["fields"], *_FIELDS[kind])
                phones = [
                    fields_of(each, needed=["VALUE", "VALUE_TYPE"])["VALUE"] for each in new.pop("PHONE")
                ]
                return int(self.add(_KINDS[kind], *phones, **new).id)
            case ["crm", "deal", "list"]:
                fields_of(sent, "filter", "order", "select")
                return []
            case ["crm", "activity", "list"]:
                wanted = fields_of(sent["filter"], needed=["ORIGINATOR_ID", "ORIGIN_ID"])
                return [
                    {"ID": id_}
                    for id_, call in self.calls.items()
                    if call["fields"]["ORIGIN_ID"] == wanted["ORIGIN_ID"]
                ]
            case ["crm", "activity", "add"]:
                id_ = self.new_id()
                self.calls[id_] = self._activity(fields_of(sent, needed=["fields"])["fields"])
                return int(id_)
            case ["crm", "activity", "update"]:
                given = fields_of(sent, needed=["id", "fields"])
                if str(given["id"]) not in self.calls:
                    raise error("", "Activity is not found.")
                self.calls[str(given["id"])] = self._activity(given["fields"])
                return True
            case ["crm", "activity", "delete"]:
                if self.calls.pop(str(fields_of(sent, needed=["id"])["id"]), None) is None:
                    raise error("", "Not found")
                return True
            case ["crm", "timeline", "comment", "add"]:
                given = fields_of(sent["fields"], needed=["ENTITY_TYPE", "ENTITY_ID", "COMMENT"])
                self._person(given["ENTITY_ID"], _KINDS[given["ENTITY_TYPE"]])
                id_ = self.new_id()
                self.notes[id_] = {"party": str(given["ENTITY_ID"]), "text": given["COMMENT"]}
                return int(id_)
            case ["tasks", "task", "add"]:
                task = fields_of(
                    sent["fields"],
                    "DESCRIPTION",
                    "DEADLINE",
                    needed=["TITLE", "RESPONSIBLE_ID", "UF_CRM_TASK"],
                )
                kind, _, party = task["UF_CRM_TASK"][0].partition("_")
                self._person(party, {"C": "contact", "CO": "organisation", "L": "lead"}[kind])
                id_ = self.new_id()
                self.tasks[id_] = {
                    "party": party,
                    "title": task["TITLE"],
                    "due": task["DEADLINE"],
                    "owner": task["RESPONSIBLE_ID"],
                }
                return {"task": {"id": id_, "title": task["TITLE"]}}
            case ["user", "get"]:
                fields_of(sent, "FILTER", "start")
                if sent.get("start"):
                    return []
                return [
                    {
                        "ID": USER,
                        "NAME": "Anna",
                        "LAST_NAME": "Adler",
                        "EMAIL": "a@crm.example",
                        "ACTIVE": True,
                    }
                ]
        raise error("ERROR_METHOD_NOT_FOUND", "Method not found!", 404)

    def _person(self, id_: Any, type: str) -> Person:
        person = self.people.get(str(id_))
        if person is None or person.type != type:
            raise error("", "Owner was not found.")
        return person

    def _record(self, person: Person) -> dict[str, Any]:
        phones = [
            {"ID": str(at), "VALUE_TYPE": "WORK", "VALUE": number, "TYPE_ID": "PHONE"}
            for at, number in enumerate(person.numbers)
        ]
        return {"ID": person.id, "COMPANY_ID": None, "COMMENTS": "", **person.fields, "PHONE": phones}

    def _duplicates(self, asked: Mapping[str, Any]) -> Any:
        if asked["type"] != "PHONE" or not isinstance(asked["values"], list) or len(asked["values"]) > 20:
            raise error("", "Parameter 'values' must be an array of up to 20")
        wanted = {digits(value) for value in asked["values"]}
        found: dict[str, list[int]] = {}
        for person in self.people.values():
            if any(digits(number) in wanted for number in person.numbers):
                kind = {"contact": "CONTACT", "organisation": "COMPANY", "lead": "LEAD"}[person.type]
                found.setdefault(kind, []).append(int(person.id))
        return found or []

    def _listed(self, kind: str, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = [person for person in self.people.values() if person.type == _KINDS[kind]]
        for name, value in asked.get("filter", {}).items():
            if name == "@ID":
                found = [person for person in found if int(person.id) in value]
            elif name == ">ID":
                found = [person for person in found if int(person.id) > int(value)]
            elif name.startswith("%") and name[1:] in _FIELDS[kind]:
                found = [p for p in found if value.casefold() in str(p.fields.get(name[1:], "")).casefold()]
            else:
                raise error("", f"Filter by {name} is not known")
        wanted = asked.get("select", ["ID"])
        if unknown := set(wanted) - {"ID", *_FIELDS[kind]}:
            raise error("", f"Fields {unknown} are not known")
        found.sort(key=lambda person: int(person.id))
        return [{name: self._record(person).get(name) for name in wanted} for person in found][
            : self.page_size
        ]

    def _activity(self, sent: Any) -> dict[str, Any]:
        given = fields_of(sent, needed=_ACTIVITY)
        if given["TYPE_ID"] != 2 or given["DIRECTION"] not in (1, 2) or given["COMPLETED"] not in ("Y", "N"):
            raise error("", "Unknown TYPE_ID, DIRECTION or COMPLETED")
        self._person(given["OWNER_ID"], _OWNERS[given["OWNER_TYPE_ID"]])
        (communication,) = given["COMMUNICATIONS"]
        number = fields_of(communication, needed=["VALUE", "ENTITY_TYPE_ID", "ENTITY_ID"])["VALUE"]
        return {"number": number, "text": given["DESCRIPTION"], "fields": given}
