"""What holds for all tests: Hypothesis without its deadline of 200 ms an example, as a slow machine is no failure;
and the quick files last, so that of several processes none is left with a long one at the end."""

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

_QUICK = ("unit", "protocol", "fuzz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name in _QUICK)
