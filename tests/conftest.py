"""What many tests share: people, a fixed present, and a network that answers nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db.backends.sqlite3.base import DatabaseOperations
from pytest_django import Settings

from audit.correlation import begin_correlation
from oauthflow.egress import blocking
from oauthflow.flows.refresh import batch
from oauthflow.flows.refresh.owners import end_session
from oauthflow.flows.revocation_outbox import batch as revocation_batch
from tests.fakes.internet import FakeInternet, FakeSender
from tests.fakes.world import World


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """PostgreSQL drops no database that somebody is connected to, and the owner of leases is."""
    yield
    end_session()


@pytest.fixture(autouse=True)
def exact_due_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are drawn by lot in life are fixed here."""
    monkeypatch.setattr("connections.services.due_spread", lambda: 0.0)


@pytest.fixture(autouse=True)
def _own_correlation() -> None:
    """Each test begins like a request of its own: nobody acts yet, and nobody has attempted anything."""
    begin_correlation()
    caches["default"].clear()


@pytest.fixture(autouse=True)
def _own_spool(settings: Settings) -> None:
    """Answers that the tests before have kept are of rows and keys that nobody knows any more."""
    for path in (Path(settings.DATA_DIR) / "spool").glob("*"):
        path.unlink()


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", email="alice@example.com", password="correct horse battery")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", email="bob@example.com", password="correct horse battery")


@pytest.fixture
def administrator(db: None) -> User:
    return User.objects.create_superuser("root", email="root@example.com", password="correct horse battery")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--only-database", action="store_true", help="run only the tests that touch the database")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--only-database"):
        return
    chosen = [item for item in items if _touches_the_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _touches_the_database(item: pytest.Item) -> bool:
    wanted = {"db", "transactional_db", "django_db_setup"} & set(getattr(item, "fixturenames", ()))
    return bool(wanted) or item.get_closest_marker("django_db") is not None


@pytest.fixture(scope="session", autouse=True)
def _tables_can_be_emptied() -> Iterator[None]:
    """Let Django empty SQLite's tables between tests, audit records too; the signal after it restores the guard."""
    with pytest.MonkeyPatch.context() as patch:
        emptying = DatabaseOperations.sql_flush

        def sql_flush(*args: Any, **kwargs: Any) -> list[str]:
            return ["DROP TRIGGER IF EXISTS audit_record_stays", *emptying(*args, **kwargs)]

        patch.setattr(DatabaseOperations, "sql_flush", sql_flush)
        yield


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> FakeInternet:
    """No sockets: requests go to fakes, and one to a name that nobody has fails the test."""
    fake = FakeInternet()
    monkeypatch.setattr(blocking, "adapter", lambda: fake)
    for module in (batch, revocation_batch):
        monkeypatch.setattr(module, "open_sender", lambda *limits, **said: FakeSender(fake))
    # The tests' own transaction is always open; the fake looks whether one of ours is.
    monkeypatch.setattr(blocking, "in_transaction", lambda: False)
    return fake


@pytest.fixture
def world(internet: FakeInternet, db: None) -> World:
    return World(internet)
