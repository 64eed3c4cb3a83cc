"""How each program is told about a server behind the gateway: what to enter, and where.

In the form that the program's own documentation gives. What is put together here holds no secret.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from oauthflow.protocol.urls import is_loopback_host, parse_http_url

_REDIRECT_URI: Final = "http://127.0.0.1:33418/callback"
_API_TOKEN: Final = "MCP_API_TOKEN"
_ACCESS_TOKEN: Final = "ACCESS_TOKEN"
_FIRST_MESSAGE: Final = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "curl", "version": "1"},
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snippet:
    """What to enter in one program.

    Attributes:
        id: For the page.
        program: Its name.
        where: What to do with it, in a sentence.
        text: To be copied.
    """

    id: str
    program: str
    where: str
    text: str


def snippets(slug: str, url: str, *, metadata_url: str, api_tokens: bool) -> Iterator[Snippet]:
    """Yield what to enter in each program that can use a server.

    Args:
        slug: Of the server; what the program will call it.
        url: Its gateway address.
        metadata_url: Where it says who gives access tokens for that. RFC 9728.
        api_tokens: Whether the server takes personal API tokens.
    """
    name = slug if slug[0].isalpha() else f"mcp-{slug}"
    yield Snippet("claude-code", "Claude Code", "In a terminal. Then enter /mcp in Claude Code and sign in.",
                  shlex.join(["claude", "mcp", "add", "--transport", "http", name, url]))  # fmt: skip
    if url.startswith("https://"):
        yield Snippet("claude", "Claude and Claude Desktop",
                      "Settings, Connectors, Add custom connector: this is the address to enter.", url)  # fmt: skip
    yield Snippet("vscode", "VS Code", "In .vscode/mcp.json of a project, or in the mcp.json of your profile.",
                  _document({"servers": {name: {"type": "http", "url": url}}}))  # fmt: skip
    yield Snippet("cursor", "Cursor", "In ~/.cursor/mcp.json, or in .cursor/mcp.json of a project.",
                  _document({"mcpServers": {name: {"url": url}}}))  # fmt: skip
    yield Snippet("mcp-remote", "Programs that only start local servers (mcp-remote)",
                  "Where the program lists its servers, such as claude_desktop_config.json. Needs Node.js.",
                  _document({"mcpServers": {name: {"command": "npx", "args": _mcp_remote(url)}}}))  # fmt: skip
    yield Snippet("python", "Python SDK", "With mcp 2 installed. It opens the browser for you to sign in.",
                  _PYTHON_SIGN_IN.format(url=url, redirect_uri=_REDIRECT_URI))  # fmt: skip
    if api_tokens:
        yield from _with_api_token(url)
    else:
        where = (
            f"With an access token in the variable {_ACCESS_TOKEN}. The service that the first command names gives one "
            "to a program for which you sign in. The last answer tells that the server is there."
        )
        yield Snippet("curl", "curl", where, _curl(metadata_url) + "\n\n" + _first_message(url, variable=_ACCESS_TOKEN))


def _with_api_token(url: str) -> Iterator[Snippet]:
    where = f"With a personal API token that has the scope tools:call in the variable {_API_TOKEN}."
    yield Snippet("python-token", "Python SDK, in a script", where,
                  _PYTHON_TOKEN.format(url=url, variable=_API_TOKEN))  # fmt: skip
    yield Snippet("curl", "curl", f"{where} The answer tells that the server is there.",
                  _first_message(url, variable=_API_TOKEN))  # fmt: skip


def _first_message(url: str, *, variable: str) -> str:
    message = shlex.quote(json.dumps(_FIRST_MESSAGE))
    return _CURL.format(curl=_curl(url), variable=variable, message=message)


def _curl(url: str) -> str:
    return shlex.join(["curl", url])


def _mcp_remote(url: str) -> list[str]:
    place = parse_http_url(url)
    plain = place.scheme == "http" and not is_loopback_host(place.host)
    return ["-y", "mcp-remote", url, *(["--allow-http"] if plain else [])]


def _document(content: object) -> str:
    return json.dumps(content, indent=2)


_PYTHON_SIGN_IN: Final = """\
import asyncio
import webbrowser
from urllib.parse import parse_qsl, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

URL = "{url}"


class Memory:
    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


async def sign_in(address):
    webbrowser.open(address)


async def come_back():
    landed = input("Address of the page that you came to: ")
    return AuthorizationCodeResult(**dict(parse_qsl(urlsplit(landed).query)))


async def main():
    program = OAuthClientMetadata(
        client_name="My script",
        redirect_uris=["{redirect_uri}"],
        token_endpoint_auth_method="none",
    )
    auth = OAuthClientProvider(URL, program, Memory(), sign_in, come_back)
    async with httpx2.AsyncClient(auth=auth) as http:
        async with Client(streamable_http_client(URL, http_client=http)) as client:
            print(await client.list_tools())


asyncio.run(main())
"""

_PYTHON_TOKEN: Final = """\
import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

URL = "{url}"
HEADERS = {{"Authorization": f"Bearer {{os.environ['{variable}']}}"}}


async def main():
    async with httpx2.AsyncClient(headers=HEADERS) as http:
        async with Client(streamable_http_client(URL, http_client=http)) as client:
            print(await client.list_tools())


asyncio.run(main())
"""

_CURL: Final = """\
{curl} \\
  -H "Authorization: Bearer ${variable}" \\
  -H 'Content-Type: application/json' \\
  -H 'Accept: application/json, text/event-stream' \\
  -d {message}
"""
