"""An MCP server of somebody else that takes our tokens: the official SDK, and our keys.

python -m tests.browser.protected_server PORT ISSUER
"""

from __future__ import annotations

import sys

import httpx2
import uvicorn
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer


class OurTokens:
    """Checks signature, issuer, audience and time without asking for each token."""

    def __init__(self, issuer: str, resource: str) -> None:
        self._issuer, self._resource = issuer, resource

    async def verify_token(self, token: str) -> AccessToken | None:
        async with httpx2.AsyncClient() as http:
            keys = KeySet.import_key_set((await http.get(f"{self._issuer}/oauth/jwks")).json())
        wanted = {"iss": {"value": self._issuer}, "aud": {"value": self._resource}}
        try:
            claims = jwt.decode(token, keys, algorithms=["ES256", "EdDSA", "RS256"]).claims
            jwt.JWTClaimsRegistry(**wanted, exp={"essential": True}).validate(claims)
        except (JoseError, ValueError):
            return None
        return AccessToken(
            token=token,
            client_id=claims["client_id"],
            scopes=claims["scope"].split(),
            expires_at=claims["exp"],
            resource=claims["aud"],
            subject=claims["sub"],
        )


def main(port: int, issuer: str) -> None:
    resource = f"http://localhost:{port}/mcp"
    auth = AuthSettings.model_validate(
        {
            "issuer_url": issuer,
            "resource_server_url": resource,
            "required_scopes": ["notes:read"],
            "validate_token_resource": True,
        }
    )
    server = MCPServer("team", auth=auth, token_verifier=OurTokens(issuer, resource), log_level="WARNING")

    @server.tool()
    def create_secure_note(title: str, content: str) -> str:
        """Say for whom the program acts."""
        token = get_access_token()
        return f"{title}: {token.subject} by {token.client_id}" if token else "nobody"

    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
