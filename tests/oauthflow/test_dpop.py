"""Tokens that are bound to a key: from the authorization request to the renewal. RFC 9449."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from django.contrib.auth.models import User

from connections.database_time import offset
from connections.dpop_keys import dpop_key
from connections.models import Connection, McpServer, TokenSet
from oauthflow.egress import proofs
from oauthflow.egress.bound_token import BoundToken, ProvingTransport
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.connect_unattended import connect_unattended
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.flows.request_headers import prepare_request
from oauthflow.flows.start_authorization import bind_browser, start_authorization
from oauthflow.protocol.errors import DiscoveryError, MalformedResponseError, SecretUnreadableError
from oauthflow.protocol.retry_after import ServerUnavailableError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.signing_key import SigningKey
from tests.fakes.internet import Answer, Call
from tests.fakes.proofs import read_proof
from tests.fakes.world import World
from tests.faults import fault


@pytest.fixture(autouse=True)
def _no_nonce_is_known() -> Iterator[None]:
    proofs.forget_nonces()
    yield
    proofs.forget_nonces()


@pytest.fixture
def bound(world: World) -> World:
    """A server that asks for bound tokens, and an authorization server that gives them."""
    world.mcp_server.scheme = "DPoP"
    world.authorization_server.binds_tokens = True
    world.authorization_server.dpop_algorithms = ["ES256"]
    return world


def key_of(connection: Connection) -> SigningKey:
    return dpop_key(Connection.objects.get(pk=connection.pk))


def test_a_server_that_asks_gets_a_token_bound_to_a_key_of_the_connection(
    bound: World, alice: User, now: datetime
) -> None:
    connection = bound.connect(alice, now=now)
    token_set = TokenSet.objects.get(connection=connection)
    assert token_set.token_type == "DPoP"
    assert [proof.jkt for proof in bound.authorization_server.proofs] == [key_of(connection).thumbprint]


def test_the_code_is_bound_to_the_same_key(bound: World, alice: User, now: datetime) -> None:
    connection = bound.connect(alice, now=now)
    asked = bound.authorization_server.authorization_requests[-1]
    assert asked["dpop_jkt"] == key_of(connection).thumbprint


@fault("F19")
def test_a_proof_is_dated_by_the_databases_clock(
    bound: World, alice: User, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound.connect(alice, now=now)
    monkeypatch.setattr(offset, "value", timedelta(minutes=5))
    assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 1, "failed": 0}
    ahead = bound.authorization_server.proofs[-1].claims["iat"] - time.time()
    assert ahead == pytest.approx(300, abs=60)


def test_each_connection_has_a_key_of_its_own_that_stays(bound: World, alice: User, bob: User, now: datetime) -> None:
    one, two = bound.connect(alice, now=now), bound.connect(bob, now=now)
    first = key_of(one)
    assert first != key_of(two)
    bound.connect(alice, now=now)
    assert key_of(one) == first


def test_the_key_is_sealed_and_opens_for_its_own_connection_only(
    bound: World, alice: User, bob: User, now: datetime
) -> None:
    one, two = bound.connect(alice, now=now), bound.connect(bob, now=now)
    kept = dict(Connection.objects.values_list("pk", "dpop_key_sealed"))
    assert key_of(one).jwk["d"] not in str(kept[one.pk])
    Connection.objects.filter(pk=two.pk).update(dpop_key_sealed=kept[one.pk])
    with pytest.raises(SecretUnreadableError):
        key_of(two)


def test_a_server_that_does_not_ask_gets_no_proof(world: World, alice: User, now: datetime) -> None:
    world.authorization_server.dpop_algorithms = ["ES256"]
    world.authorization_server.binds_tokens = True
    connection = world.connect(alice, now=now)
    assert world.authorization_server.proofs == []
    assert "dpop_jkt" not in world.authorization_server.authorization_requests[-1]
    assert not Connection.objects.get(pk=connection.pk).dpop_key_sealed


def test_metadata_can_ask_as_well(bound: World, alice: User, now: datetime) -> None:
    bound.mcp_server.scheme = "Bearer"
    bound.mcp_server.metadata_overrides = {"dpop_bound_access_tokens_required": True}
    bound.connect(alice, now=now)
    assert len(bound.authorization_server.proofs) == 1


def test_an_administrator_can_ask_or_forbid(bound: World, alice: User, now: datetime) -> None:
    bound.server(dpop_bound_access_tokens="never")
    bound.connect(alice, now=now)
    assert bound.authorization_server.proofs == []
    McpServer.objects.update(dpop_bound_access_tokens="always")
    bound.connect(alice, now=now)
    assert len(bound.authorization_server.proofs) == 1


def test_a_plain_token_is_taken_where_the_binding_is_only_offered(bound: World, alice: User, now: datetime) -> None:
    bound.authorization_server.binds_tokens = False
    connection = bound.connect(alice, now=now)
    assert TokenSet.objects.get(connection=connection).token_type == "Bearer"


@pytest.mark.parametrize("in_background", [True, False])
def test_a_refresh_token_that_alone_is_bound_is_presented_with_its_key(
    bound: World, alice: User, now: datetime, in_background: bool
) -> None:
    """RFC 9449 §5: a service may give a public client a plain access token, and bind what it renews itself with."""
    bound.authorization_server.binds_tokens = False
    connection = bound.connect(alice, now=now)
    for hours in (1, 2):
        if in_background:
            assert refresh_due(now=now + timedelta(hours=hours)) == {"refreshed": 1, "failed": 0}
        else:
            refresh_connection(connection, now=now + timedelta(hours=hours), trigger="use")
    assert {proof.jkt for proof in bound.authorization_server.proofs} == {key_of(connection).thumbprint}
    assert len(bound.authorization_server.proofs) == 3
    assert usable_access_token(connection, now=now + timedelta(hours=2)).token_type == "Bearer"


def test_a_plain_token_is_refused_where_binding_is_demanded(bound: World, alice: User, now: datetime) -> None:
    bound.server(dpop_bound_access_tokens="always")
    bound.authorization_server.binds_tokens = False
    with pytest.raises(MalformedResponseError):
        bound.connect(alice, now=now)
    assert not TokenSet.objects.exists()


def test_a_bound_token_that_nobody_asked_for_is_refused(world: World, alice: User, now: datetime) -> None:
    world.authorization_server.token_overrides = {"token_type": "DPoP"}
    with pytest.raises(MalformedResponseError):
        world.connect(alice, now=now)


def test_a_service_that_takes_none_of_our_proofs_is_refused_before_anybody_is_sent_there(
    bound: World, alice: User, now: datetime
) -> None:
    bound.authorization_server.dpop_algorithms = ["RS256"]
    with pytest.raises(DiscoveryError, match="ES256"):
        start_authorization(bound.connection(alice), user=alice, now=now)


def test_the_token_endpoints_nonce_is_used_at_once_and_the_next_time(bound: World, alice: User, now: datetime) -> None:
    bound.authorization_server.dpop_nonce = "nonce-1"
    connection = bound.connect(alice, now=now)
    refresh_connection(connection, now=now, trigger="request")
    nonces = [proof.claims.get("nonce") for proof in bound.authorization_server.proofs]
    assert nonces == [None, "nonce-1", "nonce-1"]
    assert len({proof.claims["jti"] for proof in bound.authorization_server.proofs}) == 3
    assert len(bound.authorization_server.refresh_requests) == 1


def test_a_nonce_that_is_never_good_enough_costs_two_requests_and_no_grant(
    bound: World, alice: User, now: datetime
) -> None:
    connection = bound.connect(alice, now=now)
    bound.authorization_server.refresh_answer = Answer(400, {"error": "use_dpop_nonce"}, {"DPoP-Nonce": "n"})
    with pytest.raises(ServerUnavailableError):
        refresh_connection(connection, now=now, trigger="request")
    assert len(bound.authorization_server.refresh_requests) == 2
    connection.refresh_from_db()
    assert connection.status == "degraded"


def test_renewal_proves_the_same_key_in_the_background(bound: World, alice: User, now: datetime) -> None:
    bound.authorization_server.dpop_nonce = "nonce-1"
    connection = bound.connect(alice, now=now)
    bound.authorization_server.dpop_nonce = "nonce-2"
    assert refresh_due(now=now + timedelta(minutes=50)) == {"refreshed": 1, "failed": 0}
    assert {proof.jkt for proof in bound.authorization_server.proofs} == {key_of(connection).thumbprint}
    assert bound.authorization_server.proofs[-1].claims["nonce"] == "nonce-2"
    assert TokenSet.objects.get(connection=connection).token_type == "DPoP"


def test_a_code_is_redeemed_with_the_key_it_was_asked_for_with(bound: World, alice: User, now: datetime) -> None:
    connection = bound.connection(alice)
    started = start_authorization(connection, user=alice, now=now)
    browser = bind_browser(started.request, user=alice, now=now)
    McpServer.objects.update(dpop_bound_access_tokens="never")
    back = dict(parse_qsl(urlsplit(bound.authorization_server.authorize(browser.redirect_url)).query))
    cookies = {browser.cookie_name: browser.cookie_value.reveal()}
    complete_authorization(params=back, user=alice, cookies=cookies, now=now)
    assert len(bound.authorization_server.proofs) == 1


def test_client_credentials_are_bound_too(bound: World, alice: User, now: datetime) -> None:
    bound.authorization_server.grant_types = ["client_credentials"]
    bound.authorization_server.dpop_nonce = "nonce-1"
    bound.server(grant_type="client_credentials", client_id="robot", client_secret_sealed=Secret("s"))
    connection = bound.connection(alice)
    assert usable_access_token(connection, now=now).token_type == "DPoP"
    assert len(bound.authorization_server.unattended_requests) == 1
    assert [proof.claims.get("nonce") for proof in bound.authorization_server.proofs] == [None, "nonce-1"]


@pytest.mark.parametrize(("before", "after"), [("Bearer", "DPoP"), ("DPoP", "Bearer")])
def test_a_token_of_a_grant_without_a_person_keeps_its_scheme_until_there_is_one_of_the_new_type(
    bound: World, alice: User, now: datetime, before: str, after: str
) -> None:
    choice = {"Bearer": "never", "DPoP": "always"}
    bound.authorization_server.grant_types = ["client_credentials"]
    bound.authorization_server.binds_tokens = before == "DPoP"
    secret = Secret("s")
    server = bound.server(
        grant_type="client_credentials", client_id="robot", client_secret_sealed=secret,
        dpop_bound_access_tokens=choice[before],
    )  # fmt: skip
    connection = bound.connection(alice)
    given = usable_access_token(connection, now=now)
    assert given.token_type == before

    McpServer.objects.filter(pk=server.pk).update(dpop_bound_access_tokens=choice[after])
    bound.authorization_server.unattended_answer = Answer(503)
    connection = Connection.objects.get(pk=connection.pk)
    with pytest.raises(ServerUnavailableError):
        connect_unattended(connection, actor=alice, now=now)
    still = usable_access_token(connection, now=now)
    assert (still.token_type, still.access_token) == (before, given.access_token)

    bound.authorization_server.unattended_answer = None
    bound.authorization_server.binds_tokens = after == "DPoP"
    assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 1, "failed": 0}
    assert usable_access_token(connection, now=now + timedelta(hours=1)).token_type == after


def test_calls_to_the_server_carry_the_scheme_and_the_key(bound: World, alice: User, now: datetime) -> None:
    connection = bound.connect(alice, now=now)
    prepared = prepare_request(connection, now=now)
    assert prepared.headers["Authorization"].reveal().startswith("DPoP at-")
    assert prepared.dpop is not None
    assert prepared.dpop.key == key_of(connection)


class Resource(httpx2.AsyncBaseTransport):
    """A protected resource that wants a nonce, and remembers the calls it got."""

    def __init__(self, *, nonce: str = "") -> None:
        self.nonce, self.calls = nonce, list[Call]()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = (await request.aread()).decode()
        call = Call(request.method, str(request.url), httpx2.Headers(request.headers), body)
        self.calls.append(call)
        if self.nonce and read_proof(call).claims.get("nonce") != self.nonce:
            challenge = {"WWW-Authenticate": 'DPoP error="use_dpop_nonce"', "DPoP-Nonce": self.nonce}
            return httpx2.Response(401, headers=challenge, json={"error": "use_dpop_nonce"})
        return httpx2.Response(200, json={})


async def sent(resource: Resource, *paths: str) -> list[httpx2.Response]:
    token = BoundToken(Secret("at-1"), SigningKey.new())
    headers = {"Authorization": "DPoP at-1"}
    async with httpx2.AsyncClient(transport=ProvingTransport(resource, token), headers=headers) as client:
        return [await client.post(f"https://mcp.example{path}", json={"n": 1}) for path in paths]


async def test_every_call_has_a_fresh_proof_for_its_own_address() -> None:
    resource = Resource()
    await sent(resource, "/mcp?x=1", "/mcp", "/other")
    found = [read_proof(call) for call in resource.calls]
    assert [proof.claims["htu"] for proof in found] == [
        "https://mcp.example/mcp", "https://mcp.example/mcp", "https://mcp.example/other",
    ]  # fmt: skip
    assert len({proof.claims["jti"] for proof in found}) == 3


async def test_a_call_is_sent_again_with_the_resources_nonce_and_its_body() -> None:
    resource = Resource(nonce="rs-1")
    answers = await sent(resource, "/mcp", "/mcp")
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [read_proof(call).claims.get("nonce") for call in resource.calls] == [None, "rs-1", "rs-1"]
    assert {call.body for call in resource.calls} == {'{"n":1}'}


async def test_another_401_is_not_sent_again() -> None:
    class Refusing(Resource):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            await super().handle_async_request(request)
            return httpx2.Response(401, headers={"WWW-Authenticate": 'DPoP error="invalid_token"', "DPoP-Nonce": "n"})

    resource = Refusing()
    (answer,) = await sent(resource, "/mcp")
    assert answer.status_code == 401
    assert len(resource.calls) == 1
