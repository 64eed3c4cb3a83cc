"""How a client id is come by, and that none of it ever reaches another issuer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from audit.models import AuditRecord
from connections.models import ClientRegistration
from oauthflow.egress import Egress
from oauthflow.flows.check_server import check_server
from oauthflow.flows.discover import discover
from oauthflow.flows.keep_discovery import approve_issuer_change
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.register_client import Client, resolve_client
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import FlowError, IssuerChangedError, NoClientError, RegistrationError
from oauthflow.protocol.secret import Secret
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.requirements import requirement

METADATA_DOCUMENT = "https://site.example/oauth/client-metadata.json"


def client_of(world: World, *, now: datetime, slug: str = "notes") -> Client:
    server = world.server(slug)
    server.refresh_from_db()
    http = Egress()
    return resolve_client(server, discover(server, http=http, now=now), scope="read", http=http, now=now)


def move(world: World) -> FakeAuthorizationServer:
    """Let the MCP server name another authorization server from now on."""
    other = FakeAuthorizationServer(issuer="https://new.example", accepts_metadata_documents=True)
    world.internet["https://new.example"] = other
    world.mcp_server.issuers = ["https://new.example"]
    return other


def everything_sent_to(world: World, host: str) -> str:
    return " ".join(f"{call.url} {dict(call.headers)} {call.body}" for call in world.internet.calls_to(host))


@requirement("R-01", "R-02", "R-15")
def test_a_client_entered_by_hand_goes_before_the_document_and_registration(
    world: World, now: datetime, settings: Settings
) -> None:
    settings.CLIENT_METADATA_URL = METADATA_DOCUMENT
    world.authorization_server.accepts_metadata_documents = True
    server = world.server(client_id="by-hand")
    server.client_secret_sealed = Secret("sh")
    server.save()

    client = client_of(world, now=now)

    assert (client.method, client.credentials.client_id) == ("pre_registered", "by-hand")
    assert client.credentials.auth_method == "client_secret_basic"
    assert world.authorization_server.registrations == []


@requirement("R-02", "R-03", "R-14")
def test_the_metadata_document_goes_before_registration(world: World, now: datetime, settings: Settings) -> None:
    settings.CLIENT_METADATA_URL = METADATA_DOCUMENT
    world.authorization_server.accepts_metadata_documents = True

    client = client_of(world, now=now)

    assert (client.method, client.credentials.client_id) == ("metadata_document", METADATA_DOCUMENT)
    assert world.authorization_server.registrations == []


@requirement("R-04", "R-16", "R-18", "R-22")
def test_a_registration_is_made_once_and_kept_under_its_issuer(world: World, now: datetime) -> None:
    first, second = client_of(world, now=now), client_of(world, now=now)

    assert first.credentials.client_id == second.credentials.client_id == "client-1"
    assert ClientRegistration.objects.get().issuer == "https://as.example"
    (asked,) = world.authorization_server.registrations
    assert asked["application_type"] == "native"
    assert asked["redirect_uris"] == ["http://localhost:8000/api/v1/oauth/callback"]
    assert "refresh_token" in asked["grant_types"]


def test_a_server_that_knows_the_scopes_of_its_resources_in_no_registration_is_asked_without(
    world: World, now: datetime
) -> None:
    fake = world.authorization_server
    refusal = Answer(400, {"error": "invalid_client_metadata"})
    world.internet["https://as.example"] = lambda call: (
        refusal if call.path == "/register" and "scope" in call.json else fake(call)
    )

    assert client_of(world, now=now).method == "dynamic"
    (asked,) = fake.registrations
    assert "scope" not in asked


def test_a_description_that_is_refused_without_its_scope_too_is_refused(world: World, now: datetime) -> None:
    world.authorization_server.registration_answer = Answer(400, {"error": "invalid_client_metadata"})

    with pytest.raises(RegistrationError) as refused:
        client_of(world, now=now)
    assert refused.value.code == Code.INVALID_CLIENT_METADATA
    assert len(world.authorization_server.registrations) == 2
    assert AuditRecord.objects.filter(event="client.registration_failed").count() == 1


def test_two_servers_of_one_issuer_register_each_for_itself(world: World, now: datetime) -> None:
    assert (
        client_of(world, now=now).credentials.client_id != client_of(world, now=now, slug="drive").credentials.client_id
    )


@requirement("R-02")
def test_without_any_way_an_administrator_is_told_what_to_register(world: World, now: datetime) -> None:
    world.authorization_server.offers_registration = False

    with pytest.raises(NoClientError):
        client_of(world, now=now)
    trace = check_server(world.server(), user=None, now=now)
    assert not trace.ok
    assert "exactly this redirect URI: http://localhost:8000/api/v1/oauth/callback" in trace.verdict


@requirement("R-19", "D-15", "R-18")
def test_at_a_new_issuer_the_site_registers_anew_and_says_nothing_of_the_old_one(
    world: World, alice: User, now: datetime
) -> None:
    world.authorization_server.marker = "OLD"
    connection = world.connect(alice, now=now)
    other = move(world)
    with pytest.raises(IssuerChangedError):
        discover(world.server(), http=Egress(), now=now, fresh=True)
    assert other.registrations == []
    approve_issuer_change(world.server(), actor=alice, now=now)

    client = client_of(world, now=now)

    assert client.registration is not None
    assert client.registration.issuer == "https://new.example"
    assert len(other.registrations) == 1
    assert "OLD" not in everything_sent_to(world, "new.example")
    connection.refresh_from_db()
    assert connection.status == "reauth_required"


@requirement("R-20", "U-01")
def test_a_client_entered_by_hand_is_not_taken_to_another_issuer(world: World, now: datetime) -> None:
    server = world.server(client_id="by-hand")
    server.client_secret_sealed = Secret("MARKED-secret")
    server.save()
    client_of(world, now=now)
    move(world)
    discover(server, http=Egress(), now=now, fresh=True)

    with pytest.raises(NoClientError, match="belongs to https://as.example"):
        client_of(world, now=now)
    server.refresh_from_db()
    trace = check_server(server, user=None, now=now)
    assert not trace.ok
    assert "belongs to https://as.example" in trace.verdict
    assert "MARKED" not in everything_sent_to(world, "new.example")


@requirement("R-21")
def test_a_metadata_document_is_the_same_client_at_every_issuer(
    world: World, now: datetime, settings: Settings
) -> None:
    settings.CLIENT_METADATA_URL = METADATA_DOCUMENT
    world.authorization_server.accepts_metadata_documents = True
    before = client_of(world, now=now)
    other = move(world)
    discover(world.server(), http=Egress(), now=now, fresh=True)

    assert client_of(world, now=now).credentials == before.credentials
    assert other.registrations == []
    assert not ClientRegistration.objects.exists()


# U12
def test_a_failed_registration_does_not_fall_back_to_the_secret_of_a_client_by_hand(
    world: World, now: datetime
) -> None:
    server = world.server(client_id="by-hand", registration="dynamic")
    server.client_secret_sealed = Secret("MARKED-secret")
    server.save()
    world.authorization_server.registration_answer = Answer(500)

    with pytest.raises(FlowError):
        client_of(world, now=now)
    assert "MARKED" not in everything_sent_to(world, "example")
    assert not any("Authorization" in call.headers for call in world.internet.calls)


@requirement("R-17")
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(400, {"error": "invalid_redirect_uri", "error_description": "<b>"}), Code.INVALID_REDIRECT_URI),
        (Answer(400, {"error": "invalid_client_metadata"}), Code.INVALID_CLIENT_METADATA),
        (Answer(403, "<html>"), Code.REGISTRATION_NOT_SUPPORTED),
    ],
)
def test_a_refused_registration_is_recorded_and_says_what_to_do_by_hand(
    world: World, now: datetime, answer: Answer, code: Code
) -> None:
    world.authorization_server.registration_answer = answer

    with pytest.raises(RegistrationError, match=r"redirect URI|registration") as caught:
        client_of(world, now=now)
    assert caught.value.code == code
    assert "register the redirect URI http://localhost:8000/api/v1/oauth/callback there" in caught.value.detail
    assert AuditRecord.objects.get().event == "client.registration_failed"
    assert not ClientRegistration.objects.exists()


# U15
def test_a_registration_for_other_redirect_uris_is_not_kept(world: World, now: datetime) -> None:
    world.authorization_server.registration_overrides = {"redirect_uris": ["https://evil.example/cb"]}

    with pytest.raises(RegistrationError):
        client_of(world, now=now)
    assert not ClientRegistration.objects.exists()


# U15
@pytest.mark.parametrize("uri", ["https://evil.example/client", "http://127.0.0.1/client", "/register/client-1"])
def test_a_management_address_elsewhere_is_not_kept(world: World, now: datetime, uri: str) -> None:
    world.authorization_server.registration_overrides = {"registration_client_uri": uri}
    client_of(world, now=now)

    registration = ClientRegistration.objects.get()
    assert registration.registration_client_uri == ""
    assert not registration.registration_access_token_sealed


# U15
def test_a_registration_whose_secret_has_expired_is_replaced(world: World, now: datetime) -> None:
    world.authorization_server.auth_methods = ["client_secret_basic"]
    end = int((now + timedelta(hours=1)).timestamp())
    world.authorization_server.registration_overrides = {"client_secret_expires_at": end}

    assert client_of(world, now=now).credentials.client_id == "client-1"
    assert client_of(world, now=now + timedelta(hours=2)).credentials.client_id == "client-2"
    assert ClientRegistration.objects.filter(status="active").count() == 1
    assert ClientRegistration.objects.get(status="active").client_secret_expires_at == datetime.fromtimestamp(end, UTC)


def test_another_public_address_needs_another_registration(world: World, now: datetime, settings: Settings) -> None:
    client_of(world, now=now)
    settings.PUBLIC_URL = "https://site.example"

    client_of(world, now=now)

    assert world.authorization_server.registrations[1]["redirect_uris"] == [
        "https://site.example/api/v1/oauth/callback"
    ]
    assert world.authorization_server.registrations[1]["application_type"] == "web"


@requirement("T-12")
@pytest.mark.parametrize(
    ("supported", "registered"),
    [
        (["client_secret_basic"], "client_secret_basic"),
        (["client_secret_post"], "client_secret_post"),
        (["none"], "none"),
        (None, "client_secret_basic"),
    ],
)
def test_the_client_authenticates_by_a_method_that_the_server_supports(
    world: World, alice: User, now: datetime, supported: list[str] | None, registered: str
) -> None:
    world.authorization_server.auth_methods = supported

    world.connect(alice, now=now)

    assert world.authorization_server.registrations[0]["token_endpoint_auth_method"] == registered
    assert ClientRegistration.objects.get().auth_method == registered


def test_a_client_id_longer_than_anybody_needs_is_a_failed_registration(world: World, now: datetime) -> None:
    world.authorization_server.registration_overrides = {"client_id": "c" * 501}

    with pytest.raises(RegistrationError):
        client_of(world, now=now)
    assert not ClientRegistration.objects.exists()


@requirement("T-12", "R-07")
def test_a_server_that_wants_signed_assertions_gets_one_for_every_token_request(
    world: World, alice: User, now: datetime
) -> None:
    world.authorization_server.auth_methods = ["private_key_jwt"]
    connection = world.connect(alice, now=now)
    refresh_connection(connection, now=now, trigger="use")

    (asked,) = world.authorization_server.registrations
    assert asked["jwks_uri"] == "http://localhost:8000/oauth/client-jwks.json"
    sent = [*world.authorization_server.token_requests, *world.authorization_server.refresh_requests]
    assert len({one["client_assertion"] for one in sent}) == 2
    assert not ClientRegistration.objects.get().client_secret_sealed
