"""Sealed columns: what is copied, rolled back, damaged or of another key does not open. K01, K03."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet, MultiFernet
from django.core import serializers as django_serializers
from django.db import models
from django.db.models import F, Value
from django.db.models.functions import Cast
from django.forms import modelform_factory
from encrypted_model_fields import fields as encrypted
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from connections.models import Connection, McpServer, TokenSet
from connections.sealing import Ciphertext, seal, unseal
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret

from .conftest import MARKER


def _set_column(model: type[models.Model], pk: object, column: str, value: str) -> None:
    """Write past the field, as somebody with access to the database would."""
    model._base_manager.filter(pk=pk).update(**{column: Value(value, output_field=models.TextField())})


def _column(model: type[models.Model], pk: object, column: str) -> str:
    stored = model._base_manager.annotate(stored=Cast(F(column), models.TextField())).get(pk=pk)
    return str(stored.stored)


@given(text=st.text(), context=st.text(alphabet=st.characters(exclude_characters="\x1f")))
def test_what_was_sealed_opens_in_its_own_context(text: str, context: str) -> None:
    try:
        text.encode()
        context.encode()
    except UnicodeEncodeError:
        return
    assert unseal(seal(Secret(text), context=context), context=context).reveal() == text


@given(other=st.text(max_size=20).filter(lambda text: text != "row 1"))
def test_what_was_sealed_opens_in_no_other_context(other: str) -> None:
    sealed = seal(Secret(MARKER), context="row 1")
    with pytest.raises(SecretUnreadableError) as refusal:
        unseal(sealed, context=other)
    assert MARKER not in str(refusal.value)


def test_an_empty_column_holds_no_secret_and_no_ciphertext(server: McpServer) -> None:
    server = McpServer.objects.get()
    assert not server.client_secret_sealed
    assert server.client_secret_sealed.reveal() == Secret("")
    assert _column(McpServer, server.pk, "client_secret_sealed") == ""


def test_the_database_holds_neither_the_secret_nor_its_context_in_the_clear(server: McpServer) -> None:
    server.client_secret_sealed = Secret(MARKER)
    server.save()
    stored = _column(McpServer, server.pk, "client_secret_sealed")
    assert MARKER not in stored
    assert "mcpserver" not in stored
    assert McpServer.objects.get().client_secret_sealed.reveal() == Secret(MARKER)


def test_a_plain_text_is_refused_on_assignment_and_on_update(server: McpServer) -> None:
    with pytest.raises(TypeError):
        server.client_secret_sealed = MARKER
    with pytest.raises(TypeError):
        McpServer.objects.update(client_secret_sealed=MARKER)


def test_a_value_copied_to_another_row_does_not_open(server: McpServer) -> None:
    server.client_secret_sealed = Secret(MARKER)
    server.save()
    other = McpServer.objects.create(name="Other", slug="other", url="https://other.example.com/mcp")
    _set_column(McpServer, other.pk, "client_secret_sealed", _column(McpServer, server.pk, "client_secret_sealed"))
    with pytest.raises(SecretUnreadableError):
        McpServer.objects.get(pk=other.pk).client_secret_sealed.reveal()


def test_a_value_copied_to_another_column_does_not_open(granted: Connection) -> None:
    tokens = TokenSet.objects.get(connection=granted)
    _set_column(TokenSet, tokens.pk, "access_token_sealed", _column(TokenSet, tokens.pk, "refresh_token_sealed"))
    with pytest.raises(SecretUnreadableError):
        TokenSet.objects.get().access_token_sealed.reveal()


def test_an_older_value_of_the_same_row_does_not_open(granted: Connection) -> None:
    tokens = TokenSet.objects.get(connection=granted)
    old = _column(TokenSet, tokens.pk, "access_token_sealed")
    tokens.generation += 1
    tokens.access_token_sealed = Secret("newer")
    tokens.refresh_token_sealed = Secret("newer")
    tokens.save()
    assert TokenSet.objects.get().access_token_sealed.reveal() == Secret("newer")
    _set_column(TokenSet, tokens.pk, "access_token_sealed", old)
    with pytest.raises(SecretUnreadableError):
        TokenSet.objects.get().access_token_sealed.reveal()


def test_an_instance_can_be_reread_from_the_database(granted: Connection) -> None:
    tokens, newer = TokenSet.objects.get(), TokenSet.objects.get()
    newer.generation += 1
    newer.access_token_sealed = newer.refresh_token_sealed = Secret("newer")
    newer.save()
    tokens.refresh_from_db()
    assert tokens.access_token_sealed.reveal() == Secret("newer")


def test_tokens_moved_to_another_connection_do_not_open(granted: Connection, server: McpServer) -> None:
    other = Connection.objects.create(server=server, user=None)
    TokenSet.objects.update(connection=other)
    with pytest.raises(SecretUnreadableError):
        TokenSet.objects.get().access_token_sealed.reveal()


def test_another_key_opens_nothing_and_changes_nothing(granted: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    before = TokenSet.objects.values().get()
    monkeypatch.setattr(encrypted, "CRYPTER", MultiFernet([Fernet(Fernet.generate_key())]))
    with pytest.raises(SecretUnreadableError) as refusal:
        TokenSet.objects.get().access_token_sealed.reveal()
    assert MARKER not in repr(refusal.value)
    assert TokenSet.objects.values().get() == before


def test_a_new_key_in_front_still_opens_what_the_old_one_sealed(
    granted: Connection, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    old = [Fernet(key) for key in settings.FIELD_ENCRYPTION_KEY]
    monkeypatch.setattr(encrypted, "CRYPTER", MultiFernet([Fernet(Fernet.generate_key()), *old]))
    assert TokenSet.objects.get().access_token_sealed.reveal() == Secret(f"access-{MARKER}")


@pytest.mark.parametrize("damaged", ["x", "plain text", "gAAAAA", "é" * 40])
def test_a_damaged_value_is_unreadable_and_never_taken_for_plain_text(server: McpServer, damaged: str) -> None:
    _set_column(McpServer, server.pk, "client_secret_sealed", damaged)
    with pytest.raises(SecretUnreadableError):
        McpServer.objects.get().client_secret_sealed.reveal()


def test_nothing_that_prints_an_instance_prints_its_secret(granted: Connection) -> None:
    tokens = TokenSet.objects.get()
    opened = tokens.access_token_sealed.reveal()
    printed = [
        repr(tokens.access_token_sealed),
        str(tokens.access_token_sealed),
        repr(opened),
        f"{opened}",
        str(tokens),
    ]
    assert all(MARKER not in text for text in printed)
    assert MARKER not in django_serializers.serialize("json", TokenSet.objects.all())


def test_a_sealed_column_has_no_form_field() -> None:
    form = modelform_factory(McpServer, fields="__all__")
    assert not [name for name in form.base_fields if name.endswith("_sealed")]


def test_a_value_can_be_sealed_for_the_generation_that_it_is_written_with(granted: Connection) -> None:
    tokens = TokenSet.objects.get()
    field = TokenSet._meta.get_field("access_token_sealed")
    sealed = field.seal_for(field.row_of(tokens, generation=tokens.generation + 1), Secret("next"))
    assert isinstance(sealed, Ciphertext)
    TokenSet.objects.update(generation=tokens.generation + 1, access_token_sealed=sealed)
    assert TokenSet.objects.get().access_token_sealed.reveal() == Secret("next")
