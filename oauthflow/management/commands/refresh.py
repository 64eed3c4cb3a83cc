"""`manage.py refresh`: renew a token now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from connections.database_time import by_database
from oauthflow.flows.refresh import refresh_connection
from oauthflow.management.operator import any_connection, asking, in_one_sentence


class Command(BaseCommand):
    help = "Refresh the tokens of a connection, whether or not they are due. Exits with 3 where only a person can help."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", help="As `connections` lists it.")

    def handle(self, *args: Any, **options: Any) -> None:
        connection = any_connection(options["id"])
        with in_one_sentence(), asking(connection.server):
            refresh_connection(connection, now=by_database(timezone.now()), trigger="request")
        tokens = connection.token_set
        until = f" until {tokens.expires_at:%Y-%m-%d %H:%M:%SZ}" if tokens and tokens.expires_at else ""
        self.stdout.write(f"Refreshed; the new token is valid{until}.")
