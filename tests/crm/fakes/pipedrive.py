"""Pipedrive as its documentation has it; see the head of ``adapters/presets/pipedrive.yaml`` for the pages."""

from __future__ import annotations

import html
from typing import Any

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, fields_of

TOKEN, USER = "pipedrive-token-4711", "7"
_OUTCOMES = ("connected", "no_answer", "left_message", "left_voicemail", "wrong_number", "busy")


def error(status: int, text: str) -> Refused:
    return Refused(status, {"success": False, "error": text})


def plain(note: str) -> str:
    return html.unescape(note.replace("<br>", "\n"))


class Pipedrive(FakeCrm):
    page_size = 2

    def handle(self, request: Request) -> Answer:
        if request.headers.get("x-api-token") != TOKEN:
            raise error(401, "unauthorized access")
        match request.method, request.parts:
            case "GET", ["api", "v2", "persons", "search"]:
                asked = request.only("limit", needed=["term", "fields"])
                if len(asked["term"]) < 2:
                    raise error(400, "term must be at least 2 characters")
                return self._searched(asked["term"].casefold(), asked["fields"])
            case "GET", ["api", "v2", "persons"]:
                after = int(request.only("limit", "cursor", "sort_by").get("cursor") or 0)
                rest = [person for person in self.people.values() if int(person.id) > after]
                page = rest[: self.page_size]
                following = page[-1].id if len(rest) > len(page) else None
                data = [self._person(person) for person in page]
                return Answer(
                    body={"success": True, "data": data, "additional_data": {"next_cursor": following}}
                )
            case "GET", ["api", "v2", "persons", id_]:
                if not id_.isdecimal() or id_ not in self.people:
                    raise error(404 if id_.isdecimal() else 400, "Person not found")
                return self._data(self._person(self.people[id_]))
            case "GET", ["api", "v2", "deals"]:
                request.only("person_id", "status", "limit")
                return self._data([])
            case "POST", ["api", "v2", "persons"]:
                new = fields_of(request.json(), "owner_id", needed=["name", "phones"])
                phones = [
                    fields_of(each, "primary", "label", needed=["value"])["value"] for each in new["phones"]
                ]
                return self._data(self._person(self.add("contact", *phones, name=new["name"])), 201)
            case "GET", ["v1", "callLogs"]:
                request.only("limit", "start")
                return self._data([{"id": id_, "note": call["note"]} for id_, call in self.calls.items()])
            case "POST", ["v1", "callLogs"]:
                return self._call(request.json())
            case "DELETE", ["v1", "callLogs", id_]:
                if self.calls.pop(id_, None) is None:
                    raise error(404, "Call log not found")
                return Answer(body={"success": True})
            case "POST", ["v1", "notes"]:
                note = fields_of(request.json(), needed=["content", "person_id"])
                id_ = self.new_id()
                self.notes[id_] = {"party": self._party(note["person_id"]), "text": plain(note["content"])}
                return self._data({"id": int(id_)}, 201)
            case "POST", ["api", "v2", "activities"]:
                task = fields_of(
                    request.json(), "note", "due_date", "owner_id", needed=["subject", "type", "participants"]
                )
                (who,) = task["participants"]
                party = self._party(fields_of(who, "primary", needed=["person_id"])["person_id"])
                due = f"{task['due_date']}T00:00:00+00:00"
                id_ = self.new_id()
                owner = str(task["owner_id"])
                self.tasks[id_] = {"party": party, "title": task["subject"], "due": due, "owner": owner}
                return self._data({"id": int(id_)}, 201)
            case "GET", ["v1", "users"]:
                return self._data(
                    [{"id": int(USER), "name": "Anna", "email": "a@crm.example", "active_flag": True}]
                )
        raise error(404, "Unknown method")

    def _data(self, data: Any, status: int = 200) -> Answer:
        return Answer(status, {"success": True, "data": data})

    def _party(self, id_: Any) -> str:
        if not isinstance(id_, int) or str(id_) not in self.people:
            raise error(400, "person_id is not valid")
        return str(id_)

    def _person(self, person: Person) -> dict[str, Any]:
        phones = [
            {"value": each, "label": "work", "primary": not at} for at, each in enumerate(person.numbers)
        ]
        return {"id": int(person.id), "owner_id": int(USER), "emails": [], "phones": phones, **person.fields}

    def _searched(self, term: str, where: str) -> Answer:
        found = []
        for person in self.people.values():
            texts = person.numbers if where == "phone" else [person.fields["name"].casefold()]
            if any(term in text for text in texts):
                item = {"id": int(person.id), "name": person.fields["name"], "phones": person.numbers}
                found.append({"result_score": 1, "item": {**item, "owner": {"id": int(USER)}, "emails": []}})
        return self._data({"items": found})

    def _call(self, sent: Any) -> Answer:
        call = fields_of(
            sent,
            *("user_id", "person_id", "subject", "note", "duration", "from_phone_number"),
            needed=["outcome", "to_phone_number", "start_time", "end_time"],
        )
        if call["outcome"] not in _OUTCOMES or not isinstance(call["duration"], str):
            raise error(400, "outcome or duration is not valid")
        if not call["start_time"].endswith("Z"):
            raise error(400, "start_time is not UTC")
        self._party(call["person_id"])
        id_ = f"call-{self.new_id()}"
        number = call["from_phone_number"] if call["to_phone_number"] == "pbx" else call["to_phone_number"]
        self.calls[id_] = {"number": number, "text": plain(call["note"]), "note": call["note"]}
        return self._data({"id": id_}, 200)
