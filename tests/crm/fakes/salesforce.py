"""Salesforce as its documentation has it; see the head of ``adapters/presets/salesforce.yaml`` for the pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, digits, fields_of

CLIENT, SECRET, USER = "3MVG9client", "salesforce-secret-4711", "005000000000007AAA"
KEY_FIELD = "Cordboard_Key__c"
_OBJECTS = {"Contact": "contact", "Account": "organisation", "Lead": "lead"}
_FIELDS = {
    "Contact": ("FirstName", "LastName", "AccountId", "OwnerId", "Email", "Description"),
    "Account": ("Name", "OwnerId", "Description"),
    "Lead": ("FirstName", "LastName", "Company", "OwnerId", "Status", "Email", "Description"),
}
_ACTIVITY = ("Subject", "Description", "WhoId", "WhatId", "OwnerId", "Status", "ActivityDate")
_CALL = (*_ACTIVITY, "TaskSubtype", "CallType", "CallDurationInSeconds", "CallDisposition", "CallObject")
_FIND = re.compile(r"FIND \{(.*)\} IN (PHONE|NAME) FIELDS RETURNING (.*) LIMIT (\d+)")
_RETURNING = re.compile(r"(\w+)\(([\w,]+)(?: WHERE IsConverted = false)?\)")
_SELECT = re.compile(r"SELECT ([\w,]+) FROM (\w+)(?: WHERE (.*?))?(?: ORDER BY (\w+)(?: DESC)?)? LIMIT (\d+)")


def error(status: int, code: str) -> Refused:
    return Refused(status, [{"errorCode": code, "message": "refused"}])


class Salesforce(FakeCrm):
    number_fields: ClassVar = {
        "contact": ("Phone", "MobilePhone", "HomePhone", "OtherPhone"),
        "organisation": ("Phone",),
        "lead": ("Phone", "MobilePhone"),
    }
    defaults: ClassVar = {"OwnerId": USER}

    def __init__(self) -> None:
        super().__init__()
        self.token = ""

    def new_id(self) -> str:
        return f"003{int(super().new_id()):015}"

    def handle(self, request: Request) -> Answer:
        if (request.method, request.path) == ("POST", "/services/oauth2/token"):
            given = request.form(needed=["grant_type", "client_id", "client_secret"])
            if list(given.values()) != ["client_credentials", CLIENT, SECRET]:
                raise Refused(400, {"error": "invalid_client", "error_description": "invalid client"})
            self.token = f"00D!{self.new_id()}"
            return Answer(body={"access_token": self.token, "instance_url": self.url, "token_type": "Bearer"})
        if request.headers.get("authorization") != f"Bearer {self.token}" or not self.token:
            raise error(401, "INVALID_SESSION_ID")
        if request.parts[:3] != ["services", "data", "v61.0"]:
            raise error(404, "NOT_FOUND")
        match request.method, request.parts[3:]:
            case "GET", ["search"]:
                return Answer(body={"searchRecords": self._search(request.only(needed=["q"])["q"])})
            case "GET", ["query"]:
                records = self._query(request.only(needed=["q"])["q"])
                return Answer(body={"totalSize": len(records), "done": True, "records": records})
            case "GET", ["sobjects", kind, id_] if kind in _OBJECTS:
                names = request.only(needed=["fields"])["fields"]
                return Answer(body=self._record(kind, self._person(id_, kind), names))
            case "POST", ["sobjects", kind] if kind in _OBJECTS:
                return self._made(self.take(_OBJECTS[kind], request.json(), *_FIELDS[kind]).id)
            case "PATCH", ["sobjects", "Task", name, key]:
                return self._upserted(name, key, fields_of(request.json(), *_CALL))
            case "DELETE", ["sobjects", "Task", _, key]:
                known = [id_ for id_, call in self.calls.items() if call["key"] == key]
                if not known:
                    raise error(404, "NOT_FOUND")
                del self.calls[known[0]]
                return Answer(204)
            case "POST", ["sobjects", "Note"]:
                note = fields_of(request.json(), needed=["ParentId", "Title", "Body"])
                id_ = self.new_id()
                self.notes[id_] = {"party": self._person(note["ParentId"]).id, "text": note["Body"]}
                return self._made(id_)
            case "POST", ["sobjects", "Task"]:
                task = fields_of(request.json(), *_ACTIVITY)
                id_, person = self.new_id(), self._about(task)
                due = f"{task['ActivityDate']}T00:00:00+00:00"
                self.tasks[id_] = {
                    "party": person.id,
                    "title": task["Subject"],
                    "due": due,
                    "owner": task["OwnerId"],
                }
                return self._made(id_)
        raise error(404, "NOT_FOUND")

    def _made(self, id_: str) -> Answer:
        return Answer(201, {"id": id_, "success": True, "errors": []})

    def _person(self, id_: str, kind: str | None = None) -> Person:
        person = self.people.get(id_)
        if person is None or (kind is not None and person.type != _OBJECTS[kind]):
            raise error(404, "NOT_FOUND")
        return person

    def _about(self, task: Mapping[str, Any]) -> Person:
        return self._person(task["WhatId"], "Account") if "WhatId" in task else self._person(task["WhoId"])

    def _record(self, kind: str, person: Person, names: str) -> dict[str, Any]:
        held = {"Id": person.id, **self.record(person)}
        known = {"Id", *_FIELDS[kind], *self.number_fields[person.type]}
        if unknown := set(names.split(",")) - known:
            raise error(400, f"INVALID_FIELD {unknown}")
        return {"attributes": {"type": kind}, **{name: held.get(name) for name in names.split(",")}}

    def _search(self, query: str) -> list[dict[str, Any]]:
        found = _FIND.fullmatch(query)
        if found is None:
            raise error(400, "MALFORMED_SEARCH")
        terms, where, returning, limit = found.groups()
        wanted = dict(_RETURNING.findall(returning))
        if ", ".join(each[0] for each in _RETURNING.finditer(returning)) != returning:
            raise error(400, "MALFORMED_SEARCH")
        records = []
        for person in self.people.values():
            kind = next(name for name, type_ in _OBJECTS.items() if type_ == person.type)
            if kind in wanted and self._fits(person, terms, where):
                records.append(self._record(kind, person, wanted[kind]))
        return records[: int(limit)]

    def _fits(self, person: Person, terms: str, where: str) -> bool:
        if where == "NAME":
            if not re.fullmatch(r"\w+\*", terms):
                raise error(400, "MALFORMED_SEARCH")
            name = " ".join(
                str(person.fields.get(each, "")) for each in ("FirstName", "LastName", "Name", "Company")
            )
            return any(word.startswith(terms[:-1].casefold()) for word in re.findall(r"\w+", name.casefold()))
        phrases = re.findall(r'"((?:[^"\\]|\\.)*)"', terms)
        if " OR ".join(f'"{each}"' for each in phrases) != terms:
            raise error(400, "MALFORMED_SEARCH")
        for phrase in phrases:
            if re.search(r"(?<!\\)[?&|!{}\[\]()^~*:+'-]", phrase):
                raise error(400, "MALFORMED_SEARCH")
        return any(digits(number) == digits(phrase) for number in person.numbers for phrase in phrases)

    def _query(self, query: str) -> list[dict[str, Any]]:
        found = _SELECT.fullmatch(query)
        if found is None:
            raise error(400, "MALFORMED_QUERY")
        names, kind, where, _, limit = found.groups()
        if kind == "User":
            return [{"Id": USER, "Name": "Anna Adler", "Username": "anna@crm.example", "Extension": "17"}]
        if kind == "Case":
            return []
        after = re.fullmatch(r"Id > '(\w+)'(?: AND IsConverted = false)?", where or "")
        if after is None:
            raise error(400, "MALFORMED_QUERY")
        people = [p for p in self.people.values() if p.type == _OBJECTS[kind] and p.id > after[1]]
        people.sort(key=lambda person: person.id)
        return [self._record(kind, person, names) for person in people][: int(limit)]

    def _upserted(self, name: str, key: str, sent: dict[str, Any]) -> Answer:
        if name != KEY_FIELD:
            raise error(404, "NOT_FOUND")
        if sent["CallType"] not in ("Inbound", "Outbound", "Internal") or sent["TaskSubtype"] != "Call":
            raise error(400, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST")
        if not isinstance(sent["CallDurationInSeconds"], int) or len(sent["CallObject"]) > 255:
            raise error(400, "JSON_PARSER_ERROR")
        known = next((id_ for id_, call in self.calls.items() if call["key"] == key), None)
        id_ = known or self.new_id()
        number = self.plan.parse(self._about(sent).numbers[0]).e164
        self.calls[id_] = {"number": number, "text": sent["Description"], "key": key, "fields": sent}
        status = 200 if known else 201
        return Answer(status, {"id": id_, "success": True, "created": known is None, "errors": []})
