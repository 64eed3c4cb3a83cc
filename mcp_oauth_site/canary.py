"""Refuse to start without the keys that the stored secrets were sealed with. K02, K03, F20."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from connections.key_canary import ensure_keys_open
from connections.key_fingerprints import KeyInUseError, missing_keys
from connections.key_rotation import ensure_keys_suffice
from oauthflow.protocol.errors import SecretUnreadableError


def key_canary_opens() -> bool:
    """Say whether this host opens what the site sealed at its first start and has every key that a host seals with."""
    return _canary_opens() and not missing_keys()


def require_key_canary() -> None:
    """Plant the canary in a new database; refuse to start where keys are missing.

    Raises:
        ImproperlyConfigured: The configured keys do not open the canary, or stored secrets need a key that was removed.
    """
    if not _canary_opens():
        raise ImproperlyConfigured(
            "FIELD_ENCRYPTION_KEY does not open the secrets in this database; add the key that sealed them to the list."
        )
    try:
        ensure_keys_suffice()
    except KeyInUseError as error:
        raise ImproperlyConfigured(
            f"FIELD_ENCRYPTION_KEY lacks a key that {error.values} stored secrets need ({', '.join(error.missing)});"
            " put it back behind the first and run manage.py rotate_encryption_keys before you remove it."
        ) from error


def _canary_opens() -> bool:
    try:
        ensure_keys_open()
    except SecretUnreadableError:
        return False
    return True
