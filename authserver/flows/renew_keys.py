"""A client that publishes its keys has signed with a new one: look it up before it is refused."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db.models import Q

from ..models import McpClient
from ..protocol.client_proof import read_client_proof, unverified_key_id
from ..protocol.errors import OAuthError
from ..protocol.form_request import FormRequest, read_form
from ..rate_limit import take
from .fetch_client_document import fetch_keys

_EVERY_SECONDS: Final = 300


def renew_keys(request: FormRequest, *, now: datetime) -> None:
    """Fetch the keys of the client that a request names, if it shows a key that is not known here. Refuses nothing.

    Anybody can name a client and a key: only of those that somebody has allowed or an administrator has entered
    anything is fetched, once in five minutes, within the budget of the host. No transaction may be open.

    Spec: RFC 7591 §2 `jwks_uri`; security notes AS04.
    """
    if b"client_assertion=" not in request.body:
        return
    try:
        proof = read_client_proof(read_form(request), authorization=request.authorization)
        key_id = unverified_key_id(proof)
        client = _publishing(proof.client_id, now=now)
        if client is None or key_id is None or key_id in _known(client):
            return
        take("client keys", who=client.client_id, limit=1, seconds=_EVERY_SECONDS, now=now)
        keys, _ = fetch_keys(client.jwks_uri, client_id=client.client_id, now=now)
    except OAuthError:
        return  # whoever answers the request finds the same, and says so
    McpClient.objects.filter(pk=client.pk, jwks_uri=client.jwks_uri).update(jwks=keys)


def _publishing(client_id: str, *, now: datetime) -> McpClient | None:
    trusted = Q(last_used_at__isnull=False) | Q(kind=McpClient.Kind.PRE_REGISTERED)
    publishing = McpClient.objects.usable(now=now).filter(trusted).exclude(jwks_uri="")
    return publishing.filter(
        client_id=client_id, token_endpoint_auth_method=McpClient.AuthMethod.PRIVATE_KEY_JWT
    ).first()


def _known(client: McpClient) -> set[object]:
    keys = (client.jwks or {}).get("keys")
    return {key.get("kid") for key in keys if isinstance(key, dict)} if isinstance(keys, list) else set()
