"""Sessions of the older revisions belong to one person, program, server and grant. G-12 to G-14, A6 G08."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from connections.models import McpServer
from gateway.callers.caller import Caller
from gateway.conf import GatewayConfiguration
from gateway.models import LegacySession
from gateway.sessions import bound as module
from gateway.sessions.bound import Sessions
from gateway.targets.find import Target
from gateway.tasks import forget_idle_sessions
from oauthflow.hot_path.threads import Threads
from oauthflow.protocol.secret import Secret
from tests.fakes.world import World
from tests.requirements import requirement

from .target_stage import Stage, find, play, set_stage, target_of

pytestmark = pytest.mark.django_db(transaction=True)
Found = TypeVar("Found")
LIMITS = GatewayConfiguration()
UPSTREAM = "1"  # as weak as can be


async def always() -> bool:
    return True


def caller_of(user: User, **changes: Any) -> Caller:
    caller = Caller(user.pk, f"user:{user.pk}", "inspector", frozenset({"mcp:access"}), None, always)
    return replace(caller, **changes)


@pytest.fixture
def stage(world: World, alice: User) -> Stage:
    return set_stage(world, alice)


@pytest.fixture
def target(stage: Stage) -> Target:
    return target_of(play(find(stage.alice))[0])


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


class Process:
    """One process of the site."""

    def __init__(self, runner: asyncio.Runner, limits: GatewayConfiguration = LIMITS, **kept: int) -> None:
        self._runner = runner
        self._sessions = Sessions(limits, threads=Threads(1, name="session"), **kept)

    def bind(self, caller: Caller, target: Target, upstream_id: str = UPSTREAM) -> bytes:
        return self._run(self._sessions.bind(upstream_id, caller=caller, target=target))

    def find(self, session_id: bytes, caller: Caller, target: Target) -> str | None:
        return self._run(self._sessions.upstream_id(session_id, caller=caller, target=target))

    def forget(self, session_id: bytes) -> None:
        self._run(self._sessions.forget(session_id))

    def _run(self, call: Coroutine[Any, Any, Found]) -> Found:
        return self._runner.run(call)


@pytest.fixture
def process(loop: asyncio.Runner) -> Process:
    return Process(loop)


@requirement("G-12", "G08", "H-02")
def test_the_client_gets_an_id_that_nobody_can_guess(process: Process, alice: User, target: Target) -> None:
    given = {process.bind(caller_of(alice), target) for _ in range(50)}
    assert len(given) == 50
    assert all(re.fullmatch(rb"[\x21-\x7e]{43}", session_id) for session_id in given)
    row = LegacySession.objects.get(pk=hashlib.sha256(given.pop()).hexdigest())
    assert (row.user, row.server_id, row.connection_id) == (alice, target.server.id, target.connection_id)
    assert row.client_id == "inspector"
    assert row.upstream_id_sealed.reveal().reveal() == UPSTREAM
    assert not any(session_id.decode() in str(vars(row)) for session_id in given)


def test_the_same_person_program_server_and_grant_use_it_in_every_process(
    process: Process, loop: asyncio.Runner, alice: User, target: Target
) -> None:
    session_id = process.bind(caller_of(alice), target)
    for one in (process, Process(loop)):
        for _ in range(2):
            assert one.find(session_id, caller_of(alice), target) == UPSTREAM


@requirement("G-12", "G08", "H-02")
@pytest.mark.parametrize(
    "changed",
    [
        {"user_id": 10**6, "subject": "user:other"},
        {"subject": "external:https://issuer.example#1"},
        {"client_id": "another"},
        {"client_id": ""},
    ],
)
def test_it_is_unknown_to_every_other_principal(
    process: Process, loop: asyncio.Runner, alice: User, target: Target, changed: dict[str, Any]
) -> None:
    session_id = process.bind(caller_of(alice), target)
    for one in (process, Process(loop)):
        assert one.find(session_id, caller_of(alice, **changed), target) is None
    assert process.find(session_id, caller_of(alice), target) == UPSTREAM


@requirement("G-13", "G08")
def test_it_is_unknown_at_other_servers_and_after_a_new_grant(
    process: Process, loop: asyncio.Runner, alice: User, target: Target
) -> None:
    session_id = process.bind(caller_of(alice), target)
    for elsewhere in (
        replace(target, server=replace(target.server, id=uuid4())), replace(target, connection_id=uuid4()),
        replace(target, server=replace(target.server, url="https://elsewhere.example/mcp")),
        replace(target, connection_id=None), replace(target, grant="second"),
    ):  # fmt: skip
        for one in (process, Process(loop)):
            assert one.find(session_id, caller_of(alice), elsewhere) is None


@requirement("G-13")
@pytest.mark.parametrize("change", ["credential", "header", "address", "name"])
def test_with_a_credential_for_everybody_it_ends_with_that_or_with_the_address(
    process: Process, loop: asyncio.Runner, alice: User, change: str
) -> None:
    server = McpServer(
        slug="notes", name="Notes", url="https://a.example/mcp", auth_type="header", header_name="X-Key",
        gateway_enabled=True,
    )  # fmt: skip
    server.static_credential_sealed = Secret("first")
    server.save()
    session_id = process.bind(caller_of(alice), target_of(play(find(alice))[0]))
    assert Process(loop).find(session_id, caller_of(alice), target_of(play(find(alice))[0])) == UPSTREAM
    if change == "credential":
        server.static_credential_sealed = Secret("second")
    columns = {"header": {"header_name": "X-Other"}, "address": {"url": "https://b.example/mcp"}, "name": {"name": "N"}}
    for column, value in columns.get(change, {}).items():
        setattr(server, column, value)
    server.save()
    changed = target_of(play(find(alice))[0])
    for one in (process, Process(loop)):
        assert one.find(session_id, caller_of(alice), changed) == (UPSTREAM if change == "name" else None)


def test_a_credential_that_is_sealed_anew_ends_none(process: Process, loop: asyncio.Runner, alice: User) -> None:
    server = McpServer(
        slug="notes", name="Notes", url="https://a.example/mcp", auth_type="bearer", gateway_enabled=True
    )
    grants = []
    for _ in range(2):
        server.static_credential_sealed = Secret("same")
        server.save()
        target = target_of(play(find(alice))[0])
        grants.append((server.static_credential_sealed.ciphertext, target.grant))
    assert grants[0][0] != grants[1][0]
    assert grants[0][1] == grants[1][1]
    assert "same" not in target.grant


@pytest.mark.parametrize("session_id", [b"", b"1", b"a" * 43, b"a" * 44, b"\xff" * 43, b"a" * 42 + b"\n"])
def test_what_never_was_is_unknown(process: Process, alice: User, target: Target, session_id: bytes) -> None:
    process.bind(caller_of(alice), target)
    assert process.find(session_id, caller_of(alice), target) is None


@requirement("G08")
def test_two_people_whose_server_gives_both_the_same_id_have_two_sessions(
    process: Process, alice: User, bob: User, target: Target
) -> None:
    hers, his = process.bind(caller_of(alice), target), process.bind(caller_of(bob), target)
    assert hers != his
    assert process.find(hers, caller_of(bob), target) is None
    assert process.find(his, caller_of(bob), target) == UPSTREAM


@requirement("G-13")
def test_what_was_forgotten_is_unknown(process: Process, loop: asyncio.Runner, alice: User, target: Target) -> None:
    session_id = process.bind(caller_of(alice), target)
    process.forget(session_id)
    for one in (process, Process(loop)):
        assert one.find(session_id, caller_of(alice), target) is None


def test_another_process_learns_of_it(
    process: Process, loop: asyncio.Runner, alice: User, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = process.bind(caller_of(alice), target)
    Process(loop).forget(session_id)
    monkeypatch.setattr(module, "monotonic", lambda: 10**9)
    assert process.find(session_id, caller_of(alice), target) is None


@pytest.mark.parametrize("gone", ["user", "server", "connection"])
def test_it_goes_with_what_it_belongs_to(
    process: Process, loop: asyncio.Runner, stage: Stage, target: Target, gone: str
) -> None:
    caller = caller_of(stage.alice)
    session_id = process.bind(caller, target)
    owners: dict[str, Any] = {"user": stage.alice, "server": stage.server, "connection": stage.connection}
    owners[gone].delete()
    assert Process(loop).find(session_id, caller, target) is None


def test_an_idle_one_ends_and_a_used_one_does_not(
    process: Process, loop: asyncio.Runner, alice: User, target: Target
) -> None:
    idle, used = process.bind(caller_of(alice), target), process.bind(caller_of(alice), target)
    nearly = timezone.now() - timedelta(seconds=LIMITS.session_idle_seconds) + timedelta(minutes=1)
    LegacySession.objects.update(last_used_at=nearly)
    assert Process(loop).find(used, caller_of(alice), target) == UPSTREAM
    for row in LegacySession.objects.all():
        LegacySession.objects.filter(pk=row.pk).update(last_used_at=row.last_used_at - timedelta(minutes=2))
    assert Process(loop).find(idle, caller_of(alice), target) is None
    assert Process(loop).find(used, caller_of(alice), target) == UPSTREAM
    assert forget_idle_sessions() == 1
    assert Process(loop).find(used, caller_of(alice), target) == UPSTREAM


def test_the_least_recently_used_ends_where_somebody_has_too_many(
    loop: asyncio.Runner, alice: User, bob: User, target: Target
) -> None:
    process = Process(loop, replace(LIMITS, sessions_of_a_user=2))
    his = process.bind(caller_of(bob), target)
    first, second, third = (process.bind(caller_of(alice), target) for _ in range(3))
    found = [Process(loop).find(session_id, caller_of(alice), target) for session_id in (first, second, third)]
    assert found == [None, UPSTREAM, UPSTREAM]
    assert Process(loop).find(his, caller_of(bob), target) == UPSTREAM


def test_what_does_not_fit_in_memory_is_found_in_the_table(loop: asyncio.Runner, alice: User, target: Target) -> None:
    process = Process(loop, kept=2)
    given = [process.bind(caller_of(alice), target, str(number)) for number in range(5)]
    assert [process.find(one, caller_of(alice), target) for one in given] == ["0", "1", "2", "3", "4"]


def test_one_that_does_not_open_is_begun_anew(
    process: Process, loop: asyncio.Runner, alice: User, target: Target
) -> None:
    session_id = process.bind(caller_of(alice), target)
    other = process.bind(caller_of(alice), target, "secret")
    stolen = LegacySession.objects.get(pk=hashlib.sha256(other).hexdigest()).upstream_id_sealed.ciphertext
    LegacySession.objects.filter(pk=hashlib.sha256(session_id).hexdigest()).update(upstream_id_sealed=stolen)
    assert Process(loop).find(session_id, caller_of(alice), target) is None
