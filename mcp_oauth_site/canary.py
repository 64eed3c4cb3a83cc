"""Notices at the start that the encryption key is not the one the stored secrets were sealed with."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from connections.models import KeyCanary
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret

_WORD = "canary"


def key_canary_opens() -> bool:
    """Say whether the stored canary opens; without one there is nothing to contradict the key."""
    canary = KeyCanary.objects.order_by("created_at").first()
    try:
        return canary is None or canary.canary_sealed.reveal().reveal() == _WORD
    except SecretUnreadableError:
        return False


def require_key_canary() -> None:
    """Plant the canary in a new database; refuse to start where an older one does not open. K03.

    Raises:
        ImproperlyConfigured: The configured keys open nothing that is stored.
    """
    with transaction.atomic():
        if not KeyCanary.objects.exists():
            canary = KeyCanary()
            canary.canary_sealed = Secret(_WORD)
            canary.save()
    if not key_canary_opens():
        raise ImproperlyConfigured(
            "FIELD_ENCRYPTION_KEY does not open the secrets in this database; add the key that sealed them to the list."
        )
