"""Callers with tokens of this site: where the token stands, whom it is for, and what it may do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone

from authserver.flows.end_tokens import end_families
from authserver.models import ServiceAccount, TokenFamily
from authserver.revoked import REVOKED
from connections.api_tokens import issue_api_token, revoke_api_token
from connections.models import ApiToken, McpServer
from gateway.callers.bearer import refuse_token_in_query
from gateway.endpoint.challenges import (
    ChallengeError,
    InsufficientScopeError,
    InvalidRequestError,
    InvalidTokenError,
    NoTokenError,
)
from gateway.models import InboundTrust
from tests.authserver.grants import make_client, make_consent, make_family, mint, notes, nothing_remembered
from tests.requirements import requirement

from .calling import bearer, caller_of, identified, in_loop, is_still_good, nothing_known, said, until

__all__ = ["notes", "nothing_known", "nothing_remembered"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def family(alice: User, notes: McpServer) -> TokenFamily:
    return make_family(make_consent(alice, make_client()))


@requirement("G-03", "T-03", "T-04")
def test_a_token_of_ours_for_this_server_says_who_calls_through_what(family: TokenFamily, alice: User) -> None:
    caller = bearer(mint(family))
    assert (caller.user_id, caller.client_id, caller.scopes) == (alice.pk, "program", {"mcp:access"})
    assert caller.subject == family.subject
    assert caller.expires_at == pytest.approx(timezone.now().timestamp() + 900, abs=5)
    assert is_still_good(caller)


UNREADABLE: list[tuple[list[str], type[ChallengeError]]] = [
    ([], NoTokenError),
    (["Basic YTpi"], NoTokenError),
    (["DPoP eyJ.eyJ.AAA"], NoTokenError),
    (["Bearer"], InvalidRequestError),
    (["Bearer "], InvalidRequestError),
    (["Bearer a b"], InvalidRequestError),
    (["Bearer  a"], InvalidRequestError),
    (["Bearer a,b"], InvalidRequestError),
    (["Bearer a", "Bearer a"], InvalidRequestError),
    (["Bearer a", "Basic b"], InvalidRequestError),
    (["Bearer \u00e4"], InvalidRequestError),
    (["Bearer a=b"], InvalidRequestError),
    (["Bearer " + "a" * 16_385], InvalidRequestError),
    (["bearer nonsense"], InvalidTokenError),
]


@requirement("T-07")
def test_where_no_token_can_be_read_the_refusal_says_why(notes: McpServer) -> None:
    for authorization, error in UNREADABLE:
        with pytest.raises(ChallengeError) as refused:
            caller_of(*authorization)
        assert type(refused.value) is error, authorization
        assert refused.value.scopes == {"mcp:access"}


def test_the_scheme_is_read_in_any_case(family: TokenFamily) -> None:
    assert caller_of(f"bEARER {mint(family)}").client_id == "program"


@requirement("T-01")
@pytest.mark.parametrize("query", [b"access_token=x", b"a=b&access_token=", b"access%5Ftoken=x"])
def test_a_token_in_the_address_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        refuse_token_in_query(query)
    refuse_token_in_query(b"")
    refuse_token_in_query(b"token=x&my_access_token=y")


@requirement("T-04", "AS11")
@pytest.mark.parametrize("slug", ["note", "notesb"])
def test_a_token_for_a_server_whose_address_begins_alike_is_refused(family: TokenFamily, slug: str) -> None:
    McpServer.objects.create(name="Other", slug=slug, url="https://o.example/mcp", gateway_enabled=True)
    with pytest.raises(InvalidTokenError):
        bearer(mint(family), slug=slug)


@requirement("S-05", "S-06")
def test_a_token_without_the_scope_is_told_which_one_it_needs(family: TokenFamily) -> None:
    with pytest.raises(InsufficientScopeError) as refused:
        bearer(mint(family, scope="notes:read"))
    assert said(refused) == (403, "insufficient_scope")
    assert refused.value.scopes == {"mcp:access"}


def test_a_service_account_calls_as_the_person_it_acts_for_and_without_one_not_at_all(
    family: TokenFamily, bob: User
) -> None:
    account = ServiceAccount.objects.create(client=family.client, user=bob, resources=[family.resource])
    assert bearer(mint(family, subject="program")).user_id == bob.pk
    account.user = None
    account.save()
    with pytest.raises(InvalidTokenError):
        bearer(mint(family, subject="program"))


# ---- Open streams


def _revoked(family: TokenFamily) -> None:
    end_families(TokenFamily.objects.filter(pk=family.pk), reason="test", now=timezone.now())


def _deactivated(family: TokenFamily) -> None:
    User.objects.filter(pk=family.user_id).update(is_active=False)


def _switched_off(family: TokenFamily) -> None:
    McpServer.objects.filter(slug="notes").update(gateway_enabled=False)


def _closed_to_them(family: TokenFamily) -> None:
    McpServer.objects.get(slug="notes").groups.add(Group.objects.create(name="others"))


def _given_to_another_issuer(family: TokenFamily) -> None:
    server = McpServer.objects.get(slug="notes")
    InboundTrust.objects.create(server=server, kind="issuer", issuer="https://issuer.example", algorithms=["ES256"])


@requirement("G-24", "G14")
@pytest.mark.parametrize(
    "change", [_revoked, _deactivated, _switched_off, _closed_to_them, _given_to_another_issuer]
)  # fmt: skip
def test_an_open_stream_notices_that_its_caller_may_not_go_on(
    family: TokenFamily, change: Callable[[TokenFamily], None]
) -> None:
    caller = bearer(mint(family))
    assert is_still_good(caller)
    change(family)
    REVOKED._checked_at = float("-inf")  # half a second later
    assert not is_still_good(caller)


# ---- Personal API tokens


@pytest.fixture
def with_api_tokens(notes: McpServer) -> InboundTrust:
    return InboundTrust.objects.create(server=notes, allow_api_tokens=True)


def _api_token(user: User, *, scopes: tuple[str, ...] = ("tools:call",), **changes: Any) -> tuple[str, ApiToken]:
    issued = issue_api_token(user, scopes=scopes, name="script", now=timezone.now(), **changes)
    return issued.token.reveal(), issued.row


def test_an_api_token_is_taken_where_the_server_allows_it(
    with_api_tokens: InboundTrust, family: TokenFamily, bob: User
) -> None:
    token, row = _api_token(bob, lifetime=timedelta(hours=1))
    caller = bearer(token)
    assert (caller.user_id, caller.client_id, caller.subject) == (bob.pk, "script", f"api-token:{row.pk}")
    assert caller.expires_at == pytest.approx(timezone.now().timestamp() + 3600, abs=5)
    assert bearer(_api_token(bob)[0]).expires_at is None
    assert bearer(mint(family)).client_id == "program"
    until(lambda: ApiToken.objects.get(pk=row.pk).last_used_at is not None)


def test_an_api_token_is_refused_where_nobody_allowed_it(notes: McpServer, bob: User) -> None:
    token, _ = _api_token(bob)
    with pytest.raises(InvalidTokenError):
        bearer(token)
    InboundTrust.objects.create(server=notes, allow_api_tokens=False)
    with pytest.raises(InvalidTokenError):
        bearer(token)


def test_an_api_token_needs_the_scope_for_tools(with_api_tokens: InboundTrust, bob: User) -> None:
    token, row = _api_token(bob, scopes=("servers:read", "connections:read", "tokens:release"))
    with pytest.raises(InsufficientScopeError) as refused:
        bearer(token)
    assert refused.value.scopes == {"tools:call"}
    for scopes in ([], {}, "tools:call"):  # Z02: an empty or a wrong list is no list of everything
        ApiToken.objects.filter(pk=row.pk).update(scopes=scopes)
        with pytest.raises(InsufficientScopeError):
            bearer(token)


@pytest.mark.parametrize("change", ["revoked", "expired", "deactivated", "switched off"])
def test_an_api_token_that_is_not_good_any_more_is_noticed_by_the_next_call_and_by_streams(
    with_api_tokens: InboundTrust, bob: User, change: str
) -> None:
    token, row = _api_token(bob)
    caller = bearer(token)
    assert is_still_good(caller)
    if change == "revoked":
        revoke_api_token(row, now=timezone.now())
    elif change == "expired":
        ApiToken.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    elif change == "deactivated":
        User.objects.filter(pk=bob.pk).update(is_active=False)
    else:
        with_api_tokens.allow_api_tokens = False
        with_api_tokens.save()
    assert not is_still_good(caller)
    with pytest.raises(InvalidTokenError):
        bearer(token)


@requirement("G-24")
def test_an_answer_may_outlive_an_api_token_and_nothing_else_may(
    with_api_tokens: InboundTrust, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, row = _api_token(bob, lifetime=timedelta(hours=1))
    caller, at, ran = bearer(token), time.time(), time.time
    monkeypatch.setattr(time, "time", lambda: ran() + 3601)
    assert not is_still_good(caller)
    assert is_still_good(caller, at=at)
    revoke_api_token(row, now=timezone.now())
    assert not is_still_good(caller, at=at)


@requirement("G-24")
def test_an_api_token_that_has_expired_is_refused_beside_an_answer_that_outlives_it(
    with_api_tokens: InboundTrust, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask the database for the same, each as of another moment."""
    token, _ = _api_token(bob, lifetime=timedelta(hours=1))
    caller, at, ran = bearer(token), time.time(), time.time
    monkeypatch.setattr(time, "time", lambda: ran() + 3601)

    async def both() -> list[object]:
        with suppress(InvalidTokenError):
            await identified(f"Bearer {token}")  # what this process has to look up once is known now
        answer, call = caller.is_still_good(at), identified(f"Bearer {token}")
        return [*await asyncio.gather(answer, call, return_exceptions=True), await caller.is_still_good(at)]

    is_good, refused, is_still = in_loop(both)
    assert (is_good, type(refused), is_still) == (True, InvalidTokenError, True)


def test_what_is_asked_for_in_sql_is_what_the_models_say(with_api_tokens: InboundTrust, bob: User) -> None:
    """The right to a server in SQL and in `usable_by` are the same; see also the tests of `OPEN_TO_USER`."""
    token, _ = _api_token(bob)
    caller = bearer(token)
    server = with_api_tokens.server
    for open_to in ([], ["readers"]):
        server.groups.set([Group.objects.get_or_create(name=name)[0] for name in open_to])
        for groups in ([], ["readers"]):
            bob.groups.set([Group.objects.get_or_create(name=name)[0] for name in groups])
            assert is_still_good(caller) == McpServer.objects.usable_by(bob).filter(pk=server.pk).exists()
