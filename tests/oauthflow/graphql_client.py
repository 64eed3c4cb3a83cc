"""A caller of `/graphql`, for the tests of that face."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from connections.api_tokens import issue_api_token
from connections.models import McpServer


@dataclass
class Answer:
    """What came back."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = self.body["data"]
        return found

    @property
    def codes(self) -> list[str]:
        """The codes of all errors outside payloads."""
        return [error["extensions"]["code"] for error in self.body.get("errors", [])]


def ask(query: str, *, token: str = "", client: Client | None = None, **variables: object) -> Answer:
    """Send one operation."""
    return post({"query": query, "variables": variables}, token=token, client=client)


def post(
    body: object, *, token: str = "", client: Client | None = None, content_type: str = "application/json"
) -> Answer:
    """Send a body; text as it is, anything else as JSON."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    response = (client or Client()).post("/graphql", text, content_type=content_type, headers=headers)
    return Answer(response.status_code, json.loads(response.content), dict(response.headers))


def api_token(user: User, *scopes: str) -> str:
    return issue_api_token(user, scopes=scopes, name="laptop", now=timezone.now()).token.reveal()


def server_of(slug: str = "notion", **fields: Any) -> McpServer:
    return McpServer.objects.create(name=slug.title(), slug=slug, url=f"https://{slug}.example.com/mcp", **fields)
