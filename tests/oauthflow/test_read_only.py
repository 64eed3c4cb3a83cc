"""While the database takes no writes, tokens that work are given out and none is spent. Faults F09, R7."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection as database
from django.db import connections
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from audit import deferred
from audit.chain import broken_links
from audit.models import AuditHead, AuditRecord
from connections.api_tokens import issue_api_token
from connections.models import Connection, TokenSet
from oauthflow.client import connect
from oauthflow.flows.refresh import owners
from oauthflow.protocol.errors import TransportError
from tests.fakes.read_only import read_only_database
from tests.fakes.world import World
from tests.faults import fault
from tests.oauthflow.asgi_calls import Ask, Release
from tests.oauthflow.test_client_api import FakeSdk, sdk

__all__ = ["sdk"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """Where records wait, and the spool, of this test's own."""
    owners.end_session()
    settings.DATA_DIR = tmp_path
    yield tmp_path / "audit-deferred"
    owners.end_session()


@pytest.fixture
def connection(world: World, alice: User) -> Connection:
    return world.connect(alice, now=timezone.now())


def near_its_end(connection: Connection, *, seconds: int) -> None:
    """So near that it is refreshed before use."""
    now = timezone.now()
    TokenSet.objects.filter(connection=connection).update(
        obtained_at=now - timedelta(hours=1), expires_at=now + timedelta(seconds=seconds)
    )


def program(alice: User) -> APIClient:
    issued = issue_api_token(alice, scopes=["tokens:release", "tools:call"], name="laptop", now=timezone.now())
    return APIClient(headers={"authorization": f"Bearer {issued.token.reveal()}"})


def releases() -> list[AuditRecord]:
    return list(AuditRecord.objects.filter(event="token.released").order_by("sequence"))


@fault("F09")
@pytest.mark.parametrize("seconds", [3000, 60])
def test_a_token_that_works_is_released_over_rest_and_recorded_later(
    world: World, connection: Connection, alice: User, folder: Path, seconds: int
) -> None:
    client = program(alice)
    near_its_end(connection, seconds=seconds)
    with read_only_database():
        answers = [client.post(f"/api/v1/connections/{connection.pk}/token") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert world.authorization_server.refresh_requests == []
    assert (releases(), len(list(folder.iterdir()))) == ([], 3)

    near_its_end(connection, seconds=3000)
    assert client.post(f"/api/v1/connections/{connection.pk}/token").status_code == 200
    assert list(folder.iterdir()) == []
    assert ["happened_at" in one.details for one in releases()] == [False, True, True, True]
    head = AuditHead.objects.get()
    records = AuditRecord.objects.order_by("sequence").iterator()
    assert list(broken_links(records, head_sequence=head.sequence, head_mac=head.mac)) == []


@fault("F09")
def test_the_release_beside_django_goes_on_too(connection: Connection, alice: User, folder: Path) -> None:
    issued = issue_api_token(alice, scopes=["tokens:release"], name="laptop", now=timezone.now())
    wanted = Ask(f"/api/v1/connections/{connection.pk}/token", {"authorization": f"Bearer {issued.token.reveal()}"})
    with read_only_database():
        release = Release()
        answers = release.play(wanted, wanted)
        assert ([answer.status for answer in answers], release.fell_through) == ([200, 200], [])
        assert len(list(folder.iterdir())) == 2
    assert [answer.status for answer in Release().play(wanted)] == [200]
    assert (len(releases()), list(folder.iterdir())) == (3, [])


@fault("F09")
@pytest.mark.parametrize("seconds", [3000, 60])
def test_programs_connect_and_call_tools(
    world: World, connection: Connection, alice: User, sdk: FakeSdk, seconds: int
) -> None:
    client = program(alice)
    near_its_end(connection, seconds=seconds)
    with read_only_database():
        with connect("notes", user=alice) as mcp:
            assert mcp.list_tools() == [{"name": "one"}, {"name": "two"}]
        answer = client.post(f"/api/v1/connections/{connection.pk}/tools/one/call", {"arguments": {}}, format="json")
        assert answer.status_code == 200, answer.content
    assert world.authorization_server.refresh_requests == []


@fault("F09")
def test_a_token_that_is_over_is_a_matter_of_patience(world: World, connection: Connection, alice: User) -> None:
    client = program(alice)
    near_its_end(connection, seconds=-1)
    with read_only_database():
        answer = client.post(f"/api/v1/connections/{connection.pk}/token")
        assert (answer.status_code, answer["Retry-After"]) == (503, "5")
        with pytest.raises(TransportError), connect("notes", user=alice):
            pass
    assert world.authorization_server.refresh_requests == []
    assert Connection.objects.get().status == "active"


@fault("F10")
def test_nothing_is_released_where_it_can_be_recorded_nowhere(
    connection: Connection, alice: User, folder: Path
) -> None:
    client = program(alice)
    folder.write_text("in the way")
    with read_only_database():
        answer = client.post(f"/api/v1/connections/{connection.pk}/token")
    assert answer.status_code == 503, answer.content
    assert b"access_token" not in answer.content


def test_records_that_somebody_changed_are_not_appended(connection: Connection, alice: User, folder: Path) -> None:
    client = program(alice)
    with read_only_database():
        client.post(f"/api/v1/connections/{connection.pk}/token")
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text().replace("token.released", "token.refreshed"))

    assert deferred.append_deferred() == 0
    assert [one.name for one in folder.iterdir()] == [path.with_suffix(".taken").name]
    assert releases() == []


@contextmanager
def somebody_writes_for_long() -> Iterator[None]:
    """A writer of SQLite that keeps the file for itself; it is waited for in vain."""
    wrapper = connections["default"]
    wrapper.close()
    with closing(sqlite3.connect(str(wrapper.settings_dict["NAME"]), isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        usual = wrapper.settings_dict["OPTIONS"]["timeout"]
        wrapper.settings_dict["OPTIONS"]["timeout"] = 0.1
        try:
            yield
        finally:
            wrapper.close()
            wrapper.settings_dict["OPTIONS"]["timeout"] = usual


@fault("F07", "F09")
@pytest.mark.parametrize("trouble", [read_only_database, somebody_writes_for_long])
def test_what_cannot_be_written_is_told_as_a_pause_by_every_face(
    connection: Connection, alice: User, trouble: Callable[[], AbstractContextManager[None]]
) -> None:
    if trouble is somebody_writes_for_long and database.vendor != "sqlite":
        pytest.skip("PostgreSQL has no writer that everybody waits for")
    person = Client(raise_request_exception=False)
    person.force_login(alice)
    mutation = f'mutation {{ revokeMCPOAuth(input: {{ connectionId: "{connection.pk}" }}) {{ success }} }}'
    with trouble():
        rest = person.post(f"/api/v1/connections/{connection.pk}/revoke", {}, content_type="application/json")
        graphql = person.post("/graphql", {"query": mutation}, content_type="application/json")
        page = person.post(f"/connections/{connection.pk}/disconnect", {"confirmed": "1"})
    for answer in (rest, graphql, page):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert rest.json()["error"] == "temporarily_unavailable"
    assert graphql.json()["errors"][0]["extensions"]["code"] == "temporarily_unavailable"
    connection.refresh_from_db()
    assert connection.status == "active"
