"""Alice's connection and a program of hers: the stage of the tests of the token release."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from connections.api_tokens import issue_api_token
from connections.models import Connection, TokenSet
from tests.fakes.world import World
from tests.oauthflow.asgi_calls import Ask


@dataclass
class Stage:
    """Alice's connection, and a program of hers."""

    alice: User
    connection: Connection
    token: str

    def ask(self, **changes: Any) -> Ask:
        headers = {"Authorization": f"Bearer {self.token}", **changes.pop("headers", {})}
        path = changes.pop("path", f"/api/v1/connections/{self.connection.pk}/token")
        return Ask(path, {name: value for name, value in headers.items() if value is not None}, **changes)

    def tokens(self, **columns: Any) -> None:
        TokenSet.objects.filter(connection=self.connection).update(**columns)

    def expires_in(self, seconds: int, **columns: Any) -> None:
        now = timezone.now()
        self.tokens(obtained_at=now - timedelta(hours=1), expires_at=now + timedelta(seconds=seconds), **columns)

    def own(self, **columns: Any) -> None:
        Connection.objects.filter(pk=self.connection.pk).update(**columns)


def set_stage(world: World, alice: User) -> Stage:
    """Connect her, and give her program an API token."""
    now = timezone.now()
    connection = world.connect(alice, now=now)
    issued = issue_api_token(alice, scopes=["tokens:release"], name="laptop", now=now)
    return Stage(alice, connection, issued.token.reveal())
