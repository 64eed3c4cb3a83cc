"""Find out which client asks, and whether it is."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from ..conf import issuer
from ..models import McpClient, hash_of_secret
from ..protocol.client_proof import ClientProof, check_assertion, read_client_proof
from ..protocol.errors import InvalidClientError, UnauthorizedClientError
from ..statements import StoredClient, claim_assertion, find_client

USE_IS_OLD_AFTER: Final = timedelta(minutes=1)
_NOBODYS_HASH: Final = "0" * 64


class UnprovedClientError(InvalidClientError):
    """A client that exists was named by somebody who did not prove to be it.

    Attributes:
        client_id: Which.
    """

    def __init__(self, description: str, *, client_id: str) -> None:
        super().__init__(description)
        self.client_id = client_id


def authenticate_client(form: Mapping[str, str], *, authorization: str | None, now: datetime) -> StoredClient:
    """Return the client that a request comes from.

    Args:
        form: Of `read_form`.
        authorization: The header, or None.
        now: Aware UTC.

    Raises:
        InvalidClientError: Nobody knows it, or it is blocked, ended or expired.
        UnprovedClientError: It exists; the proof is wrong, or of another method than the client registered.
        InvalidRequestError: Two ways at once, or two names.

    Spec: RFC 6749 §3.2.1; RFC 7591 §2 `token_endpoint_auth_method`. AS17.
    """
    proof = read_client_proof(form, authorization=authorization)
    client = find_client(proof.client_id, now=now, stale=now - USE_IS_OLD_AFTER)
    known_hash = client.secret_hash if client else ""
    # Compared in any case, so that the time tells nothing of which clients there are.
    is_right_secret = hmac.compare_digest(known_hash or _NOBODYS_HASH, hash_of_secret(proof.proof)) and known_hash != ""
    if client is None:
        raise InvalidClientError("This client is not known here.")
    if proof.method != client.auth_method:
        raise UnprovedClientError("The client registered another way to authenticate.", client_id=client.client_id)
    if proof.method == McpClient.AuthMethod.PRIVATE_KEY_JWT:
        _check_assertion(client, proof, now=now)
    elif proof.method != McpClient.AuthMethod.NONE and not is_right_secret:
        raise UnprovedClientError("The client secret is wrong.", client_id=client.client_id)
    return client


def require_grant_type(client: StoredClient, grant_type: str) -> None:
    """Refuse a grant that the client did not register.

    Raises:
        UnauthorizedClientError: RFC 6749 §5.2.
    """
    listed = json.loads(client.grant_types)
    if not isinstance(listed, list) or grant_type not in listed:
        raise UnauthorizedClientError("The client may not use this grant.")


def _check_assertion(client: StoredClient, proof: ClientProof, *, now: datetime) -> None:
    jwks = json.loads(client.jwks or "null")
    audiences = (issuer(), f"{issuer()}/oauth/token")
    try:
        found = check_assertion(
            proof, jwks=jwks if isinstance(jwks, dict) else {}, audiences=audiences, now=now.timestamp()
        )
    except InvalidClientError as error:
        raise UnprovedClientError(error.description, client_id=client.client_id) from error
    name = hashlib.sha256(f"{client.client_id}\n{found['jti']}".encode()).hexdigest()
    # Kept for longer than the skew that the check of its time allows.
    expires_at = datetime.fromtimestamp(found["exp"], UTC) + timedelta(minutes=1)
    if not claim_assertion(name, expires_at=expires_at):
        raise UnprovedClientError("The client assertion was used before.", client_id=client.client_id)
