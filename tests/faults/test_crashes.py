"""The server killed at random moments under calls: each is in the log once, as it was, and so it is elsewhere."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.crash import Killing, a_scene, faults, figures
from tests.faults.nursery import Clock

#: `CRASH_KILLS=200` for a longer run; `CRASH_SEED` for the same dice again.
KILLS = int(os.environ.get("CRASH_KILLS", "60"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or int(time.time())


@pytest.mark.timeout(1800 + 10 * KILLS)
def test_kills_at_random_moments_lose_no_call_and_tell_nobody_twice(tmp_path: Path) -> None:
    with a_scene(tmp_path, SEED) as scene:
        scene.start()
        scene.know(home=50, espo=50)
        began = time.monotonic()
        scene.run(Killing(KILLS))
        ran = time.monotonic() - began
        books = scene.settle()
        print(f"seed {SEED}: {KILLS} kills in {ran:.0f} s; {figures(scene, books)}")
        _no(faults(scene, books))


@pytest.mark.timeout(1800)
def test_a_clock_that_jumps_loses_no_call_and_holds_up_nothing(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    with a_scene(tmp_path, SEED, clock=clock) as scene:
        scene.start()
        scene.know(home=50, espo=50)

        def jump(_kill: int) -> None:
            # Under a server that is up; an hour at most, as where somebody had the wrong zone.
            time.sleep(scene.dice.uniform(0.0, 0.5))
            clock.set(scene.dice.choice([-20.0, -3.0, 0.0, 3.0, 20.0]))

        scene.run(Killing(15, longest_life=2.0), jump)
        clock.set(-3600.0)
        answered = len([story for story in scene.asterisk.stories if story.answers])
        scene.calls_for(5.0)
        served = len([story for story in scene.asterisk.stories if story.answers]) - answered
        assert served > 50, f"{served} of 100 calls had an answer after the clock was set back by an hour"
        clock.set(30.0)
        books = scene.settle()
        print(f"seed {SEED}: {figures(scene, books)}")
        _no(faults(scene, books, times=False))


@contextmanager
def _a_small_disk(place: Path) -> Iterator[Path]:
    """A disk of 16 MB, in memory, and a file on it that fills it."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], check=True)
    try:
        yield place / "filler"
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def _fill(filler: Path) -> None:
    with suppress(OSError), open(filler, "ab", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.mark.timeout(1800)
def test_a_full_disk_loses_no_call(tmp_path: Path) -> None:
    settings = {"store": {"sqlite": "small/cti.db", "spool": {"megabytes": 4}}}
    with (
        _a_small_disk(tmp_path / "daemon" / "small") as filler,
        a_scene(tmp_path, SEED, settings) as scene,
    ):
        scene.start()
        scene.know(home=50, espo=50)
        scene.calls_for(3.0)
        for kill in range(3):
            _fill(filler)
            scene.calls_for(2.0)
            # What is given free for a moment is soon taken again.
            filler.unlink()
            scene.calls_for(0.5)
            _fill(filler)
            scene.calls_for(1.0)
            if kill:
                scene.kill()
                filler.unlink()
                scene.start()
            else:
                filler.unlink()
            scene.calls_for(2.0)
        books = scene.settle()
        print(f"seed {SEED}: {figures(scene, books)}")
        _no(faults(scene, books))


def _no(faults: list[str]) -> None:
    assert not faults, f"seed {SEED}: {len(faults)} faults, such as\n" + "\n".join(faults[:20])
