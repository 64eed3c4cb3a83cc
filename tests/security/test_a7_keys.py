"""Stored secrets that were moved, put back or lost, and starts that must not happen. Security notes A7."""

from __future__ import annotations

import base64
import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any, Final

import encrypted_model_fields.fields as encrypted
import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection as database
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from connections.models import ApiToken, ClientRegistration, Connection, TokenSet
from mcp_oauth_site.keys import new_keys
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.secret import Secret
from tests.fakes.world import World
from tests.rest_clients import with_token

pytestmark = pytest.mark.django_db

_SEALED: Final = ("access_token_sealed", "refresh_token_sealed")


@pytest.fixture
def both(world: World, alice: User, bob: User) -> World:
    """Alice and Bob, each connected to the same server, with clients that have a secret."""
    world.authorization_server.auth_methods = ["client_secret_post"]
    for person in (alice, bob):
        world.connect(person, now=timezone.now())
    world.internet.calls.clear()
    return world


def _sql(statement: str, *values: object) -> list[tuple[Any, ...]]:
    with database.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []


def _key(one: TokenSet) -> object:
    return one.pk if database.vendor == "postgresql" else one.pk.hex


def _stored(one: TokenSet) -> tuple[Any, ...]:
    access, refresh = _sql(
        "SELECT access_token_sealed, refresh_token_sealed FROM connections_tokenset WHERE id = %s", _key(one)
    )[0]
    return access, refresh


def _store(one: TokenSet, access: str, refresh: str) -> None:
    _sql(
        "UPDATE connections_tokenset SET access_token_sealed = %s, refresh_token_sealed = %s WHERE id = %s",
        access, refresh, _key(one),
    )  # fmt: skip


def _of(user: User) -> TokenSet:
    return TokenSet.objects.get(connection__user=user)


def _is_unreadable_on_every_way(user: User, world: World) -> None:
    """409 with our code, nothing sent anywhere, no state lost, and no word of what is stored."""
    program, kept = with_token(user), _of(user)
    before = (_stored(kept), kept.generation, kept.lease_owner)
    where = f"/api/v1/connections/{kept.connection_id}"
    asked = [program.post(f"{where}/{what}") for what in ("token", "refresh")] + [program.get(f"{where}/tools")]
    for answer in asked:
        assert (answer.status_code, answer.json()["error"]) == (409, "credential_unreadable")
        assert answer.json()["requires_reauthorization"] is False
        assert not any(stored and stored in answer.content.decode() for stored in before[0])
    assert world.internet.calls == []
    after = _of(user)
    assert (_stored(after), after.generation, after.lease_owner) == before
    assert Connection.objects.get(user=user).status == "key_unavailable"


# K01
@pytest.mark.parametrize("swap", ["between people", "between columns", "from another table", "an older value"])
def test_a_stored_secret_in_another_place_is_never_used(swap: str, both: World, alice: User, bob: User) -> None:
    mine, other = _of(alice), _of(bob)
    access, refresh = _stored(mine)
    if swap == "between people":
        _store(mine, *_stored(other))
    elif swap == "between columns":
        _store(mine, refresh, access)
    elif swap == "from another table":
        registration = ClientRegistration.objects.get()
        _store(mine, *[str.__str__(registration.client_secret_sealed.ciphertext)] * 2)
    else:
        both.connect(alice, now=timezone.now())
        assert _of(alice).generation == 2
        _store(mine, access, refresh)
        both.internet.calls.clear()
    _is_unreadable_on_every_way(alice, both)
    if swap != "between people":
        answer = with_token(bob).post(f"/api/v1/connections/{other.connection_id}/token")
        assert answer.status_code == 200


@pytest.mark.parametrize("damage", ["", "gAAAAA", "plain-text-token", "x" * 5000, "cut", "flipped"])
def test_a_damaged_secret_is_neither_used_nor_taken_for_plain_text(damage: str, both: World, alice: User) -> None:
    mine = _of(alice)
    access, _ = _stored(mine)
    changed = {"cut": access[:-8], "flipped": access[:40] + ("A" if access[40] != "A" else "B") + access[41:]}
    broken = changed.get(damage, damage)
    if not broken:
        return
    _store(mine, broken, broken)
    _is_unreadable_on_every_way(alice, both)


def test_what_does_not_open_can_still_be_disconnected_and_made_anew(both: World, alice: User) -> None:
    _store(_of(alice), "broken", "broken")
    where = f"/api/v1/connections/{_of(alice).connection_id}"
    assert with_token(alice).post(f"{where}/revoke").status_code == 200
    assert both.authorization_server.revocations == []
    assert both.connect(alice, now=timezone.now()).status == "active"


@pytest.mark.parametrize("column", ["state_sealed", "code_verifier_sealed"])
def test_the_verifier_of_another_attempt_redeems_nothing(
    column: str, browser: Client, come_back: Any, world: World
) -> None:
    first, second = come_back(), come_back()
    donor, taker = AuthorizationRequest.objects.order_by("initiated_at")
    AuthorizationRequest.objects.filter(pk=taker.pk).update(**{column: getattr(donor, column).ciphertext})
    answer = browser.get("/api/v1/oauth/callback", second, follow=True)
    if column == "code_verifier_sealed":
        assert 'data-code="credential_unreadable"' in answer.content.decode()
        assert world.authorization_server.token_requests == []
    assert browser.get("/api/v1/oauth/callback", first).status_code == 303


def test_a_fixed_credential_of_another_server_is_sent_to_nobody(world: World, alice: User) -> None:
    mine = world.server("mine", auth_type="bearer")
    donor = world.server("donor", auth_type="bearer")
    donor.static_credential_sealed = Secret("of the donor")
    donor.save()
    type(mine).objects.filter(pk=mine.pk).update(static_credential_sealed=donor.static_credential_sealed.ciphertext)
    connection = world.connection(alice, slug="mine")
    answer = with_token(alice).get(f"/api/v1/connections/{connection.pk}/tools")
    assert (answer.status_code, answer.json()["error"]) == (409, "credential_unreadable")


# K03
def test_with_another_key_nothing_is_lost_and_with_the_right_one_all_works_again(
    both: World, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = _stored(_of(alice))
    with monkeypatch.context() as patch:
        patch.setattr(encrypted, "CRYPTER", MultiFernet([Fernet(Fernet.generate_key())]))
        program = with_token(alice)
        answer = program.post(f"/api/v1/connections/{_of(alice).connection_id}/token")
        assert (answer.status_code, answer.json()["error"]) == (409, "credential_unreadable")
    assert both.internet.calls == []
    assert _stored(_of(alice)) == kept
    again = with_token(alice).post(f"/api/v1/connections/{_of(alice).connection_id}/token")
    assert again.status_code == 200
    assert Connection.objects.get(user=alice).status == "active"


# K04, K06
_ZEROS: Final = base64.urlsafe_b64encode(bytes(32)).decode()
_WORDS: Final = base64.urlsafe_b64encode(b"change-me-please-change-me-pleas").decode()
_ATTEMPTS: Final = {
    "no secret key": {"SECRET_KEY": ""},
    "a placeholder": {"SECRET_KEY": "django-insecure-" + "k3Jd92mNfQ8sLp0xZv7bTy5cRw1aUe6gHi4oPq"},
    "a short one": {"SECRET_KEY": "k3Jd92mNfQ8sLp0xZv7bTy5"},
    "no encryption key": {"FIELD_ENCRYPTION_KEY": ""},
    "zeros to encrypt": {"FIELD_ENCRYPTION_KEY": _ZEROS},
    "a word to encrypt": {"FIELD_ENCRYPTION_KEY": _WORDS},
    "16 bytes to encrypt": {"FIELD_ENCRYPTION_KEY": base64.urlsafe_b64encode(os.urandom(16)).decode()},
    "no signing key": {"SIGNING_KEYS": "[]"},
    "no audit key": {"AUDIT_KEYS": ""},
    "one key for two": {"AUDIT_KEYS": "SAME", "FIELD_ENCRYPTION_KEY": "SAME"},
    "debug on https": {"DEBUG": "true"},
    "debug that is no word": {"DEBUG": "ture"},
    "a guard that is no word": {"STDIO_SERVERS_ALLOWED": "flase"},
    "an allowance that is none": {"EGRESS_ALLOW": "*"},
    "origins for everybody": {"CORS_ALLOWED_ORIGINS": "*"},
    "proxies for everybody": {"TRUSTED_PROXIES": "anybody"},
    "an address that is none": {"PUBLIC_URL": "javascript:alert(1)"},
}  # fmt: skip


@pytest.mark.parametrize("what", _ATTEMPTS)
def test_a_start_that_would_be_unsafe_does_not_happen(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = base64.urlsafe_b64encode(os.urandom(32)).decode()
    changed = {name: value.replace("SAME", same) for name, value in _ATTEMPTS[what].items()}
    safe = {**new_keys().as_variables(), "PUBLIC_URL": "https://mcp.example.com", "DEBUG": "", "DATABASE_URL": ""}
    for name, value in {**safe, "DATA_DIR": str(tmp_path / "data"), **changed}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "mcp_oauth_site.settings")
    begun = time.monotonic()
    with pytest.raises(ImproperlyConfigured) as refused:
        runpy.run_module("mcp_oauth_site.settings")
    assert time.monotonic() - begun < 5
    said = str(refused.value)
    assert any(said.startswith(name) or name in said for name in changed)
    assert not any(len(value) > 8 and value in said for value in changed.values())


def test_a_safe_start_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    safe = {**new_keys().as_variables(), "PUBLIC_URL": "https://mcp.example.com", "DEBUG": "", "DATABASE_URL": ""}
    for name, value in {**safe, "DATA_DIR": str(tmp_path / "data")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "mcp_oauth_site.settings")
    settings = runpy.run_module("mcp_oauth_site.settings")
    assert (settings["DEBUG"], settings["EGRESS_ALLOW"]) == (False, ())
    assert json.loads(os.environ["SIGNING_KEYS"])[0]["kid"]


# K05
def test_what_another_site_with_the_same_keys_gave_out_opens_nothing_here(alice: User, program: APIClient) -> None:
    elsewhere = Client()
    elsewhere.force_login(alice)
    assert elsewhere.get("/connections/").status_code == 200
    assert program.get("/api/v1/connections").status_code == 200
    # Sessions and tokens are rows and nothing that a key alone could vouch for: another database does not have them.
    elsewhere.session.delete()
    ApiToken.objects.all().delete()
    assert elsewhere.get("/connections/").status_code == 302
    assert program.get("/api/v1/connections").status_code == 401
