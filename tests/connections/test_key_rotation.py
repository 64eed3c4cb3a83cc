"""Keys are changed while the site is running, and none that is needed can be taken away. K02, K03, F20."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, transaction
from encrypted_model_fields import fields as encrypted
from pytest_django import Settings

from audit.models import AuditRecord
from audit.progress import Item, Shown, in_silence
from connections import key_rotation, sealed_stores
from connections.key_canary import ensure_keys_open
from connections.key_fingerprints import (
    NO_KEY,
    configured_keys,
    fingerprint_of,
    key_of,
    missing_keys,
    register_keys,
)
from connections.key_rotation import rotate_keys, survey
from connections.models import Connection, KeyFingerprint, McpServer, TokenSet
from connections.sealed_stores import Change, Held, all_stores, register_store
from connections.sealing import Ciphertext, SealedTextField
from mcp_oauth_site.canary import key_canary_opens, require_key_canary
from oauthflow.models import AuthorizationRequest
from oauthflow.protocol.secret import Secret

from .conftest import MARKER

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
UseKeys = Callable[..., None]


@pytest.fixture
def use_keys(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> UseKeys:
    """Go on as a host with this list of keys would."""

    def use(*keys: str) -> None:
        settings.FIELD_ENCRYPTION_KEY = list(keys)
        monkeypatch.setattr(encrypted, "CRYPTER", MultiFernet([Fernet(key) for key in keys]))

    use(OLD)
    return use


@pytest.fixture
def sealed(use_keys: UseKeys, granted: Connection) -> TokenSet:
    """A site that was started with OLD and holds four sealed values besides the canary."""
    require_key_canary()
    field, server = _field(McpServer, "client_secret_sealed"), McpServer.objects.get(slug="notes")
    sealed = field.seal_for(field.row_of(server), Secret("a secret"))
    McpServer.objects.filter(pk=server.pk).update(client_secret_sealed=sealed)
    return TokenSet.objects.get()


def _field(model: type, name: str) -> SealedTextField:
    return model._meta.get_field(name)


def run(*words: str) -> str:
    output = io.StringIO()
    call_command("rotate_encryption_keys", *words, stdout=output, stderr=output)
    return output.getvalue()


def refused(*words: str) -> tuple[int, str]:
    with pytest.raises(CommandError) as raised:
        run(*words)
    return raised.value.returncode, str(raised.value)


def _stored(tokens: TokenSet) -> tuple[str, str]:
    kept = TokenSet.objects.get(pk=tokens.pk)
    return kept.access_token_sealed.reveal().reveal(), kept.refresh_token_sealed.reveal().reveal()


def test_which_key_sealed_a_value_is_told_without_opening_it(use_keys: UseKeys) -> None:
    value = Fernet(OLD).encrypt(b"x").decode()
    use_keys(NEW, OLD)
    assert key_of(value, keys=configured_keys()) == fingerprint_of(OLD)
    use_keys(NEW)
    assert {key_of(text, keys=configured_keys()) for text in (value, "", "x", "é", value[:-8], "AAAA")} == {NO_KEY}
    assert OLD[:16] not in repr(configured_keys())


def test_every_sealed_column_of_every_app_is_found() -> None:
    found = {
        (store.name, field.name)
        for store in all_stores()
        if isinstance(store, sealed_stores.ModelStore)
        for field in store._fields
    }
    assert found >= {
        ("connections.TokenSet", "access_token_sealed"),
        ("connections.TokenSet", "refresh_token_sealed"),
        ("connections.McpServer", "environment_sealed"),
        ("connections.ClientRegistration", "registration_access_token_sealed"),
        ("connections.KeyCanary", "canary_sealed"),
        (AuthorizationRequest._meta.label, "code_verifier_sealed"),
    }


def test_a_rotation_seals_all_with_the_first_key_and_the_old_one_can_go(
    sealed: TokenSet, use_keys: UseKeys, now: datetime
) -> None:
    before = (sealed.access_token_sealed.ciphertext, _stored(sealed))
    use_keys(NEW, OLD)
    summary = rotate_keys(now=now)
    assert (summary.rotated, summary.older, dict(summary.values)) == (3, 0, {fingerprint_of(NEW): 4})
    entries = list(
        AuditRecord.objects.filter(event="key.rotated").order_by("sequence").values_list("details", flat=True)
    )
    assert [(entry["outcome"], entry["target"]) for entry in entries] == [
        ("started", fingerprint_of(NEW)), ("finished", fingerprint_of(NEW)),
    ]  # fmt: skip
    use_keys(NEW)
    require_key_canary()
    assert list(KeyFingerprint.objects.values_list("fingerprint", flat=True)) == [fingerprint_of(NEW)]
    assert _stored(sealed) == before[1] == (f"access-{MARKER}", f"refresh-{MARKER}")
    assert TokenSet.objects.get().access_token_sealed.ciphertext != before[0]


def test_a_second_rotation_changes_nothing(sealed: TokenSet, use_keys: UseKeys, now: datetime) -> None:
    use_keys(NEW, OLD)
    rotate_keys(now=now)
    before = [*TokenSet.objects.values(), AuditRecord.objects.count()]
    assert rotate_keys(now=now).rotated == 0
    assert [*TokenSet.objects.values(), AuditRecord.objects.count()] == before


def test_a_rotated_value_still_opens_in_its_own_place_only(sealed: TokenSet, use_keys: UseKeys, now: datetime) -> None:
    use_keys(NEW, OLD)
    rotate_keys(now=now)
    kept = TokenSet.objects.get()
    swapped = (kept.refresh_token_sealed.ciphertext, kept.access_token_sealed.ciphertext)
    TokenSet.objects.update(access_token_sealed=swapped[0], refresh_token_sealed=swapped[1])
    code, sentence = refused("--verify")
    assert code == 1
    assert f"connections.TokenSet.access_token_sealed {sealed.pk}" in sentence
    assert rotate_keys(now=now).values[NO_KEY] == 0


def test_what_somebody_wrote_meanwhile_stays_and_is_looked_at_again(
    sealed: TokenSet, use_keys: UseKeys, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    replace = sealed_stores.ModelStore.replace

    def somebody_is_faster(store: sealed_stores.ModelStore, changes: Sequence[Change]) -> int:
        if store.name == "connections.TokenSet" and not written:
            context = _field(TokenSet, "access_token_sealed").context_of(sealed)
            newer = Fernet(OLD).encrypt(f"{context}\x1fnewer".encode()).decode()
            written.append(TokenSet.objects.update(access_token_sealed=Ciphertext(newer)))
        return replace(store, changes)

    monkeypatch.setattr(sealed_stores.ModelStore, "replace", somebody_is_faster)
    use_keys(NEW, OLD)
    assert rotate_keys(now=now).older == 0
    assert _stored(sealed) == ("newer", f"refresh-{MARKER}")


def test_a_deadlock_is_tried_again_and_a_lasting_failure_is_not_hidden(
    sealed: TokenSet, use_keys: UseKeys, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OperationalError("deadlock detected")]

    def failing() -> object:
        if failures:
            raise failures.pop()
        return transaction.atomic()

    monkeypatch.setattr(sealed_stores, "transaction", SimpleNamespace(atomic=failing))
    use_keys(NEW, OLD)
    assert rotate_keys(now=now).older == 0
    failures += [OperationalError("deadlock detected")] * 3
    store = sealed_stores.ModelStore(TokenSet, [_field(TokenSet, "access_token_sealed")])
    with pytest.raises(OperationalError):
        store.replace([Change(Held(sealed.pk, ("a",)), ("b",))])


def test_a_process_that_keeps_sealing_with_the_old_key_is_told_of(
    sealed: TokenSet, use_keys: UseKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_stores.ModelStore, "replace", lambda *_: 0)
    use_keys(NEW, OLD)
    code, sentence = refused()
    assert (code, "older key" in sentence) == (1, True)
    assert missing_keys() == []
    use_keys(NEW)
    assert missing_keys() == [fingerprint_of(OLD)]


def test_the_command_counts_by_key_and_verifies(sealed: TokenSet, use_keys: UseKeys) -> None:
    use_keys(NEW, OLD)
    assert refused("--verify") == (1, "4 values are sealed with older keys; run this without --verify.")
    assert TokenSet.objects.values().get() == TokenSet.objects.filter(pk=sealed.pk).values().get()
    lines = run().splitlines()
    assert [line.split(maxsplit=2) for line in lines[1:3]] == [
        [fingerprint_of(NEW), "4", "seals"], [fingerprint_of(OLD), "0", "may be removed"],
    ]  # fmt: skip
    assert lines[3] == "3 rows were sealed anew."
    assert "rows" not in run("--verify")


def test_a_rotation_that_is_stopped_says_that_it_goes_on(
    sealed: TokenSet, use_keys: UseKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> Iterator[Held]:
        raise KeyboardInterrupt

    monkeypatch.setattr("audit.progress.with_progress", stopped)
    use_keys(NEW, OLD)
    assert refused()[0] == 130


def test_verifying_shows_how_far_it_is_while_it_opens_values_and_may_be_stopped_then(
    sealed: TokenSet, use_keys: UseKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []

    def stopped(rows: Iterable[Item], *, total: int, label: str, stream: object) -> Iterator[Item]:
        labels.append(label)
        if label == "Opening connections.TokenSet":
            raise KeyboardInterrupt
        yield from rows

    monkeypatch.setattr("audit.progress.with_progress", stopped)
    assert refused("--verify")[0] == 130
    assert "Looking at connections.TokenSet" in labels


def test_removing_a_key_that_is_needed_is_refused_in_one_sentence(sealed: TokenSet, use_keys: UseKeys) -> None:
    use_keys(NEW, OLD)
    require_key_canary()
    _move_the_canary_to_the_new_key()
    before = [*TokenSet.objects.values(), *KeyFingerprint.objects.values()]
    use_keys(NEW)
    with pytest.raises(ImproperlyConfigured, match=r"\AFIELD_ENCRYPTION_KEY lacks a key that 3 stored secrets need"):
        require_key_canary()
    assert not key_canary_opens()
    assert [*TokenSet.objects.values(), *KeyFingerprint.objects.values()] == before


def _move_the_canary_to_the_new_key() -> None:
    for store in all_stores():
        if store.name == "connections.KeyCanary":
            for held in list(store.rows()):
                store.replace([Change(held, tuple(encrypted.CRYPTER.rotate(v).decode() for v in held.values))])


def test_a_damaged_value_does_not_hold_an_old_key_fast(sealed: TokenSet, use_keys: UseKeys, now: datetime) -> None:
    use_keys(NEW, OLD)
    TokenSet.objects.update(access_token_sealed=Ciphertext("damaged"))
    assert "open with no key" in run()
    assert "do not open" in run()
    use_keys(NEW)
    require_key_canary()
    assert key_canary_opens()


def test_a_lost_key_can_be_given_up_for_good(sealed: TokenSet, use_keys: UseKeys) -> None:
    use_keys(NEW)
    with pytest.raises(ImproperlyConfigured, match="FIELD_ENCRYPTION_KEY"):
        require_key_canary()
    assert refused("--give-up", fingerprint_of(NEW))[0] == 1
    run("--give-up", fingerprint_of(OLD))
    require_key_canary()
    assert key_canary_opens()
    assert survey().values == {NO_KEY: 3, fingerprint_of(NEW): 1}


def test_a_new_key_can_be_handed_out_for_reading_before_any_host_seals_with_it(
    sealed: TokenSet, use_keys: UseKeys
) -> None:
    use_keys(OLD, NEW)
    require_key_canary()
    use_keys(OLD)
    assert key_canary_opens()
    use_keys(NEW, OLD)
    require_key_canary()
    use_keys(OLD)
    assert not key_canary_opens()


def test_a_key_that_seals_again_is_in_use_again(sealed: TokenSet, use_keys: UseKeys, now: datetime) -> None:
    use_keys(NEW, OLD)
    rotate_keys(now=now)
    use_keys(OLD, NEW)
    register_keys()
    use_keys(NEW)
    assert missing_keys() == [fingerprint_of(OLD)]


def test_a_start_with_an_old_list_does_not_forget_the_key_of_another_host(sealed: TokenSet, use_keys: UseKeys) -> None:
    use_keys(NEW, OLD)
    require_key_canary()
    use_keys(OLD)
    require_key_canary()
    assert missing_keys() == [fingerprint_of(NEW)]
    ensure_keys_open()


def test_a_registered_store_is_rotated_with_the_columns(
    sealed: TokenSet, use_keys: UseKeys, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spool:
        name = "spool"
        files = {"one": Fernet(OLD).encrypt(b"answer").decode()}

        def size(self) -> int:
            return len(self.files)

        def rows(self) -> Iterator[Held]:
            yield from [Held(name, (text,)) for name, text in self.files.items()]

        def replace(self, changes: Sequence[Change]) -> int:
            self.files |= {change.held.key: change.values[0] for change in changes}
            return len(changes)

        def unopened(self, shown: Shown = in_silence) -> Iterator[str]:
            yield from ()

    monkeypatch.setattr(sealed_stores, "_registered", {})
    register_store(Spool())
    use_keys(NEW, OLD)
    rotate_keys(now=now)
    assert Fernet(NEW).decrypt(Spool.files["one"]) == b"answer"


def test_pages_of_rows_are_read_to_the_end(
    sealed: TokenSet, use_keys: UseKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed_stores, "_PAGE", 2)
    monkeypatch.setattr(key_rotation, "_BATCH", 1)
    for number in range(5):
        server = McpServer(name=f"n{number}", slug=f"n{number}", url="https://notes.example.com/mcp")
        server.client_secret_sealed = Secret("x")
        server.save()
    assert survey().values == {fingerprint_of(OLD): 9}
