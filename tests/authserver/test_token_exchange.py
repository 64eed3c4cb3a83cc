"""RFC 8693: a trusted back end gets the upstream token of the person whose token of ours it shows."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from audit.models import AuditRecord
from authserver.flows.exchange_token import ACCESS_TOKEN_TYPE, GRANT_TYPE
from authserver.models import ExchangePolicy, McpClient, TokenFamily
from authserver.resources import api_resource
from connections.models import Connection, McpServer
from tests.authserver.grants import SECRET, make_client, make_consent, make_family, mint, nothing_remembered
from tests.authserver.token_calls import Got, ask_token
from tests.fakes.world import World

__all__ = ["nothing_remembered"]
BACK_END = "https://backend.example/mcp"


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def back_end(world: World, alice: User, now: datetime) -> McpClient:
    world.connect(alice, now=now)
    client = make_client("back-end", method="client_secret_basic", grant_types=[GRANT_TYPE])
    ExchangePolicy.objects.create(client=client, subject_resource=BACK_END, server=McpServer.objects.get())
    return client


@pytest.fixture
def family(back_end: McpClient, alice: User) -> TokenFamily:
    return make_family(make_consent(alice, make_client(), resource=BACK_END))


def exchange(token: str, *, basic: tuple[str, str] = ("back-end", SECRET), **changes: str) -> Got:
    form = {
        "grant_type": GRANT_TYPE, "subject_token": token, "subject_token_type": ACCESS_TOKEN_TYPE, "audience": "notes",
    }  # fmt: skip
    return ask_token({name: value for name, value in {**form, **changes}.items() if value}, basic=basic)


def test_a_token_of_ours_becomes_the_persons_upstream_token(family: TokenFamily, alice: User, world: World) -> None:
    got = exchange(mint(family))
    assert got.status == 200
    assert got.members["issued_token_type"] == ACCESS_TOKEN_TYPE
    connection = Connection.objects.get(user=alice)
    assert connection.token_set is not None
    assert got.members["access_token"] == connection.token_set.access_token_sealed.reveal().reveal()
    recorded = AuditRecord.objects.get(event="token.released")
    assert (recorded.client, recorded.actor, recorded.reason) == ("back-end", str(alice.pk), "token_exchange")
    assert got.members["access_token"] not in str(recorded.details)
    assert got.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ["http://localhost:8000/mcp/notes", "the upstream address"])
def test_the_server_can_be_named_by_its_address(family: TokenFamily, name: str) -> None:
    resource = McpServer.objects.get().url if name == "the upstream address" else name
    assert exchange(mint(family), audience="", resource=resource).status == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"audience": "other"}, "invalid_target"), ({"audience": ""}, "invalid_request"),
        ({"resource": "x"}, "invalid_request"), ({"subject_token": ""}, "invalid_request"),
        ({"subject_token": "x"}, "invalid_request"), ({"subject_token_type": "jwt"}, "invalid_request"),
        ({"actor_token": "x"}, "invalid_request"), ({"requested_token_type": "x"}, "invalid_request"),
    ],
)  # fmt: skip
def test_another_question_is_refused(family: TokenFamily, changes: dict[str, str], error: str) -> None:
    assert exchange(mint(family), **changes).error == error


def test_only_who_has_a_policy_may(family: TokenFamily) -> None:
    make_client("other", method="client_secret_basic", grant_types=[GRANT_TYPE])
    assert exchange(mint(family), basic=("other", SECRET)).error == "invalid_target"
    ExchangePolicy.objects.all().delete()
    assert exchange(mint(family)).error == "invalid_target"


def test_a_token_for_another_resource_is_no_subject(family: TokenFamily, alice: User) -> None:
    other = make_family(make_consent(alice, family.client, resource="http://localhost:8000/mcp/notes"))
    assert exchange(mint(other)).error == "invalid_request"


def test_who_may_not_use_the_server_or_has_no_connection_gets_nothing(
    family: TokenFamily, alice: User, bob: User
) -> None:
    bobs = make_family(make_consent(bob, family.client, resource=BACK_END))
    assert exchange(mint(bobs)).error == "invalid_grant"
    McpServer.objects.get().users.add(bob)
    assert exchange(mint(family)).error == "invalid_grant"


def test_who_has_to_sign_in_first_gets_nothing(family: TokenFamily) -> None:
    Connection.objects.get().tokens.delete()
    assert exchange(mint(family)).error == "invalid_grant"


def test_a_client_that_proves_nothing_may_not(family: TokenFamily) -> None:
    McpClient.objects.filter(client_id="back-end").update(token_endpoint_auth_method="none")
    got = ask_token(
        {"grant_type": GRANT_TYPE, "subject_token": mint(family), "subject_token_type": ACCESS_TOKEN_TYPE,
         "audience": "notes", "client_id": "back-end"}
    )  # fmt: skip
    assert got.error == "unauthorized_client"
    McpClient.objects.filter(client_id="back-end").update(grant_types=["authorization_code"])
    assert exchange(mint(family)).error == "invalid_client"


@pytest.mark.parametrize(("scope", "status"), [("connections:read", 400), ("tokens:release", 200)])
def test_a_token_for_our_own_interface_needs_the_scope_that_releases_tokens(
    back_end: McpClient, alice: User, scope: str, status: int
) -> None:
    ExchangePolicy.objects.update(subject_resource=api_resource())
    family = make_family(make_consent(alice, make_client(), resource=api_resource(), scope=scope))
    assert exchange(mint(family)).status == status
