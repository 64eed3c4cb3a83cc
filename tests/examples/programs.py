"""An OAuth client of the authorization server, as plain requests."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlencode

import httpx2

CALLBACK = "http://127.0.0.1:7777/callback"
EVERYTHING = "notes:read notes:write profile offline_access"


@dataclass
class Program:
    http: httpx2.Client
    issuer: str
    resource: str
    client_id: str = "mcp-test-client"
    client_secret: str = "mcp-test-secret"
    redirect_uri: str = "http://localhost:8000/api/v1/oauth/callback"
    registration: dict[str, str] = field(default_factory=dict)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @classmethod
    def registered(cls, http: httpx2.Client, *, issuer: str, resource: str, name: str = "Test program") -> Program:
        """Register a public client."""
        body = {
            "client_name": name,
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
        }
        response = http.post(f"{issuer}/register", json=body)
        assert response.status_code == 201, response.text
        registration = response.json()
        return cls(http, issuer, resource, registration["client_id"], "", CALLBACK, registration)

    def authorization_url(self, **changes: str) -> str:
        """A sound request with some parameters changed; an empty one is left out."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=")
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "state": "a state",
            "scope": EVERYTHING,
            "resource": self.resource,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        } | changes
        return f"{self.issuer}/authorize?" + urlencode({name: value for name, value in parameters.items() if value})

    def redeem(self, code: str, **changes: str) -> httpx2.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": self.verifier,
            "resource": self.resource,
        }
        return self.post("token", form | changes)

    def refresh(self, refresh_token: str, **changes: str) -> httpx2.Response:
        return self.post("token", {"grant_type": "refresh_token", "refresh_token": refresh_token} | changes)

    def revoke(self, token: str) -> httpx2.Response:
        return self.post("revoke", {"token": token})

    def post(self, endpoint: str, form: dict[str, str]) -> httpx2.Response:
        identity = {"client_id": self.client_id} | ({"client_secret": self.client_secret} if self.client_secret else {})
        return self.http.post(f"{self.issuer}/{endpoint}", data=identity | form)

    def introspect(self, token: str, *, secret: str = "notes-server-secret") -> httpx2.Response:
        return self.http.post(f"{self.issuer}/introspect", data={"token": token}, auth=("notes-server", secret))

    def is_active(self, token: str) -> bool:
        return self.introspect(token).json()["active"]
