"""`manage.py revoke`: give up a grant."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from oauthflow.flows.revoke import revoke_connection
from oauthflow.management.operator import any_connection, asking, in_one_sentence


class Command(BaseCommand):
    help = "Revoke the tokens of a connection at its authorization server, as far as that can be, and forget them here."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", help="As `connections` lists it.")
        parser.add_argument("--reason", default="", metavar="R", help="For the record; at most 200 characters.")

    def handle(self, *args: Any, **options: Any) -> None:
        connection = any_connection(options["id"])
        with in_one_sentence(), asking(connection.server):
            revoke_connection(connection, actor=None, reason=options["reason"], now=timezone.now())
        self.stdout.write(f"Disconnected from {connection.server.name}; its tokens are forgotten.")
