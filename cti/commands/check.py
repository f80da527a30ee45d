"""`cti check`: whether the server would start with a configuration, and what it understood of it."""

from argparse import Namespace

from cti.commands.configuration import configuration, reading
from cti.commands.output import write_json


def check(arguments: Namespace) -> int:
    settings = configuration(arguments)
    with reading(settings) as reader:
        stored = [] if reader is None else [agent.id for agent in reader.agents()]
    known = sorted(settings.agents.keys() | set(stored))
    understood = {
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
        "agents": known,
    }
    if arguments.format == "json":
        write_json(understood)
        return 0
    rules = sum(len(service.rules) for service in settings.services.values())
    parts = (
        _counted(len(settings.services), "service", settings.services),
        _counted(rules, "rule"),
        _counted(len(settings.adapters), "adapter", settings.adapters),
        f"{_counted(len(known), 'agent')} known",
    )
    print(f"{settings.path}: OK: {', '.join(parts)}")
    return 0


def _counted(count: int, what: str, names: object = ()) -> str:
    listed = list(names) if isinstance(names, dict) else []
    shown = " ".join(map(str, listed[:5])) + (" …" if len(listed) > 5 else "")
    return f"{count} {what}{'' if count == 1 else 's'}" + (f" ({shown})" if listed else "")
