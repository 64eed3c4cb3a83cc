"""What the Python SDK needs of an application: somewhere to keep things, a browser, and a callback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from .visiting import Visit

NAME = "Python program"


class Program:
    def __init__(self, visit: Visit, *, client_id: str = "") -> None:
        self.tokens: OAuthToken | None = None
        self.client = OAuthClientInformationFull(client_id=client_id, redirect_uris=None) if client_id else None
        self.told: dict[str, str] = {}
        self._visit = visit

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info

    async def open_browser(self, address: str) -> None:
        self.told = await self._visit(address)

    async def callback(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**{name: self.told[name] for name in ("code", "state", "iss")})


def metadata(port: int) -> OAuthClientMetadata:
    """What it says about itself; its callback is on that port."""
    return OAuthClientMetadata.model_validate(
        {
            "client_name": NAME,
            "redirect_uris": [f"http://127.0.0.1:{port}/callback"],
            "token_endpoint_auth_method": "none",
        }
    )


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[None]:
    """Somebody answers at the callback, as an application would."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nDone.")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield
