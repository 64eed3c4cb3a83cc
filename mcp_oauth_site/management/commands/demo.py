"""Start the site together with a demonstration upstream, so that everything can be tried on one machine."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser

from connections.models import McpServer
from mcp_oauth_site.supervise import Child, port_is_free
from oauthflow.conf import redirect_uri
from oauthflow.protocol.secret import Secret

from .up import Command as UpCommand

_HOST: Final = "127.0.0.1"
# Printed for everybody to use: this is a demonstration on one machine, not a deployment.
_PEOPLE: Final = {"admin": "admin-demo", "alice": "alice-demo"}


class Command(UpCommand):
    """`up`, with an authorization server that has a login page and a protected MCP server beside it."""

    help = "Run everything with a demonstration authorization server and MCP server; Ctrl-C stops all."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--upstream-port", type=int, default=9000, help="first of three ports (default 9000)")
        parser.add_argument("--access-token-seconds", type=int, default=60, help="life of its tokens (default 60)")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("The demonstration has public passwords: run it on a laptop only, with DEBUG=true.")
        first: int = options["upstream_port"]
        if not 0 < first <= 65_533:
            raise CommandError("--upstream-port needs a number from 1 to 65533: it is the first of three.")
        for port in range(first, first + 3):
            if not port_is_free(_HOST, port):
                raise CommandError(f"Port {port} is in use; choose others with --upstream-port.")
        self._issuer = f"http://{_HOST}:{first}"
        self._ports = (first, first + 1, first + 2)
        self._access_token_seconds: int = options["access_token_seconds"]
        super().handle(*args, **options)

    def before_start(self) -> None:
        for name, password in _PEOPLE.items():
            if not User.objects.filter(username=name).exists():
                make = User.objects.create_superuser if name == "admin" else User.objects.create_user
                make(name, f"{name}@example.com", password)
        _, notes, old = self._ports
        _configure("notes", name="Notes", url=f"http://{_HOST}:{notes}/mcp", gateway_enabled=True,
                   description="Protected notes. This site registers itself there at the first sign-in.")  # fmt: skip
        _configure("notes-sse", name="Notes, older transport", url=f"http://{_HOST}:{old}/sse",
                   transport=McpServer.Transport.SSE, registration=McpServer.Registration.PRE_REGISTERED,
                   client_id="mcp-test-client", client_secret="mcp-test-secret",
                   description="The same notes over Server-Sent Events, with a client registered by hand.")  # fmt: skip

    def extra_children(self) -> list[Child]:
        folder = str(settings.DATA_DIR / "demo")
        python = [sys.executable, "-m"]
        issuer, notes, old = self._ports
        authorization_server = [
            *python, "examples.authorization_server", "--port", str(issuer), "--data", folder,
            "--access-token-seconds", str(self._access_token_seconds), "--client-redirect-uri", redirect_uri(),
        ]  # fmt: skip
        upstream = [*python, "examples.notes_server", "--issuer", self._issuer, "--data", folder]
        return [
            Child("authorization server", authorization_server),
            Child("notes", [*upstream, "--port", str(notes)]),
            Child("notes over SSE", [*upstream, "--port", str(old), "--transport", "sse"]),
        ]

    def announce(self) -> None:
        url = settings.PUBLIC_URL
        self.stdout.write(self.style.SUCCESS(f"\nReady: {url}/") + "   (Ctrl-C stops)\n")
        self.stdout.write(
            f"  1. Sign in as alice / {_PEOPLE['alice']}.\n"
            "  2. Choose Connect beside Notes. At the demonstration's own login, sign in as testuser / testpass\n"
            "     and allow the access.\n"
            "  3. Choose Test it: the tools of the server are listed with your new connection.\n"
            f"  4. Point any MCP client at {url}/mcp/notes; {url}/servers/notes says how.\n\n"
            f"  Administrator: {url}/admin/ as admin / {_PEOPLE['admin']}.\n"
            f"  Upstream: {self._issuer}/ (there testuser can take the access back).\n"
            f"  Tokens live for {self._access_token_seconds} seconds there, and are renewed before they end.\n\n"
            "  In another terminal:\n"
            f"    {_environment()} .venv/bin/python manage.py call notes"
            ' create_secure_note \'{"title": "Hello", "content": "World"}\' --user alice\n'
        )


def _environment() -> str:
    """What stands before another command, so that it finds this site's data and makes links to it."""
    chosen = {name: os.environ[name] for name in ("PUBLIC_URL", "DATA_DIR") if os.environ.get(name)}
    variables = {"DEBUG": "true", "EGRESS_ALLOW": ",".join(settings.EGRESS_ALLOW), **chosen}
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())


def _configure(slug: str, *, client_secret: str = "", **fields: Any) -> None:
    server = McpServer.objects.filter(slug=slug).first() or McpServer(slug=slug)
    for name, value in fields.items():
        setattr(server, name, value)
    server.client_secret_sealed = Secret(client_secret)
    server.full_clean()
    server.save()
