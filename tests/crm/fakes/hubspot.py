"""HubSpot as its documentation has it; see the head of ``adapters/presets/hubspot.yaml`` for the pages."""

from __future__ import annotations

import html
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import phonenumbers

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, fields_of

TOKEN, USER, PORTAL = "pat-eu1-4711", "77001", "4711"
_KINDS = {"contacts": "contact", "companies": "organisation"}
_FIELDS = {
    "contacts": (
        *("firstname", "lastname", "company", "associatedcompanyid", "hubspot_owner_id", "lifecyclestage"),
        "email",
    ),
    "companies": ("name", "hubspot_owner_id", "lifecyclestage", "domain"),
}
_CALL = (
    *("hs_timestamp", "hs_call_title", "hs_call_body", "hs_call_direction", "hs_call_status"),
    *("hs_call_duration", "hs_call_from_number", "hs_call_to_number", "hs_call_recording_url"),
    *("hs_call_external_id", "hubspot_owner_id"),
)
_ASSOCIATIONS = {
    ("calls", "contact"): 194,
    ("calls", "organisation"): 182,
    ("notes", "contact"): 202,
    ("notes", "organisation"): 190,
    ("tasks", "contact"): 204,
    ("tasks", "organisation"): 192,
}


def error(status: int, category: str) -> Refused:
    return Refused(
        status, {"status": "error", "category": category, "message": "refused", "correlationId": "1"}
    )


def plain(body: str) -> str:
    return html.unescape(body.replace("<br>", "\n"))


class HubSpot(FakeCrm):
    number_fields: ClassVar = {"contact": ("phone", "mobilephone"), "organisation": ("phone",)}
    defaults: ClassVar = {"hubspot_owner_id": USER}
    page_size = 2

    def handle(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise error(401, "INVALID_AUTHENTICATION")
        match request.method, request.parts[2:]:
            case "GET", ["owners"]:
                request.only("limit", "after")
                anna = {"id": USER, "email": "a@crm.example", "firstName": "Anna", "lastName": "Adler"}
                return Answer(body={"results": [anna]})
            case "POST", ["objects", kind, "search"]:
                return self._search(kind, request.json())
            case "GET", ["objects", kind] if kind in _KINDS:
                return self._list(kind, request.only("limit", "after", "properties"))
            case "GET", ["objects", kind, id_] if kind in _KINDS:
                request.only("properties")
                return Answer(body=self._record(self._person(id_, _KINDS[kind])))
            case "POST", ["objects", kind] if kind in _KINDS:
                new = fields_of(request.json(), "associations", needed=["properties"])["properties"]
                return Answer(201, self._record(self.take(_KINDS[kind], new, *_FIELDS[kind])))
            case "POST", ["objects", kind]:
                return self._written(kind, fields_of(request.json(), needed=["properties", "associations"]))
            case "PATCH", ["objects", "calls", id_] if id_ in self.calls:
                self._call(id_, fields_of(request.json(), needed=["properties"])["properties"])
                return Answer(body={"id": id_})
            case "DELETE", ["objects", "calls", id_]:
                self.calls.pop(id_, None)
                return Answer(204)
        raise error(404, "OBJECT_NOT_FOUND")

    def _person(self, id_: str, type_: str) -> Person:
        person = self.people.get(id_)
        if person is None or person.type != type_:
            raise error(404, "OBJECT_NOT_FOUND")
        return person

    def _record(self, person: Person) -> dict[str, Any]:
        return {"id": person.id, "properties": self.record(person), "archived": False}

    def _held(self, person: Person, name: str) -> Any:
        calculated = {
            "hs_searchable_calculated_phone_number": "phone",
            "hs_searchable_calculated_mobile_number": "mobilephone",
        }
        if name not in calculated:
            return self.record(person).get(name)
        typed = self.record(person).get(calculated[name])
        e164 = self.plan.parse(typed).e164 if typed else None
        return e164 and phonenumbers.national_significant_number(phonenumbers.parse(e164))

    def _search(self, kind: str, sent: Any) -> Answer:
        asked = fields_of(sent, "filterGroups", "query", "properties", "limit")
        if kind == "calls":
            ((wanted,),) = [group["filters"] for group in asked["filterGroups"]]
            found = [
                {"id": id_}
                for id_, c in self.calls.items()
                if c["fields"]["hs_call_external_id"] == wanted["value"]
            ]
            return Answer(body={"total": len(found), "results": found})
        if kind not in _KINDS or len(asked.get("filterGroups", ())) > 5:
            raise error(400, "VALIDATION_ERROR")
        known = {*_FIELDS[kind], *self.number_fields[_KINDS[kind]]}
        if set(asked.get("properties", ())) - known:
            raise error(400, "VALIDATION_ERROR")
        people = [person for person in self.people.values() if person.type == _KINDS[kind]]
        if "query" in asked:
            word = asked["query"].casefold()
            people = [p for p in people if word in " ".join(map(str, p.fields.values())).casefold()]
        else:
            people = [
                p for p in people if any(self._fits(p, each["filters"]) for each in asked["filterGroups"])
            ]
        return Answer(body={"total": len(people), "results": [self._record(p) for p in people]})

    def _fits(self, person: Person, filters: list[Mapping[str, Any]]) -> bool:
        for each in filters:
            held = self._held(person, each["propertyName"])
            match each["operator"]:
                case "EQ":
                    fits = held == fields_of(each, needed=["propertyName", "operator", "value"])["value"]
                case "IN":
                    fits = held in fields_of(each, needed=["propertyName", "operator", "values"])["values"]
                case _:
                    raise error(400, "VALIDATION_ERROR")
            if not fits:
                return False
        return True

    def _list(self, kind: str, asked: Mapping[str, str]) -> Answer:
        after = int(asked.get("after") or 0)
        rest = [p for p in self.people.values() if p.type == _KINDS[kind] and int(p.id) > after]
        page = rest[: self.page_size]
        paging = {"paging": {"next": {"after": page[-1].id}}} if len(rest) > len(page) else {}
        return Answer(body={"results": [self._record(person) for person in page], **paging})

    def _written(self, kind: str, sent: Mapping[str, Any]) -> Answer:
        (association,) = sent["associations"]
        person = self.people[association["to"]["id"]]
        (type_,) = association["types"]
        if type_["associationTypeId"] != _ASSOCIATIONS[kind, person.type]:
            raise error(400, "VALIDATION_ERROR")
        id_, given = self.new_id(), sent["properties"]
        match kind:
            case "calls":
                self._call(id_, given)
            case "notes":
                body = fields_of(given, needed=["hs_note_body", "hs_timestamp"])["hs_note_body"]
                self.notes[id_] = {"party": person.id, "text": plain(body)}
            case "tasks":
                task = fields_of(
                    given,
                    "hs_task_body",
                    "hs_task_status",
                    "hubspot_owner_id",
                    needed=["hs_task_subject", "hs_timestamp"],
                )
                due, owner = task["hs_timestamp"], task["hubspot_owner_id"]
                self.tasks[id_] = {
                    "party": person.id,
                    "title": task["hs_task_subject"],
                    "due": due,
                    "owner": owner,
                }
        return Answer(201, {"id": id_, "properties": given})

    def _call(self, id_: str, given: Any) -> None:
        call = fields_of(given, *_CALL)
        if call["hs_call_direction"] not in ("INBOUND", "OUTBOUND") or not isinstance(
            call["hs_call_duration"], int
        ):
            raise error(400, "VALIDATION_ERROR")
        datetime.fromisoformat(call["hs_timestamp"])
        number = call.get("hs_call_from_number") or call.get("hs_call_to_number")
        self.calls[id_] = {"number": number, "text": plain(call["hs_call_body"]), "fields": call}
