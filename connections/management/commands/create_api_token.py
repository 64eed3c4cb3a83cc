"""`manage.py create_api_token`: the first token for a program, made by an operator."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from connections.api_tokens import issue_api_token, revoke_api_token
from connections.models.api_token import ApiScope
from oauthflow.protocol.errors import InvalidRequestError


class Command(BaseCommand):
    help = "Make a personal API token and print it, once and alone, on standard output."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--scope", action="extend", nargs="+", required=True, metavar="S", help=f"Of {', '.join(ApiScope.values)}."
        )
        parser.add_argument("--name", default="", help="What you will recognise it by.")
        parser.add_argument(
            "--expires-in-days", type=int, metavar="D", help="Without it the token lives until revoked."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        days = options["expires_in_days"]
        try:
            issued = issue_api_token(
                user,
                scopes=options["scope"],
                name=options["name"] or "made at the command line",
                now=timezone.now(),
                lifetime=None if days is None else timedelta(days=days),
            )
        except (InvalidRequestError, OverflowError) as error:
            raise CommandError(
                f"No token was made: {getattr(error, 'detail', '') or 'the lifetime is too long'}."
            ) from error
        try:
            self.stdout.write(issued.token.reveal())
            self.stdout.flush()
        except OSError as error:  # a full disk or a closed pipe: nobody would know the token, and it would be valid
            revoke_api_token(issued.row, now=timezone.now())
            raise OSError(f"The token could not be printed and was revoked: {error.strerror or error}.") from error
