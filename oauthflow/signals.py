"""Django signals, one for each event: for code that runs beside the site. Public contract, section 6.

Each is sent with `event`, an `oauthflow.models.Event`, in the process where it happened and after its commit. A
receiver that fails is logged by Django and disturbs nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.dispatch import Signal

from .models import EventType

authorization_required: Final = Signal()
authorization_completed: Final = Signal()
authorization_failed: Final = Signal()
token_refreshed: Final = Signal()
token_expiring_soon: Final = Signal()
token_refresh_failed: Final = Signal()
reauthorization_required: Final = Signal()
credentials_revoked: Final = Signal()
client_secret_expiring: Final = Signal()
issuer_changed: Final = Signal()

SIGNALS: Final[Mapping[str, Signal]] = {
    EventType.AUTHORIZATION_REQUIRED: authorization_required,
    EventType.AUTHORIZATION_COMPLETED: authorization_completed,
    EventType.AUTHORIZATION_FAILED: authorization_failed,
    EventType.TOKEN_REFRESHED: token_refreshed,
    EventType.TOKEN_EXPIRING_SOON: token_expiring_soon,
    EventType.TOKEN_REFRESH_FAILED: token_refresh_failed,
    EventType.REAUTHORIZATION_REQUIRED: reauthorization_required,
    EventType.CREDENTIALS_REVOKED: credentials_revoked,
    EventType.CLIENT_SECRET_EXPIRING: client_secret_expiring,
    EventType.ISSUER_CHANGED: issuer_changed,
}
