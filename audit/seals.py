"""Codes over checkpoints and erasures, under the same keys as the chain, each for its own purpose."""

from __future__ import annotations

import hmac
import json
from typing import Final

from django.conf import settings

from .amendments import AuditCheckpoint, AuditErasure
from .chain import content_of, key_id, link_mac
from .models import AuditRecord

_CHECKPOINT: Final = "checkpoint"
_ERASURE: Final = "erasure"


def checkpoint_seal(checkpoint: AuditCheckpoint, *, key: str) -> str:
    """Return the seal that a checkpoint should have."""
    said = [checkpoint.sequence, checkpoint.record_mac, checkpoint.removed, checkpoint.at.isoformat()]
    return link_mac(json.dumps([*said, checkpoint.key_id]), previous_mac=_CHECKPOINT, key=key)


def erasure_seal(erasure: AuditErasure, record: AuditRecord, *, key: str) -> str:
    """Return the seal that vouches for a record as it stands now, with the code that it always had."""
    said = [content_of(record).canonical(), record.previous_mac, record.mac, erasure.at.isoformat(), erasure.key_id]
    return link_mac(json.dumps(said), previous_mac=_ERASURE, key=key)


def checkpoint_holds(checkpoint: AuditCheckpoint) -> bool:
    """Whether a checkpoint was sealed with one of our keys."""
    key = _key(checkpoint.key_id)
    return bool(key) and hmac.compare_digest(checkpoint.seal, checkpoint_seal(checkpoint, key=key))


def erasure_holds(record: AuditRecord) -> bool:
    """Whether a record that was changed was changed by an erasure, and is as that left it."""
    erasure = AuditErasure.objects.filter(pk=record.sequence).first()
    key = _key(erasure.key_id) if erasure else ""
    return (
        erasure is not None and bool(key) and hmac.compare_digest(erasure.seal, erasure_seal(erasure, record, key=key))
    )


def _key(wanted: str) -> str:
    return next((key for key in settings.AUDIT_KEYS if key_id(key) == wanted), "")
