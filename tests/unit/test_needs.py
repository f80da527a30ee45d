"""What an Asterisk needs, read out of the shipped files, and where Asterisks differ."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from cti.asterisk.needs import (
    ACTIONS,
    CALL_CONTROL,
    UnknownToUs,
    passes_filters,
    read_categories,
    read_dialplan,
    words,
)
from cti.asterisk.versions import NEWEST, OLDEST, differences
from cti.calls.tracker import WANTED

ROOT = Path(__file__).parents[2]
MANAGER = read_categories((ROOT / "asterisk-conf/manager.conf").read_text(encoding="utf-8"))


def test_every_application_and_function_of_our_dialplan_has_a_module_and_the_file_a_number() -> None:
    ours = read_dialplan((ROOT / "dialplan/cti.conf").read_text(encoding="utf-8"))
    assert ours.version.isdecimal()
    assert ours.modules["res_agi"] == ("AGI",)
    assert {"cti-inbound", "cti-fallback"} <= set(ours.contexts)
    with_mailboxes, without = (ours.modules_for(voicemail=needed) for needed in (True, False))
    assert set(with_mailboxes) - set(without) == {"app_voicemail"}


def test_a_dialplan_is_read_without_its_comments() -> None:
    text = """
; exten => 1,1,Queue(x)
[one]
exten => _X!,1,NoOp(${DB(a/b)}) ; TIMEOUT(absolute)
 same => n(there),Set(PJSIP_HEADER(add,Call-Info)=<x>\\;purpose=info${URIENCODE(y)})
[two-2]
exten=>s,1,Goto(one,1,1)
[cti-version]
exten => 7,1,NoOp()
"""
    found = read_dialplan(text)
    assert (found.version, found.contexts) == ("7", ("one", "two-2", "cti-version"))
    assert found.modules == {
        "func_db": ("DB",),
        "func_uri": ("URIENCODE",),
        "res_pjsip_header_funcs": ("PJSIP_HEADER",),
    }


def test_what_no_module_is_known_to_bring_is_an_error() -> None:
    with pytest.raises(UnknownToUs, match="Zapateller"):
        read_dialplan("[a]\nexten => 1,1,Zapateller()\n")


def actions_asked_for() -> Iterator[str]:
    """The names in `….action("NAME", …)` and `….list_action("NAME", …)` of the server; its commands may try more."""
    for file in sorted((ROOT / "cti").rglob("*.py")):
        if file.parent.name == "commands":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("action", "list_action", "_do", "_confirming")
            ):
                # `_confirming` has first what is to come true.
                name = node.args[1:2] if node.func.attr == "_confirming" else node.args[:1]
                yield from (str(each.value) for each in name if isinstance(each, ast.Constant))


def test_every_action_that_the_server_asks_for_is_checked_and_no_other() -> None:
    assert set(actions_asked_for()) - {"Ping"} == {*ACTIONS, *CALL_CONTROL}


def test_every_event_that_the_server_wants_passes_the_shipped_filter() -> None:
    filters = [value for name, value in MANAGER["cti"].settings if name == "eventfilter"]
    assert [event for event in WANTED | {"FullyBooted"} if not passes_filters(event, filters)] == []
    assert passes_filters("VarSet", filters) is False


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ([], True),
        (["Event: New"], True),
        (["Event: Hangup"], False),
        (["Event: Hangup", "Event: New"], True),
        (["!Event: Hangup"], True),
        (["!Event: New"], False),
        (["Event: New", "!Privilege: call"], False),
        (["Event: (New"], None),
    ],
)
def test_filters_are_applied_as_asterisk_does(filters: list[str], passes: bool | None) -> None:
    assert passes_filters("Newchannel", filters) is passes


def test_of_a_setting_the_last_counts() -> None:
    found = read_categories("[a]\nread = call ; all\n;read = no\nread=system, all\n[b](+)\nx => 1\n")
    assert found["a"].last("read") == "system, all"
    assert words(found["a"].last("read")) == {"system", "all"}
    assert found["b"].last("x") == "1"
    assert found["b"].last("y") is None
    assert words(None) == frozenset()


@pytest.mark.parametrize(
    ("version", "major", "supported", "criteria"),
    [
        ("22.10.1~dfsg+~cs6.15.60671435-1", 22, True, True),
        ("16.28.0~dfsg-0+deb11u4", 16, True, False),
        ("16.27.0", 16, False, False),
        ("17.9.4", 17, False, False),
        ("18.13.0", 18, False, True),
        ("18.14.0", 18, True, True),
        ("19.5.0", 19, False, False),
        ("19.6.0", 19, True, False),
        ("certified/18.9-cert1", 18, False, True),
        ("certified/20.7-cert9", 20, True, True),
        ("GIT-22-7a3bd1f", 22, True, True),
        ("13.38.3", 13, False, False),
        ("23.0.0", 23, False, True),
        ("GIT-master-7a3bd1f", None, False, True),
        ("", None, False, True),
    ],
)
def test_versions_are_told_apart(version: str, major: int | None, supported: bool, criteria: bool) -> None:
    found = differences(version)
    assert (found.major, found.supported, found.filter_criteria) == (major, supported, criteria)
    assert OLDEST < NEWEST
