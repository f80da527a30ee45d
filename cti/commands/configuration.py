"""How commands come by the configuration and by the store that it names."""

import os
import sys
import time
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from adapters.base import AdapterKindError, IAdapterKind, load_adapter_kinds
from cti.calls.subscriptions import subscriptions
from cti.commands import CommandFailed, WrongConfiguration, WrongUse
from cti.own_code import load_own
from cti.secret import SecretError, read_secret
from cti.settings import Settings, SettingsError, load_settings
from cti.store.base import StoreError
from cti.store.opening import Place as Database, open_for_command, open_for_reading
from cti.store.queries import Reader
from cti.store.records import AgentRecord
from cti.store.threaded import CommandStore
from cti.yaml_file import YamlFile

_FROM: Final = "CTI_CONFIG"


class _OptionsOfKinds(Mapping[str, type[Any]]):
    """Kind of adapter → the class of its options; a kind's code is loaded when it is asked for."""

    def __init__(self, kinds: Mapping[str, IAdapterKind]) -> None:
        self._kinds = kinds

    def __getitem__(self, kind: str) -> type[Any]:
        return self._kinds[kind].options_class

    def __contains__(self, kind: object) -> bool:
        return kind in self._kinds

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


def configuration_path(given: str | None) -> Path:
    """The file that `-c` or the environment names. Raises `WrongUse` if neither does."""
    path = given or os.environ.get(_FROM)
    if not path:
        raise WrongUse(f"which configuration? Say -c FILE, or set {_FROM}=FILE in the environment")
    return Path(path)


def configuration(arguments: Namespace) -> Settings:
    """The settings for a command. Raises `WrongUse`, `WrongConfiguration`."""
    return read_settings(configuration_path(getattr(arguments, "config", None)))


def read_settings(path: Path) -> Settings:
    """The settings in a file; agents and groups that only the store knows count as known.

    Raises `WrongConfiguration`. Blocks, for the file and the store.
    """
    try:
        return settings_with(path)
    except SettingsError as error:
        agents = _stored_agents(path)
        if not agents:
            raise WrongConfiguration(str(error)) from error
    try:
        return settings_with(path, agents)
    except SettingsError as error:
        raise WrongConfiguration(str(error)) from error


def settings_with(path: Path, agents: Collection[AgentRecord] = ()) -> Settings:
    """The settings in a file, if these were the agents in the store. Raises `SettingsError`."""
    try:
        return load_settings(
            path,
            adapter_kinds=_OptionsOfKinds(load_adapter_kinds()),
            known_agents={agent.id for agent in agents},
            known_groups={group for agent in agents for group in agent.groups},
            known_skills={skill for agent in agents for skill in agent.skills},
            own=load_own(),
            environ=os.environ,
        )
    except AdapterKindError as error:
        raise WrongConfiguration(f"{path}: {error}") from error


@contextmanager
def reading(settings: Settings) -> Iterator[Reader | None]:
    """The store to read from, None if there is none yet; it is not made, nor its schema changed.

    Raises `CommandFailed`, for what goes wrong in the block with the store, too.
    """
    try:
        reader = open_for_reading(settings.store.place)
        try:
            yield reader
        finally:
            if reader is not None:
                reader.close()
    except StoreError as error:
        raise CommandFailed(str(error)) from error


@contextmanager
def writing(settings: Settings) -> Iterator[CommandStore]:
    """The store to write to, made if there is none. Raises `CommandFailed` as `reading` does."""
    try:
        with open_for_command(
            settings.store.place, destinations=subscriptions(settings), clock=time.time
        ) as store:
            yield store
    except StoreError as error:
        raise CommandFailed(str(error)) from error


def _stored_agents(path: Path) -> Collection[AgentRecord]:
    """The agents in the store that a file names which has problems, as far as that can be found out."""
    database = _named_store(path)
    try:
        reader = None if database is None else open_for_reading(database)
        if reader is None:
            return ()
        try:
            return reader.agents()
        finally:
            reader.close()
    except StoreError as error:
        # The problems of the file are what is told; that this may be why some of them are there, as well.
        print(f"cti: the agents in the store are not known: {error}", file=sys.stderr)
        return ()


def _named_store(path: Path) -> Database | None:
    file = YamlFile(path)
    store = file.section(file.section(file.open(), None).get("store"), None)
    if (url := store.get("postgresql")) is not None:
        try:
            return read_secret(file.plain(url), base=file.base, environ=os.environ).reveal()
        except SecretError:
            return None
    name = file.text(store.get("sqlite"))
    return None if name is None else file.base / name
