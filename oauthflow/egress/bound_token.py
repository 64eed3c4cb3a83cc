"""Requests to an MCP server with a token that is bound to a key. RFC 9449 §7, §9."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import httpx2

from ..protocol.dpop import PROOF_HEADER, NonceAskedError
from ..protocol.messages import Request, Response
from ..protocol.secret import Secret
from ..protocol.signing_key import SigningKey
from .proofs import note_nonce, proof_for

_REFUSING: Final = (400, 401)


@dataclass(frozen=True, slots=True)
class BoundToken:
    """An access token and the key without which it is of no use."""

    access_token: Secret
    key: SigningKey


class ProvingTransport(httpx2.AsyncBaseTransport):
    """Give every request its own proof, redirects included, and send it again where the server asks for its nonce."""

    def __init__(self, carrier: httpx2.AsyncBaseTransport, bound: BoundToken) -> None:
        self._carrier, self._bound = carrier, bound

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._sent(request)
        try:
            await self._note_nonce(request, response)
        except NonceAskedError:
            await response.aclose()
            response = await self._sent(request)
        return response

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        request.headers[PROOF_HEADER] = proof_for(
            self._bound.key, method=request.method, url=str(request.url), access_token=self._bound.access_token
        )
        return await self._carrier.handle_async_request(request)

    async def _note_nonce(self, request: httpx2.Request, response: httpx2.Response) -> None:
        body = await response.aread() if response.status_code in _REFUSING else b""
        named = {name.lower(): value for name, value in response.headers.items()}
        url = str(request.url)
        sent = Request("POST", url, dpop_key=self._bound.key)
        note_nonce(Response(response.status_code, url=url, headers=named, body=body), request=sent)

    async def aclose(self) -> None:
        await self._carrier.aclose()
