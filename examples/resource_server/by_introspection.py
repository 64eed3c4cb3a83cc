"""An MCP server whose clients sign in at this site, and which asks the site about each token."""

import os

import httpx2
import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer


class IntrospectionVerifier:
    """For `MCPServer(token_verifier=…)`. A token that was revoked is refused within a second."""

    def __init__(self, issuer: str, http: httpx2.AsyncClient) -> None:
        self._endpoint, self._http = f"{issuer}/oauth/introspect", http

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token grants; the site says `active` only of tokens for the resource that asks."""
        said = (await self._http.post(self._endpoint, data={"token": token})).raise_for_status().json()
        if said["active"] is not True:
            return None
        return AccessToken(
            token=token, client_id=said["client_id"], scopes=said["scope"].split(), expires_at=said["exp"],
            resource=said["aud"], subject=said["sub"],
        )  # fmt: skip


def main() -> None:
    """Serve on port 9200: `ISSUER`, `RESOURCE`, and `RESOURCE_ID` and `RESOURCE_SECRET` as the site showed them."""
    issuer, resource = os.environ["ISSUER"], os.environ["RESOURCE"]
    auth = AuthSettings.model_validate(
        {"issuer_url": issuer, "resource_server_url": resource, "validate_token_resource": True}
    )
    http = httpx2.AsyncClient(auth=(os.environ["RESOURCE_ID"], os.environ["RESOURCE_SECRET"]))
    server = MCPServer("Weather", auth=auth, token_verifier=IntrospectionVerifier(issuer, http))
    server.add_tool(lambda: "Sunny", name="forecast", description="Say what the weather will be")
    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=9200)


if __name__ == "__main__":
    main()
