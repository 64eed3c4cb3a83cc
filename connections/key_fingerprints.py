"""Which key seals what, and whether this host has all keys that the stored secrets need. K02, K03, F20.

A Fernet value does not name its key, but its last 32 bytes are an HMAC under one half of it: comparing that tells the
key for a few microseconds and without opening the value, so nothing is stored beside it. The table of fingerprints says
which keys are in use at all. A key is registered by the first start that seals with it, not by one that only lists it
for reading, so that a new key can be handed to one host after the other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.conf import settings
from django.utils import timezone

from .models import KeyFingerprint

NO_KEY: Final = ""
_MAC_BYTES: Final = 32
_SIGNING_BYTES: Final = 16
_OLDEST_FIRST: Final = ("registered_at", "fingerprint")
RELEASED_KEPT: Final = timedelta(minutes=30)
"""For longer than answers stay in the spools of other machines, which no rotation sees but their own."""


class KeyInUseError(Exception):
    """Stored secrets need a key that `FIELD_ENCRYPTION_KEY` does not list."""

    def __init__(self, missing: Sequence[str], *, values: int) -> None:
        super().__init__(f"{values} values need one of {', '.join(missing)}")
        self.missing, self.values = missing, values


class SealingKey(NamedTuple):
    """A configured key: its public name, and the half that authenticates."""

    fingerprint: str
    signing: bytes

    def __repr__(self) -> str:
        return f"SealingKey({self.fingerprint})"


def fingerprint_of(key: str) -> str:
    """Return the public name of a key: 12 hex digits of its SHA-256."""
    return hashlib.sha256(b"field encryption key " + _raw(key)).hexdigest()[:12]


def configured_keys() -> tuple[SealingKey, ...]:
    """Return the keys of this host; the first one seals."""
    return tuple(SealingKey(fingerprint_of(key), _raw(key)[:_SIGNING_BYTES]) for key in settings.FIELD_ENCRYPTION_KEY)


def key_of(ciphertext: str, *, keys: Sequence[SealingKey]) -> str:
    """Return the fingerprint of the key that sealed a value, or `NO_KEY` where none of these did."""
    try:
        content = base64.urlsafe_b64decode(ciphertext)
    except (binascii.Error, ValueError):
        return NO_KEY
    signed, mac = content[:-_MAC_BYTES], content[-_MAC_BYTES:]
    for key in keys:
        if hmac.compare_digest(hmac.digest(key.signing, signed, "sha256"), mac):
            return key.fingerprint
    return NO_KEY


def missing_keys() -> list[str]:
    """Return the fingerprints of keys that are in use and that this host does not have."""
    ours = [key.fingerprint for key in configured_keys()]
    in_use = KeyFingerprint.objects.filter(released_at=None).exclude(pk__in=ours).order_by(*_OLDEST_FIRST)
    return list(in_use.values_list("fingerprint", flat=True))


def register_keys() -> None:
    """Note the key that this host seals with; in a database that knows no keys yet, all that it has."""
    listed = [key.fingerprint for key in configured_keys()]
    wanted = listed[:1] if KeyFingerprint.objects.exists() else listed
    KeyFingerprint.objects.bulk_create([KeyFingerprint(pk=found) for found in wanted], ignore_conflicts=True)
    KeyFingerprint.objects.filter(pk=listed[0]).exclude(released_at=None).update(released_at=None, unreadable=0)


def release_keys(*, still_used: Sequence[str], unreadable: int, now: datetime) -> None:
    """Note that nothing needs any other key.

    Args:
        still_used: Fingerprints that a look at all values found, and the one that seals.
        unreadable: How many values no key opened then. They do not stand in the way of removing a key.
        now: Aware UTC.
    """
    KeyFingerprint.objects.exclude(pk__in=still_used).update(released_at=now, unreadable=unreadable)


def forget_released_keys(removed: Sequence[str]) -> None:
    """Drop those of these keys that nothing has needed for a while: until then each machine looks for itself."""
    KeyFingerprint.objects.filter(pk__in=removed, released_at__lt=timezone.now() - RELEASED_KEPT).delete()


def give_up_key(fingerprint: str) -> bool:
    """Forget a lost key although values need it; say whether it was registered and is really not listed here."""
    lost = fingerprint in removed_keys()
    KeyFingerprint.objects.filter(pk=fingerprint if lost else NO_KEY).delete()
    return lost


def removed_keys() -> dict[str, int]:
    """Return the registered keys that are not listed here, each with the unreadable values it may leave behind."""
    ours = [key.fingerprint for key in configured_keys()]
    gone = KeyFingerprint.objects.exclude(pk__in=ours).order_by(*_OLDEST_FIRST)
    return {found.fingerprint: found.unreadable if found.released_at else 0 for found in gone}


def _raw(key: str) -> bytes:
    return base64.urlsafe_b64decode(key)
