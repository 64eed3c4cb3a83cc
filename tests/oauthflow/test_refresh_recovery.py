"""What a dead or frozen owner leaves behind, and what survives it in the spool. Faults F01, F03, F08, F10 and F11."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from errno import EIO, ENOSPC
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.db.models.functions import Now
from django.utils import timezone
from pytest_django import Settings

from audit.models import AuditRecord
from connections.models import Connection, Revocation, TokenSet
from connections.revocations import end_grants
from oauthflow.flows.refresh import batch, keep, owners, refresh_connection, replay, spool
from oauthflow.flows.refresh.recovery import recover_abandoned
from oauthflow.flows.refresh.replay import replay_spool
from oauthflow.flows.refresh_due import refresh_due
from oauthflow.flows.revocation_outbox.batch import revoke_due
from oauthflow.protocol.errors import AuthorizationRequiredError, TransportError
from tests.fakes.internet import Answer
from tests.fakes.world import World
from tests.faults import fault
from tests.scale.site import eventually

DEAD = "0123456789abcdef-000000000000-0"


@pytest.fixture
def connection(world: World, alice: User, now: datetime) -> Connection:
    return world.connect(alice, now=now)


@pytest.fixture(autouse=True)
def folder(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """A spool and locks of this test's own."""
    owners.end_session()
    settings.DATA_DIR = tmp_path
    yield tmp_path / "spool"
    owners.end_session()


def abandon(owner: str = DEAD) -> None:
    TokenSet.objects.update(lease_owner=owner, lease_expires_at=Now() + timedelta(seconds=60))


def answers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.answer"))


def test_a_refresh_leaves_its_answer_sealed_in_a_private_file(
    connection: Connection, now: datetime, folder: Path
) -> None:
    refresh_connection(connection, now=now, trigger="use")

    (path,) = folder.iterdir()
    stored = TokenSet.objects.get()
    assert path.name == f"{stored.pk.hex}.2.answer"
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    text = path.read_text()
    assert stored.access_token_sealed.reveal().reveal() not in text
    assert str.__str__(stored.access_token_sealed.ciphertext) in text


@fault("F10")
def test_without_a_place_for_the_answer_nothing_is_claimed_or_sent(
    world: World, connection: Connection, now: datetime, folder: Path
) -> None:
    folder.write_text("in the way")

    with pytest.raises(TransportError):
        refresh_connection(connection, now=now, trigger="use")
    assert world.authorization_server.refresh_requests == []
    assert TokenSet.objects.get().lease_owner == ""


@fault("F10")
def test_with_a_full_disk_nothing_is_claimed_or_sent_and_no_file_stays(
    world: World, connection: Connection, now: datetime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(spool.os, "posix_fallocate", full)
    with pytest.raises(TransportError):
        refresh_connection(connection, now=now, trigger="use")
    assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 0, "failed": 0}
    assert world.authorization_server.refresh_requests == []
    assert TokenSet.objects.get().lease_owner == ""
    assert list(folder.iterdir()) == []


@fault("F10")
def test_a_disk_that_fails_after_all_costs_no_grant_while_the_database_takes_it(
    world: World, connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(file: int) -> None:
        raise OSError(EIO, "Input/output error")

    monkeypatch.setattr(spool.os, "fsync", fails)
    refresh_connection(connection, now=now, trigger="use")
    assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 1, "failed": 0}
    assert TokenSet.objects.get().generation == 3


@fault("F10")
def test_what_a_full_disk_takes_only_half_of_is_not_taken_for_kept(
    world: World, connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    write = os.pwrite
    monkeypatch.setattr(spool.os, "pwrite", lambda file, data, at: write(file, data[: len(data) // 2], at))
    assert refresh_due(now=now + timedelta(hours=1)) == {"refreshed": 1, "failed": 0}
    assert TokenSet.objects.get().generation == 2
    assert answers(folder) == []


def test_an_answer_that_was_kept_but_not_stored_is_stored_by_whoever_comes_next(
    world: World, connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr("oauthflow.flows.refresh.single.keep_stored", lambda *_: exit())
        with pytest.raises(SystemExit):
            refresh_connection(connection, now=now, trigger="use")
    owners.end_session()
    assert TokenSet.objects.get().generation == 1
    owner = TokenSet.objects.get().lease_owner
    # The server has yet to notice that the session ended.
    eventually(lambda: bool(owners.dead_among([owner])), seconds=3)

    assert recover_abandoned(now=now).failed == 0
    assert (TokenSet.objects.get().generation, TokenSet.objects.get().lease_owner) == (2, "")
    assert len(world.authorization_server.refresh_requests) == 1
    assert AuditRecord.objects.filter(event="token.refreshed").count() == 1
    assert replay_spool() == 0


@fault("F11")
@fault("F23")
@pytest.mark.parametrize("deletes", [True, False])
def test_an_answer_of_a_dead_owner_whose_grant_ended_is_revoked_once(
    world: World, connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch, folder: Path, deletes: bool
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr("oauthflow.flows.refresh.single.keep_stored", lambda *_: exit())
        with pytest.raises(SystemExit):
            refresh_connection(connection, now=now, trigger="use")
    end_grants([connection], actor=None, reason="left", now=timezone.now())
    revoke_due(now=timezone.now())
    if deletes:
        connection.delete()
    assert len(world.authorization_server.refresh_tokens) == 1

    for _ in range(2):
        replay_spool()
        revoke_due(now=timezone.now())
    assert world.authorization_server.refresh_tokens == {}
    assert list(Revocation.objects.values_list("outcome", "reason")) == [("revoked", "left")] * 2
    assert answers(folder) == []


@fault("F11")
def test_an_answer_that_the_database_loses_after_it_was_seen_there_is_written_again(
    connection: Connection, now: datetime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TokenSet.objects.values().get()
    refresh_connection(connection, now=now, trigger="use")
    renewed = TokenSet.objects.get().access_token_sealed.reveal()
    replay_spool()
    with monkeypatch.context() as once:
        once.setattr(spool, "lines_of", lambda path: pytest.fail("a file that is known to be written is read again"))
        assert replay_spool() == 0

    TokenSet.objects.update(**before)
    assert replay_spool() == 1
    assert TokenSet.objects.get().access_token_sealed.reveal() == renewed


def test_an_answer_that_was_stored_before_its_grant_ended_is_not_revoked_again(
    connection: Connection, now: datetime, folder: Path
) -> None:
    refresh_connection(connection, now=now, trigger="use")
    end_grants([connection], actor=None, reason="left", now=timezone.now())
    replay_spool()
    assert (Revocation.objects.count(), len(answers(folder))) == (1, 1)


def test_of_a_server_that_is_gone_nothing_is_asked(
    connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    with monkeypatch.context() as dying:
        dying.setattr("oauthflow.flows.refresh.single.keep_stored", lambda *_: exit())
        with pytest.raises(SystemExit):
            refresh_connection(connection, now=now, trigger="use")
    connection.server.delete()
    replay_spool()
    assert (Revocation.objects.filter(kind="grant").count(), answers(folder)) == (1, [])


def test_a_claimer_uses_the_answer_that_is_there(
    world: World, connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TokenSet.objects.values().get()
    refresh_connection(connection, now=now, trigger="use")
    # The database went back to what it was: a failover, a restored copy.
    TokenSet.objects.update(**{name: value for name, value in before.items() if name != "id"})

    refresh_connection(connection, now=now, trigger="use")

    assert TokenSet.objects.get().generation == 2
    assert len(world.authorization_server.refresh_requests) == 1


def test_a_dead_owner_is_followed_and_its_token_sent_again_once(
    world: World, connection: Connection, now: datetime
) -> None:
    abandon()
    assert recover_abandoned(now=now) == batch.Outcome(refreshed=1)
    assert len(world.authorization_server.refresh_requests) == 1
    assert TokenSet.objects.get().generation == 2


def test_a_caller_follows_a_dead_owner_too(world: World, connection: Connection, now: datetime) -> None:
    abandon()
    refresh_connection(connection, now=now, trigger="use")
    assert TokenSet.objects.get().generation == 2


def test_a_token_refused_after_a_death_is_called_lost(world: World, connection: Connection, now: datetime) -> None:
    world.authorization_server.refresh_answer = Answer(400, {"error": "invalid_grant"})
    abandon()
    assert recover_abandoned(now=now) == batch.Outcome(failed=1)
    found = Connection.objects.get()
    assert (found.status, found.reason) == ("reauth_required", "refresh_outcome_lost")


@pytest.mark.parametrize("by", ["watch", "caller"])
def test_after_two_deaths_it_is_not_sent_a_third_time(
    world: World, connection: Connection, now: datetime, by: str
) -> None:
    abandon(DEAD.removesuffix("0") + "1")
    if by == "watch":
        assert recover_abandoned(now=now) == batch.Outcome(failed=1)
    else:
        with pytest.raises(AuthorizationRequiredError):
            refresh_connection(connection, now=now, trigger="use")
    assert Connection.objects.get().reason == "refresh_outcome_lost"
    assert world.authorization_server.refresh_requests == []


def test_a_living_owner_is_left_alone_until_its_lease_ends(world: World, connection: Connection, now: datetime) -> None:
    abandon(owners.new_owner())
    assert recover_abandoned(now=now) == batch.Outcome()
    assert world.authorization_server.refresh_requests == []
    TokenSet.objects.update(lease_expires_at=Now())
    assert recover_abandoned(now=now) == batch.Outcome(refreshed=1)


@fault("F03")
def test_who_slept_after_the_claim_sends_nothing(
    world: World, connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oauthflow.flows.refresh.attempt.Attempt.send_before", lambda self: 0.0)
    with pytest.raises(TransportError):
        refresh_connection(connection, now=now, trigger="use")
    assert world.authorization_server.refresh_requests == []
    assert TokenSet.objects.get().lease_owner == ""


@fault("F08")
def test_while_the_database_is_away_the_answer_waits_for_it(
    connection: Connection, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = [OperationalError(), OperationalError()]
    stored = keep.store_renewals

    def comes_back(renewals: object) -> object:
        if refused:
            raise refused.pop()
        return stored(renewals)

    class Outside:
        in_atomic_block = False

        def close(self) -> None: ...

    monkeypatch.setattr(keep, "connection", Outside())
    monkeypatch.setattr(keep, "store_renewals", comes_back)
    monkeypatch.setattr(keep.time, "sleep", lambda seconds: None)

    refresh_connection(connection, now=now, trigger="use")
    assert (TokenSet.objects.get().generation, refused) == (2, [])


def test_a_file_that_does_not_open_is_skipped_and_recorded_once(
    connection: Connection, now: datetime, folder: Path
) -> None:
    refresh_connection(connection, now=now, trigger="use")
    folder.joinpath("torn.answer").write_text('{"id": "')
    replay._reported.clear()

    assert replay_spool() == replay_spool() == 0
    (entry,) = AuditRecord.objects.filter(reason="spool_unreadable")
    assert entry.details["target"] == "torn.answer"
    assert len(answers(folder)) == 2


@pytest.mark.parametrize("damage", [{"generation": None}, {"generation": "many"}, {"obtained_at": None}, {"id": 7}])
def test_a_line_that_is_no_answer_is_skipped_and_stops_nothing(
    world: World, connection: Connection, now: datetime, folder: Path, damage: dict[str, object]
) -> None:
    world.authorization_server.rotates = False
    before = TokenSet.objects.values().get()
    refresh_connection(connection, now=now, trigger="use")
    (path,) = folder.glob("*.answer")
    damaged = json.dumps(json.loads(path.read_text()) | damage)
    path.write_text(damaged)
    TokenSet.objects.update(**before)
    replay._reported.clear()

    refresh_connection(connection, now=now, trigger="use")
    folder.joinpath("batch.0.answer").write_text(damaged)
    TokenSet.objects.update(**before)
    path.unlink()
    assert refresh_due(now=now + timedelta(hours=1))["refreshed"] == 1
    assert AuditRecord.objects.filter(reason="spool_unreadable").count() == 1


def test_old_files_go_once_they_are_written(
    connection: Connection, now: datetime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_connection(connection, now=now, trigger="use")
    replay_spool()
    assert len(answers(folder)) == 1
    monkeypatch.setattr(spool, "KEPT_SECONDS", -1)
    folder.joinpath("x.reserved").touch()
    replay_spool()
    assert list(folder.iterdir()) == []


def test_two_processes_may_tidy_up_at_once(folder: Path, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    left = owners._lock_folder() / "0123456789abcdef.lock"
    left.touch()
    listed = [folder / "gone-meanwhile.lock", left]
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(listed))
    owners.forget_dead_files(older_than_seconds=-1)
    assert not left.exists()


def test_an_answer_that_came_into_the_spool_during_a_run_is_used_before_its_row_is_claimed(
    world: World, connection: Connection, now: datetime
) -> None:
    """Its owner could not store it, and its lease has ended."""
    before = TokenSet.objects.values().get()
    refresh_connection(connection, now=now, trigger="use")
    renewed = TokenSet.objects.get().access_token_sealed.reveal()
    TokenSet.objects.update(**before | {"lease_owner": owners.new_owner(), "lease_expires_at": Now()})

    rows = TokenSet.objects.values_list("pk", "issuer")
    assert batch.refresh_many(rows, now=now + timedelta(minutes=1)) == batch.Outcome()
    assert len(world.authorization_server.refresh_requests) == 1
    assert TokenSet.objects.get().access_token_sealed.reveal() == renewed
