"""Find the client that a client id stands for, fetching its metadata document where the id is an address."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from django.db import transaction

from audit.events import AuditEvent
from audit.record import record
from oauthflow.protocol.urls import parse_http_url

from ..conf import authserver_configuration
from ..models import Consent, McpClient
from ..protocol.client_document import is_document_url
from ..protocol.errors import UnknownClientError
from ..protocol.redirect_uri import shown_host
from ..protocol.registration import RegisteredMetadata
from .end_grants import end_consents
from .fetch_client_document import fetch_document, fetch_keys
from .register_client import apply_metadata


def needs_document(client_id: str) -> bool:
    """Whether nothing is known of a client before its document was looked at."""
    return client_id.startswith("https://")


def known_client(client_id: str, *, now: datetime) -> McpClient:
    """Return a client that is here already; no network.

    Raises:
        UnknownClientError: Nobody, or nobody any more.
    """
    client = McpClient.objects.usable(now=now).filter(client_id=client_id).first()
    if client is None or client.client_id != client_id:
        raise UnknownClientError("Nobody knows this program here. It has to register again.")
    return client


def resolve_client(client_id: str, *, now: datetime) -> McpClient:
    """Return the client, with its document as it is now. Call it for people who are signed in, and for nobody else.

    Raises:
        UnknownClientError: Nobody knows it, it is blocked, or its document is not what we take.
        TooManyRequestsError: Too many documents of that host were fetched.

    Spec: Client ID Metadata Document draft §3, §4; security notes AS04. R-08 to R-13.
    """
    if not needs_document(client_id):
        return _with_keys(known_client(client_id, now=now), now=now)
    if not is_document_url(client_id) or not _is_welcome(client_id):
        raise UnknownClientError("The address of this program is not one that is taken here.")
    held = McpClient.objects.filter(client_id=client_id).first()
    if held is not None and not held.is_usable(now=now):
        raise UnknownClientError("This program is blocked here.")
    if held is not None and held.document_expires_at is not None and held.document_expires_at > now:
        return held
    metadata, seconds = _fetched(client_id, now=now)
    return _kept(client_id, metadata, until=now + timedelta(seconds=seconds), now=now)


def _is_welcome(client_id: str) -> bool:
    hosts = authserver_configuration().document_hosts
    return not hosts or parse_http_url(client_id).host in hosts


def _fetched(client_id: str, *, now: datetime) -> tuple[RegisteredMetadata, int]:
    """Nothing of a failure is kept: the next person's visit asks anew, within the budget of the host."""
    metadata, seconds = fetch_document(client_id, now=now)
    if metadata.jwks_uri:
        metadata = replace(metadata, fetched_keys=fetch_keys(metadata.jwks_uri, client_id=client_id, now=now)[0])
    return metadata, seconds


def _with_keys(client: McpClient, *, now: datetime) -> McpClient:
    """Look up keys that a registered client keeps at an address, while somebody who is signed in asks for it."""
    is_known = client.jwks is not None and client.document_expires_at is not None and client.document_expires_at > now
    if not client.jwks_uri or is_known:
        return client
    client.jwks, seconds = fetch_keys(client.jwks_uri, client_id=client.client_id, now=now)
    client.document_expires_at = now + timedelta(seconds=seconds)
    client.save(update_fields=["jwks", "document_expires_at"])
    return client


def _kept(client_id: str, metadata: RegisteredMetadata, *, until: datetime, now: datetime) -> McpClient:
    with transaction.atomic():
        McpClient.objects.bulk_create(
            [McpClient(client_id=client_id, kind=McpClient.Kind.METADATA_DOCUMENT)], ignore_conflicts=True
        )
        client = McpClient.objects.select_for_update(no_key=True).get(client_id=client_id)
        is_new, changed = not client.document_hash, client.document_hash != metadata.fingerprint
        apply_metadata(client, metadata)
        client.jwks = metadata.jwks or metadata.fetched_keys
        client.document_expires_at = until
        client.save()
        if changed and not is_new:
            # What people agreed to is not what is there now. AS04.
            end_consents(Consent.objects.filter(client=client), reason="client_changed", actor=None, now=now)
        if changed:
            record(
                AuditEvent.CLIENT_REGISTERED,
                client=client_id,
                details={
                    "kind": client.kind,
                    "label": client.name,
                    "host": [shown_host(uri) for uri in metadata.redirect_uris],
                },
            )
    return client
