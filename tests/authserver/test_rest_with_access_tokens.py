"""The REST interface and GraphQL take our own access tokens, if they are for them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from audit.models import AuditRecord
from authserver.flows.end_tokens import end_families
from authserver.models import McpClient, ServiceAccount, TokenFamily
from authserver.revoked import REVOKED
from authserver.tokens import mint_access_token, new_jti
from connections.models import Connection
from oauthflow.streams.rights import lapsed
from oauthflow.streams.tickets import Ticket
from tests.authserver.grants import RESOURCE, make_client, make_consent, make_family, mint, nothing_remembered
from tests.fakes.world import World
from tests.requirements import requirement

__all__ = ["nothing_remembered"]
API = "http://localhost:8000/api/v1"


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def token_for(user: User, scope: str, *, resource: str = API) -> str:
    client = McpClient.objects.filter(client_id="program").first() or make_client()
    return mint(make_family(make_consent(user, client, scope=scope, resource=resource)))


def get(path: str, token: str) -> Any:
    return Client().get(path, headers={"Authorization": f"Bearer {token}"})


@requirement("T-03", "T-04")
def test_a_program_sees_what_its_person_sees(connection: Connection, alice: User, bob: User) -> None:
    mine = get("/api/v1/connections", token_for(alice, "connections:read"))
    theirs = get("/api/v1/connections", token_for(bob, "connections:read"))
    assert (mine.status_code, theirs.status_code) == (200, 200)
    assert str(connection.pk) in mine.content.decode()
    assert str(connection.pk) not in theirs.content.decode()


def test_a_release_is_recorded_under_the_programs_name(connection: Connection, alice: User) -> None:
    token = token_for(alice, "tokens:release")
    path = f"/api/v1/connections/{connection.pk}/token"
    answer = Client().post(path, content_type="application/json", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert AuditRecord.objects.get(event="token.released").client == "program"


def test_a_scope_that_was_not_granted_is_missing(connection: Connection, alice: User) -> None:
    answer = get("/api/v1/connections", token_for(alice, "servers:read"))
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")


@requirement("T-04", "T-05", "AS11")
def test_a_token_for_the_gateway_is_no_token_here(connection: Connection, alice: User) -> None:
    answer = get("/api/v1/connections", token_for(alice, "connections:read", resource=RESOURCE))
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "é"])
def test_what_is_no_token_is_refused(connection: Connection, token: str) -> None:
    assert get("/api/v1/connections", token).status_code == 401


def test_a_token_that_ended_and_a_person_who_is_gone_are_refused(connection: Connection, alice: User) -> None:
    token, other = token_for(alice, "connections:read"), token_for(alice, "connections:read servers:read")
    assert get("/api/v1/connections", token).status_code == 200
    end_families(TokenFamily.objects.filter(scope="connections:read"), reason="test", now=timezone.now())
    REVOKED._checked_at = float("-inf")
    assert get("/api/v1/connections", token).status_code == 401
    assert get("/api/v1/connections", other).status_code == 200
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert get("/api/v1/connections", other).status_code == 401


@pytest.mark.parametrize("with_user", [True, False])
def test_a_service_account_acts_for_its_user_or_for_nobody(
    connection: Connection, alice: User, with_user: bool
) -> None:
    client = make_client("service", method="client_secret_basic")
    ServiceAccount.objects.create(client=client, user=alice if with_user else None, resources=[API])
    token = mint_access_token(
        subject="service", client_id="service", audience=API, scope="connections:read",
        jti=new_jti(client.pk, b"r" * 16), issued_at=int(timezone.now().timestamp()), seconds=900,
    )  # fmt: skip
    assert get("/api/v1/connections", token).status_code == (200 if with_user else 401)


def test_graphql_takes_it_too(connection: Connection, alice: User) -> None:
    asked = f'getMCPOAuthConnectionStatus(connectionId: "{connection.pk}") {{ hasValidTokens }}'
    query = {"query": f"{{ {asked} }}"}
    answer = Client().post(
        "/graphql", json.dumps(query), content_type="application/json",
        headers={"Authorization": f"Bearer {token_for(alice, 'connections:read')}"},
    )  # fmt: skip
    assert answer.json()["data"]["getMCPOAuthConnectionStatus"]["hasValidTokens"] is True


@requirement("AS14")
def test_a_stream_ends_with_the_token_that_opened_it(alice: User) -> None:
    good, bad = (
        Ticket(alice.pk, "", "", None, None, frames=cast("Any", None), is_good=lambda answer=answer: answer)
        for answer in (True, False)
    )
    assert lapsed([(good, None), (bad, None)]) == {bad}
