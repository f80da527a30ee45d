"""A real slapd (OpenLDAP) with the usual schemas, and Debian's own clients for it.

Its root may write; an account for reading, `READER`, may read and nothing else. Who is in it is up to the tests.
"""

from __future__ import annotations

import os
import socket
import subprocess
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import define, field

from lab.crm.cache import debian_packages
from lab.ports import LOOPBACK
from lab.processes import DIES_WITH_US, end, eventually, start, tail

_TREE = "slapd-2.5-1"

SUFFIX = "dc=company,dc=example"
ROOT = f"cn=root,{SUFFIX}"
READER = f"cn=reader,{SUFFIX}"
PEOPLE = f"ou=people,{SUFFIX}"
PASSWORD = "an (awkward) *word\\"

_CONFIGURATION = """\
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
{schemas}
pidfile {directory}/slapd.pid
modulepath {modules}
moduleload back_mdb
moduleload syncprov
sizelimit {size_limit}
{tls}
database mdb
suffix "{suffix}"
rootdn "{root}"
rootpw "{password}"
directory {directory}/data
maxsize 1073741824
dbnosync
index objectClass,entryUUID,modifyTimestamp eq
index telephoneNumber,mobile,homePhone eq,sub
index cn,sn,o eq,sub
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by * none
"""
_FIRST = f"""\
dn: {SUFFIX}
objectClass: organization
objectClass: dcObject
o: Company
dc: company

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: {READER}
objectClass: person
cn: reader
sn: reader
userPassword:: {{password}}
"""


def installed() -> Path:
    """The tree with slapd and ldap-utils in it, fetched first if need be."""
    return debian_packages(_TREE, "slapd", "ldap-utils")


def client_environment() -> Mapping[str, str]:
    """What Debian's programs out of the tree need around them."""
    libraries = ":".join(map(str, sorted((installed() / "usr/lib").glob("*-linux-gnu"))))
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "LD_LIBRARY_PATH": libraries}


@define
class Slapd:
    """Runs below `directory`, from entering the `with` block to its end.

    `certificate`: a PEM of certificate and key, for StartTLS and, on `tls_port`, LDAPS. `size_limit`: entries an
    answer may have. `schemas`: more of them, as text.
    """

    directory: Path
    port: int
    tls_port: int | None = None
    certificate: str | None = None
    size_limit: int = 500
    schemas: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"ldap://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Slapd:
        self.start()
        if not self._has_root():
            self.add(_FIRST.format(password=b64encode(PASSWORD.encode()).decode()))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Come up, also again, with what was there. Raises LabUnavailable, TimeoutError."""
        tree = installed()
        (self.directory / "data").mkdir(parents=True, exist_ok=True)
        (self.directory / "more.schema").write_text(self.schemas)
        tls = ""
        if self.certificate is not None:
            pem = self.directory / "server.pem"
            pem.write_text(self.certificate)
            tls = f"TLSCertificateFile {pem}\nTLSCertificateKeyFile {pem}\nTLSCACertificateFile {pem}"
        configuration = self.directory / "slapd.conf"
        escaped = PASSWORD.replace("\\", "\\\\")
        configuration.write_text(
            _CONFIGURATION.format(
                schema=tree / "etc/ldap/schema",
                schemas=f"include {self.directory}/more.schema" if self.schemas else "",
                modules=tree / "usr/lib/ldap",
                directory=self.directory,
                size_limit=self.size_limit,
                tls=tls,
                suffix=SUFFIX,
                root=ROOT,
                password=escaped,
                reader=READER,
            )
        )
        addresses = self.url + (f" ldaps://{LOOPBACK}:{self.tls_port}" if self.tls_port else "")
        log = self.directory / "slapd.log"
        self._process = process = start(
            [tree / "usr/sbin/slapd", "-f", configuration, "-h", addresses, "-d", "stats"],
            output=log,
            environment=client_environment(),
            directory=self.directory,
        )

        def listens() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"slapd ended by itself:\n{tail(log)}")
            with socket.socket() as probe:
                return probe.connect_ex((LOOPBACK, self.port)) == 0

        eventually(listens, 30, what="slapd's port")

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None

    def add(self, ldif: str) -> None:
        self._write("ldapadd", ldif)

    def modify(self, ldif: str) -> None:
        self._write("ldapmodify", ldif)

    def delete(self, dn: str) -> None:
        ldap_program("ldapdelete", self.url, ROOT, PASSWORD, dn)

    def search(self, *arguments: str) -> str:
        """What `ldapsearch` prints for root, with these arguments; raises CalledProcessError."""
        return ldap_program("ldapsearch", self.url, ROOT, PASSWORD, "-LLL", "-b", SUFFIX, *arguments)

    def _write(self, program: str, text: str) -> None:
        ldap_program(program, self.url, ROOT, PASSWORD, text=text)

    def _has_root(self) -> bool:
        try:
            return bool(self.search("-s", "base", "dn"))
        except subprocess.CalledProcessError:
            return False


def ldap_program(program: str, url: str, dn: str, password: str, *arguments: str, text: str = "") -> str:
    """What one of Debian's LDAP clients prints; `text` is its input. Raises CalledProcessError with its words."""
    command: Sequence[str] = (
        *DIES_WITH_US,
        str(installed() / "usr/bin" / program),
        *("-x", "-H", url, "-D", dn, "-w", password),
        *arguments,
    )
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env={**client_environment(), "LDAPNOINIT": "1", "HOME": os.devnull},
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, program, done.stdout, done.stderr)
    return done.stdout
