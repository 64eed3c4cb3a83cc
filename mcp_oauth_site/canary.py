"""Refuse to start with an encryption key that is not the one the stored secrets were sealed with. K03."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from connections.key_canary import ensure_keys_open
from oauthflow.protocol.errors import SecretUnreadableError


def key_canary_opens() -> bool:
    """Say whether the configured keys open what this site sealed at its first start."""
    try:
        ensure_keys_open()
    except SecretUnreadableError:
        return False
    return True


def require_key_canary() -> None:
    """Plant the canary in a new database; refuse to start where an older one does not open.

    Raises:
        ImproperlyConfigured: The configured keys open nothing that is stored.
    """
    if not key_canary_opens():
        raise ImproperlyConfigured(
            "FIELD_ENCRYPTION_KEY does not open the secrets in this database; add the key that sealed them to the list."
        )
