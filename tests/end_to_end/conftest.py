"""One product and one upstream for all tests here; each test configures a server of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.product import Product, running_product

from .programs import Browser, Program
from .upstream import Upstream, running_upstream


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("product"), STDIO_SERVERS_ALLOWED="true") as running:
        yield running


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory, product: Product) -> Iterator[Upstream]:
    redirect_uri = f"{product.url}/api/v1/oauth/callback"
    with running_upstream(tmp_path_factory.mktemp("upstream"), redirect_uri=redirect_uri) as running:
        yield running


@pytest.fixture(scope="session")
def administrator(product: Product) -> Program:
    """An administrator's program; it configures servers."""
    return Program.of(product, "admin")


@pytest.fixture(scope="session")
def program(product: Product) -> Program:
    """A program of alice, who may use every server here."""
    return Program.of(product, "alice")


@pytest.fixture
def browser(product: Product) -> Browser:
    """The browser of alice."""
    return Browser(product, "alice")
