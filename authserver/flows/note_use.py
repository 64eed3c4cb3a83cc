"""When a client and a grant were last used, to the minute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction

from ..models import Consent, McpClient
from ..protocol.opaque import read_opaque
from ..statements import StoredClient


def note_use(client: StoredClient, form: Mapping[str, str], *, now: datetime) -> None:
    """Note that a client got tokens; what registered itself lives on for having been used."""
    presented = read_opaque(form.get("refresh_token") or form.get("code") or "")
    with transaction.atomic():
        McpClient.objects.filter(pk=client.id).update(last_used_at=now)
        if presented is not None:
            used = Consent.objects.filter(token_families=presented.family_id, client_id=client.id)
            Consent.objects.filter(pk__in=list(used.values_list("pk", flat=True))).update(last_used_at=now)
