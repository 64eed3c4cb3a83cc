"""What the commands have in common: whom they act for, and one sentence where something stops them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.management.base import CommandError

from connections.models import Connection, McpServer
from oauthflow.client import AuthorizationRequired
from oauthflow.protocol.errors import AuthorizationRequiredError, FlowError

from .table import printable

PERSON_NEEDED: Final = 3
"""Exit code where somebody has to sign in first."""

STOPPED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""

_WIPE_LINE: Final = "\r\x1b[K"


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Turn what stops a flow into a `CommandError`: our sentence, the code, and what the log would say."""
    try:
        yield
    except AuthorizationRequired as error:
        raise CommandError("Somebody has to sign in first.", returncode=PERSON_NEEDED) from error
    except FlowError as error:
        needs_person = isinstance(error, AuthorizationRequiredError)
        detail = f": {error.detail}" if error.detail else ""
        raise CommandError(
            printable(f"{error.message} ({error.code}{detail})"), returncode=PERSON_NEEDED if needs_person else 1
        ) from error
    except PermissionDenied as error:
        raise CommandError("This account may not do that.") from error
    except KeyboardInterrupt as error:
        raise CommandError("Stopped.", returncode=STOPPED) from error


@contextmanager
def asking(server: McpServer) -> Iterator[None]:
    """Say on a terminal, while it lasts, which server this waits for; nothing where the output goes elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    print(printable(f"Asking {server.name} …"), end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(_WIPE_LINE, end="", file=sys.stderr, flush=True)


def user_named(username: str) -> User:
    """Return an active user.

    Raises:
        CommandError: There is none of that name.
    """
    found = User.objects.filter(username=username, is_active=True).first()
    if found is None:
        raise CommandError(f"There is no active user {username!r}.")
    return found


def usable_server(slug: str, *, user: User) -> McpServer:
    """Return a server that the user may use.

    Raises:
        CommandError: There is none of that name that is open to them.
    """
    found = McpServer.objects.usable_by(user).filter(slug=slug).first()
    if found is None:
        raise CommandError(f"There is no server {slug!r} that {user.get_username()} may use.")
    return found


def any_connection(connection_id: str) -> Connection:
    """Return a connection by its id; an operator at the terminal reaches everybody's.

    Raises:
        CommandError: There is none of that id.
    """
    try:
        wanted = UUID(connection_id)
    except ValueError as error:
        raise CommandError(f"{connection_id!r} is not the id of a connection; `connections` lists them.") from error
    found = Connection.objects.select_related("server", "user").filter(pk=wanted).first()
    if found is None:
        raise CommandError(f"There is no connection {wanted}; `connections` lists them.")
    return found
