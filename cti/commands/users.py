"""`cti user`: who may log in. There is nobody, and no password, until the first is added here."""

import getpass
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Final

from attrs import evolve

from cti.commands import CommandFailed, WrongUse
from cti.commands.configuration import configuration, reading, writing
from cti.commands.output import local, say, write_json, write_table
from cti.commands.people import noted, people
from cti.store.records import UserRecord
from cti.store.threaded import CommandStore
from cti.web.passwords import LONGEST, kept_of, wrong_with
from cti.web.users import user_json, user_name, wrong_with_user
from routing.words import quoted, unknown

_HEAD: Final = ("NAME", "ROLE", "AGENT", "LANGUAGE", "STATE", "CREATED", "PASSWORD OF")


def add_user(arguments: Namespace) -> int:
    settings = configuration(arguments)
    now = time.time()
    user = UserRecord(user_name(arguments.name), arguments.role, "", now, now, arguments.agent)
    with writing(settings) as store:
        if store.read.user(user.name) is not None:
            raise CommandFailed(f"there is a user {quoted(user.name)} already; `cti user set` changes them")
        _check(user, {agent.id for agent in people(store.read, settings)})
        user = evolve(user, password=kept_of(_new_password(arguments, user.name)))
        _write(store, user, "user.added", ends=False)
    return 0


def set_user(arguments: Namespace) -> int:
    settings = configuration(arguments)
    name = user_name(arguments.name)
    with writing(settings) as store:
        user = _known(store, name)
        changed = user
        if arguments.role is not None:
            changed = evolve(changed, role=arguments.role)
        if arguments.agent is not None:
            changed = evolve(changed, agent=arguments.agent or None)
        if arguments.disabled is not None:
            changed = evolve(changed, disabled=arguments.disabled == "yes")
        _check(changed, {agent.id for agent in people(store.read, settings)})
        if arguments.password or arguments.password_stdin:
            kept = kept_of(_new_password(arguments, name))
            changed = evolve(changed, password=kept, changed=time.time())
        if changed == user:
            raise WrongUse("what is to be changed? Say --password, --role, --agent or --disabled")
        _write(store, changed, "user.changed", ends=True)
    return 0


def list_users(arguments: Namespace) -> int:
    settings = configuration(arguments)
    with reading(settings) as reader:
        users = [] if reader is None else list(reader.users())
    if arguments.format == "json":
        write_json({"users": [user_json(user) for user in users]})
        return 0
    write_table(
        _HEAD,
        [
            (
                user.name,
                user.role,
                user.agent,
                user.language,
                "disabled" if user.disabled else "may log in",
                local(user.created),
                local(user.changed),
            )
            for user in users
        ],
    )
    return 0


def remove_user(arguments: Namespace) -> int:
    settings = configuration(arguments)
    with writing(settings) as store:
        user = _known(store, user_name(arguments.name))
        unit = store.unit()
        unit.remove_user(user.name)
        unit.end_sessions(user.name)
        unit.add_audit(noted("user.removed", user.name))
        store.commit_now(unit)
    return 0


def _write(store: CommandStore, user: UserRecord, action: str, *, ends: bool) -> None:
    unit = store.unit()
    unit.put_user(user)
    if ends:
        unit.end_sessions(user.name)
    unit.add_audit(noted(action, user.name))
    store.commit_now(unit)


def _known(store: CommandStore, name: str) -> UserRecord:
    user = store.read.user(name)
    if user is None:
        raise CommandFailed(unknown("user", name, [each.name for each in store.read.users()]))
    return user


def _check(user: UserRecord, agents: set[str]) -> None:
    wrong = wrong_with_user(user.name, user.role, user.agent, agents)
    if wrong is not None:
        raise CommandFailed(wrong)


def _new_password(arguments: Namespace, name: str) -> str:
    if arguments.password_stdin:
        password = sys.stdin.readline(LONGEST + 2).removesuffix("\n").removesuffix("\r")
    elif not sys.stdin.isatty():
        raise WrongUse("a password is asked for at a terminal; without one, say --password-stdin")
    else:
        password = _asked_twice(getpass.getpass)
    wrong = wrong_with(password, name)
    if wrong is not None:
        raise CommandFailed(wrong)
    return password


def _asked_twice(ask: Callable[[str], str]) -> str:
    while True:
        password = ask("New password: ")
        if ask("The same again: ") == password:
            return password
        say("these were not the same")
