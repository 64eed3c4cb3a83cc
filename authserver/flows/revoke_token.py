"""A client gives a token back. RFC 7009."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db import transaction

from audit.events import AuditEvent
from audit.record import record

from ..models import TokenFamily
from ..protocol.errors import InvalidRequestError, InvalidTokenError
from ..protocol.opaque import read_opaque, was_issued
from ..statements import StoredClient, find_family
from ..tokens import read_signed
from .end_tokens import end_families, revoke_values


def revoke_token(form: Mapping[str, str], *, client: StoredClient, now: datetime) -> None:
    """End a token and all that belongs to it, in both directions; what is not the client's stays as it is.

    Args:
        form: Of `read_form`; `token` is needed, `token_type_hint` is of no use to us.
        client: Authenticated.
        now: Aware UTC.

    Raises:
        InvalidRequestError: No token. RFC 7009 §2.2: everything else is answered as if it had been revoked.

    Spec: RFC 7009 §2.1, §2.2. AS14.
    """
    if "token" not in form:
        raise InvalidRequestError("The parameter token is missing.")
    family_id = _family_of_refresh_token(form["token"], client=client)
    if family_id is None:
        try:
            token = read_signed(form["token"])
        except InvalidTokenError:
            return
        if token.client_id != client.client_id:
            return
        if token.subject == client.client_id:
            revoke_values([token.jti], now=now)
            return
        family_id = UUID(token.family)
    with transaction.atomic():
        families = TokenFamily.objects.filter(pk=family_id, client_id=client.id)
        if end_families(families, reason="revoked_by_client", now=now):
            family = families.get()
            record(
                AuditEvent.CLIENT_GRANT_REVOKED,
                actor=family.user_id,
                client=client.client_id,
                reason="revoked_by_client",
                details={"resource": family.resource},
            )


def _family_of_refresh_token(text: str, *, client: StoredClient) -> UUID | None:
    presented = read_opaque(text)
    family = find_family(presented.family_id) if presented else None
    if presented is None or family is None or family.client_id != client.id:
        return None
    return family.id if was_issued(presented, marking_key=family.marking_key) else None
