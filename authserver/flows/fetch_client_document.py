"""Fetch what a client publishes about itself: its metadata document, and its keys."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from audit.events import AuditEvent
from audit.record import record
from oauthflow.egress import Egress, Limits
from oauthflow.protocol.errors import BlockedUrlError, FlowError
from oauthflow.protocol.messages import Request, Response
from oauthflow.protocol.urls import parse_http_url

from ..conf import authserver_configuration
from ..models import McpClient
from ..protocol.client_document import document_lifetime_seconds, read_client_document, read_client_keys
from ..protocol.errors import InvalidClientMetadataError, OAuthError, UnknownClientError
from ..protocol.registration import RegisteredMetadata
from ..rate_limit import take

_HOUR: Final = 60 * 60


def fetch_document(client_id: str, *, now: datetime) -> tuple[RegisteredMetadata, int]:
    """Return what the document at a client id says, and for how many seconds that may be believed.

    Raises:
        UnknownClientError: It cannot be fetched or read.
        TooManyRequestsError: Too much of that host was fetched.
    """
    response = _get(client_id, client_id=client_id, step="client document", now=now)
    try:
        metadata = read_client_document(response, client_id=client_id)
    except InvalidClientMetadataError as error:
        _record_failure(client_id, error)
        raise UnknownClientError("The description of this program could not be read.", detail=str(error)) from error
    return metadata, document_lifetime_seconds(response.headers)


def fetch_keys(jwks_uri: str, *, client_id: str, now: datetime) -> tuple[dict[str, object], int]:
    """Return a client's key set, and for how many seconds it may be believed.

    Raises:
        UnknownClientError: It cannot be fetched or read.
        TooManyRequestsError: Too much of that host was fetched.
    """
    response = _get(jwks_uri, client_id=client_id, step="client keys", now=now)
    try:
        keys = read_client_keys(response)
    except InvalidClientMetadataError as error:
        _record_failure(client_id, error)
        raise UnknownClientError("The keys of this program could not be read.", detail=str(error)) from error
    return keys, document_lifetime_seconds(response.headers)


def _get(url: str, *, client_id: str, step: str, now: datetime) -> Response:
    host = parse_http_url(url).host
    take("document", who=host, limit=authserver_configuration().documents_of_a_host, seconds=_HOUR, now=now)
    try:
        return Egress().send(Request("GET", url), limits=Limits.CLIENT_METADATA, step=step)
    except FlowError as error:
        _record_failure(client_id, error)
        raise UnknownClientError("The description of this program could not be read.", detail=str(error)) from error


def _record_failure(client_id: str, error: FlowError | OAuthError) -> None:
    blocked = isinstance(error, BlockedUrlError)
    code = error.error if isinstance(error, OAuthError) else str(error.code)
    record(
        AuditEvent.EGRESS_BLOCKED if blocked else AuditEvent.CLIENT_REGISTRATION_FAILED,
        client=client_id,
        reason=code,
        details={"kind": McpClient.Kind.METADATA_DOCUMENT, "code": code},
    )
