"""`cti check`: whether the server would start with a configuration, what it understood of it, and, with `--live`,
whether the Asterisks have what they need for it and the CRMs answer.
"""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from cti.commands import WrongUse
from cti.commands.configuration import configuration, reading
from cti.commands.output import printable, write_json
from cti.commands.people import phones_of
from cti.settings import Asterisk, Settings
from cti.yaml_file import Problem, YamlFile


def check(arguments: Namespace) -> int:
    settings = configuration(arguments)
    with reading(settings) as reader:
        stored = [] if reader is None else [agent.id for agent in reader.agents()]
        phones = phones_of(reader, settings)
    known = sorted(settings.agents.keys() | set(stored))
    understood: dict[str, Any] = {
        "file": str(settings.path),
        "region": settings.region,
        "services": {
            name: {
                "mode": str(service.mode),
                "numbers": list(service.numbers),
                "rules": [rule.name for rule in service.rules],
            }
            for name, service in settings.services.items()
        },
        "adapters": {name: adapter.kind for name, adapter in settings.adapters.items()},
        "asterisks": list(settings.asterisks),
        "webhooks": list(settings.webhooks),
        "notify": list(settings.notify),
        "agents": known,
    }
    for each in settings.advice:
        print(each, file=sys.stderr)
    live: dict[str, Any] | None = None
    if arguments.live:
        live = _live(settings, _some_asterisks(settings, arguments.pbx), phones)
    elif arguments.pbx:
        raise WrongUse("--pbx says which Asterisk --live looks at; say --live as well")
    code = 0 if live is None or live["ok"] else 1
    if arguments.format == "json":
        write_json(understood if live is None else understood | {"live": live})
        return code
    rules = sum(len(service.rules) for service in settings.services.values())
    parts = (
        _counted(len(settings.services), "service", settings.services),
        _counted(rules, "rule"),
        _counted(len(settings.adapters), "adapter", settings.adapters),
        f"{_counted(len(known), 'agent')} known",
    )
    print(f"{settings.path}: OK: {', '.join(parts)}")
    if live is not None:
        _show_live(live)
    return code


def _some_asterisks(settings: Settings, name: str | None) -> Sequence[Asterisk]:
    """The one called `name`, or all. Raises `WrongUse`."""
    if name is None:
        return list(settings.asterisks.values())
    if name not in settings.asterisks:
        raise WrongUse(f"no Asterisk is called {name!r}; known are {', '.join(settings.asterisks)}")
    return [settings.asterisks[name]]


def _live(
    settings: Settings, asterisks: Sequence[Asterisk], phones: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    # With Twisted, which the check of a file alone can do without.
    from cti.commands.live import look_around

    reports, findings = look_around(settings, asterisks, phones)
    file = YamlFile(settings.path)
    root = file.open()
    described = []
    for finding in findings:
        if root is not None:
            file.wrong_below(root, finding.keys, finding.said, of_key=False)
        place = file.problems[-1] if file.problems else Problem(1, 1, "", finding.said, str(settings.path))
        described.append(
            {
                "kind": finding.kind,
                "where": finding.where,
                "path": place.path,
                "line": place.line,
                "column": place.column,
                "text": finding.text,
                "shown": str(place),
            }
        )
    return {
        "ok": not any(finding.kind == "wrong" for finding in findings),
        "asterisks": {report.pbx: {"version": report.version} for report in reports},
        "findings": described,
    }


def _show_live(live: Mapping[str, Any]) -> None:
    for finding in live["findings"]:
        print(printable(finding["shown"]), file=sys.stderr)
    for name, asterisk in live["asterisks"].items():
        if asterisk["version"] is not None:
            print(f"{name}: Asterisk {printable(asterisk['version'])}")
    wrong = sum(finding["kind"] == "wrong" for finding in live["findings"])
    print("live: OK" if live["ok"] else f"live: {_counted(wrong, 'thing')} to change")


def _counted(count: int, what: str, names: object = ()) -> str:
    listed = list(names) if isinstance(names, dict) else []
    shown = " ".join(map(str, listed[:5])) + (" …" if len(listed) > 5 else "")
    return f"{count} {what}{'' if count == 1 else 's'}" + (f" ({shown})" if listed else "")
