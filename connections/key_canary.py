"""Notice a wrong encryption key at start, before anything is read or written with it. K03."""

from __future__ import annotations

import uuid
from typing import Final

from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret

from .models import KeyCanary

_ROW: Final = uuid.UUID("6b657973-0000-4000-8000-000000000001")
_WORD: Final = "open"


def forget_unreadable_canary() -> None:
    """Make room for a new canary where the key of the old one was given up for good."""
    try:
        ensure_keys_open()
    except SecretUnreadableError:
        KeyCanary.objects.all().delete()


def ensure_keys_open() -> None:
    """Open the canary with the configured keys; the first start of a site writes it.

    Raises:
        SecretUnreadableError: It does not open: `FIELD_ENCRYPTION_KEY` is not the key this site's data was sealed with.
            Nothing is changed. The caller ends the process and names the variable.
    """
    canary = KeyCanary.objects.filter(pk=_ROW).first()
    if canary is None:
        fresh = KeyCanary(pk=_ROW)
        fresh.canary_sealed = Secret(_WORD)
        # Another process may be starting too; whoever was first has written it.
        KeyCanary.objects.bulk_create([fresh], ignore_conflicts=True)
        canary = KeyCanary.objects.get(pk=_ROW)
    if canary.canary_sealed.reveal() != Secret(_WORD):
        raise SecretUnreadableError("the key canary holds something else")
