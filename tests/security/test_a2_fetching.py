"""What comes from names that somebody else chose, through whole flows. Security notes A2."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from audit.models import AuditRecord
from connections.models import AuthorizationServer, ClientRegistration, Connection, FlowTrace, McpServer, TokenSet
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.secret import Secret
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.rest_clients import with_token

pytestmark = pytest.mark.django_db

Initiate = Callable[..., Any]

_PRIVATE: Final = (
    "https://127.0.0.1/x", "https://[::1]/x", "https://169.254.169.254/latest/meta-data", "https://10.0.0.1/x",
    "https://[::ffff:127.0.0.1]/x", "https://[64:ff9b::7f00:1]/x", "https://2130706433/x", "https://0x7f000001/x",
    "https://127.1/x", "https://0177.0.0.1/x", "https://localhost/x", "https://[fe80::1%25eth0]/x",
)  # fmt: skip
_NO_ADDRESS: Final = (
    "javascript:alert(1)", "vbscript:x", "data:text/html,x", "file:///etc/passwd", "gopher://as.example/x",
    "ftp://as.example/x", "https://as.example/$(id)", "https://good.example@as.example/x", "https://as.example\\@x/",
    "https://as.example/#x", "https://as.example:443@127.0.0.1/x", "http://as.example/x", "//as.example/x", "x",
    "https://as.example/a b", "https://as.example/\r\nX: y", "https://\uff11\uff12\uff17.0.0.1/x",
)  # fmt: skip
_PRESET: Final = (
    "?redirect_uri=https://evil.example", "?state=x", "?client_id=x&a=b", "?a=b;resource=x", "?code_challenge=x",
    "?re%64irect_uri=https://evil.example", "?scope=admin", "?request_uri=https://evil.example",
)  # fmt: skip
_DEEP: Final = '{"issuer":' + "[" * 100_000 + "]" * 100_000 + "}"
_DOCUMENTS: Final[dict[str, Answer]] = {
    "larger than 128 KiB": Answer(body={"issuer": "https://as.example", "x": "y" * 140_000}),
    "nested 100,000 deep": Answer(body=_DEEP, headers={"Content-Type": "application/json"}),
    "an issuer twice": Answer(
        body='{"issuer":"https://as.example","issuer":"https://evil.example"}',
        headers={"Content-Type": "application/json"},
    ),
    "not a number": Answer(body='{"issuer":"x","n":NaN}', headers={"Content-Type": "application/json"}),
    "endless number": Answer(body='{"issuer":"x","n":1e999}', headers={"Content-Type": "application/json"}),
    "a list": Answer(body=["https://as.example"]),
    "a page": Answer(body="<html>https://as.example</html>"),
    "no UTF-8": Answer(body=b'{"issuer":"\xff"}', headers={"Content-Type": "application/json"}),
    "half a character": Answer(body='{"issuer":"\\ud800"}', headers={"Content-Type": "application/json"}),
    "a NUL": Answer(body={"issuer": "https://as.example\0"}),
    "cut off": Answer(body='{"issuer":"https://as.ex', headers={"Content-Type": "application/json"}),
    "nothing": Answer(body="", headers={"Content-Type": "application/json"}),
    "wrong types": Answer(body={"issuer": ["https://as.example"], "authorization_endpoint": 1, "token_endpoint": {}}),
    "a redirect to inside": Answer(302, headers={"Location": "https://127.0.0.1/x"}),
    "a redirect to another scheme": Answer(302, headers={"Location": "http://as.example/x"}),
    "a redirect to a file": Answer(302, headers={"Location": "file:///etc/passwd"}),
    "a redirect to itself": Answer(302, headers={"Location": "/.well-known/oauth-authorization-server"}),
    "status 204": Answer(204),
    "status 500": Answer(500, body={"issuer": "https://as.example"}),
}
_ORDINARY_REFUSALS: Final = frozenset({422, 502, 503})
_IN_WORDS: Final = frozenset({200, 400, *_ORDINARY_REFUSALS})


def _no_attempt_was_made(world: World, answer: Any) -> None:
    """Nobody is registered or sent anywhere; the administrator's trace says why; the person hears only our words."""
    assert answer.status_code in _ORDINARY_REFUSALS
    assert set(answer.json()) == {"error", "message", "retryable", "requires_reauthorization", "correlation_id"}
    assert "evil" not in answer.content.decode()
    assert not AuthorizationRequest.objects.exists()
    assert not ClientRegistration.objects.exists()
    assert (world.authorization_server.registrations, world.authorization_server.token_requests) == ([], [])
    trace = FlowTrace.objects.get()
    assert (trace.ok, trace.code) == (False, answer.json()["error"])


# U01, U04, U05, U06
@pytest.mark.parametrize("endpoint", ["authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize("address", [*_PRIVATE, *_NO_ADDRESS])
def test_metadata_with_an_unusable_endpoint_starts_nothing(
    address: str, endpoint: str, world: World, initiate: Initiate
) -> None:
    world.authorization_server.metadata_overrides = {endpoint: address}
    answer = initiate()
    assert answer.status_code == 422
    assert address not in answer.content.decode()
    _no_attempt_was_made(world, answer)
    is_blocked = answer.json()["error"] == "egress_blocked"
    assert AuditRecord.objects.filter(event="egress.blocked").count() == is_blocked
    assert is_blocked or address not in _PRIVATE


@pytest.mark.parametrize("address", [*_PRIVATE, *_NO_ADDRESS])
def test_a_registration_endpoint_that_is_unusable_is_never_asked(
    address: str, world: World, initiate: Initiate
) -> None:
    world.authorization_server.metadata_overrides = {"registration_endpoint": address}
    answer = initiate()
    assert answer.status_code == 422
    _no_attempt_was_made(world, answer)


@pytest.mark.parametrize("address", _PRIVATE)
def test_a_revocation_endpoint_inside_gets_no_token(
    address: str, world: World, alice: User, program: APIClient
) -> None:
    world.authorization_server.metadata_overrides = {"revocation_endpoint": address}
    world.server()
    started = program.post("/api/v1/oauth/initiate", {"server": "notes"})
    if started.status_code == 422:  # not even the form of an address
        assert started.json()["error"] in ("egress_blocked", "metadata_discovery_failed")
        return
    connection = world.connect(alice, now=timezone.now())
    world.internet.calls.clear()
    assert program.post(f"/api/v1/connections/{connection.pk}/revoke").status_code == 200
    assert world.internet.calls == []
    assert not TokenSet.objects.exists()


@pytest.mark.parametrize("field", ["resource_metadata", "authorization_servers"])
@pytest.mark.parametrize("address", [*_PRIVATE, *_NO_ADDRESS])
def test_a_server_that_points_inside_leads_nowhere(field: str, address: str, world: World, initiate: Initiate) -> None:
    if field == "resource_metadata":
        world.mcp_server.metadata_url = address
    else:
        world.mcp_server.issuers = [address]
    answer = initiate()
    asked = {call.url.partition("/")[2].strip("/").partition("/")[0] for call in world.internet.calls}
    assert asked <= {"mcp.example", "as.example"}
    if answer.status_code == 200:
        pytest.fail("started with an address that nobody may contact")
    _no_attempt_was_made(world, answer)


# U07
@pytest.mark.parametrize("endpoint", ["authorization_endpoint", "token_endpoint", "registration_endpoint"])
@pytest.mark.parametrize("preset", _PRESET)
def test_an_endpoint_that_sets_our_parameters_is_not_used(
    preset: str, endpoint: str, world: World, initiate: Initiate
) -> None:
    world.authorization_server.metadata_overrides = {endpoint: f"https://as.example/{endpoint}{preset}"}
    answer = initiate()
    assert (answer.status_code, answer.json()["error"]) == (422, "metadata_discovery_failed")
    _no_attempt_was_made(world, answer)


# U03, U08
@pytest.mark.parametrize("whose", ["server", "authorization server"])
@pytest.mark.parametrize("what", _DOCUMENTS)
def test_a_document_that_is_none_starts_nothing(what: str, whose: str, world: World, initiate: Initiate) -> None:
    at = world.mcp_server if whose == "server" else world.authorization_server
    at.metadata_answer = _DOCUMENTS[what]
    world.authorization_server.offers_registration = False
    answer = initiate()
    _no_attempt_was_made(world, answer)
    assert {call.url.split("/")[2] for call in world.internet.calls} <= {"mcp.example", "as.example"}
    assert all("Authorization" not in call.headers for call in world.internet.calls)


# U09
@pytest.mark.parametrize(
    "issuer",
    [
        "https://as.example/", "https://AS.example", "https://as.example:443", "HTTPS://as.example",
        "https://as.example.", "https://as.example/%2F", "https://as.example/tenant", "http://as.example",
        "https://evil.example", " https://as.example",
    ],
)  # fmt: skip
def test_metadata_of_nearly_the_issuer_asked_for_is_not_used(issuer: str, world: World, initiate: Initiate) -> None:
    world.authorization_server.published_issuer = issuer
    answer = initiate()
    assert (answer.status_code, answer.json()["error"]) == (422, "issuer_mismatch")
    _no_attempt_was_made(world, answer)


# U10
@pytest.mark.parametrize(
    "resource",
    [
        "https://evil.example/mcp", "https://mcp.example/other", "https://mcp.example/mcp/deeper",
        "https://mcp.example/mc", "http://mcp.example/mcp", "https://mcp.example:8443/mcp",
        "https://mcp.example.evil.example/mcp", "https://mcp.example@evil.example/mcp", "javascript:x", "",
    ],
)  # fmt: skip
def test_a_document_for_another_resource_sends_nobody_away(resource: str, world: World, initiate: Initiate) -> None:
    world.mcp_server.metadata_overrides = {"resource": resource}
    answer = initiate()
    assert answer.status_code == 422
    _no_attempt_was_made(world, answer)


# S12
@pytest.mark.parametrize("methods", [None, [], ["plain"], ["s256"], ["plain", "S512"]])
def test_without_a_promise_of_pkce_nobody_is_sent_away(
    methods: list[str] | None, world: World, initiate: Initiate
) -> None:
    world.authorization_server.metadata_overrides = {"code_challenge_methods_supported": methods}
    answer = initiate()
    assert (answer.status_code, answer.json()["error"]) == (422, "pkce_unsupported")
    _no_attempt_was_made(world, answer)


# U15
@pytest.mark.parametrize(
    "attack",
    [
        {"redirect_uris": ["https://evil.example/callback"]},
        {"redirect_uris": ["http://localhost:8000/api/v1/oauth/callback", "https://evil.example/callback"]},
        {"redirect_uris": []},
        {"token_endpoint_auth_method": "tls_client_auth"},
        {"token_endpoint_auth_method": "client_secret_basic", "client_secret": None},
        {"client_id": "a\r\nX: y"},
        {"client_id": ["x"]},
        {"client_id": ""},
        {"client_secret": "\0"},
        {"client_secret_expires_at": -1},
        {"client_secret_expires_at": 10**30},
        {"client_secret_expires_at": "soon"},
    ],
)
def test_a_registration_that_turns_against_us_is_not_kept(
    attack: dict[str, Any], world: World, initiate: Initiate
) -> None:
    world.authorization_server.registration_overrides = attack
    answer = initiate()
    assert answer.status_code in (422, 502)
    assert "evil" not in answer.content.decode()
    assert not ClientRegistration.objects.exists()
    assert not AuthorizationRequest.objects.exists()
    assert AuditRecord.objects.filter(event="client.registration_failed").count() == 1


@pytest.mark.parametrize("uri", ["https://127.0.0.1/x", "https://evil.example/x", "https://as.example:8443/x", "/x"])
def test_the_address_to_manage_a_registration_is_the_issuers_own_or_unused(
    uri: str, world: World, initiate: Initiate
) -> None:
    world.authorization_server.registration_overrides = {"registration_client_uri": uri}
    assert initiate().status_code == 200
    kept = ClientRegistration.objects.get()
    assert (kept.registration_client_uri, bool(kept.registration_access_token_sealed)) == ("", False)


# U11
def test_a_person_cannot_lead_everybody_to_another_sign_in_service(
    world: World, alice: User, program: APIClient, bob: User
) -> None:
    evil = FakeAuthorizationServer(issuer="https://evil.example")
    world.internet["https://evil.example"] = lambda call: (
        Answer(body={"resource": world.mcp_server.url, "authorization_servers": ["https://evil.example"]})
        if call.path == "/resource"
        else evil(call)
    )
    connection = world.connect(alice, now=timezone.now())
    other = world.connect(bob, now=timezone.now())
    TokenSet.objects.update(obtained_at=timezone.now() - timedelta(minutes=5))
    world.internet.calls.clear()
    answer = program.post(
        f"/api/v1/connections/{connection.pk}/challenge",
        {
            "status": 403,
            "www_authenticate": 'Bearer error="insufficient_scope", scope="everything", '
            'resource_metadata="https://evil.example/resource"',
        },
    )
    assert answer.json()["action"] == "authorize"
    assert world.internet.calls_to("evil.example") == []
    assert set(Connection.objects.values_list("status", flat=True)) == {"active"}
    # What one person's program reported is asked for from nobody else either.
    assert other.server.discovery.challenge_scope == ""
    again = with_token(bob).post("/api/v1/oauth/initiate", {"connection_id": str(other.pk)})
    assert again.status_code == 200
    assert "everything" not in AuthorizationRequest.objects.get(user=bob, status="pending").scope


def test_metadata_under_a_second_spelling_does_not_replace_that_of_the_real_issuer(
    world: World, alice: User, administrator: User, program: APIClient
) -> None:
    world.connect(alice, now=timezone.now())
    before = AuthorizationServer.objects.get().document
    evil = FakeAuthorizationServer(issuer="https://evil.example", published_issuer="https://as.example")
    world.internet["https://evil.example"] = evil
    world.internet["https://mine.example"] = Answer
    McpServer.objects.create(
        name="Mine", slug="mine", url="https://mcp.example/mcp", issuer="https://evil.example",
        accepted_issuer="https://as.example",
    )  # fmt: skip
    assert with_token(administrator).post("/api/v1/servers/mine/check").json()["ok"] is True
    notes = McpServer.objects.get(slug="notes").discovery.authorization_server
    assert notes is not None
    assert notes.document == before


# U12
def test_a_client_entered_by_hand_follows_nobody_to_another_issuer(
    world: World, alice: User, program: APIClient
) -> None:
    server = world.server(client_id="ours", registration="pre_registered")
    server.client_secret_sealed = Secret("by-hand")
    server.save()
    assert program.post("/api/v1/oauth/initiate", {"server": "notes"}).status_code == 200
    evil = FakeAuthorizationServer(issuer="https://evil.example")
    world.internet["https://evil.example"] = evil
    world.mcp_server.issuers = ["https://evil.example"]
    server.discovery.delete()
    answer = program.post("/api/v1/oauth/initiate", {"server": "notes"})
    assert (answer.status_code, answer.json()["error"]) == (422, "registration_not_supported")
    assert evil.token_requests == evil.registrations == []
    assert all("Authorization" not in call.headers for call in world.internet.calls_to("evil.example"))


# U13
@pytest.mark.parametrize(
    "url", ["https://x.example/${SECRET_KEY}", "https://x.example/{{x}}", "https://x.example/%(x)s"]
)
def test_a_template_in_an_address_is_refused_when_it_is_entered(url: str, administrator: User) -> None:
    body = {"name": "X", "slug": "x", "url": url}
    answer = with_token(administrator).post("/api/v1/servers", body)
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"url"})


# U14
@pytest.mark.parametrize(
    ("attack", "status"),
    [
        ({"access_token": "a\r\nX: y"}, 303), ({"access_token": ""}, 303), ({"access_token": None}, 303),
        ({"access_token": ["x"]}, 303), ({"access_token": "x" * 20_000}, 303), ({"access_token": "\u00e9"}, 303),
        ({"token_type": "mac"}, 303), ({"token_type": 1}, 303), ({"refresh_token": "\0"}, 303), ({"scope": 1}, 303),
    ],
)  # fmt: skip
def test_a_poisoned_token_is_not_stored_and_nobody_sees_it(
    attack: dict[str, Any], status: int, world: World, browser: Client, come_back: Callable[..., dict[str, str]]
) -> None:
    params = come_back()
    world.authorization_server.token_overrides = attack
    answer = browser.get("/api/v1/oauth/callback", params)
    assert answer.status_code == status
    assert not TokenSet.objects.exists()
    assert AuthorizationRequest.objects.get().error_code == "upstream_invalid_response"
    assert Connection.objects.get().status == "pending"


@pytest.mark.parametrize("expires_in", ["abc", -5, 1e99, None, [], True, "1" * 5000, 10**40])
def test_a_lifetime_that_makes_no_sense_is_never_for_ever(
    expires_in: object, world: World, alice: User, browser: Client, come_back: Callable[..., dict[str, str]]
) -> None:
    world.authorization_server.token_overrides = {"expires_in": expires_in}
    assert browser.get("/api/v1/oauth/callback", come_back()).status_code == 303
    stored = TokenSet.objects.get()
    assert stored.expires_at is None or stored.expires_at <= timezone.now() + timedelta(days=366)
