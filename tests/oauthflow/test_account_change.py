"""Another account of the service comes back than before: nothing is replaced until somebody decides. Note S15."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User

from audit.models import AuditRecord
from connections.models import Connection, FlowTrace, TokenSet
from connections.server_changes import change_server
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.decide_account import decide_account
from oauthflow.flows.purge import purge_finished
from oauthflow.flows.revocation_outbox import revoke_due
from oauthflow.flows.revoke import revoke_connection
from oauthflow.models import AuthorizationRequest, Event
from oauthflow.protocol.codes import Code
from oauthflow.protocol.errors import (
    AccountChangedError,
    FlowError,
    IssuerChangedError,
    SecretUnreadableError,
    StateError,
)
from oauthflow.status import authorization_status
from tests.fakes.authorization_server import FakeAuthorizationServer
from tests.fakes.crowd import all_at_once
from tests.fakes.internet import Answer
from tests.fakes.world import World


@pytest.fixture
def connected(world: World, alice: User, now: datetime) -> Connection:
    """Alice's connection, made as account `first`."""
    world.authorization_server.subject = "first"
    return world.connect(alice, now=now)


@pytest.fixture
def held(world: World, connected: Connection, alice: User, now: datetime) -> AuthorizationRequest:
    """A reconnect of it as account `second`, which waits for a decision."""
    return come_back_as("second", world, alice, now)


def come_back_as(subject: str, world: World, user: User, now: datetime) -> AuthorizationRequest:
    world.authorization_server.subject = subject
    with pytest.raises(AccountChangedError) as caught:
        world.connect(user, now=now)
    assert isinstance(caught.value.request, AuthorizationRequest)
    return AuthorizationRequest.objects.get(pk=caught.value.request.pk)


def refused(decide: Callable[[], object]) -> Code:
    with pytest.raises(FlowError) as caught:
        decide()
    return caught.value.code


def granted_now(world: World) -> set[str]:
    """The refresh tokens that the authorization server would still take."""
    return set(world.authorization_server.refresh_tokens)


def test_the_account_is_kept_and_the_token_that_named_it_is_not(connected: Connection) -> None:
    connected.refresh_from_db()
    assert (connected.issuer, connected.upstream_subject) == ("https://as.example", "first")
    assert "somebody@example.com" not in repr(list(Connection.objects.values()) + list(TokenSet.objects.values()))


def test_the_same_account_is_reconnected_without_a_question(
    world: World, connected: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.id_token_overrides = {"email": "new@example.com", "preferred_username": "renamed"}
    assert world.connect(alice, now=now).status == "active"
    assert TokenSet.objects.get().generation == 2


def test_what_waited_is_renewed_before_its_refresh_token_ends(
    world: World, connected: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.token_overrides = {"expires_in": 86_400, "refresh_token_expires_in": 7200}
    decide_account(come_back_as("second", world, alice, now), user=alice, use_new=True, now=now)
    tokens = TokenSet.objects.get()
    assert tokens.refresh_ends_at == now + timedelta(hours=2)
    assert tokens.refresh_due_at == now + timedelta(hours=1)


def test_another_account_replaces_nothing_and_waits(
    connected: Connection, held: AuthorizationRequest, now: datetime
) -> None:
    tokens = TokenSet.objects.get()
    connected.refresh_from_db()
    assert (tokens.generation, connected.status, connected.upstream_subject) == (1, "active", "first")
    assert usable_access_token(connected, now=now).access_token == tokens.access_token_sealed.reveal()
    assert (held.status, held.error_code, held.completed_at) == ("pending", "account_changed", None)
    assert held.held_tokens_sealed
    assert not held.state_sealed
    assert not held.code_verifier_sealed
    assert held.expires_at == now + timedelta(seconds=600)
    assert list(AuditRecord.objects.values_list("event", flat=True)).count("authorization.completed") == 1


def test_a_poller_is_told_that_it_is_pending_and_why(held: AuthorizationRequest, now: datetime) -> None:
    status = authorization_status(held, now=now)
    assert (status.status, status.error_code, status.completed_at) == ("pending", "account_changed", None)
    assert "Another account" in status.error_message


def test_what_waits_opens_in_its_own_row_alone(
    world: World, held: AuthorizationRequest, alice: User, now: datetime
) -> None:
    other = come_back_as("third", world, alice, now)
    other.held_tokens_sealed = held.held_tokens_sealed
    with pytest.raises(SecretUnreadableError):
        decide_account(other, user=alice, use_new=True, now=now)
    assert AuthorizationRequest.objects.get(pk=other.pk).status == "pending"


def test_no_column_shows_what_waits_nor_anything_of_the_id_token(
    world: World, connected: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.marker = "MaRk3d"
    world.authorization_server.id_token_overrides = {"name": "MaRk3d"}
    held = come_back_as("second", world, alice, now)
    models = (AuthorizationRequest, Connection, TokenSet, FlowTrace, AuditRecord, Event)
    rows = repr([list(model.objects.values()) for model in models])
    assert "MaRk3d" not in rows
    assert "second" not in rows
    assert held.held_tokens_sealed.reveal().reveal().count("MaRk3d") == 2


def test_the_new_account_takes_the_place_of_the_old_one(
    world: World, held: AuthorizationRequest, connected: Connection, alice: User, now: datetime
) -> None:
    new = granted_now(world) - {TokenSet.objects.get().refresh_token_sealed.reveal().reveal()}
    later = now + timedelta(seconds=90)

    finished = decide_account(held, user=alice, use_new=True, now=later)

    tokens = TokenSet.objects.get()
    connected.refresh_from_db()
    assert {tokens.refresh_token_sealed.reveal().reveal()} == new
    assert (tokens.generation, tokens.obtained_at, tokens.expires_at) == (2, now, now + timedelta(seconds=3600))
    assert (connected.status, connected.upstream_subject) == ("active", "second")
    kept = AuthorizationRequest.objects.get(pk=held.pk)
    assert (finished.status, kept.status, kept.error_code, kept.completed_at) == ("completed", "completed", "", later)
    assert not kept.held_tokens_sealed
    assert world.authorization_server.revocations == []
    entry = AuditRecord.objects.latest("sequence")
    assert (entry.event, entry.reason, entry.actor) == ("authorization.completed", "account_changed", str(alice.pk))
    assert "second" not in repr(entry.details)
    assert world.connect(alice, now=later).upstream_subject == "second"


def test_keeping_the_old_account_revokes_the_new_tokens_and_forgets_them(
    world: World, held: AuthorizationRequest, connected: Connection, alice: User, now: datetime
) -> None:
    old = TokenSet.objects.get().refresh_token_sealed.reveal().reveal()

    decide_account(held, user=alice, use_new=False, now=now)

    connected.refresh_from_db()
    assert (connected.status, connected.upstream_subject, TokenSet.objects.get().generation) == ("active", "first", 1)
    kept = AuthorizationRequest.objects.get(pk=held.pk)
    assert (kept.status, kept.error_code, kept.completed_at) == ("failed", "account_changed", now)
    assert not kept.held_tokens_sealed
    entry = AuditRecord.objects.latest("sequence")
    assert (entry.event, entry.reason, entry.actor) == ("authorization.failed", "account_changed", str(alice.pk))
    revoke_due(now=now)
    assert granted_now(world) == {old}
    assert [sent["token_type_hint"] for sent in world.authorization_server.revocations] == [
        "refresh_token",
        "access_token",
    ]


def test_new_tokens_that_cannot_be_revoked_are_forgotten_all_the_same(
    world: World, held: AuthorizationRequest, alice: User, now: datetime
) -> None:
    world.authorization_server.revocation_answer = Answer(503)
    assert decide_account(held, user=alice, use_new=False, now=now).status == "failed"
    assert not AuthorizationRequest.objects.get(pk=held.pk).held_tokens_sealed


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_a_decision_is_taken_once(
    held: AuthorizationRequest, alice: User, now: datetime, first: bool, second: bool
) -> None:
    stale = AuthorizationRequest.objects.get(pk=held.pk)
    decide_account(held, user=alice, use_new=first, now=now)
    ended, tokens = AuthorizationRequest.objects.values().get(pk=held.pk), TokenSet.objects.values().get()

    for again in (stale, AuthorizationRequest.objects.get(pk=held.pk)):
        assert refused(lambda again=again: decide_account(again, user=alice, use_new=second, now=now)) == "state_used"
    assert AuthorizationRequest.objects.values().get(pk=held.pk) == ended
    assert TokenSet.objects.values().get() == tokens


@pytest.mark.django_db(transaction=True)
def test_of_many_decisions_at_the_same_moment_one_counts(
    world: World, held: AuthorizationRequest, alice: User, now: datetime
) -> None:
    def decide() -> AuthorizationRequest:
        return decide_account(AuthorizationRequest.objects.get(pk=held.pk), user=alice, use_new=True, now=now)

    outcomes = all_at_once(6, decide)

    assert sum(isinstance(outcome, AuthorizationRequest) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, StateError) for outcome in outcomes) == 5
    assert TokenSet.objects.get().generation == 2


@pytest.mark.parametrize("use_new", [True, False])
def test_nobody_else_decides(
    held: AuthorizationRequest, bob: User, administrator: User, now: datetime, use_new: bool
) -> None:
    for stranger in (bob, administrator):
        assert refused(lambda who=stranger: decide_account(held, user=who, use_new=use_new, now=now)) == (
            "state_mismatch"
        )
    assert AuthorizationRequest.objects.get(pk=held.pk).held_tokens_sealed


@pytest.mark.parametrize("use_new", [True, False])
def test_a_late_decision_changes_nothing(held: AuthorizationRequest, alice: User, now: datetime, use_new: bool) -> None:
    late = now + timedelta(seconds=600)
    assert refused(lambda: decide_account(held, user=alice, use_new=use_new, now=late)) == "state_expired"
    assert TokenSet.objects.get().generation == 1


def test_a_sign_in_that_did_not_come_back_has_nothing_to_decide(world: World, alice: User, now: datetime) -> None:
    world.come_back(world.connection(alice), user=alice, now=now)
    pending = AuthorizationRequest.objects.get()
    assert refused(lambda: decide_account(pending, user=alice, use_new=True, now=now)) == "state_used"
    assert AuthorizationRequest.objects.get().status == "pending"


def test_the_answer_that_brought_the_other_account_is_not_taken_again(
    world: World, connected: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.subject = "second"
    params, cookies = world.come_back(connected, user=alice, now=now)
    for code in ("account_changed", "state_used"):
        assert refused(lambda: complete_authorization(params=params, user=alice, cookies=cookies, now=now)) == code
    assert AuthorizationRequest.objects.filter(error_code="account_changed", status="pending").count() == 1


def test_undecided_tokens_are_erased_and_revoked_when_time_is_over(
    world: World, held: AuthorizationRequest, connected: Connection, now: datetime
) -> None:
    old = TokenSet.objects.get().refresh_token_sealed.reveal().reveal()
    purge_finished(now=now + timedelta(seconds=599))
    assert AuthorizationRequest.objects.get(pk=held.pk).held_tokens_sealed

    for _ in range(2):
        purge_finished(now=now + timedelta(seconds=600))
        revoke_due(now=now + timedelta(seconds=600))

    kept = AuthorizationRequest.objects.get(pk=held.pk)
    assert (kept.status, kept.error_code) == ("expired", "authorization_timeout")
    assert not kept.held_tokens_sealed
    assert granted_now(world) == {old}
    assert len(world.authorization_server.revocations) == 2
    ended = AuditRecord.objects.filter(event="authorization.failed")
    assert [(entry.reason, entry.actor) for entry in ended] == [("authorization_timeout", "system")]
    connected.refresh_from_db()
    assert connected.status == "active"


def test_disconnecting_revokes_what_waits_too_and_forgets_the_account(
    world: World, held: AuthorizationRequest, connected: Connection, alice: User, now: datetime
) -> None:
    assert not revoke_connection(connected, actor=alice, reason="", now=now)
    revoke_due(now=now)

    assert granted_now(world) == set()
    assert AuthorizationRequest.objects.get(pk=held.pk).status == "failed"
    assert not AuthorizationRequest.objects.get(pk=held.pk).held_tokens_sealed
    assert (connected.status, connected.upstream_subject) == ("revoked", "")
    assert world.connect(alice, now=now).upstream_subject == "second"


def test_pointing_the_server_elsewhere_erases_what_waits(
    held: AuthorizationRequest, connected: Connection, alice: User, administrator: User, now: datetime
) -> None:
    server = connected.server
    server.url = "https://elsewhere.example/mcp"
    change_server(server, actor=administrator, now=now, confirmed=True)

    kept = AuthorizationRequest.objects.get(pk=held.pk)
    assert (kept.status, kept.error_code) == ("failed", "issuer_changed")
    assert not kept.held_tokens_sealed
    assert refused(lambda: decide_account(held, user=alice, use_new=True, now=now)) == "issuer_changed"
    assert refused(lambda: decide_account(held, user=alice, use_new=False, now=now)) == "state_used"


def test_a_connection_that_has_another_issuer_by_now_is_not_set_back(
    held: AuthorizationRequest, alice: User, now: datetime
) -> None:
    Connection.objects.update(issuer="https://new.example")
    with pytest.raises(IssuerChangedError):
        decide_account(held, user=alice, use_new=True, now=now)
    assert TokenSet.objects.get().generation == 1


def test_a_connection_that_was_deleted_meanwhile_stays_deleted(
    held: AuthorizationRequest, connected: Connection, alice: User, now: datetime
) -> None:
    connected.delete()
    assert refused(lambda: decide_account(held, user=alice, use_new=True, now=now)) == "state_used"
    assert not TokenSet.objects.exists()


def test_an_unknown_account_is_no_question_and_the_known_one_stays_in_mind(
    world: World, connected: Connection, alice: User, now: datetime
) -> None:
    world.authorization_server.id_token_overrides = {"aud": "somebody else"}
    assert world.connect(alice, now=now).status == "active"
    connected.refresh_from_db()
    assert (connected.upstream_subject, TokenSet.objects.get().generation) == ("first", 2)
    world.authorization_server.id_token_overrides = {}
    assert come_back_as("second", world, alice, now).error_code == "account_changed"


def test_the_first_account_that_is_known_is_no_change(world: World, alice: User, now: datetime) -> None:
    assert world.connect(alice, now=now).upstream_subject == ""
    world.authorization_server.subject = "first"
    assert world.connect(alice, now=now).upstream_subject == "first"


def test_accounts_of_different_issuers_are_not_compared(
    world: World, connected: Connection, alice: User, now: datetime
) -> None:
    TokenSet.objects.all().delete()
    other = FakeAuthorizationServer(issuer="https://new.example", subject="second")
    world.internet[other.origin] = world.authorization_server = other
    world.mcp_server.issuers = [other.issuer]
    connected.server.discovery.delete()
    again = world.connect(alice, now=now)
    assert (again.issuer, again.upstream_subject) == ("https://new.example", "second")


def test_each_connection_has_an_account_of_its_own(
    world: World, connected: Connection, alice: User, bob: User, now: datetime
) -> None:
    world.authorization_server.subject = "second"
    assert world.connect(bob, now=now).upstream_subject == "second"
    labelled = world.connection(alice, label="second")
    params, cookies = world.come_back(labelled, user=alice, now=now)
    complete_authorization(params=params, user=alice, cookies=cookies, now=now)
    assert sorted(Connection.objects.values_list("upstream_subject", flat=True)) == ["first", "second", "second"]
