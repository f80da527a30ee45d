"""EspoCRM as its documentation has it; see the head of ``adapters/presets/espocrm.yaml`` for the pages."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, fields_of

KEY, USER = "espo-key-4711", "65a1b2c3d4e5f6a7b"
_ENTITIES = {"Contact": "contact", "Account": "organisation", "Lead": "lead"}
_PERSON = ("firstName", "lastName", "name", "accountName", "phoneNumber", "description", "assignedUserId")
_ABOUT = ("name", "description", "status", "parentType", "parentId", "assignedUserId", "dateEnd")
_CALL = (*_ABOUT, "direction", "dateStart", "contactsIds", "leadsIds")
_PARAMETERS = ("maxSize", "offset", "orderBy", "order", "select")
_WHERE = re.compile(r"where\[0\]\[(type|attribute|value)\](\[\])?")
_MOMENT = "%Y-%m-%d %H:%M:%S"


class EspoCrm(FakeCrm):
    def handle(self, request: Request) -> Answer:
        if request.headers.get("x-api-key") != KEY:
            return Answer(401)
        if request.parts[:2] != ["api", "v1"]:
            return Answer(404)
        match request.method, request.parts[2:]:
            case "GET", ["User"]:
                self._asked(request)
                anna = {"id": USER, "name": "Anna Adler", "userName": "anna", "isActive": True}
                return Answer(body={"total": 1, "list": [anna]})
            case "GET", [entity]:
                return self._listed(entity, *self._asked(request))
            case "GET", [entity, id_]:
                request.only()
                return Answer(body=self._whole(self._person(entity, id_)))
            case "GET", [entity, id_, "cases"]:
                self._asked(request)
                self._person(entity, id_)
                return Answer(body={"total": 0, "list": []})
            case "POST", [entity] if entity in _ENTITIES:
                new = fields_of(request.json(), *_PERSON)
                number = new.pop("phoneNumber")
                return Answer(200, self._whole(self.add(_ENTITIES[entity], number, **new)))
            case "POST", ["Call"]:
                return self._call(self.new_id(), request.json())
            case "PUT", ["Call", id_] if id_ in self.calls:
                return self._call(id_, request.json())
            case "DELETE", ["Call", id_] if self.calls.pop(id_, None) is not None:
                return Answer(body=True)
            case "POST", ["Note"]:
                note = fields_of(request.json(), needed=["type", "parentType", "parentId", "post"])
                id_ = self.new_id()
                person = self._person(note["parentType"], note["parentId"])
                self.notes[id_] = {"party": person.id, "text": note["post"]}
                return Answer(body={"id": id_})
            case "POST", ["Task"]:
                task = fields_of(request.json(), *_ABOUT)
                due = datetime.strptime(f"{task['dateEnd']} +0000", f"{_MOMENT} %z").isoformat()
                entry = {"title": task["name"], "due": due, "owner": task["assignedUserId"]}
                id_ = self.new_id()
                self.tasks[id_] = {"party": self._person(task["parentType"], task["parentId"]).id, **entry}
                return Answer(body={"id": id_})
        return Answer(404)

    def _asked(self, request: Request) -> tuple[dict[str, str], dict[str, Any]]:
        where: dict[str, Any] = {}
        rest = []
        for name, value in request.query:
            if (match := _WHERE.fullmatch(name)) is None:
                rest.append((name, value))
            elif match[2]:
                where.setdefault("value", []).append(value)
            else:
                where[match[1]] = value
        plain = Request(request.method, request.path, tuple(rest), {}, b"").only(*_PARAMETERS)
        if int(plain.get("maxSize", 20)) > 200:
            raise Refused(403, {"messageTranslation": "max size"})
        return plain, where

    def _person(self, entity: str, id_: str) -> Person:
        person = self.people.get(id_)
        if person is None or person.type != _ENTITIES.get(entity):
            raise Refused(404, None)
        return person

    def _short(self, person: Person) -> dict[str, Any]:
        fields = person.fields
        name = fields.get("name") or f"{fields.get('firstName', '')} {fields.get('lastName', '')}".strip()
        number = person.numbers[0] if person.numbers else None
        return {"id": person.id, "assignedUserId": USER, **fields, "name": name, "phoneNumber": number}

    def _whole(self, person: Person) -> dict[str, Any]:
        data = [
            {"phoneNumber": each, "type": "Office", "primary": not at}
            for at, each in enumerate(person.numbers)
        ]
        return {**self._short(person), "phoneNumberData": data}

    def _listed(self, entity: str, plain: dict[str, str], where: dict[str, Any]) -> Answer:
        if entity == "Call":
            if (where["type"], where["attribute"]) != ("contains", "description"):
                return Answer(400)
            found = [{"id": i} for i, c in self.calls.items() if where["value"] in c["fields"]["description"]]
            return Answer(body={"total": len(found), "list": found})
        people = [person for person in self.people.values() if person.type == _ENTITIES[entity]]
        match where.get("type"), where.get("attribute"):
            case "in", "phoneNumber":
                people = [person for person in people if set(person.numbers) & set(where["value"])]
            case "contains", "name":
                word = where["value"].casefold()
                people = [person for person in people if word in self._short(person)["name"].casefold()]
            case None, None:
                pass
            case _:
                raise Refused(400, None)
        offset = int(plain.get("offset", 0))
        page = people[offset : offset + int(plain.get("maxSize", 20))]
        if plain.get("select") == "id":
            return Answer(body={"total": len(people), "list": [{"id": person.id} for person in page]})
        return Answer(body={"total": len(people), "list": [self._short(person) for person in page]})

    def _call(self, id_: str, sent: Any) -> Answer:
        call = fields_of(sent, *_CALL)
        if call["direction"] not in ("Inbound", "Outbound") or call["status"] not in (
            "Held",
            "Not Held",
            "Planned",
        ):
            raise Refused(400, None)
        for name in ("dateStart", "dateEnd"):
            datetime.strptime(f"{call[name]} +0000", f"{_MOMENT} %z")
        number = self.plan.parse(self._person(call["parentType"], call["parentId"]).numbers[0]).e164
        self.calls[id_] = {"number": number, "text": call["description"], "fields": call}
        return Answer(body={"id": id_})
