"""A real Odoo 19 with its CRM: fetched and initialised once, then started in seconds, several at once.

What is in its database is up to the tests; `ask` puts it there, as Odoo's administrator.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import define, field

from lab.crm.cache import kept, python_environment
from lab.crm.postgresql import Postgres
from lab.ports import LOOPBACK, PortBlock
from lab.processes import end, eventually, start, tail
from lab.tree import INSTALL_SECONDS, LabUnavailable, debian_mirrors, run_logged, say

DATABASE = "crm"
#: The account that an adapter uses, with no more rights than docs/crm/odoo.md asks for.
API_USER = "cordboard"
ADMIN = "admin"

#: Raise it when what belongs into a template changes.
_TEMPLATE = "odoo-19-crm-2"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MODULES = "crm,contacts,phone_validation"
_INITIALISE_SECONDS = 900
_START_SECONDS = 120.0

#: Odoo, and what of its web client Debian has in packages of their own.
_PACKAGES = (
    *("odoo-19", "libjs-jquery", "libjs-jquery-form", "libjs-underscore"),
    *("fonts-font-awesome", "fonts-inconsolata", "fonts-montserrat", "fonts-roboto-unhinted"),
)
#: What Odoo's package depends on; sid's own Python is newer than Odoo 19 bears.
_REQUIREMENTS = (
    *("asn1crypto", "babel", "beautifulsoup4", "cbor2", "chardet", "cryptography", "docutils", "freezegun"),
    *("geoip2", "gevent", "idna", "jinja2", "libsass", "lxml", "lxml-html-clean", "markupsafe", "num2words"),
    *("ofxparse", "openpyxl", "passlib", "phonenumbers", "pillow", "polib", "psutil", "psycopg2-binary"),
    *("pyopenssl", "pypdf", "python-dateutil", "python-stdnum", "pytz", "qrcode", "reportlab", "requests"),
    *("rjsmin", "vobject", "werkzeug<3.1", "xlrd", "xlsxwriter", "zeep"),
)

#: Run by Odoo's own shell. A German company, so that national numbers are read; keys that never expire, since
#: the template is kept; the web client's assets, whose making would cost the first browser half a minute.
_FURNISH = f"""
import json
env.company.country_id = env.ref("base.de")
groups = ("base.group_user", "sales_team.group_sale_salesman_all_leads")
user = env["res.users"].with_context(no_reset_password=True).create({{
    "name": "Cordboard", "login": "{API_USER}", "group_ids": [(6, 0, [env.ref(name).id for name in groups])],
}})
keys = {{}}
for owner in (user, env.ref("base.user_admin")):
    keys[owner.login] = env["res.users.apikeys"].with_user(owner).sudo()._generate("rpc", "lab", None)
env["ir.qweb"]._pregenerate_assets_bundles()
env.cr.commit()
print("KEYS", json.dumps(keys))
"""


class OdooFailed(RuntimeError):
    """An Odoo did not start, or refused what it was asked; the message says why."""


def ensure_odoo() -> Path:
    """The template of an initialised Odoo, made first if need be: some three minutes. Raises LabUnavailable."""
    _code(), _python()
    return kept(_TEMPLATE, _make_template)


@define
class Odoo:
    """One Odoo with a PostgreSQL of its own below `directory`, on a port of 127.0.0.1.

    `stop()` keeps what is in it, `start()` goes on with it and with the same port.
    """

    directory: Path
    _block: PortBlock = field(factory=PortBlock.claim, repr=False)
    port: int = field(init=False)
    keys: dict[str, str] = field(init=False, repr=False)
    _database: Postgres = field(init=False, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    @port.default
    def _own_port(self) -> int:
        return self._block.take()

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def key(self) -> str:
        """The API key of the adapter's account."""
        return self.keys[API_USER]

    @property
    def log_file(self) -> Path:
        return self.directory / "odoo.log"

    def __enter__(self) -> Odoo:
        template = ensure_odoo()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.keys = json.loads((template / "keys.json").read_text())
        shutil.copytree(template / "files", self.directory / "files")
        self._database = Postgres(self.directory / "postgresql", template / "postgresql" / "data")
        try:
            self._database.start()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it and its database, and give the port back."""
        self.stop()
        self._database.stop()
        self._block.release()

    def start(self) -> None:
        """Start Odoo and wait until it answers. Raises OdooFailed, TimeoutError."""
        options = ["--http-interface", LOOPBACK, "--http-port", str(self.port)]
        self._process = process = start(
            # Its timed jobs would go out into the world.
            [
                *_odoo(self._database, self.directory / "files"),
                *options,
                "--workers=0",
                "--max-cron-threads=0",
            ],
            output=self.log_file,
            environment=_environment(),
            directory=self.directory,
        )

        def answers() -> bool:
            if process.poll() is not None:
                raise OdooFailed(f"Odoo ended by itself\n{tail(self.log_file)}")
            try:
                with urllib.request.urlopen(f"{self.url}/web/health", timeout=_START_SECONDS) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        eventually(answers, _START_SECONDS, what="Odoo's first answer", pause=0.1)

    def stop(self) -> None:
        """End Odoo, and leave its database running."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def ask(self, model: str, method: str, *, user: str = ADMIN, **arguments: Any) -> Any:
        """What a method of a model answers to the administrator, by the JSON-2 API. Raises OdooFailed."""
        request = urllib.request.Request(
            f"{self.url}/json/2/{model}/{method}",
            json.dumps(arguments).encode(),
            {"Content-Type": "application/json", "Authorization": f"bearer {self.keys[user]}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            told = json.loads(error.read())
            raise OdooFailed(f"{model}.{method}: {told.get('name')}: {told.get('message')}") from error

    def add(self, model: str, **values: Any) -> int:
        """Make a record; its id."""
        (id,) = self.ask(model, "create", vals_list=[values])
        return int(id)

    def add_salesperson(self, name: str, login: str, password: str | None = None) -> int:
        """A user who sells, and may own contacts and leads; their id."""
        group = self.ask("ir.model.data", "check_object_reference", module="sales_team", xml_id=_SALES)[1]
        values: dict[str, Any] = {"name": name, "login": login, "group_ids": [[4, group]]}
        if password is not None:
            values["password"] = password
        (id,) = self.ask("res.users", "create", vals_list=[values], context={"no_reset_password": True})
        return int(id)


_SALES = "group_sale_salesman_all_leads"


def _code() -> Path:
    return kept("odoo-19-code", _fetch_code)


def _python() -> Path:
    return python_environment("odoo-19-python", *_REQUIREMENTS)


def _fetch_code(place: Path) -> None:
    """Debian's packages, out of sid, whose lists apt keeps apart from this machine's."""
    if shutil.which("apt-get") is None:
        raise LabUnavailable("Odoo is fetched by apt-get, and this machine has none")
    log = place.with_suffix(".log")
    apt = place / "apt"
    for directory in ("lists/partial", "cache/archives/partial"):
        (apt / directory).mkdir(parents=True)
    sources = apt / "sources.list"
    sources.write_text(
        "".join(f"deb [signed-by={_KEYRING}] {mirror} sid main\n" for mirror in debian_mirrors()[:1])
    )
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": apt / "lists",
        "Dir::Cache": apt / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    command = ["apt-get", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    run_logged([*command, "update"], log, INSTALL_SECONDS)
    run_logged(["env", "-C", str(apt), *command, "download", *_PACKAGES], log, INSTALL_SECONDS)
    # Without translations and the charts of accounts of all countries, which are the greater part.
    leave_out = "--exclude=*/i18n/* --exclude=*/addons/l10n_*"
    unpack = f'for each in "$1"/*.deb; do dpkg-deb --fsys-tarfile "$each" | tar -x -C "$2" {leave_out}; done'
    run_logged(["bash", "-euo", "pipefail", "-c", unpack, "bash", str(apt), str(place)], log, INSTALL_SECONDS)
    shutil.rmtree(apt)
    log.unlink()


def _make_template(place: Path) -> None:
    log = place.with_suffix(".log")
    with Postgres(place / "postgresql") as database:
        database.sql("create role odoo createdb login")
        odoo = _odoo(database, place / "files")
        say("initialising Odoo's database, once")
        modules = [
            "-i",
            _MODULES,
            "--without-demo=True",
            "--stop-after-init",
            "--no-http",
            "--log-level=warn",
        ]
        environment = ["env", *(f"{name}={value}" for name, value in _environment().items())]
        run_logged([*environment, *odoo, *modules], log, _INITIALISE_SECONDS)
        done = subprocess.run(
            [*odoo[:3], "shell", *odoo[3:], "--no-http", "--log-level=warn"],
            input=_FURNISH,
            capture_output=True,
            text=True,
            env=_environment(),
            timeout=_INITIALISE_SECONDS,
        )
    keys = [line.removeprefix("KEYS ") for line in done.stdout.splitlines() if line.startswith("KEYS ")]
    if not keys:
        raise subprocess.SubprocessError(f"Odoo's shell did not do it: {done.stderr[-2000:]}")
    (place / "keys.json").write_text(keys[0])
    log.unlink()


def _odoo(database: Postgres, files: Path) -> list[str]:
    return [
        *(str(_python() / "bin/python"), "-m", "odoo"),
        *("--db_host", str(database.socket), "--db_port", "5432", "--db_user", "odoo"),
        *("--database", DATABASE, "--data-dir", str(files)),
    ]


def _environment() -> dict[str, str]:
    code = _code() / "usr/lib/python3/dist-packages"
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONPATH": str(code), "TZ": "UTC"}
