"""The server, and the PostgreSQL below it, killed at random moments under calls: the books are right all the same."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.crm.postgresql import Postgres
from lab.ports import a_port
from tests.faults.crash import Killing, Scene, a_scene, faults, figures

KILLS = 12


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Postgres]:
    # What it has said to be committed has to outlive it.
    with a_port() as port, Postgres(tmp_path / "postgresql", port=port, durable=True) as running:
        yield running


@pytest.mark.timeout(1800)
def test_kills_of_the_server_and_of_its_postgresql_lose_no_call(tmp_path: Path, cluster: Postgres) -> None:
    seed = random.randrange(1_000_000)
    settings = {"store": {"postgresql": cluster.database("cti")}}
    with a_scene(tmp_path, seed, settings) as scene:
        scene.start()
        scene.know(home=50, espo=50)

        def database_too(kill: int) -> None:
            if kill % 3 == 0:
                time.sleep(scene.dice.uniform(0.0, 0.5))
                _kill_for_a_moment(cluster, scene)

        scene.run(Killing(KILLS, longest_life=1.6), database_too)
        books = scene.settle()
        print(f"seed {seed}: {figures(scene, books)}")
        found = faults(scene, books)
        assert not found, f"seed {seed}: {len(found)} faults, such as\n" + "\n".join(found[:20])


def _kill_for_a_moment(cluster: Postgres, scene: Scene) -> None:
    cluster.kill()
    time.sleep(scene.dice.uniform(0.0, 1.0))
    cluster.start()
