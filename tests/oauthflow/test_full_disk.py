"""A spool on a disk that is really full. F10."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from connections.models import Connection, TokenSet
from oauthflow.flows.refresh import batch, owners, refresh_connection, spool
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.protocol.errors import TransportError
from tests.fakes.world import World
from tests.faults import fault

pytestmark = fault("F10")


@contextmanager
def mounted(kind: str, options: str = "defaults", *, at: Path) -> Iterator[None]:
    owners.end_session()
    if subprocess.run(["mount", "-t", kind, "-o", options, kind, at], check=False).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield
    finally:
        owners.end_session()
        subprocess.run(["umount", at], check=True)


@pytest.fixture
def disk(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """A small one, which holds spool and locks."""
    with mounted("tmpfs", "size=512k", at=tmp_path):
        settings.DATA_DIR = tmp_path
        yield tmp_path


@pytest.fixture
def connection(disk: Path, world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


def fill(disk: Path) -> Path:
    full = disk / "filled"
    with full.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return full


def test_nothing_is_claimed_or_sent_until_there_is_room(
    disk: Path, world: World, connection: Connection, now: datetime
) -> None:
    spool.folder()
    full = fill(disk)
    with pytest.raises(TransportError):
        refresh_connection(connection, now=now, trigger="use")
    assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 0, "failed": 0}
    assert world.authorization_server.refresh_requests == []
    assert TokenSet.objects.get().lease_owner == ""

    full.unlink()
    assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 1, "failed": 0}


def test_an_answer_has_its_room_although_the_disk_fills_while_it_is_on_its_way(
    disk: Path, world: World, connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.authorization_server.before_token_answer = lambda: fill(disk)
    with monkeypatch.context() as dying:
        dying.setattr("oauthflow.flows.refresh.single.keep_stored", lambda *_: exit())
        with pytest.raises(SystemExit):
            refresh_connection(connection, now=now, trigger="use")
    kept = spool.answer_for(TokenSet.objects.get().pk, newer_than=1, search=False)
    assert kept is not None
    assert spool.opens(kept)


def test_each_answer_of_a_run_has_its_room_although_they_come_one_by_one(
    disk: Path, world: World, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        world.connect(User.objects.create_user(f"user{number}"), now=now)
    world.authorization_server.before_token_answer = lambda: fill(disk)
    monkeypatch.setattr(batch._Run, "_at_hand", lambda run: list(filter(None, [run._sender.next(seconds=0.0)])))

    refresh_due(now=now + timedelta(hours=1))
    kept = {one.id for path in spool.files() for one in spool.readable(path) if spool.opens(one)}
    assert len(kept) == len(world.authorization_server.refresh_requests) >= 18  # two of 20 may wait for the next claim


# As on NFS before 4.2: the C library then writes into each block, and reads those that are there.
def test_a_file_system_that_takes_no_space_ahead_serves_as_well(
    settings: Settings, tmp_path: Path, world: World, now: datetime
) -> None:
    with mounted("ramfs", at=tmp_path):
        settings.DATA_DIR = tmp_path
        for name in ("alice", "bob"):
            world.connect(User.objects.create_user(name), now=now)
        assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 2, "failed": 0}
