"""Kinds of adapter for tests, installed for the daemon as a distribution of somebody else's would be."""

import os
from pathlib import Path

from lab.daemon import ROOT

_KINDS = """\
[cordboard.adapters]
hanging = adapters.testing:HangingAdapter
failing = adapters.testing:FailingAdapter
slow = adapters.testing:SlowAdapter
crm = tests.unit.crms:Crm
"""


def install(directory: Path) -> dict[str, str]:
    """Puts a distribution with these kinds there; the environment that finds it."""
    information = directory / "lab_adapters-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-adapters\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(_KINDS)
    return {"PYTHONPATH": os.pathsep.join([str(directory), str(ROOT)])}
