"""`/oauth/revoke`."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from audit.models import AuditRecord
from authserver import revoked
from authserver.models import Consent, ServiceAccount, TokenFamily
from authserver.revoked import REVOKED, RevokedReader
from authserver.tokens import InvalidTokenError, mint_access_token, new_jti, verify
from tests.authserver.grants import RESOURCE, SECRET, make_client, make_code, make_consent, nothing_remembered
from tests.authserver.token_calls import Got, ask, ask_token, code_form, refresh_form
from tests.requirements import requirement

__all__ = ["nothing_remembered"]


@pytest.fixture
def consent(alice: User) -> Consent:
    return make_consent(alice, make_client())


@pytest.fixture
def given(consent: Consent) -> dict[str, str]:
    members: dict[str, str] = ask_token(code_form(make_code(consent))).members
    assert verify(members["access_token"], audience=RESOURCE)
    return members


def revoke(token: str, *, client_id: str = "program", **form: str) -> Got:
    got = ask("/oauth/revoke", {"token": token, "client_id": client_id, **form})
    REVOKED._checked_at = float("-inf")
    return got


def is_good(given: dict[str, str]) -> bool:
    try:
        return bool(verify(given["access_token"], audience=RESOURCE))
    except InvalidTokenError:
        return False


@requirement("X-07", "AS14")
@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "something"])
def test_revoking_either_token_ends_both(given: dict[str, str], which: str, hint: str) -> None:
    got = revoke(given[which], token_type_hint=hint)
    assert (got.status, got.body, got.headers["Cache-Control"]) == (200, b"", "no-store")
    assert not is_good(given)
    assert ask_token(refresh_form(given["refresh_token"])).error == "invalid_grant"
    recorded = AuditRecord.objects.get(event="client_grant.revoked")
    assert (recorded.client, recorded.reason) == ("program", "revoked_by_client")


@requirement("AS14")
@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
def test_another_clients_token_stays_as_it_is(given: dict[str, str], which: str) -> None:
    make_client("other")
    assert revoke(given[which], client_id="other").status == 200
    assert is_good(given)
    assert ask_token(refresh_form(given["refresh_token"])).status == 200
    assert not AuditRecord.objects.filter(event="client_grant.revoked").exists()


def test_other_grants_of_the_same_client_go_on(given: dict[str, str], consent: Consent) -> None:
    other = ask_token(code_form(make_code(consent))).members
    revoke(given["refresh_token"])
    assert is_good(other)
    assert not is_good(given)


def test_a_refresh_token_that_was_rotated_away_still_ends_the_grant(given: dict[str, str]) -> None:
    newest = ask_token(refresh_form(given["refresh_token"])).members
    revoke(given["refresh_token"])
    assert not is_good(newest)


@pytest.mark.parametrize("token", ["x", "a.b.c", "é", "A" * 86, "A" * 64, "x" * 9000])
def test_what_is_no_token_is_answered_as_if_it_had_been_revoked(given: dict[str, str], token: str) -> None:
    assert revoke(token).status == 200
    assert is_good(given)


def test_revoking_twice_is_recorded_once(given: dict[str, str]) -> None:
    assert [revoke(given["refresh_token"]).status for _ in range(2)] == [200, 200]
    assert AuditRecord.objects.filter(event="client_grant.revoked").count() == 1


@requirement("AS17")
def test_the_client_has_to_be_known_and_the_token_there(given: dict[str, str]) -> None:
    assert (revoke(given["access_token"], client_id="nobody").status, is_good(given)) == (401, True)
    assert revoke("").error == "invalid_request"
    assert ask("/oauth/revoke", b"{}", **{"Content-Type": "application/json"}).error == "invalid_request"
    assert ask("/oauth/revoke?token=x", {"client_id": "program"}).error == "invalid_request"


def test_a_confidential_client_has_to_prove_itself(alice: User) -> None:
    client = make_client("secretive", method="client_secret_basic")
    code = make_code(make_consent(alice, client))
    given = ask_token(code_form(code, client_id=""), basic=("secretive", SECRET)).members
    assert revoke(given["access_token"], client_id="secretive").status == 401
    assert is_good(given)
    assert ask("/oauth/revoke", {"token": given["access_token"]}, basic=("secretive", SECRET)).status == 200
    REVOKED._checked_at = float("-inf")
    assert not is_good(given)


def test_one_token_of_a_service_account_ends_alone(alice: User) -> None:
    client = make_client("service", method="client_secret_basic")
    ServiceAccount.objects.create(client=client, user=alice, resources=[RESOURCE])

    def token(number: int) -> str:
        issued_at = int(client.created_at.timestamp())
        jti = new_jti(client.pk, bytes([number]) * 16)
        return mint_access_token(
            subject="service",
            client_id="service",
            audience=RESOURCE,
            scope="",
            jti=jti,
            issued_at=issued_at,
            seconds=900,
        )

    one, other = token(1), token(2)
    make_client("stranger")
    assert revoke(one, client_id="stranger").status == 200
    assert is_good({"access_token": one})
    assert ask("/oauth/revoke", {"token": one}, basic=("service", SECRET)).status == 200
    REVOKED._checked_at = float("-inf")
    assert not is_good({"access_token": one})
    assert is_good({"access_token": other})
    assert not TokenFamily.objects.exists()


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_person_allowed_ends_with_a_deactivation_unless_the_site_only_suspends(
    given: dict[str, str], alice: User, settings: Settings, ends: bool
) -> None:
    settings.MCP_OAUTH = {"revoke_deactivated": ends}
    for is_active in (False, True):
        alice.is_active = is_active
        alice.save()
    assert ask_token(refresh_form(given["refresh_token"])).status == (400 if ends else 200)
    assert Consent.objects.standing().exists() != ends


async def test_a_database_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, go_on = RevokedReader(), threading.Event()
    monkeypatch.setattr(revoked, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(reader, "read", lambda: go_on.wait(10))
    with pytest.raises(TimeoutError):
        await reader.aread()
    go_on.set()
