"""The store on PostgreSQL under calls: beside a second server, and while the database goes away and hangs."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.error import HTTPError

import pytest

from lab.company import AnAgent, Company
from lab.crm.postgresql import Postgres
from lab.laboratory import eventually
from lab.ports import a_port
from tests.faults.evidence import rung, settled

CUSTOMER = "015228817386"
_COUNTER = count(1)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Postgres]:
    with a_port() as port, Postgres(tmp_path / "postgresql", port=port) as running:
        yield running


def store_in(cluster: Postgres) -> dict[str, object]:
    return {"store": {"postgresql": cluster.database(f"cti{next(_COUNTER)}")}}


def has_answered(company: Company) -> bool:
    try:
        company.daemon.calls()
    except HTTPError:
        return False
    return True


def test_calls_go_through_a_database_that_ends_and_comes_back(tmp_path: Path, cluster: Postgres) -> None:
    with Company(tmp_path, agents=[AnAgent("anna"), AnAgent("ben")], settings=store_in(cluster)) as company:
        company.start()
        assert company.call(from_number=CUSTOMER, talk_ms=200).wait().final == 200
        eventually(lambda: [call["outcome"] for call in company.daemon.calls()] == ["answered"])

        cluster.stop()
        during = company.call(from_number="+4917139200001", talk_ms=200).wait()
        assert during.final == 200
        assert "reception" not in rung(company), "routed all the same"
        cluster.start()
        after = company.call(from_number="+4917139200002", talk_ms=200).wait()
        assert after.final == 200

        eventually(lambda: has_answered(company), 15.0, what="the log to be read again")
        records = settled(company, 3)
        assert [record["outcome"] for record in records] == ["answered"] * 3
