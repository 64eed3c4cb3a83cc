"""What is written down before anybody is sent away, and what the authorization server is asked."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from audit.models import AuditRecord
from connections.services import shared_connection
from oauthflow.flows.start_authorization import bind_browser, start_authorization, waiting_authorization
from oauthflow.models import AuthorizationRequest, hash_of
from oauthflow.protocol.bearer import BearerChallenge
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import FlowError, InvalidRequestError, StateError
from tests.fakes.world import World
from tests.requirements import requirement


def sent_away(world: World, user: User, *, now: datetime, **start: object) -> dict[str, str]:
    """Start and follow our link; return the parameters of the authorization request."""
    started = start_authorization(world.connection(user), user=user, now=now, **start)
    return dict(parse_qsl(urlsplit(bind_browser(started.request, user=user, now=now).redirect_url).query))


@requirement("A-09", "A-10", "E-06", "H-02")
def test_all_that_the_callback_needs_is_stored_before_anybody_is_sent_away(
    world: World, alice: User, now: datetime
) -> None:
    started = start_authorization(world.connection(alice), user=alice, now=now, return_to="/connections/")

    kept = AuthorizationRequest.objects.get()
    assert (kept.issuer, kept.iss_required) == ("https://as.example", True)
    assert kept.token_endpoint == "https://as.example/token"
    assert (kept.user, kept.return_to, kept.status) == (alice, "/connections/", "pending")
    assert kept.state_hash == hash_of(started.state)
    assert len(started.state.reveal()) >= 43
    assert kept.code_verifier_sealed.reveal()
    assert started.expires_at == kept.expires_at == now + timedelta(seconds=600)
    assert started.authorization_url == f"http://localhost:8000/connect/requests/{kept.pk}"
    assert started.used_dynamic_registration


@requirement("A-02", "A-03", "A-06", "A-08", "A-16", "A-18")
def test_the_browser_takes_along_exactly_what_was_stored(world: World, alice: User, now: datetime) -> None:
    world.mcp_server.resource = "https://mcp.example"  # a parent, and not normalised by a slash

    sent = sent_away(world, alice, now=now)

    kept = AuthorizationRequest.objects.get()
    assert sent["resource"] == kept.resource == "https://mcp.example"
    assert sent["redirect_uri"] == kept.redirect_uri == "http://localhost:8000/api/v1/oauth/callback"
    assert sent["client_id"] == kept.client_id
    assert (sent["response_type"], sent["code_challenge_method"]) == ("code", "S256")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", sent["code_challenge"])
    assert hash_of(sent["state"]) == kept.state_hash


@requirement("A-18")
def test_the_redirect_uri_comes_from_the_public_address_alone(
    world: World, alice: User, now: datetime, settings: Settings
) -> None:
    settings.PUBLIC_URL = "https://site.example"

    assert sent_away(world, alice, now=now)["redirect_uri"] == "https://site.example/api/v1/oauth/callback"


@requirement("A-02")
def test_no_two_requests_share_state_or_verifier(world: World, alice: User, now: datetime) -> None:
    first, second = sent_away(world, alice, now=now), sent_away(world, alice, now=now)

    assert first["state"] != second["state"]
    assert first["code_challenge"] != second["code_challenge"]


@requirement("E-06", "E-07")
def test_a_link_that_was_made_for_somebody_else_leads_nowhere(
    world: World, alice: User, bob: User, now: datetime
) -> None:
    started = start_authorization(world.connection(alice), user=alice, now=now)

    with pytest.raises(StateError) as caught:
        bind_browser(started.request, user=bob, now=now)
    assert caught.value.code == Code.LINK_USER_MISMATCH
    kept = AuthorizationRequest.objects.get()
    assert (kept.browser_hash, kept.consumed_at) == ("", None)
    assert bind_browser(kept, user=alice, now=now).redirect_url


@pytest.mark.parametrize(("later", "code"), [(601, Code.STATE_EXPIRED), (0, Code.STATE_USED)])
def test_a_request_that_is_over_sends_nobody_away(
    world: World, alice: User, now: datetime, later: int, code: Code
) -> None:
    request = start_authorization(world.connection(alice), user=alice, now=now).request
    if not later:
        AuthorizationRequest.objects.claim(request, now=now)

    with pytest.raises(StateError) as caught:
        bind_browser(request, user=alice, now=now + timedelta(seconds=later))
    assert caught.value.code == code


def test_the_cookie_is_host_only_on_https_and_no_two_requests_share_its_name(
    world: World, alice: User, now: datetime, settings: Settings
) -> None:
    settings.PUBLIC_URL = "https://site.example"
    requests = [start_authorization(world.connection(alice), user=alice, now=now).request for _ in range(2)]

    one, two = (bind_browser(request, user=alice, now=now) for request in requests)

    assert one.cookie_name.startswith("__Host-mcp_flow_")
    assert one.cookie_name != two.cookie_name
    assert one.cookie_value != two.cookie_value
    assert one.max_age_seconds == 600


@requirement("S-03")
@pytest.mark.parametrize(
    ("challenged", "published", "asked"),
    [("files:read", ["all"], "files:read"), (None, ["b", "a"], "a b"), (None, None, None)],
)
def test_the_first_choice_of_scopes_is_the_challenge_then_the_metadata_then_none(
    world: World, alice: User, now: datetime, challenged: str | None, published: list[str] | None, asked: str | None
) -> None:
    world.mcp_server.challenge_scope, world.mcp_server.scopes_supported = challenged, published

    assert sent_away(world, alice, now=now).get("scope") == asked


@requirement("S-12")
@pytest.mark.parametrize("offered", [True, False])
def test_offline_access_is_asked_for_only_where_the_authorization_server_lists_it(
    world: World, alice: User, now: datetime, offered: bool
) -> None:
    world.authorization_server.scopes_supported = ["offline_access"] if offered else ["read"]
    world.mcp_server.challenge_scope = "read offline_access"
    challenge = BearerChallenge(error="insufficient_scope", scope="write offline_access")

    first = sent_away(world, alice, now=now)["scope"]
    stepped = sent_away(world, alice, now=now, challenge=challenge)["scope"]

    assert ("offline_access" in first, "offline_access" in stepped) == (offered, offered)


@requirement("S-02", "S-08")
def test_a_step_up_asks_for_what_was_asked_before_and_what_is_challenged(
    world: World, alice: User, now: datetime
) -> None:
    world.mcp_server.challenge_scope = "read"
    world.connect(alice, now=now)
    challenge = BearerChallenge(error="insufficient_scope", scope="write")

    assert sent_away(world, alice, now=now, challenge=challenge, fresh=True)["scope"] == "read write"


def test_words_that_are_no_scopes_in_a_challenge_are_left_out(world: World, alice: User, now: datetime) -> None:
    assert sent_away(world, alice, now=now, challenge=BearerChallenge(scope='a"b good'))["scope"] == "good"


def test_configured_scopes_decide_and_more_can_be_asked_for(world: World, alice: User, now: datetime) -> None:
    world.server(scopes="mail")
    world.mcp_server.challenge_scope = "files"

    assert sent_away(world, alice, now=now)["scope"] == "mail"
    assert sent_away(world, alice, now=now, additional_scopes="calendar")["scope"] == "calendar mail"


@requirement("A-06", "A-08")
@pytest.mark.parametrize(
    ("fields", "resource"),
    [
        ({}, "https://mcp.example/mcp"),
        ({"resource_mode": "omit"}, None),
        ({"resource_mode": "custom", "resource": "urn:notes"}, "urn:notes"),
        ({"profile": "entra", "client_id": "x"}, None),
        ({"profile": "entra", "client_id": "x", "resource_mode": "send"}, "https://mcp.example/mcp"),
    ],
)
def test_the_resource_is_sent_as_the_server_is_configured(
    world: World, alice: User, now: datetime, fields: dict[str, str], resource: str | None
) -> None:
    world.server(**fields)

    assert sent_away(world, alice, now=now).get("resource") == resource


# S13
@pytest.mark.parametrize(
    "return_to",
    ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "javascript:alert(1)", "https:e",
     "evil", " /x", "/x\r\nSet-Cookie: a=b", "/" + "x" * 5000],
)  # fmt: skip
def test_a_return_address_elsewhere_is_refused_before_anything_is_sent(
    world: World, alice: User, now: datetime, return_to: str
) -> None:
    with pytest.raises(FlowError) as caught:
        start_authorization(world.connection(alice), user=alice, now=now, return_to=return_to)
    assert caught.value.code == Code.INVALID_RETURN_TO
    assert world.internet.calls == []
    assert not AuthorizationRequest.objects.exists()


def test_a_manual_request_leads_straight_to_the_authorization_server(world: World, alice: User, now: datetime) -> None:
    started = start_authorization(world.connection(alice), user=alice, now=now, manual=True)

    assert started.authorization_url.startswith("https://as.example/authorize?")
    assert AuthorizationRequest.objects.get().manual


def test_nobody_connects_for_somebody_else(world: World, alice: User, bob: User, now: datetime) -> None:
    with pytest.raises(InvalidRequestError):
        start_authorization(world.connection(alice), user=bob, now=now)
    with pytest.raises(InvalidRequestError):
        start_authorization(shared_connection(world.server()), user=bob, now=now)
    assert world.internet.calls == []


@requirement("D-00")
def test_a_server_without_oauth_needs_no_sign_in(world: World, alice: User, now: datetime) -> None:
    world.server(auth_type="none")

    with pytest.raises(InvalidRequestError):
        start_authorization(world.connection(alice), user=alice, now=now)


def test_the_start_is_recorded_without_its_secrets(world: World, alice: User, now: datetime) -> None:
    started = start_authorization(world.connection(alice), user=alice, now=now)

    entry = AuditRecord.objects.get(event="authorization.initiated")
    assert entry.actor == str(alice.pk)
    assert entry.details["issuer"] == "https://as.example"
    assert started.state.reveal() not in str(entry.details)


def test_more_scopes_than_can_be_asked_for_are_a_matter_for_an_administrator(
    world: World, alice: User, now: datetime
) -> None:
    world.mcp_server.scopes_supported = [f"scope:{number:04}" for number in range(200)]

    with pytest.raises(InvalidRequestError) as caught:
        sent_away(world, alice, now=now)
    assert caught.value.code == Code.INVALID_SCOPE
    world.server().delete()
    world.server(scopes="scope:0001")
    assert sent_away(world, alice, now=now)["scope"] == "scope:0001"


def test_a_program_that_asks_again_gets_the_request_that_waits_already(
    world: World, alice: User, now: datetime
) -> None:
    connection = world.connection(alice)
    first = waiting_authorization(connection, user=alice, now=now)
    again = waiting_authorization(connection, user=alice, now=now)
    assert (again.request, again.state) == (first.request, first.state)

    bind_browser(first.request, user=alice, now=now)  # a browser took it up: it is that browser's
    assert waiting_authorization(connection, user=alice, now=now).request != first.request


def test_a_request_that_asks_for_less_than_the_challenge_is_not_enough(
    world: World, alice: User, now: datetime
) -> None:
    connection = world.connection(alice)
    first = waiting_authorization(connection, user=alice, now=now)
    more = waiting_authorization(connection, user=alice, now=now, challenge=BearerChallenge(scope="write"))
    assert more.request != first.request
