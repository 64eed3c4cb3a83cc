"""`manage.py connect`: sign in from a terminal."""

from __future__ import annotations

import sys
import time
import webbrowser
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from audit.progress import with_progress
from connections.models import Connection, McpServer
from connections.services import connection_for
from oauthflow.flows.complete_authorization import complete_authorization, parse_pasted, require_whole_address
from oauthflow.flows.connect_unattended import connect_unattended
from oauthflow.flows.decide_account import decide_account
from oauthflow.flows.start_authorization import StartedAuthorization, start_authorization
from oauthflow.management.operator import PERSON_NEEDED, asking, in_one_sentence, usable_server, user_named
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import AccountChangedError, AuthorizationRequiredError
from oauthflow.status import authorization_status

Status = AuthorizationRequest.Status

_LONGEST_WAIT_SECONDS: Final = 600
_LONGEST_PASTE: Final = 16_384
_POLL_SECONDS: Final = 1.0


class Command(BaseCommand):
    help = (
        "Connect a user to a server: opens or prints a link and waits until somebody has signed in. "
        "Exits with 0 when connected, 1 when refused, 3 when nobody signed in."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--user", required=True, metavar="U", help="Whose connection it will be.")
        parser.add_argument(
            "--label", default="", metavar="L", help="A name, where the user has several accounts there."
        )
        parser.add_argument(
            "--no-browser",
            action="store_true",
            help="Print the link, and read the address that the browser ends at, or its code, from standard input.",
        )
        parser.add_argument(
            "--timeout",
            type=int,
            default=_LONGEST_WAIT_SECONDS,
            metavar="SECONDS",
            help="How long to wait. Default: 600.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        user = user_named(options["user"])
        server = usable_server(options["slug"], user=user)
        with in_one_sentence():
            connection = connection_for(user, server, label=options["label"], actor=user)
            if server.auth_type != McpServer.AuthType.OAUTH:
                self.stdout.write(f"{server.name} needs no sign-in.")
                return
            if not server.has_sign_in:
                self._connect_unattended(connection, user=user)
                return
            if server.is_unattended and self._is_vouched_for(connection, user=user):
                return
            manual = options["no_browser"]
            with asking(server):
                started = start_authorization(connection, user=user, now=timezone.now(), manual=manual)
            if manual:
                self._take_what_is_pasted(started, user=user)
            else:
                self._open_and_wait(started, user=user, seconds=options["timeout"])
            if server.is_unattended:
                self._connect_unattended(connection, user=user)
                return
        self._say_connected(connection)

    def _is_vouched_for(self, connection: Connection, *, user: User) -> bool:
        """Connect by the company's sign-in, if this person is signed in there."""
        try:
            self._connect_unattended(connection, user=user)
        except AuthorizationRequiredError:
            return False
        return True

    def _connect_unattended(self, connection: Connection, *, user: User) -> None:
        with asking(connection.server):
            connected = connect_unattended(connection, actor=user, now=timezone.now())
        self._say_connected(connected)

    def _open_and_wait(self, started: StartedAuthorization, *, user: User, seconds: int) -> None:
        self.stdout.write(f"Sign in as {user.get_username()} in your browser:\n\n  {started.authorization_url}\n")
        self.stdout.flush()
        _open(started.authorization_url)
        for _ in with_progress(_ticks(seconds), total=seconds, label="Waiting", stream=sys.stderr):
            if _is_finished(started.request, now=timezone.now()):
                return
        raise CommandError(f"Nobody signed in within {seconds} seconds.", returncode=PERSON_NEEDED)

    def _take_what_is_pasted(self, started: StartedAuthorization, *, user: User) -> None:
        self.stdout.write(
            f"Open this link in any browser and sign in:\n\n  {started.authorization_url}\n\n"
            "The browser ends at an address of this site; it does not matter if that page does not load.\n"
            f"Paste the whole address{'' if started.request.iss_required else ', or its code,'} here:"
        )
        self.stdout.flush()
        pasted = sys.stdin.readline(_LONGEST_PASTE)
        if not pasted.strip():
            raise CommandError("Nothing was pasted.", returncode=PERSON_NEEDED)
        state = started.state.reveal()
        params = parse_pasted(pasted)
        require_whole_address(started.request, params)
        if not constant_time_compare(params.get("state", state), state):
            raise CommandError("That address belongs to another sign-in; start again.")
        try:
            complete_authorization(params={**params, "state": state}, user=user, cookies=None, now=timezone.now())
        except AccountChangedError as error:
            self._ask_which_account(started, user=user, question=error.message)

    def _ask_which_account(self, started: StartedAuthorization, *, user: User, question: str) -> None:
        self.stdout.write(f"{question}\nUse the new account from now on? [y/N]")
        self.stdout.flush()
        use_new = sys.stdin.readline(_LONGEST_PASTE).strip().lower() in ("y", "yes")
        waiting = AuthorizationRequest.objects.with_state(started.state.reveal())
        decide_account(waiting, user=user, use_new=use_new, now=timezone.now())
        if not use_new:
            raise CommandError("The old account stays. Sign out at the service first, then start again.")

    def _say_connected(self, connection: Connection) -> None:
        connection.refresh_from_db()
        scopes = f", with the scopes: {connection.granted_scopes}" if connection.granted_scopes else ""
        self.stdout.write(f"Connected to {connection.server.name}{scopes}. Its id is {connection.pk}.")


def _open(url: str) -> None:
    """Open the link where there is a browser that leaves the terminal alone."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(url)


def _ticks(seconds: int) -> Iterator[int]:
    """Yield once a second, for so long."""
    end = timezone.now() + timedelta(seconds=seconds)
    while timezone.now() < end:
        yield 1
        time.sleep(_POLL_SECONDS)


def _is_finished(request: AuthorizationRequest, *, now: datetime) -> bool:
    """Look whether the browser came back.

    Raises:
        CommandError: It did, without success, or it is too late.
    """
    found = AuthorizationRequest.objects.filter(pk=request.pk).first()
    if found is None:
        raise CommandError("The sign-in was removed; start again.")
    status = authorization_status(found, now=now)
    if status.status in (Status.FAILED, Status.EXPIRED):
        late = status.status == Status.EXPIRED
        raise CommandError(f"{status.error_message} ({status.error_code})", returncode=PERSON_NEEDED if late else 1)
    return status.status == Status.COMPLETED
