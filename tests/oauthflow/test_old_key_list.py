"""Two hosts with different lists of keys: the one with the old list touches nothing that it cannot read. F20."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.contrib.auth.models import User
from encrypted_model_fields import fields as encrypted
from pytest_django import Settings

from audit.models import AuditRecord
from connections.key_fingerprints import register_keys
from connections.key_rotation import rotate_keys
from connections.models import Connection, TokenSet
from oauthflow.flows.access_token import usable_access_token
from oauthflow.flows.refresh import refresh_connection
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.protocol.errors import SecretUnreadableError
from tests.fakes.world import World
from tests.faults import fault

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


class Hosts:
    """The same database, seen with one list of keys or the other."""

    def __init__(self, settings: Settings, patch: pytest.MonkeyPatch) -> None:
        self._settings, self._patch = settings, patch

    def use(self, *keys: str) -> None:
        self._settings.FIELD_ENCRYPTION_KEY = list(keys)
        self._patch.setattr(encrypted, "CRYPTER", MultiFernet([Fernet(key) for key in keys]))


@pytest.fixture
def hosts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    found = Hosts(settings, monkeypatch)
    found.use(OLD)
    return found


def _everything() -> list[object]:
    return [
        list(TokenSet.objects.order_by("pk").values()),
        list(Connection.objects.order_by("pk").values()),
        AuditRecord.objects.count(),
    ]


@fault("F20")
def test_a_host_with_an_old_key_list_claims_sends_and_changes_nothing(
    world: World, alice: User, now: datetime, hosts: Hosts
) -> None:
    connection = world.connect(alice, now=now)
    register_keys()
    hosts.use(NEW, OLD)
    rotate_keys(now=now)
    before, due = _everything(), now + timedelta(hours=1)

    hosts.use(OLD)
    for attempt in (
        lambda: refresh_connection(connection, now=due, trigger="schedule"),
        lambda: refresh_connection(connection, now=due, trigger="request"),
        lambda: usable_access_token(connection, now=now),
        lambda: usable_access_token(connection, now=due),
    ):
        with pytest.raises(SecretUnreadableError):
            attempt()
    assert refresh_due(now=due)["refreshed"] == 0
    assert world.authorization_server.refresh_requests == []
    assert _everything() == before

    hosts.use(NEW, OLD)
    assert refresh_due(now=due) == {"refreshed": 1, "failed": 0}


def test_a_damaged_row_is_shown_and_a_refresh_of_it_is_not_claimed(
    world: World, alice: User, now: datetime, hosts: Hosts
) -> None:
    connection = world.connect(alice, now=now)
    register_keys()
    TokenSet.objects.update(refresh_token_sealed=TokenSet.objects.get().access_token_sealed.ciphertext)
    before = TokenSet.objects.values().get()

    with pytest.raises(SecretUnreadableError):
        refresh_connection(connection, now=now, trigger="request")

    assert TokenSet.objects.values().get() == before
    assert Connection.objects.get().status == "key_unavailable"
    assert world.authorization_server.refresh_requests == []
