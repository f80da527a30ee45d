"""WICE CRM as its maker's connector speaks to it; see the head of ``adapters/presets/wice.yaml``."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tests.crm.fakes import Answer, FakeCrm, Person, Refused, Request

KEY, CLIENT, USER, PASSWORD = "wice-key-4711", "firma", "cti", "wice-password-0815"


class Wice(FakeCrm):
    number_fields: ClassVar = {"contact": ("phone", "private_mobile_phone", "private_phone")}

    def __init__(self) -> None:
        super().__init__()
        self.cookie = ""

    def handle(self, request: Request) -> Answer:
        if request.headers.get("x-api-key") != KEY:
            raise Refused(403, {"error": "wrong key"})
        match request.method, request.path:
            case "POST", "/pserv/base/json":
                sent = request.form(needed=["method", "mandant_name", "username", "password"])
                if list(sent.values()) != ["login", CLIENT, USER, PASSWORD]:
                    return Answer(body={"error": "login"})
                self.cookie = f"cookie-{self.new_id()}"
                return Answer(body={"cookie": self.cookie})
            case "POST", "/plugin/wp_wice_client_api_backend/json":
                sent = request.form(
                    *("full_list", "ext_search_do", "name", "phone", "private_mobile_phone", "data"),
                    needed=["method", "cookie"],
                )
                if sent.pop("cookie") != self.cookie or not self.cookie:
                    return Answer(body={"error": "session"})
                return self._called(sent.pop("method"), sent)
        raise Refused(404, {"error": "nothing here"})

    def _called(self, method: str, sent: dict[str, str]) -> Answer:
        if method == "insert_contact":
            person = self.take("contact", json.loads(sent["data"]), "name", "firstname", "same_contactperson")
            return Answer(body={"rowid": person.id})
        if method != "get_all_persons":
            raise Refused(404, {"error": "unknown method"})
        if sent.pop("full_list", None) == "1":
            found = list(self.people.values())
        elif sent.pop("ext_search_do", None) == "1" and len(sent) == 1:
            ((name, value),) = sent.items()
            found = [
                person
                for person in self.people.values()
                if value.casefold() in str(self.record(person).get(name) or "").casefold()
            ]
        else:
            raise Refused(400, {"error": "no such search"})
        # Without anybody, the list itself is missing.
        return Answer(body={"loop_addresses": [self._address(each) for each in found]} if found else {})

    def _address(self, person: Person) -> dict[str, Any]:
        return {"rowid": person.id, "for_rowid": None, "deactivated": "0", **self.record(person)}
