"""A client that sends a browser to our authorization endpoint, and what comes back."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.conf import settings
from django.http import HttpResponse
from django.test import Client

from authserver.models import McpClient, PendingAuthorization
from connections.models import McpServer

CALLBACK = "https://client.example.com/cb"
TYPED = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
FOREIGN = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def registered(**fields: Any) -> McpClient:
    """A client that registered itself, unless the fields say otherwise."""
    wanted = {
        "client_id": "client_notes",
        "kind": McpClient.Kind.DYNAMIC,
        "name": "Notes program",
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
    }
    return McpClient.objects.create(**(wanted | fields))


def gateway_server(**fields: Any) -> McpServer:
    """A server behind our gateway that needs no sign-in of its own."""
    wanted = {"slug": "notes", "name": "Notes", "url": "https://mcp.example/mcp", "auth_type": "none"}
    return McpServer.objects.create(**(wanted | {"gateway_enabled": True} | fields))


def address(client: McpClient, **changed: str | list[str] | None) -> str:
    """An authorization request; None leaves a parameter out, a list repeats it."""
    parameters: dict[str, Any] = {
        "client_id": client.client_id,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "state": "s~1 2",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "resource": f"{settings.PUBLIC_URL}/mcp/notes",
    }
    wanted = {name: value for name, value in (parameters | changed).items() if value is not None}
    return f"/oauth/authorize?{urlencode(wanted, doseq=True)}"


def ask(browser: Client, client: McpClient, *, headers: dict[str, str] = TYPED, **changed: Any) -> HttpResponse:
    """Open the request, up to the page that asks."""
    response = browser.get(address(client, **changed), headers=headers)
    if response.status_code == 303 and response.headers["Location"].startswith("/oauth/authorize/"):
        return browser.get(response.headers["Location"])
    return response


def decide(browser: Client, decision: str, *, pending: PendingAuthorization | None = None) -> HttpResponse:
    """Press a button of the page that was asked last."""
    chosen = pending or PendingAuthorization.objects.latest("created_at")
    return browser.post(f"/oauth/authorize/{chosen.pk}", {"decision": decision})


def back(response: HttpResponse) -> dict[str, str]:
    """What the client receives; fails where the browser was not sent to it."""
    assert response.status_code == 303, response.content.decode()
    place, _, query = response.headers["Location"].partition("?")
    assert place == CALLBACK
    pairs = parse_qsl(query, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def host_of(response: HttpResponse) -> str:
    """Where a redirect leads; empty for our own site."""
    return urlsplit(response.headers.get("Location", "")).netloc
