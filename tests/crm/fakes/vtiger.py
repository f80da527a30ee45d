"""vtiger's web service as its manual has it; see the head of ``adapters/presets/vtiger.yaml`` for the pages."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, ClassVar

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, fields_of

USERNAME, ACCESS_KEY, USER = "cti", "vtiger-key-4711", "19x7"
_MODULES = {"Contacts": "contact", "Accounts": "organisation", "Leads": "lead"}
_FIELDS = {
    "Contacts": ("firstname", "lastname", "account_id", "email", "description", "assigned_user_id"),
    "Accounts": ("accountname", "description", "assigned_user_id"),
    "Leads": ("firstname", "lastname", "company", "leadstatus", "email", "description", "assigned_user_id"),
}
_EVENT = (
    *("subject", "description", "location", "activitytype", "eventstatus", "date_start", "time_start"),
    *("due_date", "time_end", "duration_hours", "duration_minutes", "visibility", "assigned_user_id"),
    *("contact_id", "parent_id"),
)
_TASK = (
    *("subject", "description", "taskstatus", "date_start", "time_start", "due_date", "assigned_user_id"),
    *("contact_id", "parent_id"),
)
_CONDITION = re.compile(r"(\w+) (?:in \(((?:'[^']*',?)+)\)|like '%([^'%]*)%'|(=) '([^']*)')")


class VtigerError(Exception):
    pass


class Vtiger(FakeCrm):
    number_fields: ClassVar = {
        "contact": ("phone", "mobile", "homephone", "otherphone"),
        "organisation": ("phone", "otherphone"),
        "lead": ("phone", "mobile"),
    }
    defaults: ClassVar = {"assigned_user_id": USER}

    def __init__(self) -> None:
        super().__init__()
        self.session = ""
        self.challenge = ""

    def new_id(self) -> str:
        return f"12x{super().new_id()}"

    def handle(self, request: Request) -> Answer:
        if request.path != "/webservice.php" or request.method not in ("GET", "POST"):
            raise Refused(404, {"error": "not found"})
        if request.method == "GET":
            sent = request.only("username", "sessionName", "query", "id", needed=["operation"])
        else:
            sent = request.form(
                "username", "accessKey", "sessionName", "elementType", "element", "id", needed=["operation"]
            )
        try:
            result = self._operation(request.method, sent.pop("operation"), sent)
        except VtigerError as error:
            return Answer(body={"success": False, "error": {"code": str(error), "message": "refused"}})
        return Answer(body={"success": True, "result": result})

    def _operation(self, method: str, operation: str, sent: dict[str, str]) -> Any:
        if (method, operation) == ("GET", "getchallenge"):
            self.challenge = f"challenge-{self.new_id()}"
            return {"token": self.challenge, "serverTime": 1, "expireTime": 301}
        if (method, operation) == ("POST", "login"):
            key = hashlib.md5(f"{self.challenge}{ACCESS_KEY}".encode()).hexdigest()
            if not self.challenge or (sent["username"], sent["accessKey"]) != (USERNAME, key):
                raise VtigerError("INVALID_USER_CREDENTIALS")
            self.session, self.challenge = f"session-{self.new_id()}", ""
            return {"sessionName": self.session, "userId": USER, "version": "0.22"}
        if sent.pop("sessionName", "") != self.session or not self.session:
            raise VtigerError("INVALID_SESSIONID")
        match method, operation:
            case "GET", "query":
                return self._query(sent["query"])
            case "GET", "retrieve":
                if sent["id"] not in self.people:
                    raise VtigerError("RECORD_NOT_FOUND")
                return self._record(self.people[sent["id"]])
            case "POST", "create":
                return self._create(sent["elementType"], json.loads(sent["element"]))
            case "POST", "revise":
                return self._revise(json.loads(sent["element"]))
            case "POST", "delete":
                if self.calls.pop(sent["id"], None) is None:
                    raise VtigerError("RECORD_NOT_FOUND")
                return {"status": "successful"}
        raise VtigerError("UNKNOWN_OPERATION")

    def _record(self, person: Person) -> dict[str, Any]:
        return {"id": person.id, **{name: value or "" for name, value in self.record(person).items()}}

    def _query(self, query: str) -> list[dict[str, Any]]:
        whole = re.fullmatch(
            r"select (\*|id) from (\w+)(?: where (.*?))?( order by id)?(?: limit (\d+),(\d+))?;", query
        )
        if whole is None:
            raise VtigerError("QUERY_SYNTAX_ERROR")
        _, module, where, _, start, count = whole.groups()
        if module == "Users":
            return [{"id": USER, "first_name": "Anna", "last_name": "Adler", "user_name": "anna"}]
        if module == "Events":
            records = [{"id": id_, **call["fields"]} for id_, call in self.calls.items()]
            names: tuple[str, ...] = _EVENT
        else:
            type_ = _MODULES[module]
            records = [self._record(p) for p in self.people.values() if p.type == type_]
            names = (*_FIELDS[module], *self.number_fields[type_])
        if where:
            conditions = _CONDITION.findall(where)
            if " or ".join(each[0] for each in _CONDITION.finditer(where)) != where:
                raise VtigerError("QUERY_SYNTAX_ERROR")
            if unknown := {name for name, *_ in conditions} - set(names):
                raise VtigerError(f"unknown fields {unknown}")
            records = [each for each in records if any(_fits(each, *condition) for condition in conditions)]
        first = int(start or 0)
        return records[first : first + int(count or 100)]

    def _create(self, module: str, sent: dict[str, Any]) -> dict[str, Any]:
        if "assigned_user_id" not in sent:
            raise VtigerError("MANDATORY_FIELDS_MISSING")
        if module in _MODULES:
            return self._record(self.take(_MODULES[module], sent, *_FIELDS[module]))
        id_ = self.new_id()
        match module:
            case "Events":
                self.calls[id_] = self._event(fields_of(sent, *_EVENT))
            case "ModComments":
                fields_of(sent, needed=["commentcontent", "related_to", "assigned_user_id"])
                self.notes[id_] = {"party": sent["related_to"], "text": sent["commentcontent"]}
            case "Calendar":
                fields_of(sent, *_TASK)
                self.tasks[id_] = {
                    "party": sent.get("contact_id") or sent["parent_id"],
                    "title": sent["subject"],
                    "due": f"{sent['due_date']}T{sent['time_start']}+00:00",
                    "owner": sent["assigned_user_id"],
                }
            case _:
                raise VtigerError("ACCESS_DENIED")
        return {"id": id_, **sent}

    def _event(self, sent: dict[str, Any]) -> dict[str, Any]:
        if sent["activitytype"] != "Call" or sent["eventstatus"] not in ("Held", "Not Held", "Planned"):
            raise VtigerError("INVALID_VALUE")
        person = self.people[sent.get("contact_id") or sent["parent_id"]]
        number = self.plan.parse(person.numbers[0]).e164
        return {"number": number, "text": sent["description"], "fields": sent}

    def _revise(self, sent: dict[str, Any]) -> dict[str, Any]:
        given = fields_of(sent, *_EVENT, needed=["id"])
        id_ = given.pop("id")
        if id_ not in self.calls:
            raise VtigerError("RECORD_NOT_FOUND")
        self.calls[id_] = self._event({**self.calls[id_]["fields"], **given})
        return {"id": id_}


def _fits(record: dict[str, Any], name: str, choice: str, part: str, equal: str, value: str) -> bool:
    held = str(record.get(name) or "")
    if choice:
        return held in re.findall(r"'([^']*)'", choice)
    return held == value if equal else part.casefold() in held.casefold()
