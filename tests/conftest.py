"""What many tests share: people, a fixed present, and a network that answers nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.management.commands import flush
from django.db.backends.postgresql.base import DatabaseWrapper as PostgresqlDatabase
from django.db.backends.sqlite3.base import DatabaseWrapper as SqliteDatabase
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import Settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from audit.correlation import begin_correlation
from audit.guard import restore_after_migrations
from oauthflow.egress import blocking
from oauthflow.flows.refresh import batch
from oauthflow.flows.refresh.owners import end_session
from oauthflow.flows.revocation_outbox import batch as revocation_batch
from tests.fakes.internet import FakeInternet, FakeSender
from tests.fakes.world import World
from tests.lock_order import watch_connections

_STAY = ("django_content_type", "auth_permission")
_GUARDED = "audit_auditrecord"

watch_connections()

# Thousands of tests are collected, none of them garbage: to look for it takes a third of the time.
gc.disable()

# The machine may be busy with other things: no test is about how long it takes.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("patient")


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


class _ByFile(LoadFileScheduling):
    """Gives each process the next file; those of a folder that share a site together, else each would start its own."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = file.rpartition("/")[0]
        return folder if folder in ("tests/end_to_end", "tests/examples") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _ByFile:
    return _ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not _waits_for_programs(item))
    if not config.getoption("--only-database"):
        return
    chosen = [item for item in items if _touches_the_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_collection_finish() -> None:
    """What is there now stays to the end; from here on only what the tests make is looked at."""
    gc.freeze()
    gc.enable()


def _waits_for_programs(item: pytest.Item) -> bool:
    """Such files take longest; whichever is begun last keeps one process busy while the others have nothing to do."""
    marked = any(item.get_closest_marker(name) for name in ("chaos", "conformance", "browser", "independent"))
    return marked or item.path.parent.name == "end_to_end"


def _touches_the_database(item: pytest.Item) -> bool:
    wanted = {"db", "transactional_db", "django_db_setup"} & set(getattr(item, "fixturenames", ()))
    return bool(wanted) or item.get_closest_marker("django_db") is not None


@pytest.fixture(scope="session", autouse=True)
def _tables_can_be_emptied() -> Iterator[None]:
    """Let Django empty the tables between tests, audit records too, and put back SQLite's guard of those alone.

    Content types and permissions stay: to make them anew would take longer than most of these tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqliteDatabase.ops_class, "sql_flush", _on_sqlite(SqliteDatabase.ops_class.sql_flush))
        patch.setattr(PostgresqlDatabase.ops_class, "sql_flush", _on_postgresql)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *said: restore_after_migrations())
        yield


def _on_sqlite(emptying: Callable[..., list[str]]) -> Callable[..., list[str]]:
    def sql_flush(self: Any, style: Any, tables: list[str], **options: Any) -> list[str]:
        emptied = [name for name in tables if name not in _STAY]
        return ["DROP TRIGGER IF EXISTS audit_record_stays", *emptying(self, style, emptied, **options)]

    return sql_flush


def _on_postgresql(self: Any, style: Any, tables: list[str], **options: Any) -> list[str]:
    """Delete the few rows there are: to truncate makes the files of a table anew. A guard lets nothing else pass."""
    deleted = (" ".join(("DELETE FROM", self.quote_name(name))) for name in tables if name not in (*_STAY, _GUARDED))
    return [f"TRUNCATE {_GUARDED}", "; ".join(deleted)]


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
