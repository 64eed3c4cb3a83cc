from __future__ import annotations

import httpx2

from examples.notes_server.introspection import IntrospectionUnavailableError
from examples.notes_server.server import auth_settings, streamable_http_app
from examples.notes_server.store import NoteStore


class UnreachableAuthorizationServer:
    async def verify_token(self, token: str) -> None:
        raise IntrospectionUnavailableError


async def test_while_the_authorization_server_is_away_nobody_is_told_to_sign_in_again(tmp_path):
    auth = auth_settings(issuer="http://127.0.0.1:9000", resource="http://127.0.0.1:9100/mcp")
    verifier = UnreachableAuthorizationServer()
    store = NoteStore(tmp_path / "notes.sqlite3")
    app = streamable_http_app(store, auth=auth, token_verifier=verifier, host="127.0.0.1")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:9100") as http:
        response = await http.post("/mcp", json={}, headers={"Authorization": "Bearer anything"})
    assert response.status_code == 503
    assert "WWW-Authenticate" not in response.headers
