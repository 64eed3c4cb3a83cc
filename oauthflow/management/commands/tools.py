"""`manage.py tools`: what a connected server offers."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from connections.models import McpServer
from oauthflow.client import AuthorizationRequired, connect
from oauthflow.management.operator import asking, in_one_sentence, usable_server, user_named
from oauthflow.management.table import as_json, table


class Command(BaseCommand):
    help = (
        "List the tools of a connected server. Where somebody has to sign in first, prints the link and exits with 3."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--user", required=True, metavar="U", help="On whose behalf.")
        parser.add_argument("--label", metavar="L", help="Which of several connections.")
        parser.add_argument("--json", action="store_true", help="Everything that the server says, as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        user = user_named(options["user"])
        server: McpServer = usable_server(options["slug"], user=user)
        with in_one_sentence():
            try:
                with asking(server), connect(server.slug, user=user, label=options["label"]) as mcp:
                    tools = mcp.list_tools()
            except AuthorizationRequired as error:
                self.stdout.write(error.authorization_url)
                raise
        if options["json"]:
            self.stdout.write(as_json(tools))
            return
        rows = [(tool.get("name"), str(tool.get("description") or "").strip().partition("\n")[0]) for tool in tools]
        self.stdout.write(table(("TOOL", "DESCRIPTION"), rows))
