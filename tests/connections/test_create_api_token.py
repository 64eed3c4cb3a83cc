"""`manage.py create_api_token`."""

from __future__ import annotations

from errno import ENOSPC
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from connections.authentication import find_api_token
from connections.models import ApiToken


def _run(*words: str) -> str:
    out = StringIO()
    call_command("create_api_token", *words, stdout=out)
    return out.getvalue()


def test_it_prints_the_token_and_nothing_else(alice: User) -> None:
    printed = _run("alice", "--scope", "servers:read", "--scope", "connections:read", "--name", "ci")
    row = ApiToken.objects.get()
    assert printed.startswith("mcp_")
    assert printed == printed.strip() + "\n"
    assert find_api_token(printed.strip(), now=row.created_at) == row
    assert (row.name, row.scopes, row.expires_at) == ("ci", ["connections:read", "servers:read"], None)


def test_several_scopes_may_follow_one_option_and_days_limit_its_life(alice: User) -> None:
    _run("alice", "--scope", "servers:read", "tools:call", "--expires-in-days", "30")
    row = ApiToken.objects.get()
    assert row.scopes == ["servers:read", "tools:call"]
    assert row.expires_at is not None
    assert (row.expires_at - row.created_at).days in {29, 30}


@pytest.mark.parametrize(
    "words",
    [
        ("nobody", "--scope", "servers:read"),
        ("alice", "--scope", "everything"),
        ("alice",),
        ("alice", "--scope", "servers:read", "--expires-in-days", "0"),
        ("alice", "--scope", "servers:read", "--expires-in-days", "999999999999"),
        ("alice", "--scope", "servers:read", "--expires-in-days", "3650000"),
    ],
)
def test_what_makes_no_sense_ends_in_one_sentence_and_makes_nothing(alice: User, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as refusal:
        _run(*words)
    assert "\n" not in str(refusal.value).strip()
    assert not ApiToken.objects.exists()


class _Full(StringIO):
    """As standard output on a full disk: what is written fails when it is flushed, if not before."""

    def flush(self) -> None:
        raise OSError(ENOSPC, "No space left on device")


def test_a_token_that_cannot_be_printed_does_not_stay(alice: User) -> None:
    with pytest.raises(OSError, match=r"^The token could not be printed and was revoked: No space left on device\.$"):
        call_command("create_api_token", "alice", "--scope", "servers:read", stdout=_Full())
    assert not ApiToken.objects.valid(now=timezone.now()).exists()
