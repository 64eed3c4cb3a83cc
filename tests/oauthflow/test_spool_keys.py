"""The rotation of keys covers the answers that lie in the spool: the old key may go at once. K02."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.contrib.auth.models import User
from django.utils import timezone
from encrypted_model_fields import fields as encrypted
from pytest_django import Settings

from connections.key_fingerprints import RELEASED_KEPT, KeyInUseError, fingerprint_of
from connections.key_rotation import ensure_keys_suffice, misplaced, rotate_keys, survey
from connections.models import Connection, KeyFingerprint, TokenSet
from connections.renewals import Renewal, read_renewal
from connections.sealed_stores import Change
from oauthflow.flows.refresh import owners, refresh_connection, spool
from oauthflow.flows.refresh.replay import replay_spool
from oauthflow.flows.refresh.sealed_spool import SealedSpool
from tests.fakes.world import World
from tests.faults import fault

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
UseKeys = Callable[..., None]


@pytest.fixture
def use_keys(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[UseKeys]:
    """Go on as a host with this list of keys would."""
    owners.end_session()
    settings.DATA_DIR = tmp_path

    def use(*keys: str) -> None:
        settings.FIELD_ENCRYPTION_KEY = list(keys)
        monkeypatch.setattr(encrypted, "CRYPTER", MultiFernet([Fernet(key) for key in keys]))

    use(OLD)
    yield use
    owners.end_session()


@pytest.fixture
def before(use_keys: UseKeys, world: World, alice: User, now: datetime) -> dict[str, object]:
    """A row as it was before its refresh, whose answer is in the spool; the database went back to it."""
    connection = world.connect(alice, now=now)
    ensure_keys_suffice()
    row = TokenSet.objects.values().get()
    refresh_connection(connection, now=now, trigger="use")
    TokenSet.objects.update(**{name: value for name, value in row.items() if name != "id"})
    return row


@fault("F20", "F11")
def test_after_a_rotation_the_new_key_alone_opens_what_is_spooled(
    before: dict[str, object], use_keys: UseKeys, now: datetime
) -> None:
    (path,) = spool.files()
    os.utime(path, (1e9, 1e9))
    use_keys(NEW, OLD)
    summary = rotate_keys(now=now)
    assert set(summary.values) == {fingerprint_of(NEW)}
    assert path.stat().st_mtime == 1e9
    assert path.stat().st_mode & 0o777 == 0o600

    use_keys(NEW)
    ensure_keys_suffice()
    assert list(misplaced()) == []
    assert replay_spool() == 1
    assert TokenSet.objects.get().generation == 2
    assert TokenSet.objects.get().refresh_token_sealed.reveal()


def test_a_key_that_only_a_spooled_answer_needs_cannot_be_removed(
    before: dict[str, object], use_keys: UseKeys, now: datetime, tmp_path: Path, settings: Settings
) -> None:
    # Another machine rotates; it does not see the spool of this one.
    settings.DATA_DIR = tmp_path / "elsewhere"
    settings.DATA_DIR.mkdir()
    use_keys(NEW, OLD)
    rotate_keys(now=now)
    settings.DATA_DIR = tmp_path

    use_keys(NEW)
    with pytest.raises(KeyInUseError, match=fingerprint_of(OLD)):
        ensure_keys_suffice()
    use_keys(NEW, OLD)
    rotate_keys(now=now)
    use_keys(NEW)
    ensure_keys_suffice()


@fault("F20")
def test_nor_where_another_machine_has_begun_without_it_before(
    before: dict[str, object], use_keys: UseKeys, tmp_path: Path, settings: Settings
) -> None:
    settings.DATA_DIR = tmp_path / "elsewhere"
    settings.DATA_DIR.mkdir()
    use_keys(NEW, OLD)
    rotate_keys(now=timezone.now())
    use_keys(NEW)
    ensure_keys_suffice()

    settings.DATA_DIR = tmp_path
    with pytest.raises(KeyInUseError, match=fingerprint_of(OLD)):
        ensure_keys_suffice()


def test_a_removed_key_is_remembered_for_longer_than_answers_stay_in_a_spool(
    use_keys: UseKeys, transactional_db: None
) -> None:
    ensure_keys_suffice()
    use_keys(NEW, OLD)
    rotate_keys(now=timezone.now())
    use_keys(NEW)
    ensure_keys_suffice()
    assert KeyFingerprint.objects.count() == 2
    assert RELEASED_KEPT.total_seconds() > spool.KEPT_SECONDS

    KeyFingerprint.objects.exclude(released_at=None).update(released_at=timezone.now() - RELEASED_KEPT)
    ensure_keys_suffice()
    assert KeyFingerprint.objects.get().fingerprint == fingerprint_of(NEW)


def test_an_answer_that_was_changed_or_removed_meanwhile_is_left_alone(
    before: dict[str, object], use_keys: UseKeys
) -> None:
    store = SealedSpool()
    (held,) = store.rows()
    (path,) = spool.files()
    text = path.read_text()
    stale = held._replace(key=(path, ("x", "y")))
    assert store.replace([Change(stale, ("new", "newer"))]) == 0
    assert path.read_text() == text
    path.unlink()
    assert store.replace([Change(held, ("new", "newer"))]) == 0
    assert spool.files() == []


def test_a_torn_line_stays_where_it_is_and_is_told(before: dict[str, object], use_keys: UseKeys, now: datetime) -> None:
    (path,) = spool.files()
    path.write_bytes(path.read_bytes() + b'{"id": "\xff')
    use_keys(NEW, OLD)
    rotate_keys(now=now)
    assert path.read_bytes().endswith(b'\n{"id": "\xff\n')
    assert list(misplaced()) == [f"spool {path.name} line 2"]
    assert set(survey().values) == {fingerprint_of(NEW)}


def test_a_line_of_the_next_release_waits_as_it_is_for_a_process_that_reads_it(
    before: dict[str, object], use_keys: UseKeys, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = spool.files()
    line = json.dumps({**json.loads(path.read_text()), "told_by": "the next release"}) + "\n"
    path.write_text(line)
    os.utime(path, (1e9, 1e9))
    use_keys(NEW, OLD)
    rotate_keys(now=now)
    spool.change(path, lambda renewal: None)
    assert replay_spool() == 0
    assert path.read_text() == line

    def read_by_the_next_release(text: str) -> Renewal:
        return read_renewal(json.dumps({name: said for name, said in json.loads(text).items() if name != "told_by"}))

    monkeypatch.setattr(spool, "read_renewal", read_by_the_next_release)
    assert replay_spool() == 1
    assert TokenSet.objects.get().generation == 2


def test_of_many_answers_in_a_file_one_is_forgotten(before: dict[str, object]) -> None:
    (path,) = spool.files()
    (renewal,) = spool.readable(path)
    other = path.with_name("batch.x.answer")
    path.rename(other)
    other.write_text(other.read_text() * 2 + "torn")
    spool.forget(renewal)
    assert other.read_text() == "torn\n"
    other.write_text(renewal.as_line())
    spool.forget(renewal)
    assert spool.files() == []
    assert Connection.objects.count() == 1
