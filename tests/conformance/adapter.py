"""Play administrator, browser and API client of this product for one scenario of the public conformance suite.

The suite starts this program with the address of its MCP server as the last argument and tells the scenario by the
environment. `ADAPTER_SITE` and the tokens say where the product runs. Exit code 1: the connection was not made.
"""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import requests
import unattended

MODERN = "2026-07-28"
SITE = os.environ["ADAPTER_SITE"]
SCENARIO = os.environ["MCP_CONFORMANCE_SCENARIO"]
TIMEOUT_SECONDS = 60


class Product:
    """The product's faces for one person who is administrator and user at once."""

    def __init__(self) -> None:
        self.api = requests.Session()
        self.api.headers["Authorization"] = f"Bearer {os.environ['ADAPTER_TOKEN']}"
        self.browser = requests.Session()
        self.browser.cookies.update(json.loads(os.environ["ADAPTER_SESSION"]))

    def post(self, path: str, **body: Any) -> requests.Response:
        return self.api.post(f"{SITE}/api/v1/{path}", json=body, timeout=TIMEOUT_SECONDS)

    def configure(self, url: str, **settings: Any) -> str:
        slug = f"suite-{uuid.uuid4().hex[:12]}"
        created = self.post("servers", name=slug, slug=slug, url=url, auth_type="oauth", **settings)
        assert created.status_code == 201, created.text
        return slug

    def connection(self, slug: str, **identity: str) -> dict[str, Any]:
        created = self.post("connections", server=slug, **identity)
        assert created.status_code in (200, 201), created.text
        return dict(created.json())

    def walk(self, link: str, state: str) -> bool:
        """Open an authorize link in the browser and follow it to the end; say whether the connection was made."""
        self.browser.get(link, headers={"Sec-Fetch-Site": "none"}, timeout=TIMEOUT_SECONDS)
        told = self.api.get(f"{SITE}/api/v1/oauth/status/{state}", timeout=TIMEOUT_SECONDS)
        return told.ok and told.json()["status"] == "completed"

    def approve_issuer_change(self, slug: str) -> None:
        page = self.browser.get(f"{SITE}/connections/", timeout=TIMEOUT_SECONDS)
        self.browser.post(
            f"{SITE}/servers/{slug}/approve-issuer",
            data={"csrfmiddlewaretoken": _csrf(page.text)},
            timeout=TIMEOUT_SECONDS,
        )

    def credentials(self, connection: str, *, url: str, nonce: str) -> dict[str, str]:
        """The headers that let one POST to the server through; the key of a bound token stays in the product."""
        released = self.post(f"connections/{connection}/token")
        if not released.ok:
            return {}
        token = released.json()
        headers = {"Authorization": f"{token['token_type']} {token['access_token']}"}
        if token["token_type"] == "DPoP":
            proved = self.post(f"connections/{connection}/proof", method="POST", url=url, nonce=nonce)
            headers["DPoP"] = proved.json()["proof"]
        return headers

    def uses_tools(self, connection: str) -> bool:
        """The same through the product, which then makes all requests itself."""
        listed = self.api.get(f"{SITE}/api/v1/connections/{connection}/tools", timeout=TIMEOUT_SECONDS)
        called = self.post(f"connections/{connection}/tools/test-tool/call")
        return listed.ok and called.ok


class McpCalls:
    """What a client of the brokered token sends to the MCP server, in the era of the scenario."""

    def __init__(self, url: str, version: str) -> None:
        self.url = url
        self.version = version
        self.session = self.nonce = ""

    def plan(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.version != MODERN:
            about = {"name": "mcp-oauth-site", "version": "1"}
            yield "initialize", {"protocolVersion": self.version, "capabilities": {}, "clientInfo": about}
            yield "notifications/initialized", {}
        yield "tools/list", {}
        yield "tools/call", {"name": "test-tool", "arguments": {}}

    def send(self, method: str, params: dict[str, Any], *, credentials: dict[str, str]) -> requests.Response:
        headers = {"Accept": "application/json, text/event-stream", **credentials}
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if not method.startswith("notifications/"):
            message["id"] = str(uuid.uuid4())
        if self.version == MODERN:
            headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
            if method == "tools/call":
                headers["Mcp-Name"] = params["name"]
            about = {"name": "mcp-oauth-site", "version": "1"}
            prefix = "io.modelcontextprotocol"
            message["params"] = {
                **params,
                "_meta": {
                    f"{prefix}/protocolVersion": MODERN,
                    f"{prefix}/clientCapabilities": {},
                    f"{prefix}/clientInfo": about,
                },
            }
        elif method != "initialize":
            headers["MCP-Protocol-Version"] = self.version
        if self.session:
            headers["Mcp-Session-Id"] = self.session
        answer = requests.post(self.url, json=message, headers=headers, timeout=TIMEOUT_SECONDS)
        self.session = answer.headers.get("Mcp-Session-Id", self.session)
        self.nonce = answer.headers.get("DPoP-Nonce", self.nonce)
        return answer


def main() -> int:
    url, version = sys.argv[-1], os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    product = Product()
    settings, identity = unattended.settings_for(SCENARIO, context, product.configure)
    slug = product.configure(url, **settings)
    made = product.connection(slug, **identity)
    connection = str(made["id"])
    if made["status"] != "active":
        started = product.post("oauth/initiate", connection_id=connection)
        if not started.ok or not product.walk(started.json()["authorization_url"], started.json()["state"]):
            print("not connected:", started.text[:300], file=sys.stderr)
            return 1
    calls = McpCalls(url, version)
    if not all(_call(product, calls, slug, connection, step) for step in calls.plan()):
        return 1
    if SCENARIO in unattended.EXTENSIONS:
        if not product.uses_tools(connection):
            return 1
        print(unattended.USED)
    return 0


def _call(product: Product, calls: McpCalls, slug: str, connection: str, step: tuple[str, dict[str, Any]]) -> bool:
    for _ in range(5):
        credentials = product.credentials(connection, url=calls.url, nonce=calls.nonce)
        answer = calls.send(*step, credentials=credentials)
        if answer.status_code not in (401, 403):
            return answer.ok
        report = {"status": answer.status_code, "www_authenticate": answer.headers.get("www-authenticate", "")}
        advice = product.post(f"connections/{connection}/challenge", **report)
        if advice.json().get("error") == "issuer_changed":
            product.approve_issuer_change(slug)
            advice = product.post(f"connections/{connection}/challenge", **report)
        action = advice.json().get("action")
        if action == "retry":
            continue
        if action != "authorize":
            print("gave up:", advice.text[:300], file=sys.stderr)
            return False
        if not product.walk(advice.json()["authorization_url"], advice.json()["state"]):
            return False
    return False


def _csrf(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, "the page has no form"
    return found.group(1)


if __name__ == "__main__":
    sys.exit(main())
