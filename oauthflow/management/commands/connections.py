"""`manage.py connections`: who is connected to what."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from connections.models import Connection, McpServer
from oauthflow.management.operator import user_named
from oauthflow.management.table import table

_HEADINGS = ("ID", "SERVER", "USER", "LABEL", "STATUS", "REASON", "TOKEN EXPIRES", "LAST USED")


class Command(BaseCommand):
    help = "List connections and their states."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", metavar="U", help="Only those that this user sees.")
        parser.add_argument("--server", metavar="S", help="Only those to this server.")

    def handle(self, *args: Any, **options: Any) -> None:
        found = Connection.objects.all()
        if options["user"]:
            found = found.visible_to(user_named(options["user"]))
        if options["server"]:
            if not McpServer.objects.filter(slug=options["server"]).exists():
                raise CommandError(f"There is no server {options['server']!r}.")
            found = found.filter(server__slug=options["server"])
        rows = [_row(connection) for connection in found.select_related("server", "user", "tokens")]
        self.stdout.write(table(_HEADINGS, rows))


def _row(connection: Connection) -> tuple[object, ...]:
    tokens = getattr(connection, "tokens", None)
    expires_at, used_at = tokens.expires_at if tokens else None, connection.last_used_at
    return (
        connection.pk,
        connection.server.slug,
        connection.user.username if connection.user else "(shared)",
        connection.label,
        connection.status,
        connection.reason,
        f"{expires_at:%Y-%m-%d %H:%M:%SZ}" if expires_at else "",
        f"{used_at:%Y-%m-%d %H:%M:%SZ}" if used_at else "",
    )
