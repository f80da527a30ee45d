"""A database over TLS: who answers has to prove it, as docs/store.md says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cti.store.base import StoreError
from lab.crm.postgresql import Postgres
from lab.ports import a_port
from tests.certificates import Authority
from tests.unit.databases import a_command_store

AUTHORITY = Authority()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One that lets nobody in without TLS, and proves to be 127.0.0.1."""
    directory = tmp_path_factory.mktemp("tls")
    identity = directory / "server.pem"
    identity.write_text(AUTHORITY.issue("127.0.0.1"))
    identity.chmod(0o600)
    tls = ("ssl=on", f"ssl_cert_file={identity}", f"ssl_key_file={identity}")
    with a_port() as port, Postgres(directory / "postgresql", port=port, settings=tls) as running:
        only_tls = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n"
        (running.data / "pg_hba.conf").write_text(only_tls)
        running.sql("SELECT pg_reload_conf()")
        yield running


def database_of(directory: Path) -> str:
    return f"of_{directory.name}"


def believing(authority: Authority, cluster: Postgres, directory: Path, host: str = "127.0.0.1") -> str:
    """The address of a new database for one who believes whom this authority has signed for."""
    trusted = directory / "ca.pem"
    trusted.write_text(authority.pem)
    url = cluster.database(database_of(directory)).replace("postgres@127.0.0.1", f"postgres:a%20word@{host}")
    return f"{url}?sslmode=verify-full&sslrootcert={trusted}"


def test_a_database_that_proves_who_it_is_is_used(cluster: Postgres, tmp_path: Path) -> None:
    with a_command_store(believing(AUTHORITY, cluster, tmp_path)) as store:
        unit = store.unit()
        unit.put_key("a key", "kept")
        store.commit_now(unit)
    assert cluster.sql("SELECT value FROM keys", database_of(tmp_path)) == "kept"


@pytest.mark.parametrize(
    ("authority", "host"), [(Authority("somebody else"), "127.0.0.1"), (AUTHORITY, "localhost")]
)
def test_who_cannot_prove_to_be_that_database_gets_nothing_and_the_log_no_password(
    cluster: Postgres, tmp_path: Path, authority: Authority, host: str
) -> None:
    with pytest.raises(StoreError, match="certificate") as refused:
        a_command_store(believing(authority, cluster, tmp_path, host))
    assert "word" not in str(refused.value)
