"""Discovery as a flow: what is asked in which order, what is believed, and for how long."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from connections.models import AuthorizationServer, ServerDiscovery
from oauthflow.egress import Egress
from oauthflow.flows.discover import Discovered, discover
from oauthflow.protocol.bearer import BearerChallenge
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    BlockedUrlError,
    DiscoveryError,
    FlowError,
    IssuerMismatchError,
    PkceNotSupportedError,
    ResourceMismatchError,
)
from oauthflow.protocol.retry_after import ServerUnavailableError
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.requirements import requirement


def found_by(world: World, *, now: datetime, **asked: object) -> Discovered:
    return discover(world.server(), http=Egress(), now=now, **asked)


def paths(world: World) -> list[str]:
    return [call.url for call in world.internet.calls]


@requirement("D-04", "D-05", "D-06", "D-11")
def test_the_challenge_leads_to_the_document_and_that_to_the_issuer(world: World, now: datetime) -> None:
    world.mcp_server.metadata_url = "https://mcp.example/elsewhere"

    found = found_by(world, now=now)

    assert found.issuer == "https://as.example"
    assert paths(world) == [
        "https://mcp.example/mcp",
        "https://mcp.example/elsewhere",
        "https://as.example/.well-known/oauth-authorization-server",
    ]
    assert ServerDiscovery.objects.get().issuer == AuthorizationServer.objects.get().issuer == found.issuer


@requirement("D-05")
def test_without_an_address_in_the_challenge_the_path_goes_before_the_root(world: World, now: datetime) -> None:
    world.mcp_server.names_metadata_in_challenge, world.mcp_server.at_root = False, True
    world.mcp_server.resource = "https://mcp.example"

    assert found_by(world, now=now).resource == "https://mcp.example"
    assert paths(world)[1:3] == [
        "https://mcp.example/.well-known/oauth-protected-resource/mcp",
        "https://mcp.example/.well-known/oauth-protected-resource",
    ]


@requirement("D-07")
def test_of_two_authorization_servers_the_first_usable_one_is_taken(world: World, now: datetime) -> None:
    world.mcp_server.issuers = ["https://old.example", "https://as.example"]
    world.internet["https://old.example"] = lambda call: Answer(404)

    assert found_by(world, now=now).issuer == "https://as.example"


@requirement("D-07")
def test_an_administrator_picks_another_authorization_server_than_the_first(world: World, now: datetime) -> None:
    world.mcp_server.issuers = ["https://old.example", "https://as.example"]
    world.server(issuer="https://as.example")

    assert found_by(world, now=now).issuer == "https://as.example"
    assert not world.internet.calls_to("old.example")


def test_what_was_found_is_believed_for_its_time_and_no_longer(world: World, now: datetime) -> None:
    found_by(world, now=now)
    asked = len(world.internet.calls)

    found_by(world, now=now + timedelta(minutes=1439))
    assert len(world.internet.calls) == asked
    found_by(world, now=now + timedelta(minutes=1441))
    assert len(world.internet.calls) == 2 * asked


def test_a_reported_challenge_goes_around_the_cache(world: World, now: datetime) -> None:
    found_by(world, now=now)
    world.internet.calls.clear()

    found_by(world, now=now, challenge=BearerChallenge(resource_metadata=world.mcp_server.where, scope="files"))

    assert paths(world)[0] == world.mcp_server.where
    assert ServerDiscovery.objects.get().challenge_scope == "files"


def test_a_failure_is_believed_for_a_minute(world: World, now: datetime) -> None:
    world.mcp_server.metadata_answer = Answer(body={"resource": world.mcp_server.url})
    with pytest.raises(DiscoveryError):
        found_by(world, now=now)
    world.mcp_server.metadata_answer = None
    asked = len(world.internet.calls)

    with pytest.raises(DiscoveryError, match="a moment ago"):
        found_by(world, now=now + timedelta(seconds=59))
    assert len(world.internet.calls) == asked
    assert found_by(world, now=now + timedelta(seconds=61)).issuer == "https://as.example"
    assert ServerDiscovery.objects.get().failure_code == ""


def test_a_failure_leaves_what_was_found_before(world: World, now: datetime) -> None:
    found_by(world, now=now)
    world.authorization_server.metadata_answer = Answer(404)

    with pytest.raises(DiscoveryError):
        found_by(world, now=now, fresh=True)

    assert found_by(world, now=now).issuer == "https://as.example"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_down_is_not_a_server_without_metadata(world: World, now: datetime, status: int) -> None:
    world.mcp_server.metadata_answer = Answer(status, "", {"Retry-After": "7"})

    with pytest.raises(ServerUnavailableError) as caught:
        found_by(world, now=now)
    assert caught.value.retry_after == 7
    assert not ServerDiscovery.objects.exists()


def test_a_server_of_2025_03_26_is_its_own_authorization_server(world: World, now: datetime) -> None:
    world.mcp_server.publishes_metadata = False

    found = found_by(world, now=now)

    assert found.is_legacy
    assert found.metadata.token_endpoint == "https://mcp.example/token"
    assert found_by(world, now=now).metadata.registration_endpoint == "https://mcp.example/register"


@requirement("D-00")
def test_a_server_without_metadata_that_asks_for_no_sign_in_is_not_guessed_about(world: World, now: datetime) -> None:
    world.mcp_server.publishes_metadata, world.mcp_server.protected = False, False

    with pytest.raises(DiscoveryError, match="does not ask to sign in"):
        found_by(world, now=now)


@requirement("D-14")
@pytest.mark.parametrize("resource", ["https://other.example/mcp", "https://mcp.example/other", "http://mcp.example"])
def test_metadata_of_another_resource_stops_before_the_authorization_server(
    world: World, now: datetime, resource: str
) -> None:
    world.mcp_server.resource = resource

    with pytest.raises(ResourceMismatchError):
        found_by(world, now=now)
    assert not world.internet.calls_to("as.example")


@requirement("D-12", "A-14")
@pytest.mark.parametrize(
    "published",
    ["https://as.example/", "https://AS.example", "https://as.example:443", "https://evil.example", "https://as.example/t"],
)  # fmt: skip
def test_metadata_of_another_issuer_is_not_used(world: World, now: datetime, published: str) -> None:
    world.authorization_server.published_issuer = published

    with pytest.raises(IssuerMismatchError):
        found_by(world, now=now)
    assert not AuthorizationServer.objects.exists()


def test_a_second_spelling_at_the_same_origin_is_accepted_where_an_administrator_says_so(
    world: World, now: datetime
) -> None:
    world.authorization_server.published_issuer = "https://as.example/"
    world.server(accepted_issuer="https://as.example/")

    assert found_by(world, now=now).issuer == "https://as.example/"


def test_a_second_spelling_elsewhere_needs_an_issuer_that_an_administrator_entered(world: World, now: datetime) -> None:
    # The MCP server names whom it likes; whoever that is could claim to be the provider of the profile.
    world.authorization_server.published_issuer = "https://accounts.google.com"
    server = world.server(profile="google")

    with pytest.raises(IssuerMismatchError):
        found_by(world, now=now)
    server.issuer = "https://as.example"
    server.save()
    assert found_by(world, now=now, fresh=True).issuer == "https://accounts.google.com"


@requirement("A-04")
def test_a_server_that_does_not_promise_s256_is_refused_unless_somebody_vouches(world: World, now: datetime) -> None:
    world.authorization_server.advertises_pkce = False
    with pytest.raises(PkceNotSupportedError):
        found_by(world, now=now)

    server = world.server()
    server.assume_pkce = True
    server.save()
    assert found_by(world, now=now, fresh=True).issuer == "https://as.example"
    server.assume_pkce = False
    server.save()
    with pytest.raises(PkceNotSupportedError):
        found_by(world, now=now)


@requirement("A-04")
def test_plain_pkce_is_refused_whoever_vouches(world: World, now: datetime) -> None:
    world.authorization_server.metadata_overrides = {"code_challenge_methods_supported": ["plain"]}
    world.server(assume_pkce=True)

    with pytest.raises(PkceNotSupportedError):
        found_by(world, now=now)


# U07, U06: an endpoint must neither speak in our name nor be anything but a web address.
@requirement("A-21")
@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("authorization_endpoint", "https://as.example/authorize?redirect_uri=https://evil.example"),
        ("authorization_endpoint", "https://as.example/authorize?x=1&state=known"),
        ("token_endpoint", "https://as.example/token?grant_type=password"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", "data:text/html,x"),
        ("authorization_endpoint", "file:///etc/passwd"),
        ("authorization_endpoint", "http://as.example/authorize"),
        ("token_endpoint", "http://as.example/token"),
    ],
)
def test_an_endpoint_that_cannot_be_meant_stops_discovery(
    world: World, now: datetime, name: str, endpoint: str
) -> None:
    world.authorization_server.metadata_overrides = {name: endpoint}

    with pytest.raises(DiscoveryError) as caught:
        found_by(world, now=now)
    assert caught.value.code == Code.METADATA_DISCOVERY_FAILED


@requirement("U-01", "U-04")
@pytest.mark.parametrize("issuer", ["https://127.0.0.1", "https://169.254.169.254", "https://2130706433"])
def test_an_issuer_inside_our_network_is_not_contacted(world: World, now: datetime, issuer: str) -> None:
    world.mcp_server.issuers = [issuer]

    with pytest.raises(FlowError) as caught:
        found_by(world, now=now)
    assert isinstance(caught.value, BlockedUrlError | DiscoveryError)
    assert [call.url for call in world.internet.calls if "mcp.example" not in call.url] == []


@pytest.mark.parametrize(
    "document", ["<html>", b"\xff", "[]", '{"resource": NaN}', '{"resource": "a", "resource": "b"}', "{" * 50]
)
def test_a_document_that_makes_no_sense_is_an_answer_that_makes_no_sense(
    world: World, now: datetime, document: str | bytes
) -> None:
    world.mcp_server.metadata_answer = Answer(200, document, {"Content-Type": "application/json"})

    with pytest.raises(FlowError) as caught:
        found_by(world, now=now)
    assert caught.value.code == Code.UPSTREAM_INVALID_RESPONSE


def test_endpoints_entered_by_hand_need_no_request(world: World, now: datetime) -> None:
    world.server(
        issuer="https://as.example",
        authorization_endpoint="https://as.example/authorize",
        token_endpoint="https://as.example/token",
    )

    assert found_by(world, now=now).metadata.token_endpoint == "https://as.example/token"
    assert world.internet.calls == []


def test_servers_of_one_issuer_share_its_metadata_and_nothing_else(world: World, now: datetime) -> None:
    found_by(world, now=now)
    discover(world.server("drive"), http=Egress(), now=now)

    assert AuthorizationServer.objects.count() == 1
    assert ServerDiscovery.objects.count() == 2


def test_an_issuer_with_a_path_is_asked_at_its_three_addresses(world: World, now: datetime) -> None:
    world.mcp_server.issuers = ["https://tenants.example/one"]
    tenant = FakeAuthorizationServer(issuer="https://tenants.example/one")
    world.internet["https://tenants.example"] = tenant

    assert found_by(world, now=now).issuer == "https://tenants.example/one"
    assert paths(world)[-1] == "https://tenants.example/.well-known/oauth-authorization-server/one"


def test_an_address_longer_than_anybody_needs_stops_discovery(world: World, now: datetime) -> None:
    world.authorization_server.metadata_overrides = {"token_endpoint": f"https://as.example/{'t' * 1000}"}

    with pytest.raises(DiscoveryError, match="longer than 1000"):
        found_by(world, now=now)
