"""Dynamics 365 as its documentation has it; see the head of ``adapters/presets/dynamics365.yaml`` for the pages."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, fields_of

TENANT, CLIENT, SECRET = "tenant-4711", "client-0815", "dynamics-secret-4711"
USER = "7a1b2c3d-0000-4000-8000-000000000007"
_SETS = {"contacts": "contact", "accounts": "organisation", "leads": "lead"}
_FIELDS = {
    "contacts": (
        "firstname",
        "lastname",
        "fullname",
        "emailaddress1",
        "description",
        "_parentcustomerid_value",
    ),
    "accounts": ("name", "description"),
    "leads": (
        *("firstname", "lastname", "fullname", "companyname", "subject", "emailaddress1", "description"),
        "statuscode",
    ),
}
_IDS = {"contacts": "contactid", "accounts": "accountid", "leads": "leadid"}
_SINGULAR = {"contacts": "contact", "accounts": "account", "leads": "lead"}
_CALL = (
    *("subject", "description", "phonenumber", "directioncode", "actualdurationminutes"),
    *("scheduledstart", "scheduledend", "statecode", "ownerid@odata.bind"),
    *(f"regardingobjectid_{each}_phonecall@odata.bind" for each in _SINGULAR.values()),
)
_TASK = (
    *("subject", "description", "scheduledend", "ownerid@odata.bind"),
    *(f"regardingobjectid_{each}_task@odata.bind" for each in _SINGULAR.values()),
)
_NOTE = ("subject", "notetext", *(f"objectid_{each}@odata.bind" for each in _SINGULAR.values()))
_IN = re.compile(r"Microsoft\.Dynamics\.CRM\.In\(PropertyName='(\w+)',PropertyValues=\[((?:'[^']*',?)*)\]\)")
_CONTAINS = re.compile(r"contains\((\w+),'((?:[^']|'')*)'\)")


def error(status: int, text: str) -> Refused:
    return Refused(status, {"error": {"code": "0x80040217", "message": text}})


class Dynamics365(FakeCrm):
    number_fields: ClassVar = {
        "contact": ("telephone1", "mobilephone", "telephone2"),
        "organisation": ("telephone1", "telephone2"),
        "lead": ("telephone1", "mobilephone"),
    }
    page_size = 2

    def __init__(self) -> None:
        super().__init__()
        self.token = ""

    def new_id(self) -> str:
        return str(uuid.UUID(int=int(super().new_id())))

    def handle(self, request: Request) -> Answer:
        if (request.method, request.path) == ("POST", f"/{TENANT}/oauth2/v2.0/token"):
            given = request.form(needed=["grant_type", "client_id", "client_secret", "scope"])
            if list(given.values()) != ["client_credentials", CLIENT, SECRET, f"{self.url}/.default"]:
                raise Refused(401, {"error": "invalid_client"})
            self.token = f"eyJ0.{self.new_id()}"
            return Answer(body={"token_type": "Bearer", "expires_in": 3599, "access_token": self.token})
        if request.headers.get("authorization") != f"Bearer {self.token}" or not self.token:
            raise Refused(401, None)
        if request.parts[:3] != ["api", "data", "v9.2"] or request.headers.get("odata-version") != "4.0":
            raise error(404, "Resource not found for the segment")
        (what,) = request.parts[3:]
        name, _, id_ = what.removesuffix(")").partition("(")
        match request.method, name:
            case "GET", "systemusers":
                request.only(needed=["$select", "$filter"])
                return self._value([{"systemuserid": USER, "fullname": "Anna Adler"}])
            case "GET", "incidents":
                request.only(needed=["$select", "$filter", "$orderby", "$top"])
                return self._value([])
            case "GET", ("contacts" | "accounts" | "leads") if id_:
                select = request.only(needed=["$select"])["$select"]
                return Answer(body=self._record(name, self._person(name, id_), select))
            case "GET", "contacts" | "accounts" | "leads":
                asked = request.only("$filter", "$top", "$skiptoken", needed=["$select"])
                return self._listed(name, asked)
            case "POST", "contacts" | "accounts" | "leads":
                new = dict(request.json())
                if name != "accounts":
                    new["fullname"] = f"{new.get('firstname', '')} {new['lastname']}".strip()
                person = self.take(_SETS[name], new, *_FIELDS[name])
                return Answer(201, {_IDS[name]: person.id, "_ownerid_value": USER, **self.record(person)})
            case "PATCH", "phonecalls":
                return self._call(str(uuid.UUID(id_)), fields_of(request.json(), *_CALL))
            case "DELETE", "phonecalls" if self.calls.pop(str(uuid.UUID(id_)), None) is not None:
                return Answer(204)
            case "POST", "annotations":
                note = fields_of(request.json(), *_NOTE)
                made = self.new_id()
                self.notes[made] = {"party": self._about(note, "objectid_{}").id, "text": note["notetext"]}
                return Answer(201, {"annotationid": made})
            case "POST", "tasks":
                task = fields_of(request.json(), *_TASK)
                made, party = self.new_id(), self._about(task, "regardingobjectid_{}_task").id
                owner = task["ownerid@odata.bind"].removeprefix("/systemusers(").removesuffix(")")
                due = task["scheduledend"]
                self.tasks[made] = {"party": party, "title": task["subject"], "due": due, "owner": owner}
                return Answer(201, {"activityid": made})
        raise error(404, "Resource not found for the segment")

    def _value(self, records: list[dict[str, Any]]) -> Answer:
        return Answer(body={"@odata.context": "…", "value": records})

    def _person(self, name: str, id_: str) -> Person:
        person = self.people.get(id_)
        if person is None or person.type != _SETS[name]:
            raise error(404, "does not exist")
        return person

    def _record(self, name: str, person: Person, select: str) -> dict[str, Any]:
        known = {_IDS[name], "_ownerid_value", *_FIELDS[name], *self.number_fields[person.type]}
        if unknown := set(select.split(",")) - known:
            raise error(400, f"Could not find a property named {unknown}")
        held = {_IDS[name]: person.id, "_ownerid_value": USER, **self.record(person)}
        return {each: held.get(each) for each in select.split(",")}

    def _listed(self, name: str, asked: Mapping[str, str]) -> Answer:
        people = sorted((p for p in self.people.values() if p.type == _SETS[name]), key=lambda p: p.id)
        if (where := asked.get("$filter")) is not None:
            tests = [*_IN.finditer(where), *_CONTAINS.finditer(where)]
            if " or ".join(test[0] for test in tests) != where:
                raise error(400, "Syntax error in $filter")
            people = [p for p in people if any(self._fits(self.record(p), test) for test in tests)]
            return self._value([self._record(name, person, asked["$select"]) for person in people])
        after = asked.get("$skiptoken", "").removeprefix("<cookie last='").removesuffix("'/>")
        rest = [person for person in people if person.id > after]
        page = rest[: self.page_size]
        answer = self._value([self._record(name, person, asked["$select"]) for person in page])
        if len(rest) > len(page):
            cookie = quote(f"<cookie last='{page[-1].id}'/>")
            link = f"{self.url}/api/data/v9.2/{name}?$select={asked['$select']}&$skiptoken={cookie}"
            answer.body["@odata.nextLink"] = link
        return answer

    @staticmethod
    def _fits(record: Mapping[str, Any], test: re.Match[str]) -> bool:
        held = str(record.get(test[1]) or "")
        if test.re is _IN:
            return held in re.findall(r"'([^']*)'", test[2])
        return test[2].replace("''", "'").casefold() in held.casefold()

    def _about(self, sent: Mapping[str, Any], pattern: str) -> Person:
        for name, singular in _SINGULAR.items():
            bound = sent.get(pattern.format(singular) + "@odata.bind")
            if bound is not None:
                return self._person(name, bound.removeprefix(f"/{name}(").removesuffix(")"))
        raise error(400, "regarding nobody")

    def _call(self, id_: str, sent: Mapping[str, Any]) -> Answer:
        if not isinstance(sent["directioncode"], bool) or not isinstance(sent["actualdurationminutes"], int):
            raise error(400, "Cannot convert the literal")
        self._about(sent, "regardingobjectid_{}_phonecall")
        status = 200 if id_ in self.calls else 201
        self.calls[id_] = {"number": sent["phonenumber"], "text": sent["description"], "fields": sent}
        return Answer(status, {"activityid": id_})
