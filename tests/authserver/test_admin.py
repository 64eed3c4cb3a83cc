"""Clients and grants in the admin."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from audit.models import AuditRecord
from authserver.models import Consent, McpClient, RegistrationToken, hash_of_secret
from oauthflow.protocol.secret import Secret
from tests.requirements import requirement

from .asking import gateway_server, registered
from .grants import make_consent, make_family

pytestmark = pytest.mark.django_db

ENTERED = {
    "name": "Team program",
    "addresses": "https://team.example/cb\ncursor://anysphere.cursor-mcp/oauth/callback",
    "grants": ["authorization_code", "refresh_token"],
    "token_endpoint_auth_method": "client_secret_basic",
    "scope": "",
    "jwks": "",
    "jwks_uri": "",
    "verified": "on",
}


@pytest.fixture
def admin(administrator: User, client: Client) -> Client:
    client.force_login(administrator)
    gateway_server()
    return client


def _act(admin: Client, row: McpClient, action: str) -> int:
    return admin.post(reverse("admin:authserver_mcpclient_act", args=(row.pk, action))).status_code


def test_an_entered_client_gets_an_id_and_a_secret_that_is_shown_once(admin: Client) -> None:
    page = admin.post(reverse("admin:authserver_mcpclient_add"), ENTERED)
    row = McpClient.objects.get()
    secret = re.search(r'site-copy large">([^<]+)<', page.content.decode())
    assert secret is not None
    assert row.client_secret_hash == hash_of_secret(Secret(secret[1]))
    assert (row.kind, row.verified) == (McpClient.Kind.PRE_REGISTERED, True)
    assert row.redirect_uris == ENTERED["addresses"].split()
    assert "no-store" in page.headers["Cache-Control"]
    shown = admin.get(reverse("admin:authserver_mcpclient_change", args=(row.pk,))).content.decode()
    everything = shown + str(list(LogEntry.objects.values())) + str(list(AuditRecord.objects.values()))
    assert secret[1] not in everything
    assert row.client_secret_hash not in everything


@pytest.mark.parametrize(
    "changed",
    [
        {"addresses": ""},
        {"addresses": "javascript:alert(1)"},
        {"addresses": "http://evil.example/cb"},
        {"name": "a\u202eb"},
        {"scope": 'a"b'},
        {"jwks": '{"keys": []}'},
        {"jwks_uri": "ftp://x/"},
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "none", "grants": ["client_credentials"], "addresses": ""},
        {"grants": []},
        {"grants": ["password"]},
    ],
)
def test_an_entry_that_the_rules_refuse_is_not_kept(admin: Client, changed: dict[str, object]) -> None:
    page = admin.post(reverse("admin:authserver_mcpclient_add"), ENTERED | changed)
    assert page.status_code == 200
    assert "errorlist" in page.content.decode()
    assert not McpClient.objects.exists()


def test_a_changed_address_ends_the_grants_that_were_answered_there(admin: Client, alice: User) -> None:
    row = registered(kind=McpClient.Kind.PRE_REGISTERED, redirect_uris=["http://127.0.0.1:33418/callback"])
    make_consent(alice, row)
    path = reverse("admin:authserver_mcpclient_change", args=(row.pk,))
    same = ENTERED | {"addresses": "http://127.0.0.1:33418/callback", "token_endpoint_auth_method": "none"}
    assert admin.post(path, same).status_code == 302
    assert Consent.objects.standing().exists()
    assert admin.post(path, ENTERED | {"token_endpoint_auth_method": "none"}).status_code == 302
    assert not Consent.objects.standing().exists()


def test_fewer_scopes_end_the_grants_that_go_further(admin: Client, alice: User) -> None:
    row = registered(kind=McpClient.Kind.PRE_REGISTERED, redirect_uris=["http://127.0.0.1:33418/callback"])
    make_consent(alice, row, scope="mcp:access")
    make_consent(alice, row, scope="mcp:access offline_access")
    path = reverse("admin:authserver_mcpclient_change", args=(row.pk,))
    same = ENTERED | {"addresses": "http://127.0.0.1:33418/callback", "token_endpoint_auth_method": "none"}
    assert admin.post(path, same | {"scope": "mcp:access"}).status_code == 302
    assert [consent.scope for consent in Consent.objects.standing()] == ["mcp:access"]


def test_a_new_secret_replaces_the_old_one(admin: Client) -> None:
    row = registered(kind=McpClient.Kind.PRE_REGISTERED, token_endpoint_auth_method="client_secret_post")
    page = admin.post(reverse("admin:authserver_mcpclient_act", args=(row.pk, "secret")))
    secret = re.search(r'site-copy large">([^<]+)<', page.content.decode())
    row.refresh_from_db()
    assert secret is not None
    assert row.client_secret_hash == hash_of_secret(Secret(secret[1]))


@requirement("AS14")
def test_blocking_a_client_ends_its_grants_and_unblocking_brings_none_back(admin: Client, alice: User) -> None:
    row = registered()
    family = make_family(make_consent(alice, row))
    assert _act(admin, row, "block") == 302
    family.refresh_from_db()
    row.refresh_from_db()
    assert family.ended_at is not None
    assert row.blocked_at is not None
    assert _act(admin, row, "unblock") == 302
    row.refresh_from_db()
    assert row.blocked_at is None
    assert not Consent.objects.standing().exists()


def test_verification_is_given_and_withdrawn_and_recorded(admin: Client) -> None:
    row = registered()
    for action, verified in (("verify", True), ("withdraw", False)):
        _act(admin, row, action)
        row.refresh_from_db()
        assert row.verified == verified
    assert list(AuditRecord.objects.values_list("reason", flat=True)) == ["verification_withdrawn", "verified"]


@requirement("AS14")
def test_an_administrator_revokes_one_grant_or_all_of_a_client(admin: Client, alice: User, bob: User) -> None:
    row = registered()
    first, second = make_consent(alice, row), make_consent(bob, row)
    admin.post(reverse("admin:authserver_consent_revoke", args=(first.pk,)))
    assert list(Consent.objects.standing()) == [second]
    _act(admin, row, "revoke")
    assert not Consent.objects.standing().exists()


def test_buttons_need_post_the_right_and_a_known_name(admin: Client, alice: User) -> None:
    row = registered()
    consent = make_consent(alice, row)
    assert admin.get(reverse("admin:authserver_mcpclient_act", args=(row.pk, "block"))).status_code == 403
    assert _act(admin, row, "nonsense") == 404
    looker = Client()
    alice.is_staff = True
    alice.save()
    alice.user_permissions.add(*Permission.objects.filter(codename__in=("view_mcpclient", "view_consent")))
    looker.force_login(alice)
    assert looker.get(reverse("admin:authserver_mcpclient_change", args=(row.pk,))).status_code == 200
    assert _act(looker, row, "block") == 403
    assert looker.post(reverse("admin:authserver_consent_revoke", args=(consent.pk,))).status_code == 403
    assert looker.get(reverse("admin:authserver_mcpclient_add")).status_code == 403


def test_what_a_client_says_of_itself_is_shown_and_not_edited(admin: Client) -> None:
    row = registered(name="<i>Odd</i>")
    page = admin.get(reverse("admin:authserver_mcpclient_change", args=(row.pk,))).content.decode()
    assert "&lt;i&gt;Odd&lt;/i&gt;" in page
    assert 'name="addresses"' not in page
    assert admin.post(reverse("admin:authserver_mcpclient_change", args=(row.pk,)), ENTERED).status_code == 403


@pytest.mark.parametrize("kind", ["mcpclient", "consent", "registrationtoken"])
def test_each_list_and_its_search_open(admin: Client, alice: User, kind: str) -> None:
    make_consent(alice, registered())
    assert admin.get(reverse(f"admin:authserver_{kind}_changelist"), {"q": "notes"}).status_code == 200
    assert admin.get(reverse("admin:authserver_consent_change", args=(Consent.objects.get().pk,))).status_code == 200


def test_a_registration_token_is_shown_once_and_revoked(admin: Client) -> None:
    page = admin.post(reverse("admin:authserver_registrationtoken_add"), {"name": "team", "days": "7"})
    secret = re.search(r'site-copy large">([^<]+)<', page.content.decode())
    row = RegistrationToken.objects.get()
    assert secret is not None
    assert row.token_hash == hash_of_secret(Secret(secret[1]))
    assert admin.get(reverse("admin:authserver_registrationtoken_change", args=(row.pk,))).status_code == 200
    admin.post(reverse("admin:authserver_registrationtoken_revoke", args=(row.pk,)))
    row.refresh_from_db()
    assert row.revoked_at is not None
