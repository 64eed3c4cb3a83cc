"""Token revocation. RFC 7009."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from .client_auth import ClientCredentials, authenticate
from .errors import MalformedResponseError
from .json_documents import read_json_object
from .messages import Request, Response
from .retry_after import require_available
from .secret import Secret
from .token_endpoint import REFUSING_STATUSES, read_error_response

_BAD_REQUEST = 400


def revocation_request(
    *,
    endpoint: str,
    token: Secret,
    hint: Literal["access_token", "refresh_token"],
    client: ClientCredentials,
    issuer: str,
    now: datetime,
) -> Request:
    """Make the request that revokes a token.

    Args:
        endpoint: `revocation_endpoint` of the issuer that gave the token.
        token: Sent in the form.
        hint: Which of the two kinds it is.
        client: Us, as this authorization server knows us.
        issuer: Audience of an assertion.
        now: Aware UTC.

    Spec: RFC 7009 §2.1.
    """
    form = {"token": token.reveal(), "token_type_hint": hint}
    headers, authenticated = authenticate(form, client=client, audience=issuer, now=now)
    return Request("POST", endpoint, headers={"Accept": "application/json", **headers}, form=authenticated)


def read_revocation_response(response: Response) -> bool:
    """Say whether a revocation was accepted; a token unknown to the server counts as revoked.

    Returns:
        False where the server revokes no tokens of this kind.

    Raises:
        ClientRefusedError: The server does not accept us.
        TokenEndpointError: It refused for another reason.
        ServerUnavailableError: Status 408, 429 or 5xx; try again after `.retry_after` seconds.
        MalformedResponseError: Anything else.

    Spec: RFC 7009 §2.2, §2.2.1.
    """
    require_available(response)
    if 200 <= response.status < 300:
        # The client ignores the body: everything is in the status.
        return True
    if response.status == _BAD_REQUEST and _error_of(response) == "unsupported_token_type":
        return False
    if response.status in REFUSING_STATUSES:
        raise read_error_response(response)
    raise MalformedResponseError(f"revocation endpoint answered with status {response.status}")


def _error_of(response: Response) -> object:
    try:
        return read_json_object(response).get("error")
    except MalformedResponseError:
        return None
