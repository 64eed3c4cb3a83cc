"""Make the answer that a family's client gets."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Final

from ..conf import authserver_configuration
from ..protocol.token_response import TokenResponse
from ..statements import StoredClient, StoredFamily
from ..tokens import mint_access_token, new_jti

_RANDOM_BYTES: Final = 16


def mint_for_family(
    family: StoredFamily, *, client: StoredClient, scope: str, refresh_token: str, now: datetime
) -> TokenResponse:
    """Sign an access token of this family, and put the answer together."""
    issued_at, seconds = int(now.timestamp()), authserver_configuration().access_token_seconds
    access_token = mint_access_token(
        subject=family.subject,
        client_id=client.client_id,
        audience=family.resource,
        scope=scope,
        jti=new_jti(family.id, os.urandom(_RANDOM_BYTES)),
        issued_at=issued_at,
        seconds=seconds,
    )
    return TokenResponse(access_token, issued_at + seconds, scope, refresh_token)
