"""One daemon for all tests of its API."""

from collections.abc import Iterator

import pytest

from tests.api.site import Site, a_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with a_site(tmp_path_factory.mktemp("site")) as running:
        yield running
