"""What a change of a server means for the people who are connected to it, in words."""

from __future__ import annotations

from django.utils import timezone

from .impact import impact_of
from .models import McpServer


class ConfirmationRequiredError(Exception):
    """The change hits existing connections; whoever asks for it has to confirm it.

    Attributes:
        impact: What will happen, in words for a person.
    """

    def __init__(self, impact: str) -> None:
        self.impact = impact
        super().__init__(impact)


def impact_of_deletion(server: McpServer) -> str:
    """Say what ends when the server is deleted."""
    return f"{_impact(server)} {_connections(server)} will be deleted; their access is revoked at the service as well."


def impact_of_new_target(server: McpServer) -> str:
    """Say what a new address, issuer, endpoint or resource does to the connections."""
    return f"{_impact(server)} {_connections(server)} will work again when each person has signed in anew."


def impact_of_new_registration() -> str:
    """Say what resetting the registration does."""
    return (
        "Nobody loses anything: connections keep the registration that they were made with as long as they need it. "
        "The next sign-in registers this site anew."
    )


def _impact(server: McpServer) -> str:
    return impact_of(server.connections.select_related("server"), now=timezone.now()).sentence


def _connections(server: McpServer) -> str:
    count = server.connections.count()
    people = server.connections.filter(user__isnull=False).values("user").distinct().count()
    shared = server.connections.filter(user__isnull=True).count()
    of_whom = [f"{people} {'person' if people == 1 else 'people'}"] if people else []
    of_whom += [f"{shared} shared"] if shared else []
    return f"{count} {'connection' if count == 1 else 'connections'} ({', '.join(of_whom)})"
