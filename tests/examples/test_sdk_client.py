"""The SDK's own OAuth client, which knows nothing of us, finds its way from the MCP URL alone."""

from __future__ import annotations

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from .people import Person
from .programs import CALLBACK


class MemoryStorage:
    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Desk:
    """Takes the authorization URL to a person and brings back their answer."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.answers: list[dict[str, str]] = []

    async def take(self, authorization_url: str) -> None:
        self.answers.append(self.person.allow(authorization_url))

    async def bring(self) -> AuthorizationCodeResult:
        return AuthorizationCodeResult(**self.answers[-1])


async def test_from_the_mcp_url_alone_to_a_note(notes_url, person):
    metadata = OAuthClientMetadata.model_validate(
        {"client_name": "SDK", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
    )
    storage, desk = MemoryStorage(), Desk(person)
    auth = OAuthClientProvider(notes_url, metadata, storage, desk.take, desk.bring)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=10) as http,
        Client(streamable_http_client(notes_url, http_client=http)) as client,
    ):
        note = (await client.call_tool("create_secure_note", {"title": "Milk", "content": "Two"})).structured_content
    assert note["title"] == "Milk"
    assert len(desk.answers) == 1
    assert storage.tokens is not None
    assert storage.tokens.refresh_token
