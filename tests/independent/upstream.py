"""oidc-provider and a Notes server that asks it, as the upstream of a running product."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.end_to_end.upstream import running_program
from tests.product import ROOT, Product, free_port

METADATA_URL = "https://product.test/oauth/client-metadata.json"
CLIENT = ("mcp-test-client", "mcp-test-client-secret-of-many-characters")
_RESOURCE_SERVER = ("notes-server", "notes-server-secret-of-many-characters")
_SCOPES = ["notes:read", "notes:write", "profile"]


@dataclass(frozen=True)
class Upstream:
    """Where it is."""

    issuer: str
    notes_url: str

    def is_active(self, token: str) -> bool:
        """Ask about a token as the Notes server does."""
        return bool(self._post("token/introspection", token=token, client=_RESOURCE_SERVER).json()["active"])

    def revoke(self, token: str, *, client: tuple[str, str] = CLIENT) -> None:
        """Take back the grant of a token of the pre-registered client, behind the product's back."""
        assert self._post("token/revocation", token=token, client=client).status_code == 200

    def _post(self, endpoint: str, *, token: str, client: tuple[str, str]) -> requests.Response:
        return requests.post(f"{self.issuer}/{endpoint}", data={"token": token}, auth=client, timeout=10)


@contextmanager
def running_upstream(folder: Path, *, product: Product, access_token_seconds: int) -> Iterator[Upstream]:
    """Start both programs."""
    ports = free_port(), free_port()
    upstream = Upstream(f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}/mcp")
    options = {
        "port": ports[0],
        "resource": upstream.notes_url,
        "scopes": _SCOPES,
        "accessTokenSeconds": access_token_seconds,
        "metadataDocument": {"clientId": METADATA_URL, "servedAt": f"{product.url}/oauth/client-metadata.json"},
        "clients": [_client(*CLIENT, redirect_uri=f"{product.url}/api/v1/oauth/callback"), _client(*_RESOURCE_SERVER)],
    }
    node = next((ROOT / "tests" / "npm" / "node_modules").glob("node-linux-*/bin/node"))
    provider = [str(node), str(ROOT / "tests" / "independent" / "oidc_provider.mjs"), json.dumps(options)]
    notes = [
        sys.executable, "-m", "examples.notes_server", "--port", str(ports[1]), "--data", str(folder),
        "--issuer", upstream.issuer, "--introspection-endpoint", f"{upstream.issuer}/token/introspection",
        "--introspection-client-id", _RESOURCE_SERVER[0], "--introspection-cache-seconds", "0",
    ]  # fmt: skip
    notes_ready = f"http://127.0.0.1:{ports[1]}/.well-known/oauth-protected-resource/mcp"
    provider_ready = f"{upstream.issuer}/.well-known/openid-configuration"
    environment = {"PATH": "/usr/bin:/bin", "NOTES_SERVER_SECRET": _RESOURCE_SERVER[1]}
    with (
        running_program(provider, ready=provider_ready, log=folder / "oidc_provider.log"),
        running_program(notes, ready=notes_ready, log=folder / "notes.log", environment=environment),
    ):
        yield upstream


def _client(client_id: str, client_secret: str, *, redirect_uri: str = "") -> dict[str, object]:
    """A confidential client, or a resource server, which only introspects."""
    return {
        "client_id": client_id,
        "client_secret": client_secret,
        "redirect_uris": [redirect_uri] if redirect_uri else [],
        "response_types": ["code"] if redirect_uri else [],
        "grant_types": ["authorization_code", "refresh_token"] if redirect_uri else [],
    }
