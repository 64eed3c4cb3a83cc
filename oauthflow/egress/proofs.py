"""A fresh proof for each request that is bound to a key, and once more with the nonce that a server asks for. RFC 9449.

The last nonce of each address is kept in this process only: who does not have it is told it by the server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeVar

from connections.database_time import offset
from oauthflow.newest import Newest

from ..protocol.dpop import PROOF_HEADER, NonceAskedError, asks_for_nonce, dpop_proof, given_nonce, proof_url
from ..protocol.messages import Request, Response
from ..protocol.secret import Secret
from ..protocol.signing_key import SigningKey

Result = TypeVar("Result")

_MOST_NONCES: Final = 2000
_nonces: Final[Newest[str, str]] = Newest(most=_MOST_NONCES)


def proof_for(key: SigningKey, *, method: str, url: str, access_token: Secret | None = None) -> str:
    """Return a proof for a request that is sent now, by the database's clock as last measured. F19."""
    nonce, now = _nonces.get(proof_url(url), ""), datetime.now(UTC) + offset.value
    return dpop_proof(key, method=method, url=url, now=now, nonce=nonce, access_token=access_token)


def proved(request: Request) -> Request:
    """Return a request as it is sent: with its proof, where it has a key."""
    if request.dpop_key is None:
        return request
    proof = proof_for(request.dpop_key, method=request.method, url=request.url)
    return replace(request, headers={**request.headers, PROOF_HEADER: proof})


def note_nonce(response: Response, *, request: Request) -> None:
    """Keep the nonce that a response gives for the next proof at this address.

    Raises:
        NonceAskedError: The proof was refused for want of it; the request may be sent again.
    """
    if request.dpop_key is None:
        return
    if nonce := given_nonce(response):
        _nonces[proof_url(request.url)] = nonce
    if asks_for_nonce(response):
        raise NonceAskedError("the server wants its nonce in the proof")


def sent_with_proof(request: Request, send: Callable[[Request], Result]) -> Result:
    """Send a request, and a second time where the server asks for its nonce.

    Args:
        request: As it was made; `send` gets it with its proof.
        send: Sends it, and calls `note_nonce` with the response.
    """
    try:
        return send(proved(request))
    except NonceAskedError:
        return send(proved(request))


def forget_nonces() -> None:
    """Forget every nonce; whoever needs one is told it again."""
    _nonces.clear()
