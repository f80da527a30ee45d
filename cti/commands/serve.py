"""`cti serve`: the server in the foreground, from its first signal handler to the exit code.

What the server does is `cti.service`'s; here are the process around it and the reloading of its configuration.
"""

import errno
import gc
import os
import resource
import signal
import sys
import threading
from argparse import Namespace
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Final, cast

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from cti import logs
from cti.commands import CommandFailed, WrongConfiguration
from cti.commands.configuration import configuration_path, read_settings
from cti.service import CtiService
from cti.settings import Settings
from cti.store.base import StoreError

log = logs.get_logger("cti.serve")

#: Seconds that stopping may take in all; who supervises us would kill us soon afterwards.
STOP_SECONDS: Final = 10.0
#: Not even the group reads what the server writes: people's names, numbers and notes.
UMASK: Final = 0o077

#: Files that may be open at once, if the system lets us: each desktop is one, and 1,024 is what systemd gives.
FILES: Final = 20_000
#: Objects made before the garbage collector looks, and how many of its rounds make one of the next generation.
GC_THRESHOLDS: Final = (50_000, 20, 50)
#: What of the configuration is taken over only by a restart.
_FIXED: Final = ("region", "store", "fastagi", "http", "asterisks", "answer_ms", "reservation")


def serve(arguments: Namespace) -> int:
    os.umask(UMASK)
    path = configuration_path(getattr(arguments, "config", None))
    settings = read_settings(path)
    configure_log(settings, arguments.log_format)
    logs.forward_twisted()
    _log_what_nobody_catches()

    # Here, because importing it makes no other reactor possible.
    from cti import steady_reactor

    steady_reactor.install()
    from twisted.internet import reactor

    return _Process(CtiService(settings, reactor), settings, path, arguments.log_format, reactor).run()


def configure_log(settings: Settings, log_format: logs.Format) -> None:
    """Log as the configuration says from now on."""
    # Under `twist`, sys.stderr is a logger itself.
    stream = None if sys.__stderr__ is None else cast(BinaryIO, sys.__stderr__.buffer)
    logs.configure(level=cast(logs.Level, settings.log.level), format=log_format, stream=stream)


def why_not_started(error: StoreError | CannotListenError) -> str:
    """In a sentence, why the server could not come up."""
    if isinstance(error, StoreError):
        return str(error)
    where = f"{error.interface}:{error.port}"
    if getattr(error.socketError, "errno", None) == errno.EADDRINUSE:
        return f"{where} is in use already: is another `cti serve` running?"
    return f"cannot listen on {where}: {getattr(error.socketError, 'strerror', None) or error.socketError}"


class Reloads:
    """Takes over the configuration file when asked, one reading at a time; a bad one changes nothing."""

    def __init__(
        self, service: CtiService, started: Settings, path: Path, log_format: logs.Format, reactor: Any
    ) -> None:
        """`started`: what the server runs with; `log_format` is kept when the level changes."""
        self._service = service
        self._started = started
        self._path = path
        self._log_format = log_format
        self._reactor = reactor
        self._reading = False
        self._again = False

    def install(self) -> None:
        """From now on SIGHUP asks."""
        signal.signal(signal.SIGHUP, self._signalled)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self.request)

    def request(self) -> None:
        """Read the file; if it is being read, read it once more afterwards, since it may have changed."""
        if self._reading:
            self._again = True
            return
        self._reading = True
        # In a thread: a long file takes PyYAML long enough for callers to notice.
        reading: Deferred[Settings] = deferToThread(read_settings, self._path)
        reading.addCallback(self._take_over).addErrback(self._refuse).addBoth(self._done)

    def _take_over(self, settings: Settings) -> None:
        self._service.reload(settings)
        configure_log(settings, self._log_format)
        for part in _FIXED:
            if getattr(settings, part) != getattr(self._started, part):
                log.warning("this part of the configuration is taken over by a restart only", part=part)

    def _refuse(self, failure: Failure) -> None:
        if isinstance(failure.value, WrongConfiguration):
            for problem in str(failure.value).splitlines():
                log.error("the configuration has a problem", problem=problem)
        else:
            log.error("the configuration could not be taken over", exception=failure.getTraceback())
        log.error("the old configuration stays in force", file=str(self._path))

    def _done(self, _result: object) -> None:
        self._reading = False
        if self._again:
            self._again = False
            self.request()


class _Process:
    """The server as a process of its own."""

    def __init__(
        self, service: CtiService, settings: Settings, path: Path, log_format: logs.Format, reactor: Any
    ) -> None:
        self._service = service
        self._reloads = Reloads(service, settings, path, log_format, reactor)
        self._reactor = reactor
        self._failed: str | None = None
        self._stopping = False

    def run(self) -> int:
        """Serve until a signal comes. Raises `CommandFailed` when the server does not come up or go down."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        self._reloads.install()
        _allow_files()
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        self._reactor.callWhenRunning(self._start)
        # Twisted's own handlers would take a second Ctrl-C for an error.
        self._reactor.run(installSignalHandlers=False)
        if self._failed is not None:
            raise CommandFailed(self._failed)
        return 0

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._end)

    def _end(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._reactor.stop()

    def _start(self) -> None:
        try:
            self._service.startService()
            # What is loaded by now stays: looking through it again and again cost 6 % of each call, and a fifth
            # of the longest waits (tests/bench/inbound.py).
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
        except (StoreError, CannotListenError) as error:
            self._failed = why_not_started(error)
            self._end()
        except Exception:
            log.exception("the server does not start")
            self._failed = "the server does not start; the log says more"
            self._end()

    def _stop(self) -> "Deferred[None]":
        return (
            self._service.stopService().addTimeout(STOP_SECONDS, self._reactor).addErrback(self._not_stopped)
        )

    def _not_stopped(self, failure: Failure) -> None:
        if self._failed is not None:
            # It never came up; what there was of it ends with the process.
            log.debug("stopping failed", exception=failure.getTraceback())
            return
        if isinstance(failure.value, TimeoutError):
            why = f"stopping took more than {STOP_SECONDS:g} s and was given up"
            log.error(why)
        else:
            why = "stopping failed; the log says more"
            log.error("stopping failed", exception=failure.getTraceback())
        self._failed = why


def _allow_files() -> None:
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _log_what_nobody_catches() -> None:
    sys.unraisablehook = _unraisable
    threading.excepthook = _uncaught_in_thread


def _unraisable(what: Any) -> None:
    log.error(
        "an error that nobody could catch", exc_info=(what.exc_type, what.exc_value, what.exc_traceback)
    )


def _uncaught_in_thread(what: Any) -> None:
    log.error(
        "a thread ended by an error",
        thread=getattr(what.thread, "name", None),
        exc_info=(what.exc_type, what.exc_value, what.exc_traceback),
    )
