"""The writes of a connection: who gets which, what a token set remembers, and when the background renews it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User

from audit.models import AuditRecord
from connections import services
from connections.last_use import note_use
from connections.leases import lease_for_refresh
from connections.models import Connection, McpServer, TokenSet
from connections.renewals import read_renewal, seal_renewal, store_renewals
from connections.services import (
    GrantTerms,
    connection_for,
    default_connection,
    fitting_scope,
    record_refresh_failure,
    refresh_due_at,
    require_reauthorization,
    shared_connection,
    store_grant,
)
from oauthflow.protocol.errors import InvalidRequestError
from oauthflow.protocol.secret import Secret
from oauthflow.protocol.token_endpoint import TokenResponse

DRAWN = services.due_spread
TERMS = GrantTerms(
    issuer="https://as.example",
    token_endpoint="https://as.example/token",
    revocation_endpoint="",
    resource="https://mcp.example/mcp",
    client_id="client",
    auth_method="none",
    registration=None,
    registration_method="dynamic",
    requested_scope="read write",
)


@pytest.fixture
def server(db: None) -> McpServer:
    return McpServer.objects.create(name="Notes", slug="notes", url="https://mcp.example/mcp")


def tokens(
    *, now: datetime, seconds: int | None = 3600, refresh: str | None = "rt", scope: str = "read"
) -> TokenResponse:
    expires_at = None if seconds is None else now + timedelta(seconds=seconds)
    return TokenResponse(Secret("at"), "Bearer", expires_at, Secret(refresh) if refresh else None, scope)


@pytest.fixture
def granted(server: McpServer, alice: User, now: datetime) -> TokenSet:
    connection = connection_for(alice, server, actor=alice)
    return store_grant(connection, tokens(now=now), terms=TERMS, actor=alice, now=now)


def test_a_grant_makes_its_connection_active_and_is_recorded_once(granted: TokenSet, alice: User) -> None:
    connection = Connection.objects.get()

    assert (connection.status, connection.granted_scopes, connection.requested_scopes) == (
        "active",
        "read",
        "read write",
    )
    entry = AuditRecord.objects.get()
    assert (entry.event, entry.actor, entry.connection) == (
        "authorization.completed",
        str(alice.pk),
        str(connection.pk),
    )
    assert entry.details["has_refresh_token"] is True


def test_a_second_grant_takes_the_place_of_the_first(granted: TokenSet, alice: User, now: datetime) -> None:
    lease_for_refresh(granted, owner="x", seconds=60)
    again = store_grant(granted.connection, tokens(now=now, refresh=None), terms=TERMS, actor=alice, now=now)

    stored = TokenSet.objects.get()
    assert stored.pk == again.pk == granted.pk
    assert (stored.generation, stored.lease_owner, bool(stored.refresh_token_sealed)) == (2, "", False)


@pytest.mark.parametrize(
    ("owner", "generation", "kept"), [("me", 1, True), ("another", 1, False), ("me", 2, False), ("", 1, False)]
)
def test_refreshed_tokens_are_kept_for_the_holder_of_the_lease_alone(
    granted: TokenSet, now: datetime, owner: str, generation: int, kept: bool
) -> None:
    lease_for_refresh(granted, owner="me", seconds=60)
    TokenSet.objects.update(generation=generation)

    renewal = seal_renewal(
        granted, tokens(now=now, refresh=None), lease_owner=owner, actor=None, trigger="use", now=now
    )

    assert store_renewals([renewal]) == ({granted.pk} if kept else set())
    assert AuditRecord.objects.filter(event="token.refreshed").count() == kept
    if kept:
        assert TokenSet.objects.get().refresh_token_sealed.reveal() == Secret("rt")


WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("ends_after", "refresh", "kept_end", "is_for_good"),
    [
        (timedelta(days=8), "new", timedelta(days=8), False),  # put off by the day that passed
        (WEEK, "new", WEEK, True),
        (WEEK + timedelta(seconds=2), None, WEEK + timedelta(seconds=2), True),
        (None, None, WEEK, True),  # the old token stays good, for as long as it was
        (None, "new", None, False),
    ],
)
def test_a_renewal_shows_whether_the_end_of_the_refresh_token_stays(
    granted: TokenSet, now: datetime, ends_after: timedelta | None, refresh: str | None, kept_end: timedelta | None,
    is_for_good: bool,
) -> None:  # fmt: skip
    first = replace(tokens(now=now), refresh_ends_at=now + WEEK)
    granted = store_grant(granted.connection, first, terms=TERMS, actor=None, now=now)
    assert (granted.refresh_ends_at, granted.renews_until) == (now + WEEK, None)
    later = now + timedelta(days=1)
    answer = replace(
        tokens(now=later, refresh=refresh), refresh_ends_at=None if ends_after is None else now + ends_after
    )
    lease_for_refresh(granted, owner="me", seconds=60)

    renewal = seal_renewal(granted, answer, lease_owner="me", actor=None, trigger="use", now=later)
    assert read_renewal(renewal.as_line()) == renewal
    assert store_renewals([renewal]) == {granted.pk}

    stored, ends_at = TokenSet.objects.get(), None if kept_end is None else now + kept_end
    assert (stored.refresh_ends_at, stored.renews_until) == (ends_at, ends_at if is_for_good else None)
    found = TokenSet.objects.ending_for_good(after=later).values_list("last_end", "last_end_known_since")
    assert list(found) == ([(ends_at, now)] if is_for_good else [])


def test_an_answer_that_was_kept_before_ends_of_refresh_tokens_were_is_read(granted: TokenSet, now: datetime) -> None:
    renewal = seal_renewal(granted, tokens(now=now), lease_owner="", actor=None, trigger="use", now=now)
    said = json.loads(renewal.as_line())
    del said["refresh_ends_at"], said["refresh_end_known_since"]
    assert read_renewal(json.dumps(said)) == renewal


def test_a_failure_gives_the_lease_back_only_to_its_holder(granted: TokenSet, now: datetime) -> None:
    lease_for_refresh(granted, owner="me", seconds=60)
    failure: dict[str, Any] = {"code": "timeout", "next_attempt_at": now, "actor": None}

    record_refresh_failure(granted, lease_owner="another", **failure)
    assert TokenSet.objects.get().refresh_failures == 0
    record_refresh_failure(granted, lease_owner="me", **failure)

    stored = TokenSet.objects.get()
    assert (stored.refresh_failures, stored.lease_owner, stored.lease_expires_at) == (1, "", None)
    assert Connection.objects.get().reason == "timeout"
    # Whoever read the row before that attempt does not try again at once.
    assert not lease_for_refresh(granted, owner="late", seconds=60)


def test_a_failure_does_not_hide_that_a_person_is_needed(granted: TokenSet, now: datetime) -> None:
    require_reauthorization(granted.connection, reason="invalid_grant")
    record_refresh_failure(granted, lease_owner="", code="timeout", next_attempt_at=None, actor=None)

    assert Connection.objects.get().status == "reauth_required"


def test_a_refusal_of_older_tokens_marks_nothing(granted: TokenSet) -> None:
    assert not require_reauthorization(granted.connection, reason="invalid_grant", generation=7)
    assert Connection.objects.get().status == "active"
    assert require_reauthorization(granted.connection, reason="invalid_grant", generation=1)
    assert Connection.objects.get().status == "reauth_required"


@pytest.mark.parametrize(
    ("seconds", "before_end"),
    [(60, 30), (1740, 870), (1800, 900), (3600, 900), (86_400, 21_600), (864_000, 777_600)],
)
def test_the_background_renews_in_time(now: datetime, seconds: int, before_end: int) -> None:
    due = refresh_due_at(tokens(now=now, seconds=seconds), is_renewable=True, now=now)

    assert due == now + timedelta(seconds=seconds - before_end)
    assert refresh_due_at(tokens(now=now, seconds=seconds), is_renewable=False, now=now) is None


@pytest.mark.parametrize(
    ("seconds", "refresh_ends_after", "due_after"),
    [(86_400, 7200, 3600), (3600, 86_400, 2700), (None, 7200, 3600), (600, 60, 30)],
)
def test_the_background_renews_before_the_refresh_token_ends(
    now: datetime, seconds: int | None, refresh_ends_after: int, due_after: int
) -> None:
    ends_at = now + timedelta(seconds=refresh_ends_after)
    due = refresh_due_at(tokens(now=now, seconds=seconds), is_renewable=True, now=now, refresh_ends_at=ends_at)
    assert due == now + timedelta(seconds=due_after)


def test_what_was_obtained_together_is_not_due_together(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "due_spread", DRAWN)
    due = [refresh_due_at(tokens(now=now, seconds=3600), is_renewable=True, now=now) for _ in range(100)]

    assert len(set(due)) == 100
    assert all(now + timedelta(seconds=2340) <= one <= now + timedelta(seconds=2700) for one in due if one)
    daily = [refresh_due_at(tokens(now=now, seconds=None), is_renewable=True, now=now) for _ in range(100)]
    assert len(set(daily)) == 100
    assert all(now + timedelta(hours=21.6) <= one <= now + timedelta(days=1) for one in daily if one)


@pytest.mark.parametrize(
    ("policy", "own", "shared", "meant"),
    [
        ("personal", True, True, "own"), ("personal", False, True, None), ("shared", True, True, "shared"),
        ("shared", True, False, None), ("shared_with_personal", True, True, "own"),
        ("shared_with_personal", False, True, "shared"), ("shared_with_personal", False, False, None),
    ],
)  # fmt: skip
def test_the_policy_decides_which_connection_is_meant(
    server: McpServer, alice: User, bob: User, policy: str, own: bool, shared: bool, meant: str | None
) -> None:
    connection_for(bob, server, actor=bob)
    made = {
        "own": connection_for(alice, server, actor=alice) if own else None,
        "shared": shared_connection(server) if shared else None,
    }
    Connection.objects.update(status="active")
    server.connection_policy = policy
    server.save()

    assert default_connection(alice, server) == (made[meant] if meant else None)


def test_nobody_signed_in_means_no_connection(server: McpServer, alice: User) -> None:
    connection_for(alice, server, actor=alice)

    assert default_connection(AnonymousUser(), server) is None


def test_a_shared_server_is_connected_by_who_may_manage_it(server: McpServer, alice: User, administrator: User) -> None:
    server.connection_policy = "shared"
    with pytest.raises(InvalidRequestError):
        connection_for(alice, server, actor=alice)

    assert connection_for(administrator, server, actor=administrator).is_shared


def test_use_is_noted_once_a_minute(granted: TokenSet, now: datetime) -> None:
    connection = Connection.objects.get()
    for seconds in (0, 60, 61):
        note_use(connection, now=now + timedelta(seconds=seconds))
        assert Connection.objects.get().last_used_at == now + timedelta(seconds=61 if seconds == 61 else 0)


def test_a_long_list_of_scopes_is_kept_as_far_as_whole_ones_fit(granted: TokenSet, alice: User, now: datetime) -> None:
    long = " ".join(["scope"] * 300)
    assert len(fitting_scope(long)) <= 1000
    assert set(fitting_scope(long).split()) == {"scope"}

    store_grant(granted.connection, tokens(now=now, scope=long), terms=TERMS, actor=alice, now=now)
    assert len(Connection.objects.get().granted_scopes) == 995
