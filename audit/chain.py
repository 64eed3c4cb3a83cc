"""The authentication code that links each audit record to the one before it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from django.conf import settings

if TYPE_CHECKING:
    from .models import AuditRecord

_text: Final = json.encoder.encode_basestring_ascii
_sorted: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, check_circular=False).encode


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
    """Return the code that a record should have."""
    return link_mac(content_of(record).canonical(), previous_mac=record.previous_mac, key=key)


def content_of(record: AuditRecord) -> Content:
    """Return what a record says, as its code covers it."""
    return Content(
        sequence=record.sequence,
        at=record.at.isoformat(),
        event=record.event,
        actor=record.actor,
        server=record.server,
        connection=record.connection,
        client=record.client,
        reason=record.reason,
        correlation_id=record.correlation_id,
        details=canonical_details(record.details),
        key_id=record.key_id,
    )


class Content(NamedTuple):
    """Every column of a record but the two codes. `at` is ISO 8601, `details` what `canonical_details` returns."""

    sequence: int
    at: str
    event: str
    actor: str
    server: str
    connection: str
    client: str
    reason: str
    correlation_id: str
    details: str
    key_id: str

    def canonical(self) -> str:
        """Return it as JSON: one line, ASCII, names in alphabetical order, no spaces."""
        return (
            f'{{"actor":{_text(self.actor)},"at":{_text(self.at)},"client":{_text(self.client)},'
            f'"connection":{_text(self.connection)},"correlation_id":{_text(self.correlation_id)},'
            f'"details":{self.details},"event":{_text(self.event)},"key_id":{_text(self.key_id)},'
            f'"reason":{_text(self.reason)},"sequence":{self.sequence},"server":{_text(self.server)}}}'
        )


def canonical_details(details: Mapping[str, object]) -> str:
    """Return details as JSON in the form that codes are made of."""
    return _sorted(details)


def link_mac(canonical: str, *, previous_mac: str, key: str) -> str:
    """Return HMAC-SHA256, in hex, over the code of the record before and the canonical form of this one's content."""
    code = _keyed(key).copy()
    code.update(f"{previous_mac}\n{canonical}".encode())
    return code.hexdigest()


@lru_cache(maxsize=32)
def _keyed(key: str) -> hmac.HMAC:
    """To begin with a key takes as long as the rest."""
    return hmac.new(key.encode(), digestmod="sha256")


def broken_links(
    records: Iterator[AuditRecord],
    *,
    head_sequence: int,
    head_mac: str,
    after_sequence: int = 0,
    after_mac: str = "",
    may_differ: Callable[[AuditRecord], bool] = lambda record: False,
    anchors: Mapping[int, frozenset[str]] | None = None,
) -> Iterator[BrokenLink]:
    """Walk the records in ascending order and yield every place where the chain does not hold.

    Args:
        records: All records, or those after one that was verified before, ascending by sequence.
        head_sequence: The number of the last record according to the head.
        head_mac: The code of that record according to the head.
        after_sequence: The number of the record that was verified before; 0 to begin at the beginning.
        after_mac: The code of that record.
        may_differ: Says of a record with other content than its code says whether that is in order.
        anchors: Codes, or their beginnings, that were noted outside for some numbers.
    """
    keys = {key_id(key): key for key in settings.AUDIT_KEYS}
    noted = anchors or {}
    expected_sequence, previous_mac = after_sequence + 1, after_mac
    for record in records:
        if record.sequence != expected_sequence:
            yield BrokenLink(expected_sequence, "this record is missing")
        elif record.previous_mac != previous_mac:
            yield BrokenLink(record.sequence, "it does not follow the record before it")
        elif problem := _problem_of(record, key=keys.get(record.key_id, ""), may_differ=may_differ):
            yield BrokenLink(record.sequence, problem)
        elif not all(record.mac.startswith(mac) for mac in noted.get(record.sequence, ())):
            yield BrokenLink(record.sequence, "it is not the record that was noted outside")
        expected_sequence, previous_mac = record.sequence + 1, record.mac
    if (expected_sequence - 1, previous_mac) != (head_sequence, head_mac):
        yield BrokenLink(expected_sequence, "the end of the chain was cut off")


def _problem_of(record: AuditRecord, *, key: str, may_differ: Callable[[AuditRecord], bool]) -> str:
    if not key:
        return f"its key {record.key_id} is not in AUDIT_KEYS"
    is_as_written = hmac.compare_digest(record.mac, compute_mac(record, key=key))
    return "" if is_as_written or may_differ(record) else "its content was changed"
