"""One Chromium for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.browser import Chromium


# Not for the whole session: while it runs, nobody else may have an asyncio loop in this thread.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Chromium]:
    with Chromium() as chromium:
        yield chromium
