"""Which way to get a client id, and dynamic registration. RFC 7591, RFC 7592 §2.3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .client_auth import AUTH_METHODS, AUTO, BASIC, NONE, SECRET_METHODS
from .client_metadata import is_metadata_document_url
from .codes import Code
from .errors import FlowError, InvalidRequestError, MalformedResponseError, NoClientError, RegistrationError
from .json_documents import read_json_object
from .messages import Request, Response
from .metadata import AuthorizationServerMetadata
from .retry_after import require_available
from .secret import Secret
from .urls import parse_http_url

_REGISTERED_STATUSES = frozenset({200, 201})
# Registration is closed, wants a token that we do not have, or is not there in spite of the metadata.
_CLOSED_STATUSES = frozenset({401, 403, 404, 405})
# Of a deletion: RFC 7592 §2.3 has 401 for a client that is not there, 403 and 405 where it may not delete itself.
_UNKNOWN_CLIENT_STATUSES = frozenset({401, 404, 410})
_UNDELETABLE_STATUSES = frozenset({403, 405})
_REFUSALS: Mapping[str, Code] = {
    "invalid_redirect_uri": Code.INVALID_REDIRECT_URI,
    "invalid_client_metadata": Code.INVALID_CLIENT_METADATA,
    "invalid_software_statement": Code.INVALID_CLIENT_METADATA,
    "unapproved_software_statement": Code.INVALID_CLIENT_METADATA,
}
# RFC 6749 appendix A.1, A.2: VSCHAR, with limits of ours.
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,2048}")
_SECRET = re.compile(r"[\x20-\x7e]{1,4096}")
_ACCESS_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_LONGEST_MANAGEMENT_URI = 1000
# As seconds this is the year 5138; as milliseconds it is 1973. Some servers send milliseconds.
_FIRST_MILLISECONDS = 100_000_000_000
_LAST_SECONDS = 253_402_300_799


class RegistrationMethod(StrEnum):
    """How we came to be known to an authorization server."""

    PRE_REGISTERED = "pre_registered"
    METADATA_DOCUMENT = "metadata_document"
    DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """What a registration gave us.

    Attributes:
        client_id: Ours at this issuer and at no other.
        client_secret: None for a public client.
        secret_expires_at: Aware UTC; None where the secret does not expire or there is none.
        auth_method: As registered; what was requested, where the server did not say.
        registration_client_uri: Where the registration can be deleted; None unless on the issuer's own origin.
        registration_access_token: Opens that; None whenever the URI is None.
    """

    client_id: str
    client_secret: Secret | None
    secret_expires_at: datetime | None
    auth_method: str
    registration_client_uri: str | None
    registration_access_token: Secret | None


def choose_registration(
    *, policy: str, has_client_id: bool, metadata: AuthorizationServerMetadata, metadata_document_url: str | None
) -> RegistrationMethod:
    """Choose how to be known to an authorization server.

    Args:
        policy: A `RegistrationMethod` value that an administrator insists on, or `auto`.
        has_client_id: Whether an administrator entered a client id for this very issuer.
        metadata: Of the authorization server.
        metadata_document_url: Where our own document is; None or unusable rules it out.

    Raises:
        NoClientError: No way, or not the one insisted on; the detail says what is missing.
        InvalidRequestError: Unknown policy.

    Spec: MCP 2026-07-28 client registration; Client ID Metadata Document draft-00 §5. R-02, R-03, R-04, R-14, R-15.
    """
    missing = {
        RegistrationMethod.PRE_REGISTERED: "" if has_client_id else "no client id has been entered",
        RegistrationMethod.METADATA_DOCUMENT: _document_obstacle(metadata, metadata_document_url),
        RegistrationMethod.DYNAMIC: "" if metadata.registration_endpoint else "the server registers no clients",
    }
    if policy != AUTO:
        if policy not in set(RegistrationMethod):
            raise InvalidRequestError("registration policy unknown")
        method = RegistrationMethod(policy)
        if missing[method]:
            raise NoClientError(f"{method}: {missing[method]}")
        return method
    # The dictionary is in the order of preference.
    for method, obstacle in missing.items():
        if not obstacle:
            return method
    raise NoClientError("; ".join(missing.values()))


def _document_obstacle(metadata: AuthorizationServerMetadata, url: str | None) -> str:
    if not metadata.client_id_metadata_document_supported:
        return "the server does not accept client metadata documents"
    if not url or not is_metadata_document_url(url):
        return "our client metadata document has no public https address"
    return ""


def registration_request(endpoint: str, *, client: Mapping[str, object]) -> Request:
    """Make the request that registers us.

    Args:
        endpoint: `registration_endpoint`.
        client: From `client_metadata`.

    Spec: RFC 7591 §3.1. R-16.
    """
    return Request("POST", endpoint, headers={"Accept": "application/json"}, json=dict(client))


def read_registration_response(
    response: Response, *, redirect_uri: str, issuer: str, requested_auth_method: str = BASIC
) -> RegisteredClient:
    """Check a registration's response and return what we are known as.

    Args:
        response: Complete response to a registration request.
        redirect_uri: The only one we asked for.
        issuer: Of the authorization server.
        requested_auth_method: Taken as registered where the server does not say; RFC 7591 §2 has the default.

    Raises:
        RegistrationError: Refused, with a code of our fixed list; or registered for other redirect URIs, or with an
            authentication method we cannot use.
        NoClientError: The server does not register clients by itself.
        ServerUnavailableError: Status 408, 429 or 5xx; `.retry_after` in seconds.
        MalformedResponseError: Not a registration response.

    Spec: RFC 7591 §3.2.1, §3.2.2, §5; RFC 7592 §3. R-17, R-18.
    """
    require_available(response)
    if 400 <= response.status < 500:
        raise _refusal(response)
    if response.status not in _REGISTERED_STATUSES:
        raise MalformedResponseError(f"registration endpoint answered with status {response.status}")
    document = read_json_object(response)
    _require_redirect_uri(document.get("redirect_uris"), redirect_uri=redirect_uri)
    secret = _optional_text(document, "client_secret", pattern=_SECRET)
    auth_method = _auth_method(
        document.get("token_endpoint_auth_method"), requested=requested_auth_method, has_secret=secret is not None
    )
    # A public client has no use for a secret, and what is not kept cannot leak.
    kept = secret if auth_method in SECRET_METHODS else None
    expires_at = _secret_expires_at(document.get("client_secret_expires_at"))
    management_uri, management_token = _management(document, issuer=issuer)
    return RegisteredClient(
        client_id=_client_id(document.get("client_id")),
        client_secret=Secret(kept) if kept else None,
        secret_expires_at=expires_at if kept else None,
        auth_method=auth_method,
        registration_client_uri=management_uri,
        registration_access_token=management_token,
    )


def deletion_request(uri: str, *, registration_access_token: Secret) -> Request:
    """Make the request that deletes a registration of ours.

    Spec: RFC 7592 §2.3.
    """
    return Request("DELETE", uri, headers={"Authorization": f"Bearer {registration_access_token.reveal()}"})


def read_deletion_response(response: Response) -> bool:
    """Say whether a registration is gone; one that the server does not know any more counts as gone.

    Returns:
        False where the server lets no client delete itself.

    Raises:
        ServerUnavailableError: Status 408, 429 or 5xx; try again after `.retry_after` seconds.
        MalformedResponseError: Anything else.

    Spec: RFC 7592 §2.3.
    """
    require_available(response)
    if 200 <= response.status < 300 or response.status in _UNKNOWN_CLIENT_STATUSES:
        return True
    if response.status in _UNDELETABLE_STATUSES:
        return False
    raise MalformedResponseError(f"client configuration endpoint answered with status {response.status}")


def _refusal(response: Response) -> RegistrationError:
    try:
        error = read_json_object(response).get("error")
    except MalformedResponseError:
        error = None
    if isinstance(error, str) and error in _REFUSALS:
        return RegistrationError(f"registration refused: {error}", code=_REFUSALS[error])
    if response.status in _CLOSED_STATUSES:
        return NoClientError(f"registration endpoint answered with status {response.status}")
    return RegistrationError(f"registration refused with status {response.status} and no listed error")


def _require_redirect_uri(value: Any, *, redirect_uri: str) -> None:
    # RFC 7591 §3.2.1 has the server repeat them; many do not. Another one beside ours would take our codes elsewhere.
    if value is not None and value != [redirect_uri]:
        raise RegistrationError("registered for other redirect URIs than asked", code=Code.INVALID_REDIRECT_URI)


def _client_id(value: Any) -> str:
    if not isinstance(value, str) or not _CLIENT_ID.fullmatch(value):
        raise MalformedResponseError("registration response without a usable client_id")
    return value


def _optional_text(document: Mapping[str, Any], name: str, *, pattern: re.Pattern[str]) -> str | None:
    value = document.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MalformedResponseError(f"registration response with an unusable {name}")
    return value


def _auth_method(value: Any, *, requested: str, has_secret: bool) -> str:
    if value is None:
        # Silent servers accept what was asked for, or register a public client and give no secret.
        return NONE if requested in SECRET_METHODS and not has_secret else requested
    if not isinstance(value, str) or value not in AUTH_METHODS:
        raise RegistrationError("registered with an authentication method that is not ours")
    if value in SECRET_METHODS and not has_secret:
        raise RegistrationError("registered for a client secret, and none was given")
    return value


def _secret_expires_at(value: Any) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise MalformedResponseError("registration response with an unusable client_secret_expires_at")
    seconds = value // 1000 if value >= _FIRST_MILLISECONDS else value
    if seconds > _LAST_SECONDS:
        raise MalformedResponseError("registration response with an unusable client_secret_expires_at")
    # RFC 7591 §3.2.1: 0 means never.
    return datetime.fromtimestamp(seconds, tz=UTC) if seconds else None


def _management(document: Mapping[str, Any], *, issuer: str) -> tuple[str | None, Secret | None]:
    """Return where and with what the registration can be deleted, or neither.

    A URI elsewhere than on the issuer's origin is dropped and not an error: a widespread server library sends a bare
    path, and without the pair we only lose the tidying up.
    """
    uri = document.get("registration_client_uri")
    token = document.get("registration_access_token")
    if not isinstance(uri, str) or not isinstance(token, str) or not _ACCESS_TOKEN.fullmatch(token):
        return None, None
    if len(uri) > _LONGEST_MANAGEMENT_URI or not _same_origin(uri, issuer):
        return None, None
    return uri, Secret(token)


def _same_origin(url: str, other: str) -> bool:
    try:
        one, two = parse_http_url(url), parse_http_url(other)
    except FlowError:
        return False
    return (one.scheme, one.host, one.port) == (two.scheme, two.host, two.port)
