"""Whatever is asked, the API answers as its description says: every operation, asked by each role.

Requests are made up from `/openapi.json` by Schemathesis, right ones and wrong ones, the same at each run.
`CTI_API_EXAMPLES` says how many of an operation and a role, for who has the time.
"""

import os
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from cti import __version__
from cti.web.api import ROUTES
from cti.web.openapi import document
from cti.web.tokens import ROLES
from tests.api.site import Site

EXAMPLES = int(os.environ.get("CTI_API_EXAMPLES", "2"))
_DOCUMENT = orjson.loads(orjson.dumps(document(ROUTES, __version__)))
_REFUSED = ["400", "401", "403", "404", "409", "412", "413", "414", "415", "422", "428", "429"]
#: What needs Asterisk, which is away here.
_AWAY = ["502", "503", "504"]
#: Right as far as a description can say may still be refused for what it cannot, such as what a telephone number is
#: (422), or when something is possible (409); but not as no JSON, too long, or of another type.
_TAKEN = ["2xx", "304", "401", "403", "404", "409", "412", "422", "429", *_AWAY]


def described(mode: str, *, coverage: bool) -> schemathesis.BaseSchema:
    """All operations but the stream, which has no end to wait for."""
    config: dict[str, Any] = {
        "generation": {"mode": mode},
        "phases": {"coverage": {"enabled": coverage}},
        "checks": {
            "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", *_AWAY]},
            "negative_data_rejection": {"expected-statuses": [*_REFUSED, *_AWAY]},
            "positive_data_acceptance": {"expected-statuses": _TAKEN},
            "missing_required_header": {"expected-statuses": _REFUSED},
        },
    }
    schema = schemathesis.openapi.from_dict(_DOCUMENT, config=schemathesis.Config.from_dict(config))
    return schema.exclude(path="/api/v1/events")


def one_of_each() -> schemathesis.BaseSchema:
    """Of the rows that take the same, such as most that do something to a call, only one."""
    different: dict[Any, str] = {}
    for path, methods in _DOCUMENT["paths"].items():
        for method, operation in methods.items():
            takes = [operation.get(part) for part in ("parameters", "requestBody", "security", "x-roles")]
            kind = [path] if not path.startswith("/api/v1/calls/{id}/") else [method, *takes]
            different.setdefault(orjson.dumps(kind), path)
    return described("all", coverage=True).include(path=list(different.values()))


ANYTHING = one_of_each() if "CTI_API_EXAMPLES" not in os.environ else described("all", coverage=True)
RIGHT = described("positive", coverage=False)
SETTINGS = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
#: What is there, by the path that it is below.
OBJECTS = {
    "/api/v1/calls/": "anna-1",
    "/api/v1/desk/calls/": "anna-1",
    "/api/v1/agents/": "anna",
    "/api/v1/callbacks/": "annas",
    "/api/v1/users/": "uma",
}


@pytest.fixture(scope="module")
def connection() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@ANYTHING.parametrize()
@SETTINGS
def test_whatever_is_sent_the_answer_is_as_described(
    case: schemathesis.Case, site: Site, connection: requests.Session
) -> None:
    send(case, site, connection, "admin")


@pytest.mark.parametrize("role", ROLES)
@RIGHT.parametrize()
@SETTINGS
def test_what_is_answered_about_what_is_there_is_as_described(
    case: schemathesis.Case, site: Site, connection: requests.Session, role: str
) -> None:
    for below, name in OBJECTS.items():
        if case.path_parameters and case.operation.path.startswith(below):
            case.path_parameters = dict.fromkeys(case.path_parameters, name)
    send(case, site, connection, role)


def send(case: schemathesis.Case, site: Site, connection: requests.Session, role: str) -> None:
    """Ask as this role, from an address of its own, and check what comes back."""
    headers = {"Authorization": f"Bearer {site.tokens[role]}", "X-Forwarded-For": site.an_address()}
    case.call_and_validate(base_url=site.url, session=connection, headers=headers)


def test_nothing_of_all_that_was_a_fault_of_the_servers(site: Site) -> None:
    assert site.faults() == []
