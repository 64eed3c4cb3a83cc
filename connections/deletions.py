"""Nothing is deleted here and left good elsewhere: what goes with a server, a person or a connection is noted. Z05.

Django asks these receivers for every row that it deletes, in the transaction of the deletion, whoever asked for that: a
page, a command or a shell.
"""

from __future__ import annotations

from typing import Any

from django.db.models.signals import pre_delete
from django.utils import timezone

from .models import ClientRegistration, TokenSet
from .revocations import note_registration, note_token_set


def connect_receivers() -> None:
    """Look at every deletion from now on."""
    pre_delete.connect(_note_tokens, sender=TokenSet, dispatch_uid="connections.note_tokens")
    pre_delete.connect(_note_registration, sender=ClientRegistration, dispatch_uid="connections.note_registration")


def because_of(origin: object) -> str:
    """Say in words what was deleted, of which a row was a part."""
    model = getattr(origin, "model", type(origin))
    return f"{model._meta.verbose_name} deleted" if hasattr(model, "_meta") else "deleted"


def _note_tokens(sender: object, *, instance: TokenSet, origin: object = None, **kwargs: Any) -> None:
    note_token_set(instance, reason=because_of(origin), now=timezone.now())


def _note_registration(sender: object, *, instance: ClientRegistration, origin: object = None, **kwargs: Any) -> None:
    note_registration(instance, reason=because_of(origin), now=timezone.now())
