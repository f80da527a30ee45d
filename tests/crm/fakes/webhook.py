"""A home-made CRM that has the addresses which the preset ``webhook`` asks for (docs/crm/http.md)."""

from __future__ import annotations

from typing import Any

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, fields_of

TOKEN = "webhook-token-4711"
_TYPES = ("contact", "organisation", "lead", "partner", "supplier")


class HomeMade(FakeCrm):
    page_size = 2

    def handle(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refused(401, {"error": "who are you?"})
        match request.method, request.parts:
            case "GET", ["lookup"]:
                asked = request.only("number", "customer")
                return self._parties(
                    each
                    for each in self.people.values()
                    if asked.get("customer") == f"K-{each.id}"
                    or asked.get("number") in {self.plan.parse(number).e164 for number in each.numbers}
                )
            case "GET", ["search"]:
                words = request.only(needed=["words", "limit"])["words"].casefold().split()
                return self._parties(
                    each
                    for each in self.people.values()
                    if all(word in each.fields["name"].casefold() for word in words)
                )
            case "GET", ["parties"]:
                after = int(request.only("after").get("after") or 0)
                rest = [each for each in self.people.values() if int(each.id) > after]
                page = rest[: self.page_size]
                following = page[-1].id if len(rest) > len(page) else None
                return Answer(body={"parties": [self._party(each) for each in page], "after": following})
            case "GET", ["parties", type, id_]:
                return Answer(body=self._party(self._person(type, id_)))
            case "POST", ["parties"]:
                new = fields_of(request.json(), "company", "notes", needed=["type", "name", "numbers"])
                type, numbers = new.pop("type"), new.pop("numbers")
                if type not in _TYPES:
                    raise Refused(422, {"error": f"{type} is no type"})
                return Answer(201, self._party(self.add(type, *numbers, **new)))
            case "PUT", ["calls", key]:
                call = fields_of(
                    request.json(),
                    *("party", "user", "ended", "disposition", "recording", "number"),
                    needed=[
                        *("state", "direction", "outcome", "started"),
                        *("duration", "talk", "subject", "text"),
                    ],
                )
                self.calls[key] = call
                return Answer(body={"url": f"{self.url}/calls/{key}"})
            case "DELETE", ["calls", key] if self.calls.pop(key, None) is not None:
                return Answer(204)
            case "POST", ["parties", type, id_, "notes"]:
                person = self._person(type, id_)
                note = self.new_id()
                self.notes[note] = {"party": person.id, **fields_of(request.json(), needed=["text"])}
                return Answer(201, {"id": note})
            case "POST", ["parties", type, id_, "tasks"]:
                person = self._person(type, id_)
                task = fields_of(request.json(), "due", "owner", "text", needed=["title"])
                self.tasks[given := self.new_id()] = {"party": person.id, **task}
                return Answer(201, {"id": given, "url": f"{self.url}/tasks/{given}"})
            case "GET", ["users"]:
                request.only()
                return Answer(body={"users": [{"id": "anna", "name": "Anna Adler", "extension": "17"}]})
        raise Refused(404, {"error": "there is nothing here"})

    def add(self, type: str, *numbers: str, **fields: Any) -> Person:
        person = Person(self.new_id(), type, fields, list(numbers))
        self.people[person.id] = person
        return person

    def _person(self, type: str, id_: str) -> Person:
        person = self.people.get(id_)
        if person is None or person.type != type:
            raise Refused(404, {"error": "nobody"})
        return person

    def _party(self, person: Person) -> dict[str, Any]:
        return {
            "id": person.id,
            "type": person.type,
            "numbers": person.numbers,
            "customer": f"K-{person.id}",
            "url": f"{self.url}/parties/{person.id}",
            **person.fields,
        }

    def _parties(self, found: Any) -> Answer:
        parties = [self._party(each) for each in found]
        return Answer(body={"parties": parties}) if parties else Answer(204)
