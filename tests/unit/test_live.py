"""`cti check --live` where a real Asterisk cannot show it: several of them, and versions that nobody has tried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from cti.asterisk.ami import AmiActionFailed
from cti.asterisk.ami_parser import Response
from cti.asterisk.needs import ACTIONS, Dialplan, read_dialplan
from cti.asterisk.versions import SUPPORTED
from cti.commands.configuration import read_settings
from cti.commands.live import Finding, Needs, Report, _Look, of_all
from cti.settings import Settings

SAMPLE = (Path(__file__).parents[2] / "config" / "small.yaml").read_text(encoding="utf-8")
PHONES = {"anna": ["PJSIP/anna"], "boris": ["PJSIP/4915228817386@trunk"]}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two Asterisks, main and branch."""
    config = tmp_path / "cti.yaml"
    branch = '  branch: {ami: "127.0.0.1:6038", username: cti, secret: "x"}\n'
    config.write_text(SAMPLE.replace("asterisks:\n", f"asterisks:\n{branch}"), encoding="utf-8")
    return read_settings(config)


def a_report(pbx: str, *endpoints: str, fallback: bool = True) -> Report:
    return Report(pbx, "22.1.0", endpoints=frozenset(endpoints), fallbacks={"sales": fallback})


def told(reports: list[Report], settings: Settings, phones: Mapping[str, list[str]] = PHONES) -> list[str]:
    return [
        f"{finding.kind} {'.'.join(map(str, finding.keys))}" for finding in of_all(reports, settings, phones)
    ]


def test_a_phone_has_to_be_known_at_one_asterisk_only(settings: Settings) -> None:
    assert told([a_report("branch", "anna"), a_report("main", "trunk")], settings) == []
    assert told([a_report("branch"), a_report("main", "trunk")], settings) == ["wrong agents.anna.phones"]
    assert told([a_report("main", "anna")], settings) == ["unseen agents.boris.phones"]
    assert told([Report("branch"), Report("main")], settings) == []


def test_a_fallback_has_to_be_where_calls_of_its_service_come_in(settings: Settings) -> None:
    here, nowhere = a_report("main", "anna", "trunk"), a_report("branch", fallback=False)
    assert told([nowhere, here], settings) == ["unseen services.sales.fallback"]
    assert told([nowhere, a_report("main", "anna", "trunk", fallback=False)], settings) == [
        "wrong services.sales.fallback"
    ]


class SaysOnly:
    """An AMI that answers these actions with these headers, and refuses the others."""

    def __init__(self, answers: Mapping[str, Mapping[str, str]]) -> None:
        self._answers = answers

    async def action(self, name: str, **_fields: str) -> Response:
        if name not in self._answers:
            raise AmiActionFailed("Permission denied")
        return Response({"Response": "Success", **self._answers[name]})


def looked(
    settings: Settings,
    answers: Mapping[str, Mapping[str, str]],
    ami: type[SaysOnly] = SaysOnly,
    dialplan: Dialplan | None = None,
) -> list[Finding]:
    needs = Needs.shipped()
    if dialplan is not None:
        needs = evolve(needs, dialplan=dialplan)
    report = Report("main")
    client: Any = ami(answers)
    look = _Look(client, settings.asterisks["main"], settings, PHONES, needs, report)
    Deferred.fromCoroutine(look.around())
    return report.findings


@pytest.mark.parametrize(
    ("version", "fine"),
    [
        ("16.30.1", True),
        ("22.1.0", True),
        ("16.27.0", False),
        ("17.9.4", False),
        ("13.38.3", False),
        ("x", False),
    ],
)
def test_a_version_that_nobody_has_tried_is_named(settings: Settings, version: str, fine: bool) -> None:
    answers = {"ListCommands": {"CoreSettings": ""}, "CoreSettings": {"AsteriskVersion": version}}
    wrong = [finding.text for finding in looked(settings, answers) if finding.where == "Asterisk"]
    assert wrong == ([] if fine else [f"is version {version!r}; {SUPPORTED}, would be right"])


def test_who_may_do_nothing_is_told_which_rights_and_that_the_rest_is_not_seen(settings: Settings) -> None:
    found = looked(settings, {"ListCommands": {"Ping": ""}})
    (wrong,) = [finding for finding in found if finding.kind == "wrong"]
    of_core = [name for name, module in ACTIONS.items() if module is None]
    assert f"may not do {', '.join(of_core)};" in wrong.text
    unseen = {finding.where for finding in found if finding.kind == "unseen"}
    assert unseen == {"Asterisk", "modules.conf", "manager.conf", "extensions.conf", "AstDB", "pjsip.conf"}


def test_a_module_that_many_do_without_is_advice(settings: Settings) -> None:
    dialplan = read_dialplan("[a]\nexten => 1,1,ConfBridge(1)\n same => n,Dial(PJSIP/anna)\n")
    found = looked(settings, {"ListCommands": {"ModuleCheck": ""}}, dialplan=dialplan)
    kinds = {
        finding.text.partition(" ")[0]: finding.kind for finding in found if finding.where == "modules.conf"
    }
    assert (kinds["app_confbridge"], kinds["app_dial"]) == ("advice", "wrong")


@pytest.mark.parametrize(("version", "seen"), [("22.1.0", False), ("16.30.1", True)])
def test_filters_with_criteria_are_not_judged_where_asterisk_knows_them(
    settings: Settings, version: str, seen: bool
) -> None:
    class WithCriteria(SaysOnly):
        async def action(self, name: str, **fields: str) -> Response:
            answer = await super().action(name, **fields)
            return Response({**answer.headers, "Category-000000": fields.get("Category", "")})

    answers = {
        "ListCommands": {"CoreSettings": "", "GetConfig": ""},
        "CoreSettings": {"AsteriskVersion": version},
        "GetConfig": {"Line-000000-000000": "eventfilter(name(Newchannel))="},
    }
    texts = [finding.text for finding in looked(settings, answers, WithCriteria)]
    assert any("lets through" in text for text in texts) is not seen
