"""The server killed under calls whose callers a real Odoo knows: each is one activity there, and one message."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.crm.odoo import Odoo
from tests.faults.crash import (
    Books,
    Killing,
    a_scene,
    faults_of_the_events,
    faults_of_the_log,
    figures,
    known,
)

# The first run on a machine fetches Odoo.
pytestmark = pytest.mark.timeout(1800)

KILLS = 20
CALLS_A_SECOND = 8.0


@pytest.fixture(scope="module")
def odoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odoo]:
    with Odoo(tmp_path_factory.mktemp("odoo")) as running:
        yield running


def test_twenty_kills_leave_one_activity_and_one_message_of_each_call_in_odoo(
    odoo: Odoo, tmp_path: Path
) -> None:
    for index in range(100):
        odoo.add("res.partner", name=f"Person {index}", phone=known(index))
    adapters = {"odoo": {"kind": "odoo", "url": odoo.url, "key": {"env": "ODOO_KEY"}}}
    seed = random.randrange(1_000_000)
    with a_scene(tmp_path, seed, {"adapters": adapters}, environment={"ODOO_KEY": odoo.key}) as scene:
        scene.rate = CALLS_A_SECOND
        scene.start()
        scene.know(odoo=100)
        scene.run(Killing(KILLS, longest_life=3.0))
        books = scene.settle()
        found = [
            *faults_of_the_log(scene.asterisk.stories, books),
            *faults_of_the_events(books),
            *faults_of_odoo(odoo, books),
        ]
        print(f"seed {seed}: {figures(scene, books)}; {_known(books)} calls of Odoo's partners")
        assert _known(books) > 20, "too few calls were of somebody whom Odoo knows"
        assert not found, f"seed {seed}: {len(found)} faults, such as\n" + "\n".join(found[:20])


def _known(books: Books) -> int:
    return sum((detail.call.party or {}).get("adapter") == "odoo" for detail in books.calls)


def faults_of_odoo(odoo: Odoo, books: Books) -> Iterator[str]:
    """Of each call with a partner, one record of a kind with our key, and none without a key."""
    marks: list[dict[str, Any]] = odoo.ask(
        "ir.model.data",
        "search_read",
        domain=[["module", "=", "cordboard"]],
        fields=["name", "model", "res_id"],
    )
    keyed = Counter((mark["model"], mark["name"].removeprefix("call_")[:36]) for mark in marks)
    for detail in books.calls:
        due = int((detail.call.party or {}).get("adapter") == "odoo")
        for model in ("mail.activity", "mail.message"):
            if (there := keyed.pop((model, detail.call.id), 0)) != due:
                yield f"{there} {model} of {detail.call.id} ({detail.call.outcome}), due {due}"
    for model, id in keyed:
        yield f"{model} of {id}, which is no call of the log's"
    everywhere = {
        "mail.activity": [["res_model", "=", "res.partner"], ["active", "in", [True, False]]],
        "mail.message": [["model", "=", "res.partner"], ["mail_activity_type_id", "!=", False]],
    }
    for model, domain in everywhere.items():
        ours = {mark["res_id"] for mark in marks if mark["model"] == model}
        there = {record["id"] for record in odoo.ask(model, "search_read", domain=domain, fields=["id"])}
        if there != ours:
            yield f"{len(there - ours)} {model} without our key"
