"""The authentication code that links each audit record to the one before it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.conf import settings

if TYPE_CHECKING:
    from .models import AuditRecord

AUTHENTICATED: Final = (
    "sequence", "at", "event", "actor", "server", "connection", "client", "reason", "correlation_id", "details",
    "key_id",
)  # fmt: skip
"""Every column but the two codes."""

_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """Where the chain does not hold, and why in words."""

    sequence: int
    problem: str


def key_id(key: str) -> str:
    """Return the public name of an audit key: 12 hex digits of its SHA-256."""
    return hashlib.sha256(b"audit key " + key.encode()).hexdigest()[:12]


def current_key() -> str:
    """Return the key that authenticates new records: the first of `AUDIT_KEYS`."""
    keys: list[str] = settings.AUDIT_KEYS
    return keys[0]


def compute_mac(record: AuditRecord, *, key: str) -> str:
    """Return the code that a record should have: `link_mac` of its columns."""
    content = {name: getattr(record, name) for name in AUTHENTICATED}
    content["at"] = record.at.isoformat()
    return link_mac(content, previous_mac=record.previous_mac, key=key)


def link_mac(content: Mapping[str, object], *, previous_mac: str, key: str) -> str:
    """Return HMAC-SHA256, in hex, over the code of the record before and the canonical form of this one's content.

    Args:
        content: What stands in the columns `AUTHENTICATED`; `at` in ISO 8601.
        previous_mac: The code of the record before; `""` for the first.
        key: An audit key.
    """
    return hmac.digest(key.encode(), f"{previous_mac}\n{_canonical(content)}".encode(), "sha256").hex()


def broken_links(
    records: Iterator[AuditRecord],
    *,
    head_sequence: int,
    head_mac: str,
    after_sequence: int = 0,
    after_mac: str = "",
) -> Iterator[BrokenLink]:
    """Walk the records in ascending order and yield every place where the chain does not hold.

    Args:
        records: All records, or those after one that was verified before, ascending by sequence.
        head_sequence: The number of the last record according to the head.
        head_mac: The code of that record according to the head.
        after_sequence: The number of the record that was verified before; 0 to begin at the beginning.
        after_mac: The code of that record.
    """
    keys = {key_id(key): key for key in settings.AUDIT_KEYS}
    expected_sequence, previous_mac = after_sequence + 1, after_mac
    for record in records:
        if record.sequence != expected_sequence:
            yield BrokenLink(expected_sequence, "this record is missing")
        elif record.previous_mac != previous_mac:
            yield BrokenLink(record.sequence, "it does not follow the record before it")
        elif record.key_id not in keys:
            yield BrokenLink(record.sequence, f"its key {record.key_id} is not in AUDIT_KEYS")
        elif not hmac.compare_digest(record.mac, compute_mac(record, key=keys[record.key_id])):
            yield BrokenLink(record.sequence, "its content was changed")
        expected_sequence, previous_mac = record.sequence + 1, record.mac
    if (expected_sequence - 1, previous_mac) != (head_sequence, head_mac):
        yield BrokenLink(expected_sequence, "the end of the chain was cut off")
