"""An MCP server whose clients sign in at this site, and which checks their tokens by itself, with the site's keys."""

import os
import time

import httpx2
import uvicorn
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer


class SignatureVerifier:
    """For `MCPServer(token_verifier=…)`. A token that was revoked is taken until it expires: at most 15 minutes."""

    def __init__(self, issuer: str, resource: str, http: httpx2.AsyncClient) -> None:
        self._issuer, self._http, self._keys, self._fetched_at = issuer, http, KeySet([]), float("-inf")
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": resource},
            exp={"essential": True},
        )

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token of this site for this server grants, or None."""
        if time.monotonic() - self._fetched_at > 300:  # a new key is published long before it signs
            document = (await self._http.get(f"{self._issuer}/oauth/jwks")).raise_for_status().json()
            self._keys, self._fetched_at = KeySet.import_key_set(document), time.monotonic()
        try:
            found = jwt.decode(token, self._keys, algorithms=["ES256"])
            self._claims.validate(found.claims)
        except (JoseError, ValueError):
            return None
        if found.header.get("typ") != "at+jwt":  # RFC 9068 §4: no other token of the same issuer
            return None
        said = found.claims
        return AccessToken(
            token=token, client_id=said["client_id"], scopes=said["scope"].split(), expires_at=said["exp"],
            resource=said["aud"], subject=said["sub"],
        )  # fmt: skip


def main() -> None:
    """Serve on port 9200: `ISSUER=https://mcp.example.org RESOURCE=http://127.0.0.1:9200/mcp`."""
    issuer, resource = os.environ["ISSUER"], os.environ["RESOURCE"]
    auth = AuthSettings.model_validate(
        {"issuer_url": issuer, "resource_server_url": resource, "validate_token_resource": True}
    )
    server = MCPServer("Weather", auth=auth, token_verifier=SignatureVerifier(issuer, resource, httpx2.AsyncClient()))
    server.add_tool(lambda: "Sunny", name="forecast", description="Say what the weather will be")
    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=9200)


if __name__ == "__main__":
    main()
