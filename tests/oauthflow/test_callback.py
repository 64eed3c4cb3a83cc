"""The way back from the authorization server: what is checked before anything leaves. Security notes S01 to S11."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, User
from hypothesis import given
from hypothesis import strategies as st

from audit.models import AuditRecord
from connections.models import ClientRegistration, Connection, TokenSet
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.complete_authorization import complete_authorization, parse_pasted
from oauthflow.flows.revocation_outbox import revoke_due
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    AuthorizationDeniedError,
    FlowError,
    GrantRefusedError,
    InvalidRequestError,
    IssuerMismatchError,
    StateError,
)
from oauthflow.protocol.retry_after import ServerUnavailableError
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.internet import Answer
from tests.fakes.mcp_server import FakeMcpServer
from tests.fakes.world import World
from tests.requirements import requirement


@pytest.fixture
def back(world: World, alice: User, now: datetime) -> tuple[dict[str, str], dict[str, str]]:
    """Parameters and cookies with which Alice's browser comes back."""
    return world.come_back(world.connection(alice), user=alice, now=now)


Back = tuple[dict[str, str], dict[str, str]]


def refused(params: dict[str, str], user: object, cookies: dict[str, str] | None, now: datetime) -> Code:
    with pytest.raises(StateError) as caught:
        complete_authorization(params=params, user=user, cookies=cookies, now=now)
    return caught.value.code


@requirement("A-09", "A-10", "E-07")
def test_tokens_are_stored_under_the_terms_that_were_pinned(
    world: World, back: Back, alice: User, now: datetime
) -> None:
    params, cookies = back
    finished = complete_authorization(params=params, user=alice, cookies=cookies, now=now)

    tokens = TokenSet.objects.get()
    assert finished.status == "completed"
    assert not finished.state_sealed
    assert not finished.code_verifier_sealed
    assert (tokens.issuer, tokens.token_endpoint) == ("https://as.example", "https://as.example/token")
    assert (tokens.resource, tokens.generation) == (world.mcp_server.url, 1)
    assert finished.connection.status == "active"


# S01
@requirement("E-07", "H-02", "A-09")
@pytest.mark.parametrize("who", ["another person", "nobody", "another browser", "no cookies at all"])
def test_whoever_did_not_start_it_burns_the_request_and_stores_nothing(
    world: World, back: Back, alice: User, bob: User, now: datetime, who: str
) -> None:
    params, cookies = back
    brought = {
        "another person": (bob, cookies),
        "nobody": (AnonymousUser(), cookies),
        "another browser": (alice, dict.fromkeys(cookies, "x" * 43)),
        "no cookies at all": (alice, {}),
    }

    assert refused(params, *brought[who], now) == Code.FLOW_SESSION_MISMATCH
    assert world.authorization_server.token_requests == []
    assert not TokenSet.objects.exists()
    kept = AuthorizationRequest.objects.get()
    assert (kept.status, kept.error_code) == ("failed", "flow_session_mismatch")
    assert AuditRecord.objects.filter(event="callback.rejected").count() == 1
    assert refused(params, alice, cookies, now) == Code.STATE_USED


# S01
def test_a_request_of_a_browser_cannot_be_finished_by_hand(
    world: World, back: Back, alice: User, now: datetime
) -> None:
    assert refused(back[0], alice, None, now) == Code.FLOW_SESSION_MISMATCH


def test_a_request_by_hand_is_finished_by_the_same_person_alone(
    world: World, alice: User, bob: User, now: datetime
) -> None:
    params, _ = world.come_back(world.connection(alice), user=alice, now=now, manual=True)
    other, _ = world.come_back(world.connection(alice), user=alice, now=now, manual=True)

    assert complete_authorization(params=params, user=alice, cookies=None, now=now).status == "completed"
    assert refused(other, bob, None, now) == Code.FLOW_SESSION_MISMATCH


# S03
@requirement("A-09")
@pytest.mark.parametrize("state", [None, "", "x", "ß" * 43, "x" * 43, "x" * 513, "\x00" * 43, "None", "null"])
@pytest.mark.parametrize("with_cookie", [True, False])
def test_a_state_that_nobody_sent_is_refused(
    world: World, back: Back, alice: User, now: datetime, state: str | None, with_cookie: bool
) -> None:
    params, cookies = back
    sent = {name: value for name, value in params.items() if name != "state"} | (
        {} if state is None else {"state": state}
    )

    assert refused(sent, alice, cookies if with_cookie else {}, now) == Code.STATE_MISMATCH
    assert world.authorization_server.token_requests == []
    assert AuthorizationRequest.objects.get().status == "pending"


# S04
def test_a_state_is_used_once_and_the_connection_lives_on(world: World, back: Back, alice: User, now: datetime) -> None:
    params, cookies = back
    complete_authorization(params=params, user=alice, cookies=cookies, now=now)

    assert refused(params, alice, cookies, now) == Code.STATE_USED
    assert len(world.authorization_server.token_requests) == 1
    assert Connection.objects.get().status == "active"


# S05
def test_a_state_ends_after_ten_minutes(world: World, back: Back, alice: User, now: datetime) -> None:
    assert refused(*(back[0], alice, back[1]), now + timedelta(seconds=600)) == Code.STATE_EXPIRED
    assert world.authorization_server.token_requests == []


# S07
@requirement("A-15")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("access_denied", Code.ACCESS_DENIED),
        ("temporarily_unavailable", Code.TEMPORARILY_UNAVAILABLE),
        ("<script>alert(1)</script>", Code.SERVER_ERROR),
    ],
)
def test_a_refusal_leaves_a_working_connection_alone_and_repeats_nobody_else(
    world: World, alice: User, now: datetime, error: str, code: Code
) -> None:
    connection = world.connect(alice, now=now)
    world.authorization_server.denies_with = error
    params, cookies = world.come_back(connection, user=alice, now=now)

    with pytest.raises(AuthorizationDeniedError) as caught:
        complete_authorization(params=params, user=alice, cookies=cookies, now=now)

    assert caught.value.code == code
    assert "script" not in f"{caught.value} {caught.value.message} {caught.value.detail}"
    assert caught.value.request == AuthorizationRequest.objects.get(status="failed")
    connection.refresh_from_db()
    assert connection.status == "active"
    assert AuditRecord.objects.filter(event="authorization.failed", reason=code).count() == 1


# S09
@requirement("A-13", "A-14", "A-15")
@pytest.mark.parametrize(
    "iss",
    ["https://as.example/", "https://AS.example", "https://as.example:443", "https://as.example%2F",
     "https://as.example/t", "https://evil.example", "null"],
)  # fmt: skip
@pytest.mark.parametrize("error", ["", "access_denied"])
def test_an_answer_of_another_issuer_sends_the_code_to_nobody(
    world: World, alice: User, now: datetime, iss: str, error: str
) -> None:
    world.authorization_server.iss_override, world.authorization_server.denies_with = iss, error
    params, cookies = world.come_back(world.connection(alice), user=alice, now=now)

    with pytest.raises(IssuerMismatchError) as caught:
        complete_authorization(params=params, user=alice, cookies=cookies, now=now)
    assert caught.value.code == Code.ISSUER_MISMATCH
    assert world.authorization_server.token_requests == []
    assert not TokenSet.objects.exists()


@requirement("A-13")
@pytest.mark.parametrize(("promises", "sends", "good"), [(1, 1, 1), (1, 0, 0), (0, 1, 1), (0, 0, 1)])
def test_iss_may_be_missing_only_where_it_was_not_promised(
    world: World, alice: User, now: datetime, promises: int, sends: int, good: int
) -> None:
    world.authorization_server.promises_iss, world.authorization_server.sends_iss = bool(promises), bool(sends)
    params, cookies = world.come_back(world.connection(alice), user=alice, now=now)
    try:
        complete_authorization(params=params, user=alice, cookies=cookies, now=now)
    except IssuerMismatchError:
        assert not good
    assert len(world.authorization_server.token_requests) == good


# S09, S10
@requirement("A-10", "D-15", "A-13")
def test_the_way_back_discovers_nothing_and_asks_the_pinned_endpoint_only(
    world: World, back: Back, alice: User, now: datetime
) -> None:
    other = FakeAuthorizationServer(issuer="https://new.example")
    world.internet["https://new.example"] = other
    world.mcp_server.issuers = ["https://new.example"]
    world.authorization_server.metadata_overrides = {"token_endpoint": "https://new.example/token"}
    world.internet.calls.clear()

    complete_authorization(params=back[0], user=alice, cookies=back[1], now=now)

    assert [call.url for call in world.internet.calls] == ["https://as.example/token"]


# S09, S10, S11
@requirement("A-13")
def test_the_code_of_one_server_does_not_reach_another(world: World, alice: User, now: datetime) -> None:
    other = FakeAuthorizationServer(issuer="https://b.example")
    world.internet["https://b.example"] = other
    second = FakeMcpServer(url="https://drive.example/mcp", issuers=["https://b.example"])
    world.internet["https://drive.example"] = second
    world.server("drive", url="https://drive.example/mcp")
    mine, cookies = world.come_back(world.connection(alice), user=alice, now=now)
    connection = world.connection(alice, slug="drive")
    world.authorization_server, theirs = other, world.authorization_server
    params, more_cookies = world.come_back(connection, user=alice, now=now)

    with pytest.raises(IssuerMismatchError):
        complete_authorization(
            params={**mine, "state": params["state"]}, user=alice, cookies=cookies | more_cookies, now=now
        )
    assert other.token_requests == theirs.token_requests == []


# S11
def test_the_code_of_another_flow_is_worth_nothing(world: World, back: Back, alice: User, now: datetime) -> None:
    injected, _ = world.come_back(world.connection(alice), user=alice, now=now)

    with pytest.raises(GrantRefusedError):
        complete_authorization(params={**back[0], "code": injected["code"]}, user=alice, cookies=back[1], now=now)
    assert not TokenSet.objects.exists()


# F13, U14
@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, "<html>signed in</html>"),
        Answer(200, {"error": "invalid_grant"}),
        Answer(200, {"token_type": "Bearer"}),
        Answer(200, {"access_token": "a\r\nX: y", "token_type": "Bearer"}),
        Answer(200, {"access_token": "x" * 20000, "token_type": "Bearer"}),
        Answer(200, {"access_token": "x", "token_type": "mac"}),
        Answer(302, "", {"Location": "https://evil.example/token"}),
        Answer(204),
    ],
)
def test_an_answer_that_grants_nothing_stores_nothing(
    world: World, back: Back, alice: User, now: datetime, answer: Answer
) -> None:
    world.authorization_server.token_answer = answer

    with pytest.raises(FlowError) as caught:
        complete_authorization(params=back[0], user=alice, cookies=back[1], now=now)
    assert caught.value.code == Code.UPSTREAM_INVALID_RESPONSE
    assert not TokenSet.objects.exists()
    assert AuthorizationRequest.objects.get().error_code == caught.value.code
    assert not AuthorizationRequest.objects.get().code_verifier_sealed
    assert not world.internet.calls_to("evil.example")


# U14
@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [(-5, 0), (10**12, 31_536_000), ("3600", 3600), ("abc", None), (None, None), (True, None), (1.5, None)],
)
def test_a_lifetime_is_kept_only_if_it_makes_sense(
    world: World, alice: User, now: datetime, expires_in: object, seconds: int | None
) -> None:
    world.authorization_server.expires_in = expires_in
    world.connect(alice, now=now)

    assert TokenSet.objects.get().expires_at == (None if seconds is None else now + timedelta(seconds=seconds))


# U14
def test_what_was_granted_is_kept_beside_what_was_asked(world: World, alice: User, now: datetime) -> None:
    world.mcp_server.challenge_scope = "read write"
    world.authorization_server.token_overrides = {"scope": "read"}

    connection = world.connect(alice, now=now)

    assert (connection.requested_scopes, connection.granted_scopes) == ("read write", "read")


def test_a_server_that_is_down_ends_the_request_and_can_be_tried_again(
    world: World, back: Back, alice: User, now: datetime
) -> None:
    world.authorization_server.token_answer = Answer(503)

    with pytest.raises(ServerUnavailableError) as caught:
        complete_authorization(params=back[0], user=alice, cookies=back[1], now=now)
    assert caught.value.retryable
    assert len(world.authorization_server.token_requests) == 1


def test_a_client_that_was_forgotten_meanwhile_is_registered_anew(
    world: World, back: Back, alice: User, now: datetime
) -> None:
    world.authorization_server.forgets_clients = True
    with pytest.raises(FlowError) as caught:
        complete_authorization(params=back[0], user=alice, cookies=back[1], now=now)
    assert caught.value.code == Code.INVALID_CLIENT

    world.authorization_server.forgets_clients = False
    assert world.connect(alice, now=now).status == "active"
    assert ClientRegistration.objects.get(status="active").client_id == "client-2"


def test_a_new_sign_in_replaces_the_tokens_and_never_keeps_an_old_refresh_token(
    world: World, alice: User, now: datetime
) -> None:
    connection = world.connect(alice, now=now)
    first = usable_access_token(connection, now=now)
    world.authorization_server.issues_refresh_token = False
    connection = world.connect(alice, now=now)

    tokens = TokenSet.objects.get()
    assert tokens.generation == 2
    assert not tokens.refresh_token_sealed
    assert usable_access_token(connection, now=now).access_token != first.access_token


def test_a_connection_that_was_deleted_meanwhile_takes_its_tokens_along(
    world: World, back: Back, alice: User, now: datetime
) -> None:
    world.authorization_server.before_token_answer = lambda: Connection.objects.all().delete()

    with pytest.raises(StateError):
        complete_authorization(params=back[0], user=alice, cookies=back[1], now=now)
    assert not TokenSet.objects.exists()
    revoke_due(now=now)
    assert [one["token_type_hint"] for one in world.authorization_server.revocations] == [
        "refresh_token",
        "access_token",
    ]


# S06
@pytest.mark.parametrize(
    "pasted",
    ["", "  ", "two words", "https://site.example/cb", "code=a&code=b", "https://s.example/cb?state=a&state=b&code=c"],
)
def test_nothing_usable_or_something_twice_is_refused_in_what_was_pasted(pasted: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_pasted(pasted)


@pytest.mark.parametrize(
    ("pasted", "params"),
    [
        (" https://s.example/cb?code=a%20b&state=c#frag ", {"code": "a b", "state": "c"}),
        ("?code=a&iss=", {"code": "a", "iss": ""}),
        ("code=a", {"code": "a"}),
        (" a-code ", {"code": "a-code"}),
    ],
)
def test_an_address_a_query_or_a_code_can_be_pasted(pasted: str, params: dict[str, str]) -> None:
    assert parse_pasted(pasted) == params


@given(st.text(max_size=300))
def test_whatever_is_pasted_is_read_or_refused(text: str) -> None:
    try:
        params = parse_pasted(text)
    except InvalidRequestError:
        return
    assert params
    assert all(isinstance(value, str) for value in params.values())


def test_a_person_who_lost_access_meanwhile_gets_no_connection(
    world: World, alice: User, bob: User, now: datetime
) -> None:
    connection = world.connection(alice)
    params, cookies = world.come_back(connection, user=alice, now=now)
    connection.server.users.set([bob])

    with pytest.raises(AuthorizationDeniedError):
        complete_authorization(params=params, user=alice, cookies=cookies, now=now)

    assert world.authorization_server.token_requests == []
    assert AuthorizationRequest.objects.get().status == "failed"
