"""One site for all tests here that need several processes: starting it costs more than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .site import Site, running_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two web processes, two workers and a beat, on PostgreSQL and Redis of their own."""
    with running_site(tmp_path_factory.mktemp("scale")) as running:
        yield running
