"""Cordboard as a plugin of Twisted: `twist cti -c FILE`. The process around it, its log too, is twist's."""

import os
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.error import CannotListenError
from twisted.python import usage

from cti import logs
from cti.commands import CommandFailed
from cti.commands.configuration import configuration_path, read_settings
from cti.commands.serve import UMASK, Reloads, configure_log, why_not_started
from cti.service import CtiService
from cti.settings import Settings
from cti.store.base import StoreError


class Options(usage.Options):
    """What may stand behind `twist cti`."""

    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "The configuration file; without it, $CTI_CONFIG names it."]
    ]
    path: Path
    settings: Settings

    def postOptions(self) -> None:
        try:
            self.path = configuration_path(self["config"])
            self.settings = read_settings(self.path)
        except CommandFailed as error:
            raise usage.UsageError(str(error)) from error


class _PluginService(CtiService):
    """Ends the process with a sentence where `twist` would show a traceback."""

    def startService(self) -> None:
        try:
            super().startService()
        except (StoreError, CannotListenError) as error:
            raise SystemExit(f"cti: {why_not_started(error)}") from error


def makeService(options: Options) -> CtiService:
    """The server, in the reactor that twist has chosen."""
    from twisted.internet import reactor

    os.umask(UMASK)
    configure_log(options.settings, "auto")
    logs.forward_twisted(begin=False)
    service = _PluginService(options.settings, reactor)
    Reloads(service, options.settings, options.path, "auto", reactor).install()
    return service
