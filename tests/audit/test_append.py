"""Many records at once, and the SQL that writes them."""

from __future__ import annotations

import json
import re

import pytest
from django.db import DatabaseError, connection, transaction
from pytest_django import DjangoAssertNumQueries

from audit.append import INSERT, INSERT_JSON, KEEP_END, TAKE_NUMBERS, Entry, append_many, lock_end
from audit.chain import broken_links, compute_mac, content_of, current_key
from audit.events import AuditEvent
from audit.models import AuditHead, AuditRecord
from audit.record import entry, record

from .recorded import recorded

_AWKWARD = ["", "plain", 'a "quoted" \\ word', "ä 漢 🙂", "line\nbreak\ttab", "\x7f</script>", "%s %% {x}"]


def _entry(text: str) -> Entry:
    return entry(
        AuditEvent.TOKEN_RELEASED, server="notes", client=text, reason=text, details={"scope": text, "count": 3}
    )


@pytest.mark.parametrize("statement", [INSERT, INSERT_JSON])
def test_the_insert_names_every_column_of_the_model_in_its_order(statement: str) -> None:
    ((table, columns),) = re.findall(r"^INSERT INTO (\w+) \(([^)]*)\)", statement)
    assert table == AuditRecord._meta.db_table
    assert re.split(r",\s*", columns) == [field.column for field in AuditRecord._meta.concrete_fields]


def test_the_head_is_the_table_of_its_model() -> None:
    for statement in (TAKE_NUMBERS, KEEP_END):
        assert AuditHead._meta.db_table in statement


@pytest.mark.django_db
@pytest.mark.parametrize("there", [True, False])
def test_the_end_of_the_chain_can_be_locked_by_one_query_even_where_it_is_new(
    there: bool, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    if there:
        record(AuditEvent.TOKEN_REFRESHED)
    with transaction.atomic(), django_assert_max_num_queries(1 if there else 6) as queries:
        lock_end()
    assert AuditHead.objects.count() == 1
    assert connection.vendor == "sqlite" or "FOR UPDATE" in queries.captured_queries[-1]["sql"]


@pytest.mark.django_db
def test_many_records_are_appended_in_order_and_follow_those_before() -> None:
    record(AuditEvent.TOKEN_REFRESHED)
    append_many([_entry(text) for text in _AWKWARD])
    record(AuditEvent.TOKEN_REFRESHED)
    kept = list(AuditRecord.objects.order_by("sequence"))
    assert [each.sequence for each in kept] == list(range(1, len(_AWKWARD) + 3))
    assert [each.client for each in kept[1:-1]] == [each.reason for each in kept[1:-1]] == _AWKWARD
    assert [each.details for each in kept[1:-1]] == [{"scope": text, "count": 3} for text in _AWKWARD]
    head = AuditHead.objects.get()
    assert list(broken_links(iter(kept), head_sequence=head.sequence, head_mac=head.mac)) == []


@pytest.mark.django_db
def test_none_of_many_is_written_when_the_change_is_rolled_back() -> None:
    with transaction.atomic():
        append_many([_entry("x")] * 3)
        transaction.set_rollback(True)
    assert AuditRecord.objects.count() == 0
    assert recorded(AuditEvent.TOKEN_REFRESHED).sequence == 1


@pytest.mark.django_db
@pytest.mark.parametrize("text", _AWKWARD)
def test_the_canonical_form_is_json_with_sorted_names_and_no_spaces(text: str) -> None:
    append_many([_entry(text)])
    kept = AuditRecord.objects.get()
    names = ("sequence", "event", "actor", "server", "connection", "client", "reason", "correlation_id", "details")
    content = {name: getattr(kept, name) for name in names} | {"at": kept.at.isoformat(), "key_id": kept.key_id}
    assert content_of(kept).canonical() == json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert kept.mac == compute_mac(kept, key=current_key())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("text", ["\ud800", "nul\x00"])
def test_text_that_the_database_cannot_hold_is_refused_or_kept_as_it_is(text: str) -> None:
    try:
        append_many([_entry(text)])
    except (ValueError, DatabaseError):
        assert AuditRecord.objects.count() == 0
        return
    kept = AuditRecord.objects.get()
    assert (kept.reason, kept.mac) == (text, compute_mac(kept, key=current_key()))
