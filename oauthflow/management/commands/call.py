"""`manage.py call`: one call of one tool."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from oauthflow.client import AuthorizationRequired, connect
from oauthflow.management.operator import asking, in_one_sentence, usable_server, user_named
from oauthflow.management.table import as_json


class Command(BaseCommand):
    help = (
        "Call a tool of a connected server and print its result as JSON. "
        "Where somebody has to sign in first, prints the link and exits with 3."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("tool")
        parser.add_argument("arguments", nargs="?", default="{}", help="A JSON object; default: {}.")
        parser.add_argument("--user", required=True, metavar="U", help="On whose behalf.")
        parser.add_argument("--label", metavar="L", help="Which of several connections.")

    def handle(self, *args: Any, **options: Any) -> None:
        arguments = _object(options["arguments"])
        user = user_named(options["user"])
        server = usable_server(options["slug"], user=user)
        with in_one_sentence():
            try:
                with asking(server), connect(server.slug, user=user, label=options["label"]) as mcp:
                    result = mcp.call_tool(options["tool"], arguments)
            except AuthorizationRequired as error:
                self.stdout.write(error.authorization_url)
                raise
        self.stdout.write(as_json(result))
        if result.get("isError"):
            raise CommandError("The tool reports an error.")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CommandError("The arguments are not JSON.") from error
    if not isinstance(value, dict):
        raise CommandError("The arguments have to be a JSON object.")
    return value
