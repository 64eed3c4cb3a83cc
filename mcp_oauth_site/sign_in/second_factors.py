"""Second factors: their secrets are sealed, and the administration may ask for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from audit.progress import Shown, in_silence
from connections.sealed_stores import Change, Held
from connections.sealing import seal, unseal
from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret

# allauth gives only the text, so that all second factors share one place.
_CONTEXT: Final = "mfa.authenticator"
_SEALED: Final = ("secret", "seed")
# A provider is trusted to have asked for whatever its organisation asks for.
_STRONG: Final = frozenset({"mfa", "socialaccount"})


class SecondFactorAdapter(DefaultMFAAdapter):
    """Keeps the seeds of second factors sealed like every other secret."""

    def encrypt(self, text: str) -> str:
        return str.__str__(seal(Secret(text), context=_CONTEXT))

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(encrypted_text, context=_CONTEXT).reveal()

    def get_totp_issuer(self) -> str:
        return str(settings.PUBLIC_HOST)


class SecondFactorStore:
    """The sealed seeds, which lie in a JSON column of allauth's, for the rotation of keys."""

    name = "mfa.Authenticator"

    def size(self) -> int:
        return int(Authenticator.objects.count())

    def rows(self) -> Iterator[Held]:
        for pk, data in Authenticator.objects.order_by("pk").values_list("pk", "data").iterator(chunk_size=500):
            values = tuple(str(data.get(name, "")) for name in _SEALED)
            if any(values):
                yield Held(pk, values)

    def replace(self, changes: Sequence[Change]) -> int:
        return sum(self._replaced(change) for change in changes)

    def unopened(self, shown: Shown = in_silence) -> Iterator[str]:
        for held in shown(self.rows(), self.size(), f"Opening {self.name}"):
            for name, value in zip(_SEALED, held.values, strict=True):
                try:
                    unseal(value, context=_CONTEXT) if value else None
                except SecretUnreadableError:
                    yield f"{self.name}.{name} {held.key}"

    def _replaced(self, change: Change) -> bool:
        with transaction.atomic():
            row = Authenticator.objects.select_for_update(no_key=True).filter(pk=change.held.key).first()
            if row is None or tuple(str(row.data.get(name, "")) for name in _SEALED) != change.held.values:
                return False
            row.data |= {name: value for name, value in zip(_SEALED, change.values, strict=True) if value}
            row.save(update_fields=["data"])
            return True


def signed_in_strongly(request: HttpRequest) -> bool:
    """Say whether this session began with a second factor or at an identity provider."""
    user: Any = request.user
    return any(said.get("method") in _STRONG for said in get_authentication_records(request, user))
