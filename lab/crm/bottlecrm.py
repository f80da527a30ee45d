"""A real BottleCRM on a PostgreSQL of its own, with one organisation in Germany and a token for its API.

Needs a Python 3.12 or later beside ours. Its tables are made without its migrations, which take minutes and add the
row-level security between organisations; there is only one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from attrs import define, field

from lab.crm.cache import kept, python_environment
from lab.crm.postgresql import Postgres
from lab.ports import LOOPBACK, PortBlock
from lab.processes import end, eventually, start, tail
from lab.tree import LabUnavailable, run_logged

_VERSION = "1.35.0"
_NAME = f"bottlecrm-{_VERSION}"
_DATABASE = "bottlecrm"
_SETTINGS = '''\
from crm.settings import *


class _Nowhere(dict):
    """Every application's migrations: none."""

    def __contains__(self, name):
        return True

    def __getitem__(self, name):
        return None


MIGRATION_MODULES = _Nowhere()
CELERY_BROKER_URL = "memory://"
CELERY_RESULT_BACKEND = "cache+memory://"
CELERY_TASK_ALWAYS_EAGER = True
'''
_SEED = """\
import django

django.setup()
from django.contrib.auth import get_user_model
from common.models import Org, PersonalAccessToken, Profile

org = Org.objects.create(name="Company", default_country="DE")
user = get_user_model().objects.create_user(email="anna@company.example", password="never used")
profile = Profile.objects.create(user=user, org=org, role="ADMIN")
token, _ = PersonalAccessToken.generate(profile, "cordboard")
print(token, profile.id)
"""


def _python() -> str:
    """A Python that is new enough. Raises LabUnavailable."""
    found = [path for n in (12, 13, 14) if (path := shutil.which(f"python3.{n}"))]
    found += map(str, sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python")))
    for path in found:
        # Pyenv has a stub of each version, which fails if that one is not chosen.
        if subprocess.run([path, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return path
    raise LabUnavailable("BottleCRM needs Python 3.12 or later; install one, with its module venv")


def _installed() -> Path:
    return python_environment(f"{_NAME}-python", f"django-crm=={_VERSION}", "uvicorn", python=_python())


def _environment(directory: Path, port: int) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": os.devnull,
        "PYTHONPATH": str(directory),
        "DJANGO_SETTINGS_MODULE": "lab_settings",
        "SECRET_KEY": "only for tests, on this machine, for as long as they last",
        "DBHOST": LOOPBACK,
        "DBPORT": str(port),
        "DBNAME": _DATABASE,
        "DBUSER": "postgres",
        "DBPASSWORD": "postgres",
    }


def _template() -> Path:
    """A directory with a cluster's data, its tables made and its organisation in it, and the token."""
    installed = _installed()

    def make(place: Path) -> None:
        (place / "lab_settings.py").write_text(_SETTINGS)
        ports = PortBlock.claim()
        with Postgres(place / "cluster", port=ports.take()) as cluster:
            cluster.sql(f"CREATE DATABASE {_DATABASE}")
            environment = [f"{k}={v}" for k, v in _environment(place, cluster.port or 0).items()]
            python = ["env", "-C", str(place), *environment, str(installed / "bin/python")]
            log = place.with_suffix(".log")
            run_logged([*python, "-m", "django", "migrate", "--run-syncdb"], log, 600)
            seeded = subprocess.run([*python, "-c", _SEED], capture_output=True, text=True, timeout=120)
            if seeded.returncode != 0:
                raise subprocess.SubprocessError(seeded.stderr[-1000:])
            (place / "token").write_text(seeded.stdout)
            log.unlink()
        ports.release()
        shutil.copytree(place / "cluster/data", place / "data")
        shutil.rmtree(place / "cluster")

    return kept(f"{_NAME}-crm-1", make)


@define
class BottleCrm:
    """Runs below `directory`, from entering the `with` block to its end."""

    directory: Path
    port: int
    database_port: int
    token: str = field(default="", init=False)
    #: The only member of the organisation.
    profile: str = field(default="", init=False)
    _cluster: Postgres | None = field(default=None, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> BottleCrm:
        template = _template()
        self.token, self.profile = (template / "token").read_text().split()
        self._cluster = Postgres(self.directory / "cluster", template / "data", self.database_port)
        self._cluster.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._cluster is not None:
            self._cluster.stop()

    def start(self) -> None:
        """Start the server, also again. Raises TimeoutError."""
        shutil.copy(_template() / "lab_settings.py", self.directory)
        log = self.directory / "bottlecrm.log"
        self._process = process = start(
            [
                *(str(_installed() / "bin/python"), "-m", "uvicorn", "crm.asgi:application"),
                *(
                    "--host",
                    LOOPBACK,
                    "--port",
                    str(self.port),
                    "--log-level",
                    "warning",
                    "--lifespan",
                    "off",
                ),
            ],
            output=log,
            environment=_environment(self.directory, self.database_port),
            directory=self.directory,
        )

        def listens() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"BottleCRM ended by itself:\n{tail(log)}")
            with socket.socket() as probe:
                return probe.connect_ex((LOOPBACK, self.port)) == 0

        eventually(listens, 120, what="BottleCRM's port")

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def sql(self, statements: str) -> str:
        """See `Postgres.sql`."""
        if self._cluster is None:
            raise RuntimeError("it does not run")
        return self._cluster.sql(statements, _DATABASE)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers, as JSON; raises HTTPError."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None
