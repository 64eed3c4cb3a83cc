"""What operators do at the terminal: results on standard output, one sentence and an exit code where it fails."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import webbrowser
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from audit.models import AuditRecord
from connections.models import Connection, McpServer, TokenSet
from oauthflow import client
from oauthflow.flows.complete_authorization import complete_authorization
from oauthflow.flows.start_authorization import bind_browser
from oauthflow.management.commands import connect as connect_command
from oauthflow.management.table import as_json, table
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.errors import AuthorizationRequiredError
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.terminal import Terminal

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = ("connect", "tools", "call", "connections", "refresh", "revoke", "servers")


def run(*words: str) -> str:
    """Standard output of a command that succeeds."""
    output = io.StringIO()
    call_command(*words, stdout=output)
    return output.getvalue()


def refused(*words: str) -> tuple[int, str, str]:
    """Exit code, sentence and standard output of a command that fails."""
    output = io.StringIO()
    with pytest.raises(CommandError) as raised:
        call_command(*words, stdout=output)
    sentence = str(raised.value)
    assert "\n" not in sentence
    return raised.value.returncode, sentence, output.getvalue()


def _answers(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    """Put something in place of the MCP SDK."""

    def stand_in(connection: Connection, **arguments: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(client, "call_tool", stand_in)
    monkeypatch.setattr(client, "list_tools", stand_in)


@pytest.fixture
def person(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[AuthorizationRequest], None]], None]:
    """Say what the person does while the command waits: it runs in place of the pause between two looks."""
    monkeypatch.setattr(webbrowser, "get", _no_browser)

    def will(act: Callable[[AuthorizationRequest], None]) -> None:
        monkeypatch.setattr(
            connect_command.time, "sleep", lambda _: act(AuthorizationRequest.objects.latest("initiated_at"))
        )

    return will


def _no_browser() -> webbrowser.BaseBrowser:
    raise webbrowser.Error


Person = Callable[[Callable[[AuthorizationRequest], None]], None]


def _agree(world: World) -> Callable[[AuthorizationRequest], None]:
    def act(pending: AuthorizationRequest) -> None:
        now = timezone.now()
        bound = bind_browser(pending, user=pending.user, now=now)
        back = world.authorization_server.authorize(bound.redirect_url)
        cookies = {bound.cookie_name: bound.cookie_value.reveal()}
        complete_authorization(params=_params(back), user=pending.user, cookies=cookies, now=now)

    return act


def _params(address: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(address).query))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command(command, "--help")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_connect_prints_the_link_waits_and_says_when_it_worked(world: World, alice: User, person: Person) -> None:
    world.server()
    person(_agree(world))
    said = run("connect", "notes", "--user", "alice")
    pending = AuthorizationRequest.objects.get()
    assert f"http://localhost:8000/connect/requests/{pending.pk}" in said
    assert f"Connected to Notes. Its id is {pending.connection.pk}." in said
    assert Connection.objects.get().status == "active"


def test_connect_opens_a_browser_that_has_a_window_of_its_own(
    world: World, alice: User, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    world.server()
    person(_agree(world))
    for browser in (webbrowser.GenericBrowser("lynx"), webbrowser.BackgroundBrowser("firefox")):
        monkeypatch.setattr(browser, "open", opened.append)
        monkeypatch.setattr(webbrowser, "get", lambda browser=browser: browser)
        run("connect", "notes", "--user", "alice")
    newest = AuthorizationRequest.objects.latest("initiated_at")
    assert opened == [f"http://localhost:8000/connect/requests/{newest.pk}"]


def test_connect_ends_with_1_when_the_person_or_the_service_refuses(world: World, alice: User, person: Person) -> None:
    world.server()

    def refuse(pending: AuthorizationRequest) -> None:
        AuthorizationRequest.objects.update(status="failed", error_code="access_denied")

    person(refuse)
    code, sentence, _ = refused("connect", "notes", "--user", "alice")
    assert (code, "access_denied" in sentence) == (1, True)


def test_connect_ends_with_3_when_nobody_comes(world: World, alice: User, person: Person) -> None:
    world.server()
    assert refused("connect", "notes", "--user", "alice", "--timeout", "0")[0] == 3

    def let_it_expire(pending: AuthorizationRequest) -> None:
        AuthorizationRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    person(let_it_expire)
    code, sentence, _ = refused("connect", "notes", "--user", "alice")
    assert (code, "authorization_timeout" in sentence) == (3, True)


def test_waiting_can_be_stopped(world: World, alice: User, person: Person) -> None:
    world.server()

    def stop(pending: AuthorizationRequest) -> None:
        raise KeyboardInterrupt

    person(stop)
    assert refused("connect", "notes", "--user", "alice")[:2] == (130, "Stopped.")


@pytest.mark.parametrize("whole", [True, False])
def test_connect_without_a_browser_takes_what_is_pasted(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    world.server()
    world.authorization_server.promises_iss = whole

    class Shell(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            link = next(word for word in output.getvalue().split() if word.startswith("https://as.example/"))
            back = world.authorization_server.authorize(link)
            return f"{back if whole else _params(back)['code']}\n"

    monkeypatch.setattr(sys, "stdin", Shell())
    output = io.StringIO()
    call_command("connect", "notes", "--user", "alice", "--no-browser", "--label", "work", stdout=output)
    connection = Connection.objects.get()
    assert (connection.status, connection.label, connection.user) == ("active", "work", alice)
    stored = TokenSet.objects.get().access_token_sealed.reveal().reveal()
    assert stored not in output.getvalue()


@pytest.mark.parametrize(
    ("pasted", "code"),
    [
        ("", 3),
        ("\n", 3),
        ("two words\n", 1),
        ("http://localhost:8000/api/v1/oauth/callback?code=x&state=another-state-altogether-1\n", 1),
        ("http://localhost:8000/api/v1/oauth/callback?code=x&code=y\n", 1),
        ("http://localhost:8000/api/v1/oauth/callback?error=access_denied&iss=https://as.example\n", 1),
    ],
)
def test_connect_without_a_browser_refuses_what_is_no_answer(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch, pasted: str, code: int
) -> None:
    world.server()
    monkeypatch.setattr(sys, "stdin", io.StringIO(pasted))
    assert refused("connect", "notes", "--user", "alice", "--no-browser")[0] == code
    assert world.authorization_server.token_requests == []


def test_a_code_alone_is_no_alarm_where_the_service_names_itself_beside_it(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.server()
    monkeypatch.setattr(sys, "stdin", io.StringIO("only-a-code\n"))
    code, sentence, said = refused("connect", "notes", "--user", "alice", "--no-browser")
    assert (code, "paste all of it" in sentence, "another sign-in service" in sentence) == (1, True, False)
    assert "or its code" not in said


def test_connect_needs_no_sign_in_where_the_server_needs_none(world: World, alice: User) -> None:
    world.server(auth_type=McpServer.AuthType.NONE)
    assert run("connect", "notes", "--user", "alice") == "Notes needs no sign-in.\n"
    assert Connection.objects.get().status == "active"


def test_who_may_not_use_a_server_or_is_unknown_is_told_in_one_sentence(world: World, alice: User, bob: User) -> None:
    world.server().users.add(bob)
    for words in (("connect", "notes"), ("tools", "notes"), ("call", "notes", "x"), ("call", "nope", "x")):
        code, sentence, _ = refused(*words, "--user", "alice")
        assert (code, sentence.startswith("There is no server")) == (1, True)
        assert refused(*words, "--user", "nobody")[1] == "There is no active user 'nobody'."
    assert Connection.objects.count() == 0


def test_a_shared_connection_is_not_made_by_somebody_who_does_not_manage_it(world: World, alice: User) -> None:
    world.server(connection_policy="shared")
    code, sentence, _ = refused("connect", "notes", "--user", "alice")
    assert (code, "invalid_request" in sentence) == (1, True)


def test_a_server_that_cannot_be_discovered_is_told_in_one_sentence(world: World, alice: User) -> None:
    world.server()
    world.authorization_server.metadata_answer = Answer(500)
    assert refused("connect", "notes", "--user", "alice")[0] == 1


def test_tools_are_listed_as_a_table_or_as_json(world: World, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    world.connect(alice, now=timezone.now())
    tools = [
        {"name": "search", "description": "Finds\nmany \x1b[31mthings"},
        {"name": "evil\x9b2J", "description": None},
    ]
    _answers(monkeypatch, tools)
    lines = run("tools", "notes", "--user", "alice").splitlines()
    assert [line.split() for line in lines] == [
        ["TOOL", "DESCRIPTION"], ["-" * 7, "-" * 11], ["search", "Finds"], ["evil", "2J"],
    ]  # fmt: skip
    said = run("tools", "notes", "--user", "alice", "--json")
    assert json.loads(said) == tools
    assert "\x1b" not in said
    assert "\x9b" not in said


def test_a_call_prints_its_result_and_nothing_else(world: World, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    world.connect(alice, now=timezone.now())
    result = {"content": [{"type": "text", "text": "Grüße \u202e"}], "isError": False}
    _answers(monkeypatch, result)
    said = run("call", "notes", "search", '{"q": "x"}', "--user", "alice")
    assert json.loads(said) == result
    assert "Grüße" in said
    assert "\u202e" not in said


def test_an_error_of_the_tool_is_printed_and_ends_with_1(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connect(alice, now=timezone.now())
    _answers(monkeypatch, {"content": [], "isError": True})
    code, _, said = refused("call", "notes", "search", "--user", "alice")
    assert (code, json.loads(said)["isError"]) == (1, True)


@pytest.mark.parametrize("arguments", ["{", "[1]", "3", "[" * 100_000])
def test_arguments_that_are_no_object_are_refused(world: World, alice: User, arguments: str) -> None:
    world.server()
    assert refused("call", "notes", "search", arguments, "--user", "alice")[0] == 1
    assert world.internet.calls == []


@pytest.mark.parametrize("words", [("call", "notes", "search"), ("tools", "notes")])
def test_where_a_person_is_needed_the_link_is_printed_and_the_command_ends_with_3(
    world: World, alice: User, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.server()
    code, sentence, said = refused(*words, "--user", "alice")
    pending = AuthorizationRequest.objects.get()
    assert (code, sentence) == (3, "Somebody has to sign in first.")
    assert said == f"http://localhost:8000/connect/requests/{pending.pk}\n"
    world.connect(alice, now=timezone.now())
    _answers(monkeypatch, AuthorizationRequiredError(reason="invalid_grant"))
    assert refused(*words, "--user", "alice")[0] == 3


def test_connections_are_listed_for_one_user_or_one_server(world: World, alice: User, bob: User) -> None:
    mine = world.connect(alice, now=timezone.now())
    world.server("other", url="https://other.example/mcp")
    theirs = world.connection(bob, slug="other")
    everything, of_alice = run("connections"), run("connections", "--user", "alice")
    assert str(mine.pk) in everything
    assert str(theirs.pk) in everything
    assert "active" in of_alice
    assert str(theirs.pk) not in of_alice
    assert str(mine.pk) not in run("connections", "--server", "other")
    assert refused("connections", "--server", "nope")[0] == 1
    assert refused("connections", "--user", "nobody")[0] == 1


def test_a_connection_is_refreshed(world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now() - timedelta(minutes=50))
    said = run("refresh", str(connection.pk))
    tokens = TokenSet.objects.get()
    assert said.startswith("Refreshed; the new token is valid until 20")
    assert tokens.generation == 2
    assert tokens.access_token_sealed.reveal().reveal() not in said
    assert AuditRecord.objects.get(event="token.refreshed").actor == "system"


def test_a_terminal_says_whom_a_command_waits_for_and_forgets_it(
    world: World, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = world.connect(alice, now=timezone.now() - timedelta(minutes=50))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for words in (("refresh", str(connection.pk)), ("servers", "check", "notes"), ("revoke", str(connection.pk))):
        run(*words)
        assert terminal.getvalue() == "Asking Notes …\r\x1b[K"
        terminal.seek(0)
        terminal.truncate()


def test_a_refresh_that_only_a_person_can_mend_ends_with_3_and_trouble_with_1(world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now() - timedelta(minutes=50))
    world.authorization_server.refresh_answer = Answer(503)
    assert refused("refresh", str(connection.pk))[0] == 1
    other = world.connection(alice, label="other")
    assert refused("refresh", str(other.pk))[0] == 3


def test_a_connection_is_revoked_with_its_reason(world: World, alice: User) -> None:
    connection = world.connect(alice, now=timezone.now())
    said = run("revoke", str(connection.pk), "--reason", "left the company")
    connection.refresh_from_db()
    assert said == "Disconnected from Notes; its tokens are forgotten.\n"
    assert (connection.status, connection.reason) == ("revoked", "left the company")
    assert world.authorization_server.revocations


@pytest.mark.parametrize("command", ["refresh", "revoke"])
def test_an_id_that_is_none_is_told_in_one_sentence(db: None, command: str) -> None:
    assert refused(command, "1")[:2] == (1, "'1' is not the id of a connection; `connections` lists them.")
    assert refused(command, str(uuid4()))[0] == 1


def test_a_table_cuts_long_cells_and_keeps_control_characters_out() -> None:
    lines = table(("A", "B"), [("x" * 200, None), ("a\x1b\nb", 3)]).splitlines()
    assert len(lines) == 4
    assert len(lines[2]) == 100
    assert lines[3].split() == ["a", "b", "3"]
    assert json.loads(as_json({"a": "\u2028\x7f"})) == {"a": "\u2028\x7f"}


def test_the_exit_code_reaches_the_shell() -> None:
    finished = subprocess.run(
        [sys.executable, "manage.py", "call", "notes", "search", "{", "--user", "alice"],
        cwd=ROOT, env={"DJANGO_SETTINGS_MODULE": "tests.settings"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 1
    assert finished.stderr.strip().splitlines()[-1] == "CommandError: The arguments are not JSON."
    assert finished.stdout == ""
