"""`cti agents match`: which user of a CRM is which agent, found out by what both say of themselves.

How agents are changed is told in `agents`.
"""

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, TimeoutError

from adapters.base import AdapterError, Capability, CrmUser, IUserSource
from cti.commands import CommandFailed, WrongUse
from cti.commands.agents import People, change_people
from cti.commands.configuration import configuration, reading
from cti.commands.output import printable, say, write_json, write_table
from cti.commands.people import people
from cti.commands.running import run
from cti.service import make_adapters
from cti.settings import Settings
from cti.store.records import AgentRecord
from routing.words import unknown

_SECONDS: Final = 60.0


@frozen
class Match:
    """What is known of one user: whose they are, and by what; or in `why`, why that is not known."""

    user: CrmUser
    agent: str | None = None
    by: str = ""
    why: str = ""


def matches(users: Sequence[CrmUser], agents: Sequence[AgentRecord], adapter: str) -> list[Match]:
    """Whose each user is, in the order of the users. Who has a user of this adapter already keeps them."""
    known = {agent.crm[adapter]: agent.id for agent in agents if adapter in agent.crm}
    found = {user.id: Match(user, known[user.id], "kept") for user in users if user.id in known}
    found |= {
        user.id: Match(user, why="is switched off in the CRM")
        for user in users
        if not user.active and user.id not in found
    }
    free = {agent.id: agent for agent in agents if adapter not in agent.crm}
    for by, fits in _WAYS.items():
        pairs = [
            (user, agent)
            for user in users
            if user.id not in found
            for agent in free.values()
            if fits(user, agent)
        ]
        of_user, of_agent = Counter(user.id for user, _ in pairs), Counter(agent.id for _, agent in pairs)
        for user, agent in pairs:
            if of_user[user.id] > 1:
                found[user.id] = Match(user, why=f"several agents fit by their {by}")
            elif of_agent[agent.id] > 1:
                found[user.id] = Match(user, why=f"agent {agent.id} fits another user by their {by}, too")
            else:
                found[user.id] = Match(user, agent.id, by)
                del free[agent.id]
    return [found.get(user.id, Match(user, why="no agent fits")) for user in users]


def match_agents(arguments: Namespace) -> int:
    settings, adapter = configuration(arguments), arguments.adapter
    if adapter not in settings.adapters:
        raise WrongUse(unknown("adapter", adapter, settings.adapters))
    users = run(lambda reactor: _users(settings, adapter, reactor))
    with reading(settings) as reader:
        agents = people(reader, settings)
    found = matches(users, agents, adapter)
    new = {match.agent: match.user.id for match in found if match.agent is not None and match.by != "kept"}
    if arguments.apply and new:
        change_people(settings, lambda present: _give(present, adapter, new))
    if arguments.format == "json":
        write_json(
            {"adapter": adapter, "applied": arguments.apply, "users": [_json(match) for match in found]}
        )
        return 0
    write_table(
        ("USER", "NAME", "LOGIN", "EXTENSION", "AGENT", "BY"),
        [
            (
                printable(match.user.id),
                printable(match.user.name),
                printable(match.user.login),
                printable(match.user.extension),
                match.agent,
                match.by or f"({match.why})",
            )
            for match in found
        ],
    )
    done = "were given their users" if arguments.apply else "would be given their users; --apply does it"
    sys.stdout.flush()
    say(f"{len(new)} agents {done}")
    return 0


async def _users(settings: Settings, name: str, reactor: Any) -> Sequence[CrmUser]:
    adapter = make_adapters(settings, reactor)[name]
    if Capability.USERS not in adapter.capabilities or not isinstance(adapter, IUserSource):
        raise CommandFailed(
            f"adapter {name} cannot tell the users of its CRM; `cti agents set` takes them by hand"
        )
    try:
        await Deferred.fromCoroutine(adapter.start()).addTimeout(_SECONDS, reactor)
        return await Deferred.fromCoroutine(adapter.users()).addTimeout(_SECONDS, reactor)
    except TimeoutError as error:
        raise CommandFailed(f"adapter {name} did not answer within {_SECONDS:.0f} s") from error
    except AdapterError as error:
        raise CommandFailed(f"adapter {name}: {error}") from error
    finally:
        await adapter.stop()


def _give(present: People, adapter: str, users: Mapping[str, str]) -> None:
    for agent, user in users.items():
        # Who was given one meanwhile keeps it.
        if agent in present and adapter not in present[agent].crm:
            present[agent] = evolve(present[agent], crm={**present[agent].crm, adapter: user})


def _json(match: Match) -> dict[str, Any]:
    user = match.user
    return {
        "user": user.id,
        "name": user.name,
        "login": user.login,
        "extension": user.extension,
        "agent": match.agent,
        "by": match.by or None,
        "why": match.why or None,
    }


def _by_login(user: CrmUser, agent: AgentRecord) -> bool:
    # A log-in is often an e-mail address.
    return agent.id.casefold() in (user.login.casefold(), user.login.partition("@")[0].casefold())


def _by_extension(user: CrmUser, agent: AgentRecord) -> bool:
    return bool(user.extension) and any(
        phone.partition("/")[2].partition("@")[0] == user.extension for phone in agent.phones
    )


def _by_name(user: CrmUser, agent: AgentRecord) -> bool:
    return bool(user.name) and _words(user.name) == _words(agent.name)


def _words(name: str) -> Sequence[str]:
    """Katja Brandt and Brandt, Katja are the same."""
    return sorted(name.replace(",", " ").casefold().split())


#: Surest first.
_WAYS: Final[Mapping[str, Callable[[CrmUser, AgentRecord], bool]]] = {
    "login": _by_login,
    "extension": _by_extension,
    "name": _by_name,
}
