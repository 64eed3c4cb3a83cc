"""What the operator chooses, and the people and programs this demonstration knows from the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

OFFLINE_ACCESS: Final = "offline_access"
DEFAULT_SCOPE: Final = "notes:read profile"
SCOPES: Final = {
    "notes:read": "Read your notes",
    "notes:write": "Write notes for you",
    "profile": "See your name and your usage",
    OFFLINE_ACCESS: "Keep this access while you are away",
}

# Demonstration logins, printed in the documentation: no secrets.
USERS: Final = {"testuser": "testpass", "seconduser": "secondpass"}
CLIENT_ID: Final = "mcp-test-client"
CLIENT_SECRET: Final = "mcp-test-secret"
RESOURCE_SERVER_ID: Final = "notes-server"
RESOURCE_SERVER_SECRET: Final = "notes-server-secret"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One run of the server.

    Attributes:
        issuer: RFC 8414 issuer identifier, compared as plain text everywhere; may have a path, has no trailing slash.
        redirect_uris: Where the pre-registered client takes its answers.
        resources: The protected resources tokens may be for (RFC 8707); empty means any.
    """

    issuer: str
    data_dir: Path
    redirect_uris: tuple[str, ...]
    resources: tuple[str, ...] = ()
    access_token_seconds: int = 60
    refresh_token_seconds: int = 30 * 24 * 3600
    code_seconds: int = 60
    login_seconds: int = 8 * 3600
    request_seconds: int = 600
    resource_server_secret: str = RESOURCE_SERVER_SECRET

    @property
    def base_path(self) -> str:
        """The issuer's path: empty, or `/tenant`."""
        return urlsplit(self.issuer).path

    @property
    def origin(self) -> str:
        """The issuer's origin, as browsers send it in `Origin`."""
        parts = urlsplit(self.issuer)
        return f"{parts.scheme}://{parts.netloc}"
