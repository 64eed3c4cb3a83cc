"""Token requests that need no person. RFC 6749 §4.4, RFC 7523 §2.1, RFC 8693, MCP authorization extensions."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import Error as NotBase64Error
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from .client_auth import NONE, ClientCredentials
from .errors import MalformedResponseError, NotConfiguredError
from .grant_types import JWT_BEARER_GRANT, TOKEN_EXCHANGE_GRANT
from .json_documents import parse_json_object, read_json_object
from .messages import Request, Response
from .retry_after import require_available
from .secret import Secret
from .token_endpoint import REFUSING_STATUSES, read_error_response, token_request

ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"
LONGEST_ASSERTION = 16_384
_JWT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")


class SubjectTokenType(StrEnum):
    """What says who somebody is at the company's sign-in service. RFC 8693 §3."""

    ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
    REFRESH_TOKEN = "urn:ietf:params:oauth:token-type:refresh_token"


@dataclass(frozen=True, slots=True)
class SubjectToken:
    """A token that the company's sign-in service gave for somebody; `kind` is a `SubjectTokenType`."""

    token: Secret
    kind: str


def client_credentials_request(
    *, token_endpoint: str, scope: str, resource: str | None, client: ClientCredentials, issuer: str, now: datetime
) -> Request:
    """Make the request of a client that acts for itself.

    Args:
        token_endpoint: Of the server's authorization server.
        scope: Space-separated; empty sends none.
        resource: The MCP server's identifier; None sends none.
        client: Us; a client without any proof of who it is gets nothing by this grant.
        issuer: Audience of an assertion.
        now: Aware UTC.

    Raises:
        NotConfiguredError: The client has no way to authenticate.

    Spec: RFC 6749 §4.4.2; SEP-1046.
    """
    if client.auth_method == NONE:
        raise NotConfiguredError("client credentials need a client secret or a private key")
    form = _with_scope({"grant_type": "client_credentials"}, scope)
    return token_request(form, token_endpoint=token_endpoint, resource=resource, client=client, issuer=issuer, now=now)


def token_exchange_request(
    *,
    token_endpoint: str,
    subject: SubjectToken,
    audience: str,
    resource: str,
    scope: str,
    client: ClientCredentials,
    issuer: str,
    now: datetime,
) -> Request:
    """Make the request that asks the company's sign-in service for an identity assertion grant (ID-JAG).

    Args:
        token_endpoint: Of the sign-in service.
        subject: Says whose grant it is to be.
        audience: Issuer of the MCP server's authorization server.
        resource: The MCP server's identifier.
        scope: Space-separated; empty sends none.
        client: Us, as the sign-in service knows us.
        issuer: Of the sign-in service; audience of a client assertion.
        now: Aware UTC.

    Spec: RFC 8693 §2.1; SEP-990.
    """
    form = {
        "grant_type": TOKEN_EXCHANGE_GRANT,
        "requested_token_type": ID_JAG,
        "audience": audience,
        "subject_token": subject.token.reveal(),
        "subject_token_type": subject.kind,
    }
    return token_request(
        _with_scope(form, scope),
        token_endpoint=token_endpoint, resource=resource, client=client, issuer=issuer, now=now,
    )  # fmt: skip


def read_token_exchange_response(response: Response, *, received_at: datetime) -> Secret:
    """Check the answer and return the identity assertion grant.

    Raises:
        GrantRefusedError: The subject token is not accepted any more.
        ClientRefusedError: The sign-in service does not know us.
        TokenEndpointError: Another error of RFC 6749 §5.2.
        ServerUnavailableError: Status 408, 429 or 5xx.
        MalformedResponseError: Anything else than an ID-JAG.

    Spec: RFC 8693 §2.2; SEP-990.
    """
    require_available(response, now=received_at)
    if response.status in REFUSING_STATUSES:
        raise read_error_response(response)
    if response.status != 200:
        raise MalformedResponseError(f"token exchange answered with status {response.status}")
    document = read_json_object(response)
    if document.get("issued_token_type") != ID_JAG:
        raise MalformedResponseError("token exchange issued something else than an identity assertion grant")
    token = document.get("access_token")
    if not isinstance(token, str) or len(token) > LONGEST_ASSERTION or not _JWT.fullmatch(token):
        raise MalformedResponseError("token exchange answered without a JWT")
    return Secret(token)


def jwt_bearer_request(
    *,
    token_endpoint: str,
    assertion: Secret,
    scope: str,
    resource: str | None,
    client: ClientCredentials | None,
    issuer: str,
    now: datetime,
) -> Request:
    """Make the request that presents an assertion as the grant.

    Args:
        token_endpoint: Of the server's authorization server.
        assertion: An ID-JAG, or the JWT of the platform on which this site runs.
        scope: Space-separated; empty sends none.
        resource: The MCP server's identifier; None sends none.
        client: Us; None where the assertion alone says who asks, as with workload identity.
        issuer: Audience of a client assertion.
        now: Aware UTC.

    Spec: RFC 7523 §2.1; SEP-990, SEP-1933.
    """
    form = _with_scope({"grant_type": JWT_BEARER_GRANT, "assertion": assertion.reveal()}, scope)
    if client is None:
        form = {**form, "resource": resource} if resource else form
        return Request("POST", token_endpoint, headers={"Accept": "application/json"}, form=form)
    return token_request(form, token_endpoint=token_endpoint, resource=resource, client=client, issuer=issuer, now=now)


def require_assertion(text: str, *, now: datetime | None = None) -> Secret:
    """Return the JWT of a platform if there is any use in presenting it. Who signed it is for the other side to check.

    Args:
        text: What was configured or read; white space around it is left out.
        now: Aware UTC, to refuse one that has ended; None does not look.

    Raises:
        NotConfiguredError: It is no signed JWT, or it has ended.

    Spec: RFC 7523 §3 (4); SEP-1933: what is refused is not tried again, so what must be refused is not sent.
    """
    token = text.strip()
    found = _JWT.fullmatch(token) if len(token) <= LONGEST_ASSERTION else None
    ends = _claims(found[2]).get("exp") if found else None
    if found is None:
        raise NotConfiguredError("the assertion is not a signed JWT")
    if now is not None and isinstance(ends, int | float) and ends <= now.timestamp():
        raise NotConfiguredError("the assertion has ended (exp)")
    return Secret(token)


def _claims(part: str) -> dict[str, Any]:
    try:
        return parse_json_object(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (NotBase64Error, MalformedResponseError):
        raise NotConfiguredError("the assertion is not a signed JWT") from None


def _with_scope(form: dict[str, str], scope: str) -> dict[str, str]:
    return {**form, "scope": scope} if scope else form
