"""The key canary and the system checks of keys. K03, K04."""

from __future__ import annotations

import base64

import pytest
from cryptography.fernet import Fernet, MultiFernet
from encrypted_model_fields import fields as encrypted
from pytest_django.fixtures import Settings

from connections.checks import check_encryption_keys, check_public_url
from connections.key_canary import ensure_keys_open
from connections.models import KeyCanary
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret


def test_the_first_start_writes_the_canary_and_the_next_ones_open_it(db: None) -> None:
    ensure_keys_open()
    before = KeyCanary.objects.values().get()
    ensure_keys_open()
    assert KeyCanary.objects.values().get() == before


def test_a_start_with_another_key_is_refused_and_changes_nothing(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_keys_open()
    before = KeyCanary.objects.values().get()
    monkeypatch.setattr(encrypted, "CRYPTER", MultiFernet([Fernet(Fernet.generate_key())]))
    with pytest.raises(SecretUnreadableError):
        ensure_keys_open()
    assert KeyCanary.objects.values().get() == before


def test_an_emptied_or_foreign_canary_is_refused(db: None) -> None:
    ensure_keys_open()
    KeyCanary.objects.update(canary_sealed="")
    with pytest.raises(SecretUnreadableError):
        ensure_keys_open()
    canary = KeyCanary.objects.get()
    canary.canary_sealed = Secret("shut")
    canary.save()
    with pytest.raises(SecretUnreadableError):
        ensure_keys_open()


def _ids(settings: Settings, keys: list[str]) -> list[str | None]:
    settings.FIELD_ENCRYPTION_KEY = keys
    return [problem.id for problem in check_encryption_keys(None)]


def test_fresh_keys_pass(settings: Settings) -> None:
    assert _ids(settings, [Fernet.generate_key().decode(), Fernet.generate_key().decode()]) == []


def test_missing_unreadable_weak_and_shared_keys_are_named(settings: Settings) -> None:
    weak = base64.urlsafe_b64encode(b"a" * 32).decode()
    shared = Fernet.generate_key().decode()
    assert _ids(settings, []) == ["connections.E001"]
    assert _ids(settings, ["short"]) == ["connections.E002"]
    assert _ids(settings, ["%%%"]) == ["connections.E002"]
    assert _ids(settings, [Fernet.generate_key().decode(), weak]) == ["connections.E003"]
    settings.AUDIT_KEYS = [shared.rstrip("=")]
    assert _ids(settings, [shared]) == ["connections.E004"]


@pytest.mark.parametrize(
    ("url", "problems"),
    [
        ("https://mcp.example.com", 0),
        ("http://localhost:8000", 0),
        ("http://[::1]:8000", 0),
        ("http://mcp.example.com", 1),
    ],
)
def test_plain_http_beyond_this_machine_is_warned_of(settings: Settings, url: str, problems: int) -> None:
    settings.PUBLIC_URL = url
    assert len(check_public_url(None)) == problems
