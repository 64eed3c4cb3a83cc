"""When something was last used. Nobody is kept waiting, or refused, because that cannot be noted. R7."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import InterfaceError, InternalError, OperationalError, models, transaction
from django.db.models import Q

_RESOLUTION: Final = timedelta(minutes=1)
_log = structlog.get_logger(__name__)


def note_use(used: Any, *, now: datetime) -> None:
    """Set `last_used_at` of a row, at most once a minute, so that use does not write each time; `now` is aware UTC."""
    stale = now - _RESOLUTION
    if used.last_used_at is not None and used.last_used_at >= stale:
        return
    rows: models.QuerySet[Any] = type(used).objects.filter(
        Q(last_used_at__isnull=True) | Q(last_used_at__lt=stale), pk=used.pk
    )
    try:
        with transaction.atomic():
            rows.update(last_used_at=now)
    except (OperationalError, InternalError, InterfaceError) as error:
        _log.info("a use was not noted", exception=type(error).__name__)
    used.last_used_at = now
