"""A program registers itself, and later reads, changes or ends its registration. RFC 7591, RFC 7592."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from audit.events import AuditEvent
from audit.record import record
from oauthflow.egress import Egress
from oauthflow.protocol.client_auth import SECRET_METHODS
from oauthflow.protocol.errors import FlowError
from oauthflow.protocol.secret import Secret

from ..conf import authserver_configuration
from ..models import Consent, McpClient, RegistrationToken, hash_of_secret, new_client_secret
from ..protocol.errors import (
    InvalidClientMetadataError,
    InvalidTokenError,
    OAuthError,
    RegistrationClosedError,
    TemporarilyUnavailableError,
)
from ..protocol.redirect_uri import shown_host
from ..protocol.registration import RegisteredMetadata, read_registration
from ..rate_limit import take
from .end_grants import end_client, end_consents

_HOUR: Final = 60 * 60
_DAY: Final = 24 * _HOUR
# What a client may not set for itself. RFC 7592 §2.2.
_OURS: Final = (
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
)


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration, and the secrets that are told this once."""

    client: McpClient
    client_secret: Secret | None
    registration_access_token: Secret


def register_client(body: bytes, *, address: str, initial_access_token: Secret, now: datetime) -> Registered:
    """Register a program that asks for it.

    Args:
        body: JSON of RFC 7591 §2; at most 16 KiB.
        address: Network address that the request came from, for the limits.
        initial_access_token: What came with it; empty where nothing did.
        now: Aware UTC.

    Raises:
        RegistrationClosedError: Nobody registers here.
        InvalidTokenError: The policy wants a token of an administrator, and this is none.
        TooManyRequestsError: This address, or everybody together, asked too often.
        InvalidClientMetadataError: The metadata is not what we take.
        TemporarilyUnavailableError: There are as many clients in use as there may be.

    Spec: RFC 7591 §3; security notes AS02. X-10.
    """
    try:
        # Counted before anything is refused: each refusal is a record, and nobody fills that by asking.
        limits = authserver_configuration()
        take("registration", who=address, limit=limits.registrations_of_an_address, seconds=_HOUR, now=now)
        _require_allowed(initial_access_token, now=now)
        take("registration", limit=limits.registrations_a_day, seconds=_DAY, now=now)
        metadata, _ = read_registration(body)
        _require_reachable_keys(metadata)
        return _registered(metadata, now=now)
    except OAuthError as error:
        if error.status in (400, 401, 403, 503):
            details = {"code": error.error, "kind": McpClient.Kind.DYNAMIC, "host": address}
            record(AuditEvent.CLIENT_REGISTRATION_FAILED, reason=error.description, details=details)
        raise


def find_registration(client_id: str, *, token: Secret, now: datetime) -> McpClient:
    """Return the client that a registration access token belongs to.

    Raises:
        InvalidTokenError: Unknown client or another's token; both look the same.

    Spec: RFC 7592 §2, §3.
    """
    # PostgreSQL fails when it is asked to look for a NUL; none of our ids holds anything but plain characters.
    named = McpClient.objects.filter(client_id=client_id) if client_id.isprintable() else McpClient.objects.none()
    found = named.usable(now=now).filter(kind=McpClient.Kind.DYNAMIC).first()
    held = found.registration_access_token_hash if found else ""
    if not hmac.compare_digest(held, hash_of_secret(token)) or found is None:
        raise InvalidTokenError("The registration access token is not good for this client.")
    return found


def update_registration(client: McpClient, body: bytes, *, now: datetime) -> Secret | None:
    """Replace the metadata of a client; what people relied on and changed ends their grants.

    Returns:
        A new client secret where the new method needs one and there was none.

    Raises:
        InvalidClientMetadataError: The metadata is not what we take, or is that of another client.
        InvalidTokenError: The client was blocked or ended meanwhile.

    Spec: RFC 7592 §2.2; security notes AS04.
    """
    metadata, document = read_registration(body)
    _require_own(client, document)
    _require_reachable_keys(metadata)
    with transaction.atomic():
        _read_again(client, now=now)
        changed = client.document_hash != metadata.fingerprint
        secret = _take_over(client, metadata)
        client.save()
        if changed:
            end_consents(Consent.objects.filter(client=client), reason="client_changed", actor=None, now=now)
    return secret


def _read_again(client: McpClient, *, now: datetime) -> None:
    """Under a lock: what an administrator decided about the client since it was read is not written over."""
    try:
        client.refresh_from_db(from_queryset=McpClient.objects.usable(now=now).select_for_update(no_key=True))
    except McpClient.DoesNotExist:
        raise InvalidTokenError("The client was blocked or ended.") from None


def delete_registration(client: McpClient, *, now: datetime) -> None:
    """End a registration with everything issued to it. RFC 7592 §2.3."""
    end_client(client, reason="client_deleted_itself", actor=None, now=now)


def apply_metadata(client: McpClient, metadata: RegisteredMetadata) -> None:
    """Set the columns that metadata decides."""
    client.name, client.client_uri = metadata.name, metadata.client_uri
    client.redirect_uris, client.grant_types = list(metadata.redirect_uris), list(metadata.grant_types)
    client.token_endpoint_auth_method = metadata.auth_method
    client.jwks, client.jwks_uri = metadata.jwks, metadata.jwks_uri
    if client.document_hash != metadata.fingerprint:
        client.verified = False
    client.document_hash = metadata.fingerprint


def _require_allowed(initial_access_token: Secret, *, now: datetime) -> None:
    policy = authserver_configuration().registration
    if policy == "off":
        raise RegistrationClosedError("Programs do not register themselves here.")
    if policy == "open":
        return
    valid = RegistrationToken.objects.valid(now=now).filter(token_hash=hash_of_secret(initial_access_token))
    if not valid.update(last_used_at=now):
        raise InvalidTokenError("Registration needs an initial access token of an administrator.")


def _require_reachable_keys(metadata: RegisteredMetadata) -> None:
    """The address of its keys is fetched when it authenticates; one inside our network is refused now. AS02, U-01."""
    if not metadata.jwks_uri:
        return
    try:
        Egress().require_allowed(metadata.jwks_uri, step="client keys")
    except FlowError as error:
        raise InvalidClientMetadataError("jwks_uri is not an address that may be fetched") from error


def _registered(metadata: RegisteredMetadata, *, now: datetime) -> Registered:
    token = new_client_secret()
    client = McpClient(
        client_id=f"client_{secrets.token_urlsafe(24)}",
        kind=McpClient.Kind.DYNAMIC,
        registration_access_token_hash=hash_of_secret(token),
        expires_at=now + timedelta(hours=authserver_configuration().unused_client_hours),
    )
    secret = _take_over(client, metadata)
    with transaction.atomic():
        _make_room()
        client.save(force_insert=True)
        record(
            AuditEvent.CLIENT_REGISTERED,
            client=client.client_id,
            details={
                "kind": client.kind,
                "label": client.name,
                "host": [shown_host(uri) for uri in metadata.redirect_uris],
                "auth_method": client.token_endpoint_auth_method,
            },
        )
    return Registered(client, secret, token)


def _take_over(client: McpClient, metadata: RegisteredMetadata) -> Secret | None:
    apply_metadata(client, metadata)
    if metadata.auth_method not in SECRET_METHODS:
        client.client_secret_hash = ""
        return None
    if client.client_secret_hash:
        return None
    secret = new_client_secret()
    client.client_secret_hash = hash_of_secret(secret)
    return secret


def _make_room() -> None:
    """Let the oldest client that nobody ever allowed anything go where there are too many. AS02."""
    most = authserver_configuration().most_clients
    dynamic = McpClient.objects.filter(kind=McpClient.Kind.DYNAMIC, ended_at__isnull=True)
    excess = dynamic.count() - most + 1
    if excess <= 0:
        return
    unused = dynamic.filter(last_used_at__isnull=True).order_by("created_at", "pk")[:excess]
    going = list(unused.values_list("pk", flat=True))
    McpClient.objects.filter(pk__in=going).delete()
    if len(going) < excess:
        raise TemporarilyUnavailableError("There are too many clients here already.", retry_after_seconds=_HOUR)


def _require_own(client: McpClient, document: dict[str, Any]) -> None:
    if document.get("client_id") != client.client_id or any(name in document for name in _OURS):
        raise InvalidClientMetadataError("client_id has to be the client's own, and nothing of ours may be set")
    said = document.get("client_secret")
    if said is not None and (
        not isinstance(said, str) or not hmac.compare_digest(client.client_secret_hash, hash_of_secret(Secret(said)))
    ):
        raise InvalidClientMetadataError("client_secret cannot be chosen")
