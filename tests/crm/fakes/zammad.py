"""Zammad as its documentation has it; see the head of ``adapters/presets/zammad.yaml`` for the pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request, fields_of

TOKEN, CTI_TOKEN = "zammad-token-4711", "cti-token-0815"
_TERM = re.compile(r'(phone|mobile):"([^"]*)"')
_SPECIAL = re.compile(r"""(?<!\\)([+\-=&|!(){}\[\]^"~*?:/])""")


def tokens(text: str) -> list[str]:
    """As Elasticsearch's standard analyser takes a text apart."""
    return re.findall(r"\w+", text.casefold())


class Zammad(FakeCrm):
    def handle(self, request: Request) -> Answer:
        match request.method, request.parts:
            case "POST", ["api", "v1", "cti", token]:
                if token != CTI_TOKEN:
                    raise Refused(401, {"error": "Invalid token, please contact your admin!"})
                return self._cti(request)
        if request.headers.get("authorization") != f"Token token={TOKEN}":
            raise Refused(401, {"error": "Invalid BasicAuth credentials"})
        match request.method, request.parts:
            case "GET", ["api", "v1", "users", "search"]:
                return self._search(request.only("query", "limit", "expand", needed=["query"]))
            case "GET", ["api", "v1", "tickets", "search"]:
                request.only("query", "sort_by", "order_by", "limit", "expand")
                return Answer(body=[])
            case "GET", ["api", "v1", "users"]:
                return self._list(request.only("page", "per_page", "expand", "sort_by", "order_by"))
            case "GET", ["api", "v1", "users", id_]:
                request.only("expand")
                if id_ not in self.people:
                    raise Refused(404, {"error": f"Couldn't find User with 'id'={id_}"})
                return Answer(body=self._user(self.people[id_]))
            case "POST", ["api", "v1", "users"]:
                new = fields_of(
                    request.json(), "firstname", "lastname", "phone", "mobile", "note", "roles", "email"
                )
                person = self.add(
                    "contact", new.pop("phone", ""), **{k: v for k, v in new.items() if k != "roles"}
                )
                return Answer(201, {"id": int(person.id), "firstname": new.get("firstname")})
            case "POST", ["api", "v1", "tickets"]:
                ticket = fields_of(
                    request.json(), needed=["title", "customer_id", "group", "state", "article"]
                )
                fields_of(ticket["article"], "subject", "type", "internal", needed=["body"])
                if str(ticket["customer_id"]) not in self.people or not isinstance(
                    ticket["customer_id"], int
                ):
                    raise Refused(422, {"error": "No lookup value found for 'customer'"})
                id_ = self.new_id()
                self.notes[id_] = {"party": str(ticket["customer_id"]), "text": ticket["article"]["body"]}
                return Answer(201, {"id": int(id_), "number": f"96{id_}"})
        raise Refused(404, {"error": f"No route matches [{request.method}] {request.path!r}"})

    def add(self, type: str, *numbers: str, **fields: Any) -> Person:
        person = Person(
            self.new_id(), type, {"firstname": "", "lastname": "", "note": "", **fields}, list(numbers)
        )
        self.people[person.id] = person
        return person

    def _user(self, person: Person) -> Mapping[str, Any]:
        phone, mobile = (*person.numbers, "", "")[:2]
        return {
            "id": int(person.id),
            **person.fields,
            "login": f"auto-{person.id}",
            "email": "",
            "phone": phone,
            "mobile": mobile,
            "fax": "",
            "vip": False,
            "active": True,
            "organization_id": None,
            "roles": ["Customer"],
        }

    def _search(self, asked: Mapping[str, str]) -> Answer:
        query = asked["query"]
        if query == "role_ids:2":
            return Answer(body=[])
        if _TERM.search(query):
            if _TERM.sub("", query).replace(" OR ", "").strip():
                raise Refused(422, {"error": f"Failed to parse query [{query}]"})
            terms = [(name, tokens(text)) for name, text in _TERM.findall(query)]

            def fits(person: Person) -> bool:
                user = self._user(person)
                return any(phrase in windows(tokens(user[name]), len(phrase)) for name, phrase in terms)

            found = [person for person in self.people.values() if fits(person)]
        else:
            if _SPECIAL.search(query):
                raise Refused(422, {"error": f"Failed to parse query [{query}]"})
            words = tokens(query)
            found = [
                person
                for person in self.people.values()
                if any(
                    word in tokens(f"{person.fields['firstname']} {person.fields['lastname']}")
                    for word in words
                )
            ]
        return Answer(body=[self._user(person) for person in found][: int(asked.get("limit", 10))])

    def _list(self, asked: Mapping[str, str]) -> Answer:
        size, page = int(asked.get("per_page", 100)), int(asked.get("page", 1))
        everybody = sorted(self.people.values(), key=lambda person: int(person.id))
        return Answer(body=[self._user(person) for person in everybody[(page - 1) * size : page * size]])

    def _cti(self, request: Request) -> Answer:
        sent = request.form(
            "user", "cause", "answeringNumber", "queue", needed=["event", "callId", "direction", "from", "to"]
        )
        if sent["direction"] not in ("in", "out"):
            raise Refused(422, {"error": "Invalid direction!"})
        key = sent["callId"]
        if sent["event"] == "newCall":
            if key in self.calls:
                raise Refused(422, {"error": f"call_id {key} already exists!"})
            number = sent["from"] if sent["direction"] == "in" else sent["to"]
            self.calls[key] = {"number": f"+{number}", "text": ""}
        elif sent["event"] not in ("answer", "hangup"):
            raise Refused(422, {"error": f"Unknown event {sent['event']}"})
        elif key not in self.calls:
            raise Refused(422, {"error": f"No such call_id {key}"})
        elif sent["event"] == "hangup" and sent.get("cause") not in (
            *("normalClearing", "busy", "cancel", "noAnswer", "congestion", "notFound", "forwarded"),
        ):
            raise Refused(422, {"error": "Unknown cause"})
        return Answer(body={})


def windows(words: list[str], size: int) -> list[list[str]]:
    return [words[at : at + size] for at in range(len(words) - size + 1)]
