"""A protected MCP server: it challenges, publishes RFC 9728 metadata, and moves house where a test says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .internet import Answer, Call


@dataclass
class FakeMcpServer:
    """Only what discovery and challenges need; tools are called against real servers."""

    url: str = "https://mcp.example/mcp"
    issuers: list[str] = field(default_factory=lambda: ["https://as.example"])
    scopes_supported: list[str] | None = None
    challenge_scope: str | None = None
    # Switches.
    publishes_metadata: bool = True
    at_root: bool = False
    names_metadata_in_challenge: bool = True
    metadata_url: str = ""
    resource: str = ""
    protected: bool = True
    scheme: str = "Bearer"
    metadata_answer: Answer | None = None
    metadata_overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def where(self) -> str:
        """The address of the protected-resource metadata."""
        path = "" if self.at_root else urlsplit(self.url).path
        return self.metadata_url or f"{self.origin}/.well-known/oauth-protected-resource{path}"

    def __call__(self, call: Call) -> Answer:
        if call.url == self.where and self.publishes_metadata:
            return self.metadata_answer or Answer(body=self._metadata())
        if call.path != urlsplit(self.url).path:
            return Answer(404)
        if not self.protected:
            return Answer(200, {"jsonrpc": "2.0", "id": 1, "result": {"tools": []}})
        return Answer(401, "", {"WWW-Authenticate": self.challenge()})

    def challenge(self, *, error: str = "", scope: str = "") -> str:
        """The challenge that a client meets."""
        members = {"error": error, "scope": scope or self.challenge_scope or ""}
        if self.names_metadata_in_challenge and self.publishes_metadata:
            members["resource_metadata"] = self.where
        said = ", ".join(f'{name}="{value}"' for name, value in members.items() if value)
        return f"{self.scheme} {said}".strip()

    def _metadata(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "resource": self.resource or self.url,
            "authorization_servers": self.issuers,
            "scopes_supported": self.scopes_supported,
        }
        return {name: value for name, value in document.items() if value is not None} | self.metadata_overrides
